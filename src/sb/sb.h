/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The superblock of one device: found, checked, changed in memory, written.
 *
 * A device holds several copies (format/superblock.h): behind the free first
 * 4 KiB, right after that copy's area, and in the last area. struct sb_handle
 * holds the newest valid one in a buffer as large as an area, so fields may
 * grow in place up to that.
 *
 * Invariants:
 *  1. sb_validate() runs on what was read and on what is about to be written;
 *     nothing that it refuses is used or written;
 *  2. at any moment of sb_write() at least one copy on the device is whole, and
 *     not older than what was read: the first copy is flushed before the next is
 *     touched, and those that are old or damaged are written before the others;
 *  3. fields this program does not know, and bits and bytes it does not know in
 *     known ones, are carried along unchanged;
 *  4. seq only grows, also over a failed write;
 *  5. reading never writes; damaged copies are mended by the next sb_write().
 *
 * Locks: handle->lock protects all of *handle->sb. Whoever changes the
 * superblock holds it over the change and the sb_write(), so that a half-made
 * change is never written. Pointers into fields die at any resize. It is held
 * over I/O; no other lock of the core is taken under it.
 *
 * Encryption and the keys of it: sb_crypt.h.
 *
 * What is not done here: deciding whether a mount is allowed (core/), and the
 * meaning of the keys in the clean field (journal/).
 */
#ifndef BCFS_SB_SB_H
#define BCFS_SB_SB_H

#include "bcfs/format/btree.h"
#include "bcfs/format/extent.h"
#include "bcfs/format/journal.h"
#include "bcfs/format/superblock.h"
#include "dev/bdev.h"
#include "env/env.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/printbuf.h"

struct csum_key;
struct keyring;

struct sb_handle {
	struct env *env;
	struct bdev *bdev;
	const struct log *log;
	struct env_mutex lock;
	struct bcfs_sb *sb; /* protected by lock; 512 << layout.max_size_bits bytes */
	u32 copies_valid;   /* bit i: copy i verified and was the newest when read, or written */
	bool read_only;	    /* unknown ro_compat features: sb_write refuses */
	/* Encryption (sb_crypt.h). Set once, before others have the handle, and freed with it. */
	struct keyring *keys; /* NULL: not encrypted, or not opened */
	/* The rest protected by lock. */
	const struct csum_key *next_master; /* while a new generation is being written */
	bool was_encrypted;		    /* when it was read: then covered holds */
	u8 covered[32];			    /* hash of what the MAC covers, as it was read */
};

/* ---- reading and writing ---- */

/*
 * Finds the newest valid copy. On an error one line that names the device and
 * says what to do is logged and *ret is untouched: sb_not_bcfs, sb_version,
 * sb_feature_incompat, sb_truncated, sb_all_damaged, sb_block_size_logical,
 * sb_read, nomem. bdev stays the caller's and outlives the handle.
 */
int sb_read(struct env *env, struct bdev *bdev, const struct log *log, struct sb_handle **ret);
/* The same without refusing unknown incompatible features: to print it, never to mount. */
int sb_read_any(struct env *env, struct bdev *bdev, const struct log *log, struct sb_handle **ret);
/* NULL is fine. */
void sb_free(struct sb_handle *h);
DEFINE_CLEANUP(struct sb_handle *, sb_free);

/*
 * Validates, then writes all copies with seq + 1. Fails with sb_write if fewer
 * than half of them could be written, sb_write_ro if read_only. lock is held.
 */
int sb_write(struct sb_handle *h);

static inline void sb_lock(struct sb_handle *h)
{
	env_mutex_lock(&h->lock);
}

static inline void sb_unlock(struct sb_handle *h)
{
	env_mutex_unlock(&h->lock);
}

/* ---- validation and text ---- */

