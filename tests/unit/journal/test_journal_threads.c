/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Real threads on a real file, a plain program so that ThreadSanitizer can follow:
 * four threads reserve while others flush and print, reclaim runs, the ring turns; then the journal
 * is halted, read back, and compared with what each thread did.
 */
#include "jtest.h"

#include <unistd.h>

#define NR_THREADS 4
#define NR_OPS	   3000

struct tworker {
	struct jt *t;
	u64 rnd;
	bool failed;
	struct env_thread *thread;
};

static void tworker(void *arg)
{
	struct tworker *w = arg;

	for (unsigned i = 0; i < NR_OPS && !w->failed; i++) {
		int ret = jt_op(w->t, trand_below(&w->rnd, JT_NODES),
				1 + trand_below(&w->rnd, JT_VAL_MAX), trand_below(&w->rnd, 9),
				!trand_below(&w->rnd, 20));

		if (!ret && !trand_below(&w->rnd, 100))
			ret = journal_flush(w->t->j);
		w->failed = ret;
	}
}

static u32 stop_printing;

static void printer(void *arg)
{
	struct jt *t = arg;

	while (!__atomic_load_n(&stop_printing, __ATOMIC_RELAXED)) {
		struct printbuf out = PRINTBUF;

		journal_to_text(&out, t->j);
		journal_pins_to_text(&out, t->j);
		printbuf_exit(&out);
		env_sleep_ns(t->env, 5 * ENV_NSEC_PER_MSEC);
	}
}

static int check(struct jt *t)
{
	struct journal_replay r;
	struct journal *j;
	int ret = jt_journal(t, t->bdev, t->env, &j);

	if (!ret)
		ret = journal_read(j, NULL, 0, &r);
	if (ret) {
		fprintf(stderr, "journal_read: %s: %s\n", err_str(ret), t->last_err);
		return 1;
	}
	ret = !jt_check_replay(t, &r);
	journal_replay_free(j, &r);
	journal_free(j);
	return ret;
}

int main(void)
{
	char path[] = "/tmp/bcfs-journal-XXXXXX", msg[BDEV_MSG_SIZE];
	struct journal_carried c = {0};
	struct journal_counters counters;
	struct tworker w[NR_THREADS];
	struct env_thread *print;
	static struct jt t;
	u64 seed = trand_seed(30);
	int fd = mkstemp(path), ret;

	fprintf(stderr, TEST_SEED_FMT "\n", (unsigned long long)seed);
	jt_config(&t, 4096, 64 << 10, 16);
	if (fd < 0 || ftruncate(fd, jt_device_bytes(&t)) || close(fd))
		return 77;
	if (env_real_create(&t.env))
		return 1;
	ret = bdev_open(t.env, path, NULL, &t.bdev, msg, sizeof(msg));
	unlink(path);
	if (ret) {
		fprintf(stderr, "%s\n", msg);
		return 1;
	}
	jt_init(&t);
	if (jt_journal(&t, t.bdev, t.env, &t.j) || journal_start(t.j, 1, NULL, &c))
		return 1;
	if (env_thread_start(t.env, &print, "printer", printer, &t))
		return 1;
	for (unsigned i = 0; i < NR_THREADS; i++) {
		w[i] = (struct tworker){.t = &t, .rnd = seed + i};
		if (env_thread_start(t.env, &w[i].thread, "worker", tworker, &w[i]))
			return 1;
	}
	for (unsigned i = 0; i < NR_THREADS; i++) {
		env_thread_join(w[i].thread);
		ret |= w[i].failed;
	}
	__atomic_store_n(&stop_printing, 1, __ATOMIC_RELAXED);
	env_thread_join(print);
	ret |= journal_flush(t.j) != 0;
	journal_counters(t.j, &counters);
	journal_halt(t.j);
	journal_free(t.j);
	ret |= check(&t);
	fprintf(stderr, "entries %llu, flush %llu, wraps %llu, waits %llu\n",
		(unsigned long long)counters.entries, (unsigned long long)counters.flush,
		(unsigned long long)counters.wraps, (unsigned long long)counters.waits);
	if (!counters.wraps || t.nr_errors)
		ret = 1;
	bdev_close(t.bdev);
	jt_exit(&t);
	env_real_destroy(t.env);
	return ret;
}
