// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * From empty to free. A round walks need_discard once; a bucket there is
 *
 *  - taken from a write point that has nothing under way in it, else skipped while it is open;
 *  - given its new generation, if it was open when it became empty;
 *  - skipped until the journal entry in which it became empty is durable;
 *  - discarded on the device and made free, in one commit for a batch: its alloc key goes.
 *
 * A batch lies within one group of generations, so that its commit holds one key of them.
 *
 * All commits here may use the journal space that is kept for reclaim: reclaim writes nodes
 * elsewhere, and may be waiting for the very buckets that are made free here. So that they do not
 * use it up the worker lets them be while the journal is low, unless buckets are short.
 *
 * Only a holder of discard_lock changes a bucket in need_discard that is not open, so what one
 * transaction found still holds in the next.
 */
#include "alloc/alloc_private.h"
#include "util/planted.h"

#define DISCARD_BATCH  16
#define ROUND_IDLE_NS  (250 * ENV_NSEC_PER_MSEC)
#define ROUND_SHORT_NS (2 * ENV_NSEC_PER_MSEC)
#define ROUNDS_IN_VAIN 8

/*
 * Where interior updates find no place any more, leaves take what is discarded into their slack in
 * memory, without being rewritten for it.
 */
static unsigned commit_flags(struct alloc_fs *a)
{
	bool tight = alloc_free_buckets(a) <= (s64)a->watermark[ALLOC_WATERMARK_reserve];

	return BTREE_COMMIT_RECLAIM | (tight ? BTREE_COMMIT_SLACK : 0);
}

bool alloc_discards_pending(struct alloc_fs *a)
{
	return alloc_usage_get(a, BCFS_ACCOUNTING_buckets_need_discard) > 0 ||
	       __atomic_load_n(&a->nr_retire, __ATOMIC_RELAXED);
}

/* ---- retiring ---- */

/* The hook raises the generation: the row is not OPEN. */
static int retire_in_trans(struct btree_trans *trans, u8 dev, u64 bucket)
{
	struct btree_iter iter;
	struct bcfs_alloc v;
	int ret;

	ret = alloc_key_get(trans, &iter, dev, bucket, &v, NULL);
	if (!ret && v.data_type == BCFS_DATA_free) {
		v.data_type = BCFS_DATA_need_discard;
		ret = alloc_key_put(trans, &iter, &v);
	}
	btree_iter_exit(&iter);
	return ret;
}

static int retire_all(struct alloc_fs *a, struct btree_trans *trans)
{
	while (1) {
		u64 bucket = 0;
		u8 dev = 0;
		u16 idx;
		int ret;

		env_mutex_lock(&a->lock);
		idx = ob_retire_first(a);
		if (idx) {
			bucket = a->ob[idx].bucket;
			dev = a->ob[idx].dev;
		}
		env_mutex_unlock(&a->lock);
		if (!idx)
			return 0;
		ret = commit_do(trans, NULL, commit_flags(a), retire_in_trans(trans, dev, bucket));
		if (ret)
			return ret;
		env_mutex_lock(&a->lock);
		ob_retire_done(a, idx);
		env_mutex_unlock(&a->lock);
		alloc_count(&a->counters.buckets_retired);
	}
}

/* ---- need_discard ---- */

struct discard_batch {
	u32 nr;
	u64 bucket[DISCARD_BATCH];
	bool raise_gen[DISCARD_BATCH]; /* else: make it free */
	u64 next;		       /* where to go on */
	bool end;
};

/* The next buckets of need_discard that something can be done with; *need: the seq others wait for.
 */
