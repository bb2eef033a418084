/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of the encrypted superblock share: secrets at the least cost, a filesystem that
 * one of them opens, and opening it again.
 */
#ifndef BCFS_SB_CRYPT_TEST_H
#define BCFS_SB_CRYPT_TEST_H

#include "sb_test.h"

#include "sb/sb_crypt.h"
#include "sb/sb_private.h"

static const struct crypt_kdf quick = {.ops = 1, .mem = BCFS_CRYPT_KDF_MEM_MIN};

static inline struct crypt_secret pass(const char *text)
{
	return (struct crypt_secret){BCFS_CRYPT_SLOT_passphrase, text, strlen(text)};
}

/* Key file number n. */
static inline struct crypt_secret file(unsigned n, u8 buf[40])
{
	memset(buf, (int)n, 40);
	return (struct crypt_secret){BCFS_CRYPT_SLOT_key_file, buf, 40};
}

/* An encrypted filesystem, open with "first" in slot 0. */
static inline struct sb_handle *make(struct tfs *t)
{
	struct crypt_secret s = pass("first");
	struct bcfs_journal_run run;
	struct sb_handle *h;

	tfs_device(t, 64 * MIB, 0);
	h = tfs_init(t, NULL);
	cr_assert_eq(sb_crypt_make(h, &s, &quick), 0, "%s", t->line);
	run = (struct bcfs_journal_run){sb_member_get(h->sb, 0).first_bucket, 5};
	cr_assert_eq(sb_journal_set(h, &run, 1), 0);
	cr_assert_eq(sb_blacklist_add(h, 10, 20), 0);
	tfs_write(h);
	return h;
}

static inline struct sb_handle *reread(struct tfs *t)
{
	struct sb_handle *h;
	int ret = tfs_read(t, &h);

	cr_assert_eq(ret, 0, "%s: %s", err_name(ret), t->line);
	return h;
}

static inline int reopen(struct tfs *t, const struct crypt_secret *s, struct sb_handle **ret,
			 unsigned *ret_slot)
{
	*ret = reread(t);
	return sb_crypt_open(*ret, s, ret_slot);
}

static inline bool same_master(const struct sb_handle *a, const struct sb_handle *b, u16 gen)
{
	const struct csum_key *x = keyring_master(a->keys, gen), *y = keyring_master(b->keys, gen);

	return x && y && !memcmp(x, y, sizeof(*x));
}

#define expect_err(ret, code)                                                                      \
	do {                                                                                       \
		int ret_ = (ret);                                                                  \
                                                                                                   \
		cr_expect_eq(ret_, -(code), "%s", err_name(ret_));                                 \
	} while (0)

#endif
