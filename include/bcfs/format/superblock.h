/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * On-disk format: the superblock.
 *
 * Copies lie at the offsets of the layout: BCFS_SB_SECTOR (4 KiB from the start;
 * the first 4 KiB stay free), right behind that copy's area, and in the last
 * area of the device. Each copy has room for 1 << layout.max_size_bits sectors.
 * The newest valid copy (seq) wins. The checksum (codec csum_type,
 * never keyed) covers everything behind the csum field, fields included; offset
 * is the copy's own place, so a copy found elsewhere does not verify.
 */
#ifndef BCFS_FORMAT_SUPERBLOCK_H
#define BCFS_FORMAT_SUPERBLOCK_H

#include "bcfs/format/types.h"

#define BCFS_SB_SECTOR	   8ULL
#define BCFS_SB_COPIES	   3
#define BCFS_SB_COPIES_MAX 8

/* "bcfs" and a random tail: ours alone. */
#define BCFS_SB_MAGIC                                                                              \
	{                                                                                          \
		0x62, 0x63, 0x66, 0x73, 0xd4, 0x1e, 0x4b, 0x6f, 0x9a, 0x37, 0xe8, 0x05, 0x7c,      \
			0xb2, 0x51, 0xa9                                                           \
	}

struct bcfs_sb_layout {
	uint8_t nr_copies;
	uint8_t max_size_bits; /* log2 of sectors */
	uint8_t pad[6];
	uint64_t offset[BCFS_SB_COPIES_MAX]; /* sectors */
};

struct bcfs_sb {
	struct bcfs_csum csum;
	uint8_t magic[16];
	uint16_t version;     /* that the device is written in */
	uint16_t version_min; /* oldest structure on it */
	uint8_t csum_type;
	uint8_t pad[3];
	uint64_t offset; /* of this copy, in sectors */
	uint64_t seq;
	struct bcfs_uuid uuid;	    /* of the filesystem, internal: seeds magics and hashes */
	struct bcfs_uuid user_uuid; /* of the filesystem, as users see it */
	uint8_t label[32];	    /* not necessarily NUL-terminated */
	uint16_t block_sectors;
	uint16_t pad2;
	uint32_t btree_node_sectors;
	uint8_t dev_idx; /* the device this copy is on */
	uint8_t nr_devices;
	uint8_t pad3[2];
	uint32_t u64s;	     /* of the fields */
	uint64_t time_base;  /* ns: when it was made */
	uint64_t write_time; /* ns: of this copy */
	uint64_t flags[4];   /* BCFS_SB_FLAG_*, and defaults of options */
	uint64_t features_compat[2];
	uint64_t features_ro_compat[2];
	uint64_t features_incompat[2];
	uint64_t reserved[8];
	struct bcfs_sb_layout layout;
	uint64_t start[]; /* struct bcfs_sb_field */
};

/* flags[0] */
#define BCFS_SB_FLAG_CLEAN	 (1ULL << 0)
#define BCFS_SB_FLAG_INITIALIZED (1ULL << 1)
#define BCFS_SB_FLAG_ERROR	 (1ULL << 2) /* fsck is due */
#define BCFS_SB_FLAG_DISCARD	 (1ULL << 3)
/* flags[0], wider: shift, bits */
#define BCFS_SB_META_CSUM_SHIFT		8  /* 4 bits: enum bcfs_csum_type */
#define BCFS_SB_DATA_CSUM_SHIFT		12 /* 4 bits */
#define BCFS_SB_COMPRESSION_SHIFT	16 /* 4 bits: enum bcfs_compression_type; 4 bits unused */
#define BCFS_SB_CHUNK_SHIFT_SHIFT	24 /* 4 bits: log2 sectors of a checksum chunk */
#define BCFS_SB_ERRORS_SHIFT		28 /* 2 bits: enum bcfs_errors_mode */
#define BCFS_SB_EXTENT_MAX_SHIFT	32 /* 12 bits: sectors of the longest extent */
#define BCFS_SB_COMPRESSION_LEVEL_SHIFT 44 /* 8 bits, signed; 0: the codec's default */
#define BCFS_SB_INLINE_MAX_SHIFT	52 /* 12 bits: bytes of the longest inline data */
/* flags[1], 64 added to each shift */
#define BCFS_SB_BG_COMPRESSION_SHIFT	   64 /* 4 bits: what data become in the background */
#define BCFS_SB_BG_COMPRESSION_LEVEL_SHIFT 68 /* 8 bits, signed; 0: the codec's default */
#define BCFS_SB_OPTIONS_1		   0xfffULL

