// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: what several clients do at once is as if it had been done one after the other, in an order
 * in which nothing comes before what had returned when it was called; after a crash too it is one
 * prefix of such an order.
 * Method: rounds. In each a few clients, fibers of the simulation, make a few calls each, over so
 * few names that they meet. What each call said is noted. Then an order is looked for in which the
 * model (model.h), asked the same, says the same and comes to the tree that the filesystem shows:
 * if there is none, that is a violation. The trees on the way of every such order are states that
 * a crash may lead to.
 *
 * A write of several blocks is as many steps, between which calls of others may come, but none that
 * reads or changes the content of that file.
 */
#include "explore.h"

#include "../unit/test_rand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#define CLIENTS_MAX 3
#define CALLS_MAX   4 /* of one client, in a round */
#define FILES_MAX   20
#define NAMES	    4
#define FOCUS	    4 /* directories, and files, of a round */
#define FILE_MAX    16384U
#define WRITE_MAX   4 /* blocks of one write; fewer than 8 */

enum call_kind { CALL_DO, CALL_LOOKUP, CALL_READ };

struct call {
	enum call_kind kind;
	struct mop op; /* of names that exist: its ino is what the name leads to when it is done */
	/* What came of it. */
	int ret;
	u64 inum, len, hash;
	u64 called, returned; /* by a count of all calls and returns */
};

struct client {
	struct clients *all;
	struct env_thread *thread;
	struct call call[CALLS_MAX];
	unsigned nr;
};

/* A tree that some order of some calls led to: whether the rest can follow. */
struct memo {
	u64 hash;
	u32 done; /* calls and steps of the next one, by client: two digits each, in base 8 */
	bool good;
};

#define MEMO_MAX 8192

struct clients {
	struct sim_run *r;
	u64 rng, count;
	unsigned rounds;
	unsigned begun;
	struct client c[CLIENTS_MAX];
	unsigned nr;
	int dir[FOCUS], file[FOCUS]; /* the round's */
	u32 kinds;		     /* of calls in it: bits */
	bool moves;		     /* nearly all are moves of directories */
	bool taken[M_INOS];	     /* inodes of the model that this round may make */
	/* The search. */
	u64 want, want_ents, begin;
	struct model *found;
	struct memo *memo;
	unsigned nr_memo;
};

/* ---- drawing ---- */

static u64 rnd(struct clients *a, u64 limit)
{
	return trand_below(&a->rng, limit);
}

/* Of the round's few, if there is one that has a name. */
static int pick(struct clients *a, u32 type)
{
	int n = type == S_IFDIR ? a->dir[rnd(a, FOCUS)] : a->file[rnd(a, FOCUS)];

	return n;
}

/* Any that has a name; -1: none. */
static int pick_any(struct clients *a, u32 type)
{
	const struct model *m = &a->r->m;

	for (unsigned i = 0; i < 40; i++) {
		int n = (int)rnd(a, FILES_MAX);

		if (m->n[n].used && (m->n[n].mode & S_IFMT) == type && m->n[n].nlink)
			return n;
	}
	return type == S_IFDIR ? 0 : -1;
}

/* A directory in that one; itself: none. */
static int pick_below(struct clients *a, int dir)
{
	const struct model *m = &a->r->m;

	for (unsigned i = 0; i < 20; i++) {
		int n = m->n[dir].ents[rnd(a, NAMES)] - 1;

		if (n >= 0 && S_ISDIR(m->n[n].mode))
			return n;
	}
	return dir;
}

/* More often one that is there. */
static unsigned pick_name(struct clients *a, int dir)
{
	for (unsigned i = 0; i < 6 && rnd(a, 4); i++) {
		unsigned n = (unsigned)rnd(a, NAMES);

		if (a->r->m.n[dir].ents[n])
			return n;
	}
	return (unsigned)rnd(a, NAMES);
}

static int new_ino(struct clients *a)
{
	for (int i = 1; i < FILES_MAX; i++)
		if (!a->r->m.n[i].used && !a->taken[i]) {
			a->taken[i] = true;
			return i;
		}
	return -1;
}

