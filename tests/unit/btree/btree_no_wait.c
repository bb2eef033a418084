// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: a commit with BTREE_COMMIT_NO_WAIT that a node or the journal has no room for ends
 * unlocked, having changed nothing; btree_trans_wait() makes the room, and then the same commit
 * goes through. Method: keys until the leaves have been split many times, the journal now and then
 * without room as a fault point says, and never any other error; all keys are there in the end.
 */
#include "btree_fixture.h"

#include "../test_must.h"

#include <criterion/criterion.h>

#define KEYS 4000

struct run {
	struct fx fx;
	u32 waits;
};

static int set_step(struct btree_trans *trans, u64 nr)
{
	struct bkey_i *k =
		btree_trans_alloc_key(trans, KEY_TYPE_cookie, POS(4096, nr * 7919 % KEYS), 8);

	return btree_trans_insert(trans, BTREE_ID_lru, k, 0);
}

static void insert_one(struct run *r, u32 i)
{
	struct btree_trans *trans = btree_trans_get(r->fx.c);
	unsigned tries = 0;
	int ret;

	do {
		ret = commit_do(trans, NULL, BTREE_COMMIT_NO_WAIT, set_step(trans, i));
		btree_trans_unlock(trans);
		if (ret != -BCFS_ERR_commit_would_wait)
			break;
		must(fx_count(&r->fx, BTREE_ID_lru) == i, "key %u is there, and was not committed",
		     i);
		r->waits++;
		ret = btree_trans_wait(trans, BTREE_COMMIT_NO_WAIT);
	} while (!ret && tries++ < 100);
	btree_trans_put(trans);
	must(!ret && tries < 100, "key %u, after %u waits: %s", i, tries, err_str(ret));
}

static void no_wait_main(void *arg)
{
	struct run *r = arg;
	struct btree_counters before, after;

	must(!fx_open(&r->fx), "open");
	btree_counters(r->fx.c, &before);
	for (u32 i = 0; i < KEYS; i++)
		insert_one(r, i);
	btree_counters(r->fx.c, &after);
	must(r->waits >= after.splits - before.splits, "%u waits for %llu splits", r->waits,
	     (unsigned long long)(after.splits - before.splits));
	must(after.splits - before.splits > 10, "hardly any splits");
	must(fx_count(&r->fx, BTREE_ID_lru) == KEYS, "%u keys", fx_count(&r->fx, BTREE_ID_lru));
	must(!fx_close(&r->fx), "close");
}

static void run(u32 journal_ppm)
{
	struct run r = {.fx = {.g = fx_tiny}};
	struct sim_bdev_opts o = {.size_bytes = r.fx.g.dev_bytes, .no_log = true};
	u64 struck = 0;

	r.fx.env = env_sim_create(journal_ppm);
	cr_assert_eq(sim_bdev_create(r.fx.env, "sim", &o, &r.fx.bdev), 0);
	if (journal_ppm)
		cr_assert_eq(env_inject_arm_random(r.fx.env, "trans_restart_journal", journal_ppm),
			     0);
	cr_assert_eq(env_sim_run(r.fx.env, no_wait_main, &r), 0);
	env_inject_hits(r.fx.env, "trans_restart_journal", &struck);
	cr_assert_eq(!struck, !journal_ppm);
	bdev_close(r.fx.bdev);
	env_sim_destroy(r.fx.env);
}

Test(btree_no_wait, nodes_without_room)
{
	run(0);
}

Test(btree_no_wait, a_journal_without_room)
{
	run(20000);
}
