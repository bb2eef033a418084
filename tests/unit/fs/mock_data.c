// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The interface of data/ over keys that hold the bytes themselves: one key a block of 512
 * bytes, one commit a block. Also the little of alloc/ that fs/ asks for.
 */
#include "fixture.h"

#include "data/data.h"

#include <string.h>

#define BLOCK 512U

static int any_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			struct printbuf *err)
{
	return 0;
}
const struct bkey_ops mock_ops_extent = {.validate = any_validate};
const struct bkey_ops mock_ops_reservation = {.validate = any_validate};
const struct bkey_ops mock_ops_inline_data = {.validate = any_validate};

/* The fixture passes the filesystem as both. */
static struct btree_fs *btree_of(struct data_fs *d)
{
	return ((struct bcfs *)d)->btree;
}

enum block_op { BLOCK_WRITE, BLOCK_ZERO, BLOCK_PUNCH, BLOCK_RESERVE };

struct step {
	const struct data_file *f;
	enum block_op op;
	u64 block;
	unsigned from, to; /* bytes of the block */
	const u8 *buf;
	u64 valid_end, new_end;
	data_commit_fn commit;
	void *arg;
};

/* What is in the block: 0 hole, 1 reservation, 2 data. */
static int block_get(struct btree_trans *trans, const struct data_file *f, u64 block, u8 *data,
		     int *ret_kind)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_extents, SPOS(f->inum, block, f->snapshot), 0);
	k = btree_iter_peek_slot(&iter);
	ret = bkey_err(k);
	memset(data, 0, BLOCK);
	*ret_kind = 0;
	if (!ret && k.k->type == KEY_TYPE_extent) {
		memcpy(data, k.v, BLOCK);
		*ret_kind = 2;
	} else if (!ret && k.k->type == KEY_TYPE_reservation) {
		*ret_kind = 1;
	} else if (!ret && k.k->type == KEY_TYPE_inline_data) {
		*ret_kind = 3;
	}
	btree_iter_exit(&iter);
	return ret;
}

static int step_trans(struct btree_trans *trans, struct step *s, u64 *seq)
{
	struct bpos pos = SPOS(s->f->inum, s->block + 1, s->f->snapshot);
	u64 start = s->block * BLOCK;
	int kind, ret, delta = 0;
	struct bkey_i *k = NULL;
	u8 data[BLOCK];

	ret = block_get(trans, s->f, s->block, data, &kind);
	if (ret)
		return ret;
	switch (s->op) {
	case BLOCK_WRITE:
	case BLOCK_ZERO:
		if (s->op == BLOCK_ZERO && kind != 2)
			return 0;
		if (s->valid_end < start + BLOCK)
			memset(data + (s->valid_end > start ? s->valid_end - start : 0), 0,
			       BLOCK - (s->valid_end > start ? s->valid_end - start : 0));
		if (s->op == BLOCK_WRITE)
			memcpy(data + s->from, s->buf, s->to - s->from);
		else
			memset(data + s->from, 0, s->to - s->from);
		k = btree_trans_alloc_key(trans, KEY_TYPE_extent, pos, BLOCK);
		memcpy(k->v, data, BLOCK);
		delta = !kind;
		break;
	case BLOCK_RESERVE:
		if (kind)
			return 0;
		k = btree_trans_alloc_key(trans, KEY_TYPE_reservation, pos, 8);
		delta = 1;
		break;
	case BLOCK_PUNCH:
		if (!kind)
			return 0;
		k = btree_trans_alloc_key(trans, KEY_TYPE_deleted, pos, 0);
		delta = kind == 3 ? 0 : -1;
		break;
	}
	k->k.size = 1;
	return btree_trans_insert(trans, BTREE_ID_extents, k, 0)
		       ?: s->commit(trans, s->arg, s->new_end, delta)
		       ?: btree_trans_commit(trans, 0, seq);
}

