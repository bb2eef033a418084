/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Type-safe growable arrays.
 *
 *	typedef DARRAY(u64) darray_u64;
 *	CLEANUP(darray_exit_p) darray_u64 ids = {0};
 *	ret = darray_push(&ids, 5);
 *	darray_for_each(ids, i)
 *		use(*i);
 *
 * Invariants: nr <= size; data is NULL exactly when size is 0; an all-zero
 * struct is an empty array. What can fail returns 0 or -BCFS_ERR_nomem and
 * leaves the array as it was. Pointers to elements live until the next call
 * that may grow the array. No locks: the owner serialises.
 */
#ifndef BCFS_UTIL_DARRAY_H
#define BCFS_UTIL_DARRAY_H

#include "util/errcode.h"
#include "util/types.h"

#include <stdlib.h>
#include <string.h>

#define DARRAY(type)                                                                               \
	struct {                                                                                   \
		size_t nr, size; /* elements used, allocated */                                    \
		type *data;                                                                        \
	}

typedef DARRAY(void) darray_any;
typedef DARRAY(char) darray_char;
typedef DARRAY(u32) darray_u32;
typedef DARRAY(u64) darray_u64;
typedef DARRAY(char *) darray_str;

/* Grows to at least `size` elements; the work behind darray_make_room. */
int darray_resize_(darray_any *d, size_t elem_bytes, size_t size);

/* Room for `more` elements beyond nr: 0 or -BCFS_ERR_nomem. */
#define darray_make_room(d, more)                                                                  \
	(likely((d)->size - (d)->nr >= (size_t)(more))                                             \
		 ? 0                                                                               \
		 : darray_resize_((darray_any *)(d), sizeof(*(d)->data), (d)->nr + (more)))

/* Appends one element: 0 or -BCFS_ERR_nomem. */
#define darray_push(d, ...)                                                                        \
	({                                                                                         \
		int darray_ret_ = darray_make_room(d, 1);                                          \
		if (!darray_ret_)                                                                  \
			(d)->data[(d)->nr++] = (__VA_ARGS__);                                      \
		darray_ret_;                                                                       \
	})

/* Inserts one element before index `at` (at <= nr): 0 or -BCFS_ERR_nomem. */
#define darray_insert(d, at, ...)                                                                  \
	({                                                                                         \
		size_t darray_at_ = (at);                                                          \
		int darray_ret_ = darray_make_room(d, 1);                                          \
		if (!darray_ret_) {                                                                \
			memmove(&(d)->data[darray_at_ + 1], &(d)->data[darray_at_],                \
				((d)->nr - darray_at_) * sizeof(*(d)->data));                      \
			(d)->nr++;                                                                 \
			(d)->data[darray_at_] = (__VA_ARGS__);                                     \
		}                                                                                  \
		darray_ret_;                                                                       \
	})

/* Removes the element at index `at` (at < nr), keeping the order. */
#define darray_remove(d, at)                                                                       \
	do {                                                                                       \
		size_t darray_at_ = (at);                                                          \
		(d)->nr--;                                                                         \
		memmove(&(d)->data[darray_at_], &(d)->data[darray_at_ + 1],                        \
			((d)->nr - darray_at_) * sizeof(*(d)->data));                              \
	} while (0)

/* The last element (nr > 0); pop also removes it. */
#define darray_last(d)	      ((d)->data[(d)->nr - 1])
#define darray_pop(d)	      ((d)->data[--(d)->nr])

#define darray_for_each(d, i) for (__typeof__((d).data) i = (d).data; i < (d).data + (d).nr; i++)

#define darray_sort(d, cmp)                                                                        \
	do {                                                                                       \
		if ((d)->nr)                                                                       \
			qsort((d)->data, (d)->nr, sizeof(*(d)->data), cmp);                        \
	} while (0)

/* Frees the memory; the array is empty afterwards and may be used again. */
#define darray_exit(d)                                                                             \
	do {                                                                                       \
		free((d)->data);                                                                   \
		(d)->data = NULL;                                                                  \
		(d)->nr = (d)->size = 0;                                                           \
	} while (0)

/* darray_exit for CLEANUP(), for any element type. */
static inline void darray_exit_p(void *p)
{
	darray_any *d = p;

	darray_exit(d);
}

#endif
