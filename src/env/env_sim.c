/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The scheduler of the simulated environment: who runs next, when the clock
 * moves, what a deadlock is.
 */
#include "env/env_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- random numbers: xoshiro256**, seeded by splitmix64 ---- */

static u64 splitmix(u64 *x)
{
	u64 z = (*x += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static u64 rotl(u64 x, int k)
{
	return (x << k) | (x >> (64 - k));
}

void sim_rng_seed(struct sim_rng *rng, u64 seed)
{
	for (int i = 0; i < 4; i++)
		rng->s[i] = splitmix(&seed);
}

u64 sim_rng_next(struct sim_rng *rng)
{
	u64 *s = rng->s, ret = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return ret;
}

/* ---- wait lists ---- */

static void list_add(struct env_fiber_list *list, struct env_fiber *f)
{
	f->wait_next = NULL;
	if (list->tail)
		list->tail->wait_next = f;
	else
		list->head = f;
	list->tail = f;
}

static void list_remove(struct env_fiber_list *list, struct env_fiber *f)
{
	struct env_fiber **p = &list->head, *prev = NULL;

	while (*p != f) {
		prev = *p;
		p = &prev->wait_next;
	}
	*p = f->wait_next;
	if (list->tail == f)
		list->tail = prev;
	f->wait_next = NULL;
}

static void make_runnable(struct env_fiber *f)
{
	struct env_sim *s = f->sim;

	f->state = FIBER_RUNNABLE;
	if (s->nr_runnable == s->max_runnable) {
		s->max_runnable = max(32U, s->max_runnable * 2);
		s->runnable = realloc(s->runnable, s->max_runnable * sizeof(s->runnable[0]));
		if (!s->runnable)
			abort();
	}
	s->runnable[s->nr_runnable++] = f;
}

void sim_wake(struct env_fiber *f)
{
	assert(f->state == FIBER_WAITING);
	if (f->waiting_in)
		list_remove(f->waiting_in, f);
	f->waiting_in = NULL;
	sim_event_remove(f->sim, &f->timer);
	make_runnable(f);
}

void sim_wake_one(struct env_sim *s, struct env_fiber_list *list)
{
	struct env_fiber *f = list->head;
	u32 nr = 0;

	if (!f)
		return;
	for (; f; f = f->wait_next)
		nr++;
	nr = nr > 1 ? (u32)(sim_rng_next(&s->rng_sched) % nr) : 0;
	for (f = list->head; nr; nr--)
		f = f->wait_next;
	sim_wake(f);
}

void sim_wake_all(struct env_fiber_list *list)
{
	while (list->head)
		sim_wake(list->head);
}

static void timer_fired(struct env_sim_event *ev)
{
	struct env_fiber *f = container_of(ev, struct env_fiber, timer);

	f->timed_out = true;
	sim_wake(f);
}

/* ---- the scheduler ---- */

static void fire_event(struct env_sim *s)
{
	struct env_sim_event *ev = sim_event_pop(s);
	struct env_fiber *cur = s->cur;

	if (ev->when_ns > s->now_ns)
		s->now_ns = ev->when_ns;
	s->cur = &s->event_fiber;
	s->in_event = true;
	ev->fn(ev);
	s->in_event = false;
	s->cur = cur;
}

static void log_waiting(struct env_sim *s, const struct env_fiber *f)
{
	if (f->state == FIBER_WAITING)
		env_log(&s->env, "simulation:   fiber %llu '%s' waits for %s %p",
			(unsigned long long)f->id, f->name, f->wait_what, f->wait_obj);
	else
		env_log(&s->env, "simulation:   fiber %llu '%s' can run", (unsigned long long)f->id,
			f->name);
}

static void log_fibers(struct env_sim *s, const char *why)
{
	env_log(&s->env, "simulation: %s at %llu ns, seed %llu", why, (unsigned long long)s->now_ns,
		(unsigned long long)s->seed);
	log_waiting(s, &s->root);
	for (struct env_fiber *f = s->fibers; f; f = f->all_next)
		if (f->state != FIBER_DONE)
			log_waiting(s, f);
}

/* Nothing runs any more but root, which is given back to whoever called env_sim_run(). */
static struct env_fiber *end_run(struct env_sim *s, int ret)
{
	s->stopped = true;
	s->run_ret = ret;
	s->nr_runnable = 0;
	sim_events_clear(s);
	sim_rcu_abandon(s);
	if (s->root.state == FIBER_WAITING && s->root.waiting_in)
		list_remove(s->root.waiting_in, &s->root);
	s->root.waiting_in = NULL;
	s->root.state = FIBER_RUNNABLE;
	return &s->root;
}

static struct env_fiber *fail_run(struct env_sim *s, int err, const char *why)
{
	log_fibers(s, why);
	if (!s->running)
		abort(); /* root itself waits, and there is nobody to tell */
	return end_run(s, err);
}

static bool no_progress(const struct env_sim *s)
{
	return (s->limit_switches && s->nr_switches - s->progress_switches > s->limit_switches) ||
	       (s->limit_ns && s->now_ns - s->progress_ns > s->limit_ns);
}

static struct env_fiber *pick_next(struct env_sim *s)
{
	struct env_fiber *f;
	u32 i;

	if (s->running && no_progress(s))
		return fail_run(s, -BCFS_ERR_sim_no_progress, "no progress");
	for (;;) {
		sim_rcu_poll(s);
		if (s->nr_runnable && s->eager && s->nr_events &&
		    sim_rng_next(&s->rng_sched) % 1024 < s->eager) {
			fire_event(s);
			continue;
		}
		if (s->nr_runnable)
			break;
		if (!s->nr_events)
			return fail_run(s, -BCFS_ERR_sim_deadlock, "deadlock: every fiber waits");
		if (s->time_limit_ns && sim_event_top(s)->when_ns > s->time_limit_ns)
			return fail_run(s, -BCFS_ERR_sim_time_limit, "time limit passed");
		/* All that is due at this moment, so that the choice is among all it wakes. */
		do
			fire_event(s);
		while (s->nr_events && sim_event_top(s)->when_ns <= s->now_ns);
	}
	i = s->nr_runnable > 1 ? (u32)(sim_rng_next(&s->rng_sched) % s->nr_runnable) : 0;
	f = s->runnable[i];
	s->runnable[i] = s->runnable[--s->nr_runnable];
	return f;
}

/* The running fiber has put itself where it waits; returns when it runs again. */
static void schedule(struct env_sim *s)
{
	struct env_fiber *next;

	if (s->in_event) {
		env_log(&s->env, "simulation: an event function blocks");
		abort();
	}
	next = pick_next(s);
	s->nr_switches++;
	s->sched_hash = rotl(s->sched_hash ^ (next->id * 0x9e3779b97f4a7c15ULL), 23) + s->now_ns;
	if (next != s->cur)
		sim_fiber_switch(s, next);
}

bool sim_wait(struct env_sim *s, struct env_fiber_list *list, u64 timeout_ns, const char *what,
	      const void *obj)
{
	struct env_fiber *f = s->cur;

	f->state = FIBER_WAITING;
	f->timed_out = false;
	f->wait_what = what;
	f->wait_obj = obj;
	f->waiting_in = list;
	if (list)
		list_add(list, f);
	if (timeout_ns != UINT64_MAX)
		env_sim_event_add(&s->env, &f->timer, timeout_ns);
	schedule(s);
	return !f->timed_out;
}

void sim_yield(struct env_sim *s)
{
	if (s->in_event)
		return;
	make_runnable(s->cur);
	schedule(s);
}

static u64 stall_ns(struct env_sim *s)
{
	if (!s->stall_ppm || s->cur == &s->root || s->cur->rcu_nest ||
	    (s->stall_name && strcmp(s->cur->name, s->stall_name) != 0) ||
	    sim_rng_next(&s->rng_sched) % 1000000 >= s->stall_ppm)
		return 0;
	return 1 + sim_rng_next(&s->rng_sched) % s->stall_max_ns;
}

void sim_preempt(struct env_sim *s)
{
	u64 stall = s->in_event ? 0 : stall_ns(s);

	if (stall)
		sim_wait(s, NULL, stall, "its turn", NULL);
	if (s->nr_runnable && !s->in_event && s->preempt &&
	    sim_rng_next(&s->rng_sched) % 1024 < s->preempt)
		sim_yield(s);
}

void env_sim_lock_point(struct env_sim *s)
{
	if (s->preempt_locks && s->nr_runnable && !s->in_event && !s->stopped &&
	    sim_rng_next(&s->rng_sched) % 1024 < s->preempt_locks)
		sim_yield(s);
}

/* ---- fibers ---- */

void sim_fiber_main(struct env_fiber *f)
{
	f->fn(f->arg);
	if (f->rcu_nest) {
		env_log(&f->sim->env, "simulation: fiber '%s' ends inside an RCU read section",
			f->name);
		abort();
	}
	sim_wake_all(&f->joiners);
	f->state = FIBER_DONE;
	schedule(f->sim);
	abort();
}

struct env_fiber *sim_fiber_start(struct env_sim *s, const char *name, void (*fn)(void *),
				  void *arg)
{
	struct env_fiber *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->sim = s;
	f->id = s->next_id++;
	f->fn = fn;
	f->arg = arg;
	f->timer.fn = timer_fired;
	snprintf(f->name, sizeof(f->name), "%s", name);
	if (sim_fiber_prepare(f)) {
		free(f);
		return NULL;
	}
	f->all_next = s->fibers;
	if (s->fibers)
		s->fibers->all_prev = f;
	s->fibers = f;
	make_runnable(f);
	return f;
}

void sim_fiber_join(struct env_fiber *f)
{
	while (f->state != FIBER_DONE)
		sim_wait(f->sim, &f->joiners, UINT64_MAX, "the end of fiber", f->name);
	sim_fiber_free(f);
}

void sim_fiber_free(struct env_fiber *f)
{
	struct env_sim *s = f->sim;

	if (f->all_prev)
		f->all_prev->all_next = f->all_next;
	else
		s->fibers = f->all_next;
	if (f->all_next)
		f->all_next->all_prev = f->all_prev;
	sim_fiber_release(f);
	free(f);
}

/* ---- public ---- */

struct env *env_sim_create(u64 seed)
{
	struct env_sim *s = calloc(1, sizeof(*s));
	u64 x = seed;

	if (!s)
		return NULL;
	s->env.sim = s;
	if (env_init_common(&s->env)) {
		free(s);
		return NULL;
	}
	env_set_log(&s->env, NULL, NULL);
	s->seed = seed;
	sim_rng_seed(&s->rng_sched, splitmix(&x));
	sim_rng_seed(&s->rng_user, splitmix(&x));
	sim_rng_seed(&s->rng_dev, splitmix(&x));
	s->now_ns = ENV_NSEC_PER_SEC;
	s->preempt = 64;
	s->ram_bytes = 16ULL << 30;
	s->root = (struct env_fiber){.sim = s, .id = 1, .name = "root", .timer.fn = timer_fired};
	s->event_fiber = (struct env_fiber){.sim = s, .name = "event"};
	s->cur = &s->root;
	s->next_id = 2;
	s->rcu_tail = &s->rcu_head;
	s->allocs.next = s->allocs.prev = &s->allocs;
	sim_fiber_root_init(&s->root);
	return &s->env;
}

void env_sim_destroy(struct env *env)
{
	struct env_sim *s;

	if (!env)
		return;
	s = env->sim;
	assert(s->cur == &s->root);
	if (!s->stopped && s->rcu_fiber)
		env_rcu_barrier(env);
	while (s->fibers)
		sim_fiber_free(s->fibers);
	sim_rcu_abandon(s);
	sim_events_clear(s);
	if (s->stopped)
		sim_free_all(s);
	sim_fiber_root_exit(&s->root);
	env_exit_common(env);
	free(s->heap);
	free(s->runnable);
	free(s);
}

int env_sim_run(struct env *env, void (*main)(void *arg), void *arg)
{
	struct env_sim *s = env->sim;
	struct env_fiber *f;

	assert(s->cur == &s->root && !s->running && !s->stopped);
	f = sim_fiber_start(s, "main", main, arg);
	if (!f)
		return -BCFS_ERR_thread_start;
	s->running = true;
	s->run_ret = 0;
	while (f->state != FIBER_DONE && !s->stopped)
		sim_wait(s, &f->joiners, UINT64_MAX, "the end of the run", NULL);
	s->running = false;
	if (f->state == FIBER_DONE)
		sim_fiber_free(f);
	return s->run_ret;
}

void env_sim_stop(struct env *env, int ret)
{
	struct env_sim *s = env->sim;

	assert(s->running && s->cur != &s->root && !s->in_event);
	s->cur->state = FIBER_WAITING;
	s->cur->wait_what = "power";
	sim_fiber_switch(s, end_run(s, ret));
	abort();
}

bool env_sim_is_stopped(const struct env *env)
{
	return env->sim->stopped;
}
u64 env_sim_seed(const struct env *env)
{
	return env->sim->seed;
}
void env_sim_set_preempt(struct env *env, u32 per_1024)
{
	env->sim->preempt = per_1024;
}
void env_sim_set_preempt_locks(struct env *env, u32 per_1024)
{
	env->sim->preempt_locks = per_1024;
}
void env_sim_set_preempt_points(struct env *env, bool on)
{
	env->sim->preempt_points = on;
}

void env_sim_set_eager_events(struct env *env, u32 per_1024)
{
	env->sim->eager = per_1024;
}
void env_sim_set_stalls(struct env *env, u32 ppm, u64 max_ns)
{
	env->sim->stall_ppm = max_ns ? ppm : 0;
	env->sim->stall_max_ns = max_ns;
}
void env_sim_set_stalls_of(struct env *env, const char *name)
{
	env->sim->stall_name = name;
}
void env_sim_set_ram(struct env *env, u64 bytes)
{
	env->sim->ram_bytes = bytes;
}
void env_sim_set_time_limit(struct env *env, u64 mono_ns)
{
	env->sim->time_limit_ns = mono_ns;
}
void env_sim_set_progress_limit(struct env *env, u64 switches, u64 ns)
{
	env->sim->limit_switches = switches;
	env->sim->limit_ns = ns;
	env_sim_progress(env);
}
void env_sim_progress(struct env *env)
{
	env->sim->progress_switches = env->sim->nr_switches;
	env->sim->progress_ns = env->sim->now_ns;
}
u64 env_sim_random(struct env *env)
{
	return sim_rng_next(&env->sim->rng_dev);
}
u64 env_sim_schedule_hash(const struct env *env)
{
	return env->sim->sched_hash;
}
u64 env_sim_nr_switches(const struct env *env)
{
	return env->sim->nr_switches;
}
