// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Writing of compressed data.
 * Goal: next to nothing is compressed in vain, the ends of buckets included, and extents that lie
 * behind each other are few writes; when such a write fails, all that it had is written elsewhere,
 * and nothing else. Method: a text whose parts compress differently, in writes of 1 MiB; counters;
 * faults at its writes; the device watches that buffers stay and that no sector is written twice.
 */
#include "../test_rand.h"
#include "codec/codec.h"
#include "dfs.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define MIB	 (1U << 20)
#define FILE_MIB 16U
#define FEW_MIB	 3U

static const struct tfs_geometry roomy = {
	.block_sectors = 8,
	.node_sectors = 64,
	.bucket_sectors = 512,
	.nr_buckets = 400,
	.nr_journal = 16,
	.csum_type = BCFS_CSUM_crc32c,
	.chunk_shift = 4,
};

/* Words of a few letters, some of them more often the lower @rare is, which changes slowly. */
static void fill_text(u8 *buf, size_t len, u64 s)
{
	u32 rare = 40;

	for (size_t at = 0; at < len;) {
		u64 v = trand_u64(&s);
		u32 nr = 2 + (u32)(v % 7), word = (u32)(v >> 8) % rare;

		if (!(v >> 40 & 1023))
			rare = 30 + (u32)(v >> 50) % 400;
		for (u32 i = 0; i < nr && at < len; i++)
			buf[at++] = (u8)('a' + (word * 31 + i * (word + 7)) % 26);
		if (at < len)
			buf[at++] = ' ';
	}
}

static u8 *text_new(u64 seed)
{
	u8 *ret = aligned_alloc(4096, FILE_MIB * MIB);

	fill_text(ret, FILE_MIB * MIB, seed);
	return ret;
}

static void write_text(struct tfs *f, const struct data_file *id, const u8 *text, u32 mib)
{
	u64 done;

	for (u32 i = 0; i < mib; i++) {
		DFS_OK(f, data_write(f->data, id, (u64)i * MIB, text + (size_t)i * MIB, MIB,
				     (u64)i * MIB, NULL, NULL, &done, NULL));
		DFS_ASSERT(f, done == MIB, "%llu", (unsigned long long)done);
	}
}

static void check_text(struct tfs *f, const struct data_file *id, const u8 *text, u32 mib)
{
	u8 *got = malloc(MIB);
	u64 done;

	for (u32 i = 0; i < mib; i++) {
		DFS_OK(f, data_read(f->data, id, (u64)i * MIB, got, MIB, &done));
		DFS_ASSERT(f, done == MIB && !memcmp(got, text + (size_t)i * MIB, MIB), "MiB %u",
			   i);
	}
	free(got);
}

static struct data_counters counters(struct tfs *f)
{
	struct data_counters c;

	data_counters(f->data, &c);
	return c;
}

static void run_in_vain(struct tfs *f)
{
	struct data_file id = {.snapshot = UINT32_MAX,
			       .inum = 100,
			       .compression = compression_opt(BCFS_COMPRESSION_zstd, 0)};
	u64 all = (u64)FILE_MIB * MIB / 512, writes, sent;
	u8 *text = text_new(f->seed);
	struct alloc_usage u;
	struct data_counters c;

	DFS_OK(f, journal_flush(f->journal));
	writes = f->bdev->stats.nr[BDEV_WRITE];
	write_text(f, &id, text, FILE_MIB);
	writes = f->bdev->stats.nr[BDEV_WRITE] - writes;
	alloc_usage(f->alloc, &u);
	sent = u.counters[BCFS_ACCOUNTING_compressed];
	DFS_ASSERT(f, sent * 2 < all, "%llu sectors of %llu", (unsigned long long)sent,
		   (unsigned long long)all);
	c = counters(f);
	DFS_ASSERT(f, c.compressed * 100 >= all * 99, "%llu sectors",
		   (unsigned long long)c.compressed);
	DFS_ASSERT(f, c.compressed_in_vain * 100 <= all * 3, "%llu sectors of %llu",
		   (unsigned long long)c.compressed_in_vain, (unsigned long long)c.compressed);
	/* 128 KiB each, but at the ends of a batch and of a bucket; some are the journal's. */
	DFS_ASSERT(f, writes <= 2 * sent / 256 + 2 * FILE_MIB, "%llu for %llu sectors",
		   (unsigned long long)writes, (unsigned long long)sent);
	check_text(f, &id, text, FILE_MIB);
	tfs_umount(f);
	tfs_mount(f);
	check_text(f, &id, text, FILE_MIB);
	free(text);
}

Test(compress, in_vain)
{
	for (u64 i = 0; i < trand_rounds(2); i++)
		dfs_run(trand_seed(0xc0de) + 2 * i, &roomy, run_in_vain);
}

Test(compress, in_vain_sealed)
{
	struct tfs_geometry g = dfs_sealed(&roomy);

	dfs_run(trand_seed(0xc0df), &g, run_in_vain);
}

/* One of its writes fails; in the end one of many in flight: three quarters are left of that text.
 */
static void run_failed(struct tfs *f)
{
	u8 *text = text_new(f->seed);
	u64 s = f->seed, errors = 0;

	for (u32 round = 0; round < 30; round++) {
		struct data_file id = {.snapshot = UINT32_MAX,
				       .inum = 200 + round,
				       .compression = compression_opt(BCFS_COMPRESSION_zstd, 0)};
		struct sim_crash crash = {.rule = SIM_CRASH_NONE};
		u64 seq;

		if (round == 15)
			for (u32 i = 0; i < FEW_MIB * MIB; i++)
				text[i] = (u8)trand_u64(&s) & 63;
		sim_bdev_arm(f->bdev,
			     trand_below(&s, 2) ? SIM_FAULT_WRITE_ERROR : SIM_FAULT_WRITE_TORN,
			     1 + trand_below(&s, 8), false);
		write_text(f, &id, text, FEW_MIB);
		check_text(f, &id, text, FEW_MIB);
		DFS_OK(f, journal_flush(f->journal));
		tfs_check(f, "written");
		sim_bdev_arm(f->bdev, SIM_FAULT_WRITE_ERROR, 0, false);
		sim_bdev_arm(f->bdev, SIM_FAULT_WRITE_TORN, 0, false);
		errors += f->data_errors;
		tfs_crash(f, &crash);
		tfs_mount(f);
		check_text(f, &id, text, FEW_MIB);
		tfs_check(f, "behind a crash");
		DFS_OK(f, data_truncate(f->data, &id, 0, NULL, NULL, &seq));
	}
	DFS_ASSERT(f, errors > 30, "%llu extents", (unsigned long long)errors);
	free(text);
}

Test(compress, failed_writes)
{
	dfs_run(trand_seed(0xc0d2), &roomy, run_failed);
}

Test(compress, failed_writes_sealed)
{
	struct tfs_geometry g = dfs_sealed(&roomy);

	dfs_run(trand_seed(0xc0d4), &g, run_failed);
}
