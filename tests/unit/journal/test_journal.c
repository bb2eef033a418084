/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal on the simulated device: what is reserved by several fibers is read
 * back exactly, over many turns of the ring, in small geometries; a full ring;
 * write faults; blacklisted gaps; damage told from what a crash leaves.
 */
#include "jtest.h"

#include <criterion/criterion.h>

struct geometry {
	u32 block, bucket, nr;
};

static const struct geometry geometries[] = {
	{512, 16 << 10, 8},   {4096, 16 << 10, 64}, {512, 8 << 10, 12},
	{4096, 64 << 10, 16}, {4096, 128 << 10, 8}, {16384, 64 << 10, 16},
};

static void jt_sim_open(struct jt *t, u64 seed, const struct geometry *g)
{
	struct sim_bdev_opts opts = {.no_log = true};

	memset(t, 0, sizeof(*t));
	t->rnd = seed;
	t->env = env_sim_create(seed);
	cr_assert(t->env);
	jt_config(t, g->block, g->bucket, g->nr);
	opts.size_bytes = jt_device_bytes(t);
	cr_assert_eq(sim_bdev_create(t->env, "sim", &opts, &t->bdev), 0);
	jt_init(t);
	cr_assert_eq(jt_journal(t, t->bdev, t->env, &t->j), 0);
	t->start_seq = 1;
}

static void jt_sim_close(struct jt *t)
{
	cr_assert_eq(sim_bdev_violations(t->bdev), 0, "%s", sim_bdev_first_violation(t->bdev));
	bdev_close(t->bdev);
	jt_exit(t);
	env_sim_destroy(t->env);
}

struct worker {
	struct jt *t;
	u64 rnd;
	unsigned nr_ops, nodes;
	unsigned flush_every; /* 0: never */
	struct env_thread *thread;
	int ret;
};

static void worker(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < w->nr_ops && !w->ret; i++) {
		u64 node = trand_below(&w->rnd, w->nodes);
		s64 delta = (s64)trand_below(&w->rnd, 100) - 30;

		w->ret = jt_op(w->t, node, 1 + trand_below(&w->rnd, JT_VAL_MAX), delta,
			       !trand_below(&w->rnd, 10));
		if (!w->ret && w->flush_every && !trand_below(&w->rnd, w->flush_every))
			w->ret = journal_flush(w->t->j);
		if (!trand_below(&w->rnd, 8))
			env_sleep_ns(w->t->env, trand_below(&w->rnd, 2 * ENV_NSEC_PER_MSEC));
	}
}

/* nr workers at once; all must succeed unless ret_any is given. */
static void run_workers(struct jt *t, unsigned nr, unsigned nr_ops, unsigned flush_every,
			int *ret_any)
{
	struct worker w[8];

	for (unsigned i = 0; i < nr; i++) {
		w[i] = (struct worker){
			.t = t,
			.rnd = trand_u64(&t->rnd),
			.nr_ops = nr_ops,
			.nodes = JT_NODES,
			.flush_every = flush_every,
		};
		cr_assert_eq(env_thread_start(t->env, &w[i].thread, "worker", worker, &w[i]), 0);
	}
	for (unsigned i = 0; i < nr; i++) {
		env_thread_join(w[i].thread);
		if (ret_any)
			*ret_any = *ret_any ? *ret_any : w[i].ret;
		else
			cr_assert_eq(w[i].ret, 0, "%s", err_str(w[i].ret));
	}
}

static void start(struct jt *t)
{
	struct journal_carried c = {0};

	cr_assert_eq(journal_start(t->j, t->start_seq, NULL, &c), 0);
}

/* Halt, read with a new journal, compare. */
static void halt_and_check(struct jt *t, struct journal_counters *counters)
{
	struct journal_replay r;
	struct journal *j;
	u64 flushed = journal_flushed_seq(t->j);
	int ret;

	journal_halt(t->j);
	journal_counters(t->j, counters);
	journal_free(t->j);
	bdev_drain(t->bdev);
	cr_assert_eq(jt_journal(t, t->bdev, t->env, &j), 0);
	ret = journal_read(j, NULL, 0, &r);
	cr_assert_eq(ret, 0, "%s: %s", err_str(ret), t->last_err);
	cr_assert_geq(r.seq, flushed);
	cr_assert(jt_check_replay(t, &r));
	cr_assert(jt_check_nodes(t, t->bdev, &r));
	journal_replay_free(j, &r);
	journal_free(j);
}

