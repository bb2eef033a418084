// SPDX-License-Identifier: LGPL-2.1-or-later
/* chmod(2), chown(2), utimensat(2), stat(2), statx(2), access(2); set-ID bits and directories. */
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "calls.h"

#ifndef UTIME_NOW
#define UTIME_NOW  ((1L << 30) - 1L)
#define UTIME_OMIT ((1L << 30) - 2L)
#endif

static long faccessat2_(int dirfd, const char *path, int what, int flags)
{
	return syscall(SYS_faccessat2, dirfd, path, what, flags);
}

/* ---- chmod ---- */

CASE("chmod: ok: mode and times")
{
	watch("f");
	r(chmod("f", 0640));
	changed("f");
	show("f");
}

CASE("chmod: ok: to what it is")
{
	watch("f");
	r(chmod("f", 0644));
	changed("f");
}

CASE("chmod: ok: all bits, file and directory")
{
	r(chmod("f", 07777));
	r(chmod("d", 07777));
	mode("f");
	mode("d");
	r(chmod("f", 0));
	mode("f");
}

CASE("chmod: ok: through a link")
{
	r(chmod("l", 0600));
	mode("f");
	mode("l");
}

USER_ROW("chmod: EPERM: a file of another", chmod("f", 0600))
ROW("fchmod: EBADF: a bad descriptor", fchmod(-1, 0600))
ROW("fchmodat: EINVAL: an unknown flag", fchmodat(AT_FDCWD, "f", 0600, 0x4000))
ROW("fchmodat: ENOTDIR: relative to a file", fchmodat(file("f", O_RDONLY), "x", 0600, 0))

CASE("chmod: ok: set-group-ID by the owner, of a group not his own, goes")
{
	MUST(!chown("f", 1000, 1001));
	become(1000);
	r(chmod("f", 02755));
	mode("f");
}

CASE("chmod: ok: set-group-ID by the owner, of his group")
{
	MUST(!chown("f", 1000, 1001));
	become_with(1000, 1001);
	r(chmod("f", 02755));
	mode("f");
}

CASE("chmod: ok: sticky bit of a file, by its owner")
{
	MUST(!chown("f", 1000, 1000));
	become(1000);
	r(chmod("f", 01755));
	mode("f");
}

/* ---- chown ---- */

CASE("chown: ok: owner and group, times")
{
	watch("f");
	r(chown("f", 1000, 1001));
	changed("f");
	show("f");
}

CASE("chown: ok: -1 changes nothing, but ctime")
{
	watch("f");
	r(chown("f", (uid_t)-1, (gid_t)-1));
	changed("f");
	show("f");
}

CASE("chown: ok: ids of 32 bits")
{
	r(chown("f", 4000000000U, 4294967294U));
	show("f");
}

CASE("chown: ok: as root, clears set-user-ID and set-group-ID")
{
	put("suid", "", 06777);
	r(chown("suid", 1000, 1000));
	show("suid");
}

CASE("chown: ok: as root, set-group-ID without group execution stays")
{
	put("sgid", "", 02766);
	r(chown("sgid", 1000, 1000));
	show("sgid");
}

CASE("chown: ok: of a directory, set-ID bits stay")
{
	MUST(!chmod("d", 06777));
	r(chown("d", 1000, 1000));
	show("d");
}

CASE("chown: ok: by the owner to a group of his")
{
	put("suid", "", 06777);
	MUST(!chown("suid", 1000, 1000) && !chmod("suid", 06777));
	become_with(1000, 1001);
	r(chown("suid", (uid_t)-1, 1001));
	show("suid");
}

CASE("chown: ok: by the owner, -1 and -1")
{
	MUST(!chown("f", 1000, 1000) && !chmod("f", 06777));
	become(1000);
	r(chown("f", (uid_t)-1, (gid_t)-1));
	show("f");
}

