/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of this folder share: the allocator's state, the table of open buckets, the
 * meaning of an alloc key.
 *
 * Open buckets. Every bucket that the allocator holds in memory has a row in the table (struct
 * open_bucket), found by bucket number:
 *
 *	READY	found free, kept at hand; nothing is announced or written yet
 *	OPEN	announced to the device as a new life, being handed out in pieces. Each piece and
 *the write point that fills it hold a reference RETIRE	no references left, something was handed
 *out, and no committed key ever led there: the worker gives it a new generation by a commit of its
 *own
 *
 * `counted`: a commit has made its alloc key say that it is in use, so the counters have it. A row
 * is dropped when the last reference goes and the bucket is counted.
 *
 * Invariants:
 *  1. Only a bucket that is free by its alloc key and has no row becomes READY, and only under
 *     fill_lock; the alloc key is read after the table was looked at. So a bucket without row
 *     changes from free to anything else never.
 *  2. Every bucket in [used_mark, unused_cursor) has an alloc key, a run of freespace that covers
 *it, or a row; every bucket below used_mark has one of the first two. Nothing has two of them but
 *     a row may be on a bucket with either.
 *  3. free buckets by the counters - nr_uncounted is what can still be opened.
 *
 * Locks, in order: write_point.lock -> fill_lock -> (btree locks) -> lock. `lock` is a leaf: it is
 * taken inside commit hooks, and nothing that blocks is called with it held. discard_lock is taken
 * with none of the others held and covers a round of discards.
 */
#ifndef BCFS_ALLOC_ALLOC_PRIVATE_H
#define BCFS_ALLOC_ALLOC_PRIVATE_H

#include "alloc/alloc.h"
#include "dev/bdev.h"
#include "env/env.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/printbuf.h"

#define ALLOC_OB_NR	  1024 /* rows; row 0 is "none" */
#define ALLOC_OB_HASH	  512
#define ALLOC_READY_MAX	  32
#define ALLOC_WP_MAX	  32
#define ALLOC_NODES_READY 16
#define ALLOC_MARK_STEP	  32 /* used_mark follows in steps of so many buckets */

BKEY_VAL_TYPE(alloc, struct bcfs_alloc);
BKEY_VAL_TYPE(backpointer, struct bcfs_backpointer);
BKEY_VAL_TYPE(lru, struct bcfs_lru);
BKEY_VAL_TYPE(bucket_gens, struct bcfs_bucket_gens);
BKEY_VAL_TYPE(cookie, struct bcfs_cookie);

enum ob_state {
	OB_UNUSED,
	OB_READY,
	OB_OPEN,
	OB_RETIRE,
};

struct open_bucket {
	u64 bucket;
	u32 sectors_free; /* not handed out yet */
	u32 refs;
	u16 hash_next, list_next;
	u8 dev;
	u8 gen;
	u8 data_type; /* enum bcfs_data_type that it was opened for */
	u8 state;
	bool counted;
	bool written; /* some of it was handed out */
	bool empty;   /* OPEN, and what keys led to is gone again: the counters have it as
			 need_discard */
	bool gc;      /* copygc's: nobody else's to fill */
};

struct write_point {
	struct env_mutex lock;
	u16 ob; /* protected by lock; holds a reference */
};

/* How far an allocation may dig. */
enum alloc_watermark {
	ALLOC_WATERMARK_user,
	ALLOC_WATERMARK_gc,	 /* what copygc moves */
	ALLOC_WATERMARK_btree,	 /* interior updates for new keys */
	ALLOC_WATERMARK_keeps,	 /* ... for as many keys as before */
	ALLOC_WATERMARK_reserve, /* all others */
	ALLOC_WATERMARK_last,	 /* interior updates that waited in vain */
	ALLOC_WATERMARK_discard, /* discards alone: without them nothing becomes free any more */
	ALLOC_WATERMARK_NR,
};

struct alloc_fs {
	struct env *env;
	struct bdev *bdev;
	struct log *log;
	struct ratelimit log_limit;
	struct alloc_opts opts;
	u32 nodes_per_bucket;
	u32 bucket_usable; /* sectors: whole blocks */
	u32 nr_write_points;
	u32 ready_batch;
	u32 discard_worth;   /* empty buckets: more than a round's own nodes make empty */
	u64 reserve_buckets; /* that reservations never count on */
	u64 watermark[ALLOC_WATERMARK_NR]; /* buckets that stay free */
	struct btree_fs *btree;
	struct journal *journal;
	u64 *journal_buckets; /* sorted; NULL if not told */
	unsigned nr_journal_buckets;

