// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What a mount is needed for: what a filesystem still knows after one, a
 * read-only one, and a full one.
 */
#include <sys/file.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

#include "calls.h"

struct handle {
	struct file_handle h;
	char room[MAX_HANDLE_SZ];
};

/* ---- before and after ---- */

static void keep_handle(const char *path, const char *where)
{
	struct handle h;
	int fd = file(where, O_CREAT | O_WRONLY | O_TRUNC), mount_id;

	memset(&h, 0, sizeof(h));
	h.h.handle_bytes = MAX_HANDLE_SZ;
	MUST(!name_to_handle_at(AT_FDCWD, path, &h.h, &mount_id, 0));
	MUST(write(fd, &h, sizeof(h)) == sizeof(h));
	close(fd);
}

static int open_kept(const char *where, int flags)
{
	struct handle h;
	int fd = file(where, O_RDONLY);

	MUST(read(fd, &h, sizeof(h)) == sizeof(h));
	close(fd);
	return open_by_handle_at(dir("."), &h.h, flags);
}

CASE_IN(PHASE_BEFORE, "mount: ok: what is left behind")
{
	static const char *const types[] = {"fifo", "sock", "chr"};
	static const mode_t modes[] = {S_IFIFO | 0640, S_IFSOCK | 0755, S_IFCHR | 0600};
	struct timespec ts[2] = {{1000, 123456789}, {2000, 987654321}};
	struct timespec early[2] = {{-2147483648LL, 0}, {-1, 999999999}};
	struct timespec late[2] = {{15032385535LL, 0}, {4294967296LL, 5}};
	size_t i;
	int fd;

	for (i = 0; i < 3; i++)
		MUST(!mknod(types[i], modes[i], 0x103));
	fill("big", 100000, 'b');
	MUST(!link("big", "d/big2") && !chown("big", 4000000000U, 1001) && !chmod("big", 06751));
	MUST(!setxattr("big", "user.a", "value", 5, 0) && !setxattr("big", "trusted.a", "", 0, 0));
	fd = file("sparse", O_CREAT | O_RDWR);
	MUST(pwrite(fd, "abc", 3, 5 << 20) == 3 && !ftruncate(fd, 10 << 20));
	close(fd);
	put("early", "", 0644);
	put("late", "", 0644);
	put("times", "", 0644);
	MUST(!utimensat(AT_FDCWD, "times", ts, 0) && !utimensat(AT_FDCWD, "early", early, 0) &&
	     !utimensat(AT_FDCWD, "late", late, 0));
	put("gone", "gone", 0644);
	keep_handle("big", "handle-big");
	keep_handle("d", "handle-d");
	keep_handle("gone", "handle-gone");
	MUST(!unlink("gone"));
	keep_handle("f", "handle-f");
	MUST(!rename("f", "d/f"));
	put("f", "another", 0644);
	/* Written by a map, and never synced. */
	fd = file("mapped", O_CREAT | O_RDWR);
	MUST(!ftruncate(fd, 5000));
	memcpy(mmap(NULL, 5000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), "mapped", 6);
	/* Open and without a name when the mount ends. */
	fd = file("orphan", O_CREAT | O_RDWR);
	MUST(write(fd, "x", 1) == 1 && !unlink("orphan"));
	say("ok");
}

