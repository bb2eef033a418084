// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fs/acl.h"
#include "fs/options.h"
#include "fs/table.h"
#include "fs/xattr.h"
#include "journal/journal.h"
#include "util/printbuf.h"

#include <string.h>

static const char *const xattr_prefix[] = {
#define x(name, nr, prefix) [nr] = prefix,
	BCFS_XATTR_TYPES(x)
#undef x
};

/* An ACL's prefix is the whole name. */
static bool type_is_acl(u8 type)
{
	return type == BCFS_XATTR_acl_access || type == BCFS_XATTR_acl_default;
}

int xattr_name_parse(const char *full, struct xattr_name *ret)
{
	size_t len = strnlen(full, 256);

	if (len > 255)
		return -BCFS_ERR_xattr_name_too_long;
	for (unsigned i = 0; i < ARRAY_SIZE(xattr_prefix); i++) {
		size_t plen = strlen(xattr_prefix[i]);

		if (strncmp(full, xattr_prefix[i], plen))
			continue;
		if (type_is_acl(i) && len > plen)
			break;
		if (!type_is_acl(i) && len == plen)
			return -BCFS_ERR_xattr_name_empty;
		*ret = (struct xattr_name){i, len - plen, full + plen};
		return 0;
	}
	return -BCFS_ERR_xattr_name_invalid;
}

struct xattr_match {
	const struct xattr_name *name;
	u8 piece;
};

static bool xattr_match(struct bkey_s_c k, const void *arg)
{
	const struct bcfs_xattr *x = bkey_s_c_to_xattr(k).v;
	const struct xattr_match *m = arg;

	return x->x_type == m->name->type && x->name_len == m->name->len && x->piece == m->piece &&
	       !memcmp(x->name, m->name->name, m->name->len);
}

static u64 xattr_hash(struct btree_trans *trans, const struct bcfs_inode_unpacked *inode,
		      const struct xattr_name *name, u8 piece)
{
	struct hash_key key = hash_key_init(btree_trans_ops_arg(trans), inode);
	u8 buf[258];
	size_t len = 0;

	buf[len++] = name->type;
	memcpy(buf + len, name->name, name->len);
	len += name->len;
	if (piece) {
		buf[len++] = 0;
		buf[len++] = piece;
	}
	return hash_name(&key, buf, len);
}

static struct hash_search xattr_search(struct btree_trans *trans,
				       const struct bcfs_inode_unpacked *inode,
				       const struct xattr_match *m)
{
	return (struct hash_search){
		.btree = BTREE_ID_xattrs,
		.type = KEY_TYPE_xattr,
		.inum = inode->inum,
		.snapshot = inode->snapshot,
		.hash = xattr_hash(trans, inode, m->name, m->piece),
		.match = xattr_match,
		.arg = m,
	};
}

int xattr_find(struct btree_trans *trans, struct btree_iter *iter,
	       const struct bcfs_inode_unpacked *inode, const struct xattr_name *name, u8 piece,
	       unsigned flags, struct bkey_s_c *ret_k, u64 *ret_free)
{
	struct xattr_match m = {name, piece};
	struct hash_search s = xattr_search(trans, inode, &m);

	return hash_find(trans, iter, &s, flags, ret_k, ret_free);
}

/* ---- steps ---- */

static int piece_delete(struct btree_trans *trans, const struct bcfs_inode_unpacked *inode,
			const struct xattr_name *name, u8 piece)
{
	struct xattr_match m = {name, piece};
	struct hash_search s = xattr_search(trans, inode, &m);
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret = hash_find(trans, &iter, &s, BTREE_ITER_INTENT, &k, NULL);

	if (!ret)
		ret = hash_delete(trans, &iter, &s);
	else if (ret == HASH_NOT_FOUND)
		ret = 0; /* fsck's business, no reason to refuse */
	btree_iter_exit(&iter);
	return ret;
}

static int piece_write(struct btree_trans *trans, const struct bcfs_inode_unpacked *inode,
		       const struct xattr_name *name, u8 piece, const void *value, u16 len,
		       u32 total)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	u64 pos = 0;
	int ret = xattr_find(trans, &iter, inode, name, piece, BTREE_ITER_INTENT, &k, &pos);

	if (!ret)
		pos = k.k->p.offset;
	btree_iter_exit(&iter);
	if (ret && ret != HASH_NOT_FOUND)
		return ret;

	struct bkey_i *new = btree_trans_alloc_key(trans, KEY_TYPE_xattr,
						   SPOS(inode->inum, pos, inode->snapshot),
						   sizeof(struct bcfs_xattr) + name->len + len);
	struct bcfs_xattr *x = &bkey_i_to_xattr(new)->v;

	x->x_type = name->type;
	x->name_len = name->len;
	x->val_len = len;
	x->total_len_lo = total;
	x->total_len_hi = total >> 16;
	x->piece = piece;
	memcpy(x->name, name->name, name->len);
	memcpy(x->name + name->len, value, len);
	return btree_trans_insert(trans, BTREE_ID_xattrs, new, 0);
}

