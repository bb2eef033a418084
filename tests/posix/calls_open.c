// SPDX-License-Identifier: LGPL-2.1-or-later
/* open(2), openat(2), openat2(2), creat(2), mknod(2), and what the flags of open do. */
#include <linux/openat2.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "calls.h"

#define SIXTEEN_K 16384

ROW("open: ok: O_RDWR", open("f", O_RDWR))
ROW("open: ok: through a link", open("l", O_RDWR))
ROW("open: ok: a directory", open("d", O_RDONLY))
ROW("open: EISDIR: a directory, O_WRONLY", open("d", O_WRONLY))
ROW("open: EISDIR: a directory, O_RDWR", open("d", O_RDWR))
ROW("open: EISDIR: a directory, O_CREAT", open("d", O_CREAT | O_RDONLY, 0644))
ROW("open: EISDIR: a directory, O_TRUNC", open("d", O_TRUNC | O_RDONLY))
ROW("open: EINVAL: O_CREAT with O_DIRECTORY", open("new", O_CREAT | O_DIRECTORY, 0644))
ROW("open: EEXIST: O_EXCL, a file", open("f", O_CREAT | O_EXCL, 0644))
ROW("open: EEXIST: O_EXCL, a directory", open("d", O_CREAT | O_EXCL, 0644))
ROW("open: EEXIST: O_EXCL, a link", open("l", O_CREAT | O_EXCL, 0644))
ROW("open: EEXIST: O_EXCL, a dangling link", open("dang", O_CREAT | O_EXCL, 0644))
ROW("open: EEXIST: O_EXCL, a fifo", open("p", O_CREAT | O_EXCL, 0644))
ROW("open: ELOOP: O_NOFOLLOW, a link", open("l", O_RDONLY | O_NOFOLLOW))
ROW("open: ELOOP: O_NOFOLLOW and O_CREAT, a link", open("l", O_RDWR | O_CREAT | O_NOFOLLOW, 0644))
ROW("open: ENOTDIR: O_NOFOLLOW and O_DIRECTORY, a link", open("dl", O_DIRECTORY | O_NOFOLLOW))
ROW("open: ok: O_NOFOLLOW, a file", open("f", O_RDONLY | O_NOFOLLOW))
ROW("open: ENOTDIR: O_DIRECTORY, a file", open("f", O_RDONLY | O_DIRECTORY))
ROW("open: ok: O_DIRECTORY, a link to a directory", open("dl", O_RDONLY | O_DIRECTORY))
ROW("open: ENXIO: a fifo without a reader, O_NONBLOCK", open("p", O_WRONLY | O_NONBLOCK))
ROW("open: ok: a fifo to read, O_NONBLOCK", open("p", O_RDONLY | O_NONBLOCK))
ROW("open: EBADF: a bad directory descriptor", openat(-1, "f", O_RDONLY))
ROW("open: ok: O_SYNC", open("f", O_RDWR | O_SYNC))
ROW("open: ok: O_DSYNC", open("f", O_RDWR | O_DSYNC))
ROW("open: ok: O_NOATIME as the owner", open("f", O_RDONLY | O_NOATIME))
ROW("open: ok: O_DIRECT", open("f", O_RDWR | O_DIRECT))
ROW("open: ok: O_ASYNC", open("f", O_RDWR | O_ASYNC))
USER_ROW("open: EPERM: O_NOATIME, not the owner", open("f", O_RDONLY | O_NOATIME))
USER_ROW("open: EACCES: to write a file of another", open("f", O_WRONLY))
USER_ROW("open: EACCES: to write and read a file of another", open("f", O_RDWR))
USER_ROW("open: EACCES: to empty a file of another", open("f", O_RDONLY | O_TRUNC))
USER_ROW("open: ok: to read a file of another", open("f", O_RDONLY))
USER_ROW("open: EACCES: to make a file in a directory of another", open("d/n", O_CREAT, 0644))
USER_ROW("open: ok: O_CREAT, the file is there", open("d/x", O_CREAT | O_RDONLY, 0644))

CASE("open: EACCES: to read, mode 0200")
{
	MUST(!chmod("f", 0200) && !chown("f", 1000, 1000));
	become(1000);
	r(open("f", O_RDONLY));
	r(open("f", O_WRONLY));
}

CASE("open: ok: to read and write, mode 0, as root")
{
	MUST(!chmod("f", 0));
	r(open("f", O_RDWR));
}

