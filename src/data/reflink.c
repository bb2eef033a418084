// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Shared data (doc/adr/0029): a reflink_p in a file says where in the reflink btree its data are;
 * a reflink_v there has them, as an extent has, and how many reflink_p cover each of its sectors.
 *
 * 1. The counts change in the transaction that changes a reflink_p, by its trigger: for exactly the
 *    sectors that it gains or loses. The reflink_v is split where that is a part of it.
 * 2. A reflink_v whose count is 0 behind all these triggers is deleted by its own, which comes
 *    later: btrees' triggers run in the order of their ids.
 * 3. A reflink_p leads to one reflink_v at first, of at most SHARE_BLOCKS blocks; so it never leads
 *    to more than that many. Commits that take several keys away count what these lead to. What is
 *    still too much for one is cut in two, and tried again.
 */
#include "codec/keyring.h"
#include "data/data_private.h"
#include "util/planted.h"
#include "util/printbuf.h"

#include <string.h>

#define SHARE_BLOCKS	      64U
#define SHARE_KEYS	      16U /* of the destination, that one commit takes away */
#define SHARE_HOLE_SECTORS    (1U << 30)
#define INDEX_MAX	      (1ULL << 62)
#define REFLINK_ENTRIES_START (sizeof(struct bcfs_reflink_v) / sizeof(u64))

static const struct bcfs_reflink_p *p_val(struct bkey_s_c k)
{
	return (const struct bcfs_reflink_p *)k.v;
}

static u64 *count_of(struct bkey_i *v)
{
	return &((struct bcfs_reflink_v *)v->v)->refcount;
}

/* ---- reflink_p ---- */

static int reflink_p_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			      struct printbuf *err)
{
	const struct bcfs_reflink_p *p = p_val(k);

	if (btree != BTREE_ID_extents || level) {
		prt_printf(err, "reference to shared data in btree %s level %u",
			   btree_id_name(btree), level);
		return -BCFS_ERR_data_key_btree;
	}
	if (p->front_pad || p->back_pad || p->idx > UINT64_MAX - k.k->size) {
		prt_printf(err, "index %llu pads %u %u", (unsigned long long)p->idx, p->front_pad,
			   p->back_pad);
		return -BCFS_ERR_reflink_invalid;
	}
	return 0;
}

static void reflink_p_to_text(struct printbuf *out, struct bkey_s_c k)
{
	prt_printf(out, "index %llu", (unsigned long long)p_val(k)->idx);
}

static void reflink_p_cut_front(struct bkey_i *k, u32 sectors)
{
	((struct bcfs_reflink_p *)k->v)->idx += sectors;
}

/* One more, or one less, for [@start, @end) of the reflink btree. */
static int count_range(struct btree_trans *trans, u64 start, u64 end, bool more)
{
	struct btree_iter iter;
	int ret = 0;

	if (start >= end)
		return 0;
	btree_iter_init(trans, &iter, BTREE_ID_reflink, POS(0, start), BTREE_ITER_INTENT);
	while (!ret && start < end) {
		const struct bkey_ops_table *ops = btree_ops_table(btree_trans_fs(trans));
		struct bkey_s_c k;
		struct bkey_i *v;
		u64 to;

		btree_iter_set_pos(&iter, POS(0, start));
		k = btree_iter_peek_slot(&iter);
		ret = bkey_err(k);
		if (ret)
			break;
		if (k.k->type != KEY_TYPE_reflink_v) {
			ret = -BCFS_ERR_reflink_missing;
			break;
		}
		to = min(k.k->p.offset, end);
		v = btree_trans_copy_key(trans, k, 0);
		bkey_cut_front(ops, start, v);
		bkey_cut_back(ops, to, v);
		if (!more && !*count_of(v)) {
			ret = -BCFS_ERR_reflink_count;
			break;
		}
		if (more)
			*count_of(v) += !(planted(share_not_counted) && *count_of(v));
		else
			*count_of(v) -= 1;
		ret = btree_trans_update(trans, &iter, v, 0);
		start = to;
	}
	btree_iter_exit(&iter);
	return ret;
}

/* [@start, @end) without [@start2, @end2). */
static int count_difference(struct btree_trans *trans, u64 start, u64 end, u64 start2, u64 end2,
			    bool more)
{
	return count_range(trans, start, min(end, max(start2, start)), more)
		       ?: count_range(trans, max(start, min(end2, end)), end, more);
}

