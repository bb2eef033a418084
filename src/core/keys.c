// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Key slots. Of a filesystem that is not mounted only the superblock is read and written, whatever
 * else is on the device, closed cleanly or not; one that is open does the same with its own handle.
 */
#include "core/core.h"

#include <string.h>

/* Open, with the keys. On failure nothing is left to end. */
static int keys_begin(struct sb_device *d, const char *path, const struct bcfs_key_opts *o,
		      char *msg, size_t msg_size)
{
	int ret = sb_device_open(d, path, o, msg, msg_size);

	if (!ret && !sb_has_encryption(d->sb->sb))
		ret = sb_device_end(d, path, -BCFS_ERR_sb_crypt_none, msg, msg_size);
	return ret;
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
	struct bcfs_key_opts o = {0};
	struct crypt_secret s;
	struct sb_device d;
	int ret;

	memcpy(&o, opts, min(opts->struct_size, sizeof(o)));
	ret = core_secret_from(path, secret, &s, msg, msg_size)
		      ?: keys_begin(&d, path, &o, msg, msg_size);
	if (ret)
		return ret;
	ret = keys_apply(d.sb, op, &o, d.slot, &s, slot);
	return sb_device_end(&d, path, ret, msg, msg_size);
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
	struct sb_device d;
	int err = sb_device_look(&d, path, msg, msg_size);

	*ret_nr = 0;
	if (err)
		return err;
	if (!sb_has_encryption(d.sb->sb))
		err = -BCFS_ERR_sb_crypt_none;
	for (u32 i = 0; !err && i < BCFS_CRYPT_SLOTS_MAX && *ret_nr < max; i++) {
		struct crypt_kdf kdf = {0};
		unsigned type = sb_crypt_slot_type(d.sb->sb, i);

		if (type == BCFS_CRYPT_SLOT_free)
			continue;
		sb_crypt_slot_cost(d.sb->sb, i, &kdf);
		ret[(*ret_nr)++] = (struct bcfs_key_slot){
			.slot = i,
			.type = type == BCFS_CRYPT_SLOT_key_file ? BCFS_SECRET_KEY_FILE
								 : BCFS_SECRET_PASSPHRASE,
			.kdf_passes = kdf.ops,
			.kdf_bytes = kdf.mem,
		};
	}
	return sb_device_end(&d, path, err, msg, msg_size);
}
