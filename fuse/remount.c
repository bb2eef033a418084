// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "../cli/tool.h"
#include "remount.h"

/* ---- in the process that mount(8) starts ---- */

static int failed(const struct mount_opts *o, const char *what)
{
	tool_error("%s: cannot remount %s: %s", o->device, o->mountpoint, what);
	return MOUNT_FAILED;
}

static int ask_kernel(const struct mount_opts *o)
{
	if (!mount(o->source, o->mountpoint, NULL, MS_REMOUNT | opts_mount_flags(o), NULL))
		return MOUNT_OK;
	switch (errno) {
	case EBUSY:
		return failed(o, "busy, files are open for writing or removed: close them first");
	case EPERM:
		failed(o, "permission denied: only root may");
		return MOUNT_USAGE;
	default:
		return failed(o, strerror(errno));
	}
}

static int ask_daemon(const struct mount_opts *o, const char *text)
{
	struct bcfs_ioc_remount arg = {0};
	int fd, ret, err;

	if (snprintf(arg.text, sizeof(arg.text), "%s", text) >= (int)sizeof(arg.text))
		return failed(o, "too many options");
	fd = open(o->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* A user's mount that others may not look at: its daemon follows the kernel. */
	if (fd < 0)
		return errno == EACCES ? MOUNT_OK : failed(o, strerror(errno));
	ret = ioctl(fd, BCFS_IOC_REMOUNT, &arg);
	err = errno;
	close(fd);
	if (ret > 0)
		return failed(o, arg.text);
	if (ret < 0 && err == EPERM) {
		failed(o, "permission denied: only root may");
		return MOUNT_USAGE;
	}
	return ret < 0 ? failed(o, strerror(err)) : MOUNT_OK;
}

int remount_run(const struct mount_opts *o)
{
	const char *text = o->text ? o->text : "";
	char type[64] = "";
	int ret;

	if (!mountpoint_is_mounted(o->mountpoint, type, sizeof(type)))
		return failed(o, "nothing is mounted there");
	if (strcmp(type, "fuse.bcfs") && strcmp(type, "fuseblk"))
		return failed(o, "what is mounted there is no bcfs");
	if (o->fake)
		return MOUNT_OK;
	if (o->open.read_only) {
		ret = ask_kernel(o);
		return ret ? ret : ask_daemon(o, text);
	}
	ret = ask_daemon(o, text);
	return ret ? ret : ask_kernel(o);
}

/* ---- in the daemon ---- */

/* What the kernel says of a mount. */
struct kernel_side {
	bool read_only;
	bool has_flags; /* the next two: of the mount on our mount point */
	uint8_t atime;	/* enum atime_mode */
	bool nodiratime;
	bool sync;
};

static bool has_word(const char *list, size_t len, const char *word)
{
	size_t n = strlen(word), pos = 0, end;

	for (; pos < len; pos = end + 1) {
		end = pos + strcspn(list + pos, ", \n");
		if (end - pos == n && !memcmp(list + pos, word, n))
			return true;
	}
	return false;
}

/* A line of mountinfo: id parent MAJOR:MINOR root WHERE FLAGS ... - type source OPTIONS */
static bool look_at_line(const struct daemon *d, const char *line, struct kernel_side *ret)
{
	const char *dash = strstr(line, " - "), *options, *flags;
	unsigned int maj, min;
	int where = 0, end = 0;

	if (!dash || sscanf(line, "%*s %*s %u:%u %*s %n%*s%n", &maj, &min, &where, &end) < 2 ||
	    makedev(maj, min) != d->st_dev)
		return false;
	options = strrchr(dash, ' ') + 1;
	ret->read_only = has_word(options, strcspn(options, "\n"), "ro");
	ret->sync = has_word(options, strcspn(options, "\n"), "sync");
	if (mountinfo_is_at(line + where, (size_t)(end - where), d->opts->mountpoint)) {
		flags = line + end + 1;
		ret->has_flags = true;
		ret->nodiratime = has_word(flags, strcspn(flags, " "), "nodiratime");
		ret->atime = has_word(flags, strcspn(flags, " "), "noatime")	? ATIME_NOATIME
			     : has_word(flags, strcspn(flags, " "), "relatime") ? ATIME_RELATIME
										: ATIME_STRICT;
	}
	return true;
}

/* False: it is not mounted where we can see it. */
static bool look_at_kernel(const struct daemon *d, struct kernel_side *ret)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	bool found = false;
	char *line = NULL;
	size_t cap = 0;

	memset(ret, 0, sizeof(*ret));
	while (f && getline(&line, &cap, f) > 0)
		found |= look_at_line(d, line, ret);
	free(line);
	if (f)
		fclose(f);
	return found;
}

