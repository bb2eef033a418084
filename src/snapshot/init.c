// SPDX-License-Identifier: LGPL-2.1-or-later
/* The first subvolume, and the trigger that keeps snapshot_inodes. */
#include "snapshot/snapshot_private.h"

#define FIRST_TREE 1U

static int init_trans(struct btree_trans *trans, u64 now)
{
	struct bkey_i *k;
	int ret;

	k = btree_trans_alloc_key(trans, KEY_TYPE_snapshot, POS(0, BCFS_SNAPSHOT_ROOT),
				  sizeof(struct bcfs_snapshot));
	bkey_i_to_snapshot(k)->v = (struct bcfs_snapshot){.flags = BCFS_SNAPSHOT_SUBVOL,
							  .subvol = BCFS_ROOT_SUBVOL,
							  .tree = FIRST_TREE,
							  .btime = now};
	ret = btree_trans_insert(trans, BTREE_ID_snapshots, k, 0);
	if (ret)
		return ret;

	k = btree_trans_alloc_key(trans, KEY_TYPE_snapshot_tree, POS(1, FIRST_TREE),
				  sizeof(struct bcfs_snapshot_tree));
	bkey_i_to_snapshot_tree(k)->v = (struct bcfs_snapshot_tree){
		.master_subvol = BCFS_ROOT_SUBVOL, .root_snapshot = BCFS_SNAPSHOT_ROOT};
	ret = btree_trans_insert(trans, BTREE_ID_snapshots, k, 0);
	if (ret)
		return ret;

	k = btree_trans_alloc_key(trans, KEY_TYPE_subvolume, POS(0, BCFS_ROOT_SUBVOL),
				  sizeof(struct bcfs_subvolume));
	bkey_i_to_subvolume(k)->v = (struct bcfs_subvolume){
		.snapshot = BCFS_SNAPSHOT_ROOT, .inode = BCFS_ROOT_INO, .otime = now};
	return btree_trans_insert(trans, BTREE_ID_subvolumes, k, 0);
}

int snapshots_init_fs(struct snapshot_table *t, struct btree_fs *btree, u64 now)
{
	const struct snapshot_node snap = {.id = BCFS_SNAPSHOT_ROOT,
					   .subvol = BCFS_ROOT_SUBVOL,
					   .tree = FIRST_TREE,
					   .flags = BCFS_SNAPSHOT_SUBVOL};
	const struct subvol_node subvol = {
		.id = BCFS_ROOT_SUBVOL, .snapshot = BCFS_SNAPSHOT_ROOT, .root_inum = BCFS_ROOT_INO};
	struct btree_trans *trans = btree_trans_get(btree);
	int ret = commit_do(trans, NULL, 0, init_trans(trans, now));

	btree_trans_put(trans);
	return ret ?: snapshots_set(t, &snap, 1, &subvol, 1, NULL);
}

/*
 * An inode is what deletion and send look for; anything else only matters where there is
 * something for it to hide, below a parent. The generation of an epoch (inum 0) is no inode's.
 */
bool snapshot_inodes_wants(const struct snapshot_table *t, struct bkey_s_c k)
{
	if (k.k->type == KEY_TYPE_inode)
		return true;
	return k.k->type != KEY_TYPE_deleted && k.k->p.offset &&
	       snapshot_parent(t, k.k->p.snapshot);
}

int snapshot_inodes_trigger(struct btree_trans *trans, const struct snapshot_table *t,
			    struct bkey_s_c old, struct bkey_s_c new)
{
	bool want = snapshot_inodes_wants(t, new);

	if (want == snapshot_inodes_wants(t, old))
		return 0;
	return btree_trans_bit_mod(trans, BTREE_ID_snapshot_inodes,
				   POS(new.k->p.snapshot, new.k->p.offset), want);
}
