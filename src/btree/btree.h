/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The btrees of one filesystem as a whole: open, close, roots, node cache, counters,
 * checks and printing. Keys are read and changed through btree/iter.h.
 *
 * A node is up to node_bytes long, log-structured on the device (include/bcfs/format/btree.h), and
 * in memory a struct btree: lock, identity, struct btree_keys. struct btree is never freed while
 * the filesystem is open, only reused.
 */
#ifndef BCFS_BTREE_BTREE_H
#define BCFS_BTREE_BTREE_H

#include "bcfs/format/btree.h"
#include "btree/iter.h"
#include "btree/ops.h"
#include "journal/journal.h"

struct env;
struct keyring;
struct bdev;
struct log;

/* x(name, doc), one row a line */
/* clang-format off */
#define BTREE_COUNTERS(x) \
	x(node_reads, "nodes read") \
	x(node_read_errors, "nodes that could not be read") \
	x(node_writes_initial, "nodes written anew: splits, merges, rewrites") \
	x(node_writes_append, "bsets appended") \
	x(bytes_initial, "bytes of the former") \
	x(bytes_append, "bytes of the latter") \
	x(key_bytes_inserted, "bytes of keys inserted by users") \
	x(splits, "") \
	x(merges, "") \
	x(rewrites, "nodes compacted into a new place") \
	x(root_grow, "") \
	x(root_shrink, "") \
	x(evictions, "nodes dropped from the cache") \
	x(cannibalized, "evictions because no memory could be had") \
	x(over_limit, "nodes added above the limit of the cache") \
	x(relock_fails, "locks that could not be retaken") \
	x(balances, "nodes that got room from a neighbour, where no place was left") \
	x(restarts, "transaction restarts") \
	x(lock_waits, "waits for a node's lock") \
	x(bsets_blacklisted, "bsets of blacklisted journal entries met") \
	x(torn_tails, "nodes with something behind their last valid bset, to be rewritten") \
	x(prefetches, "") \
	x(commits, "transactions committed") \
	x(keys_inserted, "") \
	x(replayed_keys, "journal keys replayed")
/* clang-format on */

struct btree_counters {
#define x(name, doc) u64 name;
	BTREE_COUNTERS(x)
#undef x
};

struct btree_fs_opts {
	u32 block_bytes;
	u32 node_bytes;
	/* Limit of the node cache, at least btree_cache_min_bytes(). Exceeded where nothing else
	 * would make progress, for a while: see struct btree_cache. */
	u64 cache_bytes;
	u64 magic;	       /* BCFS_BTREE_MAGIC ^ the filesystem's */
	struct bcfs_uuid uuid; /* the filesystem's, in what is authenticated */
	u8 csum_type;
	const struct keyring *keys; /* NULL: not encrypted, else csum_type is an AEAD */
	const struct bkey_ops_table *ops;
	const struct btree_space_ops *space;
	const struct btree_snapshot_ops
		*snapshots; /* may be NULL: every id sees only itself and UINT32_MAX */
	void *arg;	    /* of all ops */
	/* Counters changed by a commit, called under its journal reservation. May be NULL. */
	void (*accounted)(void *arg, const s64 *deltas);
	/* Metadata failed: called when a node cannot be read or written (errors= policy). May be
	 * NULL. */
	void (*error)(void *arg, int err, const char *msg);
};

int btree_fs_alloc(struct env *env, struct bdev *bdev, struct log *log, struct journal *journal,
		   const struct btree_fs_opts *opts, struct btree_fs **ret);
/* After everything is written, or to abandon all (halted). The journal's threads have ended:
 * after journal_stop(), also after journal_halt(). */
void btree_fs_free(struct btree_fs *c);
u64 btree_cache_min_bytes(u32 node_bytes);

/* The journal calls this (struct journal_ops flush_pins). @arg: the btree_fs. */
int btree_flush_pins(void *arg, struct journal_entry_pin **pins, unsigned nr, u64 seq);

