// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The counts of the reflink btree against the keys that refer to it. Each reflink_p is two events,
 * where it begins and where it ends; in their order the sum is what each sector's count should be.
 */
#include "data/data_private.h"
#include "util/cleanup.h"
#include "util/darray.h"
#include "util/printbuf.h"

#include <stdlib.h>

struct share_event {
	u64 idx;
	s64 change;
};

struct share_check {
	DARRAY(struct share_event) events;
	size_t next; /* not summed up yet */
	u64 pos;     /* compared up to here */
	s64 sum;     /* of what is at pos */
	void (*report)(void *arg, const char *text);
	void *arg;
};

static void report_range(struct share_check *c, u64 start, u64 end, s64 refs, u64 count, bool there)
{
	CLEANUP(printbuf_exit) struct printbuf out = PRINTBUF;

	prt_printf(&out, "reflink: sectors %llu to %llu ", (unsigned long long)start,
		   (unsigned long long)end);
	if (!there)
		prt_printf(&out, "are referred to by %lld keys, and are not there",
			   (long long)refs);
	else if (!refs)
		prt_printf(&out, "count %llu owners and have none", (unsigned long long)count);
	else
		prt_printf(&out, "count %llu owners and have %lld", (unsigned long long)count,
			   (long long)refs);
	c->report(c->arg, printbuf_str(&out));
}

/* All up to @end has @count, or is not @there. */
static void compare_to(struct share_check *c, u64 end, u64 count, bool there)
{
	while (c->pos < end) {
		u64 to;

		while (c->next < c->events.nr && c->events.data[c->next].idx <= c->pos)
			c->sum += c->events.data[c->next++].change;
		to = c->next < c->events.nr ? min(end, c->events.data[c->next].idx) : end;
		if (c->sum != (s64)count)
			report_range(c, c->pos, to, c->sum, count, there);
		c->pos = to;
	}
}

static int add_key(struct share_check *c, struct bkey_s_c k)
{
	struct share_event e = {.change = 1};
	struct bcfs_reflink_p p;

	if (k.k->type != KEY_TYPE_reflink_p)
		return 0;
	memcpy(&p, k.v, sizeof(p));
	e.idx = p.idx;
	if (darray_push(&c->events, e))
		return -BCFS_ERR_nomem;
	e.idx += k.k->size;
	e.change = -1;
	return darray_push(&c->events, e) ? -BCFS_ERR_nomem : 0;
}

static int compare_key(struct share_check *c, struct bkey_s_c k)
{
	if (k.k->type != KEY_TYPE_reflink_v)
		return 0;
	compare_to(c, bkey_start_offset(k.k), 0, false);
	compare_to(c, k.k->p.offset, ((const struct bcfs_reflink_v *)k.v)->refcount, true);
	return 0;
}

static int event_cmp(const void *a, const void *b)
{
	const struct share_event *l = a, *r = b;

	return l->idx < r->idx ? -1 : l->idx > r->idx;
}

int data_check_reflink(struct data_fs *d, void (*report)(void *arg, const char *text), void *arg)
{
	struct btree_trans *trans = btree_trans_get(d->btree);
	struct share_check c = {.report = report, .arg = arg};
	unsigned flags = BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS | BTREE_ITER_PREFETCH;
	int ret = for_each_btree_key (trans, iter, BTREE_ID_extents, POS_MIN, flags, k,
				      add_key(&c, k));

	if (!ret && c.events.nr)
		qsort(c.events.data, c.events.nr, sizeof(*c.events.data), event_cmp);
	if (!ret)
		ret = for_each_btree_key (trans, iter, BTREE_ID_reflink, POS_MIN, flags, k,
					  compare_key(&c, k));
	if (!ret)
		compare_to(&c, UINT64_MAX, 0, false);
	btree_trans_put(trans);
	darray_exit(&c.events);
	return ret;
}
