// SPDX-License-Identifier: LGPL-2.1-or-later
#include "model.h"

#include "../unit/test_rand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

static u64 rnd(struct model *m, u64 limit)
{
	return trand_below(&m->rng, limit);
}

/* Letters; of some seeds long runs of each, which compress well. */
void model_fill(u8 *p, u64 len, u64 seed)
{
	u64 run = seed % 8 < 3 ? 100 : 1;

	for (u64 i = 0; i < len; i++) {
		u64 at = i / run;

		if (!(i % (8 * run)))
			trand_u64(&seed);
		p[i] = 'a' + (u8)((seed >> (at % 8 * 8)) % 26);
	}
}

void model_init(struct model *m, u64 seed, u32 block_bytes, u32 node_bytes)
{
	memset(m, 0, sizeof(*m));
	m->rng = seed;
	m->block_bytes = block_bytes;
	m->target_max = min_t(u32, 3000, node_bytes / 4);
	m->n[0] = (struct mino){
		.used = true, .mode = S_IFDIR | 0755, .nlink = 1, .inum = BCFS_ROOT_INO};
	for (unsigned x = 0; x < M_XATTRS; x++)
		m->n[0].xattr_len[x] = -1;
}

void model_free(struct model *m)
{
	for (unsigned i = 0; i < M_INOS; i++)
		free(m->n[i].data);
}

/* ---- drawing ---- */

static bool is_dir(struct model *m, int n)
{
	return S_ISDIR(m->n[n].mode);
}

static int pick(struct model *m, u32 type)
{
	for (unsigned i = 0; i < 60; i++) {
		int n = (int)rnd(m, rnd(m, 3) ? 12 : M_INOS);

		if (m->n[n].used && (!type || (m->n[n].mode & S_IFMT) == type))
			return n;
	}
	return -1;
}

static int pick_dir(struct model *m)
{
	int n = pick(m, S_IFDIR);

	return n < 0 || !m->n[n].nlink ? 0 : n;
}

static bool dir_empty(struct model *m, int n)
{
	for (unsigned i = 0; i < M_NAMES; i++)
		if (m->n[n].ents[i])
			return false;
	return true;
}

static bool above(struct model *m, int a, int d)
{
	while (d != a && d)
		d = m->n[d].parent;
	return d == a;
}

static bool gen_new(struct model *m, struct mop *op)
{
	op->dir = pick_dir(m);
	op->name = (unsigned)rnd(m, M_NAMES);
	for (op->ino = 1; op->ino < M_INOS && m->n[op->ino].used;)
		op->ino++;
	if (op->ino == M_INOS || m->n[op->dir].ents[op->name])
		return false;
	op->fill = rnd(m, 1 << 30);
	op->flags = (u32)rnd(m, 01000);
	op->len = rnd(m, 4) ? 1 + rnd(m, 60) : 1 + rnd(m, m->target_max);
	return true;
}

static bool can_link(const struct mino *x)
{
	return x->used && (x->nlink || x->refs) && !x->doubtful && !S_ISDIR(x->mode);
}

static bool gen_rename(struct model *m, struct mop *op)
{
	op->dir = pick_dir(m);
	op->dir2 = rnd(m, 2) ? op->dir : pick_dir(m);
	op->name = (unsigned)rnd(m, M_NAMES);
	op->name2 = (unsigned)rnd(m, M_NAMES);
	op->flags = rnd(m, 3) ? 0 : rnd(m, 2) ? BCFS_RENAME_EXCHANGE : BCFS_RENAME_NOREPLACE;

	int s = m->n[op->dir].ents[op->name] - 1, d = m->n[op->dir2].ents[op->name2] - 1;

	if (s < 0 || s == d || (is_dir(m, s) && above(m, s, op->dir2)))
		return false;
	op->ino = s;
	if (op->flags & BCFS_RENAME_EXCHANGE)
		return d >= 0 && !(is_dir(m, d) && above(m, d, op->dir));
	if (d < 0)
		return true;
	return !op->flags && is_dir(m, s) == is_dir(m, d) &&
	       (!is_dir(m, d) || (dir_empty(m, d) && !above(m, d, op->dir)));
}

