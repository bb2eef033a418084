/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ioctls of a mounted bcfs, beside those of <linux/fs.h> that it knows (FS_IOC_GETFLAGS,
 * FS_IOC_SETFLAGS, FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_IOC_GETVERSION, FS_IOC_GETFSLABEL,
 * FITRIM) and the shutdown of <xfs/xfs_fs.h> (XFS_IOC_GOINGDOWN).
 */
#ifndef BCFS_IOCTL_H
#define BCFS_IOCTL_H

#include <linux/ioctl.h>
#include <stdint.h>

/*
 * Collapse or insert a range (bytes, multiples of the block size) without changing the size, which
 * only ftruncate(2) may do:
 *
 *  - to insert: ftruncate(size + len), then this: [offset, size) moves up by len, what is in
 *    the last len bytes falls off;
 *  - to collapse: this: what is behind the range moves down by len; then ftruncate(size - len).
 *
 * For root and the owner of the file. EINVAL: not whole blocks, or beyond the end. What is in the
 * page cache is written before, and dropped.
 */
struct bcfs_ioc_shift {
	uint64_t offset;
	uint64_t len;
	uint32_t mode; /* BCFS_FALLOC_COLLAPSE_RANGE or BCFS_FALLOC_INSERT_RANGE */
	uint32_t pad;  /* zero */
};

#define BCFS_IOC_SHIFT _IOW(0xbc, 1, struct bcfs_ioc_shift)

/* Stop at once, as enum bcfs_shutdown_mode says; for root. All calls answer EIO from then on. */
#define BCFS_IOC_SHUTDOWN _IOW(0xbc, 2, uint32_t)

/*
 * What mount -o remount does in the daemon, beside mount(2): options as of bcfs-fuse -o, with a
 * NUL. To become read-only, the kernel's side goes first; to be writable, this. For root. 1: it
 * failed, and the text says why.
 */
#define BCFS_IOC_TEXT_BYTES 2048

struct bcfs_ioc_remount {
	char text[BCFS_IOC_TEXT_BYTES];
};

#define BCFS_IOC_REMOUNT _IOWR(0xbc, 3, struct bcfs_ioc_remount)

/*
 * A new master key, as bcfs_key_rotate(), with its errors: what opens the slots that are to stay.
 * For root and the user whose daemon it is. EINVAL also: this makes no sense. The secrets of all,
 * each with 4 bytes before it, have to fit, so a slot of a key file of more than
 * BCFS_IOC_KEY_FILE_MAX bytes cannot be kept.
 */
#define BCFS_IOC_KEY_BYTES    12272
#define BCFS_IOC_KEY_FILE_MAX (BCFS_IOC_KEY_BYTES - 4)

struct bcfs_ioc_key_rotate {
	uint32_t nr;	      /* secrets */
	uint32_t drop_others; /* 1: other slots go */
	uint32_t bytes;	      /* of data[] */
	uint32_t pad;	      /* zero */
	/* Of each: enum bcfs_secret_type (2 bytes), length (2), its bytes. */
	uint8_t data[BCFS_IOC_KEY_BYTES];
};

#define BCFS_IOC_KEY_ROTATE _IOW(0xbc, 5, struct bcfs_ioc_key_rotate)

/*
 * A key slot more, less, or another secret in it, as bcfs_key_apply(), whose error comes in
 * `error`. For root and the user whose daemon it is. EINVAL: this makes no sense. data[] as above.
 * Who calls it sees to it that the daemon is one that may know the secrets.
 */
struct bcfs_ioc_key_slot {
	uint32_t op;	     /* enum bcfs_key_op */
	uint32_t slot;	     /* in and out */
	uint32_t kdf_passes; /* as in struct bcfs_key_opts; so is kdf_bytes */
	int32_t error;	     /* out */
	uint64_t kdf_bytes;
	uint32_t nr;	/* secrets: what opens it, then the new one (not to remove) */
	uint32_t bytes; /* of data[], which is not answered */
	uint8_t data[BCFS_IOC_KEY_BYTES];
};

#define BCFS_IOC_KEY_SLOT _IOWR(0xbc, 6, struct bcfs_ioc_key_slot)

/*
 * The options that the superblock has, as bcfs_fs_options_to_text(); and changed, as
 * bcfs_fs_options_apply(), with a NUL, for root. 1: it failed, and the text says why; EROFS; EBUSY:
 * another change or remount is under way.
 */
struct bcfs_ioc_fs_options {
	char text[BCFS_IOC_TEXT_BYTES];
};

#define BCFS_IOC_GET_FS_OPTIONS _IOR(0xbc, 7, struct bcfs_ioc_fs_options)
#define BCFS_IOC_SET_FS_OPTIONS _IOWR(0xbc, 8, struct bcfs_ioc_fs_options)

/*
 * What FIDEDUPERANGE does elsewhere, with one destination: the file that it is called on, which
 * shares len bytes at offset with those of another file where they are the same. For root and the
 * owner of both. Offsets (bytes) are multiples of the block size.
 */
struct bcfs_ioc_dedupe {
	uint64_t src; /* st_ino of the other */
	uint64_t src_offset;
	uint64_t offset;
	uint64_t len; /* out: so many bytes are shared */
};

#define BCFS_IOC_DEDUPE _IOWR(0xbc, 4, struct bcfs_ioc_dedupe)

/* What test suites use; its argument does not reach a FUSE filesystem, only its address does. */
#define BCFS_IOC_GOINGDOWN _IOR('X', 125, uint32_t)

#endif
