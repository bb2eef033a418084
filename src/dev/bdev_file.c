/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files and block devices: what the device can do, O_DIRECT where it can, the
 * choice of the engine, and what the engines share.
 */
#include "dev/bdev_private.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BUF_ALIGN 4096U

static struct bdev_file *to_file(struct bdev *bdev)
{
	return container_of(bdev, struct bdev_file, b);
}

/* ---- requests ---- */

int bdev_errno_code(enum bdev_op op, int err)
{
	if (err == ENODEV || err == ENXIO || err == ENOMEDIUM)
		return -BCFS_ERR_dev_gone;
	switch (op) {
	case BDEV_READ:
		return -BCFS_ERR_dev_read;
	case BDEV_FLUSH:
		return -BCFS_ERR_dev_flush;
	case BDEV_DISCARD:
		return err == EOPNOTSUPP ? -BCFS_ERR_dev_no_discard : -BCFS_ERR_dev_discard;
	case BDEV_WRITE:
	case BDEV_OP_NR:
		break;
	}
	if (err == ENOSPC || err == EDQUOT)
		return -BCFS_ERR_dev_nospc;
	return -BCFS_ERR_dev_write;
}

static bool goes_direct(const struct bdev_file *f, const struct bdev_io *io)
{
	return f->fd_direct >= 0 && !((io->offset | io->len) & (f->dio_align - 1));
}

struct bdev_file_span bdev_file_span(struct bdev_file *f, struct bdev_io *io)
{
	u8 *buf = io->bounce ? io->bounce : io->buf;
	struct bdev_file_span s = {
		.fd = goes_direct(f, io) ? f->fd_direct : f->fd,
		.buf = buf + io->done_bytes,
		.offset = io->offset + io->done_bytes,
		.len = io->len - io->done_bytes,
	};

	/* The rest of a short transfer need not be aligned any more. */
	if (s.fd == f->fd_direct && (io->done_bytes & (f->dio_align - 1)))
		s.fd = f->fd;
	return s;
}

void bdev_file_done(struct bdev_io *io, int ret)
{
	if (io->bounce) {
		if (io->op == BDEV_READ && !ret)
			memcpy(io->buf, io->bounce, io->len);
		env_free(io->bdev->env, io->bounce);
		io->bounce = NULL;
	}
	bdev_io_complete(io, ret);
}

static void file_submit(struct bdev *bdev, struct bdev_io *io)
{
	struct bdev_file *f = to_file(bdev);

	if ((io->op == BDEV_READ || io->op == BDEV_WRITE) && goes_direct(f, io) &&
	    ((uintptr_t)io->buf & (f->dio_align - 1))) {
		io->bounce = env_malloc_aligned(bdev->env, BUF_ALIGN, io->len);
		if (!io->bounce) {
			bdev_io_complete(io, -BCFS_ERR_nomem);
			return;
		}
		if (io->op == BDEV_WRITE)
			memcpy(io->bounce, io->buf, io->len);
	}
	if (io->flags & BDEV_SYNC)
		bdev_file_blocking(f, io);
	else
		f->eng->submit(f, io);
}

int bdev_file_discard(struct bdev_file *f, u64 offset, u64 len)
{
	u64 range[2] = {offset, len};
	int ret;

	if (f->b.is_file)
		ret = fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
				(off_t)len);
	else
		ret = ioctl(f->fd, BLKDISCARD, range);
	return ret ? bdev_errno_code(BDEV_DISCARD, errno) : 0;
}

static void file_close(struct bdev *bdev)
{
	struct bdev_file *f = to_file(bdev);
	struct env *env = bdev->env;

	if (f->eng)
		f->eng->stop(f);
	bdev_unclaim(f);
	bdev_exit(bdev);
	env_free(env, f);
}

static const struct bdev_ops file_ops = {
	.submit = file_submit,
	.close = file_close,
};

struct bdev_file *bdev_to_file(struct bdev *bdev)
{
	return bdev->ops == &file_ops ? to_file(bdev) : NULL;
}

/* ---- what the device is ---- */

/* A number from the queue folder of a block device (its disk's, for a partition); or dflt. */
static u64 queue_attr(dev_t dev, const char *attr, u64 dflt)
{
	static const char *const places[] = {"", "../"};
	char path[128];
	unsigned long long v;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		FILE *file;
		int nr;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s", major(dev),
			 minor(dev), places[i], attr);
		file = fopen(path, "re");
		if (!file)
			continue;
		nr = fscanf(file, "%llu", &v);
		fclose(file);
		if (nr == 1)
			return v;
	}
	return dflt;
}

static int block_geometry(struct bdev_file *f, const struct stat *st)
{
	int logical = 512, ro = 0;
	unsigned int physical = 4096;
	u64 size = 0;

	if (ioctl(f->fd, BLKGETSIZE64, &size))
		return -BCFS_ERR_dev_open;
	ioctl(f->fd, BLKSSZGET, &logical);
	ioctl(f->fd, BLKPBSZGET, &physical);
	ioctl(f->fd, BLKROGET, &ro);
	if (ro && !f->b.read_only)
		return -BCFS_ERR_dev_media_ro;
	f->b.size_bytes = size;
	f->b.logical_block = (u32)logical;
	f->b.physical_block = max(physical, (unsigned int)logical);
	f->b.rotational = queue_attr(st->st_rdev, "rotational", 0);
	f->b.can_discard = queue_attr(st->st_rdev, "discard_max_bytes", 0) > 0;
	return 0;
}

