/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a tree of files must look like, in memory: the oracle of the crash tests.
 *
 * The model generates a random operation that is valid now (model_gen), applies it to itself
 * (model_apply) and to a filesystem (model_exec). A tree has one canonical text (sorted paths;
 * types, modes, link counts and identity, sizes, a hash of the data, xattrs, targets), of the
 * model (model_text) and of an open filesystem (fs_text): equal trees have equal texts.
 *
 * Times, blocks, inode number and generation are not in the text but in a hash beside it. The model
 * does not foretell them: it reads them from the filesystem after each operation (model_stat), sees
 * that those moved which must and no others, and what a crash leaves must then be the same.
 *
 * A write, a punched or a zeroed range may be several transactions in ascending offset: `cut` of
 * model_apply() says how far (bytes from the offset) it got.
 */
#ifndef BCFS_TEST_SIM_MODEL_H
#define BCFS_TEST_SIM_MODEL_H

#include "fs/fs.h"

#define M_INOS		  100
#define M_NAMES		  12
#define M_XATTRS	  3
#define M_FILE_MAX	  (40U << 10)

#define MODEL_COPIES_MANY 40U /* about as many as all that writes */

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
	MOP_MKNOD,
	MOP_TMPFILE,
	MOP_COPY,   /* copy_file_range: flags is the source, fill the offset there */
	MOP_FORGET, /* from here on nothing changes */
	MOP_FSYNC,
	MOP_SYNC,
	MOP_WAIT,    /* time passes */
	MOP_REMOUNT, /* closed cleanly, and opened again; not by model_exec */
	MOP_NR,
};

struct mop {
	enum mop_type type;
	int ino, dir, dir2;    /* model inodes */
	unsigned name, name2;  /* names; of xattrs too */
	u32 flags;	       /* of rename, fallocate; mode of create and chmod; fsync: datasync */
	u64 offset, len, fill; /* fill: seed of the content */
	u64 sleep_ns;	       /* after it */
	u8 mark;	       /* what its maker likes */
};

/* As the filesystem shows them: times, blocks, and what a handle of the file is made of. */
struct mtimes {
	bool known;
	u64 inum;
	u32 generation;
	u64 atime, mtime, ctime, btime; /* ns since 1970 */
	u64 blocks;
};

struct mino {
	bool used;
	bool doubtful; /* has no name, and an operation on it failed: must not get one again */
	u32 mode, nlink, refs;
	u32 rdev;
	u64 size, inum;
	struct mtimes times;
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
	u32 copies;	/* weight of MOP_COPY */
	u32 inline_max; /* to be met by writes at the end of files, bytes; 0: never mind */
	struct mino n[M_INOS];
};

void model_init(struct model *m, u64 seed, u32 block_bytes, u32 node_bytes);
void model_free(struct model *m);
/* False when the operation drawn is not possible now: draw again. */
bool model_gen(struct model *m, struct mop *op);
bool mop_changes(const struct mop *op);
bool mop_is_new(const struct mop *op); /* it makes a file */
/* Whether it can be done now: after others were left out of a sequence. */
bool model_valid(struct model *m, const struct mop *op);
/* Whether it may be seen half done, in steps of a block. */
bool mop_has_steps(const struct mop *op);
/*
 * Does it move data to other offsets? Nobody sees it half done but where the filesystem had to stop
 * amid it. There the cut goes from 0, in blocks, to model_shift_max(): of an insert the file has
 * grown, and so much of its end has moved; of a collapse so much of the range is a hole, and what
 * is more than the range has moved. The last step of a collapse, UINT64_MAX, is the size.
 */
bool mop_is_shift(const struct mop *op);
u64 model_shift_max(const struct model *m, const struct mop *op);
/* cut: UINT64_MAX: all of it. state: number of the state it leads to. */
void model_apply(struct model *m, const struct mop *op, u64 cut, u32 state);
/* Undo data for steps: model_apply() with a cut on a copy of the one file it touches. */
char *model_text_cut(struct model *m, const struct mop *op, u64 cut);
u64 model_hash_cut(struct model *m, const struct mop *op, u64 cut);
/* 0 or a negative code; a short write is given in *ret_cut (else UINT64_MAX). */
int model_exec(struct model *m, struct bcfs *c, const struct mop *op, u64 *ret_cut);

#define M_TOUCHED 4
/* The inodes that an operation changes, before it is applied; how many. */
unsigned model_touched(struct model *m, const struct mop *op, int ret[M_TOUCHED]);
/*
 * After it was: reads their times anew. False, with a message: one moved that must not, or did not
 * move to between since and now (ns since 1970; now 0: any time goes).
 */
bool model_stat(struct model *m, struct bcfs *c, const struct mop *op, const int *touched,
		unsigned nr, u64 since, u64 now, char *msg, size_t msg_size);

char *model_text(struct model *m);
/* *ret_times: a hash of all times and blocks in the tree; 0: some are not known. */
char *model_text_times(struct model *m, u64 *ret_times);
/* A directory of the root that is not part of the tree: noise for caches and nodes. */
#define M_BULK_DIR "bulk"

/* *ret_err: the first error met. */
char *fs_text(struct bcfs *c, int *ret_err);
char *fs_text_times(struct bcfs *c, int *ret_err, u64 *ret_times);
u64 text_hash(const char *text);
/*
 * A text that was read with errors ("!data" where the data could not be read) shows nothing but
 * what the right one has, and all of it but what the errors stand for.
 */
bool text_is_part(const char *text, const char *right);
/*
 * A buffer for a file's data, zeroed; model_buf_free() frees it. Where it begins decides whether
 * the device works with it or a copy is made, so that is not left to malloc(3): @nr says it, even
 * for one, odd for the other.
 */
u8 *model_buf(size_t len, u64 nr);
void model_buf_free(void *buf);
/* model.c and model_fs.c share. */
const char *model_name(unsigned i);
void model_fill(u8 *p, u64 len, u64 seed);
u32 mop_node_type(const struct mop *op); /* of mknod: from the content's seed */
u32 mop_node_rdev(const struct mop *op); /* major * 100 + minor */
const char *mop_type_name(enum mop_type type);
void mop_print(const struct mop *op, char *buf, size_t size);

#endif
