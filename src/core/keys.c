// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Key slots of a filesystem that is not mounted: only the superblock is read and written, whatever
 * else is on the device, closed cleanly or not.
 */
#include "core/core.h"

#include <stdio.h>
#include <string.h>

struct keys_op {
	struct bcfs_key_opts o;
	struct env *env;
	struct bdev *bdev;
	struct sb_handle *sb;
	struct log log;
	char line[CORE_MSG_SIZE]; /* the first error */
	unsigned slot;		  /* that the secret has opened */
};

static void keys_log(void *arg, enum log_level level, const char *line)
{
	struct keys_op *k = arg;

	if (level == LOG_LEVEL_ERR && !k->line[0])
		snprintf(k->line, sizeof(k->line), "%s", line);
	else if (k->o.log)
		k->o.log(k->o.log_arg, (enum bcfs_log_level)level, line);
}

/* Whatever it was; the message. */
static int keys_end(struct keys_op *k, const char *path, int ret, char *msg, size_t msg_size)
{
	if (ret && k->line[0])
		core_msg(msg, msg_size, "%s", k->line);
	else if (ret)
		core_msg(msg, msg_size, "%s: %s", path, err_str(ret));
	sb_free(k->sb);
	bdev_close(k->bdev);
	env_real_destroy(k->env);
	return ret;
}

/* Open, with the keys. On failure nothing is left to end. */
static int keys_begin(struct keys_op *k, const char *path, const struct bcfs_key_opts *opts,
		      char *msg, size_t msg_size)
{
	struct crypt_secret s;
	int ret;

	*k = (struct keys_op){0};
	memcpy(&k->o, opts, min(opts->struct_size, sizeof(k->o)));
	k->log = (struct log){.fn = keys_log, .arg = k, .max = LOG_LEVEL_INFO};
	ret = core_secret_from(path, k->o.secret, &s, msg, msg_size)
		      ?: core_open_device(path, false, DEVICE_MOUNT, BCFS_IO_THREADS, BCFS_DEFAULT,
					  k->o.wait_lock_ms, 1, k->o.log, k->o.log_arg, &k->env,
					  &k->bdev, msg, msg_size);
	if (ret)
		return ret;
	ret = sb_read(k->env, k->bdev, &k->log, &k->sb);
	if (!ret && !s.p) {
		ret = sb_has_encryption(k->sb->sb) ? -BCFS_ERR_sb_crypt_locked
						   : -BCFS_ERR_sb_crypt_none;
	} else if (!ret) {
		ret = sb_crypt_open(k->sb, &s, &k->slot);
	}
	return ret ? keys_end(k, path, ret, msg, msg_size) : 0;
}

static struct crypt_kdf keys_kdf(const struct keys_op *k)
{
	struct crypt_kdf kdf = CRYPT_KDF_DEFAULT;

	if (k->o.kdf_passes)
		kdf.ops = k->o.kdf_passes;
	if (k->o.kdf_bytes)
		kdf.mem = k->o.kdf_bytes;
	return kdf;
}

int bcfs_key_add(const char *path, const struct bcfs_key_opts *opts,
		 const struct bcfs_secret *secret, uint32_t *ret_slot, char *msg, size_t msg_size)
{
	struct crypt_secret s;
	struct crypt_kdf kdf;
	struct keys_op k;
	unsigned slot = 0;
	int ret = core_secret_from(path, secret, &s, msg, msg_size)
			  ?: keys_begin(&k, path, opts, msg, msg_size);

	if (ret)
		return ret;
	kdf = keys_kdf(&k);
	ret = sb_crypt_slot_add(k.sb, &s, &kdf, &slot);
	*ret_slot = slot;
	return keys_end(&k, path, ret, msg, msg_size);
}

int bcfs_key_remove(const char *path, const struct bcfs_key_opts *opts, uint32_t slot, char *msg,
		    size_t msg_size)
{
	struct keys_op k;
	int ret = keys_begin(&k, path, opts, msg, msg_size);

	if (ret)
		return ret;
	ret = sb_crypt_slot_remove(k.sb, slot);
	return keys_end(&k, path, ret, msg, msg_size);
}

int bcfs_key_change(const char *path, const struct bcfs_key_opts *opts, uint32_t *slot,
		    const struct bcfs_secret *secret, char *msg, size_t msg_size)
{
	struct crypt_secret s;
	struct crypt_kdf kdf;
	struct keys_op k;
	int ret = core_secret_from(path, secret, &s, msg, msg_size)
			  ?: keys_begin(&k, path, opts, msg, msg_size);

	if (ret)
		return ret;
	if (*slot == BCFS_KEY_SLOT_OPENED)
		*slot = k.slot;
	kdf = keys_kdf(&k);
	ret = sb_crypt_slot_change(k.sb, *slot, &s, &kdf);
	return keys_end(&k, path, ret, msg, msg_size);
}

int bcfs_key_list(const char *path, struct bcfs_key_slot *ret, uint32_t max, uint32_t *ret_nr,
		  char *msg, size_t msg_size)
{
	struct keys_op k = {0};
	int err = core_open_device(path, true, DEVICE_LOOK, BCFS_IO_THREADS, BCFS_OFF, 0, 1, NULL,
				   NULL, &k.env, &k.bdev, msg, msg_size);

	*ret_nr = 0;
	if (err)
		return err;
	k.log = (struct log){.fn = keys_log, .arg = &k, .max = LOG_LEVEL_ERR};
	err = sb_read_any(k.env, k.bdev, &k.log, &k.sb);
	if (!err && !sb_has_encryption(k.sb->sb))
		err = -BCFS_ERR_sb_crypt_none;
	for (u32 i = 0; !err && i < BCFS_CRYPT_SLOTS_MAX && *ret_nr < max; i++) {
		struct crypt_kdf kdf = {0};
		unsigned type = sb_crypt_slot_type(k.sb->sb, i);

		if (type == BCFS_CRYPT_SLOT_free)
			continue;
		sb_crypt_slot_cost(k.sb->sb, i, &kdf);
		ret[(*ret_nr)++] = (struct bcfs_key_slot){
			.slot = i,
			.type = type == BCFS_CRYPT_SLOT_key_file ? BCFS_SECRET_KEY_FILE
								 : BCFS_SECRET_PASSPHRASE,
			.kdf_passes = kdf.ops,
			.kdf_bytes = kdf.mem,
		};
	}
	return keys_end(&k, path, err, msg, msg_size);
}
