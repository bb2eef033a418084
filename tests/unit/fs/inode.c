// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: inode keys keep every field; no value, however made, gets past validate and then breaks
 * unpacking or printing.
 * Method: random inodes packed and unpacked; an inode with fields of a later version; random
 * values, and good ones with bytes changed, through validate and to_text of all key types
 * (run under ASan to see overruns).
 */
#include "fs/dirent.h"
#include "fs/keys.h"
#include "fs/xattr.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/printbuf.h"
#include "util/varint.h"

#include "../test_rand.h"

static void random_inode(u64 *rng, struct bcfs_inode_unpacked *inode)
{
	memset(inode, 0, sizeof(*inode));
	inode->inum = 1 + trand_below(rng, BCFS_INUM_MAX);
	inode->snapshot = UINT32_MAX;
	inode->flags = trand_u64(rng);
	inode->hash_seed = trand_u64(rng);
	inode->journal_seq = trand_log_u64(rng);
	inode->mode = S_IFREG | (trand_u64(rng) & 07777);
#define x(name, bits, doc)                                                                         \
	if (trand_below(rng, 3))                                                                   \
		inode->name = trand_log_u64(rng) & (bits == 64 ? ~0ULL : (1ULL << (bits & 63)) - 1);
	BCFS_INODE_FIELDS(x)
#undef x
	inode->size &= INT64_MAX;
	inode->dir &= BCFS_INUM_MAX;
	inode->dir_offset &= INT64_MAX;
	inode->subvol &= BCFS_SUBVOL_MAX;
	inode->parent_subvol &= BCFS_SUBVOL_MAX;
}

static int validate(const struct bkey_ops *ops, struct bkey_s_c k, enum btree_id btree)
{
	CLEANUP(printbuf_exit) struct printbuf err = PRINTBUF;
	int ret = ops->validate(k, btree, 0, &err);

	cr_assert_eq(!ret, !err.pos, "a refusal says why: %s", printbuf_str(&err));
	return ret;
}

Test(inode, round_trip)
{
	u64 seed = trand_seed(1), rng = seed;

	for (unsigned i = 0; i < 20000; i++) {
		struct bcfs_inode_unpacked a, b;
		struct inode_key_buf buf;

		random_inode(&rng, &a);
		if (i % 2) {
			a.nr_unknown = 1 + trand_below(&rng, 20);
			for (unsigned j = 0; j < a.nr_unknown; j++)
				a.unknown_bytes += varint_encode(a.unknown + a.unknown_bytes,
								 a.unknown + sizeof(a.unknown),
								 trand_log_u64(&rng));
		}
		inode_pack(&buf, &a);
		cr_assert(!validate(&bkey_ops_inode, bkey_i_to_s_c(&buf.k.k_i), BTREE_ID_inodes));
		cr_assert(!inode_unpack(bkey_i_to_s_c(&buf.k.k_i), &b));
		cr_assert(!memcmp(&a, &b, offsetof(struct bcfs_inode_unpacked, unknown)) &&
				  !memcmp(a.unknown, b.unknown, a.unknown_bytes),
			  TEST_SEED_FMT " inode %u", (unsigned long long)seed, i);
	}
}

Test(inode, times)
{
	s64 sec;
	u32 nsec;

	fs_time_unpack(fs_time_pack(-1, 999999999), &sec, &nsec);
	cr_assert(sec == -1 && nsec == 999999999);
	fs_time_unpack(fs_time_pack(1700000000, 123456789), &sec, &nsec);
	cr_assert(sec == 1700000000 && nsec == 123456789);
	cr_assert_eq(fs_time_pack(INT64_MIN, 5), 0);
	cr_assert_eq(fs_time_pack(INT64_MAX, 5), UINT64_MAX);
	cr_assert_eq(fs_time_pack(BCFS_TIME_EPOCH_SEC, 7), 7);
	fs_time_unpack(UINT64_MAX, &sec, &nsec);
	cr_assert_gt(sec, 16000000000LL);
}

