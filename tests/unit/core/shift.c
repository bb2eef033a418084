// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: collapse and insert of a range happen as a whole or not at all, after a crash at any moment
 * and on a full device. They are logged before they begin, and what is logged has to come to an
 * end. Method:
 * - A file of many extents; ranges go and come, while somebody else syncs and takes the device's
 *   image. Each image is opened: the file is what it was before or after one of the operations.
 * - A device that is filled; single blocks are taken out of the midst of extents, also shared ones,
 *   or put in, until there is no room for one key more; the file is what a model says, now and
 *   after a mount, and everything can be removed.
 */
#include "core/core.h"
#include "../fs/fixture.h"
#include "../test_rand.h"
#include "env/env_sim.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK  4096U
#define BLOCKS 3072U
#define SIZE   ((u64)BLOCK * BLOCKS)

static struct bcfs_cred root_cred;

static struct bcfs_ino new_file(struct fsx *fx, const char *name)
{
	struct bcfs_stat st;
	int ret = bcfs_mknod(fx->c, bcfs_root(fx->c), name, S_IFREG | 0644, 0, 0, &root_cred, &st);

	must(!ret, "%s: %s", name, err_str(ret));
	return st.ino;
}

static void fill(struct fsx *fx, struct bcfs_ino ino)
{
	static const u8 bytes[16 * BLOCK] = {1};
	s64 ret = sizeof(bytes);

	for (u64 at = 0; ret > 0; at += (u64)ret)
		ret = bcfs_write(fx->c, ino, at, bytes, sizeof(bytes), 0);
	must(err_to_errno((int)ret) == ENOSPC, "fill: %s", err_str((int)ret));
}

static void look(struct fsx *fx, struct bcfs_ino ino, const u8 *model, u64 size, u8 *buf)
{
	struct bcfs_stat st;

	must(!bcfs_getattr(fx->c, ino, &st) && st.size == size, "%llu bytes, not %llu",
	     (unsigned long long)st.size, (unsigned long long)size);
	must(bcfs_read(fx->c, ino, 0, buf, size) == (s64)size && !memcmp(buf, model, size),
	     "other data");
}

static void model_shift(u8 *model, u64 *size, u32 mode, u64 at, u64 len)
{
	bool keep = mode & BCFS_FALLOC_KEEP_SIZE;

	if (mode & BCFS_FALLOC_INSERT_RANGE) {
		memmove(model + at + len, model + at, *size - at);
		memset(model + at, 0, len);
		*size += keep ? 0 : len;
	} else {
		memmove(model + at, model + at + len, *size - at - len);
		memset(model + *size - len, 0, len);
		*size -= keep ? 0 : len;
	}
}

/* ---- crashes ---- */

#define OPS	   24U
#define IMAGES	   160U
#define CRASH_SIZE (40ULL * BLOCK - 100)

struct image {
	struct sim_image *img;
	unsigned lo, hi; /* operations that must be in it, and may be */
};

struct crashes {
	struct fsx *fx;
	struct bcfs_ino ino;
	u64 rng;
	u8 *model[OPS + 1];
	u64 size[OPS + 1];
	unsigned synced, done; /* operations */
	bool under_way, stop;
	struct image images[IMAGES];
	unsigned nr;
	unsigned inside; /* images taken in the midst of an operation */
};

static void syncer(void *arg)
{
	struct crashes *t = arg;

	while (!t->stop) {
		unsigned done = t->done;

		must(!bcfs_sync(t->fx->c), "sync");
		t->synced = done;
		env_sleep_ns(t->fx->env, trand_below(&t->rng, ENV_NSEC_PER_MSEC / 10));
	}
}

static void imager(void *arg)
{
	struct crashes *t = arg;

	while (!t->stop && t->nr < IMAGES) {
		t->inside += t->under_way;
		t->images[t->nr++] = (struct image){
			.img = sim_bdev_image(t->fx->bdev),
			.lo = t->synced,
			.hi = t->done + t->under_way,
		};
		env_sleep_ns(t->fx->env, trand_below(&t->rng, ENV_NSEC_PER_MSEC));
	}
}

