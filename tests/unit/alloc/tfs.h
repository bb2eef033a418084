/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The fixture with extents of a toy file layer, that writes what it allocates. */
#ifndef BCFS_TESTS_ALLOC_TFS_H
#define BCFS_TESTS_ALLOC_TFS_H

#include "../alloc_fixture.h"

extern const struct tfs_geometry tfs_small, tfs_tiny;

/* A new device, mounted. */
void toy_mkfs(struct tfs *f, u64 seed, const struct tfs_geometry *g);
/* Write [start, start + sectors) of an inode: reservation, data, keys. 0 or -nospc. */
int tfs_write(struct tfs *f, u64 inum, u64 start, u32 sectors, unsigned encoding);
int tfs_delete(struct tfs *f, u64 inum, u64 start, u64 end);

#endif
