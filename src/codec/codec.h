/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Checksums, authenticated encryption and compression, each behind a table of
 * ops indexed by the number that is on disk (format/types.h).
 *
 * One call protects everything: csum_compute() for what is only checksummed,
 * aead_seal()/aead_open() for what is encrypted and authenticated in place. Both
 * yield a struct bcfs_csum: csum_bytes(type) bytes, zero-padded to 32, so that
 * two of them compare as a whole.
 *
 * Invariants:
 *  1. the checksum of a list of pieces is that of their concatenation; the
 *     associated data is simply hashed in front of the data;
 *  2. the type `none` computes all-zero and verifies anything;
 *  3. what a row cannot do (an AEAD row no checksum, a checksum no sealing) is refused with
 *     codec_unsupported before any output is touched; codec_unknown means that the number itself
 *     has no meaning;
 *  4. a nonce seals once under one key: callers draw a new one for every sealing, or derive those
 *     of the chunks of one extent with aead_chunk_nonce().
 *
 * Keys come from a keyring (codec/keyring.h), which derives one for each purpose, so that none
 * serves two.
 *
 * Types come from disk, so every function takes any number. All functions are
 * pure: no locks, no memory, no state, any thread. Lengths are in bytes.
 */
#ifndef BCFS_CODEC_CODEC_H
#define BCFS_CODEC_CODEC_H

#include "bcfs/format/types.h"
#include "util/types.h"

struct printbuf;

/* A symmetric key and its generation (never 0). The owner wipes it. */
struct csum_key {
	u8 b[32];
	u16 gen;
};

struct csum_iov {
	const void *p;
	size_t len;
};

/*
 * The checksum of ad followed by data. key and nonce are for keyed types and may
 * be NULL otherwise. codec_unknown, codec_unsupported.
 */
int csum_compute(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		 const void *ad, size_t ad_len, const void *data, size_t len,
		 struct bcfs_csum *ret);
/* The same over nr pieces. */
int csum_compute_iov(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		     const struct csum_iov *iov, unsigned nr, struct bcfs_csum *ret);

/* csum_mismatch if it is not as expected; errors as above. */
int csum_verify(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		const void *ad, size_t ad_len, const void *data, size_t len,
		const struct bcfs_csum *expected);
int csum_verify_iov(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		    const struct csum_iov *iov, unsigned nr, const struct bcfs_csum *expected);

/* Bytes of a checksum or tag; 0 for none and for unknown types. */
unsigned csum_bytes(unsigned type);
/* "unknown" for numbers without a row. */
const char *csum_type_name(unsigned type);
/* The type, or codec_unknown. */
int csum_type_from_name(const char *name);
/*
 * Whether it can be chosen as a checksum: 0, codec_unknown, or codec_unsupported (of an AEAD row,
 * too); prints why, and what there is, to err (may be NULL).
 */
int csum_type_check(unsigned type, struct printbuf *err);
/* The names by number, NULL-terminated: for the options table. */
extern const char *const csum_type_names[];

/* True for types that encrypt, and so need a key and a nonce. */
bool csum_type_is_aead(unsigned type);

/* A piece of what is sealed in place. */
struct aead_iov {
	void *p;
	size_t len;
};

/*
 * Encrypts len bytes at buf in place; *ret_tag authenticates them and ad, which stays as it is.
 * codec_unknown, codec_unsupported.
 */
int aead_seal(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
	      const void *ad, size_t ad_len, void *buf, size_t len, struct bcfs_csum *ret_tag);
/*
 * The reverse. The tag is checked before anything is decrypted: aead_mismatch leaves buf as it was.
 * All 32 bytes of the tag count.
 */
int aead_open(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
	      const void *ad, size_t ad_len, void *buf, size_t len, const struct bcfs_csum *tag);
/*
 * All is verified, but only the bytes [from, to) need be decrypted: up to 63 before and behind them
 * are, too, and the rest stays as it was.
 */
int aead_open_part(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		   const void *ad, size_t ad_len, void *buf, size_t len, size_t from, size_t to,
		   const struct bcfs_csum *tag);
