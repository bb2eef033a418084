// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fs/inode.h"
#include "fs/table.h"

#include <string.h>

int fs_init(struct bcfs *c)
{
	int ret = fs_table_alloc(c);

	c->option_limit = RATELIMIT_DEFAULT;
	if (ret)
		fs_exit(c);
	return ret;
}

void fs_exit(struct bcfs *c)
{
	fs_table_free(c);
}

int fs_stop(struct bcfs *c)
{
	inode_unref_all(c);
	if (fs_may_write(c)) {
		inode_reap_flush(c);
		return 0;
	}
	return deleted_inodes_reap_all(c);
}

int fs_may_write(const struct bcfs *c)
{
	int error = atomic_load(&((struct bcfs *)c)->error);

	if (error == -BCFS_ERR_shutdown)
		return error;
	return c->fs_opts.read_only || error ? -BCFS_ERR_erofs : 0;
}

static int init_root_trans(struct btree_trans *trans, const struct bcfs_inode_unpacked *inode)
{
	struct inode_key_buf *buf = btree_trans_kmalloc(trans, sizeof(*buf));

	inode_pack(buf, inode);
	return btree_trans_insert(trans, BTREE_ID_inodes, &buf->k.k_i, 0);
}

int fs_init_root(struct bcfs *c, u32 mode, u32 uid, u32 gid)
{
	u64 now = fs_now(c);
	struct bcfs_inode_unpacked inode = {
		.inum = BCFS_ROOT_INO,
		.mode = S_IFDIR | (mode & 07777),
		.uid = uid,
		.gid = gid,
		.hash_seed = env_random_u64(c->env),
		.atime = now,
		.mtime = now,
		.ctime = now,
		.otime = now,
		.subvol = BCFS_ROOT_SUBVOL,
	};
	struct btree_trans *trans;
	int ret = subvol_snapshot(c->snapshots, BCFS_ROOT_SUBVOL, &inode.snapshot);

	if (ret)
		return ret;
	trans = btree_trans_get(c->btree);
	ret = commit_do(trans, NULL, 0, init_root_trans(trans, &inode));
	btree_trans_put(trans);
	return ret;
}
