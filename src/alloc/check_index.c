// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Mark and sweep, the second half: alloc keys, indexes, backpointers and counters against what the
 * first half found. See check_private.h.
 */
#include "alloc/check_private.h"

/* ---- alloc keys ---- */

static bool is_journal_bucket(const struct alloc_fs *a, u64 bucket)
{
	for (unsigned i = 0; i < a->nr_journal_buckets; i++)
		if (a->journal_buckets[i] == bucket)
			return true;
	return false;
}

/* What a bucket holds that no key points at. */
static u8 fixed_type(const struct alloc_fs *a, u64 bucket, u8 said)
{
	if (bucket < a->opts.first_bucket)
		return BCFS_DATA_sb;
	if (a->journal_buckets ? is_journal_bucket(a, bucket) : said == BCFS_DATA_journal)
		return BCFS_DATA_journal;
	return BCFS_DATA_free;
}

static void count_bucket(struct alloc_checker *c, u8 type)
{
	switch (type) {
	case BCFS_DATA_free:
		break;
	case BCFS_DATA_sb:
		c->usage[BCFS_ACCOUNTING_sb] += c->a->opts.bucket_sectors;
		break;
	case BCFS_DATA_journal:
		c->usage[BCFS_ACCOUNTING_journal] += c->a->opts.bucket_sectors;
		break;
	case BCFS_DATA_btree:
		c->usage[BCFS_ACCOUNTING_buckets_btree]++;
		break;
	case BCFS_DATA_need_discard:
	case BCFS_DATA_need_gc_gens:
		c->usage[BCFS_ACCOUNTING_buckets_need_discard]++;
		break;
	default:
		c->usage[BCFS_ACCOUNTING_buckets_user]++;
	}
}

static bool type_matches(const struct shadow *s, u8 fixed, const struct bcfs_alloc *v)
{
	if (fixed)
		return v->data_type == fixed && !s->pointed;
	if (s->dirty)
		return v->data_type == s->type;
	if (s->cached)
		return v->data_type == BCFS_DATA_cached;
	return v->data_type == BCFS_DATA_need_discard || v->data_type == BCFS_DATA_need_gc_gens;
}

static int check_alloc_key(struct alloc_checker *c, struct bkey_s_c k)
{
	struct bcfs_alloc v = alloc_val(k);
	u64 bucket = k.k->p.offset;
	struct shadow *s;
	u32 dirty;
	u8 fixed;

	if (k.k->type != KEY_TYPE_alloc || k.k->p.inode || bucket >= c->a->opts.nr_buckets) {
		prt_printf(&c->buf, "alloc: a key that belongs to no bucket: ");
		bkey_to_text(&c->buf, k.k);
		alloc_check_report(c);
		return 0;
	}
	s = check_bucket(c, bucket);
	if (!s)
		return -BCFS_ERR_nomem;
	fixed = fixed_type(c->a, bucket, v.data_type);
	dirty = fixed ? c->a->opts.bucket_sectors : s->dirty;
	s->has_key = true;
	/* It keeps the generation of its life until it is empty for good. */
	s->free_gen = v.gen;
	if (v.data_type == BCFS_DATA_need_discard && !(v.flags & BCFS_ALLOC_NEED_INC_GEN))
		s->free_gen--;
	s->want_discard = v.data_type == BCFS_DATA_need_discard;
	s->fragmentation = alloc_fragmentation(&v, c->a->opts.bucket_sectors);
	count_bucket(c, v.data_type);

	if (!type_matches(s, fixed, &v) || v.dirty_sectors != dirty ||
	    v.cached_sectors != s->cached || (s->pointed && v.gen != s->gen)) {
		prt_printf(&c->buf, "alloc: bucket %llu is ", (unsigned long long)bucket);
		alloc_val_to_text(&c->buf, &v);
		prt_printf(&c->buf, "; should be %s dirty %u cached %u",
			   alloc_data_type_name(fixed ? fixed : s->type), dirty, s->cached);
		if (s->pointed)
			prt_printf(&c->buf, " gen %u", s->gen);
		alloc_check_report(c);
	}
	return 0;
}

static void gens_wrong(struct alloc_checker *c, u64 bucket, u8 gen, u8 should)
{
	prt_printf(&c->buf, "alloc: bucket %llu was last free with generation %u, not %u",
		   (unsigned long long)bucket, should, gen);
	alloc_check_report(c);
}

