// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What is kept of free buckets.
 * Goal: a filesystem that was filled and emptied is as small as a new one, but for the generations,
 * which go on where they were and take little; runs of free buckets are what a bitmap says, however
 * buckets come and go, several in one transaction. Method: small nodes and many buckets, nodes
 * counted, the generation in every pointer held against the ones seen before; the runs of a device
 * that nobody uses against a bitmap.
 */
#include "../test_rand.h"
#include "tfs.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* 8 KiB nodes, 16 KiB buckets. */
static const struct tfs_geometry geometry = {1, 16, 32, 2048, 64, 0};
#define NR_BUCKETS 2048
#define NR_FILES   24

/* ---- filled and emptied ---- */

static int count_node(void *arg, const struct btree_node_info *n)
{
	++*(unsigned *)arg;
	return 0;
}

static const enum btree_id space_ids[] = {BTREE_ID_alloc, BTREE_ID_freespace, BTREE_ID_need_discard,
					  BTREE_ID_lru, BTREE_ID_backpointers};

static void count_nodes(struct tfs *f, unsigned nr[ARRAY_SIZE(space_ids)])
{
	for (unsigned i = 0; i < ARRAY_SIZE(space_ids); i++) {
		nr[i] = 0;
		TFS_OK(btree_for_each_node(f->btree, space_ids[i], count_node, NULL, &nr[i]));
	}
}

static unsigned count_keys(struct tfs *f, enum btree_id id)
{
	struct btree_trans *trans = btree_trans_get(f->btree);
	unsigned nr = 0;

	TFS_OK(for_each_btree_key (trans, iter, id, POS_MIN, 0, k, ({
					   nr++;
					   0;
				   })));
	btree_trans_put(trans);
	return nr;
}

/* Each pointer's generation is later than that of the round before. */
static void check_gens(struct tfs *f, int *last_gen)
{
	struct btree_trans *trans = btree_trans_get(f->btree);
	static int now[NR_BUCKETS];

	for (unsigned i = 0; i < NR_BUCKETS; i++)
		now[i] = -1;
	TFS_OK(for_each_btree_key (trans, iter, BTREE_ID_extents, POS_MIN,
				   BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS, k, ({
					   struct extent_ptr_decoded p;

					   for_each_extent_ptr(k, f->g.node_sectors, it, p)
						   now[p.ptr.offset / f->g.bucket_sectors] =
							   p.ptr.gen;
					   0;
				   })));
	for (unsigned b = 0; b < NR_BUCKETS; b++) {
		if (now[b] < 0)
			continue;
		cr_assert_gt(now[b], last_gen[b], "bucket %u: generation %d after %d", b, now[b],
			     last_gen[b]);
		last_gen[b] = now[b];
	}
	btree_trans_put(trans);
}

/* Small writes all over, until nothing fits; then some of it again. */
static void fill_up(struct tfs *f, u64 *r)
{
	u64 off[NR_FILES] = {0};

	for (unsigned full = 0; full < 20;) {
		unsigned i = trand_below(r, NR_FILES);
		u32 len = 1 + trand_below(r, 2 * f->g.bucket_sectors);

		if (tfs_write(f, 1 + i, off[i], len, 0))
			full++;
		else
			off[i] += len;
	}
	for (unsigned n = 0; n < 200; n++) {
		unsigned i = trand_below(r, NR_FILES);
		u64 start = trand_below(r, off[i] + 1);

		TFS_OK(tfs_delete(f, 1 + i, start, start + 1 + trand_below(r, 100)));
	}
}

static void empty(struct tfs *f, u64 *r)
{
	unsigned first = trand_below(r, NR_FILES);

	for (unsigned i = 0; i < NR_FILES; i++)
		TFS_OK(tfs_delete(f, 1 + (first + i * 5) % NR_FILES, 0, 1ULL << 40));
	TFS_OK(alloc_do_discards(f->alloc));
}

