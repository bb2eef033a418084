// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: slots come, change and go, master keys are replaced and forgotten, and each secret opens
 * what it should at any moment; what fails changes nothing. Method: passphrases at the least cost;
 * failed writes and allocations; random operations against a model.
 */
#include "sb_crypt_test.h"

#include "codec/secret.h"

#include <stdlib.h>

/* ---- slots and generations ---- */

Test(sb_crypt_slots, slots)
{
	struct crypt_secret first = pass("first"), second = pass("second"), s;
	struct sb_handle *h, *h2;
	unsigned slot = 99;
	u8 buf[40];
	struct tfs t;

	h = make(&t);
	expect_err(sb_crypt_slot_remove(h, 0), BCFS_ERR_sb_crypt_last_slot);
	expect_err(sb_crypt_slot_remove(h, 1), BCFS_ERR_sb_crypt_no_slot);
	expect_err(sb_crypt_slot_remove(h, 1000), BCFS_ERR_sb_crypt_no_slot);
	expect_err(sb_crypt_slot_change(h, 1, &second, &quick), BCFS_ERR_sb_crypt_no_slot);
	expect_err(sb_crypt_slot_change(h, UINT32_MAX, &second, &quick), BCFS_ERR_sb_crypt_no_slot);
	for (unsigned i = 1; i < BCFS_CRYPT_SLOTS; i++) {
		s = file(i, buf);
		cr_assert_eq(sb_crypt_slot_add(h, &s, &quick, &slot), 0);
		cr_expect_eq(slot, i);
		cr_expect_eq(sb_crypt_slot_type(h->sb, i), BCFS_CRYPT_SLOT_key_file);
	}
	expect_err(sb_crypt_slot_add(h, &s, &quick, &slot), BCFS_ERR_sb_crypt_slots_full);
	cr_assert_eq(sb_crypt_slot_change(h, 3, &second, &quick), 0);
	cr_assert_eq(sb_crypt_slot_remove(h, 0), 0);
	expect_err(reopen(&t, &first, &h2, &slot), BCFS_ERR_sb_crypt_wrong_secret);
	s = file(3, buf);
	expect_err(sb_crypt_open(h2, &s, &slot), BCFS_ERR_sb_crypt_wrong_secret);
	cr_assert_eq(sb_crypt_open(h2, &second, &slot), 0);
	cr_expect_eq(slot, 3);
	cr_expect(same_master(h, h2, 1));
	sb_free(h2);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_crypt_slots, a_failed_write_changes_nothing)
{
	struct crypt_secret first = pass("first"), second = pass("second");
	struct sb_handle *h, *h2;
	struct bcfs_sb *was;
	struct tfs t;

	h = make(&t);
	cr_assert_eq(sb_crypt_rotate(h, &first, 1, false), 0);
	was = malloc(sb_bytes(h->sb));
	sim_bdev_arm(t.bdev, SIM_FAULT_WRITE_ERROR, 1, true);
	for (unsigned i = 0; i < 4; i++) {
		struct bcfs_sb_field_crypt *c = sb_field_crypt(h->sb);
		size_t at = (size_t)((u8 *)c - (u8 *)h->sb), len = sb_field_bytes(&c->field);
		int ret;

		memcpy(was, h->sb, sb_bytes(h->sb));
		if (i == 0)
			ret = sb_crypt_slot_add(h, &second, &quick, NULL);
		else if (i == 1)
			ret = sb_crypt_slot_change(h, 0, &second, &quick);
		else if (i == 2)
			ret = sb_crypt_rotate(h, &first, 1, false);
		else
			ret = sb_crypt_forget(h, 2);
		expect_err(ret, BCFS_ERR_sb_write);
		cr_expect(!memcmp((u8 *)h->sb + at, (u8 *)was + at, len), "operation %u", i);
		cr_expect_eq(h->sb->u64s, was->u64s);
		cr_expect_null(keyring_master(h->keys, 3));
	}
	sim_bdev_arm(t.bdev, SIM_FAULT_WRITE_ERROR, 0, false);
	tfs_write(h);
	cr_assert_eq(reopen(&t, &first, &h2, NULL), 0, "%s", t.line);
	cr_expect(same_master(h, h2, 1) && same_master(h, h2, 2));
	sb_free(h2);
	free(was);
	sb_free(h);
	tfs_exit(&t);
}

