// SPDX-License-Identifier: LGPL-2.1-or-later
/* Locks, leases, inotify, ioctl, file handles, quotactl. */
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/quota.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "calls.h"

/* ---- flock ---- */

static int fd_a;

static void flock_others(void)
{
	int fd = file("f", O_RDWR);

	r(flock(fd, LOCK_SH | LOCK_NB));
	r(flock(fd, LOCK_EX | LOCK_NB));
}

CASE("flock: EAGAIN: locked by another")
{
	fd_a = file("f", O_RDWR);
	r(flock(fd_a, LOCK_EX));
	flock_others();
	as_user(0, flock_others);
	r(flock(fd_a, LOCK_SH));
	flock_others();
	r(flock(fd_a, LOCK_UN));
	flock_others();
}

ROW("flock: EBADF: a bad descriptor", flock(-1, LOCK_SH))
ROW("flock: EINVAL: an unknown operation", flock(file("f", O_RDWR), 77))
ROW("flock: ok: open to read, exclusive", flock(file("f", O_RDONLY), LOCK_EX))
ROW("flock: ok: a directory", flock(dir("d"), LOCK_EX))

CASE("flock: ok: goes with the last descriptor")
{
	int a = file("f", O_RDWR), b = dup(a), c = file("f", O_RDWR);

	r(flock(a, LOCK_EX));
	close(a);
	r(flock(c, LOCK_EX | LOCK_NB));
	close(b);
	r(flock(c, LOCK_EX | LOCK_NB));
}

/* ---- fcntl locks ---- */

static long lock(int fd, int cmd, int type, off_t start, off_t len)
{
	struct flock l = {
		.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return fcntl(fd, cmd, &l);
}

static void lock_others(void)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
	int fd = file("f", O_RDWR);

	r(lock(fd, F_SETLK, F_WRLCK, 0, 5));
	r(lock(fd, F_SETLK, F_RDLCK, 0, 5));
	r(lock(fd, F_SETLK, F_WRLCK, 5, 5));
	r(fcntl(fd, F_GETLK, &l));
	say("type=%d start=%ld len=%ld", l.l_type, (long)l.l_start, (long)l.l_len);
}

CASE("fcntl(F_SETLK): EAGAIN: locked by another process")
{
	fd_a = file("f", O_RDWR);
	r(lock(fd_a, F_SETLK, F_WRLCK, 0, 5));
	as_user(0, lock_others);
	r(lock(fd_a, F_SETLK, F_RDLCK, 0, 5));
	as_user(0, lock_others);
	r(lock(fd_a, F_SETLK, F_UNLCK, 0, 5));
	as_user(0, lock_others);
}

CASE("fcntl(F_SETLK): ok: goes when any descriptor of the process is closed")
{
	fd_a = file("f", O_RDWR);
	r(lock(fd_a, F_SETLK, F_WRLCK, 0, 5));
	close(file("f", O_RDONLY));
	as_user(0, lock_others);
}

CASE("fcntl(F_OFD_SETLK): EAGAIN: locked by another description")
{
	int a = file("f", O_RDWR), b = file("f", O_RDWR);

	r(lock(a, F_OFD_SETLK, F_WRLCK, 0, 5));
	r(lock(b, F_OFD_SETLK, F_WRLCK, 4, 5));
	r(lock(b, F_OFD_SETLK, F_WRLCK, 5, 5));
	r(lock(a, F_SETLK, F_WRLCK, 0, 3));
	close(file("f", O_RDONLY));
	r(lock(b, F_OFD_SETLK, F_RDLCK, 0, 1));
	close(a);
	r(lock(b, F_OFD_SETLK, F_RDLCK, 0, 1));
}

ROW("fcntl(F_SETLK): EBADF: to write, open to read",
    lock(file("f", O_RDONLY), F_SETLK, F_WRLCK, 0, 0))
ROW("fcntl(F_SETLK): EBADF: to read, open to write",
    lock(file("f", O_WRONLY), F_SETLK, F_RDLCK, 0, 0))
ROW("fcntl(F_SETLK): EINVAL: an unknown kind", lock(file("f", O_RDWR), F_SETLK, 77, 0, 0))
ROW("fcntl(F_SETLK): EINVAL: a negative start", lock(file("f", O_RDWR), F_SETLK, F_RDLCK, -1, 1))
ROW("fcntl(F_SETLK): ok: behind the end", lock(file("f", O_RDWR), F_SETLK, F_WRLCK, 1LL << 40, 1))

