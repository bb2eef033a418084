/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: the simulated environment is deterministic, keeps time, finds
 * deadlocks, and its primitives mean what env.h says. Method: small programs of
 * fibers, run over many seeds; two runs of one seed must be alike.
 */
#include "env/env_sim.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NR_SEEDS 50

static u64 first_seed(void)
{
	const char *s = getenv("BCFS_TEST_SEED");

	return s ? strtoull(s, NULL, 0) : 1;
}

struct lines {
	char text[4096];
};

static void collect(void *ctx, const char *line)
{
	struct lines *l = ctx;
	size_t len = strlen(l->text);

	snprintf(l->text + len, sizeof(l->text) - len, "%s\n", line);
}

/* ---- a program with everything in it, for determinism ---- */

struct prog {
	struct env *env;
	struct env_mutex lock;
	struct env_cond cond;
	struct env_workqueue *wq;
	struct env_work work[4];
	u32 count, inside, works;
	char order[512];
};

static struct prog *work_prog;

static void prog_work(struct env_work *work)
{
	work_prog->works++;
	env_sleep_ns(work_prog->env, env_random_u64(work_prog->env) % 1000);
}

static void prog_fiber(void *arg)
{
	struct prog *p = arg;
	u64 me = env_thread_self_id(p->env);

	for (int i = 0; i < 20; i++) {
		size_t len;

		env_mutex_lock(&p->lock);
		cr_assert_eq(p->inside++, 0);
		len = strlen(p->order);
		snprintf(p->order + len, sizeof(p->order) - len, "%c", (char)('a' + me % 26));
		env_yield(p->env);
		if (i % 4 == 3)
			env_sleep_ns(p->env, env_random_u64(p->env) % 5000);
		p->inside--;
		p->count++;
		env_cond_signal(&p->cond);
		env_mutex_unlock(&p->lock);
		env_wq_queue(p->wq, &p->work[i % 4]);
	}
}

static void prog_main(void *arg)
{
	struct prog *p = arg;
	struct env_thread *t[4];

	env_mutex_init(&p->lock, p->env);
	env_cond_init(&p->cond, p->env);
	p->wq = env_wq_create(p->env, "wq", 2);
	for (int i = 0; i < 4; i++)
		env_work_init(&p->work[i], prog_work);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(env_thread_start(p->env, &t[i], "fiber", prog_fiber, p), 0);
	env_mutex_lock(&p->lock);
	while (p->count < 80)
		env_cond_wait(&p->cond, &p->lock);
	env_mutex_unlock(&p->lock);
	for (int i = 0; i < 4; i++)
		env_thread_join(t[i]);
	env_wq_destroy(p->wq);
	env_cond_destroy(&p->cond);
	env_mutex_destroy(&p->lock);
}

static u64 run_prog(u64 seed, u32 eager, char *order)
{
	struct prog p = {0};
	u64 hash;

	p.env = env_sim_create(seed);
	work_prog = &p;
	env_sim_set_eager_events(p.env, eager);
	cr_assert_eq(env_sim_run(p.env, prog_main, &p), 0, "seed %llu", (unsigned long long)seed);
	cr_assert(p.works >= 4);
	cr_assert_eq(env_sim_live_allocs(p.env, NULL), 0);
	hash = env_sim_schedule_hash(p.env) ^ env_mono_ns(p.env) ^ env_random_u64(p.env);
	strcpy(order, p.order);
	env_sim_destroy(p.env);
	return hash;
}

Test(env_sim, same_seed_same_run)
{
	char a[512], b[512], last[512] = "";
	u32 nr_different = 0;

	for (u64 seed = first_seed(); seed < first_seed() + NR_SEEDS; seed++) {
		u64 h = run_prog(seed, seed % 2 ? 0 : 100, a);

		cr_assert_eq(h, run_prog(seed, seed % 2 ? 0 : 100, b), "seed %llu",
			     (unsigned long long)seed);
		cr_assert_str_eq(a, b);
		nr_different += !!strcmp(a, last);
		strcpy(last, a);
	}
	cr_assert(nr_different > NR_SEEDS / 2, "the seed makes no difference");
}

/* ---- work ---- */

/* What an item's function makes in the item's place is another one: it runs beside the function. */
struct in_place {
	struct env *env;
	struct env_workqueue *wq;
	struct env_mutex lock;
	struct env_cond cond;
	struct env_work work;
	bool ran;
};

