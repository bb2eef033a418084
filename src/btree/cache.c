// SPDX-License-Identifier: LGPL-2.1-or-later
/* The node cache: lookup under RCU, clock eviction, reserve and cannibalize lock. */
#include "btree/btree_private.h"
#include "util/planted.h"

#include <string.h>

#define CACHE_RESERVE_NODES 12
/* So many clean nodes, or a quarter of the limit, stay for those at work. */
#define CACHE_CLEAN_MIN 64U
#define CACHE_MIN_NODES (CACHE_RESERVE_NODES + 2 * BTREE_ID_NR + 16)
#define NODE_WAIT_MS	100 /* in vain for memory: then the limit does not count */

u64 btree_cache_min_bytes(u32 node_bytes)
{
	return (u64)CACHE_MIN_NODES * (node_bytes + btree_keys_aux_bytes(node_bytes));
}

static unsigned long node_hash(u64 hash_val)
{
	return (hash_val * 0x9e3779b97f4a7c15ULL) >> 17;
}

static int handle_match(struct cds_lfht_node *node, const void *key)
{
	struct btree_handle *h = container_of(node, struct btree_handle, node);

	ENV_TSAN_ACQUIRE(h); /* the table orders it, which the sanitizer does not see */
	bool match = h->hash_val == *(const u64 *)key;

	ENV_TSAN_RELEASE(h);
	return match;
}

static void handle_free_rcu(struct rcu_head *head)
{
	struct btree_handle *h = container_of(head, struct btree_handle, rcu);

	ENV_TSAN_ACQUIRE(h);
	env_free(h->env, h);
}

#define SLAB_BYTES (8U << 20)

static size_t node_aux_bytes(const struct btree_fs *c)
{
	return round_up(btree_keys_aux_bytes(btree_node_mem_bytes(c)), (size_t)BSET_CACHELINE);
}

/*
 * A node takes so much of a slab: struct btree, aux trees, keys, a line to read beyond them. An odd
 * number of cache lines, so that what every search reads first, the beginning, is not in the same
 * few sets of the processor's caches for all nodes.
 */
static size_t node_slab_bytes(const struct btree_fs *c)
{
	size_t bytes = sizeof(struct btree) + node_aux_bytes(c) + btree_node_mem_bytes(c);

	return (round_up(bytes, (size_t)BSET_CACHELINE) + BSET_CACHELINE) | BSET_CACHELINE;
}

/* Memory for a node; NULL if there is none. cache.lock held. */
static struct btree *node_slab_alloc(struct btree_fs *c)
{
	struct btree_cache *bc = &c->cache;
	size_t bytes = node_slab_bytes(c);
	/* few small nodes: no more than the reserve at once */
	size_t slab_bytes = min_t(size_t, SLAB_BYTES / bytes, CACHE_RESERVE_NODES * 2) * bytes;
	struct btree *b;

	if (!bc->slabs.nr || bc->slab_used + bytes > slab_bytes) {
		void *slab = env_malloc_huge(c->env, slab_bytes);

		if (!slab || darray_push(&bc->slabs, slab)) {
			env_free(c->env, slab);
			return NULL;
		}
		bc->slab_used = 0;
	}
	b = bc->slabs.data[bc->slabs.nr - 1] + bc->slab_used;
	memset(b, 0, sizeof(*b));
	b->keys.aux = (u8 *)(b + 1);
	b->keys.data = (u64 *)(b->keys.aux + node_aux_bytes(c));
	bc->slab_used += bytes;
	return b;
}

/* Whole pages of its keys and aux trees: nobody looks at them before it has a life again. */
static void node_pages_release(struct btree_fs *c, struct btree *b)
{
	uintptr_t start = (uintptr_t)b->keys.aux;
	uintptr_t end = (uintptr_t)b->keys.data + btree_node_mem_bytes(c);

	start = round_up(start, (uintptr_t)4096);
	end = round_down(end, (uintptr_t)4096);
	if (start < end)
		env_release_pages(c->env, (void *)start, end - start);
}

/* Nodes with memory. cache.lock held, as for the next two. */
static u32 cache_nr_mem(const struct btree_cache *bc)
{
	return bc->all.nr - bc->nr_bare;
}

static bool cache_over(const struct btree_cache *bc)
{
	return cache_nr_mem(bc) > bc->limit;
}

