// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: the secret opens and nothing else does; what the key authenticates cannot be changed
 * without it; wrong secret, damage and tampering are told apart; what the format's document says is
 * what is written. Method: passphrases at the least cost; every byte of an encrypted superblock
 * changed; crafted fields, in a buffer of exactly their size; a superblock written once. (Slots and
 * generations: sb_crypt_slots.c.)
 */
#include "sb_crypt_test.h"

#include <stdlib.h>

Test(sb_crypt, made_and_opened)
{
	struct crypt_secret first = pass("first"), wrong = pass("First");
	struct printbuf text = PRINTBUF;
	struct sb_handle *h, *h2;
	unsigned slot = 99;
	u8 buf[40];
	struct tfs t;

	h = make(&t);
	cr_expect(sb_has_encryption(h->sb));
	cr_expect_eq(sb_opt_get(h->sb, SB_OPT_data_csum), BCFS_CSUM_xchacha20_poly1305);
	cr_expect_eq(sb_crypt_nr_used(h->sb), 1);
	cr_assert_eq(reopen(&t, &first, &h2, &slot), 0, "%s", t.line);
	cr_expect_eq(slot, 0);
	cr_expect(same_master(h, h2, 1));
	cr_expect_eq(sb_crypt_gen(h2->sb), 1);
	sb_free(h2);

	expect_err(reopen(&t, &wrong, &h2, &slot), BCFS_ERR_sb_crypt_wrong_secret);
	cr_expect_str_eq(t.line, "dev: wrong passphrase: no key slot opens with it");
	cr_expect_null(h2->keys);
	wrong = file(3, buf);
	expect_err(sb_crypt_open(h2, &wrong, &slot), BCFS_ERR_sb_crypt_wrong_secret);
	cr_expect_str_eq(t.line, "dev: wrong key file: no key slot opens with it");
	/* The bytes of the passphrase as a file are something else. */
	wrong = (struct crypt_secret){BCFS_CRYPT_SLOT_key_file, "first", 5};
	expect_err(sb_crypt_open(h2, &wrong, &slot), BCFS_ERR_sb_crypt_secret_len);
	cr_expect_eq(slot, 0);
	cr_expect_eq(sb_crypt_open(h2, &first, NULL), 0, "after a wrong one");

	sb_to_text(&text, h2->sb);
	cr_expect_not_null(strstr(printbuf_str(&text), "encryption"));
	cr_expect_not_null(
		strstr(printbuf_str(&text), "slot 0: passphrase, Argon2id with 1 passes over 8"));
	cr_expect_not_null(strstr(printbuf_str(&text), "1 of 8 slots in use"));
	cr_expect_null(strstr(printbuf_str(&text), "slot 1"));
	printbuf_exit(&text);
	sb_free(h2);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_crypt, not_encrypted)
{
	struct crypt_secret first = pass("first");
	struct sb_handle *h;
	struct tfs t;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	expect_err(sb_crypt_open(h, &first, NULL), BCFS_ERR_sb_crypt_none);
	cr_expect_not_null(strstr(t.line, "is not encrypted"));
	expect_err(sb_crypt_slot_add(h, &first, &quick, NULL), BCFS_ERR_sb_crypt_none);
	expect_err(sb_crypt_slot_remove(h, 0), BCFS_ERR_sb_crypt_none);
	expect_err(sb_crypt_rotate(h, &first, 1, false), BCFS_ERR_sb_crypt_none);
	cr_expect_eq(sb_crypt_nr_used(h->sb) + sb_crypt_gen(h->sb) + sb_crypt_gen_oldest(h->sb), 0);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_crypt, what_is_asked_for_is_checked)
{
	static const struct crypt_kdf bad[] = {
		{0, 1 << 20},	 {1, 8191},	   {65, 1 << 20},
		{1, 5ULL << 30}, {64, 4ULL << 30}, {UINT32_MAX, UINT64_MAX},
	};
	struct crypt_secret s = pass("");
	struct sb_handle *h;
	struct tfs t;

	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	expect_err(sb_crypt_make(h, &s, &quick), BCFS_ERR_sb_crypt_secret_len);
	cr_expect_not_null(strstr(t.line, "empty"));
	s = (struct crypt_secret){BCFS_CRYPT_SLOT_passphrase, "x", CRYPT_PASSPHRASE_MAX + 1};
	expect_err(sb_crypt_make(h, &s, &quick), BCFS_ERR_sb_crypt_secret_len);
	s = (struct crypt_secret){BCFS_CRYPT_SLOT_key_file, "x", 31};
	expect_err(sb_crypt_make(h, &s, &quick), BCFS_ERR_sb_crypt_secret_len);
	s.len = CRYPT_KEY_FILE_MAX + 1;
	expect_err(sb_crypt_make(h, &s, &quick), BCFS_ERR_sb_crypt_secret_len);
	s = pass("x");
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		expect_err(sb_crypt_make(h, &s, &bad[i]), BCFS_ERR_sb_crypt_kdf_cost);
	cr_expect_not_null(strstr(t.line, "passes"));
	cr_expect_not(sb_has_encryption(h->sb) || sb_field_crypt(h->sb) || h->keys);
	cr_expect_eq(crypt_kdf_check(&CRYPT_KDF_DEFAULT, NULL), 0);
	sb_free(h);
	tfs_exit(&t);
}

