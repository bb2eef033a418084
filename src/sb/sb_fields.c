// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The fields: found, resized, and typed access to what they hold. The buffer is
 * as large as an area and zero behind the last field; resizing moves what lies
 * behind and never touches other fields' bytes.
 */
#include "sb/sb_private.h"
#include "util/errcode.h"

#include <string.h>

const char *sb_field_name(u32 type)
{
	static const char *const names[] = {
#define x(name, nr, doc) [nr] = #name,
		BCFS_SB_FIELDS(x)
#undef x
	};

	return type < ARRAY_SIZE(names) && names[type] ? names[type] : "unknown";
}

struct bcfs_sb_field *sb_field_get(const struct bcfs_sb *sb, u32 type)
{
	for_each_sb_field((struct bcfs_sb *)sb, f) if (f->type == type) return f;
	return NULL;
}

int sb_field_resize(struct sb_handle *h, u32 type, u32 u64s, struct bcfs_sb_field **ret)
{
	struct bcfs_sb *sb = h->sb;
	struct bcfs_sb_field *f = sb_field_get(sb, type);
	u64 *end = sb->start + sb->u64s, *at = f ? (u64 *)f : end;
	u32 old = f ? f->u64s : 0;

	if (u64s > old && sb_bytes(sb) + ((u64)u64s - old) * 8 > sb_area_bytes(sb))
		return -BCFS_ERR_sb_full;
	memmove(at + u64s, at + old, (end - (at + old)) * 8);
	if (u64s > old)
		memset(at + old, 0, (u64s - old) * 8);
	else
		memset(end - (old - u64s), 0, (old - u64s) * 8);
	sb->u64s = sb->u64s + u64s - old;
	f = NULL;
	if (u64s) {
		f = (struct bcfs_sb_field *)at;
		f->u64s = u64s;
		f->type = type;
	}
	if (ret)
		*ret = f;
	return 0;
}

/* ---- members ---- */

static struct bcfs_member *member_ptr(struct bcfs_sb_field_members *mi, unsigned idx)
{
	return (struct bcfs_member *)((u8 *)mi->m + (size_t)idx * mi->member_bytes);
}

unsigned sb_nr_members(const struct bcfs_sb *sb)
{
	const struct bcfs_sb_field_members *mi = sb_field_members(sb);

	return mi ? mi->nr : 0;
}

struct bcfs_member sb_member_get(const struct bcfs_sb *sb, unsigned idx)
{
	struct bcfs_sb_field_members *mi = sb_field_members(sb);
	struct bcfs_member m = {0};

	if (mi && idx < mi->nr)
		memcpy(&m, member_ptr(mi, idx), min_t(size_t, sizeof(m), mi->member_bytes));
	return m;
}

int sb_member_set(struct sb_handle *h, unsigned idx, const struct bcfs_member *m)
{
	struct bcfs_sb_field_members *mi = sb_field_members(h->sb);
	u32 each = mi ? mi->member_bytes : sizeof(*m), nr = mi ? mi->nr : 0;

	if (idx > nr || idx >= UINT8_MAX)
		return -BCFS_ERR_sb_invalid_dev_idx;
	if (idx == nr) {
		struct bcfs_sb_field *f;
		u64 bytes = sizeof(*mi) + (u64)(nr + 1) * each;
		int ret = sb_field_resize(h, BCFS_SB_FIELD_members, bytes / 8, &f);

		if (ret)
			return ret;
		mi = (struct bcfs_sb_field_members *)f;
		mi->member_bytes = each;
		mi->nr = h->sb->nr_devices = nr + 1;
	}
	memcpy(member_ptr(mi, idx), m, min_t(size_t, sizeof(*m), each));
	return 0;
}

/* ---- journal ---- */

unsigned sb_journal_nr_runs(const struct bcfs_sb *sb)
{
	return sb_array_nr(sb_field_journal(sb), d);
}

struct bcfs_journal_run sb_journal_run(const struct bcfs_sb *sb, unsigned i)
{
	assert(i < sb_journal_nr_runs(sb));
	return sb_field_journal(sb)->d[i];
}

u64 sb_journal_nr_buckets(const struct bcfs_sb *sb)
{
	u64 sum = 0;

	for (unsigned i = 0; i < sb_journal_nr_runs(sb); i++)
		sum += sb_journal_run(sb, i).nr;
	return sum;
}

u64 sb_journal_bucket(const struct bcfs_sb *sb, u64 n)
{
	for (unsigned i = 0; i < sb_journal_nr_runs(sb); i++) {
		struct bcfs_journal_run r = sb_journal_run(sb, i);

		if (n < r.nr)
			return r.start + n;
		n -= r.nr;
	}
	assert(!"no such journal bucket");
	return 0;
}

/* Replaces an array field that is nothing but its entries; none: no field. */
static int array_set(struct sb_handle *h, u32 type, const void *d, unsigned nr, size_t each)
{
	u64 u64s = nr ? 1 + nr * each / 8 : 0;
	struct bcfs_sb_field *f;
	int ret;

	if (u64s > UINT32_MAX)
		return -BCFS_ERR_sb_full;
	ret = sb_field_resize(h, type, u64s, &f);
	if (!ret && nr)
		memcpy(f->data, d, nr * each);
	return ret;
}

int sb_journal_set(struct sb_handle *h, const struct bcfs_journal_run *runs, unsigned nr)
{
	if (nr > SB_JOURNAL_RUNS_MAX)
		return -BCFS_ERR_sb_full;
	return array_set(h, BCFS_SB_FIELD_journal, runs, nr, sizeof(*runs));
}

