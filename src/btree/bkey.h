/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keys in memory: positions, the wrapper types, packing.
 *
 * A key is handled unpacked (struct bkey) everywhere but inside a node, where
 * most keys are packed with the node's struct bkey_format. The wrappers:
 *
 *	bkey_i		key with its value inline (what is inserted)
 *	bkey_s		unpacked key and pointer to its value
 *	bkey_s_c	the same, constant (what iterators return)
 *
 * and for each value type foo: bkey_i_foo, bkey_s_foo, bkey_s_c_foo, generated
 * below, whose conversions assert the key's type.
 *
 * Packing invariants: pack() may fail; where it succeeds it preserves order,
 * cmp(l, r) == cmp(pack(l), pack(r)), and unpack(pack(k)) == k.
 *
 * Algorithm: "Bkey packing" in the bcache programmer's guide.
 */
#ifndef BCFS_BTREE_BKEY_H
#define BCFS_BTREE_BKEY_H

#include "bcfs/format/bkey.h"
#include "util/types.h"

struct printbuf;

/* Positions */

#define POS(i, o)     ((struct bpos){.inode = (i), .offset = (o), .snapshot = 0})
#define SPOS(i, o, s) ((struct bpos){.inode = (i), .offset = (o), .snapshot = (s)})
#define POS_MIN	      SPOS(0, 0, 0)
#define POS_MAX	      SPOS(UINT64_MAX, UINT64_MAX, 0)
#define SPOS_MAX      SPOS(UINT64_MAX, UINT64_MAX, UINT32_MAX)

static inline int bpos_cmp(struct bpos l, struct bpos r)
{
	if (l.inode != r.inode)
		return l.inode < r.inode ? -1 : 1;
	if (l.offset != r.offset)
		return l.offset < r.offset ? -1 : 1;
	return cmp_int(l.snapshot, r.snapshot);
}

static inline bool bpos_eq(struct bpos l, struct bpos r)
{
	return l.inode == r.inode && l.offset == r.offset && l.snapshot == r.snapshot;
}

static inline bool bpos_lt(struct bpos l, struct bpos r)
{
	return bpos_cmp(l, r) < 0;
}
static inline bool bpos_le(struct bpos l, struct bpos r)
{
	return bpos_cmp(l, r) <= 0;
}
static inline bool bpos_gt(struct bpos l, struct bpos r)
{
	return bpos_cmp(l, r) > 0;
}
static inline bool bpos_ge(struct bpos l, struct bpos r)
{
	return bpos_cmp(l, r) >= 0;
}

/* Compare without the snapshot. */
static inline int bkey_cmp_pos(struct bpos l, struct bpos r)
{
	if (l.inode != r.inode)
		return l.inode < r.inode ? -1 : 1;
	return cmp_int(l.offset, r.offset);
}

static inline struct bpos bpos_min(struct bpos l, struct bpos r)
{
	return bpos_lt(l, r) ? l : r;
}
static inline struct bpos bpos_max(struct bpos l, struct bpos r)
{
	return bpos_gt(l, r) ? l : r;
}

/* The next/previous position, snapshot included. @p must not be the last/first. */
struct bpos bpos_successor(struct bpos p);
struct bpos bpos_predecessor(struct bpos p);
/* The next position with the snapshot zeroed / same snapshot: for trees without / with snapshots.
 */
struct bpos bpos_nosnap_successor(struct bpos p);

void bpos_to_text(struct printbuf *out, struct bpos p);

/* Wrappers */

/* A value of any type: only ever pointed at. */
struct bval {
	u64 _data[0];
};

struct bkey_s {
	struct bkey *k;
	struct bval *v;
};

struct bkey_s_c {
	const struct bkey *k;
	const struct bval *v;
};

#define bkey_s_null   ((struct bkey_s){NULL, NULL})
#define bkey_s_c_null ((struct bkey_s_c){NULL, NULL})
/* An error carried in a bkey_s_c: .k is an error pointer. */
#define bkey_s_c_err(e) ((struct bkey_s_c){(const struct bkey *)(long)(e), NULL})

static inline int bkey_err(struct bkey_s_c k)
{
	return (unsigned long)k.k >= (unsigned long)-65536L ? (int)(long)k.k : 0;
}

static inline struct bkey_s_c bkey_s_to_s_c(struct bkey_s k)
{
	return (struct bkey_s_c){k.k, k.v};
}
static inline struct bkey_s_c bkey_i_to_s_c(const struct bkey_i *k)
{
	return (struct bkey_s_c){&k->k, (const struct bval *)k->v};
}
static inline struct bkey_s bkey_i_to_s(struct bkey_i *k)
{
	return (struct bkey_s){&k->k, (struct bval *)k->v};
}

