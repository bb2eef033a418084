// SPDX-License-Identifier: LGPL-2.1-or-later
/* Attributes, and what is known of the filesystem as a whole. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "fuse_bcfs.h"
#include "loop.h"

void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct daemon *d = req_daemon(req);
	struct bcfs_stat st;
	struct stat attr;
	int ret = bcfs_getattr(d->fs, ino_of(d, node), &st);

	if (ret) {
		reply_code(req, ret);
		return;
	}
	stat_fill(d, &st, &attr);
	fuse_reply_attr(req, &attr, d->opts->attr_timeout);
}

static struct bcfs_time from_timespec(struct timespec ts)
{
	return (struct bcfs_time){.sec = ts.tv_sec, .nsec = (uint32_t)ts.tv_nsec};
}

static uint32_t set_mask(int to_set)
{
	static const struct {
		int fuse;
		uint32_t bcfs;
	} bits[] = {
		{FUSE_SET_ATTR_MODE, BCFS_SET_MODE},
		{FUSE_SET_ATTR_UID, BCFS_SET_UID},
		{FUSE_SET_ATTR_GID, BCFS_SET_GID},
		{FUSE_SET_ATTR_SIZE, BCFS_SET_SIZE},
		{FUSE_SET_ATTR_ATIME, BCFS_SET_ATIME},
		{FUSE_SET_ATTR_MTIME, BCFS_SET_MTIME},
		{FUSE_SET_ATTR_ATIME_NOW, BCFS_SET_ATIME_NOW},
		{FUSE_SET_ATTR_MTIME_NOW, BCFS_SET_MTIME_NOW},
		{FUSE_SET_ATTR_CTIME, BCFS_SET_CTIME},
	};
	uint32_t mask = 0;
	size_t i;

	for (i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		if (to_set & bits[i].fuse)
			mask |= bits[i].bcfs;
	/* The kernel sets both bits for "now". */
	if (mask & BCFS_SET_ATIME_NOW)
		mask &= ~BCFS_SET_ATIME;
	if (mask & BCFS_SET_MTIME_NOW)
		mask &= ~BCFS_SET_MTIME;
	return mask;
}

/*
 * The kernel leaves it to us to clear set-user-ID: always at chown, else where it
 * says so. Before write(2) and fallocate(2) by the unprivileged it says so by a
 * SETATTR of nothing, whose reply then tells it the new mode. One of ctime alone is chown(2) with
 * neither owner nor group.
 */
static bool wants_kill_priv(uint32_t mask)
{
	bool chown = mask & (BCFS_SET_UID | BCFS_SET_GID) && !(mask & BCFS_SET_MODE);

	return chown || !mask || mask == BCFS_SET_CTIME || request_current()->kill_priv;
}

void op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int to_set,
		struct fuse_file_info *fi)
{
	struct daemon *d = req_daemon(req);
	uint32_t mask = set_mask(to_set);
	struct bcfs_stat st = {
		.mode = attr->st_mode,
		.uid = attr->st_uid,
		.gid = attr->st_gid,
		.size = (uint64_t)attr->st_size,
		.atime = from_timespec(attr->st_atim),
		.mtime = from_timespec(attr->st_mtim),
		.ctime = from_timespec(attr->st_ctim),
	};
	struct bcfs_stat got;
	struct stat reply;
	int ret;

	if (d->killpriv_v2 && wants_kill_priv(mask))
		mask |= BCFS_SET_KILL_PRIV;
	/* With its cache of writes the kernel keeps a file's times, and sends them when it is
	 * removed. */
	if (mask == (BCFS_SET_MTIME | BCFS_SET_CTIME) && d->kernel_times)
		mask |= BCFS_SET_KEPT;

	ret = bcfs_setattr(d->fs, ino_of(d, node), &st, mask, &got);
	/* Of a call that the file has refused: nobody else says times of an open file so. */
	if (ret && bcfs_errno(ret) == EPERM && mask & BCFS_SET_KEPT && fi)
		ret = bcfs_getattr(d->fs, ino_of(d, node), &got);
	if (ret) {
		reply_code(req, ret);
		return;
	}
	stat_fill(d, &got, &reply);
	fuse_reply_attr(req, &reply, d->opts->attr_timeout);
}

void op_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct daemon *d = req_daemon(req);
	struct bcfs_statfs fs;
	struct statvfs st;
	int ret = bcfs_statfs(d->fs, &fs);

	if (ret) {
		reply_code(req, ret);
		return;
	}
	memset(&st, 0, sizeof(st));
	st.f_bsize = st.f_frsize = fs.block_bytes;
	st.f_blocks = fs.blocks;
	st.f_bfree = fs.blocks_free;
	st.f_bavail = fs.blocks_avail;
	st.f_files = fs.files + fs.files_free;
	st.f_ffree = st.f_favail = fs.files_free;
	st.f_namemax = fs.name_max;
	fuse_reply_statfs(req, &st);
}

/* Not sent: default_permissions has the kernel decide. */
void op_access(fuse_req_t req, fuse_ino_t node, int mask)
{
	fuse_reply_err(req, 0);
}
