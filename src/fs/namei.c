// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Names: lookup, create, link, unlink. Each changing one is one transaction whose iterators
 * stay alive until its commit: ret = steps ?: commit, then exit the iterators.
 */
#include "fs/acl.h"
#include "fs/namei.h"
#include "fs/table.h"
#include "util/cleanup.h"

#include <string.h>

/* ---- directories ---- */

int dir_peek(struct btree_trans *trans, struct btree_iter *iter, struct bcfs_ino dir,
	     unsigned flags, struct bcfs_inode_unpacked *ret)
{
	int err = inode_peek(trans, iter, dir, flags, ret);

	if (err)
		return err;
	if (!S_ISDIR(ret->mode))
		return -BCFS_ERR_not_a_directory;
	if ((flags & BTREE_ITER_INTENT) && inode_is_unlinked(ret))
		return -BCFS_ERR_dir_removed;
	if ((flags & BTREE_ITER_INTENT) && (ret->flags & BCFS_INODE_immutable))
		return -BCFS_ERR_immutable;
	return 0;
}

void dir_entry_added(struct bcfs_inode_unpacked *dir, const struct fs_name *name, bool is_dir,
		     u64 now)
{
	dir->size += dirent_size(name->len);
	dir->nr_dirs += is_dir;
	dir->mtime = dir->ctime = now;
}

void dir_entry_removed(struct bcfs_inode_unpacked *dir, const struct fs_name *name, bool is_dir,
		       u64 now)
{
	dir->size -= min(dir->size, dirent_size(name->len));
	dir->nr_dirs -= is_dir && dir->nr_dirs;
	dir->mtime = dir->ctime = now;
}

int inode_may_enter(const struct bcfs_inode_unpacked *dir, const struct bcfs_inode_unpacked *inode)
{
	return dir->flags & BCFS_INODE_projinherit && dir->project != inode->project
		       ? -BCFS_ERR_cross_project
		       : 0;
}

int inode_may_delete(const struct bcfs_inode_unpacked *dir, const struct bcfs_inode_unpacked *inode)
{
	if (inode->flags & BCFS_INODE_immutable)
		return -BCFS_ERR_immutable;
	if ((inode->flags | dir->flags) & BCFS_INODE_append)
		return -BCFS_ERR_append_only;
	return 0;
}

void inode_link_gone(struct bcfs *c, u32 subvol, const struct bcfs_inode_unpacked *inode)
{
	struct bcfs_ino ino = {subvol, inode->inum};

	if (inode_is_unlinked(inode) && inode_unlinked(c, ino))
		inode_reap_soon(c, ino, inode->sectors);
}

/* ---- lookup ---- */

/* "..": where the backpointer leads, of the root to itself. */
static int lookup_parent(struct btree_trans *trans, const struct bcfs_inode_unpacked *dir,
			 struct bcfs_inode_unpacked *ret)
{
	if (!dir->dir) {
		*ret = *dir;
		return 0;
	}
	return inode_get_snapshot(trans, dir->dir, dir->snapshot, ret);
}

static int lookup_trans(struct btree_trans *trans, struct bcfs_ino dir_ino,
			const struct fs_name *name, struct bcfs_inode_unpacked *ret)
{
	struct bcfs_inode_unpacked dir;
	struct btree_iter dir_iter, d_iter;
	struct dirent_found d;
	int err;

	if (name->len == 1 && name->name[0] == '.') {
		err = inode_peek(trans, &dir_iter, dir_ino, 0, ret);
		goto out;
	}
	err = dir_peek(trans, &dir_iter, dir_ino, 0, &dir);
	if (err)
		goto out;
	if (name->len == 2 && name->name[0] == '.' && name->name[1] == '.') {
		err = lookup_parent(trans, &dir, ret);
		goto out;
	}

	err = dirent_find(trans, &d_iter, &dir, name, 0, &d)
		      ?: inode_get_snapshot(trans, d.inum, dir.snapshot, ret);
	btree_iter_exit(&d_iter);
	if (err == -BCFS_ERR_no_such_inode)
		err = -BCFS_ERR_dirent_target_missing;
out:
	btree_iter_exit(&dir_iter);
	return err;
}

