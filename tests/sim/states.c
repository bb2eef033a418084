// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the tree may be after a crash: the states it went through, and from where each is promised.
 */
#include "sim.h"

#include "fs/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- states ---- */

/*
 * With eager events (env_sim.h) the clock jumps, as far as it likes, while threads have work to do:
 * then only what the client slept counts, which it does in short pieces.
 */
static u64 clock_ns(const struct sim_run *r)
{
	return r->cfg.eager ? r->slept_ns : env_mono_ns(r->env);
}

static void state_add(struct sim_run *r, u64 hash, u64 times, char *text, u64 begin_pos)
{
	const struct sim_state *last = r->nr_states ? &r->state[r->nr_states - 1] : NULL;

	if (!text && last && last->hash == hash && !last->times)
		return;
	r->state = sim_grow(r->state, r->nr_states, &r->max_states, sizeof(r->state[0]));
	r->state[r->nr_states++] = (struct sim_state){.hash = hash,
						      .times = times,
						      .text = text,
						      .op = r->nr_ops,
						      .begin_pos = begin_pos,
						      .done_ns = clock_ns(r)};
}

void sim_run_add_state(struct sim_run *r, u64 begin_pos)
{
	u64 times;
	char *text = model_text_times(&r->m, &times);

	state_add(r, text_hash(text), times, text, begin_pos);
}

static void floor_add(struct sim_run *r, u32 state, bool by_clock)
{
	r->floor = sim_grow(r->floor, r->nr_floors, &r->max_floors, sizeof(r->floor[0]));
	r->floor[r->nr_floors++] = (struct sim_floor){sim_bdev_log_len(r->bdev), state, by_clock};
}

void sim_run_add_part(struct sim_run *r, u64 hash, u64 begin_pos)
{
	state_add(r, hash, 0, NULL, begin_pos);
}

void sim_run_add_floor(struct sim_run *r, u32 state)
{
	floor_add(r, state, false);
}

u64 sim_clock_bound_ns(const struct sim_cfg *cfg)
{
	/* A flush is one in front of the entry, its write, and one behind it. */
	u64 us = 4ULL * (cfg->latency_us + 2ULL * cfg->flush_latency_us);
	u64 ms = cfg->flush_delay_ms + 100 + (cfg->stall_ppm ? 4ULL * cfg->stall_ms : 0) +
		 (cfg->eager ? 200 : 0);

	return us * 1000 + ms * ENV_NSEC_PER_MSEC;
}

/* Time has passed: what is old enough is durable. Not with faults, which may delay it. */
void sim_run_clock_floor(struct sim_run *r)
{
	u64 now = clock_ns(r), bound = sim_clock_bound_ns(&r->cfg);
	u32 i = r->nr_states;

	if (r->cfg.fault != SIM_FAULT_NR)
		return;
	while (i && r->state[i - 1].done_ns + bound > now)
		i--;
	if (i && i - 1 > (r->nr_floors ? r->floor[r->nr_floors - 1].state : 0))
		floor_add(r, i - 1, true);
}

u32 sim_run_floor(const struct sim_run *r, u64 pos)
{
	u32 least = 0;

	for (unsigned i = 0; i < r->nr_floors && r->floor[i].pos <= pos; i++)
		least = max(least, r->floor[i].state);
	return least;
}

const struct sim_state *sim_run_find_times(struct sim_run *r, u64 pos, u64 hash, u64 times)
{
	for (u32 i = sim_run_floor(r, pos); i < r->nr_states; i++) {
		const struct sim_state *s = &r->state[i];

		if (s->begin_pos <= pos && s->hash == hash &&
		    (!times || !s->times || s->times == times))
			return s;
	}
	return NULL;
}

const struct sim_state *sim_run_find(struct sim_run *r, u64 pos, u64 hash)
{
	return sim_run_find_times(r, pos, hash, 0);
}

/* ---- the operations ---- */

/* In the middle of an operation; takes over the text, which is kept where it is wanted. */
static void add_step(struct sim_run *r, char *text, u64 begin)
{
	u64 hash = text_hash(text);

	if (!r->cfg.lies) {
		free(text);
		text = NULL;
	}
	state_add(r, hash, 0, text, begin);
}