/* A struct btree off a list: stale finders may hold it for a moment, and never wait while they do.
 */
static struct btree *list_pop(struct btree **list, u32 *nr)
{
	struct btree *b = *list;

	*list = b->free_next;
	b->free_next = NULL;
	--*nr;
	return b;
}

/*
 * A struct btree with memory that no list has. cache.lock held; to be locked without it, see
 * node_lock_free().
 */
static struct btree *node_new(struct btree_fs *c)
{
	struct btree_cache *bc = &c->cache;
	struct btree *b;

	if (bc->bare) {
		b = list_pop(&bc->bare, &bc->nr_bare);
		goto out;
	}

	if (darray_push(&bc->all, NULL))
		return NULL;
	b = node_slab_alloc(c);
	if (!b) {
		bc->all.nr--;
		return NULL;
	}
	c->cache.all.data[c->cache.all.nr - 1] = b;
	b->c = c;
	b->idx = bc->all.nr - 1;
	b->pins[1].kind = 1;
	six_init(&b->lock, c->env);
out:
	if (atomic_load(&c->started)) {
		bc->peak = max(bc->peak, cache_nr_mem(bc));
		if (cache_over(bc))
			btree_count(c, over_limit);
	}
	return b;
}

static struct btree *node_lock_free(struct btree *b)
{
	if (b) {
		six_lock(&b->lock, SIX_INTENT);
		six_lock(&b->lock, SIX_WRITE);
	}
	return b;
}

int btree_cache_init(struct btree_fs *c)
{
	struct btree_cache *bc = &c->cache;
	u64 per_node = btree_node_mem_bytes(c) + btree_keys_aux_bytes(btree_node_mem_bytes(c));

	bc->limit = max_t(u64, c->opts.cache_bytes / per_node, CACHE_MIN_NODES);
	bc->reserve = CACHE_RESERVE_NODES;
	env_mutex_init(&bc->lock, c->env);
	env_mutex_init(&bc->cannibalize, c->env);

	unsigned long buckets = 64;
	while (buckets < bc->limit * 2UL && buckets < (1UL << 20))
		buckets *= 2;
	bc->table = cds_lfht_new_flavor(buckets, buckets, buckets, 0, &urcu_bp_flavor, NULL);
	if (!bc->table)
		return -BCFS_ERR_nomem;

	for (u32 i = 0; i < bc->reserve; i++) {
		env_mutex_lock(&bc->lock);
		struct btree *b = node_new(c);
		env_mutex_unlock(&bc->lock);
		if (!b)
			return -BCFS_ERR_nomem;
		btree_node_mem_free(c, node_lock_free(b));
	}
	return 0;
}

void btree_cache_exit(struct btree_fs *c)
{
	struct btree_cache *bc = &c->cache;

	darray_for_each (bc->all, p) {
		struct btree *b = *p;

		if (b->handle) {
			env_rcu_read_lock(c->env);
			cds_lfht_del(bc->table, &b->handle->node);
			env_rcu_read_unlock(c->env);
			env_call_rcu(c->env, &b->handle->rcu, handle_free_rcu);
			b->handle = NULL;
		}
	}
	env_rcu_barrier(c->env);
	darray_for_each (bc->all, p) {
		struct btree *b = *p;

		env_free(c->env, b->spare);
		six_destroy(&b->lock);
	}
	darray_exit(&bc->all);
	darray_for_each (bc->slabs, slab)
		env_free(c->env, *slab);
	darray_exit(&bc->slabs);
	if (bc->table)
		cds_lfht_destroy(bc->table, NULL);
	bc->table = NULL;
	env_mutex_destroy(&bc->cannibalize);
	env_mutex_destroy(&bc->lock);
}

/* ---- identity ---- */

int btree_node_hash_insert(struct btree_fs *c, struct btree *b, u64 hash)
{
	struct btree_handle *h = b->spare;

	assert(h && !b->handle && hash);
	h->env = c->env;
	h->hash_val = hash;
	h->b = b;
	ENV_TSAN_RELEASE(h);
	env_rcu_read_lock(c->env);
	struct cds_lfht_node *n =
		cds_lfht_add_unique(c->cache.table, node_hash(hash), handle_match, &hash, &h->node);
	env_rcu_read_unlock(c->env);
	if (n != &h->node)
		return -BCFS_ERR_btree_node_exists;
	b->spare = NULL;
	b->handle = h;
	atomic_store(&b->hash_val, hash);
	return 0;
}