static void wait_for_lock(void)
{
	r(lock(fd_a, F_SETLKW, F_WRLCK, 0, 0));
}

CASE("fcntl(F_SETLKW): ok: waits until the other lets go")
{
	int fds[2];
	pid_t pid;
	char c;

	fd_a = file("f", O_RDWR);
	MUST(!pipe(fds));
	pid = fork();
	if (!pid) {
		lock(fd_a, F_SETLK, F_WRLCK, 0, 0);
		MUST(write(fds[1], "x", 1) == 1);
		usleep(30000);
		_exit(0);
	}
	MUST(read(fds[0], &c, 1) == 1);
	wait_for_lock();
	waitpid(pid, NULL, 0);
}

/* Until the process waits for something. */
static void wait_asleep(pid_t pid)
{
	char path[64], text[200], state = 0;
	int i, fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	for (i = 0; i < 5000 && state != 'S'; i++) {
		usleep(2000);
		fd = file(path, O_RDONLY);
		text[0] = 0;
		(void)!read(fd, text, sizeof(text) - 1);
		close(fd);
		sscanf(text, "%*d (%*[^)]) %c", &state);
	}
}

CASE("fcntl(F_SETLKW): EDEADLK: two wait for each other")
{
	int fds[2], status;
	pid_t pid;
	char c;

	fd_a = file("f", O_RDWR);
	MUST(!pipe(fds) && !lock(fd_a, F_SETLK, F_WRLCK, 0, 1));
	pid = fork();
	if (!pid) {
		lock(fd_a, F_SETLK, F_WRLCK, 5, 1);
		MUST(write(fds[1], "x", 1) == 1);
		lock(fd_a, F_SETLKW, F_WRLCK, 0, 1);
		_exit(0);
	}
	MUST(read(fds[0], &c, 1) == 1);
	wait_asleep(pid);
	r(lock(fd_a, F_SETLKW, F_WRLCK, 5, 1));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

/* ---- leases ---- */

CASE("fcntl(F_SETLEASE): ok: read and write leases")
{
	int fd = file("f", O_RDONLY);

	r(fcntl(fd, F_SETLEASE, F_RDLCK));
	n(fcntl(fd, F_GETLEASE));
	r(fcntl(fd, F_SETLEASE, F_UNLCK));
	n(fcntl(fd, F_GETLEASE));
	r(fcntl(fd, F_SETLEASE, F_WRLCK));
	n(fcntl(fd, F_GETLEASE));
}

CASE("fcntl(F_SETLEASE): EAGAIN: a read lease on a file open to write")
{
	int fd = file("f", O_RDONLY);

	file("f", O_RDWR);
	r(fcntl(fd, F_SETLEASE, F_RDLCK));
}

CASE("open: EAGAIN: breaks a lease, O_NONBLOCK")
{
	int fd = file("f", O_RDONLY);

	signal(SIGIO, SIG_IGN);
	MUST(!fcntl(fd, F_SETLEASE, F_RDLCK));
	r(open("f", O_RDONLY | O_NONBLOCK));
	r(open("f", O_RDWR | O_NONBLOCK));
}

ROW("fcntl(F_SETLEASE): EINVAL: a directory", fcntl(dir("d"), F_SETLEASE, F_RDLCK))

CASE("fcntl(F_SETLEASE): EACCES: a file of another")
{
	become(1000);
	r(fcntl(file("f", O_RDONLY), F_SETLEASE, F_RDLCK));
}

ROW("fcntl(F_NOTIFY): ok: a directory", fcntl(dir("d"), F_NOTIFY, DN_CREATE))
ROW("fcntl(F_SET_RW_HINT): ok: a file", fcntl(file("f", O_RDWR), F_SET_RW_HINT, &(uint64_t){2}))
ROW("fcntl(F_ADD_SEALS): EINVAL: a file", fcntl(file("f", O_RDWR), F_ADD_SEALS, F_SEAL_WRITE))

/* ---- inotify ---- */

static void events(int in)
{
	char buf[8192] __attribute__((aligned(8)));
	ssize_t len = read(in, buf, sizeof(buf)), pos;

	for (pos = 0; pos < len;) {
		const struct inotify_event *e = (const void *)(buf + pos);

		say("%x%s%s", e->mask, e->len ? ":" : "", e->len ? e->name : "");
		pos += (ssize_t)sizeof(*e) + e->len;
	}
	if (len < 0)
		r(-1);
}

CASE("inotify: ok: events of a directory")
{
	int in = inotify_init1(IN_NONBLOCK), fd;

	MUST(inotify_add_watch(in, "d", IN_ALL_EVENTS) >= 0);
	fd = file("d/new", O_CREAT | O_RDWR);
	MUST(write(fd, "abc", 3) == 3);
	close(fd);
	MUST(!rename("d/new", "d/other") && !chmod("d/other", 0600) && !truncate("d/other", 1) &&
	     !mkdir("d/sub", 0755) && !link("d/other", "d/link") && !unlink("d/other") &&
	     !rmdir("d/sub") && !rename("d/x", "moved"));
	events(in);
}

CASE("inotify: ok: events of a file")
{
	int in = inotify_init1(IN_NONBLOCK), fd;
	char c;

	MUST(inotify_add_watch(in, "f", IN_ALL_EVENTS) >= 0);
	fd = file("f", O_RDWR);
	MUST(read(fd, &c, 1) == 1 && write(fd, "a", 1) == 1);
	close(fd);
	MUST(!rename("f", "g") && !unlink("g"));
	events(in);
}

ROW("inotify_add_watch: ENOTDIR: IN_ONLYDIR, a file",
    inotify_add_watch(inotify_init(), "f", IN_ALL_EVENTS | IN_ONLYDIR))
USER_ROW("inotify_add_watch: ok: a file that may be read",
	 inotify_add_watch(inotify_init(), "f", IN_ACCESS))

/* ---- poll ---- */

CASE("poll: ok: a file is ready")
{
	struct pollfd p = {.fd = file("f", O_RDWR), .events = POLLIN | POLLOUT};

	n(poll(&p, 1, 0));
	say("%x", p.revents);
}

CASE("epoll_ctl: EPERM: a file")
{
	struct epoll_event e = {.events = EPOLLIN};

	r(epoll_ctl(epoll_create1(0), EPOLL_CTL_ADD, file("f", O_RDWR), &e));
}

/* ---- handles ---- */

struct handle {
	struct file_handle h;
	char room[MAX_HANDLE_SZ];
};

static long handle_of(const char *path, struct handle *ret, int flags)
{
	int mount_id;

	ret->h.handle_bytes = MAX_HANDLE_SZ;
	return name_to_handle_at(AT_FDCWD, path, &ret->h, &mount_id, flags);
}

CASE("open_by_handle_at: ok: a file, renamed since, and a directory")
{
	struct handle h, hd;
	int fd;

	r(handle_of("f", &h, 0));
	r(handle_of("d", &hd, 0));
	MUST(!rename("f", "d/other"));
	fd = open_by_handle_at(dir("."), &h.h, O_RDWR);
	r(fd);
	content_fd(fd);
	n(pwrite(fd, "abc", 3, 0));
	content("d/other");
	fd = open_by_handle_at(dir("."), &hd.h, O_RDONLY | O_DIRECTORY);
	r(fd);
	r(openat(fd, "x", O_RDONLY));
	r(openat(fd, "../e", O_RDONLY));
}

CASE("open_by_handle_at: ESTALE: the file was removed")
{
	struct handle h;
	int i, opened = 0;

	r(handle_of("f", &h, 0));
	MUST(!unlink("f"));
	r(open_by_handle_at(dir("."), &h.h, O_RDONLY));
	for (i = 0; i < 200; i++) {
		put("f", "", 0644);
		MUST(!handle_of("f", &h, 0) && !unlink("f"));
		opened += open_by_handle_at(dir("."), &h.h, O_RDONLY) >= 0;
	}
	n(opened);
}

CASE("open_by_handle_at: ok: the file was removed, and is still open")
{
	struct handle h;
	int fd = file("f", O_RDWR);

	r(handle_of("f", &h, 0));
	MUST(!unlink("f"));
	fd = open_by_handle_at(dir("."), &h.h, O_RDONLY);
	r(fd);
}

CASE("open_by_handle_at: EPERM: as a user")
{
	struct handle h;

	r(handle_of("f", &h, 0));
	become(1000);
	r(open_by_handle_at(dir("."), &h.h, O_RDONLY));
}

CASE("open_by_handle_at: ESTALE: a handle of nothing")
{
	struct handle h;

	MUST(!handle_of("f", &h, 0));
	memset(h.h.f_handle, 0x5a, h.h.handle_bytes);
	r(open_by_handle_at(dir("."), &h.h, O_RDONLY));
}

CASE("open_by_handle_at: EINVAL: a handle of size 0")
{
	struct handle h;

	MUST(!handle_of("f", &h, 0));
	h.h.handle_bytes = 0;
	r(open_by_handle_at(dir("."), &h.h, O_RDONLY));
}

CASE("open_by_handle_at: ELOOP: a link")
{
	struct handle h;

	MUST(!handle_of("l", &h, 0));
	r(open_by_handle_at(dir("."), &h.h, O_RDONLY));
	r(open_by_handle_at(dir("."), &h.h, O_PATH));
}

CASE("name_to_handle_at: EOVERFLOW: no room")
{
	struct handle h = {.h = {.handle_bytes = 0}};
	int mount_id;

	r(name_to_handle_at(AT_FDCWD, "f", &h.h, &mount_id, 0));
	say("%s", h.h.handle_bytes ? "size-told" : "no-size");
}

CASE("name_to_handle_at: ok: the same for two names of a file")
{
	struct handle a, b;

	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	MUST(!link("f", "g") && !handle_of("f", &a, 0) && !handle_of("g", &b, 0));
	say("%s", memcmp(&a, &b, sizeof(a)) ? "other" : "same");
}

ROW("name_to_handle_at: EINVAL: an unknown flag", handle_of("f", &(struct handle){{0}}, 0x4000000))

/* ---- ioctl ---- */

/* Extents, indexed directories, data within the inode. */
#define EXT4_OWN (0x80000 | 0x1000 | 0x10000000)

static long get_flags(const char *path)
{
	int fd = open(path, O_RDONLY), ret, flags = 0;

	ret = ioctl(fd, FS_IOC_GETFLAGS, &flags);
	return ret < 0 ? ret : flags & ~EXT4_OWN;
}

/* These flags and no others, but for ext4's own. */
static long set_flags(const char *path, int flags)
{
	int fd = file(path, O_RDONLY), old = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &old))
		return -1;
	flags |= old & EXT4_OWN;
	return ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

