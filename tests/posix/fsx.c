// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * posix-fsx [--seed N] [--ops N] [--copies N] [--model FILE] [--verbose] DIR
 *
 * Random reads and writes of two files, in all ways there are (pread and pwrite,
 * maps, O_DIRECT, truncate, fallocate, copy_file_range), against arrays in
 * memory: each read must show what the array has, each size must be right.
 * --copies: so many of 100 operations more copy, mostly whole pages, so that most data are shared.
 * --model keeps the arrays in a file, so that the next run, after a mount, goes
 * on with the files as they are and first looks at all of them.
 *
 * Exit status 0, or 1 with a line that says what differs where, the seed, and
 * the operations before.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NR_FILES  2
#define MAX_SIZE  (768U << 10)
#define MAX_LEN	  (96U << 10)
#define PAGE	  4096U
#define HISTORY	  24
#define MAX_TITLE 120

struct file {
	int fd, direct_fd;
	uint8_t *model; /* MAX_SIZE; zero behind size */
	uint32_t size;
	char path[4096];
};

struct fsx {
	struct file files[NR_FILES];
	uint64_t rng, seed;
	uint64_t nr;	 /* of the operation */
	uint64_t copies; /* of 100 operations */
	uint8_t *buf;	 /* MAX_LEN + PAGE, aligned */
	char history[HISTORY][MAX_TITLE];
	bool verbose;
};

static uint64_t rnd(struct fsx *x, uint64_t limit)
{
	x->rng ^= x->rng << 13;
	x->rng ^= x->rng >> 7;
	x->rng ^= x->rng << 17;
	return (x->rng * 0x2545f4914f6cdd1dULL >> 11) % limit;
}

static void __attribute__((noreturn, format(printf, 2, 3)))
fail(struct fsx *x, const char *fmt, ...)
{
	va_list args;
	uint64_t i;

	printf("posix-fsx: seed %llu, operation %llu: ", (unsigned long long)x->seed,
	       (unsigned long long)x->nr);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	for (i = x->nr > HISTORY ? x->nr - HISTORY + 1 : 0; i <= x->nr; i++)
		printf("  %s\n", x->history[i % HISTORY]);
	exit(1);
}

static void __attribute__((format(printf, 2, 3))) title(struct fsx *x, const char *fmt, ...)
{
	char *line = x->history[x->nr % HISTORY];
	va_list args;
	int used = snprintf(line, MAX_TITLE, "%llu ", (unsigned long long)x->nr);

	va_start(args, fmt);
	vsnprintf(line + used, (size_t)(MAX_TITLE - used), fmt, args);
	va_end(args);
	if (x->verbose)
		printf("%s\n", line);
}

static int file_nr(const struct fsx *x, const struct file *f)
{
	return (int)(f - x->files);
}

/* ---- checks ---- */

static void compare(struct fsx *x, const struct file *f, const uint8_t *got, uint32_t off,
		    uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		if (got[i] != f->model[off + i])
			fail(x, "file %d, offset %u: %#x, expected %#x", file_nr(x, f), off + i,
			     got[i], f->model[off + i]);
}

static void check_size(struct fsx *x, const struct file *f)
{
	struct stat st;

	if (fstat(f->fd, &st))
		fail(x, "fstat: %s", strerror(errno));
	if (st.st_size != f->size)
		fail(x, "file %d: size %lld, expected %u", file_nr(x, f), (long long)st.st_size,
		     f->size);
}

/* Data is where the array is not zero; a hole has none. */
static void check_holes(struct fsx *x, const struct file *f)
{
	off_t pos = 0, hole;
	uint32_t i;

	/* The kernel does not write dirty pages back before it asks the daemon. */
	if (fsync(f->fd))
		fail(x, "fsync: %s", strerror(errno));
	while (pos < f->size) {
		hole = lseek(f->fd, pos, SEEK_HOLE);
		if (hole < pos || hole > f->size)
			fail(x, "SEEK_HOLE from %lld: %lld", (long long)pos, (long long)hole);
		if (hole == f->size)
			break;
		pos = lseek(f->fd, hole, SEEK_DATA);
		if (pos < 0 && errno != ENXIO)
			fail(x, "SEEK_DATA: %s", strerror(errno));
		if (pos < 0)
			pos = f->size;
		for (i = (uint32_t)hole; i < pos; i++)
			if (f->model[i])
				fail(x, "file %d: data at %u, in a hole from %lld to %lld",
				     file_nr(x, f), i, (long long)hole, (long long)pos);
	}
}

