// SPDX-License-Identifier: LGPL-2.1-or-later
/* Options of files and directories: extended attributes bcfs.NAME (bcfs(5)). */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "command.h"
#include "tool.h"

static const char *const names[] = {"compression", "background_compression"};

#define NR_NAMES (sizeof(names) / sizeof(names[0]))

/* mkfs and mount have it with '-'. */
static bool same_name(const char *name, const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len && name[i]; i++)
		if (name[i] != text[i] && !(name[i] == '_' && text[i] == '-'))
			return false;
	return i == len && !name[i];
}

/* The attribute of the option that `text` begins with, up to its '='; false: there is none. */
static bool attribute(const char *text, char *ret, size_t size)
{
	size_t len = strcspn(text, "="), i;

	for (i = 0; i < NR_NAMES; i++) {
		if (!same_name(names[i], text, len))
			continue;
		snprintf(ret, size, "bcfs.%s", names[i]);
		return true;
	}
	tool_error("unknown option \"%.*s\": there is compression, "
		   "background_compression",
		   (int)len, text);
	return false;
}

static const char *why(const char *path)
{
	struct stat st;
	int err = errno;

	if (err == EOPNOTSUPP)
		return "not on a bcfs filesystem";
	if ((err == EINVAL || err == EPERM) && !stat(path, &st) && !S_ISREG(st.st_mode) &&
	    !S_ISDIR(st.st_mode))
		return "only files and directories have options";
	if (err == EINVAL)
		return "its daemon knows no such option or value";
	return strerror(err);
}

static int run_set(const struct command *cmd, int argc, char **argv)
{
	char name[64], msg[TOOL_MSG_SIZE];
	const char *value;
	int status, i;

	if (!command_no_options(cmd, argc, argv, &status))
		return status;
	if (argc - optind < 2 || !strchr(argv[optind], '='))
		return command_misuse(cmd);
	if (!attribute(argv[optind], name, sizeof(name)))
		return EXIT_USAGE;
	value = strchr(argv[optind], '=') + 1;
	if (*value && bcfs_compression_check(value, msg, sizeof(msg))) {
		tool_error("%s", msg);
		return EXIT_USAGE;
	}
	status = 0;
	for (i = optind + 1; i < argc; i++) {
		const char *path = argv[i];
		bool bad = *value ? setxattr(path, name, value, strlen(value), 0)
				  : removexattr(path, name) && errno != ENODATA;

		if (!bad)
			continue;
		tool_error("%s: %s: %s", path, argv[optind], why(path));
		status = 1;
	}
	return status;
}

const struct command cmd_set_option = {
	.name = "set-option",
	.args = "NAME=VALUE PATH...",
	.short_doc = "Choose how data of files is stored from now on",
	.help = "  compression=TYPE[:LEVEL]             none, zstd (-50 to 19), lz4 (1 to 12)\n"
		"  background_compression=TYPE[:LEVEL]  the same, of what becomes of it later\n"
		"  NAME=                                as the filesystem has it\n"
		"\n"
		"  What is there already stays as it is; see rebalance scan.\n",
	.run = run_set,
};

static int run_get(const struct command *cmd, int argc, char **argv)
{
	char name[64], value[256];
	int status, i;
	size_t k;

	if (!command_no_options(cmd, argc, argv, &status))
		return status;
	if (optind == argc)
		return command_misuse(cmd);
	status = 0;
	for (i = optind; i < argc; i++)
		for (k = 0; k < NR_NAMES; k++) {
			ssize_t len;

			snprintf(name, sizeof(name), "bcfs.%s", names[k]);
			len = getxattr(argv[i], name, value, sizeof(value));
			if (len >= 0) {
				printf("%s: %s=%.*s\n", argv[i], names[k], (int)len, value);
			} else if (errno != ENODATA) {
				tool_error("%s: %s", argv[i], why(argv[i]));
				status = 1;
				break; /* the others would say the same */
			}
		}
	return tool_flush() ? status : 1;
}

const struct command cmd_get_option = {
	.name = "get-option",
	.args = "PATH...",
	.short_doc = "Print what was chosen by set-option, or inherited",
	.run = run_get,
};
