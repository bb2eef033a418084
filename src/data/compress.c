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

static int scratch_grow(struct data_fs *d, void **p, size_t *have, size_t want)
{
	if (*have >= want)
		return 0;
	env_free(d->env, *p);
	*have = 0;
	*p = env_malloc_aligned(d->env, DATA_IO_ALIGN, want);
	if (!*p)
		return -BCFS_ERR_nomem;
	*have = want;
	return 0;
}

struct data_scratch *data_scratch_get(struct data_fs *d, size_t mem_bytes, size_t buf_bytes)
{
	struct data_scratch *s;

	env_mutex_lock(&d->scratch_lock);
	s = d->scratch;
	if (s) {
		d->scratch = s->next;
		d->nr_scratch--;
	}
	env_mutex_unlock(&d->scratch_lock);

	if (!s)
		s = env_zalloc(d->env, sizeof(*s));
	if (s && !scratch_grow(d, &s->mem, &s->mem_bytes, mem_bytes) &&
	    !scratch_grow(d, (void **)&s->buf, &s->buf_bytes, buf_bytes))
		return s;
	scratch_free(d, s);
	return NULL;
}

void scratch_free(struct data_fs *d, struct data_scratch *s)
{
	if (!s)
		return;
	env_free(d->env, s->mem);
	env_free(d->env, s->buf);
	env_free(d->env, s);
}

void data_scratch_put(struct data_fs *d, struct data_scratch *s)
{
	bool keep;

	if (!s)
		return;
	env_mutex_lock(&d->scratch_lock);
	keep = d->nr_scratch < SCRATCH_KEPT && s->mem_bytes <= SCRATCH_MEM_KEPT;
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

	/* lz4's looks for what is hopeless, whatever the codec. */
	return max(compress_bytes(type, compression_opt_level(compression), max_bytes),
		   compress_bytes(BCFS_COMPRESSION_lz4, 0, max_bytes));
}

/* ---- there ---- */

u32 extent_compress(const struct data_fs *d, struct data_scratch *s, u16 compression,
		    const void *src, u32 sectors, u8 *dst)
{
	size_t block = d->opts.block_bytes, len = (size_t)sectors * SECTOR_BYTES, n, stored;
	u32 head;

	if (!compression_opt_type(compression) || len <= block)
		return 0;
	if (compress_hopeless(s->mem, s->mem_bytes, src, len))
		return 0;
	if (compress_buf(compression_opt_type(compression), compression_opt_level(compression),
			 s->mem, s->mem_bytes, dst + HEAD_BYTES, len - block - HEAD_BYTES, src, len,
			 &n))
		return 0;
	head = htole32((u32)n);
	memcpy(dst, &head, HEAD_BYTES);
	stored = round_up(n + HEAD_BYTES, block);
	memset(dst + HEAD_BYTES + n, 0, stored - n - HEAD_BYTES);
	if (planted(compressed_end_lost) && stored > block)
		stored -= block;
	return (u32)(stored / SECTOR_BYTES);
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
	return decompress_buf(crc->compression, s->mem, s->mem_bytes, dst,
			      (size_t)crc->uncompressed_sectors * SECTOR_BYTES,
			      (const u8 *)stored + HEAD_BYTES, head);
}
