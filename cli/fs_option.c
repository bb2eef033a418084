// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Options of a filesystem, which its superblock has. They are changed there if it is not mounted,
 * and by the daemon if it is.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bcfs/ioctl.h"
#include "command.h"
#include "key_mounted.h"
#include "tool.h"
#include "unlock.h"

static const char letters[] = "hw:";

/* clang-format off */
static const struct option long_opts[] = {
	TOOL_SECRET_LONG_OPTS,
	{"help", no_argument, NULL, 'h'},
	{0},
};
/* clang-format on */

static const char *why(int error)
{
	switch (error) {
	case ENOTTY:
		return "not on a mounted bcfs filesystem, or its daemon is of an older version";
	case EPERM:
		return "only root may";
	case EROFS:
		return "it is mounted read-only";
	case EBUSY:
		return "a remount or another such change is under way";
	default:
		return strerror(error);
	}
}

static bool by_others(int fd, const char *path)
{
	if (fd == KEY_MOUNTED_BY_OTHERS)
		tool_error("%s: another user has mounted it, whose daemon is not asked: unmount it "
			   "first",
			   path);
	return fd == KEY_MOUNTED_BY_OTHERS;
}

/* ---- set ---- */

struct set_args {
	struct bcfs_key_opts opts;
	struct tool_unlock unlock;
	const char *path;
	struct bcfs_ioc_fs_options to; /* lines NAME=VALUE */
};

/* Exit status, or -1: go on. */
static int take_values(struct set_args *a, int nr, char **values)
{
	char msg[TOOL_MSG_SIZE] = "";
	size_t len = 0;
	int i;

	for (i = 0; i < nr; i++) {
		if (strchr(values[i], '\n')) {
			tool_error("a value has no line breaks");
			return EXIT_USAGE;
		}
		if (len + strlen(values[i]) + 2 > sizeof(a->to.text)) {
			tool_error("that is too long");
			return EXIT_USAGE;
		}
		len += (size_t)snprintf(a->to.text + len, sizeof(a->to.text) - len, "%s\n",
					values[i]);
	}
	if (!bcfs_fs_options_check(a->to.text, msg, sizeof(msg)))
		return -1;
	tool_error("%s", msg);
	return EXIT_USAGE;
}

/* The same. */
static int parse_set(const struct command *cmd, struct set_args *a, int argc, char **argv)
{
	int c, ret;

	while ((c = getopt_long(argc, argv, letters, long_opts, NULL)) != -1) {
		if (tool_secret_opt(&a->unlock.opts, c, optarg))
			continue;
		switch (c) {
		case 'w':
			ret = command_wait(optarg, &a->opts.wait_lock_ms);
			if (ret >= 0)
				return ret;
			break;
		case 'h':
			command_usage(cmd);
			return tool_flush() ? 0 : 1;
		default:
			return command_bad_option(cmd, argv, letters);
		}
	}
	if (argc - optind < 2)
		return command_misuse(cmd);
	a->path = a->unlock.path = argv[optind];
	return take_values(a, argc - optind - 1, argv + optind + 1);
}

static int set_mounted(struct set_args *a, int fd)
{
	int ret = ioctl(fd, BCFS_IOC_SET_FS_OPTIONS, &a->to), error = errno;

	close(fd);
	if (!ret)
		return 0;
	if (ret > 0)
		tool_error("%s", a->to.text);
	else
		tool_error("%s: %s", a->path, why(error));
	return 1;
}

static int set_on_device(struct set_args *a)
{
	char msg[TOOL_MSG_SIZE] = "";
	int ret;

	if (!tool_unlock(&a->unlock))
		return 1;
	do {
		a->opts.secret = a->unlock.arg;
		*msg = 0;
		ret = bcfs_fs_options_set(a->path, &a->opts, a->to.text, msg, sizeof(msg));
	} while (ret && tool_unlock_again(&a->unlock, ret));
	tool_unlock_end(&a->unlock);
	if (ret)
		tool_error("%s", *msg ? msg : bcfs_strerror(ret));
	return ret ? 1 : 0;
}

static int run_set(const struct command *cmd, int argc, char **argv)
{
	struct set_args a = {.opts = {.struct_size = sizeof(a.opts), .wait_lock_ms = 30000}};
	int ret = parse_set(cmd, &a, argc, argv), fd;

	if (ret >= 0)
		return ret;
	fd = key_mounted_open_dir(a.path);
	if (by_others(fd, a.path))
		return 1;
	if (fd < 0)
		fd = key_mounted_open_device(a.path);
	return fd < 0 ? set_on_device(&a) : set_mounted(&a, fd);
}

