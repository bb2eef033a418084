// SPDX-License-Identifier: LGPL-2.1-or-later
#include "btree/extent_entries.h"

#include "util/errcode.h"
#include "util/printbuf.h"

#define PTR_OFFSET_MAX	((1ULL << 43) - 1)
#define CRC_HEADER_U64s (sizeof(struct bcfs_extent_crc) / sizeof(u64))

unsigned extent_csum_bytes(unsigned csum_type)
{
	static const u8 bytes[] = {
#define x(name, nr, b) [BCFS_CSUM_##name] = b,
		BCFS_CSUM_TYPES(x)
#undef x
	};

	return csum_type < ARRAY_SIZE(bytes) ? bytes[csum_type] : 0;
}

unsigned extent_crc_u64s(unsigned csum_type, unsigned nr_csums, bool encrypted)
{
	return CRC_HEADER_U64s + (encrypted ? sizeof(struct bcfs_nonce) / sizeof(u64) : 0) +
	       DIV_ROUND_UP(nr_csums * extent_csum_bytes(csum_type), sizeof(u64));
}

bool extent_ptr_next(struct bkey_s_c k, u32 node_sectors, struct extent_ptr_iter *it,
		     struct extent_ptr_decoded *p)
{
	for (; it->e; it->e = extent_entry_next(it->e, it->end)) {
		if (extent_entry_type(it->e) == BCFS_EXTENT_ENTRY_crc) {
			it->crc = &it->e->crc;
			continue;
		}
		if (extent_entry_type(it->e) != BCFS_EXTENT_ENTRY_ptr)
			continue;

		*p = (struct extent_ptr_decoded){.ptr = it->e->ptr, .crc = it->crc};
		if (k.k->type == KEY_TYPE_btree_ptr) {
			p->stored_sectors = p->held_sectors = node_sectors;
		} else if (!it->crc) {
			p->stored_sectors = p->held_sectors = k.k->size;
		} else {
			p->stored_sectors = it->crc->stored_sectors;
			p->live_offset = it->crc->live_offset;
			p->held_sectors = k.k->size;
			if (extent_compressed(it->crc) && it->crc->uncompressed_sectors)
				p->held_sectors = DIV_ROUND_UP((u64)k.k->size * p->stored_sectors,
							       it->crc->uncompressed_sectors);
		}
		it->e = extent_entry_next(it->e, it->end);
		return true;
	}
	return false;
}

/* ---- validation ---- */

static int crc_invalid(struct printbuf *err, const char *what, u64 v)
{
	if (err)
		prt_printf(err, "extent encoding: %s (%llu)", what, (unsigned long long)v);
	return -BCFS_ERR_extent_invalid_crc;
}

static int ptr_invalid(struct printbuf *err, const char *what, u64 v)
{
	if (err)
		prt_printf(err, "extent pointer: %s (%llu)", what, (unsigned long long)v);
	return -BCFS_ERR_extent_invalid_ptr;
}

static int crc_validate(const struct bcfs_extent_crc *c, u64 key_sectors, struct printbuf *err)
{
	bool compressed = extent_compressed(c);
	unsigned nr_csums;

	if (c->csum_type >= BCFS_CSUM_NR)
		return crc_invalid(err, "unknown checksum type", c->csum_type);
	if (c->compression >= BCFS_COMPRESSION_NR)
		return crc_invalid(err, "unknown compression type", c->compression);
	if (!c->stored_sectors || c->stored_sectors > BCFS_EXTENT_MAX_SECTORS)
		return crc_invalid(err, "stored sectors out of range", c->stored_sectors);
	if (!c->uncompressed_sectors || c->uncompressed_sectors > BCFS_EXTENT_MAX_SECTORS)
		return crc_invalid(err, "uncompressed sectors out of range",
				   c->uncompressed_sectors);
	if (!compressed && c->stored_sectors != c->uncompressed_sectors)
		return crc_invalid(err, "sizes differ without compression", c->stored_sectors);
	if (compressed && c->stored_sectors >= c->uncompressed_sectors)
		return crc_invalid(err, "compressed to no less", c->stored_sectors);
	if (key_sectors + c->live_offset > c->uncompressed_sectors)
		return crc_invalid(err, "the key is larger than its data", c->live_offset);
	if (!c->csum_type)
		nr_csums = 0;
	else if (compressed)
		nr_csums = 1;
	else {
		if (c->chunk_shift < BCFS_CHUNK_SHIFT_MIN || c->chunk_shift > BCFS_CHUNK_SHIFT_MAX)
			return crc_invalid(err, "chunk size out of range", c->chunk_shift);
		nr_csums = DIV_ROUND_UP(c->stored_sectors, 1U << c->chunk_shift);
	}
	if (c->nr_csums != nr_csums)
		return crc_invalid(err, "wrong number of checksums", c->nr_csums);
	if (c->u64s != extent_crc_u64s(c->csum_type, nr_csums, c->key_gen))
		return crc_invalid(err, "wrong size", c->u64s);
	return 0;
}

