// SPDX-License-Identifier: LGPL-2.1-or-later
/* Checks and printing that hold for keys of every type; the rest is in the types' own ops. */
#include "btree/ops.h"
#include "util/errcode.h"
#include "util/printbuf.h"

static const u16 val_min_bytes[] = {
#define x(name, nr, minval, doc) [nr] = minval,
	BCFS_BKEY_TYPES(x)
#undef x
};

/* Which types a btree takes beside deleted; by its flags and its id. */
static bool type_allowed(unsigned type, unsigned btree, unsigned level)
{
	if (type == KEY_TYPE_deleted)
		return true;
	if (level)
		return type == KEY_TYPE_btree_ptr;
	if (type == KEY_TYPE_btree_ptr)
		return false;
	if (type == KEY_TYPE_whiteout)
		return btree >= BTREE_ID_NR || (btree_id_flags(btree) & BTREE_HAS_SNAPSHOTS);
	return true;
}

int bkey_validate(const struct bkey_ops_table *t, struct bkey_s_c k, enum btree_id btree,
		  unsigned level, struct printbuf *err)
{
	unsigned type = k.k->type, flags = btree_id_flags(btree);

	/* Types of a later version are carried along, unlooked at. */
	if (type >= KEY_TYPE_NR)
		return level ? -BCFS_ERR_bkey_unknown_type : 0;
	if (!type_allowed(type, btree, level)) {
		prt_printf(err, "key of type %s in btree %s level %u", bkey_type_name(type),
			   btree_id_name(btree), level);
		return -BCFS_ERR_bkey_bad_type;
	}
	if (bkey_val_bytes(k.k) < val_min_bytes[type]) {
		prt_printf(err, "value of %u bytes is too short for type %s", bkey_val_bytes(k.k),
			   bkey_type_name(type));
		return -BCFS_ERR_bkey_val_size;
	}
	if (k.k->size && (level || !(flags & BTREE_IS_EXTENTS))) {
		prt_printf(err, "key with a size in btree %s", btree_id_name(btree));
		return -BCFS_ERR_bkey_bad_size;
	}
	if (!level && (flags & BTREE_IS_EXTENTS) &&
	    (k.k->size > k.k->p.offset || (!k.k->size && type > KEY_TYPE_whiteout))) {
		prt_printf(err, "extent of %u sectors ending at %llu", k.k->size,
			   (unsigned long long)k.k->p.offset);
		return -BCFS_ERR_bkey_bad_size;
	}
	if (!level && btree < BTREE_ID_NR && !(flags & (BTREE_HAS_SNAPSHOTS | BTREE_HAS_IDS)) &&
	    k.k->p.snapshot) {
		prt_printf(err, "snapshot id %u in btree %s", k.k->p.snapshot,
			   btree_id_name(btree));
		return -BCFS_ERR_bkey_bad_snapshot;
	}
	if (!level && (flags & BTREE_HAS_SNAPSHOTS) && !k.k->p.snapshot) {
		prt_printf(err, "no snapshot id in btree %s", btree_id_name(btree));
		return -BCFS_ERR_bkey_bad_snapshot;
	}
	const struct bkey_ops *ops = t ? t->ops[type] : NULL;
	return ops && ops->validate ? ops->validate(k, btree, level, err) : 0;
}

void bkey_val_to_text(const struct bkey_ops_table *t, struct printbuf *out, struct bkey_s_c k)
{
	bkey_to_text(out, k.k);
	if (k.k->type >= KEY_TYPE_NR || !t || !t->ops[k.k->type] || !t->ops[k.k->type]->to_text ||
	    bkey_val_bytes(k.k) < val_min_bytes[k.k->type])
		return;
	prt_str(out, ": ");
	t->ops[k.k->type]->to_text(out, k);
}
