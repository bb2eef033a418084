// SPDX-License-Identifier: LGPL-2.1-or-later
/* Read, write, seek, copy, sync. */
#include "fs/io.h"
#include "fs/namei.h"
#include "fs/table.h"
#include "journal/journal.h"
#include "util/planted.h"

#include <string.h>

#define COPY_BYTES (1U << 20)

struct data_file io_file(const struct bcfs *c, struct bcfs_ino ino,
			 const struct bcfs_inode_unpacked *inode)
{
	return (struct data_file){.snapshot = inode->snapshot,
				  .inum = ino.inum,
				  .compression = inode->opt_compression ? inode->opt_compression - 1
									: c->fs_opts.compression};
}

int io_check_file(const struct bcfs_inode_unpacked *inode)
{
	if (S_ISDIR(inode->mode))
		return -BCFS_ERR_is_a_directory;
	if (!S_ISREG(inode->mode))
		return -BCFS_ERR_not_a_file;
	return 0;
}

int inode_drop_caps_step(struct btree_trans *trans, struct bcfs_inode_unpacked *inode)
{
	const char name[] = "capability";
	const struct xattr_name caps = {BCFS_XATTR_security, sizeof(name) - 1, name};

	if (!(inode->flags & BCFS_INODE_has_caps))
		return 0;
	return xattr_set_step(trans, inode, &caps, NULL, 0, 0);
}

int io_commit(struct btree_trans *trans, void *arg, u64 new_end, s64 sectors_delta)
{
	const struct io_update *u = arg;
	struct bcfs_inode_unpacked inode;
	struct btree_iter iter;
	int ret = inode_peek(trans, &iter, u->ino, BTREE_ITER_INTENT, &inode);

	if (ret)
		goto out;
	if (sectors_delta < 0 && inode.sectors < (u64)-sectors_delta)
		inode.sectors = 0; /* fsck has something to say about it */
	else
		inode.sectors += sectors_delta;
	if (u->grow && new_end > inode.size)
		inode.size = new_end;
	if (u->times)
		inode.mtime = inode.ctime = u->now;
	if (u->kill_priv) {
		inode_kill_priv(&inode);
		ret = inode_drop_caps_step(trans, &inode);
	}
	ret = ret ?: inode_write(trans, &iter, &inode);
out:
	btree_iter_exit(&iter);
	return ret;
}

int io_zero_tail(struct bcfs *c, struct bcfs_ino ino, const struct bcfs_inode_unpacked *inode)
{
	struct data_file f = io_file(c, ino, inode);
	struct io_update u = {.c = c, .ino = ino};

	if (!(inode->size % c->fs_opts.block_bytes) || !inode->sectors || planted(tail_not_zeroed))
		return 0;
	return data_zero_tail(c->data, &f, inode->size, io_commit, &u, NULL);
}

/* ---- read ---- */

static int64_t read_locked(struct bcfs *c, struct bcfs_ino ino, u64 offset, void *buf, size_t len,
			   struct bcfs_inode_unpacked *inode)
{
	struct data_file f;
	u64 done = 0;
	int ret = inode_get(c, ino, inode) ?: io_check_file(inode);

	if (ret)
		return ret;
	if (offset >= inode->size)
		return 0;
	len = min_t(u64, len, inode->size - offset);
	if (!inode->sectors) {
		memset(buf, 0, len);
		return len;
	}
	f = io_file(c, ino, inode);
	ret = data_read(c->data, &f, offset, buf, len, &done);
	return ret ?: (int64_t)len;
}

int64_t bcfs_read(struct bcfs *c, struct bcfs_ino ino, uint64_t offset, void *buf, size_t len)
{
	struct bcfs_inode_unpacked inode;
	int64_t ret;

	inode_lock_shared(c, ino);
	ret = read_locked(c, ino, offset, buf, len, &inode);
	inode_unlock_shared(c, ino);
	if (ret >= 0)
		inode_accessed(c, ino, &inode);
	return ret;
}

/* ---- write ---- */

static int64_t write_locked(struct bcfs *c, struct bcfs_ino ino, u64 offset, const void *buf,
			    size_t len, u32 flags)
{
	struct io_update u = {.c = c,
			      .ino = ino,
			      .now = fs_now(c),
			      .grow = true,
			      .times = !(flags & BCFS_WRITE_KEEP_TIMES),
			      .kill_priv = flags & BCFS_WRITE_KILL_PRIV};
	struct bcfs_inode_unpacked inode;
	struct data_file f;
	u64 done = 0, seq = 0;
	int ret = inode_get(c, ino, &inode) ?: io_check_file(&inode);

	if (ret)
		return ret;
	if (inode.flags & BCFS_INODE_immutable)
		return -BCFS_ERR_immutable;
	if (offset > FILE_SIZE_MAX || len > FILE_SIZE_MAX - offset)
		return -BCFS_ERR_file_too_big;
	if (!len)
		return 0;
	/* A written file has lost its capabilities, whoever writes. */
	u.kill_priv |= !!(inode.flags & BCFS_INODE_has_caps);
	if (offset > inode.size) {
		ret = io_zero_tail(c, ino, &inode);
		if (ret)
			return ret;
	}
	f = io_file(c, ino, &inode);
	ret = data_write(c->data, &f, offset, buf, len, inode.size, io_commit, &u, &done, &seq);
	return done ? (int64_t)done : ret;
}

