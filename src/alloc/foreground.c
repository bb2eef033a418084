// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Finding free buckets and handing out their sectors. Free buckets come from the runs of the
 * freespace btree behind a cursor that goes round, and from the space without keys at the end
 * behind another; a batch at a time is kept READY, so that most allocations touch no btree.
 */
#include "alloc/alloc_private.h"
#include "util/planted.h"

#define WAIT_STEPS   20
#define WAIT_STEP_NS (100 * ENV_NSEC_PER_MSEC)
#define WAIT_TRIES   8			     /* in vain, while something might still come of it */
#define WAIT_NS	     (60 * ENV_NSEC_PER_SEC) /* however often something became free */

struct candidate {
	u64 bucket;
	u8 gen;
};

struct candidates {
	u32 nr;
	struct candidate d[ALLOC_READY_MAX];
	u64 cursor; /* where the search ended */
};

s64 alloc_free_buckets(struct alloc_fs *a)
{
	s64 fixed = alloc_usage_get(a, BCFS_ACCOUNTING_sb) +
		    alloc_usage_get(a, BCFS_ACCOUNTING_journal);

	return (s64)a->opts.nr_buckets - fixed / (s64)a->opts.bucket_sectors -
	       alloc_usage_get(a, BCFS_ACCOUNTING_buckets_btree) -
	       alloc_usage_get(a, BCFS_ACCOUNTING_buckets_user) -
	       alloc_usage_get(a, BCFS_ACCOUNTING_buckets_need_discard) -
	       __atomic_load_n(&a->nr_uncounted, __ATOMIC_RELAXED);
}

bool alloc_short_of_space(struct alloc_fs *a)
{
	s64 empty = alloc_usage_get(a, BCFS_ACCOUNTING_buckets_need_discard) +
		    __atomic_load_n(&a->nr_retire, __ATOMIC_RELAXED);
	s64 free = alloc_free_buckets(a);

	if (free <= (s64)a->watermark[ALLOC_WATERMARK_reserve])
		return empty > 0;
	return free <= (s64)a->reserve_buckets && empty >= (s64)a->discard_worth;
}

/* ---- filling ---- */

int alloc_bucket_look(struct btree_trans *trans, struct alloc_fs *a, u64 bucket, bool *ret_free,
		      bool *ret_exists, u8 *ret_gen)
{
	struct btree_iter iter;
	struct bcfs_alloc v;
	int ret;

	*ret_free = *ret_exists = false;
	if (ob_held(a, 0, bucket))
		return 0;
	btree_iter_init(trans, &iter, BTREE_ID_alloc, POS(0, bucket), 0);
	ret = alloc_key_look(&iter, &v, ret_exists);
	if (!ret) {
		*ret_free = v.data_type == BCFS_DATA_free;
		*ret_gen = v.gen;
	}
	btree_iter_exit(&iter);
	return ret;
}

bool alloc_is_journal_bucket(const struct alloc_fs *a, u64 bucket)
{
	unsigned l = 0, r = a->nr_journal_buckets;

	while (l < r) {
		unsigned m = l + (r - l) / 2;

		if (a->journal_buckets[m] < bucket)
			l = m + 1;
		else
			r = m;
	}
	return l < a->nr_journal_buckets && a->journal_buckets[l] == bucket;
}

/* The buckets of one run in [from, to], up to @want. */
static int scan_run(struct btree_trans *trans, struct alloc_fs *a, const struct free_run *r,
		    u64 from, u64 to, u32 want, struct candidates *c)
{
	u64 b = max(r->first, from), end = min(r->last, to);

	b = max(b, a->opts.first_bucket);
	end = min(end, a->opts.nr_buckets - 1);
	for (; b <= end && c->nr < want; b++) {
		bool is_free, exists;
		u8 gen = 0;
		int ret = alloc_bucket_look(trans, a, b, &is_free, &exists, &gen);

		if (ret)
			return ret;
		c->cursor = b + 1;
		if (is_free)
			c->d[c->nr++] = (struct candidate){b, gen};
	}
	return 0;
}

