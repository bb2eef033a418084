/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory for secrets: keys, passphrases on their way to one. It is locked (not swapped out), left
 * out of core dumps, lies between pages that fault, and is wiped when it is freed.
 *
 * Locking may be refused (RLIMIT_MEMLOCK): then the memory is had all the same, and the caller is
 * told so that it can warn once. Each piece takes some pages of its own, so that a few larger ones
 * are better than many small ones. The first call makes libsodium choose the fastest code for this
 * CPU; whoever seals without a key from here (a keyring) calls secret_init() for that.
 *
 * Locks: none; any thread.
 */
#ifndef BCFS_CODEC_SECRET_H
#define BCFS_CODEC_SECRET_H

#include "env/env.h"
#include "util/cleanup.h"
#include "util/types.h"

/* Once is enough, more often harmless. random_source: libsodium cannot be used here. */
int secret_init(void);
/*
 * Zeroed, aligned to 16. NULL: no memory (fault point "secret_alloc"). *ret_locked (may be NULL):
 * whether it cannot be swapped out.
 */
void *secret_alloc(struct env *env, size_t bytes, bool *ret_locked);
/* Wipes. NULL is fine. */
void secret_free(void *p);
DEFINE_CLEANUP(void *, secret_free);
/* Zeroes what is elsewhere, and is not optimised away. */
void secret_wipe(void *p, size_t bytes);
/* In a time that does not depend on where they differ. */
bool secret_equal(const void *a, const void *b, size_t bytes);

#endif
