/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of the simulated device share. For no other folder.
 *
 * sim_bdev.c      requests: what happens now
 * sim_bdev_log.c  the log, what is durable, crash states
 * sim_bdev_fault.c faults and the watcher
 * sim_bdev_crypt.c what may not be written to an encrypted device
 * sim_image.c     images
 */
#ifndef BCFS_DEV_SIM_BDEV_PRIVATE_H
#define BCFS_DEV_SIM_BDEV_PRIVATE_H

#include "dev/bdev_private.h"
#include "dev/sim_bdev.h"

#include <string.h>

/* Zeroed memory of libc; aborts when there is none. */
void *sim_xalloc(size_t size);
/* The same, not zeroed. */
void *sim_xmalloc(size_t size);

/* What the log keeps of a write, flush or discard. */
struct sim_req {
	u64 id;
	enum bdev_op op;
	u32 flags;
	u64 offset, len;
	u8 *data;   /* of a write: a copy */
	bool lost;  /* leaves no trace */
	bool stale; /* seen by readers, never durable */
	bool lies;  /* FUA or flush that makes nothing durable */
	int ret;    /* once complete */
	u64 submit_pos;
	u64 complete_pos; /* UINT64_MAX: not complete */
};

struct sim_event {
	enum sim_event_kind kind;
	struct sim_req *req; /* NULL for SIM_EV_CACHE_LOST */
	u64 when_ns;
};

/* A request that is not durable at some position. */
struct sim_pending {
	struct sim_req *req;
	u64 complete_pos; /* as seen from the position; UINT64_MAX: in flight */
	u8 *dead;	  /* bit per sector: a newer write is durable there; may be NULL */
};

/* The state of the media at a position of the log. */
struct sim_cursor {
	u64 pos;
	struct sim_image *durable;
	struct sim_pending *pending; /* in order of submission */
	u32 nr, max;
};

struct sim_armed {
	u64 at; /* count of requests at which it strikes; 0: not armed */
	bool sticky;
	u64 struck;
	struct sim_strike kth;
};

struct sim_range {
	u64 start, end;
};

/* A range was announced as a new life when @pos events had happened. */
struct sim_life {
	u64 pos, offset, len;
};

/* The life of a range ends with something that is not durable yet. Times: watch_clock. */
struct sim_end {
	u64 offset, len;
	u64 announced;
	u64 written; /* when the first write of later than that was complete; 0: none yet */
};

struct sim_inflight;

struct sim_bdev {
	struct bdev b;
	struct sim_bdev_opts opts;
	struct sim_image *current; /* what readers see */
	struct sim_image *base;	   /* durable at position log_start */
	struct sim_cursor cursor;
	struct sim_event *events;
	u64 log_start, log_len; /* events[] holds [log_start, log_len), if not no_log */
	u64 max_events;
	u64 log_hash;
	u64 next_id;

	/* Requests under way, and those whose done the fiber shall call. */
	struct sim_inflight *inflight;
	struct bdev_io *done_head, *done_tail;
	struct env_mutex done_lock;
	struct env_cond done_cond;
	struct env_thread *done_thread;
	bool done_stop;

	u64 counts[BDEV_OP_NR];
	u64 nr_sync; /* with BDEV_SYNC */
	struct sim_armed armed[SIM_FAULT_NR];
	struct sim_range *bad;
	u32 nr_bad, max_bad;
	bool gone, flush_lies, aimed;
	struct env_sim_event back; /* SIM_FAULT_GONE: it is there again */
	u64 aim;		   /* of misdirected writes */

	/* A bit per sector, a word per 32 of them; from calloc, so untouched parts cost nothing. */
	u32 *watched, *written, *ended;
	u32 *base_watched, *base_written; /* as of log_start; NULL: nothing was watched */
	struct sim_life *lives;		  /* since then */
	u32 nr_lives, max_lives;
	struct sim_end *ends;
	u32 nr_ends, max_ends;
	u64 watch_clock;
	struct sim_nonces *nonces; /* NULL: not encrypted */
	u64 nr_nonces;
	u64 nr_violations;
	char first_violation[160];
};

static inline struct sim_bdev *to_sim(struct bdev *bdev)
{
	return container_of(bdev, struct sim_bdev, b);
}

/* splitmix64: random numbers of a crash state, from its own seed. */
static inline u64 sim_mix(u64 *x)
{
	u64 z = (*x += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* ---- the log (sim_bdev_log.c) ---- */

void sim_log_init(struct sim_bdev *d);
void sim_log_exit(struct sim_bdev *d);
/* Takes over req with its first event. */
void sim_log_event(struct sim_bdev *d, enum sim_event_kind kind, struct sim_req *req);
/* Brings the cursor to the end of the log: cursor.durable is the media of now. */
void sim_log_settle(struct sim_bdev *d);
void sim_req_apply(struct sim_image *img, const struct sim_req *req);

/* ---- faults (sim_bdev_fault.c) ---- */

/* Does it strike @io, which has been counted? */
bool sim_fault_strikes(struct sim_bdev *d, enum sim_fault fault, const struct bdev_io *io);
/* SIM_FAULT_GONE, if it strikes now. */
void sim_fault_gone(struct sim_bdev *d, const struct bdev_io *io);
bool sim_is_bad(const struct sim_bdev *d, u64 offset, u64 len);

/* ---- the watcher (sim_bdev_watch.c) ---- */

/* A life begins, whatever was there. */
void sim_watch_begin(struct sim_bdev *d, u64 offset, u64 len);
void sim_watch_write(struct sim_bdev *d, u64 offset, u64 len);
/* The same, but only takes note: how many sectors had been written in this life. */
u64 sim_watch_mark(struct sim_bdev *d, u64 offset, u64 len);
void sim_watch_discard(struct sim_bdev *d, u64 offset, u64 len);
/* A write or a flush is submitted: the time to give when it is complete without an error. */
u64 sim_watch_submit(struct sim_bdev *d);
void sim_watch_written(struct sim_bdev *d, u64 submitted, bool fua);
void sim_watch_flushed(struct sim_bdev *d, u64 submitted);
void sim_watch_exit(struct sim_bdev *d);
/* sim_bdev_crypt.c */
void sim_crypt_write(struct sim_bdev *d, u64 offset, const void *buf, u64 len);
void sim_crypt_exit(struct sim_bdev *d);
/* The log begins anew. */
void sim_watch_reset(struct sim_bdev *d);
void sim_violation(struct sim_bdev *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
