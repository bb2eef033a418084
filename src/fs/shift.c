// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Collapse and insert: the data behind a range moves by the length of the range.
 *
 * First a logged op, with the new size where the file grows; then the place is cleared that data
 * moves into or falls out of; then extent after extent moves, each in one commit with the op's
 * position; last the op goes, with the new size where the file shrinks. After a crash it is
 * finished from where it was, so either all of it is seen or nothing. (The same way as in
 * bcachefs.)
 */
#include "fs/io.h"
#include "fs/keys.h"
#include "util/planted.h"

/* bcfs_logged_op_finsert.state */
#define FINSERT_MOVING	  1U /* the place is cleared */
#define FINSERT_KEEP_SIZE 2U

struct shift_args {
	struct bcfs *c;
	struct bcfs_ino ino;
	struct bcfs_logged_op_finsert op; /* sectors */
	u64 now;
};

static bool is_insert(const struct bcfs_logged_op_finsert *op)
{
	return op->dst_offset > 0;
}

static u64 shift_bytes(const struct bcfs_logged_op_finsert *op)
{
	return (u64)(is_insert(op) ? op->dst_offset : -op->dst_offset) << SECTOR_SHIFT;
}

static int op_write(struct btree_trans *trans, const struct shift_args *a)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, KEY_TYPE_logged_op_finsert,
						 logged_op_pos(a->ino), sizeof(a->op));

	bkey_i_to_logged_op_finsert(k)->v = a->op;
	return btree_trans_insert(trans, BTREE_ID_logged_ops, k, 0);
}

static int begin_step(struct btree_trans *trans, struct bcfs_inode_unpacked *inode, void *arg)
{
	const struct shift_args *a = arg;

	if (is_insert(&a->op) && !(a->op.state & FINSERT_KEEP_SIZE))
		inode->size += shift_bytes(&a->op);
	inode->mtime = inode->ctime = a->now;
	inode_kill_priv(inode);
	return inode_drop_caps_step(trans, inode) ?: op_write(trans, a);
}

static int end_step(struct btree_trans *trans, struct bcfs_inode_unpacked *inode, void *arg)
{
	const struct shift_args *a = arg;
	u64 len = shift_bytes(&a->op);

	if (!is_insert(&a->op) && !(a->op.state & FINSERT_KEEP_SIZE))
		inode->size -= min(inode->size, len);
	return btree_trans_delete(trans, BTREE_ID_logged_ops, logged_op_pos(a->ino), 0);
}

/* data_shift_fn */
static int moved(struct btree_trans *trans, void *arg, u64 pos)
{
	struct shift_args *a = arg;

	a->op.pos = pos >> SECTOR_SHIFT;
	return planted(shift_not_logged) ? 0 : op_write(trans, a);
}

/* Where an insert that keeps the size begins to push out, to a block; bytes. */
static u64 pushed_out(const struct shift_args *a, const struct bcfs_inode_unpacked *inode)
{
	return round_up(inode->size - shift_bytes(&a->op), (u64)a->c->fs_opts.block_bytes);
}

/* What is collapsed goes; what an insert of the same size pushes out goes, too. */
static int clear_place(struct shift_args *a, const struct bcfs_inode_unpacked *inode)
{
	struct data_file f = io_file(a->c, a->ino, inode);
	struct io_update u = {.c = a->c, .ino = a->ino};
	u64 start = a->op.src_offset << SECTOR_SHIFT, len = shift_bytes(&a->op);

	if (!is_insert(&a->op))
		return data_punch(a->c->data, &f, start, len, inode->size, io_commit, &u, NULL);
	if (!(a->op.state & FINSERT_KEEP_SIZE))
		return 0;
	/* What then lies behind the end, in its block, is zeroed when the file grows. */
	return data_truncate(a->c->data, &f, pushed_out(a, inode), io_commit, &u, NULL);
}

static int shift_move(struct shift_args *a, const struct bcfs_inode_unpacked *inode)
{
	struct data_file f = io_file(a->c, a->ino, inode);
	const struct bcfs_logged_op_finsert *op = &a->op;
	u64 start = (is_insert(op) ? op->src_offset : op->pos) << SECTOR_SHIFT;
	u64 end = is_insert(op) ? op->pos << SECTOR_SHIFT : UINT64_MAX;

	return data_shift(a->c->data, &f, start, end, op->dst_offset * (s64)SECTOR_SIZE, moved, a);
}

/* In the transaction that says so, nothing else changes. */
static int moving_step(struct btree_trans *trans, struct bcfs_inode_unpacked *inode, void *arg)
{
	return op_write(trans, arg);
}

