// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: mark and sweep names every kind of wrong allocation info, and what would make it wrong
 * is refused.
 * Method: a filesystem with some files; one key changed, added or taken away round the triggers;
 * the check must say so, in the words that name it. Then updates with the triggers on, that do not
 * fit what is there: each has an error of its own. And the texts of all key types.
 */
#include "tfs.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define RAW BTREE_UPDATE_NOTRIGGERS

/* The first key at or behind @from, in transaction memory. */
static int get(struct btree_trans *trans, enum btree_id id, struct bpos from, struct bkey_i **ret)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	btree_iter_init(trans, &iter, id, from, BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS);
	k = btree_iter_peek(&iter);
	err = bkey_err(k);
	if (!err) {
		cr_assert(k.k, "btree %s is empty", btree_id_name(id));
		*ret = btree_trans_copy_key(trans, k, 0);
	}
	btree_iter_exit(&iter);
	return err;
}

/* The alloc key of the first bucket of that kind. */
static int get_bucket(struct btree_trans *trans, u8 type, struct bkey_i **ret)
{
	struct bpos pos = POS_MIN;
	int err;

	while (!(err = get(trans, BTREE_ID_alloc, pos, ret)) &&
	       alloc_val(bkey_i_to_s_c(*ret)).data_type != type)
		pos = bpos_successor((*ret)->k.p);
	return err;
}

static struct bcfs_alloc *alloc_of(struct bkey_i *k)
{
	return &bkey_i_to_alloc(k)->v;
}

static int put(struct btree_trans *trans, enum btree_id id, struct bkey_i *k)
{
	return btree_trans_insert(trans, id, k, RAW);
}

static struct bkey_i *new_run(struct btree_trans *trans, u64 first, u64 last)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, KEY_TYPE_cookie, POS(0, last),
						 sizeof(struct bcfs_cookie));

	bkey_i_to_cookie(k)->v.cookie = last - first + 1;
	return k;
}

static struct bkey_i *new_gens(struct btree_trans *trans, u64 group, const u8 *gens)
{
	struct alloc_gens_buf buf;
	u32 bytes = alloc_gens_pack(gens, &buf);
	struct bkey_i *k = btree_trans_alloc_key(trans, KEY_TYPE_bucket_gens,
						 POS(BCFS_ALLOC_GENS, group), bytes);

	memcpy(&k->v, &buf, bytes);
	return k;
}

/* An extent of 8 sectors that nobody has written. */
static struct bkey_i *new_extent(struct btree_trans *trans, struct bcfs_extent_ptr ptr)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, KEY_TYPE_extent, SPOS(4000, 8, UINT32_MAX),
						 sizeof(ptr));

	ptr.type = BCFS_EXTENT_ENTRY_ptr;
	k->k.size = 8;
	memcpy(&k->v, &ptr, sizeof(ptr));
	return k;
}

/* ---- what is done, inside a transaction ---- */

static int bp_gone(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;

	return get(trans, BTREE_ID_backpointers, POS_MIN, &k)
		       ?: btree_trans_delete(trans, BTREE_ID_backpointers, k->k.p, RAW);
}

static int bp_extra(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get(trans, BTREE_ID_backpointers, POS_MIN, &k);

	if (ret)
		return ret;
	k->k.p.offset++;
	return put(trans, BTREE_ID_backpointers, k);
}

static int bp_behind_all(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get(trans, BTREE_ID_backpointers, POS_MIN, &k);

	if (ret)
		return ret;
	k->k.p.offset = UINT64_MAX - 7;
	return put(trans, BTREE_ID_backpointers, k);
}

static int bp_other(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get(trans, BTREE_ID_backpointers, POS_MIN, &k);

	if (ret)
		return ret;
	bkey_i_to_backpointer(k)->v.bucket_len++;
	return put(trans, BTREE_ID_backpointers, k);
}

static int sectors_wrong(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get_bucket(trans, BCFS_DATA_user, &k);

	if (ret)
		return ret;
	alloc_of(k)->dirty_sectors++;
	return put(trans, BTREE_ID_alloc, k);
}

static int gen_wrong(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get_bucket(trans, BCFS_DATA_user, &k);

	if (ret)
		return ret;
	alloc_of(k)->gen++;
	return put(trans, BTREE_ID_alloc, k);
}