static int reflink_p_trigger(struct btree_trans *trans, enum btree_id btree, unsigned level,
			     struct bkey_s_c old, struct bkey_s_c new, unsigned flags)
{
	u64 o = 0, o_end = 0, n = 0, n_end = 0;

	if (old.k->type == KEY_TYPE_reflink_p) {
		o = p_val(old)->idx;
		o_end = o + old.k->size;
	}
	if (new.k->type == KEY_TYPE_reflink_p) {
		n = p_val(new)->idx;
		n_end = n + new.k->size;
	}
	if (o < o_end && n < n_end && o < n_end && n < o_end) {
		int ret = count_difference(trans, n, n_end, o, o_end, true);

		if (planted(share_cut_not_counted))
			return ret;
		return ret ?: count_difference(trans, o, o_end, n, n_end, false);
	}
	return count_range(trans, n, n_end, true) ?: count_range(trans, o, o_end, false);
}

const struct bkey_ops bkey_ops_reflink_p = {
	.validate = reflink_p_validate,
	.to_text = reflink_p_to_text,
	.trigger = reflink_p_trigger,
	.cut_front = reflink_p_cut_front,
};

/* ---- reflink_v ---- */

static int reflink_v_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			      struct printbuf *err)
{
	if (btree != BTREE_ID_reflink || level) {
		prt_printf(err, "shared data in btree %s level %u", btree_id_name(btree), level);
		return -BCFS_ERR_data_key_btree;
	}
	if (k.k->p.inode || !((const struct bcfs_reflink_v *)k.v)->refcount) {
		prt_printf(err, "inode %llu, count %llu", (unsigned long long)k.k->p.inode,
			   (unsigned long long)((const struct bcfs_reflink_v *)k.v)->refcount);
		return -BCFS_ERR_reflink_invalid;
	}
	return extent_entries_validate(bkey_ptrs(k), k.k->size, err);
}

static void reflink_v_to_text(struct printbuf *out, struct bkey_s_c k)
{
	prt_printf(out, "count %llu ",
		   (unsigned long long)((const struct bcfs_reflink_v *)k.v)->refcount);
	extent_entries_to_text(out, bkey_ptrs(k));
}

static int reflink_v_trigger(struct btree_trans *trans, enum btree_id btree, unsigned level,
			     struct bkey_s_c old, struct bkey_s_c new, unsigned flags)
{
	int ret = alloc_trigger_pointers(trans, btree, level, old, new, flags)
			  ?: rebalance_trigger(trans, old, new);

	if (ret || new.k->type != KEY_TYPE_reflink_v ||
	    ((const struct bcfs_reflink_v *)new.v)->refcount)
		return ret;
	/* Takes the place of @new in the transaction. */
	return btree_trans_delete(trans, BTREE_ID_reflink, new.k->p, 0);
}

const struct bkey_ops bkey_ops_reflink_v = {
	.validate = reflink_v_validate,
	.to_text = reflink_v_to_text,
	.trigger = reflink_v_trigger,
	.commit_hook = data_sealed_hook,
	.hook_sees_old = true,
	.cut_front = extent_key_cut_front,
};

struct bkey_i *reflink_v_of(struct btree_trans *trans, struct bkey_s_c k, u64 count)
{
	unsigned bytes = bkey_val_bytes(k.k);
	struct bkey_i *v = btree_trans_alloc_key(trans, KEY_TYPE_reflink_v, k.k->p,
						 sizeof(struct bcfs_reflink_v) + bytes);

	v->k.size = k.k->size;
	*count_of(v) = count;
	memcpy(v->v + REFLINK_ENTRIES_START, k.v, bytes);
	return v;
}

/* ---- looking up ---- */