Test(journal, read_back)
{
	u64 seed = trand_seed(1);

	for (unsigned g = 0; g < ARRAY_SIZE(geometries); g++) {
		struct journal_counters c;
		struct jt t;

		fprintf(stderr, "# geometry %u, " TEST_SEED_FMT "\n", g, (unsigned long long)seed);
		jt_sim_open(&t, seed + g, &geometries[g]);
		start(&t);
		run_workers(&t, 4, 60, 10, NULL);
		cr_assert_eq(journal_flush(t.j), 0);
		halt_and_check(&t, &c);
		cr_assert_gt(c.flush, 0);
		jt_sim_close(&t);
	}
}

Test(journal, wraps)
{
	u64 seed = trand_seed(2);

	for (unsigned g = 0; g < ARRAY_SIZE(geometries); g++) {
		struct journal_counters c;
		struct jt t;

		fprintf(stderr, "# geometry %u, " TEST_SEED_FMT "\n", g, (unsigned long long)seed);
		jt_sim_open(&t, seed + g, &geometries[g]);
		t.flush_slow = g & 1;
		start(&t);
		for (unsigned i = 0; i < 40; i++) {
			run_workers(&t, 4, 60, i % 3 ? 0 : 20, NULL);
			journal_counters(t.j, &c);
			if (c.wraps >= 4)
				break;
		}
		halt_and_check(&t, &c);
		cr_assert_geq(c.wraps, geometries[g].bucket * geometries[g].nr > 600 << 10 ? 2 : 4);
		cr_assert_gt(c.noflush, 0);
		cr_assert_gt(c.reclaimed, 0);
		jt_sim_close(&t);
	}
}

Test(journal, clean_stop)
{
	struct journal_carried carried, want;
	struct journal_replay r;
	struct journal *j;
	struct jt t;
	u64 seq;

	jt_sim_open(&t, trand_seed(3), &geometries[1]);
	start(&t);
	run_workers(&t, 4, 100, 0, NULL);
	cr_assert_eq(journal_stop(t.j, &carried, &seq), 0);
	darray_sort(&t.recs, jt_cmp_rec);
	jt_model_carried(&t, seq, &want);
	cr_assert(jt_carried_eq(&carried, &want));
	for (unsigned i = 0; i < JT_NODES; i++)
		cr_assert(!journal_pin_active(&t.nodes[i].pin));
	journal_free(t.j);

	/* The last entry needs no other. */
	cr_assert_eq(jt_journal(&t, t.bdev, t.env, &j), 0);
	cr_assert_eq(journal_read(j, NULL, 0, &r), 0);
	cr_assert_eq(r.seq, seq);
	cr_assert_eq(r.last_seq, seq);
	cr_assert_eq(r.nr, 1);
	cr_assert(jt_check_replay(&t, &r));
	journal_replay_free(j, &r);
	journal_free(j);
	jt_sim_close(&t);
}

Test(journal, idle_writes_nothing)
{
	struct journal_counters c;
	struct bdev_stats before, after;
	struct jt t;
	u64 seq;

	jt_sim_open(&t, trand_seed(4), &geometries[1]);
	bdev_get_stats(t.bdev, &before);
	start(&t);
	env_sleep_ns(t.env, 100 * ENV_NSEC_PER_SEC);
	cr_assert_eq(journal_stop(t.j, NULL, &seq), 0);
	cr_assert_eq(seq, 0);
	journal_counters(t.j, &c);
	cr_assert_eq(c.entries, 0);
	bdev_get_stats(t.bdev, &after);
	cr_assert_eq(before.nr[BDEV_WRITE], after.nr[BDEV_WRITE]);
	journal_free(t.j);

	/* A second session, without a word: its first flush makes an entry nevertheless. */
	cr_assert_eq(jt_journal(&t, t.bdev, t.env, &t.j), 0);
	start(&t);
	cr_assert_eq(journal_flush(t.j), 0);
	cr_assert_eq(journal_flushed_seq(t.j), 1);
	cr_assert_eq(journal_flush(t.j), 0);
	cr_assert_eq(journal_flushed_seq(t.j), 1);
	/* Nobody asks for a flush: the clock does. */
	cr_assert_eq(jt_op(&t, 0, 5, 1, false), 0);
	env_sleep_ns(t.env, 1500 * ENV_NSEC_PER_MSEC);
	cr_assert_eq(journal_flushed_seq(t.j), 2);
	journal_free(t.j);
	jt_sim_close(&t);
}