/* Sealed from src to dst, which do not overlap. */
int aead_seal_to(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		 const void *ad, size_t ad_len, void *dst, const void *src, size_t len,
		 struct bcfs_csum *ret_tag);
/* Only whether it would open. */
int aead_verify(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		const void *ad, size_t ad_len, const void *buf, size_t len,
		const struct bcfs_csum *tag);
/*
 * The same with associated data and data in pieces (of a btree node: the header around what is
 * encrypted). Where the cuts are does not matter, so that pieces must not be exchangeable: give
 * them fixed lengths, or lengths that are part of the associated data.
 */
int aead_seal_iov(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		  const struct csum_iov *ad, unsigned nr_ad, const struct aead_iov *data,
		  unsigned nr, struct bcfs_csum *ret_tag);
int aead_open_iov(const struct csum_key *key, unsigned type, const struct bcfs_nonce *nonce,
		  const struct csum_iov *ad, unsigned nr_ad, const struct aead_iov *data,
		  unsigned nr, const struct bcfs_csum *tag);
/* The nonce of a chunk of an extent: its last 32 bits are xored with the chunk's number. */
struct bcfs_nonce aead_chunk_nonce(const struct bcfs_nonce *nonce, u32 chunk);

/*
 * Compression works in memory of the caller's, aligned for any type, of at least compress_bytes()
 * or decompress_bytes(): 0 for codecs that need none. A codec leaves its tables there and begins
 * the next call with them, which gives the same result, sooner: so nobody else writes there as long
 * as this is used, by one thread at a time.
 */
struct codec_mem {
	void *mem;
	size_t bytes;
	void *cctx, *dctx; /* the codec's, in mem: as the last call left it, or NULL */
};

/* What was in mem does not matter. */
static inline void codec_mem_init(struct codec_mem *m, void *mem, size_t bytes)
{
	*m = (struct codec_mem){.mem = mem, .bytes = bytes};
}

/* src_len: the longest there will be. level 0: the codec's default. */
size_t compress_bytes(unsigned type, int level, size_t src_len);
size_t decompress_bytes(unsigned type);
/*
 * Compresses src to at most dst_len bytes; the length used in *ret_len.
 * compress_incompressible if it does not fit.
 */
int compress_buf(unsigned type, int level, struct codec_mem *m, void *dst, size_t dst_len,
		 const void *src, size_t src_len, size_t *ret_len);
/* Expands src to exactly dst_len bytes, never more; decompress if src is not that. */
int decompress_buf(unsigned type, struct codec_mem *m, void *dst, size_t dst_len, const void *src,
		   size_t src_len);
/*
 * True: samples of src say that no codec will make it notably smaller. Costs some microseconds;
 * mem: any, of compress_hopeless_bytes() (less: never true).
 */
size_t compress_hopeless_bytes(void);
bool compress_hopeless(void *mem, size_t mem_len, const void *src, size_t src_len);

const char *compression_type_name(unsigned type);
/* The type, or codec_unknown. */
int compression_type_from_name(const char *name);
/* As csum_type_check: whether new data may be written so. */
int compression_type_check(unsigned type, struct printbuf *err);
/* The same for a type with a level (0: the default): codec_level too, with the levels there are. */
int compression_level_check(unsigned type, int level, struct printbuf *err);
extern const char *const compression_type_names[];

/* What a user chooses: type and level in 12 bits, as it is on disk. */
static inline u16 compression_opt(unsigned type, int level)
{
	return (u16)(type | (u32)(u8)level << 4);
}

static inline unsigned compression_opt_type(u16 opt)
{
	return opt & 15;
}

static inline int compression_opt_level(u16 opt)
{
	return (s8)(opt >> 4);
}

/* "TYPE" or "TYPE:LEVEL". codec_unknown, codec_level; what there is is printed to err. */
int compression_opt_parse(const char *text, u16 *ret, struct printbuf *err);
void compression_opt_to_text(struct printbuf *out, u16 opt);

#endif