	s64 usage[BCFS_ACCOUNTING_NR]; /* atomic: as committed */
	u64 reserved;		       /* atomic: promised, in flight, sectors */
	u64 empty_seq;		       /* atomic: newest in which a bucket became empty */
	u64 in_flight; /* atomic: of user data, handed out, keys not committed yet */
	struct alloc_counters counters; /* atomic, relaxed */

	/*
	 * Protects what follows, up to the next lock. "Read without": by others too, so it is
	 * written atomically.
	 */
	struct env_mutex lock;
	struct env_cond freed; /* buckets became free, or a round of discards ended */
	struct open_bucket ob[ALLOC_OB_NR];
	u16 ob_hash[ALLOC_OB_HASH];
	u16 ob_unused;		    /* list */
	u16 ob_retire;		    /* list */
	u32 nr_retire;		    /* read without */
	u16 ready[ALLOC_READY_MAX]; /* fifo */
	u32 ready_head;
	u32 nr_ready;	  /* read without */
	u32 nr_uncounted; /* rows OPEN or RETIRE that are not counted; read without */
	u32 nr_empty;	  /* rows OPEN that are empty; read without */
	u64 rest_user;	  /* sectors_free of OPEN user rows but copygc's; read without */
	struct bcfs_extent_ptr nodes[ALLOC_NODES_READY]; /* places for nodes, each with a ref */
	u32 nr_nodes;
	/* At what the bucket that nodes fill was opened; who may not dig so deep takes nothing. */
	enum alloc_watermark nodes_opened;
	u64 unused_cursor;	  /* invariant 2; read without */
	u64 rounds, rounds_freed; /* rounds of discards; buckets they freed */
	u32 nr_waiting;		  /* allocations that wait for a round; read without */
	u32 nr_pressed;		  /* of them, interior updates with BTREE_SPACE_RESERVE; atomic */
	bool settling;		  /* closing: nothing is moved but for who waits; atomic */
	s64 settle_buckets;	  /* closing: so many are to be free; atomic */
	int rounds_err;		  /* why the last attempt failed, unless for want of space */
	bool worker_stop;	  /* read without */
	bool worker_runs;	  /* atomic: there is a thread for it */
	bool worker_kick;
	struct env_cond worker_cond;

	struct env_mutex fill_lock;
	u64 fill_owner;	      /* thread; 0: none; atomic */
	u64 freespace_cursor; /* protected by fill_lock */

	struct env_mutex discard_lock;
	u64 discard_owner; /* thread; atomic */
	bool freed_some;   /* since the mark was last looked at; protected by discard_lock */

	/* Copygc, see gc.c; protected by lock. */
	bool gc_on; /* also read without */
	bool gc_stop, gc_kick;
	u64 gc_rounds, gc_useful; /* rounds; what came of them: buckets emptied, pieces moved */
	struct env_cond gc_cond;
	u32 nr_checks; /* atomic: under way; nothing is moved unless somebody needs space */

	u64 compact_owner;  /* thread; atomic */
	u64 compact_cursor; /* the worker's */

	struct env_thread *worker; /* of who starts and stops it */
	struct write_point btree_wp;
	struct write_point gc_wp;
	struct write_point wp[ALLOC_WP_MAX];
};

