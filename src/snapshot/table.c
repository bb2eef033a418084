// SPDX-License-Identifier: LGPL-2.1-or-later
/* The table in memory: lookups under RCU, replacement as a whole. */
#include "snapshot/snapshot_private.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/printbuf.h"

#include <string.h>

static void array_free_rcu(struct rcu_head *head)
{
	struct snapshot_array *a = container_of(head, struct snapshot_array, rcu);

	env_free(a->env, a);
}

static struct snapshot_array *array_alloc(struct env *env, unsigned nr_snaps, unsigned nr_subvols)
{
	size_t snaps_bytes = nr_snaps * sizeof(struct snapshot_node);
	size_t subvols_off = round_up(sizeof(struct snapshot_array) + snaps_bytes, (size_t)8);
	struct snapshot_array *a =
		env_zalloc(env, subvols_off + nr_subvols * sizeof(struct subvol_node));

	if (!a)
		return NULL;
	a->env = env;
	a->nr_snaps = nr_snaps;
	a->nr_subvols = nr_subvols;
	a->subvols = (struct subvol_node *)((u8 *)a + subvols_off);
	return a;
}

int snapshots_alloc(struct env *env, struct snapshot_table **ret)
{
	struct snapshot_table *t = env_zalloc(env, sizeof(*t));

	if (!t)
		return -BCFS_ERR_nomem;
	t->env = env;
	t->cur = array_alloc(env, 0, 0);
	if (!t->cur) {
		env_free(env, t);
		return -BCFS_ERR_nomem;
	}
	env_mutex_init(&t->lock, env);
	*ret = t;
	return 0;
}

void snapshots_free(struct snapshot_table *t)
{
	if (!t)
		return;
	env_mutex_destroy(&t->lock);
	env_free(t->env, t->cur);
	env_free(t->env, t);
}

/* ---- lookups: inside an RCU read section ---- */

static const struct snapshot_node *find_snap(const struct snapshot_array *a, u32 id)
{
	unsigned l = 0, r = a->nr_snaps;

	while (l < r) {
		unsigned m = (l + r) / 2;

		if (a->snaps[m].id < id)
			l = m + 1;
		else
			r = m;
	}
	return l < a->nr_snaps && a->snaps[l].id == id ? &a->snaps[l] : NULL;
}

static const struct subvol_node *find_subvol(const struct snapshot_array *a, u32 id)
{
	unsigned l = 0, r = a->nr_subvols;

	while (l < r) {
		unsigned m = (l + r) / 2;

		if (a->subvols[m].id < id)
			l = m + 1;
		else
			r = m;
	}
	return l < a->nr_subvols && a->subvols[l].id == id ? &a->subvols[l] : NULL;
}

static const struct snapshot_array *read_begin(const struct snapshot_table *t)
{
	env_rcu_read_lock(t->env);
	return atomic_load_explicit(&t->cur, memory_order_acquire);
}

static void read_end(const struct snapshot_table *t)
{
	env_rcu_read_unlock(t->env);
}

bool snapshot_is_ancestor(const struct snapshot_table *t, u32 id, u32 ancestor)
{
	const struct snapshot_array *a;

	if (id == ancestor)
		return true;
	if (id > ancestor)
		return false;

	a = read_begin(t);
	/* Ids ascend towards the root: it ends. */
	while (id && id < ancestor) {
		const struct snapshot_node *n = find_snap(a, id);

		id = n ? n->parent : 0;
	}
	read_end(t);
	return id == ancestor;
}

static bool snap_get(const struct snapshot_table *t, u32 id, struct snapshot_node *ret)
{
	const struct snapshot_node *n = find_snap(read_begin(t), id);
	bool found = n;

	if (found)
		*ret = *n;
	read_end(t);
	return found;
}

u32 snapshot_parent(const struct snapshot_table *t, u32 id)
{
	struct snapshot_node n;

	return snap_get(t, id, &n) ? n.parent : 0;
}

u32 snapshot_subvol(const struct snapshot_table *t, u32 snapshot)
{
	struct snapshot_node n;

	return snap_get(t, snapshot, &n) ? n.subvol : 0;
}

bool snapshot_exists(const struct snapshot_table *t, u32 id)
{
	struct snapshot_node n;

	return snap_get(t, id, &n);
}

int subvol_get(const struct snapshot_table *t, u32 subvol, struct subvol_node *ret)
{
	const struct subvol_node *n = find_subvol(read_begin(t), subvol);
	int err = n ? 0 : -BCFS_ERR_no_such_subvolume;

	if (n)
		*ret = *n;
	read_end(t);
	return err;
}

int subvol_snapshot(const struct snapshot_table *t, u32 subvol, u32 *ret_snapshot)
{
	struct subvol_node n;
	int ret = subvol_get(t, subvol, &n);

	if (!ret)
		*ret_snapshot = n.snapshot;
	return ret;
}

int subvols_for_each(const struct snapshot_table *t,
		     int (*fn)(void *arg, const struct subvol_node *s), void *arg)
{
	u32 next = 0;
	int ret = 0;

	/* By number, so that fn runs outside of the read section. */
	while (!ret) {
		const struct snapshot_array *a = read_begin(t);
		struct subvol_node n;
		unsigned i = 0;
		bool found;

		while (i < a->nr_subvols && a->subvols[i].id < next)
			i++;
		found = i < a->nr_subvols;
		if (found)
			n = a->subvols[i];
		read_end(t);
		if (!found)
			break;
		ret = fn(arg, &n);
		next = n.id + 1;
	}
	return ret;
}

