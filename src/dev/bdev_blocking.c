/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A request with blocking system calls, in the thread that asks: what the pool of threads does, and
 * either engine if the caller has nothing else to do meanwhile (BDEV_SYNC). Then it is also the
 * quickest way: a completion of io_uring wakes the thread that submitted, the thread that reaps,
 * and the one that waits.
 */
#include "dev/bdev_private.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

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

void bdev_file_blocking(struct bdev_file *f, struct bdev_io *io)
{
	int ret = 0;

	env_about_to_wait();
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
