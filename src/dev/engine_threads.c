/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The engine that works everywhere: a pool of threads, each of which takes a
 * request and does it with blocking system calls.
 */
#include "dev/bdev_private.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#define DEFAULT_THREADS 8

static int do_flush(struct bdev_file *f)
{
	return fdatasync(f->fd) ? bdev_errno_code(BDEV_FLUSH, errno) : 0;
}

static int do_read(struct bdev_file *f, struct bdev_io *io)
{
	while (io->done_bytes < io->len) {
		struct bdev_file_span s = bdev_file_span(f, io);
		ssize_t n = pread(s.fd, s.buf, s.len, (off_t)s.offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return bdev_errno_code(BDEV_READ, errno);
		if (!n)
			return -BCFS_ERR_dev_truncated;
		io->done_bytes += (u32)n;
	}
	return 0;
}

static ssize_t write_some(struct bdev_file *f, struct bdev_io *io, bool dsync)
{
	struct bdev_file_span s = bdev_file_span(f, io);
	struct iovec iov = {s.buf, s.len};

	return pwritev2(s.fd, &iov, 1, (off_t)s.offset, dsync ? RWF_DSYNC : 0);
}

static int do_write(struct bdev_file *f, struct bdev_io *io)
{
	bool dsync = (io->flags & BDEV_FUA) && !__atomic_load_n(&f->no_dsync, __ATOMIC_RELAXED);
	int ret = io->flags & BDEV_PREFLUSH ? do_flush(f) : 0;

	while (!ret && io->done_bytes < io->len) {
		ssize_t n = write_some(f, io, dsync);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && dsync && (errno == EOPNOTSUPP || errno == ENOSYS)) {
			__atomic_store_n(&f->no_dsync, true, __ATOMIC_RELAXED);
			dsync = false;
			continue;
		}
		if (n <= 0)
			return bdev_errno_code(BDEV_WRITE, n ? errno : EIO);
		io->done_bytes += (u32)n;
	}
	if (!ret && (io->flags & BDEV_FUA) && !dsync)
		ret = do_flush(f);
	return ret;
}

static void work_fn(struct env_work *work)
{
	struct bdev_io *io = container_of(work, struct bdev_io, work);
	struct bdev_file *f = container_of(io->bdev, struct bdev_file, b);
	int ret = 0;

	switch (io->op) {
	case BDEV_READ:
		ret = do_read(f, io);
		break;
	case BDEV_WRITE:
		ret = do_write(f, io);
		break;
	case BDEV_FLUSH:
		ret = do_flush(f);
		break;
	case BDEV_DISCARD:
		ret = bdev_file_discard(f, io->offset, io->len_discard);
		break;
	case BDEV_OP_NR:
		break;
	}
	bdev_file_done(io, ret);
}

static int threads_start(struct bdev_file *f, const struct bdev_opts *opts)
{
	f->wq = env_wq_create(f->b.env, "bcfs-io",
			      opts->nr_threads ? opts->nr_threads : DEFAULT_THREADS);
	return f->wq ? 0 : -BCFS_ERR_thread_start;
}

static void threads_submit(struct bdev_file *f, struct bdev_io *io)
{
	env_work_init(&io->work, work_fn);
	env_wq_queue(f->wq, &io->work);
}

static void threads_stop(struct bdev_file *f)
{
	env_wq_destroy(f->wq);
}

const struct bdev_file_engine bdev_engine_threads = {
	.name = "threads",
	.start = threads_start,
	.submit = threads_submit,
	.stop = threads_stop,
};
