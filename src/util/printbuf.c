// SPDX-License-Identifier: LGPL-2.1-or-later
#include "util/printbuf.h"

#include "util/bits.h"
#include "util/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void printbuf_exit(struct printbuf *out)
{
	if (!out)
		return;
	free(out->buf);
	*out = PRINTBUF;
}

void printbuf_reset(struct printbuf *out)
{
	char *buf = out->buf;
	size_t size = out->size;

	*out = PRINTBUF;
	out->buf = buf;
	out->size = size;
	if (buf)
		buf[0] = '\0';
}

const char *printbuf_str(const struct printbuf *out)
{
	return out->buf ?: "";
}

char *printbuf_take(struct printbuf *out)
{
	char *ret = NULL;

	if (!out->oom)
		ret = out->buf ?: calloc(1, 1);
	if (ret != out->buf)
		free(out->buf);
	*out = PRINTBUF;
	return ret;
}

/* Room for `more` bytes and the NUL. */
static bool make_room(struct printbuf *out, size_t more)
{
	size_t size;
	char *buf;

	if (out->oom)
		return false;
	if (likely(more < out->size - out->pos))
		return true;

	size = more < SIZE_MAX / 4 ? roundup_pow_of_two(max_t(size_t, out->pos + more + 1, 64)) : 0;
	buf = size ? realloc(out->buf, size) : NULL;
	if (!buf) {
		out->oom = true;
		return false;
	}
	out->buf = buf;
	out->size = size;
	return true;
}

static void put_raw(struct printbuf *out, const char *text, size_t len)
{
	if (!make_room(out, len))
		return;
	memcpy(out->buf + out->pos, text, len);
	out->pos += len;
	out->buf[out->pos] = '\0';
}

static void put_blanks(struct printbuf *out, size_t nr)
{
	if (!make_room(out, nr))
		return;
	memset(out->buf + out->pos, ' ', nr);
	out->pos += nr;
	out->buf[out->pos] = '\0';
}

static void line_begin(struct printbuf *out)
{
	if (out->bol_done)
		return;
	if (out->indent > 0)
		put_blanks(out, out->indent);
	out->bol_done = true;
	out->line_start = out->field_start = out->pos;
}

void prt_newline(struct printbuf *out)
{
	put_raw(out, "\n", 1);
	out->bol_done = false;
	out->cur_tabstop = 0;
}

void prt_bytes(struct printbuf *out, const void *text, size_t len)
{
	const char *p = text, *end = p + len;

	while (p < end) {
		const char *nl = memchr(p, '\n', end - p);
		size_t part = (nl ?: end) - p;

		if (part) {
			line_begin(out);
			put_raw(out, p, part);
		}
		p += part;
		if (nl) {
			prt_newline(out);
			p++;
		}
	}
}

void prt_str(struct printbuf *out, const char *str)
{
	prt_bytes(out, str, strlen(str));
}

void prt_char(struct printbuf *out, char c)
{
	prt_bytes(out, &c, 1);
}

void prt_vprintf(struct printbuf *out, const char *fmt, va_list args)
{
	char small[128], *big;
	va_list again;
	int len;

	va_copy(again, args);
	len = vsnprintf(small, sizeof(small), fmt, args);
	if (len < 0) {
		out->oom = true;
	} else if ((size_t)len < sizeof(small)) {
		prt_bytes(out, small, len);
	} else {
		big = malloc((size_t)len + 1);
		if (big) {
			vsnprintf(big, (size_t)len + 1, fmt, again);
			prt_bytes(out, big, len);
			free(big);
		} else {
			out->oom = true;
		}
	}
	va_end(again);
}

void prt_printf(struct printbuf *out, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	prt_vprintf(out, fmt, args);
	va_end(args);
}

void prt_indent_add(struct printbuf *out, int blanks)
{
	out->indent += blanks;
}

void prt_indent_sub(struct printbuf *out, int blanks)
{
	assert(blanks <= out->indent);
	out->indent -= blanks;
}

void prt_u64(struct printbuf *out, u64 v)
{
	prt_printf(out, "%" PRIu64, v);
}

void prt_s64(struct printbuf *out, s64 v)
{
	prt_printf(out, "%" PRId64, v);
}

void prt_human_u64(struct printbuf *out, u64 bytes)
{
	static const char units[][4] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned unit = bytes ? ilog2(bytes) / 10 : 0;
	u64 whole, tenths;

	if (!unit) {
		prt_printf(out, "%" PRIu64 " B", bytes);
		return;
	}
	whole = bytes >> (unit * 10);
	/* the ten bits below the unit are enough for one decimal, rounded down */
	tenths = (bytes >> (unit * 10 - 10) & 1023) * 10 / 1024;
	if (tenths)
		prt_printf(out, "%" PRIu64 ".%" PRIu64 " %s", whole, tenths, units[unit]);
	else
		prt_printf(out, "%" PRIu64 " %s", whole, units[unit]);
}

void prt_hex(struct printbuf *out, const void *data, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const u8 *p = data;

	for (size_t i = 0; i < len; i++) {
		char two[2] = {digits[p[i] >> 4], digits[p[i] & 15]};

		prt_bytes(out, two, 2);
	}
}

void prt_escaped(struct printbuf *out, const void *data, size_t len)
{
	const u8 *p = data;

	for (size_t i = 0; i < len;) {
		unsigned nr = utf8_char(p + i, len - i);

		if (!nr)
			prt_printf(out, "\\%03o", p[i]);
		else if (p[i] == '"' || p[i] == '\\')
			prt_printf(out, "\\%c", p[i]);
		else
			prt_bytes(out, p + i, nr);
		i += nr ?: 1;
	}
}

void prt_bitflags(struct printbuf *out, const char *const *names, size_t nr_names, u64 flags)
{
	bool first = true;

	for (unsigned bit = 0; bit < 64; bit++) {
		if (!(flags >> bit & 1))
			continue;
		if (!first)
			prt_char(out, ',');
		first = false;
		if (bit < nr_names && names[bit])
			prt_str(out, names[bit]);
		else
			prt_printf(out, "bit %u", bit);
	}
}

void prt_tabstop_push(struct printbuf *out, unsigned column)
{
	assert(out->nr_tabstops < PRINTBUF_TABSTOPS && column <= UINT16_MAX);
	assert(!out->nr_tabstops || column > out->tabstops[out->nr_tabstops - 1]);
	out->tabstops[out->nr_tabstops++] = column;
}

void prt_tabstops_reset(struct printbuf *out)
{
	out->nr_tabstops = out->cur_tabstop = 0;
}

/* Blanks to the next tab stop; a field that is too long gets one blank. */
static size_t tab_blanks(struct printbuf *out)
{
	size_t col, stop;

	line_begin(out);
	col = out->pos - out->line_start;
	stop = out->cur_tabstop < out->nr_tabstops ? out->tabstops[out->cur_tabstop++] : 0;
	return stop > col ? stop - col : 1;
}

void prt_tab(struct printbuf *out)
{
	put_blanks(out, tab_blanks(out));
	out->field_start = out->pos;
}

void prt_tab_rjust(struct printbuf *out)
{
	size_t blanks = tab_blanks(out);
	size_t len = out->pos - out->field_start;

	if (make_room(out, blanks)) {
		char *field = out->buf + out->field_start;

		memmove(field + blanks, field, len);
		memset(field, ' ', blanks);
		out->pos += blanks;
		out->buf[out->pos] = '\0';
	}
	out->field_start = out->pos;
}
