// SPDX-License-Identifier: LGPL-2.1-or-later
/* The allocator's life: alloc, attach, start, stop; and a new device. */
#include "alloc/alloc_private.h"

#include <stdlib.h>
#include <string.h>

#define INIT_BATCH 32

/*
 * What stays back. A commit may split a leaf of each of some eight btrees, and their parents: room
 * for RESERVE_NODES nodes, or 1/32 of a large device; but never more than a quarter of a small one.
 */
#define RESERVE_NODES 64
/* Below it several marks would be the same number of buckets, and nobody kept one to move to. */
#define RESERVE_BUCKETS 8ULL
/* And for discards alone: what one commit of theirs may have to rewrite (doc/adr/0020). */
#define DISCARD_NODES 10
/* Freeing fewer than this would go on for ever, each round with what the last one rewrote. */
#define DISCARD_WORTH_NODES 8
/* And besides, for copygc to move to. */
#define GC_BUCKETS 2ULL

static void set_watermarks(struct alloc_fs *a)
{
	u64 nr = a->opts.nr_buckets - a->opts.first_bucket;
	u64 reserve = DIV_ROUND_UP(RESERVE_NODES, a->nodes_per_bucket);
	u64 discard = DIV_ROUND_UP(DISCARD_NODES, a->nodes_per_bucket);

	reserve = max(reserve, RESERVE_BUCKETS);
	reserve = max(reserve, nr / 32);
	reserve = min(reserve, nr / 4);
	a->watermark[ALLOC_WATERMARK_gc] = reserve * 3 / 4;
	a->watermark[ALLOC_WATERMARK_user] = reserve * 3 / 4 + max(reserve / 4, GC_BUCKETS);
	a->reserve_buckets = a->watermark[ALLOC_WATERMARK_user] + reserve / 4;
	a->watermark[ALLOC_WATERMARK_btree] = reserve / 2;
	a->watermark[ALLOC_WATERMARK_last] = max(reserve / 8, min(discard, reserve / 4));
	a->watermark[ALLOC_WATERMARK_reserve] = a->watermark[ALLOC_WATERMARK_last] + reserve / 8;
	a->watermark[ALLOC_WATERMARK_keeps] =
		(a->watermark[ALLOC_WATERMARK_btree] + a->watermark[ALLOC_WATERMARK_reserve]) / 2;
	a->watermark[ALLOC_WATERMARK_discard] = 0;
	a->discard_worth = DIV_ROUND_UP(DISCARD_WORTH_NODES, a->nodes_per_bucket);
	a->nr_write_points = max_t(u64, min_t(u64, nr / 64, ALLOC_WP_MAX), 1);
	a->ready_batch = max_t(u64, min_t(u64, nr / 32, ALLOC_READY_MAX / 2), 2);
}

int alloc_fs_alloc(struct env *env, struct bdev *bdev, struct log *log,
		   const struct alloc_opts *opts, struct alloc_fs **ret)
{
	struct alloc_fs *a;

	if (!opts->block_sectors || !opts->node_sectors ||
	    opts->bucket_sectors < opts->node_sectors ||
	    opts->bucket_sectors < opts->block_sectors ||
	    opts->node_sectors % opts->block_sectors || opts->nr_buckets <= opts->first_bucket) {
		log_err(log, "block %u, node %u, bucket %u sectors, %llu buckets: impossible",
			opts->block_sectors, opts->node_sectors, opts->bucket_sectors,
			(unsigned long long)opts->nr_buckets);
		return -BCFS_ERR_alloc_geometry;
	}
	a = env_zalloc(env, sizeof(*a));
	if (!a)
		return -BCFS_ERR_nomem;
	a->env = env;
	a->bdev = bdev;
	a->log = log;
	a->log_limit = RATELIMIT_DEFAULT;
	a->opts = *opts;
	a->nodes_per_bucket = opts->bucket_sectors / opts->node_sectors;
	a->bucket_usable = opts->bucket_sectors - opts->bucket_sectors % opts->block_sectors;
	set_watermarks(a);
	env_mutex_init(&a->lock, env);
	env_mutex_init(&a->fill_lock, env);
	env_mutex_init(&a->discard_lock, env);
	env_cond_init(&a->freed, env);
	env_cond_init(&a->worker_cond, env);
	env_cond_init(&a->gc_cond, env);
	env_mutex_init(&a->btree_wp.lock, env);
	env_mutex_init(&a->gc_wp.lock, env);
	for (unsigned i = 0; i < ALLOC_WP_MAX; i++)
		env_mutex_init(&a->wp[i].lock, env);
	ob_table_init(a);
	*ret = a;
	return 0;
}

