// SPDX-License-Identifier: LGPL-2.1-or-later
/* Iterators: paths from root to leaf, and walking keys. */
#include "btree/btree_private.h"

#include <string.h>

/* ---- roots ---- */

/*
 * A leaf in memory that stands for an empty btree until something is written. Nothing is held: to
 * have the memory other nodes may have to be written, which may end up here again.
 */
static int root_make_fake(struct btree_fs *c, enum btree_id id)
{
	struct btree_root *r = &c->roots[id];
	int ret = 0;
	struct btree *b = btree_node_mem_alloc(c, true, &ret);

	if (!b)
		return ret;
	env_mutex_lock(&c->root_lock[id]);
	if (atomic_load(&r->b)) {
		env_mutex_unlock(&c->root_lock[id]);
		btree_node_mem_free(c, b);
		return 0;
	}
	b->id = id;
	b->level = 0;
	b->min_key = POS_MIN;
	b->max_key = SPOS_MAX;
	btree_keys_init(&b->keys, b->keys.data, b->keys.aux, c->opts.node_bytes / 8,
			&bkey_format_current);
	btree_node_raise_capacity(b);
	atomic_store(&b->flags, BTREE_NODE_fake | BTREE_NODE_root);
	atomic_store(&b->hash_val, ((u64)b->idx + 1) << 8);
	six_unlock(&b->lock, SIX_WRITE);
	six_unlock(&b->lock, SIX_INTENT);
	atomic_store(&r->level, 0);
	atomic_store(&r->b, b);
	env_mutex_unlock(&c->root_lock[id]);
	return 0;
}

/* ---- paths ---- */

static inline enum six_type level_lock_type(const struct btree_iter *iter, unsigned level)
{
	if (level == iter->level)
		return iter->flags & BTREE_ITER_INTENT ? SIX_INTENT : SIX_READ;
	return level < iter->locks_want ? SIX_INTENT : SIX_READ;
}

/* Is l[level] a node, locked as wanted (or relockable), that covers pos? */
static bool path_level_ok(struct btree_iter *iter, unsigned level, const struct bpos *pos)
{
	struct btree_path_level *l = &iter->l[level];

	if (!l->b)
		return false;
	if (!btree_iter_relock_level(iter, level, level_lock_type(iter, level)))
		return false;
	return btree_node_covers(l->b, *pos) && l->b->level == level && l->b->id == iter->btree_id;
}

static void path_set(struct btree_iter *iter, unsigned level, struct btree *b, enum six_type type)
{
	iter->l[level].b = b;
	iter->l[level].lock_seq = six_seq(&b->lock);
	iter->l[level].locked = type + 1;
}

static int path_lock_root(struct btree_iter *iter)
{
	struct btree_trans *trans = iter->trans;
	struct btree_fs *c = trans->c;
	int ret;

	btree_iter_unlock(iter);
	struct btree_root *r = &c->roots[iter->btree_id];
	struct btree *b = atomic_load_explicit(&r->b, memory_order_acquire);
	if (unlikely(!b)) {
		btree_trans_unlock(trans);
		ret = root_make_fake(c, iter->btree_id);
		return ret ?: btree_trans_restart(trans, -BCFS_ERR_restart_lock);
	}
	/* Not locked: it may change under us, which is seen below. */
	unsigned level = atomic_load(&r->level);

	iter->root_level = level;
	if (level < iter->level)
		return -BCFS_ERR_btree_no_such_level;

	enum six_type type = level_lock_type(iter, level);
	if (!btree_trans_trylock(trans, b, type))
		return btree_trans_lock_wait(trans, b, type);
	if (atomic_load(&c->roots[iter->btree_id].b) != b || b->level != level ||
	    b->id != iter->btree_id) {
		six_unlock(&b->lock, type);
		return btree_trans_restart(trans, -BCFS_ERR_restart_lock);
	}
	for (unsigned l = 0; l < BTREE_MAX_DEPTH; l++)
		iter->l[l].b = NULL;
	path_set(iter, level, b, type);
	return 0;
}

/* Ask for the next few siblings of the child being entered. */
static void path_prefetch(struct btree_iter *iter, struct btree *parent, struct btree_node_iter it)
{
	struct btree_fs *c = iter->trans->c;
	struct bkey u;

	for (unsigned i = 0; i < 4; i++) {
		btree_node_iter_advance(&it, &parent->keys);
		struct bkey_s_c k = btree_node_iter_peek_unpack(&it, &parent->keys, &u);

		if (!k.k)
			return;
		btree_cache_prefetch(c, iter->btree_id, parent->level - 1, btree_ptr_hash(k),
				     k.k->p);
	}
}

