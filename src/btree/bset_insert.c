/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changing a node's keys: insert, and the life of a set from being inserted into, to
 * frozen, to written.
 *
 * How many sets: the one being inserted into is frozen at BSET_RW_MAX_BYTES, or, while keys come
 * in order and only ever behind its last, when it takes half the buffer. When
 * there is no slot for its successor, sets of a kind are merged - unwritten ones
 * with unwritten ones, written with written - the small ones at the end first, and
 * with the big one in front of them only when they have grown to a quarter of it, so
 * that a key is moved a logarithmic number of times.
 */
#include "btree/bset_private.h"
#include "util/copy.h"
#include "util/planted.h"

#include <string.h>

u32 btree_keys_live_u64s(const struct btree_keys *b)
{
	u32 u64s = 0;

	for (unsigned i = 0; i < b->nsets; i++)
		u64s += b->set[i].live_u64s;
	return u64s;
}

u32 btree_keys_unwritten_u64s(const struct btree_keys *b)
{
	u32 u64s = 0;

	for (unsigned i = b->nr_written; i < b->nsets; i++)
		u64s += b->set[i].live_u64s + b->set[i].whiteout_u64s;
	return u64s;
}

u64 btree_keys_unwritten_seq(const struct btree_keys *b)
{
	u64 seq = 0;

	for (unsigned i = b->nr_written; i < b->nsets; i++)
		seq = max(seq, b->set[i].journal_seq);
	return seq;
}

/* Sets */

static bool mergeable(const struct btree_keys *b, unsigned first)
{
	return bset_u64s(&b->set[first + 1]) >= bset_u64s(&b->set[first]) / 4;
}

void bset_make_slot(struct btree_keys *b, u64 *scratch)
{
	if (b->nsets == MAX_BSETS) {
		if (b->nsets - b->nr_written >= 2) {
			bset_merge(b, b->nsets - 2, 2, scratch);
			if (!b->nr_written && b->nsets == 2 && mergeable(b, 0))
				bset_merge(b, 0, 2, scratch);
		} else {
			bset_merge(b, 0, b->nr_written, scratch);
		}
	}
	if (b->nsets && b->set[b->nsets - 1].aux_type == BSET_RW_AUX)
		bset_build_ro_aux(b, b->nsets - 1);
}

/* All garbage goes; at most one written and one unwritten set stay. */
static void compact_all(struct btree_keys *b, u64 *scratch)
{
	if (b->nr_written)
		bset_merge(b, 0, b->nr_written, scratch);
	if (b->nsets > b->nr_written)
		bset_merge(b, b->nr_written, b->nsets - b->nr_written, scratch);
}

/* Does the position lie behind the last key of the set being inserted into? False: not known. */
static bool goes_last(const struct btree_keys *b, const struct bset_tree *t,
		      const struct bset_search_key *s)
{
	return t->appended && bset_key_before(b, bset_idx_to_key(b, t->start + t->last_key), s);
}

/* Offsets in the table are 16 bits. */
static bool may_grow(const struct btree_keys *b, const struct bset_tree *t, u32 u64s,
		     const struct bset_search_key *s)
{
	u32 max_u64s = min(b->capacity_u64s / 2, (u32)UINT16_MAX / 2);

	u64s += bset_u64s(t);
	return t->start == t->end || u64s <= RW_MAX_U64s ||
	       (u64s <= max_u64s && goes_last(b, t, s));
}

/* The set to insert a key of so many u64s into. @moved: keys may have got other places. */
static struct bset_tree *insert_set(struct btree_keys *b, u32 u64s, const struct bset_search_key *s,
				    u64 *scratch, bool *moved)
{
	struct bset_tree *t = b->nsets > b->nr_written ? &b->set[b->nsets - 1] : NULL;

	*moved = true;
	if (btree_keys_used_u64s(b) + u64s > b->capacity_u64s) {
		compact_all(b, scratch);
		assert(btree_keys_used_u64s(b) + u64s <= b->capacity_u64s);
		return bset_new_rw(b);
	}
	if (t && t->aux_type == BSET_RW_AUX && may_grow(b, t, u64s, s)) {
		*moved = false;
		return t;
	}
	bset_make_slot(b, scratch);
	return bset_new_rw(b);
}

bool btree_keys_freeze(struct btree_keys *b, u64 *scratch)
{
	unsigned nr = b->nsets - b->nr_written;

	if (!btree_keys_unwritten_u64s(b)) {
		b->nsets = b->nr_written;
		return false;
	}
	if (nr > 1)
		bset_merge(b, b->nr_written, nr, scratch);
	else if (b->set[b->nr_written].aux_type != BSET_RO_AUX)
		bset_build_ro_aux(b, b->nr_written);
	return true;
}

void btree_keys_mark_written(struct btree_keys *b, u64 *scratch)
{
	struct bset_tree *t = &b->set[b->nr_written];

	if (b->nsets == b->nr_written)
		return;
	assert(b->nsets == b->nr_written + 1 && t->aux_type == BSET_RO_AUX);

	for (struct bkey_packed *k = bset_first(b, t); k != bset_last(b, t); k = bkeyp_next(k))
		k->needs_whiteout = 0;
	t->whiteout_u64s = 0;
	b->nr_written = b->nsets;

	if (b->nsets == MAX_BSETS)
		bset_merge(b, 1, 2, scratch);
	if (b->nsets == 2 && mergeable(b, 0))
		bset_merge(b, 0, 2, scratch);
	/* mostly garbage */
	if (b->nsets && bset_u64s(b->set) > RW_MAX_U64s &&
	    b->set[0].live_u64s < bset_u64s(b->set) / 2)
		bset_merge(b, 0, 1, scratch);
}

