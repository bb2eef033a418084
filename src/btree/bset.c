/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One set of keys: its auxiliary tree or table, searching it, stepping back in it. */
#include "btree/bset_private.h"

#include "util/eytzinger.h"
#include "util/planted.h"

#include <string.h>

/* Aux space a set takes at most, tree of so many entries / table. */
static size_t ro_aux_bytes(size_t nr)
{
	return round_up(sizeof(struct bset_ro_aux) + (nr + 1) * sizeof(struct bkey_float),
			(size_t)BSET_CACHELINE);
}

size_t btree_keys_aux_bytes(size_t data_bytes)
{
	return ro_aux_bytes(data_bytes / BSET_CACHELINE + MAX_BSETS) +
	       (MAX_BSETS - 1) * ro_aux_bytes(1) + RW_AUX_MAX * sizeof(u16) + 2 * BSET_CACHELINE;
}

void btree_keys_init(struct btree_keys *b, u64 *data, u8 *aux, u32 capacity_u64s,
		     const struct bkey_format *f)
{
	memset(b, 0, sizeof(*b));
	bkey_format_fast_init(&b->f, f);
	b->data = data;
	b->aux = aux;
	b->capacity_u64s = capacity_u64s;
}

/* Searching: the prepared key */

/* Positions of more than 128 bits. */
void bset_search_key_3(struct bset_search_key *s, const struct bkey_format_fast *f, const u64 v[3],
		       bool exact)
{
	unsigned below = f->f.bits_per_field[1] + f->f.bits_per_field[2], sh = f->pos_shift;
	unsigned __int128 low = (unsigned __int128)v[1] << f->f.bits_per_field[2] | v[2];

	low |= (unsigned __int128)v[0] << below;
	s->bits[0] = low;
	s->bits[1] = low >> 64;
	s->bits[2] = v[0] >> (128 - below);

	s->limit[2] = s->bits[0] << sh;
	s->limit[1] = low << sh >> 64;
	s->limit[0] = s->bits[2] << sh | s->bits[1] >> 1 >> (63 - sh);
	s->packed = true;
	if (!exact)
		s->limit[2] |= low_bits_mask(sh);
	else if (!s->limit[2]-- && !s->limit[1]-- && !s->limit[0]--)
		s->packed = false; /* nothing is less */
}

/* A packed key's position bits. */
static void position_bits(const struct bkey_format_fast *f, const u64 *words, u64 *bits)
{
	const u64 *w = words + f->f.key_u64s - f->cmp_words;
	unsigned nr = f->cmp_words, sh = f->pos_shift;

	for (unsigned i = 0; i < 3; i++)
		bits[i] = 0;
	for (unsigned i = 0; i < nr; i++) {
		bits[i] = w[i] >> sh;
		if (sh && i + 1 < nr)
			bits[i] |= w[i + 1] << (64 - sh);
	}
}

/* Position bits: three words, lowest first */

static inline int bits_cmp(const u64 *l, const u64 *r, int words)
{
	for (int i = words - 1; i >= 0; i--)
		if (l[i] != r[i])
			return l[i] < r[i] ? -1 : 1;
	return 0;
}

/* Highest differing bit, or -1. */
static int bits_differ(const u64 *l, const u64 *r)
{
	for (int i = 2; i >= 0; i--)
		if (l[i] != r[i])
			return i * 64 + (int)fls64(l[i] ^ r[i]) - 1;
	return -1;
}

static inline u16 bits_mantissa(const u64 *bits, unsigned exponent)
{
	unsigned w = exponent / 64, sh = exponent % 64;

	return bits[w] >> sh | bits[w + 1] << 1 << (63 - sh);
}

/* A key's position bits, rounded down if it is not packed; true if they are exact. */
static bool key_bits(const struct btree_keys *b, const struct bkey_packed *k, u64 *bits)
{
	u64 words[BKEY_U64s];
	enum bkey_pack_pos_ret ret;

	if (likely(k->format == BKEY_FORMAT_LOCAL)) {
		position_bits(&b->f, (const u64 *)k, bits);
		return true;
	}
	ret = bkey_pack_pos_lossy((struct bkey_packed *)words, bkey_unpack_pos(&b->f, k), &b->f);
	if (ret == BKEY_PACK_POS_FAIL)
		memset(bits, 0, 3 * sizeof(*bits));
	else
		position_bits(&b->f, words, bits);
	return ret == BKEY_PACK_POS_EXACT;
}