static void second_work(struct env_work *work)
{
	struct in_place *p = container_of(work, struct in_place, work);

	env_mutex_lock(&p->lock);
	p->ran = true;
	env_cond_signal(&p->cond);
	env_mutex_unlock(&p->lock);
}

static void first_work(struct env_work *work)
{
	struct in_place *p = container_of(work, struct in_place, work);

	env_work_init(&p->work, second_work);
	cr_assert(env_wq_queue(p->wq, &p->work));
	env_mutex_lock(&p->lock);
	while (!p->ran)
		env_cond_wait(&p->cond, &p->lock);
	env_mutex_unlock(&p->lock);
}

static void in_place_main(void *arg)
{
	struct in_place *p = arg;

	env_mutex_init(&p->lock, p->env);
	env_cond_init(&p->cond, p->env);
	p->wq = env_wq_create(p->env, "wq", 2);
	env_work_init(&p->work, first_work);
	env_wq_queue(p->wq, &p->work);
	env_wq_flush(p->wq);
	env_wq_destroy(p->wq);
	env_cond_destroy(&p->cond);
	env_mutex_destroy(&p->lock);
}

Test(env_sim, work_in_the_place_of_work)
{
	struct in_place p = {.env = env_sim_create(1)};

	cr_assert_eq(env_sim_run(p.env, in_place_main, &p), 0);
	cr_assert(p.ran);
	env_sim_destroy(p.env);
}

/* ---- time ---- */

Test(env_sim, clock_moves_only_when_all_wait)
{
	struct env *env = env_sim_create(7);
	u64 start = env_mono_ns(env), real = env_real_ns(env);

	for (int i = 0; i < 100; i++)
		env_yield(env);
	cr_assert_eq(env_mono_ns(env), start);
	env_sleep_ns(env, 12345);
	cr_assert_eq(env_mono_ns(env), start + 12345);
	cr_assert_eq(env_real_ns(env), real + 12345);
	env_sim_destroy(env);
}

static void sleeper(void *arg)
{
	struct prog *p = arg;

	env_sleep_ns(p->env, 1000);
	env_mutex_lock(&p->lock);
	p->count++;
	env_cond_signal(&p->cond);
	env_mutex_unlock(&p->lock);
}

Test(env_sim, timedwait)
{
	struct prog p = {.env = env_sim_create(first_seed())};
	struct env_thread *t;
	u64 start = env_mono_ns(p.env);

	env_mutex_init(&p.lock, p.env);
	env_cond_init(&p.cond, p.env);
	env_mutex_lock(&p.lock);
	cr_assert_not(env_cond_timedwait(&p.cond, &p.lock, 500));
	cr_assert_eq(env_mono_ns(p.env), start + 500);
	cr_assert_eq(env_thread_start(p.env, &t, "sleeper", sleeper, &p), 0);
	cr_assert(env_cond_timedwait(&p.cond, &p.lock, 5000));
	cr_assert_eq(env_mono_ns(p.env), start + 1500);
	env_mutex_unlock(&p.lock);
	env_thread_join(t);
	cr_assert(env_mutex_trylock(&p.lock));
	cr_assert_not(env_mutex_trylock(&p.lock));
	env_mutex_unlock(&p.lock);
	env_cond_destroy(&p.cond);
	env_mutex_destroy(&p.lock);
	env_sim_destroy(p.env);
}

struct tick {
	struct env_sim_event ev;
	struct env *env;
	u64 *log;
	u32 *nr;
};

static void tick_fn(struct env_sim_event *ev)
{
	struct tick *t = container_of(ev, struct tick, ev);

	t->log[(*t->nr)++] = env_mono_ns(t->env);
}

Test(env_sim, events_in_order)
{
	struct env *env = env_sim_create(3);
	struct tick ticks[200];
	u64 log[200];
	u32 nr = 0, nr_cancelled = 0;

	for (u32 i = 0; i < 200; i++) {
		ticks[i] = (struct tick){.ev.fn = tick_fn, .env = env, .log = log, .nr = &nr};
		env_sim_event_add(env, &ticks[i].ev, env_random_u64(env) % 1000);
	}
	for (u32 i = 0; i < 200; i += 3, nr_cancelled++)
		env_sim_event_cancel(env, &ticks[i].ev);
	env_sim_event_cancel(env, &ticks[0].ev); /* twice is fine */
	env_sleep_ns(env, 1000);
	cr_assert_eq(nr, 200 - nr_cancelled);
	for (u32 i = 1; i < nr; i++)
		cr_assert(log[i - 1] <= log[i]);
	env_sim_destroy(env);
}

