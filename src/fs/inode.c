// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fs/inode.h"
#include "util/printbuf.h"
#include "util/varint.h"

#include <string.h>

/* ---- packing ---- */

static int unpack_fields(const struct bcfs_inode *v, unsigned val_bytes,
			 struct bcfs_inode_unpacked *ret)
{
	const u8 *p = v->fields, *end = (const u8 *)v + val_bytes;
	unsigned i = 0, bytes;
	u64 n;

#define x(name, bits, doc)                                                                         \
	if (i++ < v->nr_fields) {                                                                  \
		bytes = varint_decode(p, end, &n);                                                 \
		if (!bytes || (bits < 64 && n >> (bits & 63)))                                     \
			return -BCFS_ERR_inode_invalid;                                            \
		ret->name = n;                                                                     \
		p += bytes;                                                                        \
	}
	BCFS_INODE_FIELDS(x)
#undef x

	const u8 *unknown = p;

	for (; i < v->nr_fields; i++) {
		bytes = varint_decode(p, end, &n);
		if (!bytes)
			return -BCFS_ERR_inode_invalid;
		p += bytes;
		ret->nr_unknown++;
	}
	if (p - unknown > INODE_UNKNOWN_MAX)
		return -BCFS_ERR_inode_invalid;
	ret->unknown_bytes = p - unknown;
	memcpy(ret->unknown, unknown, ret->unknown_bytes);
	return 0;
}

int inode_unpack(struct bkey_s_c k, struct bcfs_inode_unpacked *ret)
{
	const struct bcfs_inode *v = bkey_s_c_to_inode(k).v;

	if (bkey_val_bytes(k.k) < sizeof(*v))
		return -BCFS_ERR_inode_invalid;

	memset(ret, 0, offsetof(struct bcfs_inode_unpacked, unknown));
	ret->inum = k.k->p.offset;
	ret->snapshot = k.k->p.snapshot;
	ret->flags = v->flags;
	ret->hash_seed = v->hash_seed;
	ret->journal_seq = v->journal_seq;
	ret->mode = v->mode;
	return unpack_fields(v, bkey_val_bytes(k.k), ret);
}

void inode_pack(struct inode_key_buf *dst, const struct bcfs_inode_unpacked *inode)
{
	u8 *p, *last, *end = dst->fields + sizeof(dst->fields);
	unsigned nr = 0;

	memset(dst, 0, sizeof(*dst));
	bkey_inode_init(&dst->k.k_i);
	dst->k.k.p = SPOS(0, inode->inum, inode->snapshot);
	dst->k.v.hash_seed = inode->hash_seed;
	dst->k.v.flags = inode->flags;
	dst->k.v.mode = inode->mode;
	dst->k.v.journal_seq = inode->journal_seq;

	last = p = dst->k.v.fields;
#define x(name, bits, doc)                                                                         \
	p += varint_encode(p, end, inode->name);                                                   \
	nr++;                                                                                      \
	if (inode->name || inode->nr_unknown) {                                                    \
		last = p;                                                                          \
		dst->k.v.nr_fields = nr;                                                           \
	}
	BCFS_INODE_FIELDS(x)
#undef x
	if (inode->nr_unknown) {
		memcpy(last, inode->unknown, inode->unknown_bytes);
		last += inode->unknown_bytes;
		dst->k.v.nr_fields += inode->nr_unknown;
	} else {
		memset(last, 0, p - last);
	}
	set_bkey_val_bytes(&dst->k.k, last - (u8 *)&dst->k.v);
}

static const char *const inode_flag_names[] = {
#define x(name, bit) [bit] = #name,
	BCFS_INODE_FLAGS(x)
#undef x
};

