/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opening a file or block device so that nobody else has it.
 *
 * Images: flock(2), shared for readers, exclusive for writers. Never fcntl
 * locks, which any close of the file in this process would drop. Block devices:
 * besides that an O_EXCL open, which the kernel refuses while the device is
 * mounted or part of something, and which keeps others from mounting it. The
 * claim is a descriptor of its own, so that bdev_release_excl() can give it up.
 * A loop device is locked by its file as well: both names are one device.
 *
 * A device that is in use is waited for (opts->wait_lock_ms), unless a mount of
 * it is to be seen (bdev_mounts.c): then it is refused at once, by name of the
 * mount point.
 */
#include "dev/bdev_private.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define POLL_NS (20 * ENV_NSEC_PER_MSEC)
/* udev holds a shared flock on a whole disk for a moment when it looks at it. */
#define BLOCK_GRACE_NS ENV_NSEC_PER_SEC

static int fail(char *msg, size_t size, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static int fail(char *msg, size_t size, int code, const char *fmt, ...)
{
	va_list args;

	if (msg && size) {
		va_start(args, fmt);
		vsnprintf(msg, size, fmt, args);
		va_end(args);
	}
	return -code;
}

static int open_failed(const char *path, int err, const struct bdev_opts *opts, char *msg,
		       size_t size)
{
	switch (err) {
	case ENOENT:
	case ENOTDIR:
		return fail(msg, size, BCFS_ERR_dev_not_found,
			    "%s: no such file or device; check the path", path);
	case EISDIR:
		return fail(msg, size, BCFS_ERR_dev_is_dir,
			    "%s: is a directory; name a block device or an image file", path);
	case EACCES:
	case EPERM:
		return fail(msg, size, BCFS_ERR_dev_permission,
			    "%s: permission denied; %s access is needed (run as root, or change "
			    "its mode)",
			    path, opts->read_only ? "read" : "read and write");
	case EROFS:
		return fail(msg, size, BCFS_ERR_dev_media_ro,
			    "%s: lies on read-only media; open it read-only", path);
	case ENXIO:
	case ENODEV:
	case ENOMEDIUM:
		return fail(msg, size, BCFS_ERR_dev_absent,
			    "%s: there is no device or medium behind it", path);
	default:
		return fail(msg, size, BCFS_ERR_dev_open, "%s: cannot be opened: %s", path,
			    strerror(err));
	}
}

/* ---- one attempt ---- */

enum { CLAIMED, BUSY_EXCL, BUSY_LOCK };

/* CLAIMED, BUSY_*, or a negative code with a message. */
static int try_claim(struct bdev_file *f, const char *path, const struct bdev_opts *opts,
		     const struct stat *st, char *msg, size_t size)
{
	int mode = opts->read_only ? O_RDONLY : O_RDWR;
	int lock = opts->read_only && !opts->exclusive ? LOCK_SH : LOCK_EX;

	if (!f->b.is_file && f->fd_excl < 0) {
		f->fd_excl = open(path, mode | O_CLOEXEC | O_EXCL);
		if (f->fd_excl < 0 && errno == EBUSY)
			return BUSY_EXCL;
		if (f->fd_excl < 0)
			return open_failed(path, errno, opts, msg, size);
	}
	if (f->b.is_file && bdev_loop_in_use(st))
		return BUSY_EXCL;
	if (!f->b.is_file && f->fd_backing < 0)
		f->fd_backing = bdev_loop_backing(f->fd, st);
	/* Not every filesystem has locks for a file opened for reading: only a held one counts. */
	if (f->fd_backing >= 0 && flock(f->fd_backing, lock | LOCK_NB) && errno == EWOULDBLOCK)
		return BUSY_LOCK;
	if (!flock(f->fd, lock | LOCK_NB))
		return CLAIMED;
	if (errno == EWOULDBLOCK)
		return BUSY_LOCK;
	return fail(msg, size, BCFS_ERR_dev_open, "%s: cannot be locked: %s", path,
		    strerror(errno));
}

static int busy_failed(const char *path, int busy, bool is_file, char *msg, size_t size)
{
	if (busy == BUSY_EXCL)
		return fail(msg, size, BCFS_ERR_dev_in_use,
			    "%s: is in use (mounted, swap, or part of another device); release it "
			    "first",
			    path);
	return fail(msg, size, BCFS_ERR_dev_in_use,
		    "%s: is in use by another process (a bcfs mount or tool); unmount it or wait "
		    "for it to end%s",
		    path, is_file ? "" : ", or see what else has it locked");
}

static int claim_wait(struct bdev_file *f, const char *path, const struct bdev_opts *opts,
		      const struct stat *st, char *msg, size_t size)
{
	struct env *env = f->b.env;
	u64 start = env_mono_ns(env), wait_ns = opts->wait_lock_ms * ENV_NSEC_PER_MSEC;
	char point[PATH_MAX], text[BDEV_MSG_SIZE];
	bool told = !wait_ns || !opts->on_wait;

	if (!f->b.is_file)
		wait_ns = max_t(u64, wait_ns, BLOCK_GRACE_NS);
	for (;;) {
		int ret = try_claim(f, path, opts, st, msg, size);

		if (ret < 0 || (!ret && !opts->unmounted))
			return ret;
		if (bdev_find_mount(path, st, point, sizeof(point)))
			return fail(msg, size, BCFS_ERR_dev_mounted,
				    "%s: is mounted on %s; unmount it first", path, point);
		if (!ret)
			return 0;
		if (env_mono_ns(env) - start >= wait_ns)
			return busy_failed(path, ret, f->b.is_file, msg, size);
		if (!told) {
			snprintf(
				text, sizeof(text),
				"%s: is in use by another process; waiting up to %u seconds for it",
				path, DIV_ROUND_UP(opts->wait_lock_ms, 1000));
			opts->on_wait(opts->on_wait_ctx, text);
			told = true;
		}
		env_sleep_ns(env, POLL_NS);
	}
}

int bdev_claim(struct bdev_file *f, const char *path, const struct bdev_opts *opts, char *msg,
	       size_t size)
{
	struct stat st;
	int ret = 0;

	f->fd = f->fd_excl = f->fd_direct = f->fd_backing = -1;
	if (stat(path, &st))
		return open_failed(path, errno, opts, msg, size);
	if (S_ISDIR(st.st_mode))
		return open_failed(path, EISDIR, opts, msg, size);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return fail(msg, size, BCFS_ERR_dev_not_block,
			    "%s: is neither a block device nor an image file", path);
	f->b.is_file = S_ISREG(st.st_mode);
	f->fd = open(path, (opts->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0)
		return open_failed(path, errno, opts, msg, size);
	if (!opts->unlocked)
		ret = claim_wait(f, path, opts, &st, msg, size);
	if (ret)
		bdev_unclaim(f);
	return ret;
}

void bdev_unclaim(struct bdev_file *f)
{
	if (f->fd_direct >= 0)
		close(f->fd_direct);
	if (f->fd_excl >= 0)
		close(f->fd_excl);
	if (f->fd >= 0)
		close(f->fd);
	if (f->fd_backing >= 0)
		close(f->fd_backing);
	f->fd = f->fd_excl = f->fd_direct = f->fd_backing = -1;
}

void bdev_release_excl(struct bdev *bdev)
{
	struct bdev_file *f = bdev_to_file(bdev);

	if (!f)
		return;
	if (f->fd_excl >= 0)
		close(f->fd_excl);
	f->fd_excl = -1;
}

/* ---- from reading to writing ---- */

/* The file behind fd, opened anew. */
static int open_again(int fd, int mode)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, mode | O_CLOEXEC | O_NONBLOCK);
}

