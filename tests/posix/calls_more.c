// SPDX-License-Identifier: LGPL-2.1-or-later
/* Errnos of the manual pages that belong to no larger group: descriptors that do not fit, programs
 * that run. */
#include <linux/fs.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "calls.h"

static char buf[4096];

static int pipe_fd(int end)
{
	int fds[2];

	MUST(!pipe(fds));
	return fds[end];
}

/* ---- descriptors ---- */

ROW("splice: EBADF: a bad descriptor", splice(-1, NULL, pipe_fd(1), NULL, 5, 0))
ROW("splice: EBADF: from a file open to write",
    splice(file("f", O_WRONLY), NULL, pipe_fd(1), NULL, 5, 0))
ROW("splice: ESPIPE: an offset for a pipe",
    splice(file("f", O_RDONLY), NULL, pipe_fd(1), &(loff_t){0}, 5, 0))
ROW("splice: EINVAL: from a directory", splice(dir("d"), NULL, pipe_fd(1), NULL, 5, 0))
ROW("sendfile: ESPIPE: an offset, from a fifo",
    sendfile(file("f", O_RDWR), file("p", O_RDWR), &(off_t){0}, 5))
ROW("sendfile: EINVAL: a negative offset",
    sendfile(file("f", O_RDWR), file("d/x", O_RDONLY), &(off_t){-1}, 5))
ROW("sync_file_range: EBADF: a bad descriptor", sync_file_range(-1, 0, 0, 2))
ROW("readahead: EBADF: a bad descriptor", readahead(-1, 0, 10))
ROW("readahead: EBADF: open to write", readahead(file("f", O_WRONLY), 0, 10))
ROW("inotify_add_watch: EBADF: a bad descriptor", inotify_add_watch(-1, "f", IN_ACCESS))
ROW("inotify_add_watch: EINVAL: no events", inotify_add_watch(inotify_init(), "f", 0))
ROW("inotify_add_watch: EINVAL: not an inotify descriptor",
    inotify_add_watch(file("f", O_RDONLY), "f", IN_ACCESS))
ROW("mknodat: EBADF: a bad descriptor", mknodat(-1, "new", S_IFREG | 0644, 0))
ROW("mknodat: ENOTDIR: relative to a file", mknodat(file("f", O_RDONLY), "new", S_IFREG | 0644, 0))
ROW("statx: EBADF: a bad descriptor", statx(-1, "f", 0, STATX_ALL, (struct statx *)buf))
ROW("statx: ENOTDIR: relative to a file",
    statx(file("f", O_RDONLY), "x", 0, STATX_ALL, (struct statx *)buf))
ROW("open_by_handle_at: EINVAL: a handle of size 0 and a bad descriptor",
    open_by_handle_at(-1, (struct file_handle *)buf, O_RDONLY))
ROW("name_to_handle_at: EBADF: a bad descriptor",
    name_to_handle_at(-1, "f", (struct file_handle *)buf, (int *)(buf + 200), 0))
ROW("openat2: E2BIG: bytes that are not known",
    syscall(SYS_openat2, AT_FDCWD, "f", memset(buf, 1, 100), 100))
ROW("openat2: EINVAL: a size too small", syscall(SYS_openat2, AT_FDCWD, "f", buf, 8))
ROW("fchmod: EBADF: O_PATH", fchmod(file("f", O_PATH), 0600))
ROW("fgetxattr: EBADF: O_PATH", syscall(SYS_fgetxattr, file("f", O_PATH), "user.a", buf, 10))
ROW("fallocate: EBADF: a directory", fallocate(file("d", O_RDONLY), 0, 0, 10))

CASE("posix_fadvise: EINVAL: advice that is none")
{
	say("%s", errno_name(posix_fadvise(file("f", O_RDONLY), 0, 0, 77)));
	say("%s", errno_name(posix_fadvise(file("f", O_RDONLY), 0, -1, POSIX_FADV_NORMAL)));
	say("%s", errno_name(posix_fadvise(-1, 0, 0, POSIX_FADV_NORMAL)));
	say("%s", errno_name(posix_fadvise(file("p", O_RDWR), 0, 0, POSIX_FADV_NORMAL)));
}