static const struct {
	enum bkey_type type;
	enum btree_id btree;
	const struct bkey_ops *ops;
} types[] = {
	{KEY_TYPE_inode, BTREE_ID_inodes, &bkey_ops_inode},
	{KEY_TYPE_inode_generation, BTREE_ID_inodes, &bkey_ops_inode_generation},
	{KEY_TYPE_dirent, BTREE_ID_dirents, &bkey_ops_dirent},
	{KEY_TYPE_xattr, BTREE_ID_xattrs, &bkey_ops_xattr},
	{KEY_TYPE_hash_whiteout, BTREE_ID_dirents, &bkey_ops_hash_whiteout},
	{KEY_TYPE_whiteout, BTREE_ID_xattrs, &bkey_ops_whiteout},
	{KEY_TYPE_set, BTREE_ID_deleted_inodes, &bkey_ops_set},
	{KEY_TYPE_logged_op_truncate, BTREE_ID_logged_ops, &bkey_ops_logged_op_truncate},
	{KEY_TYPE_logged_op_finsert, BTREE_ID_logged_ops, &bkey_ops_logged_op_finsert},
	{KEY_TYPE_snapshot, BTREE_ID_snapshots, &bkey_ops_snapshot},
	{KEY_TYPE_snapshot_tree, BTREE_ID_snapshots, &bkey_ops_snapshot_tree},
	{KEY_TYPE_subvolume, BTREE_ID_subvolumes, &bkey_ops_subvolume},
};

static const unsigned min_val[KEY_TYPE_NR] = {
#define x(name, nr, minval, doc) [nr] = minval,
	BCFS_BKEY_TYPES(x)
#undef x
};

/* A key of exactly @val_u64s on the heap, so that an overrun is seen. */
static struct bkey_i *key_alloc(enum bkey_type type, unsigned val_u64s)
{
	struct bkey_i *k = calloc(1, (BKEY_U64s + val_u64s) * 8);

	bkey_init(&k->k);
	k->k.type = type;
	set_bkey_val_u64s(&k->k, val_u64s);
	return k;
}

static unsigned try_key(unsigned t, struct bkey_i *k)
{
	CLEANUP(printbuf_exit) struct printbuf out = PRINTBUF;
	struct bkey_s_c s = bkey_i_to_s_c(k);
	int ret = validate(types[t].ops, s, types[t].btree);

	if (types[t].ops->to_text)
		types[t].ops->to_text(&out, s);
	cr_assert(validate(types[t].ops, s, BTREE_ID_alloc), "any btree will do");
	return !ret;
}

Test(inode, fuzz_random)
{
	u64 rng = trand_seed(2);

	for (unsigned i = 0; i < 200000; i++) {
		unsigned t = trand_below(&rng, ARRAY_SIZE(types));
		unsigned min_u64s = DIV_ROUND_UP(min_val[types[t].type], 8);
		unsigned u64s = min_u64s + trand_below(&rng, min_u64s ? 30 : 2);
		struct bkey_i *k = key_alloc(types[t].type, u64s);

		k->k.p = SPOS(trand_log_u64(&rng), trand_log_u64(&rng), trand_log_u64(&rng));
		for (unsigned j = 0; j < u64s; j++)
			k->v[j] = trand_log_u64(&rng);
		try_key(t, k);
		free(k);
	}
}

Test(inode, fuzz_changed)
{
	u64 rng = trand_seed(3);
	unsigned good = 0;

	for (unsigned i = 0; i < 100000; i++) {
		struct bcfs_inode_unpacked inode;
		struct inode_key_buf buf;
		struct bkey_i *k;

		random_inode(&rng, &inode);
		inode_pack(&buf, &inode);
		k = key_alloc(KEY_TYPE_inode, bkey_val_u64s(&buf.k.k));
		memcpy(k, &buf, bkey_bytes(&buf.k.k));
		for (unsigned j = trand_below(&rng, 4); j; j--)
			((u8 *)k->v)[trand_below(&rng, bkey_val_bytes(&k->k))] = trand_u64(&rng);
		if (!validate(&bkey_ops_inode, bkey_i_to_s_c(k), BTREE_ID_inodes)) {
			good++;
			cr_assert(!inode_unpack(bkey_i_to_s_c(k), &inode));
		}
		free(k);
	}
	cr_assert(good > 20000 && good < 90000, "%u", good);
}

Test(inode, names_refused)
{
	struct {
		struct bkey k;
		struct bcfs_dirent d;
		char name[22];
	} e;
	struct bkey_i *k = (struct bkey_i *)&e.k;

	for (unsigned i = 0; i < 4; i++) {
		static const char *const bad[] = {"a/b", ".", "..", "x"};

		memset(&e, 0, sizeof(e));
		bkey_init(&e.k);
		e.k.type = KEY_TYPE_dirent;
		e.k.p = SPOS(4096, 77, UINT32_MAX);
		e.d.target = 5000;
		e.d.d_type = S_IFREG >> 12;
		e.d.name_len = strlen(bad[i]);
		memcpy(e.d.name, bad[i], e.d.name_len);
		set_bkey_val_bytes(&e.k, sizeof(e.d) + e.d.name_len);
		cr_assert_eq(!validate(&bkey_ops_dirent, bkey_i_to_s_c(k), BTREE_ID_dirents),
			     i == 3, "%s", bad[i]);
	}
}
