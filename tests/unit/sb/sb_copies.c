// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: whatever happens to some copies, the newest whole one is found, and what
 * cannot be used is refused for the right reason.
 * Method: a simulated device; copies damaged, torn at every sector, made stale,
 * cut off; write and read errors.
 */
#include "sb_test.h"

Test(sb_copies, round_trip)
{
	struct sb_params p = SB_PARAMS_DEFAULT;
	struct sb_handle *h, *h2;
	struct printbuf a = PRINTBUF, b = PRINTBUF;
	struct tfs t;
	u64 log_len;

	tfs_device(&t, 64 * MIB, 0);
	p.label = "twelve";
	h = tfs_init(&t, &p);
	tfs_fill(h);
	tfs_write(h);
	tfs_write(h);
	cr_expect_eq(h->sb->seq, 2);
	log_len = sim_bdev_log_len(t.bdev);
	cr_assert_eq(tfs_read(&t, &h2), 0, "%s", t.line);
	cr_expect_eq(sim_bdev_log_len(t.bdev), log_len, "reading wrote something");
	cr_expect_eq(h2->copies_valid, 7);
	cr_expect_eq(sb_bytes(h2->sb), sb_bytes(h->sb));
	h->sb->offset = h2->sb->offset;
	h->sb->csum = h2->sb->csum;
	cr_expect(!memcmp(h->sb, h2->sb, sb_area_bytes(h->sb)));
	sb_to_text(&a, h->sb);
	sb_to_text(&b, h2->sb);
	cr_expect_str_eq(printbuf_str(&a), printbuf_str(&b));
	cr_expect(strstr(printbuf_str(&a), "twelve") &&
			  strstr(printbuf_str(&a), "unknown (4711)") &&
			  strstr(printbuf_str(&a), "8877665544332211") &&
			  strstr(printbuf_str(&a), "10 to 20") &&
			  strstr(printbuf_str(&a), "3 buckets at"),
		  "%s", printbuf_str(&a));
	printbuf_exit(&a);
	printbuf_exit(&b);
	sb_free(h);
	sb_free(h2);
	tfs_exit(&t);
}

/* Every set of copies, zeroed or with one bit flipped, for every size of an area. */
Test(sb_copies, damage)
{
	for (unsigned bits = SB_SIZE_BITS_MIN; bits <= SB_SIZE_BITS_MAX; bits++)
		for (unsigned set = 1; set < 16; set++) {
			struct sb_params p = SB_PARAMS_DEFAULT;
			bool zero = set & 8;
			struct sb_handle *h, *h2;
			struct tfs t;
			u8 buf[4096];

			tfs_device(&t, 80 * MIB + 3 * KIB, 0);
			p.max_size_bits = bits;
			h = tfs_init(&t, &p);
			tfs_fill(h);
			tfs_write(h);
			for (unsigned i = 0; i < 3; i++) {
				u64 at = h->sb->layout.offset[i] * SECTOR_SIZE;

				if (!(set >> i & 1))
					continue;
				sim_bdev_peek(t.bdev, at, buf, sizeof(buf));
				if (zero)
					memset(buf, 0, sizeof(buf));
				else
					buf[64 + set * 8] ^= 1 << i;
				sim_bdev_poke(t.bdev, at, buf, sizeof(buf));
			}
			if ((set & 7) == 7) {
				if (zero)
					expect_read(&t, BCFS_ERR_sb_not_bcfs, "mkfs.bcfs");
				else
					expect_read(&t, BCFS_ERR_sb_all_damaged, "checksum");
			} else {
				cr_assert_eq(tfs_read(&t, &h2), 0, "2^%u, set %u: %s", bits, set,
					     t.line);
				cr_expect_eq(h2->copies_valid, ~set & 7);
				cr_expect_eq(h2->sb->seq, 1);
				/* The next write mends them. */
				tfs_write(h2);
				sb_free(h2);
				cr_assert_eq(tfs_read(&t, &h2), 0);
				cr_expect_eq(h2->copies_valid, 7);
				sb_free(h2);
			}
			sb_free(h);
			tfs_exit(&t);
		}
}