static int user_is_btree(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get_bucket(trans, BCFS_DATA_user, &k);

	if (ret)
		return ret;
	alloc_of(k)->data_type = BCFS_DATA_btree;
	return put(trans, BTREE_ID_alloc, k);
}

static int journal_is_user(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get_bucket(trans, BCFS_DATA_journal, &k);

	if (ret)
		return ret;
	alloc_of(k)->data_type = BCFS_DATA_user;
	return put(trans, BTREE_ID_alloc, k);
}

static int user_is_empty(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get_bucket(trans, BCFS_DATA_user, &k);

	if (ret)
		return ret;
	*alloc_of(k) = (struct bcfs_alloc){.gen = alloc_of(k)->gen,
					   .data_type = BCFS_DATA_need_discard,
					   .flags = BCFS_ALLOC_NEED_INC_GEN};
	return put(trans, BTREE_ID_alloc, k);
}

static int user_is_cached(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get_bucket(trans, BCFS_DATA_user, &k);

	if (ret)
		return ret;
	alloc_of(k)->data_type = BCFS_DATA_cached;
	alloc_of(k)->cached_sectors = alloc_of(k)->dirty_sectors;
	alloc_of(k)->dirty_sectors = 0;
	return put(trans, BTREE_ID_alloc, k);
}

static int alloc_gone(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;

	return get_bucket(trans, BCFS_DATA_user, &k)
		       ?: btree_trans_delete(trans, BTREE_ID_alloc, k->k.p, RAW);
}

static int alloc_beyond(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get_bucket(trans, BCFS_DATA_user, &k);

	if (ret)
		return ret;
	k->k.p.offset = f->g.nr_buckets + 5;
	return put(trans, BTREE_ID_alloc, k);
}

static int gens_wrong(struct tfs *f, struct btree_trans *trans)
{
	u8 gens[BCFS_ALLOC_GENS_GROUP] = {0};
	struct bkey_i *k;
	int ret = get_bucket(trans, BCFS_DATA_user, &k);

	if (ret)
		return ret;
	gens[k->k.p.offset] = 77;
	return put(trans, BTREE_ID_alloc, new_gens(trans, 0, gens));
}

static int gens_beyond(struct tfs *f, struct btree_trans *trans)
{
	u8 gens[BCFS_ALLOC_GENS_GROUP] = {[3] = 5};

	return put(trans, BTREE_ID_alloc, new_gens(trans, 1000, gens));
}

static int run_in_use(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;

	return get_bucket(trans, BCFS_DATA_user, &k)
		       ?: put(trans, BTREE_ID_freespace,
			      new_run(trans, k->k.p.offset, k->k.p.offset));
}

static int run_of_superblock(struct tfs *f, struct btree_trans *trans)
{
	return put(trans, BTREE_ID_freespace, new_run(trans, 0, 1));
}

static int runs_overlap(struct tfs *f, struct btree_trans *trans)
{
	u64 end = f->g.nr_buckets - 1;

	return put(trans, BTREE_ID_freespace, new_run(trans, end - 9, end - 2))
		       ?: put(trans, BTREE_ID_freespace, new_run(trans, end - 5, end));
}

static int runs_touch(struct tfs *f, struct btree_trans *trans)
{
	u64 end = f->g.nr_buckets - 1;

	return put(trans, BTREE_ID_freespace, new_run(trans, end - 9, end - 6))
		       ?: put(trans, BTREE_ID_freespace, new_run(trans, end - 5, end));
}

static int run_beyond(struct tfs *f, struct btree_trans *trans)
{
	return put(trans, BTREE_ID_freespace,
		   new_run(trans, f->g.nr_buckets + 1, f->g.nr_buckets + 2));
}

static int discard_extra(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;

	return get_bucket(trans, BCFS_DATA_user, &k)
		       ?: btree_trans_bit_mod(trans, BTREE_ID_need_discard, k->k.p, true);
}

static int lru_gone(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;

	return get(trans, BTREE_ID_lru, POS_MIN, &k)
		       ?: btree_trans_delete(trans, BTREE_ID_lru, k->k.p, RAW);
}

static int lru_extra(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get(trans, BTREE_ID_lru, POS_MIN, &k);

	if (ret)
		return ret;
	k->k.p.offset = f->g.nr_buckets + 3;
	return put(trans, BTREE_ID_lru, k);
}

