// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Copygc: the thread that empties fragmented buckets, so that dead sectors become free buckets.
 * alloc/gc.c says when and which, move.c moves. A bucket that could not be emptied (a read error,
 * or moving it gains nothing) is not tried again while as much of it is live, as long as that is
 * remembered.
 */
#include "data/data_private.h"

#define GC_VICTIMS 32U
#define GC_STUCK   256U
#define GC_PICKS   8U /* of which nothing could be moved, in one round */

struct data_gc {
	struct data_fs *d;
	struct env_thread *thread;
	struct ratelimit log_limit;
	unsigned nr_stuck; /* ever: the array is a ring */
	struct alloc_gc_victim stuck[GC_STUCK];
};

static bool gc_skip(void *arg, const struct alloc_gc_victim *v)
{
	const struct data_gc *gc = arg;

	for (unsigned i = 0; i < min(gc->nr_stuck, GC_STUCK); i++)
		if (gc->stuck[i].bucket == v->bucket && gc->stuck[i].gen == v->gen &&
		    gc->stuck[i].live == v->live)
			return true;
	return false;
}

/* *ret_more: there were buckets, but nothing came of any. */
static int gc_pick(struct data_gc *gc, bool urgent, bool *ret_more)
{
	struct alloc_gc_victim v[GC_VICTIMS];
	struct data_fs *d = gc->d;
	u32 nr;
	int ret = alloc_gc_pick(d->alloc, urgent, gc_skip, gc, v, GC_VICTIMS, &nr);

	*ret_more = !ret && nr;
	for (u32 i = 0; !ret && i < nr && !alloc_gc_stopping(d->alloc); i++) {
		bool stuck;
		u64 moved;

		ret = data_move_bucket(d, &v[i], &moved, &stuck);
		alloc_gc_moved(d->alloc, moved, !ret && !stuck);
		if (stuck)
			gc->stuck[gc->nr_stuck++ % GC_STUCK] = v[i];
		*ret_more &= stuck && !moved;
	}
	return ret;
}

static int gc_round(struct data_gc *gc, bool urgent)
{
	struct data_fs *d = gc->d;
	bool more = true;
	int ret = 0;

	for (unsigned i = 0; !ret && more && i < GC_PICKS && !alloc_gc_stopping(d->alloc); i++)
		ret = gc_pick(gc, urgent, &more);
	/* No space to go on: what was emptied must become free first. Or all has come to an end. */
	return ret == -BCFS_ERR_nospc || ret == -BCFS_ERR_journal_shutdown ||
			       ret == -BCFS_ERR_btree_halted
		       ? 0
		       : ret;
}

static void gc_thread(void *arg)
{
	struct data_gc *gc = arg;
	struct data_fs *d = gc->d;
	bool urgent;

	while (alloc_gc_wait(d->alloc, &urgent)) {
		int ret = gc_round(gc, urgent);

		if (ret)
			log_err_ratelimited(d->log, &gc->log_limit, "%s: copygc: %s", d->bdev->name,
					    err_str(ret));
		alloc_gc_round_end(d->alloc);
	}
}

int data_gc_start(struct data_fs *d)
{
	struct data_gc *gc = env_zalloc(d->env, sizeof(*gc));
	int ret;

	if (!gc)
		return -BCFS_ERR_nomem;
	gc->d = d;
	gc->log_limit = RATELIMIT_DEFAULT;
	alloc_gc_start(d->alloc);
	ret = env_thread_start(d->env, &gc->thread, "bcfs-copygc", gc_thread, gc);
	if (ret) {
		alloc_gc_stop(d->alloc);
		env_free(d->env, gc);
		return ret;
	}
	d->gc = gc;
	return 0;
}

void data_gc_stop(struct data_fs *d)
{
	if (!d->gc)
		return;
	alloc_gc_stop(d->alloc);
	env_thread_join(d->gc->thread);
	env_free(d->env, d->gc);
	d->gc = NULL;
}
