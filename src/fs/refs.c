// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Lookup references: how often the front end was told of an inode, and whether that has lost its
 * last link.
 *
 * There is a count for each file that the kernel knows, so memory matters. New inodes have numbers
 * in a row and directories are walked whole: an entry is of FS_REF_GROUP numbers in a row, and its
 * counts are as wide as the greatest of them has needed.
 */
#include "fs/table.h"

#include <string.h>
#include <urcu/rculfhash.h>

#define BUCKETS_MIN 16U
/* Entries a bucket before there are twice as many buckets. */
#define BUCKET_CHAIN 2U

struct ref_group {
	struct cds_lfht_node node;
	u64 nr : 60;   /* bcfs_ino_pack() / FS_REF_GROUP */
	u64 width : 4; /* of a count: 1, 2, 4 or 8 bytes */
	u8 counts[];   /* little-endian, the top bit: reap when the rest is 0. Never all zero. */
};
/* No more of malloc(3) than a count of eight bytes alone and its key would take. */
_Static_assert(sizeof(struct ref_group) + FS_REF_GROUP <= 40, "five words");

struct ref {
	u64 nr;
	bool unlinked;
};

static u64 unlinked_bit(unsigned width)
{
	return 1ULL << (width * 8 - 1);
}

static struct ref ref_get(const struct ref_group *g, unsigned i)
{
	u64 v = 0;

	memcpy(&v, g->counts + (size_t)i * g->width, g->width);
	return (struct ref){
		.nr = v & ~unlinked_bit(g->width),
		.unlinked = v & unlinked_bit(g->width),
	};
}

static void ref_set(struct ref_group *g, unsigned i, struct ref r)
{
	u64 v = r.nr | (r.unlinked ? unlinked_bit(g->width) : 0);

	assert(r.nr < unlinked_bit(g->width));
	memcpy(g->counts + (size_t)i * g->width, &v, g->width);
}

static bool group_empty(const struct ref_group *g)
{
	for (unsigned i = 0; i < FS_REF_GROUP * g->width; i++)
		if (g->counts[i])
			return false;
	return true;
}

/* ---- tables ---- */

/*
 * A table is looked at and changed by whoever has its shard's mutex, and by nobody else: what is
 * taken out can be freed at once, without a grace period, and what was found stays. The read locks
 * are there because liburcu asks for them.
 */

/* Twice: in the lower bits of once, subvolumes do not count. Two numbers never have the same. */
static unsigned long group_hash(u64 nr)
{
	return fs_hash(fs_hash(nr));
}

static int group_match(struct cds_lfht_node *node, const void *nr)
{
	return container_of(node, struct ref_group, node)->nr == *(const u64 *)nr;
}

static struct ref_group *group_find(struct env *env, struct fs_ref_table *t, u64 nr)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	if (!t->ht)
		return NULL;
	env_rcu_read_lock(env);
	cds_lfht_lookup(t->ht, group_hash(nr), group_match, &nr, &iter);
	node = cds_lfht_iter_get_node(&iter);
	env_rcu_read_unlock(env);
	return node ? container_of(node, struct ref_group, node) : NULL;
}

static struct ref_group *group_new(struct env *env, u64 nr, unsigned width)
{
	struct ref_group *g = env_zalloc(env, sizeof(*g) + (size_t)FS_REF_GROUP * width);

	if (g) {
		cds_lfht_node_init(&g->node);
		g->nr = nr;
		g->width = width;
	}
	return g;
}

static void group_insert(struct env *env, struct fs_ref_table *t, struct ref_group *g)
{
	env_rcu_read_lock(env);
	cds_lfht_add(t->ht, group_hash(g->nr), &g->node);
	env_rcu_read_unlock(env);
	t->nr_groups++;
}

static void group_free(struct env *env, struct fs_ref_table *t, struct ref_group *g)
{
	env_rcu_read_lock(env);
	cds_lfht_del(t->ht, &g->node);
	env_rcu_read_unlock(env);
	t->nr_groups--;
	env_free(env, g);
}

/* Counts of twice as many bytes: the entry that takes its place, or NULL, and nothing was done. */
static struct ref_group *group_widen(struct env *env, struct fs_ref_table *t, struct ref_group *g)
{
	struct ref_group *new = group_new(env, g->nr, g->width * 2U);

