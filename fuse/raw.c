// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Requests that libfuse 3.14 does not know, decoded and answered here: SYNCFS,
 * TMPFILE, STATX (for the birth time), the 64-bit COPY_FILE_RANGE and SETXATTR
 * with flags (the length of its arguments is another then). Any other newer one is refused with
 * EOPNOTSUPP: ENOSYS would stick.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include "fuse_bcfs.h"
#include "loop.h"
#include "task.h"

struct statx_in {
	uint32_t getattr_flags;
	uint32_t reserved;
	uint64_t fh;
	uint32_t sx_flags;
	uint32_t sx_mask;
};

struct statx_time {
	int64_t sec;
	uint32_t nsec;
	int32_t reserved;
};

struct statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	struct {
		uint32_t mask;
		uint32_t blksize;
		uint64_t attributes;
		uint32_t nlink;
		uint32_t uid;
		uint32_t gid;
		uint16_t mode;
		uint16_t spare0;
		uint64_t ino;
		uint64_t size;
		uint64_t blocks;
		uint64_t attributes_mask;
		struct statx_time atime, btime, ctime, mtime;
		uint32_t rdev_major, rdev_minor;
		uint32_t dev_major, dev_minor;
		uint64_t spare2[14];
	} stat;
};

_Static_assert(sizeof(struct statx_in) == 24, "protocol");
_Static_assert(sizeof(struct statx_out) == 288, "protocol");

/* 0, or the errno of a reply that the kernel did not take (the request is gone). */
static int send_reply(struct daemon *d, uint64_t unique, int error, const void *data, size_t len)
{
	struct fuse_out_header head = {
		.len = (uint32_t)(sizeof(head) + len),
		.error = -error,
		.unique = unique,
	};
	struct iovec iov[2] = {
		{.iov_base = &head, .iov_len = sizeof(head)},
		{.iov_base = (void *)data, .iov_len = len},
	};
	int failed = error ? 0 : reply_sync(d);

	if (failed) {
		head.error = -failed;
		head.len = sizeof(head);
		len = 0;
	}
	return writev(d->fd, iov, len ? 2 : 1) < 0 ? errno : 0;
}

void raw_reply_errno(struct daemon *d, uint64_t unique, int error)
{
	send_reply(d, unique, error, NULL, 0);
}

void raw_reply(struct daemon *d, uint64_t unique, int code)
{
	if (code)
		note_code(d, code);
	send_reply(d, unique, bcfs_errno(code), NULL, 0);
}

static void timeout_split(double seconds, uint64_t *ret_sec, uint32_t *ret_nsec)
{
	*ret_sec = (uint64_t)seconds;
	*ret_nsec = (uint32_t)((seconds - (double)*ret_sec) * 1e9);
}

static void raw_syncfs(struct daemon *d, const struct fuse_in_header *in)
{
	send_reply(d, in->unique, bcfs_errno(bcfs_sync(d->fs)), NULL, 0);
}

static void attr_fill(const struct daemon *d, const struct bcfs_stat *st, struct fuse_attr *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->ino = st_ino_of(d, st->ino);
	ret->size = st->size;
	ret->blocks = st->blocks;
	ret->atime = (uint64_t)st->atime.sec;
	ret->mtime = (uint64_t)st->mtime.sec;
	ret->ctime = (uint64_t)st->ctime.sec;
	ret->atimensec = st->atime.nsec;
	ret->mtimensec = st->mtime.nsec;
	ret->ctimensec = st->ctime.nsec;
	ret->mode = st->mode;
	ret->nlink = st->nlink;
	ret->uid = st->uid;
	ret->gid = st->gid;
	ret->rdev = (uint32_t)makedev(st->rdev_major, st->rdev_minor);
	ret->blksize = st->blksize;
}

