/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: the simulated device is a device, deterministic, with faults and the
 * watcher as sim_bdev.h says. Method: random requests against an array; each
 * fault by itself; two runs of one seed.
 */
#include "dev/sim_bdev.h"
#include "test_util.h"

#include <criterion/criterion.h>
#include <string.h>

#define DEV_SIZE (1U << 20)

static void quiet(void *ctx, const char *line) {}

struct fixture {
	struct env *env;
	struct bdev *b;
};

static struct fixture setup(u64 seed, const struct sim_bdev_opts *opts)
{
	struct sim_bdev_opts o = opts ? *opts : (struct sim_bdev_opts){0};
	struct fixture f = {.env = env_sim_create(seed)};

	if (!o.size_bytes)
		o.size_bytes = DEV_SIZE;
	env_set_log(f.env, quiet, NULL);
	cr_assert_eq(sim_bdev_create(f.env, "sim0", &o, &f.b), 0);
	return f;
}

static void teardown(struct fixture *f)
{
	bdev_close(f->b);
	cr_assert_eq(env_sim_live_allocs(f->env, NULL), 0);
	env_sim_destroy(f->env);
}

/* ---- images ---- */

Test(sim_image, clones_and_hashes)
{
	struct sim_image *a = sim_image_create(100 << 20), *b, *c;
	u64 rng = test_seed(), h0 = sim_image_hash(a), h1;
	u8 buf[40000], out[40000];
	char path[256];

	for (int i = 0; i < 50; i++) {
		test_fill(buf, sizeof(buf), i);
		sim_image_write(a, test_random(&rng) % (60 << 20), buf, sizeof(buf));
	}
	sim_image_write(a, (100 << 20) - sizeof(buf), buf, sizeof(buf));
	h1 = sim_image_hash(a);
	cr_assert_neq(h0, h1);
	b = sim_image_clone(a);
	cr_assert_eq(sim_image_hash(b), h1);
	sim_image_write(b, 12345, "x", 1);
	cr_assert_neq(sim_image_hash(b), h1);
	cr_assert_eq(sim_image_hash(a), h1);
	sim_image_read(a, 12345 & ~511ULL, out, 512);
	sim_image_write(b, 12345 & ~511ULL, out, 512);
	cr_assert_eq(sim_image_hash(b), h1, "the hash is by content");

	cr_assert(test_file(test_dir(), path, sizeof(path), 0));
	cr_assert_eq(sim_image_save(a, path), 0);
	cr_assert_eq(sim_image_load(path, &c), 0);
	cr_assert_eq(sim_image_size(c), 100 << 20);
	cr_assert_eq(sim_image_hash(c), h1);
	cr_assert(sim_image_used(c) <= sim_image_used(a));
	sim_image_zero(c, 0, 100 << 20);
	cr_assert_eq(sim_image_hash(c), h0);
	cr_assert_eq(sim_image_used(c), 0);
	unlink(path);
	sim_image_free(a);
	sim_image_free(b);
	sim_image_free(c);
}

/* ---- runs do not depend on where memory lies ---- */

#define WAITERS 12

struct waiter {
	struct fixture *f;
	struct bdev_io *io;
	struct env_thread *t;
	u64 rng;
};

static void waiter_fiber(void *arg)
{
	struct waiter *w = arg;
	static u8 buf[512];

	for (u32 i = 0; i < 40; i++) {
		bdev_io_init(w->io, BDEV_READ, test_random(&w->rng) % 1024 * 512, buf, 512, 0);
		bdev_submit(w->f->b, w->io);
		cr_assert_eq(bdev_wait(w->f->b, w->io), 0);
	}
}

static u64 run_waiters(u64 seed, const u32 *places)
{
	static struct bdev_io ios[4096];
	struct waiter w[WAITERS];
	struct fixture f = setup(seed, NULL);
	u64 h;

	for (u32 i = 0; i < WAITERS; i++) {
		w[i] = (struct waiter){&f, &ios[places[i]], NULL, seed + i};
		cr_assert_eq(env_thread_start(f.env, &w[i].t, "waiter", waiter_fiber, &w[i]), 0);
	}
	for (u32 i = 0; i < WAITERS; i++)
		env_thread_join(w[i].t);
	h = env_sim_schedule_hash(f.env);
	teardown(&f);
	return h;
}