	if (!new)
		return NULL;
	for (unsigned i = 0; i < FS_REF_GROUP; i++)
		ref_set(new, i, ref_get(g, i));
	group_free(env, t, g);
	group_insert(env, t, new);
	return new;
}

/*
 * Room for one more entry; without memory for more buckets the chains grow longer instead. Resized
 * here, not by the thread that liburcu would start for it. Growing waits for nobody; what shrinks
 * waits for a grace period, so that no table ever does.
 */
static int table_make_room(struct env *env, struct fs_ref_table *t)
{
	unsigned long nr = t->ht ? t->nr_buckets * 2 : BUCKETS_MIN;
	void *room;

	if (t->ht && t->nr_groups < t->nr_buckets * BUCKET_CHAIN)
		return 0;
	/* liburcu takes it for granted that there is so much: ask before it does. */
	room = env_malloc(env, nr * sizeof(struct cds_lfht_node));
	if (!room)
		return t->ht ? 0 : -BCFS_ERR_nomem;
	env_free(env, room);
	if (t->ht)
		cds_lfht_resize(t->ht, nr);
	else
		t->ht = cds_lfht_new_flavor(nr, nr, 0, 0, &urcu_bp_flavor, NULL);
	if (!t->ht)
		return -BCFS_ERR_nomem;
	t->nr_buckets = nr;
	return 0;
}

static void table_free(struct env *env, struct fs_ref_table *t)
{
	struct cds_lfht_iter iter;
	struct ref_group *g;

	if (!t->ht)
		return;
	env_rcu_read_lock(env);
	cds_lfht_for_each_entry (t->ht, &iter, g, node) {
		cds_lfht_del(t->ht, &g->node);
		env_free(env, g); /* the next one is in @iter already */
	}
	env_rcu_read_unlock(env);
	cds_lfht_destroy(t->ht, NULL);
	*t = (struct fs_ref_table){0};
}

/* ---- references ---- */

struct ref_pos {
	struct fs_ref_shard *shard;
	u64 group;
	unsigned i;
};

static struct ref_pos ref_pos(struct bcfs *c, struct bcfs_ino ino)
{
	u64 key = bcfs_ino_pack(ino), group = key / FS_REF_GROUP;

	/* The upper bits: the table takes the lower ones. */
	return (struct ref_pos){&c->ino->refs[(group_hash(group) >> 32) % FS_REF_SHARDS], group,
				key % FS_REF_GROUP};
}

static int ref_add(struct env *env, const struct ref_pos *p)
{
	struct fs_ref_table *t = &p->shard->table;
	struct ref_group *g = group_find(env, t, p->group);
	struct ref r;

	if (!g) {
		int ret = table_make_room(env, t);

		if (ret)
			return ret;
		g = group_new(env, p->group, 1);
		if (!g)
			return -BCFS_ERR_nomem;
		group_insert(env, t, g);
	}
	r = ref_get(g, p->i);
	if (r.nr + 1 == unlinked_bit(g->width)) {
		g = group_widen(env, t, g);
		if (!g)
			return -BCFS_ERR_nomem;
	}
	t->nr += !r.nr++;
	ref_set(g, p->i, r);
	return 0;
}

int inode_ref(struct bcfs *c, struct bcfs_ino ino)
{
	struct ref_pos p = ref_pos(c, ino);
	int ret;

	env_mutex_lock(&p.shard->lock);
	ret = ref_add(c->env, &p);
	env_mutex_unlock(&p.shard->lock);
	return ret;
}

/* True if that was the last one of an unlinked inode. */
static bool ref_sub(struct env *env, const struct ref_pos *p, u64 nr)
{
	struct fs_ref_table *t = &p->shard->table;
	struct ref_group *g = group_find(env, t, p->group);
	struct ref r = {0};

	if (g)
		r = ref_get(g, p->i);
	if (r.nr > nr) {
		r.nr -= nr;
		ref_set(g, p->i, r);
		return false;
	}
	if (!r.nr)
		return false;
	ref_set(g, p->i, (struct ref){0});
	t->nr--;
	if (group_empty(g))
		group_free(env, t, g);
	return r.unlinked;
}

bool inode_unref(struct bcfs *c, struct bcfs_ino ino, u64 nr)
{
	struct ref_pos p = ref_pos(c, ino);
	bool reap;

	env_mutex_lock(&p.shard->lock);
	reap = ref_sub(c->env, &p, nr);
	env_mutex_unlock(&p.shard->lock);
	return reap;
}

