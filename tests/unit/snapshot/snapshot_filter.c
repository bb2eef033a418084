// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: a key is seen in snapshot S exactly if its id is S or the nearest ancestor of S that has
 * a key there, and a deletion in S hides what ancestors have without touching it.
 * Method: a tree of three levels (seven snapshots); random insertions, deletions and hash
 * whiteouts in random leaves and interior ids through btree_trans; after each batch, peek,
 * next, prev and peek_slot from every snapshot against a brute-force model.
 */
#include "../fs/fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/printbuf.h"

#include "../test_rand.h"

#define NR_SNAPS 7
#define NR_POS	 40
#define INUM	 100ULL

/* Ids fall from the root down: 0 is the root, 1 and 2 its children, 3 4 and 5 6 theirs. */
static const u32 ids[NR_SNAPS] = {UINT32_MAX, 4000000000, 3000000000, 500, 400, 70, 6};
static const int parents[NR_SNAPS] = {-1, 0, 0, 1, 1, 2, 2};

struct test {
	struct fsx *fx;
	u64 rng, seed;
	u64 val[NR_POS][NR_SNAPS]; /* 0: no key of its own */
	bool white[NR_POS][NR_SNAPS];
};

#define check(t, cond, fmt, ...)                                                                   \
	must(cond, TEST_SEED_FMT ": " fmt, (unsigned long long)(t)->seed, ##__VA_ARGS__)

/* The value seen at @pos from snapshot @s; 0: none. */
static u64 seen(struct test *t, unsigned pos, int s)
{
	for (; s >= 0; s = parents[s]) {
		if (t->white[pos][s])
			return 0;
		if (t->val[pos][s])
			return t->val[pos][s];
	}
	return 0;
}

static bool ancestor_shows(struct test *t, unsigned pos, int s)
{
	return parents[s] >= 0 && seen(t, pos, parents[s]);
}

static void make_tree(struct test *t)
{
	struct snapshot_node nodes[NR_SNAPS];
	struct subvol_node subvol = {
		.id = BCFS_ROOT_SUBVOL, .snapshot = UINT32_MAX, .root_inum = BCFS_ROOT_INO};
	struct snapshot_table *table = t->fx->c->snapshots;

	for (unsigned i = 0; i < NR_SNAPS; i++)
		nodes[i] = (struct snapshot_node){
			.id = ids[i], .parent = parents[i] < 0 ? 0 : ids[parents[i]], .tree = 1};
	check(t, !snapshots_set(table, nodes, NR_SNAPS, &subvol, 1, NULL), "set");

	for (unsigned i = 0; i < NR_SNAPS; i++)
		for (unsigned j = 0; j < NR_SNAPS; j++) {
			int a = i;

			while (a >= 0 && a != (int)j)
				a = parents[a];
			check(t, snapshot_is_ancestor(table, ids[i], ids[j]) == (a >= 0),
			      "ancestry of %u and %u", i, j);
		}
}

static int change(struct btree_trans *trans, unsigned pos, int s, u64 val)
{
	struct bpos p = SPOS(INUM, 10 + pos, ids[s]);
	struct bkey_i *k;

	if (!val)
		return btree_trans_delete(trans, BTREE_ID_xattrs, p, 0);
	k = btree_trans_alloc_key(trans, KEY_TYPE_cookie, p, 8);
	k->v[0] = val;
	return btree_trans_insert(trans, BTREE_ID_xattrs, k, 0);
}

static void one_change(struct test *t)
{
	struct btree_trans *trans = btree_trans_get(t->fx->c->btree);
	unsigned pos = trand_below(&t->rng, NR_POS), s = trand_below(&t->rng, NR_SNAPS);
	u64 val = trand_below(&t->rng, 5) < 3 ? 1 + trand_below(&t->rng, 1000000) : 0;

	check(t, !commit_do(trans, NULL, 0, change(trans, pos, s, val)), "commit");
	btree_trans_put(trans);
	t->val[pos][s] = val;
	/* A whiteout only where there is something to hide. */
	t->white[pos][s] = !val && ancestor_shows(t, pos, s);
}

static int compare_forward(struct btree_trans *trans, struct test *t, int s)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	unsigned pos = 0;
	int ret;

	for_each_btree_key_in_trans(trans, iter, BTREE_ID_xattrs, SPOS(INUM, 0, ids[s]),
				    SPOS(INUM, UINT64_MAX, ids[s]), 0, k, ret)
	{
		while (pos < NR_POS && !seen(t, pos, s))
			pos++;
		check(t, k.k->p.offset == 10 + pos && *(u64 *)k.v == seen(t, pos, s),
		      "snapshot %d: key at %llu, expected at %u", s,
		      (unsigned long long)k.k->p.offset, 10 + pos);
		pos++;
	}
	btree_iter_exit(&iter);
	while (!ret && pos < NR_POS)
		check(t, !seen(t, pos++, s), "snapshot %d: a key is missing at %u", s, 9 + pos);
	return ret;
}

