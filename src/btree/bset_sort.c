/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Merging sets: in memory, for the disk, from the disk, into another node. */
#include "btree/bset_private.h"

#include "util/copy.h"
#include "util/errcode.h"
#include "util/printbuf.h"
#include "util/planted.h"

#include <string.h>

void bset_count(const struct btree_keys *b, struct bset_tree *t)
{
	t->live_u64s = t->nr_live = t->whiteout_u64s = 0;
	for (struct bkey_packed *k = bset_first(b, t); k != bset_last(b, t); k = bkeyp_next(k)) {
		if (bkeyp_is_live(k)) {
			t->live_u64s += k->u64s;
			t->nr_live++;
		} else if (bkeyp_is_whiteout(k)) {
			t->whiteout_u64s += bkeyp_key_u64s(&b->f, k);
		}
	}
}

/* Merging sets of this node */

/* The next key at or behind *k that is no garbage. */
static struct bkey_packed *skip_garbage(struct bkey_packed *k, const struct bkey_packed *end)
{
	while (k != end && !bkeyp_is_live(k) && !k->needs_whiteout)
		k = bkeyp_next(k);
	return k;
}

static u64 *emit(const struct btree_keys *b, u64 *dst, const struct bkey_packed *k, bool to_disk)
{
	u32 u64s = bkeyp_is_live(k) ? k->u64s : bkeyp_key_u64s(&b->f, k);
	struct bkey_packed *out = (struct bkey_packed *)dst;

	copy_u64s(dst, k, u64s);
	out->u64s = u64s;
	if (to_disk)
		out->needs_whiteout = 0;
	return dst + u64s;
}

/* Sets being merged, those with nothing left taken out: their keys from k to end are to come. */
struct merge_set {
	const struct bset_tree *t;
	struct bkey_packed *k, *end;
};
struct merge {
	const struct btree_keys *b;
	unsigned live;
	struct merge_set m[MAX_BSETS];
};

static void merge_add(struct merge *mg, const struct bset_tree *t, struct bkey_packed *k,
		      struct bkey_packed *end)
{
	k = skip_garbage(k, end);
	if (k != end)
		mg->m[mg->live++] = (struct merge_set){t, k, end};
}

/* All up to @stop have been dealt with. */
static void merge_advance(struct merge *mg, struct merge_set *m, struct bkey_packed *stop)
{
	m->k = skip_garbage(stop, m->end);
	if (m->k == m->end)
		*m = mg->m[--mg->live];
}

static bool all_live(const struct merge_set *m)
{
	return m->t->live_u64s == bset_u64s(m->t);
}

/* The first key of @m, of which the first is before @next, that is not before it. */
static struct bkey_packed *run_end(const struct btree_keys *b, const struct merge_set *m,
				   const struct bkey_packed *next)
{
	struct bkey_packed *stop = bkeyp_next(m->k);
	struct bset_search_key s;
	struct bpos pos;

	for (unsigned i = 0; i < 8; i++, stop = bkeyp_next(stop))
		if (stop == m->end || bkey_cmp_packed(&b->f, stop, next) >= 0)
			return stop;
	pos = bkey_unpack_pos(&b->f, next);
	bset_search_key_init(&s, b, &pos);
	stop = bset_search(b, m->t, &s);
	return stop < m->end ? stop : m->end;
}

/*
 * The set that comes next, with keys up to *ret_stop that all lie before those of the others; of
 * which no two, garbage aside, are at one position. NULL at the end.
 */
static struct merge_set *merge_next(struct merge *mg, struct bkey_packed **ret_stop)
{
	const struct btree_keys *b = mg->b;
	struct merge_set *best = mg->m, *next = NULL;

	if (!mg->live)
		return NULL;
	for (struct merge_set *m = mg->m + 1; m < mg->m + mg->live; m++) {
		if (bkey_cmp_packed(&b->f, m->k, best->k) < 0) {
			next = best;
			best = m;
		} else if (!next || bkey_cmp_packed(&b->f, m->k, next->k) < 0) {
			next = m;
		}
	}
	*ret_stop = next ? run_end(b, best, next->k) : best->end;
	return best;
}

