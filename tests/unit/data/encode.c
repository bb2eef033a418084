// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Encodings and the keys that carry them, without a device.
 * Goal: whatever was trimmed off a key, the range that must be read verifies, holds the right
 * bytes, and a flipped bit is found in exactly its chunk; no value from a hostile disk makes
 * validation, trimming, printing or the choice of what to read go out of bounds (run it under
 * ASan).
 * Method: random trims against an array of bytes; random and slightly damaged values in buffers of
 * their exact size.
 */
#include "../test_rand.h"
#include "data/data_private.h"
#include "util/printbuf.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct bkey_ops_table table = {
	.ops =
		{
			[KEY_TYPE_extent] = &bkey_ops_extent,
			[KEY_TYPE_reservation] = &bkey_ops_reservation,
			[KEY_TYPE_error] = &bkey_ops_error_key,
			[KEY_TYPE_inline_data] = &bkey_ops_inline_data,
		},
};

static struct data_fs make_fs(unsigned csum_type, unsigned chunk_shift, u32 block_sectors)
{
	return (struct data_fs){
		.opts = {.block_bytes = block_sectors * SECTOR_BYTES,
			 .csum_type = csum_type,
			 .chunk_shift = chunk_shift},
		.block_sectors = block_sectors,
		.device_block_sectors = 1,
	};
}

#define MAX_BYTES ((size_t)BCFS_EXTENT_MAX_SECTORS * SECTOR_BYTES)

struct roundtrip {
	u64 seed, r;
	struct data_fs d;
	u64 start;   /* of the extent in the file, sectors */
	u64 place;   /* on the device */
	u32 sectors; /* written */
	u8 *device;  /* what was written at place */
	union data_key key;
};

static void check_valid(struct roundtrip *t, const struct bkey_i *k)
{
	struct printbuf err = PRINTBUF;
	int ret = bkey_validate(&table, bkey_i_to_s_c(k), BTREE_ID_extents, 0, &err);

	cr_assert_eq(ret, 0, "%s, " TEST_SEED_FMT, printbuf_str(&err), (unsigned long long)t->seed);
	printbuf_exit(&err);
}

/* Read [from, to) sectors of the file through the key @k; flip a bit, perhaps. */
static void check_read(struct roundtrip *t, const struct bkey_i *k, u64 from, u64 to, bool flip)
{
	struct extent_ptr_decoded p;
	struct extent_ptr_iter it = extent_ptr_iter_init(bkey_i_to_s_c(k));
	u32 s, e, good, bad, want, flipped = 0;
	u8 *buf;
	int ret;

	cr_assert(extent_ptr_next(bkey_i_to_s_c(k), 0, &it, &p));
	want = p.live_offset + (from - bkey_start_offset(&k->k));
	s = want;
	e = want + (to - from);
	extent_read_range(&t->d, &p, &s, &e);
	cr_assert_leq(s, want);
	cr_assert_geq(e, want + (to - from));
	cr_assert_leq(e, p.stored_sectors);
	cr_assert(p.ptr.offset + s >= t->place && p.ptr.offset + e <= t->place + t->sectors);

	buf = malloc((e - s) * SECTOR_BYTES);
	memcpy(buf, t->device + (p.ptr.offset + s - t->place) * SECTOR_BYTES,
	       (e - s) * SECTOR_BYTES);
	if (flip) {
		flipped = trand_below(&t->r, (e - s) * SECTOR_BYTES);
		buf[flipped] ^= 1 << trand_below(&t->r, 8);
	}
	ret = extent_open(&t->d, p.crc, s, buf, e - s, &good, &bad);
	if (flip && t->d.opts.csum_type) {
		cr_assert_eq(ret, -BCFS_ERR_data_csum);
		cr_assert(flipped / SECTOR_BYTES >= good && flipped / SECTOR_BYTES < good + bad);
		cr_assert_leq(bad, 1U << t->d.opts.chunk_shift);
	} else {
		cr_assert_eq(ret, 0, TEST_SEED_FMT, (unsigned long long)t->seed);
		cr_assert_eq(good, e - s);
	}
	if (!flip)
		cr_assert_eq(memcmp(buf + (want - s) * SECTOR_BYTES,
				    t->device + (from - t->start) * SECTOR_BYTES,
				    (to - from) * SECTOR_BYTES),
			     0, TEST_SEED_FMT, (unsigned long long)t->seed);
	free(buf);
}

