// SPDX-License-Identifier: LGPL-2.1-or-later
/* Directories. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse_bcfs.h"
#include "loop.h"

void op_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	const struct mount_opts *o = req_daemon(req)->opts;

	if (o->open_op != BCFS_ON) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	fi->keep_cache = o->keep_cache == BCFS_ON;
	fi->cache_readdir = o->keep_cache == BCFS_ON;
	fuse_reply_open(req, fi);
}

struct dir_fill {
	fuse_req_t req;
	struct daemon *d;
	char *buf;
	size_t size, used;
	struct bcfs_ino *taken; /* entries that hold a reference now */
	size_t nr_taken;
};

/* No name is shorter than one byte, so no reply has more entries than this. */
#define ENTRY_PLUS_MIN 152

static int fill_plain(void *arg, const struct bcfs_dir_entry *entry)
{
	struct dir_fill *f = arg;
	struct stat st = {
		.st_ino = st_ino_of(f->d, entry->ino),
		.st_mode = (mode_t)entry->type << 12,
	};
	size_t len = fuse_add_direntry(f->req, f->buf + f->used, f->size - f->used, entry->name,
				       &st, (off_t)entry->cookie);

	if (len > f->size - f->used)
		return 1;
	f->used += len;
	return 0;
}

static int fill_plus(void *arg, const struct bcfs_dir_entry *entry)
{
	struct dir_fill *f = arg;
	struct fuse_entry_param e;
	size_t len;

	if (entry->stat) {
		entry_fill(f->d, entry->stat, &e);
	} else { /* "." and "..": nodeid 0, the kernel takes no reference */
		memset(&e, 0, sizeof(e));
		e.attr.st_ino = st_ino_of(f->d, entry->ino);
		e.attr.st_mode = (mode_t)entry->type << 12;
	}

	len = fuse_add_direntry_plus(f->req, f->buf + f->used, f->size - f->used, entry->name, &e,
				     (off_t)entry->cookie);
	if (len > f->size - f->used)
		return 1;
	f->used += len;
	if (entry->stat)
		f->taken[f->nr_taken++] = entry->ino;
	return 0;
}

static uint32_t readdir_flags(uint32_t flags)
{
	return flags | (request_current()->noatime ? BCFS_READDIR_NOATIME : 0);
}

void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct daemon *d = req_daemon(req);
	struct dir_fill f = {.req = req, .d = d, .buf = request_buffer(size), .size = size};
	int ret;

	if (!f.buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	ret = bcfs_readdir(d->fs, ino_of(d, node), (uint64_t)off, readdir_flags(0), fill_plain, &f);
	/* What was read before an error is good; the error comes again with the next call. */
	if (ret < 0 && !f.used)
		reply_code(req, ret);
	else
		fuse_reply_buf(req, f.buf, f.used);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct daemon *d = req_daemon(req);
	struct dir_fill f = {.req = req, .d = d, .buf = request_buffer(size), .size = size};
	int ret, sent;

	f.taken = calloc(size / ENTRY_PLUS_MIN + 1, sizeof(*f.taken));
	if (!f.buf || !f.taken) {
		free(f.taken);
		fuse_reply_err(req, ENOMEM);
		return;
	}

	ret = bcfs_readdir(d->fs, ino_of(d, node), (uint64_t)off, readdir_flags(BCFS_READDIR_PLUS),
			   fill_plus, &f);
	if (ret < 0 && !f.used) {
		reply_code(req, ret);
	} else {
		sent = fuse_reply_buf(req, f.buf, f.used);
		while (sent && f.nr_taken)
			bcfs_forget(d->fs, f.taken[--f.nr_taken], 1);
	}
	free(f.taken);
}

void op_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	struct daemon *d = req_daemon(req);

	reply_code(req, bcfs_fsync(d->fs, ino_of(d, node), datasync));
}
