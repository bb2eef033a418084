// SPDX-License-Identifier: LGPL-2.1-or-later
/* fsck: link counts, and that every directory hangs below the root. */
#include "fs/check.h"
#include "util/cleanup.h"
#include "util/darray.h"

/* Inodes counted in one pass over the dirents: 24 bytes each. */
#define NLINKS_PASS (1U << 20)

/* ---- link counts ---- */

struct link_count {
	u64 inum;
	u64 want, found;
};

typedef DARRAY(struct link_count) darray_links;

static u64 links_wanted(const struct check_subvol *s, const struct bcfs_inode_unpacked *inode)
{
	if (inode_is_unlinked(inode) || inode->inum == s->sv.root_inum)
		return 0;
	return S_ISDIR(inode->mode) ? 1 : (u64)inode->nlink + 1;
}

/* 1: the pass is full. */
static int links_add(struct check_subvol *s, darray_links *links, struct bkey_s_c k)
{
	struct bcfs_inode_unpacked inode;
	int ret;

	if (k.k->type != KEY_TYPE_inode)
		return 0;
	ret = inode_unpack(k, &inode)
		      ?: darray_push(links,
				     (struct link_count){inode.inum, links_wanted(s, &inode), 0});
	return ret ?: links->nr == NLINKS_PASS;
}

static struct link_count *links_find(darray_links *links, u64 inum)
{
	size_t l = 0, r = links->nr;

	while (l < r) {
		size_t m = (l + r) / 2;

		if (links->data[m].inum < inum)
			l = m + 1;
		else
			r = m;
	}
	return l < links->nr && links->data[l].inum == inum ? &links->data[l] : NULL;
}

static int links_count(darray_links *links, struct bkey_s_c k)
{
	const struct bcfs_dirent *d;
	struct link_count *n;

	if (k.k->type != KEY_TYPE_dirent)
		return 0;
	d = bkey_s_c_to_dirent(k).v;
	n = d->d_type == BCFS_DT_SUBVOL ? NULL : links_find(links, d->target);
	if (n)
		n->found++;
	return 0;
}

static int check_nlinks_subvol(struct check_subvol *s)
{
	CLEANUP(darray_exit_p) darray_links links = {0};
	struct btree_trans *trans = btree_trans_get(s->c->btree);
	u64 from = 0;
	int more, ret = 0;

	do {
		links.nr = 0;
		more = for_each_btree_key_max(trans, iter, BTREE_ID_inodes,
					      SPOS(0, from, s->sv.snapshot),
					      SPOS(0, UINT64_MAX, s->sv.snapshot),
					      BTREE_ITER_PREFETCH, k, links_add(s, &links, k));
		if (more < 0 || !links.nr)
			break;
		ret = for_each_btree_key (trans, iter, BTREE_ID_dirents, SPOS(0, 0, s->sv.snapshot),
					  BTREE_ITER_PREFETCH, k, links_count(&links, k));
		darray_for_each (links, n)
			if (!ret && n->want != n->found)
				check_report(s->chk, "inodes: %u:%llu has %llu links, %llu names",
					     s->sv.id, (ull)n->inum, (ull)n->want, (ull)n->found);
		from = darray_last(&links).inum + 1;
	} while (!ret && more);
	btree_trans_put(trans);
	return min(more, 0) ?: ret;
}

int check_nlinks(struct bcfs *c, struct fs_check *chk)
{
	return check_each_subvol(c, chk, check_nlinks_subvol, NULL);
}

/* ---- the tree ---- */

struct dir_node {
	u64 inum : 63, done : 1; /* done: known to hang below the root, or reported */
	u64 parent;
};

typedef DARRAY(struct dir_node) darray_dirs;

static int dirs_add(darray_dirs *dirs, struct bkey_s_c k)
{
	struct bcfs_inode_unpacked inode;
	int ret;

	if (k.k->type != KEY_TYPE_inode)
		return 0;
	ret = inode_unpack(k, &inode);
	if (ret || !S_ISDIR(inode.mode) || inode_is_unlinked(&inode))
		return ret;
	return darray_push(dirs, (struct dir_node){.inum = inode.inum, .parent = inode.dir});
}

static struct dir_node *dirs_find(darray_dirs *dirs, u64 inum)
{
	size_t l = 0, r = dirs->nr;

	while (l < r) {
		size_t m = (l + r) / 2;

		if (dirs->data[m].inum < inum)
			l = m + 1;
		else
			r = m;
	}
	return l < dirs->nr && dirs->data[l].inum == inum ? &dirs->data[l] : NULL;
}

/* Walk up until something known; everything on the way is known then. */
static void check_dir(struct check_subvol *s, darray_dirs *dirs, struct dir_node *start)
{
	struct dir_node *n = start, *slow = start;
	u64 steps = 0;

	while (!n->done && n->inum != s->sv.root_inum) {
		struct dir_node *up = n->parent ? dirs_find(dirs, n->parent) : NULL;

		if (!up) {
			check_report(s->chk,
				     "inodes: %u:%llu, a directory, has parent %llu, which is no "
				     "directory",
				     s->sv.id, (ull)n->inum, (ull)n->parent);
			break;
		}
		n = up;
		if (++steps % 2 == 0)
			slow = dirs_find(dirs, slow->parent);
		if (n == slow) {
			check_report(s->chk, "inodes: %u:%llu, a directory, is its own ancestor",
				     s->sv.id, (ull)n->inum);
			break;
		}
	}
	for (n = start; n && !n->done; n = n->parent ? dirs_find(dirs, n->parent) : NULL)
		n->done = 1;
}

static int check_structure_subvol(struct check_subvol *s)
{
	CLEANUP(darray_exit_p) darray_dirs dirs = {0};
	struct btree_trans *trans = btree_trans_get(s->c->btree);
	int ret = for_each_btree_key_max(trans, iter, BTREE_ID_inodes, SPOS(0, 0, s->sv.snapshot),
					 SPOS(0, UINT64_MAX, s->sv.snapshot), BTREE_ITER_PREFETCH,
					 k, dirs_add(&dirs, k));

	btree_trans_put(trans);
	darray_for_each (dirs, n)
		if (!ret)
			check_dir(s, &dirs, n);
	return ret;
}

int check_directory_structure(struct bcfs *c, struct fs_check *chk)
{
	return check_each_subvol(c, chk, check_structure_subvol, NULL);
}
