// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Gathered writes that fail, while their file is changed.
 * Goal: whatever survives a crash soon after, a file has what one of the moments gave it, all of
 * which is on the device: no key that a flush made durable leads to data that were never written.
 * Method: a small write; then one thread syncs, which sends it out and fails, and another
 * overwrites or truncates the file; a crash at each position of the log from there. Which comes
 * first is the seed's choice. BCFS_TEST_SEED begins elsewhere.
 */
#include "../test_rand.h"
#include "core/core.h"
#include "dev/sim_bdev.h"
#include "env/env_sim.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LEN   8192U
#define FILES 3U

struct run {
	u64 seed, r;
	struct env *env;
	struct bdev *bdev;
	struct core *c;
	struct bcfs_ino ino[FILES];
};

#define RUN_OK(t, x)                                                                               \
	do {                                                                                       \
		s64 ret_ = (x);                                                                    \
		cr_assert(ret_ >= 0, "%s: %s, " TEST_SEED_FMT, #x, err_str((int)ret_),             \
			  (unsigned long long)(t)->seed);                                          \
	} while (0)

static int open_on(struct env *env, struct bdev *bdev, struct core **c)
{
	struct core_opts o = {
		.cache_bytes = 4 << 20, .journal_flush_delay_ms = 60000, .noatime = true};
	char msg[CORE_MSG_SIZE];

	return core_open_on(env, bdev, &o, NULL, NULL, c, msg, sizeof(msg));
}

static void write_file(struct run *t, unsigned i, char byte)
{
	char buf[LEN];

	memset(buf, byte, LEN);
	RUN_OK(t, bcfs_write(&t->c->fs, t->ino[i], 0, buf, LEN, 0));
}

static void make(struct run *t)
{
	struct bcfs_mkfs_opts o = {.struct_size = sizeof(o),
				   .node_bytes = 16 << 10,
				   .bucket_bytes = 64 << 10,
				   .journal_bytes = 1 << 20};
	struct sim_bdev_opts so = {.size_bytes = 16 << 20};
	struct bcfs_cred cred = {0};
	char msg[CORE_MSG_SIZE], name[8];

	if (trand_below(&t->r, 2)) {
		so.latency_max_ns = 1000 * ENV_NSEC_PER_USEC;
		so.flush_max_ns = 3000 * ENV_NSEC_PER_USEC;
	}
	t->env = env_sim_create(t->seed);
	env_sim_set_preempt(t->env, (u32)trand_below(&t->r, 2) * 128);
	RUN_OK(t, sim_bdev_create(t->env, "sim", &so, &t->bdev));
	RUN_OK(t, core_mkfs_on(t->env, t->bdev, &o, NULL, msg, sizeof(msg)));
	RUN_OK(t, open_on(t->env, t->bdev, &t->c));
	for (unsigned i = 0; i < FILES; i++) {
		struct bcfs_stat st;

		snprintf(name, sizeof(name), "f%u", i);
		RUN_OK(t, bcfs_mknod(&t->c->fs, bcfs_root(&t->c->fs), name, S_IFREG | 0644, 0, 0,
				     &cred, &st));
		t->ino[i] = st.ino;
		write_file(t, i, 'a');
	}
	RUN_OK(t, bcfs_sync(&t->c->fs));
	sim_bdev_log_reset(t->bdev);
}

static void sync_beside(void *arg)
{
	struct run *t = arg;

	bcfs_sync(&t->c->fs);
}

static void change(struct run *t, unsigned i)
{
	struct bcfs_stat st = {.size = 0};

	if (trand_below(&t->r, 2))
		write_file(t, i, 'c');
	else
		RUN_OK(t, bcfs_setattr(&t->c->fs, t->ino[i], &st, BCFS_SET_SIZE, &st));
}

/* All of one byte, or nothing. */
static void check_at(struct run *t, u64 pos)
{
	struct sim_image *img =
		sim_bdev_image_at(t->bdev, pos, &(struct sim_crash){.rule = SIM_CRASH_NONE});
	struct env *env = env_sim_create(t->seed + pos);
	struct sim_bdev_opts so = {0};
	struct bdev *bdev;
	struct core *c;
	char buf[LEN];

	RUN_OK(t, sim_bdev_create_from(env, "sim", &so, img, &bdev));
	RUN_OK(t, open_on(env, bdev, &c));
	for (unsigned i = 0; i < FILES; i++) {
		s64 n = bcfs_read(&c->fs, t->ino[i], 0, buf, LEN);

		cr_assert(n == 0 || n == LEN, "file %u after a crash at %llu: %s, " TEST_SEED_FMT,
			  i, (unsigned long long)pos, n < 0 ? err_str((int)n) : "short",
			  (unsigned long long)t->seed);
		for (s64 k = 1; k < n; k++)
			cr_assert_eq(buf[k], buf[0]);
	}
	core_abort(c);
	bdev_close(bdev);
	env_sim_destroy(env);
	sim_image_free(img);
}

static void one(u64 seed)
{
	struct run t = {.seed = seed, .r = seed};
	unsigned nr = 1 + (unsigned)trand_below(&t.r, FILES);
	struct env_thread *thread;
	u64 pos;

	make(&t);
	for (unsigned i = 0; i < nr; i++)
		write_file(&t, i, 'b');
	sim_bdev_arm(t.bdev, SIM_FAULT_WRITE_ERROR, 1 + trand_below(&t.r, 3), false);
	pos = sim_bdev_log_len(t.bdev);
	RUN_OK(&t, env_thread_start(t.env, &thread, "sync", sync_beside, &t));
	env_sleep_ns(t.env, trand_below(&t.r, 3) * trand_below(&t.r, 2000) * ENV_NSEC_PER_USEC);
	for (unsigned i = 0; i < nr; i++)
		change(&t, i);
	env_thread_join(thread);
	for (; pos <= sim_bdev_log_len(t.bdev); pos++)
		check_at(&t, pos);
	core_abort(t.c);
	bdev_close(t.bdev);
	env_sim_destroy(t.env);
}

Test(gather_faults, changed_meanwhile)
{
	u64 seed = trand_seed(1);

	for (u64 i = 0; i < trand_rounds(60); i++)
		one(seed + i);
	/* The overwriting was the last that was done, and came in a later entry. */
	one(0x25d);
}
