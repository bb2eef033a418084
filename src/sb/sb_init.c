// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A superblock for a new filesystem: where its copies go, and which buckets are
 * left for everything else.
 *
 * All copies but one lie at the front, one behind the other; the last lies in
 * the last whole area of the device. Buckets [first_bucket, nr_buckets) lie
 * between them.
 */
#include "codec/codec.h"
#include "sb/sb_private.h"
#include "util/errcode.h"
#include "util/utf8.h"

#include <string.h>

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

/* What follows from the parameters and a device's size. */
struct sb_geometry {
	unsigned size_bits;
	u32 bucket_sectors;
	u64 first_bucket, nr_buckets;
	u64 last_copy; /* sector; 0: does not fit */
};

u32 sb_default_bucket_bytes(u64 dev_bytes, u32 node_bytes)
{
	u32 bytes = 128U << 10;

	if (dev_bytes >= 256 * MIB)
		bytes = 256U << 10;
	if (dev_bytes >= 16 * GIB)
		bytes = 512U << 10;
	if (dev_bytes >= 128 * GIB)
		bytes = 1U << 20;
	if (dev_bytes >= 1024 * GIB)
		bytes = 2U << 20;
	/* Beyond 16 TiB: about 8 million buckets at most, up to 64 MiB each. */
	while (bytes < 64U << 20 && dev_bytes / bytes > 8U << 20)
		bytes *= 2;
	return max(bytes, node_bytes);
}

static unsigned default_size_bits(u64 dev_bytes)
{
	if (dev_bytes >= 256 * MIB)
		return SB_SIZE_BITS_DEFAULT;
	if (dev_bytes >= 64 * MIB)
		return 7;
	return dev_bytes >= 16 * MIB ? 6 : 5;
}

static struct sb_geometry geometry(const struct sb_params *p, u64 dev_bytes)
{
	u32 bucket = p->bucket_bytes ?: sb_default_bucket_bytes(dev_bytes, p->node_bytes);
	struct sb_geometry g = {
		.size_bits = p->max_size_bits ?: default_size_bits(dev_bytes),
		.bucket_sectors = bucket / SECTOR_SIZE,
	};
	u64 front_end = BCFS_SB_SECTOR + ((u64)(p->nr_copies - 1) << g.size_bits);

	g.first_bucket = DIV_ROUND_UP(front_end, g.bucket_sectors);
	g.last_copy = sb_last_sector(min(dev_bytes / SECTOR_SIZE, SB_DEV_SECTORS_MAX), g.size_bits);
	g.nr_buckets = g.last_copy / g.bucket_sectors;
	return g;
}

/* The size at which the geometry that this size leads to just fits. */
u64 sb_min_dev_bytes(const struct sb_params *p)
{
	u64 bytes = 0;

	for (unsigned round = 0; round < 64; round++) {
		struct sb_geometry g = geometry(p, bytes);
		u64 need = (g.first_bucket + p->min_buckets) * g.bucket_sectors +
			   (1ULL << g.size_bits);

		need = round_up(need, BCFS_SB_SECTOR) * SECTOR_SIZE;
		if (need <= bytes)
			break;
		bytes = need;
	}
	return bytes;
}

int sb_label_check(const char *label, struct printbuf *err)
{
	const u8 *p = (const u8 *)label, *end = p + strlen(label);

	if (strlen(label) > sizeof(((struct bcfs_sb *)0)->label))
		return sb_fail(err, sb_invalid_params, "the label is longer than 32 bytes");
	for (unsigned nr; p < end; p += nr) {
		nr = utf8_char(p, end - p);
		if (!nr)
			return sb_fail(err, sb_invalid_params,
				       "the label has control characters or is not UTF-8: choose "
				       "another");
	}
	return 0;
}

int sb_label_set(struct bcfs_sb *sb, const char *label, struct printbuf *err)
{
	int ret = sb_label_check(label, err);

	if (ret)
		return ret;
	memset(sb->label, 0, sizeof(sb->label));
	memcpy(sb->label, label, strlen(label));
	return 0;
}