/* How many pieces there are now; 0: no such attribute. */
static int old_pieces(struct btree_trans *trans, const struct bcfs_inode_unpacked *inode,
		      const struct xattr_name *name, unsigned *ret_nr)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret = xattr_find(trans, &iter, inode, name, 0, BTREE_ITER_INTENT, &k, NULL);

	*ret_nr = ret ? 0 : xattr_nr_pieces(xattr_total(bkey_s_c_to_xattr(k).v));
	btree_iter_exit(&iter);
	return ret == HASH_NOT_FOUND ? 0 : ret;
}

static bool name_is_caps(const struct xattr_name *name)
{
	return name->type == BCFS_XATTR_security && name->len == strlen("capability") &&
	       !memcmp(name->name, "capability", name->len);
}

int xattr_set_step(struct btree_trans *trans, struct bcfs_inode_unpacked *inode,
		   const struct xattr_name *name, const void *value, size_t size, u32 flags)
{
	unsigned nr_old = 0, nr_new = value ? xattr_nr_pieces(size) : 0;
	int ret = old_pieces(trans, inode, name, &nr_old);

	if (ret)
		return ret;
	if (nr_old && (flags & BCFS_XATTR_CREATE))
		return -BCFS_ERR_xattr_exists;
	if (!nr_old && (flags & BCFS_XATTR_REPLACE))
		return -BCFS_ERR_xattr_not_found;

	for (unsigned i = nr_new; i < nr_old && !ret; i++)
		ret = piece_delete(trans, inode, name, i);
	for (unsigned i = 0; i < nr_new && !ret; i++) {
		size_t off = (size_t)i * BCFS_XATTR_PIECE_MAX;

		ret = piece_write(trans, inode, name, i, (const u8 *)value + off,
				  min_t(size_t, size - off, BCFS_XATTR_PIECE_MAX), size);
	}
	if (ret)
		return ret;

	inode->xattr_pieces += nr_new > 1;
	inode->xattr_pieces -= nr_old > 1 && inode->xattr_pieces;
	if (value && type_is_acl(name->type))
		inode->flags |= BCFS_INODE_has_acl;
	if (name_is_caps(name))
		inode->flags = value ? inode->flags | BCFS_INODE_has_caps
				     : inode->flags & ~BCFS_INODE_has_caps;
	return 0;
}

static int piece_read(struct btree_trans *trans, const struct bcfs_inode_unpacked *inode,
		      const struct xattr_name *name, u8 piece, void *dst, size_t room,
		      size_t *ret_len, u32 *ret_total)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret = xattr_find(trans, &iter, inode, name, piece, 0, &k, NULL);

	if (ret == HASH_NOT_FOUND)
		ret = piece ? -BCFS_ERR_xattr_piece_missing : -BCFS_ERR_xattr_not_found;
	if (!ret) {
		const struct bcfs_xattr *x = bkey_s_c_to_xattr(k).v;

		*ret_len = x->val_len;
		*ret_total = xattr_total(x);
		if (x->val_len <= room)
			memcpy(dst, x->name + x->name_len, x->val_len);
	}
	btree_iter_exit(&iter);
	return ret;
}

int xattr_get_step(struct btree_trans *trans, const struct bcfs_inode_unpacked *inode,
		   const struct xattr_name *name, void *value, size_t size, size_t *ret_size)
{
	size_t len = 0, done = 0;
	u32 total = 0, first_total;
	int ret = piece_read(trans, inode, name, 0, value, size, &len, &first_total);

	if (ret)
		return ret;
	*ret_size = first_total;
	if (first_total > size)
		return size ? -BCFS_ERR_xattr_buffer : 0;

	for (unsigned i = 1; (done += len) < first_total; i++) {
		ret = piece_read(trans, inode, name, i, (u8 *)value + done, size - done, &len,
				 &total);
		if (ret)
			return ret;
		if (!len || total != first_total || len > first_total - done)
			return -BCFS_ERR_xattr_piece_missing;
	}
	return 0;
}

/* ---- operations ---- */

static int getxattr_trans(struct btree_trans *trans, struct bcfs_ino ino,
			  const struct xattr_name *name, void *value, size_t size, size_t *ret_size)
{
	struct bcfs_inode_unpacked inode;
	struct btree_iter iter;
	int ret = inode_peek(trans, &iter, ino, 0, &inode)
			  ?: xattr_get_step(trans, &inode, name, value, size, ret_size);

	btree_iter_exit(&iter);
	return ret;
}

