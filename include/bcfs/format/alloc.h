/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * On-disk format: allocation.
 *
 * alloc:        {inode dev, offset bucket}            struct bcfs_alloc; no key: free
 * alloc:        {inode 256 + dev, offset bucket / 256}  struct bcfs_bucket_gens: the generations
 *                                                     with which 256 buckets last became free; no
 *                                                     key: all 0
 * freespace:    {inode dev, offset bucket}            KEY_TYPE_cookie: a run of so many free
 * buckets ends here. Below the counter used_mark each bucket has an alloc key or lies in a run; one
 *                                                     above it that has no alloc key is free
 * need_discard: {inode dev, offset bucket}            KEY_TYPE_set
 * backpointers: {inode dev, offset sector << BCFS_BP_SHIFT | live_offset}  struct bcfs_backpointer
 * lru:          {inode lru id << 48 | time, offset dev << 56 | bucket}      struct bcfs_lru
 * accounting:   {inode kind, offset subject}          struct bcfs_accounting
 */
#ifndef BCFS_FORMAT_ALLOC_H
#define BCFS_FORMAT_ALLOC_H

#include "bcfs/format/bkey.h"

struct bcfs_alloc {
	uint8_t gen;
	uint8_t oldest_gen;
	uint8_t data_type; /* enum bcfs_data_type */
	uint8_t flags;	   /* BCFS_ALLOC_* */
	uint32_t dirty_sectors;
	uint32_t cached_sectors;
	uint32_t stripe_sectors;
	uint64_t journal_seq_empty; /* entry in which it last became empty */
	uint64_t io_time_read;
	uint64_t io_time_write;
	uint32_t stripe;
	uint32_t nr_external_backpointers;
};

#define BCFS_ALLOC_NEED_DISCARD (1U << 0)
#define BCFS_ALLOC_NEED_INC_GEN (1U << 1)

#define BCFS_BP_SHIFT		10

struct bcfs_backpointer {
	uint8_t btree_id;
	uint8_t level;
	uint8_t data_type;
	uint8_t bucket_gen;
	uint32_t bucket_len; /* sectors on the device that the pointer holds */
	struct bpos pos;     /* of the key */
	uint32_t pad;
};

/* LRU ids. */
#define BCFS_LRU_FRAGMENTATION 1ULL
#define BCFS_LRU_CACHED	       2ULL
#define BCFS_LRU_TIME_BITS     48

/*
 * Accounting kinds; stable. Counters are in sectors unless said. The current
 * values travel in every journal entry (BCFS_JSET_ENTRY_usage) and in the clean
 * section; the accounting btree is for counters per subject (snapshot, quota).
 * x(name, number, doc)
 */
/* clang-format off */
#define BCFS_ACCOUNTING(x)                                                                         \
	x(nr_inodes, 0, "inodes (count)")                                                          \
	x(reserved, 1, "persistently reserved (fallocate)")                                        \
	x(btree, 2, "live btree nodes")                                                            \
	x(user, 3, "live file data, as stored")                                                    \
	x(cached, 4, "cached copies")                                                              \
	x(sb, 5, "superblock buckets")                                                             \
	x(journal, 6, "journal buckets")                                                           \
	x(buckets_btree, 7, "buckets with btree nodes (count)")                                    \
	x(buckets_user, 8, "buckets with file data (count)")                                       \
	x(buckets_need_discard, 9, "empty, not yet free (count)")                                  \
	x(uncompressed, 10, "live compressed data before compression")                             \
	x(compressed, 11, "and after")                                                             \
	x(nr_dirents, 12, "directory entries (count)")                                             \
	x(inline_data, 13, "bytes of inline data")                                                 \
	x(used_mark, 14, "bucket number: from here on free buckets need no freespace key")         \
	x(rebalance, 15, "file data to be rewritten in the background")
/* clang-format on */

enum bcfs_accounting_type {
#define x(name, nr, doc) BCFS_ACCOUNTING_##name = nr,
	BCFS_ACCOUNTING(x)
#undef x
		BCFS_ACCOUNTING_NR
};

struct bcfs_accounting {
	int64_t d[1]; /* or more */
};

/* Where the generations are in the alloc btree: inode BCFS_ALLOC_GENS | dev. */
#define BCFS_ALLOC_GENS	      256ULL
#define BCFS_ALLOC_GENS_GROUP 256ULL

/*
 * As short as they allow: each is base plus a number of so many bits (0 to 8), modulo 256, but for
 * the exceptions. Behind the header: 256 such numbers, from the lowest bit of the first byte on;
 * then the exceptions, two bytes each: which of the 256 (ascending), and its generation; zero up to
 * a whole word.
 */
struct bcfs_bucket_gens {
	uint8_t base;
	uint8_t bits;
	uint8_t nr_exceptions;
	uint8_t pad;
	uint8_t d[];
};

/* KEY_TYPE_quota: {type, id}. */
struct bcfs_quota_counter {
	uint64_t hardlimit, softlimit, used, timer;
};
struct bcfs_quota {
	struct bcfs_quota_counter c[2]; /* space in sectors, inodes */
};

#endif
