/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * On-disk format: the basics every other format header builds on.
 *
 * All integers are little-endian. Structures hold no implicit padding; every
 * size and offset is asserted in src/util/ondisk_check.c. Reserved bytes are
 * written as zero and ignored when read (they are covered by checksums).
 * doc/format.md describes every byte.
 */
#ifndef BCFS_FORMAT_TYPES_H
#define BCFS_FORMAT_TYPES_H

#include <stdint.h>

#define BCFS_PACKED __attribute__((packed))

struct bcfs_uuid {
	uint8_t b[16];
};

/* A checksum (zero-padded) or an authentication tag, of any codec. */
struct bcfs_csum {
	uint8_t b[32];
};

/* XChaCha20 nonce; zero when not encrypted. */
struct bcfs_nonce {
	uint8_t b[24];
};

/*
 * Versions are major << 10 | minor. An unknown minor is readable; an unknown
 * major is not.
 */
#define BCFS_VERSION(major, minor) (((major) << 10) | (minor))
#define BCFS_VERSION_MAJOR(v)	   ((v) >> 10)
#define BCFS_VERSION_CURRENT	   BCFS_VERSION(1, 0)

/*
 * Codec numbers, stable. x(name, number, bytes of checksum or tag)
 */
/* clang-format off */
#define BCFS_CSUM_TYPES(x)                                                                         \
	x(none, 0, 0)                                                                              \
	x(crc32c, 1, 4)                                                                            \
	x(crc64, 2, 8)                                                                             \
	x(xxh3, 3, 8)                                                                              \
	x(blake2b, 4, 32)                                                                          \
	x(xchacha20_poly1305, 5, 16)
/* clang-format on */

enum bcfs_csum_type {
#define x(name, nr, bytes) BCFS_CSUM_##name = nr,
	BCFS_CSUM_TYPES(x)
#undef x
		BCFS_CSUM_NR
};

/* clang-format off */
#define BCFS_COMPRESSION_TYPES(x)                                                                  \
	x(none, 0)                                                                                 \
	x(zstd, 1)                                                                                 \
	x(lz4, 2)                                                                                  \
	x(incompressible, 3)
/* clang-format on */

enum bcfs_compression_type {
#define x(name, nr) BCFS_COMPRESSION_##name = nr,
	BCFS_COMPRESSION_TYPES(x)
#undef x
		BCFS_COMPRESSION_NR
};

/* What a bucket holds; stable numbers. */
/* clang-format off */
#define BCFS_DATA_TYPES(x)                                                                         \
	x(free, 0)                                                                                 \
	x(sb, 1)                                                                                   \
	x(journal, 2)                                                                              \
	x(btree, 3)                                                                                \
	x(user, 4)                                                                                 \
	x(cached, 5)                                                                               \
	x(parity, 6)                                                                               \
	x(stripe, 7)                                                                               \
	x(need_discard, 8)                                                                         \
	x(need_gc_gens, 9)                                                                         \
	x(unstriped, 10)
/* clang-format on */

enum bcfs_data_type {
#define x(name, nr) BCFS_DATA_##name = nr,
	BCFS_DATA_TYPES(x)
#undef x
		BCFS_DATA_NR
};

/*
 * Times on disk: nanoseconds since 1901-12-13T20:45:52Z, unsigned 64 bits,
 * clamped at both ends (the last is in July 2486). BCFS_TIME_EPOCH_SEC is the
 * Unix time of zero.
 */
#define BCFS_TIME_EPOCH_SEC (-2147483648LL)

#endif
