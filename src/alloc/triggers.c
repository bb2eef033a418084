// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What changes with a key that points at space, and with an alloc key. See alloc.h.
 *
 * Pointers: the alloc key's sectors, the backpointer and the counters of live sectors change in the
 * transaction that changes the key. The state of the bucket follows from its sectors alone; whether
 * it is really empty is known only when the transaction is complete (a key that is trimmed goes and
 * comes back within one), so the generation is raised in the commit hook, from the final value.
 *
 * Alloc keys: the indexes and the counters of buckets are functions of the value; the trigger
 * changes what differs between old and new. A key that goes leaves its generation behind, and its
 * bucket in a run of freespace.
 */
#include "alloc/alloc_private.h"
#include "util/planted.h"

/* ---- access to alloc keys and indexes inside a transaction ---- */

int alloc_key_look(struct btree_iter *iter, struct bcfs_alloc *ret, bool *ret_exists)
{
	struct bkey_s_c k = btree_iter_peek_slot(iter);
	struct bcfs_alloc v;
	bool exists;
	int err;

	if (bkey_err(k))
		return bkey_err(k);
	v = alloc_val(k);
	exists = k.k->type == KEY_TYPE_alloc;
	if (!exists) {
		err = alloc_gen_get(iter->trans, iter->pos.inode, iter->pos.offset, &v.gen);
		if (err)
			return err;
		v.oldest_gen = v.gen;
	}
	*ret = v;
	if (ret_exists)
		*ret_exists = exists;
	return 0;
}

int alloc_key_get(struct btree_trans *trans, struct btree_iter *iter, u8 dev, u64 bucket,
		  struct bcfs_alloc *ret, bool *ret_exists)
{
	btree_iter_init(trans, iter, BTREE_ID_alloc, POS(dev, bucket), BTREE_ITER_INTENT);
	return alloc_key_look(iter, ret, ret_exists);
}

int alloc_key_put(struct btree_trans *trans, struct btree_iter *iter, const struct bcfs_alloc *v)
{
	struct bkey_i *k = btree_trans_alloc_key(trans, KEY_TYPE_alloc, iter->pos, sizeof(*v));

	bkey_i_to_alloc(k)->v = *v;
	return btree_trans_update(trans, iter, k, 0);
}

/* A KEY_TYPE_set (or @lru) at @pos, or nothing. */
static int index_mod(struct btree_trans *trans, enum btree_id id, struct bpos pos, bool set)
{
	enum bkey_type type = KEY_TYPE_deleted;
	struct bkey_i *k;

	if (set)
		type = id == BTREE_ID_lru ? KEY_TYPE_lru : KEY_TYPE_set;
	k = btree_trans_alloc_key(trans, type, pos,
				  type == KEY_TYPE_lru ? sizeof(struct bcfs_lru) : 0);
	if (type == KEY_TYPE_lru)
		bkey_i_to_lru(k)->v.idx = pos.offset;
	return btree_trans_insert(trans, id, k, 0);
}

/* ---- pointers ---- */

int alloc_ptr_check(const struct alloc_fs *a, const struct extent_ptr_decoded *p, u64 *ret_bucket)
{
	u64 bucket = p->ptr.offset / a->opts.bucket_sectors;

	if (p->ptr.dev)
		return -BCFS_ERR_alloc_ptr_device;
	if (bucket < a->opts.first_bucket || bucket >= a->opts.nr_buckets || !p->stored_sectors ||
	    (p->ptr.offset + p->stored_sectors - 1) / a->opts.bucket_sectors != bucket)
		return -BCFS_ERR_alloc_ptr_bounds;
	*ret_bucket = bucket;
	return 0;
}

void alloc_backpointer_of(struct bkey_s_c k, enum btree_id btree, unsigned level,
			  const struct extent_ptr_decoded *p, struct bpos *pos,
			  struct bcfs_backpointer *bp)
{
	*pos = POS(p->ptr.dev, (u64)p->ptr.offset << BCFS_BP_SHIFT | p->live_offset);
	*bp = (struct bcfs_backpointer){
		.btree_id = btree,
		.level = level,
		.data_type = k.k->type == KEY_TYPE_btree_ptr ? BCFS_DATA_btree : BCFS_DATA_user,
		.bucket_gen = p->ptr.gen,
		.bucket_len = p->held_sectors,
		.pos = k.k->p,
	};
}