bool io_make_room(struct bcfs *c, int64_t ret, unsigned *tries)
{
	if (ret != -BCFS_ERR_nospc || (*tries)++)
		return false;
	inode_reap_flush(c);
	alloc_do_discards(c->alloc);
	return true;
}

int64_t bcfs_write(struct bcfs *c, struct bcfs_ino ino, uint64_t offset, const void *buf,
		   size_t len, uint32_t flags)
{
	const bool unlocked = planted(write_unlocked_early);
	int64_t ret = fs_may_write(c);
	unsigned tries = 0;

	if (ret)
		return ret;
	do {
		inode_lock(c, ino);
		if (unlocked)
			inode_unlock(c, ino);
		ret = write_locked(c, ino, offset, buf, len, flags);
		if (!unlocked)
			inode_unlock(c, ino);
	} while (io_make_room(c, ret, &tries));
	return ret;
}

/* ---- copy ---- */

static int64_t copy_piece(struct bcfs *c, struct bcfs_ino src, u64 src_offset, struct bcfs_ino dst,
			  u64 dst_offset, void *buf, size_t len, u32 flags)
{
	struct bcfs_inode_unpacked inode;
	int64_t ret;

	inode_lock2(c, src, dst);
	ret = read_locked(c, src, src_offset, buf, len, &inode);
	if (ret > 0)
		ret = write_locked(c, dst, dst_offset, buf, ret, flags);
	inode_unlock2(c, src, dst);
	return ret;
}

int64_t bcfs_copy_range(struct bcfs *c, struct bcfs_ino src, uint64_t src_offset,
			struct bcfs_ino dst, uint64_t dst_offset, uint64_t len, uint32_t flags)
{
	int64_t ret = fs_may_write(c);
	unsigned tries = 0;
	u64 done = 0;
	void *buf;

	if (ret)
		return ret;
	if (src_offset > FILE_SIZE_MAX || dst_offset > FILE_SIZE_MAX)
		return -BCFS_ERR_offset_invalid;
	len = min_t(u64, len, INT64_MAX - max(src_offset, dst_offset));
	if (src.subvol == dst.subvol && src.inum == dst.inum && src_offset < dst_offset + len &&
	    dst_offset < src_offset + len)
		return -BCFS_ERR_offset_invalid;
	buf = env_malloc(c->env, COPY_BYTES);
	if (!buf)
		return -BCFS_ERR_nomem;
	while (done < len) {
		ret = copy_piece(c, src, src_offset + done, dst, dst_offset + done, buf,
				 min_t(u64, len - done, COPY_BYTES), flags);
		if (io_make_room(c, ret, &tries))
			continue;
		if (ret <= 0)
			break;
		done += ret;
	}
	env_free(c->env, buf);
	return done ? (int64_t)done : ret;
}

/* ---- seek ---- */

static int64_t seek(struct bcfs *c, struct bcfs_ino ino, u64 offset, bool hole)
{
	struct bcfs_inode_unpacked inode;
	struct data_file f;
	u64 pos = 0;
	int ret;

	inode_lock_shared(c, ino);
	ret = inode_get(c, ino, &inode) ?: io_check_file(&inode);
	if (!ret && offset >= inode.size)
		ret = -BCFS_ERR_seek_no_data;
	if (!ret) {
		f = io_file(c, ino, &inode);
		ret = data_seek(c->data, &f, offset, inode.size, hole, &pos);
	}
	inode_unlock_shared(c, ino);
	return ret ?: (int64_t)min(pos, inode.size);
}

int64_t bcfs_seek_data(struct bcfs *c, struct bcfs_ino ino, uint64_t offset)
{
	return seek(c, ino, offset, false);
}

int64_t bcfs_seek_hole(struct bcfs *c, struct bcfs_ino ino, uint64_t offset)
{
	return seek(c, ino, offset, true);
}

/* ---- sync ---- */

int bcfs_fsync(struct bcfs *c, struct bcfs_ino ino, int datasync)
{
	struct bcfs_inode_unpacked inode;
	int ret = inode_get(c, ino, &inode);

	if (ret)
		return ret;
	if (c->fs_opts.read_only)
		return 0;
	/* Not what changed this file alone: no crash leaves what is older than an fsync. */
	return journal_flush_seq(c->journal, planted(fsync_one_short)
						     ? journal_cur_seq(c->journal) - 1
						     : UINT64_MAX);
}

int bcfs_sync(struct bcfs *c)
{
	return c->fs_opts.read_only ? 0 : journal_flush(c->journal);
}
