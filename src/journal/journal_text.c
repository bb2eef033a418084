/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Printers: entries, the journal's state, its pins. */
#include "journal/journal_private.h"

#include <string.h>

#define ULL(v) ((unsigned long long)(v))

static const char *const entry_names[BCFS_JSET_ENTRY_NR] = {
#define x(name, nr, doc) [nr] = #name,
	BCFS_JSET_ENTRY_TYPES(x)
#undef x
};

static const char *const btree_names[BTREE_ID_NR] = {
#define x(name, nr, flags, doc) [nr] = #name,
	BCFS_BTREE_IDS(x)
#undef x
};

static const char *const key_names[KEY_TYPE_NR] = {
#define x(name, nr, minval, doc) [nr] = #name,
	BCFS_BKEY_TYPES(x)
#undef x
};

static const char *const usage_names[BCFS_ACCOUNTING_NR] = {
#define x(name, nr, doc) [nr] = #name,
	BCFS_ACCOUNTING(x)
#undef x
};

static const char *name_of(const char *const *names, unsigned nr, unsigned i)
{
	return i < nr && names[i] ? names[i] : "unknown";
}

const char *jset_entry_type_name(unsigned type)
{
	return name_of(entry_names, BCFS_JSET_ENTRY_NR, type);
}

static void key_to_text(struct printbuf *out, const struct bkey_i *k)
{
	prt_printf(out, "%s %llu:%llu:%u", name_of(key_names, KEY_TYPE_NR, k->k.type),
		   ULL(k->k.p.inode), ULL(k->k.p.offset), k->k.p.snapshot);
	if (k->k.size)
		prt_printf(out, " len %u", k->k.size);
	prt_printf(out, " u64s %u", k->k.u64s);
	if (k->k.version)
		prt_printf(out, " ver %u", k->k.version);
	prt_newline(out);
}

static void usage_to_text(struct printbuf *out, const struct jset_entry *e)
{
	const struct bcfs_jset_usage *u = (const void *)e->data;

	for (unsigned i = 0; i < e->u64s * sizeof(u64) / sizeof(*u); i++)
		prt_printf(out, " %s=%lld", name_of(usage_names, BCFS_ACCOUNTING_NR, u[i].type),
			   (long long)u[i].v);
}

static void entry_to_text(struct printbuf *out, const struct jset_entry *e, bool keys)
{
	prt_printf(out, "%s", jset_entry_type_name(e->type));
	switch (e->type) {
	case BCFS_JSET_ENTRY_btree_keys:
	case BCFS_JSET_ENTRY_overwrite:
	case BCFS_JSET_ENTRY_btree_root:
		prt_printf(out, " btree %s level %u, %u u64s\n",
			   name_of(btree_names, BTREE_ID_NR, e->btree_id), e->level, e->u64s);
		if (!keys)
			return;
		prt_indent_add(out, 2);
		for_each_jset_key(k, e) key_to_text(out, k);
		prt_indent_sub(out, 2);
		return;
	case BCFS_JSET_ENTRY_usage:
		usage_to_text(out, e);
		break;
	case BCFS_JSET_ENTRY_log:
		prt_str(out, " \"");
		prt_escaped(out, e->data, strnlen((const char *)e->data, e->u64s * sizeof(u64)));
		prt_char(out, '"');
		break;
	case BCFS_JSET_ENTRY_datetime:
		prt_printf(out, " %llu", ULL(e->data[0]));
		break;
	default:
		prt_printf(out, " %u u64s", e->u64s);
		break;
	}
	prt_newline(out);
}

void jset_to_text(struct printbuf *out, const struct jset *j, bool keys)
{
	prt_printf(out, "seq %llu %s", ULL(j->seq), j->flags & JSET_NO_FLUSH ? "noflush" : "flush");
	if (!(j->flags & JSET_NO_FLUSH))
		prt_printf(out, " last_seq %llu", ULL(j->last_seq));
	prt_printf(out, " version %u.%u csum %s u64s %u\n", BCFS_VERSION_MAJOR(j->version),
		   j->version & 1023, csum_type_name(JSET_CSUM_TYPE(j)), j->u64s);
	prt_indent_add(out, 2);
	for_each_jset_entry(e, j) entry_to_text(out, e, keys);
	prt_indent_sub(out, 2);
}

static void bufs_to_text(struct printbuf *out, struct journal *j)
{
	static const char *const states[] = {
		[BUF_FREE] = "free",	   [BUF_OPEN] = "open",		  [BUF_CLOSED] = "closed",
		[BUF_WRITING] = "writing", [BUF_SUBMITTED] = "submitted",
	};
	u64 st = j->state;

	for (unsigned i = 0; i < JOURNAL_BUFS; i++) {
		const struct journal_buf *b = &j->bufs[i];

		prt_printf(out, "buffer %u: %s", i, states[b->state]);
		if (b->state != BUF_FREE)
			prt_printf(out, " seq %llu, %u holders, room %u u64s%s", ULL(b->seq),
				   st_count(st, i), b->cap, b->must_flush ? ", flush wanted" : "");
		prt_newline(out);
	}
	if (st & ST_OPEN)
		prt_printf(out, "left in the open entry: %u u64s%s\n", st_left(st),
			   st & ST_LOW ? ", for reclaim only" : "");
}

void journal_to_text(struct printbuf *out, const struct journal *cj)
{
	struct journal *j = (struct journal *)cj;

	env_mutex_lock(&j->lock);
	prt_printf(out, "seq: current %llu, written %llu, durable %llu\n", ULL(j->cur_seq),
		   ULL(j->seq_ondisk), ULL(j->flushed_seq));
	prt_printf(out, "last_seq: %llu, on the device %llu\n", ULL(j->last_seq),
		   ULL(j->last_seq_ondisk));
	prt_printf(out,
		   "ring: %u buckets of %u bytes, at %u + %u, %u free ahead, %u kept for reclaim\n",
		   j->nr_buckets, j->bucket_bytes, j->cur_bucket, j->cur_off, j->free_ahead,
		   j->reserve_buckets);
	prt_printf(out, "entries: up to %u bytes; reservations waiting for space: %u\n",
		   j->entry_bytes, j->nr_waiting);
	if (j->err)
		prt_printf(out, "error: %s\n", err_str(j->err));
	bufs_to_text(out, j);
#define x(name, doc) prt_printf(out, "%s: %llu\n", doc, ULL(j->counters.name));
	JOURNAL_COUNTERS(x)
#undef x
	env_mutex_unlock(&j->lock);
}

static unsigned pins_in(const struct journal_entry_pin *p)
{
	unsigned nr = 0;

	for (; p; p = p->next)
		nr++;
	return nr;
}

void journal_pins_to_text(struct printbuf *out, struct journal *j)
{
	env_mutex_lock(&j->pin_lock);
	for (u64 seq = j->last_seq; seq < j->pin_back; seq++) {
		const struct journal_pin_list *l = &j->pins[seq & j->pin_mask];

		if (!l->count)
			continue;
		prt_printf(out, "seq %llu: %u held, %u pins, %u being flushed\n", ULL(seq),
			   l->count, pins_in(l->unflushed), pins_in(l->flushing));
	}
	env_mutex_unlock(&j->pin_lock);
}
