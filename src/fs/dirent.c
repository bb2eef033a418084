// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fs/dirent.h"
#include "util/printbuf.h"

#include <string.h>

int name_check(const char *name, struct fs_name *ret)
{
	size_t len = strnlen(name, BCFS_NAME_MAX + 1);

	if (len > BCFS_NAME_MAX)
		return -BCFS_ERR_name_too_long;
	if (!len || memchr(name, '/', len) || !strcmp(name, ".") || !strcmp(name, ".."))
		return -BCFS_ERR_name_invalid;
	*ret = (struct fs_name){name, len};
	return 0;
}

static bool dirent_match(struct bkey_s_c k, const void *arg)
{
	const struct bcfs_dirent *d = bkey_s_c_to_dirent(k).v;
	const struct fs_name *name = arg;

	return d->name_len == name->len && !memcmp(d->name, name->name, name->len);
}

static struct hash_search dirent_search(struct btree_trans *trans,
					const struct bcfs_inode_unpacked *dir,
					const struct fs_name *name)
{
	struct hash_key key = hash_key_init(btree_trans_ops_arg(trans), dir);

	return (struct hash_search){
		.btree = BTREE_ID_dirents,
		.type = KEY_TYPE_dirent,
		.inum = dir->inum,
		.snapshot = dir->snapshot,
		.hash = hash_name(&key, name->name, name->len),
		.match = dirent_match,
		.arg = name,
	};
}

int dirent_find(struct btree_trans *trans, struct btree_iter *iter,
		const struct bcfs_inode_unpacked *dir, const struct fs_name *name, unsigned flags,
		struct dirent_found *ret)
{
	struct hash_search s = dirent_search(trans, dir, name);
	struct bkey_s_c k;
	u64 free_pos = 0;
	int err = hash_find(trans, iter, &s, flags, &k, &free_pos);

	if (err == HASH_NOT_FOUND) {
		*ret = (struct dirent_found){.pos = free_pos};
		return -BCFS_ERR_no_such_name;
	}
	if (err)
		return err;
	const struct bcfs_dirent *d = bkey_s_c_to_dirent(k).v;

	*ret = (struct dirent_found){.inum = d->target, .pos = k.k->p.offset, .d_type = d->d_type};
	return 0;
}

int dirent_create(struct btree_trans *trans, const struct bcfs_inode_unpacked *dir,
		  const struct fs_name *name, u64 pos, u64 inum, u8 d_type)
{
	struct bkey_i *k =
		btree_trans_alloc_key(trans, KEY_TYPE_dirent, SPOS(dir->inum, pos, dir->snapshot),
				      sizeof(struct bcfs_dirent) + name->len);
	struct bcfs_dirent *d = &bkey_i_to_dirent(k)->v;

	d->target = inum;
	d->d_type = d_type;
	d->name_len = name->len;
	memcpy(d->name, name->name, name->len);
	return btree_trans_insert(trans, BTREE_ID_dirents, k, 0);
}

int dirent_retarget(struct btree_trans *trans, struct btree_iter *iter, u32 snapshot, u64 inum,
		    u8 d_type)
{
	struct bkey_s_c k = btree_iter_peek_slot(iter);
	int err = bkey_err(k);

	if (err)
		return err;
	if (k.k->type != KEY_TYPE_dirent)
		return btree_trans_restart(trans, -BCFS_ERR_restart_relock);

	struct bkey_i *new = btree_trans_copy_key(trans, k, 0);
	struct bcfs_dirent *d = &bkey_i_to_dirent(new)->v;

	new->k.p.snapshot = snapshot;
	d->target = inum;
	d->d_type = d_type;
	return btree_trans_update(trans, iter, new, 0);
}

int dirent_delete(struct btree_trans *trans, struct btree_iter *iter,
		  const struct bcfs_inode_unpacked *dir, const struct fs_name *name)
{
	struct hash_search s = dirent_search(trans, dir, name);

	return hash_delete(trans, iter, &s);
}

