// SPDX-License-Identifier: LGPL-2.1-or-later
/* The key types that belong to allocation: validation, text, and what an alloc key means. */
#include "alloc/alloc_private.h"

#include "bcfs/format/btree.h"

#define FRAGMENTATION_STEPS 8

static int invalid(struct printbuf *err, int code, const char *what, u64 v)
{
	if (err)
		prt_printf(err, "%s (%llu)", what, (unsigned long long)v);
	return code;
}

/* ---- alloc ---- */

struct bcfs_alloc alloc_val(struct bkey_s_c k)
{
	struct bcfs_alloc v = {0};

	if (k.k->type == KEY_TYPE_alloc)
		__builtin_memcpy(&v, k.v, min_t(size_t, sizeof(v), bkey_val_bytes(k.k)));
	return v;
}

/* Coarse steps: a bucket that fills up or empties moves in the LRU a few times only. */
u32 alloc_fragmentation(const struct bcfs_alloc *v, u32 bucket_sectors)
{
	if (v->data_type != BCFS_DATA_user || v->dirty_sectors >= bucket_sectors)
		return 0;
	return 1 + (u64)v->dirty_sectors * FRAGMENTATION_STEPS / bucket_sectors;
}

struct bpos alloc_lru_pos(u8 dev, u64 bucket, u32 fragmentation)
{
	return POS(BCFS_LRU_FRAGMENTATION << BCFS_LRU_TIME_BITS | fragmentation,
		   (u64)dev << 56 | bucket);
}

const char *alloc_data_type_name(unsigned type)
{
	static const char *const names[] = {
#define x(name, nr) [BCFS_DATA_##name] = #name,
		BCFS_DATA_TYPES(x)
#undef x
	};

	return type < ARRAY_SIZE(names) ? names[type] : "unknown";
}

static int alloc_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			  struct printbuf *err)
{
	struct bcfs_alloc v = alloc_val(k);
	int code = -BCFS_ERR_alloc_key_invalid;

	if (bkey_val_bytes(k.k) < sizeof(v))
		return invalid(err, code, "alloc value too short", bkey_val_bytes(k.k));
	if (k.k->p.inode > UINT8_MAX)
		return invalid(err, code, "alloc key of no device", k.k->p.inode);
	if (v.data_type >= BCFS_DATA_NR)
		return invalid(err, code, "unknown data type", v.data_type);
	switch (v.data_type) {
	case BCFS_DATA_free:
		return invalid(err, code, "alloc key of a free bucket", v.gen);
	case BCFS_DATA_need_discard:
	case BCFS_DATA_need_gc_gens:
		if (v.dirty_sectors || v.cached_sectors || v.stripe_sectors)
			return invalid(err, code, "sectors in an empty bucket", v.dirty_sectors);
		break;
	case BCFS_DATA_btree:
	case BCFS_DATA_user:
		if (!v.dirty_sectors)
			return invalid(err, code, "bucket in use without sectors", v.data_type);
		break;
	case BCFS_DATA_cached:
		if (!v.cached_sectors || v.dirty_sectors)
			return invalid(err, code, "wrong sectors in a cached bucket",
				       v.dirty_sectors);
		break;
	default:
		break;
	}
	return 0;
}

void alloc_val_to_text(struct printbuf *out, const struct bcfs_alloc *v)
{
	prt_printf(out, "%s gen %u oldest %u dirty %u cached %u",
		   alloc_data_type_name(v->data_type), v->gen, v->oldest_gen, v->dirty_sectors,
		   v->cached_sectors);
	if (v->stripe_sectors)
		prt_printf(out, " stripe %u sectors %u", v->stripe, v->stripe_sectors);
	if (v->journal_seq_empty)
		prt_printf(out, " empty since seq %llu", (unsigned long long)v->journal_seq_empty);
	if (v->flags & BCFS_ALLOC_NEED_DISCARD)
		prt_printf(out, " need_discard");
	if (v->flags & BCFS_ALLOC_NEED_INC_GEN)
		prt_printf(out, " need_inc_gen");
}

