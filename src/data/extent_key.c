// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The behaviour of the extents btree's key types: extent, reservation, error, inline_data.
 *
 * Trimming never touches what is on the device: an encoded extent only moves its live_offset,
 * an unencoded pointer its place.
 *
 * Extents are never merged: two keys may only become one if their data lie together in one
 * bucket and no checksum stands between; a key does not know where buckets end.
 */
#include "data/data_private.h"

#include "util/printbuf.h"
#include "util/planted.h"

#include <string.h>

/* A reservation does not grow beyond this, so that sizes stay far from 32 bits. */
#define RESERVATION_MAX_SECTORS (1U << 30)

/* What holds for every key of file data. */
static int data_key_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			     struct printbuf *err)
{
	if (btree != BTREE_ID_extents || level) {
		prt_printf(err, "key of file data in btree %s level %u", btree_id_name(btree),
			   level);
		return -BCFS_ERR_data_key_btree;
	}
	if (!k.k->size || k.k->size > k.k->p.offset) {
		prt_printf(err, "size %u, ending at %llu", k.k->size,
			   (unsigned long long)k.k->p.offset);
		return -BCFS_ERR_data_key_size;
	}
	return 0;
}

/* ---- extent ---- */

static int extent_key_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			       struct printbuf *err)
{
	return data_key_validate(k, btree, level, err)
		       ?: extent_entries_validate(bkey_ptrs(k), k.k->size, err);
}

static void extent_key_to_text(struct printbuf *out, struct bkey_s_c k)
{
	extent_entries_to_text(out, bkey_ptrs(k));
}

void extent_key_cut_front(struct bkey_i *k, u32 sectors)
{
	bool encoded = false;

	for_each_extent_entry (bkey_ptrs(bkey_i_to_s_c(k)), ce) {
		union extent_entry *e = (union extent_entry *)ce;

		if (extent_entry_type(e) == BCFS_EXTENT_ENTRY_crc) {
			if (planted(trim_front_again))
				e->crc.live_offset = 0;
			e->crc.live_offset += sectors - planted(trim_front_off);
			encoded = true;
		} else if (extent_entry_type(e) == BCFS_EXTENT_ENTRY_ptr && !encoded) {
			e->ptr.offset += sectors;
		}
	}
}

static int extent_key_trigger(struct btree_trans *trans, enum btree_id btree, unsigned level,
			      struct bkey_s_c old, struct bkey_s_c new, unsigned flags)
{
	return alloc_trigger_pointers(trans, btree, level, old, new, flags)
		       ?: rebalance_trigger(trans, old, new);
}

const struct bkey_ops bkey_ops_extent = {
	.validate = extent_key_validate,
	.to_text = extent_key_to_text,
	.trigger = extent_key_trigger,
	.commit_hook = data_sealed_hook,
	.hook_sees_old = true,
	.cut_front = extent_key_cut_front,
};

/* ---- reservation ---- */

static const struct bcfs_reservation *reservation_val(struct bkey_s_c k)
{
	return (const struct bcfs_reservation *)k.v;
}

static int reservation_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
				struct printbuf *err)
{
	int ret = data_key_validate(k, btree, level, err);

	if (ret)
		return ret;
	if (bkey_val_bytes(k.k) < sizeof(struct bcfs_reservation) ||
	    !reservation_val(k)->nr_replicas) {
		prt_printf(err, "reservation of no replicas");
		return -BCFS_ERR_reservation_invalid;
	}
	return 0;
}

static void reservation_to_text(struct printbuf *out, struct bkey_s_c k)
{
	if (bkey_val_bytes(k.k) >= sizeof(struct bcfs_reservation))
		prt_printf(out, "generation %u replicas %u", reservation_val(k)->generation,
			   reservation_val(k)->nr_replicas);
}

static s64 reservation_sectors(struct bkey_s_c k)
{
	if (k.k->type != KEY_TYPE_reservation ||
	    bkey_val_bytes(k.k) < sizeof(struct bcfs_reservation))
		return 0;
	return (s64)k.k->size * reservation_val(k)->nr_replicas;
}

