// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The table of compression codecs. `none` copies; `incompressible` is a mark on
 * data that was tried and is stored plain, so it copies too but is not a choice
 * for new data. A row without ops is known by name and refused.
 *
 * zstd and lz4 work in memory that the caller gives: whoever counts memory sees all of it. zstd's
 * tables stay there, since making them anew takes some hundredths of the time that compressing does
 * (they are zeroed, and the processor is asked what it can do, which a virtual machine's host
 * answers).
 */
#define ZSTD_STATIC_LINKING_ONLY /* contexts in memory of the caller's */
#include "codec/codec.h"
#include "util/errcode.h"
#include "util/printbuf.h"

#include <lz4.h>
#include <lz4hc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define ZSTD_LEVEL_DEFAULT 3
#define ZSTD_LEVEL_MIN	   -50 /* faster ones compress next to nothing */
#define ZSTD_LEVEL_MAX	   19
#define LZ4_LEVEL_MAX	   LZ4HC_CLEVEL_MAX

struct compression_ops {
	bool not_a_choice;
	int level_min, level_max; /* 0: the codec's default, always there */
	/* Bytes of memory that a call needs; NULL: none. */
	size_t (*compress_bytes)(int level, size_t src_len);
	size_t (*decompress_bytes)(void);
	int (*compress)(int level, struct codec_mem *m, void *dst, size_t dst_len, const void *src,
			size_t src_len, size_t *ret_len);
	int (*decompress)(struct codec_mem *m, void *dst, size_t dst_len, const void *src,
			  size_t src_len);
};

/* ---- none ---- */

static int copy_compress(int level, struct codec_mem *m, void *dst, size_t dst_len, const void *src,
			 size_t src_len, size_t *ret_len)
{
	if (src_len > dst_len)
		return -BCFS_ERR_compress_incompressible;
	if (src_len)
		memcpy(dst, src, src_len);
	*ret_len = src_len;
	return 0;
}

static int copy_decompress(struct codec_mem *m, void *dst, size_t dst_len, const void *src,
			   size_t src_len)
{
	if (src_len != dst_len)
		return -BCFS_ERR_decompress;
	if (src_len)
		memcpy(dst, src, src_len);
	return 0;
}

/* ---- zstd ---- */

static int zstd_level(int level)
{
	return level ?: ZSTD_LEVEL_DEFAULT;
}

/* Shorter data may need more than longer: its parameters are others. These are all there are. */
static size_t zstd_compress_bytes(int level, size_t src_len)
{
	static const size_t tiers[] = {16U << 10, 128U << 10, 256U << 10};
	size_t ret = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(tiers); i++) {
		ZSTD_compressionParameters p =
			ZSTD_getCParams(zstd_level(level), min(tiers[i], src_len), 0);

		ret = max(ret, ZSTD_estimateCCtxSize_usingCParams(p));
	}
	return ret;
}

static int zstd_compress(int level, struct codec_mem *m, void *dst, size_t dst_len, const void *src,
			 size_t src_len, size_t *ret_len)
{
	size_t n;

	m->dctx = NULL;
	if (!m->cctx)
		m->cctx = ZSTD_initStaticCCtx(m->mem, m->bytes);
	if (!m->cctx)
		return -BCFS_ERR_nomem;
	n = ZSTD_compressCCtx(m->cctx, dst, dst_len, src, src_len, zstd_level(level));
	/* The only other thing that can go wrong is too little memory: as good as no gain. */
	if (ZSTD_isError(n))
		return -BCFS_ERR_compress_incompressible;
	*ret_len = n;
	return 0;
}

static size_t zstd_decompress_bytes(void)
{
	return ZSTD_estimateDCtxSize();
}

static int zstd_decompress(struct codec_mem *m, void *dst, size_t dst_len, const void *src,
			   size_t src_len)
{
	if (!m->dctx)
		m->dctx = ZSTD_initStaticDCtx(m->mem, m->bytes);
	m->cctx = NULL;
	if (!m->dctx)
		return -BCFS_ERR_nomem;
	if (ZSTD_decompressDCtx(m->dctx, dst, dst_len, src, src_len) == dst_len)
		return 0;
	m->dctx = NULL;
	return -BCFS_ERR_decompress;
}

/* ---- lz4 ---- */

static size_t lz4_compress_bytes(int level, size_t src_len)
{
	return level > 1 ? (size_t)LZ4_sizeofStateHC() : (size_t)LZ4_sizeofState();
}

