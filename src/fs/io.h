/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * File contents, over data/: what changes extents changes the inode in the same transaction,
 * through struct io_update. Everything here is called with the inode locked exclusively unless
 * it says otherwise.
 */
#ifndef BCFS_FS_IO_H
#define BCFS_FS_IO_H

#include "bcfs/format/snapshot.h"
#include "fs/inode.h"

/* The largest file: whole 64 KiB blocks. */
#define FILE_SIZE_MAX ((u64)INT64_MAX & ~0xffffULL)

/* What the commit of each step of a data operation does to the inode. */
struct io_update {
	struct bcfs *c;
	struct bcfs_ino ino;
	u64 now;
	bool grow;	/* the size covers what was written */
	bool times;	/* mtime and ctime */
	bool kill_priv; /* suid, sgid, capabilities */
};

/* The data_commit_fn; @arg: struct io_update. */
int io_commit(struct btree_trans *trans, void *arg, u64 new_end, s64 sectors_delta);

/* With the inode's options, or the filesystem's. */
struct data_file io_file(const struct bcfs *c, struct bcfs_ino ino,
			 const struct bcfs_inode_unpacked *inode);
/* Bytes that truncation left behind the end become zeroes before the file grows beyond @size. */
int io_zero_tail(struct bcfs *c, struct bcfs_ino ino, const struct bcfs_inode_unpacked *inode);
/* not_a_file, is_a_directory, immutable. */
int io_check_file(const struct bcfs_inode_unpacked *inode);

int inode_truncate_locked(struct bcfs *c, struct bcfs_ino ino, u64 size, bool kill_priv);

/*
 * After an operation that said @ret, no inode locked: true if it was for lack of space, and is
 * worth one more try, since what was deleted before may be free only now. @tries: 0 at first.
 */
bool io_make_room(struct bcfs *c, int64_t ret, unsigned *tries);

/* The extents behind @size, and the logged op of a truncate, which has been written. */
int inode_truncate_rest(struct bcfs *c, struct bcfs_ino ino,
			const struct bcfs_inode_unpacked *inode, u64 size);

/*
 * Collapse and insert, as @mode says. With BCFS_FALLOC_KEEP_SIZE the data moves and the size is the
 * caller's to change.
 */
int inode_shift_locked(struct bcfs *c, struct bcfs_ino ino, const struct bcfs_inode_unpacked *inode,
		       u32 mode, u64 offset, u64 len);
/* The rest of one that a crash has ended. */
int inode_shift_resume(struct bcfs *c, struct bcfs_ino ino, const struct bcfs_inode_unpacked *inode,
		       const struct bcfs_logged_op_finsert *op);

/*
 * Logged operations: what takes several commits and must not be seen half done says in logged_ops
 * what it is about, from its first commit to its last. One inode has at most one at a time: its
 * lock is held.
 */
#define LOGGED_OP_RETRY_NS (10 * ENV_NSEC_PER_MSEC)

struct bpos logged_op_pos(struct bcfs_ino ino);
/* It is complete: the key goes. */
int logged_op_done(struct bcfs *c, struct bcfs_ino ino);
/*
 * It cannot be finished: the filesystem goes read-only, and the next mount tries again. Returns
 * @err.
 */
int logged_op_failed(struct bcfs *c, struct bcfs_ino ino, const char *what, int err);

/* Steps of a transaction (attr.c, io.c). */
void inode_kill_priv(struct bcfs_inode_unpacked *inode);
int inode_drop_caps_step(struct btree_trans *trans, struct bcfs_inode_unpacked *inode);

#endif
