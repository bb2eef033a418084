// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Feature bits by name, and the defaults of options in flags[].
 */
#include "codec/codec.h"
#include "sb/sb_private.h"
#include "util/errcode.h"
#include "util/planted.h"

#include <string.h>

static const struct sb_feature_row {
	const char *name;
	enum sb_feature_set set;
	unsigned bit;
} feature_rows[] = {
#define x(name, set, bit) {#name, SB_FEATURE_##set, bit},
	BCFS_SB_FEATURES(x)
#undef x
};

/* A set has two words. */
static u64 *feature_words(struct bcfs_sb *sb, enum sb_feature_set set)
{
	switch (set) {
	case SB_FEATURE_compat:
		return sb->features_compat;
	case SB_FEATURE_ro_compat:
		return sb->features_ro_compat;
	case SB_FEATURE_incompat:
		break;
	}
	return sb->features_incompat;
}

static const struct sb_feature_row *feature_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(feature_rows); i++)
		if (!strcmp(feature_rows[i].name, name))
			return &feature_rows[i];
	return NULL;
}

const char *sb_feature_name(enum sb_feature_set set, unsigned bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(feature_rows); i++)
		if (feature_rows[i].set == set && feature_rows[i].bit == bit)
			return feature_rows[i].name;
	return NULL;
}

int sb_feature_set_by_name(struct bcfs_sb *sb, const char *name, bool on)
{
	const struct sb_feature_row *r = feature_by_name(name);
	u64 *w, m;

	if (!r)
		return -BCFS_ERR_sb_feature_unknown;
	w = &feature_words(sb, r->set)[r->bit / 64];
	m = 1ULL << r->bit % 64;
	*w = (*w & ~m) | (on ? m : 0);
	return 0;
}

int sb_feature_test_by_name(const struct bcfs_sb *sb, const char *name, bool *ret)
{
	const struct sb_feature_row *r = feature_by_name(name);

	if (!r)
		return -BCFS_ERR_sb_feature_unknown;
	*ret = feature_words((struct bcfs_sb *)sb, r->set)[r->bit / 64] >> r->bit % 64 & 1;
	return 0;
}

/* Whether this program can do what the bit stands for; a name alone is not enough. */
static bool feature_supported(enum sb_feature_set set, unsigned bit)
{
	if (set == SB_FEATURE_compat)
		return sb_feature_name(set, bit);
	if (set == SB_FEATURE_ro_compat)
		return false;
	switch (bit) {
	case BCFS_FEATURE_zstd:
		return !compression_type_check(BCFS_COMPRESSION_zstd, NULL);
	case BCFS_FEATURE_lz4:
		return !compression_type_check(BCFS_COMPRESSION_lz4, NULL);
	case BCFS_FEATURE_encryption:
	case BCFS_FEATURE_reflink:
		return true;
	default:
		return false;
	}
}

bool sb_features_unknown(const struct bcfs_sb *sb, enum sb_feature_set set, struct printbuf *out)
{
	const u64 *w = feature_words((struct bcfs_sb *)sb, set);
	bool ret = false;

	for (unsigned bit = 0; bit < 128; bit++) {
		const char *name;

		if (!(w[bit / 64] >> bit % 64 & 1) || feature_supported(set, bit))
			continue;
		name = sb_feature_name(set, bit);
		if (out && ret)
			prt_str(out, ", ");
		if (out && name)
			prt_str(out, name);
		else if (out)
			prt_printf(out, "bit %u", bit);
		ret = true;
	}
	return ret;
}

static const struct {
	u8 shift, bits;
} opt_rows[SB_OPT_NR] = {
#define x(name, shift, bits) {shift, bits},
	SB_OPTS(x)
#undef x
};

u64 sb_opt_get(const struct bcfs_sb *sb, enum sb_opt opt)
{
	u8 shift = opt_rows[opt].shift;

	return sb->flags[shift / 64] >> shift % 64 & ((1ULL << opt_rows[opt].bits) - 1);
}

void sb_opt_set(struct bcfs_sb *sb, enum sb_opt opt, u64 v)
{
	u64 mask = (1ULL << opt_rows[opt].bits) - 1, *w = &sb->flags[opt_rows[opt].shift / 64];
	u8 shift = opt_rows[opt].shift % 64;

	assert(v <= mask);
	*w = (*w & ~(mask << shift)) | v << shift;
}

/* ---- compression ---- */

static bool feature_of_codec(unsigned type, unsigned *ret_bit)
{
	*ret_bit = type == BCFS_COMPRESSION_zstd ? BCFS_FEATURE_zstd : BCFS_FEATURE_lz4;
	return type == BCFS_COMPRESSION_zstd || type == BCFS_COMPRESSION_lz4;
}

u16 sb_compression(const struct bcfs_sb *sb)
{
	return compression_opt((unsigned)sb_opt_get(sb, SB_OPT_compression),
			       (s8)sb_opt_get(sb, SB_OPT_compression_level));
}

static void set_codec_feature(struct bcfs_sb *sb, u16 compression)
{
	unsigned bit;

	if (feature_of_codec(compression_opt_type(compression), &bit))
		feature_words(sb, SB_FEATURE_incompat)[bit / 64] |= 1ULL << bit % 64;
}

void sb_compression_set(struct bcfs_sb *sb, u16 compression)
{
	sb_opt_set(sb, SB_OPT_compression, compression_opt_type(compression));
	sb_opt_set(sb, SB_OPT_compression_level, (u8)compression_opt_level(compression));
	set_codec_feature(sb, compression);
}

u16 sb_background_compression(const struct bcfs_sb *sb)
{
	return compression_opt((unsigned)sb_opt_get(sb, SB_OPT_background_compression),
			       (s8)sb_opt_get(sb, SB_OPT_background_compression_level));
}

void sb_background_compression_set(struct bcfs_sb *sb, u16 compression)
{
	sb_opt_set(sb, SB_OPT_background_compression, compression_opt_type(compression));
	sb_opt_set(sb, SB_OPT_background_compression_level, (u8)compression_opt_level(compression));
	set_codec_feature(sb, compression);
}

static int use_feature(struct sb_handle *h, unsigned bit)
{
	int ret = 0;
	u64 *w;

	sb_lock(h);
	w = &feature_words(h->sb, SB_FEATURE_incompat)[bit / 64];
	if (!(*w >> bit % 64 & 1)) {
		*w |= 1ULL << bit % 64;
		ret = sb_write(h);
		/* Not on the device for sure: not to be relied upon. */
		if (ret)
			*w &= ~(1ULL << bit % 64);
	}
	sb_unlock(h);
	return ret;
}

static bool tells_feature(struct sb_handle *h, unsigned bit)
{
	bool ret;

	sb_lock(h);
	ret = feature_words(h->sb, SB_FEATURE_incompat)[bit / 64] >> bit % 64 & 1;
	sb_unlock(h);
	return ret;
}

int sb_use_compression(struct sb_handle *h, unsigned type)
{
	unsigned bit;

	if (!feature_of_codec(type, &bit) || planted(codec_not_told))
		return 0;
	return use_feature(h, bit);
}

bool sb_tells_compression(struct sb_handle *h, unsigned type)
{
	unsigned bit;

	return !feature_of_codec(type, &bit) || tells_feature(h, bit);
}

/* ---- reflink ---- */

int sb_use_reflink(struct sb_handle *h)
{
	return use_feature(h, BCFS_FEATURE_reflink);
}

bool sb_tells_reflink(struct sb_handle *h)
{
	return tells_feature(h, BCFS_FEATURE_reflink);
}
