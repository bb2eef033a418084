// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * reflink: what `cp --reflink` does on other filesystems; the kernel's FUSE does not pass FICLONE
 * on, but copy_file_range(2), which shares what it can.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "tool.h"

static int failed(const char *path, const char *what)
{
	tool_error("%s: %s: %s", path, what, strerror(errno));
	return 1;
}

/* The size at the beginning: a source that grows is not followed for ever. */
static int copy(const char *name, int src, int dst, off_t size)
{
	off_t done = 0;

	while (done < size) {
		ssize_t n = copy_file_range(src, NULL, dst, NULL, (size_t)(size - done), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed(name, "cannot share");
		if (!n)
			break;
		done += n;
	}
	return 0;
}

/* What is there is emptied. */
static int fill(const char *to, int src, const struct stat *st, int dst)
{
	const char *why = NULL;
	struct stat st_to;

	if (fstat(dst, &st_to))
		return failed(to, "cannot be looked at");
	if (!S_ISREG(st_to.st_mode))
		why = "not a file";
	else if (st_to.st_dev != st->st_dev)
		why = "not on the same filesystem";
	else if (st_to.st_ino == st->st_ino)
		why = "is the source";
	if (why) {
		tool_error("%s: %s", to, why);
		return 1;
	}
	if (ftruncate(dst, 0))
		return failed(to, "cannot be emptied");
	return copy(to, src, dst, st->st_size);
}

static int reflink(const char *from, int src, const char *to)
{
	const int flags = O_WRONLY | O_CLOEXEC | O_NONBLOCK;
	bool made;
	struct stat st;
	int dst, ret;

	if (fstat(src, &st))
		return failed(from, "cannot be looked at");
	if (!S_ISREG(st.st_mode)) {
		tool_error("%s: not a file", from);
		return 1;
	}
	dst = open(to, flags | O_CREAT | O_EXCL, st.st_mode & 0777);
	made = dst >= 0;
	/* A link that leads nowhere is EEXIST, too. */
	if (!made && errno == EEXIST)
		dst = open(to, flags | O_CREAT, st.st_mode & 0777);
	if (dst < 0)
		return failed(to, "cannot be made");
	ret = fill(to, src, &st, dst);
	if (close(dst) && !ret)
		ret = failed(to, "close");
	if (ret && made)
		unlink(to);
	return ret;
}

static int run(const struct command *cmd, int argc, char **argv)
{
	int status, src, ret;

	if (!command_no_options(cmd, argc, argv, &status))
		return status;
	if (argc - optind != 2)
		return command_misuse(cmd);
	/* A fifo is not waited for. */
	src = open(argv[optind], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (src < 0)
		return failed(argv[optind], "cannot be opened");
	ret = reflink(argv[optind], src, argv[optind + 1]);
	close(src);
	return ret;
}

const struct command cmd_reflink = {
	.name = "reflink",
	.args = "SRC DST",
	.short_doc = "Make a file that shares its data with another",
	.run = run,
};
