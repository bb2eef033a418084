/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The random numbers of the property tests: splitmix64 from one seed, which is
 * taken from the environment variable BCFS_TEST_SEED (decimal or 0x) or is the
 * test's own default, so that a run is the same every time. Print the seed in
 * every failure message: TEST_SEED_FMT with trand_seed().
 */
#ifndef BCFS_TEST_RAND_H
#define BCFS_TEST_RAND_H

#include "util/types.h"

#include <stdlib.h>

#define TEST_SEED_FMT "BCFS_TEST_SEED=0x%llx"

static inline u64 trand_seed(u64 default_seed)
{
	const char *env = getenv("BCFS_TEST_SEED");

	return env && *env ? strtoull(env, NULL, 0) : default_seed;
}

static inline u64 trand_u64(u64 *state)
{
	u64 z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* How many rounds of n: BCFS_TEST_SCALE (0.1, 10) times as many, for slow builds and long runs. */
static inline unsigned trand_rounds(unsigned n)
{
	const char *scale = getenv("BCFS_TEST_SCALE");

	if (!scale || !*scale)
		return n;
	n = (unsigned)(n * strtod(scale, NULL));
	return n ? n : 1;
}

/* 0 <= result < limit, limit > 0 */
static inline u64 trand_below(u64 *state, u64 limit)
{
	return trand_u64(state) % limit;
}

/* Every bit length equally likely: what varints and keys want to be tested with. */
static inline u64 trand_log_u64(u64 *state)
{
	unsigned shift = trand_below(state, 65);

	return shift == 64 ? 0 : trand_u64(state) >> shift;
}

#endif