/* Is it referenced? Then it is marked. */
static bool ref_mark(struct bcfs *c, struct bcfs_ino ino, bool unlinked)
{
	struct ref_pos p = ref_pos(c, ino);
	struct ref r = {0};

	env_mutex_lock(&p.shard->lock);
	struct ref_group *g = group_find(c->env, &p.shard->table, p.group);

	if (g)
		r = ref_get(g, p.i);
	if (r.nr) {
		r.unlinked = unlinked;
		ref_set(g, p.i, r);
	}
	env_mutex_unlock(&p.shard->lock);
	return r.nr;
}

bool inode_unlinked(struct bcfs *c, struct bcfs_ino ino)
{
	return !ref_mark(c, ino, true);
}

void inode_relinked(struct bcfs *c, struct bcfs_ino ino)
{
	ref_mark(c, ino, false);
}

/* ---- all of them ---- */

/* The keys, appended to @ret if that is not NULL, which has room. How many are unlinked. */
static u64 table_list(struct env *env, const struct fs_ref_table *t, darray_u64 *ret)
{
	struct cds_lfht_iter iter;
	struct ref_group *g;
	u64 unlinked = 0;

	if (!t->ht)
		return 0;
	env_rcu_read_lock(env);
	cds_lfht_for_each_entry (t->ht, &iter, g, node)
		for (unsigned i = 0; i < FS_REF_GROUP; i++) {
			struct ref r = ref_get(g, i);

			/* cast: a product of a bit-field has no more bits than that */
			if (r.nr && ret)
				ret->data[ret->nr++] = (u64)g->nr * FS_REF_GROUP + i;
			unlinked += r.unlinked;
		}
	env_rcu_read_unlock(env);
	return unlinked;
}

int inode_refs_list(struct bcfs *c, unsigned shard, darray_u64 *ret)
{
	struct fs_ref_shard *s = &c->ino->refs[shard];
	int err;

	env_mutex_lock(&s->lock);
	err = darray_make_room(ret, s->table.nr);
	if (!err)
		table_list(c->env, &s->table, ret);
	env_mutex_unlock(&s->lock);
	return err;
}

bool inode_refs_unlinked(struct bcfs *c)
{
	bool found = false;

	for (unsigned i = 0; i < FS_REF_SHARDS && !found; i++) {
		struct fs_ref_shard *s = &c->ino->refs[i];

		env_mutex_lock(&s->lock);
		found = table_list(c->env, &s->table, NULL);
		env_mutex_unlock(&s->lock);
	}
	return found;
}

void inode_unref_all(struct bcfs *c)
{
	for (unsigned i = 0; i < FS_REF_SHARDS; i++) {
		struct fs_ref_shard *s = &c->ino->refs[i];

		env_mutex_lock(&s->lock);
		table_free(c->env, &s->table);
		env_mutex_unlock(&s->lock);
	}
}

void inode_refs_take(struct bcfs *c, struct fs_refs *ret)
{
	for (unsigned i = 0; i < FS_REF_SHARDS; i++) {
		struct fs_ref_shard *s = &c->ino->refs[i];

		env_mutex_lock(&s->lock);
		ret->tables[i] = s->table;
		s->table = (struct fs_ref_table){0};
		env_mutex_unlock(&s->lock);
	}
}

void inode_refs_put(struct bcfs *c, const struct fs_refs *refs)
{
	for (unsigned i = 0; i < FS_REF_SHARDS; i++) {
		struct fs_ref_shard *s = &c->ino->refs[i];

		env_mutex_lock(&s->lock);
		assert(!s->table.nr);
		table_free(c->env, &s->table);
		s->table = refs->tables[i];
		env_mutex_unlock(&s->lock);
	}
}

void inode_refs_free(struct env *env, struct fs_refs *refs)
{
	for (unsigned i = 0; i < FS_REF_SHARDS; i++)
		table_free(env, &refs->tables[i]);
}

void inode_refs_init(struct bcfs *c)
{
	for (unsigned i = 0; i < FS_REF_SHARDS; i++)
		env_mutex_init(&c->ino->refs[i].lock, c->env);
}

void inode_refs_exit(struct bcfs *c)
{
	for (unsigned i = 0; i < FS_REF_SHARDS; i++) {
		table_free(c->env, &c->ino->refs[i].table);
		env_mutex_destroy(&c->ino->refs[i].lock);
	}
}
