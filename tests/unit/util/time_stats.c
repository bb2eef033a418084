// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: counts and extremes are exact, quantiles within the promised 12.5 %.
 * Method: random durations of every magnitude against a sorted array; edges.
 */
#include "../test_rand.h"
#include "util/cleanup.h"
#include "util/time_stats.h"

#include <criterion/criterion.h>

#define NR 20000

static int cmp_u64(const void *l, const void *r)
{
	return cmp_int(*(const u64 *)l, *(const u64 *)r);
}

Test(time_stats, against_sorted)
{
	static struct time_stats ts;
	static u64 model[NR];
	u64 seed = trand_seed(6), state = seed, sum = 0;

	for (unsigned i = 0; i < NR; i++) {
		model[i] = trand_log_u64(&state);
		sum += model[i];
		time_stats_add(&ts, model[i]);
	}
	qsort(model, NR, sizeof(*model), cmp_u64);

	cr_assert_eq(ts.nr, NR);
	cr_assert_eq(ts.sum_ns, sum);
	cr_assert_eq(ts.max_ns, model[NR - 1]);
	cr_assert_eq(~ts.inv_min_ns, model[0]);
	for (unsigned p = 0; p <= 1000; p++) {
		u64 want = model[max_t(u64, DIV_ROUND_UP((u64)NR * p, 1000), 1) - 1];
		u64 got = time_stats_quantile_ns(&ts, p);

		cr_assert(got >= want && got - want <= want / 8,
			  "p%u: %llu for %llu, " TEST_SEED_FMT, p, (unsigned long long)got,
			  (unsigned long long)want, (unsigned long long)seed);
	}
	time_stats_reset(&ts);
	cr_assert_eq(time_stats_quantile_ns(&ts, 500), 0);
}

Test(time_stats, edges)
{
	static const u64 edges[] = {0, 1, 15, 16, 17, 31, 32, ~0ULL >> 1, ~0ULL};

	for (unsigned i = 0; i < ARRAY_SIZE(edges); i++) {
		static struct time_stats ts;

		time_stats_reset(&ts);
		time_stats_add(&ts, edges[i]);
		for (unsigned p = 0; p <= 1000; p += 500)
			cr_assert_eq(time_stats_quantile_ns(&ts, p), edges[i]);
	}
}

Test(time_stats, text)
{
	CLEANUP(printbuf_exit) struct printbuf out = PRINTBUF;
	static struct time_stats ts;

	time_stats_to_text(&out, &ts);
	cr_assert_str_eq(printbuf_str(&out), "count 0");

	printbuf_reset(&out);
	time_stats_add(&ts, 7);
	time_stats_add(&ts, 2500000007);
	time_stats_to_text(&out, &ts);
	cr_assert_str_eq(printbuf_str(&out),
			 "count 2 mean 1.2 s min 7 ns p50 7 ns p99 2.5 s max 2.5 s");

	printbuf_reset(&out);
	prt_duration_ns(&out, 1000);
	prt_duration_ns(&out, 999999);
	prt_duration_ns(&out, 1000000);
	cr_assert_str_eq(printbuf_str(&out), "1.0 us999.9 us1.0 ms");
}
