// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: journal and btree behave like a sorted map, across splits, merges, evictions, journal
 * wraps, clean reopens and crashes at random moments.
 * Method: random single and multi-key transactions on the simulated device against an array;
 * after a crash the contents equal the model after some prefix of the commits, not
 * before the last flush that returned.
 */
#include "btree_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS 3000

struct model {
	u64 v[KEYS]; /* 0: absent */
};

struct run {
	struct fx fx;
	struct model m;
	u64 rng;
	unsigned ops;
	unsigned injected_ppm;
	unsigned keys;
	int ret;
	/* crash runs: every commit in order */
	struct commit {
		u32 idx[4];
		u64 v[4];
		u32 nr;
		u64 seq;
	} * commits;
	size_t nr_commits;
	u64 log_len; /* of the device, when the last commit had returned */
	u32 *synced; /* by log position: commits whose flush had returned there; 0: no news */
	struct btree_counters bc; /* over all opens */
	struct journal_counters jc;
};

static u64 rnd(struct run *r)
{
	r->rng ^= r->rng << 13;
	r->rng ^= r->rng >> 7;
	r->rng ^= r->rng << 17;
	return r->rng * 0x2545f4914f6cdd1dULL >> 16;
}

#define check(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "line %d: ", __LINE__);                                    \
			fprintf(stderr, __VA_ARGS__);                                              \
			fprintf(stderr, "\n");                                                     \
			r->ret = -1;                                                               \
			return;                                                                    \
		}                                                                                  \
	} while (0)

static struct bpos key_pos(u32 i)
{
	return POS(1 + i % 7, (u64)i * 0x10001);
}

/* Every key of the model, by iteration forward. */
static void verify_all(struct run *r, const struct model *m)
{
	struct btree_trans *trans = btree_trans_get(r->fx.c);
	u64 seen = 0, want = 0;
	struct bpos last = POS_MIN;
	bool bad = false;

	for (u32 i = 0; i < r->keys; i++)
		want += !!m->v[i];
	int ret = for_each_btree_key (
		trans, iter, BTREE_ID_lru, POS_MIN, 0, k, ({
			u32 i = k.k->p.offset / 0x10001;

			if (i >= r->keys || !bpos_eq(k.k->p, key_pos(i)) || bpos_lt(k.k->p, last) ||
			    m->v[i] != *(const u64 *)k.v) {
				fprintf(stderr, "key %u: got %llu want %llu\n", i,
					(unsigned long long)*(const u64 *)k.v,
					(unsigned long long)(i < r->keys ? m->v[i] : 0));
				bad = true;
			}
			last = k.k->p;
			seen++;
			bad ? 1 : 0;
		}));
	btree_trans_put(trans);
	check(!ret && !bad, "iteration: %s", err_str(ret));
	check(seen == want, "%llu keys, want %llu", (unsigned long long)seen,
	      (unsigned long long)want);
}

static int multi_update(struct btree_trans *trans, struct commit *c)
{
	for (u32 i = 0; i < c->nr; i++) {
		struct bkey_i *k =
			btree_trans_alloc_key(trans, c->v[i] ? KEY_TYPE_cookie : KEY_TYPE_deleted,
					      key_pos(c->idx[i]), c->v[i] ? 8 : 0);
		if (c->v[i])
			memcpy(k->v, &c->v[i], 8);
		int ret = btree_trans_insert(trans, BTREE_ID_lru, k, 0);
		if (ret)
			return ret;
	}
	return 0;
}

static void model_apply(struct model *m, const struct commit *c)
{
	for (u32 i = 0; i < c->nr; i++)
		m->v[c->idx[i]] = c->v[i];
}

static void random_op(struct run *r, struct commit *c, bool shrink, bool keeps)
{
	c->nr = 1 + rnd(r) % 4;
	for (u32 i = 0; i < c->nr; i++) {
		c->idx[i] = rnd(r) % r->keys;
		c->v[i] = rnd(r) % 100 < (shrink ? 85 : 25) ? 0 : rnd(r) | 1;
	}
	struct btree_trans *trans = btree_trans_get(r->fx.c);
	/* For these there is no place for a node: a neighbour gives room, or they are refused. */
	unsigned flags = keeps ? BTREE_COMMIT_KEEPS : 0;
	int ret = commit_do(trans, &c->seq, flags, multi_update(trans, c));

	if (ret == -BCFS_ERR_nospc && flags)
		ret = commit_do(trans, &c->seq, 0, multi_update(trans, c));
	btree_trans_put(trans);
	if (ret) {
		r->ret = ret;
		fprintf(stderr, "commit: %s\n", err_str(ret));
		return;
	}
	model_apply(&r->m, c);
}

