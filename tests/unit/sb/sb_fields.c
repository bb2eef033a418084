// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: fields grow, shrink and vanish without harm to others; typed accessors
 * keep what they promise; mkfs's parameters lead to a sound layout or a refusal.
 * Method: random resizes against a model, a bitmap for the blacklist, sweeps over
 * sizes.
 */
#include "sb_test.h"

#define NR_TYPES 12

struct field_model {
	u32 u64s;
	u64 fill;
};

static u32 model_type(unsigned i)
{
	return 1000 + i;
}

static void check_fields(const struct bcfs_sb *sb, const struct field_model *model, u64 seed)
{
	u64 sum = sb_field_get(sb, BCFS_SB_FIELD_members)->u64s;

	for (unsigned i = 0; i < NR_TYPES; i++) {
		const struct bcfs_sb_field *f = sb_field_get(sb, model_type(i));

		cr_assert_eq(f ? f->u64s : 0, model[i].u64s, TEST_SEED_FMT,
			     (unsigned long long)seed);
		for (unsigned k = 0; f && k < f->u64s - 1; k++)
			cr_assert_eq(((u64 *)f)[1 + k], model[i].fill + k, TEST_SEED_FMT,
				     (unsigned long long)seed);
		sum += model[i].u64s;
	}
	cr_assert_eq(sb->u64s, sum);
	for (const u8 *p = (const u8 *)sb + sb_bytes(sb); p < (const u8 *)sb + sb_area_bytes(sb);
	     p++)
		cr_assert_eq(*p, 0, "dirt behind the fields");
}