/* What sb_validate() holds a superblock against; zero: not checked. */
struct sb_validate_ctx {
	u64 area_bytes;	   /* readable at sb */
	u64 copy_sector;   /* where this copy was read from */
	u64 dev_sectors;   /* of the device */
	u32 logical_block; /* of the device, bytes */
	bool skip_csum;	   /* before a checksum was computed */
	bool any_incompat; /* unknown incompatible features are no error */
};

/*
 * The one check of a superblock, after a read and before a write: sb_invalid_*,
 * sb_not_bcfs, sb_version, sb_feature_incompat, sb_truncated,
 * sb_block_size_logical; err (may be NULL) gets one line. Never reads beyond area_bytes.
 */
int sb_validate(const struct bcfs_sb *sb, const struct sb_validate_ctx *ctx, struct printbuf *err);
/* Everything, unknown fields included. sb must have been validated. */
void sb_to_text(struct printbuf *out, const struct bcfs_sb *sb);

/* ---- a new superblock ---- */

struct sb_params {
	struct bcfs_uuid uuid;	    /* zero: random */
	struct bcfs_uuid user_uuid; /* zero: random */
	const char *label;	    /* at most 32 bytes; may be NULL */
	u32 block_bytes;
	u32 node_bytes;
	u32 bucket_bytes;	       /* 0: by device size */
	u32 nr_copies;		       /* 2..8 */
	u32 max_size_bits;	       /* 0: by device size */
	u64 min_buckets;	       /* sb_dev_too_small if fewer are left for data */
	unsigned meta_csum, data_csum; /* numbers of the format */
	u16 compression;	       /* compression_opt() */
	u16 background_compression;    /* ditto */
	unsigned chunk_shift, errors, extent_max_sectors, inline_max_bytes;
	bool discard;
};

#define SB_PARAMS_DEFAULT                                                                          \
	(struct sb_params)                                                                         \
	{                                                                                          \
		.block_bytes = 4096, .node_bytes = BTREE_NODE_SIZE_DEFAULT,                        \
		.nr_copies = BCFS_SB_COPIES, .min_buckets = 16, .meta_csum = BCFS_CSUM_crc32c,     \
		.data_csum = BCFS_CSUM_crc32c, .chunk_shift = BCFS_CHUNK_SHIFT_DEFAULT,            \
		.extent_max_sectors = BCFS_EXTENT_DEFAULT_SECTORS                                  \
	}

/*
 * A superblock with layout and members for a device of its own, in memory only;
 * the caller adds fields and calls sb_write(). Errors (sb_invalid_params,
 * sb_dev_too_small with the least size, sb_block_size_logical, nomem) are logged.
 */
int sb_init(struct env *env, struct bdev *bdev, const struct log *log,
	    const struct sb_params *params, struct sb_handle **ret);
/* The least device for params, bytes; p->bucket_bytes 0: the smallest default. */
u64 sb_min_dev_bytes(const struct sb_params *p);
u32 sb_default_bucket_bytes(u64 dev_bytes, u32 node_bytes);
/* Overwrites with zeroes every place where any bcfs superblock may lie, and flushes. */
int sb_erase(struct bdev *bdev);

/* Limits of layout.max_size_bits (log2 of sectors). */
#define SB_SIZE_BITS_MIN     4
#define SB_SIZE_BITS_DEFAULT 8
#define SB_SIZE_BITS_MAX     11

static inline size_t sb_area_bytes(const struct bcfs_sb *sb)
{
	return (size_t)SECTOR_SIZE << sb->layout.max_size_bits;
}

static inline size_t sb_bytes(const struct bcfs_sb *sb)
{
	return sizeof(*sb) + (size_t)sb->u64s * 8;
}

/* What the magics of nodes and journal entries are xored with. */
static inline u64 sb_magic(const struct bcfs_sb *sb)
{
	u64 v;

	__builtin_memcpy(&v, sb->uuid.b, sizeof(v));
	return v;
}

/* ---- fields: lock is held (or nobody else has the handle) ---- */