static int bad_topology(struct btree_iter *iter, unsigned level, const struct bpos *pos,
			const char *what)
{
	struct btree_fs *c = iter->trans->c;
	struct printbuf buf = PRINTBUF;
	int ret;

	bpos_to_text(&buf, *pos);
	ret = btree_error(c, -BCFS_ERR_btree_topology, "%s: btree %s level %u %s %s", c->bdev->name,
			  btree_id_name(iter->btree_id), level, what, printbuf_str(&buf));
	printbuf_exit(&buf);
	return ret;
}

/* From the locked node at @level to its child that covers @pos. */
static int path_down(struct btree_iter *iter, unsigned level, const struct bpos *pos)
{
	struct btree_trans *trans = iter->trans;
	struct btree *parent = iter->l[level].b;
	struct btree_node_iter it;
	struct bkey u;
	int ret;

	btree_node_iter_init(&it, &parent->keys, pos, NULL);
	struct bkey_s_c k = btree_node_iter_peek_unpack(&it, &parent->keys, &u);
	u64 hash = k.k ? btree_ptr_hash(k) : 0;

	if (unlikely(!hash))
		return bad_topology(iter, level, pos, "has no child for");
	/* A tree with holes or overlaps must not send a walk backwards. */
	const struct bpos *min_key = &((const struct bcfs_btree_ptr *)k.v)->min_key;
	if (unlikely(bpos_gt(*min_key, *pos)))
		return bad_topology(iter, level, pos, "has a hole at");
	enum six_type type = level_lock_type(iter, level - 1);
	struct btree *b = btree_cache_find(trans, hash, iter->btree_id, level - 1, type, &ret);

	if (unlikely(!b)) {
		union btree_ptr_key key;

		if (ret)
			return ret;
		if (k.k->u64s > BTREE_PTR_U64s_MAX)
			return -BCFS_ERR_btree_node_bad_ptr;
		bkey_reassemble(&key.k, k);
		if (iter->flags & BTREE_ITER_PREFETCH && level - 1 == iter->level)
			path_prefetch(iter, parent, it);
		return btree_cache_fill(trans, iter->btree_id, level - 1, &key.k);
	}
	if (unlikely(!bpos_eq(b->max_key, k.k->p) || !bpos_eq(b->min_key, *min_key))) {
		/* Two pointers to one node. */
		six_unlock(&b->lock, type);
		return bad_topology(iter, level, pos, "shares a child with another at");
	}
	path_set(iter, level - 1, b, type);
	if (iter->flags & BTREE_ITER_PREFETCH && level - 1 == iter->level)
		path_prefetch(iter, parent, it);
	/* The child is ours: the parent's read lock has done its duty. */
	if (iter->l[level].locked == SIX_READ + 1)
		btree_iter_unlock_level(iter, level);
	return 0;
}

/* Make the path lead to @pos, with intent at levels below @locks_want. */
int btree_iter_traverse_to(struct btree_iter *iter, const struct bpos *pos, unsigned locks_want)
{
	struct btree_trans *trans = iter->trans;
	unsigned level = iter->level;
	int ret;

	iter->locks_want = max_t(unsigned, locks_want, iter->level);
	if (btree_trans_inject(trans, "trans_restart")) {
		btree_trans_unlock(trans);
		return btree_trans_restart(trans, -BCFS_ERR_restart_injected);
	}
	if (iter->path_valid) {
		/* The lowest level that is still right; and every level that must be locked, is. */
		while (level <= iter->root_level && !path_level_ok(iter, level, pos)) {
			btree_iter_unlock_level(iter, level);
			iter->l[level].b = NULL;
			level++;
		}
		for (unsigned l = level + 1;
		     l < iter->locks_want && l <= iter->root_level && level <= iter->root_level;
		     l++)
			if (!path_level_ok(iter, l, pos)) {
				level = BTREE_MAX_DEPTH; /* again from the root */
				break;
			}
	} else {
		level = BTREE_MAX_DEPTH;
	}
	iter->path_valid = false;
	iter->node_iter_valid = false;

	if (level > iter->root_level || level >= BTREE_MAX_DEPTH) {
		ret = path_lock_root(iter);
		if (ret)
			return ret;
		level = iter->root_level;
	}
	while (level > iter->level) {
		ret = path_down(iter, level, pos);
		if (ret)
			return ret;
		level--;
	}
	iter->path_valid = true;
	iter->read = true;
	iter->path_pos = *pos;
	return 0;
}