/* What was removed is in no copy; else that is said. */
Test(sb_crypt_slots, a_failed_write_of_one_copy)
{
	struct crypt_secret first = pass("first"), second = pass("second");
	struct sb_handle *h, *h2;
	unsigned slot;
	struct tfs t;

	h = make(&t);
	for (unsigned k = 1; k <= h->sb->layout.nr_copies; k++) {
		cr_assert_eq(sb_crypt_slot_add(h, &second, &quick, &slot), 0);
		sim_bdev_arm(t.bdev, SIM_FAULT_WRITE_ERROR, k, false);
		cr_expect_eq(sb_crypt_slot_remove(h, slot), 0, "copy %u", k);
		cr_expect_eq(h->copies_valid, (1U << h->sb->layout.nr_copies) - 1, "copy %u", k);
	}
	cr_assert_eq(sb_crypt_slot_add(h, &second, &quick, &slot), 0);
	sim_bdev_arm(t.bdev, SIM_FAULT_WRITE_ERROR, h->sb->layout.nr_copies, true);
	expect_err(sb_crypt_slot_remove(h, slot), BCFS_ERR_sb_crypt_copy_old);
	cr_expect_not_null(strstr(t.line, "it may still have the old ones"), "%s", t.line);
	sim_bdev_arm(t.bdev, SIM_FAULT_WRITE_ERROR, 0, false);
	tfs_write(h);
	cr_assert_eq(reopen(&t, &first, &h2, NULL), 0, "%s", t.line);
	cr_expect_eq(sb_crypt_nr_used(h2->sb), 1);
	sb_free(h2);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_crypt_slots, no_memory)
{
	struct crypt_secret first = pass("first"), second = pass("second");
	struct sb_handle *h, *h2;
	struct tfs t;

	h = make(&t);
	h2 = reread(&t);
	for (unsigned k = 1; k <= 2; k++) {
		cr_assert_eq(env_inject_arm(t.env, "secret_alloc", k, false), 0);
		expect_err(sb_crypt_open(h2, &first, NULL), BCFS_ERR_nomem);
		cr_expect_null(h2->keys);
	}
	cr_assert_eq(env_inject_arm(t.env, "secret_alloc", 1, true), 0);
	expect_err(sb_crypt_slot_add(h, &second, &quick, NULL), BCFS_ERR_nomem);
	expect_err(sb_crypt_rotate(h, &first, 1, false), BCFS_ERR_nomem);
	env_inject_disarm_all(t.env);
	cr_expect_eq(sb_crypt_open(h2, &first, NULL), 0);
	sb_free(h2);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_crypt_slots, generations)
{
	struct crypt_secret s[3] = {pass("first"), pass("second")}, stranger = pass("x");
	struct printbuf text = PRINTBUF;
	struct sb_handle *h, *h2;
	unsigned slot;
	u64 one = 0, *got;
	u32 u64s;
	u8 buf[40];
	struct tfs t;

	h = make(&t);
	s[2] = file(9, buf);
	cr_assert_eq(sb_crypt_slot_add(h, &s[1], &quick, NULL), 0);
	cr_assert_eq(sb_crypt_slot_add(h, &s[2], &quick, NULL), 0);
	cr_assert_eq(sb_clean_set(h, 5, &one, 1), 0);
	/* All that are to stay are asked for. */
	expect_err(sb_crypt_rotate(h, s, 2, false), BCFS_ERR_sb_crypt_slot_left);
	expect_err(sb_crypt_rotate(h, NULL, 0, true), BCFS_ERR_sb_crypt_last_slot);
	expect_err(sb_crypt_rotate(h, &stranger, 1, true), BCFS_ERR_sb_crypt_wrong_secret);
	cr_expect_eq(sb_crypt_gen(h->sb), 1);
	cr_assert_eq(sb_crypt_rotate(h, s, 3, false), 0);
	cr_expect_eq(sb_crypt_gen(h->sb), 2);
	cr_expect_eq(sb_crypt_gen_oldest(h->sb), 1);
	cr_expect_eq(keyring_newest(h->keys, KEY_USE_data)->gen, 2);
	cr_expect(memcmp(keyring_master(h->keys, 1)->b, keyring_master(h->keys, 2)->b, KEY_BYTES));
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(reopen(&t, &s[i], &h2, &slot), 0, "%s", t.line);
		cr_expect_eq(slot, i);
		cr_expect(same_master(h, h2, 1) && same_master(h, h2, 2));
		/* The clean section is of the generation it was written with. */
		cr_assert_eq(sb_clean_read(h2, &got, &u64s), 0);
		env_free(t.env, got);
		sb_free(h2);
	}
	sb_to_text(&text, h->sb);
	cr_expect_not_null(strstr(printbuf_str(&text), "older generations"));
	printbuf_exit(&text);

	cr_assert_eq(sb_crypt_rotate(h, s + 2, 1, true), 0);
	cr_expect_eq(sb_crypt_nr_used(h->sb), 1);
	expect_err(reopen(&t, &s[0], &h2, NULL), BCFS_ERR_sb_crypt_wrong_secret);
	cr_assert_eq(sb_crypt_open(h2, &s[2], &slot), 0);
	cr_expect_eq(slot, 2);
	cr_expect(same_master(h, h2, 1) && same_master(h, h2, 2) && same_master(h, h2, 3));
	sb_free(h2);

	cr_assert_eq(sb_crypt_forget(h, 2), 0);
	cr_expect_eq(sb_crypt_gen_oldest(h->sb), 2);
	cr_assert_eq(reopen(&t, &s[2], &h2, NULL), 0);
	cr_expect_null(keyring_master(h2->keys, 1));
	cr_expect(same_master(h, h2, 2) && same_master(h, h2, 3));
	sb_free(h2);
	for (unsigned gen = 4; gen < 2 + 1 + BCFS_CRYPT_OLD_MAX; gen++)
		cr_assert_eq(sb_crypt_rotate(h, s + 2, 1, false), 0, "generation %u", gen);
	expect_err(sb_crypt_rotate(h, s + 2, 1, false), BCFS_ERR_sb_crypt_gens);
	cr_assert_eq(sb_crypt_forget(h, sb_crypt_gen(h->sb)), 0);
	cr_expect_eq(sb_crypt_gen_oldest(h->sb), sb_crypt_gen(h->sb));
	cr_assert_eq(sb_crypt_rotate(h, s + 2, 1, false), 0);
	cr_assert_eq(reopen(&t, &s[2], &h2, NULL), 0, "%s", t.line);
	sb_free(h2);
	sb_free(h);
	tfs_exit(&t);
}
/* What stands in the way is not the older keys, of which there are none left. */
Test(sb_crypt_slots, generations_in_one_mount)
{
	struct crypt_secret first = pass("first");
	unsigned nr = 0;
	struct sb_handle *h;
	struct tfs t;
	int ret;

	h = make(&t);
	while (!(ret = sb_crypt_rotate(h, &first, 1, false))) {
		cr_assert_eq(sb_crypt_forget(h, sb_crypt_gen(h->sb)), 0);
		nr++;
	}
	expect_err(ret, BCFS_ERR_sb_crypt_gens_mount);
	cr_expect_eq(nr, KEYRING_GENS_MAX - 1);
	cr_expect_eq(sb_crypt_gen_oldest(h->sb), sb_crypt_gen(h->sb));
	sb_free(h);
	cr_assert_eq(reopen(&t, &first, &h, NULL), 0);
	cr_expect_eq(sb_crypt_rotate(h, &first, 1, false), 0, "after another mount");

	/* The number has 16 bits. */
	sb_field_crypt(h->sb)->key_gen = UINT16_MAX;
	expect_err(sb_crypt_rotate(h, &first, 1, false), BCFS_ERR_sb_crypt_gen_last);
	sb_free(h);
	tfs_exit(&t);
}

