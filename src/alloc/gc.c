// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Copygc's side of the allocator: which buckets are worth emptying, where their live sectors may
 * go, and who waits for it. The moving itself is data/copygc.c.
 *
 * Dead sectors are those of a user bucket that nothing points at any more, or that were never
 * handed out before the bucket was closed. A reservation counts on them, too (accounting.c): user
 * data can always be packed, since extents are cut where a bucket ends. What is moved goes to a
 * write point of its own, below the watermark at which users stop, so there is somewhere to go.
 * Buckets are taken as a set whose live sectors fit into half of that space, and a bucket without
 * dead sectors is never taken; so each round frees more than it moves.
 */
#include "alloc/alloc_private.h"

#include <stdlib.h>

#define GC_LOOK_MAX   256U /* buckets of the LRU that one round looks at */
#define GC_IDLE_NS    ENV_NSEC_PER_SEC
#define GC_STEP_NS    (100 * ENV_NSEC_PER_MSEC)
#define GC_ANY	      0x7fU
#define GC_BACKGROUND 7U /* in eighths: what is fuller waits until somebody needs space */

s64 alloc_dead_sectors(struct alloc_fs *a)
{
	/* One bucket's worth at most lies in copygc's own, half filled. */
	s64 buckets = alloc_usage_get(a, BCFS_ACCOUNTING_buckets_user) - 1;

	return buckets * (s64)a->bucket_usable - alloc_usage_get(a, BCFS_ACCOUNTING_user) -
	       (s64)__atomic_load_n(&a->rest_user, __ATOMIC_RELAXED) -
	       (s64)__atomic_load_n(&a->in_flight, __ATOMIC_RELAXED);
}

/* ---- the thread's life ---- */

void alloc_gc_start(struct alloc_fs *a)
{
	env_mutex_lock(&a->lock);
	a->gc_stop = false;
	__atomic_store_n(&a->gc_on, true, __ATOMIC_RELAXED);
	env_mutex_unlock(&a->lock);
}

void alloc_gc_stop(struct alloc_fs *a)
{
	env_mutex_lock(&a->lock);
	a->gc_stop = true;
	__atomic_store_n(&a->gc_on, false, __ATOMIC_RELAXED);
	env_cond_broadcast(&a->gc_cond);
	env_cond_broadcast(&a->freed);
	env_mutex_unlock(&a->lock);
}

bool alloc_gc_stopping(struct alloc_fs *a)
{
	return !__atomic_load_n(&a->gc_on, __ATOMIC_RELAXED);
}

/* So few free buckets are few, though nobody waits. */
static s64 background_low(const struct alloc_fs *a)
{
	return (s64)(a->reserve_buckets + max(a->opts.nr_buckets / 32, 2ULL));
}

/* A good part of what is taken is dead: a 64th of the device. */
static bool background_wanted(struct alloc_fs *a)
{
	s64 low = background_low(a);
	s64 two = 2 * (s64)a->bucket_usable, all = (s64)(a->opts.nr_buckets * a->bucket_usable);

	return alloc_free_buckets(a) <= low && alloc_dead_sectors(a) >= max(all / 64, two);
}

bool alloc_may_rewrite(struct alloc_fs *a)
{
	bool waited_for;

	env_mutex_lock(&a->lock);
	waited_for = a->gc_kick;
	env_mutex_unlock(&a->lock);
	return !waited_for && !__atomic_load_n(&a->nr_waiting, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&a->nr_checks, __ATOMIC_RELAXED) &&
	       alloc_free_buckets(a) > background_low(a);
}

bool alloc_gc_wait(struct alloc_fs *a, bool *ret_urgent)
{
	bool go_on;

	env_mutex_lock(&a->lock);
	while (!a->gc_stop && !a->gc_kick) {
		env_cond_timedwait(&a->gc_cond, &a->lock, GC_IDLE_NS);
		/* Once a second: not again at once when nothing came of it. */
		if (!a->gc_kick && !__atomic_load_n(&a->nr_checks, __ATOMIC_RELAXED) &&
		    background_wanted(a))
			break;
	}
	*ret_urgent = a->gc_kick;
	a->gc_kick = false;
	go_on = !a->gc_stop;
	env_mutex_unlock(&a->lock);
	return go_on;
}

