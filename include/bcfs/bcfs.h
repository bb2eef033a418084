/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libbcfs: a filesystem on a block device or an image file, without a mount.
 *
 * - Errors. Every function that can fail returns 0 (or a count >= 0) or a
 *   negative bcfs code. bcfs_errno() maps a code to a positive errno,
 *   bcfs_strerror() to a text. Functions with `msg` also write one line (no
 *   newline) that names the device and says what to do; msg may be NULL.
 * - Units. Bytes unless the name says otherwise; sectors are 512 bytes.
 * - Ownership. The caller owns every buffer and string it passes; the library
 *   keeps no pointer to them after the call. Results (`ret`) are written on
 *   success only.
 * - Threads. All operations on one `struct bcfs` may be called from any number
 *   of threads at once; bcfs_open, bcfs_close and bcfs_abort must not overlap
 *   with other calls on the same one. Several filesystems may be open at once.
 * - Options. The structs of options are passed zeroed but for what is wanted:
 *   zero is the default of every field. struct_size is sizeof() of the caller's
 *   struct, so that fields can be added at the end.
 * - Lookup references. Calls that return a `struct bcfs_stat` for a name
 *   (lookup, create, mkdir, symlink, link, tmpfile, readdir with attributes)
 *   take one lookup reference on the inode; bcfs_forget() drops them. An inode
 *   without links lives until its references are gone, then it is reaped. The
 *   root needs no reference. getattr and setattr take none.
 * - Names are NUL-terminated, 1 to 255 bytes, without '/'.
 * - Nothing here checks permissions: the caller (the kernel, for FUSE) does.
 */
#ifndef BCFS_BCFS_H
#define BCFS_BCFS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

struct bcfs;

/* Receives text in pieces of any length; lines end in '\n'. */
typedef void (*bcfs_out_fn)(void *arg, const char *text);

const char *bcfs_version(void);
/* Text of a code, never NULL. */
const char *bcfs_strerror(int code);
/* The positive errno of a code (either sign); 0 for 0. */
int bcfs_errno(int code);

/*
 * Text that somebody else wrote, such as a label, made fit for a terminal, up to a NUL or `len`
 * bytes: UTF-8 stays readable; control characters, what is no UTF-8, quotes and backslashes become
 * C escapes, of up to four bytes for one. What does not fit into ret is cut off.
 */
void bcfs_escape(const char *text, size_t len, char *ret, size_t size);

/*
 * Has fn(arg) called, once, before this thread next waits inside the library for anything but
 * memory: the device, the journal, a file that another thread has locked. NULL: not any more. fn
 * must not call the library.
 */
void bcfs_thread_on_wait(void (*fn)(void *arg), void *arg);

/* ---- open and close ---- */

enum bcfs_io_engine {
	BCFS_IO_AUTO,
	BCFS_IO_URING,
	BCFS_IO_THREADS,
};

/* What to do when metadata is damaged. */
enum bcfs_on_error {
	BCFS_ON_ERROR_DEFAULT, /* what the superblock says: ro, unless changed */
	BCFS_ON_ERROR_RO,
	BCFS_ON_ERROR_CONTINUE,
	BCFS_ON_ERROR_PANIC,
};

enum bcfs_switch {
	BCFS_DEFAULT,
	BCFS_ON,
	BCFS_OFF,
};

enum bcfs_log_level {
	BCFS_LOG_ERR,
	BCFS_LOG_WARNING,
	BCFS_LOG_NOTICE,
	BCFS_LOG_INFO,
	BCFS_LOG_DEBUG,
};

/* One line without a newline. May be called from any thread of the library. */
typedef void (*bcfs_log_fn)(void *arg, enum bcfs_log_level level, const char *line);

enum bcfs_secret_type {
	BCFS_SECRET_PASSPHRASE = 1, /* 1 to 4096 bytes; all count, a newline too */
	BCFS_SECRET_KEY_FILE = 2,   /* the whole content of one: random, 32 bytes to 8 MiB */
};

/*
 * What opens an encrypted filesystem. The bytes are the caller's, who keeps them out of swap and
 * core dumps, and wipes them; they are not looked at after the call that they were given to.
 */
struct bcfs_secret {
	uint8_t type; /* enum bcfs_secret_type */
	const void *p;
	size_t len;
};

