/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Options of single files and directories, as extended attributes "bcfs.NAME" that are not
 * stored as such: they are fields of the inode. New files have those of their directory.
 *
 *   bcfs.compression              "none", "TYPE" or "TYPE:LEVEL": of what is written from now on
 *   bcfs.background_compression   the same: what that becomes later
 *
 * Errors: xattr_name_invalid (no such option), xattr_not_found (not set here), option_value.
 * Locks: taken by these functions.
 */
#ifndef BCFS_FS_OPTIONS_H
#define BCFS_FS_OPTIONS_H

#include "fs/inode.h"

/* Does the name belong here? */
bool inode_option_is(const char *name);
int inode_option_set(struct bcfs *c, struct bcfs_ino ino, const char *name, const void *value,
		     size_t size, u32 flags);
/* The length; size 0: only that. */
int64_t inode_option_get(struct bcfs *c, struct bcfs_ino ino, const char *name, void *value,
			 size_t size);
int inode_option_remove(struct bcfs *c, struct bcfs_ino ino, const char *name);
/* The names of those that are set, each with its NUL, as far as they fit; all their bytes. */
size_t inode_option_list(const struct bcfs_inode_unpacked *inode, char *list, size_t room);

#endif