/* ---- tampering ---- */

static void clean_entries(u64 ret[4])
{
	struct jset_entry *e = (struct jset_entry *)ret;

	memset(ret, 0, 32);
	e->u64s = 3;
	e->type = BCFS_JSET_ENTRY_clock;
	ret[2] = 0x7465726365735f61ULL;
}

/* Like what a mount leaves that is closed. */
static void set_clean(struct sb_handle *h, u64 seq)
{
	u64 entries[4];

	clean_entries(entries);
	cr_assert_eq(sb_clean_set(h, seq, entries, 4), 0);
}

/* Whether a change of the byte may go unnoticed: what the header says is not covered. */
static bool not_covered(const struct bcfs_sb *sb, size_t at)
{
	const struct bcfs_sb_field_members *m = sb_field_members(sb);
	const struct bcfs_sb_field_clean *c = sb_field_clean(sb);
	size_t members = (size_t)((const u8 *)m - (const u8 *)sb) + sizeof(*m);
	size_t clean = (size_t)((const u8 *)c->start - (const u8 *)sb);

	/* Of the entries the section's own tag tells. */
	if (at >= clean && at < clean + sb_field_bytes(&c->field) - sizeof(*c))
		return true;

#define in(member) (at - offsetof(struct bcfs_sb, member) < sizeof(sb->member))
	if (in(csum) || in(pad) || in(offset) || in(seq) || in(label) || in(pad2) || in(pad3) ||
	    in(write_time) || in(reserved) || in(layout) || at == offsetof(struct bcfs_sb, flags))
		return true;
#undef in
	if (at < members || at >= members + sizeof(struct bcfs_member))
		return false;
	at -= members;
	return at >= offsetof(struct bcfs_member, state);
}

Test(sb_crypt, every_byte_changed)
{
	struct crypt_secret first = pass("first");
	struct sb_handle *h, *h2;
	unsigned refused = 0, wrong = 0, tampered = 0, good = 0;
	struct bcfs_sb *sb;
	struct tfs t;
	size_t area;

	h = make(&t);
	set_clean(h, 77);
	tfs_write(h);
	area = sb_area_bytes(h->sb);
	sb = malloc(area);
	for (size_t at = sizeof(sb->csum); at < sb_bytes(h->sb); at++) {
		int ret;

		memcpy(sb, h->sb, area);
		((u8 *)sb)[at] ^= 1 << at % 8;
		if (sb_bytes(sb) > area)
			continue; /* refused for its size; no checksum to be made */
		memcpy(sb->layout.offset, h->sb->layout.offset, sizeof(sb->layout.offset));
		tfs_poke(&t, sb, ALL_COPIES);
		ret = tfs_read(&t, &h2);
		if (ret) {
			refused++;
			continue;
		}
		ret = sb_crypt_open(h2, &first, NULL);
		switch (-ret) {
		case BCFS_ERR_sb_crypt_wrong_secret:
			wrong++;
			break;
		case BCFS_ERR_sb_crypt_tampered:
			cr_assert_not_null(strstr(t.line, "tampered"));
			tampered++;
			break;
		default:
			cr_assert_eq(ret, 0, "%s", err_name(ret));
			cr_assert(not_covered(h->sb, at), "byte %zu may be changed", at);
			cr_assert(h2->keys && same_master(h, h2, 1));
			good++;
		}
		cr_assert(!ret || !h2->keys);
		sb_free(h2);
	}
	/* The slot in use: cost, salt, nonce, key and tag; all other slots, the journal, ... */
	cr_expect(refused > 50 && wrong > 80 && tampered > 7 * sizeof(struct bcfs_crypt_slot) &&
			  good > 100,
		  "%u refused, %u wrong, %u tampered, %u good", refused, wrong, tampered, good);
	free(sb);
	sb_free(h);
	tfs_exit(&t);
}

