/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A device over a read-only one: what is written stays in memory, what is read is the memory's
 * where written and the lower device's elsewhere. Recovery can then run unchanged for a
 * read-only mount or check, and nothing reaches the media.
 *
 * Memory: whole chunks of 64 KiB for what was written; a recovery writes at most what the journal
 * held. Discards are forgotten. The lower device stays the caller's.
 */
#ifndef BCFS_DEV_OVERLAY_BDEV_H
#define BCFS_DEV_OVERLAY_BDEV_H

#include "dev/bdev.h"

int overlay_bdev_create(struct env *env, struct bdev *lower, struct bdev **ret);

#endif