int64_t bcfs_getxattr(struct bcfs *c, struct bcfs_ino ino, const char *name, void *value,
		      size_t size)
{
	struct btree_trans *trans;
	struct xattr_name n;
	size_t len = 0;
	int ret;

	if (inode_option_is(name))
		return inode_option_get(c, ino, name, value, size);
	ret = xattr_name_parse(name, &n);
	if (ret)
		return ret;
	inode_lock_shared(c, ino);
	trans = btree_trans_get(c->btree);
	ret = lockrestart_do(trans, getxattr_trans(trans, ino, &n, value, size, &len));
	btree_trans_put(trans);
	inode_unlock_shared(c, ino);
	return ret ?: (int64_t)len;
}

static int listxattr_trans(struct btree_trans *trans, struct bcfs_ino ino, char *list, size_t size,
			   size_t *ret_len)
{
	struct bcfs_inode_unpacked inode;
	struct btree_iter iter, x_iter;
	struct bkey_s_c k;
	size_t len = 0;
	int ret = inode_peek(trans, &iter, ino, 0, &inode);

	btree_iter_exit(&iter);
	if (ret)
		return ret;
	len = inode_option_list(&inode, list, size);
	for_each_btree_key_in_trans(trans, x_iter, BTREE_ID_xattrs,
				    SPOS(ino.inum, 0, inode.snapshot),
				    SPOS(ino.inum, UINT64_MAX, inode.snapshot), 0, k, ret)
	{
		if (k.k->type != KEY_TYPE_xattr)
			continue;
		const struct bcfs_xattr *x = bkey_s_c_to_xattr(k).v;
		const char *prefix = xattr_prefix[x->x_type];
		size_t plen = strlen(prefix), n = plen + x->name_len + 1;

		if (x->piece)
			continue;
		if (len + n <= size) {
			memcpy(list + len, prefix, plen);
			memcpy(list + len + plen, x->name, x->name_len);
			list[len + n - 1] = 0;
		}
		len += n;
	}
	btree_iter_exit(&x_iter);
	*ret_len = len;
	return ret;
}

int64_t bcfs_listxattr(struct bcfs *c, struct bcfs_ino ino, char *list, size_t size)
{
	struct btree_trans *trans = btree_trans_get(c->btree);
	size_t len = 0;
	int ret;

	inode_lock_shared(c, ino);
	ret = lockrestart_do(trans, listxattr_trans(trans, ino, list, size, &len));
	btree_trans_put(trans);
	inode_unlock_shared(c, ino);
	if (!ret && size && len > size)
		ret = -BCFS_ERR_xattr_buffer;
	return ret ?: (int64_t)len;
}

u32 xattr_value_max(struct bcfs *c, u8 name_len)
{
	/* A key's entry in the journal has a header; and with the pieces goes the inode. */
	const u32 jset = 2, journal = journal_res_max_u64s(c->journal) - BKEY_VAL_U64s_MAX;
	u32 room = min(btree_leaf_always_u64s(c->btree, XATTR_KEY_U64s_MAX), journal);
	u32 key_bytes = sizeof(struct bcfs_xattr) + name_len;
	u32 piece = jset + BKEY_U64s + DIV_ROUND_UP(key_bytes + BCFS_XATTR_PIECE_MAX, 8U);
	u32 bytes = room / piece * BCFS_XATTR_PIECE_MAX;
	u32 last = room % piece * 8, least = (jset + BKEY_U64s) * 8 + key_bytes;

	bytes += last > least ? last - least : 0;
	return min(bytes, BCFS_XATTR_SIZE_MAX);
}

struct setxattr_args {
	struct bcfs_ino ino;
	const struct xattr_name *name;
	const void *value; /* NULL: remove */
	size_t size;
	u32 flags;
	u64 now;
};

static int setxattr_step(struct btree_trans *trans, struct bcfs_inode_unpacked *inode, void *arg)
{
	const struct setxattr_args *a = arg;
	const void *value = a->value;
	u32 flags = a->flags;

	if (inode->flags & BCFS_INODE_immutable)
		return -BCFS_ERR_immutable;
	if (inode->flags & BCFS_INODE_append)
		return -BCFS_ERR_append_only;
	if (value && a->name->type == BCFS_XATTR_acl_default && !S_ISDIR(inode->mode))
		return -BCFS_ERR_acl_no_dir;
	if (value && a->name->type == BCFS_XATTR_acl_access) {
		if (acl_to_mode(value, a->size, &inode->mode)) {
			value = NULL;
			flags &= ~BCFS_XATTR_REPLACE;
		}
		if (flags & BCFS_XATTR_KILL_SGID)
			inode->mode &= ~S_ISGID;
	}
	inode->ctime = a->now;
	return xattr_set_step(trans, inode, a->name, value, a->size, flags);
}