CASE("mprotect: EINVAL: an address that is no multiple of a page")
{
	char *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file("f", O_RDWR), 0);

	r(mprotect(p + 1, 100, PROT_READ));
	r(mprotect(p, 4096, PROT_READ | PROT_WRITE));
}

CASE("mmap: EEXIST: MAP_FIXED_NOREPLACE")
{
	int fd = file("f", O_RDWR);
	char *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

	r(mmap(p, 4096, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) == MAP_FAILED ? -1 : 0);
}

/* ---- a program that runs ---- */

static pid_t run_prog(void)
{
	char *argv[] = {"prog", "30", NULL}, text[30000];
	int in = file("/bin/sleep", O_RDONLY), out = file("prog", O_CREAT | O_WRONLY);
	int fds[2];
	ssize_t got;
	pid_t pid;

	while ((got = read(in, text, sizeof(text))) > 0)
		MUST(write(out, text, (size_t)got) == got);
	MUST(!fchmod(out, 0755));
	close(out);
	MUST(!pipe2(fds, O_CLOEXEC));
	pid = fork();
	if (!pid) {
		execv("./prog", argv);
		_exit(1);
	}
	close(fds[1]);
	(void)!read(fds[0], text, 1); /* ends when the other end is closed: at execve */
	return pid;
}

CASE("truncate: ETXTBSY: a program that runs")
{
	pid_t pid = run_prog();

	r(truncate("prog", 10));
	r(open("prog", O_RDWR));
	r(open("prog", O_RDONLY | O_TRUNC));
	r(access("prog", W_OK));
	r(chmod("prog", 0700));
	r(rename("prog", "other"));
	r(unlink("other"));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

CASE("mmap: ok: shared and writable, a file mapped to execute")
{
	int fd = file("f", O_RDWR);
	char *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);

	MUST(p != MAP_FAILED);
	n(pwrite(fd, "abc", 3, 0));
	r(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
}

CASE("swapon: EINVAL: a file that is no swap")
{
	fill("swap", 65536, 'x');
	r(syscall(SYS_swapon, "swap", 0));
	r(syscall(SYS_swapon, "f", 0));
}

CASE("execve: EACCES: a directory, a fifo and a file without the right")
{
	char *argv[] = {"x", NULL};

	r(execve("d", argv, argv + 1));
	r(execve("p", argv, argv + 1));
	r(execve("f", argv, argv + 1));
}

CASE("chroot: EPERM: as a user")
{
	become(1000);
	r(chroot("d"));
	r(chdir("d"));
}

/* ---- immutability is told by ioctl; what is left of EPERM ---- */

USER_ROW("utimensat: EPERM: OMIT and a time, a file of another",
	 utimensat(AT_FDCWD, "f", (const struct timespec[2]){{0, UTIME_OMIT}, {1, 0}}, 0))
USER_ROW("utimensat: ok: OMIT and OMIT, a file of another",
	 utimensat(AT_FDCWD, "f", (const struct timespec[2]){{0, UTIME_OMIT}, {0, UTIME_OMIT}}, 0))
USER_ROW("mknod: EPERM: a device 1:3, as a user", mknod("new", S_IFBLK | 0600, 0x103))
USER_ROW("mknod: ok: a device 0:0, as a user", mknod("new", S_IFCHR | 0600, 0))

CASE("rename: EPERM: over another's file in a sticky directory")
{
	MUST(!chmod("d", 01777));
	become(1000);
	put("d/mine", "", 0644);
	r(rename("d/mine", "d/x"));
	r(renameat2(AT_FDCWD, "d/mine", AT_FDCWD, "d/x", RENAME_EXCHANGE));
	r(renameat2(AT_FDCWD, "d/mine", AT_FDCWD, "d/new", RENAME_WHITEOUT));
}

CASE("rename: EACCES: RENAME_EXCHANGE of directories, one may not be written")
{
	MUST(!mkdir("d/sub", 0777) && !mkdir("e/sub", 0755) && !chmod("d", 0777) &&
	     !chmod("e", 0777));
	become(1000);
	r(renameat2(AT_FDCWD, "d/sub", AT_FDCWD, "e/sub", RENAME_EXCHANGE));
}

CASE("write: EPIPE: a fifo nobody reads")
{
	int in = open("p", O_RDONLY | O_NONBLOCK), out = open("p", O_WRONLY);

	MUST(in >= 0 && out >= 0);
	n(write(out, "abc", 3));
	n(read(in, buf, 10));
	n(read(in, buf, 10));
	close(in);
	r(write(out, "abc", 3));
}

CASE("open: ok: a fifo has times and stays one")
{
	int in = open("p", O_RDONLY | O_NONBLOCK), out = open("p", O_WRONLY);

	watch("p");
	n(write(out, "abc", 3));
	n(read(in, buf, 10));
	show("p");
}

/* ---- limits ---- */

CASE("truncate: ok: the largest size of ext4")
{
	struct stat st;

	r(truncate("f", (16LL << 40) - 4096));
	MUST(!stat("f", &st));
	say("%lld", (long long)st.st_size);
}

CASE("listxattr: ok: as long as a list can be")
{
	char name[260];
	int i, made = 0;

	/* Of empty values, so that one block of ext4 has room. */
	for (i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "user.%0240d", i);
		made += !syscall(SYS_setxattr, "f", name, "", 0, 0);
	}
	n(made);
	n(syscall(SYS_listxattr, "f", buf, sizeof(buf)));
}