void btree_node_hash_remove(struct btree_fs *c, struct btree *b)
{
	struct btree_handle *h = b->handle;

	atomic_store(&b->hash_val, 0);
	if (!h)
		return;
	b->handle = NULL;
	env_rcu_read_lock(c->env);
	cds_lfht_del(c->cache.table, &h->node);
	env_rcu_read_unlock(c->env);
	env_call_rcu(c->env, &h->rcu, handle_free_rcu);
}

/* The answer may be stale: lock the node, then look at its hash_val again. */
static struct btree *cache_lookup(struct btree_fs *c, u64 hash)
{
	struct btree *_Atomic *hint = &c->cache.hints[node_hash(hash) % BTREE_CACHE_HINTS];
	struct btree *b = atomic_load_explicit(hint, memory_order_acquire);
	struct cds_lfht_iter it;

	if (likely(b)) {
		btree_node_prefetch(b);
		if (likely(atomic_load_explicit(&b->hash_val, memory_order_relaxed) == hash))
			return b;
		b = NULL;
	}

	env_rcu_read_lock(c->env);
	cds_lfht_lookup(c->cache.table, node_hash(hash), handle_match, &hash, &it);
	struct cds_lfht_node *n = cds_lfht_iter_get_node(&it);
	if (n)
		b = container_of(n, struct btree_handle, node)->b;
	env_rcu_read_unlock(c->env);
	if (b)
		atomic_store_explicit(hint, b, memory_order_release);
	return b;
}

bool btree_cache_has(struct btree_fs *c, u64 hash)
{
	return cache_lookup(c, hash);
}

struct btree *btree_cache_find(struct btree_trans *trans, u64 hash, enum btree_id id,
			       unsigned level, enum six_type type, int *ret)
{
	struct btree *b = cache_lookup(trans->c, hash);

	*ret = 0;
	if (!b)
		return NULL;
	if (!btree_trans_trylock(trans, b, type)) {
		*ret = btree_trans_lock_wait(trans, b, type);
		return NULL;
	}
	if (unlikely(atomic_load(&b->hash_val) != hash)) {
		/* Evicted or reused while we looked. */
		six_unlock(&b->lock, type);
		*ret = btree_trans_restart(trans, -BCFS_ERR_restart_lock);
		return NULL;
	}
	if (unlikely(b->id != id || b->level != level)) {
		six_unlock(&b->lock, type);
		*ret = -BCFS_ERR_btree_node_bad_ptr;
		return NULL;
	}
	if (!btree_node_flag(b, BTREE_NODE_accessed))
		btree_node_set(b, BTREE_NODE_accessed);
	return b;
}

/* ---- memory ---- */

/* May this node be dropped? Takes intent and write if so. cache.lock held. */
static bool node_try_evict(struct btree_fs *c, struct btree *b, bool second_chance)
{
	if (!atomic_load_explicit(&b->hash_val, memory_order_relaxed) ||
	    btree_node_flag(b, BTREE_NODE_root | BTREE_NODE_fake | BTREE_NODE_new))
		return false;
	if (second_chance && btree_node_flag(b, BTREE_NODE_accessed)) {
		btree_node_clear(b, BTREE_NODE_accessed);
		return false;
	}
	if (!six_trylock(&b->lock, SIX_INTENT))
		return false;
	if (!six_trylock(&b->lock, SIX_WRITE))
		goto unlock;

	env_mutex_lock(&c->write_lock);
	bool busy = b->write_in_flight;
	env_mutex_unlock(&c->write_lock);

	if (busy || !b->handle ||
	    btree_node_flag(b, BTREE_NODE_root | BTREE_NODE_fake | BTREE_NODE_new) ||
	    (!planted(dirty_node_evicted) &&
	     (btree_node_dirty(b) || journal_pin_active(&b->pins[0]) ||
	      journal_pin_active(&b->pins[1])))) {
		six_unlock(&b->lock, SIX_WRITE);
		goto unlock;
	}
	return true;
unlock:
	six_unlock(&b->lock, SIX_INTENT);
	return false;
}

