/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long something takes: count, sum, least, most, and a histogram for
 * quantiles, of durations in nanoseconds. The caller reads the clock (env).
 *
 * The histogram has 8 buckets for each power of two, so a quantile is at most
 * 12.5 % above the true one, and exact below 16 ns.
 *
 * Locks: none. Updates are relaxed atomics from any number of threads; a
 * reader beside them sees each number at some recent moment, not all at one.
 * An all-zero struct is empty and ready.
 */
#ifndef BCFS_UTIL_TIME_STATS_H
#define BCFS_UTIL_TIME_STATS_H

#include "util/printbuf.h"
#include "util/types.h"

#define TIME_STATS_BUCKETS (62 * 8)

struct time_stats {
	u64 nr;
	u64 sum_ns;
	u64 max_ns;
	u64 inv_min_ns; /* ~least, so that zero means none yet */
	u64 buckets[TIME_STATS_BUCKETS];
};

void time_stats_add(struct time_stats *ts, u64 duration_ns);
/* Forgets everything; not beside updates. */
void time_stats_reset(struct time_stats *ts);

/*
 * The duration that at least `permille` of 1000 did not exceed (990: the 99th
 * percentile), never above the most seen; 0 when empty.
 */
u64 time_stats_quantile_ns(const struct time_stats *ts, unsigned permille);

/* "count 12 mean 3.4 us min 1.0 us p50 3.1 us p99 9.2 us max 9.9 us" */
void time_stats_to_text(struct printbuf *out, const struct time_stats *ts);
/* A duration with a unit: "12 ns", "3.4 us", "1.2 ms", "4.5 s". */
void prt_duration_ns(struct printbuf *out, u64 ns);

#endif
