// SPDX-License-Identifier: LGPL-2.1-or-later
/* What else the manual pages list: errnos of flags, locks, mounts, ioctls, and of a full
 * filesystem. */
#include <linux/fs.h>
#include <linux/fsmap.h>
#include <sched.h>
#include <signal.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define CASE_PHASE PHASE_MORE
#include "calls.h"

static char buf[1 << 16];

/* ---- immutable and append-only ---- */

static int own_fd;
static int own_flags;

/* What is set is taken back at the end of the process, or the directory could not be removed. */
static void restore_flags(void)
{
	ioctl(own_fd, FS_IOC_SETFLAGS, &own_flags);
}

/* Adds these flags to those that the file has. */
static void add_flags(const char *path, int more)
{
	int flags;

	own_fd = file(path, O_RDONLY);
	MUST(!ioctl(own_fd, FS_IOC_GETFLAGS, &own_flags));
	flags = own_flags | more;
	MUST(!ioctl(own_fd, FS_IOC_SETFLAGS, &flags));
}

CASE("access: EPERM: W_OK of an immutable file")
{
	add_flags("f", FS_IMMUTABLE_FL);
	r(access("f", W_OK));
	r(access("f", R_OK));
	restore_flags();
}

CASE("truncate: EPERM: immutable, append-only")
{
	add_flags("f", FS_IMMUTABLE_FL);
	r(truncate("f", 1));
	restore_flags();
	add_flags("f", FS_APPEND_FL);
	r(truncate("f", 1));
	restore_flags();
}

CASE("fallocate: EPERM: immutable")
{
	int fd = file("f", O_RDWR);

	add_flags("f", FS_IMMUTABLE_FL);
	r(fallocate(fd, 0, 0, 100));
	restore_flags();
	content("f");
}

CASE("fallocate: EPERM: a hole in an append-only file")
{
	int fd = file("f", O_RDWR);

	add_flags("f", FS_APPEND_FL);
	r(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 5));
	r(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100));
	restore_flags();
	content("f");
}

CASE("utimensat: EPERM: append-only, another time than now")
{
	static const struct timespec times[][2] = {
		{{0, UTIME_OMIT}, {1000, 5}},	  {{1000, 5}, {0, UTIME_OMIT}},
		{{1000, 5}, {0, UTIME_NOW}},	  {{0, UTIME_OMIT}, {0, UTIME_NOW}},
		{{0, UTIME_NOW}, {0, UTIME_NOW}},
	};
	size_t i;

	add_flags("f", FS_APPEND_FL);
	for (i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		r(utimensat(AT_FDCWD, "f", times[i], 0));
	restore_flags();
}

CASE("fsync: ok: an append-only file")
{
	int fd = file("f", O_WRONLY | O_APPEND);

	add_flags("f", FS_APPEND_FL);
	n(write(fd, "abc", 3));
	r(fsync(fd));
	r(close(fd));
	restore_flags();
	content("f");
}

CASE("fsync: ok: what was written before the file was immutable")
{
	int fd = file("f", O_RDWR);

	n(pwrite(fd, "abc", 3, 5));
	add_flags("f", FS_IMMUTABLE_FL);
	r(fsync(fd));
	r(close(fd));
	restore_flags();
	content("f");
}

/* The kernel has set the times already when it learns of the refusal, and sends them later. */
CASE("fsync: ok: after what an immutable file has refused")
{
	int fd = file("f", O_RDWR), i;

	add_flags("f", FS_IMMUTABLE_FL);
	for (i = 0; i < 2; i++) {
		usleep(50000); /* later than any clock of when it became so */
		r(fallocate(fd, 0, 0, 100));
		r(fsync(fd));
	}
	r(close(fd));
	restore_flags();
}

CASE("copy_file_range: EPERM: into an immutable file")
{
	int in = file("d/x", O_RDONLY), out = file("f", O_RDWR);

	add_flags("f", FS_IMMUTABLE_FL);
	n(copy_file_range(in, NULL, out, NULL, 1, 0));
	restore_flags();
}

CASE("mkdir: EPERM: in an immutable directory")
{
	add_flags("d", FS_IMMUTABLE_FL);
	r(mkdir("d/new", 0755));
	r(symlink("f", "d/new"));
	r(mknod("d/new", S_IFREG | 0644, 0));
	r(link("f", "d/new"));
	r(rename("f", "d/new"));
	restore_flags();
	show("d");
}

CASE("setxattr: EPERM: immutable, append-only")
{
	add_flags("f", FS_IMMUTABLE_FL);
	r(setxattr("f", "user.a", "1", 1, 0));
	restore_flags();
	add_flags("f", FS_APPEND_FL);
	r(setxattr("f", "user.a", "1", 1, 0));
	r(removexattr("f", "user.a"));
	restore_flags();
}

CASE("statx: ok: immutable, append-only, nodump are told")
{
	struct statx st;

	add_flags("f", FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL);
	MUST(!statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &st));
	say("%llx", (unsigned long long)st.stx_attributes &
			    (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP));
	restore_flags();
}