#define SHIFTS (BCFS_FALLOC_COLLAPSE_RANGE | BCFS_FALLOC_INSERT_RANGE)

/* Of collapse and insert: whole blocks of the file, as long as it may be. */
static bool shift_fits(const struct model *m, const struct mino *x, const struct mop *op)
{
	if (!op->len || (op->offset | op->len) % m->block_bytes)
		return false;
	if (op->flags & BCFS_FALLOC_COLLAPSE_RANGE)
		return op->offset + op->len < x->size;
	return op->offset < x->size && x->size + op->len <= M_FILE_MAX;
}

static bool gen_shift(struct model *m, struct mop *op)
{
	u64 size = m->n[op->ino].size;

	op->flags = rnd(m, 2) ? BCFS_FALLOC_COLLAPSE_RANGE : BCFS_FALLOC_INSERT_RANGE;
	/* In the first half, so that much has to move. */
	op->offset = round_down(rnd(m, size / 2 + 1), m->block_bytes);
	op->len = (1 + rnd(m, 4)) * m->block_bytes;
	return shift_fits(m, &m->n[op->ino], op);
}

/* A little in the file's last block, or the file ends there. */
static void gen_tail(struct model *m, struct mop *op)
{
	u64 size = m->n[op->ino].size, start = round_down(size, (u64)m->block_bytes);
	u64 at = start + rnd(m, rnd(m, 2) ? m->inline_max : (u32)(size - start) + 1);

	if (size - start > m->inline_max && rnd(m, 2))
		at = size;
	if (op->type == MOP_TRUNCATE) {
		op->len = rnd(m, 3) ? min_t(u64, at, M_FILE_MAX) : rnd(m, m->inline_max);
		return;
	}
	op->offset = min_t(u64, at, M_FILE_MAX - 1);
	op->len = 1 + rnd(m, rnd(m, 4) ? m->inline_max : m->block_bytes);
	op->len = min_t(u64, op->len, M_FILE_MAX - op->offset);
}

static bool gen_data(struct model *m, struct mop *op)
{
	static const u32 modes[] = {
		0, BCFS_FALLOC_KEEP_SIZE, BCFS_FALLOC_PUNCH_HOLE | BCFS_FALLOC_KEEP_SIZE,
		BCFS_FALLOC_ZERO_RANGE, BCFS_FALLOC_ZERO_RANGE | BCFS_FALLOC_KEEP_SIZE};
	struct mino *x;

	op->ino = pick(m, S_IFREG);
	if (op->ino < 0)
		return false;
	x = &m->n[op->ino];
	op->fill = trand_u64(&m->rng);
	op->flags = modes[rnd(m, ARRAY_SIZE(modes))];
	op->len = 1 + (rnd(m, 3) ? rnd(m, 3000) : rnd(m, 24 << 10));
	switch (rnd(m, 4)) {
	case 0:
		op->offset = min_t(u64, x->size, M_FILE_MAX - 1); /* append */
		break;
	case 1:
		op->offset = round_down(rnd(m, M_FILE_MAX), m->block_bytes);
		break;
	case 2:
		op->offset = rnd(m, M_FILE_MAX);
		break;
	default:
		op->offset = x->size ? rnd(m, x->size) : 0;
	}
	op->len = min_t(u64, op->len, M_FILE_MAX - op->offset);
	if (op->type == MOP_TRUNCATE)
		op->len = rnd(m, 4) ? rnd(m, M_FILE_MAX) : 0;
	if (op->type == MOP_FALLOCATE && rnd(m, 2))
		return gen_shift(m, op);
	if (m->inline_max && !rnd(m, 3))
		gen_tail(m, op);
	return true;
}

/* The source is there, what is in it is known, it reaches that far, and is not copied over itself.
 */
static bool copy_fits(struct model *m, const struct mop *op)
{
	const struct mino *src = op->flags < M_INOS ? &m->n[op->flags] : NULL;

	if (!src || !src->used || src->doubtful || !S_ISREG(src->mode) || op->fill >= src->size)
		return false;
	return (int)op->flags != op->ino || op->fill + op->len <= op->offset ||
	       op->offset + op->len <= op->fill;
}

