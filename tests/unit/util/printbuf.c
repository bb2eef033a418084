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