int dir_check_empty(struct btree_trans *trans, const struct bcfs_inode_unpacked *dir)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret;

	for_each_btree_key_in_trans(trans, iter, BTREE_ID_dirents,
				    SPOS(dir->inum, 0, dir->snapshot),
				    SPOS(dir->inum, UINT64_MAX, dir->snapshot), 0, k,
				    ret) if (k.k->type == KEY_TYPE_dirent)
	{
		ret = -BCFS_ERR_dir_not_empty;
		break;
	}
	btree_iter_exit(&iter);
	return ret;
}

/* ---- key behaviour ---- */

static int dirent_invalid(struct printbuf *err, const char *what)
{
	prt_printf(err, "dirent: %s", what);
	return -BCFS_ERR_dirent_invalid;
}

static bool d_type_valid(u8 d_type)
{
	switch (d_type) {
	case S_IFIFO >> 12:
	case S_IFCHR >> 12:
	case S_IFDIR >> 12:
	case S_IFBLK >> 12:
	case S_IFREG >> 12:
	case S_IFLNK >> 12:
	case S_IFSOCK >> 12:
	case BCFS_DT_SUBVOL:
		return true;
	default:
		return false;
	}
}

static int dirent_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			   struct printbuf *err)
{
	const struct bcfs_dirent *d = bkey_s_c_to_dirent(k).v;
	unsigned bytes = bkey_val_bytes(k.k);

	if (btree != BTREE_ID_dirents || level)
		return dirent_invalid(err, "in the wrong btree");
	if (!k.k->p.inode || k.k->p.inode > BCFS_INUM_MAX)
		return dirent_invalid(err, "directory number out of range");
	if (k.k->p.offset < BCFS_DIRENT_HASH_MIN || k.k->p.offset > BCFS_DIRENT_HASH_MAX)
		return dirent_invalid(err, "hash out of range");
	if (!k.k->p.snapshot)
		return dirent_invalid(err, "snapshot 0");
	if (bytes < sizeof(*d) || !d->name_len || bytes < sizeof(*d) + d->name_len ||
	    bytes >= sizeof(*d) + d->name_len + 8)
		return dirent_invalid(err, "name length out of bounds");
	if (memchr(d->name, '/', d->name_len) || memchr(d->name, 0, d->name_len))
		return dirent_invalid(err, "name with '/' or NUL");
	if (d->name[0] == '.' && (d->name_len == 1 || (d->name_len == 2 && d->name[1] == '.')))
		return dirent_invalid(err, "name is \".\" or \"..\"");
	if (!d_type_valid(d->d_type))
		return dirent_invalid(err, "unknown type");
	if (!d->target)
		return dirent_invalid(err, "target 0");
	return 0;
}

static void dirent_to_text(struct printbuf *out, struct bkey_s_c k)
{
	const struct bcfs_dirent *d = bkey_s_c_to_dirent(k).v;

	prt_escaped(out, d->name, min_t(unsigned, d->name_len, bkey_val_bytes(k.k) - sizeof(*d)));
	prt_printf(out, " -> %llu type %u", (unsigned long long)d->target, d->d_type);
	if (d->d_type == BCFS_DT_SUBVOL)
		prt_printf(out, " parent subvolume %u", (unsigned)d->target_hi);
}

static int dirent_trigger(struct btree_trans *trans, enum btree_id btree, unsigned level,
			  struct bkey_s_c old, struct bkey_s_c new, unsigned flags)
{
	int delta = (new.k->type == KEY_TYPE_dirent) - (old.k->type == KEY_TYPE_dirent);

	if (delta)
		btree_trans_account(trans, BCFS_ACCOUNTING_nr_dirents, delta);
	return 0;
}

const struct bkey_ops bkey_ops_dirent = {
	.validate = dirent_validate,
	.to_text = dirent_to_text,
	.trigger = dirent_trigger,
};
