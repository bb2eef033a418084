/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal's inside. See journal.h for the contract and README.md for the
 * life of an entry.
 *
 * The reservation word (j->state) is all that the fast path touches:
 *
 *	bits  0-19  left: u64s not yet reserved in the open entry; 0 when none is open
 *	bit   20    low: only JOURNAL_RES_RECLAIM may take from it
 *	bit   21    open
 *	bits 22-23  index of the buffer that is (or was last) open
 *	bits 24-63  four counts of 10 bits: holders of each buffer; an open entry holds itself
 *
 * The room is counted down, so that one compare-and-swap both checks and takes it: no second
 * word is read that could belong to another entry. A count that reaches zero means: closed,
 * and the last holder has gone.
 *
 * Sequence numbers, each behind the one before:
 *	cur_seq (open or next) > seq_prepared (handed to the writer) >= seq_ondisk (written, in
 *order) flush_issued >= flushed_seq (durable); last_seq (oldest pinned) >= last_seq_ondisk (what
 *the newest durable flush entry says; buckets below it are free).
 *
 * Threads: "writer" closes and prepares entries and submits them in order; "done" waits for
 * the writes in order; "reclaim" flushes pins and asks for flush entries that free space.
 *
 * Lock order: lock, then pin_lock. Neither is held while waiting for I/O or calling out.
 */
#ifndef BCFS_JOURNAL_JOURNAL_PRIVATE_H
#define BCFS_JOURNAL_JOURNAL_PRIVATE_H

#include <stdatomic.h>

#include "bcfs/format/extent.h"
#include "codec/codec.h"
#include "dev/bdev.h"
#include "env/env.h"
#include "journal/journal.h"
#include "util/cleanup.h"
#include "util/errcode.h"
#include "util/log.h"
#include "util/printbuf.h"

#define ST_LEFT_BITS	    20
#define ST_LEFT		    ((1ULL << ST_LEFT_BITS) - 1)
#define ST_LOW		    (1ULL << 20)
#define ST_OPEN		    (1ULL << 21)
#define ST_IDX_SHIFT	    22
#define ST_COUNT_BITS	    10
#define ST_COUNT_MAX	    ((1U << ST_COUNT_BITS) - 1)
#define ST_COUNT_SHIFT(idx) (24 + ST_COUNT_BITS * (idx))
#define ST_COUNT_ONE(idx)   (1ULL << ST_COUNT_SHIFT(idx))

/* Memory each buffer begins with; they grow to entry_bytes while entries are being filled. */
#define JOURNAL_BUF_BYTES (256U << 10)
/*
 * A root's key with its jset_entry: with the one pointer that this version gives it, and at most. A
 * root with more, of another version, is reckoned with from the start of the journal on.
 */
#define JOURNAL_ROOT_U64s     13U
#define JOURNAL_ROOT_U64s_MAX 21U
#define JOURNAL_USAGE_U64s    (1 + BCFS_ACCOUNTING_NR * (sizeof(struct bcfs_jset_usage) / sizeof(u64)))

/* Of every entry: its header and the carried state at most, which it keeps free; bytes. */
static inline u32 journal_fixed_bytes(u32 root_u64s)
{
	u32 carried_u64s = BTREE_ID_NR * root_u64s + (u32)JOURNAL_USAGE_U64s;

	return (u32)sizeof(struct jset) + carried_u64s * (u32)sizeof(u64);
}

#define JOURNAL_BUCKETS_MIN	 8
#define JOURNAL_BUCKET_BYTES_MIN (8U << 10)
/* Free buckets that must be left behind an entry, by who opens it. */
#define JOURNAL_KEEP_RESTART 1 /* so that the next mount finds a place to begin */
/*
 * What it takes to get rid of one pin, in bytes of reservations: an append costs its node's key in
 * the parent, a hundred bytes; a rewrite the keys of new and old node with what the triggers say
 * about their space, about a kilobyte with its share of the parents that split.
 */
#define JOURNAL_PIN_BYTES 1728U
/*
 * Pins beyond those there are: what reclaim, discards and interior updates under way make dirty
 * while everybody else waits: a leaf and an interior node of each btree that keeps account of the
 * space.
 */