CASE("open: ENOTDIR: relative to a file")
{
	r(openat(file("f", O_RDONLY), "x", O_RDONLY));
}

CASE("open: ok: relative to a directory")
{
	r(openat(dir("d"), "x", O_RDONLY));
}

CASE("open: ENXIO: a device without a driver")
{
	MUST(!mknod("dev", S_IFCHR | 0644, makedev(511, 77)));
	r(open("dev", O_RDONLY));
}

CASE("open: ok: a device with a driver")
{
	MUST(!mknod("dev", S_IFCHR | 0644, makedev(1, 3)));
	r(open("dev", O_RDWR));
}

CASE("open: ENXIO: a socket")
{
	MUST(!mknod("sock", S_IFSOCK | 0644, 0));
	r(open("sock", O_RDWR));
}

CASE("execve: ETXTBSY: a program open to write")
{
	char *argv[] = {"prog", NULL};
	int fd;

	put("prog", "#!/bin/true\n", 0755);
	fd = file("prog", O_WRONLY);
	r(execve("./prog", argv, argv + 1));
	close(fd);
}

CASE("execve: EACCES: no execute permission")
{
	char *argv[] = {"f", NULL};

	r(execve("./f", argv, argv + 1));
	r(execve("./d", argv, argv + 1));
}

CASE("execve: ENOEXEC: not a program")
{
	char *argv[] = {"f", NULL};

	MUST(!chmod("f", 0755));
	r(execve("./f", argv, argv + 1));
}

CASE("execve: ok: a set-user-ID program changes the user")
{
	char text[30000];
	int in = file("/usr/bin/id", O_RDONLY), out = file("prog", O_CREAT | O_WRONLY), status;
	char *id[] = {"prog", "-u", NULL};
	ssize_t got;
	int fds[2];
	pid_t pid;

	while ((got = read(in, text, sizeof(text))) > 0)
		MUST(write(out, text, (size_t)got) == got);
	MUST(!fchown(out, 1001, 1001) && !fchmod(out, 06755));
	close(out);
	MUST(!pipe(fds));
	pid = fork();
	if (!pid) {
		become(1000);
		dup2(fds[1], 1);
		execv("./prog", id);
		_exit(1);
	}
	close(fds[1]);
	got = read(fds[0], text, sizeof(text) - 1);
	waitpid(pid, &status, 0);
	text[got > 0 ? got - 1 : 0] = 0;
	say("uid=%s", text);
}

CASE("open: EMFILE: the limit of descriptors")
{
	struct rlimit none = {.rlim_cur = 3, .rlim_max = 3};

	MUST(!setrlimit(RLIMIT_NOFILE, &none));
	r(open("new", O_CREAT | O_RDWR, 0644));
}

CASE("open: ok: O_CREAT through a dangling link makes the target")
{
	r(open("dang", O_CREAT | O_RDWR, 0644));
	show("none");
}

CASE("open: ok: O_CREAT, the mode, without umask")
{
	umask(0);
	r(open("new", O_CREAT | O_RDWR, 07777));
	show("new");
}

CASE("open: ok: O_CREAT, the mode, umask 027")
{
	umask(027);
	r(open("new", O_CREAT | O_RDWR, 0666));
	show("new");
}

CASE("open: ok: O_CREAT, mode 0 and O_RDWR")
{
	int fd = open("new", O_CREAT | O_RDWR, 0);

	r(fd);
	r(write(fd, "abc", 3));
	show("new");
}

CASE("open: ok: O_CREAT as a user, owner and mode")
{
	become(1000);
	r(open("new", O_CREAT | O_RDWR, 06755));
	show("new");
}

CASE("open: ok: O_CREAT changes the times of the directory")
{
	watch("d");
	r(open("d/new", O_CREAT | O_RDWR, 0644));
	changed("d");
}

CASE("open: ok: O_CREAT of a file that is there changes nothing")
{
	watch("d");
	watch2("d/x");
	r(open("d/x", O_CREAT | O_RDWR, 0600));
	changed("d");
	changed2("d/x");
	show("d/x");
}

CASE("open: ok: O_TRUNC empties the file and changes mtime and ctime")
{
	watch("f");
	r(open("f", O_WRONLY | O_TRUNC));
	changed("f");
	show("f");
	content("f");
}

