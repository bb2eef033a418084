/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: with far more nodes than the cache holds, iteration forward and backward from anywhere,
 * with a transaction's own pending updates, sees what a sorted array has; transactions over
 * several btrees are whole; values of any size go in.
 * Method: random operations against arrays, three btrees; the cache evicts, and takes nodes that
 * must be written first.
 */
#include "btree_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS	  6000
#define NR_TREES  3
#define MAX_PEND  12
#define VAL_BYTES 1200 /* nodes of 4 KiB hold two and their whiteouts */

static const enum btree_id ids[NR_TREES] = {BTREE_ID_lru, BTREE_ID_quotas, BTREE_ID_freespace};

struct run {
	struct fx fx;
	u64 rng, seed;
	unsigned ops;
	int ret;
	u64 v[NR_TREES][KEYS]; /* 0: absent */
};

struct pending {
	u32 tree, idx;
	u64 v;
};

static u64 rnd(struct run *r)
{
	r->rng ^= r->rng << 13;
	r->rng ^= r->rng >> 7;
	r->rng ^= r->rng << 17;
	return r->rng * 0x2545f4914f6cdd1dULL >> 16;
}

#define check(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "seed %llu line %d: ", (unsigned long long)r->seed,        \
				__LINE__);                                                         \
			fprintf(stderr, __VA_ARGS__);                                              \
			fprintf(stderr, "\n");                                                     \
			r->ret = -1;                                                               \
			return;                                                                    \
		}                                                                                  \
	} while (0)

/* In order of the index; the last is the last position there is. */
static struct bpos key_pos(u32 i)
{
	if (i == KEYS - 1)
		return POS(UINT64_MAX, UINT64_MAX);
	return POS(i / 1000, (u64)(i % 1000) << (i / 1000 * 7));
}

/* The value's own size and contents follow from the number. */
static u32 val_bytes(u64 v)
{
	return 8 + (v % 50 ? v / 50 % 20 * 8 : v / 50 % (VAL_BYTES / 8) * 8);
}

static bool val_ok(struct bkey_s_c k, u64 v)
{
	const u64 *p = (const u64 *)k.v;
	u32 u64s = val_bytes(v) / 8;

	if (bkey_val_bytes(k.k) != u64s * 8)
		return false;
	for (u32 i = 0; i < u64s; i++)
		if (p[i] != v + i)
			return false;
	return true;
}

static int queue(struct btree_trans *trans, const struct pending *p, unsigned nr)
{
	int ret = 0;

	for (unsigned i = 0; i < nr && !ret; i++) {
		u64 v = p[i].v;
		struct bkey_i *k =
			btree_trans_alloc_key(trans, v ? KEY_TYPE_cookie : KEY_TYPE_deleted,
					      key_pos(p[i].idx), v ? val_bytes(v) : 0);

		for (u32 j = 0; v && j < val_bytes(v) / 8; j++)
			k->v[j] = v + j;
		ret = btree_trans_insert(trans, ids[p[i].tree], k, 0);
	}
	return ret;
}

/* Some keys from @idx on, compared with what the array says; -1: they differ. */
static int walk(struct run *r, struct btree_trans *trans, u32 tree, u32 idx, unsigned nr, bool back,
		unsigned flags)
{
	const u64 *v = r->v[tree];
	struct btree_iter iter;
	s64 i = back ? (s64)idx - 1 : idx;
	int ret = 0;

	btree_iter_init(trans, &iter, ids[tree], key_pos(idx), flags);
	for (unsigned n = 0; n < nr; n++) {
		struct bkey_s_c k =
			back ? btree_iter_peek_prev_min(&iter, POS_MIN) : btree_iter_peek(&iter);

		ret = bkey_err(k);
		if (ret)
			break;
		while (i >= 0 && i < KEYS && !v[i])
			i += back ? -1 : 1;
		if (!k.k || i < 0 || i >= KEYS) {
			if (k.k || (i >= 0 && i < KEYS))
				ret = -BCFS_ERR_bset_corrupt;
			break;
		}
		if (!bpos_eq(k.k->p, key_pos(i)) || !val_ok(k, v[i])) {
			ret = -BCFS_ERR_bset_corrupt;
			break;
		}
		/* Now and then the other way. */
		if (!back && !btree_iter_advance(&iter))
			break;
		i += back ? -1 : 1;
	}
	btree_iter_exit(&iter);
	return ret;
}