/* Reservations given back, too large, of every size. */
Test(journal, reservations)
{
	struct journal_res res, res2;
	struct jt t;
	u32 most;

	jt_sim_open(&t, trand_seed(5), &geometries[1]);
	start(&t);
	most = journal_res_max_u64s(t.j);
	cr_assert_gt(most, 1000);
	cr_assert_eq(journal_res_get(t.j, &res, most + 1, 0), -BCFS_ERR_journal_res_too_big);
	for (u32 n = 1; n <= most; n += 1 + n / 3) {
		cr_assert_eq(journal_res_get(t.j, &res, n, 0), 0);
		cr_assert_eq(res.u64s, n);
		if (n & 1) /* another behind it: the rest cannot be trimmed */
			cr_assert_eq(journal_res_get(t.j, &res2, 3, JOURNAL_RES_NONBLOCK) &
					     res.seq * 0,
				     0);
		journal_res_put(t.j, &res);
		if ((n & 1) && res2.ref)
			journal_res_put(t.j, &res2);
		res2.ref = false;
	}
	cr_assert_eq(journal_res_get(t.j, &res, most, 0), 0);
	journal_res_put(t.j, &res);
	/* All was given back: it fits the same entry once more. */
	cr_assert_eq(journal_res_get(t.j, &res2, most, JOURNAL_RES_NONBLOCK), 0);
	cr_assert_eq(res.seq, res2.seq);
	journal_res_put(t.j, &res2);
	cr_assert_eq(journal_flush(t.j), 0);
	cr_assert_eq(journal_stop(t.j, NULL, NULL), 0);
	journal_free(t.j);
	jt_sim_close(&t);
}

/* Nothing can be freed: normal reservations wait, reclaim's pass; then all goes on. */
Test(journal, full)
{
	for (unsigned g = 0; g < 3; g++) {
		struct journal_counters c;
		struct journal_res res;
		struct jt t;
		unsigned passed = 0;
		int ret;

		jt_sim_open(&t, trand_seed(6) + g, &geometries[g]);
		t.flush_fails = true;
		start(&t);
		/* Fill it. The oldest pin holds everything. */
		cr_assert_eq(jt_op(&t, 0, 1, 0, false), 0);
		for (;;) {
			struct jt_rec rec = {.node = JT_NODES, .val_u64s = 150};

			ret = journal_res_get(t.j, &res, jt_rec_u64s(&rec), JOURNAL_RES_NONBLOCK);
			if (ret == -BCFS_ERR_journal_would_block) {
				struct printbuf out = PRINTBUF;
				bool full;

				env_sleep_ns(t.env, 50 * ENV_NSEC_PER_MSEC);
				journal_to_text(&out, t.j);
				journal_pins_to_text(&out, t.j);
				full = !journal_res_get(t.j, &res, 10, JOURNAL_RES_NONBLOCK);
				printbuf_exit(&out);
				if (!full)
					break;
				journal_res_put(t.j, &res);
				continue;
			}
			cr_assert_eq(ret, 0);
			rec.op = ++t.nr_reclaim_ops;
			jt_fill(&t, &res, &rec);
			jt_record(&t, &rec);
			journal_res_put(t.j, &res);
		}
		while (passed < 20 && !jt_reclaim_op(&t))
			passed++;
		cr_assert_eq(passed, 20);
		cr_assert_eq(journal_flush(t.j), 0);
		cr_assert_eq(journal_res_get(t.j, &res, 10, JOURNAL_RES_NONBLOCK),
			     -BCFS_ERR_journal_would_block);
		t.flush_fails = false;
		cr_assert_eq(jt_op(&t, 1, 20, 0, false), 0);
		run_workers(&t, 3, 50, 10, NULL);
		cr_assert_eq(t.nr_errors, 0);
		halt_and_check(&t, &c);
		cr_assert_gt(c.waits, 0);
		jt_sim_close(&t);
	}
}

/* The k-th write fails, once: written elsewhere, nobody notices. */
Test(journal, write_fault_once)
{
	for (unsigned k = 1; k < 60; k++) {
		struct journal_counters c;
		struct jt t;

		jt_sim_open(&t, trand_seed(7) + k, &geometries[k % 3]);
		sim_bdev_arm(t.bdev, k & 1 ? SIM_FAULT_WRITE_ERROR : SIM_FAULT_WRITE_TORN, k,
			     false);
		start(&t);
		run_workers(&t, 3, 40, 5, NULL);
		cr_assert_eq(journal_flush(t.j), 0);
		cr_assert_eq(t.nr_errors, 0);
		halt_and_check(&t, &c);
		jt_sim_close(&t);
	}
}

