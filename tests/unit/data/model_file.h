/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A file beside an array of bytes that says what is in it: operations as the layer below uses them,
 * at random, and comparing.
 */
#ifndef BCFS_TEST_DATA_MODEL_FILE_H
#define BCFS_TEST_DATA_MODEL_FILE_H

#include "dfs.h"

#define FILE_BLOCKS 96U
#define NR_FILES    4U

enum block_state { HOLE, RESERVED, DATA };

struct file {
	struct tfs *f;
	struct data_file id;
	u64 r;
	u32 block; /* bytes */
	u64 size;
	u8 *bytes; /* zero from size on */
	u8 *buf;
	enum block_state state[FILE_BLOCKS];
	struct file *sources; /* shares with any of these; NULL: with none */
	unsigned nr_sources;
};

u64 file_max(const struct file *x);
void file_init(struct file *x, struct tfs *f, u64 inum, u64 r);
void file_free(struct file *x);
int count_commit(struct btree_trans *trans, void *arg, u64 new_end, s64 delta);
u64 count_now(struct file *x);
void check_read(struct file *x, u64 from, u64 to);
void check_file(struct file *x);
int op_write(struct file *x, u64 offset, u64 len);
int op_truncate(struct file *x, u64 size);
int op_punch(struct file *x, u64 offset, u64 len);
int op_fallocate(struct file *x, u64 offset, u64 len, bool keep_size);
u64 random_offset(struct file *x, u64 max);
int random_share(struct file *x, u64 offset, u64 len);
void random_ops(struct file *x, unsigned nr);

#endif
