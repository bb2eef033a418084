// SPDX-License-Identifier: LGPL-2.1-or-later
#include "model.h"

#include "../unit/test_rand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

static const char *const xattr_names[M_XATTRS] = {"user.a", "trusted.bb", "user.long-name"};

static const char *name_of(unsigned i)
{
	static const char *const names[M_NAMES] = {
		"a",
		"b",
		"c0",
		"d11",
		"e-somewhat-longer-name",
		"f-somewhat-longer-name-still",
		"g",
		"h",
		"i.txt",
		"j",
		"k-0123456789012345678901234567890123456789012345678901234567890123456789",
		"l-"
		"012345678901234567890123456789012345678901234567890123456789012345678901234567890"
		"1234567890123456789012345678901234567890123456789012345678901234567890123456789012"
		"3"
		"4567890123456789012345678901234567890123456789012345678901234567890123456789abcdef"
		"g",
	};

	return names[i];
}

static u64 rnd(struct model *m, u64 limit)
{
	return trand_below(&m->rng, limit);
}

static void fill_bytes(u8 *p, u64 len, u64 seed)
{
	for (u64 i = 0; i < len; i++) {
		if (!(i % 8))
			trand_u64(&seed);
		p[i] = 'a' + (u8)((seed >> (i % 8 * 8)) % 26);
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
	return true;
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

bool model_gen(struct model *m, struct mop *op)
{
	static const u8 weights[] = {
		[MOP_CREATE] = 14,  [MOP_MKDIR] = 5,	 [MOP_SYMLINK] = 4,  [MOP_LINK] = 5,
		[MOP_RENAME] = 12,  [MOP_UNLINK] = 12,	 [MOP_RMDIR] = 6,    [MOP_WRITE] = 22,
		[MOP_TRUNCATE] = 8, [MOP_FALLOCATE] = 8, [MOP_SETXATTR] = 6, [MOP_REMOVEXATTR] = 2,
		[MOP_CHMOD] = 3,    [MOP_FORGET] = 5,	 [MOP_FSYNC] = 5,    [MOP_SYNC] = 3,
	};
	u32 total = 0, at;

	for (unsigned i = 0; i < MOP_NR; i++)
		total += weights[i];
	at = (u32)rnd(m, total);
	*op = (struct mop){.type = 0, .ino = -1};
	while (at >= weights[op->type])
		at -= weights[op->type++];

	switch (op->type) {
	case MOP_CREATE:
	case MOP_MKDIR:
	case MOP_SYMLINK:
		return gen_new(m, op);
	case MOP_LINK:
		op->dir = pick_dir(m);
		op->name = (unsigned)rnd(m, M_NAMES);
		op->ino = pick(m, 0);
		return op->ino >= 0 && m->n[op->ino].nlink && !is_dir(m, op->ino) &&
		       !m->n[op->dir].ents[op->name];
	case MOP_RENAME:
		return gen_rename(m, op);
	case MOP_UNLINK:
	case MOP_RMDIR:
		return gen_name(m, op);
	case MOP_WRITE:
	case MOP_TRUNCATE:
	case MOP_FALLOCATE:
		return gen_data(m, op);
	case MOP_SETXATTR:
	case MOP_REMOVEXATTR:
		return gen_xattr(m, op);
	case MOP_CHMOD:
		op->flags = (u32)rnd(m, 01000);
		op->ino = pick(m, 0);
		return op->ino >= 0 && !S_ISLNK(m->n[op->ino].mode);
	case MOP_FSYNC:
		op->ino = pick(m, 0);
		return op->ino >= 0;
	case MOP_FORGET:
		op->ino = pick(m, 0);
		return op->ino > 0 && m->n[op->ino].refs;
	default:
		return true;
	}
}

bool mop_changes(const struct mop *op)
{
	return op->type < MOP_FORGET;
}

bool mop_has_steps(const struct mop *op)
{
	return op->type == MOP_WRITE ||
	       (op->type == MOP_FALLOCATE &&
		op->flags & (BCFS_FALLOC_PUNCH_HOLE | BCFS_FALLOC_ZERO_RANGE));
}

/* ---- applying ---- */

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
	u32 type = op->type == MOP_CREATE ? S_IFREG : op->type == MOP_MKDIR ? S_IFDIR : S_IFLNK;

	*x = (struct mino){.used = true,
			   .mode = type | (type == S_IFLNK ? 0777 : op->flags),
			   .nlink = 1,
			   .refs = 1,
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

static void apply_data(struct mino *x, const struct mop *op, u64 cut)
{
	u64 len = min(op->len, cut), end = op->offset + len;

	x->data_hash = 0;
	if (op->type == MOP_TRUNCATE) {
		if (op->len < x->size)
			memset(x->data + op->len, 0, x->size - op->len);
		x->size = op->len;
		return;
	}
	if (op->type == MOP_WRITE) {
		u8 *buf = malloc(op->len);

		fill_bytes(buf, op->len, op->fill);
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

	switch (op->type) {
	case MOP_CREATE:
	case MOP_MKDIR:
	case MOP_SYMLINK:
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
		apply_data(x, op, cut);
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
	case MOP_FSYNC:
	case MOP_SYNC:
	case MOP_NR:
		break;
	}
	if (x && x->used && mop_changes(op))
		x->last_state = state;
}

u64 model_hash_cut(struct model *m, const struct mop *op, u64 cut)
{
	struct mino *x = &m->n[op->ino], saved = *x;
	char *text;
	u64 h;

	saved.data = malloc(M_FILE_MAX);
	memcpy(saved.data, x->data, M_FILE_MAX);
	apply_data(x, op, cut);
	text = model_text(m);
	h = text_hash(text);
	free(text);
	free(x->data);
	*x = saved;
	return h;
}

/* ---- doing ---- */

static struct bcfs_ino ino_of(struct model *m, int n)
{
	return (struct bcfs_ino){BCFS_ROOT_SUBVOL, m->n[n].inum};
}

static int exec_new(struct model *m, struct bcfs *c, const struct mop *op)
{
	const struct bcfs_cred cred = {.uid = 0};
	struct bcfs_ino dir = ino_of(m, op->dir);
	struct bcfs_stat st;
	char target[4096];
	int ret;

	if (op->type == MOP_CREATE) {
		ret = bcfs_mknod(c, dir, name_of(op->name), S_IFREG | op->flags, 0, 0, &cred, &st);
	} else if (op->type == MOP_MKDIR) {
		ret = bcfs_mkdir(c, dir, name_of(op->name), op->flags, &cred, &st);
	} else {
		fill_bytes((u8 *)target, op->len, op->fill);
		target[op->len] = 0;
		ret = bcfs_symlink(c, dir, name_of(op->name), target, &cred, &st);
	}
	if (!ret)
		m->n[op->ino].inum = st.ino.inum;
	return ret;
}

static int exec_write(struct model *m, struct bcfs *c, const struct mop *op, u64 *ret_cut)
{
	u8 *buf = malloc(op->len);
	s64 ret;

	fill_bytes(buf, op->len, op->fill);
	ret = bcfs_write(c, ino_of(m, op->ino), op->offset, buf, op->len, 0);
	free(buf);
	if (ret >= 0 && ret < (s64)op->len)
		*ret_cut = (u64)ret;
	return ret < 0 ? (int)ret : 0;
}

static int exec_xattr(struct model *m, struct bcfs *c, const struct mop *op)
{
	u8 buf[2048];

	if (op->type == MOP_REMOVEXATTR)
		return bcfs_removexattr(c, ino_of(m, op->ino), xattr_names[op->name]);
	fill_bytes(buf, op->len, op->fill);
	return bcfs_setxattr(c, ino_of(m, op->ino), xattr_names[op->name], buf, op->len, 0);
}

int model_exec(struct model *m, struct bcfs *c, const struct mop *op, u64 *ret_cut)
{
	struct bcfs_ino dir = ino_of(m, op->dir), ino = op->ino >= 0 ? ino_of(m, op->ino) : dir;
	struct bcfs_stat st = {.mode = op->flags, .size = op->len};

	*ret_cut = UINT64_MAX;
	switch (op->type) {
	case MOP_CREATE:
	case MOP_MKDIR:
	case MOP_SYMLINK:
		return exec_new(m, c, op);
	case MOP_LINK:
		return bcfs_link(c, ino, dir, name_of(op->name), &st);
	case MOP_RENAME:
		return bcfs_rename(c, dir, name_of(op->name), ino_of(m, op->dir2),
				   name_of(op->name2), op->flags);
	case MOP_UNLINK:
		return bcfs_unlink(c, dir, name_of(op->name));
	case MOP_RMDIR:
		return bcfs_rmdir(c, dir, name_of(op->name));
	case MOP_WRITE:
		return exec_write(m, c, op, ret_cut);
	case MOP_TRUNCATE:
		return bcfs_setattr(c, ino, &st, BCFS_SET_SIZE, &st);
	case MOP_FALLOCATE:
		return bcfs_fallocate(c, ino, op->flags, op->offset, op->len);
	case MOP_SETXATTR:
	case MOP_REMOVEXATTR:
		return exec_xattr(m, c, op);
	case MOP_CHMOD:
		return bcfs_setattr(c, ino, &st, BCFS_SET_MODE, &st);
	case MOP_FORGET:
		bcfs_forget(c, ino, m->n[op->ino].refs);
		return 0;
	case MOP_FSYNC:
		return bcfs_fsync(c, ino, 0);
	case MOP_SYNC:
		return bcfs_sync(c);
	case MOP_NR:
		break;
	}
	return 0;
}

/* ---- texts ---- */

struct text {
	FILE *f;
	char *s;
	size_t len;
	u64 seen[M_INOS * 2]; /* inode numbers, in order of their first path */
	unsigned nr;
};

static void text_open(struct text *t)
{
	*t = (struct text){0};
	t->f = open_memstream(&t->s, &t->len);
}

/* Prints the head of a line; false when the inode was there under another name already. */
static bool text_head(struct text *t, const char *path, u32 mode, u32 nlink, u64 size, u64 inum)
{
	unsigned i = 0;

	while (i < t->nr && t->seen[i] != inum)
		i++;
	fprintf(t->f, "%s #%u", path, i);
	if (i < t->nr) {
		fputc('\n', t->f);
		return false;
	}
	if (t->nr < ARRAY_SIZE(t->seen))
		t->seen[t->nr++] = inum;
	fprintf(t->f, " %06o", mode);
	if (S_ISDIR(mode))
		fprintf(t->f, " nlink %u", nlink);
	else
		fprintf(t->f, " nlink %u size %llu", nlink, (unsigned long long)size);
	return true;
}

static void text_bytes(struct text *t, const char *what, const void *p, u64 len)
{
	fprintf(t->f, " %s %llu:%016llx", what, (unsigned long long)len,
		(unsigned long long)XXH3_64bits(p, len));
}

static void model_line(struct model *m, struct text *t, const char *path, int n)
{
	struct mino *x = &m->n[n];
	u32 nlink = x->nlink;
	u8 buf[4096];

	for (unsigned i = 0; S_ISDIR(x->mode) && i < M_NAMES; i++)
		nlink += x->ents[i] && is_dir(m, x->ents[i] - 1);
	if (S_ISDIR(x->mode))
		nlink++;
	if (!text_head(t, path, x->mode, nlink, x->size, (u64)n))
		return;
	if (S_ISREG(x->mode)) {
		if (!x->data_hash)
			x->data_hash = XXH3_64bits(x->data, x->size);
		fprintf(t->f, " data %llu:%016llx", (unsigned long long)x->size,
			(unsigned long long)x->data_hash);
	}
	if (S_ISLNK(x->mode)) {
		fill_bytes(buf, x->target_len, x->target_fill);
		text_bytes(t, "target", buf, x->target_len);
	}
	for (unsigned i = 0; i < M_XATTRS; i++) {
		if (x->xattr_len[i] < 0)
			continue;
		fill_bytes(buf, (u64)x->xattr_len[i], x->xattr_fill[i]);
		text_bytes(t, xattr_names[i], buf, (u64)x->xattr_len[i]);
	}
	fputc('\n', t->f);
}

static void model_walk(struct model *m, struct text *t, const char *path, int n)
{
	char *sub;

	model_line(m, t, path, n);
	if (!is_dir(m, n))
		return;
	for (unsigned i = 0; i < M_NAMES; i++) { /* the names are in order */
		if (!m->n[n].ents[i])
			continue;
		if (asprintf(&sub, "%s/%s", path, name_of(i)) < 0)
			abort();
		model_walk(m, t, sub, m->n[n].ents[i] - 1);
		free(sub);
	}
}

char *model_text(struct model *m)
{
	struct text t;

	text_open(&t);
	model_walk(m, &t, "", 0);
	fclose(t.f);
	return t.s;
}

struct dir_list {
	struct {
		char name[256];
		struct bcfs_ino ino;
	} e[64];
	unsigned nr;
};

static int list_entry(void *arg, const struct bcfs_dir_entry *e)
{
	struct dir_list *l = arg;

	if (!strcmp(e->name, ".") || !strcmp(e->name, "..") || !strcmp(e->name, M_BULK_DIR) ||
	    l->nr == ARRAY_SIZE(l->e))
		return 0;
	snprintf(l->e[l->nr].name, sizeof(l->e[0].name), "%s", e->name);
	l->e[l->nr++].ino = e->ino;
	return 0;
}

static int cmp_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void note_err(int *err, s64 ret)
{
	if (ret < 0 && !*err)
		*err = (int)ret;
}

static void fs_xattrs(struct bcfs *c, struct text *t, struct bcfs_ino ino, int *err)
{
	u8 *buf = malloc(65536);
	char list[512];
	s64 len = bcfs_listxattr(c, ino, list, sizeof(list));

	note_err(err, len);
	for (unsigned i = 0; i < M_XATTRS; i++) {
		for (s64 at = 0; at < len; at += (s64)strlen(list + at) + 1) {
			s64 n;

			if (strcmp(list + at, xattr_names[i]))
				continue;
			n = bcfs_getxattr(c, ino, list + at, buf, 65536);
			note_err(err, n);
			if (n >= 0)
				text_bytes(t, xattr_names[i], buf, (u64)n);
		}
	}
	free(buf);
}

static void fs_walk(struct bcfs *c, struct text *t, const char *path, struct bcfs_ino ino, int *err)
{
	struct bcfs_stat st, bulk;
	struct dir_list *l;
	char *sub;
	int ret = bcfs_getattr(c, ino, &st);

	note_err(err, ret);
	if (ret) {
		fprintf(t->f, "%s: getattr: %s\n", path, err_str(ret));
		return;
	}
	if (!*path && !bcfs_lookup(c, ino, M_BULK_DIR, &bulk)) {
		bcfs_forget(c, bulk.ino, 1);
		st.nlink--;
	}
	if (!text_head(t, path, st.mode, st.nlink, st.size, ino.inum))
		return;
	if (S_ISREG(st.mode)) {
		u8 *buf = malloc(M_FILE_MAX + 1);
		s64 n = bcfs_read(c, ino, 0, buf, M_FILE_MAX);

		note_err(err, n);
		if (n >= 0)
			text_bytes(t, "data", buf, (u64)n);
		free(buf);
	}
	if (S_ISLNK(st.mode)) {
		char *buf = malloc(8192);
		s64 n = bcfs_readlink(c, ino, buf, 8192);

		note_err(err, n);
		if (n >= 0)
			text_bytes(t, "target", buf, (u64)n);
		free(buf);
	}
	fs_xattrs(c, t, ino, err);
	fputc('\n', t->f);
	if (!S_ISDIR(st.mode))
		return;
	l = calloc(1, sizeof(*l));
	note_err(err, bcfs_readdir(c, ino, 0, 0, list_entry, l));
	qsort(l->e, l->nr, sizeof(l->e[0]), cmp_names);
	for (unsigned i = 0; i < l->nr; i++) {
		if (asprintf(&sub, "%s/%s", path, l->e[i].name) < 0)
			abort();
		fs_walk(c, t, sub, l->e[i].ino, err);
		free(sub);
	}
	free(l);
}

char *fs_text(struct bcfs *c, int *ret_err)
{
	struct text t;

	*ret_err = 0;
	text_open(&t);
	fs_walk(c, &t, "", bcfs_root(c), ret_err);
	fclose(t.f);
	return t.s;
}

u64 text_hash(const char *text)
{
	return XXH3_64bits(text, strlen(text));
}

void mop_print(const struct mop *op, char *buf, size_t size)
{
	static const char *const names[MOP_NR] = {
		"create", "mkdir",  "symlink",	"link",	     "rename",	 "unlink",
		"rmdir",  "write",  "truncate", "fallocate", "setxattr", "removexattr",
		"chmod",  "forget", "fsync",	"sync"};

	snprintf(buf, size, "%s ino %d dir %d/%u -> %d/%u flags 0%o offset %llu len %llu",
		 names[op->type], op->ino, op->dir, op->name, op->dir2, op->name2, op->flags,
		 (unsigned long long)op->offset, (unsigned long long)op->len);
}
