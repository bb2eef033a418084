// SPDX-License-Identifier: LGPL-2.1-or-later
/* Transactions: life, memory, and the list of pending updates. */
#include "btree/btree_private.h"
#include "util/planted.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TRANS_CHUNK_BYTES (16U << 10)

/* ---- life ---- */

static struct btree_trans *trans_new(struct btree_fs *c)
{
	struct btree_trans *t;

	while (1) {
		t = env_zalloc(c->env, sizeof(*t));
		if (t)
			t->scratch = env_malloc_aligned(c->env, 4096,
							btree_node_mem_bytes(c) + BSET_CACHELINE);
		if (t && t->scratch)
			break;
		env_free(c->env, t);
		env_sleep_ns(c->env, ENV_NSEC_PER_MSEC);
	}
	t->c = c;
	return t;
}

struct btree_trans *btree_trans_get(struct btree_fs *c)
{
	env_mutex_lock(&c->trans_lock);
	struct btree_trans *t = c->trans_pool;
	if (t)
		c->trans_pool = t->pool_next;
	env_mutex_unlock(&c->trans_lock);

	if (!t)
		t = trans_new(c);
	assert(!t->in_use && !t->iters);
	t->in_use = true;
	t->restarts = 0;
	t->restarted = false;
	t->fills = 0;
	return t;
}

static void trans_free_chunks(struct btree_trans *trans, bool keep_one)
{
	struct trans_chunk *k = trans->chunks, *keep = NULL;

	while (k) {
		struct trans_chunk *next = k->next;

		if (keep_one && !keep && k->size == TRANS_CHUNK_BYTES) {
			keep = k;
			keep->used = 0;
			keep->next = NULL;
		} else {
			env_free(trans->c->env, k);
		}
		k = next;
	}
	trans->chunks = keep;
}

void btree_trans_put(struct btree_trans *trans)
{
	struct btree_fs *c = trans->c;

	btree_trans_reset_updates(trans);
	assert(!trans->iters);
	assert(!trans->swap);
	if (trans->mem) {
		btree_node_mem_free(c, trans->mem);
		trans->mem = NULL;
	}
	trans->in_use = false;
	env_mutex_lock(&c->trans_lock);
	trans->pool_next = c->trans_pool;
	c->trans_pool = trans;
	env_mutex_unlock(&c->trans_lock);
}

/* Forget updates and memory; the iterators that updates own go with them. */
void btree_trans_reset_updates(struct btree_trans *trans)
{
	for (size_t i = 0; i < trans->updates.nr; i++)
		if (trans->updates.data[i]->own_iter)
			btree_iter_exit(trans->updates.data[i]->iter);
	trans->updates.nr = 0;
	trans->log = NULL;
	trans->log_u64s = 0;
	if (trans->usage_dirty)
		memset(trans->usage, 0, sizeof(trans->usage));
	trans->usage_dirty = false;
	if (trans->chunks)
		trans_free_chunks(trans, true);
}

void btree_trans_begin(struct btree_trans *trans)
{
	btree_trans_reset_updates(trans);
	if (!trans->restarted) {
		trans->restarts = 0;
		trans->fills = 0;
	}
	trans->restarted = false;
	/*
	 * What iterators of an outer loop have seen is not this run's: nothing would ever
	 * make them true again, and the commit would restart for ever.
	 */
	for (struct btree_iter *i = trans->iters; i; i = i->next)
		i->read = false;
}

int btree_trans_restart(struct btree_trans *trans, int restart)
{
	trans->restarts++;
	trans->restarted = true;
	btree_count(trans->c, restarts);
	return restart;
}

struct btree_fs *btree_trans_fs(struct btree_trans *trans)
{
	return trans->c;
}

void *btree_trans_ops_arg(struct btree_trans *trans)
{
	return trans->c->opts.arg;
}

void *btree_trans_kmalloc(struct btree_trans *trans, size_t bytes)
{
	struct trans_chunk *k = trans->chunks;

	bytes = round_up(bytes, (size_t)8);
	if (!k || k->size - k->used < bytes) {
		size_t size = max_t(size_t, bytes, TRANS_CHUNK_BYTES);

		/*
		 * The locks are kept: keys that were peeked at must stay in place. Nobody needs
		 * them to give memory back.
		 */
		while (!(k = env_malloc(trans->c->env, sizeof(*k) + size)))
			env_sleep_ns(trans->c->env, ENV_NSEC_PER_MSEC);
		k->size = size;
		k->used = 0;
		k->next = trans->chunks;
		trans->chunks = k;
	}
	void *p = (u8 *)k->data + k->used;
	k->used += bytes;
	return memset(p, 0, bytes);
}

struct bkey_i *btree_trans_copy_key(struct btree_trans *trans, struct bkey_s_c k,
				    unsigned extra_bytes)
{
	struct bkey_i *n = btree_trans_kmalloc(trans, bkey_bytes(k.k) + extra_bytes);

	bkey_reassemble(n, k);
	return n;
}

