// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: short sequences of operations, all of them: no crash in any of them leaves what was not one
 * prefix of it.
 * Method: the vocabulary of CrashMonkey's ACE and more over a few names, each operation followed by
 * each way to make it durable (none, fsync, fdatasync, fsync of the directory, sync): all sequences
 * of one and of two, some of three; a crash wherever something new may survive, under every rule
 * (explore_all).
 *
 * The tree is small, but the filesystem is not new: one batch of sequences is done in one
 * filesystem, one after the other, among files of no interest that fill its nodes, with a journal,
 * a cache and a device as small as can be. So nodes are split and merged, the journal wraps around
 * and buckets are used again inside the sequences, which counters ("in.*") show. Some
 * batches are nearly full, too, with a file that is written anew in between: copygc empties buckets
 * inside the sequences.
 *
 * Sequences are numbered, and done in an order that is spread over all of them: the first batches
 * are a fair sample. A batch is a unit; its number is its seed.
 */
#include "explore.h"

#include "../unit/test_rand.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- names ---- */

enum path { P_ROOT, P_A, P_B, P_X, P_XA, P_XB, P_XL, P_Y, P_YB, P_Z, P_NR };

/* The numbers of names are those of model_name(): 11 is 255 bytes long. */
static const struct {
	enum path dir;
	unsigned name;
} paths[P_NR] = {
	[P_A] = {P_ROOT, 0}, [P_B] = {P_ROOT, 1}, [P_X] = {P_ROOT, 2},
	[P_XA] = {P_X, 0},   [P_XB] = {P_X, 1},	  [P_XL] = {P_X, 11},
	[P_Y] = {P_ROOT, 3}, [P_YB] = {P_Y, 1},	  [P_Z] = {P_ROOT, 4},
};

/* The inode there; -1: none. */
static int at(const struct model *m, enum path p)
{
	int dir = p == P_ROOT ? 0 : at(m, paths[p].dir);

	if (p == P_ROOT || dir < 0 || !S_ISDIR(m->n[dir].mode))
		return p == P_ROOT ? 0 : -1;
	return m->n[dir].ents[paths[p].name] - 1;
}

/* ---- the vocabulary ---- */

/* Where in a file, by its size at that moment. */
enum place { BEGIN, MIDDLE, OVER_END, AT_END, HOLE, WHOLE };

struct ace_op {
	enum mop_type type;
	enum path p, to;
	u32 flags; /* as of struct mop */
	enum place place;
	u32 len; /* bytes; of truncate: the new size */
	enum {
		PLAIN,
		CLOSED,	    /* the file is not open: what has no name left is gone */
		LINKED,	    /* of a tmpfile: written and given a name */
		TRUSTED_BIG /* an attribute of several pieces */
	} more;
};

#define PUNCH (BCFS_FALLOC_PUNCH_HOLE | BCFS_FALLOC_KEEP_SIZE)

