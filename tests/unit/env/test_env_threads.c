/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: threads, mutexes, conditions, work queues and RCU of the real
 * environment do what env.h says. Method: a plain program of races with known
 * outcomes, to be run as it is and under ThreadSanitizer.
 */
#include "env/env.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #cond);                 \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#define NR_THREADS 4

struct shared {
	struct env *env;
	struct env_mutex lock;
	struct env_cond cond;
	u64 count;
	u64 ids[NR_THREADS];
	u32 nr_ids;
	bool go;
};

static void count_thread(void *arg)
{
	struct shared *s = arg;

	env_mutex_lock(&s->lock);
	s->ids[s->nr_ids++] = env_thread_self_id(s->env);
	while (!s->go)
		env_cond_wait(&s->cond, &s->lock);
	env_mutex_unlock(&s->lock);
	for (int i = 0; i < 20000; i++) {
		if (!(i & 1) || !env_mutex_trylock(&s->lock))
			env_mutex_lock(&s->lock);
		s->count++;
		env_mutex_unlock(&s->lock);
	}
}

static void test_mutex(struct env *env)
{
	struct shared s = {.env = env};
	struct env_thread *t[NR_THREADS];

	env_mutex_init(&s.lock, env);
	env_cond_init(&s.cond, env);
	for (int i = 0; i < NR_THREADS; i++)
		CHECK(!env_thread_start(env, &t[i], "counter", count_thread, &s));
	env_mutex_lock(&s.lock);
	s.go = true;
	env_cond_broadcast(&s.cond);
	env_mutex_unlock(&s.lock);
	for (int i = 0; i < NR_THREADS; i++)
		env_thread_join(t[i]);
	CHECK(s.count == NR_THREADS * 20000);
	for (u32 i = 0; i < s.nr_ids; i++)
		for (u32 j = 0; j < i; j++)
			CHECK(s.ids[i] != s.ids[j]);
	env_cond_destroy(&s.cond);
	env_mutex_destroy(&s.lock);
}

static void test_timedwait(struct env *env)
{
	struct env_mutex lock;
	struct env_cond cond;
	u64 start = env_mono_ns(env);

	env_mutex_init(&lock, env);
	env_cond_init(&cond, env);
	env_mutex_lock(&lock);
	while (env_cond_timedwait(&cond, &lock, 20 * ENV_NSEC_PER_MSEC))
		;
	env_mutex_unlock(&lock);
	CHECK(env_mono_ns(env) - start >= 20 * ENV_NSEC_PER_MSEC);
	env_sleep_ns(env, ENV_NSEC_PER_MSEC);
	CHECK(env_mono_ns(env) - start >= 21 * ENV_NSEC_PER_MSEC);
	CHECK(env_real_ns(env) > 1600000000ULL * ENV_NSEC_PER_SEC);
	env_cond_destroy(&cond);
	env_mutex_destroy(&lock);
}

struct item {
	struct env_work work;
	struct env_workqueue *wq;
	u64 runs;     /* atomic */
	u32 inside;   /* atomic: must never be 2 */
	u32 requeues; /* left; only the work function touches it */
	bool free_me;
	u64 *freed;
};

static void item_fn(struct env_work *work)
{
	struct item *it = container_of(work, struct item, work);

	CHECK(__atomic_add_fetch(&it->inside, 1, __ATOMIC_SEQ_CST) == 1);
	__atomic_add_fetch(&it->runs, 1, __ATOMIC_SEQ_CST);
	if (it->requeues) {
		it->requeues--;
		env_wq_queue(it->wq, work);
	}
	__atomic_sub_fetch(&it->inside, 1, __ATOMIC_SEQ_CST);
	if (it->free_me) {
		__atomic_add_fetch(it->freed, 1, __ATOMIC_SEQ_CST);
		free(it);
	}
}

struct queuer {
	struct item *items;
	u32 nr;
	u64 queued; /* calls that said true */
};

static void queue_thread(void *arg)
{
	struct queuer *q = arg;

	for (u32 i = 0; i < 20000; i++)
		q->queued += env_wq_queue(q->items[0].wq, &q->items[i % q->nr].work);
}

static void test_wq(struct env *env)
{
	struct env_workqueue *wq = env_wq_create(env, "wq", NR_THREADS);
	struct item items[8] = {0};
	struct queuer q[2] = {{items, 8}, {items, 8}};
	struct env_thread *t[2];
	u64 runs = 0, freed = 0;

	CHECK(wq);
	for (int i = 0; i < 8; i++) {
		env_work_init(&items[i].work, item_fn);
		items[i].wq = wq;
	}
	for (int i = 0; i < 2; i++)
		CHECK(!env_thread_start(env, &t[i], "queuer", queue_thread, &q[i]));
	for (int i = 0; i < 2; i++)
		env_thread_join(t[i]);
	env_wq_flush(wq);
	for (int i = 0; i < 8; i++)
		runs += items[i].runs;
	CHECK(runs == q[0].queued + q[1].queued);

	for (int i = 0; i < 1000; i++) {
		struct item *it = calloc(1, sizeof(*it));

		CHECK(it);
		env_work_init(&it->work, item_fn);
		it->wq = wq;
		it->free_me = true;
		it->freed = &freed;
		CHECK(env_wq_queue(wq, &it->work));
	}
	items[0].requeues = 100;
	runs = items[0].runs;
	env_wq_queue(wq, &items[0].work);
	env_wq_destroy(wq); /* drains, requeued items too */
	CHECK(freed == 1000);
	CHECK(items[0].runs == runs + 101);
}

