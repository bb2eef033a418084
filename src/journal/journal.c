/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening, starting and stopping the journal; see journal.h. */
#include "journal/journal_private.h"
#include "util/planted.h"

#include <string.h>

static int opts_check(const struct journal_opts *o)
{
	u64 bucket = (u64)o->bucket_sectors * SECTOR_SIZE;

	if (!is_power_of_2(o->block_bytes) || o->block_bytes < SECTOR_SIZE ||
	    bucket % o->block_bytes || bucket < JOURNAL_BUCKET_BYTES_MIN || bucket > 1U << 31)
		return -BCFS_ERR_journal_geometry;
	if (csum_type_is_aead(o->csum_type) != !!o->keys)
		return -BCFS_ERR_codec_unsupported;
	return o->keys ? 0 : csum_type_check(o->csum_type, NULL);
}

int journal_alloc(struct env *env, struct bdev *bdev, struct log *log,
		  const struct journal_opts *opts, struct journal **ret_j)
{
	struct journal *j;
	int ret = opts_check(opts);

	if (ret)
		return ret;
	j = env_zalloc(env, sizeof(*j));
	if (!j)
		return -BCFS_ERR_nomem;
	j->env = env;
	j->bdev = bdev;
	j->log = log;
	j->opts = *opts;
	if (!j->opts.flush_delay_ms)
		j->opts.flush_delay_ms = 1000;
	if (!j->opts.reclaim_delay_ms)
		j->opts.reclaim_delay_ms = 100;
	j->bucket_bytes = opts->bucket_sectors * SECTOR_SIZE;
	j->rl_write = RATELIMIT_DEFAULT;
	j->rl_reclaim = RATELIMIT_DEFAULT;
	env_mutex_init(&j->lock, env);
	env_mutex_init(&j->pin_lock, env);
	env_cond_init(&j->wait, env);
	env_cond_init(&j->writer_wait, env);
	env_cond_init(&j->done_wait, env);
	env_cond_init(&j->reclaim_wait, env);
	env_cond_init(&j->pin_wait, env);
	*ret_j = j;
	return 0;
}

static void join_threads(struct journal *j)
{
	env_mutex_lock(&j->lock);
	j->stopping = true;
	env_cond_broadcast(&j->writer_wait);
	env_cond_broadcast(&j->reclaim_wait);
	env_mutex_unlock(&j->lock);
	if (j->reclaim)
		env_thread_join(j->reclaim);
	if (j->writer)
		env_thread_join(j->writer);
	env_mutex_lock(&j->lock);
	j->done_stopping = true;
	env_cond_broadcast(&j->done_wait);
	env_mutex_unlock(&j->lock);
	if (j->done)
		env_thread_join(j->done);
	j->reclaim = j->writer = j->done = NULL;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	journal_halt(j);
	join_threads(j);
	for (unsigned i = 0; i < JOURNAL_BUFS; i++)
		env_free(j->env, j->bufs[i].data);
	env_free(j->env, j->pins);
	env_free(j->env, j->buckets);
	env_cond_destroy(&j->pin_wait);
	env_cond_destroy(&j->reclaim_wait);
	env_cond_destroy(&j->done_wait);
	env_cond_destroy(&j->writer_wait);
	env_cond_destroy(&j->wait);
	env_mutex_destroy(&j->pin_lock);
	env_mutex_destroy(&j->lock);
	env_free(j->env, j);
}

static void set_sizes(struct journal *j, u32 root_u64s)
{
	u64 ring = (u64)j->nr_buckets * j->bucket_bytes;
	u64 entry = j->opts.entry_bytes_max ? j->opts.entry_bytes_max : 1U << 20;
	u64 reserve = j->opts.reclaim_reserve_bytes ? j->opts.reclaim_reserve_bytes : ring / 8;

	entry = min(entry, (u64)j->bucket_bytes);
	entry = min(entry, ring / 4);
	entry = min(entry, (u64)ST_LEFT * sizeof(u64));
	entry = max(entry, min_t(u64, JOURNAL_BUCKET_BYTES_MIN, j->bucket_bytes));
	j->entry_bytes = round_down(entry, (u64)j->opts.block_bytes);
	j->buf_want = min(j->entry_bytes, JOURNAL_BUF_BYTES);
	j->root_u64s = root_u64s;
	j->fixed_bytes = journal_fixed_bytes(root_u64s);
	j->res_max_u64s = (j->buf_want - j->fixed_bytes) / sizeof(u64);
	reserve = max_t(u64, DIV_ROUND_UP(reserve, j->bucket_bytes), 2);
	j->reserve_buckets = min_t(u64, reserve, j->nr_buckets / 2);
	journal_set_reserve(j);
}