static int scan_freespace(struct btree_trans *trans, struct alloc_fs *a, u64 from, u64 to, u32 want,
			  struct candidates *c)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret = 0;

	btree_iter_init(trans, &iter, BTREE_ID_freespace, POS(0, from), 0);
	while (c->nr < want) {
		struct free_run r;

		k = btree_iter_peek_max(&iter, POS(0, UINT64_MAX));
		ret = bkey_err(k);
		if (ret || !k.k)
			break;
		if (alloc_run_of(k, &r)) {
			if (r.first > to)
				break;
			ret = scan_run(trans, a, &r, from, to, want, c);
			if (ret)
				break;
		}
		if (!btree_iter_advance(&iter))
			break;
	}
	btree_iter_exit(&iter);
	return ret;
}

static int fill_from_freespace(struct btree_trans *trans, struct alloc_fs *a, u32 want,
			       struct candidates *c)
{
	u64 start = a->freespace_cursor;
	int ret;

	*c = (struct candidates){.cursor = start};
	ret = scan_freespace(trans, a, start, a->opts.nr_buckets - 1, want, c);
	if (!ret && c->nr < want && start)
		ret = scan_freespace(trans, a, 0, start - 1, want, c);
	return ret;
}

static int fill_from_unused(struct btree_trans *trans, struct alloc_fs *a, u32 want, u64 from,
			    struct candidates *c)
{
	int ret = 0;
	u64 b;

	*c = (struct candidates){0};
	for (b = from; b < a->opts.nr_buckets && c->nr < want; b++) {
		bool is_free, exists;
		u8 gen = 0;

		if (alloc_is_journal_bucket(a, b))
			continue;
		ret = alloc_bucket_look(trans, a, b, &is_free, &exists, &gen);
		if (ret)
			break;
		if (is_free && !exists)
			c->d[c->nr++] = (struct candidate){b, gen};
	}
	c->cursor = b;
	return ret;
}

static u32 candidates_add(struct alloc_fs *a, const struct candidates *c)
{
	u32 nr = 0;

	env_mutex_lock(&a->lock);
	for (u32 i = 0; i < c->nr; i++)
		nr += ob_add_ready(a, 0, c->d[i].bucket, c->d[i].gen);
	env_mutex_unlock(&a->lock);
	return nr;
}

/* fill_lock is held. */
static int fill_locked(struct alloc_fs *a, struct btree_trans *trans, u32 want, u32 *ret_found)
{
	struct candidates c;
	u64 cursor, from;
	int ret;

	ret = lockrestart_do(trans, fill_from_freespace(trans, a, want, &c));
	if (ret)
		return ret;
	a->freespace_cursor = c.cursor < a->opts.nr_buckets ? c.cursor : 0;
	*ret_found = candidates_add(a, &c);
	if (*ret_found >= want)
		return 0;

	cursor = __atomic_load_n(&a->unused_cursor, __ATOMIC_RELAXED);
	from = max(cursor, a->opts.first_bucket);
	want -= *ret_found;
	ret = lockrestart_do(trans, fill_from_unused(trans, a, want, from, &c));
	if (ret)
		return ret;
	/* The cursor moves together with the rows: invariant 2. */
	env_mutex_lock(&a->lock);
	for (u32 i = 0; i < c.nr; i++) {
		if (!ob_add_ready(a, 0, c.d[i].bucket, c.d[i].gen)) {
			c.cursor = c.d[i].bucket;
			break;
		}
		++*ret_found;
	}
	/* Unless it went down meanwhile: what lies in between was not looked at. */
	if (a->unused_cursor == cursor && c.cursor > cursor)
		__atomic_store_n(&a->unused_cursor, c.cursor, __ATOMIC_RELAXED);
	env_mutex_unlock(&a->lock);
	return 0;
}

