// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Shared data and others at the same time.
 * Goal: two who share at once never get one place in the reflink btree, not even while its last
 * leaf goes empty; what becomes a file's own again while it is moved is not found where it was.
 * Method: the few keys that matter, and fibers that are held up amid locks, many times.
 */
#include "../test_rand.h"
#include "btree/btree_private.h"
#include "dfs.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define BASE_BLOCKS 512U
#define SHARERS	    2U

static const struct tfs_geometry small_nodes = {
	.block_sectors = 8,
	.node_sectors = 32,
	.bucket_sectors = 128,
	.nr_buckets = 768,
	.nr_journal = 32,
	.csum_type = BCFS_CSUM_crc32c,
	.chunk_shift = 4,
};

static struct data_file file(u64 inum)
{
	return (struct data_file){.snapshot = UINT32_MAX, .inum = inum};
}

/* Others run amid locks; with stalls, for as long as their commits take. */
static void hold_up(struct tfs *f, u32 locks, u32 stalls)
{
	env_inject_disarm_all(f->env);
	if (stalls)
		DFS_OK(f, env_inject_arm(f->env, "trans_restart", UINT64_MAX, false));
	env_sim_set_preempt_points(f->env, stalls);
	env_sim_set_stalls(f->env, stalls, 5 * ENV_NSEC_PER_MSEC);
	env_sim_set_preempt_locks(f->env, locks);
}

/* ---- places ---- */

struct sharer {
	struct tfs *f;
	struct data_file src, dst;
	u8 *bytes, *got; /* of one block */
};

struct base {
	struct tfs *f;
	struct data_file a, b;
	u8 *bytes;
	u32 nr, keep; /* blocks; what is left of them when the last leaf is empty */
};

static u64 block_bytes(const struct tfs *f)
{
	return f->g.block_sectors * 512ULL;
}

/* Where the last leaf of the reflink btree begins; 0: it is the only one. */
static int last_leaf(struct btree_trans *trans, u64 *ret)
{
	struct btree_iter iter;
	struct btree *b;
	int err;

	btree_iter_init(trans, &iter, BTREE_ID_reflink, POS(0, UINT64_MAX), 0);
	b = btree_iter_peek_node(&iter, &err);
	*ret = b ? b->min_key.offset : 0;
	btree_iter_exit(&iter);
	return err;
}

static int index_of(struct btree_trans *trans, const struct data_file *f, u64 sector, u64 *ret)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(f, sector), 0);
	k = btree_iter_peek_slot(&iter);
	err = bkey_err(k);
	if (!err && k.k->type == KEY_TYPE_reflink_p)
		*ret = ((const struct bcfs_reflink_p *)k.v)->idx + sector - bkey_start_offset(k.k);
	btree_iter_exit(&iter);
	return err;
}

/* Keys are added until there is a last leaf, and those in it found. */
static void base_make(struct base *x)
{
	struct tfs *f = x->f;
	struct btree_trans *trans = btree_trans_get(f->btree);
	u64 block = block_bytes(f), start = 0, idx = 0, done;

	while (!start) {
		DFS_ASSERT(f, x->nr < BASE_BLOCKS, "one leaf");
		DFS_OK(f, data_share(f->data, &x->a, x->nr * block, &x->b, x->nr * block, block,
				     NULL, NULL, &done));
		x->nr++;
		DFS_OK(f, lockrestart_do(trans, last_leaf(trans, &start)));
		btree_trans_unlock(trans);
	}
	for (x->keep = x->nr; x->keep; x->keep--) {
		DFS_OK(f, lockrestart_do(trans,
					 index_of(trans, &x->a,
						  (x->keep - 1) * (u64)f->g.block_sectors, &idx)));
		if (idx + f->g.block_sectors <= start)
			break;
	}
	btree_trans_put(trans);
}

/* The last leaf's keys go; what is now the file's own is shared anew later. */
static void base_cut(struct base *x)
{
	struct tfs *f = x->f;
	u64 block = block_bytes(f), from = x->keep * block, end = x->nr * block, done;

	DFS_OK(f, data_truncate(f->data, &x->b, from, NULL, NULL, NULL));
	DFS_OK(f, data_write(f->data, &x->a, from, x->bytes + from, end - from, end, NULL, NULL,
			     &done, NULL));
	x->nr = x->keep;
}

/* Of the node above the leaves: as long as it is held no two of them are merged. */
static int hold_parent(struct btree_trans *trans, struct btree_iter *iter)
{
	struct btree *b;
	int err;

	btree_iter_init_level(trans, iter, BTREE_ID_reflink, 1, POS(0, 0), BTREE_ITER_INTENT);
	b = btree_iter_peek_node(iter, &err);
	if (!b)
		btree_iter_exit(iter);
	return b ? 0 : err;
}

