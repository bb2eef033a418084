// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The table of operations, and what they share.
 *
 * ENOSYS is sticky: the kernel never sends that request again. It is answered
 * to OPEN, OPENDIR, CREATE, FLUSH and POLL alone, so every operation libfuse knows has a row
 * here, were it only to refuse.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fuse_bcfs.h"

static struct timespec to_timespec(struct bcfs_time t)
{
	return (struct timespec){.tv_sec = t.sec, .tv_nsec = t.nsec};
}

void stat_fill(const struct daemon *d, const struct bcfs_stat *st, struct stat *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->st_ino = st_ino_of(d, st->ino);
	ret->st_mode = st->mode;
	ret->st_nlink = st->nlink;
	ret->st_uid = st->uid;
	ret->st_gid = st->gid;
	ret->st_rdev = makedev(st->rdev_major, st->rdev_minor);
	ret->st_size = (off_t)st->size;
	ret->st_blocks = (blkcnt_t)st->blocks;
	ret->st_blksize = st->blksize;
	ret->st_atim = to_timespec(st->atime);
	ret->st_mtim = to_timespec(st->mtime);
	ret->st_ctim = to_timespec(st->ctime);
}

void entry_fill(const struct daemon *d, const struct bcfs_stat *st, struct fuse_entry_param *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->ino = node_of(d, st->ino);
	ret->generation = st->generation;
	stat_fill(d, st, &ret->attr);
	ret->attr_timeout = d->opts->attr_timeout;
	ret->entry_timeout = d->opts->entry_timeout;
}

struct bcfs_cred req_cred(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct bcfs_cred){.uid = ctx->uid, .gid = ctx->gid, .umask = ctx->umask};
}

void note_code(struct daemon *d, int code)
{
	if (!d->shut_down && bcfs_errno(code) == EROFS && !d->opts->open.read_only &&
	    bcfs_is_read_only(d->fs) && !atomic_exchange(&d->went_ro, true))
		daemon_signal(d);
}

void reply_code(fuse_req_t req, int code)
{
	struct daemon *d = req_daemon(req);

	note_code(d, code);
	fuse_reply_err(req, code && d->shut_down ? EIO : bcfs_errno(code));
}

void reply_entry(fuse_req_t req, const struct bcfs_stat *st)
{
	struct daemon *d = req_daemon(req);
	struct fuse_entry_param e;

	entry_fill(d, st, &e);
	if (fuse_reply_entry(req, &e))
		bcfs_forget(d->fs, st->ino, 1);
}

static void op_bmap(fuse_req_t req, fuse_ino_t node, size_t blocksize, uint64_t idx)
{
	fuse_reply_err(req, EINVAL);
}

/*
 * Files are always ready, which the kernel assumes itself where this is missing. io_uring asks
 * before each attempt of a write, a hundred times and more.
 */
static void op_poll(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi,
		    struct fuse_pollhandle *ph)
{
	if (ph)
		fuse_pollhandle_destroy(ph);
	fuse_reply_err(req, ENOSYS);
}

/* Locks stay in the kernel: these are not asked for at INIT and not sent. */
static void op_getlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock)
{
	fuse_reply_err(req, EOPNOTSUPP);
}

static void op_setlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock,
		     int sleep)
{
	fuse_reply_err(req, EOPNOTSUPP);
}

static void op_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int op)
{
	fuse_reply_err(req, EOPNOTSUPP);
}

/* An answer to a notification that is never sent. */
static void op_retrieve_reply(fuse_req_t req, void *cookie, fuse_ino_t node, off_t off,
			      struct fuse_bufvec *bufv)
{
	fuse_reply_none(req);
}

const struct fuse_lowlevel_ops daemon_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.access = op_access,
	.create = op_create,
	.getlk = op_getlk,
	.setlk = op_setlk,
	.bmap = op_bmap,
	.ioctl = op_ioctl,
	.poll = op_poll,
	.retrieve_reply = op_retrieve_reply,
	.flock = op_flock,
	.fallocate = op_fallocate,
	.readdirplus = op_readdirplus,
	.copy_file_range = op_copy_file_range,
	.lseek = op_lseek,
};