CASE("fcntl(F_SETFL): EPERM: O_NOATIME, a file of another")
{
	int fd = file("f", O_RDONLY);

	r(fcntl(fd, F_SETFL, O_NOATIME));
	become(1000);
	fd = file("f", O_RDONLY);
	r(fcntl(fd, F_SETFL, O_NOATIME));
}

ROW("fcntl(F_NOTIFY): ENOTDIR: a file", fcntl(file("f", O_RDONLY), F_NOTIFY, DN_MODIFY))
ROW("fcntl(F_SETLK): EFAULT: a bad address", fcntl(file("f", O_RDWR), F_SETLK, bad_ptr))

/* ---- waiting, and a signal ---- */

static void on_signal(int signo) {}

static void signal_soon(void)
{
	const struct sigaction action = {.sa_handler = on_signal};
	pid_t parent = getpid(), pid;
	int i;

	MUST(!sigaction(SIGUSR1, &action, NULL));
	pid = fork();
	MUST(pid >= 0);
	/* Again and again: the first may come before the call. */
	for (i = 0; !pid && i < 500; i++) {
		usleep(20000);
		kill(parent, SIGUSR1);
	}
	if (!pid)
		_exit(0);
}

CASE("flock: EINTR: a signal while it waits")
{
	MUST(!flock(file("f", O_RDWR), LOCK_EX));
	signal_soon();
	r(flock(file("f", O_RDWR), LOCK_EX));
}

CASE("fcntl(F_SETLKW): EINTR: a signal while it waits")
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};

	MUST(!fcntl(file("f", O_RDWR), F_OFD_SETLK, &l));
	signal_soon();
	r(fcntl(file("f", O_RDWR), F_OFD_SETLKW, &l));
}

CASE("open: EINTR: a fifo that nobody reads, and a signal")
{
	signal_soon();
	r(open("p", O_WRONLY));
}

ROW("read: EAGAIN: an empty fifo, O_NONBLOCK", read(file("p", O_RDWR | O_NONBLOCK), buf, 1))

/* ---- descriptors ---- */

CASE("close: EBADF: twice")
{
	int fd = file("f", O_RDWR);

	r(close(fd));
	r(close(fd));
}

ROW("dup: EBADF: a bad descriptor", dup(-1))
ROW("copy_file_range: EFBIG: to the greatest offset",
    copy_file_range(file("f", O_RDONLY), &(off_t){0}, file("d/x", O_RDWR), &(off_t){INT64_MAX - 3},
		    10, 0))
ROW("sendfile: EFAULT: an offset at a bad address",
    syscall(SYS_sendfile, file("d/x", O_RDWR), file("f", O_RDONLY), bad_ptr, 5))
ROW("mincore: EINVAL: an address that is no multiple of a page",
    mincore((char *)mmap(NULL, 4096, PROT_READ, MAP_SHARED, file("f", O_RDONLY), 0) + 1, 1,
	    (unsigned char *)buf))

