/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An interior update under way: what interior.c and interior_pair.c share. */
#ifndef BCFS_BTREE_INTERIOR_PRIVATE_H
#define BCFS_BTREE_INTERIOR_PRIVATE_H

#include "btree/btree_private.h"

#define OP_NODES_MAX 3
#define PTR_KEY_U64s (BKEY_U64s + sizeof(struct bcfs_btree_ptr) / 8 + 1)
#define OP_AGAIN     1 /* give up this attempt, wait for what op->wait says, try again */
#define OP_DONE	     2 /* nothing (more) to do */

enum op_kind { OP_MAKE_ROOM, OP_BALANCE, OP_REWRITE, OP_MERGE, OP_SHRINK };

struct interior_op {
	struct btree_fs *c;
	struct btree_trans *trans;
	enum op_kind kind;
	u8 id, level;
	struct bpos pos;
	u64 hash;     /* OP_REWRITE: only if it still is this node */
	u32 u64s;     /* OP_MAKE_ROOM, OP_BALANCE: how much */
	bool reserve; /* ditto */
	unsigned space_flags;
	unsigned nr_prepared;
	struct bcfs_extent_ptr space[OP_NODES_MAX];
	struct btree *mem[OP_NODES_MAX];
	bool written[OP_NODES_MAX];
	void *buf;	   /* for writing: had before a place is used up */
	unsigned nr_taken; /* of those */
	struct interior_swap swap;
	struct btree *wait_write; /* a write in flight that is in the way */
	bool parent_full;
	int write_err;	       /* of a new node's write: tried again in another place */
	unsigned write_errors; /* how often */
	unsigned tight;	       /* the transaction's own updates did not fit the new nodes */
	struct btree_iter iter, sibling; /* exited with all others when the attempt ends */
};

static inline u32 interior_capacity_u64s(const struct btree_fs *c)
{
	return (c->opts.node_bytes - sizeof(struct btree_node)) / 8;
}

/* With intent on @pos's node at the op's level and on its parent; OP_AGAIN: see wait_write. */
int interior_lock(struct interior_op *op, struct btree_iter *iter, struct bpos pos,
		  struct btree **ret_b);
struct btree *interior_parent(struct btree_iter *iter);
/* The next prepared node, as [min, max] of @level, empty, in @fmt. */
struct btree *interior_new_node(struct interior_op *op, unsigned level, struct bpos min_key,
				struct bpos max_key, const struct bkey_format *fmt);
/* What was put into them did not fit: as if nothing had been tried. */
static inline void interior_untake_nodes(struct interior_op *op)
{
	op->nr_taken = 0;
	op->swap = (struct interior_swap){0};
}
/* The pointer to @new becomes a key of the parent with the op's commit. */
int interior_queue_parent_key(struct interior_op *op, struct btree *new);
/* @b alone in a new node. */
int interior_compact(struct interior_op *op, struct btree *b, bool root,
		     const struct bkey_format *fmt);
/*
 * Would a new node of @live u64s leave enough for appends: an eighth, a header, a block in reserve,
 * and @request?
 */
bool interior_leaves_room(const struct btree_fs *c, u32 live, u32 request);

/* interior_pair.c: 0: the new nodes are filled; OP_DONE: nothing to do; OP_AGAIN; or an error. */
int interior_merge(struct interior_op *op, struct btree_iter *iter, struct btree *b);
/* -BCFS_ERR_nospc: no neighbour has room to give. */
int interior_balance(struct interior_op *op, struct btree_iter *iter, struct btree *b);

#endif