int bdev_claim_excl(struct bdev *bdev)
{
	struct bdev_file *f = bdev_to_file(bdev);

	if (!f || f->b.is_file || f->fd_excl >= 0)
		return 0;
	f->fd_excl = open_again(f->fd, (bdev->read_only ? O_RDONLY : O_RDWR) | O_EXCL);
	return f->fd_excl < 0 ? -BCFS_ERR_dev_in_use : 0;
}

/* A lock belongs to its descriptor: this one is opened anew, so the old one lets go first. */
static bool move_lock(struct bdev_file *f, int fd)
{
	flock(f->fd, LOCK_UN);
	if (f->fd_backing < 0 || !flock(f->fd_backing, LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK) {
		if (!flock(fd, LOCK_EX | LOCK_NB))
			return true;
	}
	if (f->fd_backing >= 0)
		flock(f->fd_backing, LOCK_SH | LOCK_NB);
	flock(f->fd, LOCK_SH | LOCK_NB);
	return false;
}

int bdev_make_writable(struct bdev *bdev, char *msg, size_t size)
{
	struct bdev_file *f = bdev_to_file(bdev);
	const struct bdev_opts opts = {0};
	int fd, fd_direct = -1, ro = 0;

	if (!f || !bdev->read_only)
		return 0;
	if (!f->b.is_file && !ioctl(f->fd, BLKROGET, &ro) && ro)
		return open_failed(bdev->name, EROFS, &opts, msg, size);
	fd = open_again(f->fd, O_RDWR);
	if (fd >= 0 && f->fd_direct >= 0)
		fd_direct = open_again(f->fd, O_RDWR | O_DIRECT);
	if (fd < 0 || (fd_direct < 0 && f->fd_direct >= 0)) {
		int ret = open_failed(bdev->name, errno, &opts, msg, size);

		if (fd >= 0)
			close(fd);
		return ret;
	}
	if (!move_lock(f, fd)) {
		close(fd);
		if (fd_direct >= 0)
			close(fd_direct);
		return busy_failed(bdev->name, BUSY_LOCK, f->b.is_file, msg, size);
	}
	dup3(fd, f->fd, O_CLOEXEC);
	close(fd);
	if (fd_direct >= 0) {
		dup3(fd_direct, f->fd_direct, O_CLOEXEC);
		close(fd_direct);
	}
	bdev->read_only = false;
	return 0;
}
