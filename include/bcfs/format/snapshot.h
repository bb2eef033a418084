/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * On-disk format: snapshots, subvolumes, and what is kept beside inodes.
 *
 * snapshots:        {0, snapshot id}             struct bcfs_snapshot
 *                   {1, tree id}                 struct bcfs_snapshot_tree
 * subvolumes:       {0, subvolume id}            struct bcfs_subvolume
 * snapshot_inodes:  {snapshot id, inum}          KEY_TYPE_set
 * deleted_inodes:   {subvolume, inum}            KEY_TYPE_set
 * logged_ops:       {0, id}                      struct bcfs_logged_op_*
 *
 * The root of the first snapshot tree is BCFS_SNAPSHOT_ROOT; children get
 * smaller ids than their parents. A key is seen in snapshot S if its id is S or
 * the nearest ancestor of S that has a key there.
 */
#ifndef BCFS_FORMAT_SNAPSHOT_H
#define BCFS_FORMAT_SNAPSHOT_H

#include "bcfs/format/bkey.h"

#define BCFS_SNAPSHOT_ROOT UINT32_MAX

struct bcfs_snapshot {
	uint32_t flags;	      /* BCFS_SNAPSHOT_* */
	uint32_t parent;      /* 0: a root */
	uint32_t children[2]; /* the larger first; 0: none */
	uint32_t subvol;      /* 0: an interior node */
	uint32_t tree;	      /* tree id */
	uint32_t depth;
	uint32_t skip[3]; /* ancestors, for long walks */
	uint64_t btime;	  /* ns */
	uint64_t reserved[2];
};

#define BCFS_SNAPSHOT_DELETED (1U << 0)
#define BCFS_SNAPSHOT_SUBVOL  (1U << 1)

struct bcfs_snapshot_tree {
	uint32_t master_subvol;
	uint32_t root_snapshot;
	uint64_t reserved;
};

struct bcfs_subvolume {
	uint32_t flags; /* BCFS_SUBVOLUME_* */
	uint32_t snapshot;
	uint64_t inode; /* its root directory */
	uint32_t creation_parent;
	uint32_t fs_path_parent;
	uint64_t otime;
	uint64_t reserved[2];
};

#define BCFS_SUBVOLUME_RO	(1U << 0)
#define BCFS_SUBVOLUME_SNAP	(1U << 1)
#define BCFS_SUBVOLUME_UNLINKED (1U << 2)

struct bcfs_logged_op_truncate {
	uint32_t subvol;
	uint32_t pad;
	uint64_t inum;
	uint64_t new_size; /* bytes */
};

struct bcfs_logged_op_finsert {
	uint8_t state;
	uint8_t pad[3];
	uint32_t subvol;
	uint64_t inum;
	int64_t dst_offset; /* sectors */
	uint64_t src_offset;
	uint64_t pos;
};

#endif