/* ---- what a secret costs that opens nothing ---- */

Test(sb_crypt_slots, all_together_cost_no_more_than_one)
{
	const struct crypt_kdf dear = {64, BCFS_CRYPT_KDF_COST_MAX / 64 / 2};
	struct crypt_secret second = pass("second"), third = pass("third");
	struct sb_validate_ctx ctx = {.skip_csum = true};
	struct printbuf err = PRINTBUF;
	struct bcfs_crypt_slot *d;
	struct sb_handle *h;
	unsigned slot = 99;
	struct tfs t;

	h = make(&t);
	ctx.area_bytes = sb_area_bytes(h->sb);
	/* Where the passphrase's key is derived before the cost is known to be too much it is dear.
	 */
	d = sb_field_crypt(h->sb)->slots;
	for (unsigned i = 1; i < 3; i++)
		d[i] = (struct bcfs_crypt_slot){.type = BCFS_CRYPT_SLOT_passphrase,
						.kdf_ops = dear.ops,
						.kdf_mem = dear.mem};
	d[2].kdf_mem -= BCFS_CRYPT_KDF_MEM_MIN;
	cr_expect_eq(sb_validate(h->sb, &ctx, &err), 0, "%s", printbuf_str(&err));
	tfs_write(h);
	cr_expect_eq(sb_crypt_slot_add(h, &second, &quick, &slot), 0, "%s", t.line);
	for (unsigned i = 0; i < 64; i++)
		if (sb_crypt_slot_add(h, &third, &(struct crypt_kdf){16, BCFS_CRYPT_KDF_MEM_MIN},
				      NULL))
			break;
	cr_expect_not_null(strstr(t.line, "all slots together would take more than 32 GiB"), "%s",
			   t.line);
	cr_expect_eq(sb_crypt_nr_used(h->sb), 7);
	expect_err(sb_crypt_slot_change(h, slot, &third,
					&(struct crypt_kdf){64, BCFS_CRYPT_KDF_MEM_MIN}),
		   BCFS_ERR_sb_crypt_kdf_cost);
	cr_expect_eq(sb_crypt_slot_change(h, 1, &third, &quick), 0, "%s", t.line);

	/* Somebody else may have written it. */
	d[1] = d[2];
	d[1].kdf_mem += 2 * BCFS_CRYPT_KDF_MEM_MIN;
	expect_err(sb_validate(h->sb, &ctx, &err), BCFS_ERR_sb_invalid_crypt);
	cr_expect_not_null(strstr(printbuf_str(&err), "all key slots take"));
	printbuf_exit(&err);
	sb_free(h);
	tfs_exit(&t);
}

