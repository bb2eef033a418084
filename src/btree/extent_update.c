// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Extents: a new key takes the place of what it overlaps. To the nodes extents are plain
 * keys, so here an overlap becomes ordinary updates: old keys are deleted, cut in front
 * (their position, the end, stays), cut at the back (they move), or both.
 *
 * An overlapped key of an ancestor snapshot is never touched: what stays visible of it is
 * copied into the writer's snapshot, and where its end would show through a whiteout is put.
 */
#include "btree/btree_private.h"
#include "util/planted.h"

const struct bkey_ops_table *btree_ops_table(struct btree_fs *c)
{
	return c->opts.ops;
}

void bkey_cut_front(const struct bkey_ops_table *t, u64 where, struct bkey_i *k)
{
	u64 start = bkey_start_offset(&k->k);

	if (where <= start)
		return;
	u32 cut = min(where - start, (u64)k->k.size);

	k->k.size -= cut;
	const struct bkey_ops *ops = bkey_ops_of(t, k->k.type);
	if (ops && ops->cut_front)
		ops->cut_front(k, cut);
}

void bkey_cut_back(const struct bkey_ops_table *t, u64 where, struct bkey_i *k)
{
	if (where >= k->k.p.offset)
		return;
	u64 start = bkey_start_offset(&k->k);

	where = max(where, start);
	k->k.p.offset = where;
	k->k.size = where - start;
	const struct bkey_ops *ops = bkey_ops_of(t, k->k.type);
	if (ops && ops->cut_back)
		ops->cut_back(k, k->k.size);
}

struct extent_update {
	struct btree_trans *trans;
	const struct bkey_ops_table *ops;
	enum btree_id id;
	struct bkey_i *k;
	unsigned flags;
	struct btree_iter iter;
};

static int extent_delete_at(struct extent_update *u, struct bpos pos, enum bkey_type type)
{
	struct bkey_i *d = btree_trans_alloc_key(u->trans, type, pos, 0);

	return btree_trans_queue(u->trans, u->id, 0, &u->iter, d, u->flags);
}

/* Nothing of the writer's snapshot is at @pos any more, and nothing shows through there. */
static int extent_remove(struct extent_update *u, struct bpos pos)
{
	int ret = 0;

	if (btree_id_flags(u->id) & BTREE_HAS_SNAPSHOTS)
		ret = btree_ancestor_shows(u->trans, u->id, pos);
	if (ret < 0)
		return ret;
	return extent_delete_at(u, pos, ret ? KEY_TYPE_whiteout : KEY_TYPE_deleted);
}

/* One existing key that u->k overlaps. */
static int extent_overlap(struct extent_update *u, struct bkey_s_c old)
{
	u64 start = bkey_start_offset(&u->k->k), end = u->k->k.p.offset;
	u32 snapshot = u->k->k.p.snapshot;
	bool ours = old.k->p.snapshot == snapshot;
	struct bpos old_pos = old.k->p;
	int ret = 0;

	if (bkey_start_offset(old.k) < start) {
		struct bkey_i *front = btree_trans_copy_key(u->trans, old, 0);

		front->k.p.snapshot = snapshot;
		bkey_cut_back(u->ops, start + planted(trim_back_off), front);
		ret = btree_trans_queue(u->trans, u->id, 0, &u->iter, front, u->flags);
		if (ret)
			return ret;
	}
	if (old_pos.offset > end) {
		struct bkey_i *back = btree_trans_copy_key(u->trans, old, 0);

		back->k.p.snapshot = snapshot;
		bkey_cut_front(u->ops, end, back);
		return btree_trans_queue(u->trans, u->id, 0, &u->iter, back, u->flags);
	}
	if (old_pos.offset == end && u->k->k.type != KEY_TYPE_deleted)
		return 0; /* the new key itself takes this position */
	if (ours)
		return extent_remove(u, old_pos);
	return extent_delete_at(u, SPOS(old_pos.inode, old_pos.offset, snapshot),
				KEY_TYPE_whiteout);
}

/* Join @k with a neighbour if the type knows how. Returns the key to insert. */
static int extent_try_merge(struct extent_update *u)
{
	const struct bkey_ops *ops = bkey_ops_of(u->ops, u->k->k.type);
	struct bkey_i *k = u->k;
	struct bkey_s_c n;
	int ret;

	if (!ops || !ops->merge || k->k.type == KEY_TYPE_deleted)
		return 0;

	/* Behind. */
	btree_iter_set_pos(&u->iter, k->k.p);
	n = btree_iter_peek_slot(&u->iter);
	ret = bkey_err(n);
	if (ret)
		return ret;
	if (n.k->type == k->k.type && n.k->p.snapshot == k->k.p.snapshot &&
	    bkey_start_offset(n.k) == k->k.p.offset) {
		struct bkey_i *m = btree_trans_copy_key(u->trans, bkey_i_to_s_c(k), 0);

		if (ops->merge(m, n)) {
			/* It takes the neighbour's position; what was at its own must still go. */
			ret = extent_remove(u, k->k.p);
			if (ret)
				return ret;
			u->k = k = m;
		}
	}
	/* In front. */
	u64 start = bkey_start_offset(&k->k);
	if (!start)
		return 0;
	btree_iter_set_pos(&u->iter, SPOS(k->k.p.inode, start - 1, k->k.p.snapshot));
	n = btree_iter_peek_slot(&u->iter);
	ret = bkey_err(n);
	if (ret)
		return ret;
	if (n.k->type == k->k.type && n.k->p.snapshot == k->k.p.snapshot &&
	    n.k->p.offset == start) {
		struct bpos pos = n.k->p;
		struct bkey_i *m = btree_trans_copy_key(u->trans, n, 0);

		if (ops->merge(m, bkey_i_to_s_c(k))) {
			ret = extent_remove(u, pos);
			u->k = m;
		}
	}
	return ret;
}

