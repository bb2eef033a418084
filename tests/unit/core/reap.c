// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: what was removed goes for good, whatever it had, now or at the next opening: its space, its
 * names and attributes; and an entry of deleted_inodes that means nothing does no harm.
 * Method: inodes of each kind with more than fits one commit are removed, while they are in use or
 * not, with a crash in between or not; then the check, and the counters as they were at the start.
 */
#include "core/core.h"
#include "../fs/fixture.h"
#include "alloc/alloc.h"
#include "btree/btree.h"
#include "fs/table.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define XATTRS	 100	    /* several commits of them */
#define BIG	 (3U << 20) /* deleted by a thread of its own */
#define CHUNK	 (256U << 10)
#define NR_USAGE 3

static struct bcfs_cred root_cred;
static char chunk[CHUNK];

static void usage_now(struct fsx *fx, uint64_t u[NR_USAGE])
{
	struct alloc_usage v;

	alloc_usage(fx->c->alloc, &v);
	u[0] = v.counters[BCFS_ACCOUNTING_user];
	u[1] = v.counters[BCFS_ACCOUNTING_nr_inodes];
	u[2] = v.counters[BCFS_ACCOUNTING_nr_dirents];
}

static void is_as_before(struct fsx *fx, const uint64_t before[NR_USAGE])
{
	uint64_t now[NR_USAGE];

	usage_now(fx, now);
	for (unsigned i = 0; i < NR_USAGE; i++)
		must(now[i] == before[i], "counter %u: %llu, at first %llu", i,
		     (unsigned long long)now[i], (unsigned long long)before[i]);
	must(!fsx_check(fx), "check");
}

static struct bcfs_ino make(struct fsx *fx, const char *name, mode_t type)
{
	struct bcfs_stat st;
	int ret = type == S_IFDIR ? bcfs_mkdir(fx->c, bcfs_root(fx->c), name, 0755, &root_cred, &st)
		  : type == S_IFLNK
			  ? bcfs_symlink(fx->c, bcfs_root(fx->c), name, chunk, &root_cred, &st)
			  : bcfs_mknod(fx->c, bcfs_root(fx->c), name, type | 0644, 0, 0, &root_cred,
				       &st);

	must(!ret, "%s: %s", name, err_str(ret));
	return st.ino;
}

static void add_xattrs(struct fsx *fx, struct bcfs_ino ino)
{
	for (unsigned i = 0; i < XATTRS; i++) {
		char name[32];

		snprintf(name, sizeof(name), "user.number%u", i);
		must(!bcfs_setxattr(fx->c, ino, name, chunk, 40, 0), "setxattr");
	}
}

static struct bcfs_ino make_big(struct fsx *fx, const char *name)
{
	struct bcfs_ino ino = make(fx, name, S_IFREG);

	for (u64 at = 0; at < BIG; at += CHUNK)
		must(bcfs_write(fx->c, ino, at, chunk, CHUNK, 0) == CHUNK, "write");
	add_xattrs(fx, ino);
	return ino;
}

/* A directory whose names have been removed: what is left is how their hashes collided. */
static struct bcfs_ino make_dir(struct fsx *fx, const char *name)
{
	struct bcfs_ino ino = make(fx, name, S_IFDIR);

	for (unsigned i = 0; i < 200; i++) {
		struct bcfs_stat st;
		char n[16];

		snprintf(n, sizeof(n), "%u", i);
		must(!bcfs_mknod(fx->c, ino, n, S_IFREG, 0, 0, &root_cred, &st), "mknod");
		bcfs_forget(fx->c, st.ino, 1);
	}
	for (unsigned i = 0; i < 200; i++) {
		char n[16];

		snprintf(n, sizeof(n), "%u", i);
		must(!bcfs_unlink(fx->c, ino, n), "unlink");
	}
	add_xattrs(fx, ino);
	return ino;
}

static void remove_both(struct fsx *fx)
{
	must(!bcfs_unlink(fx->c, bcfs_root(fx->c), "big"), "unlink");
	must(!bcfs_unlink(fx->c, bcfs_root(fx->c), "link"), "unlink");
	must(!bcfs_rmdir(fx->c, bcfs_root(fx->c), "dir"), "rmdir");
}

static void marks(struct fsx *fx, struct bcfs_ino ino)
{
	struct btree_trans *trans = btree_trans_get(fx->c->btree);
	int ret = commit_do(trans, NULL, 0,
			    btree_trans_bit_mod(trans, BTREE_ID_deleted_inodes,
						POS(ino.subvol, ino.inum), true));

	btree_trans_put(trans);
	must(!ret, "%s", err_str(ret));
}

static void reap_main(struct fsx *fx, void *arg)
{
	struct bcfs_ino ino[3], kept;
	uint64_t before[NR_USAGE];
	struct bcfs_stat st;

	memset(chunk, 'c', 1000);
	fx->hash_bits = 6; /* names collide */
	must(!fsx_open(fx), "open");
	kept = make(fx, "kept", S_IFREG);
	usage_now(fx, before);

	/* not in use: at once, or by the thread */
	ino[0] = make_big(fx, "big");
	ino[1] = make_dir(fx, "dir");
	ino[2] = make(fx, "link", S_IFLNK);
	for (unsigned i = 0; i < 3; i++)
		bcfs_forget(fx->c, ino[i], 1);
	remove_both(fx);
	inode_reap_flush(fx->c);
	is_as_before(fx, before);

	/* in use: when it is let go */
	ino[0] = make_big(fx, "big");
	ino[1] = make_dir(fx, "dir");
	ino[2] = make(fx, "link", S_IFLNK);
	remove_both(fx);
	for (unsigned i = 0; i < 3; i++) {
		must(!bcfs_getattr(fx->c, ino[i], &st), "it is still in use");
		bcfs_forget(fx->c, ino[i], 1);
	}
	inode_reap_flush(fx->c);
	is_as_before(fx, before);

	/* in use when all ends: at the next opening; with entries that mean nothing */
	make_big(fx, "big");
	make_dir(fx, "dir");
	make(fx, "link", S_IFLNK);
	remove_both(fx);
	marks(fx, kept);
	marks(fx, (struct bcfs_ino){kept.subvol, 1ULL << 30});
	marks(fx, (struct bcfs_ino){77, 4097});
	must(!bcfs_sync(fx->c), "sync");
	fsx_abandon(fx);
	must(!fsx_open(fx), "open");
	is_as_before(fx, before);
	must(!bcfs_lookup(fx->c, bcfs_root(fx->c), "kept", &st), "an inode with a name is gone");
	bcfs_forget(fx->c, st.ino, 1);
	must(!fsx_close(fx), "close");
}

Test(reap, all)
{
	struct fsx fx = {.node_bytes = 16384};

	fsx_run(&fx, 0x4ea9, reap_main, NULL);
}
