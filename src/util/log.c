// SPDX-License-Identifier: LGPL-2.1-or-later
#include "util/log.h"

#include "util/bits.h"
#include "util/cleanup.h"
#include "util/printbuf.h"

#include <stdio.h>

const char *log_level_str(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERR:
		return "error";
	case LOG_LEVEL_WARN:
		return "warning";
	case LOG_LEVEL_INFO:
		return "info";
	case LOG_LEVEL_DEBUG:
		return "debug";
	}
	return "unknown";
}

static bool log_wanted(const struct log *log, enum log_level level)
{
	return level <= (log && log->fn ? log->max : LOG_LEVEL_INFO);
}

static void log_emit(const struct log *log, enum log_level level, const char *line)
{
	if (log && log->fn)
		log->fn(log->arg, level, line);
	else
		fprintf(stderr, "bcfs: %s\n", line);
}

void log_vprint(const struct log *log, enum log_level level, const char *fmt, va_list args)
{
	CLEANUP(printbuf_exit) struct printbuf buf = PRINTBUF;

	if (!log_wanted(log, level))
		return;

	prt_vprintf(&buf, fmt, args);
	/* Out of memory: the format alone still tells where it came from. */
	log_emit(log, level, buf.oom ? fmt : printbuf_str(&buf));
}

void log_print(const struct log *log, enum log_level level, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_vprint(log, level, fmt, args);
	va_end(args);
}

bool ratelimit_ok(struct ratelimit *rl, bool have_clock, u64 now_ns, u32 *ret_missed)
{
	u32 nr;

	if (have_clock) {
		u64 start = __atomic_load_n(&rl->window_start_ns, __ATOMIC_RELAXED);

		if (now_ns - start >= rl->interval_ns &&
		    __atomic_compare_exchange_n(&rl->window_start_ns, &start, now_ns, false,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED))
			__atomic_store_n(&rl->nr_printed, 0, __ATOMIC_RELAXED);
	}

	nr = __atomic_add_fetch(&rl->nr_printed, 1, __ATOMIC_RELAXED);
	if (nr > rl->burst && (have_clock || !is_power_of_2(nr))) {
		__atomic_add_fetch(&rl->nr_missed, 1, __ATOMIC_RELAXED);
		return false;
	}
	*ret_missed = __atomic_exchange_n(&rl->nr_missed, 0, __ATOMIC_RELAXED);
	return true;
}

bool log_passes(const struct log *log, struct ratelimit *rl, enum log_level level)
{
	bool have_clock = log && log->now_ns;
	u32 missed;

	if (!log_wanted(log, level) ||
	    !ratelimit_ok(rl, have_clock, have_clock ? log->now_ns(log->now_arg) : 0, &missed))
		return false;
	if (missed)
		log_print(log, level, "%u more messages like the next were dropped", missed);
	return true;
}

void log_ratelimited(const struct log *log, struct ratelimit *rl, enum log_level level,
		     const char *fmt, ...)
{
	va_list args;

	if (!log_passes(log, rl, level))
		return;
	va_start(args, fmt);
	log_vprint(log, level, fmt, args);
	va_end(args);
}
