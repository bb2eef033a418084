/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Journal and btree on an image file, without superblock or allocator: space for
 * nodes comes from behind the highest node so far, or from nodes that were replaced by a
 * transaction that is durable by now.
 */
#include "kv.h"
#include "bench_util.h"

#include "btree/btree.h"
#include "dev/bdev.h"
#include "util/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NODE_BYTES	     (256U << 10)
#define BLOCK_BYTES	     4096U
#define JOURNAL_BUCKET_BYTES (1U << 20)
#define JOURNAL_BUCKETS	     128
#define FIRST_NODE_BYTES     ((u64)(JOURNAL_BUCKETS + 1) * JOURNAL_BUCKET_BYTES)
#define KV_BTREE	     BTREE_ID_quotas /* plain keys: no snapshots, no extents */

struct freed_node {
	u64 offset, seq;
};

struct bc {
	struct env *env;
	struct bdev *bdev;
	struct log log;
	struct journal *j;
	struct btree_fs *c;
	struct btree_trans *trans;
	bool durable;
	u64 cache_bytes, dev_bytes;
	struct journal_carried carried;
	u64 clean_seq;
	char path[512];

	struct env_mutex lock; /* protects what follows */
	u64 next_node;
	struct freed_node *freed; /* by ascending seq, nearly */
	size_t nr_freed, size_freed;

	struct btree_counters before; /* of earlier opens */
	u64 journal_bytes_before;
};

static void check(int ret, const char *what)
{
	if (ret)
		bench_die("bench-kv: bcfs: %s: %s", what, err_str(ret));
}

/* ---- space for nodes ---- */

static void space_free(struct bc *b, const struct bcfs_extent_ptr *ptr, u64 seq);

static int space_alloc_one(struct bc *b, struct bcfs_extent_ptr *ret)
{
	u64 at = 0, durable = journal_flushed_seq(b->j);

	env_mutex_lock(&b->lock);
	if (b->nr_freed && b->freed[0].seq <= durable) {
		at = b->freed[0].offset;
		memmove(b->freed, b->freed + 1, --b->nr_freed * sizeof(b->freed[0]));
	} else if (b->next_node + NODE_BYTES <= b->dev_bytes) {
		at = b->next_node;
		b->next_node += NODE_BYTES;
	}
	env_mutex_unlock(&b->lock);
	if (!at)
		return -BCFS_ERR_nospc;
	*ret = (struct bcfs_extent_ptr){.type = BCFS_EXTENT_ENTRY_ptr, .offset = at >> 9};
	bdev_new_life(b->bdev, at, NODE_BYTES);
	return 0;
}

static int space_alloc(void *arg, unsigned flags, unsigned nr, struct bcfs_extent_ptr *ret)
{
	int err = 0;

	for (unsigned n = 0; n < nr && !err; n++) {
		err = space_alloc_one(arg, &ret[n]);
		while (err && n)
			space_free(arg, &ret[--n], 0);
	}
	return err;
}

static void space_free(struct bc *b, const struct bcfs_extent_ptr *ptr, u64 seq)
{
	env_mutex_lock(&b->lock);
	if (b->nr_freed == b->size_freed) {
		b->size_freed = b->size_freed ? b->size_freed * 2 : 256;
		b->freed = realloc(b->freed, b->size_freed * sizeof(b->freed[0]));
		if (!b->freed)
			bench_die("bench-kv: out of memory");
	}
	b->freed[b->nr_freed++] = (struct freed_node){(u64)ptr->offset << 9, seq};
	env_mutex_unlock(&b->lock);
}

static void space_used(void *arg, const struct bcfs_extent_ptr *ptr) {}

static void space_unused(void *arg, const struct bcfs_extent_ptr *ptr, bool written)
{
	space_free(arg, ptr, 0);
}

static const struct btree_space_ops space = {space_alloc, space_used, space_unused};

static bool node_ptr(struct bkey_s_c k, struct bcfs_extent_ptr *ret)
{
	if (k.k->type != KEY_TYPE_btree_ptr)
		return false;
	memcpy(ret, ((const struct bcfs_btree_ptr *)k.v)->start, sizeof(*ret));
	return true;
}

/* A pointer was replaced: what it pointed at is free once that is durable. */
static void ptr_commit(struct btree_trans *trans, enum btree_id btree, unsigned level,
		       struct bkey_s_c old, struct bkey_i *new, u64 seq)
{
	struct bcfs_extent_ptr o, n;

	if (node_ptr(old, &o) && (!node_ptr(bkey_i_to_s_c(new), &n) || n.offset != o.offset))
		space_free(btree_trans_ops_arg(trans), &o, seq);
}

