/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The loops: threads that read requests from /dev/fuse and run them.
 *
 * At most `readers` threads wait for requests at a time: few, because a reply
 * from the CPU where the caller sleeps is cheapest. A thread whose request may
 * take long (data, fsync) first gives its place as a reader to another thread,
 * parked or new, so that such requests never keep short ones waiting. Threads
 * are made on demand up to max_threads, and stay.
 *
 * Our own loop, not libfuse's, for three things that libfuse 3.14 lacks:
 * requests it does not know (raw.c), flag bits it does not pass on (struct
 * request), and bits of the INIT reply.
 *
 * The loops end when the kernel closes the connection (read says ENODEV): the
 * mount is gone, no request is left.
 */
#ifndef BCFS_FUSE_LOOP_H
#define BCFS_FUSE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct daemon;
struct loops;

/* Of newer kernels than the header may be. */
#define OP_SYNCFS	      50U
#define OP_TMPFILE	      51U
#define OP_STATX	      52U
#define OP_COPY_FILE_RANGE_64 53U

/* What is known of the request that this thread runs, beside what libfuse passes. */
struct request {
	uint32_t opcode;
	bool kill_priv;	 /* WRITE, SETATTR: clear set-user-ID and set-group-ID */
	bool from_cache; /* WRITE: of the kernel's writeback, not of a caller */
	bool noatime;	 /* READ, READDIR: by a descriptor with O_NOATIME */
	bool sets_attr;	 /* IOCTL: changes the attributes of a file, or where its data are */
};

const struct request *request_current(void);

/* A buffer of this thread, page-aligned, good until its request ends. NULL: no memory. */
void *request_buffer(size_t size);

/*
 * Before a reply that is no error: what this thread's request has changed is on the device where
 * the mount options sync and dirsync say so. 0 or an errno.
 */
int reply_sync(struct daemon *d);

/* 0 or an errno. */
int loops_start(struct daemon *d);
/* Waits for the end of all threads and frees. */
void loops_join(struct daemon *d);

/* custom_io of the session, which sees every reply. */
struct fuse_custom_io;
const struct fuse_custom_io *loops_io(void);

/*
 * Runs a request that libfuse does not know; false: it does know it.
 */
bool raw_request(struct daemon *d, const void *buf, size_t len);
/* The reply to such a request that a task was left with. */
void raw_reply(struct daemon *d, uint64_t unique, int code);
void raw_reply_errno(struct daemon *d, uint64_t unique, int error);
/* The last request of a fuseblk mount: whoever unmounts waits until all is on the device. */
void raw_destroy(struct daemon *d, const void *buf);
/* Answers every request where there is no filesystem any more. */
void raw_gone(struct daemon *d, const void *buf);
/* After a shutdown: answers EIO to what is not needed to leave. True: answered. */
bool raw_refuse(struct daemon *d, const void *buf);

#endif