/* A directory of the round goes into another. */
static void draw_move(struct clients *a, struct mop *op)
{
	const struct model *m = &a->r->m;
	int n = pick(a, S_IFDIR), parent = m->n[n].parent;

	for (unsigned i = 0; n && i < NAMES; i++)
		if (m->n[parent].ents[i] == n + 1) {
			op->dir = parent;
			op->name = i;
		}
}

static void draw_data(struct clients *a, struct mop *op)
{
	u32 block = a->r->cfg.block;
	u64 at = rnd(a, FILE_MAX / block) * block;

	op->ino = pick(a, S_IFREG);
	op->fill = trand_u64(&a->rng);
	op->offset = at + rnd(a, block / 2);
	op->len = 1 + rnd(a, rnd(a, 2) ? block / 2 : (WRITE_MAX - 1) * block);
	op->len = min(op->len, FILE_MAX - op->offset);
	if (op->type == MOP_TRUNCATE)
		op->len = rnd(a, 2) ? rnd(a, FILE_MAX) : 0;
}

/* False: draw again. */
static bool draw(struct clients *a, struct call *c)
{
	static const struct {
		enum call_kind kind;
		enum mop_type type;
		unsigned weight;
	} table[] = {
		{CALL_DO, MOP_CREATE, 5}, {CALL_DO, MOP_MKDIR, 4},    {CALL_DO, MOP_LINK, 3},
		{CALL_DO, MOP_RENAME, 8}, {CALL_DO, MOP_UNLINK, 4},   {CALL_DO, MOP_RMDIR, 3},
		{CALL_DO, MOP_WRITE, 5},  {CALL_DO, MOP_TRUNCATE, 3}, {CALL_DO, MOP_SETXATTR, 1},
		{CALL_DO, MOP_FSYNC, 1},  {CALL_LOOKUP, MOP_NR, 2},   {CALL_READ, MOP_NR, 3},
	};
	static const u32 flags[] = {0, 0, 0, BCFS_RENAME_EXCHANGE, BCFS_RENAME_NOREPLACE};
	struct mop *op = &c->op;
	unsigned total = 0, at, i = 0;

	for (unsigned t = 0; t < ARRAY_SIZE(table); t++)
		total += a->kinds & 1U << t ? table[t].weight : 0;
	if (!total)
		a->kinds = UINT32_MAX;
	at = (unsigned)rnd(a, total ?: 42);
	for (; !(a->kinds & 1U << i) || at >= table[i].weight; i++)
		at -= a->kinds & 1U << i ? table[i].weight : 0;
	if (a->moves && rnd(a, 8))
		for (i = 0; table[i].type != MOP_RENAME;)
			i++;
	*c = (struct call){.kind = table[i].kind};
	*op = (struct mop){.type = table[i].type, .ino = -1, .flags = 0640};
	if (c->kind == CALL_LOOKUP || (c->kind == CALL_DO && op->type <= MOP_RMDIR))
		op->dir = pick(a, S_IFDIR);
	op->name = pick_name(a, op->dir);
	if (c->kind == CALL_LOOKUP)
		return true;
	if (c->kind == CALL_READ) {
		op->ino = pick(a, S_IFREG);
		return op->ino >= 0;
	}
	switch (op->type) {
	case MOP_CREATE:
	case MOP_MKDIR:
		op->ino = new_ino(a);
		return op->ino >= 0;
	case MOP_LINK:
		op->ino = pick(a, S_IFREG);
		return op->ino >= 0;
	case MOP_RENAME:
		op->dir2 = pick(a, S_IFDIR);
		op->name2 = pick_name(a, op->dir2);
		if (a->moves || rnd(a, 2))
			draw_move(a, op);
		op->flags = flags[rnd(a, ARRAY_SIZE(flags))];
		return true;
	case MOP_WRITE:
	case MOP_TRUNCATE:
		draw_data(a, op);
		return op->ino >= 0;
	case MOP_SETXATTR:
		op->ino = pick(a, rnd(a, 2) ? S_IFREG : S_IFDIR);
		op->name = 0;
		op->len = rnd(a, 1200);
		op->fill = trand_u64(&a->rng);
		return op->ino >= 0;
	case MOP_FSYNC:
		op->ino = 0;
		op->flags = 0;
		return true;
	default:
		return true;
	}
}

