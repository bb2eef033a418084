/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests that a thread of its own answers: those that take long, and those that have to tell the
 * kernel of changed pages, which may wait for pages whose requests the loops have to answer.
 */
#ifndef BCFS_FUSE_TASK_H
#define BCFS_FUSE_TASK_H

#include <linux/fs.h>

#include "bcfs/ioctl.h"
#include "fuse_bcfs.h"

/* FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR. */
struct flags_change {
	uint32_t flags; /* BCFS_FL_* */
	uint32_t project;
	bool keep_project;
};

struct task {
	fuse_req_t req; /* NULL: a request that libfuse does not know */
	struct daemon *raw_d;
	uint64_t raw_unique;
	fuse_ino_t node;
	void (*fn)(struct task *t); /* replies to req */
	union {
		struct bcfs_ioc_shift shift;
		struct bcfs_ioc_dedupe dedupe;
		struct fstrim_range trim;
		struct flags_change flags;
		char label[FSLABEL_MAX];
		enum bcfs_shutdown_mode shutdown;
		struct tool_secret keys; /* struct bcfs_ioc_key_rotate or _slot */
		struct {
			uint64_t offset; /* bytes */
			bool hole;
		} seek;
	};
};

/* Runs a copy of *task; what cannot be started (false) is replied to with the reason. */
bool task_start(const struct task *task);
struct daemon *task_daemon(const struct task *t);
/* 0 or an error of bcfs, where that is the whole reply. */
void task_reply(const struct task *t, int code);
/* The same of an ioctl that answers nothing else. */
void task_reply_ioctl(const struct task *t, int code);
/* BCFS_IOC_KEY_ROTATE and BCFS_IOC_KEY_SLOT. */
void keys_ioctl(fuse_req_t req, unsigned int cmd, const void *in);
/*
 * The kernel writes the pages it has of [off, off + len) (0: up to the end), and lets go of them.
 * Not in a loop's thread: the loops answer its requests meanwhile.
 */
void pages_inval(struct daemon *d, fuse_ino_t node, off_t off, off_t len);
/* Waits for all that were started. */
void tasks_wait(struct daemon *d);

#endif
