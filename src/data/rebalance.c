// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Rebalance: a thread that rewrites extents as they are to be, which today is: compressed so
 * (doc/adr/0030).
 *
 *  1. What an extent is to become is an entry of its key, written with the key, or by a scan. A key
 *     with an entry that was not tried has one at the same position in rebalance_work, put there
 * and taken away by the trigger, so always in the same transaction, whatever happens to the extent.
 *  2. The thread goes through rebalance_work in order and round again. What it has read is written
 *     by move.c, which replaces a key only where the data still lie where they were read.
 *  3. Data that do not become less keep the entry, marked as tried: they are work no more, until
 *     something else is wanted of them.
 *  4. Nobody waits for it: it begins a while after there is work, rests between its batches while
 *     others read and write, and stops while space is short (alloc_may_rewrite()).
 */
#include "codec/codec.h"
#include "data/data_private.h"
#include "util/planted.h"

#include <string.h>

#define BATCH_SECTORS  2048U			 /* of files */
#define BATCH_LOOK     64U			 /* keys of rebalance_work */
#define DELAY_NS       (100 * ENV_NSEC_PER_MSEC) /* what was just written may change soon */
#define SPACE_NS       ENV_NSEC_PER_SEC
#define ERROR_NS       (5 * ENV_NSEC_PER_SEC)
#define REST_MAX_NS    ENV_NSEC_PER_SEC
#define REST_TIMES     3U /* as long as the batch took */
#define NEVER	       UINT64_MAX
#define MARGIN_BUCKETS 4ULL /* to be left for others */

struct rebalance_batch {
	bool end;	  /* there is no more work behind */
	struct bpos next; /* where to go on */
	unsigned nr, nr_odd;
	u32 sectors;
	struct bpos odd[BATCH_LOOK]; /* work of nothing, or of what cannot be rewritten */
	union data_key keys[DATA_REWRITE_MAX];
};

struct data_rebalance {
	struct data_fs *d;
	struct env_mutex lock;
	struct env_cond cond;
	struct env_thread *thread;	 /* lock; NULL: there was nothing to do yet */
	bool stop, kicked, paused;	 /* lock */
	enum data_rebalance_state state; /* lock, as the next */
	int err;
	struct bpos pos; /* the thread's to change, with the lock */
	bool progress;	 /* since it came by the beginning */
	struct ratelimit log_limit;
	struct rebalance_batch *batch;
	/* Atomic. */
	u64 rebalanced, rebalanced_from, rebalanced_to, in_vain, gone, waits;
};

/* ---- which, and how ---- */

bool rebalance_wants(const struct data_fs *d, const struct data_file *f, u32 sectors, u8 stored,
		     int by, struct bcfs_extent_rebalance *ret)
{
	u16 want = f->background;

	*ret = (struct bcfs_extent_rebalance){0};
	/* A block does not become less. */
	if (!compression_opt_type(want) || sectors <= d->block_sectors || by == want)
		return false;
	/* Of what is there already the level is not known. */
	if (stored == compression_opt_type(want) && by < 0)
		return false;
	ret->type = BCFS_EXTENT_ENTRY_rebalance;
	ret->compression = want;
	return true;
}

void rebalance_set_entry(struct bkey_i *k, const struct bcfs_extent_rebalance *r)
{
	const struct bcfs_extent_rebalance *old;

	while ((old = extent_rebalance(bkey_i_to_s_c(k)))) {
		u64 *p = (u64 *)old, *end = (u64 *)k->v + bkey_val_u64s(&k->k);

		memmove(p, p + 1, (size_t)(end - p - 1) * sizeof(*p));
		set_bkey_val_u64s(&k->k, bkey_val_u64s(&k->k) - 1);
	}
	if (r->type) {
		memcpy((u64 *)k->v + bkey_val_u64s(&k->k), r, sizeof(*r));
		set_bkey_val_u64s(&k->k, bkey_val_u64s(&k->k) + 1);
	}
}

bool rebalance_set_tried(struct bkey_i *k)
{
	struct bcfs_extent_rebalance *r =
		(struct bcfs_extent_rebalance *)extent_rebalance(bkey_i_to_s_c(k));

	if (!r)
		return false;
	r->tried = 1;
	return true;
}

size_t rebalance_compress_mem(u16 compression)
{
	size_t max_bytes = (size_t)BCFS_EXTENT_MAX_SECTORS * SECTOR_BYTES;

	return compress_bytes(compression_opt_type(compression), compression_opt_level(compression),
			      max_bytes);
}