/* All writes fail from the k-th on: everyone hears of it, once. */
Test(journal, write_fault_for_ever)
{
	for (unsigned k = 1; k < 40; k++) {
		enum sim_fault fault = k % 3 ? SIM_FAULT_WRITE_ERROR : SIM_FAULT_FLUSH_ERROR;
		struct journal_res res;
		struct jt t;
		int ret = 0;

		jt_sim_open(&t, trand_seed(8) + k, &geometries[k % 3]);
		start(&t);
		sim_bdev_arm(t.bdev, fault, k, true);
		run_workers(&t, 3, 60, 2, &ret);
		if (!ret)
			ret = journal_flush(t.j) ?: journal_flush(t.j);
		if (k < 30)
			cr_assert_neq(ret, 0);
		if (ret) {
			cr_assert_neq(journal_error(t.j), 0);
			cr_assert_eq(journal_res_get(t.j, &res, 5, 0), -BCFS_ERR_journal_shutdown);
			cr_assert_eq(journal_flush_seq(t.j, journal_cur_seq(t.j)),
				     journal_error(t.j));
			cr_assert_neq(journal_stop(t.j, NULL, NULL), 0);
			cr_assert_eq(t.nr_errors, 1);
		}
		journal_free(t.j);
		bdev_close(t.bdev);
		jt_exit(&t);
		env_sim_destroy(t.env);
	}
}

static int fail_pre_flush(void *arg, u64 seq)
{
	struct jt *t = arg;

	return t->pre_flush_fails ? -BCFS_ERR_dev_write : 0;
}

Test(journal, pre_flush)
{
	struct journal_counters c;
	struct jt t;

	jt_sim_open(&t, trand_seed(9), &geometries[1]);
	t.ops.pre_flush = fail_pre_flush;
	start(&t);
	cr_assert_eq(jt_op(&t, 0, 5, 1, false), 0);
	t.pre_flush_fails = true;
	cr_assert_eq(journal_flush(t.j), -BCFS_ERR_dev_write);
	cr_assert_eq(jt_op(&t, 0, 5, 1, false), 0);
	cr_assert_eq(journal_flush(t.j), -BCFS_ERR_dev_write);
	t.pre_flush_fails = false;
	cr_assert_eq(journal_flush(t.j), 0);
	cr_assert_eq(t.nr_errors, 0);
	halt_and_check(&t, &c);
	jt_sim_close(&t);
}

/*
 * Sessions that each end in a crash: dropped entries are blacklisted and never come
 * back, gaps are no damage, what is read is what was committed.
 */
Test(journal, sessions)
{
	u64 seed = trand_seed(10);

	for (unsigned round = 0; round < 12; round++) {
		struct journal_blacklist_range bl[16];
		struct journal_carried carried = {0};
		struct journal_replay r = {0};
		unsigned nr_bl = 0;
		struct jt t;

		fprintf(stderr, "# " TEST_SEED_FMT " round %u\n", (unsigned long long)seed, round);
		jt_sim_open(&t, seed + round, &geometries[round % 2 ? 3 : 1]);
		for (unsigned session = 0; session < 10; session++) {
			u64 flushed;
			size_t n = 0;
			bool first = !session;
			int ret;

			ret = journal_start(t.j, t.start_seq, first ? NULL : &r, &carried);
			cr_assert_eq(ret, 0, "%s", err_str(ret));
			if (!first) {
				/* Replay: the nodes' pins are on the old entries. */
				for (unsigned i = 0; i < JT_NODES; i++) {
					struct jt_node *node = &t.nodes[i];
					u64 ops = jt_node_ops(&r, i);

					if (ops < node->op_seqs.nr)
						journal_pin_add(t.j, node->op_seqs.data[ops],
								&node->pin);
				}
				journal_replay_free(t.j, &r);
				journal_replay_done(t.j);
			}
			if (first || session % 3)
				cr_assert_eq(journal_flush(t.j), 0);
			run_workers(&t, 3, 1 + trand_below(&t.rnd, 60), session % 2 ? 30 : 0, NULL);
			env_sleep_ns(t.env, 10 * ENV_NSEC_PER_MSEC);

			flushed = journal_flushed_seq(t.j);
			journal_halt(t.j);
			journal_free(t.j);
			bdev_drain(t.bdev);
			for (unsigned i = 0; i < JT_NODES; i++)
				t.nodes[i].pin = (struct journal_entry_pin){0};
			cr_assert_eq(jt_journal(&t, t.bdev, t.env, &t.j), 0);
			ret = journal_read(t.j, bl, nr_bl, &r);
			cr_assert_eq(ret, 0, "%s: %s", err_str(ret), t.last_err);
			if (session % 3 || first)
				cr_assert_geq(r.seq, flushed);
			/* Operations behind the end never happened. */
			for (size_t i = 0; i < t.recs.nr; i++)
				if (t.recs.data[i].seq <= r.seq)
					t.recs.data[n++] = t.recs.data[i];
			t.recs.nr = n;
			for (unsigned i = 0; i < JT_NODES; i++) {
				struct jt_node *node = &t.nodes[i];

				while (node->op_seqs.nr && darray_last(&node->op_seqs) > r.seq)
					node->op_seqs.nr--;
			}
			cr_assert(jt_check_replay(&t, &r));
			cr_assert(jt_check_nodes(&t, t.bdev, &r));
			carried = r.carried;
			t.start_seq = journal_blacklist_end(&r, bl, nr_bl) + 1;
			bl[nr_bl++] = (struct journal_blacklist_range){r.seq + 1, t.start_seq - 1};
		}
		journal_replay_free(t.j, &r);
		journal_free(t.j);
		jt_sim_close(&t);
	}
}

