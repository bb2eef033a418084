// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Small writes that gather.
 * Goal: they cost no device write until a flush, and then as few as there are buffers; are readable
 * at once, while they are on their way, and behind that; one that is flushed at once costs one
 * write of data and one of the journal, shared by who flushes at the same time; a write that fails
 * costs nothing but another place; what a flush has answered for survives a crash. Method: files of
 * blocks that say which file and block they are; the device's counters; faults at the first writes
 * of a flush.
 */
#include "../test_rand.h"
#include "codec/codec.h"
#include "dfs.h"
#include "env/env_sim.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define FILES  50U
#define BLOCKS 10U
#define BLOCK  4096U
#define FEW    10U

static void fill_block(u8 *buf, u32 file, u32 block)
{
	u64 s = (u64)file << 32 | block;

	for (u32 i = 0; i < BLOCK; i += 8) {
		u64 v = trand_u64(&s);

		memcpy(buf + i, &v, 8);
	}
}

static struct data_file file(u32 nr)
{
	return (struct data_file){.snapshot = UINT32_MAX, .inum = 100 + nr};
}

/* One block of each file, then the next of each. */
static void write_blocks(struct tfs *f, u32 nr)
{
	_Alignas(4096) u8 buf[BLOCK];

	for (u32 b = 0; b < BLOCKS; b++) {
		for (u32 i = 0; i < FILES && nr; i++, nr--) {
			struct data_file df = file(i);
			u64 done;

			fill_block(buf, i, b);
			int ret = data_write(f->data, &df, b * BLOCK, buf, BLOCK, b * BLOCK, NULL,
					     NULL, &done, NULL);
			/* A full buffer went out before the flush. */
			if (ret == -BCFS_ERR_dev_write && nr <= FEW)
				return;
			DFS_OK(f, ret);
			DFS_ASSERT(f, done == BLOCK, "%llu", (unsigned long long)done);
		}
	}
}

static void write_all(struct tfs *f)
{
	write_blocks(f, UINT32_MAX);
}

/* What was written to the first files, in those that begin with @first. */
static void check_files(struct tfs *f, u32 first, const char *when)
{
	u8 want[BLOCK], got[BLOCK];

	for (u32 i = 0; i < FILES; i++) {
		struct data_file df = file(first + i);

		for (u32 b = 0; b < BLOCKS; b++) {
			u64 done;

			fill_block(want, i, b);
			DFS_OK(f, data_read(f->data, &df, b * BLOCK, got, BLOCK, &done));
			DFS_ASSERT(f, !memcmp(want, got, BLOCK), "%s: file %u block %u", when, i,
				   b);
		}
	}
}

static void check_all(struct tfs *f, const char *when)
{
	check_files(f, 0, when);
}

static struct data_counters counters(struct tfs *f)
{
	struct data_counters c;

	data_counters(f->data, &c);
	return c;
}

static void run_few_writes(struct tfs *f)
{
	u64 sectors = FILES * BLOCKS * (BLOCK / 512), before, journal;
	struct journal_counters j;
	struct data_counters c;

	DFS_OK(f, journal_flush(f->journal));
	journal_counters(f->journal, &j);
	journal = j.entries;
	before = f->bdev->stats.nr[BDEV_WRITE];
	write_all(f);
	check_all(f, "gathered");
	c = counters(f);
	DFS_ASSERT(f, c.gathered == FILES * BLOCKS, "%llu", (unsigned long long)c.gathered);
	DFS_ASSERT(f, c.gather_reads > 0, "none");
	DFS_OK(f, journal_flush(f->journal));
	journal_counters(f->journal, &j);
	c = counters(f);
	DFS_ASSERT(f, c.gather_sectors == sectors, "%llu", (unsigned long long)c.gather_sectors);
	DFS_ASSERT(f, c.gather_writes <= sectors / f->g.bucket_sectors + 3, "%llu",
		   (unsigned long long)c.gather_writes);
	/* A few may be nodes. */
	DFS_ASSERT(f,
		   f->bdev->stats.nr[BDEV_WRITE] - before <=
			   c.gather_writes + (j.entries - journal) + 20,
		   "%llu writes", (unsigned long long)(f->bdev->stats.nr[BDEV_WRITE] - before));
	check_all(f, "flushed");
	tfs_umount(f);
	tfs_mount(f);
	check_all(f, "mounted again");
}

/* ---- what a write costs that is flushed at once ---- */

#define FLUSHES 100U
#define WRITERS 4U

struct flusher {
	struct tfs *f;
	u32 nr;
	struct env_thread *thread;
};

static void flusher_main(void *arg)
{
	struct flusher *w = arg;
	struct data_file df = file(w->nr);
	_Alignas(4096) u8 buf[BLOCK];

	for (u32 i = 0; i < FLUSHES; i++) {
		u64 done;

		fill_block(buf, w->nr, i);
		DFS_OK(w->f, data_write(w->f->data, &df, (u64)i * BLOCK, buf, BLOCK, (u64)i * BLOCK,
					NULL, NULL, &done, NULL));
		DFS_OK(w->f, journal_flush(w->f->journal));
	}
}

