// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Telling the device of all that is free (FITRIM). Whoever wants a free bucket gets it by way of
 * a row in the table, and rows come under fill_lock alone: so what is free and without a row stays
 * so while it is held, for one batch at a time.
 */
#include "alloc/alloc_private.h"
#include "util/cleanup.h"

#define TRIM_BATCH 256U /* buckets looked at while others may have to wait */

struct trim {
	struct alloc_fs *a;
	u64 next, end;	   /* buckets */
	u64 first, nr;	   /* the free ones in a row before next, not yet told */
	u64 least_sectors; /* of them that are worth it */
	u64 told_end;	   /* buckets: what is free from here on belongs to what was told of */
	u64 done_sectors;
};

static int trim_tell(struct trim *t)
{
	u64 sectors = t->nr * t->a->opts.bucket_sectors;
	int ret = 0;

	if (t->nr && (sectors >= t->least_sectors || t->first == t->told_end)) {
		t->told_end = t->first + t->nr;
		ret = bdev_discard(t->a->bdev, t->first * t->a->opts.bucket_sectors * SECTOR_SIZE,
				   sectors * SECTOR_SIZE);
		if (!ret)
			t->done_sectors += sectors;
	}
	t->nr = 0;
	return ret;
}

static int trim_look(struct btree_trans *trans, struct trim *t, bool *ret_free)
{
	bool exists;
	u8 gen;

	*ret_free = false;
	return alloc_is_journal_bucket(t->a, t->next)
		       ? 0
		       : alloc_bucket_look(trans, t->a, t->next, ret_free, &exists, &gen);
}

/* The row at hand is free up to here, and too short to be told of. */
static bool trim_row_is_open(const struct trim *t)
{
	return t->nr && t->nr * t->a->opts.bucket_sectors < t->least_sectors &&
	       t->first != t->told_end;
}

/* fill_lock is held. A row is not cut before it is long enough. */
static int trim_batch(struct btree_trans *trans, struct trim *t)
{
	u64 end = min(t->end, t->next + TRIM_BATCH);
	int ret = 0;

	for (; !ret && t->next < t->end && (t->next < end || trim_row_is_open(t)); t->next++) {
		bool is_free;

		ret = lockrestart_do(trans, trim_look(trans, t, &is_free));
		btree_trans_unlock(trans);
		if (ret)
			return ret;
		if (is_free) {
			t->first = t->nr ? t->first : t->next;
			t->nr++;
		} else {
			ret = trim_tell(t);
		}
	}
	return ret ?: trim_tell(t);
}

int alloc_trim(struct alloc_fs *a, u64 start, u64 end, u64 least_sectors, u64 *ret_sectors)
{
	u64 self = env_thread_self_id(a->env) + 1;
	struct trim t = {
		.a = a,
		.next = max(DIV_ROUND_UP(start, (u64)a->opts.bucket_sectors), a->opts.first_bucket),
		.end = min(end / a->opts.bucket_sectors, a->opts.nr_buckets),
		.least_sectors = least_sectors,
	};
	struct btree_trans *trans;
	int ret = 0;

	*ret_sectors = 0;
	if (!a->bdev->can_discard)
		return -BCFS_ERR_dev_no_discard;
	trans = btree_trans_get(a->btree);
	while (!ret && t.next < t.end) {
		env_mutex_lock(&a->fill_lock);
		__atomic_store_n(&a->fill_owner, self, __ATOMIC_RELAXED);
		ret = trim_batch(trans, &t);
		__atomic_store_n(&a->fill_owner, 0, __ATOMIC_RELAXED);
		env_mutex_unlock(&a->fill_lock);
	}
	btree_trans_put(trans);
	*ret_sectors = t.done_sectors;
	return ret;
}
