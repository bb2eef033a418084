// SPDX-License-Identifier: LGPL-2.1-or-later
/* Attributes: getattr, setattr, statfs. */
#include "fs/acl.h"
#include "fs/io.h"
#include "fs/namei.h"
#include "fs/table.h"
#include "sb/sb.h"

#include <string.h>

/* x(name of the inode's flag, of the interface's) */
#define FLAG_MAP(x)                                                                                \
	x(sync, SYNC) x(immutable, IMMUTABLE) x(append, APPEND) x(nodump, NODUMP)                  \
		x(noatime, NOATIME) x(dirsync, DIRSYNC) x(projinherit, PROJINHERIT)

static u32 flags_out(u32 flags)
{
	u32 ret = 0;

#define x(in, out)                                                                                 \
	if (flags & BCFS_INODE_##in)                                                               \
		ret |= BCFS_FL_##out;
	FLAG_MAP(x)
#undef x
	return ret;
}

static u32 flags_in(u32 old, u32 flags)
{
#define x(in, out) old = flags & BCFS_FL_##out ? old | BCFS_INODE_##in : old & ~BCFS_INODE_##in;
	FLAG_MAP(x)
#undef x
	return old;
}

static struct bcfs_time time_out(u64 t)
{
	struct bcfs_time ret;

	fs_time_unpack(t, &ret.sec, &ret.nsec);
	return ret;
}

void inode_to_stat(const struct bcfs *c, u32 subvol, const struct bcfs_inode_unpacked *inode,
		   struct bcfs_stat *ret)
{
	*ret = (struct bcfs_stat){
		.ino = {subvol, inode->inum},
		.generation = inode->generation,
		.mode = inode->mode,
		.nlink = inode_nlink(inode),
		.uid = inode->uid,
		.gid = inode->gid,
		.project = inode->project,
		.flags = flags_out(inode->flags),
		.blksize = c->fs_opts.block_bytes,
		.rdev_major = inode->dev >> 20,
		.rdev_minor = inode->dev & 0xfffff,
		.size = inode->size,
		.blocks = inode->sectors,
		.atime = time_out(inode->atime),
		.mtime = time_out(inode->mtime),
		.ctime = time_out(inode->ctime),
		.btime = time_out(inode->otime),
	};
}

int bcfs_getattr(struct bcfs *c, struct bcfs_ino ino, struct bcfs_stat *ret)
{
	struct bcfs_inode_unpacked inode;
	int err = inode_get(c, ino, &inode);

	if (!err)
		inode_to_stat(c, ino.subvol, &inode, ret);
	return err;
}

/* ---- access times ---- */

#define DAY_NS (86400ULL * 1000000000ULL)

static int accessed_step(struct btree_trans *trans, struct bcfs_inode_unpacked *inode, void *arg)
{
	inode->atime = *(u64 *)arg;
	return 0;
}

void inode_accessed(struct bcfs *c, struct bcfs_ino ino, const struct bcfs_inode_unpacked *inode)
{
	u64 now;

	if (c->fs_opts.noatime || (inode->flags & BCFS_INODE_noatime) || fs_may_write(c))
		return;
	if (c->fs_opts.nodiratime && S_ISDIR(inode->mode))
		return;
	now = fs_now(c);
	if (!c->fs_opts.strictatime && inode->atime > inode->mtime && inode->atime > inode->ctime &&
	    now < inode->atime + DAY_NS)
		return;
	inode_update(c, ino, accessed_step, &now);
}

/* ---- setattr ---- */

struct setattr_args {
	const struct bcfs_stat *attr;
	u32 mask;
	bool kept; /* BCFS_SET_KEPT */
	u64 now;
	void *acl;
	struct bcfs_inode_unpacked result;
};

void inode_kill_priv(struct bcfs_inode_unpacked *inode)
{
	if (!S_ISREG(inode->mode))
		return;
	inode->mode &= ~S_ISUID;
	if (inode->mode & S_IXGRP)
		inode->mode &= ~S_ISGID;
}

/* The access ACL follows the mode. */
static int chmod_acl(struct btree_trans *trans, struct bcfs_inode_unpacked *inode, void *acl)
{
	const struct xattr_name name = {BCFS_XATTR_acl_access, 0, ""};
	size_t len = 0;
	int ret;

	if (!(inode->flags & BCFS_INODE_has_acl))
		return 0;
	ret = xattr_get_step(trans, inode, &name, acl, ACL_MAX_BYTES, &len);
	if (ret == -BCFS_ERR_xattr_not_found)
		return 0;
	ret = ret ?: acl_check(acl, len);
	if (ret)
		return ret;
	acl_chmod(acl, len, inode->mode);
	return xattr_set_step(trans, inode, &name, acl, len, 0);
}

/*
 * Who keeps the times himself says "now" by an mtime that is the ctime: of what was written, or
 * told to be of now. A time that somebody chose comes with another ctime.
 */
static bool are_of_now(const struct setattr_args *a)
{
	const u32 both = BCFS_SET_MTIME | BCFS_SET_CTIME;
	const struct bcfs_time *m = &a->attr->mtime, *c = &a->attr->ctime;

	return (a->mask & both) == both && m->sec == c->sec && m->nsec == c->nsec;
}

/*
 * The kernel's times are as coarse as ours, but go ahead of its coarse clock to where it has told
 * somebody, of any filesystem, a fine one.
 */
#define CLOCK_TICK_NS (10 * ENV_NSEC_PER_MSEC)

/* The time of what was written before the file became immutable, which changed the ctime. */
static bool is_of_before(const struct bcfs_inode_unpacked *inode, const struct setattr_args *a)
{
	return a->kept && are_of_now(a) &&
	       fs_time_pack(a->attr->mtime.sec, a->attr->mtime.nsec) <=
		       inode->ctime + CLOCK_TICK_NS;
}

static int setattr_allowed(const struct bcfs_inode_unpacked *inode, const struct setattr_args *a)
{
	u32 touch = a->mask & ~BCFS_SET_FLAGS;

	/* What takes the flag off may say nothing else. */
	if ((inode->flags & BCFS_INODE_immutable) && touch && !is_of_before(inode, a))
		return -BCFS_ERR_immutable;
	touch &= ~(BCFS_SET_ATIME_NOW | BCFS_SET_MTIME_NOW);
	if (are_of_now(a))
		touch &= ~(BCFS_SET_MTIME | BCFS_SET_CTIME);
	if ((inode->flags & BCFS_INODE_append) && touch)
		return -BCFS_ERR_append_only;
	return 0;
}

static void set_times(struct bcfs_inode_unpacked *inode, const struct setattr_args *a)
{
	const struct bcfs_stat *s = a->attr;

	if (a->mask & BCFS_SET_ATIME_NOW)
		inode->atime = a->now;
	else if (a->mask & BCFS_SET_ATIME)
		inode->atime = fs_time_pack(s->atime.sec, s->atime.nsec);
	if (a->mask & BCFS_SET_MTIME_NOW)
		inode->mtime = a->now;
	else if (a->mask & BCFS_SET_MTIME)
		inode->mtime = fs_time_pack(s->mtime.sec, s->mtime.nsec);
	if (inode->flags & BCFS_INODE_immutable && is_of_before(inode, a))
		return;
	inode->ctime =
		a->mask & BCFS_SET_CTIME ? fs_time_pack(s->ctime.sec, s->ctime.nsec) : a->now;
}

static int setattr_step(struct btree_trans *trans, struct bcfs_inode_unpacked *inode, void *arg)
{
	struct setattr_args *a = arg;
	const struct bcfs_stat *s = a->attr;
	int ret = setattr_allowed(inode, a);

	if (ret)
		return ret;
	if (a->mask & BCFS_SET_KILL_PRIV)
		inode_kill_priv(inode);
	if (a->mask & BCFS_SET_UID)
		inode->uid = s->uid;
	if (a->mask & BCFS_SET_GID)
		inode->gid = s->gid;
	if (a->mask & BCFS_SET_PROJECT)
		inode->project = s->project;
	if (a->mask & BCFS_SET_FLAGS)
		inode->flags = flags_in(inode->flags, s->flags);
	if (a->mask & BCFS_SET_MODE) {
		inode->mode = (inode->mode & S_IFMT) | (s->mode & 07777);
		ret = chmod_acl(trans, inode, a->acl);
		if (ret)
			return ret;
	}
	if ((a->mask & (BCFS_SET_KILL_PRIV | BCFS_SET_UID | BCFS_SET_GID)) &&
	    (inode->flags & BCFS_INODE_has_caps)) {
		ret = inode_drop_caps_step(trans, inode);
		if (ret)
			return ret;
	}
	set_times(inode, a);
	a->result = *inode;
	return a->kept && inode_is_unlinked(inode) ? INODE_UNCHANGED : 0;
}

int bcfs_setattr(struct bcfs *c, struct bcfs_ino ino, const struct bcfs_stat *attr, uint32_t mask,
		 struct bcfs_stat *ret)
{
	struct setattr_args *a;
	int err = fs_may_write(c);

	if (err)
		return err;
	a = env_zalloc(c->env, sizeof(*a) + ACL_MAX_BYTES);
	if (!a)
		return -BCFS_ERR_nomem;
	*a = (struct setattr_args){.attr = attr,
				   .mask = mask & ~(BCFS_SET_SIZE | BCFS_SET_KEPT),
				   .kept = mask & BCFS_SET_KEPT,
				   .now = fs_now(c),
				   .acl = a + 1};

	inode_lock(c, ino);
	if (mask & BCFS_SET_SIZE)
		err = inode_truncate_locked(c, ino, attr->size, mask & BCFS_SET_KILL_PRIV);
	if (!err && (a->mask & ~BCFS_SET_KILL_PRIV || !(mask & BCFS_SET_SIZE)))
		err = inode_update_flags(c, ino, BTREE_COMMIT_KEEPS, setattr_step, a);
	else if (!err)
		err = inode_get(c, ino, &a->result);
	inode_unlock(c, ino);
	if (!err)
		inode_to_stat(c, ino.subvol, &a->result, ret);
	env_free(c->env, a);
	return err;
}

/* ---- the whole ---- */

int bcfs_trim(struct bcfs *c, uint64_t start, uint64_t len, uint64_t least, uint64_t *ret)
{
	u64 end = len < UINT64_MAX - start ? start + len : UINT64_MAX, sectors = 0;
	int err = fs_may_write(c);

	*ret = 0;
	if (err)
		return err;
	/* What became free lately is told of on its way. */
	err = alloc_do_discards(c->alloc);
	if (!err)
		err = alloc_trim(c->alloc, start >> SECTOR_SHIFT, end >> SECTOR_SHIFT,
				 least >> SECTOR_SHIFT, &sectors);
	*ret = sectors << SECTOR_SHIFT;
	return err;
}

int bcfs_statfs(struct bcfs *c, struct bcfs_statfs *ret)
{
	struct alloc_usage u;
	u32 block_sectors = c->fs_opts.block_bytes / SECTOR_SIZE;

	alloc_usage(c->alloc, &u);
	memset(ret, 0, sizeof(*ret));
	ret->block_bytes = c->fs_opts.block_bytes;
	ret->blocks = u.capacity / block_sectors;
	ret->blocks_free = u.free / block_sectors;
	ret->blocks_avail = u.free / block_sectors;
	ret->files = max_t(s64, u.counters[BCFS_ACCOUNTING_nr_inodes], 0);
	/* Nothing limits them but space: 512 bytes are more than an inode and its name take. */
	ret->files_free = u.free;
	ret->name_max = BCFS_NAME_MAX;
	if (c->sb)
		memcpy(ret->uuid, c->sb->sb->user_uuid.b, sizeof(ret->uuid));
	return 0;
}
