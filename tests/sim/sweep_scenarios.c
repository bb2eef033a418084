// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What is done while something fails. Each is short, so that every k can be gone through, and
 * small enough in its geometry that nodes split, merge and are evicted, and the ring turns.
 */
#include "sweep.h"

#include "fs/xattr.h"

#include "../unit/test_rand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int unused(struct sweep *w)
{
	int n = 1;

	while (n < M_INOS - 1 && w->r.m.n[n].used)
		n++;
	return n;
}

/* The inode's number in the model, whether it was made or not. */
static int make(struct sweep *w, enum mop_type type, int dir, unsigned name)
{
	int n = unused(w);

	sweep_op(w, (struct mop){.type = type,
				 .ino = n,
				 .dir = dir,
				 .name = name,
				 .flags = 0755,
				 .len = 30 + name * 20,
				 .fill = name});
	return n;
}

static void write_at(struct sweep *w, int ino, u64 offset, u64 len)
{
	sweep_op(w, (struct mop){.type = MOP_WRITE,
				 .ino = ino,
				 .offset = offset,
				 .len = len,
				 .fill = offset * 31 + len + w->r.nr_ops});
}

static void name_op(struct sweep *w, enum mop_type type, int dir, unsigned name)
{
	sweep_op(w, (struct mop){.type = type, .ino = -1, .dir = dir, .name = name});
}

static void rename_op(struct sweep *w, int dir, unsigned name, int dir2, unsigned name2, u32 flags)
{
	sweep_op(w, (struct mop){.type = MOP_RENAME,
				 .ino = -1,
				 .dir = dir,
				 .name = name,
				 .dir2 = dir2,
				 .name2 = name2,
				 .flags = flags});
}

static void of_ino(struct sweep *w, enum mop_type type, int ino)
{
	sweep_op(w, (struct mop){.type = type, .ino = ino, .flags = 0700});
}

static void sync_all(struct sweep *w)
{
	of_ino(w, MOP_SYNC, -1);
}

/* ---- names ---- */

static void names(struct sweep *w)
{
	int d = make(w, MOP_MKDIR, 0, 0), e = make(w, MOP_MKDIR, 0, 1), a, b;

	a = make(w, MOP_CREATE, d, 2);
	b = make(w, MOP_CREATE, d, 3);
	make(w, MOP_SYMLINK, d, 4);
	of_ino(w, MOP_FSYNC, a);
	sweep_op(w, (struct mop){.type = MOP_LINK, .ino = a, .dir = e, .name = 5});
	rename_op(w, d, 3, e, 6, 0);
	rename_op(w, d, 2, e, 6, BCFS_RENAME_EXCHANGE);
	of_ino(w, MOP_FSYNC, b);
	rename_op(w, d, 4, d, 11, BCFS_RENAME_NOREPLACE);
	rename_op(w, e, 6, e, 5, 0);
	of_ino(w, MOP_CHMOD, a);
	rename_op(w, 0, 1, d, 7, 0);
	sync_all(w);
	name_op(w, MOP_UNLINK, e, 5);
	name_op(w, MOP_UNLINK, d, 2);
	of_ino(w, MOP_FORGET, a);
	of_ino(w, MOP_FORGET, b);
	name_op(w, MOP_RMDIR, d, 7);
	sync_all(w);
	sweep_read_all(w);
}

/* ---- data ---- */

static void data(struct sweep *w)
{
	int a = make(w, MOP_CREATE, 0, 0), b = make(w, MOP_CREATE, 0, 1);

	write_at(w, a, 0, 300);
	write_at(w, a, 300, 39000);
	of_ino(w, MOP_FSYNC, a);
	write_at(w, a, 5000, 700);   /* within an extent */
	write_at(w, a, 8192, 8192);  /* a whole one */
	write_at(w, b, 20000, 1000); /* behind the end */
	write_at(w, b, 30001, 3);    /* and again: the tail is zeroed */
	sync_all(w);
	sweep_read_all(w);
	write_at(w, a, 100, 38000);
	name_op(w, MOP_UNLINK, 0, 1);
	of_ino(w, MOP_FORGET, b);
	of_ino(w, MOP_FSYNC, a);
	sweep_read_all(w);
}

