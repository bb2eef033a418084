// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: what is sealed is XChaCha20-Poly1305, whatever it is cut into; nothing that was changed
 * opens; each purpose has a key of its own; secrets are in memory that is locked and wiped. Method:
 * the test vector of the draft, libsodium's own call, every byte changed; derived keys computed by
 * another program (Python's hashlib).
 */
#include "../test_rand.h"
#include "codec/keyring.h"
#include "codec/secret.h"
#include "env/env_sim.h"
#include "util/errcode.h"

#include <criterion/criterion.h>
#include <sodium/crypto_aead_xchacha20poly1305.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define XCHACHA BCFS_CSUM_xchacha20_poly1305

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

static void fill(u64 *rng, void *buf, size_t len)
{
	u8 *p = buf;

	while (len--)
		*p++ = (u8)trand_u64(rng);
}

/* draft-irtf-cfrg-xchacha-03, A.3.1 */
Test(aead, vector)
{
	const char text[] = "Ladies and Gentlemen of the class of '99: If I could offer you only "
			    "one tip for the future, sunscreen would be it.";
	const size_t len = sizeof(text) - 1;
	struct bcfs_csum tag, want = {{0}};
	struct csum_key key = {.gen = 1};
	struct bcfs_nonce nonce;
	u8 buf[sizeof(text)], sealed[sizeof(text)], ad[12];

	for (unsigned i = 0; i < 32; i++)
		key.b[i] = 0x80 + i;
	for (unsigned i = 0; i < 24; i++)
		nonce.b[i] = 0x40 + i;
	unhex("50515253c0c1c2c3c4c5c6c7", ad, 12);
	unhex("bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
	      "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
	      "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
	      "21f9664c97637da9768812f615c68b13b52e",
	      sealed, len);
	unhex("c0875924c1c7987947deafd8780acf49", want.b, 16);
	memcpy(buf, text, len);
	cr_assert_eq(aead_seal(&key, XCHACHA, &nonce, ad, 12, buf, len, &tag), 0);
	cr_expect_arr_eq(buf, sealed, len);
	cr_expect_arr_eq(tag.b, want.b, 32);
	cr_assert_eq(aead_open(&key, XCHACHA, &nonce, ad, 12, buf, len, &tag), 0);
	cr_expect_arr_eq(buf, text, len);
}

/* Pieces of random lengths, empty ones among them; *ret_nr of them. */
static void cut(u64 *rng, u8 *buf, size_t len, struct aead_iov *iov, unsigned *ret_nr)
{
	size_t at = 0;
	unsigned nr = 0;

	while (at < len && nr < 7) {
		size_t n = trand_below(rng, min_t(size_t, len - at, 1 + trand_log_u64(rng)) + 1);

		iov[nr++] = (struct aead_iov){buf + at, n};
		at += n;
	}
	iov[nr++] = (struct aead_iov){buf + at, len - at};
	*ret_nr = nr;
}

Test(aead, pieces_are_as_libsodium_seals_the_whole)
{
	u64 seed = trand_seed(0xaead), rng = seed;
	static u8 buf[20000], plain[20000], want[20000], ad[300];

	cr_assert_eq(secret_init(), 0);
	for (unsigned round = 0; round < trand_rounds(3000); round++) {
		size_t len = trand_below(&rng, trand_below(&rng, 8) ? 300 : sizeof(buf));
		size_t ad_len = trand_below(&rng, sizeof(ad));
		struct aead_iov d[8], a[8];
		struct csum_iov ca[8];
		struct bcfs_csum tag, mac = {{0}};
		struct csum_key key = {.gen = 7};
		struct bcfs_nonce nonce;
		unsigned nr, nr_ad;

		fill(&rng, key.b, sizeof(key.b));
		fill(&rng, &nonce, sizeof(nonce));
		fill(&rng, plain, len);
		fill(&rng, ad, ad_len);
		memcpy(buf, plain, len);
		crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
			want, mac.b, NULL, plain, len, ad, ad_len, NULL, nonce.b, key.b);
		cut(&rng, buf, len, d, &nr);
		cut(&rng, ad, ad_len, a, &nr_ad);
		for (unsigned i = 0; i < nr_ad; i++)
			ca[i] = (struct csum_iov){a[i].p, a[i].len};
		cr_assert_eq(aead_seal_iov(&key, XCHACHA, &nonce, ca, nr_ad, d, nr, &tag), 0);
		cr_assert(!memcmp(buf, want, len) && !memcmp(&tag, &mac, sizeof(tag)),
			  TEST_SEED_FMT ", round %u", (unsigned long long)seed, round);
		/* Other cuts open it. */
		cut(&rng, buf, len, d, &nr);
		cr_assert_eq(aead_open_iov(&key, XCHACHA, &nonce, ca, nr_ad, d, nr, &tag), 0);
		cr_assert(!memcmp(buf, plain, len), TEST_SEED_FMT, (unsigned long long)seed);
	}
}