int journal_set_buckets(struct journal *j, const u64 *buckets, unsigned nr)
{
	struct journal_bucket *n;

	assert(j->run == JOURNAL_STOPPED);
	if (nr < JOURNAL_BUCKETS_MIN)
		return -BCFS_ERR_journal_geometry;
	for (unsigned i = 0; i < nr; i++)
		if (buckets[i] >= j->bdev->size_bytes / j->bucket_bytes)
			return -BCFS_ERR_journal_geometry;
	n = env_zalloc(j->env, nr * sizeof(*n));
	if (!n)
		return -BCFS_ERR_nomem;
	for (unsigned i = 0; i < nr; i++)
		n[i].nr = buckets[i];
	env_free(j->env, j->buckets);
	j->buckets = n;
	j->nr_buckets = nr;
	set_sizes(j, JOURNAL_ROOT_U64s);
	return 0;
}

static int start_threads(struct journal *j)
{
	int ret = env_thread_start(j->env, &j->done, "journal-done", journal_done_thread, j);

	if (!ret)
		ret = env_thread_start(j->env, &j->writer, "journal-writer", journal_writer_thread,
				       j);
	if (!ret)
		ret = env_thread_start(j->env, &j->reclaim, "journal-reclaim",
				       journal_reclaim_thread, j);
	return ret;
}

static int start_bufs(struct journal *j)
{
	for (unsigned i = 0; i < JOURNAL_BUFS; i++) {
		struct journal_buf *b = &j->bufs[i];

		b->data = env_malloc_aligned(j->env, 4096, j->buf_want);
		if (!b->data)
			return -BCFS_ERR_nomem;
		b->buf_bytes = j->buf_want;
		b->state = BUF_FREE;
	}
	return 0;
}

static u32 longest_root_u64s(const struct journal_carried *c)
{
	u32 ret = JOURNAL_ROOT_U64s;

	for (unsigned i = 0; i < BTREE_ID_NR; i++)
		if (c->roots[i].alive)
			ret = max(ret, jset_entry_u64s(c->roots[i].k.k.u64s));
	return ret;
}

int journal_start(struct journal *j, u64 cur_seq, const struct journal_replay *r,
		  const struct journal_carried *carried)
{
	u64 last_seq = r ? r->last_seq : cur_seq;
	int ret;

	assert(j->run == JOURNAL_STOPPED && !j->bufs[0].data && cur_seq);
	assert(!r || cur_seq > r->seq);
	if (cur_seq - last_seq > JOURNAL_SPAN_MAX) {
		log_err(j->log, "journal: entries %llu to %llu are needed: more than there can be",
			(unsigned long long)last_seq, (unsigned long long)cur_seq - 1);
		return -BCFS_ERR_journal_damaged;
	}
	ret = journal_pins_init(j, last_seq, cur_seq);
	if (!ret)
		ret = start_bufs(j);
	if (ret)
		return ret;
	j->cur_seq = j->start_seq = cur_seq;
	j->seq_prepared = cur_seq - 1;
	j->seq_ondisk = cur_seq - 1;
	j->flushed_seq = cur_seq - 1;
	j->flush_issued = cur_seq - 1;
	j->last_seq_ondisk = last_seq;
	j->carried = *carried;
	set_sizes(j, longest_root_u64s(carried));
	j->reading_done &= r != NULL;
	journal_space_init(j, cur_seq - 1);
	if (!j->free_ahead) {
		log_err(j->log, "journal: no bucket is free to go on in");
		return -BCFS_ERR_journal_full;
	}
	if (r)
		j->counters.blacklisted = cur_seq - 1 - r->seq;
	j->run = JOURNAL_RUNNING;
	ret = start_threads(j);
	if (ret) {
		journal_halt(j);
		join_threads(j);
	}
	return ret;
}

