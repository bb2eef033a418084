// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bcfs key: the slots of an encrypted filesystem, each opened by a passphrase or a key file of its
 * own. Only the superblock is written: by the daemon, if it is mounted.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "key_mounted.h"
#include "tool.h"
#include "unlock.h"

enum {
	OPT_NEW_KEY_FILE = 256,
	OPT_NEW_PASSPHRASE_FD,
	OPT_KDF_PASSES,
	OPT_KDF_MEMORY,
};

static const char letters[] = "hw:";

/* clang-format off */
static const struct option long_opts[] = {
	TOOL_SECRET_LONG_OPTS,
	{"new-key-file", required_argument, NULL, OPT_NEW_KEY_FILE},
	{"new-passphrase-fd", required_argument, NULL, OPT_NEW_PASSPHRASE_FD},
	{"kdf-passes", required_argument, NULL, OPT_KDF_PASSES},
	{"kdf-memory", required_argument, NULL, OPT_KDF_MEMORY},
	{"help", no_argument, NULL, 'h'},
	{0},
};
/* clang-format on */

#define HELP_OPEN                                                                                  \
	"  --key-file PATH       open it by this key file\n"                                       \
	"  --passphrase-fd N     open it by the line read from descriptor N\n"                     \
	"  -w N                  seconds to wait for a mount that is still closing (default: "     \
	"30)\n"
#define HELP_WAYS "\nWithout one of these the passphrase is that of BCFS_PASSPHRASE, or asked for. "

struct key_args {
	struct bcfs_key_opts key;
	struct tool_unlock unlock;	/* by what it opens */
	struct tool_secret_opts wanted; /* what is to open it from now on */
	struct tool_secret new;
	struct bcfs_secret new_for_lib;
	bool writes_secret; /* the command has a new one */
	const char *path;
	int fd; /* of the root where it is mounted; -1: it is not */
	char device[PATH_MAX + 1];
	uint32_t slot;
};

/* -1: understood. */
static int take_option(const struct command *cmd, struct key_args *a, int c, char **argv)
{
	uint64_t nr;

	if (tool_secret_opt(&a->unlock.opts, c, optarg))
		return -1;
	switch (c) {
	case 'w':
		return command_wait(optarg, &a->key.wait_lock_ms);
	case 'h':
		command_usage(cmd);
		return tool_flush() ? 0 : 1;
	default:
		break;
	}
	if (!a->writes_secret)
		return command_bad_option(cmd, argv, letters);
	switch (c) {
	case OPT_NEW_KEY_FILE:
		a->wanted.key_file = optarg;
		return -1;
	case OPT_NEW_PASSPHRASE_FD:
		a->wanted.passphrase_fd = optarg;
		return -1;
	case OPT_KDF_PASSES:
		if (tool_parse_uint(optarg, UINT32_MAX, &nr) && nr) {
			a->key.kdf_passes = (uint32_t)nr;
			return -1;
		}
		tool_error("--kdf-passes %s: not a number of passes", optarg);
		return EXIT_USAGE;
	case OPT_KDF_MEMORY:
		if (tool_parse_size(optarg, &a->key.kdf_bytes) && a->key.kdf_bytes)
			return -1;
		tool_error("--kdf-memory %s: not a size (such as 256M)", optarg);
		return EXIT_USAGE;
	default:
		return command_bad_option(cmd, argv, letters);
	}
}

/* Options, then DEVICE and, if it may be there, SLOT. Exit status, or -1: go on. */
static int parse(const struct command *cmd, struct key_args *a, int argc, char **argv,
		 int slots_min, int slots_max)
{
	uint64_t nr;
	int c, ret;

	while ((c = getopt_long(argc, argv, letters, long_opts, NULL)) != -1) {
		ret = take_option(cmd, a, c, argv);
		if (ret >= 0)
			return ret;
	}
	if (argc - optind < 1 + slots_min || argc - optind > 1 + slots_max)
		return command_misuse(cmd);
	a->path = a->unlock.path = argv[optind];
	if (argc - optind == 1)
		return -1;
	if (!tool_parse_uint(argv[optind + 1], BCFS_KEY_SLOTS_MAX - 1, &nr)) {
		tool_error("%s: not the number of a slot: see bcfs key list", argv[optind + 1]);
		return EXIT_USAGE;
	}
	a->slot = (uint32_t)nr;
	return -1;
}

