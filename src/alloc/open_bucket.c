// SPDX-License-Identifier: LGPL-2.1-or-later
/* The table of open buckets, see alloc_private.h. All under alloc_fs.lock. */
#include "alloc/alloc_private.h"
#include "util/planted.h"

static u16 *hash_slot(struct alloc_fs *a, u8 dev, u64 bucket)
{
	u64 h = (bucket ^ (u64)dev << 56) * 0x9e3779b97f4a7c15ULL;

	return &a->ob_hash[h >> 32 & (ALLOC_OB_HASH - 1)];
}

void ob_table_init(struct alloc_fs *a)
{
	for (unsigned i = ALLOC_OB_NR - 1; i; i--) {
		a->ob[i].list_next = a->ob_unused;
		a->ob_unused = i;
	}
}

u16 ob_find(struct alloc_fs *a, u8 dev, u64 bucket)
{
	u16 i = *hash_slot(a, dev, bucket);

	while (i && (a->ob[i].bucket != bucket || a->ob[i].dev != dev))
		i = a->ob[i].hash_next;
	return i;
}

bool ob_held(struct alloc_fs *a, u8 dev, u64 bucket)
{
	bool held;

	env_mutex_lock(&a->lock);
	held = ob_find(a, dev, bucket);
	env_mutex_unlock(&a->lock);
	return held;
}

static void ready_push(struct alloc_fs *a, u16 idx)
{
	assert(a->nr_ready < ALLOC_READY_MAX);
	a->ready[(a->ready_head + a->nr_ready) % ALLOC_READY_MAX] = idx;
	__atomic_store_n(&a->nr_ready, a->nr_ready + 1, __ATOMIC_RELAXED);
	a->ob[idx].state = OB_READY;
}

static void ob_drop(struct alloc_fs *a, u16 idx)
{
	struct open_bucket *ob = &a->ob[idx];
	u16 *p = hash_slot(a, ob->dev, ob->bucket);

	while (*p != idx)
		p = &a->ob[*p].hash_next;
	*p = ob->hash_next;
	*ob = (struct open_bucket){.list_next = a->ob_unused};
	a->ob_unused = idx;
}

bool ob_add_ready(struct alloc_fs *a, u8 dev, u64 bucket, u8 gen)
{
	u16 idx = a->ob_unused, *slot;

	/* One place in the fifo stays for a bucket that comes back unused. */
	if (!idx || a->nr_ready >= ALLOC_READY_MAX - 1 || ob_find(a, dev, bucket))
		return false;
	a->ob_unused = a->ob[idx].list_next;
	slot = hash_slot(a, dev, bucket);
	a->ob[idx] = (struct open_bucket){
		.bucket = bucket,
		.dev = dev,
		.gen = gen,
		.sectors_free = a->bucket_usable,
		.hash_next = *slot,
	};
	*slot = idx;
	ready_push(a, idx);
	return true;
}

static void rest_mod(struct alloc_fs *a, const struct open_bucket *ob, s64 sectors)
{
	if (ob->data_type == BCFS_DATA_user && !ob->gc)
		__atomic_fetch_add(&a->rest_user, sectors, __ATOMIC_RELAXED);
}

static void uncounted_mod(struct alloc_fs *a, int n)
{
	__atomic_fetch_add(&a->nr_uncounted, n, __ATOMIC_RELAXED);
}

u16 ob_open(struct alloc_fs *a, enum bcfs_data_type type, bool gc)
{
	struct open_bucket *ob;
	u16 idx;

	if (!a->nr_ready)
		return 0;
	idx = a->ready[a->ready_head];
	a->ready_head = (a->ready_head + 1) % ALLOC_READY_MAX;
	__atomic_store_n(&a->nr_ready, a->nr_ready - 1, __ATOMIC_RELAXED);

	ob = &a->ob[idx];
	ob->state = OB_OPEN;
	ob->data_type = type;
	ob->gc = gc;
	ob->refs = 1;
	uncounted_mod(a, 1);
	rest_mod(a, ob, ob->sectors_free);
	alloc_count(&a->counters.buckets_opened);
	if (ob->gen)
		alloc_count(&a->counters.buckets_reused);
	return idx;
}

struct bcfs_extent_ptr ob_carve(struct alloc_fs *a, u16 idx, u32 sectors)
{
	struct open_bucket *ob = &a->ob[idx];
	u32 used = a->bucket_usable - ob->sectors_free;