/* What a change of the superblock in memory does to the next one who opens it. */
static int after(struct tfs *t, const struct sb_handle *h, void (*change)(struct bcfs_sb *sb))
{
	struct crypt_secret first = pass("first");
	struct bcfs_sb *sb = malloc(sb_area_bytes(h->sb));
	struct sb_handle *h2;
	int ret;

	memcpy(sb, h->sb, sb_area_bytes(h->sb));
	change(sb);
	tfs_poke(t, sb, ALL_COPIES);
	ret = tfs_read(t, &h2);
	if (!ret)
		ret = sb_crypt_open(h2, &first, NULL);
	sb_free(h2);
	free(sb);
	return ret;
}

static void change_compression(struct bcfs_sb *sb)
{
	sb_compression_set(sb, BCFS_COMPRESSION_lz4);
}

static void change_feature(struct bcfs_sb *sb)
{
	sb->features_compat[1] ^= 1;
}

static void change_uuid(struct bcfs_sb *sb)
{
	sb->user_uuid.b[3] ^= 1;
}

static void change_blacklist(struct bcfs_sb *sb)
{
	sb_field_blacklist(sb)->d[0].end--;
}

static void change_switched_off(struct bcfs_sb *sb)
{
	sb_set_encryption(sb, false);
}

static void change_csum(struct bcfs_sb *sb)
{
	sb_opt_set(sb, SB_OPT_data_csum, BCFS_CSUM_crc32c);
}

static void change_bomb(struct bcfs_sb *sb)
{
	sb_field_crypt(sb)->slots[0].kdf_mem = 1ULL << 40;
}

static void change_slots(struct bcfs_sb *sb)
{
	sb_field_crypt(sb)->nr_slots = 7;
}

static void change_clean(struct bcfs_sb *sb)
{
	sb->flags[0] ^= BCFS_SB_FLAG_CLEAN;
}

static void change_clean_seq(struct bcfs_sb *sb)
{
	sb_field_clean(sb)->journal_seq--;
}

static void change_nothing(struct bcfs_sb *sb)
{
	sb->flags[0] ^= BCFS_SB_FLAG_INITIALIZED | BCFS_SB_FLAG_ERROR | BCFS_SB_FLAG_DISCARD;
	sb->label[0] = 'x';
	sb->seq++;
}

Test(sb_crypt, three_kinds_of_wrong)
{
	struct sb_handle *h;
	struct tfs t;

	h = make(&t);
	cr_expect_eq(after(&t, h, change_nothing), 0);
	expect_err(after(&t, h, change_compression), BCFS_ERR_sb_crypt_tampered);
	expect_err(after(&t, h, change_feature), BCFS_ERR_sb_crypt_tampered);
	expect_err(after(&t, h, change_uuid), BCFS_ERR_sb_crypt_tampered);
	expect_err(after(&t, h, change_blacklist), BCFS_ERR_sb_crypt_tampered);
	cr_expect_not_null(strstr(t.line, "dev: the superblock was tampered with"));
	/* These are no superblocks at all, in all their copies. */
	expect_err(after(&t, h, change_switched_off), BCFS_ERR_sb_all_damaged);
	cr_expect_not_null(strstr(t.line, "not encrypted, but checksums xchacha20_poly1305"));
	expect_err(after(&t, h, change_csum), BCFS_ERR_sb_all_damaged);
	expect_err(after(&t, h, change_bomb), BCFS_ERR_sb_all_damaged);
	cr_expect_not_null(
		strstr(t.line, "key slot 0: a passphrase of 1 passes over 1099511627776"), "%s",
		t.line);
	expect_err(after(&t, h, change_slots), BCFS_ERR_sb_all_damaged);
	cr_expect_not_null(strstr(t.line, "key slots do not fit"), "%s", t.line);
	sb_free(h);
	tfs_exit(&t);
}