static void draw_round(struct clients *a)
{
	memset(a->taken, 0, sizeof(a->taken));
	/* Few places, and some of the kinds of calls: so they meet. */
	for (unsigned i = 0; i < FOCUS; i++) {
		a->dir[i] =
			i & 1 && rnd(a, 2) ? pick_below(a, a->dir[i - 1]) : pick_any(a, S_IFDIR);
		a->file[i] = pick_any(a, S_IFREG);
	}
	a->moves = !rnd(a, 4);
	a->kinds = rnd(a, 4) ? (u32)trand_u64(&a->rng) : UINT32_MAX;
	a->nr = 2 + (unsigned)rnd(a, CLIENTS_MAX - 1);
	for (unsigned i = 0; i < a->nr; i++) {
		struct client *c = &a->c[i];

		c->all = a;
		c->nr = 1 + (unsigned)rnd(a, a->nr == 2 ? CALLS_MAX : CALLS_MAX - 1);
		for (unsigned j = 0; j < c->nr; j++)
			/* There may be nothing that these kinds can be done to. */
			while (!draw(a, &c->call[j]))
				a->kinds |= 1U << rnd(a, 12);
	}
}

/* ---- doing ---- */

static struct bcfs_ino ino_of(const struct model *m, int n)
{
	return (struct bcfs_ino){BCFS_ROOT_SUBVOL, m->n[n].inum};
}

static void do_call(struct clients *a, struct call *c)
{
	struct model *m = &a->r->m;
	struct bcfs *fs = &a->r->core->fs;
	struct bcfs_stat st;
	u8 *buf;
	u64 cut;
	s64 n;

	switch (c->kind) {
	case CALL_DO:
		c->ret = model_exec(m, fs, &c->op, &cut);
		break;
	case CALL_LOOKUP:
		c->ret = bcfs_lookup(fs, ino_of(m, c->op.dir), model_name(c->op.name), &st);
		if (c->ret)
			break;
		c->inum = st.ino.inum;
		bcfs_forget(fs, st.ino, 1);
		break;
	case CALL_READ:
		buf = model_buf(FILE_MAX + 1, c->op.ino);
		n = bcfs_read(fs, ino_of(m, c->op.ino), 0, buf, FILE_MAX + 1);
		c->ret = (int)min_t(s64, n, 0);
		c->len = (u64)max_t(s64, n, 0);
		c->hash = XXH3_64bits(buf, c->len);
		model_buf_free(buf);
		break;
	}
}

static void client_main(void *arg)
{
	struct client *c = arg;

	for (unsigned i = 0; i < c->nr; i++) {
		c->call[i].called = ++c->all->count;
		do_call(c->all, &c->call[i]);
		c->call[i].returned = ++c->all->count;
	}
}

static void print_round(const struct clients *a, FILE *f)
{
	char buf[256];

	for (unsigned i = 0; i < a->nr; i++)
		for (unsigned j = 0; j < a->c[i].nr; j++) {
			const struct call *c = &a->c[i].call[j];

			mop_print(&c->op, buf, sizeof(buf));
			fprintf(f, "client %u, from %llu to %llu: %s%s: %s\n", i,
				(unsigned long long)c->called, (unsigned long long)c->returned,
				c->kind == CALL_LOOKUP ? "lookup "
				: c->kind == CALL_READ ? "read "
						       : "",
				buf, c->ret ? err_str(c->ret) : "ok");
			if (c->kind == CALL_LOOKUP)
				fprintf(f, "\tof %d/%s\n", c->op.dir, model_name(c->op.name));
		}
}

/* ---- the order ---- */

/* Names and what they lead to, in any order: of texts alike, which file is which. */
static u64 ent_hash(u64 dir, const char *name, u64 inum)
{
	u64 v[] = {dir, XXH3_64bits(name, strlen(name)), inum};

	return XXH3_64bits(v, sizeof(v));
}

static u64 model_ents(const struct model *m)
{
	u64 sum = 0;

	for (int d = 0; d < M_INOS; d++)
		for (unsigned i = 0; m->n[d].used && m->n[d].nlink && i < M_NAMES; i++)
			if (m->n[d].ents[i])
				sum += ent_hash(m->n[d].inum, model_name(i),
						m->n[m->n[d].ents[i] - 1].inum);
	return sum;
}

