/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The path of an inode, for messages. It may change at any time. */
#ifndef BCFS_FS_PATH_H
#define BCFS_FS_PATH_H

#include "fs/fs.h"

/*
 * From the root on, by the newest link, or, if that is no more, by any: then all names there are
 * are looked through. Unescaped. No locks of the btree are held.
 * -BCFS_ERR_no_such_name: it has none (any more); name_too_long: it does not fit; no_such_inode.
 */
int fs_path(struct bcfs *c, u64 inum, u32 snapshot, char *buf, size_t size);

#endif
