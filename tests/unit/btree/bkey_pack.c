/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Packing of keys.
 *
 * Goal: packing preserves order and loses nothing; lossy positions are the greatest
 * packable ones below; computed formats hold the keys they were computed from.
 * Method: random formats, keys near the borders of each format's fields.
 */
#include "keys_test.h"

#include "../test_rand.h"

#include "util/errcode.h"

#define NR_FORMATS 20000
#define NR_KEYS	   24

static const u8 native[BKEY_NR_FIELDS] = {64, 64, 32, 32, 32};

static u64 field_value(struct rng *r, const struct bkey_format *f, unsigned i, bool must_fit)
{
	u64 mask = low_bits_mask(f->bits_per_field[i]), lo = f->field_offset[i], v;

	switch (rnd_below(r, must_fit ? 4 : 6)) {
	case 0:
		v = lo;
		break;
	case 1:
		v = lo + mask;
		break;
	case 2:
		v = lo + (rnd(r) & mask);
		break;
	case 3:
		v = lo + min(rnd_below(r, 3), mask);
		break;
	case 4:
		v = rnd_percent(r, 50) ? lo - 1 : lo + mask + 1;
		break;
	default:
		v = rnd(r);
		break;
	}
	return v & low_bits_mask(native[i]);
}

static struct bkey rnd_key(struct rng *r, const struct bkey_format *f, bool must_fit)
{
	struct bkey k;

	bkey_init(&k);
	k.type = rnd(r);
	set_bkey_val_u64s(&k, rnd_below(r, 100));
	k.p.inode = field_value(r, f, BKEY_FIELD_INODE, must_fit);
	k.p.offset = field_value(r, f, BKEY_FIELD_OFFSET, must_fit);
	k.p.snapshot = field_value(r, f, BKEY_FIELD_SNAPSHOT, must_fit);
	k.size = field_value(r, f, BKEY_FIELD_SIZE, must_fit);
	k.version = field_value(r, f, BKEY_FIELD_VERSION, must_fit);
	return k;
}

static bool field_fits(const struct bkey_format *f, unsigned i, u64 v)
{
	return v >= f->field_offset[i] &&
	       v - f->field_offset[i] <= low_bits_mask(f->bits_per_field[i]);
}

static bool pos_fits(const struct bkey_format *f, struct bpos p)
{
	return field_fits(f, BKEY_FIELD_INODE, p.inode) &&
	       field_fits(f, BKEY_FIELD_OFFSET, p.offset) &&
	       field_fits(f, BKEY_FIELD_SNAPSHOT, p.snapshot);
}

static bool key_fits(const struct bkey_format *f, const struct bkey *k)
{
	return pos_fits(f, k->p) && field_fits(f, BKEY_FIELD_SIZE, k->size) &&
	       field_fits(f, BKEY_FIELD_VERSION, k->version);
}

static bool key_equal(const struct bkey *l, const struct bkey *r)
{
	return l->u64s == r->u64s && l->format == r->format && l->type == r->type &&
	       l->size == r->size && l->version == r->version && bpos_eq(l->p, r->p);
}

static int bits_differ(const u64 l[3], const u64 r[3])
{
	for (int bit = 191; bit >= 0; bit--)
		if ((l[bit / 64] ^ r[bit / 64]) >> (bit % 64) & 1)
			return bit;
	return -1;
}

/* The position bits of a key, the plain way: bit by bit from its fields. */
static void reference_bits(const struct bkey_format *f, struct bpos p, u64 out[3])
{
	u64 v[3] = {p.inode - f->field_offset[0], p.offset - f->field_offset[1],
		    p.snapshot - f->field_offset[2]};
	int bit = f->bits_per_field[0] + f->bits_per_field[1] + f->bits_per_field[2];

	out[0] = out[1] = out[2] = 0;
	for (unsigned i = 0; i < 3; i++)
		for (int n = f->bits_per_field[i] - 1; n >= 0; n--) {
			bit--;
			out[bit / 64] |= (v[i] >> n & 1) << (bit % 64);
		}
}