static void one_operation(struct crashes *t, u8 *model, u64 *size)
{
	u64 at = trand_below(&t->rng, *size / BLOCK / 2) * BLOCK;
	u64 len = (1 + trand_below(&t->rng, 3)) * BLOCK;
	bool keep = trand_below(&t->rng, 3) == 0;
	/* Short of half, it grows. */
	bool insert =
		*size < CRASH_SIZE / 2 || ((keep || *size < CRASH_SIZE) && trand_below(&t->rng, 2));
	u32 mode = (insert ? BCFS_FALLOC_INSERT_RANGE : BCFS_FALLOC_COLLAPSE_RANGE) |
		   (keep ? BCFS_FALLOC_KEEP_SIZE : 0);
	struct bcfs_stat st = {.size = *size + 1 + trand_below(&t->rng, BLOCK)};
	int ret;

	/* What is behind the end does not show when the end moves. */
	if (*size < CRASH_SIZE && trand_below(&t->rng, 3) == 0) {
		*size = st.size;
		ret = bcfs_setattr(t->fx->c, t->ino, &st, BCFS_SET_SIZE, &st);
	} else {
		model_shift(model, size, mode, at, len);
		ret = bcfs_fallocate(t->fx->c, t->ino, mode, at, len);
	}
	must(!ret, "operation %u: %s", t->done, err_str(ret));
}

static void crashes_main(struct fsx *fx, void *arg)
{
	struct crashes *t = arg;
	struct env_thread *threads[2];

	t->fx = fx;
	must(!fsx_open(fx), "open");
	t->ino = new_file(fx, "f");
	t->model[0] = calloc(2, CRASH_SIZE);
	t->size[0] = CRASH_SIZE;
	for (u64 at = 0; at < CRASH_SIZE; at += BLOCK) {
		u64 len = min(CRASH_SIZE - at, (u64)BLOCK);

		memset(t->model[0] + at, (int)(at / BLOCK) + 1, len);
		must(bcfs_write(fx->c, t->ino, at, t->model[0] + at, len, 0) == (s64)len, "write");
	}
	must(!bcfs_sync(fx->c), "sync");
	env_sim_set_stalls(fx->env, 30000, ENV_NSEC_PER_MSEC);
	must(!env_thread_start(fx->env, &threads[0], "sync", syncer, t) &&
		     !env_thread_start(fx->env, &threads[1], "image", imager, t),
	     "threads");
	while (t->done < OPS) {
		u64 size = t->size[t->done];
		u8 *model = calloc(2, CRASH_SIZE);

		memcpy(model, t->model[t->done], size);
		t->model[t->done + 1] = model;
		t->under_way = true;
		one_operation(t, model, &size);
		t->size[t->done + 1] = size;
		t->under_way = false;
		t->done++;
	}
	t->stop = true;
	for (unsigned i = 0; i < 2; i++)
		env_thread_join(threads[i]);
	must(t->inside > 5, "%u images from inside an operation", t->inside);
	must(!fsx_close(fx), "close");
}

static void after_main(struct fsx *fx, void *arg)
{
	struct crashes *t = arg;
	struct image *i = &t->images[t->nr];
	u8 *buf = malloc(2 * CRASH_SIZE);
	struct bcfs_stat st;
	bool found = false;

	must(!fsx_open(fx), "open");
	must(!bcfs_lookup(fx->c, bcfs_root(fx->c), "f", &st), "lookup");
	must(bcfs_read(fx->c, st.ino, 0, buf, st.size) == (s64)st.size, "read");
	bcfs_forget(fx->c, st.ino, 1);
	for (unsigned k = i->lo; k <= i->hi; k++)
		found |= st.size == t->size[k] && !memcmp(buf, t->model[k], st.size);
	must(found, "image %u: not what %u to %u operations leave", t->nr, i->lo, i->hi);
	must(!fsx_check(fx), "check");
	must(!fsx_close(fx), "close");
	free(buf);
}

