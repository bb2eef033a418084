/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: what a look from each snapshot sees, of keys and of extents, is what brute force says.
 * Method: a tree of snapshots of three levels. For keys an array [snapshot][position] of
 * inserts, whiteouts and nothing, resolved by walking up the parents. For extents an array of
 * sectors per snapshot, where a write changes its own snapshot alone and what its descendants have
 * inherited is what they see until they write themselves. Toy values whose parts can be
 * told: an extent's value is the number that its sector 0 would have, cut_front adds to it.
 */
#include "btree_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parents by index; ids descend from the root. */
#define NR_SNAPS 7
static const u32 snap_id[NR_SNAPS] = {UINT32_MAX, 1000, 900, 300, 200, 100, 50};
static const int snap_parent[NR_SNAPS] = {-1, 0, 0, 1, 1, 2, 2};

#define POSITIONS 40
#define SECTORS	  300
#define INODES	  2

static bool is_ancestor_idx(int id, int ancestor)
{
	for (; id >= 0; id = snap_parent[id])
		if (id == ancestor)
			return true;
	return false;
}

static int snap_idx(u32 id)
{
	for (int i = 0; i < NR_SNAPS; i++)
		if (snap_id[i] == id)
			return i;
	return -1;
}

static bool toy_is_ancestor(void *arg, u32 id, u32 ancestor)
{
	return is_ancestor_idx(snap_idx(id), snap_idx(ancestor));
}

static const struct btree_snapshot_ops toy_snaps = {toy_is_ancestor};

static void toy_cut_front(struct bkey_i *k, u32 sectors)
{
	k->v[0] += sectors;
}

/* Joined if the numbers run on; values that are a multiple of 3 never. */
static bool toy_merge(struct bkey_i *l, struct bkey_s_c r)
{
	u64 rv = *(const u64 *)r.v;

	if (l->v[0] + l->k.size != rv || l->v[0] / 100000 % 3 == 0)
		return false;
	l->k.p.offset = r.k->p.offset;
	l->k.size += r.k->size;
	return true;
}

static const struct bkey_ops toy_ops = {.cut_front = toy_cut_front, .merge = toy_merge};
static const struct bkey_ops_table toy_table = {.ops = {[KEY_TYPE_cookie] = &toy_ops}};

enum cell { NOTHING, WHITEOUT, KEY };

struct run {
	struct fx fx;
	u64 rng, seed;
	unsigned ops;
	bool plain; /* extents in a btree without snapshots */
	int ret;
	struct {
		enum cell c;
		u64 v;
	} keys[NR_SNAPS][POSITIONS];
	u64 sect[NR_SNAPS][INODES][SECTORS];
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
			fprintf(stderr, "seed %llu line %d: ", (unsigned long long)r->seed,        \
				__LINE__);                                                         \
			fprintf(stderr, __VA_ARGS__);                                              \
			fprintf(stderr, "\n");                                                     \
			r->ret = -1;                                                               \
			return;                                                                    \
		}                                                                                  \
	} while (0)

/* ---- keys ---- */

static u64 key_seen(struct run *r, int s, u32 p)
{
	for (; s >= 0; s = snap_parent[s]) {
		if (r->keys[s][p].c == KEY)
			return r->keys[s][p].v;
		if (r->keys[s][p].c == WHITEOUT)
			return 0;
	}
	return 0;
}

static struct bpos key_pos(u32 p, u32 snapshot)
{
	return SPOS(4096 + p / 10, p % 10 * 7, snapshot);
}

static int key_set(struct btree_trans *trans, u32 p, u32 snapshot, u64 v)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, v ? KEY_TYPE_cookie : KEY_TYPE_deleted,
						 key_pos(p, snapshot), v ? 8 : 0);

	if (v)
		k->v[0] = v;
	return btree_trans_insert(trans, BTREE_ID_xattrs, k, 0);
}

/* Deletion as fs/ means it: not seen from @s any more. */
static void key_model(struct run *r, int s, u32 p, u64 v)
{
	r->keys[s][p].c = v ? KEY : NOTHING;
	r->keys[s][p].v = v;
	if (!v && key_seen(r, s, p))
		r->keys[s][p].c = WHITEOUT;
}