static const struct ace_op vocabulary[] = {
	{MOP_CREATE, P_B},
	{MOP_CREATE, P_XB},
	{MOP_CREATE, P_XL},
	{MOP_MKDIR, P_Z},
	{MOP_MKDIR, P_YB},
	{MOP_SYMLINK, P_B, .len = 20},
	{MOP_SYMLINK, P_XB, .len = 1000},
	{MOP_MKNOD, P_B},
	{MOP_TMPFILE, P_ROOT},
	{MOP_TMPFILE, P_X, P_XB, .more = LINKED},
	{MOP_LINK, P_A, P_B},
	{MOP_LINK, P_A, P_XB},
	{MOP_LINK, P_XA, P_B},
	{MOP_RENAME, P_A, P_B},
	{MOP_RENAME, P_B, P_A},
	{MOP_RENAME, P_A, P_XA},
	{MOP_RENAME, P_A, P_XA, .more = CLOSED},
	{MOP_RENAME, P_XA, P_A},
	{MOP_RENAME, P_XA, P_XB},
	{MOP_RENAME, P_X, P_Z},
	{MOP_RENAME, P_X, P_Y, .more = CLOSED},
	{MOP_RENAME, P_X, P_YB},
	{MOP_RENAME, P_A, P_XA, BCFS_RENAME_EXCHANGE},
	{MOP_RENAME, P_A, P_X, BCFS_RENAME_EXCHANGE},
	{MOP_RENAME, P_X, P_Y, BCFS_RENAME_EXCHANGE},
	{MOP_UNLINK, P_A},
	{MOP_UNLINK, P_A, .more = CLOSED},
	{MOP_UNLINK, P_B, .more = CLOSED},
	{MOP_UNLINK, P_XA, .more = CLOSED},
	{MOP_RMDIR, P_Y},
	{MOP_RMDIR, P_Y, .more = CLOSED},
	{MOP_RMDIR, P_X, .more = CLOSED},
	{MOP_WRITE, P_A, .place = BEGIN, .len = 512},
	{MOP_WRITE, P_A, .place = MIDDLE, .len = 1500},
	{MOP_WRITE, P_A, .place = OVER_END, .len = 1500},
	{MOP_WRITE, P_A, .place = HOLE, .len = 900},
	{MOP_WRITE, P_A, .place = AT_END, .len = 3000},
	{MOP_WRITE, P_A, .place = BEGIN, .len = 20000},
	{MOP_WRITE, P_XA, .place = BEGIN, .len = 100},
	{MOP_WRITE, P_XA, .place = AT_END, .len = 4096},
	{MOP_WRITE, P_B, .place = AT_END, .len = 2000},
	{MOP_TRUNCATE, P_A, .len = 9000},
	{MOP_TRUNCATE, P_A, .len = 2500},
	{MOP_TRUNCATE, P_A, .len = 0},
	{MOP_TRUNCATE, P_XA, .len = 300},
	{MOP_FALLOCATE, P_A, .place = OVER_END, .len = 4096},
	{MOP_FALLOCATE, P_A, .flags = BCFS_FALLOC_KEEP_SIZE, .place = AT_END, .len = 4096},
	{MOP_FALLOCATE, P_A, .flags = PUNCH, .place = MIDDLE, .len = 2048},
	{MOP_FALLOCATE, P_A, .flags = PUNCH, .place = WHOLE},
	{MOP_FALLOCATE, P_A, .flags = BCFS_FALLOC_ZERO_RANGE, .place = OVER_END, .len = 3000},
	{MOP_FALLOCATE, P_A, .flags = BCFS_FALLOC_ZERO_RANGE | BCFS_FALLOC_KEEP_SIZE,
	 .place = MIDDLE, .len = 1700},
	{MOP_SETXATTR, P_A, .len = 60},
	{MOP_SETXATTR, P_A, .len = 1200, .more = TRUSTED_BIG},
	{MOP_SETXATTR, P_X, .len = 30},
	{MOP_REMOVEXATTR, P_A},
	{MOP_CHMOD, P_A},
	{MOP_CHMOD, P_X},
	{MOP_FALLOCATE, P_A, .flags = BCFS_FALLOC_COLLAPSE_RANGE, .place = BEGIN, .len = 4096},
	{MOP_FALLOCATE, P_A, .flags = BCFS_FALLOC_INSERT_RANGE, .place = BEGIN, .len = 4096},
	{MOP_COPY, P_XA, P_A, .place = BEGIN, .len = 4096},
};

/* What each sequence begins with. */
static const struct ace_op initial[] = {
	{MOP_CREATE, P_A},
	{MOP_WRITE, P_A, .place = BEGIN, .len = 5000},
	{MOP_SETXATTR, P_A, .len = 40},
	{MOP_MKDIR, P_X},
	{MOP_CREATE, P_XA},
	{MOP_WRITE, P_XA, .place = BEGIN, .len = 700},
	{MOP_MKDIR, P_Y},
};

enum persist { NOTHING, FSYNC, FDATASYNC, FSYNC_DIR, SYNC, PERSIST_NR };

/* ---- as operations of the model ---- */

static int free_ino(const struct model *m)
{
	for (int i = 1; i < M_INOS; i++)
		if (!m->n[i].used)
			return i;
	return -1;
}

static bool place_names(const struct model *m, const struct ace_op *o, struct mop *op)
{
	bool both = o->type == MOP_LINK || o->type == MOP_RENAME;
	enum path where = o->type == MOP_LINK ? o->to : o->p;

	op->dir = at(m, paths[where].dir);
	op->name = paths[where].name;
	op->ino = at(m, o->p);
	if (o->type == MOP_RENAME) {
		op->dir2 = at(m, paths[o->to].dir);
		op->name2 = paths[o->to].name;
	}
	return op->dir >= 0 && op->dir2 >= 0 && (!both || op->ino >= 0);
}

