/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A small world around a journal, for its tests: "nodes" that are logs of
 * operations, kept on the same device behind the journal, and a model of what was
 * reserved, so that whatever is read back can be compared key by key.
 *
 * An operation on a node is a key {inode node, offset number} journaled under the node's
 * lock. Writing a node appends a sector {number of operations} to its region, journals that number
 * as a root of the node's own, then drops or moves its pin: what the btree does, in little. After
 * a crash the root that the journal carries says how many operations the region has: that sector
 * must be there, and the journal must have all operations from there to its end.
 */
#ifndef BCFS_TEST_JTEST_H
#define BCFS_TEST_JTEST_H

#include "dev/sim_bdev.h"
#include "journal/journal_private.h"
#include "../test_rand.h"
#include "util/darray.h"

#include <stdio.h>
#include <string.h>

#define JT_MAGIC      (BCFS_JSET_MAGIC ^ 0x1234567890abcdefULL)
#define JT_NODES      6
#define JT_NODE_BYTES (256U << 10)
#define JT_VAL_MAX    200

/* One entry put in under a reservation. */
struct jt_rec {
	u64 seq;
	u32 offset;
	u32 val_u64s;
	u64 node, op; /* node JT_NODES: a parent's key, of reclaim */
	s64 delta;
	u64 root; /* 0: none; else the value of a root update */
	u8 root_btree;
};

struct jt_flush {
	u64 log_pos; /* of the device's log when the flush had returned */
	u64 seq;
};

struct jt_node {
	struct journal_entry_pin pin; /* first: flush_pins casts */
	struct env_mutex lock;
	struct env_mutex write_lock; /* one write at a time */
	DARRAY(u64) op_seqs;	     /* seq of op i + 1 */
	u32 nr_written;		     /* sectors in its region */
};

struct jt {
	struct env *env;
	struct bdev *bdev;
	struct journal *j;
	struct log log;
	char last_err[512];
	u32 block_bytes, bucket_bytes, nr_buckets;
	struct journal_opts opts;
	struct journal_ops ops;
	struct jt_node nodes[JT_NODES];
	struct env_mutex rec_lock; /* recs, flushes, next_root */
	DARRAY(struct jt_rec) recs;
	DARRAY(struct jt_flush) flushes;
	u64 next_root;
	u64 nr_reclaim_ops;
	u64 start_seq;
	/* What flush_pins does. */
	bool flush_fails, flush_slow; /* slow: as if nodes took long, so that space runs out */
	bool pre_flush_fails;
	u32 nr_errors; /* calls of ops.error */
	u64 rnd;
};

/* Bytes: where the ring's bucket @i lies; the device's first is not the journal's. */
static inline u64 jt_bucket_offset(const struct jt *t, u32 i)
{
	return (u64)t->bucket_bytes * (1 + i);
}

static inline u64 jt_nodes_offset(const struct jt *t)
{
	return (u64)t->bucket_bytes * (t->nr_buckets + 1);
}

static inline u64 jt_device_bytes(const struct jt *t)
{
	return round_up(jt_nodes_offset(t) + JT_NODES * JT_NODE_BYTES, 1ULL << 20);
}

static inline u64 jt_val(u64 node, u64 op, u32 i)
{
	u64 s = node << 40 | op << 8 | i;

	return trand_u64(&s);
}

static inline u32 jt_key(u64 *buf, const struct jt_rec *r)
{
	struct bkey_i *k = (struct bkey_i *)buf;

	*k = (struct bkey_i){
		.k.u64s = BKEY_U64s + r->val_u64s,
		.k.format = BKEY_FORMAT_CURRENT,
		.k.type = KEY_TYPE_cookie,
		.k.p = {.inode = r->node, .offset = r->op},
	};
	for (u32 i = 0; i < r->val_u64s; i++)
		k->v[i] = jt_val(r->node, r->op, i);
	return k->k.u64s;
}