#define JOURNAL_SLACK_PINS 16U
/* What a ring of the least size lets others have: the nodes that one transaction changes. */
#define JOURNAL_USER_PINS   16U
#define JOURNAL_WRITE_TRIES 5
/* Flushes in a row for which the data could not be written. */
#define JOURNAL_FLUSH_TRIES 16U
/* Rounds of reclaim in a row, up to a second apart, in which no node could be written anywhere. */
#define JOURNAL_RECLAIM_TRIES  16
#define JOURNAL_NOMEM_RETRY_NS (10 * ENV_NSEC_PER_MSEC)
#define JOURNAL_DIRTY_AGE_NS   (30 * ENV_NSEC_PER_SEC)
/* Widest span of seqs that a start accepts: more is a crafted image. */
#define JOURNAL_SPAN_MAX (1U << 20)
/* No journal lives to see it. */
#define JOURNAL_SEQ_MAX (1ULL << 62)

enum journal_buf_state {
	BUF_FREE,
	BUF_OPEN,
	BUF_CLOSED,  /* waits for its holders, then for the writer */
	BUF_WRITING, /* flush or not is decided; being put together */
	BUF_SUBMITTED,
};

struct journal_buf {
	/* Constant while the entry has holders. */
	struct jset *data;
	u32 cap; /* u64s that reservations may take */
	u64 seq;
	s64 usage[BCFS_ACCOUNTING_NR]; /* atomic: changes of counters in this entry */

	/* Protected by lock. */
	enum journal_buf_state state;
	bool must_flush;
	bool flush; /* decided */
	u32 buf_bytes;
	u32 promise_bytes; /* the most it will take on the device; until it is placed */
	u32 u64s;	   /* reserved, once closed */
	u64 last_seq;	   /* as of closing */
	u64 opened_ns;

	/* The writer's, then the done thread's. */
	u32 write_bytes;
	u64 place; /* byte offset on the device */
	struct bdev_io io;
};

struct journal_bucket {
	u64 nr;	 /* bucket on the device */
	u64 seq; /* newest entry in it; 0: none that matters */
};

struct journal_pin_list {
	u32 count; /* pins, and one of the entry's own until it is written (or replayed) */
	u64 opened_ns;
	struct journal_entry_pin *unflushed, *flushing;
};

enum journal_run {
	JOURNAL_STOPPED, /* before start and after stop */
	JOURNAL_RUNNING,
	JOURNAL_HALTED,
};

struct journal {
	_Atomic u64 state;	/* the reservation word */
	_Atomic u32 promised;	/* pins that holders of reservations and promises may yet add */
	_Atomic u32 nr_pins;	/* changed under pin_lock */
	_Atomic u32 pins_max;	/* with more than these, promised ones too, there is no fast path */
	_Atomic u32 nr_waiting; /* reservations waiting for space; changed under lock */

	/* Constant after journal_set_buckets(). */
	struct env *env;
	struct bdev *bdev;
	struct log *log;
	struct journal_opts opts;
	u32 bucket_bytes;
	u32 nr_buckets;
	u32 entry_bytes; /* largest entry */
	u32 root_u64s;	 /* of one root in an entry, at most */
	u32 fixed_bytes; /* of every entry: journal_fixed_bytes() */
	u32 res_max_u64s;
	u32 reserve_buckets;	/* kept for JOURNAL_WATERMARK_reclaim at least */
	u32 half_buckets;	/* and at most */
	u32 pins_num, pins_den; /* so many pins are got rid of in so many buckets */
	u32 slack_pins;

	struct env_mutex lock;
	struct env_cond wait;	     /* whoever waits for room, a flush, a completion */
	struct env_cond writer_wait; /* the writer */
	struct env_cond done_wait;   /* the done thread */
	struct env_cond reclaim_wait;

	/* Atomic for readers without the lock, changed under it. */
	_Atomic u64 cur_seq, seq_ondisk, flushed_seq;
	_Atomic int err;
	_Atomic u32 run; /* enum journal_run */