struct ents {
	struct bcfs_ino dir[64];
	unsigned nr, at;
	u64 sum;
};

static int note_ent(void *arg, const struct bcfs_dir_entry *e)
{
	struct ents *t = arg;

	if (!strcmp(e->name, ".") || !strcmp(e->name, "..") || !strcmp(e->name, M_BULK_DIR))
		return 0;
	t->sum += ent_hash(t->dir[t->at].inum, e->name, e->ino.inum);
	if (S_ISDIR((u32)e->type << 12) && t->nr < ARRAY_SIZE(t->dir))
		t->dir[t->nr++] = e->ino;
	return 0;
}

static u64 fs_ents(struct bcfs *fs)
{
	struct ents t = {.dir = {bcfs_root(fs)}, .nr = 1};

	for (; t.at < t.nr; t.at++)
		if (bcfs_readdir(fs, t.dir[t.at], 0, 0, note_ent, &t))
			return 0;
	return t.sum;
}

static struct model *model_copy(const struct model *m)
{
	struct model *ret = malloc(sizeof(*ret));

	*ret = *m;
	for (unsigned i = 0; i < M_INOS; i++) {
		if (!m->n[i].data)
			continue;
		ret->n[i].data = malloc(M_FILE_MAX);
		/* What is behind the size is zero. */
		memcpy(ret->n[i].data, m->n[i].data, m->n[i].size);
		memset(ret->n[i].data + m->n[i].size, 0, M_FILE_MAX - m->n[i].size);
	}
	return ret;
}

static void copy_free(struct model *m)
{
	model_free(m);
	free(m);
}

/* Whether the model says to it what the filesystem said; then *ret_changes: it is to be applied. */
static bool says_so(struct model *m, const struct call *c, struct mop *op, bool *ret_changes)
{
	const struct mino *dir = &m->n[op->dir];
	int s = dir->used && S_ISDIR(dir->mode) ? dir->ents[op->name] - 1 : -1, d = -1;

	*ret_changes = false;
	if (c->kind == CALL_LOOKUP)
		return s < 0 ? !!c->ret : !c->ret && c->inum == m->n[s].inum;
	if (c->kind == CALL_READ) {
		const struct mino *x = &m->n[op->ino];

		return x->used ? !c->ret && c->len == x->size &&
					 c->hash == XXH3_64bits(x->data, x->size)
			       : !!c->ret;
	}
	if (op->type == MOP_FSYNC)
		return !c->ret;
	if (op->type == MOP_UNLINK || op->type == MOP_RMDIR || op->type == MOP_RENAME) {
		op->ino = s;
		if (s < 0)
			return !!c->ret;
	}
	if (op->type == MOP_RENAME && m->n[op->dir2].used && S_ISDIR(m->n[op->dir2].mode))
		d = m->n[op->dir2].ents[op->name2] - 1;
	/* Two names of one file: nothing is done. */
	if (s == d && s >= 0 && op->type == MOP_RENAME && m->n[op->dir2].nlink)
		return !c->ret == !(op->flags & BCFS_RENAME_NOREPLACE);
	*ret_changes = !c->ret;
	return model_valid(m, op) == !c->ret;
}

/* Of files that have no name, which no text shows. */
static u64 nameless_hash(const struct model *m)
{
	u64 sum = 0;

	for (int n = 0; n < M_INOS; n++) {
		const struct mino *x = &m->n[n];
		u64 v[] = {(u64)n, x->size, x->data ? XXH3_64bits(x->data, x->size) : 0};

		if (x->used && !x->nlink)
			sum += XXH3_64bits(v, sizeof(v));
	}
	return sum;
}

static struct memo *memo_of(struct clients *a, u64 hash, u32 done)
{
	for (unsigned i = 0; i < a->nr_memo; i++)
		if (a->memo[i].hash == hash && a->memo[i].done == done)
			return &a->memo[i];
	return NULL;
}

/* How far a client has come. */
struct place {
	unsigned call, steps; /* calls that are done, and steps of the next one */
};