static inline u32 jt_root(u64 *buf, u64 value)
{
	struct bkey_i *k = (struct bkey_i *)buf;
	u32 n = 5 + value % 3;

	*k = (struct bkey_i){
		.k.u64s = BKEY_U64s + n,
		.k.format = BKEY_FORMAT_CURRENT,
		.k.type = KEY_TYPE_btree_ptr,
		.k.p = {.inode = value},
	};
	for (u32 i = 0; i < n; i++)
		k->v[i] = jt_val(77, value, i);
	return k->k.u64s;
}

#define JT_NODE_ROOT 10 /* btree id of the first node's root */

/* Fill a reservation with what the record says, and put it. Returns with rec->seq set. */
static inline void jt_fill(struct jt *t, struct journal_res *res, struct jt_rec *rec)
{
	u64 buf[BKEY_U64s_MAX + 1];
	u32 n;

	rec->seq = res->seq;
	rec->offset = res->offset;
	if (rec->val_u64s) {
		n = jt_key(buf, rec);
		journal_add_entry(t->j, res, BCFS_JSET_ENTRY_btree_keys, BTREE_ID_extents, 0, buf,
				  n);
	}
	if (rec->root) {
		n = jt_root(buf, rec->root);
		journal_add_entry(t->j, res, BCFS_JSET_ENTRY_btree_root, rec->root_btree,
				  rec->root % 4, buf, n);
	}
	journal_add_usage(t->j, res, BCFS_ACCOUNTING_user, rec->delta);
	journal_add_usage(t->j, res, BCFS_ACCOUNTING_nr_inodes, 1);
}

static inline u32 jt_rec_u64s(const struct jt_rec *rec)
{
	u32 key = rec->val_u64s ? jset_entry_u64s(BKEY_U64s + rec->val_u64s) : 0;

	return key + (rec->root ? JOURNAL_ROOT_U64s : 0);
}

static inline void jt_record(struct jt *t, const struct jt_rec *rec)
{
	env_mutex_lock(&t->rec_lock);
	if (darray_push(&t->recs, *rec))
		abort();
	env_mutex_unlock(&t->rec_lock);
}

/* One operation on a node: 0 or the journal's error. */
static inline int jt_op(struct jt *t, u64 node_idx, u32 val_u64s, s64 delta, bool root)
{
	struct jt_node *node = &t->nodes[node_idx];
	struct jt_rec rec = {.node = node_idx, .val_u64s = val_u64s, .delta = delta};
	struct journal_res res;
	int ret;

	if (root) {
		env_mutex_lock(&t->rec_lock);
		rec.root = ++t->next_root;
		rec.root_btree = rec.root % 5;
		env_mutex_unlock(&t->rec_lock);
	}
	for (;;) {
		env_mutex_lock(&node->lock);
		ret = journal_res_get(t->j, &res, jt_rec_u64s(&rec), JOURNAL_RES_NONBLOCK);
		if (ret != -BCFS_ERR_journal_would_block)
			break;
		env_mutex_unlock(&node->lock);
		ret = journal_res_wait(t->j, jt_rec_u64s(&rec), 0);
		if (ret)
			return ret;
	}
	if (!ret) {
		rec.op = node->op_seqs.nr + 1;
		jt_fill(t, &res, &rec);
		if (darray_push(&node->op_seqs, res.seq))
			abort();
		journal_pin_add(t->j, res.seq, &node->pin);
		jt_record(t, &rec);
		journal_res_put(t->j, &res);
	}
	env_mutex_unlock(&node->lock);
	return ret;
}

/* A key of reclaim's own, like a parent's pointer. */
static inline int jt_reclaim_op(struct jt *t)
{
	struct jt_rec rec = {.node = JT_NODES, .val_u64s = 8, .delta = -1};
	struct journal_res res;
	int ret = journal_res_get(t->j, &res, jt_rec_u64s(&rec), JOURNAL_RES_RECLAIM);

	if (ret)
		return ret;
	env_mutex_lock(&t->rec_lock);
	rec.op = ++t->nr_reclaim_ops;
	env_mutex_unlock(&t->rec_lock);
	jt_fill(t, &res, &rec);
	jt_record(t, &rec);
	journal_res_put(t->j, &res);
	return 0;
}

struct jt_sector {
	u64 magic, nr_ops, pad[62];
};

