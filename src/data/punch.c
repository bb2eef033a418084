// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Taking data away and promising space: punch, truncate, zeroing of a tail, fallocate.
 *
 * Extents are deleted by keys of type deleted that have a size; what they overlap is trimmed by
 * the btree. A commit takes a bounded number of them, and may dig into the space kept for interior
 * updates: taking away works on a full device. (But not a hole amid shared data, which gives
 * nothing back.)
 */
#include "data/data_private.h"
#include "util/planted.h"

#include <string.h>

#define PUNCH_KEYS_PER_COMMIT	   16U
#define DELETE_KEYS		   4U	      /* with their inode */
#define FALLOCATE_SECTORS_PER_STEP (1U << 21) /* 1 GiB */

int data_count_sectors(struct btree_iter *iter, const struct data_file *f, u64 start, u64 end,
		       u64 *ret)
{
	u64 sectors = 0;

	while (start < end) {
		struct bkey_s_c k;
		int err;

		btree_iter_set_pos(iter, data_pos(f, start));
		k = btree_iter_peek_max(iter, data_pos(f, end));
		err = bkey_err(k);
		if (err)
			return err;
		if (!k.k)
			break;
		if (data_key_sectors(k.k))
			sectors += min(k.k->p.offset, end) - max(bkey_start_offset(k.k), start);
		start = k.k->p.offset;
	}
	*ret = sectors;
	return 0;
}

/* ---- deleting ---- */

struct punch {
	const struct data_file *f;
	u64 pos, end; /* sectors; deleted up to pos */
	u64 end_bytes;
	u32 shared_max; /* u64s of reflink_v that one commit changes */
	bool splits; /* the step leaves shared data on both sides: it adds keys, and frees nothing
		      */
	data_commit_fn commit;
	void *arg;
	u64 seq;
};

static int punch_step(struct btree_trans *trans, struct punch *p, unsigned max, u64 *ret_pos)
{
	struct btree_iter iter;
	u64 pos = p->pos, sectors = 0;
	u32 budget = p->shared_max;
	int ret = 0;

	p->splits = false;
	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(p->f, pos), BTREE_ITER_INTENT);
	for (unsigned nr = 0; nr < max && budget && pos < p->end; nr++) {
		struct bkey_s_c k;
		struct bkey_i *d;
		u64 from, to;
		bool counts;

		btree_iter_set_pos(&iter, data_pos(p->f, pos));
		k = btree_iter_peek_max(&iter, data_pos(p->f, p->end));
		ret = bkey_err(k);
		if (ret)
			break;
		if (!k.k) {
			pos = p->end;
			break;
		}
		from = max(bkey_start_offset(k.k), pos);
		to = min(k.k->p.offset, p->end);
		counts = data_key_sectors(k.k);
		if (k.k->type == KEY_TYPE_reflink_p) {
			p->splits |= bkey_start_offset(k.k) < from && p->end < k.k->p.offset;
			ret = reflink_limit(trans, k, from, &to, &budget);
		}
		if (ret)
			break;
		if (counts)
			sectors += to - from;
		d = btree_trans_alloc_key(trans, KEY_TYPE_deleted, data_pos(p->f, to), 0);
		d->k.size = to - from;
		btree_iter_set_pos(&iter, data_pos(p->f, from));
		ret = btree_trans_update(trans, &iter, d, 0);
		if (ret)
			break;
		pos = to;
	}
	if (!ret && sectors && p->commit)
		ret = p->commit(trans, p->arg,
				pos <= p->end_bytes >> SECTOR_SHIFT ? pos << SECTOR_SHIFT
								    : p->end_bytes,
				-(s64)sectors);
	btree_iter_exit(&iter);
	*ret_pos = pos;
	return ret;
}

/* Delete sectors [start, end); @end_bytes: the most that is told to the callback. */
static int punch_sectors(struct data_fs *d, const struct data_file *f, u64 start, u64 end,
			 u64 end_bytes, data_commit_fn commit, void *arg, u64 *ret_seq)
{
	struct punch p = {.f = f,
			  .pos = start,
			  .end = end,
			  .end_bytes = end_bytes,
			  .shared_max = reflink_u64s_per_commit(d),
			  .commit = commit,
			  .arg = arg};
	struct btree_trans *trans = btree_trans_get(d->btree);
	int ret = 0;

	while (!ret && p.pos < p.end) {
		u64 seq = 0, pos = 0;

		ret = commit_do(trans, &seq, p.splits ? 0 : BTREE_COMMIT_REMOVES,
				punch_step(trans, &p, PUNCH_KEYS_PER_COMMIT, &pos));
		btree_trans_unlock(trans);
		if (!ret) {
			p.pos = pos;
			p.seq = max(p.seq, seq);
		} else if (ret == -BCFS_ERR_journal_res_too_big) {
			ret = reflink_split(d, f, p.pos, p.splits ? 0 : BTREE_COMMIT_REMOVES);
		}
	}
	btree_trans_put(trans);
	if (ret_seq)
		*ret_seq = max(*ret_seq, p.seq);
	return ret;
}

