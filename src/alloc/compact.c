// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Compacting buckets of btree nodes. Where a bucket holds several nodes, writing one elsewhere
 * leaves a dead place behind; the places come back only with the whole bucket. So nodes that are
 * written seldom hold back the space of those that are written often, up to a bucket for each.
 * When few buckets are free the worker keeps what is dead below a quarter of what is live: it
 * writes the nodes of the emptiest buckets anew, found through the backpointers.
 *
 * It waits for nobody but the device, takes journal space from what is kept for reclaim while
 * that is not needed, and as interior updates do digs as deep as it must. A bucket without a dead
 * place is never taken, so each that is emptied gives back more than it took.
 *
 * The candidates are looked for among the alloc keys, from a cursor that goes round: there is no
 * index of them, and there are few places in need of it on a device so large that this takes long,
 * since more is kept back there.
 */
#include "alloc/alloc_private.h"
#include "util/planted.h"

#include <stdlib.h>

#define LOOK_MAX   64U
#define LOOK_KEYS  1024U /* of the alloc btree, a round */
#define NODES_KEPT 3	 /* places that an interior update takes before it begins */

static s64 bucket_nodes_sectors(const struct alloc_fs *a)
{
	return (s64)a->nodes_per_bucket * a->opts.node_sectors;
}

/* Dead places in buckets of nodes, without what is being filled: a bucket's worth. */
s64 alloc_dead_node_sectors(struct alloc_fs *a)
{
	s64 buckets = alloc_usage_get(a, BCFS_ACCOUNTING_buckets_btree) - 1;

	return buckets * bucket_nodes_sectors(a) - alloc_usage_get(a, BCFS_ACCOUNTING_btree);
}

/* How much may be dead when few buckets are free: a quarter of what is live. */
static s64 dead_sectors_max(struct alloc_fs *a)
{
	return alloc_usage_get(a, BCFS_ACCOUNTING_btree) / 4 + 2 * bucket_nodes_sectors(a);
}

static s64 few_buckets(const struct alloc_fs *a)
{
	return (s64)(a->reserve_buckets + max(a->opts.nr_buckets / 32, 2ULL));
}

/*
 * Nodes that are dirty wait for places, and no bucket may be opened for them: then any dead place
 * is worth its bucket's move. Who makes keys waits above that, so nothing that is gained goes
 * there. The same at the end (settle.c).
 */
static bool nodes_pressed(struct alloc_fs *a)
{
	s64 free = alloc_free_buckets(a),
	    least = __atomic_load_n(&a->settle_buckets, __ATOMIC_RELAXED);

	if (__atomic_load_n(&a->nr_pressed, __ATOMIC_RELAXED) && !planted(dirty_not_pressed))
		least = max(least, (s64)a->watermark[ALLOC_WATERMARK_reserve]);
	return free <= least && alloc_dead_node_sectors(a) > 0;
}

bool alloc_compact_wanted(struct alloc_fs *a)
{
	s64 slack = DIV_ROUND_UP(dead_sectors_max(a), bucket_nodes_sectors(a));

	if (a->nodes_per_bucket < 2)
		return false;
	if (nodes_pressed(a))
		return true;
	return !__atomic_load_n(&a->settling, __ATOMIC_RELAXED) &&
	       alloc_free_buckets(a) <= few_buckets(a) + slack &&
	       alloc_dead_node_sectors(a) >= dead_sectors_max(a);
}

s64 alloc_node_slack(struct alloc_fs *a, bool always)
{
	/* As much again for the dirty ones that are written elsewhere at one time. */
	s64 max = dead_sectors_max(a) + alloc_usage_get(a, BCFS_ACCOUNTING_btree) / 4;
	s64 dead = max_t(s64, alloc_dead_node_sectors(a), 0);
	s64 buckets = DIV_ROUND_UP(max, bucket_nodes_sectors(a));

	if (a->nodes_per_bucket < 2 || dead >= max ||
	    (!always && alloc_free_buckets(a) > few_buckets(a) + buckets))
		return 0;
	return DIV_ROUND_UP(max - dead, bucket_nodes_sectors(a)) * (s64)a->bucket_usable;
}

/* ---- which ---- */

struct victim {
	u64 bucket;
	u32 live; /* sectors */
	u8 gen;
};

struct look {
	u32 nr;
	u64 next; /* where to go on */
	struct victim v[LOOK_MAX];
};

static int victim_cmp(const void *l_, const void *r_)
{
	const struct victim *l = l_, *r = r_;

	return cmp_int(l->live, r->live) ?: cmp_int(l->bucket, r->bucket);
}

static int look_at_keys(struct btree_trans *trans, struct alloc_fs *a, u64 from, struct look *l)
{
	struct btree_iter iter;
	int ret = 0;

	*l = (struct look){.next = from};
	btree_iter_init(trans, &iter, BTREE_ID_alloc, POS(0, from), 0);
	for (u32 i = 0; i < LOOK_KEYS && l->nr < LOOK_MAX; i++) {
		struct bkey_s_c k = btree_iter_peek_max(&iter, POS(0, UINT64_MAX));
		struct bcfs_alloc v;

		ret = bkey_err(k);
		if (ret)
			break;
		if (!k.k || k.k->p.offset >= a->opts.nr_buckets) {
			l->next = 0;
			break;
		}
		v = alloc_val(k);
		l->next = k.k->p.offset + 1;
		if (v.data_type == BCFS_DATA_btree && k.k->p.offset >= a->opts.first_bucket &&
		    v.dirty_sectors < bucket_nodes_sectors(a) && !ob_held(a, 0, k.k->p.offset))
			l->v[l->nr++] = (struct victim){
				.bucket = k.k->p.offset,
				.live = v.dirty_sectors,
				.gen = v.gen,
			};
		if (!btree_iter_advance(&iter)) {
			l->next = 0;
			break;
		}
	}
	btree_iter_exit(&iter);
	return ret;
}

