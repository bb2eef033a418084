// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The table of compression codecs. `none` copies; `incompressible` is a mark on
 * data that was tried and is stored plain, so it copies too but is not a choice
 * for new data. A row without ops is known by name and refused.
 */
#include "codec/codec.h"
#include "util/errcode.h"
#include "util/printbuf.h"

#include <string.h>

struct compression_ops {
	bool not_a_choice;
	int (*compress)(unsigned level, void *dst, size_t dst_len, const void *src, size_t src_len,
			size_t *ret_len);
	int (*decompress)(void *dst, size_t dst_len, const void *src, size_t src_len);
};

static int copy_compress(unsigned level, void *dst, size_t dst_len, const void *src, size_t src_len,
			 size_t *ret_len)
{
	if (src_len > dst_len)
		return -BCFS_ERR_compress_incompressible;
	if (src_len)
		memcpy(dst, src, src_len);
	*ret_len = src_len;
	return 0;
}

static int copy_decompress(void *dst, size_t dst_len, const void *src, size_t src_len)
{
	if (src_len != dst_len)
		return -BCFS_ERR_decompress;
	if (src_len)
		memcpy(dst, src, src_len);
	return 0;
}

static const struct compression_ops compression_ops[BCFS_COMPRESSION_NR] = {
	[BCFS_COMPRESSION_none] = {.compress = copy_compress, .decompress = copy_decompress},
	[BCFS_COMPRESSION_zstd] = {0},
	[BCFS_COMPRESSION_lz4] = {0},
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
		for (unsigned i = 0; i < BCFS_COMPRESSION_NR; i++)
			if (compression_is_choice(i))
				prt_printf(err, " %s", compression_type_names[i]);
	}
	return known ? -BCFS_ERR_codec_unsupported : -BCFS_ERR_codec_unknown;
}

int compress_buf(unsigned type, unsigned level, void *dst, size_t dst_len, const void *src,
		 size_t src_len, size_t *ret_len)
{
	if (type >= BCFS_COMPRESSION_NR)
		return -BCFS_ERR_codec_unknown;
	if (!compression_ops[type].compress)
		return -BCFS_ERR_codec_unsupported;
	return compression_ops[type].compress(level, dst, dst_len, src, src_len, ret_len);
}

int decompress_buf(unsigned type, void *dst, size_t dst_len, const void *src, size_t src_len)
{
	if (type >= BCFS_COMPRESSION_NR)
		return -BCFS_ERR_codec_unknown;
	if (!compression_ops[type].decompress)
		return -BCFS_ERR_codec_unsupported;
	return compression_ops[type].decompress(dst, dst_len, src, src_len);
}