/*
 * An unclean filesystem that is called clean would be as it was when it was last closed, and go on
 * from there; so would one that gets back the clean section of before.
 */
Test(sb_crypt, clean_is_what_the_key_says)
{
	struct bcfs_sb_field_clean old;
	struct crypt_secret first = pass("first");
	struct sb_handle *h, *h2;
	struct tfs t;

	h = make(&t);
	set_clean(h, 77);
	tfs_write(h);
	expect_err(after(&t, h, change_clean), BCFS_ERR_sb_crypt_tampered);
	expect_err(after(&t, h, change_clean_seq), BCFS_ERR_sb_crypt_tampered);
	h->sb->flags[0] &= ~BCFS_SB_FLAG_CLEAN;
	tfs_write(h);
	expect_err(after(&t, h, change_clean), BCFS_ERR_sb_crypt_tampered);
	cr_expect_not_null(strstr(t.line, "dev: the superblock was tampered with"));
	expect_err(after(&t, h, change_clean_seq), BCFS_ERR_sb_crypt_tampered);

	old = *sb_field_clean(h->sb);
	set_clean(h, 99);
	h->sb->flags[0] &= ~BCFS_SB_FLAG_CLEAN;
	tfs_write(h);
	*sb_field_clean(h->sb) = old;
	tfs_poke(&t, h->sb, ALL_COPIES);
	expect_err(reopen(&t, &first, &h2, NULL), BCFS_ERR_sb_crypt_tampered);

	/* Nor does it become clean, or unclean, by way of a handle without keys. */
	tfs_write(h);
	sb_free(h2);
	h2 = reread(&t);
	h2->sb->flags[0] ^= BCFS_SB_FLAG_CLEAN;
	sb_lock(h2);
	expect_err(sb_write(h2), BCFS_ERR_sb_crypt_locked);
	sb_unlock(h2);
	sb_free(h2);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_crypt, without_keys_nothing_that_counts_is_written)
{
	struct crypt_secret first = pass("first");
	struct sb_handle *h, *h2;
	struct tfs t;
	u64 seq, w = 0;

	sb_free(make(&t));
	h = reread(&t);
	seq = h->sb->seq;
	h->sb->label[0] = 'y';
	h->sb->flags[0] |= BCFS_SB_FLAG_ERROR;
	tfs_write(h);
	cr_expect_eq(h->sb->seq, seq + 1);
	expect_err(sb_clean_set(h, 1, &w, 0), BCFS_ERR_sb_crypt_locked);
	expect_err(sb_crypt_slot_add(h, &first, &quick, NULL), BCFS_ERR_sb_crypt_locked);
	expect_err(sb_crypt_slot_remove(h, 0), BCFS_ERR_sb_crypt_locked);
	expect_err(sb_crypt_forget(h, 1), BCFS_ERR_sb_crypt_locked);
	sb_compression_set(h->sb, BCFS_COMPRESSION_zstd);
	sb_lock(h);
	expect_err(sb_write(h), BCFS_ERR_sb_crypt_locked);
	sb_unlock(h);
	cr_expect_not_null(strstr(t.line, "not at hand"));
	cr_expect_eq(h->sb->seq, seq + 1);
	sb_free(h);
	/* With them it is in order. */
	cr_assert_eq(reopen(&t, &first, &h, NULL), 0);
	cr_expect_eq(h->sb->label[0], 'y');
	cr_assert_eq(sb_use_compression(h, BCFS_COMPRESSION_zstd), 0);
	cr_expect_eq(reopen(&t, &first, &h2, NULL), 0);
	cr_expect(sb_has_zstd(h2->sb));
	sb_free(h2);
	sb_free(h);
	tfs_exit(&t);
}

