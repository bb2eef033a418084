// SPDX-License-Identifier: LGPL-2.1-or-later
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

void tool_error(const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

void tool_bad_option(char **argv, const char *letters, const char *command)
{
	const char *word = argv[optind - 1];
	const char *known = optopt > 0 && optopt < 256 ? strchr(letters, optopt) : NULL;

	if (optopt > 0 && optopt < 256 && !known)
		tool_error("unknown option -%c: see %s --help", optopt, command);
	else if (!optopt)
		tool_error("unknown option %s: see %s --help", word, command);
	else if (!strncmp(word, "--", 2) && strchr(word, '='))
		tool_error("option %s takes no value: see %s --help", word, command);
	else
		tool_error("option %s needs a value: see %s --help", word, command);
}

bool tool_flush(void)
{
	if (!fflush(stdout) && !ferror(stdout))
		return true;
	fprintf(stderr, "%s: cannot write the output: %s\n", program_invocation_short_name,
		strerror(errno));
	return false;
}

bool tool_parse_uint(const char *text, uint64_t max, uint64_t *ret)
{
	unsigned long long v;
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || *end || v > max)
		return false;
	*ret = v;
	return true;
}

bool tool_parse_size(const char *text, uint64_t *ret)
{
	static const char units[] = "kmgtpe";
	unsigned long long v;
	unsigned int shift = 0;
	const char *unit;
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno)
		return false;

	if (*end == 's' && !end[1]) {
		shift = 9;
	} else if (*end) {
		unit = strchr(units, tolower((unsigned char)*end));
		if (!unit)
			return false;
		shift = 10 * (unsigned int)(unit - units + 1);
		end++;
		if (*end && strcmp(end, "iB") && strcmp(end, "ib"))
			return false;
	}
	if (shift && v >> (64 - shift))
		return false;
	*ret = v << shift;
	return true;
}

bool tool_parse_uuid(const char *text, uint8_t ret[16])
{
	uint8_t uuid[16];
	unsigned int i, byte;
	const char *p = text;

	if (strlen(text) != 36)
		return false;
	for (i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10) {
			if (*p++ != '-')
				return false;
		}
		if (!isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1]) ||
		    sscanf(p, "%2x", &byte) != 1)
			return false;
		uuid[i] = (uint8_t)byte;
		p += 2;
	}
	memcpy(ret, uuid, 16);
	return true;
}

const char *tool_size_text(uint64_t bytes, char *buf, size_t size)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned int unit = 0;
	uint64_t whole = bytes;

	while (unit < 6 && whole >= 1024) {
		whole >>= 10;
		unit++;
	}
	if (whole << (10 * unit) == bytes)
		snprintf(buf, size, "%llu %s", (unsigned long long)whole, units[unit]);
	else
		snprintf(buf, size, "%.1f %s", (double)bytes / (double)(1ULL << (10 * unit)),
			 units[unit]);
	return buf;
}

const char *tool_uuid_text(const uint8_t uuid[16], char buf[37])
{
	char *p = buf;
	unsigned int i;

	for (i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		p += sprintf(p, "%02x", uuid[i]);
	}
	return buf;
}