/* More than one batch of a write, and its copy; not in the model. */
static void large(struct sweep *w)
{
	const struct bcfs_cred cred = {0};
	struct bcfs *c = &w->r.core->fs;
	u32 len = 1300 << 10;
	u8 *buf = model_buf(len, 0), *is = model_buf(len, 0);
	struct bcfs_stat dir, a, b;
	s64 n;
	int ret;

	for (u32 i = 0; i < len; i++)
		buf[i] = (u8)(i / 511 + i);
	ret = bcfs_mkdir(c, bcfs_root(c), M_BULK_DIR, 0700, &cred, &dir);
	if (!ret)
		ret = bcfs_mknod(c, dir.ino, "a", S_IFREG | 0600, 0, 0, &cred, &a);
	if (!ret)
		ret = bcfs_mknod(c, dir.ino, "b", S_IFREG | 0600, 0, 0, &cred, &b);
	if (ret) {
		sweep_failed(w, "make", ret);
		goto out;
	}
	n = bcfs_write(c, a.ino, 77, buf, len, 0);
	if (n < 0)
		sweep_failed(w, "write", (int)n);
	sweep_check(w, n == len || n < 0 || w->k, "%lld of %u written", (long long)n, len);
	s64 copied = bcfs_copy_range(c, a.ino, 77, b.ino, 5, len, 0);
	if (copied < 0)
		sweep_failed(w, "copy", (int)copied);
	ret = bcfs_fsync(c, b.ino, 0);
	if (ret)
		sweep_failed(w, "fsync", ret);
	sweep_pause(w);
	s64 r = bcfs_read(c, a.ino, 77, is, len);
	sweep_check(w, n <= 0 || (r >= n && !memcmp(is, buf, (size_t)n)), "not what was written");
	r = bcfs_read(c, b.ino, 5, is, len);
	sweep_check(w, copied <= 0 || (r >= copied && !memcmp(is, buf, (size_t)copied)),
		    "not what was copied");
	sweep_unpause(w);
out:
	model_buf_free(buf);
	model_buf_free(is);
}

static void fallocate(struct sweep *w)
{
	static const u32 modes[] = {
		BCFS_FALLOC_KEEP_SIZE, 0, BCFS_FALLOC_PUNCH_HOLE | BCFS_FALLOC_KEEP_SIZE,
		BCFS_FALLOC_ZERO_RANGE, BCFS_FALLOC_ZERO_RANGE | BCFS_FALLOC_KEEP_SIZE};
	int a = make(w, MOP_CREATE, 0, 0);

	write_at(w, a, 0, 24000);
	of_ino(w, MOP_FSYNC, a);
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		sweep_op(w, (struct mop){.type = MOP_FALLOCATE,
					 .ino = a,
					 .flags = modes[i],
					 .offset = 3000 + i * 4000,
					 .len = 12000 + i * 777});
		write_at(w, a, 9000 + i * 1000, 600);
	}
	of_ino(w, MOP_FSYNC, a);
	sweep_read_all(w);
	for (u64 len = 36000; len > 3000; len /= 2) {
		sweep_op(w, (struct mop){.type = MOP_TRUNCATE, .ino = a, .len = len});
		sweep_op(w, (struct mop){.type = MOP_TRUNCATE, .ino = a, .len = len + 2000});
	}
	sync_all(w);
	sweep_op(w, (struct mop){.type = MOP_TRUNCATE, .ino = a});
	sweep_read_all(w);
}

/* In blocks. */
static void shift_op(struct sweep *w, int ino, u32 mode, u64 at, u64 len)
{
	sweep_op(w, (struct mop){.type = MOP_FALLOCATE,
				 .ino = ino,
				 .flags = mode,
				 .offset = at * w->r.cfg.block,
				 .len = len * w->r.cfg.block});
}