Test(shift, crashes)
{
	static struct crashes t;
	u64 seed = trand_seed(0xf120);

	for (unsigned round = 0; round < trand_rounds(8); round++) {
		struct fsx fx = {.node_bytes = 16384, .dev_bytes = 32 << 20};
		unsigned nr;

		t = (struct crashes){.rng = seed + round};
		fsx_run(&fx, seed + round, crashes_main, &t);
		nr = t.nr;
		for (t.nr = 0; t.nr < nr; t.nr++) {
			struct fsx after = {.node_bytes = 16384,
					    .dev_bytes = 32 << 20,
					    .made = true,
					    .image = t.images[t.nr].img};

			fsx_run(&after, seed, after_main, &t);
			sim_image_free(after.image);
		}
		for (unsigned k = 0; k <= OPS; k++)
			free(t.model[k]);
	}
}

/* ---- a full device ---- */

struct work {
	bool insert, shared, edge; /* edge: at the file's begin, not amid it */
	unsigned refused;	   /* at the end */
};

/* Single blocks until twenty in a row are refused. */
static u64 shift_until_full(struct fsx *fx, struct work *w, struct bcfs_ino ino, u8 *model,
			    u64 size)
{
	const u32 mode = w->insert ? BCFS_FALLOC_INSERT_RANGE : BCFS_FALLOC_COLLAPSE_RANGE;
	unsigned done = 0, refused = 0;

	for (u64 at = w->edge ? 0 : BLOCK; refused < 20 && at + 2 * BLOCK < size;
	     at += w->edge ? 0 : 2 * BLOCK) {
		int ret = bcfs_fallocate(fx->c, ino, mode, at, BLOCK);

		must(!ret || err_to_errno(ret) == ENOSPC, "%llu: %s", (unsigned long long)at,
		     err_str(ret));
		refused = ret ? refused + 1 : 0;
		done += !ret;
		if (!ret)
			model_shift(model, &size, mode, at, BLOCK);
	}
	must(done > 50, "%u done", done);
	w->refused = refused;
	return size;
}

static void shift_main(struct fsx *fx, void *arg)
{
	u8 *model = malloc(2 * SIZE), *buf = malloc(2 * SIZE);
	struct work *w = arg;
	struct bcfs_ino ino[3];
	u64 rng = trand_seed(7), size = SIZE;

	for (u64 i = 0; i < SIZE; i++)
		model[i] = (u8)trand_u64(&rng);
	must(!fsx_open(fx), "open");
	for (unsigned i = 0; i < 3; i++)
		ino[i] = new_file(fx, (const char *[]){"a", "b", "fill"}[i]);
	must(bcfs_write(fx->c, ino[0], 0, model, SIZE, 0) == (s64)SIZE, "write");
	if (w->shared)
		must(bcfs_copy_range(fx->c, ino[0], 0, ino[1], 0, SIZE, 0) == (s64)SIZE, "copy");
	fill(fx, ino[2]);
	size = shift_until_full(fx, w, ino[0], model, size);
	look(fx, ino[0], model, size, buf);
	must(!fsx_close(fx), "close");
	must(!fsx_open(fx), "open");
	look(fx, ino[0], model, size, buf);
	must(!fsx_check(fx), "check");
	for (unsigned i = 0; i < 3; i++)
		must(!bcfs_unlink(fx->c, bcfs_root(fx->c), (const char *[]){"a", "b", "fill"}[i]),
		     "unlink");
	must(!bcfs_sync(fx->c), "sync");
	must(!fsx_check(fx), "check");
	must(!fsx_close(fx), "close");
	free(model);
	free(buf);
}

/* Where the file ends before the space does, again with another seed. */
static void run(struct work w)
{
	bool all_may_be_done = !w.insert && !w.shared;
	unsigned rounds = 0;

	do {
		struct fsx fx = {.node_bytes = 16384, .dev_bytes = 24 << 20};

		fsx_run(&fx, 0xf121 + rounds, shift_main, &w);
	} while (!w.refused && !all_may_be_done && ++rounds < 12);
	cr_assert(w.refused || all_may_be_done, "none refused");
}

Test(shift, on_full_collapse)
{
	run((struct work){0});
}

Test(shift, on_full_collapse_of_shared)
{
	run((struct work){.shared = true});
}

Test(shift, on_full_collapse_at_the_edge_of_shared)
{
	run((struct work){.shared = true, .edge = true});
}

Test(shift, on_full_insert)
{
	run((struct work){.insert = true});
}

Test(shift, on_full_insert_into_shared)
{
	run((struct work){.insert = true, .shared = true});
}
