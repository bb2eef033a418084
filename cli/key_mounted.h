/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Key slots of a filesystem that is mounted: its daemon is asked by an ioctl. */
#ifndef BCFS_CLI_KEY_MOUNTED_H
#define BCFS_CLI_KEY_MOUNTED_H

#include "bcfs/ioctl.h"
#include "passphrase.h"

/*
 * path: a mount point, or a device or image that is mounted. A descriptor of its root directory,
 * and the device's path in a buffer; -1: it is not mounted, or not to be reached, or by its name
 * alone, by another user than root or this one. KEY_MOUNTED_BY_OTHERS: the mount point is of such
 * a one, who is shown no secret.
 */
#define KEY_MOUNTED_BY_OTHERS -2
int key_mounted_open(const char *path, char *device, size_t size);
/*
 * For what is no secret: a descriptor of a directory, of any filesystem; -1: it is none, or cannot
 * be opened. And of the root of what is mounted of a device or image; -1: nothing, or by another
 * user.
 */
int key_mounted_open_dir(const char *path);
int key_mounted_open_device(const char *path);
/* Was that the answer? Then it is told. */
bool key_mounted_by_others(int fd, const char *path);

/* One more secret behind the others in data[]. False: they do not fit. */
bool key_pack(const struct tool_secret *s, uint8_t data[BCFS_IOC_KEY_BYTES], uint32_t *bytes,
	      uint32_t *nr);

/*
 * What bcfs_key_apply() does, in the daemon. secret: NULL to remove. An error of libbcfs, or of
 * errno, with the message.
 */
int key_mounted_apply(int fd, struct bcfs_ioc_key_slot head, const struct tool_secret *opens,
		      const struct tool_secret *secret, uint32_t *slot, char *msg, size_t size);

#endif
