// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * collapse and insert: what fallocate(2) does with FALLOC_FL_COLLAPSE_RANGE and
 * FALLOC_FL_INSERT_RANGE on other filesystems; the kernel's FUSE does not pass these on. The size
 * is changed by ftruncate(2), so that the kernel knows it; only the data between by an ioctl.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bcfs/ioctl.h"
#include "command.h"
#include "tool.h"

static int failed(const char *path, const char *what)
{
	const char *why = strerror(errno);

	if (errno == ENOTTY)
		why = "not a file on a mounted bcfs filesystem";
	else if (errno == EINVAL)
		why = "offset and length have to be multiples of the block size, within the file";
	tool_error("%s: %s: %s", path, what, why);
	return 1;
}

static int shift(const char *path, int fd, const struct bcfs_ioc_shift *s)
{
	bool insert = s->mode == BCFS_FALLOC_INSERT_RANGE;
	const char *what = insert ? "cannot insert" : "cannot collapse";
	struct stat st;

	/* So that a write that fails fails here, and nothing has changed yet. */
	if (fsync(fd) || fstat(fd, &st))
		return failed(path, what);
	if (s->len > INT64_MAX - (uint64_t)st.st_size || s->offset >= (uint64_t)st.st_size ||
	    (!insert && s->len >= (uint64_t)st.st_size - s->offset)) {
		errno = EINVAL;
		return failed(path, what);
	}
	if (insert && ftruncate(fd, st.st_size + (off_t)s->len))
		return failed(path, what);
	if (ioctl(fd, BCFS_IOC_SHIFT, s)) {
		int error = errno;

		if (insert && ftruncate(fd, st.st_size))
			tool_error("%s: cannot be cut to its size before: %s", path,
				   strerror(errno));
		errno = error;
		return failed(path, what);
	}
	if (!insert && ftruncate(fd, st.st_size - (off_t)s->len))
		return failed(path, "collapsed, but cannot be cut");
	return 0;
}

static int run(const struct command *cmd, int argc, char **argv, uint32_t mode)
{
	struct bcfs_ioc_shift s = {.mode = mode};
	int status, fd, ret;

	if (!command_no_options(cmd, argc, argv, &status))
		return status;
	if (argc - optind != 3)
		return command_misuse(cmd);
	if (!tool_parse_size(argv[optind + 1], &s.offset)) {
		tool_error("%s: not an offset (such as 64K)", argv[optind + 1]);
		return EXIT_USAGE;
	}
	if (!tool_parse_size(argv[optind + 2], &s.len) || !s.len) {
		tool_error("%s: not a length (such as 64K)", argv[optind + 2]);
		return EXIT_USAGE;
	}
	fd = open(argv[optind], O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		tool_error("%s: %s", argv[optind], strerror(errno));
		return 1;
	}
	ret = shift(argv[optind], fd, &s);
	if (close(fd) && !ret)
		ret = failed(argv[optind], "close");
	return ret;
}

static int run_collapse(const struct command *cmd, int argc, char **argv)
{
	return run(cmd, argc, argv, BCFS_FALLOC_COLLAPSE_RANGE);
}

static int run_insert(const struct command *cmd, int argc, char **argv)
{
	return run(cmd, argc, argv, BCFS_FALLOC_INSERT_RANGE);
}

const struct command cmd_collapse = {
	.name = "collapse",
	.args = "FILE OFFSET LENGTH",
	.short_doc = "Take a range out of a file: what is behind it moves down",
	.run = run_collapse,
};

const struct command cmd_insert = {
	.name = "insert",
	.args = "FILE OFFSET LENGTH",
	.short_doc = "Put a hole into a file: what is behind it moves up",
	.run = run_insert,
};
