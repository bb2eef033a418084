// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * SEEK_DATA and SEEK_HOLE. The kernel asks with dirty pages still in its cache, of which nothing is
 * known here; they could lie in whatever looks like a hole, or behind the end. So before a hole is
 * believed the kernel is told to let go of the pages in it: it writes them first, by WRITE requests
 * that the loops answer meanwhile. The caller holds the inode's lock in the kernel, which writing
 * pages does not take.
 */
#include <errno.h>
#include <unistd.h>

#include "fuse_bcfs.h"
#include "task.h"

static int64_t seek(struct daemon *d, fuse_ino_t node, uint64_t offset, bool hole)
{
	return hole ? bcfs_seek_hole(d->fs, ino_of(d, node), offset)
		    : bcfs_seek_data(d->fs, ino_of(d, node), offset);
}

/* Has what is dirty behind @offset written, up to the next data known of. */
static void write_hole(struct daemon *d, fuse_ino_t node, uint64_t offset)
{
	int64_t data = seek(d, node, offset, false);

	/* 0: up to the end, wherever the kernel has it */
	pages_inval(d, node, (off_t)offset, data > (int64_t)offset ? data - (int64_t)offset : 0);
}

static int64_t seek_written(struct daemon *d, fuse_ino_t node, uint64_t offset, bool hole)
{
	int64_t pos = seek(d, node, offset, hole), was;

	do {
		was = pos;
		write_hole(d, node, hole && pos >= 0 ? (uint64_t)pos : offset);
		pos = seek(d, node, offset, hole);
	} while (hole && pos >= 0 && pos != was);
	return pos;
}

static void reply_seek(fuse_req_t req, int64_t pos)
{
	if (pos < 0)
		reply_code(req, (int)pos);
	else
		fuse_reply_lseek(req, pos);
}

static void run_seek(struct task *t)
{
	reply_seek(t->req, seek_written(req_daemon(t->req), t->node, t->seek.offset, t->seek.hole));
}

void op_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence, struct fuse_file_info *fi)
{
	struct task t = {.req = req, .node = node, .fn = run_seek};

	if (off < 0 || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
		fuse_reply_err(req, off < 0 ? ENXIO : EINVAL);
		return;
	}
	t.seek.offset = (uint64_t)off;
	t.seek.hole = whence == SEEK_HOLE;
	/* Data that is here is data. */
	if (!t.seek.hole && seek(req_daemon(req), node, t.seek.offset, false) == off)
		fuse_reply_lseek(req, off);
	else
		task_start(&t);
}