static void check_format(struct rng *r, const struct bkey_format *fmt)
{
	struct bkey_format_fast f;
	struct bkey k[NR_KEYS], u;
	u64 packed[NR_KEYS][BKEY_U64s];
	unsigned nr = 0;

	bkey_format_fast_init(&f, fmt);
	for (unsigned i = 0; i < NR_KEYS; i++) {
		struct bkey in = rnd_key(r, fmt, i % 3);
		struct bkey_packed *p = (struct bkey_packed *)packed[nr];
		bool ok = bkey_pack_key(p, &in, &f);

		check(r, ok == key_fits(fmt, &in));
		if (!ok)
			continue;
		check(r, p->format == BKEY_FORMAT_LOCAL && p->type == in.type);
		check(r, bkeyp_val_u64s(&f, p) == bkey_val_u64s(&in));
		u = bkey_unpack_key(&f, p);
		check(r, key_equal(&u, &in), "round trip");
		check(r, bpos_eq(bkey_unpack_pos(&f, p), in.p), "position's round trip");
		k[nr++] = in;
	}
	for (unsigned i = 0; i < nr; i++)
		for (unsigned j = 0; j < nr; j++) {
			const struct bkey_packed *l = (void *)packed[i], *m = (void *)packed[j];
			const struct bkey_packed *ul = (void *)&k[i], *um = (void *)&k[j];
			int want = bpos_cmp(k[i].p, k[j].p);
			u64 lb[3], mb[3];

			check(r, bkey_cmp_packed_bits(&f, l, m) == want, "order");
			check(r, bkey_cmp_packed(&f, l, m) == want);
			check(r, bkey_cmp_packed(&f, ul, m) == want);
			check(r, bkey_cmp_packed(&f, l, um) == want);
			check(r, bkey_cmp_packed(&f, ul, um) == want);
			check(r, bkey_cmp_left_packed(&f, l, k[j].p) == want);
			reference_bits(fmt, k[i].p, lb);
			reference_bits(fmt, k[j].p, mb);
			check(r, bkey_greatest_differing_bit(&f, l, m) == bits_differ(lb, mb));
		}
}

Test(bkey_pack, order_and_round_trip)
{
	struct rng r = rng_new(1);

	check_format(&r, &bkey_format_current);
	for (unsigned i = 0; i < trand_rounds(NR_FORMATS); i++) {
		struct bkey_format f = rnd_format(&r);
		struct printbuf err = PRINTBUF;

		check(&r, !bkey_format_validate(&f, &err), "%s", printbuf_str(&err));
		check_format(&r, &f);
	}
}

/* The least and the greatest position of a format. */
static struct bpos format_min(const struct bkey_format *f)
{
	return SPOS(f->field_offset[0], f->field_offset[1], f->field_offset[2]);
}

static struct bpos format_max(const struct bkey_format *f)
{
	return SPOS(f->field_offset[0] + low_bits_mask(f->bits_per_field[0]),
		    f->field_offset[1] + low_bits_mask(f->bits_per_field[1]),
		    f->field_offset[2] + low_bits_mask(f->bits_per_field[2]));
}

/* The packable position behind @p, a packable one that is not the greatest. */
static struct bpos format_next(const struct bkey_format *f, struct bpos p)
{
	struct bpos first = format_min(f), last = format_max(f);

	if (p.snapshot != last.snapshot) {
		p.snapshot++;
		return p;
	}
	p.snapshot = first.snapshot;
	if (p.offset != last.offset) {
		p.offset++;
		return p;
	}
	p.offset = first.offset;
	p.inode++;
	return p;
}

