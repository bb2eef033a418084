// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * inodes-ahead IMAGE NR: makes the directory "many" with NR directories, and the file "high" with
 * an inode number just above 2^32, as if four thousand million files had been made before it. New
 * ones get the numbers behind it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "bcfs/bcfs.h"
#include "fs/table.h"

static int make_in(struct bcfs *fs, unsigned long nr)
{
	const struct bcfs_cred root = {0};
	struct bcfs_stat many, st;
	char name[32];
	int ret = bcfs_mkdir(fs, bcfs_root(fs), "many", 0755, &root, &many);

	for (unsigned long i = 0; i < nr && !ret; i++) {
		snprintf(name, sizeof(name), "%lu", i);
		ret = bcfs_mkdir(fs, many.ino, name, 0755, &root, &st);
		if (!ret)
			bcfs_forget(fs, st.ino, 1);
	}
	if (ret)
		return ret;
	fs->ino->inum_next = (1ULL << 32) + 5;
	return bcfs_mknod(fs, bcfs_root(fs), "high", S_IFREG | 0644, 0, 0, &root, &st);
}

int main(int argc, char **argv)
{
	const struct bcfs_open_opts opts = {.struct_size = sizeof(opts)};
	char msg[256] = "usage: inodes-ahead IMAGE NR";
	struct bcfs *fs;
	int ret;

	if (argc != 3 || bcfs_open(argv[1], &opts, &fs, msg, sizeof(msg))) {
		fprintf(stderr, "%s\n", msg);
		return 1;
	}
	ret = make_in(fs, strtoul(argv[2], NULL, 10));
	if (ret)
		fprintf(stderr, "%s\n", bcfs_strerror(ret));
	return bcfs_close(fs) || ret;
}
