/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The fault sweep: one scenario again and again, with the k-th request or allocation failing.
 *
 * sweep.c makes the runs and says what is demanded of each; sweep_scenarios.c is what is run.
 */
#ifndef BCFS_TEST_SIM_SWEEP_H
#define BCFS_TEST_SIM_SWEEP_H

#include "sim.h"

enum sweep_kind {
	SWEEP_READ,
	SWEEP_WRITE,
	SWEEP_TORN,
	SWEEP_FLUSH,
	SWEEP_DISCARD,
	SWEEP_ALLOC,
	SWEEP_GONE, /* the device is, for a while or until it is disarmed */
	SWEEP_KINDS,
};

#define SWEEP_ALL_KINDS ((1U << SWEEP_KINDS) - 1)

struct sweep;

struct scenario {
	const char *name;
	/* What is there before, with no faults. */
	enum { FROM_OPEN, FROM_NOTHING, FROM_CLOSED, FROM_CRASH } from;
	/* With the fault. */
	void (*body)(struct sweep *w);
	/* After the run, at its end; NULL: crashes, and what is found after them. */
	void (*verify)(struct sweep *w);
	void (*geometry)(struct sim_cfg *cfg);
	bool more_nodes; /* files that fill some nodes */
	unsigned kinds;	 /* but these: none */
	unsigned random; /* random operations before */
	u8 on_error;	 /* enum bcfs_on_error */
	bool may_fail;	 /* an opening or closing, which one failed write may end */
};

extern const struct scenario sweep_scenarios[];

/* In memory shared with who forked: what came of it. */
struct sweep_shared {
	u64 total[SWEEP_KINDS]; /* requests and allocations of a run without a fault */
	u64 struck, errors, stopped, recoveries, faulty_recoveries;
	bool this_struck, panicked;
};

struct sweep {
	struct sim_run r; /* first */
	const struct scenario *sc;
	struct sweep_shared *sh;
	u64 seed;
	u64 rng; /* after the fault is armed */
	enum sweep_kind kind;
	bool sticky;
	u64 k; /* 0: no fault */

	bool forked; /* this is the run, not who makes them */
	bool armed;
	unsigned paused; /* depth */
	u64 at;		 /* the request or allocation that fails, counted from creation */
	bool gone;	 /* once, and it was; or it has been healed */
	struct env_sim_event heal;
	unsigned errors;
	char *base_text; /* FROM_CRASH: what was recovered */
	int ret;	 /* of the last opening, mkfs, closing or check */
};

/* Stops the run: something is wrong. */
void sweep_fail(struct sweep *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), noreturn));
#define sweep_check(w, cond, fmt, ...)                                                             \
	do {                                                                                       \
		if (!(cond))                                                                       \
			sweep_fail(w, fmt, ##__VA_ARGS__);                                         \
	} while (0)

/* The fault sleeps meanwhile: for looking. */
void sweep_pause(struct sweep *w);
void sweep_unpause(struct sweep *w);
/* A flush may fail, and with it all that comes after. */
bool sweep_may_stop(const struct sweep *w);
/* No more of it. */
void sweep_disarm(struct sweep *w);
/* A request failed: with an error of the right kind? */
void sweep_failed(struct sweep *w, const char *what, int ret);
/* May anything fail? Else the fault is one that nobody outside is to notice. */
bool sweep_felt(const struct sweep *w);

/* The fault, from here on; how many requests or allocations of its kind there were. */
void sweep_arm(struct sweep *w);
u64 sweep_hits(struct sweep *w);
bool sweep_want_of_memory(int ret); /* or what comes of it */
/* The filesystem has stopped after an error. */
bool sweep_stopped(struct sweep *w);

extern const char *const sweep_kind_names[];
extern const enum sim_fault sweep_kind_faults[];

/* What an opening is made with; log lines go to sweep_log, arg is the sweep. */
struct core_opts sweep_core_opts(const struct sweep *w, bool read_only, bool for_check);
void sweep_log(void *arg, enum bcfs_log_level level, const char *line);
void sweep_schedule(struct env *env, const struct sim_cfg *cfg);

void sweep_mkfs(struct sweep *w);
/* 0, or an error of the right kind. */
int sweep_open(struct sweep *w, bool read_only, bool for_check);
void sweep_close(struct sweep *w);
/* One operation, if it is possible now. */
void sweep_op(struct sweep *w, struct mop op);
void sweep_random_ops(struct sweep *w, unsigned nr);
/* Tree and model agree, or reading it failed as it may. */
void sweep_read_all(struct sweep *w);
/* The tree, read with the fault asleep; to be freed. */
char *sweep_text(struct sweep *w);
/* That is a state, and from now on its text belongs to the run. */
void sweep_add_text(struct sweep *w, char *text, u64 begin_pos);
/* The tree as it is now is a state. */
void sweep_add_tree(struct sweep *w, u64 begin_pos);
/* Images of crashes at some moments; openings of them that fail too; then what is there. */
void sweep_crashes(struct sweep *w);

#endif
