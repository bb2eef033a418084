// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * posix-stress [--seed N] [--ops N] [--procs N] DIR
 *
 * Processes that do random things to one tree at once, all operations on names
 * and data: they meet on few names, so most of what can happen between two
 * calls does. An errno that such a meeting explains is fine; any other, and a
 * file whose bytes are not all of one writer's pattern, is not. What it leaves
 * is for fsck to judge.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NR_NAMES 12
#define DEPTH	 3
#define MAX_SIZE (256U << 10)

struct proc {
	uint64_t rng, seed;
	unsigned int nr, op;
	unsigned char *buf; /* 64 KiB, aligned */
	bool failed;
};

static uint64_t rnd(struct proc *p, uint64_t limit)
{
	p->rng ^= p->rng << 13;
	p->rng ^= p->rng >> 7;
	p->rng ^= p->rng << 17;
	return (p->rng * 0x2545f4914f6cdd1dULL >> 11) % limit;
}

/* "a/b/c", of one to DEPTH parts. */
static const char *path_of(struct proc *p, char *buf)
{
	uint64_t i, depth = 1 + rnd(p, DEPTH);
	char *out = buf;

	for (i = 0; i < depth; i++)
		out += sprintf(out, "%s%s%c", i ? "/" : "", i + 1 < depth ? "d" : "",
			       (char)('a' + rnd(p, i + 1 < depth ? 3 : NR_NAMES)));
	return buf;
}

/* Directories have a "d" before their letter, so that most paths lead somewhere. */
static const char *dir_of(struct proc *p, char *buf)
{
	uint64_t i, depth = 1 + rnd(p, DEPTH - 1);
	char *out = buf;

	for (i = 0; i < depth; i++)
		out += sprintf(out, "%sd%c", i ? "/" : "", (char)('a' + rnd(p, 3)));
	return buf;
}

static void check(struct proc *p, long ret, const char *what)
{
	static const int fine[] = {ENOENT, EEXIST,  ENOTDIR,	EISDIR, ENOTEMPTY, ELOOP,
				   EINVAL, ENODATA, EOPNOTSUPP, ENXIO,	EMLINK,	   ESTALE,
				   EPERM,  ERANGE,  EBUSY,	ETXTBSY};
	size_t i;

	if (ret >= 0)
		return;
	for (i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
		if (errno == fine[i])
			return;
	printf("posix-stress: seed %llu, process %u, operation %u: %s: %s\n",
	       (unsigned long long)p->seed, p->nr, p->op, what, strerror(errno));
	p->failed = true;
}

/* Every byte ever written is a letter, and a hole is zero: anything else was not in this file. */
static void check_bytes(struct proc *p, const unsigned char *buf, ssize_t len)
{
	ssize_t i;

	for (i = 0; i < len; i++) {
		if (buf[i] && (buf[i] < 'a' || buf[i] > 'z')) {
			printf("posix-stress: seed %llu, process %u, operation %u: byte %#x read\n",
			       (unsigned long long)p->seed, p->nr, p->op, buf[i]);
			p->failed = true;
			return;
		}
	}
}

static void use_file(struct proc *p, int fd)
{
	uint64_t times = 1 + rnd(p, 4);
	off_t off;
	size_t len;

	while (times--) {
		off = (off_t)rnd(p, MAX_SIZE);
		len = 1 + rnd(p, 65536);
		switch (rnd(p, 9)) {
		case 0:
		case 1:
		case 2:
			memset(p->buf, 'a' + (int)(p->op % 26), len);
			check(p, pwrite(fd, p->buf, len, off), "pwrite");
			break;
		case 3:
		case 4:
			check_bytes(p, p->buf, pread(fd, p->buf, len, off));
			break;
		case 5:
			check(p, ftruncate(fd, off), "ftruncate");
			break;
		case 6:
			check(p,
			      fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off,
					(off_t)len),
			      "punch");
			break;
		case 7:
			check(p, fallocate(fd, FALLOC_FL_ZERO_RANGE, off, (off_t)len), "zero");
			break;
		default:
			check(p, fsync(fd), "fsync");
		}
	}
}

static void op_file(struct proc *p)
{
	char path[64], other[64];
	int flags = O_RDWR | O_CREAT | (rnd(p, 8) ? 0 : O_TRUNC) | (rnd(p, 8) ? 0 : O_APPEND);
	int fd = open(path_of(p, path), flags | O_NOFOLLOW | O_NONBLOCK, 0644), in;
	loff_t pos = 0;
	struct stat st;

	check(p, fd, "open");
	if (fd < 0)
		return;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode)) {
		if (rnd(p, 6)) {
			use_file(p, fd);
		} else {
			in = open(path_of(p, other), O_RDONLY | O_NONBLOCK);
			/* To append is EBADF. */
			if (in >= 0 && !(flags & O_APPEND))
				check(p, copy_file_range(in, &pos, fd, NULL, MAX_SIZE, 0),
				      "copy_file_range");
			if (in >= 0)
				close(in);
		}
	}
	check(p, close(fd), "close");
}

static void op_map(struct proc *p)
{
	char path[64];
	int fd = open(path_of(p, path), O_RDWR | O_NOFOLLOW | O_NONBLOCK);
	unsigned char *map;
	struct stat st;

	if (fd < 0)
		return;
	/* Others may cut it: only reads by the kernel, which say EFAULT where a touch is SIGBUS. */
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size) {
		map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		if (map != MAP_FAILED) {
			int null = open("/dev/null", O_WRONLY);

			if (null >= 0) {
				(void)!write(null, map, (size_t)st.st_size);
				close(null);
			}
			munmap(map, (size_t)st.st_size);
		}
	}
	close(fd);
}