static int reservation_trigger(struct btree_trans *trans, enum btree_id btree, unsigned level,
			       struct bkey_s_c old, struct bkey_s_c new, unsigned flags)
{
	s64 delta = reservation_sectors(new) - reservation_sectors(old);

	if (delta)
		btree_trans_account(trans, BCFS_ACCOUNTING_reserved, delta);
	return 0;
}

static bool reservation_merge(struct bkey_i *l, struct bkey_s_c r)
{
	const struct bcfs_reservation *lv = (const void *)l->v, *rv = reservation_val(r);

	if (l->k.u64s != r.k->u64s || bkey_val_bytes(r.k) < sizeof(*rv) ||
	    lv->generation != rv->generation || lv->nr_replicas != rv->nr_replicas ||
	    (u64)l->k.size + r.k->size > RESERVATION_MAX_SECTORS)
		return false;
	l->k.size += r.k->size;
	l->k.p.offset = r.k->p.offset;
	return true;
}

const struct bkey_ops bkey_ops_reservation = {
	.validate = reservation_validate,
	.to_text = reservation_to_text,
	.trigger = reservation_trigger,
	.merge = reservation_merge,
};

/* ---- error ---- */

static int error_key_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			      struct printbuf *err)
{
	return data_key_validate(k, btree, level, err);
}

static bool error_key_merge(struct bkey_i *l, struct bkey_s_c r)
{
	if (bkey_val_u64s(&l->k) || bkey_val_u64s(r.k) ||
	    (u64)l->k.size + r.k->size > RESERVATION_MAX_SECTORS)
		return false;
	l->k.size += r.k->size;
	l->k.p.offset = r.k->p.offset;
	return true;
}

const struct bkey_ops bkey_ops_error_key = {
	.validate = error_key_validate,
	.merge = error_key_merge,
};

/* ---- inline data ---- */

static int inline_data_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
				struct printbuf *err)
{
	int ret = data_key_validate(k, btree, level, err);

	if (ret)
		return ret;
	if (bkey_val_bytes(k.k) > (u64)k.k->size * SECTOR_BYTES) {
		prt_printf(err, "%u bytes of inline data in %u sectors", bkey_val_bytes(k.k),
			   k.k->size);
		return -BCFS_ERR_inline_data_invalid;
	}
	return 0;
}

static void inline_data_to_text(struct printbuf *out, struct bkey_s_c k)
{
	prt_printf(out, "%u bytes ", bkey_val_bytes(k.k));
	prt_hex(out, k.v, min(bkey_val_bytes(k.k), 32U));
}

static s64 inline_data_bytes(struct bkey_s_c k)
{
	return k.k->type == KEY_TYPE_inline_data ? bkey_val_bytes(k.k) : 0;
}

static int inline_data_trigger(struct btree_trans *trans, enum btree_id btree, unsigned level,
			       struct bkey_s_c old, struct bkey_s_c new, unsigned flags)
{
	s64 delta = inline_data_bytes(new) - inline_data_bytes(old);

	if (delta)
		btree_trans_account(trans, BCFS_ACCOUNTING_inline_data, delta);
	return 0;
}

static void inline_data_cut_front(struct bkey_i *k, u32 sectors)
{
	u64 bytes = bkey_val_bytes(&k->k), cut = min((u64)sectors * SECTOR_BYTES, bytes);

	memmove(k->v, (u8 *)k->v + cut, bytes - cut);
	set_bkey_val_bytes(&k->k, bytes - cut);
}

static void inline_data_cut_back(struct bkey_i *k, u32 sectors)
{
	u64 bytes = bkey_val_bytes(&k->k);

	set_bkey_val_bytes(&k->k, min((u64)sectors * SECTOR_BYTES, bytes));
}

const struct bkey_ops bkey_ops_inline_data = {
	.validate = inline_data_validate,
	.to_text = inline_data_to_text,
	.trigger = inline_data_trigger,
	.cut_front = inline_data_cut_front,
	.cut_back = inline_data_cut_back,
};