/* Ranges move; what cannot go on stays where it was, and nothing else can be done then. */
static void shift(struct sweep *w)
{
	int a = make(w, MOP_CREATE, 0, 0);

	for (u64 at = 0; at < 30000; at += 2000)
		write_at(w, a, at, 2000);
	/* There is something behind the end. */
	sweep_op(w, (struct mop){.type = MOP_TRUNCATE, .ino = a, .len = 29001});
	of_ino(w, MOP_FSYNC, a);
	for (u64 i = 0; i < 4; i++) {
		shift_op(w, a, BCFS_FALLOC_INSERT_RANGE, i, 2);
		shift_op(w, a, BCFS_FALLOC_COLLAPSE_RANGE, 1, 1 + i % 3);
		of_ino(w, MOP_CHMOD, a);
	}
	sync_all(w);
	sweep_read_all(w);
}

/* ---- attributes ---- */

static void xattrs(struct sweep *w)
{
	static const unsigned lens[] = {10, 1000, 0, 1900, 400};
	int a = make(w, MOP_CREATE, 0, 0), d = make(w, MOP_MKDIR, 0, 1);
	struct bcfs *c = &w->r.core->fs;
	u8 big[12000], is[12000];

	for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
		for (unsigned x = 0; x < M_XATTRS; x++)
			sweep_op(w, (struct mop){.type = MOP_SETXATTR,
						 .ino = x % 2 ? a : d,
						 .name = x,
						 .len = min(lens[i], w->r.cfg.node * 5 / 16),
						 .fill = i * 7 + x});
	}
	of_ino(w, MOP_FSYNC, a);
	/* In pieces; not in the model. */
	size_t had = 0;
	int had_fill = 0;
	for (unsigned i = 0; i < 3; i++) {
		struct bcfs_ino ino = {BCFS_ROOT_SUBVOL, w->r.m.n[a].inum};
		size_t len = (i ? 500 : 1) * w->r.cfg.node / 2048 * (i + 1);

		if (!w->r.m.n[a].used)
			break;
		memset(big, 'a' + (int)i, sizeof(big));
		int ret = bcfs_setxattr(c, ino, "user.pieces", big, len, 0);

		/* The old value stays. */
		if (ret == -BCFS_ERR_xattr_value_too_big &&
		    len > xattr_value_max(c, strlen("pieces"))) {
			len = had;
			memset(big, had_fill, sizeof(big));
		} else if (ret) {
			sweep_failed(w, "setxattr", ret);
			continue;
		}
		had = len;
		had_fill = big[0];
		if (!had)
			continue;
		sweep_pause(w);
		s64 n = bcfs_getxattr(c, ino, "user.pieces", is, sizeof(is));
		sweep_check(w, n == (s64)len && !memcmp(is, big, len), "not what was set: %lld",
			    (long long)n);
		sweep_unpause(w);
	}
	sweep_op(w, (struct mop){.type = MOP_REMOVEXATTR, .ino = a, .name = 1});
	sync_all(w);
	sweep_read_all(w);
}

/* ---- many ---- */

static void mixed(struct sweep *w)
{
	sweep_random_ops(w, 40);
}

static void syncs(struct sweep *w)
{
	for (unsigned i = 0; i < 10; i++) {
		int a = make(w, MOP_CREATE, 0, i);

		write_at(w, a, 0, 100 + i * 900);
		of_ino(w, MOP_FSYNC, a);
		if (i % 2)
			name_op(w, MOP_UNLINK, 0, i - 1);
		sync_all(w);
	}
}

/* Each node is written again and again, until the ring has turned. */
static void ring(struct sweep *w)
{
	int a = make(w, MOP_CREATE, 0, 0);

	for (unsigned i = 0; i < 60; i++) {
		write_at(w, a, i * 512 % 30000, 512);
		sweep_op(w, (struct mop){.type = MOP_SETXATTR,
					 .ino = a,
					 .name = i % 3,
					 .len = 1000,
					 .fill = i});
		if (i % 10 == 9)
			sync_all(w);
		env_sleep_ns(w->r.env, 30 * ENV_NSEC_PER_MSEC);
	}
}