	/* Protected by lock. */
	struct journal_buf bufs[JOURNAL_BUFS]; /* by seq % JOURNAL_BUFS */
	u64 seq_prepared;
	u64 flush_issued;
	u64 start_seq;
	u64 last_seq_ondisk;
	u64 first_unflushed_ns; /* when the oldest entry behind flush_issued was opened; 0: none */
	u64 flush_fail_gen, flush_fail_seq;
	int flush_fail_err;
	u32 flush_fails; /* in a row, for whatever reason; and the last one's */
	int flush_fails_err;
	u32 buf_want;	  /* bytes that buffers should have */
	u32 waiting_pins; /* the most that one of those that wait wants to promise */
	bool flush_empty; /* a flush entry is wanted though there is nothing to put in */
	bool flush_only;
	bool stopping;	    /* the writer and reclaim are to end */
	bool done_stopping; /* and, when the writer has, the done thread */
	bool reclaim_kicked;
	bool threads_started;
	struct journal_bucket *buckets;
	u32 cur_bucket;
	u32 cur_off;	 /* bytes used in it */
	u32 free_ahead;	 /* free buckets behind cur_bucket, in order */
	u32 ended_ahead; /* those, and those that will be free with a flush under way */
	struct journal_counters counters;
	struct ratelimit rl_write, rl_reclaim;

	/* The writer's alone while it runs. */
	struct journal_carried carried;

	/* Pins. */
	struct env_mutex pin_lock;
	struct env_cond pin_wait;      /* a pin was dropped, or a flush call came back */
	_Atomic u64 last_seq;	       /* front of the ring: oldest pinned, else the newest entry */
	u64 pin_back;		       /* one behind the newest; protected by pin_lock */
	u64 pin_mask;		       /* ditto */
	struct journal_pin_list *pins; /* ditto; by seq & pin_mask */
	_Atomic u64 replay_end;	       /* implicit pins of [last_seq, replay_end); ditto, and
					* read without */
	u64 pin_drops;		       /* how often a pin was dropped or moved; ditto */
	u64 round;		       /* protected by lock: see journal_round() */

	struct env_thread *writer, *done, *reclaim;
	bool reading_done; /* bucket seqs are known from journal_read() */
	u32 resume_bucket,
		resume_off; /* ditto: where to go on; bytes, behind all in it that counts */
};

/* The word. */
static inline unsigned st_left(u64 st)
{
	return st & ST_LEFT;
}
static inline unsigned st_idx(u64 st)
{
	return (st >> ST_IDX_SHIFT) & (JOURNAL_BUFS - 1);
}
static inline unsigned st_count(u64 st, unsigned idx)
{
	return (st >> ST_COUNT_SHIFT(idx)) & ST_COUNT_MAX;
}
static inline bool journal_is_open(const struct journal *j)
{
	return j->state & ST_OPEN;
}
static inline struct journal_buf *journal_buf_at(struct journal *j, u64 seq)
{
	return &j->bufs[seq & (JOURNAL_BUFS - 1)];
}
/* For who waited for something to be written: the error that ended it, if it was one. */
static inline int journal_why_stopped(const struct journal *j)
{
	return j->err ?: -BCFS_ERR_journal_shutdown;
}
static inline u64 jset_bytes(const struct jset *j)
{
	return sizeof(*j) + (u64)j->u64s * sizeof(u64);
}

/* How deep into the reserves an entry may dig. */
enum journal_dig {
	JOURNAL_DIG_normal,
	JOURNAL_DIG_alone, /* few pins, and nobody else who may add any */
	JOURNAL_DIG_reclaim,
	JOURNAL_DIG_internal, /* an empty entry that frees space */
};

/* journal_res.c; the lock is held. */
int journal_entry_open(struct journal *j, u32 u64s, enum journal_dig dig);
void journal_entry_close(struct journal *j, bool full);
/* See that a flush entry with a seq >= this one is on its way. */
void journal_request_flush(struct journal *j, u64 seq);
/* Wait until all is durable, the open entry closed though it may be empty. */
int journal_flush_open(struct journal *j);
/* Wait for the flush of one more entry, an empty one if nothing is open. */
int journal_flush_next(struct journal *j);