static inline void alloc_count(u64 *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static inline s64 alloc_usage_get(const struct alloc_fs *a, enum bcfs_accounting_type t)
{
	return __atomic_load_n(&a->usage[t], __ATOMIC_RELAXED);
}

static inline struct alloc_fs *alloc_of_trans(struct btree_trans *trans)
{
	return ((struct alloc_ops_arg *)btree_trans_ops_arg(trans))->alloc;
}

static inline u64 alloc_mark(const struct alloc_fs *a)
{
	return max_t(s64, alloc_usage_get(a, BCFS_ACCOUNTING_used_mark), 0);
}

/* ---- alloc_key.c: the meaning of an alloc key ---- */

/* The value of an alloc key; all zero (free, generation 0) for any other type. */
struct bcfs_alloc alloc_val(struct bkey_s_c k);
/* Entry of the fragmentation LRU, 0: none. */
u32 alloc_fragmentation(const struct bcfs_alloc *v, u32 bucket_sectors);
struct bpos alloc_lru_pos(u8 dev, u64 bucket, u32 fragmentation);
const char *alloc_data_type_name(unsigned type);
void alloc_val_to_text(struct printbuf *out, const struct bcfs_alloc *v);

/* ---- triggers.c ---- */

/*
 * The alloc key of a bucket with intent, through the transaction's own updates; of a bucket without
 * key: free, with the generation of its life to come. *iter is initialised in any case.
 */
int alloc_key_get(struct btree_trans *trans, struct btree_iter *iter, u8 dev, u64 bucket,
		  struct bcfs_alloc *ret, bool *ret_exists);
int alloc_key_put(struct btree_trans *trans, struct btree_iter *iter, const struct bcfs_alloc *v);
/* The same at the position of @iter, which need not have intent. */
int alloc_key_look(struct btree_iter *iter, struct bcfs_alloc *ret, bool *ret_exists);
/* What the backpointer of a pointer is. */
void alloc_backpointer_of(struct bkey_s_c k, enum btree_id btree, unsigned level,
			  const struct extent_ptr_decoded *p, struct bpos *pos,
			  struct bcfs_backpointer *bp);
/* 0 or -BCFS_ERR_alloc_ptr_*; *ret_bucket. */
int alloc_ptr_check(const struct alloc_fs *a, const struct extent_ptr_decoded *p, u64 *ret_bucket);
int alloc_trigger_key(struct btree_trans *trans, enum btree_id btree, unsigned level,
		      struct bkey_s_c old, struct bkey_s_c new, unsigned flags);
void alloc_commit_hook(struct btree_trans *trans, enum btree_id btree, unsigned level,
		       struct bkey_s_c old, struct bkey_i *new, u64 seq);

/* ---- free_index.c: buckets without alloc key; 0, a restart or an error ---- */

struct free_run {
	u64 first, last;
};
struct bpos alloc_gens_pos(u8 dev, u64 bucket);
bool alloc_gens_all_zero(const u8 gens[BCFS_ALLOC_GENS_GROUP]);
/* The value of a group's key, whole words; returns its bytes. */
struct alloc_gens_buf {
	u64 b[33];
};
u32 alloc_gens_pack(const u8 gens[BCFS_ALLOC_GENS_GROUP], struct alloc_gens_buf *buf);
int alloc_gen_get(struct btree_trans *trans, u8 dev, u64 bucket, u8 *ret_gen);
int alloc_gen_set(struct btree_trans *trans, u8 dev, u64 bucket, u8 gen);
/* The buckets of a freespace key; false: it is none that makes sense. */
bool alloc_run_of(struct bkey_s_c k, struct free_run *r);
/* A bucket gets an alloc key: out of its run; its alloc key goes: into one. */
int alloc_run_take(struct btree_trans *trans, u8 dev, u64 bucket);
int alloc_run_give(struct btree_trans *trans, u8 dev, u64 bucket);
/* Drop the last run if it reaches used_mark and has @min_len buckets, lowering the mark. */
int alloc_run_drop_last(struct btree_trans *trans, struct alloc_fs *a, u64 min_len, u64 *ret_mark);

/* ---- open_bucket.c; lock is held unless said ---- */

void ob_table_init(struct alloc_fs *a);
/* Row number, 0: no row. */
u16 ob_find(struct alloc_fs *a, u8 dev, u64 bucket);
bool ob_held(struct alloc_fs *a, u8 dev, u64 bucket); /* takes lock */
/* A new READY row; false if the table or the fifo is full or the bucket has a row. */
bool ob_add_ready(struct alloc_fs *a, u8 dev, u64 bucket, u8 gen);
/* The oldest READY row becomes OPEN, with one reference; 0: none. */
u16 ob_open(struct alloc_fs *a, enum bcfs_data_type type, bool gc);
/* Hand out @sectors of an OPEN row, with a reference. */
struct bcfs_extent_ptr ob_carve(struct alloc_fs *a, u16 idx, u32 sectors);
void ob_get(struct alloc_fs *a, u16 idx); /* one more */
void ob_put(struct alloc_fs *a, u16 idx);
/* The opposite, of the last @sectors handed out: nobody has used them. */
void ob_uncarve(struct alloc_fs *a, u16 idx, u32 sectors);
/* The end of what was handed out last, user data: the rest of it keeps its reference. */
void ob_trim(struct alloc_fs *a, u16 idx, u32 sectors);
/* A commit changes the bucket's alloc key to @type. True: the row is OPEN. */
bool ob_note_commit(struct alloc_fs *a, u8 dev, u64 bucket, enum bcfs_data_type type);
/* First RETIRE row, 0: none; and when it is done with. */
u16 ob_retire_first(struct alloc_fs *a);
void ob_retire_done(struct alloc_fs *a, u16 idx);
/* The least bucket at or above @from whose row is not counted; U64_MAX. */
u64 ob_first_uncounted(struct alloc_fs *a, u64 from);

/* ---- foreground.c ---- */

/* Buckets that could be opened now. */
s64 alloc_free_buckets(struct alloc_fs *a);
/* Few are free, and so many could be that it is worth a round: or one, when there are very few. */
bool alloc_short_of_space(struct alloc_fs *a);
/* Make free buckets READY: *ret_found. No locks held. */
int alloc_fill_ready(struct alloc_fs *a, u32 *ret_found);
/* Wait for discards; false: nothing to be hoped for. No locks held. */
bool alloc_wait_for_space(struct alloc_fs *a, bool may_flush);
/*
 * There is no hope: the error for it. Not want of space, if buckets are empty and another error
 * (of the device, mostly) keeps them from becoming free.
 */
int alloc_no_space(struct alloc_fs *a);
/* An OPEN row for the write point (its lock held): 0, or what is missing. */
enum alloc_take {
	ALLOC_TAKE_OK,
	ALLOC_TAKE_FILL,  /* nothing READY */
	ALLOC_TAKE_SHORT, /* the watermark forbids it */
};
/*
 * Is @bucket free and without row? The table first, then the key: see invariant 1. @exists: has an
 * alloc key. 0, a restart or an error.
 */
int alloc_bucket_look(struct btree_trans *trans, struct alloc_fs *a, u64 bucket, bool *ret_free,
		      bool *ret_exists, u8 *ret_gen);
bool alloc_is_journal_bucket(const struct alloc_fs *a, u64 bucket);
enum alloc_take alloc_wp_open(struct alloc_fs *a, struct write_point *wp, enum bcfs_data_type type,
			      enum alloc_watermark watermark);
/* Sectors of user data from the write point (its lock held), opened at @watermark if need be. */
enum alloc_take alloc_wp_take(struct alloc_fs *a, struct write_point *wp, u32 sectors,
			      enum alloc_watermark watermark, struct alloc_sectors *ret);
/* alloc_sectors_trim(), of what came from @wp; takes its lock. */
void alloc_wp_trim(struct alloc_fs *a, struct write_point *wp, struct alloc_sectors *s,
		   u32 sectors);
/* Give up the current buckets of all write points that hold @bucket only for themselves. */
void alloc_wp_close_idle(struct alloc_fs *a, u64 bucket);
void alloc_wp_close_all(struct alloc_fs *a);

/* ---- btree_space.c ---- */

/* Places for nodes that are left in the bucket which they fill, or were given back. No locks. */
u32 alloc_nodes_at_hand(struct alloc_fs *a);

/* ---- gc.c ---- */

/* Sectors of user buckets that hold nothing and that no write point will fill. */
s64 alloc_dead_sectors(struct alloc_fs *a);
/* Wait for two rounds of copygc, until @deadline at most; true: something came of them. No locks.
 */
bool alloc_gc_wait_for(struct alloc_fs *a, u64 deadline);

/* ---- compact.c ---- */

s64 alloc_dead_node_sectors(struct alloc_fs *a);
bool alloc_compact_wanted(struct alloc_fs *a);
/*
 * settle.c: before the worker ends. Writes what is dirty while there is somebody who frees places;
 * ends in bounded time, whatever has come of it. Waits; nothing locked, nobody else commits.
 */
void alloc_settle(struct alloc_fs *a);
/* Are there places for what making all empty buckets free changes? */
bool alloc_room_to_discard(struct alloc_fs *a);

/*
 * Sectors that places for nodes may still take by becoming dead before they are compacted. On a
 * device with many free buckets 0 unless @always.
 */
s64 alloc_node_slack(struct alloc_fs *a, bool always);
/* Empty a few buckets of nodes; *ret_moved nodes. The worker's thread. */
int alloc_compact_nodes(struct alloc_fs *a, u64 *ret_moved);

/* ---- discard.c ---- */

/*
 * One round: retire, and if @discard bump generations, discard and free what is flushed.
 * *ret_need_seq: what the rest waits for, 0 if nothing.
 */
int alloc_discard_round(struct alloc_fs *a, bool discard, u64 *ret_freed, u64 *ret_need_seq);
void alloc_worker(void *arg);
bool alloc_discards_pending(struct alloc_fs *a);
/* Let used_mark follow unused_cursor, or go down to the last run, if that is worth a commit. */
int alloc_move_mark(struct alloc_fs *a, bool always);

#endif