static bool place_new(const struct model *m, const struct ace_op *o, struct mop *op)
{
	op->dir = at(m, o->type == MOP_TMPFILE ? o->p : paths[o->p].dir);
	op->name = o->type == MOP_TMPFILE ? 0 : paths[o->p].name;
	op->ino = free_ino(m);
	op->flags = 0640;
	op->len = max(o->len, 1U);
	return op->dir >= 0 && op->ino >= 0;
}

static void place_range(const struct model *m, const struct ace_op *o, struct mop *op)
{
	u64 size = m->n[op->ino].size, len = o->len;

	switch (o->place) {
	case BEGIN:
	case WHOLE:
		op->offset = 0;
		break;
	case MIDDLE:
		op->offset = size / 3;
		break;
	case OVER_END:
		op->offset = size > len / 2 ? size - len / 2 : 0;
		break;
	case AT_END:
		op->offset = size;
		break;
	case HOLE:
		op->offset = size + 2500;
		break;
	}
	op->offset = min_t(u64, op->offset, M_FILE_MAX - 4096);
	if (o->place == WHOLE)
		len = round_up(max_t(u64, size, 1), 512);
	op->len = min_t(u64, len, M_FILE_MAX - op->offset);
	if (op->type == MOP_TRUNCATE)
		op->len = o->len;
}

/* False: cannot be done now. */
static bool resolve(const struct model *m, const struct ace_op *o, struct mop *op, u64 *rng)
{
	bool ok = true;

	*op = (struct mop){
		.type = o->type, .ino = at(m, o->p), .flags = o->flags, .fill = trand_u64(rng)};
	switch (o->type) {
	case MOP_CREATE:
	case MOP_MKDIR:
	case MOP_SYMLINK:
	case MOP_MKNOD:
	case MOP_TMPFILE:
		ok = place_new(m, o, op);
		break;
	case MOP_LINK:
	case MOP_RENAME:
	case MOP_UNLINK:
	case MOP_RMDIR:
		ok = place_names(m, o, op);
		break;
	case MOP_WRITE:
	case MOP_TRUNCATE:
	case MOP_FALLOCATE:
		if (op->ino >= 0)
			place_range(m, o, op);
		break;
	case MOP_COPY: /* from o->to, at its beginning */
		if (op->ino < 0 || at(m, o->to) < 0)
			return false;
		op->flags = (u32)at(m, o->to);
		op->fill = 0;
		place_range(m, o, op);
		op->len = min(op->len, m->n[op->flags].size);
		break;
	case MOP_SETXATTR:
	case MOP_REMOVEXATTR:
		op->len = o->len;
		op->name = o->more == TRUSTED_BIG;
		break;
	case MOP_CHMOD:
		op->flags = 0400 | (u32)trand_below(rng, 0400);
		break;
	default:
		return false;
	}
	if (o->more == LINKED && at(m, o->to) >= 0)
		return false; /* the name is taken */
	return ok && op->ino >= 0 && model_valid((struct model *)m, op);
}

/* ---- a batch ---- */

#define SEQUENCES 24 /* in a batch */
#define DEPTH_MAX 3

struct ace {
	const struct sim_mode *mode;
	struct sim_totals *t;
	u64 rng, next_seq, end_seq;
	u64 clock_ns;  /* the bound */
	u64 settle_ns; /* before a sequence: what was to be written is */
	/* Being done. */
	enum { CLEAR, BUILD, OPERATE } phase;
	bool started;
	bool left_out;		   /* an operation that could not be done after all */
	unsigned digit[DEPTH_MAX]; /* operation * PERSIST_NR + persist */
	unsigned at;		   /* of the phase: the next operation */
	unsigned step;		   /* of that: what comes next */
	struct mop done;	   /* the operation itself */
	int victim;		   /* the inode whose name it takes; -1: none */
	int parent;		   /* the directory in which it happens */
};

static u64 nr_sequences(unsigned depth)
{
	u64 nr = 1;

	while (depth--)
		nr *= ARRAY_SIZE(vocabulary) * PERSIST_NR;
	return nr;
}

