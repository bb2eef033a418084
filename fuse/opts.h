/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Command line and mount options of bcfs-fuse. Every -o option is one row of a
 * table in opts.c; what is in no row is refused by name.
 */
#ifndef BCFS_FUSE_OPTS_H
#define BCFS_FUSE_OPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "bcfs/bcfs.h"

enum readdirplus {
	READDIRPLUS_ON,
	READDIRPLUS_AUTO,
	READDIRPLUS_OFF,
};

struct mount_opts {
	char *device;	  /* as given: the source in /proc/mounts */
	char *mountpoint; /* absolute, links resolved */
	char *device_abs;

	struct bcfs_open_opts open;
	bool foreground, debug, single;

	uint8_t allow_other; /* enum bcfs_switch; default: on for root */
	uint8_t writeback;   /* likewise; default: on */
	uint8_t open_op;     /* default: off, so that open(2) costs nothing */
	uint8_t readdirplus; /* enum readdirplus */
	double attr_timeout, entry_timeout, negative_timeout; /* seconds */
	uint32_t max_threads, readers;
	uint64_t read_ahead_bytes;
	char *kernel; /* options for mount(2), comma-separated; may be empty */
};

/*
 * Exit status to leave with at once (0 after --help), or -1: go on with *ret.
 */
int opts_parse(struct mount_opts *ret, int argc, char **argv);
void opts_free(struct mount_opts *o);

#endif
