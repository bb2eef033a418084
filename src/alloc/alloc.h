/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Space: buckets, their generations and states, open buckets and write points,
 * counters and reservations.
 *
 * A bucket's state is its key in the alloc btree (none: free, with a generation kept by the
 * group). Triggers on the keys
 * that point at space (extents, btree_ptr) change it inside the same transaction, and with it the
 * indexes - freespace, need_discard, backpointers, the fragmentation LRU - and the counters.
 *
 *	free -> (open bucket, in memory) -> user | btree -> empty: need_discard, generation + 1
 *	     -> (journal entry of that durable, discarded) -> free
 *
 * An open bucket is one that is being filled, held in memory only; a write point is a stream of
 * writes (by inode or kind) with its open bucket. What is allocated is written once and never again
 * before the bucket's next life: a bucket that was written, but to which no key ever led, gets a
 * new generation by a commit of its own before it is free again.
 *
 * Space behind what is used has no keys at all: a bucket at or above the mark (accounting counter
 * used_mark) without alloc key is free; below it every free bucket lies in a run of freespace. The
 * mark follows the use upwards, and downwards when the last run reaches it. So mkfs and mounting
 * cost the same at any size, and an emptied filesystem is small again.
 *
 * Watermarks keep buckets back: user data stops first, then ordinary btree nodes, then interior
 * updates, so that deleting, and what makes deleting possible, always finds space.
 *
 * A disk reservation is a promise of sectors taken before the write; it fails with -BCFS_ERR_nospc,
 * the write then does not. Promises are counted against whole free buckets and the rests of open
 * ones: what can be written now, or after pending discards.
 *
 * Locks: write point -> fill -> (btree reads) ; the table of open buckets has a leaf lock that is
 * never held over anything that blocks. Callers hold no btree locks unless said.
 */
#ifndef BCFS_ALLOC_ALLOC_H
#define BCFS_ALLOC_ALLOC_H

#include "bcfs/format/superblock.h"
#include "btree/btree.h"
#include "btree/extent_entries.h"

struct alloc_fs;
struct write_point;

struct alloc_opts {
	u32 block_sectors;
	u32 bucket_sectors;
	u32 node_sectors;
	u64 nr_buckets;
	u64 first_bucket;
	bool discard; /* pass discards on to the device */
};

/* Allocated before the btree (whose opts take alloc_btree_space_ops with this as arg's part). */
int alloc_fs_alloc(struct env *env, struct bdev *bdev, struct log *log,
		   const struct alloc_opts *opts, struct alloc_fs **ret);
void alloc_fs_free(struct alloc_fs *a);
/* The btree and the journal exist: remember them. */
void alloc_fs_attach(struct alloc_fs *a, struct btree_fs *btree, struct journal *journal);
/* Counters from the journal or the clean section (NULL: all zero, mkfs); then allocation may begin.
 * Nothing is scanned. */
int alloc_fs_start(struct alloc_fs *a, const s64 *usage);
/* Background: discards. After replay. */
int alloc_fs_start_threads(struct alloc_fs *a);
void alloc_fs_stop(struct alloc_fs *a);
/* Run pending discards and frees to the end (sync, tests). Everything empty becomes free; flushes
 * the journal if needed. */
int alloc_do_discards(struct alloc_fs *a);

/*
 * Tell the device of free buckets within sectors [start, end), where at least @least_sectors in
 * a row are free. *ret_sectors: told of, also on an error. -BCFS_ERR_dev_no_discard. Others go on
 * meanwhile.
 */
int alloc_trim(struct alloc_fs *a, u64 start, u64 end, u64 least_sectors, u64 *ret_sectors);

/*
 * The argument given to the btree for all ops (struct btree_fs_opts.arg) points to a struct that
 * begins with this, so that triggers and space ops find their way.
 */
struct alloc_ops_arg {
	struct alloc_fs *alloc;
};

/* For struct btree_fs_opts.space, and the functions behind it. */
extern const struct btree_space_ops alloc_btree_space_ops; /* arg: struct alloc_ops_arg */
int alloc_btree_nodes_alloc(struct alloc_fs *a, unsigned flags, unsigned nr,
			    struct bcfs_extent_ptr *ret);
