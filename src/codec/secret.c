// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * libsodium's guarded memory, and whether it was locked, which that keeps to itself.
 */
#include "codec/secret.h"

#include <sodium/core.h>
#include <sodium/utils.h>
#include <string.h>

int secret_init(void)
{
	return sodium_init() < 0 ? -BCFS_ERR_random_source : 0;
}

void *secret_alloc(struct env *env, size_t bytes, bool *ret_locked)
{
	void *p;
	bool locked;

	if (secret_init() || env_inject(env, "secret_alloc"))
		return NULL;
	bytes = round_up(bytes, 16); /* it ends where a page does */
	p = sodium_malloc(bytes);
	if (!p)
		return NULL;
	locked = !sodium_mlock(p, bytes);
	if (ret_locked)
		*ret_locked = locked;
	memset(p, 0, bytes);
	return p;
}

void secret_free(void *p)
{
	sodium_free(p);
}

void secret_wipe(void *p, size_t bytes)
{
	sodium_memzero(p, bytes);
}

bool secret_equal(const void *a, const void *b, size_t bytes)
{
	return !sodium_memcmp(a, b, bytes);
}
