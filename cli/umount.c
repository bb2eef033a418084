// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Unmounts, and returns when the daemon has closed the device: umount(8) on a
 * FUSE mount returns earlier.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "command.h"
#include "tool.h"

extern char **environ;

/* 0 or an errno. The mount point itself: umount2() is told to follow no link. */
static int unmount(const char *given)
{
	char path[PATH_MAX], *mnt = realpath(given, path) ? path : (char *)given;
	char *argv[] = {"fusermount3", "-u", "--", mnt, NULL};
	int status = 0, ret;
	pid_t pid;

	if (!umount2(mnt, UMOUNT_NOFOLLOW))
		return 0;
	if (errno != EPERM)
		return errno;
	ret = posix_spawnp(&pid, "fusermount3", NULL, NULL, argv, environ);
	if (ret)
		return ret;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return errno;
	return status ? EBUSY : 0;
}

/* Such as a loop device that is free again when its last user has gone. */
static bool device_is_gone(int code)
{
	switch (bcfs_errno(code)) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
	case EINVAL: /* it has no size */
		return true;
	default:
		return false;
	}
}

/* How the daemon left it. */
static int verdict(const char *device)
{
	char msg[TOOL_MSG_SIZE] = "";
	struct bcfs_info info;

	if (bcfs_probe(device, &info, msg, sizeof(msg))) {
		tool_error("%s", msg);
		return 1;
	}
	if (!info.clean || info.has_error) {
		tool_error("%s: %s: run fsck.bcfs", device,
			   info.has_error ? "errors were met" : "it was not closed cleanly");
		return 1;
	}
	return 0;
}

static int run(const struct command *cmd, int argc, char **argv)
{
	uint64_t timeout = 600;
	char device[PATH_MAX + 1], writes = '1';
	const char *mnt;
	ssize_t len;
	int c, ret;

	while ((c = getopt(argc, argv, "hw:")) != -1) {
		if (c == 'h') {
			command_usage(cmd);
			return 0;
		}
		if (c != 'w')
			return command_bad_option(cmd, argv, "hw:");
		if (!tool_parse_uint(optarg, 86400, &timeout)) {
			tool_error("-w %s: not a number of seconds up to 86400", optarg);
			return EXIT_USAGE;
		}
	}
	if (argc - optind != 1)
		return command_misuse(cmd);
	mnt = argv[optind];

	len = getxattr(mnt, "bcfs.device", device, sizeof(device) - 1);
	if (len < 0) {
		tool_error("%s: %s", mnt,
			   errno == ENODATA || errno == EOPNOTSUPP
				   ? "not the mount point of a bcfs filesystem"
				   : strerror(errno));
		return 1;
	}
	device[len] = 0;
	getxattr(mnt, "bcfs.writes", &writes, 1);

	ret = unmount(mnt);
	if (ret) {
		tool_error("%s: cannot unmount: %s", mnt, strerror(ret));
		return 1;
	}
	ret = bcfs_wait_unlocked(device, (uint32_t)timeout * 1000);
	if (ret && device_is_gone(ret))
		return 0;
	if (ret) {
		tool_error("%s: unmounted, but %s is still being closed after %llu seconds", mnt,
			   device, (unsigned long long)timeout);
		return 1;
	}
	/* A read-only mount has left the device as it was, whatever that is. */
	return writes == '0' ? 0 : verdict(device);
}

const struct command cmd_umount = {
	.name = "umount",
	.args = "[-w SECONDS] MOUNTPOINT",
	.short_doc = "Unmount, and return when everything is on the device",
	.help = "  -w N       seconds to wait for the device at most (default: 600)\n",
	.run = run,
};