Test(sb_crypt_slots, half_of_the_memory)
{
	const struct crypt_kdf kdf = {1, 1 << 20};
	struct crypt_secret first = pass("first"), second = pass("second"), third = pass("third");
	struct sb_handle *h, *h2;
	unsigned slot = 99;
	struct tfs t;

	h = make(&t);
	env_sim_set_ram(t.env, 2 << 20);
	cr_assert_eq(sb_crypt_slot_add(h, &second, &kdf, NULL), 0, "%s", t.line);
	env_sim_set_ram(t.env, (2 << 20) - 2);
	expect_err(sb_crypt_slot_add(h, &third, &kdf, NULL), BCFS_ERR_sb_crypt_kdf_ram);
	cr_expect_str_eq(t.line,
			 "dev: not done: to derive a key from the passphrase takes more than half "
			 "of this machine's memory, which is 1 MiB");
	expect_err(sb_crypt_rotate(h, &second, 1, true), BCFS_ERR_sb_crypt_kdf_ram);
	cr_expect_eq(sb_crypt_nr_used(h->sb), 2);
	/* The others open all the same. */
	expect_err(reopen(&t, &second, &h2, &slot), BCFS_ERR_sb_crypt_kdf_ram);
	cr_expect_not_null(
		strstr(t.line, "tried: it takes more than half of this machine's memory"), "%s",
		t.line);
	cr_assert_eq(sb_crypt_open(h2, &first, &slot), 0, "%s", t.line);
	sb_free(h2);
	env_sim_set_ram(t.env, 0);
	cr_assert_eq(reopen(&t, &second, &h2, &slot), 0, "unknown: not held against it");
	cr_expect_eq(slot, 1);
	sb_free(h2);
	sb_free(h);
	tfs_exit(&t);
}

