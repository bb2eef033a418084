/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Positions, copies and text of keys: what needs no format. */
#include "btree/bkey.h"

#include "util/printbuf.h"

#include <string.h>

struct bpos bpos_successor(struct bpos p)
{
	if (++p.snapshot)
		return p;
	if (!++p.offset)
		p.inode++;
	assert(p.inode || p.offset);
	return p;
}

struct bpos bpos_predecessor(struct bpos p)
{
	assert(p.inode || p.offset || p.snapshot);
	if (p.snapshot--)
		return p;
	if (!p.offset--)
		p.inode--;
	return p;
}

struct bpos bpos_nosnap_successor(struct bpos p)
{
	p.snapshot = 0;
	if (!++p.offset)
		p.inode++;
	assert(p.inode || p.offset);
	return p;
}

static void prt_u64_max(struct printbuf *out, u64 v)
{
	if (v == UINT64_MAX)
		prt_str(out, "U64_MAX");
	else
		prt_u64(out, v);
}

void bpos_to_text(struct printbuf *out, struct bpos p)
{
	if (bpos_eq(p, POS_MIN)) {
		prt_str(out, "POS_MIN");
		return;
	}
	if (bpos_eq(p, POS_MAX)) {
		prt_str(out, "POS_MAX");
		return;
	}
	if (bpos_eq(p, SPOS_MAX)) {
		prt_str(out, "SPOS_MAX");
		return;
	}
	prt_u64_max(out, p.inode);
	prt_char(out, ':');
	prt_u64_max(out, p.offset);
	prt_char(out, ':');
	if (p.snapshot == UINT32_MAX)
		prt_str(out, "U32_MAX");
	else
		prt_u64(out, p.snapshot);
}

void bkey_copy(struct bkey_i *dst, const struct bkey_i *src)
{
	memmove(dst, src, bkey_bytes(&src->k));
}

void bkey_reassemble(struct bkey_i *dst, struct bkey_s_c src)
{
	dst->k = *src.k;
	if (bkey_val_bytes(src.k))
		memmove(dst->v, src.v, bkey_val_bytes(src.k));
}

bool bkey_s_c_equal(struct bkey_s_c l, struct bkey_s_c r)
{
	return l.k->u64s == r.k->u64s && l.k->type == r.k->type && l.k->version == r.k->version &&
	       l.k->size == r.k->size && bpos_eq(l.k->p, r.k->p) &&
	       !memcmp(l.v, r.v, bkey_val_bytes(l.k));
}

void bkey_to_text(struct printbuf *out, const struct bkey *k)
{
	prt_printf(out, "u64s %u type %s ", k->u64s, bkey_type_name(k->type));
	bpos_to_text(out, k->p);
	prt_printf(out, " len %u ver %u", k->size, k->version);
}

const char *bkey_type_name(unsigned type)
{
	static const char *const names[] = {
#define x(name, nr, minval, doc) [nr] = #name,
		BCFS_BKEY_TYPES(x)
#undef x
	};

	return type < ARRAY_SIZE(names) && names[type] ? names[type] : "unknown";
}

const char *btree_id_name(unsigned id)
{
	static const char *const names[] = {
#define x(name, nr, flags, doc) [nr] = #name,
		BCFS_BTREE_IDS(x)
#undef x
	};

	return id < ARRAY_SIZE(names) && names[id] ? names[id] : "unknown";
}

unsigned btree_id_flags(unsigned id)
{
	static const u8 flag_table[] = {
#define x(name, nr, flags, doc) [nr] = (flags),
		BCFS_BTREE_IDS(x)
#undef x
	};

	return id < ARRAY_SIZE(flag_table) ? flag_table[id] : 0;
}