int alloc_fill_ready(struct alloc_fs *a, u32 *ret_found)
{
	u64 self = env_thread_self_id(a->env) + 1;
	struct btree_trans *trans;
	u32 want;
	int ret = 0;

	*ret_found = 0;
	if (__atomic_load_n(&a->fill_owner, __ATOMIC_RELAXED) == self)
		return 0; /* reading the btree led back here */
	trans = btree_trans_get(a->btree);
	env_mutex_lock(&a->fill_lock);
	__atomic_store_n(&a->fill_owner, self, __ATOMIC_RELAXED);

	env_mutex_lock(&a->lock);
	*ret_found = a->nr_ready;
	want = a->nr_ready < a->ready_batch ? a->ready_batch - a->nr_ready : 0;
	env_mutex_unlock(&a->lock);
	if (want) {
		u32 found = 0;

		ret = fill_locked(a, trans, want, &found);
		*ret_found += found;
	}

	__atomic_store_n(&a->fill_owner, 0, __ATOMIC_RELAXED);
	env_mutex_unlock(&a->fill_lock);
	btree_trans_put(trans);
	return ret;
}

/* ---- waiting ---- */

bool alloc_wait_for_space(struct alloc_fs *a, bool may_flush)
{
	u64 self = env_thread_self_id(a->env) + 1;
	u64 round, freed, need;
	bool hope;

	if (__atomic_load_n(&a->discard_owner, __ATOMIC_RELAXED) == self ||
	    __atomic_load_n(&a->compact_owner, __ATOMIC_RELAXED) == self ||
	    (!alloc_discards_pending(a) && !alloc_compact_wanted(a)) || journal_error(a->journal))
		return false;
	alloc_count(&a->counters.waits);
	if (!__atomic_load_n(&a->worker_runs, __ATOMIC_RELAXED)) {
		u64 nr_freed = 0;

		if (!may_flush || journal_flush(a->journal))
			return false;
		/* The second round frees what the first one gave a new generation. */
		for (int i = 0; i < 3 && !nr_freed; i++)
			if (alloc_discard_round(a, true, &nr_freed, &need) ||
			    journal_flush(a->journal))
				return false;
		return nr_freed;
	}

	env_mutex_lock(&a->lock);
	round = a->rounds;
	freed = a->rounds_freed;
	__atomic_add_fetch(&a->nr_waiting, 1, __ATOMIC_RELAXED);
	a->worker_kick = true;
	env_cond_signal(&a->worker_cond);
	/*
	 * Enough rounds to retire, flush, raise generations, flush and discard; but not for ever:
	 * the worker may itself be waiting for journal space that the caller is to make.
	 */
	for (unsigned i = 0;
	     i < WAIT_STEPS && a->rounds_freed == freed && a->rounds < round + 4 && !a->worker_stop;
	     i++)
		env_cond_timedwait(&a->freed, &a->lock, WAIT_STEP_NS);
	__atomic_sub_fetch(&a->nr_waiting, 1, __ATOMIC_RELAXED);
	hope = a->rounds_freed != freed;
	env_mutex_unlock(&a->lock);
	return hope;
}

int alloc_no_space(struct alloc_fs *a)
{
	int err;

	env_mutex_lock(&a->lock);
	err = a->rounds_err;
	env_mutex_unlock(&a->lock);
	alloc_count(&a->counters.nospc);
	return err && alloc_discards_pending(a) ? err : -BCFS_ERR_nospc;
}

/* ---- write points ---- */

enum alloc_take alloc_wp_open(struct alloc_fs *a, struct write_point *wp, enum bcfs_data_type type,
			      enum alloc_watermark watermark)
{
	enum alloc_take ret = ALLOC_TAKE_OK;
	bool refill = false;
	u64 bucket = 0;

	env_mutex_lock(&a->lock);
	if (alloc_free_buckets(a) <= (planted(no_reserve) ? 0 : (s64)a->watermark[watermark]))
		ret = ALLOC_TAKE_SHORT;
	else if (!(wp->ob = ob_open(a, type, wp == &a->gc_wp)))
		ret = ALLOC_TAKE_FILL;
	else
		bucket = a->ob[wp->ob].bucket;
	/* Time to find more, or to free what is empty? */
	if ((a->nr_ready <= a->ready_batch / 2 || alloc_short_of_space(a)) && !a->worker_kick)
		refill = a->worker_kick = true;
	if (refill)
		env_cond_signal(&a->worker_cond);
	env_mutex_unlock(&a->lock);