/* On @t's device, what a crash has left of some workers' entries; all of them are needed. */
static void halt_all_pinned(struct jt *t, u64 seed)
{
	jt_sim_open(t, seed, &geometries[1]);
	t->flush_fails = true;
	start(t);
	run_workers(t, 3, 30, 3, NULL);
	cr_assert_eq(journal_flush(t->j), 0);
	journal_halt(t->j);
	journal_free(t->j);
	bdev_drain(t->bdev);
}

/* Damage in the middle is named; in front of what is needed, or behind, it is not damage. */
Test(journal, damage)
{
	struct journal_replay r;
	struct journal *j;
	struct jt t;
	char want[64];
	u64 seqs[256], sectors[256], seq;
	size_t nr;

	halt_all_pinned(&t, trand_seed(11));

	cr_assert_eq(jt_journal(&t, t.bdev, t.env, &j), 0);
	cr_assert_eq(journal_read(j, NULL, 0, &r), 0);
	cr_assert(jt_check_replay(&t, &r));
	nr = min(r.nr, ARRAY_SIZE(seqs));
	cr_assert_gt(nr, 8);
	seq = r.seq;
	for (size_t i = 0; i < nr; i++) {
		seqs[i] = r.entries[i].seq;
		sectors[i] = r.entries[i].sector;
	}
	journal_replay_free(j, &r);
	for (size_t i = 0; i < nr; i++) {
		for (unsigned kind = 0; kind < 3; kind++) {
			/* the header, a key, the magic */
			u64 off = sectors[i] * SECTOR_SIZE +
				  (kind == 0   ? offsetof(struct jset, last_seq)
				   : kind == 1 ? sizeof(struct jset) + 20
					       : offsetof(struct jset, magic));
			int ret;

			sim_bdev_flip_bit(t.bdev, off, 3);
			t.last_err[0] = 0;
			ret = journal_read(j, NULL, 0, &r);
			if (seqs[i] < seq) {
				cr_assert_eq(ret, -BCFS_ERR_journal_damaged);
				snprintf(want, sizeof(want), "entry %llu ",
					 (unsigned long long)seqs[i]);
				cr_assert(strstr(t.last_err, want), "%s", t.last_err);
			} else { /* cannot be told from a torn write */
				cr_assert_eq(ret, 0);
				cr_assert_lt(r.seq, seq);
				cr_assert_eq(r.nr_torn, kind < 2);
				cr_assert_str_empty(t.last_err);
			}
			journal_replay_free(j, &r);
			sim_bdev_flip_bit(t.bdev, off, 3);
		}
	}
	/* Blocks that cannot be read: where the newest may be. */
	sim_bdev_set_bad(t.bdev, sectors[nr - 1] * SECTOR_SIZE, 4096, true);
	cr_assert_eq(journal_read(j, NULL, 0, &r), -BCFS_ERR_journal_damaged);
	journal_replay_free(j, &r);
	sim_bdev_set_bad(t.bdev, sectors[nr - 1] * SECTOR_SIZE, 4096, false);
	sim_bdev_set_bad(t.bdev, jt_bucket_offset(&t, t.nr_buckets - 3), 4096, true);
	cr_assert_eq(journal_read(j, NULL, 0, &r), 0);
	journal_replay_free(j, &r);
	journal_free(j);
	jt_sim_close(&t);
}

