// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fs/keys.h"
#include "util/printbuf.h"

/* ---- hash_whiteout ---- */

static int hash_whiteout_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
				  struct printbuf *err)
{
	if ((btree != BTREE_ID_dirents && btree != BTREE_ID_xattrs) || level) {
		prt_str(err, "hash whiteout: in the wrong btree");
		return -BCFS_ERR_hash_whiteout_invalid;
	}
	if (bkey_val_bytes(k.k) || !k.k->p.inode || k.k->p.inode > BCFS_INUM_MAX ||
	    k.k->p.offset < BCFS_DIRENT_HASH_MIN || k.k->p.offset > BCFS_DIRENT_HASH_MAX ||
	    !k.k->p.snapshot) {
		prt_str(err, "hash whiteout: with a value or out of range");
		return -BCFS_ERR_hash_whiteout_invalid;
	}
	return 0;
}

const struct bkey_ops bkey_ops_hash_whiteout = {.validate = hash_whiteout_validate};

/* ---- whiteout ---- */

static int whiteout_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			     struct printbuf *err)
{
	if (!(btree_id_flags(btree) & BTREE_HAS_SNAPSHOTS) || level) {
		prt_str(err, "whiteout: in a btree without snapshots");
		return -BCFS_ERR_whiteout_invalid;
	}
	if (bkey_val_bytes(k.k)) {
		prt_str(err, "whiteout: with a value");
		return -BCFS_ERR_whiteout_invalid;
	}
	return 0;
}

static int whiteout_trigger(struct btree_trans *trans, enum btree_id btree, unsigned level,
			    struct bkey_s_c old, struct bkey_s_c new, unsigned flags)
{
	struct bcfs *c = btree_trans_ops_arg(trans);

	return btree == BTREE_ID_inodes ? snapshot_inodes_trigger(trans, c->snapshots, old, new)
					: 0;
}

const struct bkey_ops bkey_ops_whiteout = {
	.validate = whiteout_validate,
	.trigger = whiteout_trigger,
};

/* ---- set ---- */

static int set_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			struct printbuf *err)
{
	const char *what = NULL;

	if (bkey_val_bytes(k.k) || level) {
		what = "with a value or in an interior node";
	} else if (btree == BTREE_ID_deleted_inodes) {
		if (!k.k->p.inode || k.k->p.inode > BCFS_SUBVOL_MAX || !k.k->p.offset ||
		    k.k->p.offset > BCFS_INUM_MAX)
			what = "no inode of a subvolume";
	} else if (btree == BTREE_ID_snapshot_inodes) {
		if (!k.k->p.inode || k.k->p.inode > UINT32_MAX || !k.k->p.offset ||
		    k.k->p.offset > BCFS_INUM_MAX)
			what = "no inode of a snapshot";
	} else if (btree != BTREE_ID_need_discard && btree != BTREE_ID_rebalance_work) {
		what = "in the wrong btree";
	}
	if (!what)
		return 0;
	prt_printf(err, "set: %s", what);
	return -BCFS_ERR_set_invalid;
}

const struct bkey_ops bkey_ops_set = {.validate = set_validate};

/* ---- logged operations ---- */

static int logged_op_invalid(struct printbuf *err, const char *what)
{
	prt_printf(err, "logged op: %s", what);
	return -BCFS_ERR_logged_op_invalid;
}

static int op_truncate_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
				struct printbuf *err)
{
	const struct bcfs_logged_op_truncate *op = (const void *)k.v;

	if (btree != BTREE_ID_logged_ops || level)
		return logged_op_invalid(err, "in the wrong btree");
	if (bkey_val_bytes(k.k) < sizeof(*op))
		return logged_op_invalid(err, "cut off");
	if (!op->subvol || op->subvol > BCFS_SUBVOL_MAX || !op->inum || op->inum > BCFS_INUM_MAX ||
	    op->new_size > INT64_MAX)
		return logged_op_invalid(err, "out of range");
	return 0;
}

static void op_truncate_to_text(struct printbuf *out, struct bkey_s_c k)
{
	const struct bcfs_logged_op_truncate *op = (const void *)k.v;

	prt_printf(out, "subvolume %u inode %llu to %llu bytes", op->subvol,
		   (unsigned long long)op->inum, (unsigned long long)op->new_size);
}

const struct bkey_ops bkey_ops_logged_op_truncate = {
	.validate = op_truncate_validate,
	.to_text = op_truncate_to_text,
};

#define FINSERT_MAX (INT64_MAX >> SECTOR_SHIFT)

static int op_finsert_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			       struct printbuf *err)
{
	const struct bcfs_logged_op_finsert *op = (const void *)k.v;

	if (btree != BTREE_ID_logged_ops || level)
		return logged_op_invalid(err, "in the wrong btree");
	if (bkey_val_bytes(k.k) < sizeof(*op))
		return logged_op_invalid(err, "cut off");
	if (!op->subvol || op->subvol > BCFS_SUBVOL_MAX || !op->inum || op->inum > BCFS_INUM_MAX ||
	    !op->dst_offset || op->dst_offset > FINSERT_MAX || op->dst_offset < -FINSERT_MAX ||
	    op->src_offset > FINSERT_MAX || op->pos > FINSERT_MAX)
		return logged_op_invalid(err, "out of range");
	return 0;
}

static void op_finsert_to_text(struct printbuf *out, struct bkey_s_c k)
{
	const struct bcfs_logged_op_finsert *op = (const void *)k.v;

	prt_printf(out, "subvolume %u inode %llu state %u from %llu by %lld at %llu sectors",
		   op->subvol, (unsigned long long)op->inum, op->state,
		   (unsigned long long)op->src_offset, (long long)op->dst_offset,
		   (unsigned long long)op->pos);
}

const struct bkey_ops bkey_ops_logged_op_finsert = {
	.validate = op_finsert_validate,
	.to_text = op_finsert_to_text,
};
