/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bcfs-fuse: the FUSE front end on libbcfs.
 *
 * Threads: main waits for signals and for the end of the mount; the loops
 * (loop.c) read requests and run the operations (ops_*.c) to their reply; a
 * shutdown thread (shutdown.c) unmounts while the loops go on serving.
 *
 * Life: options -> checks of the mount point -> fork -> open the device -> mount
 * -> loops -> live (the parent is told) -> ... -> the kernel has let go -> loops
 * end -> close the device. Whatever fails before "live" is one line of text,
 * handed to the parent by a pipe.
 *
 * Nodeids are bcfs_ino_pack(), but for the root, which is 1 on the wire.
 */
#ifndef BCFS_FUSE_BCFS_H
#define BCFS_FUSE_BCFS_H

#define FUSE_USE_VERSION 314

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "bcfs/bcfs.h"
#include "opts.h"

struct task;

struct loops;
struct remount_text;

#define REQUESTS_NR 64U

struct daemon {
	struct mount_opts *opts; /* a remount changes some; protected by fs_lock then */
	/* Held shared by each request, and alone by who puts another in the place of fs. */
	pthread_rwlock_t fs_lock;
	struct bcfs *fs; /* NULL: gone, when a remount failed altogether */
	struct fuse_session *se;
	int fd; /* /dev/fuse */
	struct bcfs_ino root;
	struct loops *loops;

	bool mounted;
	bool fuseblk;		  /* the kernel has the block device, and waits for DESTROY */
	dev_t st_dev;		  /* of the mount, once it is live */
	int event_fd;		  /* wakes main: one of the next two has changed */
	atomic_bool ended;	  /* the loops have */
	atomic_bool went_ro;	  /* an error has made the filesystem read-only */
	atomic_bool shut_down;	  /* by an ioctl: all answer EIO */
	atomic_bool close_failed; /* not everything is on the device */
	bool selinux;		  /* runs on this machine */
	_Atomic uint64_t requests[REQUESTS_NR]; /* by opcode: requests.c */
	/* A remount that main is to do: remount.c. */
	fuse_req_t _Atomic remount_req;
	struct remount_text *remount_text; /* of remount_req */
	int mounts_fd;			   /* mountinfo: tells of changes */
	uint64_t followed_ns;		   /* when main has looked at one last */
	/* Threads of task.h; protected by tasks_lock. */
	pthread_mutex_t tasks_lock;
	pthread_cond_t tasks_done;
	unsigned int nr_tasks;
	/* Set by who answers INIT, before the kernel sends anything else. */
	atomic_bool kernel_times; /* the kernel keeps mtime and ctime of files */
	atomic_bool falloc_times; /* the kernel keeps the times at fallocate: 6.1 */
	atomic_bool enosys_flush; /* the kernel writes dirty pages before FLUSH: 5.16 */
	atomic_bool killpriv_v2;  /* offered by the kernel, as is the next */
	atomic_bool parallel_dirops;
	atomic_bool setxattr_ext;     /* SETXATTR has flags: raw.c */
	_Atomic uint64_t unique_init; /* of the INIT request, while its reply is awaited */
};

/* ---- numbers ---- */

static inline struct bcfs_ino ino_of(const struct daemon *d, fuse_ino_t node)
{
	return node == FUSE_ROOT_ID ? d->root : bcfs_ino_unpack(node);
}

static inline fuse_ino_t node_of(const struct daemon *d, struct bcfs_ino ino)
{
	return ino.inum == d->root.inum && ino.subvol == d->root.subvol ? FUSE_ROOT_ID
									: bcfs_ino_pack(ino);
}

