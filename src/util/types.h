/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Short names for the fixed-width integers and the handful of macros that all
 * of the core uses. On-disk structures (include/bcfs/format/) use the stdint
 * names and are little-endian; the build refuses big-endian hosts.
 */
#ifndef BCFS_UTIL_TYPES_H
#define BCFS_UTIL_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <assert.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bcfs needs a little-endian host");

#define likely(x)	   __builtin_expect(!!(x), 1)
#define unlikely(x)	   __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a)	   (sizeof(a) / sizeof((a)[0]))
#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))
/* Powers of two only. */
#define round_up(x, y)	 ((((x)-1) | ((__typeof__(x))((y)-1))) + 1)
#define round_down(x, y) ((x) & ~((__typeof__(x))((y)-1)))
#define is_power_of_2(x) ((x) && !((x) & ((x)-1)))

#define min(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) min_a_ = (a);                                                        \
		__typeof__(b) min_b_ = (b);                                                        \
		min_a_ < min_b_ ? min_a_ : min_b_;                                                 \
	})
#define max(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) max_a_ = (a);                                                        \
		__typeof__(b) max_b_ = (b);                                                        \
		max_a_ > max_b_ ? max_a_ : max_b_;                                                 \
	})
#define min_t(t, a, b) min((t)(a), (t)(b))
#define max_t(t, a, b) max((t)(a), (t)(b))
#define swap(a, b)                                                                                 \
	do {                                                                                       \
		__typeof__(a) swap_t_ = (a);                                                       \
		(a) = (b);                                                                         \
		(b) = swap_t_;                                                                     \
	} while (0)
#define cmp_int(l, r)		      (((l) > (r)) - ((l) < (r)))

#define container_of(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))

#define SECTOR_SHIFT		      9
#define SECTOR_SIZE		      512U

#endif
