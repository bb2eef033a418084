/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mark and sweep. First the keys that point at space are walked (check.c) and a shadow of every
 * bucket, the backpointers that there must be, and the counters are built in memory; then alloc
 * keys, indexes, backpointers and counters are walked and compared (check_index.c). Memory: 20
 * bytes a bucket ever used, 48 a pointer.
 */
#ifndef BCFS_ALLOC_CHECK_PRIVATE_H
#define BCFS_ALLOC_CHECK_PRIVATE_H

#include "alloc/alloc_private.h"
#include "util/darray.h"

struct shadow {
	u32 dirty, cached; /* sectors that keys hold */
	u8 type;	   /* of the pointers; free: none */
	u8 gen;
	u8 fragmentation; /* entry expected in the LRU, 0: none */
	bool pointed;	  /* gen is set */
	bool has_key;
	u8 free_gen;	   /* has_key: the generation it was free with */
	bool gens_seen;	   /* free_gen was compared with what the group has */
	bool listed;	   /* lies in a run of freespace */
	bool want_discard; /* entry expected in need_discard */
};

struct bp_want {
	struct bpos pos;
	struct bcfs_backpointer bp;
};

struct alloc_checker {
	struct alloc_fs *a;
	struct btree_trans *trans;
	DARRAY(struct shadow) buckets; /* by number; those behind were never used */
	DARRAY(struct bp_want) bps;
	s64 usage[BCFS_ACCOUNTING_NR];
	u64 mark;
	u64 errors;
	darray_char texts; /* of the differences, each with its NUL */
	struct printbuf buf;
};

/* Reports what was printed into c->buf, and counts it. */
void alloc_check_report(struct alloc_checker *c);
/* The bucket's shadow; NULL if there is no memory. */
struct shadow *check_bucket(struct alloc_checker *c, u64 bucket);

int check_alloc_keys(struct alloc_checker *c);
int check_indexes(struct alloc_checker *c);
int check_backpointers(struct alloc_checker *c);
void check_counters(struct alloc_checker *c, const s64 *usage);

#endif