/* From one buffer to another, and only verified: the same. */
Test(aead, elsewhere)
{
	struct csum_key key = {.gen = 1};
	struct bcfs_nonce nonce = {{7}};
	struct bcfs_csum tag, tag2;
	u8 src[300], here[300], there[300], ad[20] = {1, 2, 3};

	for (unsigned len = 0; len <= sizeof(src); len += 1 + len / 7) {
		for (unsigned i = 0; i < len; i++)
			here[i] = src[i] = (u8)(i * 31 + len);
		cr_assert_eq(aead_seal(&key, XCHACHA, &nonce, ad, 20, here, len, &tag), 0);
		cr_assert_eq(aead_seal_to(&key, XCHACHA, &nonce, ad, 20, there, src, len, &tag2),
			     0);
		cr_assert(!memcmp(here, there, len) && !memcmp(&tag, &tag2, sizeof(tag)));
		cr_assert_eq(aead_verify(&key, XCHACHA, &nonce, ad, 20, there, len, &tag), 0);
		cr_assert(!memcmp(here, there, len), "verifying changes nothing");
		tag.b[len % 16] ^= 1;
		cr_assert_eq(aead_verify(&key, XCHACHA, &nonce, ad, 20, there, len, &tag),
			     -BCFS_ERR_aead_mismatch);
	}
}

/* Each part, by its ends: what was asked for is opened, what is far from it stays as it was. */
Test(aead, a_part)
{
	struct csum_key key = {.gen = 1};
	struct bcfs_nonce nonce = {{9}};
	struct bcfs_csum tag;
	u8 plain[200], sealed[200], buf[200], ad[20] = {1, 2, 3};

	for (unsigned i = 0; i < sizeof(plain); i++)
		plain[i] = (u8)(i * 31);
	memcpy(sealed, plain, sizeof(plain));
	cr_assert_eq(aead_seal(&key, XCHACHA, &nonce, ad, 20, sealed, sizeof(sealed), &tag), 0);
	for (unsigned from = 0; from <= sizeof(plain); from++)
		for (unsigned to = from; to <= sizeof(plain); to++) {
			unsigned first = from & ~63U, last = min(200U, (to + 63) & ~63U);

			if (from == to)
				first = last = from;
			memcpy(buf, sealed, sizeof(buf));
			cr_assert_eq(aead_open_part(&key, XCHACHA, &nonce, ad, 20, buf, 200, from,
						    to, &tag),
				     0);
			cr_assert(!memcmp(buf + from, plain + from, to - from), "%u to %u", from,
				  to);
			cr_assert(!memcmp(buf, sealed, first), "%u to %u", from, to);
			cr_assert(!memcmp(buf + last, sealed + last, 200 - last), "%u to %u", from,
				  to);
		}
	/* All of it is verified whatever is asked for. */
	for (unsigned i = 0; i < sizeof(buf); i++) {
		memcpy(buf, sealed, sizeof(buf));
		buf[i] ^= 4;
		cr_assert_eq(aead_open_part(&key, XCHACHA, &nonce, ad, 20, buf, 200, 64, 70, &tag),
			     -BCFS_ERR_aead_mismatch);
		buf[i] ^= 4;
		cr_assert(!memcmp(buf, sealed, sizeof(buf)), "byte %u", i);
	}
}