CASE("msync: EBUSY: MS_INVALIDATE of locked pages")
{
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file("f", O_RDWR), 0);

	MUST(p != MAP_FAILED && !mlock(p, 4096));
	r(msync(p, 4096, MS_INVALIDATE));
}

CASE("mremap: ok: a larger and a moved mapping of a file")
{
	int fd = file("f", O_RDWR);
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *q;

	MUST(!ftruncate(fd, 8192) && pwrite(fd, "end", 3, 8189) == 3);
	q = mremap(p, 4096, 8192, MREMAP_MAYMOVE);
	MUST(q != MAP_FAILED);
	say("%.3s", q + 8189);
	q[4096] = 'q';
	n(pread(fd, buf, 1, 4096));
	say("%.1s", buf);
}

/* ---- attributes ---- */

CASE("listxattr: ERANGE: a buffer too small")
{
	MUST(!setxattr("f", "user.a", "1", 1, 0));
	n(listxattr("f", buf, 6));
	n(listxattr("f", buf, 7));
}

/* More than 64 KiB of names, which no call can take. */
CASE("listxattr: ok: more names than fit into a list")
{
	char name[260];
	int i, made = 0;

	for (i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "user.%0245d", i);
		made += !setxattr("f", name, "", 0, 0);
	}
	say("%s", made == 300 ? "made" : "full");
	say("%s", listxattr("f", NULL, 0) < 0 ? errno_name(errno) : "ok");
	say("%s", listxattr("f", buf, 100) < 0 ? errno_name(errno) : "ok");
	say("%s", listxattr("f", buf, sizeof(buf)) < 0 ? errno_name(errno) : "ok");
	r(removexattr("f", name));
}

/* ---- mounts ---- */

/* The rest of the process sees mounts of its own. */
static void own_mounts(void)
{
	MUST(!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

CASE("unlink: EBUSY: something is mounted on the file")
{
	own_mounts();
	MUST(!mount("d/x", "f", NULL, MS_BIND, NULL));
	r(unlink("f"));
	r(rename("f", "g"));
	r(rename("l", "f"));
	content("f");
	MUST(!umount("f"));
	content("f");
}

CASE("rmdir: EBUSY: something is mounted on the directory")
{
	own_mounts();
	MUST(!mount("d", "e", NULL, MS_BIND, NULL));
	r(rmdir("e"));
	r(access("e/x", F_OK));
	r(umount2("e", 0));
	r(rmdir("e"));
}

CASE("umount: EBUSY: a file is open")
{
	int fd;

	own_mounts();
	MUST(!mount("d", "e", NULL, MS_BIND, NULL));
	fd = file("e/x", O_RDONLY);
	r(umount2("e", 0));
	close(fd);
	r(umount2("e", 0));
}

ROW("umount: EINVAL: a directory where nothing is mounted", umount2("d", 0))
USER_ROW("umount: EPERM: as a user", umount2(".", 0))
ROW("mount: EINVAL: a remount where nothing is mounted", mount(NULL, "d", NULL, MS_REMOUNT, NULL))
ROW("mount: ENOTBLK: a device that is a file", mount("f", "d", "ext4", 0, NULL))
ROW("mount: ENOTDIR: on a file, a directory", mount("d", "f", NULL, MS_BIND, NULL))

CASE("mmap: EPERM: to execute, mounted noexec")
{
	int fd;

	own_mounts();
	MUST(!mount("d", "e", NULL, MS_BIND, NULL));
	MUST(!mount(NULL, "e", NULL, MS_BIND | MS_REMOUNT | MS_NOEXEC | MS_NODEV, NULL));
	fd = file("e/x", O_RDONLY);
	r(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0);
	MUST(!mknod("d/chr", S_IFCHR | 0666, 0x103));
	r(open("e/chr", O_RDONLY));
}

CASE("mount_setattr: ok: owners are mapped")
{
	struct {
		uint64_t set, clear, propagation, userns;
	} attr = {.set = 0x100000};
	char map[] = "0 70000 1000";
	int fds[2], tree, fd;
	pid_t pid;
	char path[64], c;

	own_mounts();
	MUST(!pipe(fds));
	pid = fork();
	if (!pid) {
		MUST(!unshare(CLONE_NEWUSER) && write(fds[1], "x", 1) == 1);
		pause();
	}
	MUST(read(fds[0], &c, 1) == 1);
	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	MUST(write(file(path, O_WRONLY), map, strlen(map)) > 0);
	snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
	MUST(write(file(path, O_WRONLY), map, strlen(map)) > 0);
	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	fd = file(path, O_RDONLY);
	attr.userns = (uint64_t)fd;
	tree = (int)syscall(428, AT_FDCWD, "d", 1 /* OPEN_TREE_CLONE */);
	MUST(tree >= 0);
	r(syscall(442, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)));
	kill(pid, SIGKILL);
}

/* ---- fanotify ---- */

CASE("fanotify_mark: ok: events of a file, by descriptor")
{
	int fan = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY), fd;
	struct fanotify_event_metadata *e = (void *)buf;
	char c;

	MUST(fan >= 0);
	r(fanotify_mark(fan, FAN_MARK_ADD, FAN_OPEN | FAN_MODIFY, AT_FDCWD, "f"));
	fd = file("f", O_RDWR);
	MUST(write(fd, "a", 1) == 1);
	MUST(read(fan, buf, sizeof(buf)) >= (ssize_t)sizeof(*e));
	say("%llx", (unsigned long long)e->mask);
	n(pread(e->fd, &c, 1, 0));
	r(fanotify_mark(fan, FAN_MARK_REMOVE, FAN_OPEN | FAN_MODIFY, AT_FDCWD, "f"));
	r(fanotify_mark(fan, FAN_MARK_REMOVE, FAN_OPEN, AT_FDCWD, "f"));
	r(fanotify_mark(fan, FAN_MARK_ADD | FAN_MARK_ONLYDIR, FAN_OPEN, AT_FDCWD, "f"));
	r(fanotify_mark(fan, FAN_MARK_ADD, 0, AT_FDCWD, "f"));
	r(fanotify_mark(-1, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "f"));
	r(fanotify_mark(fan, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "none"));
}

