// SPDX-License-Identifier: LGPL-2.1-or-later
#include "util/opts.h"

#include "util/bits.h"
#include "util/cleanup.h"
#include "util/errcode.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

int parse_u64(const char *str, u64 *ret_v)
{
	unsigned base = 10;
	u64 v = 0;

	if (str[0] == '0' && (str[1] == 'x' || str[1] == 'X')) {
		base = 16;
		str += 2;
	}
	if (!*str)
		return -BCFS_ERR_invalid_option;
	for (; *str; str++) {
		unsigned digit = isdigit((u8)*str)    ? *str - '0'
				 : isxdigit((u8)*str) ? (*str | 0x20) - 'a' + 10
						      : 99;

		if (digit >= base || __builtin_mul_overflow(v, base, &v) ||
		    __builtin_add_overflow(v, digit, &v))
			return -BCFS_ERR_invalid_option;
	}
	*ret_v = v;
	return 0;
}

/* The power of two of a suffix, or -1. */
static int size_suffix_shift(const char *s)
{
	static const char letters[] = "kmgtpe";
	const char *l;

	if (!*s || !strcasecmp(s, "b"))
		return 0;
	l = strchr(letters, tolower((u8)*s));
	if (!l || (s[1] && strcasecmp(s + 1, "b") && strcasecmp(s + 1, "ib")))
		return -1;
	return (int)(l - letters + 1) * 10;
}

int parse_size(const char *str, u64 *ret_bytes)
{
	u64 whole = 0, frac = 0, frac_div = 1, bytes;
	int shift;

	if (!isdigit((u8)*str))
		return -BCFS_ERR_invalid_option;
	for (; isdigit((u8)*str); str++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, *str - '0', &whole))
			return -BCFS_ERR_invalid_option;
	if (*str == '.') {
		if (!isdigit((u8) * ++str))
			return -BCFS_ERR_invalid_option;
		for (; isdigit((u8)*str); str++) {
			if (frac_div >= 1000000000)
				return -BCFS_ERR_invalid_option;
			frac = frac * 10 + (*str - '0');
			frac_div *= 10;
		}
	}

	shift = size_suffix_shift(str);
	if (shift < 0 || whole > UINT64_MAX >> shift || (frac && !shift))
		return -BCFS_ERR_invalid_option;

	bytes = whole << shift;
	if (frac) /* rounded down to bytes */
		bytes += (u64)(((unsigned __int128)frac << shift) / frac_div);
	*ret_bytes = bytes;
	return 0;
}

const struct opt_desc *opt_lookup(const struct opt_desc *table, size_t nr, const char *name,
				  size_t name_len)
{
	for (size_t i = 0; i < nr; i++)
		if (strlen(table[i].name) == name_len && !memcmp(table[i].name, name, name_len))
			return &table[i];
	return NULL;
}

__attribute__((format(printf, 2, 3))) static int opt_bad(struct printbuf *err, const char *fmt, ...)
{
	va_list args;

	if (err) {
		va_start(args, fmt);
		prt_vprintf(err, fmt, args);
		va_end(args);
	}
	return -BCFS_ERR_invalid_option;
}

static int opt_set_bool(const struct opt_desc *opt, void *dst, const char *val,
			struct printbuf *err)
{
	static const char *const words[][2] = {
		{"0", "1"}, {"no", "yes"}, {"off", "on"}, {"false", "true"}};

	if (!val) {
		*(bool *)dst = true;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		for (unsigned v = 0; v < 2; v++)
			if (!strcmp(val, words[i][v])) {
				*(bool *)dst = v;
				return 0;
			}
	return opt_bad(err, "option %s: \"%s\" is neither yes nor no", opt->name, val);
}

static void prt_opt_number(struct printbuf *out, const struct opt_desc *opt, u64 v)
{
	if (opt->type == OPT_SIZE)
		prt_human_u64(out, v);
	else
		prt_u64(out, v);
}

static int opt_set_number(const struct opt_desc *opt, void *dst, const char *val,
			  struct printbuf *err)
{
	CLEANUP(printbuf_exit) struct printbuf limit = PRINTBUF;
	u64 v;

	if (opt->type == OPT_SIZE ? parse_size(val, &v) : parse_u64(val, &v))
		return opt_bad(err, "option %s: \"%s\" is not a %s", opt->name, val,
			       opt->type == OPT_SIZE ? "size" : "number");
	if (v < opt->min) {
		prt_opt_number(&limit, opt, opt->min);
		return opt_bad(err, "option %s: %s is too small, the least is %s", opt->name, val,
			       printbuf_str(&limit));
	}
	if (opt->max && v > opt->max) {
		prt_opt_number(&limit, opt, opt->max);
		return opt_bad(err, "option %s: %s is too large, the most is %s", opt->name, val,
			       printbuf_str(&limit));
	}
	if (opt->pow2 && !is_power_of_2(v))
		return opt_bad(err, "option %s: %s is not a power of two", opt->name, val);
	*(u64 *)dst = v;
	return 0;
}

static void prt_choices(struct printbuf *out, const struct opt_desc *opt, const char *sep)
{
	for (unsigned i = 0; opt->choices[i]; i++)
		prt_printf(out, "%s%s", i ? sep : "", opt->choices[i]);
}

static int opt_set_enum(const struct opt_desc *opt, void *dst, const char *val,
			struct printbuf *err)
{
	CLEANUP(printbuf_exit) struct printbuf all = PRINTBUF;