static void alloc_to_text(struct printbuf *out, struct bkey_s_c k)
{
	struct bcfs_alloc v = alloc_val(k);

	alloc_val_to_text(out, &v);
}

const struct bkey_ops bkey_ops_alloc = {
	.validate = alloc_validate,
	.to_text = alloc_to_text,
	.trigger = alloc_trigger_key,
	.commit_hook = alloc_commit_hook,
	.hook_sees_old = true,
};

/* ---- backpointers ---- */

static int backpointer_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
				struct printbuf *err)
{
	const struct bcfs_backpointer *bp = (const void *)k.v;
	int code = -BCFS_ERR_alloc_backpointer_invalid;

	if (bkey_val_bytes(k.k) < sizeof(*bp))
		return invalid(err, code, "backpointer too short", bkey_val_bytes(k.k));
	if (k.k->p.inode > UINT8_MAX)
		return invalid(err, code, "backpointer of no device", k.k->p.inode);
	if (bp->level > BTREE_MAX_DEPTH)
		return invalid(err, code, "backpointer to an impossible level", bp->level);
	if (bp->data_type >= BCFS_DATA_NR)
		return invalid(err, code, "unknown data type", bp->data_type);
	if (!bp->bucket_len)
		return invalid(err, code, "backpointer of no sectors", 0);
	return 0;
}

static void backpointer_to_text(struct printbuf *out, struct bkey_s_c k)
{
	const struct bcfs_backpointer *bp = (const void *)k.v;

	prt_printf(out, "sector %llu live %llu len %u %s gen %u -> %s level %u ",
		   (unsigned long long)(k.k->p.offset >> BCFS_BP_SHIFT),
		   (unsigned long long)(k.k->p.offset & ((1U << BCFS_BP_SHIFT) - 1)),
		   bp->bucket_len, alloc_data_type_name(bp->data_type), bp->bucket_gen,
		   btree_id_name(bp->btree_id), bp->level);
	bpos_to_text(out, bp->pos);
}

const struct bkey_ops bkey_ops_backpointer = {
	.validate = backpointer_validate,
	.to_text = backpointer_to_text,
};

/* ---- lru ---- */

static int lru_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			struct printbuf *err)
{
	if (!(k.k->p.inode >> BCFS_LRU_TIME_BITS))
		return invalid(err, -BCFS_ERR_alloc_lru_invalid, "entry of no LRU", k.k->p.inode);
	return 0;
}

static void lru_to_text(struct printbuf *out, struct bkey_s_c k)
{
	prt_printf(out, "lru %llu at %llu: %llu:%llu",
		   (unsigned long long)(k.k->p.inode >> BCFS_LRU_TIME_BITS),
		   (unsigned long long)(k.k->p.inode & ((1ULL << BCFS_LRU_TIME_BITS) - 1)),
		   (unsigned long long)(k.k->p.offset >> 56),
		   (unsigned long long)(k.k->p.offset & ((1ULL << 56) - 1)));
}

const struct bkey_ops bkey_ops_lru = {
	.validate = lru_validate,
	.to_text = lru_to_text,
};

/* ---- bucket_gens ---- */

static int bucket_gens_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
				struct printbuf *err)
{
	int code = -BCFS_ERR_alloc_bucket_gens_invalid;
	u8 gens[BCFS_ALLOC_GENS_GROUP];

	if (!alloc_gens_unpack(k, gens))
		return invalid(err, code, "generations that do not unpack", bkey_val_bytes(k.k));
	if (btree != BTREE_ID_alloc || k.k->p.inode / BCFS_ALLOC_GENS != 1)
		return invalid(err, code, "generations of no device", k.k->p.inode);
	if (k.k->p.offset > UINT64_MAX / BCFS_ALLOC_GENS_GROUP)
		return invalid(err, code, "generations of no buckets", k.k->p.offset);
	return 0;
}

