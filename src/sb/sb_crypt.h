/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Encryption in the superblock: the master keys of the filesystem, wrapped in slots that a
 * passphrase or a key file opens, and the code (MAC) that authenticates the rest.
 *
 * A filesystem has one or more generations of master keys (codec/keyring.h). Each slot wraps the
 * newest one; those before it, by which data may still be encrypted while it is being rewritten,
 * are wrapped by the newest. So whoever opens any slot has all of them, and adding, changing or
 * removing a slot rewrites nothing but the superblock. (doc/format.md has the bytes.)
 *
 * An encrypted superblock is read as any other. sb_crypt_open() tries a secret on its slots, checks
 * the MAC, and hangs the keyring into the handle, which owns it from then on. From then on
 * sb_write() makes the MAC anew each time, and sb_clean_set() encrypts. Three things can be wrong,
 * and are told apart:
 *
 *	sb_crypt_wrong_secret	no slot opens: another passphrase, please
 *	sb_all_damaged		the field of no copy makes sense: sb_read() said so, and why
 *	sb_crypt_tampered	a slot opened, but what the key authenticates was changed
 *
 * The MAC covers what decides how the filesystem is read:
 *	versions, type of the superblock's checksum, both uuids, block and node size, number of this
 * device and of all, time_base, options in flags (checksums, encryption, compression, sizes of
 * chunks and extents, errors), the flag clean, all feature bits; uuid, bucket size and buckets of
 * each device; the fields journal, blacklist and crypt, whole, and of clean what is before its
 * entries, which are encrypted: their tag among it. It does not cover what decides nothing: seq,
 * write_time, offset of the copy, the flags initialized, error and discard, label, layout of
 * copies, state, counters and times of devices, the fields errors, labels, downgrade, quota and
 * unknown ones. A whole superblock of an earlier moment is in order for it.
 *
 * Invariants:
 *  1. at least one slot is in use; the last one cannot be removed;
 *  2. the handle of an encrypted filesystem has all generations of its field, or no keys at all;
 *     without keys sb_write() refuses what the MAC covers and was changed (sb_crypt_locked);
 *  3. a generation is on the device before anything is encrypted with it: it comes into the ring
 *     after sb_write();
 *  4. secrets are in secret memory (codec/secret.h), wiped when they are no longer wanted; what is
 *     printed of a slot says nothing of them.
 *
 * Locks: the functions that change slots derive keys first (which takes a second and 256 MiB by
 * default), then take the handle's lock, change, write the superblock and, if that fails, change it
 * back. The ring may be read by others meanwhile. Two such calls at once are in order. Errors are
 * logged in one line that names the device, but for those of parameters.
 *
 * What is not done here: asking for a secret (programs do), encrypting anything but the clean
 * field.
 */
#ifndef BCFS_SB_CRYPT_H
#define BCFS_SB_CRYPT_H

#include "codec/keyring.h"
#include "sb/sb.h"

/* What opens a slot. The bytes are the caller's, who wipes them. */
struct crypt_secret {
	enum bcfs_crypt_slot_type type; /* passphrase or key_file */
	const void *p;
	size_t len; /* a passphrase: 1 to 4096 bytes; a key file, whole: 32 bytes to 8 MiB */
};

#define CRYPT_PASSPHRASE_MAX 4096U
#define CRYPT_KEY_FILE_MIN   32U
#define CRYPT_KEY_FILE_MAX   (8U << 20)

/* What a guess at a passphrase costs (Argon2id); of key files nothing. */
struct crypt_kdf {
	u32 ops; /* passes */
	u64 mem; /* bytes */
};

/* About a second on a laptop. */
#define CRYPT_KDF_DEFAULT                                                                          \
	(struct crypt_kdf)                                                                         \
	{                                                                                          \
		.ops = 3, .mem = 256ULL << 20                                                      \
	}

/*
 * sb_crypt_kdf_cost, with one line to err (may be NULL): what is possible. All slots together may
 * cost no more than one: a wrong passphrase is tried on each. More than half of the machine's
 * memory is refused where it would be taken (sb_crypt_kdf_ram), as another machine may have it.
 */
