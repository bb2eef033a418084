// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The one check of a superblock. Everything is taken for hostile: bounds first,
 * then the checksum, then meaning, from the whole to the fields.
 */
#include "bcfs/format/journal.h"
#include "codec/codec.h"
#include "sb/sb_crypt.h"
#include "sb/sb_private.h"
#include "util/errcode.h"

#include <string.h>

static const u8 sb_magic_bytes[16] = BCFS_SB_MAGIC;

static bool uuid_is_zero(const struct bcfs_uuid *u)
{
	static const struct bcfs_uuid zero;

	return !memcmp(u, &zero, sizeof(zero));
}

/* ---- fields ---- */

static int validate_member(const struct bcfs_sb *sb, unsigned idx, const struct bcfs_member *m,
			   struct printbuf *err)
{
	const struct bcfs_sb_layout *l = &sb->layout;
	u64 first, end;

	if (!is_power_of_2(m->bucket_sectors) || m->bucket_sectors < sb->btree_node_sectors)
		return sb_fail(err, sb_invalid_members,
			       "device %u: bucket size of %u sectors, node size %u", idx,
			       m->bucket_sectors, sb->btree_node_sectors);
	if (m->nr_buckets <= m->first_bucket ||
	    m->nr_buckets > SB_DEV_SECTORS_MAX / m->bucket_sectors)
		return sb_fail(err, sb_invalid_members, "device %u: buckets %u to %llu", idx,
			       m->first_bucket, (unsigned long long)m->nr_buckets);
	if (m->state > BCFS_MEMBER_spare)
		return sb_fail(err, sb_invalid_members, "device %u: unknown state %u", idx,
			       m->state);
	if (m->label > sb_array_nr(sb_field_labels(sb), d))
		return sb_fail(err, sb_invalid_members, "device %u: label %u is not there", idx,
			       m->label);
	if (idx != sb->dev_idx)
		return 0;
	first = (u64)m->first_bucket * m->bucket_sectors;
	end = m->nr_buckets * m->bucket_sectors;
	for (unsigned i = 0; i < l->nr_copies; i++)
		if (l->offset[i] < end && l->offset[i] + (1ULL << l->max_size_bits) > first)
			return sb_fail(err, sb_invalid_members,
				       "data buckets overlap the superblock copy at sector %llu",
				       (unsigned long long)l->offset[i]);
	return 0;
}

static int validate_members(const struct bcfs_sb *sb, const struct bcfs_sb_field *f,
			    struct printbuf *err)
{
	const struct bcfs_sb_field_members *mi = (const void *)f;

	if (sb_field_bytes(f) < sizeof(*mi) || mi->member_bytes < sizeof(struct bcfs_member) ||
	    mi->member_bytes % 8 || mi->member_bytes > 4096 ||
	    (u64)mi->nr * mi->member_bytes > sb_field_bytes(f) - sizeof(*mi))
		return sb_fail(err, sb_invalid_members, "members do not fit their field");
	if (mi->nr != sb->nr_devices)
		return sb_fail(err, sb_invalid_members, "%u members, %u devices", mi->nr,
			       sb->nr_devices);
	for (unsigned i = 0; i < mi->nr; i++) {
		struct bcfs_member m = sb_member_get(sb, i);
		int ret;

		if (uuid_is_zero(&m.uuid)) {
			if (i == sb->dev_idx)
				return sb_fail(err, sb_invalid_members,
					       "this device, %u, is not a member", i);
			continue;
		}
		ret = validate_member(sb, i, &m, err);
		if (ret)
			return ret;
	}
	return 0;
}

static int validate_journal(const struct bcfs_sb *sb, const struct bcfs_sb_field *f,
			    struct printbuf *err)
{
	const struct bcfs_sb_field_journal *j = (const void *)f;
	struct bcfs_member m = sb_member_get(sb, sb->dev_idx);
	unsigned nr = sb_array_nr(j, d);