static int ptr_beyond(struct tfs *f, struct btree_trans *trans)
{
	return put(trans, BTREE_ID_extents,
		   new_extent(trans, (struct bcfs_extent_ptr){.offset = f->g.nr_buckets *
									f->g.bucket_sectors}));
}

static int ptr_device(struct tfs *f, struct btree_trans *trans)
{
	return put(trans, BTREE_ID_extents,
		   new_extent(trans, (struct bcfs_extent_ptr){.offset = 4096, .dev = 3}));
}

static int ptr_gen(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get_bucket(trans, BCFS_DATA_user, &k);

	if (ret)
		return ret;
	return put(trans, BTREE_ID_extents,
		   new_extent(trans, (struct bcfs_extent_ptr){.offset = k->k.p.offset *
									f->g.bucket_sectors,
							      .gen = alloc_of(k)->gen + 1}));
}

static int ptr_to_node(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get_bucket(trans, BCFS_DATA_btree, &k);

	if (ret)
		return ret;
	return put(trans, BTREE_ID_extents,
		   new_extent(trans, (struct bcfs_extent_ptr){.offset = k->k.p.offset *
									f->g.bucket_sectors,
							      .gen = alloc_of(k)->gen}));
}

static const struct {
	const char *name;
	int (*fn)(struct tfs *f, struct btree_trans *trans);
	const char *says;
} damages[] = {
	{"bp_gone", bp_gone, "backpointers: missing at"},
	{"bp_extra", bp_extra, "should not be there"},
	{"bp_behind_all", bp_behind_all, "should not be there"},
	{"bp_other", bp_other, "; should be "},
	{"sectors_wrong", sectors_wrong, "; should be user dirty"},
	{"gen_wrong", gen_wrong, "was last free with generation"},
	{"user_is_btree", user_is_btree, "; should be user"},
	{"journal_is_user", journal_is_user, "; should be journal"},
	{"user_is_empty", user_is_empty, "need_discard: bucket"},
	{"user_is_cached", user_is_cached, "is cached gen"},
	{"alloc_gone", alloc_gone, "has no key, should be user"},
	{"alloc_beyond", alloc_beyond, "a key that belongs to no bucket"},
	{"gens_wrong", gens_wrong, "was last free with generation"},
	{"gens_beyond", gens_beyond, "generations of no buckets"},
	{"run_in_use", run_in_use, "is not free"},
	{"run_of_superblock", run_of_superblock, "bucket 0 is not free"},
	{"runs_overlap", runs_overlap, "overlaps the one before"},
	{"runs_touch", runs_touch, "should be one with the one before"},
	{"run_beyond", run_beyond, "freespace: "},
	{"discard_extra", discard_extra, "need_discard: "},
	{"lru_gone", lru_gone, "lru: bucket "},
	{"lru_extra", lru_extra, "should not be there"},
	{"ptr_beyond", ptr_beyond, "out of its device"},
	{"ptr_device", ptr_device, "device that is not there"},
	{"ptr_gen", ptr_gen, "other keys name generation"},
	{"ptr_to_node", ptr_to_node, "data and btree nodes in one bucket"},
};

/* ---- the run ---- */

static void setup(struct tfs *f)
{
	toy_mkfs(f, 0xda3a9e, &tfs_small);
	for (u64 inum = 1; inum <= 6; inum++)
		for (u64 at = 0; at < 5; at++)
			TFS_OK(tfs_write(f, inum, at * 64, 40, (inum + at) % 3));
	for (u64 inum = 1; inum <= 6; inum += 2)
		TFS_OK(tfs_delete(f, inum, 64, 256));
	tfs_check(f, "before");
}

/* What is wrong now is not to be used: as after a power cut. */
static void end(struct tfs *f)
{
	struct sim_crash how = {.rule = SIM_CRASH_ALL};

	tfs_crash(f, &how);
	bdev_close(f->bdev);
	env_sim_destroy(f->env);
}

struct said {
	const char *wanted;
	bool found;
	char first[256];
};

static void hear(void *arg, const char *text)
{
	struct said *s = arg;

	s->found |= strstr(text, s->wanted) != NULL;
	if (!s->first[0])
		strncpy(s->first, text, sizeof(s->first) - 1);
}