#define BUSY_TRIES   25
#define BUSY_WAIT_US 20000

typedef int (*change_fn)(struct daemon *d, const void *arg, char *msg, size_t size);

/* fn, while nobody uses the filesystem; again if it is busy. Then fs_lock is held. */
static int change_alone(struct daemon *d, change_fn fn, const void *arg, char *msg, size_t size)
{
	unsigned int tries;
	int ret;

	for (tries = 0;; tries++) {
		*msg = 0;
		device_lock_alone(d);
		if (!d->fs || d->shut_down) {
			snprintf(msg, size, "it was shut down");
			ret = -1;
		} else {
			ret = fn(d, arg, msg, size);
			if (ret && !*msg)
				snprintf(msg, size, "%s", bcfs_strerror(ret));
		}
		/* The kernel may be about to forget a removed file that was closed. */
		if (!ret || bcfs_errno(ret) != EBUSY || tries == BUSY_TRIES)
			return ret;
		pthread_rwlock_unlock(&d->fs_lock);
		usleep(BUSY_WAIT_US);
	}
}

static int reopen(struct daemon *d, const void *arg, char *msg, size_t size)
{
	struct bcfs_open_opts open_opts = *(const struct bcfs_open_opts *)arg;

	open_opts.log = log_line;
	return bcfs_reopen(&d->fs, &open_opts, msg, size);
}

/* False: told in msg. */
static bool apply(struct daemon *d, const struct mount_opts *want, char *msg, size_t size)
{
	int ret = change_alone(d, reopen, &want->open, msg, size);

	if (!ret) {
		d->opts->open = want->open;
		d->opts->atime = want->atime;
		d->opts->mount_flags = want->mount_flags;
		d->went_ro = false;
	}
	pthread_rwlock_unlock(&d->fs_lock);
	return !ret;
}

static int store(struct daemon *d, const void *arg, char *msg, size_t size)
{
	return bcfs_fs_options_apply(&d->fs, arg, msg, size);
}

/* What a request asks for, and its answer. */
struct remount_text {
	bool stored; /* options of the superblock */
	char text[BCFS_IOC_TEXT_BYTES];
};

_Static_assert(sizeof(struct bcfs_ioc_remount) == BCFS_IOC_TEXT_BYTES, "one text for both");

static void ask(fuse_req_t req, const char *text, bool stored)
{
	struct daemon *d = req_daemon(req);
	struct remount_text *copy = malloc(sizeof(*copy));
	fuse_req_t none = NULL;

	if (!copy) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	copy->stored = stored;
	memcpy(copy->text, text, sizeof(copy->text));
	copy->text[sizeof(copy->text) - 1] = 0;
	/* One at a time; main takes the text with the request. */
	pthread_mutex_lock(&d->tasks_lock);
	if (d->remount_text) {
		pthread_mutex_unlock(&d->tasks_lock);
		free(copy);
		fuse_reply_err(req, EBUSY);
		return;
	}
	d->remount_text = copy;
	pthread_mutex_unlock(&d->tasks_lock);
	if (atomic_compare_exchange_strong(&d->remount_req, &none, req))
		daemon_signal(d);
}

void remount_ask(fuse_req_t req, const struct bcfs_ioc_remount *in)
{
	ask(req, in->text, false);
}

