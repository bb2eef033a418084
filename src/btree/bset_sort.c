/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Merging sets: in memory, for the disk, from the disk, into another node. */
#include "btree/bset_private.h"

#include "util/errcode.h"
#include "util/printbuf.h"

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

	memcpy(dst, k, u64s * 8);
	out->u64s = u64s;
	if (to_disk)
		out->needs_whiteout = 0;
	return dst + u64s;
}

/* A set being merged: its keys from k to end are still to come. */
struct merge_set {
	const struct bset_tree *t;
	struct bkey_packed *k, *end;
};

/* Keys of @m before @stop, which is one of them or its end. */
static u64 *emit_run(const struct btree_keys *b, u64 *dst, struct merge_set *m,
		     const struct bkey_packed *stop, bool to_disk)
{
	if (!to_disk && m->t->live_u64s == bset_u64s(m->t)) {
		size_t u64s = (const u64 *)stop - (const u64 *)m->k;

		memcpy(dst, m->k, u64s * 8);
		m->k = bset_idx_to_key(b, bset_key_to_idx(b, stop));
		return dst + u64s;
	}
	while (m->k < stop) {
		dst = emit(b, dst, m->k, to_disk);
		m->k = skip_garbage(bkeyp_next(m->k), m->end);
	}
	return dst;
}

/*
 * Live keys and whiteouts of sets [first, first + nr), of which no two are at one
 * position, in order. Deleted keys of written sets have no needs_whiteout. Where one set
 * has far more keys than the others, it is searched for the next of theirs.
 */
static u32 merge_sets(const struct btree_keys *b, unsigned first, unsigned nr, u64 *dst,
		      bool to_disk)
{
	struct merge_set m[MAX_BSETS];
	u64 *start = dst;
	unsigned live = 0;

	for (unsigned i = first; i < first + nr; i++) {
		m[live].t = &b->set[i];
		m[live].end = bset_last(b, m[live].t);
		m[live].k = skip_garbage(bset_first(b, m[live].t), m[live].end);
		if (m[live].k != m[live].end)
			live++;
	}
	while (live) {
		const struct bkey_packed *stop;
		unsigned best = 0, next = live;

		for (unsigned i = 1; i < live; i++)
			if (bkey_cmp_packed(&b->f, m[i].k, m[best].k) < 0)
				best = i;
		for (unsigned i = 0; i < live; i++)
			if (i != best &&
			    (next == live || bkey_cmp_packed(&b->f, m[i].k, m[next].k) < 0))
				next = i;

		if (next == live) {
			stop = m[best].end;
		} else if (bset_u64s(m[best].t) / 16 > bset_u64s(m[next].t)) {
			struct bset_search_key s;

			struct bpos pos = bkey_unpack_pos(&b->f, m[next].k);

			bset_search_key_init(&s, b, &pos);
			stop = bset_search(b, m[best].t, &s);
		} else {
			stop = bkeyp_next(m[best].k);
			while (stop != m[best].end && bkey_cmp_packed(&b->f, stop, m[next].k) < 0)
				stop = bkeyp_next(stop);
		}
		dst = emit_run(b, dst, &m[best], stop, to_disk);
		if (m[best].k == m[best].end)
			m[best] = m[--live];
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

	return cmp ? cmp < 0 : x->src > y->src;
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
			memcpy(b->data + end, k, k->u64s * 8);
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
	memcpy(dst->data + t->end, packed, key_u64s * 8);
	memcpy(dst->data + t->end + key_u64s, s.v, val_u64s * 8);
	t->end += key_u64s + val_u64s;
	return 0;
}

/* The same where the formats are equal. */
static int copy_into(struct btree_keys *dst, struct bset_tree *t, const struct bkey_packed *k)
{
	if (t->end + k->u64s > dst->capacity_u64s)
		return -BCFS_ERR_bset_too_big;
	memcpy(dst->data + t->end, k, k->u64s * 8);
	((struct bkey_packed *)(dst->data + t->end))->needs_whiteout = 0;
	t->end += k->u64s;
	return 0;
}

int btree_keys_sort_into(struct btree_keys *dst, const struct btree_keys *src, struct bpos first,
			 struct bpos last)
{
	bool same = !memcmp(&dst->f.f, &src->f.f, sizeof(dst->f.f));
	bool bounded = !bpos_eq(last, SPOS_MAX);
	struct bset_search_key end;
	struct btree_node_iter it;
	struct bset_tree *t = &dst->set[0];
	struct bkey_packed *k;
	int ret = 0;

	assert(!dst->nr_written && dst->nsets <= 1);
	if (!dst->nsets)
		*t = (struct bset_tree){0};
	for (unsigned i = 0; i < src->nsets; i++)
		t->journal_seq = max(t->journal_seq, src->set[i].journal_seq);
	if (bounded) {
		last = bpos_successor(last);
		bset_search_key_init(&end, src, &last);
	}

	btree_node_iter_init(&it, src, &first);
	for (; (k = btree_node_iter_peek(&it, src)); btree_node_iter_advance(&it, src)) {
		u32 start = t->end;

		if (bounded && !bset_key_before(src, k, &end))
			break;
		ret = same ? copy_into(dst, t, k) : repack_into(dst, t, src, k);
		if (ret)
			break;
		t->live_u64s += t->end - start;
		t->nr_live++;
	}
	if (t->end) {
		dst->nsets = 1;
		bset_build_ro_aux(dst, 0);
	}
	return ret;
}

u32 btree_keys_measure(const struct btree_keys *src, struct bpos first, struct bpos last,
		       struct bkey_format_state *s)
{
	struct btree_node_iter it;
	struct bkey_packed *k;
	u32 u64s = 0;

	btree_node_iter_init(&it, src, &first);
	for (; (k = btree_node_iter_peek(&it, src)); btree_node_iter_advance(&it, src)) {
		struct bkey u = bkey_unpack_key(&src->f, k);

		if (bpos_gt(u.p, last))
			break;
		if (s)
			bkey_format_add_key(s, &u);
		u64s += k->u64s;
	}
	return u64s;
}

u32 btree_keys_packed_u64s(const struct btree_keys *src, struct bpos first, struct bpos last,
			   const struct bkey_format *fmt)
{
	struct bkey_format_fast f;
	struct btree_node_iter it;
	struct bkey_packed *k;
	u32 u64s = 0;

	if (!fmt)
		return btree_keys_measure(src, first, last, NULL);
	bkey_format_fast_init(&f, fmt);
	btree_node_iter_init(&it, src, &first);
	for (; (k = btree_node_iter_peek(&it, src)); btree_node_iter_advance(&it, src)) {
		struct bkey u = bkey_unpack_key(&src->f, k);
		u64 packed[BKEY_U64s];

		if (bpos_gt(u.p, last))
			break;
		u64s += bkey_val_u64s(&u);
		u64s += bkey_pack_key((struct bkey_packed *)packed, &u, &f) ? fmt->key_u64s
									    : BKEY_U64s;
	}
	return u64s;
}