struct bcfs_open_opts {
	size_t struct_size;
	uint8_t read_only;  /* nothing is written to the device */
	uint8_t norecovery; /* with read_only: do not read the journal (a stale view) */
	uint8_t io;	    /* enum bcfs_io_engine */
	uint8_t direct;	    /* enum bcfs_switch: O_DIRECT, where the file can */
	uint8_t on_error;   /* enum bcfs_on_error */
	uint8_t discard;    /* enum bcfs_switch */
	uint8_t noatime;    /* the library updates no access times */
	uint8_t verbose;
	uint64_t cache_bytes;		 /* of btree nodes; 0: a share of the memory */
	uint32_t journal_flush_delay_ms; /* longest time until data is on the device; 0: 1000 */
	uint32_t nr_threads;		 /* for I/O and checksums; 0: by the number of CPUs */
	/*
	 * How long to wait for a device that another process has locked but not
	 * mounted (a daemon that is still closing it); 0: not at all. A notice is
	 * logged when the wait begins. A device that is mounted is refused at once.
	 */
	uint32_t wait_lock_ms;
	bcfs_log_fn log;
	void *log_arg;
	/*
	 * For tests: fault points to arm, "name:nth" and more (doc/hacking.md), or NULL. Refused by
	 * a library built without.
	 */
	const char *inject;
	/*
	 * For debugging: a file that gets all writes to the device, in the format of dm-log-writes,
	 * or NULL. Refused by a library built without.
	 */
	const char *write_log;
	/*
	 * New inodes of the first subvolume get numbers below 2^32, for old programs; those that
	 * are there keep theirs.
	 */
	uint8_t inodes_32bit;
	/* Access times, where noatime is not set: at every read, instead of as relatime; not of
	 * directories. */
	uint8_t strictatime, nodiratime;
	/* Of new data where no file says otherwise: "none", "TYPE", "TYPE:LEVEL"; NULL: as made. */
	const char *compression;
	/*
	 * Of an encrypted filesystem, NULL of any other. Who gives one is refused a filesystem that
	 * is not encrypted: somebody may have put it there. bcfs_reopen() needs none.
	 */
	const struct bcfs_secret *secret;
	/* What they become in the background, ditto. */
	const char *background_compression;
	/*
	 * Checksums of what is written from now on, as of bcfs_mkfs(); NULL: as made. Not of an
	 * encrypted filesystem.
	 */
	const char *metadata_csum, *data_csum;
};

/*
 * Opens the filesystem, with recovery if it was not closed cleanly. The device
 * is locked until bcfs_close(). On failure nothing was written. ENOKEY: it is encrypted, and no
 * secret was given; EKEYREJECTED: a wrong one; EUCLEAN: it was tampered with, or is damaged.
 */
int bcfs_open(const char *path, const struct bcfs_open_opts *opts, struct bcfs **ret, char *msg,
	      size_t msg_size);

/*
 * Reaps unlinked inodes whatever their references, writes everything, marks the
 * filesystem clean and closes the device. On a full device some may be in the journal alone: then
 * it is not marked, and the next open replays that. fs is gone afterwards, also on error; an error
 * says that not everything reached the device (or that errors met earlier left it in need of fsck).
 */
int bcfs_close(struct bcfs *fs);

/*
 * Closes the filesystem and opens it again on the same device, which stays locked, with other
 * options: those of the device itself (io, direct, nr_threads, inject, write_log) stay as they
 * were. Lookup references are kept. It must not overlap with other calls on *fs, which is replaced.
 * From read-only to read-write the device must allow it: EROFS, EACCES; EBUSY: others read it, or
 * removed files are still referenced. If this fails, it is opened as it was before; if that fails
 * too, *fs is NULL. Where only closing failed, as bcfs_close() does, that is the error, and the
 * new options hold.
 */
int bcfs_reopen(struct bcfs **fs, const struct bcfs_open_opts *opts, char *msg, size_t msg_size);

/*
 * Gives up what keeps the kernel from mounting the block device (the lock stays), for the moment of
 * a mount(2) that claims it; or takes it again. EBUSY: something else has it.
 */
int bcfs_claim(struct bcfs *fs, int on);

/* Closes the device and writes nothing more: the next open sees a crash. For tests. */
void bcfs_abort(struct bcfs *fs);

enum bcfs_shutdown_mode {
	BCFS_SHUTDOWN_SYNC,  /* first everything is made durable */
	BCFS_SHUTDOWN_FLUSH, /* the same: what this library has been told of */
	BCFS_SHUTDOWN_NOW,   /* what is not durable is lost, as if the power failed */
};

/*
 * Stops everything: nothing is written to the device any more, and changes answer EIO. What is left
 * to do is bcfs_abort(). May be called while other calls are under way, and twice.
 */
int bcfs_shutdown(struct bcfs *fs, enum bcfs_shutdown_mode mode);

/* True once an error has made the filesystem read-only, or when it was opened so. */
int bcfs_is_read_only(const struct bcfs *fs);

/* ---- files ---- */

#define BCFS_INUM_SHIFT 40

/* Names a file wherever one is named. inum < 2^40, subvol < 2^23. */
struct bcfs_ino {
	uint32_t subvol;
	uint64_t inum;
};

/* One number for both, the same across mounts: the handle of a file. */
static inline uint64_t bcfs_ino_pack(struct bcfs_ino ino)
{
	return (uint64_t)ino.subvol << BCFS_INUM_SHIFT | ino.inum;
}

