// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bcfs key rotate: a new master key for a mounted filesystem. The daemon gets what opens the slots
 * that are to stay, by an ioctl.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "command.h"
#include "key_mounted.h"
#include "passphrase.h"
#include "tool.h"

enum {
	OPT_DROP_OTHERS = 256,
};

/* clang-format off */
static const struct option long_opts[] = {
	TOOL_SECRET_LONG_OPTS,
	{"drop-others", no_argument, NULL, OPT_DROP_OTHERS},
	{"help", no_argument, NULL, 'h'},
	{0},
};
/* clang-format on */

/* One more behind the others. */
static bool add_secret(struct bcfs_ioc_key_rotate *r, const struct tool_secret_opts *o,
		       const char *what)
{
	struct tool_secret s = {0};
	bool ok = tool_secret_get(o, what, false, &s);

	if (!ok)
		return false;
	ok = key_pack(&s, r->data, &r->bytes, &r->nr);
	if (!ok)
		tool_error(
			"%s: all together have more than %u bytes, or are more than %u; a slot of "
			"a larger key file cannot be kept",
			what, BCFS_IOC_KEY_BYTES, BCFS_KEY_SECRETS_MAX);
	tool_secret_free(&s);
	return ok;
}

static const char *why(int error)
{
	switch (error) {
	case ENOTTY:
		return "not on a mounted bcfs filesystem";
	case EPERM:
		return geteuid() ? "only root and whose mount it is may; or a slot would be lost: "
				   "give what opens it, or --drop-others"
				 : "a slot would be lost: give what opens it, or --drop-others";
	case EKEYREJECTED:
		return "one of these opens no slot";
	case EBUSY:
		return "too many older keys are in use: wait until they are replaced";
	case ENOBUFS:
		return "it was replaced too often since the mount: unmount and mount it again "
		       "first";
	case EOVERFLOW:
		return "it was replaced so often that there are no more numbers for keys";
	case EAGAIN:
		return "the key slots were changed meanwhile: try again";
	case EINVAL:
		return "it is not encrypted";
	default:
		return strerror(error);
	}
}

static int rotate(const char *mnt, const struct bcfs_ioc_key_rotate *r)
{
	char device[PATH_MAX + 1];
	int fd = key_mounted_open(mnt, device, sizeof(device));
	int ret = 0;

	if (key_mounted_by_others(fd, mnt))
		return 1;
	if (fd < 0 || ioctl(fd, BCFS_IOC_KEY_ROTATE, r)) {
		int error = fd >= 0 || access(mnt, F_OK) ? errno : ENOTTY;

		tool_error("%s: cannot replace the master key: %s", mnt, why(error));
		ret = 1;
	}
	if (fd >= 0)
		close(fd);
	return ret;
}

/* Exit status, or -1: go on. */
static int parse(const struct command *cmd, struct bcfs_ioc_key_rotate *r, int argc, char **argv)
{
	char what[TOOL_MSG_SIZE];
	int c;

	while ((c = getopt_long(argc, argv, "h", long_opts, NULL)) != -1) {
		struct tool_secret_opts o = {0};

		if (tool_secret_opt(&o, c, optarg)) {
			snprintf(what, sizeof(what), "%s", optarg);
			if (!add_secret(r, &o, what))
				return 1;
			continue;
		}
		switch (c) {
		case OPT_DROP_OTHERS:
			r->drop_others = 1;
			break;
		case 'h':
			command_usage(cmd);
			return tool_flush() ? 0 : 1;
		default:
			return command_bad_option(cmd, argv, "h");
		}
	}
	if (argc - optind != 1)
		return command_misuse(cmd);
	if (r->nr)
		return -1;
	snprintf(what, sizeof(what), "passphrase for %s", argv[optind]);
	return add_secret(r, &(struct tool_secret_opts){0}, what) ? -1 : 1;
}

static int run(const struct command *cmd, int argc, char **argv)
{
	struct tool_secret mem = {0};
	int ret;

	if (!tool_secret_map(&mem, sizeof(struct bcfs_ioc_key_rotate)))
		return 1;
	ret = parse(cmd, (void *)mem.p, argc, argv);
	if (ret < 0)
		ret = rotate(argv[optind], (const void *)mem.p);
	tool_secret_free(&mem);
	return ret;
}

const struct command cmd_key_rotate = {
	.name = "key rotate",
	.args = "[OPTION...] MOUNTPOINT|DEVICE",
	.short_doc = "Another master key: all is written anew in the background",
	.help = "  --key-file PATH       what opens a slot that is to stay: its key file\n"
		"  --passphrase-fd N     or the line read from descriptor N\n"
		"  --drop-others         slots that nothing opens of these are removed\n"
		"\n"
		"The first two may be given several times. Without them it is the passphrase of\n"
		"BCFS_PASSPHRASE, or asked for. bcfs counters shows how many keys are in use.\n",
	.run = run,
};
