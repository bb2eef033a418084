// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Slots and generations of master keys. What takes long or may fail is done first, on copies; then
 * the field is changed under the lock, written, and put back as it was if that fails.
 */
#include "sb/sb_crypt.h"
#include "codec/secret.h"
#include "sb/sb_private.h"
#include "util/errcode.h"

#include <sodium/crypto_generichash_blake2b.h>
#include <sodium/crypto_pwhash.h>
#include <string.h>

#define XCHACHA BCFS_CSUM_xchacha20_poly1305

/* A string without its NUL. */
#define AD_SLOT	    "bcfs key slot"
#define AD_SLOT_LEN (sizeof(AD_SLOT) - 1)

struct old_key_ad {
	char what[12]; /* "bcfs old key" */
	u16 gen;
} BCFS_PACKED;

/* In secret memory. */
struct crypt_work {
	struct csum_key kek; /* of a slot: wraps the master key */
	struct csum_key master;
	struct csum_key wrap; /* of a generation: wraps older master keys */
};

static void work_free(struct crypt_work *w)
{
	secret_free(w);
}
DEFINE_CLEANUP(struct crypt_work *, work_free);

static struct crypt_work *work_alloc(struct env *env)
{
	return secret_alloc(env, sizeof(struct crypt_work), NULL);
}

/* ---- what is asked for ---- */

int crypt_kdf_check(const struct crypt_kdf *kdf, struct printbuf *err)
{
	if (!kdf->ops || kdf->ops > BCFS_CRYPT_KDF_OPS_MAX || kdf->mem < BCFS_CRYPT_KDF_MEM_MIN ||
	    kdf->mem > BCFS_CRYPT_KDF_MEM_MAX || kdf->ops * kdf->mem > BCFS_CRYPT_KDF_COST_MAX)
		return sb_fail(err, sb_crypt_kdf_cost,
			       "Argon2id with %u passes over %llu bytes: 1 to %u passes over 8 KiB "
			       "to 4 GiB are possible, and 32 GiB together",
			       kdf->ops, (unsigned long long)kdf->mem, BCFS_CRYPT_KDF_OPS_MAX);
	return 0;
}

int crypt_secret_check(const struct crypt_secret *s, struct printbuf *err)
{
	if (s->type == BCFS_CRYPT_SLOT_passphrase) {
		if (!s->len)
			return sb_fail(err, sb_crypt_secret_len, "the passphrase is empty");
		if (s->len > CRYPT_PASSPHRASE_MAX)
			return sb_fail(err, sb_crypt_secret_len,
				       "the passphrase is longer than %u bytes",
				       CRYPT_PASSPHRASE_MAX);
		return 0;
	}
	assert(s->type == BCFS_CRYPT_SLOT_key_file);
	if (s->len < CRYPT_KEY_FILE_MIN)
		return sb_fail(err, sb_crypt_secret_len,
			       "the key file has %zu bytes: at least %u, random ones, are needed",
			       s->len, CRYPT_KEY_FILE_MIN);
	if (s->len > CRYPT_KEY_FILE_MAX)
		return sb_fail(err, sb_crypt_secret_len, "the key file is larger than %u MiB",
			       CRYPT_KEY_FILE_MAX >> 20);
	return 0;
}

static int check_args(const struct sb_handle *h, const struct crypt_secret *s,
		      const struct crypt_kdf *kdf)
{
	CLEANUP(printbuf_exit) struct printbuf msg = PRINTBUF;
	int ret = crypt_secret_check(s, &msg);

	if (!ret && kdf && s->type == BCFS_CRYPT_SLOT_passphrase)
		ret = crypt_kdf_check(kdf, &msg);
	if (ret)
		log_err(h->log, "%s: %s", h->bdev->name, printbuf_str(&msg));
	return ret;
}

/* ---- wrapping ---- */