static inline struct bcfs_ino bcfs_ino_unpack(uint64_t nr)
{
	struct bcfs_ino ino = {
		.subvol = (uint32_t)(nr >> BCFS_INUM_SHIFT),
		.inum = nr & ((UINT64_C(1) << BCFS_INUM_SHIFT) - 1),
	};

	return ino;
}

struct bcfs_ino bcfs_root(const struct bcfs *fs);

struct bcfs_time {
	int64_t sec;   /* since 1970 */
	uint32_t nsec; /* 0 to 999,999,999 */
};

/* Inode flags, for bcfs_stat.flags and BCFS_SET_FLAGS. */
#define BCFS_FL_SYNC	    (1U << 0)
#define BCFS_FL_IMMUTABLE   (1U << 1)
#define BCFS_FL_APPEND	    (1U << 2)
#define BCFS_FL_NODUMP	    (1U << 3)
#define BCFS_FL_NOATIME	    (1U << 4)
#define BCFS_FL_DIRSYNC	    (1U << 5)
#define BCFS_FL_PROJINHERIT (1U << 6)

struct bcfs_stat {
	struct bcfs_ino ino;
	uint32_t generation; /* tells uses of one inode number apart */
	uint32_t mode;	     /* type and permissions, as st_mode */
	uint32_t nlink;
	uint32_t uid, gid;
	uint32_t project;
	uint32_t flags;			 /* BCFS_FL_* */
	uint32_t blksize;		 /* bytes */
	uint32_t rdev_major, rdev_minor; /* of special files */
	uint64_t size;			 /* bytes */
	uint64_t blocks;		 /* of 512 bytes */
	struct bcfs_time atime, mtime, ctime, btime;
};

/* Who creates a file: its owner, unless the directory says otherwise. */
struct bcfs_cred {
	uint32_t uid, gid;
	/*
	 * Taken off the mode of a new file where the directory has no default ACL
	 * (with one, the ACL decides).
	 */
	uint32_t umask;
};

#define BCFS_SET_MODE	   (1U << 0)
#define BCFS_SET_UID	   (1U << 1)
#define BCFS_SET_GID	   (1U << 2)
#define BCFS_SET_SIZE	   (1U << 3)
#define BCFS_SET_ATIME	   (1U << 4)
#define BCFS_SET_MTIME	   (1U << 5)
#define BCFS_SET_CTIME	   (1U << 6)
#define BCFS_SET_ATIME_NOW (1U << 7)
#define BCFS_SET_MTIME_NOW (1U << 8)
#define BCFS_SET_FLAGS	   (1U << 9)
#define BCFS_SET_PROJECT   (1U << 10)
/*
 * Of anything but a directory: clear set-user-ID, set-group-ID if
 * group-executable, and security.capability, as write(2), truncate(2) and
 * chown(2) of a caller without CAP_FSETID do.
 */
#define BCFS_SET_KILL_PRIV (1U << 11)
/* The caller keeps these times himself: of an inode without a name they need not be stored. */
#define BCFS_SET_KEPT (1U << 12)

/*
 * Attributes. ctime becomes now, unless BCFS_SET_CTIME gives it. Setting the
 * size truncates or extends, and sets mtime unless that is given too.
 */
int bcfs_getattr(struct bcfs *fs, struct bcfs_ino ino, struct bcfs_stat *ret);
int bcfs_setattr(struct bcfs *fs, struct bcfs_ino ino, const struct bcfs_stat *attr, uint32_t mask,
		 struct bcfs_stat *ret);

/*
 * ENOENT: no such name. "." and ".." are looked up too (for file handles): the
 * inode itself, which need not be a directory then, and the directory's parent.
 */
int bcfs_lookup(struct bcfs *fs, struct bcfs_ino dir, const char *name, struct bcfs_stat *ret);

/* Drops n lookup references. */
void bcfs_forget(struct bcfs *fs, struct bcfs_ino ino, uint64_t n);
/* Drops all lookup references of all inodes. */
void bcfs_forget_all(struct bcfs *fs);
/*
 * @fn for each inode that has lookup references, with no lock held; of those that come or go
 * meanwhile for some. Out of memory: not for all.
 */
int bcfs_for_each_known(struct bcfs *fs, void (*fn)(void *arg, struct bcfs_ino ino), void *arg);

/*
 * New names; each is one transaction. EEXIST, ENOENT (the directory was
 * removed), ENOTDIR, ENAMETOOLONG, ENOSPC, EMLINK. mode includes the type for
 * mknod, which makes regular files too (rdev_* are for devices alone).
 * set-group-ID of the directory and default ACLs are inherited.
 */
