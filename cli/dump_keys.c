// SPDX-License-Identifier: LGPL-2.1-or-later
#include "command.h"

static int run(const struct command *cmd, int argc, char **argv)
{
	return dump_run(cmd, argc, argv, "b:s:e:l:hnw:", BCFS_DUMP_KEYS, bcfs_dump_btree);
}

const struct command cmd_dump_keys = {
	.name = "dump keys",
	.args = "[-b BTREE] [-s POS] [-e POS] [-l N] DEVICE",
	.short_doc = "The keys of the btrees, one a line",
	.help = "  -b BTREE   that btree alone, by name\n"
		"  -s POS     from this position on: inode, inode:offset or inode:offset:snapshot\n"
		"  -e POS     up to this position\n"
		"  -l N       at most N of them\n"
		"  -n         read a device that is in use: the view may be torn\n"
		"  -w N       seconds to wait for a mount that is still closing (default: "
		"30)\n" DUMP_SECRET_HELP,
	.run = run,
};