static void raw_tmpfile(struct daemon *d, const struct fuse_in_header *in,
			const struct fuse_create_in *arg)
{
	struct bcfs_cred cred = {.uid = in->uid, .gid = in->gid, .umask = arg->umask};
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;
	struct bcfs_stat st;
	int error;
	int ret = bcfs_tmpfile(d->fs, ino_of(d, in->nodeid), S_IFREG | (arg->mode & 07777), &cred,
			       &st);

	if (ret) {
		/* Nothing is made in a removed directory; for open(2) of one, this is the errno. */
		error = bcfs_errno(ret) == ENOENT ? EPERM : bcfs_errno(ret);
		send_reply(d, in->unique, error, NULL, 0);
		return;
	}
	memset(&out, 0, sizeof(out));
	out.entry.nodeid = node_of(d, st.ino);
	out.entry.generation = st.generation;
	timeout_split(d->opts->entry_timeout, &out.entry.entry_valid, &out.entry.entry_valid_nsec);
	timeout_split(d->opts->attr_timeout, &out.entry.attr_valid, &out.entry.attr_valid_nsec);
	attr_fill(d, &st, &out.entry.attr);
	out.open.open_flags = FOPEN_KEEP_CACHE;
	if (send_reply(d, in->unique, 0, &out, sizeof(out)))
		bcfs_forget(d->fs, st.ino, 1);
}

static struct statx_time statx_time(struct bcfs_time t)
{
	return (struct statx_time){.sec = t.sec, .nsec = t.nsec};
}

static void raw_statx(struct daemon *d, const struct fuse_in_header *in)
{
	struct statx_out out;
	struct bcfs_stat st;
	int ret = bcfs_getattr(d->fs, ino_of(d, in->nodeid), &st);

	if (ret) {
		send_reply(d, in->unique, bcfs_errno(ret), NULL, 0);
		return;
	}
	memset(&out, 0, sizeof(out));
	timeout_split(d->opts->attr_timeout, &out.attr_valid, &out.attr_valid_nsec);
	out.stat.mask = STATX_BASIC_STATS | STATX_BTIME;
	out.stat.blksize = st.blksize;
	out.stat.nlink = st.nlink;
	out.stat.uid = st.uid;
	out.stat.gid = st.gid;
	out.stat.mode = (uint16_t)st.mode;
	out.stat.ino = st_ino_of(d, st.ino);
	out.stat.size = st.size;
	out.stat.blocks = st.blocks;
	out.stat.atime = statx_time(st.atime);
	out.stat.btime = statx_time(st.btime);
	out.stat.ctime = statx_time(st.ctime);
	out.stat.mtime = statx_time(st.mtime);
	out.stat.rdev_major = st.rdev_major;
	out.stat.rdev_minor = st.rdev_minor;
	send_reply(d, in->unique, 0, &out, sizeof(out));
}

static void raw_copy(struct daemon *d, const struct fuse_in_header *in,
		     const struct fuse_copy_file_range_in *arg)
{
	const uint64_t max = 1U << 30; /* so that one request ends in bounded time */
	int64_t copied = -1;
	uint64_t out;

	if (arg->flags) {
		send_reply(d, in->unique, EINVAL, NULL, 0);
		return;
	}
	copied = bcfs_copy_range(d->fs, ino_of(d, in->nodeid), arg->off_in,
				 ino_of(d, arg->nodeid_out), arg->off_out,
				 arg->len < max ? arg->len : max, copy_flags(d));
	if (copied < 0) {
		send_reply(d, in->unique, bcfs_errno((int)copied), NULL, 0);
		return;
	}
	out = (uint64_t)copied;
	send_reply(d, in->unique, 0, &out, sizeof(out));
}