CASE("open: ok: O_TRUNC of an empty file")
{
	put("g", "", 0644);
	watch("g");
	r(open("g", O_WRONLY | O_TRUNC));
	changed("g");
}

CASE("open: ok: O_TRUNC with O_RDONLY")
{
	r(open("f", O_RDONLY | O_TRUNC));
	show("f");
}

CASE("open: ok: O_TRUNC with O_CREAT, written before through another descriptor")
{
	int fd = file("f", O_RDWR), other;

	MUST(pwrite(fd, "xyz", 3, 5000) == 3);
	other = open("f", O_CREAT | O_TRUNC | O_RDWR, 0600);
	r(other);
	show_fd(fd);
	MUST(pwrite(other, "q", 1, 10) == 1);
	content_fd(fd);
}

CASE("open: ok: O_TRUNC of a set-user-ID file by another")
{
	MUST(!chmod("f", 06777));
	become(1000);
	r(open("f", O_WRONLY | O_TRUNC));
	show("f");
}

CASE("creat: ok: a file that is there is emptied, its mode stays")
{
	r(creat("f", 0600));
	show("f");
}

CASE("open: ok: O_APPEND, two writers, and a seek")
{
	int a = file("f", O_WRONLY | O_APPEND), b = file("f", O_WRONLY | O_APPEND);

	MUST(write(a, "aa", 2) == 2 && write(b, "bb", 2) == 2);
	MUST(lseek(a, 0, SEEK_SET) == 0);
	n(write(a, "cc", 2));
	n(lseek(a, 0, SEEK_CUR));
	n(pwrite(a, "dd", 2, 0));
	content("f");
}

CASE("open: ok: O_APPEND, the file was cut by another")
{
	int a = file("f", O_WRONLY | O_APPEND);

	MUST(write(a, "aa", 2) == 2);
	MUST(!truncate("f", 3));
	n(write(a, "bb", 2));
	n(lseek(a, 0, SEEK_CUR));
	content("f");
}

CASE("open: ok: the flags by fcntl(F_GETFL)")
{
	int fd = file("f", O_RDWR | O_APPEND | O_DSYNC | O_NOATIME | O_NONBLOCK);

	say("%#o", fcntl(fd, F_GETFL));
	r(fcntl(fd, F_SETFL, O_DIRECT));
	say("%#o", fcntl(fd, F_GETFL));
}

CASE("open: ok: O_APPEND set and cleared by fcntl(F_SETFL)")
{
	int fd = file("f", O_RDWR);

	r(fcntl(fd, F_SETFL, O_APPEND));
	n(pwrite(fd, "a", 1, 0));
	r(fcntl(fd, F_SETFL, 0));
	n(pwrite(fd, "b", 1, 0));
	content("f");
}

CASE("write: ok: O_SYNC and O_DSYNC")
{
	int a = file("f", O_WRONLY | O_SYNC), b = file("f", O_WRONLY | O_DSYNC);

	n(pwrite(a, "a", 1, 0));
	n(pwrite(b, "b", 1, 10));
	content("f");
}

/* ---- O_DIRECT ---- */

static char *aligned(char c)
{
	void *buf = aligned_alloc(4096, SIXTEEN_K);

	MUST(buf);
	memset(buf, c, SIXTEEN_K);
	return buf;
}

CASE("write: ok: O_DIRECT, aligned")
{
	int fd = file("new", O_CREAT | O_RDWR | O_DIRECT);

	n(pwrite(fd, aligned('a'), SIXTEEN_K, 0));
	n(pwrite(fd, aligned('b'), 4096, 4096));
	n(pread(fd, aligned(0), SIXTEEN_K, 8192));
	n(pread(fd, aligned(0), SIXTEEN_K, SIXTEEN_K));
	content("new");
}

CASE("write: EINVAL: O_DIRECT, an offset that is not aligned")
{
	int fd = file("new", O_CREAT | O_RDWR | O_DIRECT);

	n(pwrite(fd, aligned('a'), 4096, 100));
}

CASE("write: EINVAL: O_DIRECT, a length that is not aligned")
{
	int fd = file("new", O_CREAT | O_RDWR | O_DIRECT);

	n(pwrite(fd, aligned('a'), 100, 0));
}

CASE("write: EINVAL: O_DIRECT, memory that is not aligned")
{
	int fd = file("new", O_CREAT | O_RDWR | O_DIRECT);

	n(pwrite(fd, aligned('a') + 1, 4096, 0));
}

