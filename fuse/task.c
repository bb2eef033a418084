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

struct inval {
	struct fuse_session *se;
	fuse_ino_t node;
	off_t off, len;
};

static void *inval_main(void *arg)
{
	const struct inval *i = arg;

	fuse_lowlevel_notify_inval_inode(i->se, i->node, i->off, i->len);
	return NULL;
}

/*
 * The kernel may keep the thread that asks for it from running until the pages are written, and not
 * even let io_uring tell it of its requests: what it has submitted to the device, be it for others,
 * does not end meanwhile, and who is to write the pages may wait for that. So it is a thread that
 * has submitted nothing.
 */
void pages_inval(struct daemon *d, fuse_ino_t node, off_t off, off_t len)
{
	struct inval i = {d->se, node, off, len};
	pthread_t thread;

	if (pthread_create(&thread, NULL, inval_main, &i))
		inval_main(&i);
	else
		pthread_join(thread, NULL);
}
