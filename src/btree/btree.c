// SPDX-License-Identifier: LGPL-2.1-or-later
/* The btrees as a whole: open, close, roots, walking nodes, counters, printing. */
#include "btree/btree_private.h"

#include <stdarg.h>
#include <string.h>

int btree_error(struct btree_fs *c, int err, const char *fmt, ...)
{
	struct printbuf msg = PRINTBUF;
	va_list args;

	va_start(args, fmt);
	prt_vprintf(&msg, fmt, args);
	va_end(args);
	prt_printf(&msg, " (%s)", err_str(err));
	log_err(c->log, "%s", printbuf_str(&msg));
	if (c->opts.error)
		c->opts.error(c->opts.arg, err, printbuf_str(&msg));
	printbuf_exit(&msg);
	return err;
}

int btree_fs_alloc(struct env *env, struct bdev *bdev, struct log *log, struct journal *journal,
		   const struct btree_fs_opts *opts, struct btree_fs **ret)
{
	struct btree_fs *c = env_zalloc(env, sizeof(*c));

	if (!c)
		return -BCFS_ERR_nomem;
	c->env = env;
	c->bdev = bdev;
	c->log = log;
	c->j = journal;
	c->opts = *opts;
	for (unsigned t = 0; t < KEY_TYPE_NR; t++) {
		const struct bkey_ops *o = opts->ops->ops[t];

		c->has_triggers[t == KEY_TYPE_btree_ptr] |= o && o->trigger;
	}
	/* where a node was, or is to be, there may be nothing: a deleted key */
	c->has_triggers[1] |=
		opts->ops->ops[KEY_TYPE_deleted] && opts->ops->ops[KEY_TYPE_deleted]->trigger;
	c->node_sectors = opts->node_bytes >> SECTOR_SHIFT;
	c->block_sectors = opts->block_bytes >> SECTOR_SHIFT;
	env_mutex_init(&c->write_lock, env);
	env_cond_init(&c->write_cond, env);
	env_mutex_init(&c->trans_lock, env);
	for (unsigned i = 0; i < BTREE_ID_NR; i++)
		env_mutex_init(&c->root_lock[i], env);

	int err = btree_cache_init(c);
	if (err) {
		btree_fs_free(c);
		return err;
	}
	*ret = c;
	return 0;
}

void btree_fs_free(struct btree_fs *c)
{
	if (!c)
		return;
	btree_fs_stop(c);
	env_wq_destroy(c->interior_wq);
	env_wq_destroy(c->read_wq);
	while (c->trans_pool) {
		struct btree_trans *t = c->trans_pool;

		c->trans_pool = t->pool_next;
		while (t->chunks) {
			struct trans_chunk *k = t->chunks;

			t->chunks = k->next;
			env_free(c->env, k);
		}
		darray_exit(&t->updates);
		env_free(c->env, t->scratch);
		env_free(c->env, t);
	}
	btree_cache_exit(c);
	for (unsigned i = 0; i < BTREE_ID_NR; i++)
		env_mutex_destroy(&c->root_lock[i]);
	env_mutex_destroy(&c->trans_lock);
	env_cond_destroy(&c->write_cond);
	env_mutex_destroy(&c->write_lock);
	env_free(c->env, c->bl);
	env_free(c->env, c);
}