Test(sim_bdev, schedule_does_not_depend_on_addresses)
{
	for (u64 seed = test_seed(); seed < test_seed() + 20; seed++) {
		u32 a[WAITERS], b[WAITERS];
		u64 rng = seed;

		for (u32 i = 0; i < WAITERS; i++) {
			a[i] = i;
			b[i] = i * 300 + (u32)test_random(&rng) % 300;
		}
		cr_assert_eq(run_waiters(seed, a), run_waiters(seed, b), "seed %llu",
			     (unsigned long long)seed);
	}
}

/* ---- a device ---- */

struct model_run {
	struct fixture f;
	u64 seed;
	u8 model[DEV_SIZE];
	u32 nr_done;
};

static void count_done(struct bdev_io *io)
{
	struct model_run *m = io->priv;

	cr_assert_eq(io->ret, 0);
	m->nr_done++;
}

static void model_main(void *arg)
{
	struct model_run *m = arg;
	static u8 bufs[16][16384];
	struct bdev_io ios[16];
	u64 rng = m->seed;

	for (int round = 0; round < 60; round++) {
		/* Sixteen requests at once, each in a part of its own. */
		for (u32 i = 0; i < 16; i++) {
			u64 off = i * 65536 + test_random(&rng) % 64 * 512;
			u32 len = (u32)(1 + test_random(&rng) % 32) * 512;
			bool write = test_random(&rng) & 1;

			if (write)
				test_fill(bufs[i], len, test_random(&rng));
			bdev_io_init(&ios[i], write ? BDEV_WRITE : BDEV_READ, off, bufs[i], len,
				     write ? (u32)test_random(&rng) & 3 : 0);
			ios[i].priv = m;
			ios[i].done = i & 1 ? count_done : NULL;
			bdev_submit(m->f.b, &ios[i]);
		}
		for (u32 i = 0; i < 16; i += 2)
			cr_assert_eq(bdev_wait(m->f.b, &ios[i]), 0);
		bdev_drain(m->f.b);
		for (u32 i = 0; i < 16; i++) {
			if (ios[i].op == BDEV_WRITE)
				memcpy(m->model + ios[i].offset, bufs[i], ios[i].len);
			else
				cr_assert(!memcmp(m->model + ios[i].offset, bufs[i], ios[i].len));
		}
		if (test_random(&rng) % 8 == 0)
			cr_assert_eq(bdev_flush(m->f.b), 0);
	}
	cr_assert_eq(m->nr_done, 60 * 8);
}

static u64 run_model(u64 seed, bool no_log)
{
	struct sim_bdev_opts opts = {.no_log = no_log};
	struct model_run *m = calloc(1, sizeof(*m));
	struct sim_image *img, *crash;
	u64 hash;

	m->f = setup(seed, &opts);
	m->seed = seed;
	cr_assert_eq(env_sim_run(m->f.env, model_main, m), 0);
	cr_assert_eq(bdev_flush(m->f.b), 0);
	/* All is flushed: a crash leaves exactly what readers see. */
	img = sim_bdev_image(m->f.b);
	crash = sim_bdev_crash(m->f.b, &(struct sim_crash){SIM_CRASH_NONE});
	cr_assert_eq(sim_image_hash(img), sim_image_hash(crash));
	hash = sim_bdev_log_hash(m->f.b) ^ env_sim_schedule_hash(m->f.env) ^ sim_image_hash(img);
	sim_image_free(img);
	sim_image_free(crash);
	cr_assert_eq(sim_bdev_violations(m->f.b), 0);
	teardown(&m->f);
	free(m);
	return hash;
}

Test(sim_bdev, model_and_determinism)
{
	u64 last = 0;

	for (u64 seed = test_seed(); seed < test_seed() + 20; seed++) {
		u64 h = run_model(seed, false);

		cr_assert_eq(h, run_model(seed, false), "seed %llu", (unsigned long long)seed);
		cr_assert_eq(h, run_model(seed, true), "the log must not change a run");
		cr_assert_neq(h, last);
		last = h;
	}
}