static const struct bkey_ops ptr_ops = {.commit_hook = ptr_commit};
static const struct bkey_ops_table ops = {.ops = {[KEY_TYPE_btree_ptr] = &ptr_ops}};

/* ---- open and close ---- */

static void metadata_error(void *arg, int err, const char *msg)
{
	bench_die("bench-kv: bcfs: %s", msg);
}

static int flush_pins(void *arg, struct journal_entry_pin **pins, unsigned nr, u64 seq)
{
	return btree_flush_pins(((struct bc *)arg)->c, pins, nr, seq);
}

static void journal_failed(void *arg, int err)
{
	bench_die("bench-kv: bcfs: journal: %s", err_str(err));
}

static const struct journal_ops jops = {.flush_pins = flush_pins, .error = journal_failed};

static void bc_start(struct bc *b)
{
	struct journal_opts jo = {
		.block_bytes = BLOCK_BYTES,
		.bucket_sectors = JOURNAL_BUCKET_BYTES >> 9,
		.magic = BCFS_JSET_MAGIC ^ 0x1234,
		.csum_type = BCFS_CSUM_crc32c,
		.ops = &jops,
		.arg = b,
	};
	struct btree_fs_opts bo = {
		.block_bytes = BLOCK_BYTES,
		.node_bytes = NODE_BYTES,
		.cache_bytes = b->cache_bytes,
		.magic = BCFS_BTREE_MAGIC ^ 0x1234,
		.csum_type = BCFS_CSUM_crc32c,
		.ops = &ops,
		.space = &space,
		.arg = b,
		.error = metadata_error,
	};
	u64 buckets[JOURNAL_BUCKETS];

	for (unsigned i = 0; i < JOURNAL_BUCKETS; i++)
		buckets[i] = i + 1;
	b->log = (struct log){.max = LOG_LEVEL_WARN};
	check(journal_alloc(b->env, b->bdev, &b->log, &jo, &b->j), "journal");
	check(journal_set_buckets(b->j, buckets, JOURNAL_BUCKETS), "journal");
	check(btree_fs_alloc(b->env, b->bdev, &b->log, b->j, &bo, &b->c), "btree");
	check(btree_fs_start(b->c, b->carried.roots, 0, NULL, 0), "btree start");
	check(journal_start(b->j, b->clean_seq + 1, NULL, &b->carried), "journal start");
	btree_fs_replay_none(b->c);
	check(journal_flush(b->j), "journal flush");
	b->trans = btree_trans_get(b->c);
}

static void bc_stop(struct bc *b)
{
	struct btree_counters n;
	struct journal_counters jn;

	btree_trans_put(b->trans);
	btree_fs_stop(b->c);
	check(journal_stop(b->j, &b->carried, &b->clean_seq), "journal stop");
	check(bdev_flush(b->bdev), "flush");
	btree_counters(b->c, &n);
#define x(name, doc) b->before.name += n.name;
	BTREE_COUNTERS(x)
#undef x
	journal_counters(b->j, &jn);
	b->journal_bytes_before += jn.bytes;
	btree_fs_free(b->c);
	journal_free(b->j);
}

static void *bc_open(const struct kv_params *p)
{
	struct bc *b = calloc(1, sizeof(*b));
	char msg[BDEV_MSG_SIZE];
	int fd;

	snprintf(b->path, sizeof(b->path), "%s/bcfs.img", p->dir);
	b->durable = p->durable;
	b->dev_bytes = FIRST_NODE_BYTES + (256ULL << 20) + p->nr_keys * 400;
	b->dev_bytes = round_up(b->dev_bytes, (u64)NODE_BYTES);
	b->cache_bytes = (128ULL << 20) + p->nr_keys * 100;
	b->next_node = FIRST_NODE_BYTES;
	fd = open(b->path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || ftruncate(fd, b->dev_bytes) || close(fd))
		bench_die("bench-kv: cannot make %s", b->path);
	check(env_real_create(&b->env), "env");
	env_mutex_init(&b->lock, b->env);
	if (bdev_open(b->env, b->path, NULL, &b->bdev, msg, sizeof(msg)))
		bench_die("bench-kv: %s", msg);
	bc_start(b);
	return b;
}

static void bc_close(void *kv)
{
	struct bc *b = kv;

	bc_stop(b);
	bdev_close(b->bdev);
	env_mutex_destroy(&b->lock);
	env_real_destroy(b->env);
	unlink(b->path);
	free(b->freed);
	free(b);
}