void alloc_fs_free(struct alloc_fs *a)
{
	if (!a)
		return;
	assert(!a->worker);
	for (unsigned i = 0; i < ALLOC_WP_MAX; i++)
		env_mutex_destroy(&a->wp[i].lock);
	env_mutex_destroy(&a->gc_wp.lock);
	env_mutex_destroy(&a->btree_wp.lock);
	env_cond_destroy(&a->gc_cond);
	env_cond_destroy(&a->worker_cond);
	env_cond_destroy(&a->freed);
	env_mutex_destroy(&a->discard_lock);
	env_mutex_destroy(&a->fill_lock);
	env_mutex_destroy(&a->lock);
	env_free(a->env, a->journal_buckets);
	env_free(a->env, a);
}

void alloc_fs_attach(struct alloc_fs *a, struct btree_fs *btree, struct journal *journal)
{
	a->btree = btree;
	a->journal = journal;
}

int alloc_fs_start(struct alloc_fs *a, const s64 *usage)
{
	for (unsigned i = 0; usage && i < BCFS_ACCOUNTING_NR; i++)
		__atomic_store_n(&a->usage[i], usage[i], __ATOMIC_RELAXED);
	__atomic_store_n(&a->unused_cursor, max(alloc_mark(a), a->opts.first_bucket),
			 __ATOMIC_RELAXED);
	a->freespace_cursor = 0;
	return 0;
}

int alloc_fs_start_threads(struct alloc_fs *a)
{
	int ret;

	__atomic_store_n(&a->worker_stop, false, __ATOMIC_RELAXED);
	__atomic_store_n(&a->settling, false, __ATOMIC_RELAXED);
	__atomic_store_n(&a->worker_runs, true, __ATOMIC_RELAXED);
	ret = env_thread_start(a->env, &a->worker, "bcfs-alloc", alloc_worker, a);
	if (ret)
		__atomic_store_n(&a->worker_runs, false, __ATOMIC_RELAXED);
	return ret;
}

void alloc_fs_stop(struct alloc_fs *a)
{
	u64 freed, need;

	if (a->worker) {
		alloc_settle(a);
		env_mutex_lock(&a->lock);
		__atomic_store_n(&a->worker_stop, true, __ATOMIC_RELAXED);
		env_cond_broadcast(&a->worker_cond);
		env_cond_broadcast(&a->freed);
		env_mutex_unlock(&a->lock);
		env_thread_join(a->worker);
		a->worker = NULL;
		__atomic_store_n(&a->worker_runs, false, __ATOMIC_RELAXED);
	}
	if (!a->btree || !a->journal || journal_error(a->journal))
		return;
	/*
	 * What was written in vain gets its generation; what is durable becomes free, if there are
	 * places for the leaves that this changes: else at the next mount.
	 */
	alloc_wp_close_all(a);
	if (!alloc_discards_pending(a) ||
	    !alloc_discard_round(a, alloc_room_to_discard(a), &freed, &need))
		alloc_move_mark(a, true);
}

/* ---- a new device ---- */

static int cmp_u64(const void *l, const void *r)
{
	return cmp_int(*(const u64 *)l, *(const u64 *)r);
}

int alloc_set_journal_buckets(struct alloc_fs *a, const u64 *buckets, unsigned nr)
{
	u64 *copy = env_malloc(a->env, max_t(size_t, nr, 1) * sizeof(*copy));

	if (!copy)
		return -BCFS_ERR_nomem;
	memcpy(copy, buckets, nr * sizeof(*copy));
	qsort(copy, nr, sizeof(*copy), cmp_u64);
	env_free(a->env, a->journal_buckets);
	a->journal_buckets = copy;
	a->nr_journal_buckets = nr;
	return 0;
}

