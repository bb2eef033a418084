/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Power cuts: after a short run, for every position of the device's log and every rule
 * of what a crash leaves of the writes under way, the journal is read. It must
 * never report damage; it must hold every entry up to its newest, exactly, with the roots and
 * counters of that moment; no flush that had returned may be lost; and the nodes
 * together with the journal must have every operation up to the journal's end.
 */
#include "jtest.h"

#include <criterion/criterion.h>

struct run {
	struct jt t;
	unsigned nr_workers, nr_ops, flush_every;
};

struct cworker {
	struct jt *t;
	u64 rnd;
	unsigned nr_ops, flush_every;
	struct env_thread *thread;
};

static void cworker(void *arg)
{
	struct cworker *w = arg;
	struct jt *t = w->t;

	for (unsigned i = 0; i < w->nr_ops; i++) {
		u64 node = trand_below(&w->rnd, JT_NODES);

		cr_assert_eq(jt_op(t, node, 1 + trand_below(&w->rnd, JT_VAL_MAX),
				   trand_below(&w->rnd, 50), !trand_below(&w->rnd, 6)),
			     0);
		if (!trand_below(&w->rnd, w->flush_every)) {
			u64 seq = t->nodes[node].op_seqs.data[t->nodes[node].op_seqs.nr - 1];
			struct jt_flush f = {.seq = seq};

			cr_assert_eq(journal_flush_seq(t->j, seq), 0);
			f.log_pos = sim_bdev_log_len(t->bdev);
			cr_assert_eq(darray_push(&t->flushes, f), 0);
		}
		if (!trand_below(&w->rnd, 12)) /* a node written early, before its keys' entry */
			jt_node_write(t, &t->nodes[node]);
		if (!trand_below(&w->rnd, 4))
			env_sleep_ns(t->env, trand_below(&w->rnd, ENV_NSEC_PER_MSEC));
	}
}

static void run(struct run *r, u64 seed, u32 block, u32 bucket, u32 nr_buckets)
{
	struct sim_bdev_opts opts = {0};
	struct journal_carried c = {0};
	struct cworker w[4];
	struct jt *t = &r->t;

	memset(t, 0, sizeof(*t));
	t->rnd = seed;
	t->env = env_sim_create(seed);
	jt_config(t, block, bucket, nr_buckets);
	t->flush_journals = seed & 1;
	t->flush_slow = seed & 2;
	opts.size_bytes = jt_device_bytes(t);
	cr_assert_eq(sim_bdev_create(t->env, "sim", &opts, &t->bdev), 0);
	jt_init(t);
	cr_assert_eq(jt_journal(t, t->bdev, t->env, &t->j), 0);
	t->start_seq = 1;
	if (seed % 5 == 0)
		sim_bdev_arm(t->bdev, SIM_FAULT_WRITE_TORN, 1 + seed % 20, false);
	cr_assert_eq(journal_start(t->j, 1, NULL, &c), 0);
	for (unsigned i = 0; i < r->nr_workers; i++) {
		w[i] = (struct cworker){
			.t = t,
			.rnd = trand_u64(&t->rnd),
			.nr_ops = r->nr_ops,
			.flush_every = r->flush_every,
		};
		cr_assert_eq(env_thread_start(t->env, &w[i].thread, "w", cworker, &w[i]), 0);
	}
	for (unsigned i = 0; i < r->nr_workers; i++)
		env_thread_join(w[i].thread);
	cr_assert_eq(t->nr_errors, 0);
	journal_halt(t->j);
	journal_free(t->j);
	bdev_drain(t->bdev);
	cr_assert_eq(sim_bdev_violations(t->bdev), 0, "%s", sim_bdev_first_violation(t->bdev));
	darray_sort(&t->recs, jt_cmp_rec);
}

