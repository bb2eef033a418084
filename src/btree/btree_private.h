/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The btree's insides: nodes, cache, transactions. For files of this folder only.
 *
 * Locks, outermost first (doc/locking.md has the whole picture):
 *
 *	node locks (six)	never waited for while another is held
 *	trans_lock, cache.lock	leaves: nothing is taken under them but memory
 *	write_lock		guards write_in_flight of all nodes and its condition
 *
 * A node's fields are "protected by" its six lock as noted; read lock to read, intent to
 * exclude other changers, write while memory that readers look at changes.
 */
#ifndef BCFS_BTREE_BTREE_PRIVATE_H
#define BCFS_BTREE_BTREE_PRIVATE_H

#include <stdatomic.h>
#include <urcu/rculfhash.h>

#include "btree/btree.h"
#include "dev/bdev.h"
#include "env/six.h"
#include "util/darray.h"
#include "util/log.h"
#include "util/printbuf.h"

/* Node flags (atomic). */
enum btree_node_flag {
	BTREE_NODE_accessed = 1 << 0,	  /* second chance of the clock */
	BTREE_NODE_need_rewrite = 1 << 1, /* nothing may be appended */
	BTREE_NODE_fake = 1 << 2,	  /* an empty btree's root: in memory only */
	BTREE_NODE_dead = 1 << 3,	  /* replaced: only the memory is left */
	BTREE_NODE_queued = 1 << 4,	  /* for background split, merge or rewrite */
	BTREE_NODE_new = 1 << 5,	  /* made by an interior update, not yet reachable */
	BTREE_NODE_root = 1 << 6,	  /* is c->roots[id].b */
	BTREE_NODE_read_failed = 1 << 7,
};

#define BTREE_LINE_ALIGNED __attribute__((aligned(BSET_CACHELINE)))
/*
 * Nodes that a split leaves to be written: parents, and those of the btrees that keep account of
 * the space. While it is made for a user the journal keeps room to get rid of them.
 */
#define BTREE_SPLIT_PINS   8
#define BTREE_PTR_U64s_MAX (BKEY_U64s + sizeof(struct bcfs_btree_ptr) / 8 + 4)

union btree_ptr_key {
	struct bkey_i k;
	u64 buf[BTREE_PTR_U64s_MAX];
};

struct btree_handle {
	struct cds_lfht_node node;
	struct rcu_head rcu;
	struct env *env;
	u64 hash_val;
	struct btree *b;
};

/*
 * Aligned to cache lines, with the aux trees right behind (cache.c): that, the first line and
 * the beginning of `keys` are all that a search of the node needs besides its keys.
 */
struct btree {
	_Atomic u64 hash_val; /* identity: the raw first pointer; 0: free. Changed under write */
	_Atomic u32 flags;
	u8 id, level;		      /* as hash_val */
	struct bpos min_key, max_key; /* ditto */
	struct six_lock lock;
	struct btree_keys keys BTREE_LINE_ALIGNED; /* intent + write to change */
	u64 seq;				   /* as hash_val: of the node on disk */
	u64 first_seq; /* journal seq of its first bset: older keys are in it */
	u16 key_gen;   /* of its first bset, the oldest; 0: not encrypted, or not written */
	union btree_ptr_key key; /* the pointer as in the parent; sectors_written by intent */
	u32 written;		 /* sectors used on disk, a write in flight included; intent */
	u32 merge_retry_u64s;	 /* no merge is tried while live u64s are above; intent */
	struct journal_entry_pin pins[2]; /* [w]: keys not being written; [!w]: being written */
	u8 w;				  /* intent */
	bool io_in_flight;		  /* c->write_lock: the device has an append of ours */
	bool write_in_flight;		  /* ditto, or the parent's key is yet to be told */
	bool free_pending;		  /* ditto: replaced meanwhile, memory to be freed after */
	struct btree_handle *handle;	  /* in the table; write */
	struct btree_handle *spare;	  /* for the next life; by whoever has allocated the node */
	struct btree *free_next;	  /* cache.lock: on a free list */
	struct btree_fs *c;
	u32 idx; /* in cache.all */
} BTREE_LINE_ALIGNED;

_Static_assert(offsetof(struct btree, lock) + sizeof(u64) <= BSET_CACHELINE,
	       "what finding a node looks at is one line");

static inline bool btree_node_flag(const struct btree *b, u32 f)
{
	return atomic_load_explicit(&b->flags, memory_order_relaxed) & f;
}
static inline void btree_node_set(struct btree *b, u32 f)
{
	atomic_fetch_or(&b->flags, f);
}
static inline void btree_node_clear(struct btree *b, u32 f)
{
	atomic_fetch_and(&b->flags, ~f);
}

