// SPDX-License-Identifier: LGPL-2.1-or-later
/* rename(2), renameat2(2). */
#include <linux/fs.h>

#include "calls.h"

static long rename2(const char *old, const char *new, unsigned int flags)
{
	return renameat2(AT_FDCWD, old, AT_FDCWD, new, flags);
}

CASE("rename: ok: times")
{
	MUST(!mkdir("d2", 0755));
	watch("f");
	watch2("d2");
	r(rename("f", "d2/f"));
	changed("d2/f");
	changed2("d2");
	content("d2/f");
}

CASE("rename: ok: over a file")
{
	int fd;

	put("g", "old", 0600);
	fd = file("g", O_RDONLY);
	r(rename("f", "g"));
	content("g");
	content_fd(fd);
	show_fd(fd);
	r(access("f", F_OK));
}

CASE("rename: ok: over another name of the same file does nothing")
{
	MUST(!link("f", "g"));
	watch("f");
	r(rename("f", "g"));
	changed("f");
	show("f");
	show("g");
}

CASE("rename: ok: to itself")
{
	watch(".");
	r(rename("f", "f"));
	changed(".");
	show("f");
}

CASE("rename: ok: a directory into another, links of both")
{
	MUST(!mkdir("d/sub", 0755) && !mkdir("d/sub/subsub", 0755));
	watch("d/sub");
	r(rename("d/sub", "e/sub"));
	changed("e/sub");
	show("d");
	show("e");
	r(access("e/sub/../sub/subsub", F_OK));
	r(rmdir("d/../e/sub/subsub"));
}

CASE("rename: ok: over an empty directory")
{
	int fd = dir("e");

	r(rename("d", "e"));
	show("e/x");
	show_fd(fd);
	show(".");
}

ROW("rename: ENOTEMPTY: over a directory with a file", rename("e", "d"))
ROW("rename: EISDIR: a file over a directory", rename("f", "e"))
ROW("rename: ENOTDIR: a directory over a file", rename("e", "f"))
ROW("rename: ENOTDIR: a directory over a link to a directory", rename("e", "dl"))
ROW("rename: EINVAL: a directory into itself", rename("d", "d/sub"))
ROW("rename: EINVAL: a directory deep into itself", mkdir("d/s", 0755) ?: rename("d", "d/s/t"))
ROW("rename: ENOTEMPTY: a directory over its parent", mkdir("d/s", 0755) ?: rename("d/s", "d"))
ROW("rename: EXDEV: to another filesystem", rename("f", "/dev/shm/bcfs-posix-none"))
ROW("rename: ok: a link over a file", rename("l", "f"))
ROW("rename: ok: a file over a fifo", rename("f", "p"))
ROW("rename: ok: a dangling link", rename("dang", "new"))
ROW("renameat: EBADF: a bad descriptor", renameat(-1, "f", AT_FDCWD, "g"))
ROW("renameat: EBADF: a bad new descriptor", renameat(AT_FDCWD, "f", -1, "g"))
ROW("renameat: ENOTDIR: relative to a file", renameat(file("f", O_RDONLY), "x", AT_FDCWD, "g"))
USER_ROW("rename: EACCES: out of a directory of another", rename("d/x", "new"))

CASE("rename: EACCES: a directory of another, its .. would change")
{
	MUST(!chmod("d", 0777) && !mkdir("d/sub", 0755) && !chmod("e", 0777));
	become(1000);
	r(rename("d/sub", "e/sub"));
	r(rename("d/sub", "d/sub2"));
}

CASE("rename: ok: a name of 255 bytes to another")
{
	char other[256];

	memset(other, 'o', 255);
	other[255] = 0;
	put(name255, "text", 0644);
	r(rename(name255, other));
	content(other);
	r(access(name255, F_OK));
}

CASE("rename: ok: an open file, and the offset goes on")
{
	int fd = file("f", O_RDWR);
	char buf[4] = "";

	MUST(read(fd, buf, 3) == 3);
	r(rename("f", "d/y"));
	n(read(fd, buf, 3));
	say("%s", buf);
	n(write(fd, "xyz", 3));
	content("d/y");
}