/* Mostly whole blocks, so that they can be shared. */
static bool gen_copy(struct model *m, struct mop *op)
{
	u32 block = m->block_bytes;
	int src = pick(m, S_IFREG);

	op->ino = pick(m, S_IFREG);
	if (src < 0 || op->ino < 0 || !m->n[src].size)
		return false;
	op->flags = (u32)src;
	op->fill = rnd(m, m->n[src].size);
	op->offset = rnd(m, M_FILE_MAX);
	if (rnd(m, 4)) {
		op->fill = round_down(op->fill, block);
		op->offset = round_down(op->offset, block);
	}
	op->len = 1 + (rnd(m, 3) ? rnd(m, 24 << 10) : rnd(m, 3000));
	if (m->copies == MODEL_COPIES_MANY && rnd(m, 2)) {
		op->fill = op->offset = 0; /* all of it */
		op->len = m->n[src].size;
	}
	op->len = min(op->len, m->n[src].size - op->fill);
	op->len = min_t(u64, op->len, M_FILE_MAX - op->offset);
	return copy_fits(m, op);
}

static bool gen_name(struct model *m, struct mop *op)
{
	op->dir = pick_dir(m);
	op->name = (unsigned)rnd(m, M_NAMES);
	op->ino = m->n[op->dir].ents[op->name] - 1;
	if (op->ino < 0)
		return false;
	if (op->type == MOP_RMDIR)
		return is_dir(m, op->ino) && dir_empty(m, op->ino);
	return !is_dir(m, op->ino);
}

static bool gen_xattr(struct model *m, struct mop *op)
{
	op->ino = pick(m, 0);
	if (op->ino < 0)
		return false;
	op->name = (unsigned)rnd(m, M_XATTRS);
	if (S_ISLNK(m->n[op->ino].mode))
		op->name = 1; /* no user.* on symlinks */
	op->len = rnd(m, 4) ? rnd(m, 100) : rnd(m, 1200);
	op->fill = trand_u64(&m->rng);
	return op->type == MOP_SETXATTR || m->n[op->ino].xattr_len[op->name] >= 0;
}

/* How often an operation comes, compared with the others. */
static u32 weight(const struct model *m, unsigned type)
{
	static const u8 weights[MOP_NR] = {
		[MOP_CREATE] = 14,  [MOP_MKDIR] = 5,	 [MOP_SYMLINK] = 4,  [MOP_LINK] = 5,
		[MOP_RENAME] = 12,  [MOP_UNLINK] = 12,	 [MOP_RMDIR] = 6,    [MOP_WRITE] = 22,
		[MOP_TRUNCATE] = 8, [MOP_FALLOCATE] = 8, [MOP_SETXATTR] = 6, [MOP_REMOVEXATTR] = 2,
		[MOP_CHMOD] = 3,    [MOP_MKNOD] = 1,	 [MOP_TMPFILE] = 2,  [MOP_FORGET] = 5,
		[MOP_FSYNC] = 5,    [MOP_SYNC] = 3,
	};

	return type == MOP_COPY ? m->copies : weights[type];
}

bool model_gen(struct model *m, struct mop *op)
{
	u32 total = 0, at;

	for (unsigned i = 0; i < MOP_NR; i++)
		total += weight(m, i);
	at = (u32)rnd(m, total);
	*op = (struct mop){.type = 0, .ino = -1};
	while (at >= weight(m, op->type))
		at -= weight(m, op->type++);

	switch (op->type) {
	case MOP_CREATE:
	case MOP_MKDIR:
	case MOP_SYMLINK:
	case MOP_MKNOD:
	case MOP_TMPFILE:
		return gen_new(m, op);
	case MOP_LINK:
		op->dir = pick_dir(m);
		op->name = (unsigned)rnd(m, M_NAMES);
		op->ino = pick(m, 0);
		return op->ino >= 0 && can_link(&m->n[op->ino]) && !m->n[op->dir].ents[op->name];
	case MOP_RENAME:
		return gen_rename(m, op);
	case MOP_UNLINK:
	case MOP_RMDIR:
		return gen_name(m, op);
	case MOP_WRITE:
	case MOP_TRUNCATE:
	case MOP_FALLOCATE:
		return gen_data(m, op);
	case MOP_COPY:
		return gen_copy(m, op);
	case MOP_SETXATTR:
	case MOP_REMOVEXATTR:
		return gen_xattr(m, op);
	case MOP_CHMOD:
		op->flags = (u32)rnd(m, 01000);
		op->ino = pick(m, 0);
		return op->ino >= 0 && !S_ISLNK(m->n[op->ino].mode);
	case MOP_FSYNC:
		op->ino = pick(m, 0);
		op->flags = (u32)rnd(m, 2);
		return op->ino >= 0;
	case MOP_FORGET:
		op->ino = pick(m, 0);
		return op->ino > 0 && m->n[op->ino].refs;
	default:
		return true;
	}
}