#define BTREE_CACHE_HINTS 4096

/*
 * The limit is about nodes that have memory: in use, or on the free list. Memory for a node is
 * had, in this order: from the free list, as long as the reserve stays (interior updates may take
 * it); new, below the limit; from a clean node, while enough of them are left for the transactions
 * at work; at last, by the one thread that holds `cannibalize`, from a dirty node that it
 * writes. Whoever finds the lock taken waits, with nothing locked, and tries again.
 *
 * Above the limit goes, a node at a time, and never while holding a node's lock to wait for it,
 *  1. the holder of `cannibalize`, for what it needs to write others' nodes: their parents, read
 *     in, and the new nodes of interior updates (three each, at most two of them nested). It never
 *     waits for memory, or nobody would get any;
 *  2. who has waited in vain for NODE_WAIT_MS. The holder may be waiting for just this thread: for
 *     the journal, which waits for reclaim; for buckets found or freed. Such rings end here;
 *  3. a transaction that has read more than half of the limit without coming to its end: it needs
 *     that much at once, or others evict what it has read. It evicts nobody's. Without that,
 *     transactions that do not fit the cache together would restart each other for ever;
 *  4. replay, which may write nothing.
 * So the most there is, is the limit, a node for each thread and NODE_WAIT_MS that rings last, and
 * what the transactions of case 3 that are at work need at once. Counted: over_limit.
 *
 * Down again: while there are too many nodes, memory that comes free is given back to the system,
 * and whoever evicts a node for itself evicts a second one; so does the journal's reclaim. That is,
 * as long as enough clean ones are left: what was read a moment ago is wanted, and where the excess
 * is dirty, evicting the clean ones would only make transactions that need several of them push out
 * one another's for ever. Dirty nodes are written instead, two for one.
 *
 * A thread that has waited keeps what it got for the node that it then reads (btree_trans.mem):
 * it is never overtaken twice.
 */
struct btree_cache {
	struct env_mutex lock;
	struct env_mutex cannibalize; /* held by the one who takes what others still want */
	_Atomic u64 cannibal;	      /* the thread that holds it; 0: none */
	struct cds_lfht *table;
	/* Nodes lately found, by hash: a guess that is checked. A struct btree is never freed. */
	struct btree *_Atomic hints[BTREE_CACHE_HINTS];
	DARRAY(struct btree *) all; /* every struct btree there is; lock */
	/*
	 * Memory of the nodes' buffers, in pieces of many: huge pages, for a search jumps about in
	 * all of it. Addresses are given back at the end only; lock.
	 */
	DARRAY(void *) slabs;
	u32 slab_used;	    /* bytes of the last one; lock */
	struct btree *free; /* with memory, not in use; lock */
	struct btree *bare; /* their memory was given back; lock */
	u32 nr_free, nr_bare;
	u32 peak;	   /* of nodes with memory since the start; lock */
	_Atomic u32 limit; /* nodes with memory; raised when the btree is halted */
	u32 reserve;	   /* free ones that only interior updates take */
	u32 clock;	   /* lock */
};

struct btree_root {
	struct btree *_Atomic b;
	_Atomic u8 level; /* b's; the two are not read as one: look again with b locked */
};

/* One trigger-and-insert of a transaction. */
struct btree_update {
	u8 id, level;
	bool trig_done;
	bool no_triggers;
	bool reserve;
	bool own_iter;
	struct bkey_i *k;
	struct btree_iter *iter; /* intent-locked at k's position; in transaction memory */
	struct bkey_i *trig_old; /* what the last trigger saw as new; NULL: the btree's own */
	/* filled in while committing */
	struct btree *b;
	struct bkey old_k;
	struct bkey_s_c old;
	/* where k's position is in place_b while its lock has this sequence number */
	struct btree *place_b;
	u32 place_seq;
	struct btree_keys_place place;
};

struct trans_chunk {
	struct trans_chunk *next;
	size_t size, used;
	u64 data[];
};

/* Interior update under way: nodes replaced and their replacements. */
struct interior_swap {
	struct btree *old[3];
	unsigned nr_old;
	struct btree *new[4]; /* ascending; all cover the old ones' range */
	unsigned nr_new;
	struct btree *new_root; /* also in new[] or an existing child, or NULL */
	bool root_is_child;	/* new_root exists already (shrink) */
	bool root_grows;	/* journal the new root's keys */
};

