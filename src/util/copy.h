/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copies of a few words. What compilers make of a memcpy() whose size is a multiple of 8 and
 * not known is `rep movs`, which takes long to begin, and whatever reads the copy soon after has
 * to wait until all of it has reached the cache.
 */
#ifndef BCFS_UTIL_COPY_H
#define BCFS_UTIL_COPY_H

#include "util/types.h"

/* @nr u64s, always few; they do not overlap. */
static inline void copy_few_u64s(void *dst, const void *src, size_t nr)
{
	while (nr--) {
		__builtin_memcpy(dst, src, 8);
		dst = (u8 *)dst + 8;
		src = (const u8 *)src + 8;
		__asm__("" : "+r"(dst)); /* it is not to be turned into a memcpy() again */
	}
}

/* Mostly few. */
static inline void copy_u64s(void *dst, const void *src, size_t nr)
{
	if (unlikely(nr > 32))
		__builtin_memcpy(dst, src, nr * 8);
	else
		copy_few_u64s(dst, src, nr);
}

#endif
