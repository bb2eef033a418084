// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Interior updates: splits, merges, rewrites, growing and shrinking the root.
 *
 * One operation replaces one node, or two siblings, at one level. Space and memory for the new
 * nodes are had first, with nothing locked. Then, with intent on the nodes and their parent, the
 * new nodes are filled and written (readers go on meanwhile), and one transaction journals the
 * parent's keys together with what the triggers say about the space, makes the new nodes reachable
 * and the old ones not. The old nodes' space is free for reuse when that journal entry is durable
 * (alloc/ sees to it). If anything comes in between, all is given up and done again.
 *
 * Updates of the allocation btrees may fall into the very node that is being replaced:
 * the commit sends them to its replacement (struct interior_swap).
 */
#include "btree/interior_private.h"
#include "util/bits.h"
#include "util/planted.h"

#include <string.h>

#define OP_RETRIES_MAX 10000
#define OP_WRITE_TRIES 3

/* Unpacked keys for which a node is written anew: at least, and one to so many u64s of all. */
#define MISFITS_MIN  64U
#define MISFIT_SHARE 16U

bool interior_leaves_room(const struct btree_fs *c, u32 live, u32 request)
{
	u32 block = c->opts.block_bytes / 8;
	u32 used = round_up(live + (u32)sizeof(struct btree_node) / 8, block);

	return used + (u32)sizeof(struct btree_node_entry) / 8 + request + block +
		       min(interior_capacity_u64s(c) / 8, 4 * block) <=
	       c->opts.node_bytes / 8;
}

/* ---- space and memory ---- */

/* Allocation info that is wrong on the device may offer the place of a live node. */
static int check_space(struct btree_fs *c, const struct bcfs_extent_ptr *ptr)
{
	u64 hash;

	memcpy(&hash, ptr, sizeof(hash));
	if (likely(!btree_cache_has(c, hash)))
		return 0;
	return btree_error(c, -BCFS_ERR_btree_space_in_use,
			   "%s: sector %llu was given out as free, but a btree node lies there",
			   c->bdev->name, (unsigned long long)ptr->offset);
}

/*
 * All space before any memory: memory comes locked, and may have been a node's that a thread waits
 * for which holds the allocator's locks.
 */
static int op_prepare(struct interior_op *op, unsigned nr)
{
	struct btree_fs *c = op->c;
	int ret = 0;

	if (!op->buf)
		op->buf = env_malloc_aligned(c->env, 4096, c->opts.node_bytes);
	if (!op->buf)
		return -BCFS_ERR_nomem;
	if (nr)
		ret = c->opts.space->alloc(c->opts.arg, op->space_flags, nr, op->space);
	if (ret)
		return ret;
	for (unsigned i = 0; i < nr && !ret; i++)
		ret = check_space(c, &op->space[i]);
	for (; !ret && op->nr_prepared < nr; op->nr_prepared++) {
		op->mem[op->nr_prepared] = btree_node_mem_alloc(c, true, &ret);
		if (!op->mem[op->nr_prepared])
			break;
		op->written[op->nr_prepared] = false;
	}
	for (unsigned i = op->nr_prepared; i < nr; i++)
		c->opts.space->unused(c->opts.arg, &op->space[i], false);
	return ret;
}

/* Give back what was not published. */
static void op_release(struct interior_op *op)
{
	struct btree_fs *c = op->c;

	for (unsigned i = 0; i < op->nr_prepared; i++) {
		btree_node_mem_free(c, op->mem[i]);
		c->opts.space->unused(c->opts.arg, &op->space[i], op->written[i]);
	}
	op->nr_prepared = 0;
	op->nr_taken = 0;
}

/* The next prepared node, as [min, max] of @level, empty, in @fmt. */
struct btree *interior_new_node(struct interior_op *op, unsigned level, struct bpos min_key,
				struct bpos max_key, const struct bkey_format *fmt)
{
	struct btree_fs *c = op->c;
	unsigned i = op->nr_taken++;
	struct btree *b = op->mem[i];

	assert(i < op->nr_prepared);
	b->id = op->id;
	b->level = level;
	b->min_key = min_key;
	b->max_key = max_key;
	b->seq = env_random_u64(c->env) | 1;
	b->written = 0;
	b->w = 0;
	atomic_store(&b->flags, BTREE_NODE_new);

