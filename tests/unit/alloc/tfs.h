/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A filesystem of journal, btree and allocator on the simulated device, with extents of a toy file
 * layer that writes what it allocates. Opened new, cleanly, or after a crash.
 */
#ifndef BCFS_TESTS_ALLOC_TFS_H
#define BCFS_TESTS_ALLOC_TFS_H

#include "alloc/alloc_private.h"
#include "dev/sim_bdev.h"

struct tfs_geometry {
	u32 block_sectors, node_sectors, bucket_sectors;
	u64 nr_buckets;
	unsigned nr_journal; /* buckets */
	u64 cache_bytes;     /* 0: default */
};

struct tfs {
	struct alloc_ops_arg arg; /* first: the btree's ops arg points here */
	struct tfs_geometry g;
	struct env *env;
	struct bdev *bdev;
	struct journal *journal;
	struct btree_fs *btree;
	struct alloc_fs *alloc;
	struct log log;
	u64 journal_buckets[256];
	/* clean section */
	struct journal_carried carried;
	u64 clean_seq; /* 0: not clean */
	u64 bl_end;    /* newest blacklisted seq so far */
	struct journal_blacklist_range bl[16];
	unsigned nr_bl;
	u64 next_version; /* fills data */
	u8 *data;	  /* a bucket of bytes to write */
};

extern const struct tfs_geometry tfs_small, tfs_tiny;

/* All abort with a message when they fail. */
void tfs_mkfs(struct tfs *f, u64 seed, const struct tfs_geometry *g);
void tfs_mount(struct tfs *f); /* after tfs_umount or tfs_crash */
void tfs_umount(struct tfs *f);
void tfs_crash(struct tfs *f, const struct sim_crash *crash);
void tfs_destroy(struct tfs *f); /* mounted */
/* Aborts unless alloc_check finds nothing. */
void tfs_check(struct tfs *f, const char *when);

/* Write [start, start + sectors) of an inode: reservation, data, keys. 0 or -nospc. */
int tfs_write(struct tfs *f, u64 inum, u64 start, u32 sectors, unsigned encoding);
int tfs_delete(struct tfs *f, u64 inum, u64 start, u64 end);

#define TFS_OK(x)                                                                                  \
	do {                                                                                       \
		int tfs_ret_ = (x);                                                                \
		if (tfs_ret_)                                                                      \
			tfs_fail(f, #x, __LINE__, tfs_ret_);                                       \
	} while (0)
void tfs_fail(struct tfs *f, const char *what, int line, int ret) __attribute__((noreturn));

#endif