/* The key that a secret yields with a slot's salt and cost. */
static int derive_kek(struct env *env, const struct crypt_secret *s,
		      const struct bcfs_crypt_slot *slot, struct csum_key *ret)
{
	static const u8 personal[16] = "bcfs key file";
	u64 ram;

	ret->gen = 1; /* not of a generation: keys of slots have none */
	if (s->type == BCFS_CRYPT_SLOT_key_file) {
		int err = crypto_generichash_blake2b_salt_personal(
			ret->b, sizeof(ret->b), s->p, s->len, NULL, 0, slot->salt, personal);

		assert(!err); /* only of lengths */
		(void)err;
		return 0;
	}
	/* Memory that is not there is had all the same, until somebody is killed for it. */
	ram = env_ram_bytes(env);
	if (ram && slot->kdf_mem > ram / 2)
		return -BCFS_ERR_sb_crypt_kdf_ram;
	return crypto_pwhash(ret->b, sizeof(ret->b), s->p, s->len, slot->salt, slot->kdf_ops,
			     slot->kdf_mem, crypto_pwhash_ALG_ARGON2ID13)
		       ? -BCFS_ERR_sb_crypt_kdf_memory
		       : 0;
}

static void wrap_key(struct env *env, const struct csum_key *by, const void *ad, size_t ad_len,
		     const struct csum_key *master, struct bcfs_nonce *ret_nonce, u8 ret[64])
{
	struct bcfs_csum tag;
	int err;

	env_random(env, ret_nonce, sizeof(*ret_nonce));
	memset(ret, 0, 64);
	memcpy(ret, master->b, KEY_BYTES);
	err = aead_seal(by, XCHACHA, ret_nonce, ad, ad_len, ret, KEY_BYTES, &tag);
	assert(!err);
	(void)err;
	memcpy(ret + KEY_BYTES, tag.b, 16);
}

/* *ret is written to in any case. */
static bool unwrap_key(const struct csum_key *by, const void *ad, size_t ad_len,
		       const struct bcfs_nonce *nonce, const u8 wrapped[64], u16 gen,
		       struct csum_key *ret)
{
	struct bcfs_csum tag = {{0}};

	memcpy(tag.b, wrapped + KEY_BYTES, 16);
	memcpy(ret->b, wrapped, KEY_BYTES);
	ret->gen = gen;
	return !aead_open(by, XCHACHA, nonce, ad, ad_len, ret->b, KEY_BYTES, &tag);
}

static void slot_wrap(struct env *env, struct bcfs_crypt_slot *slot, const struct csum_key *kek,
		      const struct csum_key *master)
{
	wrap_key(env, kek, AD_SLOT, AD_SLOT_LEN, master, &slot->nonce, slot->wrapped);
}

static bool slot_unwrap(const struct bcfs_crypt_slot *slot, const struct csum_key *kek, u16 gen,
			struct csum_key *ret_master)
{
	return unwrap_key(kek, AD_SLOT, AD_SLOT_LEN, &slot->nonce, slot->wrapped, gen, ret_master);
}

static struct old_key_ad old_key_ad(u16 gen)
{
	struct old_key_ad ad = {.gen = gen};

	memcpy(ad.what, "bcfs old key", sizeof(ad.what));
	return ad;
}

static void old_wrap(struct env *env, const struct csum_key *by, const struct csum_key *master,
		     struct bcfs_crypt_old_key *ret)
{
	struct old_key_ad ad = old_key_ad(master->gen);

	*ret = (struct bcfs_crypt_old_key){.key_gen = master->gen};
	wrap_key(env, by, &ad, sizeof(ad), master, &ret->nonce, ret->wrapped);
}

static bool old_unwrap(const struct csum_key *by, const struct bcfs_crypt_old_key *old,
		       struct csum_key *ret_master)
{
	struct old_key_ad ad = old_key_ad(old->key_gen);

	return unwrap_key(by, &ad, sizeof(ad), &old->nonce, old->wrapped, old->key_gen, ret_master);
}

/* A new slot but for what it wraps; its key is in *ret_kek. */
static int slot_prepare(struct env *env, const struct crypt_secret *s, const struct crypt_kdf *kdf,
			struct bcfs_crypt_slot *ret, struct csum_key *ret_kek)
{
	bool passphrase = s->type == BCFS_CRYPT_SLOT_passphrase;