Test(sim_bdev, completes_in_seeded_order)
{
	u32 nr_reordered = 0;

	for (u64 seed = 0; seed < 20; seed++) {
		struct fixture f = setup(seed, NULL);
		struct bdev_io ios[2];
		u8 buf[2][512] = {{0}};

		for (u32 i = 0; i < 2; i++) {
			bdev_io_init(&ios[i], BDEV_WRITE, i * 512, buf[i], 512, 0);
			bdev_submit(f.b, &ios[i]);
		}
		cr_assert_eq(bdev_wait(f.b, &ios[1]), 0);
		nr_reordered += !bdev_io_is_complete(&ios[0]);
		cr_assert_eq(bdev_wait(f.b, &ios[0]), 0);
		teardown(&f);
	}
	cr_assert(nr_reordered > 3 && nr_reordered < 17, "%u of 20", nr_reordered);
}

Test(sim_bdev, big_and_sparse)
{
	struct sim_bdev_opts opts = {.size_bytes = 16ULL << 30, .logical_block = 4096};
	struct fixture f = setup(1, &opts);
	struct sim_image *img;
	u8 buf[4096] = {1}, out[4096];

	cr_assert_eq(bdev_write(f.b, (16ULL << 30) - 4096, buf, 4096, 0), 0);
	cr_assert_eq(bdev_read(f.b, (16ULL << 30) - 4096, out, 4096), 0);
	cr_assert_eq(out[0], 1);
	cr_assert_eq(bdev_read(f.b, 0, out, 512), -BCFS_ERR_dev_unaligned);
	img = sim_bdev_image(f.b);
	cr_assert_lt(sim_image_used(img), 1 << 20);
	sim_image_free(img);
	teardown(&f);
}

/* ---- faults ---- */

Test(sim_bdev, io_errors)
{
	struct fixture f = setup(1, NULL);
	u8 buf[512] = {7}, out[512];
	u64 struck;

	sim_bdev_arm(f.b, SIM_FAULT_WRITE_ERROR, 2, false);
	cr_assert_eq(bdev_write(f.b, 0, buf, 512, 0), 0);
	cr_assert_eq(bdev_write(f.b, 512, buf, 512, 0), -BCFS_ERR_dev_write);
	cr_assert_eq(bdev_write(f.b, 1024, buf, 512, 0), 0);
	cr_assert_eq(bdev_read(f.b, 512, out, 512), 0);
	cr_assert_eq(out[0], 0, "nothing of a failed write is there");
	cr_assert_eq(sim_bdev_fault_hits(f.b, SIM_FAULT_WRITE_ERROR, &struck), 3);
	cr_assert_eq(struck, 1);

	sim_bdev_arm(f.b, SIM_FAULT_READ_ERROR, 2, true);
	cr_assert_eq(bdev_read(f.b, 0, out, 512), 0);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(bdev_read(f.b, 0, out, 512), -BCFS_ERR_dev_read);
	sim_bdev_arm(f.b, SIM_FAULT_READ_ERROR, 0, false);
	cr_assert_eq(bdev_read(f.b, 0, out, 512), 0);

	sim_bdev_arm(f.b, SIM_FAULT_FLUSH_ERROR, 1, false);
	cr_assert_eq(bdev_write(f.b, 0, buf, 512, BDEV_PREFLUSH), -BCFS_ERR_dev_flush);
	cr_assert_eq(bdev_flush(f.b), 0);
	sim_bdev_arm(f.b, SIM_FAULT_DISCARD_ERROR, 1, false);
	cr_assert_eq(bdev_discard(f.b, 0, 4096), -BCFS_ERR_dev_discard);
	cr_assert_eq(bdev_discard(f.b, 0, 4096), 0);
	teardown(&f);
}

