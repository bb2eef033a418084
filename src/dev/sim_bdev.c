/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulated device: requests. A request is decided (faults, latency) when
 * it is submitted and takes effect when its event fires. One without `done` is
 * completed right there; `done` is called by a fiber of the device, for it may
 * lock.
 */
#include "dev/sim_bdev_private.h"

#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_LATENCY_MIN (20 * ENV_NSEC_PER_USEC)
#define DEFAULT_LATENCY_MAX (200 * ENV_NSEC_PER_USEC)
#define DEFAULT_FLUSH_MIN   (200 * ENV_NSEC_PER_USEC)
#define DEFAULT_FLUSH_MAX   (2 * ENV_NSEC_PER_MSEC)

/* A request on its way. */
struct sim_inflight {
	struct env_sim_event ev;
	struct sim_bdev *d;
	struct bdev_io *io;
	struct sim_req *req; /* of this turn; NULL for a read */
	bool preflush;	     /* this turn is the flush before the write */
	bool flip;	     /* READ_FLIP */
	int ret;	     /* what the turn will end in */
	u64 submitted;	     /* sim_watch_submit() */
	struct sim_inflight *prev, *next;
};

static u64 sim_random(struct sim_bdev *d)
{
	return env_sim_random(d->b.env);
}

static u64 latency(struct sim_bdev *d, enum bdev_op op)
{
	u64 lo = op == BDEV_FLUSH ? d->opts.flush_min_ns : d->opts.latency_min_ns;
	u64 hi = op == BDEV_FLUSH ? d->opts.flush_max_ns : d->opts.latency_max_ns;

	return hi > lo ? lo + sim_random(d) % (hi - lo + 1) : lo;
}

static struct sim_req *req_new(struct sim_bdev *d, enum bdev_op op, u32 flags, u64 offset, u64 len,
			       const void *data)
{
	struct sim_req *req = sim_xalloc(sizeof(*req));

	req->id = d->next_id++;
	req->op = op;
	req->flags = flags;
	req->offset = offset;
	req->len = len;
	if (data) {
		req->data = sim_xmalloc(len);
		memcpy(req->data, data, len);
	}
	return req;
}

/* ---- decisions at submission ---- */

static void decide_write(struct sim_inflight *fl)
{
	struct sim_bdev *d = fl->d;
	struct sim_req *req = fl->req;
	u32 block = d->b.logical_block;

	if (sim_fault_strikes(d, SIM_FAULT_WRITE_ERROR, fl->io)) {
		req->lost = true;
		fl->ret = -BCFS_ERR_dev_write;
	} else if (sim_fault_strikes(d, SIM_FAULT_WRITE_TORN, fl->io)) {
		req->len = sim_random(d) % (req->len >> SECTOR_SHIFT) << SECTOR_SHIFT;
		req->lost = !req->len;
		fl->ret = -BCFS_ERR_dev_write;
	} else if (sim_fault_strikes(d, SIM_FAULT_WRITE_LOST, fl->io)) {
		req->lost = true;
	} else if (sim_fault_strikes(d, SIM_FAULT_WRITE_MISDIRECTED, fl->io)) {
		req->offset = sim_random(d) % ((d->b.size_bytes - req->len) / block + 1) * block;
		if (d->aimed)
			req->offset = min(d->aim, d->b.size_bytes - req->len);
		d->armed[SIM_FAULT_WRITE_MISDIRECTED].kth.to = req->offset;
	} else if (sim_fault_strikes(d, SIM_FAULT_WRITE_STALE, fl->io)) {
		req->stale = true;
	}
}

static void decide_read(struct sim_inflight *fl)
{
	if (sim_fault_strikes(fl->d, SIM_FAULT_READ_ERROR, fl->io))
		fl->ret = -BCFS_ERR_dev_read;
	fl->flip = sim_fault_strikes(fl->d, SIM_FAULT_READ_FLIP, fl->io);
}

/* What is read from a discarded range afterwards: zeroes, or what was there. */
static void decide_discard(struct sim_inflight *fl)
{
	if (sim_fault_strikes(fl->d, SIM_FAULT_DISCARD_ERROR, fl->io)) {
		fl->ret = -BCFS_ERR_dev_discard;
		fl->req->lost = true;
	} else if (sim_random(fl->d) & 1) {
		fl->req->lost = true;
	}
}

static void event_fn(struct env_sim_event *ev);