	memset(&b->key, 0, sizeof(b->key));
	bkey_init(&b->key.k.k);
	b->key.k.k.type = KEY_TYPE_btree_ptr;
	b->key.k.k.p = max_key;
	b->key.k.k.u64s = PTR_KEY_U64s;
	struct bcfs_btree_ptr *p = btree_ptr_val(&b->key.k);
	p->seq = b->seq;
	p->min_key = min_key;
	memcpy(p->start, &op->space[i], 8);

	btree_keys_init(&b->keys, b->keys.data, b->keys.aux, c->opts.node_bytes / 8, fmt);
	op->swap.new[op->swap.nr_new++] = b;
	return b;
}

static int op_write_node(struct interior_op *op, unsigned i)
{
	op->written[i] = true;
	int ret = btree_node_write_initial(op->c, op->mem[i], op->buf, op->trans->scratch);

	if (ret)
		op->write_err = ret;
	return ret;
}

/* All new nodes; a root that grows last, since it holds the others' pointers as written. */
static int op_write_nodes(struct interior_op *op)
{
	struct btree *root = op->swap.root_grows ? op->swap.new_root : NULL;
	u64 seq = journal_cur_seq(op->c->j);
	int ret = 0;

	for (unsigned i = 0; i < op->nr_taken && !ret; i++) {
		struct btree *b = op->mem[i];

		for (unsigned j = 0; b == root && j < i; j++)
			btree_keys_insert(&b->keys, &op->mem[j]->key.k, seq, op->trans->scratch,
					  NULL);
		ret = op_write_node(op, i);
	}
	return ret;
}

/* ---- the pieces of an attempt ---- */

/* Lock the node at op->pos and its parent. Restarts come back as such. */
int interior_lock(struct interior_op *op, struct btree_iter *iter, struct bpos pos,
		  struct btree **ret_b)
{
	btree_iter_init_level(op->trans, iter, op->id, op->level, pos,
			      BTREE_ITER_INTENT | BTREE_ITER_ALL_SNAPSHOTS |
				      BTREE_ITER_NOT_EXTENTS);
	int ret = btree_iter_traverse_to(iter, &pos, op->level + 2);
	if (ret)
		return ret == -BCFS_ERR_btree_no_such_level ? OP_DONE : ret;
	*ret_b = iter->l[op->level].b;

	env_mutex_lock(&op->c->write_lock);
	bool busy = (*ret_b)->io_in_flight;
	env_mutex_unlock(&op->c->write_lock);
	if (busy) {
		op->wait_write = *ret_b;
		return OP_AGAIN;
	}
	return 0;
}

struct btree *interior_parent(struct btree_iter *iter)
{
	return iter->level < iter->root_level ? iter->l[iter->level + 1].b : NULL;
}

/* The old pointer's end and the new pointers' beginning, where no parent has a key for them. */
static int op_root_trigger(struct interior_op *op, struct btree *old, struct btree *new)
{
	struct bkey none;

	bkey_init(&none);
	none.p = SPOS_MAX;
	bool had = old && !btree_node_flag(old, BTREE_NODE_fake);
	struct bkey_s_c none_s = {&none, NULL};
	struct bkey_s_c o = had ? bkey_i_to_s_c(&old->key.k) : none_s;
	struct bkey_s_c n = new ? bkey_i_to_s_c(&new->key.k) : none_s;

	return btree_run_trigger(op->trans, op->id, (new ?: old)->level + 1, o, n);
}

int interior_queue_parent_key(struct interior_op *op, struct btree *new)
{
	return btree_trans_queue(op->trans, op->id, op->level + 1, NULL, &new->key.k,
				 BTREE_UPDATE_RESERVE);
}

/* A new root above @n1 and @n2. */
static int op_grow_root(struct interior_op *op, struct btree *old, struct btree *n1,
			struct btree *n2)
{
	struct btree_keys_ranges r;
	struct bkey_format_state *s = &r.s;