/* Nodes split, then merge. */
static void nodes(struct sweep *w)
{
	int d[4], n;

	for (unsigned i = 0; i < ARRAY_SIZE(d); i++)
		d[i] = make(w, MOP_MKDIR, 0, i);
	for (unsigned i = 0; i < ARRAY_SIZE(d) * M_NAMES; i++) {
		n = make(w, MOP_CREATE, d[i % ARRAY_SIZE(d)], i / ARRAY_SIZE(d));
		sweep_op(w, (struct mop){.type = MOP_SETXATTR,
					 .ino = n,
					 .name = i % 3,
					 .len = 700 + i * 11,
					 .fill = i});
		if (i % 16 == 15)
			sync_all(w);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(d) * M_NAMES; i++) {
		struct model *m = &w->r.m;
		int dir = d[i % ARRAY_SIZE(d)];

		n = m->n[dir].used ? m->n[dir].ents[i / ARRAY_SIZE(d)] - 1 : -1;
		name_op(w, MOP_UNLINK, dir, i / ARRAY_SIZE(d));
		if (n > 0)
			of_ino(w, MOP_FORGET, n);
		if (i % 16 == 15)
			sync_all(w);
	}
	sweep_read_all(w);
}

static int count_entry(void *arg, const struct bcfs_dir_entry *e)
{
	++*(unsigned *)arg;
	return 0;
}

/* More nodes than the cache holds. */
static void read_bulk(struct sweep *w)
{
	struct bcfs *c = &w->r.core->fs;
	struct bcfs_stat dir, st;
	unsigned nr = 0;
	char name[32];
	u8 buf[1024];
	s64 n;
	int ret = bcfs_lookup(c, bcfs_root(c), M_BULK_DIR, &dir);

	if (ret) {
		sweep_failed(w, "lookup", ret);
		return;
	}
	ret = bcfs_readdir(c, dir.ino, 0, 0, count_entry, &nr);
	if (ret)
		sweep_failed(w, "readdir", ret);
	else
		sweep_check(w, nr == w->r.cfg.bulk + 2, "%u names, not %u", nr, w->r.cfg.bulk + 2);
	for (unsigned i = 3; i < w->r.cfg.bulk; i += 29) {
		snprintf(name, sizeof(name), "bulk-%u", i);
		ret = bcfs_lookup(c, dir.ino, name, &st);
		if (ret) {
			sweep_failed(w, "lookup", ret);
			continue;
		}
		n = bcfs_getxattr(c, st.ino, "user.bulk", buf, sizeof(buf));
		if (n < 0)
			sweep_failed(w, "getxattr", (int)n);
		else
			sweep_check(w, n >= 200 && buf[0] == (u8)i && buf[n - 1] == (u8)i,
				    "file %u has the attribute of another", i);
		bcfs_forget(c, st.ino, 1);
	}
	bcfs_forget(c, dir.ino, 1);
	sweep_read_all(w);
}

static void evict(struct sweep *w)
{
	read_bulk(w);
	sweep_random_ops(w, 12);
	if (!w->r.core->fs.error)
		sync_all(w);
	read_bulk(w);
}

/* ---- a nearly full device ---- */

static void full(struct sweep *w)
{
	int a[3];

	for (unsigned i = 0; i < 3; i++)
		a[i] = make(w, MOP_CREATE, 0, i);
	for (unsigned i = 0; i < 24; i++) {
		write_at(w, a[i % 3], i / 3 * 5000, 5000);
		if (i % 8 == 7)
			sync_all(w);
	}
	name_op(w, MOP_UNLINK, 0, 0);
	of_ino(w, MOP_FORGET, a[0]);
	sweep_op(w, (struct mop){.type = MOP_TRUNCATE, .ino = a[1], .len = 100});
	rename_op(w, 0, 1, 0, 7, 0);
	sync_all(w);
	write_at(w, a[2], 100, 20000);
	of_ino(w, MOP_FSYNC, a[2]);
	sweep_read_all(w);
}

/* ---- making, opening, closing, checking ---- */