static inline struct daemon *req_daemon(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Wakes main. */
void daemon_signal(struct daemon *d);

/* st_ino, unique among the subvolumes: of files in the first, the inode's number. */
static inline uint64_t st_ino_of(const struct daemon *d, struct bcfs_ino ino)
{
	return bcfs_ino_pack((struct bcfs_ino){ino.subvol ^ d->root.subvol, ino.inum});
}

/* ---- ops ---- */

extern const struct fuse_lowlevel_ops daemon_ops;

void stat_fill(const struct daemon *d, const struct bcfs_stat *st, struct stat *ret);
void entry_fill(const struct daemon *d, const struct bcfs_stat *st, struct fuse_entry_param *ret);
struct bcfs_cred req_cred(fuse_req_t req);
/* Sees to it that the mount becomes read-only, if the error says that the filesystem has. */
void note_code(struct daemon *d, int code);
void reply_code(fuse_req_t req, int code);
/* Replies with the entry; gives its lookup reference back when the kernel did not take it. */
void reply_entry(fuse_req_t req, const struct bcfs_stat *st);

/* What has come, for `bcfs counters`: "fuse.NAME number" a line. */
void request_count(struct daemon *d, uint32_t opcode);
void requests_to_text(const struct daemon *d, FILE *f);

void op_init(void *userdata, struct fuse_conn_info *conn);

void op_lookup(fuse_req_t req, fuse_ino_t dir, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t node, uint64_t n);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode);
void op_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode,
	       struct fuse_file_info *fi);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t dir, const char *name);
void op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t dir, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t dir, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t dir, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t newdir,
	       const char *newname, unsigned int flags);
void op_readlink(fuse_req_t req, fuse_ino_t node);

void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int to_set,
		struct fuse_file_info *fi);
void op_statfs(fuse_req_t req, fuse_ino_t node);
void op_access(fuse_req_t req, fuse_ino_t node, int mask);

void op_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
		    struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi);

void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t node, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence, struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t src, off_t src_off, struct fuse_file_info *fi,
			fuse_ino_t dst, off_t dst_off, struct fuse_file_info *dst_fi, size_t len,
			int flags);
/* BCFS_WRITE_* for the destination of a copy. */
uint32_t copy_flags(const struct daemon *d);

void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size,
		 int flags);
/* Options of files (bcfs.*) are for root and the owner; the kernel has checked all else. */
bool may_set_xattr(struct daemon *d, uint32_t uid, fuse_ino_t node, const char *name);
/* As bcfs_setxattr(), and what is said to the daemon that way. */
int set_xattr(struct daemon *d, fuse_ino_t node, const char *name, const char *value, size_t size,
	      uint32_t how);
/* True: it was bcfs.rebalance=scan, which @from, a task without a function, is to do. */
bool scan_start(const struct task *from, const char *name, const char *value, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name);

void op_ioctl(fuse_req_t req, fuse_ino_t node, unsigned int cmd, void *arg,
	      struct fuse_file_info *fi, unsigned int flags, const void *in, size_t in_size,
	      size_t out_size);

/* ---- device ---- */

/* False: told in msg. */
bool device_open(struct daemon *d, char *msg, size_t size);
/* What is left of the filesystem is written. No-op if that was done. */
void device_close(struct daemon *d);
/* Waits until no request and no task is under way, and keeps requests out (fs_lock). */
void device_lock_alone(struct daemon *d);

/* ---- session ---- */

/* Checks that can be made before the device is opened. False: msg has one line. */
bool mountpoint_check(const struct mount_opts *o, char *msg, size_t size);
/* The type of what is mounted on exactly this path, in buf; false: nothing is. */
bool mountpoint_is_mounted(const char *path, char *type, size_t size);

/* Does a field of mountinfo name this path? */
bool mountinfo_is_at(const char *where, size_t len, const char *path);

/* Makes the session and mounts it. */
bool session_mount(struct daemon *d, char *msg, size_t size);
/* After a start that failed: the kernel lets go, which ends the loops. */
void session_unmount(struct daemon *d);
void session_destroy(struct daemon *d);
/* Waits until the mount answers. */
bool session_wait_live(struct daemon *d, char *msg, size_t size);
/* As root: the kernel refuses writes too, from here on. False: busy; last: say so. */
bool session_remount_ro(const struct daemon *d, bool last);
/* As root: read-ahead and dirty limit of our own backing device. */
void session_tune_bdi(const struct daemon *d);

/* ---- shutdown ---- */

/* syncfs(2) on the mount: what the kernel holds back comes too. Not from a loop. */
void mount_sync(const struct daemon *d);
/* Starts the thread that syncs and unmounts. */
void shutdown_start(struct daemon *d);

/* ---- log ---- */

void log_to_syslog(void);
void log_set_debug(bool on);
void log_line(void *arg, enum bcfs_log_level level, const char *line);
void log_fmt(enum bcfs_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