static u64 nr_batches(const struct sim_mode *mode)
{
	return DIV_ROUND_UP(nr_sequences(mode->depth), SEQUENCES);
}

/* A prime, and more than there are of two: every sequence comes once. */
#define STRIDE 2750159

static void digits_of(struct ace *a, u64 seq)
{
	u64 nr = nr_sequences(a->mode->depth), i = seq % nr * STRIDE % nr;

	for (unsigned d = 0; d < a->mode->depth; d++) {
		a->digit[d] = (unsigned)(i % (ARRAY_SIZE(vocabulary) * PERSIST_NR));
		i /= ARRAY_SIZE(vocabulary) * PERSIST_NR;
	}
}

/* With what belongs to it (see operate()); false: it cannot be done. */
static bool try_one(struct model *m, const struct ace_op *o, u64 *rng)
{
	struct mop op, more;
	int victim = -1;

	if (!resolve(m, o, &op, rng))
		return false;
	if (o->more == CLOSED)
		victim = o->type == MOP_RENAME ? at(m, o->to) : op.ino;
	model_apply(m, &op, UINT64_MAX, 0);
	if (o->more == LINKED) {
		more = (struct mop){.type = MOP_WRITE, .ino = op.ino, .len = 1300};
		model_apply(m, &more, UINT64_MAX, 0);
		more = (struct mop){
			.type = MOP_LINK, .ino = op.ino, .dir = op.dir, .name = paths[o->to].name};
		model_apply(m, &more, UINT64_MAX, 0);
	}
	more = (struct mop){.type = MOP_FORGET, .ino = victim};
	if (victim > 0 && model_valid(m, &more))
		model_apply(m, &more, UINT64_MAX, 0);
	return true;
}

/* On a copy: whether all of its operations can be done, one after the other. */
static bool possible(const struct ace *a, const struct model *m)
{
	struct model *copy = malloc(sizeof(*copy));
	u64 rng = 1;
	bool ok = true;

	*copy = *m;
	for (unsigned i = 0; i < M_INOS; i++) {
		if (!m->n[i].data)
			continue;
		copy->n[i].data = malloc(M_FILE_MAX);
		memcpy(copy->n[i].data, m->n[i].data, M_FILE_MAX);
	}
	for (unsigned d = 0; ok && d < a->mode->depth; d++)
		ok = try_one(copy, &vocabulary[a->digit[d] / PERSIST_NR], &rng);
	model_free(copy);
	free(copy);
	return ok;
}

/* The next that is possible; false: the batch ends. */
static bool begin_sequence(struct ace *a, const struct model *m)
{
	while (a->next_seq < a->end_seq) {
		digits_of(a, a->next_seq++);
		a->t->sequences++;
		if (possible(a, m)) {
			a->phase = OPERATE;
			a->at = a->step = 0;
			return true;
		}
		a->t->impossible++;
	}
	return false;
}

/* Away with what is left of a sequence; false: nothing is. */
static bool clear_one(const struct model *m, struct mop *op)
{
	for (int d = 0; d < M_INOS; d++) {
		for (unsigned i = 0; m->n[d].used && S_ISDIR(m->n[d].mode) && i < M_NAMES; i++) {
			int n = m->n[d].ents[i] - 1;

			if (n < 0)
				continue;
			*op = (struct mop){.type = MOP_UNLINK, .ino = n, .dir = d, .name = i};
			if (S_ISDIR(m->n[n].mode))
				op->type = MOP_RMDIR;
			if (model_valid((struct model *)m, op))
				return true;
		}
	}
	for (int n = 1; n < M_INOS; n++) {
		*op = (struct mop){.type = MOP_FORGET, .ino = n};
		if (m->n[n].used && model_valid((struct model *)m, op))
			return true;
	}
	return false;
}

/* Of a rename from one directory to another, either. */
static enum path parent_of(const struct ace_op *o, bool second)
{
	bool to = o->type == MOP_LINK || (o->type == MOP_RENAME && second);

	return o->type == MOP_TMPFILE ? o->p : paths[to ? o->to : o->p].dir;
}