/* May it be the next, when so many of each client's are done: had none of the rest returned? */
static bool may_be_next(const struct clients *a, const struct place *at, const struct call *c)
{
	for (unsigned i = 0; i < a->nr; i++)
		if (at[i].call < a->c[i].nr && a->c[i].call[at[i].call].returned < c->called)
			return false;
	return true;
}

/* How many steps it is, if it was done. */
static unsigned nr_steps(const struct clients *a, const struct call *c)
{
	u32 block = a->r->cfg.block;

	if (c->kind != CALL_DO || c->op.type != MOP_WRITE || c->ret)
		return 1;
	return (unsigned)((c->op.offset + c->op.len - 1) / block - c->op.offset / block + 1);
}

/* Up to the end of a block. */
static u64 step_cut(const struct clients *a, const struct call *c, unsigned steps)
{
	u32 block = a->r->cfg.block;

	return steps == nr_steps(a, c) ? UINT64_MAX
				       : (c->op.offset / block + steps) * block - c->op.offset;
}

/* Is the file in the middle of a write, and would that be seen? */
static bool is_kept_out(const struct clients *a, const struct place *at, const struct call *c)
{
	if (c->kind == CALL_LOOKUP ||
	    (c->kind == CALL_DO && c->op.type != MOP_WRITE && c->op.type != MOP_TRUNCATE))
		return false;
	for (unsigned i = 0; i < a->nr; i++)
		if (at[i].steps && a->c[i].call[at[i].call].op.ino == c->op.ino)
			return true;
	return false;
}

/* From this tree, after so many calls of each: whether the rest can follow. */
static bool search(struct clients *a, struct model *m, struct place *at)
{
	char *text = model_text(m);
	u64 hash = text_hash(text) ^ model_ents(m) * 3 ^ nameless_hash(m);
	u64 plain = text_hash(text);
	struct memo *known;
	bool good = false, end = true;
	u32 done = 0;

	free(text);
	for (unsigned i = 0; i < a->nr; i++) {
		done = done << 6 | at[i].call << 3 | at[i].steps;
		end &= at[i].call == a->c[i].nr;
	}
	known = memo_of(a, hash, done);
	if (known)
		return known->good;
	if (end) {
		good = plain == a->want && model_ents(m) == a->want_ents;
		if (good && !a->found)
			a->found = model_copy(m);
	}
	for (unsigned i = 0; i < a->nr; i++) {
		const struct call *c = &a->c[i].call[at[i].call];
		const struct place was = at[i];
		struct mop op = c->op;
		struct model *next;
		bool changes = true;

		if (was.call == a->c[i].nr || !may_be_next(a, at, c))
			continue;
		if (!was.steps && (is_kept_out(a, at, c) || !says_so(m, c, &op, &changes)))
			continue;
		next = changes ? model_copy(m) : m;
		if (changes)
			model_apply(next, &op, step_cut(a, c, was.steps + 1), 0);
		at[i] = was.steps + 1 < nr_steps(a, c) ? (struct place){was.call, was.steps + 1}
						       : (struct place){was.call + 1, 0};
		good |= search(a, next, at);
		at[i] = was;
		if (changes)
			copy_free(next);
	}
	if (good && !end)
		sim_run_add_part(a->r, plain, a->begin);
	if (a->nr_memo < MEMO_MAX)
		a->memo[a->nr_memo++] = (struct memo){hash, done, good};
	return good;
}

static void fail_round(struct clients *a, const char *tree)
{
	char *how = NULL, *was = model_text(&a->r->m);
	size_t len;
	FILE *f = open_memstream(&how, &len);

	print_round(a, f);
	fclose(f);
	sim_fail(a->r,
		 "round %u: in no order would these calls have done this:\n%sbefore:\n%safter:\n%s",
		 a->rounds, how, was, tree);
}

/* ---- a round ---- */

static void note_handles(struct clients *a)
{
	for (int n = 0; n < FILES_MAX; n++) {
		struct sim_handle h = {a->r->m.n[n].inum};
		struct bcfs_stat st;

		if (!a->taken[n] || !a->r->m.n[n].used ||
		    bcfs_getattr(&a->r->core->fs, ino_of(&a->r->m, n), &st))
			continue;
		h.generation = st.generation;
		h.pos = sim_bdev_log_len(a->r->bdev);
		if (!sim_handles_add(&a->r->handles, &h))
			sim_fail(a->r,
				 "round %u: number %llu, generation %u has named another file",
				 a->rounds, (unsigned long long)h.inum, h.generation);
	}
}

