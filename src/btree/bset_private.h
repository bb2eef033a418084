/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files bset*.c share and nobody else sees.
 *
 * Auxiliary tree of a constant set (at set->aux_start of the aux buffer): a header
 * line with the bounds of the positions that it is searched for, then aux_nr entries in eytzinger
 * order counted from 1. The entry of rank r stands for the r-th cache line behind the one the set
 * begins in, and leads to a key that starts there (or, where none does, to the next one that starts
 * behind). The set's last key is not in the tree: at the right edge of a btree it lies far behind
 * all others, and no mantissa of 16 bits could span the gap.
 *
 * "Position bits": a packed key's position as one integer, right-aligned, lowest word
 * first. Positions that do not pack are rounded down to one that does.
 *
 * Table of the set being inserted into: aux_nr u16 offsets of keys from the set's
 * start, in u64s, strictly ascending, the first 0; new keys shift what is behind them,
 * and a gap of more than two cache lines (more in a set that has grown large in order) is halved.
 */
#ifndef BCFS_BTREE_BSET_PRIVATE_H
#define BCFS_BTREE_BSET_PRIVATE_H

#include "btree/bset.h"
#include "util/bits.h"

#define LINE_U64S     (BSET_CACHELINE / 8)
#define RW_MAX_U64s   (BSET_RW_MAX_BYTES / 8)
#define RW_AUX_MAX    640 /* entries of the table */
#define BFLOAT_FAILED 255

struct bkey_float {
	u8 exponent;   /* of the mantissa's lowest bit in the position bits, or BFLOAT_FAILED */
	u8 key_offset; /* of the key from its cache line's start, in u64s */
	u16 mantissa;
};

struct bset_ro_aux {
	u64 first[3]; /* position bits of the set's first key, and of the one before its last */
	u64 last[3];
	u64 last_idx; /* the last key: what lies behind last[] is looked for from there */
	u64 pad;
	struct bkey_float tree[];
};

/* A position made ready for searching. */
struct bset_search_key {
	const struct bpos *pos;
	bool packed; /* the rest is valid; else compare positions */
	/* A packed key lies before pos iff its words, from the top, are <= these. */
	u64 limit[3];
	u64 bits[4]; /* position bits of the greatest packable position <= pos; [3] is 0 */
};

/* Positions of more than 128 bits. */
void bset_search_key_3(struct bset_search_key *s, const struct bkey_format_fast *f, const u64 v[3],
		       bool exact);
/* @pos is not copied. */
static inline void bset_search_key_init(struct bset_search_key *s, const struct btree_keys *b,
					const struct bpos *pos)
{
	const struct bkey_format_fast *f = &b->f;
	u64 v[3] = {pos->inode - f->f.field_offset[0], pos->offset - f->f.field_offset[1],
		    pos->snapshot - f->f.field_offset[2]};
	bool exact = true;
	unsigned __int128 x;

	s->pos = pos;
	s->packed = false;
	if (unlikely(v[0] > f->mask[0] || v[1] > f->mask[1] || v[2] > f->mask[2])) {
		exact = false;
		if (bkey_round_pos(v, *pos, f) == BKEY_PACK_POS_FAIL)
			return;
	}
	if (unlikely(!f->cmp_words))
		return;
	s->bits[2] = s->bits[3] = 0;
	if (unlikely(f->cmp_words == 3)) {
		bset_search_key_3(s, f, v, exact);
		return;
	}

	x = (unsigned __int128)v[0] << f->f.bits_per_field[1] | v[1];
	x = x << f->f.bits_per_field[2] | v[2];
	if (unlikely(exact && !x))
		return;
	s->packed = true;
	s->bits[0] = x;
	s->bits[1] = x >> 64;
	/* before it: <= it - 1; if rounded down also whatever lies at it */
	x <<= f->pos_shift;
	x = exact ? x - 1 : x | low_bits_mask(f->pos_shift);
	s->limit[0] = f->cmp_words == 1 ? x : x >> 64;
	s->limit[1] = x;
}
/* The first key >= the search key, deleted or not; bset_last() if there is none. */
struct bkey_packed *bset_search(const struct btree_keys *b, const struct bset_tree *t,
				const struct bset_search_key *s);