	if ((sb_field_bytes(f) - sizeof(*f)) % sizeof(j->d[0]) || nr > SB_JOURNAL_RUNS_MAX)
		return sb_fail(err, sb_invalid_journal, "journal field of %u words", f->u64s);
	for (unsigned i = 0; i < nr; i++) {
		const struct bcfs_journal_run *r = &j->d[i];

		if (!r->nr || r->start < m.first_bucket || r->start >= m.nr_buckets ||
		    r->nr > m.nr_buckets - r->start)
			return sb_fail(err, sb_invalid_journal,
				       "journal run of %llu buckets at %llu, not in %u to %llu",
				       (unsigned long long)r->nr, (unsigned long long)r->start,
				       m.first_bucket, (unsigned long long)m.nr_buckets);
		for (unsigned k = 0; k < i; k++)
			if (r->start < j->d[k].start + j->d[k].nr &&
			    j->d[k].start < r->start + r->nr)
				return sb_fail(err, sb_invalid_journal,
					       "journal runs %u and %u overlap", k, i);
	}
	return 0;
}

static int validate_crypt(const struct bcfs_sb *sb, const struct bcfs_sb_field *f,
			  struct printbuf *err)
{
	const struct bcfs_sb_field_crypt *c = (const void *)f;

	const struct bcfs_crypt_old_key *old;
	u64 cost = 0;
	bool any = false;

	if (!sb_has_encryption(sb))
		return sb_fail(err, sb_invalid_crypt, "keys, but not the feature of encryption");
	if (sb_field_bytes(f) < sizeof(*c) ||
	    sb_field_bytes(f) != sb_crypt_field_bytes(c->nr_slots, c->nr_old))
		return sb_fail(err, sb_invalid_crypt, "key slots do not fit their field");
	if (c->nr_slots > BCFS_CRYPT_SLOTS_MAX || c->nr_old > BCFS_CRYPT_OLD_MAX)
		return sb_fail(err, sb_invalid_crypt, "%u key slots, %u old keys", c->nr_slots,
			       c->nr_old);
	for (unsigned i = 0; i < c->nr_slots; i++) {
		const struct bcfs_crypt_slot *s = &c->slots[i];

		any |= s->type != BCFS_CRYPT_SLOT_free;
		if (s->type != BCFS_CRYPT_SLOT_passphrase)
			continue;
		/* What is refused here costs no time and memory later. */
		if (crypt_kdf_check(&(struct crypt_kdf){s->kdf_ops, s->kdf_mem}, NULL))
			return sb_fail(err, sb_invalid_crypt,
				       "key slot %u: a passphrase of %u passes over %llu bytes", i,
				       s->kdf_ops, (unsigned long long)s->kdf_mem);
		cost += s->kdf_ops * s->kdf_mem;
	}
	if (cost > BCFS_CRYPT_KDF_COST_MAX)
		return sb_fail(err, sb_invalid_crypt,
			       "the passphrases of all key slots take %llu bytes of passes",
			       (unsigned long long)cost);
	if (!any)
		return sb_fail(err, sb_invalid_crypt, "no key slot is in use");
	old = sb_crypt_old(c);
	for (unsigned i = 0; i <= c->nr_old; i++) {
		u16 gen = i < c->nr_old ? old[i].key_gen : c->key_gen;

		if (gen <= (i ? old[i - 1].key_gen : 0))
			return sb_fail(err, sb_invalid_crypt, "key generation %u out of order",
				       gen);
	}
	return 0;
}

static int validate_clean(const struct bcfs_sb *sb, const struct bcfs_sb_field *f,
			  struct printbuf *err)
{
	const struct bcfs_sb_field_clean *c = (const void *)f;
	bool sealed;

