/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A filesystem on the simulated device from journal, btree, snapshot and fs alone: nodes come
 * from a bump allocator, file data lies in keys (mock_data.c), and what a superblock would
 * remember is in struct fsx. Inside a fiber, but for fsx_run().
 */
#ifndef BCFS_TEST_FS_FIXTURE_H
#define BCFS_TEST_FS_FIXTURE_H

#include "../test_must.h"
#include "btree/btree.h"
#include "dev/sim_bdev.h"
#include "fs/fs.h"

#define FSX_MAX_BL 64

struct fsx {
	struct env *env;
	struct bdev *bdev;
	struct log log;
	struct bcfs own;
	struct bcfs *c; /* while open */
	u32 node_bytes;
	void *core;
	u8 hash_bits;
	u64 cache_bytes;
	u64 dev_bytes;	   /* 0: plenty; else of the whole core alone, with small buckets */
	u32 bucket_bytes;  /* of the whole core; 0: 64 KiB on such a device, else 256 KiB */
	u32 block_bytes;   /* ditto; 0: 4096 */
	u64 journal_bytes; /* ditto; 0: 1 MiB on such a device, else 8 MiB */
	u64 next_node;	   /* bytes */
	int error;
	s64 usage[BCFS_ACCOUNTING_NR];

	/* Kept over a reopening. */
	bool made, clean;
	u64 clean_seq;
	struct journal_carried carried;
	struct journal_blacklist_range bl[FSX_MAX_BL];
	unsigned nr_bl;

	/* Given: the device begins with it. */
	struct sim_image *image;
	/* The device, with its log, stays after fsx_run() until fsx_free_bdev(). */
	bool keep_bdev;

	void (*fn)(struct fsx *fx, void *arg);
	void *arg;
};

/* A new environment and device, and fn as a fiber in it; everything is freed behind it. */
void fsx_run(struct fsx *fx, u64 seed, void (*fn)(struct fsx *fx, void *arg), void *arg);

void fsx_free_bdev(struct fsx *fx);

/* Made (mkfs) at the first open. */
int fsx_open(struct fsx *fx);
int fsx_close(struct fsx *fx);
/* Drop everything in memory; the device stays as it is. */
void fsx_abandon(struct fsx *fx);
/* Every checker of fs/ and snapshot/; prints what they report. The number of differences. */
u64 fsx_check(struct fsx *fx);

extern const struct bkey_ops mock_ops_extent, mock_ops_reservation, mock_ops_inline_data;

#endif