/* journal_write.c */
void journal_writer_thread(void *arg);
void journal_done_thread(void *arg);
/* Raise the error state; locks none. err: why. */
void journal_set_error(struct journal *j, int err);

/* journal_space.c; the lock is held. */
u32 journal_room_for(struct journal *j, u32 least_bytes, u32 want_bytes, enum journal_dig dig);
/* Take the place for a buffer's entry; false when no bucket is free. */
bool journal_place(struct journal *j, struct journal_buf *buf, bool new_bucket);
/* The same, if the open entry were closed. */
u32 journal_room_behind_open(struct journal *j, u32 least_bytes, u32 want_bytes,
			     enum journal_dig dig);
/*
 * Another place for one whose write failed: in a new bucket, if wanted, as long as there is one
 * beyond what others were promised and what the next mount begins in.
 */
bool journal_place_again(struct journal *j, struct journal_buf *buf, bool new_bucket);
/* Free buckets that an entry opened with @dig leaves. */
u32 journal_keep_buckets(const struct journal *j, enum journal_dig dig);
/* When the ring's size is known. */
void journal_set_reserve(struct journal *j);
/* May @pins more be added, that are in j->promised already, and how? False: not now. */
bool journal_admits(struct journal *j, u32 pins, enum journal_dig *ret_dig);
/* After last_seq_ondisk or the pins moved. */
void journal_space_update(struct journal *j);
/* Announce (bdev_end_life()) which buckets a flush entry of @last_seq will free; before it is
 * submitted, the lock held. */
void journal_space_end(struct journal *j, u64 last_seq);
/* How many buckets a flush entry closed now would free. */
u32 journal_freeable(const struct journal *j);
/* What an entry takes at most once it is closed, with so many u64s reserved in it: bytes. */
u32 journal_closed_bytes(const struct journal *j, const struct journal_buf *buf, u32 u64s);
/*
 * Pins up to here are to go now, so that half of the ring is free and there are not too many, and
 * those up to @aged because of their age. 0: none.
 */
u64 journal_space_target(struct journal *j, u64 aged);
/* Newer pins than these are not to go yet, whoever wants it. */
u64 journal_flush_limit(const struct journal *j);
void journal_space_init(struct journal *j, u64 newest_seq);
/* Where the session begins that comes after a clean close at that seq: in another bucket each time.
 */
static inline u32 journal_first_bucket(const struct journal *j, u64 clean_seq)
{
	return (clean_seq % j->nr_buckets + 1) % j->nr_buckets;
}
static inline u64 journal_bucket_offset(const struct journal *j, u32 idx)
{
	return j->buckets[idx].nr * j->bucket_bytes;
}

/* journal_reclaim.c */
void journal_reclaim_thread(void *arg);
void journal_reclaim_kick(struct journal *j); /* lock held */
int journal_pins_init(struct journal *j, u64 last_seq, u64 cur_seq);
/* A list for a new entry, with its own reference. -BCFS_ERR_nomem, rarely. */
int journal_pin_push(struct journal *j, u64 seq);
/* Drop the entry's own reference. */
void journal_pin_put_own(struct journal *j, u64 seq);
/* Is there a pin (not an entry's own reference) at or below @seq? */
bool journal_pins_upto(struct journal *j, u64 seq);

/* jset.c */
/* Checksum of a finished entry, over its seq and all behind the csum field. */
int jset_csum(const struct jset *j, unsigned type, struct bcfs_csum *ret);
int jset_verify(const struct jset *j);
/* A finished entry gets its checksum, or is encrypted and gets nonce and tag. */
int jset_seal(const struct journal *j, struct jset *s);
/*
 * Checks it, and decrypts; else journal_csum, and it is as it was. What it was written with is told
 * by the filesystem, not by the entry. Its size fits the memory.
 */
int jset_open(const struct journal *j, struct jset *s);
/* Of one that is sealed, to be written again: with another nonce. */
int jset_seal_again(const struct journal *j, struct jset *s);
/* Take roots and counters out of an entry into @c; returns the btrees seen as a bit mask. */
u32 jset_fold_carried(const struct jset *j, struct journal_carried *c, bool with_usage);

#endif