CASE("chown: EPERM: by the owner to another owner")
{
	MUST(!chown("f", 1000, 1000));
	become(1000);
	r(chown("f", 1001, (gid_t)-1));
	r(chown("f", 1000, 1001));
	r(chown("f", 1000, 1000));
}

USER_ROW("chown: EPERM: a file of another", chown("f", 1000, 1000))
ROW("fchown: EBADF: a bad descriptor", fchown(-1, 0, 0))
ROW("fchownat: EINVAL: an unknown flag", fchownat(AT_FDCWD, "f", 0, 0, 0x4000000))
ROW("fchownat: ok: AT_EMPTY_PATH", fchownat(file("f", O_PATH), "", 1000, 1000, AT_EMPTY_PATH))
ROW("fchownat: ENOENT: an empty path without AT_EMPTY_PATH", fchownat(dir("d"), "", 0, 0, 0))

/* ---- who clears set-user-ID ---- */

CASE("write: ok: by another clears set-user-ID and set-group-ID")
{
	int fd;

	put("suid", "text", 06777);
	become(1000);
	fd = file("suid", O_RDWR);
	n(write(fd, "abc", 3));
	show("suid");
}

CASE("write: ok: by the owner clears them too")
{
	int fd;

	put("suid", "text", 06777);
	MUST(!chown("suid", 1000, 1000) && !chmod("suid", 06777));
	become(1000);
	fd = file("suid", O_RDWR);
	n(write(fd, "abc", 3));
	show("suid");
	close(fd);
	show("suid");
}

CASE("write: ok: by root leaves them")
{
	put("suid", "text", 06777);
	n(write(file("suid", O_RDWR), "abc", 3));
	show("suid");
}

CASE("write: ok: set-group-ID without group execution stays")
{
	put("sgid", "text", 02767);
	become(1000);
	n(write(file("sgid", O_RDWR), "abc", 3));
	show("sgid");
}

CASE("write: ok: O_DIRECT by another clears set-user-ID")
{
	void *p = aligned_alloc(4096, 4096);

	put("suid", "text", 06777);
	become(1000);
	memset(p, 'a', 4096);
	n(write(file("suid", O_RDWR | O_DIRECT), p, 4096));
	show("suid");
}

CASE("write: ok: mode set by chmod after a write stays")
{
	int fd;

	put("suid", "text", 0777);
	fd = file("suid", O_RDWR);
	n(write(fd, "abc", 3));
	MUST(!fchmod(fd, 06777));
	r(fsync(fd));
	show("suid");
}

/* ---- directories with set-group-ID ---- */

CASE("mkdir: ok: in a set-group-ID directory, group and bit are inherited")
{
	MUST(!chown("d", 0, 1001) && !chmod("d", 02777));
	become(1000);
	umask(022);
	r(mkdir("d/sub", 0777));
	r(mknod("d/reg", S_IFREG | 0777, 0));
	r(symlink("x", "d/sym"));
	r(mknod("d/fifo", S_IFIFO | 0666, 0));
	show("d/sub");
	show("d/reg");
	show("d/sym");
	show("d/fifo");
}

CASE("open: ok: set-group-ID asked for in a set-group-ID directory of a foreign group")
{
	MUST(!chown("d", 0, 1001) && !chmod("d", 02777));
	become(1000);
	umask(0);
	r(open("d/new", O_CREAT | O_RDWR, 02775));
	r(open("d/new2", O_CREAT | O_RDWR, 02765));
	show("d/new");
	show("d/new2");
}

CASE("open: ok: set-group-ID asked for in a set-group-ID directory of one's group")
{
	MUST(!chown("d", 0, 1001) && !chmod("d", 02777));
	become_with(1000, 1001);
	umask(0);
	r(open("d/new", O_CREAT | O_RDWR, 02775));
	show("d/new");
}

CASE("mkdir: ok: in a sticky directory, the bit is not inherited")
{
	MUST(!chmod("d", 01777));
	r(mkdir("d/sub", 0755));
	show("d/sub");
}