	if (sb_field_bytes(f) < sizeof(*c))
		return sb_fail(err, sb_invalid_clean, "clean field of %u words", f->u64s);
	sealed = c->key_gen;
	if (sealed != sb_has_encryption(sb) || sealed != csum_type_is_aead(c->flags & 0xf))
		return sb_fail(err, sb_invalid_clean, "clean field of key generation %u, codec %u",
			       c->key_gen, c->flags & 0xf);
	if (!sealed && !sb_clean_entries_valid(c->start, f->u64s - sizeof(*c) / 8))
		return sb_fail(err, sb_invalid_clean,
			       "an entry of the clean field runs over its end");
	return 0;
}

static int validate_blacklist(const struct bcfs_sb *sb, const struct bcfs_sb_field *f,
			      struct printbuf *err)
{
	const struct bcfs_sb_field_blacklist *bl = (const void *)f;
	unsigned nr = sb_array_nr(bl, d);

	if ((sb_field_bytes(f) - sizeof(*f)) % sizeof(bl->d[0]))
		return sb_fail(err, sb_invalid_blacklist, "blacklist field of %u words", f->u64s);
	for (unsigned i = 0; i < nr; i++)
		if (bl->d[i].start > bl->d[i].end || (i && bl->d[i].start <= bl->d[i - 1].end))
			return sb_fail(err, sb_invalid_blacklist,
				       "blacklisted range %u is empty or out of order", i);
	return 0;
}

static int validate_errors(const struct bcfs_sb *sb, const struct bcfs_sb_field *f,
			   struct printbuf *err)
{
	if ((sb_field_bytes(f) - sizeof(*f)) % sizeof(struct bcfs_sb_error))
		return sb_fail(err, sb_invalid_errors, "errors field of %u words", f->u64s);
	return 0;
}

static int validate_labels(const struct bcfs_sb *sb, const struct bcfs_sb_field *f,
			   struct printbuf *err)
{
	const struct bcfs_sb_field_labels *l = (const void *)f;
	unsigned nr = sb_array_nr(l, d);

	if ((sb_field_bytes(f) - sizeof(*f)) % sizeof(l->d[0]))
		return sb_fail(err, sb_invalid_labels, "labels field of %u words", f->u64s);
	/* A parent comes before its children, so there are no loops. */
	for (unsigned i = 0; i < nr; i++)
		if (l->d[i].parent > i)
			return sb_fail(err, sb_invalid_labels, "label %u: parent %u", i,
				       l->d[i].parent);
	return 0;
}

static int validate_downgrade(const struct bcfs_sb *sb, const struct bcfs_sb_field *f,
			      struct printbuf *err)
{
	if ((sb_field_bytes(f) - sizeof(*f)) % sizeof(struct bcfs_sb_downgrade))
		return sb_fail(err, sb_invalid_downgrade, "downgrade field of %u words", f->u64s);
	return 0;
}

/* By stable number; a type without a row here is only bounds-checked. */
static int (*const field_validate[BCFS_SB_FIELD_NR])(const struct bcfs_sb *,
						     const struct bcfs_sb_field *,
						     struct printbuf *) = {
	[BCFS_SB_FIELD_members] = validate_members,
	[BCFS_SB_FIELD_journal] = validate_journal,
	[BCFS_SB_FIELD_crypt] = validate_crypt,
	[BCFS_SB_FIELD_clean] = validate_clean,
	[BCFS_SB_FIELD_blacklist] = validate_blacklist,
	[BCFS_SB_FIELD_errors] = validate_errors,
	[BCFS_SB_FIELD_labels] = validate_labels,
	[BCFS_SB_FIELD_downgrade] = validate_downgrade,
};