int rebalance_work_mod(struct btree_trans *trans, struct bpos pos, bool set)
{
	struct bkey_i *k =
		btree_trans_alloc_key(trans, set ? KEY_TYPE_set : KEY_TYPE_deleted, pos, 0);

	return btree_trans_insert(trans, BTREE_ID_rebalance_work, k, 0);
}

int rebalance_trigger(struct btree_trans *trans, struct bkey_s_c old, struct bkey_s_c new)
{
	bool had = extent_has_work(old), has = extent_has_work(new);
	s64 delta = (has ? (s64) new.k->size : 0) - (had ? (s64)old.k->size : 0);

	if (delta)
		btree_trans_account(trans, BCFS_ACCOUNTING_rebalance, delta);
	if (had == has)
		return 0;
	if (!has && new.k->type == KEY_TYPE_extent && planted(rebalance_work_kept))
		return 0;
	return rebalance_work_mod(trans, new.k->p, has);
}

/* ---- a batch ---- */

static int key_of_work(struct btree_trans *trans, struct bpos pos, struct btree_iter *iter,
		       struct bkey_s_c *ret)
{
	btree_iter_init(trans, iter, pos.inode ? BTREE_ID_extents : BTREE_ID_reflink, pos,
			BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS | BTREE_ITER_INTENT);
	*ret = btree_iter_peek_slot(iter);
	return bkey_err(*ret);
}

static int collect_one(struct btree_trans *trans, struct data_fs *d, struct rebalance_batch *b,
		       struct bpos pos)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret = key_of_work(trans, pos, &iter, &k);

	if (!ret && extent_has_work(k) && data_rewritable(d, k)) {
		bkey_reassemble(&b->keys[b->nr++].k, k);
		b->sectors += k.k->size;
	} else if (!ret) {
		b->odd[b->nr_odd++] = pos;
	}
	btree_iter_exit(&iter);
	return ret;
}

static int collect(struct btree_trans *trans, struct data_fs *d, struct rebalance_batch *b,
		   struct bpos from)
{
	struct btree_iter iter;
	int ret = 0;

	b->nr = b->nr_odd = b->sectors = 0;
	b->end = false;
	b->next = from;
	btree_iter_init(trans, &iter, BTREE_ID_rebalance_work, from, 0);
	while (b->nr < DATA_REWRITE_MAX && b->sectors < BATCH_SECTORS && b->nr_odd < BATCH_LOOK) {
		struct bkey_s_c k = btree_iter_peek(&iter);
		struct bpos pos;

		ret = bkey_err(k);
		if (ret)
			break;
		b->end = !k.k;
		if (!k.k)
			break;
		pos = k.k->p;
		ret = collect_one(trans, d, b, pos);
		if (ret)
			break;
		b->next = bpos_successor(pos);
		b->end = !btree_iter_advance(&iter);
		if (b->end)
			break;
	}
	btree_iter_exit(&iter);
	return ret;
}

/* What has no work is none; what cannot be rewritten, in whatever version, was tried. */
static int odd_step(struct btree_trans *trans, struct data_fs *d, struct bpos pos)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	struct bkey_i *n;
	int ret = key_of_work(trans, pos, &iter, &k);

	if (!ret && !extent_has_work(k)) {
		ret = rebalance_work_mod(trans, pos, false);
	} else if (!ret && !data_rewritable(d, k)) {
		n = btree_trans_copy_key(trans, k, 0);
		rebalance_set_tried(n);
		ret = btree_trans_update(trans, &iter, n, BTREE_UPDATE_NO_EXTENT);
	}
	/* What it is about is watched until it is done. */
	ret = ret ?: btree_trans_commit(trans, BTREE_COMMIT_KEEPS, NULL);
	btree_iter_exit(&iter);
	return ret;
}

/* ---- the thread ---- */