/* Building the tree of a constant set */

struct aux_build {
	struct btree_keys *b;
	struct bset_tree *t;
	struct bset_ro_aux *aux;
};

static u32 rank_idx(const struct bset_tree *t, const struct bset_ro_aux *aux, unsigned rank)
{
	return bset_ro_idx(t, aux, inorder_to_eytzinger1_(rank, t->aux_nr, t->aux_extra), rank);
}

/* The key before the one at @idx, which lies behind the set's start. */
static u32 ro_prev_idx(const struct btree_keys *b, const struct bset_tree *t, u32 idx)
{
	const struct bset_ro_aux *aux = bset_ro_aux(b, t);
	unsigned rank = min(idx / LINE_U64S - t->start / LINE_U64S, t->aux_nr);
	u32 p = t->start, next;

	for (; rank; rank--) {
		u32 i = rank_idx(t, aux, rank);

		if (i < idx) {
			p = i;
			break;
		}
	}
	while ((next = p + bset_idx_to_key(b, p)->u64s) < idx)
		p = next;
	return p;
}

/*
 * Make entry @n tell the keys before @idx from those from it on, given that what is
 * searched for lies in [l, r]: the mantissa must begin at or above the first bit in
 * which l and r differ and reach down to where @idx differs from the key before it.
 */
static bool make_float(struct bkey_float *f, const u64 *m, const u64 *p, const u64 *l, const u64 *r)
{
	int exponent = max(bits_differ(l, r) - 15, 0);

	if (bits_differ(p, m) < exponent - planted(mantissa_too_short) || bits_cmp(p, m, 3) > 0)
		return false;
	f->exponent = exponent;
	f->mantissa = bits_mantissa(m, exponent);
	return true;
}

/* What is searched for below an entry: position bits that bound it, and the ancestors' keys. */
struct aux_range {
	u64 l[4], r[4];
	u32 l_idx, r_idx;
};

/*
 * Lines that an entry's key may lie behind its own line when no nearer key works out: a
 * sixteenth of those below the entry, so that few searches have further to walk; but one, if there
 * are any: to walk it costs less than to compare with a key in each search that comes by.
 */
static u32 entry_slack(const struct aux_build *a, unsigned n)
{
	u32 below = 1U << (fls32(a->t->aux_nr) - fls32(n));

	return min(max(below / 16, below > 1 ? 1U : 0), 255U / LINE_U64S - 1) * LINE_U64S;
}

/*
 * The entry's key is the first of its line, or else the next one for which there is
 * a mantissa: in a run of keys that is much denser than their neighbourhood (a file's extents)
 * that is the first key behind the run. Entries of lines that are skipped over
 * that way lead to the same key.
 */
static void build_entry(struct aux_build *a, unsigned n, const struct aux_range *range)
{
	const struct btree_keys *b = a->b;
	struct bkey_float *f = &a->aux->tree[n];
	unsigned rank = eytzinger1_to_inorder_(n, a->t->aux_nr, a->t->aux_extra);
	u32 line = (a->t->start / LINE_U64S + rank) * LINE_U64S;
	u32 idx = max(line + f->key_offset, range->l_idx), first = idx;
	u32 end = min(line + LINE_U64S + entry_slack(a, n), range->r_idx);
	struct aux_range left = *range, right = *range;
	u64 m[4] = {0}, p[4] = {0};
	bool exact;

	key_bits(b, bset_idx_to_key(b, ro_prev_idx(b, a->t, idx)), p);
	exact = key_bits(b, bset_idx_to_key(b, idx), m);
	memcpy(left.r, m, sizeof(m));
	memcpy(right.l, p, sizeof(p));

	if (idx == range->l_idx) {
		/* the left ancestor's key again: to its right already */
		f->exponent = f->mantissa = 0;
	} else {
		while (!exact || !make_float(f, m, p, range->l, range->r)) {
			idx += bset_idx_to_key(b, idx)->u64s;
			if (idx >= end) {
				idx = first;
				f->exponent = BFLOAT_FAILED;
				f->mantissa = 0;
				break;
			}
			memcpy(p, m, sizeof(p));
			exact = key_bits(b, bset_idx_to_key(b, idx), m);
		}
		if (idx != first) {
			memcpy(left.r, m, sizeof(m));
			memcpy(right.l, p, sizeof(p));
		}
	}
	f->key_offset = idx - line;

	/* to the left is < m, to the right > p */
	left.r_idx = right.l_idx = idx;
	if (n * 2 <= a->t->aux_nr)
		build_entry(a, n * 2, &left);
	if (n * 2 + 1 <= a->t->aux_nr)
		build_entry(a, n * 2 + 1, &right);
}

