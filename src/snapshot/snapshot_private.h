/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For files of this folder only. */
#ifndef BCFS_SNAPSHOT_SNAPSHOT_PRIVATE_H
#define BCFS_SNAPSHOT_SNAPSHOT_PRIVATE_H

#include "env/env.h"
#include "snapshot/snapshot.h"
#include "util/darray.h"

#include <stdatomic.h>

BKEY_VAL_TYPE(snapshot, struct bcfs_snapshot);
BKEY_VAL_TYPE(snapshot_tree, struct bcfs_snapshot_tree);
BKEY_VAL_TYPE(subvolume, struct bcfs_subvolume);

/* One published state: never changed, freed after a grace period. */
struct snapshot_array {
	struct rcu_head rcu;
	struct env *env;
	unsigned nr_snaps, nr_subvols;
	struct subvol_node *subvols;  /* by id; behind snaps[] */
	struct snapshot_node snaps[]; /* by id */
};

struct snapshot_table {
	struct env *env;
	struct env_mutex lock;		    /* of those who replace cur */
	struct snapshot_array *_Atomic cur; /* RCU; never NULL */
};

typedef DARRAY(struct snapshot_node) darray_snapshot_node;
typedef DARRAY(struct subvol_node) darray_subvol_node;

/* All keys of both btrees. */
int snapshots_collect(struct btree_fs *btree, darray_snapshot_node *snaps,
		      darray_subvol_node *subvols);

#endif
