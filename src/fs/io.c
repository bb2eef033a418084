// SPDX-License-Identifier: LGPL-2.1-or-later
/* Read, write, seek, copy, sync. */
#include "fs/io.h"
#include "fs/namei.h"
#include "fs/table.h"
#include "journal/journal.h"
#include "sb/sb.h"
#include "util/planted.h"

#include <string.h>

#define COPY_BYTES  (1U << 20)
#define SHARE_BYTES (64ULL << 20) /* with both files locked */

struct data_file io_file(const struct bcfs *c, struct bcfs_ino ino,
			 const struct bcfs_inode_unpacked *inode)
{
	return (struct data_file){.snapshot = inode->snapshot,
				  .inum = ino.inum,
				  .compression = inode->opt_compression ? inode->opt_compression - 1
									: c->fs_opts.compression,
				  .background = inode->opt_background_compression
							? inode->opt_background_compression - 1
							: c->fs_opts.background_compression};
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

static int64_t read_file(struct bcfs *c, struct bcfs_ino ino, u64 offset, void *buf, size_t len,
			 struct bcfs_inode_unpacked *inode)
{
	int64_t ret;

	inode_lock_shared(c, ino);
	ret = read_locked(c, ino, offset, buf, len, inode);
	inode_unlock_shared(c, ino);
	return ret;
}

int64_t bcfs_read(struct bcfs *c, struct bcfs_ino ino, uint64_t offset, void *buf, size_t len)
{
	struct bcfs_inode_unpacked inode;
	int64_t ret = read_file(c, ino, offset, buf, len, &inode);

	if (ret >= 0)
		inode_accessed(c, ino, &inode);
	return ret;
}

int64_t bcfs_read_noatime(struct bcfs *c, struct bcfs_ino ino, uint64_t offset, void *buf,
			  size_t len)
{
	struct bcfs_inode_unpacked inode;

	return read_file(c, ino, offset, buf, len, &inode);
}

/* ---- write ---- */

/* All in front of changing [offset, offset + len), and what is to be done to the inode with it. */
static int write_begin(struct bcfs *c, struct bcfs_ino ino, u64 offset, u64 len, u32 flags,
		       struct bcfs_inode_unpacked *inode, struct io_update *u)
{
	int ret = inode_get(c, ino, inode) ?: io_check_file(inode);

	if (ret)
		return ret;
	*u = (struct io_update){.c = c,
				.ino = ino,
				.now = fs_now(c),
				.grow = true,
				.times = !(flags & BCFS_WRITE_KEEP_TIMES),
				.kill_priv = flags & BCFS_WRITE_KILL_PRIV};
	if (inode->flags & BCFS_INODE_immutable)
		return -BCFS_ERR_immutable;
	if (offset > FILE_SIZE_MAX || len > FILE_SIZE_MAX - offset)
		return -BCFS_ERR_file_too_big;
	/* A written file has lost its capabilities, whoever writes. */
	u->kill_priv |= !!(inode->flags & BCFS_INODE_has_caps);
	return len && offset > inode->size ? io_zero_tail(c, ino, inode) : 0;
}

static int64_t write_locked(struct bcfs *c, struct bcfs_ino ino, u64 offset, const void *buf,
			    size_t len, u32 flags)
{
	struct bcfs_inode_unpacked inode;
	u64 done = 0, seq = 0;
	struct io_update u;
	struct data_file f;
	int ret = write_begin(c, ino, offset, len, flags, &inode, &u);

	if (ret || !len)
		return ret;
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

/*
 * How much of [src_offset, src_offset + len) can be shared: whole blocks, and the source's last one
 * where the destination ends with it. 0: none of it at its beginning.
 */
static u64 share_len(const struct bcfs *c, const struct bcfs_inode_unpacked *src, u64 src_offset,
		     const struct bcfs_inode_unpacked *dst, u64 dst_offset, u64 len)
{
	u64 block = c->fs_opts.block_bytes;

	if ((src_offset | dst_offset) % block || src_offset >= src->size)
		return 0;
	if (len >= src->size - src_offset) {
		len = src->size - src_offset;
		if (dst_offset + len >= dst->size)
			return len;
	}
	return round_down(len, block);
}

/* @same: nobody is to see that anything was done. */
static int64_t share_locked(struct bcfs *c, struct bcfs_ino src,
			    const struct bcfs_inode_unpacked *src_inode, u64 src_offset,
			    struct bcfs_ino dst, u64 dst_offset, u64 len, u32 flags, bool same)
{
	struct bcfs_inode_unpacked inode;
	struct data_file from, to;
	struct io_update u;
	u64 done = 0;
	int ret = (c->sb ? sb_use_reflink(c->sb) : 0)
			  ?: write_begin(c, dst, dst_offset, len, flags, &inode, &u);

	if (ret)
		return ret;
	u.times &= !same;
	u.kill_priv &= !same;
	from = io_file(c, src, src_inode);
	to = io_file(c, dst, &inode);
	ret = data_share(c->data, &from, src_offset, &to, dst_offset, len, io_commit, &u, &done);
	return done ? (int64_t)done : ret;
}

/* Share what can be, or copy up to where that may be again. *@buf: allocated when it is needed. */
static int64_t copy_piece(struct bcfs *c, struct bcfs_ino src, u64 src_offset, struct bcfs_ino dst,
			  u64 dst_offset, void **buf, u64 len, u32 flags)
{
	struct bcfs_inode_unpacked inode, to;
	u64 block = c->fs_opts.block_bytes, shared;
	int64_t ret;

	inode_lock2(c, src, dst);
	ret = inode_get(c, src, &inode) ?: io_check_file(&inode) ?: inode_get(c, dst, &to);
	/* As copy_file_range(2), which wants a file that is not opened for appending. */
	if (!ret && to.flags & BCFS_INODE_append)
		ret = -BCFS_ERR_append_only;
	shared = ret ? 0 : share_len(c, &inode, src_offset, &to, dst_offset, min(len, SHARE_BYTES));
	if (!ret && shared) {
		ret = share_locked(c, src, &inode, src_offset, dst, dst_offset, shared, flags,
				   false);
	} else if (!ret) {
		len = min_t(u64, len, COPY_BYTES);
		if (src_offset % block && src_offset % block == dst_offset % block)
			len = min(len, block - src_offset % block);
		if (!*buf)
			*buf = env_malloc_aligned(c->env, DATA_IO_ALIGN, COPY_BYTES);
		ret = *buf ? read_locked(c, src, src_offset, *buf, len, &inode) : -BCFS_ERR_nomem;
		if (ret > 0)
			ret = write_locked(c, dst, dst_offset, *buf, ret, flags);
	}
	inode_unlock2(c, src, dst);
	return ret;
}

int64_t bcfs_copy_range(struct bcfs *c, struct bcfs_ino src, uint64_t src_offset,
			struct bcfs_ino dst, uint64_t dst_offset, uint64_t len, uint32_t flags)
{
	int64_t ret = fs_may_write(c);
	unsigned tries = 0;
	void *buf = NULL;
	u64 done = 0;

	if (ret)
		return ret;
	if (dst_offset >= FILE_SIZE_MAX)
		return -BCFS_ERR_file_too_big;
	if (src_offset >= FILE_SIZE_MAX)
		return 0;
	len = min_t(u64, len, FILE_SIZE_MAX - max(src_offset, dst_offset));
	if (src.subvol == dst.subvol && src.inum == dst.inum && src_offset < dst_offset + len &&
	    dst_offset < src_offset + len)
		return -BCFS_ERR_offset_invalid;
	while (done < len) {
		ret = copy_piece(c, src, src_offset + done, dst, dst_offset + done, &buf,
				 len - done, flags);
		if (io_make_room(c, ret, &tries))
			continue;
		if (ret <= 0)
			break;
		done += ret;
	}
	env_free(c->env, buf);
	return done ? (int64_t)done : ret;
}

/* ---- dedupe ---- */

/* How much of the two is the same: whole blocks, or all of it if @whole. */
static u64 same_len(const struct bcfs *c, const u8 *a, const u8 *b, u64 len, bool whole)
{
	u64 block = c->fs_opts.block_bytes, same = 0;

	while (same + block <= len && !memcmp(a + same, b + same, block))
		same += block;
	if (whole && len - same < block && !memcmp(a + same, b + same, len - same))
		same = len;
	return same;
}

/* A piece of it: fewer bytes than asked for where they differ, or end. */
static int64_t dedupe_piece(struct bcfs *c, struct bcfs_ino src, u64 src_offset,
			    struct bcfs_ino dst, u64 dst_offset, u8 *buf, u64 len)
{
	struct bcfs_inode_unpacked from, to;
	u64 same = 0;
	bool whole;
	int64_t ret;

	inode_lock2(c, src, dst);
	ret = read_locked(c, src, src_offset, buf, len, &from);
	if (ret > 0)
		ret = read_locked(c, dst, dst_offset, buf + COPY_BYTES, (size_t)ret, &to);
	if (ret > 0) {
		whole = src_offset + (u64)ret == from.size && dst_offset + (u64)ret == to.size;
		same = same_len(c, buf, buf + COPY_BYTES, (u64)ret, whole);
		ret = 0;
	}
	if (same)
		ret = share_locked(c, src, &from, src_offset, dst, dst_offset, same, 0, true);
	inode_unlock2(c, src, dst);
	return ret;
}

int64_t bcfs_dedupe_range(struct bcfs *c, struct bcfs_ino src, uint64_t src_offset,
			  struct bcfs_ino dst, uint64_t dst_offset, uint64_t len)
{
	int64_t ret = fs_may_write(c);
	unsigned tries = 0;
	u64 done = 0;
	u8 *buf;

	if (ret)
		return ret;
	if ((src_offset | dst_offset) % c->fs_opts.block_bytes || src_offset > FILE_SIZE_MAX ||
	    dst_offset > FILE_SIZE_MAX)
		return -BCFS_ERR_range_unaligned;
	len = min_t(u64, len, FILE_SIZE_MAX - max(src_offset, dst_offset));
	if (src.subvol == dst.subvol && src.inum == dst.inum && src_offset < dst_offset + len &&
	    dst_offset < src_offset + len)
		return -BCFS_ERR_offset_invalid;
	buf = env_malloc_aligned(c->env, DATA_IO_ALIGN, 2 * (size_t)COPY_BYTES);
	if (!buf)
		return -BCFS_ERR_nomem;
	while (done < len) {
		u64 piece = min_t(u64, len - done, COPY_BYTES);

		ret = dedupe_piece(c, src, src_offset + done, dst, dst_offset + done, buf, piece);
		if (io_make_room(c, ret, &tries))
			continue;
		if (ret > 0)
			done += (u64)ret;
		if (ret < (int64_t)piece)
			break;
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
