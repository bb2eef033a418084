// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Telling the device of all that is free.
 * Goal: what is told of is each row of free buckets in the range that is long enough, whole, and
 * nothing else; while others write and delete, nothing that is in use, nor will be before the
 * device has answered; a device that cannot, or fails, is named. Method: rows of a filesystem in
 * which files were written and deleted, counted bucket by bucket; a thread that trims beside
 * writers, under a device that watches what lives where, and everything read in the end.
 */
#include "../test_rand.h"
#include "tfs.h"

#include <criterion/criterion.h>
#include <string.h>

/* 8 KiB nodes, 16 KiB buckets: rows longer than what is looked at at once. */
static const struct tfs_geometry geometry = {1, 16, 32, 2048, 64, 0};
#define NR_FILES 24U

static void write_some(struct tfs *f, u64 *r, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		u64 start = trand_below(r, 2000);

		/* It may be full. */
		tfs_write(f, 1 + trand_below(r, NR_FILES), start, 1 + trand_below(r, 64), 0);
		if (trand_below(r, 3) == 0) {
			start = trand_below(r, 2000);
			TFS_OK(tfs_delete(f, 1 + trand_below(r, NR_FILES), start,
					  start + 1 + trand_below(r, 500)));
		}
	}
}

static bool is_free(struct tfs *f, struct btree_trans *trans, u64 bucket)
{
	bool ret = false, exists;
	u8 gen;

	if (bucket >= f->alloc->opts.first_bucket && !alloc_is_journal_bucket(f->alloc, bucket))
		TFS_OK(lockrestart_do(
			trans, alloc_bucket_look(trans, f->alloc, bucket, &ret, &exists, &gen)));
	return ret;
}

/* Sectors of the rows in [start, end) that have @least. */
static u64 free_rows(struct tfs *f, u64 start, u64 end, u64 least)
{
	u64 span = f->g.bucket_sectors, row = 0, ret = 0;
	u64 last = min(end / span, f->g.nr_buckets);
	struct btree_trans *trans = btree_trans_get(f->btree);

	for (u64 b = DIV_ROUND_UP(start, span); b <= last; b++) {
		if (b < last && is_free(f, trans, b)) {
			row += span;
			continue;
		}
		if (row >= least)
			ret += row;
		row = 0;
	}
	btree_trans_put(trans);
	return ret;
}

Test(alloc_trim, rows)
{
	u64 r = trand_seed(0xa110f1), all = geometry.nr_buckets * geometry.bucket_sectors, done;
	unsigned told = 0, cut = 0;
	struct tfs fs, *f = &fs;

	toy_mkfs(f, r, &geometry);
	for (unsigned round = 0; round < 40; round++) {
		u64 start = round % 4 ? trand_below(&r, all) : 0;
		u64 end = round % 4 ? start + trand_below(&r, all) : all;
		u64 least = round % 2 ? trand_below(&r, 1ULL << (8 + trand_below(&r, 8))) : 0, want;

		write_some(f, &r, 30);
		TFS_OK(alloc_do_discards(f->alloc));
		want = free_rows(f, start, end, least);
		TFS_OK(alloc_trim(f->alloc, start, end, least, &done));
		cr_assert_eq(done, want, "[%llu, %llu) least %llu: %llu, not %llu",
			     (unsigned long long)start, (unsigned long long)end,
			     (unsigned long long)least, (unsigned long long)done,
			     (unsigned long long)want);
		told += done > 0;
		cut += done < free_rows(f, start, end, 0);
	}
	cr_assert(told > 20 && cut > 2, "%u told of, %u cut", told, cut);
	tfs_check(f, "trimmed");
	tfs_destroy(f);
}

/* ---- beside writers ---- */

struct trimmer {
	struct tfs *f;
	bool stop;
	u64 sectors;
};

static void trim_beside(void *arg)
{
	struct trimmer *t = arg;
	struct tfs *f = t->f;

	while (!t->stop) {
		u64 done;

		TFS_OK(alloc_trim(f->alloc, 0, UINT64_MAX, 0, &done));
		t->sectors += done;
		env_sleep_ns(f->env, ENV_NSEC_PER_USEC);
	}
}

/* Each extent is of one byte, and not of what a discard leaves. */
static int check_extent(struct tfs *f, struct bkey_s_c k)
{
	struct extent_ptr_decoded p;

	for_each_extent_ptr(k, f->g.node_sectors, it, p)
	{
		u32 len = k.k->size * SECTOR_SIZE;
		u8 *buf = env_malloc_aligned(f->env, SECTOR_SIZE, len);

		TFS_OK(bdev_read(f->bdev, p.ptr.offset * SECTOR_SIZE, buf, len));
		for (u32 i = 0; i < len; i++)
			cr_assert(buf[i] && buf[i] == buf[0], "bucket %llu is lost",
				  (unsigned long long)p.ptr.offset / f->g.bucket_sectors);
		env_free(f->env, buf);
	}
	return 0;
}

static void beside_writers(u64 seed)
{
	u64 r = seed;
	struct tfs fs, *f = &fs;
	struct trimmer t = {.f = f};
	struct env_thread *thread;

	toy_mkfs(f, r, &geometry);
	env_sim_set_preempt(f->env, 256);
	env_sim_set_preempt_locks(f->env, 64);
	TFS_OK(env_thread_start(f->env, &thread, "trim", trim_beside, &t));
	for (unsigned i = 0; i < 400; i++) {
		/* A version of which the last byte is not 0. */
		f->next_version = 1 + i % 100;
		write_some(f, &r, 4);
	}
	t.stop = true;
	env_thread_join(thread);
	cr_assert_gt(t.sectors, 0);
	cr_assert_eq(sim_bdev_violations(f->bdev), 0, "%s", sim_bdev_first_violation(f->bdev));
	struct btree_trans *trans = btree_trans_get(f->btree);

	TFS_OK(for_each_btree_key (trans, iter, BTREE_ID_extents, POS_MIN,
				   BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS, k,
				   check_extent(f, k)));
	btree_trans_put(trans);
	tfs_check(f, "trimmed beside writers");
	tfs_destroy(f);
}

Test(alloc_trim, beside_writers)
{
	u64 seed = trand_seed(2);

	for (unsigned i = 0; i < trand_rounds(4); i++)
		beside_writers(seed + i);
}

/* ---- devices ---- */

Test(alloc_trim, devices)
{
	u64 r = trand_seed(0xa110f3), done;
	struct tfs fs, *f = &fs;

	toy_mkfs(f, r, &geometry);
	write_some(f, &r, 30);
	TFS_OK(alloc_do_discards(f->alloc));
	sim_bdev_arm(f->bdev, SIM_FAULT_DISCARD_ERROR, 2, false);
	cr_assert_eq(alloc_trim(f->alloc, 0, UINT64_MAX, 0, &done), -BCFS_ERR_dev_discard);
	cr_assert(done > 0 && done < free_rows(f, 0, UINT64_MAX, 0));
	f->bdev->can_discard = false;
	cr_assert_eq(alloc_trim(f->alloc, 0, UINT64_MAX, 0, &done), -BCFS_ERR_dev_no_discard);
	cr_assert_eq(done, 0);
	f->bdev->can_discard = true;
	tfs_check(f, "not trimmed");
	tfs_destroy(f);
}