void remount_ask_stored(fuse_req_t req, const struct bcfs_ioc_fs_options *in)
{
	ask(req, in->text, true);
}

/* False: told in msg. */
static bool do_remount(struct daemon *d, const char *text, char *msg, size_t size)
{
	struct mount_opts want, was = *d->opts;
	struct kernel_side kernel;
	bool ok = opts_change(d->opts, text, &want, msg, size);

	if (ok && want.open.read_only && look_at_kernel(d, &kernel) && !kernel.read_only) {
		snprintf(msg, size, "the kernel still writes");
		ok = false;
	}
	ok = ok && apply(d, &want, msg, size);
	opts_change_end(ok ? &was : &want, d->opts);
	return ok;
}

/* 0; 1: told in msg; or a negative errno. */
static int do_store(struct daemon *d, const char *text, char *msg, size_t size)
{
	int ret = change_alone(d, store, text, msg, size);

	pthread_rwlock_unlock(&d->fs_lock);
	if (ret && bcfs_errno(ret) == EROFS)
		return -EROFS;
	return ret ? 1 : 0;
}

void remount_do(struct daemon *d)
{
	fuse_req_t req = atomic_exchange(&d->remount_req, NULL);
	char msg[TOOL_MSG_SIZE] = "";
	struct remount_text *text;
	int ret;

	if (!req)
		return;
	text = d->remount_text;
	if (text->stored)
		ret = do_store(d, text->text, msg, sizeof(msg));
	else
		ret = do_remount(d, text->text, msg, sizeof(msg)) ? 0 : 1;
	snprintf(text->text, sizeof(text->text), "%s", msg);
	/* First: who has the answer may ask again at once. */
	pthread_mutex_lock(&d->tasks_lock);
	d->remount_text = NULL;
	pthread_mutex_unlock(&d->tasks_lock);
	if (ret < 0)
		fuse_reply_err(req, -ret);
	else
		fuse_reply_ioctl(req, ret, text->text, sizeof(text->text));
	free(text);
}

/* Where others mount all the time, mountinfo is read so often at most. */
#define FOLLOW_NS 20000000ULL

static void wait_for_turn(struct daemon *d)
{
	struct timespec ts;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
	if (now < d->followed_ns + FOLLOW_NS)
		usleep((useconds_t)((d->followed_ns + FOLLOW_NS - now) / 1000));
	d->followed_ns = now;
}

static bool is_gone(struct daemon *d)
{
	bool gone;

	pthread_rwlock_rdlock(&d->fs_lock);
	gone = !d->fs;
	pthread_rwlock_unlock(&d->fs_lock);
	return gone;
}

void remount_follow(struct daemon *d)
{
	struct mount_opts want = *d->opts;
	char msg[TOOL_MSG_SIZE] = "";
	struct kernel_side kernel;

	wait_for_turn(d);
	if (d->went_ro || d->shut_down || is_gone(d) || !look_at_kernel(d, &kernel))
		return;
	want.open.read_only = kernel.read_only;
	/* (mount(2) changes no dirsync.) */
	want.mount_flags &= ~(unsigned long)MS_SYNCHRONOUS;
	want.mount_flags |= kernel.sync ? MS_SYNCHRONOUS : 0;
	/* A user's mount has not all of its flags in the kernel. */
	if (kernel.has_flags && !geteuid()) {
		want.atime = kernel.atime;
		want.mount_flags &= ~(unsigned long)MS_NODIRATIME;
		want.mount_flags |= kernel.nodiratime ? MS_NODIRATIME : 0;
		opts_set_atime(&want);
	}
	if (want.open.read_only == d->opts->open.read_only && want.atime == d->opts->atime &&
	    want.mount_flags == d->opts->mount_flags)
		return;
	if (apply(d, &want, msg, sizeof(msg)))
		return;
	log_fmt(BCFS_LOG_ERR, "%s: remount: %s", d->opts->device, msg);
	if (!kernel.read_only)
		session_remount_ro(d, true);
}
