// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The end of a device that is nearly full. All that is dirty is written, and what of it cannot be
 * appended goes elsewhere, which makes more dirty; but soon there will be nobody who makes dead
 * places free again. So a round
 *
 *  - gains first: the worker empties buckets until there are as many places as nodes are dirty, or
 *    until no more comes of it. What it moves is clean then;
 *  - then writes, parents and all, until nothing is dirty.
 *
 * It ends when nothing is dirty and there are places for what stopping the worker makes dirty, and
 * after SETTLE_ROUNDS whatever has come of it: the journal has all that was not written
 * (doc/adr/0032).
 */
#include "alloc/alloc_private.h"
#include "util/planted.h"

#define SETTLE_ROUNDS  32
#define SETTLE_PASSES  16  /* over what is dirty: each parent, and what rewriting changes */
#define SETTLE_WAITS   256 /* for the worker, in one round */
#define SETTLE_IN_VAIN 4   /* of them, one after the other */
/* What the last round of discards changes, twice: the leaves of one commit, and their parents. */
#define SETTLE_NODES 24

static s64 buckets_for(const struct alloc_fs *a, u64 nodes)
{
	return (s64)(a->watermark[ALLOC_WATERMARK_last] + DIV_ROUND_UP(nodes, a->nodes_per_bucket));
}

/* Is all that is dirty sure to find a place without that? Each may have to go elsewhere. */
static bool settled(struct alloc_fs *a)
{
	struct btree_cache_stats s;

	btree_cache_stats(a->btree, &s);
	return alloc_free_buckets(a) >
	       max((s64)a->reserve_buckets, buckets_for(a, s.dirty + SETTLE_NODES));
}

bool alloc_room_to_discard(struct alloc_fs *a)
{
	s64 n = alloc_usage_get(a, BCFS_ACCOUNTING_buckets_need_discard);

	/* A leaf for each, and its parent. */
	return alloc_free_buckets(a) > buckets_for(a, 2 * (u64)max(n, 0LL) + SETTLE_NODES);
}

static u64 worker_did(const struct alloc_fs *a)
{
	return __atomic_load_n(&a->counters.gc_nodes_moved, __ATOMIC_RELAXED) +
	       __atomic_load_n(&a->counters.buckets_discarded, __ATOMIC_RELAXED);
}

static void gain(struct alloc_fs *a, s64 want)
{
	unsigned in_vain = 0;

	__atomic_store_n(&a->settle_buckets, want, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < SETTLE_WAITS && in_vain < SETTLE_IN_VAIN &&
			     !journal_error(a->journal) && alloc_free_buckets(a) <= want;
	     i++) {
		u64 before = worker_did(a);

		if (!alloc_discards_pending(a) && !alloc_compact_wanted(a))
			break;
		alloc_wait_for_space(a, false);
		in_vain = worker_did(a) == before ? in_vain + 1 : 0;
	}
	__atomic_store_n(&a->settle_buckets, 0, __ATOMIC_RELAXED);
}

static int write_all(struct alloc_fs *a)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < SETTLE_PASSES && journal_has_pins(a->journal); i++)
		ret = journal_flush_pins(a->journal, UINT64_MAX);
	return ret;
}

void alloc_settle(struct alloc_fs *a)
{
	unsigned in_vain = 0;

	/* How much is dead is the next mount's care: each move would make more dirty. */
	__atomic_store_n(&a->settling, true, __ATOMIC_RELAXED);
	if (settled(a))
		return;
	for (unsigned i = 0;
	     i < SETTLE_ROUNDS && in_vain < SETTLE_IN_VAIN && !journal_error(a->journal); i++) {
		u64 before = worker_did(a);
		struct btree_cache_stats s;
		int ret;

		btree_cache_stats(a->btree, &s);
		if (!planted(settle_no_gain))
			gain(a, buckets_for(a, s.dirty + SETTLE_NODES));
		ret = write_all(a);
		if (!ret && !journal_has_pins(a->journal) &&
		    alloc_free_buckets(a) > buckets_for(a, SETTLE_NODES))
			break;
		/* What found no place now may find one among the buckets that were emptied. */
		in_vain = worker_did(a) == before ? in_vain + 1 : 0;
	}
}
