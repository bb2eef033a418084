/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Work queues, on the primitives of env.h, so that one code serves both
 * environments: a list in order of queueing, and threads that take the first
 * item that is not running already. An item is known by its id: when its
 * function has freed it another may come to lie in its place, and whether it
 * does is malloc's business, which no order may depend on.
 */
#include "env/env_private.h"

struct wq_worker {
	struct env_workqueue *wq;
	struct env_thread *thread;
	u64 running; /* id of an item, which may be gone; 0: none */
	u64 seq;     /* of `running` */
};

struct env_workqueue {
	struct env *env;
	struct env_mutex lock; /* protects all below, and the items' fields */
	struct env_cond work;  /* something to do, or stop */
	struct env_cond done;  /* an item has run */
	struct env_work *head, *tail;
	u64 next_seq;
	bool stop;
	u32 nr_flushers;
	u32 nr_workers;
	struct wq_worker workers[];
};

static bool is_running(struct env_workqueue *wq, const struct env_work *work)
{
	for (u32 i = 0; i < wq->nr_workers; i++)
		if (wq->workers[i].running == work->id)
			return true;
	return false;
}

/* Takes the first item that may run now off the list. */
static struct env_work *take_work(struct env_workqueue *wq)
{
	struct env_work *prev = NULL, *w;

	for (w = wq->head; w && is_running(wq, w); w = w->next)
		prev = w;
	if (!w)
		return NULL;
	if (prev)
		prev->next = w->next;
	else
		wq->head = w->next;
	if (wq->tail == w)
		wq->tail = prev;
	w->queued = false;
	return w;
}

static void wq_worker_main(void *arg)
{
	struct wq_worker *me = arg;
	struct env_workqueue *wq = me->wq;

	env_mutex_lock(&wq->lock);
	for (;;) {
		struct env_work *work = take_work(wq);

		if (!work) {
			/* What remains is running elsewhere: its worker takes it next. */
			if (wq->stop && !wq->head)
				break;
			env_cond_wait(&wq->work, &wq->lock);
			continue;
		}
		me->running = work->id;
		me->seq = work->seq;
		env_mutex_unlock(&wq->lock);
		work->fn(work);
		env_mutex_lock(&wq->lock);
		me->running = 0;
		if (wq->nr_flushers)
			env_cond_broadcast(&wq->done);
		if (wq->stop)
			env_cond_broadcast(&wq->work);
	}
	env_mutex_unlock(&wq->lock);
}

struct env_workqueue *env_wq_create(struct env *env, const char *name, unsigned int nr_threads)
{
	struct env_workqueue *wq;

	assert(nr_threads > 0);
	wq = env_zalloc(env, sizeof(*wq) + nr_threads * sizeof(wq->workers[0]));
	if (!wq)
		return NULL;
	wq->env = env;
	env_mutex_init(&wq->lock, env);
	env_cond_init(&wq->work, env);
	env_cond_init(&wq->done, env);

	for (u32 i = 0; i < nr_threads; i++) {
		struct wq_worker *w = &wq->workers[i];

		w->wq = wq;
		env_mutex_lock(&wq->lock);
		if (!env_thread_start(env, &w->thread, name, wq_worker_main, w))
			wq->nr_workers++;
		env_mutex_unlock(&wq->lock);
		if (wq->nr_workers == i) {
			env_wq_destroy(wq);
			return NULL;
		}
	}
	return wq;
}

bool env_wq_queue(struct env_workqueue *wq, struct env_work *work)
{
	bool queued;

	env_mutex_lock(&wq->lock);
	queued = !work->queued;
	if (queued) {
		work->queued = true;
		work->seq = wq->next_seq++;
		work->id = work->id ?: wq->next_seq;
		work->next = NULL;
		if (wq->tail)
			wq->tail->next = work;
		else
			wq->head = work;
		wq->tail = work;
		env_cond_signal(&wq->work);
	}
	env_mutex_unlock(&wq->lock);
	return queued;
}

static bool all_done_before(struct env_workqueue *wq, u64 seq)
{
	if (wq->head && wq->head->seq < seq)
		return false;
	for (u32 i = 0; i < wq->nr_workers; i++)
		if (wq->workers[i].running && wq->workers[i].seq < seq)
			return false;
	return true;
}

void env_wq_flush(struct env_workqueue *wq)
{
	u64 seq;

	env_mutex_lock(&wq->lock);
	seq = wq->next_seq;
	wq->nr_flushers++;
	while (!all_done_before(wq, seq))
		env_cond_wait(&wq->done, &wq->lock);
	wq->nr_flushers--;
	env_mutex_unlock(&wq->lock);
}

void env_wq_destroy(struct env_workqueue *wq)
{
	if (!wq)
		return;
	env_mutex_lock(&wq->lock);
	wq->stop = true;
	env_cond_broadcast(&wq->work);
	env_mutex_unlock(&wq->lock);
	for (u32 i = 0; i < wq->nr_workers; i++)
		env_thread_join(wq->workers[i].thread);
	env_cond_destroy(&wq->done);
	env_cond_destroy(&wq->work);
	env_mutex_destroy(&wq->lock);
	env_free(wq->env, wq);
}
