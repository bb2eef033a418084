/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What all benchmarks share: clocks, random numbers, and how results are told.
 *
 * A row compares a value with a peer's, or stands alone. With a goal it says whether the
 * goal holds; the program's exit status is whether all do. Rows go to stdout as a
 * table for people, or as one JSON object a line:
 * {"bench","row","value","unit","peer","peer_value","ratio","goal","ok"}.
 */
#ifndef BCFS_BENCH_UTIL_H
#define BCFS_BENCH_UTIL_H

#include "util/types.h"

struct bench_out {
	const char *bench;
	bool json;
	bool missed; /* a goal */
};

struct bench_row {
	const char *group; /* of rows that belong together; may be NULL */
	const char *row;
	double value;
	const char *unit;
	const char *peer; /* NULL: none */
	double peer_value;
	double goal;  /* of the ratio to the peer, or without one of the value; 0: none */
	bool at_most; /* the goal is a limit from above */
};

void bench_print(struct bench_out *out, const struct bench_row *r);
/* A remark between rows, only for people. */
void bench_note(const struct bench_out *out, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static inline int bench_exit_status(const struct bench_out *out)
{
	return out->missed ? 1 : 0;
}

/* Message and exit status 2. */
void bench_die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

u64 bench_random(u64 *state);
double bench_now_ns(void);
/* Processor time of this thread: what else the machine does does not count. */
double bench_thread_ns(void);
/* Processor time of the whole process, all threads. */
double bench_cpu_ns(void);

#endif