struct bkey_i *btree_trans_alloc_key(struct btree_trans *trans, enum bkey_type type,
				     struct bpos pos, unsigned val_bytes)
{
	struct bkey_i *n =
		btree_trans_kmalloc(trans, sizeof(struct bkey) + round_up(val_bytes, 8U));

	bkey_init(&n->k);
	n->k.type = type;
	n->k.p = pos;
	set_bkey_val_bytes(&n->k, val_bytes);
	return n;
}

void btree_trans_account(struct btree_trans *trans, enum bcfs_accounting_type type, s64 delta)
{
	trans->usage[type] += delta;
	trans->usage_dirty = true;
}

int btree_trans_log_msg(struct btree_trans *trans, const char *fmt, ...)
{
	char buf[256] = {0};
	va_list args;

	va_start(args, fmt);
	int len = vsnprintf(buf, sizeof(buf), fmt, args);
	va_end(args);
	len = min_t(int, len, sizeof(buf) - 1);

	trans->log_u64s = DIV_ROUND_UP(len, 8);
	trans->log = btree_trans_kmalloc(trans, trans->log_u64s * 8UL);
	memcpy(trans->log, buf, len);
	return 0;
}

/* ---- the list of updates ---- */

static inline int update_cmp(const struct btree_update *u, unsigned id, unsigned level,
			     struct bpos pos)
{
	if (u->id != id)
		return u->id < id ? -1 : 1;
	if (u->level != level)
		return u->level < level ? -1 : 1;
	return bpos_cmp(u->k->k.p, pos);
}

/* Index of the first update at or behind (id, level, pos). */
static size_t updates_lower_bound(struct btree_trans *trans, unsigned id, unsigned level,
				  struct bpos pos)
{
	size_t l = 0, r = trans->updates.nr;

	while (l < r) {
		size_t m = (l + r) / 2;

		if (update_cmp(trans->updates.data[m], id, level, pos) < 0)
			l = m + 1;
		else
			r = m;
	}
	return l;
}

/* First pending update of that btree and level at or behind @search; NULL if none. */
struct btree_update *btree_trans_find_update(struct btree_trans *trans, unsigned id, unsigned level,
					     struct bpos search)
{
	size_t i = updates_lower_bound(trans, id, level, search);
	struct btree_update *u = i < trans->updates.nr ? trans->updates.data[i] : NULL;

	return u && u->id == id && u->level == level ? u : NULL;
}

/* Does the update at index @i hold the leaf that covers @pos? */
static struct btree_iter *update_iter_covers(struct btree_trans *trans, size_t i, unsigned id,
					     unsigned level, struct bpos pos)
{
	if (i >= trans->updates.nr)
		return NULL;
	struct btree_update *u = trans->updates.data[i];
	struct btree_iter *iter = u->iter;
	struct btree_path_level *l = &iter->l[iter->level];

	return u->id == id && u->level == level && iter->path_valid &&
			       l->locked == SIX_INTENT + 1 && btree_node_covers(l->b, pos)
		       ? iter
		       : NULL;
}

/* Where @pos is, if @from was last led there. */
static void update_get_place(struct btree_update *u, const struct btree_iter *from, struct bpos pos)
{
	struct btree *b = u->iter->l[u->level].b;

	if (!from || !from->path_valid || !from->node_iter_valid || !from->place_valid ||
	    from->level != u->level || from->l[u->level].b != b || !bpos_eq(from->path_pos, pos))
		return;
	u->place_b = b;
	u->place_seq = from->place_seq;
	u->place = from->place;
}

/* An intent-held path to @k's position that lives as long as the update. */
static int update_get_iter(struct btree_trans *trans, struct btree_update *u, size_t at,
			   struct btree_iter *from, struct bpos pos)
{
	struct btree_iter *near = update_iter_covers(trans, at, u->id, u->level, pos);

	if (!near && at)
		near = update_iter_covers(trans, at - 1, u->id, u->level, pos);
	if (near) {
		/* Owned by the neighbour; all go together. */
		u->iter = near;
		return 0;
	}
	u->iter = btree_trans_kmalloc(trans, sizeof(*u->iter));
	u->own_iter = true;
	if (from && from->path_valid && from->level == u->level &&
	    from->l[from->level].locked == SIX_INTENT + 1 &&
	    btree_node_covers(from->l[from->level].b, pos)) {
		btree_iter_clone_path(u->iter, from);
		return 0;
	}
	btree_iter_init_level(trans, u->iter, u->id, u->level, pos,
			      BTREE_ITER_INTENT | BTREE_ITER_ALL_SNAPSHOTS |
				      BTREE_ITER_NOT_EXTENTS);
	int ret = btree_iter_traverse_to(u->iter, &pos, u->level);
	if (ret)
		btree_iter_exit(u->iter);
	return ret;
}

int btree_trans_queue(struct btree_trans *trans, unsigned id, unsigned level,
		      struct btree_iter *from, struct bkey_i *k, unsigned flags)
{
	size_t at = updates_lower_bound(trans, id, level, k->k.p);
	struct btree_update *u = at < trans->updates.nr ? trans->updates.data[at] : NULL;

