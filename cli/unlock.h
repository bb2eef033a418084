/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opening what may be encrypted: the secret is asked for only if the superblock says that one is
 * needed, or if one was given. In that case it is handed to libbcfs whatever the superblock says,
 * which refuses a filesystem that is not encrypted: somebody may have put it in the place of one
 * that is.
 *
 *	struct tool_unlock u = {.opts = ..., .path = ...};
 *
 *	if (tool_unlock(&u)) {
 *		do
 *			ret = bcfs_...(path, u.arg, ...);
 *		while (ret && tool_unlock_again(&u, ret));
 *		tool_unlock_end(&u);
 *	}
 */
#ifndef BCFS_CLI_UNLOCK_H
#define BCFS_CLI_UNLOCK_H

#include "bcfs/bcfs.h"
#include "passphrase.h"

struct tool_unlock {
	struct tool_secret_opts opts;
	const char *path;
	bool encrypted; /* that is known: the superblock is not looked at */
	struct tool_secret secret;
	struct bcfs_secret for_lib;
	const struct bcfs_secret *arg; /* for libbcfs; NULL: it is not encrypted */
	unsigned int tries;
};

/* False, with a message: it cannot be had. */
bool tool_unlock(struct tool_unlock *u);
/* True: the passphrase was wrong, and another one was typed. ret: what libbcfs said. */
bool tool_unlock_again(struct tool_unlock *u, int ret);
/* Is it worth it to ask again? */
bool tool_unlock_wrong(const struct tool_unlock *u, int ret);
/* Asks again. */
bool tool_unlock_retry(struct tool_unlock *u);
/* Wipes it. */
void tool_unlock_end(struct tool_unlock *u);

/* To stderr, if it is so: the slot that was made of it cannot be kept by key rotate. */
void tool_key_file_notice(const struct tool_secret *s);
/* As libbcfs wants it; NULL of none. */
const struct bcfs_secret *tool_secret_arg(const struct tool_secret *s, struct bcfs_secret *buf);

#endif
