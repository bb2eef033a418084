// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The allocator under a real btree and journal on the simulated device.
 * Goal: after any mix of writes, overwrites and deletes, with restarts injected, after clean mounts
 * and after crashes, mark and sweep finds nothing to correct; no sector is written twice in one
 * life of its bucket; what was promised is there; what was deleted comes back.
 */
#include "../test_rand.h"
#include "tfs.h"

#include <criterion/criterion.h>

#define FILE_BLOCKS 160

static void random_op(struct tfs *f, u64 *r)
{
	u32 bs = f->g.block_sectors;
	u64 inum = 1 + trand_below(r, 4), start = trand_below(r, FILE_BLOCKS) * bs;
	u32 len = (1 + trand_below(r, trand_below(r, 4) ? 8 : 40)) * bs;

	if (trand_below(r, 4))
		tfs_write(f, inum, start, len, trand_below(r, 3));
	else
		TFS_OK(tfs_delete(f, inum, start, start + len));
}

static void random_ops(struct tfs *f, u64 *r, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		random_op(f, r);
}

static void delete_all(struct tfs *f)
{
	for (u64 inum = 1; inum <= 8; inum++)
		TFS_OK(tfs_delete(f, inum, 0, 1ULL << 40));
}

static void run_random(const struct tfs_geometry *g, u64 default_seed, u32 restart_ppm)
{
	u64 r = trand_seed(default_seed);
	struct alloc_counters n;
	struct tfs f;

	toy_mkfs(&f, r, g);
	tfs_check(&f, "mkfs");
	for (unsigned round = 0; round < 12; round++) {
		if (restart_ppm)
			env_inject_arm_random(f.env, "trans_restart_commit", restart_ppm);
		random_ops(&f, &r, 60);
		env_inject_disarm_all(f.env);
		tfs_check(&f, "random writes");
		if (round % 4 == 3) {
			tfs_umount(&f);
			tfs_mount(&f);
			tfs_check(&f, "mount");
		}
	}
	delete_all(&f);
	tfs_check(&f, "all deleted");
	if (alloc_do_discards(f.alloc))
		abort();
	tfs_check(&f, "discarded");
	cr_assert_eq(alloc_usage_get(f.alloc, BCFS_ACCOUNTING_user), 0);
	cr_assert_eq(alloc_usage_get(f.alloc, BCFS_ACCOUNTING_buckets_user), 0);
	alloc_counters(f.alloc, &n);
	cr_assert_gt(n.buckets_discarded, 0);
	tfs_destroy(&f);
}

Test(alloc_fs, random_small)
{
	run_random(&tfs_small, 0xa110c1, 0);
}

Test(alloc_fs, random_tiny)
{
	run_random(&tfs_tiny, 0xa110c2, 0);
}

Test(alloc_fs, random_with_restarts)
{
	run_random(&tfs_small, 0xa110c3, 200000);
}

/* Full, empty, full again: the same amount fits, in buckets of a later generation. */
static u64 fill(struct tfs *f, u64 *r)
{
	u64 total = 0, off = 0;
	u32 len = f->g.bucket_sectors;

	while (1) {
		if (tfs_write(f, 1 + trand_below(r, 8), off, len, 1)) {
			if (len == f->g.block_sectors)
				return total;
			len = max(len / 2 / f->g.block_sectors, 1U) * f->g.block_sectors;
			continue;
		}
		off += len;
		total += len;
	}
}

static void run_fill(const struct tfs_geometry *g, u64 default_seed)
{
	u64 r = trand_seed(default_seed), total[3];
	struct alloc_usage u0, u1;
	struct alloc_counters n;
	struct tfs f;

	toy_mkfs(&f, r, g);
	alloc_usage(f.alloc, &u0);
	for (unsigned i = 0; i < 3; i++) {
		total[i] = fill(&f, &r);
		tfs_check(&f, "full");
		delete_all(&f);
		if (alloc_do_discards(f.alloc))
			abort();
		tfs_check(&f, "emptied");
		alloc_usage(f.alloc, &u1);
		cr_assert_eq(u1.counters[BCFS_ACCOUNTING_user], 0);
		cr_assert_eq(u1.reserved, 0);
		cr_assert_gt(u1.free, u0.free / 100 * 85, "free %llu, at first %llu",
			     (unsigned long long)u1.free, (unsigned long long)u0.free);
	}
	cr_assert_gt(total[0], u0.free / 100 * 75, "%llu of %llu could be written",
		     (unsigned long long)total[0], (unsigned long long)u0.free);
	cr_assert_gt(total[2], total[0] / 100 * 85);
	alloc_counters(f.alloc, &n);
	cr_assert_gt(n.buckets_reused, 0);
	tfs_destroy(&f);
}

