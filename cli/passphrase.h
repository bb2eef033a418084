/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where programs have the secret of an encrypted filesystem from: a key file, a file descriptor,
 * the environment, or the person at the terminal; never the command line, which everyone can read.
 *
 *	--key-file=PATH		the bytes of the file, all of them
 *	--passphrase-fd=N	one line from file descriptor N, without its newline; what follows
 *				it is left for the next who reads
 *	BCFS_PASSPHRASE		the variable is overwritten and taken out of the environment, also
 *				if an option goes before it
 *	otherwise		asked for on /dev/tty, without echo, twice if it is a new one
 *
 * The first two exclude each other and go before the rest. A passphrase is its bytes: no character
 * is taken for another, none is cut off.
 *
 * The secret lies in pages of its own, locked if that is allowed, left out of core dumps, and wiped
 * by tool_secret_free(). A child of fork() has a copy that is not locked: it calls
 * tool_secret_lock(), and its parent frees its own. Whether the length is acceptable as a secret is
 * for libbcfs to say; here at most 4096 bytes of a passphrase and 8 MiB of a key file are read.
 *
 * While somebody is asked, signals that end or stop the process first give the terminal its echo
 * back: one thread may ask at a time, and it must not have them blocked.
 */
#ifndef BCFS_CLI_PASSPHRASE_H
#define BCFS_CLI_PASSPHRASE_H

#include <stdbool.h>
#include <stddef.h>

enum tool_secret_type {
	TOOL_SECRET_NONE,
	TOOL_SECRET_PASSPHRASE,
	TOOL_SECRET_KEY_FILE,
};

struct tool_secret {
	enum tool_secret_type type;
	unsigned char *p;
	size_t len;
	size_t mapped;
	bool prompted; /* somebody typed it: a wrong one may be asked for again */
};

/* The values of the options, NULL when not given. */
struct tool_secret_opts {
	const char *key_file;
	const char *passphrase_fd;
	const char *env; /* the variable; NULL: BCFS_PASSPHRASE */
	bool no_prompt;	 /* rather fail */
	bool mount;	 /* messages call them mount options */
	bool new_one;	 /* or --new-key-file and --new-passphrase-fd */
};

/* Rows of getopt_long()'s table; above what a program numbers its own with. */
enum {
	TOOL_OPT_KEY_FILE = 0x1000,
	TOOL_OPT_PASSPHRASE_FD,
};

/* clang-format off */
#define TOOL_SECRET_LONG_OPTS									\
	{"key-file", required_argument, NULL, TOOL_OPT_KEY_FILE},				\
	{"passphrase-fd", required_argument, NULL, TOOL_OPT_PASSPHRASE_FD}
/* clang-format on */

/* Takes c, which getopt_long() gave, with its argument. False: it is another option. */
bool tool_secret_opt(struct tool_secret_opts *o, int c, const char *arg);
/* True: an option or the variable is there, so that nobody will be asked. */
bool tool_secret_given(const struct tool_secret_opts *o);
/*
 * The secret, from where the options say. what: "passphrase for /dev/sdb1", of a message or prompt;
 * twice: a new one, to be typed twice alike. False, with a message: there is none, and nothing to
 * free.
 */
bool tool_secret_get(const struct tool_secret_opts *o, const char *what, bool twice,
		     struct tool_secret *ret);
/* Both variables go: of a program that lives on. */
void tool_secret_forget_env(void);
/* Zeroed memory of this kind, for what else is as secret. False, with a message: there is none. */
bool tool_secret_map(struct tool_secret *s, size_t size);
/* Locks the pages (again). False: that is not allowed. */
bool tool_secret_lock(struct tool_secret *s);
/* Wipes. A zeroed one is fine, and is what is left. */
void tool_secret_free(struct tool_secret *s);

#endif
