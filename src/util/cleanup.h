/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Scope-bound cleanup: a variable declared with CLEANUP(fn) has fn(&variable)
 * called when its scope is left, by whatever path.
 *
 *	CLEANUP(printbuf_exit) struct printbuf buf = PRINTBUF;
 *	CLEANUP(free_p) char *name = strdup(arg);
 *	CLEANUP(close_p) int fd = open(...);
 *
 * Rules: every destructor takes NULL (or a half-built object) and does nothing
 * then; a value handed on is taken out of the variable with take_ptr() or
 * take_fd(), so that the cleanup sees the empty value. DEFINE_CLEANUP makes
 * the pointer-to-pointer wrapper of an ordinary destructor.
 */
#ifndef BCFS_UTIL_CLEANUP_H
#define BCFS_UTIL_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Defines fn_p(type *p), which calls fn(*p) unless *p is NULL. */
#define DEFINE_CLEANUP(type, fn)                                                                   \
	static inline void fn##_p(type *p)                                                         \
	{                                                                                          \
		if (*p)                                                                            \
			fn(*p);                                                                    \
	}                                                                                          \
	struct cleanup_semicolon_

static inline void free_p(void *p)
{
	free(*(void **)p);
}

static inline void close_p(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* The value of a pointer variable, which becomes NULL. */
#define take_ptr(p)                                                                                \
	({                                                                                         \
		__typeof__(p) take_p_ = (p);                                                       \
		(p) = NULL;                                                                        \
		take_p_;                                                                           \
	})

/* The value of a descriptor variable, which becomes -1. */
#define take_fd(fd)                                                                                \
	({                                                                                         \
		int take_fd_ = (fd);                                                               \
		(fd) = -1;                                                                         \
		take_fd_;                                                                          \
	})

#endif
