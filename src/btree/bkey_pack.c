/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Packed keys: formats, packing, unpacking, comparing.
 *
 * A packed key is key_u64s words; the fields lie from the top bit of the last
 * word downwards in the order of enum bkey_fields, the 24 bits of the header at
 * the bottom of the first word. So the position is one big integer at the top,
 * and comparing positions is comparing words from the top, the last of them
 * without the bits that belong to size and version.
 */
#include "btree/bkey.h"

#include "util/bits.h"
#include "util/errcode.h"
#include "util/printbuf.h"

#include <string.h>

#define HASH_BITS 63 /* of dirents' and xattrs' offsets */

static const u8 native_bits[BKEY_NR_FIELDS] = {64, 64, 32, 32, 32};

const struct bkey_format bkey_format_current = {
	.key_u64s = BKEY_U64s,
	.nr_fields = BKEY_NR_FIELDS,
	.bits_per_field = {64, 64, 32, 32, 32},
};

static inline u64 load8(const void *p)
{
	u64 v;

	memcpy(&v, p, 8);
	return v;
}

void bkey_format_fast_init(struct bkey_format_fast *dst, const struct bkey_format *f)
{
	unsigned hi = f->key_u64s * 64;

	*dst = (struct bkey_format_fast){.f = *f};
	for (unsigned i = 0; i < BKEY_NR_FIELDS; i++) {
		unsigned bits = f->bits_per_field[i];
		unsigned lo = hi - bits;
		unsigned byte = hi <= 64 ? 0 : DIV_ROUND_UP(hi, 8) - 8;

		dst->field_lo[i] = bits ? lo : 0;
		dst->mask[i] = low_bits_mask(bits);
		dst->load_byte[i] = byte;
		if (!bits) {
			dst->load_byte[i] = 0;
		} else if (lo >= byte * 8) {
			dst->shift[i] = lo - byte * 8;
		} else {
			dst->shift[i] = byte * 8 - lo;
			dst->wide |= 1U << i;
		}
		if (i <= BKEY_FIELD_SNAPSHOT)
			dst->nr_key_bits += bits;
		hi = lo;
	}
	dst->cmp_words = DIV_ROUND_UP(dst->nr_key_bits, 64);
	dst->pos_shift = dst->cmp_words * 64 - dst->nr_key_bits;
}

/* Formats */

void bkey_format_state_init(struct bkey_format_state *s)
{
	for (unsigned i = 0; i < BKEY_NR_FIELDS; i++) {
		s->field_min[i] = UINT64_MAX;
		s->field_max[i] = 0;
	}
}

static void format_add(struct bkey_format_state *s, unsigned i, u64 v)
{
	s->field_min[i] = min(s->field_min[i], v);
	s->field_max[i] = max(s->field_max[i], v);
}

void bkey_format_add_pos(struct bkey_format_state *s, struct bpos p)
{
	format_add(s, BKEY_FIELD_INODE, p.inode);
	format_add(s, BKEY_FIELD_OFFSET, p.offset);
	format_add(s, BKEY_FIELD_SNAPSHOT, p.snapshot);
}

void bkey_format_add_key(struct bkey_format_state *s, const struct bkey *k)
{
	bkey_format_add_pos(s, k->p);
	format_add(s, BKEY_FIELD_SIZE, k->size);
	format_add(s, BKEY_FIELD_VERSION, k->version);
}

/*
 * Bits left over in the last word. The offset and, where it varies, the size may grow
 * fourfold; more would only push the fields above further away from those below, and an
 * aux tree's mantissa, 16 bits, should reach from one to the other. For the same reason offsets
 * that are hashes, of 63 bits, get no 64th. The rest goes to the top of the inode, and where that
 * is full to whatever has room.
 */
static void format_spread(struct bkey_format *f, unsigned spare)
{
	static const struct {
		u8 field, bits;
	} wants[] = {
		{BKEY_FIELD_OFFSET, 2},	  {BKEY_FIELD_SIZE, 2},	 {BKEY_FIELD_INODE, 64},
		{BKEY_FIELD_OFFSET, 64},  {BKEY_FIELD_SIZE, 32}, {BKEY_FIELD_SNAPSHOT, 32},
		{BKEY_FIELD_VERSION, 32},
	};

	for (unsigned n = 0; n < ARRAY_SIZE(wants); n++) {
		unsigned i = wants[n].field;
		unsigned more = min(native_bits[i] - f->bits_per_field[i], (int)wants[n].bits);

		if (n == 0 && f->bits_per_field[i] > HASH_BITS - 2)
			more = HASH_BITS > f->bits_per_field[i] ? HASH_BITS - f->bits_per_field[i]
								: 0;
		if (n == 1 && !f->bits_per_field[i])
			continue;
		more = min(more, spare);
		f->bits_per_field[i] += more;
		spare -= more;
	}
}