/* Live keys and whiteouts of sets [first, first + nr), in order. */
static u32 merge_sets(const struct btree_keys *b, unsigned first, unsigned nr, u64 *dst,
		      bool to_disk)
{
	struct merge mg = {.b = b};
	struct merge_set *m;
	struct bkey_packed *stop;
	u64 *start = dst;

	for (const struct bset_tree *t = b->set + first; t < b->set + first + nr; t++)
		merge_add(&mg, t, bset_first(b, t), bset_last(b, t));
	while ((m = merge_next(&mg, &stop))) {
		if (!to_disk && all_live(m)) {
			size_t u64s = (const u64 *)stop - (const u64 *)m->k;

			memcpy(dst, m->k, u64s * 8);
			dst += u64s;
		} else {
			for (struct bkey_packed *k = m->k; k < stop;
			     k = skip_garbage(bkeyp_next(k), m->end))
				dst = emit(b, dst, k, to_disk);
		}
		merge_advance(&mg, m, stop);
	}
	return dst - start;
}

void bset_merge(struct btree_keys *b, unsigned first, unsigned nr, u64 *scratch)
{
	struct bset_tree *t = &b->set[first];
	u32 old_end = b->set[first + nr - 1].end, used = btree_keys_used_u64s(b);
	u32 u64s = merge_sets(b, first, nr, scratch, false);
	u32 freed = old_end - t->start - u64s;
	unsigned keep = u64s ? 1 : 0;

	assert(nr && first + nr <= b->nsets);
	for (unsigned i = 1; i < nr; i++)
		t->journal_seq = max(t->journal_seq, t[i].journal_seq);
	memcpy(b->data + t->start, scratch, (size_t)u64s * 8);
	memmove(b->data + t->start + u64s, b->data + old_end, (size_t)(used - old_end) * 8);
	t->end = t->start + u64s;
	bset_count(b, t);

	/* the sets behind move up */
	for (unsigned i = first + nr; i < b->nsets; i++) {
		b->set[first + keep + i - first - nr] = b->set[i];
		b->set[first + keep + i - first - nr].start -= freed;
		b->set[first + keep + i - first - nr].end -= freed;
	}
	b->nsets -= nr - keep;
	if (first < b->nr_written)
		b->nr_written -= nr - keep;

	for (unsigned i = first; i < b->nsets; i++) {
		if (i < first + keep || b->set[i].aux_type == BSET_RO_AUX) {
			bset_build_ro_aux(b, i);
		} else {
			b->set[i].aux_type = BSET_NO_AUX;
			bset_build_rw_aux(b, i);
		}
	}
}

u32 btree_keys_copy_unwritten(const struct btree_keys *b, u64 *dst, u64 *newest_seq)
{
	if (newest_seq)
		*newest_seq = btree_keys_unwritten_seq(b);
	return merge_sets(b, b->nr_written, b->nsets - b->nr_written, dst, true);
}

/* From the disk */

int bset_validate_keys(const struct bkey_format_fast *f, const u64 *start, u32 u64s,
		       struct printbuf *err)
{
	const struct bkey_packed *prev = NULL;

	for (u32 idx = 0; idx < u64s;) {
		const struct bkey_packed *k = (const struct bkey_packed *)(start + idx);
		unsigned key_u64s;

		if (k->format != BKEY_FORMAT_LOCAL && k->format != BKEY_FORMAT_CURRENT) {
			prt_printf(err, "key at u64 %u of %u: unknown format %u", idx, u64s,
				   k->format);
			return -BCFS_ERR_bset_key_format;
		}
		key_u64s = bkeyp_key_u64s(f, k);
		if (k->u64s < key_u64s || k->u64s > u64s - idx ||
		    k->u64s - key_u64s > BKEY_VAL_U64s_MAX) {
			prt_printf(err, "key at u64 %u of %u: bad size %u (key alone: %u)", idx,
				   u64s, k->u64s, key_u64s);
			return -BCFS_ERR_bset_key_size;
		}
		if (k->needs_whiteout) {
			prt_printf(err, "key at u64 %u of %u: needs_whiteout set", idx, u64s);
			return -BCFS_ERR_bset_key_flags;
		}
		if (prev && bkey_cmp_packed(f, prev, k) >= 0) {
			prt_printf(err, "key at u64 %u of %u: out of order: ", idx, u64s);
			bpos_to_text(err, bkey_unpack_pos(f, prev));
			prt_str(err, " before ");
			bpos_to_text(err, bkey_unpack_pos(f, k));
			return -BCFS_ERR_bset_unsorted;
		}
		prev = k;
		idx += k->u64s;
	}
	return 0;
}