static void count_add(struct run *r)
{
	struct btree_counters bc;
	struct journal_counters jc;

	btree_counters(r->fx.c, &bc);
	journal_counters(r->fx.j, &jc);
#define x(name, doc) r->bc.name += bc.name;
	BTREE_COUNTERS(x)
#undef x
#define x(name, doc) r->jc.name += jc.name;
	JOURNAL_COUNTERS(x)
#undef x
}

static void model_main(void *arg)
{
	struct run *r = arg;
	struct commit c;

	r->ret = fx_open(&r->fx);
	check(!r->ret, "open: %s", err_str(r->ret));
	for (unsigned i = 0; i < r->ops && !r->ret; i++) {
		random_op(r, &c, (i / 4000) % 2, (i / 500) % 2);
		if (rnd(r) % 50 == 0) {
			u32 k = rnd(r) % r->keys;
			u64 v = 0;
			int ret = fx_get(&r->fx, BTREE_ID_lru, key_pos(k), &v);

			check(ret == (r->m.v[k] ? 0 : -BCFS_ERR_btree_key_not_found) &&
				      v == r->m.v[k],
			      "lookup of %u: %s", k, err_str(ret));
		}
		if (rnd(r) % 3000 == 0) {
			count_add(r);
			r->ret = fx_close(&r->fx) ?: fx_open(&r->fx);
			check(!r->ret, "reopen: %s", err_str(r->ret));
			verify_all(r, &r->m);
		}
	}
	if (r->ret)
		return;
	verify_all(r, &r->m);
	if (r->ret)
		return;
	count_add(r);
	struct btree_counters bc = r->bc;
	struct journal_counters jc = r->jc;

	fprintf(stderr,
		"splits %llu balances %llu merges %llu rewrites %llu grow %llu shrink %llu appends "
		"%llu "
		"evictions %llu cannibalized %llu restarts %llu wraps %llu\n",
		(unsigned long long)bc.splits, (unsigned long long)bc.balances,
		(unsigned long long)bc.merges, (unsigned long long)bc.rewrites,
		(unsigned long long)bc.root_grow, (unsigned long long)bc.root_shrink,
		(unsigned long long)bc.node_writes_append, (unsigned long long)bc.evictions,
		(unsigned long long)bc.cannibalized, (unsigned long long)bc.restarts,
		(unsigned long long)jc.wraps);
	r->ret = fx_close(&r->fx);
	check(!r->ret, "close: %s", err_str(r->ret));
	check(!sim_bdev_violations(r->fx.bdev), "%s", sim_bdev_first_violation(r->fx.bdev));
}

static struct run *run_new(u64 seed, const struct fx_geometry *g, unsigned ops)
{
	struct run *r = calloc(1, sizeof(*r));

	r->fx.g = *g;
	r->fx.keeps_refused = true;
	r->rng = seed * 2654435761u + 88172645463325252ULL;
	r->ops = ops;
	r->keys = KEYS;
	r->fx.p.clean = true;
	return r;
}

static void run_model(u64 seed, const struct fx_geometry *g, unsigned ops, unsigned inject_ppm)
{
	struct run *r = run_new(seed, g, ops);
	struct sim_bdev_opts o = {.size_bytes = g->dev_bytes, .no_log = true};

	r->fx.env = env_sim_create(seed);
	cr_assert_eq(sim_bdev_create(r->fx.env, "sim", &o, &r->fx.bdev), 0);
	if (inject_ppm) {
		env_inject_arm_random(r->fx.env, "trans_restart", inject_ppm);
		env_inject_arm_random(r->fx.env, "trans_restart_commit", inject_ppm);
	}
	int ret = env_sim_run(r->fx.env, model_main, r);
	cr_assert(!ret && !r->ret, "seed %llu: %s / %d", (unsigned long long)seed, err_str(ret),
		  r->ret);
	bdev_close(r->fx.bdev);
	env_sim_destroy(r->fx.env);
	free(r);
}

