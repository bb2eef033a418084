/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal: a logical log of keys in a ring of buckets.
 *
 * A transaction takes a reservation in the entry being filled (lock-free in the
 * fast path: one compare-and-swap on a word that holds the entry's index, its fill and the
 * number of holders), copies its entries in, and puts it. When an entry is full, or asked
 * for, it is closed, the next of JOURNAL_BUFS buffers is opened, and once the last
 * holder has put its reservation the entry is written. Writes are pipelined.
 *
 * An entry is flush or noflush. A flush entry is written after every earlier
 * entry's write has completed, behind a device flush, with FUA: when it completes, it and
 * all before it are durable. A noflush entry is an ordinary write and promises nothing.
 *
 * Besides what transactions put in, every entry carries the btree roots and the
 * accounting counters as of its own end. The journal keeps both: a root update is a
 * BCFS_JSET_ENTRY_btree_root in some transaction's reservation, a counter changes by
 * journal_add_usage(); both are folded into the carried state when the entry is
 * written, in order of seq, so an entry never shows a state later than itself.
 *
 * Pins: an entry stays until every pin on it is dropped (a pin: a dirty btree node
 * whose oldest unwritten key is in that entry). last_seq is the oldest pinned entry;
 * space is reused only when a flush entry with a newer last_seq is durable.
 *
 * Invariants:
 *  1. Entries complete in order: seq_ondisk, flushed_seq only grow.
 *  2. The current seq never runs more than JOURNAL_SEQ_AHEAD beyond flushed_seq; so after
 *     a crash whose newest flush entry is F nothing on the device carries a seq above
 *     F + JOURNAL_SEQ_AHEAD: recovery blacklists (F, F + JOURNAL_SEQ_AHEAD] and goes on behind.
 *  3. A reservation at JOURNAL_WATERMARK_reclaim finds room though normal ones are refused:
 *     for each pin there is, or may come from a reservation that is held, there is free room to
 *     get rid of it, though nothing becomes free meanwhile; so also after a crash. And all pins
 *     together never want more than half of the ring, so that when they are gone there is as
 *     much again for those that reclaim made (journal_space.c).
 *  4. No sector of a journal bucket is written twice in one turn of the ring, as long as the
 * journal is open; a failed write goes to another place. After a crash writing goes on behind the
 * newest entry that counts, over what the crash left of those that were lost.
 *
 * Locking: callers may hold btree locks around journal_res_get(JOURNAL_RES_NONBLOCK), put,
 * pin and add calls; never around a blocking call. The journal calls out (flush_pins, error)
 * with none of its locks held.
 */
#ifndef BCFS_JOURNAL_JOURNAL_H
#define BCFS_JOURNAL_JOURNAL_H

#include "bcfs/format/journal.h"
#include "bcfs/format/alloc.h"
#include "util/types.h"

struct env;
struct bdev;
struct log;
struct printbuf;
struct journal;
struct journal_entry_pin;
struct keyring;

#define JOURNAL_BUFS	       4    /* entries between open and written */
#define JOURNAL_SEQ_AHEAD      256U /* see invariant 2; must exceed 2 * JOURNAL_BUFS */
#define JOURNAL_MAX_PINS_BATCH 32

/* x(name, number, doc) */
enum journal_watermark {
	JOURNAL_WATERMARK_normal,  /* everything users ask for */
	JOURNAL_WATERMARK_reclaim, /* what frees journal space: node writes and their parents' keys
				    */
};

/* Counters, for tests and `bcfs dump journal`. x(name, doc) */
#define JOURNAL_COUNTERS(x)                                                                        \
	x(entries, "entries written") x(flush, "of them flush") x(noflush, "of them noflush")      \
		x(wraps, "turns of the ring") x(bytes, "bytes written") x(                         \
			waits, "reservations that had to wait for space or a buffer")              \
			x(reclaimed, "pins flushed by reclaim") x(write_errors, "failed writes")   \
				x(blacklisted, "seqs skipped by the blacklist at open")

struct journal_counters {
#define x(name, doc) u64 name;
	JOURNAL_COUNTERS(x)
#undef x
};

