/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of sb/ share: walking fields, reporting what is wrong, and where
 * copies may lie on a device.
 */
#ifndef BCFS_SB_PRIVATE_H
#define BCFS_SB_PRIVATE_H

#include "sb/sb.h"

/* One line to err (may be NULL); yields the negative code. */
#define sb_fail(err, code, ...)                                                                    \
	({                                                                                         \
		if (err)                                                                           \
			prt_printf(err, __VA_ARGS__);                                              \
		-BCFS_ERR_##code;                                                                  \
	})

/* Of all fields, known or not; sb must have been validated. */
#define for_each_sb_field(sb, f)                                                                   \
	for (struct bcfs_sb_field *f = (struct bcfs_sb_field *)(sb)->start;                        \
	     (u64 *)f < (sb)->start + (sb)->u64s;                                                  \
	     f = (struct bcfs_sb_field *)((u64 *)f + f->u64s))

static inline size_t sb_field_bytes(const struct bcfs_sb_field *f)
{
	return (size_t)f->u64s * 8;
}

/* How many entries of an array at offset off, each of `each` bytes, a field holds. */
static inline unsigned sb_field_nr(const struct bcfs_sb_field *f, size_t off, size_t each)
{
	return f && sb_field_bytes(f) > off ? (sb_field_bytes(f) - off) / each : 0;
}

#define sb_array_nr(f, member)                                                                     \
	((f) ? sb_field_nr(&(f)->field, offsetof(__typeof__(*(f)), member),                        \
			   sizeof((f)->member[0]))                                                 \
	     : 0)

/* More runs than this have no sense, and make checking them slow. */
#define SB_JOURNAL_RUNS_MAX 1024

/* Sector of the copy in the last area of a device; 0 if it does not fit. */
static inline u64 sb_last_sector(u64 dev_sectors, unsigned size_bits)
{
	u64 end = round_down(dev_sectors, BCFS_SB_SECTOR), area = 1ULL << size_bits;

	return end >= area + BCFS_SB_SECTOR ? end - area : 0;
}

/* Sectors a device can have at most: what a pointer reaches. */
#define SB_DEV_SECTORS_MAX (1ULL << 43)

/* Now, as the format counts time. */
u64 sb_now(struct env *env);

/* A handle with a zeroed buffer of 512 << size_bits bytes; NULL without memory. */
struct sb_handle *sb_handle_alloc(struct env *env, struct bdev *bdev, const struct log *log,
				  unsigned size_bits);

/* ---- encryption (sb_seal.c) ---- */

/* Behind the slots; c->nr_old of them. */
static inline struct bcfs_crypt_old_key *sb_crypt_old(const struct bcfs_sb_field_crypt *c)
{
	return (struct bcfs_crypt_old_key *)(c->slots + c->nr_slots);
}

static inline size_t sb_crypt_field_bytes(unsigned nr_slots, unsigned nr_old)
{
	return sizeof(struct bcfs_sb_field_crypt) + nr_slots * sizeof(struct bcfs_crypt_slot) +
	       nr_old * sizeof(struct bcfs_crypt_old_key);
}

/* The code over all that it covers, by the key for it of a generation; NULL: a plain hash. */
void sb_mac(const struct bcfs_sb *sb, const struct csum_key *master, u8 ret[32]);
/* Of a superblock just read: what a handle without keys may not change. */
void sb_covered_note(struct sb_handle *h);
/* Before each write: the MAC anew, or sb_crypt_locked (one line to err). */
int sb_sign(struct sb_handle *h, struct printbuf *err);
/* Whether words are journal entries to the end. */
bool sb_clean_entries_valid(const u64 *p, u64 u64s);
/* Encrypts the entries of the field in place. */
void sb_clean_seal(struct sb_handle *h, struct bcfs_sb_field_clean *c);

void sb_uuid_to_text(struct printbuf *out, const struct bcfs_uuid *uuid);

#endif
