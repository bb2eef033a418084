/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Transactions and iterators: how everything outside this folder reads and
 * changes btrees.
 *
 *	struct btree_trans *trans = btree_trans_get(c);
 *	ret = commit_do(trans, NULL, 0, do_something(trans, ...));
 *	btree_trans_put(trans);
 *
 * A transaction owns iterators, their node locks, memory, and a list of updates that
 * btree_trans_commit() makes visible and journals at once. Any call that takes a
 * transaction may return a restart code (err_is_restart()): pass it up unchanged to the
 * loop (lockrestart_do, commit_do), which calls btree_trans_begin() and runs the
 * whole thing again. So code between begin and commit must be repeatable: write
 * results to the caller only from the values of the last run.
 *
 * What is read under a transaction is valid (and its memory stays in place) until the next
 * call that may block or restart: copy keys you keep. What was read with an iterator that is still
 *alive at commit is still true then, or the commit restarts: transactions are serialisable.
 *
 * A transaction sees its own updates.
 *
 * Locks: reading takes nodes shared, BTREE_ITER_INTENT takes them intent.
 * A thread never waits for a node's lock while it holds another: it unlocks all, waits, and
 * relocks by sequence number, or restarts. Code that is about to block on anything else
 * (data I/O, a mutex held across transactions, the journal's flush) calls btree_trans_unlock()
 * first; the next use of an iterator relocks or restarts by itself.
 *
 * Iterators live on the stack: btree_iter_init() ... btree_iter_exit(), also on
 * restart (lockrestart_do's callee exits its iterators on every way out; exit is cheap and may be
 *repeated).
 */
#ifndef BCFS_BTREE_ITER_H
#define BCFS_BTREE_ITER_H

#include "btree/bset.h"
#include "btree/ops.h"
#include "util/errcode.h"

struct btree;
struct btree_fs;
struct btree_trans;
struct printbuf;

/* Iterator flags. */
#define BTREE_ITER_INTENT (1U << 0) /* will be updated: intent lock on the leaf */
#define BTREE_ITER_ALL_SNAPSHOTS                                                                   \
	(1U << 1) /* every key, extents too as plain keys; default in btrees with snapshots:       \
		     filter by pos.snapshot */
#define BTREE_ITER_PREFETCH    (1U << 2) /* read ahead the next leaves */
#define BTREE_ITER_NOT_EXTENTS (1U << 3) /* treat an extents btree as plain keys */
#define BTREE_ITER_NOUPDATES   (1U << 4) /* do not see the transaction's own updates */
#define BTREE_ITER_WHITEOUTS   (1U << 5) /* with filter: show KEY_TYPE_whiteout too */

struct btree_path_level {
	struct btree *b;
	u32 lock_seq;
	u8 locked; /* 0, or enum six_type + 1 */
};

struct btree_iter {
	struct btree_trans *trans;
	struct btree_iter *next, **pprev; /* the transaction's list */
	u8 btree_id;
	u8 level;      /* the level iterated: 0 = leaves */
	u8 locks_want; /* intent locks from level up to below this */
	u8 root_level; /* of the path */
	u32 flags;
	struct bpos pos;      /* where peek starts */
	struct bpos path_pos; /* what the path was traversed to */
	bool path_valid;      /* l[] leads to path_pos (perhaps unlocked) */
	bool read;	      /* since the transaction began: what was seen must hold at commit */
	bool node_iter_valid; /* node_iter is at path_pos in l[level].b, locked since */
	bool place_valid;     /* place is that of path_pos, if node_iter_valid ... */
	u32 place_seq;	      /* ... and while the node's lock has this sequence number */
	struct btree_keys_place place;
	struct btree_node_iter node_iter;
	struct bkey k; /* the key last returned, unpacked */
	struct btree_path_level l[BTREE_MAX_DEPTH];
};

/* Update flags. */
#define BTREE_UPDATE_NOTRIGGERS	       (1U << 0)
#define BTREE_UPDATE_INTERNAL_SNAPSHOT (1U << 1) /* keep a whiteout as given, no snapshot rules */
#define BTREE_UPDATE_NO_EXTENT	       (1U << 2) /* extents btree: plain key, no overlap handling */
#define BTREE_UPDATE_RESERVE	       (1U << 3) /* alloc info: may use the leaves' slack */

/* Commit flags. */
#define BTREE_COMMIT_RECLAIM (1U << 0) /* journal watermark reclaim */
#define BTREE_COMMIT_RESERVE (1U << 1) /* splits may dig into the space reserve */
#define BTREE_COMMIT_NO_WAIT (1U << 2) /* see btree_trans_wait() */
#define BTREE_COMMIT_SLACK   (1U << 3) /* all updates may use the leaves' slack */
#define BTREE_COMMIT_KEEPS   (1U << 4) /* as many keys as before: splits may dig somewhat */
/* What takes keys away, and adds but few that soon go: has room on a full device (adr/0022). */
#define BTREE_COMMIT_REMOVES (BTREE_COMMIT_RESERVE | BTREE_COMMIT_SLACK)

/* Transactions */

struct btree_trans *btree_trans_get(struct btree_fs *c); /* never fails (waits for memory) */
void btree_trans_put(struct btree_trans *trans); /* unlocks and frees; all iterators are exited */
/* (Re)start: drop updates and memory. Iterators keep their paths, so the rerun is quick. */
void btree_trans_begin(struct btree_trans *trans);
/* Drop all locks; iterators relock at their next use, or restart. */
void btree_trans_unlock(struct btree_trans *trans);
/* Retake them now: 0 or a restart. */
int btree_trans_relock(struct btree_trans *trans);
/* Memory that lives until the next begin or put; zeroed. Never NULL: waits for memory, and keeps
 * the locks meanwhile, so that keys looked at stay in place. */
void *btree_trans_kmalloc(struct btree_trans *trans, size_t bytes);
struct btree_fs *btree_trans_fs(struct btree_trans *trans);
/* The argument given to btree_fs_alloc() for triggers and space ops. */
void *btree_trans_ops_arg(struct btree_trans *trans);
/* Fail here with @restart (bookkeeping of reasons); returns it. */
int btree_trans_restart(struct btree_trans *trans, int restart);

/*
 * Commit all updates. 0, a restart, or an error; @ret_seq (may be NULL) gets the journal seq.
 * With no updates it is a no-op (and ret_seq is 0). After success the updates are gone, iterators
 * stay valid and the transaction may go on with further updates.
 */
int btree_trans_commit(struct btree_trans *trans, unsigned flags, u64 *ret_seq);

/*
 * With BTREE_COMMIT_NO_WAIT a commit that the journal has no room for, or a node, ends with
 * -BCFS_ERR_commit_would_wait, unlocked. This waits, or makes the room: 0, or an error; then the
 * transaction may run again. @flags: those of the commit.
 */
int btree_trans_wait(struct btree_trans *trans, unsigned flags);

/* Run @body until it does not restart. */
#define lockrestart_do(trans, body)                                                                \
	({                                                                                         \
		int lr_ret_;                                                                       \
		do {                                                                               \
			btree_trans_begin(trans);                                                  \
			lr_ret_ = (body);                                                          \
		} while (err_is_restart(lr_ret_));                                                 \
		lr_ret_;                                                                           \
	})
/* Run @body and commit, until neither restarts. */
#define commit_do(trans, ret_seq, flags, body)                                                     \
	lockrestart_do(trans, (body) ?: btree_trans_commit(trans, flags, ret_seq))

/* Iterators */

/*
 * For btrees with snapshots @pos.snapshot is the snapshot looked from (unless
 * BTREE_ITER_ALL_SNAPSHOTS); for the others it is 0 or a real part of the position.
 */
void btree_iter_init(struct btree_trans *trans, struct btree_iter *iter, enum btree_id id,
		     struct bpos pos, unsigned flags);
/* On the keys of level @level (> 0: interior keys). */
void btree_iter_init_level(struct btree_trans *trans, struct btree_iter *iter, enum btree_id id,
			   unsigned level, struct bpos pos, unsigned flags);
void btree_iter_exit(struct btree_iter *iter);
void btree_iter_set_pos(struct btree_iter *iter, struct bpos pos);
void btree_iter_set_snapshot(struct btree_iter *iter, u32 snapshot);

/*
 * First key at or behind iter->pos (extents: first that ends behind it), not beyond @end.
 * .k NULL at the end, bkey_err() on error. iter->pos moves to the key (extents: to its start, or
 * stays if inside).
 */
struct bkey_s_c btree_iter_peek_max(struct btree_iter *iter, struct bpos end);
static inline struct bkey_s_c btree_iter_peek(struct btree_iter *iter)
{
	return btree_iter_peek_max(iter, SPOS_MAX);
}
/*
 * Last key before iter->pos (exclusive), not before @start (inclusive). iter->pos moves to it.
 * Extents: the last that begins before iter->pos (and ends behind @start); iter->pos moves to its
 * start.
 */
struct bkey_s_c btree_iter_peek_prev_min(struct btree_iter *iter, struct bpos start);
/* What is exactly at iter->pos: the key there (extents: that covers it), or a key of type deleted
 * standing for the hole (extents: up to the next key, at most 2^31 sectors). Never NULL. */
struct bkey_s_c btree_iter_peek_slot(struct btree_iter *iter);
/* Move behind the key last returned. False at the end of the btree. */
bool btree_iter_advance(struct btree_iter *iter);
static inline struct bkey_s_c btree_iter_next_max(struct btree_iter *iter, struct bpos end)
{
	return btree_iter_advance(iter) ? btree_iter_peek_max(iter, end) : bkey_s_c_null;
}
/* The node that covers iter->pos at iter->level, locked as asked; NULL with *ret an error. */
struct btree *btree_iter_peek_node(struct btree_iter *iter, int *ret);

/*
 * for_each_btree_key_max(trans, iter, id, start, end, flags, k, ({ body; 0 })): restarts of the
 * body or the iteration rerun from the current position, not from the start; the body sees each key
 * once unless it restarts itself. Evaluates to 0 or an error; a body ends the loop with a positive
 * value, which is the result.
 */
#define for_each_btree_key_max(trans_, iter_, id_, start_, end_, flags_, k_, body_)                \
	({                                                                                         \
		struct btree_iter iter_;                                                           \
		int fe_ret_ = 0;                                                                   \
		btree_iter_init(trans_, &(iter_), id_, start_, flags_);                            \
		do {                                                                               \
			btree_trans_begin(trans_);                                                 \
			struct bkey_s_c k_ = btree_iter_peek_max(&(iter_), end_);                  \
			fe_ret_ = bkey_err(k_);                                                    \
			if (!fe_ret_ && !(k_).k)                                                   \
				break;                                                             \
			if (!fe_ret_)                                                              \
				fe_ret_ = (body_);                                                 \
			if (!fe_ret_ && !btree_iter_advance(&(iter_)))                             \
				break;                                                             \
		} while (!fe_ret_ || err_is_restart(fe_ret_));                                     \
		btree_iter_exit(&(iter_));                                                         \
		fe_ret_;                                                                           \
	})
#define for_each_btree_key(trans_, iter_, id_, start_, flags_, k_, body_)                          \
	for_each_btree_key_max(trans_, iter_, id_, start_, SPOS_MAX, flags_, k_, body_)
/* The same, committing after each body. */
#define for_each_btree_key_commit(trans_, iter_, id_, start_, end_, flags_, k_, cflags_, body_)    \
	for_each_btree_key_max(trans_, iter_, id_, start_, end_, flags_, k_,                       \
			       (body_) ?: btree_trans_commit(trans_, cflags_, NULL))
/* Inside one transaction (no begin): the caller passes restarts up. */
#define for_each_btree_key_in_trans(trans_, iter_, id_, start_, end_, flags_, k_, ret_)            \
	for (btree_iter_init(trans_, &(iter_), id_, start_, flags_);                               \
	     (k_) = btree_iter_peek_max(&(iter_), end_), !((ret_) = bkey_err(k_)) && (k_).k;       \
	     btree_iter_advance(&(iter_)) || (iter_.pos = SPOS_MAX, 0))

/* Updates */

/*
 * Queue @k (memory of the transaction or of the caller, unchanged until commit) at its own
 * position.
 * @iter leads to that position with intent (BTREE_ITER_INTENT), or is NULL (then one is made).
 * KEY_TYPE_deleted deletes. In a btree with snapshots a deletion becomes a whiteout where an
 * ancestor's key would show through. In an extents btree what @k overlaps is trimmed, split or
 * deleted. A second update at the same position replaces the first. 0, a restart or an error.
 */
int btree_trans_update(struct btree_trans *trans, struct btree_iter *iter, struct bkey_i *k,
		       unsigned flags);
/* The same by btree id: the position is k's. */
int btree_trans_insert(struct btree_trans *trans, enum btree_id id, struct bkey_i *k,
		       unsigned flags);
int btree_trans_delete_at(struct btree_trans *trans, struct btree_iter *iter, unsigned flags);
int btree_trans_delete(struct btree_trans *trans, enum btree_id id, struct bpos pos,
		       unsigned flags);
/* A KEY_TYPE_set at @pos, or its removal (indexes such as freespace). */
int btree_trans_bit_mod(struct btree_trans *trans, enum btree_id id, struct bpos pos, bool set);
/* A copy of @k in transaction memory, with room for @extra_bytes more of value. */
struct bkey_i *btree_trans_copy_key(struct btree_trans *trans, struct bkey_s_c k,
				    unsigned extra_bytes);
/* A key of that type with @val_bytes of zeroed value at @pos, in transaction memory. */
struct bkey_i *btree_trans_alloc_key(struct btree_trans *trans, enum bkey_type type,
				     struct bpos pos, unsigned val_bytes);
/* Add to a counter as part of the commit. */
void btree_trans_account(struct btree_trans *trans, enum bcfs_accounting_type type, s64 delta);
/* A text that goes into the journal with the commit. */
int btree_trans_log_msg(struct btree_trans *trans, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Lookup of exactly @pos (with filter, in btrees with snapshots): copies key and value into @dst
 * (dst_u64s of room). -BCFS_ERR_btree_key_not_found, a restart, or an error. */
int btree_lookup(struct btree_trans *trans, enum btree_id id, struct bpos pos, unsigned flags,
		 struct bkey_i *dst, unsigned dst_u64s);

/*
 * Delete all keys in [start, end) (extents: trimming at the edges), in as many commits as it takes,
 * each at most a bounded number of keys; stops at errors. @update_journal_seq as commit's.
 */
int btree_delete_range(struct btree_fs *c, enum btree_id id, struct bpos start, struct bpos end,
		       unsigned flags, u64 *ret_seq);

/* Cut an extent key: front at @where (p.offset of the new start), back at @where (the new end). */
void bkey_cut_front(const struct bkey_ops_table *t, u64 where, struct bkey_i *k);
void bkey_cut_back(const struct bkey_ops_table *t, u64 where, struct bkey_i *k);
const struct bkey_ops_table *btree_ops_table(struct btree_fs *c);
/* No commit that is done has a later journal seq. */
u64 btree_journal_seq(const struct btree_fs *c);

#endif
