/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: the journal never runs so full that reclaim cannot go on: not in the least ring there is,
 * not after a crash at any moment, not after crashes during several recoveries in a row.
 * Method: "nodes" whose pins cost reclaim what a btree's cost it: mostly an append (a key in the
 * parent), sometimes a rewrite of JOURNAL_PIN_BYTES, which makes some of a few common nodes dirty
 * again, as triggers do. The worst there is: every write of a node is a rewrite in an entry of its
 * own, and makes its parent dirty, too. Users dirty several nodes with each reservation. Which
 * operations of a node are written is a key in the journal, too, so that a recovery knows what to
 * pin. The simulated env tells when every fiber waits.
 */
#include "jtest.h"

#include <criterion/criterion.h>

#define NODES_MAX 300
#define COMMON	  8 /* the first nodes: those that rewrites touch */
#define USERS	  5
#define WRITTEN	  (1ULL << 32) /* inode bit: operations up to `offset` are in the node */

struct node {
	struct journal_entry_pin pin; /* first: flush_pins casts */
	u64 ops, written;
	u64 first; /* the oldest operation that a replay met */
};

struct world {
	struct env *env;
	struct bdev *bdev;
	struct journal *j;
	struct log log;
	struct journal_ops ops;
	struct env_mutex lock; /* nodes, rnd */
	struct node nodes[NODES_MAX];
	unsigned nr_nodes;
	unsigned user_nodes; /* that a user's reservation dirties at most */
	bool worst;
	u32 block, bucket, nr_buckets;
	u64 rnd;
	u64 op_seqs[NODES_MAX][1 << 15]; /* journal seq of each operation, for pins */
};

static void add_key(struct world *w, struct journal_res *res, u64 inode, u64 offset, u32 val_u64s)
{
	struct {
		struct bkey_i k;
		u64 v[256];
	} b = {.k.k.u64s = BKEY_U64s + val_u64s,
	       .k.k.format = BKEY_FORMAT_CURRENT,
	       .k.k.type = KEY_TYPE_cookie,
	       .k.k.p = {.inode = inode, .offset = offset}};

	journal_add_entry(w->j, res, BCFS_JSET_ENTRY_btree_keys, BTREE_ID_extents, 0, &b,
			  b.k.k.u64s);
}

/* The lock is held. */
static void node_op(struct world *w, struct journal_res *res, unsigned i, u32 val_u64s)
{
	struct node *n = &w->nodes[i];

	add_key(w, res, i, ++n->ops, val_u64s);
	cr_assert_lt(n->ops, ARRAY_SIZE(w->op_seqs[i]));
	w->op_seqs[i][n->ops] = res->seq;
	journal_pin_add(w->j, res->seq, &n->pin);
}

#define OP_U64s(val) jset_entry_u64s(BKEY_U64s + (val))

static int user_op(struct world *w, u64 *rnd)
{
	unsigned nr = 1 + trand_below(rnd, w->user_nodes);
	u32 val = 1 + trand_below(rnd, 12);
	struct journal_res res;
	int ret = journal_res_get(w->j, &res, nr * OP_U64s(val), JOURNAL_RES_PINS(nr));

	if (ret)
		return ret;
	env_mutex_lock(&w->lock);
	for (unsigned i = 0; i < nr; i++)
		node_op(w, &res, trand_below(rnd, w->nr_nodes), val);
	env_mutex_unlock(&w->lock);
	journal_res_put(w->j, &res);
	return 0;
}

static int flush_node(struct world *w, struct node *n, u64 seq)
{
	unsigned idx = n - w->nodes, nr_common = 0;
	bool rewrite;
	struct journal_res res;
	u64 ops, rnd;

	env_mutex_lock(&w->lock);
	rnd = trand_u64(&w->rnd);
	ops = n->ops;
	bool wanted = journal_pin_active(&n->pin) && n->pin.seq <= seq;
	env_mutex_unlock(&w->lock);
	if (!wanted)
		return 0;

	u32 u64s = OP_U64s(7);
	rewrite = w->worst || !trand_below(&rnd, idx < COMMON ? 8 : 3);
	if (rewrite) {
		nr_common = 1 + trand_below(&rnd, 3);
		u64s = JOURNAL_PIN_BYTES / 8;
	}
	int ret = journal_res_get(w->j, &res, u64s, JOURNAL_RES_RECLAIM);
	if (ret)
		return ret;
	env_sleep_ns(w->env, trand_below(&rnd, ENV_NSEC_PER_MSEC));
	env_mutex_lock(&w->lock);
	add_key(w, &res, idx | WRITTEN, ops, 7);
	if (w->worst && idx)
		node_op(w, &res, (idx - 1) / 4, 7);
	for (unsigned i = 0; i < nr_common; i++)
		node_op(w, &res, trand_below(&rnd, COMMON), 20);
	n->written = max(n->written, ops); /* another thread may have been at it */
	if (n->ops == n->written)
		journal_pin_drop(w->j, &n->pin);
	else
		journal_pin_update(w->j, w->op_seqs[idx][n->written + 1], &n->pin);
	env_mutex_unlock(&w->lock);
	if (nr_common) /* all of it is used */
		add_key(w, &res, idx | WRITTEN, ops, res.u64s - OP_U64s(0));
	journal_res_put(w->j, &res);
	if (w->worst) /* as on a full device, which waits for what was freed */
		journal_flush_async(w->j, UINT64_MAX);
	return 0;
}

