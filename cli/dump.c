// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the dump commands share: their options, and the way to stdout. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "tool.h"
#include "unlock.h"

static const struct option long_opts[] = {
	TOOL_SECRET_LONG_OPTS,
	{0},
};

static void to_stdout(void *arg, const char *text)
{
	fputs(text, stdout);
}

static void log_to_stderr(void *arg, enum bcfs_log_level level, const char *line)
{
	if (level <= BCFS_LOG_NOTICE)
		tool_error("%s", line);
}

/* -1: understood. */
static int dump_opt(const struct command *cmd, struct bcfs_dump_opts *opts,
		    struct tool_secret_opts *secret, int c, char **argv, const char *letters)
{
	if (tool_secret_opt(secret, c, optarg))
		return -1;
	switch (c) {
	case 'a':
		opts->all = 1;
		return -1;
	case 'b':
		opts->btree = optarg;
		return -1;
	case 'm':
		opts->mode = BCFS_DUMP_NODES;
		return -1;
	case 's':
		opts->start = optarg;
		return -1;
	case 'e':
		opts->end = optarg;
		return -1;
	case 'n':
		opts->no_lock = 1;
		return -1;
	case 'l':
		if (tool_parse_uint(optarg, UINT64_MAX, &opts->limit))
			return -1;
		tool_error("-l %s: not a number", optarg);
		return EXIT_USAGE;
	case 'w':
		return command_wait(optarg, &opts->wait_lock_ms);
	case 'h':
		command_usage(cmd);
		return tool_flush() ? 0 : 1;
	default:
		return command_bad_option(cmd, argv, letters);
	}
}

int dump_run(const struct command *cmd, int argc, char **argv, const char *letters, uint8_t mode,
	     dump_fn fn)
{
	struct bcfs_dump_opts opts = {
		.struct_size = sizeof(opts),
		.mode = mode,
		.wait_lock_ms = 30000,
		.log = log_to_stderr,
	};
	char msg[TOOL_MSG_SIZE] = "";
	/* The superblock is not encrypted. */
	bool locked = fn != bcfs_dump_superblock;
	struct tool_unlock u = {0};
	int c, ret;

	while ((c = getopt_long(argc, argv, letters, locked ? long_opts : long_opts + 2, NULL)) !=
	       -1) {
		ret = dump_opt(cmd, &opts, &u.opts, c, argv, letters);
		if (ret >= 0)
			return ret;
	}
	if (argc - optind != 1)
		return command_misuse(cmd);

	u.path = argv[optind];
	if (locked && !tool_unlock(&u))
		return 1;
	do {
		opts.secret = u.arg;
		*msg = 0;
		ret = fn(u.path, &opts, to_stdout, NULL, msg, sizeof(msg));
	} while (ret && tool_unlock_again(&u, ret));
	tool_unlock_end(&u);
	if (ret)
		tool_error("%s", *msg ? msg : bcfs_strerror(ret));
	return ret || !tool_flush() ? 1 : 0;
}