/* The journal of @t ends as it is; what is on the device then, in a journal that the caller frees.
 */
static struct journal *crash_and_read(struct jt *t, struct journal_replay *r)
{
	struct journal *j;

	journal_halt(t->j);
	journal_free(t->j);
	bdev_drain(t->bdev);
	cr_assert_eq(jt_journal(t, t->bdev, t->env, &j), 0);
	cr_assert_eq(journal_read(j, NULL, 0, r), 0);
	return j;
}

/*
 * Whichever buckets cannot be read: the newest flush entry is found, or it is told that it may not
 * have been. Between it and the one before are entries without a flush, a bucket of them and more.
 */
Test(journal, unreadable)
{
	struct journal_replay r;
	struct journal *j;
	struct jt t;
	u64 seq, told = 0, before;

	jt_sim_open(&t, trand_seed(31), &geometries[1]);
	t.flush_fails = true;
	start(&t);
	run_workers(&t, 3, 8, 3, NULL);
	cr_assert_eq(journal_flush(t.j), 0);
	run_workers(&t, 3, 25, 0, NULL);
	cr_assert_eq(journal_flush(t.j), 0);
	j = crash_and_read(&t, &r);
	seq = before = r.seq;
	for (size_t i = 0; i < r.nr; i++)
		if (!r.entries[i].noflush && r.entries[i].seq < seq)
			before = r.entries[i].seq;
	cr_assert_gt(seq - before, 4);
	journal_replay_free(j, &r);
	for (u32 first = 0; first < t.nr_buckets; first++) {
		for (u32 n = 1; n <= t.nr_buckets; n++) {
			for (u32 i = 0; i < n; i++)
				sim_bdev_set_bad(t.bdev,
						 jt_bucket_offset(&t, (first + i) % t.nr_buckets),
						 t.bucket_bytes, true);
			int ret = journal_read(j, NULL, 0, &r);

			cr_assert(ret == -BCFS_ERR_journal_damaged || (!ret && r.seq == seq),
				  "%u buckets from %u on: %s, newest %llu of %llu", n, first,
				  err_str(ret), (unsigned long long)r.seq, (unsigned long long)seq);
			told += !!ret;
			journal_replay_free(j, &r);
			sim_bdev_set_bad(t.bdev, jt_bucket_offset(&t, 0),
					 (u64)t.nr_buckets * t.bucket_bytes, false);
		}
	}
	cr_assert_gt(told, 0);
	cr_assert_lt(told, (u64)t.nr_buckets * t.nr_buckets);
	journal_free(j);
	jt_sim_close(&t);
}

static int no_place(void *arg, struct journal_entry_pin **pins, unsigned nr, u64 seq)
{
	return -BCFS_ERR_nospc;
}

/* The end, when no node finds a place any more: what nobody had asked to be durable is in front. */
Test(journal, stopped_while_full)
{
	struct journal_replay r;
	struct journal *j;
	struct jt t;
	u64 flushed;

	jt_sim_open(&t, trand_seed(37), &geometries[1]);
	t.ops.flush_pins = no_place;
	start(&t);
	run_workers(&t, 3, 8, 3, NULL);
	cr_assert_eq(journal_flush(t.j), 0);
	flushed = journal_flushed_seq(t.j);
	run_workers(&t, 3, 8, 0, NULL);
	cr_assert_eq(journal_flushed_seq(t.j), flushed);
	cr_assert_eq(journal_stop(t.j, NULL, NULL), -BCFS_ERR_nospc);
	j = crash_and_read(&t, &r);
	cr_assert_gt(r.seq, flushed);
	cr_assert(jt_check_replay(&t, &r));
	cr_assert_eq(t.recs.data[t.recs.nr - 1].seq, r.seq);
	cr_assert(jt_check_nodes(&t, t.bdev, &r));
	journal_replay_free(j, &r);
	journal_free(j);
	jt_sim_close(&t);
}

/*
 * A bit is another on the way from the device, once: all is read, but where it was the bit that
 * told that there is an entry.
 */
