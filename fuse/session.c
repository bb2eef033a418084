// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The session with the kernel: checks of the mount point, INIT, mount, and what
 * is set once the mount is live.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fuse_bcfs.h"
#include "loop.h"

#define FUSE_MAGIC 0x65735546

/* ---- before ---- */

/* Undoes the octal escapes of mountinfo, in place. */
static void unescape(char *s)
{
	char *out = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = 0;
}

bool mountinfo_is_at(const char *where, size_t len, const char *path)
{
	char *copy = strndup(where, len);
	bool same;

	if (copy)
		unescape(copy);
	same = copy && !strcmp(copy, path);
	free(copy);
	return same;
}

bool mountpoint_is_mounted(const char *path, char *type, size_t size)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *dash;
	char where[PATH_MAX];
	bool found = false;
	size_t cap = 0;

	/* id parent dev root WHERE options ... - TYPE source options */
	while (f && getline(&line, &cap, f) > 0) {
		if (sscanf(line, "%*s %*s %*s %*s %4095s", where) != 1)
			continue;
		unescape(where);
		if (strcmp(where, path))
			continue;
		found = true;
		dash = strstr(line, " - ");
		snprintf(type, size, "%.*s", dash ? (int)strcspn(dash + 3, " ") : 0,
			 dash ? dash + 3 : "");
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

static bool say(char *msg, size_t size, const struct mount_opts *o, const char *what)
{
	snprintf(msg, size, "%s: cannot mount on %s: %s", o->device, o->mountpoint, what);
	return false;
}

static bool check_fuse(const struct mount_opts *o, char *msg, size_t size)
{
	int fd;

	if (!access("/dev/fuse", F_OK) && access("/dev/fuse", R_OK | W_OK))
		return say(msg, size, o,
			   "you may not open /dev/fuse: ask for permission to read and write it");
	if (geteuid()) {
		if (access("/usr/bin/fusermount3", X_OK) && access("/bin/fusermount3", X_OK) &&
		    access("/usr/local/bin/fusermount3", X_OK))
			return say(msg, size, o,
				   "fusermount3 is missing: install the package fuse3");
		if (access(o->mountpoint, W_OK))
			return say(msg, size, o,
				   "you may not write to that directory: choose one of your own");
		return true;
	}
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return say(msg, size, o,
			   "/dev/fuse cannot be opened: load the kernel module (modprobe fuse)");
	close(fd);
	return true;
}

bool mountpoint_check(const struct mount_opts *o, char *msg, size_t size)
{
	char type[64], text[160];
	struct stat st;

	if (mountpoint_is_mounted(o->mountpoint, type, sizeof(type))) {
		snprintf(text, sizeof(text),
			 "busy, a filesystem (%s) is mounted there already: unmount it first",
			 type);
		return say(msg, size, o, text);
	}
	if (stat(o->mountpoint, &st)) {
		switch (errno) {
		case ENOENT:
			return say(msg, size, o, "no such directory: create it first");
		case ENOTCONN:
			return say(msg, size, o,
				   "a dead mount is in the way: clear it with fusermount3 -u");
		default:
			snprintf(text, sizeof(text), "%s: choose another directory",
				 strerror(errno));
			return say(msg, size, o, text);
		}
	}
	if (!S_ISDIR(st.st_mode))
		return say(msg, size, o, "not a directory: choose one");
	return check_fuse(o, msg, size);
}

/* ---- INIT ---- */

static bool kernel_at_least(unsigned int major, unsigned int minor)
{
	unsigned int a = 0, b = 0;
	struct utsname u;

	if (uname(&u) || sscanf(u.release, "%u.%u", &a, &b) != 2)
		return false;
	return a > major || (a == major && b >= minor);
}

void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct daemon *d = userdata;
	const struct mount_opts *o = d->opts;
	unsigned int want = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS |
			    FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_DONT_MASK | FUSE_CAP_POSIX_ACL |
			    FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_NO_OPEN_SUPPORT |
			    FUSE_CAP_NO_OPENDIR_SUPPORT | FUSE_CAP_IOCTL_DIR;

	/* The device is ours alone: nothing changes behind the cache. */
	want |= FUSE_CAP_EXPLICIT_INVAL_DATA;
	if (o->keep_cache == BCFS_OFF)
		want &= ~(unsigned int)FUSE_CAP_CACHE_SYMLINKS;
	if (o->writeback == BCFS_ON)
		want |= FUSE_CAP_WRITEBACK_CACHE;
	if (o->readdirplus != READDIRPLUS_OFF)
		want |= FUSE_CAP_READDIRPLUS;
	if (o->readdirplus == READDIRPLUS_AUTO)
		want |= FUSE_CAP_READDIRPLUS_AUTO;

	/*
	 * Not wanted, though libfuse sets some of them by itself: ATOMIC_O_TRUNC
	 * (without OPEN it would swallow O_TRUNC), AUTO_INVAL_DATA, locks (they stay
	 * in the kernel), HANDLE_KILLPRIV (its second version is set in loop.c),
	 * splice (the replies are in memory).
	 */
	conn->want = conn->capable & want;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
	d->enosys_flush = kernel_at_least(5, 16);
	d->kernel_times = conn->want & FUSE_CAP_WRITEBACK_CACHE;
	d->falloc_times = d->kernel_times && kernel_at_least(6, 1);
}

