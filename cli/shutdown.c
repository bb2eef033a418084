// SPDX-License-Identifier: LGPL-2.1-or-later
/* Stops a mounted filesystem at once: for tests of what survives, and in emergencies. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bcfs/ioctl.h"
#include "command.h"
#include "tool.h"

static bool parse_mode(const char *text, uint32_t *ret)
{
	static const char *const names[] = {
		[BCFS_SHUTDOWN_SYNC] = "sync",
		[BCFS_SHUTDOWN_FLUSH] = "flush",
		[BCFS_SHUTDOWN_NOW] = "now",
	};
	uint32_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i]))
			continue;
		*ret = i;
		return true;
	}
	tool_error("--mode %s: not one of sync, flush, now", text);
	return false;
}

static int run(const struct command *cmd, int argc, char **argv)
{
	static const struct option longs[] = {{"mode", required_argument, NULL, 'm'}, {0}};
	uint32_t mode = BCFS_SHUTDOWN_SYNC;
	const char *mnt;
	int c, fd, ret = 0;

	while ((c = getopt_long(argc, argv, "hm:", longs, NULL)) != -1) {
		if (c == 'h') {
			command_usage(cmd);
			return tool_flush() ? 0 : 1;
		}
		if (c != 'm')
			return command_bad_option(cmd, argv, "hm:");
		if (!parse_mode(optarg, &mode))
			return EXIT_USAGE;
	}
	if (argc - optind != 1)
		return command_misuse(cmd);
	mnt = argv[optind];
	fd = open(mnt, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, BCFS_IOC_SHUTDOWN, &mode)) {
		tool_error("%s: cannot shut down: %s", mnt,
			   errno == ENOTTY ? "not on a mounted bcfs filesystem" : strerror(errno));
		ret = 1;
	}
	if (fd >= 0)
		close(fd);
	return ret;
}

const struct command cmd_shutdown = {
	.name = "shutdown",
	.args = "[-m MODE] MOUNTPOINT",
	.short_doc = "Stop a mounted filesystem: every call answers EIO until it is unmounted",
	.help = "  -m, --mode MODE  sync: everything is made durable first (default);\n"
		"                   flush: what the kernel still holds back is lost;\n"
		"                   now: what is not yet durable is lost\n",
	.run = run,
};
