// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What is kept of buckets that have no alloc key: their generations, 256 to a key, packed, and
 * where they are, as runs. So a bucket that is free costs next to nothing, however often it was
 * used.
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
#include "util/planted.h"

#include <string.h>

/* ---- generations ---- */

struct bpos alloc_gens_pos(u8 dev, u64 bucket)
{
	return POS(BCFS_ALLOC_GENS | dev, bucket / BCFS_ALLOC_GENS_GROUP);
}

#define GROUP BCFS_ALLOC_GENS_GROUP

static u32 gens_bytes(unsigned bits, unsigned nr_exceptions)
{
	return sizeof(struct bcfs_bucket_gens) + GROUP / 8 * bits + 2 * nr_exceptions;
}

bool alloc_gens_unpack(struct bkey_s_c k, u8 gens[BCFS_ALLOC_GENS_GROUP])
{
	const struct bcfs_bucket_gens *g = (const void *)k.v;
	u32 bytes = bkey_val_bytes(k.k), acc = 0, have = 0;
	const u8 *d, *x;

	if (k.k->type != KEY_TYPE_bucket_gens || bytes < sizeof(*g) || g->bits > 8 ||
	    bytes < gens_bytes(g->bits, g->nr_exceptions))
		return false;
	d = g->d;
	x = d + GROUP / 8 * g->bits;
	for (unsigned i = 0; i < GROUP; i++, have -= g->bits, acc >>= g->bits) {
		if (have < g->bits) {
			acc |= (u32)*d++ << have;
			have += 8;
		}
		gens[i] = g->base + (acc & ((1U << g->bits) - 1));
	}
	for (unsigned i = 0; i < g->nr_exceptions; i++, x += 2) {
		if (i && x[0] <= x[-2])
			return false;
		gens[x[0]] = x[1];
	}
	return true;
}

/* Which base and how many bits make it shortest. */
static void choose_coding(const u8 gens[GROUP], struct bcfs_bucket_gens *best)
{
	u32 best_bytes = UINT32_MAX;
	u16 nr_of[256] = {0};

	for (unsigned i = 0; i < GROUP; i++)
		nr_of[gens[i]]++;
	for (unsigned bits = 0; bits <= 8; bits++) {
		unsigned in_range = 0;

		for (unsigned i = 0; i < 1U << bits; i++)
			in_range += nr_of[i];
		for (unsigned base = 0; base < 256; base++) {
			unsigned out = GROUP - in_range;

			if (out < 256 && gens_bytes(bits, out) < best_bytes) {
				best_bytes = gens_bytes(bits, out);
				*best = (struct bcfs_bucket_gens){base, bits, out, 0};
			}
			in_range += nr_of[(base + (1U << bits)) & 255];
			in_range -= nr_of[base];
		}
	}
}

u32 alloc_gens_pack(const u8 gens[BCFS_ALLOC_GENS_GROUP], struct alloc_gens_buf *buf)
{
	struct bcfs_bucket_gens *g = (void *)buf->b;
	u32 acc = 0, have = 0, bytes;
	u8 *d, *x;

	memset(buf, 0, sizeof(*buf));
	choose_coding(gens, g);
	bytes = round_up(gens_bytes(g->bits, g->nr_exceptions), 8U);
	assert(bytes <= sizeof(*buf));
	d = g->d;
	x = d + GROUP / 8 * g->bits;
	for (unsigned i = 0; i < GROUP; i++) {
		u8 v = gens[i] - g->base;

		if (v >> g->bits) {
			*x++ = i;
			*x++ = gens[i];
			v = 0;
		}
		acc |= (u32)v << have;
		have += g->bits;
		for (; have >= 8; have -= 8, acc >>= 8)
			*d++ = acc;
	}
	return bytes;
}

/* The generations of the group at @iter's position; all 0 if there is no key. */
static int gens_read(struct btree_iter *iter, u8 gens[GROUP])
{
	struct bkey_s_c k = btree_iter_peek_slot(iter);
	int ret = bkey_err(k);

	if (!ret && !alloc_gens_unpack(k, gens))
		memset(gens, 0, GROUP);
	return ret;
}

int alloc_gen_get(struct btree_trans *trans, u8 dev, u64 bucket, u8 *ret_gen)
{
	struct btree_iter iter;
	u8 gens[GROUP];
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_alloc, alloc_gens_pos(dev, bucket), 0);
	ret = gens_read(&iter, gens);
	if (!ret)
		*ret_gen = gens[bucket % GROUP];
	btree_iter_exit(&iter);
	return ret;
}

bool alloc_gens_all_zero(const u8 gens[BCFS_ALLOC_GENS_GROUP])
{
	for (unsigned i = 0; i < GROUP; i++)
		if (gens[i])
			return false;
	return true;
}

int alloc_gen_set(struct btree_trans *trans, u8 dev, u64 bucket, u8 gen)
{
	unsigned i = bucket % GROUP;
	struct alloc_gens_buf buf;
	struct btree_iter iter;
	struct bkey_i *new;
	u8 gens[GROUP];
	u32 bytes;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_alloc, alloc_gens_pos(dev, bucket),
			BTREE_ITER_INTENT);
	ret = gens_read(&iter, gens);
	if (ret || gens[i] == gen)
		goto out;
	gens[i] = gen;
	if (alloc_gens_all_zero(gens)) {
		ret = btree_trans_delete_at(trans, &iter, 0);
		goto out;
	}
	bytes = alloc_gens_pack(gens, &buf);
	new = btree_trans_alloc_key(trans, KEY_TYPE_bucket_gens, iter.pos, bytes);
	memcpy(new->v, buf.b, bytes);
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
			      left + 1 + last - bucket - planted(free_run_too_short));
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
