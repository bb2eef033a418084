// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Encodings: one checksum for each chunk of the stored sectors, in the key. So a small read
 * verifies only the chunks it touches, and an extent of which a part was overwritten is verified
 * as before: its dead sectors stay where they are until the whole bucket is reused.
 */
#include "data/data_private.h"

#include "codec/codec.h"
#include "util/planted.h"

#include <string.h>

/* The checksums of an encoding: behind the nonce, if there is one. */
static const u8 *crc_csums(const struct bcfs_extent_crc *crc)
{
	return (const u8 *)crc->data + (crc->key_gen ? sizeof(struct bcfs_nonce) : 0);
}

static int chunk_csum(const struct bcfs_extent_crc *crc, const void *data, u32 sectors,
		      struct bcfs_csum *ret)
{
	return csum_compute(NULL, crc->csum_type, NULL, NULL, 0, data,
			    (size_t)sectors * SECTOR_BYTES, ret);
}

/* Sectors under one checksum. */
static u32 crc_chunk(const struct bcfs_extent_crc *crc)
{
	return extent_compressed(crc) ? crc->stored_sectors : 1U << crc->chunk_shift;
}

static int crc_fill(struct bcfs_extent_crc *crc, const void *data, u32 sectors)
{
	unsigned bytes = csum_bytes(crc->csum_type);
	u8 *csums = (u8 *)crc_csums(crc);

	for (u32 i = 0, at = 0; i < crc->nr_csums; i++) {
		u32 n = min(sectors - at, crc_chunk(crc));
		struct bcfs_csum csum;
		int ret = chunk_csum(crc, (const u8 *)data + (size_t)at * SECTOR_BYTES, n, &csum);

		if (ret)
			return ret;
		memcpy(csums + i * bytes, csum.b, bytes);
		at += n;
	}
	return 0;
}

int extent_encode(const struct data_fs *d, struct bpos end, const struct bcfs_extent_ptr *ptr,
		  const struct extent_form *form, union data_key *ret)
{
	const struct data_opts *o = &d->opts;
	struct bkey_i *k = &ret->k;
	union extent_entry *e = (union extent_entry *)k->v;
	unsigned u64s = 0;

	assert(form->sectors && form->sectors <= BCFS_EXTENT_MAX_SECTORS);
	bkey_init(&k->k);
	k->k.type = KEY_TYPE_extent;
	k->k.p = end;
	k->k.size = form->sectors;

	if (o->csum_type || form->compression) {
		unsigned nr = !o->csum_type ? 0
			      : form->compression
				      ? 1
				      : DIV_ROUND_UP(form->sectors, 1U << o->chunk_shift);
		int err;

		u64s = extent_crc_u64s(o->csum_type, nr, false);
		assert(u64s < BKEY_VAL_U64s_MAX);
		memset(e, 0, u64s * sizeof(u64));
		e->crc = (struct bcfs_extent_crc){
			.type = BCFS_EXTENT_ENTRY_crc,
			.csum_type = o->csum_type,
			.compression = form->compression,
			.chunk_shift = o->chunk_shift,
			.u64s = u64s,
			.stored_sectors = form->stored_sectors,
			.uncompressed_sectors = form->sectors,
			.nr_csums = nr,
		};
		err = crc_fill(&e->crc, form->data, form->stored_sectors);
		if (err)
			return err;
	}
	e = (union extent_entry *)(k->v + u64s);
	e->ptr = *ptr;
	e->ptr.type = BCFS_EXTENT_ENTRY_ptr;
	u64s++;
	if (form->rebalance.type) {
		e = (union extent_entry *)(k->v + u64s++);
		e->rebalance = form->rebalance;
	}
	set_bkey_val_u64s(&k->k, u64s);
	return 0;
}

int extent_readable(const struct bcfs_extent_crc *crc)
{
	if (!crc)
		return 0;
	if (crc->key_gen || csum_type_is_aead(crc->csum_type))
		return -BCFS_ERR_codec_unsupported;
	return csum_type_check(crc->csum_type, NULL)
		       ?: extent_compressed(crc) ? compression_type_check(crc->compression, NULL)
						 : 0;
}

void extent_read_range(const struct data_fs *d, const struct extent_ptr_decoded *p, u32 *start,
		       u32 *end)
{
	u32 unit = d->device_block_sectors;

	if (extent_compressed(p->crc)) {
		*start = 0;
		*end = p->stored_sectors;
		return;
	}
	if (p->crc && p->crc->csum_type)
		unit = max(unit, 1U << p->crc->chunk_shift);
	*start = round_down(*start, unit);
	*end = min(round_up(*end, unit), p->stored_sectors);
}

int extent_verify(const struct bcfs_extent_crc *crc, u32 start, const void *buf, u32 sectors,
		  u32 *ret_good, u32 *ret_bad)
{
	u32 chunk, good = 0;
	unsigned bytes;

	*ret_good = sectors;
	*ret_bad = 0;
	if (!crc || !crc->csum_type)
		return 0;
	chunk = crc_chunk(crc);
	bytes = csum_bytes(crc->csum_type);
	assert(start % chunk == 0);
	while (good < sectors) {
		u32 i = (start + good) / chunk, n = min(sectors - good, chunk);
		const u8 *data = (const u8 *)buf + (size_t)good * SECTOR_BYTES;
		struct bcfs_csum csum;
		int ret = i < crc->nr_csums ? chunk_csum(crc, data, n, &csum) : -BCFS_ERR_data_csum;

		if (ret || (memcmp(csum.b, crc_csums(crc) + i * bytes, bytes) &&
			    !planted(data_csum_ignored))) {
			*ret_good = good;
			*ret_bad = n;
			return -BCFS_ERR_data_csum;
		}
		good += n;
	}
	return 0;
}
