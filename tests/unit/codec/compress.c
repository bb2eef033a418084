// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: what was compressed comes back, at every level, in the memory that was asked for; what was
 * damaged never yields more than it may and never reads or writes beyond its buffers; what is not
 * worth trying is seen.
 * Method: data of many kinds and lengths, there and back; damaged, cut and random input into
 * buffers of exactly the right size (for ASan). BCFS_TEST_SEED repeats a run.
 */
#include "codec/codec.h"
#include "util/errcode.h"
#include "util/printbuf.h"

#include "../test_rand.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LEN (256U << 10)

static const struct {
	unsigned type;
	int level;
} choices[] = {
	{BCFS_COMPRESSION_none, 0},  {BCFS_COMPRESSION_zstd, 0},  {BCFS_COMPRESSION_zstd, -50},
	{BCFS_COMPRESSION_zstd, -5}, {BCFS_COMPRESSION_zstd, 1},  {BCFS_COMPRESSION_zstd, 3},
	{BCFS_COMPRESSION_zstd, 9},  {BCFS_COMPRESSION_zstd, 15}, {BCFS_COMPRESSION_zstd, 19},
	{BCFS_COMPRESSION_lz4, 0},   {BCFS_COMPRESSION_lz4, 1},	  {BCFS_COMPRESSION_lz4, 2},
	{BCFS_COMPRESSION_lz4, 9},   {BCFS_COMPRESSION_lz4, 12},
};

static void *alloc(size_t n)
{
	void *p = malloc(n ?: 1);

	cr_assert_not_null(p);
	return p;
}

/* Kind 0: zeroes, 1: random, 2: words, 3: a mixture, 4: few byte values. */
static void fill(u8 *p, size_t len, unsigned kind, u64 *rng)
{
	static const char words[] = "static int ret = data_write(struct bcfs *fs, return -EIO); ";

	for (size_t i = 0; i < len; i++) {
		switch (kind == 3 ? (i / 5000) % 3 : kind) {
		case 0:
			p[i] = 0;
			break;
		case 1:
			p[i] = (u8)trand_u64(rng);
			break;
		case 2:
			p[i] = (u8)words[(i + trand_below(rng, 3)) % (sizeof(words) - 1)];
			break;
		default:
			p[i] = (u8)(trand_u64(rng) & 15);
		}
	}
}

/* The compressed length, or 0 if it does not fit into @room; comes back the same. */
static size_t there_and_back(unsigned type, int level, const u8 *src, size_t len, size_t room)
{
	size_t mem_len = max(compress_bytes(type, level, len), decompress_bytes(type)), n = 0;
	void *mem = alloc(mem_len), *dst = alloc(room), *back = alloc(len), *exact;
	struct codec_mem m = {mem, mem_len};
	int ret = compress_buf(type, level, &m, dst, room, src, len, &n);

	if (ret) {
		cr_assert_eq(ret, -BCFS_ERR_compress_incompressible, "%s:%d of %zu: %s",
			     compression_type_name(type), level, len, err_str(ret));
		n = 0;
	} else {
		cr_assert_leq(n, room);
		exact = alloc(n);
		memcpy(exact, dst, n);
		memset(mem, 0xee, mem_len);
		codec_mem_init(&m, mem, mem_len);
		ret = decompress_buf(type, &m, back, len, exact, n);
		cr_assert_eq(ret, 0, "%s:%d of %zu: %s", compression_type_name(type), level, len,
			     err_str(ret));
		cr_assert_eq(memcmp(back, src, len), 0);
		cr_assert_eq(decompress_buf(type, &m, back, len - 1, exact, n),
			     -BCFS_ERR_decompress);
		free(exact);
	}
	free(back);
	free(dst);
	free(mem);
	return n;
}

Test(compress, there_and_back)
{
	u64 rng = trand_seed(0xc0de);
	u8 *src = alloc(MAX_LEN);

	for (unsigned round = 0; round < trand_rounds(40); round++)
		for (unsigned i = 0; i < ARRAY_SIZE(choices); i++) {
			static const size_t lens[] = {512,   4096,   16384,  16385,
						      65536, 131072, MAX_LEN};
			size_t len = round < ARRAY_SIZE(lens) ? lens[round]
							      : 1 + trand_below(&rng, MAX_LEN);
			unsigned kind = (unsigned)trand_below(&rng, 5);
			size_t n;

			fill(src, len, kind, &rng);
			n = there_and_back(choices[i].type, choices[i].level, src, len, len);
			if (kind == 0 && choices[i].type && len > 1000)
				cr_assert(n && n < len / 10, "%zu of %zu zeroes", n, len);
			if (kind == 1 && choices[i].type && len > 1000)
				cr_assert_eq(n, 0, "%zu of %zu random bytes", n, len);
		}
	free(src);
}