int data_delete_step(struct btree_trans *trans, const struct data_file *f, bool *ret_all)
{
	/* Half of what a commit may hold, as the inode's keys are in it, too. */
	u32 shared = btree_commit_u64s_max(btree_trans_fs(trans)) / 2;
	struct punch p = {.f = f, .end = UINT64_MAX, .shared_max = min(shared, DELETE_KEYS * 64U)};
	u64 pos;
	int ret = punch_step(trans, &p, DELETE_KEYS + 1, &pos);

	*ret_all = !ret && pos == p.end;
	return ret;
}

int data_truncate(struct data_fs *d, const struct data_file *f, u64 offset, data_commit_fn commit,
		  void *arg, u64 *ret_seq)
{
	u64 start = round_up(DIV_ROUND_UP(offset, (u64)SECTOR_BYTES), (u64)d->block_sectors);

	if (ret_seq)
		*ret_seq = 0;
	return punch_sectors(d, f, start, UINT64_MAX, offset, commit, arg, ret_seq);
}

/* ---- zeroing inside one block ---- */

static int slot_is_data_step(struct btree_trans *trans, const struct data_file *f, u64 sector,
			     bool *ret)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(f, sector), 0);
	k = btree_iter_peek_slot(&iter);
	err = bkey_err(k);
	if (!err)
		*ret = data_key_sectors(k.k) && k.k->type != KEY_TYPE_reservation;
	btree_iter_exit(&iter);
	return err;
}

/* Zero [from, to) bytes, within one block, if it holds data. */
static int zero_in_block(struct data_fs *d, const struct data_file *f, u64 from, u64 to,
			 u64 valid_end, data_commit_fn commit, void *arg, u64 *ret_seq)
{
	struct btree_trans *trans;
	bool data = false;
	u64 done, seq = 0;
	void *zeroes;
	int ret;

	if (from >= to)
		return 0;
	trans = btree_trans_get(d->btree);
	ret = lockrestart_do(trans, slot_is_data_step(trans, f, from >> SECTOR_SHIFT, &data));
	btree_trans_put(trans);
	if (ret || !data)
		return ret;
	zeroes = env_zalloc(d->env, to - from);
	if (!zeroes)
		return -BCFS_ERR_nomem;
	ret = data_write(d, f, from, zeroes, to - from, valid_end, commit, arg, &done, &seq);
	env_free(d->env, zeroes);
	if (ret_seq)
		*ret_seq = max(*ret_seq, seq);
	return ret;
}

int data_punch(struct data_fs *d, const struct data_file *f, u64 offset, u64 len, u64 valid_end,
	       data_commit_fn commit, void *arg, u64 *ret_seq)
{
	u64 block = d->opts.block_bytes, end = offset + len;
	u64 whole_start = round_up(offset, block), whole_end = round_down(end, block);
	u64 zero_end = min(end, valid_end), seq = 0;
	int ret;

	/* Bytes behind valid_end are never seen, so they need no zeroing. */
	ret = zero_in_block(d, f, offset, min(whole_start, zero_end), valid_end, commit, arg, &seq);
	if (!ret && whole_start < whole_end)
		ret = punch_sectors(d, f, whole_start >> SECTOR_SHIFT, whole_end >> SECTOR_SHIFT,
				    max(valid_end, whole_start), commit, arg, &seq);
	if (!ret && whole_start + planted(punch_two_halves) <= whole_end)
		ret = zero_in_block(d, f, whole_end, zero_end, valid_end, commit, arg, &seq);
	if (ret_seq)
		*ret_seq = seq;
	return ret;
}

/* The size is told to the callback of a zeroing, not the block's end: nothing becomes visible. */
struct zero_tail {
	data_commit_fn commit;
	void *arg;
	u64 size;
};

static int zero_tail_commit(struct btree_trans *trans, void *arg, u64 new_end, s64 delta)
{
	const struct zero_tail *z = arg;

	return z->commit ? z->commit(trans, z->arg, z->size, delta) : 0;
}

