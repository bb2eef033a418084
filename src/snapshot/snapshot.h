/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Snapshots and subvolumes: who descends from whom, and which snapshot id a
 * subvolume's keys carry.
 *
 * Every key of the extents, inodes, dirents and xattrs btrees carries a snapshot id. Seen
 * from snapshot S, at each place the key of S counts, or that of the nearest ancestor of S
 * that has one there; a whiteout hides what ancestors have. Children have smaller ids than
 * their parents, so an ancestor's id is never smaller.
 *
 * struct snapshot_table is all of the snapshots and subvolumes btrees in memory: an immutable
 * sorted array, published under RCU and replaced as a whole when something changes.
 *
 * Invariants:
 *  1. readers (snapshot_is_ancestor(), subvol_snapshot(), called under node locks) never
 *     block and never see a half-made table;
 *  2. ids ascend strictly from child to parent: a walk always ends, on any image
 *     (snapshots_read() refuses a table that breaks it);
 *  3. snapshot_inodes has {id, inum} exactly where the inodes btree has a key for inum
 *     in that id that is an inode, or, in an id with a parent, anything else. Every
 *     change of an inode's extents, dirents and xattrs changes its inode key in the same
 *     transaction, so that is every inum with a key in that id.
 *
 * Locks: the table's mutex is taken by those who replace it; nothing is locked under it.
 *
 * Not here yet: taking and deleting snapshots.
 */
#ifndef BCFS_SNAPSHOT_SNAPSHOT_H
#define BCFS_SNAPSHOT_SNAPSHOT_H

#include "bcfs/format/inode.h"
#include "bcfs/format/snapshot.h"
#include "btree/iter.h"

struct env;
struct log;
struct snapshot_table;

struct snapshot_node {
	u32 id;
	u32 parent; /* 0: a root */
	u32 subvol; /* 0: an interior node */
	u32 tree;
	u32 flags;
};

struct subvol_node {
	u32 id;
	u32 snapshot;
	u64 root_inum;
	u32 flags; /* BCFS_SUBVOLUME_* */
};

/* An empty table. Free takes NULL; nobody reads any more then. */
int snapshots_alloc(struct env *env, struct snapshot_table **ret);
void snapshots_free(struct snapshot_table *t);

/* Replace the contents (sorted here; checked): -BCFS_ERR_snapshot_tree_invalid with text in @err.
 */
int snapshots_set(struct snapshot_table *t, const struct snapshot_node *snaps, unsigned nr_snaps,
		  const struct subvol_node *subvols, unsigned nr_subvols, struct printbuf *err);
/* Fill from the snapshots and subvolumes btrees; after replay has made them whole. */
int snapshots_read(struct snapshot_table *t, struct btree_fs *btree, const struct log *log);

/* @ancestor is @id or an ancestor of it. Ids that are not in the table descend from nobody. */
bool snapshot_is_ancestor(const struct snapshot_table *t, u32 id, u32 ancestor);
/* The parent; 0 for a root or an unknown id. */
u32 snapshot_parent(const struct snapshot_table *t, u32 id);
bool snapshot_exists(const struct snapshot_table *t, u32 id);

/* The snapshot id that @subvol's keys carry: -BCFS_ERR_no_such_subvolume. */
int subvol_snapshot(const struct snapshot_table *t, u32 subvol, u32 *ret_snapshot);
int subvol_get(const struct snapshot_table *t, u32 subvol, struct subvol_node *ret);
/* Every subvolume, by number; fn is called without a lock, anything but 0 ends it. */
int subvols_for_each(const struct snapshot_table *t,
		     int (*fn)(void *arg, const struct subvol_node *s), void *arg);
/* The subvolume that lives in leaf @snapshot; 0: none. */
u32 snapshot_subvol(const struct snapshot_table *t, u32 snapshot);

/*
 * mkfs: write snapshot tree 1, its root BCFS_SNAPSHOT_ROOT and subvolume 1 with root directory
 * BCFS_ROOT_INO, and fill the table. One commit.
 */
int snapshots_init_fs(struct snapshot_table *t, struct btree_fs *btree, u64 now);

/*
 * The part of an inodes btree trigger that keeps snapshot_inodes (invariant 3): called with
 * every change of a key of that btree.
 */
int snapshot_inodes_trigger(struct btree_trans *trans, const struct snapshot_table *t,
			    struct bkey_s_c old, struct bkey_s_c new);
/* Whether the rule wants {k's snapshot, inum} in snapshot_inodes. */
bool snapshot_inodes_wants(const struct snapshot_table *t, struct bkey_s_c k);

/*
 * fsck: snapshots against each other, subvolumes against snapshots, snapshot_inodes against
 * inodes. Each difference is given to @report; *ret_errors counts them.
 */
int check_snapshots(struct snapshot_table *t, struct btree_fs *btree, u64 *ret_errors,
		    void (*report)(void *arg, const char *text), void *arg);

/* Key behaviour for the table core/ builds. */
extern const struct bkey_ops bkey_ops_snapshot, bkey_ops_snapshot_tree, bkey_ops_subvolume;

#endif