static int check_sizes(const struct sb_params *p, struct printbuf *err)
{
	if (!is_power_of_2(p->block_bytes) || p->block_bytes < 512 || p->block_bytes > 65536)
		return sb_fail(err, sb_invalid_params,
			       "block size %u: a power of two from 512 to 65536 is needed",
			       p->block_bytes);
	if (!is_power_of_2(p->node_bytes) || p->node_bytes < BTREE_NODE_SIZE_MIN ||
	    p->node_bytes > BTREE_NODE_SIZE_MAX || p->node_bytes < p->block_bytes)
		return sb_fail(err, sb_invalid_params,
			       "btree node size %u: a power of two from %u to %u is needed, and at "
			       "least the block size",
			       p->node_bytes, BTREE_NODE_SIZE_MIN, BTREE_NODE_SIZE_MAX);
	if (p->bucket_bytes && (!is_power_of_2(p->bucket_bytes) || p->bucket_bytes < p->node_bytes))
		return sb_fail(err, sb_invalid_params,
			       "bucket size %u: a power of two, and at least the btree node size "
			       "of %u, is needed",
			       p->bucket_bytes, p->node_bytes);
	if (p->nr_copies < 2 || p->nr_copies > BCFS_SB_COPIES_MAX)
		return sb_fail(err, sb_invalid_params, "%u superblock copies: 2 to %u are possible",
			       p->nr_copies, BCFS_SB_COPIES_MAX);
	if (p->max_size_bits &&
	    (p->max_size_bits < SB_SIZE_BITS_MIN || p->max_size_bits > SB_SIZE_BITS_MAX))
		return sb_fail(err, sb_invalid_params,
			       "superblock area of 2^%u sectors: 2^%u to 2^%u are possible",
			       p->max_size_bits, SB_SIZE_BITS_MIN, SB_SIZE_BITS_MAX);
	return p->label ? sb_label_check(p->label, err) : 0;
}

static int check_options(const struct sb_params *p, struct printbuf *err)
{
	if (csum_type_check(p->meta_csum, err) || csum_type_check(p->data_csum, err) ||
	    compression_level_check(compression_opt_type(p->compression),
				    compression_opt_level(p->compression), err) ||
	    compression_level_check(compression_opt_type(p->background_compression),
				    compression_opt_level(p->background_compression), err))
		return -BCFS_ERR_sb_invalid_params;
	if (p->chunk_shift < BCFS_CHUNK_SHIFT_MIN || p->chunk_shift > BCFS_CHUNK_SHIFT_MAX)
		return sb_fail(err, sb_invalid_params,
			       "checksum chunks of 2^%u sectors: 2^%u to 2^%u are possible",
			       p->chunk_shift, BCFS_CHUNK_SHIFT_MIN, BCFS_CHUNK_SHIFT_MAX);
	if (p->extent_max_sectors > BCFS_EXTENT_MAX_SECTORS ||
	    p->extent_max_sectors < p->block_bytes / SECTOR_SIZE ||
	    p->extent_max_sectors % (p->block_bytes / SECTOR_SIZE))
		return sb_fail(err, sb_invalid_params,
			       "extents of up to %u sectors: at most %u, in whole blocks",
			       p->extent_max_sectors, BCFS_EXTENT_MAX_SECTORS);
	if (p->inline_max_bytes > BCFS_INLINE_MAX_BYTES || p->inline_max_bytes >= p->block_bytes)
		return sb_fail(err, sb_invalid_params,
			       "inline data of up to %u bytes: at most %u, and less than a block",
			       p->inline_max_bytes, BCFS_INLINE_MAX_BYTES);
	if (p->errors > BCFS_ERRORS_panic)
		return sb_fail(err, sb_invalid_params, "errors mode");
	return 0;
}

/* The superblock's areas at the front are counted in 16 bits. */
static u64 least_bucket_bytes(const struct sb_geometry *g)
{
	u64 bytes = g->bucket_sectors * SECTOR_SIZE, first = g->first_bucket;

	for (; first > UINT16_MAX; first = DIV_ROUND_UP(first, 2))
		bytes *= 2;
	return bytes;
}

static int check_device(const struct sb_params *p, const struct bdev *bdev,
			const struct sb_geometry *g, struct printbuf *err)
{
	if (bdev->logical_block > p->block_bytes)
		return sb_fail(err, sb_block_size_logical,
			       "block size %u is smaller than the device's logical sector: "
			       "choose at least %u",
			       p->block_bytes, bdev->logical_block);
	if (bdev->logical_block > BCFS_SB_SECTOR * SECTOR_SIZE)
		return sb_fail(err, sb_invalid_params, "logical sectors over 4096 bytes");
	if (!g->last_copy || g->nr_buckets < g->first_bucket + max_t(u64, p->min_buckets, 1))
		return sb_fail(err, sb_dev_too_small,
			       "too small with %llu bytes: at least %llu are needed",
			       (unsigned long long)bdev->size_bytes,
			       (unsigned long long)sb_min_dev_bytes(p));
	if (g->first_bucket > UINT16_MAX)
		return sb_fail(err, sb_invalid_params,
			       "buckets of %u bytes are too small: at least %llu are needed",
			       g->bucket_sectors * SECTOR_SIZE,
			       (unsigned long long)least_bucket_bytes(g));
	return 0;
}

