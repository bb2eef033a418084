// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * rename(2): one transaction over up to two directories, two entries and two inodes.
 *
 * A directory that moves to another parent must not become its own ancestor. The walk up the
 * backpointers reads inodes that other renames between directories might change, so those
 * hold rename_lock; nothing else moves a directory.
 */
#include "fs/namei.h"
#include "fs/table.h"
#include "util/planted.h"

#include <string.h>

struct rename_args {
	struct bcfs_ino olddir, newdir;
	const struct fs_name *oldname, *newname;
	u32 flags;
	u64 now;
	/* Of the whiteout, if one is to be left. */
	u64 inum, hash_seed;
	u32 generation;
};

struct rename_side {
	struct bcfs_inode_unpacked dir_own; /* unless both are in one directory */
	struct bcfs_inode_unpacked *dir;
	struct bcfs_inode_unpacked inode; /* what the name leads to */
	struct btree_iter dir_iter, d_iter, i_iter;
	struct dirent_found d;
	const struct fs_name *name;
	bool exists;
};

struct rename_state {
	struct rename_side src, dst;
	struct btree_iter whiteout_iter;
	bool same_dir, nothing_to_do;
	bool replaced; /* dst.inode lost a link */
};

static void side_init(struct btree_trans *trans, struct rename_side *s, const struct fs_name *name)
{
	s->name = name;
	s->exists = false;
	btree_iter_init(trans, &s->dir_iter, BTREE_ID_inodes, POS_MIN, 0);
	btree_iter_init(trans, &s->d_iter, BTREE_ID_dirents, POS_MIN, 0);
	btree_iter_init(trans, &s->i_iter, BTREE_ID_inodes, POS_MIN, 0);
}

static void side_exit(struct rename_side *s)
{
	btree_iter_exit(&s->dir_iter);
	btree_iter_exit(&s->d_iter);
	btree_iter_exit(&s->i_iter);
}

static int side_peek_dir(struct btree_trans *trans, struct rename_side *s, struct bcfs_ino dir)
{
	s->dir = &s->dir_own;
	btree_iter_exit(&s->dir_iter);
	return dir_peek(trans, &s->dir_iter, dir, BTREE_ITER_INTENT, s->dir);
}

/* The entry and its inode; that there is no entry is no error. */
static int side_find(struct btree_trans *trans, struct rename_side *s)
{
	int ret;

	btree_iter_exit(&s->d_iter);
	ret = dirent_find(trans, &s->d_iter, s->dir, s->name, BTREE_ITER_INTENT, &s->d);
	if (ret == -BCFS_ERR_no_such_name)
		return 0;
	if (ret)
		return ret;
	s->exists = true;
	btree_iter_exit(&s->i_iter);
	ret = inode_peek_snapshot(trans, &s->i_iter, s->d.inum, s->dir->snapshot, BTREE_ITER_INTENT,
				  &s->inode);
	return ret == -BCFS_ERR_no_such_inode ? -BCFS_ERR_dirent_target_missing : ret;
}

/* Is @inum the directory @from, or above it? */
static int check_no_loop(struct btree_trans *trans, const struct bcfs_inode_unpacked *from,
			 u64 inum)
{
	struct bcfs_inode_unpacked dir = *from;
	/* Longer than any path that was ever walked: a loop on the device. */
	u64 steps = 1U << 24;

	while (1) {
		u64 parent = dir.dir;
		int ret;

		if (dir.inum == inum)
			return -BCFS_ERR_dir_loop;
		if (!parent)
			return 0;
		if (!--steps || parent == dir.inum)
			return -BCFS_ERR_dir_cycle;
		ret = inode_get_snapshot(trans, parent, from->snapshot, &dir);
		if (ret)
			return ret == -BCFS_ERR_no_such_inode ? -BCFS_ERR_dir_cycle : ret;
	}
}

static int check_replace(struct btree_trans *trans, const struct rename_args *a,
			 const struct rename_state *s)
{
	bool src_dir = S_ISDIR(s->src.inode.mode), dst_dir = S_ISDIR(s->dst.inode.mode);

	if (a->flags & BCFS_RENAME_NOREPLACE)
		return -BCFS_ERR_name_exists;
	if (a->flags & BCFS_RENAME_EXCHANGE)
		return 0;
	if (src_dir && !dst_dir)
		return -BCFS_ERR_not_a_directory;
	if (!src_dir && dst_dir)
		return -BCFS_ERR_is_a_directory;
	return dst_dir ? dir_check_empty(trans, &s->dst.inode) : 0;
}

static int rename_check(struct btree_trans *trans, const struct rename_args *a,
			struct rename_state *s)
{
	int ret;

