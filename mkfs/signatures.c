// SPDX-License-Identifier: LGPL-2.1-or-later
#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bcfs/bcfs.h"
#include "signatures.h"

/* More than any real device has: an end for a device that keeps what is wiped. */
#define MAX_SIGNATURES 256
/* Of a label, which others' filesystems may make longer than a line has room for. */
#define LABEL_MAX 48
#define TEXT_MAX  (4 * LABEL_MAX + 1)

static blkid_probe new_probe(int fd)
{
	blkid_probe pr = blkid_new_probe();

	if (!pr)
		return NULL;
	if (blkid_probe_set_device(pr, fd, 0, 0)) {
		blkid_free_probe(pr);
		return NULL;
	}
	blkid_probe_enable_superblocks(pr, 1);
	blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE |
						      BLKID_SUBLKS_LABEL | BLKID_SUBLKS_MAGIC |
						      BLKID_SUBLKS_BADCSUM);
	blkid_probe_enable_partitions(pr, 1);
	blkid_probe_set_partitions_flags(pr, BLKID_PARTS_MAGIC | BLKID_PARTS_FORCE_GPT);
	return pr;
}

static void describe(blkid_probe pr, char *text, size_t size)
{
	const char *type = NULL, *usage = NULL, *label = NULL;
	char readable[TEXT_MAX];

	if (!blkid_probe_lookup_value(pr, "PTTYPE", &type, NULL)) {
		snprintf(text, size, "a partition table (%s)", type);
		return;
	}
	if (blkid_probe_lookup_value(pr, "TYPE", &type, NULL))
		type = "unknown";
	blkid_probe_lookup_value(pr, "USAGE", &usage, NULL);
	if (!blkid_probe_lookup_value(pr, "LABEL", &label, NULL) && *label) {
		bcfs_escape(label, LABEL_MAX, readable, sizeof(readable));
		snprintf(text, size, "data of type %s labelled \"%s\"", type, readable);
	} else {
		snprintf(text, size, "data of type %s%s", type,
			 usage && strcmp(usage, "filesystem") ? "" : " (a filesystem)");
	}
}

int signatures_find(const char *path, char *text, size_t size)
{
	blkid_probe pr;
	int fd, ret;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	pr = new_probe(fd);
	if (!pr) {
		close(fd);
		return lseek(fd, 0, SEEK_END) ? -EIO : 0;
	}
	ret = blkid_do_probe(pr);
	if (!ret)
		describe(pr, text, size);
	blkid_free_probe(pr);
	close(fd);
	return ret < 0 ? -EIO : !ret;
}

int signatures_wipe(const char *path)
{
	unsigned int nr = 0;
	blkid_probe pr;
	int fd, ret = 0;

	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	pr = new_probe(fd);
	if (!pr) {
		close(fd);
		return 0; /* nothing that could be probed, so nothing to wipe */
	}
	while (!ret && !blkid_do_probe(pr)) {
		if (blkid_do_wipe(pr, 0) || ++nr > MAX_SIGNATURES)
			ret = -EIO;
	}
	blkid_free_probe(pr);
	if (close(fd) && !ret)
		ret = -errno;
	return ret;
}