Test(sim_bdev, bad_sectors)
{
	struct fixture f = setup(1, NULL);
	u8 buf[4096] = {0};

	sim_bdev_set_bad(f.b, 4096, 2048, true);
	cr_assert_eq(bdev_read(f.b, 0, buf, 4096), 0);
	cr_assert_eq(bdev_read(f.b, 2048, buf, 2560), -BCFS_ERR_dev_read);
	cr_assert_eq(bdev_write(f.b, 4608, buf, 512, 0), 0); /* a write heals */
	cr_assert_eq(bdev_read(f.b, 4608, buf, 512), 0);
	cr_assert_eq(bdev_read(f.b, 4096, buf, 512), -BCFS_ERR_dev_read);
	cr_assert_eq(bdev_read(f.b, 5120, buf, 512), -BCFS_ERR_dev_read);
	sim_bdev_set_bad(f.b, 0, DEV_SIZE, false);
	cr_assert_eq(bdev_read(f.b, 4096, buf, 4096), 0);
	teardown(&f);
}

static u32 nr_bits(const u8 *a, const u8 *b, u32 len)
{
	u32 nr = 0;

	for (u32 i = 0; i < len; i++)
		nr += (u32)__builtin_popcount(a[i] ^ b[i]);
	return nr;
}

Test(sim_bdev, bit_flips)
{
	struct fixture f = setup(1, NULL);
	u8 buf[4096], out[4096];

	test_fill(buf, sizeof(buf), 1);
	cr_assert_eq(bdev_write(f.b, 0, buf, 4096, 0), 0);
	sim_bdev_arm(f.b, SIM_FAULT_READ_FLIP, 1, false);
	cr_assert_eq(bdev_read(f.b, 0, out, 4096), 0);
	cr_assert_eq(nr_bits(buf, out, 4096), 1);
	cr_assert_eq(bdev_read(f.b, 0, out, 4096), 0);
	cr_assert_eq(nr_bits(buf, out, 4096), 0, "the media is good");
	sim_bdev_flip_bit(f.b, 100, 3);
	cr_assert_eq(bdev_read(f.b, 0, out, 4096), 0);
	cr_assert_eq(out[100], buf[100] ^ 8);
	cr_assert_eq(nr_bits(buf, out, 4096), 1);
	teardown(&f);
}

Test(sim_bdev, lost_misdirected_stale_torn)
{
	struct fixture f = setup(3, NULL);
	struct sim_image *img;
	u8 old[8192], new[8192], out[8192];
	u64 found = 0;

	test_fill(old, sizeof(old), 1);
	test_fill(new, sizeof(new), 2);
	cr_assert_eq(bdev_write(f.b, 0, old, 8192, BDEV_FUA), 0);

	sim_bdev_arm(f.b, SIM_FAULT_WRITE_LOST, 1, false);
	cr_assert_eq(bdev_write(f.b, 0, new, 8192, BDEV_FUA), 0);
	cr_assert_eq(bdev_read(f.b, 0, out, 8192), 0);
	cr_assert(!memcmp(out, old, 8192));

	sim_bdev_arm(f.b, SIM_FAULT_WRITE_STALE, 1, false);
	cr_assert_eq(bdev_write(f.b, 0, new, 8192, BDEV_FUA), 0);
	cr_assert_eq(bdev_flush(f.b), 0);
	cr_assert_eq(bdev_read(f.b, 0, out, 8192), 0);
	cr_assert(!memcmp(out, new, 8192), "readers see it");
	img = sim_bdev_crash(f.b, &(struct sim_crash){SIM_CRASH_ALL});
	sim_image_read(img, 0, out, 8192);
	cr_assert(!memcmp(out, old, 8192), "the media does not");
	sim_image_free(img);

	sim_bdev_arm(f.b, SIM_FAULT_WRITE_MISDIRECTED, 1, false);
	cr_assert_eq(bdev_write(f.b, 512 * 1024, new, 512, 0), 0);
	for (u64 off = 8192; off < DEV_SIZE; off += 512) {
		sim_bdev_peek(f.b, off, out, 512);
		found += !memcmp(out, new, 512);
	}
	cr_assert_eq(found, 1);
	sim_bdev_peek(f.b, 512 * 1024, out, 512);
	cr_assert(memcmp(out, new, 512));

	sim_bdev_arm(f.b, SIM_FAULT_WRITE_TORN, 1, false);
	cr_assert_eq(bdev_write(f.b, 256 * 1024, old, 8192, 0), -BCFS_ERR_dev_write);
	sim_bdev_peek(f.b, 256 * 1024, out, 8192);
	cr_assert(memcmp(out, old, 8192), "never the whole of it");
	teardown(&f);
}

