/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bit tricks and plain bitmaps (arrays of u64, bit n in word n / 64). Nothing
 * here is atomic but the functions that say so.
 */
#ifndef BCFS_UTIL_BITS_H
#define BCFS_UTIL_BITS_H

#include "util/types.h"

#define BIT_ULL(n) (1ULL << (n))

/* Position of the highest set bit counted from 1; 0 for 0. */
static inline unsigned fls64(u64 v)
{
	return v ? 64 - __builtin_clzll(v) : 0;
}

static inline unsigned fls32(u32 v)
{
	return v ? 32 - __builtin_clz(v) : 0;
}

/* Position of the lowest set bit counted from 1; 0 for 0. */
static inline unsigned ffs64(u64 v)
{
	return __builtin_ffsll((long long)v);
}

/* floor(log2(v)), v > 0 */
static inline unsigned ilog2(u64 v)
{
	assert(v);
	return 63 - __builtin_clzll(v);
}

static inline unsigned hweight64(u64 v)
{
	return __builtin_popcountll(v);
}

/* v > 0; the power of two must fit (v <= 2^63). */
static inline u64 roundup_pow_of_two(u64 v)
{
	return v <= 1 ? 1 : 1ULL << fls64(v - 1);
}

/* v > 0 */
static inline u64 rounddown_pow_of_two(u64 v)
{
	return 1ULL << ilog2(v);
}

/* The lowest n bits set, n <= 64. */
static inline u64 low_bits_mask(unsigned n)
{
	return n ? ~0ULL >> (64 - n) : 0;
}

#define BITMAP_WORDS(nr_bits) DIV_ROUND_UP(nr_bits, 64)

static inline bool bitmap_test(const u64 *map, size_t bit)
{
	return map[bit / 64] >> (bit % 64) & 1;
}

static inline void bitmap_set(u64 *map, size_t bit)
{
	map[bit / 64] |= 1ULL << (bit % 64);
}

static inline void bitmap_clear(u64 *map, size_t bit)
{
	map[bit / 64] &= ~(1ULL << (bit % 64));
}

/* Set the bit, telling what it was; atomic, sequentially consistent. */
static inline bool bitmap_test_and_set_atomic(u64 *map, size_t bit)
{
	u64 m = 1ULL << (bit % 64);

	return __atomic_fetch_or(&map[bit / 64], m, __ATOMIC_SEQ_CST) & m;
}

/* The first bit >= from whose value is `set`; nr_bits when there is none. */
static inline size_t bitmap_find_(const u64 *map, size_t nr_bits, size_t from, bool set)
{
	u64 flip = set ? 0 : ~0ULL;
	size_t word = from / 64;
	u64 v;

	if (from >= nr_bits)
		return nr_bits;

	v = (map[word] ^ flip) & (~0ULL << (from % 64));
	while (!v) {
		if (++word >= BITMAP_WORDS(nr_bits))
			return nr_bits;
		v = map[word] ^ flip;
	}
	return min_t(size_t, word * 64 + __builtin_ctzll(v), nr_bits);
}

static inline size_t bitmap_find_next_set(const u64 *map, size_t nr_bits, size_t from)
{
	return bitmap_find_(map, nr_bits, from, true);
}

static inline size_t bitmap_find_next_zero(const u64 *map, size_t nr_bits, size_t from)
{
	return bitmap_find_(map, nr_bits, from, false);
}

/* The number of set bits among the first nr_bits. */
static inline size_t bitmap_weight(const u64 *map, size_t nr_bits)
{
	size_t nr = 0;

	for (size_t w = 0; w < nr_bits / 64; w++)
		nr += hweight64(map[w]);
	if (nr_bits % 64)
		nr += hweight64(map[nr_bits / 64] & low_bits_mask(nr_bits % 64));
	return nr;
}

#define bitmap_for_each_set(map, nr_bits, bit)                                                     \
	for (size_t bit = bitmap_find_next_set(map, nr_bits, 0); bit < (nr_bits);                  \
	     bit = bitmap_find_next_set(map, nr_bits, bit + 1))

#endif
