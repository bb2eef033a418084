// SPDX-License-Identifier: LGPL-2.1-or-later
#include "key_mounted.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "bcfs/bcfs.h"
#include "tool.h"

/* As key_mounted_open(), of a mount point. */
static int open_root(const char *path, char *device, size_t size)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return -1;
	len = fgetxattr(fd, "bcfs.device", device, size - 1);
	if (len < 0) {
		close(fd);
		return -1;
	}
	device[len] = 0;
	return fd;
}

/* Whose daemon serves what is mounted there, by the kernel's word; 0: root's, or no daemon. */
static uid_t served_by(const char *path)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	size_t longest = 0;
	struct mntent *m;
	uid_t ret = 0;

	while (mounts && (m = getmntent(mounts))) {
		size_t len = strcmp(m->mnt_dir, "/") ? strlen(m->mnt_dir) : 0;
		const char *user = hasmntopt(m, "user_id");

		/* Of several at one place the last is on top. */
		if (len < longest || strncmp(path, m->mnt_dir, len) ||
		    (path[len] && path[len] != '/'))
			continue;
		longest = len;
		ret = user ? (uid_t)strtoul(user + strlen("user_id="), NULL, 10) : 0;
	}
	if (mounts)
		endmntent(mounts);
	return ret;
}

/*
 * Whoever mounts may call it by any device's name: a secret is for a daemon of root's or of one's
 * own.
 */
static bool is_trusted(const char *path)
{
	uid_t user = served_by(path);

	return !user || user == geteuid();
}

static bool fd_is_trusted(int fd)
{
	char link[32], path[PATH_MAX];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return false;
	path[len] = 0;
	return is_trusted(path);
}

int key_mounted_open(const char *path, char *device, size_t size)
{
	char point[PATH_MAX];
	int fd = open_root(path, device, size);

	if (fd >= 0 && !fd_is_trusted(fd)) {
		close(fd);
		return KEY_MOUNTED_BY_OTHERS;
	}
	/* Its root is not even looked at. */
	if (fd < 0 && !bcfs_mount_point(path, point, sizeof(point)) && is_trusted(point))
		fd = open_root(point, device, size);
	return fd;
}

/* Nothing is asked of the filesystem until it is trusted. */
int key_mounted_open_dir(const char *path)
{
	int at = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = KEY_MOUNTED_BY_OTHERS;

	if (at < 0)
		return -1;
	if (fd_is_trusted(at))
		fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	close(at);
	return fd;
}

int key_mounted_open_device(const char *path)
{
	char point[PATH_MAX];

	if (bcfs_mount_point(path, point, sizeof(point)) || !is_trusted(point))
		return -1;
	return open(point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

bool key_mounted_by_others(int fd, const char *path)
{
	if (fd == KEY_MOUNTED_BY_OTHERS)
		tool_error("%s: another user has mounted it, who would be shown what opens it: "
			   "do this as that user, or unmount it first",
			   path);
	return fd == KEY_MOUNTED_BY_OTHERS;
}

bool key_pack(const struct tool_secret *s, uint8_t data[BCFS_IOC_KEY_BYTES], uint32_t *bytes,
	      uint32_t *nr)
{
	uint16_t head[2];

	if (s->len > UINT16_MAX || *nr >= BCFS_KEY_SECRETS_MAX ||
	    s->len + sizeof(head) > BCFS_IOC_KEY_BYTES - *bytes)
		return false;
	head[0] = s->type == TOOL_SECRET_KEY_FILE ? BCFS_SECRET_KEY_FILE : BCFS_SECRET_PASSPHRASE;
	head[1] = (uint16_t)s->len;
	memcpy(data + *bytes, head, sizeof(head));
	memcpy(data + *bytes + sizeof(head), s->p, s->len);
	*bytes += (uint32_t)(sizeof(head) + s->len);
	++*nr;
	return true;
}

static int ask(int fd, struct bcfs_ioc_key_slot *in, char *msg, size_t size)
{
	int ret = ioctl(fd, BCFS_IOC_KEY_SLOT, in) ? -errno : in->error;

	if (ret == -EPERM)
		snprintf(msg, size, "only root may, and whose mount it is");
	else if (ret == -ENOTTY)
		snprintf(msg, size, "its daemon is of an older version: unmount it first");
	else if (ret)
		snprintf(msg, size, "%s", bcfs_strerror(ret));
	return ret;
}

int key_mounted_apply(int fd, struct bcfs_ioc_key_slot head, const struct tool_secret *opens,
		      const struct tool_secret *secret, uint32_t *slot, char *msg, size_t size)
{
	struct tool_secret mem = {0};
	struct bcfs_ioc_key_slot *in;
	int ret = -EFBIG;

	if (!tool_secret_map(&mem, sizeof(*in))) {
		snprintf(msg, size, "%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	in = (void *)mem.p;
	*in = head;
	in->slot = *slot;
	if (key_pack(opens, in->data, &in->bytes, &in->nr) &&
	    (!secret || key_pack(secret, in->data, &in->bytes, &in->nr)))
		ret = ask(fd, in, msg, size);
	else
		snprintf(msg, size, "key files of more than %u bytes together: unmount it first",
			 BCFS_IOC_KEY_BYTES - 8);
	*slot = in->slot;
	tool_secret_free(&mem);
	return ret;
}
