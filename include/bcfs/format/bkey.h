/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * On-disk format: keys.
 *
 * A key is a header, a position (bpos) and a value right behind it; its size,
 * value included, is counted in u64s. struct bkey is the unpacked form, itself
 * described by BKEY_FORMAT_CURRENT; inside a btree node most keys are packed
 * with the node's own bkey_format (see doc/format.md, "Packed keys").
 *
 * In both forms the most significant bits of the position lie in the highest
 * u64 of the key, so that keys of one format compare word by word from the top.
 */
#ifndef BCFS_FORMAT_BKEY_H
#define BCFS_FORMAT_BKEY_H

#include "bcfs/format/types.h"

struct bpos {
	uint32_t snapshot;
	uint64_t offset;
	uint64_t inode;
} BCFS_PACKED __attribute__((aligned(4)));

#define BKEY_FORMAT_LOCAL   0 /* packed with the format of its node */
#define BKEY_FORMAT_CURRENT 1 /* struct bkey */

struct bkey {
	uint8_t u64s;		    /* key and value, in u64s */
	uint8_t format : 7,	    /* BKEY_FORMAT_CURRENT */
		needs_whiteout : 1; /* in memory only; zero on disk */
	uint8_t type;		    /* enum bkey_type */
	uint8_t pad;
	uint32_t version;
	uint32_t size; /* sectors; extents only, else 0 */
	struct bpos p;
};

#define BKEY_U64s	  (sizeof(struct bkey) / sizeof(uint64_t)) /* 4 */
#define BKEY_U64s_MAX	  255
#define BKEY_VAL_U64s_MAX (BKEY_U64s_MAX - BKEY_U64s)

/* The header that packed and unpacked keys share; key bits follow. */
struct bkey_packed {
	uint8_t u64s;
	uint8_t format : 7, needs_whiteout : 1;
	uint8_t type;
	uint8_t key_start[5]; /* the rest of the first u64; the key may be longer */
};

/* Bits of the first u64 taken by u64s, format and type. */
#define BKEY_PACKED_HEADER_BITS 24

enum bkey_fields {
	BKEY_FIELD_INODE,
	BKEY_FIELD_OFFSET,
	BKEY_FIELD_SNAPSHOT,
	BKEY_FIELD_SIZE,
	BKEY_FIELD_VERSION,
	BKEY_NR_FIELDS
};

/*
 * Per field: bits in the packed key and the offset subtracted before packing.
 * A field of 0 bits always equals its offset.
 */
struct bkey_format {
	uint8_t key_u64s;
	uint8_t nr_fields;
	uint8_t bits_per_field[6]; /* the last is reserved, 0 */
	uint64_t field_offset[6];
};

/* A key with its value inline. */
struct bkey_i {
	uint64_t _data[0];
	struct bkey k;
	uint64_t v[];
};

/*
 * Key types: x(name, stable number, value struct has a fixed minimum in bytes,
 * one line). Numbers are never reused. Types below 2 have no value of their own.
 */
/* clang-format off */
#define BCFS_BKEY_TYPES(x)                                                                         \
	x(deleted, 0, 0, "no key here; dropped when the node is compacted")                        \
	x(whiteout, 1, 0, "hides the keys of ancestor snapshots")                                  \
	x(hash_whiteout, 2, 0, "a removed entry of a hashed directory, keeps the probe chain")     \
	x(error, 3, 0, "data lost: reads answer EIO")                                              \
	x(cookie, 4, 8, "a number: of free buckets; in tests anything")                            \
	x(btree_ptr, 5, 48, "pointer to a btree node")                                             \
	x(extent, 6, 8, "file data: pointers and checksums")                                       \
	x(reservation, 7, 8, "a promise of space, no data")                                        \
	x(inline_data, 8, 0, "file data inside the key")                                           \
	x(reflink_p, 9, 16, "file data shared through the reflink btree")                          \
	x(reflink_v, 10, 16, "shared data with its count")                                         \
	x(indirect_inline_data, 11, 8, "shared inline data with its count")                        \
	x(inode, 12, 24, "inode")                                                                  \
	x(inode_generation, 13, 8, "the last generation of a freed inode number")                  \
	x(dirent, 14, 11, "directory entry")                                                       \
	x(xattr, 15, 8, "extended attribute, or a numbered piece of one")                          \
	x(alloc, 16, 48, "bucket state")                                                           \
	x(set, 17, 0, "present, nothing more")                                                     \
	x(backpointer, 18, 32, "where the key that points at this space is")                       \
	x(lru, 19, 8, "entry of an LRU")                                                           \
	x(snapshot, 20, 64, "snapshot tree node")                                                  \
	x(snapshot_tree, 21, 16, "snapshot tree")                                                  \
	x(subvolume, 22, 48, "subvolume")                                                          \
	x(stripe, 23, 16, "erasure coded stripe")                                                  \
	x(quota, 24, 64, "quota limits and use")                                                   \
	x(logged_op_truncate, 25, 24, "a truncate under way")                                      \
	x(logged_op_finsert, 26, 40, "an insert or collapse of range under way")                   \
	x(accounting, 27, 8, "counters")                                                           \
	x(bucket_gens, 28, 8, "generations of 256 buckets")
