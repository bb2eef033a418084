/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Directory entries as keys: {directory, hash place, snapshot} -> inum, type, name.
 * The functions are steps of a transaction (fs/namei.c, fs/rename.c); the directory's
 * inode is held with intent by whoever changes entries.
 */
#ifndef BCFS_FS_DIRENT_H
#define BCFS_FS_DIRENT_H

#include "fs/hash.h"

BKEY_VAL_TYPE(dirent, struct bcfs_dirent);

struct fs_name {
	const char *name;
	unsigned len;
};

/* 1 to BCFS_NAME_MAX bytes without '/' and NUL, not "." or "..". */
int name_check(const char *name, struct fs_name *ret);

/* What an entry adds to the size of its directory, bytes. */
static inline u64 dirent_size(unsigned name_len)
{
	return round_up(24 + name_len, 8U);
}

struct dirent_found {
	u64 inum;
	u64 pos; /* the hash place: cookie, and the target's dir_offset */
	u8 d_type;
};

/*
 * @iter at the entry (initialised in any case). -BCFS_ERR_no_such_name; *ret->pos is then where it
 * would go.
 */
int dirent_find(struct btree_trans *trans, struct btree_iter *iter,
		const struct bcfs_inode_unpacked *dir, const struct fs_name *name, unsigned flags,
		struct dirent_found *ret);
/* A new entry at @pos, which dirent_find() gave. */
int dirent_create(struct btree_trans *trans, const struct bcfs_inode_unpacked *dir,
		  const struct fs_name *name, u64 pos, u64 inum, u8 d_type);
/* Let the entry @iter is at lead elsewhere. */
int dirent_retarget(struct btree_trans *trans, struct btree_iter *iter, u32 snapshot, u64 inum,
		    u8 d_type);
int dirent_delete(struct btree_trans *trans, struct btree_iter *iter,
		  const struct bcfs_inode_unpacked *dir, const struct fs_name *name);
/* -BCFS_ERR_dir_not_empty if there is any entry. */
int dir_check_empty(struct btree_trans *trans, const struct bcfs_inode_unpacked *dir);

#endif