int extent_entries_validate(struct extent_entries entries, u64 key_sectors, struct printbuf *err)
{
	const struct bcfs_extent_crc *crc = NULL;
	unsigned nr_ptrs = 0;
	int ret;

	for (const u64 *p = entries.start; p < entries.end;) {
		const union extent_entry *e = (const union extent_entry *)p;
		unsigned type = extent_entry_type(e);

		if (type >= BCFS_EXTENT_ENTRY_NR)
			return 0; /* from a later version */
		e = extent_entry_at(p, entries.end);
		if (!e) {
			if (err)
				prt_printf(err, "extent entry of type %u at %zu is malformed", type,
					   (size_t)(p - entries.start));
			return -BCFS_ERR_extent_invalid_entry;
		}
		if (type == BCFS_EXTENT_ENTRY_crc) {
			crc = &e->crc;
			ret = crc_validate(crc, key_sectors, err);
			if (ret)
				return ret;
		} else if (type == BCFS_EXTENT_ENTRY_ptr) {
			u64 sectors = crc ? crc->stored_sectors : key_sectors;

			nr_ptrs++;
			if (!e->ptr.offset)
				return ptr_invalid(err, "no place", e->ptr.offset);
			if (e->ptr.offset + sectors > PTR_OFFSET_MAX)
				return ptr_invalid(err, "beyond any device", e->ptr.offset);
		}
		p += extent_entry_u64s(e);
	}
	if (!nr_ptrs)
		return ptr_invalid(err, "none", 0);
	return 0;
}

/* ---- text ---- */

void extent_ptr_to_text(struct printbuf *out, const struct bcfs_extent_ptr *ptr)
{
	prt_printf(out, "ptr %u:%llu gen %u%s%s", (unsigned)ptr->dev,
		   (unsigned long long)ptr->offset, (unsigned)ptr->gen,
		   ptr->cached ? " cached" : "", ptr->unwritten ? " unwritten" : "");
}

static const char *csum_name(unsigned type)
{
	static const char *const names[] = {
#define x(name, nr, bytes) [BCFS_CSUM_##name] = #name,
		BCFS_CSUM_TYPES(x)
#undef x
	};

	return type < ARRAY_SIZE(names) ? names[type] : "unknown";
}

static const char *compression_name(unsigned type)
{
	static const char *const names[] = {
#define x(name, nr) [BCFS_COMPRESSION_##name] = #name,
		BCFS_COMPRESSION_TYPES(x)
#undef x
	};

	return type < ARRAY_SIZE(names) ? names[type] : "unknown";
}

void extent_entries_to_text(struct printbuf *out, struct extent_entries entries)
{
	const char *sep = "";

	for_each_extent_entry (entries, e) {
		const struct bcfs_extent_crc *c = &e->crc;

		prt_printf(out, "%s", sep);
		sep = " ";
		switch (extent_entry_type(e)) {
		case BCFS_EXTENT_ENTRY_ptr:
			extent_ptr_to_text(out, &e->ptr);
			break;
		case BCFS_EXTENT_ENTRY_crc:
			prt_printf(out, "enc %u of %u live at %u csum %s x%u chunk %u compress %s",
				   c->stored_sectors, c->uncompressed_sectors, c->live_offset,
				   csum_name(c->csum_type), c->nr_csums, c->chunk_shift,
				   compression_name(c->compression));
			if (c->key_gen)
				prt_printf(out, " key %u", c->key_gen);
			break;
		case BCFS_EXTENT_ENTRY_stripe_ptr:
			prt_printf(out, "stripe %llu block %u",
				   (unsigned long long)e->stripe_ptr.idx,
				   (unsigned)e->stripe_ptr.block);
			break;
		default:
			prt_printf(out, "rebalance compress %s level %d%s",
				   compression_name(e->rebalance.compression & 15),
				   (s8)(e->rebalance.compression >> 4),
				   e->rebalance.tried ? " tried" : "");
		}
	}
}
