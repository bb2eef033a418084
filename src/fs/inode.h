/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inodes in memory and as keys.
 *
 * struct bcfs_inode_unpacked is one inode key's content; inode_unpack() and inode_pack() are the
 * only code that knows the varint fields. Fields that a newer version added behind ours
 * are carried along as bytes.
 *
 * Links: `nlink` counts links beyond the natural one; BCFS_INODE_unlinked means none is left. Of a
 * directory it stays 0, its link count shown is 2 + nr_dirs. A directory's size is the
 * sum of dirent_size() over its entries.
 *
 * Reading and changing inside a transaction:
 *
 *	ret = inode_peek(trans, &iter, ino, BTREE_ITER_INTENT, &inode) ?: change ... ?:
 *	      inode_write(trans, &iter, &inode) ?: btree_trans_commit(...);
 *	btree_iter_exit(&iter);		// always: inode_peek initialises it whatever it returns
 */
#ifndef BCFS_FS_INODE_H
#define BCFS_FS_INODE_H

#include "fs/fs.h"

#include <sys/stat.h>

/* Bytes of unknown fields that are carried along. */
#define INODE_UNKNOWN_MAX 256U

struct bcfs_inode_unpacked {
	u64 inum;
	u32 snapshot;
	u32 flags; /* BCFS_INODE_* */
	u64 hash_seed;
	u64 journal_seq;
	u16 mode;
	u8 nr_unknown; /* fields beyond ours */
	u16 unknown_bytes;
#define x(name, bits, doc) u##bits name;
	BCFS_INODE_FIELDS(x)
#undef x
	u8 unknown[INODE_UNKNOWN_MAX];
};

BKEY_VAL_TYPE(inode, struct bcfs_inode);
BKEY_VAL_TYPE(inode_generation, struct bcfs_inode_generation);

#define INODE_NR_FIELDS 24U
#define INODE_FIELDS_BYTES_MAX                                                                     \
	(INODE_NR_FIELDS * 9 + INODE_UNKNOWN_MAX + 7) /* rounding included                         \
						       */

struct inode_key_buf {
	struct bkey_i_inode k;
	u8 fields[INODE_FIELDS_BYTES_MAX];
};

/* A key of type inode; 0 or -BCFS_ERR_inode_invalid. */
int inode_unpack(struct bkey_s_c k, struct bcfs_inode_unpacked *ret);
void inode_pack(struct inode_key_buf *dst, const struct bcfs_inode_unpacked *inode);
void inode_to_text(struct printbuf *out, const struct bcfs_inode_unpacked *inode);

/* Inside a transaction. -BCFS_ERR_no_such_inode, no_such_subvolume, a restart, or an error. */
int inode_peek(struct btree_trans *trans, struct btree_iter *iter, struct bcfs_ino ino,
	       unsigned flags, struct bcfs_inode_unpacked *ret);
/* The same by snapshot id. */
int inode_peek_snapshot(struct btree_trans *trans, struct btree_iter *iter, u64 inum, u32 snapshot,
			unsigned flags, struct bcfs_inode_unpacked *ret);
/* Read without keeping the iterator. */
int inode_get_snapshot(struct btree_trans *trans, u64 inum, u32 snapshot,
		       struct bcfs_inode_unpacked *ret);
/* Queue @inode, as a key of @inode->snapshot, where @iter is. */
int inode_write(struct btree_trans *trans, struct btree_iter *iter,
		const struct bcfs_inode_unpacked *inode);
/* A transaction of its own. */
int inode_get(struct bcfs *c, struct bcfs_ino ino, struct bcfs_inode_unpacked *ret);
/* 0, INODE_UNCHANGED: nothing is to be written, or an error. */
typedef int (*inode_update_fn)(struct btree_trans *trans, struct bcfs_inode_unpacked *inode,
			       void *arg);
#define INODE_UNCHANGED 4095
/* Read (intent), give to @fn, which changes it or returns an error, write, commit. */
int inode_update_flags(struct bcfs *c, struct bcfs_ino ino, unsigned commit_flags,
		       inode_update_fn fn, void *arg);
static inline int inode_update(struct bcfs *c, struct bcfs_ino ino, inode_update_fn fn, void *arg)
{
	return inode_update_flags(c, ino, 0, fn, arg);
}

static inline bool inode_is_unlinked(const struct bcfs_inode_unpacked *inode)
{
	return inode->flags & BCFS_INODE_unlinked;
}
u32 inode_nlink(const struct bcfs_inode_unpacked *inode); /* as stat shows it */
int inode_nlink_inc(struct bcfs_inode_unpacked *inode);
void inode_nlink_dec(struct bcfs_inode_unpacked *inode); /* the last one: sets unlinked */
/* What stat and dirents call the type: DT_*. */
static inline u8 inode_d_type(const struct bcfs_inode_unpacked *inode)
{
	return inode->mode >> 12;
}

/*
 * A number for a new inode, never given out before in this epoch; outside of any transaction (it
 * may read, and the first one of an epoch waits for a journal flush). *ret_generation is the
 * epoch's. @taken: 0, or the number for which inode_create() said
 * -BCFS_ERR_inum_taken.
 */
int inum_next(struct bcfs *c, u32 subvol, u64 taken, u64 *ret_inum, u32 *ret_generation);
/* Inside the creating transaction: -BCFS_ERR_inum_taken if a key lies at the number. @iter as
 * inode_peek. */
int inode_create(struct btree_trans *trans, struct btree_iter *iter,
		 const struct bcfs_inode_unpacked *inode);

/* deleted_inodes, inside a transaction. */
int deleted_inode_mark(struct btree_trans *trans, struct bcfs_ino ino, bool set);

#endif