/* NULL if there is none. Unknown types may be asked for, too. */
struct bcfs_sb_field *sb_field_get(const struct bcfs_sb *sb, u32 type);
/*
 * Makes the field u64s words long, header included: made (zeroed), grown
 * (zeroed behind the old end), cut, or with 0 removed. sb_full leaves all as it
 * was. *ret (may be NULL) is the field, NULL if removed.
 */
int sb_field_resize(struct sb_handle *h, u32 type, u32 u64s, struct bcfs_sb_field **ret);
/* "members"; "unknown" for types without a row. */
const char *sb_field_name(u32 type);

/* Typed: the field with its own struct, or NULL. */
#define SB_FIELDS_TYPED(x)                                                                         \
	x(members) x(journal) x(crypt) x(clean) x(blacklist) x(errors) x(labels) x(downgrade)
#define x(name)                                                                                    \
	static inline struct bcfs_sb_field_##name *sb_field_##name(const struct bcfs_sb *sb)       \
	{                                                                                          \
		return (struct bcfs_sb_field_##name *)sb_field_get(sb, BCFS_SB_FIELD_##name);      \
	}
SB_FIELDS_TYPED(x)
#undef x

/* ---- members ---- */

unsigned sb_nr_members(const struct bcfs_sb *sb);
/* By value, since the stored size may differ; all zero if idx is out of range or free. */
struct bcfs_member sb_member_get(const struct bcfs_sb *sb, unsigned idx);
/* Grows the field if idx is the next one. sb_full. */
int sb_member_set(struct sb_handle *h, unsigned idx, const struct bcfs_member *m);

/* ---- journal buckets, in ring order ---- */

unsigned sb_journal_nr_runs(const struct bcfs_sb *sb);
struct bcfs_journal_run sb_journal_run(const struct bcfs_sb *sb, unsigned i);
u64 sb_journal_nr_buckets(const struct bcfs_sb *sb);
/* The nth bucket of the ring; n < sb_journal_nr_buckets(). */
u64 sb_journal_bucket(const struct bcfs_sb *sb, u64 n);
int sb_journal_set(struct sb_handle *h, const struct bcfs_journal_run *runs, unsigned nr);

/* ---- clean: goes together with BCFS_SB_FLAG_CLEAN ---- */

/*
 * entries: u64s words of struct jset_entry; encrypted if the handle has keys. sb_full;
 * sb_crypt_locked: the filesystem is encrypted and the handle has none.
 */
int sb_clean_set(struct sb_handle *h, u64 journal_seq, const void *entries, u32 u64s);
/*
 * A copy of the entries, whether or not the flag is set, decrypted if need be, of *ret_u64s words;
 * env_free() it. NULL with 0: there is no clean section. nomem, sb_crypt_locked, sb_crypt_clean,
 * sb_invalid_clean; the latter two are logged. lock is held.
 */
int sb_clean_read(struct sb_handle *h, u64 **ret, u32 *ret_u64s);

/* ---- blacklisted journal sequence numbers: sorted, disjoint, not adjacent ---- */

unsigned sb_blacklist_nr(const struct bcfs_sb *sb);
struct bcfs_blacklist_range sb_blacklist_range(const struct bcfs_sb *sb, unsigned i);
bool sb_blacklist_has(const struct bcfs_sb *sb, u64 seq);
/* Both inclusive; merges with what it touches. */
int sb_blacklist_add(struct sb_handle *h, u64 start, u64 end);
/* Forgets ranges that lie wholly below seq. */
void sb_blacklist_drop_below(struct sb_handle *h, u64 seq);

/* ---- errors seen ---- */

/* Counts nr more errors of a kind (a positive error code number). */
int sb_error_add(struct sb_handle *h, u32 kind, u64 nr);
u64 sb_error_nr(const struct bcfs_sb *sb, u32 kind);

/* ---- feature bits ---- */

enum sb_feature_set { SB_FEATURE_compat, SB_FEATURE_ro_compat, SB_FEATURE_incompat };

/* sb_has_zstd(sb), sb_set_zstd(sb, on), ... */
#define x(name, set, bit)                                                                          \
	static inline bool sb_has_##name(const struct bcfs_sb *sb)                                 \
	{                                                                                          \
		return sb->features_##set[(bit) / 64] >> ((bit) % 64) & 1;                         \
	}                                                                                          \
	static inline void sb_set_##name(struct bcfs_sb *sb, bool on)                              \
	{                                                                                          \
		u64 m = 1ULL << ((bit) % 64);                                                      \
		sb->features_##set[(bit) / 64] =                                                   \
			(sb->features_##set[(bit) / 64] & ~m) | (on ? m : 0);                      \
	}
BCFS_SB_FEATURES(x)
#undef x

/* NULL for bits without a row. */
const char *sb_feature_name(enum sb_feature_set set, unsigned bit);
/* sb_feature_unknown. */
int sb_feature_set_by_name(struct bcfs_sb *sb, const char *name, bool on);
int sb_feature_test_by_name(const struct bcfs_sb *sb, const char *name, bool *ret);
/*
 * True if the set has bits that this program has no name for or cannot do; they
 * are printed to out (may be NULL), by name or as "bit N".
 */
bool sb_features_unknown(const struct bcfs_sb *sb, enum sb_feature_set set, struct printbuf *out);

/* ---- defaults of options, in flags[]: x(name, shift, bits) ---- */

/* clang-format off */
#define SB_OPTS(x)                                                                                 \
	x(meta_csum,         BCFS_SB_META_CSUM_SHIFT, 4)                                           \
	x(data_csum,         BCFS_SB_DATA_CSUM_SHIFT, 4)                                           \
	x(compression,       BCFS_SB_COMPRESSION_SHIFT, 4)                                         \
	x(compression_level, BCFS_SB_COMPRESSION_LEVEL_SHIFT, 8)                                   \
	x(chunk_shift,       BCFS_SB_CHUNK_SHIFT_SHIFT, 4)                                         \
	x(errors,            BCFS_SB_ERRORS_SHIFT, 2)                                              \
	x(extent_max,        BCFS_SB_EXTENT_MAX_SHIFT, 12)                                         \
	x(inline_max,        BCFS_SB_INLINE_MAX_SHIFT, 12)                                         \
	x(background_compression,       BCFS_SB_BG_COMPRESSION_SHIFT, 4)                           \
	x(background_compression_level, BCFS_SB_BG_COMPRESSION_LEVEL_SHIFT, 8)
/* clang-format on */

enum sb_opt {
#define x(name, shift, bits) SB_OPT_##name,
	SB_OPTS(x)
#undef x
		SB_OPT_NR
};

u64 sb_opt_get(const struct bcfs_sb *sb, enum sb_opt opt);
/* v must fit; what it means is checked by sb_validate(). */
void sb_opt_set(struct bcfs_sb *sb, enum sb_opt opt, u64 v);
/* Type and level of the default, as compression_opt(); setting it sets the codec's feature, too. */
u16 sb_compression(const struct bcfs_sb *sb);
void sb_compression_set(struct bcfs_sb *sb, u16 compression);
/* The same of what data become in the background. */
u16 sb_background_compression(const struct bcfs_sb *sb);
void sb_background_compression_set(struct bcfs_sb *sb, u16 compression);
/* What is no label: sb_invalid_params, and why in @err. */
int sb_label_check(const char *label, struct printbuf *err);
/* For the next sb_write(); the same. */
int sb_label_set(struct bcfs_sb *sb, const char *label, struct printbuf *err);
/*
 * Data may be compressed with @type from now on: sets the feature bit, and writes the superblock if
 * it was not set. Takes the lock. Errors of sb_write().
 */
int sb_use_compression(struct sb_handle *h, unsigned type);
/* Is the bit set, if there is one for @type? Takes the lock. */
bool sb_tells_compression(struct sb_handle *h, unsigned type);
/* The same for shared data. */
int sb_use_reflink(struct sb_handle *h);
bool sb_tells_reflink(struct sb_handle *h);

#endif