static struct btree *evict(struct btree_fs *c, struct btree *b, bool second_chance)
{
	if (!node_try_evict(c, b, second_chance))
		return NULL;
	btree_node_hash_remove(c, b);
	btree_count(c, evictions);
	return b;
}

/*
 * Clean nodes enough that one may go? With few left a transaction that needs several would push
 * out one by another for ever; then some are to be written instead. cache.lock held.
 */
static bool cache_enough_clean(struct btree_cache *bc)
{
	u32 clean = 0, want = min_t(u32, CACHE_CLEAN_MIN, bc->limit / 4);

	for (size_t i = 0; i < bc->all.nr && clean < want; i++) {
		struct btree *b = bc->all.data[(bc->clock + i) % bc->all.nr];

		clean += atomic_load_explicit(&b->hash_val, memory_order_relaxed) &&
			 !btree_node_flag(b, BTREE_NODE_root) && !journal_pin_active(&b->pins[0]) &&
			 !journal_pin_active(&b->pins[1]);
	}
	return clean >= want;
}

static struct btree *cache_evict_one(struct btree_fs *c, bool second_chance)
{
	struct btree_cache *bc = &c->cache;

	for (size_t i = 0; i < bc->all.nr; i++) {
		bc->clock = (bc->clock + 1) % bc->all.nr;
		struct btree *b = bc->all.data[bc->clock];

		if (evict(c, b, second_chance))
			return b;
	}
	return NULL;
}

/* A dirty node that could be written to make room. */
static struct btree *cache_dirty_one(struct btree_fs *c, u64 *hash)
{
	struct btree_cache *bc = &c->cache;

	for (size_t i = 0; i < bc->all.nr; i++) {
		bc->clock = (bc->clock + 1) % bc->all.nr;
		struct btree *b = bc->all.data[bc->clock];

		*hash = atomic_load(&b->hash_val);
		if (*hash && !btree_node_flag(b, BTREE_NODE_root | BTREE_NODE_new) &&
		    (journal_pin_active(&b->pins[0]) || journal_pin_active(&b->pins[1])))
			return b;
	}
	return NULL;
}

static void node_reset(struct btree *b)
{
	atomic_store(&b->flags, 0);
	b->seq = 0;
	b->first_seq = 0;
	b->key_gen = 0;
	b->written = 0;
	b->merge_retry_u64s = UINT32_MAX;
	b->keys.nsets = 0;
	b->keys.nr_written = 0;
	memset(&b->key, 0, sizeof(b->key));
}

/* One attempt without waiting. */
static struct btree *node_mem_take(struct btree_fs *c, bool reserve, bool over)
{
	struct btree_cache *bc = &c->cache;
	struct btree *b = NULL, *second = NULL;
	bool locked = false;

	env_mutex_lock(&bc->lock);
	if (bc->nr_free > (reserve ? 0 : bc->reserve))
		b = list_pop(&bc->free, &bc->nr_free);
	else if (over || cache_nr_mem(bc) < bc->limit || !atomic_load(&c->started))
		b = node_new(c);
	if (!b && cache_enough_clean(bc)) {
		b = cache_evict_one(c, true) ?: cache_evict_one(c, true);
		locked = true;
		/* Two for one, to the reserve or to the system. */
		if (b && (cache_over(bc) || bc->nr_free < bc->reserve) && cache_enough_clean(bc))
			second = cache_evict_one(c, true);
	}
	env_mutex_unlock(&bc->lock);
	if (second)
		btree_node_mem_free(c, second);
	return locked ? b : node_lock_free(b);
}

/* Ready to be filled and made known; else it goes back. */
static struct btree *node_mem_prepare(struct btree_fs *c, struct btree *b)
{
	if (!b)
		return NULL;
	if (!b->spare)
		b->spare = env_zalloc(c->env, sizeof(*b->spare));
	if (!b->spare) {
		btree_node_mem_free(c, b);
		return NULL;
	}
	node_reset(b);
	return b;
}

/* Any clean node; if there is none and @over, one more than there should be. */
static struct btree *node_mem_force(struct btree_fs *c, bool over)
{
	struct btree_cache *bc = &c->cache;
	struct btree *fresh = NULL;

	env_mutex_lock(&bc->lock);
	struct btree *b = cache_evict_one(c, false);
	if (!b && over)
		fresh = node_new(c);
	env_mutex_unlock(&bc->lock);
	return b ?: node_lock_free(fresh);
}