	*ret = (struct bcfs_crypt_slot){
		.type = s->type,
		.kdf_ops = passphrase ? kdf->ops : 0,
		.kdf_mem = passphrase ? kdf->mem : 0,
	};
	env_random(env, ret->salt, sizeof(ret->salt));
	return derive_kek(env, s, ret, ret_kek);
}

static int fail_ram(const struct sb_handle *h, const char *what, int err)
{
	log_err(h->log, "%s: %s takes more than half of this machine's memory, which is %llu MiB",
		h->bdev->name, what, (unsigned long long)env_ram_bytes(h->env) >> 20);
	return err;
}

static int fail_memory(const struct sb_handle *h, int err)
{
	if (err == -BCFS_ERR_sb_crypt_kdf_ram)
		return fail_ram(h, "not done: to derive a key from the passphrase", err);
	if (err == -BCFS_ERR_sb_crypt_kdf_memory)
		log_err(h->log,
			"%s: there is not enough memory to derive a key from the passphrase",
			h->bdev->name);
	return err;
}

/* ---- the field ---- */

static bool slot_known(const struct bcfs_crypt_slot *s)
{
	return s->type == BCFS_CRYPT_SLOT_passphrase || s->type == BCFS_CRYPT_SLOT_key_file;
}

unsigned sb_crypt_slot_type(const struct bcfs_sb *sb, unsigned slot)
{
	const struct bcfs_sb_field_crypt *c = sb_field_crypt(sb);

	return c && slot < c->nr_slots ? c->slots[slot].type : BCFS_CRYPT_SLOT_free;
}

void sb_crypt_slot_cost(const struct bcfs_sb *sb, unsigned slot, struct crypt_kdf *ret)
{
	const struct bcfs_sb_field_crypt *c = sb_field_crypt(sb);

	*ret = (struct crypt_kdf){.ops = c->slots[slot].kdf_ops, .mem = c->slots[slot].kdf_mem};
}

unsigned sb_crypt_nr_used(const struct bcfs_sb *sb)
{
	const struct bcfs_sb_field_crypt *c = sb_field_crypt(sb);
	unsigned nr = 0;

	for (unsigned i = 0; c && i < c->nr_slots; i++)
		nr += c->slots[i].type != BCFS_CRYPT_SLOT_free;
	return nr;
}

u16 sb_crypt_gen(const struct bcfs_sb *sb)
{
	const struct bcfs_sb_field_crypt *c = sb_field_crypt(sb);

	return c ? c->key_gen : 0;
}

u16 sb_crypt_gen_oldest(const struct bcfs_sb *sb)
{
	const struct bcfs_sb_field_crypt *c = sb_field_crypt(sb);

	return c && c->nr_old ? sb_crypt_old(c)[0].key_gen : sb_crypt_gen(sb);
}

/* The slots at one moment. */
struct slots_copy {
	unsigned nr;
	u16 key_gen;
	struct bcfs_crypt_slot d[BCFS_CRYPT_SLOTS_MAX];
};

/* lock is held. */
static void slots_get(const struct sb_handle *h, struct slots_copy *ret)
{
	const struct bcfs_sb_field_crypt *c = sb_field_crypt(h->sb);

	memset(ret, 0, sizeof(*ret));
	ret->nr = c->nr_slots;
	ret->key_gen = c->key_gen;
	memcpy(ret->d, c->slots, c->nr_slots * sizeof(c->slots[0]));
}

/*
 * The slot, among those that skip has no bit of, that a secret opens. Then kek and master are what
 * they say; wiped otherwise.
 */
static int slots_try(struct env *env, const struct slots_copy *c, u32 skip,
		     const struct crypt_secret *s, struct crypt_work *w, unsigned *ret_slot)
{
	int ret = -BCFS_ERR_sb_crypt_wrong_secret;

	for (unsigned i = 0; i < c->nr; i++) {
		int err;

		if (c->d[i].type != s->type || (skip >> i & 1))
			continue;
		err = derive_kek(env, s, &c->d[i], &w->kek);
		if (err)
			ret = err; /* another may open all the same */
		else if (slot_unwrap(&c->d[i], &w->kek, c->key_gen, &w->master)) {
			*ret_slot = i;
			return 0;
		}
	}
	secret_wipe(w, sizeof(*w));
	return ret;
}

