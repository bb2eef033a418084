/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The keys of a filesystem while it is open, in secret memory.
 *
 * Each generation has a random master key of 32 bytes, which encrypts nothing itself: one key for
 *each purpose is derived from it,
 *
 *	key = BLAKE2b-256(key: master, salt: number of the purpose, personal: "bcfs key")
 *
 * (libsodium's crypto_kdf), so that no key serves two purposes, and neither a weakness in the use
 * of one nor its loss says anything of the others. New things are sealed with the newest
 *generation; what is on the device says in key_gen by which it was.
 *
 * A ring only grows: while it is in use, generations are added at its end (when the master key is
 * replaced), and none goes before the ring does.
 *
 * Locks: reading takes none and may run beside keyring_add(); two of the latter may not run at
 * once. The pointers that are handed out hold until keyring_free().
 */
#ifndef BCFS_CODEC_KEYRING_H
#define BCFS_CODEC_KEYRING_H

#include "codec/codec.h"
#include "env/env.h"
#include "util/cleanup.h"

#define KEYRING_GENS_MAX 16
#define KEY_BYTES	 32

/* x(purpose, number, what it seals); the numbers are stable. */
/* clang-format off */
#define KEY_USES(x)                                                                                \
	x(data, 1, "extents")                                                                      \
	x(btree, 2, "btree nodes")                                                                 \
	x(journal, 3, "journal entries")                                                           \
	x(sb_mac, 4, "authentication code of the superblock")                                      \
	x(clean, 5, "clean section of the superblock")                                             \
	x(wrap, 6, "older master keys")
/* clang-format on */

enum key_use {
#define x(name, nr, doc) KEY_USE_##name = nr,
	KEY_USES(x)
#undef x
		KEY_USE_NR
};

struct keyring;

/* NULL: no memory. *ret_locked as of secret_alloc(). */
struct keyring *keyring_new(struct env *env, bool *ret_locked);
/* The same with all generations of r. */
struct keyring *keyring_copy(struct env *env, const struct keyring *r);
/* Wipes it. NULL is fine. */
void keyring_free(struct keyring *r);
DEFINE_CLEANUP(struct keyring *, keyring_free);

/* Generations in it. */
unsigned keyring_nr(const struct keyring *r);
/* Adds a generation, newer than those that are there. keyring_full. */
int keyring_add(struct keyring *r, const struct csum_key *master);
/* NULL: there is no such generation (any number may be asked for). */
const struct csum_key *keyring_get(const struct keyring *r, enum key_use use, u16 gen);
/* What new things are sealed with; its gen says which generation that is. Not of an empty ring. */
const struct csum_key *keyring_newest(const struct keyring *r, enum key_use use);
/* The master key itself, to wrap it; NULL as above. */
const struct csum_key *keyring_master(const struct keyring *r, u16 gen);

/* The key of one purpose, from a master key. */
void key_derive(const struct csum_key *master, enum key_use use, struct csum_key *ret);

#endif