static int step(struct data_fs *d, struct step *s, u64 *ret_seq)
{
	struct btree_trans *trans = btree_trans_get(btree_of(d));
	u64 seq = 0;
	int ret = lockrestart_do(trans, step_trans(trans, s, &seq));

	btree_trans_put(trans);
	if (seq && ret_seq)
		*ret_seq = seq;
	return ret;
}

int data_write(struct data_fs *d, const struct data_file *f, u64 offset, const void *buf, u64 len,
	       u64 valid_end, data_commit_fn commit, void *arg, u64 *ret_done, u64 *ret_seq)
{
	u64 end = offset + len, pos = offset;
	int ret = 0;

	while (pos < end && !ret) {
		u64 next = min(end, round_down(pos, (u64)BLOCK) + BLOCK);
		struct step s = {.f = f,
				 .op = BLOCK_WRITE,
				 .block = pos / BLOCK,
				 .from = pos % BLOCK,
				 .to = pos % BLOCK + (next - pos),
				 .buf = (const u8 *)buf + (pos - offset),
				 .valid_end = max(valid_end, pos > offset ? pos : 0),
				 .new_end = next,
				 .commit = commit,
				 .arg = arg};

		ret = step(d, &s, ret_seq);
		if (!ret)
			pos = next;
	}
	*ret_done = pos - offset;
	return ret;
}

int data_read(struct data_fs *d, const struct data_file *f, u64 offset, void *buf, u64 len,
	      u64 *ret_done)
{
	struct btree_trans *trans = btree_trans_get(btree_of(d));
	u64 end = offset + len, pos = offset;
	u8 data[BLOCK];
	int kind, ret = 0;

	while (pos < end && !ret) {
		u64 next = min(end, round_down(pos, (u64)BLOCK) + BLOCK);

		ret = lockrestart_do(trans, block_get(trans, f, pos / BLOCK, data, &kind));
		memcpy((u8 *)buf + (pos - offset), data + pos % BLOCK, next - pos);
		pos = next;
	}
	btree_trans_put(trans);
	*ret_done = pos - offset;
	return ret;
}

/* By copying, which needs whole blocks no less. */
int data_share(struct data_fs *d, const struct data_file *src, u64 offset,
	       const struct data_file *dst, u64 dst_offset, u64 len, data_commit_fn commit,
	       void *arg, u64 *ret_done)
{
	u8 data[BLOCK];
	int ret = 0;

	for (*ret_done = 0; *ret_done < len && !ret;) {
		u64 n = min_t(u64, len - *ret_done, BLOCK), done;

		ret = data_read(d, src, offset + *ret_done, data, n, &done);
		if (!ret)
			ret = data_write(d, dst, dst_offset + *ret_done, data, n, UINT64_MAX,
					 commit, arg, &done, NULL);
		*ret_done += ret ? 0 : n;
	}
	return ret;
}

static int each_block(struct data_fs *d, const struct data_file *f, enum block_op whole, u64 offset,
		      u64 end, u64 valid_end, data_commit_fn commit, void *arg, u64 *ret_seq)
{
	u64 pos = offset;
	int ret = 0;

	while (pos < end && !ret) {
		u64 next = min(end, round_down(pos, (u64)BLOCK) + BLOCK);
		bool partial = pos % BLOCK || next % BLOCK;
		struct step s = {.f = f,
				 .op = partial && whole == BLOCK_PUNCH ? BLOCK_ZERO : whole,
				 .block = pos / BLOCK,
				 .from = pos % BLOCK,
				 .to = pos % BLOCK + (next - pos),
				 .valid_end = valid_end,
				 .new_end = next,
				 .commit = commit,
				 .arg = arg};

		ret = step(d, &s, ret_seq);
		pos = next;
	}
	return ret;
}

int data_punch(struct data_fs *d, const struct data_file *f, u64 offset, u64 len, u64 valid_end,
	       data_commit_fn commit, void *arg, u64 *ret_seq)
{
	return each_block(d, f, BLOCK_PUNCH, offset, offset + len, valid_end, commit, arg, ret_seq);
}