static inline unsigned bkey_val_u64s(const struct bkey *k)
{
	return k->u64s - BKEY_U64s;
}
static inline unsigned bkey_val_bytes(const struct bkey *k)
{
	return bkey_val_u64s(k) * 8;
}
static inline unsigned bkey_bytes(const struct bkey *k)
{
	return k->u64s * 8;
}
static inline void set_bkey_val_u64s(struct bkey *k, unsigned u64s)
{
	k->u64s = BKEY_U64s + u64s;
}
static inline void set_bkey_val_bytes(struct bkey *k, unsigned bytes)
{
	k->u64s = BKEY_U64s + DIV_ROUND_UP(bytes, 8);
}

static inline void bkey_init(struct bkey *k)
{
	*k = (struct bkey){.u64s = BKEY_U64s, .format = BKEY_FORMAT_CURRENT};
}

static inline bool bkey_deleted(const struct bkey *k)
{
	return k->type == KEY_TYPE_deleted;
}
static inline bool bkey_whiteout(const struct bkey *k)
{
	return k->type == KEY_TYPE_deleted || k->type == KEY_TYPE_whiteout;
}

/* First sector of an extent (its key holds the end). */
static inline u64 bkey_start_offset(const struct bkey *k)
{
	return k->p.offset - k->size;
}
static inline struct bpos bkey_start_pos(const struct bkey *k)
{
	return SPOS(k->p.inode, k->p.offset - k->size, k->p.snapshot);
}

static inline struct bkey_i *bkey_next_i(struct bkey_i *k)
{
	return (struct bkey_i *)((u64 *)k + k->k.u64s);
}

/* Copy a key with its value; @dst has room for src's u64s. */
void bkey_copy(struct bkey_i *dst, const struct bkey_i *src);
void bkey_reassemble(struct bkey_i *dst, struct bkey_s_c src);
bool bkey_s_c_equal(struct bkey_s_c l, struct bkey_s_c r); /* key (not needs_whiteout) and value */

/* "u64s 7 type extent 4097:256:U32_MAX len 8 ver 0" */
void bkey_to_text(struct printbuf *out, const struct bkey *k);
const char *bkey_type_name(unsigned type); /* "unknown" beyond the table */
const char *btree_id_name(unsigned id);
unsigned btree_id_flags(unsigned id); /* BTREE_IS_EXTENTS | ... ; 0 for an unknown id */

