// SPDX-License-Identifier: LGPL-2.1-or-later
/* The counters and errors of a mounted filesystem, which its daemon shows as xattrs of the root. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "command.h"
#include "tool.h"

static int show(const struct command *cmd, int argc, char **argv, const char *xattr)
{
	static char text[64 << 10]; /* the kernel passes on no more */
	const char *mnt;
	ssize_t len;
	int status;

	if (!command_no_options(cmd, argc, argv, &status))
		return status;
	if (argc - optind != 1)
		return command_misuse(cmd);
	mnt = argv[optind];

	len = getxattr(mnt, xattr, text, sizeof(text));
	if (len < 0) {
		tool_error("%s: %s", mnt,
			   errno == ENODATA || errno == EOPNOTSUPP
				   ? "not the mount point of a bcfs filesystem"
				   : strerror(errno));
		return 1;
	}
	fwrite(text, 1, (size_t)len, stdout);
	return tool_flush() ? 0 : 1;
}

static int show_counters(const struct command *cmd, int argc, char **argv)
{
	return show(cmd, argc, argv, "bcfs.counters");
}

static int show_errors(const struct command *cmd, int argc, char **argv)
{
	return show(cmd, argc, argv, "bcfs.errors");
}

const struct command cmd_counters = {
	.name = "counters",
	.args = "MOUNTPOINT",
	.short_doc = "What a mounted filesystem has counted since its mount",
	.run = show_counters,
};

const struct command cmd_errors = {
	.name = "errors",
	.args = "MOUNTPOINT",
	.short_doc = "The errors of a mounted filesystem's data: how many, and where",
	.run = show_errors,
};
