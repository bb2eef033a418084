/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random file operations, each checked against a model in memory (names_model.c).
 */
#ifndef BCFS_TEST_NAMES_MODEL_H
#define BCFS_TEST_NAMES_MODEL_H

#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../test_rand.h"

#define NODES	  600
#define NAMES	  14
#define XATTRS	  4
#define FILE_MAX_ 6000U

struct mnode {
	bool used;
	u32 mode, nlink, uid;
	u64 inum, refs, size;
	int parent;
	int ents[NAMES];       /* node + 1; 0: none */
	u8 *data;	       /* FILE_MAX_ bytes */
	int xattr_len[XATTRS]; /* -1: none */
	u8 xattr_fill[XATTRS];
};

struct model {
	struct fsx *fx;
	struct bcfs *c;
	u64 rng, seed;
	struct mnode n[NODES];
	char names[NAMES][256];
	unsigned ops, inject_ppm, xattr_max;
	bool one_commit; /* only operations that are one transaction each */
};

#define check(m, cond, fmt, ...)                                                                   \
	must(cond, TEST_SEED_FMT ": " fmt, (unsigned long long)(m)->seed, ##__VA_ARGS__)

#define expect(m, ret, want, what)                                                                 \
	do {                                                                                       \
		s64 r_ = (ret);                                                                    \
		int w_ = (want);                                                                   \
		check(m, r_ < 0 ? err_to_errno(r_) == w_ : !w_, "%s: %s, expected %s", what,       \
		      r_ < 0 ? err_str(r_) : "ok", w_ ? strerror(w_) : "ok");                      \
	} while (0)

/* The fixture is open: the root, the names. */
void model_init(struct model *m, struct fsx *fx);
void model_free(struct model *m);
void model_one_op(struct model *m);
/* The whole tree against the model, and the checkers. */
void model_compare(struct model *m);
/* Close, or sync and crash, and open again: what was unlinked and open is gone. */
void model_reopen(struct model *m, bool crash);

#endif
