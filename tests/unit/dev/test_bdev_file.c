/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: both engines read back what was written, on disk and on tmpfs, direct
 * or not, with any buffer, and refuse what bdev.h says they refuse. Method:
 * random requests against an array in memory.
 */
#include "dev/bdev_private.h"
#include "test_util.h"

#include <criterion/criterion.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define DEV_SIZE (4U << 20)
#define NR_OPS	 1500

static struct env *real_env(void)
{
	struct env *env;

	cr_assert_eq(env_real_create(&env), 0);
	return env;
}

static struct bdev *open_or_fail(struct env *env, const char *path, const struct bdev_opts *opts)
{
	char msg[BDEV_MSG_SIZE] = "";
	struct bdev *b;

	cr_assert_eq(bdev_open(env, path, opts, &b, msg, sizeof(msg)), 0, "%s", msg);
	return b;
}

static void note_wait(void *arg)
{
	*(bool *)arg = true;
}

/* @now: in the calling thread, and so over when it was submitted. */
static int request(struct bdev *b, enum bdev_op op, u64 off, void *buf, u32 len, u32 flags,
		   bool now)
{
	bool waited = false;
	struct bdev_io io;

	if (op == BDEV_DISCARD)
		bdev_io_init_discard(&io, off, len);
	else
		bdev_io_init(&io, op, off, buf, len, flags);
	io.flags |= now ? BDEV_SYNC : 0;
	env_thread_on_wait(note_wait, &waited);
	bdev_submit(b, &io);
	cr_assert(!now || (bdev_io_is_complete(&io) && (waited || io.ret)));
	env_thread_on_wait(NULL, NULL);
	return bdev_wait(b, &io);
}

static void random_op(struct bdev *b, u8 *model, u8 *area, u64 *rng)
{
	u32 nr = (u32)(1 + test_random(rng) % (test_random(rng) % 8 ? 16 : 256));
	u32 len = nr * 512;
	u64 off = test_random(rng) % ((DEV_SIZE - len) / 512 + 1) * 512;
	u8 *buf = area + (test_random(rng) % 4 ? 0 : test_random(rng) % 513);
	u32 flags = (u32)(test_random(rng) % 4);
	bool now = test_random(rng) % 2;

	switch (test_random(rng) % 16) {
	case 0:
		cr_assert_eq(request(b, BDEV_FLUSH, 0, NULL, 0, 0, now), 0);
		break;
	case 1:
		cr_assert_eq(request(b, BDEV_DISCARD, off, NULL, len, 0, now), 0);
		memset(model + off, 0, len); /* a hole in a file reads as zeroes */
		break;
	case 2 ... 8:
		test_fill(buf, len, test_random(rng));
		memcpy(model + off, buf, len);
		cr_assert_eq(request(b, BDEV_WRITE, off, buf, len, flags, now), 0);
		break;
	default:
		memset(buf, 0xa5, len);
		cr_assert_eq(request(b, BDEV_READ, off, buf, len, 0, now), 0);
		cr_assert(!memcmp(buf, model + off, len), "differs at %llu + %u, seed %llu",
			  (unsigned long long)off, len, (unsigned long long)test_seed());
	}
}

/* What other machines have: files that need more alignment, kernels without RWF_DSYNC. */
struct quirks {
	u32 dio_align;
	bool no_dsync;
};

static void apply_quirks(struct bdev *b, const struct quirks *q)
{
	struct bdev_file *f = container_of(b, struct bdev_file, b);

	f->no_dsync = q->no_dsync;
	if (f->fd_direct >= 0)
		f->dio_align = max(f->dio_align, q->dio_align);
}

static void run_quirks(const char *dir, enum bdev_engine engine, enum bdev_direct direct,
		       const struct quirks *q)
{
	struct env *env = real_env();
	struct bdev_opts opts = {.engine = engine, .direct = direct};
	u8 *model = calloc(1, DEV_SIZE), *area = aligned_alloc(4096, DEV_SIZE);
	u64 rng = test_seed();
	struct bdev_stats st;
	char path[256];
	struct bdev *b;

	if (!test_file(dir, path, sizeof(path), DEV_SIZE))
		cr_skip_test("no file in %s", dir);
	b = open_or_fail(env, path, &opts);
	cr_log_info("%s: engine %s, direct %d", path, b->engine, b->direct);
	cr_assert_eq(b->size_bytes, DEV_SIZE);
	apply_quirks(b, q);
	for (int i = 0; i < NR_OPS; i++)
		random_op(b, model, area, &rng);
	bdev_get_stats(b, &st);
	cr_assert(st.nr[BDEV_READ] && st.nr[BDEV_WRITE] && st.nr[BDEV_FLUSH] && st.nr_fua);
	bdev_close(b);

	/* The other engine sees the same. */
	opts.engine = BDEV_ENGINE_THREADS;
	opts.read_only = true;
	b = open_or_fail(env, path, &opts);
	cr_assert_eq(bdev_read(b, 0, area, DEV_SIZE), 0);
	cr_assert(!memcmp(area, model, DEV_SIZE));
	cr_assert_eq(bdev_write(b, 0, area, 512, 0), -BCFS_ERR_dev_write_ro);
	bdev_close(b);
	unlink(path);
	free(area);
	free(model);
	env_real_destroy(env);
}

static void run_model(const char *dir, enum bdev_engine engine, enum bdev_direct direct)
{
	run_quirks(dir, engine, direct, &(struct quirks){0});
}

