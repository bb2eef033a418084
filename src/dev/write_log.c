/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See write_log.h. The layout is that of drivers/md/dm-log-writes.c, all little-endian. */
#include "dev/write_log.h"
#include "dev/bdev_private.h"
#include "dev/sim_bdev.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_MAGIC   0x6a736677736872ULL
#define LOG_VERSION 1ULL

#define LOG_FLUSH   (1ULL << 0)
#define LOG_FUA	    (1ULL << 1)
#define LOG_DISCARD (1ULL << 2)
#define LOG_MARK    (1ULL << 3)

struct log_super {
	u64 magic, version, nr_entries;
	u32 sector_bytes;
	u32 pad;
};

/* Takes a sector; the data follow in the next ones, those of a mark in the same. */
struct log_entry {
	u64 sector, nr_sectors; /* of sector_bytes */
	u64 flags;
	u64 data_bytes; /* of a mark */
};

struct write_log {
	struct env *env;
	int fd;
	int err;
	u32 sector_bytes;
	u64 nr_entries;
	u64 end; /* bytes */
	u8 *sector;
};

static int put(struct write_log *l, u64 offset, const void *data, u64 len)
{
	const u8 *p = data;

	while (len && !l->err) {
		ssize_t n = pwrite(l->fd, p, len, (off_t)offset);

		if (n <= 0) {
			l->err = -BCFS_ERR_dev_write_log;
			break;
		}
		p += n;
		offset += n;
		len -= n;
	}
	return l->err;
}

static int put_super(struct write_log *l)
{
	struct log_super s = {
		.magic = LOG_MAGIC,
		.version = LOG_VERSION,
		.nr_entries = l->nr_entries,
		.sector_bytes = l->sector_bytes,
	};

	memset(l->sector, 0, l->sector_bytes);
	memcpy(l->sector, &s, sizeof(s));
	return put(l, 0, l->sector, l->sector_bytes);
}

static int put_entry(struct write_log *l, const struct log_entry *e, const void *data)
{
	bool mark = e->flags & LOG_MARK;
	u64 bytes = data && !mark ? e->nr_sectors * l->sector_bytes : 0;

	memset(l->sector, 0, l->sector_bytes);
	memcpy(l->sector, e, sizeof(*e));
	if (mark)
		memcpy(l->sector + sizeof(*e), data, e->data_bytes);
	put(l, l->end, l->sector, l->sector_bytes);
	put(l, l->end + l->sector_bytes, data, bytes);
	l->end += l->sector_bytes + bytes;
	l->nr_entries++;
	/* So that the log is whole whenever we die. */
	return put_super(l);
}

int write_log_create(struct env *env, const char *path, u32 sector_bytes, struct write_log **ret)
{
	struct write_log *l = env_zalloc(env, sizeof(*l));
	int err;

	if (!l)
		return -BCFS_ERR_nomem;
	l->env = env;
	l->sector_bytes = sector_bytes;
	l->end = sector_bytes;
	l->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	l->sector = env_malloc(env, sector_bytes);
	err = l->fd < 0 ? -BCFS_ERR_dev_write_log : !l->sector ? -BCFS_ERR_nomem : put_super(l);
	if (err) {
		write_log_close(l);
		return err;
	}
	*ret = l;
	return 0;
}

int write_log_add(struct write_log *l, enum bdev_op op, u32 flags, u64 offset, u64 len,
		  const void *data)
{
	struct log_entry e = {.sector = offset / l->sector_bytes,
			      .nr_sectors = len / l->sector_bytes};

	switch (op) {
	case BDEV_WRITE:
		e.flags = flags & BDEV_FUA ? LOG_FUA : 0;
		break;
	case BDEV_FLUSH:
		e = (struct log_entry){.flags = LOG_FLUSH};
		break;
	case BDEV_DISCARD:
		e.flags = LOG_DISCARD;
		break;
	default:
		return 0;
	}
	return put_entry(l, &e, op == BDEV_WRITE ? data : NULL);
}

int write_log_mark(struct write_log *l, const char *name)
{
	struct log_entry e = {.flags = LOG_MARK};

	e.data_bytes = min_t(u64, strlen(name), l->sector_bytes - sizeof(e) - 1);
	return put_entry(l, &e, name);
}

int write_log_close(struct write_log *l)
{
	int err = l ? l->err : 0;

	if (!l)
		return 0;
	if (l->fd >= 0)
		close(l->fd);
	env_free(l->env, l->sector);
	env_free(l->env, l);
	return err;
}

/* ---- of a simulated device ---- */

int sim_bdev_save_write_log(struct bdev *bdev, const char *path)
{
	struct write_log *l;
	struct sim_log_entry e;
	int err = write_log_create(bdev->env, path, bdev->logical_block, &l);

	if (err)
		return err;
	for (u64 pos = sim_bdev_log_start(bdev); !err && sim_bdev_log_get(bdev, pos, &e); pos++) {
		bool flush = e.op == BDEV_FLUSH;

		if ((flush && e.kind == SIM_EV_SUBMIT) ||
		    (!flush && e.kind == SIM_EV_COMPLETE && !e.ret))
			err = write_log_add(l, e.op, e.flags, e.offset, e.len, e.data);
	}
	int close_err = write_log_close(l);

	return err ?: close_err;
}

