/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * On-disk format: inodes. Key: {inode 0, offset inum, snapshot}.
 *
 * The fixed part is followed by fields as varints (util/varint.h), in the
 * order of BCFS_INODE_FIELDS; nr_fields says how many were written, the rest
 * are zero; trailing zero fields are not stored. A reader that knows fewer
 * fields carries the rest along.
 *
 * Numbers: inum < 2^40, subvolume < 2^23; (subvolume << 40 | inum) is st_ino.
 * The root directory of every subvolume has its inum in the subvolume's key;
 * the first subvolume's is BCFS_ROOT_INO.
 */
#ifndef BCFS_FORMAT_INODE_H
#define BCFS_FORMAT_INODE_H

#include "bcfs/format/bkey.h"

struct bcfs_inode {
	uint64_t hash_seed; /* of the directory's dirents and the inode's xattrs */
	uint32_t flags;	    /* BCFS_INODE_* */
	uint16_t mode;
	uint8_t nr_fields;
	uint8_t pad;
	uint64_t journal_seq; /* of the last change, as far as known */
	uint8_t fields[];
};

/* x(name, bits in memory, doc): append only. */
/* clang-format off */
#define BCFS_INODE_FIELDS(x)                                                                       \
	x(atime, 64, "ns, see BCFS_TIME_EPOCH_SEC")                                                \
	x(ctime, 64, "ns")                                                                         \
	x(mtime, 64, "ns")                                                                         \
	x(otime, 64, "ns: birth")                                                                  \
	x(size, 64, "bytes")                                                                       \
	x(sectors, 64, "of 512 bytes, reservations included")                                      \
	x(uid, 32, "")                                                                             \
	x(gid, 32, "")                                                                             \
	x(nlink, 32, "links less the natural one (1; 2 for directories)")                          \
	x(generation, 32, "bumped when the number is reused")                                      \
	x(dev, 32, "of a special file: major << 20 | minor")                                       \
	x(dir, 64, "directory of the newest link, or 0")                                           \
	x(dir_offset, 64, "hash position of that dirent")                                          \
	x(project, 32, "")                                                                         \
	x(subvol, 32, "if the inode is a subvolume's root")                                        \
	x(parent_subvol, 32, "of a subvolume's root")                                              \
	x(opt_csum, 8, "option + 1; 0: inherited")                                                 \
	x(opt_compression, 16, "option + 1")                                                       \
	x(opt_background_compression, 16, "option + 1")                                            \
	x(opt_replicas, 8, "option + 1")                                                           \
	x(opt_target, 16, "option + 1")                                                            \
	x(nr_dirs, 32, "subdirectories, of a directory")                                           \
	x(xattr_pieces, 32, "xattrs stored in pieces")                                             \
	x(depth, 32, "reserved")
/* clang-format on */

/* clang-format off */
#define BCFS_INODE_FLAGS(x)                                                                        \
	x(sync, 0)                                                                                 \
	x(immutable, 1)                                                                            \
	x(append, 2)                                                                               \
	x(nodump, 3)                                                                               \
	x(noatime, 4)                                                                              \
	x(dirsync, 5)                                                                              \
	x(unlinked, 8)                                                                             \
	x(has_acl, 9)                                                                              \
	x(sectors_dirty, 10)                                                                       \
	x(symlink_in_extents, 11)                                                                  \
	x(projinherit, 12)                                                                         \
	x(has_caps, 13)
/* clang-format on */

enum bcfs_inode_flags {
#define x(name, bit) BCFS_INODE_##name = 1U << (bit),
	BCFS_INODE_FLAGS(x)
#undef x
};

/* At offset 0: the generation of all inodes made since numbers were last given out from anew. */
struct bcfs_inode_generation {
	uint32_t generation;
	uint32_t pad;
};

#define BCFS_INUM_BITS	 40
#define BCFS_INUM_MAX	 ((1ULL << BCFS_INUM_BITS) - 1)
#define BCFS_SUBVOL_MAX	 ((1U << 23) - 1)
#define BCFS_ROOT_INO	 4096ULL
#define BCFS_ROOT_SUBVOL 1U
#define BCFS_FIRST_INO	 4097ULL

/*
 * Directory entry. Key: {dir inum, 63-bit hash, snapshot}. target is an inum, or,
 * for d_type BCFS_DT_SUBVOL, a subvolume id with the parent's in target_hi.
 */
struct bcfs_dirent {
	uint64_t target : 40, target_hi : 24;
	uint8_t d_type; /* DT_* of dirent.h, or BCFS_DT_SUBVOL */
	uint8_t name_len;
	uint8_t name[];
} BCFS_PACKED; /* 10 bytes: without it the compiler would pad to 16 */

#define BCFS_DT_SUBVOL 16
#define BCFS_NAME_MAX  255

/* Dirent hashes 0, 1 and 2 are never used: readdir's "." and "..", and the start. */
#define BCFS_DIRENT_HASH_MIN 3ULL
#define BCFS_DIRENT_HASH_MAX ((1ULL << 63) - 1)

/*
 * Extended attribute. Key: {inum, hash of type and name, snapshot}. name and
 * value follow each other. A value too long for one key (BCFS_XATTR_PIECE_MAX)
 * has its first piece here with total_len > val_len; piece n (1, 2, ...) is a key
 * at the position hashed from (type, name, n) with piece = n.
 */
struct bcfs_xattr {
	uint8_t x_type; /* enum bcfs_xattr_type */
	uint8_t name_len;
	uint16_t val_len; /* in this key */
	uint16_t total_len_lo;
	uint8_t total_len_hi;
	uint8_t piece;
	uint8_t name[]; /* then the value */
};

#define BCFS_XATTR_PIECE_MAX 1536U
#define BCFS_XATTR_SIZE_MAX  65536U

/* clang-format off */
#define BCFS_XATTR_TYPES(x)                                                                        \
	x(user, 0, "user.")                                                                        \
	x(acl_access, 1, "system.posix_acl_access")                                                \
	x(acl_default, 2, "system.posix_acl_default")                                              \
	x(trusted, 3, "trusted.")                                                                  \
	x(security, 4, "security.")
/* clang-format on */

enum bcfs_xattr_type {
#define x(name, nr, prefix) BCFS_XATTR_##name = nr,
	BCFS_XATTR_TYPES(x)
#undef x
		BCFS_XATTR_TYPE_NR
};

#endif
