/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of dev/ share: how a device is set up and a request completed,
 * and the real device with its two engines. For no other folder.
 */
#ifndef BCFS_DEV_BDEV_PRIVATE_H
#define BCFS_DEV_BDEV_PRIVATE_H

#include "dev/bdev.h"

/* Sets env, ops, name and the wait slots; the rest is the caller's. */
int bdev_init(struct bdev *bdev, struct env *env, const struct bdev_ops *ops, const char *name);
/* The same for a device on top of @lower, with its name, sizes and kind. */
int bdev_init_over(struct bdev *bdev, const struct bdev_ops *ops, const struct bdev *lower);
void bdev_exit(struct bdev *bdev);
/* Ends a request; the io must not be touched afterwards. */
void bdev_io_complete(struct bdev_io *io, int ret);

struct bdev_file;
struct bdev_uring;

struct bdev_file_engine {
	const char *name;
	int (*start)(struct bdev_file *f, const struct bdev_opts *opts);
	/* io->bounce is set up already. */
	void (*submit)(struct bdev_file *f, struct bdev_io *io);
	void (*stop)(struct bdev_file *f);
};

extern const struct bdev_file_engine bdev_engine_uring;
extern const struct bdev_file_engine bdev_engine_threads;

struct bdev_file {
	struct bdev b;
	const struct bdev_file_engine *eng;
	int fd;			  /* through the page cache; holds the flock */
	int fd_direct;		  /* O_DIRECT, or -1 */
	int fd_excl;		  /* holds the O_EXCL claim on a block device, or -1 */
	int fd_backing;		  /* of a loop device: its file, with a flock; or -1 */
	u32 dio_align;		  /* bytes: of offset, length and memory on fd_direct */
	bool no_dsync;		  /* RWF_DSYNC is not supported; relaxed */
	struct env_workqueue *wq; /* engine threads: all; io_uring: discards */
	struct bdev_uring *uring;
};

/* What is left of a read or write, and where. */
struct bdev_file_span {
	int fd;
	void *buf;
	u64 offset;
	u32 len;
};

struct bdev_file_span bdev_file_span(struct bdev_file *f, struct bdev_io *io);
/* Copies a read out of its bounce buffer, frees that, completes. */
void bdev_file_done(struct bdev_io *io, int ret);
/* The code of a failed system call. */
int bdev_errno_code(enum bdev_op op, int err);
/* Does it, with blocking system calls, and completes it. */
void bdev_file_blocking(struct bdev_file *f, struct bdev_io *io);
int bdev_file_discard(struct bdev_file *f, u64 offset, u64 len);

/* ---- bdev_claim.c: open and lock ---- */

/*
 * Opens `path` for f (fd, fd_excl, is_file), waiting for a device in use as
 * opts say. msg gets one line on failure.
 */
int bdev_claim(struct bdev_file *f, const char *path, const struct bdev_opts *opts, char *msg,
	       size_t msg_size);
void bdev_unclaim(struct bdev_file *f);
/* NULL: it is none. */
struct bdev_file *bdev_to_file(struct bdev *bdev);

/* ---- bdev_mounts.c: is it mounted? ---- */

struct stat;
/*
 * Where the device or image at `path`, whose stat is *st, is mounted as far as this process can
 * see, under whatever name of the file; false: nowhere. Waits for no filesystem's server.
 */
bool bdev_find_mount(const char *path, const struct stat *st, char *point, size_t size);
/* The same in the text of a mountinfo. */
bool bdev_mount_in(const char *mountinfo, const char *path, const struct stat *st, char *point,
		   size_t size);

/* ---- bdev_loop.c: loop devices ---- */

/* Is the file behind a loop device that is mounted or otherwise in use? */
bool bdev_loop_in_use(const struct stat *st);
/* Opens the file that the loop device `fd` has as a whole; -1: it is none. */
int bdev_loop_backing(int fd, const struct stat *st);

#endif
