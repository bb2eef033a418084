// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The on-disk format may not change by accident: the size of every structure
 * and the offset and size of every member, as ondisk.def has them, are asserted
 * here. (Where bits of bit fields lie is looked at by the format-tables test.)
 */
#include "bcfs/format/alloc.h"
#include "bcfs/format/bkey.h"
#include "bcfs/format/btree.h"
#include "bcfs/format/extent.h"
#include "bcfs/format/inode.h"
#include "bcfs/format/journal.h"
#include "bcfs/format/snapshot.h"
#include "bcfs/format/superblock.h"
#include "bcfs/format/types.h"

#include <stddef.h>

#define S(type, size)                                                                              \
	_Static_assert(sizeof(struct type) == (size), "size of struct " #type " changed");
#define M(type, member, offset, size, doc)                                                         \
	_Static_assert(offsetof(struct type, member) == (offset), #type "." #member " moved");     \
	_Static_assert(sizeof(((struct type *)0)->member) == (size), #type "." #member " size");
#define T(type, member, offset, doc)                                                               \
	_Static_assert(offsetof(struct type, member) == (offset), #type "." #member " moved");
#define B(type, member, bit, bits, doc)
#include "util/ondisk.def"
#undef S
#undef M
#undef T
#undef B

/* Keys are copied word by word, and hold words at aligned places. */
_Static_assert(_Alignof(struct bpos) == 4, "struct bpos is aligned to 4");
_Static_assert(sizeof(struct bkey) % 8 == 0, "a key is whole words");
_Static_assert(offsetof(struct bkey_i, v) % 8 == 0, "values are aligned to words");
_Static_assert(BKEY_U64s == 4, "struct bkey has 4 words");
_Static_assert(BKEY_PACKED_HEADER_BITS == 8 * offsetof(struct bkey_packed, key_start),
	       "packed fields begin behind the type");

/* Least sizes of values against their structures. */
#define MIN_VAL(type, bytes) _Static_assert((bytes) == sizeof(struct type), #type)
MIN_VAL(bcfs_btree_ptr, 48);
MIN_VAL(bcfs_inode, 24);
MIN_VAL(bcfs_alloc, 48);
MIN_VAL(bcfs_backpointer, 32);
MIN_VAL(bcfs_snapshot, 64);
MIN_VAL(bcfs_subvolume, 48);

/* Numbers are stable: none may be above what its place on disk can hold. */
_Static_assert(BCFS_CSUM_NR <= 16, "a checksum type has 4 bits");
_Static_assert(BCFS_COMPRESSION_NR <= 16, "a compression type has 4 bits");
_Static_assert(BCFS_EXTENT_ENTRY_NR <= 8, "an extent entry's type has 3 bits");
_Static_assert(KEY_TYPE_NR <= 256, "a key type has 8 bits");
_Static_assert(BTREE_ID_NR <= 256, "a btree id has 8 bits in a backpointer");
_Static_assert(BTREE_MAX_DEPTH <= 16, "a level has 4 bits");
_Static_assert(BCFS_EXTENT_MAX_SECTORS <= 1 << BCFS_BP_SHIFT, "a backpointer's live_offset");