/* The device's writes of so many threads, each of which flushes after each block. */
static u64 writes_of(struct tfs *f, u32 threads)
{
	struct flusher w[WRITERS];
	u64 before;

	DFS_OK(f, journal_flush(f->journal));
	before = f->bdev->stats.nr[BDEV_WRITE];
	for (u32 i = 0; i < threads; i++) {
		w[i] = (struct flusher){.f = f, .nr = 1000 * threads + i};
		DFS_OK(f, env_thread_start(f->env, &w[i].thread, "flusher", flusher_main, &w[i]));
	}
	for (u32 i = 0; i < threads; i++)
		env_thread_join(w[i].thread);
	return f->bdev->stats.nr[BDEV_WRITE] - before;
}

static void run_flushes(struct tfs *f)
{
	u64 alone = writes_of(f, 1), together = writes_of(f, WRITERS);

	/* One of data and one of the journal; a node now and then. Together they share them. */
	DFS_ASSERT(f, alone <= 2 * FLUSHES + FLUSHES / 10, "%llu writes",
		   (unsigned long long)alone);
	DFS_ASSERT(f, together <= 2 * alone, "%llu writes, %llu alone",
		   (unsigned long long)together, (unsigned long long)alone);
}

Test(gather, flushed_at_once)
{
	dfs_run(trand_seed(0xda58) | 1, &dfs_small, run_flushes);
}

/* ---- memory ---- */

#define LONG_WRITES 20U

/* Allocations by writes of @bytes, when some have been made before. */
static u64 allocs_of(struct tfs *f, u32 inum, u16 compression, u32 bytes)
{
	struct data_file df = file(inum);
	u8 *buf = env_malloc_aligned(f->env, 4096, bytes);
	u64 before = 0;

	df.compression = compression;
	for (u32 i = 0; i < bytes; i++)
		buf[i] = (u8)(i / 64 % 7);
	for (u32 i = 0; i < 2 * LONG_WRITES; i++) {
		u64 done;

		if (i == LONG_WRITES)
			before = env_sim_nr_allocs(f->env);
		DFS_OK(f, data_write(f->data, &df, (u64)i * bytes, buf, bytes, (u64)i * bytes, NULL,
				     NULL, &done, NULL));
	}
	u64 ret = env_sim_nr_allocs(f->env) - before;

	env_free(f->env, buf);
	return ret;
}

static void run_allocs(struct tfs *f)
{
	u16 zstd = compression_opt(BCFS_COMPRESSION_zstd, 3);
	u64 compressed = allocs_of(f, 2, zstd, 128U << 10);

	/* Nodes that are split, now and then. */
	DFS_ASSERT(f, compressed < LONG_WRITES / 2, "%llu allocations",
		   (unsigned long long)compressed);
}

Test(gather, codecs_allocate_once)
{
	dfs_run(trand_seed(0xda59), &dfs_small, run_allocs);
}

Test(gather, few_writes)
{
	dfs_run(trand_seed(0xda51) | 1, &dfs_small, run_few_writes);
}

/* The first write behind that many fails, when the journal is to be flushed. */
static void run_failed(struct tfs *f)
{
	u64 s = f->seed, moved = 0;

	for (unsigned round = 0; round < 30; round++) {
		struct sim_crash crash = {.rule = SIM_CRASH_NONE};

		sim_bdev_arm(f->bdev,
			     trand_below(&s, 2) ? SIM_FAULT_WRITE_ERROR : SIM_FAULT_WRITE_TORN,
			     1 + trand_below(&s, 6), false);
		write_all(f);
		DFS_OK(f, journal_flush(f->journal));
		check_all(f, "flushed");
		moved += counters(f).gather_moved;
		sim_bdev_arm(f->bdev, SIM_FAULT_WRITE_ERROR, 0, false);
		sim_bdev_arm(f->bdev, SIM_FAULT_WRITE_TORN, 0, false);
		tfs_crash(f, &crash);
		tfs_mount(f);
		check_all(f, "behind a crash");
	}
	DFS_ASSERT(f, moved > 10, "%llu", (unsigned long long)moved);
}

Test(gather, failed_writes)
{
	dfs_run(trand_seed(0xda52) | 1, &dfs_small, run_failed);
}

/* The same of data that have been shared, some with nobody by then, before they went out. */
static void share_all(struct tfs *f, u64 *s)
{
	u64 done, seq;

	for (u32 i = 0; i < FILES; i++) {
		struct data_file src = file(i), dst = file(FILES + i);

		DFS_OK(f, data_share(f->data, &src, 0, &dst, 0, BLOCKS * BLOCK, NULL, NULL, &done));
		if (trand_below(s, 2))
			DFS_OK(f, data_truncate(f->data, &src, trand_below(s, BLOCKS) * BLOCK, NULL,
						NULL, &seq));
	}
}