int bcfs_lookup(struct bcfs *c, struct bcfs_ino dir, const char *name, struct bcfs_stat *ret)
{
	struct bcfs_inode_unpacked inode;
	struct fs_name n = {name, strnlen(name, BCFS_NAME_MAX + 1)};
	struct btree_trans *trans;
	int err;

	if (n.len > BCFS_NAME_MAX)
		return -BCFS_ERR_name_too_long;
	if (!n.len)
		return -BCFS_ERR_no_such_name;

	trans = btree_trans_get(c->btree);
	err = lockrestart_do(trans, lookup_trans(trans, dir, &n, &inode));
	btree_trans_put(trans);
	if (err)
		return err;
	inode_to_stat(c, dir.subvol, &inode, ret);
	return inode_ref(c, ret->ino);
}

struct bcfs_ino bcfs_root(const struct bcfs *c)
{
	return (struct bcfs_ino){BCFS_ROOT_SUBVOL, BCFS_ROOT_INO};
}

/* ---- create ---- */

struct create_args {
	struct bcfs_ino dir;
	const struct fs_name *name; /* NULL: a file without a name */
	const char *target;	    /* of a symbolic link */
	const struct bcfs_cred *cred;
	u32 mode, dev;
	u64 now, hash_seed, inum;
	u32 generation;
	void *acl; /* room for a default ACL: ACL_MAX_BYTES */
};

/* Owner, group, mode: what the directory and the umask say. */
static void new_inode(const struct create_args *a, const struct bcfs_inode_unpacked *dir,
		      struct bcfs_inode_unpacked *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->inum = a->inum;
	ret->snapshot = dir->snapshot;
	ret->generation = a->generation;
	ret->hash_seed = a->hash_seed;
	ret->atime = ret->mtime = ret->ctime = ret->otime = a->now;
	ret->mode = a->mode;
	ret->dev = a->dev;
	ret->uid = a->cred->uid;
	ret->gid = a->cred->gid;
	if (dir->mode & S_ISGID) {
		ret->gid = dir->gid;
		if (S_ISDIR(a->mode))
			ret->mode |= S_ISGID;
	}
	if (dir->flags & BCFS_INODE_projinherit) {
		ret->project = dir->project;
		if (S_ISDIR(a->mode))
			ret->flags |= BCFS_INODE_projinherit;
	}
	ret->flags |= dir->flags & (BCFS_INODE_nodump | BCFS_INODE_noatime);
	ret->opt_csum = dir->opt_csum;
	ret->opt_compression = dir->opt_compression;
	ret->opt_background_compression = dir->opt_background_compression;
	ret->opt_replicas = dir->opt_replicas;
	ret->opt_target = dir->opt_target;
}

/* The default ACL of the directory, or the umask. */
static int inherit_acl(struct btree_trans *trans, const struct create_args *a,
		       const struct bcfs_inode_unpacked *dir, struct bcfs_inode_unpacked *inode)
{
	const struct xattr_name name_default = {BCFS_XATTR_acl_default, 0, ""},
				name_access = {BCFS_XATTR_acl_access, 0, ""};
	size_t len = 0;
	int ret = -BCFS_ERR_xattr_not_found;

	if (S_ISLNK(inode->mode))
		return 0;
	if (dir->flags & BCFS_INODE_has_acl)
		ret = xattr_get_step(trans, dir, &name_default, a->acl, ACL_MAX_BYTES, &len);
	if (ret == -BCFS_ERR_xattr_not_found) {
		inode->mode &= ~(a->cred->umask & 0777);
		return 0;
	}
	ret = ret ?: acl_check(a->acl, len);
	if (!ret && S_ISDIR(inode->mode))
		ret = xattr_set_step(trans, inode, &name_default, a->acl, len, 0);
	if (!ret && !acl_inherit(a->acl, len, &inode->mode))
		ret = xattr_set_step(trans, inode, &name_access, a->acl, len, 0);
	return ret;
}

static int create_name(struct btree_trans *trans, struct btree_iter *d_iter,
		       const struct create_args *a, struct bcfs_inode_unpacked *dir,
		       struct bcfs_inode_unpacked *inode)
{
	struct dirent_found d;
	int ret = dirent_find(trans, d_iter, dir, a->name, BTREE_ITER_INTENT, &d);

	if (!ret)
		return -BCFS_ERR_name_exists;
	if (ret != -BCFS_ERR_no_such_name)
		return ret;
	inode->dir = dir->inum;
	inode->dir_offset = d.pos;
	dir_entry_added(dir, a->name, S_ISDIR(inode->mode), a->now);
	return dirent_create(trans, dir, a->name, d.pos, inode->inum, inode_d_type(inode));
}

static int create_trans(struct btree_trans *trans, const struct create_args *a,
			struct bcfs_inode_unpacked *ret)
{
	struct bcfs_inode_unpacked dir, inode;
	struct btree_iter dir_iter, d_iter, i_iter;
	int err;

