// SPDX-License-Identifier: LGPL-2.1-or-later
/* Rebalance: what is there already becomes work; and rebalance_work held against the extents. */
#include "data/data_private.h"
#include "util/cleanup.h"
#include "util/printbuf.h"

#define SCAN_KEYS_MAX 16U  /* changed in one commit */
#define SCAN_LOOK     256U /* keys */

/* ---- a file ---- */

struct scan {
	struct data_fs *d;
	const struct data_file *f;
	u32 keys_max;
	u64 pos;     /* sectors; done up to here */
	u64 sectors; /* of what became work */
};

/* What the only pointer of a key leads to is stored so; false: there are several, or none. */
static bool stored_as(struct bkey_s_c k, u8 *ret)
{
	struct extent_ptr_decoded p;
	unsigned nr = 0;

	for_each_extent_ptr(k, 0, it, p)
	{
		*ret = p.crc ? p.crc->compression : BCFS_COMPRESSION_none;
		nr++;
	}
	return nr == 1;
}

/* *ret: in the place of @k; NULL: it is as it should be. */
static void scan_key(struct btree_trans *trans, const struct scan *s, struct bkey_s_c k,
		     struct bkey_i **ret)
{
	const struct bcfs_extent_rebalance *old = extent_rebalance(k);
	struct bcfs_extent_rebalance want;
	struct bkey_i *n;
	u8 stored;

	*ret = NULL;
	if (!stored_as(k, &stored))
		return;
	rebalance_wants(s->d, s->f, k.k->size, stored, -1, &want);
	/* Chosen when it was written, where more was known; or tried. */
	if (old && (old->compression == s->f->background || (!want.type && old->tried)))
		return;
	if ((!old && !want.type) || bkey_val_u64s(k.k) >= BKEY_VAL_U64s_MAX)
		return;
	n = btree_trans_copy_key(trans, k, sizeof(u64));
	rebalance_set_entry(n, &want);
	*ret = n;
}

static int has_key(struct btree_trans *trans, enum btree_id id, struct bpos pos, bool *ret)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	btree_iter_init(trans, &iter, id, pos, BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS);
	k = btree_iter_peek_slot(&iter);
	/* What is read must be of one time with what led here. */
	err = bkey_err(k) ?: btree_trans_relock(trans);
	*ret = !err &&
	       (id == BTREE_ID_rebalance_work ? k.k->type == KEY_TYPE_set : extent_has_work(k));
	btree_iter_exit(&iter);
	return err;
}

/*
 * What is to take the place of @k, which becomes work, or none; *ret NULL: nothing. Work that was
 * lost, as a check may have said, is there again. *nr counts changes.
 */
static int scan_one(struct btree_trans *trans, const struct scan *s, struct btree_iter *iter,
		    struct bkey_s_c k, unsigned *nr, struct bkey_i **ret)
{
	bool work = extent_has_work(k), has = true;
	struct bpos pos = k.k->p;
	int err = 0;

	scan_key(trans, s, k, ret);
	*nr += !!*ret;
	if (*ret)
		return btree_trans_update(trans, iter, *ret, 0);
	if (work)
		err = has_key(trans, BTREE_ID_rebalance_work, pos, &has);
	if (err || has)
		return err;
	++*nr;
	return rebalance_work_mod(trans, pos, true);
}

/* The same of shared data, that @k has at *pos, which moves behind what was looked at. */
static int scan_shared(struct btree_trans *trans, const struct scan *s, struct bkey_s_c k, u64 *pos,
		       unsigned *nr, struct bkey_i **ret)
{
	u64 start = bkey_start_offset(k.k), end = k.k->p.offset, from = max(*pos, start);
	u64 idx = ((const struct bcfs_reflink_p *)k.v)->idx + (from - start);
	struct btree_iter iter;
	int err;

	btree_iter_init(trans, &iter, BTREE_ID_reflink, POS(0, idx), BTREE_ITER_INTENT);
	k = btree_iter_peek_slot(&iter);
	/* What is read must be of one and the same time as the reflink_p. */
	err = bkey_err(k) ?: btree_trans_relock(trans);
	if (!err && k.k->type != KEY_TYPE_reflink_v)
		err = -BCFS_ERR_reflink_missing;
	if (!err) {
		*pos = min(end, from + (k.k->p.offset - idx));
		err = scan_one(trans, s, &iter, k, nr, ret);
	}
	btree_iter_exit(&iter);
	return err;
}