static int fail_secret(const struct sb_handle *h, const struct crypt_secret *s, int err)
{
	if (err == -BCFS_ERR_sb_crypt_wrong_secret)
		log_err(h->log, "%s: %s", h->bdev->name,
			s->type == BCFS_CRYPT_SLOT_passphrase
				? "wrong passphrase: no key slot opens with it"
				: "wrong key file: no key slot opens with it");
	if (err == -BCFS_ERR_sb_crypt_kdf_ram)
		return fail_ram(h,
				"no key slot opens with the passphrase, but for one that was not "
				"tried: it",
				err);
	return fail_memory(h, err);
}

/* ---- changing it ---- */

struct crypt_saved {
	struct env *env;
	void *field;
	u32 u64s;
};

static void saved_exit(struct crypt_saved *s)
{
	if (s->field)
		env_free(s->env, s->field);
}

/* lock is held. */
static int field_save(struct sb_handle *h, struct crypt_saved *ret)
{
	const struct bcfs_sb_field_crypt *c = sb_field_crypt(h->sb);

	ret->env = h->env;
	ret->u64s = c->field.u64s;
	ret->field = env_malloc(h->env, sb_field_bytes(&c->field));
	if (!ret->field)
		return -BCFS_ERR_nomem;
	memcpy(ret->field, c, sb_field_bytes(&c->field));
	return 0;
}

/* Writes the superblock; what was changed is put back if that fails. */
static int field_commit(struct sb_handle *h, const struct crypt_saved *saved)
{
	struct bcfs_sb_field *f;
	int ret = sb_write(h), err;

	if (!ret)
		return 0;
	/* It was there before, and nobody else took the room. */
	err = sb_field_resize(h, BCFS_SB_FIELD_crypt, saved->u64s, &f);
	assert(!err);
	(void)err;
	memcpy(f, saved->field, (size_t)saved->u64s * 8);
	return ret;
}

/*
 * Most copies have it. What was taken away must be nowhere: one that could not be written is tried
 * once more.
 */
static int all_copies(struct sb_handle *h)
{
	u32 all = (1U << h->sb->layout.nr_copies) - 1;

	if ((h->copies_valid & all) == all || (!sb_write(h) && (h->copies_valid & all) == all))
		return 0;
	for (unsigned i = 0; i < h->sb->layout.nr_copies; i++)
		if (!(h->copies_valid & 1U << i))
			log_err(h->log,
				"%s: the key slots were changed, but the superblock's copy at "
				"sector "
				"%llu cannot be written: it may still have the old ones",
				h->bdev->name, (unsigned long long)h->sb->layout.offset[i]);
	return -BCFS_ERR_sb_crypt_copy_old;
}

/* ---- made and opened ---- */

static struct keyring *ring_new(const struct sb_handle *h)
{
	bool locked = false;
	struct keyring *r = keyring_new(h->env, &locked);

	if (r && !locked)
		log_warn(h->log,
			 "%s: the keys cannot be locked in memory, so they might be swapped out: "
			 "raise the limit of locked memory (ulimit -l)",
			 h->bdev->name);
	return r;
}

int sb_crypt_make(struct sb_handle *h, const struct crypt_secret *s, const struct crypt_kdf *kdf)
{
	CLEANUP(keyring_free_p) struct keyring *ring = NULL;
	CLEANUP(work_free_p) struct crypt_work *w = NULL;
	struct bcfs_sb_field_crypt *c;
	struct bcfs_crypt_slot slot;
	struct bcfs_sb_field *f;
	int ret = check_args(h, s, kdf);

	assert(!h->keys && !sb_has_encryption(h->sb) && !sb_field_clean(h->sb));
	if (ret)
		return ret;
	ring = ring_new(h);
	w = work_alloc(h->env);
	if (!ring || !w)
		return -BCFS_ERR_nomem;
	ret = fail_memory(h, slot_prepare(h->env, s, kdf, &slot, &w->kek));
	ret = ret
		      ?: sb_field_resize(h, BCFS_SB_FIELD_crypt,
					 sb_crypt_field_bytes(BCFS_CRYPT_SLOTS, 0) / 8, &f);
	if (ret)
		return ret;
	env_random(h->env, w->master.b, sizeof(w->master.b));
	w->master.gen = 1;
	ret = keyring_add(ring, &w->master);
	assert(!ret);
	slot_wrap(h->env, &slot, &w->kek, &w->master);
	c = (struct bcfs_sb_field_crypt *)f;
	c->key_gen = 1;
	c->nr_slots = BCFS_CRYPT_SLOTS;
	c->slots[0] = slot;
	sb_set_encryption(h->sb, true);
	sb_opt_set(h->sb, SB_OPT_meta_csum, XCHACHA);
	sb_opt_set(h->sb, SB_OPT_data_csum, XCHACHA);
	h->keys = take_ptr(ring);
	return ret;
}