/* ---- keys ---- */

static int insert_keys(struct btree_trans *trans, const u64 *keys, unsigned nr)
{
	int ret = 0;

	for (unsigned i = 0; i < nr && !ret; i++) {
		struct bkey_i *k = btree_trans_alloc_key(trans, KEY_TYPE_cookie, POS(0, keys[i]),
							 KV_VALUE_BYTES);

		kv_value(keys[i], k->v);
		ret = btree_trans_insert(trans, KV_BTREE, k, 0);
	}
	return ret;
}

static void bc_insert(void *kv, const u64 *keys, unsigned nr)
{
	struct bc *b = kv;
	u64 seq;

	check(commit_do(b->trans, &seq, 0, insert_keys(b->trans, keys, nr)), "commit");
	if (b->durable)
		check(journal_flush_seq(b->j, seq), "journal flush");
}

static void bc_sync(void *kv)
{
	check(journal_flush(((struct bc *)kv)->j), "journal flush");
}

/* Every node written, and what replaced nodes took given back to the file. */
static void bc_settle(void *kv)
{
	struct bc *b = kv;

	btree_interior_flush(b->c);
	check(journal_flush_pins(b->j, journal_cur_seq(b->j)), "writing nodes");
	check(journal_flush(b->j), "journal flush");

	u64 durable = journal_flushed_seq(b->j);
	env_mutex_lock(&b->lock);
	for (size_t i = 0; i < b->nr_freed; i++)
		if (b->freed[i].seq <= durable)
			bdev_discard(b->bdev, b->freed[i].offset, NODE_BYTES);
	env_mutex_unlock(&b->lock);
	check(bdev_flush(b->bdev), "flush");
}

/* Without the journal: its size is fixed. */
static u64 bc_bytes(void *kv)
{
	struct bc *b = kv;
	u64 bytes = 0;
	off_t end = FIRST_NODE_BYTES, start;
	int fd = open(b->path, O_RDONLY);

	while ((start = lseek(fd, end, SEEK_DATA)) >= 0) {
		end = lseek(fd, start, SEEK_HOLE);
		bytes += end - start;
	}
	close(fd);
	return bytes;
}

static void bc_warm(void *kv)
{
	struct bc *b = kv;
	int ret;

	bc_stop(b);
	bc_start(b);
	ret = for_each_btree_key (b->trans, iter, KV_BTREE, POS_MIN, BTREE_ITER_PREFETCH, k,
				  ({ 0; }));
	check(ret, "scan");
}

static u64 bc_lookup(void *kv, const u64 *keys, unsigned nr)
{
	struct bc *b = kv;
	struct btree_trans *trans = b->trans;
	u64 buf[BKEY_U64s + KV_VALUE_BYTES / 8], sum = 0;
	struct bkey_i *k = (struct bkey_i *)buf;

	for (unsigned i = 0; i < nr; i++) {
		check(lockrestart_do(trans, btree_lookup(trans, KV_BTREE, POS(0, keys[i]), 0, k,
							 ARRAY_SIZE(buf))),
		      "lookup");
		sum += k->v[0];
	}
	return sum;
}

void kv_bcfs_stats(void *kv, struct kv_bcfs_stats *ret)
{
	struct bc *b = kv;
	struct btree_counters n;
	struct journal_counters jn;

	btree_counters(b->c, &n);
	journal_counters(b->j, &jn);
	*ret = (struct kv_bcfs_stats){
		.keys_bytes = n.key_bytes_inserted + b->before.key_bytes_inserted,
		.node_bytes = n.bytes_initial + n.bytes_append + b->before.bytes_initial +
			      b->before.bytes_append,
		.journal_bytes = jn.bytes + b->journal_bytes_before,
		.appends = n.node_writes_append + b->before.node_writes_append,
		.nodes = n.node_writes_initial + b->before.node_writes_initial,
		.rewrites = n.rewrites + b->before.rewrites,
		.journal_size_bytes = (u64)JOURNAL_BUCKETS * JOURNAL_BUCKET_BYTES,
	};
}

const struct kv_ops kv_bcfs = {
	.name = "bcfs",
	.options = "256 KiB nodes, 4 KiB blocks, 128 MiB journal, crc32c, everything cached; one "
		   "btree_lookup() a key; one journal flush at the end, or (durable) one a commit",
	.open = bc_open,
	.insert = bc_insert,
	.sync = bc_sync,
	.settle = bc_settle,
	.bytes = bc_bytes,
	.warm = bc_warm,
	.lookup = bc_lookup,
	.close = bc_close,
};