CASE("fanotify_mark: ok: events of a directory, by handles")
{
	int fan = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_NONBLOCK, O_RDONLY);

	MUST(fan >= 0);
	r(fanotify_mark(fan, FAN_MARK_ADD, FAN_CREATE | FAN_DELETE | FAN_MOVE, AT_FDCWD, "d"));
	close(file("d/new", O_CREAT | O_RDWR));
	n(read(fan, buf, sizeof(buf)) > 0);
}

CASE("fanotify_mark: ok: all files, by descriptors and by handles")
{
	int fds = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY);
	int handles = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_NONBLOCK, O_RDONLY);

	MUST(fds >= 0 && handles >= 0);
	r(fanotify_mark(fds, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_MODIFY, AT_FDCWD, "."));
	r(fanotify_mark(fds, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_MODIFY, AT_FDCWD, "."));
	r(fanotify_mark(handles, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_MODIFY, AT_FDCWD, "."));
	r(fanotify_mark(handles, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_CREATE, AT_FDCWD, "."));
}

CASE("fanotify_mark: ok: permission to open is asked for")
{
	int fan = fanotify_init(FAN_CLASS_CONTENT, O_RDONLY);
	struct fanotify_event_metadata *e = (void *)buf;
	struct fanotify_response answer = {.response = FAN_DENY};
	int status;
	pid_t pid;

	MUST(fan >= 0);
	r(fanotify_mark(fan, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "f"));
	pid = fork();
	if (!pid)
		_exit(open("f", O_RDONLY) < 0 ? errno : 0);
	MUST(read(fan, buf, sizeof(buf)) >= (ssize_t)sizeof(*e));
	answer.fd = e->fd;
	MUST(write(fan, &answer, sizeof(answer)) == sizeof(answer));
	MUST(waitpid(pid, &status, 0) == pid);
	say("%s", errno_name(WEXITSTATUS(status)));
}

