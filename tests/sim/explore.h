/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Crashes of a run: which positions of its log, what survives, and whether what is recovered from
 * that is one of the run's states.
 *
 * A crash state is the image of the device that recovery begins with. Within a run each image is
 * recovered from once; when it comes up again, behind a later sync perhaps, only the answer is held
 * against what is allowed then. Over all runs and processes each image is counted once, by hash
 * (struct sim_seen).
 *
 * All choices come from the run's seed and the place, so that one run alone replays alike.
 */
#ifndef BCFS_TEST_SIM_EXPLORE_H
#define BCFS_TEST_SIM_EXPLORE_H

#include "sim.h"

/* Hashes, in memory that processes share. */
struct sim_seen;

/* NULL: no memory. bits: of the number of slots. */
struct sim_seen *sim_seen_create(unsigned bits);
/* True the first time. */
bool sim_seen_add(struct sim_seen *s, u64 hash);

struct sim_totals {
	u64 runs, images, states, recoveries, second, errors, nospc, restarts[SIM_RESTART_NR];
	u64 sequences, impossible; /* of the tiers */
	u64 cpu_ns;
	u64 armed[SIM_FAULT_NR], struck[SIM_FAULT_NR]; /* runs, by the kind of fault */
	struct sim_counters counters;
};

/* Where what is found goes; of one process. */
struct sim_work {
	struct sim_totals *t;
	struct sim_seen *seen;
	struct sim_report *report; /* may be NULL */
	/* The time is over: no more crashes are looked at. May be NULL. */
	const _Atomic bool *stop;
};

static inline bool sim_time_is_over(const struct sim_work *w)
{
	return w->stop && *w->stop;
}

/* A way to make runs. Unit u of it is one run, or as many as belong together, from the seed u. */
struct sim_mode {
	const char *name;
	unsigned runs; /* in CI, at scale 1 */
	unsigned ops, prefill;
	unsigned states; /* per run, at most about so many */
	bool restarts, faults;
	unsigned bulk;
	bool full;
	/* Counters and totals, separated by spaces: none may stay zero in so many runs. */
	const char *must_move;
	void (*run)(const struct sim_mode *mode, u64 unit,
		    struct sim_work *w); /* NULL: crash_run */
	const char *about;
	bool pressure;	/* the ring is always short, and flushes take long */
	unsigned depth; /* of a tier: operations in a sequence */
	u64 (*nr_units)(const struct sim_mode *mode); /* NULL: no end */
	const char *whole; /* ditto, when all of a tier was done; NULL: no more than that */
};

/* crash.c */
const struct sim_mode *crash_modes(unsigned *nr);
void crash_run(const struct sim_mode *mode, u64 unit, struct sim_work *w);
/* The hash of a run, without any crash. */
u64 crash_run_hash(const struct sim_mode *mode, u64 unit, struct sim_work *w);
const struct sim_mode *ace_modes(unsigned *nr);	    /* ace.c */
const struct sim_mode *clients_modes(unsigned *nr); /* clients.c */

struct explore;

struct explore *explore_begin(struct sim_run *r, struct sim_work *w);
void explore_end(struct explore *x);
/* One crash. Does not return from a violation. */
void explore_one(struct explore *x, const struct sim_place *p);
/* At every position of [from, to] where something new may survive, under every rule. */
void explore_all(struct explore *x, u64 from, u64 to);
/* About so many, spread over [from, to]. */
void explore_some(struct explore *x, u64 from, u64 to, unsigned states);
/* A run is counted, but for its crashes. */
void explore_count_run(struct sim_run *r, struct sim_totals *t);

/* Chooses the crashes of a run that is over. */
typedef void (*explore_fn)(struct explore *x, struct sim_run *r, const void *arg);

/* One run from its beginning to its end, with its crashes. Its report is the work's. */
void explore_run(struct sim_work *w, const struct sim_cfg *cfg, explore_fn crashes,
		 const void *arg);
/* About so many (arg: const unsigned *), spread over all of it. */
void explore_spread(struct explore *x, struct sim_run *r, const void *arg);

#endif
