/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the btree asks of the layers below it, turned round into tables that
 * core/ fills in and passes to btree_fs_alloc(): the behaviour of key types, the
 * space for nodes, the ancestry of snapshots.
 */
#ifndef BCFS_BTREE_OPS_H
#define BCFS_BTREE_OPS_H

#include "bcfs/format/alloc.h"
#include "bcfs/format/extent.h"
#include "btree/bkey.h"

struct btree_trans;
struct btree_fs;
struct printbuf;

/* Flags of a trigger. */
#define BTREE_TRIGGER_GC (1U << 0) /* reserved: called by mark and sweep */

/*
 * Behaviour of a key type. Any member may be NULL. Where a position holds nothing, old or new
 * is a key of type deleted at that position.
 */
struct bkey_ops {
	/*
	 * Is the value sound? Called before every write and after every read of a node and of the
	 * journal. 0, or a negative code with the reason in @err. Never trusts a byte: the value
	 * has bkey_val_bytes(k.k) bytes and nothing else is known (the fixed minimum size of the
	 * type table has been checked). @level: 0 for leaves.
	 */
	int (*validate)(struct bkey_s_c k, enum btree_id btree, unsigned level,
			struct printbuf *err);
	void (*to_text)(struct printbuf *out, struct bkey_s_c k);
	/*
	 * The key at a position changes from @old to @new: queue the updates that must be part of
	 * the same transaction (btree_trans_update() on other btrees, btree_trans_account()). Runs
	 * without write locks; may restart (returns a restart code). Called for the type of old
	 * and, if different, for the type of new, each time with both keys.
	 */
	int (*trigger)(struct btree_trans *trans, enum btree_id btree, unsigned level,
		       struct bkey_s_c old, struct bkey_s_c new, unsigned flags);
	/*
	 * The change is being made, as part of journal entry @seq: last words, with write
	 * locks held; must not block or fail. May change @new's value in place (same size). Called
	 * for the type of @new alone; @old is there (k not NULL) with hook_sees_old only, since
	 * looking for it takes a search.
	 */
	void (*commit_hook)(struct btree_trans *trans, enum btree_id btree, unsigned level,
			    struct bkey_s_c old, struct bkey_i *new, u64 seq);
	bool hook_sees_old;
	/* Extents: the value after the first @sectors of the key are cut off; k.size and p are
	 * already right. */
	void (*cut_front)(struct bkey_i *k, u32 sectors);
	/* Extents: the value after the key was shortened at its end to @sectors. */
	void (*cut_back)(struct bkey_i *k, u32 sectors);
	/* Extents: join @r to @l (adjacent in position) if they are one; true if done, l then
	 * covers both. */
	bool (*merge)(struct bkey_i *l, struct bkey_s_c r);
};

/* Indexed by enum bkey_type. */
struct bkey_ops_table {
	const struct bkey_ops *ops[KEY_TYPE_NR];
};

/* NULL for types without behaviour, and for those of a later version. */
static inline const struct bkey_ops *bkey_ops_of(const struct bkey_ops_table *t, unsigned type)
{
	return t && type < KEY_TYPE_NR ? t->ops[type] : NULL;
}

/* Check a key against the type table and its ops; @level > 0 only allows btree_ptr (and deleted).
 */
int bkey_validate(const struct bkey_ops_table *t, struct bkey_s_c k, enum btree_id btree,
		  unsigned level, struct printbuf *err);
void bkey_val_to_text(const struct bkey_ops_table *t, struct printbuf *out, struct bkey_s_c k);

/* Space for nodes; filled in by alloc/. */
#define BTREE_SPACE_RESERVE (1U << 0) /* may dig into what is kept for interior updates */
#define BTREE_SPACE_KEEPS   (1U << 1) /* a part of the way: for as many keys as before */

struct btree_space_ops {
	/*
	 * Places for @nr nodes (node_sectors long, each inside one bucket, a life of its own): all
	 * of them, or an error and none; who waits for space holds none. Called with no btree locks
	 * held; may block and read btrees, never commits. A place counts as used (kept out of reach
	 * of other allocations) until one of the two calls below.
	 */
	int (*alloc)(void *arg, unsigned flags, unsigned nr, struct bcfs_extent_ptr *ret);
	/* A committed key points at it now (its trigger has counted it). Must not block. */
	void (*used)(void *arg, const struct bcfs_extent_ptr *ptr);
	/* Not needed after all; @written: something was written there, so it is not to be given out
	 * again. */
	void (*unused)(void *arg, const struct bcfs_extent_ptr *ptr, bool written);
};

/*
 * Ancestry of snapshot ids, filled by snapshot/: true if @ancestor is @id or an ancestor of it.
 * Called under node locks; must not block.
 */
struct btree_snapshot_ops {
	bool (*is_ancestor)(void *arg, u32 id, u32 ancestor);
};

#endif
