// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Moving the extents of a file to other offsets: collapse and insert of a range.
 *
 * One extent a commit, beginning with the one that moves into the hole: where it goes nothing is
 * (it was punched, or has moved), so the new key, the end of the old one and, where the range
 * begins inside an extent, what stays in front, are plain keys, without the rules for overlaps.
 * (Those look at what is in the btree, and an extent may overlap its own new place.) Of shared data
 * that a commit cannot hold one part moves after the other.
 *
 * The space does not change: the triggers of the old and the new key cancel each other, but for the
 * backpointer, which follows the key.
 */
#include "data/data_private.h"

struct shift {
	const struct data_file *f;
	u64 start, end; /* sectors: what has yet to move */
	s64 delta;	/* sectors */
	data_shift_fn moved;
	void *arg;
};

/* The next extent to move; .k NULL: none is left. */
static struct bkey_s_c shift_next(struct btree_iter *iter, const struct shift *s)
{
	if (s->delta > 0) {
		btree_iter_set_pos(iter, data_pos(s->f, s->end));
		return btree_iter_peek_prev_min(iter, data_pos(s->f, s->start));
	}
	btree_iter_set_pos(iter, data_pos(s->f, s->start));
	return btree_iter_peek_max(iter, data_pos(s->f, s->end));
}

/* The part of @k in front of the range, if there is one, and @k's end at its old place. */
static int shift_leave(struct btree_trans *trans, const struct shift *s, struct bkey_s_c k)
{
	const struct bkey_ops_table *ops = btree_ops_table(btree_trans_fs(trans));
	struct bkey_i *front;

	if (bkey_start_offset(k.k) < s->start) {
		front = btree_trans_copy_key(trans, k, 0);
		front->k.p.snapshot = s->f->snapshot;
		bkey_cut_back(ops, s->start, front);
		int ret =
			btree_trans_insert(trans, BTREE_ID_extents, front, BTREE_UPDATE_NO_EXTENT);
		if (ret)
			return ret;
	}
	return btree_trans_delete(trans, BTREE_ID_extents, data_pos(s->f, k.k->p.offset), 0);
}

/* *ret_pos: up to where it is done, or down to; *ret_from: the key that moves begins there. */
static int shift_step(struct btree_trans *trans, const struct shift *s, u64 *ret_pos, u64 *ret_from,
		      bool *ret_end)
{
	const struct bkey_ops_table *ops = btree_ops_table(btree_trans_fs(trans));
	struct btree_iter iter;
	struct bkey_s_c k;
	struct bkey_i *n;
	int ret;

	*ret_end = false;
	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(s->f, s->start),
			BTREE_ITER_INTENT);
	k = shift_next(&iter, s);
	ret = bkey_err(k);
	if (ret || !k.k) {
		*ret_end = true;
		goto out;
	}
	*ret_from = max(bkey_start_offset(k.k), s->start);
	*ret_pos = s->delta > 0 ? *ret_from : k.k->p.offset;
	n = btree_trans_copy_key(trans, k, 0);
	n->k.p.snapshot = s->f->snapshot;
	bkey_cut_front(ops, s->start, n);
	n->k.p.offset += s->delta;
	ret = shift_leave(trans, s, k)
		      ?: btree_trans_insert(trans, BTREE_ID_extents, n, BTREE_UPDATE_NO_EXTENT)
		      ?: s->moved(trans, s->arg, *ret_pos << SECTOR_SHIFT);
out:
	btree_iter_exit(&iter);
	return ret;
}

/* ---- what keeps it from adding keys ---- */

static bool can_be_cut(struct bkey_s_c k, bool shared)
{
	struct extent_ptr_decoded p;

	if (k.k->type == KEY_TYPE_reflink_p)
		return true;
	if (k.k->type != KEY_TYPE_extent)
		return false;
	for_each_extent_ptr(k, 0, it, p) shared &= !extent_compressed(p.crc);
	return !shared;
}

static int cut_step(struct btree_trans *trans, const struct data_file *f, u64 at, bool shared)
{
	const struct bkey_ops_table *ops = btree_ops_table(btree_trans_fs(trans));
	struct btree_iter iter;
	struct bkey_i *front;
	struct bkey_s_c k;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(f, at), BTREE_ITER_INTENT);
	k = btree_iter_peek_slot(&iter);
	ret = bkey_err(k);
	if (!ret && bkey_start_offset(k.k) < at && can_be_cut(k, shared)) {
		front = btree_trans_copy_key(trans, k, 0);
		bkey_cut_back(ops, at, front);
		front->k.p.snapshot = f->snapshot;
		btree_iter_set_pos(&iter, data_pos(f, bkey_start_offset(&front->k)));
		ret = btree_trans_update(trans, &iter, front, 0);
	}
	btree_iter_exit(&iter);
	return ret;
}

int data_cut(struct data_fs *d, const struct data_file *f, u64 offset, bool shared)
{
	struct btree_trans *trans = btree_trans_get(d->btree);
	u64 at = offset >> SECTOR_SHIFT;
	int ret;

	do {
		ret = commit_do(trans, NULL, 0, cut_step(trans, f, at, shared));
		btree_trans_unlock(trans);
	} while (ret == -BCFS_ERR_journal_res_too_big && !(ret = reflink_split(d, f, at, 0)));
	btree_trans_put(trans);
	return ret;
}

static int last_extent_step(struct btree_trans *trans, const struct data_file *f, u64 *ret_end)
{
	struct btree_iter iter;
	struct bkey_s_c k;

	*ret_end = 0;
	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(f, UINT64_MAX), 0);
	k = btree_iter_peek_prev_min(&iter, data_pos(f, 0));
	int ret = bkey_err(k);
	if (!ret && k.k)
		*ret_end = k.k->p.offset << SECTOR_SHIFT;
	btree_iter_exit(&iter);
	return ret;
}

int data_end(struct data_fs *d, const struct data_file *f, u64 *ret_end)
{
	struct btree_trans *trans = btree_trans_get(d->btree);
	int ret = lockrestart_do(trans, last_extent_step(trans, f, ret_end));

	btree_trans_put(trans);
	return ret;
}

int data_shift(struct data_fs *d, const struct data_file *f, u64 start, u64 end, s64 delta,
	       data_shift_fn moved, void *arg)
{
	struct shift s = {
		.f = f,
		.start = start >> SECTOR_SHIFT,
		.end = end >> SECTOR_SHIFT,
		.delta = delta / (s64)SECTOR_BYTES,
		.moved = moved,
		.arg = arg,
	};
	struct btree_trans *trans = btree_trans_get(d->btree);
	bool done = false;
	int ret = 0;

	while (!ret && !done) {
		u64 pos = 0, from = 0;

		ret = commit_do(trans, NULL, BTREE_COMMIT_REMOVES,
				shift_step(trans, &s, &pos, &from, &done));
		if (ret == -BCFS_ERR_journal_res_too_big) {
			btree_trans_unlock(trans);
			ret = reflink_split(d, f, from, BTREE_COMMIT_REMOVES);
			continue;
		}
		if (!ret && !done && delta > 0)
			s.end = pos;
		else if (!ret && !done)
			s.start = pos;
	}
	btree_trans_put(trans);
	return ret;
}
