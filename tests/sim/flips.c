// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: what is wrong on the device is noticed, wherever it is: nothing unverified is used. After a
 * bit has flipped a read-only mount shows the tree as it was at some moment, or the damage is told:
 * by the mount or by the read that meets it.
 * Method: runs as in crash.c; after the power cut one bit of the device, of a sector that is not
 * blank, is flipped; the image is opened read-only and everything in it is read.
 *
 * Usage: flips [each]. BCFS_TEST_SEED: that run alone. BCFS_SIM_SCALE: how much of it (default 1).
 * each: one encrypted filesystem, and of every byte that is not in a blank sector one bit; every
 * STRIDE-th byte at a scale of 1, all of them at STRIDE or more.
 */
#include "sim.h"

#include "../unit/test_rand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS	20
#define TRIALS	200
#define STRIDE	101
#define NOWHERE UINT64_MAX

struct totals {
	u64 runs, trials, refused, read_errors, same;
};

struct trial {
	struct sim_run *run;
	struct bdev *bdev;
	struct env *env;
	struct totals *t;
	u64 seed, rng, offset;
	unsigned bit;
};

static void no_log(void *arg, enum bcfs_log_level level, const char *line)
{
	if (getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "log: %s\n", line);
}

/* A bit of a sector that holds something. */
static void choose(struct trial *tr)
{
	u8 buf[512];
	int ret;

	if (tr->offset != NOWHERE) {
		tr->bit = trand_below(&tr->rng, 8);
		return;
	}
	do {
		tr->offset = trand_below(&tr->rng, tr->run->cfg.dev_bytes / 512) * 512;
		ret = bdev_read(tr->bdev, tr->offset, buf, sizeof(buf));
		if (ret)
			sim_fail(tr->run, "reading: %s", err_str(ret));
	} while (!buf[0] && !memcmp(buf, buf + 1, sizeof(buf) - 1));
	tr->offset += trand_below(&tr->rng, 512);
	tr->bit = trand_below(&tr->rng, 8);
}

static bool is_a_state(const struct sim_run *r, u64 hash)
{
	for (unsigned i = 0; i < r->nr_states; i++)
		if (r->state[i].hash == hash)
			return true;
	return false;
}

static void trial_main(void *arg)
{
	struct trial *tr = arg;
	struct core_opts o = {.read_only = true,
			      .no_background = true,
			      .secret = sim_secret(&tr->run->cfg),
			      .cache_bytes = tr->run->cfg.cache_bytes};
	char msg[CORE_MSG_SIZE] = "", *text;
	struct core *c;
	int ret, err;

	choose(tr);
	sim_bdev_flip_bit(tr->bdev, tr->offset, tr->bit);
	ret = core_open_on(tr->env, tr->bdev, &o, no_log, NULL, &c, msg, sizeof(msg));
	if (ret) {
		if (!err_is_damage(ret))
			sim_fail(tr->run, "bit %u of byte %llu flipped: open: %s: %s", tr->bit,
				 (unsigned long long)tr->offset, err_str(ret), msg);
		tr->t->refused++;
		return;
	}
	text = fs_text(&c->fs, &err);
	if (c->journal_damage[0] || err)
		tr->t->read_errors++;
	else if (is_a_state(tr->run, text_hash(text)))
		tr->t->same++;
	else
		sim_fail(tr->run, "bit %u of byte %llu flipped, and nothing said so:\n%s", tr->bit,
			 (unsigned long long)tr->offset, text);
	free(text);
	core_abort(c);
}

/* @offset: NOWHERE: drawn. */
static void one_trial(struct sim_run *r, const struct sim_image *img, u64 seed, u64 offset,
		      struct totals *t)
{
	struct sim_bdev_opts o = {.no_log = true};
	struct trial tr = {
		.run = r, .t = t, .env = env_sim_create(seed), .seed = seed, .offset = offset};
	int ret = sim_bdev_create_from(tr.env, "sim", &o, img, &tr.bdev);