void alloc_gc_kick(struct alloc_fs *a)
{
	env_mutex_lock(&a->lock);
	a->gc_kick = true;
	env_cond_signal(&a->gc_cond);
	env_mutex_unlock(&a->lock);
}

void alloc_gc_round_end(struct alloc_fs *a)
{
	env_mutex_lock(&a->lock);
	a->gc_rounds++;
	env_cond_broadcast(&a->freed);
	env_mutex_unlock(&a->lock);
}

void alloc_gc_moved(struct alloc_fs *a, u64 sectors, bool emptied)
{
	if (emptied)
		alloc_count(&a->counters.gc_buckets);
	__atomic_fetch_add(&a->counters.gc_sectors_moved, sectors, __ATOMIC_RELAXED);
	if (!emptied && !sectors)
		return;
	env_mutex_lock(&a->lock);
	a->gc_useful++;
	env_mutex_unlock(&a->lock);
}

bool alloc_gc_wait_for(struct alloc_fs *a, u64 deadline)
{
	u64 round, useful;
	bool ret;

	env_mutex_lock(&a->lock);
	round = a->gc_rounds;
	useful = a->gc_useful;
	/* Two: one may be under way, and have begun before there was anything to do. */
	while (a->gc_on && !a->gc_stop && a->gc_rounds < round + 2 && a->gc_useful == useful &&
	       !journal_error(a->journal) && env_mono_ns(a->env) < deadline) {
		a->gc_kick = true;
		env_cond_signal(&a->gc_cond);
		env_cond_timedwait(&a->freed, &a->lock, GC_STEP_NS);
	}
	ret = a->gc_useful != useful;
	env_mutex_unlock(&a->lock);
	return ret;
}

/* ---- what to empty ---- */

static int victim_cmp(const void *l_, const void *r_)
{
	const struct alloc_gc_victim *l = l_, *r = r_;

	return cmp_int(l->live, r->live) ?: cmp_int(l->bucket, r->bucket);
}

/* Is the bucket one that could be emptied, and what is in it? */
static int victim_look(struct btree_trans *trans, struct alloc_fs *a, u64 bucket,
		       struct alloc_gc_victim *v, bool *ret_ok)
{
	struct btree_iter iter;
	struct bcfs_alloc val;
	int ret;

	*ret_ok = false;
	if (bucket < a->opts.first_bucket || bucket >= a->opts.nr_buckets || ob_held(a, 0, bucket))
		return 0;
	btree_iter_init(trans, &iter, BTREE_ID_alloc, POS(0, bucket), 0);
	ret = alloc_key_look(&iter, &val, NULL);
	btree_iter_exit(&iter);
	if (ret || !alloc_fragmentation(&val, a->bucket_usable))
		return ret;
	*v = (struct alloc_gc_victim){.bucket = bucket, .gen = val.gen, .live = val.dirty_sectors};
	*ret_ok = true;
	return 0;
}

struct gc_look {
	u32 nr;
	struct alloc_gc_victim v[GC_LOOK_MAX];
};

static int look_at_lru(struct btree_trans *trans, struct alloc_fs *a, u32 max_frag,
		       alloc_gc_skip_fn skip, void *arg, struct gc_look *l)
{
	struct bpos end = alloc_lru_pos(UINT8_MAX, (1ULL << 56) - 1, max_frag);
	struct btree_iter iter;
	int ret = 0;

	l->nr = 0;
	btree_iter_init(trans, &iter, BTREE_ID_lru, alloc_lru_pos(0, 0, 1), 0);
	while (l->nr < GC_LOOK_MAX) {
		struct bkey_s_c k = btree_iter_peek_max(&iter, end);
		struct alloc_gc_victim v;
		bool ok;

		ret = bkey_err(k);
		if (ret || !k.k)
			break;
		ret = victim_look(trans, a, k.k->p.offset & ((1ULL << 56) - 1), &v, &ok);
		if (ret)
			break;
		if (ok && !skip(arg, &v))
			l->v[l->nr++] = v;
		if (!btree_iter_advance(&iter))
			break;
	}
	btree_iter_exit(&iter);
	return ret;
}

u32 alloc_bucket_span(const struct alloc_fs *a)
{
	return a->opts.bucket_sectors;
}

u32 alloc_bucket_sectors(const struct alloc_fs *a)
{
	return a->bucket_usable;
}