Test(sim_bdev, aimed)
{
	struct fixture f = setup(4, NULL);
	struct sim_strike s;
	u8 a[512] = {1}, out[512];

	cr_assert(!sim_bdev_fault_struck(f.b, SIM_FAULT_WRITE_MISDIRECTED, &s));
	sim_bdev_aim(f.b, 4096);
	sim_bdev_arm(f.b, SIM_FAULT_WRITE_MISDIRECTED, 1, false);
	cr_assert_eq(bdev_write(f.b, 1024, a, 512, 0), 0);
	sim_bdev_peek(f.b, 4096, out, 512);
	cr_assert_eq(out[0], 1);
	sim_bdev_peek(f.b, 1024, out, 512);
	cr_assert_eq(out[0], 0);
	cr_assert(sim_bdev_fault_struck(f.b, SIM_FAULT_WRITE_MISDIRECTED, &s));
	cr_assert(s.offset == 1024 && s.len == 512 && s.to == 4096 && s.pos == 0);
	teardown(&f);
}

Test(sim_bdev, gone_and_back)
{
	struct fixture f = setup(1, NULL);
	u8 a[512] = {1}, b[512] = {2}, out[512];

	cr_assert_eq(bdev_write(f.b, 0, a, 512, BDEV_FUA), 0);
	cr_assert_eq(bdev_write(f.b, 0, b, 512, 0), 0);
	sim_bdev_set_gone(f.b, true, true);
	cr_assert_eq(bdev_read(f.b, 0, out, 512), -BCFS_ERR_dev_gone);
	cr_assert_eq(bdev_write(f.b, 0, b, 512, 0), -BCFS_ERR_dev_gone);
	cr_assert_eq(bdev_flush(f.b), -BCFS_ERR_dev_gone);
	sim_bdev_set_gone(f.b, false, false);
	cr_assert_eq(bdev_read(f.b, 0, out, 512), 0);
	cr_assert_eq(out[0], 1, "what was not durable was lost with it");
	teardown(&f);
}

/* With the third request, of whatever kind: for a while, or until it is disarmed. */
Test(sim_bdev, goes_with_a_request)
{
	u8 a[512] = {1}, out[512];
	u64 struck;

	for (unsigned sticky = 0; sticky < 2; sticky++) {
		struct fixture f = setup(1, NULL);
		unsigned failed = 0;

		sim_bdev_arm(f.b, SIM_FAULT_GONE, 3, sticky);
		cr_assert_eq(bdev_write(f.b, 0, a, 512, 0), 0);
		cr_assert_eq(bdev_flush(f.b), 0);
		/* For who asks, a device that goes is an error of input or output like others. */
		cr_assert_eq(err_to_errno(bdev_read(f.b, 0, out, 512)), EIO);
		while (failed < 200000 && bdev_write(f.b, 0, a, 512, BDEV_FUA))
			failed++;
		sim_bdev_fault_hits(f.b, SIM_FAULT_GONE, &struck);
		cr_assert_geq(struck, 1);
		cr_assert_eq(failed == 200000, sticky);
		sim_bdev_arm(f.b, SIM_FAULT_GONE, 0, false);
		cr_assert_eq(bdev_read(f.b, 0, out, 512), 0);
		cr_assert_eq(out[0], 1);
		teardown(&f);
	}
}

Test(sim_bdev, flush_lies)
{
	struct fixture f = setup(1, NULL);
	struct sim_image *img;
	u8 a[512] = {1}, out[512];

	sim_bdev_set_flush_lies(f.b, true);
	cr_assert_eq(bdev_write(f.b, 0, a, 512, BDEV_FUA), 0);
	cr_assert_eq(bdev_flush(f.b), 0);
	img = sim_bdev_crash(f.b, &(struct sim_crash){SIM_CRASH_NONE});
	sim_image_read(img, 0, out, 512);
	cr_assert_eq(out[0], 0);
	sim_image_free(img);
	sim_bdev_set_flush_lies(f.b, false);
	cr_assert_eq(bdev_flush(f.b), 0);
	img = sim_bdev_crash(f.b, &(struct sim_crash){SIM_CRASH_NONE});
	sim_image_read(img, 0, out, 512);
	cr_assert_eq(out[0], 1);
	sim_image_free(img);
	teardown(&f);
}

