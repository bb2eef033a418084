/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: many threads on one device, with requests that are waited for and
 * requests with done, lose nothing and race on nothing. Method: each thread owns
 * a part of the device and checks it; a plain program, for ThreadSanitizer.
 */
#include "dev/bdev.h"
#include "test_util.h"

#include <string.h>

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #cond);                 \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#define NR_THREADS 4
#define PART	   (1U << 20)
#define QUEUE	   64
#define IO_SIZE	   4096U
#define ROUNDS	   20

struct worker {
	struct bdev *b;
	struct env *env;
	u32 nr;
	struct env_mutex lock;
	struct env_cond cond;
	u32 pending; /* protected by lock */
	u32 errors;  /* ditto */
};

static void done(struct bdev_io *io)
{
	struct worker *w = io->priv;

	env_mutex_lock(&w->lock);
	w->errors += !!io->ret;
	w->pending--;
	env_cond_signal(&w->cond);
	env_mutex_unlock(&w->lock);
}

static void run_batch(struct worker *w, struct bdev_io *ios, enum bdev_op op, u8 *buf, bool wait)
{
	w->pending = wait ? 0 : QUEUE;
	for (u32 i = 0; i < QUEUE; i++) {
		u32 flags = op == BDEV_WRITE && i % 16 == 0 ? BDEV_FUA : 0;

		flags |= i % 8 == 3 ? BDEV_SYNC : 0;
		bdev_io_init(&ios[i], op, (u64)w->nr * PART + i * IO_SIZE, buf + i * IO_SIZE,
			     IO_SIZE, flags);
		ios[i].priv = w;
		ios[i].done = wait ? NULL : done;
		bdev_submit(w->b, &ios[i]);
	}
	for (u32 i = 0; i < QUEUE && wait; i++)
		CHECK(!bdev_wait(w->b, &ios[i]));
	env_mutex_lock(&w->lock);
	while (w->pending)
		env_cond_wait(&w->cond, &w->lock);
	CHECK(!w->errors);
	env_mutex_unlock(&w->lock);
}

static void worker_main(void *arg)
{
	struct worker *w = arg;
	struct bdev_io *ios = calloc(QUEUE, sizeof(*ios));
	u8 *out = aligned_alloc(4096, QUEUE * IO_SIZE), *in = aligned_alloc(4096, QUEUE * IO_SIZE);

	CHECK(ios && in && out);
	for (u32 r = 0; r < ROUNDS; r++) {
		test_fill(out, QUEUE * IO_SIZE, test_seed() + w->nr * 1000 + r);
		run_batch(w, ios, BDEV_WRITE, out, r & 1);
		if (r % 4 == 0)
			CHECK(!bdev_flush(w->b));
		memset(in, 0, QUEUE * IO_SIZE);
		run_batch(w, ios, BDEV_READ, in, !(r & 2));
		CHECK(!memcmp(in, out, QUEUE * IO_SIZE));
	}
	free(ios);
	free(in);
	free(out);
}

static void run(struct env *env, const char *path, enum bdev_engine engine)
{
	struct bdev_opts opts = {.engine = engine};
	char msg[BDEV_MSG_SIZE] = "";
	struct env_thread *t[NR_THREADS];
	struct worker w[NR_THREADS];
	struct bdev *b;
	int ret = bdev_open(env, path, &opts, &b, msg, sizeof(msg));

	if (ret == -BCFS_ERR_dev_no_uring) {
		fprintf(stderr, "no io_uring here: %s\n", msg);
		return;
	}
	if (ret) {
		fprintf(stderr, "%s\n", msg);
		exit(1);
	}
	for (u32 i = 0; i < NR_THREADS; i++) {
		w[i] = (struct worker){.b = b, .env = env, .nr = i};
		env_mutex_init(&w[i].lock, env);
		env_cond_init(&w[i].cond, env);
		CHECK(!env_thread_start(env, &t[i], "worker", worker_main, &w[i]));
	}
	for (u32 i = 0; i < NR_THREADS; i++) {
		env_thread_join(t[i]);
		env_cond_destroy(&w[i].cond);
		env_mutex_destroy(&w[i].lock);
	}
	bdev_close(b);
}

int main(void)
{
	struct env *env;
	char path[256];

	CHECK(!env_real_create(&env));
	if (!test_file(test_dir(), path, sizeof(path), NR_THREADS * PART))
		return 77;
	run(env, path, BDEV_ENGINE_THREADS);
	run(env, path, BDEV_ENGINE_URING);
	unlink(path);
	env_real_destroy(env);
	return 0;
}
