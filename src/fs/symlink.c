// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Symbolic links. A target lies in the inode's extents, made by the transaction that
 * makes the inode: as inline data, in pieces of SYMLINK_PIECE bytes, each covering the
 * sectors it would take. It never changes and counts no sectors.
 */
#include "fs/namei.h"
#include "fs/table.h"

#include <string.h>

#define SYMLINK_PIECE (3 * SECTOR_SIZE)

u32 symlink_max(const struct bcfs *c)
{
	const u32 piece = BKEY_U64s + SYMLINK_PIECE / 8;
	/* Inline data and extents of the usual sizes have shorter keys. */
	u32 room = btree_leaf_always_u64s(c->btree, piece), rest = room % piece;
	u32 bytes = room / piece * SYMLINK_PIECE + (rest > BKEY_U64s ? (rest - BKEY_U64s) * 8 : 0);

	return min(bytes, SYMLINK_MAX_BYTES);
}

int symlink_write(struct btree_trans *trans, const struct bcfs_inode_unpacked *inode,
		  const char *target)
{
	size_t len = strlen(target);
	int ret = 0;

	for (size_t off = 0; off < len && !ret; off += SYMLINK_PIECE) {
		unsigned n = min_t(size_t, len - off, SYMLINK_PIECE);
		unsigned sectors = DIV_ROUND_UP(n, SECTOR_SIZE);
		struct bpos pos = SPOS(inode->inum, off / SECTOR_SIZE + sectors, inode->snapshot);
		struct bkey_i *k = btree_trans_alloc_key(trans, KEY_TYPE_inline_data, pos, n);

		k->k.size = sectors;
		memcpy(k->v, target + off, n);
		ret = btree_trans_insert(trans, BTREE_ID_extents, k, 0);
	}
	return ret;
}

static int readlink_trans(struct btree_trans *trans, struct bcfs_ino ino, char *buf, size_t size,
			  struct bcfs_inode_unpacked *inode)
{
	struct btree_iter iter, e_iter;
	struct bkey_s_c k;
	u64 done = 0;
	int ret = inode_peek(trans, &iter, ino, 0, inode);

	btree_iter_exit(&iter);
	if (ret)
		return ret;
	if (!S_ISLNK(inode->mode))
		return -BCFS_ERR_not_a_symlink;
	for_each_btree_key_in_trans(trans, e_iter, BTREE_ID_extents,
				    SPOS(ino.inum, 0, inode->snapshot),
				    SPOS(ino.inum, UINT64_MAX, inode->snapshot), 0, k, ret)
	{
		u64 n = min_t(u64, inode->size - done, SYMLINK_PIECE);

		if (done >= inode->size || k.k->type != KEY_TYPE_inline_data ||
		    bkey_start_offset(k.k) * SECTOR_SIZE != done)
			break;
		n = min_t(u64, n, bkey_val_bytes(k.k));
		if (done < size)
			memcpy(buf + done, k.v, min_t(u64, n, size - done));
		done += n;
	}
	btree_iter_exit(&e_iter);
	if (!ret && done != inode->size)
		ret = -BCFS_ERR_symlink_damaged;
	return ret;
}

int64_t bcfs_readlink(struct bcfs *c, struct bcfs_ino ino, char *buf, size_t size)
{
	struct bcfs_inode_unpacked inode;
	struct btree_trans *trans = btree_trans_get(c->btree);
	int ret = lockrestart_do(trans, readlink_trans(trans, ino, buf, size, &inode));

	btree_trans_put(trans);
	if (ret)
		return ret;
	inode_accessed(c, ino, &inode);
	return min_t(u64, inode.size, size);
}
