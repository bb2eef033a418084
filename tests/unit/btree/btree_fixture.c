// SPDX-License-Identifier: LGPL-2.1-or-later
#include "btree_fixture.h"

#include "../test_must.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct fx_geometry fx_small = {
	.block_bytes = 4096,
	.node_bytes = 16384,
	.journal_bucket_bytes = 65536,
	.journal_buckets = 16,
	.cache_bytes = 1 << 20,
	.dev_bytes = 1ULL << 30,
};
const struct fx_geometry fx_tiny = {
	.block_bytes = 512,
	.node_bytes = 4096,
	.journal_bucket_bytes = 16384,
	.journal_buckets = 16,
	.cache_bytes = 128 << 10,
	.dev_bytes = 1ULL << 30,
};

static const struct bkey_ops_table fx_ops;

u32 fx_count(struct fx *fx, enum btree_id id)
{
	struct btree_trans *trans = btree_trans_get(fx->c);
	u32 nr = 0;
	int ret = for_each_btree_key (trans, iter, id, POS_MIN, 0, k, ({
					      nr++;
					      0;
				      }));

	btree_trans_put(trans);
	must(!ret, "%s", err_str(ret));
	return nr;
}

u64 fx_seed(u64 dflt)
{
	const char *s = getenv("BCFS_TEST_SEED");

	return s ? strtoull(s, NULL, 0) : dflt;
}

static int fx_space_one(struct fx *fx, struct bcfs_extent_ptr *ret)
{
	u64 at;

	env_mutex_lock(&fx->space_lock);
	if (fx->nr_free) {
		at = fx->free_nodes[--fx->nr_free];
	} else {
		at = fx->next_node;
		if (at + fx->g.node_bytes > fx->g.dev_bytes) {
			env_mutex_unlock(&fx->space_lock);
			return -BCFS_ERR_nospc;
		}
		fx->next_node += fx->g.node_bytes;
	}
	env_mutex_unlock(&fx->space_lock);
	*ret = (struct bcfs_extent_ptr){.type = BCFS_EXTENT_ENTRY_ptr, .offset = at >> 9};
	bdev_new_life(fx->bdev, at, fx->g.node_bytes);
	return 0;
}

static void fx_space_used(void *arg, const struct bcfs_extent_ptr *ptr) {}

static void fx_space_unused(void *arg, const struct bcfs_extent_ptr *ptr, bool written)
{
	struct fx *fx = arg;

	env_mutex_lock(&fx->space_lock);
	if (!written && fx->nr_free < 4096)
		fx->free_nodes[fx->nr_free++] = (u64)ptr->offset << 9;
	env_mutex_unlock(&fx->space_lock);
}

static int fx_space_alloc(void *arg, unsigned flags, unsigned nr, struct bcfs_extent_ptr *ret)
{
	const struct fx *fx = arg;
	int err = 0;

	if (fx->keeps_refused && flags & BTREE_SPACE_KEEPS)
		return -BCFS_ERR_nospc;
	for (unsigned n = 0; n < nr && !err; n++) {
		err = fx_space_one(arg, &ret[n]);
		while (err && n)
			fx_space_unused(arg, &ret[--n], false);
	}
	return err;
}

static const struct btree_space_ops fx_space = {fx_space_alloc, fx_space_used, fx_space_unused};

static void fx_error(void *arg, int err, const char *msg)
{
	struct fx *fx = arg;

	__atomic_store_n(&fx->error, err, __ATOMIC_RELAXED);
}

static int fx_flush_pins(void *arg, struct journal_entry_pin **pins, unsigned nr, u64 seq)
{
	return btree_flush_pins(((struct fx *)arg)->c, pins, nr, seq);
}

static void fx_journal_error(void *arg, int err)
{
	__atomic_store_n(&((struct fx *)arg)->error, err, __ATOMIC_RELAXED);
}

static const struct journal_ops fx_jops = {.flush_pins = fx_flush_pins, .error = fx_journal_error};