CASE("dup: ok: descriptors share the offset, opens do not")
{
	int a = file("f", O_RDWR), b = dup(a), c = file("f", O_RDWR);

	MUST(lseek(a, 5, SEEK_SET) == 5);
	n(lseek(b, 0, SEEK_CUR));
	n(lseek(c, 0, SEEK_CUR));
	n(write(b, "xy", 2));
	n(lseek(a, 0, SEEK_CUR));
	content("f");
}

CASE("fork: ok: a child's writes through the same description")
{
	int fd = file("f", O_RDWR);
	pid_t pid = fork();

	if (!pid) {
		(void)!write(fd, "child", 5);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	n(lseek(fd, 0, SEEK_CUR));
	n(write(fd, "me", 2));
	content("f");
}

/* ---- a full filesystem; PHASE_FULL: cases in the order of their lines ---- */

static void fill_all(void)
{
	static char big[1 << 20];
	int fd = file("big", O_CREAT | O_RDWR), i;

	noise(big, sizeof(big));
	for (i = 0; i < 200; i++)
		if (pwrite(fd, big, sizeof(big), (off_t)i << 20) < 0 || fsync(fd))
			break;
	close(fd);
}

CASE_IN(PHASE_FULL, "copy_file_range: ENOSPC: a full filesystem")
{
	int in = file("src", O_CREAT | O_RDWR), out, i, error = 0;

	MUST(!ftruncate(in, 1 << 20) && pwrite(in, buf, 4096, 0) == 4096 && !fsync(in));
	noise(buf, sizeof(buf));
	for (i = 0; i < 256; i++)
		MUST(pwrite(in, buf, 4096, (off_t)i << 12) == 4096);
	MUST(!fsync(in));
	fill_all();
	out = file("copy", O_CREAT | O_RDWR);
	for (i = 0; i < 200 && !error; i++) {
		off_t from = 0, to = (off_t)i << 20;

		if (copy_file_range(in, &from, out, &to, 1 << 20, 0) < 0 || fsync(out))
			error = errno;
	}
	say("%s", errno_name(error));
	if (system("rm -f big copy src"))
		say("rm-failed");
	sync();
}

CASE_IN(PHASE_FULL, "msync: ok: a full filesystem, a map over a hole")
{
	int fd = file("map", O_CREAT | O_RDWR);
	char *p;

	MUST(!fallocate(fd, 0, 0, 65536) && !fsync(fd));
	fill_all();
	p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memset(p, 'm', 65536);
	r(msync(p, 65536, MS_SYNC));
	if (system("rm -f big map"))
		say("rm-failed");
	sync();
}

CASE_IN(PHASE_FULL, "truncate: ok: a full filesystem, down and up")
{
	fill_all();
	r(truncate("big", 1 << 20));
	r(truncate("big", 1 << 30));
	r(unlink("big"));
	sync();
}