static void mkfs_body(struct sweep *w)
{
	sweep_mkfs(w);
}

/* What was made is there; what was not can be made. */
static void mkfs_again(void *arg)
{
	struct sweep *w = arg;
	u64 k = w->k;

	w->k = 0;
	if (w->ret)
		sweep_mkfs(w);
	if (!sweep_open(w, false, false)) {
		sweep_op(w, (struct mop){.type = MOP_CREATE, .ino = 1, .flags = 0600});
		sweep_op(w, (struct mop){.type = MOP_SYNC, .ino = -1});
		sweep_read_all(w);
		sweep_close(w);
	}
	w->k = k;
}

static void mkfs_verify(struct sweep *w)
{
	sweep_check(w, !w->ret || w->sh->this_struck, "mkfs failed with no fault");
	sim_run_add_state(&w->r, 0);
	sim_run_add_floor(&w->r, 0);
	sim_bdev_forget_lives(w->r.bdev); /* the second mkfs writes over the first */
	w->r.first_pos = sim_bdev_log_len(w->r.bdev);
	int ret = env_sim_run(w->r.env, mkfs_again, w);
	sweep_check(w, !ret, "the simulation ended with %s", err_str(ret));
	sweep_check(w, !w->ret, "after all it cannot be closed: %s", err_str(w->ret));
	w->r.first_pos = sim_bdev_log_len(w->r.bdev);
	sweep_crashes(w);
}

/* Something is changed, and made durable. */
static void change(struct sweep *w)
{
	const struct bcfs_cred cred = {0};
	struct bcfs *c = &w->r.core->fs;
	u64 begin = sim_bdev_log_len(w->r.bdev);
	struct bcfs_stat st;
	char *before = sweep_text(w), *after;
	int ret = bcfs_mkdir(c, bcfs_root(c), "changed", 0700, &cred, &st);

	if (ret)
		sweep_failed(w, "mkdir", ret);
	after = sweep_text(w);
	sweep_check(w, !ret == !!strcmp(before, after), "mkdir (%s) has changed:\n%s\nto:\n%s",
		    err_str(ret), before, after);
	free(before);
	free(after);
	if (ret)
		return;
	sweep_add_tree(w, begin);
	ret = bcfs_sync(c);
	if (ret)
		sweep_failed(w, "sync", ret);
	else
		sim_run_add_floor(&w->r, w->r.nr_states - 1);
}

static void open_body(struct sweep *w)
{
	if (sweep_open(w, false, false))
		return;
	sweep_read_all(w);
	make(w, MOP_MKDIR, 0, M_NAMES - 2);
	sync_all(w);
}

static void recover_body(struct sweep *w)
{
	if (sweep_open(w, false, false))
		return;
	char *is = sweep_text(w);

	sweep_check(w, !strcmp(is, w->base_text), "recovered:\n%s\nbut without a fault:\n%s", is,
		    w->base_text);
	free(is);
	change(w);
}

static void close_body(struct sweep *w)
{
	sweep_pause(w);
	sweep_random_ops(w, 10);
	sweep_unpause(w);
	sweep_close(w);
}

static void untouched(struct sweep *w)
{
	sweep_check(w,
		    !sim_bdev_log_len(w->r.bdev) || sim_bdev_log_len(w->r.bdev) == w->r.first_pos,
		    "the device was written to");
}

static void read_only_body(struct sweep *w)
{
	int err;

	if (sweep_open(w, true, false))
		return;
	/* What is shown then may be old, as is said: it may be looked at, and no more. */
	bool told = w->r.core->journal_damage[0];
	char *is = fs_text(&w->r.core->fs, &err);

	if (err)
		sweep_failed(w, "reading the tree", err);
	else
		sweep_check(w, told || !strcmp(is, w->base_text),
			    "read:\n%s\nbut without a fault:\n%s", is, w->base_text);
	free(is);
	is = sweep_text(w);
	sweep_check(w, told || !strcmp(is, w->base_text), "at last:\n%s\nbut without a fault:\n%s",
		    is, w->base_text);
	free(is);
	core_abort(w->r.core);
	w->r.core = NULL;
	untouched(w);
}

