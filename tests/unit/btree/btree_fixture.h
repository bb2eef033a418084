/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Journal and btree on the simulated device, without superblock or allocator: nodes come
 * from a bump allocator that, after a crash, begins behind the highest node in use.
 */
#ifndef BCFS_TEST_BTREE_FIXTURE_H
#define BCFS_TEST_BTREE_FIXTURE_H

#include "btree/btree.h"
#include "dev/sim_bdev.h"
#include "util/log.h"

#define FX_MAX_BL 64

struct fx_geometry {
	u32 block_bytes, node_bytes, journal_bucket_bytes, journal_buckets;
	u64 cache_bytes, dev_bytes;
};

/* What a superblock would remember between opens. */
struct fx_persistent {
	struct journal_blacklist_range bl[FX_MAX_BL];
	unsigned nr_bl;
	bool clean;
	u64 clean_seq;
	struct journal_carried carried;
};

struct fx {
	struct fx_geometry g;
	struct env *env;
	struct bdev *bdev;
	struct log log;
	struct journal *j;
	struct btree_fs *c;
	struct fx_persistent p;
	const struct keyring *keys;		/* NULL: not encrypted */
	const struct bkey_ops_table *ops;	/* NULL: none */
	const struct btree_snapshot_ops *snaps; /* called with the fx */
	struct env_mutex space_lock;
	bool space_lock_ready;
	u64 next_node; /* bytes; space_lock */
	u64 free_nodes[4096];
	unsigned nr_free;
	bool keeps_refused; /* no places for commits with BTREE_COMMIT_KEEPS */
	int error;
	bool quiet;
};

extern const struct fx_geometry fx_small, fx_tiny;

/* On fx->env and fx->bdev, with fx->g and fx->p. Inside a fiber. */
int fx_open(struct fx *fx);
/* Clean: fx->p can be opened again. */
int fx_close(struct fx *fx);
/* Drop everything, writing nothing. Also after fx_open() has failed. */
void fx_abandon(struct fx *fx);

/* Cookie keys. */
int fx_set(struct fx *fx, enum btree_id id, struct bpos pos, u64 v, u64 *seq);
int fx_del(struct fx *fx, enum btree_id id, struct bpos pos, u64 *seq);
int fx_get(struct fx *fx, enum btree_id id, struct bpos pos, u64 *v);
/* How many keys there are; aborts if they cannot be read. */
u32 fx_count(struct fx *fx, enum btree_id id);

u64 fx_seed(u64 dflt);

#endif