int bcfs_mknod(struct bcfs *fs, struct bcfs_ino dir, const char *name, uint32_t mode,
	       uint32_t rdev_major, uint32_t rdev_minor, const struct bcfs_cred *cred,
	       struct bcfs_stat *ret);
int bcfs_mkdir(struct bcfs *fs, struct bcfs_ino dir, const char *name, uint32_t mode,
	       const struct bcfs_cred *cred, struct bcfs_stat *ret);
int bcfs_symlink(struct bcfs *fs, struct bcfs_ino dir, const char *name, const char *target,
		 const struct bcfs_cred *cred, struct bcfs_stat *ret);
/* A regular file without a name, linked nowhere until bcfs_link(). dir: for inheritance. */
int bcfs_tmpfile(struct bcfs *fs, struct bcfs_ino dir, uint32_t mode, const struct bcfs_cred *cred,
		 struct bcfs_stat *ret);
int bcfs_link(struct bcfs *fs, struct bcfs_ino ino, struct bcfs_ino dir, const char *name,
	      struct bcfs_stat *ret);

/* Length of the target; it is written to buf without a NUL, cut at size. */
int64_t bcfs_readlink(struct bcfs *fs, struct bcfs_ino ino, char *buf, size_t size);

int bcfs_unlink(struct bcfs *fs, struct bcfs_ino dir, const char *name);
int bcfs_rmdir(struct bcfs *fs, struct bcfs_ino dir, const char *name);

#define BCFS_RENAME_NOREPLACE (1U << 0)
#define BCFS_RENAME_EXCHANGE  (1U << 1)
/* In the place of the old name a character device 0:0 is left, of the same owner. */
#define BCFS_RENAME_WHITEOUT (1U << 2)

int bcfs_rename(struct bcfs *fs, struct bcfs_ino olddir, const char *oldname,
		struct bcfs_ino newdir, const char *newname, uint32_t flags);

struct bcfs_dir_entry {
	const char *name; /* with a NUL behind it; valid during the callback */
	uint32_t name_len;
	uint8_t type;		      /* DT_* of dirent.h */
	struct bcfs_ino ino;	      /* of "..": the parent, of the root: the root */
	uint64_t cookie;	      /* where the next call goes on, behind this entry */
	const struct bcfs_stat *stat; /* with BCFS_READDIR_PLUS, but for "." and ".." */
};

/*
 * Takes one entry; anything but 0 stops, and that entry counts as not returned.
 * It is called with no lock held, and may call back into the library.
 */
typedef int (*bcfs_dir_fn)(void *arg, const struct bcfs_dir_entry *entry);

#define BCFS_READDIR_PLUS                                                                          \
	(1U << 0) /* with attributes; a reference is taken on each entry accepted */
#define BCFS_READDIR_NOATIME (1U << 1) /* the access time stays as it is */

/*
 * Entries behind `cookie` (0: from the start, with "." and ".." first). Cookies
 * stay good while the directory changes: a name that is there throughout is
 * returned exactly once.
 */
int bcfs_readdir(struct bcfs *fs, struct bcfs_ino dir, uint64_t cookie, uint32_t flags,
		 bcfs_dir_fn fn, void *arg);

/* ---- data ---- */

/* Bytes read: fewer than asked only at the end of the file. EIO: a bad range within. */
int64_t bcfs_read(struct bcfs *fs, struct bcfs_ino ino, uint64_t offset, void *buf, size_t len);
/* The same, and the access time stays as it is. */
int64_t bcfs_read_noatime(struct bcfs *fs, struct bcfs_ino ino, uint64_t offset, void *buf,
			  size_t len);

#define BCFS_WRITE_KILL_PRIV  (1U << 0) /* as BCFS_SET_KILL_PRIV */
#define BCFS_WRITE_KEEP_TIMES (1U << 1) /* mtime and ctime are the caller's to set */

/* Bytes written: len, or fewer where space ran out part way; the next call says why. */
int64_t bcfs_write(struct bcfs *fs, struct bcfs_ino ino, uint64_t offset, const void *buf,
		   size_t len, uint32_t flags);

/* Flags as of fallocate(2), by value; with none, space is allocated and the file grows. */
#define BCFS_FALLOC_KEEP_SIZE	   0x01U
#define BCFS_FALLOC_PUNCH_HOLE	   0x02U
#define BCFS_FALLOC_COLLAPSE_RANGE 0x08U
#define BCFS_FALLOC_ZERO_RANGE	   0x10U
#define BCFS_FALLOC_INSERT_RANGE   0x20U
/* Ours: mtime and ctime are the caller's to set. */
#define BCFS_FALLOC_KEEP_TIMES (1U << 16)

int bcfs_fallocate(struct bcfs *fs, struct bcfs_ino ino, uint32_t mode, uint64_t offset,
		   uint64_t len);