	tr.rng = seed * 0x9e3779b97f4a7c15ULL;
	if (!ret)
		ret = env_sim_run(tr.env, trial_main, &tr);
	if (ret)
		sim_fail(r, "the simulation ended with %s", err_str(ret));
	bdev_close(tr.bdev);
	env_sim_destroy(tr.env);
	t->trials++;
}

static struct sim_cfg make_cfg(u64 seed)
{
	u64 rng = seed * 0x9e3779b97f4a7c15ULL;
	struct sim_cfg c = {.seed = seed,
			    .fault = SIM_FAULT_NR,
			    .block = 512,
			    .node = 4096,
			    .bucket = 16384,
			    .extent_max = 8192,
			    .compression = sim_compression(seed),
			    .background = sim_background(seed),
			    .gather = sim_gather(seed),
			    .encrypt = sim_encrypt(seed),
			    .copies = sim_copies(seed),
			    .cache_bytes = 1,
			    .dev_bytes = 12ULL << 20,
			    .flush_delay_ms = 100,
			    .ops = 60};

	c.journal = c.node * 32U;
	c.prefill = (unsigned)trand_below(&rng, 400);
	return c;
}

static bool blank(const struct sim_image *img, u64 sector)
{
	u8 buf[512];

	sim_image_read(img, sector * 512, buf, sizeof(buf));
	return !buf[0] && !memcmp(buf, buf + 1, sizeof(buf) - 1);
}

static void each_byte(struct sim_run *r, const struct sim_image *img, u64 stride, struct totals *t)
{
	u64 nr = 0;

	for (u64 sector = 0; sector < r->cfg.dev_bytes / 512; sector++) {
		if (blank(img, sector))
			continue;
		for (u64 i = 0; i < 512; i++)
			if (nr++ % stride == 0)
				one_trial(r, img, nr, sector * 512 + i, t);
	}
}

/* @stride: 0: bits that are drawn. */
static void one_run(u64 seed, u64 stride, struct totals *t)
{
	struct sim_cfg cfg = make_cfg(seed);
	struct sim_run *r = calloc(1, sizeof(*r));
	struct sim_counters *counters = calloc(1, sizeof(*counters));
	struct sim_crash how = {.rule = SIM_CRASH_ALL};

	if (stride) {
		cfg.encrypt = true;
		cfg.prefill = 0;
		cfg.dev_bytes = 3ULL << 20;
	}
	sim_run_do(r, &cfg, counters);
	struct sim_image *img = sim_bdev_image_at(r->bdev, sim_bdev_log_len(r->bdev), &how);

	for (unsigned i = 0; i < TRIALS && !stride; i++)
		one_trial(r, img, seed * 1000 + i, NOWHERE, t);
	if (stride)
		each_byte(r, img, stride, t);
	sim_image_free(img);
	sim_run_free(r);
	free(r);
	free(counters);
	t->runs++;
}

int main(int argc, char **argv)
{
	const char *s = getenv("BCFS_SIM_SCALE");
	double scale = s && atof(s) > 0 ? atof(s) : 1;
	bool each = argc > 1 && !strcmp(argv[1], "each");
	unsigned runs = each ? 0 : (unsigned)(RUNS * scale + 0.5);
	struct totals t = {0};

	if (each) {
		one_run(trand_seed(1), max_t(u64, (u64)(STRIDE / scale), 1), &t);
	} else if (getenv("BCFS_TEST_SEED")) {
		one_run(trand_seed(0), 0, &t);
		runs = 0;
	}
	for (unsigned i = 0; i < runs; i++)
		one_run(i + 1, 0, &t);
	printf("%llu runs, %llu flipped bits: %llu met when mounting, %llu when reading, %llu "
	       "where "
	       "nothing is needed\n",
	       (unsigned long long)t.runs, (unsigned long long)t.trials,
	       (unsigned long long)t.refused, (unsigned long long)t.read_errors,
	       (unsigned long long)t.same);
	if (runs >= RUNS && (!t.refused || !t.read_errors)) {
		fprintf(stderr, "FAILED: too few of them were met\n");
		return 1;
	}
	return 0;
}
