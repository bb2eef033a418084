// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: options are taken exactly as their table says, and what is refused is
 * refused by name.
 * Method: a toy table with every type, good and bad strings, a round trip
 * through opts_to_text.
 */
#include "../test_rand.h"
#include "util/cleanup.h"
#include "util/errcode.h"
#include "util/opts.h"

#include <criterion/criterion.h>
#include <string.h>

struct toy {
	bool ro, noisy;
	u64 nr, cache;
	unsigned io;
	char *label;
};

static const char *const io_choices[] = {"uring", "threads", NULL};

static const struct opt_desc rows[] = {
	{"ro", OPT_BOOL, offsetof(struct toy, ro), .help = "read-only"},
	{"noisy", OPT_BOOL, offsetof(struct toy, noisy), .help = "a name that begins with no"},
	{"nr", OPT_UINT, offsetof(struct toy, nr), .min = 2, .max = 64, .help = "a number"},
	{"cache", OPT_SIZE, offsetof(struct toy, cache), .min = 4096, .max = 1ULL << 40,
	 .pow2 = true, .help = "a size"},
	{"io", OPT_ENUM, offsetof(struct toy, io), .choices = io_choices, .help = "an engine"},
	{"label", OPT_STR, offsetof(struct toy, label), .max = 8, .help = "a text"},
};

#define PARSE(t, s, err) opts_parse(rows, ARRAY_SIZE(rows), t, s, err)

Test(opts, good)
{
	struct toy t = {0};

	cr_assert_eq(PARSE(&t, "ro,nr=0x10,cache=1M,io=threads,label=a=b,noisy", NULL), 0);
	cr_assert(t.ro && t.noisy);
	cr_assert_eq(t.nr, 16);
	cr_assert_eq(t.cache, 1 << 20);
	cr_assert_eq(t.io, 1);
	cr_assert_str_eq(t.label, "a=b");

	cr_assert_eq(PARSE(&t, "noro,nonoisy,,label=c,", NULL), 0);
	cr_assert(!t.ro && !t.noisy);
	cr_assert_str_eq(t.label, "c");
	cr_assert_eq(PARSE(&t, "", NULL), 0);
	cr_assert_eq(PARSE(&t, "ro=on,noisy=yes", NULL), 0);
	cr_assert(t.ro && t.noisy);
	opts_exit(rows, ARRAY_SIZE(rows), &t);
	cr_assert_null(t.label);
}

Test(opts, bad)
{
	static const struct {
		const char *in, *named;
	} bad[] = {
		{"bogus", "\"bogus\""},
		{"bogus=1", "\"bogus\""},
		{"r", "\"r\""},
		{"rox", "\"rox\""},
		{"nonr", "\"nonr\""},
		{"noro=1", "\"noro\""},
		{"=1", "\"\""},
		{"ro,nosuch", "\"nosuch\""},
		{"ro=maybe", "ro"},
		{"nr", "nr needs a value"},
		{"nr=", "nr"},
		{"nr=1", "least is 2"},
		{"nr=65", "most is 64"},
		{"nr=-3", "nr"},
		{"nr=3x", "nr"},
		{"nr=18446744073709551616", "nr"},
		{"nr=0x", "nr"},
		{"cache=1", "least is 4 KiB"},
		{"cache=2T", "most is 1 TiB"},
		{"cache=5000", "power of two"},
		{"cache=1MM", "cache"},
		{"io=aio", "uring, threads"},
		{"io", "io needs a value"},
		{"label=123456789", "too long"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP(printbuf_exit) struct printbuf err = PRINTBUF;
		struct toy t = {0};

		cr_assert_eq(PARSE(&t, bad[i].in, &err), -BCFS_ERR_invalid_option, "%s", bad[i].in);
		cr_assert(strstr(printbuf_str(&err), bad[i].named), "%s: \"%s\"", bad[i].in,
			  printbuf_str(&err));
		cr_assert(!strchr(printbuf_str(&err), '\n'));
		cr_assert_eq(PARSE(&t, bad[i].in, NULL), -BCFS_ERR_invalid_option);
		opts_exit(rows, ARRAY_SIZE(rows), &t);
	}
}

Test(opts, round_trip)
{
	CLEANUP(printbuf_exit) struct printbuf text = PRINTBUF, again = PRINTBUF;
	struct toy a = {0}, b = {0};

	cr_assert_eq(PARSE(&a, "ro,nr=7,cache=8k,io=threads,label=x", NULL), 0);
	opts_to_text(&text, rows, ARRAY_SIZE(rows), &a);
	cr_assert_str_eq(printbuf_str(&text), "ro=1,noisy=0,nr=7,cache=8192,io=threads,label=x");
	cr_assert_eq(PARSE(&b, printbuf_str(&text), NULL), 0);
	opts_to_text(&again, rows, ARRAY_SIZE(rows), &b);
	cr_assert_str_eq(printbuf_str(&text), printbuf_str(&again));
	opts_exit(rows, ARRAY_SIZE(rows), &a);
	opts_exit(rows, ARRAY_SIZE(rows), &b);
}

Test(opts, help)
{
	CLEANUP(printbuf_exit) struct printbuf out = PRINTBUF;

	opts_help(&out, rows, ARRAY_SIZE(rows));
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		cr_assert(strstr(printbuf_str(&out), rows[i].name));
		cr_assert(strstr(printbuf_str(&out), rows[i].help));
	}
	cr_assert(strstr(printbuf_str(&out), "io=uring|threads"));
	cr_assert(strstr(printbuf_str(&out), "(4 KiB to 1 TiB)"));
}

