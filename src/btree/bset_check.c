/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looking at a node's keys from outside: invariants, statistics, text. */
#include "btree/bset_private.h"

#include "util/errcode.h"
#include "util/eytzinger.h"
#include "util/printbuf.h"

#include <stdarg.h>

static int bad(struct printbuf *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int bad(struct printbuf *err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	prt_vprintf(err, fmt, args);
	va_end(args);
	return -BCFS_ERR_bset_corrupt;
}

/* Sizes, order, counts. */
static int verify_set(const struct btree_keys *b, unsigned i, struct printbuf *err)
{
	const struct bset_tree *t = &b->set[i];
	const struct bkey_packed *prev = NULL;
	struct bset_tree n = *t;

	if (t->start != (i ? b->set[i - 1].end : 0) || t->end < t->start ||
	    t->end > b->capacity_u64s)
		return bad(err, "set %u lies at %u .. %u", i, t->start, t->end);

	for (u32 idx = t->start; idx < t->end;) {
		const struct bkey_packed *k = bset_idx_to_key(b, idx);

		if (k->format > BKEY_FORMAT_CURRENT || k->u64s < bkeyp_key_u64s(&b->f, k) ||
		    k->u64s > t->end - idx)
			return bad(err, "set %u: bad key at %u: format %u, %u u64s", i, idx,
				   k->format, k->u64s);
		if (prev && bkey_cmp_packed(&b->f, prev, k) >= 0)
			return bad(err, "set %u: key at %u out of order", i, idx);
		if (i < b->nr_written && k->needs_whiteout)
			return bad(err, "set %u: key at %u: needs_whiteout in a written set", i,
				   idx);
		if (t->aux_type == BSET_RW_AUX && !bkeyp_is_live(k) && !k->needs_whiteout)
			return bad(err, "set %u: key at %u: garbage while inserting", i, idx);
		prev = k;
		idx += k->u64s;
	}

	bset_count(b, &n);
	if (n.live_u64s != t->live_u64s || n.nr_live != t->nr_live ||
	    n.whiteout_u64s != t->whiteout_u64s)
		return bad(err, "set %u: counts %u %u %u, should be %u %u %u", i, t->live_u64s,
			   t->nr_live, t->whiteout_u64s, n.live_u64s, n.nr_live, n.whiteout_u64s);
	return 0;
}

/* Every entry of the table or tree leads to a key, in order. */
static int verify_aux(const struct btree_keys *b, unsigned i, struct printbuf *err)
{
	const struct bset_tree *t = &b->set[i];
	u32 base = t->start / LINE_U64S, idx = t->start;

	if (t->aux_type == BSET_RW_AUX) {
		const u16 *off = bset_rw_aux(b, t);

		if (t->aux_nr > RW_AUX_MAX || !t->aux_nr != (t->start == t->end))
			return bad(err, "set %u: table of %u", i, t->aux_nr);
		for (u32 n = 0; n < t->aux_nr; n++) {
			if (n ? off[n] <= off[n - 1] : off[n])
				return bad(err, "set %u: table entry %u: %u", i, n, off[n]);
			while (idx < t->end && idx < t->start + off[n])
				idx += bset_idx_to_key(b, idx)->u64s;
			if (idx >= t->end || idx != t->start + off[n])
				return bad(err, "set %u: table entry %u: no key at %u", i, n,
					   off[n]);
		}
		return 0;
	}
	if (t->aux_type != BSET_RO_AUX)
		return bad(err, "set %u: no aux", i);

	for (u32 rank = 1; rank <= t->aux_nr; rank++) {
		unsigned n = inorder_to_eytzinger1_(rank, t->aux_nr, t->aux_extra);
		u32 k = bset_ro_idx(t, bset_ro_aux(b, t), n, rank);

		while (idx < t->end && idx < (base + rank) * LINE_U64S)
			idx += bset_idx_to_key(b, idx)->u64s;
		while (idx < t->end && idx < k)
			idx += bset_idx_to_key(b, idx)->u64s;
		if (idx >= t->end || idx != k)
			return bad(err, "set %u: entry of line %u: no key at %u", i, rank, k);
	}
	return 0;
}

/* At most one live key a position; one live key or whiteout among the unwritten ones. */
static int verify_positions(const struct btree_keys *b, struct printbuf *err)
{
	u32 at[MAX_BSETS];
	const struct bkey_packed *live = NULL, *unwritten = NULL;

	for (unsigned i = 0; i < b->nsets; i++)
		at[i] = b->set[i].start;
	while (true) {
		const struct bkey_packed *k = NULL;
		unsigned best = 0;

		for (unsigned i = 0; i < b->nsets; i++) {
			const struct bkey_packed *c = bset_idx_to_key(b, at[i]);

			if (at[i] < b->set[i].end && (!k || bkey_cmp_packed(&b->f, c, k) < 0)) {
				k = c;
				best = i;
			}
		}
		if (!k)
			return 0;
		at[best] += k->u64s;
		if (bkeyp_is_live(k)) {
			if (live && !bkey_cmp_packed(&b->f, live, k))
				return bad(err, "two live keys at one position");
			live = k;
		}
		if (best >= b->nr_written && (bkeyp_is_live(k) || k->needs_whiteout)) {
			if (unwritten && !bkey_cmp_packed(&b->f, unwritten, k))
				return bad(err, "two unwritten keys at one position");
			unwritten = k;
		}
	}
}

int btree_keys_verify(const struct btree_keys *b, struct printbuf *err)
{
	int ret;

	if (b->nsets > MAX_BSETS || b->nr_written > b->nsets)
		return bad(err, "%u sets, %u written", b->nsets, b->nr_written);
	for (unsigned i = 0; i < b->nsets; i++) {
		if (i + 1 < b->nsets && b->set[i].aux_type == BSET_RW_AUX)
			return bad(err, "set %u is not the last, but being inserted into", i);
		ret = verify_set(b, i, err) ?: verify_aux(b, i, err);
		if (ret)
			return ret;
	}
	return verify_positions(b, err);
}

void btree_keys_stats(const struct btree_keys *b, struct bset_stats *stats)
{
	for (unsigned i = 0; i < b->nsets; i++) {
		const struct bset_tree *t = &b->set[i];

		stats->sets[t->aux_type]++;
		stats->bytes[t->aux_type] += (u64)bset_u64s(t) * 8;
		if (t->aux_type == BSET_RO_AUX)
			for (u32 n = 1; n <= t->aux_nr; n++) {
				if (bset_ro_aux(b, t)->tree[n].exponent == BFLOAT_FAILED)
					stats->failed++;
				else
					stats->floats++;
			}

		for (const struct bkey_packed *k = bset_first(b, t); k != bset_last(b, t);
		     k = bkeyp_next(k)) {
			if (!bkeyp_is_live(k))
				continue;
			if (k->format == BKEY_FORMAT_LOCAL)
				stats->packed_keys++;
			else
				stats->unpacked_keys++;
			stats->key_bytes += bkeyp_key_u64s(&b->f, k) * 8;
			stats->val_bytes += bkeyp_val_u64s(&b->f, k) * 8;
			stats->key_bytes_unpacked += BKEY_U64s * 8;
		}
	}
}

void btree_keys_to_text(struct printbuf *out, const struct btree_keys *b)
{
	static const char *const aux[] = {"none", "tree", "table"};

	prt_str(out, "format ");
	bkey_format_to_text(out, &b->f.f);
	prt_newline(out);
	for (unsigned i = 0; i < b->nsets; i++) {
		const struct bset_tree *t = &b->set[i];

		prt_printf(out,
			   "set %u: %s, u64s %u live %u whiteouts %u, keys %u, seq %llu, aux %s %u",
			   i, i < b->nr_written ? "written" : "unwritten", bset_u64s(t),
			   t->live_u64s, t->whiteout_u64s, t->nr_live,
			   (unsigned long long)t->journal_seq, aux[t->aux_type], t->aux_nr);
		prt_newline(out);
		prt_indent_add(out, 2);
		for (const struct bkey_packed *k = bset_first(b, t); k != bset_last(b, t);
		     k = bkeyp_next(k)) {
			struct bkey u = bkey_unpack_key(&b->f, k);

			bkey_to_text(out, &u);
			if (k->format == BKEY_FORMAT_CURRENT)
				prt_str(out, " unpacked");
			if (k->needs_whiteout)
				prt_str(out, " needs_whiteout");
			prt_newline(out);
		}
		prt_indent_sub(out, 2);
	}
}