static void bucket_gens_to_text(struct printbuf *out, struct bkey_s_c k)
{
	u8 gens[BCFS_ALLOC_GENS_GROUP];

	if (alloc_gens_unpack(k, gens))
		prt_hex(out, gens, sizeof(gens));
}

const struct bkey_ops bkey_ops_bucket_gens = {
	.validate = bucket_gens_validate,
	.to_text = bucket_gens_to_text,
};

/* ---- runs of free buckets ---- */

/* Cookies in other btrees are anybody's. */
static int cookie_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			   struct printbuf *err)
{
	int code = -BCFS_ERR_alloc_run_invalid;
	struct free_run r;

	if (btree != BTREE_ID_freespace)
		return 0;
	if (k.k->p.inode > UINT8_MAX)
		return invalid(err, code, "run of no device", k.k->p.inode);
	if (!alloc_run_of(k, &r))
		return invalid(err, code, "run of an impossible length", k.k->p.offset);
	return 0;
}

static void cookie_to_text(struct printbuf *out, struct bkey_s_c k)
{
	prt_printf(out, "%llu", (unsigned long long)((const struct bcfs_cookie *)k.v)->cookie);
}

const struct bkey_ops bkey_ops_cookie = {
	.validate = cookie_validate,
	.to_text = cookie_to_text,
};

/* ---- accounting ---- */

static int accounting_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			       struct printbuf *err)
{
	if (bkey_val_bytes(k.k) < sizeof(s64))
		return invalid(err, -BCFS_ERR_alloc_accounting_invalid, "no counter",
			       bkey_val_bytes(k.k));
	return 0;
}

static void accounting_to_text(struct printbuf *out, struct bkey_s_c k)
{
	const s64 *d = (const s64 *)k.v;

	for (unsigned i = 0; i < bkey_val_u64s(k.k); i++)
		prt_printf(out, "%s%lld", i ? " " : "", (long long)d[i]);
}

const struct bkey_ops bkey_ops_accounting = {
	.validate = accounting_validate,
	.to_text = accounting_to_text,
};

/* ---- btree_ptr ---- */

static int btree_ptr_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			      struct printbuf *err)
{
	const struct bcfs_btree_ptr *v = (const void *)k.v;
	int code = -BCFS_ERR_alloc_btree_ptr_invalid;
	struct extent_entries e = bkey_ptrs(k);
	unsigned nr = 0;

	if (bkey_val_bytes(k.k) < sizeof(*v))
		return invalid(err, code, "btree pointer too short", bkey_val_bytes(k.k));
	if (k.k->size)
		return invalid(err, code, "btree pointer with a size", k.k->size);
	if (v->sectors_written > BTREE_NODE_SIZE_MAX / SECTOR_SIZE)
		return invalid(err, code, "more written than a node has", v->sectors_written);
	if (bpos_gt(v->min_key, k.k->p))
		return invalid(err, code, "node ends before it begins", v->min_key.offset);
	for (const u64 *p = e.start; p < e.end; p++, nr++) {
		const union extent_entry *x = (const union extent_entry *)p;

		if (extent_entry_type(x) != BCFS_EXTENT_ENTRY_ptr)
			return invalid(err, code, "not a pointer", x->u);
		if (!x->ptr.offset || x->ptr.cached || x->ptr.unwritten)
			return invalid(err, code, "impossible place of a node", x->ptr.offset);
	}
	if (!nr)
		return invalid(err, code, "no pointer", 0);
	return 0;
}

static void btree_ptr_to_text(struct printbuf *out, struct bkey_s_c k)
{
	const struct bcfs_btree_ptr *v = (const void *)k.v;

	prt_printf(out, "seq %llx written %u min_key ", (unsigned long long)v->seq,
		   v->sectors_written);
	bpos_to_text(out, v->min_key);
	prt_printf(out, " ");
	extent_entries_to_text(out, bkey_ptrs(k));
}

const struct bkey_ops bkey_ops_btree_ptr = {
	.validate = btree_ptr_validate,
	.to_text = btree_ptr_to_text,
	.trigger = alloc_trigger_pointers,
};