static u32 aux_end(const struct btree_keys *b, unsigned i)
{
	const struct bset_tree *t = &b->set[i];
	size_t bytes =
		t->aux_type == BSET_RW_AUX ? RW_AUX_MAX * sizeof(u16) : ro_aux_bytes(t->aux_nr);

	return t->aux_start + bytes;
}

/* The start of set @i's aux space: on a cache line in memory, wherever the buffer begins. */
static u32 aux_begin(const struct btree_keys *b, unsigned i)
{
	uintptr_t base = (uintptr_t)b->aux;

	return round_up(base + (i ? aux_end(b, i - 1) : 0), (uintptr_t)BSET_CACHELINE) - base;
}

void bset_build_ro_aux(struct btree_keys *b, unsigned i)
{
	struct bset_tree *t = &b->set[i];
	u32 base = t->start / LINE_U64S, idx, last = t->start, before_last = t->start;
	struct aux_build a = {.b = b, .t = t};
	struct aux_range range = {.l_idx = t->start};
	unsigned rank = 1;

	t->aux_type = BSET_RO_AUX;
	t->aux_start = aux_begin(b, i);
	t->aux_nr = t->aux_extra = 0;
	a.aux = bset_ro_aux(b, t);
	memset(a.aux, 0, sizeof(*a.aux) + sizeof(a.aux->tree[0]));
	if (t->start == t->end)
		return;

	for (idx = t->start; idx < t->end; idx += bset_idx_to_key(b, idx)->u64s) {
		before_last = last;
		last = idx;
	}
	key_bits(b, bset_first(b, t), a.aux->first);
	key_bits(b, bset_idx_to_key(b, before_last), a.aux->last);
	a.aux->last_idx = last;
	range.r_idx = last;

	t->aux_nr = before_last / LINE_U64S - base;
	if (!t->aux_nr)
		return;
	t->aux_extra = eytzinger1_extra(t->aux_nr);
	for (idx = t->start; idx < t->end; idx += bset_idx_to_key(b, idx)->u64s)
		for (; rank <= t->aux_nr && (base + rank) * LINE_U64S <= idx; rank++)
			a.aux->tree[inorder_to_eytzinger1_(rank, t->aux_nr, t->aux_extra)]
				.key_offset = idx - (base + rank) * LINE_U64S;
	memcpy(range.l, a.aux->first, sizeof(a.aux->first));
	memcpy(range.r, a.aux->last, sizeof(a.aux->last));
	build_entry(&a, 1, &range);
}

/* The table of the set being inserted into */

/* How far apart the table's entries are to be in a set so large: it gets three quarters full. */
static u32 rw_spacing(u32 u64s)
{
	u32 spacing = LINE_U64S;

	while (u64s / spacing > RW_AUX_MAX / 4 * 3)
		spacing *= 2;
	return spacing;
}

void bset_build_rw_aux(struct btree_keys *b, unsigned i)
{
	struct bset_tree *t = &b->set[i];
	u32 spacing = rw_spacing(bset_u64s(t));
	u16 *off;

	if (t->aux_type != BSET_RW_AUX) {
		t->aux_type = BSET_RW_AUX;
		t->aux_start = aux_begin(b, i);
	}
	off = bset_rw_aux(b, t);
	t->aux_nr = t->aux_extra = 0;
	t->appended = false;
	for (u32 idx = t->start; idx < t->end; idx += bset_idx_to_key(b, idx)->u64s)
		if (!t->aux_nr || idx - t->start >= off[t->aux_nr - 1] + spacing)
			off[t->aux_nr++] = idx - t->start;
}