static int ptr_error(struct alloc_fs *a, struct bkey_s_c k, const struct extent_ptr_decoded *p,
		     const struct bcfs_alloc *v, int err)
{
	CLEANUP(printbuf_exit) struct printbuf buf = PRINTBUF;

	bkey_to_text(&buf, k.k);
	prt_printf(&buf, ": ");
	extent_ptr_to_text(&buf, &p->ptr);
	if (v) {
		prt_printf(&buf, "; its bucket is ");
		alloc_val_to_text(&buf, v);
	}
	log_err_ratelimited(a->log, &a->log_limit, "%s: %s; run fsck", err_str(err),
			    printbuf_str(&buf));
	return err;
}

/* The bucket's state by its sectors; @type: of the pointer that came or went. */
static void alloc_set_state(struct bcfs_alloc *v, u8 type)
{
	if (v->dirty_sectors || v->stripe_sectors) {
		if (v->data_type != BCFS_DATA_user && v->data_type != BCFS_DATA_btree)
			v->data_type = type;
	} else if (v->cached_sectors) {
		v->data_type = BCFS_DATA_cached;
	} else if (v->data_type != BCFS_DATA_free) {
		v->data_type = BCFS_DATA_need_discard;
	}
}

static bool ptr_fits_state(const struct bcfs_alloc *v, u8 type)
{
	switch (v->data_type) {
	case BCFS_DATA_free:
	case BCFS_DATA_need_discard:
	case BCFS_DATA_cached:
		return true;
	default:
		return v->data_type == type;
	}
}

static int bucket_mod(struct btree_trans *trans, struct alloc_fs *a, struct bkey_s_c k,
		      const struct extent_ptr_decoded *p, u64 bucket, bool insert, bool *ret_stale)
{
	u8 type = k.k->type == KEY_TYPE_btree_ptr ? BCFS_DATA_btree : BCFS_DATA_user;
	struct btree_iter iter;
	struct bcfs_alloc v;
	u32 *sectors;
	int ret;

	*ret_stale = false;
	ret = alloc_key_get(trans, &iter, p->ptr.dev, bucket, &v, NULL);
	if (ret)
		goto out;
	if (v.gen != p->ptr.gen) {
		/* A cached copy may be gone; nothing of it is counted any more. */
		*ret_stale = p->ptr.cached;
		if (!p->ptr.cached)
			ret = ptr_error(a, k, p, &v, -BCFS_ERR_alloc_ptr_stale);
		goto out;
	}
	if (!ptr_fits_state(&v, type)) {
		ret = ptr_error(a, k, p, &v, -BCFS_ERR_alloc_ptr_state);
		goto out;
	}
	sectors = p->ptr.cached ? &v.cached_sectors : &v.dirty_sectors;
	if (!insert && *sectors < p->held_sectors) {
		ret = ptr_error(a, k, p, &v, -BCFS_ERR_alloc_sectors_underflow);
		goto out;
	}
	*sectors += insert ? p->held_sectors : -p->held_sectors;
	alloc_set_state(&v, type);
	ret = alloc_key_put(trans, &iter, &v);
out:
	btree_iter_exit(&iter);
	return ret;
}

/*
 * Set, or take away if it is still this key's: when a key is trimmed its old position goes while
 * the backpointer has already been given to the new one.
 */
static int backpointer_mod(struct btree_trans *trans, struct bkey_s_c k, enum btree_id btree,
			   unsigned level, const struct extent_ptr_decoded *p, bool insert)
{
	struct bcfs_backpointer bp;
	struct btree_iter iter;
	struct bkey_i *new;
	struct bkey_s_c old;
	struct bpos pos;
	int ret;

	alloc_backpointer_of(k, btree, level, p, &pos, &bp);
	btree_iter_init(trans, &iter, BTREE_ID_backpointers, pos, BTREE_ITER_INTENT);
	if (insert) {
		new = btree_trans_alloc_key(trans, KEY_TYPE_backpointer, pos, sizeof(bp));
		bkey_i_to_backpointer(new)->v = bp;
	} else {
		const struct bcfs_backpointer *o;

		old = btree_iter_peek_slot(&iter);
		ret = bkey_err(old);
		if (ret)
			goto out;
		o = (const void *)old.v;
		if (old.k->type != KEY_TYPE_backpointer || o->btree_id != bp.btree_id ||
		    o->level != bp.level ||
		    (!bpos_eq(o->pos, bp.pos) && !planted(backpointer_lost_by_trim)))
			goto out;
		new = btree_trans_alloc_key(trans, KEY_TYPE_deleted, pos, 0);
	}
	ret = btree_trans_update(trans, &iter, new, 0);
out:
	btree_iter_exit(&iter);
	return ret;
}

