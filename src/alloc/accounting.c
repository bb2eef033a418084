// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Counters as committed, disk reservations, usage.
 *
 * What a reservation may count on: whole free buckets above the reserve, closed buckets that wait
 * for a discard (they come back within a journal flush), and the rests of open user buckets; of an
 * open bucket whose data is gone no more than the rest, until it is closed. And, while copygc is
 * there to move the live ones, sectors that are dead in a bucket of data that also holds live ones.
 */
#include "alloc/alloc_private.h"

void alloc_accounted(struct alloc_fs *a, const s64 deltas[BCFS_ACCOUNTING_NR])
{
	for (unsigned i = 0; i < BCFS_ACCOUNTING_NR; i++)
		if (deltas[i])
			__atomic_fetch_add(&a->usage[i], deltas[i], __ATOMIC_RELAXED);
}

void alloc_btree_accounted(void *arg, const s64 *deltas)
{
	alloc_accounted(((struct alloc_ops_arg *)arg)->alloc, deltas);
}

/* @asked: for a promise; else to be shown, which is exact where it does not matter. */
static s64 promisable(struct alloc_fs *a, bool asked)
{
	s64 buckets = alloc_free_buckets(a) - (s64)a->reserve_buckets +
		      alloc_usage_get(a, BCFS_ACCOUNTING_buckets_need_discard) +
		      __atomic_load_n(&a->nr_retire, __ATOMIC_RELAXED) -
		      __atomic_load_n(&a->nr_empty, __ATOMIC_RELAXED);

	s64 dead = 0;

	if (__atomic_load_n(&a->gc_on, __ATOMIC_RELAXED))
		dead = max_t(s64, alloc_dead_sectors(a), 0);
	return buckets * (s64)a->bucket_usable + dead - alloc_node_slack(a, asked) +
	       (s64)__atomic_load_n(&a->rest_user, __ATOMIC_RELAXED) -
	       alloc_usage_get(a, BCFS_ACCOUNTING_reserved);
}

int disk_reservation_get(struct alloc_fs *a, struct disk_reservation *res, u64 sectors)
{
	u64 reserved = __atomic_add_fetch(&a->reserved, sectors, __ATOMIC_RELAXED);

	if (likely((s64)reserved <= promisable(a, true))) {
		res->sectors += sectors;
		return 0;
	}
	__atomic_fetch_sub(&a->reserved, sectors, __ATOMIC_RELAXED);
	alloc_count(&a->counters.nospc);
	return -BCFS_ERR_nospc;
}

void disk_reservation_put(struct alloc_fs *a, struct disk_reservation *res)
{
	__atomic_fetch_sub(&a->reserved, res->sectors, __ATOMIC_RELAXED);
	res->sectors = 0;
}

void alloc_usage(struct alloc_fs *a, struct alloc_usage *ret)
{
	s64 reserved_here = __atomic_load_n(&a->reserved, __ATOMIC_RELAXED);
	s64 bs = a->opts.bucket_sectors, left, promise;

	*ret = (struct alloc_usage){0};
	for (unsigned i = 0; i < BCFS_ACCOUNTING_NR; i++)
		ret->counters[i] = alloc_usage_get(a, i);

	ret->capacity = (a->opts.nr_buckets - a->reserve_buckets) * bs;
	ret->used = ret->counters[BCFS_ACCOUNTING_sb] + ret->counters[BCFS_ACCOUNTING_journal] +
		    ret->counters[BCFS_ACCOUNTING_btree] + ret->counters[BCFS_ACCOUNTING_user];
	ret->used = min(ret->used, ret->capacity);
	ret->reserved = ret->counters[BCFS_ACCOUNTING_reserved] + reserved_here;
	left = (s64)(ret->capacity - ret->used) - (s64)ret->reserved;
	promise = promisable(a, false) - reserved_here;
	ret->free = max_t(s64, min(left, promise), 0);

	ret->buckets[BCFS_DATA_sb] = ret->counters[BCFS_ACCOUNTING_sb] / bs;
	ret->buckets[BCFS_DATA_journal] = ret->counters[BCFS_ACCOUNTING_journal] / bs;
	ret->buckets[BCFS_DATA_btree] = ret->counters[BCFS_ACCOUNTING_buckets_btree];
	ret->buckets[BCFS_DATA_user] = ret->counters[BCFS_ACCOUNTING_buckets_user];
	ret->buckets[BCFS_DATA_need_discard] = ret->counters[BCFS_ACCOUNTING_buckets_need_discard];
	ret->buckets[BCFS_DATA_free] = max_t(s64, alloc_free_buckets(a), 0);
}

void alloc_counters(struct alloc_fs *a, struct alloc_counters *ret)
{
#define x(name, doc) ret->name = __atomic_load_n(&a->counters.name, __ATOMIC_RELAXED);
	ALLOC_COUNTERS(x)
#undef x
}