/* Everything in order on the device, and a last entry that needs no other. */
static int stop_clean(struct journal *j)
{
	bool idle;
	int ret;

	if (j->replay_end)
		return -BCFS_ERR_journal_shutdown;
	do {
		/* Writing nodes makes new keys, and so new pins. */
		ret = journal_flush_pins(j, UINT64_MAX);
		/* What finds no place any more stays where it is: here. */
		if (ret == -BCFS_ERR_nospc)
			return journal_flush(j) ?: ret;
		if (ret)
			return ret;
		env_mutex_lock(&j->lock);
		ret = journal_flush_open(j);
		env_mutex_unlock(&j->lock);
		if (ret)
			return ret;
		env_mutex_lock(&j->pin_lock);
		idle = j->last_seq == j->pin_back;
		env_mutex_unlock(&j->pin_lock);
	} while (!idle);

	env_mutex_lock(&j->lock);
	idle = j->last_seq_ondisk == j->cur_seq || j->last_seq_ondisk == j->flushed_seq;
	env_mutex_unlock(&j->lock);
	if (idle)
		return 0;
	env_mutex_lock(&j->lock);
	ret = journal_flush_next(j);
	env_mutex_unlock(&j->lock);
	return ret;
}

int journal_stop(struct journal *j, struct journal_carried *ret_carried, u64 *ret_seq)
{
	int ret;

	if (j->run == JOURNAL_STOPPED)
		return 0;
	ret = stop_clean(j);
	if (ret)
		journal_halt(j);
	join_threads(j);
	if (!ret && (j->err || j->run != JOURNAL_RUNNING))
		ret = journal_why_stopped(j);
	j->run = JOURNAL_HALTED;
	if (ret)
		return ret;
	if (ret_carried)
		*ret_carried = j->carried;
	if (ret_seq)
		*ret_seq = j->cur_seq - 1 - planted(clean_seq_short);
	return 0;
}

void journal_halt(struct journal *j)
{
	env_mutex_lock(&j->lock);
	j->run = j->run == JOURNAL_STOPPED ? JOURNAL_STOPPED : JOURNAL_HALTED;
	atomic_fetch_and(&j->state, ~(ST_LEFT | ST_OPEN));
	env_cond_broadcast(&j->wait);
	env_cond_broadcast(&j->writer_wait);
	env_cond_broadcast(&j->done_wait);
	env_cond_broadcast(&j->reclaim_wait);
	env_mutex_unlock(&j->lock);
	env_mutex_lock(&j->pin_lock);
	env_cond_broadcast(&j->pin_wait);
	env_mutex_unlock(&j->pin_lock);
}

int journal_error(const struct journal *j)
{
	int err = atomic_load(&((struct journal *)j)->err);

	return err || j->run != JOURNAL_HALTED ? err : -BCFS_ERR_journal_shutdown;
}

u64 journal_cur_seq(const struct journal *j)
{
	return atomic_load(&((struct journal *)j)->cur_seq);
}

bool journal_is_low(const struct journal *j)
{
	return atomic_load(&((struct journal *)j)->state) & ST_LOW;
}

u64 journal_last_seq(const struct journal *j)
{
	return atomic_load(&((struct journal *)j)->last_seq);
}

u64 journal_last_seq_ondisk(struct journal *j)
{
	u64 ret;

	env_mutex_lock(&j->lock);
	ret = j->last_seq_ondisk;
	env_mutex_unlock(&j->lock);
	return ret;
}

u64 journal_flushed_seq(const struct journal *j)
{
	return atomic_load(&((struct journal *)j)->flushed_seq);
}

void journal_counters(const struct journal *j, struct journal_counters *ret)
{
	struct journal *m = (struct journal *)j;

	env_mutex_lock(&m->lock);
	*ret = m->counters;
	env_mutex_unlock(&m->lock);
}