/* Nobody has what has no name open any more. */
static void forget_gone(struct clients *a)
{
	for (int n = 1; n < M_INOS; n++) {
		struct mop op = {.type = MOP_FORGET, .ino = n};
		u64 cut;

		if (!a->r->m.n[n].used || a->r->m.n[n].nlink || !a->r->m.n[n].refs)
			continue;
		model_exec(&a->r->m, &a->r->core->fs, &op, &cut);
		model_apply(&a->r->m, &op, UINT64_MAX, 0);
	}
}

static void one_round(struct clients *a)
{
	struct sim_run *r = a->r;
	struct place at[CLIENTS_MAX] = {0};
	int err;

	draw_round(a);
	a->begin = sim_bdev_log_len(r->bdev);
	for (unsigned i = 0; i < a->nr; i++)
		if (env_thread_start(r->env, &a->c[i].thread, "client", client_main, &a->c[i]))
			sim_fail(r, "no thread");
	for (unsigned i = 0; i < a->nr; i++)
		env_thread_join(a->c[i].thread);
	if (getenv("BCFS_SIM_LOG"))
		print_round(a, stderr);

	char *tree = fs_text(&r->core->fs, &err);

	if (err)
		sim_fail(r, "round %u: reading the tree: %s", a->rounds, err_str(err));
	a->want = text_hash(tree);
	a->want_ents = fs_ents(&r->core->fs);
	a->found = NULL;
	a->nr_memo = 0;
	if (!search(a, &r->m, at))
		fail_round(a, tree);
	free(tree);
	a->found->rng = r->m.rng;
	model_free(&r->m);
	r->m = *a->found;
	free(a->found);
	/* The order of the calls, of which there may be several, says nothing of times. */
	for (unsigned n = 0; n < M_INOS; n++)
		r->m.n[n].times.known = false;
	sim_run_add_state(r, a->begin);
	note_handles(a);
	forget_gone(a);
	a->rounds++;
}

/* ---- the beginning ---- */

/*
 * A few directories, and between them files of no interest: what lies in one node is locked by one
 * at a time, so what clients meet at has to lie in several.
 */
#define DIRS	  6
#define GAP_FILES 32

static void make_gap(struct clients *a, struct bcfs_ino bulk, unsigned i)
{
	const struct bcfs_cred cred = {0};
	struct bcfs *fs = &a->r->core->fs;
	struct bcfs_stat dir, st;
	char name[32];
	int ret;

	snprintf(name, sizeof(name), "gap-%u", i);
	ret = bcfs_mkdir(fs, bulk, name, 0700, &cred, &dir);
	for (unsigned f = 0; !ret && f < GAP_FILES; f++) {
		snprintf(name, sizeof(name), "a file of no interest %u", f);
		ret = bcfs_mknod(fs, dir.ino, name, S_IFREG | 0600, 0, 0, &cred, &st);
		if (!ret)
			bcfs_forget(fs, st.ino, 1);
	}
	if (ret)
		sim_fail(a->r, "a gap: %s", err_str(ret));
	bcfs_forget(fs, dir.ino, 1);
}

static void make_dirs(struct clients *a)
{
	const struct bcfs_cred cred = {0};
	struct sim_run *r = a->r;
	struct bcfs_stat bulk;
	u64 begin = sim_bdev_log_len(r->bdev), cut;
	int ret = bcfs_mkdir(&r->core->fs, bcfs_root(&r->core->fs), M_BULK_DIR, 0700, &cred, &bulk);

	for (unsigned i = 0; !ret && i < DIRS; i++) {
		/* The root has four names. */
		struct mop op = {.type = MOP_MKDIR,
				 .ino = (int)i + 1,
				 .dir = i < NAMES ? 0 : (int)(i - NAMES) + 1,
				 .name = i % NAMES,
				 .flags = 0750};

		ret = model_exec(&r->m, &r->core->fs, &op, &cut);
		model_apply(&r->m, &op, UINT64_MAX, 0);
		sim_run_add_state(r, begin);
		make_gap(a, bulk.ino, i);
	}
	if (ret)
		sim_fail(r, "the first directories: %s", err_str(ret));
	bcfs_forget(&r->core->fs, bulk.ino, 1);
}