/* Halve the gap behind entry @e if it has grown too wide. */
static void rw_aux_split(struct btree_keys *b, struct bset_tree *t, unsigned e)
{
	u16 *off = bset_rw_aux(b, t);
	u32 from = off[e], to = e + 1 < t->aux_nr ? off[e + 1] : bset_u64s(t), k = from;

	if (to - from <= 2 * rw_spacing(bset_u64s(t)))
		return;
	if (t->aux_nr == RW_AUX_MAX) {
		bset_build_rw_aux(b, t - b->set);
		return;
	}
	while (k < from + (to - from) / 2)
		k += bset_idx_to_key(b, t->start + k)->u64s;
	if (k >= to)
		return;
	memmove(off + e + 2, off + e + 1, (t->aux_nr - e - 1) * sizeof(*off));
	off[e + 1] = k;
	t->aux_nr++;
}

void bset_rw_aux_fix(struct btree_keys *b, struct bset_tree *t, u32 at, u32 old_u64s, u32 new_u64s)
{
	u16 *off = bset_rw_aux(b, t);
	u32 delta = new_u64s - old_u64s;
	/* a key put in front of one that has an entry: the entry stays with its key */
	u32 from = old_u64s ? at + 1 : max(at, 1U);
	unsigned e, nr = t->aux_nr;

	if (!nr) {
		off[0] = 0;
		t->aux_nr = 1;
		return;
	}
	if (!old_u64s && at + new_u64s == bset_u64s(t)) {
		if (at < off[nr - 1] + rw_spacing(at))
			return;
		if (nr == RW_AUX_MAX)
			bset_build_rw_aux(b, t - b->set);
		else
			off[t->aux_nr++] = at;
		return;
	}
	for (e = nr; e && off[e - 1] >= from; e--)
		off[e - 1] += delta;
	/* e: the first entry moved; the one before it is the last at or before the change */
	e--;
	if (!new_u64s && off[e] == at && (e + 1 < nr ? off[e + 1] == at : at == bset_u64s(t))) {
		memmove(off + e, off + e + 1, (nr - e - 1) * sizeof(*off));
		t->aux_nr--;
		return;
	}
	rw_aux_split(b, t, e);
}

struct bset_tree *bset_new_rw(struct btree_keys *b)
{
	struct bset_tree *t = &b->set[b->nsets];

	assert(b->nsets < MAX_BSETS);
	*t = (struct bset_tree){.start = btree_keys_used_u64s(b), .end = btree_keys_used_u64s(b)};
	b->nsets++;
	bset_build_rw_aux(b, b->nsets - 1);
	return t;
}

/* Searching */

static __attribute__((noinline)) u32 search_linear_slow(const struct btree_keys *b,
							const struct bset_tree *t, u32 idx,
							const struct bset_search_key *s)
{
	while (idx < t->end && bset_key_before(b, bset_idx_to_key(b, idx), s))
		idx += bset_idx_to_key(b, idx)->u64s;
	return idx;
}

/* From @idx on, whose key is mostly near. @words: as in descend_one(). */
static inline __attribute__((always_inline)) u32
search_linear_words(const struct btree_keys *b, const struct bset_tree *t, u32 idx,
		    const struct bset_search_key *s, unsigned words)
{
	const u64 *data = b->data;
	u32 top = b->f.f.key_u64s - 1, end = t->end;
	u64 limit = s->limit[0];
	unsigned __int128 limit2 = (unsigned __int128)limit << 64 | s->limit[1];

	while (idx < end) {
		const struct bkey_packed *k = (const struct bkey_packed *)(data + idx);

		if (unlikely(k->format != BKEY_FORMAT_LOCAL)) {
			if (!bpos_lt(((const struct bkey *)k)->p, *s->pos))
				break;
		} else if (words == 1) {
			if (data[idx + top] > limit)
				break;
		} else {
			if (((unsigned __int128)data[idx + top] << 64 | data[idx + top - 1]) >
			    limit2)
				break;
		}
		idx += k->u64s;
	}
	return idx;
}