/* ---- moving ---- */

struct node_at {
	struct bpos pos; /* of the backpointer */
	struct bcfs_backpointer bp;
	bool found;
};

static int next_node(struct btree_trans *trans, struct bpos from, struct bpos end,
		     struct node_at *n)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret;

	n->found = false;
	btree_iter_init(trans, &iter, BTREE_ID_backpointers, from, 0);
	k = btree_iter_peek_max(&iter, bpos_predecessor(end));
	ret = bkey_err(k);
	if (!ret && k.k) {
		n->pos = k.k->p;
		n->bp = (struct bcfs_backpointer){0};
		if (k.k->type == KEY_TYPE_backpointer)
			n->bp = *(const struct bcfs_backpointer *)k.v;
		n->found = true;
	}
	btree_iter_exit(&iter);
	return ret;
}

static int empty_bucket(struct alloc_fs *a, struct btree_trans *trans, const struct victim *v,
			u64 *ret_moved)
{
	struct bpos from, end;
	int ret = 0;

	*ret_moved = 0;
	alloc_bucket_backpointers(a, v->bucket, &from, &end);
	while (bpos_lt(from, end) && !journal_is_very_low(a->journal)) {
		struct node_at n;
		bool moved = false;

		ret = lockrestart_do(trans, next_node(trans, from, end, &n));
		btree_trans_unlock(trans);
		if (ret || !n.found)
			break;
		if (n.bp.bucket_gen == v->gen && n.bp.level)
			ret = btree_node_move(a->btree, n.bp.btree_id, n.bp.level - 1, n.bp.pos,
					      n.pos.offset >> BCFS_BP_SHIFT, &moved);
		if (ret)
			break;
		*ret_moved += moved;
		from = bpos_successor(n.pos);
	}
	return ret;
}

/* Sectors that may be written now, at most: half of the discards' share stays. */
static s64 room_to_move(struct alloc_fs *a)
{
	s64 buckets = alloc_free_buckets(a) - (s64)a->watermark[ALLOC_WATERMARK_last] / 2;

	return max_t(s64, buckets, 0) * bucket_nodes_sectors(a);
}

/*
 * That may be too little for one bucket. If nothing is becoming free, dead places are all there is
 * to gain, and waiting gives none: then one bucket's nodes may be moved, if that leaves what an
 * interior update takes in order to make free what was emptied.
 */
static bool may_move_last(struct alloc_fs *a, u32 live)
{
	s64 nodes = alloc_free_buckets(a) * a->nodes_per_bucket + alloc_nodes_at_hand(a);

	return !alloc_discards_pending(a) && (nodes - NODES_KEPT) * a->opts.node_sectors >= live;
}

/*
 * As many as there is room for, half of what is free at first: their space comes back a little
 * later. Others take places meanwhile, and nothing becomes free while this goes on.
 */
static int empty_some(struct alloc_fs *a, struct btree_trans *trans, struct look *l, u64 *ret_moved)
{
	s64 half = DIV_ROUND_UP(room_to_move(a), 2 * bucket_nodes_sectors(a));
	s64 room = half * bucket_nodes_sectors(a);
	int ret = 0;

	for (u32 i = 0; !ret && i < l->nr; i++) {
		u32 live = l->v[i].live;
		u64 moved;

		if (min(room, room_to_move(a)) < live && (i || !may_move_last(a, live)))
			break;
		room -= live;
		ret = empty_bucket(a, trans, &l->v[i], &moved);
		*ret_moved += moved;
		__atomic_fetch_add(&a->counters.gc_nodes_moved, moved, __ATOMIC_RELAXED);
	}
	return ret == -BCFS_ERR_nospc ? 0 : ret;
}

int alloc_compact_nodes(struct alloc_fs *a, u64 *ret_moved)
{
	u64 self = env_thread_self_id(a->env) + 1;
	struct btree_trans *trans;
	struct look *l;
	int ret;

	*ret_moved = 0;
	if (journal_is_very_low(a->journal))
		return 0;
	l = env_malloc(a->env, sizeof(*l));
	if (!l)
		return -BCFS_ERR_nomem;
	__atomic_store_n(&a->compact_owner, self, __ATOMIC_RELAXED);
	trans = btree_trans_get(a->btree);
	ret = lockrestart_do(trans, look_at_keys(trans, a, a->compact_cursor, l));
	btree_trans_unlock(trans);
	if (!ret) {
		a->compact_cursor = l->next;
		qsort(l->v, l->nr, sizeof(l->v[0]), victim_cmp);
		ret = empty_some(a, trans, l, ret_moved);
	}
	btree_trans_put(trans);
	__atomic_store_n(&a->compact_owner, 0, __ATOMIC_RELAXED);
	env_free(a->env, l);
	return ret;
}