static int scan_step(struct btree_trans *trans, const struct scan *s, u64 *ret_pos,
		     u64 *ret_sectors, bool *ret_end)
{
	struct bpos end = data_pos(s->f, UINT64_MAX);
	struct btree_iter iter;
	unsigned nr = 0;
	int ret = 0;

	*ret_pos = s->pos;
	*ret_sectors = 0;
	*ret_end = false;
	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(s->f, s->pos), BTREE_ITER_INTENT);
	for (unsigned look = 0; look < SCAN_LOOK && nr < s->keys_max; look++) {
		struct bkey_i *n = NULL;
		struct bkey_s_c k;

		btree_iter_set_pos(&iter, data_pos(s->f, *ret_pos));
		k = btree_iter_peek_max(&iter, end);
		ret = bkey_err(k);
		*ret_end = !ret && !k.k;
		if (ret || !k.k)
			break;
		if (k.k->type == KEY_TYPE_reflink_p) {
			ret = scan_shared(trans, s, k, ret_pos, &nr, &n);
		} else {
			*ret_pos = k.k->p.offset;
			/* What another snapshot has stays as it is. */
			if (k.k->type == KEY_TYPE_extent && k.k->p.snapshot == s->f->snapshot)
				ret = scan_one(trans, s, &iter, k, &nr, &n);
		}
		if (ret)
			break;
		if (n && extent_has_work(bkey_i_to_s_c(n)))
			*ret_sectors += n->k.size;
	}
	btree_iter_exit(&iter);
	return ret;
}

int data_rebalance_scan(struct data_fs *d, const struct data_file *f, u64 *ret_sectors)
{
	struct btree_trans *trans = btree_trans_get(d->btree);
	/* Each as large as a key can be. */
	u32 fit = max(btree_commit_u64s_max(d->btree) / (BKEY_U64s_MAX + 16), 1U);
	struct scan s = {.d = d, .f = f, .keys_max = min(fit, SCAN_KEYS_MAX)};
	bool end = false;
	int ret = 0;

	while (!ret && !end) {
		u64 pos = 0, sectors = 0;

		ret = commit_do(trans, NULL, 0, scan_step(trans, &s, &pos, &sectors, &end));
		if (!ret) {
			s.pos = pos;
			s.sectors += sectors;
		}
	}
	btree_trans_put(trans);
	rebalance_kick(d);
	*ret_sectors = s.sectors;
	return ret;
}

/* ---- check ---- */

struct work_check {
	void (*report)(void *arg, const char *text);
	void *arg;
};

static void work_report(const struct work_check *c, struct bpos pos, const char *what)
{
	CLEANUP(printbuf_exit) struct printbuf out = PRINTBUF;

	prt_str(&out, "rebalance_work: ");
	bpos_to_text(&out, pos);
	prt_printf(&out, ": %s", what);
	if (c->report)
		c->report(c->arg, printbuf_str(&out));
}

static int check_extent(struct btree_trans *trans, const struct work_check *c, struct bkey_s_c k)
{
	struct bpos pos = k.k->p;
	bool has;
	int ret;

	if (!extent_has_work(k))
		return 0;
	ret = has_key(trans, BTREE_ID_rebalance_work, pos, &has);
	if (!ret && !has)
		work_report(c, pos, "is missing, the extent is to be rewritten");
	return ret;
}

static int check_work(struct btree_trans *trans, const struct work_check *c, struct bkey_s_c k)
{
	struct bpos pos = k.k->p;
	bool has;
	int ret = has_key(trans, pos.inode ? BTREE_ID_extents : BTREE_ID_reflink, pos, &has);

	if (!ret && !has)
		work_report(c, pos, "there is no extent to be rewritten");
	return ret;
}

int data_rebalance_check(struct btree_fs *btree, void (*report)(void *arg, const char *text),
			 void *arg)
{
	const unsigned flags =
		BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS | BTREE_ITER_PREFETCH;
	struct work_check c = {report, arg};
	struct btree_trans *trans = btree_trans_get(btree);
	int ret = for_each_btree_key (trans, iter, BTREE_ID_extents, POS_MIN, flags, k,
				      check_extent(trans, &c, k));

	ret = ret
		      ?: for_each_btree_key (trans, iter, BTREE_ID_reflink, POS_MIN, flags, k,
					     check_extent(trans, &c, k));
	ret = ret
		      ?: for_each_btree_key (trans, iter, BTREE_ID_rebalance_work, POS_MIN,
					     BTREE_ITER_PREFETCH, k, check_work(trans, &c, k));
	btree_trans_put(trans);
	return ret;
}