static void count(u64 *counter, u64 n)
{
	if (n)
		__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static int rewrite(struct data_rebalance *r)
{
	struct rebalance_batch *b = r->batch;
	struct disk_reservation res = {0};
	struct data_fs *d = r->d;
	struct data_rewritten done;
	struct alloc_usage u;
	int ret;

	/* A writer who asks meanwhile is not to go without. */
	alloc_usage(d->alloc, &u);
	if (u.free < 2 * b->sectors + MARGIN_BUCKETS * alloc_bucket_sectors(d->alloc))
		return -BCFS_ERR_nospc;
	ret = disk_reservation_get(d->alloc, &res, b->sectors);
	if (!ret) {
		ret = data_rewrite(d, b->keys, b->nr, &done);
		count(&r->rebalanced, done.sectors);
		count(&r->rebalanced_from, done.from);
		count(&r->rebalanced_to, done.to);
		count(&r->in_vain, done.in_vain);
		count(&r->gone, done.gone);
		r->progress |= done.sectors || done.in_vain;
	}
	disk_reservation_put(d->alloc, &res);
	return ret;
}

static int one_batch(struct data_rebalance *r)
{
	struct btree_trans *trans = btree_trans_get(r->d->btree);
	struct rebalance_batch *b = r->batch;
	int ret = lockrestart_do(trans, collect(trans, r->d, b, r->pos));

	for (unsigned i = 0; !ret && i < b->nr_odd; i++) {
		ret = lockrestart_do(trans, odd_step(trans, r->d, b->odd[i]));
		r->progress = true;
	}
	btree_trans_put(trans);
	return ret ?: b->nr ? rewrite(r) : 0;
}

static void set_state(struct data_rebalance *r, enum data_rebalance_state state, int err)
{
	env_mutex_lock(&r->lock);
	r->state = state;
	r->err = err;
	env_mutex_unlock(&r->lock);
}

static void set_pos(struct data_rebalance *r, struct bpos pos)
{
	env_mutex_lock(&r->lock);
	r->pos = pos;
	env_mutex_unlock(&r->lock);
}

/* How long it is to wait now. */
static u64 failed(struct data_rebalance *r, int err)
{
	if (err == -BCFS_ERR_nospc) {
		count(&r->waits, 1);
		set_state(r, DATA_REBALANCE_SPACE, 0);
		return SPACE_NS;
	}
	if (err != -BCFS_ERR_journal_shutdown && err != -BCFS_ERR_btree_halted)
		log_err_ratelimited(r->d->log, &r->log_limit, "%s: rebalance: %s", r->d->bdev->name,
				    err_str(err));
	set_state(r, DATA_REBALANCE_ERROR, err);
	return ERROR_NS;
}

static u64 step(struct data_rebalance *r)
{
	bool first = bpos_eq(r->pos, POS_MIN);
	struct data_fs *d = r->d;
	u64 begin, took, requests;
	int ret;

	if (alloc_gc_stopping(d->alloc)) {
		set_state(r, DATA_REBALANCE_OFF, 0);
		return NEVER;
	}
	if (!alloc_may_rewrite(d->alloc))
		return failed(r, -BCFS_ERR_nospc);
	set_state(r, DATA_REBALANCE_WORKING, 0);
	if (first)
		r->progress = false;
	begin = env_mono_ns(d->env);
	requests = __atomic_load_n(&d->nr_requests, __ATOMIC_RELAXED);
	__atomic_store_n(&d->rebalancing, true, __ATOMIC_RELAXED);
	ret = one_batch(r);
	__atomic_store_n(&d->rebalancing, false, __ATOMIC_RELAXED);
	if (ret)
		return failed(r, ret);
	if (first && !r->batch->nr && !r->batch->nr_odd) {
		set_state(r, DATA_REBALANCE_IDLE, 0);
		return NEVER;
	}
	set_pos(r, r->batch->end ? POS_MIN : r->batch->next);
	/* All that was left had changed. */
	if (r->batch->end && !r->progress)
		return DELAY_NS;
	if (requests == __atomic_load_n(&d->nr_requests, __ATOMIC_RELAXED))
		return 0;
	took = env_mono_ns(d->env) - begin;
	return min(REST_TIMES * took, REST_MAX_NS);
}

/* False: it is to end. @ns: unless there is something new, if that is NEVER. */
static bool wait(struct data_rebalance *r, u64 ns)
{
	u64 end = ns == NEVER ? NEVER : env_mono_ns(r->d->env) + ns, now;
	bool delay = false, go_on;

	env_mutex_lock(&r->lock);
	while (!r->stop) {
		if (end == NEVER && r->kicked) {
			end = env_mono_ns(r->d->env) + DELAY_NS;
			delay = true;
		}
		if (r->paused || end == NEVER) {
			env_cond_wait(&r->cond, &r->lock);
			continue;
		}
		now = env_mono_ns(r->d->env);
		if (now >= end)
			break;
		env_cond_timedwait(&r->cond, &r->lock, end - now);
	}
	/* What becomes work from now on is found, or kicks again. */
	if (ns == NEVER || delay)
		__atomic_store_n(&r->kicked, false, __ATOMIC_RELAXED);
	go_on = !r->stop;
	env_mutex_unlock(&r->lock);
	return go_on;
}

static void rebalance_thread(void *arg)
{
	struct data_rebalance *r = arg;
	u64 ns = NEVER;

	while (wait(r, ns))
		ns = step(r);
}

void rebalance_kick(struct data_fs *d)
{
	struct data_rebalance *r = d->rebalance;

	if (!r || __atomic_load_n(&r->kicked, __ATOMIC_RELAXED))
		return;
	env_mutex_lock(&r->lock);
	/* Where that fails, the next one tries again. */
	if (!r->stop && !r->thread &&
	    env_thread_start(d->env, &r->thread, "bcfs-rebalance", rebalance_thread, r))
		r->thread = NULL;
	if (r->thread)
		__atomic_store_n(&r->kicked, true, __ATOMIC_RELAXED);
	env_cond_signal(&r->cond);
	env_mutex_unlock(&r->lock);
}

/* ---- its life ---- */

static u64 work_sectors(struct data_fs *d)
{
	struct alloc_usage u;

	alloc_usage(d->alloc, &u);
	return (u64)max_t(s64, u.counters[BCFS_ACCOUNTING_rebalance], 0);
}

int data_rebalance_start(struct data_fs *d)
{
	struct data_rebalance *r = env_zalloc(d->env, sizeof(*r));

	if (!r)
		return -BCFS_ERR_nomem;
	r->batch = env_malloc(d->env, sizeof(*r->batch));
	if (!r->batch) {
		env_free(d->env, r);
		return -BCFS_ERR_nomem;
	}
	r->d = d;
	r->log_limit = RATELIMIT_DEFAULT;
	env_mutex_init(&r->lock, d->env);
	env_cond_init(&r->cond, d->env);
	d->rebalance = r;
	if (work_sectors(d))
		rebalance_kick(d);
	return 0;
}

void data_rebalance_stop(struct data_fs *d)
{
	struct data_rebalance *r = d->rebalance;

	if (!r)
		return;
	env_mutex_lock(&r->lock);
	r->stop = true;
	env_cond_broadcast(&r->cond);
	env_mutex_unlock(&r->lock);
	if (r->thread)
		env_thread_join(r->thread);
	d->rebalance = NULL;
	env_cond_destroy(&r->cond);
	env_mutex_destroy(&r->lock);
	env_free(d->env, r->batch);
	env_free(d->env, r);
}

void data_rebalance_pause(struct data_fs *d, bool pause)
{
	struct data_rebalance *r = d->rebalance;

	if (!r)
		return;
	env_mutex_lock(&r->lock);
	r->paused = pause;
	env_cond_broadcast(&r->cond);
	env_mutex_unlock(&r->lock);
}

void data_rebalance_status(struct data_fs *d, struct data_rebalance_status *ret)
{
	struct data_rebalance *r = d->rebalance;

	*ret = (struct data_rebalance_status){.state = DATA_REBALANCE_OFF, .todo = work_sectors(d)};
	if (!r)
		return;
	env_mutex_lock(&r->lock);
	ret->state = r->paused ? DATA_REBALANCE_PAUSED : r->state;
	ret->err = r->err;
	ret->pos = r->pos;
	env_mutex_unlock(&r->lock);
}

void rebalance_counters(struct data_fs *d, struct data_counters *ret)
{
	const struct data_rebalance *r = d->rebalance;

	if (!r)
		return;
	ret->rebalanced = __atomic_load_n(&r->rebalanced, __ATOMIC_RELAXED);
	ret->rebalanced_from = __atomic_load_n(&r->rebalanced_from, __ATOMIC_RELAXED);
	ret->rebalanced_to = __atomic_load_n(&r->rebalanced_to, __ATOMIC_RELAXED);
	ret->rebalance_in_vain = __atomic_load_n(&r->in_vain, __ATOMIC_RELAXED);
	ret->rebalance_gone = __atomic_load_n(&r->gone, __ATOMIC_RELAXED);
	ret->rebalance_waits = __atomic_load_n(&r->waits, __ATOMIC_RELAXED);
}