int crypt_kdf_check(const struct crypt_kdf *kdf, struct printbuf *err);
/* sb_crypt_secret_len, with one line to err (may be NULL). */
int crypt_secret_check(const struct crypt_secret *s, struct printbuf *err);

/*
 * Makes a new, unwritten superblock (sb_init()) an encrypted one: a random master key of generation
 * 1, slot 0 opened by the secret, the feature bit, and xchacha20_poly1305 as metadata and data
 * checksum. Not written. Errors of the checks above, nomem, sb_crypt_kdf_memory,
 * sb_crypt_kdf_ram, sb_full.
 */
int sb_crypt_make(struct sb_handle *h, const struct crypt_secret *s, const struct crypt_kdf *kdf);

/*
 * Opens: the handle then has its keys (h->keys). *ret_slot (may be NULL): which slot it was.
 * sb_crypt_none, sb_crypt_wrong_secret, sb_crypt_tampered, sb_crypt_kdf_memory and sb_crypt_kdf_ram
 * (a slot could not be tried, and no other opened), sb_crypt_secret_len, nomem. For whoever alone
 * has the handle.
 */
int sb_crypt_open(struct sb_handle *h, const struct crypt_secret *s, unsigned *ret_slot);
/*
 * The same with the keys of a handle that was open, of which there are the newest, instead of a
 * secret: they are copied. sb_crypt_none, sb_crypt_changed (others were written since),
 * sb_crypt_tampered, nomem.
 */
int sb_crypt_open_ring(struct sb_handle *h, const struct keyring *keys);

/*
 * Of a handle that has its keys: which slot a secret opens. Errors of sb_crypt_open() that concern
 * the secret.
 */
int sb_crypt_slot_of(struct sb_handle *h, const struct crypt_secret *s, unsigned *ret_slot);

/* ---- with the keys (h->keys), mounted or not: each writes the superblock. Errors of sb_write(),
 * too. ---- */

/* sb_crypt_slots_full, sb_crypt_kdf_cost: all slots together would cost too much. */
int sb_crypt_slot_add(struct sb_handle *h, const struct crypt_secret *s,
		      const struct crypt_kdf *kdf, unsigned *ret_slot);
/* sb_crypt_no_slot, sb_crypt_last_slot. */
int sb_crypt_slot_remove(struct sb_handle *h, unsigned slot);
/* Another secret for a slot in use: sb_crypt_no_slot. */
int sb_crypt_slot_change(struct sb_handle *h, unsigned slot, const struct crypt_secret *s,
			 const struct crypt_kdf *kdf);

/*
 * A new master key: from now on new things are encrypted by the next generation, and the caller
 * rewrites those of the old ones. A slot can be wrapped anew only by its secret: secrets has one
 * for each slot that is to stay (sb_crypt_wrong_secret: one opens none). Slots without are removed
 * if drop_others, else sb_crypt_slot_left. sb_crypt_gens: BCFS_CRYPT_OLD_MAX older generations are
 * in use; sb_crypt_gens_mount: the handle has seen KEYRING_GENS_MAX; sb_crypt_gen_last.
 */
int sb_crypt_rotate(struct sb_handle *h, const struct crypt_secret *secrets, unsigned nr,
		    bool drop_others);
/* Nothing on the device is encrypted by generations below gen any longer: their keys go. */
int sb_crypt_forget(struct sb_handle *h, u16 gen);

/* ---- the field (lock held; false and 0 when not encrypted) ---- */

/* Free or unknown numbers: BCFS_CRYPT_SLOT_free. */
unsigned sb_crypt_slot_type(const struct bcfs_sb *sb, unsigned slot);
/* What a guess at a slot in use costs. */
void sb_crypt_slot_cost(const struct bcfs_sb *sb, unsigned slot, struct crypt_kdf *ret);
/* Slots in use. */
unsigned sb_crypt_nr_used(const struct bcfs_sb *sb);
/* Generation of the newest key, and of the oldest that may be in use. */
u16 sb_crypt_gen(const struct bcfs_sb *sb);
u16 sb_crypt_gen_oldest(const struct bcfs_sb *sb);

#endif
