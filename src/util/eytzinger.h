/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Eytzinger order: a sorted array laid out as an implicit binary search tree
 * in breadth-first order, so that a search walks towards higher indices and
 * the next cache lines can be prefetched.
 *
 * eytzinger1_*: indices from 1 to size; the children of i are 2i and 2i + 1,
 * and 0 means "none". eytzinger0_*: the same shifted to 0 .. size - 1, with -1
 * for "none". In-order ranks count from 1 and from 0 alike.
 *
 * The conversions: with d = ilog2(size), a complete tree of d + 1 full levels
 * would give node k (from 0) of level b the rank (2k + 1) << (d - b). The last
 * level really holds only its first size + 1 - 2^d nodes, at odd ranks; each
 * missing one behind them shifts the ranks that follow down by one, so ranks
 * above 2 * (size + 1 - 2^d) shrink to half steps.
 */
#ifndef BCFS_UTIL_EYTZINGER_H
#define BCFS_UTIL_EYTZINGER_H

#include "util/bits.h"
#include "util/types.h"

static inline unsigned eytzinger1_child(unsigned i, unsigned right)
{
	return i * 2 + right;
}

static inline unsigned eytzinger1_left(unsigned i)
{
	return i * 2;
}

static inline unsigned eytzinger1_right(unsigned i)
{
	return i * 2 + 1;
}

/* The smallest element; 0 when size is 0. */
static inline unsigned eytzinger1_first(unsigned size)
{
	return size ? 1U << ilog2(size) : 0;
}

/* The largest element; 0 when size is 0. */
static inline unsigned eytzinger1_last(unsigned size)
{
	return size ? (1U << ilog2((u64)size + 1)) - 1 : 0;
}

/* The in-order successor; 0 after the last; the first for i = 0. */
static inline unsigned eytzinger1_next(unsigned i, unsigned size)
{
	assert(i <= size);

	if (!i)
		return eytzinger1_first(size);
	if ((u64)i * 2 + 1 <= size) {
		/* the leftmost node under the right child */
		u64 j = ((u64)i * 2 + 1) << (fls32(size) - fls32(i) - 1);

		return j > size ? j >> 1 : j;
	}
	/* up, past every step that came from a right child, and one more */
	return i >> ffs64(~(u64)i);
}

/* The in-order predecessor; 0 before the first; the last for i = 0. */
static inline unsigned eytzinger1_prev(unsigned i, unsigned size)
{
	assert(i <= size);

	if (!i)
		return eytzinger1_last(size);
	if ((u64)i * 2 <= size) {
		/* the rightmost node under the left child */
		u64 j = ((u64)i * 2 + 1) << (fls32(size) - fls32(i) - 1);

		j--;
		return j > size ? j >> 1 : j;
	}
	return i >> ffs64(i);
}

/*
 * Twice the number of nodes on the last level: the ranks up to here are those of a full tree.
 * Constant for a size: a search loop computes it once. size > 0.
 */
static inline unsigned eytzinger1_extra(unsigned size)
{
	return (size + 1 - (1U << ilog2(size))) << 1;
}

static inline unsigned eytzinger1_to_inorder_(unsigned i, unsigned size, unsigned extra)
{
	unsigned b = ilog2(i);
	unsigned rank = (((i - (1U << b)) << 1) + 1) << (ilog2(size) - b);

	return rank > extra ? rank - ((rank - extra) >> 1) : rank;
}

static inline unsigned inorder_to_eytzinger1_(unsigned rank, unsigned size, unsigned extra)
{
	unsigned shift;

	if (rank > extra)
		rank += rank - extra;
	shift = __builtin_ctz(rank);
	return (1U << (ilog2(size) - shift)) + (rank >> (shift + 1));
}

/* The rank (1 .. size) of element i (1 .. size). */
static inline unsigned eytzinger1_to_inorder(unsigned i, unsigned size)
{
	assert(i && i <= size);
	return eytzinger1_to_inorder_(i, size, eytzinger1_extra(size));
}

/* The element (1 .. size) of a rank (1 .. size). */
static inline unsigned inorder_to_eytzinger1(unsigned rank, unsigned size)
{
	assert(rank && rank <= size);
	return inorder_to_eytzinger1_(rank, size, eytzinger1_extra(size));
}

#define eytzinger1_for_each(i, size)                                                               \
	for (unsigned i = eytzinger1_first(size); i; i = eytzinger1_next(i, size))

/* The same with indices and ranks from 0; "none" is -1. */

static inline int eytzinger0_first(unsigned size)
{
	return (int)eytzinger1_first(size) - 1;
}

static inline int eytzinger0_last(unsigned size)
{
	return (int)eytzinger1_last(size) - 1;
}

static inline int eytzinger0_next(int i, unsigned size)
{
	return (int)eytzinger1_next(i + 1, size) - 1;
}

static inline int eytzinger0_prev(int i, unsigned size)
{
	return (int)eytzinger1_prev(i + 1, size) - 1;
}

static inline unsigned eytzinger0_child(unsigned i, unsigned right)
{
	return i * 2 + 1 + right;
}

static inline unsigned eytzinger0_to_inorder(unsigned i, unsigned size)
{
	return eytzinger1_to_inorder(i + 1, size) - 1;
}

static inline unsigned inorder_to_eytzinger0(unsigned rank, unsigned size)
{
	return inorder_to_eytzinger1(rank + 1, size) - 1;
}

#define eytzinger0_for_each(i, size)                                                               \
	for (int i = eytzinger0_first(size); i >= 0; i = eytzinger0_next(i, size))

#endif