/* The root that says what the node's region has. */
static inline int jt_node_root(struct jt *t, unsigned node, u64 nr_ops)
{
	struct jt_rec rec = {.root = nr_ops, .root_btree = JT_NODE_ROOT + node};
	struct journal_res res;
	int ret = journal_res_get(t->j, &res, jt_rec_u64s(&rec), JOURNAL_RES_RECLAIM);

	if (ret)
		return ret;
	jt_fill(t, &res, &rec);
	jt_record(t, &rec);
	journal_res_put(t->j, &res);
	return 0;
}

static inline int jt_node_write_locked(struct jt *t, struct jt_node *node)
{
	struct jt_sector *s = aligned_alloc(4096, 4096); /* not env's: see alloc_faults */
	unsigned idx = node - t->nodes;
	u64 off = jt_nodes_offset(t) + (u64)idx * JT_NODE_BYTES;
	u64 n;
	int ret;

	memset(s, 0, 4096);
	env_mutex_lock(&node->lock);
	n = node->op_seqs.nr;
	*s = (struct jt_sector){.magic = JT_MAGIC, .nr_ops = n};
	off += (node->nr_written++ % (JT_NODE_BYTES / SECTOR_SIZE)) * SECTOR_SIZE;
	env_mutex_unlock(&node->lock);

	ret = n ? bdev_write(t->bdev, off, s, SECTOR_SIZE, 0) : 0;
	free(s);
	if (!ret && n)
		ret = jt_node_root(t, idx, n);
	if (ret)
		return ret;

	env_mutex_lock(&node->lock);
	if (node->op_seqs.nr == n)
		journal_pin_drop(t->j, &node->pin);
	else
		journal_pin_update(t->j, node->op_seqs.data[n], &node->pin);
	env_mutex_unlock(&node->lock);
	return 0;
}

static inline int jt_node_write(struct jt *t, struct jt_node *node)
{
	int ret;

	env_mutex_lock(&node->write_lock);
	ret = jt_node_write_locked(t, node);
	env_mutex_unlock(&node->write_lock);
	return ret;
}

static int jt_flush_pins(void *arg, struct journal_entry_pin **pins, unsigned nr, u64 seq)
{
	struct jt *t = arg;
	int ret = 0;

	if (__atomic_load_n(&t->flush_fails, __ATOMIC_RELAXED))
		return -BCFS_ERR_dev_write;
	if (t->flush_slow)
		env_sleep_ns(t->env, 20 * ENV_NSEC_PER_MSEC);
	for (unsigned i = 0; i < nr; i++) {
		struct jt_node *node = (struct jt_node *)pins[i];
		bool mine;

		env_mutex_lock(&node->lock);
		mine = journal_pin_active(&node->pin) && node->pin.seq <= seq;
		env_mutex_unlock(&node->lock);
		if (mine)
			ret = jt_node_write(t, node) ?: ret;
	}
	return ret;
}

static void jt_error(void *arg, int err)
{
	__atomic_fetch_add(&((struct jt *)arg)->nr_errors, 1, __ATOMIC_RELAXED);
}

static void jt_log(void *arg, enum log_level level, const char *line)
{
	struct jt *t = arg;

	if (getenv("BCFS_TEST_LOG"))
		fprintf(stderr, "# %s\n", line);
	if (level == LOG_LEVEL_ERR)
		snprintf(t->last_err, sizeof(t->last_err), "%s", line);
}

/* Sizes and ops; env, bdev are set by the caller. */
static inline void jt_config(struct jt *t, u32 block_bytes, u32 bucket_bytes, u32 nr_buckets)
{
	t->block_bytes = block_bytes;
	t->bucket_bytes = bucket_bytes;
	t->nr_buckets = nr_buckets;
	t->log = (struct log){.fn = jt_log, .arg = t, .max = LOG_LEVEL_DEBUG};
	t->ops.flush_pins = jt_flush_pins;
	t->ops.error = jt_error;
	t->opts = (struct journal_opts){
		.block_bytes = block_bytes,
		.bucket_sectors = bucket_bytes / SECTOR_SIZE,
		.magic = JT_MAGIC,
		.csum_type = BCFS_CSUM_crc32c,
		.ops = &t->ops,
		.arg = t,
	};
}

