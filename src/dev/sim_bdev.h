/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulated device: memory, a volatile write cache, a log of all that was
 * asked of it, every state that a crash may leave, and faults. It lives in a
 * simulated environment (env_sim.h): latencies come from the seed, so requests
 * complete in a seeded order.
 *
 * The log is a list of events: a write is SUBMITted and COMPLETEd, a flush too.
 * At position p of the log (p events have happened) a write is
 *   - durable, if it completed before a flush was submitted that completed
 *     before p, or if it is FUA and completed before p;
 *   - pending, if it was submitted before p and is not durable.
 * A crash at p leaves the durable writes, and of the pending ones any subset,
 * in any order, each torn at 512 bytes: struct sim_crash picks one state.
 * States at an earlier position need no second run: the log is replayed from
 * the image the device began with (walking forward through positions is cheap).
 *
 * Images are sparse, copy-on-write in chunks, and hash by content, so that
 * states are counted once and clones cost almost nothing.
 *
 * This is a test device: it takes memory from libc, not from env (a sweep over
 * failing allocations is not to hit the device), and aborts when there is none.
 */
#ifndef BCFS_DEV_SIM_BDEV_H
#define BCFS_DEV_SIM_BDEV_H

#include "dev/bdev.h"
#include "env/env_sim.h"

/* ---- images ---- */

struct sim_image;

/* All zero. size: bytes, a multiple of 512. */
struct sim_image *sim_image_create(u64 size);
struct sim_image *sim_image_clone(const struct sim_image *img);
void sim_image_free(struct sim_image *img);
u64 sim_image_size(const struct sim_image *img);
/* Ranges must lie inside; any alignment. */
void sim_image_read(const struct sim_image *img, u64 offset, void *buf, u64 len);
void sim_image_write(struct sim_image *img, u64 offset, const void *buf, u64 len);
void sim_image_zero(struct sim_image *img, u64 offset, u64 len);
/* By content and size: a hole equals zeroes. */
u64 sim_image_hash(struct sim_image *img);
/* Bytes of memory that hold content. */
u64 sim_image_used(const struct sim_image *img);
/* A sparse file; load takes the file's size. */
int sim_image_save(const struct sim_image *img, const char *path);
int sim_image_load(const char *path, struct sim_image **ret);

/* ---- the device ---- */

struct sim_bdev_opts {
	u64 size_bytes;
	u32 logical_block;  /* 0: 512 */
	u32 physical_block; /* 0: 4096 */
	bool read_only;
	bool no_discard;
	bool no_log; /* forget writes once durable: for long runs; image_at only at the end */
	/* Latencies in ns, drawn evenly from [min, max]; 0, 0: defaults. */
	u64 latency_min_ns, latency_max_ns;
	u64 flush_min_ns, flush_max_ns;
};

/* A new device, all zero. */
int sim_bdev_create(struct env *env, const char *name, const struct sim_bdev_opts *opts,
		    struct bdev **ret);
/* A device that begins with an image (cloned). opts->size_bytes may be 0: the image's. */
int sim_bdev_create_from(struct env *env, const char *name, const struct sim_bdev_opts *opts,
			 const struct sim_image *img, struct bdev **ret);
/* bdev_close() ends it. After a power cut (env_sim_stop) requests in flight are dropped. */

/* A clone of what a reader sees now (cache included). */
struct sim_image *sim_bdev_image(struct bdev *bdev);
/* Direct access for tests, without log, cache or faults: both durable and current content. */
void sim_bdev_poke(struct bdev *bdev, u64 offset, const void *buf, u64 len);
void sim_bdev_peek(struct bdev *bdev, u64 offset, void *buf, u64 len);

/* ---- the log ---- */

enum sim_event_kind {
	SIM_EV_SUBMIT,
	SIM_EV_COMPLETE,
	SIM_EV_CACHE_LOST, /* what was pending is gone (sim_bdev_set_gone) */
};

struct sim_log_entry {
	enum sim_event_kind kind;
	enum bdev_op op;  /* never BDEV_READ */
	u32 flags;	  /* BDEV_FUA */
	u64 id;		  /* of the request; SUBMIT and COMPLETE share it */
	u64 offset, len;  /* bytes */
	const void *data; /* of a write; NULL for a discard or flush; valid while logged */
	int ret;	  /* of a COMPLETE */
	u64 when_ns;
};

/* Events so far; also the position "now". */
u64 sim_bdev_log_len(struct bdev *bdev);
/* False when pos is outside the log (or was forgotten: no_log). */
bool sim_bdev_log_get(struct bdev *bdev, u64 pos, struct sim_log_entry *ret);
/* The first position that is not forgotten. */
u64 sim_bdev_log_start(struct bdev *bdev);
/* Hash over all events, data and times included. */
u64 sim_bdev_log_hash(struct bdev *bdev);
/* The log as a file in the format of write_log.h; from an empty device (or since the reset). */
int sim_bdev_save_write_log(struct bdev *bdev, const char *path);
/* How many requests are pending at pos. */
u32 sim_bdev_nr_pending(struct bdev *bdev, u64 pos);
/* Forgets the log: the content of now is durable, positions count on from here. */
void sim_bdev_log_reset(struct bdev *bdev);

/* ---- crash states ---- */

