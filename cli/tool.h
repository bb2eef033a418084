/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the command-line programs share: reading numbers and sizes, writing
 * them for people, one-line errors. It knows libbcfs by its public header only.
 */
#ifndef BCFS_CLI_TOOL_H
#define BCFS_CLI_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOOL_MSG_SIZE 512

/*
 * A size in bytes: a number with an optional suffix K, M, G, T, P, E (powers of
 * 1024; "KiB" and "k" too), or s for sectors. False: not a size.
 */
bool tool_parse_size(const char *text, uint64_t *ret);
/* A plain decimal number up to max. */
bool tool_parse_uint(const char *text, uint64_t max, uint64_t *ret);
bool tool_parse_uuid(const char *text, uint8_t ret[16]);

/* "1.5 GiB", exact sizes without a fraction; "4096" stays "4 KiB". */
const char *tool_size_text(uint64_t bytes, char *buf, size_t size);
/* 36 characters and a NUL. */
const char *tool_uuid_text(const uint8_t uuid[16], char buf[37]);

/* "NAME: text\n" to stderr, where NAME is the program's. */
void tool_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * What getopt() or getopt_long(), given `letters`, did not like, in one line that names the help of
 * `command`. For this, opterr is 0 beforehand.
 */
void tool_bad_option(char **argv, const char *letters, const char *command);

/* Flushes stdout; false, with a message, when something written to it was lost. */
bool tool_flush(void);

#endif