/* The leaf holds @search, locked, and node_iter at the first key >= @search. */
static inline int iter_seek(struct btree_iter *iter, const struct bpos *search)
{
	struct btree_path_level *l = &iter->l[iter->level];

	/* The usual case when walking: same node, still locked, a little further on. */
	if (likely(iter->path_valid && iter->node_iter_valid && l->locked) &&
	    btree_node_covers(l->b, *search) && bpos_ge(*search, iter->path_pos) &&
	    likely(!env_inject_armed(iter->trans->c->env))) {
		struct bkey_packed *k;

		for (unsigned i = 0; i < 8; i++) {
			k = btree_node_iter_peek(&iter->node_iter, &l->b->keys);
			if (!k || bkey_cmp_left_packed(&l->b->keys.f, k, *search) >= 0) {
				iter->read = true;
				iter->path_pos = *search;
				iter->place_valid = false;
				return 0;
			}
			btree_node_iter_advance(&iter->node_iter, &l->b->keys);
		}
	} else {
		int ret = btree_iter_traverse_to(iter, search, iter->locks_want);

		if (ret)
			return ret;
	}
	btree_node_iter_init(&iter->node_iter, &l->b->keys, search, &iter->place);
	iter->place_valid = true;
	iter->place_seq = six_seq(&l->b->lock);
	iter->read = true;
	iter->path_pos = *search;
	iter->node_iter_valid = true;
	return 0;
}

/* ---- iterators ---- */

static inline bool iter_filters(const struct btree_iter *iter)
{
	return !(iter->flags & BTREE_ITER_ALL_SNAPSHOTS) &&
	       (btree_id_flags(iter->btree_id) & BTREE_HAS_SNAPSHOTS);
}
/* Extents of different snapshots overlap: seen all at once they are plain keys. */
static inline bool iter_extents(const struct btree_iter *iter)
{
	unsigned f = btree_id_flags(iter->btree_id);

	return !(iter->flags & BTREE_ITER_NOT_EXTENTS) && (f & BTREE_IS_EXTENTS) &&
	       !((iter->flags & BTREE_ITER_ALL_SNAPSHOTS) && (f & BTREE_HAS_SNAPSHOTS));
}

void btree_iter_init_level(struct btree_trans *trans, struct btree_iter *iter, enum btree_id id,
			   unsigned level, struct bpos pos, unsigned flags)
{
	iter->trans = trans;
	iter->btree_id = id;
	iter->level = level;
	iter->locks_want = level;
	iter->root_level = 0;
	iter->flags = flags;
	iter->pos = pos;
	iter->path_valid = false;
	iter->read = false;
	iter->node_iter_valid = false;
	memset(iter->l, 0, sizeof(iter->l));
	iter->next = trans->iters;
	if (iter->next)
		iter->next->pprev = &iter->next;
	iter->pprev = &trans->iters;
	trans->iters = iter;
}

void btree_iter_init(struct btree_trans *trans, struct btree_iter *iter, enum btree_id id,
		     struct bpos pos, unsigned flags)
{
	btree_iter_init_level(trans, iter, id, 0, pos, flags);
}

void btree_iter_exit(struct btree_iter *iter)
{
	if (!iter->trans)
		return;
	btree_iter_unlock(iter);
	*iter->pprev = iter->next;
	if (iter->next)
		iter->next->pprev = iter->pprev;
	iter->trans = NULL;
}

/* Another hold of the same leaf: for an update that outlives its iterator. */
void btree_iter_clone_path(struct btree_iter *dst, struct btree_iter *src)
{
	struct btree_path_level *l = &src->l[src->level];

	btree_iter_init_level(src->trans, dst, src->btree_id, src->level, src->path_pos,
			      src->flags);
	assert(src->path_valid && l->locked == SIX_INTENT + 1);
	six_increment(&l->b->lock, SIX_INTENT);
	dst->l[dst->level] = *l;
	dst->root_level = src->level; /* levels above are not held */
	dst->path_valid = true;
	dst->read = true;
	dst->path_pos = src->path_pos;
}

void btree_iter_set_pos(struct btree_iter *iter, struct bpos pos)
{
	iter->pos = pos;
}