/* ---- the clean section ---- */

Test(sb_crypt, clean_section)
{
	struct crypt_secret first = pass("first");
	u64 entries[4], *got = NULL;
	struct bcfs_sb_field_clean *c;
	struct sb_handle *h, *h2;
	struct tfs t;
	u32 u64s = 0;

	h = make(&t);
	clean_entries(entries);
	cr_assert_eq(sb_clean_set(h, 77, entries, 4), 0);
	tfs_write(h);
	h2 = reread(&t);
	c = sb_field_clean(h2->sb);
	cr_expect_eq(c->journal_seq, 77);
	cr_expect_eq(c->key_gen, 1);
	for (unsigned i = 0; i < 4; i++)
		cr_expect_neq(c->start[i], entries[i], "is not in the clear");
	expect_err(sb_clean_read(h2, &got, &u64s), BCFS_ERR_sb_crypt_locked);
	cr_assert_eq(sb_crypt_open(h2, &first, NULL), 0);
	cr_assert_eq(sb_clean_read(h2, &got, &u64s), 0);
	cr_assert_eq(u64s, 4);
	cr_expect_arr_eq(got, entries, sizeof(entries));
	env_free(t.env, got);
	/* It stays encrypted in the superblock, and may be written so. */
	tfs_write(h2);
	for (size_t at = offsetof(struct bcfs_sb_field_clean, journal_seq);
	     at < sb_field_bytes(&c->field); at++) {
		((u8 *)c)[at] ^= 0x10;
		got = NULL;
		expect_err(sb_clean_read(h2, &got, &u64s), BCFS_ERR_sb_crypt_clean);
		cr_expect_null(got);
		((u8 *)c)[at] ^= 0x10;
	}
	cr_expect_not_null(strstr(t.line, "clean section was tampered with"));
	cr_assert_eq(sb_field_resize(h2, BCFS_SB_FIELD_clean, 0, NULL), 0);
	cr_assert_eq(sb_clean_read(h2, &got, &u64s), 0);
	cr_expect(!got && !u64s);
	sb_free(h2);
	sb_free(h);

	/* Not encrypted: as it is. */
	bdev_close(t.bdev);
	env_sim_destroy(t.env);
	tfs_device(&t, 64 * MIB, 0);
	h = tfs_init(&t, NULL);
	cr_assert_eq(sb_clean_set(h, 77, entries, 4), 0);
	cr_assert_eq(sb_clean_read(h, &got, &u64s), 0);
	cr_expect_arr_eq(got, entries, sizeof(entries));
	env_free(t.env, got);
	sb_free(h);
	tfs_exit(&t);
}

/* ---- the format ---- */

/* Everything that the MAC covers and that is not made from the parameters, as it was. */
static struct sb_handle *frozen(struct tfs *t)
{
	struct sb_params p = SB_PARAMS_DEFAULT;
	struct bcfs_sb_field_clean *c;
	struct bcfs_journal_run run;
	struct bcfs_sb_field *f;
	struct bcfs_member m;
	struct sb_handle *h;

	p.block_bytes = 4096;
	p.node_bytes = 256 << 10;
	memset(&p.uuid, 0x11, sizeof(p.uuid));
	memset(&p.user_uuid, 0x22, sizeof(p.user_uuid));
	tfs_device(t, 64 * MIB, 0);
	h = tfs_init(t, &p);
	h->sb->time_base = 0x0123456789abcdefULL;
	h->sb->seq = 1;
	/* Not what later versions of sb_init() may choose. */
	h->sb->version = h->sb->version_min = BCFS_VERSION(1, 0);
	h->sb->flags[0] = 5ULL << BCFS_SB_META_CSUM_SHIFT | 5ULL << BCFS_SB_DATA_CSUM_SHIFT |
			  5ULL << BCFS_SB_CHUNK_SHIFT_SHIFT | 256ULL << BCFS_SB_EXTENT_MAX_SHIFT;
	memset(h->sb->features_compat, 0, 48);
	h->sb->features_incompat[0] = 1 << BCFS_FEATURE_encryption;
	m = sb_member_get(h->sb, 0);
	memset(&m.uuid, 0x33, sizeof(m.uuid));
	m.nr_buckets = 250;
	m.bucket_sectors = 512;
	m.first_bucket = 4;
	cr_assert_eq(sb_member_set(h, 0, &m), 0);
	run = (struct bcfs_journal_run){10, 5};
	cr_assert_eq(sb_journal_set(h, &run, 1), 0);
	cr_assert_eq(sb_blacklist_add(h, 10, 20), 0);
	cr_assert_eq(sb_field_resize(h, BCFS_SB_FIELD_clean, (sizeof(*c) + 16) / 8, &f), 0);
	c = (struct bcfs_sb_field_clean *)f;
	c->journal_seq = 0x0a0b0c0d;
	c->flags = BCFS_CSUM_xchacha20_poly1305;
	c->key_gen = 2;
	memset(&c->nonce, 0x44, sizeof(c->nonce));
	memset(&c->csum, 0x55, 16);
	h->sb->flags[0] |= BCFS_SB_FLAG_CLEAN;
	return h;
}

