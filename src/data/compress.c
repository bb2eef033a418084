// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Compressed extents: what is stored is the length of the compressed bytes (32 bits, little
 * endian), these, and zeroes up to a block. They are one chunk: read, verified and expanded as a
 * whole, whatever part of them a key still shows.
 *
 * Data that would not save a block is stored plain. A bucket's last sectors take a part that
 * fits, or plain data: no space is left over for being compressed.
 */
#include "codec/codec.h"
#include "data/data_private.h"
#include "util/planted.h"

#include <endian.h>
#include <string.h>

#define HEAD_BYTES sizeof(u32)

/* ---- memory ---- */

/*
 * A codec's tables are looked up all over: from so much on they are worth a huge page, of which
 * they then have all.
 */
#define SCRATCH_HUGE_FROM  (512U << 10)
#define SCRATCH_HUGE_BYTES (2U << 20)

static int scratch_fit(struct data_fs *d, struct data_scratch *s, size_t mem_bytes,
		       size_t buf_bytes)
{
	size_t codec = round_up(mem_bytes, DATA_IO_ALIGN);
	size_t probe = codec ? round_up(compress_hopeless_bytes(), DATA_IO_ALIGN) : 0;
	size_t want = codec + probe + buf_bytes;

	if (want >= SCRATCH_HUGE_FROM)
		want = round_up(want, SCRATCH_HUGE_BYTES);
	if (s->bytes < want) {
		env_free(d->env, s->mem);
		s->bytes = 0;
		codec_mem_init(&s->codec, NULL, 0);
		s->mem = env_malloc_huge(d->env, want);
		if (!s->mem)
			return -BCFS_ERR_nomem;
		s->bytes = want;
	}
	if (s->codec.mem != s->mem || s->codec.bytes != codec)
		codec_mem_init(&s->codec, s->mem, codec);
	s->probe = (u8 *)s->mem + codec;
	s->probe_bytes = probe;
	s->buf = (u8 *)s->mem + codec + probe;
	return 0;
}

/* One whose codec has its tables already, if there is one; else any. */
static struct data_scratch *scratch_take(struct data_fs *d, size_t mem_bytes)
{
	struct data_scratch **p = &d->scratch, *s;

	while (*p && (*p)->codec.bytes != round_up(mem_bytes, DATA_IO_ALIGN))
		p = &(*p)->next;
	if (!*p)
		p = &d->scratch;
	s = *p;
	if (s) {
		*p = s->next;
		d->nr_scratch--;
	}
	return s;
}

struct data_scratch *data_scratch_get(struct data_fs *d, size_t mem_bytes, size_t buf_bytes)
{
	struct data_scratch *s;

	env_mutex_lock(&d->scratch_lock);
	s = scratch_take(d, mem_bytes);
	env_mutex_unlock(&d->scratch_lock);

	if (!s)
		s = env_zalloc(d->env, sizeof(*s));
	if (s && !scratch_fit(d, s, mem_bytes, buf_bytes))
		return s;
	scratch_free(d, s);
	return NULL;
}

void scratch_free(struct data_fs *d, struct data_scratch *s)
{
	if (!s)
		return;
	env_free(d->env, s->mem);
	env_free(d->env, s);
}

void data_scratch_put(struct data_fs *d, struct data_scratch *s)
{
	bool keep;

	if (!s)
		return;
	env_mutex_lock(&d->scratch_lock);
	keep = d->nr_scratch < SCRATCH_KEPT && s->bytes <= SCRATCH_BYTES_KEPT;
	if (keep) {
		s->next = d->scratch;
		d->scratch = s;
		d->nr_scratch++;
	}
	env_mutex_unlock(&d->scratch_lock);
	if (!keep)
		scratch_free(d, s);
}

size_t data_compress_mem(const struct data_fs *d, u16 compression)
{
	unsigned type = compression_opt_type(compression);
	size_t max_bytes = (size_t)d->opts.extent_max_sectors * SECTOR_BYTES;

	return compress_bytes(type, compression_opt_level(compression), max_bytes);
}

/* ---- there ---- */

static void in_vain(struct data_fs *d, u32 sectors)
{
	__atomic_fetch_add(&d->nr_compressed_in_vain, sectors, __ATOMIC_RELAXED);
}

