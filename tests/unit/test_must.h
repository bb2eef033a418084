/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For where Criterion's asserts cannot be used: threads and fibers of the simulation. */
#ifndef BCFS_TEST_MUST_H
#define BCFS_TEST_MUST_H

#include <stdio.h>
#include <stdlib.h>

#define must(cond, fmt, ...)                                                                       \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: " fmt "\n", __FILE__, __LINE__, ##__VA_ARGS__);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#endif