static inline struct bkey_packed *search_linear(const struct btree_keys *b,
						const struct bset_tree *t, u32 idx,
						const struct bset_search_key *s)
{
	if (unlikely(!s->packed || b->f.cmp_words == 3))
		idx = search_linear_slow(b, t, idx, s);
	else if (b->f.cmp_words == 1)
		idx = search_linear_words(b, t, idx, s, 1);
	else
		idx = search_linear_words(b, t, idx, s, 2);
	return bset_idx_to_key(b, idx);
}

static u32 search_rw(const struct btree_keys *b, const struct bset_tree *t,
		     const struct bset_search_key *s)
{
	const u16 *off = bset_rw_aux(b, t);
	unsigned l = 0, nr = t->aux_nr;

	/* the last entry whose key lies before the position, else the first */
	while (nr > 1) {
		unsigned half = nr / 2;

		if (bset_key_before(b, bset_idx_to_key(b, t->start + off[l + half]), s))
			l += half;
		nr -= half;
	}
	return t->start + (t->aux_nr ? off[l] : 0);
}

/* Is the entry's key at or before the position? For entries without a mantissa. */
static __attribute__((noinline)) bool entry_full_cmp(const struct btree_keys *b,
						     const struct bset_tree *t,
						     const struct bset_ro_aux *aux, unsigned n,
						     const struct bset_search_key *s)
{
	unsigned rank = eytzinger1_to_inorder_(n, t->aux_nr, t->aux_extra);

	/* strictly before will do: a key at the position is then found from its left */
	return bset_key_before(b, bset_idx_to_key(b, bset_ro_idx(t, aux, n, rank)), s);
}

/* One step down. @words of position bits are in use: 1, 2 or 3, known when compiled. */
static inline __attribute__((always_inline)) unsigned
descend_one(const struct btree_keys *b, const struct bset_tree *t, const struct bset_ro_aux *aux,
	    const struct bset_search_key *s, unsigned words, unsigned n)
{
	struct bkey_float f = aux->tree[n];
	u16 m;

	if (unlikely(f.exponent == BFLOAT_FAILED))
		return n * 2 + entry_full_cmp(b, t, aux, n, s);
	if (words == 1)
		m = s->bits[0] >> f.exponent;
	else if (words == 2) /* a shift of 128 bits would make each step wait longer */
		m = f.exponent & 64
			    ? s->bits[1] >> (f.exponent & 63)
			    : s->bits[0] >> f.exponent | s->bits[1] << 1 << (~f.exponent & 63);
	else
		m = bits_mantissa(s->bits, f.exponent);
	return n * 2 + (m >= f.mantissa);
}

/*
 * From the root to below a leaf. Cold, this costs a cache miss every four or five levels,
 * with the entries of the levels to come being fetched ahead (the sixteen
 * great-great-grandchildren of an entry share a line). While the last of these is under way
 * the key's line is: the three last levels leave no more than eight of them.
 */
static inline __attribute__((always_inline)) unsigned
descend(const struct btree_keys *b, const struct bset_tree *t, const struct bset_ro_aux *aux,
	const struct bset_search_key *s, unsigned words)
{
	unsigned n = 1, nr = t->aux_nr, rank;
	const char *line;

	while (n <= nr / 16) {
		__builtin_prefetch(&aux->tree[n * 16]);
		n = descend_one(b, t, aux, s, words, n);
	}
	if (n <= nr / 8)
		n = descend_one(b, t, aux, s, words, n);
	rank = eytzinger1_to_inorder_(n, nr, t->aux_extra);
	line = (const char *)(b->data + (t->start / LINE_U64S + rank) * LINE_U64S);
	for (int i = -4; i < 5; i++)
		__builtin_prefetch(line + i * BSET_CACHELINE);
	while (n <= nr)
		n = descend_one(b, t, aux, s, words, n);
	return n;
}

