// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Write gathering. What a small write stores goes into a buffer that stands for a range of the
 * device, behind what other small writes put there, and its key is committed at once; the buffer
 * goes out in one write when it is full, when the next piece lies elsewhere, or when the journal is
 * about to make keys durable that may point into it (journal_ops.pre_flush). Until that write is
 * complete whoever reads there is answered from the buffer.
 *
 * So a key may be in the journal before its data are on the device, but only in noflush entries:
 * recovery believes none of them without a flush entry behind it, and before that the buffers are
 * written. The bucket stays open meanwhile, whatever becomes of its keys, so nothing else is
 * written there.
 *
 * A write that fails: the buffer stays, and a thread moves what is live of it elsewhere, as copygc
 * does, reading from the buffer. Pieces whose keys are not committed yet are withdrawn: whoever was
 * to commit them writes them elsewhere. So nobody who waits for the journal is waited for: it may
 * have no room but by a flush, which waits for the move. The commits of that come behind the
 * entries that have the old keys. Until they are there no flush entry may be written that ends
 * before them (`barrier`), nor before what took others of these keys away meanwhile: the journal
 * writes noflush ones, and whoever waits for a flush waits for a later one.
 *
 * A buffer: FILLING -> WRITING -> WRITTEN -> (gone, once no piece is uncommitted); or WRITING ->
 * FAILED -> (moved) WRITTEN.
 */
#include "data/data_private.h"
#include "util/planted.h"

#include <string.h>

#define GATHER_BUF_BYTES (512U << 10)
#define GATHER_WRITES	 8U /* in flight; more wait */
#define GATHER_SPARE	 2U
/* How long a flush waits for what failed to be moved: that may itself wait for the journal. */
#define GATHER_PATIENCE_NS (500 * ENV_NSEC_PER_MSEC)

enum gather_state {
	GATHER_FILLING,
	GATHER_WRITING,
	GATHER_WRITTEN, /* or moved; keys are still to be committed, or withdrawn */
	GATHER_FAILED,
};

struct gather_buf {
	struct gather_buf *next; /* of all, oldest first; or of the spare ones */
	struct data_fs *d;
	enum gather_state state;
	u64 id;
	struct bcfs_extent_ptr ptr; /* where it begins */
	u32 used;		    /* sectors */
	u32 ob;			    /* its open bucket, */
	bool held;		    /* which is held */
	bool failed;		    /* nothing that was not committed counts any more */
	u32 uncommitted;	    /* pieces, */
	u32 committing;		    /* of them those that are about to be */
	struct bdev_io io;
	u8 *data; /* buf_sectors */
};

struct data_gather {
	struct env_mutex lock;
	struct env_cond cond; /* something changed */
	struct env_thread *thread;
	u32 buf_sectors;
	/* Protected by lock. */
	struct gather_buf *bufs; /* oldest first */
	struct gather_buf *filling;
	struct gather_buf *spare;
	unsigned nr_bufs, nr_spare, nr_writing, nr_failed;
	u64 next_id;
	bool stop;
	bool move;    /* the thread is to try */
	u64 nr_tried; /* how often it did, in vain */
	int move_err; /* the last time */
	u64 barrier;  /* no flush entry below this seq */
	struct data_counters counters;
};

/* ---- buffers; the lock is held ---- */

static struct gather_buf *buf_new(struct data_fs *d)
{
	struct data_gather *g = d->gather;
	struct gather_buf *b = g->spare, **p = &g->bufs;

	if (b) {
		g->spare = b->next;
		g->nr_spare--;
	} else {
		b = env_malloc(d->env, sizeof(*b));
		if (!b)
			return NULL;
		b->data = env_malloc_aligned(d->env, DATA_IO_ALIGN,
					     (size_t)g->buf_sectors * SECTOR_BYTES);
		if (!b->data) {
			env_free(d->env, b);
			return NULL;
		}
	}
	b->next = NULL;
	b->d = d;
	b->state = GATHER_FILLING;
	b->id = g->next_id++;
	b->used = b->uncommitted = b->committing = 0;
	b->failed = false;
	while (*p)
		p = &(*p)->next;
	*p = b;
	__atomic_store_n(&g->nr_bufs, g->nr_bufs + 1, __ATOMIC_RELAXED);
	return b;
}