Test(btree_model, small_nodes)
{
	run_model(fx_seed(1), &fx_small, 20000, 0);
}

Test(btree_model, tiny_nodes)
{
	run_model(fx_seed(2), &fx_tiny, 20000, 0);
}

Test(btree_model, tiny_nodes_restarts)
{
	run_model(fx_seed(3), &fx_tiny, 8000, 20000);
}

/* ---- crashes ---- */

static void crash_main(void *arg)
{
	struct run *r = arg;

	r->ret = fx_open(&r->fx);
	check(!r->ret, "open: %s", err_str(r->ret));
	for (unsigned i = 0; i < r->ops && !r->ret; i++) {
		random_op(r, &r->commits[r->nr_commits++], (i / 100) % 3 == 2, (i / 50) % 2);
		if (rnd(r) % 20 == 0 && !r->ret) {
			r->ret = journal_flush(r->fx.j);
			check(!r->ret, "flush: %s", err_str(r->ret));
			r->synced[sim_bdev_log_len(r->fx.bdev)] = r->nr_commits;
		}
	}
	r->log_len = sim_bdev_log_len(r->fx.bdev);
	fx_abandon(&r->fx);
}

struct recover {
	struct run *r;
	struct fx fx;
	struct model m;
	int ret;
};

static void recover_main(void *arg)
{
	struct recover *rc = arg;
	int ret = fx_open(&rc->fx);

	if (ret) {
		fprintf(stderr, "recovery: %s\n", err_str(ret));
		rc->ret = ret;
		return;
	}
	struct btree_trans *trans = btree_trans_get(rc->fx.c);
	rc->ret = for_each_btree_key (trans, iter, BTREE_ID_lru, POS_MIN, 0, k, ({
					      u32 i = k.k->p.offset / 0x10001;

					      if (i < KEYS)
						      rc->m.v[i] = *(const u64 *)k.v;
					      i < KEYS ? 0 : -BCFS_ERR_bset_corrupt;
				      }));
	btree_trans_put(trans);
	/* It must also go on working. */
	for (u32 i = 0; !rc->ret && i < 50; i++)
		rc->ret = fx_set(&rc->fx, BTREE_ID_quotas, POS(9, i), i + 1, NULL);
	rc->ret = rc->ret ?: fx_close(&rc->fx);
	if (!rc->ret && sim_bdev_violations(rc->fx.bdev)) {
		fprintf(stderr, "%s\n", sim_bdev_first_violation(rc->fx.bdev));
		rc->ret = -1;
	}
}

/* Which prefix of the commits is it? -1: none. */
static long find_prefix(struct run *r, const struct model *got)
{
	struct model *m = calloc(1, sizeof(*m));
	long found = memcmp(m, got, sizeof(*m)) ? -1 : 0;

	for (size_t i = 0; i < r->nr_commits; i++) {
		model_apply(m, &r->commits[i]);
		if (!memcmp(m, got, sizeof(*m)))
			found = i + 1; /* the latest that fits */
	}
	free(m);
	return found;
}

/*
 * Recover from @img, with what the superblock says in @p; then, @again times, from crashes at
 * random places of that recovery and the little work after it.
 */