static void unhex(const char *hex, void *out, size_t len)
{
	u8 *p = out;

	cr_assert_eq(strlen(hex), len * 2);
	for (size_t i = 0; i < len; i++) {
		unsigned v;

		cr_assert_eq(sscanf(hex + i * 2, "%2x", &v), 1);
		p[i] = (u8)v;
	}
}

/*
 * Slots, an old key and a MAC as this format's first version writes them; opened and computed a
 * second time by another program (Python's hashlib), from doc/format.md.
 */
Test(sb_crypt, opens_what_was_written_once)
{
	static const char slot0[] =
		"0100000002000000000001000000000082f0f8d227613897a60d10867fc87510"
		"d23fca66b9b25d3760c46ce74342ac68315e718a37cf0caa9373222421d8e6f5"
		"d49d4670c1af725dda7fcd747012b113dcb664fa63eec39dcbcc68002a335186"
		"ca64d6a24944498b000000000000000000000000000000000000000000000000"
		"0000000000000000";
	static const char slot1[] =
		"020000000000000000000000000000001bbd713ed3569c1eefca0c1c3eed7042"
		"a24e648ef492f985412318b22f7c3f732c72a06c0aadd6bd679488238e481e8b"
		"125b28b6a8ebbaa9e3f491a90a9b45a864721d4e91b34e90ad0bd475f1c04cbf"
		"5f0bee322c330e5f000000000000000000000000000000000000000000000000"
		"0000000000000000";
	static const char old[] =
		"010000000000000050a0c4d7e708f5fc4aadb0d3a71630ea7c6348a2c34a5565"
		"bd359f21dacc478b15b716bfd6acffe557c92c21a7055ff9e2c1a57441ec35cd"
		"64568e0db7ec96cf171f5dd32c55bab400000000000000000000000000000000";
	static const char mac[] =
		"d133469123a06db8697016fb9fa9b111910bfedbdf381326aef61bca0e6da96c";
	static const char masters[2][65] = {
		"a8f08e93249625ae4285465c2e463b3f4c266855ea83cefc549c0f682e87c382",
		"a7c9272988f210ec5a7971b440c33c6e2a88100ad07933cf8648322836a03a2d",
	};
	struct crypt_secret s[2] = {pass("a passphrase")};
	u8 buf[40], want[KEY_BYTES];
	struct tfs t;

	s[1] = file(0x77, buf);
	for (unsigned i = 0; i < 2; i++) {
		struct sb_handle *h = frozen(&t);
		struct bcfs_sb_field_crypt *c;
		struct bcfs_sb_field *f;
		unsigned slot = 99;

		cr_assert_eq(
			sb_field_resize(h, BCFS_SB_FIELD_crypt, sb_crypt_field_bytes(8, 1) / 8, &f),
			0);
		c = (struct bcfs_sb_field_crypt *)f;
		c->key_gen = 2;
		c->nr_slots = 8;
		c->nr_old = 1;
		unhex(slot0, &c->slots[0], sizeof(c->slots[0]));
		unhex(slot1, &c->slots[1], sizeof(c->slots[1]));
		unhex(old, sb_crypt_old(c), sizeof(*sb_crypt_old(c)));
		unhex(mac, &c->mac, sizeof(c->mac));
		cr_assert_eq(sb_crypt_open(h, &s[i], &slot), 0, "%s", t.line);
		cr_expect_eq(slot, i);
		for (u16 gen = 1; gen <= 2; gen++) {
			unhex(masters[gen - 1], want, KEY_BYTES);
			cr_expect_arr_eq(keyring_master(h->keys, gen)->b, want, KEY_BYTES);
		}
		sb_free(h);
		tfs_exit(&t);
	}
}