/* That of a mounted filesystem, which this process may not be able to look at. */
static bool unlock_mounted(struct key_args *a)
{
	struct bcfs_info info;

	if (!bcfs_probe(a->device, &info, NULL, 0) && !info.encrypted) {
		tool_error("%s: the filesystem is not encrypted", a->path);
		return false;
	}
	a->unlock.encrypted = true;
	return tool_unlock(&a->unlock);
}

/* The filesystem's own secret first, then the new one. */
static bool get_secrets(struct key_args *a)
{
	char what[TOOL_MSG_SIZE];

	if (!(a->fd < 0 ? tool_unlock(&a->unlock) : unlock_mounted(a)))
		return false;
	if (!a->writes_secret)
		return true;
	snprintf(what, sizeof(what), "new passphrase for %s", a->path);
	return tool_secret_get(&a->wanted, what, true, &a->new);
}

typedef int (*key_fn)(struct key_args *a, char *msg, size_t size);

static int run_with(const struct command *cmd, struct key_args *a, int argc, char **argv,
		    int slots_min, int slots_max, key_fn fn)
{
	char msg[TOOL_MSG_SIZE] = "";
	int ret;

	a->key.struct_size = sizeof(a->key);
	a->key.wait_lock_ms = 30000;
	a->slot = BCFS_KEY_SLOT_OPENED;
	a->wanted.env = "BCFS_NEW_PASSPHRASE";
	a->wanted.new_one = true;
	ret = parse(cmd, a, argc, argv, slots_min, slots_max);
	if (ret >= 0)
		return ret;
	ret = -1;
	a->fd = key_mounted_open(a->path, a->device, sizeof(a->device));
	if (!key_mounted_by_others(a->fd, a->path) && get_secrets(a)) {
		do {
			a->key.secret = a->unlock.arg;
			*msg = 0;
			ret = fn(a, msg, sizeof(msg));
		} while (ret && tool_unlock_again(&a->unlock, ret));
		if (ret && a->fd >= 0)
			tool_error("%s: %s", a->path, msg);
		else if (ret)
			tool_error("%s", *msg ? msg : bcfs_strerror(ret));
	}
	if (a->fd >= 0)
		close(a->fd);
	tool_unlock_end(&a->unlock);
	tool_secret_free(&a->new);
	return ret || !tool_flush() ? 1 : 0;
}

/* ---- list ---- */

static int list(struct key_args *a, char *msg, size_t size)
{
	struct bcfs_key_slot slots[BCFS_KEY_SLOTS_MAX];
	uint32_t nr;
	int ret = bcfs_key_list(a->fd < 0 ? a->path : a->device, slots, BCFS_KEY_SLOTS_MAX, &nr,
				msg, size);

	for (uint32_t i = 0; !ret && i < nr; i++) {
		char text[64];

		if (slots[i].type == BCFS_SECRET_KEY_FILE)
			printf("slot %u: key file\n", slots[i].slot);
		else
			printf("slot %u: passphrase, Argon2id, %u passes over %s\n", slots[i].slot,
			       slots[i].kdf_passes,
			       tool_size_text(slots[i].kdf_bytes, text, sizeof(text)));
	}
	return ret;
}

static int run_list(const struct command *cmd, int argc, char **argv)
{
	char msg[TOOL_MSG_SIZE] = "";
	struct key_args a = {0};
	int status, ret;

	if (!command_no_options(cmd, argc, argv, &status))
		return status;
	if (argc - optind != 1)
		return command_misuse(cmd);
	a.path = argv[optind];
	a.fd = key_mounted_open(a.path, a.device, sizeof(a.device));
	if (key_mounted_by_others(a.fd, a.path))
		return 1;
	ret = list(&a, msg, sizeof(msg));
	if (a.fd >= 0)
		close(a.fd);
	if (ret)
		tool_error("%s", *msg ? msg : bcfs_strerror(ret));
	return ret || !tool_flush() ? 1 : 0;
}

