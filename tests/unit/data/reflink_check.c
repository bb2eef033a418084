// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the check of shared data says, and when data become a file's own again.
 * Goal: a count that is too high or too low, and a reference to nothing, are each named once.
 * Method: keys put there past the triggers. Then the most keys that shared data can lead to.
 */
#include "../test_rand.h"
#include "dfs.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the check says of keys that were put there past the triggers. */
struct texts {
	unsigned nr;
	char last[256];
};

static void keep_text(void *arg, const char *text)
{
	struct texts *t = arg;

	t->nr++;
	snprintf(t->last, sizeof(t->last), "%s", text);
}

static int put_raw(struct btree_trans *trans, enum btree_id id, struct bkey_i *k)
{
	return btree_trans_insert(trans, id, k, BTREE_UPDATE_NOTRIGGERS | BTREE_UPDATE_NO_EXTENT);
}

static int change_count(struct btree_trans *trans, s64 delta)
{
	struct btree_iter iter;
	struct bkey_i *n;
	struct bkey_s_c k;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_reflink, POS(0, 0), 0);
	k = btree_iter_peek_slot(&iter);
	ret = bkey_err(k);
	if (!ret) {
		n = btree_trans_copy_key(trans, k, 0);
		n->v[0] += delta;
		ret = put_raw(trans, BTREE_ID_reflink, n);
	}
	btree_iter_exit(&iter);
	return ret;
}

static int refer(struct btree_trans *trans, u64 inum, u64 idx, bool there)
{
	struct bkey_i *k = btree_trans_alloc_key(
		trans, there ? KEY_TYPE_reflink_p : KEY_TYPE_deleted, SPOS(inum, 8, UINT32_MAX),
		there ? sizeof(struct bcfs_reflink_p) : 0);

	if (there) {
		k->k.size = 8;
		((struct bcfs_reflink_p *)k->v)->idx = idx;
	}
	return put_raw(trans, BTREE_ID_extents, k);
}

/* Keys of the reflink btree; 0, or 1 for more. */
static int nr_shared(struct btree_trans *trans)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_reflink, POS_MIN, 0);
	k = btree_iter_peek(&iter);
	ret = bkey_err(k) ?: !!k.k;
	btree_iter_exit(&iter);
	return ret;
}

static void says(struct tfs *f, const char *want)
{
	struct texts t = {0};

	DFS_OK(f, data_check_reflink(f->data, keep_text, &t));
	DFS_ASSERT(f, want ? t.nr == 1 && !strcmp(t.last, want) : !t.nr, "%u: \"%s\"", t.nr,
		   t.last);
}

static void run_check(struct tfs *f)
{
	struct data_file a = {UINT32_MAX, 1, 0}, b = {UINT32_MAX, 2, 0}, c = {UINT32_MAX, 77, 0};
	struct btree_trans *trans = btree_trans_get(f->btree);
	u64 block = f->g.block_sectors * 512, done, seq;
	u8 *buf = aligned_alloc(4096, block);

	memset(buf, 1, block);
	DFS_OK(f, data_write(f->data, &a, 0, buf, block, 0, NULL, NULL, &done, &seq));
	DFS_OK(f, data_share(f->data, &a, 0, &b, 0, block, NULL, NULL, &done));
	says(f, NULL);
	DFS_OK(f, commit_do(trans, NULL, 0, change_count(trans, 1)));
	says(f, "reflink: sectors 0 to 8 count 3 owners and have 2");
	DFS_OK(f, commit_do(trans, NULL, 0, change_count(trans, -1)));
	DFS_OK(f, commit_do(trans, NULL, 0, refer(trans, c.inum, 0, true)));
	says(f, "reflink: sectors 0 to 8 count 2 owners and have 3");
	DFS_OK(f, commit_do(trans, NULL, 0, refer(trans, c.inum, 100, true)));
	says(f, "reflink: sectors 100 to 108 are referred to by 1 keys, and are not there");
	/* Which is an error to who reads it. */
	DFS_ASSERT(f, data_read(f->data, &c, 0, buf, block, &done) == -BCFS_ERR_data_key_type,
		   "read");
	DFS_OK(f, commit_do(trans, NULL, 0, refer(trans, c.inum, 100, false)));
	says(f, NULL);
	btree_trans_put(trans);
	/* One owner is left: read, the data are its own again; then there is nothing at all. */
	DFS_OK(f, data_truncate(f->data, &a, 0, NULL, NULL, &seq));
	DFS_OK(f, data_read(f->data, &b, 0, buf, block, &done));
	trans = btree_trans_get(f->btree);
	DFS_ASSERT(f, !lockrestart_do(trans, nr_shared(trans)), "not direct again");
	btree_trans_put(trans);
	DFS_OK(f, data_truncate(f->data, &b, 0, NULL, NULL, &seq));
	free(buf);
}