Test(alloc_fs, fill_small)
{
	run_fill(&tfs_small, 0xa110c4);
}

Test(alloc_fs, fill_tiny)
{
	run_fill(&tfs_tiny, 0xa110c5);
}

/* What is allocated and then given up comes back, under a new generation. */
Test(alloc_fs, given_up_space_is_retired)
{
	u64 r = trand_seed(0xa110c6);
	struct alloc_counters n;
	struct alloc_usage u0, u1;
	struct tfs fs, *f = &fs;

	toy_mkfs(f, r, &tfs_small);
	alloc_usage(f->alloc, &u0);
	u8 *data = calloc(f->g.bucket_sectors, 512);

	for (unsigned i = 0; i < 3 * f->g.nr_buckets; i++) {
		struct disk_reservation res = {0};
		struct alloc_sectors s;

		TFS_OK(disk_reservation_get(f->alloc, &res, f->g.bucket_sectors));
		TFS_OK(alloc_sectors_get(f->alloc, i, f->g.bucket_sectors, &s));
		TFS_OK(bdev_write(f->bdev, s.ptr.offset * 512ULL, data, s.sectors * 512, 0));
		alloc_sectors_done(f->alloc, &s);
		disk_reservation_put(f->alloc, &res);
	}
	free(data);
	TFS_OK(alloc_do_discards(f->alloc));
	tfs_check(f, "given up");
	alloc_counters(f->alloc, &n);
	cr_assert_gt(n.buckets_retired, f->g.nr_buckets);
	cr_assert_gt(n.buckets_reused, 0);
	alloc_usage(f->alloc, &u1);
	cr_assert_gt(u1.free, u0.free / 10 * 9);
	tfs_destroy(f);
}

static void run_crashes(const struct tfs_geometry *g, u64 default_seed)
{
	u64 r = trand_seed(default_seed);
	struct tfs fs, *f = &fs;

	toy_mkfs(f, r, g);
	TFS_OK(journal_flush(f->journal));
	for (unsigned round = 0; round < 10; round++) {
		struct sim_crash crash = {
			.rule = (enum sim_crash_rule)trand_below(&r, SIM_CRASH_SUBSET),
			.seed = trand_u64(&r),
		};

		random_ops(f, &r, 40);
		if (trand_below(&r, 2))
			TFS_OK(journal_flush(f->journal));
		random_ops(f, &r, trand_below(&r, 20));
		if (sim_bdev_violations(f->bdev))
			tfs_fail(f, sim_bdev_first_violation(f->bdev), __LINE__, 0);
		tfs_crash(f, &crash);
		tfs_mount(f);
		tfs_check(f, "recovered");
	}
	delete_all(f);
	TFS_OK(alloc_do_discards(f->alloc));
	tfs_check(f, "emptied");
	tfs_destroy(f);
}

Test(alloc_fs, crashes_small)
{
	run_crashes(&tfs_small, 0xa110c7);
}

Test(alloc_fs, crashes_tiny)
{
	run_crashes(&tfs_tiny, 0xa110c8);
}

/* Several fibers at once. */
struct worker {
	struct tfs *f;
	u64 r;
};

static void worker_fn(void *arg)
{
	struct worker *w = arg;

	random_ops(w->f, &w->r, 80);
}

Test(alloc_fs, concurrent)
{
	u64 r = trand_seed(0xa110c9);
	struct env_thread *t[6];
	struct worker w[6];
	struct tfs fs, *f = &fs;

	toy_mkfs(f, r, &tfs_small);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 6; i++) {
			w[i] = (struct worker){f, trand_u64(&r)};
			TFS_OK(env_thread_start(f->env, &t[i], "writer", worker_fn, &w[i]));
		}
		for (unsigned i = 0; i < 6; i++)
			env_thread_join(t[i]);
		tfs_check(f, "concurrent writes");
	}
	tfs_destroy(f);
}

