/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: a failing device or failing allocations never crash or hang the btree, and what could
 * not be done is an error that changes nothing.
 * Method: short runs of transactions against an array, again and again, with the k-th write, read
 * or allocation failing, once or from then on.
 */
#include "btree_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS	 1500
#define VAL_U64S 32

enum fault { FAULT_WRITE, FAULT_READ, FAULT_ALLOC };

struct run {
	struct fx fx;
	u64 rng, seed;
	unsigned ops;
	enum fault fault;
	u64 k;
	bool sticky;
	int ret;
	unsigned errors;
	u64 struck, total; /* times the fault struck; requests of its kind seen */
	struct env_thread *healer;
	u64 v[KEYS];
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
			fprintf(stderr, "seed %llu k %llu line %d: ", (unsigned long long)r->seed, \
				(unsigned long long)r->k, __LINE__);                               \
			fprintf(stderr, __VA_ARGS__);                                              \
			fprintf(stderr, "\n");                                                     \
			r->ret = -1;                                                               \
			return;                                                                    \
		}                                                                                  \
	} while (0)

static struct bpos key_pos(u32 i)
{
	return POS(1 + i % 3, i * 5);
}

static int set_key(struct btree_trans *trans, u32 i, u64 v)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, v ? KEY_TYPE_cookie : KEY_TYPE_deleted,
						 key_pos(i), v ? VAL_U64S * 8 : 0);

	for (u32 j = 0; v && j < VAL_U64S; j++)
		k->v[j] = v + j;
	return btree_trans_insert(trans, BTREE_ID_lru, k, 0);
}

static int op_set(struct run *r, u32 a, u64 va, u32 b, u64 vb)
{
	struct btree_trans *trans = btree_trans_get(r->fx.c);
	int ret = commit_do(trans, NULL, 0, set_key(trans, a, va) ?: set_key(trans, b, vb));

	btree_trans_put(trans);
	return ret;
}

static int op_get(struct run *r, u32 i, u64 *v)
{
	u64 buf[BKEY_U64s + VAL_U64S];
	struct btree_trans *trans = btree_trans_get(r->fx.c);
	int ret = lockrestart_do(trans, btree_lookup(trans, BTREE_ID_lru, key_pos(i), 0,
						     (struct bkey_i *)buf, ARRAY_SIZE(buf)));

	btree_trans_put(trans);
	*v = ret ? 0 : ((struct bkey_i *)buf)->v[0];
	return ret == -BCFS_ERR_btree_key_not_found ? 0 : ret;
}

static void arm(struct run *r)
{
	switch (r->fault) {
	case FAULT_WRITE:
		sim_bdev_arm(r->fx.bdev, SIM_FAULT_WRITE_ERROR, r->k, r->sticky);
		break;
	case FAULT_READ:
		sim_bdev_arm(r->fx.bdev, SIM_FAULT_READ_ERROR, r->k, r->sticky);
		break;
	case FAULT_ALLOC:
		env_sim_fail_alloc(r->fx.env, r->k, r->sticky);
		break;
	}
}

static void disarm(struct run *r)
{
	sim_bdev_fault_hits(r->fx.bdev, SIM_FAULT_WRITE_ERROR, &r->struck);
	if (r->fault == FAULT_READ)
		sim_bdev_fault_hits(r->fx.bdev, SIM_FAULT_READ_ERROR, &r->struck);
	sim_bdev_arm(r->fx.bdev, SIM_FAULT_WRITE_ERROR, 0, false);
	sim_bdev_arm(r->fx.bdev, SIM_FAULT_READ_ERROR, 0, false);
	env_sim_fail_alloc(r->fx.env, 0, false);
}