/* The state in which write nr, and what came before, is on the device, but only in part. */
static struct sim_image *torn_state(struct tfs *t, u64 pos, const struct sim_image *before,
				    unsigned nr, unsigned sectors, bool tail)
{
	struct sim_image *img = sim_image_clone(before);
	struct sim_log_entry e;
	unsigned seen = 0;

	for (; sim_bdev_log_get(t->bdev, pos, &e); pos++) {
		u64 len = e.len, off = 0;

		if (e.kind != SIM_EV_SUBMIT || e.op != BDEV_WRITE || seen++ > nr)
			continue;
		if (seen == nr + 1) {
			len = min_t(u64, e.len, sectors * SECTOR_SIZE);
			off = tail ? e.len - len : 0;
		}
		sim_image_write(img, e.offset + off, (const u8 *)e.data + off, len);
	}
	return img;
}

Test(sb_copies, torn_write_leaves_old_or_new)
{
	struct sim_image *before;
	struct sb_handle *h, *h2;
	struct tfs t, t2;
	unsigned nr_sectors, seen[2] = {0};
	u64 start;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	tfs_fill(h);
	for (u64 i = 0; i < 250; i++)
		cr_assert_eq(sb_blacklist_add(h, 1000 + i * 10, 1003 + i * 10), 0);
	tfs_write(h);
	before = sim_bdev_image(t.bdev);
	sim_bdev_log_reset(t.bdev);
	start = sim_bdev_log_len(t.bdev);
	for (u64 i = 0; i < 250; i++)
		cr_assert_eq(sb_blacklist_add(h, 1005 + i * 10, 1005 + i * 10), 0);
	tfs_write(h);
	nr_sectors = DIV_ROUND_UP(sb_bytes(h->sb), SECTOR_SIZE);
	cr_assert_gt(nr_sectors, 10);
	tfs_env(&t2);
	for (unsigned nr = 0; nr < 3; nr++)
		for (unsigned tail = 0; tail < 2; tail++)
			for (unsigned n = 0; n <= nr_sectors + 8; n++) {
				tfs_image(&t2, torn_state(&t, start, before, nr, n, tail), 0);
				cr_assert_eq(tfs_read(&t2, &h2), 0, "copy %u, %u sectors: %s", nr,
					     n, t2.line);
				seen[h2->sb->seq == 2]++;
				cr_assert(h2->sb->seq == 2 || (h2->sb->seq == 1 && nr == 0));
				cr_assert_eq(sb_blacklist_nr(h2->sb), h2->sb->seq == 1 ? 252 : 502);
				sb_free(h2);
			}
	cr_expect(seen[0] > 10 && seen[1] > 10, "%u times old, %u new", seen[0], seen[1]);
	tfs_exit(&t2);
	sim_image_free(before);
	sb_free(h);
	tfs_exit(&t);
}

/* The same by the device's own idea of a crash: any subset of what is not flushed, torn. */
Test(sb_copies, crash_at_every_event)
{
	struct sb_handle *h, *h2;
	struct tfs t, t2;
	u64 start;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	for (u64 i = 0; i < 100; i++)
		cr_assert_eq(sb_blacklist_add(h, 1000 + i * 10, 1003 + i * 10), 0);
	tfs_write(h);
	sim_bdev_log_reset(t.bdev);
	start = sim_bdev_log_len(t.bdev);
	for (unsigned round = 0; round < 2; round++) {
		/* Every sector changes, or a torn write would often be a whole one. */
		for (u64 i = 0; i < 100; i++)
			cr_assert_eq(sb_blacklist_add(h, 1004 + i * 10, 1004 + i * 10 + round), 0);
		tfs_write(h);
	}
	tfs_env(&t2);
	for (u64 pos = start; pos <= sim_bdev_log_len(t.bdev); pos++)
		for (u64 seed = pos * 1000; seed < pos * 1000 + 300; seed++) {
			struct sim_crash c = {.rule = seed % 2 ? SIM_CRASH_TORN : SIM_CRASH_RANDOM,
					      .seed = seed};
			struct sim_image *img = sim_bdev_image_at(t.bdev, pos, &c);

			cr_assert_not_null(img);
			tfs_image(&t2, img, 0);
			cr_assert_eq(tfs_read(&t2, &h2), 0,
				     "event %" PRIu64 ", seed %" PRIu64 ": %s", pos, seed, t2.line);
			cr_assert(h2->sb->seq >= 1 && h2->sb->seq <= 3);
			if (pos == sim_bdev_log_len(t.bdev))
				cr_assert(h2->sb->seq == 3 && h2->copies_valid == 7);
			sb_free(h2);
		}
	tfs_exit(&t2);
	sb_free(h);
	tfs_exit(&t);
}