/* The states in the middle of an operation; of their times and blocks nothing is known. */
static void add_steps(struct sim_run *r, const struct mop *op, u64 begin)
{
	u32 block = r->cfg.block;
	u64 end = op->offset + op->len;

	/* Space comes or is zeroed before anything else shows. */
	if (op->type == MOP_TRUNCATE || op->type == MOP_FALLOCATE)
		state_add(r, r->state[r->nr_states - 1].hash, 0, NULL, begin);
	if (!mop_has_steps(op))
		return;
	for (u64 at = round_up(op->offset + 1, block); at < end; at += block)
		add_step(r, model_text_cut(&r->m, op, at - op->offset), begin);
	if (op->type == MOP_FALLOCATE)
		add_step(r, model_text_cut(&r->m, op, op->len), begin);
}

/* The model takes it over, and looks up its times: begun at since (ns since 1970; 0: whenever). */
static void apply(struct sim_run *r, const struct mop *op, u64 cut, u64 since)
{
	int touched[M_TOUCHED];
	unsigned nr = mop_changes(op) ? model_touched(&r->m, op, touched) : 0;
	u64 now = since ? env_real_ns(r->env) : 0;
	char msg[512];

	model_apply(&r->m, op, cut, r->nr_states);
	sim_check(r, model_stat(&r->m, &r->core->fs, op, touched, nr, since, now, msg, sizeof(msg)),
		  "operation %u: %s", r->nr_ops, msg);
}

static void restat(struct sim_run *r, const struct mop *op)
{
	int touched[M_TOUCHED];
	unsigned nr = model_touched(&r->m, op, touched);
	char msg[8];

	model_stat(&r->m, &r->core->fs, op, touched, nr, 0, 0, msg, sizeof(msg));
}

void sim_run_op_doubtful(struct sim_run *r, const struct mop *op, u64 begin, int ret)
{
	sim_check(r,
		  !ret || err_is_damage(ret) || err_to_errno(ret) == EROFS ||
			  err_to_errno(ret) == ENOSPC,
		  "operation %u: %s", r->nr_ops, err_str(ret));
	r->errors++;
	r->sure = r->nr_states - 1;
	r->ended = true;
	if (!mop_changes(op))
		return;
	add_steps(r, op, begin);
	state_add(r, r->state[r->nr_states - 1].hash, 0, NULL, begin);
	model_apply(&r->m, op, UINT64_MAX, r->nr_states);
	add_step(r, model_text(&r->m), begin);
}

/* Has an operation on the file begun, and not ended? */
static bool under_way(struct sim_run *r, const struct mop *op)
{
	struct bcfs_ino ino = {BCFS_ROOT_SUBVOL, r->m.n[op->ino].inum};
	struct btree_trans *trans = btree_trans_get(r->core->fs.btree);
	bool found = false;
	int ret = for_each_btree_key (trans, iter, BTREE_ID_logged_ops, logged_op_pos(ino), 0, k, ({
					      found |= bpos_eq(k.k->p, logged_op_pos(ino));
					      0;
				      }));

	btree_trans_put(trans);
	sim_check(r, !ret, "after an operation failed, reading the logged ones fails: %s",
		  err_str(ret));
	return found;
}

/*
 * What is behind the end of the file, in its last block, is nobody's business, so it may be what a
 * truncate has cut off. It comes to lie in front of the end while an insert has grown the file but
 * moved nothing, and while a collapse has moved all but not made the file shorter.
 */
static void take_over_tail(struct sim_run *r, const struct mop *op)
{
	struct mino *x = &r->m.n[op->ino];
	struct bcfs_ino ino = {BCFS_ROOT_SUBVOL, x->inum};
	u64 at = x->size - (op->flags & BCFS_FALLOC_COLLAPSE_RANGE ? op->len : 0);
	u64 len = round_up(x->size, (u64)r->cfg.block) - x->size;

	if (len)
		bcfs_read(&r->core->fs, ino, at, x->data + x->size, len);
}

/*
 * A collapse or insert that has begun and cannot end has stopped the filesystem: this mount goes on
 * showing how far it came, and cannot change anything any more; the next one ends it or, if its
 * begin was not durable, has none of it. So how far it came is no state that a crash may lead to.
 */
