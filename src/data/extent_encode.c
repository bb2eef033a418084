// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Encodings: one checksum, or tag of what is sealed, for each chunk of the stored sectors, in the
 * key. So a small read verifies and decrypts only the chunks it touches, and an extent of which a
 * part was overwritten is verified as before: its dead sectors stay where they are until the whole
 * bucket is reused.
 *
 * Sealed data: each extent that is encoded has a random nonce, also when the same data are encoded
 * again; a nonce comes twice only with the sealed bytes themselves, which move as they are. What is
 * authenticated says which chunk of what encoding it is, so chunks can be exchanged neither within
 * an extent nor between two.
 */
#include "data/data_private.h"

#include "codec/keyring.h"
#include "util/planted.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

/* The checksums or tags of an encoding: behind the nonce, if there is one. */
static const u8 *crc_csums(const struct bcfs_extent_crc *crc)
{
	return (const u8 *)crc->data + (crc->key_gen ? sizeof(struct bcfs_nonce) : 0);
}

/* Sectors under one checksum. */
static u32 crc_chunk(const struct bcfs_extent_crc *crc)
{
	return extent_compressed(crc) ? crc->stored_sectors : 1U << crc->chunk_shift;
}

/* ---- sealing ---- */

/* What is authenticated with a chunk: doc/format.md. */
struct chunk_ad {
	struct bcfs_uuid uuid;
	u16 key_gen;
	u8 csum_type, compression, chunk_shift, zero;
	u16 stored_sectors, uncompressed_sectors, nr_csums;
	u32 chunk;
};
static_assert(sizeof(struct chunk_ad) == 32, "it is hashed as it is");

/* Of all chunks of an extent. */
struct chunk_seal {
	const struct csum_key *key; /* NULL: not sealed */
	struct bcfs_nonce nonce;
	struct chunk_ad ad;
};

static void seal_init(const struct data_fs *d, const struct bcfs_extent_crc *crc,
		      struct chunk_seal *s)
{
	s->key = crc->key_gen ? keyring_get(d->opts.keys, KEY_USE_data, crc->key_gen) : NULL;
	if (!s->key)
		return;
	memcpy(&s->nonce, crc->data, sizeof(s->nonce));
	s->ad = (struct chunk_ad){
		.uuid = d->opts.uuid,
		.key_gen = htole16(crc->key_gen),
		.csum_type = crc->csum_type,
		.compression = crc->compression,
		.chunk_shift = crc->chunk_shift,
		.stored_sectors = htole16(crc->stored_sectors),
		.uncompressed_sectors = htole16(crc->uncompressed_sectors),
		.nr_csums = htole16(crc->nr_csums),
	};
}

static struct bcfs_nonce seal_chunk(struct chunk_seal *s, u32 i)
{
	s->ad.chunk = htole32(i);
	return aead_chunk_nonce(&s->nonce, i);
}

/* The checksum of chunk @i, @len bytes at @src; if it is to be sealed: its tag, and it at @dst. */
static int chunk_encode(const struct bcfs_extent_crc *crc, struct chunk_seal *s, u32 i,
			const void *src, void *dst, size_t len, struct bcfs_csum *ret)
{
	struct bcfs_nonce nonce;

	if (!s->key)
		return csum_compute(NULL, crc->csum_type, NULL, NULL, 0, src, len, ret);
	nonce = seal_chunk(s, i);
	if (dst == src)
		return aead_seal(s->key, crc->csum_type, &nonce, &s->ad, sizeof(s->ad), dst, len,
				 ret);
	return aead_seal_to(s->key, crc->csum_type, &nonce, &s->ad, sizeof(s->ad), dst, src, len,
			    ret);
}

/* A range of a buffer that somebody asked for: the rest of the chunks is only verified. Bytes. */
struct wanted {
	size_t from, to;
};

/* @w: what is decrypted of it, in place. */
static int chunk_check(const struct bcfs_extent_crc *crc, struct chunk_seal *s, u32 i, void *buf,
		       size_t len, struct wanted w)
{
	unsigned bytes = csum_bytes(crc->csum_type);
	struct bcfs_csum csum = {0}, want;
	struct bcfs_nonce nonce;
	int ret;

	memcpy(csum.b, crc_csums(crc) + i * bytes, bytes);
	if (s->key) {
		nonce = seal_chunk(s, i);
		return aead_open_part(s->key, crc->csum_type, &nonce, &s->ad, sizeof(s->ad), buf,
				      len, w.from, w.to, &csum);
	}
	ret = csum_compute(NULL, crc->csum_type, NULL, NULL, 0, buf, len, &want);
	if (!ret && memcmp(csum.b, want.b, bytes) && !planted(data_csum_ignored))
		ret = -BCFS_ERR_data_csum;
	return ret;
}

/* ---- encoding ---- */

static int crc_fill(const struct data_fs *d, struct bcfs_extent_crc *crc, struct extent_form *form)
{
	unsigned bytes = csum_bytes(crc->csum_type);
	u8 *csums = (u8 *)crc_csums(crc), *dst = form->room;
	const u8 *src = form->data;
	struct chunk_seal s;

	seal_init(d, crc, &s);
	assert(!s.key || dst);
	for (u32 i = 0, at = 0; i < crc->nr_csums; i++) {
		u32 n = min(form->stored_sectors - at, crc_chunk(crc));
		size_t pos = (size_t)at * SECTOR_BYTES;
		struct bcfs_csum csum;
		int ret = chunk_encode(crc, &s, i, src + pos, s.key ? dst + pos : NULL,
				       (size_t)n * SECTOR_BYTES, &csum);

		if (ret)
			return ret;
		memcpy(csums + i * bytes, csum.b, bytes);
		at += n;
	}
	if (s.key && !planted(extent_not_sealed))
		form->data = dst;
	return 0;
}

