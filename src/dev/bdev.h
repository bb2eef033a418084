/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A block device: an array of bytes that is read and written in blocks, with a
 * volatile write cache. Behind the one interface are files and block devices
 * (bdev_open(): io_uring, or a pool of threads with pread/pwrite) and the
 * simulated device of sim_bdev.h.
 *
 * Rules:
 *  1. Every request is a struct bdev_io of the caller's, who keeps it and its
 *     buffer alive and unchanged until it is complete.
 *  2. Requests in flight have no order among themselves.
 *  3. A completed write is durable after a flush that was submitted after the
 *     completion has itself completed, or at once if it was a BDEV_FUA write.
 *  4. Offsets and lengths are bytes, multiples of logical_block. A request that
 *     is out of bounds, not aligned, or a write to a read-only device is refused
 *     with its own code before any engine sees it. A read past the end of an
 *     image that was truncated behind our back is an error, never zeroes.
 *  5. A buffer aligned to 4096 is used as it is; any other may be copied.
 *  6. Completion: with `done` set it is called exactly once, from a thread of
 *     the engine (a fiber of the device, in simulation), or from within bdev_submit()
 *     when the request is refused or has BDEV_SYNC; the engine does not touch the io after the
 *     call, so done may free it, and such an io is not for bdev_wait(). done may
 *     lock mutexes, queue work and submit requests, but never wait for I/O.
 *  7. A device is opened once: images are locked with flock(2), block devices
 *     with O_EXCL and flock(2). Readers share a lock that keeps writers out.
 */
#ifndef BCFS_DEV_BDEV_H
#define BCFS_DEV_BDEV_H

#include "env/env.h"

enum bdev_op {
	BDEV_READ,
	BDEV_WRITE,
	BDEV_FLUSH,
	BDEV_DISCARD,
	BDEV_OP_NR,
};

/* Flags of writes. */
#define BDEV_FUA (1U << 0) /* durable when complete */
#define BDEV_PREFLUSH                                                                              \
	(1U << 1) /* flush first: what was complete at submission is durable before                \
		   */
/*
 * Of any request: the caller has nothing else to do before it is complete. bdev_submit() may block
 * until it is; nothing of what the completion needs may be locked.
 */
#define BDEV_SYNC (1U << 2)

struct bdev;
struct bdev_io;

struct bdev_ops {
	/* A checked request; must end in bdev_io_complete() exactly once. */
	void (*submit)(struct bdev *bdev, struct bdev_io *io);
	/* A range begins a new life (generation): may be written once from now on. May be NULL. */
	void (*new_life)(struct bdev *bdev, u64 offset, u64 len);
	/* See bdev_end_life(). May be NULL. */
	void (*end_life)(struct bdev *bdev, u64 offset, u64 len, bool durable);
	void (*close)(struct bdev *bdev);
};

struct bdev_io {
	/* Filled by the caller, see bdev_io_init(). */
	enum bdev_op op;
	u32 flags;
	u64 offset; /* bytes */
	u32 len;    /* bytes; a discard may be longer: see len_discard */
	void *buf;
	u64 len_discard; /* BDEV_DISCARD: bytes */
	void (*done)(struct bdev_io *io);
	void *priv; /* the caller's */

	/* The answer: 0 or a negative code. */
	int ret;

	/* The engine's. */
	struct bdev *bdev;
	u32 complete; /* release-stored; protected by the wait slot for sleepers */
	u32 slot;     /* where bdev_wait() sleeps */
	u32 stage;
	u32 done_bytes;
	void *bounce;
	struct bdev_io *next;
	struct env_work work;
};

struct bdev_stats {
	u64 nr[BDEV_OP_NR];
	u64 bytes[BDEV_OP_NR];
	u64 nr_fua;
	u64 nr_errors;
};

#define BDEV_WAIT_SLOTS 16

struct bdev {
	struct env *env;
	const struct bdev_ops *ops;
	char *name; /* the path, for messages */
	u64 size_bytes;
	u32 logical_block;  /* bytes: the unit and alignment of requests */
	u32 physical_block; /* bytes: writes of less may be slow or tear neighbours */
	bool rotational;
	bool read_only;
	bool can_discard;
	bool is_file;	    /* an image, not a block device */
	bool direct;	    /* bypasses the page cache */
	const char *engine; /* "io_uring", "threads", "sim" */

	/* Completion: requests take the slots in turn. */
	struct bdev_wait_slot {
		struct env_mutex lock;
		struct env_cond cond;
	} slots[BDEV_WAIT_SLOTS];
	u32 next_slot;		 /* atomic */
	u64 in_flight;		 /* atomic */
	struct bdev_stats stats; /* atomic counters, relaxed */
};

