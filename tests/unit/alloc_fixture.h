/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A filesystem of journal, btree and allocator on the simulated device, opened new, cleanly, or
 * after a crash; what a superblock would remember is in struct tfs. What lies above the allocator
 * is the test's: a toy file layer (alloc/tfs.h) or the data layer (data/dfs.h).
 */
#ifndef BCFS_TESTS_ALLOC_FIXTURE_H
#define BCFS_TESTS_ALLOC_FIXTURE_H

#include "alloc/alloc_private.h"
#include "dev/sim_bdev.h"

struct tfs_geometry {
	u32 block_sectors, node_sectors, bucket_sectors;
	u64 nr_buckets;
	unsigned nr_journal; /* buckets */
	u64 cache_bytes;     /* 0: default */
	u32 entry_bytes;     /* of the journal; 0: default */
	/* Of the data layer. */
	u32 extent_sectors; /* 0: default */
	u32 inline_bytes;
	u8 csum_type, chunk_shift;
	bool sealed; /* data are encrypted, by a newer key after each mount */
};

struct tfs;

/* The layer above; functions may be NULL. */
struct tfs_layer {
	const struct bkey_ops_table *table;
	unsigned journal_step; /* from one bucket of the journal to the next */
	void (*make)(struct tfs *f);
	void (*start)(struct tfs *f); /* its threads */
	void (*stop)(struct tfs *f);
	void (*free)(struct tfs *f);
	int (*pre_flush)(struct tfs *f, u64 seq); /* journal_ops.pre_flush */
	u64 (*check)(struct tfs *f);		  /* what it finds wrong, printed; may be NULL */
};

struct tfs {
	/* First, and so: the btree's ops arg points here (struct data_ops_arg). */
	struct alloc_ops_arg arg;
	struct data_fs *data; /* the data layer's */
	struct tfs_geometry g;
	const struct tfs_layer *layer;
	u64 seed;
	struct env *env;
	struct bdev *bdev;
	struct journal *journal;
	struct btree_fs *btree;
	struct alloc_fs *alloc;
	u64 data_errors;      /* told to its error callback */
	struct keyring *keys; /* its keys, and how often they were made */
	unsigned nr_keyed;
	struct log log;
	bool quiet; /* nothing is logged */
	u64 journal_buckets[256];
	/* clean section */
	struct journal_carried carried;
	u64 clean_seq; /* 0: not clean */
	u64 bl_end;    /* newest blacklisted seq so far */
	struct journal_blacklist_range bl[32];
	unsigned nr_bl;
	u64 next_version; /* fills what the toy layer writes */
	void (*fn)(struct tfs *f);
};

/* All abort with a message when they fail. */
void tfs_init(struct tfs *f, u64 seed, const struct tfs_geometry *g, const struct tfs_layer *layer);
void tfs_mkfs(struct tfs *f);
void tfs_mount(struct tfs *f); /* after tfs_umount or tfs_crash */
void tfs_umount(struct tfs *f);
void tfs_crash(struct tfs *f, const struct sim_crash *crash);
void tfs_destroy(struct tfs *f); /* mounted */
/* Aborts unless alloc_check finds nothing, and no sector was written twice. */
void tfs_check(struct tfs *f, const char *when);

#define TFS_OK(x)                                                                                  \
	do {                                                                                       \
		int tfs_ret_ = (x);                                                                \
		if (tfs_ret_)                                                                      \
			tfs_fail(f, #x, __LINE__, tfs_ret_);                                       \
	} while (0)
void tfs_fail(struct tfs *f, const char *what, int line, int ret) __attribute__((noreturn));

#endif
