// SPDX-License-Identifier: LGPL-2.1-or-later
/* fsck: inodes by themselves and against deleted_inodes, extents against inodes, counters. */
#include "btree/extent_entries.h"
#include "codec/codec.h"
#include "fs/check.h"
#include "fs/namei.h"
#include "sb/sb_crypt.h"
#include "util/cleanup.h"
#include "util/printbuf.h"

#include <string.h>

void check_report(struct fs_check *chk, const char *fmt, ...)
{
	CLEANUP(printbuf_exit) struct printbuf out = PRINTBUF;
	va_list args;

	va_start(args, fmt);
	prt_vprintf(&out, fmt, args);
	va_end(args);
	chk->errors++;
	if (chk->report)
		chk->report(chk->arg, printbuf_str(&out));
}

struct each_subvol {
	struct check_subvol s;
	int (*fn)(struct check_subvol *s);
};

static int each_subvol_fn(void *arg, const struct subvol_node *sv)
{
	struct each_subvol *e = arg;

	e->s.sv = *sv;
	return e->fn(&e->s);
}

int check_each_subvol(struct bcfs *c, struct fs_check *chk, int (*fn)(struct check_subvol *s),
		      void *arg)
{
	struct each_subvol e = {.s = {.c = c, .chk = chk, .arg = arg}, .fn = fn};

	return subvols_for_each(c->snapshots, each_subvol_fn, &e);
}

/* ---- inodes ---- */

static int bit_get(struct btree_trans *trans, enum btree_id id, struct bpos pos, bool *ret)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	btree_iter_init(trans, &iter, id, pos, 0);
	k = btree_iter_peek_slot(&iter);
	err = bkey_err(k);
	*ret = !err && k.k->type != KEY_TYPE_deleted;
	btree_iter_exit(&iter);
	return err;
}

/* Does a dirent at the backpointer lead to the inode? */
static int backpointer_ok(struct btree_trans *trans, const struct bcfs_inode_unpacked *inode,
			  bool *ret)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	btree_iter_init(trans, &iter, BTREE_ID_dirents,
			SPOS(inode->dir, inode->dir_offset, inode->snapshot), 0);
	k = btree_iter_peek_slot(&iter);
	err = bkey_err(k);
	*ret = !err && k.k->type == KEY_TYPE_dirent &&
	       bkey_s_c_to_dirent(k).v->target == inode->inum;
	btree_iter_exit(&iter);
	return err;
}

static int has_names(struct btree_trans *trans, enum btree_id id,
		     const struct bcfs_inode_unpacked *inode, bool *ret)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	*ret = false;
	for_each_btree_key_in_trans(trans, iter, id, SPOS(inode->inum, 0, inode->snapshot),
				    SPOS(inode->inum, UINT64_MAX, inode->snapshot), 0, k,
				    err) if (k.k->type != KEY_TYPE_hash_whiteout)
	{
		*ret = true;
		break;
	}
	btree_iter_exit(&iter);
	return err;
}

static int check_inode(struct btree_trans *trans, struct check_subvol *s, struct bkey_s_c k)
{
	struct bcfs_inode_unpacked inode;
	bool deleted, bp = true, names = true, xattrs = true, root, wants_parent;
	int ret;

	if (k.k->type != KEY_TYPE_inode)
		return 0;
	ret = inode_unpack(k, &inode);
	if (ret)
		return ret;
	inode.snapshot = s->sv.snapshot;
	root = inode.inum == s->sv.root_inum;
	wants_parent = S_ISDIR(inode.mode) && !root && !inode_is_unlinked(&inode);

	ret = bit_get(trans, BTREE_ID_deleted_inodes, POS(s->sv.id, inode.inum), &deleted);
	if (!ret && inode.dir)
		ret = backpointer_ok(trans, &inode, &bp);
	if (!ret && S_ISDIR(inode.mode) && (inode.size || inode.nr_dirs))
		ret = has_names(trans, BTREE_ID_dirents, &inode, &names);
	if (!ret && (inode.xattr_pieces || inode.flags & BCFS_INODE_has_caps))
		ret = has_names(trans, BTREE_ID_xattrs, &inode, &xattrs);
	if (ret)
		return ret;

	ull inum = inode.inum;

	if (deleted != inode_is_unlinked(&inode))
		check_report(s->chk, "inodes: %u:%llu is %s, but %s deleted_inodes", s->sv.id, inum,
			     deleted ? "linked" : "unlinked", deleted ? "in" : "not in");
	if (!bp)
		check_report(
			s->chk,
			"inodes: %u:%llu has backpointer %llu:%llu, no entry there leads to it",
			s->sv.id, inum, (ull)inode.dir, (ull)inode.dir_offset);
	if (wants_parent && !inode.dir)
		check_report(s->chk, "inodes: %u:%llu is a directory without a parent", s->sv.id,
			     inum);
	if (root && (!S_ISDIR(inode.mode) || inode_is_unlinked(&inode)))
		check_report(s->chk, "inodes: %u:%llu is the root, mode %o flags %x", s->sv.id,
			     inum, inode.mode, inode.flags);
	if (!names)
		check_report(s->chk,
			     "inodes: %u:%llu has size %llu and %u subdirectories, is empty",
			     s->sv.id, inum, (ull)inode.size, inode.nr_dirs);
	if (!xattrs)
		check_report(s->chk, "inodes: %u:%llu says %u long xattrs, flags %x; has no xattrs",
			     s->sv.id, inum, inode.xattr_pieces, inode.flags);
	return 0;
}

