// SPDX-License-Identifier: LGPL-2.1-or-later
/* A name for an inode, for messages: upwards by the inodes' backpointers. */
#include "fs/path.h"

#include "fs/dirent.h"
#include "fs/inode.h"

#include <string.h>

/* Copies the name of the entry that leads to @inode in front of *at, with a slash. */
static int name_in_front(struct btree_trans *trans, const struct bcfs_inode_unpacked *inode,
			 u32 snapshot, const char *start, char **at)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_dirents,
			SPOS(inode->dir, inode->dir_offset, snapshot), 0);
	k = btree_iter_peek_slot(&iter);
	ret = bkey_err(k);
	if (!ret &&
	    (k.k->type != KEY_TYPE_dirent || bkey_s_c_to_dirent(k).v->target != inode->inum))
		ret = -BCFS_ERR_no_such_name;
	if (!ret) {
		const struct bcfs_dirent *d = bkey_s_c_to_dirent(k).v;

		if ((size_t)(*at - start) < d->name_len + 1U)
			ret = -BCFS_ERR_name_too_long;
		else
			*at = memcpy(*at - d->name_len, d->name, d->name_len);
		if (!ret)
			*--*at = '/';
	}
	btree_iter_exit(&iter);
	return ret;
}

int fs_path_step(struct btree_trans *trans, u64 inum, u32 snapshot, char *buf, size_t size)
{
	struct bcfs_inode_unpacked inode;
	char *at = buf + size - 1;
	int ret;

	*at = 0;
	for (;;) {
		ret = inode_get_snapshot(trans, inum, snapshot, &inode);
		if (ret)
			return ret;
		if (inum == BCFS_ROOT_INO)
			break;
		if (!inode.dir)
			return -BCFS_ERR_no_such_name;
		ret = name_in_front(trans, &inode, snapshot, buf, &at);
		if (ret)
			return ret;
		inum = inode.dir;
	}
	if (!*at)
		*--at = '/';
	memmove(buf, at, (size_t)(buf + size - at));
	return 0;
}

int fs_path(struct bcfs *c, u64 inum, u32 snapshot, char *buf, size_t size)
{
	struct btree_trans *trans = btree_trans_get(c->btree);
	int ret = lockrestart_do(trans, fs_path_step(trans, inum, snapshot, buf, size));

	btree_trans_put(trans);
	if (ret)
		*buf = 0;
	return ret;
}