static void start_turn(struct sim_inflight *fl)
{
	struct sim_bdev *d = fl->d;
	struct bdev_io *io = fl->io;
	enum bdev_op op = fl->preflush ? BDEV_FLUSH : io->op;

	fl->ret = 0;
	fl->req = NULL;
	d->counts[op]++;
	sim_fault_gone(d, io);
	switch (op) {
	case BDEV_READ:
		decide_read(fl);
		break;
	case BDEV_WRITE:
		fl->req = req_new(d, op, io->flags & BDEV_FUA, io->offset, io->len, io->buf);
		sim_watch_write(d, io->offset, io->len);
		sim_crypt_write(d, io->offset, io->buf, io->len);
		fl->submitted = sim_watch_submit(d);
		decide_write(fl);
		break;
	case BDEV_FLUSH:
		fl->req = req_new(d, op, 0, 0, 0, NULL);
		fl->submitted = sim_watch_submit(d);
		if (sim_fault_strikes(d, SIM_FAULT_FLUSH_ERROR, fl->io))
			fl->ret = -BCFS_ERR_dev_flush;
		fl->req->lies = sim_fault_strikes(d, SIM_FAULT_FLUSH_LIE, io);
		d->flush_lies |= fl->req->lies && d->armed[SIM_FAULT_FLUSH_LIE].sticky;
		break;
	case BDEV_DISCARD:
		fl->req = req_new(d, op, 0, io->offset, io->len_discard, NULL);
		sim_watch_discard(d, io->offset, io->len_discard);
		decide_discard(fl);
		break;
	case BDEV_OP_NR:
		break;
	}
	if (d->gone) {
		fl->ret = -BCFS_ERR_dev_gone;
		if (fl->req)
			fl->req->lost = true;
	}
	if (fl->req)
		sim_log_event(d, SIM_EV_SUBMIT, fl->req);
	fl->ev = (struct env_sim_event){.fn = event_fn};
	env_sim_event_add(d->b.env, &fl->ev, latency(d, op));
}

static void sim_submit(struct bdev *bdev, struct bdev_io *io)
{
	struct sim_bdev *d = to_sim(bdev);
	struct sim_inflight *fl = sim_xalloc(sizeof(*fl));

	fl->d = d;
	fl->io = io;
	fl->preflush = io->op == BDEV_WRITE && (io->flags & BDEV_PREFLUSH);
	fl->next = d->inflight;
	if (d->inflight)
		d->inflight->prev = fl;
	d->inflight = fl;
	start_turn(fl);
	/* What is waited for anyway may be over when this returns: every second is. */
	if (io->flags & BDEV_SYNC && !io->done && d->nr_sync++ % 2)
		bdev_wait(bdev, io);
}

/* ---- effects at completion ---- */

static void do_read(struct sim_inflight *fl)
{
	struct bdev_io *io = fl->io;

	if (!fl->ret && sim_is_bad(fl->d, io->offset, io->len))
		fl->ret = -BCFS_ERR_dev_read;
	if (fl->ret)
		return;
	sim_image_read(fl->d->current, io->offset, io->buf, io->len);
	if (fl->flip) {
		u64 bit = sim_random(fl->d) % ((u64)io->len * 8);

		((u8 *)io->buf)[bit / 8] ^= (u8)(1U << (bit % 8));
		fl->d->armed[SIM_FAULT_READ_FLIP].kth.flipped = io->offset + bit / 8;
	}
}

static void check_buffer(struct sim_inflight *fl)
{
	struct sim_req *req = fl->req;

	if (req->data && memcmp(req->data, fl->io->buf, req->len))
		sim_violation(fl->d, "the buffer of a write of %u bytes at %llu changed in flight",
			      fl->io->len, (unsigned long long)fl->io->offset);
}

static void do_change(struct sim_inflight *fl)
{
	struct sim_bdev *d = fl->d;
	struct sim_req *req = fl->req;

	if (req->op == BDEV_WRITE)
		check_buffer(fl);
	req->lies |= d->flush_lies;
	req->ret = fl->ret;
	/* A torn write has an error and yet a part of it is there. */
	if (!req->lost && fl->ret != -BCFS_ERR_dev_gone) {
		sim_req_apply(d->current, req);
		if (req->op == BDEV_WRITE)
			sim_bdev_set_bad(&d->b, req->offset, req->len, false);
	}
	if (!fl->ret && req->op == BDEV_WRITE)
		sim_watch_written(d, fl->submitted, fl->io->flags & BDEV_FUA);
	else if (!fl->ret && req->op == BDEV_FLUSH)
		sim_watch_flushed(d, fl->submitted);
	sim_log_event(d, SIM_EV_COMPLETE, req);
}

static void inflight_free(struct sim_inflight *fl)
{
	if (fl->prev)
		fl->prev->next = fl->next;
	else
		fl->d->inflight = fl->next;
	if (fl->next)
		fl->next->prev = fl->prev;
	free(fl);
}

static void finish(struct sim_bdev *d, struct bdev_io *io, int ret)
{
	if (!io->done) {
		bdev_io_complete(io, ret);
		return;
	}
	io->ret = ret;
	io->next = NULL;
	if (d->done_tail)
		d->done_tail->next = io;
	else
		d->done_head = io;
	d->done_tail = io;
	env_cond_signal(&d->done_cond);
}

static void event_fn(struct env_sim_event *ev)
{
	struct sim_inflight *fl = container_of(ev, struct sim_inflight, ev);
	struct sim_bdev *d = fl->d;
	struct bdev_io *io = fl->io;
	int ret;

	if (d->gone)
		fl->ret = -BCFS_ERR_dev_gone;
	if (fl->req)
		do_change(fl);
	else
		do_read(fl);
	ret = fl->ret;
	if (fl->preflush && !ret) {
		fl->preflush = false;
		start_turn(fl);
		return;
	}
	inflight_free(fl);
	finish(d, io, ret);
}