	/*
	 * What will come is unknown, and a format stays until the node is rewritten: two words take
	 * any inode number and offset with the snapshot ids there are.
	 */
	btree_keys_ranges_init(&r);
	btree_node_measure(old, old->min_key, old->max_key, &r);
	bkey_format_add_key(s, &n1->key.k.k);
	bkey_format_add_pos(s, SPOS(0, 0, n1->key.k.k.p.snapshot));
	bkey_format_add_pos(s, SPOS(low_bits_mask(40), UINT64_MAX, n1->key.k.k.p.snapshot));
	struct bkey_format fmt = bkey_format_done(s);
	struct btree *root = interior_new_node(op, op->level + 1, POS_MIN, SPOS_MAX, &fmt);

	op->swap.new_root = root;
	op->swap.root_grows = true;
	return op_root_trigger(op, old, n1) ?: op_root_trigger(op, NULL, n2) ?:
	       op_root_trigger(op, NULL, root);
}

/* Where to split: the last position of the left part. False if there are not two parts. */
static bool split_point(const struct btree *b, struct bpos insert_pos, bool even, struct bpos *ret)
{
	u32 total = btree_keys_live_u64s(&b->keys), acc = 0, want = total / 2;
	struct btree_node_iter it;
	struct bkey_packed *k, *last = NULL;
	unsigned nr = 0;

	/* Going up in order: leave the left part nearly full. */
	struct bkey_packed *tail;
	btree_node_iter_init(&it, &b->keys, &insert_pos, NULL);
	tail = btree_node_iter_peek(&it, &b->keys);
	if (!tail && !even)
		want = total - total / 8;
	want = min(want, interior_capacity_u64s(b->c) / 8 * 7);

	btree_node_iter_init_start(&it, &b->keys);
	while ((k = btree_node_iter_peek(&it, &b->keys))) {
		/* Large keys: what goes beyond is not to go beyond the device's node. */
		if (last && (acc >= want || acc + k->u64s > interior_capacity_u64s(b->c)))
			break;
		acc += k->u64s;
		nr++;
		*ret = bkey_unpack_pos(&b->keys.f, k);
		last = k;
		btree_node_iter_advance(&it, &b->keys);
	}
	if (!k && nr >= 2) {
		/* Everything was taken: leave the last one. */
		struct bkey_packed *prev;

		prev = btree_node_iter_prev(&it, &b->keys);
		prev = prev ? btree_node_iter_prev(&it, &b->keys) : NULL;
		if (!prev)
			return false;
		*ret = bkey_unpack_pos(&b->keys.f, prev);
		return true;
	}
	return k && nr;
}

static int op_split(struct interior_op *op, struct btree *b, bool root,
		    const struct btree_keys_ranges *all)
{
	struct bpos mid;
	int ret;

	if (!split_point(b, op->pos, op->tight, &mid) || bpos_ge(mid, b->max_key) ||
	    (root && op->level + 1 >= BTREE_MAX_DEPTH))
		return -BCFS_ERR_btree_node_too_small;
	struct bpos mid_next = bpos_successor(mid);
	struct bkey_format f1 = btree_node_format_part(b, b->min_key, mid, all);
	struct bkey_format f2 = btree_node_format_part(b, mid_next, b->max_key, all);
	struct btree *n1 = interior_new_node(op, op->level, b->min_key, mid, &f1);
	struct btree *n2 = interior_new_node(op, op->level, mid_next, b->max_key, &f2);

	ret = btree_keys_sort_into(&n1->keys, &b->keys, b->min_key, mid)
		      ?: btree_keys_sort_into(&n2->keys, &b->keys, mid_next, b->max_key);
	/* There is more room in memory than on the device. */
	if (!ret && max(btree_keys_live_u64s(&n1->keys), btree_keys_live_u64s(&n2->keys)) >
			    interior_capacity_u64s(op->c))
		ret = -BCFS_ERR_bset_too_big;
	if (ret)
		return ret;
	/* Going up in order leaves a small right part: it is to grow, and merged only if it
	 * shrinks. */
	u32 live = btree_keys_live_u64s(&n2->keys);
	if (live < btree_merge_threshold_u64s(op->c))
		n2->merge_retry_u64s = live / 2;
	op->swap.old[op->swap.nr_old++] = b;
	return root ? op_grow_root(op, b, n1, n2)
		    : interior_queue_parent_key(op, n1) ?: interior_queue_parent_key(op, n2);
}

