// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: each check of a superblock is made, and answers with its own code; both
 * when a superblock is read and when it is written.
 * Method: one wrong value at a time.
 */
#include "sb_test.h"

/* A field's own struct, to be edited. */
#define F(name) sb_field_##name(sb)

/* The code, and the edit that leads to it: `sb` is the superblock, `h` its handle. */
/* clang-format off */
#define CASES(x)                                                                                   \
	x(sb_not_bcfs, sb->magic[3] ^= 1)                                                          \
	x(sb_version, sb->version = BCFS_VERSION(2, 0))                                            \
	x(sb_version_old, sb->version = 5)                                                         \
	x(sb_invalid_version, sb->version_min = sb->version + 1)                                   \
	x(sb_invalid_csum_type, sb->csum_type = BCFS_CSUM_none)                                    \
	x(sb_invalid_csum_type, sb->csum_type = BCFS_CSUM_xchacha20_poly1305)                      \
	x(sb_invalid_csum_type, sb->csum_type = 200)                                               \
	x(sb_invalid_offset, sb->offset = 9)                                                       \
	x(sb_invalid_layout, sb->layout.max_size_bits = 3)                                         \
	x(sb_invalid_layout, sb->layout.nr_copies = 1)                                             \
	x(sb_invalid_layout, sb->layout.nr_copies = 9)                                             \
	x(sb_invalid_layout, sb->layout.offset[0] = 16)                                            \
	x(sb_invalid_layout, sb->layout.offset[1] -= 8)                                            \
	x(sb_invalid_layout, sb->layout.offset[1] += 1)                                            \
	x(sb_invalid_layout, sb->layout.offset[2] = sb->layout.offset[1])                          \
	x(sb_invalid_layout, sb->layout.offset[2] = 1ULL << 60)                                    \
	x(sb_invalid_size, sb->layout.max_size_bits = 12)                                          \
	x(sb_invalid_size, sb->u64s = UINT32_MAX)                                                  \
	x(sb_invalid_seq, sb->seq = 1ULL << 63)                                                    \
	x(sb_invalid_uuid, memset(&sb->uuid, 0, 16))                                               \
	x(sb_invalid_block_size, sb->block_sectors = 0)                                            \
	x(sb_invalid_block_size, sb->block_sectors = 3)                                            \
	x(sb_invalid_block_size, sb->block_sectors = 256)                                          \
	x(sb_invalid_node_size, sb->btree_node_sectors = 0)                                        \
	x(sb_invalid_node_size, sb->btree_node_sectors = 100)                                      \
	x(sb_invalid_node_size, sb->btree_node_sectors = 4096)                                     \
	x(sb_invalid_dev_idx, sb->dev_idx = 1)                                                     \
	x(sb_invalid_dev_idx, sb->nr_devices = 0)                                                  \
	x(sb_invalid_option, sb_opt_set(sb, SB_OPT_meta_csum, 15))                                 \
	x(sb_invalid_option, sb_opt_set(sb, SB_OPT_data_csum, 6))                                  \
	x(sb_invalid_option, sb_opt_set(sb, SB_OPT_compression, 3))                                \
	x(sb_invalid_option, sb_opt_set(sb, SB_OPT_errors, 3))                                     \
	x(sb_invalid_option, sb_opt_set(sb, SB_OPT_chunk_shift, 2))                                \
	x(sb_invalid_option, sb_opt_set(sb, SB_OPT_chunk_shift, 8))                                \
	x(sb_invalid_option, sb_opt_set(sb, SB_OPT_extent_max, 0))                                 \
	x(sb_invalid_option, sb_opt_set(sb, SB_OPT_extent_max, 520))                               \
	x(sb_invalid_option, sb_opt_set(sb, SB_OPT_extent_max, 9))                                 \
	x(sb_invalid_option, sb_opt_set(sb, SB_OPT_inline_max, 1937))                              \
	x(sb_feature_incompat, sb_set_erasure_code(sb, true))                                      \
	x(sb_feature_incompat, sb->features_incompat[1] = 1ULL << 63)                              \
	x(sb_invalid_field, sb_field_get(sb, 4711)->u64s = 0)                                      \
	x(sb_invalid_field, sb_field_get(sb, 4711)->u64s += 1)                                     \
	x(sb_invalid_field, sb_field_get(sb, 4711)->u64s = UINT32_MAX)                             \
	x(sb_invalid_field_twice, sb_field_get(sb, 4711)->type = BCFS_SB_FIELD_errors)             \
	x(sb_invalid_members, F(members)->field.type = 4712)                                       \
	x(sb_invalid_members, F(members)->nr = 2)                                                  \
	x(sb_invalid_members, sb->nr_devices = 2)                                                  \
	x(sb_invalid_members, F(members)->member_bytes = 104)                                      \
	x(sb_invalid_members, F(members)->member_bytes = 113)                                      \
	x(sb_invalid_members, F(members)->member_bytes = 120)                                      \
	x(sb_invalid_members, memset(&F(members)->m[0].uuid, 0, 16))                               \
	x(sb_invalid_members, F(members)->m[0].bucket_sectors = 0)                                 \
	x(sb_invalid_members, F(members)->m[0].bucket_sectors = 513)                               \
	x(sb_invalid_members, F(members)->m[0].bucket_sectors = 8)                                 \
	x(sb_invalid_members, F(members)->m[0].nr_buckets = F(members)->m[0].first_bucket)         \
	x(sb_invalid_members, F(members)->m[0].nr_buckets = 1ULL << 62)                            \
	x(sb_invalid_members, F(members)->m[0].nr_buckets += 1)                                    \
	x(sb_invalid_members, F(members)->m[0].first_bucket = 0)                                   \
	x(sb_invalid_members, F(members)->m[0].state = 4)                                          \
	x(sb_invalid_members, F(members)->m[0].label = 1)                                          \
	x(sb_invalid_journal, F(journal)->d[0].nr = 0)                                             \
	x(sb_invalid_journal, F(journal)->d[0].nr = UINT64_MAX)                                    \
	x(sb_invalid_journal, F(journal)->d[0].start = 0)                                          \
	x(sb_invalid_journal, F(journal)->d[0].start = F(members)->m[0].nr_buckets)                \
	x(sb_invalid_journal, F(journal)->d[0].start = F(members)->m[0].nr_buckets - 2)            \
	x(sb_invalid_journal, F(journal)->d[1].nr = 5)                                             \
	x(sb_invalid_journal, sb_field_resize(h, BCFS_SB_FIELD_journal, 6, NULL))                  \
	x(sb_invalid_crypt, sb_field_resize(h, BCFS_SB_FIELD_crypt, 5, NULL))                      \
	x(sb_invalid_crypt, (sb_field_resize(h, BCFS_SB_FIELD_crypt, 6 + 16, NULL),                \
			     F(crypt)->nr_slots = 1))                                              \
	x(sb_invalid_clean, sb_field_resize(h, BCFS_SB_FIELD_clean, 9, NULL))                      \
	x(sb_invalid_clean, sb_field_resize(h, BCFS_SB_FIELD_clean, 0, NULL))                      \
	x(sb_invalid_clean, ((struct jset_entry *)F(clean)->start)->u64s = 6)                      \
	x(sb_invalid_clean, ((struct jset_entry *)F(clean)->start)->u64s = UINT16_MAX)             \
	x(sb_invalid_blacklist, F(blacklist)->d[0].start = 21)                                     \
	x(sb_invalid_blacklist, F(blacklist)->d[0].end = 30)                                       \
	x(sb_invalid_blacklist, F(blacklist)->d[0] = F(blacklist)->d[1])                           \
	x(sb_invalid_blacklist, sb_field_resize(h, BCFS_SB_FIELD_blacklist, 4, NULL))              \
	x(sb_invalid_errors, sb_field_resize(h, BCFS_SB_FIELD_errors, 5, NULL))                    \
	x(sb_invalid_labels, sb_field_resize(h, BCFS_SB_FIELD_labels, 7, NULL))                    \
	x(sb_invalid_labels, (sb_field_resize(h, BCFS_SB_FIELD_labels, 6, NULL),                   \
			      F(labels)->d[0].parent = 1))                                         \
	x(sb_invalid_downgrade, sb_field_resize(h, BCFS_SB_FIELD_downgrade, 4, NULL))              \
	x(sb_truncated, sb->layout.offset[2] += 8)
