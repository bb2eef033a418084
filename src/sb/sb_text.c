// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A superblock in words: one row a line, names before numbers, unknown bits and
 * fields as what they are.
 */
#include "codec/codec.h"
#include "sb/sb_crypt.h"
#include "sb/sb_private.h"
#include "util/errcode.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

void sb_uuid_to_text(struct printbuf *out, const struct bcfs_uuid *uuid)
{
	static const u8 parts[] = {4, 2, 2, 2, 6};
	const u8 *p = uuid->b;

	for (unsigned i = 0; i < ARRAY_SIZE(parts); p += parts[i++]) {
		if (i)
			prt_char(out, '-');
		prt_hex(out, p, parts[i]);
	}
}

static void time_to_text(struct printbuf *out, u64 ns)
{
	time_t sec = (time_t)(ns / 1000000000) + BCFS_TIME_EPOCH_SEC;
	struct tm tm;
	char buf[40];

	if (!ns || !gmtime_r(&sec, &tm) || !strftime(buf, sizeof(buf), "%F %T UTC", &tm)) {
		prt_str(out, "never");
		return;
	}
	prt_str(out, buf);
}

static void row(struct printbuf *out, const char *name)
{
	prt_printf(out, "%s:", name);
	prt_tab(out);
}

static void row_u64(struct printbuf *out, const char *name, u64 v)
{
	row(out, name);
	prt_u64(out, v);
	prt_newline(out);
}

static void row_sectors(struct printbuf *out, const char *name, u64 sectors)
{
	row(out, name);
	prt_human_u64(out, sectors * SECTOR_SIZE);
	prt_newline(out);
}

static void row_time(struct printbuf *out, const char *name, u64 ns)
{
	row(out, name);
	time_to_text(out, ns);
	prt_newline(out);
}

static void row_uuid(struct printbuf *out, const char *name, const struct bcfs_uuid *u)
{
	row(out, name);
	sb_uuid_to_text(out, u);
	prt_newline(out);
}

static void row_str(struct printbuf *out, const char *name, const char *s)
{
	row(out, name);
	prt_str(out, s);
	prt_newline(out);
}

/* ---- fields ---- */

