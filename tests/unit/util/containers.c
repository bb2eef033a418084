// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: arrays, rings, bitmaps and the bit functions do what their headers
 * say; the log and its rate limiter pass and drop the right lines.
 * Method: small cases, and random operations against plain arrays.
 */
#include "../test_rand.h"
#include "util/bits.h"
#include "util/cleanup.h"
#include "util/darray.h"
#include "util/fifo.h"
#include "util/log.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(darray, against_model)
{
	CLEANUP(darray_exit_p) darray_u64 d = {0};
	u64 seed = trand_seed(3), state = seed, model[2000];
	size_t nr = 0;

	for (unsigned step = 0; step < 20000; step++) {
		u64 op = trand_below(&state, 5), v = trand_u64(&state);
		size_t at = trand_below(&state, nr + 1);

		if (op < 2 && nr < ARRAY_SIZE(model)) {
			cr_assert_eq(darray_push(&d, v), 0);
			model[nr++] = v;
		} else if (op == 2 && nr < ARRAY_SIZE(model)) {
			cr_assert_eq(darray_insert(&d, at, v), 0);
			memmove(model + at + 1, model + at, (nr++ - at) * sizeof(v));
			model[at] = v;
		} else if (op == 3 && at < nr) {
			darray_remove(&d, at);
			memmove(model + at, model + at + 1, (--nr - at) * sizeof(v));
		} else if (op == 4 && nr) {
			cr_assert_eq(darray_last(&d), model[nr - 1]);
			cr_assert_eq(darray_pop(&d), model[--nr]);
		}
		cr_assert_eq(d.nr, nr, TEST_SEED_FMT, (unsigned long long)seed);
		cr_assert(!nr || !memcmp(d.data, model, nr * sizeof(*model)), TEST_SEED_FMT,
			  (unsigned long long)seed);
	}
}

Test(darray, refuses_overflow)
{
	CLEANUP(darray_exit_p) darray_u64 d = {0};

	cr_assert_eq(darray_push(&d, 1), 0);
	cr_assert_eq(darray_make_room(&d, SIZE_MAX), -BCFS_ERR_nomem);
	cr_assert_eq(darray_make_room(&d, SIZE_MAX / 4), -BCFS_ERR_nomem);
	cr_assert_eq(d.nr, 1);
	cr_assert_eq(d.data[0], 1);
	darray_exit(&d);
	cr_assert(!d.data && !d.nr && !d.size);
}

Test(fifo, against_counters)
{
	FIFO(u64) f;
	u64 seed = trand_seed(4), state = seed, in = 0, out = 0, v, idx, *p;

	cr_assert_eq(fifo_init(&f, 13), 0);
	cr_assert_eq(fifo_capacity(&f), 16);
	for (unsigned step = 0; step < 10000; step++) {
		if (trand_below(&state, 2)) {
			cr_assert_eq(fifo_push(&f, in), in - out < 16);
			in += in - out < 16;
		} else {
			cr_assert_eq(fifo_pop(&f, v), in != out);
			if (in != out)
				cr_assert_eq(v, out++);
		}
		cr_assert_eq(fifo_used(&f), in - out);
		cr_assert_eq(fifo_free(&f), 16 - (in - out));
		cr_assert_eq(fifo_full(&f), in - out == 16);
		v = out;
		fifo_for_each (&f, p, idx) {
			cr_assert_eq(*p, v++);
			cr_assert_eq(fifo_idx(&f, p), idx);
		}
		cr_assert_eq(v, in);
		if (in != out) {
			cr_assert_eq(fifo_peek_front(&f), out);
			cr_assert_eq(fifo_peek_back(&f), in - 1);
		}
	}
	fifo_exit(&f);
}

Test(bits, functions)
{
	cr_assert_eq(fls64(0), 0);
	cr_assert_eq(ffs64(0), 0);
	cr_assert_eq(fls32(0), 0);
	for (unsigned b = 0; b < 64; b++) {
		u64 v = 1ULL << b;

		cr_assert_eq(fls64(v), b + 1);
		cr_assert_eq(ffs64(v), b + 1);
		cr_assert_eq(ilog2(v), b);
		cr_assert_eq(ilog2(v | (v - 1)), b);
		cr_assert_eq(roundup_pow_of_two(v), v);
		cr_assert_eq(rounddown_pow_of_two(v | (v >> 1)), v);
		if (b > 1)
			cr_assert_eq(roundup_pow_of_two(v - 1), v);
		cr_assert_eq(low_bits_mask(b), v - 1);
	}
	cr_assert_eq(low_bits_mask(64), ~0ULL);
}