int btree_trans_update_extent(struct btree_trans *trans, struct btree_iter *iter, struct bkey_i *k,
			      unsigned flags)
{
	struct extent_update u = {
		.trans = trans,
		.ops = trans->c->opts.ops,
		.id = iter->btree_id,
		.k = k,
		.flags = flags,
	};
	bool snapshots = btree_id_flags(u.id) & BTREE_HAS_SNAPSHOTS;
	int ret;

	if (!k->k.size)
		return -BCFS_ERR_btree_bad_extent;
	btree_iter_init(trans, &u.iter, u.id, bkey_start_pos(&k->k), BTREE_ITER_INTENT);
	if (snapshots)
		btree_iter_set_snapshot(&u.iter, k->k.p.snapshot);

	while (1) {
		struct bkey_s_c old = btree_iter_peek_max(&u.iter, k->k.p);

		ret = bkey_err(old);
		if (ret || !old.k)
			break;
		u64 next = old.k->p.offset;

		ret = extent_overlap(&u, old);
		if (ret || next >= k->k.p.offset)
			break;
		btree_iter_set_pos(&u.iter, SPOS(k->k.p.inode, next, k->k.p.snapshot));
	}
	if (!ret)
		ret = extent_try_merge(&u);
	if (!ret && u.k->k.type != KEY_TYPE_deleted)
		ret = btree_trans_queue(trans, u.id, 0, &u.iter, u.k, flags);
	btree_iter_exit(&u.iter);
	return ret;
}

/* One step of a range deletion: what one commit may take. */
static int delete_range_step(struct btree_trans *trans, enum btree_id id, struct bpos *start,
			     struct bpos end, unsigned flags, u64 *ret_seq, bool *done,
			     unsigned max)
{
	bool extents = btree_id_flags(id) & BTREE_IS_EXTENTS;
	struct btree_iter iter;
	struct bpos next = *start;
	unsigned nr = 0;
	int ret;

	btree_iter_init(trans, &iter, id, *start, BTREE_ITER_INTENT);
	while (1) {
		struct bkey_s_c k = btree_iter_peek_max(&iter, end);

		ret = bkey_err(k);
		if (ret)
			break;
		if (!k.k || (!extents && bpos_ge(k.k->p, end)) || nr++ >= max) {
			*done = !k.k || nr < max;
			break;
		}
		struct bkey_i *d = btree_trans_alloc_key(trans, KEY_TYPE_deleted, k.k->p, 0);

		if (extents) {
			u64 from = max(bkey_start_offset(k.k),
				       k.k->p.inode == next.inode ? next.offset : 0);
			u64 to = k.k->p.inode == end.inode ? min(k.k->p.offset, end.offset)
							   : k.k->p.offset;

			d->k.p.offset = to;
			d->k.size = to - from;
			next = SPOS(k.k->p.inode, to, start->snapshot);
		} else {
			next = bpos_successor(k.k->p);
		}
		if (btree_id_flags(id) & BTREE_HAS_SNAPSHOTS)
			next.snapshot = d->k.p.snapshot = start->snapshot;
		ret = btree_trans_update(trans, &iter, d, flags);
		if (ret)
			break;
		btree_iter_set_pos(&iter, next);
	}
	btree_iter_exit(&iter);
	u64 seq = 0;
	ret = ret ?: btree_trans_commit(trans, 0, &seq);
	if (!ret) {
		*start = next;
		if (ret_seq && seq)
			*ret_seq = seq;
	}
	return ret;
}

int btree_delete_range(struct btree_fs *c, enum btree_id id, struct bpos start, struct bpos end,
		       unsigned flags, u64 *ret_seq)
{
	struct btree_trans *trans = btree_trans_get(c);
	unsigned max = 64;
	bool done = false;
	int ret = 0;

	while (!ret && !done) {
		ret = lockrestart_do(trans, delete_range_step(trans, id, &start, end, flags,
							      ret_seq, &done, max));
		/* With what the triggers add it must fit one journal entry. */
		if (ret == -BCFS_ERR_journal_res_too_big && max > 1) {
			max /= 2;
			ret = 0;
			done = false;
		}
	}
	btree_trans_put(trans);
	return ret;
}