int reflink_resolve(struct btree_iter *iter, struct bkey_s_c k, u64 sector, union data_key *ret,
		    bool *ret_alone)
{
	const struct bkey_ops_table *ops = btree_ops_table(btree_trans_fs(iter->trans));
	u64 start = bkey_start_offset(k.k), end = k.k->p.offset;
	u64 idx = p_val(k)->idx + (sector - start), v_idx;
	struct bpos pos = k.k->p;
	unsigned entries;
	int err;

	btree_iter_set_pos(iter, POS(0, idx));
	k = btree_iter_peek_slot(iter);
	/* What is read must be of one and the same time as the reflink_p. */
	err = bkey_err(k) ?: btree_trans_relock(iter->trans);
	if (!err && k.k->type != KEY_TYPE_reflink_v)
		err = -BCFS_ERR_reflink_missing;
	if (err)
		return err;
	v_idx = bkey_start_offset(k.k);
	entries = bkey_val_u64s(k.k) - REFLINK_ENTRIES_START;
	*ret_alone = ((const struct bcfs_reflink_v *)k.v)->refcount == 1;
	bkey_init(&ret->k.k);
	ret->k.k.type = KEY_TYPE_extent;
	set_bkey_val_bytes(&ret->k.k, entries * sizeof(u64));
	memcpy(ret->k.v, (const u64 *)k.v + REFLINK_ENTRIES_START, entries * sizeof(u64));
	/* In coordinates of the reflink btree, then in the file's. */
	ret->k.k.size = k.k->size;
	ret->k.k.p = POS(0, v_idx + k.k->size);
	bkey_cut_front(ops, max(v_idx, idx - (sector - start)), &ret->k);
	bkey_cut_back(ops, idx + (end - sector), &ret->k);
	pos.offset = ret->k.k.p.offset - idx + sector;
	ret->k.k.p = pos;
	return 0;
}

u32 reflink_u64s_per_commit(const struct data_fs *d)
{
	return min(btree_commit_u64s_max(d->btree) / 2, 1536U);
}

int reflink_limit(struct btree_trans *trans, struct bkey_s_c k, u64 from, u64 *to, u32 *budget)
{
	u64 idx = p_val(k)->idx + (from - bkey_start_offset(k.k)), end = idx + (*to - from);
	struct btree_iter iter;
	u64 pos = idx;
	int ret = 0;

	btree_iter_init(trans, &iter, BTREE_ID_reflink, POS(0, idx), 0);
	while (!ret && pos < end && *budget) {
		btree_iter_set_pos(&iter, POS(0, pos));
		k = btree_iter_peek_slot(&iter);
		ret = bkey_err(k);
		if (ret)
			break;
		pos = min(k.k->p.offset, end);
		/* With its backpointer, and now and then an alloc key. */
		*budget -= min(*budget, k.k->u64s + 32U);
	}
	btree_iter_exit(&iter);
	*to = from + (pos - idx);
	return ret;
}

/* ---- cutting in two ---- */

/* The first key at or behind @sector keeps its back; the front, 1/@parts of it, is another. */
static int split_step(struct btree_trans *trans, const struct data_fs *d, const struct data_file *f,
		      u64 sector, u32 parts, bool *ret_any)
{
	const struct bkey_ops_table *ops = btree_ops_table(btree_trans_fs(trans));
	struct btree_iter iter;
	struct bkey_i *front;
	struct bkey_s_c k;
	u64 len = 0;
	int ret;

	*ret_any = false;
	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(f, sector), BTREE_ITER_INTENT);
	k = btree_iter_peek_max(&iter, data_pos(f, UINT64_MAX));
	ret = bkey_err(k);
	if (!ret && k.k && k.k->type == KEY_TYPE_reflink_p) {
		len = round_down(k.k->size / parts, d->block_sectors);
		*ret_any = len;
	}
	if (*ret_any) {
		front = btree_trans_copy_key(trans, k, 0);
		bkey_cut_back(ops, bkey_start_offset(k.k) + len, front);
		front->k.p.snapshot = f->snapshot;
		btree_iter_set_pos(&iter, data_pos(f, bkey_start_offset(&front->k)));
		ret = btree_trans_update(trans, &iter, front, 0);
	}
	btree_iter_exit(&iter);
	return ret;
}

int reflink_split(struct data_fs *d, const struct data_file *f, u64 sector, unsigned flags)
{
	struct btree_trans *trans = btree_trans_get(d->btree);
	int ret = -BCFS_ERR_journal_res_too_big;
	bool any = true;

	for (u32 parts = 2; any && ret == -BCFS_ERR_journal_res_too_big; parts *= 2)
		ret = commit_do(trans, NULL, flags, split_step(trans, d, f, sector, parts, &any));
	btree_trans_put(trans);
	return ret || any ? ret : -BCFS_ERR_journal_res_too_big;
}