/* ---- mount ---- */

/* libfuse's own messages: kept for the one line that is shown. */
static __thread char *fuse_said;
static __thread size_t fuse_said_size;

static void keep_message(enum fuse_log_level level, const char *fmt, va_list args)
{
	char line[256];

	vsnprintf(line, sizeof(line), fmt, args);
	line[strcspn(line, "\n")] = 0;
	if (fuse_said)
		snprintf(fuse_said, fuse_said_size, "%s", line);
	else
		log_line(NULL, level >= FUSE_LOG_DEBUG ? BCFS_LOG_DEBUG : BCFS_LOG_NOTICE, line);
}

/* 0, or an errno. */
static int mount_type(struct daemon *d, const char *type, const char *more)
{
	const struct mount_opts *o = d->opts;
	char data[128];

	snprintf(data, sizeof(data), "fd=%d,rootmode=40000,user_id=%u,group_id=%u,%s%s%s", d->fd,
		 getuid(), getgid(), "default_permissions",
		 o->allow_other == BCFS_ON ? ",allow_other" : "", more);
	return mount(o->source, o->mountpoint, type, opts_mount_flags(o), data) ? errno : 0;
}

/*
 * A block device, which the kernel then has itself: it passes on syncfs(2), and umount(2) waits for
 * us. Not everywhere may it have a device that is open for writing; then it is as with an image.
 */
static int mount_block_device(struct daemon *d)
{
	struct bcfs_info info;
	char more[32];
	int ret;

	bcfs_get_info(d->fs, &info);
	snprintf(more, sizeof(more), ",blksize=%u",
		 info.block_bytes < 4096 ? info.block_bytes : 4096);
	bcfs_claim(d->fs, 0);
	ret = mount_type(d, "fuseblk", more);
	d->fuseblk = !ret;
	if (!ret)
		return 0;
	log_fmt(BCFS_LOG_INFO, "%s: not as fuseblk: %s", d->opts->device, strerror(ret));
	if (bcfs_claim(d->fs, 1))
		return EBUSY;
	return mount_type(d, "fuse.bcfs", "");
}

/* As root: mount(2) ourselves. 0, or an errno. */
static int mount_as_root(struct daemon *d)
{
	struct stat st;
	int ret;

	d->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (d->fd < 0)
		return errno;
	if (!stat(d->opts->source, &st) && S_ISBLK(st.st_mode) && d->opts->fuseblk)
		ret = mount_block_device(d);
	else
		ret = mount_type(d, "fuse.bcfs", "");
	if (ret) {
		close(d->fd);
		d->fd = -1;
	}
	return ret;
}

/* An option's value for libfuse: ',' and '\' have a backslash before them. */
static char *escape(const char *s)
{
	char *ret = malloc(2 * strlen(s) + 1), *p = ret;

	for (; ret && *s; s++) {
		if (*s == ',' || *s == '\\')
			*p++ = '\\';
		*p++ = *s;
	}
	if (ret)
		*p = 0;
	return ret;
}

