// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Interior updates of two neighbours: merged into one, or what they hold shared out anew where one
 * is full and no place is left to split it (as in a B*-tree).
 */
#include "btree/interior_private.h"
#include "util/planted.h"

/* What a merged node leaves for a commit: whoever needs more would split it again. */
#define MERGE_LEAVES_u64s 64

/* The neighbour of @b under the same parent: behind it, or in front. */
static int lock_sibling(struct interior_op *op, struct btree *b, struct btree *parent, bool next,
			struct btree **ret_s)
{
	struct bpos pos;

	if (next ? bpos_ge(b->max_key, parent->max_key) : bpos_le(b->min_key, parent->min_key))
		return OP_DONE;
	pos = next ? bpos_successor(b->max_key) : bpos_predecessor(b->min_key);
	return interior_lock(op, &op->sibling, pos, ret_s);
}

/* Room in the parent for the change of two of its keys: 0, or OP_AGAIN. */
static int parent_has_room(struct interior_op *op, struct btree *parent)
{
	if (btree_node_room(parent, BTREE_ROOM_normal) >= 2 * PTR_KEY_U64s)
		return 0;
	op->parent_full = true;
	return OP_AGAIN;
}

/* Of the two that are replaced, the left one's key goes; the right one's is written over. */
static int queue_pair_goes(struct interior_op *op, struct btree *l, struct btree *r)
{
	struct bkey_i *d = btree_trans_alloc_key(op->trans, KEY_TYPE_deleted, l->max_key, 0);

	op->swap.old[op->swap.nr_old++] = l;
	op->swap.old[op->swap.nr_old++] = r;
	return btree_trans_queue(op->trans, op->id, op->level + 1, NULL, d, BTREE_UPDATE_RESERVE);
}

static int merge_with(struct interior_op *op, struct btree *parent, struct btree *l,
		      struct btree *r)
{
	struct btree_fs *c = op->c;
	struct btree_keys_ranges ranges;
	u32 cap = interior_capacity_u64s(c);

	btree_keys_ranges_init(&ranges);
	btree_node_measure(l, l->min_key, l->max_key, &ranges);
	struct btree_keys_ranges left = ranges;
	btree_node_measure(r, r->min_key, r->max_key, &ranges);
	struct bkey_format fmt = bkey_format_done(&ranges.s);
	u32 ul = btree_keys_ranges_u64s(&left, &fmt);
	u32 ur = btree_keys_ranges_u64s(&ranges, &fmt) - ul;
	u32 limit = min(ul, ur) <= cap / 16 ? cap - cap / 8 : cap / 3 * 2;

	limit = min(limit, cap - 2 * c->opts.block_bytes / 8);
	if (ul + ur > limit || op->tight)
		return OP_DONE;
	/* Whoever needs room in it would split it again, and again it would be merged. */
	if (min(ul, ur) > cap / 16 && !interior_leaves_room(c, ul + ur, MERGE_LEAVES_u64s))
		return OP_DONE;
	int ret = parent_has_room(op, parent);

	if (ret)
		return ret;
	struct btree *n = interior_new_node(op, op->level, l->min_key, r->max_key, &fmt);
	ret = btree_keys_sort_into(&n->keys, &l->keys, l->min_key,
				   planted(merge_loses_border) ? bpos_predecessor(l->max_key)
							       : l->max_key)
		      ?: btree_keys_sort_into(&n->keys, &r->keys, r->min_key, r->max_key);
	return ret ?: queue_pair_goes(op, l, r) ?: interior_queue_parent_key(op, n);
}

int interior_merge(struct interior_op *op, struct btree_iter *iter, struct btree *b)
{
	struct btree *parent = interior_parent(iter), *s;

	if (!parent)
		return OP_DONE;
	u32 live = btree_keys_live_u64s(&b->keys);
	if (live >= btree_merge_threshold_u64s(op->c))
		return OP_DONE;

	for (unsigned next = 0; next < 2; next++) {
		int ret = lock_sibling(op, b, parent, next, &s);

		if (!ret)
			ret = next ? merge_with(op, parent, b, s) : merge_with(op, parent, s, b);
		if (ret != OP_DONE)
			return ret;
		btree_iter_exit(&op->sibling);
	}
	b->merge_retry_u64s = live / 2;
	return OP_DONE;
}

/* ---- room without another place ---- */

/*
 * Has a new node of @live u64s room for @request, and be it that after it there is hardly any?
 * (btree_leaf_always_u64s() says 0 also where the keys alone are too much: no help for a request
 * of 0, that of the neighbour.)
 */
static bool just_fits(const struct btree_fs *c, u32 live, u32 request)
{
	u32 block = c->opts.block_bytes / 8;
	u32 used = round_up(live + (u32)sizeof(struct btree_node) / 8, block);

	return used + (u32)sizeof(struct btree_node_entry) / 8 + request + block <=
	       c->opts.node_bytes / 8;
}