/* The next data (or hole) at or behind offset; ENXIO when there is none. */
int64_t bcfs_seek_data(struct bcfs *fs, struct bcfs_ino ino, uint64_t offset);
int64_t bcfs_seek_hole(struct bcfs *fs, struct bcfs_ino ino, uint64_t offset);

/*
 * Bytes copied, fewer than len at the end of the source. EINVAL: overlapping ranges.
 * flags: BCFS_WRITE_*, of the destination.
 */
int64_t bcfs_copy_range(struct bcfs *fs, struct bcfs_ino src, uint64_t src_offset,
			struct bcfs_ino dst, uint64_t dst_offset, uint64_t len, uint32_t flags);

/*
 * Where the two ranges have the same bytes, let them share the space. Offsets are multiples of the
 * block size (EINVAL). How many bytes are shared, from the beginning on: as many whole blocks as
 * are the same, and the last of both files. Nothing but st_blocks tells afterwards.
 */
int64_t bcfs_dedupe_range(struct bcfs *fs, struct bcfs_ino src, uint64_t src_offset,
			  struct bcfs_ino dst, uint64_t dst_offset, uint64_t len);

/*
 * All that was done to the file before (names included) is on the device when it returns; and all
 * that was done to any other.
 */
int bcfs_fsync(struct bcfs *fs, struct bcfs_ino ino, int datasync);
/* The same for the whole filesystem. */
int bcfs_sync(struct bcfs *fs);

/* ---- extended attributes ---- */

/*
 * Full names ("user.x"). The size of the value (or of the list: names with
 * their NULs, one behind the other); size 0 asks for it alone, ERANGE: larger
 * than size. ENODATA: no such attribute. EOPNOTSUPP: an unknown namespace.
 */
int64_t bcfs_getxattr(struct bcfs *fs, struct bcfs_ino ino, const char *name, void *value,
		      size_t size);
int64_t bcfs_listxattr(struct bcfs *fs, struct bcfs_ino ino, char *list, size_t size);

#define BCFS_XATTR_CREATE    (1U << 0) /* EEXIST if it is there */
#define BCFS_XATTR_REPLACE   (1U << 1) /* ENODATA if it is not */
#define BCFS_XATTR_KILL_SGID (1U << 2) /* setting an access ACL clears set-group-ID */

int bcfs_setxattr(struct bcfs *fs, struct bcfs_ino ino, const char *name, const void *value,
		  size_t size, uint32_t flags);
int bcfs_removexattr(struct bcfs *fs, struct bcfs_ino ino, const char *name);

/* ---- the filesystem as a whole ---- */

struct bcfs_statfs {
	uint32_t block_bytes;
	uint64_t blocks;       /* of block_bytes, from here on */
	uint64_t blocks_free;  /* including what is reserved for the filesystem itself */
	uint64_t blocks_avail; /* what users can write */
	uint64_t files;	       /* in use */
	uint64_t files_free;
	uint32_t name_max;
	uint8_t uuid[16];
};

int bcfs_statfs(struct bcfs *fs, struct bcfs_statfs *ret);

/*
 * Tells the device of all free space within bytes [start, start + len) that lies in pieces of at
 * least `least` bytes. *ret: bytes told of, also on an error. EOPNOTSUPP: the device cannot.
 */
int bcfs_trim(struct bcfs *fs, uint64_t start, uint64_t len, uint64_t least, uint64_t *ret);

struct bcfs_usage {
	uint64_t capacity; /* bytes, from here on */
	uint64_t data;	   /* of files */
	uint64_t btree;	   /* btree nodes */
	uint64_t journal;
	uint64_t sb;	   /* superblocks */
	uint64_t reserved; /* promised, not yet allocated */
	uint64_t free;
	uint64_t nr_inodes;
};

int bcfs_usage(struct bcfs *fs, struct bcfs_usage *ret);

/* Counters since open: "name value" a line, for people; or one by one. Names are stable. */
void bcfs_counters_to_text(struct bcfs *fs, bcfs_out_fn out, void *arg);
void bcfs_counters(struct bcfs *fs, void (*fn)(void *arg, const char *name, uint64_t value),
		   void *arg);

/*
 * Errors of the device and of file data, for people: a line for each kind, how many, then one for
 * each of the last places, with the path of the file. It reads btrees: not from a log function.
 */
void bcfs_errors_to_text(struct bcfs *fs, bcfs_out_fn out, void *arg);

/*
 * Rebalance: data are rewritten in the background as they are to be (option
 * background_compression). What it does and what there is to do, for people: it reads btrees.
 */
void bcfs_rebalance_to_text(struct bcfs *fs, bcfs_out_fn out, void *arg);
/* Until it is resumed, or the filesystem is opened again. */
int bcfs_rebalance_pause(struct bcfs *fs, int pause);
/*
 * What a file has already is to become as its options say, too; what was to become something else
 * is not any more. *ret (may be NULL): bytes of the file that are to be rewritten now and were not
 * before. Begun again after an error or a crash, it goes on where it was.
 */