CASE("read: EINVAL: O_DIRECT, an offset that is not aligned")
{
	int fd;

	fill("new", SIXTEEN_K, 'a');
	fd = file("new", O_RDONLY | O_DIRECT);
	n(pread(fd, aligned('a'), 4096, 100));
}

CASE("read: ok: O_DIRECT sees what was written through the cache")
{
	char *buf = aligned(0);
	int fd, direct;

	fill("new", SIXTEEN_K, 'a');
	fd = file("new", O_RDWR);
	direct = file("new", O_RDWR | O_DIRECT);
	MUST(pwrite(fd, "b", 1, 5000) == 1);
	n(pread(direct, buf, SIXTEEN_K, 0));
	say("%c%c%c", buf[4999], buf[5000], buf[5001]);
}

CASE("read: ok: through the cache, what O_DIRECT has written")
{
	char buf[3];
	int fd, direct;

	fill("new", SIXTEEN_K, 'a');
	fd = file("new", O_RDWR);
	direct = file("new", O_RDWR | O_DIRECT);
	MUST(pread(fd, buf, 3, 8192) == 3);
	n(pwrite(direct, aligned('c'), 4096, 8192));
	n(pread(fd, buf, 3, 8192));
	say("%c", buf[0]);
}

CASE("write: ok: O_DIRECT behind the end, size and times")
{
	int fd = file("f", O_RDWR | O_DIRECT);

	watch("f");
	n(pwrite(fd, aligned('a'), 4096, 8192));
	changed("f");
	show("f");
	content("f");
}

CASE("write: ok: O_DIRECT with O_APPEND")
{
	int fd = file("new", O_CREAT | O_RDWR | O_DIRECT | O_APPEND);

	n(write(fd, aligned('a'), 4096));
	n(write(fd, aligned('b'), 4096));
	content("new");
}

/* ---- O_PATH ---- */

CASE("read: EBADF: O_PATH")
{
	char buf[8];
	int fd = file("f", O_PATH);

	r(read(fd, buf, 8));
	r(write(fd, buf, 8));
	r(fchmod(fd, 0600));
	r(fchown(fd, 0, 0));
	r(ftruncate(fd, 0));
	r(fsync(fd));
	show_fd(fd);
}

CASE("open: ok: O_PATH of a link itself")
{
	int fd = open("l", O_PATH | O_NOFOLLOW);
	char buf[10];

	r(fd);
	n(readlinkat(fd, "", buf, sizeof(buf)));
	show_fd(fd);
}

CASE("open: ok: O_PATH of what may not be read")
{
	MUST(!chmod("f", 0));
	become(1000);
	r(open("f", O_PATH));
}

CASE("open: ok: O_PATH of a fifo and a socket")
{
	MUST(!mknod("sock", S_IFSOCK | 0644, 0));
	r(open("p", O_PATH));
	r(open("sock", O_PATH));
}

CASE("open: ok: again by /proc/self/fd")
{
	char path[64];
	int fd = file("f", O_PATH);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r(open(path, O_RDWR));
	MUST(!unlink("f"));
	r(open(path, O_RDWR));
}

/* ---- O_TMPFILE ---- */

ROW("open(O_TMPFILE): ok: O_RDWR", open(".", O_TMPFILE | O_RDWR, 0644))
ROW("open(O_TMPFILE): ok: O_WRONLY", open(".", O_TMPFILE | O_WRONLY, 0644))
ROW("open(O_TMPFILE): EINVAL: O_RDONLY", open(".", O_TMPFILE | O_RDONLY, 0644))
ROW("open(O_TMPFILE): ENOTDIR: a file", open("f", O_TMPFILE | O_RDWR, 0644))
ROW("open(O_TMPFILE): ENOENT: no such directory", open("none", O_TMPFILE | O_RDWR, 0644))
USER_ROW("open(O_TMPFILE): EACCES: a directory of another", open("d", O_TMPFILE | O_RDWR, 0644))

CASE("open(O_TMPFILE): ok: mode, owner, links, times of the directory")
{
	int fd;

	watch("d");
	umask(027);
	fd = open("d", O_TMPFILE | O_RDWR, 0666);
	show_fd(fd);
	changed("d");
	n(write(fd, "abc", 3));
	content_fd(fd);
}

