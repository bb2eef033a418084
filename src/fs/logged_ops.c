// SPDX-License-Identifier: LGPL-2.1-or-later
/* Logged operations: see io.h. What a crash has ended is finished here, before the first request.
 */
#include "fs/io.h"
#include "fs/keys.h"
#include "fs/table.h"
#include "util/cleanup.h"
#include "util/darray.h"

struct bpos logged_op_pos(struct bcfs_ino ino)
{
	return POS(0, bcfs_ino_pack(ino));
}

int logged_op_done(struct bcfs *c, struct bcfs_ino ino)
{
	struct btree_trans *trans = btree_trans_get(c->btree);
	int ret = commit_do(trans, NULL, BTREE_COMMIT_REMOVES,
			    btree_trans_delete(trans, BTREE_ID_logged_ops, logged_op_pos(ino), 0));

	btree_trans_put(trans);
	return ret;
}

int logged_op_failed(struct bcfs *c, struct bcfs_ino ino, const char *what, int err)
{
	int none = 0;

	log_err(c->log, "%s of inode %u:%llu: %s; the filesystem is now read-only", what,
		ino.subvol, (unsigned long long)ino.inum, err_str(err));
	atomic_compare_exchange_strong(&c->error, &none, err);
	return err;
}

/* One that was found. */
struct op {
	struct bcfs_ino ino;
	enum bkey_type type;
	union {
		struct bcfs_logged_op_truncate truncate;
		struct bcfs_logged_op_finsert finsert;
	};
};

typedef DARRAY(struct op) darray_op;

static int op_collect(struct bcfs *c, darray_op *ops, struct bkey_s_c k)
{
	struct op op = {.type = k.k->type};

	switch (op.type) {
	case KEY_TYPE_logged_op_truncate:
		op.truncate = *bkey_s_c_to_logged_op_truncate(k).v;
		op.ino = (struct bcfs_ino){op.truncate.subvol, op.truncate.inum};
		break;
	case KEY_TYPE_logged_op_finsert:
		op.finsert = *bkey_s_c_to_logged_op_finsert(k).v;
		op.ino = (struct bcfs_ino){op.finsert.subvol, op.finsert.inum};
		break;
	default:
		log_warn(c->log, "an unfinished operation of type %s is left as it is",
			 bkey_type_name(k.k->type));
		return 0;
	}
	return darray_push(ops, op);
}

static int op_resume(struct bcfs *c, const struct op *op)
{
	struct bcfs_inode_unpacked inode;
	int ret = inode_get(c, op->ino, &inode);

	if (ret == -BCFS_ERR_no_such_inode || ret == -BCFS_ERR_no_such_subvolume)
		return logged_op_done(c, op->ino);
	if (ret)
		return ret;
	return op->type == KEY_TYPE_logged_op_truncate
		       ? inode_truncate_rest(c, op->ino, &inode, op->truncate.new_size)
		       : inode_shift_resume(c, op->ino, &inode, &op->finsert);
}

int logged_ops_resume(struct bcfs *c)
{
	CLEANUP(darray_exit_p) darray_op ops = {0};
	struct btree_trans *trans = btree_trans_get(c->btree);
	int ret = for_each_btree_key (trans, iter, BTREE_ID_logged_ops, POS_MIN, 0, k,
				      op_collect(c, &ops, k));

	btree_trans_put(trans);
	darray_for_each (ops, op) {
		if (ret)
			break;
		inode_lock(c, op->ino);
		ret = op_resume(c, op);
		inode_unlock(c, op->ino);
	}
	return ret;
}
