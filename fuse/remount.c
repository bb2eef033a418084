// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "../cli/tool.h"
#include "fuse_bcfs.h"
#include "remount.h"

static int failed(const struct mount_opts *o, const char *what)
{
	tool_error("%s: cannot remount %s: %s", o->device, o->mountpoint, what);
	return MOUNT_FAILED;
}

int remount_run(const struct mount_opts *o)
{
	char type[64] = "";

	if (!mountpoint_is_mounted(o->mountpoint, type, sizeof(type)))
		return failed(o, "nothing is mounted there");
	if (strcmp(type, "fuse.bcfs") && strcmp(type, "fuseblk"))
		return failed(o, "what is mounted there is no bcfs");
	if (o->fake)
		return MOUNT_OK;
	if (!mount(o->source, o->mountpoint, NULL, MS_REMOUNT | opts_mount_flags(o), NULL))
		return MOUNT_OK;
	switch (errno) {
	case EBUSY:
		return failed(o, "busy, files are open for writing: close them first");
	case EPERM:
		failed(o, "permission denied: only root may");
		return MOUNT_USAGE;
	default:
		return failed(o, strerror(errno));
	}
}
