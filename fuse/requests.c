// SPDX-License-Identifier: LGPL-2.1-or-later
/* How many requests of which kind have come: what a system call costs. */
#include <linux/fuse.h>

#include "fuse_bcfs.h"

/* By opcode, newer ones than the header's included; "other" stands for all else. */
static const char *const names[REQUESTS_NR] = {
	[FUSE_LOOKUP] = "lookup",
	[FUSE_FORGET] = "forget",
	[FUSE_GETATTR] = "getattr",
	[FUSE_SETATTR] = "setattr",
	[FUSE_READLINK] = "readlink",
	[FUSE_SYMLINK] = "symlink",
	[FUSE_MKNOD] = "mknod",
	[FUSE_MKDIR] = "mkdir",
	[FUSE_UNLINK] = "unlink",
	[FUSE_RMDIR] = "rmdir",
	[FUSE_RENAME] = "rename",
	[FUSE_LINK] = "link",
	[FUSE_OPEN] = "open",
	[FUSE_READ] = "read",
	[FUSE_WRITE] = "write",
	[FUSE_STATFS] = "statfs",
	[FUSE_RELEASE] = "release",
	[FUSE_FSYNC] = "fsync",
	[FUSE_SETXATTR] = "setxattr",
	[FUSE_GETXATTR] = "getxattr",
	[FUSE_LISTXATTR] = "listxattr",
	[FUSE_REMOVEXATTR] = "removexattr",
	[FUSE_FLUSH] = "flush",
	[FUSE_INIT] = "init",
	[FUSE_OPENDIR] = "opendir",
	[FUSE_READDIR] = "readdir",
	[FUSE_RELEASEDIR] = "releasedir",
	[FUSE_FSYNCDIR] = "fsyncdir",
	[FUSE_ACCESS] = "access",
	[FUSE_CREATE] = "create",
	[FUSE_INTERRUPT] = "interrupt",
	[FUSE_DESTROY] = "destroy",
	[FUSE_IOCTL] = "ioctl",
	[FUSE_POLL] = "poll",
	[FUSE_BATCH_FORGET] = "batch_forget",
	[FUSE_FALLOCATE] = "fallocate",
	[FUSE_READDIRPLUS] = "readdirplus",
	[FUSE_RENAME2] = "rename2",
	[FUSE_LSEEK] = "lseek",
	[FUSE_COPY_FILE_RANGE] = "copy_file_range",
	[50] = "syncfs",
	[51] = "tmpfile",
	[52] = "statx",
	[53] = "copy_file_range_64",
	[REQUESTS_NR - 1] = "other",
};

void request_count(struct daemon *d, uint32_t opcode)
{
	uint32_t i = opcode < REQUESTS_NR && names[opcode] ? opcode : REQUESTS_NR - 1;

	atomic_fetch_add_explicit(&d->requests[i], 1, memory_order_relaxed);
}

void requests_to_text(const struct daemon *d, FILE *f)
{
	for (uint32_t i = 0; i < REQUESTS_NR; i++) {
		uint64_t nr = atomic_load_explicit(&d->requests[i], memory_order_relaxed);

		if (nr)
			fprintf(f, "fuse.%s %llu\n", names[i], (unsigned long long)nr);
	}
}
