/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opening, recovering, closing, making, checking and printing a filesystem: the one
 * layer that sees all others.
 *
 * Order of opening: device, superblock, objects of every layer, roots and counters (from the clean
 * section or the journal), replay, allocator, snapshots, fs; then what a crash left unfinished.
 * Closing is the reverse. A read-only open runs the same code on an overlay device
 * (dev/overlay_bdev.h), so that recovery happens in memory and nothing is written.
 *
 * The clean section stays in the superblock while mounted, only its flag goes: it is the state
 * that counts until the first flush entry of this mount is durable.
 */
#ifndef BCFS_CORE_CORE_H
#define BCFS_CORE_CORE_H

#include "fs/fs.h"
#include "journal/journal.h"
#include "sb/sb_crypt.h"
#include "util/printbuf.h"

#include <stdatomic.h>

#define CORE_MSG_SIZE 512

struct core_opts {
	bool read_only;
	bool norecovery;
	bool for_check;	    /* go on where a mount would refuse */
	bool no_background; /* nothing that discards or merges */
	u8 on_error;	    /* enum bcfs_on_error */
	u8 discard;	    /* enum bcfs_switch */
	bool no_gather;	    /* small writes go out by themselves */
	bool noatime, strictatime, nodiratime;
	bool inodes_32bit;
	bool compression_given;
	u16 compression; /* compression_opt() */
	bool background_compression_given;
	u16 background_compression;
	bool meta_csum_given, data_csum_given;
	unsigned meta_csum, data_csum; /* enum bcfs_csum_type */
	u64 cache_bytes;
	u32 journal_flush_delay_ms;
	/*
	 * Of an encrypted filesystem: a secret (p NULL: none), or the keys of one that was open.
	 * The caller's, who may take them away when it is open.
	 */
	struct crypt_secret secret;
	const struct keyring *keys;
};

/* Where data were bad. */
struct core_error {
	int err;
	u32 snapshot;
	u64 inum;		      /* 0: not one file's */
	u64 offset, len;	      /* bytes */
	u64 count, first_ns, last_ns; /* since 1970 */
};
#define CORE_ERROR_ROWS 256U

/* One open filesystem: struct bcfs, and what only this layer needs. */
struct core {
	struct bcfs fs; /* first */
	struct core_opts opts;
	struct log log;
	bcfs_log_fn user_log;
	void *user_log_arg;
	/* The first error line, for `msg` while opening: any thread may have one. */
	struct env_mutex last_err_lock;
	char last_err[CORE_MSG_SIZE]; /* last_err_lock */
	atomic_bool opening;
	const char *doing;	/* opening has come to this; NULL: its messages say what to do */
	struct bdev *real_bdev; /* under the overlay, or the same as fs.bdev */
	bool owns_env;
	struct bkey_ops_table key_ops;
	struct journal_blacklist_range *bl;
	unsigned nr_bl;
	u64 *journal_buckets;
	unsigned nr_journal_buckets;
	struct journal_carried carried; /* at opening; at closing: the last */
	bool making;			/* mkfs: never closed before */
	bool was_clean;
	u64 sb_seq;			    /* of the superblock as it was found */
	u32 sb_copies_valid;		    /* ditto */
	char journal_damage[CORE_MSG_SIZE]; /* opened for reading although the journal has a hole */
	bool quiet;			    /* core_quiesce() was here */
	int journal_err;		    /* of the journal, before that */
	u64 replayed_seq;		    /* the journal was replayed: up to here; else 0 */
	bool journal_started, threads_started;
	_Atomic u8 on_error;
	unsigned nr_error_rows; /* ever; last_err_lock, as the rows, which are a ring */
	struct core_error error_rows[CORE_ERROR_ROWS];
	/* After the master key was replaced (rekey.c). */
	struct env_thread *rekey; /* NULL: not running */
	struct env_mutex rekey_lock, keys_lock;
	struct env_cond rekey_cond;
	atomic_bool rekey_stop;
	_Atomic u64 rekey_nodes, rekey_sectors, rekey_left;
	_Atomic u64 errors[3]; /* read, write, checksum; added to the device's at closing */
};

static inline struct core *to_core(const struct bcfs *fs)
{
	return (struct core *)fs;
}

/* What of bcfs_open()'s options concerns the filesystem, not the device. */
struct core_opts core_opts_from(const struct bcfs_open_opts *o);
/* ... but for what has to be parsed. */
int core_secret_from(const char *name, const struct bcfs_secret *s, struct crypt_secret *ret,
		     char *msg, size_t msg_size);
int core_choices_from(const char *name, const struct bcfs_open_opts *o, struct core_opts *ret,
		      char *msg, size_t msg_size);
/* "TYPE[:LEVEL]"; invalid_option: msg says what there is. */
int core_compression(const char *name, const char *text, u16 *ret, char *msg, size_t msg_size);
/* Of metadata ("none" is not for them) and of data; NULL: as it is. The same. */
int core_csums(const char *name, const char *meta, const char *data, unsigned *ret_meta,
	       unsigned *ret_data, char *msg, size_t msg_size);