struct btree_trans {
	struct btree_fs *c;
	struct btree_iter *iters;
	struct btree_trans *pool_next;
	DARRAY(struct btree_update *) updates; /* sorted by id, level desc, pos */
	struct trans_chunk *chunks;
	struct bkey_i *log; /* a jset log entry's payload */
	u32 log_u64s;
	/* Since it last began anew, other than by a restart. */
	u32 restarts;
	u32 fills; /* nodes read */
	bool restarted;
	bool usage_dirty;
	bool in_use;
	s64 usage[BCFS_ACCOUNTING_NR];
	u64 *scratch;	   /* btree_node_mem_bytes() */
	struct btree *mem; /* waited for: of the next node to be read; see struct btree_cache */
	struct interior_swap *swap;
	struct {
		u8 id, level;
		u32 u64s;
		struct bpos pos;
		bool in_new;  /* it is one of the swap's own new nodes */
		bool reserve; /* how deep it was looked for */
	} room;	      /* the leaf without room that a commit ended for; u64s 0: another reason */
	u32 res_u64s; /* the journal reservation that it did */
	unsigned res_flags;
};

struct btree_fs {
	struct env *env;
	struct bdev *bdev;
	struct log *log;
	struct journal *j;
	struct btree_fs_opts opts;
	/* Has any key type a trigger? [0]: in leaves, [1]: of interior keys */
	bool has_triggers[2];
	u32 node_sectors, block_sectors;
	struct btree_cache cache;
	struct btree_root roots[BTREE_ID_NR];
	struct env_mutex root_lock[BTREE_ID_NR]; /* making a fake root */

	struct env_mutex write_lock;
	struct env_cond write_cond;

	struct env_mutex trans_lock;
	struct btree_trans *trans_pool;

	struct env_workqueue *interior_wq; /* merges, rewrites, early splits */
	struct env_workqueue *read_wq;	   /* prefetch */
	_Atomic bool stopping, halted;
	_Atomic bool started; /* replay is done: nodes may be written, and space had for them */

	u64 suspect_seq;
	struct journal_blacklist_range *bl;
	unsigned nr_bl;

	struct {
#define x(name, doc) _Atomic u64 name;
		BTREE_COUNTERS(x)
#undef x
	} count;
};

#define btree_count(c, name) atomic_fetch_add_explicit(&(c)->count.name, 1, memory_order_relaxed)
#define btree_count_add(c, name, n)                                                                \
	atomic_fetch_add_explicit(&(c)->count.name, n, memory_order_relaxed)

static inline struct bcfs_btree_ptr *btree_ptr_val(struct bkey_i *k)
{
	return (struct bcfs_btree_ptr *)k->v;
}
/* Identity of the node a KEY_TYPE_btree_ptr key points at; 0 if it has no pointer. */
static inline u64 btree_ptr_hash(struct bkey_s_c k)
{
	const struct bcfs_btree_ptr *p = (const void *)k.v;

	return k.k->type == KEY_TYPE_btree_ptr && bkey_val_bytes(k.k) >= sizeof(*p) + 8
		       ? p->start[0]
		       : 0;
}

/*
 * In memory a node has more room than on the device, for keys of interior updates: half of it for
 * any of them, all of it for those that make room in an allocation btree. So two full
 * leaves of allocation btrees never need room in each other without end.
 */
static inline u32 btree_node_mem_bytes(const struct btree_fs *c)
{
	u32 slack = c->opts.node_bytes / 4;

	return c->opts.node_bytes + min(max(slack, 2048U), 16384U);
}
static inline void btree_node_raise_capacity(struct btree *b)
{
	b->keys.capacity_u64s = btree_node_mem_bytes(b->c) / 8;
}
enum btree_room {
	BTREE_ROOM_normal,
	BTREE_ROOM_interior,
	BTREE_ROOM_alloc_interior,
};
/* What the keys take in memory when all garbage is gone. */
u32 btree_keys_compact_u64s(const struct btree_keys *k);
/* Room for unwritten keys, in u64s: on the device, or in memory. */
u32 btree_node_room(const struct btree *b, enum btree_room which);
static inline bool btree_node_dirty(const struct btree *b)
{
	return b->keys.nr_written < b->keys.nsets;
}
static inline bool btree_node_covers(const struct btree *b, struct bpos pos)
{
	return bpos_ge(pos, b->min_key) && bpos_le(pos, b->max_key);
}

/* Begin to fetch what a search of the node, or an insert, reads first. */
static inline void btree_node_prefetch(const struct btree *b)
{
	const char *p = (const char *)b, *keys = (const char *)&b->keys;

	__builtin_prefetch(p);
	for (size_t i = 0; i < sizeof(b->keys); i += BSET_CACHELINE)
		__builtin_prefetch(keys + i);
	/* the first set's aux tree */
	for (size_t i = 0; i < 3; i++)
		__builtin_prefetch(p + sizeof(*b) + i * BSET_CACHELINE);
}

