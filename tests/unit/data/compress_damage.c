// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Compressed extents that are damaged, on the device or in their keys.
 * Goal: whatever lies where a compressed extent should - flipped bits, zeroes, an end that is
 * missing, bytes of others, frames made to expand to gigabytes or beyond their buffer - and
 * whatever a key says of it that its checks let pass, a read answers an error or data, the extents
 * beside it read as ever, memory stays within what one extent may take, and with checksums nothing
 * wrong is ever read. What the checks of keys must not let pass, they do not. Method: one file of
 * compressed extents on the simulated device; stored bytes are poked, keys replaced in place, and
 * put back. BCFS_TEST_SEED repeats a run; run it under ASan.
 */
#include "../test_rand.h"
#include "codec/codec.h"
#include "dfs.h"

#include <criterion/criterion.h>
#include <string.h>

#define EXTENTS	    3U
#define EXTENT_SECS 128U
#define HUGE_BYTES  (2U << 20)
#define EXTENT_LEN  (EXTENT_SECS * SECTOR_BYTES)
#define FILE_LEN    ((u64)EXTENTS * EXTENT_LEN)
#define STORED_MAX  EXTENT_LEN

struct victim {
	struct tfs *f;
	struct data_file id;
	u64 r;
	u8 *bytes, *buf; /* FILE_LEN */
	unsigned which;	 /* of its extents: the one that is damaged */
	union data_key key;
	struct bcfs_extent_crc *crc; /* in key */
	u64 place;		     /* on the device, bytes */
	u64 errors, right, wrong;    /* answers */
};

/* Words in some order: any codec gains by them. */
static void fill(u64 *r, u8 *p, u64 len)
{
	static const char words[] = "some of these words come again and again, and again some";

	for (u64 i = 0; i < len; i++)
		p[i] = (u8)words[(i + (i % 64 ? 0 : trand_below(r, 50))) % sizeof(words)];
	for (u64 i = 0; i < len / 200; i++)
		p[trand_below(r, len)] = (u8)trand_u64(r);
}

/* ---- the key ---- */

static int key_get_step(struct btree_trans *trans, struct victim *v)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_extents,
			data_pos(&v->id, (u64)v->which * EXTENT_SECS), 0);
	k = btree_iter_peek_slot(&iter);
	ret = bkey_err(k);
	if (!ret)
		bkey_reassemble(&v->key.k, k);
	btree_iter_exit(&iter);
	return ret;
}

static void key_get(struct victim *v, unsigned which)
{
	struct btree_trans *trans = btree_trans_get(v->f->btree);
	u64 at = (u64)which * EXTENT_LEN, done, seq;
	struct extent_ptr_decoded p;

	v->which = which;
	DFS_OK(v->f, lockrestart_do(trans, key_get_step(trans, v)));
	btree_trans_unlock(trans);
	/* Cut where a bucket ended, when it was moved: written anew, gathered or not. */
	for (unsigned i = 0; i < 4 && v->key.k.k.size < EXTENT_SECS; i++) {
		DFS_OK(v->f, data_write(v->f->data, &v->id, at, v->bytes + at, EXTENT_LEN, FILE_LEN,
					NULL, NULL, &done, &seq));
		DFS_OK(v->f, journal_flush(v->f->journal));
		DFS_OK(v->f, lockrestart_do(trans, key_get_step(trans, v)));
		btree_trans_unlock(trans);
	}
	btree_trans_put(trans);
	DFS_ASSERT(v->f, v->key.k.k.type == KEY_TYPE_extent && v->key.k.k.size == EXTENT_SECS,
		   "size %u", v->key.k.k.size);
	for_each_extent_ptr(bkey_i_to_s_c(&v->key.k), 0, it, p)
	{
		v->crc = (struct bcfs_extent_crc *)p.crc;
		v->place = (u64)p.ptr.offset * SECTOR_BYTES;
	}
	DFS_ASSERT(v->f, extent_compressed(v->crc), "plain");
}

static int key_put_step(struct btree_trans *trans, struct victim *v, const union data_key *key)
{
	struct btree_iter iter;
	int ret;

	/* Node by node as it is: what it counts stays as it was. */
	btree_iter_init(trans, &iter, BTREE_ID_extents, key->k.k.p,
			BTREE_ITER_INTENT | BTREE_ITER_NOT_EXTENTS | BTREE_ITER_ALL_SNAPSHOTS);
	ret = bkey_err(btree_iter_peek_slot(&iter))
		      ?: btree_trans_update(trans, &iter,
					    btree_trans_copy_key(trans, bkey_i_to_s_c(&key->k), 0),
					    BTREE_UPDATE_NOTRIGGERS | BTREE_UPDATE_NO_EXTENT);
	btree_iter_exit(&iter);
	return ret;
}

