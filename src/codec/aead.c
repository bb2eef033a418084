// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The table of authenticated encryption.
 *
 * XChaCha20-Poly1305 as in draft-irtf-cfrg-xchacha-03, put together from libsodium's stream and
 * authenticator because its own call takes neither pieces nor leaves the buffer as it was when the
 * tag is wrong: what this yields is the same, and a test holds it against libsodium's, byte by
 * byte.
 */
#include "codec/codec.h"
#include "util/errcode.h"

#include <assert.h>
#include <sodium/crypto_core_hchacha20.h>
#include <sodium/crypto_onetimeauth_poly1305.h>
#include <sodium/crypto_stream_chacha20.h>
#include <sodium/crypto_verify_16.h>
#include <sodium/utils.h>
#include <string.h>

#define CHACHA_BLOCK 64U
#define TAG_BYTES    16U

struct aead_op {
	const struct csum_key *key;
	const struct bcfs_nonce *nonce;
	const struct csum_iov *ad;
	unsigned nr_ad;
	const struct aead_iov *data; /* where it goes, and is */
	unsigned nr;
	const void *src; /* of a single piece: where it is instead; NULL: in place */
	size_t from, to; /* of a single piece: what is opened of it; the rest is only verified */
};

struct aead_ops {
	void (*seal)(const struct aead_op *op, struct bcfs_csum *ret_tag);
	int (*open)(const struct aead_op *op, const struct bcfs_csum *tag);
};

/* ---- XChaCha20-Poly1305 ---- */

/* What HChaCha20 makes of key and nonce: a ChaCha20 with its own key and a nonce of 8 bytes. */
struct xchacha {
	u8 key[32];
	const u8 *nonce;
};

static void xchacha_init(struct xchacha *x, const struct aead_op *op)
{
	crypto_core_hchacha20(x->key, op->nonce->b, op->key->b, NULL);
	x->nonce = op->nonce->b + 16;
}

/* Of the data, which begins with the stream's second block; the first is the authenticator's key.
 */
static void xchacha_xor(const struct xchacha *x, const struct aead_op *op)
{
	u64 pos = CHACHA_BLOCK;

	if (op->src) {
		crypto_stream_chacha20_xor_ic(op->data[0].p, op->src, op->data[0].len, x->nonce,
					      pos / CHACHA_BLOCK, x->key);
		return;
	}
	for (unsigned i = 0; i < op->nr; i++) {
		u8 *p = op->data[i].p;
		size_t left = op->data[i].len;
		unsigned skip = pos % CHACHA_BLOCK;

		if (left && skip) { /* the piece before ended in the midst of a block */
			unsigned n = min_t(size_t, left, CHACHA_BLOCK - skip);
			u8 ks[CHACHA_BLOCK] = {0};

			crypto_stream_chacha20_xor_ic(ks, ks, sizeof(ks), x->nonce,
						      pos / CHACHA_BLOCK, x->key);
			for (unsigned k = 0; k < n; k++)
				p[k] ^= ks[skip + k];
			sodium_memzero(ks, sizeof(ks));
			p += n;
			left -= n;
			pos += n;
		}
		if (left)
			crypto_stream_chacha20_xor_ic(p, p, left, x->nonce, pos / CHACHA_BLOCK,
						      x->key);
		pos += left;
	}
}

static void poly_pad(crypto_onetimeauth_poly1305_state *st, u64 len)
{
	static const u8 zero[16];

	if (len % 16)
		crypto_onetimeauth_poly1305_update(st, zero, 16 - len % 16);
}

/* Of what is encrypted. @src: where that is, as in struct aead_op. */
static void xchacha_tag(const struct xchacha *x, const struct aead_op *op, const void *src,
			struct bcfs_csum *ret)
{
	crypto_onetimeauth_poly1305_state st;
	u64 len[2] = {0, 0};
	u8 key[CHACHA_BLOCK];

	crypto_stream_chacha20(key, sizeof(key), x->nonce, x->key);
	crypto_onetimeauth_poly1305_init(&st, key);
	for (unsigned i = 0; i < op->nr_ad; i++) {
		if (op->ad[i].len)
			crypto_onetimeauth_poly1305_update(&st, op->ad[i].p, op->ad[i].len);
		len[0] += op->ad[i].len;
	}
	poly_pad(&st, len[0]);
	for (unsigned i = 0; i < op->nr; i++) {
		if (op->data[i].len)
			crypto_onetimeauth_poly1305_update(&st, src ?: op->data[i].p,
							   op->data[i].len);
		len[1] += op->data[i].len;
	}
	poly_pad(&st, len[1]);
	crypto_onetimeauth_poly1305_update(&st, (const u8 *)len, sizeof(len));
	memset(ret, 0, sizeof(*ret));
	crypto_onetimeauth_poly1305_final(&st, ret->b);
	sodium_memzero(&st, sizeof(st));
	sodium_memzero(key, sizeof(key));
}

static void xchacha_seal(const struct aead_op *op, struct bcfs_csum *ret_tag)
{
	struct xchacha x;

	xchacha_init(&x, op);
	xchacha_xor(&x, op);
	xchacha_tag(&x, op, NULL, ret_tag);
	sodium_memzero(&x, sizeof(x));
}