static struct bcfs_uuid uuid_or_random(struct env *env, struct bcfs_uuid u)
{
	static const struct bcfs_uuid zero;

	if (!memcmp(&u, &zero, sizeof(u))) {
		env_random(env, &u, sizeof(u));
		u.b[6] = (u.b[6] & 0x0f) | 0x40; /* version 4, variant 1 */
		u.b[8] = (u.b[8] & 0x3f) | 0x80;
	}
	return u;
}

static void fill_options(struct bcfs_sb *sb, const struct sb_params *p)
{
	sb_opt_set(sb, SB_OPT_meta_csum, p->meta_csum);
	sb_opt_set(sb, SB_OPT_data_csum, p->data_csum);
	sb_compression_set(sb, p->compression);
	sb_background_compression_set(sb, p->background_compression);
	sb_opt_set(sb, SB_OPT_chunk_shift, p->chunk_shift);
	sb_opt_set(sb, SB_OPT_errors, p->errors);
	sb_opt_set(sb, SB_OPT_extent_max, p->extent_max_sectors);
	sb_opt_set(sb, SB_OPT_inline_max, p->inline_max_bytes);
	if (p->discard)
		sb->flags[0] |= BCFS_SB_FLAG_DISCARD;
}

static void fill_sb(struct sb_handle *h, const struct sb_params *p, const struct sb_geometry *g)
{
	static const u8 magic[16] = BCFS_SB_MAGIC;
	struct bcfs_sb *sb = h->sb;

	memcpy(sb->magic, magic, sizeof(magic));
	sb->version = sb->version_min = BCFS_VERSION_CURRENT;
	sb->csum_type = BCFS_CSUM_crc32c;
	sb->offset = BCFS_SB_SECTOR;
	sb->uuid = uuid_or_random(h->env, p->uuid);
	sb->user_uuid = uuid_or_random(h->env, p->user_uuid);
	if (p->label)
		memcpy(sb->label, p->label, strlen(p->label));
	sb->block_sectors = p->block_bytes / SECTOR_SIZE;
	sb->btree_node_sectors = p->node_bytes / SECTOR_SIZE;
	sb->time_base = sb_now(h->env);
	sb->layout.nr_copies = p->nr_copies;
	sb->layout.max_size_bits = g->size_bits;
	for (unsigned i = 0; i + 1 < p->nr_copies; i++)
		sb->layout.offset[i] = BCFS_SB_SECTOR + ((u64)i << g->size_bits);
	sb->layout.offset[p->nr_copies - 1] = g->last_copy;
	fill_options(sb, p);
}

int sb_init(struct env *env, struct bdev *bdev, const struct log *log,
	    const struct sb_params *params, struct sb_handle **ret_h)
{
	CLEANUP(printbuf_exit) struct printbuf msg = PRINTBUF;
	CLEANUP(sb_free_p) struct sb_handle *h = NULL;
	struct sb_geometry g;
	struct bcfs_member m;
	int ret = check_sizes(params, &msg) ?: check_options(params, &msg);

	if (!ret) {
		g = geometry(params, bdev->size_bytes);
		ret = check_device(params, bdev, &g, &msg);
	}
	if (ret) {
		log_err(log, "%s: %s", bdev->name, printbuf_str(&msg));
		return ret;
	}
	h = sb_handle_alloc(env, bdev, log, g.size_bits);
	if (!h)
		return -BCFS_ERR_nomem;
	fill_sb(h, params, &g);
	m = (struct bcfs_member){
		.uuid = uuid_or_random(env, (struct bcfs_uuid){{0}}),
		.nr_buckets = g.nr_buckets,
		.bucket_sectors = g.bucket_sectors,
		.first_bucket = g.first_bucket,
		.state = BCFS_MEMBER_rw,
		.durability = 1,
		.flags = params->discard ? BCFS_MEMBER_DISCARD : 0,
	};
	ret = sb_member_set(h, 0, &m);
	if (!ret)
		*ret_h = take_ptr(h);
	return ret;
}
