/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * On-disk format: btree nodes.
 *
 * A node is a region of node_size bytes inside one bucket, written strictly
 * forward in blocks: struct btree_node with the first bset, then any number of
 * struct btree_node_entry, each with one more bset, each starting on a block
 * boundary. Within a bset keys are sorted and unique; a later bset overrides
 * an earlier one; a deleted key in a later bset cancels an earlier key.
 *
 * The checksum (codec: BSET_CSUM_TYPE of the bset) covers everything behind
 * the csum field up to the end of the keys, and, before that, the node's seq
 * (64 bits) and the entry's offset in the node in sectors (64 bits), so an
 * entry that lands elsewhere does not verify. Encrypted ones have a tag there:
 * doc/format.md has what it covers.
 */
#ifndef BCFS_FORMAT_BTREE_H
#define BCFS_FORMAT_BTREE_H

#include "bcfs/format/bkey.h"

#define BCFS_BTREE_MAGIC 0x7dd1f6c3a4b85e92ULL /* xored with the filesystem's sb magic */

struct bset {
	uint64_t seq;	      /* the node's: the same in all its bsets */
	uint64_t journal_seq; /* newest journal entry that holds any of these keys */
	uint32_t flags;	      /* BSET_* */
	uint16_t version;
	uint16_t key_gen; /* generation of the key that encrypted it, 0: none */
	uint32_t u64s;	  /* of keys */
	uint32_t offset;  /* of this entry from the node's start, in sectors */
	uint64_t _keys[];
};

#define BSET_CSUM_TYPE(i)	((i)->flags & 0xf)
#define BSET_SEPARATE_WHITEOUTS (1U << 4) /* reserved */

struct btree_node {
	struct bcfs_csum csum;
	struct bcfs_nonce nonce;
	uint64_t magic;
	uint64_t flags;	     /* btree id: 0-15, level: 16-19 */
	uint64_t ptr_id;     /* the first pointer in the parent's key, as it is there */
	struct bpos min_key; /* first position covered */
	struct bpos max_key; /* last position covered: the parent's key */
	struct bkey_format format;
	struct bset keys;
};

#define BTREE_NODE_ID(n)	    ((unsigned)((n)->flags & 0xffff))
#define BTREE_NODE_LEVEL(n)	    ((unsigned)(((n)->flags >> 16) & 0xf))
#define BTREE_NODE_FLAGS(id, level) ((uint64_t)(id) | (uint64_t)(level) << 16)

struct btree_node_entry {
	struct bcfs_csum csum;
	struct bcfs_nonce nonce;
	uint64_t pad;
	struct bset keys;
};

/*
 * Value of an interior key (KEY_TYPE_btree_ptr): the child node whose last
 * position is the key's. Pointers (struct bcfs_extent_ptr) follow.
 */
struct bcfs_btree_ptr {
	uint64_t mem_ptr;	  /* in memory only; zero on disk */
	uint64_t seq;		  /* the node's: a random number, new for each node written */
	uint32_t sectors_written; /* valid bsets reach to here; less on disk is damage */
	uint32_t flags;		  /* reserved */
	struct bpos min_key;
	uint32_t pad;
	uint64_t start[]; /* struct bcfs_extent_ptr */
};

#define BTREE_NODE_SIZE_MIN	(4U << 10)
#define BTREE_NODE_SIZE_MAX	(1U << 20)
#define BTREE_NODE_SIZE_DEFAULT (256U << 10)

#endif
