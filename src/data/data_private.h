/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of this folder share. See data.h.
 *
 * Positions in files are sectors here unless a name says bytes; all extents this version writes
 * begin and end on blocks.
 */
#ifndef BCFS_DATA_DATA_PRIVATE_H
#define BCFS_DATA_DATA_PRIVATE_H

#include "alloc/alloc.h"
#include "btree/extent_entries.h"
#include "data/data.h"
#include "dev/bdev.h"
#include "util/log.h"

#define SECTOR_BYTES  512U
#define DATA_IO_ALIGN 4096U /* of buffers, so that the device takes them as they are */

struct data_fs {
	struct env *env;
	struct bdev *bdev;
	struct log *log;
	struct btree_fs *btree;
	struct alloc_fs *alloc;
	struct data_opts opts; /* completed and checked */
	u32 block_sectors;
	u32 device_block_sectors; /* reads are aligned to this */
	struct ratelimit log_limit;
	struct data_gc *gc; /* NULL: does not run */
};

/* A key with room for any value. */
union data_key {
	struct bkey_i k;
	u64 u64s[BKEY_U64s_MAX];
};

static inline struct bpos data_pos(const struct data_file *f, u64 sector)
{
	return SPOS(f->inum, sector, f->snapshot);
}

/* extent_encode.c */

/*
 * The key of an extent that ends at @end and holds @sectors of @data, to be written at @ptr:
 * one encoding entry (none without checksums), one pointer.
 */
int extent_encode(const struct data_fs *d, struct bpos end, const struct bcfs_extent_ptr *ptr,
		  const void *data, u32 sectors, union data_key *ret);
/*
 * What of an encoded extent has to be read for stored sectors [*start, *end): whole chunks, and
 * whole blocks of the device.
 */
void extent_read_range(const struct data_fs *d, const struct extent_ptr_decoded *p, u32 *start,
		       u32 *end);
/* Can this version read it? 0, -BCFS_ERR_codec_*. */
int extent_readable(const struct bcfs_extent_crc *crc);
/*
 * Verify stored sectors [start, start + sectors), which begin on a chunk and end on one or with the
 * extent. -BCFS_ERR_data_csum: *ret_good sectors in front are right and the *ret_bad behind them
 * are not.
 */
int extent_verify(const struct bcfs_extent_crc *crc, u32 start, const void *buf, u32 sectors,
		  u32 *ret_good, u32 *ret_bad);

/* move.c */

/*
 * Move what is live in a bucket to copygc's write point. *ret_stuck: something in it cannot be
 * moved. No locks.
 */
int data_move_bucket(struct data_fs *d, const struct alloc_gc_victim *v, u64 *ret_moved,
		     bool *ret_stuck);

/* punch.c */

/* Sectors that the inode has in [start, end), walked with @iter (which is moved). */
int data_count_sectors(struct btree_iter *iter, const struct data_file *f, u64 start, u64 end,
		       u64 *ret);

/* data.c */

/* Count and log an error. */
void data_error(struct data_fs *d, const struct data_file *f, int err, u64 offset_bytes,
		u64 len_bytes, const char *what);

#endif