void inode_to_text(struct printbuf *out, const struct bcfs_inode_unpacked *inode)
{
	prt_printf(out, "mode %o flags ", inode->mode);
	if (inode->flags)
		prt_bitflags(out, inode_flag_names, ARRAY_SIZE(inode_flag_names), inode->flags);
	else
		prt_str(out, "(none)");
	prt_printf(out, " journal_seq %llu hash_seed %016llx",
		   (unsigned long long)inode->journal_seq, (unsigned long long)inode->hash_seed);
#define x(name, bits, doc)                                                                         \
	if (inode->name)                                                                           \
		prt_printf(out, " " #name " %llu", (unsigned long long)inode->name);
	BCFS_INODE_FIELDS(x)
#undef x
	if (inode->nr_unknown)
		prt_printf(out, " (%u unknown fields)", inode->nr_unknown);
}

/* ---- times ---- */

#define NSEC_PER_SEC 1000000000ULL

u64 fs_time_pack(s64 sec, u32 nsec)
{
	u64 s;

	if (sec < BCFS_TIME_EPOCH_SEC)
		return 0;
	s = (u64)sec - (u64)BCFS_TIME_EPOCH_SEC;
	if (s > UINT64_MAX / NSEC_PER_SEC - 1)
		return UINT64_MAX;
	return s * NSEC_PER_SEC + min_t(u64, nsec, NSEC_PER_SEC - 1);
}

void fs_time_unpack(u64 t, s64 *ret_sec, u32 *ret_nsec)
{
	*ret_sec = (s64)(t / NSEC_PER_SEC) + BCFS_TIME_EPOCH_SEC;
	*ret_nsec = t % NSEC_PER_SEC;
}

u64 fs_now(struct bcfs *c)
{
	u64 ns = env_real_ns(c->env);

	return fs_time_pack(ns / NSEC_PER_SEC, ns % NSEC_PER_SEC);
}

/* ---- links ---- */

u32 inode_nlink(const struct bcfs_inode_unpacked *inode)
{
	if (inode_is_unlinked(inode))
		return 0;
	if (S_ISDIR(inode->mode))
		return min_t(u64, (u64)inode->nr_dirs + 2, UINT32_MAX);
	return inode->nlink + 1;
}

int inode_nlink_inc(struct bcfs_inode_unpacked *inode)
{
	if (inode_is_unlinked(inode)) {
		inode->flags &= ~BCFS_INODE_unlinked;
		return 0;
	}
	if (inode->nlink >= UINT32_MAX - 2)
		return -BCFS_ERR_too_many_links;
	inode->nlink++;
	return 0;
}

void inode_nlink_dec(struct bcfs_inode_unpacked *inode)
{
	if (inode->nlink && !S_ISDIR(inode->mode))
		inode->nlink--;
	else
		inode->flags |= BCFS_INODE_unlinked;
}

/* ---- reading and writing ---- */

int inode_peek_snapshot(struct btree_trans *trans, struct btree_iter *iter, u64 inum, u32 snapshot,
			unsigned flags, struct bcfs_inode_unpacked *ret)
{
	struct bkey_s_c k;
	int err;

	btree_iter_init(trans, iter, BTREE_ID_inodes, SPOS(0, inum, snapshot), flags);
	k = btree_iter_peek_slot(iter);
	err = bkey_err(k);
	if (err)
		return err;
	if (k.k->type != KEY_TYPE_inode)
		return -BCFS_ERR_no_such_inode;
	err = inode_unpack(k, ret);
	if (!err)
		ret->snapshot = snapshot;
	return err;
}

int inode_peek(struct btree_trans *trans, struct btree_iter *iter, struct bcfs_ino ino,
	       unsigned flags, struct bcfs_inode_unpacked *ret)
{
	struct bcfs *c = btree_trans_ops_arg(trans);
	u32 snapshot = 0;
	int err = subvol_snapshot(c->snapshots, ino.subvol, &snapshot);

	if (err) {
		btree_iter_init(trans, iter, BTREE_ID_inodes, SPOS(0, ino.inum, 0), flags);
		return err;
	}
	return inode_peek_snapshot(trans, iter, ino.inum, snapshot, flags, ret);
}

int inode_get_snapshot(struct btree_trans *trans, u64 inum, u32 snapshot,
		       struct bcfs_inode_unpacked *ret)
{
	struct btree_iter iter;
	int err = inode_peek_snapshot(trans, &iter, inum, snapshot, 0, ret);

	btree_iter_exit(&iter);
	return err;
}

int inode_write(struct btree_trans *trans, struct btree_iter *iter,
		const struct bcfs_inode_unpacked *inode)
{
	struct inode_key_buf *buf = btree_trans_kmalloc(trans, sizeof(*buf));

	inode_pack(buf, inode);
	return btree_trans_update(trans, iter, &buf->k.k_i, 0);
}

static int inode_get_trans(struct btree_trans *trans, struct bcfs_ino ino,
			   struct bcfs_inode_unpacked *ret)
{
	struct btree_iter iter;
	int err = inode_peek(trans, &iter, ino, 0, ret);

	btree_iter_exit(&iter);
	return err;
}

int inode_get(struct bcfs *c, struct bcfs_ino ino, struct bcfs_inode_unpacked *ret)
{
	struct btree_trans *trans = btree_trans_get(c->btree);
	int err = lockrestart_do(trans, inode_get_trans(trans, ino, ret));

	btree_trans_put(trans);
	return err;
}

static int inode_update_trans(struct btree_trans *trans, struct bcfs_ino ino, unsigned commit_flags,
			      inode_update_fn fn, void *arg)
{
	struct bcfs_inode_unpacked inode;
	struct btree_iter iter;
	int ret =
		inode_peek(trans, &iter, ino, BTREE_ITER_INTENT, &inode) ?: fn(trans, &inode, arg);

	if (!ret)
		ret = inode_write(trans, &iter, &inode)
			      ?: btree_trans_commit(trans, commit_flags, NULL);
	btree_iter_exit(&iter);
	return ret == INODE_UNCHANGED ? 0 : ret;
}

int inode_update_flags(struct bcfs *c, struct bcfs_ino ino, unsigned commit_flags,
		       inode_update_fn fn, void *arg)
{
	struct btree_trans *trans = btree_trans_get(c->btree);
	int ret = lockrestart_do(trans, inode_update_trans(trans, ino, commit_flags, fn, arg));

	btree_trans_put(trans);
	return ret;
}

int deleted_inode_mark(struct btree_trans *trans, struct bcfs_ino ino, bool set)
{
	return btree_trans_bit_mod(trans, BTREE_ID_deleted_inodes, POS(ino.subvol, ino.inum), set);
}

/* ---- key behaviour ---- */

static int inode_invalid(struct printbuf *err, const char *what)
{
	prt_printf(err, "inode: %s", what);
	return -BCFS_ERR_inode_invalid;
}

static bool mode_valid(u16 mode)
{
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) ||
	       S_ISFIFO(mode) || S_ISSOCK(mode);
}