enum sim_crash_rule {
	SIM_CRASH_NONE,	     /* no pending write survives */
	SIM_CRASH_ALL,	     /* all, in order of submission */
	SIM_CRASH_PREFIX,    /* the first seed % (n + 1) */
	SIM_CRASH_DROP_ONE,  /* all but the one numbered seed % n */
	SIM_CRASH_KEEP_ONE,  /* only the one numbered seed % n */
	SIM_CRASH_RANDOM,    /* a random subset, whole, in random order */
	SIM_CRASH_TORN_LAST, /* all, but of the last only random sectors (or a prefix of them) */
	SIM_CRASH_TORN,	     /* a random subset in random order, each of them torn */
	SIM_CRASH_SUBSET, /* those whose bit is set in `subset` (bit i = i-th pending), in order */
	SIM_CRASH_RULE_NR,
};

struct sim_crash {
	enum sim_crash_rule rule;
	u64 seed;
	const u8 *subset; /* SIM_CRASH_SUBSET: DIV_ROUND_UP(n, 8) bytes */
};

const char *sim_crash_rule_name(enum sim_crash_rule rule);
/* A crash now. The device itself is not changed. */
struct sim_image *sim_bdev_crash(struct bdev *bdev, const struct sim_crash *crash);
/* A crash when the first pos events had happened. NULL when pos was forgotten. */
struct sim_image *sim_bdev_image_at(struct bdev *bdev, u64 pos, const struct sim_crash *crash);

/* ---- faults ---- */

enum sim_fault {
	SIM_FAULT_READ_ERROR,
	SIM_FAULT_WRITE_ERROR, /* nothing of it is written */
	SIM_FAULT_FLUSH_ERROR,
	SIM_FAULT_DISCARD_ERROR,
	SIM_FAULT_READ_FLIP,	     /* one bit of what is read, seeded; the media is good */
	SIM_FAULT_WRITE_LOST,	     /* acknowledged, never seen again */
	SIM_FAULT_WRITE_MISDIRECTED, /* acknowledged, lands somewhere else (seeded, aligned) */
	SIM_FAULT_WRITE_STALE,	     /* seen while cached, but no flush makes it durable */
	SIM_FAULT_WRITE_TORN,	     /* acknowledged with an error, a seeded part is written */
	SIM_FAULT_FLUSH_LIE, /* makes nothing durable; sticky: as sim_bdev_set_flush_lies() */
	/*
	 * The device goes with it, whatever it is (requests of all kinds count), and what is in
	 * flight may be done or not; sticky: until disarmed, else a seeded while (up to 2 s).
	 */
	SIM_FAULT_GONE,
	SIM_FAULT_NR,
};

/* Strikes at the kth request of its kind from now (1 = the next), sticky: at all after it. 0
 * disarms. */
void sim_bdev_arm(struct bdev *bdev, enum sim_fault fault, u64 kth, bool sticky);
/* A misdirected write lands there, not somewhere: a multiple of 512; UINT64_MAX: seeded again. */
void sim_bdev_aim(struct bdev *bdev, u64 offset);
/* Requests of that kind since creation; times the fault struck. */
u64 sim_bdev_fault_hits(struct bdev *bdev, enum sim_fault fault, u64 *struck);

/* A request that a fault struck. */
struct sim_strike {
	u64 pos;	 /* of the log, when it was submitted */
	u64 offset, len; /* what was asked for */
	u64 to;		 /* where it landed, if misdirected */
	u64 flipped;	 /* the byte that was read with another bit */
};
/* The kth, also of a sticky one; false: it was not yet. */
bool sim_bdev_fault_struck(struct bdev *bdev, enum sim_fault fault, struct sim_strike *ret);
/* Latent bad sectors: reads fail until the sectors are written. Multiples of 512. */
void sim_bdev_set_bad(struct bdev *bdev, u64 offset, u64 len, bool bad);
/* Flips a bit of the media, for good. */
void sim_bdev_flip_bit(struct bdev *bdev, u64 offset, unsigned int bit);
/* All requests fail with dev_gone. lose_cache: what was not durable is lost with it. */
void sim_bdev_set_gone(struct bdev *bdev, bool gone, bool lose_cache);
/* Flushes and FUA writes succeed and make nothing durable. */
void sim_bdev_set_flush_lies(struct bdev *bdev, bool lies);

/* ---- the watcher: written once, no early reuse, buffers unchanged ---- */

/*
 * [offset, offset + len) begins a new life and is watched from now on: a sector
 * written twice in one life is a violation (a write that failed counts), and so
 * is a new life, or a discard, of what was written on this device and whose old
 * life has not ended, durably. The same call as bdev_new_life(). Ranges never
 * announced are not watched.
 */
void sim_bdev_watch_life(struct bdev *bdev, u64 offset, u64 len);
/* The same call as bdev_end_life(). */
void sim_bdev_end_life(struct bdev *bdev, u64 offset, u64 len, bool durable);
/* All lives are forgotten, and the log is reset: the device is for somebody else to fill. */
void sim_bdev_forget_lives(struct bdev *bdev);
/*
 * @to began with @from's image of a crash at @pos: what was written there in the lives that went on
 * then, and survived, counts as written. False when pos was forgotten.
 */
bool sim_bdev_inherit_lives(struct bdev *to, struct bdev *from, u64 pos);
/*
 * The filesystem on it is encrypted: text of twenty letters or more in what is written is a
 * violation, and so is a nonce of a btree node or journal entry that was there before.
 */
void sim_bdev_watch_crypt(struct bdev *bdev);
/* Nodes and entries that were looked at. */
u64 sim_bdev_nr_nonces(struct bdev *bdev);
/* Violations so far: sectors written twice, early reuse, buffers that changed in flight. */
u64 sim_bdev_violations(struct bdev *bdev);
/* The first violation in words; "" if none. */
const char *sim_bdev_first_violation(struct bdev *bdev);

#endif