struct journal_ops {
	/*
	 * Write out what these pins stand for, so that each gets dropped (or moved up beyond
	 * @seq). Up to JOURNAL_MAX_PINS_BATCH at once, so that writes go in parallel. Called
	 * from the reclaim thread or a thread waiting in journal_flush_pins(); a pin may have been
	 * dropped meanwhile. Returns 0 or an error (reclaim goes on with the others).
	 */
	int (*flush_pins)(void *arg, struct journal_entry_pin **pins, unsigned nr, u64 seq);
	/* The device failed for good: called once; the journal accepts nothing more. */
	void (*error)(void *arg, int err);
	/* Entries up to @seq are durable (a flush entry completed); from the writer's context.
	 * Optional. */
	void (*flushed)(void *arg, u64 seq);
	/*
	 * Optional: before a flush entry is issued, wait until the data writes of all keys in
	 * entries up to @seq have completed. An error fails that flush (the entry goes out as
	 * noflush), and those who wait for it hear of it; -BCFS_ERR_journal_flush_later: they wait
	 * for a later entry instead. Runs in the writer: it must not wait for a reservation.
	 */
	int (*pre_flush)(void *arg, u64 seq);
};

struct journal_opts {
	u32 block_bytes; /* fs block size */
	u32 bucket_sectors;
	u64 magic;	       /* BCFS_JSET_MAGIC ^ the filesystem's */
	struct bcfs_uuid uuid; /* the filesystem's, in what is authenticated */
	u8 csum_type;
	const struct keyring *keys; /* NULL: not encrypted, else csum_type is an AEAD */
	u32 entry_bytes_max;	    /* 0: default (min(bucket, 1 MiB)) */
	u32 reclaim_reserve_bytes;  /* kept for JOURNAL_WATERMARK_reclaim at least, more when there
				     * are many pins, at most half; 0: an eighth of the ring */
	u32 flush_delay_ms;	    /* an unflushed entry is flushed after; default 1000 */
	u32 reclaim_delay_ms;	    /* background reclaim; default 100 */
	const struct journal_ops *ops;
	void *arg;
};

/* A root as it travels: a KEY_TYPE_btree_ptr key and its level. */
struct journal_root {
	bool alive;
	u8 level;
	union {
		struct bkey_i k;
		u64 buf[32];
	};
};

/* The state that every entry carries. */
struct journal_carried {
	struct journal_root roots[BTREE_ID_NR];
	s64 usage[BCFS_ACCOUNTING_NR];
};

/* Opening: alloc, then read (unless clean), then start. Owned by the caller; free takes NULL. */
int journal_alloc(struct env *env, struct bdev *bdev, struct log *log,
		  const struct journal_opts *opts, struct journal **ret_j);
void journal_free(struct journal *j); /* after journal_stop() */
/* The ring's buckets, in order (from the superblock's journal field); copied. */
int journal_set_buckets(struct journal *j, const u64 *buckets, unsigned nr);

/* Reading */

struct journal_blacklist_range {
	u64 start, end; /* inclusive */
};

/* One entry found, kept in memory until journal_replay_free(). */
struct journal_replay_entry {
	u64 seq;
	u64 sector; /* where it lay, for messages */
	u32 bucket; /* index in the ring */
	bool noflush;
	struct jset *j;
};

struct journal_replay {
	struct journal_replay_entry
		*entries; /* [last_seq .. seq], ascending, gaps only where blacklisted */
	size_t nr;
	u64 seq;      /* the newest valid flush entry; 0: none */
	u64 last_seq; /* the oldest it needs */
	u64 max_seen; /* newest seq of any valid header seen, dropped ones included */
	u64 dropped;  /* valid entries newer than seq, not to be replayed */
	u64 nr_torn;  /* newer ones that were cut off on their way to the device */
	u64 nr_lost;  /* of [last_seq, seq]: missing or invalid. Not 0 after damage alone */
	bool damaged; /* not all that is needed is there */
	struct journal_carried carried; /* roots and counters of the newest entry */
};

/*
 * Read every bucket. Writes nothing. Entries newer than the newest valid flush entry
 * are dropped; entries older than its last_seq are ignored. A missing or bad entry
 * in between is damage: -BCFS_ERR_journal_damaged with a message naming seq and place; *ret then
 * holds those of the needed entries that are valid, and carried if the newest is among them (it is
 * the last of entries, with .seq). -BCFS_ERR_journal_empty if there is no valid flush entry at
 * all. Entries whose seq is blacklisted are ignored. Free *ret in every case.
 */
int journal_read(struct journal *j, const struct journal_blacklist_range *bl, unsigned nr_bl,
		 struct journal_replay *ret);
void journal_replay_free(struct journal *j, struct journal_replay *r);
/*
 * Is a superblock that says "closed cleanly at @clean_seq" older than the journal? Looks where the
 * first entry behind it would lie: what a device that lost the superblocks of the next session
 * may show. Writes nothing.
 */