void alloc_btree_node_used(struct alloc_fs *a, const struct bcfs_extent_ptr *ptr);
void alloc_btree_node_unused(struct alloc_fs *a, const struct bcfs_extent_ptr *ptr, bool written);

/* Reservations, in sectors */
struct disk_reservation {
	u64 sectors; /* what is left of it */
};
int disk_reservation_get(struct alloc_fs *a, struct disk_reservation *res, u64 sectors);
void disk_reservation_put(struct alloc_fs *a,
			  struct disk_reservation *res); /* gives the rest back */

/*
 * Up to @sectors (block multiple) of contiguous space from the write point that @stream hashes to.
 * May block (reads btrees, waits for discards); no btree locks held. *ret_sectors >= one block. The
 * space is covered by the caller's disk reservation. Ends with alloc_sectors_done() once the keys
 * that point at it are committed, or given up.
 */
struct alloc_sectors {
	struct bcfs_extent_ptr ptr;
	u32 sectors;
	u32 ob; /* open bucket held */
};
int alloc_sectors_get(struct alloc_fs *a, u64 stream, u32 sectors, struct alloc_sectors *ret);
/* What alloc_sectors_get() could get at once at most; 0: it has no bucket. A hint: others get some.
 */
u32 alloc_sectors_left(struct alloc_fs *a, u64 stream);
void alloc_sectors_done(struct alloc_fs *a, struct alloc_sectors *s);
/*
 * What lies behind the first @sectors of it (block multiple, not 0) is not needed, and nothing was
 * written there: the next one gets it. No use if somebody got more of the bucket meanwhile.
 */
void alloc_sectors_trim(struct alloc_fs *a, u64 stream, struct alloc_sectors *s, u32 sectors);
/*
 * Keep an open bucket (alloc_sectors.ob, not yet done) open still, though nothing is to point into
 * it any more: it begins no next life until it is released. Any context.
 */
void alloc_bucket_hold(struct alloc_fs *a, u32 ob);
void alloc_bucket_release(struct alloc_fs *a, u32 ob);

/*
 * Copygc: one thread (data/copygc.c) empties buckets of which much is dead. It waits until somebody
 * needs space, or until little is free (*ret_urgent says which); false: it is to end.
 */
struct alloc_gc_victim {
	u64 bucket;
	u8 gen;
	u32 live; /* sectors */
};
/* Sectors from one bucket to the next, */
u32 alloc_bucket_span(const struct alloc_fs *a);
/* and of them those that data may take. */
u32 alloc_bucket_sectors(const struct alloc_fs *a);
/* Is any extent compressed? */
bool alloc_has_compressed(struct alloc_fs *a);
typedef bool (*alloc_gc_skip_fn)(void *arg, const struct alloc_gc_victim *v);
void alloc_gc_start(struct alloc_fs *a); /* from now on promises count on it */
void alloc_gc_stop(struct alloc_fs *a);	 /* it ends by itself; any context */
bool alloc_gc_stopping(struct alloc_fs *a);
bool alloc_gc_wait(struct alloc_fs *a, bool *ret_urgent);
/*
 * Is there space for what nobody waits for, which leaves dead sectors behind? Not while somebody
 * waits, where copygc would begin by itself, or while a check is under way.
 */
bool alloc_may_rewrite(struct alloc_fs *a);
void alloc_gc_kick(struct alloc_fs *a); /* a round now, as if somebody needed space */
/* Buckets with the least live sectors, which together fit where copygc may write. */
int alloc_gc_pick(struct alloc_fs *a, bool urgent, alloc_gc_skip_fn skip, void *arg,
		  struct alloc_gc_victim *ret, u32 max, u32 *ret_nr);
/* As alloc_sectors_get(), for what is moved; never waits. */
int alloc_gc_sectors_get(struct alloc_fs *a, u32 sectors, struct alloc_sectors *ret);
/* As alloc_sectors_trim(), of what came from there. */
void alloc_gc_sectors_trim(struct alloc_fs *a, struct alloc_sectors *s, u32 sectors);
/* So much of a bucket was moved; @emptied: all of it. */
void alloc_gc_moved(struct alloc_fs *a, u64 sectors, bool emptied);
void alloc_gc_round_end(struct alloc_fs *a);
/* What the backpointer of a pointer in a key of level 0 is. */
void alloc_backpointer_of_key(struct bkey_s_c k, enum btree_id btree,
			      const struct extent_ptr_decoded *p, struct bpos *pos,
			      struct bcfs_backpointer *bp);