CASE("ioctl(FS_IOC_GETFLAGS): ok: a file and a directory")
{
	n(get_flags("f"));
	n(get_flags("d"));
}

CASE("ioctl(FS_IOC_SETFLAGS): ok: nodump, noatime, sync")
{
	r(set_flags("f", FS_NODUMP_FL));
	n(get_flags("f"));
	r(set_flags("f", FS_NOATIME_FL | FS_SYNC_FL));
	n(get_flags("f"));
	r(set_flags("f", 0));
	n(get_flags("f"));
}

CASE("ioctl(FS_IOC_SETFLAGS): EPERM: immutable: what is refused then")
{
	MUST(!link("f", "g"));
	r(set_flags("f", FS_IMMUTABLE_FL));
	r(unlink("f"));
	r(rename("f", "h"));
	r(link("f", "h"));
	r(chmod("f", 0600));
	r(chown("f", 1, 1));
	r(truncate("f", 1));
	r(utimensat(AT_FDCWD, "f", NULL, 0));
	r(setxattr("f", "user.a", "1", 1, 0));
	r(open("f", O_RDONLY));
	r(set_flags("f", 0));
	show("f");
}

CASE("ioctl(FS_IOC_SETFLAGS): EPERM: an immutable directory")
{
	r(set_flags("d", FS_IMMUTABLE_FL));
	r(open("d/new", O_CREAT | O_RDWR, 0644));
	r(unlink("d/x"));
	r(mkdir("d/sub", 0755));
	r(open("d/x", O_RDWR));
	r(set_flags("d", 0));
}

