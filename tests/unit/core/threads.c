// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: file operations from many threads at once neither race nor deadlock, and leave a clean
 * filesystem. Method: threads with files and directories of their own and common ones
 * (renames between the same directories, links and unlinks of the same names) on an image
 * file in the real environment, while one thread asks for numbers and syncs; then every checker.
 * Once with room, and data compressed in the background; once on a device that gets full, with the
 * least cache and a small journal, so that nodes are evicted and allocations wait for discards. A
 * plain program, for ThreadSanitizer.
 * Arguments: operations a thread (default 1500).
 */
#include "core/core.h"
#include "dev/bdev.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../test_rand.h"

#define THREADS 6
#define DIRS	4
#define NAMES	30

struct worker {
	struct bcfs *fs;
	struct bcfs_ino dirs[DIRS];
	u64 rng;
	unsigned ops, id;
	pthread_t thread;
};

static const struct bcfs_cred cred = {.uid = 1, .gid = 1, .umask = 022};

/* What racing threads may meet; anything else is an error. */
static void expect_any(int64_t ret, const char *what)
{
	switch (ret < 0 ? bcfs_errno(ret) : 0) {
	case 0:
	case ENOENT:
	case EEXIST:
	case ENOTEMPTY:
	case EISDIR:
	case ENOTDIR:
	case EINVAL:
	case ENODATA:
	case EPERM:
	case ENXIO:
	case ENOSPC:
		return;
	default:
		fprintf(stderr, "%s: %s\n", what, bcfs_strerror(ret));
		exit(1);
	}
}

static void file_work(struct worker *w, struct bcfs_ino dir, const char *name)
{
	char *buf = calloc(1, 70000);
	char back[2000] = {0};
	struct bcfs_stat st, st2;
	int ret = bcfs_lookup(w->fs, dir, name, &st);

	expect_any(ret, "lookup");
	if (ret)
		goto out;
	if (S_ISREG(st.mode)) {
		u64 off = trand_below(&w->rng, 100000), len = trand_below(&w->rng, 70000);

		switch (trand_below(&w->rng, 7)) {
		case 0:
			st2.size = off;
			expect_any(bcfs_setattr(w->fs, st.ino, &st2, BCFS_SET_SIZE, &st2),
				   "truncate");
			break;
		case 1:
			expect_any(bcfs_read(w->fs, st.ino, off, back, sizeof(back)), "read");
			break;
		case 2:
			expect_any(bcfs_fallocate(w->fs, st.ino, 0, off, len + 1), "fallocate");
			break;
		case 3:
			expect_any(bcfs_copy_range(w->fs, st.ino, off, st.ino, off + len, len, 0),
				   "copy");
			break;
		case 4:
			expect_any(bcfs_seek_data(w->fs, st.ino, off), "seek");
			break;
		default:
			expect_any(bcfs_write(w->fs, st.ino, off, buf, len, 0), "write");
			break;
		}
	}
	expect_any(bcfs_setxattr(w->fs, st.ino, "user.x", back, trand_below(&w->rng, 1000), 0),
		   "setxattr");
	if (trand_below(&w->rng, 100) == 0)
		expect_any(bcfs_fsync(w->fs, st.ino, 0), "fsync");
	bcfs_forget(w->fs, st.ino, 1);
out:
	free(buf);
}

static int count_entry(void *arg, const struct bcfs_dir_entry *e)
{
	struct worker *w = arg;

	if (e->stat)
		bcfs_forget(w->fs, e->ino, 1);
	return 0;
}

