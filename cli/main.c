// SPDX-License-Identifier: LGPL-2.1-or-later
/* bcfs COMMAND: everything that is not mkfs, mount or fsck. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "tool.h"

static const struct command *const commands[] = {
	&cmd_dump_superblock, &cmd_dump_journal,     &cmd_dump_keys,	   &cmd_dump_nodes,
	&cmd_dump_buckets,    &cmd_dump_image,	     &cmd_counters,	   &cmd_errors,
	&cmd_probe,	      &cmd_umount,	     &cmd_collapse,	   &cmd_insert,
	&cmd_shutdown,	      &cmd_set_option,	     &cmd_get_option,	   &cmd_reflink,
	&cmd_dedupe,	      &cmd_rebalance_status, &cmd_rebalance_pause, &cmd_rebalance_resume,
	&cmd_rebalance_scan,  &cmd_key_list,	     &cmd_key_add,	   &cmd_key_remove,
	&cmd_key_change,      &cmd_key_rotate,	     &cmd_set_fs_option,   &cmd_get_fs_option,
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

void command_usage(const struct command *cmd)
{
	printf("usage: bcfs %s %s\n\n%s.\n", cmd->name, cmd->args, cmd->short_doc);
	if (cmd->help)
		printf("\n%s", cmd->help);
}

int command_misuse(const struct command *cmd)
{
	tool_error("wanted: bcfs %s %s; see bcfs %s --help", cmd->name, cmd->args, cmd->name);
	return EXIT_USAGE;
}

int command_bad_option(const struct command *cmd, char **argv, const char *letters)
{
	char name[64];

	snprintf(name, sizeof(name), "bcfs %s", cmd->name);
	tool_bad_option(argv, letters, name);
	return EXIT_USAGE;
}

bool command_no_options(const struct command *cmd, int argc, char **argv, int *status)
{
	int c = getopt(argc, argv, "h");

	if (c == -1)
		return true;
	if (c == 'h') {
		command_usage(cmd);
		*status = tool_flush() ? 0 : 1;
	} else {
		*status = command_bad_option(cmd, argv, "h");
	}
	return false;
}

int command_wait(const char *text, uint32_t *ret_ms)
{
	uint64_t seconds;

	if (!tool_parse_uint(text, 3600, &seconds)) {
		tool_error("-w %s: not a number of seconds up to 3600", text);
		return EXIT_USAGE;
	}
	*ret_ms = (uint32_t)seconds * 1000;
	return -1;
}

static void print_commands(void)
{
	size_t i;

	printf("usage: bcfs COMMAND [ARG...]\n\ncommands:\n");
	for (i = 0; i < NR_COMMANDS; i++)
		printf("  %-16s %s\n", commands[i]->name, commands[i]->short_doc);
	printf("  %-16s %s\n  %-16s %s\n\n", "help [COMMAND]", "This list, or a command's options",
	       "version", "The version");
	printf("bcfs COMMAND -h prints the options of a command. See also mkfs.bcfs(8),\n"
	       "fsck.bcfs(8), bcfs-fuse(8).\n");
}

/* The command named by the first words; *nr_words says how many. */
static const struct command *find(int argc, char **argv, int *nr_words)
{
	char name[64];
	size_t i;
	int words;

	for (words = 2; words > 0; words--) {
		if (argc < words)
			continue;
		snprintf(name, sizeof(name), words == 2 ? "%s %s" : "%s", argv[0],
			 words == 2 ? argv[1] : "");
		for (i = 0; i < NR_COMMANDS; i++) {
			if (strcmp(commands[i]->name, name))
				continue;
			*nr_words = words;
			return commands[i];
		}
	}
	return NULL;
}

static int help(int argc, char **argv)
{
	const struct command *cmd;
	int words;

	if (!argc) {
		print_commands();
	} else {
		cmd = find(argc, argv, &words);
		if (!cmd) {
			tool_error("no command \"%s\": see \"bcfs help\"", argv[0]);
			return EXIT_USAGE;
		}
		command_usage(cmd);
	}
	return tool_flush() ? 0 : 1;
}

int main(int argc, char **argv)
{
	const struct command *cmd;
	int words = 0;

	if (argc < 2) {
		tool_error("wanted: a command; try \"bcfs help\"");
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))
		return help(argc - 2, argv + 2);
	if (!strcmp(argv[1], "version") || !strcmp(argv[1], "-V") ||
	    !strcmp(argv[1], "--version")) {
		printf("bcfs %s\n", bcfs_version());
		return tool_flush() ? 0 : 1;
	}
	if (argv[1][0] == '-') {
		tool_error("unknown option %s: see bcfs --help", argv[1]);
		return EXIT_USAGE;
	}
	cmd = find(argc - 1, argv + 1, &words);
	if (!cmd) {
		bool two = !strcmp(argv[1], "dump") || !strcmp(argv[1], "key");

		tool_error("no command \"%s%s%s\": see \"bcfs help\"", argv[1],
			   two && argc > 2 ? " " : "", two && argc > 2 ? argv[2] : "");
		return EXIT_USAGE;
	}
	if (argc > words + 1 && !strcmp(argv[words + 1], "--help")) {
		command_usage(cmd);
		return tool_flush() ? 0 : 1;
	}
	opterr = 0;
	return cmd->run(cmd, argc - words, argv + words);
}