static void check_all(struct fsx *x, const struct file *f)
{
	uint32_t off, len;
	ssize_t got;

	check_size(x, f);
	for (off = 0; off < f->size; off += len) {
		len = f->size - off < MAX_LEN ? f->size - off : MAX_LEN;
		got = pread(f->fd, x->buf, len, off);
		if (got != (ssize_t)len)
			fail(x, "file %d: read of %u at %u: %zd", file_nr(x, f), len, off, got);
		compare(x, f, x->buf, off, len);
	}
}

/* ---- the model ---- */

static void set_size(struct file *f, uint32_t size)
{
	if (size < f->size)
		memset(f->model + size, 0, f->size - size);
	f->size = size;
}

static void wrote(struct file *f, uint32_t off, const uint8_t *data, uint32_t len)
{
	memmove(f->model + off, data, len);
	if (off + len > f->size)
		f->size = off + len;
}

static void fill_random(struct fsx *x, uint8_t *buf, uint32_t len)
{
	uint8_t c = (uint8_t)(1 + rnd(x, 255));
	uint32_t i;

	for (i = 0; i < len; i++)
		buf[i] = (uint8_t)(c + i / 7 + (i & 3)) ?: 1;
}

/* ---- operations ---- */

/* Where and how much: mostly small, often near the edges of pages and of the file. */
static void range(struct fsx *x, uint32_t limit, uint32_t *ret_off, uint32_t *ret_len)
{
	uint32_t len = 1 + (uint32_t)rnd(x, rnd(x, 3) ? 6000 : MAX_LEN);
	uint32_t off = (uint32_t)rnd(x, limit ? limit : 1);

	if (!rnd(x, 4))
		off &= ~(PAGE - 1);
	if (!rnd(x, 4))
		len = (len + PAGE - 1) & ~(PAGE - 1);
	if (len > MAX_LEN)
		len = MAX_LEN;
	if (off + len > MAX_SIZE)
		len = MAX_SIZE - off;
	*ret_off = off;
	*ret_len = len;
}

static void do_read(struct fsx *x, struct file *f, bool direct)
{
	uint32_t off, len, want;
	ssize_t got;

	range(x, f->size + 100, &off, &len);
	if (direct) {
		off &= ~(PAGE - 1);
		len = (len + PAGE - 1) & ~(PAGE - 1);
	}
	want = off >= f->size ? 0 : f->size - off < len ? f->size - off : len;
	title(x, "%sread file %d: %u at %u", direct ? "direct " : "", file_nr(x, f), len, off);
	got = pread(direct ? f->direct_fd : f->fd, x->buf, len, off);
	if (got != (ssize_t)want)
		fail(x, "read: %zd (%s), expected %u", got, strerror(errno), want);
	compare(x, f, x->buf, off, want);
}

static void do_write(struct fsx *x, struct file *f, bool direct)
{
	uint32_t off, len;
	ssize_t got;

	range(x, MAX_SIZE - MAX_LEN - PAGE, &off, &len);
	if (direct) {
		off &= ~(PAGE - 1);
		len = (len + PAGE - 1) & ~(PAGE - 1);
	}
	title(x, "%swrite file %d: %u at %u", direct ? "direct " : "", file_nr(x, f), len, off);
	fill_random(x, x->buf, len);
	got = pwrite(direct ? f->direct_fd : f->fd, x->buf, len, off);
	if (got != (ssize_t)len)
		fail(x, "write: %zd (%s)", got, strerror(errno));
	wrote(f, off, x->buf, len);
}

