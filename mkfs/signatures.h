/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What others have left on a device: filesystems, RAID and LVM members,
 * partition tables, as libblkid knows them. bcfs itself is libbcfs's to find.
 */
#ifndef BCFS_MKFS_SIGNATURES_H
#define BCFS_MKFS_SIGNATURES_H

#include <stddef.h>

/*
 * 1 and a text ("an ext4 filesystem labelled "x"") when there is something, 0 when
 * there is nothing, or a negative errno.
 */
int signatures_find(const char *path, char *text, size_t size);

/* Wipes all of them. 0 or a negative errno. */
int signatures_wipe(const char *path);

#endif