/* ---- clean ---- */

int sb_clean_set(struct sb_handle *h, u64 journal_seq, const void *entries, u32 u64s)
{
	const u32 head = sizeof(struct bcfs_sb_field_clean) / 8;
	struct bcfs_sb_field_clean *c;
	struct bcfs_sb_field *f;
	int ret;

	if (u64s > UINT32_MAX - head)
		return -BCFS_ERR_sb_full;
	if (sb_has_encryption(h->sb) && !h->keys)
		return -BCFS_ERR_sb_crypt_locked;
	ret = sb_field_resize(h, BCFS_SB_FIELD_clean, head + u64s, &f);
	if (ret)
		return ret;
	c = (struct bcfs_sb_field_clean *)f;
	memset(&c->journal_seq, 0, sizeof(*c) - sizeof(c->field));
	c->journal_seq = journal_seq;
	if (u64s)
		memcpy(c->start, entries, (size_t)u64s * 8);
	if (h->keys)
		sb_clean_seal(h, c);
	h->sb->flags[0] |= BCFS_SB_FLAG_CLEAN;
	return 0;
}

/* ---- blacklist ---- */

unsigned sb_blacklist_nr(const struct bcfs_sb *sb)
{
	return sb_array_nr(sb_field_blacklist(sb), d);
}

struct bcfs_blacklist_range sb_blacklist_range(const struct bcfs_sb *sb, unsigned i)
{
	assert(i < sb_blacklist_nr(sb));
	return sb_field_blacklist(sb)->d[i];
}

bool sb_blacklist_has(const struct bcfs_sb *sb, u64 seq)
{
	const struct bcfs_sb_field_blacklist *bl = sb_field_blacklist(sb);
	unsigned lo = 0, hi = sb_blacklist_nr(sb);

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (bl->d[mid].end < seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < sb_blacklist_nr(sb) && bl->d[lo].start <= seq;
}

int sb_blacklist_add(struct sb_handle *h, u64 start, u64 end)
{
	struct bcfs_sb_field_blacklist *bl = sb_field_blacklist(h->sb);
	unsigned nr = sb_blacklist_nr(h->sb), lo = 0, hi;
	struct bcfs_blacklist_range *d;
	struct bcfs_sb_field *f;
	int ret;

	assert(start <= end);
	/* [lo, hi) touches or overlaps the new range. */
	while (lo < nr && bl->d[lo].end < start && bl->d[lo].end + 1 < start)
		lo++;
	for (hi = lo; hi < nr && (bl->d[hi].start <= end || bl->d[hi].start - 1 <= end); hi++) {
		start = min(start, bl->d[hi].start);
		end = max(end, bl->d[hi].end);
	}
	if (lo == hi) {
		ret = sb_field_resize(h, BCFS_SB_FIELD_blacklist, 1 + (nr + 1) * sizeof(*d) / 8,
				      &f);
		if (ret)
			return ret;
		d = ((struct bcfs_sb_field_blacklist *)f)->d;
		memmove(d + lo + 1, d + lo, (nr - lo) * sizeof(*d));
		d[lo] = (struct bcfs_blacklist_range){start, end};
		return 0;
	}
	d = bl->d;
	d[lo] = (struct bcfs_blacklist_range){start, end};
	memmove(d + lo + 1, d + hi, (nr - hi) * sizeof(*d));
	return sb_field_resize(h, BCFS_SB_FIELD_blacklist,
			       1 + (nr - (hi - lo) + 1) * sizeof(*d) / 8, NULL);
}

void sb_blacklist_drop_below(struct sb_handle *h, u64 seq)
{
	struct bcfs_sb_field_blacklist *bl = sb_field_blacklist(h->sb);
	unsigned nr = sb_blacklist_nr(h->sb), drop = 0;

	while (drop < nr && bl->d[drop].end < seq)
		drop++;
	if (!drop)
		return;
	nr -= drop;
	memmove(bl->d, bl->d + drop, nr * sizeof(bl->d[0]));
	(void)sb_field_resize(h, BCFS_SB_FIELD_blacklist, nr ? 1 + nr * sizeof(bl->d[0]) / 8 : 0,
			      NULL);
}

/* ---- errors ---- */

static struct bcfs_sb_error *error_find(const struct bcfs_sb *sb, u32 kind)
{
	struct bcfs_sb_field_errors *e = sb_field_errors(sb);

	for (unsigned i = 0; i < sb_array_nr(e, d); i++)
		if (e->d[i].kind == kind)
			return &e->d[i];
	return NULL;
}

u64 sb_error_nr(const struct bcfs_sb *sb, u32 kind)
{
	const struct bcfs_sb_error *e = error_find(sb, kind);

	return e ? e->nr : 0;
}

int sb_error_add(struct sb_handle *h, u32 kind, u64 nr)
{
	struct bcfs_sb_error *e = error_find(h->sb, kind);

	if (!e) {
		unsigned have = sb_array_nr(sb_field_errors(h->sb), d);
		struct bcfs_sb_field *f;
		int ret = sb_field_resize(h, BCFS_SB_FIELD_errors, 1 + (have + 1) * sizeof(*e) / 8,
					  &f);

		if (ret)
			return ret;
		e = &((struct bcfs_sb_field_errors *)f)->d[have];
		e->kind = kind;
	}
	e->nr = e->nr + nr < nr ? UINT64_MAX : e->nr + nr;
	e->last = sb_now(h->env);
	return 0;
}