/* ---- one owner left ---- */

/* Sealed by a key that is being replaced: who does that has to meet it where it was. */
static bool sealed_by_older(const struct data_fs *d, struct bkey_s_c k)
{
	struct extent_ptr_decoded p;
	bool ret = false;

	if (!d->opts.keys)
		return false;
	for_each_extent_ptr(k, 0, it, p)
	{
		ret |= p.crc && p.crc->key_gen < keyring_newest(d->opts.keys, KEY_USE_data)->gen;
	}
	return ret;
}

static int own_step(struct btree_trans *trans, const struct data_fs *d, const struct data_file *f,
		    u64 sector)
{
	struct btree_iter iter, v_iter;
	union data_key *own;
	struct bkey_s_c k;
	bool alone = false;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(f, sector), BTREE_ITER_INTENT);
	btree_iter_init(trans, &v_iter, BTREE_ID_reflink, POS(0, 0), BTREE_ITER_INTENT);
	k = btree_iter_peek_slot(&iter);
	ret = bkey_err(k);
	if (!ret && k.k->type == KEY_TYPE_reflink_p && k.k->p.snapshot == f->snapshot) {
		own = btree_trans_kmalloc(trans, sizeof(*own));
		ret = reflink_resolve(&v_iter, k, sector, own, &alone);
		if (!ret && alone && !sealed_by_older(d, bkey_i_to_s_c(&own->k)))
			ret = btree_trans_update(trans, &iter, &own->k, 0);
	}
	/* What is moved meanwhile must not be found where it was: both are watched until then. */
	ret = ret ?: btree_trans_commit(trans, 0, NULL);
	btree_iter_exit(&v_iter);
	btree_iter_exit(&iter);
	return ret;
}

void reflink_own(struct data_fs *d, const struct data_file *f, u64 sector)
{
	struct btree_trans *trans;

	/* A read is not to wait for room, nor to take it from others. */
	if (!alloc_may_rewrite(d->alloc) || btree_journal_is_low(d->btree))
		return;
	trans = btree_trans_get(d->btree);
	/* Not for lack of space, or because all is being shut down: then it stays as it is. */
	(void)lockrestart_do(trans, own_step(trans, d, f, sector));
	btree_trans_put(trans);
}

/* ---- sharing ---- */

struct share {
	struct data_fs *d;
	const struct data_file *src, *dst;
	u64 pos, end; /* sectors of the source */
	s64 delta;    /* from there to the destination's, wraps */
	u64 end_bytes;
	data_commit_fn commit;
	void *arg;
};

/*
 * A place for @sectors behind all others. No two get the same, whatever becomes of them: the btree
 * says only where the first of this mount is to be, before which nothing is added.
 */