Test(data_reflink_check, says_what_is_wrong)
{
	dfs_run(trand_seed(0xda16), &dfs_small, run_check);
}

/* ---- a full device ---- */

/*
 * Reading does not make data a file's own. A hole amid shared data, and a scan for what is to be
 * rewritten, are refused before what removing needs is gone; and all can be removed then.
 */
static void run_full_holes(struct tfs *f)
{
	enum { BLOCKS = 4096, PART = 64 };
	const struct data_file a = {UINT32_MAX, 1, 0}, b = {UINT32_MAX, 2, 0},
			       alone = {UINT32_MAX, 3, 0}, big = {UINT32_MAX, 99, 0};
	const struct data_file wish = {
		.snapshot = UINT32_MAX,
		.inum = 99,
		.background = compression_opt(BCFS_COMPRESSION_zstd, 1),
	};
	u64 sectors = 0;
	u64 block = f->g.block_sectors * 512ULL, part = PART * block, len = BLOCKS * block, done;
	u64 at;
	unsigned holes = 0, refused = 0;
	u8 *buf = aligned_alloc(4096, part);
	struct btree_trans *trans;

	memset(buf, 1, part);
	for (u64 o = 0; o < len; o += part)
		DFS_OK(f, data_write(f->data, &a, o, buf, part, o, NULL, NULL, &done, NULL));
	DFS_OK(f, data_share(f->data, &a, 0, &alone, 0, part, NULL, NULL, &done));
	DFS_OK(f, data_punch(f->data, &a, 0, part, len, NULL, NULL, NULL));
	for (at = 0; !data_write(f->data, &big, at, buf, 2 * block, at, NULL, NULL, &done, NULL);)
		at += 2 * block;
	DFS_OK(f, data_read(f->data, &alone, 0, buf, part, &done));
	trans = btree_trans_get(f->btree);
	DFS_ASSERT(f, lockrestart_do(trans, nr_shared(trans)), "its own on a full device");
	btree_trans_put(trans);

	DFS_OK(f, data_share(f->data, &a, part, &b, part, len - part, NULL, NULL, &done));
	for (u64 o = part + block; o < len; o += 2 * block) {
		int ret = data_punch(f->data, &b, o, block, len, NULL, NULL, NULL);

		DFS_ASSERT(f, !ret || ret == -BCFS_ERR_nospc, "%s", err_name(ret));
		holes += !ret;
		refused += !!ret;
	}
	DFS_ASSERT(f, holes && refused, "%u holes, %u refused", holes, refused);
	/* Work adds keys, too. */
	data_rebalance_pause(f->data, true);
	DFS_ASSERT(f, data_rebalance_scan(f->data, &wish, &sectors) == -BCFS_ERR_nospc,
		   "%llu sectors became work", (unsigned long long)sectors);
	tfs_check(f, "holes");
	DFS_OK(f, data_truncate(f->data, &b, 0, NULL, NULL, NULL));
	DFS_OK(f, data_truncate(f->data, &a, 0, NULL, NULL, NULL));
	DFS_OK(f, data_truncate(f->data, &big, 0, NULL, NULL, NULL));
	DFS_OK(f, alloc_do_discards(f->alloc));
	/* There is space. */
	DFS_OK(f, data_read(f->data, &alone, 0, buf, part, &done));
	trans = btree_trans_get(f->btree);
	DFS_ASSERT(f, !lockrestart_do(trans, nr_shared(trans)), "not its own");
	btree_trans_put(trans);
	free(buf);
}

Test(data_reflink_check, full_holes)
{
	dfs_run(trand_seed(0xda18), &dfs_small, run_full_holes);
}

