// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The table of checksums. A row without compute has a name and a number, and is no checksum:
 * aead.c has what encrypts.
 */
#include "codec/codec.h"
#include "util/errcode.h"
#include "util/printbuf.h"

#include <isa-l.h>
#include <limits.h>
#include <sodium/crypto_generichash.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

struct csum_ops {
	bool aead;
	/* out is zeroed before. */
	int (*compute)(const struct csum_iov *iov, unsigned nr, struct bcfs_csum *out);
};

static int compute_none(const struct csum_iov *iov, unsigned nr, struct bcfs_csum *out)
{
	return 0;
}

/* ISA-L neither seeds nor inverts by itself, and takes lengths as int. */
static int compute_crc32c(const struct csum_iov *iov, unsigned nr, struct bcfs_csum *out)
{
	u32 crc = ~0U;

	for (unsigned i = 0; i < nr; i++) {
		const u8 *p = iov[i].p;
		size_t left = iov[i].len;

		while (left) {
			int n = min_t(size_t, left, INT_MAX & ~63);

			crc = crc32_iscsi((unsigned char *)p, n, crc);
			p += n;
			left -= n;
		}
	}
	crc = ~crc;
	memcpy(out->b, &crc, sizeof(crc));
	return 0;
}

/* CRC-64/XZ (ECMA-182, reflected); ISA-L inverts on both ends, so calls chain. */
static int compute_crc64(const struct csum_iov *iov, unsigned nr, struct bcfs_csum *out)
{
	u64 crc = 0;

	for (unsigned i = 0; i < nr; i++)
		if (iov[i].len)
			crc = crc64_ecma_refl(crc, iov[i].p, iov[i].len);
	memcpy(out->b, &crc, sizeof(crc));
	return 0;
}

static int compute_xxh3(const struct csum_iov *iov, unsigned nr, struct bcfs_csum *out)
{
	u64 h;

	if (nr == 1) {
		h = XXH3_64bits(iov[0].p, iov[0].len);
	} else {
		XXH3_state_t st;

		XXH3_INITSTATE(&st);
		XXH3_64bits_reset(&st);
		for (unsigned i = 0; i < nr; i++)
			if (iov[i].len)
				XXH3_64bits_update(&st, iov[i].p, iov[i].len);
		h = XXH3_64bits_digest(&st);
	}
	memcpy(out->b, &h, sizeof(h));
	return 0;
}

static int compute_blake2b(const struct csum_iov *iov, unsigned nr, struct bcfs_csum *out)
{
	crypto_generichash_state st;

	crypto_generichash_init(&st, NULL, 0, sizeof(out->b));
	for (unsigned i = 0; i < nr; i++)
		if (iov[i].len)
			crypto_generichash_update(&st, iov[i].p, iov[i].len);
	crypto_generichash_final(&st, out->b, sizeof(out->b));
	return 0;
}

static const struct csum_ops csum_ops[BCFS_CSUM_NR] = {
	[BCFS_CSUM_none] = {.compute = compute_none},
	[BCFS_CSUM_crc32c] = {.compute = compute_crc32c},
	[BCFS_CSUM_crc64] = {.compute = compute_crc64},
	[BCFS_CSUM_xxh3] = {.compute = compute_xxh3},
	[BCFS_CSUM_blake2b] = {.compute = compute_blake2b},
	[BCFS_CSUM_xchacha20_poly1305] = {.aead = true},
};

const char *const csum_type_names[] = {
#define x(name, nr, bytes) [nr] = #name,
	BCFS_CSUM_TYPES(x)
#undef x
		NULL,
};

static const u8 csum_sizes[BCFS_CSUM_NR] = {
#define x(name, nr, bytes) [nr] = bytes,
	BCFS_CSUM_TYPES(x)
#undef x
};

unsigned csum_bytes(unsigned type)
{
	return type < BCFS_CSUM_NR ? csum_sizes[type] : 0;
}

const char *csum_type_name(unsigned type)
{
	return type < BCFS_CSUM_NR ? csum_type_names[type] : "unknown";
}

bool csum_type_is_aead(unsigned type)
{
	return type < BCFS_CSUM_NR && csum_ops[type].aead;
}

int csum_type_from_name(const char *name)
{
	for (unsigned i = 0; i < BCFS_CSUM_NR; i++)
		if (!strcmp(name, csum_type_names[i]))
			return i;
	return -BCFS_ERR_codec_unknown;
}

int csum_type_check(unsigned type, struct printbuf *err)
{
	bool known = type < BCFS_CSUM_NR;

	if (known && csum_ops[type].compute)
		return 0;
	if (err) {
		if (known)
			prt_printf(err, "%s is no checksum but what encryption uses",
				   csum_type_names[type]);
		else
			prt_printf(err, "checksum type %u is unknown", type);
		prt_str(err, "; there are:");
		for (unsigned i = 0; i < BCFS_CSUM_NR; i++)
			if (csum_ops[i].compute)
				prt_printf(err, " %s", csum_type_names[i]);
	}
	return known ? -BCFS_ERR_codec_unsupported : -BCFS_ERR_codec_unknown;
}

int csum_compute_iov(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		     const struct csum_iov *iov, unsigned nr, struct bcfs_csum *ret)
{
	struct bcfs_csum out = {0};
	int err;

	if (type >= BCFS_CSUM_NR)
		return -BCFS_ERR_codec_unknown;
	if (!csum_ops[type].compute)
		return -BCFS_ERR_codec_unsupported;
	err = csum_ops[type].compute(iov, nr, &out);
	if (!err)
		*ret = out;
	return err;
}

int csum_compute(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		 const void *ad, size_t ad_len, const void *data, size_t len, struct bcfs_csum *ret)
{
	struct csum_iov iov[2] = {{ad, ad_len}, {data, len}};

	if (!ad_len)
		return csum_compute_iov(key, type, nonce, iov + 1, 1, ret);
	return csum_compute_iov(key, type, nonce, iov, 2, ret);
}

int csum_verify_iov(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		    const struct csum_iov *iov, unsigned nr, const struct bcfs_csum *expected)
{
	struct bcfs_csum got;
	int ret = csum_compute_iov(key, type, nonce, iov, nr, &got);

	if (ret || type == BCFS_CSUM_none)
		return ret;
	return memcmp(&got, expected, sizeof(got)) ? -BCFS_ERR_csum_mismatch : 0;
}

int csum_verify(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		const void *ad, size_t ad_len, const void *data, size_t len,
		const struct bcfs_csum *expected)
{
	struct csum_iov iov[2] = {{ad, ad_len}, {data, len}};

	if (!ad_len)
		return csum_verify_iov(key, type, nonce, iov + 1, 1, expected);
	return csum_verify_iov(key, type, nonce, iov, 2, expected);
}
