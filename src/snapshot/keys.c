// SPDX-License-Identifier: LGPL-2.1-or-later
/* Key types of the snapshots and subvolumes btrees. */
#include "snapshot/snapshot_private.h"
#include "util/printbuf.h"

static int snap_invalid(struct printbuf *err, const char *what)
{
	prt_printf(err, "snapshot: %s", what);
	return -BCFS_ERR_snapshot_invalid;
}

static int snapshot_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			     struct printbuf *err)
{
	const struct bcfs_snapshot *s = (const void *)k.v;
	u64 id = k.k->p.offset;

	if (btree != BTREE_ID_snapshots || level)
		return snap_invalid(err, "in the wrong btree");
	if (bkey_val_bytes(k.k) < sizeof(*s))
		return snap_invalid(err, "cut off");
	if (k.k->p.inode || !id || id > UINT32_MAX || k.k->p.snapshot)
		return snap_invalid(err, "id out of range");
	if (s->parent && s->parent <= id)
		return snap_invalid(err, "parent not above it");
	for (unsigned i = 0; i < 2; i++)
		if (s->children[i] >= id)
			return snap_invalid(err, "child not below it");
	if (s->children[1] && s->children[1] >= s->children[0])
		return snap_invalid(err, "children out of order");
	for (unsigned i = 0; i < 3; i++)
		if (s->skip[i] && s->skip[i] <= id)
			return snap_invalid(err, "skip list not above it");
	if (s->subvol > BCFS_SUBVOL_MAX)
		return snap_invalid(err, "subvolume out of range");
	return 0;
}

static void snapshot_to_text(struct printbuf *out, struct bkey_s_c k)
{
	const struct bcfs_snapshot *s = (const void *)k.v;

	prt_printf(out, "parent %u children %u %u subvolume %u tree %u depth %u flags %x",
		   s->parent, s->children[0], s->children[1], s->subvol, s->tree, s->depth,
		   s->flags);
}

const struct bkey_ops bkey_ops_snapshot = {
	.validate = snapshot_validate,
	.to_text = snapshot_to_text,
};

static int tree_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			 struct printbuf *err)
{
	const struct bcfs_snapshot_tree *s = (const void *)k.v;

	if (btree != BTREE_ID_snapshots || level || k.k->p.inode != 1 || !k.k->p.offset ||
	    k.k->p.offset > UINT32_MAX || k.k->p.snapshot)
		return snap_invalid(err, "tree in the wrong place");
	if (bkey_val_bytes(k.k) < sizeof(*s))
		return snap_invalid(err, "tree cut off");
	if (!s->root_snapshot || s->master_subvol > BCFS_SUBVOL_MAX)
		return snap_invalid(err, "tree without a root");
	return 0;
}

static void tree_to_text(struct printbuf *out, struct bkey_s_c k)
{
	const struct bcfs_snapshot_tree *s = (const void *)k.v;

	prt_printf(out, "subvolume %u root %u", s->master_subvol, s->root_snapshot);
}

const struct bkey_ops bkey_ops_snapshot_tree = {
	.validate = tree_validate,
	.to_text = tree_to_text,
};

static int subvol_invalid(struct printbuf *err, const char *what)
{
	prt_printf(err, "subvolume: %s", what);
	return -BCFS_ERR_snapshot_subvolume_invalid;
}

static int subvolume_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			      struct printbuf *err)
{
	const struct bcfs_subvolume *s = (const void *)k.v;

	if (btree != BTREE_ID_subvolumes || level)
		return subvol_invalid(err, "in the wrong btree");
	if (bkey_val_bytes(k.k) < sizeof(*s))
		return subvol_invalid(err, "cut off");
	if (k.k->p.inode || !k.k->p.offset || k.k->p.offset > BCFS_SUBVOL_MAX || k.k->p.snapshot)
		return subvol_invalid(err, "id out of range");
	if (!s->snapshot)
		return subvol_invalid(err, "snapshot 0");
	if (!s->inode || s->inode > BCFS_INUM_MAX)
		return subvol_invalid(err, "root directory out of range");
	if (s->creation_parent > BCFS_SUBVOL_MAX || s->fs_path_parent > BCFS_SUBVOL_MAX)
		return subvol_invalid(err, "parent out of range");
	return 0;
}

static void subvolume_to_text(struct printbuf *out, struct bkey_s_c k)
{
	const struct bcfs_subvolume *s = (const void *)k.v;

	prt_printf(out, "snapshot %u root inode %llu parents %u %u flags %x", s->snapshot,
		   (unsigned long long)s->inode, s->creation_parent, s->fs_path_parent, s->flags);
}

const struct bkey_ops bkey_ops_subvolume = {
	.validate = subvolume_validate,
	.to_text = subvolume_to_text,
};
