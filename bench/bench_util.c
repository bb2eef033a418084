/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench_util.h"

#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void print_json(const char *bench, const struct bench_row *r, double ratio, bool ok)
{
	struct json_object *o = json_object_new_object();
	char name[256];

	snprintf(name, sizeof(name), r->group ? "%s, %s" : "%s", r->row, r->group);
	json_object_object_add(o, "bench", json_object_new_string(bench));
	json_object_object_add(o, "row", json_object_new_string(name));
	json_object_object_add(o, "value", json_object_new_double(r->value));
	json_object_object_add(o, "unit", json_object_new_string(r->unit));
	json_object_object_add(o, "peer", r->peer ? json_object_new_string(r->peer) : NULL);
	json_object_object_add(o, "peer_value",
			       r->peer ? json_object_new_double(r->peer_value) : NULL);
	json_object_object_add(o, "ratio", r->peer ? json_object_new_double(ratio) : NULL);
	json_object_object_add(o, "goal", r->goal ? json_object_new_double(r->goal) : NULL);
	json_object_object_add(o, "ok", json_object_new_boolean(ok));
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

void bench_print(struct bench_out *out, const struct bench_row *r)
{
	double ratio = r->peer && r->peer_value ? r->value / r->peer_value : 0;
	double measured = r->peer ? ratio : r->value;
	bool ok = !r->goal || (r->at_most ? measured <= r->goal : measured >= r->goal);

	out->missed |= !ok;
	if (out->json) {
		print_json(out->bench, r, ratio, ok);
	} else {
		if (r->group)
			printf("%-10s ", r->group);
		printf("%-36s %12.5g %-9s", r->row, r->value, r->unit);
		if (r->peer)
			printf(" %7.2fx of %s (%.5g)", ratio, r->peer, r->peer_value);
		if (r->goal)
			printf("  goal %s %g%s: %s", r->at_most ? "<=" : ">=", r->goal,
			       r->peer ? "x" : "", ok ? "ok" : "MISSED");
		printf("\n");
	}
	fflush(stdout);
}

void bench_note(const struct bench_out *out, const char *fmt, ...)
{
	va_list args;

	if (out->json)
		return;
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

void bench_die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(2);
}

u64 bench_random(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static double clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

double bench_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

double bench_thread_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

double bench_cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}
