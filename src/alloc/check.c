// SPDX-License-Identifier: LGPL-2.1-or-later
/* Mark and sweep, the first half: what the keys that point at space say. See check_private.h. */
#include "alloc/check_private.h"

#include <string.h>

/* Beyond this only the number of differences is known. */
#define CHECK_TEXT_MAX (8U << 20)
/*
 * The filesystem's own background work may come in between: then all is done again. What is moved
 * to empty buckets rests meanwhile, or it might come in between each time.
 */
#define CHECK_TRIES 10

void alloc_check_report(struct alloc_checker *c)
{
	const char *text = printbuf_str(&c->buf);
	size_t bytes = strlen(text) + 1;

	c->errors++;
	if (c->texts.nr + bytes <= CHECK_TEXT_MAX && !darray_make_room(&c->texts, bytes)) {
		memcpy(c->texts.data + c->texts.nr, text, bytes);
		c->texts.nr += bytes;
	}
	printbuf_reset(&c->buf);
}

struct shadow *check_bucket(struct alloc_checker *c, u64 bucket)
{
	if (bucket >= c->buckets.nr) {
		size_t more = bucket + 1 - c->buckets.nr;

		if (darray_make_room(&c->buckets, more))
			return NULL;
		memset(&c->buckets.data[c->buckets.nr], 0, more * sizeof(struct shadow));
		c->buckets.nr += more;
	}
	return &c->buckets.data[bucket];
}

static void print_ptr(struct alloc_checker *c, struct bkey_s_c k, enum btree_id btree,
		      unsigned level, const struct extent_ptr_decoded *p)
{
	prt_printf(&c->buf, "%s level %u ", btree_id_name(btree), level);
	bkey_to_text(&c->buf, k.k);
	prt_printf(&c->buf, ": ");
	extent_ptr_to_text(&c->buf, &p->ptr);
	prt_printf(&c->buf, ": ");
}

static int mark_ptr(struct alloc_checker *c, struct bkey_s_c k, enum btree_id btree, unsigned level,
		    const struct extent_ptr_decoded *p)
{
	u8 type = k.k->type == KEY_TYPE_btree_ptr ? BCFS_DATA_btree : BCFS_DATA_user;
	struct bp_want bp;
	struct shadow *s;
	u64 bucket;
	int ret;

	ret = alloc_ptr_check(c->a, p, &bucket);
	if (ret) {
		print_ptr(c, k, btree, level, p);
		prt_printf(&c->buf, "%s", err_str(ret));
		alloc_check_report(c);
		return 0;
	}
	s = check_bucket(c, bucket);
	if (!s)
		return -BCFS_ERR_nomem;
	if (!s->pointed) {
		s->pointed = true;
		s->gen = p->ptr.gen;
	} else if (s->gen != p->ptr.gen) {
		print_ptr(c, k, btree, level, p);
		prt_printf(&c->buf, "other keys name generation %u of this bucket", s->gen);
		alloc_check_report(c);
	}
	if (s->type != BCFS_DATA_free && s->type != type) {
		print_ptr(c, k, btree, level, p);
		prt_printf(&c->buf, "data and btree nodes in one bucket");
		alloc_check_report(c);
	}
	s->type = type;
	if (p->ptr.cached) {
		s->cached += p->held_sectors;
		c->usage[BCFS_ACCOUNTING_cached] += p->held_sectors;
	} else {
		s->dirty += p->held_sectors;
		c->usage[type == BCFS_DATA_btree ? BCFS_ACCOUNTING_btree : BCFS_ACCOUNTING_user] +=
			p->held_sectors;
	}
	if (!p->ptr.cached && extent_compressed(p->crc)) {
		c->usage[BCFS_ACCOUNTING_compressed] += p->held_sectors;
		c->usage[BCFS_ACCOUNTING_uncompressed] += k.k->size;
	}
	alloc_backpointer_of(k, btree, level, p, &bp.pos, &bp.bp);
	return darray_push(&c->bps, bp);
}

static int mark_key(struct alloc_checker *c, struct bkey_s_c k, enum btree_id btree, unsigned level)
{
	struct extent_ptr_decoded p;
	int ret = 0;

	if (k.k->type == KEY_TYPE_reservation &&
	    bkey_val_bytes(k.k) >= sizeof(struct bcfs_reservation))
		c->usage[BCFS_ACCOUNTING_reserved] +=
			(s64)k.k->size * ((const struct bcfs_reservation *)k.v)->nr_replicas;
	if (k.k->type == KEY_TYPE_inline_data)
		c->usage[BCFS_ACCOUNTING_inline_data] += bkey_val_bytes(k.k);
	if (extent_has_work(k))
		c->usage[BCFS_ACCOUNTING_rebalance] += k.k->size;
	for_each_extent_ptr(k, c->a->opts.node_sectors, it, p)
	{
		ret = mark_ptr(c, k, btree, level, &p);
		if (ret)
			break;
	}
	return ret;
}