static int check_inodes_subvol(struct check_subvol *s)
{
	struct btree_trans *trans = btree_trans_get(s->c->btree);
	struct bcfs_inode_unpacked root;
	int ret = for_each_btree_key_max(trans, iter, BTREE_ID_inodes, SPOS(0, 0, s->sv.snapshot),
					 SPOS(0, UINT64_MAX, s->sv.snapshot), BTREE_ITER_PREFETCH,
					 k, check_inode(trans, s, k));

	if (!ret) {
		ret = lockrestart_do(
			trans, inode_get_snapshot(trans, s->sv.root_inum, s->sv.snapshot, &root));
		if (ret == -BCFS_ERR_no_such_inode) {
			check_report(s->chk, "inodes: %u:%llu, the root, is missing", s->sv.id,
				     (ull)s->sv.root_inum);
			ret = 0;
		}
	}
	btree_trans_put(trans);
	return ret;
}

static int check_deleted(struct btree_trans *trans, struct bcfs *c, struct fs_check *chk,
			 struct bkey_s_c k)
{
	struct bcfs_inode_unpacked inode;
	struct bpos pos = k.k->p;
	u32 snapshot;
	int ret = subvol_snapshot(c->snapshots, pos.inode, &snapshot)
			  ?: inode_get_snapshot(trans, pos.offset, snapshot, &inode);

	if (ret != -BCFS_ERR_no_such_inode && ret != -BCFS_ERR_no_such_subvolume)
		return ret;
	check_report(chk, "deleted_inodes: %llu:%llu has no inode", (ull)pos.inode,
		     (ull)pos.offset);
	return 0;
}

int check_inodes(struct bcfs *c, struct fs_check *chk)
{
	int ret = check_each_subvol(c, chk, check_inodes_subvol, NULL);
	struct btree_trans *trans;

	if (ret)
		return ret;
	trans = btree_trans_get(c->btree);
	ret = for_each_btree_key (trans, iter, BTREE_ID_deleted_inodes, POS_MIN, 0, k,
				  check_deleted(trans, c, chk, k));
	btree_trans_put(trans);
	return ret;
}

/* ---- extents ---- */

/* How all extents are stored. */
struct extent_forms {
	u32 codecs; /* bits */
	bool plain; /* some are not encrypted */
	bool shared;
	u16 gen_min, gen_max;
};

struct extent_sum {
	u64 sectors;
	u64 data_end;	  /* sectors; of the last that is no reservation */
	u64 inline_bytes; /* contiguous from 0 */
	struct extent_forms *forms;
};

static void extent_forms_add(struct extent_forms *f, struct bkey_s_c k)
{
	struct extent_ptr_decoded p;

	for_each_extent_ptr(k, 0, it, p)
	{
		if (extent_compressed(p.crc))
			f->codecs |= 1U << p.crc->compression;
		if (!p.crc || !p.crc->key_gen) {
			f->plain = true;
			continue;
		}
		f->gen_min = f->gen_min ? min(f->gen_min, p.crc->key_gen) : p.crc->key_gen;
		f->gen_max = max(f->gen_max, p.crc->key_gen);
	}
}

