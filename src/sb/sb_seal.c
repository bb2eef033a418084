// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the keys do to the superblock at each write: the MAC over what decides how the filesystem is
 * read, and the clean section, which is encrypted. doc/format.md has the bytes of both.
 */
#include "codec/keyring.h"
#include "codec/secret.h"
#include "sb/sb_private.h"
#include "util/errcode.h"

#include <sodium/crypto_generichash.h>
#include <string.h>

/* ---- the MAC ---- */

/* flags[0] below the options: what a mount is up to; but whether the journal counts is covered. */
#define FLAGS_NOT_COVERED (0xffULL & ~BCFS_SB_FLAG_CLEAN)

static void add(crypto_generichash_state *st, const void *p, size_t len)
{
	crypto_generichash_update(st, p, len);
}

static void add_fixed(crypto_generichash_state *st, const struct bcfs_sb *sb)
{
	u64 flags = sb->flags[0] & ~FLAGS_NOT_COVERED;

	add(st, &sb->version, sizeof(sb->version));
	add(st, &sb->version_min, sizeof(sb->version_min));
	add(st, &sb->csum_type, sizeof(sb->csum_type));
	add(st, &sb->uuid, sizeof(sb->uuid));
	add(st, &sb->user_uuid, sizeof(sb->user_uuid));
	add(st, &sb->block_sectors, sizeof(sb->block_sectors));
	add(st, &sb->btree_node_sectors, sizeof(sb->btree_node_sectors));
	add(st, &sb->dev_idx, sizeof(sb->dev_idx));
	add(st, &sb->nr_devices, sizeof(sb->nr_devices));
	add(st, &sb->time_base, sizeof(sb->time_base));
	add(st, &flags, sizeof(flags));
	add(st, &sb->flags[1], sizeof(sb->flags) - sizeof(sb->flags[0]));
	add(st, sb->features_compat, sizeof(sb->features_compat));
	add(st, sb->features_ro_compat, sizeof(sb->features_ro_compat));
	add(st, sb->features_incompat, sizeof(sb->features_incompat));
}

static void add_members(crypto_generichash_state *st, const struct bcfs_sb *sb)
{
	for (unsigned i = 0; i < sb_nr_members(sb); i++) {
		struct bcfs_member m = sb_member_get(sb, i);

		add(st, &m.uuid, sizeof(m.uuid));
		add(st, &m.nr_buckets, sizeof(m.nr_buckets));
		add(st, &m.bucket_sectors, sizeof(m.bucket_sectors));
		add(st, &m.first_bucket, sizeof(m.first_bucket));
	}
}

static void add_field(crypto_generichash_state *st, const struct bcfs_sb *sb, u32 type)
{
	static const struct bcfs_csum zero;
	const struct bcfs_sb_field *f = sb_field_get(sb, type);
	const u32 none = 0;
	const u8 *p = (const u8 *)f;
	size_t done = 0;

	add(st, f ? &f->u64s : &none, sizeof(none));
	if (!f)
		return;
	if (type == BCFS_SB_FIELD_crypt) { /* without the MAC itself */
		done = offsetof(struct bcfs_sb_field_crypt, mac);
		add(st, p, done);
		add(st, &zero, sizeof(zero));
		done += sizeof(zero);
	}
	add(st, p + done, sb_field_bytes(f) - done);
}

/*
 * Up to the tag, which is over the rest. Whether or not the flag is set: recovery begins at the
 * field's seq, and a section of before would make it begin earlier.
 */
static void add_clean(crypto_generichash_state *st, const struct bcfs_sb *sb)
{
	const struct bcfs_sb_field_clean *c = sb_field_clean(sb);
	const u32 none = 0;

	add(st, c ? &c->field.u64s : &none, sizeof(none));
	if (c)
		add(st, c, sizeof(*c));
}

void sb_mac(const struct bcfs_sb *sb, const struct csum_key *master, u8 ret[32])
{
	static const char what[17] = "bcfs superblock 2"; /* without a NUL */
	struct csum_key key = {.gen = 0};
	crypto_generichash_state st;

	if (master)
		key_derive(master, KEY_USE_sb_mac, &key);
	crypto_generichash_init(&st, master ? key.b : NULL, master ? sizeof(key.b) : 0, 32);
	add(&st, what, sizeof(what));
	add_fixed(&st, sb);
	add_members(&st, sb);
	add_field(&st, sb, BCFS_SB_FIELD_journal);
	add_field(&st, sb, BCFS_SB_FIELD_crypt);
	add_field(&st, sb, BCFS_SB_FIELD_blacklist);
	add_clean(&st, sb);
	crypto_generichash_final(&st, ret, 32);
	secret_wipe(&st, sizeof(st));
	secret_wipe(&key, sizeof(key));
}