static int fx_max_node(void *arg, const struct btree_node_info *n)
{
	struct fx *fx = arg;
	struct bcfs_extent_ptr ptr;

	if (n->ptr.k) {
		memcpy(&ptr, ((const struct bcfs_btree_ptr *)n->ptr.v)->start, sizeof(ptr));
		u64 end = ((u64)ptr.offset << 9) + fx->g.node_bytes;
		if (end > fx->next_node)
			fx->next_node = end;
	}
	return 0;
}

static void fx_find_space(struct fx *fx)
{
	u64 buf[32];
	unsigned level;

	fx->nr_free = 0;
	fx->next_node = 2 << 20;
	for (unsigned i = 0; i < BTREE_ID_NR; i++) {
		struct bcfs_extent_ptr ptr;

		btree_for_each_node(fx->c, i, fx_max_node, NULL, fx);
		if (!btree_root_key(fx->c, i, (struct bkey_i *)buf, 32, &level))
			continue;
		memcpy(&ptr, ((const struct bcfs_btree_ptr *)((struct bkey_i *)buf)->v)->start,
		       sizeof(ptr));
		u64 end = ((u64)ptr.offset << 9) + fx->g.node_bytes;
		if (end > fx->next_node)
			fx->next_node = end;
	}
}

static int fx_alloc(struct fx *fx)
{
	struct journal_opts jo = {
		.block_bytes = fx->g.block_bytes,
		.bucket_sectors = fx->g.journal_bucket_bytes >> 9,
		.magic = BCFS_JSET_MAGIC ^ 0x1234,
		.uuid = {{1, 2, 3}},
		.csum_type = fx->keys ? BCFS_CSUM_xchacha20_poly1305 : BCFS_CSUM_crc32c,
		.keys = fx->keys,
		.ops = &fx_jops,
		.arg = fx,
	};
	struct btree_fs_opts bo = {
		.block_bytes = fx->g.block_bytes,
		.node_bytes = fx->g.node_bytes,
		.cache_bytes = fx->g.cache_bytes,
		.magic = BCFS_BTREE_MAGIC ^ 0x1234,
		.uuid = {{1, 2, 3}},
		.csum_type = fx->keys ? BCFS_CSUM_xchacha20_poly1305 : BCFS_CSUM_crc32c,
		.keys = fx->keys,
		.ops = fx->ops ? fx->ops : &fx_ops,
		.space = &fx_space,
		.snapshots = fx->snaps,
		.arg = fx,
		.error = fx_error,
	};
	u64 buckets[256];

	if (!fx->space_lock_ready)
		env_mutex_init(&fx->space_lock, fx->env);
	fx->space_lock_ready = true;
	u32 first = (1 << 20) / fx->g.journal_bucket_bytes;

	for (unsigned i = 0; i < fx->g.journal_buckets; i++)
		buckets[i] = first + i;
	fx->log = (struct log){.max = fx->quiet ? LOG_LEVEL_ERR : LOG_LEVEL_WARN};
	return journal_alloc(fx->env, fx->bdev, &fx->log, &jo, &fx->j) ?:
	       journal_set_buckets(fx->j, buckets, fx->g.journal_buckets) ?:
	       btree_fs_alloc(fx->env, fx->bdev, &fx->log, fx->j, &bo, &fx->c);
}