Test(alloc_free, emptied_is_small)
{
	unsigned fresh[ARRAY_SIZE(space_ids)], nr[ARRAY_SIZE(space_ids)];
	u64 r = trand_seed(0xa110d1);
	static int last_gen[NR_BUCKETS];
	struct tfs fs, *f = &fs;

	for (unsigned i = 0; i < NR_BUCKETS; i++)
		last_gen[i] = -1;
	toy_mkfs(f, r, &geometry);
	tfs_check(f, "mkfs");
	count_nodes(f, fresh);
	for (unsigned round = 0; round < 6; round++) {
		struct sim_crash crash = {.rule = SIM_CRASH_SUBSET, .seed = trand_u64(&r)};

		fill_up(f, &r);
		tfs_check(f, "full");
		check_gens(f, last_gen);
		empty(f, &r);
		tfs_check(f, "empty");
		count_nodes(f, nr);
		for (unsigned i = 0; i < ARRAY_SIZE(nr); i++)
			cr_assert_leq(nr[i], fresh[i] + 2, "round %u: %u nodes of %s, new %u",
				      round, nr[i], btree_id_name(space_ids[i]), fresh[i]);
		/* Nodes that the check had written left a bucket or two. */
		cr_assert_leq(count_keys(f, BTREE_ID_need_discard), 4);
		cr_assert_eq(count_keys(f, BTREE_ID_lru), 0);
		if (round % 3 == 1) {
			tfs_umount(f);
			tfs_mount(f);
		} else if (round % 3 == 2) {
			TFS_OK(journal_flush(f->journal));
			tfs_crash(f, &crash);
			tfs_mount(f);
		}
	}
	tfs_check(f, "end");
	tfs_destroy(f);
}

/* ---- the mark goes down again ---- */

Test(alloc_free, mark_follows_use_both_ways)
{
	u64 r = trand_seed(0xa110d2), mark0;
	struct tfs fs, *f = &fs;

	toy_mkfs(f, r, &geometry);
	tfs_umount(f);
	mark0 = f->carried.usage[BCFS_ACCOUNTING_used_mark];
	tfs_mount(f);
	for (unsigned round = 0; round < 3; round++) {
		fill_up(f, &r);
		tfs_umount(f);
		cr_assert_gt(f->carried.usage[BCFS_ACCOUNTING_used_mark], NR_BUCKETS / 2);
		tfs_mount(f);
		empty(f, &r);
		tfs_umount(f);
		/* Nodes may lie anywhere; below them there is at least something. */
		cr_assert_geq(f->carried.usage[BCFS_ACCOUNTING_used_mark], mark0);
		tfs_mount(f);
		tfs_check(f, "emptied");
	}
	tfs_destroy(f);
}

/* ---- one bucket, again and again ---- */

/* Where the inode's first extent lies. */
static u64 bucket_of(struct tfs *f, u64 inum, u8 *ret_gen)
{
	struct btree_trans *trans = btree_trans_get(f->btree);
	u64 bucket = 0;

	TFS_OK(for_each_btree_key_max(trans, iter, BTREE_ID_extents, SPOS(inum, 0, 0),
				      SPOS(inum, UINT64_MAX, UINT32_MAX),
				      BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS, k, ({
					      struct extent_ptr_decoded p;

					      for_each_extent_ptr(k, 0, it, p)
					      {
						      bucket = p.ptr.offset / f->g.bucket_sectors;
						      *ret_gen = p.ptr.gen;
					      }
					      0;
				      })));
	btree_trans_put(trans);
	return bucket;
}

/* Generations have 8 bits: each is one more than the last, round and round, for ever. */
Test(alloc_free, reused_10000_times)
{
	/* A small device that is nearly full, so that few buckets take turns. */
	static const struct tfs_geometry g = {1, 16, 16, 96, 40, 0};
	u64 r = trand_seed(0xa110d7), uses[96] = {0}, most = 0, fixed = 0;
	unsigned rounds = trand_rounds(10000);
	struct tfs fs, *f = &fs;
	u8 last[96] = {0};

	toy_mkfs(f, r, &g);
	while (!tfs_write(f, 7, fixed * g.bucket_sectors, g.bucket_sectors, 0))
		fixed++;
	TFS_OK(tfs_delete(f, 7, 0, 6 * g.bucket_sectors));
	for (u64 n = 0; most < rounds; n++) {
		u64 bucket;
		u8 gen = 0;

		cr_assert_lt(n, 96 * 10000);
		TFS_OK(alloc_do_discards(f->alloc));
		TFS_OK(tfs_write(f, 9, 0, g.bucket_sectors, 0));
		bucket = bucket_of(f, 9, &gen);
		cr_assert(bucket && bucket < 96);
		/* Nodes may have had it in between. */
		if (uses[bucket])
			cr_assert_neq(gen, last[bucket], "bucket %llu", (unsigned long long)bucket);
		last[bucket] = gen;
		most = max(most, ++uses[bucket]);
		TFS_OK(tfs_delete(f, 9, 0, g.bucket_sectors));
		if (n % 8192 == 0)
			tfs_check(f, "on the way");
	}
	tfs_umount(f);
	tfs_mount(f);
	tfs_check(f, "mounted");
	tfs_destroy(f);
}