static void buf_free(struct data_fs *d, struct gather_buf *b)
{
	env_free(d->env, b->data);
	env_free(d->env, b);
}

/* It stands for nothing any more. */
static void buf_drop(struct data_fs *d, struct gather_buf *b)
{
	struct data_gather *g = d->gather;
	struct gather_buf **p = &g->bufs;

	while (*p != b)
		p = &(*p)->next;
	*p = b->next;
	__atomic_store_n(&g->nr_bufs, g->nr_bufs - 1, __ATOMIC_RELAXED);
	if (g->nr_spare < GATHER_SPARE) {
		b->next = g->spare;
		g->spare = b;
		g->nr_spare++;
	} else {
		buf_free(d, b);
	}
	env_cond_broadcast(&g->cond);
}

/* Its bucket may be closed. */
static void buf_release(struct data_fs *d, struct gather_buf *b)
{
	if (b->held)
		alloc_bucket_release(d->alloc, b->ob);
}

/* ---- writing ---- */

static void written(struct bdev_io *io)
{
	struct gather_buf *b = io->priv;
	struct data_fs *d = b->d;
	struct data_gather *g = d->gather;

	if (io->ret)
		log_err_ratelimited(d->log, &d->log_limit,
				    "%s: write of file data at sector %llu, %u sectors: %s; they "
				    "go elsewhere",
				    d->bdev->name, (unsigned long long)b->ptr.offset, b->used,
				    err_str(io->ret));
	env_mutex_lock(&g->lock);
	g->nr_writing--;
	if (io->ret) {
		b->state = GATHER_FAILED;
		b->failed = true;
		g->nr_failed++;
		g->move = true;
		if (d->opts.error)
			d->opts.error(d->opts.arg, io->ret, 0, 0, 0, 0);
	} else {
		b->state = GATHER_WRITTEN;
		buf_release(d, b);
		if (!b->uncommitted)
			buf_drop(d, b);
	}
	env_cond_broadcast(&g->cond);
	env_mutex_unlock(&g->lock);
}

/*
 * The buffer that is being filled goes out. The lock is held, dropped meanwhile. @flags: BDEV_SYNC
 * or none.
 */
static void submit_filling(struct data_fs *d, u32 flags)
{
	struct data_gather *g = d->gather;
	struct gather_buf *b = g->filling;

	if (!b)
		return;
	g->filling = NULL;
	b->state = GATHER_WRITING;
	g->nr_writing++;
	g->counters.gather_writes++;
	g->counters.gather_sectors += b->used;
	env_mutex_unlock(&g->lock);
	bdev_io_init(&b->io, BDEV_WRITE, (u64)b->ptr.offset << SECTOR_SHIFT, b->data,
		     b->used << SECTOR_SHIFT, flags);
	b->io.done = written;
	b->io.priv = b;
	bdev_submit(d->bdev, &b->io);
	env_mutex_lock(&g->lock);
}

/* Does a piece at @s go on where @b ends, and fit? */
static bool fits(const struct data_gather *g, const struct gather_buf *b,
		 const struct alloc_sectors *s)
{
	return b->ob == s->ob && b->ptr.offset + b->used == s->ptr.offset &&
	       b->used + s->sectors <= g->buf_sectors;
}

