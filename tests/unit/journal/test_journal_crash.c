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

/* Whatever is durable must be found again, asked for or not. */
static void note_flushed(void *arg, u64 seq)
{
	struct jt *t = arg;
	struct jt_flush f = {.seq = seq, .log_pos = sim_bdev_log_len(t->bdev)};

	cr_assert_eq(darray_push(&t->flushes, f), 0);
}

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

			cr_assert_eq(journal_flush_seq(t->j, seq), 0);
			note_flushed(t, seq);
		}
		if (!t->flush_slow &&
		    !trand_below(&w->rnd, 12)) /* a node written early, before its keys' entry */
			jt_node_write(t, &t->nodes[node]);
		if (!t->flush_slow && !trand_below(&w->rnd, 4))
			env_sleep_ns(t->env, trand_below(&w->rnd, ENV_NSEC_PER_MSEC));
	}
}

/* A device (from an image, or all zero) in a new simulation, and a journal on it. */
static void open_world(struct jt *t, u64 seed, const struct sim_image *img)
{
	struct sim_bdev_opts opts = {.size_bytes = jt_device_bytes(t)};

	t->rnd = seed;
	t->env = env_sim_create(seed);
	if (img)
		cr_assert_eq(sim_bdev_create_from(t->env, "sim", &opts, img, &t->bdev), 0);
	else
		cr_assert_eq(sim_bdev_create(t->env, "sim", &opts, &t->bdev), 0);
	jt_init(t);
	cr_assert_eq(jt_journal(t, t->bdev, t->env, &t->j), 0);
}