static int setxattr(struct bcfs *c, struct setxattr_args *a)
{
	int ret = fs_may_write(c);

	if (ret)
		return ret;
	a->now = fs_now(c);
	inode_lock(c, a->ino);
	ret = inode_update_flags(c, a->ino, a->value ? 0 : BTREE_COMMIT_REMOVES, setxattr_step, a);
	inode_unlock(c, a->ino);
	return ret;
}

int bcfs_setxattr(struct bcfs *c, struct bcfs_ino ino, const char *name, const void *value,
		  size_t size, uint32_t flags)
{
	struct xattr_name n;
	struct setxattr_args a = {
		.ino = ino, .name = &n, .value = value ?: "", .size = size, .flags = flags};
	int ret;

	if ((flags & BCFS_XATTR_CREATE) && (flags & BCFS_XATTR_REPLACE))
		return -BCFS_ERR_xattr_flags;
	if (inode_option_is(name))
		return inode_option_set(c, ino, name, a.value, size, flags);
	ret = xattr_name_parse(name, &n);
	if (ret)
		return ret;
	if (size > xattr_value_max(c, n.len) / (type_is_acl(n.type) ? 2 : 1))
		return -BCFS_ERR_xattr_value_too_big;
	if (type_is_acl(n.type))
		ret = acl_check(a.value, size);
	return ret ?: setxattr(c, &a);
}

int bcfs_removexattr(struct bcfs *c, struct bcfs_ino ino, const char *name)
{
	struct xattr_name n;
	struct setxattr_args a = {.ino = ino, .name = &n};
	int ret;

	if (inode_option_is(name))
		return inode_option_remove(c, ino, name);
	ret = xattr_name_parse(name, &n);
	if (ret)
		return ret;
	/* Removing an ACL means that the mode is all there is: never an error. */
	a.flags = type_is_acl(n.type) ? 0 : BCFS_XATTR_REPLACE;
	return setxattr(c, &a);
}

/* ---- key behaviour ---- */

static int xattr_invalid(struct printbuf *err, const char *what)
{
	prt_printf(err, "xattr: %s", what);
	return -BCFS_ERR_xattr_invalid;
}

static int xattr_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			  struct printbuf *err)
{
	const struct bcfs_xattr *x = bkey_s_c_to_xattr(k).v;
	unsigned bytes = bkey_val_bytes(k.k), want;

	if (btree != BTREE_ID_xattrs || level)
		return xattr_invalid(err, "in the wrong btree");
	if (!k.k->p.inode || k.k->p.inode > BCFS_INUM_MAX)
		return xattr_invalid(err, "inode number out of range");
	if (k.k->p.offset < BCFS_DIRENT_HASH_MIN || k.k->p.offset > BCFS_DIRENT_HASH_MAX)
		return xattr_invalid(err, "hash out of range");
	if (!k.k->p.snapshot)
		return xattr_invalid(err, "snapshot 0");
	if (bytes < sizeof(*x))
		return xattr_invalid(err, "cut off");
	want = sizeof(*x) + x->name_len + x->val_len;
	if (bytes < want || bytes >= want + 8)
		return xattr_invalid(err, "lengths out of bounds");
	if (x->x_type >= BCFS_XATTR_TYPE_NR)
		return xattr_invalid(err, "unknown type");
	if (type_is_acl(x->x_type) != !x->name_len)
		return xattr_invalid(err, "empty name");
	if (memchr(x->name, 0, x->name_len))
		return xattr_invalid(err, "name with NUL");

	u32 total = xattr_total(x);

	if (total > BCFS_XATTR_SIZE_MAX || x->val_len > BCFS_XATTR_PIECE_MAX)
		return xattr_invalid(err, "value too long");
	if (x->piece >= xattr_nr_pieces(total))
		return xattr_invalid(err, "piece beyond the value");
	if (x->val_len != min(total - x->piece * BCFS_XATTR_PIECE_MAX, BCFS_XATTR_PIECE_MAX))
		return xattr_invalid(err, "wrong length of a piece");
	return 0;
}

static void xattr_to_text(struct printbuf *out, struct bkey_s_c k)
{
	const struct bcfs_xattr *x = bkey_s_c_to_xattr(k).v;
	unsigned room = bkey_val_bytes(k.k) - sizeof(*x);
	unsigned name_len = min_t(unsigned, x->name_len, room);

	prt_str(out, x->x_type < BCFS_XATTR_TYPE_NR ? xattr_prefix[x->x_type] : "(unknown).");
	prt_escaped(out, x->name, name_len);
	if (x->piece || xattr_total(x) != x->val_len)
		prt_printf(out, " piece %u of %u bytes", x->piece, xattr_total(x));
	prt_str(out, " = ");
	prt_escaped(out, x->name + name_len, min_t(unsigned, x->val_len, room - name_len));
}

const struct bkey_ops bkey_ops_xattr = {
	.validate = xattr_validate,
	.to_text = xattr_to_text,
};
