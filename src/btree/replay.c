// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * After a crash: the journal's keys go back into the nodes, in memory, pinned to the journal
 * entries they came from.
 *
 * Only the newest key of each position is inserted, and only if the node does not have it
 * already; so a node never holds more than it did at the moment of the last entry, which fitted,
 * and nothing needs to be allocated, split or journaled before all keys are in. Interior keys go
 * first, from the top down: when a level is replayed, the levels above already lead to the right
 * nodes. A crash in the middle changes nothing.
 */
#include "btree/btree_private.h"
#include "util/planted.h"

#include <string.h>

struct replay_key {
	const struct bkey_i *k;
	u64 seq;
	u32 order; /* within all, ascending with time */
	u8 id, level;
};

static int replay_cmp(const void *l_, const void *r_)
{
	const struct replay_key *l = l_, *r = r_;

	if (l->id != r->id)
		return cmp_int(l->id, r->id);
	if (l->level != r->level)
		return planted(replay_leaves_first) ? cmp_int(l->level, r->level)
						    : -cmp_int(l->level, r->level);
	int cmp = bpos_cmp(l->k->k.p, r->k->k.p);
	return cmp ?: cmp_int(l->order, r->order);
}

typedef DARRAY(struct replay_key) replay_keys;

static int replay_collect(const struct journal_replay *r, replay_keys *keys)
{
	for (size_t i = 0; i < r->nr; i++) {
		const struct journal_replay_entry *e = &r->entries[i];

		for_each_jset_entry(je, e->j)
		{
			if (je->type != BCFS_JSET_ENTRY_btree_keys || je->btree_id >= BTREE_ID_NR ||
			    (je->level && planted(replay_no_interior)))
				continue;
			for_each_jset_key(k, je)
			{
				struct replay_key rk = {k, e->seq, keys->nr, je->btree_id,
							je->level};
				if (darray_push(keys, rk))
					return -BCFS_ERR_nomem;
			}
		}
	}
	darray_sort(keys, replay_cmp);
	return 0;
}

/* Same as what the node has (sectors_written and all)? */
static bool replay_is_noop(const struct btree *b, const struct bkey_i *k)
{
	struct bkey u;
	struct bkey_packed *p = btree_keys_lookup(&b->keys, k->k.p);

	if (!p)
		return k->k.type == KEY_TYPE_deleted;
	return bkey_s_c_equal(bkey_disassemble(&b->keys.f, p, &u), bkey_i_to_s_c(k));
}

static int replay_one(struct btree_trans *trans, const struct replay_key *rk)
{
	struct btree_fs *c = trans->c;
	struct btree_iter iter;
	struct printbuf err = PRINTBUF;
	int ret;

	btree_iter_init_level(trans, &iter, rk->id, rk->level, rk->k->k.p,
			      BTREE_ITER_INTENT | BTREE_ITER_ALL_SNAPSHOTS |
				      BTREE_ITER_NOT_EXTENTS);
	struct btree *b = btree_iter_peek_node(&iter, &ret);
	if (ret == -BCFS_ERR_btree_no_such_level) {
		/* From a life of the tree when it was higher. */
		ret = 0;
		goto out;
	}
	/* What was journaled before the node was made is in it. */
	if (ret || rk->seq < b->first_seq + planted(replay_first_seq_off) ||
	    replay_is_noop(b, rk->k) ||
	    (planted(replay_skips_edge) && bpos_eq(rk->k->k.p, b->max_key)))
		goto out;
	ret = bkey_validate(c->opts.ops, bkey_i_to_s_c(rk->k), rk->id, rk->level, &err);
	if (ret) {
		btree_error(c, ret, "%s: journal entry %llu: %s", c->bdev->name,
			    (unsigned long long)rk->seq, printbuf_str(&err));
		goto out;
	}
	u32 cap = b->keys.capacity_u64s;

	if (btree_keys_used_u64s(&b->keys) + rk->k->k.u64s > cap &&
	    btree_keys_compact_u64s(&b->keys) + rk->k->k.u64s > cap) {
		ret = -BCFS_ERR_bset_too_big;
		btree_error(c, ret, "%s: journal entry %llu: no room in btree %s level %u",
			    c->bdev->name, (unsigned long long)rk->seq, btree_id_name(rk->id),
			    rk->level);
		goto out;
	}
	btree_trans_lock_write(trans, b);
	btree_keys_insert(&b->keys, rk->k, rk->seq, trans->scratch, NULL);
	journal_pin_add(c->j, rk->seq + planted(replay_pin_late), &b->pins[b->w]);
	six_unlock(&b->lock, SIX_WRITE);
	btree_count(c, replayed_keys);
out:
	btree_iter_exit(&iter);
	printbuf_exit(&err);
	return ret;
}

/* What the lost entries of a damaged journal would have prepared may be missing. */
static bool may_skip(const struct journal_replay *r, int err)
{
	return r->damaged && (err_is_damage(err) || err == -BCFS_ERR_bset_too_big);
}

/* Is key @i the newest of its position? */
static bool is_newest(const replay_keys *keys, size_t i)
{
	const struct replay_key *k = &keys->data[i], *n = k + 1;

	return i + 1 == keys->nr || n->id != k->id || n->level != k->level ||
	       !bpos_eq(n->k->k.p, k->k->k.p);
}

/*
 * Keys [first, end), of one level. What is deleted goes first: it never needs more room than it
 * takes, and what is inserted may need its.
 */
static int replay_level(struct btree_trans *trans, const struct journal_replay *r,
			const replay_keys *keys, size_t first, size_t end)
{
	int ret = 0;

	for (unsigned pass = 0; pass < 2; pass++)
		for (size_t i = first; !ret && i < end; i++) {
			const struct replay_key *k = &keys->data[i];

			if (!is_newest(keys, i) || bkey_deleted(&k->k->k) == pass)
				continue;
			ret = lockrestart_do(trans, replay_one(trans, k));
			if (ret && may_skip(r, ret))
				ret = 0;
		}
	return ret;
}

int btree_replay(struct btree_fs *c, const struct journal_replay *r)
{
	replay_keys keys = {0};
	int ret = replay_collect(r, &keys);
	struct btree_trans *trans = btree_trans_get(c);

	for (size_t i = 0, end; !ret && i < keys.nr; i = end) {
		for (end = i + 1; end < keys.nr && keys.data[end].id == keys.data[i].id &&
				  keys.data[end].level == keys.data[i].level;)
			end++;
		ret = replay_level(trans, r, &keys, i, end);
	}
	btree_trans_put(trans);
	darray_exit(&keys);
	if (!ret)
		atomic_store(&c->started, true);
	return ret;
}