/* ---- btree nodes: each by the key that points at it ---- */

static int mark_node(void *arg, const struct btree_node_info *n)
{
	struct alloc_checker *c = arg;

	return n->ptr.k ? mark_key(c, n->ptr, n->id, n->level + 1) : 0;
}

/* The node itself is unreadable, but its place is in use. */
static int mark_bad_node(void *arg, struct bkey_s_c ptr, unsigned level, int err)
{
	struct alloc_checker *c = arg;

	prt_printf(&c->buf, "btree node at level %u cannot be read (%s): ", level, err_str(err));
	bkey_to_text(&c->buf, ptr.k);
	alloc_check_report(c);
	return 0;
}

static int mark_nodes(struct alloc_checker *c, enum btree_id id)
{
	union {
		struct bkey_i k;
		u64 buf[BKEY_U64s_MAX];
	} root;
	unsigned level;
	int ret = 0;

	if (!btree_root_key(c->a->btree, id, &root.k, ARRAY_SIZE(root.buf), &level))
		return 0;
	ret = mark_key(c, bkey_i_to_s_c(&root.k), id, level + 1);
	if (!ret)
		ret = btree_for_each_node(c->a->btree, id, mark_node, mark_bad_node, c);
	return ret;
}

static int mark_leaf_keys(struct alloc_checker *c, enum btree_id id)
{
	return for_each_btree_key (c->trans, iter, id, POS_MIN,
				   BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS |
					   BTREE_ITER_PREFETCH,
				   k, ({ mark_key(c, k, id, 0); }));
}

static int check_all(struct alloc_checker *c, const s64 *usage)
{
	int ret = 0;

	c->mark = max_t(s64, usage[BCFS_ACCOUNTING_used_mark], 0);
	for (unsigned id = 0; id < BTREE_ID_NR && !ret; id++) {
		ret = mark_nodes(c, id);
		if (!ret && btree_id_flags(id) & BTREE_IS_EXTENTS)
			ret = mark_leaf_keys(c, id);
	}
	if (!ret)
		ret = check_alloc_keys(c);
	if (!ret)
		ret = check_indexes(c);
	if (!ret)
		ret = check_backpointers(c);
	if (!ret)
		check_counters(c, usage);
	return ret;
}

static void checker_reset(struct alloc_checker *c)
{
	memset(c->usage, 0, sizeof(c->usage));
	c->errors = 0;
	c->buckets.nr = 0;
	c->bps.nr = 0;
	c->texts.nr = 0;
}

static u64 nr_commits(struct alloc_fs *a)
{
	struct btree_counters n;

	btree_counters(a->btree, &n);
	return n.commits;
}

int alloc_check(struct alloc_fs *a, const struct journal_carried *carried, u64 *ret_errors,
		void (*report)(void *arg, const char *text), void *arg)
{
	struct alloc_checker c = {.a = a, .trans = btree_trans_get(a->btree)};
	s64 usage[BCFS_ACCOUNTING_NR];
	int ret = 0;

	__atomic_fetch_add(&a->nr_checks, 1, __ATOMIC_RELAXED);
	for (unsigned tries = 0; tries < CHECK_TRIES; tries++) {
		u64 commits = nr_commits(a);

		for (unsigned i = 0; i < BCFS_ACCOUNTING_NR; i++)
			usage[i] = carried ? carried->usage[i] : alloc_usage_get(a, i);
		checker_reset(&c);
		ret = check_all(&c, usage);
		if (ret || !c.errors || commits == nr_commits(a))
			break;
		env_sleep_ns(a->env, (10ULL << tries) * ENV_NSEC_PER_MSEC);
	}
	__atomic_fetch_sub(&a->nr_checks, 1, __ATOMIC_RELAXED);
	for (size_t i = 0; !ret && report && i < c.texts.nr; i += strlen(c.texts.data + i) + 1)
		report(arg, c.texts.data + i);
	if (!ret)
		*ret_errors = c.errors;
	btree_trans_put(c.trans);
	darray_exit(&c.buckets);
	darray_exit(&c.bps);
	darray_exit(&c.texts);
	printbuf_exit(&c.buf);
	return ret;
}