int interior_compact(struct interior_op *op, struct btree *b, bool root,
		     const struct bkey_format *fmt)
{
	struct btree *n = interior_new_node(op, op->level, b->min_key, b->max_key, fmt);
	int ret = btree_keys_sort_into(&n->keys, &b->keys, b->min_key, b->max_key);

	if (ret)
		return ret;
	op->swap.old[op->swap.nr_old++] = b;
	if (!root)
		return interior_queue_parent_key(op, n);
	op->swap.new_root = n;
	return op_root_trigger(op, b, n);
}

/*
 * Rewriting changes the account of the space: a leaf of that, so full that nothing can be appended
 * to it, would be dirty again by its own rewriting, and again.
 */
static bool writes_itself(const struct interior_op *op, u32 live)
{
	return !op->level && btree_id_flags(op->id) & BTREE_IS_ALLOC_INFO &&
	       !interior_leaves_room(op->c, live, 0) && !planted(leaf_writes_itself);
}

/* Split or compact: OP_MAKE_ROOM and OP_REWRITE. */
static int op_do_node(struct interior_op *op, struct btree_iter *iter, struct btree *b)
{
	struct btree_fs *c = op->c;
	struct btree *parent = interior_parent(iter);
	u32 cap = interior_capacity_u64s(c);

	if (op->kind == OP_REWRITE && atomic_load(&b->hash_val) != op->hash)
		return OP_DONE;
	if (op->kind == OP_MAKE_ROOM &&
	    btree_node_room(b, op->reserve ? BTREE_ROOM_interior : BTREE_ROOM_normal) >= op->u64s)
		return OP_DONE;
	if (parent && btree_node_room(parent, BTREE_ROOM_normal) < 2 * PTR_KEY_U64s) {
		op->parent_full = true;
		return OP_AGAIN;
	}
	struct btree_keys_ranges all;

	btree_keys_ranges_init(&all);
	btree_node_measure(b, b->min_key, b->max_key, &all);
	struct bkey_format fmt = btree_node_format(b, b->max_key, &all, &all);
	u32 live = btree_node_format_u64s(b, &all, &fmt);

	bool whole = op->kind == OP_REWRITE ? !writes_itself(op, live)
					    : interior_leaves_room(c, live, op->u64s);
	if (whole && !op->tight) {
		int ret = -BCFS_ERR_bset_too_big;

		if (live <= cap)
			ret = interior_compact(op, b, !parent, &fmt);
		if (ret != -BCFS_ERR_bset_too_big) {
			btree_count(c, rewrites);
			return ret;
		}
		interior_untake_nodes(op);
	}
	int ret = op_split(op, b, !parent, &all);
	if (!ret)
		btree_count(c, splits);
	/* One key alone is not split: then nothing is spared for those that come next. */
	if (ret == -BCFS_ERR_btree_node_too_small && !op->tight && live <= cap &&
	    op->u64s <= btree_leaf_always_u64s(c, live)) {
		btree_count(c, rewrites);
		ret = interior_compact(op, b, !parent, &fmt);
	}
	return ret;
}

/* The root has one child left: the child becomes the root. op->level is the child's. */
static int op_do_shrink(struct interior_op *op, struct btree_iter *iter, struct btree *child)
{
	struct btree *root = interior_parent(iter);
	struct btree_node_iter it;
	struct bkey u;

	if (!root || !btree_node_flag(root, BTREE_NODE_root) || root->level != op->level + 1)
		return OP_DONE;
	btree_node_iter_init_start(&it, &root->keys);
	struct bkey_s_c k = btree_node_iter_peek_unpack(&it, &root->keys, &u);
	if (!k.k || btree_ptr_hash(k) != atomic_load(&child->hash_val))
		return OP_DONE;
	/* The journal keeps room for the roots that we make. */
	if (k.k->u64s > PTR_KEY_U64s)
		return OP_DONE;
	btree_node_iter_advance(&it, &root->keys);
	if (btree_node_iter_peek(&it, &root->keys))
		return OP_DONE;

	bkey_reassemble(&child->key.k, k);
	op->swap.old[op->swap.nr_old++] = root;
	op->swap.new_root = child;
	op->swap.root_is_child = true;
	return op_root_trigger(op, root, NULL);
}