/*
 * Write a dirty node, and another one so that there are more clean ones; what is evicted is what
 * was not used lately. `cannibalize` is held. Not to wait for a write that is under way: we may be
 * here on the way to finishing writes of our own, of those very nodes.
 */
static struct btree *node_mem_write_some(struct btree_fs *c)
{
	struct btree_cache *bc = &c->cache;
	struct btree *b = NULL;
	unsigned written = 0;

	/*
	 * Nothing is written before replay is done: a rewrite takes a place, and nobody can say
	 * which are free; and its triggers change leaves of btrees whose inner nodes are old yet.
	 */
	if (!atomic_load(&c->started))
		return NULL;
	for (unsigned tries = 0; written < 2 && tries < 64; tries++) {
		u64 hash;

		env_mutex_lock(&bc->lock);
		struct btree *dirty =
			b && cache_enough_clean(bc) ? NULL : cache_dirty_one(c, &hash);
		env_mutex_unlock(&bc->lock);
		if (!dirty || btree_node_flush(c, dirty, hash, false))
			break;
		if (journal_pin_active(&dirty->pins[0]) || journal_pin_active(&dirty->pins[1]))
			continue; /* under way, or written to again */
		written++;
		if (b)
			continue;
		env_mutex_lock(&bc->lock);
		b = cache_evict_one(c, true) ?: evict(c, dirty, false);
		env_mutex_unlock(&bc->lock);
	}
	return b;
}

/* Few clean ones are left: write somebody's node out and take what that frees. */
static struct btree *node_mem_cannibalize(struct btree_fs *c, bool force)
{
	struct btree_cache *bc = &c->cache;
	u64 self = env_thread_self_id(c->env) + 1;

	if (!env_mutex_trylock(&bc->cannibalize))
		return force || atomic_load(&bc->cannibal) == self ? node_mem_force(c, true) : NULL;
	atomic_store(&bc->cannibal, self);
	struct btree *b = node_mem_write_some(c);
	if (b)
		btree_count(c, cannibalized);
	else
		b = node_mem_force(c, force);
	atomic_store(&bc->cannibal, 0);
	env_mutex_unlock(&bc->cannibalize);
	return b;
}

struct btree *btree_node_mem_alloc(struct btree_fs *c, bool reserve, int *ret)
{
	for (unsigned tries = 0;; tries++) {
		bool force = tries >= NODE_WAIT_MS;
		struct btree *b = node_mem_prepare(c, node_mem_take(c, reserve, false)
							      ?: node_mem_cannibalize(c, force));

		if (b) {
			*ret = 0;
			return b;
		}
		if (!reserve && tries > 2 * NODE_WAIT_MS) {
			*ret = -BCFS_ERR_nomem;
			return NULL;
		}
		env_sleep_ns(c->env, ENV_NSEC_PER_MSEC);
	}
}

void btree_node_mem_free(struct btree_fs *c, struct btree *b)
{
	struct btree_cache *bc = &c->cache;

	assert(!b->handle && !atomic_load(&b->hash_val));
	node_reset(b);
	six_unlock(&b->lock, SIX_WRITE);
	six_unlock(&b->lock, SIX_INTENT);

	env_mutex_lock(&bc->lock);
	bool over = cache_over(bc) && bc->nr_free >= bc->reserve;
	if (over) {
		node_pages_release(c, b);
		b->free_next = bc->bare;
		bc->bare = b;
		bc->nr_bare++;
	} else {
		b->free_next = bc->free;
		bc->free = b;
		bc->nr_free++;
	}
	env_mutex_unlock(&bc->lock);
}

void btree_cache_shrink(struct btree_fs *c)
{
	struct btree_cache *bc = &c->cache;

	for (unsigned i = 0; i < JOURNAL_MAX_PINS_BATCH; i++) {
		env_mutex_lock(&bc->lock);
		struct btree *b =
			cache_over(bc) && cache_enough_clean(bc) ? cache_evict_one(c, true) : NULL;
		env_mutex_unlock(&bc->lock);
		if (!b)
			return;
		btree_node_mem_free(c, b);
	}
}

/* ---- reading nodes in ---- */