static void op_readdir(struct proc *p)
{
	char path[64];
	DIR *d = opendir(dir_of(p, path));
	struct dirent *de;
	struct stat st;
	int seen[256] = {0};

	if (!d)
		return;
	while ((de = readdir(d))) {
		if (fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW))
			check(p, -1, "fstatat");
		/* A name may be made anew behind us, but not without end. */
		if (de->d_name[0] == 'd' && ++seen[(unsigned char)de->d_name[1]] > 200) {
			printf("posix-stress: seed %llu: readdir does not end\n",
			       (unsigned long long)p->seed);
			p->failed = true;
			break;
		}
	}
	closedir(d);
}

static void op_tmpfile(struct proc *p)
{
	char path[64], fd_path[64];
	int fd = open(dir_of(p, path), O_TMPFILE | O_RDWR, 0600);

	if (fd < 0) {
		check(p, -1, "open(O_TMPFILE)");
		return;
	}
	use_file(p, fd);
	snprintf(fd_path, sizeof(fd_path), "/proc/self/fd/%d", fd);
	if (rnd(p, 2))
		check(p, linkat(AT_FDCWD, fd_path, AT_FDCWD, path_of(p, path), AT_SYMLINK_FOLLOW),
		      "linkat");
	close(fd);
}

static void op_attr(struct proc *p)
{
	char path[64], name[32], value[3000];
	size_t len = (size_t)rnd(p, sizeof(value));

	path_of(p, path);
	snprintf(name, sizeof(name), "trusted.%c", (char)('a' + rnd(p, 4)));
	memset(value, 'v', sizeof(value));
	switch (rnd(p, 6)) {
	case 0:
		check(p, chmod(path, (mode_t)rnd(p, 010000)), "chmod");
		break;
	case 1:
		check(p, lchown(path, (uid_t)rnd(p, 5), (gid_t)rnd(p, 5)), "lchown");
		break;
	case 2:
		check(p, utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW), "utimensat");
		break;
	case 3:
		check(p, lsetxattr(path, name, value, len, 0), "lsetxattr");
		break;
	case 4:
		check(p, lgetxattr(path, name, value, sizeof(value)), "lgetxattr");
		break;
	default:
		check(p, lremovexattr(path, name), "lremovexattr");
	}
}

static void one_op(struct proc *p)
{
	static const unsigned int flags[] = {
		0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT};
	char a[64], b[64];

	switch (rnd(p, 20)) {
	case 0:
	case 1:
		check(p, mkdir(dir_of(p, a), 0755), "mkdir");
		break;
	case 2:
		check(p, rmdir(dir_of(p, a)), "rmdir");
		break;
	case 3:
	case 4:
		check(p, unlink(path_of(p, a)), "unlink");
		break;
	case 5:
		check(p, link(path_of(p, a), path_of(p, b)), "link");
		break;
	case 6:
		check(p, symlink(path_of(p, a), path_of(p, b)), "symlink");
		break;
	case 7:
		check(p, mknod(path_of(p, a), rnd(p, 2) ? S_IFIFO | 0644 : S_IFREG | 0644, 0),
		      "mknod");
		break;
	case 8:
	case 9:
		check(p,
		      renameat2(AT_FDCWD, path_of(p, a), AT_FDCWD, path_of(p, b), flags[rnd(p, 6)]),
		      "rename");
		break;
	case 10:
		check(p,
		      renameat2(AT_FDCWD, dir_of(p, a), AT_FDCWD, dir_of(p, b), flags[rnd(p, 5)]),
		      "rename of directories");
		break;
	case 11:
		op_readdir(p);
		break;
	case 12:
		op_tmpfile(p);
		break;
	case 13:
	case 14:
		op_attr(p);
		break;
	case 15:
		op_map(p);
		break;
	default:
		op_file(p);
	}
}

static int run(uint64_t seed, unsigned int nr, unsigned int ops)
{
	struct proc p = {.seed = seed, .nr = nr, .rng = (seed + nr) * 0x9e3779b97f4a7c15ULL + 1};

	p.buf = aligned_alloc(4096, 65536);
	for (p.op = 0; p.op < ops && !p.failed; p.op++)
		one_op(&p);
	fflush(stdout);
	return p.failed;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'},
		{"ops", required_argument, NULL, 'o'},
		{"procs", required_argument, NULL, 'p'},
		{0},
	};
	unsigned int ops = 1000, procs = 4, i;
	int c, status, failed = 0;
	uint64_t seed = 1;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (c == 'o')
			ops = (unsigned int)atoi(optarg);
		else if (c == 'p')
			procs = (unsigned int)atoi(optarg);
		else
			return 2;
	}
	if (argc - optind != 1 || chdir(argv[optind])) {
		fprintf(stderr, "usage: posix-stress [--seed N] [--ops N] [--procs N] DIR\n");
		return 2;
	}
	for (i = 0; i < procs; i++)
		if (!fork())
			_exit(run(seed, i, ops));
	while (wait(&status) > 0)
		failed |= status;
	return failed ? 1 : 0;
}
