// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fs/table.h"

#include <string.h>

static u64 ino_hash(u64 key)
{
	key *= 0x9e3779b97f4a7c15ULL;
	return key ^ key >> 32;
}

/* ---- locks ---- */

static unsigned lock_idx(struct bcfs_ino ino)
{
	return ino_hash(bcfs_ino_pack(ino)) % FS_LOCKS;
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

/* ---- references ---- */

static struct fs_ref_shard *ref_shard(struct bcfs *c, u64 key)
{
	return &c->ino->refs[ino_hash(key) % FS_REF_SHARDS];
}

static u32 ref_bucket(u64 key, u32 nr_buckets)
{
	return (ino_hash(key) >> 8) & (nr_buckets - 1);
}

/* The link that leads to the entry, or to NULL; the shard is locked. */
static struct fs_ref **ref_find(struct fs_ref_shard *s, u64 key)
{
	struct fs_ref **p = &s->buckets[ref_bucket(key, s->nr_buckets)];

	while (*p && (*p)->key != key)
		p = &(*p)->next;
	return p;
}

/* Twice as many buckets; without memory the chains grow longer instead. */
static void ref_shard_grow(struct bcfs *c, struct fs_ref_shard *s)
{
	u32 nr = s->nr_buckets ? s->nr_buckets * 2 : 16;
	struct fs_ref **b = env_zalloc(c->env, nr * sizeof(*b));

	if (!b)
		return;
	for (u32 i = 0; i < s->nr_buckets; i++)
		while (s->buckets[i]) {
			struct fs_ref *r = s->buckets[i];
			u32 j = ref_bucket(r->key, nr);

			s->buckets[i] = r->next;
			r->next = b[j];
			b[j] = r;
		}
	env_free(c->env, s->buckets);
	s->buckets = b;
	s->nr_buckets = nr;
}

int inode_ref(struct bcfs *c, struct bcfs_ino ino)
{
	u64 key = bcfs_ino_pack(ino);
	struct fs_ref_shard *s = ref_shard(c, key);
	struct fs_ref **p, *r;
	int ret = -BCFS_ERR_nomem;

	env_mutex_lock(&s->lock);
	if (s->nr >= s->nr_buckets)
		ref_shard_grow(c, s);
	if (!s->nr_buckets)
		goto out;
	p = ref_find(s, key);
	if (!*p) {
		r = env_zalloc(c->env, sizeof(*r));
		if (!r)
			goto out;
		r->key = key;
		*p = r;
		s->nr++;
	}
	(*p)->nr++;
	ret = 0;
out:
	env_mutex_unlock(&s->lock);
	return ret;
}

bool inode_unref(struct bcfs *c, struct bcfs_ino ino, u64 nr)
{
	u64 key = bcfs_ino_pack(ino);
	struct fs_ref_shard *s = ref_shard(c, key);
	bool reap = false;

	env_mutex_lock(&s->lock);
	struct fs_ref **p = s->nr_buckets ? ref_find(s, key) : NULL, *r = p ? *p : NULL;

	if (r) {
		r->nr -= min((u64)r->nr, nr);
		if (!r->nr) {
			reap = r->unlinked;
			*p = r->next;
			s->nr--;
			env_free(c->env, r);
		}
	}
	env_mutex_unlock(&s->lock);
	return reap;
}

int inode_refs_list(struct bcfs *c, unsigned shard, darray_u64 *ret)
{
	struct fs_ref_shard *s = &c->ino->refs[shard];
	int err;

	env_mutex_lock(&s->lock);
	err = darray_make_room(ret, s->nr);
	for (u32 i = 0; !err && i < s->nr_buckets; i++)
		for (const struct fs_ref *r = s->buckets[i]; r; r = r->next)
			ret->data[ret->nr++] = r->key;
	env_mutex_unlock(&s->lock);
	return err;
}

bool inode_unlinked(struct bcfs *c, struct bcfs_ino ino)
{
	u64 key = bcfs_ino_pack(ino);
	struct fs_ref_shard *s = ref_shard(c, key);

	env_mutex_lock(&s->lock);
	struct fs_ref *r = s->nr_buckets ? *ref_find(s, key) : NULL;

	if (r)
		r->unlinked = true;
	env_mutex_unlock(&s->lock);
	return !r;
}

void inode_relinked(struct bcfs *c, struct bcfs_ino ino)
{
	u64 key = bcfs_ino_pack(ino);
	struct fs_ref_shard *s = ref_shard(c, key);

	env_mutex_lock(&s->lock);
	struct fs_ref *r = s->nr_buckets ? *ref_find(s, key) : NULL;

	if (r)
		r->unlinked = false;
	env_mutex_unlock(&s->lock);
}

static void ref_shard_empty(struct env *env, struct fs_ref_shard *s)
{
	for (u32 i = 0; i < s->nr_buckets; i++)
		while (s->buckets[i]) {
			struct fs_ref *r = s->buckets[i];

			s->buckets[i] = r->next;
			env_free(env, r);
		}
	s->nr = 0;
}

void inode_unref_all(struct bcfs *c)
{
	for (unsigned i = 0; i < FS_REF_SHARDS; i++) {
		struct fs_ref_shard *s = &c->ino->refs[i];

		env_mutex_lock(&s->lock);
		ref_shard_empty(c->env, s);
		env_mutex_unlock(&s->lock);
	}
}

bool inode_refs_unlinked(struct bcfs *c)
{
	bool found = false;

	for (unsigned i = 0; i < FS_REF_SHARDS && !found; i++) {
		struct fs_ref_shard *s = &c->ino->refs[i];

		env_mutex_lock(&s->lock);
		for (u32 b = 0; b < s->nr_buckets; b++)
			for (const struct fs_ref *r = s->buckets[b]; r; r = r->next)
				found |= r->unlinked;
		env_mutex_unlock(&s->lock);
	}
	return found;
}

void inode_refs_take(struct bcfs *c, struct fs_refs *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < FS_REF_SHARDS; i++) {
		struct fs_ref_shard *s = &c->ino->refs[i], *r = &ret->shards[i];

		env_mutex_lock(&s->lock);
		r->buckets = s->buckets;
		r->nr_buckets = s->nr_buckets;
		r->nr = s->nr;
		s->buckets = NULL;
		s->nr_buckets = s->nr = 0;
		env_mutex_unlock(&s->lock);
	}
}