/* Typed wrappers: BKEY_VAL_TYPE(extent, struct bcfs_extent) and so on. */
#define BKEY_VAL_TYPE(name, vtype)                                                                 \
	struct bkey_i_##name {                                                                     \
		union {                                                                            \
			struct bkey k;                                                             \
			struct bkey_i k_i;                                                         \
		};                                                                                 \
		vtype v;                                                                           \
	};                                                                                         \
	struct bkey_s_c_##name {                                                                   \
		const struct bkey *k;                                                              \
		const vtype *v;                                                                    \
	};                                                                                         \
	struct bkey_s_##name {                                                                     \
		struct bkey *k;                                                                    \
		vtype *v;                                                                          \
	};                                                                                         \
	static inline struct bkey_s_c_##name bkey_s_c_to_##name(struct bkey_s_c k)                 \
	{                                                                                          \
		assert(k.k->type == KEY_TYPE_##name);                                              \
		return (struct bkey_s_c_##name){k.k, (const vtype *)k.v};                          \
	}                                                                                          \
	static inline struct bkey_i_##name *bkey_i_to_##name(struct bkey_i *k)                     \
	{                                                                                          \
		assert(k->k.type == KEY_TYPE_##name);                                              \
		return (struct bkey_i_##name *)k;                                                  \
	}                                                                                          \
	static inline const struct bkey_i_##name *bkey_i_to_##name##_c(const struct bkey_i *k)     \
	{                                                                                          \
		assert(k->k.type == KEY_TYPE_##name);                                              \
		return (const struct bkey_i_##name *)k;                                            \
	}                                                                                          \
	static inline struct bkey_i_##name *bkey_##name##_init(struct bkey_i *k_)                  \
	{                                                                                          \
		struct bkey_i_##name *k = (struct bkey_i_##name *)k_;                              \
		bkey_init(&k->k);                                                                  \
		__builtin_memset(&k->v, 0, sizeof(k->v));                                          \
		k->k.type = KEY_TYPE_##name;                                                       \
		set_bkey_val_bytes(&k->k, sizeof(k->v));                                           \
		return k;                                                                          \
	}                                                                                          \
	struct bkey_i_##name

/* Packing */

/*
 * Everything derived from a node's format that hot paths want at hand; built by
 * bkey_format_fast_init() and embedded in struct btree_keys. Bits of a packed key
 * are counted from bit 0 of its first u64; fields lie from the top down.
 */
struct bkey_format_fast {
	struct bkey_format f;
	u8 nr_key_bits; /* inode + offset + snapshot bits */
	u8 cmp_words;	/* u64s, from the top, that hold position bits: 0 .. 3 */
	u8 pos_shift;	/* low bits of the last of those that are not the position's */
	u8 wide;	/* one bit a field: not covered by one load of 8 bytes */
	/* A field's value is (load8(load_byte) >> shift & mask) + f.field_offset. */
	u8 load_byte[BKEY_NR_FIELDS];
	u8 shift[BKEY_NR_FIELDS]; /* of a wide field: left, by this much */
	u8 field_lo[BKEY_NR_FIELDS];
	u64 mask[BKEY_NR_FIELDS];
};

extern const struct bkey_format bkey_format_current;

void bkey_format_fast_init(struct bkey_format_fast *dst, const struct bkey_format *f);

/* Collects the ranges of keys to compute a node's next format. */
struct bkey_format_state {
	u64 field_min[BKEY_NR_FIELDS];
	u64 field_max[BKEY_NR_FIELDS];
};

void bkey_format_state_init(struct bkey_format_state *s);
void bkey_format_add_key(struct bkey_format_state *s, const struct bkey *k);
void bkey_format_add_pos(struct bkey_format_state *s, struct bpos p);
/* The format: fields as narrow as the keys allow, bits left over given to the fields. */
struct bkey_format bkey_format_done(const struct bkey_format_state *s);
/* Check of a format read from disk: 0 or -BCFS_ERR_bkey_format_invalid; explains in @err. */
int bkey_format_validate(const struct bkey_format *f, struct printbuf *err);
void bkey_format_to_text(struct printbuf *out, const struct bkey_format *f);

/* A packed key's own size (key part) in u64s, by its format. */
static inline unsigned bkeyp_key_u64s(const struct bkey_format_fast *f, const struct bkey_packed *k)
{
	return k->format == BKEY_FORMAT_CURRENT ? BKEY_U64s : f->f.key_u64s;
}
static inline struct bval *bkeyp_val(const struct bkey_format_fast *f, const struct bkey_packed *k)
{
	return (struct bval *)((u64 *)k + bkeyp_key_u64s(f, k));
}
static inline unsigned bkeyp_val_u64s(const struct bkey_format_fast *f, const struct bkey_packed *k)
{
	return k->u64s - bkeyp_key_u64s(f, k);
}
static inline struct bkey_packed *bkeyp_next(const struct bkey_packed *k)
{
	return (struct bkey_packed *)((u64 *)k + k->u64s);
}

/* Key part only. False if it does not fit the format (@out is then undefined). */
bool bkey_pack_key(struct bkey_packed *out, const struct bkey *in,
		   const struct bkey_format_fast *f);
/* A field of a packed key; the second for those that begin below the 8 bytes their top lies in. */
static inline u64 bkeyp_field(const struct bkey_format_fast *f, const struct bkey_packed *k,
			      unsigned i)
{
	u64 v;

	__builtin_memcpy(&v, (const u8 *)k + f->load_byte[i], sizeof(v));
	return (v >> f->shift[i] & f->mask[i]) + f->f.field_offset[i];
}
u64 bkeyp_field_wide(const struct bkey_format_fast *f, const struct bkey_packed *k, unsigned i);

/* Works for both forms. */
static inline struct bpos bkey_unpack_pos(const struct bkey_format_fast *f,
					  const struct bkey_packed *k)
{
	if (unlikely(k->format == BKEY_FORMAT_CURRENT))
		return ((const struct bkey *)k)->p;
	if (unlikely(f->wide))
		return SPOS(bkeyp_field_wide(f, k, BKEY_FIELD_INODE),
			    bkeyp_field_wide(f, k, BKEY_FIELD_OFFSET),
			    bkeyp_field_wide(f, k, BKEY_FIELD_SNAPSHOT));
	return SPOS(bkeyp_field(f, k, BKEY_FIELD_INODE), bkeyp_field(f, k, BKEY_FIELD_OFFSET),
		    bkeyp_field(f, k, BKEY_FIELD_SNAPSHOT));
}

typedef u64 bkey_vec __attribute__((vector_size(16), aligned(4), may_alias));

/*
 * Unpacks into *u. Two stores of 16 bytes: keys are mostly copied at once, and a copy cannot be
 * served from several smaller stores before all of them, and everything before them, is done.
 */
static inline void bkey_unpack_to(struct bkey *u, const struct bkey_format_fast *f,
				  const struct bkey_packed *k)
{
	u64 size, version, snapshot, offset, inode, head;

	if (unlikely(k->format == BKEY_FORMAT_CURRENT)) {
		__builtin_memcpy(u, k, sizeof(*u));
		u->needs_whiteout = 0;
		return;
	}
	if (unlikely(f->wide)) {
		inode = bkeyp_field_wide(f, k, BKEY_FIELD_INODE);
		offset = bkeyp_field_wide(f, k, BKEY_FIELD_OFFSET);
		snapshot = bkeyp_field_wide(f, k, BKEY_FIELD_SNAPSHOT);
		size = bkeyp_field_wide(f, k, BKEY_FIELD_SIZE);
		version = bkeyp_field_wide(f, k, BKEY_FIELD_VERSION);
	} else {
		inode = bkeyp_field(f, k, BKEY_FIELD_INODE);
		offset = bkeyp_field(f, k, BKEY_FIELD_OFFSET);
		snapshot = bkeyp_field(f, k, BKEY_FIELD_SNAPSHOT);
		size = bkeyp_field(f, k, BKEY_FIELD_SIZE);
		version = bkeyp_field(f, k, BKEY_FIELD_VERSION);
	}
	_Static_assert(offsetof(struct bkey, version) == 4 && offsetof(struct bkey, size) == 8 &&
			       offsetof(struct bkey, p.snapshot) == 12 &&
			       offsetof(struct bkey, p.offset) == 16 &&
			       offsetof(struct bkey, p.inode) == 24 && sizeof(struct bkey) == 32,
		       "as the words below");
	head = (u64)(k->u64s - f->f.key_u64s + BKEY_U64s) | (u64)BKEY_FORMAT_CURRENT << 8 |
	       (u64)k->type << 16 | version << 32;
	((bkey_vec *)u)[0] = (bkey_vec){head, size | snapshot << 32};
	((bkey_vec *)u)[1] = (bkey_vec){offset, inode};
}
static inline struct bkey bkey_unpack_key(const struct bkey_format_fast *f,
					  const struct bkey_packed *k)
{
	struct bkey u;

	bkey_unpack_to(&u, f, k);
	return u;
}
/* Unpack into *u and point the value: the way to look at a key in a node. */
static inline struct bkey_s_c bkey_disassemble(const struct bkey_format_fast *f,
					       const struct bkey_packed *k, struct bkey *u)
{
	bkey_unpack_to(u, f, k);
	return (struct bkey_s_c){u, bkeyp_val(f, k)};
}

enum bkey_pack_pos_ret {
	BKEY_PACK_POS_EXACT,   /* *out compares exactly as the position does */
	BKEY_PACK_POS_SMALLER, /* *out is the greatest packable position below it */
	BKEY_PACK_POS_FAIL,    /* nothing packable is below it */
};
/* The position's fields in packed form: inode, offset, snapshot, rounded down as above. */
enum bkey_pack_pos_ret bkey_round_pos(u64 v[3], struct bpos in, const struct bkey_format_fast *f);
/* A search key from a position; *out has BKEY_U64s u64s of room. */
enum bkey_pack_pos_ret bkey_pack_pos_lossy(struct bkey_packed *out, struct bpos in,
					   const struct bkey_format_fast *f);

/* Positions of two keys of a node, either form. */
int bkey_cmp_packed(const struct bkey_format_fast *f, const struct bkey_packed *l,
		    const struct bkey_packed *r);
/* Both packed in the local format. */
int bkey_cmp_packed_bits(const struct bkey_format_fast *f, const struct bkey_packed *l,
			 const struct bkey_packed *r);
int bkey_cmp_left_packed(const struct bkey_format_fast *f, const struct bkey_packed *l,
			 struct bpos r);
/* Highest bit in which two packed keys' positions differ, counted from the lowest position bit; -1:
 * equal. */
int bkey_greatest_differing_bit(const struct bkey_format_fast *f, const struct bkey_packed *l,
				const struct bkey_packed *r);

#endif