int bcfs_rebalance_scan(struct bcfs *fs, struct bcfs_ino ino, uint64_t *ret);

struct bcfs_info {
	uint8_t uuid[16];
	char label[33];
	uint16_t version, version_min; /* major << 10 | minor */
	uint32_t block_bytes, node_bytes, bucket_bytes;
	uint64_t size_bytes; /* that the filesystem uses of the device */
	uint64_t nr_buckets;
	uint64_t journal_bytes;
	uint8_t clean;	   /* closed cleanly */
	uint8_t has_error; /* an error was met: fsck is due */
	uint8_t encrypted; /* opens with a secret only */
};

void bcfs_get_info(const struct bcfs *fs, struct bcfs_info *ret);

/* Durable when it returns. EINVAL: more than 32 bytes, control characters, or not UTF-8. */
int bcfs_set_label(struct bcfs *fs, const char *label);

/*
 * Is there a bcfs on the device, and which? Reads the superblock without a
 * lock, so it answers for a mounted one too, and writes nothing. An error with
 * EINVAL: not a bcfs.
 */
int bcfs_probe(const char *path, struct bcfs_info *ret, char *msg, size_t msg_size);

/*
 * Waits until no process has the device locked. 0; EBUSY when timeout_ms passed
 * first (0: only asks).
 */
int bcfs_wait_unlocked(const char *path, uint32_t timeout_ms);

/* "TYPE[:LEVEL]"; EINVAL: msg says what there is. */
int bcfs_compression_check(const char *text, char *msg, size_t msg_size);

/* Where the device or image is mounted, as far as this process sees; ENOENT: nowhere. */
int bcfs_mount_point(const char *path, char *ret, size_t size);

/* ---- mkfs ---- */

#define BCFS_INLINE_NONE UINT32_MAX

struct bcfs_mkfs_opts {
	size_t struct_size;
	const char *label;	     /* up to 32 bytes; NULL: none */
	const uint8_t *uuid;	     /* 16 bytes; NULL: random */
	uint32_t block_bytes;	     /* 512 to 65536, a power of two; 0: 4096 */
	uint32_t node_bytes;	     /* of btree nodes; 0: 256 KiB, or a bucket if that is less */
	uint64_t bucket_bytes;	     /* 0: by the size of the device */
	uint64_t journal_bytes;	     /* 0: by the size of the device */
	uint64_t size_bytes;	     /* of a new or resized image file; 0: as it is */
	const char *metadata_csum;   /* "crc32c", "crc64", "xxh3"; NULL: crc32c */
	const char *data_csum;	     /* and "none" */
	const char *compression;     /* "none", "zstd", "zstd:LEVEL", "lz4", ...; NULL: none */
	uint32_t csum_chunk_bytes;   /* 4 KiB to 64 KiB; 0: 16 KiB, 8 if encrypted */
	uint32_t extent_max_bytes;   /* longest extent; 0: 128 KiB */
	uint32_t inline_max_bytes;   /* kept in a key; 0: 1536 or what fits; BCFS_INLINE_NONE */
	uint32_t root_uid, root_gid; /* owner of the root directory, mode 0755 */
	uint8_t on_error;	     /* enum bcfs_on_error: the default of mounts */
	uint8_t discard; /* enum bcfs_switch: discard the device first, and when mounted */
	uint8_t force;	 /* over an existing bcfs */
	uint8_t dry_run; /* all checks, nothing written (no image created) */
	bcfs_log_fn log;
	void *log_arg;
	/*
	 * NULL: not encrypted. Then the checksums are not to be chosen. What a guess at a
	 * passphrase costs, with Argon2id: passes, 0: 3; bytes of memory, 0: 256 MiB.
	 */
	const struct bcfs_secret *secret;
	uint32_t kdf_passes;
	uint64_t kdf_bytes;
	const char *background_compression; /* as compression */
};

/*
 * Makes a filesystem with an empty root directory. Refuses what is too small
 * (the message has the least size), blocks smaller than the device's logical
 * sectors, devices in use, and an existing bcfs without `force`. Foreign
 * filesystems are the caller's to recognise and to wipe. ret may be NULL.
 */
int bcfs_mkfs(const char *path, const struct bcfs_mkfs_opts *opts, struct bcfs_info *ret, char *msg,
	      size_t msg_size);

/* ---- check ---- */

enum bcfs_check_level {
	BCFS_CHECK_INFO,
	BCFS_CHECK_ERROR, /* damage, left as it is */
	BCFS_CHECK_FIXED,
};

