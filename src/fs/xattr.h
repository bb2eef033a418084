/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Extended attributes as keys: {inum, hash place, snapshot}.
 *
 * A value longer than BCFS_XATTR_PIECE_MAX is cut into pieces, each a key with the name
 * and its own hash place, all changed in one transaction. The inode counts such
 * attributes (xattr_pieces), and its flags say what hot paths ask for: has_caps exactly when
 * security.capability is there, has_acl when an ACL was ever set.
 *
 * Hash input: type, name, and for piece n > 0 a NUL and n.
 */
#ifndef BCFS_FS_XATTR_H
#define BCFS_FS_XATTR_H

#include "fs/hash.h"

BKEY_VAL_TYPE(xattr, struct bcfs_xattr);

/* The longest piece with the longest name. */
#define XATTR_KEY_U64s_MAX                                                                         \
	(BKEY_U64s + DIV_ROUND_UP(sizeof(struct bcfs_xattr) + 255 + BCFS_XATTR_PIECE_MAX, 8))

/*
 * The longest value (bytes) of an attribute with a name of that length (without its prefix): it
 * depends on the sizes of nodes, blocks and journal alone. Such a value fits whatever is there
 * already; a longer one is refused, though it might fit: -BCFS_ERR_xattr_value_too_big. An ACL may
 * be half as long, since a new file may get two at once.
 */
u32 xattr_value_max(struct bcfs *c, u8 name_len);

/* A name without its prefix. */
struct xattr_name {
	u8 type; /* enum bcfs_xattr_type */
	u8 len;
	const char *name;
};

/* "user.x": -BCFS_ERR_xattr_name_invalid, _too_long. */
int xattr_name_parse(const char *full, struct xattr_name *ret);

/*
 * Steps of a transaction. @value NULL removes (0 also when it is not there, unless flags has
 * BCFS_XATTR_REPLACE). Changes @inode in place (pieces, flags); the caller writes it.
 */
int xattr_set_step(struct btree_trans *trans, struct bcfs_inode_unpacked *inode,
		   const struct xattr_name *name, const void *value, size_t size, u32 flags);
/* -BCFS_ERR_xattr_not_found, _buffer (*ret_size is right then too; @size 0 only asks). */
int xattr_get_step(struct btree_trans *trans, const struct bcfs_inode_unpacked *inode,
		   const struct xattr_name *name, void *value, size_t size, size_t *ret_size);

/* fsck: what of an attribute's keys counts as the attribute itself. */
static inline bool xattr_is_piece(const struct bcfs_xattr *x)
{
	return x->piece;
}
static inline u32 xattr_total(const struct bcfs_xattr *x)
{
	return x->total_len_lo | (u32)x->total_len_hi << 16;
}
static inline unsigned xattr_nr_pieces(u32 total)
{
	return total <= BCFS_XATTR_PIECE_MAX ? 1 : DIV_ROUND_UP(total, BCFS_XATTR_PIECE_MAX);
}
/* Find piece @piece: as hash_find(). */
int xattr_find(struct btree_trans *trans, struct btree_iter *iter,
	       const struct bcfs_inode_unpacked *inode, const struct xattr_name *name, u8 piece,
	       unsigned flags, struct bkey_s_c *ret_k, u64 *ret_free);

#endif