static void change_all(struct sb_handle *h, u64 round)
{
	for (u64 i = 0; i < 100; i++)
		cr_assert_eq(sb_blacklist_add(h, 1004 + i * 10, 1004 + i * 10 + round), 0);
}

/*
 * What a crash leaves is opened and written, and that crashes, and again: something can be read at
 * any time, and what was read once is the least that is read from then on.
 */
static void crash_again(struct sim_image *img, unsigned depth, u64 *rng, unsigned *left_one)
{
	struct sb_handle *h, *h2;
	struct tfs t, t2;
	u64 start, seq;

	tfs_env(&t);
	tfs_image(&t, img, 0);
	cr_assert_eq(tfs_read(&t, &h), 0, "depth %u: %s", depth, t.line);
	*left_one += !(h->copies_valid & (h->copies_valid - 1));
	seq = h->sb->seq;
	change_all(h, 1 + trand_below(rng, 4));
	start = sim_bdev_log_len(t.bdev);
	tfs_write(h);
	tfs_env(&t2);
	for (u64 pos = start; pos <= sim_bdev_log_len(t.bdev); pos++)
		for (unsigned n = 0; n < 8; n++) {
			struct sim_crash c = {.rule = n % 2 ? SIM_CRASH_TORN : SIM_CRASH_RANDOM,
					      .seed = trand_u64(rng)};

			tfs_image(&t2, sim_bdev_image_at(t.bdev, pos, &c), 0);
			cr_assert_eq(tfs_read(&t2, &h2), 0,
				     "depth %u, event %" PRIu64 " of %" PRIu64 ", seed %" PRIu64
				     ": %s",
				     depth, pos - start, sim_bdev_log_len(t.bdev) - start, c.seed,
				     t2.line);
			cr_assert(h2->sb->seq >= seq && h2->sb->seq <= seq + 1);
			sb_free(h2);
			if (depth && n < 2)
				crash_again(sim_bdev_image_at(t.bdev, pos, &c), depth - 1, rng,
					    left_one);
		}
	tfs_exit(&t2);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_copies, crash_after_crash)
{
	u64 rng = trand_seed(0x5bc0);
	unsigned left_one = 0;
	struct sb_handle *h;
	struct tfs t;

	tfs_device(&t, 8 * MIB, 0);
	h = tfs_init(&t, NULL);
	for (u64 i = 0; i < 100; i++)
		cr_assert_eq(sb_blacklist_add(h, 1000 + i * 10, 1003 + i * 10), 0);
	tfs_write(h);
	crash_again(sim_bdev_image(t.bdev), 1, &rng, &left_one);
	cr_expect_gt(left_one, 4, "%u times one good copy", left_one);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_copies, newest_wins_and_strangers_do_not_count)
{
	struct bcfs_sb *sb;
	struct sb_handle *h, *h2;
	struct tfs t;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	sb = h->sb;
	tfs_write(h);
	for (unsigned i = 0; i < 3; i++) {
		sb->seq = 10 + i;
		tfs_poke(&t, sb, 1U << i);
		cr_assert_eq(tfs_read(&t, &h2), 0);
		cr_expect_eq(h2->sb->seq, 10 + i);
		cr_expect_eq(h2->copies_valid, 1U << i);
		sb_free(h2);
	}
	/* Newer, but of another filesystem. */
	sb->seq = 100;
	sb->uuid.b[0] ^= 1;
	tfs_poke(&t, sb, 1U << 2);
	cr_assert_eq(tfs_read(&t, &h2), 0);
	cr_expect_eq(h2->sb->seq, 11);
	sb_free(h2);
	/* Without the first copy: that of which there are more, then that which is in front. */
	sim_bdev_flip_bit(t.bdev, BCFS_SB_SECTOR * SECTOR_SIZE + 100, 0);
	cr_assert_eq(tfs_read(&t, &h2), 0);
	cr_expect_eq(h2->sb->seq, 11);
	sb_free(h2);
	/* A copy that was written for another place. */
	sb->uuid.b[0] ^= 1;
	sb->seq = 200;
	tfs_poke(&t, sb, 1U << 2);
	sim_bdev_poke(t.bdev, sb->layout.offset[1] * SECTOR_SIZE, sb, sb_bytes(sb));
	cr_assert_eq(tfs_read(&t, &h2), 0);
	cr_expect_eq(h2->copies_valid, 1U << 2);
	sb_free(h2);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_copies, refusals)
{
	struct sb_handle *h, *h2;
	struct bcfs_sb *sb;
	struct tfs t;

	tfs_device(&t, 64 * MIB, 0);
	expect_read(&t, BCFS_ERR_sb_not_bcfs, "not a bcfs filesystem");
	h = tfs_init(&t, NULL);
	sb = h->sb;
	tfs_write(h);

	sb->version = BCFS_VERSION(2, 7);
	tfs_poke(&t, sb, ALL_COPIES);
	expect_read(&t, BCFS_ERR_sb_version, "version 2.7");
	/* A newer minor version is read. */
	sb->version = BCFS_VERSION(1, 9);
	tfs_poke(&t, sb, ALL_COPIES);
	cr_expect_eq(tfs_read(&t, &h2), 0, "%s", t.line);
	sb_free(h2);
	/* One copy with a wrong version is damage of that copy. */
	sb->version = BCFS_VERSION(9, 0);
	tfs_poke(&t, sb, 1);
	cr_expect_eq(tfs_read(&t, &h2), 0, "%s", t.line);
	sb_free(h2);
	sb->version = BCFS_VERSION_CURRENT;

	sb->features_incompat[0] = 1ULL << BCFS_FEATURE_erasure_code | 1ULL << 40;
	sb->features_incompat[1] = 1ULL << 13;
	tfs_poke(&t, sb, ALL_COPIES);
	expect_read(&t, BCFS_ERR_sb_feature_incompat, "erasure_code, bit 40, bit 77");
	cr_expect_eq(sb_read_any(t.env, t.bdev, &t.log, &h2), 0);
	sb_free(h2);
	sb->features_incompat[0] = sb->features_incompat[1] = 0;

	sb->features_compat[1] = 1;
	sb->features_ro_compat[0] = 1ULL << 50;
	tfs_poke(&t, sb, ALL_COPIES);
	cr_assert_eq(tfs_read(&t, &h2), 0);
	cr_expect(h2->read_only && strstr(t.line, "bit 50"), "%s", t.line);
	cr_expect_eq(sb_write(h2), -BCFS_ERR_sb_write_ro);
	sb_free(h2);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_copies, truncated)
{
	static const u64 cuts[] = {64 * MIB - 512, 40 * MIB, 1 * MIB, 12 * KIB, 8 * KIB};
	struct sim_image *whole;
	struct sb_handle *h;
	struct tfs t;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	for (u64 i = 0; i < 1000; i++)
		cr_assert_eq(sb_blacklist_add(h, 1000 + i * 10, 1003 + i * 10), 0);
	tfs_write(h);
	whole = sim_bdev_image(t.bdev);
	for (unsigned i = 0; i < ARRAY_SIZE(cuts); i++) {
		struct sim_image *img = sim_image_create(cuts[i]);
		u8 *buf = malloc(cuts[i]);

		sim_image_read(whole, 0, buf, cuts[i]);
		sim_image_write(img, 0, buf, cuts[i]);
		free(buf);
		tfs_image(&t, img, 0);
		expect_read(&t, BCFS_ERR_sb_truncated, "truncated");
	}
	tfs_image(&t, sim_image_create(4096), 0);
	expect_read(&t, BCFS_ERR_sb_not_bcfs, "not a bcfs filesystem");
	sim_image_free(whole);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_copies, logical_sector)
{
	struct sb_params p = SB_PARAMS_DEFAULT;
	struct sb_handle *h = NULL;
	struct tfs t;

	p.block_bytes = 512;
	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, &p);
	tfs_write(h);
	sb_free(h);
	tfs_image(&t, sim_bdev_image(t.bdev), 4096);
	expect_read(&t, BCFS_ERR_sb_block_size_logical, "block size 512");
	h = NULL;
	cr_expect_eq(sb_init(t.env, t.bdev, &t.log, &p, &h), -BCFS_ERR_sb_block_size_logical);
	cr_expect_null(h);
	cr_expect_not_null(strstr(t.line, "at least 4096"), "%s", t.line);
	p.block_bytes = 4096;
	h = tfs_init(&t, &p);
	tfs_write(h);
	sb_free(h);
	cr_expect_eq(tfs_read(&t, &h), 0, "%s", t.line);
	sb_free(h);
	tfs_exit(&t);
}

