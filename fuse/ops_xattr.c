// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Extended attributes. Five on the root are not stored, and are there for the
 * program `bcfs`: bcfs.counters reads as the counters of the running
 * filesystem, bcfs.errors as what went wrong with its data, bcfs.device as the path of its device,
 * bcfs.writes as 1 if this mount may have written to it, bcfs.rebalance as what is rewritten in the
 * background, which is told "pause" or "resume" by setting it; and on any file "scan". Those with
 * paths are not for everybody.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuse_bcfs.h"
#include "loop.h"
#include "task.h"

static const char rebalance[] = "bcfs.rebalance";

static void out_to_file(void *arg, const char *text)
{
	fputs(text, arg);
}

static void reply_value(fuse_req_t req, const char *value, size_t len, size_t size)
{
	if (!size)
		fuse_reply_xattr(req, len);
	else if (len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, len);
}

enum text {
	TEXT_COUNTERS,
	TEXT_ERRORS,
	TEXT_REBALANCE,
};

static void get_text(fuse_req_t req, struct daemon *d, enum text what, size_t size)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (f && what == TEXT_ERRORS) {
		bcfs_errors_to_text(d->fs, out_to_file, f);
	} else if (f && what == TEXT_REBALANCE) {
		bcfs_rebalance_to_text(d->fs, out_to_file, f);
	} else if (f) {
		bcfs_counters_to_text(d->fs, out_to_file, f);
		requests_to_text(d, f);
	}
	if (!f || fclose(f))
		fuse_reply_err(req, ENOMEM);
	else /* room for growth between asking for the size and for the text */
		reply_value(req, text, size ? len : len + 1024, size);
	free(text);
}

/* Some texts have paths, which directories may hide: for root, and whoever the mount is of. */
static bool may_see_paths(fuse_req_t req)
{
	uid_t uid = fuse_req_ctx(req)->uid;

	return !uid || uid == geteuid();
}

/* True: answered. */
static bool get_virtual(fuse_req_t req, struct daemon *d, const char *name, size_t size)
{
	const char *device = d->opts->device_abs;
	bool paths = !strcmp(name, "bcfs.errors") || !strcmp(name, rebalance);

	if (paths && !may_see_paths(req))
		fuse_reply_err(req, EPERM);
	else if (!strcmp(name, "bcfs.counters"))
		get_text(req, d, TEXT_COUNTERS, size);
	else if (!strcmp(name, "bcfs.errors"))
		get_text(req, d, TEXT_ERRORS, size);
	else if (!strcmp(name, rebalance))
		get_text(req, d, TEXT_REBALANCE, size);
	else if (!strcmp(name, "bcfs.device"))
		reply_value(req, device, strlen(device), size);
	else if (!strcmp(name, "bcfs.writes"))
		reply_value(req, d->opts->open.read_only ? "0" : "1", 1, size);
	else
		return false;
	return true;
}

/*
 * `ls -l` asks every file for this one. Told EOPNOTSUPP once, it asks no more;
 * where SELinux runs, the honest ENODATA stays.
 */
static bool no_selinux(const struct daemon *d, const char *name, int64_t ret)
{
	return !d->selinux && !strcmp(name, "security.selinux") && ret < 0 &&
	       bcfs_errno((int)ret) == ENODATA;
}

void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	struct daemon *d = req_daemon(req);
	void *buf = NULL;
	int64_t len;

	if (node == FUSE_ROOT_ID && get_virtual(req, d, name, size))
		return;
	if (size) {
		buf = request_buffer(size);
		if (!buf) {
			fuse_reply_err(req, ENOMEM);
			return;
		}
	}
	len = bcfs_getxattr(d->fs, ino_of(d, node), name, buf, size);
	if (no_selinux(d, name, len))
		fuse_reply_err(req, EOPNOTSUPP);
	else if (len < 0)
		reply_code(req, (int)len);
	else if (!size)
		fuse_reply_xattr(req, (size_t)len);
	else
		fuse_reply_buf(req, buf, (size_t)len);
}

/* Names of trusted.* are for the privileged alone, as on other filesystems. What is left. */
static size_t hide_trusted(char *list, size_t len)
{
	static const char trusted[] = "trusted.";
	size_t left = 0, pos, n;

	for (pos = 0; pos < len; pos += n) {
		n = strlen(list + pos) + 1;
		if (!strncmp(list + pos, trusted, strlen(trusted)))
			continue;
		memmove(list + left, list + pos, n);
		left += n;
	}
	return left;
}

void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	const size_t room = 1U << 16; /* longer lists the kernel does not take */
	struct daemon *d = req_daemon(req);
	char *buf = request_buffer(room);
	int64_t len;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	len = bcfs_listxattr(d->fs, ino_of(d, node), buf, room);
	/* ERANGE would ask for another try with more room, and there is none. */
	if (len < 0 && bcfs_errno((int)len) == ERANGE) {
		fuse_reply_err(req, E2BIG);
		return;
	}
	if (len < 0) {
		reply_code(req, (int)len);
		return;
	}
	if (fuse_req_ctx(req)->uid)
		len = (int64_t)hide_trusted(buf, (size_t)len);
	reply_value(req, buf, (size_t)len, size);
}

bool may_set_xattr(struct daemon *d, uint32_t uid, fuse_ino_t node, const char *name)
{
	static const char options[] = "bcfs.";
	struct bcfs_stat st;

	return !uid || strncmp(name, options, strlen(options)) ||
	       bcfs_getattr(d->fs, ino_of(d, node), &st) || st.uid == uid;
}

static bool is_text(const char *value, size_t size, const char *text)
{
	return size == strlen(text) && !memcmp(value, text, size);
}

static void run_scan(struct task *t)
{
	struct daemon *d = task_daemon(t);

	task_reply(t, bcfs_rebalance_scan(d->fs, ino_of(d, t->node), NULL));
}

bool scan_start(const struct task *from, const char *name, const char *value, size_t size)
{
	struct task t = *from;

	if (strcmp(name, rebalance) || !is_text(value, size, "scan"))
		return false;
	t.fn = run_scan;
	task_start(&t);
	return true;
}

int set_xattr(struct daemon *d, fuse_ino_t node, const char *name, const char *value, size_t size,
	      uint32_t how)
{
	if (!strcmp(name, rebalance)) {
		if (node == FUSE_ROOT_ID && is_text(value, size, "pause"))
			return bcfs_rebalance_pause(d->fs, 1);
		if (node == FUSE_ROOT_ID && is_text(value, size, "resume"))
			return bcfs_rebalance_pause(d->fs, 0);
	}
	return bcfs_setxattr(d->fs, ino_of(d, node), name, value, size, how);
}

void op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size,
		 int flags)
{
	const int create = 1, replace = 2; /* as of setxattr(2) */
	struct task t = {.req = req, .node = node};
	struct daemon *d = req_daemon(req);
	uint32_t how = 0;

	if (flags & ~(create | replace)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	if (!may_set_xattr(d, fuse_req_ctx(req)->uid, node, name)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	if (scan_start(&t, name, value, size))
		return;
	if (flags & create)
		how |= BCFS_XATTR_CREATE;
	if (flags & replace)
		how |= BCFS_XATTR_REPLACE;
	reply_code(req, set_xattr(d, node, name, value, size, how));
}

void op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
	struct daemon *d = req_daemon(req);

	if (!may_set_xattr(d, fuse_req_ctx(req)->uid, node, name))
		fuse_reply_err(req, EPERM);
	else
		reply_code(req, bcfs_removexattr(d->fs, ino_of(d, node), name));
}