/* The backpointers of a bucket: positions of their btree, end exclusive. */
void alloc_bucket_backpointers(const struct alloc_fs *a, u64 bucket, struct bpos *start,
			       struct bpos *end);

/* Trigger for key types with pointers, to be called once per change (put it into bkey_ops as it is:
 * the btree calls the same function once): @old and @new may be any type; pointers are found in
 * both. */
int alloc_trigger_pointers(struct btree_trans *trans, enum btree_id btree, unsigned level,
			   struct bkey_s_c old, struct bkey_s_c new, unsigned flags);
/* Counters changed by a commit (struct btree_fs_opts.accounted). May be called with locks held. */
void alloc_accounted(struct alloc_fs *a, const s64 deltas[BCFS_ACCOUNTING_NR]);

extern const struct bkey_ops bkey_ops_alloc, bkey_ops_backpointer, bkey_ops_lru, bkey_ops_btree_ptr,
	bkey_ops_accounting, bkey_ops_bucket_gens, bkey_ops_cookie;

/* For struct btree_fs_opts.accounted; arg: struct alloc_ops_arg. */
void alloc_btree_accounted(void *arg, const s64 *deltas);

/* Usage, in sectors */
struct alloc_usage {
	u64 capacity; /* that users can fill */
	u64 used;     /* live data, metadata and everything fixed */
	u64 reserved; /* promised (persistent and in flight) */
	u64 free;     /* that a reservation would get: at most capacity - used - reserved */
	u64 buckets[BCFS_DATA_NR];
	s64 counters[BCFS_ACCOUNTING_NR];
};
void alloc_usage(struct alloc_fs *a, struct alloc_usage *ret);

/* mkfs: alloc keys for superblock buckets (below first_bucket) and the journal's, in bounded
 * commits. To be called before anything else is written; the rest of the device needs no keys. */
int alloc_init_device(struct alloc_fs *a, const u64 *journal_buckets, unsigned nr_journal);

/* What a KEY_TYPE_bucket_gens says of its group; false: it is none, or makes no sense. */
bool alloc_gens_unpack(struct bkey_s_c k, u8 gens[BCFS_ALLOC_GENS_GROUP]);

/* The journal's buckets, so that alloc_check() can hold alloc keys against them; copied. */
int alloc_set_journal_buckets(struct alloc_fs *a, const u64 *buckets, unsigned nr);

/*
 * Mark and sweep: recompute bucket states, indexes, backpointers and counters from the keys that
 * point at space, and compare. Each difference is given to @report (its text names btree, position,
 * both values); 0 with *ret_errors the number of differences. Read-only. Nobody else uses the
 * filesystem; what its own background work commits meanwhile makes the check start again.
 */
int alloc_check(struct alloc_fs *a, const struct journal_carried *carried, u64 *ret_errors,
		void (*report)(void *arg, const char *text), void *arg);

/* x(name, doc) */
/* clang-format off */
#define ALLOC_COUNTERS(x)                                                                          \
	x(buckets_opened, "buckets taken for writing")                                             \
	x(buckets_reused, "of them with a generation above 0")                                     \
	x(buckets_emptied, "buckets whose last sector went")                                       \
	x(buckets_discarded, "empty buckets that became free again")                               \
	x(buckets_retired, "written in vain: given a new generation")                              \
	x(buckets_stolen, "rests of one write point's bucket used by another")                     \
	x(gc_buckets, "buckets that copygc emptied")                                               \
	x(gc_sectors_moved, "sectors that copygc moved")                                           \
	x(gc_nodes_moved, "btree nodes that were moved to empty their buckets")                    \
	x(waits, "allocations that waited for space")                                              \
	x(nospc, "refused for lack of space")
/* clang-format on */
struct alloc_counters {
#define x(name, doc) u64 name;
	ALLOC_COUNTERS(x)
#undef x
};
void alloc_counters(struct alloc_fs *a, struct alloc_counters *ret);
/* Usage, open buckets, write points. */
void alloc_fs_to_text(struct printbuf *out, struct alloc_fs *a);

#endif