static int lz4_compress(int level, struct codec_mem *m, void *dst, size_t dst_len, const void *src,
			size_t src_len, size_t *ret_len)
{
	int n;

	if (src_len > LZ4_MAX_INPUT_SIZE || dst_len > INT_MAX)
		return -BCFS_ERR_compress_incompressible;
	m->cctx = m->dctx = NULL;
	n = level > 1 ? LZ4_compress_HC_extStateHC(m->mem, src, dst, (int)src_len, (int)dst_len,
						   level)
		      : LZ4_compress_fast_extState(m->mem, src, dst, (int)src_len, (int)dst_len, 1);
	if (n <= 0)
		return -BCFS_ERR_compress_incompressible;
	*ret_len = (size_t)n;
	return 0;
}

static int lz4_decompress(struct codec_mem *m, void *dst, size_t dst_len, const void *src,
			  size_t src_len)
{
	if (src_len > INT_MAX || dst_len > INT_MAX ||
	    LZ4_decompress_safe(src, dst, (int)src_len, (int)dst_len) != (int)dst_len)
		return -BCFS_ERR_decompress;
	return 0;
}

/* ---- the table ---- */

static const struct compression_ops compression_ops[BCFS_COMPRESSION_NR] = {
	[BCFS_COMPRESSION_none] = {.compress = copy_compress, .decompress = copy_decompress},
	[BCFS_COMPRESSION_zstd] = {.level_min = ZSTD_LEVEL_MIN,
				   .level_max = ZSTD_LEVEL_MAX,
				   .compress_bytes = zstd_compress_bytes,
				   .decompress_bytes = zstd_decompress_bytes,
				   .compress = zstd_compress,
				   .decompress = zstd_decompress},
	[BCFS_COMPRESSION_lz4] = {.level_max = LZ4_LEVEL_MAX,
				  .compress_bytes = lz4_compress_bytes,
				  .compress = lz4_compress,
				  .decompress = lz4_decompress},
	[BCFS_COMPRESSION_incompressible] = {.not_a_choice = true,
					     .compress = copy_compress,
					     .decompress = copy_decompress},
};

const char *const compression_type_names[] = {
#define x(name, nr) [nr] = #name,
	BCFS_COMPRESSION_TYPES(x)
#undef x
		NULL,
};

const char *compression_type_name(unsigned type)
{
	return type < BCFS_COMPRESSION_NR ? compression_type_names[type] : "unknown";
}

int compression_type_from_name(const char *name)
{
	for (unsigned i = 0; i < BCFS_COMPRESSION_NR; i++)
		if (!strcmp(name, compression_type_names[i]))
			return i;
	return -BCFS_ERR_codec_unknown;
}

static bool compression_is_choice(unsigned type)
{
	return compression_ops[type].compress && !compression_ops[type].not_a_choice;
}

static void prt_choices(struct printbuf *out)
{
	for (unsigned i = 0; i < BCFS_COMPRESSION_NR; i++) {
		const struct compression_ops *o = &compression_ops[i];

		if (!compression_is_choice(i))
			continue;
		prt_printf(out, " %s", compression_type_names[i]);
		if (o->level_max)
			prt_printf(out, "[:%d to %d]", o->level_min ?: 1, o->level_max);
	}
}

int compression_type_check(unsigned type, struct printbuf *err)
{
	bool known = type < BCFS_COMPRESSION_NR;

	if (known && compression_is_choice(type))
		return 0;
	if (err) {
		if (known)
			prt_printf(err, "compression type %s is not supported by this build",
				   compression_type_names[type]);
		else
			prt_printf(err, "compression type %u is unknown", type);
		prt_str(err, "; there are:");
		prt_choices(err);
	}
	return known ? -BCFS_ERR_codec_unsupported : -BCFS_ERR_codec_unknown;
}

static int no_such_level(unsigned type, const char *level, struct printbuf *err)
{
	const struct compression_ops *o = &compression_ops[type];

	if (err && o->level_max)
		prt_printf(err, "compression level %s of %s: not one of %d to %d", level,
			   compression_type_names[type], o->level_min ?: 1, o->level_max);
	else if (err)
		prt_printf(err, "compression %s has no levels", compression_type_names[type]);
	return -BCFS_ERR_codec_level;
}

int compression_level_check(unsigned type, int level, struct printbuf *err)
{
	const struct compression_ops *o = &compression_ops[type];
	int ret = compression_type_check(type, err);
	char text[16];

	if (ret || (level >= o->level_min && level <= o->level_max))
		return ret;
	snprintf(text, sizeof(text), "%d", level);
	return no_such_level(type, text, err);
}

