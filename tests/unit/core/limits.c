// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: what bcfs(5) says about limits: inode numbers, links, sizes, times, and which times files
 * take that are append-only or immutable.
 * Method: a filesystem is brought to just below each limit (numbers and counts from inside, since
 * four thousand million links take long), goes on, closes, opens again.
 */
#include "core/core.h"
#include "../fs/fixture.h"
#include "btree/btree.h"
#include "fs/io.h"
#include "fs/table.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct bcfs_cred root_cred;

static struct bcfs_stat make(struct fsx *fx, const char *name)
{
	struct bcfs_stat st;
	int ret = bcfs_mknod(fx->c, bcfs_root(fx->c), name, S_IFREG | 0644, 0, 0, &root_cred, &st);

	must(!ret, "%s: %s", name, err_str(ret));
	return st;
}

static u64 make_nr(struct fsx *fx, unsigned nr)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", nr);
	return make(fx, name).ino.inum;
}

static void reopen(struct fsx *fx)
{
	must(!fsx_close(fx), "close");
	must(!fsx_open(fx), "open");
}

/* ---- inode numbers ---- */

static void run_numbers(struct fsx *fx, void *arg)
{
	u64 first, last;

	must(!fsx_open(fx), "open");
	first = make_nr(fx, 0);
	must(first >= BCFS_FIRST_INO, "%llu", (unsigned long long)first);

	/* Without the option they go on beyond 2^32. */
	fx->c->ino->inum_next = UINT32_MAX;
	must(make_nr(fx, 1) == UINT32_MAX, "at 2^32 - 1");
	must(make_nr(fx, 2) == 1ULL << 32, "2^32");

	/* With it new ones are below, and those that are there stay. */
	reopen(fx);
	fx->c->fs_opts.inodes_32bit = true;
	last = make_nr(fx, 3);
	must(last == first + 1, "%llu is not the least that is free", (unsigned long long)last);
	for (unsigned i = 4; i < 50; i++) {
		u64 nr = make_nr(fx, i);

		must(nr == last + 1, "%llu", (unsigned long long)nr);
		last = nr;
	}
	must(!fsx_check(fx), "check");

	/* At the very end, the same: from the bottom again, with a new generation. */
	reopen(fx);
	must(make_nr(fx, 50) == (1ULL << 32) + 1, "behind the last");
	fx->c->ino->inum_next = BCFS_INUM_MAX;
	must(make_nr(fx, 51) == BCFS_INUM_MAX, "2^40 - 1");
	struct bcfs_stat st = make(fx, "again"), before;
	must(st.ino.inum == last + 1, "%llu is not the least that is free",
	     (unsigned long long)st.ino.inum);
	must(!bcfs_lookup(fx->c, bcfs_root(fx->c), "51", &before), "lookup");
	must(st.generation != before.generation, "generation %u again", st.generation);
	reopen(fx);
	must(!fsx_check(fx), "check");
	must(!fsx_close(fx), "close");
}

Test(limits, inode_numbers)
{
	struct fsx fx = {0};

	fsx_run(&fx, 1, run_numbers, NULL);
}

/* ---- links ---- */

static int set_links(struct btree_trans *trans, struct bcfs_inode_unpacked *inode, void *arg)
{
	inode->nlink = *(const u32 *)arg;
	return 0;
}

static void run_links(struct fsx *fx, void *arg)
{
	/* Links beyond the first, so that two more can be made. */
	u32 beyond = UINT32_MAX - 4;
	struct bcfs_stat st, got;
	struct bcfs_ino root;

	must(!fsx_open(fx), "open");
	root = bcfs_root(fx->c);
	st = make(fx, "f");
	must(!inode_update(fx->c, st.ino, set_links, &beyond), "set");
	reopen(fx);
	must(!bcfs_lookup(fx->c, root, "f", &st), "lookup");
	must(st.nlink == UINT32_MAX - 3, "%u", st.nlink);

	must(!bcfs_link(fx->c, st.ino, root, "g", &got), "link");
	must(got.nlink == UINT32_MAX - 2, "%u", got.nlink);
	must(!bcfs_link(fx->c, st.ino, root, "h", &got), "link");
	must(got.nlink == UINT32_MAX - 1, "%u", got.nlink);
	must(bcfs_errno(bcfs_link(fx->c, st.ino, root, "i", &got)) == EMLINK, "one too many");
	must(bcfs_lookup(fx->c, root, "i", &got), "a name was left");
	must(!bcfs_unlink(fx->c, root, "g"), "unlink");
	must(!bcfs_link(fx->c, st.ino, root, "i", &got), "link");
	must(got.nlink == UINT32_MAX - 1, "%u", got.nlink);

	beyond = 2;
	must(!inode_update(fx->c, st.ino, set_links, &beyond), "set");
	must(!fsx_check(fx), "check");
	must(!fsx_close(fx), "close");
}

Test(limits, links)
{
	struct fsx fx = {0};

	fsx_run(&fx, 2, run_links, NULL);
}

/* ---- sizes ---- */