CASE("ioctl(FS_IOC_SETFLAGS): EPERM: append-only: what is refused then")
{
	r(set_flags("f", FS_APPEND_FL));
	r(unlink("f"));
	r(truncate("f", 1));
	r(chmod("f", 0600));
	r(open("f", O_WRONLY | O_APPEND));
	r(set_flags("f", 0));
	r(set_flags("d", FS_APPEND_FL));
	r(open("d/new", O_CREAT | O_RDWR, 0644));
	r(unlink("d/x"));
	r(set_flags("d", 0));
}

CASE("ioctl(FS_IOC_SETFLAGS): EPERM: open to write an immutable file, and to append-only")
{
	r(set_flags("f", FS_IMMUTABLE_FL));
	r(open("f", O_WRONLY));
	r(set_flags("f", FS_APPEND_FL));
	r(open("f", O_WRONLY));
	r(open("f", O_WRONLY | O_TRUNC | O_APPEND));
	r(set_flags("f", 0));
}

CASE("ioctl(FS_IOC_SETFLAGS): EPERM: as a user")
{
	MUST(!chown("f", 1000, 1000));
	become(1000);
	r(set_flags("f", FS_NODUMP_FL));
	r(set_flags("f", FS_IMMUTABLE_FL));
}

CASE("ioctl(FS_IOC_FSGETXATTR): ok: a file")
{
	struct fsxattr a = {0};

	r(ioctl(file("f", O_RDONLY), FS_IOC_FSGETXATTR, &a));
	say("%x %u", a.fsx_xflags, a.fsx_projid);
}

