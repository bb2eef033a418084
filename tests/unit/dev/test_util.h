/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of dev/ share: a seed, random numbers, a temporary file. */
#ifndef BCFS_TESTS_DEV_TEST_UTIL_H
#define BCFS_TESTS_DEV_TEST_UTIL_H

#include "util/types.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline u64 test_seed(void)
{
	const char *s = getenv("BCFS_TEST_SEED");

	return s ? strtoull(s, NULL, 0) : 1;
}

static inline u64 test_random(u64 *x)
{
	u64 z = (*x += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static inline void test_fill(void *buf, size_t len, u64 seed)
{
	u8 *p = buf;

	while (len--)
		*p++ = (u8)test_random(&seed);
}

/* A new file of `size` bytes in `dir`; its name is written to path. False if dir cannot. */
static inline bool test_file(const char *dir, char *path, size_t path_size, u64 size)
{
	int fd;

	snprintf(path, path_size, "%s/bcfs-test-XXXXXX", dir);
	fd = mkstemp(path);
	if (fd < 0)
		return false;
	if (ftruncate(fd, (off_t)size)) {
		close(fd);
		return false;
	}
	close(fd);
	return true;
}

static inline const char *test_dir(void)
{
	const char *dir = getenv("TMPDIR");

	return dir ? dir : "/tmp";
}

#endif