/* Bounds of all, so that the fields may be walked and looked up; then each by its kind. */
static int validate_fields(const struct bcfs_sb *sb, struct printbuf *err)
{
	const u64 *end = sb->start + sb->u64s;
	u64 seen = 0;

	for (const u64 *p = sb->start; p < end;) {
		const struct bcfs_sb_field *f = (const void *)p;

		if (!f->u64s || f->u64s > end - p)
			return sb_fail(err, sb_invalid_field,
				       "a field of %u words, %zu words before the end", f->u64s,
				       (size_t)(end - p));
		if (f->type < 64) {
			if (seen & 1ULL << f->type)
				return sb_fail(err, sb_invalid_field_twice,
					       "field %s (%u) is there twice",
					       sb_field_name(f->type), f->type);
			seen |= 1ULL << f->type;
		}
		p += f->u64s;
	}
	if (!(seen & 1ULL << BCFS_SB_FIELD_members))
		return sb_fail(err, sb_invalid_members, "there is no members field");
	if ((sb->flags[0] & BCFS_SB_FLAG_CLEAN) && !(seen & 1ULL << BCFS_SB_FIELD_clean))
		return sb_fail(err, sb_invalid_clean, "marked clean without a clean field");
	if (sb_has_encryption(sb) && !(seen & 1ULL << BCFS_SB_FIELD_crypt))
		return sb_fail(err, sb_invalid_crypt, "encrypted, but there are no keys");
	/* The others are held against the members. */
	for (int members = 1; members >= 0; members--)
		for_each_sb_field(sb, f)
		{
			int ret;

			if (f->type >= BCFS_SB_FIELD_NR || !field_validate[f->type] ||
			    (f->type == BCFS_SB_FIELD_members) != members)
				continue;
			ret = field_validate[f->type](sb, f, err);
			if (ret)
				return ret;
		}
	return 0;
}

/* ---- the fixed part ---- */

static int validate_layout(const struct bcfs_sb *sb, struct printbuf *err)
{
	const struct bcfs_sb_layout *l = &sb->layout;
	bool own = false;

	if (l->max_size_bits < SB_SIZE_BITS_MIN || l->max_size_bits > SB_SIZE_BITS_MAX)
		return sb_fail(err, sb_invalid_layout, "copies of 2^%u sectors", l->max_size_bits);
	if (l->nr_copies < 2 || l->nr_copies > BCFS_SB_COPIES_MAX)
		return sb_fail(err, sb_invalid_layout, "%u copies", l->nr_copies);
	if (l->offset[0] != BCFS_SB_SECTOR)
		return sb_fail(err, sb_invalid_layout, "the first copy is at sector %llu",
			       (unsigned long long)l->offset[0]);
	for (unsigned i = 0; i < l->nr_copies; i++) {
		if (l->offset[i] > SB_DEV_SECTORS_MAX || l->offset[i] % BCFS_SB_SECTOR)
			return sb_fail(err, sb_invalid_layout, "a copy at sector %llu",
				       (unsigned long long)l->offset[i]);
		if (i && l->offset[i] < l->offset[i - 1] + (1ULL << l->max_size_bits))
			return sb_fail(err, sb_invalid_layout,
				       "copies %u and %u overlap or are out of order", i - 1, i);
		own |= l->offset[i] == sb->offset;
	}
	if (!own)
		return sb_fail(err, sb_invalid_offset, "sector %llu is not in its own layout",
			       (unsigned long long)sb->offset);
	return 0;
}

static int validate_csum(const struct bcfs_sb *sb, const struct sb_validate_ctx *ctx,
			 struct printbuf *err)
{
	const u8 *data = (const u8 *)sb + sizeof(sb->csum);

	if (sb->csum_type == BCFS_CSUM_none || csum_type_is_aead(sb->csum_type) ||
	    csum_type_check(sb->csum_type, NULL))
		return sb_fail(err, sb_invalid_csum_type, "checksum type %u (%s)", sb->csum_type,
			       csum_type_name(sb->csum_type));
	if (!ctx->skip_csum && csum_verify(NULL, sb->csum_type, NULL, NULL, 0, data,
					   sb_bytes(sb) - sizeof(sb->csum), &sb->csum))
		return sb_fail(err, sb_invalid_csum, "wrong checksum");
	return 0;
}

