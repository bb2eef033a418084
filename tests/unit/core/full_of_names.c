// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: a device that is filled by names alone is no dead end: all of them can be removed, and then
 * all space is there again.
 * Method: empty files are made until there is no space; attributes are changed, or not; a quarter
 * is renamed, and none of these is refused; it is closed and opened; all are removed, in another
 * order; the check; and the same once more, as many files. Nodes of a bucket, and several to a
 * bucket.
 */
#include "core/core.h"
#include "../fs/fixture.h"
#include "../test_rand.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static struct bcfs_cred root_cred;

static bool *moved;

static void name_of(char buf[40], u32 i, bool other)
{
	snprintf(buf, 40, "an-empty-%s-%08u", other ? "thing" : "file", i);
}

static u32 fill(struct fsx *fx)
{
	u32 n = 0;
	int ret;

	do {
		struct bcfs_stat st;
		char name[40];

		name_of(name, n, false);
		ret = bcfs_mknod(fx->c, bcfs_root(fx->c), name, S_IFREG | 0644, 0, 0, &root_cred,
				 &st);
		if (!ret) {
			bcfs_forget(fx->c, st.ino, 1);
			n++;
		}
	} while (!ret);
	must(err_to_errno(ret) == ENOSPC, "file %u: %s", n, err_str(ret));
	return n;
}

/* What takes little space, and may be refused; and what takes none. */
static void change_some(struct fsx *fx, u32 n, u64 *rng)
{
	for (u32 k = 0; k < min(n / 4, 2000U); k++) {
		u32 i = (u32)trand_below(rng, n);
		struct bcfs_stat st, a = {.mode = 0600};
		char name[40], to[40];
		int ret;

		name_of(name, i, moved[i]);
		name_of(to, i, !moved[i]);
		ret = bcfs_lookup(fx->c, bcfs_root(fx->c), name, &st);
		must(!ret, "lookup %s: %s", name, err_str(ret));
		ret = bcfs_setattr(fx->c, st.ino, &a, BCFS_SET_MODE, &st);
		must(!ret || err_to_errno(ret) == ENOSPC, "chmod %s: %s", name, err_str(ret));
		bcfs_forget(fx->c, st.ino, 1);
		ret = bcfs_rename(fx->c, bcfs_root(fx->c), name, bcfs_root(fx->c), to, 0);
		moved[i] ^= !ret;
		must(!ret, "rename %s, after %u: %s", name, k, err_str(ret));
	}
	must(!bcfs_sync(fx->c), "sync");
}

static void remove_all(struct fsx *fx, u32 n, u64 *rng)
{
	u32 *order = malloc(n * sizeof(*order));

	for (u32 i = 0; i < n; i++)
		order[i] = i;
	for (u32 i = n; i > 1; i--) {
		u32 j = (u32)trand_below(rng, i), t = order[i - 1];

		order[i - 1] = order[j];
		order[j] = t;
	}
	for (u32 i = 0; i < n; i++) {
		char name[40];

		name_of(name, order[i], moved[order[i]]);
		int ret = bcfs_unlink(fx->c, bcfs_root(fx->c), name);

		must(!ret, "unlink %u of %u: %s", i, n, err_str(ret));
	}
	free(order);
}

static void names_main(struct fsx *fx, void *arg)
{
	u64 rng = 77;
	u32 first = 0;

	must(!fsx_open(fx), "open");
	for (u32 turn = 0; turn < *(const unsigned *)arg; turn++) {
		u32 n = fill(fx);

		must(!turn || n > first / 10 * 9, "%u files, at first %u", n, first);
		first = n;
		moved = calloc(n, sizeof(*moved));
		change_some(fx, n, &rng);
		must(!fsx_close(fx), "close");
		must(!fsx_open(fx), "open");
		remove_all(fx, n, &rng);
		free(moved);
		must(!bcfs_sync(fx->c), "sync");
		must(!fsx_check(fx), "check");
	}
	must(!fsx_close(fx), "close");
}

Test(names, fill_and_remove)
{
	struct fsx fx = {.node_bytes = 16384, .dev_bytes = 6 << 20};
	unsigned turns = trand_rounds(2);

	fsx_run(&fx, 0xf111, names_main, &turns);
}

Test(names, large_nodes)
{
	struct fsx fx = {.node_bytes = 65536, .dev_bytes = 8 << 20};
	unsigned turns = 1;

	fsx_run(&fx, 0xf112, names_main, &turns);
}

/* Dead places beside live ones in every bucket: only moving nodes makes room. */
Test(names, eight_nodes_to_a_bucket)
{
	struct fsx fx = {.node_bytes = 16384,
			 .bucket_bytes = 128 << 10,
			 .dev_bytes = 12 << 20,
			 .cache_bytes = 1};
	unsigned turns = 1;

	fsx_run(&fx, 0xf113, names_main, &turns);
}