Test(compress, room_that_is_too_small)
{
	u64 rng = trand_seed(0xc0df);
	u8 *src = alloc(20000);

	fill(src, 20000, 2, &rng);
	for (unsigned i = 0; i < ARRAY_SIZE(choices); i++) {
		size_t n = there_and_back(choices[i].type, choices[i].level, src, 20000, 20000);

		/* The fastest find nothing here. */
		cr_assert(n || choices[i].level < 0);
		for (size_t room = n > 40 ? n - 40 : 0; room < n; room++)
			there_and_back(choices[i].type, choices[i].level, src, 20000, room);
		cr_assert_eq(there_and_back(choices[i].type, choices[i].level, src, 20000, n / 2),
			     0);
	}
	free(src);
}

/*
 * Whatever was compressed and expanded in the same memory before, what comes out is what it would
 * be in new memory. After much that needs a fraction of the memory zstd wants it smaller.
 */
Test(compress, tables_are_kept)
{
	static const int levels[] = {0, -5, 1, 3, 7};
	size_t mem_len = decompress_bytes(BCFS_COMPRESSION_zstd);
	u8 *src = alloc(MAX_LEN), *dst = alloc(MAX_LEN), *want = alloc(MAX_LEN);
	u64 rng = trand_seed(0xc0e4);
	struct codec_mem m, new;
	unsigned small = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(levels); i++)
		mem_len = max(mem_len, compress_bytes(BCFS_COMPRESSION_zstd, levels[i], MAX_LEN));
	codec_mem_init(&m, alloc(mem_len), mem_len);
	codec_mem_init(&new, alloc(mem_len), mem_len);
	for (unsigned round = 0; round < trand_rounds(2000); round++) {
		unsigned type = !small && trand_below(&rng, 20) == 0 ? BCFS_COMPRESSION_lz4
								     : BCFS_COMPRESSION_zstd;
		int level = small ? 1 : levels[trand_below(&rng, ARRAY_SIZE(levels))];
		size_t len = small ? 700 : 1 + trand_below(&rng, MAX_LEN), n = 0, n_want = 0;

		small = small ? small - 1 : trand_below(&rng, 100) == 0 ? 300 : 0;
		fill(src, len, (unsigned)trand_below(&rng, 5), &rng);
		codec_mem_init(&new, new.mem, mem_len);
		int ret = compress_buf(type, level, &m, dst, len, src, len, &n);

		cr_assert_eq(ret, compress_buf(type, level, &new, want, len, src, len, &n_want));
		cr_assert_eq(n, n_want);
		if (ret)
			continue;
		cr_assert_eq(memcmp(dst, want, n), 0);
		if (small || trand_below(&rng, 2))
			continue;
		memset(want, 0, len);
		for (u64 bad = trand_below(&rng, 3); bad; bad--)
			cr_assert_lt(decompress_buf(type, &m, want, len, dst, n - 1), 0);
		cr_assert_eq(decompress_buf(type, &m, want, len, dst, n), 0);
		cr_assert_eq(memcmp(want, src, len), 0);
	}
	free(m.mem);
	free(new.mem);
	free(want);
	free(dst);
	free(src);
}