static void do_map(struct fsx *x, struct file *f, bool writing)
{
	uint32_t off, len, start;
	uint8_t *p;

	if (!f->size)
		return;
	range(x, f->size, &off, &len);
	if (off + len > f->size)
		len = f->size - off;
	title(x, "map %s file %d: %u at %u", writing ? "write" : "read", file_nr(x, f), len, off);
	start = off & ~(PAGE - 1);
	p = mmap(NULL, off + len - start, PROT_READ | (writing ? PROT_WRITE : 0), MAP_SHARED, f->fd,
		 start);
	if (p == MAP_FAILED)
		fail(x, "mmap: %s", strerror(errno));
	if (writing) {
		fill_random(x, x->buf, len);
		memcpy(p + off - start, x->buf, len);
		wrote(f, off, x->buf, len);
		if (!rnd(x, 3) && msync(p, off + len - start, MS_SYNC))
			fail(x, "msync: %s", strerror(errno));
	} else {
		compare(x, f, p + off - start, off, len);
	}
	munmap(p, off + len - start);
}

static void do_truncate(struct fsx *x, struct file *f)
{
	uint32_t size = (uint32_t)rnd(x, rnd(x, 3) ? f->size + 20000 : MAX_SIZE);

	if (size > MAX_SIZE)
		size = MAX_SIZE;
	title(x, "truncate file %d: %u to %u", file_nr(x, f), f->size, size);
	if (ftruncate(f->fd, size))
		fail(x, "ftruncate: %s", strerror(errno));
	set_size(f, size);
}

