// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "tool.h"
#include "unlock.h"

static const struct option long_opts[] = {
	TOOL_SECRET_LONG_OPTS,
	{0},
};

struct image {
	const char *path;
	int fd, error;
	uint64_t written;
};

/* The rest of it stays a hole. */
static int to_image(void *arg, uint64_t offset, const void *buf, size_t len)
{
	struct image *i = arg;
	size_t at = 0;

	while (at < len) {
		ssize_t n = pwrite(i->fd, (const char *)buf + at, len - at, (off_t)(offset + at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			i->error = n ? errno : EIO;
			return -1;
		}
		at += (size_t)n;
	}
	i->written += len;
	return 0;
}

static int dump(struct tool_unlock *u, struct bcfs_dump_opts *opts, struct image *i)
{
	char msg[TOOL_MSG_SIZE] = "";
	uint64_t size = 0;
	int ret;

	if (!tool_unlock(u))
		return 1;
	do {
		opts->secret = u->arg;
		*msg = 0;
		ret = bcfs_dump_image(u->path, opts, to_image, i, &size, msg, sizeof(msg));
	} while (ret && tool_unlock_again(u, ret));
	tool_unlock_end(u);
	if (!ret && ftruncate(i->fd, (off_t)size))
		i->error = errno;
	if (i->error)
		tool_error("%s: %s", i->path, strerror(i->error));
	else if (ret)
		tool_error("%s", *msg ? msg : bcfs_strerror(ret));
	return ret || i->error ? 1 : 0;
}

static int run(const struct command *cmd, int argc, char **argv)
{
	struct bcfs_dump_opts opts = {.struct_size = sizeof(opts), .wait_lock_ms = 30000};
	struct tool_unlock u = {0};
	struct image i = {0};
	int c, ret;

	while ((c = getopt_long(argc, argv, "hw:", long_opts, NULL)) != -1) {
		if (tool_secret_opt(&u.opts, c, optarg))
			continue;
		switch (c) {
		case 'w':
			ret = command_wait(optarg, &opts.wait_lock_ms);
			if (ret >= 0)
				return ret;
			break;
		case 'h':
			command_usage(cmd);
			return tool_flush() ? 0 : 1;
		default:
			return command_bad_option(cmd, argv, "hw:");
		}
	}
	if (argc - optind != 2)
		return command_misuse(cmd);
	u.path = argv[optind];
	i.path = argv[optind + 1];
	/* Never over something: it may be the device. */
	i.fd = open(i.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (i.fd < 0) {
		tool_error("%s: %s", i.path, strerror(errno));
		return 1;
	}
	ret = dump(&u, &opts, &i);
	if (close(i.fd) && !ret) {
		tool_error("%s: %s", i.path, strerror(errno));
		ret = 1;
	}
	if (ret)
		unlink(i.path);
	return ret;
}

const struct command cmd_dump_image = {
	.name = "dump image",
	.args = "DEVICE FILE",
	.short_doc = "A copy without the data of files, to be looked at elsewhere",
	.help = "  -w N       seconds to wait for a mount that is still closing (default: "
		"30)\n" DUMP_SECRET_HELP "\n"
		"FILE is new, sparse, and as long as the device. It has the names and attributes "
		"of all\n"
		"files, and the contents of small ones; of an encrypted filesystem they stay "
		"encrypted.\n",
	.run = run,
};
