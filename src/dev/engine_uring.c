/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * io_uring: one ring and one thread that reaps completions.
 *
 * Requests go to a list under the lock. Whoever finds nobody submitting moves
 * what is on the list into the ring and enters the kernel without the lock,
 * again and again until the list is empty; the others just leave theirs on the
 * list. So submissions batch by themselves exactly when there are many.
 *
 * A request may take several turns through the ring: a flush before it
 * (BDEV_PREFLUSH), the rest of a short transfer, a flush after it where
 * RWF_DSYNC is not supported. io->stage says which turn it is. Discards go to a
 * thread: they block, and are rare.
 */
#include "dev/bdev_private.h"

#include <errno.h>
#include <liburing.h>
#include <sys/uio.h>

#define RING_DEPTH 256U
#define REAP_BATCH 32U

enum {
	STAGE_MAIN, /* also what stage is before the first turn, see first_stage() */
	STAGE_PREFLUSH,
	STAGE_POSTFLUSH,
};

struct bdev_uring {
	struct bdev_file *f;
	struct io_uring ring;
	struct env_thread *reaper;
	struct env_mutex lock;
	struct bdev_io *head, *tail; /* protected by lock: not in the ring yet */
	u32 nr_in_ring;		     /* protected by lock */
	bool submitting;	     /* protected by lock: someone owns the submission queue */
};

static void prep(struct bdev_uring *u, struct bdev_io *io, struct io_uring_sqe *sqe)
{
	struct bdev_file *f = u->f;
	struct bdev_file_span s;

	if (io->op == BDEV_FLUSH || io->stage != STAGE_MAIN) {
		io_uring_prep_fsync(sqe, f->fd, IORING_FSYNC_DATASYNC);
	} else {
		s = bdev_file_span(f, io);
		if (io->op == BDEV_READ) {
			io_uring_prep_read(sqe, s.fd, s.buf, s.len, s.offset);
		} else {
			io_uring_prep_write(sqe, s.fd, s.buf, s.len, s.offset);
			if ((io->flags & BDEV_FUA) &&
			    !__atomic_load_n(&f->no_dsync, __ATOMIC_RELAXED))
				sqe->rw_flags = RWF_DSYNC;
		}
	}
	io_uring_sqe_set_data(sqe, io);
	ENV_TSAN_RELEASE(io);
}

/* Called with the lock, which is dropped while in the kernel. */
static void submit_pending(struct bdev_uring *u)
{
	if (u->submitting)
		return;
	u->submitting = true;
	while (u->head && u->nr_in_ring < RING_DEPTH) {
		u32 nr = 0;
		int ret;

		while (u->head && u->nr_in_ring < RING_DEPTH) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
			struct bdev_io *io = u->head;

			if (!sqe)
				break;
			u->head = io->next;
			if (!u->head)
				u->tail = NULL;
			prep(u, io, sqe);
			u->nr_in_ring++;
			nr++;
		}
		env_mutex_unlock(&u->lock);
		while (nr) {
			ret = io_uring_submit(&u->ring);
			if (ret > 0)
				nr -= min((u32)ret, nr);
			else if (ret != -EINTR) /* EAGAIN, EBUSY: the kernel is short of memory */
				env_sleep_ns(u->f->b.env, 100 * ENV_NSEC_PER_USEC);
		}
		env_mutex_lock(&u->lock);
	}
	u->submitting = false;
}

static void enqueue(struct bdev_uring *u, struct bdev_io *io)
{
	io->next = NULL;
	if (u->tail)
		u->tail->next = io;
	else
		u->head = io;
	u->tail = io;
}

static void discard_fn(struct env_work *work)
{
	struct bdev_io *io = container_of(work, struct bdev_io, work);

	bdev_file_blocking(container_of(io->bdev, struct bdev_file, b), io);
}

static void uring_submit(struct bdev_file *f, struct bdev_io *io)
{
	struct bdev_uring *u = f->uring;

	if (io->op == BDEV_DISCARD) {
		env_work_init(&io->work, discard_fn);
		env_wq_queue(f->wq, &io->work);
		return;
	}
	io->stage =
		io->op == BDEV_WRITE && (io->flags & BDEV_PREFLUSH) ? STAGE_PREFLUSH : STAGE_MAIN;
	env_mutex_lock(&u->lock);
	enqueue(u, io);
	submit_pending(u);
	env_mutex_unlock(&u->lock);
}

/* The outcome of one turn: 0 or a code if the request is over, 1 if it takes another. */
static int turn_done(struct bdev_uring *u, struct bdev_io *io, int res)
{
	struct bdev_file *f = u->f;

	if (res == -EINTR || res == -EAGAIN)
		return 1;
	if (io->op == BDEV_FLUSH || io->stage != STAGE_MAIN) {
		if (res < 0)
			return bdev_errno_code(BDEV_FLUSH, -res);
		if (io->op == BDEV_FLUSH || io->stage == STAGE_POSTFLUSH)
			return 0;
		io->stage = STAGE_MAIN;
		return 1;
	}
	if (res == -EOPNOTSUPP && (io->flags & BDEV_FUA) &&
	    !__atomic_load_n(&f->no_dsync, __ATOMIC_RELAXED)) {
		__atomic_store_n(&f->no_dsync, true, __ATOMIC_RELAXED);
		return 1;
	}
	if (res < 0)
		return bdev_errno_code(io->op, -res);
	if (!res)
		return io->op == BDEV_READ ? -BCFS_ERR_dev_truncated : -BCFS_ERR_dev_write;
	io->done_bytes += (u32)res;
	if (io->done_bytes < io->len)
		return 1;
	if ((io->flags & BDEV_FUA) && __atomic_load_n(&f->no_dsync, __ATOMIC_RELAXED)) {
		io->stage = STAGE_POSTFLUSH;
		return 1;
	}
	return 0;
}