struct gather_buf *gather_add(struct data_fs *d, const struct alloc_sectors *s, const void *data,
			      u32 sectors)
{
	struct data_gather *g = d->gather;
	struct gather_buf *b;

	env_mutex_lock(&g->lock);
	while (!(b = g->filling) || !fits(g, b, s)) {
		if (b) {
			submit_filling(d, 0);
		} else if (g->nr_failed) {
			break;
		} else if (g->nr_writing >= GATHER_WRITES) {
			env_cond_wait(&g->cond, &g->lock);
		} else {
			b = g->filling = buf_new(d);
			if (!b)
				break;
			b->ptr = s->ptr;
			b->ob = s->ob;
			b->held = !planted(gather_not_held);
			if (b->held)
				alloc_bucket_hold(d->alloc, b->ob);
		}
	}
	if (b) {
		u8 *to = b->data + ((size_t)b->used << SECTOR_SHIFT);

		/* At the end of a bucket compressed data may leave some of its space. */
		memcpy(to, data, (size_t)sectors << SECTOR_SHIFT);
		memset(to + ((size_t)sectors << SECTOR_SHIFT), 0,
		       (size_t)(s->sectors - sectors) << SECTOR_SHIFT);
		b->used += s->sectors;
		b->uncommitted++;
		g->counters.gathered++;
		if (b->used == g->buf_sectors)
			submit_filling(d, 0);
	}
	env_mutex_unlock(&g->lock);
	return b;
}

bool gather_commit_begin(struct data_fs *d, struct gather_buf *b)
{
	struct data_gather *g = d->gather;
	bool ret;

	env_mutex_lock(&g->lock);
	ret = !b->failed || planted(gather_not_withdrawn);
	b->committing += ret;
	env_mutex_unlock(&g->lock);
	return ret;
}

void gather_commit_end(struct data_fs *d, struct gather_buf *b)
{
	struct data_gather *g = d->gather;

	env_mutex_lock(&g->lock);
	if (!--b->committing && b->failed)
		env_cond_broadcast(&g->cond);
	env_mutex_unlock(&g->lock);
}

void gather_done(struct data_fs *d, struct gather_buf *b)
{
	struct data_gather *g = d->gather;

	env_mutex_lock(&g->lock);
	if (!--b->uncommitted && b->state == GATHER_WRITTEN)
		buf_drop(d, b);
	env_mutex_unlock(&g->lock);
}

/* ---- reading ---- */

bool gather_read(struct data_fs *d, u64 sector, u32 sectors, void *dst)
{
	struct data_gather *g = d->gather;
	bool found = false;

	if (!g || !__atomic_load_n(&g->nr_bufs, __ATOMIC_RELAXED))
		return false;
	env_mutex_lock(&g->lock);
	for (const struct gather_buf *b = g->bufs; b && !found; b = b->next) {
		u64 start = b->ptr.offset;

		if (b->state == GATHER_WRITTEN || sector < start ||
		    sector + sectors > start + b->used ||
		    (planted(gather_not_read) && b->state == GATHER_WRITING))
			continue;
		memcpy(dst, b->data + ((sector - start) << SECTOR_SHIFT),
		       (size_t)sectors << SECTOR_SHIFT);
		g->counters.gather_reads++;
		found = true;
	}
	env_mutex_unlock(&g->lock);
	return found;
}

/* ---- before a flush ---- */

static bool any_writing(const struct data_gather *g, u64 end)
{
	for (const struct gather_buf *b = g->bufs; b; b = b->next)
		if (b->state == GATHER_WRITING && b->id < end)
			return true;
	return false;
}

/* The lock is held. 0: nothing is left that failed. */
static int wait_moved(struct data_fs *d)
{
	struct data_gather *g = d->gather;
	u64 end = env_mono_ns(d->env) + GATHER_PATIENCE_NS, tried = g->nr_tried, now;

	g->move = true;
	env_cond_broadcast(&g->cond);
	while (g->nr_failed && g->nr_tried == tried && !g->stop) {
		now = env_mono_ns(d->env);
		if (now >= end)
			return -BCFS_ERR_journal_flush_later;
		env_cond_timedwait(&g->cond, &g->lock, end - now);
	}
	return g->nr_failed ? g->move_err : 0;
}

int data_gather_flush(struct data_fs *d, u64 seq)
{
	struct data_gather *g = d->gather;
	int ret = 0;
	u64 end;

	if (!g || planted(gather_not_flushed))
		return 0;
	env_mutex_lock(&g->lock);
	submit_filling(d, BDEV_SYNC);
	end = g->next_id;
	while (any_writing(g, end) && !planted(gather_not_waited_for))
		env_cond_wait(&g->cond, &g->lock);
	if (g->nr_failed)
		ret = wait_moved(d);
	if (!ret && seq < g->barrier && !planted(gather_no_barrier))
		ret = -BCFS_ERR_journal_flush_later;
	env_mutex_unlock(&g->lock);
	return ret;
}

