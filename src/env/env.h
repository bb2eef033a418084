/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The outside world behind one struct: clock, randomness, memory, threads,
 * mutexes, work queues, RCU and fault points. Code of the core takes all of
 * these from here and none from libc, so that the same code runs
 *
 *  - in the real environment (env_real_create()): pthreads, the system's
 *    clocks, liburcu-bp; any number of environments in one process; or
 *  - in a simulation (env_sim.h): cooperative fibers in ONE OS thread, every
 *    choice drawn from one seed, a clock that moves only when all wait.
 *
 * Rules:
 *  1. `env->sim` is NULL in the real environment. It is what the inline fast
 *     paths test; nobody else looks at it.
 *  2. Nothing may depend on thread-local storage or on which OS thread runs:
 *     identity is env_thread_self_id() alone.
 *  3. Mutexes and conditions are embedded where they are used, initialised
 *     with the environment they live in, and own no heap memory.
 *  4. A fiber switches only at a blocking point: lock, wait, sleep, join,
 *     yield, waiting for I/O. Spinning without env_yield() hangs a simulation.
 *  5. Times are u64 nanoseconds, sizes bytes. Failures are codes of
 *     util/errcode.h; a failed allocation is NULL.
 *  6. An environment outlives every object that was initialised with it.
 */
#ifndef BCFS_ENV_ENV_H
#define BCFS_ENV_ENV_H

/* Inlines the read side; not under the sanitizers, which dislike how liburcu aligns its readers. */
#if !defined(_LGPL_SOURCE) && !defined(__SANITIZE_ADDRESS__)
#define _LGPL_SOURCE
#endif
#include <pthread.h>
#include <urcu/urcu-bp.h>

#include "util/types.h"
#include "util/errcode.h"

#define ENV_NSEC_PER_USEC 1000ULL
#define ENV_NSEC_PER_MSEC 1000000ULL
#define ENV_NSEC_PER_SEC  1000000000ULL

struct env_sim;
struct env_fiber;
struct env_thread;
struct env_workqueue;
struct env_rcu;
struct env_inject_table;

struct env {
	struct env_sim *sim;		 /* NULL in the real environment; const after creation */
	u32 inject_armed;		 /* armed points; relaxed reads in the fast path */
	struct env_inject_table *inject; /* has its own lock */
	struct env_rcu *rcu;		 /* callback queue of the real environment */
	void (*log)(void *ctx, const char *line); /* set before threads start */
	void *log_ctx;
};

/* The real environment; *ret is written only on success. */
int env_real_create(struct env **ret);
/* Waits for RCU callbacks; every thread and queue must be gone before. NULL is fine. */
void env_real_destroy(struct env *env);