static const char *member_state(unsigned state)
{
	static const char *const names[] = {"rw", "ro", "evacuating", "spare"};

	return state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

static void members_to_text(struct printbuf *out, const struct bcfs_sb *sb,
			    const struct bcfs_sb_field *f)
{
	static const char *const flags[] = {"discard", "freespace_ok"};

	for (unsigned i = 0; i < sb_nr_members(sb); i++) {
		struct bcfs_member m = sb_member_get(sb, i);

		prt_printf(out, "device %u%s\n", i, i == sb->dev_idx ? " (this one)" : "");
		prt_indent_add(out, 2);
		row_uuid(out, "uuid", &m.uuid);
		row_str(out, "state", member_state(m.state));
		row_sectors(out, "bucket size", m.bucket_sectors);
		row_u64(out, "first bucket", m.first_bucket);
		row_u64(out, "buckets", m.nr_buckets);
		row_u64(out, "durability", m.durability);
		row_u64(out, "label", m.label);
		row(out, "flags");
		prt_bitflags(out, flags, ARRAY_SIZE(flags), m.flags);
		prt_newline(out);
		row_time(out, "last mount", m.last_mount);
		row(out, "errors");
		prt_printf(out, "%" PRIu64 " read, %" PRIu64 " write, %" PRIu64 " checksum\n",
			   m.errors[0], m.errors[1], m.errors[2]);
		row_u64(out, "seq", m.seq);
		prt_indent_sub(out, 2);
	}
}

static void journal_to_text(struct printbuf *out, const struct bcfs_sb *sb,
			    const struct bcfs_sb_field *f)
{
	row_u64(out, "buckets", sb_journal_nr_buckets(sb));
	for (unsigned i = 0; i < sb_journal_nr_runs(sb); i++) {
		struct bcfs_journal_run r = sb_journal_run(sb, i);

		prt_printf(out, "%" PRIu64 " buckets at %" PRIu64 "\n", r.nr, r.start);
	}
}

static void crypt_to_text(struct printbuf *out, const struct bcfs_sb *sb,
			  const struct bcfs_sb_field *f)
{
	const struct bcfs_sb_field_crypt *c = (const void *)f;

	row_u64(out, "key generation", c->key_gen);
	if (c->nr_old) {
		row(out, "older generations");
		for (unsigned i = 0; i < c->nr_old; i++)
			prt_printf(out, "%s%u", i ? ", " : "", sb_crypt_old(c)[i].key_gen);
		prt_newline(out);
	}
	for (unsigned i = 0; i < c->nr_slots; i++) {
		const struct bcfs_crypt_slot *s = &c->slots[i];

		switch (s->type) {
		case BCFS_CRYPT_SLOT_free:
			break;
		case BCFS_CRYPT_SLOT_passphrase:
			prt_printf(out, "slot %u: passphrase, Argon2id with %u passes over ", i,
				   s->kdf_ops);
			prt_human_u64(out, s->kdf_mem);
			prt_newline(out);
			break;
		case BCFS_CRYPT_SLOT_key_file:
			prt_printf(out, "slot %u: key file\n", i);
			break;
		default:
			prt_printf(out, "slot %u: unknown type %u\n", i, s->type);
		}
	}
	prt_printf(out, "%u of %u slots in use\n", sb_crypt_nr_used(sb), c->nr_slots);
}

static void clean_to_text(struct printbuf *out, const struct bcfs_sb *sb,
			  const struct bcfs_sb_field *f)
{
	static const char *const types[] = {
#define x(name, nr, doc) [nr] = #name,
		BCFS_JSET_ENTRY_TYPES(x)
#undef x
	};
	static const char *const btrees[] = {
#define x(name, nr, flags, doc) [nr] = #name,
		BCFS_BTREE_IDS(x)
#undef x
	};
	const struct bcfs_sb_field_clean *c = (const void *)f;
	const u64 *end = (const u64 *)f + f->u64s;

	row_u64(out, "journal seq", c->journal_seq);
	row_u64(out, "key generation", c->key_gen);
	if (c->key_gen) {
		prt_printf(out, "encrypted, %zu words\n", (size_t)(end - c->start));
		return;
	}
	for (const u64 *p = c->start; p < end;) {
		const struct jset_entry *e = (const void *)p;

		prt_printf(out, "%s", e->type < ARRAY_SIZE(types) ? types[e->type] : "unknown");
		if (e->type == BCFS_JSET_ENTRY_btree_root)
			prt_printf(out, " %s level %u",
				   e->btree_id < ARRAY_SIZE(btrees) ? btrees[e->btree_id]
								    : "unknown",
				   e->level);
		prt_printf(out, ", %u words\n", e->u64s);
		p += 1 + e->u64s;
	}
}

static void blacklist_to_text(struct printbuf *out, const struct bcfs_sb *sb,
			      const struct bcfs_sb_field *f)
{
	for (unsigned i = 0; i < sb_blacklist_nr(sb); i++) {
		struct bcfs_blacklist_range r = sb_blacklist_range(sb, i);

		prt_printf(out, "%" PRIu64 " to %" PRIu64 "\n", r.start, r.end);
	}
}

static void errors_to_text(struct printbuf *out, const struct bcfs_sb *sb,
			   const struct bcfs_sb_field *f)
{
	const struct bcfs_sb_field_errors *e = (const void *)f;

	for (unsigned i = 0; i < sb_array_nr(e, d); i++) {
		const struct bcfs_sb_error *d = &e->d[i];
		bool known = d->kind > BCFS_ERR_BASE && d->kind < INT32_MAX;

		prt_printf(out, "%u %s: %" PRIu64 " times, last ", d->kind,
			   known ? err_name(d->kind) : "unknown", d->nr);
		time_to_text(out, d->last);
		prt_newline(out);
	}
}

static void labels_to_text(struct printbuf *out, const struct bcfs_sb *sb,
			   const struct bcfs_sb_field *f)
{
	const struct bcfs_sb_field_labels *l = (const void *)f;

	for (unsigned i = 0; i < sb_array_nr(l, d); i++) {
		prt_printf(out, "%u: ", i + 1);
		prt_escaped(out, l->d[i].name,
			    strnlen((const char *)l->d[i].name, sizeof(l->d[i].name)));
		prt_printf(out, ", parent %u\n", l->d[i].parent);
	}
}

static void downgrade_to_text(struct printbuf *out, const struct bcfs_sb *sb,
			      const struct bcfs_sb_field *f)
{
	const struct bcfs_sb_field_downgrade *d = (const void *)f;

	for (unsigned i = 0; i < sb_array_nr(d, d); i++)
		prt_printf(out, "below %u.%u: passes %#" PRIx64 "\n",
			   BCFS_VERSION_MAJOR(d->d[i].version), d->d[i].version & 1023,
			   d->d[i].passes);
}

static void unknown_to_text(struct printbuf *out, const struct bcfs_sb_field *f)
{
	const u8 *p = (const u8 *)f->data;
	size_t len = sb_field_bytes(f) - sizeof(*f);

	for (size_t i = 0; i < len; i += 32) {
		prt_hex(out, p + i, min_t(size_t, len - i, 32));
		prt_newline(out);
	}
}

static void (*const field_to_text[BCFS_SB_FIELD_NR])(struct printbuf *, const struct bcfs_sb *,
						     const struct bcfs_sb_field *) = {
	[BCFS_SB_FIELD_members] = members_to_text,
	[BCFS_SB_FIELD_journal] = journal_to_text,
	[BCFS_SB_FIELD_crypt] = crypt_to_text,
	[BCFS_SB_FIELD_clean] = clean_to_text,
	[BCFS_SB_FIELD_blacklist] = blacklist_to_text,
	[BCFS_SB_FIELD_errors] = errors_to_text,
	[BCFS_SB_FIELD_labels] = labels_to_text,
	[BCFS_SB_FIELD_downgrade] = downgrade_to_text,
};

/* ---- the fixed part ---- */

static void features_to_text(struct printbuf *out, const char *name, enum sb_feature_set set,
			     const u64 words[2])
{
	bool any = false;

	row(out, name);
	for (unsigned bit = 0; bit < 128; bit++) {
		if (!(words[bit / 64] >> bit % 64 & 1))
			continue;
		if (any)
			prt_char(out, ',');
		if (sb_feature_name(set, bit))
			prt_str(out, sb_feature_name(set, bit));
		else
			prt_printf(out, "bit %u", bit);
		any = true;
	}
	prt_str(out, any ? "\n" : "none\n");
}

static void options_to_text(struct printbuf *out, const struct bcfs_sb *sb)
{
	static const char *const errors[] = {"ro", "continue", "panic", "unknown"};

	row_str(out, "metadata checksum", csum_type_name(sb_opt_get(sb, SB_OPT_meta_csum)));
	row_str(out, "data checksum", csum_type_name(sb_opt_get(sb, SB_OPT_data_csum)));
	row(out, "compression");
	compression_opt_to_text(out, sb_compression(sb));
	prt_str(out, "\n");
	row(out, "in the background");
	compression_opt_to_text(out, sb_background_compression(sb));
	prt_str(out, "\n");
	row_sectors(out, "checksum chunk", 1ULL << sb_opt_get(sb, SB_OPT_chunk_shift));
	row_sectors(out, "longest extent", sb_opt_get(sb, SB_OPT_extent_max));
	row(out, "inline data");
	if (sb_opt_get(sb, SB_OPT_inline_max))
		prt_printf(out, "up to %u bytes\n", (unsigned)sb_opt_get(sb, SB_OPT_inline_max));
	else
		prt_str(out, "none\n");
	row_str(out, "errors", errors[sb_opt_get(sb, SB_OPT_errors)]);
}

static void layout_to_text(struct printbuf *out, const struct bcfs_sb *sb)
{
	row(out, "copies at sectors");
	for (unsigned i = 0; i < sb->layout.nr_copies; i++)
		prt_printf(out, "%s%" PRIu64, i ? ", " : "", sb->layout.offset[i]);
	prt_newline(out);
	row_sectors(out, "room for a copy", 1ULL << sb->layout.max_size_bits);
	row(out, "size");
	prt_human_u64(out, sb_bytes(sb));
	prt_newline(out);
}

static void head_to_text(struct printbuf *out, const struct bcfs_sb *sb)
{
	row_uuid(out, "uuid", &sb->user_uuid);
	row_uuid(out, "internal uuid", &sb->uuid);
	row(out, "label");
	prt_escaped(out, sb->label, strnlen((const char *)sb->label, sizeof(sb->label)));
	prt_newline(out);
	row(out, "version");
	prt_printf(out, "%u.%u, oldest structure %u.%u\n", BCFS_VERSION_MAJOR(sb->version),
		   sb->version & 1023, BCFS_VERSION_MAJOR(sb->version_min), sb->version_min & 1023);
	row_str(out, "checksum type", csum_type_name(sb->csum_type));
	row_u64(out, "sequence", sb->seq);
	row_u64(out, "devices", sb->nr_devices);
	row_u64(out, "this device", sb->dev_idx);
	row_sectors(out, "block size", sb->block_sectors);
	row_sectors(out, "btree node size", sb->btree_node_sectors);
	row_time(out, "made", sb->time_base);
	row_time(out, "written", sb->write_time);
}

void sb_to_text(struct printbuf *out, const struct bcfs_sb *sb)
{
	static const char *const flags[] = {"clean", "initialized", "error", "discard"};
	const u64 no_options = 0xff | 3ULL << 30 | ~((1ULL << 44) - 1);

	prt_tabstop_push(out, 28);
	head_to_text(out, sb);
	row(out, "flags");
	prt_bitflags(out, flags, ARRAY_SIZE(flags), sb->flags[0] & no_options);
	prt_newline(out);
	for (unsigned i = 1; i < ARRAY_SIZE(sb->flags); i++) {
		u64 unknown = sb->flags[i] & ~(i == 1 ? BCFS_SB_OPTIONS_1 : 0);

		if (unknown)
			prt_printf(out, "unknown flags %u: %#" PRIx64 "\n", i, unknown);
	}
	features_to_text(out, "compatible features", SB_FEATURE_compat, sb->features_compat);
	features_to_text(out, "read-only features", SB_FEATURE_ro_compat, sb->features_ro_compat);
	features_to_text(out, "incompatible features", SB_FEATURE_incompat, sb->features_incompat);
	options_to_text(out, sb);
	layout_to_text(out, sb);
	for_each_sb_field(sb, f)
	{
		prt_printf(out, "field %s (%u), %zu bytes\n", sb_field_name(f->type), f->type,
			   sb_field_bytes(f));
		prt_indent_add(out, 2);
		if (f->type < BCFS_SB_FIELD_NR && field_to_text[f->type])
			field_to_text[f->type](out, sb, f);
		else
			unknown_to_text(out, f);
		prt_indent_sub(out, 2);
	}
	prt_tabstops_reset(out);
}