struct rcu_obj {
	struct rcu_head rcu;
	u64 value;
	u64 *freed;
};

struct rcu_shared {
	struct env *env;
	struct rcu_obj *ptr;
	bool stop;
};

static void rcu_free(struct rcu_head *head)
{
	struct rcu_obj *o = container_of(head, struct rcu_obj, rcu);

	o->value = 0xdead;
	(*o->freed)++;
	free(o);
}

static void rcu_reader(void *arg)
{
	struct rcu_shared *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
		env_rcu_read_lock(s->env);
		env_rcu_read_lock(s->env);
		CHECK(__atomic_load_n(&s->ptr, __ATOMIC_ACQUIRE)->value == 42);
		env_rcu_read_unlock(s->env);
		env_rcu_read_unlock(s->env);
	}
}

static struct rcu_obj *new_obj(u64 *freed)
{
	struct rcu_obj *o = calloc(1, sizeof(*o));

	CHECK(o);
	o->value = 42;
	o->freed = freed;
	return o;
}

static void test_rcu(struct env *env)
{
	u64 freed = 0;
	struct rcu_shared s = {.env = env, .ptr = new_obj(&freed)};
	struct env_thread *t[NR_THREADS];
	struct rcu_obj *old;

	for (int i = 0; i < NR_THREADS; i++)
		CHECK(!env_thread_start(env, &t[i], "reader", rcu_reader, &s));
	for (int i = 0; i < 2000; i++) {
		old = __atomic_exchange_n(&s.ptr, new_obj(&freed), __ATOMIC_ACQ_REL);
		if (i % 100) {
			env_call_rcu(env, &old->rcu, rcu_free);
		} else {
			env_synchronize_rcu(env);
			free(old);
		}
	}
	__atomic_store_n(&s.stop, true, __ATOMIC_RELEASE);
	for (int i = 0; i < NR_THREADS; i++)
		env_thread_join(t[i]);
	env_rcu_barrier(env);
	CHECK(freed == 2000 - 20);
	free(s.ptr);
}

static void test_memory(struct env *env)
{
	u8 *p = env_malloc_aligned(env, 4096, 100), *q = env_zalloc(env, 1000);
	u64 a = env_random_u64(env), b = env_random_u64(env);

	CHECK(p && !((uintptr_t)p & 4095) && q);
	for (int i = 0; i < 1000; i++)
		CHECK(!q[i]);
	q[999] = 7;
	q = env_realloc(env, q, 5000);
	CHECK(q && q[999] == 7);
	env_free(env, p);
	env_free(env, q);
	env_free(env, NULL);
	CHECK(a != b);
}

static void test_inject(struct env *env)
{
	u64 struck, hits = 0;

	CHECK(!env_inject(env, "a"));
	CHECK(!env_inject_parse(env, "a:3,b:2+,c:100%"));
	CHECK(env_inject_parse(env, "a:x") == -BCFS_ERR_invalid_option);
	CHECK(env_inject_parse(env, "nonsense") == -BCFS_ERR_invalid_option);
	for (int i = 1; i <= 5; i++) {
		CHECK(env_inject(env, "a") == (i == 3));
		CHECK(env_inject(env, "b") == (i >= 2));
		CHECK(env_inject(env, "c"));
		CHECK(!env_inject(env, "d"));
	}
	CHECK(env_inject_hits(env, "b", &struck) == 5 && struck == 4);
	env_inject_arm_random(env, "r", 500000);
	for (int i = 0; i < 1000; i++)
		hits += env_inject(env, "r");
	CHECK(hits > 300 && hits < 700);
	env_inject_disarm_all(env);
	CHECK(!env_inject(env, "b"));
}

static void count(void *arg)
{
	++*(unsigned *)arg;
}

/* Once, by whatever waits first in this thread; not by what does not wait. */
static void test_on_wait(struct env *env)
{
	struct env_mutex lock;
	struct env_cond cond;
	unsigned n = 0;

	env_mutex_init(&lock, env);
	env_cond_init(&cond, env);
	env_mutex_lock(&lock);
	for (unsigned way = 0; way < 3; way++) {
		env_thread_on_wait(count, &n);
		env_cond_signal(&cond);
		CHECK(n == way);
		for (unsigned i = 0; i < 2; i++) {
			if (way == 0)
				env_cond_timedwait(&cond, &lock, ENV_NSEC_PER_USEC);
			else if (way == 1)
				env_sleep_ns(env, ENV_NSEC_PER_USEC);
			else
				env_about_to_wait();
		}
		CHECK(n == way + 1);
	}
	env_thread_on_wait(count, &n);
	env_thread_on_wait(NULL, NULL);
	env_about_to_wait();
	CHECK(n == 3);
	env_mutex_unlock(&lock);
	env_cond_destroy(&cond);
	env_mutex_destroy(&lock);
}

static void test_inject_fatal(struct env *env)
{
	pid_t child = fork();
	int status;

	if (!child) {
		if (env_inject_parse(env, "a:2!") || env_inject(env, "a"))
			_exit(1);
		env_inject(env, "a");
		_exit(2);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int main(void)
{
	struct env *env, *second;

	CHECK(!env_real_create(&env));
	CHECK(!env_real_create(&second)); /* several in one process */
	test_mutex(env);
	test_timedwait(env);
	test_wq(env);
	test_rcu(env);
	test_rcu(second);
	test_memory(env);
	test_inject(env);
	test_on_wait(env);
	test_inject_fatal(env);
	env_real_destroy(second);
	env_real_destroy(env);
	return 0;
}
