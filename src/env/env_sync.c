/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mutexes and conditions: the slow halves of env.h's inlines, and both halves
 * of the conditions. A simulated mutex is an owner and a wait list; unlock
 * wakes one waiter of the seed's choice, which then competes like anybody else.
 */
#include "env/env_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void env_mutex_init(struct env_mutex *m, struct env *env)
{
	m->sim = env->sim;
	if (m->sim) {
		m->fib.owner = NULL;
		m->fib.waiters = (struct env_fiber_list){NULL, NULL};
	} else {
		pthread_mutex_init(&m->real, NULL);
	}
}

void env_mutex_destroy(struct env_mutex *m)
{
	if (!m->sim)
		pthread_mutex_destroy(&m->real);
	else
		assert(m->sim->stopped || (!m->fib.owner && !m->fib.waiters.head));
}

void env_sim_mutex_lock(struct env_mutex *m)
{
	struct env_sim *s = m->sim;

	if (m->fib.owner == s->cur) {
		env_log(&s->env, "simulation: fiber '%s' locks mutex %p twice", s->cur->name,
			(void *)m);
		abort();
	}
	sim_preempt(s);
	while (m->fib.owner)
		sim_wait(s, &m->fib.waiters, UINT64_MAX, "mutex", m);
	m->fib.owner = s->cur;
}

bool env_sim_mutex_trylock(struct env_mutex *m)
{
	sim_preempt(m->sim);
	if (m->fib.owner)
		return false;
	m->fib.owner = m->sim->cur;
	return true;
}

static void sim_mutex_release(struct env_mutex *m)
{
	assert(m->fib.owner == m->sim->cur);
	m->fib.owner = NULL;
	sim_wake_one(m->sim, &m->fib.waiters);
}

void env_sim_mutex_unlock(struct env_mutex *m)
{
	struct env_sim *s = m->sim;

	sim_mutex_release(m);
	/* From here on it may be gone. */
	env_sim_lock_point(s);
}

void env_cond_init(struct env_cond *c, struct env *env)
{
	pthread_condattr_t attr;

	c->sim = env->sim;
	if (c->sim) {
		c->fib.waiters = (struct env_fiber_list){NULL, NULL};
		return;
	}
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->real, &attr);
	pthread_condattr_destroy(&attr);
}

void env_cond_destroy(struct env_cond *c)
{
	if (!c->sim)
		pthread_cond_destroy(&c->real);
	else
		assert(c->sim->stopped || !c->fib.waiters.head);
}

static __thread struct {
	void (*fn)(void *arg);
	void *arg;
} on_wait;

void env_thread_on_wait(void (*fn)(void *arg), void *arg)
{
	on_wait.fn = fn;
	on_wait.arg = arg;
}

void env_about_to_wait(void)
{
	void (*fn)(void *arg) = on_wait.fn;

	on_wait.fn = NULL;
	if (unlikely(fn))
		fn(on_wait.arg);
}

static bool sim_cond_wait(struct env_cond *c, struct env_mutex *m, u64 timeout_ns)
{
	struct env_sim *s = c->sim;
	bool woken;

	assert(m->fib.owner == s->cur);
	sim_mutex_release(m);
	woken = sim_wait(s, &c->fib.waiters, timeout_ns, "condition", c);
	while (m->fib.owner)
		sim_wait(s, &m->fib.waiters, UINT64_MAX, "mutex", m);
	m->fib.owner = s->cur;
	return woken;
}

void env_cond_wait(struct env_cond *c, struct env_mutex *m)
{
	if (unlikely(c->sim)) {
		sim_cond_wait(c, m, UINT64_MAX);
		return;
	}
	env_about_to_wait();
	pthread_cond_wait(&c->real, &m->real);
}

bool env_cond_timedwait(struct env_cond *c, struct env_mutex *m, u64 timeout_ns)
{
	struct timespec ts;
	u64 ns;

	if (c->sim)
		return sim_cond_wait(c, m, min(timeout_ns, UINT64_MAX - 1));
	env_about_to_wait();
	clock_gettime(CLOCK_MONOTONIC, &ts);
	/* A century is as good as for ever, and does not overflow. */
	timeout_ns = min(timeout_ns, 100ULL * 365 * 86400 * ENV_NSEC_PER_SEC);
	ns = (u64)ts.tv_nsec + timeout_ns % ENV_NSEC_PER_SEC;
	ts.tv_sec += (time_t)(timeout_ns / ENV_NSEC_PER_SEC + ns / ENV_NSEC_PER_SEC);
	ts.tv_nsec = (long)(ns % ENV_NSEC_PER_SEC);
	return !pthread_cond_timedwait(&c->real, &m->real, &ts);
}

void env_cond_signal(struct env_cond *c)
{
	if (likely(!c->sim))
		pthread_cond_signal(&c->real);
	else
		sim_wake_one(c->sim, &c->fib.waiters);
}

void env_cond_broadcast(struct env_cond *c)
{
	if (likely(!c->sim))
		pthread_cond_broadcast(&c->real);
	else
		sim_wake_all(&c->fib.waiters);
}
