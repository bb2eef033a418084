// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: no superblock, however crafted, does more than to be refused; one that is
 * accepted can be printed, asked, changed and written.
 * Method: random changes of bytes, words and lengths, with the checksum made
 * right again, on a device and in a buffer of exactly its size (for ASan).
 */
#include "sb_test.h"

#include <stdlib.h>

static const u64 edge[] = {0,	       1,	   2,	       3,
			   4,	       7,	   8,	       255,
			   256,	       65535,	   1ULL << 31, UINT32_MAX,
			   1ULL << 32, 1ULL << 43, 1ULL << 63, UINT64_MAX - 1,
			   UINT64_MAX};

static const u8 nothing[64]; /* in the place of a copy */

static void mutate(struct bcfs_sb *sb, u64 *rng)
{
	size_t len = sb_bytes(sb);
	unsigned nr = 1 + trand_below(rng, 4);

	while (nr--) {
		/* Past the checksum and magic; the fields more often than not. */
		size_t lo = trand_below(rng, 2) ? sizeof(*sb) : 48;
		size_t at = lo + trand_below(rng, len - lo);
		u8 *p = (u8 *)sb + at;
		u64 v = edge[trand_below(rng, ARRAY_SIZE(edge))];

		switch (trand_below(rng, 4)) {
		case 0:
			*p ^= 1 << trand_below(rng, 8);
			break;
		case 1:
			*p = trand_u64(rng);
			break;
		case 2:
			memcpy((void *)((uintptr_t)p & ~3UL), &v, 4);
			break;
		default:
			memcpy((void *)((uintptr_t)p & ~7UL), &v, 8);
		}
	}
}

static void use(struct sb_handle *h)
{
	struct printbuf out = PRINTBUF;
	struct bcfs_member m = sb_member_get(h->sb, h->sb->dev_idx);
	u64 seq = h->sb->seq;
	u64 *entries;
	u32 u64s;
	int ret;

	sb_to_text(&out, h->sb);
	cr_assert_gt(out.pos, 100);
	printbuf_exit(&out);
	for (u64 n = sb_journal_nr_buckets(h->sb); n--;)
		cr_assert_lt(sb_journal_bucket(h->sb, n), m.nr_buckets);
	if (!sb_clean_read(h, &entries, &u64s))
		env_free(h->env, entries);
	sb_blacklist_has(h->sb, 15);
	(void)sb_blacklist_add(h, 18, 33);
	sb_blacklist_drop_below(h, 25);
	(void)sb_error_add(h, 1, 1);
	h->sb->flags[0] &= ~BCFS_SB_FLAG_CLEAN;
	(void)sb_field_resize(h, BCFS_SB_FIELD_clean, 0, NULL);
	(void)sb_member_set(h, h->sb->dev_idx, &m);
	ret = sb_write(h);
	cr_assert(!ret || ret == -BCFS_ERR_sb_write_ro || ret <= -BCFS_ERR_sb_invalid_csum, "%s",
		  err_name(ret));
	cr_assert(ret || h->sb->seq == seq + 1);
}

Test(sb_fuzz, crafted_on_a_device, .timeout = 280)
{
	u64 seed = trand_seed(0xf22), rng = seed;
	unsigned accepted = 0, rounds = 20000;
	struct sb_handle *h, *h2;
	struct sim_image *img;
	struct bcfs_sb *orig, *sb;
	size_t area;
	struct tfs t;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	tfs_fill(h);
	tfs_write(h);
	area = sb_area_bytes(h->sb);
	orig = h->sb;
	sb = malloc(area);
	img = sim_bdev_image(t.bdev);
	for (unsigned i = 0; i < trand_rounds(rounds); i++) {
		size_t len;
		int ret;

		if (i % 500 == 499) /* the log would grow */
			tfs_image(&t, sim_image_clone(img), 0);
		memcpy(sb, orig, area);
		mutate(sb, &rng);
		len = sizeof(*sb) + min_t(size_t, (size_t)sb->u64s * 8, area - sizeof(*sb));
		sb->offset = BCFS_SB_SECTOR;
		cr_assert_eq(csum_compute(NULL, BCFS_CSUM_crc32c, NULL, NULL, 0,
					  (u8 *)sb + sizeof(sb->csum), len - sizeof(sb->csum),
					  &sb->csum),
			     0);
		sim_bdev_poke(t.bdev, BCFS_SB_SECTOR * SECTOR_SIZE, sb, len);
		/* No other copy may come to the rescue. */
		for (unsigned k = 1; k < 3; k++)
			sim_bdev_poke(t.bdev, orig->layout.offset[k] * SECTOR_SIZE, nothing,
				      sizeof(nothing));
		ret = tfs_read(&t, &h2);
		cr_assert_eq(!ret, !!h2, TEST_SEED_FMT, (unsigned long long)seed);
		if (ret) {
			cr_assert_gt(strlen(t.line), 10);
			continue;
		}
		accepted++;
		use(h2);
		sb_free(h2);
	}
	cr_expect(accepted > rounds / 50 && accepted < rounds, "%u accepted", accepted);
	sim_image_free(img);
	free(sb);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_fuzz, crafted_in_a_buffer, .timeout = 280)
{
	u64 seed = trand_seed(0xf23), rng = seed;
	struct sb_handle *h;
	struct tfs t;
	size_t len;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	tfs_fill(h);
	tfs_write(h);
	len = sb_bytes(h->sb);
	for (unsigned i = 0; i < trand_rounds(100000); i++) {
		struct bcfs_sb *sb = malloc(len);
		struct sb_validate_ctx ctx = {
			.area_bytes = trand_below(&rng, 8) ? len : trand_below(&rng, len),
			.dev_sectors = 64 * MIB / SECTOR_SIZE,
			.logical_block = 512,
			.skip_csum = true,
			.any_incompat = i % 2,
		};
		struct printbuf err = PRINTBUF, out = PRINTBUF;
		int ret;

		memcpy(sb, h->sb, len);
		mutate(sb, &rng);
		ret = sb_validate(sb, &ctx, &err);
		cr_assert_eq(!ret, !err.pos, "an error has a line, and only an error: %s",
			     printbuf_str(&err));
		if (!ret)
			sb_to_text(&out, sb);
		printbuf_exit(&err);
		printbuf_exit(&out);
		free(sb);
	}
	sb_free(h);
	tfs_exit(&t);
}