Test(journal, flipped_on_the_way)
{
	struct journal_replay_entry newest;
	struct journal_replay r;
	struct sim_strike hit;
	unsigned struck = 0;
	struct jt t;

	halt_all_pinned(&t, trand_seed(19));
	cr_assert_eq(jt_journal(&t, t.bdev, t.env, &t.j), 0);
	cr_assert_eq(journal_read(t.j, NULL, 0, &r), 0);
	newest = r.entries[r.nr - 1];
	u64 start = newest.sector * SECTOR_SIZE, end = start + jset_bytes(newest.j);

	journal_replay_free(t.j, &r);
	for (unsigned i = 0; i < 3000; i++) {
		sim_bdev_arm(t.bdev, SIM_FAULT_READ_FLIP, newest.bucket + 1, false);
		int ret = journal_read(t.j, NULL, 0, &r);

		cr_assert(sim_bdev_fault_struck(t.bdev, SIM_FAULT_READ_FLIP, &hit));
		u64 in_block = (hit.flipped - hit.offset) % t.opts.block_bytes;

		if (in_block < offsetof(struct jset, magic) ||
		    in_block >= offsetof(struct jset, magic) + 8) {
			cr_assert_eq(ret, 0, "%s", t.last_err);
			cr_assert_eq(r.seq, newest.seq);
			cr_assert(jt_check_replay(&t, &r));
			struck += hit.flipped >= start && hit.flipped < end;
		}
		journal_replay_free(t.j, &r);
	}
	cr_assert_gt(struck, 20);
	journal_free(t.j);
	jt_sim_close(&t);
}

/* The content of an entry, to where a bucket begins; where it was there is nothing. */
static void move_entry(struct jt *t, const struct journal_replay_entry *e, u32 bucket)
{
	u32 len = round_up((u32)jset_bytes(e->j), 4096U);
	u8 *buf = calloc(2, len);

	sim_bdev_peek(t->bdev, e->sector * SECTOR_SIZE, buf, len);
	sim_bdev_poke(t->bdev, jt_bucket_offset(t, bucket), buf, len);
	sim_bdev_poke(t->bdev, e->sector * SECTOR_SIZE, buf + len, len);
	free(buf);
}

/*
 * A device has put an entry that is needed into another bucket: an old one into that behind the
 * newest, or the newest into that before the oldest. Its content is right, so it counts, and the
 * journal goes on where there is room.
 */
Test(journal, entry_elsewhere)
{
	for (unsigned newest = 0; newest < 2; newest++) {
		const struct journal_replay_entry *last;
		struct journal_replay r;
		struct jt t;
		u32 nr;

		halt_all_pinned(&t, trand_seed(18));
		nr = t.nr_buckets;

		cr_assert_eq(jt_journal(&t, t.bdev, t.env, &t.j), 0);
		cr_assert_eq(journal_read(t.j, NULL, 0, &r), 0);
		last = &r.entries[r.nr - 1];
		u32 to = newest ? r.entries[0].bucket + nr - 1 : last->bucket + 1;
		bool used = false;

		for (size_t i = 0; i < r.nr; i++)
			used |= r.entries[i].bucket == to % nr;
		/* With an odd seed the ring is full. */
		if (!used)
			move_entry(&t, newest ? last : &r.entries[1], to % nr);
		cr_assert(!used || getenv("BCFS_TEST_SEED"));
		journal_replay_free(t.j, &r);

		cr_assert_eq(journal_read(t.j, NULL, 0, &r), 0, "%s", t.last_err);
		cr_assert(jt_check_replay(&t, &r));
		u64 seq = journal_blacklist_end(&r, NULL, 0) + 1;

		cr_assert_eq(journal_start(t.j, seq, &r, &r.carried), 0);
		journal_replay_free(t.j, &r);
		journal_replay_done(t.j);
		cr_assert_eq(journal_flush(t.j), 0);
		journal_halt(t.j);
		journal_free(t.j);
		jt_sim_close(&t);
	}
}

Test(journal, empty_and_geometry)
{
	struct journal_replay r;
	struct jt t;
	struct journal *j;

	jt_sim_open(&t, trand_seed(12), &geometries[0]);
	cr_assert_eq(journal_read(t.j, NULL, 0, &r), -BCFS_ERR_journal_empty);
	journal_replay_free(t.j, &r);
	journal_free(t.j);
	t.nr_buckets = 7;
	cr_assert_eq(jt_journal(&t, t.bdev, t.env, &j), -BCFS_ERR_journal_geometry);
	t.opts.bucket_sectors = 8;
	cr_assert_eq(jt_journal(&t, t.bdev, t.env, &j), -BCFS_ERR_journal_geometry);
	cr_assert_eq(journal_min_bytes(4096, 32), 20 * 16 << 10);
	jt_sim_close(&t);
}

