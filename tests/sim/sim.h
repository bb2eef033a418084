/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A run of the crash tests: a small filesystem on the simulated device, random operations on it,
 * and every state that each prefix of them leads to; then recoveries from images of its device.
 *
 * sim.c makes the runs, recover.c the recoveries, explore.c chooses where a run crashes; crash.c
 * and ace.c choose what is run.
 */
#ifndef BCFS_TEST_SIM_SIM_H
#define BCFS_TEST_SIM_SIM_H

#include "core/core.h"
#include "dev/sim_bdev.h"
#include "model.h"

struct sim_run;
struct sim_report;

/* Marks of operations. */
enum sim_mark {
	SIM_MARK_PREFILL = 1, /* what it did is synced, and the log begins behind it */
	SIM_MARK_WINDOW = 2,  /* crashes are of interest here */
};

/* The geometry and the conditions; all from the seed and the mode. */
struct sim_cfg {
	u64 seed, dev_bytes, cache_bytes;
	u32 block, node, bucket, journal, extent_max;
	u32 compression; /* of new data: sim_compressions[] */
	u32 background;	 /* and what that becomes in the background */
	bool gather;	 /* small writes do */
	bool encrypt;
	u32 inline_max;	    /* bytes; 0: nothing is kept in keys */
	u32 copies;	    /* the weight of copy_file_range among the operations */
	u32 preempt, eager; /* of 1024 */
	u32 restart_ppm;
	bool restart_everywhere; /* not only where iterators are traversed and commits begin */
	bool preempt_trans;	 /* others may run in the middle of a transaction */
	u32 preempt_locks;	 /* of 1024: and where locks are tried and let go */
	u32 stall_ppm, stall_ms; /* threads that are not run for so long */
	u32 latency_us, flush_latency_us; /* at most; 0: the device's own */
	u32 flush_delay_ms;
	bool discard;
	bool trim;  /* beside some operations the device is told of all that is free */
	bool plain; /* no long pauses, no remounts */
	unsigned ops, prefill;
	unsigned bulk; /* files of no interest, that fill nodes */
	bool ballast;  /* a file of no interest, that leaves little space */
	bool stir; /* pieces of it are written anew between the operations: dead sectors all over */
	u32 tail_ms;	  /* how long it goes on behind the last operation */
	unsigned touches; /* of bulk files, before each operation; 0: 3 */
	/*
	 * Where the operations come from; false: no more. NULL: drawn from the seed, prefill + ops
	 * of them. What next() gives must be possible (model_valid).
	 */
	bool (*next)(void *arg, struct sim_run *r, struct mop *op);
	void *next_arg;
	struct sim_report *report; /* may be NULL */
	/* One fault at the kth request of its kind; SIM_FAULT_NR: none. */
	enum sim_fault fault;
	u64 fault_at;
	u64 fault_to; /* where misdirected writes land; 0: seeded */
	bool fault_sticky;
	/*
	 * The device lies, and what it has lost may be missed: an operation that fails is the last.
	 * There are remounts, and texts of all parts of operations.
	 */
	bool lies;
	/* The end of the run: looks at what is there, and closes it (NULL: it could not be opened
	 * again). NULL: it is held against the model, and cut off. */
	void (*end)(struct sim_run *r, struct core *core);
};

/*
 * The least journals of earlier versions, smaller than what mkfs makes today: they have to open and
 * to go on, and in them the ring is short of space soon.
 */
u32 sim_small_journal_bytes(u32 block_bytes, u32 bucket_bytes);
/* mkfs that makes such journals, too; nothing may be armed in @env. */
int sim_mkfs(struct env *env, struct bdev *bdev, const struct bcfs_mkfs_opts *o, char *msg,
	     size_t msg_size);

#define SIM_COMPRESSIONS 6U
extern const char *const sim_compressions[SIM_COMPRESSIONS];
/* By a number of its own, so that all else stays as it is. */
u32 sim_compression(u64 seed);
u32 sim_background(u64 seed);
bool sim_gather(u64 seed);
bool sim_encrypt(u64 seed);
/* What opens it; of one that is not encrypted, nothing. */
struct crypt_secret sim_secret(const struct sim_cfg *cfg);
/* With the blocks and nodes of @c. */
u32 sim_inline(const struct sim_cfg *c, u64 seed);
/* Some; of one seed in five as many as of all that writes, so that most data are shared. */
u32 sim_copies(u64 seed);

