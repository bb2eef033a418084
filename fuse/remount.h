/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mount -o remount. The process that mount(8) starts asks the kernel by mount(2) and the daemon by
 * an ioctl: the kernel first to become read-only, so that what it holds back has come before the
 * filesystem is closed and opened again for reading; the daemon first to become writable, so that
 * no write fails. Who calls mount(2) himself is followed by the daemon, which sees the change
 * in mountinfo.
 *
 * In the daemon main does it, and requests wait meanwhile (fs_lock). Inodes that are in use stay
 * in use; the kernel does not become read-only while an unlinked one is.
 */
#ifndef BCFS_FUSE_REMOUNT_H
#define BCFS_FUSE_REMOUNT_H

#include "bcfs/ioctl.h"
#include "fuse_bcfs.h"

/* The process that mount(8) starts: enum mount_status; what failed is told on stderr. */
int remount_run(const struct mount_opts *o);

/* A request asks for it: main is told, and replies. */
void remount_ask(fuse_req_t req, const struct bcfs_ioc_remount *in);
/* The same of options of the superblock, which may have the filesystem opened anew, too. */
void remount_ask_stored(fuse_req_t req, const struct bcfs_ioc_fs_options *in);
/* Main: does what was asked for, if anything. */
void remount_do(struct daemon *d);
/* Main: does what the kernel's side says. */
void remount_follow(struct daemon *d);

#endif