/*
 * Every second block of shared data belongs to one owner alone: as many keys as there can be. What
 * takes them away in one go is not to be more than a journal entry holds.
 */
static void run_shared_splinters(struct tfs *f)
{
	enum { BLOCKS = 1024 };
	const struct data_file whole = {.inum = 1, .snapshot = UINT32_MAX},
			       other = {.inum = 2, .snapshot = UINT32_MAX},
			       third = {.inum = 3, .snapshot = UINT32_MAX},
			       empty = {.inum = 4, .snapshot = UINT32_MAX};
	u64 block = f->g.block_sectors * 512ULL, len = BLOCKS * block, done, seq;
	u8 *bytes = calloc(3, len), *got = bytes + len, *mine = got + len;
	u64 r = f->seed;

	for (u64 i = 0; i < len; i++) {
		bytes[i] = (u8)trand_u64(&r);
		mine[i] = i / block % 2 ? (u8)trand_u64(&r) : bytes[i];
	}
	for (unsigned how = 0; how < 3; how++) {
		DFS_OK(f, data_write(f->data, &whole, 0, bytes, len, 0, NULL, NULL, &done, &seq));
		DFS_OK(f, data_share(f->data, &whole, 0, &other, 0, len, NULL, NULL, &done));
		DFS_OK(f, data_share(f->data, &whole, 0, &third, 0, len, NULL, NULL, &done));
		for (u64 o = block; o < len; o += 2 * block)
			DFS_OK(f, data_write(f->data, &other, o, mine + o, block, len, NULL, NULL,
					     &done, &seq));
		if (how == 0)
			DFS_OK(f, data_truncate(f->data, &whole, 0, NULL, NULL, &seq));
		else if (how == 1)
			DFS_OK(f,
			       data_share(f->data, &empty, 0, &whole, 0, len, NULL, NULL, &done));
		else
			DFS_OK(f, data_write(f->data, &whole, 0, mine, len, len, NULL, NULL, &done,
					     &seq));
		DFS_OK(f, data_read(f->data, &other, 0, got, len, &done));
		DFS_ASSERT(f, !memcmp(got, mine, len), "other data");
		tfs_check(f, "splinters");
	}
	DFS_OK(f, data_read(f->data, &whole, 0, got, len, &done));
	DFS_ASSERT(f, !memcmp(got, mine, len), "other data");
	DFS_OK(f, data_truncate(f->data, &other, 0, NULL, NULL, &seq));
	DFS_OK(f, data_truncate(f->data, &third, 0, NULL, NULL, &seq));
	free(bytes);
}

Test(data_reflink_check, splinters)
{
	struct tfs_geometry g = dfs_tiny;

	g.extent_sectors = 128;
	dfs_run(trand_seed(0xda16), &g, run_shared_splinters);
}

/* Keys as large as they come. */
Test(data_reflink_check, splinters_long_checksums)
{
	struct tfs_geometry g = dfs_tiny;

	g.extent_sectors = 128;
	g.csum_type = BCFS_CSUM_blake2b;
	dfs_run(trand_seed(0xda17), &g, run_shared_splinters);
}

#define SPLINTERS 128U /* blocks */

/* Two files with the same data, of which every second block then belongs to one of them alone. */
static void splinter(struct tfs *f, const struct data_file *a, const struct data_file *b,
		     const u8 *bytes, const u8 *mine)
{
	u64 block = f->g.block_sectors * 512ULL, len = SPLINTERS * block, done;

	DFS_OK(f, data_write(f->data, a, 0, bytes, len, 0, NULL, NULL, &done, NULL));
	DFS_OK(f, data_share(f->data, a, 0, b, 0, len, NULL, NULL, &done));
	for (u64 o = block; o < len; o += 2 * block)
		DFS_OK(f, data_write(f->data, b, o, mine + o, block, len, NULL, NULL, &done, NULL));
}

static int moved_nowhere(struct btree_trans *trans, void *arg, u64 pos)
{
	++*(unsigned *)arg;
	return 0;
}

static void has(struct tfs *f, const struct data_file *x, u64 at, const u8 *want, u64 len)
{
	u8 *got = malloc(len);
	u64 done;

	DFS_OK(f, data_read(f->data, x, at, got, len, &done));
	DFS_ASSERT(f, !memcmp(got, want, len), "inode %llu has other data at %llu",
		   (unsigned long long)x->inum, (unsigned long long)at);
	free(got);
}

