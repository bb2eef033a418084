// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Deleting inodes that have no link and no reference: extents, xattrs, what is left of a
 * directory's hash chains, at last the inode key together with its entry in
 * deleted_inodes. Every commit is bounded, and a crash between two leaves an inode that the next
 * mount reaps.
 */
#include "fs/io.h"
#include "fs/table.h"
#include "util/cleanup.h"
#include "util/darray.h"

#define REAP_KEYS  32	/* deleted in one commit */
#define REAP_BATCH 1024 /* inodes listed at once */

#define REAP_MORE  1
#define REAP_LATER 2

/* All that is left under @inum in a hashed btree, REAP_KEYS of them: REAP_MORE if that was not all.
 */
static int delete_names(struct btree_trans *trans, enum btree_id id, u64 inum, u32 snapshot)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	unsigned nr = 0;
	int ret;

	for_each_btree_key_in_trans(trans, iter, id, SPOS(inum, 0, snapshot),
				    SPOS(inum, UINT64_MAX, snapshot), BTREE_ITER_INTENT, k, ret)
	{
		if (nr++ == REAP_KEYS) {
			ret = REAP_MORE;
			break;
		}
		ret = btree_trans_delete_at(trans, &iter, 0);
		if (ret)
			break;
	}
	btree_iter_exit(&iter);
	return ret;
}

static int reap_names_trans(struct btree_trans *trans, const struct bcfs_inode_unpacked *inode)
{
	int ret = delete_names(trans, S_ISDIR(inode->mode) ? BTREE_ID_dirents : BTREE_ID_xattrs,
			       inode->inum, inode->snapshot);
	int err;

	if (!ret && S_ISDIR(inode->mode))
		ret = delete_names(trans, BTREE_ID_xattrs, inode->inum, inode->snapshot);
	if (ret < 0)
		return ret;
	err = btree_trans_commit(trans, BTREE_COMMIT_REMOVES, NULL);
	return err ?: ret;
}

static bool has_extents(const struct bcfs_inode_unpacked *inode)
{
	return inode->sectors || S_ISLNK(inode->mode);
}

/*
 * All of it in one commit if it is little; REAP_MORE if not, REAP_LATER if it has more than
 * @max_sectors: nothing was done.
 */
static int reap_last_trans(struct btree_trans *trans, struct bcfs *c, struct bcfs_ino ino,
			   u64 max_sectors, struct bcfs_inode_unpacked *inode)
{
	struct btree_iter iter;
	bool all = true;
	int ret = inode_peek(trans, &iter, ino, BTREE_ITER_INTENT, inode);

	if (ret)
		goto out;
	if (!inode_is_unlinked(inode)) {
		ret = deleted_inode_mark(trans, ino, false)
			      ?: btree_trans_commit(trans, BTREE_COMMIT_REMOVES, NULL);
		goto out;
	}
	if (inode->sectors > max_sectors) {
		ret = REAP_LATER;
		goto out;
	}
	if (has_extents(inode)) {
		struct data_file f = io_file(c, ino, inode);

		ret = data_delete_step(trans, &f, &all);
	}
	if (!ret && !all)
		ret = REAP_MORE;
	if (!ret)
		ret = delete_names(trans, BTREE_ID_xattrs, ino.inum, inode->snapshot);
	if (!ret && S_ISDIR(inode->mode))
		ret = delete_names(trans, BTREE_ID_dirents, ino.inum, inode->snapshot);
	ret = ret ?: btree_trans_delete_at(trans, &iter, 0)
		  ?: deleted_inode_mark(trans, ino, false)
		  ?: btree_trans_commit(trans, BTREE_COMMIT_REMOVES, NULL);
out:
	btree_iter_exit(&iter);
	return ret;
}

static int unmark(struct bcfs *c, struct bcfs_ino ino)
{
	struct btree_trans *trans = btree_trans_get(c->btree);
	int ret =
		commit_do(trans, NULL, BTREE_COMMIT_REMOVES, deleted_inode_mark(trans, ino, false));

	btree_trans_put(trans);
	return ret;
}

