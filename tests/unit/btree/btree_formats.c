// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: keys that come in order are taken, whatever odd ones lie among them: one that is far from
 * all others makes a format for all of them longer than one that leaves it unpacked, and what was
 * full in this one does not fit into that one.
 * Method: keys of ever new inodes with small offsets, of which one in so many has a large one, with
 * and without values; nodes split at their right edge, are rewritten, and read again.
 *
 * Goal: a btree that stays one node gets a format that takes its keys, though that was made of its
 * first one. Method: a key, whose format the node gets, then many in order, but fewer than it holds
 * unpacked; most are packed at last.
 */
#include "btree_fixture.h"
#include "btree/btree_private.h"

#include "../test_must.h"
#include "../test_rand.h"

#include <criterion/criterion.h>

#define KEYS	  3000
#define LONE_KEYS 200

struct run {
	struct fx fx;
	u32 odd;	  /* one in so many */
	bool value, down; /* down: they come in descending order */
};

static struct bpos pos_of(const struct run *r, u32 i)
{
	u32 nr = r->down ? KEYS - 1 - i : i;

	return nr % r->odd == r->odd / 2 ? POS(4096 + nr / 64, (1ULL << 50) + nr)
					 : POS(4096 + nr / 64, nr % 64);
}

static int set_step(struct btree_trans *trans, struct bpos pos, bool value)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, value ? KEY_TYPE_cookie : KEY_TYPE_set, pos,
						 value ? 8 : 0);

	return btree_trans_insert(trans, BTREE_ID_lru, k, 0);
}

static void formats_main(void *arg)
{
	struct run *r = arg;
	struct fx *fx = &r->fx;

	must(!fx_open(fx), "open");
	for (u32 i = 0; i < KEYS; i++) {
		struct btree_trans *trans = btree_trans_get(fx->c);
		int ret = commit_do(trans, NULL, 0, set_step(trans, pos_of(r, i), r->value));

		btree_trans_put(trans);
		must(!ret, "key %u, one odd in %u: %s", i, r->odd, err_str(ret));
	}
	must(fx_count(fx, BTREE_ID_lru) == KEYS, "%u keys", fx_count(fx, BTREE_ID_lru));
	must(!fx_close(fx), "close");
	must(!fx_open(fx), "open");
	must(fx_count(fx, BTREE_ID_lru) == KEYS, "%u keys", fx_count(fx, BTREE_ID_lru));
	must(!fx_close(fx), "close");
}

static void run(const struct fx_geometry *g, u32 odd, bool value, bool down)
{
	struct run r = {.fx = {.g = *g}, .odd = odd, .value = value, .down = down};
	struct sim_bdev_opts o = {.size_bytes = g->dev_bytes, .no_log = true};

	r.fx.env = env_sim_create(odd);
	cr_assert_eq(sim_bdev_create(r.fx.env, "sim", &o, &r.fx.bdev), 0);
	cr_assert_eq(env_sim_run(r.fx.env, formats_main, &r), 0);
	bdev_close(r.fx.bdev);
	env_sim_destroy(r.fx.env);
}

Test(btree_formats, odd_keys_in_order)
{
	for (u32 odd = 2; odd < 600; odd += 1 + odd / 3)
		for (unsigned how = 0; how < 8; how++)
			run(how & 4 ? &fx_small : &fx_tiny, odd, how & 1, how & 2);
}

static void lone_main(void *arg)
{
	struct fx *fx = arg;
	struct bset_stats stats = {0};
	struct btree *b;

	must(!fx_open(fx), "open");
	for (u32 i = 0; i < LONE_KEYS; i++) {
		struct btree_trans *trans = btree_trans_get(fx->c);
		int ret = commit_do(trans, NULL, 0,
				    set_step(trans, POS(UINT32_MAX, 4096 + i), false));

		btree_trans_put(trans);
		must(!ret, "key %u: %s", i, err_str(ret));
		if (i)
			continue;
		/* A format of that one: three bits of offset. */
		b = fx->c->roots[BTREE_ID_lru].b;
		must(!journal_flush_pins(fx->j, UINT64_MAX), "written");
		ret = btree_node_rewrite(fx->c, BTREE_ID_lru, 0, SPOS_MAX,
					 atomic_load(&b->hash_val));
		must(!ret, "rewrite: %s", err_str(ret));
	}
	btree_interior_flush(fx->c);
	b = fx->c->roots[BTREE_ID_lru].b;
	must(!b->level, "more than a node");
	btree_keys_stats(&b->keys, &stats);
	must(stats.packed_keys + stats.unpacked_keys == LONE_KEYS, "%llu and %llu keys",
	     (unsigned long long)stats.packed_keys, (unsigned long long)stats.unpacked_keys);
	must(stats.unpacked_keys < LONE_KEYS / 4, "%llu of %u keys are not packed",
	     (unsigned long long)stats.unpacked_keys, LONE_KEYS);
	must(!fx_close(fx), "close");
}

Test(btree_formats, lone_node)
{
	struct fx fx = {.g = fx_small};
	struct sim_bdev_opts o = {.size_bytes = fx.g.dev_bytes, .no_log = true};

	fx.env = env_sim_create(1);
	cr_assert_eq(sim_bdev_create(fx.env, "sim", &o, &fx.bdev), 0);
	cr_assert_eq(env_sim_run(fx.env, lone_main, &fx), 0);
	bdev_close(fx.bdev);
	env_sim_destroy(fx.env);
}