static void expect_durable(struct bdev *b, u8 want)
{
	struct sim_image *img = sim_bdev_crash(b, &(struct sim_crash){SIM_CRASH_NONE});
	u8 out;

	sim_image_read(img, 0, &out, 1);
	cr_assert_eq(out, want);
	sim_image_free(img);
}

/* Once: the next makes it good. From then on: none does. */
Test(sim_bdev, a_flush_lies)
{
	struct fixture f = setup(1, NULL);
	u8 a[512] = {1}, b[512] = {2};

	sim_bdev_arm(f.b, SIM_FAULT_FLUSH_LIE, 1, false);
	cr_assert_eq(bdev_write(f.b, 0, a, 512, 0), 0);
	cr_assert_eq(bdev_flush(f.b), 0);
	expect_durable(f.b, 0);
	cr_assert_eq(bdev_flush(f.b), 0);
	expect_durable(f.b, 1);
	sim_bdev_arm(f.b, SIM_FAULT_FLUSH_LIE, 2, true);
	cr_assert_eq(bdev_flush(f.b), 0);
	cr_assert_eq(bdev_flush(f.b), 0);
	cr_assert_eq(bdev_write(f.b, 0, b, 512, BDEV_FUA), 0);
	cr_assert_eq(bdev_flush(f.b), 0);
	expect_durable(f.b, 1);
	teardown(&f);
}

/* ---- the watcher ---- */

Test(sim_bdev, written_once)
{
	struct fixture f = setup(1, NULL);
	u8 buf[65536] = {0};

	cr_assert_eq(bdev_write(f.b, 0, buf, 65536, 0), 0);
	cr_assert_eq(bdev_write(f.b, 0, buf, 65536, 0), 0);
	cr_assert_eq(sim_bdev_violations(f.b), 0, "not watched yet");
	bdev_new_life(f.b, 65536, 65536);
	cr_assert_eq(bdev_write(f.b, 65536, buf, 32768, 0), 0);
	cr_assert_eq(bdev_write(f.b, 98304, buf, 32768, 0), 0);
	cr_assert_eq(bdev_write(f.b, 0, buf, 65536, 0), 0);
	cr_assert_eq(bdev_write(f.b, 131072, buf, 65536, 0), 0);
	cr_assert_eq(sim_bdev_violations(f.b), 0);
	bdev_end_life(f.b, 65536, 65536, true);
	bdev_new_life(f.b, 65536, 65536);
	sim_bdev_arm(f.b, SIM_FAULT_WRITE_ERROR, 1, false);
	cr_assert_eq(bdev_write(f.b, 65536, buf, 512, 0), -BCFS_ERR_dev_write);
	cr_assert_eq(sim_bdev_violations(f.b), 0);
	cr_assert_eq(bdev_write(f.b, 65536, buf, 512, 0), 0); /* a retry in place */
	cr_assert_eq(sim_bdev_violations(f.b), 1);
	cr_assert(strstr(sim_bdev_first_violation(f.b), "1 sectors of [65536, 66048)"), "%s",
		  sim_bdev_first_violation(f.b));
	cr_assert_eq(bdev_write(f.b, 65536 + 512, buf, 65536 - 512, 0), 0);
	cr_assert_eq(bdev_write(f.b, 131072 - 512, buf, 1024, 0), 0);
	cr_assert_eq(sim_bdev_violations(f.b), 2);
	teardown(&f);
}

/* A life that is watched, written, and ends with what is written after this. */
static struct fixture setup_ending(u8 *buf)
{
	struct fixture f = setup(1, NULL);

	bdev_new_life(f.b, 65536, 65536);
	cr_assert_eq(bdev_write(f.b, 65536, buf, 512, 0), 0);
	bdev_end_life(f.b, 65536, 65536, false);
	return f;
}

static void assert_reuse(struct fixture *f, bool allowed, const char *why)
{
	bdev_new_life(f->b, 65536, 65536);
	cr_assert_eq(sim_bdev_violations(f->b), !allowed, "%s: %s", why,
		     sim_bdev_first_violation(f->b));
	teardown(f);
}

