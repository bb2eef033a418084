// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fs/table.h"

/* ---- locks ---- */

static unsigned lock_idx(struct bcfs_ino ino)
{
	return fs_hash(bcfs_ino_pack(ino)) % FS_LOCKS;
}

static void write_lock(struct fs_rwlock *l)
{
	env_mutex_lock(&l->lock);
	l->writers_waiting++;
	while (l->writer || l->readers)
		env_cond_wait(&l->cond, &l->lock);
	l->writers_waiting--;
	l->writer = true;
	env_mutex_unlock(&l->lock);
}

static void write_unlock(struct fs_rwlock *l)
{
	env_mutex_lock(&l->lock);
	assert(l->writer);
	l->writer = false;
	env_cond_broadcast(&l->cond);
	env_mutex_unlock(&l->lock);
}

void inode_lock(struct bcfs *c, struct bcfs_ino ino)
{
	write_lock(&c->ino->locks[lock_idx(ino)]);
}

void inode_unlock(struct bcfs *c, struct bcfs_ino ino)
{
	write_unlock(&c->ino->locks[lock_idx(ino)]);
}

void inode_lock_shared(struct bcfs *c, struct bcfs_ino ino)
{
	struct fs_rwlock *l = &c->ino->locks[lock_idx(ino)];

	env_mutex_lock(&l->lock);
	while (l->writer || l->writers_waiting)
		env_cond_wait(&l->cond, &l->lock);
	l->readers++;
	env_mutex_unlock(&l->lock);
}

void inode_unlock_shared(struct bcfs *c, struct bcfs_ino ino)
{
	struct fs_rwlock *l = &c->ino->locks[lock_idx(ino)];

	env_mutex_lock(&l->lock);
	assert(l->readers);
	if (!--l->readers)
		env_cond_broadcast(&l->cond);
	env_mutex_unlock(&l->lock);
}

void inode_lock2(struct bcfs *c, struct bcfs_ino a, struct bcfs_ino b)
{
	unsigned i = lock_idx(a), j = lock_idx(b);

	write_lock(&c->ino->locks[min(i, j)]);
	if (i != j)
		write_lock(&c->ino->locks[max(i, j)]);
}

void inode_unlock2(struct bcfs *c, struct bcfs_ino a, struct bcfs_ino b)
{
	unsigned i = lock_idx(a), j = lock_idx(b);

	write_unlock(&c->ino->locks[i]);
	if (i != j)
		write_unlock(&c->ino->locks[j]);
}

/* ---- the whole ---- */

int fs_table_alloc(struct bcfs *c)
{
	struct fs_inodes *t = env_zalloc(c->env, sizeof(*t));

	if (!t)
		return -BCFS_ERR_nomem;
	for (unsigned i = 0; i < FS_LOCKS; i++) {
		env_mutex_init(&t->locks[i].lock, c->env);
		env_cond_init(&t->locks[i].cond, c->env);
	}
	env_mutex_init(&t->rename_lock, c->env);
	env_mutex_init(&t->inum_lock, c->env);
	c->ino = t;
	inode_refs_init(c);

	t->reaper = env_wq_create(c->env, "bcfs-reap", 1);
	return t->reaper ? 0 : -BCFS_ERR_thread_start;
}

void fs_table_free(struct bcfs *c)
{
	struct fs_inodes *t = c->ino;

	if (!t)
		return;
	env_wq_destroy(t->reaper);
	inode_refs_exit(c);
	for (unsigned i = 0; i < FS_LOCKS; i++) {
		env_cond_destroy(&t->locks[i].cond);
		env_mutex_destroy(&t->locks[i].lock);
	}
	env_mutex_destroy(&t->rename_lock);
	env_mutex_destroy(&t->inum_lock);
	env_free(c->env, t);
	c->ino = NULL;
}