	if (!ret)
		bdev_new_life(a->bdev, bucket * a->opts.bucket_sectors * SECTOR_SIZE,
			      (u64)a->opts.bucket_sectors * SECTOR_SIZE);
	return ret;
}

/* Take over another write point's bucket; not copygc's, which lies in what is kept for it. */
static bool wp_steal(struct alloc_fs *a, struct write_point *wp)
{
	for (unsigned i = 0; i < a->nr_write_points && !wp->ob; i++) {
		struct write_point *o = &a->wp[i];

		if (o == wp || !env_mutex_trylock(&o->lock))
			continue;
		swap(wp->ob, o->ob);
		env_mutex_unlock(&o->lock);
	}
	if (wp->ob)
		alloc_count(&a->counters.buckets_stolen);
	return wp->ob;
}

/* The write point's lock is held. */
enum alloc_take alloc_wp_take(struct alloc_fs *a, struct write_point *wp, u32 sectors,
			      enum alloc_watermark watermark, struct alloc_sectors *ret)
{
	struct open_bucket *ob;
	enum alloc_take t;

	if (!wp->ob) {
		t = alloc_wp_open(a, wp, BCFS_DATA_user, watermark);
		if (t == ALLOC_TAKE_FILL)
			return t;
		if (t && (wp == &a->gc_wp || !wp_steal(a, wp)))
			return t;
	}
	env_mutex_lock(&a->lock);
	ob = &a->ob[wp->ob];
	ret->sectors = min(sectors, ob->sectors_free);
	ret->ptr = ob_carve(a, wp->ob, ret->sectors);
	ret->ob = wp->ob;
	if (!ob->sectors_free) {
		ob_put(a, wp->ob);
		wp->ob = 0;
	}
	env_mutex_unlock(&a->lock);
	return ALLOC_TAKE_OK;
}

void alloc_wp_trim(struct alloc_fs *a, struct write_point *wp, struct alloc_sectors *s, u32 sectors)
{
	u32 rest = s->sectors - sectors;
	struct open_bucket *ob;

	if (!rest)
		return;
	env_mutex_lock(&wp->lock);
	env_mutex_lock(&a->lock);
	ob = &a->ob[s->ob];
	/* Unless more was handed out meanwhile. What was used up is nobody's. */
	if ((wp->ob == s->ob || (!wp->ob && !ob->sectors_free)) &&
	    ob->bucket * a->opts.bucket_sectors + a->bucket_usable - ob->sectors_free ==
		    s->ptr.offset + s->sectors) {
		if (!wp->ob) {
			ob_get(a, (u16)s->ob);
			wp->ob = (u16)s->ob;
		}
		ob_trim(a, (u16)s->ob, rest);
		s->sectors = sectors;
	}
	env_mutex_unlock(&a->lock);
	env_mutex_unlock(&wp->lock);
}

static struct write_point *wp_of(struct alloc_fs *a, u64 stream)
{
	u64 h = stream * 0x9e3779b97f4a7c15ULL >> 32;

	return &a->wp[h % a->nr_write_points];
}

void alloc_sectors_trim(struct alloc_fs *a, u64 stream, struct alloc_sectors *s, u32 sectors)
{
	alloc_wp_trim(a, wp_of(a, stream), s, sectors);
}

u32 alloc_sectors_left(struct alloc_fs *a, u64 stream)
{
	struct write_point *wp = wp_of(a, stream);
	u32 ret = 0;

	env_mutex_lock(&wp->lock);
	if (wp->ob) {
		env_mutex_lock(&a->lock);
		ret = a->ob[wp->ob].sectors_free;
		env_mutex_unlock(&a->lock);
	}
	env_mutex_unlock(&wp->lock);
	return ret;
}