/* A heap of sources, by next key, the newest of equal ones on top. */
struct load_cursor {
	u32 src, idx;
};

struct load {
	struct btree_keys *b;
	const struct bset_src *src;
	struct load_cursor *heap;
	u32 nr;
};

static const struct bkey_packed *load_key(const struct load *l, const struct load_cursor *c)
{
	return (const struct bkey_packed *)(l->src[c->src].start + c->idx);
}

static bool load_before(const struct load *l, const struct load_cursor *x,
			const struct load_cursor *y)
{
	int cmp = bkey_cmp_packed(&l->b->f, load_key(l, x), load_key(l, y));

	return cmp ? cmp < 0 : planted(older_key_wins) ? x->src < y->src : x->src > y->src;
}

static void load_sift(struct load *l, u32 i)
{
	struct load_cursor c = l->heap[i];

	for (u32 child; (child = 2 * i + 1) < l->nr; i = child) {
		if (child + 1 < l->nr && load_before(l, &l->heap[child + 1], &l->heap[child]))
			child++;
		if (load_before(l, &c, &l->heap[child]))
			break;
		l->heap[i] = l->heap[child];
	}
	l->heap[i] = c;
}

int btree_keys_load(struct btree_keys *b, const struct bset_src *src, unsigned nr)
{
	/* the aux space is free until the end; there are fewer sets than it has room for */
	u32 pad = -(uintptr_t)b->aux & 7;
	u32 room = (btree_keys_aux_bytes((size_t)b->capacity_u64s * 8) - pad) /
		   sizeof(struct load_cursor);
	struct load l = {.b = b, .src = src, .heap = (struct load_cursor *)(b->aux + pad)};
	struct bset_tree *t = &b->set[0];
	const struct bkey_packed *prev = NULL;
	u32 end = 0;

	b->nsets = b->nr_written = 0;
	*t = (struct bset_tree){0};
	for (unsigned i = 0; i < nr; i++) {
		t->journal_seq = max(t->journal_seq, src[i].journal_seq);
		if (!src[i].u64s)
			continue;
		if (l.nr == room)
			return -BCFS_ERR_bset_too_big;
		l.heap[l.nr++] = (struct load_cursor){.src = i};
	}
	for (u32 i = l.nr / 2; i--;)
		load_sift(&l, i);

	while (l.nr) {
		struct load_cursor *c = &l.heap[0];
		const struct bkey_packed *k = load_key(&l, c);

		if (bkeyp_is_live(k) && !(prev && !bkey_cmp_packed(&b->f, prev, k))) {
			if (k->u64s > b->capacity_u64s - end)
				return -BCFS_ERR_bset_too_big;
			copy_u64s(b->data + end, k, k->u64s);
			((struct bkey_packed *)(b->data + end))->needs_whiteout = 0;
			end += k->u64s;
		}
		prev = k;
		c->idx += k->u64s;
		if (c->idx == src[c->src].u64s)
			*c = l.heap[--l.nr];
		if (l.nr)
			load_sift(&l, 0);
	}

	if (!end)
		return 0;
	t->end = end;
	b->nsets = b->nr_written = 1;
	bset_count(b, t);
	bset_build_ro_aux(b, 0);
	return 0;
}

/* Into another node */

/* @k of @src into @dst, which has another format. */
static int repack_into(struct btree_keys *dst, struct bset_tree *t, const struct btree_keys *src,
		       const struct bkey_packed *k)
{
	struct bkey u;
	struct bkey_s_c s = bkey_disassemble(&src->f, k, &u);
	u64 packed[BKEY_U64s];
	u32 key_u64s = BKEY_U64s, val_u64s = bkey_val_u64s(&u);

	if (bkey_pack_key((struct bkey_packed *)packed, &u, &dst->f))
		key_u64s = dst->f.f.key_u64s;
	else
		memcpy(packed, &u, sizeof(u));
	if (t->end + key_u64s + val_u64s > dst->capacity_u64s)
		return -BCFS_ERR_bset_too_big;
	copy_few_u64s(dst->data + t->end, packed, key_u64s);
	copy_u64s(dst->data + t->end + key_u64s, s.v, val_u64s);
	t->end += key_u64s + val_u64s;
	t->live_u64s += key_u64s + val_u64s;
	t->nr_live++;
	return 0;
}