/* ---- deadlock, stop, limit ---- */

struct two_locks {
	struct env *env;
	struct env_mutex a, b;
};

static void lock_ab(void *arg)
{
	struct two_locks *l = arg;

	env_mutex_lock(&l->a);
	env_sleep_ns(l->env, 10);
	env_mutex_lock(&l->b);
}

static void lock_ba(void *arg)
{
	struct two_locks *l = arg;

	env_malloc(l->env, 100); /* held by an abandoned fiber: freed with env */
	env_mutex_lock(&l->b);
	env_sleep_ns(l->env, 10);
	env_mutex_lock(&l->a);
}

static void deadlock_main(void *arg)
{
	struct two_locks *l = arg;
	struct env_thread *t;

	env_mutex_init(&l->a, l->env);
	env_mutex_init(&l->b, l->env);
	cr_assert_eq(env_thread_start(l->env, &t, "ab", lock_ab, l), 0);
	lock_ba(l);
	env_thread_join(t);
}

Test(env_sim, deadlock_is_reported)
{
	struct lines lines = {""};
	struct two_locks l = {.env = env_sim_create(5)};

	env_set_log(l.env, collect, &lines);
	cr_assert_eq(env_sim_run(l.env, deadlock_main, &l), -BCFS_ERR_sim_deadlock);
	cr_assert(strstr(lines.text, "'ab' waits for mutex"), "%s", lines.text);
	cr_assert(strstr(lines.text, "'main' waits for mutex"), "%s", lines.text);
	env_sim_destroy(l.env);
}

static void stop_fiber(void *arg)
{
	struct env *env = arg;

	env_sleep_ns(env, 500);
	env_sim_stop(env, 17);
}

static void stop_main(void *arg)
{
	struct env *env = arg;
	struct env_thread *t;

	env_rcu_read_lock(env); /* must not leak into later runs */
	cr_assert_eq(env_thread_start(env, &t, "stop", stop_fiber, env), 0);
	env_sleep_ns(env, 1000);
	cr_assert_fail("ran after the power cut");
}

Test(env_sim, stop_is_a_power_cut)
{
	for (int i = 0; i < 20; i++) {
		struct env *env = env_sim_create((u64)i);

		cr_assert_eq(env_sim_run(env, stop_main, env), 17);
		cr_assert_eq(env_mono_ns(env), ENV_NSEC_PER_SEC + 500);
		env_sim_destroy(env);
	}
	urcu_bp_synchronize_rcu(); /* hangs if a read section was left open */
}

static void forever(void *arg)
{
	for (;;)
		env_sleep_ns(arg, ENV_NSEC_PER_SEC);
}

Test(env_sim, time_limit)
{
	struct lines lines = {""};
	struct env *env = env_sim_create(1);

	env_set_log(env, collect, &lines);
	env_sim_set_time_limit(env, 100 * ENV_NSEC_PER_SEC);
	cr_assert_eq(env_sim_run(env, forever, env), -BCFS_ERR_sim_time_limit);
	env_sim_destroy(env);
}

/* Gives way all the time, and gets nowhere: no time passes. */
static void livelock(void *arg)
{
	while (true)
		env_yield(arg);
}

/* Asks again and again, and says so. */
static void slow_but_moving(void *arg)
{
	for (unsigned i = 0; i < 10000; i++) {
		env_yield(arg);
		env_sleep_ns(arg, ENV_NSEC_PER_SEC);
		if (i % 50 == 0)
			env_sim_progress(arg);
	}
}

static int run_with_limit(void (*fn)(void *), u64 switches, u64 ns)
{
	struct env *env = env_sim_create(3);
	int ret;

	env_sim_set_progress_limit(env, switches, ns);
	ret = env_sim_run(env, fn, env);
	env_sim_destroy(env);
	return ret;
}

Test(env_sim, no_progress)
{
	cr_assert_eq(run_with_limit(livelock, 1000, 0), -BCFS_ERR_sim_no_progress);
	cr_assert_eq(run_with_limit(forever, 0, 100 * ENV_NSEC_PER_SEC), -BCFS_ERR_sim_no_progress);
	cr_assert_eq(run_with_limit(slow_but_moving, 1000, 100 * ENV_NSEC_PER_SEC), 0);
}