static int last_block(struct btree_trans *trans, const struct data_file *f, u64 *ret)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	*ret = 0;
	for_each_btree_key_in_trans(trans, iter, BTREE_ID_extents, SPOS(f->inum, 0, f->snapshot),
				    SPOS(f->inum, UINT64_MAX, f->snapshot), 0, k, err) *ret =
		k.k->p.offset;
	btree_iter_exit(&iter);
	return err;
}

int data_truncate(struct data_fs *d, const struct data_file *f, u64 offset, data_commit_fn commit,
		  void *arg, u64 *ret_seq)
{
	struct btree_trans *trans = btree_trans_get(btree_of(d));
	u64 end = 0;
	int ret = lockrestart_do(trans, last_block(trans, f, &end));

	btree_trans_put(trans);
	return ret
		       ?: each_block(d, f, BLOCK_PUNCH, round_up(offset, (u64)BLOCK), end * BLOCK,
				     UINT64_MAX, commit, arg, ret_seq);
}

int data_delete_step(struct btree_trans *trans, const struct data_file *f, bool *ret_all)
{
	u64 end;
	int ret = last_block(trans, f, &end);

	*ret_all = !ret && !end;
	return ret;
}

int data_zero_tail(struct data_fs *d, const struct data_file *f, u64 offset, data_commit_fn commit,
		   void *arg, u64 *ret_seq)
{
	struct step s = {.f = f,
			 .op = BLOCK_ZERO,
			 .block = offset / BLOCK,
			 .from = offset % BLOCK,
			 .to = BLOCK,
			 .valid_end = UINT64_MAX,
			 .commit = commit,
			 .arg = arg};

	return offset % BLOCK ? step(d, &s, ret_seq) : 0;
}

int data_fallocate(struct data_fs *d, const struct data_file *f, u64 offset, u64 len,
		   data_commit_fn commit, void *arg, u64 *ret_seq)
{
	return each_block(d, f, BLOCK_RESERVE, round_down(offset, (u64)BLOCK),
			  round_up(offset + len, (u64)BLOCK), UINT64_MAX, commit, arg, ret_seq);
}

int data_seek(struct data_fs *d, const struct data_file *f, u64 offset, u64 size, bool hole,
	      u64 *ret_offset)
{
	struct btree_trans *trans = btree_trans_get(btree_of(d));
	u64 pos = offset;
	u8 data[BLOCK];
	int kind, ret = 0;

	while (pos < size) {
		ret = lockrestart_do(trans, block_get(trans, f, pos / BLOCK, data, &kind));
		if (ret || (kind == 2) != hole)
			break;
		pos = round_down(pos, (u64)BLOCK) + BLOCK;
	}
	btree_trans_put(trans);
	if (!ret && pos >= size && !hole)
		return -BCFS_ERR_seek_no_data;
	*ret_offset = min(pos, size);
	return ret;
}

/* ---- alloc ---- */

int alloc_do_discards(struct alloc_fs *a)
{
	return 0;
}

void alloc_usage(struct alloc_fs *a, struct alloc_usage *ret)
{
	struct fsx *fx = (struct fsx *)a;

	memset(ret, 0, sizeof(*ret));
	memcpy(ret->counters, fx->usage, sizeof(ret->counters));
	ret->capacity = 1 << 20;
	ret->free = 1 << 19;
}

/* Collapse, insert and trim are tested on the real layers: tests/unit/core/shift.c, tests/e2e. */
int data_shift(struct data_fs *d, const struct data_file *f, u64 start, u64 end, s64 delta,
	       data_shift_fn moved, void *arg)
{
	return -BCFS_ERR_fallocate_mode;
}

int data_cut(struct data_fs *d, const struct data_file *f, u64 offset, bool shared)
{
	return -BCFS_ERR_fallocate_mode;
}

int data_end(struct data_fs *d, const struct data_file *f, u64 *ret_end)
{
	return -BCFS_ERR_fallocate_mode;
}

int alloc_trim(struct alloc_fs *a, u64 start, u64 end, u64 least_sectors, u64 *ret_sectors)
{
	return -BCFS_ERR_dev_no_discard;
}
