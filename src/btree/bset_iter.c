/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The merged view of a node's sets: iterator and lookup. */
#include "btree/bset_private.h"

static inline bool iter_before(const struct btree_keys *b, const struct btree_node_iter_set *l,
			       const struct btree_node_iter_set *r)
{
	if (l->k == l->end || r->k == r->end)
		return l->k != l->end;
	return bkey_cmp_packed(&b->f, bset_idx_to_key(b, l->k), bset_idx_to_key(b, r->k)) <= 0;
}

static inline void iter_sort_two(struct btree_node_iter *it, const struct btree_keys *b, unsigned i)
{
	if (!iter_before(b, &it->data[i], &it->data[i + 1]))
		swap(it->data[i], it->data[i + 1]);
}

/* The first set's key has changed: put it in its place. */
static inline void iter_sift(struct btree_node_iter *it, const struct btree_keys *b)
{
	if (it->data[1].end) {
		iter_sort_two(it, b, 0);
		if (it->data[2].end)
			iter_sort_two(it, b, 1);
	}
}

static inline void iter_sort(struct btree_node_iter *it, const struct btree_keys *b)
{
	iter_sift(it, b);
	if (it->data[1].end)
		iter_sort_two(it, b, 0);
}

/* Sets without keys are left out: their entries have end 0. */
void btree_node_iter_init(struct btree_node_iter *it, const struct btree_keys *b,
			  const struct bpos *search, struct btree_keys_place *place)
{
	struct bset_search_key s;
	unsigned nr = 0;

	for (unsigned i = 0; i < b->nsets; i++)
		bset_prefetch(b, &b->set[i]);
	bset_search_key_init(&s, b, search);
	*it = (struct btree_node_iter){0};
	for (unsigned i = 0; i < b->nsets; i++) {
		const struct bset_tree *t = &b->set[i];

		if (place)
			place->k[i] = t->start;
		if (t->start == t->end)
			continue;
		it->data[nr].k = bset_key_to_idx(b, bset_search(b, t, &s));
		if (place)
			place->k[i] = it->data[nr].k;
		it->data[nr++].end = t->end;
	}
	iter_sort(it, b);
}

void btree_node_iter_init_start(struct btree_node_iter *it, const struct btree_keys *b)
{
	unsigned nr = 0;

	*it = (struct btree_node_iter){0};
	for (unsigned i = 0; i < b->nsets; i++)
		if (b->set[i].start != b->set[i].end) {
			it->data[nr].k = b->set[i].start;
			it->data[nr++].end = b->set[i].end;
		}
	iter_sort(it, b);
}

static inline void iter_step(struct btree_node_iter *it, const struct btree_keys *b)
{
	it->data[0].k += bset_idx_to_key(b, it->data[0].k)->u64s;
	iter_sift(it, b);
}

struct bkey_packed *btree_node_iter_peek(struct btree_node_iter *it, const struct btree_keys *b)
{
	while (it->data[0].k != it->data[0].end) {
		struct bkey_packed *k = bset_idx_to_key(b, it->data[0].k);

		if (likely(bkeyp_is_live(k)))
			return k;
		iter_step(it, b);
	}
	return NULL;
}

void btree_node_iter_advance(struct btree_node_iter *it, const struct btree_keys *b)
{
	if (btree_node_iter_peek(it, b))
		iter_step(it, b);
}

struct bkey_packed *btree_node_iter_prev(struct btree_node_iter *it, const struct btree_keys *b)
{
	struct btree_node_iter n = *it;
	struct bkey_packed *prev[MAX_BSETS] = {NULL}, *k;
	int best;

	for (unsigned i = 0; i < MAX_BSETS && n.data[i].end; i++)
		for (unsigned j = 0; j < b->nsets; j++)
			if (b->set[j].end == n.data[i].end && b->set[j].start != b->set[j].end)
				prev[i] = bset_prev_key(b, &b->set[j],
							bset_idx_to_key(b, n.data[i].k));

	while (true) {
		const struct bset_tree *t = b->set;

		best = -1;
		for (int i = 0; i < MAX_BSETS; i++)
			if (prev[i] &&
			    (best < 0 || bkey_cmp_packed(&b->f, prev[i], prev[best]) > 0))
				best = i;
		if (best < 0)
			return NULL;

		k = prev[best];
		n.data[best].k = bset_key_to_idx(b, k);
		if (bkeyp_is_live(k))
			break;
		while (t->end != n.data[best].end || t->start == t->end)
			t++;
		prev[best] = bset_prev_key(b, t, k);
	}

	/* In front of every other set's key, at most equal to a deleted one. */
	for (; best; best--)
		swap(n.data[best], n.data[best - 1]);
	for (unsigned i = 1; i + 1 < MAX_BSETS; i++)
		if (n.data[i + 1].end)
			iter_sort_two(&n, b, i);
	*it = n;
	return k;
}

void btree_keys_find(const struct btree_keys *b, struct bpos pos, struct btree_keys_place *place)
{
	struct bset_search_key s;

	for (unsigned i = 0; i < b->nsets; i++)
		bset_prefetch(b, &b->set[i]);
	bset_search_key_init(&s, b, &pos);
	for (unsigned i = 0; i < b->nsets; i++) {
		const struct bset_tree *t = &b->set[i];

		place->k[i] =
			t->start == t->end ? t->start : bset_key_to_idx(b, bset_search(b, t, &s));
	}
}

struct bkey_packed *btree_keys_at(const struct btree_keys *b, struct bpos pos,
				  const struct btree_keys_place *place)
{
	for (int i = b->nsets - 1; i >= 0; i--) {
		struct bkey_packed *k = bset_idx_to_key(b, place->k[i]);

		if (place->k[i] != b->set[i].end && bkeyp_is_live(k) &&
		    bpos_eq(bkey_unpack_pos(&b->f, k), pos))
			return k;
	}
	return NULL;
}

struct bkey_packed *btree_keys_lookup(const struct btree_keys *b, struct bpos pos)
{
	struct btree_keys_place place;

	btree_keys_find(b, pos, &place);
	return btree_keys_at(b, pos, &place);
}