/* ---- RCU ---- */

struct rcu_obj {
	struct rcu_head rcu;
	struct env *env;
	bool *alive;
};

struct rcu_prog {
	struct env *env;
	bool alive[64];
	u32 current;
	u32 ended;
};

static void obj_free(struct rcu_head *head)
{
	struct rcu_obj *o = container_of(head, struct rcu_obj, rcu);

	*o->alive = false;
	env_free(o->env, o);
}

static void rcu_reader(void *arg)
{
	struct rcu_prog *p = arg;

	for (int i = 0; i < 30; i++) {
		u32 seen;

		env_rcu_read_lock(p->env);
		seen = p->current;
		env_yield(p->env);
		env_sleep_ns(p->env, env_random_u64(p->env) % 100);
		cr_assert(p->alive[seen], "freed inside a read section");
		env_rcu_read_unlock(p->env);
		env_yield(p->env);
	}
	p->ended++;
}

static void rcu_main(void *arg)
{
	struct rcu_prog *p = arg;
	struct env_thread *t[3];

	p->alive[0] = true;
	for (int i = 0; i < 3; i++)
		cr_assert_eq(env_thread_start(p->env, &t[i], "reader", rcu_reader, p), 0);
	for (u32 i = 1; i < 64; i++) {
		struct rcu_obj *o = env_zalloc(p->env, sizeof(*o));

		o->env = p->env;
		o->alive = &p->alive[i - 1];
		p->alive[i] = true;
		p->current = i;
		env_call_rcu(p->env, &o->rcu, obj_free);
		env_sleep_ns(p->env, env_random_u64(p->env) % 100);
		if (i % 16 == 0) {
			env_synchronize_rcu(p->env);
			cr_assert_not(p->alive[i - 1]);
		}
	}
	env_rcu_barrier(p->env);
	for (u32 i = 0; i < 63; i++)
		cr_assert_not(p->alive[i]);
	for (int i = 0; i < 3; i++)
		env_thread_join(t[i]);
}

Test(env_sim, rcu)
{
	for (u64 seed = first_seed(); seed < first_seed() + NR_SEEDS; seed++) {
		struct rcu_prog p = {.env = env_sim_create(seed)};

		cr_assert_eq(env_sim_run(p.env, rcu_main, &p), 0);
		cr_assert_eq(p.ended, 3);
		cr_assert_eq(env_sim_live_allocs(p.env, NULL), 0);
		env_sim_destroy(p.env);
	}
}

/* ---- allocation failures, fault points ---- */

Test(env_sim, allocations_fail)
{
	struct env *env = env_sim_create(1);
	void *p[6];
	u64 bytes;

	env_sim_fail_alloc(env, 2, false);
	for (int i = 0; i < 3; i++)
		p[i] = env_malloc(env, 10);
	cr_assert(p[0] && !p[1] && p[2]);
	env_sim_fail_alloc(env, 2, true);
	for (int i = 3; i < 6; i++)
		p[i] = env_malloc_aligned(env, 4096, 10);
	cr_assert(p[3] && !p[4] && !p[5]);
	cr_assert_eq((uintptr_t)p[3] & 4095, 0);
	env_sim_fail_alloc(env, 0, false);
	cr_assert_eq(env_sim_nr_allocs(env), 6);
	p[0] = env_realloc(env, p[0], 1000);
	cr_assert_eq(env_sim_live_allocs(env, &bytes), 3);
	cr_assert_eq(bytes, 1020);
	for (int i = 0; i < 6; i++)
		env_free(env, p[i]);
	cr_assert_eq(env_sim_live_allocs(env, &bytes), 0);
	env_sim_destroy(env);
}

Test(env_sim, inject_from_the_seed)
{
	char runs[2][101] = {"", ""};

	for (int r = 0; r < 2; r++) {
		struct env *env = env_sim_create(99);

		cr_assert_not(env_inject(env, "trans_restart"));
		cr_assert_eq(env_inject_arm_random(env, "trans_restart", 200000), 0);
		for (int i = 0; i < 100; i++)
			runs[r][i] = env_inject(env, "trans_restart") ? 'x' : '.';
		env_sim_destroy(env);
	}
	cr_assert_str_eq(runs[0], runs[1]);
	cr_assert(strchr(runs[0], 'x') && strchr(runs[0], '.'));
}
