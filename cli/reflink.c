// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * reflink: what `cp --reflink` does on other filesystems; the kernel's FUSE does not pass FICLONE
 * on, but copy_file_range(2), which shares what it can.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
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

static int reflink(const char *from, int src, const char *to)
{
	struct stat st, st_to;
	int dst, ret;

	if (fstat(src, &st))
		return failed(from, "cannot be looked at");
	if (!S_ISREG(st.st_mode)) {
		tool_error("%s: not a file", from);
		return 1;
	}
	dst = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, st.st_mode & 0777);
	if (dst < 0)
		return failed(to, "cannot be made");
	ret = fstat(dst, &st_to) ? failed(to, "cannot be looked at") : 0;
	if (!ret && (st_to.st_dev != st.st_dev || st_to.st_ino == st.st_ino)) {
		tool_error("%s: %s", to,
			   st_to.st_dev != st.st_dev ? "not on the same filesystem"
						     : "is the source");
		ret = 1;
	}
	if (!ret && ftruncate(dst, 0))
		ret = failed(to, "cannot be emptied");
	if (!ret)
		ret = copy(to, src, dst, st.st_size);
	if (close(dst) && !ret)
		ret = failed(to, "close");
	return ret;
}

static int run(const struct command *cmd, int argc, char **argv)
{
	int status, src, ret;

	if (!command_no_options(cmd, argc, argv, &status))
		return status;
	if (argc - optind != 2)
		return command_misuse(cmd);
	src = open(argv[optind], O_RDONLY | O_CLOEXEC);
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