static int geometry(struct bdev_file *f, char *msg, size_t size)
{
	struct bdev *b = &f->b;
	struct stat st;
	int ret = 0;

	if (fstat(f->fd, &st)) {
		ret = -BCFS_ERR_dev_open;
	} else if (b->is_file) {
		b->size_bytes = (u64)st.st_size;
		b->logical_block = 512;
		b->physical_block = 4096;
		b->rotational = queue_attr(st.st_dev, "rotational", 0);
		b->can_discard = true;
	} else {
		ret = block_geometry(f, &st);
	}
	if (!ret)
		b->size_bytes = round_down(b->size_bytes, b->logical_block);
	if (!ret && !b->size_bytes)
		ret = -BCFS_ERR_dev_empty;
	if (ret == -BCFS_ERR_dev_media_ro)
		snprintf(msg, size, "%s: is read-only: open it read-only, or make it writable",
			 b->name);
	else if (ret == -BCFS_ERR_dev_empty)
		snprintf(msg, size, "%s: has no size; give it one (truncate -s, or mkfs --size)",
			 b->name);
	else if (ret)
		snprintf(msg, size, "%s: does not tell its size: %s", b->name, strerror(errno));
	return ret;
}

/* ---- O_DIRECT ---- */

/* The least alignment with which a direct read works; 0: none does. */
static u32 probe_direct(int fd, u32 least)
{
	u32 found = 0;
	u8 *buf;

	if (posix_memalign((void **)&buf, BUF_ALIGN, 2 * BUF_ALIGN))
		return 0;
	for (u32 align = least; align <= BUF_ALIGN && !found; align *= 2)
		if (pread(fd, buf + align, align, align) == (ssize_t)align)
			found = align;
	free(buf);
	return found;
}

/* A file that cannot is used through the page cache: not an error. */
static void open_direct(struct bdev_file *f, const char *path)
{
	struct stat a, b;
	int fd;

	if (f->b.size_bytes < 2 * BUF_ALIGN)
		return;
	fd = open(path, (f->b.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_DIRECT);
	if (fd < 0)
		return;
	if (!fstat(fd, &a) && !fstat(f->fd, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		f->dio_align = probe_direct(fd, f->b.logical_block);
	if (!f->dio_align) {
		close(fd);
		return;
	}
	f->fd_direct = fd;
	f->b.direct = true;
}

/* ---- open ---- */

static int start_engine(struct bdev_file *f, const struct bdev_opts *opts, char *msg, size_t size)
{
	const struct bdev_file_engine *eng =
		opts->engine == BDEV_ENGINE_THREADS ? &bdev_engine_threads : &bdev_engine_uring;
	int ret = eng->start(f, opts);

	if (ret == -BCFS_ERR_dev_no_uring && opts->engine == BDEV_ENGINE_AUTO) {
		eng = &bdev_engine_threads;
		ret = eng->start(f, opts);
	}
	if (ret) {
		snprintf(msg, size, "%s: the I/O engine '%s' cannot start: %s%s", f->b.name,
			 eng->name, err_str(ret),
			 ret == -BCFS_ERR_dev_no_uring ? "; use io=threads" : "");
		return ret;
	}
	f->eng = eng;
	f->b.engine = eng->name;
	return 0;
}

int bdev_open(struct env *env, const char *path, const struct bdev_opts *opts, struct bdev **ret,
	      char *msg, size_t msg_size)
{
	static const struct bdev_opts defaults;
	char dummy[BDEV_MSG_SIZE];
	struct bdev_file *f;
	int err;

	if (!opts)
		opts = &defaults;
	if (!msg || !msg_size) {
		msg = dummy;
		msg_size = sizeof(dummy);
	}
	if (opts->unlocked && !opts->read_only) {
		snprintf(msg, msg_size, "%s: writing without the lock is refused", path);
		return -BCFS_ERR_dev_bad_opts;
	}
	f = env_zalloc(env, sizeof(*f));
	if (!f || bdev_init(&f->b, env, &file_ops, path)) {
		env_free(env, f);
		snprintf(msg, msg_size, "%s: out of memory", path);
		return -BCFS_ERR_nomem;
	}
	f->b.read_only = opts->read_only;
	err = bdev_claim(f, path, opts, msg, msg_size);
	if (!err)
		err = geometry(f, msg, msg_size);
	if (!err && opts->direct == BDEV_DIRECT_AUTO)
		open_direct(f, path);
	if (!err)
		err = start_engine(f, opts, msg, msg_size);
	if (err) {
		file_close(&f->b);
		return err;
	}
	*ret = &f->b;
	return 0;
}