int journal_went_on(struct journal *j, u64 clean_seq, bool *ret_newer);
/*
 * The seqs (r->seq, end] must be blacklisted, durably, before journal_start(end + 1): @bl is what
 * is blacklisted already. JOURNAL_SEQ_AHEAD beyond r->seq, or beyond the blacklisted range behind
 * it: then the last session crashed before its first flush.
 */
u64 journal_blacklist_end(const struct journal_replay *r, const struct journal_blacklist_range *bl,
			  unsigned nr_bl);

/* Check an entry's inside (bounds of every jset_entry and key header): both ways. Explains in @err.
 */
int jset_validate(const struct jset *j, u32 max_bytes, struct printbuf *err);
void jset_to_text(struct printbuf *out, const struct jset *j, bool keys);
const char *jset_entry_type_name(unsigned type);

/*
 * Iterate the entries inside a jset, and the keys inside a btree_keys entry
 * (already validated).
 */
static inline struct jset_entry *jset_entry_next(const struct jset_entry *e)
{
	return (struct jset_entry *)(e->data + e->u64s);
}
static inline struct jset_entry *jset_last(const struct jset *j)
{
	return (struct jset_entry *)(j->start + j->u64s);
}
#define for_each_jset_entry(e, jset)                                                               \
	for (struct jset_entry *e = (struct jset_entry *)(jset)->start; e < jset_last(jset);       \
	     e = jset_entry_next(e))
#define for_each_jset_key(k, e)                                                                    \
	for (struct bkey_i *k = (struct bkey_i *)(e)->data; (u64 *)k < (e)->data + (e)->u64s;      \
	     k = (struct bkey_i *)((u64 *)k + k->k.u64s))

/* Running */

/*
 * Begin at @cur_seq with what is carried. Entries [last_seq, cur_seq) are on the device and hold
 * an implicit pin each until journal_replay_done(); callers pin nodes on them as they replay
 * (journal_pin_add with the old seq). @r may be NULL (clean start: last_seq == cur_seq).
 * Starts the threads; writes nothing by itself. The first journal_flush() writes a flush entry
 * even if nothing was reserved: after a clean start it must have returned before the clean section
 * is given up, for writing begins in a bucket that may hold the last session's newest entry.
 */
int journal_start(struct journal *j, u64 cur_seq, const struct journal_replay *r,
		  const struct journal_carried *carried);
void journal_replay_done(struct journal *j);
/*
 * Flush all pins, write everything, and stop the threads. The last entry's carried state
 * and seq come back, for the clean section. On error the state is not clean; -BCFS_ERR_nospc: nodes
 * that found no place are dirty, but all is in the journal and durable.
 */
int journal_stop(struct journal *j, struct journal_carried *ret_carried, u64 *ret_seq);
/*
 * Stop at once, writing nothing more (emergency read-only; simulated crash); only what is being
 * submitted at this moment may still go out. From any context; idempotent.
 */
void journal_halt(struct journal *j);
int journal_error(const struct journal *j); /* 0 while healthy */

/* Reservations */

struct journal_res {
	u64 seq;
	u32 offset; /* u64s into the entry's start[] */
	u32 u64s;   /* left */
	u32 pins;   /* promised; 0 for reclaim's */
	u8 idx;
	bool ref;
};

#define JOURNAL_RES_NONBLOCK (1U << 0)
#define JOURNAL_RES_RECLAIM  (1U << 1) /* JOURNAL_WATERMARK_reclaim */
/* How many pins may be added to it while it is held (one if not told; reclaim's need not tell). */
#define JOURNAL_RES_PINS(nr) ((u32)(nr) << 8)

/* Largest reservation, in u64s (jset_entry headers included). */
u32 journal_res_max_u64s(const struct journal *j);
/*
 * Reserve @u64s (headers of jset_entries included). With NONBLOCK returns
 * -BCFS_ERR_journal_would_block instead of waiting. Errors: -BCFS_ERR_journal_shutdown,
 * -BCFS_ERR_journal_res_too_big.
 */
int journal_res_get(struct journal *j, struct journal_res *res, u32 u64s, unsigned flags);
/* Wait, holding nothing, until a NONBLOCK reservation of that size would probably succeed. */
int journal_res_wait(struct journal *j, u32 u64s, unsigned flags);
/*
 * For what is done for a user with reservations of reclaim's (a split): wait, holding nothing,
 * until there is room for so many pins and for getting rid of them, and keep it until it is put.
 * -BCFS_ERR_journal_shutdown.
 */
