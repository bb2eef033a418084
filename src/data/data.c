// SPDX-License-Identifier: LGPL-2.1-or-later
/* Open, close, and where errors go. */
#include "data/data_private.h"

#include "codec/codec.h"
#include "codec/secret.h"

/* Room that an extent's key leaves for more pointers. */
#define KEY_SPARE_U64s 8U
/* What it may hold beside checksums and one pointer: how it is to be rewritten, its count. */
#define EXTENT_MORE_U64s 2U

/*
 * Fits a value of so many u64s into a key; and fit the two that are left of one overwritten in its
 * midst, and the new one, into one leaf?
 */
static bool extent_val_fits(const struct btree_fs *btree, u32 val_u64s)
{
	u32 key = BKEY_U64s + val_u64s + EXTENT_MORE_U64s;

	return val_u64s + KEY_SPARE_U64s <= BKEY_VAL_U64s_MAX &&
	       3 * key <= btree_leaf_always_u64s(btree, key);
}

/* The longest extent whose checksums fit into a key, at most @sectors. */
static u32 extent_limit(const struct btree_fs *btree, const struct data_opts *o, u32 sectors)
{
	u32 chunk = 1U << o->chunk_shift;

	while (sectors > chunk && o->csum_type &&
	       !extent_val_fits(btree,
				extent_crc_u64s(o->csum_type, DIV_ROUND_UP(sectors, chunk), true) +
					1))
		sectors -= chunk;
	return sectors;
}

static int opts_complete(struct data_opts *o, const struct btree_fs *btree, u32 logical_block)
{
	u32 block_sectors = o->block_bytes / SECTOR_BYTES;
	int ret;

	if (!block_sectors || o->block_bytes & (o->block_bytes - 1) ||
	    o->block_bytes < logical_block || block_sectors > BCFS_EXTENT_MAX_SECTORS)
		return -BCFS_ERR_data_geometry;
	ret = o->keys ? secret_init() : csum_type_check(o->csum_type, NULL);
	if (ret)
		return ret;
	if (csum_type_is_aead(o->csum_type) != !!o->keys)
		return -BCFS_ERR_codec_unsupported;

	if (!o->chunk_shift)
		o->chunk_shift = BCFS_CHUNK_SHIFT_DEFAULT;
	o->chunk_shift = max_t(u32, o->chunk_shift, BCFS_CHUNK_SHIFT_MIN);
	o->chunk_shift = min_t(u32, o->chunk_shift, BCFS_CHUNK_SHIFT_MAX);
	while (o->chunk_shift < BCFS_CHUNK_SHIFT_MAX && 1U << o->chunk_shift < block_sectors)
		o->chunk_shift++;

	if (!o->extent_max_sectors)
		o->extent_max_sectors = BCFS_EXTENT_DEFAULT_SECTORS;
	o->extent_max_sectors = min(o->extent_max_sectors, BCFS_EXTENT_MAX_SECTORS);
	o->extent_max_sectors =
		max(round_down(extent_limit(btree, o, o->extent_max_sectors), block_sectors),
		    block_sectors);
	o->inline_max_bytes =
		min(o->inline_max_bytes, data_inline_limit(o->block_bytes, UINT32_MAX));
	return 0;
}

int data_fs_alloc(struct env *env, struct bdev *bdev, struct log *log, struct btree_fs *btree,
		  struct alloc_fs *alloc, const struct data_opts *opts, struct data_fs **ret)
{
	struct data_opts o = *opts;
	int err = opts_complete(&o, btree, bdev->logical_block);
	struct data_fs *d;

	if (err)
		return err;
	d = env_zalloc(env, sizeof(*d));
	if (!d)
		return -BCFS_ERR_nomem;
	d->env = env;
	d->bdev = bdev;
	d->log = log;
	d->btree = btree;
	d->alloc = alloc;
	d->opts = o;
	d->block_sectors = o.block_bytes / SECTOR_BYTES;
	d->device_block_sectors = max(bdev->logical_block / SECTOR_BYTES, 1U);
	d->log_limit = RATELIMIT_DEFAULT;
	env_mutex_init(&d->scratch_lock, env);
	*ret = d;
	return 0;
}

void data_fs_free(struct data_fs *d)
{
	if (!d)
		return;
	while (d->scratch) {
		struct data_scratch *s = d->scratch;

		d->scratch = s->next;
		scratch_free(d, s);
	}
	env_mutex_destroy(&d->scratch_lock);
	env_free(d->env, d);
}

void data_error(struct data_fs *d, const struct data_file *f, int err, u64 offset_bytes,
		u64 len_bytes, const char *what)
{
	char path[512] = "";

	if (log_passes(d->log, &d->log_limit, LOG_LEVEL_ERR)) {
		if (d->opts.path)
			d->opts.path(d->opts.arg, f->snapshot, f->inum, path, sizeof(path));
		log_err(d->log, "%s: %s: %s: %s%sinode %llu snapshot %u offset %llu length %llu",
			d->bdev->name, what, err_str(err), path, path[0] ? ": " : "",
			(unsigned long long)f->inum, f->snapshot, (unsigned long long)offset_bytes,
			(unsigned long long)len_bytes);
	}
	if (d->opts.error)
		d->opts.error(d->opts.arg, err, f->snapshot, f->inum, offset_bytes, len_bytes);
}
