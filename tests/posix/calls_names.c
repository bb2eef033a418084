// SPDX-License-Identifier: LGPL-2.1-or-later
/* link(2), symlink(2), readlink(2), unlink(2), mkdir(2), rmdir(2). */
#include "calls.h"

static char small[10];

/* ---- link ---- */

CASE("link: ok: two names, one file")
{
	watch("f");
	watch2("d");
	r(link("f", "d/g"));
	changed("f");
	changed2("d");
	show("f");
	show("d/g");
	put("d/g", "new", 0644);
	content("f");
}

ROW("link: EPERM: a directory", link("d", "new"))
ROW("link: EPERM: a directory with a slash behind", link("d/", "new"))
ROW("link: EEXIST: the new name is a directory", link("f", "d"))
ROW("link: EEXIST: the new name is the old one", link("f", "f"))
ROW("link: EXDEV: to another filesystem", link("f", "/dev/shm/bcfs-posix-none"))
ROW("link: EXDEV: from another filesystem", link("/proc/self/stat", "new"))
ROW("linkat: EINVAL: an unknown flag", linkat(AT_FDCWD, "f", AT_FDCWD, "new", 0x4000000))
ROW("linkat: EBADF: a bad descriptor", linkat(-1, "f", AT_FDCWD, "new", 0))
ROW("linkat: EBADF: a bad new descriptor", linkat(AT_FDCWD, "f", -1, "new", 0))
ROW("linkat: ENOENT: an empty path without AT_EMPTY_PATH", linkat(dir("d"), "", AT_FDCWD, "n", 0))
ROW("linkat: ENOTDIR: relative to a file", linkat(file("f", O_RDONLY), "x", AT_FDCWD, "n", 0))
ROW("linkat: EPERM: AT_EMPTY_PATH, a directory", linkat(dir("d"), "", AT_FDCWD, "n", AT_EMPTY_PATH))

CASE("link: ok: to a link itself")
{
	char buf[10];

	r(link("l", "new"));
	n(readlink("new", buf, sizeof(buf)));
	show("l");
	show("f");
}

CASE("linkat: ok: AT_SYMLINK_FOLLOW")
{
	r(linkat(AT_FDCWD, "l", AT_FDCWD, "new", AT_SYMLINK_FOLLOW));
	show("new");
	show("f");
}

CASE("linkat: ok: AT_EMPTY_PATH")
{
	r(linkat(file("f", O_PATH), "", AT_FDCWD, "new", AT_EMPTY_PATH));
	show("new");
}

CASE("linkat: ENOENT: AT_EMPTY_PATH, the file has no name any more")
{
	int fd = file("f", O_RDWR);

	MUST(!unlink("f"));
	r(linkat(fd, "", AT_FDCWD, "new", AT_EMPTY_PATH));
	show_fd(fd);
}

CASE("linkat: ENOENT: AT_EMPTY_PATH, as a user")
{
	int fd = file("f", O_RDWR);

	become(1000);
	r(linkat(fd, "", AT_FDCWD, "new", AT_EMPTY_PATH));
}

CASE("link: ok: a file of another that may be read and written")
{
	MUST(!chmod("f", 0666));
	become(1000);
	r(link("f", "new"));
}

CASE("link: ok: fifos, sockets and devices")
{
	MUST(!mknod("sock", S_IFSOCK | 0644, 0) && !mknod("dev", S_IFCHR | 0644, 0x103));
	r(link("p", "p2"));
	r(link("sock", "sock2"));
	r(link("dev", "dev2"));
	show("p2");
	show("sock2");
	show("dev2");
}

CASE("link: ok: 2,000 links, and back to one")
{
	char name[20];
	int i;

	for (i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "e/%d", i);
		MUST(!link("f", name));
	}
	show("f");
	for (i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "e/%d", i);
		MUST(!unlink(name));
	}
	show("f");
}

CASE_IN(PHASE_LINKS, "link: EMLINK: 65,001 links to a file")
{
	char name[20];
	int i;

	for (i = 1; i < 65001; i++) {
		snprintf(name, sizeof(name), "e/%d", i);
		if (link("f", name))
			break;
	}
	if (i < 65001)
		r(-1);
	show("f");
}

/* ---- symlink, readlink ---- */

CASE("symlink: ok: what stat says of it")
{
	watch("d");
	r(symlink("target", "d/s"));
	changed("d");
	show("d/s");
}

CASE("symlink: ok: a target of 4095 bytes")
{
	char buf[5000];

	r(symlink(path4095, "new"));
	n(readlink("new", buf, sizeof(buf)));
	say("%s", memcmp(buf, path4095, 4095) ? "other" : "same");
	show("new");
	r(open("new", O_RDONLY));
}

ROW("symlink: ENAMETOOLONG: a target of 4096 bytes", symlink(path4096, "new"))
ROW("symlink: ENOENT: an empty target", symlink("", "new"))
ROW("symlink: EFAULT: a target at a bad address", symlink(bad_ptr, "new"))
ROW("symlinkat: EBADF: a bad descriptor", symlinkat("f", -1, "new"))
ROW("symlinkat: ENOTDIR: relative to a file", symlinkat("f", file("f", O_RDONLY), "new"))

CASE("symlink: ok: targets of many lengths")
{
	char target[5000], buf[5000];
	int len, good = 0;

	for (len = 1; len <= 4095; len += len < 140 ? 1 : 137) {
		memset(target, 't', (size_t)len);
		target[len] = 0;
		unlink("new");
		good += !symlink(target, "new") && readlink("new", buf, sizeof(buf)) == len &&
			!memcmp(buf, target, (size_t)len);
	}
	n(good);
}

