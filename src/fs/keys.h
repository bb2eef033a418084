/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Key types of fs/ that have little behaviour: whiteouts, set, logged operations. */
#ifndef BCFS_FS_KEYS_H
#define BCFS_FS_KEYS_H

#include "bcfs/format/snapshot.h"
#include "fs/fs.h"

BKEY_VAL_TYPE(logged_op_truncate, struct bcfs_logged_op_truncate);
BKEY_VAL_TYPE(logged_op_finsert, struct bcfs_logged_op_finsert);

#endif
