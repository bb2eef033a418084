// SPDX-License-Identifier: LGPL-2.1-or-later
#include "util/bits.h"
#include "util/darray.h"

int darray_resize_(darray_any *d, size_t elem_bytes, size_t size)
{
	size_t new_bytes;
	void *data;

	if (size < d->nr || size > SIZE_MAX / 2)
		return -BCFS_ERR_nomem; /* nr + more wrapped round, or near it */

	size = roundup_pow_of_two(max_t(size_t, size, 8));
	if (__builtin_mul_overflow(size, elem_bytes, &new_bytes))
		return -BCFS_ERR_nomem;

	data = realloc(d->data, new_bytes);
	if (!data)
		return -BCFS_ERR_nomem;

	d->data = data;
	d->size = size;
	return 0;
}