/* Of one operation of a sequence: itself, what belongs to it, how it is made durable. */
static bool operate(struct ace *a, const struct model *m, struct mop *op)
{
	const struct ace_op *o = &vocabulary[a->digit[a->at] / PERSIST_NR];
	enum persist persist = a->digit[a->at] % PERSIST_NR;
	int ino = a->done.ino, dir = a->done.dir;

	for (;;) {
		switch (a->step++) {
		case 0:
			if (!resolve(m, o, &a->done, &a->rng)) {
				a->left_out = true;
				return false;
			}
			a->victim = o->type == MOP_RENAME && !o->flags		    ? at(m, o->to)
				    : o->type == MOP_UNLINK || o->type == MOP_RMDIR ? a->done.ino
										    : -1;
			a->parent = at(m, parent_of(o, a->next_seq % 2));
			*op = a->done;
			return true;
		case 1:
			*op = (struct mop){
				.type = MOP_WRITE, .ino = ino, .len = 1300, .fill = a->done.fill};
			if (o->more == LINKED)
				return true;
			break;
		case 2:
			*op = (struct mop){.type = MOP_LINK,
					   .ino = ino,
					   .dir = dir,
					   .name = paths[o->to].name};
			if (o->more == LINKED)
				return true;
			break;
		case 3:
			*op = (struct mop){.type = MOP_FORGET, .ino = a->victim};
			if (o->more == CLOSED && a->victim > 0 &&
			    model_valid((struct model *)m, op))
				return true;
			break;
		case 4:
			/* Of a file that is gone: the directory in which it was. */
			*op = (struct mop){.type = persist == SYNC ? MOP_SYNC : MOP_FSYNC,
					   .ino = m->n[ino].used ? ino : dir,
					   .flags = persist == FDATASYNC};
			if (persist == SYNC)
				op->ino = -1;
			if (persist == FSYNC_DIR && m->n[a->parent].used)
				op->ino = a->parent;
			if (persist != NOTHING)
				return true;
			break;
		default:
			return false;
		}
	}
}

static bool operate_all(struct ace *a, const struct model *m, struct mop *op)
{
	while (a->at < a->mode->depth) {
		if (operate(a, m, op)) {
			op->mark = SIM_MARK_WINDOW;
			if (a->step == 5 && trand_below(&a->rng, 4) == 0)
				op->sleep_ns = trand_below(&a->rng, 150) * ENV_NSEC_PER_MSEC;
			return true;
		}
		a->at++;
		a->step = 0;
	}
	if (a->at++ > a->mode->depth)
		return false;
	/* Nothing asks for it, but in time all of it is durable. */
	*op = (struct mop){.type = MOP_WAIT,
			   .ino = -1,
			   .mark = SIM_MARK_WINDOW,
			   .sleep_ns = a->clock_ns + 100 * ENV_NSEC_PER_MSEC};
	return true;
}

static bool build_one(struct ace *a, const struct model *m, struct mop *op)
{
	if (a->at > ARRAY_SIZE(initial))
		return false;
	if (a->at == ARRAY_SIZE(initial))
		*op = (struct mop){.type = MOP_SYNC, .ino = -1, .sleep_ns = a->settle_ns};
	else if (!resolve(m, &initial[a->at], op, &a->rng))
		abort();
	a->at++;
	return true;
}

static bool ace_next(void *arg, struct sim_run *r, struct mop *op)
{
	struct ace *a = arg;

	for (;;) {
		switch (a->phase) {
		case CLEAR:
			if (clear_one(&r->m, op))
				return true;
			a->phase = BUILD;
			a->at = 0;
			break;
		case BUILD:
			if (build_one(a, &r->m, op)) {
				op->mark = a->started ? 0 : SIM_MARK_PREFILL;
				return true;
			}
			a->started = true;
			if (!begin_sequence(a, &r->m))
				return false;
			break;
		case OPERATE:
			if (operate_all(a, &r->m, op))
				return true;
			/* Where what came before it was refused, for want of space. */
			sim_check(r, !a->left_out || r->nospc,
				  "sequence %llu was possible, but not all of it was done",
				  (unsigned long long)a->next_seq - 1);
			a->phase = CLEAR;
			break;
		}
	}
}

/* ---- the conditions: all is small ---- */

static struct sim_cfg make_cfg(u64 unit)
{
	static const u32 preempts[] = {0, 64, 256};
	u64 rng = unit * 0x9e3779b97f4a7c15ULL;
	struct sim_cfg c = {.seed = unit, .fault = SIM_FAULT_NR, .prefill = 1, .cache_bytes = 1};
	bool big = trand_below(&rng, 6) == 0;