static int ptr_mod(struct btree_trans *trans, struct alloc_fs *a, struct bkey_s_c k,
		   enum btree_id btree, unsigned level, const struct extent_ptr_decoded *p,
		   bool insert)
{
	s64 sectors = insert ? p->held_sectors : -(s64)p->held_sectors;
	enum bcfs_accounting_type counter = BCFS_ACCOUNTING_user;
	bool stale;
	u64 bucket;
	int ret;

	ret = alloc_ptr_check(a, p, &bucket);
	if (ret)
		return ptr_error(a, k, p, NULL, ret);
	ret = bucket_mod(trans, a, k, p, bucket, insert, &stale);
	if (ret || stale)
		return ret;
	ret = backpointer_mod(trans, k, btree, level, p, insert);
	if (ret)
		return ret;

	if (p->ptr.cached)
		counter = BCFS_ACCOUNTING_cached;
	else if (k.k->type == KEY_TYPE_btree_ptr)
		counter = BCFS_ACCOUNTING_btree;
	btree_trans_account(trans, counter, sectors);
	if (!p->ptr.cached && extent_compressed(p->crc)) {
		btree_trans_account(trans, BCFS_ACCOUNTING_compressed, sectors);
		btree_trans_account(trans, BCFS_ACCOUNTING_uncompressed,
				    insert ? k.k->size : -(s64)k.k->size);
	}
	return 0;
}

/* Does @k hold the very same pointer, to the same live range? Then nothing changes for it. */
static bool key_has_ptr(struct bkey_s_c k, u32 node_sectors, const struct extent_ptr_decoded *p)
{
	struct extent_ptr_decoded q;

	for_each_extent_ptr(
		k, node_sectors, it,
		q) if (q.ptr.offset == p->ptr.offset && q.ptr.dev == p->ptr.dev &&
		       q.ptr.gen == p->ptr.gen && q.ptr.cached == p->ptr.cached &&
		       q.live_offset == p->live_offset && q.held_sectors == p->held_sectors &&
		       q.stored_sectors == p->stored_sectors &&
		       extent_compressed(q.crc) == extent_compressed(p->crc)) return true;
	return false;
}

int alloc_trigger_pointers(struct btree_trans *trans, enum btree_id btree, unsigned level,
			   struct bkey_s_c old, struct bkey_s_c new, unsigned flags)
{
	struct alloc_fs *a = alloc_of_trans(trans);
	bool same_kind = (old.k->type == KEY_TYPE_btree_ptr) == (new.k->type == KEY_TYPE_btree_ptr);
	u32 node_sectors = a->opts.node_sectors;
	struct extent_ptr_decoded p;
	int ret;

	/*
	 * New first: a bucket that loses one pointer and gets another in the same update is never
	 * seen empty in between.
	 */
	for_each_extent_ptr(new, node_sectors, it, p)
	{
		if (same_kind && key_has_ptr(old, node_sectors, &p))
			continue;
		/* The old value's backpointer may lie at the same place: it is replaced. */
		ret = ptr_mod(trans, a, new, btree, level, &p, true);
		if (ret)
			return ret;
	}
	for_each_extent_ptr(old, node_sectors, it, p)
	{
		struct extent_ptr_decoded q;
		bool replaced = false;

		if (same_kind && key_has_ptr(new, node_sectors, &p))
			continue;
		/* Same place and start, other length: the backpointer is the new value's now. */
		for_each_extent_ptr(new, node_sectors, it2, q) replaced |=
			q.ptr.offset == p.ptr.offset && q.ptr.dev == p.ptr.dev &&
			q.live_offset == p.live_offset;
		ret = ptr_mod(trans, a, old, btree, level, &p, false);
		if (!ret && replaced)
			for_each_extent_ptr(new, node_sectors, it3,
					    q) if (q.ptr.offset == p.ptr.offset &&
						   q.ptr.dev == p.ptr.dev &&
						   q.live_offset == p.live_offset && !ret) ret =
				backpointer_mod(trans, new, btree, level, &q, true);
		if (ret)
			return ret;
	}
	return 0;
}

/* ---- alloc keys ---- */

/* The counter of a bucket in this state, and what it counts for one; NR: none. */
static enum bcfs_accounting_type bucket_counter(const struct alloc_fs *a,
						const struct bcfs_alloc *v, s64 *ret_amount)
{
	*ret_amount = 1;
	switch (v->data_type) {
	case BCFS_DATA_free:
		return BCFS_ACCOUNTING_NR;
	case BCFS_DATA_sb:
		*ret_amount = a->opts.bucket_sectors;
		return BCFS_ACCOUNTING_sb;
	case BCFS_DATA_journal:
		*ret_amount = a->opts.bucket_sectors;
		return BCFS_ACCOUNTING_journal;
	case BCFS_DATA_btree:
		return BCFS_ACCOUNTING_buckets_btree;
	case BCFS_DATA_need_discard:
	case BCFS_DATA_need_gc_gens:
		return BCFS_ACCOUNTING_buckets_need_discard;
	default:
		return BCFS_ACCOUNTING_buckets_user;
	}
}

