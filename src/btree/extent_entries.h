/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Walking the list of entries in the value of an extent, reflink_v or btree_ptr key
 * (include/bcfs/format/extent.h): pointers, and encodings that apply to the pointers behind them.
 *
 *	for_each_extent_entry(bkey_ptrs(k), e)
 *		if (extent_entry_type(e) == BCFS_EXTENT_ENTRY_crc) ...
 *
 *	struct extent_ptr_decoded p;
 *	for_each_extent_ptr(k, it, p)
 *		use p.ptr, p.crc (NULL: plain data), p.held_sectors, p.live_offset
 *
 * The walkers never read beyond the value, whatever is in it: an entry of unknown type, or one
 * that would reach over the end, ends the walk. Whether the entries make sense is asked of
 * extent_entries_validate(), before a key is written and after it was read.
 */
#ifndef BCFS_BTREE_EXTENT_ENTRIES_H
#define BCFS_BTREE_EXTENT_ENTRIES_H

#include "bcfs/format/btree.h"
#include "bcfs/format/extent.h"
#include "btree/bkey.h"

union extent_entry {
	u64 u;
	struct bcfs_extent_ptr ptr;
	struct bcfs_extent_crc crc;
	struct bcfs_extent_stripe_ptr stripe_ptr;
	struct bcfs_extent_rebalance rebalance;
};

/* The entries of a value: [start, end), in u64s. */
struct extent_entries {
	const u64 *start, *end;
};

/* Bytes of one checksum or tag; 0 for unknown types. */
unsigned extent_csum_bytes(unsigned csum_type);
/* u64s of an encoding entry with these parameters. */
unsigned extent_crc_u64s(unsigned csum_type, unsigned nr_csums, bool encrypted);

static inline unsigned extent_entry_type(const union extent_entry *e)
{
	return e->u & 7;
}

/* Size of an entry by its own word; 0 if its type is unknown or it is malformed. */
static inline unsigned extent_entry_u64s(const union extent_entry *e)
{
	switch (extent_entry_type(e)) {
	case BCFS_EXTENT_ENTRY_ptr:
	case BCFS_EXTENT_ENTRY_stripe_ptr:
	case BCFS_EXTENT_ENTRY_rebalance:
		return 1;
	case BCFS_EXTENT_ENTRY_crc:
		return e->crc.u64s >= sizeof(struct bcfs_extent_crc) / sizeof(u64) ? e->crc.u64s
										   : 0;
	default:
		return 0;
	}
}

/* @p as an entry, or NULL if no known entry lies wholly in [p, end). */
static inline const union extent_entry *extent_entry_at(const u64 *p, const u64 *end)
{
	const union extent_entry *e = (const union extent_entry *)p;
	unsigned u64s;

	if (p >= end)
		return NULL;
	u64s = extent_entry_u64s(e);
	return u64s && u64s <= (size_t)(end - p) ? e : NULL;
}

static inline const union extent_entry *extent_entry_next(const union extent_entry *e,
							  const u64 *end)
{
	return extent_entry_at((const u64 *)e + extent_entry_u64s(e), end);
}

#define for_each_extent_entry(entries_, e_)                                                        \
	for (struct extent_entries ee_ = (entries_), *once_ = &ee_; once_; once_ = NULL)           \
		for (const union extent_entry *e_ = extent_entry_at(ee_.start, ee_.end); e_;       \
		     e_ = extent_entry_next(e_, ee_.end))

/* Where the entries of a value begin, in u64s behind the key header; -1: the type has none. */
static inline int bkey_ptrs_offset(unsigned type)
{
	switch (type) {
	case KEY_TYPE_btree_ptr:
		return sizeof(struct bcfs_btree_ptr) / sizeof(u64);
	case KEY_TYPE_extent:
		return 0;
	case KEY_TYPE_reflink_v:
		return sizeof(struct bcfs_reflink_v) / sizeof(u64);
	default:
		return -1;
	}
}

/* The entries of a key; empty for types without (and for values too short). */
static inline struct extent_entries bkey_ptrs(struct bkey_s_c k)
{
	int offset = bkey_ptrs_offset(k.k->type);
	const u64 *v = (const u64 *)k.v;

	if (offset < 0 || bkey_val_u64s(k.k) < (unsigned)offset)
		return (struct extent_entries){NULL, NULL};
	return (struct extent_entries){v + offset, v + bkey_val_u64s(k.k)};
}

/* A pointer with the encoding that applies to it. */
struct extent_ptr_decoded {
	struct bcfs_extent_ptr ptr;
	const struct bcfs_extent_crc *crc; /* NULL: plain data, not verified */
	u32 stored_sectors;		   /* on the device, from ptr.offset on */
	u32 live_offset;		   /* of the key's data in the uncompressed data, sectors */
	u32 held_sectors; /* the share of stored_sectors that the key accounts for */
};

struct extent_ptr_iter {
	const union extent_entry *e;
	const u64 *end;
	const struct bcfs_extent_crc *crc;
};

static inline bool extent_compressed(const struct bcfs_extent_crc *crc)
{
	return crc && crc->compression != BCFS_COMPRESSION_none &&
	       crc->compression != BCFS_COMPRESSION_incompressible;
}

/* What the key's data are to become in the background, tried or not; NULL: they stay as they are.
 */
static inline const struct bcfs_extent_rebalance *extent_rebalance(struct bkey_s_c k)
{
	for_each_extent_entry (bkey_ptrs(k), e)
		if (extent_entry_type(e) == BCFS_EXTENT_ENTRY_rebalance)
			return &e->rebalance;
	return NULL;
}

/* Does the key have one in rebalance_work? */
static inline bool extent_has_work(struct bkey_s_c k)
{
	const struct bcfs_extent_rebalance *r = extent_rebalance(k);

	return r && !r->tried;
}

static inline struct extent_ptr_iter extent_ptr_iter_init(struct bkey_s_c k)
{
	struct extent_entries p = bkey_ptrs(k);

	return (struct extent_ptr_iter){.e = extent_entry_at(p.start, p.end), .end = p.end};
}

/*
 * The next pointer, false at the end. @node_sectors: what a btree_ptr's pointers hold (0 where
 * there can be none).
 */
bool extent_ptr_next(struct bkey_s_c k, u32 node_sectors, struct extent_ptr_iter *it,
		     struct extent_ptr_decoded *p);

#define for_each_extent_ptr(k_, node_sectors_, it_, p_)                                            \
	for (struct extent_ptr_iter it_ = extent_ptr_iter_init(k_);                                \
	     extent_ptr_next(k_, node_sectors_, &(it_), &(p_));)

/*
 * Are the entries sound, and do they hold @key_sectors of data? 0, or -BCFS_ERR_extent_invalid_*
 * with the reason in @err (may be NULL). Entries behind one of unknown type are not looked at
 * (they are carried along). A list without any pointer is refused.
 */
int extent_entries_validate(struct extent_entries entries, u64 key_sectors, struct printbuf *err);
void extent_entries_to_text(struct printbuf *out, struct extent_entries entries);
void extent_ptr_to_text(struct printbuf *out, const struct bcfs_extent_ptr *ptr);

#endif