static void key_put(struct victim *v, const union data_key *key)
{
	struct btree_trans *trans = btree_trans_get(v->f->btree);

	DFS_OK(v->f, commit_do(trans, NULL, 0, key_put_step(trans, v, key)));
	btree_trans_put(trans);
}

/* ---- reading ---- */

/* What is kept of the memory for expanding is what the largest extent may need. */
static void check_memory(struct victim *v)
{
	struct data_fs *d = v->f->data;
	size_t mem_max = max(decompress_bytes(BCFS_COMPRESSION_zstd),
			     data_compress_mem(d, compression_opt(BCFS_COMPRESSION_zstd, 0)));
	size_t all_max;

	DFS_ASSERT(v->f, d->nr_scratch, "none is kept");
	mem_max = round_up(mem_max, (size_t)DATA_IO_ALIGN);
	all_max = round_up(mem_max + round_up(compress_hopeless_bytes(), (size_t)DATA_IO_ALIGN) +
				   BCFS_EXTENT_MAX_SECTORS * SECTOR_BYTES,
			   (size_t)HUGE_BYTES);
	for (const struct data_scratch *s = d->scratch; s; s = s->next)
		DFS_ASSERT(v->f, s->bytes <= all_max && s->codec.bytes <= mem_max,
			   "%zu bytes, %zu for the codec", s->bytes, s->codec.bytes);
}

/* Any part of the damaged one: an error, or (@wrong_ok) what it likes. */
static void read_bad(struct victim *v, bool wrong_ok)
{
	u64 start = (u64)v->which * EXTENT_LEN, from = 0, len = EXTENT_LEN, done, done0;
	u64 live, live0;
	int ret;

	if (trand_below(&v->r, 2)) {
		from = trand_below(&v->r, EXTENT_LEN);
		len = 1 + trand_below(&v->r, EXTENT_LEN - from);
	}
	live0 = env_sim_live_allocs(v->f->env, &done0);
	ret = data_read(v->f->data, &v->id, start + from, v->buf, len, &done);
	live = env_sim_live_allocs(v->f->env, &done0);
	DFS_ASSERT(v->f, live <= live0 + 3, "%llu allocations, then %llu",
		   (unsigned long long)live0, (unsigned long long)live);
	check_memory(v);
	if (ret) {
		DFS_ASSERT(v->f,
			   (ret == -BCFS_ERR_decompress || ret == -BCFS_ERR_data_csum ||
			    ret == -BCFS_ERR_codec_unsupported) &&
				   !done,
			   "%s after %llu", err_name(ret), (unsigned long long)done);
		v->errors++;
	} else if (memcmp(v->buf, v->bytes + start + from, len)) {
		DFS_ASSERT(v->f, wrong_ok, "wrong data");
		v->wrong++;
	} else {
		v->right++;
	}
}

static void read_others(struct victim *v)
{
	for (unsigned i = 0; i < EXTENTS; i++) {
		u64 done, from = (u64)i * EXTENT_LEN;

		if (i == v->which)
			continue;
		DFS_OK(v->f, data_read(v->f->data, &v->id, from, v->buf, EXTENT_LEN, &done));
		DFS_ASSERT(v->f, !memcmp(v->buf, v->bytes + from, EXTENT_LEN), "extent %u", i);
	}
}

static void read_all(struct victim *v)
{
	u64 done;

	DFS_OK(v->f, data_read(v->f->data, &v->id, 0, v->buf, FILE_LEN, &done));
	DFS_ASSERT(v->f, !memcmp(v->buf, v->bytes, FILE_LEN), "put back, and not right");
}

/* ---- what lies on the device ---- */

/* A frame that says that it expands to a gigabyte and more, and does, as far as it goes. */
static size_t bomb_zstd(u8 *p, size_t room)
{
	static const u64 sizes[] = {1ULL << 30, 1ULL << 40, UINT64_MAX, EXTENT_LEN};
	static unsigned turn;
	u64 size = sizes[turn++ % ARRAY_SIZE(sizes)];
	size_t n = 0;

	/* Magic; a single segment with its size in 8 bytes. */
	memcpy(p, (const u8[]){0x28, 0xb5, 0x2f, 0xfd, 0xe0}, 5);
	n = 5;
	memcpy(p + n, &size, 8);
	n += 8;
	/* Blocks of 128 KiB of one and the same byte. */
	while (n + 4 <= room) {
		u32 head = 1U << 1 | (128U << 10) << 3;

		memcpy(p + n, &head, 3);
		p[n + 3] = 'x';
		n += 4;
	}
	return n;
}