	for (unsigned i = 0; opt->choices[i]; i++)
		if (!strcmp(opt->choices[i], val)) {
			*(unsigned *)dst = i;
			return 0;
		}
	prt_choices(&all, opt, ", ");
	return opt_bad(err, "option %s: \"%s\" is none of %s", opt->name, val, printbuf_str(&all));
}

static int opt_set_str(const struct opt_desc *opt, void *dst, const char *val, struct printbuf *err)
{
	size_t len = strlen(val);
	char *copy;

	if (len < opt->min || (opt->max && len > opt->max))
		return opt_bad(err, "option %s: \"%s\" is too %s", opt->name, val,
			       len < opt->min ? "short" : "long");
	copy = strdup(val);
	if (!copy)
		return -BCFS_ERR_nomem;
	free(*(char **)dst);
	*(char **)dst = copy;
	return 0;
}

int opt_set(const struct opt_desc *opt, void *dst, const char *val, struct printbuf *err)
{
	dst = (char *)dst + opt->offset;

	if (!val && opt->type != OPT_BOOL)
		return opt_bad(err, "option %s needs a value", opt->name);

	switch (opt->type) {
	case OPT_BOOL:
		return opt_set_bool(opt, dst, val, err);
	case OPT_UINT:
	case OPT_SIZE:
		return opt_set_number(opt, dst, val, err);
	case OPT_ENUM:
		return opt_set_enum(opt, dst, val, err);
	case OPT_STR:
		return opt_set_str(opt, dst, val, err);
	}
	return opt_bad(err, "option %s has an unknown type", opt->name);
}

/* One "name" or "name=value" (str is the caller's copy and may be cut up). */
static int opt_parse_one(const struct opt_desc *table, size_t nr, void *dst, char *str,
			 struct printbuf *err)
{
	char *val = strchr(str, '=');
	const struct opt_desc *opt;

	if (val)
		*val++ = '\0';

	opt = opt_lookup(table, nr, str, strlen(str));
	if (!opt && !val && !strncmp(str, "no", 2)) {
		opt = opt_lookup(table, nr, str + 2, strlen(str + 2));
		if (opt && opt->type == OPT_BOOL)
			return opt_set(opt, dst, "0", err);
		opt = NULL;
	}
	if (!opt)
		return opt_bad(err, "unknown option \"%s\"", str);
	return opt_set(opt, dst, val, err);
}

int opts_parse(const struct opt_desc *table, size_t nr, void *dst, const char *str,
	       struct printbuf *err)
{
	CLEANUP(free_p) char *copy = strdup(str);
	char *next = copy, *part;
	int ret = 0;

	if (!copy)
		return -BCFS_ERR_nomem;
	while (!ret && (part = strsep(&next, ",")))
		if (*part)
			ret = opt_parse_one(table, nr, dst, part, err);
	return ret;
}

void opts_exit(const struct opt_desc *table, size_t nr, void *dst)
{
	for (size_t i = 0; i < nr; i++) {
		char **str = (char **)((char *)dst + table[i].offset);

		if (table[i].type != OPT_STR)
			continue;
		free(*str);
		*str = NULL;
	}
}

static void opt_help_one(struct printbuf *out, const struct opt_desc *opt)
{
	prt_str(out, opt->name);
	switch (opt->type) {
	case OPT_BOOL:
		break;
	case OPT_UINT:
		prt_printf(out, "=%s", opt->arg ?: "N");
		break;
	case OPT_SIZE:
		prt_printf(out, "=%s", opt->arg ?: "SIZE");
		break;
	case OPT_ENUM:
		prt_char(out, '=');
		prt_choices(out, opt, "|");
		break;
	case OPT_STR:
		prt_printf(out, "=%s", opt->arg ?: "TEXT");
		break;
	}
	prt_tab(out);
	prt_str(out, opt->help ?: "");
	if ((opt->type == OPT_UINT || opt->type == OPT_SIZE) && opt->max) {
		prt_str(out, " (");
		prt_opt_number(out, opt, opt->min);
		prt_str(out, " to ");
		prt_opt_number(out, opt, opt->max);
		prt_char(out, ')');
	}
	prt_newline(out);
}

void opts_help(struct printbuf *out, const struct opt_desc *table, size_t nr)
{
	prt_tabstops_reset(out);
	prt_tabstop_push(out, 28);
	prt_indent_add(out, 2);
	for (size_t i = 0; i < nr; i++)
		opt_help_one(out, &table[i]);
	prt_indent_sub(out, 2);
	prt_tabstops_reset(out);
}

void opts_to_text(struct printbuf *out, const struct opt_desc *table, size_t nr, const void *src)
{
	bool first = true;

	for (size_t i = 0; i < nr; i++) {
		const struct opt_desc *opt = &table[i];
		const void *v = (const char *)src + opt->offset;

		if (opt->type == OPT_STR && !*(char *const *)v)
			continue; /* a string that was never set has no written form */
		prt_printf(out, "%s%s=", first ? "" : ",", opt->name);
		first = false;
		switch (opt->type) {
		case OPT_BOOL:
			prt_char(out, *(const bool *)v ? '1' : '0');
			break;
		case OPT_UINT:
		case OPT_SIZE:
			prt_u64(out, *(const u64 *)v);
			break;
		case OPT_ENUM:
			prt_str(out, opt->choices[*(const unsigned *)v]);
			break;
		case OPT_STR:
			prt_str(out, *(char *const *)v);
			break;
		}
	}
}