int btree_cache_fill(struct btree_trans *trans, enum btree_id id, unsigned level,
		     const struct bkey_i *k)
{
	struct btree_fs *c = trans->c;
	u64 hash = btree_ptr_hash(bkey_i_to_s_c(k));
	int ret;

	if (!hash || k->k.u64s > BTREE_PTR_U64s_MAX)
		return -BCFS_ERR_btree_node_bad_ptr;

	/* It has read more than could be kept for it: others evict what it needs, before it has
	 * all. */
	bool over = ++trans->fills > c->cache.limit / 2;
	struct btree *b = trans->mem ?: node_mem_prepare(c, node_mem_take(c, false, over));
	if (!b) {
		/* Memory must be waited for: with nothing held, and then all is looked up again. */
		btree_trans_unlock(trans);
		trans->mem = btree_node_mem_alloc(c, false, &ret);
		return trans->mem ? btree_trans_restart(trans, -BCFS_ERR_restart_mem) : ret;
	}
	trans->mem = NULL;
	b->id = id;
	b->level = level;
	b->max_key = k->k.p;
	b->min_key = btree_ptr_val((struct bkey_i *)k)->min_key;
	bkey_copy(&b->key.k, k);
	if (btree_node_hash_insert(c, b, hash)) {
		btree_node_mem_free(c, b); /* somebody was faster */
		btree_trans_unlock(trans);
		return btree_trans_restart(trans, -BCFS_ERR_restart_io);
	}
	btree_trans_unlock(trans);
	ret = btree_node_read(c, b);
	if (ret) {
		btree_node_hash_remove(c, b);
		btree_node_mem_free(c, b);
		return ret;
	}
	btree_node_set(b, BTREE_NODE_accessed);
	six_unlock(&b->lock, SIX_WRITE);
	six_unlock(&b->lock, SIX_INTENT);
	return btree_trans_restart(trans, -BCFS_ERR_restart_io);
}

struct prefetch_work {
	struct env_work work;
	struct btree_fs *c;
	u8 id, level;
	struct bpos pos;
};

static int prefetch_trans(struct btree_trans *trans, const struct prefetch_work *p)
{
	struct btree_iter iter;
	int ret;

	btree_iter_init_level(trans, &iter, p->id, p->level, p->pos,
			      BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS);
	btree_iter_peek_node(&iter, &ret);
	btree_iter_exit(&iter);
	return ret;
}

/* Down from the root like anybody: the pointer that asked for it may be history by now. */
static void prefetch_fn(struct env_work *work)
{
	struct prefetch_work *p = container_of(work, struct prefetch_work, work);
	struct btree_fs *c = p->c;

	if (!atomic_load(&c->stopping) && !atomic_load(&c->halted)) {
		struct btree_trans *trans = btree_trans_get(c);

		(void)lockrestart_do(trans, prefetch_trans(trans, p));
		btree_trans_put(trans);
	}
	env_free(c->env, p);
}

void btree_cache_prefetch(struct btree_fs *c, enum btree_id id, unsigned level, u64 hash,
			  struct bpos max_key)
{
	if (!hash || cache_lookup(c, hash) || !c->read_wq || atomic_load(&c->stopping))
		return;
	struct prefetch_work *p = env_zalloc(c->env, sizeof(*p));
	if (!p)
		return;
	env_work_init(&p->work, prefetch_fn);
	p->c = c;
	p->id = id;
	p->level = level;
	p->pos = max_key;
	btree_count(c, prefetches);
	env_wq_queue(c->read_wq, &p->work);
}

void btree_cache_stats(struct btree_fs *c, struct btree_cache_stats *ret)
{
	struct btree_cache *bc = &c->cache;
	u64 per_node = btree_node_mem_bytes(c) + btree_keys_aux_bytes(btree_node_mem_bytes(c));

	*ret = (struct btree_cache_stats){.limit_bytes = bc->limit * per_node};
	env_mutex_lock(&bc->lock);
	darray_for_each (bc->all, p) {
		ret->nodes += !!atomic_load(&(*p)->hash_val);
		ret->dirty +=
			journal_pin_active(&(*p)->pins[0]) || journal_pin_active(&(*p)->pins[1]);
	}
	ret->bytes = cache_nr_mem(bc) * per_node;
	ret->peak_bytes = bc->peak * per_node;
	env_mutex_unlock(&bc->lock);
}