struct bkey_format bkey_format_done(const struct bkey_format_state *s)
{
	struct bkey_format f = {.nr_fields = BKEY_NR_FIELDS};
	unsigned bits = BKEY_PACKED_HEADER_BITS;

	for (unsigned i = 0; i < BKEY_NR_FIELDS; i++) {
		u64 lo = s->field_min[i];

		/* an empty range; and a whiteout has neither size nor version */
		if (lo > s->field_max[i] || i >= BKEY_FIELD_SIZE)
			lo = 0;
		f.field_offset[i] = lo;
		f.bits_per_field[i] = fls64(s->field_max[i] - lo);
		bits += f.bits_per_field[i];
	}

	f.key_u64s = DIV_ROUND_UP(bits, 64);
	if (f.key_u64s >= BKEY_U64s)
		return bkey_format_current;

	format_spread(&f, f.key_u64s * 64 - bits);

	for (unsigned i = 0; i < BKEY_NR_FIELDS; i++) {
		u64 mask = low_bits_mask(f.bits_per_field[i]);
		u64 last = low_bits_mask(native_bits[i]) - mask; /* greatest legal offset */

		/* from zero, if that still leaves room to double; hashes always */
		if (f.bits_per_field[i] > fls64(s->field_max[i]) ||
		    (i == BKEY_FIELD_OFFSET && f.bits_per_field[i] == HASH_BITS &&
		     fls64(s->field_max[i]) == HASH_BITS))
			f.field_offset[i] = 0;
		f.field_offset[i] = min(f.field_offset[i], last);
	}
	return f;
}

int bkey_format_validate(const struct bkey_format *f, struct printbuf *err)
{
	unsigned bits = BKEY_PACKED_HEADER_BITS;

	if (f->nr_fields != BKEY_NR_FIELDS) {
		prt_printf(err, "%u fields, expected %u", f->nr_fields, BKEY_NR_FIELDS);
		return -BCFS_ERR_bkey_format_invalid;
	}
	if (!f->key_u64s || f->key_u64s > BKEY_U64s) {
		prt_printf(err, "keys of %u u64s", f->key_u64s);
		return -BCFS_ERR_bkey_format_invalid;
	}
	for (unsigned i = 0; i < BKEY_NR_FIELDS; i++) {
		unsigned n = f->bits_per_field[i];

		if (n > native_bits[i]) {
			prt_printf(err, "field %u has %u bits, at most %u", i, n, native_bits[i]);
			return -BCFS_ERR_bkey_format_invalid;
		}
		if (f->field_offset[i] > low_bits_mask(native_bits[i]) - low_bits_mask(n)) {
			prt_printf(err, "field %u overflows", i);
			return -BCFS_ERR_bkey_format_invalid;
		}
		bits += n;
	}
	if (f->bits_per_field[BKEY_NR_FIELDS] || f->field_offset[BKEY_NR_FIELDS]) {
		prt_printf(err, "reserved field in use");
		return -BCFS_ERR_bkey_format_invalid;
	}
	if (bits > f->key_u64s * 64U) {
		prt_printf(err, "%u bits in keys of %u u64s", bits, f->key_u64s);
		return -BCFS_ERR_bkey_format_invalid;
	}
	return 0;
}

void bkey_format_to_text(struct printbuf *out, const struct bkey_format *f)
{
	static const char *const names[] = {"inode", "offset", "snapshot", "size", "version"};

	prt_printf(out, "u64s %u", f->key_u64s);
	for (unsigned i = 0; i < BKEY_NR_FIELDS; i++)
		prt_printf(out, " %s %u:%llu", names[i], f->bits_per_field[i],
			   (unsigned long long)f->field_offset[i]);
}

/* Packing */

/*
 * Add a value to a key under construction. @w has a word more than the key, so that
 * the part that spills into the next word needs no branch.
 */
static inline void put_field(u64 *w, const struct bkey_format_fast *f, unsigned i, u64 v)
{
	unsigned lo = f->field_lo[i];

	w[lo / 64] |= v << (lo % 64);
	w[lo / 64 + 1] |= v >> 1 >> (63 - lo % 64);
}

/* @nr is 1 .. BKEY_U64s: not worth a call to memcpy. */
static inline void copy_words(void *dst, const u64 *w, unsigned nr)
{
	u64 *out = dst;

	out[0] = w[0];
	if (nr > 1)
		out[1] = w[1];
	if (unlikely(nr > 2))
		out[2] = w[2];
	if (unlikely(nr > 3))
		out[3] = w[3];
}