CASE("rename: ok: the current directory")
{
	char buf[PATH_MAX];

	MUST(!chdir("d"));
	r(rename("../d", "../new"));
	say("%s", strrchr(getcwd(buf, sizeof(buf)) ?: "/-", '/'));
	r(access("x", F_OK));
	r(access("../f", F_OK));
}

/* ---- flags ---- */

ROW("renameat2: EEXIST: NOREPLACE, the new name is there", rename2("f", "p", RENAME_NOREPLACE))
ROW("renameat2: EEXIST: NOREPLACE, a dangling link", rename2("f", "dang", RENAME_NOREPLACE))
ROW("renameat2: EEXIST: NOREPLACE, itself", rename2("f", "f", RENAME_NOREPLACE))
ROW("renameat2: ok: NOREPLACE", rename2("f", "new", RENAME_NOREPLACE))
ROW("renameat2: ok: NOREPLACE, a directory", rename2("d", "new", RENAME_NOREPLACE))
ROW("renameat2: ENOENT: NOREPLACE, no old name", rename2("none", "new", RENAME_NOREPLACE))
ROW("renameat2: ENOENT: EXCHANGE, no new name", rename2("f", "new", RENAME_EXCHANGE))
ROW("renameat2: ENOENT: EXCHANGE, no old name", rename2("none", "f", RENAME_EXCHANGE))
ROW("renameat2: EINVAL: EXCHANGE, a directory with what is in it",
    rename2("d", "d/x", RENAME_EXCHANGE))
ROW("renameat2: EINVAL: EXCHANGE, what is in it with a directory",
    rename2("d/x", "d", RENAME_EXCHANGE))
ROW("renameat2: EINVAL: NOREPLACE and EXCHANGE",
    rename2("f", "new", RENAME_NOREPLACE | RENAME_EXCHANGE))
ROW("renameat2: EINVAL: an unknown flag", rename2("f", "new", 8))
ROW("renameat2: EINVAL: WHITEOUT and EXCHANGE",
    rename2("f", "p", RENAME_WHITEOUT | RENAME_EXCHANGE))
ROW("renameat2: ok: EXCHANGE with itself", rename2("f", "f", RENAME_EXCHANGE))

CASE("renameat2: ok: EXCHANGE of two files")
{
	put("g", "other", 0600);
	watch("f");
	watch2("g");
	r(rename2("f", "g", RENAME_EXCHANGE));
	changed2("f");
	changed("g");
	content("f");
	content("g");
	mode("f");
}

CASE("renameat2: ok: EXCHANGE of a file and a directory, in two directories")
{
	MUST(!mkdir("d/sub", 0755));
	put("e/y", "text", 0644);
	watch("d");
	watch2("e");
	r(rename2("d/sub", "e/y", RENAME_EXCHANGE));
	changed("d");
	changed2("e");
	content("d/sub");
	show("e/y");
	show("d");
	show("e");
	r(rmdir("e/y/../y"));
}

CASE("renameat2: ok: EXCHANGE of two directories with files")
{
	put("e/y", "text", 0644);
	r(rename2("d", "e", RENAME_EXCHANGE));
	content("d/y");
	content("e/x");
	r(access("d/../e/x", F_OK));
}

CASE("renameat2: ok: EXCHANGE of a link and a file")
{
	char buf[10];

	r(rename2("l", "f", RENAME_EXCHANGE));
	n(readlink("f", buf, sizeof(buf)));
	show("l");
	r(open("f", O_RDONLY));
}

CASE("renameat2: ok: WHITEOUT leaves a device 0:0")
{
	struct stat st;

	r(rename2("f", "new", RENAME_WHITEOUT));
	show("new");
	if (lstat("f", &st))
		r(-1);
	else
		say("%o %lu", st.st_mode, (unsigned long)st.st_rdev);
}