static void keys_verify(struct run *r, struct btree_trans *trans, int s)
{
	u32 p = 0;
	int ret = for_each_btree_key (trans, iter, BTREE_ID_xattrs, SPOS(0, 0, snap_id[s]), 0, k, ({
					      while (p < POSITIONS && !key_seen(r, s, p))
						      p++;
					      bool ok = p < POSITIONS &&
							!bkey_cmp_pos(k.k->p, key_pos(p, 0)) &&
							*(const u64 *)k.v == key_seen(r, s, p);
					      p++;
					      ok ? 0 : -BCFS_ERR_bset_corrupt;
				      }));
	while (p < POSITIONS && !key_seen(r, s, p))
		p++;
	check(!ret && p == POSITIONS, "keys of snapshot %d at %u: %s", s, p, err_str(ret));

	/* And backwards. */
	p = POSITIONS;
	ret = lockrestart_do(trans, ({
				     struct btree_iter iter;
				     struct bkey_s_c k;
				     int e = 0;

				     p = POSITIONS;
				     btree_iter_init(trans, &iter, BTREE_ID_xattrs,
						     SPOS(1 << 20, 0, snap_id[s]), 0);
				     while (1) {
					     k = btree_iter_peek_prev_min(&iter, POS_MIN);
					     e = bkey_err(k);
					     if (e || !k.k)
						     break;
					     while (p && !key_seen(r, s, p - 1))
						     p--;
					     if (!p || bkey_cmp_pos(k.k->p, key_pos(p - 1, 0)) ||
						 *(const u64 *)k.v != key_seen(r, s, p - 1)) {
						     e = -BCFS_ERR_bset_corrupt;
						     break;
					     }
					     p--;
				     }
				     btree_iter_exit(&iter);
				     e;
			     }));
	while (p && !key_seen(r, s, p - 1))
		p--;
	check(!ret && !p, "keys of snapshot %d backwards, left at %u: %s", s, p, err_str(ret));
}

static void keys_main(void *arg)
{
	struct run *r = arg;

	r->ret = fx_open(&r->fx);
	check(!r->ret, "open: %s", err_str(r->ret));
	for (unsigned i = 0; i < r->ops; i++) {
		u32 s = rnd(r) % NR_SNAPS, p = rnd(r) % POSITIONS, p2 = rnd(r) % POSITIONS;
		u64 v = rnd(r) % 3 ? rnd(r) | 1 : 0, v2 = rnd(r) % 3 ? rnd(r) | 1 : 0;
		struct btree_trans *trans = btree_trans_get(r->fx.c);
		int ret = commit_do(trans, NULL, 0,
				    key_set(trans, p, snap_id[s], v)
					    ?: key_set(trans, p2, snap_id[s], v2));

		key_model(r, s, p, v);
		key_model(r, s, p2, v2);
		if (!ret && i % 20 == 0)
			keys_verify(r, trans, rnd(r) % NR_SNAPS);
		if (!ret && i % 5 == 0) {
			/* Pending updates are seen too, and dropped without a commit. */
			u32 q = rnd(r) % POSITIONS;
			u64 buf[8], want = key_seen(r, s, q);

			ret = lockrestart_do(trans, key_set(trans, p, snap_id[s], 77)
							    ?: btree_lookup(trans, BTREE_ID_xattrs,
									    key_pos(q, snap_id[s]),
									    0, (void *)buf, 8));
			if (q == p)
				want = 77;
			if (ret == -BCFS_ERR_btree_key_not_found && !want)
				ret = 0;
			else if (!ret && ((struct bkey_i *)buf)->v[0] != want)
				ret = -BCFS_ERR_bset_corrupt;
		}
		btree_trans_put(trans);
		check(!ret && !r->ret, "op %u: %s", i, err_str(ret));
	}
	struct btree_trans *trans = btree_trans_get(r->fx.c);
	for (int s = 0; s < NR_SNAPS && !r->ret; s++)
		keys_verify(r, trans, s);
	btree_trans_put(trans);
	if (!r->ret)
		r->ret = fx_close(&r->fx);
}

/* ---- extents ---- */

static enum btree_id extents_id(struct run *r)
{
	return r->plain ? BTREE_ID_reflink : BTREE_ID_extents;
}
static u32 extents_snap(struct run *r, int s)
{
	return r->plain ? 0 : snap_id[s];
}