static int inode_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			  struct printbuf *err)
{
	struct bcfs_inode_unpacked inode;

	if (btree != BTREE_ID_inodes || level)
		return inode_invalid(err, "in the wrong btree");
	if (k.k->p.inode || !k.k->p.offset || k.k->p.offset > BCFS_INUM_MAX)
		return inode_invalid(err, "number out of range");
	if (!k.k->p.snapshot)
		return inode_invalid(err, "snapshot 0");
	if (inode_unpack(k, &inode))
		return inode_invalid(err, "fields cut off or out of range");
	if (!mode_valid(inode.mode))
		return inode_invalid(err, "unknown file type");
	if (inode.size > INT64_MAX)
		return inode_invalid(err, "size out of range");
	if (inode.dir > BCFS_INUM_MAX || inode.dir_offset > INT64_MAX)
		return inode_invalid(err, "backpointer out of range");
	if (inode.subvol > BCFS_SUBVOL_MAX || inode.parent_subvol > BCFS_SUBVOL_MAX)
		return inode_invalid(err, "subvolume out of range");
	return 0;
}

static void inode_key_to_text(struct printbuf *out, struct bkey_s_c k)
{
	struct bcfs_inode_unpacked inode;

	if (inode_unpack(k, &inode))
		prt_str(out, "(invalid)");
	else
		inode_to_text(out, &inode);
}

static bool is_inode(struct bkey_s_c k)
{
	return k.k->type == KEY_TYPE_inode;
}

/* Called once for each change that has an inode on either side. */
static int inode_trigger(struct btree_trans *trans, enum btree_id btree, unsigned level,
			 struct bkey_s_c old, struct bkey_s_c new, unsigned flags)
{
	struct bcfs *c = btree_trans_ops_arg(trans);
	int delta = is_inode(new) - is_inode(old);

	if (delta)
		btree_trans_account(trans, BCFS_ACCOUNTING_nr_inodes, delta);
	return snapshot_inodes_trigger(trans, c->snapshots, old, new);
}

/* The seq of the last change: for who looks at a dump. */
static void inode_commit_hook(struct btree_trans *trans, enum btree_id btree, unsigned level,
			      struct bkey_s_c old, struct bkey_i *new, u64 seq)
{
	bkey_i_to_inode(new)->v.journal_seq = seq;
}

const struct bkey_ops bkey_ops_inode = {
	.validate = inode_validate,
	.to_text = inode_key_to_text,
	.trigger = inode_trigger,
	.commit_hook = inode_commit_hook,
};

static int generation_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			       struct printbuf *err)
{
	if (btree != BTREE_ID_inodes || level || k.k->p.inode || k.k->p.offset > BCFS_INUM_MAX ||
	    !k.k->p.snapshot) {
		prt_str(err, "inode generation: wrong position");
		return -BCFS_ERR_inode_generation_invalid;
	}
	if (bkey_val_bytes(k.k) < sizeof(struct bcfs_inode_generation)) {
		prt_str(err, "inode generation: wrong size");
		return -BCFS_ERR_inode_generation_invalid;
	}
	return 0;
}

static void generation_to_text(struct printbuf *out, struct bkey_s_c k)
{
	prt_printf(out, "generation %u", bkey_s_c_to_inode_generation(k).v->generation);
}

static int generation_trigger(struct btree_trans *trans, enum btree_id btree, unsigned level,
			      struct bkey_s_c old, struct bkey_s_c new, unsigned flags)
{
	struct bcfs *c = btree_trans_ops_arg(trans);

	return snapshot_inodes_trigger(trans, c->snapshots, old, new);
}

const struct bkey_ops bkey_ops_inode_generation = {
	.validate = generation_validate,
	.to_text = generation_to_text,
	.trigger = generation_trigger,
};
