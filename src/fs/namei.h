/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shared by the name operations (namei.c, rename.c) and attributes (attr.c).
 */
#ifndef BCFS_FS_NAMEI_H
#define BCFS_FS_NAMEI_H

#include "fs/dirent.h"
#include "fs/xattr.h"

void inode_to_stat(const struct bcfs *c, u32 subvol, const struct bcfs_inode_unpacked *inode,
		   struct bcfs_stat *ret);

/* Peek a directory that will be changed: not_a_directory, dir_removed, immutable. */
int dir_peek(struct btree_trans *trans, struct btree_iter *iter, struct bcfs_ino dir,
	     unsigned flags, struct bcfs_inode_unpacked *ret);

/* An entry came to, or went from, @dir: size, nr_dirs, times. */
void dir_entry_added(struct bcfs_inode_unpacked *dir, const struct fs_name *name, bool is_dir,
		     u64 now);
void dir_entry_removed(struct bcfs_inode_unpacked *dir, const struct fs_name *name, bool is_dir,
		       u64 now);

/* After the commit that took a link: reap if it was the last and nobody holds the inode. */
void inode_link_gone(struct bcfs *c, u32 subvol, const struct bcfs_inode_unpacked *inode);

/* May the name of this inode be taken away: immutable, append_only. */
int inode_may_delete(const struct bcfs_inode_unpacked *dir,
		     const struct bcfs_inode_unpacked *inode);

/* May a name for @inode be put into @dir: cross_project. */
int inode_may_enter(const struct bcfs_inode_unpacked *dir, const struct bcfs_inode_unpacked *inode);

/* Relatime: note that the file was read, if that is due. Errors do not matter. */
void inode_accessed(struct bcfs *c, struct bcfs_ino ino, const struct bcfs_inode_unpacked *inode);

/*
 * Symbolic links: write the target of a new inode. It lies in the leaf of one transaction: in nodes
 * of 4 and 8 KiB less than SYMLINK_MAX_BYTES may be all that fits there whatever lies beside it.
 */
#define SYMLINK_MAX_BYTES 4095U
u32 symlink_max(const struct bcfs *c);
int symlink_write(struct btree_trans *trans, const struct bcfs_inode_unpacked *inode,
		  const char *target);

#endif
