/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What all devices have in common: checking requests, completion and waiting,
 * the synchronous wrappers.
 */
#include "dev/bdev_private.h"
#include "env/env_sim.h"

#include <string.h>

/* The synchronous wrappers cut at this, so that bounce buffers stay small. */
#define SYNC_MAX (8U << 20)

int bdev_set_name(struct bdev *bdev, const char *name)
{
	size_t len = strlen(name) + 1;
	char *copy = env_malloc(bdev->env, len);

	if (!copy)
		return -BCFS_ERR_nomem;
	memcpy(copy, name, len);
	env_free(bdev->env, bdev->name);
	bdev->name = copy;
	return 0;
}

int bdev_init(struct bdev *bdev, struct env *env, const struct bdev_ops *ops, const char *name)
{
	bdev->env = env;
	bdev->ops = ops;
	bdev->name = NULL;
	int ret = bdev_set_name(bdev, name);
	if (ret)
		return ret;
	for (int i = 0; i < BDEV_WAIT_SLOTS; i++) {
		env_mutex_init(&bdev->slots[i].lock, env);
		env_cond_init(&bdev->slots[i].cond, env);
	}
	return 0;
}

int bdev_init_over(struct bdev *bdev, const struct bdev_ops *ops, const struct bdev *lower)
{
	bdev->size_bytes = lower->size_bytes;
	bdev->logical_block = lower->logical_block;
	bdev->physical_block = lower->physical_block;
	bdev->rotational = lower->rotational;
	bdev->is_file = lower->is_file;
	return bdev_init(bdev, lower->env, ops, lower->name);
}

void bdev_exit(struct bdev *bdev)
{
	if (!bdev->name)
		return;
	for (int i = 0; i < BDEV_WAIT_SLOTS; i++) {
		env_cond_destroy(&bdev->slots[i].cond);
		env_mutex_destroy(&bdev->slots[i].lock);
	}
	env_free(bdev->env, bdev->name);
	bdev->name = NULL;
}

/* By number, not by address: a simulation shall run alike wherever its memory lies. */
static struct bdev_wait_slot *wait_slot(struct bdev *bdev, const struct bdev_io *io)
{
	return &bdev->slots[io->slot];
}

void bdev_io_complete(struct bdev_io *io, int ret)
{
	struct bdev *bdev = io->bdev;
	struct bdev_wait_slot *slot;

	if (ret)
		__atomic_fetch_add(&bdev->stats.nr_errors, 1, __ATOMIC_RELAXED);
	io->ret = ret;
	if (io->done) {
		__atomic_store_n(&io->complete, 1, __ATOMIC_RELEASE);
		io->done(io);
	} else {
		slot = wait_slot(bdev, io);
		env_mutex_lock(&slot->lock);
		__atomic_store_n(&io->complete, 1, __ATOMIC_RELEASE);
		env_cond_broadcast(&slot->cond);
		env_mutex_unlock(&slot->lock);
	}
	/* The last that is touched: bdev_close() waits for it. */
	__atomic_fetch_sub(&bdev->in_flight, 1, __ATOMIC_ACQ_REL);
}

static int check_range(struct bdev *bdev, u64 offset, u64 len)
{
	if ((offset | len) & (bdev->logical_block - 1))
		return -BCFS_ERR_dev_unaligned;
	if (!len || len > bdev->size_bytes || offset > bdev->size_bytes - len)
		return -BCFS_ERR_dev_bounds;
	return 0;
}

static int check_request(struct bdev *bdev, struct bdev_io *io)
{
	assert(io->op < BDEV_OP_NR);
	if (io->op != BDEV_READ && bdev->read_only)
		return -BCFS_ERR_dev_write_ro;
	if (io->op == BDEV_FLUSH)
		return 0;
	if (io->op == BDEV_DISCARD)
		return bdev->can_discard ? check_range(bdev, io->offset, io->len_discard)
					 : -BCFS_ERR_dev_no_discard;
	return check_range(bdev, io->offset, io->len);
}

static void account(struct bdev *bdev, const struct bdev_io *io)
{
	u64 bytes = io->op == BDEV_DISCARD ? io->len_discard : io->len;

	__atomic_fetch_add(&bdev->stats.nr[io->op], 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&bdev->stats.bytes[io->op], bytes, __ATOMIC_RELAXED);
	if (io->flags & BDEV_FUA)
		__atomic_fetch_add(&bdev->stats.nr_fua, 1, __ATOMIC_RELAXED);
}