static bool valid_names(struct model *m, const struct mop *op)
{
	int s = m->n[op->dir].ents[op->name] - 1, d = m->n[op->dir2].ents[op->name2] - 1;

	if (s != op->ino)
		return false;
	if (op->type == MOP_UNLINK)
		return !is_dir(m, s);
	if (op->type == MOP_RMDIR)
		return is_dir(m, s) && dir_empty(m, s);
	if (s == d || (is_dir(m, s) && above(m, s, op->dir2)))
		return false;
	if (op->flags & BCFS_RENAME_EXCHANGE)
		return d >= 0 && !(is_dir(m, d) && above(m, d, op->dir));
	return d < 0 || (!op->flags && is_dir(m, s) == is_dir(m, d) &&
			 (!is_dir(m, d) || (dir_empty(m, d) && !above(m, d, op->dir))));
}

bool model_valid(struct model *m, const struct mop *op)
{
	const struct mino *x = op->ino >= 0 ? &m->n[op->ino] : NULL;
	const struct mino *dir = &m->n[op->dir], *dir2 = &m->n[op->dir2];

	if (!dir->used || !dir->nlink || !S_ISDIR(dir->mode) || !dir2->used || !dir2->nlink ||
	    !S_ISDIR(dir2->mode))
		return false;
	switch (op->type) {
	case MOP_CREATE:
	case MOP_MKDIR:
	case MOP_SYMLINK:
	case MOP_MKNOD:
	case MOP_TMPFILE:
		return !x->used && (op->type == MOP_TMPFILE || !dir->ents[op->name]);
	case MOP_LINK:
		return can_link(x) && !dir->ents[op->name];
	case MOP_RENAME:
	case MOP_UNLINK:
	case MOP_RMDIR:
		return x->used && valid_names(m, op);
	case MOP_WRITE:
	case MOP_TRUNCATE:
	case MOP_FALLOCATE:
		return x->used && S_ISREG(x->mode) &&
		       (op->type != MOP_FALLOCATE || !(op->flags & SHIFTS) || shift_fits(m, x, op));
	case MOP_COPY:
		return x->used && S_ISREG(x->mode) && copy_fits(m, op);
	case MOP_SETXATTR:
		return x->used && (op->name == 1 || S_ISREG(x->mode) || S_ISDIR(x->mode));
	case MOP_REMOVEXATTR:
		return x->used && x->xattr_len[op->name] >= 0;
	case MOP_CHMOD:
		return x->used && !S_ISLNK(x->mode);
	case MOP_FORGET:
		return op->ino > 0 && x->used && x->refs;
	case MOP_FSYNC:
		return x->used;
	case MOP_SYNC:
	case MOP_WAIT:
	case MOP_REMOUNT:
		return true;
	case MOP_NR:
		break;
	}
	return false;
}

bool mop_changes(const struct mop *op)
{
	return op->type < MOP_FORGET;
}

bool mop_is_new(const struct mop *op)
{
	return op->type == MOP_CREATE || op->type == MOP_MKDIR || op->type == MOP_SYMLINK ||
	       op->type == MOP_MKNOD || op->type == MOP_TMPFILE;
}

bool mop_is_shift(const struct mop *op)
{
	return op->type == MOP_FALLOCATE && op->flags & SHIFTS;
}