/* For fusermount3, with the flags that it knows. NULL: no memory. */
static char *user_mount_string(const struct mount_opts *o)
{
	static const struct {
		unsigned long flag;
		const char *name;
	} known[] = {
		{MS_RDONLY, ",ro"},	   {MS_NOEXEC, ",noexec"},   {MS_NOATIME, ",noatime"},
		{MS_SYNCHRONOUS, ",sync"}, {MS_DIRSYNC, ",dirsync"},
	};
	char *source = escape(o->source), *ret = NULL;
	char flags[64] = "";
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (opts_mount_flags(o) & known[i].flag)
			strcat(flags, known[i].name);
	if (source && asprintf(&ret, "fsname=%s,subtype=bcfs,default_permissions%s%s", source,
			       o->allow_other == BCFS_ON ? ",allow_other" : "", flags) < 0)
		ret = NULL;
	free(source);
	return ret;
}

/* The session, mounted unless that is done by mount_as_root(). */
static bool session_make(struct daemon *d, const char *string)
{
	char *argv[] = {"bcfs-fuse", "-o", (char *)string, d->opts->debug ? "-d" : NULL, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(d->opts->debug ? 4 : 3, argv);

	d->se = fuse_session_new(&args, &daemon_ops, sizeof(daemon_ops), d);
	fuse_opt_free_args(&args);
	return d->se;
}

bool session_mount(struct daemon *d, char *msg, size_t size)
{
	bool root = !geteuid(), ok = false;
	char *string = root ? strdup("subtype=bcfs") : user_mount_string(d->opts);
	char said[256] = "", text[400];
	int err = 0;

	if (!string)
		return say(msg, size, d->opts, "out of memory");
	fuse_set_log_func(keep_message);
	fuse_said = said;
	fuse_said_size = sizeof(said);
	if (session_make(d, string)) {
		if (root)
			err = mount_as_root(d);
		else if (!fuse_session_mount(d->se, d->opts->mountpoint))
			d->fd = fuse_session_fd(d->se);
		d->mounted = d->fd >= 0;
		ok = d->mounted && !fuse_session_custom_io(d->se, loops_io(), d->fd);
	}
	fuse_said = NULL;
	free(string);
	if (!ok) {
		snprintf(text, sizeof(text), "%s",
			 *said ? said
			 : err ? strerror(err)
			       : "the kernel refused");
		say(msg, size, d->opts, text);
	}
	return ok;
}

void session_unmount(struct daemon *d)
{
	if (!d->mounted)
		return;
	if (geteuid())
		fuse_session_unmount(d->se);
	else
		umount2(d->opts->mountpoint, UMOUNT_NOFOLLOW | MNT_FORCE | MNT_DETACH);
}

void session_destroy(struct daemon *d)
{
	if (!d->se)
		return;
	/* The kernel has let go, so this unmounts nothing: it only frees what mounting kept. */
	if (d->mounted)
		fuse_session_unmount(d->se);
	fuse_session_destroy(d->se);
	d->se = NULL;
}

/* ---- live ---- */

bool session_wait_live(struct daemon *d, char *msg, size_t size)
{
	struct statfs fs;
	struct stat st;

	if (stat(d->opts->mountpoint, &st) || statfs(d->opts->mountpoint, &fs))
		return say(msg, size, d->opts, strerror(errno));
	if (fs.f_type != FUSE_MAGIC)
		return say(msg, size, d->opts, "the mount was gone before it was live");
	d->st_dev = st.st_dev;
	return true;
}

bool session_remount_ro(const struct daemon *d, bool last)
{
	if (geteuid())
		return true;
	if (!mount(NULL, d->opts->mountpoint, NULL, MS_REMOUNT | MS_RDONLY, NULL)) {
		log_fmt(BCFS_LOG_NOTICE, "%s: %s is read-only now", d->opts->device,
			d->opts->mountpoint);
		return true;
	}
	if (last)
		log_fmt(BCFS_LOG_WARNING, "%s: cannot remount %s read-only: %s", d->opts->device,
			d->opts->mountpoint, strerror(errno));
	return false;
}

static void write_number(const char *path, uint64_t number)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return;
	fprintf(f, "%llu\n", (unsigned long long)number);
	fclose(f);
}

void session_tune_bdi(const struct daemon *d)
{
	const char *kind = d->fuseblk ? "-fuseblk" : "";
	char path[128];

	if (geteuid() || !d->st_dev)
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u%s/read_ahead_kb", major(d->st_dev),
		 minor(d->st_dev), kind);
	write_number(path, d->opts->read_ahead_bytes >> 10);
	/* FUSE starts with 1 % of the dirty limit: too little to gather writes. */
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u%s/max_ratio", major(d->st_dev),
		 minor(d->st_dev), kind);
	write_number(path, d->opts->max_ratio);
}