int compression_opt_parse(const char *text, u16 *ret, struct printbuf *err)
{
	size_t len = strcspn(text, ":");
	char name[16] = "", *end;
	long level = 0;
	int type, bad;

	if (len < sizeof(name))
		memcpy(name, text, len);
	type = compression_type_from_name(name);
	if (type < 0) {
		if (err) {
			prt_printf(err, "unknown compression \"%s\"; there are:", text);
			prt_choices(err);
		}
		return type;
	}
	bad = compression_type_check((unsigned)type, err);
	if (!bad && text[len]) {
		const char *number = text + len + 1;

		level = strtol(number, &end, 10);
		/* 0 is how the default is stored. */
		bad = end == number || *end || !level || level != (s8)level
			      ? no_such_level((unsigned)type, number, err)
			      : compression_level_check((unsigned)type, (int)level, err);
	}
	if (bad)
		return bad;
	*ret = compression_opt((unsigned)type, (int)level);
	return 0;
}

void compression_opt_to_text(struct printbuf *out, u16 opt)
{
	prt_str(out, compression_type_name(compression_opt_type(opt)));
	if (compression_opt_level(opt))
		prt_printf(out, ":%d", compression_opt_level(opt));
}

size_t compress_bytes(unsigned type, int level, size_t src_len)
{
	return type < BCFS_COMPRESSION_NR && compression_ops[type].compress_bytes
		       ? compression_ops[type].compress_bytes(level, src_len)
		       : 0;
}

size_t decompress_bytes(unsigned type)
{
	return type < BCFS_COMPRESSION_NR && compression_ops[type].decompress_bytes
		       ? compression_ops[type].decompress_bytes()
		       : 0;
}

int compress_buf(unsigned type, int level, struct codec_mem *m, void *dst, size_t dst_len,
		 const void *src, size_t src_len, size_t *ret_len)
{
	if (type >= BCFS_COMPRESSION_NR)
		return -BCFS_ERR_codec_unknown;
	if (!compression_ops[type].compress)
		return -BCFS_ERR_codec_unsupported;
	if (m->bytes < compress_bytes(type, level, src_len))
		return -BCFS_ERR_nomem;
	return compression_ops[type].compress(level, m, dst, dst_len, src, src_len, ret_len);
}

int decompress_buf(unsigned type, struct codec_mem *m, void *dst, size_t dst_len, const void *src,
		   size_t src_len)
{
	if (type >= BCFS_COMPRESSION_NR)
		return -BCFS_ERR_codec_unknown;
	if (!compression_ops[type].decompress)
		return -BCFS_ERR_codec_unsupported;
	if (m->bytes < decompress_bytes(type))
		return -BCFS_ERR_nomem;
	return compression_ops[type].decompress(m, dst, dst_len, src, src_len);
}

/* ---- not worth trying ---- */

#define SAMPLE_BYTES 4096U
#define SAMPLES	     3U

/* Bits that an ideal code of single bytes would need, by their frequencies. */
static double entropy_bits(const u32 *count, u32 total)
{
	double bits = 0;

	for (unsigned i = 0; i < 256; i++)
		if (count[i])
			bits -= count[i] * log2((double)count[i] / total);
	return bits;
}

size_t compress_hopeless_bytes(void)
{
	return (size_t)LZ4_sizeofState();
}

bool compress_hopeless(void *mem, size_t mem_len, const void *src, size_t src_len)
{
	const size_t in = (size_t)SAMPLES * SAMPLE_BYTES;
	const u8 *p[SAMPLES];
	u32 count[256] = {0};
	size_t out = 0;

	if (src_len < 2 * in || mem_len < compress_hopeless_bytes())
		return false;
	for (unsigned i = 0; i < SAMPLES; i++) {
		p[i] = (const u8 *)src + (src_len - SAMPLE_BYTES) / (SAMPLES - 1) * i;
		for (unsigned k = 0; k < SAMPLE_BYTES; k++)
			count[p[i][k]]++;
	}
	/* Neither rare bytes nor repetitions: a thirtieth at best. The first is cheaper to know. */
	if (entropy_bits(count, in) <= in * (8.0 - 8.0 / 32))
		return false;
	for (unsigned i = 0; i < SAMPLES; i++) {
		char dst[SAMPLE_BYTES];
		int n = LZ4_compress_fast_extState(mem, (const char *)p[i], dst, SAMPLE_BYTES,
						   SAMPLE_BYTES, 1);

		out += n > 0 ? (size_t)n : SAMPLE_BYTES;
	}
	return out > in - in / 32;
}
