// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The walkers and the validation of extent entries, and the key types of alloc.
 * Method: known good values; every single field of them broken; random bytes in buffers that end
 * exactly where the value ends (for the address sanitizer).
 */
#include "alloc/alloc_private.h"
#include "btree/extent_entries.h"
#include "../test_rand.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct value {
	u64 v[64];
	unsigned nr;
};

static void add_ptr(struct value *x, u64 offset, u8 gen)
{
	struct bcfs_extent_ptr p = {.type = BCFS_EXTENT_ENTRY_ptr, .offset = offset, .gen = gen};

	memcpy(&x->v[x->nr++], &p, 8);
}

static struct bcfs_extent_crc *add_crc(struct value *x, u16 stored, u16 uncompressed, u16 live)
{
	struct bcfs_extent_crc *c = (void *)&x->v[x->nr];

	*c = (struct bcfs_extent_crc){
		.type = BCFS_EXTENT_ENTRY_crc,
		.csum_type = BCFS_CSUM_crc32c,
		.compression = stored < uncompressed ? BCFS_COMPRESSION_zstd : 0,
		.chunk_shift = 5,
		.stored_sectors = stored,
		.uncompressed_sectors = uncompressed,
		.live_offset = live,
		.nr_csums = stored < uncompressed ? 1 : DIV_ROUND_UP(stored, 32),
	};
	c->u64s = extent_crc_u64s(c->csum_type, c->nr_csums, false);
	x->nr += c->u64s;
	return c;
}

static struct bkey_s_c key_of(struct bkey *k, const struct value *x, unsigned type, u32 size)
{
	bkey_init(k);
	k->type = type;
	k->size = size;
	k->p = SPOS(4096, 1000, UINT32_MAX);
	set_bkey_val_u64s(k, x->nr);
	return (struct bkey_s_c){k, (const struct bval *)x->v};
}

static int validate(const struct value *x, u64 size)
{
	return extent_entries_validate((struct extent_entries){x->v, x->v + x->nr}, size, NULL);
}

Test(entries, plain_and_encoded)
{
	struct value x = {0};
	struct extent_ptr_decoded p;
	unsigned nr = 0;
	struct bkey k;

	add_ptr(&x, 1000, 1);
	add_crc(&x, 100, 256, 50);
	add_ptr(&x, 2000, 2);
	add_crc(&x, 128, 128, 10);
	add_ptr(&x, 3000, 3);
	cr_assert_eq(validate(&x, 100), 0);

	for_each_extent_ptr(key_of(&k, &x, KEY_TYPE_extent, 100), 0, it, p)
	{
		switch (nr++) {
		case 0:
			cr_assert(p.ptr.offset == 1000 && !p.crc && p.held_sectors == 100);
			break;
		case 1:
			cr_assert(p.ptr.offset == 2000 && p.crc && p.live_offset == 50);
			cr_assert_eq(p.stored_sectors, 100);
			cr_assert_eq(p.held_sectors, DIV_ROUND_UP(100 * 100, 256));
			break;
		case 2:
			cr_assert(p.ptr.offset == 3000 && p.live_offset == 10);
			cr_assert_eq(p.held_sectors, 100);
			break;
		}
	}
	cr_assert_eq(nr, 3);
}