static void crash_at(struct run *r, struct sim_image *img, u64 pos, int rule, u64 seed,
		     const struct fx_persistent *p0, unsigned again)
{
	u64 synced = 0;

	for (u64 i = 0; i <= pos; i++)
		synced = max_t(u64, synced, r->synced[i]);
	struct recover *rc = calloc(1, sizeof(*rc));

	if (p0)
		rc->fx.p = *p0;

	rc->r = r;
	rc->fx.g = r->fx.g;
	rc->fx.quiet = true;
	rc->fx.env = env_sim_create(seed + pos);
	cr_assert_eq(sim_bdev_create_from(rc->fx.env, "sim",
					  &(struct sim_bdev_opts){.no_log = !again}, img,
					  &rc->fx.bdev),
		     0);
	if (r->injected_ppm) {
		env_inject_arm_random(rc->fx.env, "trans_restart", r->injected_ppm);
		env_inject_arm_random(rc->fx.env, "trans_restart_commit", r->injected_ppm);
	}
	int ret = env_sim_run(rc->fx.env, recover_main, rc);

	cr_assert(!ret && !rc->ret, "seed %llu pos %llu rule %s: %s", (unsigned long long)seed,
		  (unsigned long long)pos, sim_crash_rule_name(rule), err_str(ret ?: rc->ret));
	long p = find_prefix(r, &rc->m);
	cr_assert(p >= 0, "seed %llu pos %llu rule %s: not a prefix", (unsigned long long)seed,
		  (unsigned long long)pos, sim_crash_rule_name(rule));
	cr_assert((u64)p >= synced, "seed %llu pos %llu rule %s: %ld commits, %llu were synced",
		  (unsigned long long)seed, (unsigned long long)pos, sim_crash_rule_name(rule), p,
		  (unsigned long long)synced);
	for (unsigned i = 0; i < again; i++) {
		u64 at = rnd(r) % (sim_bdev_log_len(rc->fx.bdev) + 1);
		struct sim_crash crash = {.rule = rnd(r) % SIM_CRASH_SUBSET, .seed = rnd(r)};
		struct sim_image *img2 = sim_bdev_image_at(rc->fx.bdev, at, &crash);
		struct fx_persistent p2 = rc->fx.p;

		p2.clean = false;
		memset(&p2.carried, 0, sizeof(p2.carried));
		crash_at(r, img2, pos, crash.rule, seed + i, &p2, again - 1);
		sim_image_free(img2);
	}
	bdev_close(rc->fx.bdev);
	env_sim_destroy(rc->fx.env);
	free(rc);
}

static void run_crash(u64 seed, const struct fx_geometry *g, unsigned ops, unsigned nr_states,
		      unsigned inject_ppm)
{
	struct run *r = run_new(seed, g, ops);
	struct sim_bdev_opts o = {.size_bytes = g->dev_bytes};

	r->keys = 400;
	r->injected_ppm = inject_ppm;
	r->commits = calloc(ops + 1, sizeof(*r->commits));
	r->synced = calloc(1 << 20, sizeof(*r->synced));
	r->fx.env = env_sim_create(seed);
	cr_assert_eq(sim_bdev_create(r->fx.env, "sim", &o, &r->fx.bdev), 0);
	if (inject_ppm) {
		env_inject_arm_random(r->fx.env, "trans_restart", inject_ppm);
		env_inject_arm_random(r->fx.env, "trans_restart_commit", inject_ppm);
	}
	int ret = env_sim_run(r->fx.env, crash_main, r);
	cr_assert(!ret && !r->ret, "seed %llu: %s", (unsigned long long)seed, err_str(ret));

	u64 len = r->log_len;
	for (unsigned i = 0; i < nr_states; i++) {
		u64 pos = len * i / nr_states;
		struct sim_crash crash = {.rule = rnd(r) % SIM_CRASH_SUBSET, .seed = rnd(r)};
		struct sim_image *img = sim_bdev_image_at(r->fx.bdev, pos, &crash);

		crash_at(r, img, pos, crash.rule, seed, NULL, i % 4 ? 0 : 2);
		sim_image_free(img);
	}
	fprintf(stderr, "log of %llu events, %u states\n", (unsigned long long)len, nr_states);
	bdev_close(r->fx.bdev);
	env_sim_destroy(r->fx.env);
	free(r->commits);
	free(r->synced);
	free(r);
}

Test(btree_crash, tiny)
{
	for (u64 s = 0; s < 4; s++)
		run_crash(fx_seed(10) + s, &fx_tiny, 1500, 120, s % 2 ? 3000 : 0);
}

Test(btree_crash, small)
{
	for (u64 s = 0; s < 4; s++)
		run_crash(fx_seed(20) + s, &fx_small, 1500, 120, s % 2 ? 3000 : 0);
}

/* ---- a leaf whose keys have all been overwritten in memory ---- */

struct full_leaf {
	struct fx fx;
	u32 nr; /* keys; 0: as many as one leaf takes is to be found out */
	bool after, move;
	int ret;
};

static int overwrite_step(struct btree_trans *trans, struct bpos pos, u64 v)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, v ? KEY_TYPE_cookie : KEY_TYPE_deleted, pos,
						 v ? 16 : 0);

	if (v)
		memcpy(k->v, &v, 8);
	return btree_trans_insert(trans, BTREE_ID_lru, k, BTREE_UPDATE_RESERVE);
}