/* From the newest master key: the MAC checked, all generations in the ring. */
static int open_ring(struct sb_handle *h, struct crypt_work *w, struct keyring *ring)
{
	const struct bcfs_sb_field_crypt *c = sb_field_crypt(h->sb);
	struct csum_key newest = w->master;
	u8 mac[32];
	bool good;

	sb_mac(h->sb, &newest, mac);
	good = secret_equal(mac, c->mac.b, sizeof(mac));
	key_derive(&newest, KEY_USE_wrap, &w->wrap);
	for (unsigned i = 0; i < c->nr_old && good; i++)
		good = old_unwrap(&w->wrap, &sb_crypt_old(c)[i], &w->master) &&
		       !keyring_add(ring, &w->master);
	good = good && !keyring_add(ring, &newest);
	secret_wipe(&newest, sizeof(newest));
	if (good)
		return 0;
	log_err(h->log,
		"%s: the superblock was tampered with: the key is right, but it did not write what "
		"is there now; restore it from a backup that you trust",
		h->bdev->name);
	return -BCFS_ERR_sb_crypt_tampered;
}

static int fail_not_encrypted(const struct sb_handle *h)
{
	log_err(h->log, "%s: is not encrypted: there is nothing that a key would open",
		h->bdev->name);
	return -BCFS_ERR_sb_crypt_none;
}

int sb_crypt_open_ring(struct sb_handle *h, const struct keyring *keys)
{
	CLEANUP(keyring_free_p) struct keyring *ring = NULL;
	CLEANUP(work_free_p) struct crypt_work *w = NULL;
	const struct csum_key *master;
	int ret;

	assert(!h->keys);
	if (!sb_has_encryption(h->sb))
		return fail_not_encrypted(h);
	master = keyring_master(keys, sb_crypt_gen(h->sb));
	if (!master) {
		log_err(h->log, "%s: its keys were replaced since it was open", h->bdev->name);
		return -BCFS_ERR_sb_crypt_changed;
	}
	ring = keyring_new(h->env, NULL);
	w = work_alloc(h->env);
	if (!ring || !w)
		return -BCFS_ERR_nomem;
	w->master = *master;
	ret = open_ring(h, w, ring);
	if (!ret)
		h->keys = take_ptr(ring);
	return ret;
}

int sb_crypt_open(struct sb_handle *h, const struct crypt_secret *s, unsigned *ret_slot)
{
	CLEANUP(keyring_free_p) struct keyring *ring = NULL;
	CLEANUP(work_free_p) struct crypt_work *w = NULL;
	struct slots_copy slots;
	unsigned slot;
	int ret;

	assert(!h->keys);
	if (!sb_has_encryption(h->sb))
		return fail_not_encrypted(h);
	ret = check_args(h, s, NULL);
	if (ret)
		return ret;
	ring = ring_new(h);
	w = work_alloc(h->env);
	if (!ring || !w)
		return -BCFS_ERR_nomem;
	slots_get(h, &slots);
	ret = fail_secret(h, s, slots_try(h->env, &slots, 0, s, w, &slot));
	ret = ret ?: open_ring(h, w, ring);
	if (ret)
		return ret;
	h->keys = take_ptr(ring);
	if (ret_slot)
		*ret_slot = slot;
	return 0;
}

