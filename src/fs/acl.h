/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * POSIX ACLs as the kernel passes them in xattrs: the little that a filesystem has to do so that
 * ACLs, modes and new files agree. Checking access is the kernel's.
 */
#ifndef BCFS_FS_ACL_H
#define BCFS_FS_ACL_H

#include "util/types.h"

#define ACL_MAX_BYTES (4 + 8 * 512)

/* 0 or -BCFS_ERR_acl_invalid. */
int acl_check(const void *acl, size_t bytes);
/*
 * An access ACL is set: the permissions it stands for go to *mode; true if they say all
 * (the ACL need not be stored).
 */
bool acl_to_mode(const void *acl, size_t bytes, u16 *mode);
/* chmod: change the entries that mode bits stand for. */
void acl_chmod(void *acl, size_t bytes, u16 mode);
/*
 * A new file under a default ACL: @acl (a copy of it) becomes its access ACL, *mode loses what the
 * ACL does not give. True if the mode says all.
 */
bool acl_inherit(void *acl, size_t bytes, u16 *mode);

#endif