/* Sector by sector, forward and backward, and slots. */
static int extents_compare(struct run *r, struct btree_trans *trans, int s, u32 ino,
			   const u64 *want)
{
	u64 got[SECTORS] = {0}, back[SECTORS] = {0};
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret;

	for_each_btree_key_in_trans(trans, iter, extents_id(r), SPOS(ino, 0, extents_snap(r, s)),
				    SPOS(ino, UINT64_MAX, UINT32_MAX), 0, k, ret)
	{
		u64 start = bkey_start_offset(k.k);

		for (u64 i = start; i < k.k->p.offset; i++) {
			if (i >= SECTORS || got[i]) {
				fprintf(stderr, "sector %llu twice\n", (unsigned long long)i);
				btree_iter_exit(&iter);
				return -BCFS_ERR_bset_corrupt;
			}
			got[i] = *(const u64 *)k.v + i - start;
		}
	}
	btree_iter_exit(&iter);
	if (ret)
		return ret;
	btree_iter_init(trans, &iter, extents_id(r), SPOS(ino, SECTORS + 50, extents_snap(r, s)),
			0);
	while (1) {
		k = btree_iter_peek_prev_min(&iter, SPOS(ino, 0, extents_snap(r, s)));
		ret = bkey_err(k);
		if (ret || !k.k)
			break;
		u64 start = bkey_start_offset(k.k);
		for (u64 i = start; i < k.k->p.offset && i < SECTORS; i++)
			back[i] = *(const u64 *)k.v + i - start;
	}
	btree_iter_exit(&iter);
	if (ret)
		return ret;
	for (u32 i = 0; i < SECTORS; i++)
		if (got[i] != want[i] || back[i] != want[i]) {
			fprintf(stderr,
				"snapshot %d inode %u sector %u: %llu, back %llu, not %llu\n", s,
				ino, i, (unsigned long long)got[i], (unsigned long long)back[i],
				(unsigned long long)want[i]);
			return -BCFS_ERR_bset_corrupt;
		}
	return 0;
}

static int extents_slot(struct run *r, struct btree_trans *trans, int s, u32 ino, u32 at)
{
	const u64 *want = r->sect[s][ino - 1];
	struct btree_iter iter;

	btree_iter_init(trans, &iter, extents_id(r), SPOS(ino, at, extents_snap(r, s)), 0);
	struct bkey_s_c k = btree_iter_peek_slot(&iter);
	int ret = bkey_err(k);
	if (!ret) {
		u64 got = k.k->type == KEY_TYPE_cookie
				  ? *(const u64 *)k.v + at - bkey_start_offset(k.k)
				  : 0;

		if (got != want[at])
			ret = -BCFS_ERR_bset_corrupt;
		/* A hole reaches exactly to the next data. */
		for (u32 i = at; !ret && !got && i < SECTORS && i < k.k->p.offset; i++)
			if (want[i])
				ret = -BCFS_ERR_bset_corrupt;
		if (!ret && !got && k.k->p.offset < SECTORS && !want[k.k->p.offset])
			ret = -BCFS_ERR_bset_corrupt;
	}
	/* A limit right behind must not hide what covers the place. */
	if (!ret) {
		btree_iter_set_pos(&iter, SPOS(ino, at, extents_snap(r, s)));
		k = btree_iter_peek_max(&iter, SPOS(ino, at + 1, UINT32_MAX));
		ret = bkey_err(k);
		if (!ret && !!k.k != !!want[at])
			ret = -BCFS_ERR_bset_corrupt;
	}
	btree_iter_exit(&iter);
	return ret;
}

static int extent_write(struct btree_trans *trans, struct run *r, int s, u32 ino, u32 start,
			u32 len, u64 v)
{
	struct bkey_i *k =
		btree_trans_alloc_key(trans, v ? KEY_TYPE_cookie : KEY_TYPE_deleted,
				      SPOS(ino, start + len, extents_snap(r, s)), v ? 8 : 0);

	k->k.size = len;
	if (v)
		k->v[0] = v;
	return btree_trans_insert(trans, extents_id(r), k, 0);
}

static void extents_model(struct run *r, int s, u32 ino, u32 start, u32 len, u64 v)
{
	for (u32 i = 0; i < len; i++)
		r->sect[s][ino - 1][start + i] = v ? v + i : 0;
}