int journal_promise_get(struct journal *j, u32 pins);
void journal_promise_put(struct journal *j, u32 pins);
/* Normal reservations have to wait now. A glance: it may change at once. */
bool journal_is_low(const struct journal *j);
/*
 * And half of what is kept for reclaim beyond its pins is gone, too. Until then nodes may be moved
 * to make places free, one at a time.
 */
bool journal_is_very_low(struct journal *j);
/* Room not used is given back as an empty log entry or trimmed. */
void journal_res_put(struct journal *j, struct journal_res *res);

static inline u32 jset_entry_u64s(u32 payload_u64s)
{
	return payload_u64s + sizeof(struct jset_entry) / sizeof(u64);
}
/* Append one jset_entry with a copy of the payload. The reservation has the room. */
void journal_add_entry(struct journal *j, struct journal_res *res, enum bcfs_jset_entry_type type,
		       u8 btree_id, u8 level, const void *payload, u32 u64s);
/* Note a change of a counter as part of this reservation's entry. Takes no room. */
void journal_add_usage(struct journal *j, struct journal_res *res, enum bcfs_accounting_type type,
		       s64 delta);

/* Sequence numbers and flushing */

u64 journal_cur_seq(const struct journal *j);  /* of the open entry (or the next to be opened) */
u64 journal_last_seq(const struct journal *j); /* oldest pinned */
/* The oldest that the newest durable flush entry asks for: at most that. */
u64 journal_last_seq_ondisk(struct journal *j);
u64 journal_flushed_seq(const struct journal *j); /* durable up to here */
/*
 * Wait until @seq is durable. Group-commits: waiters share an entry. 0 or the error that stopped
 * the journal.
 */
int journal_flush_seq(struct journal *j, u64 seq);
/* Make everything reserved so far durable. Writes an empty entry if it is the session's first. */
int journal_flush(struct journal *j);
/*
 * What begins at @data, a block of a journal bucket of which @room bytes are left, if it is an
 * entry of this filesystem, whole or not: its bytes, to a block. 0: it is none.
 */
u32 journal_entry_bytes(const struct journal *j, const void *data, u32 room);
/*
 * Nothing before @seq is asked for by what is durable, if nothing before it is pinned: an entry may
 * have been closed before the last pin was dropped, and is the newest until another one is written.
 * 0 also if something is pinned: see journal_last_seq_ondisk().
 */
int journal_flush_past(struct journal *j, u64 seq);
/* Ask, don't wait. */
void journal_flush_async(struct journal *j, u64 seq);
/* Write out all pins up to @seq, from this thread. */
int journal_flush_pins(struct journal *j, u64 seq);
/* Is anything dirty just now? Also while others flush it. */
bool journal_has_pins(struct journal *j);
/* Nothing but flush entries from here on (tests). */
void journal_set_flush_only(struct journal *j, bool on);

/* Pins */

/*
 * Embedded in its owner, zeroed at first; its memory must stay valid as long as the
 * journal lives. One pin is changed by one thread at a time (the owner's lock).
 */
struct journal_entry_pin {
	struct journal_entry_pin *next, **pprev; /* protected by the journal's pin lock */
	_Atomic u64 seq;			 /* 0: not pinned */
	u32 kind;				 /* the owner's: what to make of it in flush_pins */
};

static inline bool journal_pin_active(const struct journal_entry_pin *pin)
{
	return pin->seq != 0;
}
/* Pin @seq, unless the pin already holds an older one. Cheap if so. @seq must be pinned or
 * reserved. */
void journal_pin_add(struct journal *j, u64 seq, struct journal_entry_pin *pin);
/* Let go of the old seq and hold @seq instead (>= the old; used when only newer keys are left). */
void journal_pin_update(struct journal *j, u64 seq, struct journal_entry_pin *pin);
void journal_pin_drop(struct journal *j, struct journal_entry_pin *pin);
/* @dst pins what @src pins (if older than its own). */
void journal_pin_copy(struct journal *j, struct journal_entry_pin *dst,
		      const struct journal_entry_pin *src);

void journal_counters(const struct journal *j, struct journal_counters *ret);
void journal_to_text(struct printbuf *out, const struct journal *j);
void journal_pins_to_text(struct printbuf *out, struct journal *j);

/* The least that mkfs makes: journal_space.c says why. Smaller rings of earlier versions open. */
u64 journal_min_bytes(u32 block_bytes, u32 bucket_sectors);

#endif
