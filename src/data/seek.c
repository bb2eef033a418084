// SPDX-License-Identifier: LGPL-2.1-or-later
/* SEEK_DATA and SEEK_HOLE. A reservation is a hole, as unwritten extents are elsewhere. */
#include "data/data_private.h"

static bool key_is_data(const struct bkey *k)
{
	return data_key_sectors(k) && k->type != KEY_TYPE_reservation;
}

/* First sector at or behind @pos that is data (or not, with @hole); @end if none. */
static int seek_step(struct btree_trans *trans, const struct data_file *f, u64 pos, u64 end,
		     bool hole, u64 *ret_pos)
{
	struct btree_iter iter;
	int ret = 0;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(f, pos), BTREE_ITER_PREFETCH);
	while (pos < end) {
		struct bkey_s_c k;

		btree_iter_set_pos(&iter, data_pos(f, pos));
		k = btree_iter_peek_slot(&iter);
		ret = bkey_err(k);
		if (ret || key_is_data(k.k) != hole)
			break;
		pos = k.k->p.offset;
	}
	btree_iter_exit(&iter);
	*ret_pos = min(pos, end);
	return ret;
}

int data_seek(struct data_fs *d, const struct data_file *f, u64 offset, u64 size, bool hole,
	      u64 *ret_offset)
{
	u64 end = DIV_ROUND_UP(size, (u64)SECTOR_BYTES), pos = 0, found;
	struct btree_trans *trans;
	int ret;

	if (offset >= size)
		return -BCFS_ERR_data_no_data;
	trans = btree_trans_get(d->btree);
	ret = lockrestart_do(trans, seek_step(trans, f, offset >> SECTOR_SHIFT, end, hole, &pos));
	btree_trans_put(trans);
	if (ret)
		return ret;
	found = max(pos << SECTOR_SHIFT, offset);
	if (found >= size) {
		if (!hole)
			return -BCFS_ERR_data_no_data;
		found = size;
	}
	*ret_offset = found;
	return 0;
}