/* The node a root entry points at, into the cache for good. */
static int root_read(struct btree_fs *c, enum btree_id id, const struct journal_root *root)
{
	struct printbuf err = PRINTBUF;
	struct bkey_s_c k = bkey_i_to_s_c(&root->k);
	const struct bcfs_btree_ptr *p = (const void *)root->k.v;
	int ret = 0;

	if (root->k.k.u64s > BTREE_PTR_U64s_MAX || root->level >= BTREE_MAX_DEPTH ||
	    bkey_validate(c->opts.ops, k, id, root->level + 1, &err) || !btree_ptr_hash(k) ||
	    !bpos_eq(p->min_key, POS_MIN) || !bpos_eq(root->k.k.p, SPOS_MAX)) {
		ret = btree_error(c, -BCFS_ERR_btree_root_bad, "%s: root of btree %s: %s",
				  c->bdev->name, btree_id_name(id), printbuf_str(&err));
		goto out;
	}
	struct btree *b = btree_node_mem_alloc(c, true, &ret);
	if (!b)
		goto out;
	b->id = id;
	b->level = root->level;
	b->min_key = POS_MIN;
	b->max_key = SPOS_MAX;
	bkey_copy(&b->key.k, &root->k);
	ret = btree_node_read(c, b);
	if (!ret)
		ret = btree_node_hash_insert(c, b, btree_ptr_hash(k));
	if (ret) {
		btree_node_mem_free(c, b);
		goto out;
	}
	btree_node_set(b, BTREE_NODE_root);
	six_unlock(&b->lock, SIX_WRITE);
	six_unlock(&b->lock, SIX_INTENT);
	atomic_store(&c->roots[id].level, b->level);
	atomic_store(&c->roots[id].b, b);
out:
	printbuf_exit(&err);
	return ret;
}

int btree_fs_start(struct btree_fs *c, const struct journal_root *roots, u64 suspect_seq,
		   const struct journal_blacklist_range *bl, unsigned nr_bl)
{
	int ret = 0;

	c->suspect_seq = suspect_seq;
	if (nr_bl) {
		c->bl = env_malloc(c->env, nr_bl * sizeof(*bl));
		if (!c->bl)
			return -BCFS_ERR_nomem;
		memcpy(c->bl, bl, nr_bl * sizeof(*bl));
		c->nr_bl = nr_bl;
	}
	c->interior_wq = env_wq_create(c->env, "btree-interior", 1);
	c->read_wq = env_wq_create(c->env, "btree-read", 2);
	if (!c->interior_wq || !c->read_wq)
		return -BCFS_ERR_thread_start;
	for (unsigned i = 0; !ret && roots && i < BTREE_ID_NR; i++)
		if (roots[i].alive)
			ret = root_read(c, i, &roots[i]);
	return ret;
}

void btree_fs_replay_none(struct btree_fs *c)
{
	atomic_store(&c->started, true);
}

void btree_fs_stop(struct btree_fs *c)
{
	if (!atomic_load(&c->halted))
		btree_interior_flush(c);
	atomic_store(&c->stopping, true);
	/*
	 * The queues live on: the journal's reclaim, which is stopped after us, may just now be
	 * queueing something; it will do nothing.
	 */
	btree_interior_flush(c);
	if (c->read_wq)
		env_wq_flush(c->read_wq);
}

void btree_fs_halt(struct btree_fs *c)
{
	if (atomic_exchange(&c->halted, true))
		return;
	/* What is dirty stays in memory for good: who goes on reading needs room beside it. */
	env_mutex_lock(&c->cache.lock);
	c->cache.limit += c->cache.all.nr;
	env_mutex_unlock(&c->cache.lock);
}

unsigned btree_depth(struct btree_fs *c, enum btree_id id)
{
	struct btree *b = atomic_load(&c->roots[id].b);

	return b ? atomic_load(&c->roots[id].level) + 1U : 0;
}

bool btree_root_key(struct btree_fs *c, enum btree_id id, struct bkey_i *dst, unsigned dst_u64s,
		    unsigned *level)
{
	struct btree *b;
	bool found = false;

	while (1) {
		b = atomic_load(&c->roots[id].b);
		if (!b)
			return false;
		six_lock(&b->lock, SIX_INTENT);
		if (atomic_load(&c->roots[id].b) == b)
			break;
		six_unlock(&b->lock, SIX_INTENT); /* replaced meanwhile, perhaps something else */
	}
	if (!btree_node_flag(b, BTREE_NODE_fake) && b->key.k.k.u64s &&
	    b->key.k.k.u64s <= dst_u64s) {
		bkey_copy(dst, &b->key.k);
		*level = b->level;
		found = true;
	}
	six_unlock(&b->lock, SIX_INTENT);
	return found;
}

/* ---- every node ---- */

struct node_walk {
	struct btree_fs *c;
	enum btree_id id;
	int (*fn)(void *arg, const struct btree_node_info *n);
	int (*bad)(void *arg, struct bkey_s_c ptr, unsigned level, int err);
	void *arg;
};