static void trim_randomly(struct roundtrip *t)
{
	struct bkey_i *k = &t->key.k;

	while (1) {
		u64 start = bkey_start_offset(&k->k), end = k->k.p.offset;
		u64 from, to;

		check_valid(t, k);
		for (unsigned i = 0; i < 3; i++) {
			from = start + trand_below(&t->r, end - start);
			to = from + 1 + trand_below(&t->r, end - from);
			check_read(t, k, from, to, trand_below(&t->r, 3) == 0);
		}
		if (end - start == 1)
			break;
		from = start + 1 + trand_below(&t->r, end - start - 1);
		if (trand_below(&t->r, 2))
			bkey_cut_front(&table, from, k);
		else
			bkey_cut_back(&table, from, k);
	}
}

Test(encode, trims)
{
	static const u8 types[] = {BCFS_CSUM_none, BCFS_CSUM_crc32c, BCFS_CSUM_crc64,
				   BCFS_CSUM_xxh3};
	struct roundtrip t = {.seed = trand_seed(0xda7a1)};

	t.r = t.seed;
	t.device = malloc(MAX_BYTES);
	for (unsigned i = 0; i < 2000; i++) {
		unsigned shift = BCFS_CHUNK_SHIFT_MIN +
				 trand_below(&t.r, BCFS_CHUNK_SHIFT_MAX - BCFS_CHUNK_SHIFT_MIN + 1);
		struct bcfs_extent_ptr ptr;

		t.d = make_fs(types[trand_below(&t.r, ARRAY_SIZE(types))], shift, 1);
		t.sectors = 1 + trand_below(&t.r, trand_below(&t.r, 2) ? 512 : 40);
		t.start = trand_log_u64(&t.r) >> 12;
		t.place = 1 + (trand_u64(&t.r) >> 24);
		for (size_t b = 0; b < (size_t)t.sectors * SECTOR_BYTES; b += 8) {
			u64 v = trand_u64(&t.r);

			memcpy(t.device + b, &v, 8);
		}
		ptr = (struct bcfs_extent_ptr){.offset = t.place, .gen = trand_below(&t.r, 256)};
		cr_assert_eq(extent_encode(&t.d, SPOS(1, t.start + t.sectors, UINT32_MAX), &ptr,
					   &(struct extent_form){.data = t.device,
								 .stored_sectors = t.sectors,
								 .sectors = t.sectors},
					   &t.key),
			     0);
		trim_randomly(&t);
	}
	free(t.device);
}

Test(encode, inline_data_is_cut_as_bytes)
{
	u64 seed = trand_seed(0xda7a2), r = seed;

	for (unsigned i = 0; i < 2000; i++) {
		unsigned bytes = 8 * trand_below(&r, BKEY_VAL_U64s_MAX + 1);
		u32 size = max(DIV_ROUND_UP(bytes, SECTOR_BYTES), 1U) + trand_below(&r, 4);
		u8 want[8 * BKEY_VAL_U64s_MAX + SECTOR_BYTES] = {0};
		union data_key key;
		u32 front = trand_below(&r, size), left = 1 + trand_below(&r, size - front);

		bkey_init(&key.k.k);
		key.k.k.type = KEY_TYPE_inline_data;
		key.k.k.p = SPOS(1, 100 + size, 5);
		key.k.k.size = size;
		set_bkey_val_bytes(&key.k.k, bytes);
		for (unsigned b = 0; b < bytes; b++)
			want[b] = ((u8 *)key.k.v)[b] = trand_u64(&r);

		bkey_cut_front(&table, 100 + front, &key.k);
		bkey_cut_back(&table, 100 + front + left, &key.k);
		struct bkey_s_c k = bkey_i_to_s_c(&key.k);
		struct printbuf err = PRINTBUF;
		cr_assert_eq(bkey_validate(&table, k, BTREE_ID_extents, 0, &err), 0, "%s",
			     printbuf_str(&err));
		printbuf_exit(&err);
		cr_assert_eq(bkey_start_offset(k.k), 100 + front);
		for (u64 b = 0; b < (u64)left * SECTOR_BYTES; b++) {
			u64 at = (u64)front * SECTOR_BYTES + b;
			u8 w = at < sizeof(want) ? want[at] : 0;
			u8 h = b < bkey_val_bytes(k.k) ? ((const u8 *)k.v)[b] : 0;

			cr_assert_eq(w, h, TEST_SEED_FMT, (unsigned long long)seed);
		}
	}
}