/* Bit flips, cuts, and bytes that were never compressed: never more than asked for. */
Test(compress, malformed)
{
	u64 rng = trand_seed(0xc0e0);
	size_t len = 9000, mem_len = decompress_bytes(BCFS_COMPRESSION_zstd), n;
	u8 *src = alloc(len), *dst = alloc(len), *back = alloc(len);
	void *mem = alloc(mem_len), *work;
	struct codec_mem m;
	unsigned refused = 0;

	fill(src, len, 3, &rng);
	for (unsigned type = BCFS_COMPRESSION_zstd; type <= BCFS_COMPRESSION_lz4; type++) {
		size_t work_len = compress_bytes(type, 0, len);

		work = alloc(work_len);
		codec_mem_init(&m, work, work_len);
		cr_assert_eq(compress_buf(type, 0, &m, dst, len, src, len, &n), 0);
		free(work);
		codec_mem_init(&m, mem, mem_len);
		for (unsigned round = 0; round < trand_rounds(20000); round++) {
			size_t cut = round % 3 ? n : trand_below(&rng, n + 1);
			u8 *bad = alloc(cut);

			memcpy(bad, dst, cut);
			for (u64 k = trand_below(&rng, 4); cut && k; k--)
				bad[trand_below(&rng, cut)] ^= (u8)(1U << trand_below(&rng, 8));
			if (round % 7 == 0)
				fill(bad, cut, 1, &rng);
			int ret = decompress_buf(
				type, &m, back, round % 2 ? len : trand_below(&rng, len), bad, cut);
			cr_assert(!ret || ret == -BCFS_ERR_decompress, "%s", err_str(ret));
			refused += !!ret;
			free(bad);
		}
	}
	cr_expect_gt(refused, trand_rounds(20000), "%u refused", refused);
	free(mem);
	free(back);
	free(dst);
	free(src);
}

/* Into exactly that much room: what comes out is that long, or it is refused. */
static bool refused(unsigned type, const u8 *src, size_t len, size_t room)
{
	size_t mem_len = decompress_bytes(type), have = mallinfo2().uordblks;
	void *mem = alloc(mem_len), *exact = alloc(len), *dst = alloc(room);
	struct codec_mem m = {mem, mem_len};
	int ret;

	memcpy(exact, src, len);
	have = mallinfo2().uordblks;
	ret = decompress_buf(type, &m, dst, room, exact, len);
	cr_assert_eq(mallinfo2().uordblks, have, "memory was allocated");
	cr_assert(!ret || ret == -BCFS_ERR_decompress, "%s", err_str(ret));
	free(dst);
	free(exact);
	free(mem);
	return ret;
}

/* A zstd frame of blocks of 128 KiB of one byte each, with the size it says to have. */
static size_t zstd_bomb(u8 *p, u64 says, unsigned blocks)
{
	size_t n = 0;

	memcpy(p, (const u8[]){0x28, 0xb5, 0x2f, 0xfd, 0xe0}, 5);
	n += 5;
	memcpy(p + n, &says, 8);
	n += 8;
	while (blocks--) {
		u32 head = (u32)!blocks | 1U << 1 | (128U << 10) << 3;

		memcpy(p + n, &head, 3);
		p[n + 3] = 'x';
		n += 4;
	}
	return n;
}

/* Frames that expand to more than there is room for, or say so. */
Test(compress, bombs)
{
	static const u64 says[] = {0,	     1,	       100,	   128U << 10,
				   1U << 20, 1U << 30, 1ULL << 62, UINT64_MAX};
	static const size_t rooms[] = {1, 512, 100000, MAX_LEN};
	u8 *p = alloc(MAX_LEN);
	size_t n;

	for (unsigned i = 0; i < ARRAY_SIZE(says); i++)
		for (unsigned k = 0; k < ARRAY_SIZE(rooms); k++) {
			n = zstd_bomb(p, says[i], 8192);
			cr_expect(refused(BCFS_COMPRESSION_zstd, p, n, rooms[k]));
		}
	/* The least such that is right. */
	n = zstd_bomb(p, 128U << 10, 1);
	cr_expect_not(refused(BCFS_COMPRESSION_zstd, p, n, 128U << 10));
	cr_expect(refused(BCFS_COMPRESSION_zstd, p, n, (128U << 10) - 1));
	cr_expect(refused(BCFS_COMPRESSION_zstd, p, n - 1, 128U << 10));
	/* Two of them, and one behind what is to be skipped: as long as both. */
	memcpy(p + n, p, n);
	cr_expect(refused(BCFS_COMPRESSION_zstd, p, 2 * n, 128U << 10));
	/* A window of the greatest size, not a single segment: memory is what was given. */
	memcpy(p, (const u8[]){0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0x00, 0x00}, 9);
	cr_expect(refused(BCFS_COMPRESSION_zstd, p, 9, 4096));
	/* Frames of zstd before 0.8. */
	for (u8 version = 0x21; version <= 0x27; version++) {
		memset(p, 0, 1000);
		memcpy(p, (const u8[]){version, 0xb5, 0x2f, 0xfd}, 4);
		cr_expect(refused(BCFS_COMPRESSION_zstd, p, 1000, 4096));
	}

	/* lz4: a match of 64 KiB for each 257 bytes, lengths that overflow, matches from before. */
	memset(p, 0xff, MAX_LEN);
	memcpy(p, (const u8[]){0x1f, 'x', 1, 0}, 4);
	for (unsigned k = 0; k < ARRAY_SIZE(rooms); k++) {
		cr_expect(refused(BCFS_COMPRESSION_lz4, p, MAX_LEN, rooms[k]));
		cr_expect(refused(BCFS_COMPRESSION_lz4, p, 4, rooms[k]));
		cr_expect(
			refused(BCFS_COMPRESSION_lz4, (const u8[]){0x10, 'x', 2, 0}, 4, rooms[k]));
		cr_expect(
			refused(BCFS_COMPRESSION_lz4, (const u8[]){0x10, 'x', 0, 0}, 4, rooms[k]));
		cr_expect(refused(BCFS_COMPRESSION_lz4, (const u8[]){0xf0, 0xff}, 2, rooms[k]));
	}
	free(p);
}