/* The list is changed by events only while this fiber waits or runs a done. */
static void done_fiber(void *arg)
{
	struct sim_bdev *d = arg;

	env_mutex_lock(&d->done_lock);
	for (;;) {
		struct bdev_io *io = d->done_head;

		if (!io) {
			if (d->done_stop)
				break;
			env_cond_wait(&d->done_cond, &d->done_lock);
			continue;
		}
		d->done_head = io->next;
		if (!d->done_head)
			d->done_tail = NULL;
		bdev_io_complete(io, io->ret);
	}
	env_mutex_unlock(&d->done_lock);
}

/* ---- open and close ---- */

static void sim_close(struct bdev *bdev)
{
	struct sim_bdev *d = to_sim(bdev);
	bool stopped = env_sim_is_stopped(bdev->env);

	if (d->done_thread && !stopped) {
		env_mutex_lock(&d->done_lock);
		d->done_stop = true;
		env_cond_signal(&d->done_cond);
		env_mutex_unlock(&d->done_lock);
		env_thread_join(d->done_thread);
	}
	while (d->inflight) { /* only after a power cut */
		struct sim_inflight *fl = d->inflight;

		env_sim_event_cancel(bdev->env, &fl->ev);
		if (fl->req && d->opts.no_log) {
			free(fl->req->data);
			free(fl->req);
		}
		inflight_free(fl);
	}
	env_sim_event_cancel(bdev->env, &d->back);
	env_cond_destroy(&d->done_cond);
	env_mutex_destroy(&d->done_lock);
	sim_log_exit(d);
	sim_watch_exit(d);
	sim_crypt_exit(d);
	free(d->bad);
	sim_image_free(d->current);
	bdev_exit(bdev);
	free(d);
}

static const struct bdev_ops sim_ops = {
	.submit = sim_submit,
	.new_life = sim_bdev_watch_life,
	.end_life = sim_bdev_end_life,
	.close = sim_close,
};

static void set_defaults(struct sim_bdev_opts *o)
{
	if (!o->logical_block)
		o->logical_block = SECTOR_SIZE;
	if (!o->physical_block)
		o->physical_block = 4096;
	if (!o->latency_max_ns) {
		o->latency_min_ns = DEFAULT_LATENCY_MIN;
		o->latency_max_ns = DEFAULT_LATENCY_MAX;
	}
	if (!o->flush_max_ns) {
		o->flush_min_ns = DEFAULT_FLUSH_MIN;
		o->flush_max_ns = DEFAULT_FLUSH_MAX;
	}
}

/* Takes over img. */
static int create(struct env *env, const char *name, const struct sim_bdev_opts *opts,
		  struct sim_image *img, struct bdev **ret)
{
	struct sim_bdev *d = sim_xalloc(sizeof(*d));
	int err;

	assert(env->sim);
	if (opts)
		d->opts = *opts;
	set_defaults(&d->opts);
	err = bdev_init(&d->b, env, &sim_ops, name);
	if (err) {
		sim_image_free(img);
		free(d);
		return err;
	}
	d->b.logical_block = d->opts.logical_block;
	d->b.physical_block = max(d->opts.physical_block, d->opts.logical_block);
	d->b.size_bytes = round_down(sim_image_size(img), d->b.logical_block);
	d->b.read_only = d->opts.read_only;
	d->b.can_discard = !d->opts.no_discard;
	d->b.engine = "sim";
	d->current = img;
	d->base = sim_image_clone(img);
	d->next_id = 1;
	sim_log_init(d);
	env_mutex_init(&d->done_lock, env);
	env_cond_init(&d->done_cond, env);
	err = env_thread_start(env, &d->done_thread, "simdev", done_fiber, d);
	if (err) {
		sim_close(&d->b);
		return err;
	}
	*ret = &d->b;
	return 0;
}

int sim_bdev_create(struct env *env, const char *name, const struct sim_bdev_opts *opts,
		    struct bdev **ret)
{
	return create(env, name, opts, sim_image_create(opts->size_bytes), ret);
}

int sim_bdev_create_from(struct env *env, const char *name, const struct sim_bdev_opts *opts,
			 const struct sim_image *img, struct bdev **ret)
{
	return create(env, name, opts, sim_image_clone(img), ret);
}

/* ---- direct access ---- */

struct sim_image *sim_bdev_image(struct bdev *bdev)
{
	return sim_image_clone(to_sim(bdev)->current);
}

void sim_bdev_peek(struct bdev *bdev, u64 offset, void *buf, u64 len)
{
	sim_image_read(to_sim(bdev)->current, offset, buf, len);
}

/* In the log it is a FUA write that completes at once: later crash states have it. */
void sim_bdev_poke(struct bdev *bdev, u64 offset, const void *buf, u64 len)
{
	struct sim_bdev *d = to_sim(bdev);
	struct sim_req *req = req_new(d, BDEV_WRITE, BDEV_FUA, offset, len, buf);

	sim_req_apply(d->current, req);
	sim_log_event(d, SIM_EV_SUBMIT, req);
	sim_log_event(d, SIM_EV_COMPLETE, req);
}
