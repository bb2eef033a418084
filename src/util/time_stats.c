// SPDX-License-Identifier: LGPL-2.1-or-later
#include "util/time_stats.h"

#include "util/bits.h"

#include <inttypes.h>
#include <string.h>

/* 0 .. 15 have buckets of their own; above, the three bits behind the leading one. */
static unsigned bucket_of(u64 ns)
{
	unsigned shift;

	if (ns < 16)
		return ns;
	shift = ilog2(ns) - 3;
	return shift * 8 + (ns >> shift);
}

/* The largest duration of a bucket. */
static u64 bucket_last_ns(unsigned b)
{
	unsigned shift;

	if (b < 16)
		return b;
	shift = b / 8 - 1;
	return ((u64)(b % 8 + 8) << shift) + low_bits_mask(shift);
}

static void atomic_raise(u64 *p, u64 v)
{
	u64 old = __atomic_load_n(p, __ATOMIC_RELAXED);

	while (old < v &&
	       !__atomic_compare_exchange_n(p, &old, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

void time_stats_add(struct time_stats *ts, u64 duration_ns)
{
	__atomic_add_fetch(&ts->nr, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&ts->sum_ns, duration_ns, __ATOMIC_RELAXED);
	__atomic_add_fetch(&ts->buckets[bucket_of(duration_ns)], 1, __ATOMIC_RELAXED);
	atomic_raise(&ts->max_ns, duration_ns);
	atomic_raise(&ts->inv_min_ns, ~duration_ns);
}

void time_stats_reset(struct time_stats *ts)
{
	memset(ts, 0, sizeof(*ts));
}

u64 time_stats_quantile_ns(const struct time_stats *ts, unsigned permille)
{
	u64 nr = 0, seen = 0, want, most = __atomic_load_n(&ts->max_ns, __ATOMIC_RELAXED);

	assert(permille <= 1000);
	for (unsigned b = 0; b < TIME_STATS_BUCKETS; b++)
		nr += __atomic_load_n(&ts->buckets[b], __ATOMIC_RELAXED);
	if (!nr)
		return 0;

	want = max_t(u64, DIV_ROUND_UP(nr * permille, 1000), 1);
	for (unsigned b = 0; b < TIME_STATS_BUCKETS; b++) {
		seen += __atomic_load_n(&ts->buckets[b], __ATOMIC_RELAXED);
		if (seen >= want)
			return min(bucket_last_ns(b), most);
	}
	return most;
}

void prt_duration_ns(struct printbuf *out, u64 ns)
{
	static const struct {
		u64 ns;
		const char *name;
	} units[] = {{1000000000, "s"}, {1000000, "ms"}, {1000, "us"}};

	for (unsigned i = 0; i < ARRAY_SIZE(units); i++)
		if (ns >= units[i].ns) {
			prt_printf(out, "%" PRIu64 ".%" PRIu64 " %s", ns / units[i].ns,
				   ns % units[i].ns / (units[i].ns / 10), units[i].name);
			return;
		}
	prt_printf(out, "%" PRIu64 " ns", ns);
}

static void prt_field(struct printbuf *out, const char *name, u64 ns)
{
	prt_printf(out, " %s ", name);
	prt_duration_ns(out, ns);
}

void time_stats_to_text(struct printbuf *out, const struct time_stats *ts)
{
	u64 nr = __atomic_load_n(&ts->nr, __ATOMIC_RELAXED);

	prt_printf(out, "count %" PRIu64, nr);
	if (!nr)
		return;
	prt_field(out, "mean", __atomic_load_n(&ts->sum_ns, __ATOMIC_RELAXED) / nr);
	prt_field(out, "min", ~__atomic_load_n(&ts->inv_min_ns, __ATOMIC_RELAXED));
	prt_field(out, "p50", time_stats_quantile_ns(ts, 500));
	prt_field(out, "p99", time_stats_quantile_ns(ts, 990));
	prt_field(out, "max", __atomic_load_n(&ts->max_ns, __ATOMIC_RELAXED));
}
