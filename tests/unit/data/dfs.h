/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Journal, btree, allocator and data on the simulated device. What a superblock would remember
 * between mounts is in struct dfs. Everything but dfs_run() is called inside its fiber, and stops
 * the test with a message when it fails.
 */
#ifndef BCFS_TESTS_DATA_DFS_H
#define BCFS_TESTS_DATA_DFS_H

#include "data/data_private.h"
#include "dev/sim_bdev.h"

struct dfs_geometry {
	u32 block_sectors, node_sectors, bucket_sectors;
	u64 nr_buckets;
	unsigned nr_journal; /* buckets */
	u32 extent_sectors;  /* 0: default */
	u8 csum_type, chunk_shift;
};

struct dfs {
	struct alloc_ops_arg arg; /* first: the btree's ops arg points here */
	struct dfs_geometry g;
	u64 seed;
	struct env *env;
	struct bdev *bdev;
	struct log log;
	bool quiet;
	struct journal *journal;
	struct btree_fs *btree;
	struct alloc_fs *alloc;
	struct data_fs *data;
	u64 data_errors; /* told to the error callback */

	/* The superblock's part. */
	u64 journal_buckets[128];
	struct journal_carried carried;
	u64 clean_seq; /* 0: not clean */
	struct journal_blacklist_range bl[32];
	unsigned nr_bl;

	void (*fn)(struct dfs *f);
};

extern const struct dfs_geometry dfs_small, dfs_tiny;

/* A new device, mounted; @fn in a fiber; checked and unmounted behind it. */
void dfs_run(u64 seed, const struct dfs_geometry *g, void (*fn)(struct dfs *f));
void dfs_mount(struct dfs *f);
void dfs_umount(struct dfs *f);
void dfs_crash(struct dfs *f, const struct sim_crash *crash);
/* Mark and sweep finds nothing, no sector was written twice. */
void dfs_check(struct dfs *f, const char *when);

#define DFS_ASSERT(f, cond, ...)                                                                   \
	do {                                                                                       \
		if (!(cond))                                                                       \
			dfs_fail(f, __FILE__, __LINE__, #cond, __VA_ARGS__);                       \
	} while (0)
#define DFS_OK(f, x)                                                                               \
	do {                                                                                       \
		int dfs_ret_ = (x);                                                                \
		if (dfs_ret_)                                                                      \
			dfs_fail(f, __FILE__, __LINE__, #x, "%s", err_name(dfs_ret_));             \
	} while (0)
void dfs_fail(struct dfs *f, const char *file, int line, const char *what, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 5, 6)));

#endif