struct bcfs_check_opts {
	size_t struct_size;
	uint8_t io; /* enum bcfs_io_engine */
	uint8_t verbose;
	uint64_t cache_bytes; /* as in bcfs_open_opts */
	uint32_t nr_threads;
	uint32_t wait_lock_ms;
	bcfs_log_fn log;
	void *log_arg;

	/* One line of report from a pass. */
	void (*report)(void *arg, enum bcfs_check_level level, const char *pass, const char *text);
	/* done of total units of pass nr (of nr_passes); anything but 0 cancels the check. */
	int (*progress)(void *arg, const char *pass, uint32_t nr, uint32_t nr_passes, uint64_t done,
			uint64_t total);
	void *arg; /* of report and progress */
	/*
	 * If no error is found and the mark that a check is due is set, take it away: all that a
	 * check ever writes.
	 */
	uint8_t clear_mark;
	const struct bcfs_secret *secret; /* as in bcfs_open_opts */
};

struct bcfs_check_result {
	uint64_t errors; /* found and not repaired */
	uint64_t fixed;
	uint8_t was_clean; /* closed cleanly; 0: the next mount recovers what a crash left */
	uint8_t cancelled;
	uint64_t inodes, dirents, xattrs, extents, btree_nodes;
	uint64_t data_bytes, metadata_bytes;
	uint64_t files, directories, symlinks, special;
	uint8_t marked; /* an error was met since the last check, and the mark is still there */
	uint8_t mark_cleared;
};

/*
 * Checks everything, read-only (but see clear_mark): superblocks, journal, every btree node and
 * key, topology, extents against allocation, names against inodes, accounting. After a crash the
 * journal is replayed in memory. 0 when the check could be done, whatever it found.
 */
int bcfs_check(const char *path, const struct bcfs_check_opts *opts, struct bcfs_check_result *ret,
	       char *msg, size_t msg_size);

/* ---- keys ---- */

#define BCFS_KEY_SLOTS_MAX   16
#define BCFS_KEY_SLOT_OPENED UINT32_MAX

struct bcfs_key_opts {
	size_t struct_size;
	const struct bcfs_secret *secret; /* that opens it now */
	/* What a guess at a new passphrase costs, as in bcfs_mkfs_opts. */
	uint32_t kdf_passes;
	uint32_t wait_lock_ms;
	uint64_t kdf_bytes;
	bcfs_log_fn log;
	void *log_arg;
};

struct bcfs_key_slot {
	uint32_t slot;	     /* number */
	uint32_t type;	     /* enum bcfs_secret_type */
	uint32_t kdf_passes; /* 0 of a key file, as is the next */
	uint64_t kdf_bytes;
};

/*
 * Each slot opens an encrypted filesystem by a passphrase or key file of its own. These write
 * nothing but the superblock, of a device that is not in use. ENOSPC: all slots are in use; ENOENT:
 * no such slot; EPERM: the last one cannot be removed; and errors of bcfs_open().
 */
int bcfs_key_add(const char *path, const struct bcfs_key_opts *opts,
		 const struct bcfs_secret *secret, uint32_t *ret_slot, char *msg, size_t msg_size);
int bcfs_key_remove(const char *path, const struct bcfs_key_opts *opts, uint32_t slot, char *msg,
		    size_t msg_size);
/* Another secret for a slot; BCFS_KEY_SLOT_OPENED: for that which opts->secret opens. */
int bcfs_key_change(const char *path, const struct bcfs_key_opts *opts, uint32_t *slot,
		    const struct bcfs_secret *secret, char *msg, size_t msg_size);
enum bcfs_key_op {
	BCFS_KEY_ADD,
	BCFS_KEY_REMOVE,
	BCFS_KEY_CHANGE,
};

/*
 * The same on a filesystem that is open: of *opts the secret and the cost. secret: the new one, not
 * to remove. *slot: which (but of an added one), and which it was. EROFS, too.
 */
int bcfs_key_apply(struct bcfs *fs, enum bcfs_key_op op, const struct bcfs_key_opts *opts,
		   const struct bcfs_secret *secret, uint32_t *slot);
/* The slots in use, mounted or not: no secret is needed. */
int bcfs_key_list(const char *path, struct bcfs_key_slot *ret, uint32_t max, uint32_t *ret_nr,
		  char *msg, size_t msg_size);

#define BCFS_KEY_SECRETS_MAX 16

/*
 * A new master key, while the filesystem is in use: what is written from now on is encrypted with
 * it, and in the background (also in later mounts, until it is done) all that is there, so that the
 * old one is of no use any more. Each slot that is to stay has to be opened by one of the secrets;
 * the others are removed if drop_others is set. EPERM: a slot would be lost; EKEYREJECTED: a secret
 * opens none; EBUSY: the 7 older keys that there may be are still in use; ENOBUFS: since it was
 * opened there were 15 already, close it first; EOVERFLOW: 65535 ever; EAGAIN: the slots were
 * changed meanwhile; ENOMEM; EINVAL: it is not encrypted.
 */
