/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The commands of `bcfs`: one row each in main.c, one file each, usage and help
 * beside the function.
 */
#ifndef BCFS_CLI_COMMAND_H
#define BCFS_CLI_COMMAND_H

#include <stdbool.h>

#include "bcfs/bcfs.h"

struct command {
	const char *name; /* one word, or two: "dump journal" */
	const char *args; /* "[-a] DEVICE" */
	const char *short_doc;
	const char *help; /* of the options; may be NULL */
	/* argv[0] is the name; the exit status. */
	int (*run)(const struct command *cmd, int argc, char **argv);
};

#define EXIT_USAGE 2

/* What a dump command takes beside its own options. */
#define DUMP_SECRET_HELP                                                                           \
	"  --key-file PATH    of an encrypted filesystem: its key file\n"                          \
	"  --passphrase-fd N  or a passphrase: the line read from descriptor N; otherwise that\n"  \
	"                     of BCFS_PASSPHRASE, or asked for\n"

extern const struct command cmd_dump_superblock, cmd_dump_journal, cmd_dump_keys, cmd_dump_nodes,
	cmd_dump_buckets, cmd_counters, cmd_errors, cmd_probe, cmd_umount, cmd_collapse, cmd_insert,
	cmd_reflink, cmd_dedupe, cmd_shutdown, cmd_set_option, cmd_get_option, cmd_rebalance_status,
	cmd_rebalance_pause, cmd_rebalance_resume, cmd_rebalance_scan, cmd_key_list, cmd_key_add,
	cmd_key_remove, cmd_key_change, cmd_key_rotate, cmd_dump_image, cmd_set_fs_option,
	cmd_get_fs_option;

/* Prints usage, and the help if there is any, to stdout. */
void command_usage(const struct command *cmd);
/* One line of what is wanted to stderr; EXIT_USAGE. */
int command_misuse(const struct command *cmd);
/* The same for an option that getopt() refused. */
int command_bad_option(const struct command *cmd, char **argv, const char *letters);
/* Of a command that has no option but -h. False: it ends, with *status. */
bool command_no_options(const struct command *cmd, int argc, char **argv, int *status);
/* -w: seconds to wait for a mount that is still closing. -1: taken; or the exit status. */
int command_wait(const char *text, uint32_t *ret_ms);

/* ---- what the dump commands share ---- */

typedef int (*dump_fn)(const char *path, const struct bcfs_dump_opts *opts, bcfs_out_fn out,
		       void *arg, char *msg, size_t msg_size);

/* Reads the options in `letters` (of "abdelmnsw"), runs fn, prints. */
int dump_run(const struct command *cmd, int argc, char **argv, const char *letters, uint8_t mode,
	     dump_fn fn);

#endif