static void share_one(void *arg)
{
	struct sharer *s = arg;
	u64 done;

	DFS_OK(s->f, data_share(s->f->data, &s->src, 0, &s->dst, 0, block_bytes(s->f), NULL, NULL,
				&done));
}

static void sharer_check(struct sharer *s)
{
	u64 block = block_bytes(s->f), done;

	for (unsigned i = 0; i < 2; i++) {
		DFS_OK(s->f, data_read(s->f->data, i ? &s->src : &s->dst, 0, s->got, block, &done));
		DFS_ASSERT(s->f, !memcmp(s->got, s->bytes, block), "another's data");
	}
}

static void sharer_write(struct sharer *s, u64 *r)
{
	u64 done;

	for (u64 i = 0; i < block_bytes(s->f); i++)
		s->bytes[i] = (u8)trand_u64(r);
	DFS_OK(s->f, data_write(s->f->data, &s->src, 0, s->bytes, block_bytes(s->f), 0, NULL, NULL,
				&done, NULL));
}

static void share_at_once(struct tfs *f, struct sharer *s, unsigned nr, u64 *r)
{
	struct env_thread *t[SHARERS];

	for (unsigned i = 0; i < nr; i++)
		sharer_write(&s[i], r);
	hold_up(f, 8, 0);
	for (unsigned i = 0; i < nr; i++)
		DFS_OK(f, env_thread_start(f->env, &t[i], "sharer", share_one, &s[i]));
	for (unsigned i = 0; i < nr; i++)
		env_thread_join(t[i]);
	hold_up(f, 0, 0);
	for (unsigned i = 0; i < nr; i++)
		sharer_check(&s[i]);
	for (unsigned i = 0; i < nr; i++)
		DFS_OK(f, data_truncate(f->data, &s[i].dst, 0, NULL, NULL, NULL));
}

static void run_places(struct tfs *f)
{
	struct base x = {.f = f, .a = file(1), .b = file(2)};
	const struct data_file between = file(20);
	struct sharer s[SHARERS];
	u64 block = block_bytes(f), r = f->seed, done;

	x.bytes = aligned_alloc(4096, BASE_BLOCKS * block);
	for (u64 i = 0; i < BASE_BLOCKS * block; i++)
		x.bytes[i] = (u8)trand_u64(&r);
	DFS_OK(f, data_write(f->data, &x.a, 0, x.bytes, BASE_BLOCKS * block, 0, NULL, NULL, &done,
			     NULL));
	for (unsigned i = 0; i < SHARERS; i++)
		s[i] = (struct sharer){.f = f,
				       .src = file(10 + 20 * i),
				       .dst = file(11 + 20 * i),
				       .bytes = aligned_alloc(4096, block),
				       .got = aligned_alloc(4096, block)};
	/* Keys between the files, or the leaf that these are in would let one in at a time. */
	for (unsigned i = 0; i < 600; i++)
		DFS_OK(f,
		       data_fallocate(f->data, &between, 2 * i * block, block, NULL, NULL, NULL));
	for (unsigned round = 0; round < 40; round++) {
		struct btree_trans *trans = btree_trans_get(f->btree);
		struct btree_iter parent;

		base_make(&x);
		DFS_OK(f, lockrestart_do(trans, hold_parent(trans, &parent)));
		base_cut(&x);
		for (unsigned n = 0; n < 3; n++)
			share_at_once(f, s, SHARERS, &r);
		btree_iter_exit(&parent);
		btree_trans_put(trans);
	}
	for (unsigned i = 0; i < SHARERS; i++) {
		free(s[i].bytes);
		free(s[i].got);
	}
	free(x.bytes);
}

Test(data_reflink_race, places)
{
	for (u64 i = 0; i < trand_rounds(30); i++)
		dfs_run(trand_seed(0xda20) + i, &small_nodes, run_places);
}

/* ---- moved while it becomes a file's own ---- */

struct reader {
	struct tfs *f;
	struct data_file id;
	u8 *bytes, *got;
	u64 sleep_ns;
};

static void read_block(void *arg)
{
	struct reader *x = arg;
	u64 done;

	env_sleep_ns(x->f->env, x->sleep_ns);
	DFS_OK(x->f, data_read(x->f->data, &x->id, 0, x->got, block_bytes(x->f), &done));
	DFS_ASSERT(x->f, !memcmp(x->got, x->bytes, block_bytes(x->f)), "other data");
}

