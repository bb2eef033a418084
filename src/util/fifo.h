/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fixed-capacity ring buffers of a power-of-two size.
 *
 *	FIFO(struct work *) todo;
 *	ret = fifo_init(&todo, 64);
 *	if (!fifo_push(&todo, w)) ... full
 *
 * Invariants: front and back count elements ever popped and pushed and only
 * grow (they wrap modulo 2^64, which no fifo lives to see); back - front is
 * the number held, at most mask + 1. An element's index (fifo_idx) therefore
 * names it for as long as it is held: the journal's pin list relies on that.
 *
 * No locks: the owner serialises. An all-zero struct may be passed to
 * fifo_exit but not used.
 */
#ifndef BCFS_UTIL_FIFO_H
#define BCFS_UTIL_FIFO_H

#include "util/bits.h"
#include "util/errcode.h"
#include "util/types.h"

#include <stdlib.h>

#define FIFO(type)                                                                                 \
	struct {                                                                                   \
		u64 front, back; /* index of the oldest element; of the next one pushed */         \
		size_t mask;	 /* capacity - 1 */                                                \
		type *data;                                                                        \
	}

/* Room for at least `want` elements (rounded up to a power of two): 0 or -BCFS_ERR_nomem. */
#define fifo_init(f, want)                                                                         \
	({                                                                                         \
		(f)->front = (f)->back = 0;                                                        \
		(f)->mask = roundup_pow_of_two(max_t(size_t, want, 1)) - 1;                        \
		(f)->data = calloc((f)->mask + 1, sizeof(*(f)->data));                             \
		(f)->data ? 0 : -BCFS_ERR_nomem;                                                   \
	})

#define fifo_exit(f)                                                                               \
	do {                                                                                       \
		free((f)->data);                                                                   \
		(f)->data = NULL;                                                                  \
		(f)->front = (f)->back = (f)->mask = 0;                                            \
	} while (0)

#define fifo_used(f)	 ((size_t)((f)->back - (f)->front))
#define fifo_capacity(f) ((f)->mask + 1)
#define fifo_free(f)	 (fifo_capacity(f) - fifo_used(f))
#define fifo_empty(f)	 ((f)->front == (f)->back)
#define fifo_full(f)	 (fifo_used(f) > (f)->mask)

/* Element by its index, front <= idx < back. */
#define fifo_at(f, idx)	   ((f)->data[(idx) & (f)->mask])
#define fifo_peek_front(f) fifo_at(f, (f)->front)
#define fifo_peek_back(f)  fifo_at(f, (f)->back - 1)
/* The index of the element at pointer p, which is held. */
#define fifo_idx(f, p) ((f)->front + (((u64)((p) - (f)->data) - (f)->front) & (f)->mask))

/* false when full */
#define fifo_push(f, ...)                                                                          \
	({                                                                                         \
		bool fifo_ok_ = !fifo_full(f);                                                     \
		if (fifo_ok_) {                                                                    \
			fifo_at(f, (f)->back) = (__VA_ARGS__);                                     \
			(f)->back++;                                                               \
		}                                                                                  \
		fifo_ok_;                                                                          \
	})

/* Pops the oldest element into out; false when empty. */
#define fifo_pop(f, out)                                                                           \
	({                                                                                         \
		bool fifo_ok_ = !fifo_empty(f);                                                    \
		if (fifo_ok_) {                                                                    \
			(out) = fifo_at(f, (f)->front);                                            \
			(f)->front++;                                                              \
		}                                                                                  \
		fifo_ok_;                                                                          \
	})

/* Oldest to newest; p is a pointer variable to the element type, idx a u64. */
#define fifo_for_each(f, p, idx)                                                                   \
	for ((idx) = (f)->front; (idx) != (f)->back && ((p) = &fifo_at(f, idx), 1); (idx)++)

#endif
