// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "loop.h"
#include "task.h"

struct daemon *task_daemon(const struct task *t)
{
	return t->req ? req_daemon(t->req) : t->raw_d;
}

void task_reply(const struct task *t, int code)
{
	if (t->req)
		reply_code(t->req, code);
	else
		raw_reply(t->raw_d, t->raw_unique, code);
}

static void *task_main(void *arg)
{
	struct task *t = arg;
	struct daemon *d = task_daemon(t);

	t->fn(t);
	free(t);
	pthread_mutex_lock(&d->tasks_lock);
	d->nr_tasks--;
	pthread_cond_signal(&d->tasks_done);
	pthread_mutex_unlock(&d->tasks_lock);
	return NULL;
}

bool task_start(const struct task *task)
{
	struct daemon *d = task_daemon(task);
	struct task *t = malloc(sizeof(*t));
	pthread_t thread;
	int ret = ENOMEM;

	if (t) {
		*t = *task;
		pthread_mutex_lock(&d->tasks_lock);
		d->nr_tasks++;
		pthread_mutex_unlock(&d->tasks_lock);
		ret = pthread_create(&thread, NULL, task_main, t);
	}
	if (!ret) {
		pthread_detach(thread);
		return true;
	}
	if (t) {
		pthread_mutex_lock(&d->tasks_lock);
		d->nr_tasks--;
		pthread_mutex_unlock(&d->tasks_lock);
	}
	free(t);
	if (task->req)
		fuse_reply_err(task->req, ret);
	else
		raw_reply_errno(d, task->raw_unique, ret);
	return false;
}

void tasks_wait(struct daemon *d)
{
	pthread_mutex_lock(&d->tasks_lock);
	while (d->nr_tasks)
		pthread_cond_wait(&d->tasks_done, &d->tasks_lock);
	pthread_mutex_unlock(&d->tasks_lock);
}