	if (!s->src.exists || (!s->dst.exists && (a->flags & BCFS_RENAME_EXCHANGE)))
		return -BCFS_ERR_no_such_name;
	if (s->dst.exists && s->src.inode.inum == s->dst.inode.inum) {
		s->nothing_to_do = true;
		return a->flags & BCFS_RENAME_NOREPLACE ? -BCFS_ERR_name_exists : 0;
	}
	if (s->src.inode.subvol || (s->dst.exists && s->dst.inode.subvol))
		return -BCFS_ERR_root_dir;
	/* Loops first: what is checked below may rely on four different inodes. */
	if (S_ISDIR(s->src.inode.mode)) {
		ret = s->same_dir ? 0 : check_no_loop(trans, s->dst.dir, s->src.inode.inum);
		if (ret)
			return ret;
	}
	if (s->dst.exists && S_ISDIR(s->dst.inode.mode)) {
		ret = s->same_dir ? 0 : check_no_loop(trans, s->src.dir, s->dst.inode.inum);
		if (ret == -BCFS_ERR_dir_loop && !(a->flags & BCFS_RENAME_EXCHANGE))
			ret = a->flags & BCFS_RENAME_NOREPLACE ? -BCFS_ERR_name_exists
							       : -BCFS_ERR_dir_not_empty;
		if (ret)
			return ret;
	}
	ret = inode_may_enter(s->dst.dir, &s->src.inode);
	if (!ret && a->flags & BCFS_RENAME_EXCHANGE)
		ret = inode_may_enter(s->src.dir, &s->dst.inode);
	if (ret)
		return ret;
	return inode_may_delete(s->src.dir, &s->src.inode)
		       ?: (s->dst.exists ? inode_may_delete(s->dst.dir, &s->dst.inode)
						   ?: check_replace(trans, a, s)
					 : 0);
}

/* The old entry stays, and leads to a device that says: nothing is here. */
static int leave_whiteout(struct btree_trans *trans, const struct rename_args *a,
			  struct rename_state *s)
{
	struct bcfs_inode_unpacked inode = {
		.inum = a->inum,
		.snapshot = s->src.dir->snapshot,
		.generation = a->generation,
		.hash_seed = a->hash_seed,
		.atime = a->now,
		.mtime = a->now,
		.ctime = a->now,
		.otime = a->now,
		.mode = S_IFCHR,
		.uid = s->src.inode.uid,
		.gid = s->src.inode.gid,
		.dir = s->src.dir->inum,
		.dir_offset = s->src.d.pos,
	};

	dir_entry_added(s->src.dir, s->src.name, false, a->now);
	btree_iter_exit(&s->whiteout_iter);
	return dirent_retarget(trans, &s->src.d_iter, s->src.dir->snapshot, inode.inum,
			       inode_d_type(&inode))
		       ?: inode_create(trans, &s->whiteout_iter, &inode);
}

/* The entry moves, over what the new name led to, if anything. */
static int rename_move(struct btree_trans *trans, const struct rename_args *a,
		       struct rename_state *s)
{
	bool is_dir = S_ISDIR(s->src.inode.mode);
	u8 d_type = s->src.d.d_type;
	int ret = a->flags & BCFS_RENAME_WHITEOUT
			  ? leave_whiteout(trans, a, s)
			  : dirent_delete(trans, &s->src.d_iter, s->src.dir, s->src.name);

	dir_entry_removed(s->src.dir, s->src.name, is_dir, a->now);
	if (planted(rename_in_two_steps))
		ret = ret ?: btree_trans_commit(trans, 0, NULL);
	if (ret)
		return ret;
	if (s->dst.exists) {
		ret = dirent_retarget(trans, &s->dst.d_iter, s->dst.dir->snapshot,
				      s->src.inode.inum, d_type);
		dir_entry_removed(s->dst.dir, s->dst.name, is_dir, a->now);
		if (!planted(rename_keeps_link))
			inode_nlink_dec(&s->dst.inode);
		s->replaced = true;
		s->dst.inode.ctime = a->now;
		if (s->dst.inode.dir == s->dst.dir->inum && s->dst.inode.dir_offset == s->dst.d.pos)
			s->dst.inode.dir = s->dst.inode.dir_offset = 0;
		if (!ret && inode_is_unlinked(&s->dst.inode))
			ret = deleted_inode_mark(
				trans, (struct bcfs_ino){a->newdir.subvol, s->dst.inode.inum},
				true);
	} else {
		/* The removal may have made a nearer place free. */
		btree_iter_exit(&s->dst.d_iter);
		ret = dirent_find(trans, &s->dst.d_iter, s->dst.dir, s->dst.name, BTREE_ITER_INTENT,
				  &s->dst.d);
		if (ret != -BCFS_ERR_no_such_name)
			return ret ?: -BCFS_ERR_name_exists;
		ret = dirent_create(trans, s->dst.dir, s->dst.name, s->dst.d.pos, s->src.inode.inum,
				    d_type);
	}
	dir_entry_added(s->dst.dir, s->dst.name, is_dir, a->now);
	s->src.inode.dir = s->dst.dir->inum;
	s->src.inode.dir_offset = s->dst.d.pos;
	s->src.inode.ctime = a->now;
	return ret;
}

static int rename_exchange(struct btree_trans *trans, const struct rename_args *a,
			   struct rename_state *s)
{
	int delta = (int)S_ISDIR(s->dst.inode.mode) - (int)S_ISDIR(s->src.inode.mode);
	u8 src_type = s->src.d.d_type, dst_type = s->dst.d.d_type;
	int ret = dirent_retarget(trans, &s->src.d_iter, s->src.dir->snapshot, s->dst.inode.inum,
				  dst_type)
			  ?: dirent_retarget(trans, &s->dst.d_iter, s->dst.dir->snapshot,
					     s->src.inode.inum, src_type);

