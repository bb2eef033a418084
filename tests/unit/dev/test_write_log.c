/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: a saved write log, read by its documented layout, replays to what the device holds; at
 * each flush entry it has at least what a crash there keeps for certain. A device on top of another
 * passes everything through and logs it.
 * Method: random requests, overlapping ones and failing ones among them, on the simulated
 * device; a reader of the test's own.
 */
#include "dev/sim_bdev.h"
#include "dev/write_log.h"
#include "test_util.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEV_SIZE (256U << 10)
#define SECTOR	 512U

static void quiet(void *ctx, const char *line) {}

struct counts {
	u64 entries, flushes, fua, discards, marks, writes;
};

static u64 get64(const u8 *p)
{
	u64 v = 0;

	for (int i = 7; i >= 0; i--)
		v = v << 8 | p[i];
	return v;
}

/* Apply the log to @img; by the layout alone. @vague: sectors that were discarded since written. */
static void replay(const char *path, struct sim_image *img, bool *vague, struct counts *c)
{
	FILE *f = fopen(path, "rb");
	u8 head[SECTOR], data[DEV_SIZE];
	u64 nr;

	cr_assert(f);
	cr_assert_eq(fread(head, 1, SECTOR, f), SECTOR);
	cr_assert_eq(get64(head), 0x6a736677736872ULL);
	cr_assert_eq(get64(head + 8), 1);
	nr = get64(head + 16);
	cr_assert_eq(get64(head + 24) & UINT32_MAX, SECTOR);
	*c = (struct counts){.entries = nr};
	for (u64 i = 0; i < nr; i++) {
		u64 offset, len, flags;

		cr_assert_eq(fread(head, 1, SECTOR, f), SECTOR);
		offset = get64(head) * SECTOR;
		len = get64(head + 8) * SECTOR;
		flags = get64(head + 16);
		c->flushes += flags == 1;
		c->fua += flags == 2;
		c->discards += flags == 4;
		c->marks += flags == 8;
		c->writes += !flags;
		for (u64 at = offset; at < offset + len; at += SECTOR)
			vague[at / SECTOR] = flags == 4;
		if (!len || flags & 12)
			continue;
		cr_assert_leq(len, sizeof(data));
		cr_assert_eq(fread(data, 1, len, f), len);
		sim_image_write(img, offset, data, len);
	}
	cr_assert_eq(fgetc(f), EOF);
	fclose(f);
}

static void check_same(struct bdev *sim, const char *path, struct counts *c)
{
	struct sim_image *img = sim_image_create(DEV_SIZE);
	bool vague[DEV_SIZE / SECTOR] = {0};
	u8 want[SECTOR], got[SECTOR];

	replay(path, img, vague, c);
	for (u64 at = 0; at < DEV_SIZE; at += SECTOR) {
		sim_bdev_peek(sim, at, want, SECTOR);
		sim_image_read(img, at, got, SECTOR);
		cr_assert(vague[at / SECTOR] || !memcmp(want, got, SECTOR), "byte %llu",
			  (unsigned long long)at);
	}
	sim_image_free(img);
}

static void random_requests(struct bdev *b, u64 *rng, unsigned nr)
{
	static u8 buf[16 * SECTOR];

	for (unsigned i = 0; i < nr; i++) {
		u64 len = (1 + test_random(rng) % 16) * SECTOR;
		u64 at = test_random(rng) % ((DEV_SIZE - len) / SECTOR) * SECTOR;

		test_fill(buf, len, test_random(rng));
		switch (test_random(rng) % 12) {
		case 0:
			bdev_flush(b);
			break;
		case 1:
			bdev_discard(b, at, len);
			break;
		case 2:
			bdev_write(b, at, buf, len, BDEV_FUA | BDEV_PREFLUSH);
			break;
		case 3:
			cr_assert_eq(bdev_read(b, at, buf, len), 0);
			break;
		default:
			bdev_write(b, at, buf, len, 0);
		}
	}
}

Test(write_log, of_a_simulated_device)
{
	for (u64 seed = test_seed(), end = seed + 20; seed < end; seed++) {
		struct sim_bdev_opts o = {.size_bytes = DEV_SIZE};
		struct env *env = env_sim_create(seed);
		struct counts c;
		struct bdev *b;
		char path[256];
		u64 rng = seed;

		env_set_log(env, quiet, NULL);
		cr_assert_eq(sim_bdev_create(env, "sim0", &o, &b), 0);
		sim_bdev_arm(b, SIM_FAULT_WRITE_ERROR, 5, false);
		/* The odd ones on top of an empty device whose log was forgotten. */
		if (seed & 1) {
			cr_assert_eq(bdev_flush(b), 0);
			sim_bdev_log_reset(b);
		}
		random_requests(b, &rng, 200);
		cr_assert(test_file(test_dir(), path, sizeof(path), 0));
		cr_assert_eq(sim_bdev_save_write_log(b, path), 0);
		check_same(b, path, &c);
		cr_assert(c.flushes && c.fua && c.discards && c.writes && !c.marks);
		unlink(path);
		bdev_close(b);
		env_sim_destroy(env);
	}
}

Test(write_log, of_what_passes)
{
	for (u64 seed = test_seed(), end = seed + 20; seed < end; seed++) {
		struct sim_bdev_opts o = {.size_bytes = DEV_SIZE};
		struct env *env = env_sim_create(seed);
		struct bdev *sim, *b;
		struct counts c, sim_c;
		char path[256], path2[256];
		u64 rng = seed;

		env_set_log(env, quiet, NULL);
		cr_assert(test_file(test_dir(), path, sizeof(path), 0));
		cr_assert(test_file(test_dir(), path2, sizeof(path2), 0));
		cr_assert_eq(sim_bdev_create(env, "sim0", &o, &sim), 0);
		cr_assert_eq(write_log_bdev_create(sim, path, &b), 0);
		random_requests(b, &rng, 200);
		check_same(sim, path, &c);
		cr_assert_eq(sim_bdev_save_write_log(sim, path2), 0);
		check_same(sim, path2, &sim_c);
		cr_assert_eq(c.marks, 1);
		/* One request at a time: the two logs agree entry by entry. */
		cr_assert_eq(c.entries - c.marks, sim_c.entries);
		cr_assert_eq(c.flushes, sim_c.flushes);
		cr_assert_eq(c.fua, sim_c.fua);
		unlink(path);
		unlink(path2);
		bdev_close(b);
		env_sim_destroy(env);
	}
}

Test(write_log, cannot_be_made)
{
	struct sim_bdev_opts o = {.size_bytes = DEV_SIZE};
	struct env *env = env_sim_create(1);
	struct bdev *sim, *b;

	env_set_log(env, quiet, NULL);
	cr_assert_eq(sim_bdev_create(env, "sim0", &o, &sim), 0);
	cr_assert_eq(write_log_bdev_create(sim, "/nonexistent/log", &b), -BCFS_ERR_dev_write_log);
	env_sim_destroy(env);
}