/* Changes each byte of p in turn; nothing opens, and the sealed data stays as it is. */
static void tamper(u8 *p, size_t len, const struct csum_key *key, const struct bcfs_nonce *nonce,
		   const u8 *ad, size_t ad_len, u8 *buf, size_t buf_len,
		   const struct bcfs_csum *tag)
{
	u8 before[200];

	for (size_t i = 0; i < len; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			p[i] ^= 1 << bit;
			memcpy(before, buf, buf_len);
			cr_assert_eq(aead_open(key, XCHACHA, nonce, ad, ad_len, buf, buf_len, tag),
				     -BCFS_ERR_aead_mismatch, "byte %zu", i);
			cr_assert(!memcmp(before, buf, buf_len), "a failed open changes nothing");
			p[i] ^= 1 << bit;
		}
}

Test(aead, every_bit_counts)
{
	struct csum_key key = {.gen = 1};
	struct bcfs_nonce nonce;
	struct bcfs_csum tag;
	u8 buf[150], plain[150], ad[40];
	u64 rng = trand_seed(3);

	fill(&rng, key.b, sizeof(key.b));
	fill(&rng, &nonce, sizeof(nonce));
	fill(&rng, ad, sizeof(ad));
	fill(&rng, plain, sizeof(plain));
	memcpy(buf, plain, sizeof(buf));
	cr_assert_eq(aead_seal(&key, XCHACHA, &nonce, ad, 40, buf, 150, &tag), 0);
	tamper(tag.b, sizeof(tag), &key, &nonce, ad, 40, buf, 150, &tag);
	tamper(nonce.b, sizeof(nonce), &key, &nonce, ad, 40, buf, 150, &tag);
	tamper(ad, sizeof(ad), &key, &nonce, ad, 40, buf, 150, &tag);
	tamper(buf, sizeof(buf), &key, &nonce, ad, 40, buf, 150, &tag);
	tamper(key.b, sizeof(key.b), &key, &nonce, ad, 40, buf, 150, &tag);
	/* Lengths, too. */
	cr_expect_eq(aead_open(&key, XCHACHA, &nonce, ad, 39, buf, 150, &tag),
		     -BCFS_ERR_aead_mismatch);
	cr_expect_eq(aead_open(&key, XCHACHA, &nonce, ad, 40, buf, 149, &tag),
		     -BCFS_ERR_aead_mismatch);
	cr_assert_eq(aead_open(&key, XCHACHA, &nonce, ad, 40, buf, 150, &tag), 0);
	cr_expect_arr_eq(buf, plain, 150);
}

Test(aead, chunks_have_nonces_of_their_own)
{
	struct bcfs_nonce n = {{1, 2, 3, [20] = 0xff, [23] = 0x80}}, c[64];

	for (unsigned i = 0; i < 64; i++) {
		c[i] = aead_chunk_nonce(&n, i);
		cr_expect_arr_eq(c[i].b, n.b, 20);
		for (unsigned k = 0; k < i; k++)
			cr_expect(memcmp(&c[i], &c[k], sizeof(n)));
	}
	cr_expect_arr_eq(&c[0], &n, sizeof(n));
	cr_expect_eq(c[3].b[20], 0xfc);
}

Test(keyring, keys_are_those_of_the_format)
{
	static const char *const want[KEY_USE_NR] = {
		[KEY_USE_data] = "f467542ab4923e8161b47a59e8370141"
				 "e185c3387812f97790124ebdc78c60a3",
		[KEY_USE_btree] = "6d495414791b8b0e4b537065c2911a19"
				  "34e33c7d0295beaca2a3d8aafefbab5a",
		[KEY_USE_journal] = "1b04dc61ed22fb38224c496dacb7a5f0"
				    "efb4a8408116a5eceb2a180f04193a90",
		[KEY_USE_sb_mac] = "3220ef2bfe0dfcfbfebe2bac31badef2"
				   "e9f7451015f7e00c4644d7fe63702d9c",
		[KEY_USE_clean] = "f3ab19acfe2c1c92b9a75f0b8ea181e0"
				  "0d86efe29280af59eea798777c04b824",
		[KEY_USE_wrap] = "cd03fc4e18c6e55f23c82879d761efcf"
				 "733c992974adc22bd79654f5820b2b23",
	};
	struct csum_key master = {.gen = 300}, key;
	u8 b[32];

	for (unsigned i = 0; i < 32; i++)
		master.b[i] = i;
	for (unsigned use = 1; use < KEY_USE_NR; use++) {
		key_derive(&master, use, &key);
		unhex(want[use], b, 32);
		cr_expect_arr_eq(key.b, b, 32, "use %u", use);
		cr_expect_eq(key.gen, 300);
	}
}

