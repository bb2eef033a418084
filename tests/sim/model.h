/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a tree of files must look like, in memory: the oracle of the crash tests.
 *
 * The model generates a random operation that is valid now (model_gen), applies it to itself
 * (model_apply) and to a filesystem (model_exec). A tree has one canonical text (sorted paths;
 * types, modes, link counts and identity, sizes, a hash of the data, xattrs, targets), of the
 * model (model_text) and of an open filesystem (fs_text): equal trees have equal texts. Times and
 * space used are left out.
 *
 * A write, a punched or a zeroed range may be several transactions in ascending offset: `cut` of
 * model_apply() says how far (bytes from the offset) it got.
 */
#ifndef BCFS_TEST_SIM_MODEL_H
#define BCFS_TEST_SIM_MODEL_H

#include "fs/fs.h"

#define M_INOS	   100
#define M_NAMES	   12
#define M_XATTRS   3
#define M_FILE_MAX (40U << 10)

enum mop_type {
	MOP_CREATE,
	MOP_MKDIR,
	MOP_SYMLINK,
	MOP_LINK,
	MOP_RENAME,
	MOP_UNLINK,
	MOP_RMDIR,
	MOP_WRITE,
	MOP_TRUNCATE,
	MOP_FALLOCATE,
	MOP_SETXATTR,
	MOP_REMOVEXATTR,
	MOP_CHMOD,
	MOP_FORGET,
	MOP_FSYNC,
	MOP_SYNC,
	MOP_NR,
};

struct mop {
	enum mop_type type;
	int ino, dir, dir2;    /* model inodes */
	unsigned name, name2;  /* names; of xattrs too */
	u32 flags;	       /* of rename, fallocate; mode of create and chmod */
	u64 offset, len, fill; /* fill: seed of the content */
};

struct mino {
	bool used;
	u32 mode, nlink, refs;
	u64 size, inum;
	int parent;
	int ents[M_NAMES];	 /* inode + 1 */
	u8 *data;		 /* M_FILE_MAX, zero behind the size */
	u64 data_hash;		 /* 0: not known */
	int xattr_len[M_XATTRS]; /* -1: none */
	u64 xattr_fill[M_XATTRS];
	u64 target_len, target_fill;
	u32 last_state; /* the newest state that changed it */
};

struct model {
	u64 rng;
	u32 block_bytes;
	u32 target_max; /* longest target of a symlink, bytes */
	struct mino n[M_INOS];
};

void model_init(struct model *m, u64 seed, u32 block_bytes, u32 node_bytes);
void model_free(struct model *m);
/* False when the operation drawn is not possible now: draw again. */
bool model_gen(struct model *m, struct mop *op);
bool mop_changes(const struct mop *op);
/* Whether it may be seen half done, in steps of a block. */
bool mop_has_steps(const struct mop *op);
/* cut: UINT64_MAX: all of it. state: number of the state it leads to. */
void model_apply(struct model *m, const struct mop *op, u64 cut, u32 state);
/* Undo data for steps: model_apply() with a cut on a copy of the one file it touches. */
u64 model_hash_cut(struct model *m, const struct mop *op, u64 cut);
/* 0 or a negative code; a short write is given in *ret_cut (else UINT64_MAX). */
int model_exec(struct model *m, struct bcfs *c, const struct mop *op, u64 *ret_cut);

char *model_text(struct model *m);
/* A directory of the root that is not part of the tree: noise for caches and nodes. */
#define M_BULK_DIR "bulk"

/* *ret_err: the first error met. */
char *fs_text(struct bcfs *c, int *ret_err);
u64 text_hash(const char *text);
void mop_print(const struct mop *op, char *buf, size_t size);

#endif
