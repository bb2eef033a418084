/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The engine that works everywhere: a pool of threads, each of which takes a
 * request and does it with blocking system calls.
 */
#include "dev/bdev_private.h"

#define DEFAULT_THREADS 8

static void work_fn(struct env_work *work)
{
	struct bdev_io *io = container_of(work, struct bdev_io, work);

	bdev_file_blocking(container_of(io->bdev, struct bdev_file, b), io);
}

static int threads_start(struct bdev_file *f, const struct bdev_opts *opts)
{
	f->wq = env_wq_create(f->b.env, "bcfs-io",
			      opts->nr_threads ? opts->nr_threads : DEFAULT_THREADS);
	return f->wq ? 0 : -BCFS_ERR_thread_start;
}

static void threads_submit(struct bdev_file *f, struct bdev_io *io)
{
	env_work_init(&io->work, work_fn);
	env_wq_queue(f->wq, &io->work);
}

static void threads_stop(struct bdev_file *f)
{
	env_wq_destroy(f->wq);
}

const struct bdev_file_engine bdev_engine_threads = {
	.name = "threads",
	.start = threads_start,
	.submit = threads_submit,
	.stop = threads_stop,
};
