// SPDX-License-Identifier: LGPL-2.1-or-later
/* getdents64(2), and telldir and seekdir on it, while the directory changes. */
#include <dirent.h>
#include <sys/syscall.h>

#include "calls.h"

#define NR_FILES 1000

static long getdents(int fd, void *buf, size_t size)
{
	return syscall(SYS_getdents64, fd, buf, size);
}

static void make_files(const char *where, int from, int to)
{
	char name[300];
	int i;

	for (i = from; i < to; i++) {
		snprintf(name, sizeof(name), "%s/file-%d", where, i);
		MUST(!mknod(name, S_IFREG | 0644, 0));
	}
}

static void remove_files(const char *where, int from, int to, int step)
{
	char name[300];
	int i;

	for (i = from; i < to; i += step) {
		snprintf(name, sizeof(name), "%s/file-%d", where, i);
		MUST(!unlink(name));
	}
}

/* How often each of the files was seen; -1: a name that is none. */
static void count(DIR *d, unsigned char *seen, int *others)
{
	struct dirent *de;
	int nr;

	while ((de = readdir(d))) {
		if (sscanf(de->d_name, "file-%d", &nr) == 1 && nr < 3 * NR_FILES)
			seen[nr]++;
		else
			++*others;
	}
}

/* Of the files from..to: how many were seen once, more often, never. */
static void say_counts(const unsigned char *seen, int from, int to)
{
	int i, once = 0, twice = 0, never = 0;

	for (i = from; i < to; i++) {
		once += seen[i] == 1;
		twice += seen[i] > 1;
		never += !seen[i];
	}
	say("once=%d twice=%d never=%d", once, twice, never);
}

CASE("getdents64: ok: every name once, with . and ..")
{
	unsigned char seen[3 * NR_FILES] = {0};
	int others = 0;
	DIR *d;

	make_files("e", 0, NR_FILES);
	d = opendir("e");
	MUST(d);
	count(d, seen, &others);
	say_counts(seen, 0, NR_FILES);
	say("others=%d", others);
}

CASE("getdents64: ok: types of entries")
{
	struct dirent *de;
	DIR *d = opendir(".");
	int fifo = 0, lnk = 0, directory = 0, reg = 0, unknown = 0;

	while ((de = readdir(d))) {
		fifo += de->d_type == DT_FIFO;
		lnk += de->d_type == DT_LNK;
		directory += de->d_type == DT_DIR;
		reg += de->d_type == DT_REG;
		unknown += de->d_type == DT_UNKNOWN;
	}
	say("fifo=%d link=%d dir=%d reg=%d unknown=%d", fifo, lnk, directory, reg, unknown);
}

CASE("getdents64: ok: inode numbers are those of stat")
{
	struct dirent *de;
	DIR *d = opendir(".");
	struct stat st;
	int same = 0, other = 0;

	while ((de = readdir(d))) {
		if (lstat(de->d_name, &st))
			continue;
		if (de->d_ino == st.st_ino)
			same++;
		else
			other++;
	}
	say("same=%d other=%d", same, other);
}

ROW("getdents64: ENOTDIR: a file", getdents(file("f", O_RDONLY), (char[512]){0}, 512))
ROW("getdents64: EBADF: a bad descriptor", getdents(-1, (char[512]){0}, 512))
ROW("getdents64: EBADF: O_PATH", getdents(file("d", O_PATH), (char[512]){0}, 512))
ROW("getdents64: EINVAL: a buffer too small for an entry", getdents(dir("d"), (char[8]){0}, 8))
ROW("getdents64: EFAULT: a buffer at a bad address", getdents(dir("d"), bad_ptr, 512))

CASE("getdents64: ok: changes atime alone, with O_NOATIME nothing")
{
	char buf[512];

	MUST(!mkdir("d/a", 0755) && !mkdir("e/a", 0755));
	watch("d");
	MUST(getdents(file("d", O_RDONLY | O_DIRECTORY | O_NOATIME), buf, sizeof(buf)) > 0);
	changed("d");
	watch("e");
	MUST(getdents(dir("e"), buf, sizeof(buf)) > 0);
	changed("e");
}

CASE("getdents64: ENOENT: the directory was removed")
{
	char buf[512];
	int fd = dir("e");

	MUST(!rmdir("e"));
	r(getdents(fd, buf, sizeof(buf)));
}

CASE("getdents64: ok: 0 at the end, again and again")
{
	char buf[4096];
	int fd = dir("e");

	r(getdents(fd, buf, sizeof(buf)));
	n(getdents(fd, buf, sizeof(buf)));
	n(getdents(fd, buf, sizeof(buf)));
	n(lseek(fd, 0, SEEK_SET));
	r(getdents(fd, buf, sizeof(buf)) > 0 ? 0 : -1);
}

CASE("getdents64: ok: a buffer that holds one entry")
{
	char buf[32];
	int fd = dir("e"), i, nr = 0;
	long len;

	make_files("e", 0, 3);
	for (i = 0; i < 20; i++) {
		len = getdents(fd, buf, sizeof(buf));
		if (len <= 0)
			break;
		nr++;
	}
	n(len);
	n(nr);
}

CASE("getdents64: ok: files removed while reading, the others are seen once")
{
	unsigned char seen[3 * NR_FILES] = {0};
	struct dirent *de;
	int others = 0, i, nr;
	DIR *d;

	make_files("e", 0, NR_FILES);
	d = opendir("e");
	MUST(d);
	for (i = 0; i < 100 && (de = readdir(d)); i++)
		if (sscanf(de->d_name, "file-%d", &nr) == 1)
			seen[nr]++;
	remove_files("e", 1, NR_FILES, 2);
	count(d, seen, &others);
	for (i = 1; i < NR_FILES; i += 2)
		seen[i] = 1; /* may be seen or not */
	say_counts(seen, 0, NR_FILES);
}

