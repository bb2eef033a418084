// SPDX-License-Identifier: LGPL-2.1-or-later
/* What a mounted filesystem rewrites in the background: asked of its daemon by an xattr. */
#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "command.h"
#include "tool.h"

static const char attribute[] = "bcfs.rebalance";

static const char *why(void)
{
	if (errno == EINVAL || errno == ENODATA || errno == EOPNOTSUPP)
		return "not the mount point of a bcfs filesystem";
	if (errno == EPERM)
		return "only root and the owner may do that";
	return strerror(errno);
}

static int run_status(const struct command *cmd, int argc, char **argv)
{
	char text[4096];
	ssize_t len;
	int status;

	if (!command_no_options(cmd, argc, argv, &status))
		return status;
	if (argc - optind != 1)
		return command_misuse(cmd);
	len = getxattr(argv[optind], attribute, text, sizeof(text));
	if (len < 0) {
		tool_error("%s: %s", argv[optind], why());
		return 1;
	}
	fwrite(text, 1, (size_t)len, stdout);
	return tool_flush() ? 0 : 1;
}

static int tell(const struct command *cmd, int argc, char **argv, const char *what)
{
	int status;

	if (!command_no_options(cmd, argc, argv, &status))
		return status;
	if (argc - optind != 1)
		return command_misuse(cmd);
	if (!setxattr(argv[optind], attribute, what, strlen(what), 0))
		return 0;
	tool_error("%s: %s", argv[optind], why());
	return 1;
}

static int run_pause(const struct command *cmd, int argc, char **argv)
{
	return tell(cmd, argc, argv, "pause");
}

static int run_resume(const struct command *cmd, int argc, char **argv)
{
	return tell(cmd, argc, argv, "resume");
}

/* nftw() has no argument for this. */
static int scan_failed;

static int scan_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	static const char scan[] = "scan";

	(void)ftw;
	if (type == FTW_DNR) {
		tool_error("%s: cannot be read", path);
		scan_failed = 1;
	}
	if (type != FTW_F || !S_ISREG(st->st_mode) ||
	    !setxattr(path, attribute, scan, strlen(scan), 0) || errno == ENOENT)
		return 0;
	bool elsewhere = errno == EINVAL || errno == EOPNOTSUPP;
	/* The others would say the same. */
	bool all = elsewhere || errno == EROFS || errno == ENOSPC;

	tool_error("%s: %s", path, elsewhere ? "not on a bcfs filesystem" : why());
	scan_failed = 1;
	return all;
}

static int run_scan(const struct command *cmd, int argc, char **argv)
{
	int status, i;

	if (!command_no_options(cmd, argc, argv, &status))
		return status;
	if (optind == argc)
		return command_misuse(cmd);
	for (i = optind; i < argc; i++)
		if (nftw(argv[i], scan_one, 32, FTW_PHYS | FTW_MOUNT) < 0) {
			tool_error("%s: %s", argv[i], strerror(errno));
			scan_failed = 1;
		}
	return scan_failed;
}

const struct command cmd_rebalance_status = {
	.name = "rebalance status",
	.args = "MOUNTPOINT",
	.short_doc = "What is rewritten in the background, and how much there is to do",
	.run = run_status,
};

const struct command cmd_rebalance_pause = {
	.name = "rebalance pause",
	.args = "MOUNTPOINT",
	.short_doc = "Rewrite nothing in the background, until resumed or mounted again",
	.run = run_pause,
};

const struct command cmd_rebalance_resume = {
	.name = "rebalance resume",
	.args = "MOUNTPOINT",
	.short_doc = "Go on with it",
	.run = run_resume,
};

const struct command cmd_rebalance_scan = {
	.name = "rebalance scan",
	.args = "PATH...",
	.short_doc = "Have data that is there already rewritten as its options say, too",
	.help = "  Of directories all files below, on one filesystem. It may be interrupted and "
		"begun\n"
		"  again. See set-option for background_compression.\n",
	.run = run_scan,
};