/* What is too much for one commit. */
static int reap_more(struct bcfs *c, struct bcfs_ino ino, const struct bcfs_inode_unpacked *inode)
{
	struct io_update u = {.c = c, .ino = ino};
	struct btree_trans *trans;
	int ret = 0;

	if (has_extents(inode)) {
		struct data_file f = io_file(c, ino, inode);

		ret = data_truncate(c->data, &f, 0, io_commit, &u, NULL);
	}
	if (ret)
		return ret;
	trans = btree_trans_get(c->btree);
	ret = lockrestart_do(trans, reap_names_trans(trans, inode));
	btree_trans_put(trans);
	return min(ret, 0);
}

static int reap_locked(struct bcfs *c, struct bcfs_ino ino, u64 max_sectors)
{
	struct bcfs_inode_unpacked inode;
	struct btree_trans *trans;
	int ret;

	do {
		trans = btree_trans_get(c->btree);
		ret = lockrestart_do(trans, reap_last_trans(trans, c, ino, max_sectors, &inode));
		btree_trans_put(trans);
		if (ret == -BCFS_ERR_no_such_inode || ret == -BCFS_ERR_no_such_subvolume)
			return unmark(c, ino);
	} while (ret == REAP_MORE && !(ret = reap_more(c, ino, &inode)));
	return ret;
}

/* REAP_LATER if it has more than @max_sectors. */
static int reap(struct bcfs *c, struct bcfs_ino ino, u64 max_sectors)
{
	int ret = fs_may_write(c);

	if (ret)
		return ret;
	inode_lock(c, ino);
	ret = reap_locked(c, ino, max_sectors);
	inode_unlock(c, ino);
	if (ret < 0)
		log_err(c->log, "inode %u:%llu, unlinked, could not be deleted: %s", ino.subvol,
			(unsigned long long)ino.inum, err_str(ret));
	return ret;
}

int inode_reap(struct bcfs *c, struct bcfs_ino ino)
{
	return reap(c, ino, UINT64_MAX);
}

struct reap_work {
	struct env_work work;
	struct bcfs *c;
	struct bcfs_ino ino;
};

static void reap_work_fn(struct env_work *work)
{
	struct reap_work *w = container_of(work, struct reap_work, work);

	inode_reap(w->c, w->ino);
	env_free(w->c->env, w);
}

void inode_reap_soon(struct bcfs *c, struct bcfs_ino ino, u64 sectors)
{
	struct reap_work *w;

	if (sectors <= FS_REAP_INLINE && reap(c, ino, FS_REAP_INLINE) != REAP_LATER)
		return;
	w = env_zalloc(c->env, sizeof(*w));
	if (!w) {
		inode_reap(c, ino);
		return;
	}
	w->c = c;
	w->ino = ino;
	env_work_init(&w->work, reap_work_fn);
	env_wq_queue(c->ino->reaper, &w->work);
}

void inode_reap_flush(struct bcfs *c)
{
	env_wq_flush(c->ino->reaper);
}

typedef DARRAY(struct bcfs_ino) darray_ino;

static int list_push(darray_ino *list, struct bpos pos)
{
	int ret = darray_push(list, (struct bcfs_ino){pos.inode, pos.offset});

	return ret ?: list->nr == REAP_BATCH;
}

int deleted_inodes_reap_all(struct bcfs *c)
{
	CLEANUP(darray_exit_p) darray_ino list = {0};
	struct bpos pos = POS_MIN;
	int ret = 0, err;

	inode_reap_flush(c);
	do {
		struct btree_trans *trans = btree_trans_get(c->btree);

		list.nr = 0;
		err = for_each_btree_key (trans, iter, BTREE_ID_deleted_inodes, pos, 0, k,
					  list_push(&list, k.k->p));
		btree_trans_put(trans);
		darray_for_each (list, i) {
			ret = inode_reap(c, *i) ?: ret;
			pos = POS(i->subvol, i->inum + 1);
		}
	} while (err > 0);
	return err ?: ret;
}
