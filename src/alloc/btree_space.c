// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Places for btree nodes: node_sectors long, one after another in one bucket at a time. A place
 * that comes back unwritten goes back into its bucket, and with the last one the bucket is free;
 * where another place was handed out behind it, it is kept at hand.
 */
#include "alloc/alloc_private.h"
#include "util/planted.h"

/*
 * What discards and compaction opened out of their share is theirs to the last place: a bucket
 * holds many, and with the others gone they would have to open the next one. lock is held.
 */
static bool may_take(struct alloc_fs *a, enum alloc_watermark watermark)
{
	return watermark >= a->nodes_opened || alloc_free_buckets(a) > (s64)a->watermark[watermark];
}

static bool node_take(struct alloc_fs *a, struct write_point *wp, enum alloc_watermark watermark,
		      struct bcfs_extent_ptr *ret)
{
	bool ok = false;

	env_mutex_lock(&a->lock);
	if (!may_take(a, watermark)) {
		/* Opening another one is what it may not do, either. */
	} else if (a->nr_nodes) {
		*ret = a->nodes[--a->nr_nodes];
		ok = true;
	} else if (wp->ob) {
		*ret = ob_carve(a, wp->ob, a->opts.node_sectors);
		if (a->ob[wp->ob].sectors_free < a->opts.node_sectors) {
			ob_put(a, wp->ob);
			wp->ob = 0;
		}
		ok = true;
	}
	env_mutex_unlock(&a->lock);
	return ok;
}

static enum alloc_take nodes_open(struct alloc_fs *a, struct write_point *wp,
				  enum alloc_watermark watermark)
{
	enum alloc_take t =
		wp->ob ? ALLOC_TAKE_SHORT : alloc_wp_open(a, wp, BCFS_DATA_btree, watermark);

	if (!t) {
		env_mutex_lock(&a->lock);
		a->nodes_opened = watermark;
		env_mutex_unlock(&a->lock);
	}
	return t;
}

u32 alloc_nodes_at_hand(struct alloc_fs *a)
{
	u32 nr;

	env_mutex_lock(&a->btree_wp.lock);
	env_mutex_lock(&a->lock);
	nr = a->nr_nodes;
	if (a->btree_wp.ob)
		nr += a->ob[a->btree_wp.ob].sectors_free / a->opts.node_sectors;
	env_mutex_unlock(&a->lock);
	env_mutex_unlock(&a->btree_wp.lock);
	return nr;
}

/* Up to @nr places; *n of them are had. What is missing for the others. */
static enum alloc_take nodes_take(struct alloc_fs *a, enum alloc_watermark watermark, unsigned nr,
				  struct bcfs_extent_ptr *ret, unsigned *n)
{
	struct write_point *wp = &a->btree_wp;
	enum alloc_take t = ALLOC_TAKE_OK;

	env_mutex_lock(&wp->lock);
	while (*n < nr && !t) {
		if (node_take(a, wp, watermark, &ret[*n]))
			++*n;
		else
			t = nodes_open(a, wp, watermark);
	}
	env_mutex_unlock(&wp->lock);
	return t;
}

static bool wait_for_place(struct alloc_fs *a, bool reserve)
{
	bool ret;

	__atomic_add_fetch(&a->nr_pressed, reserve, __ATOMIC_RELAXED);
	ret = alloc_wait_for_space(a, false);
	__atomic_sub_fetch(&a->nr_pressed, reserve, __ATOMIC_RELAXED);
	return ret;
}

int alloc_btree_nodes_alloc(struct alloc_fs *a, unsigned flags, unsigned nr,
			    struct bcfs_extent_ptr *ret)
{
	bool reserve = flags & BTREE_SPACE_RESERVE;
	enum alloc_watermark watermark = reserve		     ? ALLOC_WATERMARK_reserve
					 : flags & BTREE_SPACE_KEEPS ? ALLOC_WATERMARK_keeps
								     : ALLOC_WATERMARK_btree;
	unsigned n = 0;
	int err = 0;