/* One node by position, locked while fn looks at it. */
static int walk_node(struct btree_trans *trans, struct node_walk *w, unsigned level,
		     struct bpos pos, struct bkey_s_c ptr)
{
	struct btree_iter iter;
	int ret;

	btree_iter_init_level(trans, &iter, w->id, level, pos,
			      BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS);
	struct btree *b = btree_iter_peek_node(&iter, &ret);
	if (!ret) {
		struct btree_node_info n = {
			.id = w->id,
			.level = level,
			.min_key = b->min_key,
			.max_key = b->max_key,
			.keys = &b->keys,
			.ptr = ptr,
			.sectors_written = b->written,
			.dirty = btree_node_dirty(b),
		};
		ret = w->fn(w->arg, &n);
	}
	btree_iter_exit(&iter);
	return ret;
}

/* The children of all nodes at @level + 1. */
static int walk_level(struct btree_trans *trans, struct node_walk *w, unsigned level)
{
	union btree_ptr_key ptr;
	struct bpos pos = POS_MIN;
	int ret = 0;

	while (1) {
		bool end = false;

		ret = lockrestart_do(trans, ({
					     struct btree_iter iter;

					     btree_iter_init_level(trans, &iter, w->id, level + 1,
								   pos,
								   BTREE_ITER_ALL_SNAPSHOTS |
									   BTREE_ITER_NOT_EXTENTS);
					     struct bkey_s_c k = btree_iter_peek(&iter);
					     int r = bkey_err(k);

					     end = !r && (!k.k || k.k->u64s > BTREE_PTR_U64s_MAX);
					     if (!r && !end)
						     bkey_reassemble(&ptr.k, k);
					     btree_iter_exit(&iter);
					     r;
				     }));
		if (ret || end)
			return ret == -BCFS_ERR_btree_no_such_level ? 0 : ret;

		ret = lockrestart_do(trans,
				     walk_node(trans, w, level, ptr.k.k.p, bkey_i_to_s_c(&ptr.k)));
		if (ret == -BCFS_ERR_btree_no_such_level)
			return 0; /* the tree has shrunk meanwhile */
		if (ret < 0 && w->bad)
			ret = w->bad(w->arg, bkey_i_to_s_c(&ptr.k), level, ret);
		if (ret || bpos_eq(ptr.k.k.p, SPOS_MAX))
			return ret;
		pos = bpos_successor(ptr.k.k.p);
	}
}

int btree_for_each_node(struct btree_fs *c, enum btree_id id,
			int (*fn)(void *arg, const struct btree_node_info *n),
			int (*bad)(void *arg, struct bkey_s_c ptr, unsigned level, int err),
			void *arg)
{
	struct node_walk w = {c, id, fn, bad, arg};
	struct btree_trans *trans = btree_trans_get(c);
	unsigned depth;
	int ret = 0;

	do {
		depth = btree_depth(c, id);
		ret = !depth ? 0
			     : lockrestart_do(trans, walk_node(trans, &w, depth - 1, POS_MIN,
							       bkey_s_c_null));
	} while (ret == -BCFS_ERR_btree_no_such_level); /* shrunk before it was locked */
	for (int level = (int)depth - 2; !ret && level >= 0; level--)
		ret = walk_level(trans, &w, level);
	btree_trans_put(trans);
	return ret;
}

/* ---- what can be seen from outside ---- */

void btree_counters(struct btree_fs *c, struct btree_counters *ret)
{
#define x(name, doc) ret->name = atomic_load_explicit(&c->count.name, memory_order_relaxed);
	BTREE_COUNTERS(x)
#undef x
}