Test(sb_fields, resize_against_a_model)
{
	u64 seed = trand_seed(0x5b), rng = seed;
	struct field_model model[NR_TYPES] = {{0}};
	struct sb_params p = SB_PARAMS_DEFAULT;
	struct sb_handle *h;
	unsigned nr_full = 0;
	struct tfs t;

	tfs_device(&t, 64 * MIB, 0);
	p.max_size_bits = 5;
	h = tfs_init(&t, &p);
	for (unsigned step = 0; step < 3000; step++) {
		unsigned i = trand_below(&rng, NR_TYPES);
		u32 old = model[i].u64s, u64s = trand_below(&rng, 4) ? trand_below(&rng, 400) : 0;
		struct bcfs_sb_field *f = (void *)1;
		int ret = sb_field_resize(h, model_type(i), u64s, &f);

		if (ret) {
			cr_assert_eq(ret, -BCFS_ERR_sb_full);
			cr_assert_gt(sb_bytes(h->sb) + (u64s - old) * 8, sb_area_bytes(h->sb));
			nr_full++;
		} else {
			cr_assert_eq(!f, !u64s);
			for (unsigned k = max_t(u32, old, 1); k < u64s; k++) {
				cr_assert_eq(((u64 *)f)[k], 0, "new words are zero");
				((u64 *)f)[k] = model[i].fill + k - 1;
			}
			if (u64s && !old) {
				model[i].fill = trand_u64(&rng);
				for (unsigned k = 1; k < u64s; k++)
					((u64 *)f)[k] = model[i].fill + k - 1;
			}
			model[i].u64s = u64s;
		}
		check_fields(h->sb, model, seed);
		if (!(step % 100))
			tfs_write(h);
	}
	cr_expect_gt(nr_full, 10);
	tfs_write(h);
	sb_free(h);
	cr_assert_eq(tfs_read(&t, &h), 0, "%s", t.line);
	check_fields(h->sb, model, seed);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_fields, full_to_the_last_word)
{
	struct bcfs_sb_field *f;
	struct sb_handle *h;
	struct tfs t;
	u32 left;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	tfs_fill(h);
	left = (sb_area_bytes(h->sb) - sb_bytes(h->sb)) / 8;
	cr_expect_eq(sb_field_resize(h, 9999, left + 1, &f), -BCFS_ERR_sb_full);
	cr_expect_null(sb_field_get(h->sb, 9999));
	cr_expect_eq(sb_field_resize(h, 9999, UINT32_MAX, &f), -BCFS_ERR_sb_full);
	cr_assert_eq(sb_field_resize(h, 9999, left, &f), 0);
	cr_expect_eq(sb_blacklist_add(h, 1000, 1000), -BCFS_ERR_sb_full);
	cr_expect_eq(sb_error_add(h, 12345, 1), -BCFS_ERR_sb_full);
	cr_expect_eq(sb_error_add(h, BCFS_ERR_data_csum, 1), 0,
		     "a kind that is there still counts");
	cr_expect_eq(sb_blacklist_nr(h->sb), 2);
	tfs_write(h);
	sb_free(h);
	cr_assert_eq(tfs_read(&t, &h), 0, "%s", t.line);
	cr_expect_eq(sb_error_nr(h->sb, BCFS_ERR_data_csum), 4);
	cr_expect_eq(sb_field_get(h->sb, 9999)->u64s, left);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_fields, accessors)
{
	struct bcfs_member m;
	struct sb_handle *h;
	struct tfs t;
	u64 *entries;
	u32 u64s;
	bool on;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	tfs_fill(h);
	m = sb_member_get(h->sb, 0);
	cr_expect_eq(sb_nr_members(h->sb), 1);
	cr_expect_eq(sb_member_get(h->sb, 1).nr_buckets, 0);
	m.errors[2] = 5;
	cr_assert_eq(sb_member_set(h, 0, &m), 0);
	cr_expect_eq(sb_member_get(h->sb, 0).errors[2], 5);
	cr_expect_eq(sb_member_set(h, 2, &m), -BCFS_ERR_sb_invalid_dev_idx);

	cr_expect_eq(sb_journal_nr_runs(h->sb), 2);
	cr_expect_eq(sb_journal_nr_buckets(h->sb), 5);
	cr_expect_eq(sb_journal_bucket(h->sb, 2), m.first_bucket + 6);
	cr_expect_eq(sb_journal_bucket(h->sb, 3), m.first_bucket);
	cr_assert_eq(sb_journal_set(h, NULL, 0), 0);
	cr_expect_null(sb_field_journal(h->sb));

	cr_expect(h->sb->flags[0] & BCFS_SB_FLAG_CLEAN);
	cr_expect_eq(sb_field_clean(h->sb)->journal_seq, 77);
	cr_assert_eq(sb_clean_read(h, &entries, &u64s), 0);
	cr_expect_eq(u64s, 6);
	env_free(t.env, entries);

	cr_expect_eq(sb_error_nr(h->sb, BCFS_ERR_data_csum), 3);
	cr_assert_eq(sb_error_add(h, BCFS_ERR_data_csum, UINT64_MAX - 1), 0);
	cr_expect_eq(sb_error_nr(h->sb, BCFS_ERR_data_csum), UINT64_MAX);

	sb_set_zstd(h->sb, true);
	cr_expect(sb_has_zstd(h->sb) && !sb_has_lz4(h->sb));
	cr_assert_eq(sb_feature_set_by_name(h->sb, "snapshots", true), 0);
	cr_assert_eq(sb_feature_test_by_name(h->sb, "snapshots", &on), 0);
	cr_expect(on && sb_has_snapshots(h->sb));
	cr_expect_eq(sb_feature_set_by_name(h->sb, "no such", true), -BCFS_ERR_sb_feature_unknown);
	cr_expect_str_eq(sb_feature_name(SB_FEATURE_incompat, BCFS_FEATURE_reflink), "reflink");
	cr_expect_null(sb_feature_name(SB_FEATURE_compat, 100));

	for (enum sb_opt o = 0; o < SB_OPT_NR; o++) {
		u64 others = 0;

		for (enum sb_opt k = 0; k < SB_OPT_NR; k++)
			others += k != o ? sb_opt_get(h->sb, k) : 0;
		sb_opt_set(h->sb, o, 3);
		cr_expect_eq(sb_opt_get(h->sb, o), 3);
		for (enum sb_opt k = 0; k < SB_OPT_NR; k++)
			others -= k != o ? sb_opt_get(h->sb, k) : 0;
		cr_expect_eq(others, 0);
	}
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_fields, blacklist_against_a_bitmap)
{
	u64 seed = trand_seed(0xb1), rng = seed;
	enum { N = 300 };
	struct sb_handle *h;
	struct tfs t;

	tfs_device(&t, 64 * MIB, 0);
	for (unsigned round = 0; round < 60; round++) {
		bool set[N + 2] = {0};
		unsigned runs;

		h = tfs_init(&t, NULL);
		for (unsigned step = 0; step < 40; step++) {
			u64 a = 1 + trand_below(&rng, N - 1), b = a + trand_below(&rng, 12);

			b = min_t(u64, b, N - 1);
			if (trand_below(&rng, 8)) {
				cr_assert_eq(sb_blacklist_add(h, a, b), 0);
				for (u64 i = a; i <= b; i++)
					set[i] = true;
			} else if (!set[a - 1] || !set[a]) {
				sb_blacklist_drop_below(h, a);
				for (u64 i = 0; i < a; i++)
					set[i] = false;
			}
			runs = 0;
			for (u64 i = 0; i <= N; i++) {
				cr_assert_eq(sb_blacklist_has(h->sb, i), set[i], TEST_SEED_FMT,
					     (unsigned long long)seed);
				runs += set[i] && !(i && set[i - 1]);
			}
			cr_assert_eq(sb_blacklist_nr(h->sb), runs);
		}
		tfs_write(h);
		sb_free(h);
	}
	h = tfs_init(&t, NULL);
	cr_assert_eq(sb_blacklist_add(h, UINT64_MAX - 3, UINT64_MAX), 0);
	cr_assert_eq(sb_blacklist_add(h, 0, 5), 0);
	cr_assert_eq(sb_blacklist_add(h, UINT64_MAX - 9, UINT64_MAX - 4), 0);
	cr_expect_eq(sb_blacklist_nr(h->sb), 2);
	cr_assert_eq(sb_blacklist_add(h, 0, UINT64_MAX), 0);
	cr_expect_eq(sb_blacklist_nr(h->sb), 1);
	sb_free(h);
	tfs_exit(&t);
}