static int collect(struct btree_trans *trans, struct alloc_fs *a, u64 from, u64 flushed,
		   struct discard_batch *b, u64 *need)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret = 0;

	*b = (struct discard_batch){.next = from};
	btree_iter_init(trans, &iter, BTREE_ID_need_discard, POS(0, from), 0);
	for (unsigned looked = 0; b->nr < DISCARD_BATCH && looked < 8 * DISCARD_BATCH; looked++) {
		struct btree_iter aiter;
		struct bcfs_alloc v;
		u64 bucket;

		k = btree_iter_peek_max(&iter, POS(0, UINT64_MAX));
		ret = bkey_err(k);
		if (ret)
			break;
		if (!k.k) {
			b->end = true;
			break;
		}
		bucket = k.k->p.offset;
		if (b->nr && b->bucket[0] / BCFS_ALLOC_GENS_GROUP != bucket / BCFS_ALLOC_GENS_GROUP)
			break;
		b->next = bucket + 1;
		/* Closing under node locks: only try-locks and the leaf lock. */
		if (ob_held(a, 0, bucket))
			alloc_wp_close_idle(a, bucket);
		if (!ob_held(a, 0, bucket)) {
			btree_iter_init(trans, &aiter, BTREE_ID_alloc, POS(0, bucket), 0);
			k = btree_iter_peek_slot(&aiter);
			ret = bkey_err(k);
			if (!ret)
				v = alloc_val(k);
			btree_iter_exit(&aiter);
			if (ret)
				break;
			if (v.data_type != BCFS_DATA_need_discard)
				log_err_ratelimited(a->log, &a->log_limit,
						    "need_discard lists bucket %llu, which is %s; "
						    "run fsck",
						    (unsigned long long)bucket,
						    alloc_data_type_name(v.data_type));
			else if (v.flags & BCFS_ALLOC_NEED_INC_GEN)
				b->raise_gen[b->nr] = true, b->bucket[b->nr++] = bucket;
			else if (v.journal_seq_empty > flushed && !planted(reuse_before_durable))
				*need = max(*need, v.journal_seq_empty);
			else
				b->raise_gen[b->nr] = false, b->bucket[b->nr++] = bucket;
		}
		if (!btree_iter_advance(&iter)) {
			b->end = true;
			break;
		}
	}
	btree_iter_exit(&iter);
	return ret;
}

/* A failed discard loses nothing: the space is as good without. */
static void discard_on_device(struct alloc_fs *a, const struct discard_batch *b)
{
	u64 bytes = (u64)a->opts.bucket_sectors * SECTOR_SIZE;

	if (!a->opts.discard || !a->bdev->can_discard)
		return;
	for (u32 i = 0, n; i < b->nr; i += n) {
		n = 1;
		if (b->raise_gen[i] && !planted(discard_before_durable))
			continue;
		while (i + n < b->nr && !b->raise_gen[i + n] &&
		       b->bucket[i + n] == b->bucket[i] + n)
			n++;
		int ret = bdev_discard(a->bdev, b->bucket[i] * bytes, n * bytes);

		if (ret)
			log_warn_ratelimited(a->log, &a->log_limit, "discard failed: %s",
					     err_str(ret));
	}
}

static int update_batch(struct btree_trans *trans, const struct discard_batch *b)
{
	for (u32 i = 0; i < b->nr; i++) {
		struct btree_iter iter;
		struct bcfs_alloc v;
		int ret;

		ret = alloc_key_get(trans, &iter, 0, b->bucket[i], &v, NULL);
		if (!ret && v.data_type == BCFS_DATA_need_discard) {
			if (b->raise_gen[i]) {
				v.gen++;
				v.oldest_gen = v.gen;
				v.flags &= ~BCFS_ALLOC_NEED_INC_GEN;
				ret = alloc_key_put(trans, &iter, &v);
			} else {
				ret = btree_trans_delete_at(trans, &iter, 0);
			}
		}
		btree_iter_exit(&iter);
		if (ret)
			return ret;
	}
	return 0;
}

static int discard_all(struct alloc_fs *a, struct btree_trans *trans, u64 *freed, u64 *need)
{
	struct discard_batch b = {0};
	int ret = 0;

	while (!b.end && !ret) {
		u64 flushed = journal_flushed_seq(a->journal), from = b.next, seq = 0, nr = 0, n;

		do {
			n = *need;
			btree_trans_begin(trans);
			ret = collect(trans, a, from, flushed, &b, &n);
		} while (err_is_restart(ret));
		*need = n;
		btree_trans_unlock(trans);
		if (ret || !b.nr)
			continue;
		discard_on_device(a, &b);
		ret = commit_do(trans, &seq, commit_flags(a), update_batch(trans, &b));
		if (ret)
			break;
		for (u32 i = 0; i < b.nr; i++) {
			if (b.raise_gen[i])
				*need = max(*need, seq);
			else
				nr++;
		}
		*freed += nr;
		__atomic_fetch_add(&a->counters.buckets_discarded, nr, __ATOMIC_RELAXED);
	}
	return ret;
}