static void times_of(const char *path)
{
	struct stat st;

	MUST(!lstat(path, &st));
	say("%lld.%09ld %lld.%09ld", (long long)st.st_atim.tv_sec, st.st_atim.tv_nsec,
	    (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

CASE_IN(PHASE_AFTER, "mount: ok: modes, owners, links and sizes are still there")
{
	static const char *const names[] = {"fifo", "sock", "chr", "big", "d/big2", "sparse",
					    "d",    "e",    "l",   "f",	  "d/f",    "mapped"};
	struct stat st;
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		show(names[i]);
	MUST(!lstat("chr", &st));
	say("%lx", (unsigned long)st.st_rdev);
	r(access("gone", F_OK));
	r(access("orphan", F_OK));
}

CASE_IN(PHASE_AFTER, "mount: ok: contents and holes are still there")
{
	int fd = file("sparse", O_RDONLY);

	content("big");
	content("f");
	content("d/f");
	content("mapped");
	n(lseek(fd, 0, SEEK_DATA));
	n(lseek(fd, (5 << 20) + 1, SEEK_HOLE));
	content("sparse");
}

CASE_IN(PHASE_AFTER, "mount: ok: times are still there, 1901 to 2446")
{
	times_of("times");
	times_of("early");
	times_of("late");
}

CASE_IN(PHASE_AFTER, "mount: ok: extended attributes are still there")
{
	char buf[100];

	n(getxattr("big", "user.a", buf, sizeof(buf)));
	n(getxattr("d/big2", "trusted.a", buf, sizeof(buf)));
	n(listxattr("big", buf, sizeof(buf)));
}

CASE_IN(PHASE_AFTER, "open_by_handle_at: ok: over a mount, a file, renamed since")
{
	int fd = open_kept("handle-f", O_RDWR);

	r(fd);
	content_fd(fd);
	fd = open_kept("handle-big", O_RDONLY);
	r(fd);
	show_fd(fd);
}

CASE_IN(PHASE_AFTER, "open_by_handle_at: ok: over a mount, a directory")
{
	int fd = open_kept("handle-d", O_RDONLY | O_DIRECTORY);

	r(fd);
	r(openat(fd, "x", O_RDONLY));
	r(openat(fd, "../f", O_RDONLY));
}

CASE_IN(PHASE_AFTER, "open_by_handle_at: ESTALE: over a mount, a file that was removed")
{
	r(open_kept("handle-gone", O_RDONLY));
	put("gone", "new", 0644);
	r(open_kept("handle-gone", O_RDONLY));
}

/* ---- read-only ---- */

#define RO(title, ...) ROW_IN(PHASE_RO, title ": EROFS: a read-only mount", __VA_ARGS__)

RO("open(O_WRONLY)", open("f", O_WRONLY))
RO("open(O_RDWR)", open("f", O_RDWR))
RO("open(O_TRUNC)", open("f", O_RDONLY | O_TRUNC))
RO("open(O_CREAT)", open("new", O_CREAT | O_RDWR, 0644))
RO("open(O_TMPFILE)", open(".", O_TMPFILE | O_RDWR, 0644))
RO("creat", creat("new", 0644))
RO("mkdir", mkdir("new", 0755))
RO("mknod", mknod("new", S_IFIFO | 0644, 0))
RO("symlink", symlink("f", "new"))
RO("link", link("f", "new"))
RO("unlink", unlink("f"))
RO("rmdir", rmdir("e"))
RO("rename", rename("f", "g"))
RO("renameat2", renameat2(AT_FDCWD, "f", AT_FDCWD, "d/f", RENAME_EXCHANGE))
RO("chmod", chmod("f", 0600))
RO("chown", chown("f", 1, 1))
RO("truncate", truncate("f", 0))
RO("utimensat", utimensat(AT_FDCWD, "f", NULL, 0))
RO("setxattr", setxattr("f", "user.a", "1", 1, 0))
RO("removexattr", removexattr("big", "user.a"))
RO("access(W_OK)", access("f", W_OK))
ROW_IN(PHASE_RO, "open: ok: O_CREAT of a file that is there, a read-only mount",
       open("f", O_CREAT | O_RDONLY, 0644))
ROW_IN(PHASE_RO, "mkdir: EEXIST: a directory that is there, a read-only mount", mkdir("d", 0755))
ROW_IN(PHASE_RO, "unlink: EROFS: no such name, a read-only mount", unlink("none"))
ROW_IN(PHASE_RO, "open: ok: a fifo to write, a read-only mount", open("p", O_RDWR))
ROW_IN(PHASE_RO, "open: ok: a device to write, a read-only mount", open("chr", O_RDWR))
ROW_IN(PHASE_RO, "access: ok: W_OK of a fifo, a read-only mount", access("p", W_OK))
ROW_IN(PHASE_RO, "flock: ok: exclusive, a read-only mount", flock(file("f", O_RDONLY), 2))
ROW_IN(PHASE_RO, "fsync: ok: a read-only mount", fsync(file("f", O_RDONLY)))
ROW_IN(PHASE_RO, "syncfs: ok: a read-only mount", syncfs(file("f", O_RDONLY)))

CASE_IN(PHASE_RO, "read: ok: changes no time, a read-only mount")
{
	struct stat a, b;
	char c;

	MUST(!stat("big", &a) && read(file("big", O_RDONLY), &c, 1) == 1 && !stat("big", &b));
	say("%s", a.st_atim.tv_sec == b.st_atim.tv_sec && a.st_atim.tv_nsec == b.st_atim.tv_nsec
			  ? "same"
			  : "other");
	content("f");
}

CASE_IN(PHASE_RO, "open_by_handle_at: ok: a read-only mount")
{
	r(open_kept("handle-f", O_RDONLY));
	r(open_kept("handle-f", O_RDWR));
}

CASE_IN(PHASE_RO, "mmap: EACCES: shared and writable, a read-only mount")
{
	r(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file("f", O_RDONLY), 0) == MAP_FAILED
		  ? -1
		  : 0);
}

CASE_IN(PHASE_RO, "statfs: ok: a read-only mount says so")
{
	struct statfs st;

	MUST(!statfs(".", &st));
	say("%ld", (long)st.f_flags & 1);
}

/* ---- full ---- */

/* Writes until it is refused; which call refused, and why. */
static void fill_up(const char *path, bool sync_each)
{
	static char buf[1 << 20];
	int fd = file(path, O_CREAT | O_RDWR), i;
	ssize_t len = 0;

	noise(buf, sizeof(buf));
	for (i = 0; i < 200; i++) {
		len = pwrite(fd, buf, sizeof(buf), (off_t)i << 20);
		if (len != sizeof(buf))
			break;
		if (sync_each && fsync(fd)) {
			say("fsync=%s", errno_name(errno));
			close(fd);
			return;
		}
	}
	if (len >= 0)
		len = pwrite(fd, buf, sizeof(buf), (off_t)(i + 1) << 20);
	say("write=%s", len < 0 ? errno_name(errno) : "ok");
	close(fd);
}

CASE_IN(PHASE_FULL, "write: ENOSPC: a full filesystem, fsync after each write")
{
	fill_up("big", true);
	unlink("big");
	sync();
}

CASE_IN(PHASE_FULL, "write: ENOSPC: O_DIRECT")
{
	char *buf = aligned_alloc(4096, 1 << 20);
	int fd = file("big", O_CREAT | O_RDWR | O_DIRECT), i;

	noise(buf, 1 << 20);
	for (i = 0; i < 200; i++)
		if (pwrite(fd, buf, 1 << 20, (off_t)i << 20) < 0)
			break;
	say("%s", i < 200 ? errno_name(errno) : "ok");
	unlink("big");
	close(fd);
	sync();
}

CASE_IN(PHASE_FULL, "fallocate: ENOSPC: more than there is")
{
	int fd = file("big", O_CREAT | O_RDWR);

	r(fallocate(fd, 0, 0, 1 << 30));
	unlink("big");
	close(fd);
	sync();
}

CASE_IN(PHASE_FULL, "write: ok: into what was allocated before it was full")
{
	static char buf[1 << 20];
	int fd = file("mine", O_CREAT | O_RDWR), big = file("big", O_CREAT | O_RDWR), i;
	char *direct = aligned_alloc(4096, 1 << 20);

	noise(buf, sizeof(buf));
	memset(direct, 'd', 1 << 20);
	r(fallocate(fd, 0, 0, 1 << 20));
	r(fsync(fd));
	for (i = 0; i < 200; i++)
		if (fallocate(big, 0, (off_t)i << 20, 1 << 20))
			break;
	say("%s", i < 200 ? "full" : "not-full");
	n(pwrite(fd, buf, 1 << 20, 0));
	r(fsync(fd));
	unlink("big");
	unlink("mine");
	close(big);
	sync();
}

CASE_IN(PHASE_FULL, "open: ENOSPC: names, until there is no room")
{
	char name[300], dirname[20];
	int i, j;

	/* Bytes first, then names of 250 bytes. */
	fill_up("big", true);
	for (i = 0; i < 400; i++) {
		snprintf(dirname, sizeof(dirname), "d%d", i);
		if (mkdir(dirname, 0755))
			break;
		for (j = 0; j < 200; j++) {
			snprintf(name, sizeof(name), "d%d/%0250d", i, j);
			if (mknod(name, S_IFREG | 0644, 0))
				break;
		}
		if (j < 200)
			break;
	}
	r(i < 400 ? -1 : 0);
	if (system("rm -rf ./big ./d*"))
		say("rm-failed");
	sync();
	put("again", "text", 0644);
	r(fsync(file("again", O_RDWR)));
	content("again");
}
