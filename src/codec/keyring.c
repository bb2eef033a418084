// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * An array that grows at its end; the number of what is in it is published last.
 */
#include "codec/keyring.h"
#include "codec/secret.h"

#include <assert.h>
#include <sodium/crypto_kdf.h>
#include <string.h>

struct keyring_gen {
	struct csum_key master;
	struct csum_key use[KEY_USE_NR]; /* by number; [0] is not used */
};

struct keyring {
	u32 nr; /* written with release, after what it counts */
	struct keyring_gen g[KEYRING_GENS_MAX];
};

static_assert(KEY_BYTES == crypto_kdf_KEYBYTES, "master keys");

void key_derive(const struct csum_key *master, enum key_use use, struct csum_key *ret)
{
	int err = crypto_kdf_derive_from_key(ret->b, sizeof(ret->b), use, "bcfs key", master->b);

	assert(!err); /* only of lengths */
	(void)err;
	ret->gen = master->gen;
}

struct keyring *keyring_new(struct env *env, bool *ret_locked)
{
	return secret_alloc(env, sizeof(struct keyring), ret_locked);
}

struct keyring *keyring_copy(struct env *env, const struct keyring *r)
{
	struct keyring *n = keyring_new(env, NULL);

	if (n) {
		n->nr = keyring_nr(r);
		memcpy(n->g, r->g, n->nr * sizeof(n->g[0]));
	}
	return n;
}

void keyring_free(struct keyring *r)
{
	secret_free(r);
}

unsigned keyring_nr(const struct keyring *r)
{
	return __atomic_load_n(&r->nr, __ATOMIC_ACQUIRE);
}

int keyring_add(struct keyring *r, const struct csum_key *master)
{
	struct keyring_gen *g = &r->g[r->nr];

	if (r->nr == KEYRING_GENS_MAX)
		return -BCFS_ERR_keyring_full;
	assert(master->gen && (!r->nr || master->gen > g[-1].master.gen));
	g->master = *master;
	for (unsigned use = 1; use < KEY_USE_NR; use++)
		key_derive(master, use, &g->use[use]);
	__atomic_store_n(&r->nr, r->nr + 1, __ATOMIC_RELEASE);
	return 0;
}

static const struct keyring_gen *find(const struct keyring *r, u16 gen)
{
	/* The newest is asked for most. */
	for (u32 i = keyring_nr(r); i--;)
		if (r->g[i].master.gen == gen)
			return &r->g[i];
	return NULL;
}

const struct csum_key *keyring_get(const struct keyring *r, enum key_use use, u16 gen)
{
	const struct keyring_gen *g = find(r, gen);

	assert(use > 0 && use < KEY_USE_NR);
	return g ? &g->use[use] : NULL;
}

const struct csum_key *keyring_newest(const struct keyring *r, enum key_use use)
{
	u32 nr = keyring_nr(r);

	assert(nr && use > 0 && use < KEY_USE_NR);
	return &r->g[nr - 1].use[use];
}

const struct csum_key *keyring_master(const struct keyring *r, u16 gen)
{
	const struct keyring_gen *g = find(r, gen);

	return g ? &g->master : NULL;
}
