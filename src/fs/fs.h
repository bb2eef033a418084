/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The filesystem itself: struct bcfs, and the POSIX operations on it.
 *
 * struct bcfs is one open filesystem. core/ makes it and every layer's object in it; fs/ owns
 * what is behind `ino`, reads the rest, and implements the file operations of
 * include/bcfs/bcfs.h. It is also the arg of all btree ops: triggers get it from
 * btree_trans_ops_arg().
 *
 * Every name operation is one transaction: dirents, inodes, link counts, times,
 * deleted_inodes. A transaction's iterators stay alive up to its commit, so it either commits
 * on what it read or runs again; directories need no lock of their own. What several
 * transactions make up (write, truncate, fallocate, reads against them) is kept apart by the
 * inode lock: readers shared, changers exclusive.
 *
 * Lock order: inode locks (several: by table index) -> a transaction's node locks. No inode
 * lock is taken inside a transaction. ino's ref mutexes are leaves.
 *
 * Invariants:
 *  1. an inode key is changed in the same transaction as any key of its extents, dirents and
 *     xattrs; its journal_seq is the seq of that commit;
 *  2. an inode with no link is in deleted_inodes, from the transaction that took the last link
 *     to the one that deletes the inode key;
 *  3. an inode number is given out once in an epoch (the time from one reset of the cursor to
 *     the next: a mount, or a turn of the number space), and every inode of an epoch has the
 *     epoch's generation, which is durable (KEY_TYPE_inode_generation at inum 0) before its
 *     first inode is made: so {inum, generation} is never reused, whatever a crash loses,
 *     and without a key per deleted inode;
 *  4. nothing read from the device is trusted: bounds are checked by validate before fs/ sees
 *     a key, and every relation between keys (a dirent to its inode) may be broken: an error.
 */
#ifndef BCFS_FS_FS_H
#define BCFS_FS_FS_H

#include "alloc/alloc.h"
#include "bcfs/bcfs.h"
#include "bcfs/format/inode.h"
#include "btree/iter.h"
#include "data/data.h"
#include "env/env.h"
#include "snapshot/snapshot.h"
#include "util/log.h"

#include <stdatomic.h>

struct bdev;
struct journal;
struct sb_handle;
struct fs_inodes;
struct printbuf;

/* What fs/ needs to know; core/ keeps its own options beside. */
struct fs_opts {
	u32 block_bytes;
	bool read_only;
	bool inodes_32bit;	 /* numbers below 2^32 for the first subvolume */
	_Atomic u16 compression; /* of new data, where inodes say nothing: compression_opt() */
	_Atomic u16 background_compression; /* what they become then, ditto */
	bool noatime;			    /* reading changes no inode; else as relatime */
	bool strictatime;		    /* every read does, without noatime */
	bool nodiratime;		    /* but of directories none */
	u8 hash_bits;			    /* tests: keep so many bits of name hashes; 0: all */
};

struct bcfs {
	/* First: this struct is the argument of all btree ops. */
	union {
		struct alloc_ops_arg alloc_arg;
		struct data_ops_arg data_arg;
		struct {
			struct alloc_fs *alloc;
			struct data_fs *data;
		};
	};
	/* Set by core/ before fs_init(), constant while open. */
	struct env *env;
	struct log *log;
	struct bdev *bdev;
	struct sb_handle *sb;
	struct journal *journal;
	struct btree_fs *btree;
	struct snapshot_table *snapshots;
	struct fs_opts fs_opts;

	/* 0, or the code with which the filesystem went read-only. */
	_Atomic int error;
	struct ratelimit option_limit; /* of lines on options that there are not */
	/* fs/'s own: locks, references, number cursor. */
	struct fs_inodes *ino;
	/* core/'s own. */
	void *core;
};

/* After core/ has set the members above; free takes a half-made one. */
int fs_init(struct bcfs *c);
void fs_exit(struct bcfs *c);

/* mkfs: the root directory of subvolume 1. After snapshots_init_fs(). */
int fs_init_root(struct bcfs *c, u32 mode, u32 uid, u32 gid);

/*
 * Mount, read-write, after replay: finish truncates under way, then delete unlinked inodes.
 * In this order; before the first request.
 */
int logged_ops_resume(struct bcfs *c);
int deleted_inodes_reap_all(struct bcfs *c);
/*
 * Unmount, after the last request: forget all lookup references, finish reaping (nothing is
 * written if fs_may_write() refuses). Before the layers below are stopped.
 */
int fs_stop(struct bcfs *c);

/* Unix time now, in the format's epoch. */
u64 fs_now(struct bcfs *c);
u64 fs_time_pack(s64 sec, u32 nsec); /* clamped */
void fs_time_unpack(u64 t, s64 *ret_sec, u32 *ret_nsec);

/* -BCFS_ERR_erofs when mounted read-only or after an error; else 0. */
int fs_may_write(const struct bcfs *c);

/* fsck: each difference is given to @report, its text names btree, inum and both values. */
typedef void (*fs_report_fn)(void *arg, const char *text);

struct fs_check {
	fs_report_fn report;
	void *arg;
	u64 errors; /* counted */
};

/*
 * Read-only; the filesystem is quiet. 0 (with errors counted) or a code that ended the pass.
 * Memory: check_nlinks and check_directory_structure hold 16 bytes a directory or linked inode,
 * in passes over ranges of inums of bounded size.
 */
int check_inodes(struct bcfs *c, struct fs_check *chk);
int check_dirents(struct bcfs *c, struct fs_check *chk);
int check_xattrs(struct bcfs *c, struct fs_check *chk);
int check_nlinks(struct bcfs *c, struct fs_check *chk);
int check_extents_vs_inodes(struct bcfs *c, struct fs_check *chk);
int check_directory_structure(struct bcfs *c, struct fs_check *chk);
/* nr_inodes, nr_dirents recounted. */
int check_fs_accounting(struct bcfs *c, struct fs_check *chk);

/* Key behaviour for the table core/ builds. */
extern const struct bkey_ops bkey_ops_inode, bkey_ops_inode_generation, bkey_ops_dirent,
	bkey_ops_xattr, bkey_ops_hash_whiteout, bkey_ops_whiteout, bkey_ops_set,
	bkey_ops_logged_op_truncate, bkey_ops_logged_op_finsert;

#endif