Test(entries, every_broken_field_is_refused)
{
	struct value good = {0}, x;
	struct bcfs_extent_crc *c = (void *)x.v;

	add_crc(&good, 128, 128, 10);
	add_ptr(&good, 3000, 3);
	cr_assert_eq(validate(&good, 118), 0);
#define BROKEN(stmt)                                                                               \
	do {                                                                                       \
		x = good;                                                                          \
		stmt;                                                                              \
		cr_assert_lt(validate(&x, 118), 0, "%s", #stmt);                                   \
	} while (0)
	BROKEN(c->csum_type = 15);
	BROKEN(c->compression = 9);
	BROKEN(c->chunk_shift = 2);
	BROKEN(c->chunk_shift = 8);
	BROKEN(c->u64s = 1);
	BROKEN(c->u64s = 5);
	BROKEN(c->u64s = 200);
	BROKEN(c->stored_sectors = 0);
	BROKEN(c->stored_sectors = 127);
	BROKEN(c->uncompressed_sectors = 0);
	BROKEN(c->uncompressed_sectors = 129);
	BROKEN(c->live_offset = 11);
	BROKEN(c->key_gen = 1);
	BROKEN(c->nr_csums = 3);
	BROKEN(x.v[x.nr - 1] &= 7); /* a pointer to nowhere */
	BROKEN(x.nr--);		    /* no pointer */
	BROKEN(x.v[0] = 0);
	cr_assert_lt(validate(&good, 119), 0);
	/* An entry from the future ends the walk and is no error. */
	x = good;
	x.v[x.nr++] = 7;
	cr_assert_eq(validate(&x, 118), 0);
}

Test(entries, random_bytes_never_overrun)
{
	u64 seed = trand_seed(0x5eed1), r = seed;

	for (unsigned i = 0; i < 200000; i++) {
		unsigned nr = trand_below(&r, 24);
		u64 *buf = malloc(nr * 8 + !nr);
		struct extent_ptr_decoded p;
		struct bkey k;
		struct bkey_s_c kc;
		CLEANUP(printbuf_exit) struct printbuf out = PRINTBUF;

		for (unsigned j = 0; j < nr; j++) {
			buf[j] = trand_u64(&r);
			if (trand_below(&r, 2))
				buf[j] = (buf[j] & ~7ULL & ~(0xffULL << 24)) | trand_below(&r, 5) |
					 trand_below(&r, 8) << 24;
		}
		bkey_init(&k);
		k.type = trand_below(&r, 2) ? KEY_TYPE_extent : KEY_TYPE_reflink_v;
		k.size = trand_below(&r, 600);
		k.u64s = BKEY_U64s + nr;
		kc = (struct bkey_s_c){&k, (const struct bval *)buf};
		for_each_extent_ptr(kc, 8, it, p)
			cr_assert(it.e == NULL || (const u64 *)it.e < buf + nr, TEST_SEED_FMT,
				  (unsigned long long)seed);
		extent_entries_validate(bkey_ptrs(kc), k.size, &out);
		extent_entries_to_text(&out, bkey_ptrs(kc));
		free(buf);
	}
}

Test(alloc_keys, validation)
{
	struct value x = {.nr = sizeof(struct bcfs_alloc) / 8};
	struct bcfs_alloc *v = (void *)x.v;
	struct bkey k;
	struct bkey_s_c kc = key_of(&k, &x, KEY_TYPE_alloc, 0);
#define VALID() bkey_ops_alloc.validate(kc, BTREE_ID_alloc, 0, NULL)

	k.p = POS(0, 17);
	cr_assert_lt(VALID(), 0); /* a free bucket has no key */
	v->dirty_sectors = 8;	  /* a free bucket with sectors */
	cr_assert_lt(VALID(), 0);
	v->data_type = BCFS_DATA_user;
	cr_assert_eq(VALID(), 0);
	v->dirty_sectors = 0;
	cr_assert_lt(VALID(), 0);
	v->data_type = BCFS_DATA_NR;
	cr_assert_lt(VALID(), 0);
	v->data_type = BCFS_DATA_need_discard;
	cr_assert_eq(VALID(), 0);
	k.p.inode = 256;
	cr_assert_lt(VALID(), 0);
	k.p.inode = 0;
	k.u64s--;
	cr_assert_lt(VALID(), 0);
}

Test(alloc_keys, btree_ptr_validation)
{
	struct value x = {.nr = sizeof(struct bcfs_btree_ptr) / 8};
	struct bcfs_btree_ptr *v = (void *)x.v;
	struct bkey k;
	struct bkey_s_c kc = key_of(&k, &x, KEY_TYPE_btree_ptr, 0);
#define VALID_PTR() bkey_ops_btree_ptr.validate(kc, BTREE_ID_extents, 1, NULL)

	cr_assert_lt(VALID_PTR(), 0); /* no pointer */
	add_ptr(&x, 4096, 0);
	k.u64s++;
	cr_assert_eq(VALID_PTR(), 0);
	v->min_key = SPOS_MAX;
	cr_assert_lt(VALID_PTR(), 0);
	v->min_key = POS_MIN;
	v->sectors_written = 1 << 20;
	cr_assert_lt(VALID_PTR(), 0);
	v->sectors_written = 0;
	x.v[6] = 7; /* not a pointer */
	cr_assert_lt(VALID_PTR(), 0);
}

/* A bucket that fills up sector by sector moves in the LRU a bounded number of times. */
Test(alloc_keys, fragmentation_is_coarse_and_monotonic)
{
	struct bcfs_alloc v = {.data_type = BCFS_DATA_user};
	u32 last = 0, moves = 0;

	for (v.dirty_sectors = 1; v.dirty_sectors < 4096; v.dirty_sectors++) {
		u32 f = alloc_fragmentation(&v, 4096);

		cr_assert_geq(f, last);
		moves += f != last;
		last = f;
	}
	cr_assert_leq(moves, 8);
	cr_assert_eq(alloc_fragmentation(&v, 4096), 0);
}