	assert(ob->state == OB_OPEN && sectors <= ob->sectors_free);
	ob->sectors_free -= sectors;
	rest_mod(a, ob, -(s64)sectors);
	if (ob->data_type == BCFS_DATA_user)
		__atomic_fetch_add(&a->in_flight, sectors, __ATOMIC_RELAXED);
	ob->refs++;
	ob->written = true;
	return (struct bcfs_extent_ptr){
		.type = BCFS_EXTENT_ENTRY_ptr,
		.offset = ob->bucket * a->opts.bucket_sectors + used,
		.dev = ob->dev,
		.gen = ob->gen,
	};
}

void ob_uncarve(struct alloc_fs *a, u16 idx, u32 sectors)
{
	struct open_bucket *ob = &a->ob[idx];

	assert(ob->state == OB_OPEN && ob->refs > 1 &&
	       ob->sectors_free + sectors <= a->bucket_usable);
	ob->sectors_free += sectors;
	rest_mod(a, ob, sectors);
	ob->refs--;
	ob->written = ob->sectors_free != a->bucket_usable;
}

void ob_trim(struct alloc_fs *a, u16 idx, u32 sectors)
{
	struct open_bucket *ob = &a->ob[idx];

	assert(ob->state == OB_OPEN && ob->refs && ob->sectors_free + sectors < a->bucket_usable);
	ob->sectors_free += sectors;
	rest_mod(a, ob, sectors);
	__atomic_fetch_sub(&a->in_flight, sectors, __ATOMIC_RELAXED);
}

static void set_empty(struct alloc_fs *a, struct open_bucket *ob, bool empty)
{
	if (ob->empty != empty)
		__atomic_fetch_add(&a->nr_empty, empty ? 1 : -1, __ATOMIC_RELAXED);
	ob->empty = empty;
}

void ob_get(struct alloc_fs *a, u16 idx)
{
	assert(a->ob[idx].state == OB_OPEN && a->ob[idx].refs);
	a->ob[idx].refs++;
}

void ob_put(struct alloc_fs *a, u16 idx)
{
	struct open_bucket *ob = &a->ob[idx];

	assert(ob->state == OB_OPEN && ob->refs);
	if (--ob->refs)
		return;
	rest_mod(a, ob, -(s64)ob->sectors_free);
	set_empty(a, ob, false);
	if (ob->counted) {
		ob_drop(a, idx);
	} else if ((!ob->written || planted(written_bucket_reused)) &&
		   a->nr_ready < ALLOC_READY_MAX) {
		uncounted_mod(a, -1);
		ob->data_type = BCFS_DATA_free;
		ob->gc = false;
		ready_push(a, idx);
	} else {
		ob->state = OB_RETIRE;
		ob->list_next = a->ob_retire;
		a->ob_retire = idx;
		__atomic_store_n(&a->nr_retire, a->nr_retire + 1, __ATOMIC_RELAXED);
		a->worker_kick = true;
		env_cond_signal(&a->worker_cond);
	}
}

bool ob_note_commit(struct alloc_fs *a, u8 dev, u64 bucket, enum bcfs_data_type type)
{
	struct open_bucket *ob;
	bool open = false;
	u16 idx;

	env_mutex_lock(&a->lock);
	idx = ob_find(a, dev, bucket);
	if (idx) {
		ob = &a->ob[idx];
		open = ob->state == OB_OPEN;
		if (type != BCFS_DATA_free && !ob->counted && ob->state != OB_READY) {
			ob->counted = true;
			uncounted_mod(a, -1);
		}
		if (open)
			set_empty(a, ob, type == BCFS_DATA_need_discard);
	}
	env_mutex_unlock(&a->lock);
	return open;
}

u16 ob_retire_first(struct alloc_fs *a)
{
	return a->ob_retire;
}

void ob_retire_done(struct alloc_fs *a, u16 idx)
{
	u16 *p = &a->ob_retire;

	while (*p != idx)
		p = &a->ob[*p].list_next;
	*p = a->ob[idx].list_next;
	__atomic_store_n(&a->nr_retire, a->nr_retire - 1, __ATOMIC_RELAXED);
	if (!a->ob[idx].counted)
		uncounted_mod(a, -1);
	ob_drop(a, idx);
}

u64 ob_first_uncounted(struct alloc_fs *a, u64 from)
{
	u64 first = UINT64_MAX;

	for (unsigned i = 1; i < ALLOC_OB_NR; i++) {
		const struct open_bucket *ob = &a->ob[i];

		if (ob->state != OB_UNUSED && !ob->counted && ob->bucket >= from)
			first = min(first, ob->bucket);
	}
	return first;
}