/* ---- random operations against a model ---- */

struct model {
	unsigned secret[BCFS_CRYPT_SLOTS]; /* number of what opens it; 0: free */
	u16 oldest, newest;
	u8 master[64][KEY_BYTES]; /* by generation */
};

/* Odd ones are passphrases, even ones key files. */
static struct crypt_secret secret_nr(unsigned n, u8 buf[40])
{
	if (n % 2 == 0)
		return file(n, buf);
	snprintf((char *)buf, 40, "passphrase %u", n);
	return pass((char *)buf);
}

static unsigned model_pick(const struct model *m, u64 *rng, bool used)
{
	unsigned first = trand_below(rng, BCFS_CRYPT_SLOTS);

	for (unsigned k = 0; k < BCFS_CRYPT_SLOTS; k++)
		if (!!m->secret[(first + k) % BCFS_CRYPT_SLOTS] == used)
			return (first + k) % BCFS_CRYPT_SLOTS;
	return BCFS_CRYPT_SLOTS;
}

static unsigned model_used(const struct model *m)
{
	unsigned nr = 0;

	for (unsigned i = 0; i < BCFS_CRYPT_SLOTS; i++)
		nr += m->secret[i] != 0;
	return nr;
}

static void model_rotate(struct model *m, struct sb_handle *h, u64 *rng)
{
	struct crypt_secret s[BCFS_CRYPT_SLOTS];
	u8 buf[BCFS_CRYPT_SLOTS][40];
	unsigned nr = 0, keep = 1U << model_pick(m, rng, true) | trand_below(rng, 256);
	bool all = true;
	int ret;

	for (unsigned i = 0; i < BCFS_CRYPT_SLOTS; i++) {
		if (m->secret[i] && (keep >> i & 1)) {
			s[nr] = secret_nr(m->secret[i], buf[nr]);
			nr++;
		}
		all &= !m->secret[i] || (keep >> i & 1);
	}
	ret = sb_crypt_rotate(h, s, nr, !all && trand_below(rng, 2));
	if (ret == -BCFS_ERR_sb_crypt_slot_left) {
		cr_assert_not(all);
		return;
	}
	if (ret == -BCFS_ERR_sb_crypt_gens) {
		cr_assert_eq(m->newest - m->oldest, BCFS_CRYPT_OLD_MAX);
		return;
	}
	if (ret == -BCFS_ERR_sb_crypt_gens_mount) {
		cr_assert_eq(keyring_nr(h->keys), KEYRING_GENS_MAX);
		return;
	}
	cr_assert_eq(ret, 0, "%s", err_name(ret));
	for (unsigned i = 0; i < BCFS_CRYPT_SLOTS; i++)
		if (!(keep >> i & 1))
			m->secret[i] = 0;
	m->newest++;
	memcpy(m->master[m->newest], keyring_master(h->keys, m->newest)->b, KEY_BYTES);
}