static int mark_fixed(struct btree_trans *trans, struct alloc_fs *a, const u64 *buckets, u64 from,
		      unsigned nr, u8 type)
{
	for (unsigned i = 0; i < nr; i++) {
		struct btree_iter iter;
		struct bcfs_alloc v;
		int ret;

		ret = alloc_key_get(trans, &iter, 0, buckets ? buckets[from + i] : from + i, &v,
				    NULL);
		if (!ret) {
			v.data_type = type;
			v.dirty_sectors = a->opts.bucket_sectors;
			ret = alloc_key_put(trans, &iter, &v);
		}
		btree_iter_exit(&iter);
		if (ret)
			return ret;
	}
	return 0;
}

static int mark_fixed_all(struct alloc_fs *a, const u64 *buckets, u64 nr, u8 type)
{
	struct btree_trans *trans = btree_trans_get(a->btree);
	int ret = 0;

	for (u64 i = 0; i < nr && !ret; i += INIT_BATCH)
		ret = commit_do(
			trans, NULL, 0,
			mark_fixed(trans, a, buckets, i, min_t(u64, INIT_BATCH, nr - i), type));
	btree_trans_put(trans);
	return ret;
}

int alloc_init_device(struct alloc_fs *a, const u64 *journal_buckets, unsigned nr_journal)
{
	int ret;

	ret = alloc_set_journal_buckets(a, journal_buckets, nr_journal);
	if (!ret)
		ret = mark_fixed_all(a, NULL, a->opts.first_bucket, BCFS_DATA_sb);
	if (!ret)
		ret = mark_fixed_all(a, a->journal_buckets, nr_journal, BCFS_DATA_journal);
	if (!ret)
		ret = alloc_move_mark(a, true);
	return ret;
}

/* ---- text ---- */

void alloc_fs_to_text(struct printbuf *out, struct alloc_fs *a)
{
	static const char *const states[] = {"unused", "ready", "open", "retire"};
	struct alloc_usage u;

	alloc_usage(a, &u);
	prt_printf(out, "capacity %llu used %llu reserved %llu free %llu sectors\n",
		   (unsigned long long)u.capacity, (unsigned long long)u.used,
		   (unsigned long long)u.reserved, (unsigned long long)u.free);
	for (unsigned i = 0; i < BCFS_DATA_NR; i++)
		if (u.buckets[i])
			prt_printf(out, "buckets %s: %llu\n", alloc_data_type_name(i),
				   (unsigned long long)u.buckets[i]);
	prt_printf(
		out, "dead sectors: data %lld nodes %lld; live nodes %lld; moved %llu nodes\n",
		(long long)alloc_dead_sectors(a), (long long)alloc_dead_node_sectors(a),
		(long long)alloc_usage_get(a, BCFS_ACCOUNTING_btree),
		(unsigned long long)__atomic_load_n(&a->counters.gc_nodes_moved, __ATOMIC_RELAXED));
	env_mutex_lock(&a->lock);
	prt_printf(out, "used_mark %llu unused_cursor %llu reserve %llu\n",
		   (unsigned long long)alloc_mark(a), (unsigned long long)a->unused_cursor,
		   (unsigned long long)a->reserve_buckets);
	for (unsigned i = 1; i < ALLOC_OB_NR; i++) {
		const struct open_bucket *ob = &a->ob[i];

		if (ob->state != OB_UNUSED)
			prt_printf(out, "%s: bucket %u:%llu gen %u %s refs %u left %u%s%s\n",
				   states[ob->state], ob->dev, (unsigned long long)ob->bucket,
				   ob->gen, alloc_data_type_name(ob->data_type), ob->refs,
				   ob->sectors_free, ob->counted ? " counted" : "",
				   ob->written ? " written" : "");
	}
	env_mutex_unlock(&a->lock);
}