	if (u && !update_cmp(u, id, level, k->k.p)) {
		if (u->trig_done || u->no_triggers)
			u->trig_old = u->k;
		u->no_triggers &= !!(flags & BTREE_UPDATE_NOTRIGGERS);
		u->trig_done = false;
		u->k = k;
		u->reserve |= !!(flags & BTREE_UPDATE_RESERVE);
		return 0;
	}
	u = btree_trans_kmalloc(trans, sizeof(*u));
	u->id = id;
	u->level = level;
	u->k = k;
	u->no_triggers = flags & BTREE_UPDATE_NOTRIGGERS;
	u->reserve = flags & BTREE_UPDATE_RESERVE;

	int ret = update_get_iter(trans, u, at, from, k->k.p);
	if (ret)
		return ret;
	update_get_place(u, from, k->k.p);
	if (darray_insert(&trans->updates, at, u)) {
		if (u->own_iter)
			btree_iter_exit(u->iter);
		btree_trans_unlock(trans);
		env_sleep_ns(trans->c->env, ENV_NSEC_PER_MSEC);
		return btree_trans_restart(trans, -BCFS_ERR_restart_mem);
	}
	return 0;
}

/* ---- what callers use ---- */

int btree_ancestor_shows(struct btree_trans *trans, enum btree_id id, struct bpos pos)
{
	struct btree_fs *c = trans->c;
	struct btree_iter iter;
	int ret = 0;

	if (pos.snapshot == UINT32_MAX)
		return 0;
	btree_iter_init(trans, &iter, id, bpos_successor(pos),
			BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS);
	while (1) {
		struct bkey_s_c k =
			btree_iter_peek_max(&iter, SPOS(pos.inode, pos.offset, UINT32_MAX));

		ret = bkey_err(k);
		if (ret || !k.k)
			break;
		bool sees = c->opts.snapshots ? c->opts.snapshots->is_ancestor(
							c->opts.arg, pos.snapshot, k.k->p.snapshot)
					      : k.k->p.snapshot == UINT32_MAX;
		if (sees) {
			/* The nearest decides. */
			ret = k.k->type != KEY_TYPE_whiteout;
			break;
		}
		if (!btree_iter_advance(&iter))
			break;
	}
	btree_iter_exit(&iter);
	return ret;
}

int btree_trans_update(struct btree_trans *trans, struct btree_iter *iter, struct bkey_i *k,
		       unsigned flags)
{
	unsigned id_flags = btree_id_flags(iter->btree_id);

	if (!iter->level && (id_flags & BTREE_IS_EXTENTS) && !(flags & BTREE_UPDATE_NO_EXTENT))
		return btree_trans_update_extent(trans, iter, k, flags);

	if (!iter->level && (id_flags & BTREE_HAS_SNAPSHOTS) && k->k.type == KEY_TYPE_deleted &&
	    !(flags & BTREE_UPDATE_INTERNAL_SNAPSHOT)) {
		int ret = btree_ancestor_shows(trans, iter->btree_id, k->k.p);

		if (ret < 0)
			return ret;
		if (ret && !planted(snapshot_whiteout_missing))
			k = btree_trans_alloc_key(trans, KEY_TYPE_whiteout, k->k.p, 0);
	}
	return btree_trans_queue(trans, iter->btree_id, iter->level, iter, k, flags);
}

int btree_trans_insert(struct btree_trans *trans, enum btree_id id, struct bkey_i *k,
		       unsigned flags)
{
	unsigned id_flags = btree_id_flags(id);

	if (!(id_flags & BTREE_HAS_SNAPSHOTS) && !(id_flags & BTREE_IS_EXTENTS))
		return btree_trans_queue(trans, id, 0, NULL, k, flags);

	struct btree_iter iter;

	btree_iter_init(trans, &iter, id,
			id_flags & BTREE_IS_EXTENTS ? bkey_start_pos(&k->k) : k->k.p,
			BTREE_ITER_INTENT);
	int ret = btree_trans_update(trans, &iter, k, flags);
	btree_iter_exit(&iter);
	return ret;
}

int btree_trans_delete_at(struct btree_trans *trans, struct btree_iter *iter, unsigned flags)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, KEY_TYPE_deleted, iter->pos, 0);

	return btree_trans_update(trans, iter, k, flags);
}

int btree_trans_delete(struct btree_trans *trans, enum btree_id id, struct bpos pos, unsigned flags)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, KEY_TYPE_deleted, pos, 0);

	return btree_trans_insert(trans, id, k, flags | BTREE_UPDATE_NO_EXTENT);
}

int btree_trans_bit_mod(struct btree_trans *trans, enum btree_id id, struct bpos pos, bool set)
{
	struct bkey_i *k =
		btree_trans_alloc_key(trans, set ? KEY_TYPE_set : KEY_TYPE_deleted, pos, 0);

	return btree_trans_queue(trans, id, 0, NULL, k, BTREE_UPDATE_RESERVE);
}