void sb_covered_note(struct sb_handle *h)
{
	h->was_encrypted = sb_has_encryption(h->sb);
	if (h->was_encrypted)
		sb_mac(h->sb, NULL, h->covered);
}

int sb_sign(struct sb_handle *h, struct printbuf *err)
{
	struct bcfs_sb_field_crypt *c = sb_field_crypt(h->sb);
	u8 now[32];

	if (h->keys) {
		assert(c); /* validated */
		sb_mac(h->sb, h->next_master ?: keyring_master(h->keys, c->key_gen), c->mac.b);
		return 0;
	}
	if (!h->was_encrypted)
		return c ? sb_fail(err, sb_crypt_locked, "its keys are not at hand") : 0;
	sb_mac(h->sb, NULL, now);
	if (memcmp(now, h->covered, sizeof(now)))
		return sb_fail(err, sb_crypt_locked,
			       "what would change is authenticated by a key that is not at hand");
	return 0;
}

/* ---- the clean section ---- */

/* In front of what is encrypted. */
struct clean_ad {
	struct bcfs_uuid uuid;
	u64 journal_seq;
	u32 flags;
	u16 key_gen;
	u16 pad;
	u32 u64s;
} BCFS_PACKED;

static struct clean_ad clean_ad(const struct bcfs_sb *sb, const struct bcfs_sb_field_clean *c)
{
	return (struct clean_ad){
		.uuid = sb->uuid,
		.journal_seq = c->journal_seq,
		.flags = c->flags,
		.key_gen = c->key_gen,
		.pad = c->pad,
		.u64s = c->field.u64s,
	};
}

bool sb_clean_entries_valid(const u64 *p, u64 u64s)
{
	const u64 *end = p + u64s;

	while (p < end) {
		const struct jset_entry *e = (const void *)p;

		if (e->u64s >= end - p)
			return false;
		p += 1 + e->u64s;
	}
	return true;
}

void sb_clean_seal(struct sb_handle *h, struct bcfs_sb_field_clean *c)
{
	const struct csum_key *key = keyring_newest(h->keys, KEY_USE_clean);
	struct clean_ad ad;
	int ret;

	c->flags = BCFS_CSUM_xchacha20_poly1305;
	c->key_gen = key->gen;
	env_random(h->env, &c->nonce, sizeof(c->nonce));
	ad = clean_ad(h->sb, c);
	ret = aead_seal(key, BCFS_CSUM_xchacha20_poly1305, &c->nonce, &ad, sizeof(ad), c->start,
			sb_field_bytes(&c->field) - sizeof(*c), &c->csum);
	assert(!ret);
	(void)ret;
}

static int clean_open(struct sb_handle *h, const struct bcfs_sb_field_clean *c, u64 *buf, u32 u64s)
{
	const struct csum_key *key;
	struct clean_ad ad = clean_ad(h->sb, c);

	if (!h->keys)
		return -BCFS_ERR_sb_crypt_locked;
	key = keyring_get(h->keys, KEY_USE_clean, c->key_gen);
	if (key && !aead_open(key, c->flags & 0xf, &c->nonce, &ad, sizeof(ad), buf,
			      (size_t)u64s * 8, &c->csum))
		return 0;
	log_err(h->log, "%s: the superblock's clean section was tampered with, or is damaged",
		h->bdev->name);
	return -BCFS_ERR_sb_crypt_clean;
}

int sb_clean_read(struct sb_handle *h, u64 **ret_entries, u32 *ret_u64s)
{
	const struct bcfs_sb_field_clean *c = sb_field_clean(h->sb);
	u32 u64s = c ? c->field.u64s - sizeof(*c) / 8 : 0;
	u64 *buf = NULL;
	int ret = 0;

	if (c) {
		buf = env_malloc(h->env, max_t(size_t, (size_t)u64s * 8, 8));
		if (!buf)
			return -BCFS_ERR_nomem;
		memcpy(buf, c->start, (size_t)u64s * 8);
		if (c->key_gen)
			ret = clean_open(h, c, buf, u64s);
	}
	if (!ret && c && !sb_clean_entries_valid(buf, u64s)) {
		log_err(h->log, "%s: an entry of the superblock's clean section runs over its end",
			h->bdev->name);
		ret = -BCFS_ERR_sb_invalid_clean;
	}
	if (ret) {
		env_free(h->env, buf);
		return ret;
	}
	*ret_entries = buf;
	*ret_u64s = u64s;
	return 0;
}