/* A device with many buckets costs what a small one does. */
Test(alloc_fs, huge_device)
{
	struct tfs_geometry g = {8, 32, 256, 1ULL << 19, 16, 0};
	struct tfs fs, *f = &fs;
	struct btree_counters n;

	toy_mkfs(f, 1, &g);
	TFS_OK(tfs_write(f, 1, 0, 2048, 1));
	tfs_umount(f);
	tfs_mount(f);
	TFS_OK(tfs_write(f, 1, 2048, 2048, 1));
	tfs_check(f, "huge");
	btree_counters(f->btree, &n);
	cr_assert_lt(n.node_reads, 40);
	tfs_destroy(f);
}

/* ---- what statfs says ---- */

/*
 * With nothing under way the free space is, to the sector, all buckets but those that hold
 * something by the counters and the reserve, and what is left of the buckets that data is being
 * written to.
 */
static void check_free(struct tfs *f, const char *when)
{
	struct alloc_fs *a = f->alloc;
	struct alloc_usage u;
	s64 buckets = (s64)(a->opts.nr_buckets - a->reserve_buckets), rest = 0;

	alloc_usage(a, &u);
	buckets -= u.buckets[BCFS_DATA_sb] + u.buckets[BCFS_DATA_journal];
	buckets -= u.buckets[BCFS_DATA_btree] + u.buckets[BCFS_DATA_user];
	for (unsigned i = 1; i < ALLOC_OB_NR; i++) {
		const struct open_bucket *ob = &a->ob[i];

		if (ob->state == OB_OPEN && ob->data_type == BCFS_DATA_user)
			rest += ob->sectors_free;
		if (ob->state == OB_OPEN && ob->empty)
			rest -= a->bucket_usable;
		if (ob->state == OB_OPEN && !ob->counted)
			cr_assert_fail("%s: bucket %llu (%u) is open, but nobody's", when,
				       (unsigned long long)ob->bucket, ob->data_type);
	}
	cr_assert_eq(u.free, buckets * a->bucket_usable + rest - u.reserved,
		     "%s: free %llu, by the buckets %lld and rests of %lld", when,
		     (unsigned long long)u.free, (long long)(buckets * a->bucket_usable),
		     (long long)rest);
	cr_assert_leq(u.used + u.reserved + u.free, u.capacity);
}

static void run_free(const struct tfs_geometry *g, u64 default_seed)
{
	u64 r = trand_seed(default_seed);
	struct alloc_usage u;
	struct tfs fs, *f = &fs;

	toy_mkfs(f, r, g);
	for (unsigned round = 0; round < 12; round++) {
		/* Splits and rewrites that are given up, or begun again, have places to return. */
		env_inject_arm_random(f->env, "trans_restart_commit", 100000);
		random_ops(f, &r, 60);
		env_inject_disarm_all(f->env);
		btree_interior_flush(f->btree);
		TFS_OK(journal_flush(f->journal));
		check_free(f, "written");
		if (round % 2)
			delete_all(f);
		btree_interior_flush(f->btree);
		check_free(f, "deleted");
		TFS_OK(alloc_do_discards(f->alloc));
		check_free(f, "discarded");
		alloc_usage(f->alloc, &u);
		if (round % 2) {
			cr_assert_eq(u.buckets[BCFS_DATA_user], 0);
			cr_assert_eq(u.buckets[BCFS_DATA_need_discard], 0);
		}
		if (round % 4 == 3) {
			tfs_umount(f);
			tfs_mount(f);
			check_free(f, "mounted");
		}
	}
	tfs_destroy(f);
}

Test(alloc_fs, free_is_exact)
{
	run_free(&tfs_small, 0xa110ca);
}

Test(alloc_fs, free_is_exact_node_per_bucket)
{
	static const struct tfs_geometry g = {8, 32, 32, 1024, 64, 0};

	run_free(&g, 0xa110cb);
}