/* Roots of another version, with all the pointers there may be: a full entry has room for them. */
Test(journal, long_roots)
{
	struct journal_carried c = {0};
	struct journal_res res;
	struct journal_replay r;
	struct journal *j;
	struct jt t;
	u64 *log;
	u32 most;

	jt_sim_open(&t, trand_seed(14), &geometries[2]);
	for (unsigned i = 0; i < BTREE_ID_NR; i++) {
		c.roots[i].alive = true;
		jt_root(c.roots[i].buf, 3 * i);
		c.roots[i].k.k.u64s = JOURNAL_ROOT_U64s_MAX - 1;
	}
	cr_assert_eq(journal_start(t.j, t.start_seq, NULL, &c), 0);
	most = journal_res_max_u64s(t.j);
	log = calloc(most, sizeof(*log));
	for (unsigned i = 0; i < 6; i++) {
		cr_assert_eq(journal_res_get(t.j, &res, most, 0), 0);
		journal_add_entry(t.j, &res, BCFS_JSET_ENTRY_log, 0, 0, log, most - 1);
		journal_res_put(t.j, &res);
	}
	free(log);
	cr_assert_eq(journal_flush(t.j), 0);
	j = crash_and_read(&t, &r);
	cr_assert_geq(r.seq, 6);
	cr_assert(jt_carried_eq(&r.carried, &c));
	journal_replay_free(j, &r);
	journal_free(j);
	jt_sim_close(&t);
}

/* The k-th allocation fails, once, for every k: an error before the start, else nothing but delay.
 */
Test(journal, alloc_faults)
{
	for (unsigned k = 1; k < 60; k++) {
		struct journal_carried c = {0};
		struct journal_replay r;
		struct journal *j;
		struct worker w;
		struct jt t;
		u64 bytes;
		int ret;

		jt_sim_open(&t, trand_seed(14), &geometries[3]);
		start(&t);
		env_sim_fail_alloc(t.env, k, false);
		w = (struct worker){.t = &t, .rnd = k, .nr_ops = 150, .nodes = JT_NODES};
		worker(&w);
		cr_assert_eq(w.ret, 0);
		cr_assert_eq(journal_flush(t.j), 0);
		env_sim_fail_alloc(t.env, 0, false);
		journal_free(t.j);
		bdev_drain(t.bdev);
		for (unsigned i = 0; i < JT_NODES; i++)
			t.nodes[i].pin = (struct journal_entry_pin){0};

		env_sim_fail_alloc(t.env, k, false);
		ret = jt_journal(&t, t.bdev, t.env, &j);
		if (!ret) {
			ret = journal_read(j, NULL, 0, &r);
			c = r.carried;
			if (!ret)
				ret = journal_start(j, journal_blacklist_end(&r, NULL, 0) + 1, &r,
						    &c);
			env_sim_fail_alloc(t.env, 0, false);
			journal_replay_free(j, &r);
			journal_free(j);
		}
		cr_assert(!ret || ret == -BCFS_ERR_nomem || ret == -BCFS_ERR_thread_start, "%s",
			  err_str(ret));
		cr_assert(ret || k > 5);
		cr_assert_leq(env_sim_live_allocs(t.env, &bytes), 16);
		jt_sim_close(&t);
	}
}

/* A pre_flush that never succeeds must not let the seqs run away: the journal stops. */
Test(journal, seq_ahead)
{
	const struct geometry large = {512, 64 << 10, 32};
	struct jt t;
	int ret = 0;

	jt_sim_open(&t, trand_seed(13), &large);
	t.ops.pre_flush = fail_pre_flush;
	start(&t);
	cr_assert_eq(journal_flush(t.j), 0);
	t.pre_flush_fails = true;
	for (unsigned i = 0; i < 2000 && !ret; i++) {
		ret = jt_op(&t, 0, 1, 0, false);
		if (!ret)
			ret = journal_flush(t.j) && journal_error(t.j) ? journal_error(t.j) : 0;
		cr_assert_leq(journal_cur_seq(t.j), journal_flushed_seq(t.j) + JOURNAL_SEQ_AHEAD);
	}
	cr_assert(ret == -BCFS_ERR_journal_shutdown || ret == journal_error(t.j), "%s",
		  err_str(ret));
	cr_assert_neq(journal_error(t.j), 0);
	journal_free(t.j);
	cr_assert_eq(t.nr_errors, 1);
	bdev_close(t.bdev);
	jt_exit(&t);
	env_sim_destroy(t.env);
}
