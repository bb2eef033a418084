// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tfs.h"

#include <stdlib.h>
#include <string.h>

const struct tfs_geometry tfs_small = {8, 32, 128, 512, 24};
const struct tfs_geometry tfs_tiny = {1, 16, 32, 768, 64};

/* ---- a toy extent type ---- */

static int toy_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			struct printbuf *err)
{
	return extent_entries_validate(bkey_ptrs(k), k.k->size, err);
}

static void toy_cut_front(struct bkey_i *k, u32 sectors)
{
	bool encoded = false;

	for_each_extent_entry (bkey_ptrs(bkey_i_to_s_c(k)), c) {
		union extent_entry *e = (union extent_entry *)c;

		if (extent_entry_type(e) == BCFS_EXTENT_ENTRY_crc) {
			encoded = true;
			e->crc.live_offset += sectors;
		} else if (extent_entry_type(e) == BCFS_EXTENT_ENTRY_ptr && !encoded) {
			e->ptr.offset += sectors;
		}
	}
}

static const struct bkey_ops toy_extent = {
	.validate = toy_validate,
	.trigger = alloc_trigger_pointers,
	.cut_front = toy_cut_front,
};

static const struct bkey_ops_table table = {
	.ops =
		{
			[KEY_TYPE_extent] = &toy_extent,
			[KEY_TYPE_btree_ptr] = &bkey_ops_btree_ptr,
			[KEY_TYPE_alloc] = &bkey_ops_alloc,
			[KEY_TYPE_backpointer] = &bkey_ops_backpointer,
			[KEY_TYPE_lru] = &bkey_ops_lru,
			[KEY_TYPE_accounting] = &bkey_ops_accounting,
			[KEY_TYPE_bucket_gens] = &bkey_ops_bucket_gens,
			[KEY_TYPE_cookie] = &bkey_ops_cookie,
		},
};

/* The journal's buckets are not adjacent. */
static const struct tfs_layer toy = {.table = &table, .journal_step = 2};

void toy_mkfs(struct tfs *f, u64 seed, const struct tfs_geometry *g)
{
	tfs_init(f, seed, g, &toy);
	f->quiet = true;
	tfs_mkfs(f);
}

/* ---- files ---- */

/* encoding 0: plain, 1: checksums, 2: pretended compression to half */
static u32 stored_sectors(const struct tfs *f, u32 sectors, unsigned encoding)
{
	return encoding == 2 ? round_up(sectors / 2, f->g.block_sectors) : sectors;
}

static int insert_extent(struct btree_trans *trans, u64 inum, u64 start, u32 sectors,
			 unsigned encoding, const struct alloc_sectors *s)
{
	union {
		struct bkey_i k;
		u64 buf[64];
	} *x = btree_trans_kmalloc(trans, sizeof(*x));
	u64 *v = x->k.v;
	unsigned nr = 0;

	bkey_init(&x->k.k);
	x->k.k.type = KEY_TYPE_extent;
	x->k.k.p = SPOS(inum, start + sectors, UINT32_MAX);
	x->k.k.size = sectors;
	if (encoding) {
		struct bcfs_extent_crc *c = (void *)v;

		*c = (struct bcfs_extent_crc){
			.type = BCFS_EXTENT_ENTRY_crc,
			.csum_type = BCFS_CSUM_crc32c,
			.compression = encoding == 2 ? BCFS_COMPRESSION_zstd : 0,
			.chunk_shift = 3,
			.stored_sectors = s->sectors,
			.uncompressed_sectors = sectors,
			.nr_csums = encoding == 2 ? 1 : DIV_ROUND_UP(sectors, 8),
		};
		nr = c->u64s = extent_crc_u64s(c->csum_type, c->nr_csums, false);
	}
	memcpy(&v[nr++], &s->ptr, sizeof(u64));
	set_bkey_val_u64s(&x->k.k, nr);
	return btree_trans_insert(trans, BTREE_ID_extents, &x->k, 0);
}

int tfs_write(struct tfs *f, u64 inum, u64 start, u32 sectors, unsigned encoding)
{
	struct disk_reservation res = {0};
	int ret = disk_reservation_get(f->alloc, &res, sectors);

	if (ret)
		return ret;
	while (sectors) {
		u32 n = sectors, stored;
		struct alloc_sectors s;

		/* Compression needs two blocks to gain one; encoded extents have a limit. */
		if (encoding == 2 && n < 2 * f->g.block_sectors)
			encoding = 1;
		n = encoding ? min(n, 256U) : n;
		stored = stored_sectors(f, n, encoding);
		/* Space that was promised is there. */
		TFS_OK(alloc_sectors_get(f->alloc, inum, stored, &s));
		if (s.sectors < stored) {
			if (encoding == 2)
				encoding = 1;
			n = s.sectors;
		}
		u8 *data = malloc(s.sectors * 512);

		memset(data, (int)++f->next_version, s.sectors * 512);
		TFS_OK(bdev_write(f->bdev, s.ptr.offset * 512ULL, data, s.sectors * 512, 0));
		free(data);

		struct btree_trans *trans = btree_trans_get(f->btree);

		ret = commit_do(trans, NULL, 0, insert_extent(trans, inum, start, n, encoding, &s));
		TFS_OK(ret);
		btree_trans_put(trans);
		alloc_sectors_done(f->alloc, &s);
		start += n;
		sectors -= n;
	}
	disk_reservation_put(f->alloc, &res);
	return 0;
}

int tfs_delete(struct tfs *f, u64 inum, u64 start, u64 end)
{
	return btree_delete_range(f->btree, BTREE_ID_extents, SPOS(inum, start, UINT32_MAX),
				  SPOS(inum, end, UINT32_MAX), 0, NULL);
}