/* The least size that is named is exactly the least that works. */
Test(sb_fields, least_device)
{
	static const struct {
		u32 block, node, bucket, bits, copies;
	} rows[] = {
		{4096, 262144, 0, 0, 3},    {512, 4096, 4096, 4, 2},
		{4096, 16384, 16384, 0, 3}, {4096, 16384, 65536, 8, 8},
		{65536, 1048576, 0, 0, 3},  {4096, 262144, 2 * MIB, 0, 3},
		{4096, 4096, 0, 11, 4},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct sb_params p = SB_PARAMS_DEFAULT;
		struct sb_handle *h = NULL;
		char want[64];
		struct tfs t;
		u64 least;

		p.block_bytes = rows[i].block;
		p.node_bytes = rows[i].node;
		p.bucket_bytes = rows[i].bucket;
		p.max_size_bits = rows[i].bits;
		p.nr_copies = rows[i].copies;
		least = sb_min_dev_bytes(&p);
		tfs_device(&t, least, 0);
		h = tfs_init(&t, &p);
		tfs_write(h);
		sb_free(h);
		cr_expect_eq(tfs_read(&t, &h), 0, "%s", t.line);
		sb_free(h);
		tfs_exit(&t);

		tfs_device(&t, least - 4096, 0);
		h = NULL;
		cr_expect_eq(sb_init(t.env, t.bdev, &t.log, &p, &h), -BCFS_ERR_sb_dev_too_small,
			     "row %u", i);
		snprintf(want, sizeof(want), "at least %" PRIu64, least);
		cr_expect_not_null(strstr(t.line, want), "%s", t.line);
		sb_free(h);
		tfs_exit(&t);
	}
}

/* Any device that mkfs takes has buckets clear of all copies, and reads back. */
Test(sb_fields, geometry_over_sizes)
{
	u64 seed = trand_seed(0x6e0), rng = seed;

	for (unsigned i = 0; i < 60; i++) {
		u64 size = round_down(1 * MIB + (trand_u64(&rng) >> (24 + trand_below(&rng, 16))),
				      (u64)SECTOR_SIZE);
		struct sb_params p = SB_PARAMS_DEFAULT;
		struct sb_handle *h = NULL;
		struct bcfs_member m;
		struct tfs t;

		p.node_bytes = 4096U << trand_below(&rng, 7);
		tfs_device(&t, size, 0);
		if (sb_init(t.env, t.bdev, &t.log, &p, &h)) {
			cr_assert_lt(size, sb_min_dev_bytes(&p), TEST_SEED_FMT ": %s",
				     (unsigned long long)seed, t.line);
			tfs_exit(&t);
			continue;
		}
		m = sb_member_get(h->sb, 0);
		cr_expect_leq(m.nr_buckets * m.bucket_sectors, h->sb->layout.offset[2]);
		cr_expect_geq((u64)m.first_bucket * m.bucket_sectors,
			      h->sb->layout.offset[1] + (1ULL << h->sb->layout.max_size_bits));
		tfs_write(h);
		sb_free(h);
		cr_assert_eq(tfs_read(&t, &h), 0, TEST_SEED_FMT ": %s", (unsigned long long)seed,
			     t.line);
		sb_free(h);
		tfs_exit(&t);
	}
}

#define expect_bad(member, value)                                                                  \
	do {                                                                                       \
		struct sb_params p_ = SB_PARAMS_DEFAULT;                                           \
		struct sb_handle *h_ = NULL;                                                       \
                                                                                                   \
		p_.member = (value);                                                               \
		cr_expect_eq(sb_init(t.env, t.bdev, &t.log, &p_, &h_),                             \
			     -BCFS_ERR_sb_invalid_params, #member);                                \
		cr_expect_null(h_);                                                                \
		cr_expect_gt(strlen(t.line), 10);                                                  \
	} while (0)

Test(sb_fields, bad_parameters)
{
	struct tfs t;

	tfs_device(&t, 64 * MIB, 0);
	expect_bad(block_bytes, 0);
	expect_bad(block_bytes, 5000);
	expect_bad(block_bytes, 131072);
	expect_bad(node_bytes, 0);
	expect_bad(node_bytes, 2048);
	expect_bad(node_bytes, 3 << 20);
	expect_bad(bucket_bytes, 4096);
	expect_bad(bucket_bytes, 300000);
	expect_bad(nr_copies, 1);
	expect_bad(nr_copies, 9);
	expect_bad(max_size_bits, 3);
	expect_bad(max_size_bits, 12);
	expect_bad(label, "one hundred and thirty-three characters");
	expect_bad(meta_csum, 9);
	expect_bad(data_csum, BCFS_CSUM_xchacha20_poly1305);
	expect_bad(compression, BCFS_COMPRESSION_incompressible);
	expect_bad(compression, 1 | 20 << 4); /* zstd:20 */
	expect_bad(chunk_shift, 2);
	expect_bad(extent_max_sectors, 0);
	expect_bad(extent_max_sectors, 513);
	expect_bad(inline_max_bytes, 1937);
	expect_bad(errors, 3);
	tfs_exit(&t);
}