CASE("symlink: ok: a target of any bytes")
{
	char target[256], buf[300];
	int i;

	for (i = 0; i < 255; i++)
		target[i] = (char)(i + 1);
	target[255] = 0;
	r(symlink(target, "new"));
	n(readlink("new", buf, sizeof(buf)));
	say("%s", memcmp(buf, target, 255) ? "other" : "same");
}

ROW("readlink: EINVAL: a file", readlink("f", small, 10))
ROW("readlink: EINVAL: a directory", readlink("d", small, 10))
ROW("readlink: EINVAL: a buffer of size 0", readlink("l", small, 0))
ROW("readlink: EFAULT: a buffer at a bad address", readlink("l", bad_ptr, 10))
ROW("readlinkat: ENOENT: an empty path and no link", readlinkat(dir("d"), "", small, 10))
ROW("readlinkat: EBADF: a bad descriptor", readlinkat(-1, "l", small, 10))

CASE("readlink: ok: cut at the size of the buffer")
{
	char buf[10] = "";

	n(readlink("dang", buf, 2));
	say("%s", buf);
}

CASE("readlink: ok: changes no time but atime")
{
	char buf[10];

	watch("l");
	n(readlink("l", buf, sizeof(buf)));
	changed("l");
}

CASE("lchown: ok: the link, not the file")
{
	r(lchown("l", 1000, 1001));
	show("l");
	show("f");
}

CASE("chmod: EOPNOTSUPP: of a link itself")
{
	r(fchmodat(AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW));
	mode("l");
	mode("f");
}

/* ---- unlink ---- */

CASE("unlink: ok: times and links")
{
	MUST(!link("f", "d/g"));
	watch("d");
	watch2("f");
	r(unlink("d/g"));
	changed("d");
	changed2("f");
	show("f");
}

CASE("unlink: ok: an open file lives on")
{
	int fd = file("f", O_RDWR);

	r(unlink("f"));
	r(access("f", F_OK));
	n(pwrite(fd, "abc", 3, 10));
	content_fd(fd);
	show_fd(fd);
	r(fchmod(fd, 0600));
	r(ftruncate(fd, 2));
	show_fd(fd);
	put("f", "other", 0644);
	content_fd(fd);
	content("f");
}

ROW("unlink: EISDIR: a directory", unlink("d"))
ROW("unlink: EISDIR: an empty directory", unlink("e"))
ROW("unlink: ok: a link, not its target", unlink("l"))
ROW("unlink: ok: a fifo", unlink("p"))
ROW("unlinkat: EBADF: a bad descriptor", unlinkat(-1, "f", 0))
ROW("unlinkat: EINVAL: an unknown flag", unlinkat(AT_FDCWD, "f", 0x1000))
ROW("unlinkat: ok: AT_REMOVEDIR", unlinkat(AT_FDCWD, "e", AT_REMOVEDIR))
ROW("unlinkat: ENOTDIR: AT_REMOVEDIR, a file", unlinkat(AT_FDCWD, "f", AT_REMOVEDIR))
ROW("unlinkat: ENOTDIR: relative to a file", unlinkat(file("f", O_RDONLY), "x", 0))
USER_ROW("unlink: EACCES: in a directory of another", unlink("d/x"))

CASE("unlink: EPERM: in a sticky directory, a file of another")
{
	MUST(!chmod("d", 01777));
	become(1000);
	r(unlink("d/x"));
	r(rename("d/x", "d/y"));
	put("d/mine", "", 0644);
	r(rename("d/mine", "d/x"));
	r(unlink("d/mine"));
}

CASE("unlink: ok: in a sticky directory of one's own")
{
	MUST(!chmod("d", 01777) && !chown("d", 1000, 1000));
	become(1000);
	r(unlink("d/x"));
}

CASE("rmdir: EPERM: in a sticky directory, a directory of another")
{
	MUST(!chmod("d", 01777) && !mkdir("d/sub", 0777));
	become(1000);
	r(rmdir("d/sub"));
}

/* ---- mkdir, rmdir ---- */

CASE("mkdir: ok: mode, owner, links, times")
{
	umask(022);
	watch("d");
	r(mkdir("d/new", 0777));
	changed("d");
	show("d/new");
	show("d");
}

CASE("mkdir: ok: sticky and set-ID bits of the mode")
{
	umask(0);
	r(mkdir("new", 07777));
	show("new");
}

CASE("mkdir: ok: as a user")
{
	become(1000);
	umask(077);
	r(mkdir("new", 0777));
	show("new");
}

ROW("mkdir: EEXIST: a directory", mkdir("d", 0755))
ROW("mkdir: EEXIST: the root of the mount", mkdir(top_dir, 0755))
ROW("mkdirat: EBADF: a bad descriptor", mkdirat(-1, "new", 0755))
ROW("mkdirat: ENOTDIR: relative to a file", mkdirat(file("f", O_RDONLY), "new", 0755))
ROW("rmdir: ENOTEMPTY: a directory with a file", rmdir("d"))
ROW("rmdir: ok: an empty directory", rmdir("e"))

CASE("rmdir: EACCES: in a directory of another")
{
	MUST(!mkdir("d/sub", 0777));
	become(1000);
	r(rmdir("d/sub"));
}

CASE("rmdir: ok: links and times of the parent")
{
	MUST(!mkdir("d/sub", 0755));
	show("d");
	watch("d");
	r(rmdir("d/sub"));
	changed("d");
	show("d");
}

CASE("rmdir: ok: an open directory is empty then")
{
	int fd = dir("e");

	r(rmdir("e"));
	show_fd(fd);
	r(openat(fd, "new", O_CREAT | O_RDWR, 0644));
	r(openat(fd, ".", O_RDONLY));
	r(fchmod(fd, 0700));
}