	btree_iter_init(trans, &d_iter, BTREE_ID_dirents, POS_MIN, 0);
	btree_iter_init(trans, &i_iter, BTREE_ID_inodes, POS_MIN, 0);
	err = dir_peek(trans, &dir_iter, a->dir, BTREE_ITER_INTENT, &dir);
	if (err)
		goto out;
	new_inode(a, &dir, &inode);

	if (a->name) {
		btree_iter_exit(&d_iter);
		err = create_name(trans, &d_iter, a, &dir, &inode);
	} else {
		inode.flags |= BCFS_INODE_unlinked;
		err = deleted_inode_mark(trans, (struct bcfs_ino){a->dir.subvol, a->inum}, true);
	}
	if (err)
		goto out;
	if (a->target)
		inode.size = strlen(a->target);
	err = inherit_acl(trans, a, &dir, &inode);
	if (err)
		goto out;

	btree_iter_exit(&i_iter);
	err = inode_create(trans, &i_iter, &inode)
		      ?: (a->target ? symlink_write(trans, &inode, a->target) : 0)
		      ?: (a->name ? inode_write(trans, &dir_iter, &dir) : 0)
		      ?: btree_trans_commit(trans, 0, NULL);
	if (!err)
		*ret = inode;
out:
	btree_iter_exit(&i_iter);
	btree_iter_exit(&d_iter);
	btree_iter_exit(&dir_iter);
	return err;
}

static int create(struct bcfs *c, struct create_args *a, struct bcfs_stat *ret)
{
	struct bcfs_inode_unpacked inode;
	struct bcfs_ino ino = {.subvol = a->dir.subvol};
	struct btree_trans *trans;
	u64 taken = 0;
	int err = fs_may_write(c);

	if (err)
		return err;
	a->acl = env_malloc(c->env, ACL_MAX_BYTES);
	if (!a->acl)
		return -BCFS_ERR_nomem;
	a->now = fs_now(c);
	a->hash_seed = env_random_u64(c->env);

	do {
		err = inum_next(c, a->dir.subvol, taken, &a->inum, &a->generation);
		if (err)
			break;
		/* Before the commit: what was made cannot fail any more. */
		ino.inum = a->inum;
		err = inode_ref(c, ino);
		if (err)
			break;
		trans = btree_trans_get(c->btree);
		err = lockrestart_do(trans, create_trans(trans, a, &inode));
		btree_trans_put(trans);
		if (err)
			inode_unref(c, ino, 1);
		taken = a->inum;
	} while (err == -BCFS_ERR_inum_taken);
	env_free(c->env, a->acl);
	if (err)
		return err;

	inode_to_stat(c, a->dir.subvol, &inode, ret);
	if (!a->name)
		inode_unlinked(c, ret->ino);
	return 0;
}

static u32 dev_pack(u32 mode, u32 rdev_major, u32 rdev_minor)
{
	return S_ISCHR(mode) || S_ISBLK(mode) ? rdev_major << 20 | (rdev_minor & 0xfffff) : 0;
}

int bcfs_mknod(struct bcfs *c, struct bcfs_ino dir, const char *name, uint32_t mode,
	       uint32_t rdev_major, uint32_t rdev_minor, const struct bcfs_cred *cred,
	       struct bcfs_stat *ret)
{
	struct fs_name n;
	struct create_args a = {.dir = dir,
				.name = &n,
				.cred = cred,
				.mode = mode & (S_IFMT | 07777),
				.dev = dev_pack(mode, rdev_major, rdev_minor)};

	if (!(mode & S_IFMT))
		a.mode |= S_IFREG;
	if (!S_ISREG(a.mode) && !S_ISCHR(a.mode) && !S_ISBLK(a.mode) && !S_ISFIFO(a.mode) &&
	    !S_ISSOCK(a.mode))
		return -BCFS_ERR_mode_invalid;
	return name_check(name, &n) ?: create(c, &a, ret);
}

int bcfs_mkdir(struct bcfs *c, struct bcfs_ino dir, const char *name, uint32_t mode,
	       const struct bcfs_cred *cred, struct bcfs_stat *ret)
{
	struct fs_name n;
	struct create_args a = {
		.dir = dir, .name = &n, .cred = cred, .mode = S_IFDIR | (mode & 07777)};

	return name_check(name, &n) ?: create(c, &a, ret);
}