/* ---- driving ---- */

static void exit_all_iters(struct btree_trans *trans)
{
	while (trans->iters)
		btree_iter_exit(trans->iters);
	btree_trans_reset_updates(trans);
}

/* Old nodes are nobody's any more: their memory. */
static void free_old_nodes(struct interior_op *op)
{
	for (unsigned i = 0; i < op->swap.nr_old; i++) {
		struct btree *b = op->swap.old[i];

		env_mutex_lock(&op->c->write_lock);
		bool later = b->write_in_flight; /* whoever finishes that write frees it */
		b->free_pending = later;
		env_mutex_unlock(&op->c->write_lock);
		if (later)
			continue;
		six_lock(&b->lock, SIX_INTENT);
		six_lock(&b->lock, SIX_WRITE);
		btree_node_mem_free(op->c, b);
	}
}

/* After a successful commit: the taken nodes are live, the rest goes back. */
static void op_committed(struct interior_op *op)
{
	struct btree_fs *c = op->c;

	for (unsigned i = 0; i < op->nr_taken; i++) {
		btree_node_after_insert(c, op->mem[i]);
		six_unlock(&op->mem[i]->lock, SIX_WRITE);
		six_unlock(&op->mem[i]->lock, SIX_INTENT);
		c->opts.space->used(c->opts.arg, &op->space[i]);
	}
	exit_all_iters(op->trans);
	free_old_nodes(op);

	unsigned left = op->nr_prepared - op->nr_taken;
	memmove(op->mem, op->mem + op->nr_taken, left * sizeof(op->mem[0]));
	memmove(op->space, op->space + op->nr_taken, left * sizeof(op->space[0]));
	memmove(op->written, op->written + op->nr_taken, left * sizeof(op->written[0]));
	op->nr_prepared = left;
	op->nr_taken = 0;
	op_release(op);
}

static int op_attempt(struct interior_op *op)
{
	struct btree_trans *trans = op->trans;
	struct btree_iter *iter = &op->iter;
	struct btree *b;

	btree_trans_begin(trans);
	op->swap = (struct interior_swap){0};
	op->nr_taken = 0;
	op->wait_write = NULL;
	op->parent_full = false;
	op->write_err = 0;

	int ret = interior_lock(op, iter, op->pos, &b);
	if (!ret) {
		switch (op->kind) {
		case OP_MAKE_ROOM:
		case OP_REWRITE:
			ret = op_do_node(op, iter, b);
			break;
		case OP_BALANCE:
			ret = interior_balance(op, iter, b);
			break;
		case OP_MERGE:
			ret = interior_merge(op, iter, b);
			break;
		case OP_SHRINK:
			ret = op_do_shrink(op, iter, b);
			break;
		}
	}
	/*
	 * First what may restart, or want room somewhere else. Only then is anything written: a
	 * place that was written cannot be used again.
	 */
	if (!ret) {
		trans->swap = &op->swap;
		ret = btree_trans_prepare(trans, BTREE_COMMIT_RECLAIM | BTREE_COMMIT_RESERVE);
		if (!ret)
			ret = op_write_nodes(op);
		if (!ret)
			ret = btree_trans_commit(trans, BTREE_COMMIT_RECLAIM | BTREE_COMMIT_RESERVE,
						 NULL);
		trans->swap = NULL;
	}
	return ret;
}

/* What stands in the way of another attempt; nothing is held. */
static int op_wait(struct interior_op *op, int why)
{
	struct btree_fs *c = op->c;

	if (err_is_restart(why))
		return 0;
	/* A place that cannot be written is given up; another may do. */
	if (why == op->write_err && !atomic_load(&c->halted) &&
	    ++op->write_errors < OP_WRITE_TRIES) {
		log_warn(c->log, "%s: btree %s level %u: a new node could not be written: %s",
			 c->bdev->name, btree_id_name(op->id), op->level, err_str(why));
		return 0;
	}
	switch (-why) {
	case BCFS_ERR_journal_would_block:
		return journal_res_wait(c->j, op->trans->res_u64s, JOURNAL_RES_RECLAIM);
	case BCFS_ERR_btree_need_room: {
		struct btree_trans *t = op->trans;

		if (t->room.in_new)
			return ++op->tight > 2 ? -BCFS_ERR_btree_node_too_small : 0;
		return btree_node_make_room(c, t->room.id, t->room.level, t->room.pos, t->room.u64s,
					    false, op->space_flags);
	}
	case -OP_AGAIN:
		if (op->wait_write)
			btree_wait_io_in_flight(c, op->wait_write);
		if (op->parent_full)
			return btree_node_make_room(c, op->id, op->level + 1, op->pos,
						    2 * PTR_KEY_U64s, false, op->space_flags);
		return 0;
	}
	return why;
}