enum bdev_engine {
	BDEV_ENGINE_AUTO, /* io_uring if it works here, else threads */
	BDEV_ENGINE_URING,
	BDEV_ENGINE_THREADS,
};

enum bdev_direct {
	BDEV_DIRECT_AUTO, /* O_DIRECT where the file can */
	BDEV_DIRECT_OFF,
};

struct bdev_opts {
	bool read_only; /* shares the device with other readers, unless exclusive */
	bool exclusive; /* read_only too: nobody else, not even readers */
	bool unlocked;	/* a look without any lock; read_only only, the content may change */
	bool unmounted; /* read_only too: refused while a mount shows it */
	enum bdev_engine engine;
	enum bdev_direct direct;
	u32 nr_threads;	  /* of the pool; 0: default */
	u32 wait_lock_ms; /* how long to wait for a device that is in use */
	/* Called once with a line for the user when waiting begins. */
	void (*on_wait)(void *ctx, const char *msg);
	void *on_wait_ctx;
};

/* Room for the longest message of bdev_open(). */
#define BDEV_MSG_SIZE 512

/*
 * Opens and locks a file or block device. opts may be NULL (read-write, all
 * automatic). *ret is written only on success; on failure msg (may be NULL)
 * gets one line that names the device and says what to do.
 */
int bdev_open(struct env *env, const char *path, const struct bdev_opts *opts, struct bdev **ret,
	      char *msg, size_t msg_size);
/* The name in messages from now on, in place of the path. Before other threads see the device. */
int bdev_set_name(struct bdev *bdev, const char *name);
/* Waits for what is in flight; does not flush. NULL is fine. */
void bdev_close(struct bdev *bdev);
/*
 * A device that was opened for reading can be written to, and is locked as writers lock it. No
 * request is in flight. On failure it is as it was, and msg (may be NULL) gets one line. A no-op
 * for what can be written to already.
 */
int bdev_make_writable(struct bdev *bdev, char *msg, size_t msg_size);
/*
 * Gives up the O_EXCL claim on a block device and keeps the flock: for the
 * moment before a mount(2) that claims the device itself. A no-op for images.
 */
void bdev_release_excl(struct bdev *bdev);
/* Takes it again: 0, or -BCFS_ERR_dev_in_use. */
int bdev_claim_excl(struct bdev *bdev);

static inline void bdev_io_init(struct bdev_io *io, enum bdev_op op, u64 offset, void *buf, u32 len,
				u32 flags)
{
	*io = (struct bdev_io){.op = op, .offset = offset, .buf = buf, .len = len, .flags = flags};
}

static inline void bdev_io_init_discard(struct bdev_io *io, u64 offset, u64 len)
{
	*io = (struct bdev_io){.op = BDEV_DISCARD, .offset = offset, .len_discard = len};
}

/* For one that needs no device: bdev_wait() returns at once. */
static inline void bdev_io_answer(struct bdev_io *io, int ret)
{
	io->ret = ret;
	__atomic_store_n(&io->complete, 1, __ATOMIC_RELEASE);
}

/*
 * Where the device or image at `path` is mounted, as far as this process can see, under whatever
 * name of the file; false: nowhere.
 */
bool bdev_mounted_on(const char *path, char *point, size_t size);

/* Starts a request; blocks for the I/O only with BDEV_SYNC. io->ret holds the answer when it is
 * complete. */
void bdev_submit(struct bdev *bdev, struct bdev_io *io);
/* Waits for a request without `done`; returns io->ret. */
int bdev_wait(struct bdev *bdev, struct bdev_io *io);
/* Waits until nothing is in flight. */
void bdev_drain(struct bdev *bdev);

static inline bool bdev_io_is_complete(struct bdev_io *io)
{
	return __atomic_load_n(&io->complete, __ATOMIC_ACQUIRE);
}

/* Submit and wait. Lengths may exceed 4 GiB - the requests are cut. */
int bdev_read(struct bdev *bdev, u64 offset, void *buf, u64 len);
int bdev_write(struct bdev *bdev, u64 offset, const void *buf, u64 len, u32 flags);
int bdev_flush(struct bdev *bdev);
/* The content is undefined afterwards. -BCFS_ERR_dev_no_discard where the device cannot. */
int bdev_discard(struct bdev *bdev, u64 offset, u64 len);

/* The allocator says that a range begins a new life: see bdev_ops. */
void bdev_new_life(struct bdev *bdev, u64 offset, u64 len);
/*
 * Nobody will want what is in the range once what the caller is about to write is durable, or
 * already (@durable). Changes nothing on the device: for one that watches, see sim_bdev.h.
 */
void bdev_end_life(struct bdev *bdev, u64 offset, u64 len, bool durable);

void bdev_get_stats(struct bdev *bdev, struct bdev_stats *ret);

#endif