/* By a longer value; 0: by nothing. */
static int overwrite(struct fx *fx, struct bpos pos, u64 v)
{
	struct btree_trans *trans = btree_trans_get(fx->c);
	int ret = commit_do(trans, NULL, 0, overwrite_step(trans, pos, v));

	btree_trans_put(trans);
	return ret;
}

/* Where key @i is afterwards. */
static struct bpos moved_to(const struct full_leaf *l, u32 i)
{
	return POS(l->move ? 0 : 1, i);
}

/* Fewer when they move: their whiteouts take room. */
static u32 nr_after(const struct full_leaf *l)
{
	return l->move ? l->nr / 8 * 7 : l->nr;
}

static void full_leaf_work(struct full_leaf *l)
{
	u64 v = 0;
	u32 nr = 0;

	l->ret = fx_open(&l->fx);
	for (u32 i = 0; l->after && !l->ret && i < nr_after(l); i++) {
		l->ret = fx_get(&l->fx, BTREE_ID_lru, moved_to(l, i), &v);
		if (!l->ret && v != i + 1000000ULL)
			l->ret = -BCFS_ERR_bset_corrupt;
	}
	if (l->after)
		return;
	while (!l->ret && (l->nr ? nr < l->nr : btree_depth(l->fx.c, BTREE_ID_lru) < 2)) {
		l->ret = fx_set(&l->fx, BTREE_ID_lru, POS(1, nr), nr, NULL);
		nr++;
	}
	if (!l->nr) {
		l->nr = nr - 1;
		return;
	}
	l->ret = l->ret ?: journal_flush_pins(l->fx.j, UINT64_MAX) ?: journal_flush(l->fx.j);
	for (u32 i = 0; l->move && !l->ret && i < nr; i++)
		l->ret = overwrite(&l->fx, POS(1, i), 0);
	for (u32 i = 0; !l->ret && i < nr_after(l); i++)
		l->ret = overwrite(&l->fx, moved_to(l, i), i + 1000000ULL);
	if (!l->ret && btree_depth(l->fx.c, BTREE_ID_lru) != 1)
		l->ret = -BCFS_ERR_bset_corrupt;
	l->ret = l->ret ?: journal_flush(l->fx.j);
}

static void full_leaf_main(void *arg)
{
	struct full_leaf *l = arg;

	full_leaf_work(l);
	fx_abandon(&l->fx);
}

static void full_leaf_run(struct full_leaf *l, struct sim_image **img)
{
	const struct sim_crash none = {.rule = SIM_CRASH_NONE};
	struct sim_bdev_opts o = {.size_bytes = fx_tiny.dev_bytes};

	l->fx.g = fx_tiny;
	l->fx.env = env_sim_create(1);
	cr_assert_eq(*img ? sim_bdev_create_from(l->fx.env, "sim", &o, *img, &l->fx.bdev)
			  : sim_bdev_create(l->fx.env, "sim", &o, &l->fx.bdev),
		     0);
	cr_assert_eq(env_sim_run(l->fx.env, full_leaf_main, l), 0);
	cr_assert_eq(l->ret, 0, "%s", err_str(l->ret));
	sim_image_free(*img);
	*img = sim_bdev_crash(l->fx.bdev, &none);
	bdev_close(l->fx.bdev);
	env_sim_destroy(l->fx.env);
}

static void full_leaf(bool move)
{
	struct full_leaf *l = calloc(3, sizeof(*l));
	struct sim_image *img = NULL;

	full_leaf_run(&l[0], &img);
	sim_image_free(img);
	img = NULL;
	l[1].nr = l[2].nr = l[0].nr;
	l[1].move = l[2].move = move;
	l[2].after = true;
	full_leaf_run(&l[1], &img);
	full_leaf_run(&l[2], &img);
	sim_image_free(img);
	free(l);
}

/* Replay has room for what fitted before the crash: what was overwritten takes none. */
Test(btree_crash, full_leaf_overwritten)
{
	full_leaf(false);
}

/* Nor does what was deleted, wherever it lies. */
Test(btree_crash, full_leaf_moved)
{
	full_leaf(true);
}