CASE("getdents64: ok: files made while reading, the old ones are seen once")
{
	unsigned char seen[3 * NR_FILES] = {0};
	struct dirent *de;
	int others = 0, i, nr;
	DIR *d;

	make_files("e", 0, NR_FILES);
	d = opendir("e");
	MUST(d);
	for (i = 0; i < 100 && (de = readdir(d)); i++)
		if (sscanf(de->d_name, "file-%d", &nr) == 1)
			seen[nr]++;
	make_files("e", NR_FILES, 2 * NR_FILES);
	count(d, seen, &others);
	say_counts(seen, 0, NR_FILES);
	for (i = NR_FILES, nr = 0; i < 2 * NR_FILES; i++)
		nr += seen[i] > 1;
	say("new twice=%d", nr);
}

CASE("getdents64: ok: all removed while reading, as rm -r does")
{
	char name[300];
	struct dirent *de;
	int nr = 0;
	DIR *d;

	make_files("e", 0, NR_FILES);
	d = opendir("e");
	MUST(d);
	while ((de = readdir(d))) {
		if (de->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "e/%s", de->d_name);
		MUST(!unlink(name));
		nr++;
	}
	n(nr);
	r(rmdir("e"));
}

CASE("seekdir: ok: back to where telldir was, at each entry")
{
	char names[300][20];
	long where[300];
	struct dirent *de;
	int nr = 0, i, good = 0;
	DIR *d;

	make_files("e", 0, 200);
	d = opendir("e");
	MUST(d);
	for (;;) {
		where[nr] = telldir(d);
		de = readdir(d);
		if (!de)
			break;
		snprintf(names[nr++], sizeof(names[0]), "%.19s", de->d_name);
	}
	for (i = nr - 1; i >= 0; i--) {
		seekdir(d, where[i]);
		de = readdir(d);
		good += de && !strcmp(de->d_name, names[i]);
	}
	say("entries=%d good=%d", nr, good);
	seekdir(d, where[nr]);
	say("%s", readdir(d) ? "more" : "end");
}

CASE("seekdir: ok: to an entry that was removed, the rest is seen once")
{
	unsigned char seen[3 * NR_FILES] = {0};
	struct dirent *de;
	char name[300];
	int others = 0, i, nr = 0;
	long where = 0;
	DIR *d;

	make_files("e", 0, NR_FILES);
	d = opendir("e");
	MUST(d);
	for (i = 0; i < 500; i++) {
		where = telldir(d);
		de = readdir(d);
		MUST(de);
		if (i < 499 && sscanf(de->d_name, "file-%d", &nr) == 1)
			seen[nr]++;
	}
	sscanf(de->d_name, "file-%d", &nr);
	snprintf(name, sizeof(name), "e/%s", de->d_name);
	MUST(!unlink(name));
	make_files("e", NR_FILES, NR_FILES + 100);
	seekdir(d, where);
	count(d, seen, &others);
	seen[nr]++;
	say_counts(seen, 0, NR_FILES);
}

CASE("rewinddir: ok: new names are seen, old ones are not")
{
	unsigned char seen[3 * NR_FILES] = {0};
	int others = 0;
	DIR *d;

	make_files("e", 0, 100);
	d = opendir("e");
	MUST(d);
	count(d, seen, &others);
	memset(seen, 0, sizeof(seen));
	remove_files("e", 0, 50, 1);
	make_files("e", 100, 150);
	rewinddir(d);
	count(d, seen, &others);
	say_counts(seen, 0, 50);
	say_counts(seen, 50, 150);
}

CASE("getdents64: ok: atime of the directory")
{
	DIR *d;

	watch("d");
	d = opendir("d");
	MUST(d && readdir(d));
	changed("d");
}

CASE("getdents64: ok: two readers of one directory do not meet")
{
	unsigned char seen[3 * NR_FILES] = {0}, seen2[3 * NR_FILES] = {0};
	struct dirent *de;
	int others = 0, i, nr;
	DIR *a, *b;

	make_files("e", 0, NR_FILES);
	a = opendir("e");
	b = opendir("e");
	MUST(a && b);
	for (i = 0; i < 300 && (de = readdir(a)); i++)
		if (sscanf(de->d_name, "file-%d", &nr) == 1)
			seen[nr]++;
	count(b, seen2, &others);
	count(a, seen, &others);
	say_counts(seen, 0, NR_FILES);
	say_counts(seen2, 0, NR_FILES);
}

CASE("lseek: ok: SEEK_CUR of a directory at its start")
{
	n(lseek(dir("e"), 0, SEEK_CUR));
}

ROW("read: EISDIR: a directory", read(dir("d"), (char[8]){0}, 8))
ROW("pread: EISDIR: a directory", pread(dir("d"), (char[8]){0}, 8, 0))
ROW("write: EBADF: a directory", write(dir("d"), "a", 1))
ROW("ftruncate: EINVAL: a directory", ftruncate(dir("d"), 0))
ROW("fsync: ok: a directory", fsync(dir("d")))
ROW("fdatasync: ok: a directory", fdatasync(dir("d")))
ROW("mmap: ENODEV: a directory",
    mmap(NULL, 4096, PROT_READ, MAP_SHARED, dir("d"), 0) == MAP_FAILED ? -1 : 0)