enum bcfs_errors_mode {
	BCFS_ERRORS_ro = 0,
	BCFS_ERRORS_continue = 1,
	BCFS_ERRORS_panic = 2,
};

/* Feature bits: x(name, set, bit). Sets: compat, ro_compat, incompat. */
/* clang-format off */
#define BCFS_SB_FEATURES(x)                                                                        \
	x(zstd, incompat, 0)                                                                       \
	x(lz4, incompat, 1)                                                                        \
	x(encryption, incompat, 2)                                                                 \
	x(reflink, incompat, 3)                                                                    \
	x(inline_data, incompat, 4)                                                                \
	x(erasure_code, incompat, 5)                                                               \
	x(multi_device, incompat, 6)                                                               \
	x(snapshots, ro_compat, 0)                                                                 \
	x(quota, ro_compat, 1)                                                                     \
	x(discarded, compat, 0)
/* clang-format on */

enum bcfs_sb_feature_bits {
#define x(name, set, bit) BCFS_FEATURE_##name = bit,
	BCFS_SB_FEATURES(x)
#undef x
};

struct bcfs_sb_field {
	uint32_t u64s; /* header included */
	uint32_t type; /* enum bcfs_sb_field_type */
	uint64_t data[0];
};

/* x(name, stable number, doc) */
/* clang-format off */
#define BCFS_SB_FIELDS(x)                                                                          \
	x(members, 0, "devices")                                                                   \
	x(journal, 1, "journal buckets of this device")                                            \
	x(crypt, 2, "wrapped keys")                                                                \
	x(clean, 3, "roots and counters at clean unmount")                                         \
	x(blacklist, 4, "journal sequence numbers never to be used")                               \
	x(errors, 5, "errors seen, by kind")                                                       \
	x(downgrade, 6, "versions and what they need")                                             \
	x(labels, 7, "device labels and targets")                                                  \
	x(counters, 8, "reserved: persistent statistics")                                          \
	x(replicas, 9, "reserved: sets of devices that hold data")                                 \
	x(quota, 10, "quota state")
/* clang-format on */

enum bcfs_sb_field_type {
#define x(name, nr, doc) BCFS_SB_FIELD_##name = nr,
	BCFS_SB_FIELDS(x)
#undef x
		BCFS_SB_FIELD_NR
};

struct bcfs_member {
	struct bcfs_uuid uuid; /* zero: slot is free */
	uint64_t nr_buckets;
	uint32_t bucket_sectors;
	uint16_t first_bucket; /* first that may hold data: those before overlap superblocks */
	uint8_t state;	       /* enum bcfs_member_state */
	uint8_t durability;
	uint32_t label;	     /* index into labels, + 1 */
	uint32_t flags;	     /* BCFS_MEMBER_* */
	uint64_t last_mount; /* ns */
	uint64_t errors[3];  /* read, write, checksum */
	uint64_t seq;	     /* of the superblock when last written with this device */
	uint64_t reserved[4];
};

#define BCFS_MEMBER_DISCARD	 (1U << 0)
#define BCFS_MEMBER_FREESPACE_OK (1U << 1) /* freespace btree was initialised */

enum bcfs_member_state {
	BCFS_MEMBER_rw = 0,
	BCFS_MEMBER_ro = 1,
	BCFS_MEMBER_evacuating = 2,
	BCFS_MEMBER_spare = 3,
};