/* Whether the bytes are a superblock that this program can make sense of at all. */
static int validate_frame(const struct bcfs_sb *sb, const struct sb_validate_ctx *ctx,
			  struct printbuf *err)
{
	int ret;

	if (ctx->area_bytes < sizeof(*sb))
		return sb_fail(err, sb_invalid_size, "%llu bytes are no superblock",
			       (unsigned long long)ctx->area_bytes);
	if (memcmp(sb->magic, sb_magic_bytes, sizeof(sb->magic)))
		return sb_fail(err, sb_not_bcfs, "no bcfs superblock");
	if (BCFS_VERSION_MAJOR(sb->version) > BCFS_VERSION_MAJOR(BCFS_VERSION_CURRENT))
		return sb_fail(err, sb_version, "format version %u.%u, this program knows %u.%u",
			       BCFS_VERSION_MAJOR(sb->version), sb->version & 1023,
			       BCFS_VERSION_MAJOR(BCFS_VERSION_CURRENT),
			       BCFS_VERSION_CURRENT & 1023);
	if (sb->layout.max_size_bits > SB_SIZE_BITS_MAX || sb_bytes(sb) > sb_area_bytes(sb) ||
	    sb_bytes(sb) > ctx->area_bytes)
		return sb_fail(err, sb_invalid_size, "%u words of fields do not fit", sb->u64s);
	ret = validate_csum(sb, ctx, err);
	if (ret)
		return ret;
	if (!BCFS_VERSION_MAJOR(sb->version))
		return sb_fail(
			err, sb_version_old, "format version %u.%u, this program knows %u.%u",
			BCFS_VERSION_MAJOR(sb->version), sb->version & 1023,
			BCFS_VERSION_MAJOR(BCFS_VERSION_CURRENT), BCFS_VERSION_CURRENT & 1023);
	if (ctx->copy_sector && sb->offset != ctx->copy_sector)
		return sb_fail(err, sb_invalid_offset, "a copy for sector %llu at sector %llu",
			       (unsigned long long)sb->offset,
			       (unsigned long long)ctx->copy_sector);
	if (sb->version_min > sb->version)
		return sb_fail(err, sb_invalid_version, "version %u, oldest structure %u",
			       sb->version, sb->version_min);
	return validate_layout(sb, err);
}

static int validate_options(const struct bcfs_sb *sb, struct printbuf *err)
{
	u64 chunk = sb_opt_get(sb, SB_OPT_chunk_shift), ext = sb_opt_get(sb, SB_OPT_extent_max);
	u64 in = sb_opt_get(sb, SB_OPT_inline_max);

	if (sb_opt_get(sb, SB_OPT_meta_csum) >= BCFS_CSUM_NR ||
	    sb_opt_get(sb, SB_OPT_data_csum) >= BCFS_CSUM_NR)
		return sb_fail(err, sb_invalid_option, "unknown checksum type as a default");
	if (csum_type_is_aead(sb_opt_get(sb, SB_OPT_meta_csum)) != sb_has_encryption(sb) ||
	    csum_type_is_aead(sb_opt_get(sb, SB_OPT_data_csum)) != sb_has_encryption(sb))
		return sb_fail(err, sb_invalid_option,
			       "%sencrypted, but checksums %s of metadata and %s of data",
			       sb_has_encryption(sb) ? "" : "not ",
			       csum_type_name(sb_opt_get(sb, SB_OPT_meta_csum)),
			       csum_type_name(sb_opt_get(sb, SB_OPT_data_csum)));
	if (sb_opt_get(sb, SB_OPT_compression) >= BCFS_COMPRESSION_incompressible ||
	    sb_opt_get(sb, SB_OPT_background_compression) >= BCFS_COMPRESSION_incompressible)
		return sb_fail(err, sb_invalid_option, "unknown compression type as a default");
	if (sb_opt_get(sb, SB_OPT_errors) > BCFS_ERRORS_panic)
		return sb_fail(err, sb_invalid_option, "unknown errors mode as a default");
	if (chunk < BCFS_CHUNK_SHIFT_MIN || chunk > BCFS_CHUNK_SHIFT_MAX)
		return sb_fail(err, sb_invalid_option, "checksum chunks of 2^%u sectors",
			       (unsigned)chunk);
	if (ext < sb->block_sectors || ext > BCFS_EXTENT_MAX_SECTORS || ext % sb->block_sectors)
		return sb_fail(err, sb_invalid_option, "extents of up to %u sectors",
			       (unsigned)ext);
	if (in > BCFS_INLINE_MAX_BYTES || in >= (u64)sb->block_sectors * SECTOR_SIZE)
		return sb_fail(err, sb_invalid_option, "inline data of up to %u bytes",
			       (unsigned)in);
	return 0;
}