/* The key before @k (which may be bset_last()); NULL if @k is the first. */
struct bkey_packed *bset_prev_key(const struct btree_keys *b, const struct bset_tree *t,
				  const struct bkey_packed *k);

/* (Re)build the aux tree of set @i as a constant one, behind that of set @i - 1. */
void bset_build_ro_aux(struct btree_keys *b, unsigned i);
void bset_build_rw_aux(struct btree_keys *b, unsigned i);
/* Fix the table after @old_u64s at @at (from the set's start) became @new_u64s. */
void bset_rw_aux_fix(struct btree_keys *b, struct bset_tree *t, u32 at, u32 old_u64s, u32 new_u64s);
/* Begin an empty set to insert into, behind the last one. */
struct bset_tree *bset_new_rw(struct btree_keys *b);
/* Recompute live_u64s, nr_live and whiteout_u64s by walking the set. */
void bset_count(const struct btree_keys *b, struct bset_tree *t);

/* Merge sets [first, first + nr) into one in the place of @first, garbage dropped. */
void bset_merge(struct btree_keys *b, unsigned first, unsigned nr, u64 *scratch);
/* Make MAX_BSETS - 1 sets or fewer of them; every set gets constant. */
void bset_make_slot(struct btree_keys *b, u64 *scratch);

/* Begin to fetch what a search reads first: for all sets before the first is searched. */
static inline void bset_prefetch(const struct btree_keys *b, const struct bset_tree *t)
{
	__builtin_prefetch(b->aux + t->aux_start);
	__builtin_prefetch(b->aux + t->aux_start + BSET_CACHELINE);
	__builtin_prefetch(b->aux + t->aux_start + 2 * BSET_CACHELINE);
}

static inline u32 bset_u64s(const struct bset_tree *t)
{
	return t->end - t->start;
}
static inline u32 bset_key_to_idx(const struct btree_keys *b, const struct bkey_packed *k)
{
	return (u32)((const u64 *)k - b->data);
}
static inline struct bkey_packed *bset_idx_to_key(const struct btree_keys *b, u32 idx)
{
	return (struct bkey_packed *)(b->data + idx);
}
static inline bool bset_is_written(const struct btree_keys *b, const struct bset_tree *t)
{
	return t - b->set < b->nr_written;
}
static inline struct bset_ro_aux *bset_ro_aux(const struct btree_keys *b, const struct bset_tree *t)
{
	return (struct bset_ro_aux *)(b->aux + t->aux_start);
}
static inline u16 *bset_rw_aux(const struct btree_keys *b, const struct bset_tree *t)
{
	return (u16 *)(b->aux + t->aux_start);
}
/* A deleted key that must be written. */
static inline bool bkeyp_is_whiteout(const struct bkey_packed *k)
{
	return k->type == KEY_TYPE_deleted && k->needs_whiteout;
}
static inline bool bkeyp_is_live(const struct bkey_packed *k)
{
	return k->type != KEY_TYPE_deleted;
}
/* The key an entry of the aux tree leads to. */
static inline u32 bset_ro_idx(const struct bset_tree *t, const struct bset_ro_aux *aux, unsigned n,
			      unsigned rank)
{
	return (t->start / LINE_U64S + rank) * LINE_U64S + aux->tree[n].key_offset;
}

static inline bool bset_key_before(const struct btree_keys *b, const struct bkey_packed *k,
				   const struct bset_search_key *s)
{
	const u64 *top = (const u64 *)k + b->f.f.key_u64s;

	if (unlikely(!s->packed || k->format != BKEY_FORMAT_LOCAL))
		return bpos_lt(bkey_unpack_pos(&b->f, k), *s->pos);
	if (top[-1] != s->limit[0] || b->f.cmp_words == 1)
		return top[-1] <= s->limit[0];
	if (top[-2] != s->limit[1] || b->f.cmp_words == 2)
		return top[-2] <= s->limit[1];
	return top[-3] <= s->limit[2];
}

#endif
