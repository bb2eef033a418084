/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Command line and mount options of bcfs-fuse. Every -o option is one row of a
 * table in opts.c; what is in no row is refused by name. Under the name
 * mount.TYPE the command line is that of mount(8)'s helpers.
 */
#ifndef BCFS_FUSE_OPTS_H
#define BCFS_FUSE_OPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "../cli/unlock.h"
#include "bcfs/bcfs.h"

/* Statuses, as mount(8) has them; bcfs-fuse itself knows 0 and 1 alone. */
enum mount_status {
	MOUNT_OK = 0,
	MOUNT_USAGE = 1, /* or permissions */
	MOUNT_SYSTEM = 2,
	MOUNT_INTERRUPTED = 8,
	MOUNT_FAILED = 32,
};

enum atime_mode {
	ATIME_RELATIME,
	ATIME_NOATIME,
	ATIME_STRICT,
};

enum readdirplus {
	READDIRPLUS_ON,
	READDIRPLUS_AUTO,
	READDIRPLUS_OFF,
};

struct mount_opts {
	char *device;	  /* as given */
	char *source;	  /* the same, absolute: what /proc/mounts shows */
	char *mountpoint; /* absolute, links resolved */
	char *device_abs; /* likewise */

	struct bcfs_open_opts open; /* its secret: only while the device is being opened */
	char *key_file, *passphrase_fd;
	struct tool_unlock unlock;
	int open_error; /* of bcfs_open() */
	bool foreground, debug, single;
	bool helper;	/* called by mount(8), as mount.bcfs or mount.fuse.bcfs */
	bool fake;	/* helper: only look */
	bool sloppy;	/* helper: unknown options are passed over */
	bool remount;	/* change the options of a mount */
	bool nofail;	/* helper: a device that does not exist is no failure */
	char *mount_ns; /* helper: a mount namespace to enter first, by path; or NULL */
	char *text;	/* all options as they were given */
	const struct mount_opts *was; /* in opts_change(): what is changed */
	char *kernel_opt;	      /* an option that only FUSE in the kernel knows; or NULL */

	uint8_t allow_other; /* enum bcfs_switch; default: on for root */
	uint8_t writeback;   /* likewise; default: on */
	uint8_t open_op;     /* default: off, so that open(2) costs nothing */
	uint8_t keep_cache;  /* default: on; off sets open_op */
	uint8_t readdirplus; /* enum readdirplus */
	double attr_timeout, entry_timeout, negative_timeout; /* seconds */
	uint32_t max_threads, readers;
	uint64_t read_ahead_bytes;
	uint32_t max_ratio;	   /* percent */
	bool fuseblk;		   /* a block device may be mounted as that */
	uint8_t atime;		   /* enum atime_mode */
	unsigned long mount_flags; /* MS_* of mount(2), but for MS_RDONLY and access times */
};

/*
 * Exit status to leave with at once (0 after --help, MOUNT_USAGE), or -1: go on with *ret.
 */
int opts_parse(struct mount_opts *ret, int argc, char **argv);
/*
 * What a remount with these options makes of the mount `now`; it shares its strings. False: told in
 * msg; not all can be changed. To be followed by opts_change_end().
 */
bool opts_change(const struct mount_opts *now, const char *text, struct mount_opts *ret, char *msg,
		 size_t size);
/* Behind it, either way: frees those strings of `gone` that are not in `kept`. */
void opts_change_end(struct mount_opts *gone, const struct mount_opts *kept);
/* The fields of `open` that follow from `atime` and `mount_flags`. */
void opts_set_atime(struct mount_opts *o);
/* What mount(2) is to be told. */
unsigned long opts_mount_flags(const struct mount_opts *o);
void opts_free(struct mount_opts *o);

#endif