/* One that found no place for its own nodes is had again, when others gave theirs back. */
static void note_round(struct alloc_fs *a, int ret)
{
	if (ret == -BCFS_ERR_nospc)
		return;
	a->rounds++;
	a->rounds_err = ret;
}

int alloc_discard_round(struct alloc_fs *a, bool discard, u64 *ret_freed, u64 *ret_need_seq)
{
	u64 self = env_thread_self_id(a->env) + 1, freed = 0, need = 0;
	struct btree_trans *trans;
	int ret;

	env_mutex_lock(&a->discard_lock);
	__atomic_store_n(&a->discard_owner, self, __ATOMIC_RELAXED);
	trans = btree_trans_get(a->btree);

	ret = retire_all(a, trans);
	if (!ret && discard)
		ret = discard_all(a, trans, &freed, &need);
	a->freed_some |= freed;

	btree_trans_put(trans);
	__atomic_store_n(&a->discard_owner, 0, __ATOMIC_RELAXED);
	env_mutex_unlock(&a->discard_lock);

	env_mutex_lock(&a->lock);
	note_round(a, ret);
	a->rounds_freed += freed;
	env_cond_broadcast(&a->freed);
	env_mutex_unlock(&a->lock);
	*ret_freed = freed;
	*ret_need_seq = need;
	return ret;
}

int alloc_do_discards(struct alloc_fs *a)
{
	u64 freed, need;
	int ret;

	/* Close, retire, raise generations: each step waits for the journal once. */
	for (int idle = 0; idle < 2;) {
		if (!alloc_discards_pending(a))
			return 0;
		ret = journal_flush(a->journal);
		if (!ret)
			ret = alloc_discard_round(a, true, &freed, &need);
		if (ret)
			return ret;
		idle = freed || need ? 0 : idle + 1;
	}
	return 0;
}

/* ---- used_mark ---- */

static int move_mark(struct btree_trans *trans, u64 from, u64 to)
{
	btree_trans_account(trans, BCFS_ACCOUNTING_used_mark, to - from);
	return btree_trans_log_msg(trans, "used_mark %llu", (unsigned long long)to);
}

/*
 * The last run of freespace becomes space without keys again. The cursor goes back with the mark:
 * what the run had without a row is to be found there now. discard_lock is held.
 */
static int lower_mark(struct alloc_fs *a, bool always)
{
	struct btree_trans *trans = btree_trans_get(a->btree);
	u64 to, seq;
	int ret;

	ret = commit_do(trans, &seq, BTREE_COMMIT_RECLAIM,
			alloc_run_drop_last(trans, a, always ? 1 : ALLOC_MARK_STEP, &to));
	btree_trans_put(trans);
	if (!ret && seq) {
		env_mutex_lock(&a->lock);
		if (to < a->unused_cursor && !planted(cursor_stays))
			__atomic_store_n(&a->unused_cursor, to, __ATOMIC_RELAXED);
		env_mutex_unlock(&a->lock);
	}
	return ret;
}

int alloc_move_mark(struct alloc_fs *a, bool always)
{
	u64 from, to, self = env_thread_self_id(a->env) + 1;
	struct btree_trans *trans;
	int ret = 0;

	env_mutex_lock(&a->discard_lock);
	__atomic_store_n(&a->discard_owner, self, __ATOMIC_RELAXED);
	env_mutex_lock(&a->lock);
	from = alloc_mark(a);
	to = min(a->unused_cursor, ob_first_uncounted(a, from));
	env_mutex_unlock(&a->lock);
	if (to > from && (always || to - from >= ALLOC_MARK_STEP)) {
		trans = btree_trans_get(a->btree);
		ret = commit_do(trans, NULL, BTREE_COMMIT_RECLAIM, move_mark(trans, from, to));
		btree_trans_put(trans);
	}
	if (!ret && a->freed_some) {
		a->freed_some = false;
		ret = lower_mark(a, always);
	}
	__atomic_store_n(&a->discard_owner, 0, __ATOMIC_RELAXED);
	env_mutex_unlock(&a->discard_lock);
	return ret;
}