/* The tree after an operation, or after a part of one. */
struct sim_state {
	u64 hash;
	u64 times;     /* a hash of times and blocks; 0: not known */
	u64 begin_pos; /* of the log, when the operation that led here began */
	u64 done_ns;   /* by the clock of the oracle, when it had been */
	u32 op;
	char *text; /* NULL for a part */
};

/* At a position of the log, a state was known durable: it was synced, or it is old enough. */
struct sim_floor {
	u64 pos;
	u32 state;
	bool by_clock;
};

/* Where transactions are told to restart. */
enum sim_restart {
	SIM_RESTART_ITER, /* an iterator is traversed */
	SIM_RESTART_COMMIT,
	SIM_RESTART_LOCK,    /* a node is locked: somebody has it */
	SIM_RESTART_RELOCK,  /* locks are taken again: a node has changed */
	SIM_RESTART_JOURNAL, /* the journal has to be waited for */
	SIM_RESTART_READS,   /* all is locked for writing: what was read has changed */
	SIM_RESTART_NR
};

/* "restarts.iter" and so on. */
extern const char *const sim_restart_names[SIM_RESTART_NR];

#define SIM_COUNTERS_MAX 512

struct sim_counters {
	unsigned nr, next; /* next: where the search begins: they come in the same order */
	struct {
		char name[48];
		u64 value;
	} c[SIM_COUNTERS_MAX];
};

void sim_counters_add(struct sim_counters *t, const char *name, u64 value);
u64 sim_counter(const struct sim_counters *t, const char *name);

/*
 * What NFS and others know files by: a pair that has named a file never names another, whatever
 * was removed, closed or lost in a crash meanwhile.
 */
struct sim_handle {
	u64 inum;
	u32 generation;
	u64 pos; /* of the log, when it was told */
};

struct sim_handles {
	struct sim_handle *h;
	unsigned nr, max;
};

/* False: it is there already. */
bool sim_handles_add(struct sim_handles *t, const struct sim_handle *h);
/* Of those from @first on, what was not told yet at pos never was. */
void sim_handles_crash(struct sim_handles *t, unsigned first, u64 pos);

/* A crash: where, and what survives it. */
struct sim_place {
	u64 pos;
	struct sim_crash how;
};

/* What is left of a failed run: in memory that outlives the process that met it. */
#define SIM_REPORT_OPS 16384
struct sim_report {
	_Atomic u64 beat; /* moves as long as things go on */
	bool failed, crashed;
	struct sim_place place; /* if crashed */
	u64 run_hash;
	struct sim_cfg cfg;
	unsigned nr_ops;
	struct mop op[SIM_REPORT_OPS];
	char msg[32768];
};

/* Operations of which the crashes are of interest: positions of the log. */
struct sim_window {
	u64 begin, end;
	unsigned first_op, nr_ops;
};

struct sim_run {
	struct sim_cfg cfg;
	struct env *env;
	struct env_sim_stacks *stacks; /* for the recoveries */
	struct bdev *bdev;
	struct model m;
	struct core *core;
	u64 first_pos; /* after mkfs */
	u64 rng, bulk_rng, idle_rng;
	u64 run_hash; /* of every scheduling decision and of all that was asked of the device */
	struct mop *op;
	unsigned nr_ops, max_ops;
	struct sim_state *state;
	unsigned nr_states, max_states;
	struct sim_floor *floor;
	unsigned nr_floors, max_floors;
	struct sim_handles handles; /* of all files that were ever made in the tree */
	struct sim_window *window;  /* the whole run, if none was marked */
	unsigned nr_windows, max_windows;
	bool halfway; /* the model is what no crash leads to: see ends_halfway() */
	bool ended;   /* nothing more is asked: see sim_run_op_doubtful() */
	u32 sure;     /* ditto: the state before */
	u64 slept_ns; /* between operations */
	u64 op_since; /* ns since 1970, when the operation under way began; 0: not known */
	u64 *bulk;    /* inode numbers */
	unsigned nr_bulk;
	struct bcfs_ino ballast;
	u64 ballast_blocks;
	const struct sim_place *crashed; /* what is being looked at; NULL: the run itself */
	u64 errors;		      /* operations that failed (only with a fault, or for space) */
	u64 nospc;		      /* of them for space */
	u64 restarts[SIM_RESTART_NR]; /* injected */
	int mistaken;		      /* see mistake(); the inode + 1 */
	struct sim_counters *counters; /* those of the windows as "in.*" too */
};

