// SPDX-License-Identifier: LGPL-2.1-or-later
/* fsck of snapshots, subvolumes and snapshot_inodes. */
#include "snapshot/snapshot_private.h"
#include "util/cleanup.h"
#include "util/printbuf.h"

struct check {
	struct snapshot_table *t;
	u64 errors;
	void (*report)(void *arg, const char *text);
	void *arg;
};

__attribute__((format(printf, 2, 3))) static void report(struct check *c, const char *fmt, ...)
{
	CLEANUP(printbuf_exit) struct printbuf out = PRINTBUF;
	va_list args;

	va_start(args, fmt);
	prt_vprintf(&out, fmt, args);
	va_end(args);
	c->errors++;
	if (c->report)
		c->report(c->arg, printbuf_str(&out));
}

static const struct snapshot_node *find(const darray_snapshot_node *snaps, u32 id)
{
	for (size_t i = 0; i < snaps->nr; i++)
		if (snaps->data[i].id == id)
			return &snaps->data[i];
	return NULL;
}

static int check_snap_key(struct check *c, const darray_snapshot_node *snaps,
			  const darray_subvol_node *subvols, struct bkey_s_c k)
{
	const struct bcfs_snapshot *s;
	u32 id = k.k->p.offset;
	bool found = false;

	if (k.k->type != KEY_TYPE_snapshot)
		return 0;
	s = bkey_s_c_to_snapshot(k).v;
	for (unsigned i = 0; i < 2; i++) {
		const struct snapshot_node *child =
			s->children[i] ? find(snaps, s->children[i]) : NULL;

		if (s->children[i] && (!child || child->parent != id))
			report(c, "snapshots: %u has child %u, whose parent is %u", id,
			       s->children[i], child ? child->parent : 0);
	}
	for (size_t i = 0; i < subvols->nr; i++)
		found |= subvols->data[i].id == s->subvol && subvols->data[i].snapshot == id;
	if (s->subvol && !found)
		report(c, "snapshots: %u says subvolume %u, which does not have that snapshot", id,
		       s->subvol);
	return 0;
}

/* An inode key against its bit. */
static int check_inode_key(struct btree_trans *trans, struct check *c, struct bkey_s_c k)
{
	bool want = snapshot_inodes_wants(c->t, k), have;
	struct bpos pos = POS(k.k->p.snapshot, k.k->p.offset);
	struct btree_iter iter;
	struct bkey_s_c bit;
	int ret;

	if (!snapshot_exists(c->t, k.k->p.snapshot))
		report(c, "inodes: inode %llu is in snapshot %u, which does not exist",
		       (unsigned long long)k.k->p.offset, k.k->p.snapshot);
	btree_iter_init(trans, &iter, BTREE_ID_snapshot_inodes, pos, 0);
	bit = btree_iter_peek_slot(&iter);
	ret = bkey_err(bit);
	have = !ret && bit.k->type == KEY_TYPE_set;
	btree_iter_exit(&iter);
	if (!ret && want != have)
		report(c, "snapshot_inodes: snapshot %u inode %llu is %s, should be %s",
		       (u32)pos.inode, (unsigned long long)pos.offset, have ? "there" : "missing",
		       want ? "there" : "absent");
	return ret;
}

/* A bit against its inode key. */
static int check_bit(struct btree_trans *trans, struct check *c, struct bkey_s_c k)
{
	struct bpos pos = SPOS(0, k.k->p.offset, k.k->p.inode);
	struct btree_iter iter;
	struct bkey_s_c inode;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_inodes, pos, BTREE_ITER_ALL_SNAPSHOTS);
	inode = btree_iter_peek_slot(&iter);
	ret = bkey_err(inode);
	if (!ret && inode.k->type == KEY_TYPE_deleted)
		report(c, "snapshot_inodes: snapshot %u inode %llu is there, the inode is not",
		       pos.snapshot, (unsigned long long)pos.offset);
	btree_iter_exit(&iter);
	return ret;
}

int check_snapshots(struct snapshot_table *t, struct btree_fs *btree, u64 *ret_errors,
		    void (*report_fn)(void *arg, const char *text), void *arg)
{
	CLEANUP(darray_exit_p) darray_snapshot_node snaps = {0};
	CLEANUP(darray_exit_p) darray_subvol_node subvols = {0};
	struct check c = {.t = t, .report = report_fn, .arg = arg};
	struct btree_trans *trans;
	struct subvol_node root;
	int ret = snapshots_collect(btree, &snaps, &subvols);

	if (ret)
		return ret;
	darray_for_each (snaps, n)
		if (n->parent && !find(&snaps, n->parent))
			report(&c, "snapshots: %u has parent %u, which is missing", n->id,
			       n->parent);
	darray_for_each (subvols, v) {
		const struct snapshot_node *n = find(&snaps, v->snapshot);

		if (!n || n->subvol != v->id)
			report(&c, "subvolumes: %u has snapshot %u, which says subvolume %u", v->id,
			       v->snapshot, n ? n->subvol : 0);
	}
	if (subvol_get(t, BCFS_ROOT_SUBVOL, &root))
		report(&c, "subvolumes: the first subvolume is missing");

	trans = btree_trans_get(btree);
	ret = for_each_btree_key (trans, iter, BTREE_ID_snapshots, POS_MIN, 0, k,
				  check_snap_key(&c, &snaps, &subvols, k));
	if (!ret)
		ret = for_each_btree_key (trans, iter, BTREE_ID_inodes, POS_MIN,
					  BTREE_ITER_ALL_SNAPSHOTS, k,
					  check_inode_key(trans, &c, k));
	if (!ret)
		ret = for_each_btree_key (trans, iter, BTREE_ID_snapshot_inodes, POS_MIN, 0, k,
					  check_bit(trans, &c, k));
	btree_trans_put(trans);
	*ret_errors = c.errors;
	return ret;
}
