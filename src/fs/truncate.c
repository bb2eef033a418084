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
#include "util/cleanup.h"
#include "util/darray.h"
#include "util/planted.h"

#include <string.h>

#define NOMEM_RETRY_NS (10 * ENV_NSEC_PER_MSEC)

/* One inode has at most one at a time: its lock is held. */
static struct bpos op_pos(struct bcfs_ino ino)
{
	return POS(0, bcfs_ino_pack(ino));
}

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

	k = btree_trans_alloc_key(trans, KEY_TYPE_logged_op_truncate, op_pos(a->ino),
				  sizeof(struct bcfs_logged_op_truncate));
	struct bcfs_logged_op_truncate *op = &bkey_i_to_logged_op_truncate(k)->v;

	op->subvol = a->ino.subvol;
	op->inum = a->ino.inum;
	op->new_size = a->size;
	return btree_trans_insert(trans, BTREE_ID_logged_ops, k, 0);
}

static int op_done(struct bcfs *c, struct bcfs_ino ino)
{
	struct btree_trans *trans = btree_trans_get(c->btree);
	int ret = commit_do(trans, NULL, BTREE_COMMIT_REMOVES,
			    btree_trans_delete(trans, BTREE_ID_logged_ops, op_pos(ino), 0));

	btree_trans_put(trans);
	return ret;
}

static int remove_rest(struct bcfs *c, struct bcfs_ino ino, const struct bcfs_inode_unpacked *inode,
		       u64 size)
{
	struct data_file f = io_file(ino, inode);
	struct io_update u = {.c = c, .ino = ino};

	return data_truncate(c->data, &f, size, io_commit, &u, NULL) ?: op_done(c, ino);
}

/* The extents behind the end, then the logged op. */
static int truncate_rest(struct bcfs *c, struct bcfs_ino ino,
			 const struct bcfs_inode_unpacked *inode, u64 size)
{
	int ret, none = 0;

	while ((ret = remove_rest(c, ino, inode, size)) == -BCFS_ERR_nomem)
		env_sleep_ns(c->env, NOMEM_RETRY_NS);

	if (ret) {
		log_err(c->log, "truncate of inode %u:%llu: %s; the filesystem is now read-only",
			ino.subvol, (unsigned long long)ino.inum, err_str(ret));
		atomic_compare_exchange_strong(&c->error, &none, ret);
	}
	return ret;
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
	return ret || !a.log_op ? ret : truncate_rest(c, ino, &inode, size);
}

/* ---- after a crash ---- */

typedef DARRAY(struct bcfs_logged_op_truncate) darray_op;

static int op_collect(struct bcfs *c, darray_op *ops, struct bkey_s_c k)
{
	if (k.k->type == KEY_TYPE_logged_op_truncate)
		return darray_push(ops, *bkey_s_c_to_logged_op_truncate(k).v);
	log_warn(c->log, "an unfinished operation of type %s is left as it is",
		 bkey_type_name(k.k->type));
	return 0;
}

int logged_ops_resume(struct bcfs *c)
{
	CLEANUP(darray_exit_p) darray_op ops = {0};
	struct btree_trans *trans = btree_trans_get(c->btree);
	int ret = for_each_btree_key (trans, iter, BTREE_ID_logged_ops, POS_MIN, 0, k,
				      op_collect(c, &ops, k));

	btree_trans_put(trans);
	darray_for_each (ops, op) {
		struct bcfs_ino ino = {op->subvol, op->inum};
		struct bcfs_inode_unpacked inode;

		if (ret)
			break;
		inode_lock(c, ino);
		ret = inode_get(c, ino, &inode);
		if (!ret)
			ret = truncate_rest(c, ino, &inode, op->new_size);
		else if (ret == -BCFS_ERR_no_such_inode || ret == -BCFS_ERR_no_such_subvolume)
			ret = op_done(c, ino);
		inode_unlock(c, ino);
	}
	return ret;
}

/* ---- fallocate ---- */

static int fallocate_check(const struct bcfs_inode_unpacked *inode, u32 mode, u64 offset, u64 len)
{
	u32 kind = mode & ~BCFS_FALLOC_KEEP_SIZE;

	if (kind && kind != BCFS_FALLOC_PUNCH_HOLE && kind != BCFS_FALLOC_ZERO_RANGE)
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
	if (!(mode & BCFS_FALLOC_KEEP_SIZE) && offset + len > inode.size) {
		a.size = offset + len;
		ret = io_zero_tail(c, ino, &inode);
		if (ret)
			return ret;
	}
	f = io_file(ino, &inode);
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