int bcfs_symlink(struct bcfs *c, struct bcfs_ino dir, const char *name, const char *target,
		 const struct bcfs_cred *cred, struct bcfs_stat *ret)
{
	struct fs_name n;
	struct create_args a = {
		.dir = dir, .name = &n, .target = target, .cred = cred, .mode = S_IFLNK | 0777};
	size_t len = strnlen(target, SYMLINK_MAX_BYTES + 1);
	int err;

	if (!len)
		return -BCFS_ERR_no_such_name;
	if (len > symlink_max(c))
		return -BCFS_ERR_symlink_too_long;
	err = name_check(name, &n) ?: create(c, &a, ret);
	/* Beside an extent with a longer key than its neighbours may have. */
	return err == -BCFS_ERR_btree_node_too_small ? -BCFS_ERR_symlink_too_long : err;
}

int bcfs_tmpfile(struct bcfs *c, struct bcfs_ino dir, uint32_t mode, const struct bcfs_cred *cred,
		 struct bcfs_stat *ret)
{
	struct create_args a = {.dir = dir, .cred = cred, .mode = S_IFREG | (mode & 07777)};

	return create(c, &a, ret);
}

/* ---- link ---- */

struct link_args {
	struct bcfs_ino ino, dir;
	const struct fs_name *name;
	u64 now;
	bool relinked;
};

static int link_trans(struct btree_trans *trans, struct link_args *a,
		      struct bcfs_inode_unpacked *ret)
{
	struct bcfs_inode_unpacked dir, inode;
	struct btree_iter dir_iter, d_iter, i_iter;
	struct dirent_found d;
	int err;

	btree_iter_init(trans, &d_iter, BTREE_ID_dirents, POS_MIN, 0);
	err = dir_peek(trans, &dir_iter, a->dir, BTREE_ITER_INTENT, &dir);
	err = inode_peek(trans, &i_iter, a->ino, BTREE_ITER_INTENT, &inode) ?: err;
	if (err)
		goto out;
	err = S_ISDIR(inode.mode) ? -BCFS_ERR_link_dir
				  : inode_may_delete(&inode, &inode)
					    ?: inode_may_enter(&dir, &inode);
	if (err)
		goto out;
	btree_iter_exit(&d_iter);
	err = dirent_find(trans, &d_iter, &dir, a->name, BTREE_ITER_INTENT, &d);
	if (!err)
		err = -BCFS_ERR_name_exists;
	if (err != -BCFS_ERR_no_such_name)
		goto out;

	a->relinked = inode_is_unlinked(&inode);
	err = inode_nlink_inc(&inode)
		      ?: (a->relinked ? deleted_inode_mark(trans, a->ino, false) : 0);
	if (err)
		goto out;
	inode.ctime = a->now;
	inode.dir = dir.inum;
	inode.dir_offset = d.pos;
	dir_entry_added(&dir, a->name, false, a->now);
	err = dirent_create(trans, &dir, a->name, d.pos, inode.inum, inode_d_type(&inode))
		      ?: inode_write(trans, &i_iter, &inode)
		      ?: inode_write(trans, &dir_iter, &dir)
		      ?: btree_trans_commit(trans, 0, NULL);
	if (!err)
		*ret = inode;
out:
	btree_iter_exit(&i_iter);
	btree_iter_exit(&d_iter);
	btree_iter_exit(&dir_iter);
	return err;
}

int bcfs_link(struct bcfs *c, struct bcfs_ino ino, struct bcfs_ino dir, const char *name,
	      struct bcfs_stat *ret)
{
	struct bcfs_inode_unpacked inode;
	struct fs_name n;
	struct link_args a = {ino, dir, &n, fs_now(c), false};
	struct btree_trans *trans;
	int err = fs_may_write(c) ?: name_check(name, &n);

	if (err)
		return err;
	if (ino.subvol != dir.subvol)
		return -BCFS_ERR_cross_subvolume;

	err = inode_ref(c, ino);
	if (err)
		return err;
	trans = btree_trans_get(c->btree);
	err = lockrestart_do(trans, link_trans(trans, &a, &inode));
	btree_trans_put(trans);
	if (err) {
		bcfs_forget(c, ino, 1);
		return err;
	}
	if (a.relinked)
		inode_relinked(c, ino);
	inode_to_stat(c, ino.subvol, &inode, ret);
	return 0;
}

/* ---- unlink, rmdir ---- */

struct unlink_args {
	struct bcfs_ino dir;
	const struct fs_name *name;
	bool rmdir;
	u64 now;
};

