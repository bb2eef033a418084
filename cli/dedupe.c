// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * dedupe: what the ioctl FIDEDUPERANGE does on other filesystems; the kernel's FUSE does not pass
 * it on. The daemon compares, with both files locked.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
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
		why = "offsets have to be multiples of the block size, and ranges not to overlap";
	tool_error("%s: %s: %s", path, what, why);
	return 1;
}

static int dedupe(char **argv, int src, int dst, struct bcfs_ioc_dedupe *d)
{
	struct stat st, st_dst;

	if (fstat(src, &st))
		return failed(argv[0], "cannot be looked at");
	if (fstat(dst, &st_dst))
		return failed(argv[2], "cannot be looked at");
	if (!S_ISREG(st.st_mode) || !S_ISREG(st_dst.st_mode)) {
		tool_error("%s: not a file", argv[S_ISREG(st.st_mode) ? 2 : 0]);
		return 1;
	}
	/* What is dirty in the cache is not there to be compared. */
	if (fsync(src))
		return failed(argv[0], "cannot be written");
	if (fsync(dst))
		return failed(argv[2], "cannot be written");
	if (st.st_dev != st_dst.st_dev) {
		tool_error("%s: not on the same filesystem", argv[2]);
		return 1;
	}
	d->src = st.st_ino;
	if (ioctl(dst, BCFS_IOC_DEDUPE, d))
		return failed(argv[2], "cannot share");
	printf("%llu bytes are shared\n", (unsigned long long)d->len);
	return tool_flush() ? 0 : 1;
}

static int run(const struct command *cmd, int argc, char **argv)
{
	struct bcfs_ioc_dedupe d = {0};
	int status, src, dst, ret;

	if (!command_no_options(cmd, argc, argv, &status))
		return status;
	argv += optind;
	if (argc - optind != 5)
		return command_misuse(cmd);
	for (int i = 1; i < 5; i += i == 1 ? 2 : 1) {
		if (!tool_parse_size(argv[i], i == 1   ? &d.src_offset
					      : i == 3 ? &d.offset
						       : &d.len)) {
			tool_error("%s: not a number of bytes (such as 64K)", argv[i]);
			return EXIT_USAGE;
		}
	}
	/* A fifo is not waited for. */
	src = open(argv[0], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (src < 0)
		return failed(argv[0], "cannot be opened");
	dst = open(argv[2], O_RDWR | O_CLOEXEC | O_NONBLOCK);
	ret = dst < 0 ? failed(argv[2], "cannot be opened") : dedupe(argv, src, dst, &d);
	if (dst >= 0)
		close(dst);
	close(src);
	return ret;
}

const struct command cmd_dedupe = {
	.name = "dedupe",
	.args = "SRC OFFSET DST OFFSET LENGTH",
	.short_doc = "Let ranges of two files with the same bytes share them",
	.run = run,
};