Test(damage, check_names_each)
{
	for (unsigned i = 0; i < ARRAY_SIZE(damages); i++) {
		struct said s = {.wanted = damages[i].says};
		struct btree_trans *trans;
		u64 errors = 0;
		struct tfs f;

		setup(&f);
		trans = btree_trans_get(f.btree);
		int ret = commit_do(trans, NULL, 0, damages[i].fn(&f, trans));
		btree_trans_put(trans);
		cr_assert_eq(ret, 0, "%s: %s", damages[i].name, err_str(ret));
		ret = alloc_check(f.alloc, NULL, &errors, hear, &s);
		cr_assert_eq(ret, 0, "%s: %s", damages[i].name, err_str(ret));
		cr_assert(errors && s.found, "%s: %llu errors, none with \"%s\"; the first: %s",
			  damages[i].name, (unsigned long long)errors, s.wanted, s.first);
		end(&f);
	}
}

/* Where a leaf of extents lies that is not the root: by what points at it. */
static u64 find_leaf(struct tfs *f)
{
	struct bpos pos = POS_MIN;

	for (;;) {
		struct btree_trans *trans = btree_trans_get(f->btree);
		struct bcfs_backpointer *bp;
		struct bkey_i *k;
		u64 sector;

		cr_assert_eq(lockrestart_do(trans, get(trans, BTREE_ID_backpointers, pos, &k)), 0);
		bp = &bkey_i_to_backpointer(k)->v;
		sector = k->k.p.offset >> BCFS_BP_SHIFT;
		pos = bpos_successor(k->k.p);
		bool found = bp->btree_id == BTREE_ID_extents && bp->level == 1;
		btree_trans_put(trans);
		if (found)
			return sector * 512;
	}
}

static void check_with(struct tfs *f, enum bcfs_accounting_type type, s64 delta, const char *says)
{
	static struct journal_carried carried;
	struct said s = {.wanted = says};
	u64 errors = 0;

	for (unsigned i = 0; i < BCFS_ACCOUNTING_NR; i++)
		carried.usage[i] = alloc_usage_get(f->alloc, i);
	carried.usage[type] += delta;
	cr_assert_eq(alloc_check(f->alloc, &carried, &errors, hear, &s), 0);
	cr_assert(errors && s.found, "%s: the first: %s", says, s.first);
}

Test(damage, check_names_wrong_counters)
{
	struct tfs f;

	setup(&f);
	check_with(&f, BCFS_ACCOUNTING_user, 8, "counter user is ");
	check_with(&f, BCFS_ACCOUNTING_buckets_btree, -1, "counter buckets_btree is ");
	/* free buckets from here on need no key: these have none */
	check_with(&f, BCFS_ACCOUNTING_used_mark, 400, "freespace: bucket ");
	end(&f);
}

/* A node that cannot be read: the check says so, or ends with the error; it does not pass. */
Test(damage, check_meets_an_unreadable_node)
{
	struct said s = {.wanted = "cannot be read"};
	u64 errors = 0, offset;
	u8 zero[4096] = {0};
	struct tfs f;

	setup(&f);
	for (u64 inum = 10; inum < 30; inum++)
		for (u64 at = 0; at < 40; at++)
			cr_assert_eq(tfs_write(&f, inum, at * 16, 8, 1), 0);
	tfs_check(&f, "before");
	offset = find_leaf(&f);
	tfs_umount(&f);
	cr_assert_eq(bdev_write(f.bdev, offset, zero, sizeof(zero), 0), 0);
	tfs_mount(&f);
	int ret = alloc_check(f.alloc, NULL, &errors, hear, &s);
	cr_assert(ret || s.found, "%llu errors, the first: %s", (unsigned long long)errors,
		  s.first);
	end(&f);
}

/* ---- refused by the triggers ---- */

static int insert(struct btree_trans *trans, struct bcfs_extent_ptr ptr)
{
	return btree_trans_insert(trans, BTREE_ID_extents, new_extent(trans, ptr), 0);
}

static int refused_stale(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;

	return get_bucket(trans, BCFS_DATA_user, &k)
		       ?: insert(trans, (struct bcfs_extent_ptr){.offset = k->k.p.offset *
									   f->g.bucket_sectors,
								 .gen = alloc_of(k)->gen + 9});
}

static int refused_state(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;

	return get_bucket(trans, BCFS_DATA_btree, &k)
		       ?: insert(trans, (struct bcfs_extent_ptr){.offset = k->k.p.offset *
									   f->g.bucket_sectors,
								 .gen = alloc_of(k)->gen});
}

