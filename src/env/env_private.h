/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of env/ share: the scheduler's state and the seams between
 * the two implementations. For no other folder.
 */
#ifndef BCFS_ENV_ENV_PRIVATE_H
#define BCFS_ENV_ENV_PRIVATE_H

#include "env/env.h"
#include "env/env_sim.h"

#include <ucontext.h>

#define ENV_NAME_MAX 16

struct env_thread {
	struct env *env;
	void (*fn)(void *arg);
	void *arg;
	char name[ENV_NAME_MAX];
	pthread_t real;
	struct env_fiber *fiber;
};

/* Both implementations begin and end with these. */
int env_init_common(struct env *env);
void env_exit_common(struct env *env);

/* ---- real RCU queue (env_rcu.c) ---- */

int env_rcu_start(struct env *env);
void env_rcu_stop(struct env *env);

/* ---- simulation ---- */

enum fiber_state {
	FIBER_RUNNABLE, /* running, or in sim->runnable */
	FIBER_WAITING,
	FIBER_DONE,
};

struct env_fiber {
	struct env_sim *sim;
	u64 id;
	char name[ENV_NAME_MAX];
	enum fiber_state state;
	void (*fn)(void *arg);
	void *arg;

	struct env_fiber *all_prev, *all_next; /* sim->fibers */

	/* While waiting. */
	struct env_fiber_list *waiting_in; /* may be NULL */
	struct env_fiber *wait_next;
	struct env_sim_event timer;
	bool timed_out;
	const char *wait_what;
	const void *wait_obj;

	struct env_fiber_list joiners;
	u32 rcu_nest;

	ucontext_t ctx;
	void *stack; /* usable part, above the guard page; NULL for root */
	size_t stack_size;
	void *asan_fake_stack;
	const void *asan_bottom;
	size_t asan_size;
	void *tsan_fiber;
};

/* Before every allocation of a simulation. */
struct sim_alloc {
	struct sim_alloc *prev, *next;
	void *base; /* what libc gave */
	size_t size;
	u64 magic;
	u64 pad;
};

struct sim_rng {
	u64 s[4];
};

/* Of one size. */
#define SIM_STACKS_MAX 64
struct env_sim_stacks {
	u32 nr;
	void *stack[SIM_STACKS_MAX];
};

struct env_sim {
	struct env env;
	u64 seed;
	struct sim_rng rng_sched, rng_user, rng_dev;
	u64 now_ns;
	u64 ram_bytes;
	u64 time_limit_ns;
	u64 limit_switches, limit_ns;	    /* without progress; 0: none */
	u64 progress_switches, progress_ns; /* at the last */
	bool preempt_points;
	u32 preempt, eager; /* of 1024 */
	u32 preempt_locks;  /* ditto */
	u32 stall_ppm;
	u64 stall_max_ns;
	const char *stall_name; /* only fibers of this name; NULL: all */

	struct env_fiber root;
	struct env_fiber event_fiber; /* stands for "the scheduler" while an event runs */
	struct env_fiber *cur, *prev;
	struct env_fiber *fibers; /* all but root and event_fiber */
	u64 next_id;
	struct env_fiber **runnable;
	u32 nr_runnable, max_runnable;
	struct env_sim_stacks *stacks; /* kept for the next fiber; NULL: no memory for them */
	bool owns_stacks;

	struct env_sim_event **heap; /* 1-based binary heap by (when_ns, seq) */
	u32 nr_events, max_events;
	u64 next_event_seq;

	bool running; /* env_sim_run() is under way */
	bool stopped; /* env_sim_stop() or a deadlock happened */
	bool in_event;
	int run_ret;
	u64 nr_switches;
	u64 sched_hash;

	/* RCU: callbacks in order; readers over all fibers. */
	u64 rcu_readers;
	struct rcu_head *rcu_head, **rcu_tail;
	u64 rcu_queued, rcu_done;
	struct env_fiber *rcu_fiber;
	bool rcu_idle;
	struct env_fiber_list rcu_waiters; /* of barriers */

	struct sim_alloc allocs; /* list head */
	u64 nr_allocs, nr_live, live_bytes;
	u64 alloc_fail_at;
	bool alloc_fail_sticky;
};

u64 sim_rng_next(struct sim_rng *rng);
void sim_rng_seed(struct sim_rng *rng, u64 seed);

void *sim_alloc(struct env_sim *s, size_t align, size_t size, bool zero);
void sim_free(struct env_sim *s, void *p);
size_t sim_alloc_size(void *p);
void sim_free_all(struct env_sim *s);

/* NULL when there is no memory; the fiber is runnable. */
struct env_fiber *sim_fiber_start(struct env_sim *s, const char *name, void (*fn)(void *),
				  void *arg);
void sim_fiber_join(struct env_fiber *f);
void sim_fiber_free(struct env_fiber *f);
/* The running fiber waits; false when the timeout (ns; UINT64_MAX: none) passed. */
bool sim_wait(struct env_sim *s, struct env_fiber_list *list, u64 timeout_ns, const char *what,
	      const void *obj);
void sim_wake(struct env_fiber *f);
/* Wakes one (a seeded choice) or all of a list. */
void sim_wake_one(struct env_sim *s, struct env_fiber_list *list);
void sim_wake_all(struct env_fiber_list *list);
void sim_yield(struct env_sim *s);
/* Yields sometimes. */
void sim_preempt(struct env_sim *s);
/* Makes the RCU fiber runnable when callbacks may run. */
void sim_rcu_poll(struct env_sim *s);
/* Ends the read sections of abandoned fibers. */
void sim_rcu_abandon(struct env_sim *s);

/* The machine part of a fiber (env_fiber.c). */
int sim_fiber_prepare(struct env_fiber *f);
void sim_fiber_release(struct env_fiber *f);
void sim_fiber_switch(struct env_sim *s, struct env_fiber *to);
void sim_fiber_root_init(struct env_fiber *root);
void sim_fiber_root_exit(struct env_fiber *root);
/* Where a new fiber begins: never returns. */
void sim_fiber_main(struct env_fiber *f) __attribute__((noreturn));

/* Ordered events (env_events.c). */
struct env_sim_event *sim_event_top(struct env_sim *s);
struct env_sim_event *sim_event_pop(struct env_sim *s);
void sim_event_insert(struct env_sim *s, struct env_sim_event *ev, u64 when_ns);
void sim_event_remove(struct env_sim *s, struct env_sim_event *ev);
void sim_events_clear(struct env_sim *s);

#endif