static int op_run(struct interior_op *op, unsigned nr_nodes)
{
	struct btree_fs *c = op->c;
	int ret = 0;

	op->trans = btree_trans_get(c);
	for (unsigned tries = 0; tries < OP_RETRIES_MAX; tries++) {
		ret = op_prepare(op, nr_nodes);
		if (ret)
			break;
		ret = op_attempt(op);
		if (!ret) {
			op_committed(op);
			break;
		}
		exit_all_iters(op->trans);
		op_release(op);
		if (ret == OP_DONE)
			break;
		ret = op_wait(op, ret);
		if (ret)
			break;
		env_yield(c->env);
		ret = -BCFS_ERR_btree_no_progress;
	}
	exit_all_iters(op->trans);
	op_release(op);
	env_free(c->env, op->buf);
	btree_trans_put(op->trans);
	return ret;
}

static void shrink_root_if_single(struct btree_fs *c, enum btree_id id)
{
	while (1) {
		unsigned level = atomic_load(&c->roots[id].level);
		int ret;

		if (!level)
			return;
		struct interior_op op = {.c = c,
					 .kind = OP_SHRINK,
					 .id = id,
					 .level = level - 1,
					 .pos = SPOS_MAX,
					 .space_flags = BTREE_SPACE_RESERVE};
		ret = op_run(&op, 0);
		if (ret)
			return;
		btree_count(c, root_shrink);
	}
}

int btree_node_make_room(struct btree_fs *c, enum btree_id id, unsigned level, struct bpos pos,
			 u32 u64s, bool reserve, unsigned space_flags)
{
	struct interior_op op = {.c = c,
				 .kind = OP_MAKE_ROOM,
				 .id = id,
				 .level = level,
				 .pos = pos,
				 .u64s = u64s,
				 .reserve = reserve,
				 .space_flags = space_flags};
	int ret = op_run(&op, OP_NODES_MAX);

	if (!ret && op.swap.root_grows)
		btree_count(c, root_grow);
	/* What leaves as many keys as there were needs no more places, either (adr/0022). */
	if (ret == -BCFS_ERR_nospc && space_flags & BTREE_SPACE_KEEPS) {
		op = (struct interior_op){.c = c,
					  .kind = OP_BALANCE,
					  .id = id,
					  .level = level,
					  .pos = pos,
					  .u64s = u64s,
					  .reserve = reserve,
					  .space_flags = BTREE_SPACE_RESERVE};
		ret = op_run(&op, 2);
	}
	return ret == OP_DONE ? 0 : ret;
}

static int node_rewrite(struct btree_fs *c, enum btree_id id, unsigned level, struct bpos pos,
			u64 hash, unsigned space_flags)
{
	struct interior_op op = {.c = c,
				 .kind = OP_REWRITE,
				 .id = id,
				 .level = level,
				 .pos = pos,
				 .hash = hash,
				 .space_flags = space_flags};
	int ret = op_run(&op, OP_NODES_MAX);

	if (!ret && op.swap.root_grows)
		btree_count(c, root_grow);
	return ret == OP_DONE ? 0 : ret;
}

int btree_node_rewrite(struct btree_fs *c, enum btree_id id, unsigned level, struct bpos pos,
		       u64 hash)
{
	return node_rewrite(c, id, level, pos, hash, BTREE_SPACE_RESERVE);
}

