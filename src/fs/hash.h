/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hashed names: where a dirent or xattr lies among the keys of its inode.
 *
 * The place wanted is SipHash-2-4 of the name, keyed by the inode's hash_seed, cut to 63
 * bits and kept off the ends. A collision probes the next place, and the next, up to the first
 * hole. So that a removal breaks no chain, it leaves a KEY_TYPE_hash_whiteout where the next
 * place is taken (by a key or a hash whiteout), and else a hole; then hash whiteouts right before
 * that hole have no use any more, and go too.
 *
 * Invariant: between the place wanted and the place of a key, all places hold a key or a hash
 * whiteout, as seen from any snapshot that sees the key. Snapshots need nothing special: a
 * hash whiteout is a key like others, a removal in a child of what an ancestor has leaves the
 * btree's own whiteout, which is a hole to the filter.
 *
 * Names of one inode are changed under an intent lock on its inode key, so two searches never
 * find one free place for two names.
 */
#ifndef BCFS_FS_HASH_H
#define BCFS_FS_HASH_H

#include "fs/inode.h"

/* Chains may run on behind the greatest hash wanted. */
#define HASH_WANTED_MAX (BCFS_DIRENT_HASH_MAX - (1ULL << 20))

struct hash_key {
	u8 k[16];
	u8 bits; /* kept of the hash; 0: all */
};

/* The 128-bit key of SipHash: hash_seed and its complement, little-endian. */
struct hash_key hash_key_init(const struct bcfs *c, const struct bcfs_inode_unpacked *inode);
/* The place wanted by these bytes. */
u64 hash_name(const struct hash_key *key, const void *name, size_t len);

struct hash_search {
	enum btree_id btree;
	enum bkey_type type;
	u64 inum;
	u32 snapshot;
	u64 hash; /* the place wanted */
	bool (*match)(struct bkey_s_c k, const void *arg);
	const void *arg;
};

#define HASH_NOT_FOUND 1

/*
 * Find the key: 0 with @iter at it and *ret_k, or HASH_NOT_FOUND with @iter anywhere. @iter is
 * initialised in any case. *ret_free (may be NULL): where a new key goes.
 */
int hash_find(struct btree_trans *trans, struct btree_iter *iter, const struct hash_search *s,
	      unsigned flags, struct bkey_s_c *ret_k, u64 *ret_free);
/* Remove the key that @iter (with intent) is at. */
int hash_delete(struct btree_trans *trans, struct btree_iter *iter, const struct hash_search *s);

#endif