Test(bdev_file, threads_direct)
{
	run_model(test_dir(), BDEV_ENGINE_THREADS, BDEV_DIRECT_AUTO);
}
Test(bdev_file, threads_cached)
{
	run_model(test_dir(), BDEV_ENGINE_THREADS, BDEV_DIRECT_OFF);
}
Test(bdev_file, auto_direct)
{
	run_model(test_dir(), BDEV_ENGINE_AUTO, BDEV_DIRECT_AUTO);
}
Test(bdev_file, auto_cached)
{
	run_model(test_dir(), BDEV_ENGINE_AUTO, BDEV_DIRECT_OFF);
}
Test(bdev_file, threads_tmpfs)
{
	run_model("/dev/shm", BDEV_ENGINE_THREADS, BDEV_DIRECT_AUTO);
}
Test(bdev_file, auto_tmpfs)
{
	run_model("/dev/shm", BDEV_ENGINE_AUTO, BDEV_DIRECT_AUTO);
}

Test(bdev_file, threads_quirks)
{
	run_quirks(test_dir(), BDEV_ENGINE_THREADS, BDEV_DIRECT_AUTO, &(struct quirks){4096, true});
}

Test(bdev_file, auto_quirks)
{
	run_quirks(test_dir(), BDEV_ENGINE_AUTO, BDEV_DIRECT_AUTO, &(struct quirks){4096, true});
}

/* Where io_uring is forbidden, as in many containers, threads take its place. */
Test(bdev_file, no_uring)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {ARRAY_SIZE(filter), filter};
	struct bdev_opts uring = {.engine = BDEV_ENGINE_URING};
	struct env *env = real_env();
	char path[256], msg[BDEV_MSG_SIZE] = "";
	u8 buf[512] = {0};
	struct bdev *b;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &prog))
		cr_skip_test("no seccomp here");
	cr_assert(test_file(test_dir(), path, sizeof(path), 65536));
	cr_assert_eq(bdev_open(env, path, &uring, &b, msg, sizeof(msg)), -BCFS_ERR_dev_no_uring);
	cr_assert(strstr(msg, path) && strstr(msg, "io=threads"), "%s", msg);
	b = open_or_fail(env, path, NULL);
	cr_assert_str_eq(b->engine, "threads");
	cr_assert_eq(bdev_write(b, 0, buf, 512, BDEV_FUA), 0);
	bdev_close(b);
	unlink(path);
	env_real_destroy(env);
}

Test(bdev_file, refusals)
{
	struct env *env = real_env();
	u8 *buf = aligned_alloc(4096, 8192);
	char path[256];
	struct bdev *b;

	cr_assert(test_file(test_dir(), path, sizeof(path), 1 << 20));
	for (int e = BDEV_ENGINE_AUTO; e <= BDEV_ENGINE_THREADS; e += BDEV_ENGINE_THREADS) {
		struct bdev_opts opts = {.engine = (enum bdev_engine)e};

		cr_assert_eq(truncate(path, 1 << 20), 0);
		b = open_or_fail(env, path, &opts);
		cr_assert_eq(bdev_read(b, 100, buf, 512), -BCFS_ERR_dev_unaligned);
		cr_assert_eq(bdev_write(b, 0, buf, 100, 0), -BCFS_ERR_dev_unaligned);
		cr_assert_eq(bdev_read(b, 1 << 20, buf, 512), -BCFS_ERR_dev_bounds);
		cr_assert_eq(bdev_write(b, (1 << 20) - 512, buf, 1024, 0), -BCFS_ERR_dev_bounds);
		cr_assert_eq(bdev_read(b, UINT64_MAX - 511, buf, 1024), -BCFS_ERR_dev_bounds);
		cr_assert_eq(bdev_discard(b, 1 << 20, 512), -BCFS_ERR_dev_bounds);
		cr_assert_eq(bdev_read(b, 0, buf, 0), -BCFS_ERR_dev_bounds);
		cr_assert_eq(bdev_read(b, (1 << 20) - 512, buf, 512), 0);
		/* Truncated behind our back: never zeroes. */
		cr_assert_eq(truncate(path, 8192), 0);
		for (unsigned now = 0; now < 2; now++) {
			cr_assert_eq(request(b, BDEV_READ, 4096, buf, 8192, 0, now),
				     -BCFS_ERR_dev_truncated);
			cr_assert_eq(request(b, BDEV_READ, 65536, buf, 512, 0, now),
				     -BCFS_ERR_dev_truncated);
			cr_assert_eq(request(b, BDEV_READ, 4096, buf, 4096, 0, now), 0);
		}
		bdev_close(b);
	}
	unlink(path);
	free(buf);
	env_real_destroy(env);
}

/* A file size that is no multiple of anything. */
Test(bdev_file, odd_size)
{
	struct env *env = real_env();
	u8 buf[1024];
	char path[256];
	struct bdev *b;

	cr_assert(test_file(test_dir(), path, sizeof(path), 100 * 512 + 77));
	b = open_or_fail(env, path, NULL);
	cr_assert_eq(b->size_bytes, 100 * 512);
	cr_assert_eq(bdev_write(b, 98 * 512, buf, 1024, BDEV_FUA), 0);
	cr_assert_eq(bdev_read(b, 99 * 512, buf, 512), 0);
	bdev_close(b);
	unlink(path);
	env_real_destroy(env);
}