static int new_index(struct btree_trans *trans, struct data_fs *d, u32 sectors, u64 *ret)
{
	u64 end = __atomic_load_n(&d->shared_end, __ATOMIC_RELAXED), none = 0;
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	if (unlikely(!end)) {
		btree_iter_init(trans, &iter, BTREE_ID_reflink, POS(0, UINT64_MAX), 0);
		k = btree_iter_peek_prev_min(&iter, POS(0, 0));
		err = bkey_err(k);
		end = 1 + (!err && k.k ? k.k->p.offset : 0);
		btree_iter_exit(&iter);
		if (err)
			return err;
		__atomic_compare_exchange_n(&d->shared_end, &none, end, false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
	}
	if (end > INDEX_MAX)
		return -BCFS_ERR_reflink_invalid;
	*ret = __atomic_fetch_add(&d->shared_end, sectors, __ATOMIC_RELAXED) - 1;
	return 0;
}

/* [start, end) of the source, a part of @k which is direct, goes to the reflink btree. */
static int make_shared(struct btree_trans *trans, const struct share *s, struct btree_iter *iter,
		       struct btree_iter *v_iter, struct bkey_s_c k, u64 start, u64 end,
		       u64 *ret_idx)
{
	const struct bkey_ops_table *ops = btree_ops_table(btree_trans_fs(trans));
	struct bkey_i *part = btree_trans_copy_key(trans, k, 0), *v, *p;
	int ret;

	bkey_cut_front(ops, start, part);
	bkey_cut_back(ops, end, part);
	ret = new_index(trans, s->d, (u32)(end - start), ret_idx);
	if (ret)
		return ret;
	v = reflink_v_of(trans, bkey_i_to_s_c(part), 0);
	v->k.p = POS(0, *ret_idx + (end - start));
	btree_iter_set_pos(v_iter, POS(0, *ret_idx));
	ret = btree_trans_update(trans, v_iter, v, 0);
	if (ret)
		return ret;
	p = btree_trans_alloc_key(trans, KEY_TYPE_reflink_p, data_pos(s->src, end),
				  sizeof(struct bcfs_reflink_p));
	p->k.size = end - start;
	((struct bcfs_reflink_p *)p->v)->idx = *ret_idx;
	btree_iter_set_pos(iter, data_pos(s->src, start));
	return btree_trans_update(trans, iter, p, 0);
}

/* Where the destination's keys that what goes to @start to @end would take away are too many. */
static int dst_limit(struct btree_iter *iter, const struct share *s, u64 start, u64 *end,
		     bool *ret_any)
{
	u32 budget = max(reflink_u64s_per_commit(s->d) / 2, 1U);
	u64 pos = start;
	int ret = 0;

	*ret_any = false;
	for (unsigned nr = 0; !ret && pos < *end; nr++) {
		struct bkey_s_c k;
		u64 from;

		if (nr == SHARE_KEYS || !budget) {
			*end = pos;
			break;
		}
		btree_iter_set_pos(iter, data_pos(s->dst, pos));
		k = btree_iter_peek_max(iter, data_pos(s->dst, *end));
		if (bkey_err(k))
			return bkey_err(k);
		if (!k.k)
			break;
		*ret_any = true;
		from = max(bkey_start_offset(k.k), pos);
		pos = min(k.k->p.offset, *end);
		if (k.k->type == KEY_TYPE_reflink_p)
			ret = reflink_limit(iter->trans, k, from, &pos, &budget);
	}
	return ret;
}

/*
 * Blocks of an extent that go into one reflink_v. Its parts, should each block have one, are to fit
 * into a commit: who changes the end of a reflink_p counts all of it anew.
 */
static u32 share_blocks(const struct data_fs *d, struct bkey_s_c k)
{
	u32 fit = btree_commit_u64s_max(d->btree) / (4 * (k.k->u64s + 3U));

	return max(min(fit, SHARE_BLOCKS), 1U);
}

/* What of [start, *end) one commit may share, as *end; *ret_any: the destination has some there. */
static int share_limit(const struct share *s, struct bkey_s_c k, struct btree_iter *dst_iter,
		       u64 start, u64 *end, bool *ret_any)
{
	u32 budget = max(reflink_u64s_per_commit(s->d) / 2, 1U);
	int ret = 0;

	if (k.k->type == KEY_TYPE_extent)
		*end = min(*end, start + (u64)share_blocks(s->d, k) * s->d->block_sectors);
	else if (k.k->type == KEY_TYPE_reflink_p)
		ret = reflink_limit(dst_iter->trans, k, start, end, &budget);
	else
		*end = min(*end, start + SHARE_HOLE_SECTORS);
	if (ret)
		return ret;
	*end += s->delta;
	ret = dst_limit(dst_iter, s, start + s->delta, end, ret_any);
	*end -= s->delta;
	return ret;
}

/* The destination's key for [start, *end) of the source, *end moved down if it is to be less. */
static int share_key(struct btree_trans *trans, const struct share *s, struct btree_iter *iter,
		     struct btree_iter *v_iter, struct btree_iter *dst_iter, u64 start, u64 *end,
		     struct bkey_i **ret)
{
	const struct bkey_ops_table *ops = btree_ops_table(btree_trans_fs(trans));
	struct bkey_s_c k = btree_iter_peek_slot(iter);
	u64 idx = 0;
	bool any;
	int err = bkey_err(k);

	*ret = NULL;
	if (err)
		return err;
	*end = min(s->end, k.k->p.offset);
	if (bkey_val_u64s(k.k))
		k = bkey_i_to_s_c(btree_trans_copy_key(trans, k, 0));
	err = share_limit(s, k, dst_iter, start, end, &any);
	if (err)
		return err;
	switch (k.k->type) {
	case KEY_TYPE_deleted:
	case KEY_TYPE_whiteout:
	case KEY_TYPE_reservation:
		if (any)
			*ret = btree_trans_alloc_key(trans, KEY_TYPE_deleted, POS_MIN, 0);
		return 0;
	case KEY_TYPE_inline_data:
		*ret = btree_trans_copy_key(trans, k, 0);
		bkey_cut_front(ops, start, *ret);
		bkey_cut_back(ops, *end, *ret);
		return 0;
	case KEY_TYPE_reflink_p:
		idx = p_val(k)->idx + (start - bkey_start_offset(k.k));
		break;
	case KEY_TYPE_extent:
		err = make_shared(trans, s, iter, v_iter, k, start, *end, &idx);
		break;
	case KEY_TYPE_error:
		return -BCFS_ERR_data_lost;
	default:
		return -BCFS_ERR_data_key_type;
	}
	*ret = btree_trans_alloc_key(trans, KEY_TYPE_reflink_p, POS_MIN,
				     sizeof(struct bcfs_reflink_p));
	((struct bcfs_reflink_p *)(*ret)->v)->idx = idx;
	return err;
}

static int share_dst(struct btree_trans *trans, const struct share *s, struct btree_iter *iter,
		     struct bkey_i *k, u64 start, u64 end)
{
	u64 old = 0;
	int ret = data_count_sectors(iter, s->dst, start, end, &old);

	if (ret)
		return ret;
	if (k) {
		k->k.p = data_pos(s->dst, end);
		k->k.size = end - start;
		btree_iter_set_pos(iter, data_pos(s->dst, start));
		ret = btree_trans_update(trans, iter, k, 0);
	}
	if (!ret && s->commit) {
		u64 new = k ? data_key_sectors(&k->k) : 0;

		ret = s->commit(trans, s->arg, min(end << SECTOR_SHIFT, s->end_bytes),
				(s64) new - (s64)old);
	}
	return ret;
}

static int share_step(struct btree_trans *trans, const struct share *s, u64 *ret_pos)
{
	struct btree_iter iter, v_iter, dst_iter;
	u64 start = s->pos, end = start;
	struct bkey_i *k;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(s->src, start), BTREE_ITER_INTENT);
	btree_iter_init(trans, &v_iter, BTREE_ID_reflink, POS(0, 0), BTREE_ITER_INTENT);
	btree_iter_init(trans, &dst_iter, BTREE_ID_extents, data_pos(s->dst, start + s->delta),
			BTREE_ITER_INTENT);
	ret = share_key(trans, s, &iter, &v_iter, &dst_iter, start, &end, &k)
		      ?: share_dst(trans, s, &dst_iter, k, start + s->delta, end + s->delta);
	ret = ret ?: btree_trans_commit(trans, 0, NULL);
	btree_iter_exit(&dst_iter);
	btree_iter_exit(&v_iter);
	btree_iter_exit(&iter);
	*ret_pos = end;
	return ret;
}