/* A literal, then matches that are longer than any buffer. */
static size_t bomb_lz4(u8 *p, size_t room)
{
	size_t n = 0;

	p[n++] = 0x1f;
	p[n++] = 'x';
	p[n++] = 1;
	p[n++] = 0;
	memset(p + n, 0xff, room - n);
	return room;
}

static void craft(struct victim *v, u8 *p, size_t stored)
{
	size_t room = stored - 4, n;
	u32 head;

	n = trand_below(&v->r, 2) ? bomb_zstd(p + 4, room) : bomb_lz4(p + 4, room);
	head = (u32)n;
	memcpy(p, &head, 4);
}

static void damage(struct victim *v, u8 *p, size_t stored)
{
	size_t at = trand_below(&v->r, stored);
	u32 head;

	switch (trand_below(&v->r, 9)) {
	case 0:
		memset(p, 0, stored);
		break;
	case 1: /* the end is missing */
		memset(p + at, 0, stored - at);
		break;
	case 2: /* or another's */
		for (size_t i = at; i < stored; i++)
			p[i] = (u8)trand_u64(&v->r);
		break;
	case 3: /* lengths that cannot be, or are not */
		head = trand_below(&v->r, 2) ? (u32)trand_u64(&v->r)
					     : (u32)trand_below(&v->r, stored + 5);
		memcpy(p, &head, 4);
		break;
	case 4:
		craft(v, p, stored);
		break;
	case 5: /* bytes missing, the rest moves up */
		memmove(p + at, p + at + (stored - at) / 2, stored - at - (stored - at) / 2);
		break;
	default: /* flips, most of them in the head */
		if (trand_below(&v->r, 2))
			at %= 40;
		for (unsigned i = 0; i <= trand_below(&v->r, 4); i++)
			p[(at + i * 37) % stored] ^= (u8)(1U << trand_below(&v->r, 8));
	}
}

/* Copygc moves what is right, and leaves what is not. */
static void move_bad(struct victim *v)
{
	struct alloc_gc_victim bucket = {.bucket =
						 v->place / SECTOR_BYTES / v->f->g.bucket_sectors};
	struct extent_ptr_decoded p;
	bool stuck;
	u64 moved;

	for_each_extent_ptr(bkey_i_to_s_c(&v->key.k), 0, it, p) bucket.gen = p.ptr.gen;
	DFS_OK(v->f, data_move_bucket(v->f->data, &bucket, &moved, &stuck));
	DFS_ASSERT(v->f, stuck, "moved");
	read_others(v);
}

static void damage_device(struct victim *v, unsigned rounds)
{
	u8 was[STORED_MAX], is[STORED_MAX];

	for (unsigned i = 0; i < rounds; i++) {
		size_t stored;

		key_get(v, (unsigned)trand_below(&v->r, EXTENTS));
		stored = (size_t)v->crc->stored_sectors * SECTOR_BYTES;
		sim_bdev_peek(v->f->bdev, v->place, was, stored);
		memcpy(is, was, stored);
		damage(v, is, stored);
		if (!memcmp(is, was, stored))
			continue;
		sim_bdev_poke(v->f->bdev, v->place, is, stored);
		if (v->f->g.csum_type) {
			u64 errors = v->errors;

			read_bad(v, false);
			DFS_ASSERT(v->f, v->errors == errors + 1, "read");
			if (i % 16 == 0)
				move_bad(v);
		} else {
			read_bad(v, true);
		}
		if (i % 8 == 0)
			read_others(v);
		sim_bdev_poke(v->f->bdev, v->place, was, stored);
	}
	read_all(v);
}

/* ---- what keys say ---- */

static u16 any_size(struct victim *v, u16 is)
{
	static const u16 some[] = {0,	1,   2,	  7,   8,   127, 128,  129,
				   255, 256, 511, 512, 513, 514, 4096, 65535};

	switch (trand_below(&v->r, 4)) {
	case 0:
		return (u16)(is + trand_below(&v->r, 17) - 8);
	case 1:
		return (u16)trand_u64(&v->r);
	case 2:
		return (u16)trand_below(&v->r, 513);
	default:
		return some[trand_below(&v->r, ARRAY_SIZE(some))];
	}
}