/* The kth write fails, once or for ever. */
Test(sb_copies, write_errors)
{
	for (unsigned k = 1; k <= 3; k++)
		for (int sticky = 0; sticky < 2; sticky++)
			for (int torn = 0; torn < 2; torn++) {
				struct sb_handle *h, *h2;
				struct tfs t;
				int ret;

				tfs_device(&t, 64 * MIB, 0);
				h = tfs_init(&t, NULL);
				tfs_fill(h);
				tfs_write(h);
				sim_bdev_arm(t.bdev,
					     torn ? SIM_FAULT_WRITE_TORN : SIM_FAULT_WRITE_ERROR, k,
					     sticky);
				ret = sb_write(h);
				cr_expect_eq(ret, sticky && k < 3 ? -BCFS_ERR_sb_write : 0,
					     "write %u, sticky %d: %s", k, sticky, err_name(ret));
				sim_bdev_arm(t.bdev,
					     torn ? SIM_FAULT_WRITE_TORN : SIM_FAULT_WRITE_ERROR, 0,
					     false);
				cr_assert_eq(tfs_read(&t, &h2), 0);
				cr_expect(h2->sb->seq == 2 || (ret && h2->sb->seq == 1));
				sb_free(h2);
				/* What is written later is newer than all of it. */
				tfs_write(h);
				cr_assert_eq(tfs_read(&t, &h2), 0);
				cr_expect_eq(h2->sb->seq, 3);
				cr_expect_eq(h2->copies_valid, 7);
				sb_free(h2);
				sb_free(h);
				tfs_exit(&t);
			}
}