static int refused_bounds(struct tfs *f, struct btree_trans *trans)
{
	return insert(trans, (struct bcfs_extent_ptr){.offset = 1});
}

static int refused_device(struct tfs *f, struct btree_trans *trans)
{
	return insert(trans, (struct bcfs_extent_ptr){.offset = 4096, .dev = 1});
}

/* A cached copy in a bucket that was used again since: simply not there any more. */
static int cached_stale(struct tfs *f, struct btree_trans *trans)
{
	struct bkey_i *k;

	return get_bucket(trans, BCFS_DATA_user, &k)
		       ?: insert(trans, (struct bcfs_extent_ptr){.offset = k->k.p.offset *
									   f->g.bucket_sectors,
								 .cached = 1,
								 .gen = alloc_of(k)->gen + 9});
}

Test(damage, triggers_refuse)
{
	static const struct {
		int (*fn)(struct tfs *f, struct btree_trans *trans);
		int err;
	} tries[] = {
		{refused_stale, -BCFS_ERR_alloc_ptr_stale},
		{refused_state, -BCFS_ERR_alloc_ptr_state},
		{refused_bounds, -BCFS_ERR_alloc_ptr_bounds},
		{refused_device, -BCFS_ERR_alloc_ptr_device},
		{cached_stale, 0},
	};
	struct tfs f;

	setup(&f);
	for (unsigned i = 0; i < ARRAY_SIZE(tries); i++) {
		struct btree_trans *trans = btree_trans_get(f.btree);
		int ret = commit_do(trans, NULL, 0, tries[i].fn(&f, trans));

		btree_trans_put(trans);
		cr_assert_eq(ret, tries[i].err, "%u: %s", i, err_str(ret));
	}
	end(&f);
}

/* More is taken away than the bucket is said to hold. */
static int few_sectors(struct btree_trans *trans)
{
	struct bkey_i *k;
	int ret = get_bucket(trans, BCFS_DATA_user, &k);

	if (ret)
		return ret;
	alloc_of(k)->dirty_sectors = 1;
	return put(trans, BTREE_ID_alloc, k);
}

Test(damage, sectors_do_not_underflow)
{
	struct btree_trans *trans;
	struct tfs f;
	int ret = 0;

	setup(&f);
	trans = btree_trans_get(f.btree);
	ret = commit_do(trans, NULL, 0, few_sectors(trans));
	cr_assert_eq(ret, 0);
	btree_trans_put(trans);
	for (u64 inum = 1; inum <= 6 && !ret; inum++)
		ret = tfs_delete(&f, inum, 0, 1ULL << 40);
	cr_assert_eq(ret, -BCFS_ERR_alloc_sectors_underflow, "%s", err_str(ret));
	end(&f);
}

/* ---- texts ---- */

static void has(struct printbuf *out, const char *text)
{
	cr_assert(strstr(printbuf_str(out), text), "no \"%s\" in \"%s\"", text, printbuf_str(out));
	printbuf_reset(out);
}

