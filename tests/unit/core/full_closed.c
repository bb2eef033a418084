// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: a device that is full of metadata, in small nodes of which several share a bucket, can be
 * closed, whatever is dirty (doc/adr/0032).
 * Method: it is filled until there is no space, by empty files, by hard links, by attributes, or
 * by small files; then names are removed, renamed and changed all over the tree, so that as many
 * nodes are dirty as the journal lets; it is closed, which must not fail; the power is cut; it is
 * opened, when nothing may be replayed (but for one that no closing can end) and the names are what
 * they were; the check; and all of that once more, now beginning with what was left; at last all is
 * removed. Nodes of four blocks and of eight, four to thirty-two to a bucket.
 */
#include "core/core.h"
#include "env/env_sim.h"
#include "../fs/fixture.h"
#include "../test_rand.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Of the simulation, for what waits without end; it takes 2 to 11 s. */
#define TIME_LIMIT_NS (3600 * ENV_NSEC_PER_SEC)

enum filling { BY_NAMES, BY_LINKS, BY_ATTRS, BY_DATA };

struct full {
	enum filling by;
	u32 block, node, nodes_per_bucket;
	u32 seed;
	bool replays; /* something is left to the journal at least once */
};

static struct bcfs_cred root_cred;

struct run {
	struct fsx *fx;
	const struct full *f;
	u64 rng;
	u32 end; /* names below it were made */
	struct bcfs_ino linked;
	u32 links; /* of it */
	bool replayed;
};

static void name_of(char buf[64], u32 i, bool other)
{
	snprintf(buf, 64, "%s-of-a-full-device-%08u", other ? "another" : "one", i);
}

static int fill_one(struct run *r, const char *name)
{
	struct bcfs *c = r->fx->c;
	static char bytes[700];
	struct bcfs_stat st;
	int ret;

	if (r->f->by == BY_LINKS && r->links && r->links < 2000) {
		ret = bcfs_link(c, r->linked, bcfs_root(c), name, &st);
		if (!ret) {
			bcfs_forget(c, st.ino, 1);
			r->links++;
		}
		return ret;
	}
	ret = bcfs_mknod(c, bcfs_root(c), name, S_IFREG | 0644, 0, 0, &root_cred, &st);
	if (ret)
		return ret;
	r->linked = st.ino;
	r->links = 1;
	memset(bytes, name[0], sizeof(bytes));
	for (unsigned k = 0; !ret && r->f->by == BY_ATTRS && k < 3; k++) {
		char attr[32];

		snprintf(attr, sizeof(attr), "user.attribute-%u", k);
		ret = bcfs_setxattr(c, st.ino, attr, bytes, 40 + 30 * k, 0);
	}
	if (r->f->by == BY_DATA) {
		s64 n = bcfs_write(c, st.ino, 0, bytes, 100 + trand_below(&r->rng, 600), 0);

		ret = n < 0 ? (int)n : 0;
	}
	bcfs_forget(c, st.ino, 1);
	return ret;
}

static void fill(struct run *r)
{
	char name[64];
	int ret;

	do {
		name_of(name, r->end, false);
		ret = fill_one(r, name);
		/* The name may be there, and what was to be in it is not. */
		r->end++;
	} while (!ret);
	must(err_to_errno(ret) == ENOSPC, "file %u: %s", r->end, err_str(ret));
}

/* Here and there one goes, one is called otherwise, one is changed. */
static void change(struct run *r, u32 nr)
{
	struct bcfs *c = r->fx->c;

	for (u32 n = 0; n < nr; n++) {
		struct bcfs_stat st, a = {.mode = 0600};
		u32 i = (u32)trand_below(&r->rng, r->end);
		bool other = trand_below(&r->rng, 2);
		char name[64], to[64];
		int ret;

		name_of(name, i, other);
		name_of(to, i, !other);
		ret = bcfs_lookup(c, bcfs_root(c), name, &st);
		if (err_to_errno(ret) == ENOENT)
			continue;
		must(!ret, "lookup %s: %s", name, err_str(ret));
		switch (trand_below(&r->rng, 4)) {
		case 0:
			ret = bcfs_unlink(c, bcfs_root(c), name);
			must(!ret, "unlink %s: %s", name, err_str(ret));
			break;
		case 1:
			ret = bcfs_setattr(c, st.ino, &a, BCFS_SET_MODE, &a);
			must(!ret || err_to_errno(ret) == ENOSPC, "chmod: %s", err_str(ret));
			break;
		default:
			ret = bcfs_rename(c, bcfs_root(c), name, bcfs_root(c), to, 0);
			must(!ret || err_to_errno(ret) == ENOSPC, "rename %s: %s", name,
			     err_str(ret));
		}
		bcfs_forget(c, st.ino, 1);
	}
}

static void remove_rest(struct run *r)
{
	for (u32 i = 0; i < 2 * r->end; i++) {
		char name[64];
		int ret;

		name_of(name, i / 2, i % 2);
		ret = bcfs_unlink(r->fx->c, bcfs_root(r->fx->c), name);
		must(!ret || err_to_errno(ret) == ENOENT, "unlink %s: %s", name, err_str(ret));
	}
}

