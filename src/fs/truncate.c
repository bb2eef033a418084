// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Truncate and fallocate.
 *
 * Shrinking is one operation, but its extents may take many commits: the first sets
 * the size and writes a logged op; then extents go; then the logged op. After a crash
 * logged_ops_resume() does the rest before anybody can make the file grow over what is left.
 * If that cannot be finished in a running filesystem, it goes read-only for the same reason; for
 * memory it waits.
 */
#include "fs/io.h"
#include "fs/keys.h"
#include "fs/table.h"
#include "util/planted.h"

#include <string.h>

struct resize_args {
	struct bcfs_ino ino;
	u64 size, now;
	bool log_op, grow_only, kill_priv, keep_times;
};

static int resize_step(struct btree_trans *trans, struct bcfs_inode_unpacked *inode, void *arg)
{
	const struct resize_args *a = arg;
	struct bkey_i *k;
	int ret;

	if (!a->grow_only || a->size > inode->size)
		inode->size = a->size;
	if (!a->keep_times)
		inode->mtime = inode->ctime = a->now;
	if (a->kill_priv)
		inode_kill_priv(inode);
	ret = inode_drop_caps_step(trans, inode);
	if (ret || !a->log_op)
		return ret;

	k = btree_trans_alloc_key(trans, KEY_TYPE_logged_op_truncate, logged_op_pos(a->ino),
				  sizeof(struct bcfs_logged_op_truncate));
	struct bcfs_logged_op_truncate *op = &bkey_i_to_logged_op_truncate(k)->v;

	op->subvol = a->ino.subvol;
	op->inum = a->ino.inum;
	op->new_size = a->size;
	return btree_trans_insert(trans, BTREE_ID_logged_ops, k, 0);
}

static int remove_rest(struct bcfs *c, struct bcfs_ino ino, const struct bcfs_inode_unpacked *inode,
		       u64 size)
{
	struct data_file f = io_file(c, ino, inode);
	struct io_update u = {.c = c, .ino = ino};

	return data_truncate(c->data, &f, size, io_commit, &u, NULL) ?: logged_op_done(c, ino);
}

/* The extents behind the end, then the logged op. */
int inode_truncate_rest(struct bcfs *c, struct bcfs_ino ino,
			const struct bcfs_inode_unpacked *inode, u64 size)
{
	int ret;

	while ((ret = remove_rest(c, ino, inode, size)) == -BCFS_ERR_nomem)
		env_sleep_ns(c->env, LOGGED_OP_RETRY_NS);
	return ret ? logged_op_failed(c, ino, "truncate", ret) : 0;
}

int inode_truncate_locked(struct bcfs *c, struct bcfs_ino ino, u64 size, bool kill_priv)
{
	struct resize_args a = {.ino = ino, .size = size, .now = fs_now(c), .kill_priv = kill_priv};
	struct bcfs_inode_unpacked inode;
	int ret = inode_get(c, ino, &inode) ?: io_check_file(&inode);

	if (ret)
		return ret;
	if (inode.flags & BCFS_INODE_immutable)
		return -BCFS_ERR_immutable;
	if (inode.flags & BCFS_INODE_append)
		return -BCFS_ERR_append_only;
	if (size > FILE_SIZE_MAX)
		return -BCFS_ERR_file_too_big;
	if (size > inode.size) {
		ret = io_zero_tail(c, ino, &inode);
		return ret ?: inode_update_flags(c, ino, BTREE_COMMIT_REMOVES, resize_step, &a);
	}
	a.log_op = inode.sectors > 0 && !planted(truncate_not_logged);
	ret = inode_update_flags(c, ino, BTREE_COMMIT_REMOVES, resize_step, &a);
	return ret || !a.log_op ? ret : inode_truncate_rest(c, ino, &inode, size);
}

/* ---- fallocate ---- */

static int fallocate_check(const struct bcfs_inode_unpacked *inode, u32 mode, u64 offset, u64 len)
{
	u32 kind = mode & ~BCFS_FALLOC_KEEP_SIZE;

	if (kind && kind != BCFS_FALLOC_PUNCH_HOLE && kind != BCFS_FALLOC_ZERO_RANGE &&
	    kind != BCFS_FALLOC_COLLAPSE_RANGE && kind != BCFS_FALLOC_INSERT_RANGE)
		return -BCFS_ERR_fallocate_mode;
	if (kind == BCFS_FALLOC_PUNCH_HOLE && !(mode & BCFS_FALLOC_KEEP_SIZE))
		return -BCFS_ERR_fallocate_mode;
	if (!len)
		return -BCFS_ERR_offset_invalid;
	if (offset > FILE_SIZE_MAX || len > FILE_SIZE_MAX - offset)
		return -BCFS_ERR_file_too_big;
	if (inode->flags & BCFS_INODE_immutable)
		return -BCFS_ERR_immutable;
	if (kind && (inode->flags & BCFS_INODE_append))
		return -BCFS_ERR_append_only;
	return 0;
}

static int fallocate_locked(struct bcfs *c, struct bcfs_ino ino, u32 mode, u64 offset, u64 len)
{
	bool keep_times = mode & BCFS_FALLOC_KEEP_TIMES;
	struct io_update u = {.c = c, .ino = ino, .now = fs_now(c), .times = !keep_times};
	struct resize_args a = {.ino = ino,
				.now = u.now,
				.kill_priv = true,
				.grow_only = true,
				.keep_times = keep_times};
	struct bcfs_inode_unpacked inode;
	struct data_file f;
	int ret;

	mode &= ~BCFS_FALLOC_KEEP_TIMES;
	ret = inode_get(c, ino, &inode)
			  ?: io_check_file(&inode)
			  ?: fallocate_check(&inode, mode, offset, len);

	if (ret)
		return ret;
	if (!(mode &
	      (BCFS_FALLOC_KEEP_SIZE | BCFS_FALLOC_COLLAPSE_RANGE | BCFS_FALLOC_INSERT_RANGE)) &&
	    offset + len > inode.size) {
		a.size = offset + len;
		ret = io_zero_tail(c, ino, &inode);
		if (ret)
			return ret;
	}
	if (mode & (BCFS_FALLOC_COLLAPSE_RANGE | BCFS_FALLOC_INSERT_RANGE))
		return inode_shift_locked(c, ino, &inode, mode, offset, len);
	f = io_file(c, ino, &inode);
	if (mode & (BCFS_FALLOC_PUNCH_HOLE | BCFS_FALLOC_ZERO_RANGE))
		ret = data_punch(c->data, &f, offset, len, inode.size, io_commit, &u, NULL);
	if (!ret && !(mode & BCFS_FALLOC_PUNCH_HOLE))
		ret = data_fallocate(c->data, &f, offset, len, io_commit, &u, NULL);
	return ret ?: inode_update_flags(c, ino, BTREE_COMMIT_REMOVES, resize_step, &a);
}

int bcfs_fallocate(struct bcfs *c, struct bcfs_ino ino, uint32_t mode, uint64_t offset,
		   uint64_t len)
{
	int ret = fs_may_write(c);
	unsigned tries = 0;

	if (ret)
		return ret;
	do {
		inode_lock(c, ino);
		ret = fallocate_locked(c, ino, mode, offset, len);
		inode_unlock(c, ino);
	} while (io_make_room(c, ret, &tries));
	return ret;
}