/* clang-format on */

enum bkey_type {
#define x(name, nr, minval, doc) KEY_TYPE_##name = nr,
	BCFS_BKEY_TYPES(x)
#undef x
		KEY_TYPE_NR
};

/* A value that is a single number (KEY_TYPE_cookie): see freespace in alloc.h. */
struct bcfs_cookie {
	uint64_t cookie;
};

/* KEY_TYPE_lru: what the entry leads to. */
struct bcfs_lru {
	uint64_t idx;
};

/*
 * Btrees: x(name, stable number, flags, doc). Flags: S = keys carry a snapshot
 * id, E = keys are extents, M = metadata about space (its updates may dig into
 * reserves). Ids are never reused.
 */
#define BTREE_IS_EXTENTS    (1U << 0)
#define BTREE_HAS_SNAPSHOTS (1U << 1)
#define BTREE_IS_ALLOC_INFO (1U << 2)
#define BTREE_HAS_IDS	    (1U << 3) /* a snapshot id is part of the position, nothing more */

/* clang-format off */
#define BCFS_BTREE_IDS(x)                                                                          \
	x(extents, 0, BTREE_IS_EXTENTS | BTREE_HAS_SNAPSHOTS, "file data")                         \
	x(inodes, 1, BTREE_HAS_SNAPSHOTS, "inodes")                                                \
	x(dirents, 2, BTREE_HAS_SNAPSHOTS, "directory entries")                                    \
	x(xattrs, 3, BTREE_HAS_SNAPSHOTS, "extended attributes")                                   \
	x(alloc, 4, BTREE_IS_ALLOC_INFO, "one key a bucket in use")                                \
	x(freespace, 5, BTREE_IS_ALLOC_INFO, "runs of free buckets")                               \
	x(need_discard, 6, BTREE_IS_ALLOC_INFO, "empty buckets waiting for journal and discard")   \
	x(backpointers, 7, BTREE_IS_ALLOC_INFO, "from device space to keys")                       \
	x(lru, 8, BTREE_IS_ALLOC_INFO, "buckets by fragmentation; cached buckets by age")          \
	x(snapshots, 9, 0, "snapshot tree")                                                        \
	x(snapshot_inodes, 10, 0, "inodes that have keys in a snapshot id")                        \
	x(subvolumes, 11, 0, "subvolumes")                                                         \
	x(reflink, 12, BTREE_IS_EXTENTS, "shared data")                                            \
	x(stripes, 13, 0, "erasure coded stripes")                                                 \
	x(quotas, 14, 0, "quotas")                                                                 \
	x(deleted_inodes, 15, 0, "unlinked, maybe open")                                           \
	x(logged_ops, 16, 0, "long operations under way")                                          \
	x(rebalance_work, 17, BTREE_HAS_IDS, "data to be rewritten in the background")                         \
	x(accounting, 18, 0, "persistent counters")
/* clang-format on */

enum btree_id {
#define x(name, nr, flags, doc) BTREE_ID_##name = nr,
	BCFS_BTREE_IDS(x)
#undef x
		BTREE_ID_NR
};

/* Highest level of a btree; a root at level 7 holds more than any device. */
#define BTREE_MAX_DEPTH 8

#endif
