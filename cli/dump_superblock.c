// SPDX-License-Identifier: LGPL-2.1-or-later
#include "command.h"

static int run(const struct command *cmd, int argc, char **argv)
{
	return dump_run(cmd, argc, argv, "ahnw:", BCFS_DUMP_KEYS, bcfs_dump_superblock);
}

const struct command cmd_dump_superblock = {
	.name = "dump superblock",
	.args = "[-a] DEVICE",
	.short_doc = "The superblock, field by field",
	.help = "  -a         every copy, not just the newest valid one\n"
		"  -n         read a device that is in use: the view may be torn\n"
		"  -w N       seconds to wait for a mount that is still closing (default: 30)\n",
	.run = run,
};