/* ---- generations ---- */

static int gen_of(struct tfs *f, u64 bucket)
{
	struct btree_trans *trans = btree_trans_get(f->btree);
	u8 gen = 0;

	TFS_OK(lockrestart_do(trans, alloc_gen_get(trans, 1, bucket, &gen)));
	btree_trans_put(trans);
	return gen;
}

static void set_gen(struct tfs *f, u64 bucket, u8 gen)
{
	struct btree_trans *trans = btree_trans_get(f->btree);

	TFS_OK(commit_do(trans, NULL, 0, alloc_gen_set(trans, 1, bucket, gen)));
	btree_trans_put(trans);
}

/* On a second device, which nobody has. */
Test(alloc_free, group_of_zeroes_has_no_key)
{
	struct tfs fs, *f = &fs;
	unsigned keys;

	toy_mkfs(f, trand_seed(0xa110d3), &geometry);
	keys = count_keys(f, BTREE_ID_alloc);
	set_gen(f, 255, 7);
	set_gen(f, 256, 255);
	set_gen(f, 511, 9);
	cr_assert(gen_of(f, 255) == 7 && gen_of(f, 256) == 255 && gen_of(f, 511) == 9);
	cr_assert(!gen_of(f, 254) && !gen_of(f, 257) && !gen_of(f, 512));
	cr_assert_eq(count_keys(f, BTREE_ID_alloc), keys + 2);
	set_gen(f, 256, 0);
	cr_assert_eq(count_keys(f, BTREE_ID_alloc), keys + 2);
	set_gen(f, 511, 0);
	set_gen(f, 255, 0);
	cr_assert_eq(count_keys(f, BTREE_ID_alloc), keys);
	tfs_destroy(f);
}

/* Packed into a key and out again. Returns the bytes of its value. */
static u32 pack_and_unpack(const u8 gens[BCFS_ALLOC_GENS_GROUP])
{
	struct alloc_gens_buf buf;
	u32 bytes = alloc_gens_pack(gens, &buf);
	struct bkey k = {.type = KEY_TYPE_bucket_gens, .u64s = BKEY_U64s + bytes / 8};
	struct bkey_s_c s = {&k, (void *)buf.b};
	u8 got[BCFS_ALLOC_GENS_GROUP];

	cr_assert(bytes % 8 == 0 && bytes <= sizeof(buf));
	cr_assert(alloc_gens_unpack(s, got));
	cr_assert_arr_eq(got, gens, sizeof(got));
	k.u64s--;
	cr_assert_not(alloc_gens_unpack(s, got));
	return bytes;
}

Test(alloc_free, gens_pack)
{
	u64 r = trand_seed(0xa110d5);
	u8 gens[BCFS_ALLOC_GENS_GROUP];

	for (unsigned n = 0; n < 20000; n++) {
		unsigned spread = 1 + trand_below(&r, 256), odd = trand_below(&r, 257);
		u8 base = trand_u64(&r);
		u32 bytes;

		for (unsigned i = 0; i < ARRAY_SIZE(gens); i++)
			gens[i] = trand_below(&r, 256) < odd ? trand_u64(&r)
							     : base + trand_below(&r, spread);
		bytes = pack_and_unpack(gens);
		/* Never longer than plain and a header; equal ones take a word. */
		cr_assert_leq(bytes, 264);
		cr_assert(odd || spread > 1 || bytes == 8);
		cr_assert(odd || spread > 16 || bytes <= 8 + 128);
	}
}

/* Values as a crafted image may have them: taken or refused, whatever is in them. */
Test(alloc_free, gens_of_any_bytes)
{
	u64 r = trand_seed(0xa110d6), val[40];
	u8 gens[BCFS_ALLOC_GENS_GROUP];
	unsigned taken = 0;

	for (unsigned n = 0; n < 100000; n++) {
		unsigned u64s = trand_below(&r, ARRAY_SIZE(val) + 1);
		struct bkey k = {.type = KEY_TYPE_bucket_gens, .u64s = BKEY_U64s + u64s};
		struct bcfs_bucket_gens *g;
		u64 *v = malloc(u64s * 8 + 1); /* ends where the value does, for ASan */

		for (unsigned i = 0; i < u64s; i++)
			v[i] = trand_u64(&r);
		g = (void *)v;
		if (u64s && trand_below(&r, 2)) {
			g->bits %= 12;
			g->nr_exceptions %= 3;
		}
		taken += alloc_gens_unpack((struct bkey_s_c){&k, (void *)v}, gens);
		free(v);
	}
	cr_assert(taken > 100 && taken < 90000, "%u", taken);
}

