// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: the checksums are the published ones, in one piece or in many, and the
 * crcs see every single bit flip; what is not there refuses by name.
 * Method: published vectors; random data cut at random places; every bit of
 * random buffers flipped in turn. BCFS_TEST_SEED repeats a run.
 */
#include "codec/codec.h"
#include "util/errcode.h"
#include "util/printbuf.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static u64 rng;

static u64 rnd(void)
{
	u64 z = (rng += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static u64 seed_rng(void)
{
	const char *s = getenv("BCFS_TEST_SEED");
	u64 seed = s ? strtoull(s, NULL, 0) : (u64)time(NULL);

	return rng = seed;
}

static void fill(u8 *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = rnd();
}

static void expect_vec(unsigned type, const char *data, const char *hex)
{
	struct bcfs_csum c;
	struct printbuf out = PRINTBUF;

	cr_assert_eq(csum_compute(NULL, type, NULL, NULL, 0, data, strlen(data), &c), 0);
	prt_hex(&out, c.b, csum_bytes(type));
	cr_expect_str_eq(printbuf_str(&out), hex, "%s(\"%s\") = %s", csum_type_name(type), data,
			 printbuf_str(&out));
	for (unsigned i = csum_bytes(type); i < sizeof(c.b); i++)
		cr_expect_eq(c.b[i], 0);
	printbuf_exit(&out);
}

Test(codec, vectors)
{
	/* The numbers as they are stored: little-endian. */
	expect_vec(BCFS_CSUM_none, "123456789", "");
	expect_vec(BCFS_CSUM_crc32c, "123456789", "839206e3");
	expect_vec(BCFS_CSUM_crc32c, "", "00000000");
	expect_vec(BCFS_CSUM_crc64, "123456789", "fa3919dfbbc95d99");
	expect_vec(BCFS_CSUM_crc64, "", "0000000000000000");
	expect_vec(BCFS_CSUM_xxh3, "", "c294d3380580062d");
	expect_vec(BCFS_CSUM_blake2b, "abc",
		   "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}

/* RFC 3720, B.4: 32 bytes of zeroes, of ones, rising, falling. */
Test(codec, crc32c_rfc3720)
{
	static const u32 want[4] = {0x8a9136aa, 0x62a8ab43, 0x46dd794e, 0x113fdb5c};
	u8 buf[4][32];

	memset(buf[0], 0, 32);
	memset(buf[1], 0xff, 32);
	for (int i = 0; i < 32; i++) {
		buf[2][i] = i;
		buf[3][i] = 31 - i;
	}
	for (int i = 0; i < 4; i++) {
		struct bcfs_csum c;
		u32 v;

		cr_assert_eq(csum_compute(NULL, BCFS_CSUM_crc32c, NULL, NULL, 0, buf[i], 32, &c),
			     0);
		memcpy(&v, c.b, 4);
		cr_expect_eq(v, want[i], "%d: %08x", i, v);
	}
}

Test(codec, pieces_equal_whole)
{
	static u8 buf[20000];
	u64 seed = seed_rng();

	for (int round = 0; round < 400; round++) {
		size_t len = rnd() % (round % 2 ? sizeof(buf) : 600);
		struct csum_iov iov[9];
		unsigned nr = 1 + rnd() % 9;
		size_t at = 0;

		fill(buf, len);
		for (unsigned i = 0; i < nr; i++) {
			size_t n = i == nr - 1 ? len - at : rnd() % (len - at + 1);

			iov[i] = (struct csum_iov){buf + at, n};
			at += n;
		}
		for (unsigned type = 0; type < BCFS_CSUM_NR; type++) {
			struct bcfs_csum a, b, c;

			if (csum_type_is_aead(type))
				continue;
			cr_assert_eq(csum_compute(NULL, type, NULL, NULL, 0, buf, len, &a), 0);
			cr_assert_eq(csum_compute_iov(NULL, type, NULL, iov, nr, &b), 0);
			at = rnd() % (len + 1);
			cr_assert_eq(
				csum_compute(NULL, type, NULL, buf, at, buf + at, len - at, &c), 0);
			cr_assert(!memcmp(&a, &b, sizeof(a)), "%s, seed %" PRIu64,
				  csum_type_name(type), seed);
			cr_assert(!memcmp(&a, &c, sizeof(a)), "%s, seed %" PRIu64,
				  csum_type_name(type), seed);
			cr_assert_eq(csum_verify_iov(NULL, type, NULL, iov, nr, &a), 0);
		}
	}
}

Test(codec, every_bit_flip_is_seen)
{
	u8 buf[1024];
	u64 seed = seed_rng();

	for (int round = 0; round < 8; round++) {
		size_t len = 1 + rnd() % sizeof(buf);

		fill(buf, len);
		for (unsigned type = BCFS_CSUM_crc32c; type <= BCFS_CSUM_blake2b; type++) {
			struct bcfs_csum c;

			cr_assert_eq(csum_compute(NULL, type, NULL, NULL, 0, buf, len, &c), 0);
			for (size_t bit = 0; bit < len * 8; bit++) {
				buf[bit / 8] ^= 1 << bit % 8;
				cr_assert_eq(csum_verify(NULL, type, NULL, NULL, 0, buf, len, &c),
					     -BCFS_ERR_csum_mismatch, "%s bit %zu, seed %" PRIu64,
					     csum_type_name(type), bit, seed);
				buf[bit / 8] ^= 1 << bit % 8;
			}
			for (unsigned bit = 0; bit < sizeof(c.b) * 8; bit++) {
				c.b[bit / 8] ^= 1 << bit % 8;
				cr_assert_eq(csum_verify(NULL, type, NULL, NULL, 0, buf, len, &c),
					     -BCFS_ERR_csum_mismatch);
				c.b[bit / 8] ^= 1 << bit % 8;
			}
		}
	}
}

Test(codec, names)
{
	for (unsigned i = 0; i < BCFS_CSUM_NR; i++)
		cr_expect_eq(csum_type_from_name(csum_type_name(i)), (int)i);
	cr_expect_null(csum_type_names[BCFS_CSUM_NR]);
	for (unsigned i = 0; i < BCFS_COMPRESSION_NR; i++)
		cr_expect_eq(compression_type_from_name(compression_type_name(i)), (int)i);
	cr_expect_null(compression_type_names[BCFS_COMPRESSION_NR]);
	cr_expect_eq(csum_type_from_name("md5"), -BCFS_ERR_codec_unknown);
	cr_expect_str_eq(csum_type_name(77), "unknown");
	cr_expect_eq(csum_bytes(77), 0);
	cr_expect_eq(csum_bytes(BCFS_CSUM_xchacha20_poly1305), 16);
}

Test(codec, refusals)
{
	struct codec_mem none = {0}, little;
	struct printbuf err = PRINTBUF;
	struct bcfs_csum c, before;
	struct csum_key key = {{0}, 1};
	struct bcfs_nonce nonce = {{0}};
	u8 buf[16] = "as it was", out[16];
	size_t len = 99;

	memset(&c, 0x5a, sizeof(c));
	before = c;
	cr_expect_eq(csum_compute(NULL, 77, NULL, NULL, 0, buf, 16, &c), -BCFS_ERR_codec_unknown);
	cr_expect_eq(csum_compute(&key, BCFS_CSUM_xchacha20_poly1305, &nonce, NULL, 0, buf, 16, &c),
		     -BCFS_ERR_codec_unsupported);
	cr_expect_eq(aead_seal(&key, BCFS_CSUM_blake2b, &nonce, NULL, 0, buf, 16, &c),
		     -BCFS_ERR_codec_unsupported);
	cr_expect_eq(aead_open(&key, BCFS_CSUM_none, &nonce, NULL, 0, buf, 16, &c),
		     -BCFS_ERR_codec_unsupported);
	cr_expect_eq(aead_seal(&key, 77, &nonce, NULL, 0, buf, 16, &c), -BCFS_ERR_codec_unknown);
	cr_expect(!memcmp(&c, &before, sizeof(c)) && !strcmp((char *)buf, "as it was"));

	cr_expect_eq(csum_type_check(BCFS_CSUM_xxh3, &err), 0);
	cr_expect_str_eq(printbuf_str(&err), "");
	cr_expect_eq(csum_type_check(BCFS_CSUM_xchacha20_poly1305, &err),
		     -BCFS_ERR_codec_unsupported);
	cr_expect_str_eq(printbuf_str(&err),
			 "xchacha20_poly1305 is no checksum but what encryption uses; "
			 "there are: none crc32c crc64 xxh3 blake2b");
	printbuf_reset(&err);
	cr_expect_eq(compression_type_check(BCFS_COMPRESSION_incompressible, &err),
		     -BCFS_ERR_codec_unsupported);
	cr_expect_str_eq(printbuf_str(&err),
			 "compression type incompressible is not supported by this "
			 "build; there are: none zstd[:-50 to 19] lz4[:1 to 12]");
	cr_expect_eq(compression_type_check(BCFS_COMPRESSION_none, NULL), 0);
	cr_expect_eq(compression_type_check(77, NULL), -BCFS_ERR_codec_unknown);
	printbuf_exit(&err);

	codec_mem_init(&little, out, 16);
	cr_expect_eq(compress_buf(77, 0, &none, out, 16, buf, 16, &len), -BCFS_ERR_codec_unknown);
	cr_expect_eq(decompress_buf(77, &none, out, 16, buf, 16), -BCFS_ERR_codec_unknown);
	cr_expect_eq(compress_buf(BCFS_COMPRESSION_zstd, 0, &little, out, 16, buf, 16, &len),
		     -BCFS_ERR_nomem);
	cr_expect_eq(len, 99);
	cr_expect_eq(compress_buf(BCFS_COMPRESSION_none, 0, &none, out, 16, buf, 16, &len), 0);
	cr_expect_eq(len, 16);
	cr_expect_eq(compress_buf(BCFS_COMPRESSION_none, 0, &none, out, 15, buf, 16, &len),
		     -BCFS_ERR_compress_incompressible);
	cr_expect_eq(decompress_buf(BCFS_COMPRESSION_none, &none, out, 15, buf, 16),
		     -BCFS_ERR_decompress);
}
