// SPDX-License-Identifier: LGPL-2.1-or-later
#include "util/bits.h"
#include "util/varint.h"

#include <string.h>

unsigned varint_bytes(u64 v)
{
	unsigned bits = fls64(v | 1);

	return bits > 56 ? VARINT_MAX_BYTES : (bits + 6) / 7;
}

unsigned varint_encode(u8 *out, const u8 *end, u64 v)
{
	unsigned bytes = varint_bytes(v);

	if (end - out < (ptrdiff_t)bytes)
		return 0;

	if (bytes == VARINT_MAX_BYTES) {
		out[0] = 0xff;
		memcpy(out + 1, &v, 8);
	} else {
		v = v << bytes | low_bits_mask(bytes - 1);
		memcpy(out, &v, bytes);
	}
	return bytes;
}

unsigned varint_decode(const u8 *in, const u8 *end, u64 *ret_v)
{
	unsigned bytes;
	u64 v = 0;

	if (in >= end)
		return 0;

	bytes = in[0] == 0xff ? VARINT_MAX_BYTES : ffs64(~(u64)in[0]);
	if (end - in < (ptrdiff_t)bytes)
		return 0;

	if (bytes == VARINT_MAX_BYTES) {
		memcpy(&v, in + 1, 8);
	} else {
		memcpy(&v, in, bytes);
		v >>= bytes;
	}
	*ret_v = v;
	return bytes;
}