/* ---- crafted fields ---- */

static void craft(struct bcfs_sb *sb, u64 *rng)
{
	static const u64 edge[] = {0, 1, 7, 8, 15, 16, 17, 255, 65535, UINT32_MAX, UINT64_MAX};
	struct bcfs_sb_field_crypt *c = sb_field_crypt(sb);
	unsigned nr = 1 + trand_below(rng, 3);

	while (nr--) {
		/* The counts and the slot in use more often than the rest. */
		size_t lo = offsetof(struct bcfs_sb_field_crypt, key_gen);
		size_t hi = trand_below(rng, 2) ? sizeof(*c) + sizeof(c->slots[0])
						: sb_field_bytes(&c->field);
		u8 *p = (u8 *)c + lo + trand_below(rng, hi - lo);
		u64 v = edge[trand_below(rng, ARRAY_SIZE(edge))];

		switch (trand_below(rng, 3)) {
		case 0:
			*p = (u8)trand_u64(rng);
			break;
		case 1:
			memcpy((void *)((uintptr_t)p & ~1UL), &v, 2);
			break;
		default:
			memcpy((void *)((uintptr_t)p & ~7UL), &v, 8);
		}
	}
}

Test(sb_crypt, crafted_fields, .timeout = 280)
{
	u64 seed = trand_seed(0xc4f7), rng = seed;
	struct crypt_secret s[2] = {pass("first")};
	unsigned accepted = 0, opened = 0;
	struct sb_handle *h;
	struct tfs t;
	u8 buf[40];
	size_t len;

	h = make(&t);
	s[1] = file(1, buf);
	cr_assert_eq(sb_crypt_slot_add(h, &s[1], &quick, NULL), 0);
	cr_assert_eq(sb_crypt_rotate(h, s, 2, false), 0);
	len = sb_bytes(h->sb);
	for (unsigned i = 0; i < trand_rounds(20000); i++) {
		struct sb_validate_ctx ctx = {.area_bytes = len, .skip_csum = true};
		struct sb_handle *h2 =
			sb_handle_alloc(t.env, t.bdev, &t.log, h->sb->layout.max_size_bits);
		struct bcfs_sb *sb = malloc(len), *own = h2->sb;
		struct printbuf err = PRINTBUF, out = PRINTBUF;
		const struct bcfs_sb_field_crypt *c;
		bool dear = false;
		int ret;

		memcpy(sb, h->sb, len);
		craft(sb, &rng);
		ret = sb_validate(sb, &ctx, &err);
		cr_assert_eq(!ret, !err.pos, TEST_SEED_FMT, (unsigned long long)seed);
		c = sb_field_crypt(sb);
		if (!ret) {
			accepted++;
			sb_to_text(&out, sb);
			for (unsigned k = 0; k < c->nr_slots; k++)
				dear |= c->slots[k].kdf_ops * c->slots[k].kdf_mem > 1U << 20;
		}
		if (!ret && !dear) {
			h2->sb = sb;
			ret = sb_crypt_open(h2, &s[trand_below(&rng, 2)], NULL);
			cr_assert(!ret || ret == -BCFS_ERR_sb_crypt_wrong_secret ||
					  ret == -BCFS_ERR_sb_crypt_tampered,
				  "%s", err_name(ret));
			opened += !ret;
			cr_assert(ret || !memcmp(sb, h->sb, len), "opened, but it was changed");
		}
		h2->sb = own;
		sb_free(h2);
		printbuf_exit(&err);
		printbuf_exit(&out);
		free(sb);
	}
	cr_expect(accepted > 20, "%u accepted, %u opened", accepted, opened);
	sb_free(h);
	tfs_exit(&t);
}