void btree_fs_to_text(struct printbuf *out, struct btree_fs *c)
{
	struct btree_cache_stats s;

	btree_cache_stats(c, &s);
	prt_printf(out, "node cache: %llu nodes, %llu dirty, %llu of %llu bytes\n",
		   (unsigned long long)s.nodes, (unsigned long long)s.dirty,
		   (unsigned long long)s.bytes, (unsigned long long)s.limit_bytes);
	for (unsigned i = 0; i < BTREE_ID_NR; i++)
		if (btree_depth(c, i))
			prt_printf(out, "btree %s: depth %u\n", btree_id_name(i),
				   btree_depth(c, i));
#define x(name, doc)                                                                               \
	prt_printf(                                                                                \
		out, #name " %llu\n",                                                              \
		(unsigned long long)atomic_load_explicit(&c->count.name, memory_order_relaxed));
	BTREE_COUNTERS(x)
#undef x
}

static int find_node_at(struct btree_trans *trans, enum btree_id id, unsigned level,
			struct bpos pos, u64 dev_sector, u64 *ret_hash)
{
	struct bcfs_extent_ptr ptr;
	struct btree_iter iter;
	int ret;

	*ret_hash = 0;
	btree_iter_init_level(trans, &iter, id, level, pos,
			      BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS);
	struct btree *b = btree_iter_peek_node(&iter, &ret);
	if (b && !btree_node_flag(b, BTREE_NODE_fake)) {
		memcpy(&ptr, btree_ptr_val(&b->key.k)->start, sizeof(ptr));
		if (ptr.offset == dev_sector)
			*ret_hash = atomic_load(&b->hash_val);
	}
	btree_iter_exit(&iter);
	return ret == -BCFS_ERR_btree_no_such_level ? 0 : ret;
}

int btree_node_move(struct btree_fs *c, enum btree_id id, unsigned level, struct bpos pos,
		    u64 dev_sector, bool *ret_moved)
{
	struct btree_trans *trans = btree_trans_get(c);
	u64 hash;
	int ret = lockrestart_do(trans, find_node_at(trans, id, level, pos, dev_sector, &hash));

	btree_trans_put(trans);
	if (!ret && hash)
		ret = btree_node_rewrite(c, id, level, pos, hash);
	*ret_moved = !ret && hash;
	return ret;
}

/* ---- keys ---- */

/* The node at @pos: its last position and, if an older generation encrypted it, its hash. */
static int find_old_key(struct btree_trans *trans, enum btree_id id, unsigned level,
			struct bpos pos, u16 gen, struct bpos *ret_max, u64 *ret_hash)
{
	struct btree_iter iter;
	int ret;

	*ret_hash = 0;
	btree_iter_init_level(trans, &iter, id, level, pos,
			      BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS);
	struct btree *b = btree_iter_peek_node(&iter, &ret);
	if (b) {
		*ret_max = b->max_key;
		if (b->key_gen && b->key_gen < gen && !btree_node_flag(b, BTREE_NODE_fake))
			*ret_hash = atomic_load(&b->hash_val);
	}
	btree_iter_exit(&iter);
	return ret;
}

static int rekey_level(struct btree_fs *c, enum btree_id id, unsigned level, u16 gen,
		       bool (*stop)(void *arg), void *arg, u64 *nr)
{
	struct bpos pos = POS_MIN, end;
	u64 hash;

	while (!stop(arg)) {
		struct btree_trans *trans = btree_trans_get(c);
		int ret = lockrestart_do(trans,
					 find_old_key(trans, id, level, pos, gen, &end, &hash));

		btree_trans_put(trans);
		if (!ret && hash) {
			ret = btree_node_rewrite(c, id, level, pos, hash);
			++*nr;
			/*
			 * The same place again: what is there now may be of a split or merge that
			 * was under way, and sealed its nodes before there was a new key.
			 */
			if (!ret)
				continue;
		}
		if (ret || bpos_eq(end, SPOS_MAX))
			return ret == -BCFS_ERR_btree_no_such_level ? 0 : ret;
		pos = bpos_successor(end);
	}
	return 0;
}

int btree_rekey(struct btree_fs *c, enum btree_id id, u16 gen, bool (*stop)(void *arg), void *arg,
		u64 *ret_nr)
{
	int ret = 0;

	*ret_nr = 0;
	/* From below: what changes in a parent goes into its rewriting. */
	for (unsigned level = 0; !ret && level < btree_depth(c, id); level++)
		ret = rekey_level(c, id, level, gen, stop, arg, ret_nr);
	return ret;
}