static int unlink_check(struct btree_trans *trans, const struct unlink_args *a,
			const struct bcfs_inode_unpacked *dir,
			const struct bcfs_inode_unpacked *inode)
{
	if (a->rmdir && !S_ISDIR(inode->mode))
		return -BCFS_ERR_not_a_directory;
	if (!a->rmdir && S_ISDIR(inode->mode))
		return -BCFS_ERR_is_a_directory;
	if (inode->inum == BCFS_ROOT_INO || inode->subvol)
		return -BCFS_ERR_root_dir;
	return inode_may_delete(dir, inode) ?: (a->rmdir ? dir_check_empty(trans, inode) : 0);
}

static int unlink_trans(struct btree_trans *trans, const struct unlink_args *a,
			struct bcfs_inode_unpacked *ret)
{
	struct bcfs_inode_unpacked dir, inode;
	struct btree_iter dir_iter, d_iter, i_iter;
	struct dirent_found d = {0};
	int err;

	btree_iter_init(trans, &d_iter, BTREE_ID_dirents, POS_MIN, 0);
	btree_iter_init(trans, &i_iter, BTREE_ID_inodes, POS_MIN, 0);
	err = dir_peek(trans, &dir_iter, a->dir, BTREE_ITER_INTENT, &dir);
	if (err)
		goto out;
	btree_iter_exit(&d_iter);
	err = dirent_find(trans, &d_iter, &dir, a->name, BTREE_ITER_INTENT, &d);
	if (err)
		goto out;
	btree_iter_exit(&i_iter);
	err = inode_peek_snapshot(trans, &i_iter, d.inum, dir.snapshot, BTREE_ITER_INTENT, &inode);
	if (err) {
		if (err == -BCFS_ERR_no_such_inode)
			err = -BCFS_ERR_dirent_target_missing;
		goto out;
	}
	err = unlink_check(trans, a, &dir, &inode);
	if (err)
		goto out;

	inode_nlink_dec(&inode);
	inode.ctime = a->now;
	if (inode.dir == dir.inum && inode.dir_offset == d.pos)
		inode.dir = inode.dir_offset = 0;
	dir_entry_removed(&dir, a->name, a->rmdir, a->now);
	err = dirent_delete(trans, &d_iter, &dir, a->name);
	if (!err && inode_is_unlinked(&inode))
		err = deleted_inode_mark(trans, (struct bcfs_ino){a->dir.subvol, inode.inum}, true);
	err = err ?: inode_write(trans, &i_iter, &inode)
		  ?: inode_write(trans, &dir_iter, &dir)
		  ?: btree_trans_commit(trans, BTREE_COMMIT_REMOVES, NULL);
	if (!err)
		*ret = inode;
out:
	btree_iter_exit(&i_iter);
	btree_iter_exit(&d_iter);
	btree_iter_exit(&dir_iter);
	return err;
}

static int unlink_name(struct bcfs *c, struct bcfs_ino dir, const char *name, bool rmdir)
{
	struct bcfs_inode_unpacked inode = {0};
	struct fs_name n;
	struct unlink_args a = {dir, &n, rmdir, fs_now(c)};
	struct btree_trans *trans;
	int err = fs_may_write(c) ?: name_check(name, &n);

	if (err)
		return err;
	trans = btree_trans_get(c->btree);
	err = lockrestart_do(trans, unlink_trans(trans, &a, &inode));
	btree_trans_put(trans);
	if (!err)
		inode_link_gone(c, dir.subvol, &inode);
	return err;
}

int bcfs_unlink(struct bcfs *c, struct bcfs_ino dir, const char *name)
{
	return unlink_name(c, dir, name, false);
}

int bcfs_rmdir(struct bcfs *c, struct bcfs_ino dir, const char *name)
{
	return unlink_name(c, dir, name, true);
}

/* ---- references ---- */

void bcfs_forget(struct bcfs *c, struct bcfs_ino ino, uint64_t n)
{
	if (inode_unref(c, ino, n))
		inode_reap_soon(c, ino, 0);
}

void bcfs_forget_all(struct bcfs *c)
{
	inode_unref_all(c);
	if (!fs_may_write(c))
		deleted_inodes_reap_all(c);
}

int bcfs_for_each_known(struct bcfs *c, void (*fn)(void *arg, struct bcfs_ino ino), void *arg)
{
	CLEANUP(darray_exit_p) darray_u64 keys = {0};
	int ret = 0;

	for (unsigned i = 0; !ret && i < FS_REF_SHARDS; i++) {
		keys.nr = 0;
		ret = inode_refs_list(c, i, &keys);
		darray_for_each (keys, key)
			fn(arg, bcfs_ino_unpack(*key));
	}
	return ret;
}
