// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Numbers for new inodes, and their generations (fs.h, invariant 3).
 *
 * The cursor starts behind the highest number in use and only grows, so in the ordinary case
 * every number it gives is free, and nobody else has it. At the end of the number space it
 * starts again from the bottom, skipping what is in use; that is a new epoch.
 */
#include "fs/inode.h"
#include "fs/table.h"
#include "util/planted.h"

static u64 inum_limit(struct bcfs *c, u32 subvol)
{
	return c->fs_opts.inodes_32bit && subvol == BCFS_ROOT_SUBVOL ? UINT32_MAX : BCFS_INUM_MAX;
}

/* Where the stored generation lies. */
#define GENERATION_POS SPOS(0, 0, BCFS_SNAPSHOT_ROOT)

/* The stored one and @add more, stored again. */
static int raise_generation(struct btree_trans *trans, u32 add, u32 *ret)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	struct bkey_i *new;
	u32 generation;
	int err;

	btree_iter_init(trans, &iter, BTREE_ID_inodes, GENERATION_POS,
			BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_INTENT);
	k = btree_iter_peek_slot(&iter);
	err = bkey_err(k);
	if (err)
		goto out;
	generation = add + (k.k->type == KEY_TYPE_inode_generation
				    ? bkey_s_c_to_inode_generation(k).v->generation
				    : 0);
	new = btree_trans_alloc_key(trans, KEY_TYPE_inode_generation, GENERATION_POS,
				    sizeof(struct bcfs_inode_generation));
	bkey_i_to_inode_generation(new)->v.generation = generation;
	err = btree_trans_update(trans, &iter, new, 0) ?: btree_trans_commit(trans, 0, NULL);
	if (!err)
		*ret = generation;
out:
	btree_iter_exit(&iter);
	return err;
}

/*
 * An epoch begins: its generation is durable before anybody hears of an inode in it, so that no
 * crash makes way for another epoch of the same. Once in a mount. inum_lock is held.
 */
static int new_epoch(struct bcfs *c)
{
	struct btree_trans *trans = btree_trans_get(c->btree);
	u32 generation = 0;
	int ret = lockrestart_do(
		trans, raise_generation(trans, !planted(generation_not_raised), &generation));

	btree_trans_put(trans);
	ret = ret ?: journal_flush_seq(c->journal, UINT64_MAX);
	if (!ret)
		c->ino->generation = generation;
	return ret;
}

static int read_last(struct btree_trans *trans, u64 limit, u64 *ret)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	btree_iter_init(trans, &iter, BTREE_ID_inodes, POS(0, limit + 1), BTREE_ITER_ALL_SNAPSHOTS);
	k = btree_iter_peek_prev_min(&iter, POS_MIN);
	err = bkey_err(k);
	if (!err)
		*ret = k.k ? k.k->p.offset : 0;
	btree_iter_exit(&iter);
	return err;
}

/* First use: inum_lock is held. */
static int inum_init(struct bcfs *c, u64 limit)
{
	struct fs_inodes *t = c->ino;
	struct btree_trans *trans = btree_trans_get(c->btree);
	u64 last = 0;
	int ret = lockrestart_do(trans, read_last(trans, limit, &last));

	btree_trans_put(trans);
	ret = ret ?: new_epoch(c);
	if (ret)
		return ret;
	t->inum_next = max_t(u64, last + 1, BCFS_FIRST_INO);
	t->inum_ready = true;
	return 0;
}

/* The first number at or behind @from that no key is at; *ret 0: none up to @limit. */
static int find_gap(struct bcfs *c, u64 from, u64 limit, u64 *ret)
{
	struct btree_trans *trans = btree_trans_get(c->btree);
	u64 gap = from;
	int err = for_each_btree_key_max(trans, iter, BTREE_ID_inodes, POS(0, from),
					 SPOS(0, limit, UINT32_MAX), BTREE_ITER_ALL_SNAPSHOTS, k, ({
						 int stop = k.k->p.offset > gap;

						 if (!stop)
							 gap = k.k->p.offset + 1;
						 stop;
					 }));

	btree_trans_put(trans);
	if (err < 0)
		return err;
	*ret = gap <= limit ? gap : 0;
	return 0;
}

static int inum_alloc(struct bcfs *c, u32 subvol, u64 *ret_inum, u32 *ret_generation)
{
	struct fs_inodes *t = c->ino;
	u64 limit = inum_limit(c, subvol), gap;
	int ret = 0;

	env_mutex_lock(&t->inum_lock);
	if (!t->inum_ready)
		ret = inum_init(c, limit);
	/* A new epoch, or going on in one that has to look where it steps. */
	if (!ret && t->inum_next > limit) {
		ret = find_gap(c, BCFS_FIRST_INO, limit, &gap);
		if (!ret && !gap)
			ret = -BCFS_ERR_no_inums;
		ret = ret ?: new_epoch(c);
		if (!ret)
			t->inum_next = gap;
	}
	if (!ret) {
		*ret_inum = t->inum_next++;
		*ret_generation = t->generation;
	}
	env_mutex_unlock(&t->inum_lock);
	return ret;
}

/* @inum, given out by the cursor, is in use: go on at the next gap. */
static int inum_skip(struct bcfs *c, u64 inum)
{
	struct fs_inodes *t = c->ino;
	u64 gap;
	int ret;

	env_mutex_lock(&t->inum_lock);
	ret = find_gap(c, t->inum_next, BCFS_INUM_MAX, &gap);
	if (!ret)
		t->inum_next = gap ?: BCFS_INUM_MAX + 1;
	env_mutex_unlock(&t->inum_lock);
	return ret;
}

int inum_next(struct bcfs *c, u32 subvol, u64 taken, u64 *ret_inum, u32 *ret_generation)
{
	return (taken ? inum_skip(c, taken) : 0) ?: inum_alloc(c, subvol, ret_inum, ret_generation);
}

int inode_create(struct btree_trans *trans, struct btree_iter *iter,
		 const struct bcfs_inode_unpacked *inode)
{
	struct bpos pos = SPOS(0, inode->inum, inode->snapshot);
	struct bkey_s_c k;
	int err;

	btree_iter_init(trans, iter, BTREE_ID_inodes, POS(0, inode->inum),
			BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_INTENT);
	k = btree_iter_peek_max(iter, SPOS(0, inode->inum, UINT32_MAX));
	err = bkey_err(k);
	if (err)
		return err;
	if (k.k)
		return -BCFS_ERR_inum_taken;

	btree_iter_set_pos(iter, pos);
	return inode_write(trans, iter, inode);
}