/*
 * Frames made of parts of others: bytes go, come, are doubled and changed, heads and ends of one
 * codec's are put upon another's.
 */
Test(compress, spliced)
{
	u64 rng = trand_seed(0xc0e2);
	u8 *src = alloc(MAX_LEN), *made[8], *p = alloc(2 * MAX_LEN);
	size_t n[ARRAY_SIZE(made)];
	unsigned nr_refused = 0, rounds = trand_rounds(6000);

	for (unsigned i = 0; i < ARRAY_SIZE(made); i++) {
		unsigned type = i % 2 ? BCFS_COMPRESSION_lz4 : BCFS_COMPRESSION_zstd;
		size_t len = 2000 + trand_below(&rng, 40000),
		       mem_len = compress_bytes(type, 0, len);
		void *mem = alloc(mem_len);
		struct codec_mem m = {mem, mem_len};

		made[i] = alloc(len);
		fill(src, len, 2 + i / 2 % 3, &rng);
		n[i] = 0;
		cr_assert_eq(compress_buf(type, 0, &m, made[i], len, src, len, &n[i]), 0);
		free(mem);
	}
	for (unsigned round = 0; round < rounds; round++) {
		size_t len = 0;

		for (u64 parts = 1 + trand_below(&rng, 3); parts; parts--) {
			unsigned i = (unsigned)trand_below(&rng, ARRAY_SIZE(made));
			size_t from = trand_below(&rng, 2) ? 0 : trand_below(&rng, n[i]);
			size_t part = trand_below(&rng, 2) ? n[i] - from
							   : trand_below(&rng, n[i] - from + 1);

			part = min(part, 2 * MAX_LEN - len);
			memcpy(p + len, made[i] + from, part);
			len += part;
		}
		for (u64 k = trand_below(&rng, 3); len && k; k--)
			p[trand_below(&rng, trand_below(&rng, 2) ? len : min(len, (size_t)20))] =
				(u8)trand_u64(&rng);
		nr_refused += refused(round % 2 ? BCFS_COMPRESSION_lz4 : BCFS_COMPRESSION_zstd, p,
				      len, 1 + trand_below(&rng, 50000));
	}
	cr_expect_gt(nr_refused, rounds / 2, "%u", nr_refused);
	for (unsigned i = 0; i < ARRAY_SIZE(made); i++)
		free(made[i]);
	free(p);
	free(src);
}

Test(compress, hopeless)
{
	u64 rng = trand_seed(0xc0e1);
	size_t mem_len = compress_hopeless_bytes();
	void *mem = alloc(mem_len);
	u8 *src = alloc(MAX_LEN);
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (unsigned kind = 0; kind < 5; kind++) {
		fill(src, MAX_LEN, kind, &rng);
		cr_expect_eq(compress_hopeless(mem, mem_len, src, MAX_LEN), kind == 1, "kind %u",
			     kind);
	}
	/* No repetitions, but six bits in each byte. */
	for (unsigned i = 0; i < MAX_LEN; i++)
		src[i] = (u8)digits[trand_below(&rng, 64)];
	cr_expect_not(compress_hopeless(mem, mem_len, src, MAX_LEN));
	fill(src, MAX_LEN, 1, &rng);
	cr_expect_not(compress_hopeless(mem, mem_len, src, 8192), "too short to tell");
	cr_expect_not(compress_hopeless(mem, 0, src, MAX_LEN), "no memory");
	free(src);
	free(mem);
}