	c.block = big ? 4096 : 512;
	c.node = big ? 16384 : 4096;
	c.bucket = max(c.node, 8192U << trand_below(&rng, 2));
	c.journal = sim_small_journal_bytes(c.block, c.bucket);
	c.extent_max = 8192U << trand_below(&rng, 2);
	c.compression = sim_compression(unit);
	c.background = sim_background(unit);
	c.gather = sim_gather(unit);
	c.encrypt = sim_encrypt(unit);
	c.dev_bytes = (big ? 3072ULL << 10 : 1536ULL << 10) + c.journal;
	c.preempt = preempts[trand_below(&rng, ARRAY_SIZE(preempts))];
	c.eager = trand_below(&rng, 2) ? 0 : 40;
	c.flush_delay_ms = trand_below(&rng, 2) ? 100 : 400;
	c.restart_ppm = trand_below(&rng, 4) ? 0 : 5000;
	c.restart_everywhere = unit % 3;
	c.stall_ppm = trand_below(&rng, 4) ? 0 : 1000;
	c.stall_ms = 1 + (u32)trand_below(&rng, 200);
	c.latency_us = trand_below(&rng, 4) ? 0 : 20000;
	c.discard = trand_below(&rng, 2);
	/* Now and then more than the cache holds: that takes its time. */
	c.bulk = unit % 10 == 7 ? 120 : 20 + (unsigned)trand_below(&rng, 30);
	c.dev_bytes += c.bulk > 100 ? 1 << 20 : 0;
	c.touches = 2;
	/* Nearly full, with dead sectors all over, so that copygc runs inside the sequences. */
	c.ballast = c.stir = unit % 30 == 3;
	if (c.stir) {
		c.bulk = 4;
		c.touches = 1;
	}
	c.inline_max = sim_inline(&c, unit);
	return c;
}

static void every_window(struct explore *x, struct sim_run *r, const void *arg)
{
	for (unsigned i = 0; i < r->nr_windows; i++)
		explore_all(x, max(r->window[i].begin, r->first_pos), r->window[i].end);
}

static void ace_run(const struct sim_mode *mode, u64 unit, struct sim_work *w)
{
	struct ace a = {.mode = mode,
			.t = w->t,
			.rng = unit ^ 0xace,
			.next_seq = (unit - 1) * SEQUENCES,
			.end_seq = unit * SEQUENCES};
	struct sim_cfg cfg = make_cfg(unit);

	a.clock_ns = sim_clock_bound_ns(&cfg);
	a.settle_ns = unit % 4 ? ENV_NSEC_PER_SEC : 0;
	cfg.next = ace_next;
	cfg.next_arg = &a;
	explore_run(w, &cfg, every_window, NULL);
}

#define MUST                                                                                       \
	"second recovery.btree.replayed_keys recovery.btree.torn_tails in.btree.splits "           \
	"in.btree.rewrites in.journal.wraps in.alloc.buckets_reused in.alloc.buckets_discarded"

/* In one batch of ten, or of thirty. */
#define RARE "in.btree.evictions in.alloc.gc_buckets"

static const struct sim_mode modes[] = {
	{.name = "ace1",
	 .runs = 13,
	 .depth = 1,
	 .run = ace_run,
	 .nr_units = nr_batches,
	 .must_move = MUST " " RARE,
	 .about = "every operation, made durable in every way, crashed everywhere"},
	{.name = "ace2",
	 .runs = 2,
	 .depth = 2,
	 .run = ace_run,
	 .nr_units = nr_batches,
	 .must_move = MUST,
	 .whole = RARE,
	 .about = "every sequence of two"},
	{.name = "ace3",
	 .runs = 1,
	 .depth = 3,
	 .run = ace_run,
	 .nr_units = nr_batches,
	 .must_move =
		 "second recovery.btree.replayed_keys in.btree.rewrites in.alloc.buckets_reused",
	 .whole = "in.btree.splits in.journal.wraps in.alloc.buckets_discarded " RARE,
	 .about = "sequences of three"},
};

const struct sim_mode *ace_modes(unsigned *nr)
{
	*nr = ARRAY_SIZE(modes);
	return modes;
}
