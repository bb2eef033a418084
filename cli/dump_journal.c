// SPDX-License-Identifier: LGPL-2.1-or-later
#include "command.h"

static int run(const struct command *cmd, int argc, char **argv)
{
	return dump_run(cmd, argc, argv, "ahnw:", BCFS_DUMP_KEYS, bcfs_dump_journal);
}

const struct command cmd_dump_journal = {
	.name = "dump journal",
	.args = "[-a] DEVICE",
	.short_doc = "The entries of the journal",
	.help = "  -a         with every key in them\n"
		"  -n         read a device that is in use: the view may be torn\n"
		"  -w N       seconds to wait for a mount that is still closing (default: "
		"30)\n" DUMP_SECRET_HELP,
	.run = run,
};