int alloc_trigger_key(struct btree_trans *trans, enum btree_id btree, unsigned level,
		      struct bkey_s_c old, struct bkey_s_c new, unsigned flags)
{
	struct alloc_fs *a = alloc_of_trans(trans);
	struct bcfs_alloc o = alloc_val(old), n = alloc_val(new);
	bool o_key = old.k->type == KEY_TYPE_alloc, n_key = new.k->type == KEY_TYPE_alloc;
	bool o_discard = o.data_type == BCFS_DATA_need_discard;
	bool n_discard = n.data_type == BCFS_DATA_need_discard;
	u32 o_frag = alloc_fragmentation(&o, a->opts.bucket_sectors);
	u32 n_frag = alloc_fragmentation(&n, a->opts.bucket_sectors);
	struct bpos pos = new.k->p;
	enum bcfs_accounting_type oc, nc;
	s64 oa, na;
	int ret = 0;

	if (n_key && !o_key)
		ret = alloc_run_take(trans, pos.inode, pos.offset);
	if (o_key && !n_key) {
		ret = alloc_run_give(trans, pos.inode, pos.offset);
		if (!ret)
			ret = alloc_gen_set(trans, pos.inode, pos.offset, o.gen);
	}
	if (!ret && o_discard != n_discard)
		ret = index_mod(trans, BTREE_ID_need_discard, pos, n_discard);
	if (!ret && o_frag != n_frag && o_frag)
		ret = index_mod(trans, BTREE_ID_lru, alloc_lru_pos(pos.inode, pos.offset, o_frag),
				false);
	if (!ret && o_frag != n_frag && n_frag)
		ret = index_mod(trans, BTREE_ID_lru, alloc_lru_pos(pos.inode, pos.offset, n_frag),
				true);
	if (ret)
		return ret;

	oc = bucket_counter(a, &o, &oa);
	nc = bucket_counter(a, &n, &na);
	if (oc != nc) {
		if (oc != BCFS_ACCOUNTING_NR)
			btree_trans_account(trans, oc, -oa);
		if (nc != BCFS_ACCOUNTING_NR)
			btree_trans_account(trans, nc, na);
	}
	return 0;
}

/*
 * The generation is raised when the bucket is empty for good: not while it is open and more may be
 * written to it under the old one (then the worker does it, when it has been closed). With no
 * cached pointers nothing can still name an older generation, so oldest_gen follows at once.
 */
void alloc_commit_hook(struct btree_trans *trans, enum btree_id btree, unsigned level,
		       struct bkey_s_c old, struct bkey_i *new, u64 seq)
{
	struct alloc_fs *a = alloc_of_trans(trans);
	struct bcfs_alloc o = alloc_val(old);
	struct bcfs_alloc *n;
	bool open;

	n = &bkey_i_to_alloc(new)->v;
	open = ob_note_commit(a, new->k.p.inode, new->k.p.offset, n->data_type);
	if (n->data_type != BCFS_DATA_need_discard) {
		n->flags &= ~BCFS_ALLOC_NEED_INC_GEN;
		return;
	}
	if (o.data_type != BCFS_DATA_need_discard) {
		n->journal_seq_empty = seq - planted(empty_seq_too_old);
		if (open) {
			n->flags |= BCFS_ALLOC_NEED_INC_GEN;
		} else {
			n->gen += !planted(gen_not_raised);
			n->oldest_gen = n->gen;
		}
		alloc_count(&a->counters.buckets_emptied);
	} else if (o.gen != n->gen) {
		n->journal_seq_empty = seq;
	} else {
		return;
	}
	bdev_end_life(a->bdev, new->k.p.offset * a->opts.bucket_sectors *SECTOR_SIZE,
		      (u64)a->opts.bucket_sectors * SECTOR_SIZE, false);
	/* Commits that run at the same time: a little too old does no harm. */
	if (n->journal_seq_empty > __atomic_load_n(&a->empty_seq, __ATOMIC_RELAXED))
		__atomic_store_n(&a->empty_seq, n->journal_seq_empty, __ATOMIC_RELAXED);
}
