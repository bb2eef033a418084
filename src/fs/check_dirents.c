// SPDX-License-Identifier: LGPL-2.1-or-later
/* fsck: names. Entries against directories and targets, xattrs against inodes. */
#include "fs/check.h"
#include "fs/namei.h"

#include <string.h>

/* The inode whose names are being looked at, and what they add up to. */
struct owner {
	u64 inum; /* 0: none yet */
	bool exists;
	struct bcfs_inode_unpacked inode;
	u64 size, nr_dirs; /* of dirents */
	u64 nr_long;	   /* of xattrs */
	bool caps, acl;
};

/* The owner of names under @inum; keeps it if it is the same. */
static int owner_load(struct btree_trans *trans, struct check_subvol *s, u64 inum, struct owner *o)
{
	int ret;

	if (o->inum == inum)
		return 0;
	struct owner new = {.inum = inum};

	ret = inode_get_snapshot(trans, inum, s->sv.snapshot, &new.inode);
	new.exists = !ret;
	if (!ret || ret == -BCFS_ERR_no_such_inode) {
		*o = new;
		ret = 0;
	}
	return ret;
}

/* ---- dirents ---- */

static void dir_finish(struct check_subvol *s, const struct owner *o)
{
	if (!o->inum || !o->exists || !S_ISDIR(o->inode.mode))
		return;
	if (o->size != o->inode.size)
		check_report(s->chk,
			     "inodes: %u:%llu, a directory, has size %llu, its entries %llu",
			     s->sv.id, (ull)o->inum, (ull)o->inode.size, (ull)o->size);
	if (o->nr_dirs != o->inode.nr_dirs)
		check_report(s->chk, "inodes: %u:%llu says %u subdirectories, has %llu", s->sv.id,
			     (ull)o->inum, o->inode.nr_dirs, (ull)o->nr_dirs);
}

static void dirent_reports(struct check_subvol *s, const struct owner *o, struct bpos pos,
			   const struct bcfs_dirent *d, const struct dirent_found *found,
			   const struct bcfs_inode_unpacked *target, bool have_target)
{
	struct fs_check *chk = s->chk;
	u32 sv = s->sv.id;
	ull dir = pos.inode, off = pos.offset, to = d->target;
	bool subvol = d->d_type == BCFS_DT_SUBVOL;

	if (!o->exists)
		check_report(chk, "dirents: %u:%llu:%llu belongs to no inode", sv, dir, off);
	else if (!S_ISDIR(o->inode.mode))
		check_report(chk, "dirents: %u:%llu:%llu belongs to an inode of mode %o", sv, dir,
			     off, o->inode.mode);
	else if (found->pos != off)
		check_report(chk, "dirents: %u:%llu:%llu is not found by its name (%llu is)", sv,
			     dir, off, (ull)found->pos);
	if (subvol)
		return;
	if (!have_target) {
		check_report(chk, "dirents: %u:%llu:%llu leads to %llu, which is missing", sv, dir,
			     off, to);
		return;
	}
	if (inode_d_type(target) != d->d_type)
		check_report(chk, "dirents: %u:%llu:%llu has type %u, inode %llu mode %o", sv, dir,
			     off, d->d_type, to, target->mode);
	if (inode_is_unlinked(target))
		check_report(chk, "dirents: %u:%llu:%llu leads to %llu, which is unlinked", sv, dir,
			     off, to);
	if (S_ISDIR(target->mode) && (target->dir != pos.inode || target->dir_offset != pos.offset))
		check_report(
			chk,
			"dirents: %u:%llu:%llu leads to directory %llu, whose entry is %llu:%llu",
			sv, dir, off, to, (ull)target->dir, (ull)target->dir_offset);
}

static int check_dirent(struct btree_trans *trans, struct check_subvol *s, struct bkey_s_c k)
{
	/* Copied: reading more may move what k points at. */
	struct {
		struct bcfs_dirent d;
		u8 name[BCFS_NAME_MAX + 1];
	} d;
	struct owner *o = s->arg, old = *o;
	struct bcfs_inode_unpacked target;
	struct dirent_found found = {0};
	struct bpos pos = k.k->p;
	bool have_target = false;
	int ret;

	if (k.k->type != KEY_TYPE_dirent)
		return 0;
	const struct bcfs_dirent *v = bkey_s_c_to_dirent(k).v;

	memcpy(&d, v, sizeof(*v) + v->name_len);
	struct fs_name name = {(const char *)d.d.name, d.d.name_len};

	ret = owner_load(trans, s, pos.inode, o);
	if (ret)
		return ret;
	if (o->exists && S_ISDIR(o->inode.mode)) {
		struct btree_iter iter;

		ret = dirent_find(trans, &iter, &o->inode, &name, 0, &found);
		btree_iter_exit(&iter);
		if (ret && ret != -BCFS_ERR_no_such_name)
			goto restart;
	}
	if (d.d.d_type != BCFS_DT_SUBVOL) {
		ret = inode_get_snapshot(trans, d.d.target, s->sv.snapshot, &target);
		if (ret && ret != -BCFS_ERR_no_such_inode)
			goto restart;
		have_target = !ret;
	}

	if (old.inum != o->inum)
		dir_finish(s, &old);
	o->size += dirent_size(d.d.name_len);
	o->nr_dirs += d.d.d_type == S_IFDIR >> 12;
	dirent_reports(s, o, pos, &d.d, &found, &target, have_target);
	return 0;
restart:
	*o = old;
	return ret;
}