int btree_node_try_merge(struct btree_fs *c, enum btree_id id, unsigned level, struct bpos pos)
{
	int ret;

	for (unsigned i = 0; i < 64; i++) {
		struct interior_op op = {.c = c,
					 .kind = OP_MERGE,
					 .id = id,
					 .level = level,
					 .pos = pos,
					 .space_flags = BTREE_SPACE_RESERVE};

		ret = op_run(&op, 1);
		if (ret)
			break;
		btree_count(c, merges);
	}
	shrink_root_if_single(c, id);
	return ret == OP_DONE ? 0 : ret;
}

/* ---- background ---- */

struct interior_work {
	struct env_work work;
	struct btree_fs *c;
	struct btree *b;
	enum op_kind kind;
	u8 id, level;
	struct bpos pos;
	u64 hash;
};

static int interior_work_do(struct interior_work *w)
{
	int ret;

	if (w->kind == OP_MERGE)
		ret = btree_node_try_merge(w->c, w->id, w->level, w->pos);
	else if (w->kind == OP_REWRITE)
		ret = node_rewrite(w->c, w->id, w->level, w->pos, w->hash, 0);
	else
		ret = btree_node_make_room(w->c, w->id, w->level, w->pos, 4 * BKEY_U64s, false, 0);
	journal_promise_put(w->c->j, BTREE_SPLIT_PINS);
	return ret;
}

static void interior_work_fn(struct env_work *work)
{
	struct interior_work *w = container_of(work, struct interior_work, work);
	struct btree_fs *c = w->c;
	int ret = 0;

	btree_node_clear(w->b, BTREE_NODE_queued);
	if (!atomic_load(&c->halted) && !atomic_load(&c->stopping))
		ret = journal_promise_get(c->j, BTREE_SPLIT_PINS) ?: interior_work_do(w);
	if (ret)
		log_debug(c->log, "%s: background work on btree %s: %s", c->bdev->name,
			  btree_id_name(w->id), err_str(ret));
	env_free(c->env, w);
}

static void queue_interior(struct btree_fs *c, struct btree *b, enum op_kind kind)
{
	if (!c->interior_wq || atomic_load(&c->stopping) || btree_node_flag(b, BTREE_NODE_queued))
		return;
	struct interior_work *w = env_zalloc(c->env, sizeof(*w));
	if (!w)
		return;
	btree_node_set(b, BTREE_NODE_queued);
	env_work_init(&w->work, interior_work_fn);
	w->c = c;
	w->b = b;
	w->kind = kind;
	w->id = b->id;
	w->level = b->level;
	w->pos = b->max_key;
	w->hash = atomic_load(&b->hash_val);
	env_wq_queue(c->interior_wq, &w->work);
}

/*
 * Are there so many keys that the format does not take that another is worth writing the node anew?
 * A lone node has that of its first keys, and would keep it until it is full. They are counted when
 * as many have come, and if writing does not help, not before as many have come again.
 */
static bool wants_format(struct btree *b, u32 live)
{
	u32 enough = max(MISFITS_MIN, live / MISFIT_SHARE);
	struct bset_stats stats = {0};

	if (b->keys.nr_misfits < enough)
		return false;
	b->keys.nr_misfits = 0;
	btree_keys_stats(&b->keys, &stats);
	return stats.unpacked_keys >= enough;
}

/* Intent held on @b. */
void btree_node_after_insert(struct btree_fs *c, struct btree *b)
{
	u32 live = btree_keys_live_u64s(&b->keys);

	if (!btree_node_flag(b, BTREE_NODE_dead) && wants_format(b, live))
		queue_interior(c, b, OP_REWRITE);
	if (btree_node_flag(b, BTREE_NODE_root)) {
		if (b->level && btree_keys_nr_live(&b->keys) == 1)
			queue_interior(c, b, OP_MERGE);
		return;
	}
	if (btree_node_flag(b, BTREE_NODE_dead))
		return;
	if (live < btree_merge_threshold_u64s(c) && (!live || live < b->merge_retry_u64s))
		queue_interior(c, b, OP_MERGE);
	else if (!btree_node_room(b, BTREE_ROOM_normal))
		queue_interior(c, b, OP_MAKE_ROOM);
}

void btree_interior_flush(struct btree_fs *c)
{
	if (c->interior_wq)
		env_wq_flush(c->interior_wq);
}
