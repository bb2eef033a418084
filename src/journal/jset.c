/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One journal entry on its own: checks, checksum, and what it carries. The same
 * validation runs before an entry is written and after it is read.
 */
#include "codec/keyring.h"
#include "journal/journal_private.h"
#include "util/planted.h"

#include <string.h>

#define USAGE_U64s (sizeof(struct bcfs_jset_usage) / sizeof(u64))

_Static_assert(BTREE_ID_NR <= 32, "roots seen are a 32-bit mask");
_Static_assert(JOURNAL_ROOT_U64s_MAX - 1 <= ARRAY_SIZE(((struct journal_root *)0)->buf),
	       "a root fits");

static int validate_keys(const struct jset_entry *e, struct printbuf *err)
{
	u32 pos = 0;

	while (pos < e->u64s) {
		const struct bkey_i *k = (const struct bkey_i *)(e->data + pos);

		if (e->u64s - pos < BKEY_U64s || k->k.u64s < BKEY_U64s ||
		    k->k.u64s > e->u64s - pos) {
			prt_printf(err, "key at u64 %u does not fit its entry", pos);
			return -BCFS_ERR_journal_invalid;
		}
		if (k->k.format != BKEY_FORMAT_CURRENT) {
			prt_printf(err, "key at u64 %u has format %u", pos, k->k.format);
			return -BCFS_ERR_journal_invalid;
		}
		pos += k->k.u64s;
	}
	return 0;
}

static int validate_btree(const struct jset_entry *e, struct printbuf *err)
{
	if (e->btree_id >= BTREE_ID_NR) {
		prt_printf(err, "unknown btree %u", e->btree_id);
		return -BCFS_ERR_journal_invalid;
	}
	if (e->level >= BTREE_MAX_DEPTH) {
		prt_printf(err, "level %u", e->level);
		return -BCFS_ERR_journal_invalid;
	}
	return validate_keys(e, err);
}

static int validate_root(const struct jset_entry *e, struct printbuf *err)
{
	const struct bkey_i *k = (const struct bkey_i *)e->data;
	int ret = validate_btree(e, err);

	if (ret)
		return ret;
	if (!e->u64s || k->k.u64s != e->u64s) {
		prt_printf(err, "a root entry holds one key");
		return -BCFS_ERR_journal_invalid;
	}
	if (k->k.type != KEY_TYPE_btree_ptr || e->u64s > JOURNAL_ROOT_U64s_MAX - 1) {
		prt_printf(err, "root key of type %u, %u u64s", k->k.type, e->u64s);
		return -BCFS_ERR_journal_invalid;
	}
	return 0;
}

static int validate_size(const struct jset_entry *e, unsigned unit_u64s, bool many,
			 struct printbuf *err)
{
	if (many ? e->u64s % unit_u64s == 0 : e->u64s == unit_u64s)
		return 0;
	prt_printf(err, "%u u64s", e->u64s);
	return -BCFS_ERR_journal_invalid;
}

static int validate_entry(const struct jset_entry *e, struct printbuf *err)
{
	switch (e->type) {
	case BCFS_JSET_ENTRY_btree_keys:
	case BCFS_JSET_ENTRY_overwrite:
		return validate_btree(e, err);
	case BCFS_JSET_ENTRY_btree_root:
		return validate_root(e, err);
	case BCFS_JSET_ENTRY_usage:
		return validate_size(e, USAGE_U64s, true, err);
	case BCFS_JSET_ENTRY_blacklist:
		return validate_size(e, sizeof(struct bcfs_jset_blacklist) / sizeof(u64), true,
				     err);
	case BCFS_JSET_ENTRY_clock:
		return validate_size(e, sizeof(struct bcfs_jset_clock) / sizeof(u64), false, err);
	case BCFS_JSET_ENTRY_datetime:
		return validate_size(e, 1, false, err);
	default: /* types of the future are carried along */
		return 0;
	}
}

static int validate_header(const struct jset *j, u32 max_bytes, struct printbuf *err)
{
	if (jset_bytes(j) > max_bytes)
		prt_printf(err, "%u u64s do not fit %u bytes", j->u64s, max_bytes);
	else if (BCFS_VERSION_MAJOR(j->version) != BCFS_VERSION_MAJOR(BCFS_VERSION_CURRENT))
		prt_printf(err, "unknown version %u.%u", BCFS_VERSION_MAJOR(j->version),
			   j->version & 1023);
	else if (!j->seq)
		prt_printf(err, "seq is 0");
	else if (!(j->flags & JSET_NO_FLUSH) && (!j->last_seq || j->last_seq > j->seq))
		prt_printf(err, "last_seq %llu", (unsigned long long)j->last_seq);
	else
		return 0;
	return -BCFS_ERR_journal_invalid;
}

