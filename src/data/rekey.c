// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * After the master key was replaced: extents that older generations sealed are moved, as copygc
 * moves them, and so sealed anew. Bucket by bucket, in the order in which a walk over the extents
 * meets them.
 */
#include "data/data_private.h"

/* An extent that is sealed by an old generation. */
struct old_extent {
	bool found;
	struct bpos pos;
	struct bcfs_extent_ptr ptr;
	u32 sectors;
};

/* The first pointer to what a generation below gen sealed. */
static bool has_old_key(struct bkey_s_c k, u16 gen, struct bcfs_extent_ptr *ret)
{
	bool old = false;

	for_each_extent_entry (bkey_ptrs(k), e) {
		if (extent_entry_type(e) == BCFS_EXTENT_ENTRY_crc)
			old = e->crc.key_gen && e->crc.key_gen < gen;
		if (extent_entry_type(e) != BCFS_EXTENT_ENTRY_ptr || !old)
			continue;
		*ret = e->ptr;
		return true;
	}
	return false;
}

/* The next one from pos on; none if it is stopped. */
static int find_old(struct data_fs *d, enum btree_id id, struct bpos pos, u16 gen,
		    bool (*stop)(void *arg), void *arg, struct old_extent *ret)
{
	struct btree_trans *trans = btree_trans_get(d->btree);
	int err;

	*ret = (struct old_extent){0};
	err = for_each_btree_key (
		trans, iter, id, pos,
		BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS | BTREE_ITER_PREFETCH, k, ({
			ret->found = has_old_key(k, gen, &ret->ptr);
			ret->pos = k.k->p;
			ret->sectors = k.k->size;
			ret->found || stop(arg) ? 1 : 0;
		}));
	btree_trans_put(trans);
	return min(err, 0);
}

static int rekey_tree(struct data_fs *d, enum btree_id id, u16 gen, bool (*stop)(void *arg),
		      void *arg, struct data_rekeyed *r)
{
	struct bpos pos = POS_MIN;
	struct old_extent e, again;
	u64 moved;
	int ret = 0;

	while (!ret && !stop(arg)) {
		ret = find_old(d, id, pos, gen, stop, arg, &e);
		if (ret || !e.found)
			break;
		ret = data_move_old(d, &e.ptr, gen, &moved);
		r->moved += moved;
		/* What is still there cannot be moved, or was written by somebody meanwhile. */
		ret = ret ?: find_old(d, id, e.pos, gen, stop, arg, &again);
		if (!ret && again.found && bpos_eq(again.pos, e.pos))
			r->left += again.sectors;
		pos = bpos_successor(e.pos);
	}
	return ret;
}

int data_rekey(struct data_fs *d, u16 gen, bool (*stop)(void *arg), void *arg,
	       struct data_rekeyed *ret)
{
	static const enum btree_id ids[] = {BTREE_ID_extents, BTREE_ID_reflink};
	int err = data_gather_flush(d, UINT64_MAX);

	*ret = (struct data_rekeyed){0};
	for (unsigned i = 0; !err && i < ARRAY_SIZE(ids); i++)
		err = rekey_tree(d, ids[i], gen, stop, arg, ret);
	return err;
}