static void ends_halfway(struct sim_run *r, const struct mop *op, u64 begin, u64 shown, int ret)
{
	u64 max = model_shift_max(&r->m, op), cut = 0;

	sim_check(r, atomic_load(&r->core->fs.error),
		  "a collapse or insert failed (%s) halfway, and the filesystem goes on",
		  err_str(ret));
	state_add(r, r->state[r->nr_states - 1].hash, 0, NULL, begin);
	state_add(r, model_hash_cut(&r->m, op, UINT64_MAX), 0, NULL, begin);
	take_over_tail(r, op);
	while (cut < max && model_hash_cut(&r->m, op, cut) != shown)
		cut += r->cfg.block;
	apply(r, op, cut, 0);
	r->halfway = true;
}

/* The filesystem shows what the model does; @ret: what the operation said. */
static void check_shown(struct sim_run *r, u64 shown, int ret)
{
	char *text = model_text(&r->m);

	sim_check(r, text_hash(text) == shown,
		  "an operation failed (%s), and the tree is neither as before nor as after:\n%s",
		  err_str(ret), text);
	free(text);
}

/*
 * An operation that failed happened not at all, or whole, or (with steps) in part: what the
 * filesystem shows is what the model takes over.
 */
void sim_run_op_failed(struct sim_run *r, const struct mop *op, u64 begin, int ret)
{
	int err;
	char *now = fs_text(&r->core->fs, &err), *before = model_text(&r->m);
	u64 h = text_hash(now), cut = UINT64_MAX;
	bool none = h == text_hash(before);

	r->errors++;
	r->nospc += err_to_errno(ret) == ENOSPC;
	sim_check(r, !err, "after an operation failed (%s), reading fails: %s", err_str(ret),
		  err_str(err));
	free(before);
	free(now);
	if (!mop_changes(op))
		return;
	if (r->halfway) {
		check_shown(r, h, ret);
		return;
	}
	if (op->ino >= 0 && r->m.n[op->ino].used && !r->m.n[op->ino].nlink)
		r->m.n[op->ino].doubtful = true;
	if (mop_is_shift(op) && under_way(r, op)) {
		ends_halfway(r, op, begin, h, ret);
		check_shown(r, h, ret);
		return;
	}
	if (none) {
		/* Times and blocks may have moved: of what was done before space ran out. */
		state_add(r, h, 0, NULL, begin);
		restat(r, op);
		sim_run_add_state(r, begin);
		return;
	}
	if (mop_has_steps(op)) {
		add_steps(r, op, begin);
		for (cut = 1; cut <= op->len; cut++) {
			if ((op->offset + cut) % r->cfg.block && cut != op->len)
				continue;
			if (model_hash_cut(&r->m, op, cut) == h)
				break;
		}
		if (cut > op->len)
			cut = UINT64_MAX;
	}
	apply(r, op, cut, 0);
	sim_run_add_state(r, begin);
	check_shown(r, h, ret);
}

bool sim_handles_add(struct sim_handles *t, const struct sim_handle *h)
{
	for (unsigned i = 0; i < t->nr; i++)
		if (t->h[i].inum == h->inum && t->h[i].generation == h->generation)
			return false;
	t->h = sim_grow(t->h, t->nr, &t->max, sizeof(t->h[0]));
	t->h[t->nr++] = *h;
	return true;
}

void sim_handles_crash(struct sim_handles *t, unsigned first, u64 pos)
{
	while (t->nr > first && t->h[t->nr - 1].pos > pos)
		t->nr--;
}

static void note_handle(struct sim_run *r, const struct mop *op)
{
	const struct mtimes *t = op->ino >= 0 ? &r->m.n[op->ino].times : NULL;
	struct sim_handle h;

	if (!mop_is_new(op) || !t->known)
		return;
	h = (struct sim_handle){t->inum, t->generation, sim_bdev_log_len(r->bdev)};
	sim_check(r, sim_handles_add(&r->handles, &h),
		  "operation %u: number %llu with generation %u has named another file before",
		  r->nr_ops, (unsigned long long)h.inum, h.generation);
}

void sim_run_op_done(struct sim_run *r, const struct mop *op, u64 begin)
{
	sim_check(r, !r->halfway || !mop_changes(op), "operation %u: done by who had stopped",
		  r->nr_ops);
	add_steps(r, op, begin);
	apply(r, op, UINT64_MAX, r->op_since);
	note_handle(r, op);
	if (mop_changes(op))
		sim_run_add_state(r, begin);
	/* An fsync is one of everything, whatever has changed its file. */
	if (op->type == MOP_SYNC || op->type == MOP_FSYNC || op->type == MOP_REMOUNT)
		sim_run_add_floor(r, r->nr_states - 1);
}