int alloc_sectors_get(struct alloc_fs *a, u64 stream, u32 sectors, struct alloc_sectors *ret)
{
	struct write_point *wp = wp_of(a, stream);
	unsigned tries = 0;
	u64 deadline = 0;
	int err;

	assert(sectors && sectors % a->opts.block_sectors == 0);
	for (;;) {
		enum alloc_take t;
		u32 found = 0;

		env_mutex_lock(&wp->lock);
		t = alloc_wp_take(a, wp, sectors, ALLOC_WATERMARK_user, ret);
		if (t == ALLOC_TAKE_FILL) {
			/* The lock goes: filling reads btrees. */
			env_mutex_unlock(&wp->lock);
			err = alloc_fill_ready(a, &found);
			if (err)
				return err;
			if (found)
				continue;
			env_mutex_lock(&wp->lock);
			if (!wp->ob)
				wp_steal(a, wp);
			if (wp->ob)
				t = alloc_wp_take(a, wp, sectors, ALLOC_WATERMARK_user, ret);
		}
		env_mutex_unlock(&wp->lock);
		if (!t)
			return 0;
		if (!deadline)
			deadline = env_mono_ns(a->env) + WAIT_NS;
		if (env_mono_ns(a->env) >= deadline)
			break;
		if (!alloc_wait_for_space(a, true) && !alloc_gc_wait_for(a, deadline) &&
		    (++tries == WAIT_TRIES ||
		     (!alloc_discards_pending(a) && !alloc_compact_wanted(a))))
			break;
	}
	return alloc_no_space(a);
}

void alloc_sectors_done(struct alloc_fs *a, struct alloc_sectors *s)
{
	__atomic_fetch_sub(&a->in_flight, s->sectors, __ATOMIC_RELAXED);
	env_mutex_lock(&a->lock);
	ob_put(a, s->ob);
	env_mutex_unlock(&a->lock);
	s->ob = 0;
}

void alloc_bucket_hold(struct alloc_fs *a, u32 ob)
{
	env_mutex_lock(&a->lock);
	ob_get(a, ob);
	env_mutex_unlock(&a->lock);
}

void alloc_bucket_release(struct alloc_fs *a, u32 ob)
{
	env_mutex_lock(&a->lock);
	ob_put(a, ob);
	env_mutex_unlock(&a->lock);
}

static void wp_close(struct alloc_fs *a, struct write_point *wp)
{
	env_mutex_lock(&a->lock);
	ob_put(a, wp->ob);
	env_mutex_unlock(&a->lock);
	wp->ob = 0;
}

static void wp_close_if_idle(struct alloc_fs *a, struct write_point *wp, u64 bucket)
{
	bool idle;

	if (!env_mutex_trylock(&wp->lock))
		return;
	if (wp->ob) {
		env_mutex_lock(&a->lock);
		idle = a->ob[wp->ob].bucket == bucket && a->ob[wp->ob].refs == 1;
		env_mutex_unlock(&a->lock);
		/* Only the holder of wp->lock carves more. */
		if (idle)
			wp_close(a, wp);
	}
	env_mutex_unlock(&wp->lock);
}

void alloc_wp_close_idle(struct alloc_fs *a, u64 bucket)
{
	for (unsigned i = 0; i < a->nr_write_points; i++)
		wp_close_if_idle(a, &a->wp[i], bucket);
	wp_close_if_idle(a, &a->btree_wp, bucket);
	wp_close_if_idle(a, &a->gc_wp, bucket);
}

void alloc_wp_close_all(struct alloc_fs *a)
{
	env_mutex_lock(&a->lock);
	while (a->nr_nodes) {
		const struct bcfs_extent_ptr *p = &a->nodes[--a->nr_nodes];

		ob_put(a, ob_find(a, p->dev, p->offset / a->opts.bucket_sectors));
	}
	env_mutex_unlock(&a->lock);
	for (unsigned i = 0; i < a->nr_write_points + 2; i++) {
		struct write_point *wp = i < a->nr_write_points	   ? &a->wp[i]
					 : i == a->nr_write_points ? &a->btree_wp
								   : &a->gc_wp;

		env_mutex_lock(&wp->lock);
		if (wp->ob)
			wp_close(a, wp);
		env_mutex_unlock(&wp->lock);
	}
}