/*
 * Nodes of the size that the end-to-end tests have, and the generations that copying and removing
 * trees leaves: most buckets were used once, some again and again.
 */
Test(alloc_free, gens_of_many_buckets_are_small)
{
	static const struct tfs_geometry g = {8, 32, 256, 512, 24, 0};
	unsigned fresh[ARRAY_SIZE(space_ids)], nr[ARRAY_SIZE(space_ids)];
	u64 r = trand_seed(0xa110d7);
	struct tfs fs, *f = &fs;

	toy_mkfs(f, r, &g);
	count_nodes(f, fresh);
	for (u64 b = 0; b < 40 * 1024; b++)
		set_gen(f, b, trand_below(&r, 12) ? 1 : 1 + trand_below(&r, 12));
	btree_interior_flush(f->btree);
	count_nodes(f, nr);
	cr_assert_leq(nr[0], fresh[0] + 2, "%u nodes of %s, new %u", nr[0],
		      btree_id_name(space_ids[0]), fresh[0]);
	for (u64 b = 0; b < 40 * 1024; b++)
		set_gen(f, b, 0);
	tfs_destroy(f);
}

/* ---- runs ---- */

static int change(struct btree_trans *trans, const u64 *buckets, unsigned nr, const bool *is_free)
{
	for (unsigned i = 0; i < nr; i++) {
		int ret = is_free[buckets[i]] ? alloc_run_take(trans, 1, buckets[i])
					      : alloc_run_give(trans, 1, buckets[i]);
		if (ret)
			return ret;
	}
	return 0;
}

static void check_runs(struct tfs *f, const bool *is_free, u64 nr_buckets)
{
	struct btree_trans *trans = btree_trans_get(f->btree);
	u64 end = 0;
	int ret;

	ret = for_each_btree_key_max(
		trans, iter, BTREE_ID_freespace, POS(1, 0), POS(1, UINT64_MAX), 0, k, ({
			struct free_run r;

			cr_assert(alloc_run_of(k, &r));
			cr_assert(!end || r.first > end, "runs touch at %llu",
				  (unsigned long long)end);
			for (u64 b = end; b < r.first; b++)
				cr_assert(!is_free[b], "%llu is missing", (unsigned long long)b);
			for (u64 b = r.first; b <= r.last; b++)
				cr_assert(is_free[b], "%llu is listed", (unsigned long long)b);
			end = r.last + 1;
			0;
		}));
	TFS_OK(ret);
	for (u64 b = end; b < nr_buckets; b++)
		cr_assert(!is_free[b], "%llu is missing", (unsigned long long)b);
	btree_trans_put(trans);
}

Test(alloc_free, runs_are_the_bitmap)
{
	u64 r = trand_seed(0xa110d4);
	static bool is_free[NR_BUCKETS];
	struct tfs fs, *f = &fs;

	toy_mkfs(f, r, &geometry);
	for (unsigned round = 0; round < 4000; round++) {
		struct btree_trans *trans = btree_trans_get(f->btree);
		u64 buckets[16], range = round % 1000 < 500 ? 40 : NR_BUCKETS;
		unsigned nr = 0, want = 1 + trand_below(&r, 16);
		u64 at = trand_below(&r, range);

		/* Next to each other, or anywhere; none twice. */
		for (unsigned i = 0; i < want; i++) {
			u64 b = trand_below(&r, 2) ? trand_below(&r, range) : (at + i) % range;
			bool dup = false;

			for (unsigned j = 0; j < nr; j++)
				dup |= buckets[j] == b;
			if (!dup)
				buckets[nr++] = b;
		}
		TFS_OK(commit_do(trans, NULL, 0, change(trans, buckets, nr, is_free)));
		btree_trans_put(trans);
		for (unsigned i = 0; i < nr; i++)
			is_free[buckets[i]] = !is_free[buckets[i]];
		if (range == 40 || round % 50 == 0)
			check_runs(f, is_free, NR_BUCKETS);
	}
	check_runs(f, is_free, NR_BUCKETS);
	tfs_destroy(f);
}
