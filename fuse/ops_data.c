// SPDX-License-Identifier: LGPL-2.1-or-later
/* Data of files. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse_bcfs.h"
#include "loop.h"

/* The kernel does not know the flags of files. */
static int open_allowed(struct daemon *d, fuse_ino_t node, int flags)
{
	bool writes = (flags & O_ACCMODE) != O_RDONLY;
	struct bcfs_stat st;
	int ret = bcfs_getattr(d->fs, ino_of(d, node), &st);

	if (ret)
		return bcfs_errno(ret);
	if (st.flags & BCFS_FL_IMMUTABLE && writes)
		return EPERM;
	if (st.flags & BCFS_FL_APPEND && writes && (!(flags & O_APPEND) || flags & O_TRUNC))
		return EPERM;
	return 0;
}

void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct daemon *d = req_daemon(req);
	int error;

	if (d->opts->open_op != BCFS_ON) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	error = open_allowed(d, node, fi->flags);
	if (error) {
		fuse_reply_err(req, error);
		return;
	}
	fi->keep_cache = d->opts->keep_cache == BCFS_ON;
	fuse_reply_open(req, fi);
}

void op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct daemon *d = req_daemon(req);
	void *buf = request_buffer(size);
	int64_t len;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	len = (request_current()->noatime ? bcfs_read_noatime : bcfs_read)(
		d->fs, ino_of(d, node), (uint64_t)off, buf, size);
	if (len < 0)
		reply_code(req, (int)len);
	else
		fuse_reply_buf(req, buf, (size_t)len);
}

/* Does this write take set-user-ID or set-group-ID away, unseen by the kernel? */
static bool kills_priv(struct daemon *d, fuse_ino_t node)
{
	struct bcfs_stat st;

	return request_current()->kill_priv && !bcfs_getattr(d->fs, ino_of(d, node), &st) &&
	       st.mode & (S_ISUID | S_ISGID);
}

/*
 * A short write is an answer to write(2) only. For pages from the cache the
 * kernel looks at the error alone, and past the cache (O_DIRECT) it makes EIO of a short one: so
 * there the reason must be the reply.
 */
void op_write(fuse_req_t req, fuse_ino_t node, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi)
{
	struct daemon *d = req_daemon(req);
	const struct request *r = request_current();
	bool kills = kills_priv(d, node);
	uint32_t flags = 0;
	size_t done = 0;
	int64_t len;

	if (r->kill_priv)
		flags |= BCFS_WRITE_KILL_PRIV;
	/*
	 * With its cache the kernel keeps the times and sends them by SETATTR, for writes past
	 * the cache too: but not where its coarser clock has not moved since the last change.
	 */
	if (d->kernel_times)
		flags |= BCFS_WRITE_KEEP_TIMES;

	do {
		len = bcfs_write(d->fs, ino_of(d, node), (uint64_t)off + done, buf + done,
				 size - done, flags);
		if (len > 0)
			done += (size_t)len;
	} while (len > 0 && done < size);

	if (len < 0 && (r->from_cache || !done || fi->flags & O_DIRECT))
		reply_code(req, (int)len);
	else if (done < size && r->from_cache)
		fuse_reply_err(req, EIO);
	else
		fuse_reply_write(req, done);
	/* Attributes only: that takes no lock which a request may hold. */
	if (kills)
		fuse_lowlevel_notify_inval_inode(d->se, node, -1, 0);
}

/* Nothing to do: the kernel has sent the dirty pages before. */
void op_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	fuse_reply_err(req, req_daemon(req)->enosys_flush ? ENOSYS : 0);
}

/* Decides nothing: an unlinked file lives until its lookup references are gone. */
void op_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	struct daemon *d = req_daemon(req);

	reply_code(req, bcfs_fsync(d->fs, ino_of(d, node), datasync));
}

void op_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi)
{
	struct daemon *d = req_daemon(req);
	uint32_t flags = (uint32_t)mode;

	if (flags & BCFS_FALLOC_KEEP_TIMES) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	if (d->falloc_times)
		flags |= BCFS_FALLOC_KEEP_TIMES;
	reply_code(req,
		   bcfs_fallocate(d->fs, ino_of(d, node), flags, (uint64_t)off, (uint64_t)len));
}

uint32_t copy_flags(const struct daemon *d)
{
	return d->kernel_times ? BCFS_WRITE_KEEP_TIMES : 0;
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t src, off_t src_off, struct fuse_file_info *fi,
			fuse_ino_t dst, off_t dst_off, struct fuse_file_info *dst_fi, size_t len,
			int flags)
{
	/* The reply has 32 bits for the length. */
	const size_t max = 1U << 30;
	struct daemon *d = req_daemon(req);
	int64_t copied;

	if (flags) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	copied = bcfs_copy_range(d->fs, ino_of(d, src), (uint64_t)src_off, ino_of(d, dst),
				 (uint64_t)dst_off, len < max ? len : max, copy_flags(d));
	if (copied < 0)
		reply_code(req, (int)copied);
	else
		fuse_reply_write(req, (size_t)copied);
}