static int check_dirents_subvol(struct check_subvol *s)
{
	struct btree_trans *trans = btree_trans_get(s->c->btree);
	struct owner o = {0};
	int ret;

	s->arg = &o;
	ret = for_each_btree_key (trans, iter, BTREE_ID_dirents, SPOS(0, 0, s->sv.snapshot),
				  BTREE_ITER_PREFETCH, k, check_dirent(trans, s, k));
	btree_trans_put(trans);
	dir_finish(s, &o);
	return ret;
}

int check_dirents(struct bcfs *c, struct fs_check *chk)
{
	return check_each_subvol(c, chk, check_dirents_subvol, NULL);
}

/* ---- xattrs ---- */

static void xattrs_finish(struct check_subvol *s, const struct owner *o)
{
	ull inum = o->inum;

	if (!o->inum || !o->exists)
		return;
	if (o->nr_long != o->inode.xattr_pieces)
		check_report(s->chk, "inodes: %u:%llu says %u long xattrs, has %llu", s->sv.id,
			     inum, o->inode.xattr_pieces, (ull)o->nr_long);
	if (o->caps != !!(o->inode.flags & BCFS_INODE_has_caps))
		check_report(s->chk, "inodes: %u:%llu %s capabilities, its flags are %x", s->sv.id,
			     inum, o->caps ? "has" : "has no", o->inode.flags);
	if (o->acl && !(o->inode.flags & BCFS_INODE_has_acl))
		check_report(s->chk, "inodes: %u:%llu has an ACL, its flags are %x", s->sv.id, inum,
			     o->inode.flags);
}

/* Piece @piece of the attribute is there, of a value of @total bytes; 1: it is not. */
static int piece_missing(struct btree_trans *trans, const struct owner *o,
			 const struct xattr_name *name, u8 piece, u32 total, u64 *ret_pos)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int ret = xattr_find(trans, &iter, &o->inode, name, piece, 0, &k, NULL);

	if (!ret) {
		ret = xattr_total(bkey_s_c_to_xattr(k).v) != total;
		*ret_pos = k.k->p.offset;
	} else if (ret == HASH_NOT_FOUND) {
		ret = 1;
		*ret_pos = 0;
	}
	btree_iter_exit(&iter);
	return ret;
}

static int check_xattr(struct btree_trans *trans, struct check_subvol *s, struct bkey_s_c k)
{
	struct owner *o = s->arg, old = *o;
	char buf[256];
	struct bpos pos = k.k->p;
	u64 found = pos.offset, other;
	unsigned missing = 0;
	int ret;

	if (k.k->type != KEY_TYPE_xattr)
		return 0;
	const struct bcfs_xattr *x = bkey_s_c_to_xattr(k).v;
	struct xattr_name name = {x->x_type, x->name_len, buf};
	u32 total = xattr_total(x);
	u8 piece = x->piece;

	memcpy(buf, x->name, x->name_len);
	buf[x->name_len] = 0;
	ret = owner_load(trans, s, pos.inode, o);
	if (!ret && o->exists)
		ret = piece_missing(trans, o, &name, piece, total, &found);
	/* Of the first: all others are there. Of the others: the first is. */
	for (unsigned i = 1; ret >= 0 && o->exists && !piece && i < xattr_nr_pieces(total); i++) {
		ret = piece_missing(trans, o, &name, i, total, &other);
		missing += ret > 0;
	}
	if (ret >= 0 && o->exists && piece) {
		ret = piece_missing(trans, o, &name, 0, total, &other);
		missing += ret > 0;
	}
	if (ret < 0) {
		*o = old;
		return ret;
	}

	if (old.inum != o->inum)
		xattrs_finish(s, &old);
	o->nr_long += !piece && xattr_nr_pieces(total) > 1;
	o->caps |= name.type == BCFS_XATTR_security && !strcmp(buf, "capability");
	o->acl |= name.type == BCFS_XATTR_acl_access || name.type == BCFS_XATTR_acl_default;
	if (!o->exists)
		check_report(s->chk, "xattrs: %u:%llu:%llu belongs to no inode", s->sv.id,
			     (ull)pos.inode, (ull)pos.offset);
	if (found != pos.offset)
		check_report(s->chk, "xattrs: %u:%llu:%llu is not found by its name (%llu is)",
			     s->sv.id, (ull)pos.inode, (ull)pos.offset, (ull)found);
	if (missing)
		check_report(s->chk, "xattrs: %u:%llu:%llu, %u bytes, lacks %u of its pieces",
			     s->sv.id, (ull)pos.inode, (ull)pos.offset, total, missing);
	return 0;
}

static int check_xattrs_subvol(struct check_subvol *s)
{
	struct btree_trans *trans = btree_trans_get(s->c->btree);
	struct owner o = {0};
	int ret;

	s->arg = &o;
	ret = for_each_btree_key (trans, iter, BTREE_ID_xattrs, SPOS(0, 0, s->sv.snapshot),
				  BTREE_ITER_PREFETCH, k, check_xattr(trans, s, k));
	btree_trans_put(trans);
	xattrs_finish(s, &o);
	return ret;
}

int check_xattrs(struct bcfs *c, struct fs_check *chk)
{
	return check_each_subvol(c, chk, check_xattrs_subvol, NULL);
}