/* ---- replacing ---- */

static int cmp_snap(const void *l, const void *r)
{
	const struct snapshot_node *a = l, *b = r;

	return cmp_int(a->id, b->id);
}

static int cmp_subvol(const void *l, const void *r)
{
	const struct subvol_node *a = l, *b = r;

	return cmp_int(a->id, b->id);
}

static int array_check(const struct snapshot_array *a, struct printbuf *err)
{
	for (unsigned i = 0; i < a->nr_snaps; i++) {
		const struct snapshot_node *n = &a->snaps[i];

		if (!n->id || (i && n->id == n[-1].id)) {
			prt_printf(err, "snapshot %u is there twice, or is 0", n->id);
			return -BCFS_ERR_snapshot_tree_invalid;
		}
		if (n->parent && (n->parent <= n->id || !find_snap(a, n->parent))) {
			prt_printf(err, "snapshot %u has parent %u, which is %s", n->id, n->parent,
				   n->parent <= n->id ? "not above it" : "missing");
			return -BCFS_ERR_snapshot_tree_invalid;
		}
	}
	for (unsigned i = 0; i < a->nr_subvols; i++) {
		const struct subvol_node *n = &a->subvols[i];

		if (!n->id || (i && n->id == n[-1].id)) {
			prt_printf(err, "subvolume %u is there twice, or is 0", n->id);
			return -BCFS_ERR_snapshot_tree_invalid;
		}
		if (!find_snap(a, n->snapshot)) {
			prt_printf(err, "subvolume %u has snapshot %u, which is missing", n->id,
				   n->snapshot);
			return -BCFS_ERR_snapshot_tree_invalid;
		}
	}
	return 0;
}

int snapshots_set(struct snapshot_table *t, const struct snapshot_node *snaps, unsigned nr_snaps,
		  const struct subvol_node *subvols, unsigned nr_subvols, struct printbuf *err)
{
	struct snapshot_array *a = array_alloc(t->env, nr_snaps, nr_subvols), *old;
	int ret;

	if (!a)
		return -BCFS_ERR_nomem;
	if (nr_snaps)
		memcpy(a->snaps, snaps, nr_snaps * sizeof(*snaps));
	if (nr_subvols)
		memcpy(a->subvols, subvols, nr_subvols * sizeof(*subvols));
	if (nr_snaps)
		qsort(a->snaps, nr_snaps, sizeof(*snaps), cmp_snap);
	if (nr_subvols)
		qsort(a->subvols, nr_subvols, sizeof(*subvols), cmp_subvol);
	ret = array_check(a, err);
	if (ret) {
		env_free(t->env, a);
		return ret;
	}

	env_mutex_lock(&t->lock);
	old = atomic_exchange(&t->cur, a);
	env_mutex_unlock(&t->lock);
	env_call_rcu(t->env, &old->rcu, array_free_rcu);
	return 0;
}

/* ---- reading ---- */

static int collect_snap(darray_snapshot_node *snaps, struct bkey_s_c k)
{
	const struct bcfs_snapshot *s;

	if (k.k->type != KEY_TYPE_snapshot)
		return 0;
	s = bkey_s_c_to_snapshot(k).v;
	return darray_push(snaps, (struct snapshot_node){.id = k.k->p.offset,
							 .parent = s->parent,
							 .subvol = s->subvol,
							 .tree = s->tree,
							 .flags = s->flags});
}

static int collect_subvol(darray_subvol_node *subvols, struct bkey_s_c k)
{
	const struct bcfs_subvolume *s;

	if (k.k->type != KEY_TYPE_subvolume)
		return 0;
	s = bkey_s_c_to_subvolume(k).v;
	return darray_push(subvols, (struct subvol_node){.id = k.k->p.offset,
							 .snapshot = s->snapshot,
							 .root_inum = s->inode,
							 .flags = s->flags});
}

int snapshots_collect(struct btree_fs *btree, darray_snapshot_node *snaps,
		      darray_subvol_node *subvols)
{
	struct btree_trans *trans = btree_trans_get(btree);
	int ret = for_each_btree_key (trans, iter, BTREE_ID_snapshots, POS_MIN, 0, k,
				      collect_snap(snaps, k));

	if (!ret)
		ret = for_each_btree_key (trans, iter, BTREE_ID_subvolumes, POS_MIN, 0, k,
					  collect_subvol(subvols, k));
	btree_trans_put(trans);
	return ret;
}

int snapshots_read(struct snapshot_table *t, struct btree_fs *btree, const struct log *log)
{
	CLEANUP(darray_exit_p) darray_snapshot_node snaps = {0};
	CLEANUP(darray_exit_p) darray_subvol_node subvols = {0};
	CLEANUP(printbuf_exit) struct printbuf err = PRINTBUF;
	int ret = snapshots_collect(btree, &snaps, &subvols);

	if (!ret)
		ret = snapshots_set(t, snaps.data, snaps.nr, subvols.data, subvols.nr, &err);
	if (ret)
		log_err(log, "reading the snapshots: %s%s%s", err_str(ret), err.pos ? ": " : "",
			printbuf_str(&err));
	return ret;
}