static void ops(struct run *r, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		u32 a = rnd(r) % KEYS, b = rnd(r) % KEYS;
		u64 va = rnd(r) % 4 ? rnd(r) | 1 : 0, vb = a == b ? va : rnd(r) | 1;
		int ret = op_set(r, a, va, b, vb);

		if (ret) {
			/* Nothing of it. */
			r->errors++;
		} else {
			r->v[a] = va;
			r->v[b] = vb;
		}
		if (i % 3 == 0) {
			u64 v;

			ret = op_get(r, a, &v);
			check(ret || v == r->v[a], "key %u: %llx, not %llx", a,
			      (unsigned long long)v, (unsigned long long)r->v[a]);
			r->errors += !!ret;
		}
		if (i % 40 == 39)
			r->errors += !!journal_flush_pins(r->fx.j, UINT64_MAX);
		if (i % 10 == 9)
			r->errors += !!journal_flush(r->fx.j);
	}
}

static void verify(struct run *r)
{
	for (u32 i = 0; i < KEYS; i++) {
		u64 v;
		int ret = op_get(r, i, &v);

		check(!ret && v == r->v[i], "key %u: %s, %llx, not %llx", i, err_str(ret),
		      (unsigned long long)v, (unsigned long long)r->v[i]);
	}
}

/* One fault: it may be felt, but what follows works, and nothing is lost. */
static void once_main(void *arg)
{
	struct run *r = arg;
	u64 before = env_sim_nr_allocs(r->fx.env);

	if (r->fault == FAULT_ALLOC)
		arm(r);
	r->ret = fx_open(&r->fx);
	if (r->ret) {
		check(r->fault == FAULT_ALLOC, "open: %s", err_str(r->ret));
		fx_abandon(&r->fx);
		r->errors++;
		r->fx.p = (struct fx_persistent){.clean = true};
		disarm(r);
		r->ret = fx_open(&r->fx);
		check(!r->ret, "second open: %s", err_str(r->ret));
	}
	ops(r, r->fault == FAULT_READ ? 1000 : r->ops / 2);
	if (r->ret)
		return;
	if (r->fault != FAULT_ALLOC) {
		u64 errors = r->errors;

		check(!errors, "%llu errors without a fault", (unsigned long long)errors);
		arm(r);
	}
	ops(r, r->ops / 2);
	if (r->ret)
		return;
	disarm(r);
	r->total = env_sim_nr_allocs(r->fx.env) - before;
	if (r->fault == FAULT_WRITE)
		check(!r->errors && !r->fx.error, "%u errors, %s: not written elsewhere", r->errors,
		      err_str(r->fx.error));
	check(r->errors <= 2, "%u errors of one fault", r->errors);
	verify(r);
	if (r->ret)
		return;
	r->ret = fx_close(&r->fx) ?: fx_open(&r->fx);
	check(!r->ret, "reopen: %s", err_str(r->ret));
	verify(r);
	if (r->ret)
		return;
	r->ret = fx_close(&r->fx);
	check(!r->ret, "close: %s", err_str(r->ret));
	check(!sim_bdev_violations(r->fx.bdev), "%s", sim_bdev_first_violation(r->fx.bdev));
}

/* The device fails for good: errors, and it can be closed. */
static void sticky_main(void *arg)
{
	struct run *r = arg;

	r->ret = fx_open(&r->fx);
	check(!r->ret, "open: %s", err_str(r->ret));
	ops(r, r->fault == FAULT_READ ? 1000 : 100);
	if (r->ret)
		return;
	arm(r);
	for (unsigned i = 0; i < r->ops && r->errors < 20 && !r->ret; i++)
		ops(r, 40);
	check(r->errors, "no errors though nothing works");
	int ret = fx_close(&r->fx);
	check(r->fault != FAULT_WRITE || ret, "closed though nothing could be written");
}

static void heal(void *arg)
{
	struct run *r = arg;

	env_sleep_ns(r->fx.env, 20 * ENV_NSEC_PER_MSEC);
	disarm(r);
}