static void model_check(struct tfs *t, const struct model *m, u64 *rng, unsigned nr_secrets)
{
	u8 buf[40];

	for (unsigned n = 1; n <= nr_secrets; n++) {
		struct crypt_secret s = secret_nr(n, buf);
		struct sb_handle *h;
		unsigned slot = 99, want = 99;
		int ret;

		for (unsigned i = 0; i < BCFS_CRYPT_SLOTS; i++)
			if (m->secret[i] == n)
				want = i;
		if (want == 99 && trand_below(rng, 4))
			continue;
		ret = reopen(t, &s, &h, &slot);
		if (want == 99) {
			expect_err(ret, BCFS_ERR_sb_crypt_wrong_secret);
		} else {
			cr_assert_eq(ret, 0, "%s: %s", err_name(ret), t->line);
			cr_assert_eq(slot, want);
			for (unsigned gen = 1; gen <= m->newest; gen++) {
				const struct csum_key *k = keyring_master(h->keys, gen);

				cr_assert_eq(!!k, gen >= m->oldest);
				cr_assert(!k || !memcmp(k->b, m->master[gen], KEY_BYTES));
			}
		}
		sb_free(h);
	}
}

Test(sb_crypt_slots, random_operations, .timeout = 280)
{
	u64 seed = trand_seed(0x5107), rng = seed;

	for (unsigned round = 0; round < trand_rounds(8); round++) {
		struct crypt_secret s = pass("first");
		struct model m = {.oldest = 1, .newest = 1};
		unsigned nr_secrets = 1;
		struct sb_handle *h;
		struct tfs t;
		u8 buf[40];

		h = make(&t);
		s = secret_nr(1, buf);
		cr_assert_eq(sb_crypt_slot_change(h, 0, &s, &quick), 0);
		m.secret[0] = 1;
		memcpy(m.master[1], keyring_master(h->keys, 1)->b, KEY_BYTES);
		for (unsigned op = 0; op < 60 && nr_secrets < 100; op++) {
			unsigned slot, got = 99, what = trand_below(&rng, 10);
			int ret;

			if (what < 4) {
				s = secret_nr(++nr_secrets, buf);
				ret = sb_crypt_slot_add(h, &s, &quick, &got);
				if (model_used(&m) == BCFS_CRYPT_SLOTS) {
					expect_err(ret, BCFS_ERR_sb_crypt_slots_full);
				} else {
					cr_assert(!ret && got < BCFS_CRYPT_SLOTS && !m.secret[got],
						  TEST_SEED_FMT, (unsigned long long)seed);
					m.secret[got] = nr_secrets;
				}
			} else if (what < 6) {
				slot = model_pick(&m, &rng, true);
				ret = sb_crypt_slot_remove(h, slot);
				cr_assert_eq(ret, model_used(&m) == 1 ? -BCFS_ERR_sb_crypt_last_slot
								      : 0);
				if (!ret)
					m.secret[slot] = 0;
			} else if (what < 8) {
				slot = model_pick(&m, &rng, true);
				s = secret_nr(++nr_secrets, buf);
				cr_assert_eq(sb_crypt_slot_change(h, slot, &s, &quick), 0);
				m.secret[slot] = nr_secrets;
			} else if (what == 8 && m.newest < 60) {
				model_rotate(&m, h, &rng);
			} else if (trand_below(&rng, 2)) {
				m.oldest += trand_below(&rng, m.newest - m.oldest + 1);
				cr_assert_eq(sb_crypt_forget(h, m.oldest), 0);
			} else {
				sb_free(h);
				s = secret_nr(m.secret[model_pick(&m, &rng, true)], buf);
				cr_assert_eq(reopen(&t, &s, &h, NULL), 0, TEST_SEED_FMT,
					     (unsigned long long)seed);
			}
			if (op % 8 == 7)
				model_check(&t, &m, &rng, nr_secrets);
		}
		sb_free(h);
		tfs_exit(&t);
	}
}