struct reaped {
	struct bdev_io *io;
	int res;
};

/* Waits for completions and takes up to REAP_BATCH; false when it is time to end. */
static bool reap(struct bdev_uring *u, struct reaped *batch, u32 *nr)
{
	struct io_uring_cqe *cqe, *cqes[REAP_BATCH];
	bool go_on = true;
	u32 got;

	*nr = 0;
	if (io_uring_wait_cqe(&u->ring, &cqe))
		return true; /* interrupted */
	got = io_uring_peek_batch_cqe(&u->ring, cqes, REAP_BATCH);
	for (u32 i = 0; i < got; i++) {
		struct bdev_io *io = io_uring_cqe_get_data(cqes[i]);

		if (io) {
			ENV_TSAN_ACQUIRE(io);
			batch[(*nr)++] = (struct reaped){io, cqes[i]->res};
		} else {
			go_on = false;
		}
	}
	io_uring_cq_advance(&u->ring, got);
	return go_on;
}

static void reaper_main(void *arg)
{
	struct bdev_uring *u = arg;
	struct reaped batch[REAP_BATCH];
	bool go_on;
	u32 nr;

	do {
		u32 nr_over = 0;

		go_on = reap(u, batch, &nr);
		env_mutex_lock(&u->lock);
		u->nr_in_ring -= nr;
		for (u32 i = 0; i < nr; i++) {
			int ret = turn_done(u, batch[i].io, batch[i].res);

			if (ret > 0)
				enqueue(u, batch[i].io);
			else
				batch[nr_over++] = (struct reaped){batch[i].io, ret};
		}
		submit_pending(u);
		env_mutex_unlock(&u->lock);
		for (u32 i = 0; i < nr_over; i++)
			bdev_file_done(batch[i].io, batch[i].res);
	} while (go_on);
}

/* A request without data through the ring: what filters forbid fails here. */
static int ring_nop(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		return -BCFS_ERR_dev_no_uring;
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data(sqe, NULL);
	return io_uring_submit(ring) == 1 ? 0 : -BCFS_ERR_dev_no_uring;
}

static int ring_probe(struct io_uring *ring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	struct io_uring_cqe *cqe;
	bool ok = probe && io_uring_opcode_supported(probe, IORING_OP_READ) &&
		  io_uring_opcode_supported(probe, IORING_OP_WRITE) &&
		  io_uring_opcode_supported(probe, IORING_OP_FSYNC);

	if (probe)
		io_uring_free_probe(probe);
	if (!ok || !(ring->features & IORING_FEAT_NODROP) || ring_nop(ring))
		return -BCFS_ERR_dev_no_uring;
	if (io_uring_wait_cqe(ring, &cqe))
		return -BCFS_ERR_dev_no_uring;
	io_uring_cqe_seen(ring, cqe);
	return 0;
}

static int uring_start(struct bdev_file *f, const struct bdev_opts *opts)
{
	struct env *env = f->b.env;
	struct bdev_uring *u = env_zalloc(env, sizeof(*u));
	int ret;

	if (!u)
		return -BCFS_ERR_nomem;
	u->f = f;
	if (io_uring_queue_init(RING_DEPTH, &u->ring, 0)) {
		env_free(env, u);
		return -BCFS_ERR_dev_no_uring;
	}
	env_mutex_init(&u->lock, env);
	ret = ring_probe(&u->ring);
	if (!ret) {
		f->wq = env_wq_create(env, "bcfs-discard", 1);
		ret = f->wq ? env_thread_start(env, &u->reaper, "bcfs-uring", reaper_main, u)
			    : -BCFS_ERR_thread_start;
	}
	if (ret) {
		env_wq_destroy(f->wq);
		f->wq = NULL;
		io_uring_queue_exit(&u->ring);
		env_mutex_destroy(&u->lock);
		env_free(env, u);
		return ret;
	}
	f->uring = u;
	return 0;
}

/* Nothing is in flight any more: the reaper waits for the request without data. */
static void uring_stop(struct bdev_file *f)
{
	struct bdev_uring *u = f->uring;

	env_wq_destroy(f->wq);
	/* Its request may be over before a submitter has come back from the kernel. */
	env_mutex_lock(&u->lock);
	while (u->submitting) {
		env_mutex_unlock(&u->lock);
		env_sleep_ns(f->b.env, 50 * ENV_NSEC_PER_USEC);
		env_mutex_lock(&u->lock);
	}
	env_mutex_unlock(&u->lock);
	while (ring_nop(&u->ring))
		env_sleep_ns(f->b.env, ENV_NSEC_PER_MSEC);
	env_thread_join(u->reaper);
	io_uring_queue_exit(&u->ring);
	env_mutex_destroy(&u->lock);
	env_free(f->b.env, u);
}

const struct bdev_file_engine bdev_engine_uring = {
	.name = "io_uring",
	.start = uring_start,
	.submit = uring_submit,
	.stop = uring_stop,
};