static void check_state(struct jt *t, u64 pos, const struct sim_crash *crash,
			const struct sim_image *img)
{
	struct env *env = env_sim_create(1);
	struct sim_bdev_opts opts = {0};
	struct journal_replay r;
	struct journal *j;
	struct bdev *bdev;
	u64 flushed = 0;
	int ret;

	for (size_t i = 0; i < t->flushes.nr; i++)
		if (t->flushes.data[i].log_pos <= pos)
			flushed = max(flushed, t->flushes.data[i].seq);
	cr_assert_eq(sim_bdev_create_from(env, "crashed", &opts, img, &bdev), 0);
	cr_assert_eq(jt_journal(t, bdev, env, &j), 0);
	ret = journal_read(j, NULL, 0, &r);
	if (ret == -BCFS_ERR_journal_empty && !flushed) {
		;
	} else {
		cr_assert_eq(ret, 0, "pos %llu, rule %s, crash seed %llu: %s: %s",
			     (unsigned long long)pos, sim_crash_rule_name(crash->rule),
			     (unsigned long long)crash->seed, err_str(ret), t->last_err);
		cr_assert_geq(r.seq, flushed, "pos %llu, rule %s: a returned flush is lost",
			      (unsigned long long)pos, sim_crash_rule_name(crash->rule));
		cr_assert(jt_check_replay(t, &r), "pos %llu, rule %s", (unsigned long long)pos,
			  sim_crash_rule_name(crash->rule));
		cr_assert(jt_check_nodes(t, bdev, &r), "pos %llu, rule %s, crash seed %llu",
			  (unsigned long long)pos, sim_crash_rule_name(crash->rule),
			  (unsigned long long)crash->seed);
	}
	journal_replay_free(j, &r);
	journal_free(j);
	bdev_close(bdev);
	env_sim_destroy(env);
}

/* Every step-th position under every rule; states seen before (by hash) are not checked again. */
static void explore(struct run *r, u64 seed, unsigned step)
{
	struct jt *t = &r->t;
	u64 len = sim_bdev_log_len(t->bdev), states = 0;
	u64 seen[4096] = {0};

	for (u64 pos = 0; pos <= len; pos += step) {
		for (unsigned rule = 0; rule < SIM_CRASH_SUBSET; rule++) {
			struct sim_crash crash = {.rule = rule, .seed = seed + pos * 31 + rule};
			struct sim_image *img;
			u64 hash;

			img = sim_bdev_image_at(t->bdev, pos, &crash);
			cr_assert(img);
			hash = sim_image_hash(img);
			/* The same image at a later position must keep later flushes. */
			hash = hash * 31 + pos / 8;
			if (seen[hash % ARRAY_SIZE(seen)] != hash) {
				seen[hash % ARRAY_SIZE(seen)] = hash;
				check_state(t, pos, &crash, img);
				states++;
			}
			sim_image_free(img);
		}
	}
	fprintf(stderr, "# %llu positions, %llu states\n", (unsigned long long)len,
		(unsigned long long)states);
	bdev_close(t->bdev);
	jt_exit(t);
	env_sim_destroy(t->env);
}

static void crash_run(u64 seed, u32 block, u32 bucket, u32 nr_buckets, unsigned nr_ops,
		      unsigned step)
{
	struct run r = {.nr_workers = 3, .nr_ops = nr_ops, .flush_every = 6};

	fprintf(stderr, "# " TEST_SEED_FMT "\n", (unsigned long long)seed);
	run(&r, seed, block, bucket, nr_buckets);
	explore(&r, seed, step);
}

Test(journal_crash, every_position)
{
	for (u64 i = 0; i < 6; i++)
		crash_run(trand_seed(100) + i, i & 1 ? 4096 : 512, 16 << 10, 8, 25, 1);
}

/* Longer runs that turn the ring; positions sampled. */
Test(journal_crash, wrapping)
{
	for (u64 i = 0; i < 4; i++)
		crash_run(trand_seed(200) + i, 512, 16 << 10, 8, 150, 7);
}
