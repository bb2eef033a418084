/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulated environment: one OS thread, one seed, the same run every time.
 *
 * Threads are fibers (ucontext) with stacks and guard pages of their own. The
 * caller of env_sim_create() is fiber 1, "root": it may use every call of
 * env.h like any other fiber, so small tests need no env_sim_run(). At each
 * blocking point the next fiber is drawn from the seed among those that can
 * run. The clock stands still while any can; when all wait it jumps to the
 * next deadline (a sleep, a timed wait, or an event such as the completion of
 * an I/O). When all wait and there is no deadline, that is a deadlock: it is
 * logged with every fiber and what it waits for, and env_sim_run() returns
 * -BCFS_ERR_sim_deadlock (with no run under way the process aborts).
 *
 * Three streams of random numbers come from the seed: the scheduler's, the one
 * behind env_random(), and one for devices and faults. A test that asks for
 * random bytes therefore does not shift the schedule.
 *
 * After a deadlock or env_sim_stop() the fibers that did not end are abandoned
 * where they stand, and the environment runs nothing more: root may look at
 * what is left (device images) and calls env_sim_destroy(), which then frees
 * all memory that was had from env.
 *
 * Not thread-safe: an environment is used by the OS thread that made it.
 */
#ifndef BCFS_ENV_ENV_SIM_H
#define BCFS_ENV_ENV_SIM_H

#include "env/env.h"

/* NULL when there is no memory. */
struct env *env_sim_create(u64 seed);
void env_sim_destroy(struct env *env);

/*
 * Runs main(arg) as a fiber and returns 0 when it has returned; other fibers
 * stay as they are, and go on in a later run. Called by root only.
 */
int env_sim_run(struct env *env, void (*main)(void *arg), void *arg);
/*
 * Ends the run at once, from any fiber: env_sim_run() returns ret and nothing
 * else runs: the power cut. The calling fiber does not return from it.
 */
void env_sim_stop(struct env *env, int ret) __attribute__((noreturn));

/* After a deadlock, the time limit or env_sim_stop(): nothing blocks or runs any more. */
bool env_sim_is_stopped(const struct env *env);

/*
 * Stacks of fibers, for one environment after the other: to make and to unmap them costs more than
 * many a short run. Set before the first fiber; the pool outlives the environments.
 */
struct env_sim_stacks;
struct env_sim_stacks *env_sim_stacks_create(void); /* NULL: no memory */
void env_sim_stacks_destroy(struct env_sim_stacks *pool);
void env_sim_use_stacks(struct env *env, struct env_sim_stacks *pool);

u64 env_sim_seed(const struct env *env);
/* Of 1024 uncontended mutex_lock and yield-like points, how many switch. Default 64. */
void env_sim_set_preempt(struct env *env, u32 per_1024);
/* Once any fault point (env.h) is armed, each of them is such a point too: they lie amid locks. */
void env_sim_set_preempt_points(struct env *env, bool on);
/*
 * Of 1024 times that a mutex was let go, or a SIX lock tried or let go, at how many another runs:
 * who lets go too early is not done before the others have seen it. Default 0.
 */
void env_sim_set_preempt_locks(struct env *env, u32 per_1024);
/*
 * Of 1024 scheduling points, at how many does the clock jump to the next event
 * although fibers could run, so that I/O completes amid computation. Default 0.
 */
void env_sim_set_eager_events(struct env *env, u32 per_1024);
/*
 * Of a million such points, at how many the fiber is not run again for up to max_ns, as a thread
 * whose processor is wanted elsewhere: what is a moment for one is long for the others. Default 0.
 */
void env_sim_set_stalls(struct env *env, u32 ppm, u64 max_ns);
/* Only at the points of fibers of this name, which the caller keeps; NULL: of all. */
void env_sim_set_stalls_of(struct env *env, const char *name);
/* A run that passes this time (of env_mono_ns) ends with -BCFS_ERR_sim_time_limit. 0: none. */
void env_sim_set_time_limit(struct env *env, u64 mono_ns);
/*
 * A run goes round without end when no call of env_sim_progress() comes for so many scheduling
 * decisions, or for so long: it ends with -BCFS_ERR_sim_no_progress, and every fiber is logged with
 * what it waits for. 0, 0: no limit. (Who never gives way is not met by this: nobody else runs.)
 */
void env_sim_set_progress_limit(struct env *env, u64 switches, u64 ns);
void env_sim_progress(struct env *env);

/* What env_ram_bytes() says. Default 16 GiB. */
void env_sim_set_ram(struct env *env, u64 bytes);

/* The stream of random numbers for devices and faults. */
u64 env_sim_random(struct env *env);

/* Hash over every scheduling decision so far: equal for equal runs. */
u64 env_sim_schedule_hash(const struct env *env);
u64 env_sim_nr_switches(const struct env *env);

/*
 * An event: fn is called by the scheduler when the clock reaches its time, on
 * the stack of whatever fiber is switching: it may wake (signal, complete) but
 * must not block. Events of one time run in the order they were added.
 */
struct env_sim_event {
	u64 when_ns;
	u64 seq;
	void (*fn)(struct env_sim_event *ev);
	u32 heap_idx; /* 1-based; 0 when not pending */
};

void env_sim_event_add(struct env *env, struct env_sim_event *ev, u64 delay_ns);
void env_sim_event_cancel(struct env *env, struct env_sim_event *ev);

/* Allocations: the kth from now fails (1 = the next), all after it too if sticky; 0 disarms. */
void env_sim_fail_alloc(struct env *env, u64 kth, bool sticky);
/* How many allocations were asked for so far. */
u64 env_sim_nr_allocs(const struct env *env);
/* Blocks and bytes allocated and not freed. */
u64 env_sim_live_allocs(const struct env *env, u64 *bytes);

#endif
