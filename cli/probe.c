// SPDX-License-Identifier: LGPL-2.1-or-later
/* Is there a bcfs on a device, and which? */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "tool.h"

static int run(const struct command *cmd, int argc, char **argv)
{
	struct bcfs_info info;
	char msg[TOOL_MSG_SIZE] = "", text[64], label[4 * sizeof(info.label)];
	int ret;

	while ((ret = getopt(argc, argv, "h")) != -1) {
		if (ret != 'h')
			return command_bad_option(cmd, argv, "h");
		command_usage(cmd);
		return 0;
	}
	if (argc - optind != 1)
		return command_misuse(cmd);

	ret = bcfs_probe(argv[optind], &info, msg, sizeof(msg));
	if (ret) {
		tool_error("%s", *msg ? msg : bcfs_strerror(ret));
		return 1;
	}
	printf("TYPE=bcfs\n");
	printf("UUID=%s\n", tool_uuid_text(info.uuid, text));
	bcfs_escape(info.label, sizeof(info.label), label, sizeof(label));
	printf("LABEL=%s\n", label);
	printf("VERSION=%u.%u\n", info.version >> 10, info.version & 1023);
	printf("BLOCK_SIZE=%u\n", info.block_bytes);
	printf("SIZE=%llu\n", (unsigned long long)info.size_bytes);
	printf("CLEAN=%u\n", info.clean);
	printf("ERROR=%u\n", info.has_error);
	return tool_flush() ? 0 : 1;
}

const struct command cmd_probe = {
	.name = "probe",
	.args = "DEVICE",
	.short_doc = "Whether a bcfs is on the device, and which",
	.run = run,
};