Test(bkey_pack, lossy_positions)
{
	struct rng r = rng_new(2);

	for (unsigned i = 0; i < trand_rounds(NR_FORMATS * 10); i++) {
		struct bkey_format fmt = rnd_format(&r);
		struct bpos in = rnd_key(&r, &fmt, i % 2).p, out;
		struct bkey_format_fast f;
		u64 packed[BKEY_U64s];
		enum bkey_pack_pos_ret ret;

		bkey_format_fast_init(&f, &fmt);
		ret = bkey_pack_pos_lossy((struct bkey_packed *)packed, in, &f);
		if (ret == BKEY_PACK_POS_FAIL) {
			check(&r, bpos_lt(in, format_min(&fmt)));
			continue;
		}
		out = bkey_unpack_pos(&f, (struct bkey_packed *)packed);
		check(&r, (ret == BKEY_PACK_POS_EXACT) == pos_fits(&fmt, in));
		check(&r, pos_fits(&fmt, out));
		if (ret == BKEY_PACK_POS_EXACT) {
			check(&r, bpos_eq(in, out));
			continue;
		}
		check(&r, bpos_lt(out, in));
		check(&r, bpos_eq(out, format_max(&fmt)) || bpos_gt(format_next(&fmt, out), in),
		      "not the greatest");
	}
}

Test(bkey_pack, computed_formats)
{
	struct rng r = rng_new(3);

	for (unsigned n = 0; n < trand_rounds(5000); n++) {
		struct bkey_format shape = rnd_format(&r), f;
		unsigned nr = rnd_below(&r, 30), least = BKEY_PACKED_HEADER_BITS;
		struct bkey_format_state s;
		struct bkey_format_fast fast;
		struct printbuf err = PRINTBUF;
		struct bkey k[30];

		bkey_format_state_init(&s);
		for (unsigned i = 0; i < nr; i++) {
			k[i] = rnd_key(&r, &shape, true);
			bkey_format_add_key(&s, &k[i]);
		}
		f = bkey_format_done(&s);
		check(&r, !bkey_format_validate(&f, &err), "%s", printbuf_str(&err));
		bkey_format_fast_init(&fast, &f);
		for (unsigned i = 0; i < nr; i++) {
			u64 packed[BKEY_U64s];
			struct bkey white;

			check(&r, bkey_pack_key((struct bkey_packed *)packed, &k[i], &fast));
			bkey_init(&white);
			white.p = k[i].p;
			check(&r, bkey_pack_key((struct bkey_packed *)packed, &white, &fast),
			      "a whiteout does not pack");
		}
		/* no wider than need be */
		for (unsigned i = 0; i < BKEY_NR_FIELDS && nr; i++)
			least += fls64(s.field_max[i] - (i < BKEY_FIELD_SIZE ? s.field_min[i] : 0));
		check(&r, f.key_u64s == DIV_ROUND_UP(least, 64));
	}
}

/* What real btrees look like. */
Test(bkey_pack, real_shapes)
{
	struct bkey_format_state s;
	struct bkey_format_fast fast;
	struct bkey_format f;
	u64 packed[BKEY_U64s];
	struct bkey k;

	/* a node of extents: one word, and the file may double */
	bkey_format_state_init(&s);
	bkey_init(&k);
	for (unsigned i = 1; i < 5000; i++) {
		k.p = SPOS(4096 + i / 1000, (i % 1000) * 256, UINT32_MAX);
		k.size = 256;
		bkey_format_add_key(&s, &k);
	}
	f = bkey_format_done(&s);
	cr_assert_eq(f.key_u64s, 1);
	bkey_format_fast_init(&fast, &f);
	k.p = SPOS(4101, 2 * 1000 * 256, UINT32_MAX);
	k.size = 128;
	cr_assert(bkey_pack_key((struct bkey_packed *)packed, &k, &fast));

	/* dirents: any hash of a directory fits */
	bkey_format_state_init(&s);
	bkey_init(&k);
	for (unsigned i = 0; i < 100; i++) {
		k.p = SPOS(4096 + i, (u64)i << 56, UINT32_MAX);
		bkey_format_add_key(&s, &k);
	}
	f = bkey_format_done(&s);
	cr_assert_eq(f.key_u64s, 2);
	bkey_format_fast_init(&fast, &f);
	k.p = SPOS(4096 + 50, INT64_MAX, UINT32_MAX);
	cr_assert(bkey_pack_key((struct bkey_packed *)packed, &k, &fast));

	/* nothing at all */
	bkey_format_state_init(&s);
	f = bkey_format_done(&s);
	cr_assert_eq(f.key_u64s, 1);
}