/* No memory for a while. */
static void dry_main(void *arg)
{
	struct run *r = arg;

	r->ret = fx_open(&r->fx);
	check(!r->ret, "open: %s", err_str(r->ret));
	ops(r, 100);
	check(!r->ret && !r->errors, "errors at first");
	r->ret = env_thread_start(r->fx.env, &r->healer, "healer", heal, r);
	check(!r->ret, "thread");
	arm(r);
	ops(r, r->ops);
	if (r->ret)
		return;
	env_thread_join(r->healer);
	verify(r);
	if (r->ret)
		return;
	r->ret = fx_close(&r->fx) ?: fx_open(&r->fx);
	check(!r->ret, "reopen: %s", err_str(r->ret));
	verify(r);
	if (!r->ret)
		r->ret = fx_close(&r->fx);
}

/* Returns how often the fault struck. */
static u64 run(u64 seed, enum fault fault, u64 k, bool sticky, unsigned nr_ops, void (*fn)(void *),
	       u64 *ret_total)
{
	struct run *r = calloc(1, sizeof(*r));
	struct sim_bdev_opts o = {.size_bytes = fx_tiny.dev_bytes, .no_log = true};
	u64 struck;

	r->fx.g = fx_tiny;
	r->fx.quiet = true;
	r->fx.p.clean = true;
	r->seed = seed;
	r->rng = (seed + k) * 2654435761u + 88172645463325252ULL;
	r->ops = nr_ops;
	r->fault = fault;
	r->k = k;
	r->sticky = sticky;
	r->fx.env = env_sim_create(seed);
	env_sim_set_time_limit(r->fx.env, 3600 * ENV_NSEC_PER_SEC);
	if (k % 2) {
		env_inject_arm_random(r->fx.env, "trans_restart", 2000);
		env_inject_arm_random(r->fx.env, "trans_restart_commit", 2000);
	}
	cr_assert_eq(sim_bdev_create(r->fx.env, "sim", &o, &r->fx.bdev), 0);
	int ret = env_sim_run(r->fx.env, fn, r);
	cr_assert(!ret && !r->ret, "seed %llu k %llu: %s / %s", (unsigned long long)seed,
		  (unsigned long long)k, err_str(ret), err_str(r->ret));
	struck = r->struck;
	if (ret_total)
		*ret_total = r->total;
	bdev_close(r->fx.bdev);
	env_sim_destroy(r->fx.env);
	free(r);
	return struck;
}

Test(btree_faults, write_once)
{
	u64 seed = fx_seed(400);
	unsigned struck = 0;

	for (u64 k = 1; k < 60; k++)
		struck += run(seed, FAULT_WRITE, k, false, 400, once_main, NULL);
	cr_assert_gt(struck, 30);
}

Test(btree_faults, write_sticky)
{
	for (u64 k = 1; k < 120; k += 6)
		run(fx_seed(500), FAULT_WRITE, k, true, 100, sticky_main, NULL);
}

Test(btree_faults, read_once)
{
	unsigned struck = 0;

	for (u64 k = 1; k < 80; k += 4)
		struck += run(fx_seed(600), FAULT_READ, k, false, 400, once_main, NULL);
	cr_assert_gt(struck, 10);
}

Test(btree_faults, read_sticky)
{
	for (u64 k = 1; k < 60; k += 6)
		run(fx_seed(700), FAULT_READ, k, true, 100, sticky_main, NULL);
}

Test(btree_faults, alloc_once)
{
	u64 total = 0;

	run(fx_seed(800), FAULT_ALLOC, 0, false, 200, once_main, &total);
	cr_assert_gt(total, 100);
	/* Every one of the opening, then by leaps. */
	for (u64 k = 1; k < total; k += k < 80 ? 1 : 1 + total / 150)
		run(fx_seed(800), FAULT_ALLOC, k, false, 200, once_main, NULL);
}

Test(btree_faults, alloc_dry)
{
	for (u64 k = 1; k < 400; k += 9)
		run(fx_seed(900), FAULT_ALLOC, k, true, 100, dry_main, NULL);
}