static int fx_recover(struct fx *fx)
{
	struct journal_replay r = {0};
	int ret = journal_read(fx->j, fx->p.bl, fx->p.nr_bl, &r);

	if (ret == -BCFS_ERR_journal_empty) {
		/* Crashed before the first flush. */
		memset(&fx->p.carried, 0, sizeof(fx->p.carried));
		ret = 0;
		r.seq = 0;
	}
	if (ret) {
		journal_replay_free(fx->j, &r);
		return ret;
	}
	u64 base = max(r.seq, r.max_seen);

	if (fx->p.nr_bl == FX_MAX_BL) {
		memmove(fx->p.bl, fx->p.bl + 1, (FX_MAX_BL - 1) * sizeof(fx->p.bl[0]));
		fx->p.nr_bl--;
	}
	fx->p.bl[fx->p.nr_bl++] =
		(struct journal_blacklist_range){r.seq + 1, base + JOURNAL_SEQ_AHEAD};
	u64 next = base + JOURNAL_SEQ_AHEAD + 1;

	if (r.seq)
		fx->p.carried = r.carried;
	ret = btree_fs_start(fx->c, fx->p.carried.roots, next - 1, fx->p.bl, fx->p.nr_bl) ?:
		      journal_start(fx->j, next, r.seq ? &r : NULL, &fx->p.carried) ?:
		      btree_replay(fx->c, &r);
	if (!ret) {
		journal_replay_done(fx->j);
		fx_find_space(fx);
	}
	journal_replay_free(fx->j, &r);
	return ret;
}

int fx_open(struct fx *fx)
{
	int ret = fx_alloc(fx);

	fx->error = 0;
	if (ret)
		return ret;
	if (!fx->p.clean)
		return fx_recover(fx);

	fx->p.clean = false;
	u64 suspect = fx->p.nr_bl ? fx->p.bl[fx->p.nr_bl - 1].end : 0;
	ret = btree_fs_start(fx->c, fx->p.carried.roots, suspect, fx->p.bl, fx->p.nr_bl)
		      ?: journal_start(fx->j, fx->p.clean_seq + 1, NULL, &fx->p.carried);
	if (!ret) {
		btree_fs_replay_none(fx->c);
		fx_find_space(fx);
	}
	return ret;
}

int fx_close(struct fx *fx)
{
	btree_fs_stop(fx->c);
	int ret = journal_stop(fx->j, &fx->p.carried, &fx->p.clean_seq);

	if (!ret)
		ret = bdev_flush(fx->bdev);
	fx->p.clean = !ret;
	btree_fs_free(fx->c);
	journal_free(fx->j);
	fx->c = NULL;
	fx->j = NULL;
	return ret;
}

void fx_abandon(struct fx *fx)
{
	if (fx->c)
		btree_fs_halt(fx->c);
	if (fx->j) {
		journal_halt(fx->j);
		journal_stop(fx->j, NULL, NULL); /* its threads call into the btree */
	}
	btree_fs_free(fx->c);
	journal_free(fx->j);
	fx->c = NULL;
	fx->j = NULL;
}

static int set_trans(struct btree_trans *trans, enum btree_id id, struct bpos pos, const u64 *v)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, v ? KEY_TYPE_cookie : KEY_TYPE_deleted, pos,
						 v ? 8 : 0);

	if (v)
		memcpy(k->v, v, 8);
	return btree_trans_insert(trans, id, k, 0);
}

int fx_set(struct fx *fx, enum btree_id id, struct bpos pos, u64 v, u64 *seq)
{
	struct btree_trans *trans = btree_trans_get(fx->c);
	int ret = commit_do(trans, seq, 0, set_trans(trans, id, pos, &v));

	btree_trans_put(trans);
	return ret;
}

int fx_del(struct fx *fx, enum btree_id id, struct bpos pos, u64 *seq)
{
	struct btree_trans *trans = btree_trans_get(fx->c);
	int ret = commit_do(trans, seq, 0, set_trans(trans, id, pos, NULL));

	btree_trans_put(trans);
	return ret;
}

int fx_get(struct fx *fx, enum btree_id id, struct bpos pos, u64 *v)
{
	struct btree_trans *trans = btree_trans_get(fx->c);
	u64 buf[8];
	int ret = lockrestart_do(trans, btree_lookup(trans, id, pos, 0, (struct bkey_i *)buf, 8));

	if (!ret)
		*v = ((struct bkey_i *)buf)->v[0];
	btree_trans_put(trans);
	return ret;
}