static void one_op(struct worker *w)
{
	struct bcfs_ino dir = w->dirs[trand_below(&w->rng, DIRS)],
			dir2 = w->dirs[trand_below(&w->rng, DIRS)];
	char name[16], name2[16];
	struct bcfs_stat st;
	int ret;

	snprintf(name, sizeof(name), "n%u", (unsigned)trand_below(&w->rng, NAMES));
	snprintf(name2, sizeof(name2), "n%u", (unsigned)trand_below(&w->rng, NAMES));
	switch (trand_below(&w->rng, 9)) {
	case 0:
	case 1:
		ret = bcfs_mknod(w->fs, dir, name, S_IFREG | 0644, 0, 0, &cred, &st);
		break;
	case 2:
		ret = bcfs_mkdir(w->fs, dir, name, 0755, &cred, &st);
		break;
	case 3:
		ret = bcfs_lookup(w->fs, dir2, name2, &st);
		if (ret)
			return;
		bcfs_forget(w->fs, st.ino, 1);
		ret = bcfs_link(w->fs, st.ino, dir, name, &st);
		break;
	case 4:
		expect_any(bcfs_unlink(w->fs, dir, name), "unlink");
		return;
	case 5:
		expect_any(bcfs_rmdir(w->fs, dir, name), "rmdir");
		return;
	case 6:
		expect_any(bcfs_rename(w->fs, dir, name, dir2, name2,
				       trand_below(&w->rng, 4) ? 0 : BCFS_RENAME_EXCHANGE),
			   "rename");
		return;
	case 7:
		expect_any(bcfs_readdir(w->fs, dir, 0, BCFS_READDIR_PLUS, count_entry, w),
			   "readdir");
		return;
	default:
		file_work(w, dir, name);
		return;
	}
	expect_any(ret, "create");
	if (!ret)
		bcfs_forget(w->fs, st.ino, 1);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < w->ops; i++)
		one_op(w);
	return NULL;
}

static void ignore_counter(void *arg, const char *name, uint64_t value) {}

static void print_counter(void *arg, const char *name, uint64_t value)
{
	if (!strcmp(name, "btree.evictions") || !strcmp(name, "alloc.waits") ||
	    !strcmp(name, "alloc.nospc") || !strcmp(name, "alloc.buckets_reused") ||
	    !strcmp(name, "journal.wraps") || !strcmp(name, "data.rebalanced"))
		printf("%s %llu, ", name, (unsigned long long)value);
}

/* What an administrator asks, and writers that sync. */
static void *watcher_main(void *arg)
{
	struct worker *w = arg;
	struct bcfs_statfs sf;
	struct bcfs_usage u;
	struct bcfs_info info;

	while (!__atomic_load_n(&w->ops, __ATOMIC_RELAXED)) {
		bcfs_counters(w->fs, ignore_counter, NULL);
		expect_any(bcfs_statfs(w->fs, &sf), "statfs");
		expect_any(bcfs_usage(w->fs, &u), "usage");
		bcfs_get_info(w->fs, &info);
		if (bcfs_is_read_only(w->fs)) {
			fprintf(stderr, "read-only\n");
			exit(1);
		}
		expect_any(bcfs_sync(w->fs), "sync");
		usleep(1000);
	}
	return NULL;
}

static void log_line(void *arg, enum bcfs_log_level level, const char *line)
{
	if (level <= BCFS_LOG_WARNING)
		fprintf(stderr, "%s\n", line);
}

static void report(void *arg, enum bcfs_check_level level, const char *pass, const char *text)
{
	fprintf(stderr, "check: %s: %s\n", pass, text);
}

/* Fills the device but for @left bytes. */
static void fill(struct bcfs *fs, u64 left)
{
	static const char buf[64 << 10];
	struct bcfs_stat st;
	u64 size = 0;
	int64_t ret = bcfs_mknod(fs, bcfs_root(fs), "filler", S_IFREG | 0644, 0, 0, &cred, &st);

	for (; ret >= 0; size += ret)
		ret = bcfs_write(fs, st.ino, size, buf, sizeof(buf), 0);
	expect_any(ret, "fill");
	bcfs_forget(fs, st.ino, 1);
	st.size = size > left ? size - left : 0;
	expect_any(bcfs_setattr(fs, st.ino, &st, BCFS_SET_SIZE, &st), "truncate");
}