Test(encode, inline_data_longer_than_its_key_is_refused)
{
	for (u32 size = 1; size <= 3; size++) {
		for (unsigned u64s = 0; u64s <= BKEY_VAL_U64s_MAX; u64s++) {
			struct printbuf err = PRINTBUF;
			union data_key key;
			int ret;

			memset(&key, 0, sizeof(key));
			bkey_init(&key.k.k);
			key.k.k.type = KEY_TYPE_inline_data;
			key.k.k.p = SPOS(1, 8, 5);
			key.k.k.size = size;
			set_bkey_val_u64s(&key.k.k, u64s);
			ret = bkey_validate(&table, bkey_i_to_s_c(&key.k), BTREE_ID_extents, 0,
					    &err);
			cr_assert_eq(ret, u64s * 8 > size * SECTOR_BYTES
						  ? -BCFS_ERR_inline_data_invalid
						  : 0);
			printbuf_exit(&err);
		}
	}
}

/* ---- hostile values ---- */

/* All that is done with a key that validates. */
static void use_key(u64 *r, const struct bkey_i *src)
{
	struct data_fs d = make_fs(BCFS_CSUM_crc32c, 3, 1);
	struct bkey_i *k = malloc(bkey_bytes(&src->k));
	struct printbuf out = PRINTBUF;
	struct extent_ptr_decoded p;
	u64 start, end;

	memcpy(k, src, bkey_bytes(&src->k));
	bkey_val_to_text(&table, &out, bkey_i_to_s_c(k));
	start = bkey_start_offset(&k->k);
	end = k->k.p.offset;
	if (end - start > 1) {
		bkey_cut_front(&table, start + trand_below(r, end - start), k);
		start = bkey_start_offset(&k->k);
		bkey_cut_back(&table, start + 1 + trand_below(r, end - start), k);
		printbuf_reset(&out);
		cr_assert_eq(bkey_validate(&table, bkey_i_to_s_c(k), BTREE_ID_extents, 0, &out), 0,
			     "trimmed: %s", printbuf_str(&out));
	}
	for_each_extent_ptr(bkey_i_to_s_c(k), 0, it, p)
	{
		u32 s = p.live_offset, e = s + min(k->k.size, BCFS_EXTENT_MAX_SECTORS), good, bad;
		u8 *buf;

		if (extent_readable(&d, p.crc))
			continue;
		extent_read_range(&d, &p, &s, &e);
		cr_assert_lt(s, e);
		buf = calloc(e - s, SECTOR_BYTES);
		extent_open(&d, p.crc, s, buf, e - s, &good, &bad);
		cr_assert_leq(good + bad, e - s);
		free(buf);
	}
	free(k);
	printbuf_exit(&out);
}

static unsigned try_key(u64 *r, const struct bkey_i *k)
{
	struct printbuf err = PRINTBUF;
	int ret = bkey_validate(&table, bkey_i_to_s_c(k), BTREE_ID_extents, 0, &err);

	if (!ret)
		use_key(r, k);
	else
		cr_assert(err.pos, "%s without a reason", err_name(ret));
	printbuf_exit(&err);
	return !ret;
}

static void random_header(u64 *r, struct bkey *k, unsigned val_u64s)
{
	static const u8 types[] = {KEY_TYPE_extent,	 KEY_TYPE_extent, KEY_TYPE_extent,
				   KEY_TYPE_reservation, KEY_TYPE_error,  KEY_TYPE_inline_data};

	bkey_init(k);
	k->type = types[trand_below(r, ARRAY_SIZE(types))];
	k->p = SPOS(trand_below(r, 3), trand_log_u64(r) >> 9, UINT32_MAX);
	k->size = trand_below(r, 3) ? trand_below(r, 600) : trand_log_u64(r);
	set_bkey_val_u64s(k, val_u64s);
}