/* clang-format on */

/* Makes edit nr; its code and text, or 0 behind the last. */
static int edit(struct sb_handle *h, int nr, const char **text)
{
	struct bcfs_sb *sb = h->sb;
	int n = 0;

#define x(code, what)                                                                              \
	if (n++ == nr) {                                                                           \
		*text = #what;                                                                     \
		what;                                                                              \
		return BCFS_ERR_##code;                                                            \
	}
	CASES(x)
#undef x
	return 0;
}

/* With a checksum that is right on every copy; on the way in and on the way out. */
static bool check_case(int nr)
{
	struct sb_validate_ctx ctx = {.skip_csum = true, .logical_block = 512};
	struct printbuf err = PRINTBUF;
	struct sb_handle *h, *h2;
	const char *text = "";
	struct tfs t;
	int code, ret;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	tfs_fill(h);
	tfs_write(h);
	ctx.area_bytes = sb_area_bytes(h->sb);
	ctx.dev_sectors = t.bdev->size_bytes / SECTOR_SIZE;
	h->sb->offset = BCFS_SB_SECTOR;
	cr_assert_eq(sb_validate(h->sb, &ctx, NULL), 0);
	code = edit(h, nr, &text);
	if (code) {
		ret = sb_validate(h->sb, &ctx, &err);
		cr_expect_eq(ret, -code, "%s: %s, %s", text, err_name(ret), printbuf_str(&err));
		cr_expect_gt(err.pos, 5, "%s", text);
		cr_expect_eq(sb_validate(h->sb, &ctx, NULL), -code, "%s: without text", text);
	}
	if (code && code != BCFS_ERR_sb_invalid_offset && code != BCFS_ERR_sb_invalid_seq &&
	    code != BCFS_ERR_sb_invalid_size && code != BCFS_ERR_sb_invalid_layout) {
		u64 log_len = sim_bdev_log_len(t.bdev);

		ret = sb_write(h);
		cr_expect_eq(ret, -code, "%s: written: %s", text, err_name(ret));
		cr_expect_eq(sim_bdev_log_len(t.bdev), log_len, "%s: was written", text);
		if (code != BCFS_ERR_sb_truncated)
			tfs_poke(&t, h->sb, ALL_COPIES);
		ret = tfs_read(&t, &h2);
		cr_expect_eq(!ret, code == BCFS_ERR_sb_truncated, "%s: read: %s", text,
			     err_name(ret));
		sb_free(h2);
	}
	printbuf_exit(&err);
	sb_free(h);
	tfs_exit(&t);
	return code;
}

Test(sb_validate, each_check_has_its_code)
{
	int nr = 0;

	while (check_case(nr))
		nr++;
	cr_expect_gt(nr, 70);
}
