// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What is kept of buckets that have no alloc key: their generations, 256 to a key, and where they
 * are, as runs. So a bucket that is free costs next to nothing, however often it was used.
 *
 * A generation's entry is written when the bucket becomes free and stays as it is while the bucket
 * is used again. A run is one key at its last bucket, the value its length; runs neither overlap
 * nor touch. Everything is read through iterators that see the transaction's own updates: several
 * buckets may change in one transaction.
 *
 * What is read of a bucket here holds until its alloc key changes, and the caller holds that one
 * with intent: neither the generation nor the run that covers a bucket can come or go without it.
 */
#include "alloc/alloc_private.h"

/* ---- generations ---- */

struct bpos alloc_gens_pos(u8 dev, u64 bucket)
{
	return POS(BCFS_ALLOC_GENS | dev, bucket / BCFS_ALLOC_GENS_GROUP);
}

static const struct bcfs_bucket_gens *gens_of(struct bkey_s_c k)
{
	return k.k->type == KEY_TYPE_bucket_gens &&
			       bkey_val_bytes(k.k) >= sizeof(struct bcfs_bucket_gens)
		       ? (const void *)k.v
		       : NULL;
}

int alloc_gen_get(struct btree_trans *trans, u8 dev, u64 bucket, u8 *ret_gen)
{
	const struct bcfs_bucket_gens *g;
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_alloc, alloc_gens_pos(dev, bucket), 0);
	k = btree_iter_peek_slot(&iter);
	ret = bkey_err(k);
	if (!ret) {
		g = gens_of(k);
		*ret_gen = g ? g->gens[bucket % BCFS_ALLOC_GENS_GROUP] : 0;
	}
	btree_iter_exit(&iter);
	return ret;
}

bool alloc_gens_all_zero(const struct bcfs_bucket_gens *g)
{
	for (unsigned i = 0; i < ARRAY_SIZE(g->gens); i++)
		if (g->gens[i])
			return false;
	return true;
}

int alloc_gen_set(struct btree_trans *trans, u8 dev, u64 bucket, u8 gen)
{
	unsigned i = bucket % BCFS_ALLOC_GENS_GROUP;
	struct bcfs_bucket_gens g = {0};
	const struct bcfs_bucket_gens *old;
	struct btree_iter iter;
	struct bkey_i *new;
	struct bkey_s_c k;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_alloc, alloc_gens_pos(dev, bucket),
			BTREE_ITER_INTENT);
	k = btree_iter_peek_slot(&iter);
	ret = bkey_err(k);
	if (ret)
		goto out;
	old = gens_of(k);
	if (old)
		g = *old;
	if (g.gens[i] == gen)
		goto out;
	g.gens[i] = gen;
	if (alloc_gens_all_zero(&g)) {
		ret = btree_trans_delete_at(trans, &iter, 0);
		goto out;
	}
	new = btree_trans_alloc_key(trans, KEY_TYPE_bucket_gens, iter.pos, sizeof(g));
	bkey_i_to_bucket_gens(new)->v = g;
	ret = btree_trans_update(trans, &iter, new, 0);
out:
	btree_iter_exit(&iter);
	return ret;
}

/* ---- runs ---- */

bool alloc_run_of(struct bkey_s_c k, struct free_run *r)
{
	u64 len;

	if (k.k->type != KEY_TYPE_cookie || bkey_val_bytes(k.k) < sizeof(struct bcfs_cookie))
		return false;
	len = ((const struct bcfs_cookie *)k.v)->cookie;
	if (!len || len - 1 > k.k->p.offset)
		return false;
	*r = (struct free_run){.first = k.k->p.offset - (len - 1), .last = k.k->p.offset};
	return true;
}

/* The run that ends at @last has @len buckets; 0: is no more. @iter: at that place, or NULL. */
static int run_put(struct btree_trans *trans, struct btree_iter *iter, u8 dev, u64 last, u64 len)
{
	struct bkey_i *k =
		btree_trans_alloc_key(trans, len ? KEY_TYPE_cookie : KEY_TYPE_deleted,
				      POS(dev, last), len ? sizeof(struct bcfs_cookie) : 0);

	if (len)
		bkey_i_to_cookie(k)->v.cookie = len;
	return iter ? btree_trans_update(trans, iter, k, 0)
		    : btree_trans_insert(trans, BTREE_ID_freespace, k, 0);
}