Test(encode, random_values)
{
	u64 seed = trand_seed(0xda7a3), r = seed;
	unsigned valid = 0;

	for (unsigned i = 0; i < 300000; i++) {
		unsigned u64s = trand_below(&r, trand_below(&r, 2) ? 6 : BKEY_VAL_U64s_MAX + 1);
		struct bkey_i *k = malloc(sizeof(*k) + u64s * 8);

		random_header(&r, &k->k, u64s);
		for (unsigned w = 0; w < u64s; w++)
			k->v[w] = trand_log_u64(&r);
		valid += try_key(&r, k);
		free(k);
	}
	cr_assert_gt(valid, 1000);
}

Test(encode, damaged_values)
{
	u64 seed = trand_seed(0xda7a4), r = seed;
	u8 *data = calloc(1, MAX_BYTES);
	unsigned valid = 0, nr = 200000;

	for (unsigned i = 0; i < nr; i++) {
		struct data_fs d = make_fs(trand_below(&r, 4), 3 + trand_below(&r, 3), 1);
		u32 sectors = 1 + trand_below(&r, 64);
		struct bcfs_extent_ptr ptr = {.offset = 1 + trand_below(&r, 1 << 20)};
		struct bkey_i *k;
		union data_key key;

		struct extent_form form = {
			.data = data, .stored_sectors = sectors, .sectors = sectors};
		if (sectors > 1 && trand_below(&r, 2)) {
			form.stored_sectors = 1 + trand_below(&r, sectors - 1);
			form.compression = BCFS_COMPRESSION_zstd + trand_below(&r, 2);
		}
		extent_encode(&d, SPOS(1, sectors + trand_below(&r, 1 << 20), 7), &ptr, &form,
			      &key);
		k = malloc(bkey_bytes(&key.k.k));
		memcpy(k, &key, bkey_bytes(&key.k.k));
		for (unsigned n = trand_below(&r, 3); n; n--) {
			unsigned bit = trand_below(&r, bkey_val_bytes(&k->k) * 8);

			((u8 *)k->v)[bit / 8] ^= 1 << bit % 8;
		}
		if (!trand_below(&r, 4))
			set_bkey_val_u64s(&k->k, trand_below(&r, bkey_val_u64s(&k->k) + 1));
		valid += try_key(&r, k);
		free(k);
	}
	cr_assert(valid > nr / 10 && valid < nr);
	free(data);
}

Test(encode, wrong_btree_or_level)
{
	struct data_fs d = make_fs(BCFS_CSUM_crc32c, 3, 1);
	struct bcfs_extent_ptr ptr = {.offset = 8};
	u8 data[8 * SECTOR_BYTES] = {0};
	struct printbuf err = PRINTBUF;
	union data_key key;

	extent_encode(&d, SPOS(1, 8, 7), &ptr,
		      &(struct extent_form){.data = data, .stored_sectors = 8, .sectors = 8}, &key);
	cr_assert_eq(bkey_validate(&table, bkey_i_to_s_c(&key.k), BTREE_ID_extents, 0, &err), 0);
	cr_assert_neq(bkey_validate(&table, bkey_i_to_s_c(&key.k), BTREE_ID_inodes, 0, &err), 0);
	cr_assert_neq(bkey_validate(&table, bkey_i_to_s_c(&key.k), BTREE_ID_extents, 1, &err), 0);
	printbuf_exit(&err);
}

Test(encode, reservations_merge)
{
	union data_key l, r;

	for (unsigned i = 0; i < 2; i++) {
		union data_key *k = i ? &r : &l;

		memset(k, 0, sizeof(*k));
		bkey_init(&k->k.k);
		k->k.k.type = KEY_TYPE_reservation;
		k->k.k.p = SPOS(1, i ? 30 : 20, 7);
		k->k.k.size = 10;
		set_bkey_val_bytes(&k->k.k, sizeof(struct bcfs_reservation));
		((struct bcfs_reservation *)k->k.v)->nr_replicas = 1;
	}
	cr_assert(bkey_ops_reservation.merge(&l.k, bkey_i_to_s_c(&r.k)));
	cr_assert_eq(l.k.k.size, 20);
	cr_assert_eq(l.k.k.p.offset, 30);
	((struct bcfs_reservation *)r.k.v)->nr_replicas = 2;
	cr_assert_not(bkey_ops_reservation.merge(&l.k, bkey_i_to_s_c(&r.k)));
}
