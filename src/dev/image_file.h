/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The file that mkfs makes a filesystem in: created or resized as asked, and put back as it was
 * when making fails. For a dry run a piece of memory of that size stands in, so that the file is
 * not touched.
 *
 * Order: image_file_prepare(), which changes no file that exists; then, when what the file holds
 * may be overwritten, image_file_resize(); at the end image_file_done(). The caller opens
 * image_file_path() with bdev_open() in between, once the file has its size. Nothing here locks
 * the file: bdev_open() does.
 */
#ifndef BCFS_DEV_IMAGE_FILE_H
#define BCFS_DEV_IMAGE_FILE_H

#include "util/types.h"

struct image_file {
	const char *path; /* the caller's, outlives this */
	int fd;		  /* -1: nothing is to be done */
	bool created;	  /* by us: goes again on failure */
	bool resized;	  /* by us: gets its old size again on failure */
	bool in_memory;
	u64 size_bytes;
	u64 old_size_bytes; /* 0: it did not exist, was empty, or keeps its size */
	char memory_path[64];
};

/*
 * Looks at `path`, which is to be size_bytes long (0: as it is), and creates it when it is
 * missing. On failure msg gets one line; image_file_done() is due in any case.
 */
int image_file_prepare(struct image_file *im, const char *path, u64 size_bytes, bool dry_run,
		       char *msg, size_t msg_size);
/* The file existed with another size, and image_file_resize() will change that. */
bool image_file_will_resize(const struct image_file *im);
/* Gives a file that existed its new size; otherwise does nothing. */
int image_file_resize(struct image_file *im, char *msg, size_t msg_size);
/* What to open: the path, or that of the memory that stands in for it. */
const char *image_file_path(const struct image_file *im);
void image_file_done(struct image_file *im, bool failed);

#endif