/*
 * One reflink_p leads to more than a journal entry can hold: collapsed, inserted into, written
 * amid, punched, shared over. @small: from when on entries are so small.
 */
static void small_entries(struct tfs *f, u32 small)
{
	enum { PAIRS = 5 };
	u64 block = f->g.block_sectors * 512ULL, len = SPLINTERS * block, part = 8 * block, done;
	u64 end = UINT64_MAX & ~511ULL, r = f->seed;
	u8 *bytes = calloc(2, len), *mine = bytes + len;
	struct data_file a[PAIRS], b[PAIRS];
	unsigned steps = 0;

	for (u64 i = 0; i < 2 * len; i++)
		bytes[i] = i < len || (i - len) / block % 2 ? (u8)trand_u64(&r) : bytes[i - len];
	for (unsigned i = 0; i < PAIRS; i++) {
		a[i] = (struct data_file){.snapshot = UINT32_MAX, .inum = 10 + i};
		b[i] = (struct data_file){.snapshot = UINT32_MAX, .inum = 20 + i};
		splinter(f, &a[i], &b[i], bytes, mine);
	}
	if (small) {
		tfs_umount(f);
		f->g.entry_bytes = small;
		tfs_mount(f);
	}
	DFS_OK(f, data_truncate(f->data, &a[0], len - part, NULL, NULL, NULL));
	DFS_OK(f, data_shift(f->data, &a[0], 5 * block, end, (s64)part, moved_nowhere, &steps));
	has(f, &a[0], 5 * block + part, bytes + 5 * block, len - part - 5 * block);
	DFS_OK(f, data_punch(f->data, &a[1], 0, part, len, NULL, NULL, NULL));
	DFS_OK(f, data_shift(f->data, &a[1], part, end, -(s64)part, moved_nowhere, &steps));
	has(f, &a[1], 0, bytes + part, len - part);
	DFS_OK(f,
	       data_write(f->data, &a[2], 73 * block, mine, block, len, NULL, NULL, &done, NULL));
	has(f, &a[2], 73 * block, mine, block);
	has(f, &a[2], 74 * block, bytes + 74 * block, 10 * block);
	DFS_OK(f, data_punch(f->data, &a[3], 73 * block, block, len, NULL, NULL, NULL));
	has(f, &a[3], 74 * block, bytes + 74 * block, 10 * block);
	DFS_OK(f, data_share(f->data, &b[0], 0, &a[4], 60 * block, 60 * block, NULL, NULL, &done));
	has(f, &a[4], 0, bytes, 60 * block);
	has(f, &a[4], 60 * block, mine, 60 * block);
	has(f, &a[4], 120 * block, bytes + 120 * block, 8 * block);
	for (unsigned i = 0; i < PAIRS; i++)
		has(f, &b[i], 0, mine, len);
	tfs_check(f, "all");
	for (unsigned i = 0; i < PAIRS; i++) {
		DFS_OK(f, data_truncate(f->data, &a[i], 0, NULL, NULL, NULL));
		DFS_OK(f, data_truncate(f->data, &b[i], 0, NULL, NULL, NULL));
	}
	DFS_ASSERT(f, steps, "nothing moved");
	free(bytes);
}

static struct tfs_geometry long_checksums(void)
{
	struct tfs_geometry g = dfs_tiny;

	g.extent_sectors = 128;
	g.csum_type = BCFS_CSUM_blake2b;
	return g;
}

static void run_small_entries(struct tfs *f)
{
	small_entries(f, 0);
}

Test(data_reflink_check, small_entries)
{
	struct tfs_geometry g = long_checksums();

	g.entry_bytes = 16 << 10;
	dfs_run(trand_seed(0xda19), &g, run_small_entries);
}

/* Made where there was more room. */
static void run_smaller_entries(struct tfs *f)
{
	small_entries(f, 8 << 10);
}

Test(data_reflink_check, smaller_entries)
{
	struct tfs_geometry g = long_checksums();

	dfs_run(trand_seed(0xda1a), &g, run_smaller_entries);
}