static int shift_rest(struct shift_args *a, const struct bcfs_inode_unpacked *inode)
{
	int ret = 0;

	if (!(a->op.state & FINSERT_MOVING)) {
		ret = clear_place(a, inode);
		if (ret)
			return ret;
		a->op.state |= FINSERT_MOVING;
		ret = inode_update_flags(a->c, a->ino, BTREE_COMMIT_REMOVES, moving_step, a);
	}
	return ret ?: shift_move(a, inode)
		       ?: inode_update_flags(a->c, a->ino, BTREE_COMMIT_REMOVES, end_step, a);
}

static int shift_finish(struct shift_args *a, const struct bcfs_inode_unpacked *inode)
{
	int ret;

	while ((ret = shift_rest(a, inode)) == -BCFS_ERR_nomem)
		env_sleep_ns(a->c->env, LOGGED_OP_RETRY_NS);
	return ret ? logged_op_failed(
			     a->c, a->ino,
			     is_insert(&a->op) ? "insert of a range" : "collapse of a range", ret)
		   : 0;
}

static int shift_check(struct bcfs *c, struct bcfs_ino ino, const struct bcfs_inode_unpacked *inode,
		       u32 mode, u64 offset, u64 len)
{
	struct data_file f = io_file(c, ino, inode);
	bool keep = mode & BCFS_FALLOC_KEEP_SIZE;
	u64 end = 0;
	int ret;

	if ((offset | len) % c->fs_opts.block_bytes)
		return -BCFS_ERR_range_unaligned;
	if (offset >= inode->size)
		return -BCFS_ERR_range_behind_end;
	if (mode & BCFS_FALLOC_COLLAPSE_RANGE)
		return len >= inode->size - offset ? -BCFS_ERR_range_behind_end : 0;
	if (keep)
		return len > inode->size - offset ? -BCFS_ERR_range_behind_end : 0;
	ret = data_end(c->data, &f, &end);
	end = max(end, inode->size);
	return ret ?: end > FILE_SIZE_MAX - len ? -BCFS_ERR_file_too_big : 0;
}

/*
 * What would make one key more, without giving space back for it, is done before: once it is
 * logged, there is no way back.
 */
static int shift_cut(const struct shift_args *a, const struct bcfs_inode_unpacked *inode)
{
	struct data_file f = io_file(a->c, a->ino, inode);
	u64 start = a->op.src_offset << SECTOR_SHIFT, len = shift_bytes(&a->op);
	int ret = data_cut(a->c->data, &f, start, !is_insert(&a->op));

	if (ret || (is_insert(&a->op) && !(a->op.state & FINSERT_KEEP_SIZE)))
		return ret;
	return data_cut(a->c->data, &f, is_insert(&a->op) ? pushed_out(a, inode) : start + len,
			true);
}

int inode_shift_locked(struct bcfs *c, struct bcfs_ino ino, const struct bcfs_inode_unpacked *inode,
		       u32 mode, u64 offset, u64 len)
{
	bool insert = mode & BCFS_FALLOC_INSERT_RANGE;
	s64 sectors = (s64)(len >> SECTOR_SHIFT);
	struct shift_args a = {
		.c = c,
		.ino = ino,
		.now = fs_now(c),
		.op =
			{
				.state = mode & BCFS_FALLOC_KEEP_SIZE ? FINSERT_KEEP_SIZE : 0,
				.subvol = ino.subvol,
				.inum = ino.inum,
				.dst_offset = insert ? sectors : -sectors,
				.src_offset = offset >> SECTOR_SHIFT,
				/* Behind all extents; or where they begin that move. */
				.pos = (insert ? FILE_SIZE_MAX : offset + len) >> SECTOR_SHIFT,
			},
	};
	int ret = shift_check(c, ino, inode, mode, offset, len);

	/* Bytes behind the end come to lie in front of it. */
	if (!ret && !insert && mode & BCFS_FALLOC_KEEP_SIZE)
		ret = io_zero_tail(c, ino, inode);
	ret = ret ?: shift_cut(&a, inode) ?: inode_update_flags(c, ino, BTREE_COMMIT_KEEPS, begin_step, &a);
	return ret ?: shift_finish(&a, inode);
}

int inode_shift_resume(struct bcfs *c, struct bcfs_ino ino, const struct bcfs_inode_unpacked *inode,
		       const struct bcfs_logged_op_finsert *op)
{
	struct shift_args a = {.c = c, .ino = ino, .now = fs_now(c), .op = *op};
	u32 block = c->fs_opts.block_bytes >> SECTOR_SHIFT;

	if (shift_bytes(op) % c->fs_opts.block_bytes || (op->src_offset | op->pos) % block)
		return -BCFS_ERR_logged_op_invalid;
	return shift_finish(&a, inode);
}
