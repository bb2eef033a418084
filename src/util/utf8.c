// SPDX-License-Identifier: LGPL-2.1-or-later
#include "util/utf8.h"

unsigned utf8_char(const u8 *p, size_t len)
{
	static const u32 least[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned nr = *p < 0x80 ? 1 : *p >> 5 == 6 ? 2 : *p >> 4 == 14 ? 3 : *p >> 3 == 30 ? 4 : 0;
	u32 c = nr > 1 ? *p & (0x7f >> nr) : *p;

	if (!nr || nr > len)
		return 0;
	for (unsigned i = 1; i < nr; i++) {
		if (p[i] >> 6 != 2)
			return 0;
		c = c << 6 | (p[i] & 63);
	}
	if (c < least[nr] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	return c < 0x20 || (c >= 0x7f && c < 0xa0) ? 0 : nr;
}