void bdev_submit(struct bdev *bdev, struct bdev_io *io)
{
	int ret;

	io->bdev = bdev;
	io->complete = 0;
	io->done_bytes = 0;
	io->stage = 0;
	io->bounce = NULL;
	io->ret = 0;
	io->slot = __atomic_fetch_add(&bdev->next_slot, 1, __ATOMIC_RELAXED) % BDEV_WAIT_SLOTS;
	__atomic_fetch_add(&bdev->in_flight, 1, __ATOMIC_RELAXED);
	ret = check_request(bdev, io);
	if (ret) {
		bdev_io_complete(io, ret);
		return;
	}
	account(bdev, io);
	bdev->ops->submit(bdev, io);
}

int bdev_wait(struct bdev *bdev, struct bdev_io *io)
{
	struct bdev_wait_slot *slot = wait_slot(bdev, io);

	assert(!io->done);
	if (!bdev_io_is_complete(io)) {
		env_mutex_lock(&slot->lock);
		while (!bdev_io_is_complete(io))
			env_cond_wait(&slot->cond, &slot->lock);
		env_mutex_unlock(&slot->lock);
	}
	return io->ret;
}

/* Rare, so it may poll: nothing has to be woken after the last touch of the device. */
void bdev_drain(struct bdev *bdev)
{
	while (__atomic_load_n(&bdev->in_flight, __ATOMIC_ACQUIRE))
		env_sleep_ns(bdev->env, 50 * ENV_NSEC_PER_USEC);
}

void bdev_close(struct bdev *bdev)
{
	if (!bdev)
		return;
	if (!bdev->env->sim || !env_sim_is_stopped(bdev->env))
		bdev_drain(bdev);
	bdev->ops->close(bdev);
}

static int submit_and_wait(struct bdev *bdev, struct bdev_io *io)
{
	io->flags |= BDEV_SYNC;
	bdev_submit(bdev, io);
	return bdev_wait(bdev, io);
}

static int sync_rw(struct bdev *bdev, enum bdev_op op, u64 offset, u8 *buf, u64 len, u32 flags)
{
	struct bdev_io io;
	int ret;

	do {
		u32 now = (u32)min_t(u64, len, SYNC_MAX);

		bdev_io_init(&io, op, offset, buf, now, flags);
		ret = submit_and_wait(bdev, &io);
		offset += now;
		buf += now;
		len -= now;
		flags &= ~BDEV_PREFLUSH;
	} while (!ret && len);
	return ret;
}

int bdev_read(struct bdev *bdev, u64 offset, void *buf, u64 len)
{
	return sync_rw(bdev, BDEV_READ, offset, buf, len, 0);
}

int bdev_write(struct bdev *bdev, u64 offset, const void *buf, u64 len, u32 flags)
{
	return sync_rw(bdev, BDEV_WRITE, offset, (u8 *)(uintptr_t)buf, len, flags);
}

int bdev_flush(struct bdev *bdev)
{
	struct bdev_io io;

	bdev_io_init(&io, BDEV_FLUSH, 0, NULL, 0, 0);
	return submit_and_wait(bdev, &io);
}

int bdev_discard(struct bdev *bdev, u64 offset, u64 len)
{
	struct bdev_io io;

	bdev_io_init_discard(&io, offset, len);
	return submit_and_wait(bdev, &io);
}

void bdev_new_life(struct bdev *bdev, u64 offset, u64 len)
{
	if (bdev->ops->new_life)
		bdev->ops->new_life(bdev, offset, len);
}

void bdev_end_life(struct bdev *bdev, u64 offset, u64 len, bool durable)
{
	if (bdev->ops->end_life)
		bdev->ops->end_life(bdev, offset, len, durable);
}

void bdev_get_stats(struct bdev *bdev, struct bdev_stats *ret)
{
	for (int i = 0; i < BDEV_OP_NR; i++) {
		ret->nr[i] = __atomic_load_n(&bdev->stats.nr[i], __ATOMIC_RELAXED);
		ret->bytes[i] = __atomic_load_n(&bdev->stats.bytes[i], __ATOMIC_RELAXED);
	}
	ret->nr_fua = __atomic_load_n(&bdev->stats.nr_fua, __ATOMIC_RELAXED);
	ret->nr_errors = __atomic_load_n(&bdev->stats.nr_errors, __ATOMIC_RELAXED);
}