/* errors.c */
void core_error_note(struct core *c, int err, u32 snapshot, u64 inum, u64 offset, u64 len);
/* struct data_opts.path */
void core_error_path(void *arg, u32 snapshot, u64 inum, char *buf, size_t size);

/* rekey.c: if there are old keys; the stop also if it does not run. */
int core_rekey_start(struct core *c);
void core_rekey_stop(struct core *c);

void core_fill_key_ops(struct bkey_ops_table *t);

/*
 * Open on a device that is open already (which stays the caller's): what bcfs_open(), bcfs_check()
 * and the simulation share. On failure *core is freed and c's last error line is in @msg.
 */
int core_open_on(struct env *env, struct bdev *bdev, const struct core_opts *opts, bcfs_log_fn log,
		 void *log_arg, struct core **ret, char *msg, size_t msg_size);
/* Clean shutdown, or on a full device one that leaves nodes to the journal; frees. */
int core_close(struct core *c);
/* Stop, writing nothing more; frees. */
void core_abort(struct core *c);
/*
 * The superblock of c->fs.bdev into c->fs.sb, with the keys if it is encrypted: errors of sb_read()
 * and sb_crypt_open(); sb_crypt_locked: it is, and there is no secret.
 */
int core_read_sb(struct core *c, struct env *env);

/* mkfs on an open device. */
int core_mkfs_on(struct env *env, struct bdev *bdev, const struct bcfs_mkfs_opts *opts,
		 struct bcfs_info *ret, char *msg, size_t msg_size);

/* Counts every difference; runs on an open, quiet filesystem. */
typedef void (*core_report_fn)(void *arg, const char *pass, const char *text);
/*
 * Before a check on an overlay: discards, merges and reclaim, which would move what is being
 * counted, end for good. To be followed by core_abort(), or core_close() of what is read-only.
 */
void core_quiesce(struct core *c);
/* Not 0: it could not be done, for want of memory; what was reported until then holds. */
int core_check(struct core *c, const struct bcfs_check_opts *opts, struct bcfs_check_result *ret);

/*
 * sb_device.c: the superblock alone of a device, whatever else is on it, closed cleanly or not.
 * What sb_device_open() or sb_device_look() has opened, sb_device_end() closes.
 */
struct sb_device {
	struct env *env;
	struct bdev *bdev;
	struct sb_handle *sb;
	struct log log;
	bcfs_log_fn user_log;
	void *user_log_arg;
	char line[CORE_MSG_SIZE]; /* the first error */
	unsigned slot;		  /* that the secret has opened */
};
/* To change it, locked, with the keys if it is encrypted: of *o the secret, the wait and the log.
 */
int sb_device_open(struct sb_device *d, const char *path, const struct bcfs_key_opts *o, char *msg,
		   size_t msg_size);
/* To read it, without a lock and keys. */
int sb_device_look(struct sb_device *d, const char *path, char *msg, size_t msg_size);
/* ret, with the message if it is an error. */
int sb_device_end(struct sb_device *d, const char *path, int ret, char *msg, size_t msg_size);

/* reopen.c: as bcfs_reopen(), always closed and opened; the keys are those that there are. */
int core_reopen(struct bcfs **fs, const struct core_opts *opts, char *msg, size_t msg_size);

/* recovery.c: roots and counters, journal, replay. */
int core_recover(struct core *c);
/*
 * What was replayed goes into the nodes for good, so that the next crash, however soon, has less
 * to replay and the ring does not fill up with sessions that died young. After core_start_layers().
 */
int core_recovery_settle(struct core *c);
/* What went wrong since opening goes into the superblock, which is written if anything did. */
int core_record_errors(struct core *c);
/* Write the clean section. */
int core_mark_clean(struct core *c, const struct journal_carried *carried, u64 seq);

/* open.c, for the others of this folder. */
struct core *core_new(struct env *env, bcfs_log_fn log, void *log_arg, const struct core_opts *o);
int core_alloc_layers(struct core *c);
int core_start_layers(struct core *c);
void core_free_layers(struct core *c);
/* The error that stopped it all, for one that only says that it has stopped. */
int core_cause(const struct core *c, int err);
/* Device by path, in an environment of its own: env and bdev. */
enum device_use {
	DEVICE_LOCKED, /* readers beside readers */
	DEVICE_LOOK,   /* without a lock */
	DEVICE_MOUNT,  /* locked, and not while it is mounted */
};
int core_open_device(const char *path, bool read_only, enum device_use use, u8 io, u8 direct,
		     u32 wait_lock_ms, u32 nr_threads, bcfs_log_fn log, void *log_arg,
		     struct env **ret_env, struct bdev **ret, char *msg, size_t msg_size);
void core_info(const struct bcfs_sb *sb, struct bcfs_info *ret);
/* The first error line since opening began, into @msg; false: there was none. */
bool core_last_err(struct core *c, char msg[static CORE_MSG_SIZE]);
/* A line into msg (may be NULL). */
void core_msg(char *msg, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