/* Insert */

static void account(struct bset_tree *t, const struct btree_keys *b, const struct bkey_packed *k,
		    int sign)
{
	if (bkeyp_is_live(k)) {
		t->live_u64s += sign * k->u64s;
		t->nr_live += sign;
	} else if (bkeyp_is_whiteout(k)) {
		t->whiteout_u64s += sign * (int)bkeyp_key_u64s(&b->f, k);
	}
}

/*
 * A new key, or a deletion, supersedes @k of a constant set. Returns true if the new key has
 * to cancel a key on disk; false also if @k itself now does that.
 */
static bool supersede(struct btree_keys *b, struct bset_tree *t, struct bkey_packed *k,
		      bool deleting)
{
	bool written = bset_is_written(b, t), live = bkeyp_is_live(k), nw = k->needs_whiteout;

	if (!live && !nw)
		return false;
	account(t, b, k, -1);
	k->type = KEY_TYPE_deleted;
	if (written)
		return !planted(whiteout_missing);
	if (deleting) {
		account(t, b, k, 1);
		return false;
	}
	k->needs_whiteout = 0;
	return nw && !planted(whiteout_mark_lost);
}

/* Replace @old_u64s at @where in the set being inserted into by a key and its value. */
static void rw_replace(struct btree_keys *b, struct bset_tree *t, struct bkey_packed *where,
		       u32 old_u64s, const u64 *key, u32 key_u64s, const u64 *val, u32 val_u64s)
{
	u32 at = bset_key_to_idx(b, where), new_u64s = key_u64s + val_u64s;
	u64 *p = b->data + at;

	if (old_u64s)
		account(t, b, where, -1);
	if (t->end - at != old_u64s)
		memmove(p + new_u64s, p + old_u64s, (t->end - at - old_u64s) * 8);
	t->end += new_u64s - old_u64s;
	if (new_u64s) {
		copy_few_u64s(p, key, key_u64s);
		copy_u64s(p + key_u64s, val, val_u64s);
		account(t, b, where, 1);
	}
	if (new_u64s != old_u64s)
		bset_rw_aux_fix(b, t, at - t->start, old_u64s, new_u64s);
	t->appended = !old_u64s && at + new_u64s == t->end;
	t->last_key = at - t->start;
}

static struct bkey_packed *key_at(const struct btree_keys *b, const struct bset_tree *t,
				  const struct bset_search_key *s,
				  const struct btree_keys_place *place)
{
	return place ? bset_idx_to_key(b, place->k[t - b->set]) : bset_search(b, t, s);
}

struct bkey_packed *btree_keys_insert(struct btree_keys *b, const struct bkey_i *k, u64 journal_seq,
				      u64 *scratch, const struct btree_keys_place *place)
{
	bool deleting = bkey_deleted(&k->k), nw = false, moved;
	u32 val_u64s = deleting ? 0 : bkey_val_u64s(&k->k), old_u64s = 0;
	struct bset_tree *rw;
	struct bkey key = k->k;
	u64 packed[BKEY_U64s];
	struct bset_search_key s;
	struct bkey_packed *where;

	bset_search_key_init(&s, b, &k->k.p);
	rw = insert_set(b, BKEY_U64s + val_u64s, &s, scratch, &moved);
	if (moved && !planted(place_of_moved))
		place = NULL;
	for (struct bset_tree *t = b->set; t < rw; t++) {
		if (t->start == t->end)
			continue;
		where = key_at(b, t, &s, place);
		if (where != bset_last(b, t) && bpos_eq(bkey_unpack_pos(&b->f, where), key.p))
			nw |= supersede(b, t, where, deleting);
	}
	rw->journal_seq = max(rw->journal_seq, journal_seq);

	where = goes_last(b, rw, &s) ? bset_last(b, rw) : key_at(b, rw, &s, place);
	if (where != bset_last(b, rw) && bpos_eq(bkey_unpack_pos(&b->f, where), key.p)) {
		old_u64s = where->u64s;
		nw |= where->needs_whiteout;
	}

	if (deleting && !nw) {
		if (old_u64s)
			rw_replace(b, rw, where, old_u64s, NULL, 0, NULL, 0);
		return NULL;
	}

	key.format = BKEY_FORMAT_CURRENT;
	key.needs_whiteout = nw;
	key.u64s = BKEY_U64s + val_u64s;
	if (deleting)
		key.size = key.version = 0;
	if (!bkey_pack_key((struct bkey_packed *)packed, &key, &b->f)) {
		memcpy(packed, &key, sizeof(key));
		b->nr_misfits++;
	}
	rw_replace(b, rw, where, old_u64s, packed,
		   bkeyp_key_u64s(&b->f, (struct bkey_packed *)packed), k->v, val_u64s);
	return where;
}
