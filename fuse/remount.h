/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mount -o remount: what the process that mount(8) starts does. The options of
 * the kernel's side are changed by mount(2).
 */
#ifndef BCFS_FUSE_REMOUNT_H
#define BCFS_FUSE_REMOUNT_H

#include "opts.h"

/* enum mount_status; what failed is told on stderr. */
int remount_run(const struct mount_opts *o);

#endif