static inline void jt_init(struct jt *t)
{
	env_mutex_init(&t->rec_lock, t->env);
	for (unsigned i = 0; i < JT_NODES; i++) {
		env_mutex_init(&t->nodes[i].lock, t->env);
		env_mutex_init(&t->nodes[i].write_lock, t->env);
	}
}

/* A journal object over a device that has the buckets 1..nr. */
static inline int jt_journal(struct jt *t, struct bdev *bdev, struct env *env, struct journal **ret)
{
	u64 buckets[256];
	int err = journal_alloc(env, bdev, &t->log, &t->opts, ret);

	if (err)
		return err;
	for (unsigned i = 0; i < t->nr_buckets; i++)
		buckets[i] = 1 + i;
	err = journal_set_buckets(*ret, buckets, t->nr_buckets);
	if (err)
		journal_free(*ret);
	return err;
}

static inline void jt_exit(struct jt *t)
{
	for (unsigned i = 0; i < JT_NODES; i++) {
		darray_exit(&t->nodes[i].op_seqs);
		env_mutex_destroy(&t->nodes[i].lock);
		env_mutex_destroy(&t->nodes[i].write_lock);
	}
	env_mutex_destroy(&t->rec_lock);
	darray_exit(&t->recs);
	darray_exit(&t->flushes);
}

/* ---- checking ---- */

static inline int jt_cmp_rec(const void *l, const void *r)
{
	const struct jt_rec *a = l, *b = r;

	return cmp_int(a->seq, b->seq) ?: cmp_int(a->offset, b->offset);
}

#define jt_fail(...)                                                                               \
	({                                                                                         \
		fprintf(stderr, "# jtest: " __VA_ARGS__);                                          \
		fprintf(stderr, "\n");                                                             \
		false;                                                                             \
	})

/* The state after all records with seq <= the given one. */
static inline void jt_model_carried(const struct jt *t, u64 seq, struct journal_carried *c)
{
	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < t->recs.nr && t->recs.data[i].seq <= seq; i++) {
		const struct jt_rec *rec = &t->recs.data[i];

		c->usage[BCFS_ACCOUNTING_user] += rec->delta;
		c->usage[BCFS_ACCOUNTING_nr_inodes]++;
		if (rec->root) {
			struct journal_root *r = &c->roots[rec->root_btree];

			r->alive = true;
			r->level = rec->root % 4;
			jt_root(r->buf, rec->root);
		}
	}
}

static inline bool jt_carried_eq(const struct journal_carried *a, const struct journal_carried *b)
{
	if (memcmp(a->usage, b->usage, sizeof(a->usage)))
		return jt_fail("usage %lld %lld, expected %lld %lld",
			       (long long)a->usage[BCFS_ACCOUNTING_user],
			       (long long)a->usage[BCFS_ACCOUNTING_nr_inodes],
			       (long long)b->usage[BCFS_ACCOUNTING_user],
			       (long long)b->usage[BCFS_ACCOUNTING_nr_inodes]);
	for (unsigned i = 0; i < BTREE_ID_NR; i++) {
		const struct journal_root *l = &a->roots[i], *r = &b->roots[i];

		if (l->alive != r->alive)
			return jt_fail("root %u: alive %u", i, l->alive);
		if (l->alive &&
		    (l->level != r->level || memcmp(l->buf, r->buf, r->k.k.u64s * sizeof(u64))))
			return jt_fail("root %u differs", i);
	}
	return true;
}

