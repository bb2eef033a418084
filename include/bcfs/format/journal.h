/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * On-disk format: the journal.
 *
 * A ring of buckets (listed in the superblock's journal field). An entry (jset)
 * starts on a block boundary and never crosses a bucket's end. The checksum
 * covers everything behind the csum field to the end of the entries, and before
 * that the entry's seq (64 bits). Encrypted ones have a tag there: doc/format.md
 * has what it covers.
 */
#ifndef BCFS_FORMAT_JOURNAL_H
#define BCFS_FORMAT_JOURNAL_H

#include "bcfs/format/bkey.h"

#define BCFS_JSET_MAGIC 0x3a8c9d5e17f204b6ULL /* xored with the filesystem's sb magic */

struct jset_entry {
	uint16_t u64s; /* of what follows the header */
	uint8_t btree_id;
	uint8_t level;
	uint8_t type; /* enum bcfs_jset_entry_type */
	uint8_t pad[3];
	uint64_t data[]; /* struct bkey_i, one or more; or as the type says */
};

/* x(name, stable number, doc) */
/* clang-format off */
#define BCFS_JSET_ENTRY_TYPES(x)                                                                   \
	x(btree_keys, 0, "updates: keys")                                                          \
	x(btree_root, 1, "a root: one KEY_TYPE_btree_ptr key; level is the root's")                \
	x(blacklist, 2, "struct bcfs_jset_blacklist: seqs never to be used")                       \
	x(usage, 3, "struct bcfs_jset_usage: counters as of the end of this entry")                \
	x(clock, 4, "struct bcfs_jset_clock")                                                      \
	x(log, 5, "text, for people")                                                              \
	x(overwrite, 6, "keys that were overwritten, for debugging")                               \
	x(dev_usage, 7, "reserved: counters per device")                                           \
	x(write_buffer_keys, 8, "reserved")                                                        \
	x(datetime, 9, "u64 ns since the epoch of the format")
/* clang-format on */

enum bcfs_jset_entry_type {
#define x(name, nr, doc) BCFS_JSET_ENTRY_##name = nr,
	BCFS_JSET_ENTRY_TYPES(x)
#undef x
		BCFS_JSET_ENTRY_NR
};

struct jset {
	struct bcfs_csum csum;
	struct bcfs_nonce nonce;
	uint64_t magic;
	uint64_t seq;
	uint64_t last_seq; /* oldest entry still needed when this one is read; flush entries only */
	uint32_t version;
	uint32_t flags; /* JSET_* */
	uint16_t key_gen;
	uint16_t pad;
	uint32_t u64s;	  /* of the entries */
	uint64_t start[]; /* struct jset_entry */
};

#define JSET_CSUM_TYPE(j) ((j)->flags & 0xf)
#define JSET_NO_FLUSH	  (1U << 5)

struct bcfs_jset_blacklist {
	uint64_t start, end; /* inclusive */
};

/* One counter per accounting type present. */
struct bcfs_jset_usage {
	uint16_t type; /* enum bcfs_accounting_type */
	uint8_t dev;
	uint8_t pad[5];
	int64_t v;
};

struct bcfs_jset_clock {
	uint8_t rw;
	uint8_t pad[7];
	uint64_t time;
};

#endif
