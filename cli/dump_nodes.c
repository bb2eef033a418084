// SPDX-License-Identifier: LGPL-2.1-or-later
#include "command.h"

static int run(const struct command *cmd, int argc, char **argv)
{
	return dump_run(cmd, argc, argv, "mb:s:e:l:hnw:", BCFS_DUMP_BSETS, bcfs_dump_btree);
}

const struct command cmd_dump_nodes = {
	.name = "dump nodes",
	.args = "[-m] [-b BTREE] [-s POS] [-e POS] [-l N] DEVICE",
	.short_doc = "How the btree nodes are laid out: bsets, packing, search trees",
	.help = "  -m         one line a node\n"
		"  -b BTREE   that btree alone, by name\n"
		"  -s POS     from this position on: inode, inode:offset or inode:offset:snapshot\n"
		"  -e POS     up to this position\n"
		"  -l N       at most N of them\n"
		"  -n         read a device that is in use: the view may be torn\n"
		"  -w N       seconds to wait for a mount that is still closing (default: "
		"30)\n" DUMP_SECRET_HELP,
	.run = run,
};
