/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A run of the crash tests: a small filesystem on the simulated device, random operations on it,
 * and every state that each prefix of them leads to; then recoveries from images of its device.
 *
 * sim.c makes the runs and the recoveries, crash.c chooses what is run and where it crashes.
 */
#ifndef BCFS_TEST_SIM_SIM_H
#define BCFS_TEST_SIM_SIM_H

#include "core/core.h"
#include "dev/sim_bdev.h"
#include "model.h"

/* The geometry and the conditions; all from the seed and the mode. */
struct sim_cfg {
	u64 seed, dev_bytes, cache_bytes;
	u32 block, node, bucket, journal, extent_max;
	u32 preempt, eager; /* of 1024 */
	u32 restart_ppm;
	u32 stall_ppm, stall_ms;	  /* threads that are not run for so long */
	u32 latency_us, flush_latency_us; /* at most; 0: the device's own */
	u32 flush_delay_ms;
	bool discard;
	unsigned ops, prefill;
	unsigned bulk; /* files of no interest, that fill nodes */
	bool ballast;  /* a file of no interest, that leaves little space */
	/* One fault at the kth request of its kind; SIM_FAULT_NR: none. */
	enum sim_fault fault;
	u64 fault_at;
};

/* The tree after an operation, or after a part of one. */
struct sim_state {
	u64 hash;
	u64 begin_pos; /* of the log, when the operation that led here began */
	u32 op;
	char *text; /* NULL for a part */
};

/* At a position of the log, a state was known durable. */
struct sim_floor {
	u64 pos;
	u32 state;
};

#define SIM_COUNTERS_MAX 192

struct sim_counters {
	unsigned nr;
	struct {
		char name[48];
		u64 value;
	} c[SIM_COUNTERS_MAX];
};

void sim_counters_add(struct sim_counters *t, const char *name, u64 value);
u64 sim_counter(const struct sim_counters *t, const char *name);

struct sim_run {
	struct sim_cfg cfg;
	struct env *env;
	struct bdev *bdev;
	struct model m;
	struct core *core;
	u64 first_pos; /* after mkfs */
	u64 rng;
	u64 run_hash; /* of every scheduling decision and of all that was asked of the device */
	struct mop *op;
	unsigned nr_ops, max_ops;
	struct sim_state *state;
	unsigned nr_states, max_states;
	struct sim_floor *floor;
	unsigned nr_floors, max_floors;
	u64 *bulk;	 /* inode numbers */
	u64 errors;	 /* operations that failed (only with a fault, or for space) */
	u64 nospc;	 /* of them for space */
	u64 restarts[2]; /* injected: where iterators restart, where commits do */
	struct sim_counters *counters;
};

/* mkfs, the operations, and the power cut. The device stays for images. */
void sim_run_do(struct sim_run *r, const struct sim_cfg *cfg, struct sim_counters *counters);
void sim_run_free(struct sim_run *r);
/* The state of that hash that a crash at pos may lead to; NULL: none. */
const struct sim_state *sim_run_find(struct sim_run *r, u64 pos, u64 hash);
u32 sim_run_floor(const struct sim_run *r, u64 pos);

/*
 * For who makes a run by himself: the tree of the model is a state now; a state is durable now; an
 * operation that began at that position was done (the model takes it over), or failed with ret.
 */
void sim_run_add_state(struct sim_run *r, u64 begin_pos);
void sim_run_add_floor(struct sim_run *r, u32 state);
void sim_run_op_done(struct sim_run *r, const struct mop *op, u64 begin);
void sim_run_op_failed(struct sim_run *r, const struct mop *op, u64 begin, int ret);
/* What cfg.bulk and cfg.ballast ask for, outside of the model. */
void sim_run_make_bulk(struct sim_run *r);
void sim_run_make_ballast(struct sim_run *r);

struct sim_recovery {
	const struct sim_run *run;
	const struct sim_image *img;
	struct bdev *crashed; /* what it is the image of, at crash_pos */
	u64 crash_pos;
	u64 seed;
	bool keep_log;		       /* for crashes of the recovery itself */
	bool more;		       /* a few operations more, a clean close, and another look */
	struct sim_counters *counters; /* of the recovery and the check, as "recovery.*" */
	/*
	 * For the next crash: something is changed and synced, then one operation more. The log is
	 * kept.
	 */
	bool again;
	unsigned turn; /* which */
	u64 synced_pos;
	char *then[2]; /* the tree when synced, and at the end */
	/* Found. */
	struct env *env;
	struct bdev *bdev;
	u64 opened_pos; /* of its own log */
	char *text;
	int err;
	char msg[1024];
};

/* Opens, reads, checks. False: something is wrong, msg says what. */
bool sim_recover(struct sim_recovery *rec);
void sim_recovery_free(struct sim_recovery *rec);

/* Stops the test with a message that names the run. */
void sim_fail(const struct sim_run *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), noreturn));

#endif
