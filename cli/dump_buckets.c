// SPDX-License-Identifier: LGPL-2.1-or-later
#include "command.h"

static int run(const struct command *cmd, int argc, char **argv)
{
	return dump_run(cmd, argc, argv, "al:hnw:", BCFS_DUMP_KEYS, bcfs_dump_buckets);
}

const struct command cmd_dump_buckets = {
	.name = "dump buckets",
	.args = "[-a] [-l N] DEVICE",
	.short_doc = "The buckets: what is in them, and how much",
	.help = "  -a         free ones too\n"
		"  -l N       at most N of them\n"
		"  -n         read a device that is in use: the view may be torn\n"
		"  -w N       seconds to wait for a mount that is still closing (default: "
		"30)\n" DUMP_SECRET_HELP,
	.run = run,
};