static int compare_backward(struct btree_trans *trans, struct test *t, int s)
{
	struct btree_iter iter;
	int pos = NR_POS - 1, ret = 0;

	btree_iter_init(trans, &iter, BTREE_ID_xattrs, SPOS(INUM, UINT64_MAX, ids[s]), 0);
	while (1) {
		struct bkey_s_c k = btree_iter_peek_prev_min(&iter, SPOS(INUM, 0, ids[s]));

		ret = bkey_err(k);
		if (ret || !k.k)
			break;
		while (pos >= 0 && !seen(t, pos, s))
			pos--;
		check(t, pos >= 0 && k.k->p.offset == 10U + pos && *(u64 *)k.v == seen(t, pos, s),
		      "snapshot %d: backward: key at %llu, expected at %d", s,
		      (unsigned long long)k.k->p.offset, 10 + pos);
		pos--;
	}
	btree_iter_exit(&iter);
	while (!ret && pos >= 0)
		check(t, !seen(t, pos--, s), "snapshot %d: backward: a key is missing", s);
	return ret;
}

static int compare_slots(struct btree_trans *trans, struct test *t, int s)
{
	struct btree_iter iter;
	int ret = 0;

	btree_iter_init(trans, &iter, BTREE_ID_xattrs, SPOS(INUM, 10, ids[s]), 0);
	for (unsigned pos = 0; pos < NR_POS && !ret; pos++) {
		btree_iter_set_pos(&iter, SPOS(INUM, 10 + pos, ids[s]));

		struct bkey_s_c k = btree_iter_peek_slot(&iter);
		u64 want = seen(t, pos, s);

		ret = bkey_err(k);
		if (!ret)
			check(t,
			      want ? k.k->type == KEY_TYPE_cookie && *(u64 *)k.v == want
				   : k.k->type == KEY_TYPE_deleted,
			      "snapshot %d slot %u: type %u", s, pos, k.k->type);
	}
	btree_iter_exit(&iter);
	return ret;
}

/* The raw keys: one where there is a value or a whiteout, and no other. */
static int compare_raw(struct btree_trans *trans, struct test *t)
{
	unsigned nr = 0, want = 0;
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret;

	for_each_btree_key_in_trans(trans, iter, BTREE_ID_xattrs, SPOS(INUM, 0, 0),
				    SPOS(INUM, UINT64_MAX, UINT32_MAX), BTREE_ITER_ALL_SNAPSHOTS, k,
				    ret) nr++;
	btree_iter_exit(&iter);
	for (unsigned i = 0; i < NR_POS; i++)
		for (unsigned s = 0; s < NR_SNAPS; s++)
			want += t->val[i][s] || t->white[i][s];
	if (!ret)
		check(t, nr == want, "%u keys, expected %u", nr, want);
	return ret;
}

static void compare(struct test *t)
{
	struct btree_trans *trans = btree_trans_get(t->fx->c->btree);

	for (unsigned s = 0; s < NR_SNAPS; s++)
		check(t,
		      !lockrestart_do(trans, compare_forward(trans, t, s)
						     ?: compare_backward(trans, t, s)
						     ?: compare_slots(trans, t, s)),
		      "iteration");
	check(t, !lockrestart_do(trans, compare_raw(trans, t)), "iteration");
	btree_trans_put(trans);
}

static void filter_main(struct fsx *fx, void *arg)
{
	struct test *t = arg;

	t->fx = fx;
	check(t, !fsx_open(fx), "open");
	make_tree(t);
	for (unsigned i = 0; i < 3000; i++) {
		one_change(t);
		if (i < 100 || i % 20 == 0)
			compare(t);
	}
	compare(t);
	check(t, !fsx_close(fx), "close");
}

Test(snapshot, three_levels, .timeout = 200)
{
	struct fsx *fx = calloc(1, sizeof(*fx));
	struct test *t = calloc(1, sizeof(*t));

	t->seed = t->rng = trand_seed(5);
	fx->node_bytes = 4096;
	fsx_run(fx, t->seed, filter_main, t);
	free(t);
	free(fx);
}

static void table_main(struct fsx *fx, void *arg)
{
	struct snapshot_node bad[] = {{.id = 10, .parent = 5}, {.id = 5}};
	struct snapshot_node missing[] = {{.id = 10, .parent = 50}};
	struct printbuf err = PRINTBUF;
	struct snapshot_table *t = NULL;
	u32 snapshot;

	must(!snapshots_alloc(fx->env, &t), "alloc");
	must(subvol_snapshot(t, 1, &snapshot) == -BCFS_ERR_no_such_subvolume, "empty");
	must(snapshots_set(t, bad, 2, NULL, 0, &err) == -BCFS_ERR_snapshot_tree_invalid,
	     "a parent below its child");
	must(snapshots_set(t, missing, 1, NULL, 0, &err) == -BCFS_ERR_snapshot_tree_invalid,
	     "a missing parent");
	must(!snapshot_exists(t, 10), "a refused table is not used");
	printbuf_exit(&err);
	snapshots_free(t);
}

Test(snapshot, bad_tables)
{
	struct fsx *fx = calloc(1, sizeof(*fx));

	fsx_run(fx, 1, table_main, NULL);
	free(fx);
}