/* The run that covers @bucket, or else the next one: *ret_found. */
static int run_at_or_behind(struct btree_trans *trans, struct btree_iter *iter, u8 dev, u64 bucket,
			    struct free_run *r, bool *ret_found)
{
	struct bkey_s_c k;

	btree_iter_init(trans, iter, BTREE_ID_freespace, POS(dev, bucket), BTREE_ITER_INTENT);
	k = btree_iter_peek_max(iter, POS(dev, UINT64_MAX));
	*ret_found = !bkey_err(k) && k.k && alloc_run_of(k, r);
	return bkey_err(k);
}

int alloc_run_take(struct btree_trans *trans, u8 dev, u64 bucket)
{
	struct btree_iter iter;
	struct free_run r;
	bool found;
	int ret;

	ret = run_at_or_behind(trans, &iter, dev, bucket, &r, &found);
	if (!ret && found && r.first <= bucket) {
		ret = run_put(trans, &iter, dev, r.last, r.last - bucket);
		if (!ret && bucket > r.first)
			ret = run_put(trans, NULL, dev, bucket - 1, bucket - r.first);
	}
	btree_iter_exit(&iter);
	return ret;
}

/* A run that ends right before @bucket goes; *len: its length, or 0. */
static int run_cut_left(struct btree_trans *trans, u8 dev, u64 bucket, u64 *len)
{
	struct btree_iter iter;
	struct free_run r;
	struct bkey_s_c k;
	int ret;

	*len = 0;
	if (!bucket)
		return 0;
	btree_iter_init(trans, &iter, BTREE_ID_freespace, POS(dev, bucket - 1), BTREE_ITER_INTENT);
	k = btree_iter_peek_slot(&iter);
	ret = bkey_err(k);
	if (!ret && alloc_run_of(k, &r)) {
		*len = r.last - r.first + 1;
		ret = run_put(trans, &iter, dev, r.last, 0);
	}
	btree_iter_exit(&iter);
	return ret;
}

int alloc_run_give(struct btree_trans *trans, u8 dev, u64 bucket)
{
	struct btree_iter iter;
	u64 last = bucket, left;
	struct free_run r;
	bool found;
	int ret;

	ret = run_at_or_behind(trans, &iter, dev, bucket, &r, &found);
	if (ret || (found && r.first <= bucket)) /* listed though in use: for fsck to tell */
		goto out;
	if (found && r.first == bucket + 1)
		last = r.last;
	ret = run_cut_left(trans, dev, bucket, &left);
	if (!ret)
		ret = run_put(trans, last != bucket ? &iter : NULL, dev, last,
			      left + 1 + last - bucket);
out:
	btree_iter_exit(&iter);
	return ret;
}

/*
 * The mark goes down to where the last run begins, if that reaches it; *ret_mark: the mark then.
 * The holder of discard_lock alone changes the mark.
 */
int alloc_run_drop_last(struct btree_trans *trans, struct alloc_fs *a, u64 min_len, u64 *ret_mark)
{
	u64 mark = alloc_mark(a);
	struct btree_iter iter;
	struct free_run r;
	struct bkey_s_c k;
	int ret;

	*ret_mark = mark;
	btree_iter_init(trans, &iter, BTREE_ID_freespace, POS(0, UINT64_MAX), BTREE_ITER_INTENT);
	k = btree_iter_peek_prev_min(&iter, POS(0, 0));
	ret = bkey_err(k);
	if (ret || !k.k || !alloc_run_of(k, &r) || r.last + 1 < mark ||
	    r.last - r.first + 1 < min_len || r.first < a->opts.first_bucket)
		goto out;
	ret = run_put(trans, &iter, 0, r.last, 0);
	if (ret)
		goto out;
	*ret_mark = min(mark, r.first);
	btree_trans_account(trans, BCFS_ACCOUNTING_used_mark, (s64)*ret_mark - (s64)mark);
out:
	btree_iter_exit(&iter);
	return ret;
}
