// SPDX-License-Identifier: LGPL-2.1-or-later
/* The model and a filesystem: operations done, times read, trees as text. */
#include "model.h"

#include "../unit/test_rand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

static const char *const xattr_names[M_XATTRS] = {"user.a", "trusted.bb", "user.long-name"};

#define BUF_ALIGN 4096U
#define BUF_ODD	  16U

u8 *model_buf(size_t len, u64 nr)
{
	size_t bytes = round_up(len + BUF_ODD, (size_t)BUF_ALIGN);
	u8 *p = aligned_alloc(BUF_ALIGN, bytes);

	memset(p, 0, bytes);
	return nr & 1 ? p + BUF_ODD : p;
}

void model_buf_free(void *buf)
{
	free((void *)round_down((uintptr_t)buf, (uintptr_t)BUF_ALIGN));
}

const char *model_name(unsigned i)
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

static bool is_dir(struct model *m, int n)
{
	return S_ISDIR(m->n[n].mode);
}

/* What kind of node, and which device: from the content's seed. */
u32 mop_node_type(const struct mop *op)
{
	static const u32 types[] = {S_IFIFO, S_IFCHR, S_IFBLK, S_IFSOCK};

	return types[op->fill % ARRAY_SIZE(types)];
}

u32 mop_node_rdev(const struct mop *op)
{
	u32 type = op->type == MOP_MKNOD ? mop_node_type(op) : 0;

	return type == S_IFCHR || type == S_IFBLK ? 1 + (u32)(op->fill >> 8) % 4000 : 0;
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
		ret = bcfs_mknod(c, dir, model_name(op->name), S_IFREG | op->flags, 0, 0, &cred,
				 &st);
	} else if (op->type == MOP_MKDIR) {
		ret = bcfs_mkdir(c, dir, model_name(op->name), op->flags, &cred, &st);
	} else if (op->type == MOP_MKNOD) {
		u32 rdev = mop_node_rdev(op);

		ret = bcfs_mknod(c, dir, model_name(op->name), mop_node_type(op) | op->flags,
				 rdev / 100, rdev % 100, &cred, &st);
	} else if (op->type == MOP_TMPFILE) {
		ret = bcfs_tmpfile(c, dir, op->flags, &cred, &st);
	} else {
		model_fill((u8 *)target, op->len, op->fill);
		target[op->len] = 0;
		ret = bcfs_symlink(c, dir, model_name(op->name), target, &cred, &st);
	}
	if (!ret)
		m->n[op->ino].inum = st.ino.inum;
	return ret;
}

static int exec_write(struct model *m, struct bcfs *c, const struct mop *op, u64 *ret_cut)
{
	u8 *buf = model_buf(op->len, op->ino);
	s64 ret;

	model_fill(buf, op->len, op->fill);
	ret = bcfs_write(c, ino_of(m, op->ino), op->offset, buf, op->len, 0);
	model_buf_free(buf);
	if (ret >= 0 && ret < (s64)op->len)
		*ret_cut = (u64)ret;
	return ret < 0 ? (int)ret : 0;
}

static int exec_copy(struct model *m, struct bcfs *c, const struct mop *op, u64 *ret_cut)
{
	u64 len = min(op->len, m->n[op->flags].size - op->fill);
	s64 ret = bcfs_copy_range(c, ino_of(m, (int)op->flags), op->fill, ino_of(m, op->ino),
				  op->offset, op->len, 0);

	if (ret >= 0 && ret < (s64)len)
		*ret_cut = (u64)ret;
	return ret < 0 ? (int)ret : 0;
}