/* ---- get ---- */

static void add_text(void *arg, const char *text)
{
	struct bcfs_ioc_fs_options *to = arg;
	size_t len = strlen(to->text);

	snprintf(to->text + len, sizeof(to->text) - len, "%s", text);
}

static bool get_mounted(int fd, const char *path, struct bcfs_ioc_fs_options *ret)
{
	bool ok = !ioctl(fd, BCFS_IOC_GET_FS_OPTIONS, ret);

	if (!ok)
		tool_error("%s: %s", path, why(errno));
	close(fd);
	ret->text[sizeof(ret->text) - 1] = 0;
	return ok;
}

static bool get_from_device(const char *path, struct bcfs_ioc_fs_options *ret)
{
	char msg[TOOL_MSG_SIZE] = "";
	int err = bcfs_fs_options_read(path, add_text, ret, msg, sizeof(msg));

	if (err)
		tool_error("%s", *msg ? msg : bcfs_strerror(err));
	return !err;
}

static bool is_name(const char *line, const char *name)
{
	size_t len = strcspn(line, "="), i;

	for (i = 0; i < len && name[i]; i++)
		if (line[i] != name[i] && !(line[i] == '-' && name[i] == '_'))
			return false;
	return i == len && !name[i];
}

/* name: NULL: all. False: there is none such. */
static bool print(const char *text, const char *name)
{
	bool found = false;
	size_t len;

	for (; *text; text += len) {
		len = strcspn(text, "\n");
		len += text[len] == '\n';
		if (name && !is_name(text, name))
			continue;
		found = true;
		printf("%.*s", (int)len, text);
	}
	return found || !name;
}

/* By the words of the list itself. */
static int no_such_name(const char *name)
{
	char msg[TOOL_MSG_SIZE] = "", text[TOOL_MSG_SIZE];

	snprintf(text, sizeof(text), "%.*s=", TOOL_MSG_SIZE / 4, name);
	bcfs_fs_options_check(text, msg, sizeof(msg));
	tool_error("%s", msg);
	return EXIT_USAGE;
}

static int run_get(const struct command *cmd, int argc, char **argv)
{
	struct bcfs_ioc_fs_options text = {0};
	const char *path, *name;
	int status, fd;
	bool ok;

	if (!command_no_options(cmd, argc, argv, &status))
		return status;
	if (argc - optind < 1 || argc - optind > 2)
		return command_misuse(cmd);
	path = argv[optind];
	name = argv[optind + 1];
	/* The superblock of a device can be read, mounted or not. */
	fd = key_mounted_open_dir(path);
	if (by_others(fd, path))
		return 1;
	ok = fd < 0 ? get_from_device(path, &text) : get_mounted(fd, path, &text);
	if (!ok)
		return 1;
	if (!print(text.text, name))
		return no_such_name(name);
	return tool_flush() ? 0 : 1;
}

const struct command cmd_set_fs_option = {
	.name = "set-fs-option",
	.args = "[OPTION...] DEVICE|DIRECTORY NAME=VALUE...",
	.short_doc = "Change what mkfs.bcfs has chosen for a filesystem, mounted or not",
	.help = "  data-checksum=TYPE                   none, crc32c, crc64, xxh3, blake2b\n"
		"  metadata-checksum=TYPE               the same but none\n"
		"  compression=TYPE[:LEVEL]             none, zstd (-50 to 19), lz4 (1 to 12)\n"
		"  background-compression=TYPE[:LEVEL]  the same, of what becomes of it later\n"
		"  errors=MODE                          what mounts do about damage: ro,\n"
		"                                       continue, panic\n"
		"  label=TEXT                           up to 32 bytes, or nothing\n"
		"\n"
		"What is there already stays as it is. An option of a mount goes before these.\n"
		"\n"
		"  --key-file PATH       of an encrypted filesystem that is not mounted: its key "
		"file\n"
		"  --passphrase-fd N     or a passphrase: the line read from descriptor N; "
		"otherwise\n"
		"                        that of BCFS_PASSPHRASE, or asked for\n"
		"  -w N                  seconds to wait for a mount that is still closing "
		"(default: "
		"30)\n",
	.run = run_set,
};

const struct command cmd_get_fs_option = {
	.name = "get-fs-option",
	.args = "DEVICE|DIRECTORY [NAME]",
	.short_doc = "Print what the filesystem has, as mkfs.bcfs or set-fs-option chose it",
	.run = run_get,
};