Test(keyring, generations)
{
	struct env *env = env_sim_create(1);
	struct csum_key master = {.gen = 0}, want;
	struct keyring *r = keyring_new(env, NULL);

	cr_assert_not_null(r);
	cr_expect_null(keyring_get(r, KEY_USE_data, 0));
	cr_expect_null(keyring_master(r, 1));
	for (unsigned i = 0; i < KEYRING_GENS_MAX; i++) {
		master.gen = 10 + i * 3;
		memset(master.b, i, sizeof(master.b));
		cr_assert_eq(keyring_add(r, &master), 0);
		cr_expect_eq(keyring_newest(r, KEY_USE_clean)->gen, master.gen);
	}
	master.gen++;
	cr_expect_eq(keyring_add(r, &master), -BCFS_ERR_keyring_full);
	for (unsigned gen = 0; gen < 100; gen++) {
		const struct csum_key *k = keyring_get(r, KEY_USE_journal, gen);
		bool there = gen >= 10 && (gen - 10) % 3 == 0 && gen < 10 + KEYRING_GENS_MAX * 3;

		cr_assert_eq(!!k, there, "generation %u", gen);
		cr_assert_eq(!!keyring_master(r, gen), there);
		if (!k)
			continue;
		master.gen = gen;
		memset(master.b, (gen - 10) / 3, sizeof(master.b));
		key_derive(&master, KEY_USE_journal, &want);
		cr_expect_arr_eq(k, &want, sizeof(want));
		cr_expect_arr_eq(keyring_master(r, gen), &master, sizeof(master));
	}
	keyring_free(r);
	keyring_free(NULL);
	env_sim_destroy(env);
}

/* The sanitizers' mlock() does nothing and says it did. */
#if defined(__SANITIZE_ADDRESS__) || defined(ENV_TSAN)
#define LOCKS false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LOCKS false
#endif
#endif
#ifndef LOCKS
#define LOCKS true
#endif

/* How much of the address's mapping is locked, and whether it is dumped, by /proc. */
static bool mapping(const void *p, unsigned long *ret_locked_kib, bool *ret_dontdump)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512];
	bool in = false, found = false;

	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		unsigned long a, b;

		if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
			in = (unsigned long)p >= a && (unsigned long)p < b;
		else if (in && sscanf(line, "Locked: %lu kB", ret_locked_kib) == 1)
			found = true;
		else if (in && !strncmp(line, "VmFlags:", 8))
			*ret_dontdump = strstr(line, " dd");
	}
	fclose(f);
	return found;
}

Test(secret, is_locked_and_not_dumped)
{
	struct env *env = env_sim_create(1);
	bool locked = false, dontdump = false;
	unsigned long kib = 0;
	u8 *p = secret_alloc(env, 1000, &locked);

	cr_assert_not_null(p);
	for (unsigned i = 0; i < 1000; i++)
		cr_assert_eq(p[i], 0);
	if (mapping(p, &kib, &dontdump)) {
		cr_expect(!LOCKS || locked == (kib > 0), "%lu KiB are locked", kib);
		cr_expect(dontdump);
	}
	secret_free(p);
	secret_free(NULL);
	env_inject_arm(env, "secret_alloc", 1, false);
	cr_expect_null(secret_alloc(env, 1000, &locked));
	cr_expect_not_null(p = secret_alloc(env, 1000, NULL));
	secret_free(p);
	env_sim_destroy(env);
}

Test(secret, that_cannot_be_locked_is_had_all_the_same)
{
	struct env *env = env_sim_create(1);
	struct rlimit none = {0, 0};
	unsigned long kib = 0;
	bool locked = true, dontdump;
	u8 *p;

	cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	p = secret_alloc(env, 1000, &locked);
	cr_assert_not_null(p);
	if (mapping(p, &kib, &dontdump)) /* root may lock in spite of the limit */
		cr_expect(!LOCKS || locked == (kib > 0));
	secret_free(p);
	env_sim_destroy(env);
}

Test(secret, equal)
{
	cr_expect(secret_equal("abc", "abc", 3));
	cr_expect_not(secret_equal("abc", "abd", 3));
	cr_expect(secret_equal("abc", "abd", 2));
}