/* cache.c */
int btree_cache_init(struct btree_fs *c);
void btree_cache_exit(struct btree_fs *c);
/*
 * A node from the cache: found (locked @type, verified), or NULL with *ret: 0 = not cached.
 * If its lock must be waited for: unlocks the transaction, waits, *ret = a restart.
 */
struct btree *btree_cache_find(struct btree_trans *trans, u64 hash, enum btree_id id,
			       unsigned level, enum six_type type, int *ret);
/*
 * Read in the node @k points at: a restart, or an error. @k comes from the parent, which the
 * transaction still has locked, so it is what is true now: the node is made known in the table
 * before the parent is let go, and from then on nobody can append to it or replace it without our
 * lock. (A pointer kept over an unlock may be older than the node's last append.) All is unlocked
 * on return.
 */
int btree_cache_fill(struct btree_trans *trans, enum btree_id id, unsigned level,
		     const struct bkey_i *k);
/* Whether a node of that place is in memory (just now; nothing is locked). */
bool btree_cache_has(struct btree_fs *c, u64 hash);
/* Have the node with @hash that ends at @max_key read in by another thread. */
void btree_cache_prefetch(struct btree_fs *c, enum btree_id id, unsigned level, u64 hash,
			  struct bpos max_key);
/*
 * An unused node, intent and write locked, with a handle in reserve, for filling. Evicts and
 * writes others' nodes; no locks held by the caller. @reserve: for interior updates, never fails
 * but waits.
 */
struct btree *btree_node_mem_alloc(struct btree_fs *c, bool reserve, int *ret);
/* Back to the free list, or to the system: intent and write locked, unhashed. */
void btree_node_mem_free(struct btree_fs *c, struct btree *b);
/* Evict what is above the limit, if it can be spared. Nothing held. */
void btree_cache_shrink(struct btree_fs *c);
/*
 * Make reachable under @hash: write locked. -BCFS_ERR_btree_node_exists if another is there. Takes
 * no memory, so it never waits.
 */
int btree_node_hash_insert(struct btree_fs *c, struct btree *b, u64 hash);
void btree_node_hash_remove(struct btree_fs *c, struct btree *b);

/* node_read.c */
/* Fill @b (intent and write locked, identity and key set) from the device. */
int btree_node_read(struct btree_fs *c, struct btree *b);

/* node_write.c */
struct btree_write {
	struct btree *b;
	struct bdev_io io;
	void *buf;
	size_t buf_bytes;
	u32 offset, sectors; /* in the node */
	u64 hash;
	u64 journal_seq; /* of the newest key in it */
	u8 w;
	bool io_done; /* c->write_lock */
	int ret;
};
/*
 * The whole node as a fresh first bset; intent locked, not yet reachable. Waits. @buf: the
 * caller's, of a node's size, aligned to 4096.
 */
int btree_node_write_initial(struct btree_fs *c, struct btree *b, void *buf, u64 *scratch);
/*
 * Begin appending what is unwritten. Intent locked. 0: under way; 1: nothing to do;
 * -BCFS_ERR_btree_write_in_flight; -BCFS_ERR_btree_need_rewrite.
 */
int btree_node_write_start(struct btree_fs *c, struct btree *b, struct btree_write *w,
			   u64 *scratch);
/* Wait for it, journal the parent's sectors_written, drop the pins. Holds nothing. */
int btree_node_write_finish(struct btree_fs *c, struct btree_write *w);
/*
 * Write @b out by whatever it takes, nothing held. @hash: only if it still is that node. @wait: for
 * a write of it that is under way; not by those who may have one to finish themselves, for that
 * might be it.
 */
int btree_node_flush(struct btree_fs *c, struct btree *b, u64 hash, bool wait);
/* Until the write of @b is finished altogether; by nobody who has one to finish. */
void btree_wait_write_in_flight(struct btree_fs *c, struct btree *b);
/* Until the device is done with it. */
void btree_wait_io_in_flight(struct btree_fs *c, struct btree *b);

/* node_seal.c */
/*
 * The bset at @start, of @bytes with what is in front of it, gets its checksum, or is encrypted and
 * gets nonce and tag; the header is complete but for flags and key_gen.
 */
int btree_bset_seal(struct btree_fs *c, u64 seq, u32 offset_sectors, void *start, size_t bytes);
/* Checks it, and decrypts: btree_node_csum and a line in @err, and it is as it was. */
int btree_bset_open(struct btree_fs *c, u64 seq, u32 offset_sectors, void *start, size_t bytes,
		    struct printbuf *err);
