// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "task.h"

static void *task_main(void *arg)
{
	struct task *t = arg;
	struct daemon *d = req_daemon(t->req);

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
	struct daemon *d = req_daemon(task->req);
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
	fuse_reply_err(task->req, ret);
	return false;
}

void tasks_wait(struct daemon *d)
{
	pthread_mutex_lock(&d->tasks_lock);
	while (d->nr_tasks)
		pthread_cond_wait(&d->tasks_done, &d->tasks_lock);
	pthread_mutex_unlock(&d->tasks_lock);
}