int jset_validate(const struct jset *j, u32 max_bytes, struct printbuf *err)
{
	u32 pos = 0;
	int ret;

	if (max_bytes < sizeof(*j)) {
		prt_printf(err, "%u bytes hold no header", max_bytes);
		return -BCFS_ERR_journal_invalid;
	}
	ret = validate_header(j, max_bytes, err);
	while (!ret && pos < j->u64s) {
		const struct jset_entry *e = (const struct jset_entry *)(j->start + pos);

		if (e->u64s > j->u64s - pos - 1) {
			prt_printf(err, "%u u64s run over the end", e->u64s);
			ret = -BCFS_ERR_journal_invalid;
		} else {
			ret = validate_entry(e, err);
		}
		if (ret)
			prt_printf(err, ", %s entry at u64 %u", jset_entry_type_name(e->type), pos);
		pos += 1 + e->u64s;
	}
	if (ret)
		prt_printf(err, " (journal seq %llu)", (unsigned long long)j->seq);
	return ret;
}

int jset_csum(const struct jset *j, unsigned type, struct bcfs_csum *ret)
{
	const u64 seq = j->seq;
	const struct csum_iov iov[] = {
		{&seq, sizeof(seq)},
		{(const char *)j + sizeof(j->csum), jset_bytes(j) - sizeof(j->csum)},
	};

	return csum_compute_iov(NULL, type, NULL, iov, ARRAY_SIZE(iov), ret);
}

int jset_verify(const struct jset *j)
{
	struct bcfs_csum csum;
	int ret = jset_csum(j, JSET_CSUM_TYPE(j), &csum);

	if (ret)
		return ret;
	return memcmp(&csum, &j->csum, sizeof(csum)) ? -BCFS_ERR_journal_csum : 0;
}

/* What is authenticated with an encrypted entry. */
static void jset_ad(const struct journal *j, const struct jset *s, struct csum_iov ad[static 2])
{
	ad[0] = (struct csum_iov){&j->opts.uuid, sizeof(j->opts.uuid)};
	ad[1] = (struct csum_iov){&s->magic,
				  offsetof(struct jset, start) - offsetof(struct jset, magic)};
}

int jset_seal(const struct journal *j, struct jset *s)
{
	struct aead_iov data = {s->start, s->u64s * sizeof(u64)};
	const struct csum_key *key;
	struct csum_iov ad[2];

	if (!j->opts.keys)
		return jset_csum(s, j->opts.csum_type, &s->csum);
	key = keyring_newest(j->opts.keys, KEY_USE_journal);
	s->key_gen = key->gen;
	env_random(j->env, &s->nonce, sizeof(s->nonce));
	jset_ad(j, s, ad);
	return aead_seal_iov(key, j->opts.csum_type, &s->nonce, ad, ARRAY_SIZE(ad), &data, 1,
			     &s->csum);
}

int jset_open(const struct journal *j, struct jset *s)
{
	struct aead_iov data = {s->start, s->u64s * sizeof(u64)};
	const struct csum_key *key;
	struct csum_iov ad[2];

	if (!j->opts.keys) {
		if (!JSET_CSUM_TYPE(s) && j->opts.csum_type)
			return -BCFS_ERR_journal_csum;
		return planted(journal_csum_ignored) ? 0 : jset_verify(s);
	}
	key = keyring_get(j->opts.keys, KEY_USE_journal, s->key_gen);
	if (JSET_CSUM_TYPE(s) != j->opts.csum_type || !key)
		return -BCFS_ERR_journal_csum;
	jset_ad(j, s, ad);
	return aead_open_iov(key, j->opts.csum_type, &s->nonce, ad, ARRAY_SIZE(ad), &data, 1,
			     &s->csum)
		       ? -BCFS_ERR_journal_csum
		       : 0;
}

int jset_seal_again(const struct journal *j, struct jset *s)
{
	if (!j->opts.keys || planted(journal_nonce_kept))
		return 0;
	return jset_open(j, s) ?: jset_seal(j, s);
}

u32 jset_fold_carried(const struct jset *j, struct journal_carried *c, bool with_usage)
{
	u32 seen = 0;

	for_each_jset_entry(e, j)
	{
		if (e->type == BCFS_JSET_ENTRY_btree_root) {
			struct journal_root *r = &c->roots[e->btree_id];

			r->alive = true;
			r->level = e->level;
			memcpy(r->buf, e->data, e->u64s * sizeof(u64));
			seen |= 1U << e->btree_id;
		} else if (with_usage && e->type == BCFS_JSET_ENTRY_usage) {
			const struct bcfs_jset_usage *u = (const void *)e->data;

			for (u32 i = 0; i < e->u64s / USAGE_U64s; i++)
				if (u[i].type < BCFS_ACCOUNTING_NR)
					c->usage[u[i].type] = u[i].v;
		}
	}
	return seen;
}