static int flush_pins(void *arg, struct journal_entry_pin **pins, unsigned nr, u64 seq)
{
	int ret = 0;

	for (unsigned i = 0; i < nr; i++)
		ret = flush_node(arg, (struct node *)pins[i], seq) ?: ret;
	return ret;
}

static void no_error(void *arg, int err)
{
	cr_assert_fail("the journal failed: %s", err_str(err));
}

static void world_open(struct world *w, u64 seed, const struct sim_image *img)
{
	struct sim_bdev_opts o = {.size_bytes = (u64)w->bucket * (w->nr_buckets + 1)};
	u64 buckets[128];

	w->env = env_sim_create(seed);
	cr_assert_eq(img ? sim_bdev_create_from(w->env, "sim", &o, img, &w->bdev)
			 : sim_bdev_create(w->env, "sim", &o, &w->bdev),
		     0);
	w->ops = (struct journal_ops){.flush_pins = flush_pins, .error = no_error};
	struct journal_opts jo = {.block_bytes = w->block,
				  .bucket_sectors = w->bucket / SECTOR_SIZE,
				  .magic = JT_MAGIC,
				  .csum_type = BCFS_CSUM_crc32c,
				  .ops = &w->ops,
				  .arg = w};
	env_mutex_init(&w->lock, w->env);
	memset(w->nodes, 0, sizeof(w->nodes));
	cr_assert_eq(journal_alloc(w->env, w->bdev, &w->log, &jo, &w->j), 0);
	for (u32 i = 0; i < w->nr_buckets; i++)
		buckets[i] = i + 1;
	cr_assert_eq(journal_set_buckets(w->j, buckets, w->nr_buckets), 0);
}

static void world_close(struct world *w)
{
	journal_halt(w->j);
	journal_free(w->j);
	bdev_drain(w->bdev);
	cr_assert_eq(sim_bdev_violations(w->bdev), 0, "%s", sim_bdev_first_violation(w->bdev));
	bdev_close(w->bdev);
	env_mutex_destroy(&w->lock);
	env_sim_destroy(w->env);
}

/* What the nodes have, and pins for what they lack. */
static void replay(struct world *w, const struct journal_replay *r)
{
	for (size_t i = 0; i < r->nr; i++)
		for_each_jset_entry(e, r->entries[i].j)
		{
			if (e->type != BCFS_JSET_ENTRY_btree_keys)
				continue;
			for_each_jset_key(k, e)
			{
				struct node *n = &w->nodes[k->k.p.inode & ~WRITTEN];

				if (k->k.p.inode & WRITTEN) {
					n->written = max(n->written, k->k.p.offset);
				} else {
					n->ops = max(n->ops, k->k.p.offset);
					n->first = n->first ?: k->k.p.offset;
					w->op_seqs[k->k.p.inode][k->k.p.offset] = r->entries[i].seq;
				}
			}
		}
	for (unsigned i = 0; i < w->nr_nodes; i++) {
		struct node *n = &w->nodes[i];

		/* What is older than the journal is written. */
		n->written = max(n->written, n->first - !!n->first);
		n->ops = max(n->ops, n->written);
		if (n->written < n->ops)
			journal_pin_add(w->j, w->op_seqs[i][n->written + 1], &n->pin);
	}
}

struct user {
	struct world *w;
	u64 rnd;
	unsigned nr_ops;
	struct env_thread *thread;
};

static void user(void *arg)
{
	struct user *u = arg;

	for (unsigned i = 0; i < u->nr_ops; i++) {
		cr_assert_eq(user_op(u->w, &u->rnd), 0);
		if (!trand_below(&u->rnd, 20))
			cr_assert_eq(journal_flush(u->w->j), 0);
	}
}

/* A session: recovery if there is an image, then users; ends with an image of a crash. */
static struct sim_image *session(struct world *w, u64 seed, struct sim_image *img,
				 struct journal_blacklist_range *bl, unsigned *nr_bl, bool settle)
{
	struct journal_carried carried = {0};
	struct user u[USERS];