static void extents_round(struct run *r, int s, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		struct btree_trans *trans = btree_trans_get(r->fx.c);
		u32 ino = 1 + rnd(r) % INODES, start = rnd(r) % (SECTORS - 1);
		u32 len = 1 + rnd(r) % min(SECTORS - start, rnd(r) % 4 ? 20U : 120U);
		u64 v = rnd(r) % 4 ? (rnd(r) % 1000 + 1) * 100000 : 0;
		u32 start2 = rnd(r) % (SECTORS - 1);
		u32 len2 = 1 + rnd(r) % min(SECTORS - start2, 30U);
		u64 v2 = (rnd(r) % 1000 + 1) * 100000, seq;
		bool two = rnd(r) % 3 == 0;
		u64 want[SECTORS];
		int ret;

		/* Often the number runs on from the left neighbour's or to the right one's. */
		if (v && rnd(r) % 2 && start && r->sect[s][ino - 1][start - 1])
			v = r->sect[s][ino - 1][start - 1] + 1;
		else if (v && rnd(r) % 2 && start + len < SECTORS &&
			 r->sect[s][ino - 1][start + len] > len)
			v = r->sect[s][ino - 1][start + len] - len;
		if (rnd(r) % 8 == 0) {
			u32 end = min(start + len, (u32)SECTORS);

			btree_trans_put(trans);
			ret = btree_delete_range(r->fx.c, extents_id(r),
						 SPOS(ino, start, extents_snap(r, s)),
						 SPOS(ino, end, extents_snap(r, s)), 0, &seq);
			extents_model(r, s, ino, start, len, 0);
			check(!ret, "delete range: %s", err_str(ret));
			continue;
		}
		/* What is seen before the commit is what there will be. */
		extents_model(r, s, ino, start, len, v);
		if (two)
			extents_model(r, s, ino, start2, len2, v2);
		memcpy(want, r->sect[s][ino - 1], sizeof(want));
		ret = commit_do(trans, NULL, 0,
				extent_write(trans, r, s, ino, start, len, v)
					?: (two ? extent_write(trans, r, s, ino, start2, len2, v2)
						: 0)
					?: (i % 4 == 0 ? extents_compare(r, trans, s, ino, want)
						       : 0));
		if (!ret && i % 3 == 0)
			ret = lockrestart_do(trans, extents_compare(r, trans, s, ino, want));
		if (!ret)
			ret = lockrestart_do(
				trans, extents_slot(r, trans, s, ino, rnd(r) % (SECTORS - 1)));
		btree_trans_put(trans);
		check(!ret, "snapshot %d, [%u, +%u) = %llu%s: %s", s, start, len,
		      (unsigned long long)v, two ? " and another" : "", err_str(ret));
	}
}

static void extents_main(void *arg)
{
	struct run *r = arg;

	r->ret = fx_open(&r->fx);
	check(!r->ret, "open: %s", err_str(r->ret));
	/* Each generation writes, then its children begin with what it has. */
	for (unsigned gen = 0; gen < 3 && !r->ret; gen++) {
		static const int first[] = {0, 1, 3, NR_SNAPS};

		for (int s = first[gen]; gen && s < first[gen + 1]; s++)
			memcpy(r->sect[s], r->sect[snap_parent[s]], sizeof(r->sect[s]));
		for (unsigned turn = 0; turn < r->ops / 10 && !r->ret; turn++)
			for (int s = first[gen]; s < first[gen + 1] && !r->ret; s++)
				extents_round(r, s, 10);
		if (r->plain)
			break;
	}
	struct btree_trans *trans = btree_trans_get(r->fx.c);
	for (int s = 0; s < NR_SNAPS && !r->ret; s++)
		for (u32 ino = 1; ino <= INODES && !r->ret && (!s || !r->plain); ino++)
			r->ret = lockrestart_do(
				trans, extents_compare(r, trans, s, ino, r->sect[s][ino - 1]));
	btree_trans_put(trans);
	if (!r->ret)
		r->ret = fx_close(&r->fx);
}

static void run(u64 seed, unsigned ops, unsigned inject_ppm, bool plain, void (*fn)(void *))
{
	struct run *r = calloc(1, sizeof(*r));
	struct sim_bdev_opts o = {.size_bytes = fx_tiny.dev_bytes, .no_log = true};

	r->fx.g = fx_tiny;
	r->fx.p.clean = true;
	r->fx.snaps = &toy_snaps;
	r->fx.ops = &toy_table;
	r->seed = seed;
	r->rng = seed * 2654435761u + 88172645463325252ULL;
	r->ops = ops;
	r->plain = plain;
	r->fx.env = env_sim_create(seed);
	cr_assert_eq(sim_bdev_create(r->fx.env, "sim", &o, &r->fx.bdev), 0);
	if (inject_ppm) {
		env_inject_arm_random(r->fx.env, "trans_restart", inject_ppm);
		env_inject_arm_random(r->fx.env, "trans_restart_commit", inject_ppm);
	}
	int ret = env_sim_run(r->fx.env, fn, r);
	cr_assert(!ret && !r->ret, "seed %llu: %s / %s", (unsigned long long)seed, err_str(ret),
		  err_str(r->ret));
	bdev_close(r->fx.bdev);
	env_sim_destroy(r->fx.env);
	free(r);
}

Test(btree_snapshots, keys)
{
	for (u64 s = 0; s < 4; s++)
		run(fx_seed(100) + s, 1500, s % 2 ? 20000 : 0, false, keys_main);
}

Test(btree_snapshots, extents)
{
	for (u64 s = 0; s < 6; s++)
		run(fx_seed(200) + s, 120, s % 2 ? 1500 : 0, false, extents_main);
}

Test(btree_snapshots, extents_plain)
{
	for (u64 s = 0; s < 4; s++)
		run(fx_seed(300) + s, 1000, s % 2 ? 1500 : 0, true, extents_main);
}