u32 extent_compress(struct data_fs *d, struct data_scratch *s, u16 compression, const void *src,
		    u32 sectors, u8 *dst)
{
	size_t block = d->opts.block_bytes, len = (size_t)sectors * SECTOR_BYTES, n, stored;
	u32 head;

	if (!compression_opt_type(compression) || len <= block)
		return 0;
	if (compress_hopeless(s->probe, s->probe_bytes, src, len))
		return 0;
	__atomic_fetch_add(&d->nr_compressed, sectors, __ATOMIC_RELAXED);
	if (compress_buf(compression_opt_type(compression), compression_opt_level(compression),
			 &s->codec, dst + HEAD_BYTES, len - block - HEAD_BYTES, src, len, &n)) {
		in_vain(d, sectors);
		return 0;
	}
	head = htole32((u32)n);
	memcpy(dst, &head, HEAD_BYTES);
	stored = round_up(n + HEAD_BYTES, block);
	memset(dst + HEAD_BYTES + n, 0, stored - n - HEAD_BYTES);
	if (planted(compressed_end_lost) && stored > block)
		stored -= block;
	return (u32)(stored / SECTOR_BYTES);
}

u32 extent_fit(const struct data_fs *d, u32 sectors, u32 left)
{
	u32 share = __atomic_load_n(&d->share, __ATOMIC_RELAXED), fit;

	if (!share || !left)
		return sectors;
	fit = round_down((u32)((u64)left * 256 / share / 8 * 7), d->block_sectors);
	return min(sectors, max(fit, d->block_sectors));
}

void extent_place_in(struct data_fs *d, struct data_scratch *s, u16 compression, const u8 *src,
		     u32 sectors, u32 stored, u8 *dst, const struct alloc_sectors *space,
		     struct extent_form *ret)
{
	u32 part = sectors, plain = min(space->sectors, d->opts.extent_max_sectors);

	if (stored > space->sectors) /* the end of a bucket: about as much as goes there */
		part = (u32)((u64)sectors * space->sectors / stored / 8 * 7);
	for (; stored > space->sectors; part = part / 4 * 3) {
		part = round_down(part, d->block_sectors);
		stored = part > space->sectors ? extent_compress(d, s, compression, src, part, dst)
					       : 0;
		if (stored <= space->sectors)
			break;
		in_vain(d, part);
	}
	if (stored)
		*ret = (struct extent_form){.data = dst,
					    .stored_sectors = stored,
					    .sectors = part,
					    .compression = compression_opt_type(compression),
					    .room = dst};
	else
		*ret = (struct extent_form){
			.data = src, .stored_sectors = plain, .sectors = plain, .room = dst};
}

int extent_place(struct data_fs *d, extent_space_fn get, void *arg, struct data_scratch *s,
		 u16 compression, const u8 *src, u32 sectors, u8 *dst, struct alloc_sectors *space,
		 struct extent_form *ret)
{
	u32 stored = s ? extent_compress(d, s, compression, src, sectors, dst) : 0;
	int err = get(arg, stored ?: sectors, space);

	/* Of short ones the last block is too large a part. */
	if (s && sectors >= d->opts.extent_max_sectors / 4)
		__atomic_store_n(&d->share, stored * 256 / sectors, __ATOMIC_RELAXED);
	if (!err && stored > space->sectors)
		in_vain(d, sectors);
	if (!err)
		extent_place_in(d, s, compression, src, sectors, stored, dst, space, ret);
	return err;
}

/* ---- and back ---- */

int extent_expand(const struct bcfs_extent_crc *crc, struct data_scratch *s, const void *stored,
		  void *dst)
{
	size_t room = (size_t)crc->stored_sectors * SECTOR_BYTES - HEAD_BYTES;
	u32 head;

	memcpy(&head, stored, HEAD_BYTES);
	head = le32toh(head);
	if (head > room)
		return -BCFS_ERR_decompress;
	return decompress_buf(crc->compression, &s->codec, dst,
			      (size_t)crc->uncompressed_sectors * SECTOR_BYTES,
			      (const u8 *)stored + HEAD_BYTES, head);
}
