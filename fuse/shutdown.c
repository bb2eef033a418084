// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Leaving on a signal. The loops go on serving: the kernel's dirty pages still
 * have to come through them. So a thread of its own calls syncfs(2) on the
 * mount and unmounts it, lazily if it is busy; the loops end by themselves when
 * the last descriptor in the mount is closed and the kernel lets go.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuse_bcfs.h"

extern char **environ;

void mount_sync(const struct daemon *d)
{
	int fd = open(d->opts->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return;
	if (!fstat(fd, &st) && st.st_dev == d->st_dev && syncfs(fd))
		log_fmt(BCFS_LOG_ERR, "%s: syncing before the unmount: %s", d->opts->device,
			strerror(errno));
	close(fd);
}

/* 0, or an errno. */
static int fusermount(const char *mountpoint, bool lazy)
{
	char *argv[] = {"fusermount3",	    "-u", "-q", lazy ? "-z" : "--",
			lazy ? "--" : NULL, NULL, NULL};
	int status;
	pid_t pid;
	int ret;

	argv[lazy ? 5 : 4] = (char *)mountpoint;
	ret = posix_spawnp(&pid, "fusermount3", NULL, NULL, argv, environ);
	if (ret)
		return ret;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : EBUSY;
}

/* Still ours? An unmount by somebody else may have come first. */
static bool is_ours(const struct daemon *d)
{
	struct stat st;

	return !stat(d->opts->mountpoint, &st) && st.st_dev == d->st_dev;
}

static int unmount(const struct daemon *d, bool lazy)
{
	const char *mnt = d->opts->mountpoint;

	if (geteuid())
		return fusermount(mnt, lazy);
	return umount2(mnt, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) ? errno : 0;
}

static void *shutdown_main(void *arg)
{
	const struct daemon *d = arg;
	int ret;

	mount_sync(d);
	if (!is_ours(d))
		return NULL;
	ret = unmount(d, false);
	if (ret == EBUSY && is_ours(d)) {
		log_fmt(BCFS_LOG_NOTICE,
			"%s: %s is busy: detached, files still open are served until closed",
			d->opts->device, d->opts->mountpoint);
		ret = unmount(d, true);
	}
	if (ret && is_ours(d))
		log_fmt(BCFS_LOG_ERR, "%s: cannot unmount %s: %s", d->opts->device,
			d->opts->mountpoint, strerror(ret));
	return NULL;
}

void shutdown_start(struct daemon *d)
{
	pthread_t thread;
	int ret = pthread_create(&thread, NULL, shutdown_main, d);

	if (ret)
		log_fmt(BCFS_LOG_ERR, "no thread for the unmount: %s", strerror(ret));
	else
		pthread_detach(thread);
}
