// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: every u64 survives encode and decode, in the documented bytes, and
 * neither side touches anything beyond its end.
 * Method: all lengths' edges, the fixed bytes of the format, random values,
 * every cut-off length.
 */
#include "../test_rand.h"
#include "util/varint.h"

#include <criterion/criterion.h>
#include <string.h>

static void check_one(u64 v, u64 seed)
{
	u8 buf[VARINT_MAX_BYTES + 1], untouched[VARINT_MAX_BYTES + 1];
	unsigned bytes = varint_bytes(v), n;
	u64 back = ~v;

	memset(buf, 0xa5, sizeof(buf));
	memset(untouched, 0xa5, sizeof(untouched));

	for (n = 0; n < bytes; n++)
		cr_assert_eq(varint_encode(buf, buf + n, v), 0);
	cr_assert(!memcmp(buf, untouched, sizeof(buf)), "a refused encode wrote something");

	cr_assert_eq(varint_encode(buf, buf + bytes, v), bytes);
	cr_assert_eq(buf[bytes], 0xa5, "wrote beyond the end");

	for (n = 0; n < bytes; n++)
		cr_assert_eq(varint_decode(buf, buf + n, &back), 0);
	cr_assert_eq(back, ~v, "a refused decode wrote its result");
	cr_assert_eq(varint_decode(buf, buf + sizeof(buf), &back), bytes);
	cr_assert_eq(back, v, "%llx came back as %llx, " TEST_SEED_FMT, (unsigned long long)v,
		     (unsigned long long)back, (unsigned long long)seed);
}

Test(varint, edges)
{
	for (unsigned bits = 0; bits < 64; bits++)
		for (int d = -2; d <= 2; d++)
			check_one((1ULL << bits) + d, 0);
	check_one(0, 0);
	check_one(~0ULL, 0);
}

Test(varint, lengths)
{
	cr_assert_eq(varint_bytes(0), 1);
	for (unsigned n = 1; n <= 8; n++) {
		cr_assert_eq(varint_bytes((1ULL << (7 * n)) - 1), n);
		cr_assert_eq(varint_bytes(1ULL << (7 * n)), n + 1);
	}
	cr_assert_eq(varint_bytes(~0ULL), 9);
}

/* These bytes are on disk in every image: they may never change. */
Test(varint, fixed_bytes)
{
	static const struct {
		u64 v;
		unsigned len;
		u8 bytes[9];
	} rows[] = {
		{0, 1, {0x00}},
		{1, 1, {0x02}},
		{127, 1, {0xfe}},
		{128, 2, {0x01, 0x02}},
		{0x1234, 2, {0xd1, 0x48}},
		{(1ULL << 56) - 1, 8, {0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{1ULL << 56, 9, {0xff, 0, 0, 0, 0, 0, 0, 0, 1}},
		{~0ULL, 9, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
	};
	u8 buf[9];

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		cr_assert_eq(varint_encode(buf, buf + 9, rows[i].v), rows[i].len);
		cr_assert(!memcmp(buf, rows[i].bytes, rows[i].len), "row %u", i);
	}
}

Test(varint, random)
{
	u64 seed = trand_seed(1), state = seed;

	for (unsigned i = 0; i < 200000; i++)
		check_one(trand_log_u64(&state), seed);
}

/* Any bytes at all: decode stays inside and, when it takes them, is stable. */
Test(varint, garbage)
{
	u64 seed = trand_seed(2), state = seed, v, again;
	u8 in[12], out[9];

	for (unsigned i = 0; i < 200000; i++) {
		unsigned len = trand_below(&state, sizeof(in) + 1), n, m;

		for (unsigned j = 0; j < sizeof(in); j++)
			in[j] = trand_u64(&state) >> 17;
		n = varint_decode(in, in + len, &v);
		cr_assert_leq(n, len);
		if (!n)
			continue;
		m = varint_encode(out, out + 9, v);
		cr_assert(m && m <= n);
		cr_assert_eq(varint_decode(out, out + m, &again), m);
		cr_assert_eq(again, v);
	}
}
