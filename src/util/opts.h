/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Options by table: one row per option names it, says how it is written, what
 * values it takes, and where in a struct of the caller's the value goes.
 *
 *	struct my_opts { bool ro; u64 cache_bytes; unsigned io; char *label; };
 *	static const struct opt_desc rows[] = {
 *		{"ro", OPT_BOOL, offsetof(struct my_opts, ro), .help = "read-only"},
 *		{"cache", OPT_SIZE, offsetof(struct my_opts, cache_bytes),
 *		 .min = 1 << 20, .max = 1ULL << 40, .help = "node cache"},
 *		...
 *	};
 *
 * Types and their C types: OPT_BOOL bool ("ro", "noro", "ro=0|1|no|yes|off|on"),
 * OPT_UINT u64 (decimal or 0x), OPT_SIZE u64 bytes ("4k", "1.5M", "2GiB"),
 * OPT_ENUM unsigned (index into choices), OPT_STR char * (owned: opts_exit frees).
 *
 * Rows with max = 0 are not limited above. On an error the caller's struct may
 * have taken the options before the bad one; err (may be NULL) says in one
 * line what is wrong, naming the option. The table is only read; no locks.
 */
#ifndef BCFS_UTIL_OPTS_H
#define BCFS_UTIL_OPTS_H

#include "util/printbuf.h"
#include "util/types.h"

enum opt_type {
	OPT_BOOL,
	OPT_UINT,
	OPT_SIZE,
	OPT_ENUM,
	OPT_STR,
};

struct opt_desc {
	const char *name;
	enum opt_type type;
	size_t offset; /* of the value in the caller's struct, bytes */
	u64 min, max;  /* OPT_UINT, OPT_SIZE, and the length of OPT_STR; max 0: no limit */
	const char *const *choices; /* OPT_ENUM: NULL-terminated */
	bool pow2;		    /* OPT_UINT, OPT_SIZE: powers of two only */
	const char *arg;	    /* what help calls the value; NULL: by type */
	const char *help;	    /* one line */
};

/* The row of a name; NULL when there is none. */
const struct opt_desc *opt_lookup(const struct opt_desc *table, size_t nr, const char *name,
				  size_t name_len);

/*
 * Sets one option; val NULL: given without "=" (OPT_BOOL only).
 * 0, -BCFS_ERR_invalid_option, -BCFS_ERR_nomem.
 */
int opt_set(const struct opt_desc *opt, void *dst, const char *val, struct printbuf *err);

/* "a=b,c,nod": as opt_set for each; an empty string and empty parts are nothing. */
int opts_parse(const struct opt_desc *table, size_t nr, void *dst, const char *str,
	       struct printbuf *err);

/* Frees the strings. */
void opts_exit(const struct opt_desc *table, size_t nr, void *dst);

/* One line per option for --help. */
void opts_help(struct printbuf *out, const struct opt_desc *table, size_t nr);

/* "a=b,c=d": every option's present value; opts_parse reads it back. */
void opts_to_text(struct printbuf *out, const struct opt_desc *table, size_t nr, const void *src);

/*
 * A byte count: digits with an optional decimal part and an optional suffix of
 * K M G T P E (powers of 1024; "KiB", "KB", "k" alike; "B" for bytes).
 * -BCFS_ERR_invalid_option when malformed, fractional in bytes, or beyond u64.
 */
int parse_size(const char *str, u64 *ret_bytes);

/* A decimal or 0x number, the whole string. */
int parse_u64(const char *str, u64 *ret_v);

#endif