CASE("ioctl(FS_IOC_FSSETXATTR): ok: nodump")
{
	struct fsxattr a = {.fsx_xflags = FS_XFLAG_NODUMP};
	int fd = file("f", O_RDONLY);

	r(ioctl(fd, FS_IOC_FSSETXATTR, &a));
	r(ioctl(fd, FS_IOC_FSGETXATTR, &a));
	say("%x", a.fsx_xflags);
}

CASE("ioctl(FITRIM): EPERM: as a user")
{
	struct fstrim_range range = {.len = UINT64_MAX};

	become(1000);
	r(ioctl(dir("."), FITRIM, &range));
}

CASE("ioctl(FS_IOC_FIEMAP): ok: a file")
{
	/* struct fiemap without extents: how many are there? */
	struct {
		uint64_t start, len;
		uint32_t flags, mapped, room, reserved;
	} map = {.len = UINT64_MAX, .flags = 1};

	r(ioctl(file("f", O_RDONLY), _IOC(_IOC_READ | _IOC_WRITE, 'f', 11, 32), &map));
	n(map.mapped);
}

ROW("ioctl(FICLONE): EOPNOTSUPP: a file",
    ioctl(file("new", O_CREAT | O_RDWR), FICLONE, file("f", O_RDONLY)))
ROW("ioctl(FIGETBSZ): ok: a file", ioctl(file("f", O_RDONLY), FIGETBSZ, &(int){0}))
ROW("ioctl(FIBMAP): ok: a file", ioctl(file("f", O_RDONLY), FIBMAP, &(int){0}))
ROW("ioctl(FS_IOC_GETVERSION): ok: a file",
    ioctl(file("f", O_RDONLY), FS_IOC_GETVERSION, &(long){0}))
ROW("ioctl: ENOTTY: an unknown request", ioctl(file("f", O_RDONLY), _IO('Q', 99), 0))
ROW("ioctl: EBADF: a bad descriptor", ioctl(-1, FIONREAD, &(int){0}))
ROW("ioctl: ENOTTY: a terminal's request", ioctl(file("f", O_RDONLY), 0x5401, name256))

CASE("ioctl(FIONREAD): ok: what is left to read")
{
	int left = 0, fd = file("f", O_RDONLY);

	lseek(fd, 3, SEEK_SET);
	r(ioctl(fd, FIONREAD, &left));
	n(left);
}

CASE("ioctl(FS_IOC_GETFSLABEL): ok: the label")
{
	char label[256] = "";

	r(ioctl(dir("."), _IOR(0x94, 49, char[256]), label));
}

/* ---- quota ---- */

ROW("quotactl_fd: ESRCH: no quota here",
    syscall(443, dir("."), QCMD(Q_GETQUOTA, USRQUOTA), 0, name256))