struct bcfs_sb_field_members {
	struct bcfs_sb_field field;
	uint32_t member_bytes; /* size of one, so that it can grow */
	uint32_t nr;
	struct bcfs_member m[];
};

/* Runs of buckets, in ring order. */
struct bcfs_sb_field_journal {
	struct bcfs_sb_field field;
	struct bcfs_journal_run {
		uint64_t start, nr; /* buckets */
	} d[];
};

/*
 * Encryption. Each generation has a random master key of 32 bytes, from which the keys that encrypt
 * are derived (doc/format.md). The newest is wrapped in each slot by what a passphrase or key file
 * yields; older ones, which data may still be encrypted by, are wrapped by the newest.
 */
struct bcfs_crypt_slot {
	uint8_t type; /* enum bcfs_crypt_slot_type */
	uint8_t pad[3];
	uint32_t kdf_ops; /* Argon2id; 0 of a key file */
	uint64_t kdf_mem; /* bytes */
	uint8_t salt[16];
	struct bcfs_nonce nonce;
	uint8_t wrapped[64]; /* master key, tag, zeroes */
	uint64_t reserved[2];
};

enum bcfs_crypt_slot_type {
	BCFS_CRYPT_SLOT_free = 0,
	BCFS_CRYPT_SLOT_passphrase = 1,
	BCFS_CRYPT_SLOT_key_file = 2,
};

struct bcfs_crypt_old_key {
	uint16_t key_gen;
	uint8_t pad[6];
	struct bcfs_nonce nonce;
	uint8_t wrapped[64]; /* master key, tag, zeroes */
};

#define BCFS_CRYPT_SLOTS     8	/* that are made */
#define BCFS_CRYPT_SLOTS_MAX 16 /* that there may be */
#define BCFS_CRYPT_OLD_MAX   7
/* Bounds of Argon2id's cost: passes, bytes, and the product of both. */
#define BCFS_CRYPT_KDF_OPS_MAX	64
#define BCFS_CRYPT_KDF_MEM_MIN	8192ULL
#define BCFS_CRYPT_KDF_MEM_MAX	(4ULL << 30)
#define BCFS_CRYPT_KDF_COST_MAX (32ULL << 30)

struct bcfs_sb_field_crypt {
	struct bcfs_sb_field field;
	uint16_t key_gen; /* of the newest master key, from 1 */
	uint16_t nr_slots;
	uint16_t nr_old;
	uint8_t pad[2];
	struct bcfs_csum mac; /* over what decides how the filesystem is read */
	struct bcfs_crypt_slot slots[];
	/* then struct bcfs_crypt_old_key[nr_old], generations ascending */
};

struct bcfs_sb_field_clean {
	struct bcfs_sb_field field;
	uint64_t journal_seq; /* of the last entry: the next mount begins behind it */
	uint32_t flags;	      /* codec as in a bset */
	uint16_t key_gen;
	uint16_t pad;
	struct bcfs_nonce nonce;
	struct bcfs_csum csum;
	uint64_t start[]; /* struct jset_entry: roots, usage, clock */
};

struct bcfs_sb_field_blacklist {
	struct bcfs_sb_field field;
	struct bcfs_blacklist_range {
		uint64_t start, end; /* inclusive */
	} d[];
};

struct bcfs_sb_field_errors {
	struct bcfs_sb_field field;
	struct bcfs_sb_error {
		uint32_t kind; /* error code number */
		uint32_t pad;
		uint64_t nr;
		uint64_t last; /* ns */
	} d[];
};

/* What a program that is older than the filesystem must do before it writes to it. */
struct bcfs_sb_field_downgrade {
	struct bcfs_sb_field field;
	struct bcfs_sb_downgrade {
		uint16_t version; /* for programs older than this */
		uint16_t pad;
		uint32_t flags;	 /* reserved */
		uint64_t passes; /* recovery passes to run, by stable number */
	} d[];
};

struct bcfs_sb_field_labels {
	struct bcfs_sb_field field;
	struct bcfs_sb_label {
		uint8_t name[32];
		uint32_t parent;
		uint32_t pad;
	} d[];
};

#endif