/* The first pointer of a btree. */
static int first_ptr(struct btree_trans *trans, enum btree_id id, struct extent_ptr_decoded *ret)
{
	return for_each_btree_key (trans, iter, id, POS_MIN,
				   BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS, k, ({
					   struct extent_ptr_decoded p;
					   int found = 0;

					   for_each_extent_ptr(k, 0, it, p)
					   {
						   *ret = p;
						   found = 1;
					   }
					   found;
				   }));
}

static void run_owned(struct tfs *f)
{
	struct reader x = {.f = f, .id = file(1)};
	const struct data_file other = file(2);
	u64 block = block_bytes(f), r = f->seed, done;
	struct extent_ptr_decoded p, now;
	struct btree_trans *trans;
	struct env_thread *t;
	unsigned owned = 0;

	x.bytes = aligned_alloc(4096, block);
	x.got = aligned_alloc(4096, block);
	for (unsigned round = 0; round < trand_rounds(400); round++) {
		for (u64 i = 0; i < block; i++)
			x.bytes[i] = (u8)trand_u64(&r);
		DFS_OK(f,
		       data_write(f->data, &x.id, 0, x.bytes, block, 0, NULL, NULL, &done, NULL));
		DFS_OK(f, data_share(f->data, &x.id, 0, &other, 0, block, NULL, NULL, &done));
		DFS_OK(f, data_truncate(f->data, &other, 0, NULL, NULL, NULL));
		trans = btree_trans_get(f->btree);
		DFS_ASSERT(f, first_ptr(trans, BTREE_ID_reflink, &p) == 1, "not shared");
		btree_trans_put(trans);
		x.sleep_ns = trand_below(&r, 2000) * ENV_NSEC_PER_USEC;
		hold_up(f, 200, 30000);
		DFS_OK(f, env_thread_start(f->env, &t, "reader", read_block, &x));

		DFS_OK(f, data_move_failed(f->data, &p.ptr, p.stored_sectors));

		env_thread_join(t);
		hold_up(f, 0, 0);
		trans = btree_trans_get(f->btree);
		owned += first_ptr(trans, BTREE_ID_reflink, &now) == 0;
		DFS_ASSERT(f,
			   first_ptr(trans, BTREE_ID_extents, &now) == 0 ||
				   now.ptr.offset != p.ptr.offset,
			   "back where it was taken away, round %u", round);
		btree_trans_put(trans);
		x.sleep_ns = 0;
		read_block(&x);
	}
	DFS_ASSERT(f, owned > 20, "%u", owned);
	free(x.bytes);
	free(x.got);
}

/* What an older key sealed stays where it is, until who replaces that key has met it. */
static void run_older_key(struct tfs *f)
{
	const struct data_file x = file(1), other = file(2);
	u64 block = block_bytes(f), done, moved = 0;
	struct btree_trans *trans;
	struct extent_ptr_decoded p;
	u8 *buf = aligned_alloc(4096, block);

	memset(buf, 1, block);
	DFS_OK(f, data_write(f->data, &x, 0, buf, block, 0, NULL, NULL, &done, NULL));
	DFS_OK(f, data_share(f->data, &x, 0, &other, 0, block, NULL, NULL, &done));
	DFS_OK(f, data_truncate(f->data, &other, 0, NULL, NULL, NULL));
	tfs_umount(f);
	tfs_mount(f);
	DFS_OK(f, data_read(f->data, &x, 0, buf, block, &done));
	trans = btree_trans_get(f->btree);
	DFS_ASSERT(f, first_ptr(trans, BTREE_ID_reflink, &p) == 1, "its own");
	btree_trans_put(trans);
	DFS_OK(f, data_move_old(f->data, &p.ptr, (u16)f->nr_keyed, &moved));
	DFS_ASSERT(f, moved, "nothing");
	DFS_OK(f, data_read(f->data, &x, 0, buf, block, &done));
	trans = btree_trans_get(f->btree);
	DFS_ASSERT(f, first_ptr(trans, BTREE_ID_reflink, &p) == 0, "not its own");
	btree_trans_put(trans);
	free(buf);
}

Test(data_reflink_race, older_key)
{
	struct tfs_geometry g = dfs_sealed(&dfs_small);

	dfs_run(trand_seed(0xda24), &g, run_older_key);
}

Test(data_reflink_race, owned)
{
	dfs_run(trand_seed(0xda22), &dfs_small, run_owned);
	dfs_run(trand_seed(0xda23), &dfs_small, run_owned);
}
