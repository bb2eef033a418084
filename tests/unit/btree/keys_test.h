/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of keys and sets of keys share: a seeded generator, universes of
 * positions, random keys, a node in memory with its buffers.
 */
#ifndef BCFS_TEST_KEYS_TEST_H
#define BCFS_TEST_KEYS_TEST_H

#include "btree/bset.h"
#include "util/bits.h"
#include "util/printbuf.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rng {
	u64 seed, state;
};

static inline u64 rnd(struct rng *r)
{
	u64 z = r->state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static inline u64 rnd_below(struct rng *r, u64 n)
{
	return rnd(r) % n;
}

static inline bool rnd_percent(struct rng *r, unsigned p)
{
	return rnd_below(r, 100) < p;
}

/* A number of random width. */
static inline u64 rnd_bits(struct rng *r, unsigned max_bits)
{
	return rnd(r) & low_bits_mask(rnd_below(r, max_bits + 1));
}

static inline struct rng rng_new(u64 fallback)
{
	const char *env = getenv("BCFS_TEST_SEED");
	u64 seed = env ? strtoull(env, NULL, 0) : fallback;

	return (struct rng){.seed = seed, .state = seed};
}

#define check(rng, cond, ...)                                                                      \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s; BCFS_TEST_SEED=%llu;", __FILE__, __LINE__,     \
				#cond, (unsigned long long)(rng)->seed);                           \
			fprintf(stderr, " " __VA_ARGS__);                                          \
			fputc('\n', stderr);                                                       \
			cr_assert_fail("%s (BCFS_TEST_SEED=%llu)", #cond,                          \
				       (unsigned long long)(rng)->seed);                           \
		}                                                                                  \
	} while (0)

/* The kinds of positions that real btrees have, and some that none has. */
enum universe { UNIVERSE_EXTENTS, UNIVERSE_HASH, UNIVERSE_DENSE, UNIVERSE_WILD, UNIVERSE_NR };

static inline struct bpos rnd_pos(struct rng *r, enum universe u)
{
	switch (u) {
	case UNIVERSE_EXTENTS:
		return SPOS(4096 + rnd_below(r, 5), rnd_below(r, 1000) * 8, UINT32_MAX);
	case UNIVERSE_HASH:
		return SPOS(4096 + rnd_below(r, 3), rnd(r) >> 1, UINT32_MAX - rnd_below(r, 2));
	case UNIVERSE_DENSE:
		return SPOS(0, rnd_below(r, 500), rnd_below(r, 2));
	case UNIVERSE_WILD:
	case UNIVERSE_NR:
		break;
	}
	return SPOS(rnd_percent(r, 50) ? rnd_bits(r, 64) : ~rnd_bits(r, 64),
		    rnd_percent(r, 50) ? rnd_bits(r, 64) : ~rnd_bits(r, 64),
		    rnd_percent(r, 50) ? rnd_bits(r, 32) : ~rnd_bits(r, 32));
}

/* A format that passes bkey_format_validate(). */
static inline struct bkey_format rnd_format(struct rng *r)
{
	static const u8 native[BKEY_NR_FIELDS] = {64, 64, 32, 32, 32};
	struct bkey_format f = {.nr_fields = BKEY_NR_FIELDS};
	unsigned bits;

	do {
		bits = BKEY_PACKED_HEADER_BITS;
		for (unsigned i = 0; i < BKEY_NR_FIELDS; i++) {
			u64 room;

			f.bits_per_field[i] = rnd_percent(r, 30) ? 0 : rnd_below(r, native[i] + 1);
			bits += f.bits_per_field[i];
			room = low_bits_mask(native[i]) - low_bits_mask(f.bits_per_field[i]);
			f.field_offset[i] = rnd_percent(r, 30) ? 0 : rnd_bits(r, native[i]);
			if (rnd_percent(r, 10))
				f.field_offset[i] = room;
			f.field_offset[i] = min(f.field_offset[i], room);
		}
	} while (bits > BKEY_U64s * 64);
	f.key_u64s = DIV_ROUND_UP(bits, 64);
	if (f.key_u64s < BKEY_U64s && rnd_percent(r, 10))
		f.key_u64s++;
	return f;
}

/* A node's keys with buffers of exactly the size that is promised. */
struct node {
	struct btree_keys b;
	u64 *data, *scratch;
	u8 *aux;
};

static inline void node_init(struct node *n, u32 capacity_u64s, const struct bkey_format *f)
{
	size_t bytes = (size_t)capacity_u64s * 8;

	n->data = aligned_alloc(64, round_up(bytes + BSET_CACHELINE, (size_t)64));
	n->scratch = malloc(bytes);
	n->aux = malloc(btree_keys_aux_bytes(bytes));
	btree_keys_init(&n->b, n->data, n->aux, capacity_u64s, f);
}

static inline void node_exit(struct node *n)
{
	free(n->data);
	free(n->scratch);
	free(n->aux);
}

/* A key with its value, on the stack. */
struct key_buf {
	struct bkey_i k;
	u64 room[BKEY_VAL_U64s_MAX];
};

#endif