/* Of which names there are, and what of. */
static u64 tree_sum(struct run *r)
{
	u64 sum = 0;

	for (u32 i = 0; i < 2 * r->end; i++) {
		struct bcfs_stat st;
		char name[64];
		int ret;

		name_of(name, i / 2, i % 2);
		ret = bcfs_lookup(r->fx->c, bcfs_root(r->fx->c), name, &st);
		must(!ret || err_to_errno(ret) == ENOENT, "lookup %s: %s", name, err_str(ret));
		sum = sum * 0x9e3779b97f4a7c15ULL + i;
		if (ret)
			continue;
		sum += st.ino.inum ^ (u64)st.mode << 32 ^ st.size << 8 ^ (u64)st.nlink << 50;
		bcfs_forget(r->fx->c, st.ino, 1);
	}
	return sum;
}

/* What was not flushed is gone. */
static void cut_power(struct fsx *fx)
{
	struct sim_image *img =
		sim_bdev_crash(fx->bdev, &(struct sim_crash){.rule = SIM_CRASH_NONE});
	struct sim_bdev_opts o = {.no_log = true};

	must(img, "no image");
	must(!sim_bdev_violations(fx->bdev), "%s", sim_bdev_first_violation(fx->bdev));
	bdev_close(fx->bdev);
	must(!sim_bdev_create_from(fx->env, "sim", &o, img, &fx->bdev), "no device");
	sim_image_free(img);
}

static void close_and_open(struct run *r)
{
	struct btree_counters count;
	u64 sum = tree_sum(r);
	int ret = fsx_close(r->fx);

	must(!ret, "close: %s", err_str(ret));
	cut_power(r->fx);
	must(!fsx_open(r->fx), "open");
	must(tree_sum(r) == sum, "the names are others");
	if (r->f->replays) {
		r->replayed |= !((struct core *)r->fx->core)->was_clean;
		return;
	}
	must(((struct core *)r->fx->core)->was_clean, "not closed cleanly");
	btree_counters(r->fx->c->btree, &count);
	must(!count.replayed_keys, "%llu keys replayed", (unsigned long long)count.replayed_keys);
}

static void full_main(struct fsx *fx, void *arg)
{
	struct run r = {.fx = fx, .f = arg, .rng = trand_seed(((const struct full *)arg)->seed)};

	env_sim_set_time_limit(fx->env, TIME_LIMIT_NS);
	must(!fsx_open(fx), "open");
	for (unsigned turn = 0; turn < trand_rounds(2); turn++) {
		fill(&r);
		change(&r, 3000);
		close_and_open(&r);
		must(!fsx_check(fx), "check");
	}
	change(&r, 300);
	close_and_open(&r);
	remove_rest(&r);
	close_and_open(&r);
	must(!fsx_check(fx), "check");
	must(!fsx_close(fx), "close");
	must(r.replayed == r.f->replays, "nothing was left to the journal");
}

/* Block and node in bytes, nodes to a bucket, device and journal in MiB. */
#define CLOSE_CASE(name, filling, blk, nod, per_bucket, dev, jrn, sd, replay)                      \
	Test(close, name)                                                                          \
	{                                                                                          \
		struct full f = {filling, blk, nod, per_bucket, sd, replay};                       \
		struct fsx fx = {.block_bytes = blk,                                               \
				 .node_bytes = nod,                                                \
				 .bucket_bytes = (nod) * (per_bucket),                             \
				 .journal_bytes = (jrn) << 20,                                     \
				 .dev_bytes = (dev) << 20};                                        \
                                                                                                   \
		fsx_run(&fx, 0xc105e + filling, full_main, &f);                                    \
	}
#define CLOSE_ONE(filling, blk, nod, per_bucket)                                                   \
	CLOSE_CASE(filling##_##nod##_of_##blk##_##per_bucket, filling, blk, nod, per_bucket, 12,   \
		   2, 0xc105e, false)
#define CLOSE_FILLED(blk, nod, per_bucket)                                                         \
	CLOSE_ONE(BY_NAMES, blk, nod, per_bucket)                                                  \
	CLOSE_ONE(BY_LINKS, blk, nod, per_bucket)                                                  \
	CLOSE_ONE(BY_ATTRS, blk, nod, per_bucket)                                                  \
	CLOSE_ONE(BY_DATA, blk, nod, per_bucket)

CLOSE_FILLED(4096, 16384, 4)
CLOSE_FILLED(4096, 16384, 16)
CLOSE_FILLED(2048, 16384, 4)
CLOSE_FILLED(2048, 16384, 16)
CLOSE_FILLED(4096, 32768, 4)
CLOSE_FILLED(2048, 8192, 16)
CLOSE_FILLED(2048, 8192, 32)
CLOSE_FILLED(1024, 8192, 16)
CLOSE_FILLED(512, 4096, 16)
CLOSE_FILLED(512, 4096, 32)

/* More dirty than free, though there is no want yet. */
CLOSE_CASE(much_is_dirty, BY_DATA, 4096, 16384, 2, 40, 2, 994766794, false)
/* A leaf of the backpointers that is its btree's root, and all but full. */
CLOSE_CASE(full_leaf, BY_NAMES, 4096, 16384, 16, 12, 2, 1025106750, false)
/* So much is dead that it would be compacted, unless all is being closed. */
CLOSE_CASE(much_is_dead, BY_NAMES, 2048, 8192, 8, 40, 2, 755574158, false)
/* A hundred leaves of the alloc btree, few places in each. */
CLOSE_CASE(alloc_leaves, BY_ATTRS, 512, 4096, 2, 24, 1, 778944422, false)
/* Each rewriting makes more than one other node need it, while more than 400 buckets are free. */
CLOSE_CASE(never_ends, BY_DATA, 2048, 8192, 2, 40, 1, 972799061, true)