static void raw_setxattr(struct daemon *d, const struct fuse_in_header *in,
			 const struct fuse_setxattr_in *arg, size_t arg_len)
{
	const char *name = (const void *)(arg + 1), *value;
	size_t room = arg_len - sizeof(*arg), name_len = strnlen(name, room);
	const uint32_t create = 1, replace = 2; /* as of setxattr(2) */
	struct task t = {.raw_d = d, .raw_unique = in->unique, .node = in->nodeid};
	uint32_t how = 0;

	value = name + name_len + 1;
	if (name_len == room || room - name_len - 1 < arg->size ||
	    arg->flags & ~(create | replace)) {
		send_reply(d, in->unique, EINVAL, NULL, 0);
		return;
	}
	if (!may_set_xattr(d, in->uid, in->nodeid, name)) {
		send_reply(d, in->unique, EPERM, NULL, 0);
		return;
	}
	if (scan_start(&t, name, value, arg->size))
		return;
	if (arg->flags & create)
		how |= BCFS_XATTR_CREATE;
	if (arg->flags & replace)
		how |= BCFS_XATTR_REPLACE;
	if (arg->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID)
		how |= BCFS_XATTR_KILL_SGID;
	raw_reply(d, in->unique, set_xattr(d, in->nodeid, name, value, arg->size, how));
}

void raw_destroy(struct daemon *d, const void *buf)
{
	const struct fuse_in_header *in = buf;

	device_lock_alone(d);
	device_close(d);
	pthread_rwlock_unlock(&d->fs_lock);
	send_reply(d, in->unique, 0, NULL, 0);
}

void raw_gone(struct daemon *d, const void *buf)
{
	const struct fuse_in_header *in = buf;

	switch (in->opcode) {
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
	case FUSE_NOTIFY_REPLY:
		break;
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_DESTROY:
		send_reply(d, in->unique, 0, NULL, 0);
		break;
	default:
		send_reply(d, in->unique, EIO, NULL, 0);
	}
}

bool raw_refuse(struct daemon *d, const void *buf)
{
	const struct fuse_in_header *in = buf;

	switch (in->opcode) {
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
	case FUSE_INIT:
	case FUSE_DESTROY:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_GETATTR:
	case FUSE_STATFS:
	case FUSE_IOCTL:
	case FUSE_NOTIFY_REPLY:
		return false;
	default:
		send_reply(d, in->unique, EIO, NULL, 0);
		return true;
	}
}

bool raw_request(struct daemon *d, const void *buf, size_t len)
{
	const struct fuse_in_header *in = buf;
	const void *arg = in + 1;
	size_t arg_len = len - sizeof(*in);
	size_t want = 0;

	/* We ask the kernel for no data. libfuse would keep the request for ever. */
	if (in->opcode == FUSE_NOTIFY_REPLY)
		return true;
	if (in->opcode < FUSE_SETUPMAPPING && !(in->opcode == FUSE_SETXATTR && d->setxattr_ext))
		return false;
	if (in->opcode == FUSE_SETXATTR)
		want = sizeof(struct fuse_setxattr_in);
	else if (in->opcode == OP_TMPFILE)
		want = sizeof(struct fuse_create_in);
	else if (in->opcode == OP_STATX)
		want = sizeof(struct statx_in);
	else if (in->opcode == OP_COPY_FILE_RANGE_64)
		want = sizeof(struct fuse_copy_file_range_in);
	if (arg_len < want) {
		send_reply(d, in->unique, EINVAL, NULL, 0);
		return true;
	}

	if (d->opts->debug)
		log_fmt(BCFS_LOG_DEBUG, "unique: %llu, opcode %u, nodeid: %llu, len: %zu",
			(unsigned long long)in->unique, in->opcode, (unsigned long long)in->nodeid,
			len);

	switch (in->opcode) {
	case FUSE_SETXATTR:
		raw_setxattr(d, in, arg, arg_len);
		break;
	case OP_SYNCFS:
		raw_syncfs(d, in);
		break;
	case OP_TMPFILE:
		raw_tmpfile(d, in, arg);
		break;
	case OP_STATX:
		raw_statx(d, in);
		break;
	case OP_COPY_FILE_RANGE_64:
		raw_copy(d, in, arg);
		break;
	default:
		send_reply(d, in->unique, EOPNOTSUPP, NULL, 0);
	}
	return true;
}
