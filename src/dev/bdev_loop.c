/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An image file and the loop devices over it are one device under two names: a claim of either
 * must be seen by who opens the other. What cannot be looked at (no sysfs, another user's loop
 * device) counts as free.
 */
#include "dev/bdev_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The file behind a loop device, by its directory in sysfs. */
static bool read_backing(const char *sys_dir, char *path, size_t size)
{
	char name[PATH_MAX];
	FILE *file;
	bool ok;

	snprintf(name, sizeof(name), "%s/loop/backing_file", sys_dir);
	file = fopen(name, "re");
	if (!file)
		return false;
	/* The name may hold newlines of its own: one is put behind it. */
	size_t len = fread(path, 1, size - 1, file);

	ok = len > 1;
	path[ok ? len - 1 : 0] = 0;
	fclose(file);
	return ok;
}

bool bdev_loop_in_use(const struct stat *st)
{
	DIR *dir = opendir("/sys/block");
	struct dirent *d;
	bool busy = false;

	while (dir && !busy && (d = readdir(dir))) {
		char sys_dir[PATH_MAX], path[PATH_MAX];
		struct stat other;

		if (strncmp(d->d_name, "loop", 4))
			continue;
		snprintf(sys_dir, sizeof(sys_dir), "/sys/block/%s", d->d_name);
		if (!read_backing(sys_dir, path, sizeof(path)) || stat(path, &other) ||
		    other.st_dev != st->st_dev || other.st_ino != st->st_ino)
			continue;
		snprintf(path, sizeof(path), "/dev/%s", d->d_name);
		int fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);

		busy = fd < 0 && errno == EBUSY;
		if (fd >= 0)
			close(fd);
	}
	if (dir)
		closedir(dir);
	return busy;
}

int bdev_loop_backing(int fd, const struct stat *st)
{
	char sys_dir[64], path[PATH_MAX];
	struct loop_info64 info;
	struct stat file;

	if (ioctl(fd, LOOP_GET_STATUS64, &info))
		return -1;
	/* Several windows into one file do not disturb each other. */
	if (info.lo_offset || info.lo_sizelimit)
		return -1;
	snprintf(sys_dir, sizeof(sys_dir), "/sys/dev/block/%u:%u", major(st->st_rdev),
		 minor(st->st_rdev));
	if (!read_backing(sys_dir, path, sizeof(path)))
		return -1;
	int ret = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (ret >= 0 &&
	    (fstat(ret, &file) || !S_ISREG(file.st_mode) || file.st_ino != info.lo_inode)) {
		close(ret);
		ret = -1;
	}
	return ret;
}