/* The same where the formats are equal: @u64s of keys, all live. */
static int copy_into(struct btree_keys *dst, struct bset_tree *t, const struct bkey_packed *k,
		     u32 u64s)
{
	u32 end = t->end + u64s;

	if (end > dst->capacity_u64s)
		return -BCFS_ERR_bset_too_big;
	copy_u64s(dst->data + t->end, k, u64s);
	t->live_u64s += u64s;
	for (; t->end < end; t->nr_live++) {
		struct bkey_packed *n = bset_idx_to_key(dst, t->end);

		n->needs_whiteout = 0;
		t->end += n->u64s;
	}
	return 0;
}

/* Keys of one set, up to @stop. */
static int run_into(struct btree_keys *dst, struct bset_tree *t, const struct btree_keys *src,
		    const struct merge_set *m, const struct bkey_packed *stop, bool same)
{
	int ret = 0;

	if (same && all_live(m))
		return copy_into(dst, t, m->k, (const u64 *)stop - (const u64 *)m->k);
	for (const struct bkey_packed *k = m->k; k < stop && !ret; k = bkeyp_next(k)) {
		if (!bkeyp_is_live(k))
			continue;
		ret = same ? copy_into(dst, t, k, k->u64s) : repack_into(dst, t, src, k);
	}
	return ret;
}

/* The part of a set in [first, last]. */
static void set_range(const struct btree_keys *b, const struct bset_tree *t, struct bpos first,
		      struct bpos last, struct bkey_packed **k, struct bkey_packed **end)
{
	struct bset_search_key s;

	*k = *end = bset_last(b, t);
	if (t->start == t->end)
		return;
	bset_search_key_init(&s, b, &first);
	*k = bset_search(b, t, &s);
	if (bpos_eq(last, SPOS_MAX))
		return;
	last = bpos_successor(last);
	bset_search_key_init(&s, b, &last);
	*end = bset_search(b, t, &s);
}

int btree_keys_sort_into(struct btree_keys *dst, const struct btree_keys *src, struct bpos first,
			 struct bpos last)
{
	bool same = !memcmp(&dst->f.f, &src->f.f, sizeof(dst->f.f));
	struct bset_tree *t = &dst->set[0];
	struct merge mg = {.b = src};
	struct bkey_packed *k, *end;
	struct merge_set *m;
	int ret = 0;

	assert(!dst->nr_written && dst->nsets <= 1);
	if (!dst->nsets)
		*t = (struct bset_tree){0};
	for (const struct bset_tree *s = src->set; s < src->set + src->nsets; s++) {
		t->journal_seq = max(t->journal_seq, s->journal_seq);
		set_range(src, s, first, last, &k, &end);
		merge_add(&mg, s, k, end);
	}
	while (!ret && (m = merge_next(&mg, &end))) {
		ret = run_into(dst, t, src, m, end, same);
		merge_advance(&mg, m, end);
	}
	if (t->end) {
		dst->nsets = 1;
		bset_build_ro_aux(dst, 0);
	}
	return ret;
}

void btree_keys_ranges_init(struct btree_keys_ranges *r)
{
	*r = (struct btree_keys_ranges){0};
	bkey_format_state_init(&r->s);
}

void btree_keys_measure(const struct btree_keys *src, struct bpos first, struct bpos last,
			struct btree_keys_ranges *r)
{
	for (const struct bset_tree *t = src->set; t < src->set + src->nsets; t++) {
		struct bkey_packed *k, *end;

		set_range(src, t, first, last, &k, &end);
		for (; k < end; k = bkeyp_next(k)) {
			struct bkey u;

			if (!bkeyp_is_live(k))
				continue;
			bkey_unpack_to(&u, &src->f, k);
			if (unlikely(bpos_eq(u.p, SPOS_MAX))) {
				r->edge_u64s += u.u64s;
				continue;
			}
			bkey_format_add_key(&r->s, &u);
			r->nr++;
			r->was_u64s += k->u64s;
			r->val_u64s += bkey_val_u64s(&u);
		}
	}
}