Test(bkey_pack, bad_formats)
{
	struct rng r = rng_new(4);
	struct bkey_format good, f;
	struct printbuf err = PRINTBUF;

	cr_assert_eq(bkey_format_validate(&bkey_format_current, &err), 0);
	good = bkey_format_current;
	good.bits_per_field[BKEY_FIELD_INODE] = 20;

#define expect_bad(change)                                                                         \
	do {                                                                                       \
		f = good;                                                                          \
		change;                                                                            \
		cr_assert_eq(bkey_format_validate(&f, &err), -BCFS_ERR_bkey_format_invalid);       \
		cr_assert_gt(err.pos, 0);                                                          \
		printbuf_reset(&err);                                                              \
	} while (0)

	expect_bad(f.key_u64s = 0);
	expect_bad(f.key_u64s = 5);
	expect_bad(f.key_u64s = 3);
	expect_bad(f.nr_fields = 6);
	expect_bad(f.bits_per_field[BKEY_FIELD_SIZE] = 33);
	expect_bad(f.bits_per_field[5] = 1);
	expect_bad(f.field_offset[5] = 1);
	expect_bad(f.field_offset[BKEY_FIELD_OFFSET] = 1);
	expect_bad(f.field_offset[BKEY_FIELD_INODE] = -(1ULL << 20) + 1);
	good.field_offset[BKEY_FIELD_INODE] = -(1ULL << 20);
	cr_assert_eq(bkey_format_validate(&good, &err), 0);

	/* anything else: either refused, or it works */
	for (unsigned i = 0; i < trand_rounds(200000); i++) {
		f = (struct bkey_format){0};
		f.key_u64s = 1 + rnd_below(&r, 5);
		f.nr_fields = 5;
		for (unsigned n = 0; n < BKEY_NR_FIELDS; n++) {
			f.bits_per_field[n] = rnd_bits(&r, 6);
			f.field_offset[n] = rnd_percent(&r, 50) ? 0 : rnd_bits(&r, 64);
		}
		if (!bkey_format_validate(&f, &err))
			check_format(&r, &f);
	}
	printbuf_exit(&err);
}

Test(bkey_pack, neighbours)
{
	struct rng r = rng_new(5);

	for (unsigned i = 0; i < trand_rounds(100000); i++) {
		struct bpos p = rnd_pos(&r, rnd_below(&r, UNIVERSE_NR)), n;

		if (rnd_percent(&r, 20))
			p.snapshot = rnd_percent(&r, 50) ? 0 : UINT32_MAX;
		if (rnd_percent(&r, 20))
			p.offset = rnd_percent(&r, 50) ? 0 : UINT64_MAX;
		if (!bpos_eq(p, SPOS_MAX)) {
			n = bpos_successor(p);
			check(&r, bpos_gt(n, p) && bpos_eq(bpos_predecessor(n), p));
		}
		if (!bpos_eq(p, POS_MIN)) {
			n = bpos_predecessor(p);
			check(&r, bpos_lt(n, p) && bpos_eq(bpos_successor(n), p));
		}
		if (p.inode != UINT64_MAX) {
			n = bpos_nosnap_successor(p);
			check(&r, bkey_cmp_pos(n, p) > 0 && !n.snapshot);
		}
	}
}