static void run_failed_shared(struct tfs *f)
{
	u64 s = f->seed, moved = 0;

	for (unsigned round = 0; round < 30; round++) {
		struct sim_crash crash = {.rule = SIM_CRASH_NONE};

		sim_bdev_arm(f->bdev,
			     trand_below(&s, 2) ? SIM_FAULT_WRITE_ERROR : SIM_FAULT_WRITE_TORN,
			     1 + trand_below(&s, 6), false);
		write_all(f);
		share_all(f, &s);
		check_files(f, FILES, "shared");
		DFS_OK(f, journal_flush(f->journal));
		check_files(f, FILES, "flushed");
		moved += counters(f).gather_moved;
		sim_bdev_arm(f->bdev, SIM_FAULT_WRITE_ERROR, 0, false);
		sim_bdev_arm(f->bdev, SIM_FAULT_WRITE_TORN, 0, false);
		tfs_crash(f, &crash);
		tfs_mount(f);
		tfs_check(f, "recovered");
		check_files(f, FILES, "behind a crash");
	}
	DFS_ASSERT(f, moved > 5, "%llu", (unsigned long long)moved);
}

Test(gather, failed_writes_of_shared)
{
	dfs_run(trand_seed(0xda54) | 1, &dfs_small, run_failed_shared);
}

/* ---- a write that fails while a piece of it is being committed ---- */

struct amid {
	struct tfs *f;
	struct env_thread *flush;
};

static void flush_beside(void *arg)
{
	struct amid *a = arg;

	DFS_OK(a->f, journal_flush(a->f->journal));
}

/* Within the commit: the buffer goes out and fails, and there is time to move what is in it. */
static int fail_amid(struct btree_trans *trans, void *arg, u64 new_end, s64 delta)
{
	struct amid *a = arg;

	(void)trans, (void)new_end, (void)delta;
	if (!a->flush) {
		sim_bdev_arm(a->f->bdev, SIM_FAULT_WRITE_ERROR, 1, false);
		DFS_OK(a->f, env_thread_start(a->f->env, &a->flush, "flush", flush_beside, a));
		env_sleep_ns(a->f->env, 300 * ENV_NSEC_PER_MSEC);
	}
	return 0;
}

static void run_failed_amid(struct tfs *f)
{
	struct sim_crash crash = {.rule = SIM_CRASH_NONE};
	u8 want[BLOCK], got[BLOCK];
	_Alignas(4096) u8 buf[BLOCK];
	u64 done;

	for (u32 i = 0; i < FEW; i++) {
		struct data_file df = file(i), other = file(FEW);
		struct amid a = {.f = f};

		/* That the flush has something to do: nothing that gathers, nor needs a move. */
		DFS_OK(f, data_fallocate(f->data, &other, i * BLOCK, BLOCK, NULL, NULL, &done));
		fill_block(buf, i, 0);
		DFS_OK(f, data_write(f->data, &df, 0, buf, BLOCK, 0, fail_amid, &a, &done, NULL));
		env_thread_join(a.flush);
		DFS_ASSERT(f, counters(f).gather_moved == i + 1, "%llu moved",
			   (unsigned long long)counters(f).gather_moved);
	}
	for (unsigned crashed = 0; crashed < 2; crashed++) {
		for (u32 i = 0; i < FEW; i++) {
			struct data_file df = file(i);

			fill_block(want, i, 0);
			DFS_OK(f, data_read(f->data, &df, 0, got, BLOCK, &done));
			DFS_ASSERT(f, !memcmp(want, got, BLOCK), "file %u", i);
		}
		if (!crashed) {
			DFS_OK(f, journal_flush(f->journal));
			tfs_crash(f, &crash);
			tfs_mount(f);
		}
	}
}

Test(gather, failed_amid_commit)
{
	dfs_run(trand_seed(0xda55) | 1, &dfs_small, run_failed_amid);
}

/* Every write fails: whoever waits hears of it, and nothing hangs. What was flushed is there. */
static void run_gone(struct tfs *f)
{
	struct sim_crash crash = {.rule = SIM_CRASH_NONE};
	int ret;

	write_all(f);
	DFS_OK(f, journal_flush(f->journal));
	f->quiet = true;
	sim_bdev_arm(f->bdev, SIM_FAULT_WRITE_ERROR, 1, true);
	write_blocks(f, FEW);
	ret = journal_flush(f->journal);
	DFS_ASSERT(f, ret == -BCFS_ERR_dev_write, "%s", err_str(ret));
	check_all(f, "not flushed");
	sim_bdev_arm(f->bdev, SIM_FAULT_WRITE_ERROR, 0, false);
	tfs_crash(f, &crash);
	f->quiet = false;
	tfs_mount(f);
	check_all(f, "behind a crash");
}

Test(gather, no_write_succeeds)
{
	dfs_run(trand_seed(0xda53) | 1, &dfs_small, run_gone);
}