Test(opts, sizes)
{
	static const struct {
		const char *in;
		u64 want;
	} good[] = {
		{"0", 0},
		{"512", 512},
		{"512B", 512},
		{"4k", 4096},
		{"4K", 4096},
		{"4KB", 4096},
		{"4KiB", 4096},
		{"1.5M", 3 << 19},
		{"0.25k", 256},
		{"64G", 64ULL << 30},
		{"2TiB", 2ULL << 40},
		{"1P", 1ULL << 50},
		{"15E", 15ULL << 60},
		{"18446744073709551615", ~0ULL},
	};
	static const char *const bad[] = {"",
					  "k",
					  "-1",
					  "1.5",
					  "1.",
					  ".5k",
					  "4 k",
					  "4kk",
					  "4ki",
					  "0x4",
					  "16E",
					  "1e3",
					  "4X",
					  "4Bk",
					  "+4",
					  " 4",
					  "4 ",
					  "1.0.0k",
					  "18446744073709551616"};
	u64 v;

	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		cr_assert_eq(parse_size(good[i].in, &v), 0, "%s", good[i].in);
		cr_assert_eq(v, good[i].want, "%s", good[i].in);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		cr_assert_eq(parse_size(bad[i], &v), -BCFS_ERR_invalid_option, "\"%s\"", bad[i]);
}

/* Random strings of the table's own pieces: taken or refused with one line, never anything else. */
Test(opts, garbage)
{
	static const char *const parts[] = {"ro",    "no", "noisy", "nr",    "cache", "io",
					    "label", "=",  ",",	    "uring", "4k",    "0x",
					    "9",     ".",  "-",	    "E"};
	u64 seed = trand_seed(7), state = seed;
	unsigned taken = 0;

	for (unsigned i = 0; i < 50000; i++) {
		CLEANUP(printbuf_exit) struct printbuf text = PRINTBUF, err = PRINTBUF;
		struct toy t = {.nr = 2, .cache = 4096};
		int ret;

		for (unsigned n = trand_below(&state, 8); n; n--)
			prt_str(&text, parts[trand_below(&state, ARRAY_SIZE(parts))]);
		ret = PARSE(&t, printbuf_str(&text), &err);
		cr_assert(ret == 0 || ret == -BCFS_ERR_invalid_option);
		cr_assert_eq(ret != 0, err.pos != 0, "\"%s\": \"%s\", " TEST_SEED_FMT,
			     printbuf_str(&text), printbuf_str(&err), (unsigned long long)seed);
		cr_assert(t.nr >= 2 && t.nr <= 64 && t.cache >= 4096 && t.io < 2);
		taken += !ret;
		opts_exit(rows, ARRAY_SIZE(rows), &t);
	}
	cr_assert_gt(taken, 1000);
}