void btree_iter_set_snapshot(struct btree_iter *iter, u32 snapshot)
{
	iter->pos.snapshot = snapshot;
}

/* ---- peeking ---- */

/* First key of the btree itself or of the pending updates at or behind @search; deleted ones
 * skipped. */
static struct bkey_s_c iter_peek_raw(struct btree_iter *iter, const struct bpos *search,
				     const struct bpos *end)
{
	struct btree_trans *trans = iter->trans;
	struct bpos next;

	while (1) {
		int ret = iter_seek(iter, search);

		if (ret)
			return bkey_s_c_err(ret);
		struct btree *b = iter->l[iter->level].b;
		struct bkey_s_c k =
			btree_node_iter_peek_unpack(&iter->node_iter, &b->keys, &iter->k);

		if (unlikely(trans->updates.nr) && !(iter->flags & BTREE_ITER_NOUPDATES)) {
			struct btree_update *u = btree_trans_find_update(trans, iter->btree_id,
									 iter->level, *search);

			if (u && bpos_le(u->k->k.p, k.k ? k.k->p : b->max_key)) {
				if (u->k->k.type != KEY_TYPE_deleted) {
					iter->k = u->k->k;
					return (struct bkey_s_c){&iter->k, (struct bval *)u->k->v};
				}
				if (bpos_ge(u->k->k.p, *end))
					return bkey_s_c_null;
				next = bpos_successor(u->k->k.p);
				search = &next;
				continue;
			}
		}
		if (k.k)
			return k;
		if (bpos_eq(b->max_key, SPOS_MAX) || bpos_ge(b->max_key, *end))
			return bkey_s_c_null;
		next = bpos_successor(b->max_key);
		search = &next;
	}
}

static bool iter_sees_snapshot(const struct btree_iter *iter, u32 key_snapshot)
{
	struct btree_fs *c = iter->trans->c;
	u32 id = iter->pos.snapshot;

	if (key_snapshot == id)
		return true;
	if (key_snapshot < id)
		return false;
	return c->opts.snapshots ? c->opts.snapshots->is_ancestor(c->opts.arg, id, key_snapshot)
				 : key_snapshot == UINT32_MAX;
}

/* Where the search for extents at or behind iter->pos begins: they end behind it. */
static struct bpos iter_search_pos_extents(const struct btree_iter *iter)
{
	struct bpos p = iter->pos;

	p.snapshot = 0;
	if (p.offset < UINT64_MAX)
		p.offset++;
	else if (p.inode < UINT64_MAX)
		p = POS(p.inode + 1, 0);
	return p;
}

/* @end limits positions (for extents: starts), snapshot ignored where the filter is on. */
static bool iter_beyond(const struct btree_iter *iter, const struct bkey *k, struct bpos end)
{
	struct bpos p = iter_extents(iter) ? bkey_start_pos(k) : k->p;

	if (iter_filters(iter) || iter_extents(iter)) {
		int cmp = bkey_cmp_pos(p, end);

		/* An extent that begins at the end is beyond; a key there is not. */
		return iter_extents(iter) && k->size ? cmp >= 0 : cmp > 0;
	}
	return bpos_gt(p, end);
}

/* A limit for the raw walk that cuts off nothing that iter_beyond() would let pass. */
static struct bpos iter_raw_end(const struct btree_iter *iter, struct bpos end)
{
	if (iter_extents(iter))
		return SPOS(end.inode, UINT64_MAX, UINT32_MAX);
	if (iter_filters(iter))
		end.snapshot = UINT32_MAX;
	return end;
}

struct bkey_s_c btree_iter_peek_max(struct btree_iter *iter, struct bpos end)
{
	struct bpos raw_end = iter_raw_end(iter, end), next;
	const struct bpos *search = &iter->pos;
	bool filter = iter_filters(iter);