static void do_fallocate(struct fsx *x, struct file *f)
{
	static const struct {
		int mode;
		const char *name;
		bool zeroes, grows;
	} kinds[] = {
		{0, "allocate", false, true},
		{FALLOC_FL_KEEP_SIZE, "allocate, keep size", false, false},
		{FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch", true, false},
		{FALLOC_FL_ZERO_RANGE, "zero", true, true},
		{FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, "zero, keep size", true, false},
	};
	size_t kind = rnd(x, sizeof(kinds) / sizeof(kinds[0]));
	uint32_t off, len, end;

	range(x, rnd(x, 4) ? f->size : MAX_SIZE, &off, &len);
	title(x, "%s file %d: %u at %u", kinds[kind].name, file_nr(x, f), len, off);
	if (fallocate(f->fd, kinds[kind].mode, off, len))
		fail(x, "fallocate: %s", strerror(errno));
	end = off + len < f->size ? off + len : f->size;
	if (kinds[kind].zeroes && end > off)
		memset(f->model + off, 0, end - off);
	if (kinds[kind].grows && off + len > f->size)
		f->size = off + len;
}

static void do_copy(struct fsx *x, struct file *src, struct file *dst)
{
	uint32_t from, to, len, want;
	off_t in, out;
	ssize_t got;

	range(x, src->size, &from, &len);
	range(x, MAX_SIZE - MAX_LEN, &to, &want);
	if (x->copies && rnd(x, 4)) {
		from &= ~(PAGE - 1);
		to &= ~(PAGE - 1);
		len = rnd(x, 2) ? len : MAX_LEN;
	}
	if (src == dst && from < to + len && to < from + len)
		return;
	want = from >= src->size ? 0 : src->size - from < len ? src->size - from : len;
	title(x, "copy file %d to %d: %u from %u to %u", file_nr(x, src), file_nr(x, dst), len,
	      from, to);
	in = from;
	out = to;
	got = copy_file_range(src->fd, &in, dst->fd, &out, len, 0);
	if (got < 0 || (uint32_t)got > want || (want && !got))
		fail(x, "copy_file_range: %zd (%s), expected %u", got, strerror(errno), want);
	if (got)
		wrote(dst, to, src->model + from, (uint32_t)got);
}

static void open_file(struct fsx *x, struct file *f)
{
	f->fd = open(f->path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	f->direct_fd = open(f->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (f->fd < 0 || f->direct_fd < 0)
		fail(x, "%s: %s", f->path, strerror(errno));
}

static void do_reopen(struct fsx *x, struct file *f)
{
	title(x, "close and open file %d", file_nr(x, f));
	if (close(f->fd) | close(f->direct_fd))
		fail(x, "close: %s", strerror(errno));
	open_file(x, f);
}

static void do_sync(struct fsx *x, struct file *f)
{
	title(x, "sync file %d", file_nr(x, f));
	if (rnd(x, 2) ? fsync(f->fd) : fdatasync(f->fd))
		fail(x, "fsync: %s", strerror(errno));
	/* What is read from now on comes from the daemon. */
	if (!rnd(x, 3))
		posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED);
}

static void one_op(struct fsx *x)
{
	struct file *f = &x->files[rnd(x, NR_FILES)];
	uint64_t kind = rnd(x, 100);

	if (x->copies && rnd(x, 100) < x->copies)
		kind = 90;
	if (kind < 16)
		do_read(x, f, false);
	else if (kind < 20)
		do_read(x, f, true);
	else if (kind < 40)
		do_write(x, f, false);
	else if (kind < 48)
		do_write(x, f, true);
	else if (kind < 56)
		do_map(x, f, false);
	else if (kind < 66)
		do_map(x, f, true);
	else if (kind < 76)
		do_truncate(x, f);
	else if (kind < 86)
		do_fallocate(x, f);
	else if (kind < 94)
		do_copy(x, f, &x->files[rnd(x, NR_FILES)]);
	else if (kind < 97)
		do_sync(x, f);
	else
		do_reopen(x, f);
	check_size(x, f);
	if (x->nr % 200 == 199) {
		check_all(x, f);
		check_holes(x, f);
	}
}

/* ---- the model between runs ---- */

static void load(struct fsx *x, const char *path)
{
	FILE *in = fopen(path, "re");
	int i;

	if (!in)
		return;
	title(x, "the files as the last run left them");
	for (i = 0; i < NR_FILES; i++)
		if (fread(&x->files[i].size, sizeof(x->files[i].size), 1, in) != 1 ||
		    fread(x->files[i].model, MAX_SIZE, 1, in) != 1)
			fail(x, "%s: cannot be read", path);
	fclose(in);
	for (i = 0; i < NR_FILES; i++) {
		check_all(x, &x->files[i]);
		check_holes(x, &x->files[i]);
	}
}

static void save(struct fsx *x, const char *path)
{
	FILE *out = fopen(path, "we");
	int i;

	for (i = 0; out && i < NR_FILES; i++) {
		fwrite(&x->files[i].size, sizeof(x->files[i].size), 1, out);
		fwrite(x->files[i].model, MAX_SIZE, 1, out);
	}
	if (!out || fclose(out))
		fail(x, "%s: cannot be written", path);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'},	  {"ops", required_argument, NULL, 'o'},
		{"copies", required_argument, NULL, 'c'}, {"model", required_argument, NULL, 'm'},
		{"verbose", no_argument, NULL, 'v'},	  {0},
	};
	struct fsx *x = calloc(1, sizeof(*x));
	const char *model = NULL;
	uint64_t ops = 1000;
	int c, i;

	x->seed = 1;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			x->seed = strtoull(optarg, NULL, 0);
		else if (c == 'o')
			ops = strtoull(optarg, NULL, 0);
		else if (c == 'c')
			x->copies = strtoull(optarg, NULL, 0);
		else if (c == 'm')
			model = optarg;
		else if (c == 'v')
			x->verbose = true;
		else
			return 2;
	}
	if (argc - optind != 1) {
		fprintf(stderr, "usage: posix-fsx [--seed N] [--ops N] [--copies N] "
				"[--model FILE] DIR\n");
		return 2;
	}
	x->rng = x->seed * 0x9e3779b97f4a7c15ULL + 1;
	x->buf = aligned_alloc(PAGE, MAX_LEN + PAGE);
	for (i = 0; i < NR_FILES; i++) {
		x->files[i].model = calloc(1, MAX_SIZE);
		snprintf(x->files[i].path, sizeof(x->files[i].path), "%s/fsx-%d", argv[optind], i);
		open_file(x, &x->files[i]);
	}
	if (model)
		load(x, model);
	for (x->nr = 1; x->nr <= ops; x->nr++)
		one_op(x);
	x->nr--;
	for (i = 0; i < NR_FILES; i++)
		check_all(x, &x->files[i]);
	if (model)
		save(x, model);
	for (i = 0; i < NR_FILES; i++)
		free(x->files[i].model);
	free(x->buf);
	free(x);
	return 0;
}