/* ---- the device ---- */

struct log_bdev {
	struct bdev b;
	struct bdev *lower;
	struct write_log *wl;
	struct env_workqueue *wq; /* one thread: the order of the log */
	bool failed;		  /* said so; the thread's */
};

/* A request on its way through. */
struct log_io {
	struct bdev_io io; /* the lower device's */
	struct bdev_io *upper;
	struct log_bdev *d;
	struct env_work work;
};

static void note(struct log_bdev *d, int err)
{
	if (err && !d->failed) {
		d->failed = true;
		env_log(d->b.env, "%s: the write log cannot be written; it ends here", d->b.name);
	}
}

/* In the log's thread: what was done is logged, then its caller hears of it. */
static void completed(struct env_work *work)
{
	struct log_io *l = container_of(work, struct log_io, work);
	struct bdev_io *io = &l->io, *upper = l->upper;
	struct log_bdev *d = l->d;
	int ret = io->ret;

	if (!ret && io->op != BDEV_FLUSH)
		note(d, write_log_add(d->wl, io->op, io->flags, io->offset,
				      io->op == BDEV_DISCARD ? io->len_discard : io->len, io->buf));
	env_free(d->b.env, l);
	bdev_io_complete(upper, ret);
}

static void lower_done(struct bdev_io *io)
{
	struct log_io *l = container_of(io, struct log_io, io);
	struct env *env = l->d->b.env;

	if (io->op == BDEV_READ) {
		struct bdev_io *upper = l->upper;
		int ret = io->ret;

		env_free(env, l);
		bdev_io_complete(upper, ret);
		return;
	}
	env_work_init(&l->work, completed);
	env_wq_queue(l->d->wq, &l->work);
}

/* In the log's thread: behind all that was complete when it was submitted. */
static void log_flush(struct env_work *work)
{
	struct log_io *l = container_of(work, struct log_io, work);
	struct log_bdev *d = l->d;

	note(d, write_log_add(d->wl, BDEV_FLUSH, 0, 0, 0, NULL));
	bdev_submit(d->lower, &l->io);
}

static void log_bdev_submit(struct bdev *bdev, struct bdev_io *io)
{
	struct log_bdev *d = container_of(bdev, struct log_bdev, b);
	struct log_io *l = env_zalloc(bdev->env, sizeof(*l));

	if (!l) {
		bdev_io_complete(io, -BCFS_ERR_nomem);
		return;
	}
	l->d = d;
	l->upper = io;
	bdev_io_init(&l->io, io->op, io->offset, io->buf, io->len, io->flags);
	l->io.len_discard = io->len_discard;
	l->io.done = lower_done;
	if (io->op == BDEV_FLUSH || (io->op == BDEV_WRITE && io->flags & BDEV_PREFLUSH)) {
		env_work_init(&l->work, log_flush);
		env_wq_queue(d->wq, &l->work);
	} else {
		bdev_submit(d->lower, &l->io);
	}
}

static void log_bdev_new_life(struct bdev *bdev, u64 offset, u64 len)
{
	bdev_new_life(container_of(bdev, struct log_bdev, b)->lower, offset, len);
}

static void log_bdev_end_life(struct bdev *bdev, u64 offset, u64 len, bool durable)
{
	bdev_end_life(container_of(bdev, struct log_bdev, b)->lower, offset, len, durable);
}

static void log_bdev_close(struct bdev *bdev)
{
	struct log_bdev *d = container_of(bdev, struct log_bdev, b);
	struct env *env = bdev->env;

	env_wq_destroy(d->wq);
	if (d->wl)
		note(d, write_log_mark(d->wl, "close"));
	write_log_close(d->wl);
	bdev_close(d->lower);
	bdev_exit(bdev);
	env_free(env, d);
}

static const struct bdev_ops log_bdev_ops = {
	.submit = log_bdev_submit,
	.new_life = log_bdev_new_life,
	.end_life = log_bdev_end_life,
	.close = log_bdev_close,
};

int write_log_bdev_create(struct bdev *lower, const char *path, struct bdev **ret)
{
	struct env *env = lower->env;
	struct log_bdev *d = env_zalloc(env, sizeof(*d));
	int err = d ? bdev_init_over(&d->b, &log_bdev_ops, lower) : -BCFS_ERR_nomem;

	if (err) {
		env_free(env, d);
		bdev_close(lower);
		return err;
	}
	d->lower = lower;
	d->b.can_discard = lower->can_discard;
	d->b.direct = lower->direct;
	d->b.engine = lower->engine;
	d->wq = env_wq_create(env, "write-log", 1);
	err = d->wq ? write_log_create(env, path, lower->logical_block, &d->wl) : -BCFS_ERR_nomem;
	err = err ?: write_log_mark(d->wl, "open");
	if (err) {
		log_bdev_close(&d->b);
		return err;
	}
	*ret = &d->b;
	return 0;
}