static int check_gens_key(struct alloc_checker *c, struct bkey_s_c k)
{
	u8 gens[BCFS_ALLOC_GENS_GROUP];
	u64 nr = c->a->opts.nr_buckets, group = k.k->p.offset;

	if (!alloc_gens_unpack(k, gens) || k.k->p.inode != BCFS_ALLOC_GENS ||
	    group > (nr - 1) / BCFS_ALLOC_GENS_GROUP || alloc_gens_all_zero(gens)) {
		prt_printf(&c->buf, "alloc: generations of no buckets: ");
		bkey_to_text(&c->buf, k.k);
		alloc_check_report(c);
		return 0;
	}
	for (unsigned i = 0; i < BCFS_ALLOC_GENS_GROUP; i++) {
		u64 b = group * BCFS_ALLOC_GENS_GROUP + i;
		struct shadow *s = b < c->buckets.nr ? &c->buckets.data[b] : NULL;

		if (b >= nr && gens[i])
			gens_wrong(c, b, gens[i], 0);
		if (!s || !s->has_key)
			continue;
		s->gens_seen = true;
		if (gens[i] != s->free_gen)
			gens_wrong(c, b, gens[i], s->free_gen);
	}
	return 0;
}

int check_alloc_keys(struct alloc_checker *c)
{
	struct bpos gens = POS(BCFS_ALLOC_GENS, 0);
	int ret = for_each_btree_key_max(c->trans, iter, BTREE_ID_alloc, POS_MIN,
					 bpos_predecessor(gens), BTREE_ITER_PREFETCH, k,
					 ({ check_alloc_key(c, k); }));

	if (!ret)
		ret = for_each_btree_key (c->trans, iter, BTREE_ID_alloc, gens, BTREE_ITER_PREFETCH,
					  k, ({ check_gens_key(c, k); }));
	if (ret)
		return ret;
	for (u64 b = 0; b < c->buckets.nr; b++) {
		const struct shadow *s = &c->buckets.data[b];

		if (s->has_key && !s->gens_seen && s->free_gen)
			gens_wrong(c, b, 0, s->free_gen);
		if (!s->has_key && s->pointed) {
			prt_printf(&c->buf, "alloc: bucket %llu has no key, should be %s dirty %u",
				   (unsigned long long)b, alloc_data_type_name(s->type), s->dirty);
			alloc_check_report(c);
		}
	}
	return 0;
}

/* ---- indexes ---- */

static void index_unexpected(struct alloc_checker *c, enum btree_id id, struct bpos pos)
{
	prt_printf(&c->buf, "%s: ", btree_id_name(id));
	bpos_to_text(&c->buf, pos);
	prt_printf(&c->buf, " should not be there");
	alloc_check_report(c);
}

static void index_missing(struct alloc_checker *c, enum btree_id id, u64 bucket)
{
	prt_printf(&c->buf, "%s: bucket %llu is missing", btree_id_name(id),
		   (unsigned long long)bucket);
	alloc_check_report(c);
}

/* *end: behind the run before; 0: there was none. */
static int check_run(struct alloc_checker *c, struct bkey_s_c k, u64 *end)
{
	struct free_run r;

	if (k.k->p.inode || !alloc_run_of(k, &r) || r.last >= c->a->opts.nr_buckets) {
		index_unexpected(c, BTREE_ID_freespace, k.k->p);
		return 0;
	}
	if (*end && r.first <= *end) {
		prt_printf(&c->buf, "freespace: the run of buckets %llu to %llu %s the one before",
			   (unsigned long long)r.first, (unsigned long long)r.last,
			   r.first == *end ? "should be one with" : "overlaps");
		alloc_check_report(c);
	}
	*end = r.last + 1;
	if (!check_bucket(c, r.last))
		return -BCFS_ERR_nomem;
	for (u64 b = r.first; b <= r.last; b++) {
		struct shadow *s = &c->buckets.data[b];

		s->listed = true;
		if (s->has_key || b < c->a->opts.first_bucket) {
			prt_printf(&c->buf, "freespace: bucket %llu is not free",
				   (unsigned long long)b);
			alloc_check_report(c);
		}
	}
	return 0;
}

static void check_runs_complete(struct alloc_checker *c)
{
	for (u64 b = 0; b < c->mark; b++) {
		const struct shadow *s = b < c->buckets.nr ? &c->buckets.data[b] : NULL;

		if (!s || (!s->has_key && !s->listed && !s->pointed))
			index_missing(c, BTREE_ID_freespace, b);
	}
}

static int check_discard_key(struct alloc_checker *c, struct bkey_s_c k)
{
	u64 b = k.k->p.offset;

	if (k.k->p.inode || b >= c->buckets.nr || !c->buckets.data[b].want_discard)
		index_unexpected(c, BTREE_ID_need_discard, k.k->p);
	else
		c->buckets.data[b].want_discard = false;
	return 0;
}

static int check_lru_key(struct alloc_checker *c, struct bkey_s_c k)
{
	u64 b = k.k->p.offset & ((1ULL << 56) - 1);

	if (k.k->p.inode >> BCFS_LRU_TIME_BITS != BCFS_LRU_FRAGMENTATION)
		return 0;
	if (b >= c->buckets.nr || !c->buckets.data[b].fragmentation ||
	    !bpos_eq(k.k->p, alloc_lru_pos(0, b, c->buckets.data[b].fragmentation)))
		index_unexpected(c, BTREE_ID_lru, k.k->p);
	else
		c->buckets.data[b].fragmentation = 0;
	return 0;
}

