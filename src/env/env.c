/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The real environment's clock, randomness and threads, and the calls that
 * choose between the two environments.
 */
#include "env/env_private.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static void log_stderr(void *ctx, const char *line)
{
	fprintf(stderr, "bcfs: %s\n", line);
}

void env_set_log(struct env *env, void (*log)(void *ctx, const char *line), void *ctx)
{
	env->log = log ? log : log_stderr;
	env->log_ctx = ctx;
}

void env_log(struct env *env, const char *fmt, ...)
{
	char line[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	env->log(env->log_ctx, line);
}

static ssize_t random_some(void *buf, size_t len)
{
	ssize_t ret;

	do
		ret = getrandom(buf, min_t(size_t, len, 256), 0);
	while (ret < 0 && errno == EINTR);
	return ret;
}

int env_real_create(struct env **ret)
{
	struct env *env = calloc(1, sizeof(*env));
	char probe;
	int err;

	if (!env)
		return -BCFS_ERR_nomem;
	if (random_some(&probe, 1) != 1) {
		free(env);
		return -BCFS_ERR_random_source;
	}
	err = env_init_common(env);
	if (!err)
		err = env_rcu_start(env);
	if (err) {
		env_exit_common(env);
		free(env);
		return err;
	}
	env_set_log(env, NULL, NULL);
	*ret = env;
	return 0;
}

void env_real_destroy(struct env *env)
{
	if (!env)
		return;
	env_rcu_stop(env);
	env_exit_common(env);
	free(env);
}

/* ---- time ---- */

static u64 clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (u64)ts.tv_sec * ENV_NSEC_PER_SEC + (u64)ts.tv_nsec;
}

u64 env_mono_ns(struct env *env)
{
	return likely(!env->sim) ? clock_ns(CLOCK_MONOTONIC) : env->sim->now_ns;
}

/* The simulated calendar begins on 2026-01-01. */
#define SIM_EPOCH_NS (1767225600ULL * ENV_NSEC_PER_SEC)

u64 env_real_ns(struct env *env)
{
	return likely(!env->sim) ? clock_ns(CLOCK_REALTIME_COARSE)
				 : SIM_EPOCH_NS + env->sim->now_ns;
}

u64 env_ram_bytes(struct env *env)
{
	long pages, size;

	if (env->sim)
		return env->sim->ram_bytes;
	pages = sysconf(_SC_PHYS_PAGES);
	size = sysconf(_SC_PAGESIZE);
	return pages > 0 && size > 0 ? (u64)pages * (u64)size : 0;
}

void env_sleep_ns(struct env *env, u64 ns)
{
	struct timespec ts;

	if (env->sim) {
		sim_wait(env->sim, NULL, ns, "sleep", NULL);
		return;
	}
	env_about_to_wait();
	ts.tv_sec = (time_t)(ns / ENV_NSEC_PER_SEC);
	ts.tv_nsec = (long)(ns % ENV_NSEC_PER_SEC);
	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR)
		;
}

void env_yield(struct env *env)
{
	if (unlikely(env->sim))
		sim_yield(env->sim);
	else
		sched_yield();
}

/* ---- randomness ---- */

void env_random(struct env *env, void *buf, size_t len)
{
	u8 *p = buf;

	if (env->sim) {
		for (; len; len--)
			*p++ = (u8)(sim_rng_next(&env->sim->rng_user) >> 32);
		return;
	}
	while (len) {
		ssize_t got = random_some(p, len);

		if (got <= 0)
			abort(); /* it worked when the environment was made */
		p += got;
		len -= (size_t)got;
	}
}

u64 env_random_u64(struct env *env)
{
	u64 v;

	if (env->sim)
		return sim_rng_next(&env->sim->rng_user);
	env_random(env, &v, sizeof(v));
	return v;
}

/* ---- memory ---- */

void *env_malloc(struct env *env, size_t size)
{
	if (unlikely(env->sim))
		return sim_alloc(env->sim, 16, size, false);
	return malloc(size ? size : 1);
}

void *env_zalloc(struct env *env, size_t size)
{
	if (unlikely(env->sim))
		return sim_alloc(env->sim, 16, size, true);
	return calloc(1, size ? size : 1);
}

void *env_realloc(struct env *env, void *p, size_t size)
{
	void *n;

	if (likely(!env->sim))
		return realloc(p, size ? size : 1);
	n = sim_alloc(env->sim, 16, size, false);
	if (n && p) {
		memcpy(n, p, min(size, sim_alloc_size(p)));
		sim_free(env->sim, p);
	}
	return n;
}

void *env_malloc_aligned(struct env *env, size_t align, size_t size)
{
	void *p;

	assert(is_power_of_2(align) && align <= 65536);
	align = max_t(size_t, align, 16);
	if (unlikely(env->sim))
		return sim_alloc(env->sim, align, size, false);
	return posix_memalign(&p, align, size ? size : 1) ? NULL : p;
}

#define HUGE_PAGE_BYTES (2UL << 20)

void *env_malloc_huge(struct env *env, size_t size)
{
	void *p;

	if (unlikely(env->sim) || size < HUGE_PAGE_BYTES)
		return env_malloc_aligned(env, 4096, size);
	if (posix_memalign(&p, HUGE_PAGE_BYTES, size))
		return NULL;
	/* a wish, no more */
	(void)madvise(p, size, MADV_HUGEPAGE);
	return p;
}

void env_release_pages(struct env *env, void *p, size_t size)
{
	if (likely(!env->sim))
		(void)madvise(p, size, MADV_DONTNEED);
}

void env_free(struct env *env, void *p)
{
	if (unlikely(env->sim))
		sim_free(env->sim, p);
	else
		free(p);
}

/* ---- threads ---- */

static void *thread_main(void *arg)
{
	struct env_thread *t = arg;

	pthread_setname_np(pthread_self(), t->name);
	t->fn(t->arg);
	return NULL;
}

/* Signals are for the threads that the application made itself. */
static int start_pthread(struct env_thread *t)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGABRT);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&t->real, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err ? -BCFS_ERR_thread_start : 0;
}

int env_thread_start(struct env *env, struct env_thread **ret, const char *name,
		     void (*fn)(void *arg), void *arg)
{
	struct env_thread *t = env_zalloc(env, sizeof(*t));
	int err = 0;

	if (!t)
		return -BCFS_ERR_nomem;
	t->env = env;
	t->fn = fn;
	t->arg = arg;
	snprintf(t->name, sizeof(t->name), "%s", name);
	if (env->sim) {
		t->fiber = sim_fiber_start(env->sim, name, fn, arg);
		if (!t->fiber)
			err = -BCFS_ERR_thread_start;
	} else {
		err = start_pthread(t);
	}
	if (err) {
		env_free(env, t);
		return err;
	}
	*ret = t;
	return 0;
}

void env_thread_join(struct env_thread *t)
{
	struct env *env = t->env;

	if (env->sim)
		sim_fiber_join(t->fiber);
	else
		pthread_join(t->real, NULL);
	env_free(env, t);
}

u64 env_thread_self_id(struct env *env)
{
	/* A cache of what the kernel knows, not state. */
	static __thread u64 tid;

	if (env->sim)
		return env->sim->cur->id;
	if (unlikely(!tid))
		tid = (u64)gettid();
	return tid;
}