	/* What frees space is never kept from it. */
	if (__atomic_load_n(&a->discard_owner, __ATOMIC_RELAXED) ==
		    env_thread_self_id(a->env) + 1 ||
	    __atomic_load_n(&a->compact_owner, __ATOMIC_RELAXED) == env_thread_self_id(a->env) + 1)
		watermark = ALLOC_WATERMARK_discard;
	for (;;) {
		enum alloc_take t = nodes_take(a, watermark, nr, ret, &n);
		u32 found = 0;

		if (!t)
			return 0;
		if (t == ALLOC_TAKE_FILL)
			err = alloc_fill_ready(a, &found);
		if (found && !err)
			continue;
		/* Who waits with places in hand keeps them from others who wait. */
		while (n)
			alloc_btree_node_unused(a, &ret[--n], false);
		if (err)
			return err;
		if (wait_for_place(a, reserve))
			continue;
		if (!reserve || watermark >= ALLOC_WATERMARK_last)
			break;
		watermark = ALLOC_WATERMARK_last;
	}
	return alloc_no_space(a);
}

void alloc_btree_node_used(struct alloc_fs *a, const struct bcfs_extent_ptr *ptr)
{
	u16 idx;

	env_mutex_lock(&a->lock);
	idx = ob_find(a, ptr->dev, ptr->offset / a->opts.bucket_sectors);
	assert(idx);
	ob_put(a, idx);
	env_mutex_unlock(&a->lock);
}

/* The place at hand @i back into its bucket, which is or becomes the write point's. */
static bool give_back(struct alloc_fs *a, struct write_point *wp, u32 i)
{
	const struct bcfs_extent_ptr *p = &a->nodes[i];
	u16 idx = ob_find(a, p->dev, p->offset / a->opts.bucket_sectors);
	u32 handed_out = a->bucket_usable - a->ob[idx].sectors_free;

	assert(idx);
	if ((wp->ob && wp->ob != idx) ||
	    (p->offset % a->opts.bucket_sectors + a->opts.node_sectors != handed_out &&
	     !planted(node_place_from_middle)))
		return false;
	if (!wp->ob) {
		wp->ob = idx;
		a->ob[idx].refs++;
	}
	a->nodes[i] = a->nodes[--a->nr_nodes];
	ob_uncarve(a, idx, a->opts.node_sectors);
	if (!a->ob[idx].written) {
		ob_put(a, idx);
		wp->ob = 0;
	}
	return true;
}

void alloc_btree_node_unused(struct alloc_fs *a, const struct bcfs_extent_ptr *ptr, bool written)
{
	struct write_point *wp = &a->btree_wp;

	env_mutex_lock(&wp->lock);
	env_mutex_lock(&a->lock);
	if ((!written || planted(written_place_reused)) && a->nr_nodes < ALLOC_NODES_READY) {
		a->nodes[a->nr_nodes++] = *ptr;
		for (u32 i = 0; i < a->nr_nodes;)
			i = give_back(a, wp, i) ? 0 : i + 1;
	} else {
		u16 idx = ob_find(a, ptr->dev, ptr->offset / a->opts.bucket_sectors);

		assert(idx);
		ob_put(a, idx);
	}
	env_mutex_unlock(&a->lock);
	env_mutex_unlock(&wp->lock);
}

static int op_alloc(void *arg, unsigned flags, unsigned nr, struct bcfs_extent_ptr *ret)
{
	return alloc_btree_nodes_alloc(((struct alloc_ops_arg *)arg)->alloc, flags, nr, ret);
}

static void op_used(void *arg, const struct bcfs_extent_ptr *ptr)
{
	alloc_btree_node_used(((struct alloc_ops_arg *)arg)->alloc, ptr);
}

static void op_unused(void *arg, const struct bcfs_extent_ptr *ptr, bool written)
{
	alloc_btree_node_unused(((struct alloc_ops_arg *)arg)->alloc, ptr, written);
}

const struct btree_space_ops alloc_btree_space_ops = {
	.alloc = op_alloc,
	.used = op_used,
	.unused = op_unused,
};