static void on_report(void *arg, enum bcfs_check_level level, const char *pass, const char *text)
{
	char *first = arg;

	if (!first[0])
		snprintf(first, 512, "%s: %s", pass, text);
}

static void check_body(struct sweep *w)
{
	char first[512] = "";
	struct bcfs_check_opts o = {.struct_size = sizeof(o), .report = on_report, .arg = first};
	struct bcfs_check_result res = {0};
	int ret;

	if (sweep_open(w, true, true))
		return;
	core_quiesce(w->r.core);
	ret = core_check(w->r.core, &o, &res);
	if (ret)
		sweep_failed(w, "check", ret);
	/* What cannot be read is damage; what there is no memory for is not. */
	if (res.errors)
		sweep_check(w, w->armed && w->kind != SWEEP_ALLOC, "the check finds errors: %s",
			    first);
	sweep_disarm(w);
	core_abort(w->r.core);
	w->r.core = NULL;
	untouched(w);
}

/* ---- geometries ---- */

static void with_bulk(struct sim_cfg *c)
{
	c->bulk = 300;
	c->block = 512;
	c->node = 4096;
	c->bucket = 16384;
	c->journal = sim_small_journal_bytes(c->block, c->bucket);
	c->dev_bytes = 12ULL << 20;
}

static void nearly_full(struct sim_cfg *c)
{
	c->ballast = true;
	c->bucket = max(c->node, 8192U);
	c->journal = sim_small_journal_bytes(c->block, c->bucket);
	c->dev_bytes = (1472ULL << 10) + c->journal;
}

static void small_nodes(struct sim_cfg *c)
{
	c->block = 512;
	c->node = 4096;
	c->bucket = 16384;
	c->journal = sim_small_journal_bytes(c->block, c->bucket);
}

#define NO_WRITES ((1U << SWEEP_WRITE) | (1U << SWEEP_TORN) | (1U << SWEEP_FLUSH))

const struct scenario sweep_scenarios[] = {
	{"mkfs", FROM_NOTHING, mkfs_body, .verify = mkfs_verify, .may_fail = true},
	{"open", FROM_CLOSED, open_body, .random = 60, .may_fail = true},
	{"recover", FROM_CRASH, recover_body, .random = 60, .may_fail = true},
	{"recover-full", FROM_CRASH, recover_body, .random = 60, .may_fail = true,
	 .geometry = nearly_full},
	{"names", FROM_OPEN, names, .random = 20},
	{"data", FROM_OPEN, data, .random = 20},
	{"large", FROM_OPEN, large},
	{"fallocate", FROM_OPEN, fallocate, .random = 20},
	{"xattrs", FROM_OPEN, xattrs, .random = 20},
	{"mixed", FROM_OPEN, mixed, .random = 40},
	{"mixed-continue", FROM_OPEN, mixed, .random = 40, .on_error = BCFS_ON_ERROR_CONTINUE},
	{"syncs", FROM_OPEN, syncs, .random = 10},
	{"ring", FROM_OPEN, ring, .geometry = small_nodes},
	{"nodes", FROM_OPEN, nodes, .geometry = small_nodes},
	{"read", FROM_OPEN, read_bulk, .random = 20, .geometry = with_bulk},
	{"evict", FROM_OPEN, evict, .random = 20, .geometry = with_bulk},
	{"evict-panic", FROM_OPEN, evict, .random = 20, .geometry = with_bulk,
	 .on_error = BCFS_ON_ERROR_PANIC},
	{"full", FROM_OPEN, full, .random = 20, .geometry = nearly_full},
	{"close", FROM_OPEN, close_body, .random = 40, .may_fail = true},
	{"read-only", FROM_CRASH, read_only_body, .random = 60, .kinds = NO_WRITES},
	{"check", FROM_CRASH, check_body, .random = 60, .kinds = NO_WRITES},
	{"shift", FROM_OPEN, shift, .geometry = small_nodes},
	{NULL},
};