bool bkey_pack_key(struct bkey_packed *out, const struct bkey *in, const struct bkey_format_fast *f)
{
	const u64 v[BKEY_NR_FIELDS] = {
		in->p.inode - f->f.field_offset[BKEY_FIELD_INODE],
		in->p.offset - f->f.field_offset[BKEY_FIELD_OFFSET],
		in->p.snapshot - f->f.field_offset[BKEY_FIELD_SNAPSHOT],
		in->size - f->f.field_offset[BKEY_FIELD_SIZE],
		in->version - f->f.field_offset[BKEY_FIELD_VERSION],
	};
	u64 w[BKEY_U64s + 1] = {0};

	/* Below the offset wraps round to more than the mask: offset + mask is in range. */
	for (unsigned i = 0; i < BKEY_NR_FIELDS; i++)
		if (v[i] > f->mask[i])
			return false;

	for (unsigned i = 0; i < BKEY_NR_FIELDS; i++)
		put_field(w, f, i, v[i]);

	w[0] |= (u64)(in->u64s - BKEY_U64s + f->f.key_u64s) | (u64)BKEY_FORMAT_LOCAL << 8 |
		(u64)in->needs_whiteout << 15 | (u64)in->type << 16;
	copy_words(out, w, f->f.key_u64s);
	return true;
}

u64 bkeyp_field_wide(const struct bkey_format_fast *f, const struct bkey_packed *k_, unsigned i)
{
	const u8 *k = (const u8 *)k_;
	u64 v;

	if (!(f->wide & 1U << i))
		return bkeyp_field(f, k_, i);
	v = load8(k + f->load_byte[i]) << f->shift[i];
	v |= k[f->load_byte[i] - 1] >> (8 - f->shift[i]);
	return (v & f->mask[i]) + f->f.field_offset[i];
}

enum bkey_pack_pos_ret bkey_round_pos(u64 v[3], struct bpos in, const struct bkey_format_fast *f)
{
	const u64 *first = f->f.field_offset, *mask = f->mask;
	enum bkey_pack_pos_ret ret = BKEY_PACK_POS_EXACT;
	unsigned i;

	v[0] = in.inode;
	v[1] = in.offset;
	v[2] = in.snapshot;

	/* The first field out of range decides; all behind it become the greatest there is. */
	for (i = 0; i < 3; i++)
		if (v[i] - first[i] > mask[i])
			break;
	if (i < 3) {
		ret = BKEY_PACK_POS_SMALLER;
		if (v[i] < first[i]) {
			/* below: borrow from the field in front */
			do {
				if (!i)
					return BKEY_PACK_POS_FAIL;
				i--;
			} while (v[i] == first[i]);
			v[i++]--;
		}
		for (; i < 3; i++)
			v[i] = first[i] + mask[i];
	}
	for (i = 0; i < 3; i++)
		v[i] -= first[i];
	return ret;
}

enum bkey_pack_pos_ret bkey_pack_pos_lossy(struct bkey_packed *out, struct bpos in,
					   const struct bkey_format_fast *f)
{
	u64 w[BKEY_U64s + 1] = {0}, v[3];
	enum bkey_pack_pos_ret ret = bkey_round_pos(v, in, f);

	if (ret == BKEY_PACK_POS_FAIL)
		return ret;
	for (unsigned i = 0; i < 3; i++)
		put_field(w, f, i, v[i]);
	w[0] |= (u64)f->f.key_u64s | (u64)BKEY_FORMAT_LOCAL << 8;
	copy_words(out, w, f->f.key_u64s);
	return ret;
}

/* Comparing */

int bkey_cmp_packed_bits(const struct bkey_format_fast *f, const struct bkey_packed *l,
			 const struct bkey_packed *r)
{
	const u64 *lw = (const u64 *)l + f->f.key_u64s, *rw = (const u64 *)r + f->f.key_u64s;
	unsigned nr = f->cmp_words;

	if (!nr)
		return 0;
	for (; nr > 1; nr--) {
		lw--, rw--;
		if (*lw != *rw)
			return *lw < *rw ? -1 : 1;
	}
	return cmp_int(lw[-1] >> f->pos_shift, rw[-1] >> f->pos_shift);
}

int bkey_cmp_packed(const struct bkey_format_fast *f, const struct bkey_packed *l,
		    const struct bkey_packed *r)
{
	if (likely(l->format == BKEY_FORMAT_LOCAL && r->format == BKEY_FORMAT_LOCAL))
		return bkey_cmp_packed_bits(f, l, r);
	return bpos_cmp(bkey_unpack_pos(f, l), bkey_unpack_pos(f, r));
}

int bkey_cmp_left_packed(const struct bkey_format_fast *f, const struct bkey_packed *l,
			 struct bpos r)
{
	return bpos_cmp(bkey_unpack_pos(f, l), r);
}

int bkey_greatest_differing_bit(const struct bkey_format_fast *f, const struct bkey_packed *l,
				const struct bkey_packed *r)
{
	const u64 *lw = (const u64 *)l + f->f.key_u64s, *rw = (const u64 *)r + f->f.key_u64s;
	int top = f->nr_key_bits;

	for (unsigned i = 0; i < f->cmp_words; i++) {
		u64 diff = *--lw ^ *--rw;

		if (i == f->cmp_words - 1U)
			diff = diff >> f->pos_shift << f->pos_shift;
		if (diff)
			return top - 65 + (int)fls64(diff);
		top -= 64;
	}
	return -1;
}