Test(compress, levels)
{
	struct printbuf err = PRINTBUF;

	cr_expect_eq(compression_level_check(BCFS_COMPRESSION_zstd, 19, &err), 0);
	cr_expect_eq(compression_level_check(BCFS_COMPRESSION_zstd, -50, &err), 0);
	cr_expect_eq(compression_level_check(BCFS_COMPRESSION_lz4, 0, &err), 0);
	cr_expect_str_eq(printbuf_str(&err), "");
	cr_expect_eq(compression_level_check(BCFS_COMPRESSION_zstd, 20, &err),
		     -BCFS_ERR_codec_level);
	cr_expect_str_eq(printbuf_str(&err), "compression level 20 of zstd: not one of -50 to 19");
	printbuf_reset(&err);
	cr_expect_eq(compression_level_check(BCFS_COMPRESSION_lz4, -1, &err),
		     -BCFS_ERR_codec_level);
	cr_expect_str_eq(printbuf_str(&err), "compression level -1 of lz4: not one of 1 to 12");
	printbuf_reset(&err);
	cr_expect_eq(compression_level_check(BCFS_COMPRESSION_none, 1, &err),
		     -BCFS_ERR_codec_level);
	cr_expect_str_eq(printbuf_str(&err), "compression none has no levels");
	printbuf_exit(&err);
}

/* A superblock or an inode may have any byte for a level: it is as good as one that there is. */
Test(compress, levels_from_the_device)
{
	u64 rng = trand_seed(0xc0e3);
	u8 *src = alloc(6000);
	struct codec_mem m = {0};
	size_t n;

	fill(src, 6000, 2, &rng);
	for (int level = INT8_MIN; level <= INT8_MAX; level++) {
		u16 opt = compression_opt(BCFS_COMPRESSION_zstd, level);

		cr_assert_eq(compression_opt_level(opt), level);
		cr_expect_lt(compress_bytes(BCFS_COMPRESSION_zstd, level, MAX_LEN), 16 << 20);
		cr_expect_lt(compress_bytes(BCFS_COMPRESSION_lz4, level, MAX_LEN), 16 << 20);
		there_and_back(BCFS_COMPRESSION_zstd, level, src, 6000, 6000);
		there_and_back(BCFS_COMPRESSION_lz4, level, src, 6000, 6000);
	}
	for (unsigned type = BCFS_COMPRESSION_NR; type < 16; type++) {
		cr_expect_eq(compress_bytes(type, 0, 6000), 0);
		cr_expect_lt(compress_buf(type, 0, &m, src, 6000, src, 6000, &n), 0);
		cr_expect_lt(decompress_buf(type, &m, src, 6000, src, 6000), 0);
	}
	free(src);
}

Test(compress, options)
{
	static const char *const good[] = {"none", "zstd", "zstd:19", "zstd:-7", "lz4", "lz4:9"};
	static const char *const bad[] = {"",
					  "zst",
					  "zstd:",
					  "zstd:0",
					  "zstd:20",
					  "zstd:x",
					  "zstd:3x",
					  "zstd:300",
					  "lz4:13",
					  "lz4:-1",
					  "none:1",
					  "gzip",
					  "zstd:-51",
					  "zstdzstdzstdzstdzstd",
					  "incompressible"};
	struct printbuf out = PRINTBUF;
	u16 opt;

	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		printbuf_reset(&out);
		cr_expect_eq(compression_opt_parse(good[i], &opt, &out), 0, "%s", good[i]);
		cr_expect_lt(opt, 1 << 12);
		compression_opt_to_text(&out, opt);
		cr_expect_str_eq(printbuf_str(&out), good[i]);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		printbuf_reset(&out);
		cr_expect_lt(compression_opt_parse(bad[i], &opt, &out), 0, "%s", bad[i]);
		cr_expect(*printbuf_str(&out), "%s", bad[i]);
	}
	printbuf_reset(&out);
	compression_opt_parse("gzip", &opt, &out);
	cr_expect_str_eq(printbuf_str(&out), "unknown compression \"gzip\"; there are: none "
					     "zstd[:-50 to 19] lz4[:1 to 12]");
	printbuf_exit(&out);
}