Test(damage, texts)
{
	CLEANUP(printbuf_exit) struct printbuf out = PRINTBUF;
	u8 gens[BCFS_ALLOC_GENS_GROUP] = {[1] = 0xab};
	struct btree_trans *trans;
	struct bkey_i *k;
	struct tfs f;

	setup(&f);
	trans = btree_trans_get(f.btree);
	btree_trans_begin(trans);

	alloc_fs_to_text(&out, f.alloc);
	cr_assert(strstr(printbuf_str(&out), "buckets journal: 24"));
	cr_assert(strstr(printbuf_str(&out), "open: bucket 0:"));
	has(&out, "capacity ");

	k = btree_trans_alloc_key(trans, KEY_TYPE_alloc, POS(0, 7), sizeof(struct bcfs_alloc));
	*alloc_of(k) =
		(struct bcfs_alloc){.gen = 3,
				    .data_type = BCFS_DATA_need_discard,
				    .flags = BCFS_ALLOC_NEED_DISCARD | BCFS_ALLOC_NEED_INC_GEN,
				    .stripe = 4,
				    .stripe_sectors = 5,
				    .journal_seq_empty = 6};
	bkey_ops_alloc.to_text(&out, bkey_i_to_s_c(k));
	has(&out,
	    "need_discard gen 3 oldest 0 dirty 0 cached 0 stripe 4 sectors 5 empty since seq 6 "
	    "need_discard need_inc_gen");
	cr_assert_str_eq(alloc_data_type_name(200), "unknown");

	k = btree_trans_alloc_key(trans, KEY_TYPE_lru, alloc_lru_pos(2, 9, 3), 8);
	bkey_ops_lru.to_text(&out, bkey_i_to_s_c(k));
	has(&out, " at 3: 2:9");

	bkey_ops_bucket_gens.to_text(&out, bkey_i_to_s_c(new_gens(trans, 0, gens)));
	has(&out, "ab");
	bkey_ops_cookie.to_text(&out, bkey_i_to_s_c(new_run(trans, 5, 14)));
	has(&out, "10");

	k = btree_trans_alloc_key(trans, KEY_TYPE_accounting, POS(0, 1), 16);
	((s64 *)&k->v)[0] = -5;
	((s64 *)&k->v)[1] = 6;
	bkey_ops_accounting.to_text(&out, bkey_i_to_s_c(k));
	has(&out, "-5 6");

	k = btree_trans_alloc_key(trans, KEY_TYPE_backpointer, POS(0, 100ULL << BCFS_BP_SHIFT | 7),
				  sizeof(struct bcfs_backpointer));
	bkey_i_to_backpointer(k)->v = (struct bcfs_backpointer){
		.btree_id = BTREE_ID_extents, .bucket_len = 8, .data_type = BCFS_DATA_user};
	bkey_ops_backpointer.to_text(&out, bkey_i_to_s_c(k));
	has(&out, "sector 100 live 7 len 8 user gen 0 -> extents level 0 ");
	btree_trans_put(trans);
	end(&f);
}

/* ---- values that are refused ---- */

static void refused(struct btree_trans *trans, const struct bkey_ops *ops, enum btree_id btree,
		    struct bkey_i *k, const char *says)
{
	CLEANUP(printbuf_exit) struct printbuf out = PRINTBUF;
	int ret = ops->validate(bkey_i_to_s_c(k), btree, 0, &out);

	cr_assert(ret < 0 && strstr(printbuf_str(&out), says), "\"%s\" is not refused: %s \"%s\"",
		  says, err_str(ret), printbuf_str(&out));
	cr_assert_eq(ops->validate(bkey_i_to_s_c(k), btree, 0, NULL), ret);
}

static void refused_alloc(struct btree_trans *trans, struct bcfs_alloc v, const char *says)
{
	struct bkey_i *k =
		btree_trans_alloc_key(trans, KEY_TYPE_alloc, POS(0, 7), sizeof(struct bcfs_alloc));

	*alloc_of(k) = v;
	refused(trans, &bkey_ops_alloc, BTREE_ID_alloc, k, says);
}

static void refused_bp(struct btree_trans *trans, struct bcfs_backpointer v, u64 inode,
		       const char *says)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, KEY_TYPE_backpointer, POS(inode, 7),
						 sizeof(struct bcfs_backpointer));

	bkey_i_to_backpointer(k)->v = v;
	refused(trans, &bkey_ops_backpointer, BTREE_ID_backpointers, k, says);
}

static void refused_ptr(struct btree_trans *trans, struct bcfs_btree_ptr v,
			const struct bcfs_extent_ptr *ptr, u32 size, const char *says)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, KEY_TYPE_btree_ptr, POS(1, 7),
						 sizeof(v) + (ptr ? 8 : 0));

	k->k.size = size;
	memcpy(&k->v, &v, sizeof(v));
	if (ptr)
		memcpy((u8 *)&k->v + sizeof(v), ptr, 8);
	refused(trans, &bkey_ops_btree_ptr, BTREE_ID_extents, k, says);
}