Test(sim_bdev, no_early_reuse)
{
	u8 buf[512] = {0};
	struct fixture f = setup(1, NULL);

	bdev_new_life(f.b, 65536, 65536);
	assert_reuse(&f, true, "nothing was written there");
	f = setup(1, NULL);
	bdev_new_life(f.b, 65536, 65536);
	cr_assert_eq(bdev_write(f.b, 131072 - 512, buf, 512, BDEV_FUA), 0);
	cr_assert_eq(bdev_flush(f.b), 0);
	assert_reuse(&f, false, "in use");

	f = setup_ending(buf);
	assert_reuse(&f, false, "nothing written since");
	f = setup_ending(buf);
	cr_assert_eq(bdev_flush(f.b), 0);
	assert_reuse(&f, false, "only a flush since");
	f = setup_ending(buf);
	cr_assert_eq(bdev_write(f.b, 0, buf, 512, 0), 0);
	assert_reuse(&f, false, "written, but not flushed");
	f = setup_ending(buf);
	cr_assert_eq(bdev_write(f.b, 0, buf, 512, BDEV_PREFLUSH), 0);
	assert_reuse(&f, false, "flushed before, not behind");
	f = setup_ending(buf);
	cr_assert_eq(bdev_write(f.b, 0, buf, 512, 0), 0);
	sim_bdev_arm(f.b, SIM_FAULT_FLUSH_ERROR, 1, false);
	cr_assert_eq(bdev_flush(f.b), -BCFS_ERR_dev_flush);
	assert_reuse(&f, false, "the flush failed");
	f = setup_ending(buf);
	cr_assert_eq(bdev_write(f.b, 0, buf, 512, 0), 0);
	cr_assert_eq(bdev_flush(f.b), 0);
	assert_reuse(&f, true, "written, then flushed");
	f = setup_ending(buf);
	cr_assert_eq(bdev_write(f.b, 0, buf, 512, BDEV_FUA), 0);
	assert_reuse(&f, true, "written with FUA");
}

Test(sim_bdev, early_discard)
{
	u8 buf[512] = {0};
	struct fixture f = setup_ending(buf);

	cr_assert_eq(bdev_discard(f.b, 65536, 65536), 0);
	cr_assert_eq(sim_bdev_violations(f.b), 1);
	cr_assert(strstr(sim_bdev_first_violation(f.b), "[65536, 131072) is discarded before"));
	teardown(&f);
}

Test(sim_bdev, buffer_changed_in_flight)
{
	struct fixture f = setup(1, NULL);
	u8 buf[512] = {0};
	struct bdev_io io;

	bdev_io_init(&io, BDEV_WRITE, 0, buf, 512, 0);
	bdev_submit(f.b, &io);
	buf[5] = 1;
	cr_assert_eq(bdev_wait(f.b, &io), 0);
	cr_assert_eq(sim_bdev_violations(f.b), 1);
	teardown(&f);
}

/* ---- power cut ---- */

static void cut_main(void *arg)
{
	struct fixture *f = arg;
	static u8 buf[512];
	struct bdev_io ios[8];

	for (u32 i = 0; i < 8; i++) {
		bdev_io_init(&ios[i], BDEV_WRITE, i * 512, buf, 512, 0);
		bdev_submit(f->b, &ios[i]);
	}
	bdev_wait(f->b, &ios[3]);
	env_sim_stop(f->env, 0);
}

Test(sim_bdev, power_cut)
{
	for (u64 seed = 0; seed < 20; seed++) {
		struct sim_bdev_opts opts = {.no_log = seed & 1};
		struct fixture f = setup(seed, &opts);
		struct sim_image *img;

		cr_assert_eq(env_sim_run(f.env, cut_main, &f), 0);
		cr_assert_eq(sim_bdev_nr_pending(f.b, sim_bdev_log_len(f.b)), 8);
		img = sim_bdev_crash(f.b, &(struct sim_crash){SIM_CRASH_RANDOM, seed});
		sim_image_free(img);
		bdev_close(f.b);
		env_sim_destroy(f.env);
	}
}