static void run_sizes(struct fsx *fx, void *arg)
{
	struct bcfs_stat st, set = {.size = FILE_SIZE_MAX}, got;
	char byte = 'x', back = 0;

	must(!fsx_open(fx), "open");
	st = make(fx, "f");
	must(bcfs_write(fx->c, st.ino, FILE_SIZE_MAX - 1, &byte, 1, 0) == 1, "last byte");
	must(bcfs_errno((int)bcfs_write(fx->c, st.ino, FILE_SIZE_MAX, &byte, 1, 0)) == EFBIG,
	     "behind the end of all");
	reopen(fx);
	must(!bcfs_getattr(fx->c, st.ino, &got), "getattr");
	must(got.size == FILE_SIZE_MAX && got.blocks <= 8, "%llu bytes, %llu blocks",
	     (unsigned long long)got.size, (unsigned long long)got.blocks);
	must(bcfs_read(fx->c, st.ino, FILE_SIZE_MAX - 1, &back, 1) == 1 && back == 'x', "read");
	set.size = FILE_SIZE_MAX + 1;
	must(bcfs_errno(bcfs_setattr(fx->c, st.ino, &set, BCFS_SET_SIZE, &got)) == EFBIG,
	     "too large");
	set.size = 0;
	must(!bcfs_setattr(fx->c, st.ino, &set, BCFS_SET_SIZE, &got), "truncate");
	set.size = FILE_SIZE_MAX;
	must(!bcfs_setattr(fx->c, st.ino, &set, BCFS_SET_SIZE, &got), "a hole of all");
	must(!fsx_check(fx), "check");
	must(!fsx_close(fx), "close");
}

Test(limits, sizes)
{
	struct fsx fx = {0};

	fsx_run(&fx, 3, run_sizes, NULL);
}

/* ---- times ---- */

#define YEAR_1901 -2147483648LL /* 1901-12-13 20:45:52 */
#define YEAR_2486 16299260424LL /* the last whole second that 2^64 ns from there hold */

static void run_times(struct fsx *fx, void *arg)
{
	static const struct bcfs_time times[] = {
		{YEAR_1901, 0}, {YEAR_1901, 1},		 {-1, 999999999},
		{0, 0},		{4294967296, 123456789}, {YEAR_2486, 0},
	};
	struct bcfs_stat st, got;

	must(!fsx_open(fx), "open");
	st = make(fx, "f");
	for (unsigned i = 0; i < ARRAY_SIZE(times); i++) {
		struct bcfs_stat set = {.atime = times[i], .mtime = times[i]};

		must(!bcfs_setattr(fx->c, st.ino, &set, BCFS_SET_ATIME | BCFS_SET_MTIME, &got),
		     "set %u", i);
		reopen(fx);
		must(!bcfs_getattr(fx->c, st.ino, &got), "getattr");
		must(got.atime.sec == times[i].sec && got.atime.nsec == times[i].nsec &&
			     got.mtime.sec == times[i].sec && got.mtime.nsec == times[i].nsec,
		     "%u: %lld.%09u", i, (long long)got.mtime.sec, got.mtime.nsec);
	}
	must(!fsx_close(fx), "close");
}

Test(limits, times)
{
	struct fsx fx = {0};

	fsx_run(&fx, 4, run_times, NULL);
}

/* ---- times of protected files ---- */

static int set_both(struct fsx *fx, struct bcfs_ino ino, int64_t mtime, int64_t ctime, u32 more)
{
	struct bcfs_stat set = {.mtime = {mtime, 5}, .ctime = {ctime, 5}}, got;

	return bcfs_setattr(fx->c, ino, &set, BCFS_SET_MTIME | BCFS_SET_CTIME | more, &got);
}

static int set_fl(struct fsx *fx, struct bcfs_ino ino, u32 flags)
{
	struct bcfs_stat set = {.flags = flags}, got;

	return bcfs_setattr(fx->c, ino, &set, BCFS_SET_FLAGS, &got);
}

static void run_protected(struct fsx *fx, void *arg)
{
	struct bcfs_stat st, got;

	must(!fsx_open(fx), "open");
	st = make(fx, "append");
	must(!set_fl(fx, st.ino, BCFS_FL_APPEND), "flag");
	must(set_both(fx, st.ino, 1000, 2000, BCFS_SET_KEPT) == -BCFS_ERR_append_only, "chosen");
	must(set_both(fx, st.ino, 2000, 2000, BCFS_SET_ATIME) == -BCFS_ERR_append_only, "atime");
	must(!set_both(fx, st.ino, 2000, 2000, BCFS_SET_KEPT), "of what was appended");
	must(!bcfs_getattr(fx->c, st.ino, &got) && got.mtime.sec == 2000 && got.ctime.sec == 2000,
	     "append: %lld", (long long)got.mtime.sec);

	/* What comes late: the ctime of the flag stays. */
	st = make(fx, "immutable");
	must(!set_fl(fx, st.ino, BCFS_FL_IMMUTABLE) && !bcfs_getattr(fx->c, st.ino, &st), "flag");
	must(set_both(fx, st.ino, 1000, 2000, BCFS_SET_KEPT) == -BCFS_ERR_immutable, "chosen");
	must(set_both(fx, st.ino, 1000, 1000, 0) == -BCFS_ERR_immutable, "not kept");
	must(set_both(fx, st.ino, st.ctime.sec + 1, st.ctime.sec + 1, BCFS_SET_KEPT) ==
		     -BCFS_ERR_immutable,
	     "of later");
	must(!set_both(fx, st.ino, st.ctime.sec - 1, st.ctime.sec - 1, BCFS_SET_KEPT), "of before");
	must(!bcfs_getattr(fx->c, st.ino, &got) && got.mtime.sec == st.ctime.sec - 1 &&
		     got.ctime.sec == st.ctime.sec && got.ctime.nsec == st.ctime.nsec,
	     "immutable: %lld %lld", (long long)got.mtime.sec, (long long)got.ctime.sec);

	must(!fsx_close(fx), "close");
}

Test(limits, protected_files)
{
	struct fsx fx = {0};

	fsx_run(&fx, 5, run_protected, NULL);
}
