// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dev/overlay_bdev.h"
#include "dev/bdev_private.h"

#include <string.h>

#define CHUNK_SHIFT 16
#define CHUNK_BYTES (1U << CHUNK_SHIFT)
#define LEAF_SHIFT  12
#define LEAF_CHUNKS (1U << LEAF_SHIFT)

struct overlay_leaf {
	u8 *chunk[LEAF_CHUNKS];
};

struct overlay {
	struct bdev b;
	struct bdev *lower;
	struct env_mutex lock;	    /* guards the tree */
	struct overlay_leaf **leaf; /* by chunk >> LEAF_SHIFT */
	u64 nr_leaves;
	struct env_workqueue *wq;
};

static u8 *chunk_find(struct overlay *o, u64 chunk)
{
	struct overlay_leaf *l = o->leaf[chunk >> LEAF_SHIFT];

	return l ? l->chunk[chunk & (LEAF_CHUNKS - 1)] : NULL;
}

/* The chunk, filled from below. lock held. */
static int chunk_get(struct overlay *o, u64 chunk, u8 **ret)
{
	struct overlay_leaf **l = &o->leaf[chunk >> LEAF_SHIFT];

	if (!*l)
		*l = env_zalloc(o->b.env, sizeof(**l));
	if (!*l)
		return -BCFS_ERR_nomem;
	u8 **p = &(*l)->chunk[chunk & (LEAF_CHUNKS - 1)];
	if (!*p) {
		u64 at = chunk << CHUNK_SHIFT;
		u8 *n = env_malloc_aligned(o->b.env, 4096, CHUNK_BYTES);

		if (!n)
			return -BCFS_ERR_nomem;
		int err = bdev_read(o->lower, at, n, min_t(u64, CHUNK_BYTES, o->b.size_bytes - at));
		if (err) {
			env_free(o->b.env, n);
			return err;
		}
		*p = n;
	}
	*ret = *p;
	return 0;
}

static int overlay_write(struct overlay *o, u64 offset, const u8 *buf, u64 len)
{
	int ret = 0;

	env_mutex_lock(&o->lock);
	while (len && !ret) {
		u64 in = offset & (CHUNK_BYTES - 1), n = min(len, CHUNK_BYTES - in);
		u8 *c;

		ret = chunk_get(o, offset >> CHUNK_SHIFT, &c);
		if (!ret)
			memcpy(c + in, buf, n);
		offset += n;
		buf += n;
		len -= n;
	}
	env_mutex_unlock(&o->lock);
	return ret;
}

static int overlay_read(struct overlay *o, u64 offset, u8 *buf, u64 len)
{
	int ret = bdev_read(o->lower, offset, buf, len);

	env_mutex_lock(&o->lock);
	while (len && !ret) {
		u64 in = offset & (CHUNK_BYTES - 1), n = min(len, CHUNK_BYTES - in);
		const u8 *c = chunk_find(o, offset >> CHUNK_SHIFT);

		if (c)
			memcpy(buf, c + in, n);
		offset += n;
		buf += n;
		len -= n;
	}
	env_mutex_unlock(&o->lock);
	return ret;
}

static void overlay_work(struct env_work *work)
{
	struct bdev_io *io = container_of(work, struct bdev_io, work);
	struct overlay *o = container_of(io->bdev, struct overlay, b);
	int ret = 0;

	if (io->op == BDEV_READ)
		ret = overlay_read(o, io->offset, io->buf, io->len);
	else if (io->op == BDEV_WRITE)
		ret = overlay_write(o, io->offset, io->buf, io->len);
	bdev_io_complete(io, ret);
}

static void overlay_submit(struct bdev *bdev, struct bdev_io *io)
{
	struct overlay *o = container_of(bdev, struct overlay, b);

	env_work_init(&io->work, overlay_work);
	env_wq_queue(o->wq, &io->work);
}

static void overlay_close(struct bdev *bdev)
{
	struct overlay *o = container_of(bdev, struct overlay, b);
	struct env *env = bdev->env;

	env_wq_destroy(o->wq);
	for (u64 i = 0; o->leaf && i < o->nr_leaves; i++) {
		for (unsigned k = 0; o->leaf[i] && k < LEAF_CHUNKS; k++)
			env_free(env, o->leaf[i]->chunk[k]);
		env_free(env, o->leaf[i]);
	}
	env_free(env, o->leaf);
	env_mutex_destroy(&o->lock);
	bdev_exit(bdev);
	env_free(env, o);
}

static const struct bdev_ops overlay_ops = {.submit = overlay_submit, .close = overlay_close};

int overlay_bdev_create(struct env *env, struct bdev *lower, struct bdev **ret)
{
	struct overlay *o = env_zalloc(env, sizeof(*o));

	if (!o)
		return -BCFS_ERR_nomem;
	int err = bdev_init_over(&o->b, &overlay_ops, lower);
	if (err) {
		env_free(env, o);
		return err;
	}
	env_mutex_init(&o->lock, env);
	o->lower = lower;
	o->b.engine = "overlay";
	o->nr_leaves = (lower->size_bytes >> (CHUNK_SHIFT + LEAF_SHIFT)) + 1;
	o->leaf = env_zalloc(env, o->nr_leaves * sizeof(*o->leaf));
	o->wq = env_wq_create(env, "overlay", 2);
	if (!o->leaf || !o->wq) {
		overlay_close(&o->b);
		return -BCFS_ERR_nomem;
	}
	*ret = &o->b;
	return 0;
}
