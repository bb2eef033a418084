// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Names: lookup and forget, and what makes, moves and removes them. Every entry
 * sent to the kernel is one lookup reference, which FORGET returns; where the
 * reply does not reach it, the reference is dropped here.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fuse_bcfs.h"

void op_lookup(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	struct daemon *d = req_daemon(req);
	struct bcfs_stat st;
	int ret = bcfs_lookup(d->fs, ino_of(d, dir), name, &st);

	/*
	 * The kernel asks for "." by a handle, where it does not have the inode: nobody has it
	 * open, even if its FORGET is still on the way.
	 */
	if (!ret && !st.nlink && !strcmp(name, ".")) {
		bcfs_forget(d->fs, st.ino, 1);
		fuse_reply_err(req, ESTALE);
		return;
	}
	if (!ret) {
		reply_entry(req, &st);
		return;
	}
	if (bcfs_errno(ret) == ENOENT && d->opts->negative_timeout > 0) {
		struct fuse_entry_param none = {.entry_timeout = d->opts->negative_timeout};

		fuse_reply_entry(req, &none);
		return;
	}
	reply_code(req, ret);
}

static void forget(struct daemon *d, fuse_ino_t node, uint64_t n)
{
	if (node != FUSE_ROOT_ID)
		bcfs_forget(d->fs, ino_of(d, node), n);
}

void op_forget(fuse_req_t req, fuse_ino_t node, uint64_t n)
{
	forget(req_daemon(req), node, n);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct daemon *d = req_daemon(req);
	size_t i;

	for (i = 0; i < count; i++)
		forget(d, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

void op_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t rdev)
{
	struct daemon *d = req_daemon(req);
	struct bcfs_cred cred = req_cred(req);
	struct bcfs_stat st;
	int ret =
		bcfs_mknod(d->fs, ino_of(d, dir), name, mode, major(rdev), minor(rdev), &cred, &st);

	if (ret)
		reply_code(req, ret);
	else
		reply_entry(req, &st);
}

void op_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode)
{
	struct daemon *d = req_daemon(req);
	struct bcfs_cred cred = req_cred(req);
	struct bcfs_stat st;
	int ret = bcfs_mkdir(d->fs, ino_of(d, dir), name, mode, &cred, &st);

	if (ret)
		reply_code(req, ret);
	else
		reply_entry(req, &st);
}

/* Where open(2) is not sent, new files come by MKNOD: no file was opened, so none is released. */
void op_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	struct daemon *d = req_daemon(req);
	struct bcfs_cred cred = req_cred(req);
	struct fuse_entry_param e;
	struct bcfs_stat st;
	int ret;

	if (d->opts->open_op != BCFS_ON) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	ret = bcfs_mknod(d->fs, ino_of(d, dir), name, S_IFREG | (mode & 07777), 0, 0, &cred, &st);
	if (ret) {
		reply_code(req, ret);
		return;
	}
	entry_fill(d, &st, &e);
	fi->keep_cache = 1;
	if (fuse_reply_create(req, &e, fi))
		bcfs_forget(d->fs, st.ino, 1);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t dir, const char *name)
{
	struct daemon *d = req_daemon(req);
	struct bcfs_cred cred = req_cred(req);
	struct bcfs_stat st;
	int ret = bcfs_symlink(d->fs, ino_of(d, dir), name, target, &cred, &st);

	if (ret)
		reply_code(req, ret);
	else
		reply_entry(req, &st);
}

void op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t dir, const char *name)
{
	struct daemon *d = req_daemon(req);
	struct bcfs_stat st;
	int ret = bcfs_link(d->fs, ino_of(d, node), ino_of(d, dir), name, &st);

	if (ret)
		reply_code(req, ret);
	else
		reply_entry(req, &st);
}

void op_unlink(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	struct daemon *d = req_daemon(req);

	reply_code(req, bcfs_unlink(d->fs, ino_of(d, dir), name));
}

void op_rmdir(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	struct daemon *d = req_daemon(req);

	reply_code(req, bcfs_rmdir(d->fs, ino_of(d, dir), name));
}

void op_rename(fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t newdir,
	       const char *newname, unsigned int flags)
{
	const unsigned int noreplace = 1, exchange = 2, whiteout = 4; /* as of renameat2(2) */
	struct daemon *d = req_daemon(req);
	uint32_t how = 0;

	if (flags & ~(noreplace | exchange | whiteout)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	if (flags & noreplace)
		how |= BCFS_RENAME_NOREPLACE;
	if (flags & exchange)
		how |= BCFS_RENAME_EXCHANGE;
	if (flags & whiteout)
		how |= BCFS_RENAME_WHITEOUT;
	reply_code(req, bcfs_rename(d->fs, ino_of(d, dir), name, ino_of(d, newdir), newname, how));
}

void op_readlink(fuse_req_t req, fuse_ino_t node)
{
	struct daemon *d = req_daemon(req);
	char buf[PATH_MAX + 1];
	int64_t len = bcfs_readlink(d->fs, ino_of(d, node), buf, sizeof(buf));

	if (len < 0)
		reply_code(req, (int)len);
	else if ((size_t)len >= sizeof(buf))
		fuse_reply_err(req, ENAMETOOLONG);
	else
		fuse_reply_buf(req, buf, (size_t)len);
}