Test(sb_copies, flush_error_is_a_failed_write)
{
	struct sb_handle *h;
	struct tfs t;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	sim_bdev_arm(t.bdev, SIM_FAULT_FLUSH_ERROR, 1, true);
	cr_expect_eq(sb_write(h), -BCFS_ERR_sb_write);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_copies, read_errors)
{
	struct sb_handle *h, *h2;
	struct tfs t;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	tfs_write(h);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(tfs_read(&t, &h2), 0);
		cr_expect_eq(h2->copies_valid, 7U << i & 7);
		sb_free(h2);
		sim_bdev_set_bad(t.bdev, h->sb->layout.offset[i] * SECTOR_SIZE, 512, true);
	}
	expect_read(&t, BCFS_ERR_sb_read, "no superblock could be read");
	sb_free(h);
	tfs_exit(&t);
}

/* The kth allocation fails: an error, nothing leaks, nothing is written. */
Test(sb_copies, out_of_memory)
{
	struct sb_params p = SB_PARAMS_DEFAULT;
	struct sb_handle *h;
	struct tfs t;
	u64 live;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	tfs_write(h);
	sb_free(h);
	live = env_sim_live_allocs(t.env, NULL);
	for (u64 k = 1, done = 0; !done; k++) {
		u64 before = env_sim_nr_allocs(t.env);
		int ret;

		h = NULL;
		env_sim_fail_alloc(t.env, k, false);
		ret = k % 2 ? sb_read(t.env, t.bdev, &t.log, &h)
			    : sb_init(t.env, t.bdev, &t.log, &p, &h);
		done = env_sim_nr_allocs(t.env) - before < k && k > 8;
		env_sim_fail_alloc(t.env, 0, false);
		cr_expect((ret == 0) == !!h);
		cr_expect(ret == 0 || ret == -BCFS_ERR_nomem || ret == -BCFS_ERR_sb_read, "%s",
			  err_name(ret));
		sb_free(h);
		cr_expect_eq(env_sim_live_allocs(t.env, NULL), live);
	}
	tfs_exit(&t);
}

Test(sb_copies, erase)
{
	struct sb_handle *h;
	struct tfs t;
	u8 front[4096], back[4096];

	for (u64 size = 3 * MIB; size <= 64 * MIB; size += 61 * MIB - 4096) {
		struct sb_params p = SB_PARAMS_DEFAULT;

		tfs_device(&t, size, 0);
		memset(front, 0x77, sizeof(front));
		sim_bdev_poke(t.bdev, 0, front, sizeof(front));
		p.min_buckets = 4;
		h = tfs_init(&t, &p);
		tfs_write(h);
		sb_free(h);
		cr_assert_eq(sb_erase(t.bdev), 0);
		expect_read(&t, BCFS_ERR_sb_not_bcfs, "not a bcfs filesystem");
		sim_bdev_peek(t.bdev, 0, back, sizeof(back));
		cr_expect(!memcmp(front, back, sizeof(front)), "the first 4 KiB are not ours");
		tfs_exit(&t);
	}
}