/* The encoding entry of new data at @e; its u64s. */
static int crc_new(const struct data_fs *d, union extent_entry *e, struct extent_form *form)
{
	const struct data_opts *o = &d->opts;
	const struct csum_key *key = o->keys ? keyring_newest(o->keys, KEY_USE_data) : NULL;
	unsigned u64s, nr = !o->csum_type	? 0
			    : form->compression ? 1
						: DIV_ROUND_UP(form->sectors, 1U << o->chunk_shift);
	int err;

	u64s = extent_crc_u64s(o->csum_type, nr, key);
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
		.key_gen = key ? key->gen : 0,
		.nr_csums = nr,
	};
	if (key && !planted(extent_nonce_same))
		env_random(d->env, e->crc.data, sizeof(struct bcfs_nonce));
	err = crc_fill(d, &e->crc, form);
	return err ?: (int)u64s;
}

int extent_encode(const struct data_fs *d, struct bpos end, const struct bcfs_extent_ptr *ptr,
		  struct extent_form *form, union data_key *ret)
{
	struct bkey_i *k = &ret->k;
	union extent_entry *e = (union extent_entry *)k->v;
	int u64s = 0;

	assert(form->sectors && form->sectors <= BCFS_EXTENT_MAX_SECTORS);
	bkey_init(&k->k);
	k->k.type = KEY_TYPE_extent;
	k->k.p = end;
	k->k.size = form->sectors;

	if (form->sealed) {
		assert(form->sectors == form->sealed->uncompressed_sectors);
		u64s = form->sealed->u64s;
		memcpy(e, form->sealed, u64s * sizeof(u64));
	} else if (d->opts.csum_type || form->compression) {
		u64s = crc_new(d, e, form);
	}
	if (u64s < 0)
		return u64s;
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

/* ---- reading ---- */

int extent_readable(const struct data_fs *d, const struct bcfs_extent_crc *crc)
{
	bool sealed = crc && crc->key_gen && csum_type_is_aead(crc->csum_type);

	/* What the superblock says is demanded, never what a key says of itself. */
	if (d->opts.keys && !sealed)
		return -BCFS_ERR_data_not_encrypted;
	if (!crc)
		return 0;
	if (d->opts.keys) {
		if (!keyring_get(d->opts.keys, KEY_USE_data, crc->key_gen))
			return -BCFS_ERR_data_key_gen;
	} else {
		int ret = crc->key_gen ? -BCFS_ERR_codec_unsupported
				       : csum_type_check(crc->csum_type, NULL);

		if (ret)
			return ret;
	}
	return extent_compressed(crc) ? compression_type_check(crc->compression, NULL) : 0;
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

/* What is in both, counted from @pos. */
static struct wanted wanted_in(struct wanted w, size_t pos, size_t len)
{
	return (struct wanted){min(max(w.from, pos), pos + len) - pos,
			       min(max(w.to, pos), pos + len) - pos};
}

static int check_chunks(const struct data_fs *d, const struct bcfs_extent_crc *crc, u32 start,
			u8 *buf, u32 sectors, struct wanted w, u32 *ret_good, u32 *ret_bad)
{
	struct chunk_seal s;
	u32 chunk, good = 0;

	*ret_good = sectors;
	*ret_bad = 0;
	if (!crc || !crc->csum_type)
		return 0;
	chunk = crc_chunk(crc);
	seal_init(d, crc, &s);
	assert(start % chunk == 0);
	while (good < sectors) {
		u32 i = (start + good) / chunk, n = min(sectors - good, chunk);
		size_t pos = (size_t)good * SECTOR_BYTES, len = (size_t)n * SECTOR_BYTES;

		if (i >= crc->nr_csums ||
		    chunk_check(crc, &s, i, buf + pos, len, wanted_in(w, pos, len))) {
			*ret_good = good;
			*ret_bad = n;
			return s.key ? -BCFS_ERR_data_tag : -BCFS_ERR_data_csum;
		}
		good += n;
	}
	return 0;
}

int extent_open(const struct data_fs *d, const struct bcfs_extent_crc *crc, u32 start, void *buf,
		u32 sectors, u32 *ret_good, u32 *ret_bad)
{
	struct wanted all = {0, (size_t)sectors * SECTOR_BYTES};

	return check_chunks(d, crc, start, buf, sectors, all, ret_good, ret_bad);
}

int extent_open_part(const struct data_fs *d, const struct bcfs_extent_crc *crc, u32 start,
		     void *buf, u32 sectors, u32 from, u32 len, u32 *ret_good, u32 *ret_bad)
{
	size_t at = planted(part_from_front) ? 0 : from;
	struct wanted w = {at, at + len};

	return check_chunks(d, crc, start, buf, sectors, w, ret_good, ret_bad);
}

int extent_verify(const struct data_fs *d, const struct bcfs_extent_crc *crc, u32 start,
		  const void *buf, u32 sectors, u32 *ret_good, u32 *ret_bad)
{
	struct wanted none = {0, 0};

	/* Of which nothing is decrypted, it stays as it is. */
	return check_chunks(d, crc, start, (void *)buf, sectors, none, ret_good, ret_bad);
}
