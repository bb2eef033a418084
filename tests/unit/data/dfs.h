/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The fixture with the data layer. Everything but dfs_run() is called inside its fiber, and stops
 * the test with a message when it fails.
 */
#ifndef BCFS_TESTS_DATA_DFS_H
#define BCFS_TESTS_DATA_DFS_H

#include "../alloc_fixture.h"
#include "codec/keyring.h"
#include "data/data_private.h"

extern const struct tfs_geometry dfs_small, dfs_tiny;
/* The same, encrypted. */
struct tfs_geometry dfs_sealed(const struct tfs_geometry *g);
/* Master key of a generation; the uuid. */
struct csum_key dfs_master(u16 gen);
extern const struct bcfs_uuid dfs_uuid;

/* A new device, mounted (where small writes gather if the seed is odd); @fn in a fiber; checked and
 * unmounted behind it. */
void dfs_run(u64 seed, const struct tfs_geometry *g, void (*fn)(struct tfs *f));

#define DFS_ASSERT(f, cond, ...)                                                                   \
	do {                                                                                       \
		if (!(cond))                                                                       \
			dfs_fail(f, __FILE__, __LINE__, #cond, __VA_ARGS__);                       \
	} while (0)
#define DFS_OK(f, x)                                                                               \
	do {                                                                                       \
		int dfs_ret_ = (x);                                                                \
		if (dfs_ret_)                                                                      \
			dfs_fail(f, __FILE__, __LINE__, #x, "%s", err_name(dfs_ret_));             \
	} while (0)
void dfs_fail(struct tfs *f, const char *file, int line, const char *what, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 5, 6)));

#endif