/* mkfs, the operations, and the power cut. The device stays for images. */
void sim_run_do(struct sim_run *r, const struct sim_cfg *cfg, struct sim_counters *counters);
void sim_run_free(struct sim_run *r);
/* The state of that hash that a crash at pos may lead to; NULL: none. */
const struct sim_state *sim_run_find(struct sim_run *r, u64 pos, u64 hash);
/* The same, and the times are right too. */
const struct sim_state *sim_run_find_times(struct sim_run *r, u64 pos, u64 hash, u64 times);
u32 sim_run_floor(const struct sim_run *r, u64 pos);

/*
 * The promise of the clock: what was done so long ago (ns) is durable, though nobody asked for it.
 * It is the flush delay and, since the journal writes one flush after the other, the time that the
 * device and stalled threads may take for the one under way and for the one that is due.
 */
u64 sim_clock_bound_ns(const struct sim_cfg *cfg);

/*
 * For who makes a run by himself: the tree of the model is a state now; a state is durable now; an
 * operation that began at that position was done (the model takes it over), or failed with ret.
 */
void sim_run_add_state(struct sim_run *r, u64 begin_pos);
/* Only by the hash of its text: on the way of an operation, or of several at once. */
void sim_run_add_part(struct sim_run *r, u64 hash, u64 begin_pos);
void sim_run_add_floor(struct sim_run *r, u32 state);
/* Time has passed: what is old enough is durable. Not with faults, which may delay it. */
void sim_run_clock_floor(struct sim_run *r);
void sim_run_op_done(struct sim_run *r, const struct mop *op, u64 begin);
void sim_run_op_failed(struct sim_run *r, const struct mop *op, u64 begin, int ret);
/* It failed; nobody can say how far it came. Nothing more is asked. */
void sim_run_op_doubtful(struct sim_run *r, const struct mop *op, u64 begin, int ret);
/* What cfg.bulk and cfg.ballast ask for, outside of the model. */
void sim_run_make_bulk(struct sim_run *r);
void sim_run_touch_bulk(struct sim_run *r);
void sim_run_make_ballast(struct sim_run *r);
void sim_run_stir_ballast(struct sim_run *r);
void sim_ballast_fill(const struct sim_cfg *cfg, u64 offset, u8 *buf, u64 len);

struct sim_recovery {
	const struct sim_run *run;
	const struct sim_image *img;
	struct bdev *crashed; /* what it is the image of, at crash_pos */
	u64 crash_pos;
	u64 seed;
	bool keep_log;		       /* for crashes of the recovery itself */
	bool more;		       /* a few operations more, a clean close, and another look */
	bool ballast;		       /* what is in it, if it is stirred */
	bool offline;		       /* first a check of the image, twice: nothing is written */
	struct sim_counters *counters; /* of the recovery and the check, as "recovery.*" */
	/*
	 * For the next crash: something is changed and synced, then one operation more. The log is
	 * kept.
	 */
	bool again;
	unsigned turn;		     /* which */
	struct sim_handles *handles; /* of the history so far, with again: it goes on */
	u64 synced_pos;
	char *then[2]; /* the tree when synced, and at the end */
	/* Found. */
	struct env *env;
	struct bdev *bdev;
	u64 opened_pos; /* of its own log */
	char *text;
	u64 times; /* as of struct sim_state */
	int err;
	char msg[1024];
};

/* Opens, reads, checks. False: something is wrong, msg says what. */
bool sim_recover(struct sim_recovery *rec);
void sim_recovery_free(struct sim_recovery *rec);

/* What the environment, the device and the filesystem of a run and its recoveries are made with. */
void sim_schedule(struct env *env, const struct sim_cfg *cfg);
struct sim_bdev_opts sim_dev_opts(const struct sim_cfg *cfg);
struct bcfs_mkfs_opts sim_mkfs_opts(const struct sim_cfg *cfg);
struct core_opts sim_core_opts(const struct sim_cfg *cfg);
/* arg: the cfg. */
void sim_log_line(void *arg, enum bcfs_log_level level, const char *line);

/* Stops the test with a message that names the run. */
void sim_fail(const struct sim_run *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), noreturn));

#define sim_check(r, cond, fmt, ...)                                                               \
	do {                                                                                       \
		if (!(cond))                                                                       \
			sim_fail(r, fmt, ##__VA_ARGS__);                                           \
	} while (0)

/* Room for one more element of size bytes behind nr of them. */
void *sim_grow(void *p, unsigned nr, unsigned *max, size_t size);

#endif