int sb_crypt_slot_of(struct sb_handle *h, const struct crypt_secret *s, unsigned *ret_slot)
{
	CLEANUP(work_free_p) struct crypt_work *w = NULL;
	struct slots_copy slots;
	int ret;

	if (!h->keys)
		return sb_has_encryption(h->sb) ? -BCFS_ERR_sb_crypt_locked
						: -BCFS_ERR_sb_crypt_none;
	ret = check_args(h, s, NULL);
	if (ret)
		return ret;
	w = work_alloc(h->env);
	if (!w)
		return -BCFS_ERR_nomem;
	sb_lock(h);
	slots_get(h, &slots);
	sb_unlock(h);
	return fail_secret(h, s, slots_try(h->env, &slots, 0, s, w, ret_slot));
}

/* ---- slots ---- */

#define SLOT_ANY_FREE UINT32_MAX

/* What a passphrase that opens none costs, but for one slot. */
static u64 cost_of_others(const struct bcfs_sb_field_crypt *c, unsigned slot)
{
	u64 cost = 0;

	for (unsigned i = 0; i < c->nr_slots; i++)
		if (i != slot && c->slots[i].type == BCFS_CRYPT_SLOT_passphrase)
			cost += c->slots[i].kdf_ops * c->slots[i].kdf_mem;
	return cost;
}

/* Wraps the master key in a slot: a free one, or one that is in use. lock is held. */
static int slot_put(struct sb_handle *h, unsigned slot, struct bcfs_crypt_slot *d,
		    const struct csum_key *kek, unsigned *ret_slot)
{
	CLEANUP(saved_exit) struct crypt_saved saved = {0};
	struct bcfs_sb_field_crypt *c = sb_field_crypt(h->sb);
	bool replaced;
	int ret;

	if (slot == SLOT_ANY_FREE) {
		for (slot = 0; slot < c->nr_slots && c->slots[slot].type; slot++)
			;
		if (slot == c->nr_slots)
			return -BCFS_ERR_sb_crypt_slots_full;
	} else if (!sb_crypt_slot_type(h->sb, slot)) {
		return -BCFS_ERR_sb_crypt_no_slot;
	}
	if (d->kdf_ops * d->kdf_mem + cost_of_others(c, slot) > BCFS_CRYPT_KDF_COST_MAX) {
		log_err(h->log,
			"%s: the passphrases of all slots together would take more than %llu GiB "
			"of "
			"passes: take fewer passes, or less memory",
			h->bdev->name, BCFS_CRYPT_KDF_COST_MAX >> 30);
		return -BCFS_ERR_sb_crypt_kdf_cost;
	}
	ret = field_save(h, &saved);
	if (ret)
		return ret;
	slot_wrap(h->env, d, kek, keyring_master(h->keys, c->key_gen));
	replaced = c->slots[slot].type != BCFS_CRYPT_SLOT_free;
	c->slots[slot] = *d;
	ret = field_commit(h, &saved);
	if (!ret && ret_slot)
		*ret_slot = slot;
	return ret || !replaced ? ret : all_copies(h);
}

static int slot_new(struct sb_handle *h, unsigned slot, const struct crypt_secret *s,
		    const struct crypt_kdf *kdf, unsigned *ret_slot)
{
	CLEANUP(work_free_p) struct crypt_work *w = NULL;
	struct bcfs_crypt_slot d;
	int ret;

	if (!h->keys)
		return sb_has_encryption(h->sb) ? -BCFS_ERR_sb_crypt_locked
						: -BCFS_ERR_sb_crypt_none;
	ret = check_args(h, s, kdf);
	if (ret)
		return ret;
	w = work_alloc(h->env);
	if (!w)
		return -BCFS_ERR_nomem;
	ret = fail_memory(h, slot_prepare(h->env, s, kdf, &d, &w->kek));
	if (ret)
		return ret;
	sb_lock(h);
	ret = slot_put(h, slot, &d, &w->kek, ret_slot);
	sb_unlock(h);
	return ret;
}

