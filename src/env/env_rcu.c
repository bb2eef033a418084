/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * RCU callbacks. The real environment has one thread of its own: it takes all
 * that is queued, waits for one grace period of liburcu-bp and runs them in
 * order. (liburcu's own call_rcu thread is per process; with ours an
 * environment can be drained and destroyed, and several do not meet.)
 *
 * In simulation a fiber does the same; it becomes runnable only when callbacks
 * wait and no fiber is inside a read section.
 */
#include "env/env_private.h"

#include <stdlib.h>

struct env_rcu {
	struct env *env;
	pthread_mutex_t lock;
	pthread_cond_t work; /* to the thread: something is queued, or stop */
	pthread_cond_t done; /* from the thread: nr_done moved */
	struct rcu_head *head, **tail;
	u64 nr_queued, nr_done;
	bool stop;
	struct env_thread *thread;
};

/* Callbacks are chained through liburcu's own link field. */
static struct rcu_head *cb_next(struct rcu_head *head)
{
	return (struct rcu_head *)(void *)head->next.next;
}

static struct rcu_head **cb_next_ptr(struct rcu_head *head)
{
	_Static_assert(offsetof(struct rcu_head, next) == 0, "the link comes first");
	return (struct rcu_head **)(void *)&head->next.next;
}

static void run_callbacks(struct rcu_head *head, u64 *nr)
{
	while (head) {
		struct rcu_head *next = cb_next(head);

		head->func(head);
		(*nr)++;
		head = next;
	}
}

static void rcu_thread(void *arg)
{
	struct env_rcu *r = arg;

	pthread_mutex_lock(&r->lock);
	for (;;) {
		struct rcu_head *head = r->head;
		u64 nr = 0;

		if (!head) {
			if (r->stop)
				break;
			pthread_cond_wait(&r->work, &r->lock);
			continue;
		}
		r->head = NULL;
		r->tail = &r->head;
		pthread_mutex_unlock(&r->lock);

		urcu_bp_synchronize_rcu();
		ENV_TSAN_ACQUIRE(&r->env->rcu);
		run_callbacks(head, &nr);

		pthread_mutex_lock(&r->lock);
		r->nr_done += nr;
		pthread_cond_broadcast(&r->done);
	}
	pthread_mutex_unlock(&r->lock);
}

int env_rcu_start(struct env *env)
{
	struct env_rcu *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return -BCFS_ERR_nomem;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->work, NULL);
	pthread_cond_init(&r->done, NULL);
	r->tail = &r->head;
	r->env = env;
	env->rcu = r;
	ret = env_thread_start(env, &r->thread, "bcfs-rcu", rcu_thread, r);
	if (ret) {
		env->rcu = NULL;
		free(r);
	}
	return ret;
}

void env_rcu_stop(struct env *env)
{
	struct env_rcu *r = env->rcu;

	pthread_mutex_lock(&r->lock);
	r->stop = true;
	pthread_cond_signal(&r->work);
	pthread_mutex_unlock(&r->lock);
	env_thread_join(r->thread);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->work);
	pthread_cond_destroy(&r->done);
	env->rcu = NULL;
	free(r);
}

/* ---- simulation ---- */

static bool sim_rcu_may_run(struct env_sim *s)
{
	return s->rcu_head && !s->rcu_readers;
}

static void sim_rcu_fiber(void *arg)
{
	struct env_sim *s = arg;

	for (;;) {
		struct rcu_head *head;

		while (!sim_rcu_may_run(s)) {
			s->rcu_idle = true;
			sim_wait(s, NULL, UINT64_MAX, "rcu callbacks", NULL);
		}
		head = s->rcu_head;
		s->rcu_head = NULL;
		s->rcu_tail = &s->rcu_head;
		run_callbacks(head, &s->rcu_done);
		sim_wake_all(&s->rcu_waiters);
	}
}

void sim_rcu_poll(struct env_sim *s)
{
	if (s->rcu_idle && sim_rcu_may_run(s)) {
		s->rcu_idle = false;
		sim_wake(s->rcu_fiber);
	}
}

void sim_rcu_abandon(struct env_sim *s)
{
	for (; s->rcu_readers; s->rcu_readers--)
		urcu_bp_read_unlock();
}

void env_sim_rcu_read_lock(struct env_sim *s)
{
	s->cur->rcu_nest++;
	s->rcu_readers++;
}

void env_sim_rcu_read_unlock(struct env_sim *s)
{
	assert(s->cur->rcu_nest);
	s->cur->rcu_nest--;
	s->rcu_readers--;
}

static void sim_call_rcu(struct env_sim *s, struct rcu_head *head)
{
	if (!s->rcu_fiber) {
		s->rcu_fiber = sim_fiber_start(s, "rcu", sim_rcu_fiber, s);
		if (!s->rcu_fiber)
			abort();
	}
	*s->rcu_tail = head;
	s->rcu_tail = cb_next_ptr(head);
	s->rcu_queued++;
}

/* ---- both ---- */

void env_call_rcu(struct env *env, struct rcu_head *head, void (*fn)(struct rcu_head *head))
{
	struct env_rcu *r = env->rcu;

	head->func = fn;
	*cb_next_ptr(head) = NULL;
	if (env->sim) {
		sim_call_rcu(env->sim, head);
		return;
	}
	pthread_mutex_lock(&r->lock);
	if (!r->head)
		pthread_cond_signal(&r->work);
	*r->tail = head;
	r->tail = cb_next_ptr(head);
	r->nr_queued++;
	pthread_mutex_unlock(&r->lock);
}

void env_rcu_barrier(struct env *env)
{
	struct env_sim *s = env->sim;
	struct env_rcu *r = env->rcu;
	u64 target;

	if (s) {
		assert(!s->cur->rcu_nest);
		for (target = s->rcu_queued; s->rcu_done < target;)
			sim_wait(s, &s->rcu_waiters, UINT64_MAX, "rcu barrier", NULL);
		return;
	}
	pthread_mutex_lock(&r->lock);
	for (target = r->nr_queued; r->nr_done < target;)
		pthread_cond_wait(&r->done, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static void noop_callback(struct rcu_head *head) {}

void env_synchronize_rcu(struct env *env)
{
	struct rcu_head head;

	if (env->sim) {
		env_call_rcu(env, &head, noop_callback);
		env_rcu_barrier(env);
		return;
	}
	urcu_bp_synchronize_rcu();
	ENV_TSAN_ACQUIRE(&env->rcu);
}
