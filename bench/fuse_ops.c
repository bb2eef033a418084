// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * System calls on files of a directory, timed: what bench/fuse.py runs on each filesystem.
 *
 *   fuse-ops OP DIR N [FIRST]
 *
 * prints the seconds that N calls of OP took, by the clock. "tree" makes N directories t/dNNN with
 * FILES files each; "files" makes DIR/f of 64 KiB and DIR/d/d/f. Ops on a series of names (create,
 * unlink, rename, mkdir, rmdir, big, lookup_big) begin with number FIRST.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILES 1000U

static char block[4096];
static unsigned long first;

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fuse-ops: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static const char *name_of(const char *prefix, unsigned long i)
{
	static char name[2][64];
	static unsigned int which;

	which ^= 1;
	snprintf(name[which], sizeof(name[which]), "%s%07lu", prefix, first + i);
	return name[which];
}

/* ---- one file ---- */

static void op_stat(unsigned long n)
{
	struct stat st;

	while (n--)
		must(!stat("f", &st), "stat");
}

static void op_lookup(unsigned long n)
{
	struct stat st;

	while (n--)
		must(!stat("d/d/f", &st), "stat");
}

static void op_negative(unsigned long n)
{
	struct stat st;

	while (n--)
		must(stat("none", &st) && errno == ENOENT, "stat of a missing name");
}

static void op_open(unsigned long n)
{
	while (n--) {
		int fd = open("f", O_RDONLY);

		must(fd >= 0 && !close(fd), "open");
	}
}

static void op_read(unsigned long n)
{
	int fd = open("f", O_RDONLY);

	must(fd >= 0 && pread(fd, block, sizeof(block), 4096) == sizeof(block), "read");
	while (n--)
		must(pread(fd, block, sizeof(block), 4096) == sizeof(block), "read");
	close(fd);
}

static void op_write(unsigned long n)
{
	int fd = open("f", O_RDWR);

	must(fd >= 0 && pwrite(fd, block, sizeof(block), 4096) == sizeof(block), "write");
	while (n--)
		must(pwrite(fd, block, sizeof(block), 4096) == sizeof(block), "write");
	close(fd);
}

static void op_files(unsigned long n)
{
	int fd = open("f", O_CREAT | O_WRONLY, 0644);

	for (int i = 0; i < 16; i++)
		must(write(fd, block, sizeof(block)) == sizeof(block), "write");
	must(!fsync(fd) && !close(fd), "fsync");
	must(!mkdir("d", 0755) && !mkdir("d/d", 0755), "mkdir");
	fd = open("d/d/f", O_CREAT | O_WRONLY, 0644);
	must(fd >= 0 && !close(fd), "create");
}

/* ---- many ---- */

static void op_create(unsigned long n)
{
	for (unsigned long i = 0; i < n; i++) {
		int fd = open(name_of("c", i), O_CREAT | O_EXCL | O_WRONLY, 0644);

		must(fd >= 0 && write(fd, block, sizeof(block)) == sizeof(block) && !close(fd),
		     "create");
	}
}

static void op_unlink(unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		must(!unlink(name_of("r", i)), "unlink");
}

static void op_rename(unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		must(!rename(name_of("c", i), name_of("r", i)), "rename");
}

static void op_mkdir(unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		must(!mkdir(name_of("m", i), 0755), "mkdir");
}

static void op_rmdir(unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		must(!rmdir(name_of("m", i)), "rmdir");
}

/* ---- a tree ---- */

static void op_tree(unsigned long n)
{
	char name[64];

	must(!mkdir("t", 0755), "mkdir");
	for (unsigned long i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "t/d%03lu", i);
		must(!mkdir(name, 0755), "mkdir");
		for (unsigned int k = 0; k < FILES; k++) {
			int fd;

			snprintf(name, sizeof(name), "t/d%03lu/f%04u", i, k);
			fd = open(name, O_CREAT | O_WRONLY, 0644);
			must(fd >= 0 && !close(fd), "create");
		}
	}
}

/* readdir with stat of each: what find -printf %s and ls -lR do. */
static void op_walk(unsigned long n)
{
	char name[64];

	for (unsigned long i = 0; i < n; i++) {
		unsigned int seen = 0;
		struct dirent *de;
		struct stat st;
		DIR *dir;

		snprintf(name, sizeof(name), "t/d%03lu", i);
		dir = opendir(name);
		must(dir, "opendir");
		while ((de = readdir(dir))) {
			must(!fstatat(dirfd(dir), de->d_name, &st, AT_SYMLINK_NOFOLLOW), "stat");
			seen++;
		}
		closedir(dir);
		must(seen == FILES + 2, "a name is missing");
	}
}

static void op_list(unsigned long n)
{
	char name[64];

	for (unsigned long i = 0; i < n; i++) {
		unsigned int seen = 0;
		DIR *dir;

		snprintf(name, sizeof(name), "t/d%03lu", i);
		dir = opendir(name);
		must(dir, "opendir");
		while (readdir(dir))
			seen++;
		closedir(dir);
		must(seen == FILES + 2, "a name is missing");
	}
}

/* By name, in an order of its own. */
static void op_stat_tree(unsigned long n)
{
	unsigned long all = n * FILES, at = 0;
	struct stat st;
	char name[64];

	for (unsigned long i = 0; i < all; i++) {
		at = (at + 617) % all; /* has no divisor in common with it */
		snprintf(name, sizeof(name), "t/d%03lu/f%04lu", at / FILES, at % FILES);
		must(!stat(name, &st), name);
	}
}

/* ---- one large directory ---- */

static void op_big(unsigned long n)
{
	for (unsigned long i = 0; i < n; i++) {
		int fd = open(name_of("b/f", i), O_CREAT | O_EXCL | O_WRONLY, 0644);

		must(fd >= 0 && !close(fd), "create");
	}
}

static void op_lookup_big(unsigned long n)
{
	struct stat st;

	for (unsigned long i = 0; i < n; i++)
		must(!stat(name_of("b/f", i), &st), "stat");
}

static const struct {
	const char *name;
	void (*fn)(unsigned long n);
} ops[] = {
	{"files", op_files},	     {"stat", op_stat},	    {"lookup", op_lookup},
	{"negative", op_negative},   {"open", op_open},	    {"read", op_read},
	{"write", op_write},	     {"create", op_create}, {"unlink", op_unlink},
	{"rename", op_rename},	     {"mkdir", op_mkdir},   {"rmdir", op_rmdir},
	{"tree", op_tree},	     {"walk", op_walk},	    {"list", op_list},
	{"stat_tree", op_stat_tree}, {"big", op_big},	    {"lookup_big", op_lookup_big},
};

int main(int argc, char **argv)
{
	unsigned long n;
	double start;

	if (argc < 4) {
		fprintf(stderr, "usage: fuse-ops OP DIR N [FIRST]\n");
		return 2;
	}
	must(!chdir(argv[2]), argv[2]);
	n = strtoul(argv[3], NULL, 10);
	first = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (strcmp(ops[i].name, argv[1]))
			continue;
		start = now();
		ops[i].fn(n);
		printf("%.9f\n", now() - start);
		return 0;
	}
	fprintf(stderr, "fuse-ops: no op %s\n", argv[1]);
	return 2;
}