	if (iter_extents(iter)) {
		next = iter_search_pos_extents(iter);
		search = &next;
	}
	while (1) {
		struct bkey_s_c k = iter_peek_raw(iter, search, &raw_end);

		if (!k.k || bkey_err(k))
			return k;
		/* An extent that is not seen says nothing about where those behind it begin. */
		if (iter_extents(iter) ? k.k->p.inode > end.inode : iter_beyond(iter, k.k, end))
			return bkey_s_c_null;
		if (filter) {
			if (!iter_sees_snapshot(iter, k.k->p.snapshot)) {
				next = bpos_successor(k.k->p);
				search = &next;
				continue;
			}
			if (k.k->type == KEY_TYPE_whiteout &&
			    !(iter->flags & BTREE_ITER_WHITEOUTS)) {
				/* Hides what ancestors have here. */
				if (bpos_eq(SPOS(k.k->p.inode, k.k->p.offset, UINT32_MAX),
					    SPOS_MAX))
					return bkey_s_c_null;
				next = bpos_successor(
					SPOS(k.k->p.inode, k.k->p.offset, UINT32_MAX));
				search = &next;
				continue;
			}
		}
		if (iter_extents(iter) && iter_beyond(iter, k.k, end))
			return bkey_s_c_null;
		struct bpos p = iter_extents(iter) ? bkey_start_pos(k.k) : k.k->p;

		if (filter)
			p.snapshot = iter->pos.snapshot;
		if (!iter_extents(iter) || bkey_cmp_pos(p, iter->pos) > 0)
			iter->pos = p;
		return k;
	}
}

bool btree_iter_advance(struct btree_iter *iter)
{
	const struct bkey *k = &iter->k;
	struct bpos p = k->p;

	if (iter_extents(iter)) {
		/* What ends behind here is next. */
		if (p.offset == UINT64_MAX) {
			if (p.inode == UINT64_MAX)
				return false;
			p = POS(p.inode + 1, 0);
		}
		iter->pos.inode = p.inode;
		iter->pos.offset = p.offset;
		return true;
	}
	if (iter_filters(iter) || !(btree_id_flags(iter->btree_id) & BTREE_HAS_SNAPSHOTS)) {
		u32 snapshot = iter->pos.snapshot;

		if (p.inode == UINT64_MAX && p.offset == UINT64_MAX)
			return false;
		if (!iter_filters(iter)) {
			iter->pos = bpos_successor(p);
			return !bpos_eq(p, SPOS_MAX);
		}
		iter->pos = bpos_successor(SPOS(p.inode, p.offset, UINT32_MAX));
		iter->pos.snapshot = snapshot;
		return true;
	}
	if (bpos_eq(p, SPOS_MAX))
		return false;
	iter->pos = bpos_successor(p);
	return true;
}

/* A key of type deleted that stands for nothing at iter->pos. */
static struct bkey_s_c iter_hole(struct btree_iter *iter, struct bpos p, u32 size)
{
	bkey_init(&iter->k);
	iter->k.p = p;
	iter->k.size = size;
	return (struct bkey_s_c){&iter->k, NULL};
}

struct bkey_s_c btree_iter_peek_slot(struct btree_iter *iter)
{
	struct bkey_s_c k;

	/* Not through a copy of the position: it has mostly just been stored, in pieces. */
	if (!iter_extents(iter) && !iter_filters(iter)) {
		k = iter_peek_raw(iter, &iter->pos, &iter->pos);
		if (bkey_err(k) || (k.k && bpos_eq(k.k->p, iter->pos)))
			return k;
		return iter_hole(iter, iter->pos, 0);
	}
	struct bpos pos = iter->pos;

	if (!iter_extents(iter)) {
		k = btree_iter_peek_max(iter, pos);
		iter->pos = pos;
		return k.k ? k : iter_hole(iter, pos, 0);
	}
	k = btree_iter_peek_max(iter, SPOS(pos.inode, UINT64_MAX, UINT32_MAX));
	iter->pos = pos;
	if (bkey_err(k) || (k.k && bkey_start_offset(k.k) <= pos.offset))
		return k;

	u64 hole_end = k.k ? bkey_start_offset(k.k) : UINT64_MAX;
	u64 size = min(hole_end - pos.offset, 1ULL << 31);
	return iter_hole(iter, SPOS(pos.inode, pos.offset + size, pos.snapshot), size);
}

/* ---- backwards ---- */

/* Last live key or pending update before @before (exclusive), at or behind @start. */
static struct bkey_s_c iter_peek_prev_raw(struct btree_iter *iter, struct bpos before,
					  struct bpos start)
{
	struct btree_trans *trans = iter->trans;