static int exec_xattr(struct model *m, struct bcfs *c, const struct mop *op)
{
	u8 buf[2048];

	if (op->type == MOP_REMOVEXATTR)
		return bcfs_removexattr(c, ino_of(m, op->ino), xattr_names[op->name]);
	model_fill(buf, op->len, op->fill);
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
	case MOP_MKNOD:
	case MOP_TMPFILE:
		return exec_new(m, c, op);
	case MOP_LINK:
		return bcfs_link(c, ino, dir, model_name(op->name), &st);
	case MOP_RENAME:
		return bcfs_rename(c, dir, model_name(op->name), ino_of(m, op->dir2),
				   model_name(op->name2), op->flags);
	case MOP_UNLINK:
		return bcfs_unlink(c, dir, model_name(op->name));
	case MOP_RMDIR:
		return bcfs_rmdir(c, dir, model_name(op->name));
	case MOP_WRITE:
		return exec_write(m, c, op, ret_cut);
	case MOP_TRUNCATE:
		return bcfs_setattr(c, ino, &st, BCFS_SET_SIZE, &st);
	case MOP_FALLOCATE:
		return bcfs_fallocate(c, ino, op->flags, op->offset, op->len);
	case MOP_COPY:
		return exec_copy(m, c, op, ret_cut);
	case MOP_SETXATTR:
	case MOP_REMOVEXATTR:
		return exec_xattr(m, c, op);
	case MOP_CHMOD:
		return bcfs_setattr(c, ino, &st, BCFS_SET_MODE, &st);
	case MOP_FORGET:
		bcfs_forget(c, ino, m->n[op->ino].refs);
		return 0;
	case MOP_FSYNC:
		return bcfs_fsync(c, ino, (int)op->flags);
	case MOP_SYNC:
		return bcfs_sync(c);
	case MOP_WAIT:
	case MOP_REMOUNT:
	case MOP_NR:
		break;
	}
	return 0;
}

/* ---- times ---- */

static u64 time_ns(struct bcfs_time t)
{
	return (u64)t.sec * 1000000000 + t.nsec;
}

static struct mtimes times_of(const struct bcfs_stat *st)
{
	return (struct mtimes){.known = true,
			       .inum = st->ino.inum,
			       .generation = st->generation,
			       .atime = time_ns(st->atime),
			       .mtime = time_ns(st->mtime),
			       .ctime = time_ns(st->ctime),
			       .btime = time_ns(st->btime),
			       .blocks = st->blocks};
}

/* What an operation does to a time: it must move, may, or must not. */
enum moves { MUST, MAY, MUST_NOT };

static bool time_ok(u64 was, u64 is, enum moves moves, u64 since, u64 now)
{
	if (is >= since && is <= now && moves != MUST_NOT)
		return true;
	return is == was && moves != MUST;
}

static const char *wrong_time(struct model *m, const struct mop *op, int n, const struct mtimes *is,
			      u64 since, u64 now)
{
	const struct mtimes *was = &m->n[n].times;
	bool born = mop_is_new(op) && n == op->ino;
	bool copy = op->type == MOP_COPY, write = op->type == MOP_WRITE || copy;
	bool data = write || op->type == MOP_TRUNCATE || op->type == MOP_FALLOCATE;
	bool names = !data && n != op->ino;
	enum moves mtime = MUST_NOT, ctime = MUST;

	/* Of a renamed directory over which another went, or one that is removed: as it likes. */
	if (names && n != op->dir && n != op->dir2)
		mtime = MAY;
	else if (names)
		mtime = MUST;
	if (data)
		mtime = ctime = write ? MUST : MAY;
	if (op->type == MOP_RMDIR && n == op->ino)
		mtime = ctime = MAY;
	if (!was->known && !born)
		return NULL;
	if (!born && (was->inum != is->inum || was->generation != is->generation))
		return "number or generation";
	if (!time_ok(was->atime, is->atime, born ? MUST : MUST_NOT, since, now))
		return "atime";
	if (!time_ok(was->mtime, is->mtime, born ? MUST : mtime, since, now))
		return "mtime";
	if (!time_ok(was->ctime, is->ctime, born ? MUST : ctime, since, now))
		return "ctime";
	if (!time_ok(was->btime, is->btime, born ? MUST : MUST_NOT, since, now))
		return "btime";
	return NULL;
}

bool model_stat(struct model *m, struct bcfs *c, const struct mop *op, const int *touched,
		unsigned nr, u64 since, u64 now, char *msg, size_t msg_size)
{
	bool ok = true;

	for (unsigned i = 0; i < nr; i++) {
		struct mino *x = &m->n[touched[i]];
		struct bcfs_ino ino = {BCFS_ROOT_SUBVOL, x->inum};
		struct mtimes is = {0};
		struct bcfs_stat st;
		const char *wrong;

		if (!x->used)
			continue;
		if (!bcfs_getattr(c, ino, &st))
			is = times_of(&st);
		wrong = is.known && now ? wrong_time(m, op, touched[i], &is, since, now) : NULL;
		if (wrong && ok) {
			u64 was = *wrong == 'm' ? x->times.mtime : x->times.ctime;

			snprintf(msg, msg_size,
				 "%s of inode %d is wrong: mtime %llu, ctime %llu; was %llu; the "
				 "operation took from %llu to %llu",
				 wrong, touched[i], (unsigned long long)is.mtime,
				 (unsigned long long)is.ctime, (unsigned long long)was,
				 (unsigned long long)since, (unsigned long long)now);
			ok = false;
		}
		x->times = is;
	}
	return ok;
}