bool mop_has_steps(const struct mop *op)
{
	return op->type == MOP_WRITE || op->type == MOP_COPY ||
	       (op->type == MOP_FALLOCATE &&
		op->flags & (BCFS_FALLOC_PUNCH_HOLE | BCFS_FALLOC_ZERO_RANGE));
}

/* ---- applying ---- */

unsigned model_touched(struct model *m, const struct mop *op, int ret[M_TOUCHED])
{
	unsigned nr = 0;

	switch (op->type) {
	case MOP_RENAME:
		if (op->dir2 != op->dir)
			ret[nr++] = op->dir2;
		if (m->n[op->dir2].ents[op->name2])
			ret[nr++] = m->n[op->dir2].ents[op->name2] - 1;
		ret[nr++] = op->dir;
		break;
	case MOP_CREATE:
	case MOP_MKDIR:
	case MOP_SYMLINK:
	case MOP_MKNOD:
	case MOP_LINK:
	case MOP_UNLINK:
	case MOP_RMDIR:
		ret[nr++] = op->dir;
		break;
	default:
		break;
	}
	if (op->ino >= 0)
		ret[nr++] = op->ino;
	return nr;
}

static void drop_if_gone(struct mino *x)
{
	if (x->nlink || x->refs)
		return;
	free(x->data);
	memset(x, 0, sizeof(*x));
}

static void apply_new(struct model *m, const struct mop *op)
{
	struct mino *x = &m->n[op->ino];
	static const u32 types[MOP_NR] = {[MOP_CREATE] = S_IFREG,
					  [MOP_TMPFILE] = S_IFREG,
					  [MOP_MKDIR] = S_IFDIR,
					  [MOP_SYMLINK] = S_IFLNK};
	u32 type = op->type == MOP_MKNOD ? mop_node_type(op) : types[op->type];

	*x = (struct mino){.used = true,
			   .mode = type | (type == S_IFLNK ? 0777 : op->flags),
			   .nlink = op->type != MOP_TMPFILE,
			   .refs = 1,
			   .rdev = mop_node_rdev(op),
			   .inum = x->inum,
			   .parent = op->dir};
	for (unsigned i = 0; i < M_XATTRS; i++)
		x->xattr_len[i] = -1;
	if (type == S_IFREG)
		x->data = calloc(1, M_FILE_MAX);
	if (type == S_IFLNK) {
		x->size = x->target_len = op->len;
		x->target_fill = op->fill;
	}
	if (op->type != MOP_TMPFILE)
		m->n[op->dir].ents[op->name] = op->ino + 1;
}

static void apply_rename(struct model *m, const struct mop *op)
{
	int *from = &m->n[op->dir].ents[op->name], *to = &m->n[op->dir2].ents[op->name2];
	int d = *to - 1;

	*to = op->ino + 1;
	m->n[op->ino].parent = op->dir2;
	if (op->flags & BCFS_RENAME_EXCHANGE) {
		*from = d + 1;
		m->n[d].parent = op->dir;
		return;
	}
	*from = 0;
	if (d >= 0) {
		m->n[d].nlink--;
		drop_if_gone(&m->n[d]);
	}
}

/* See mop_is_shift() for what cut is. What is behind the end, in its block, moves, too. */
static void apply_shift(const struct model *m, struct mino *x, const struct mop *op, u64 cut)
{
	u64 done = min(cut, model_shift_max(m, op)), n = done - min(done, op->len);
	u8 *at = x->data + op->offset;

	if (op->flags & BCFS_FALLOC_COLLAPSE_RANGE) {
		memmove(at, at + op->len, n);
		memset(at + n, 0, done - n);
		x->size -= cut == UINT64_MAX ? op->len : 0;
	} else {
		at = x->data + round_up(x->size, (u64)m->block_bytes) - done;
		memmove(at + op->len, at, done);
		memset(at, 0, op->len);
		x->size += op->len;
	}
}

u64 model_shift_max(const struct model *m, const struct mop *op)
{
	return round_up(m->n[op->ino].size, (u64)m->block_bytes) - op->offset;
}