/* A transaction: updates, a look around, and perhaps a commit. */
static void op(struct run *r, bool shrink)
{
	unsigned nr = rnd(r) % 8 ? 1 + rnd(r) % 3 : 1 + rnd(r) % MAX_PEND;
	u32 near = rnd(r) % KEYS, tree, idx = rnd(r) % KEYS;
	bool back = rnd(r) % 2, commit = rnd(r) % 4;
	struct pending p[MAX_PEND];
	u64 was[MAX_PEND];

	for (unsigned i = 0; i < nr; i++) {
		p[i].tree = rnd(r) % NR_TREES;
		p[i].idx = rnd(r) % 2 ? (near + rnd(r) % 20) % KEYS : rnd(r) % KEYS;
		p[i].v = rnd(r) % 100 < (shrink ? 80 : 15) ? 0 : rnd(r) | 1;
		was[i] = r->v[p[i].tree][p[i].idx];
		r->v[p[i].tree][p[i].idx] = p[i].v;
	}
	tree = rnd(r) % 2 ? p[0].tree : rnd(r) % NR_TREES;
	if (rnd(r) % 2)
		idx = p[0].idx;
	unsigned len = rnd(r) % 8 ? rnd(r) % 10 : rnd(r) % 60;
	unsigned flags = rnd(r) % 2 ? BTREE_ITER_PREFETCH : 0;
	struct btree_trans *trans = btree_trans_get(r->fx.c);
	int ret = lockrestart_do(trans, queue(trans, p, nr)
						?: walk(r, trans, tree, idx, len, back, flags)
						?: (commit ? btree_trans_commit(trans, 0, NULL)
							   : 0));

	btree_trans_put(trans);
	check(!ret, "%s walk of %u from %u in tree %u, %u updates: %s",
	      back ? "backward" : "forward", len, idx, tree, nr, err_str(ret));
	while (!commit && nr--)
		r->v[p[nr].tree][p[nr].idx] = was[nr];
}

static void walk_main(void *arg)
{
	struct run *r = arg;
	struct btree_counters bc;
	struct btree_cache_stats cs;

	r->ret = fx_open(&r->fx);
	check(!r->ret, "open: %s", err_str(r->ret));
	for (unsigned i = 0; i < r->ops && !r->ret; i++)
		op(r, i / 3000 % 2);
	if (r->ret)
		return;
	btree_counters(r->fx.c, &bc);
	btree_cache_stats(r->fx.c, &cs);
	fprintf(stderr,
		"splits %llu merges %llu evictions %llu cannibalized %llu reads %llu prefetches "
		"%llu nodes %llu bytes %llu of %llu, at most %llu, over %llu\n",
		(unsigned long long)bc.splits, (unsigned long long)bc.merges,
		(unsigned long long)bc.evictions, (unsigned long long)bc.cannibalized,
		(unsigned long long)bc.node_reads, (unsigned long long)bc.prefetches,
		(unsigned long long)cs.nodes, (unsigned long long)cs.bytes,
		(unsigned long long)cs.limit_bytes, (unsigned long long)cs.peak_bytes,
		(unsigned long long)bc.over_limit);
	check(bc.splits && bc.merges && bc.evictions && bc.cannibalized && bc.prefetches,
	      "not enough happened");
	check(cs.bytes <= cs.limit_bytes, "the cache has %llu bytes, %llu are allowed",
	      (unsigned long long)cs.bytes, (unsigned long long)cs.limit_bytes);
	for (unsigned turn = 0; turn < 2; turn++) {
		struct btree_trans *trans = btree_trans_get(r->fx.c);
		int ret = 0;

		for (u32 t = 0; t < NR_TREES && !ret; t++)
			for (u32 i = 0; i < KEYS && !ret; i += 100)
				ret = lockrestart_do(trans, walk(r, trans, t, i, 110, false, 0))
					      ?: lockrestart_do(trans,
								walk(r, trans, t, i, 110, true, 0));
		btree_trans_put(trans);
		check(!ret, "last look: %s", err_str(ret));
		if (!turn)
			r->ret = fx_close(&r->fx) ?: fx_open(&r->fx);
		check(!r->ret, "reopen: %s", err_str(r->ret));
	}
	r->ret = fx_close(&r->fx);
	check(!sim_bdev_violations(r->fx.bdev), "%s", sim_bdev_first_violation(r->fx.bdev));
}

static void run(u64 seed, unsigned ops, unsigned inject_ppm)
{
	struct run *r = calloc(1, sizeof(*r));
	struct sim_bdev_opts o = {.size_bytes = fx_tiny.dev_bytes, .no_log = true};

	r->fx.g = fx_tiny;
	/* Room in the journal, so that the cache is what forces nodes out. */
	r->fx.g.journal_buckets = 60;
	r->fx.g.node_bytes = 8192;
	r->fx.p.clean = true;
	r->seed = seed;
	r->rng = seed * 2654435761u + 88172645463325252ULL;
	r->ops = ops;
	r->fx.env = env_sim_create(seed);
	cr_assert_eq(sim_bdev_create(r->fx.env, "sim", &o, &r->fx.bdev), 0);
	if (inject_ppm) {
		env_inject_arm_random(r->fx.env, "trans_restart", inject_ppm);
		env_inject_arm_random(r->fx.env, "trans_restart_commit", inject_ppm);
	}
	int ret = env_sim_run(r->fx.env, walk_main, r);
	cr_assert(!ret && !r->ret, "seed %llu: %s / %s", (unsigned long long)seed, err_str(ret),
		  err_str(r->ret));
	bdev_close(r->fx.bdev);
	env_sim_destroy(r->fx.env);
	free(r);
}

Test(btree_walk, walk)
{
	run(fx_seed(1000), 12000, 0);
	run(fx_seed(1001), 12000, 0);
}

Test(btree_walk, restarts)
{
	run(fx_seed(1002), 12000, 1500);
}
