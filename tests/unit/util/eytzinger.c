// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: the index functions describe one binary search tree, for every size.
 * Method: for all sizes to 4,500 and some large ones, build the order by the
 * plain recursive definition and compare every function with it.
 */
#include "util/eytzinger.h"

#include <criterion/criterion.h>

#define MAX_SIZE 4500

/* In-order walk of the implicit tree: node_of[rank], ranks from 1. */
static unsigned walk(unsigned *node_of, unsigned i, unsigned size, unsigned rank)
{
	if (i > size)
		return rank;
	rank = walk(node_of, i * 2, size, rank);
	node_of[++rank] = i;
	return walk(node_of, i * 2 + 1, size, rank);
}

static void check_size(unsigned *node_of, unsigned size)
{
	unsigned extra, i;

	cr_assert_eq(walk(node_of, 1, size, 0), size);
	node_of[0] = node_of[size + 1] = 0;
	extra = eytzinger1_extra(size);

	cr_assert_eq(eytzinger1_first(size), node_of[1], "size %u", size);
	cr_assert_eq(eytzinger1_last(size), node_of[size], "size %u", size);
	cr_assert_eq(eytzinger1_next(0, size), node_of[1]);
	cr_assert_eq(eytzinger1_prev(0, size), node_of[size]);

	for (unsigned rank = 1; rank <= size; rank++) {
		i = node_of[rank];
		if (eytzinger1_to_inorder(i, size) != rank ||
		    inorder_to_eytzinger1(rank, size) != i ||
		    eytzinger1_to_inorder_(i, size, extra) != rank ||
		    inorder_to_eytzinger1_(rank, size, extra) != i ||
		    eytzinger1_next(i, size) != node_of[rank + 1] ||
		    eytzinger1_prev(i, size) != node_of[rank - 1] ||
		    eytzinger0_to_inorder(i - 1, size) != rank - 1 ||
		    inorder_to_eytzinger0(rank - 1, size) != i - 1 ||
		    eytzinger0_next(i - 1, size) != (int)node_of[rank + 1] - 1 ||
		    eytzinger0_prev(i - 1, size) != (int)node_of[rank - 1] - 1)
			cr_assert_fail("size %u rank %u node %u", size, rank, i);
	}
}

Test(eytzinger, all_small_sizes)
{
	static unsigned node_of[MAX_SIZE + 2];

	for (unsigned size = 1; size <= MAX_SIZE; size++)
		check_size(node_of, size);
}

Test(eytzinger, large_sizes)
{
	static const unsigned sizes[] = {65535, 65536, 65537, 100003, (1 << 20) - 1, 1 << 20};
	unsigned *node_of = malloc(sizeof(*node_of) * ((1 << 20) + 2));

	cr_assert_not_null(node_of);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		check_size(node_of, sizes[i]);
	free(node_of);
}

Test(eytzinger, empty)
{
	cr_assert_eq(eytzinger1_first(0), 0);
	cr_assert_eq(eytzinger1_last(0), 0);
	cr_assert_eq(eytzinger0_first(0), -1);
	cr_assert_eq(eytzinger0_last(0), -1);
	eytzinger0_for_each (i, 0)
		cr_assert_fail("an element in an empty array: %d", i);
}

/* The largest sizes a 32-bit index allows for: no overflow on the way. */
Test(eytzinger, huge_size)
{
	const unsigned size = 0x7ffffffe;
	unsigned rank = 1;

	for (unsigned i = eytzinger1_first(size); rank < 1000; i = eytzinger1_next(i, size), rank++)
		cr_assert_eq(eytzinger1_to_inorder(i, size), rank);
	rank = size;
	for (unsigned i = eytzinger1_last(size); rank > size - 1000;
	     i = eytzinger1_prev(i, size), rank--)
		cr_assert_eq(inorder_to_eytzinger1(rank, size), i);
}