/* Between rounds: nothing, a sync, or time passes. */
static bool clients_next(void *arg, struct sim_run *r, struct mop *op)
{
	struct clients *a = arg;

	a->r = r;
	if (a->rounds == r->cfg.ops)
		return false;
	/* The log begins anew behind what is marked so. */
	if (a->begun < 2) {
		*op = (struct mop){.type = MOP_SYNC, .ino = -1};
		if (!a->begun++) {
			make_dirs(a);
			op->mark = SIM_MARK_PREFILL;
		}
		return true;
	}
	one_round(a);
	*op = (struct mop){.type = rnd(a, 4) ? MOP_WAIT : MOP_SYNC, .ino = -1};
	if (rnd(a, 3) == 0)
		op->sleep_ns = rnd(a, 300) * ENV_NSEC_PER_MSEC;
	if (rnd(a, 12) == 0)
		op->sleep_ns = sim_clock_bound_ns(&r->cfg) + rnd(a, 500) * ENV_NSEC_PER_MSEC;
	return true;
}

static struct sim_cfg make_cfg(u64 unit)
{
	static const u32 preempts[] = {64, 256, 512}, restarts[] = {0, 0, 5000, 30000};
	static const u32 locks[] = {0, 8, 64, 256};
	u64 rng = unit * 0x9e3779b97f4a7c15ULL;
	struct sim_cfg c = {.seed = unit, .fault = SIM_FAULT_NR, .cache_bytes = 1};

	c.block = trand_below(&rng, 4) ? 512 : 4096;
	c.node = c.block == 512 ? 4096U : 16384;
	c.bucket = max(c.node, 16384U);
	c.journal = sim_small_journal_bytes(c.block, c.bucket);
	c.extent_max = 8192;
	c.compression = sim_compression(unit);
	c.background = sim_background(unit);
	c.gather = sim_gather(unit);
	c.encrypt = sim_encrypt(unit);
	c.dev_bytes = 6ULL << 20;
	c.preempt = preempts[trand_below(&rng, ARRAY_SIZE(preempts))];
	c.eager = trand_below(&rng, 2) ? 0 : 40;
	c.flush_delay_ms = trand_below(&rng, 2) ? 100 : 1000;
	c.restart_ppm = restarts[trand_below(&rng, ARRAY_SIZE(restarts))];
	c.restart_everywhere = unit % 3;
	c.stall_ppm = trand_below(&rng, 2) ? 0 : 3000;
	c.stall_ms = 1 + (u32)trand_below(&rng, 50);
	c.latency_us = trand_below(&rng, 2) ? 0 : 2000;
	c.discard = trand_below(&rng, 2);
	c.preempt_trans = true;
	c.preempt_locks = locks[trand_below(&rng, ARRAY_SIZE(locks))];
	/* A long write is several extents, and as many commits. */
	c.extent_max = trand_below(&rng, 2) ? 8192 : c.block;
	c.prefill = 1;
	c.ops = 20;
	c.inline_max = sim_inline(&c, unit);
	return c;
}

static void clients_run(const struct sim_mode *mode, u64 unit, struct sim_work *w)
{
	struct clients a = {.rng = unit ^ 0xc11e, .memo = calloc(MEMO_MAX, sizeof(struct memo))};
	struct sim_cfg cfg = make_cfg(unit);

	cfg.next = clients_next;
	cfg.next_arg = &a;
	explore_run(w, &cfg, explore_spread, &mode->states);
	free(a.memo);
}

static const struct sim_mode modes[] = {
	{.name = "clients",
	 .runs = 40,
	 .states = 60,
	 .run = clients_run,
	 .must_move = "second recovery.btree.replayed_keys btree.restarts journal.flush",
	 .about = "several clients at once: some order of their calls explains what they see"},
};

const struct sim_mode *clients_modes(unsigned *nr)
{
	*nr = ARRAY_SIZE(modes);
	return modes;
}