Test(bits, bitmap_against_bools)
{
	u64 seed = trand_seed(5), state = seed;

	for (unsigned nr = 1; nr < 300; nr++) {
		u64 map[BITMAP_WORDS(300)] = {0};
		bool model[300] = {0};
		size_t weight = 0, set = nr, zero = nr;

		map[nr / 64] |= ~low_bits_mask(nr % 64); /* beyond the end: to be ignored */
		for (unsigned i = 0; i < nr; i++) {
			size_t b = trand_below(&state, nr);

			model[b] = !model[b];
			if (model[b])
				bitmap_set(map, b);
			else
				bitmap_clear(map, b);
		}
		for (unsigned i = nr; i--;) {
			weight += model[i];
			if (model[i])
				set = i;
			else
				zero = i;
			cr_assert_eq(bitmap_test(map, i), model[i]);
			cr_assert_eq(bitmap_find_next_set(map, nr, i), set, "%u of %u", i, nr);
			cr_assert_eq(bitmap_find_next_zero(map, nr, i), zero, "%u of %u", i, nr);
		}
		cr_assert_eq(bitmap_find_next_set(map, nr, nr), nr);
		cr_assert_eq(bitmap_weight(map, nr), weight);
		bitmap_for_each_set (map, nr, bit) {
			cr_assert(model[bit]);
			weight--;
		}
		cr_assert_eq(weight, 0);
		set = bitmap_test(map, nr - 1);
		cr_assert_eq(bitmap_test_and_set_atomic(map, nr - 1), set);
		cr_assert(bitmap_test(map, nr - 1));
	}
}

struct sink {
	unsigned nr;
	u64 now_ns;
	char last[256];
};

static void sink_line(void *arg, enum log_level level, const char *line)
{
	struct sink *s = arg;

	s->nr++;
	snprintf(s->last, sizeof(s->last), "%s: %s", log_level_str(level), line);
}

static u64 sink_now(void *arg)
{
	return ((struct sink *)arg)->now_ns;
}

Test(log, levels)
{
	struct sink s = {0};
	struct log log = {.fn = sink_line, .arg = &s, .max = LOG_LEVEL_WARN};

	log_err(&log, "bad %d", 1);
	cr_assert_str_eq(s.last, "error: bad 1");
	log_warn(&log, "%s", "careful");
	cr_assert_str_eq(s.last, "warning: careful");
	log_info(&log, "chatter");
	log_debug(&log, "chatter");
	cr_assert_eq(s.nr, 2);
}

Test(log, rate_limit_with_clock)
{
	struct sink s = {0};
	struct log log = {.fn = sink_line,
			  .arg = &s,
			  .max = LOG_LEVEL_DEBUG,
			  .now_ns = sink_now,
			  .now_arg = &s};
	struct ratelimit rl = {.interval_ns = 1000, .burst = 3};

	for (unsigned i = 0; i < 100; i++)
		log_err_ratelimited(&log, &rl, "line %u", i);
	cr_assert_eq(s.nr, 3);
	cr_assert_str_eq(s.last, "error: line 2");

	s.now_ns = 1000;
	log_err_ratelimited(&log, &rl, "later");
	cr_assert_eq(s.nr, 5, "the line and the count of dropped ones");
	cr_assert_str_eq(s.last, "error: later");
	cr_assert_eq(rl.nr_missed, 0);
}

Test(log, rate_limit_without_clock)
{
	struct ratelimit rl = {.burst = 3};
	unsigned passed = 0, missed = 0, m;

	for (unsigned i = 1; i <= 1024; i++)
		if (ratelimit_ok(&rl, false, 0, &m)) {
			passed++;
			missed += m;
		}
	cr_assert_eq(passed, 3 + 9, "1 2 3, then 4 8 .. 1024: %u", passed);
	cr_assert_eq(missed, 1024 - passed);
}
