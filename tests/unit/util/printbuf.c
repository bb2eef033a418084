// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: the text buffer prints what its header says, at every length.
 * Method: one case per function, long texts across growth, tables.
 */
#include "util/cleanup.h"
#include "util/printbuf.h"

#include <criterion/criterion.h>
#include <string.h>

#define CHECK_STR(buf, want) cr_assert_str_eq(printbuf_str(&(buf)), want)

Test(printbuf, empty)
{
	struct printbuf buf = PRINTBUF;

	CHECK_STR(buf, "");
	printbuf_exit(&buf);
	printbuf_exit(&buf);
	printbuf_exit(NULL);
}

Test(printbuf, growth)
{
	CLEANUP(printbuf_exit) struct printbuf buf = PRINTBUF;
	char want[5000];

	for (unsigned i = 0; i < sizeof(want) - 1; i++) {
		want[i] = 'a' + i % 26;
		prt_char(&buf, want[i]);
		cr_assert_lt(buf.pos, buf.size);
	}
	want[sizeof(want) - 1] = '\0';
	CHECK_STR(buf, want);

	printbuf_reset(&buf);
	CHECK_STR(buf, "");
	prt_printf(&buf, "%s|%d", want, 7);
	cr_assert_eq(buf.pos, sizeof(want) - 1 + 2);
	cr_assert_str_eq(printbuf_str(&buf) + sizeof(want) - 1, "|7");
}

Test(printbuf, printf_lengths)
{
	char text[400] = "";

	for (unsigned len = 0; len < sizeof(text) - 1; len++) {
		CLEANUP(printbuf_exit) struct printbuf buf = PRINTBUF;

		prt_printf(&buf, "%s", text);
		CHECK_STR(buf, text);
		text[len] = 'x';
	}
}

Test(printbuf, indent)
{
	CLEANUP(printbuf_exit) struct printbuf buf = PRINTBUF;

	prt_str(&buf, "one:\n");
	prt_indent_add(&buf, 2);
	prt_printf(&buf, "two %d\nthree\n\n", 2);
	prt_indent_sub(&buf, 2);
	prt_str(&buf, "four");
	CHECK_STR(buf, "one:\n  two 2\n  three\n\nfour");
}

Test(printbuf, human)
{
	static const struct {
		u64 v;
		const char *want;
	} rows[] = {
		{0, "0 B"},
		{1023, "1023 B"},
		{1024, "1 KiB"},
		{1536, "1.5 KiB"},
		{1 << 20, "1 MiB"},
		{(1 << 20) - 1, "1023.9 KiB"},
		{3ULL << 29, "1.5 GiB"},
		{1ULL << 50, "1 PiB"},
		{~0ULL, "15.9 EiB"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEANUP(printbuf_exit) struct printbuf buf = PRINTBUF;

		prt_human_u64(&buf, rows[i].v);
		CHECK_STR(buf, rows[i].want);
	}
}

Test(printbuf, numbers_and_bytes)
{
	CLEANUP(printbuf_exit) struct printbuf buf = PRINTBUF;

	prt_u64(&buf, ~0ULL);
	prt_char(&buf, ' ');
	prt_s64(&buf, INT64_MIN);
	prt_char(&buf, ' ');
	prt_hex(&buf, "\x00\x7f\xff", 3);
	prt_char(&buf, ' ');
	prt_escaped(&buf, "a\"b\\\n", 5);
	CHECK_STR(buf, "18446744073709551615 -9223372036854775808 007fff a\\\"b\\\\\\012");
}

/* Nothing that a terminal would act on comes through; letters do. */
Test(printbuf, escaped_text_is_fit_for_a_terminal)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\xa7",
		 "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\xa7"},
		{"\x1b[31m\x7f\t", "\\033[31m\\177\\011"},
		{"\xc2\x9b"
		 "1m",
		 "\\302\\2331m"}, /* CSI, a C1 control */
		{"\x9b"
		 "1m",
		 "\\2331m"},		      /* the same in one byte */
		{"\xc3", "\\303"},	      /* cut off */
		{"\xc3(\xff", "\\303(\\377"}, /* no second byte; never valid */
		{"\xc0\x9b\xe0\x82\x9b", "\\300\\233\\340\\202\\233"}, /* overlong */
		{"\xed\xa0\x80", "\\355\\240\\200"},		       /* a surrogate */
		{"\xf4\x90\x80\x80", "\\364\\220\\200\\200"},	       /* beyond U+10FFFF */
	};
	CLEANUP(printbuf_exit) struct printbuf buf = PRINTBUF;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		printbuf_reset(&buf);
		prt_escaped(&buf, rows[i].text, strlen(rows[i].text));
		CHECK_STR(buf, rows[i].want);
	}
	/* What would complete the character lies behind the end. */
	printbuf_reset(&buf);
	prt_escaped(&buf, "\xc3\xa9", 1);
	CHECK_STR(buf, "\\303");
}

Test(printbuf, bitflags)
{
	static const char *const names[] = {"a", NULL, "c"};
	CLEANUP(printbuf_exit) struct printbuf buf = PRINTBUF;

	prt_bitflags(&buf, names, 3, 0x8000000000000007ULL);
	CHECK_STR(buf, "a,bit 1,c,bit 63");
}

Test(printbuf, table)
{
	CLEANUP(printbuf_exit) struct printbuf buf = PRINTBUF;

	prt_tabstop_push(&buf, 8);
	prt_tabstop_push(&buf, 14);
	prt_indent_add(&buf, 1);
	for (unsigned i = 1; i <= 1000; i *= 100) {
		prt_printf(&buf, "row%u", i);
		prt_tab(&buf);
		prt_u64(&buf, i * 10);
		prt_tab_rjust(&buf);
		prt_str(&buf, "!\n");
	}
	prt_str(&buf, "much too long");
	prt_tab(&buf);
	prt_str(&buf, "x\n");
	CHECK_STR(buf, " row1        10!\n row100    1000!\n much too long x\n");
}

Test(printbuf, take)
{
	struct printbuf buf = PRINTBUF;
	char *text;

	text = printbuf_take(&buf);
	cr_assert_str_eq(text, "");
	free(text);

	prt_str(&buf, "kept");
	text = printbuf_take(&buf);
	cr_assert_str_eq(text, "kept");
	cr_assert_null(buf.buf);
	free(text);
}

Test(printbuf, oom_is_sticky)
{
	CLEANUP(printbuf_exit) struct printbuf buf = PRINTBUF;

	prt_str(&buf, "before");
	buf.oom = true;
	prt_str(&buf, "after");
	prt_printf(&buf, "%d", 1);
	CHECK_STR(buf, "before");
	cr_assert_null(printbuf_take(&buf));
}