int sb_crypt_slot_add(struct sb_handle *h, const struct crypt_secret *s,
		      const struct crypt_kdf *kdf, unsigned *ret_slot)
{
	return slot_new(h, SLOT_ANY_FREE, s, kdf, ret_slot);
}

int sb_crypt_slot_change(struct sb_handle *h, unsigned slot, const struct crypt_secret *s,
			 const struct crypt_kdf *kdf)
{
	if (slot >= BCFS_CRYPT_SLOTS_MAX)
		return -BCFS_ERR_sb_crypt_no_slot;
	return slot_new(h, slot, s, kdf, NULL);
}

static int slot_remove(struct sb_handle *h, unsigned slot)
{
	CLEANUP(saved_exit) struct crypt_saved saved = {0};
	struct bcfs_sb_field_crypt *c = sb_field_crypt(h->sb);
	unsigned others = 0;
	int ret;

	if (!sb_crypt_slot_type(h->sb, slot))
		return -BCFS_ERR_sb_crypt_no_slot;
	/* One that this program can open is to stay. */
	for (unsigned i = 0; i < c->nr_slots; i++)
		others += i != slot && slot_known(&c->slots[i]);
	if (!others)
		return -BCFS_ERR_sb_crypt_last_slot;
	ret = field_save(h, &saved);
	if (ret)
		return ret;
	memset(&c->slots[slot], 0, sizeof(c->slots[slot]));
	return field_commit(h, &saved) ?: all_copies(h);
}

int sb_crypt_slot_remove(struct sb_handle *h, unsigned slot)
{
	int ret;

	if (!h->keys)
		return sb_has_encryption(h->sb) ? -BCFS_ERR_sb_crypt_locked
						: -BCFS_ERR_sb_crypt_none;
	sb_lock(h);
	ret = slot_remove(h, slot);
	sb_unlock(h);
	return ret;
}

/* ---- generations ---- */

/* In secret memory. */
struct rotation {
	struct crypt_work w;
	struct slots_copy was;
	u32 keep;					/* slots, by bit: */
	struct bcfs_crypt_slot d[BCFS_CRYPT_SLOTS_MAX]; /* what they will be */
	struct csum_key kek[BCFS_CRYPT_SLOTS_MAX];	/* what will wrap */
};

static void rotation_free(struct rotation *r)
{
	secret_free(r);
}
DEFINE_CLEANUP(struct rotation *, rotation_free);

/* For each secret: the slot that it opens, and that slot anew. */
static int rotation_prepare(struct sb_handle *h, struct rotation *r,
			    const struct crypt_secret *secrets, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		const struct crypt_secret *s = &secrets[i];
		unsigned slot;
		int ret = check_args(h, s, NULL);

		ret = ret
			      ?: fail_secret(h, s,
					     slots_try(h->env, &r->was, r->keep, s, &r->w, &slot));
		if (!ret) {
			const struct crypt_kdf kdf = {r->was.d[slot].kdf_ops,
						      r->was.d[slot].kdf_mem};

			ret = fail_memory(
				h, slot_prepare(h->env, s, &kdf, &r->d[slot], &r->kek[slot]));
			r->keep |= 1U << slot;
		}
		if (ret)
			return ret;
	}
	return 0;
}

/* Whether a generation may be begun. lock is held. */
static int rotation_check(const struct sb_handle *h, const struct rotation *r, bool drop_others)
{
	const struct bcfs_sb_field_crypt *c = sb_field_crypt(h->sb);
	struct slots_copy now;

	slots_get(h, &now);
	if (memcmp(&now, &r->was, sizeof(now)))
		return -BCFS_ERR_sb_crypt_changed;
	if (!r->keep)
		return -BCFS_ERR_sb_crypt_last_slot;
	for (unsigned i = 0; i < c->nr_slots && !drop_others; i++)
		if (c->slots[i].type && !(r->keep >> i & 1))
			return -BCFS_ERR_sb_crypt_slot_left;
	if (c->key_gen == UINT16_MAX)
		return -BCFS_ERR_sb_crypt_gen_last;
	if (c->nr_old >= BCFS_CRYPT_OLD_MAX)
		return -BCFS_ERR_sb_crypt_gens;
	/* Keys that were forgotten stay in the ring, as others use it without a lock. */
	return keyring_nr(h->keys) == KEYRING_GENS_MAX ? -BCFS_ERR_sb_crypt_gens_mount : 0;
}

