/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What may be shown of text that somebody else wrote: whole UTF-8 characters, no control ones. */
#ifndef BCFS_UTIL_UTF8_H
#define BCFS_UTIL_UTF8_H

#include "util/types.h"

/*
 * Bytes of the UTF-8 character at p, of which `len` (at least 1) may be read. 0: there is none, it
 * is cut off, or it is a control character (C0, DEL, C1).
 */
unsigned utf8_char(const u8 *p, size_t len);

#endif
