/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What fs/ keeps in memory about inodes: locks, lookup references, the cursor of new
 * numbers, the queue of what is to be reaped.
 *
 * Locks are a fixed table of reader/writer locks that inodes hash to; two inodes may share
 * one, so whoever locks two inodes does it in one call. Waiting writers go before new readers.
 * Not recursive, not taken inside a transaction.
 *
 * References count what the front end was told of and has not forgotten. An inode that has lost
 * its last link is reaped when its count falls to zero, at once if it is zero: small
 * ones by the thread that saw it, large ones by the reaper's.
 */
#ifndef BCFS_FS_TABLE_H
#define BCFS_FS_TABLE_H

#include "fs/fs.h"
#include "util/darray.h"

#define FS_LOCKS      1024U
#define FS_REF_SHARDS 64U
#define FS_REF_GROUP  16U

/* Reaped by the reaper's thread if it has more sectors than this. */
#define FS_REAP_INLINE 2048U

struct fs_rwlock {
	struct env_mutex lock;
	struct env_cond cond;
	u32 readers, writers_waiting; /* protected by lock */
	bool writer;
};

/* Of references: refs.c. All zero: empty. */
struct fs_ref_table {
	struct cds_lfht *ht; /* made with the first entry */
	unsigned long nr_buckets;
	u64 nr_groups; /* entries: of FS_REF_GROUP inodes */
	u64 nr;	       /* inodes that have references */
};

struct fs_ref_shard {
	struct env_mutex lock;
	struct fs_ref_table table; /* protected by lock */
};

struct fs_inodes {
	struct fs_rwlock locks[FS_LOCKS];
	struct fs_ref_shard refs[FS_REF_SHARDS];
	/* Held over renames between directories: what loop checks read stays true. */
	struct env_mutex rename_lock;
	struct env_workqueue *reaper;

	struct env_mutex inum_lock;
	/* Protected by inum_lock. */
	bool inum_ready;
	u64 inum_next;
	u32 generation;
};

/* Spreads what bcfs_ino_pack() makes over locks, shards and buckets; no two keys have the same. */
static inline u64 fs_hash(u64 key)
{
	key *= 0x9e3779b97f4a7c15ULL;
	return key ^ key >> 32;
}

int fs_table_alloc(struct bcfs *c);
void fs_table_free(struct bcfs *c);
/* The references alone (refs.c), from these two. */
void inode_refs_init(struct bcfs *c);
void inode_refs_exit(struct bcfs *c);

void inode_lock(struct bcfs *c, struct bcfs_ino ino);
void inode_unlock(struct bcfs *c, struct bcfs_ino ino);
void inode_lock_shared(struct bcfs *c, struct bcfs_ino ino);
void inode_unlock_shared(struct bcfs *c, struct bcfs_ino ino);
/* Both exclusive; they may be the same. */
void inode_lock2(struct bcfs *c, struct bcfs_ino a, struct bcfs_ino b);
void inode_unlock2(struct bcfs *c, struct bcfs_ino a, struct bcfs_ino b);

/* One more reference: 0 or -BCFS_ERR_nomem. */
int inode_ref(struct bcfs *c, struct bcfs_ino ino);
/* True if that was the last one and the inode is to be reaped. */
bool inode_unref(struct bcfs *c, struct bcfs_ino ino, u64 nr);
/*
 * The keys (bcfs_ino_pack()) of a shard's inodes, appended, in an order that depends on nothing but
 * which they are: 0 or -BCFS_ERR_nomem.
 */
int inode_refs_list(struct bcfs *c, unsigned shard, darray_u64 *ret);
/* The last link is gone (committed): true if nobody holds a reference, so that it is to be reaped.
 */
bool inode_unlinked(struct bcfs *c, struct bcfs_ino ino);
/* It has a link again. */
void inode_relinked(struct bcfs *c, struct bcfs_ino ino);
/* Drop them all; whoever calls it reaps. */
void inode_unref_all(struct bcfs *c);

/* References on their way from one opening of a filesystem to the next, in the same env. */
struct fs_refs {
	struct fs_ref_table tables[FS_REF_SHARDS];
};

/* Is an inode referenced that has no name any more? Looks at all. */
bool inode_refs_unlinked(struct bcfs *c);
/* Leaves none behind. */
void inode_refs_take(struct bcfs *c, struct fs_refs *ret);
/* Before the first other one. */
void inode_refs_put(struct bcfs *c, const struct fs_refs *refs);
/* Instead. */
void inode_refs_free(struct env *env, struct fs_refs *refs);

/* Delete an unlinked inode now, with all it has. No-op if it is linked or gone. */
int inode_reap(struct bcfs *c, struct bcfs_ino ino);
/*
 * The same, now, or soon if the inode has more than FS_REAP_INLINE sectors: @sectors, or 0 if that
 * is not known. Errors are logged.
 */
void inode_reap_soon(struct bcfs *c, struct bcfs_ino ino, u64 sectors);
/* Wait for what was put off. */
void inode_reap_flush(struct bcfs *c);

#endif
