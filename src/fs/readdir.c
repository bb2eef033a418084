// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reading directories. The cookie of an entry is its hash place, "." and ".." have 1 and 2,
 * so the next call goes on behind a cookie whatever was added or removed meanwhile. Entries are
 * gathered in batches inside a transaction and handed out without one.
 */
#include "fs/namei.h"
#include "fs/table.h"

#include <string.h>

#define COOKIE_DOT    1
#define COOKIE_DOTDOT 2
#define BATCH	      64

struct batch_entry {
	u64 cookie;
	struct bcfs_ino ino;
	u8 type, name_len;
	bool have_stat;
	struct bcfs_stat stat;
	char name[BCFS_NAME_MAX + 1];
};

struct readdir {
	struct bcfs *c;
	struct bcfs_ino dir;
	u32 snapshot, flags;
	u64 cookie;
	unsigned nr;
	struct batch_entry *batch;
};

/* One entry to the batch; 1: full. */
static int batch_add(struct btree_trans *trans, struct readdir *r, struct bkey_s_c k)
{
	struct batch_entry *e = &r->batch[r->nr];
	const struct bcfs_dirent *d;
	struct bcfs_inode_unpacked inode;
	int ret;

	if (k.k->type != KEY_TYPE_dirent)
		return 0;
	d = bkey_s_c_to_dirent(k).v;
	e->cookie = k.k->p.offset;
	e->ino = (struct bcfs_ino){r->dir.subvol, d->target};
	e->type = d->d_type == BCFS_DT_SUBVOL ? S_IFDIR >> 12 : d->d_type;
	e->name_len = d->name_len;
	memcpy(e->name, d->name, d->name_len);
	e->name[d->name_len] = 0;
	e->have_stat = false;

	if (r->flags & BCFS_READDIR_PLUS) {
		ret = inode_get_snapshot(trans, e->ino.inum, r->snapshot, &inode);
		if (!ret) {
			inode_to_stat(r->c, r->dir.subvol, &inode, &e->stat);
			e->have_stat = true;
		} else if (ret != -BCFS_ERR_no_such_inode) {
			return ret;
		}
	}
	r->cookie = e->cookie;
	return ++r->nr == BATCH;
}

static int batch_fill(struct readdir *r)
{
	struct btree_trans *trans = btree_trans_get(r->c->btree);
	int ret;

	r->nr = 0;
	ret = for_each_btree_key_max(trans, iter, BTREE_ID_dirents,
				     SPOS(r->dir.inum, r->cookie + 1, r->snapshot),
				     SPOS(r->dir.inum, UINT64_MAX, r->snapshot),
				     BTREE_ITER_PREFETCH, k, batch_add(trans, r, k));
	btree_trans_put(trans);
	return min(ret, 0);
}

/* With a reference taken before it is handed out, given back if it was not accepted. */
static int emit(struct readdir *r, const struct batch_entry *e, bcfs_dir_fn fn, void *arg)
{
	struct bcfs_dir_entry d = {.name = e->name,
				   .name_len = e->name_len,
				   .type = e->type,
				   .ino = e->ino,
				   .cookie = e->cookie,
				   .stat = e->have_stat ? &e->stat : NULL};
	int ret = e->have_stat ? inode_ref(r->c, e->ino) : 0;

	if (ret)
		return ret;
	ret = fn(arg, &d);
	if (ret && e->have_stat)
		bcfs_forget(r->c, e->ino, 1);
	return ret ? 1 : 0;
}

static int emit_dots(struct readdir *r, u64 parent, bcfs_dir_fn fn, void *arg)
{
	struct batch_entry *e = r->batch;
	int ret;

	*e = (struct batch_entry){
		.cookie = COOKIE_DOT, .ino = r->dir, .type = S_IFDIR >> 12, .name_len = 1};
	strcpy(e->name, ".");
	if (r->cookie < COOKIE_DOT) {
		ret = emit(r, e, fn, arg);
		if (ret)
			return ret;
		r->cookie = COOKIE_DOT;
	}
	e->cookie = COOKIE_DOTDOT;
	e->ino.inum = parent ?: r->dir.inum;
	e->name_len = 2;
	strcpy(e->name, "..");
	if (r->cookie < COOKIE_DOTDOT) {
		ret = emit(r, e, fn, arg);
		if (ret)
			return ret;
		r->cookie = COOKIE_DOTDOT;
	}
	return 0;
}

int bcfs_readdir(struct bcfs *c, struct bcfs_ino dir, uint64_t cookie, uint32_t flags,
		 bcfs_dir_fn fn, void *arg)
{
	struct readdir r = {.c = c, .dir = dir, .flags = flags, .cookie = cookie};
	struct bcfs_inode_unpacked inode;
	int ret = inode_get(c, dir, &inode);

	if (ret)
		return ret;
	if (!S_ISDIR(inode.mode))
		return -BCFS_ERR_not_a_directory;
	if (cookie >= BCFS_DIRENT_HASH_MAX)
		return 0;
	r.snapshot = inode.snapshot;
	r.batch = env_malloc(c->env, BATCH * sizeof(*r.batch));
	if (!r.batch)
		return -BCFS_ERR_nomem;

	ret = emit_dots(&r, inode.dir, fn, arg);
	while (!ret) {
		ret = batch_fill(&r);
		for (unsigned i = 0; i < r.nr && !ret; i++)
			ret = emit(&r, &r.batch[i], fn, arg);
		if (r.nr < BATCH)
			break;
	}
	env_free(c->env, r.batch);
	if (ret >= 0 && cookie < COOKIE_DOT && !(flags & BCFS_READDIR_NOATIME))
		inode_accessed(c, dir, &inode);
	return min(ret, 0);
}