/* OP_DONE: it would not help. */
static int compact_tightly(struct interior_op *op, struct btree *parent, struct btree *b)
{
	struct btree_keys_ranges all;

	btree_keys_ranges_init(&all);
	btree_node_measure(b, b->min_key, b->max_key, &all);
	struct bkey_format fmt = btree_node_format(b, b->max_key, &all, &all);
	int ret = -BCFS_ERR_bset_too_big;

	if (just_fits(op->c, btree_node_format_u64s(b, &all, &fmt), op->u64s))
		ret = interior_compact(op, b, !parent, &fmt);
	if (ret != -BCFS_ERR_bset_too_big) {
		btree_count(op->c, rewrites);
		return ret;
	}
	interior_untake_nodes(op);
	return OP_DONE;
}

/* Two neighbours anew, with as much in each. */

/* The last position of the left one; false: there is no such. */
static bool balance_point(const struct btree *l, const struct btree *r, struct bpos *ret)
{
	const struct btree *both[] = {l, r};
	u32 want = (btree_keys_live_u64s(&l->keys) + btree_keys_live_u64s(&r->keys)) / 2, acc = 0;

	for (unsigned i = 0; i < 2; i++) {
		struct btree_node_iter it;
		struct bkey_packed *k;

		btree_node_iter_init_start(&it, &both[i]->keys);
		while ((k = btree_node_iter_peek(&it, &both[i]->keys))) {
			if (acc >= want)
				return !bpos_eq(*ret, l->max_key);
			acc += k->u64s;
			*ret = bkey_unpack_pos(&both[i]->keys.f, k);
			btree_node_iter_advance(&it, &both[i]->keys);
		}
	}
	return false;
}

/* The keys of both in [min, max]: their size, and the format of a node of them. */
static u32 balance_measure(const struct btree *l, const struct btree *r, struct bpos min,
			   struct bpos max, struct bkey_format *ret)
{
	struct btree_keys_ranges ranges;

	btree_keys_ranges_init(&ranges);
	if (bpos_le(min, l->max_key))
		btree_node_measure(l, min, bpos_min(max, l->max_key), &ranges);
	if (bpos_ge(max, r->min_key))
		btree_node_measure(r, bpos_max(min, r->min_key), max, &ranges);
	*ret = bkey_format_done(&ranges.s);
	return btree_keys_ranges_u64s(&ranges, ret);
}

static int balance_fill(struct btree *n, const struct btree *l, const struct btree *r)
{
	struct bpos min = n->min_key, max = n->max_key;
	int ret = 0;

	if (bpos_le(min, l->max_key))
		ret = btree_keys_sort_into(&n->keys, &l->keys, min, bpos_min(max, l->max_key));
	if (!ret && bpos_ge(max, r->min_key))
		ret = btree_keys_sort_into(&n->keys, &r->keys, bpos_max(min, r->min_key), max);
	return ret;
}

static int balance_with(struct interior_op *op, struct btree *parent, struct btree *l,
			struct btree *r)
{
	struct btree_fs *c = op->c;
	struct bkey_format f1, f2;
	struct bpos mid;

	if (!balance_point(l, r, &mid))
		return OP_DONE;
	struct bpos next = bpos_successor(mid);
	bool left = bpos_le(op->pos, mid);
	u32 u1 = balance_measure(l, r, l->min_key, mid, &f1);
	u32 u2 = balance_measure(l, r, next, r->max_key, &f2);

	if (!just_fits(c, u1, left ? op->u64s : 0) || !just_fits(c, u2, left ? 0 : op->u64s))
		return OP_DONE;
	int ret = parent_has_room(op, parent);

	if (ret)
		return ret;
	struct btree *n1 = interior_new_node(op, op->level, l->min_key, mid, &f1);
	struct btree *n2 = interior_new_node(op, op->level, next, r->max_key, &f2);

	ret = balance_fill(n1, l, r) ?: balance_fill(n2, l, r);
	if (ret == -BCFS_ERR_bset_too_big) {
		interior_untake_nodes(op);
		return OP_DONE;
	}
	ret = ret ?: queue_pair_goes(op, l, r) ?: interior_queue_parent_key(op, n1)
		      ?: interior_queue_parent_key(op, n2);
	if (!ret)
		btree_count(c, balances);
	return ret;
}

int interior_balance(struct interior_op *op, struct btree_iter *iter, struct btree *b)
{
	struct btree *parent = interior_parent(iter), *s;

	if (btree_node_room(b, op->reserve ? BTREE_ROOM_interior : BTREE_ROOM_normal) >= op->u64s)
		return OP_DONE;
	int ret = op->tight ? OP_DONE : compact_tightly(op, parent, b);

	if (ret != OP_DONE)
		return ret;
	for (unsigned next = 0; parent && !op->tight && next < 2; next++) {
		ret = lock_sibling(op, b, parent, next, &s);
		if (!ret)
			ret = next ? balance_with(op, parent, b, s)
				   : balance_with(op, parent, s, b);
		if (ret != OP_DONE)
			return ret;
		btree_iter_exit(&op->sibling);
	}
	return -BCFS_ERR_nospc;
}