static int extent_add(struct extent_sum *sum, bool regular, struct bkey_s_c k)
{
	switch (k.k->type) {
	case KEY_TYPE_inline_data:
		sum->inline_bytes += bkey_val_bytes(k.k);
		if (!regular)
			break;
		/* Of a symlink it counts no sectors. */
		sum->data_end = k.k->p.offset;
		sum->sectors += k.k->size;
		break;
	case KEY_TYPE_extent:
		extent_forms_add(sum->forms, k);
		/* fallthrough */
	case KEY_TYPE_reflink_p:
		sum->forms->shared |= k.k->type == KEY_TYPE_reflink_p;
		sum->data_end = k.k->p.offset;
		sum->sectors += k.k->size;
		break;
	case KEY_TYPE_reservation:
	case KEY_TYPE_error:
		sum->sectors += k.k->size;
		break;
	default:
		break;
	}
	return 0;
}

static int orphan_report(struct check_subvol *s, struct bkey_s_c k, u64 *last)
{
	if (*last != k.k->p.inode)
		check_report(s->chk, "extents: %u:%llu has extents, the inode is missing", s->sv.id,
			     (ull)k.k->p.inode);
	*last = k.k->p.inode;
	return 0;
}

/* Extents of numbers from @from to before @to belong to nobody. */
static int check_orphans(struct btree_trans *trans, struct check_subvol *s, u64 from, u64 to)
{
	u64 last = 0;

	if (from >= to)
		return 0;
	return for_each_btree_key_max(trans, iter, BTREE_ID_extents, SPOS(from, 0, s->sv.snapshot),
				      SPOS(to - 1, UINT64_MAX, s->sv.snapshot), 0, k,
				      orphan_report(s, k, &last));
}

static int check_extents_inode(struct btree_trans *trans, struct check_subvol *s,
			       const struct bcfs_inode_unpacked *inode)
{
	u32 block = s->c->fs_opts.block_bytes;
	struct extent_sum sum = {.forms = s->arg};
	ull inum = inode->inum;
	bool op = false;
	int ret = for_each_btree_key_max(trans, iter, BTREE_ID_extents,
					 SPOS(inode->inum, 0, s->sv.snapshot),
					 SPOS(inode->inum, UINT64_MAX, s->sv.snapshot), 0, k,
					 extent_add(&sum, S_ISREG(inode->mode), k));

	if (!ret)
		ret = lockrestart_do(
			trans,
			bit_get(trans, BTREE_ID_logged_ops,
				POS(0, bcfs_ino_pack((struct bcfs_ino){s->sv.id, inum})), &op));
	if (ret)
		return ret;

	if (sum.sectors != inode->sectors)
		check_report(s->chk, "inodes: %u:%llu has %llu sectors, its extents %llu", s->sv.id,
			     inum, (ull)inode->sectors, (ull)sum.sectors);
	if (S_ISREG(inode->mode) && !op && !inode_is_unlinked(inode) &&
	    sum.data_end * SECTOR_SIZE > round_up(inode->size, (u64)block))
		check_report(s->chk, "inodes: %u:%llu has size %llu, data up to %llu", s->sv.id,
			     inum, (ull)inode->size, (ull)sum.data_end * SECTOR_SIZE);
	if (!S_ISREG(inode->mode) && sum.sectors)
		check_report(s->chk, "extents: %u:%llu has data, mode %o", s->sv.id, inum,
			     inode->mode);
	if (S_ISLNK(inode->mode) && !(inode->flags & BCFS_INODE_symlink_in_extents) &&
	    !inode_is_unlinked(inode) && sum.inline_bytes != round_up(inode->size, 8ULL))
		check_report(s->chk, "inodes: %u:%llu is a symlink of %llu bytes, %llu are there",
			     s->sv.id, inum, (ull)inode->size, (ull)sum.inline_bytes);
	return 0;
}

/* 1: there is one. */
static int next_inode(struct btree_trans *trans, struct check_subvol *s, u64 from,
		      struct bcfs_inode_unpacked *ret)
{
	return for_each_btree_key_max(trans, iter, BTREE_ID_inodes, SPOS(0, from, s->sv.snapshot),
				      SPOS(0, UINT64_MAX, s->sv.snapshot), BTREE_ITER_PREFETCH, k,
				      k.k->type == KEY_TYPE_inode ? inode_unpack(k, ret) ?: 1 : 0);
}