static void run(struct bcfs *fs, unsigned ops)
{
	struct worker w[THREADS] = {0}, watcher = {.fs = fs};
	struct bcfs_stat st;
	char name[16];

	for (unsigned i = 0; i < DIRS; i++) {
		snprintf(name, sizeof(name), "dir%u", i);
		if (bcfs_mkdir(fs, bcfs_root(fs), name, 0755, &cred, &st))
			exit(1);
		for (unsigned t = 0; t < THREADS; t++)
			w[t].dirs[i] = st.ino;
	}
	for (unsigned t = 0; t < THREADS; t++) {
		w[t].fs = fs;
		w[t].rng = trand_seed(7) + t;
		w[t].ops = ops;
		w[t].id = t;
		pthread_create(&w[t].thread, NULL, worker_main, &w[t]);
	}
	pthread_create(&watcher.thread, NULL, watcher_main, &watcher);
	for (unsigned t = 0; t < THREADS; t++)
		pthread_join(w[t].thread, NULL);
	__atomic_store_n(&watcher.ops, 1, __ATOMIC_RELAXED);
	pthread_join(watcher.thread, NULL);
}

/*
 * A device that is completely full may be too full to be closed (doc/design.md, known gaps): then
 * the next opening replays the journal, and after that it must close.
 */
static int close_again(const char *path, const struct bcfs_open_opts *oo)
{
	char msg[256] = "";
	struct bcfs *fs;
	int ret = bcfs_open(path, oo, &fs, msg, sizeof(msg));

	if (ret)
		fprintf(stderr, "%s\n", msg);
	return ret ?: bcfs_close(fs);
}

static int run_on(const char *path, const struct bcfs_mkfs_opts *mo, uint64_t cache_bytes, u64 left,
		  unsigned ops)
{
	struct bcfs_open_opts oo = {
		.struct_size = sizeof(oo), .cache_bytes = cache_bytes, .log = log_line};
	struct bcfs_check_opts co = {.struct_size = sizeof(co), .report = report};
	struct bcfs_check_result r = {0};
	char msg[256] = "";
	struct bcfs *fs;
	int ret = bcfs_mkfs(path, mo, NULL, msg, sizeof(msg));

	if (!ret)
		ret = bcfs_open(path, &oo, &fs, msg, sizeof(msg));
	if (ret) {
		fprintf(stderr, "%s\n", msg);
		return 1;
	}
	if (left)
		fill(fs, left);
	run(fs, ops);
	bcfs_counters(fs, print_counter, NULL);
	ret = bcfs_close(fs);
	if (ret)
		fprintf(stderr, "close: %s\n", bcfs_strerror(ret));
	if (left && bcfs_errno(ret) == ENOSPC)
		ret = close_again(path, &oo);
	if (!ret)
		ret = bcfs_check(path, &co, &r, msg, sizeof(msg));
	printf("%llu inodes, %llu errors\n", (unsigned long long)r.inodes,
	       (unsigned long long)r.errors);
	return ret || r.errors;
}

int main(int argc, char **argv)
{
	char path[] = "/tmp/bcfs-threads-XXXXXX";
	struct bcfs_mkfs_opts roomy = {.struct_size = sizeof(roomy),
				       .node_bytes = 16384,
				       .bucket_bytes = 256 << 10,
				       .journal_bytes = 8 << 20,
				       .size_bytes = 256 << 20,
				       .background_compression = "zstd:1"};
	struct bcfs_mkfs_opts tight = {.struct_size = sizeof(tight),
				       .node_bytes = 16384,
				       .bucket_bytes = 16384,
				       .journal_bytes = 1 << 20,
				       .size_bytes = 16 << 20,
				       .force = 1};
	unsigned ops = argc > 1 ? atoi(argv[1]) : 1500;
	int fd = mkstemp(path), ret;

	if (fd < 0)
		return 77;
	close(fd);
	ret = run_on(path, &roomy, 16 << 20, 0, ops) ?: run_on(path, &tight, 1, 1 << 20, ops);
	unlink(path);
	return ret;
}