	s->src.dir->nr_dirs += delta;
	s->dst.dir->nr_dirs -= delta;
	s->src.dir->mtime = s->src.dir->ctime = s->dst.dir->mtime = s->dst.dir->ctime = a->now;
	s->src.inode.ctime = s->dst.inode.ctime = a->now;

	s->src.inode.dir = s->dst.dir->inum;
	s->src.inode.dir_offset = s->dst.d.pos;
	if (!planted(exchange_keeps_parent))
		s->dst.inode.dir = s->src.dir->inum;
	s->dst.inode.dir_offset = s->src.d.pos;
	return ret;
}

static int rename_steps(struct btree_trans *trans, const struct rename_args *a,
			struct rename_state *s)
{
	int ret = side_peek_dir(trans, &s->src, a->olddir);

	if (!ret && !s->same_dir)
		ret = side_peek_dir(trans, &s->dst, a->newdir);
	if (ret)
		return ret;
	if (s->same_dir)
		s->dst.dir = s->src.dir;

	ret = side_find(trans, &s->src) ?: side_find(trans, &s->dst) ?: rename_check(trans, a, s);
	if (ret || s->nothing_to_do)
		return ret;
	ret = a->flags & BCFS_RENAME_EXCHANGE ? rename_exchange(trans, a, s)
					      : rename_move(trans, a, s);
	return ret ?: inode_write(trans, &s->src.i_iter, &s->src.inode)
		   ?: (s->dst.exists ? inode_write(trans, &s->dst.i_iter, &s->dst.inode) : 0)
		   ?: inode_write(trans, &s->src.dir_iter, s->src.dir)
		   ?: (s->same_dir ? 0 : inode_write(trans, &s->dst.dir_iter, s->dst.dir))
		   ?: btree_trans_commit(trans, BTREE_COMMIT_KEEPS, NULL);
}

static int rename_trans(struct btree_trans *trans, const struct rename_args *a,
			struct rename_state *s)
{
	int ret;

	side_init(trans, &s->src, a->oldname);
	side_init(trans, &s->dst, a->newname);
	btree_iter_init(trans, &s->whiteout_iter, BTREE_ID_inodes, POS_MIN, 0);
	s->same_dir = a->olddir.inum == a->newdir.inum;
	s->nothing_to_do = s->replaced = false;
	ret = rename_steps(trans, a, s);
	btree_iter_exit(&s->whiteout_iter);
	side_exit(&s->dst);
	side_exit(&s->src);
	return ret;
}

static int rename_run(struct bcfs *c, struct rename_args *a, struct rename_state *s)
{
	struct btree_trans *trans;
	u64 taken = 0;
	int ret = 0;

	do {
		if (a->flags & BCFS_RENAME_WHITEOUT)
			ret = inum_next(c, a->olddir.subvol, taken, &a->inum, &a->generation);
		if (ret)
			return ret;
		trans = btree_trans_get(c->btree);
		ret = lockrestart_do(trans, rename_trans(trans, a, s));
		btree_trans_put(trans);
		taken = a->inum;
	} while (ret == -BCFS_ERR_inum_taken);
	return ret;
}

static bool rename_flags_valid(u32 flags)
{
	if (flags & ~(BCFS_RENAME_NOREPLACE | BCFS_RENAME_EXCHANGE | BCFS_RENAME_WHITEOUT))
		return false;
	return !(flags & BCFS_RENAME_EXCHANGE) || flags == BCFS_RENAME_EXCHANGE;
}

int bcfs_rename(struct bcfs *c, struct bcfs_ino olddir, const char *oldname, struct bcfs_ino newdir,
		const char *newname, uint32_t flags)
{
	struct fs_name n_old, n_new;
	struct rename_args a = {olddir, newdir, &n_old, &n_new, flags, fs_now(c)};
	struct rename_state *s;
	int ret = fs_may_write(c) ?: name_check(oldname, &n_old) ?: name_check(newname, &n_new);

	if (ret)
		return ret;
	if (!rename_flags_valid(flags))
		return -BCFS_ERR_rename_flags;
	if (olddir.subvol != newdir.subvol)
		return -BCFS_ERR_cross_subvolume;
	s = env_zalloc(c->env, sizeof(*s));
	if (!s)
		return -BCFS_ERR_nomem;

	a.hash_seed = flags & BCFS_RENAME_WHITEOUT ? env_random_u64(c->env) : 0;

	if (olddir.inum != newdir.inum)
		env_mutex_lock(&c->ino->rename_lock);
	ret = rename_run(c, &a, s);
	if (olddir.inum != newdir.inum)
		env_mutex_unlock(&c->ino->rename_lock);

	if (!ret && s->replaced)
		inode_link_gone(c, newdir.subvol, &s->dst.inode);
	env_free(c->env, s);
	return ret;
}