	world_open(w, seed, img);
	if (img) {
		struct journal_replay r;
		int ret = journal_read(w->j, bl, *nr_bl, &r);
		u64 end = journal_blacklist_end(&r, bl, *nr_bl);

		cr_assert(!ret || ret == -BCFS_ERR_journal_empty, "%s", err_str(ret));
		bl[(*nr_bl)++] = (struct journal_blacklist_range){r.seq + 1, end};
		cr_assert_eq(journal_start(w->j, end + 1, ret ? NULL : &r, &carried), 0);
		if (!ret) {
			replay(w, &r);
			journal_replay_done(w->j);
			cr_assert_eq(journal_flush_pins(w->j, end), 0);
			cr_assert_eq(journal_flush(w->j), 0);
		}
		journal_replay_free(w->j, &r);
	} else {
		cr_assert_eq(journal_start(w->j, 1, NULL, &carried), 0);
	}
	for (unsigned i = 0; i < USERS && !settle; i++) {
		u[i] = (struct user){.w = w, .rnd = seed * 31 + i, .nr_ops = w->worst ? 50 : 150};
		cr_assert_eq(env_thread_start(w->env, &u[i].thread, "user", user, &u[i]), 0);
	}
	for (unsigned i = 0; i < USERS && !settle; i++)
		env_thread_join(u[i].thread);

	u64 rnd = seed, len = sim_bdev_log_len(w->bdev);
	struct sim_crash crash = {.rule = trand_below(&rnd, SIM_CRASH_SUBSET), .seed = seed};
	struct sim_image *ret = sim_bdev_image_at(w->bdev, trand_below(&rnd, len + 1), &crash);

	cr_assert(ret);
	sim_image_free(img);
	world_close(w);
	return ret;
}

struct ring {
	u32 block, bucket, nr_buckets;
	unsigned nr_nodes, user_nodes;
	bool worst;
};

static void run(u64 seed, const struct ring *r)
{
	struct world *w = calloc(1, sizeof(*w));
	struct journal_blacklist_range bl[64];
	struct sim_image *img = NULL;
	unsigned nr_bl = 0;
	u64 rnd = seed;

	cr_assert(w);
	fprintf(stderr, "# " TEST_SEED_FMT "\n", (unsigned long long)seed);
	w->block = r->block;
	w->bucket = r->bucket;
	w->nr_buckets = r->nr_buckets;
	w->nr_nodes = r->nr_nodes;
	w->user_nodes = r->user_nodes ?: 6;
	w->worst = r->worst;
	w->rnd = seed;
	w->log = (struct log){
		.fn = jt_log, .arg = calloc(1, sizeof(struct jt)), .max = LOG_LEVEL_ERR};
	for (unsigned i = 0; i < 8; i++) {
		img = session(w, trand_u64(&rnd), img, bl, &nr_bl, false);
		/* Crashes during recoveries. */
		for (unsigned n = trand_below(&rnd, 5); n; n--)
			img = session(w, trand_u64(&rnd), img, bl, &nr_bl, true);
	}
	sim_image_free(img);
	free(w->log.arg);
	free(w);
}

static u32 min_buckets(u32 block, u32 bucket)
{
	return journal_min_bytes(block, bucket / SECTOR_SIZE) / bucket;
}

/* The least that any version made. */
Test(journal_reserve, least_ring)
{
	for (u64 i = 0; i < trand_rounds(30); i++)
		run(trand_seed(500) + i, &(struct ring){.block = 512,
							.bucket = JOURNAL_BUCKET_BYTES_MIN,
							.nr_buckets = JOURNAL_BUCKETS_MIN,
							.nr_nodes = i % 2 ? 12 : 60});
	/* These ran full when users' pins counted only once they were there. */
	for (u64 i = 0; i < 3; i++) {
		static const u64 seeds[] = {16, 26, 50};

		run(seeds[i], &(struct ring){.block = 512,
					     .bucket = JOURNAL_BUCKET_BYTES_MIN,
					     .nr_buckets = JOURNAL_BUCKETS_MIN,
					     .nr_nodes = 60});
	}
}

Test(journal_reserve, large_blocks)
{
	for (u64 i = 0; i < trand_rounds(20); i++)
		run(trand_seed(600) + i, &(struct ring){.block = 4096,
							.bucket = 16 << 10,
							.nr_buckets = i % 2 ? 14 : 8 + i,
							.nr_nodes = 60});
}

Test(journal_reserve, many_nodes)
{
	for (u64 i = 0; i < trand_rounds(20); i++)
		run(trand_seed(700) + i, &(struct ring){.block = 512,
							.bucket = 16 << 10,
							.nr_buckets = 8 + i,
							.nr_nodes = NODES_MAX});
}

/* The least ring that mkfs makes, at the worst that can be. */
Test(journal_reserve, worst)
{
	for (u64 i = 0; i < trand_rounds(24); i++) {
		u32 block = i % 3 == 2 ? 4096 : 512, bucket = 8192U << i % 4;

		run(trand_seed(800) + i, &(struct ring){.block = block,
							.bucket = bucket,
							.nr_buckets = min_buckets(block, bucket),
							.nr_nodes = i % 2 ? 60 : NODES_MAX,
							.user_nodes = 1 + i % JOURNAL_USER_PINS,
							.worst = true});
	}
}