/* ---- swap and accounting ---- */

CASE("swapon: ok: a file that is swap")
{
	/* The last ten bytes of its first page, version 1 and the last page in front. */
	uint32_t head[] = {1, 15, 0};
	int fd = file("swap", O_CREAT | O_RDWR);

	MUST(!fchmod(fd, 0600));
	MUST(pwrite(fd, memset(buf, 0, sizeof(buf)), sizeof(buf), 0) == sizeof(buf));
	MUST(pwrite(fd, head, sizeof(head), 1024) == sizeof(head));
	MUST(pwrite(fd, "SWAPSPACE2", 10, 4086) == 10 && !fsync(fd));
	r(swapon("swap", 0));
	swapoff("swap");
}

USER_ROW("swapon: EPERM: as a user", swapon("f", 0))
ROW("acct: EISDIR: a directory", acct("d"))
ROW("acct: ENOENT: no such name", acct("none"))
USER_ROW("acct: EPERM: as a user", acct("f"))
ROW_IN(PHASE_RO, "acct: EROFS: a read-only mount", acct("f"))

/* ---- ioctls with pages of their own ---- */

CASE("ioctl(FICLONERANGE): EOPNOTSUPP: a file")
{
	struct file_clone_range range = {.src_fd = file("d/x", O_RDONLY)};

	r(ioctl(file("f", O_RDWR), FICLONERANGE, &range));
}

static long dedupe(int src, int dst)
{
	struct file_dedupe_range *range = (void *)memset(buf, 0, 200);

	range->src_length = 1;
	range->dest_count = 1;
	range->info[0].dest_fd = dst;
	if (ioctl(src, FIDEDUPERANGE, range))
		return -1;
	errno = -range->info[0].status;
	return range->info[0].status < 0 ? -1 : 0;
}

CASE("ioctl(FIDEDUPERANGE): EOPNOTSUPP: a file")
{
	r(dedupe(file("f", O_RDONLY), file("d/x", O_RDWR)));
	r(dedupe(dir("d"), file("d/x", O_RDWR)));
	r(dedupe(file("f", O_RDONLY), dir("d")));
}

ROW("ioctl(FS_IOC_GETFLAGS): EFAULT: a bad address",
    ioctl(file("f", O_RDONLY), FS_IOC_GETFLAGS, bad_ptr))
ROW("ioctl(FS_IOC_GETFSLABEL): EFAULT: a bad address", ioctl(dir("."), FS_IOC_GETFSLABEL, bad_ptr))
ROW("ioctl(FS_IOC_FSSETXATTR): EINVAL: an extent size for a file that has none",
    ioctl(file("f", O_RDONLY), FS_IOC_FSSETXATTR,
	  &(struct fsxattr){.fsx_xflags = FS_XFLAG_EXTSZINHERIT}))
USER_ROW("ioctl(FS_IOC_SETFSLABEL): EPERM: as a user",
	 ioctl(dir("."), FS_IOC_SETFSLABEL, memcpy(buf, "label", 6)))

CASE("ioctl(FS_IOC_SETFSLABEL): EINVAL: one that is too long")
{
	memset(buf, 'x', FSLABEL_MAX);
	r(ioctl(dir("."), FS_IOC_SETFSLABEL, buf));
}

CASE("ioctl(FS_IOC_SETFSLABEL): ok: set and read")
{
	r(ioctl(dir("."), FS_IOC_SETFSLABEL, memcpy(buf, "a label", 8)));
	r(ioctl(dir("."), FS_IOC_GETFSLABEL, memset(buf, 0, FSLABEL_MAX)));
	say("%s", buf);
	r(ioctl(dir("."), FS_IOC_SETFSLABEL, memset(buf, 0, FSLABEL_MAX)));
}