/* A place at or before the first key >= the position, less than a few keys away. */
static u32 search_ro(const struct btree_keys *b, const struct bset_tree *t,
		     const struct bset_search_key *s)
{
	const struct bset_ro_aux *aux = bset_ro_aux(b, t);
	unsigned n = 1;

	if (!t->aux_nr)
		return t->start;
	__builtin_prefetch(&aux->tree[0]);
	__builtin_prefetch(&aux->tree[16]);
	if (unlikely(!s->packed)) {
		while (n <= t->aux_nr)
			n = n * 2 + entry_full_cmp(b, t, aux, n, s);
	} else if (b->f.cmp_words == 1) {
		if (s->bits[0] < aux->first[0])
			return t->start;
		if (s->bits[0] > aux->last[0])
			return aux->last_idx;
		n = descend(b, t, aux, s, 1);
	} else if (b->f.cmp_words == 2) {
		if (bits_cmp(s->bits, aux->first, 2) < 0)
			return t->start;
		if (bits_cmp(s->bits, aux->last, 2) > 0)
			return aux->last_idx;
		n = descend(b, t, aux, s, 2);
	} else {
		if (bits_cmp(s->bits, aux->first, 3) < 0)
			return t->start;
		if (bits_cmp(s->bits, aux->last, 3) > 0)
			return aux->last_idx;
		n = descend(b, t, aux, s, 3);
	}

	/* back up to the last entry left by the right: drop the left turns and that one */
	n >>= __builtin_ctz(n) + 1;
	if (!n)
		return t->start;
	return bset_ro_idx(t, aux, n, eytzinger1_to_inorder_(n, t->aux_nr, t->aux_extra));
}

struct bkey_packed *bset_search(const struct btree_keys *b, const struct bset_tree *t,
				const struct bset_search_key *s)
{
	u32 idx = t->aux_type == BSET_RO_AUX ? search_ro(b, t, s) : search_rw(b, t, s);

	return search_linear(b, t, idx, s);
}

void btree_keys_prefetch(const struct btree_keys *b)
{
	for (unsigned i = 0; i < b->nsets; i++) {
		const struct bset_tree *t = &b->set[i];
		u32 quarter = bset_u64s(t) / 4;

		bset_prefetch(b, t);
		/* roughly where a bisection looks first */
		for (u32 j = 1; t->aux_type == BSET_RW_AUX && j < 4; j++)
			__builtin_prefetch(b->data + t->start + j * quarter);
	}
}

struct bkey_packed *bset_prev_key(const struct btree_keys *b, const struct bset_tree *t,
				  const struct bkey_packed *k)
{
	u32 idx = bset_key_to_idx(b, k), p = t->start, next;

	if (idx <= t->start)
		return NULL;
	if (t->aux_type == BSET_RO_AUX)
		return bset_idx_to_key(b, ro_prev_idx(b, t, idx));

	const u16 *off = bset_rw_aux(b, t);
	unsigned l = 0, nr = t->aux_nr;

	while (nr > 1) {
		unsigned half = nr / 2;

		if (t->start + off[l + half] < idx)
			l += half;
		nr -= half;
	}
	p += off[l];
	while ((next = p + bset_idx_to_key(b, p)->u64s) < idx)
		p = next;
	return bset_idx_to_key(b, p);
}

/* The same search without the set's own tree: by bisection of its cache lines. */
static u32 search_binary(const struct btree_keys *b, const struct bset_tree *t,
			 const struct bset_search_key *s)
{
	unsigned l = 0, nr = t->aux_nr + 1;

	if (t->aux_type != BSET_RO_AUX)
		return search_rw(b, t, s);
	while (nr > 1) {
		unsigned half = nr / 2;

		if (bset_key_before(b, bset_idx_to_key(b, rank_idx(t, bset_ro_aux(b, t), l + half)),
				    s))
			l += half;
		nr -= half;
	}
	return l ? rank_idx(t, bset_ro_aux(b, t), l) : t->start;
}

struct bkey_packed *bset_search_with(const struct btree_keys *b, const struct bset_tree *t,
				     struct bpos search, enum bset_search_method m)
{
	struct bset_search_key s;
	u32 idx = t->start;

	if (m == BSET_SEARCH_AUX)
		bset_prefetch(b, t); /* as node iterators do */
	bset_search_key_init(&s, b, &search);
	if (m == BSET_SEARCH_AUX)
		return bset_search(b, t, &s);
	if (m == BSET_SEARCH_BINARY)
		idx = search_binary(b, t, &s);
	return search_linear(b, t, idx, &s);
}