/* lock is held. */
static int rotation_commit(struct sb_handle *h, struct rotation *r, bool drop_others)
{
	CLEANUP(saved_exit) struct crypt_saved saved = {0};
	struct bcfs_sb_field_crypt *c;
	struct bcfs_crypt_old_key *old;
	struct bcfs_sb_field *f;
	int ret = rotation_check(h, r, drop_others) ?: field_save(h, &saved);

	if (ret)
		return ret;
	c = sb_field_crypt(h->sb);
	ret = sb_field_resize(h, BCFS_SB_FIELD_crypt,
			      sb_crypt_field_bytes(c->nr_slots, c->nr_old + 1U) / 8, &f);
	if (ret)
		return ret;
	c = (struct bcfs_sb_field_crypt *)f;
	old = sb_crypt_old(c);
	env_random(h->env, r->w.master.b, sizeof(r->w.master.b));
	r->w.master.gen = c->key_gen + 1;
	key_derive(&r->w.master, KEY_USE_wrap, &r->w.wrap);
	old[c->nr_old++].key_gen = c->key_gen;
	for (unsigned i = 0; i < c->nr_old; i++)
		old_wrap(h->env, &r->w.wrap, keyring_master(h->keys, old[i].key_gen), &old[i]);
	for (unsigned i = 0; i < c->nr_slots; i++) {
		if (r->keep >> i & 1)
			slot_wrap(h->env, &r->d[i], &r->kek[i], &r->w.master);
		c->slots[i] = r->d[i]; /* zeroes, of those that go */
	}
	c->key_gen = r->w.master.gen;
	h->next_master = &r->w.master;
	ret = field_commit(h, &saved);
	h->next_master = NULL;
	return ret ?: keyring_add(h->keys, &r->w.master);
}

int sb_crypt_rotate(struct sb_handle *h, const struct crypt_secret *secrets, unsigned nr,
		    bool drop_others)
{
	CLEANUP(rotation_free_p) struct rotation *r = NULL;
	int ret;

	if (!h->keys)
		return sb_has_encryption(h->sb) ? -BCFS_ERR_sb_crypt_locked
						: -BCFS_ERR_sb_crypt_none;
	r = secret_alloc(h->env, sizeof(*r), NULL);
	if (!r)
		return -BCFS_ERR_nomem;
	sb_lock(h);
	slots_get(h, &r->was);
	sb_unlock(h);
	ret = rotation_prepare(h, r, secrets, nr);
	if (ret)
		return ret;
	sb_lock(h);
	ret = rotation_commit(h, r, drop_others);
	sb_unlock(h);
	return ret;
}

static int forget_below(struct sb_handle *h, u16 gen)
{
	CLEANUP(saved_exit) struct crypt_saved saved = {0};
	struct bcfs_sb_field_crypt *c = sb_field_crypt(h->sb);
	struct bcfs_crypt_old_key *old = sb_crypt_old(c);
	unsigned drop = 0, left;
	int ret;

	while (drop < c->nr_old && old[drop].key_gen < gen)
		drop++;
	if (!drop)
		return 0;
	ret = field_save(h, &saved);
	if (ret)
		return ret;
	left = c->nr_old - drop;
	memmove(old, old + drop, left * sizeof(*old));
	c->nr_old = left;
	(void)sb_field_resize(h, BCFS_SB_FIELD_crypt, sb_crypt_field_bytes(c->nr_slots, left) / 8,
			      NULL); /* shrinking does not fail */
	return field_commit(h, &saved) ?: all_copies(h);
}

int sb_crypt_forget(struct sb_handle *h, u16 gen)
{
	int ret;

	if (!h->keys)
		return sb_has_encryption(h->sb) ? -BCFS_ERR_sb_crypt_locked
						: -BCFS_ERR_sb_crypt_none;
	sb_lock(h);
	ret = forget_below(h, gen);
	sb_unlock(h);
	return ret;
}