/* ---- the worker ---- */

static bool worker_stopping(const struct alloc_fs *a)
{
	return __atomic_load_n(&a->worker_stop, __ATOMIC_RELAXED);
}

static void worker_wait(struct alloc_fs *a, u64 ns)
{
	env_mutex_lock(&a->lock);
	if (!a->worker_kick && !a->worker_stop)
		env_cond_timedwait(&a->worker_cond, &a->lock, ns);
	a->worker_kick = false;
	env_mutex_unlock(&a->lock);
}

/*
 * When space is short: ask for a flush and give it time, without waiting for it for ever. A round
 * that frees but a few of many may take more places, for nodes that it has to rewrite, than it
 * gives.
 */
static void worker_wait_flushed(struct alloc_fs *a)
{
	u64 seq = __atomic_load_n(&a->empty_seq, __ATOMIC_RELAXED);

	if (journal_flushed_seq(a->journal) >= seq)
		return;
	journal_flush_async(a->journal, seq);
	for (unsigned i = 0; i < 500 && !worker_stopping(a) && !journal_error(a->journal) &&
			     journal_flushed_seq(a->journal) < seq;
	     i++)
		env_sleep_ns(a->env, ROUND_SHORT_NS);
}

/*
 * While all is written at the end a round would make more dirty: then there is none but for who
 * waits (settle.c).
 */
static bool round_wanted(struct alloc_fs *a, bool waiting, bool flushed)
{
	if (__atomic_load_n(&a->settling, __ATOMIC_RELAXED) &&
	    !__atomic_load_n(&a->settle_buckets, __ATOMIC_RELAXED))
		return __atomic_load_n(&a->nr_waiting, __ATOMIC_RELAXED);
	return waiting || __atomic_load_n(&a->nr_retire, __ATOMIC_RELAXED) ||
	       (flushed && alloc_discards_pending(a));
}

/* A check of all that there is walks in peace, but for who waits for a place. */
static bool may_compact(const struct alloc_fs *a)
{
	return !__atomic_load_n(&a->nr_checks, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&a->nr_waiting, __ATOMIC_RELAXED);
}

void alloc_worker(void *arg)
{
	struct alloc_fs *a = arg;
	unsigned in_vain = 0;
	u64 flushed_before = 0;
	u32 found;

	while (!worker_stopping(a)) {
		u64 flushed, freed = 0, need = 0, moved = 0;
		bool waiting = __atomic_load_n(&a->nr_waiting, __ATOMIC_RELAXED) ||
			       alloc_short_of_space(a);
		bool may = waiting || !journal_is_low(a->journal);
		int ret = journal_error(a->journal);

		if (!ret && waiting)
			worker_wait_flushed(a);
		flushed = journal_flushed_seq(a->journal);
		if (!ret && may && round_wanted(a, waiting, flushed != flushed_before)) {
			ret = alloc_discard_round(a, true, &freed, &need);
			flushed_before = flushed;
		}
		if (!ret && may_compact(a) && alloc_compact_wanted(a))
			ret = alloc_compact_nodes(a, &moved);
		if (!ret && may)
			ret = alloc_move_mark(a, false);
		if (!ret && __atomic_load_n(&a->nr_ready, __ATOMIC_RELAXED) <= a->ready_batch / 2)
			ret = alloc_fill_ready(a, &found);
		if (ret) {
			/* That all has stopped is said by who stopped it; and places come back. */
			if (ret != -BCFS_ERR_btree_halted && !journal_error(a->journal) &&
			    (ret != -BCFS_ERR_nospc || ++in_vain >= ROUNDS_IN_VAIN))
				log_err_ratelimited(a->log, &a->log_limit,
						    "freeing empty buckets: %s", err_str(ret));
			/* Those who wait must not wait for ever. */
			env_mutex_lock(&a->lock);
			note_round(a, ret);
			env_cond_broadcast(&a->freed);
			env_mutex_unlock(&a->lock);
			/* It is kicked, by its own attempt if by nobody else. */
			env_sleep_ns(a->env, ROUND_SHORT_NS);
		} else {
			in_vain = 0;
		}
		worker_wait(a, ret || !(freed || need || moved) ? ROUND_IDLE_NS : ROUND_SHORT_NS);
	}
}