/* Where env itself reports (a deadlock, a fault point that struck); one line, no newline. */
void env_set_log(struct env *env, void (*log)(void *ctx, const char *line), void *ctx);
void env_log(struct env *env, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- time ---- */

/* Never goes back; the origin means nothing. */
u64 env_mono_ns(struct env *env);
/*
 * Nanoseconds since 1970-01-01T00:00:00Z, as of the kernel's last tick: the clock that it gives
 * files their times by, with which ours are compared.
 */
u64 env_real_ns(struct env *env);
void env_sleep_ns(struct env *env, u64 ns);
/* A scheduling point: nothing much outside a simulation. */
void env_yield(struct env *env);

/* ---- randomness: the kernel's, or drawn from the simulation's seed ---- */

void env_random(struct env *env, void *buf, size_t len_bytes);
u64 env_random_u64(struct env *env);

/* ---- memory: NULL on failure; env_free takes NULL and any of the kinds ---- */

void *env_malloc(struct env *env, size_t size);
void *env_zalloc(struct env *env, size_t size);
/* As realloc; not for memory of env_malloc_aligned. */
void *env_realloc(struct env *env, void *p, size_t size);
/* align: a power of two, up to 64 KiB. */
void *env_malloc_aligned(struct env *env, size_t align, size_t size);
/* Large and long-lived, in huge pages where the system has them; aligned to 4096 at least. */
void *env_malloc_huge(struct env *env, size_t size);
/*
 * Part of such memory is not needed for now: what it holds may be gone, and it takes no room until
 * it is written again. @p and @size: multiples of 4096.
 */
void env_release_pages(struct env *env, void *p, size_t size);
void env_free(struct env *env, void *p);
/* What the machine has; 0: unknown. */
u64 env_ram_bytes(struct env *env);

/* ---- mutex and condition ---- */

/* A wait list of the simulation: fibers in order of arrival. */
struct env_fiber_list {
	struct env_fiber *head, *tail;
};

struct env_mutex {
	struct env_sim *sim;
	union {
		pthread_mutex_t real;
		struct {
			struct env_fiber *owner;
			struct env_fiber_list waiters;
		} fib;
	};
};

struct env_cond {
	struct env_sim *sim;
	union {
		pthread_cond_t real; /* on the monotonic clock */
		struct {
			struct env_fiber_list waiters;
		} fib;
	};
};

void env_mutex_init(struct env_mutex *m, struct env *env);
void env_mutex_destroy(struct env_mutex *m);
void env_cond_init(struct env_cond *c, struct env *env);
void env_cond_destroy(struct env_cond *c);

/* Simulated halves of the inline functions below; not for anyone else. */
void env_sim_mutex_lock(struct env_mutex *m);
bool env_sim_mutex_trylock(struct env_mutex *m);
void env_sim_mutex_unlock(struct env_mutex *m);
/* Where a SIX lock is tried, or was let go. */
void env_sim_lock_point(struct env_sim *sim);
void env_sim_rcu_read_lock(struct env_sim *sim);
void env_sim_rcu_read_unlock(struct env_sim *sim);

static inline void env_mutex_lock(struct env_mutex *m)
{
	if (likely(!m->sim))
		pthread_mutex_lock(&m->real);
	else
		env_sim_mutex_lock(m);
}

/* True when the lock was taken. */
static inline bool env_mutex_trylock(struct env_mutex *m)
{
	if (likely(!m->sim))
		return !pthread_mutex_trylock(&m->real);
	return env_sim_mutex_trylock(m);
}

static inline void env_mutex_unlock(struct env_mutex *m)
{
	if (likely(!m->sim))
		pthread_mutex_unlock(&m->real);
	else
		env_sim_mutex_unlock(m);
}

/* Both are called with m held and return with it held; wakeups may be spurious. */
void env_cond_wait(struct env_cond *c, struct env_mutex *m);
/* False when timeout_ns (relative) passed without a wakeup. */
bool env_cond_timedwait(struct env_cond *c, struct env_mutex *m, u64 timeout_ns);
void env_cond_signal(struct env_cond *c);
void env_cond_broadcast(struct env_cond *c);

/* ---- threads ---- */

/*
 * Has fn(arg) called by this thread, once, before it next waits: for a condition, a time, or (by
 * env_about_to_wait()) a device. fn is called with locks held, and must not wait for any of env's.
 * NULL: not any more. Not in simulation.
 */
void env_thread_on_wait(void (*fn)(void *arg), void *arg);
/* This thread is about to wait in a system call. */
void env_about_to_wait(void);

/* name: copied, 15 characters are kept. Every thread started is joined exactly once. */
int env_thread_start(struct env *env, struct env_thread **ret, const char *name,
		     void (*fn)(void *arg), void *arg);
void env_thread_join(struct env_thread *t);
/* The running thread or fiber: unique among those alive, never 0 inside env_thread_start's. */
u64 env_thread_self_id(struct env *env);

/* ---- work queues ---- */

/*
 * An item is queued at most once until it starts to run; from then on it may
 * be queued again (it never runs twice at the same time) or freed by its own
 * function: the queue does not touch it after fn was called.
 */
struct env_work {
	void (*fn)(struct env_work *work);
	struct env_work *next; /* protected by the queue's lock */
	u64 seq;	       /* ditto: order of queueing */
	u64 id;		       /* ditto: since env_work_init(); 0: never queued */
	bool queued;	       /* ditto */
};

static inline void env_work_init(struct env_work *work, void (*fn)(struct env_work *))
{
	work->fn = fn;
	work->next = NULL;
	work->seq = 0;
	work->id = 0;
	work->queued = false;
}

/* NULL when memory or threads could not be had. */
struct env_workqueue *env_wq_create(struct env *env, const char *name, unsigned int nr_threads);
/* False when the item was queued already. Callable from a work function. */
bool env_wq_queue(struct env_workqueue *wq, struct env_work *work);
/* Waits for everything queued before the call; not from one of its own work functions. */
void env_wq_flush(struct env_workqueue *wq);
/* Runs what is queued (also what those items queue), then ends. NULL is fine. */
void env_wq_destroy(struct env_workqueue *wq);

/* ---- RCU (liburcu-bp: threads register themselves) ---- */

#if defined(__SANITIZE_THREAD__)
#define ENV_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ENV_TSAN 1
#endif
#endif

#ifdef ENV_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define ENV_TSAN_ACQUIRE(p) __tsan_acquire((void *)(p))
#define ENV_TSAN_RELEASE(p) __tsan_release((void *)(p))
#else
#define ENV_TSAN_ACQUIRE(p) ((void)(p))
#define ENV_TSAN_RELEASE(p) ((void)(p))
#endif

/* Read sections nest and may block, but end on the thread or fiber that began them. */
static inline void env_rcu_read_lock(struct env *env)
{
	urcu_bp_read_lock();
	if (unlikely(env->sim))
		env_sim_rcu_read_lock(env->sim);
}

static inline void env_rcu_read_unlock(struct env *env)
{
	/* Not at what it points to: an unlock of a mutex there would forget what others released.
	 */
	ENV_TSAN_RELEASE(&env->rcu);
	if (unlikely(env->sim))
		env_sim_rcu_read_unlock(env->sim);
	urcu_bp_read_unlock();
}

/*
 * fn(head) runs once after every read section that is open now has ended, in a
 * thread (fiber) of its own, in the order of the calls. It may lock mutexes.
 */
void env_call_rcu(struct env *env, struct rcu_head *head, void (*fn)(struct rcu_head *head));
/* Waits until every callback queued before has run. Not inside a read section or callback. */
void env_rcu_barrier(struct env *env);
/* Waits for one grace period. Not inside a read section. */
void env_synchronize_rcu(struct env *env);

/* ---- fault points ---- */

/*
 * A named place where the code asks whether it shall fail (or restart) now.
 * Nothing is armed at first; a point that nobody armed is never true.
 */
bool env_inject_slow(struct env *env, const char *point);

/* Is any point armed? */
static inline bool env_inject_armed(const struct env *env)
{
	return __atomic_load_n(&env->inject_armed, __ATOMIC_RELAXED);
}

static inline bool env_inject(struct env *env, const char *point)
{
	if (likely(!env_inject_armed(env)))
		return false;
	return env_inject_slow(env, point);
}

/* True at the nth hit from now (1 = the next), and at all after it if sticky. nth 0 only counts. */
int env_inject_arm(struct env *env, const char *point, u64 nth, bool sticky);
/* True with a probability of ppm / 1,000,000 at every hit. */
int env_inject_arm_random(struct env *env, const char *point, u32 ppm);
/*
 * "name:nth", "name:nth+" (sticky), "name:nth!" (SIGKILL to the process itself) or "name:P%" (P
 * percent); several, separated by commas.
 */
int env_inject_parse(struct env *env, const char *spec);
/* Hits since the point was armed; struck: how many of them returned true (may be NULL). */
u64 env_inject_hits(struct env *env, const char *point, u64 *struck);
void env_inject_disarm_all(struct env *env);

#endif