/* ---- add, remove, change ---- */

/* secret: NULL to remove. */
static int apply(struct key_args *a, enum bcfs_key_op op, const struct tool_secret *secret,
		 char *msg, size_t size)
{
	const struct bcfs_ioc_key_slot head = {
		.op = op, .kdf_passes = a->key.kdf_passes, .kdf_bytes = a->key.kdf_bytes};
	const struct bcfs_secret *new_one =
		secret ? tool_secret_arg(secret, &a->new_for_lib) : NULL;

	if (a->fd >= 0)
		return key_mounted_apply(a->fd, head, &a->unlock.secret, secret, &a->slot, msg,
					 size);
	switch (op) {
	case BCFS_KEY_ADD:
		return bcfs_key_add(a->path, &a->key, new_one, &a->slot, msg, size);
	case BCFS_KEY_REMOVE:
		return bcfs_key_remove(a->path, &a->key, a->slot, msg, size);
	case BCFS_KEY_CHANGE:
		return bcfs_key_change(a->path, &a->key, &a->slot, new_one, msg, size);
	}
	return -EINVAL;
}

static int make(struct key_args *a, enum bcfs_key_op op, char *msg, size_t size)
{
	int ret = apply(a, op, &a->new, msg, size);

	if (ret)
		return ret;
	printf("slot %u\n", a->slot);
	tool_key_file_notice(&a->new);
	return 0;
}

static int add(struct key_args *a, char *msg, size_t size)
{
	return make(a, BCFS_KEY_ADD, msg, size);
}

static int remove_slot(struct key_args *a, char *msg, size_t size)
{
	return apply(a, BCFS_KEY_REMOVE, NULL, msg, size);
}

static int change(struct key_args *a, char *msg, size_t size)
{
	return make(a, BCFS_KEY_CHANGE, msg, size);
}

static int run_add(const struct command *cmd, int argc, char **argv)
{
	struct key_args a = {.writes_secret = true};

	return run_with(cmd, &a, argc, argv, 0, 0, add);
}

static int run_remove(const struct command *cmd, int argc, char **argv)
{
	struct key_args a = {0};

	return run_with(cmd, &a, argc, argv, 1, 1, remove_slot);
}

static int run_change(const struct command *cmd, int argc, char **argv)
{
	struct key_args a = {.writes_secret = true};

	return run_with(cmd, &a, argc, argv, 0, 1, change);
}

#define HELP_NEW                                                                                   \
	"  --new-key-file PATH   what is to open it: a key file of 32 random bytes or more\n"      \
	"  --new-passphrase-fd N or the line read from descriptor N\n"                             \
	"  --kdf-passes N        what a guess at a new passphrase costs: passes (default: 3)\n"    \
	"  --kdf-memory SIZE     over so much memory (default: 256M)\n"
#define HELP_NEW_WAYS "The new\none is that of BCFS_NEW_PASSPHRASE, or asked for.\n"

const struct command cmd_key_list = {
	.name = "key list",
	.args = "DEVICE|MOUNTPOINT",
	.short_doc = "What opens an encrypted filesystem: its slots",
	.run = run_list,
};

const struct command cmd_key_add = {
	.name = "key add",
	.args = "[OPTION...] DEVICE|MOUNTPOINT",
	.short_doc = "Let one more passphrase or key file open it",
	.help = HELP_OPEN HELP_NEW HELP_WAYS HELP_NEW_WAYS,
	.run = run_add,
};

const struct command cmd_key_remove = {
	.name = "key remove",
	.args = "[OPTION...] DEVICE|MOUNTPOINT SLOT",
	.short_doc = "Take a slot away: what has opened it does not any more",
	.help = HELP_OPEN HELP_WAYS "The\nlast slot stays.\n",
	.run = run_remove,
};

const struct command cmd_key_change = {
	.name = "key change",
	.args = "[OPTION...] DEVICE|MOUNTPOINT [SLOT]",
	.short_doc = "Another passphrase or key file in the place of one",
	.help = HELP_OPEN HELP_NEW HELP_WAYS HELP_NEW_WAYS
	"Without SLOT: that which the passphrase or key file opens.\n",
	.run = run_change,
};
