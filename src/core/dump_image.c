// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A filesystem without its file data: superblocks, journal, btree nodes, each where it is, and as
 * it is; of each what was written, as around it lies what was there before, perhaps data. So that
 * of an encrypted filesystem shows no more than the device does, and opens with the same
 * passphrases; what is wrong with the metadata can be looked at somewhere else.
 */
#include "core/core.h"

#include "alloc/alloc.h"
#include "btree/btree.h"
#include "btree/extent_entries.h"
#include "journal/journal.h"
#include "sb/sb.h"

#include <string.h>

#define PIECE_BYTES   (1U << 20)
#define SB_PAGE_BYTES 4096U

struct dump_image {
	struct core *c;
	bcfs_image_fn fn;
	void *arg;
	u8 *buf;
	u32 node_sectors;
};

static int image_copy(struct dump_image *d, u64 sector, u64 sectors)
{
	u64 at = sector << SECTOR_SHIFT, end = (sector + sectors) << SECTOR_SHIFT;
	int ret = 0;

	while (!ret && at < end) {
		u64 len = min(end - at, (u64)PIECE_BYTES);

		ret = bdev_read(d->c->real_bdev, at, d->buf, len);
		if (!ret && d->fn(d->arg, at, d->buf, len))
			ret = -BCFS_ERR_dump_image_write;
		at += len;
	}
	return ret;
}

static int image_journal(struct dump_image *d, u64 sector, u32 bucket_bytes)
{
	u32 block = d->c->fs.fs_opts.block_bytes, len;
	int ret = 0;

	for (u32 at = 0; !ret && at < bucket_bytes; at += len ?: block) {
		u64 from = sector + (at >> SECTOR_SHIFT);

		ret = bdev_read(d->c->real_bdev, from << SECTOR_SHIFT, d->buf, block);
		len = ret ? 0 : journal_entry_bytes(d->c->fs.journal, d->buf, bucket_bytes - at);
		if (len)
			ret = image_copy(d, from, len >> SECTOR_SHIFT);
	}
	return ret;
}

/* @k: of a node. */
static int image_key(struct dump_image *d, struct bkey_s_c k)
{
	u32 written = ((const struct bcfs_btree_ptr *)k.v)->sectors_written;
	struct extent_ptr_decoded p;
	int ret = 0;

	for_each_extent_ptr(k, d->node_sectors, it, p)
	{
		if (!ret && !p.ptr.dev)
			ret = image_copy(d, p.ptr.offset, min(p.stored_sectors, written));
	}
	return ret;
}

static int image_node(void *arg, const struct btree_node_info *n)
{
	return n->ptr.k ? image_key(arg, n->ptr) : 0;
}

static int image_btree(struct dump_image *d, enum btree_id id)
{
	union {
		struct bkey_i k;
		u64 u64s[BKEY_U64s_MAX];
	} root;
	unsigned level;
	int ret;

	if (!btree_root_key(d->c->fs.btree, id, &root.k, ARRAY_SIZE(root.u64s), &level))
		return 0;
	ret = image_key(d, bkey_i_to_s_c(&root.k));
	return ret ?: btree_for_each_node(d->c->fs.btree, id, image_node, NULL, d);
}

static int image_all(struct dump_image *d)
{
	struct core *c = d->c;
	const struct bcfs_sb *sb = c->fs.sb->sb;
	u32 bucket = sb_member_get(sb, 0).bucket_sectors;
	int ret = 0;

	for (unsigned i = 0; !ret && i < sb->layout.nr_copies; i++)
		ret = image_copy(d, sb->layout.offset[i],
				 round_up(sb_bytes(sb), SB_PAGE_BYTES) >> SECTOR_SHIFT);
	for (unsigned i = 0; !ret && i < c->nr_journal_buckets; i++)
		ret = image_journal(d, c->journal_buckets[i] * bucket, bucket << SECTOR_SHIFT);
	for (unsigned i = 0; !ret && i < BTREE_ID_NR; i++)
		ret = image_btree(d, i);
	return min(ret, 0);
}

int bcfs_dump_image(const char *path, const struct bcfs_dump_opts *opts, bcfs_image_fn fn,
		    void *arg, uint64_t *ret_size, char *msg, size_t msg_size)
{
	struct core_opts co = {.read_only = true, .for_check = true, .no_background = true};
	struct bcfs_dump_opts o = {0};
	struct dump_image d = {.fn = fn, .arg = arg};
	struct env *env;
	struct bdev *bdev;
	int ret;

	if (opts)
		memcpy(&o, opts, min(opts->struct_size, sizeof(o)));
	ret = core_secret_from(path, o.secret, &co.secret, msg, msg_size)
		      ?: core_open_device(path, true, DEVICE_LOCKED, BCFS_IO_THREADS, BCFS_DEFAULT,
					  o.wait_lock_ms, 2, o.log, o.log_arg, &env, &bdev, msg,
					  msg_size);
	if (ret)
		return ret;
	*ret_size = bdev->size_bytes;
	d.buf = env_malloc_aligned(env, 4096, PIECE_BYTES);
	ret = d.buf ? core_open_on(env, bdev, &co, o.log, o.log_arg, &d.c, msg, msg_size)
		    : -BCFS_ERR_nomem;
	if (!ret) {
		d.node_sectors = d.c->fs.sb->sb->btree_node_sectors;
		ret = d.c->was_clean ? image_all(&d) : -BCFS_ERR_dump_image_unclean;
		if (ret)
			core_msg(msg, msg_size, "%s: %s", path, err_str(ret));
		core_close(d.c);
	}
	env_free(env, d.buf);
	bdev_close(bdev);
	env_real_destroy(env);
	return ret;
}