	while (bpos_gt(before, POS_MIN)) {
		struct bpos last = bpos_predecessor(before);
		int ret = btree_iter_traverse_to(iter, &last, iter->locks_want);

		if (ret)
			return bkey_s_c_err(ret);
		struct btree *b = iter->l[iter->level].b;
		struct btree_node_iter it;

		iter->node_iter_valid = false;
		btree_node_iter_init(&it, &b->keys, &before, NULL);
		struct bkey_packed *pk = btree_node_iter_prev(&it, &b->keys);
		struct bkey_s_c k = pk ? bkey_disassemble(&b->keys.f, pk, &iter->k) : bkey_s_c_null;

		/* Pending updates between that key and @before. */
		struct btree_update *best = NULL;
		for (size_t i = 0; i < trans->updates.nr && !(iter->flags & BTREE_ITER_NOUPDATES);
		     i++) {
			struct btree_update *u = trans->updates.data[i];
			struct bpos p = u->k->k.p;

			if (u->id == iter->btree_id && u->level == iter->level &&
			    bpos_lt(p, before) && bpos_ge(p, k.k ? k.k->p : b->min_key) &&
			    (!best || bpos_gt(p, best->k->k.p)))
				best = u;
		}
		if (best) {
			if (best->k->k.type != KEY_TYPE_deleted) {
				iter->k = best->k->k;
				return (struct bkey_s_c){&iter->k, (struct bval *)best->k->v};
			}
			before = best->k->k.p;
			continue;
		}
		if (k.k)
			return k;
		if (bpos_le(b->min_key, start))
			break;
		before = b->min_key;
	}
	return bkey_s_c_null;
}

/* The extent that begins before iter->pos and reaches up to it or beyond; a hole if none. */
static struct bkey_s_c iter_peek_prev_here(struct btree_iter *iter)
{
	struct bpos saved = iter->pos;

	iter->pos.offset--;
	struct bkey_s_c k = btree_iter_peek_slot(iter);
	iter->pos = saved;
	return k;
}

struct bkey_s_c btree_iter_peek_prev_min(struct btree_iter *iter, struct bpos start)
{
	struct bpos before = iter->pos;
	bool filter = iter_filters(iter);

	if (iter_extents(iter) && before.offset) {
		struct bkey_s_c k = iter_peek_prev_here(iter);

		if (bkey_err(k))
			return k;
		if (k.k->type != KEY_TYPE_deleted) {
			if (bkey_cmp_pos(k.k->p, start) <= 0)
				return bkey_s_c_null;
			iter->pos.offset = bkey_start_offset(k.k);
			return k;
		}
	}
	if (filter)
		before.snapshot = 0;
	if (filter)
		start.snapshot = 0;
	while (1) {
		struct bkey_s_c k = iter_peek_prev_raw(iter, before, start);

		if (!k.k || bkey_err(k))
			return k;
		if (bpos_lt(k.k->p, start) ||
		    (iter_extents(iter) && bkey_cmp_pos(k.k->p, start) <= 0))
			return bkey_s_c_null;
		if (filter) {
			/* At this offset: what a forward look from the snapshot sees. */
			struct bpos p = k.k->p, saved = iter->pos;

			iter->pos = SPOS(p.inode, p.offset, saved.snapshot);
			if (iter_extents(iter) && p.offset)
				iter->pos.offset = p.offset - 1;
			k = btree_iter_peek_slot(iter);
			if (bkey_err(k)) {
				iter->pos = saved;
				return k;
			}
			if (k.k->type == KEY_TYPE_deleted || bkey_cmp_pos(k.k->p, p)) {
				iter->pos = saved;
				before = SPOS(p.inode, p.offset, 0);
				continue;
			}
		}
		struct bpos p = iter_extents(iter) ? bkey_start_pos(k.k) : k.k->p;

		iter->pos = SPOS(p.inode, p.offset, filter ? iter->pos.snapshot : p.snapshot);
		return k;
	}
}

struct btree *btree_iter_peek_node(struct btree_iter *iter, int *ret)
{
	*ret = btree_iter_traverse_to(iter, &iter->pos, iter->locks_want);
	return *ret ? NULL : iter->l[iter->level].b;
}

int btree_lookup(struct btree_trans *trans, enum btree_id id, struct bpos pos, unsigned flags,
		 struct bkey_i *dst, unsigned dst_u64s)
{
	struct btree_iter iter;

	btree_iter_init(trans, &iter, id, pos, flags);
	struct bkey_s_c k = btree_iter_peek_slot(&iter);
	int ret = bkey_err(k);

	if (!ret && k.k->type == KEY_TYPE_deleted)
		ret = -BCFS_ERR_btree_key_not_found;
	if (!ret && k.k->u64s > dst_u64s)
		ret = -BCFS_ERR_btree_key_too_big;
	if (!ret)
		bkey_reassemble(dst, k);
	btree_iter_exit(&iter);
	return ret;
}