/* struct fsuuid2 and its ioctl are newer than Debian 12's headers. */
ROW("ioctl(FS_IOC_GETFSUUID): ok: the UUID", ioctl(dir("."), _IOR(0x15, 0, char[17]), buf))
ROW("ioctl(FS_IOC_GETFSSYSFSPATH): ok: its place in /sys/fs",
    ioctl(dir("."), _IOR(0x15, 1, char[129]), buf))

CASE("ioctl(FS_IOC_GETFSMAP): ok: what lies where")
{
	struct fsmap_head head = {0};

	memset(&head.fmh_keys[1], 0xff, sizeof(head.fmh_keys[1]));
	memset(head.fmh_keys[1].fmr_reserved, 0, sizeof(head.fmh_keys[1].fmr_reserved));
	r(ioctl(dir("."), FS_IOC_GETFSMAP, &head));
	n(head.fmh_entries > 0);
}

CASE("ioctl(FIFREEZE): ok: frozen, and thawed")
{
	int fd = dir(".");

	r(ioctl(fd, FIFREEZE, 0));
	r(ioctl(fd, FITHAW, 0));
}

USER_ROW("ioctl(FIFREEZE): EPERM: as a user", ioctl(dir("."), FIFREEZE, 0))

/* ---- a full filesystem; PHASE_FULL: cases in the order of their lines ---- */

enum maker { MKDIR, MKNOD, SYMLINK, LINK, SETXATTR };

static long make_one(enum maker how, const char *name)
{
	switch (how) {
	case MKDIR:
		return mkdir(name, 0755);
	case MKNOD:
		return mknod(name, S_IFIFO | 0644, 0);
	case SYMLINK:
		return symlink(memset(buf, 's', 4000), name);
	case LINK:
		return link("first", name);
	default:
		if (mknod(name, S_IFREG | 0644, 0))
			return -1;
		return setxattr(name, "user.a", memset(buf, 'v', 2000), 2000, 0);
	}
}

/* All that a filesystem filled with data has room for, by calls of one kind: the last one's errno.
 */
static void until_full(enum maker how)
{
	static char data[1 << 20];
	int fd = file("big", O_CREAT | O_RDWR | O_DSYNC), i;
	char name[256];
	long ret = 0;

	noise(data, sizeof(data));
	put("first", "", 0644);
	MUST(!mkdir("x", 0755));
	for (i = 0; i < 200; i++)
		if (pwrite(fd, data, sizeof(data), (off_t)i << 20) != sizeof(data))
			break;
	close(fd);
	for (i = 0; i < 60000 && !ret; i++) {
		snprintf(name, sizeof(name), "x/%0240d", i);
		ret = make_one(how, name);
	}
	memset(buf, 0, sizeof(buf));
	r(ret);
	if (system("rm -rf x big first"))
		say("rm-failed");
	sync();
}

CASE_IN(PHASE_FULL, "mkdir: ENOSPC: until there is no room")
{
	until_full(MKDIR);
}

CASE_IN(PHASE_FULL, "mknod: ENOSPC: until there is no room")
{
	until_full(MKNOD);
}

CASE_IN(PHASE_FULL, "symlink: ENOSPC: until there is no room")
{
	until_full(SYMLINK);
}

CASE_IN(PHASE_FULL, "link: ENOSPC: until there is no room")
{
	until_full(LINK);
}

CASE_IN(PHASE_FULL, "setxattr: ENOSPC: until there is no room")
{
	until_full(SETXATTR);
}

/* Whoever neither syncs nor looks at write(2) hears of it from close(2) at the latest. */
CASE_IN(PHASE_FULL, "close: ENOSPC: what was written does not fit")
{
	static char data[1 << 20];
	int fd = file("big", O_CREAT | O_RDWR), i;
	long ret = 0;

	noise(data, sizeof(data));
	for (i = 0; i < 200 && ret >= 0; i++)
		ret = pwrite(fd, data, sizeof(data), (off_t)i << 20);
	say("write=%s", ret < 0 ? errno_name(errno) : "ok");
	say("close=%s", close(fd) ? errno_name(errno) : "ok");
	unlink("big");
	sync();
}
