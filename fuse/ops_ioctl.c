// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * ioctls. The kernel asks for flags and projects by some of them (and has checked that the caller
 * may); of all others it passes on no more than caller and number, not even how the file was
 * opened, so that who may is decided here.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "bcfs/ioctl.h"
#include "fuse_bcfs.h"
#include "remount.h"
#include "task.h"

/* ---- flags and projects ---- */

/* x(interface, FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR) */
#define FLAG_MAP(x)                                                                                \
	x(IMMUTABLE, FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE) x(APPEND, FS_APPEND_FL, FS_XFLAG_APPEND) \
		x(NODUMP, FS_NODUMP_FL, FS_XFLAG_NODUMP)                                           \
			x(NOATIME, FS_NOATIME_FL, FS_XFLAG_NOATIME)                                \
				x(PROJINHERIT, FS_PROJINHERIT_FL, FS_XFLAG_PROJINHERIT)

#define x(name, fl, xfl) | BCFS_FL_##name
static const uint32_t flags_all = 0 FLAG_MAP(x);
#undef x

static uint32_t flags_out(uint32_t flags, bool xflags)
{
	uint32_t ret = 0;

#define x(name, fl, xfl)                                                                           \
	if (flags & BCFS_FL_##name)                                                                \
		ret |= (uint32_t)(xflags ? (xfl) : (fl));
	FLAG_MAP(x)
#undef x
	return ret;
}

/* False: one that is not known. */
static bool flags_in(uint32_t given, bool xflags, uint32_t *ret)
{
	uint32_t flags = 0;

#define x(name, fl, xfl)                                                                           \
	if (given & (uint32_t)(xflags ? (xfl) : (fl)))                                             \
		flags |= BCFS_FL_##name;
	FLAG_MAP(x)
#undef x
	*ret = flags;
	return flags_out(flags, xflags) == given;
}

static void get_flags(fuse_req_t req, fuse_ino_t node, bool xflags)
{
	struct daemon *d = req_daemon(req);
	struct fsxattr fsx = {0};
	struct bcfs_stat st;
	uint32_t flags;
	int ret = bcfs_getattr(d->fs, ino_of(d, node), &st);

	if (ret) {
		reply_code(req, ret);
		return;
	}
	flags = flags_out(st.flags, xflags);
	if (!xflags) {
		fuse_reply_ioctl(req, 0, &flags, sizeof(flags));
		return;
	}
	fsx.fsx_xflags = flags;
	fsx.fsx_projid = st.project;
	fuse_reply_ioctl(req, 0, &fsx, sizeof(fsx));
}

static void change_flags(fuse_req_t req, fuse_ino_t node, const struct flags_change *to)
{
	struct daemon *d = req_daemon(req);
	struct bcfs_stat st, got;
	uint32_t mask = 0;
	int ret = bcfs_getattr(d->fs, ino_of(d, node), &st);

	if (!ret) {
		uint32_t flags = to->flags | (st.flags & ~flags_all);
		uint32_t project = to->keep_project ? st.project : to->project;

		/* Only what changes: an immutable file takes nothing but the end of that. */
		mask |= flags != st.flags ? BCFS_SET_FLAGS : 0;
		mask |= project != st.project ? BCFS_SET_PROJECT : 0;
		st.flags = flags;
		st.project = project;
	}
	if (!ret && mask)
		ret = bcfs_setattr(d->fs, ino_of(d, node), &st, mask, &got);
	if (ret)
		reply_code(req, ret);
	else
		fuse_reply_ioctl(req, 0, NULL, 0);
}

static void run_flags(struct task *t)
{
	/* Writes them. */
	pages_inval(req_daemon(t->req), t->node, 0, 0);
	change_flags(t->req, t->node, &t->flags);
}

/* What was written before the flag may still be in the kernel: it counts. */
static void set_flags(fuse_req_t req, fuse_ino_t node, uint32_t given, bool xflags,
		      uint32_t project)
{
	const uint32_t protects = BCFS_FL_IMMUTABLE | BCFS_FL_APPEND;
	struct task t = {.req = req, .node = node, .fn = run_flags};
	struct daemon *d = req_daemon(req);
	struct bcfs_stat st;

	t.flags = (struct flags_change){.project = project, .keep_project = !xflags};
	if (!flags_in(given, xflags, &t.flags.flags))
		fuse_reply_err(req, EOPNOTSUPP);
	else if (!bcfs_getattr(d->fs, ino_of(d, node), &st) && S_ISREG(st.mode) &&
		 t.flags.flags & ~st.flags & protects)
		task_start(&t);
	else
		change_flags(req, node, &t.flags);
}

/* ---- others ---- */

static void get_version(fuse_req_t req, fuse_ino_t node)
{
	struct daemon *d = req_daemon(req);
	struct bcfs_stat st;
	int ret = bcfs_getattr(d->fs, ino_of(d, node), &st);
	long generation;

	if (ret) {
		reply_code(req, ret);
		return;
	}
	generation = (long)st.generation;
	fuse_reply_ioctl(req, 0, &generation, sizeof(generation));
}

static void get_label(fuse_req_t req)
{
	char label[FSLABEL_MAX] = "";
	struct bcfs_info info;

	bcfs_get_info(req_daemon(req)->fs, &info);
	snprintf(label, sizeof(label), "%s", info.label);
	fuse_reply_ioctl(req, 0, label, sizeof(label));
}

static void add_text(void *arg, const char *text)
{
	struct bcfs_ioc_fs_options *to = arg;
	size_t len = strlen(to->text);

	snprintf(to->text + len, sizeof(to->text) - len, "%s", text);
}

static void get_fs_options(fuse_req_t req)
{
	struct bcfs_ioc_fs_options out = {0};

	bcfs_fs_options_to_text(req_daemon(req)->fs, add_text, &out);
	fuse_reply_ioctl(req, 0, &out, sizeof(out));
}

/* ---- in a thread of its own ---- */

void task_reply_ioctl(const struct task *t, int code)
{
	if (code)
		reply_code(t->req, code);
	else
		fuse_reply_ioctl(t->req, 0, NULL, 0);
}

static void run_set_label(struct task *t)
{
	task_reply_ioctl(t, bcfs_set_label(req_daemon(t->req)->fs, t->label));
}

static void set_label(fuse_req_t req, const void *in)
{
	struct task t = {.req = req, .fn = run_set_label};

	memcpy(t.label, in, sizeof(t.label));
	if (memchr(t.label, 0, sizeof(t.label)))
		task_start(&t);
	else
		fuse_reply_err(req, EINVAL);
}

/* The cached pages are written by the first invalidation; those read since go with the second. */
static void run_shift(struct task *t)
{
	struct daemon *d = req_daemon(t->req);
	off_t offset = (off_t)t->shift.offset;
	int ret;

	pages_inval(d, t->node, offset, 0);
	ret = bcfs_fallocate(d->fs, ino_of(d, t->node), t->shift.mode | BCFS_FALLOC_KEEP_SIZE,
			     t->shift.offset, t->shift.len);
	pages_inval(d, t->node, offset, 0);
	task_reply_ioctl(t, ret);
}

static void shift(fuse_req_t req, fuse_ino_t node, const struct bcfs_ioc_shift *in)
{
	struct task t = {.req = req, .node = node, .fn = run_shift, .shift = *in};
	struct daemon *d = req_daemon(req);
	uint32_t uid = fuse_req_ctx(req)->uid;
	struct bcfs_stat st;
	int ret = bcfs_getattr(d->fs, ino_of(d, node), &st);

	if (ret)
		reply_code(req, ret);
	else if (uid && uid != st.uid)
		fuse_reply_err(req, EPERM);
	else if (in->pad || in->offset > INT64_MAX ||
		 (in->mode != BCFS_FALLOC_COLLAPSE_RANGE && in->mode != BCFS_FALLOC_INSERT_RANGE))
		fuse_reply_err(req, EINVAL);
	else
		task_start(&t);
}

static struct bcfs_ino dedupe_src(const struct daemon *d, const struct bcfs_ioc_dedupe *in)
{
	struct bcfs_ino ino = bcfs_ino_unpack(in->src);

	ino.subvol ^= d->root.subvol;
	return ino;
}

static void run_dedupe(struct task *t)
{
	struct daemon *d = req_daemon(t->req);
	struct bcfs_ioc_dedupe *i = &t->dedupe;
	int64_t ret = bcfs_dedupe_range(d->fs, dedupe_src(d, i), i->src_offset, ino_of(d, t->node),
					i->offset, i->len);

	if (ret < 0) {
		reply_code(t->req, (int)ret);
		return;
	}
	i->len = (uint64_t)ret;
	fuse_reply_ioctl(t->req, 0, i, sizeof(*i));
}

static void dedupe(fuse_req_t req, fuse_ino_t node, const struct bcfs_ioc_dedupe *in)
{
	struct task t = {.req = req, .node = node, .fn = run_dedupe, .dedupe = *in};
	struct daemon *d = req_daemon(req);
	uint32_t uid = fuse_req_ctx(req)->uid;
	struct bcfs_stat src, dst;
	int ret = bcfs_getattr(d->fs, ino_of(d, node), &dst);

	if (!ret)
		ret = bcfs_getattr(d->fs, dedupe_src(d, in), &src);
	if (ret)
		reply_code(req, ret);
	else if (uid && (uid != src.uid || uid != dst.uid))
		fuse_reply_err(req, EPERM);
	else
		task_start(&t);
}

static void run_trim(struct task *t)
{
	struct daemon *d = req_daemon(t->req);
	struct fstrim_range *r = &t->trim;
	uint64_t done = 0;
	int ret = bcfs_trim(d->fs, r->start, r->len, r->minlen, &done);

	r->len = done;
	if (ret)
		reply_code(t->req, ret);
	else
		fuse_reply_ioctl(t->req, 0, r, sizeof(*r));
}

static void write_pages(void *arg, struct bcfs_ino ino)
{
	struct daemon *d = arg;

	/* As pages_inval(): this thread has submitted nothing. */
	fuse_lowlevel_notify_inval_inode(d->se, node_of(d, ino), 0, 0);
}

static void run_shutdown(struct task *t)
{
	struct daemon *d = req_daemon(t->req);
	int ret = 0;

	/* The kernel does not wait for a FUSE server in syncfs(2): it only sends what is dirty. */
	if (t->shutdown == BCFS_SHUTDOWN_SYNC) {
		mount_sync(d);
		ret = bcfs_for_each_known(d->fs, write_pages, d);
	}
	if (!ret) {
		d->shut_down = true;
		ret = bcfs_shutdown(d->fs, t->shutdown);
	}
	task_reply_ioctl(t, ret);
}

/*
 * The number that the caller's pointer leads to: of an _IOR ioctl the kernel passes on the pointer
 * alone. What cannot be read counts as the hardest.
 */
static uint32_t goingdown_mode(fuse_req_t req, void *arg)
{
	uint32_t mode = BCFS_SHUTDOWN_NOW;
	struct iovec local = {.iov_base = &mode, .iov_len = sizeof(mode)};
	struct iovec remote = {.iov_base = arg, .iov_len = sizeof(mode)};

	if (process_vm_readv(fuse_req_ctx(req)->pid, &local, 1, &remote, 1, 0) != sizeof(mode))
		return BCFS_SHUTDOWN_NOW;
	return mode;
}

static void shut_down(fuse_req_t req, uint32_t mode)
{
	struct task t = {.req = req, .fn = run_shutdown, .shutdown = mode};

	if (mode > BCFS_SHUTDOWN_NOW)
		fuse_reply_err(req, EINVAL);
	else
		task_start(&t);
}

/* ---- the operation ---- */

/* For root alone. */
static void op_ioctl_root(fuse_req_t req, fuse_ino_t node, unsigned int cmd, void *arg,
			  const void *in)
{
	struct task t = {.req = req, .node = node, .fn = run_trim};

	if (fuse_req_ctx(req)->uid) {
		fuse_reply_err(req, EPERM);
		return;
	}
	switch (cmd) {
	case FITRIM:
		memcpy(&t.trim, in, sizeof(t.trim));
		task_start(&t);
		break;
	case FS_IOC_SETFSLABEL:
		set_label(req, in);
		break;
	case BCFS_IOC_REMOUNT:
		remount_ask(req, in);
		break;
	case BCFS_IOC_SET_FS_OPTIONS:
		remount_ask_stored(req, in);
		break;
	case BCFS_IOC_GOINGDOWN:
		shut_down(req, goingdown_mode(req, arg));
		break;
	default:
		shut_down(req, *(const uint32_t *)in);
	}
}

void op_ioctl(fuse_req_t req, fuse_ino_t node, unsigned int cmd, void *arg,
	      struct fuse_file_info *fi, unsigned int flags, const void *in, size_t in_size,
	      size_t out_size)
{
	const struct fsxattr *fsx = in;

	/* Flags are defined as a long and are an int. */
	size_t size =
		cmd == FS_IOC_GETFLAGS || cmd == FS_IOC_SETFLAGS ? sizeof(int) : _IOC_SIZE(cmd);

	if ((_IOC_DIR(cmd) & _IOC_WRITE && in_size < size) ||
	    (_IOC_DIR(cmd) & _IOC_READ && out_size < size)) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	switch (cmd) {
	case FS_IOC_GETFLAGS:
		get_flags(req, node, false);
		break;
	case FS_IOC_FSGETXATTR:
		get_flags(req, node, true);
		break;
	case FS_IOC_SETFLAGS:
		set_flags(req, node, *(const uint32_t *)in, false, 0);
		break;
	case FS_IOC_FSSETXATTR:
		set_flags(req, node, fsx->fsx_xflags, true, fsx->fsx_projid);
		break;
	case FS_IOC_GETVERSION:
		get_version(req, node);
		break;
	case FS_IOC_GETFSLABEL:
		get_label(req);
		break;
	case BCFS_IOC_GET_FS_OPTIONS:
		get_fs_options(req);
		break;
	case BCFS_IOC_SHIFT:
		shift(req, node, in);
		break;
	case BCFS_IOC_DEDUPE:
		dedupe(req, node, in);
		break;
	case FITRIM:
	case FS_IOC_SETFSLABEL:
	case BCFS_IOC_GOINGDOWN:
	case BCFS_IOC_SHUTDOWN:
	case BCFS_IOC_REMOUNT:
	case BCFS_IOC_SET_FS_OPTIONS:
		op_ioctl_root(req, node, cmd, arg, in);
		break;
	case BCFS_IOC_KEY_ROTATE:
	case BCFS_IOC_KEY_SLOT:
		keys_ioctl(req, cmd, in);
		break;
	default:
		fuse_reply_err(req, ENOTTY);
	}
}