/* ---- texts ---- */

struct text {
	FILE *f;
	char *s;
	size_t len;
	u64 seen[M_INOS * 2]; /* inode numbers, in order of their first path */
	unsigned nr;
	u64 times; /* a hash over those of all inodes; 0: some are not known */
};

static void text_open(struct text *t)
{
	*t = (struct text){.times = 1};
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

static void text_times(struct text *t, const struct mtimes *times)
{
	u64 v[] = {t->times,	 times->atime,	times->mtime, times->ctime,
		   times->btime, times->blocks, times->inum,  times->generation};

	if (t->times)
		t->times = times->known ? XXH3_64bits(v, sizeof(v)) : 0;
}

static void text_rdev(struct text *t, u32 mode, u32 major, u32 minor)
{
	if (S_ISCHR(mode) || S_ISBLK(mode))
		fprintf(t->f, " device %u:%u", major, minor);
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
	text_times(t, &x->times);
	text_rdev(t, x->mode, x->rdev / 100, x->rdev % 100);
	if (S_ISREG(x->mode)) {
		if (!x->data_hash)
			x->data_hash = XXH3_64bits(x->data, x->size);
		fprintf(t->f, " data %llu:%016llx", (unsigned long long)x->size,
			(unsigned long long)x->data_hash);
	}
	if (S_ISLNK(x->mode)) {
		model_fill(buf, x->target_len, x->target_fill);
		text_bytes(t, "target", buf, x->target_len);
	}
	for (unsigned i = 0; i < M_XATTRS; i++) {
		if (x->xattr_len[i] < 0)
			continue;
		model_fill(buf, (u64)x->xattr_len[i], x->xattr_fill[i]);
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
		if (asprintf(&sub, "%s/%s", path, model_name(i)) < 0)
			abort();
		model_walk(m, t, sub, m->n[n].ents[i] - 1);
		free(sub);
	}
}

char *model_text_times(struct model *m, u64 *ret_times)
{
	struct text t;

	text_open(&t);
	model_walk(m, &t, "", 0);
	fclose(t.f);
	*ret_times = t.times;
	return t.s;
}

char *model_text(struct model *m)
{
	u64 times;

	return model_text_times(m, &times);
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

/* @n bytes, or an error. */
static void fs_value(struct text *t, const char *what, const void *p, s64 n, int *err)
{
	note_err(err, n);
	if (n >= 0)
		text_bytes(t, what, p, (u64)n);
	else
		fprintf(t->f, " !%s", what);
}

static void fs_xattrs(struct bcfs *c, struct text *t, struct bcfs_ino ino, int *err)
{
	u8 *buf = malloc(65536);
	char list[512];
	s64 len = bcfs_listxattr(c, ino, list, sizeof(list));

	note_err(err, len);
	if (len < 0)
		fputs(" !xattrs", t->f);
	for (unsigned i = 0; i < M_XATTRS; i++) {
		for (s64 at = 0; at < len; at += (s64)strlen(list + at) + 1)
			if (!strcmp(list + at, xattr_names[i]))
				fs_value(t, xattr_names[i], buf,
					 bcfs_getxattr(c, ino, list + at, buf, 65536), err);
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
		fprintf(t->f, "%s !inode\n", path);
		return;
	}
	if (!*path) {
		ret = bcfs_lookup(c, ino, M_BULK_DIR, &bulk);
		if (!ret) {
			bcfs_forget(c, bulk.ino, 1);
			st.nlink--;
		} else if (ret != -BCFS_ERR_no_such_name) {
			note_err(err, ret);
		}
	}
	if (!text_head(t, path, st.mode, st.nlink, st.size, ino.inum))
		return;
	struct mtimes times = times_of(&st);

	text_times(t, &times);
	text_rdev(t, st.mode, st.rdev_major, st.rdev_minor);
	if (S_ISREG(st.mode)) {
		u8 *buf = model_buf(M_FILE_MAX + 1, ino.inum);

		fs_value(t, "data", buf, bcfs_read(c, ino, 0, buf, M_FILE_MAX), err);
		model_buf_free(buf);
	}
	if (S_ISLNK(st.mode)) {
		char *buf = malloc(8192);

		fs_value(t, "target", buf, bcfs_readlink(c, ino, buf, 8192), err);
		free(buf);
	}
	fs_xattrs(c, t, ino, err);
	l = calloc(1, sizeof(*l));
	ret = S_ISDIR(st.mode) ? bcfs_readdir(c, ino, 0, 0, list_entry, l) : 0;
	note_err(err, ret);
	fputs(ret ? " !names\n" : "\n", t->f);
	qsort(l->e, l->nr, sizeof(l->e[0]), cmp_names);
	for (unsigned i = 0; i < l->nr; i++) {
		if (asprintf(&sub, "%s/%s", path, l->e[i].name) < 0)
			abort();
		fs_walk(c, t, sub, l->e[i].ino, err);
		free(sub);
	}
	free(l);
}

char *fs_text_times(struct bcfs *c, int *ret_err, u64 *ret_times)
{
	struct text t;

	*ret_err = 0;
	text_open(&t);
	fs_walk(c, &t, "", bcfs_root(c), ret_err);
	fclose(t.f);
	*ret_times = t.times;
	return t.s;
}

char *fs_text(struct bcfs *c, int *ret_err)
{
	u64 times;

	return fs_text_times(c, ret_err, &times);
}

/* ---- a text with errors ---- */

struct text_line {
	const char *path, *words, *end;
	size_t path_len;
	int idx; /* -1: the inode could not be read */
};

/* To be freed. */
static struct text_line *text_lines(const char *text, unsigned *ret_nr)
{
	struct text_line *l = NULL;
	unsigned nr = 0, max_nr = 0;
	char *end;

	for (; *text; text = l[nr - 1].end + 1) {
		if (nr == max_nr)
			l = realloc(l, (max_nr += 128) * sizeof(*l));
		l[nr] = (struct text_line){.path = text, .path_len = strcspn(text, " \n")};
		l[nr].words = text + l[nr].path_len;
		l[nr].end = text + strcspn(text, "\n");
		l[nr].idx = -1;
		if (!strncmp(l[nr].words, " #", 2)) {
			l[nr].idx = (int)strtol(l[nr].words + 2, &end, 10);
			l[nr].words = end;
		}
		nr++;
	}
	*ret_nr = nr;
	return l;
}

static const struct text_line *line_find(const struct text_line *l, unsigned nr, const char *path,
					 size_t len)
{
	for (unsigned i = 0; i < nr; i++)
		if (l[i].path_len == len && !memcmp(l[i].path, path, len))
			return &l[i];
	return NULL;
}

/* The next word of the line, and behind it; false: there is none. */
static bool next_word(const char **at, const char *end, const char **ret, size_t *ret_len)
{
	if (*at >= end)
		return false;
	*ret = *at + 1;
	*ret_len = strcspn(*ret, " \n");
	*at = *ret + *ret_len;
	return true;
}

static bool word_is(const char *w, size_t len, const char *is)
{
	return len == strlen(is) && !memcmp(w, is, len);
}

/* All words of the right line, but where an error stands for a name and what it has. */
static bool words_are_part(const struct text_line *shown, const struct text_line *right)
{
	const char *s = shown->words, *r = right->words, *w, *rw;
	size_t len, rlen;

	while (next_word(&s, shown->end, &w, &len)) {
		bool error = *w == '!';

		if (word_is(w, len, "!names"))
			continue;
		if (word_is(w, len, "!xattrs")) {
			r = right->end;
			continue;
		}
		if (!next_word(&r, right->end, &rw, &rlen) || rlen != len - error ||
		    memcmp(rw, w + error, rlen))
			return false;
		if (error)
			next_word(&r, right->end, &rw, &rlen);
	}
	return r >= right->end;
}

/* Inodes are numbered by their first path, which may not be there: one number for one. */
static bool idx_fits(int *to, int *from, int shown, int right)
{
	if (!to[shown] && !from[right]) {
		to[shown] = right + 1;
		from[right] = shown + 1;
	}
	return to[shown] == right + 1 && from[right] == shown + 1;
}

/* Each name of a directory that could be listed is there. */
static bool no_name_misses(const struct text_line *l, unsigned nr, const struct text_line *right,
			   unsigned nr_right)
{
	for (unsigned i = 1; i < nr_right; i++) {
		const struct text_line *q = &right[i], *dir;
		size_t len = q->path_len;

		if (line_find(l, nr, q->path, len))
			continue;
		while (len && q->path[--len] != '/')
			;
		dir = line_find(l, nr, q->path, len);
		if (dir && dir->idx >= 0 &&
		    (dir->end - dir->words < 7 || memcmp(dir->end - 7, " !names", 7)))
			return false;
	}
	return true;
}

bool text_is_part(const char *text, const char *right)
{
	unsigned nr, nr_right;
	struct text_line *l = text_lines(text, &nr), *r = text_lines(right, &nr_right);
	int *to = calloc(nr + 1, sizeof(*to)), *from = calloc(nr_right + 1, sizeof(*from));
	bool ok = nr && !l[0].path_len;

	for (unsigned i = 0; ok && i < nr; i++) {
		const struct text_line *q = line_find(r, nr_right, l[i].path, l[i].path_len);

		ok = q && (l[i].idx < 0 || idx_fits(to, from, l[i].idx, q->idx));
		if (!ok || l[i].idx < 0 || l[i].words == l[i].end)
			continue;
		/* What it has stands at its first path. */
		for (const struct text_line *k = r; k < q; k++)
			if (k->idx == q->idx)
				q = k;
		ok = words_are_part(&l[i], q);
	}
	ok = ok && no_name_misses(l, nr, r, nr_right);
	free(l);
	free(r);
	free(to);
	free(from);
	return ok;
}

u64 text_hash(const char *text)
{
	return XXH3_64bits(text, strlen(text));
}

const char *mop_type_name(enum mop_type type)
{
	static const char *const names[MOP_NR] = {
		"create",  "mkdir",    "symlink",   "link",	"rename",      "unlink", "rmdir",
		"write",   "truncate", "fallocate", "setxattr", "removexattr", "chmod",	 "mknod",
		"tmpfile", "copy",     "forget",    "fsync",	"sync",	       "wait",	 "remount"};

	return type < MOP_NR ? names[type] : "?";
}

/* A name of one directory, as "3/a": the directory's number, for paths change. */
static void print_name(FILE *f, int dir, unsigned name)
{
	fprintf(f, "%d/%.30s", dir, model_name(name % M_NAMES));
}

void mop_print(const struct mop *op, char *buf, size_t size)
{
	FILE *f = fmemopen(buf, size, "w");

	fprintf(f, "%s", mop_type_name(op->type));
	if (op->ino >= 0)
		fprintf(f, " inode %d", op->ino);
	switch (op->type) {
	case MOP_CREATE:
	case MOP_MKDIR:
	case MOP_SYMLINK:
	case MOP_MKNOD:
	case MOP_LINK:
	case MOP_UNLINK:
	case MOP_RMDIR:
	case MOP_RENAME:
		fputs(op->type == MOP_RENAME ? " from " : " at ", f);
		print_name(f, op->dir, op->name);
		if (op->type == MOP_RENAME) {
			fputs(" to ", f);
			print_name(f, op->dir2, op->name2);
			fputs(op->flags & BCFS_RENAME_EXCHANGE ? " (exchange)" : "", f);
		}
		break;
	case MOP_WRITE:
	case MOP_FALLOCATE:
		fprintf(f, " [%llu, %llu)", (unsigned long long)op->offset,
			(unsigned long long)(op->offset + op->len));
		if (op->type == MOP_FALLOCATE)
			fprintf(f, " mode 0x%x", op->flags);
		break;
	case MOP_COPY:
		fprintf(f, " [%llu, %llu) from inode %u at %llu", (unsigned long long)op->offset,
			(unsigned long long)(op->offset + op->len), op->flags,
			(unsigned long long)op->fill);
		break;
	case MOP_TRUNCATE:
		fprintf(f, " to %llu", (unsigned long long)op->len);
		break;
	case MOP_SETXATTR:
	case MOP_REMOVEXATTR:
		fprintf(f, " %s", xattr_names[op->name % M_XATTRS]);
		if (op->type == MOP_SETXATTR)
			fprintf(f, " of %llu bytes", (unsigned long long)op->len);
		break;
	case MOP_FSYNC:
		fputs(op->flags ? " (data)" : "", f);
		break;
	default:
		break;
	}
	if (op->sleep_ns)
		fprintf(f, ", then %llu ms pass", (unsigned long long)(op->sleep_ns / 1000000));
	fclose(f);
	buf[size - 1] = 0;
}
