/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dev/image_file.h"

#include "util/errcode.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* One line for the user, if there is room for it. */
__attribute__((format(printf, 3, 4))) static void say(char *msg, size_t msg_size, const char *fmt,
						      ...)
{
	va_list args;

	if (!msg || !msg_size)
		return;
	va_start(args, fmt);
	vsnprintf(msg, msg_size, fmt, args);
	va_end(args);
}

static int set_size(struct image_file *im, char *msg, size_t msg_size)
{
	if (!ftruncate(im->fd, (off_t)im->size_bytes))
		return 0;
	say(msg, msg_size, "%s: cannot be made %llu bytes long: %s", im->path,
	    (unsigned long long)im->size_bytes, strerror(errno));
	return -BCFS_ERR_dev_image_make;
}

static int prepare_memory(struct image_file *im, char *msg, size_t msg_size)
{
	im->in_memory = true;
	im->fd = memfd_create("bcfs", MFD_CLOEXEC);
	if (im->fd < 0) {
		say(msg, msg_size, "%s: no memory to try in: %s", im->path, strerror(errno));
		return -BCFS_ERR_dev_image_make;
	}
	snprintf(im->memory_path, sizeof(im->memory_path), "/proc/self/fd/%d", im->fd);
	return set_size(im, msg, msg_size);
}

int image_file_prepare(struct image_file *im, const char *path, u64 size_bytes, bool dry_run,
		       char *msg, size_t msg_size)
{
	struct stat st;

	*im = (struct image_file){.path = path, .fd = -1, .size_bytes = size_bytes};
	if (!size_bytes)
		return 0;
	bool exists = !stat(path, &st);
	if (exists && !S_ISREG(st.st_mode)) {
		say(msg, msg_size, "%s: --size is for image files, this is not one", path);
		return -BCFS_ERR_dev_not_image;
	}
	if (size_bytes < 2 * SECTOR_SIZE) {
		say(msg, msg_size, "%s: a size of %llu bytes is too small for any filesystem", path,
		    (unsigned long long)size_bytes);
		return -BCFS_ERR_dev_empty;
	}
	if (exists && (u64)st.st_size == size_bytes)
		return 0;
	im->old_size_bytes = exists ? (u64)st.st_size : 0;
	if (dry_run)
		return prepare_memory(im, msg, msg_size);
	im->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | (exists ? 0 : O_EXCL), 0600);
	if (im->fd < 0) {
		say(msg, msg_size, "%s: cannot be %s: %s", path, exists ? "opened" : "created",
		    strerror(errno));
		return -BCFS_ERR_dev_image_make;
	}
	im->created = !exists;
	return exists ? 0 : set_size(im, msg, msg_size);
}

bool image_file_will_resize(const struct image_file *im)
{
	return im->fd >= 0 && !im->created && !im->in_memory;
}

int image_file_resize(struct image_file *im, char *msg, size_t msg_size)
{
	int ret = image_file_will_resize(im) ? set_size(im, msg, msg_size) : 0;

	im->resized = image_file_will_resize(im) && !ret;
	return ret;
}

const char *image_file_path(const struct image_file *im)
{
	return im->in_memory ? im->memory_path : im->path;
}

void image_file_done(struct image_file *im, bool failed)
{
	if (im->fd < 0)
		return;
	if (failed && im->created)
		unlink(im->path);
	else if (failed && im->resized && ftruncate(im->fd, (off_t)im->old_size_bytes))
		failed = true; /* its old size is lost: nothing more to be done */
	close(im->fd);
	im->fd = -1;
}
