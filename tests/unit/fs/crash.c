// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: after a crash at any moment the tree is exactly what it was after one of the operations,
 * not before the last fsync or sync that returned, and the checkers find it clean.
 * Method: random operations, each one transaction, with a fsync now and then; after each the tree
 * is hashed. Then crashes at many positions of the device's log, with all rules of what survives:
 * the filesystem is opened, checked, and its tree hashed.
 */
#include "names_model.h"

#include <criterion/criterion.h>

#define OPS 150

struct crash {
	struct model m;
	u64 hash[OPS + 1];	  /* after so many operations */
	u64 log_pos[OPS + 1];	  /* of the device when it had returned */
	unsigned synced[OPS + 1]; /* operations known durable then */
	unsigned found;		  /* the prefix a crash led to */
	u64 pos;
	char rule[32];
};

/* ---- the tree as a number ---- */

static void mix(u64 *h, u64 v)
{
	*h = (*h ^ v) * 0x9e3779b97f4a7c15ULL;
	*h ^= *h >> 29;
}

static void mix_bytes(u64 *h, const void *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		mix(h, ((const u8 *)p)[i]);
}

struct tree_hash {
	struct bcfs *c;
	u64 h;
	struct bcfs_ino list[NODES * NAMES];
	unsigned nr;
};

static int hash_entry(void *arg, const struct bcfs_dir_entry *e)
{
	struct tree_hash *t = arg;

	if (e->name[0] == '.')
		return 0;
	mix_bytes(&t->h, e->name, e->name_len);
	mix(&t->h, e->ino.inum);
	if (t->nr < ARRAY_SIZE(t->list))
		t->list[t->nr++] = e->ino;
	return 0;
}

static void hash_inode(struct tree_hash *t, struct bcfs_ino ino)
{
	char list[256];
	u8 *buf = malloc(BCFS_XATTR_SIZE_MAX + FILE_MAX_);
	struct bcfs_stat st;
	s64 n;

	must(!bcfs_getattr(t->c, ino, &st), "getattr");
	mix(&t->h, st.mode);
	mix(&t->h, st.nlink);
	mix(&t->h, st.uid);
	mix(&t->h, st.size);
	mix(&t->h, st.generation);
	mix(&t->h, st.mtime.sec * 1000000007ULL + st.mtime.nsec);
	mix(&t->h, st.ctime.sec * 1000000007ULL + st.ctime.nsec);
	if (S_ISREG(st.mode)) {
		n = bcfs_read(t->c, ino, 0, buf, FILE_MAX_);
		must(n == (s64)st.size, "read: %lld", (long long)n);
		mix_bytes(&t->h, buf, n);
	}
	n = bcfs_listxattr(t->c, ino, list, sizeof(list));
	must(n >= 0, "listxattr");
	for (s64 i = 0; i < n; i += strlen(list + i) + 1) {
		s64 len = bcfs_getxattr(t->c, ino, list + i, buf, BCFS_XATTR_SIZE_MAX);

		must(len >= 0, "getxattr");
		mix_bytes(&t->h, list + i, strlen(list + i));
		mix_bytes(&t->h, buf, len);
	}
	if (S_ISDIR(st.mode))
		must(!bcfs_readdir(t->c, ino, 0, 0, hash_entry, t), "readdir");
	free(buf);
}

static u64 tree_hash(struct bcfs *c)
{
	struct tree_hash *t = calloc(1, sizeof(*t));
	u64 h;

	t->c = c;
	t->h = 1;
	t->list[t->nr++] = bcfs_root(c);
	for (unsigned i = 0; i < t->nr; i++)
		hash_inode(t, t->list[i]);
	h = t->h;
	free(t);
	return h;
}

/* ---- the run ---- */

static void crash_main(struct fsx *fx, void *arg)
{
	struct crash *cr = arg;
	struct model *m = &cr->m;

	expect(m, fsx_open(fx), 0, "open");
	model_init(m, fx);
	cr->hash[0] = tree_hash(m->c);
	cr->log_pos[0] = sim_bdev_log_len(fx->bdev);
	for (unsigned i = 1; i <= OPS; i++) {
		model_one_op(m);
		cr->hash[i] = tree_hash(m->c);
		cr->synced[i] = cr->synced[i - 1];
		if (trand_below(&m->rng, 12) == 0) {
			expect(m, bcfs_sync(m->c), 0, "sync");
			cr->synced[i] = i;
		}
		/* Some device time, so that noflush entries and node writes happen. */
		if (trand_below(&m->rng, 4) == 0)
			env_sleep_ns(fx->env, trand_below(&m->rng, 300) * ENV_NSEC_PER_MSEC);
		cr->log_pos[i] = sim_bdev_log_len(fx->bdev);
	}
	fsx_abandon(fx);
}

static void recover_main(struct fsx *fx, void *arg)
{
	struct crash *cr = arg;
	struct model *m = &cr->m;
	unsigned least = 0;
	u64 h;

	expect(m, fsx_open(fx), 0, "open after the crash");
	check(m, !fsx_check(fx), "fsck after a crash at %llu, %s", (unsigned long long)cr->pos,
	      cr->rule);
	h = tree_hash(fx->c);
	for (unsigned i = 0; i <= OPS && cr->log_pos[i] <= cr->pos; i++)
		least = cr->synced[i];
	cr->found = least;
	while (cr->found <= OPS && cr->hash[cr->found] != h)
		cr->found++;
	check(m, cr->found <= OPS,
	      "a crash at %llu, %s: not what it was after any operation from %u on",
	      (unsigned long long)cr->pos, cr->rule, least);
	expect(m, fsx_close(fx), 0, "close");
}

static void run(u64 seed, unsigned crashes)
{
	struct fsx *fx = calloc(1, sizeof(*fx));
	struct crash *cr = calloc(1, sizeof(*cr));
	u64 from, end, prefixes = 0, last = ~0ULL;

	cr->m.seed = cr->m.rng = trand_seed(seed);
	cr->m.xattr_max = 3000;
	cr->m.one_commit = true;
	fx->keep_bdev = true;
	fsx_run(fx, cr->m.seed, crash_main, cr);
	model_free(&cr->m);
	from = cr->log_pos[0];
	end = sim_bdev_log_len(fx->bdev);

	for (unsigned i = 0; i < crashes; i++) {
		struct sim_crash how = {.rule = i % SIM_CRASH_SUBSET,
					.seed = trand_u64(&cr->m.rng)};
		struct fsx *r = calloc(1, sizeof(*r));

		cr->pos = from + (end - from) * i / crashes;
		snprintf(cr->rule, sizeof(cr->rule), "%s", sim_crash_rule_name(how.rule));
		r->made = true;
		r->next_node = fx->next_node;
		r->image = sim_bdev_image_at(fx->bdev, cr->pos, &how);
		fsx_run(r, cr->m.seed + i, recover_main, cr);
		sim_image_free(r->image);
		free(r);
		prefixes += cr->found != last;
		last = cr->found;
	}
	cr_log_info("%u crashes, %llu states", crashes, (unsigned long long)prefixes);
	cr_assert_gt(prefixes, 10, "the crashes led to only a few states");
	fsx_free_bdev(fx);
	free(cr);
	free(fx);
}

Test(crash, prefix, .timeout = 280)
{
	run(1, 400);
}
