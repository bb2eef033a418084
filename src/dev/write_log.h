/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A log of writes in the format of the Linux kernel's dm-log-writes target
 * (Documentation/admin-guide/device-mapper/log-writes.rst), so that the tools that replay such logs
 * step by step work on ours: every prefix of the entries, applied to what the device held before,
 * is a state that a crash could have left, and what lies before an entry with the flush flag is
 * durable there.
 *
 * Two sources: write_log_bdev_create() puts a device on top of another that logs what passes;
 * sim_bdev_save_write_log() writes the log of a simulated device.
 *
 * Order. A write is logged when it has completed, before its caller hears of it; a flush when
 * it is submitted. So a flush entry stands behind all writes that it covers; a write that completes
 * while the flush is under way may stand behind it though it is durable, never the other way round.
 * A write with BDEV_PREFLUSH is a flush entry and then, when complete, its own. The kernel's target
 * keeps plain writes and discards back until the next flush: of a log of ours a prefix that ends
 * in a FUA write has them, too.
 *
 * One thread does all the writing of the log: it is for debugging.
 */
#ifndef BCFS_DEV_WRITE_LOG_H
#define BCFS_DEV_WRITE_LOG_H

#include "dev/bdev.h"

struct write_log;

/* A new log (the file is emptied), of a device with sectors of @sector_bytes. */
int write_log_create(struct env *env, const char *path, u32 sector_bytes, struct write_log **ret);
/* One request; @data of a write, else NULL. @flags: BDEV_FUA. One thread at a time. */
int write_log_add(struct write_log *l, enum bdev_op op, u32 flags, u64 offset, u64 len,
		  const void *data);
/* A place that tools find by its name; cut to what fits a sector. */
int write_log_mark(struct write_log *l, const char *name);
/* The first error of any call on it; frees. NULL is fine. */
int write_log_close(struct write_log *l);

/*
 * A device over @lower, which it owns from now on, also on failure. Marks "open" and "close" are
 * the first and the last entries. When the log cannot be written the device goes on and a line is
 * logged.
 */
int write_log_bdev_create(struct bdev *lower, const char *path, struct bdev **ret);

#endif
