/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Variable-length integers, 1 to 9 bytes for any u64.
 *
 * The number of bytes is in the first one: n - 1 low bits set, then a clear
 * bit, then 7n bits of value in little-endian order, for n up to 8; a first
 * byte of 0xff is followed by the eight bytes of the value. So the length is
 * known after one byte, and no loop over the bytes is needed.
 *
 * Every value has one shortest form; the encoder makes it, and the decoder
 * takes longer ones too (what it reads was checksummed; the meaning is clear).
 * Part of the on-disk format: never change it.
 */
#ifndef BCFS_UTIL_VARINT_H
#define BCFS_UTIL_VARINT_H

#include "util/types.h"

#define VARINT_MAX_BYTES 9

/* The bytes v takes: 1 .. 9. */
unsigned varint_bytes(u64 v);

/*
 * Writes v at out, below end; returns the bytes written, or 0 when they would
 * not fit (nothing is written then).
 */
unsigned varint_encode(u8 *out, const u8 *end, u64 v);

/*
 * Reads a value at in, never touching end or beyond; returns the bytes read,
 * or 0 when the input is cut off (*ret_v is untouched then).
 */
unsigned varint_decode(const u8 *in, const u8 *end, u64 *ret_v);

#endif
