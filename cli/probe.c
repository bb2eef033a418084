// SPDX-License-Identifier: LGPL-2.1-or-later
/* Is there a bcfs on a device, and which? For people, or as udev imports it. */
#include <blkid/blkid.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "tool.h"

/* As of blkid(8). */
#define EXIT_NOT_FOUND 2

static const struct option long_opts[] = {
	{"udev", no_argument, NULL, 'u'},
	{0},
};

static void print_text(const struct bcfs_info *info)
{
	char text[64], label[4 * sizeof(info->label)];

	printf("TYPE=bcfs\n");
	printf("UUID=%s\n", tool_uuid_text(info->uuid, text));
	bcfs_escape(info->label, sizeof(info->label), label, sizeof(label));
	printf("LABEL=%s\n", label);
	printf("VERSION=%u.%u\n", info->version >> 10, info->version & 1023);
	printf("BLOCK_SIZE=%u\n", info->block_bytes);
	printf("SIZE=%llu\n", (unsigned long long)info->size_bytes);
	printf("CLEAN=%u\n", info->clean);
	printf("ERROR=%u\n", info->has_error);
	printf("ENCRYPTED=%u\n", info->encrypted);
}

/* As udev's own blkid does it: readable, and encoded so that it can be a file's name. */
static void print_encoded(const char *name, const char *value)
{
	char text[256];

	if (!blkid_safe_string(value, text, sizeof(text)))
		printf("%s=%s\n", name, text);
	if (!blkid_encode_string(value, text, sizeof(text)))
		printf("%s_ENC=%s\n", name, text);
}

static void print_udev(const struct bcfs_info *info)
{
	char text[64];

	printf("ID_FS_TYPE=bcfs\n");
	printf("ID_FS_USAGE=filesystem\n");
	printf("ID_FS_VERSION=%u.%u\n", info->version >> 10, info->version & 1023);
	print_encoded("ID_FS_UUID", tool_uuid_text(info->uuid, text));
	if (*info->label)
		print_encoded("ID_FS_LABEL", info->label);
}

static int run(const struct command *cmd, int argc, char **argv)
{
	char msg[TOOL_MSG_SIZE] = "";
	struct bcfs_info info;
	bool udev = false;
	int ret;

	while ((ret = getopt_long(argc, argv, "h", long_opts, NULL)) != -1) {
		if (ret == 'h') {
			command_usage(cmd);
			return 0;
		}
		if (ret != 'u')
			return command_bad_option(cmd, argv, "h");
		udev = true;
	}
	if (argc - optind != 1)
		return command_misuse(cmd);

	ret = bcfs_probe(argv[optind], &info, msg, sizeof(msg));
	if (ret) {
		tool_error("%s", *msg ? msg : bcfs_strerror(ret));
		return bcfs_errno(ret) == EINVAL ? EXIT_NOT_FOUND : 1;
	}
	if (udev)
		print_udev(&info);
	else
		print_text(&info);
	return tool_flush() ? 0 : 1;
}

const struct command cmd_probe = {
	.name = "probe",
	.args = "[--udev] DEVICE",
	.short_doc = "Whether a bcfs is on the device, and which",
	.help = "  --udev     as properties for udev: ID_FS_TYPE, ID_FS_UUID, ID_FS_LABEL, ...\n"
		"\n"
		"The status is 2 where there is none.\n",
	.run = run,
};
