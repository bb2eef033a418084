// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: commits that leave as many keys as there were (BTREE_COMMIT_KEEPS: a rename) go on without
 * end where there is no place for one node more: full leaves are compacted, or get room from a
 * neighbour.
 * Method: a tree of some leaves; then keys are taken away and put elsewhere, in each commit one,
 * anywhere or within a part of the tree that wanders; no commit with KEEPS is given a place for
 * more nodes. None is refused, but for a few where the neighbours are full, too; the tree is the
 * model's all along, and after it was closed.
 */
#include "btree_fixture.h"

#include "../test_must.h"
#include "../test_rand.h"

#include <criterion/criterion.h>
#include <string.h>

#define POSITIONS 30000U
#define KEYS	  3000U
#define MOVES	  15000U

struct run {
	struct fx fx;
	u64 rng;
	bool wander;
	u8 there[POSITIONS];
	u32 key[KEYS]; /* their positions */
	u32 refused;
};

static struct bpos pos_of(u32 i)
{
	return POS(4096 + i / 1000, i % 1000);
}

static int set_step(struct btree_trans *trans, u32 i, bool there)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, there ? KEY_TYPE_cookie : KEY_TYPE_deleted,
						 pos_of(i), there ? 8 : 0);

	return btree_trans_insert(trans, BTREE_ID_lru, k, 0);
}

static void verify(struct run *r)
{
	struct btree_trans *trans = btree_trans_get(r->fx.c);
	u32 at = 0;
	int ret = for_each_btree_key (trans, iter, BTREE_ID_lru, POS_MIN, 0, k, ({
					      while (at < POSITIONS && !r->there[at])
						      at++;
					      must(at < POSITIONS && bpos_eq(k.k->p, pos_of(at)),
						   "other keys, from %u on", at);
					      at++;
					      0;
				      }));

	btree_trans_put(trans);
	must(!ret, "%s", err_str(ret));
	while (at < POSITIONS && !r->there[at])
		at++;
	must(at == POSITIONS, "key %u is not there", at);
}

/* Somewhere free: anywhere, or where the moves are just now. */
static u32 new_place(struct run *r, u32 move)
{
	u32 i;

	do {
		i = (u32)trand_below(&r->rng, r->wander ? POSITIONS / 2 : POSITIONS);
		if (r->wander)
			i = (i + move / 1000 * (POSITIONS / 3)) % POSITIONS;
	} while (r->there[i]);
	return i;
}

static void move_one(struct run *r, u32 move)
{
	u32 n = (u32)trand_below(&r->rng, KEYS), from = r->key[n], to = new_place(r, move);
	struct btree_trans *trans = btree_trans_get(r->fx.c);
	int ret = commit_do(trans, NULL, BTREE_COMMIT_KEEPS,
			    set_step(trans, from, false) ?: set_step(trans, to, true));

	btree_trans_put(trans);
	if (ret == -BCFS_ERR_nospc) {
		r->refused++;
		return;
	}
	must(!ret, "move %u: %s", move, err_str(ret));
	r->there[from] = 0;
	r->there[to] = 1;
	r->key[n] = to;
}

static void keeps_main(void *arg)
{
	struct run *r = arg;
	struct btree_counters before, after;

	must(!fx_open(&r->fx), "open");
	for (u32 n = 0; n < KEYS; n++) {
		struct btree_trans *trans = btree_trans_get(r->fx.c);

		do
			r->key[n] = (u32)trand_below(&r->rng, POSITIONS);
		while (r->there[r->key[n]]);
		r->there[r->key[n]] = 1;
		must(!commit_do(trans, NULL, 0, set_step(trans, r->key[n], true)), "key %u", n);
		btree_trans_put(trans);
	}
	btree_counters(r->fx.c, &before);
	r->fx.keeps_refused = true;
	for (u32 move = 0; move < MOVES; move++) {
		move_one(r, move);
		if (move % 2000 == 0)
			verify(r);
	}
	btree_counters(r->fx.c, &after);
	must(r->refused <= (r->wander ? MOVES / 20 : 0), "%u refused", r->refused);
	must(after.splits == before.splits, "%llu leaves were split",
	     (unsigned long long)(after.splits - before.splits));
	must(!r->wander || after.balances > before.balances, "no neighbour gave room");
	verify(r);
	must(!fx_close(&r->fx), "close");
	must(!fx_open(&r->fx), "open");
	verify(r);
	must(!fx_close(&r->fx), "close");
}

static void run(u64 seed, bool wander)
{
	struct run *r = calloc(1, sizeof(*r));
	struct sim_bdev_opts o = {.size_bytes = fx_tiny.dev_bytes, .no_log = true};

	r->rng = trand_seed(seed);
	r->wander = wander;
	r->fx.g = fx_tiny;
	r->fx.env = env_sim_create(seed);
	cr_assert_eq(sim_bdev_create(r->fx.env, "sim", &o, &r->fx.bdev), 0);
	cr_assert_eq(env_sim_run(r->fx.env, keeps_main, r), 0);
	cr_assert(!sim_bdev_violations(r->fx.bdev));
	bdev_close(r->fx.bdev);
	env_sim_destroy(r->fx.env);
	free(r);
}

Test(btree_keeps, anywhere)
{
	run(1, false);
}

Test(btree_keeps, here_and_there)
{
	run(2, true);
}
