/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * On-disk format: extents, their pointers and encodings.
 *
 * The value of KEY_TYPE_extent (and reflink_v behind its count) is a list of
 * entries. An encoding entry (bcfs_extent_crc) applies to the pointers behind
 * it, up to the next encoding entry; pointers before any encoding are to plain,
 * unverified data of the key's size. The low 3 bits of an entry's first byte
 * are its type; an entry of unknown type ends the walk and makes the key
 * unusable for data, but it is carried along.
 *
 * An encoded extent is read from the start of its pointer; the key covers
 * [live_offset, live_offset + key size) of its uncompressed sectors. Trimming
 * a key changes live_offset and the key's size, never the rest.
 */
#ifndef BCFS_FORMAT_EXTENT_H
#define BCFS_FORMAT_EXTENT_H

#include "bcfs/format/bkey.h"

/* x(name, number) */
/* clang-format off */
#define BCFS_EXTENT_ENTRY_TYPES(x)                                                                 \
	x(ptr, 1)                                                                                  \
	x(crc, 2)                                                                                  \
	x(stripe_ptr, 3)                                                                           \
	x(rebalance, 4)
/* clang-format on */

enum bcfs_extent_entry_type {
#define x(name, nr) BCFS_EXTENT_ENTRY_##name = nr,
	BCFS_EXTENT_ENTRY_TYPES(x)
#undef x
		BCFS_EXTENT_ENTRY_NR
};

struct bcfs_extent_ptr {
	uint64_t type : 3,	  /* BCFS_EXTENT_ENTRY_ptr */
		cached : 1,	  /* may be dropped at any time */
		unwritten : 1,	  /* allocated, never written: reads as zeroes */
		offset : 43,	  /* sectors from the start of the device */
		dev : 8, gen : 8; /* stale when the bucket's differs */
};

/* Sizes in sectors. Extents are at most 128 KiB unencoded by default, 256 KiB always. */
struct bcfs_extent_crc {
	uint8_t type : 3, /* BCFS_EXTENT_ENTRY_crc */
		pad : 5;
	uint8_t csum_type : 4,	 /* enum bcfs_csum_type */
		compression : 4; /* enum bcfs_compression_type */
	uint8_t chunk_shift;	 /* log2 of the sectors one checksum covers (of the stored form) */
	uint8_t u64s;		 /* of this entry, nonce and checksums included */
	uint16_t stored_sectors; /* on the device */
	uint16_t uncompressed_sectors;
	uint16_t live_offset; /* into the uncompressed sectors */
	uint16_t key_gen;     /* generation of the encryption key, 0: not encrypted */
	uint16_t nr_csums;
	uint16_t pad2;
	/* if key_gen: struct bcfs_nonce; then nr_csums checksums, zero-padded to a u64 */
	uint64_t data[];
};

#define BCFS_EXTENT_MAX_SECTORS	    512U
#define BCFS_EXTENT_DEFAULT_SECTORS 256U
#define BCFS_CHUNK_SHIFT_MIN	    3U /* 4 KiB */
#define BCFS_CHUNK_SHIFT_MAX	    7U /* 64 KiB */
#define BCFS_CHUNK_SHIFT_DEFAULT    5U /* 16 KiB */
#define BCFS_CHUNK_SHIFT_ENCRYPTED  4U /* 8 KiB */

struct bcfs_extent_stripe_ptr {
	uint64_t type : 3, block : 8, redundancy : 4, idx : 49;
};

/*
 * What a key's data are to become in the background. As long as that was not tried, the key has one
 * at the same position in the rebalance_work btree (KEY_TYPE_set; inode 0: in the reflink btree).
 */
struct bcfs_extent_rebalance {
	uint64_t type : 3,	  /* BCFS_EXTENT_ENTRY_rebalance */
		compression : 12, /* type in the low 4 bits, level; type none: as it is */
		target : 16, replicas : 4, tried : 1, /* in vain: it does not become less */
		pad : 28;
};

struct bcfs_extent {
	uint64_t start[0]; /* entries */
};

/* KEY_TYPE_reservation: nr_replicas of the key's size are promised. */
struct bcfs_reservation {
	uint32_t generation;
	uint8_t nr_replicas;
	uint8_t pad[3];
};

/* KEY_TYPE_reflink_p: [idx, idx + size) of the reflink btree (inode 0), of one key or of several.
 */
struct bcfs_reflink_p {
	uint64_t idx;	    /* sectors */
	uint32_t front_pad; /* 0 */
	uint32_t back_pad;  /* 0 */
};

/* KEY_TYPE_reflink_v: then entries as in bcfs_extent. */
struct bcfs_reflink_v {
	uint64_t refcount; /* of each of its sectors: the reflink_p keys that cover it */
	uint64_t start[];  /* entries */
};

struct bcfs_indirect_inline_data {
	uint64_t refcount;
	uint8_t data[];
};

#define BCFS_INLINE_MAX_BYTES 1936U /* of the inline_max option: some of a key's room is spare */

struct bcfs_inline_data {
	uint64_t data[0]; /* bytes; the key's size may be more: the rest is zero */
};

/* KEY_TYPE_stripe: key offset is the stripe's id. Pointers, then checksums, follow. */
struct bcfs_stripe {
	uint32_t sectors;
	uint8_t algorithm;
	uint8_t nr_blocks;
	uint8_t nr_redundant;
	uint8_t csum_granularity_bits;
	uint8_t csum_type;
	uint8_t pad[7];
	struct bcfs_extent_ptr ptrs[];
};

#endif