/* The bytes [from, to) of a single piece, and what shares a block of the stream with them. */
static void xchacha_xor_part(const struct xchacha *x, const struct aead_op *op)
{
	size_t from = round_down(op->from, (size_t)CHACHA_BLOCK);
	size_t to = min(round_up(op->to, (size_t)CHACHA_BLOCK), op->data[0].len);
	u8 *p = op->data[0].p;

	if (op->from < op->to)
		crypto_stream_chacha20_xor_ic(p + from, p + from, to - from, x->nonce,
					      1 + from / CHACHA_BLOCK, x->key);
}

static int xchacha_open(const struct aead_op *op, const struct bcfs_csum *tag)
{
	struct bcfs_csum want;
	struct xchacha x;
	bool good;

	xchacha_init(&x, op);
	xchacha_tag(&x, op, op->src, &want);
	/* Not told by the time it takes; both halves of 32 bytes. */
	good = !(crypto_verify_16(want.b, tag->b) |
		 crypto_verify_16(want.b + TAG_BYTES, tag->b + TAG_BYTES));
	if (good && op->nr == 1)
		xchacha_xor_part(&x, op);
	else if (good)
		xchacha_xor(&x, op);
	sodium_memzero(&x, sizeof(x));
	sodium_memzero(&want, sizeof(want));
	return good ? 0 : -BCFS_ERR_aead_mismatch;
}

/* ---- the table ---- */

static const struct aead_ops aead_ops[BCFS_CSUM_NR] = {
	[BCFS_CSUM_xchacha20_poly1305] = {xchacha_seal, xchacha_open},
};

static int aead_check(unsigned type)
{
	if (type >= BCFS_CSUM_NR)
		return -BCFS_ERR_codec_unknown;
	return aead_ops[type].seal ? 0 : -BCFS_ERR_codec_unsupported;
}

static int seal_op(const struct aead_op *op, unsigned type, struct bcfs_csum *ret_tag)
{
	int ret = aead_check(type);

	if (!ret) {
		assert(op->key && op->key->gen && op->nonce);
		aead_ops[type].seal(op, ret_tag);
	}
	return ret;
}

static int open_op(const struct aead_op *op, unsigned type, const struct bcfs_csum *tag)
{
	int ret = aead_check(type);

	if (!ret) {
		assert(op->key && op->key->gen && op->nonce);
		ret = aead_ops[type].open(op, tag);
	}
	return ret;
}

int aead_seal_iov(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		  const struct csum_iov *ad, unsigned nr_ad, const struct aead_iov *data,
		  unsigned nr, struct bcfs_csum *ret_tag)
{
	const struct aead_op op = {
		.key = key, .nonce = nonce, .ad = ad, .nr_ad = nr_ad, .data = data, .nr = nr};

	return seal_op(&op, type, ret_tag);
}

int aead_open_iov(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		  const struct csum_iov *ad, unsigned nr_ad, const struct aead_iov *data,
		  unsigned nr, const struct bcfs_csum *tag)
{
	const struct aead_op op = {.key = key,
				   .nonce = nonce,
				   .ad = ad,
				   .nr_ad = nr_ad,
				   .data = data,
				   .nr = nr,
				   .to = nr == 1 ? data[0].len : 0};

	return open_op(&op, type, tag);
}

int aead_seal(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
	      const void *ad, size_t ad_len, void *buf, size_t len, struct bcfs_csum *ret_tag)
{
	const struct csum_iov a = {ad, ad_len};
	const struct aead_iov d = {buf, len};

	return aead_seal_iov(key, type, nonce, &a, 1, &d, 1, ret_tag);
}

int aead_open(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
	      const void *ad, size_t ad_len, void *buf, size_t len, const struct bcfs_csum *tag)
{
	const struct csum_iov a = {ad, ad_len};
	const struct aead_iov d = {buf, len};

	return aead_open_iov(key, type, nonce, &a, 1, &d, 1, tag);
}

int aead_open_part(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		   const void *ad, size_t ad_len, void *buf, size_t len, size_t from, size_t to,
		   const struct bcfs_csum *tag)
{
	const struct csum_iov a = {ad, ad_len};
	const struct aead_iov d = {buf, len};
	const struct aead_op op = {.key = key,
				   .nonce = nonce,
				   .ad = &a,
				   .nr_ad = 1,
				   .data = &d,
				   .nr = 1,
				   .from = from,
				   .to = to};

	assert(from <= to && to <= len);
	return open_op(&op, type, tag);
}

int aead_seal_to(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		 const void *ad, size_t ad_len, void *dst, const void *src, size_t len,
		 struct bcfs_csum *ret_tag)
{
	const struct csum_iov a = {ad, ad_len};
	const struct aead_iov d = {dst, len};
	const struct aead_op op = {
		.key = key, .nonce = nonce, .ad = &a, .nr_ad = 1, .data = &d, .nr = 1, .src = src};

	return seal_op(&op, type, ret_tag);
}

int aead_verify(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		const void *ad, size_t ad_len, const void *buf, size_t len,
		const struct bcfs_csum *tag)
{
	const struct csum_iov a = {ad, ad_len};
	const struct aead_iov d = {NULL, len};
	const struct aead_op op = {
		.key = key, .nonce = nonce, .ad = &a, .nr_ad = 1, .data = &d, .nr = 1, .src = buf};

	return open_op(&op, type, tag);
}

struct bcfs_nonce aead_chunk_nonce(const struct bcfs_nonce *nonce, u32 chunk)
{
	struct bcfs_nonce n = *nonce;
	u32 v;

	memcpy(&v, n.b + 20, sizeof(v));
	v ^= chunk;
	memcpy(n.b + 20, &v, sizeof(v));
	return n;
}