static int validate_geometry(const struct bcfs_sb *sb, struct printbuf *err)
{
	if (!sb->seq || sb->seq >> 63)
		return sb_fail(err, sb_invalid_seq, "sequence number %llu",
			       (unsigned long long)sb->seq);
	if (uuid_is_zero(&sb->uuid))
		return sb_fail(err, sb_invalid_uuid, "the uuid is zero");
	if (!is_power_of_2(sb->block_sectors) || sb->block_sectors > 128)
		return sb_fail(err, sb_invalid_block_size, "block size of %u sectors",
			       sb->block_sectors);
	if (!is_power_of_2(sb->btree_node_sectors) ||
	    sb->btree_node_sectors < BTREE_NODE_SIZE_MIN / SECTOR_SIZE ||
	    sb->btree_node_sectors > BTREE_NODE_SIZE_MAX / SECTOR_SIZE ||
	    sb->btree_node_sectors < sb->block_sectors)
		return sb_fail(err, sb_invalid_node_size, "btree node size of %u sectors",
			       sb->btree_node_sectors);
	if (sb->dev_idx >= sb->nr_devices)
		return sb_fail(err, sb_invalid_dev_idx, "device %u of %u", sb->dev_idx,
			       sb->nr_devices);
	return validate_options(sb, err);
}

static int validate_device(const struct bcfs_sb *sb, const struct sb_validate_ctx *ctx,
			   struct printbuf *err)
{
	struct bcfs_member m = sb_member_get(sb, sb->dev_idx);
	u64 end = sb->layout.offset[sb->layout.nr_copies - 1] + (1ULL << sb->layout.max_size_bits);

	end = max(end, m.nr_buckets * m.bucket_sectors);
	if (ctx->dev_sectors && end > ctx->dev_sectors)
		return sb_fail(err, sb_truncated,
			       "the device has %llu bytes, the filesystem needs %llu",
			       (unsigned long long)ctx->dev_sectors * SECTOR_SIZE,
			       (unsigned long long)end * SECTOR_SIZE);
	if (ctx->logical_block > sb->block_sectors * SECTOR_SIZE)
		return sb_fail(err, sb_block_size_logical,
			       "block size %u is smaller than the device's logical sector of %u",
			       sb->block_sectors * SECTOR_SIZE, ctx->logical_block);
	return 0;
}

int sb_validate(const struct bcfs_sb *sb, const struct sb_validate_ctx *ctx, struct printbuf *err)
{
	int ret = validate_frame(sb, ctx, err);

	if (!ret && !ctx->any_incompat && sb_features_unknown(sb, SB_FEATURE_incompat, NULL)) {
		if (err) {
			prt_str(err, "uses features this program does not support: ");
			sb_features_unknown(sb, SB_FEATURE_incompat, err);
		}
		return -BCFS_ERR_sb_feature_incompat;
	}
	ret = ret ?: validate_geometry(sb, err);
	ret = ret ?: validate_fields(sb, err);
	return ret ?: validate_device(sb, ctx, err);
}