static void work_and_halt(struct run *r)
{
	struct jt *t = &r->t;
	struct cworker w[4];

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

static void run(struct run *r, u64 seed, u32 block, u32 bucket, u32 nr_buckets)
{
	struct journal_carried c = {0};
	struct jt *t = &r->t;

	memset(t, 0, sizeof(*t));
	jt_config(t, block, bucket, nr_buckets);
	t->flush_slow = seed & 2;
	t->ops.flushed = note_flushed;
	open_world(t, seed, NULL);
	if (seed % 5 == 0)
		sim_bdev_arm(t->bdev, SIM_FAULT_WRITE_TORN, 1 + seed % 20, false);
	cr_assert_eq(journal_start(t->j, 1, NULL, &c), 0);
	if (seed & 1)
		cr_assert_eq(journal_flush(t->j), 0);
	work_and_halt(r);
}

#define RING_SECTORS_MAX 1024

/* A write of an entry into a bucket of the ring; @newest: by sector, what lies there. */
static void check_life(const struct jt *t, u64 *newest, const struct sim_log_entry *e,
		       u64 durable_last_seq)
{
	u32 nr = t->bucket_bytes / SECTOR_SIZE;
	u64 first = e->offset / SECTOR_SIZE, bucket = first / nr * nr;
	u64 seq = ((const struct jset *)e->data)->seq;
	bool again = false;

	for (u64 s = first; s < first + e->len / SECTOR_SIZE; s++)
		again |= newest[s] != 0;
	for (u64 s = bucket; again && s < bucket + nr; s++) {
		/* Of this life already: a flush entry is logged late, behind its device flush. */
		if (newest[s] + JOURNAL_BUFS > seq)
			continue;
		cr_assert(newest[s] < durable_last_seq, "seq %llu is overwritten, needed from %llu",
			  (unsigned long long)newest[s], (unsigned long long)durable_last_seq);
		newest[s] = 0;
	}
	for (u64 s = first; s < first + e->len / SECTOR_SIZE; s++)
		newest[s] = seq;
}

/* No bucket is written again before a flush entry is durable that needs nothing in it. */
static void check_reuse(const struct jt *t)
{
	u64 newest[RING_SECTORS_MAX] = {0}, durable_last_seq = 0;
	struct sim_log_entry e;

	cr_assert_lt(jt_nodes_offset(t) / SECTOR_SIZE, RING_SECTORS_MAX);
	for (u64 pos = 0; sim_bdev_log_get(t->bdev, pos, &e); pos++) {
		const struct jset *s = e.data;

		if (e.op != BDEV_WRITE || e.offset >= jt_nodes_offset(t))
			continue;
		if (e.kind == SIM_EV_SUBMIT)
			check_life(t, newest, &e, durable_last_seq);
		else if (!e.ret && !(s->flags & JSET_NO_FLUSH))
			durable_last_seq = max(durable_last_seq, s->last_seq);
	}
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
		      unsigned step, unsigned flush_every)
{
	struct run r = {.nr_workers = 3, .nr_ops = nr_ops, .flush_every = flush_every};

	fprintf(stderr, "# " TEST_SEED_FMT "\n", (unsigned long long)seed);
	run(&r, seed, block, bucket, nr_buckets);
	check_reuse(&r.t);
	explore(&r, seed, step);
}

Test(journal_crash, every_position)
{
	for (u64 i = 0; i < 6; i++)
		crash_run(trand_seed(100) + i, i & 1 ? 4096 : 512, 16 << 10, 8, 25, 1,
			  i < 4 ? 6 : 100);
}

/* Longer runs that turn the ring; positions sampled. */
Test(journal_crash, wrapping)
{
	for (u64 i = 0; i < 4; i++)
		crash_run(trand_seed(200) + i, 512, 16 << 10, 8, 150, 7, 6);
	/* Hardly a flush but those that reclaim asks for. */
	for (u64 i = 0; i < 4; i++)
		crash_run(trand_seed(300) + i, 512, 16 << 10, 8, 200, 5, 400);
}

/* Forget what the crash undid. */
static void truncate_model(struct jt *t, u64 seq)
{
	size_t n = 0;

	for (size_t i = 0; i < t->recs.nr; i++)
		if (t->recs.data[i].seq <= seq)
			t->recs.data[n++] = t->recs.data[i];
	t->recs.nr = n;
	t->flushes.nr = 0;
	for (unsigned i = 0; i < JT_NODES; i++) {
		struct jt_node *node = &t->nodes[i];

		while (node->op_seqs.nr && darray_last(&node->op_seqs) > seq)
			node->op_seqs.nr--;
		node->pin = (struct journal_entry_pin){0};
	}
}

static struct sim_image *crash_somewhere(struct run *r, u64 *rnd, u64 *ret_flushed)
{
	struct jt *t = &r->t;
	u64 pos = trand_below(rnd, sim_bdev_log_len(t->bdev) + 1);
	struct sim_crash crash = {.rule = trand_below(rnd, SIM_CRASH_SUBSET)};

	crash.seed = trand_u64(rnd);
	for (size_t i = 0; i < t->flushes.nr; i++)
		if (t->flushes.data[i].log_pos <= pos)
			*ret_flushed = max(*ret_flushed, t->flushes.data[i].seq);
	return sim_bdev_image_at(t->bdev, pos, &crash);
}

static void close_world(struct jt *t)
{
	bdev_close(t->bdev);
	for (unsigned i = 0; i < JT_NODES; i++) {
		env_mutex_destroy(&t->nodes[i].lock);
		env_mutex_destroy(&t->nodes[i].write_lock);
	}
	env_mutex_destroy(&t->rec_lock);
	env_sim_destroy(t->env);
}

/* Read after a crash, blacklist, start, pin what has to be replayed. */
static void recover(struct jt *t, u64 flushed, struct journal_blacklist_range *bl, unsigned *nr_bl)
{
	struct journal_carried carried = {0};
	struct journal_replay r;
	int ret = journal_read(t->j, bl, *nr_bl, &r);
	u64 end;

	if (ret == -BCFS_ERR_journal_empty && !flushed) {
		truncate_model(t, 0);
		end = journal_blacklist_end(&r, bl, *nr_bl);
		bl[(*nr_bl)++] = (struct journal_blacklist_range){1, end};
		cr_assert_eq(journal_start(t->j, end + 1, NULL, &carried), 0);
		journal_replay_free(t->j, &r);
		return;
	}
	cr_assert_eq(ret, 0, "%s: %s", err_str(ret), t->last_err);
	cr_assert_geq(r.seq, flushed);
	truncate_model(t, r.seq);
	cr_assert(jt_check_replay(t, &r));
	cr_assert(jt_check_nodes(t, t->bdev, &r));
	carried = r.carried;
	end = journal_blacklist_end(&r, bl, *nr_bl);
	bl[(*nr_bl)++] = (struct journal_blacklist_range){r.seq + 1, end};
	cr_assert_eq(journal_start(t->j, end + 1, &r, &carried), 0);
	for (unsigned i = 0; i < JT_NODES; i++) {
		struct jt_node *node = &t->nodes[i];
		u64 ops = jt_node_ops(&r, i);

		if (ops < node->op_seqs.nr)
			journal_pin_add(t->j, node->op_seqs.data[ops], &node->pin);
	}
	journal_replay_done(t->j);
	journal_replay_free(t->j, &r);
}

/* Crash after crash: each session begins with what the last one left, at any moment. */
Test(journal_crash, chained)
{
	for (u64 i = 0; i < 12; i++) {
		u64 seed = trand_seed(400) + i, rnd = seed;
		struct run r = {.nr_workers = 3, .flush_every = i % 3 ? 6 : 60};
		struct journal_blacklist_range bl[32];
		struct jt *t = &r.t;
		struct sim_image *img;
		unsigned nr_bl = 0;
		u64 flushed = 0;

		fprintf(stderr, "# " TEST_SEED_FMT "\n", (unsigned long long)seed);
		r.nr_ops = 40;
		run(&r, seed, i & 1 ? 4096 : 512, 16 << 10, i % 4 ? 8 : 12);
		for (unsigned session = 0; session < 12; session++) {
			img = crash_somewhere(&r, &rnd, &flushed);
			close_world(t);
			open_world(t, trand_u64(&rnd), img);
			sim_image_free(img);
			recover(t, flushed, bl, &nr_bl);
			r.nr_ops = 1 + trand_below(&rnd, 60);
			work_and_halt(&r);
		}
		close_world(t);
		for (unsigned n = 0; n < JT_NODES; n++)
			darray_exit(&t->nodes[n].op_seqs);
		darray_exit(&t->recs);
		darray_exit(&t->flushes);
	}
}
