/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A growable text buffer: what every to_text function prints into.
 *
 * Invariants:
 *  1. buf is NULL (size 0) or NUL-terminated with pos < size;
 *  2. once memory has run out, oom is set and further text is dropped; what
 *     was printed before stays. Printing itself never fails, so callers check
 *     oom once at the end, or not at all for log lines;
 *  3. indentation is inserted when the first character of a line is printed,
 *     so an empty line carries no trailing blanks.
 *
 * Tables: prt_tabstop_push() sets column positions relative to the line's
 * start (after its indent); prt_tab() pads with blanks to the next one,
 * prt_tab_rjust() aligns what was printed since the last stop to its right.
 *
 * Ownership: one thread at a time; printbuf_exit() frees. Usually
 *	CLEANUP(printbuf_exit) struct printbuf buf = PRINTBUF;
 */
#ifndef BCFS_UTIL_PRINTBUF_H
#define BCFS_UTIL_PRINTBUF_H

#include "util/types.h"

#include <stdarg.h>

#define PRINTBUF_TABSTOPS 8

struct printbuf {
	char *buf;
	size_t pos;  /* bytes printed, without the NUL */
	size_t size; /* bytes allocated */
	int indent;  /* blanks before each line */
	bool oom;
	bool bol_done;			 /* the line's indent is printed */
	u8 nr_tabstops, cur_tabstop;	 /* defined; passed in this line */
	u16 tabstops[PRINTBUF_TABSTOPS]; /* columns, ascending */
	size_t line_start;		 /* pos of this line's first byte after the indent */
	size_t field_start;		 /* pos after the last tab stop or line start */
};

#define PRINTBUF                                                                                   \
	(struct printbuf)                                                                          \
	{                                                                                          \
		0                                                                                  \
	}

/* Frees the text and makes the buffer empty; takes NULL and an empty buffer. */
void printbuf_exit(struct printbuf *out);
/* Empties the text, keeping the memory; clears oom, indent and tab stops. */
void printbuf_reset(struct printbuf *out);
/* The text, "" when nothing was printed; valid until the next print. Never NULL. */
const char *printbuf_str(const struct printbuf *out);
/* Hands the text over (the caller frees it); NULL after an oom; empties the buffer. */
char *printbuf_take(struct printbuf *out);

void prt_printf(struct printbuf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void prt_vprintf(struct printbuf *out, const char *fmt, va_list args)
	__attribute__((format(printf, 2, 0)));
/* '\n' within the text starts a new line, indented. */
void prt_str(struct printbuf *out, const char *str);
void prt_bytes(struct printbuf *out, const void *text, size_t len);
void prt_char(struct printbuf *out, char c);
void prt_newline(struct printbuf *out);
void prt_indent_add(struct printbuf *out, int blanks);
void prt_indent_sub(struct printbuf *out, int blanks);

void prt_u64(struct printbuf *out, u64 v);
void prt_s64(struct printbuf *out, s64 v);
/* Bytes with a binary unit and at most one decimal: "512 B", "1.5 KiB", "64 MiB". */
void prt_human_u64(struct printbuf *out, u64 bytes);
/* Lower-case hex digits of a byte string, no separators. */
void prt_hex(struct printbuf *out, const void *data, size_t len);
/*
 * A byte string as text that a terminal may be given: UTF-8 as it is, C escapes for control
 * characters (C1 as well), what is no UTF-8, quotes and backslash.
 */
void prt_escaped(struct printbuf *out, const void *data, size_t len);
/* The names of the set bits of flags, comma-separated; unknown bits as "bit N". */
void prt_bitflags(struct printbuf *out, const char *const *names, size_t nr_names, u64 flags);

void prt_tabstop_push(struct printbuf *out, unsigned column);
void prt_tabstops_reset(struct printbuf *out);
void prt_tab(struct printbuf *out);
void prt_tab_rjust(struct printbuf *out);

#endif