int check_indexes(struct alloc_checker *c)
{
	u64 end = 0;
	int ret = for_each_btree_key (c->trans, iter, BTREE_ID_freespace, POS_MIN,
				      BTREE_ITER_PREFETCH, k, ({ check_run(c, k, &end); }));

	if (!ret)
		check_runs_complete(c);
	if (!ret)
		ret = for_each_btree_key (c->trans, iter, BTREE_ID_need_discard, POS_MIN,
					  BTREE_ITER_PREFETCH, k, ({ check_discard_key(c, k); }));
	if (!ret)
		ret = for_each_btree_key (c->trans, iter, BTREE_ID_lru, POS_MIN,
					  BTREE_ITER_PREFETCH, k, ({ check_lru_key(c, k); }));
	if (ret)
		return ret;
	for (u64 b = 0; b < c->buckets.nr; b++) {
		const struct shadow *s = &c->buckets.data[b];

		if (s->want_discard)
			index_missing(c, BTREE_ID_need_discard, b);
		if (s->fragmentation)
			index_missing(c, BTREE_ID_lru, b);
	}
	return 0;
}

/* ---- backpointers ---- */

static int bp_want_cmp(const void *l_, const void *r_)
{
	const struct bp_want *l = l_, *r = r_;

	return bpos_cmp(l->pos, r->pos);
}

static void bp_missing(struct alloc_checker *c, const struct bp_want *w)
{
	prt_printf(&c->buf, "backpointers: missing at ");
	bpos_to_text(&c->buf, w->pos);
	prt_printf(&c->buf, ": -> %s level %u ", btree_id_name(w->bp.btree_id), w->bp.level);
	bpos_to_text(&c->buf, w->bp.pos);
	alloc_check_report(c);
}

static bool bp_equal(const struct bcfs_backpointer *l, const struct bcfs_backpointer *r)
{
	return l->btree_id == r->btree_id && l->level == r->level && l->data_type == r->data_type &&
	       l->bucket_gen == r->bucket_gen && l->bucket_len == r->bucket_len &&
	       bpos_eq(l->pos, r->pos);
}

/* *i: the first wanted one that has not been met. */
static int check_bp_key(struct alloc_checker *c, struct bkey_s_c k, size_t *i)
{
	const struct bcfs_backpointer *bp = (const void *)k.v;
	const struct bp_want *w;

	while (*i < c->bps.nr && bpos_lt(c->bps.data[*i].pos, k.k->p))
		bp_missing(c, &c->bps.data[(*i)++]);
	w = *i < c->bps.nr ? &c->bps.data[*i] : NULL;
	if (k.k->type != KEY_TYPE_backpointer || !w || !bpos_eq(w->pos, k.k->p)) {
		index_unexpected(c, BTREE_ID_backpointers, k.k->p);
		return 0;
	}
	++*i;
	if (!bp_equal(bp, &w->bp)) {
		prt_printf(&c->buf, "backpointers: at ");
		bpos_to_text(&c->buf, k.k->p);
		prt_printf(&c->buf, " is ");
		bkey_ops_backpointer.to_text(&c->buf, k);
		prt_printf(&c->buf, "; should be %s level %u ", btree_id_name(w->bp.btree_id),
			   w->bp.level);
		bpos_to_text(&c->buf, w->bp.pos);
		prt_printf(&c->buf, " len %u gen %u", w->bp.bucket_len, w->bp.bucket_gen);
		alloc_check_report(c);
	}
	return 0;
}

int check_backpointers(struct alloc_checker *c)
{
	size_t i = 0;
	int ret;

	darray_sort(&c->bps, bp_want_cmp);
	ret = for_each_btree_key (c->trans, iter, BTREE_ID_backpointers, POS_MIN,
				  BTREE_ITER_PREFETCH, k, ({ check_bp_key(c, k, &i); }));
	while (!ret && i < c->bps.nr)
		bp_missing(c, &c->bps.data[i++]);
	return ret;
}

/* ---- counters ---- */

void check_counters(struct alloc_checker *c, const s64 *usage)
{
	static const struct {
		u8 type;
		const char *name;
	} counted[] = {
#define row(t) {BCFS_ACCOUNTING_##t, #t}
		row(reserved),	    row(btree),	       row(user),
		row(cached),	    row(sb),	       row(journal),
		row(buckets_btree), row(buckets_user), row(buckets_need_discard),
		row(uncompressed),  row(compressed),   row(inline_data),
		row(rebalance),
#undef row
	};

	for (unsigned i = 0; i < ARRAY_SIZE(counted); i++) {
		u8 t = counted[i].type;

		if (usage[t] == c->usage[t])
			continue;
		prt_printf(&c->buf, "counter %s is %lld, recount %lld", counted[i].name,
			   (long long)usage[t], (long long)c->usage[t]);
		alloc_check_report(c);
	}
}