bool btree_node_checksum(const struct btree_fs *c, unsigned type, u64 seq, u64 offset_sectors,
			 const void *start, size_t bytes, struct bcfs_csum *csum);

/* locking.c */
bool btree_iter_relock_level(struct btree_iter *iter, unsigned level, enum six_type type);
void btree_iter_unlock(struct btree_iter *iter);
void btree_iter_unlock_level(struct btree_iter *iter, unsigned level);
/*
 * Is this transaction told to restart, at the fault point of this name? Not without end: one that
 * visits a hundred nodes would never come through.
 */
#define BTREE_RESTARTS_INJECTED_MAX 64

static inline bool btree_trans_inject(struct btree_trans *trans, const char *point)
{
	return unlikely(env_inject(trans->c->env, point)) &&
	       trans->restarts < BTREE_RESTARTS_INJECTED_MAX;
}

/* Lock @b for a level of @iter without waiting; knows the transaction's own locks. */
bool btree_trans_trylock(struct btree_trans *trans, struct btree *b, enum six_type type);
/* Wait for the lock with nothing held, not for ever; returns a restart. */
int btree_trans_lock_wait(struct btree_trans *trans, struct btree *b, enum six_type type);
/* Write-lock an intent-held node; own read locks on it are dropped first. */
void btree_trans_lock_write(struct btree_trans *trans, struct btree *b);
void btree_trans_unlock_reads(struct btree_trans *trans, struct btree *only);

/* iter.c */
int btree_iter_traverse_to(struct btree_iter *iter, const struct bpos *pos, unsigned locks_want);
void btree_iter_clone_path(struct btree_iter *dst, struct btree_iter *src);

/* update.c */
/* Would a key of an ancestor snapshot show through at @pos? 1, 0, or a negative code. */
int btree_ancestor_shows(struct btree_trans *trans, enum btree_id id, struct bpos pos);
struct btree_update *btree_trans_find_update(struct btree_trans *trans, unsigned id, unsigned level,
					     struct bpos search);
void btree_trans_reset_updates(struct btree_trans *trans);
int btree_trans_queue(struct btree_trans *trans, unsigned id, unsigned level,
		      struct btree_iter *from, struct bkey_i *k, unsigned flags);
/* extent_update.c */
int btree_trans_update_extent(struct btree_trans *trans, struct btree_iter *iter, struct bkey_i *k,
			      unsigned flags);
/* commit.c */
/* What of a commit may restart or want room, done ahead: triggers, locks, the search for room. */
int btree_trans_prepare(struct btree_trans *trans, unsigned flags);
int btree_run_trigger(struct btree_trans *trans, unsigned id, unsigned level, struct bkey_s_c old,
		      struct bkey_s_c new);

/* node_format.c; intent held on the node */
/* What a format for all live keys of @src in [min, max] has to hold; added to @r. */
void btree_node_measure(const struct btree *src, struct bpos min_key, struct bpos max_key,
			struct btree_keys_ranges *r);
/* The format for keys of @src that end at @max_key, and take @r; all of them take @all. */
struct bkey_format btree_node_format(const struct btree *src, struct bpos max_key,
				     const struct btree_keys_ranges *r,
				     const struct btree_keys_ranges *all);
/* What the keys of @src that take @r take in @fmt, which is its own, or holds all of them. */
u32 btree_node_format_u64s(const struct btree *src, const struct btree_keys_ranges *r,
			   const struct bkey_format *fmt);
/* A part of @src, all of which takes @all. */
struct bkey_format btree_node_format_part(const struct btree *src, struct bpos min_key,
					  struct bpos max_key, const struct btree_keys_ranges *all);

/* interior.c */
/* Make room in the node at @level that covers @pos (split, or rewrite). Nothing held. */
int btree_node_make_room(struct btree_fs *c, enum btree_id id, unsigned level, struct bpos pos,
			 u32 u64s, bool reserve, unsigned space_flags);
/* Rewrite that node if it is still @hash. */
int btree_node_rewrite(struct btree_fs *c, enum btree_id id, unsigned level, struct bpos pos,
		       u64 hash);
int btree_node_try_merge(struct btree_fs *c, enum btree_id id, unsigned level, struct bpos pos);
/* After a commit: queue background work the node asks for. */
void btree_node_after_insert(struct btree_fs *c, struct btree *b);

static inline u32 btree_merge_threshold_u64s(const struct btree_fs *c)
{
	return c->opts.node_bytes / 8 / 3;
}

/* Report a metadata error: log, count, and call the error hook. Returns err. */
int btree_error(struct btree_fs *c, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
