// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Key slots. Of a filesystem that is not mounted only the superblock is read and written, whatever
 * else is on the device, closed cleanly or not; one that is open does the same with its own handle.
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

static struct crypt_kdf keys_kdf(const struct bcfs_key_opts *o)
{
	struct crypt_kdf kdf = CRYPT_KDF_DEFAULT;

	if (o->kdf_passes)
		kdf.ops = o->kdf_passes;
	if (o->kdf_bytes)
		kdf.mem = o->kdf_bytes;
	return kdf;
}

/* opened: the slot that the secret in *o has opened; s: the new one. */
static int keys_apply(struct sb_handle *sb, enum bcfs_key_op op, const struct bcfs_key_opts *o,
		      unsigned opened, const struct crypt_secret *s, u32 *slot)
{
	const struct crypt_kdf kdf = keys_kdf(o);
	unsigned added = 0;
	int ret;

	if (op != BCFS_KEY_ADD && *slot == BCFS_KEY_SLOT_OPENED)
		*slot = opened;
	switch (op) {
	case BCFS_KEY_ADD:
		ret = sb_crypt_slot_add(sb, s, &kdf, &added);
		*slot = added;
		return ret;
	case BCFS_KEY_REMOVE:
		return sb_crypt_slot_remove(sb, *slot);
	case BCFS_KEY_CHANGE:
		return sb_crypt_slot_change(sb, *slot, s, &kdf);
	}
	return -BCFS_ERR_invalid_option;
}

/* ---- not mounted ---- */

static int keys_by_path(const char *path, enum bcfs_key_op op, const struct bcfs_key_opts *opts,
			u32 *slot, const struct bcfs_secret *secret, char *msg, size_t msg_size)
{
	struct crypt_secret s;
	struct keys_op k;
	int ret = core_secret_from(path, secret, &s, msg, msg_size)
			  ?: keys_begin(&k, path, opts, msg, msg_size);

	if (ret)
		return ret;
	ret = keys_apply(k.sb, op, &k.o, k.slot, &s, slot);
	return keys_end(&k, path, ret, msg, msg_size);
}

int bcfs_key_add(const char *path, const struct bcfs_key_opts *opts,
		 const struct bcfs_secret *secret, uint32_t *ret_slot, char *msg, size_t msg_size)
{
	return keys_by_path(path, BCFS_KEY_ADD, opts, ret_slot, secret, msg, msg_size);
}

int bcfs_key_remove(const char *path, const struct bcfs_key_opts *opts, uint32_t slot, char *msg,
		    size_t msg_size)
{
	return keys_by_path(path, BCFS_KEY_REMOVE, opts, &slot, NULL, msg, msg_size);
}

int bcfs_key_change(const char *path, const struct bcfs_key_opts *opts, uint32_t *slot,
		    const struct bcfs_secret *secret, char *msg, size_t msg_size)
{
	return keys_by_path(path, BCFS_KEY_CHANGE, opts, slot, secret, msg, msg_size);
}

/* ---- open ---- */

int bcfs_key_apply(struct bcfs *fs, enum bcfs_key_op op, const struct bcfs_key_opts *opts,
		   const struct bcfs_secret *secret, uint32_t *slot)
{
	struct core *c = to_core(fs);
	struct bcfs_key_opts o = {0};
	struct crypt_secret opens, s;
	unsigned opened;
	int ret;

	memcpy(&o, opts, min(opts->struct_size, sizeof(o)));
	ret = core_secret_from("", o.secret, &opens, NULL, 0)
		      ?: core_secret_from("", secret, &s, NULL, 0);
	if (!ret && (!opens.p || (!s.p && op != BCFS_KEY_REMOVE)))
		ret = -BCFS_ERR_invalid_option;
	ret = ret ?: fs_may_write(fs);
	if (ret)
		return ret;
	/* What the secret opens is not another's by the time that it is changed. */
	env_mutex_lock(&c->keys_lock);
	ret = sb_crypt_slot_of(fs->sb, &opens, &opened)
		      ?: keys_apply(fs->sb, op, &o, opened, &s, slot);
	env_mutex_unlock(&c->keys_lock);
	return ret;
}

/* ---- either ---- */

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