/* An entry holds exactly what was reserved in it; pos: into the sorted records. */
static inline bool jt_check_entry(const struct jt *t, const struct jset *s, size_t *pos)
{
	struct journal_carried got = {0}, want;
	u64 buf[BKEY_U64s_MAX + 1];

	while (*pos < t->recs.nr && t->recs.data[*pos].seq < s->seq)
		(*pos)++;
	for_each_jset_entry(e, s)
	{
		if (e->type != BCFS_JSET_ENTRY_btree_keys)
			continue;
		for_each_jset_key(k, e)
		{
			const struct jt_rec *rec;

			while (*pos < t->recs.nr && !t->recs.data[*pos].val_u64s)
				(*pos)++;
			rec = &t->recs.data[*pos];
			if (*pos >= t->recs.nr || rec->seq != s->seq)
				return jt_fail("entry %llu: a key too many",
					       (unsigned long long)s->seq);
			if (jt_key(buf, rec) != k->k.u64s ||
			    memcmp(buf, k, k->k.u64s * sizeof(u64)))
				return jt_fail("entry %llu: a key differs",
					       (unsigned long long)s->seq);
			(*pos)++;
		}
	}
	while (*pos < t->recs.nr && !t->recs.data[*pos].val_u64s)
		(*pos)++;
	if (*pos < t->recs.nr && t->recs.data[*pos].seq == s->seq)
		return jt_fail("entry %llu: a key is missing", (unsigned long long)s->seq);
	jset_fold_carried(s, &got, true);
	jt_model_carried(t, s->seq, &want);
	return jt_carried_eq(&got, &want);
}

/* How many operations the node's region has, by the root that the journal carries. */
static inline u64 jt_node_ops(const struct journal_replay *r, unsigned node)
{
	const struct journal_root *root = &r->carried.roots[JT_NODE_ROOT + node];

	return root->alive ? root->k.k.p.inode : 0;
}

static inline bool jt_node_has_sector(const struct jt *t, struct bdev *bdev, unsigned node, u64 ops)
{
	u64 off = jt_nodes_offset(t) + (u64)node * JT_NODE_BYTES;
	char *buf = malloc(JT_NODE_BYTES);
	bool found = !ops;

	sim_bdev_peek(bdev, off, buf, JT_NODE_BYTES);
	for (u32 i = 0; i < JT_NODE_BYTES && !found; i += SECTOR_SIZE) {
		const struct jt_sector *s = (const void *)(buf + i);

		found = s->magic == JT_MAGIC && s->nr_ops == ops;
	}
	free(buf);
	return found;
}

/* Every operation up to the journal's end is in the node's region or in the replay. */
static inline bool jt_check_nodes(const struct jt *t, struct bdev *bdev,
				  const struct journal_replay *r)
{
	for (unsigned n = 0; n < JT_NODES; n++) {
		const struct jt_node *node = &t->nodes[n];
		u64 ops = jt_node_ops(r, n);

		if (!jt_node_has_sector(t, bdev, n, ops))
			return jt_fail("node %u: the write of %llu ops is lost", n,
				       (unsigned long long)ops);
		for (u64 i = ops; i < node->op_seqs.nr; i++) {
			u64 seq = node->op_seqs.data[i];

			if (seq < r->last_seq)
				return jt_fail("node %u: op %llu of seq %llu is lost (last_seq "
					       "%llu, seq %llu)",
					       n, (unsigned long long)i + 1,
					       (unsigned long long)seq,
					       (unsigned long long)r->last_seq,
					       (unsigned long long)r->seq);
		}
	}
	return true;
}

/* What was read equals the model. t->recs gets sorted. */
static inline bool jt_check_replay(struct jt *t, const struct journal_replay *r)
{
	struct journal_carried want;
	size_t pos = 0;

	darray_sort(&t->recs, jt_cmp_rec);
	if (!r->nr || r->entries[r->nr - 1].seq != r->seq || r->entries[r->nr - 1].noflush)
		return jt_fail("the newest entry is not the flush entry");
	for (size_t i = 0; i < r->nr; i++) {
		if (r->entries[i].seq < r->last_seq ||
		    (i && r->entries[i].seq <= r->entries[i - 1].seq))
			return jt_fail("order of entries");
		if (r->entries[i].seq != r->entries[i].j->seq)
			return jt_fail("seq of an entry");
		if (!jt_check_entry(t, r->entries[i].j, &pos))
			return false;
	}
	jt_model_carried(t, r->seq, &want);
	return jt_carried_eq(&r->carried, &want);
}

#endif
