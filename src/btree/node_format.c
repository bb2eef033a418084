// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Which packed format a new node gets: the keys there are have to fit, and at the right edge of a
 * btree those that are to be expected.
 */
#include "btree/btree_private.h"
#include "util/bits.h"

#include <string.h>

#define EDGE_OFFSET_BITS 18 /* 128 MiB in sectors */

/* What a format for all live keys of @src in [min, max] has to hold. */
void btree_node_measure(const struct btree *src, struct bpos min_key, struct bpos max_key,
			struct btree_keys_ranges *r)
{
	struct bkey_format_state *s = &r->s;

	btree_keys_measure(&src->keys, min_key, max_key, r);
	/* The edges, so that what comes between fits; but a boundary's snapshot (0, behind a split)
	 * is no key's. */
	u64 snap_min = s->field_min[BKEY_FIELD_SNAPSHOT];

	if (snap_min > s->field_max[BKEY_FIELD_SNAPSHOT])
		return; /* no keys */
	if (!bpos_eq(min_key, POS_MIN))
		bkey_format_add_pos(s, SPOS(min_key.inode, min_key.offset, snap_min));
	if (!bpos_eq(max_key, SPOS_MAX))
		bkey_format_add_pos(s, SPOS(max_key.inode, max_key.offset, snap_min));
}

/* Does every key in these ranges pack? */
static bool format_fits(const struct bkey_format_fast *f, const struct bkey_format_state *s)
{
	for (unsigned i = 0; i < BKEY_NR_FIELDS; i++)
		if (s->field_min[i] <= s->field_max[i] &&
		    (s->field_min[i] < f->f.field_offset[i] ||
		     s->field_max[i] - f->f.field_offset[i] > f->mask[i]))
			return false;
	return true;
}

/* Let field @f hold up to @to, or as much of the way as makes no key longer than @key_u64s. */
static void format_widen(struct bkey_format_state *s, enum bkey_fields f, u64 to, u8 key_u64s)
{
	u64 from = s->field_max[f];

	if (s->field_min[f] > from)
		return;
	for (u64 more = to > from ? to - from : 0; more; more /= 2) {
		s->field_max[f] = from + more;
		if (bkey_format_done(s).key_u64s <= key_u64s)
			return;
	}
	s->field_max[f] = from;
}

static u64 field_range(const struct bkey_format_state *s, enum bkey_fields f)
{
	return s->field_max[f] > s->field_min[f] ? s->field_max[f] - s->field_min[f] : 0;
}

/*
 * At the right edge of a btree keys go on to where nobody knows yet: often upwards in order, and
 * else like those before them. A split leaves but a few keys there, perhaps of nothing but small
 * files, so it is @all keys of the old node that say what to expect: the field that grows, the
 * first one that differs between them, may grow as much again, or by one for each key; sizes and
 * offsets may be as great as any, and offsets greater, since a large file may follow; each as far
 * as that makes no key longer.
 */
static struct bkey_format format_for_edge(struct bkey_format_state s,
					  const struct btree_keys_ranges *all)
{
	enum bkey_fields f =
		field_range(&all->s, BKEY_FIELD_INODE) ? BKEY_FIELD_INODE : BKEY_FIELD_OFFSET;
	u8 key_u64s = bkey_format_done(&s).key_u64s;
	u64 own = field_range(&s, f), before = field_range(&all->s, f), last = s.field_max[f];
	u64 more = own > UINT64_MAX / 2 ? UINT64_MAX : own * 2;

	more = max(more, before);
	more = max(more, (u64)all->nr);
	format_widen(&s, f, more > UINT64_MAX - last ? UINT64_MAX : last + more, key_u64s);
	format_widen(&s, BKEY_FIELD_SIZE, all->s.field_max[BKEY_FIELD_SIZE], key_u64s);
	if (f == BKEY_FIELD_INODE) {
		/* The next inodes' offsets begin anew. */
		struct bkey_format_state low = s;

		low.field_min[BKEY_FIELD_OFFSET] = 0;
		if (bkey_format_done(&low).key_u64s <= key_u64s)
			s = low;
		format_widen(&s, BKEY_FIELD_OFFSET, all->s.field_max[BKEY_FIELD_OFFSET], key_u64s);
		format_widen(&s, BKEY_FIELD_OFFSET, low_bits_mask(EDGE_OFFSET_BITS), key_u64s);
	}
	return bkey_format_done(&s);
}

static bool is_format_of(const struct btree *src, const struct bkey_format *fmt)
{
	return !memcmp(fmt, &src->keys.f.f, sizeof(*fmt));
}

u32 btree_node_format_u64s(const struct btree *src, const struct btree_keys_ranges *r,
			   const struct bkey_format *fmt)
{
	return is_format_of(src, fmt) ? r->was_u64s + r->edge_u64s : btree_keys_ranges_u64s(r, fmt);
}

/*
 * A format that takes each of many keys may take more for all of them than one that leaves the odd
 * one unpacked. What fitted into @src is to fit into what comes of it.
 */
static struct bkey_format no_larger(const struct btree *src, const struct btree_keys_ranges *r,
				    struct bkey_format fmt)
{
	return btree_node_format_u64s(src, r, &fmt) > r->was_u64s + r->edge_u64s ? src->keys.f.f
										 : fmt;
}

/* The format for keys of @src that end at @max_key, and take @r; all of them take @all. */
struct bkey_format btree_node_format(const struct btree *src, struct bpos max_key,
				     const struct btree_keys_ranges *r,
				     const struct btree_keys_ranges *all)
{
	if (bpos_eq(max_key, SPOS_MAX))
		return no_larger(src, r, format_for_edge(r->s, all));
	struct bkey_format fmt = bkey_format_done(&r->s);

	/* No shorter than what @src has: then keys are copied as they are. */
	if (fmt.key_u64s >= src->keys.f.f.key_u64s && format_fits(&src->keys.f, &r->s))
		return src->keys.f.f;
	return no_larger(src, r, fmt);
}

/* Has @src, at the right edge, more room for offsets than what came needs? */
static bool edge_was_wide(const struct btree *src, const struct btree_keys_ranges *all)
{
	return bpos_eq(src->max_key, SPOS_MAX) && field_range(&all->s, BKEY_FIELD_INODE) &&
	       fls64(all->s.field_max[BKEY_FIELD_OFFSET]) + 2 <
		       src->keys.f.f.bits_per_field[BKEY_FIELD_OFFSET];
}

/* A part of @src, all of which takes @all. */
struct bkey_format btree_node_format_part(const struct btree *src, struct bpos min_key,
					  struct bpos max_key, const struct btree_keys_ranges *all)
{
	const struct bkey_format_fast *f = &src->keys.f;
	struct btree_keys_ranges r;

	/* Shorter is not possible. */
	bool wide = edge_was_wide(src, all);
	if (!wide && !bpos_eq(max_key, SPOS_MAX) && f->f.key_u64s == 1 && format_fits(f, &all->s))
		return f->f;
	btree_keys_ranges_init(&r);
	btree_node_measure(src, min_key, max_key, &r);
	if (wide && !bpos_eq(max_key, SPOS_MAX))
		return no_larger(src, &r, bkey_format_done(&r.s));
	return btree_node_format(src, max_key, &r, all);
}