/*
 * Start: roots from the journal or the clean section (NULL entries or !alive: an empty btree, made
 * on first insert... see btree_fs_start()). Reads the root nodes. Nodes whose newest bset is older
 * than @suspect_seq (the end of the newest blacklisted range; 0: none) may have torn tails.
 */
int btree_fs_start(struct btree_fs *c, const struct journal_root *roots, u64 suspect_seq,
		   const struct journal_blacklist_range *bl, unsigned nr_bl);
/* Insert the replay's keys in memory, pinned to their old seqs, top level first. After
 * journal_start(). Of a damaged journal, for reading only: keys that do not fit are left out. */
int btree_replay(struct btree_fs *c, const struct journal_replay *r);
/* After a clean start: nothing to replay. One of the two ends the opening. */
void btree_fs_replay_none(struct btree_fs *c);
/* Wait for the background splits and merges queued so far. */
void btree_interior_flush(struct btree_fs *c);
/* Stop background work (before journal_stop()). */
void btree_fs_stop(struct btree_fs *c);
/* No more writes to the device (emergency read-only, crash in simulation). */
void btree_fs_halt(struct btree_fs *c);

/* Walk the tree in the background or for fsck. */
struct btree_node_info {
	enum btree_id id;
	unsigned level;
	struct bpos min_key, max_key;
	const struct btree_keys *keys;
	struct bkey_s_c ptr; /* the key that points at it; null for a root */
	u32 sectors_written;
	bool dirty;
};
/* Every node of a btree, root first, children in order; reads all. Node read errors are given to
 * @bad (if not NULL) and skipped. */
int btree_for_each_node(struct btree_fs *c, enum btree_id id,
			int (*fn)(void *arg, const struct btree_node_info *n),
			int (*bad)(void *arg, struct bkey_s_c ptr, unsigned level, int err),
			void *arg);
unsigned btree_depth(struct btree_fs *c, enum btree_id id); /* levels; 0: empty */
/* The root's pointer key; false if the btree is empty. */
bool btree_root_key(struct btree_fs *c, enum btree_id id, struct bkey_i *dst, unsigned dst_u64s,
		    unsigned *level);

/*
 * Write the node at @level that covers @pos somewhere else, if its place is @dev_sector. 0 also if
 * it is not there any more. Nothing held.
 */
int btree_node_move(struct btree_fs *c, enum btree_id id, unsigned level, struct bpos pos,
		    u64 dev_sector, bool *ret_moved);

/*
 * Nodes of a btree that are encrypted by generations below @gen are written elsewhere, with the
 * newest. @stop (called with nothing held): true to give up, which is no error. *ret_nr: how many.
 * Until the journal has been flushed behind it, pins and all, recovery may need them as they were.
 * Nothing held.
 */
int btree_rekey(struct btree_fs *c, enum btree_id id, u16 gen, bool (*stop)(void *arg), void *arg,
		u64 *ret_nr);

void btree_counters(struct btree_fs *c, struct btree_counters *ret);
struct btree_cache_stats {
	u64 nodes, bytes, dirty, limit_bytes;
	u64 peak_bytes; /* the most there were, but for replay */
};
void btree_cache_stats(struct btree_fs *c, struct btree_cache_stats *ret);
/* What the keys of one commit, triggers' included, can take in the journal. */
u32 btree_commit_u64s_max(const struct btree_fs *c);
/* Commits have to wait for room in the journal now. A glance: it may change at once. */
bool btree_journal_is_low(const struct btree_fs *c);
void btree_fs_to_text(struct printbuf *out, struct btree_fs *c);

/*
 * What one transaction may put into one leaf (u64s of keys) whatever lies there already, if no key
 * there has more than @key_u64s: a leaf is split until it has room, or one key alone.
 */
u32 btree_leaf_always_u64s(const struct btree_fs *c, u32 key_u64s);

#endif