/* True: a reader must refuse it, whatever lies on the device. */
static bool craft_key(struct victim *v, struct bcfs_extent_crc *c)
{
	const u16 expands_to = c->uncompressed_sectors;
	const u8 compression = c->compression;

	switch (trand_below(&v->r, 7)) {
	case 0:
		c->stored_sectors = any_size(v, c->stored_sectors);
		break;
	case 1:
		c->uncompressed_sectors = any_size(v, c->uncompressed_sectors);
		break;
	case 2:
		c->live_offset = any_size(v, c->live_offset);
		break;
	case 3:
		c->compression = (u8)trand_below(&v->r, 16);
		break;
	case 4:
		c->live_offset = any_size(v, c->live_offset);
		c->uncompressed_sectors = any_size(v, c->uncompressed_sectors);
		break;
	case 5:
		c->nr_csums = any_size(v, c->nr_csums);
		break;
	default:
		c->stored_sectors = any_size(v, c->stored_sectors);
		c->uncompressed_sectors = any_size(v, c->uncompressed_sectors);
		c->compression = (u8)trand_below(&v->r, 16);
	}
	return extent_compressed(c) &&
	       (c->uncompressed_sectors != expands_to || c->compression != compression);
}

/* What no key may say. */
static bool impossible(const struct victim *v, const struct bcfs_extent_crc *c)
{
	return !c->stored_sectors || c->stored_sectors > BCFS_EXTENT_MAX_SECTORS ||
	       !c->uncompressed_sectors || c->uncompressed_sectors > BCFS_EXTENT_MAX_SECTORS ||
	       c->live_offset + EXTENT_SECS > c->uncompressed_sectors ||
	       c->compression >= BCFS_COMPRESSION_NR ||
	       (extent_compressed(c) && c->stored_sectors >= c->uncompressed_sectors) ||
	       (!extent_compressed(c) && c->stored_sectors != c->uncompressed_sectors);
}

static void craft_keys(struct victim *v, unsigned rounds)
{
	unsigned refused = 0, read = 0;

	for (unsigned i = 0; i < rounds; i++) {
		union data_key was;
		bool must_fail;
		u64 errors;
		int ret;

		key_get(v, (unsigned)trand_below(&v->r, EXTENTS));
		was = v->key;
		must_fail = craft_key(v, v->crc);
		ret = bkey_validate(btree_ops_table(v->f->btree), bkey_i_to_s_c(&v->key.k),
				    BTREE_ID_extents, 0, NULL);
		DFS_ASSERT(v->f, !ret || ret == -BCFS_ERR_extent_invalid_crc, "%s", err_name(ret));
		DFS_ASSERT(v->f, ret || !impossible(v, v->crc), "not seen");
		refused += !!ret;
		if (ret)
			continue;
		key_put(v, &v->key);
		errors = v->errors;
		read_bad(v, true);
		DFS_ASSERT(v->f, !must_fail || v->errors > errors, "read, though its key is wrong");
		read++;
		read_others(v);
		key_put(v, &was);
	}
	DFS_ASSERT(v->f, refused > rounds / 4 && read > rounds / 20, "%u refused, %u read", refused,
		   read);
	read_all(v);
}

/* ---- */

static void run(struct tfs *f)
{
	struct victim v = {.f = f, .r = f->seed};
	u64 done, seq;

	v.bytes = aligned_alloc(4096, FILE_LEN);
	v.buf = aligned_alloc(4096, FILE_LEN);
	f->quiet = true;
	for (unsigned type = BCFS_COMPRESSION_zstd; type <= BCFS_COMPRESSION_lz4; type++) {
		v.id = (struct data_file){UINT32_MAX, type, compression_opt(type, 0)};
		fill(&v.r, v.bytes, FILE_LEN);
		DFS_OK(f, data_write(f->data, &v.id, 0, v.bytes, FILE_LEN, 0, NULL, NULL, &done,
				     &seq));
		read_all(&v);
		v.errors = v.right = v.wrong = 0;
		damage_device(&v, trand_rounds(1500));
		DFS_ASSERT(f, v.errors > trand_rounds(1500) / 4, "%llu errors",
			   (unsigned long long)v.errors);
		craft_keys(&v, trand_rounds(600));
	}
	f->quiet = false;
	free(v.buf);
	free(v.bytes);
}

static void run_with(u64 seed, unsigned csum_type)
{
	struct tfs_geometry g = dfs_small;

	g.extent_sectors = EXTENT_SECS;
	g.bucket_sectors = 512;
	g.nr_buckets = 192;
	g.csum_type = (u8)csum_type;
	dfs_run(trand_seed(seed), &g, run);
}

Test(compress_damage, no_checksums)
{
	run_with(0xdad1, BCFS_CSUM_none);
}

Test(compress_damage, checksums)
{
	run_with(0xdad2, BCFS_CSUM_crc32c);
}
