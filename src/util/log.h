/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Log lines. A struct log is a sink: a callback that gets one finished line
 * (no newline) at a time, and the least important level it wants. Each
 * filesystem has its own; a NULL sink (or one with a NULL callback) writes
 * "bcfs: line" to stderr at level info and above.
 *
 * The rate limiter counts lines per window and reports how many it swallowed.
 * It calls no clock: the sink carries one (now_ns, from env), and without it a
 * limiter passes its first `burst` lines and then every power-of-two-th one.
 * A struct ratelimit belongs to one source of messages (a device, a btree) and
 * lives in that object, never in a static variable.
 *
 * Locks: none; fn must cope with several threads. A limiter may be used by
 * several threads at once (its counters are atomic; windows are approximate).
 */
#ifndef BCFS_UTIL_LOG_H
#define BCFS_UTIL_LOG_H

#include "util/types.h"

#include <stdarg.h>

enum log_level {
	LOG_LEVEL_ERR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

struct log {
	void (*fn)(void *arg, enum log_level level, const char *line);
	void *arg;
	enum log_level max;	      /* lines above this level are dropped */
	u64 (*now_ns)(void *now_arg); /* monotonic clock for rate limits; may be NULL */
	void *now_arg;
};

/* At most `burst` lines in each window of `interval_ns`. */
struct ratelimit {
	u64 interval_ns;
	u32 burst;
	u64 window_start_ns;
	u32 nr_printed; /* in this window */
	u32 nr_missed;	/* since the last printed line */
};

#define RATELIMIT_DEFAULT                                                                          \
	(struct ratelimit)                                                                         \
	{                                                                                          \
		.interval_ns = 5000000000ULL, .burst = 10                                          \
	}

/* "error", "warning", "info", "debug" */
const char *log_level_str(enum log_level level);

void log_print(const struct log *log, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void log_vprint(const struct log *log, enum log_level level, const char *fmt, va_list args)
	__attribute__((format(printf, 3, 0)));
/* As log_print, when rl allows; a line that follows dropped ones says how many they were. */
void log_ratelimited(const struct log *log, struct ratelimit *rl, enum log_level level,
		     const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* What that asks first, where the line takes some work: true: log_print() is to follow. */
bool log_passes(const struct log *log, struct ratelimit *rl, enum log_level level);
/*
 * Whether a line may pass now; *ret_missed gets the lines swallowed before it.
 * have_clock false: now_ns is ignored, see above.
 */
bool ratelimit_ok(struct ratelimit *rl, bool have_clock, u64 now_ns, u32 *ret_missed);

#define log_err(log, ...)		   log_print(log, LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(log, ...)		   log_print(log, LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(log, ...)		   log_print(log, LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(log, ...)		   log_print(log, LOG_LEVEL_DEBUG, __VA_ARGS__)

#define log_err_ratelimited(log, rl, ...)  log_ratelimited(log, rl, LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn_ratelimited(log, rl, ...) log_ratelimited(log, rl, LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info_ratelimited(log, rl, ...) log_ratelimited(log, rl, LOG_LEVEL_INFO, __VA_ARGS__)

#endif