int bcfs_key_rotate(struct bcfs *fs, const struct bcfs_secret *secrets, uint32_t nr,
		    int drop_others);
/* How many master keys are in use: 1 when all is encrypted with the newest. 0: not encrypted. */
uint32_t bcfs_key_generations(const struct bcfs *fs);

/* ---- options of the filesystem ---- */

/*
 * What mkfs has stored in the superblock: data-checksum, metadata-checksum, compression,
 * background-compression, errors ("ro", "continue", "panic"), label; the others with values as of
 * struct bcfs_mkfs_opts. As text they are lines "NAME=VALUE", with '\n' or NUL behind the last.
 * What is set holds for what is written from then on, for good; all of the text or, on an error,
 * nothing of it. EINVAL: an unknown name or value (the message says what there is), or a checksum
 * of an encrypted filesystem.
 */
/* Names and values alone; the message names no device. */
int bcfs_fs_options_check(const char *text, char *msg, size_t msg_size);
/*
 * On a device that is not in use, whether or not it was closed cleanly: only the superblock is
 * written. Of *opts the secret, the wait and the log; NULL: none. Errors of bcfs_open(), and EIO.
 */
int bcfs_fs_options_set(const char *path, const struct bcfs_key_opts *opts, const char *text,
			char *msg, size_t msg_size);
/*
 * On one that is open. What it was opened with goes before, as long as it is. It must not overlap
 * with other calls on *fs, which is replaced where a checksum changes, as by bcfs_reopen(): with
 * EBUSY nothing has changed; of its other errors the new values hold. EROFS, and EIO: the
 * superblock could not be written.
 */
int bcfs_fs_options_apply(struct bcfs **fs, const char *text, char *msg, size_t msg_size);
/*
 * What the superblock has, in the order above; of a device, mounted or not (no secret is needed),
 * or of an open filesystem. The label is escaped as by bcfs_escape(); of an encrypted filesystem
 * the checksums are what authenticates it.
 */
int bcfs_fs_options_read(const char *path, bcfs_out_fn out, void *arg, char *msg, size_t msg_size);
void bcfs_fs_options_to_text(struct bcfs *fs, bcfs_out_fn out, void *arg);

/* ---- dump ---- */

enum bcfs_dump_mode {
	BCFS_DUMP_KEYS,	 /* one key a line */
	BCFS_DUMP_NODES, /* one node a line: position, sequence, size, place */
	BCFS_DUMP_BSETS, /* per node: bsets, packed format, statistics of the aux trees */
};

struct bcfs_dump_opts {
	size_t struct_size;
	const char *btree; /* by name; NULL: all */
	const char *start; /* positions "inode:offset:snapshot", or the first parts; NULL: all */
	const char *end;
	uint64_t limit; /* of lines or nodes; 0: none */
	uint8_t mode;	/* enum bcfs_dump_mode, of bcfs_dump_btree */
	uint8_t all; /* every copy of the superblock; every key of the journal; free buckets too */
	/*
	 * Read a device that another process has locked: the view may be torn, and
	 * what looks damaged may not be.
	 */
	uint8_t no_lock;
	uint32_t wait_lock_ms;
	bcfs_log_fn log;
	void *log_arg;
	/* As in bcfs_open_opts; bcfs_dump_superblock() needs none. */
	const struct bcfs_secret *secret;
};

/* Text through `out`; nothing is written to the device. opts may be NULL. */
int bcfs_dump_superblock(const char *path, const struct bcfs_dump_opts *opts, bcfs_out_fn out,
			 void *arg, char *msg, size_t msg_size);
int bcfs_dump_journal(const char *path, const struct bcfs_dump_opts *opts, bcfs_out_fn out,
		      void *arg, char *msg, size_t msg_size);
int bcfs_dump_btree(const char *path, const struct bcfs_dump_opts *opts, bcfs_out_fn out, void *arg,
		    char *msg, size_t msg_size);
int bcfs_dump_buckets(const char *path, const struct bcfs_dump_opts *opts, bcfs_out_fn out,
		      void *arg, char *msg, size_t msg_size);
/* A piece of an image of the device; not 0: it cannot be written. */
typedef int (*bcfs_image_fn)(void *arg, uint64_t offset, const void *buf, size_t len);
/*
 * All but the data of files: superblocks, journal, btree nodes, as they are on the device (so, of
 * an encrypted filesystem, encrypted) and where they are. It has to be closed cleanly. *ret_size:
 * of the device, bytes.
 */
int bcfs_dump_image(const char *path, const struct bcfs_dump_opts *opts, bcfs_image_fn fn,
		    void *arg, uint64_t *ret_size, char *msg, size_t msg_size);
/* Names of the btrees, by number; NULL behind the last. */
const char *bcfs_btree_name(unsigned int nr);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