bool alloc_has_compressed(struct alloc_fs *a)
{
	return alloc_usage_get(a, BCFS_ACCOUNTING_compressed) > 0;
}

/* When nodes have taken all of copygc's own, a bucket of what is theirs: it gives back more. */
static enum alloc_watermark gc_watermark(struct alloc_fs *a)
{
	return alloc_free_buckets(a) > (s64)a->watermark[ALLOC_WATERMARK_gc]
		       ? ALLOC_WATERMARK_gc
		       : ALLOC_WATERMARK_btree;
}

/*
 * Sectors that copygc can write now; half of what there is, the other half is for the nodes that
 * the moving dirties.
 */
static u64 gc_room(struct alloc_fs *a)
{
	enum alloc_watermark watermark = gc_watermark(a);
	s64 buckets = alloc_free_buckets(a) - (s64)a->watermark[watermark];
	u64 rest = 0;

	if (watermark != ALLOC_WATERMARK_gc)
		buckets = min_t(s64, buckets, 1);

	env_mutex_lock(&a->gc_wp.lock);
	env_mutex_lock(&a->lock);
	if (a->gc_wp.ob)
		rest = a->ob[a->gc_wp.ob].sectors_free;
	env_mutex_unlock(&a->lock);
	env_mutex_unlock(&a->gc_wp.lock);
	return rest + (buckets > 0 ? DIV_ROUND_UP((u64)buckets, 2) * a->bucket_usable : 0);
}

int alloc_gc_pick(struct alloc_fs *a, bool urgent, alloc_gc_skip_fn skip, void *arg,
		  struct alloc_gc_victim *ret, u32 max, u32 *ret_nr)
{
	u64 room = gc_room(a), live = 0;
	struct gc_look *l = env_malloc(a->env, sizeof(*l));
	struct btree_trans *trans;
	int err;

	*ret_nr = 0;
	if (!l)
		return -BCFS_ERR_nomem;
	if (journal_error(a->journal)) { /* nothing that is moved could be committed */
		env_free(a->env, l);
		return 0;
	}
	trans = btree_trans_get(a->btree);
	err = lockrestart_do(trans,
			     look_at_lru(trans, a, urgent ? GC_ANY : GC_BACKGROUND, skip, arg, l));
	btree_trans_put(trans);
	if (!err)
		qsort(l->v, l->nr, sizeof(l->v[0]), victim_cmp);
	for (u32 i = 0; !err && i < l->nr && *ret_nr < max; i++) {
		if (live + l->v[i].live > room)
			continue;
		live += l->v[i].live;
		ret[(*ret_nr)++] = l->v[i];
	}
	env_free(a->env, l);
	return err;
}

/* ---- where to ---- */

int alloc_gc_sectors_get(struct alloc_fs *a, u32 sectors, struct alloc_sectors *ret)
{
	struct write_point *wp = &a->gc_wp;

	for (;;) {
		enum alloc_take t;
		u32 found = 0;
		int err;

		env_mutex_lock(&wp->lock);
		t = alloc_wp_take(a, wp, sectors, gc_watermark(a), ret);
		env_mutex_unlock(&wp->lock);
		if (!t)
			return 0;
		if (t != ALLOC_TAKE_FILL)
			return -BCFS_ERR_nospc;
		err = alloc_fill_ready(a, &found);
		if (err)
			return err;
		if (!found)
			return -BCFS_ERR_nospc;
	}
}

void alloc_gc_sectors_trim(struct alloc_fs *a, struct alloc_sectors *s, u32 sectors)
{
	alloc_wp_trim(a, &a->gc_wp, s, sectors);
}

void alloc_bucket_backpointers(const struct alloc_fs *a, u64 bucket, struct bpos *start,
			       struct bpos *end)
{
	*start = POS(0, bucket * a->opts.bucket_sectors << BCFS_BP_SHIFT);
	*end = POS(0, (bucket + 1) * a->opts.bucket_sectors << BCFS_BP_SHIFT);
}

void alloc_backpointer_of_key(struct bkey_s_c k, enum btree_id btree,
			      const struct extent_ptr_decoded *p, struct bpos *pos,
			      struct bcfs_backpointer *bp)
{
	alloc_backpointer_of(k, btree, 0, p, pos, bp);
}