void inode_refs_put(struct bcfs *c, const struct fs_refs *refs)
{
	for (unsigned i = 0; i < FS_REF_SHARDS; i++) {
		struct fs_ref_shard *s = &c->ino->refs[i];
		const struct fs_ref_shard *r = &refs->shards[i];

		env_mutex_lock(&s->lock);
		assert(!s->nr);
		env_free(c->env, s->buckets);
		s->buckets = r->buckets;
		s->nr_buckets = r->nr_buckets;
		s->nr = r->nr;
		env_mutex_unlock(&s->lock);
	}
}

void inode_refs_free(struct env *env, struct fs_refs *refs)
{
	for (unsigned i = 0; i < FS_REF_SHARDS; i++) {
		ref_shard_empty(env, &refs->shards[i]);
		env_free(env, refs->shards[i].buckets);
	}
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
	for (unsigned i = 0; i < FS_REF_SHARDS; i++)
		env_mutex_init(&t->refs[i].lock, c->env);
	env_mutex_init(&t->rename_lock, c->env);
	env_mutex_init(&t->inum_lock, c->env);
	c->ino = t;

	t->reaper = env_wq_create(c->env, "bcfs-reap", 1);
	return t->reaper ? 0 : -BCFS_ERR_thread_start;
}

void fs_table_free(struct bcfs *c)
{
	struct fs_inodes *t = c->ino;

	if (!t)
		return;
	env_wq_destroy(t->reaper);
	for (unsigned i = 0; i < FS_REF_SHARDS; i++) {
		ref_shard_empty(c->env, &t->refs[i]);
		env_free(c->env, t->refs[i].buckets);
		env_mutex_destroy(&t->refs[i].lock);
	}
	for (unsigned i = 0; i < FS_LOCKS; i++) {
		env_cond_destroy(&t->locks[i].cond);
		env_mutex_destroy(&t->locks[i].lock);
	}
	env_mutex_destroy(&t->rename_lock);
	env_mutex_destroy(&t->inum_lock);
	env_free(c->env, t);
	c->ino = NULL;
}