CASE("rename: ok: into a set-group-ID directory, the group stays")
{
	MUST(!chown("d", 0, 1001) && !chmod("d", 02777));
	r(rename("f", "d/f"));
	show("d/f");
}

/* ---- times ---- */

static void set_times(const char *path, int64_t asec, long ansec, int64_t msec, long mnsec)
{
	struct timespec ts[2] = {{.tv_sec = asec, .tv_nsec = ansec},
				 {.tv_sec = msec, .tv_nsec = mnsec}};
	struct stat st;

	if (utimensat(AT_FDCWD, path, ts, 0) || lstat(path, &st))
		r(-1);
	else
		say("%lld.%09ld %lld.%09ld", (long long)st.st_atim.tv_sec, st.st_atim.tv_nsec,
		    (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

#define MIN_SEC (-2147483648LL)

CASE("utimensat: ok: to the nanosecond")
{
	set_times("f", 1000000000, 123456789, 1000000000, 999999999);
}

CASE("utimensat: ok: nanoseconds of the first and of the last second of ext4")
{
	set_times("f", MIN_SEC, 0, MIN_SEC, 999999999);
	set_times("f", 15032385535LL, 1, 15032385535LL, 999999999);
}

CASE("utimensat: ok: 1901, 1969, 1970")
{
	set_times("f", MIN_SEC, 0, MIN_SEC + 1, 999999999);
	set_times("f", -1, 5, 0, 0);
}

CASE("utimensat: ok: 2038, 2106, 2446")
{
	set_times("f", 2147483647, 1, 2147483648LL, 1);
	set_times("f", 4294967295LL, 1, 4294967296LL, 1);
	set_times("f", 15032385534LL, 1, 15032385534LL, 999999999);
}

CASE("utimensat: ok: 2447 to 2486")
{
	set_times("f", 15032385536LL, 0, 16299999999LL, 0);
}

CASE("utimensat: ok: times before 1901 and behind all are clamped")
{
	set_times("f", MIN_SEC - 1, 0, MIN_SEC - 100000000000LL, 0);
	set_times("f", 1LL << 40, 0, INT64_MAX, 0);
}

CASE("utimensat: ok: NOW and OMIT")
{
	const struct timespec now_omit[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
	const struct timespec omit_now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
	const struct timespec omit[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};

	watch("f");
	r(utimensat(AT_FDCWD, "f", now_omit, 0));
	changed("f");
	watch("f");
	r(utimensat(AT_FDCWD, "f", omit_now, 0));
	changed("f");
	watch("f");
	r(utimensat(AT_FDCWD, "f", omit, 0));
	changed("f");
	watch("f");
	r(utimensat(AT_FDCWD, "f", NULL, 0));
	changed("f");
}

CASE("utimensat: EINVAL: a bad number of nanoseconds")
{
	const struct timespec bad[2] = {{.tv_nsec = 1000000000}, {.tv_nsec = 0}};
	const struct timespec bad2[2] = {{.tv_nsec = 0}, {.tv_nsec = -1}};

	r(utimensat(AT_FDCWD, "f", bad, 0));
	r(utimensat(AT_FDCWD, "f", bad2, 0));
}

CASE("utimensat: ok: of a link itself")
{
	const struct timespec ts[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
	struct stat st;

	r(utimensat(AT_FDCWD, "l", ts, AT_SYMLINK_NOFOLLOW));
	lstat("l", &st);
	say("%ld %ld", (long)st.st_atim.tv_sec, (long)st.st_mtim.tv_sec);
	stat("l", &st);
	say("%s", st.st_mtim.tv_sec == 2000 ? "followed" : "not-followed");
}

CASE("utimensat: EPERM: times of another's file")
{
	const struct timespec ts[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};

	MUST(!chmod("f", 0666));
	become(1000);
	r(utimensat(AT_FDCWD, "f", ts, 0));
	r(utimensat(AT_FDCWD, "f", NULL, 0));
}

USER_ROW("utimensat: EACCES: now, a file that may not be written",
	 utimensat(AT_FDCWD, "f", NULL, 0))
ROW("utimensat: EINVAL: an unknown flag", utimensat(AT_FDCWD, "f", NULL, 0x4000))
ROW("utimensat: EFAULT: times at a bad address", utimensat(AT_FDCWD, "f", bad_ptr, 0))
ROW("futimens: EBADF: a bad descriptor", futimens(-1, NULL))
ROW("futimens: ok: open to read", futimens(file("f", O_RDONLY), NULL))

CASE("utimensat: ok: stays over a write that was made before")
{
	const struct timespec ts[2] = {{.tv_sec = 1000}, {.tv_sec = 2000, .tv_nsec = 7}};
	struct stat st;
	int fd = file("f", O_RDWR);

	MUST(write(fd, "abc", 3) == 3);
	r(futimens(fd, ts));
	fsync(fd);
	close(fd);
	sync();
	MUST(!stat("f", &st));
	say("%ld.%ld", (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

CASE("stat: ok: atime of relatime")
{
	const struct timespec old[2] = {{.tv_sec = 2000}, {.tv_sec = 1000}};
	struct stat st;
	char c;
	int fd = file("f", O_RDONLY);

	/* Read after the last change, but longer than a day ago. */
	MUST(!futimens(fd, old));
	MUST(read(fd, &c, 1) == 1 && !fstat(fd, &st));
	say("%s", st.st_atim.tv_sec == 2000 ? "old" : "new");
}

/* Does reading it, past the page cache, change its atime? */
static void read_direct(const char *path, int flags)
{
	int fd = file(path, O_RDONLY | O_DIRECT | flags);
	char *room = aligned_alloc(4096, 4096);
	struct stat a, b;

	MUST(room && !stat(path, &a));
	wait_for_tick();
	MUST(pread(fd, room, 4096, 0) == 4096 && !stat(path, &b));
	say("%s", a.st_atim.tv_sec == b.st_atim.tv_sec && a.st_atim.tv_nsec == b.st_atim.tv_nsec
			  ? "old"
			  : "new");
	close(fd);
	free(room);
}

static int file_on_device(const char *path)
{
	int fd = file(path, O_RDWR | O_CREAT | O_APPEND);
	static char text[8192];

	MUST(write(fd, text, sizeof(text)) == sizeof(text) && !fsync(fd));
	wait_for_tick();
	return fd;
}

CASE("read: ok: O_DIRECT and O_NOATIME changes no time")
{
	close(file_on_device("new"));
	watch("new");
	read_direct("new", O_NOATIME);
	changed("new");
	read_direct("new", 0);
	changed("new");
}

static void read_uncached(int flags)
{
	int fd = file_on_device("new");
	char c;

	MUST(!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	watch("new");
	MUST(pread(file("new", O_RDONLY | flags), &c, 1, 0) == 1);
	changed("new");
}

CASE("read: ok: O_NOATIME of what is not in the cache changes no time")
{
	read_uncached(O_NOATIME);
}

CASE("read: ok: of what is not in the cache changes atime alone")
{
	read_uncached(0);
}

CASE("write: ok: O_APPEND changes mtime and ctime, not atime")
{
	int fd = file("f", O_WRONLY | O_APPEND);

	watch("f");
	n(write(fd, "abc", 3));
	changed("f");
	r(fsync(fd));
	changed("f");
	n(write(fd, "abc", 3));
	close(fd);
	changed("f");
	show("f");
}

CASE("write: ok: O_APPEND and O_DIRECT changes mtime and ctime, not atime")
{
	int fd;

	close(file_on_device("new"));
	fd = file("new", O_WRONLY | O_APPEND | O_DIRECT);
	watch("new");
	n(write(fd, memset(aligned_alloc(4096, 4096), 0, 4096), 4096));
	changed("new");
	r(fsync(fd));
	changed("new");
	show("new");
}

CASE("read: ok: O_DIRECT, relatime: twice, and behind a write that is synced")
{
	int fd = file_on_device("new");

	read_direct("new", 0);
	read_direct("new", 0);
	MUST(write(fd, "abc", 3) == 3 && !fsync(fd));
	read_direct("new", 0);
	read_direct("new", 0);
	MUST(!fsync(fd));
	read_direct("new", 0);
}

CASE("read: ok: O_DIRECT, relatime: behind a write, closed")
{
	int fd = file_on_device("new");

	read_direct("new", 0);
	MUST(write(fd, "abc", 3) == 3);
	close(fd);
	read_direct("new", 0);
	read_direct("new", 0);
}

CASE("read: ok: O_DIRECT, relatime: behind chmod")
{
	close(file_on_device("new"));
	read_direct("new", 0);
	MUST(!chmod("new", 0600));
	read_direct("new", 0);
	read_direct("new", 0);
}

/* ---- stat, statx ---- */

ROW("fstat: EBADF: a bad descriptor", fstat(-1, (struct stat *)path4096))
ROW("fstat: EFAULT: a bad address", fstat(file("f", O_RDONLY), bad_ptr))
ROW("fstatat: EINVAL: an unknown flag", fstatat(AT_FDCWD, "f", (struct stat *)path4096, 0x4000000))
ROW("statx: EINVAL: an unknown flag",
    statx(AT_FDCWD, "f", 0x4000000, STATX_ALL, (struct statx *)path4096))
ROW("statx: EINVAL: a reserved bit of the mask",
    statx(AT_FDCWD, "f", 0, 0x80000000U, (struct statx *)path4096))
ROW("statx: EINVAL: both kinds of synchronising",
    statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_ALL,
	  (struct statx *)path4096))

CASE("fstatat: ok: AT_EMPTY_PATH")
{
	struct stat st;

	r(fstatat(file("f", O_PATH), "", &st, AT_EMPTY_PATH));
	r(fstatat(AT_FDCWD, "", &st, AT_EMPTY_PATH));
}

CASE("stat: ok: types")
{
	struct stat st;
	const char *const names[] = {"f", "d", "l", "p"};
	size_t i;

	for (i = 0; i < 4; i++) {
		MUST(!lstat(names[i], &st));
		say("%o", st.st_mode & S_IFMT);
	}
	show("l");
}

CASE("stat: ok: block size and blocks")
{
	struct stat st;

	MUST(!stat("f", &st));
	say("%ld", (long)st.st_blksize);
	fill("new", 1 << 20, 'a');
	sync();
	MUST(!stat("new", &st));
	say("%ld", (long)st.st_blocks);
}

CASE("stat: ok: one device for all, another for each inode number")
{
	struct stat a, b, c, up;

	MUST(!stat("f", &a) && !stat("d", &b) && !stat("d/x", &c) && !stat("..", &up));
	say("%d %d", a.st_dev == b.st_dev && b.st_dev == c.st_dev && c.st_dev == up.st_dev,
	    a.st_ino != b.st_ino && b.st_ino != c.st_ino && a.st_ino != c.st_ino);
}

CASE("statx: ok: birth time, and it stays")
{
	struct statx a, b;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	MUST(!statx(AT_FDCWD, "f", 0, STATX_ALL, &a));
	say("%s", a.stx_mask & STATX_BTIME ? "btime" : "no-btime");
	say("%s", a.stx_btime.tv_sec > now.tv_sec - 100 && a.stx_btime.tv_sec <= now.tv_sec
			  ? "near"
			  : "far");
	put("f", "other", 0600);
	MUST(!rename("f", "d/f") && !statx(AT_FDCWD, "d/f", 0, STATX_ALL, &b));
	say("%s",
	    a.stx_btime.tv_sec == b.stx_btime.tv_sec && a.stx_btime.tv_nsec == b.stx_btime.tv_nsec
		    ? "same"
		    : "other");
}

CASE("statx: ok: mount id, attributes of the root")
{
	struct statx a;

	MUST(!statx(AT_FDCWD, top_dir, 0, STATX_ALL | STATX_MNT_ID, &a));
	say("%s", a.stx_mask & STATX_MNT_ID ? "id" : "no-id");
	say("%s", a.stx_attributes & STATX_ATTR_MOUNT_ROOT ? "root" : "no-root");
}

CASE("statx: ok: alignment for O_DIRECT")
{
	struct statx a;

	MUST(!statx(AT_FDCWD, "f", 0, STATX_DIOALIGN, &a));
	say("%s", a.stx_mask & STATX_DIOALIGN ? "told" : "not-told");
}

CASE("statx: ok: AT_STATX_FORCE_SYNC and DONT_SYNC see a write")
{
	struct statx a;
	int fd = file("f", O_RDWR);

	MUST(pwrite(fd, "abc", 3, 100) == 3);
	MUST(!statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC, STATX_ALL, &a));
	n((long)a.stx_size);
	MUST(pwrite(fd, "abc", 3, 200) == 3);
	MUST(!statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC, STATX_ALL, &a));
	n((long)a.stx_size);
}

/* ---- access ---- */

CASE("access: EACCES: each right of each class")
{
	static const mode_t modes[] = {0, 0100, 0200, 0400, 010, 020, 040, 01, 02, 04, 0700, 07};
	size_t i;
	int what;
	long mask;

	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		char name[20];

		snprintf(name, sizeof(name), "m%zu", i);
		put(name, "", modes[i]);
		MUST(!chown(name, i < 4 ? 1000 : 1001, i >= 4 && i < 7 ? 1000 : 1001));
	}
	become(1000);
	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		char name[20];

		snprintf(name, sizeof(name), "m%zu", i);
		mask = 0;
		for (what = 1; what < 8; what++)
			mask = mask << 1 | !access(name, what);
		say("%lx", mask);
	}
	r(access("m0", R_OK));
}

CASE("access: ok: root may all but execute what nobody may")
{
	MUST(!chmod("f", 0));
	r(access("f", R_OK | W_OK));
	r(access("f", X_OK));
	MUST(!chmod("d", 0));
	r(access("d", R_OK | W_OK | X_OK));
	r(access("d/x", R_OK));
}

ROW("access: EINVAL: an unknown right", access("f", 8))
ROW("faccessat2: EINVAL: an unknown flag", faccessat2_(AT_FDCWD, "f", R_OK, 0x4000))
ROW("faccessat2: ok: AT_EACCESS", faccessat2_(AT_FDCWD, "f", R_OK, AT_EACCESS))
ROW("faccessat2: ok: AT_SYMLINK_NOFOLLOW, a dangling link",
    faccessat2_(AT_FDCWD, "dang", F_OK, AT_SYMLINK_NOFOLLOW))
ROW("faccessat2: ok: AT_EMPTY_PATH", faccessat2_(file("f", O_PATH), "", R_OK, AT_EMPTY_PATH))
ROW("faccessat: EBADF: a bad descriptor", faccessat(-1, "f", R_OK, 0))

CASE("access: ok: by a group")
{
	MUST(!chown("f", 0, 1001) && !chmod("f", 0640));
	become_with(1000, 1001);
	r(access("f", R_OK));
	r(access("f", W_OK));
	r(open("f", O_RDONLY));
	r(open("f", O_RDWR));
}

ROW("chdir: ENOTDIR: a link to a file", chdir("l"))
ROW("fchdir: ENOTDIR: a file", fchdir(file("f", O_RDONLY)))
ROW("fchdir: EBADF: a bad descriptor", fchdir(-1))

CASE("chdir: EACCES: no search permission")
{
	MUST(!chmod("d", 0644));
	become(1000);
	r(chdir("d"));
	r(open("d", O_RDONLY));
	r(open("d/x", O_RDONLY));
}