int data_share(struct data_fs *d, const struct data_file *src, u64 offset,
	       const struct data_file *dst, u64 dst_offset, u64 len, data_commit_fn commit,
	       void *arg, u64 *ret_done)
{
	struct share s = {
		.d = d,
		.src = src,
		.dst = dst,
		.pos = offset >> SECTOR_SHIFT,
		.end = round_up(DIV_ROUND_UP(offset + len, (u64)SECTOR_BYTES),
				(u64)d->block_sectors),
		.delta = (s64)(dst_offset >> SECTOR_SHIFT) - (s64)(offset >> SECTOR_SHIFT),
		.end_bytes = dst_offset + len,
		.commit = commit,
		.arg = arg,
	};
	struct btree_trans *trans = btree_trans_get(d->btree);
	int ret = 0;

	assert(!((offset | dst_offset) % d->opts.block_bytes));
	while (!ret && s.pos < s.end) {
		u64 pos = 0;

		ret = lockrestart_do(trans, share_step(trans, &s, &pos));
		if (!ret)
			s.pos = pos;
		btree_trans_unlock(trans);
		if (ret == -BCFS_ERR_journal_res_too_big)
			ret = reflink_split(d, dst, s.pos + s.delta, 0);
	}
	btree_trans_put(trans);
	*ret_done = min((s.pos << SECTOR_SHIFT) - offset, len);
	return ret;
}