int data_zero_tail(struct data_fs *d, const struct data_file *f, u64 offset, data_commit_fn commit,
		   void *arg, u64 *ret_seq)
{
	struct zero_tail z = {commit, arg, offset};
	bool is_inline;
	int ret;

	if (ret_seq)
		*ret_seq = 0;
	if (!(offset % d->opts.block_bytes))
		return 0;
	ret = inline_zero_tail(d, f, offset, zero_tail_commit, &z, ret_seq, &is_inline);
	if (ret || is_inline)
		return ret;
	return zero_in_block(d, f, offset, round_up(offset, (u64)d->opts.block_bytes), offset,
			     zero_tail_commit, &z, ret_seq);
}

/* ---- preallocation ---- */

/* The next hole at or behind *pos, cut to a step's length; *ret_sectors 0: none before @end. */
static int find_hole_step(struct btree_trans *trans, const struct data_file *f, u64 pos, u64 end,
			  u64 *ret_pos, u64 *ret_sectors)
{
	struct btree_iter iter;
	int ret = 0;

	*ret_pos = end;
	*ret_sectors = 0;
	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(f, pos), 0);
	while (pos < end) {
		struct bkey_s_c k;

		btree_iter_set_pos(&iter, data_pos(f, pos));
		k = btree_iter_peek_slot(&iter);
		ret = bkey_err(k);
		if (ret)
			break;
		if (!data_key_sectors(k.k)) {
			*ret_pos = pos;
			*ret_sectors = min(k.k->p.offset, end) - pos;
			*ret_sectors = min(*ret_sectors, (u64)FALLOCATE_SECTORS_PER_STEP);
			break;
		}
		pos = k.k->p.offset;
	}
	btree_iter_exit(&iter);
	return ret;
}

static int reserve_hole_step(struct btree_trans *trans, const struct data_file *f, u64 pos,
			     u64 sectors, u64 end_bytes, data_commit_fn commit, void *arg)
{
	u64 end = pos + sectors, old = 0;
	struct btree_iter iter;
	struct bkey_i *k;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(f, pos), BTREE_ITER_INTENT);
	ret = data_count_sectors(&iter, f, pos, end, &old);
	if (ret || old) /* not a hole any more: looked for again */
		goto out;
	k = btree_trans_alloc_key(trans, KEY_TYPE_reservation, data_pos(f, end),
				  sizeof(struct bcfs_reservation));
	k->k.size = sectors;
	((struct bcfs_reservation *)k->v)->nr_replicas = 1;
	btree_iter_set_pos(&iter, data_pos(f, pos));
	ret = btree_trans_update(trans, &iter, k, 0);
	if (!ret && commit)
		ret = commit(trans, arg, min(end << SECTOR_SHIFT, end_bytes), sectors);
out:
	btree_iter_exit(&iter);
	return ret;
}

static int fallocate_step(struct data_fs *d, struct btree_trans *trans, const struct data_file *f,
			  u64 *pos, u64 end, u64 end_bytes, data_commit_fn commit, void *arg,
			  u64 *ret_seq)
{
	struct disk_reservation res = {0};
	u64 start = *pos, sectors = 0;
	int ret = lockrestart_do(trans, find_hole_step(trans, f, *pos, end, &start, &sectors));

	btree_trans_unlock(trans);
	if (ret)
		return ret;
	*pos = start;
	if (!sectors)
		return 0;
	ret = disk_reservation_get(d->alloc, &res, sectors);
	if (ret)
		return ret;
	/* From the commit on the key's own promise counts. */
	ret = commit_do(trans, ret_seq, 0,
			reserve_hole_step(trans, f, start, sectors, end_bytes, commit, arg));
	btree_trans_unlock(trans);
	disk_reservation_put(d->alloc, &res);
	return ret;
}

int data_fallocate(struct data_fs *d, const struct data_file *f, u64 offset, u64 len,
		   data_commit_fn commit, void *arg, u64 *ret_seq)
{
	u64 block = d->block_sectors, end_bytes = offset + len, last_seq = 0;
	u64 pos = round_down(offset >> SECTOR_SHIFT, block);
	u64 end = round_up(DIV_ROUND_UP(end_bytes, (u64)SECTOR_BYTES), block);
	struct btree_trans *trans = btree_trans_get(d->btree);
	int ret = 0;

	while (!ret && pos < end) {
		u64 seq = 0;

		ret = fallocate_step(d, trans, f, &pos, end, end_bytes, commit, arg, &seq);
		last_seq = max(last_seq, seq);
	}
	btree_trans_put(trans);
	if (ret_seq)
		*ret_seq = last_seq;
	return ret;
}
