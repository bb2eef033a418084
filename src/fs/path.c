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

/* Of @inode, whose own name is where its dir and dir_offset say. */
static int path_upwards(struct btree_trans *trans, struct bcfs_inode_unpacked *inode, u32 snapshot,
			char *buf, size_t size)
{
	char *at = buf + size - 1;
	int ret = 0;

	*at = 0;
	while (!ret && inode->inum != BCFS_ROOT_INO) {
		if (!inode->dir)
			return -BCFS_ERR_no_such_name;
		ret = name_in_front(trans, inode, snapshot, buf, &at)
			      ?: inode_get_snapshot(trans, inode->dir, snapshot, inode);
	}
	if (ret)
		return ret;
	if (!*at)
		*--at = '/';
	memmove(buf, at, (size_t)(buf + size - at));
	return 0;
}

static int path_step(struct btree_trans *trans, u64 inum, u32 snapshot, char *buf, size_t size,
		     bool *ret_others)
{
	struct bcfs_inode_unpacked inode;
	int ret = inode_get_snapshot(trans, inum, snapshot, &inode);

	if (ret)
		return ret;
	*ret_others = !inode_is_unlinked(&inode) && !S_ISDIR(inode.mode);
	return path_upwards(trans, &inode, snapshot, buf, size);
}

/* 1: that is a name of the inode. */
static int leads_to(struct bkey_s_c k, struct bcfs_inode_unpacked *inode)
{
	if (k.k->type != KEY_TYPE_dirent || bkey_s_c_to_dirent(k).v->target != inode->inum)
		return 0;
	inode->dir = k.k->p.inode;
	inode->dir_offset = k.k->p.offset;
	return 1;
}

/*
 * An inode knows its newest link alone. When that was removed and others are left they are looked
 * for among all there are: it is seldom, and somebody wants to know which file it is.
 */
static int path_by_search(struct btree_trans *trans, u64 inum, u32 snapshot, char *buf, size_t size)
{
	struct bcfs_inode_unpacked inode = {.inum = inum};
	int ret = for_each_btree_key (trans, iter, BTREE_ID_dirents, SPOS(0, 0, snapshot),
				      BTREE_ITER_PREFETCH, k, leads_to(k, &inode));

	if (ret < 0)
		return ret;
	return lockrestart_do(trans, ({
				      struct bcfs_inode_unpacked at = inode;

				      path_upwards(trans, &at, snapshot, buf, size);
			      }));
}

int fs_path(struct bcfs *c, u64 inum, u32 snapshot, char *buf, size_t size)
{
	struct btree_trans *trans = btree_trans_get(c->btree);
	bool others = false;
	int ret = lockrestart_do(trans, path_step(trans, inum, snapshot, buf, size, &others));

	if (ret == -BCFS_ERR_no_such_name && others)
		ret = path_by_search(trans, inum, snapshot, buf, size);
	btree_trans_put(trans);
	if (ret)
		*buf = 0;
	return ret;
}
