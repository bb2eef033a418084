/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the checkers share. Each goes through the filesystem subvolume by subvolume, with the
 * snapshot filter: it sees what users see. A body that may restart reports last.
 */
#ifndef BCFS_FS_CHECK_H
#define BCFS_FS_CHECK_H

#include "fs/dirent.h"
#include "fs/xattr.h"

/* One difference. */
void check_report(struct fs_check *chk, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct check_subvol {
	struct bcfs *c;
	struct fs_check *chk;
	struct subvol_node sv;
	void *arg;
};

int check_each_subvol(struct bcfs *c, struct fs_check *chk, int (*fn)(struct check_subvol *s),
		      void *arg);

typedef unsigned long long ull;

#endif