/* ---- what failed ---- */

static struct gather_buf *first_failed(const struct data_gather *g)
{
	struct gather_buf *b = g->bufs;

	while (b && b->state != GATHER_FAILED)
		b = b->next;
	return b;
}

/* The lock is held, dropped meanwhile. */
static void move_failed(struct data_fs *d, struct gather_buf *b)
{
	struct data_gather *g = d->gather;
	int ret;

	env_mutex_unlock(&g->lock);
	ret = data_move_failed(d, &b->ptr, b->used);
	env_mutex_lock(&g->lock);
	if (ret) {
		g->move_err = ret;
		g->nr_tried++;
		g->move = false;
	} else {
		g->barrier = btree_journal_seq(d->btree);
		g->counters.gather_moved++;
		g->nr_failed--;
		buf_release(d, b);
		b->state = GATHER_WRITTEN;
		if (!b->uncommitted)
			buf_drop(d, b);
	}
	env_cond_broadcast(&g->cond);
}

static void gather_thread(void *arg)
{
	struct data_fs *d = arg;
	struct data_gather *g = d->gather;

	env_mutex_lock(&g->lock);
	while (!g->stop) {
		struct gather_buf *b = g->move ? first_failed(g) : NULL;

		if (b && (!b->committing || planted(gather_moved_early)))
			move_failed(d, b);
		else
			env_cond_wait(&g->cond, &g->lock);
	}
	env_mutex_unlock(&g->lock);
}

/* ---- */

int data_gather_start(struct data_fs *d)
{
	struct data_gather *g = env_zalloc(d->env, sizeof(*g));
	u32 bucket = alloc_bucket_span(d->alloc);
	int ret;

	if (!g)
		return -BCFS_ERR_nomem;
	g->buf_sectors = min(bucket, GATHER_BUF_BYTES / SECTOR_BYTES);
	env_mutex_init(&g->lock, d->env);
	env_cond_init(&g->cond, d->env);
	d->gather = g;
	ret = env_thread_start(d->env, &g->thread, "bcfs-gather", gather_thread, d);
	if (ret)
		data_gather_stop(d);
	return ret;
}

void data_gather_stop(struct data_fs *d)
{
	struct data_gather *g = d->gather;
	struct gather_buf *b;

	if (!g)
		return;
	env_mutex_lock(&g->lock);
	g->stop = true;
	env_cond_broadcast(&g->cond);
	while (any_writing(g, UINT64_MAX))
		env_cond_wait(&g->cond, &g->lock);
	env_mutex_unlock(&g->lock);
	if (g->thread)
		env_thread_join(g->thread);
	/* Left after an error or a halt: no flush entry leads there. */
	while ((b = g->bufs)) {
		g->bufs = b->next;
		if (b->state != GATHER_WRITTEN)
			buf_release(d, b);
		buf_free(d, b);
	}
	while ((b = g->spare)) {
		g->spare = b->next;
		buf_free(d, b);
	}
	env_cond_destroy(&g->cond);
	env_mutex_destroy(&g->lock);
	env_free(d->env, g);
	d->gather = NULL;
}

void data_counters(struct data_fs *d, struct data_counters *ret)
{
	*ret = (struct data_counters){0};
	if (d->gather) {
		env_mutex_lock(&d->gather->lock);
		*ret = d->gather->counters;
		env_mutex_unlock(&d->gather->lock);
	}
	ret->compressed = __atomic_load_n(&d->nr_compressed, __ATOMIC_RELAXED);
	ret->compressed_in_vain = __atomic_load_n(&d->nr_compressed_in_vain, __ATOMIC_RELAXED);
	ret->inline_writes = __atomic_load_n(&d->nr_inline_writes, __ATOMIC_RELAXED);
	rebalance_counters(d, ret);
}