CASE("open(O_TMPFILE): ok: linked by /proc/self/fd")
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0644);
	char path[64];

	MUST(fd >= 0 && write(fd, "abc", 3) == 3);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r(linkat(AT_FDCWD, path, AT_FDCWD, "new", AT_SYMLINK_FOLLOW));
	r(linkat(AT_FDCWD, path, AT_FDCWD, "new2", AT_SYMLINK_FOLLOW));
	show("new");
	content("new2");
}

CASE("open(O_TMPFILE): ok: linked by AT_EMPTY_PATH")
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0644);

	r(linkat(fd, "", AT_FDCWD, "new", AT_EMPTY_PATH));
	show("new");
}

CASE("open(O_TMPFILE): ENOENT: O_EXCL cannot be linked")
{
	int fd = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0644);
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r(linkat(AT_FDCWD, path, AT_FDCWD, "new", AT_SYMLINK_FOLLOW));
}

CASE("open(O_TMPFILE): ok: in a set-group-ID directory")
{
	MUST(!chown("d", 0, 1001) && !chmod("d", 02777));
	become(1000);
	show_fd(open("d", O_TMPFILE | O_RDWR, 0664));
}

/* ---- openat2 ---- */

static long openat2_(const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = {.flags = flags, .resolve = resolve};

	return syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
}

ROW("openat2: ok: RESOLVE_BENEATH", openat2_("d/x", O_RDONLY, RESOLVE_BENEATH))
ROW("openat2: EXDEV: RESOLVE_BENEATH, the parent", openat2_("../x", O_RDONLY, RESOLVE_BENEATH))
ROW("openat2: EXDEV: RESOLVE_BENEATH, absolute", openat2_("/", O_RDONLY, RESOLVE_BENEATH))
ROW("openat2: ELOOP: RESOLVE_NO_SYMLINKS", openat2_("l", O_RDONLY, RESOLVE_NO_SYMLINKS))
ROW("openat2: EXDEV: RESOLVE_NO_XDEV", openat2_("/proc", O_RDONLY, RESOLVE_NO_XDEV))
ROW("openat2: EINVAL: an unknown flag", openat2_("f", 1ULL << 40, 0))
ROW("openat2: EAGAIN: RESOLVE_CACHED with O_TRUNC", openat2_("f", O_TRUNC | O_RDWR, RESOLVE_CACHED))

/* ---- mknod ---- */

CASE("mknod: ok: each type and its mode")
{
	umask(0);
	r(mknod("reg", S_IFREG | 07777, 0));
	r(mknod("none-type", 0644, 0));
	r(mknod("fifo", S_IFIFO | 0640, 0));
	r(mknod("sock", S_IFSOCK | 0755, 0));
	r(mknod("chr", S_IFCHR | 0600, makedev(1, 3)));
	r(mknod("blk", S_IFBLK | 0660, makedev(7, 200)));
	show("reg");
	show("none-type");
	show("fifo");
	show("sock");
	show("chr");
	show("blk");
}

CASE("mknod: ok: device numbers of all sizes")
{
	static const unsigned int devs[][2] = {{0, 0},		{1, 3},	     {255, 255},
					       {256, 0},	{0, 256},    {4095, 65535},
					       {4095, 1048575}, {259, 70000}};
	char name[8];
	struct stat st;
	size_t i;

	for (i = 0; i < sizeof(devs) / sizeof(devs[0]); i++) {
		snprintf(name, sizeof(name), "%zu", i);
		if (mknod(name, S_IFCHR | 0600, makedev(devs[i][0], devs[i][1])) ||
		    lstat(name, &st))
			r(-1);
		else
			say("%u:%u", major(st.st_rdev), minor(st.st_rdev));
	}
}

ROW("mknod: EPERM: a directory", mknod("new", S_IFDIR | 0755, 0))
ROW("mknod: EINVAL: a link", mknod("new", S_IFLNK | 0755, 0))
ROW("mknod: EINVAL: an unknown type", mknod("new", 0110000 | 0755, 0))
USER_ROW("mknod: EPERM: a device, as a user", mknod("new", S_IFCHR | 0600, makedev(1, 3)))
USER_ROW("mknod: EPERM: a block device, as a user", mknod("new", S_IFBLK | 0600, makedev(7, 200)))
USER_ROW("mknod: ok: a fifo, as a user", mknod("new", S_IFIFO | 0600, 0))
USER_ROW("mknod: ok: a socket, as a user", mknod("new", S_IFSOCK | 0600, 0))