Test(damage, values_are_refused)
{
	struct bcfs_extent_ptr ptr = {.type = BCFS_EXTENT_ENTRY_ptr, .offset = 4096};
	struct bcfs_extent_ptr nowhere = {.type = BCFS_EXTENT_ENTRY_ptr};
	struct bcfs_backpointer bp = {.bucket_len = 8, .data_type = BCFS_DATA_user};
	u8 gens[BCFS_ALLOC_GENS_GROUP] = {[1] = 0xab};
	struct btree_trans *trans;
	struct bkey_i *k;
	struct tfs f;

	setup(&f);
	trans = btree_trans_get(f.btree);
	btree_trans_begin(trans);

	refused_alloc(trans, (struct bcfs_alloc){.data_type = BCFS_DATA_NR}, "unknown data type");
	refused_alloc(trans, (struct bcfs_alloc){0}, "alloc key of a free bucket");
	refused_alloc(trans,
		      (struct bcfs_alloc){.data_type = BCFS_DATA_need_discard, .dirty_sectors = 1},
		      "sectors in an empty bucket");
	refused_alloc(trans, (struct bcfs_alloc){.data_type = BCFS_DATA_user},
		      "bucket in use without sectors");
	refused_alloc(trans, (struct bcfs_alloc){.data_type = BCFS_DATA_cached},
		      "wrong sectors in a cached bucket");
	k = btree_trans_alloc_key(trans, KEY_TYPE_alloc, POS(256, 7), sizeof(struct bcfs_alloc));
	refused(trans, &bkey_ops_alloc, BTREE_ID_alloc, k, "alloc key of no device");
	k = btree_trans_alloc_key(trans, KEY_TYPE_alloc, POS(0, 7), 8);
	refused(trans, &bkey_ops_alloc, BTREE_ID_alloc, k, "alloc value too short");

	refused_bp(trans, bp, 256, "backpointer of no device");
	bp.level = BTREE_MAX_DEPTH + 1;
	refused_bp(trans, bp, 0, "impossible level");
	bp.level = 0;
	bp.data_type = BCFS_DATA_NR;
	refused_bp(trans, bp, 0, "unknown data type");
	bp.data_type = BCFS_DATA_user;
	bp.bucket_len = 0;
	refused_bp(trans, bp, 0, "backpointer of no sectors");
	k = btree_trans_alloc_key(trans, KEY_TYPE_backpointer, POS(0, 7), 8);
	refused(trans, &bkey_ops_backpointer, BTREE_ID_backpointers, k, "backpointer too short");

	k = btree_trans_alloc_key(trans, KEY_TYPE_lru, POS(1, 7), 8);
	refused(trans, &bkey_ops_lru, BTREE_ID_lru, k, "entry of no LRU");

	k = new_gens(trans, 0, gens);
	k->k.p.inode = 3;
	refused(trans, &bkey_ops_bucket_gens, BTREE_ID_alloc, k, "generations of no device");
	k = new_gens(trans, UINT64_MAX / 2, gens);
	refused(trans, &bkey_ops_bucket_gens, BTREE_ID_alloc, k, "generations of no buckets");
	k = btree_trans_alloc_key(trans, KEY_TYPE_bucket_gens, POS(BCFS_ALLOC_GENS, 0), 8);
	((struct bcfs_bucket_gens *)&k->v)->bits = 99;
	refused(trans, &bkey_ops_bucket_gens, BTREE_ID_alloc, k, "do not unpack");

	k = new_run(trans, 5, 14);
	k->k.p.inode = 256;
	refused(trans, &bkey_ops_cookie, BTREE_ID_freespace, k, "run of no device");
	k = new_run(trans, 5, 14);
	bkey_i_to_cookie(k)->v.cookie = 16;
	refused(trans, &bkey_ops_cookie, BTREE_ID_freespace, k, "run of an impossible length");

	k = btree_trans_alloc_key(trans, KEY_TYPE_accounting, POS(0, 1), 0);
	refused(trans, &bkey_ops_accounting, BTREE_ID_accounting, k, "no counter");

	refused_ptr(trans, (struct bcfs_btree_ptr){0}, &ptr, 8, "btree pointer with a size");
	refused_ptr(trans, (struct bcfs_btree_ptr){.sectors_written = UINT16_MAX}, &ptr, 0,
		    "more written than a node has");
	refused_ptr(trans, (struct bcfs_btree_ptr){.min_key = POS(9, 9)}, &ptr, 0,
		    "node ends before it begins");
	refused_ptr(trans, (struct bcfs_btree_ptr){0}, &nowhere, 0, "impossible place of a node");
	refused_ptr(trans, (struct bcfs_btree_ptr){0}, NULL, 0, "no pointer");
	k = btree_trans_alloc_key(trans, KEY_TYPE_btree_ptr, POS(0, 1), 8);
	refused(trans, &bkey_ops_btree_ptr, BTREE_ID_extents, k, "btree pointer too short");
	btree_trans_put(trans);
	end(&f);
}