static int check_extents_subvol(struct check_subvol *s)
{
	struct btree_trans *trans = btree_trans_get(s->c->btree);
	struct bcfs_inode_unpacked inode;
	u64 from = 0;
	int ret;

	while ((ret = next_inode(trans, s, from, &inode)) > 0) {
		ret = check_orphans(trans, s, from, inode.inum)
			      ?: check_extents_inode(trans, s, &inode);
		if (ret)
			break;
		from = inode.inum + 1;
	}
	if (!ret)
		ret = check_orphans(trans, s, from, UINT64_MAX);
	btree_trans_put(trans);
	return ret;
}

/* What the superblock says is demanded when they are read. */
static void check_forms_keys(const struct bcfs_sb *sb, struct fs_check *chk,
			     const struct extent_forms *f)
{
	if (!sb_has_encryption(sb)) {
		if (f->gen_max)
			check_report(chk, "extents: some are encrypted, the filesystem is not");
		return;
	}
	if (f->plain)
		check_report(chk, "extents: some are not encrypted, the filesystem is");
	if (f->gen_max && (f->gen_max > sb_crypt_gen(sb) || f->gen_min < sb_crypt_gen_oldest(sb)))
		check_report(chk,
			     "extents: some are encrypted by keys of generations %u to %u, there "
			     "are %u to %u",
			     f->gen_min, f->gen_max, sb_crypt_gen_oldest(sb), sb_crypt_gen(sb));
}

static int shared_forms(struct bcfs *c, struct extent_forms *f)
{
	struct btree_trans *trans = btree_trans_get(c->btree);
	int ret = for_each_btree_key (trans, iter, BTREE_ID_reflink, POS_MIN, BTREE_ITER_PREFETCH,
				      k, ({
					      extent_forms_add(f, k);
					      0;
				      }));

	btree_trans_put(trans);
	return ret;
}

int check_extents_vs_inodes(struct bcfs *c, struct fs_check *chk)
{
	struct extent_forms f = {0};
	int ret = check_each_subvol(c, chk, check_extents_subvol, &f) ?: shared_forms(c, &f);

	for (unsigned type = 0; !ret && c->sb && type < BCFS_COMPRESSION_NR; type++)
		if ((f.codecs >> type & 1) && !sb_tells_compression(c->sb, type))
			check_report(chk,
				     "extents: some are compressed with %s, the superblock "
				     "does not say so",
				     compression_type_name(type));
	if (!ret && c->sb)
		check_forms_keys(c->sb->sb, chk, &f);
	if (!ret && c->sb && f.shared && !sb_tells_reflink(c->sb))
		check_report(chk, "extents: some are shared, the superblock does not say so");
	return ret;
}

/* ---- counters ---- */

static int count_type(struct btree_trans *trans, enum btree_id id, u8 type, s64 *nr)
{
	return for_each_btree_key (trans, iter, id, POS_MIN,
				   BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_PREFETCH, k, ({
					   *nr += k.k->type == type;
					   0;
				   }));
}

int check_fs_accounting(struct bcfs *c, struct fs_check *chk)
{
	struct btree_trans *trans = btree_trans_get(c->btree);
	struct alloc_usage u;
	s64 inodes = 0, dirents = 0;
	int ret = count_type(trans, BTREE_ID_inodes, KEY_TYPE_inode, &inodes)
			  ?: count_type(trans, BTREE_ID_dirents, KEY_TYPE_dirent, &dirents);

	btree_trans_put(trans);
	if (ret)
		return ret;
	alloc_usage(c->alloc, &u);
	if (u.counters[BCFS_ACCOUNTING_nr_inodes] != inodes)
		check_report(chk, "accounting: nr_inodes is %lld, counted %lld",
			     (long long)u.counters[BCFS_ACCOUNTING_nr_inodes], (long long)inodes);
	if (u.counters[BCFS_ACCOUNTING_nr_dirents] != dirents)
		check_report(chk, "accounting: nr_dirents is %lld, counted %lld",
			     (long long)u.counters[BCFS_ACCOUNTING_nr_dirents], (long long)dirents);
	return 0;
}