static void apply_copy(struct mino *x, const struct mino *src, const struct mop *op, u64 cut)
{
	u64 some = min(op->len, cut), len = min(some, src->size - op->fill);

	memmove(x->data + op->offset, src->data + op->fill, len);
	x->size = max(x->size, op->offset + len);
}

static void apply_data(struct model *m, struct mino *x, const struct mop *op, u64 cut)
{
	u64 len = min(op->len, cut), end = op->offset + len;

	x->data_hash = 0;
	if (mop_is_shift(op)) {
		apply_shift(m, x, op, cut);
		return;
	}
	if (op->type == MOP_COPY) {
		apply_copy(x, &m->n[op->flags], op, cut);
		return;
	}
	if (op->type == MOP_TRUNCATE) {
		if (op->len < x->size)
			memset(x->data + op->len, 0, x->size - op->len);
		x->size = op->len;
		return;
	}
	if (op->type == MOP_WRITE) {
		u8 *buf = malloc(op->len);

		model_fill(buf, op->len, op->fill);
		memcpy(x->data + op->offset, buf, len);
		free(buf);
		x->size = max(x->size, end);
		return;
	}
	if (op->flags & (BCFS_FALLOC_PUNCH_HOLE | BCFS_FALLOC_ZERO_RANGE))
		memset(x->data + op->offset, 0, len);
	/* The size comes last. */
	if (cut == UINT64_MAX && !(op->flags & BCFS_FALLOC_KEEP_SIZE))
		x->size = max(x->size, end);
}

void model_apply(struct model *m, const struct mop *op, u64 cut, u32 state)
{
	struct mino *x = op->ino >= 0 ? &m->n[op->ino] : NULL;
	int touched[M_TOUCHED];
	unsigned nr = mop_changes(op) ? model_touched(m, op, touched) : 0;

	switch (op->type) {
	case MOP_CREATE:
	case MOP_MKDIR:
	case MOP_SYMLINK:
	case MOP_MKNOD:
	case MOP_TMPFILE:
		apply_new(m, op);
		break;
	case MOP_LINK:
		m->n[op->dir].ents[op->name] = op->ino + 1;
		x->nlink++;
		x->refs++;
		break;
	case MOP_RENAME:
		apply_rename(m, op);
		break;
	case MOP_UNLINK:
	case MOP_RMDIR:
		m->n[op->dir].ents[op->name] = 0;
		x->nlink--;
		drop_if_gone(x);
		break;
	case MOP_WRITE:
	case MOP_TRUNCATE:
	case MOP_FALLOCATE:
	case MOP_COPY:
		apply_data(m, x, op, cut);
		break;
	case MOP_SETXATTR:
		x->xattr_len[op->name] = (int)op->len;
		x->xattr_fill[op->name] = op->fill;
		break;
	case MOP_REMOVEXATTR:
		x->xattr_len[op->name] = -1;
		break;
	case MOP_CHMOD:
		x->mode = (x->mode & S_IFMT) | op->flags;
		break;
	case MOP_FORGET:
		x->refs = 0;
		drop_if_gone(x);
		break;
	case MOP_REMOUNT:
		for (unsigned i = 1; i < M_INOS; i++) {
			m->n[i].refs = 0;
			if (m->n[i].used)
				drop_if_gone(&m->n[i]);
		}
		break;
	case MOP_FSYNC:
	case MOP_SYNC:
	case MOP_WAIT:
	case MOP_NR:
		break;
	}
	for (unsigned i = 0; i < nr; i++)
		if (m->n[touched[i]].used)
			m->n[touched[i]].last_state = state;
}

char *model_text_cut(struct model *m, const struct mop *op, u64 cut)
{
	struct mino *x = &m->n[op->ino], saved = *x;
	char *text;

	saved.data = malloc(M_FILE_MAX);
	memcpy(saved.data, x->data, M_FILE_MAX);
	apply_data(m, x, op, cut);
	text = model_text(m);
	free(x->data);
	*x = saved;
	return text;
}

u64 model_hash_cut(struct model *m, const struct mop *op, u64 cut)
{
	char *text = model_text_cut(m, op, cut);
	u64 h = text_hash(text);

	free(text);
	return h;
}
