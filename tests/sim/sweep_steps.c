// SPDX-License-Identifier: LGPL-2.1-or-later
/* The fault of a sweep, and what is done under it: each step says what may come of it. */
#include "sweep.h"

#include "../unit/test_rand.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *const sweep_kind_names[] = {"read",	   "write", "torn", "flush",
					"discard", "alloc", "gone"};
const enum sim_fault sweep_kind_faults[] = {
	[SWEEP_READ] = SIM_FAULT_READ_ERROR,	   [SWEEP_WRITE] = SIM_FAULT_WRITE_ERROR,
	[SWEEP_TORN] = SIM_FAULT_WRITE_TORN,	   [SWEEP_FLUSH] = SIM_FAULT_FLUSH_ERROR,
	[SWEEP_DISCARD] = SIM_FAULT_DISCARD_ERROR, [SWEEP_GONE] = SIM_FAULT_GONE};

void sweep_fail(struct sweep *w, const char *fmt, ...)
{
	const struct sim_cfg *c = &w->r.cfg;
	va_list args;

	fprintf(stderr,
		"FAILED: " TEST_SEED_FMT " BCFS_SWEEP=\"%s %s %s %llu\": blocks %u, nodes %u, "
		"buckets %u, preempt %u, discard %d: ",
		(unsigned long long)w->seed, w->sc->name, w->k ? sweep_kind_names[w->kind] : "none",
		w->sticky ? "sticky" : "once", (unsigned long long)w->k, c->block, c->node,
		c->bucket, c->preempt, c->discard);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

void sweep_log(void *arg, enum bcfs_log_level level, const char *line)
{
	struct sweep *w = arg;

	if (w->sh && strstr(line, "errors=panic"))
		w->sh->panicked = true;
	if (getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "log: %s\n", line);
}

static void on_env_log(void *arg, const char *line)
{
	fprintf(stderr, "env: %s\n", line);
}

/* ---- the fault ---- */

u64 sweep_hits(struct sweep *w)
{
	if (w->kind == SWEEP_ALLOC)
		return env_sim_nr_allocs(w->r.env);
	return sim_bdev_fault_hits(w->r.bdev, sweep_kind_faults[w->kind], NULL);
}

static bool has_struck(struct sweep *w)
{
	return w->armed && sweep_hits(w) >= w->at;
}

static void set(struct sweep *w, u64 kth)
{
	if (w->kind == SWEEP_ALLOC)
		env_sim_fail_alloc(w->r.env, kth, w->sticky);
	else
		sim_bdev_arm(w->r.bdev, sweep_kind_faults[w->kind], kth, w->sticky);
}

/* Who waits for memory waits until there is some; so it comes back. */
static u64 dry_ns(const struct sweep *w)
{
	static const u64 ns[] = {20 * ENV_NSEC_PER_MSEC, ENV_NSEC_PER_SEC, 10 * ENV_NSEC_PER_SEC};

	return ns[w->k % ARRAY_SIZE(ns)];
}

static void heal(struct env_sim_event *ev)
{
	struct sweep *w = container_of(ev, struct sweep, heal);

	if (!w->paused && has_struck(w))
		sweep_disarm(w);
	else if (!w->gone)
		env_sim_event_add(w->r.env, &w->heal, dry_ns(w));
}

void sweep_arm(struct sweep *w)
{

	if (!w->k)
		return;
	w->armed = true;
	w->at = sweep_hits(w) + w->k;
	set(w, w->k);
	if (w->kind != SWEEP_ALLOC || !w->sticky)
		return;
	w->heal = (struct env_sim_event){.fn = heal};
	env_sim_event_add(w->r.env, &w->heal, dry_ns(w));
}

void sweep_pause(struct sweep *w)
{
	if (w->paused++ || !w->armed || w->gone)
		return;
	if (has_struck(w)) {
		w->sh->this_struck = true;
		w->gone = !w->sticky;
	}
	w->at -= min(w->at, sweep_hits(w));
	set(w, 0);
}

void sweep_unpause(struct sweep *w)
{
	if (--w->paused || !w->armed || w->gone)
		return;
	set(w, max(w->at, 1));
	w->at = sweep_hits(w) + max(w->at, 1);
}

void sweep_disarm(struct sweep *w)
{
	if (!w->armed || w->gone)
		return;
	w->sh->this_struck |= has_struck(w);
	w->gone = true;
	set(w, 0);
}

bool sweep_felt(const struct sweep *w)
{
	if (!w->k || w->kind == SWEEP_DISCARD)
		return false;
	return w->sticky || (w->kind != SWEEP_WRITE && w->kind != SWEEP_TORN);
}

bool sweep_may_stop(const struct sweep *w)
{
	return w->kind == SWEEP_FLUSH || w->kind == SWEEP_GONE;
}

bool sweep_want_of_memory(int ret)
{
	return err_to_errno(ret) == ENOMEM || ret == -BCFS_ERR_thread_start;
}

void sweep_failed(struct sweep *w, const char *what, int ret)
{
	int e = err_to_errno(ret);
	bool ok = false;

	w->errors++;
	if (getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "failed: %s: %s\n", what, err_str(ret));
	/* A place that could not be written is not used again: there are not many. */
	if (e == ENOSPC && (w->r.cfg.ballast || w->kind == SWEEP_GONE ||
			    (w->sticky && (w->kind == SWEEP_WRITE || w->kind == SWEEP_TORN))))
		return;
	if (w->kind == SWEEP_ALLOC)
		ok = sweep_want_of_memory(ret);
	else
		ok = e == EIO || (e == EROFS && w->r.core &&
				  (w->r.core->fs.error || journal_error(w->r.core->fs.journal)));
	/* A journal that cannot be read. */
	ok |= (w->kind == SWEEP_READ || w->kind == SWEEP_GONE) &&
	      ret == -BCFS_ERR_journal_damaged && !w->r.core;
	sweep_check(w, w->armed && (sweep_felt(w) || w->sc->may_fail) && ok, "%s: %s", what,
		    err_str(ret));
}

/* ---- steps ---- */

struct core_opts sweep_core_opts(const struct sweep *w, bool read_only, bool for_check)
{
	struct core_opts o = sim_core_opts(&w->r.cfg);

	o.read_only = o.no_background = read_only;
	o.for_check = for_check;
	o.on_error = w->sc->on_error;
	return o;
}

void sweep_mkfs(struct sweep *w)
{
	struct bcfs_mkfs_opts o = sim_mkfs_opts(&w->r.cfg);
	char msg[CORE_MSG_SIZE] = "";

	o.force = 1;
	o.log = sweep_log;
	o.log_arg = w;
	w->ret = sim_mkfs(w->r.env, w->r.bdev, &o, msg, sizeof(msg));
	if (w->ret)
		sweep_failed(w, "mkfs", w->ret);
	sweep_check(w, !w->ret || msg[0], "mkfs failed (%s) without a message", err_str(w->ret));
}

int sweep_open(struct sweep *w, bool read_only, bool for_check)
{
	struct core_opts co = sweep_core_opts(w, read_only, for_check);
	char msg[CORE_MSG_SIZE] = "";

	w->r.core = NULL;
	w->ret = core_open_on(w->r.env, w->r.bdev, &co, sweep_log, w, &w->r.core, msg, sizeof(msg));
	if (getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "open: %s %s\n", err_str(w->ret), msg);
	if (w->ret) {
		sweep_failed(w, "open", w->ret);
		sweep_check(w, msg[0], "open failed (%s) without a message", err_str(w->ret));
	}
	return w->ret;
}

bool sweep_stopped(struct sweep *w)
{
	return w->r.core && w->r.core->fs.error;
}

void sweep_close(struct sweep *w)
{
	struct core *c = w->r.core;

	if (!c)
		return;
	/* What failed for good may still be on its way back. */
	if (w->gone)
		env_sleep_ns(w->r.env, 10 * ENV_NSEC_PER_MSEC);
	bool ro = sweep_stopped(w), quiet = !w->armed || (w->gone && !sweep_may_stop(w));

	w->r.core = NULL;
	w->ret = core_close(c);
	if (w->ret && !ro) {
		sweep_check(w, !quiet, "close, though the fault is over: %s", err_str(w->ret));
		sweep_failed(w, "close", w->ret);
	}
	/* A clean close is as good as a sync. */
	if (!w->ret && w->r.nr_states)
		sim_run_add_floor(&w->r, w->r.nr_states - 1);
}

/* What failed before may have taken away what this one needs. */
static bool possible(struct model *m, struct mop *op)
{
	if (op->type == MOP_RENAME || op->type == MOP_UNLINK || op->type == MOP_RMDIR) {
		op->ino = m->n[op->dir].used ? m->n[op->dir].ents[op->name] - 1 : -1;
		if (op->ino < 0)
			return false;
	}
	return model_valid(m, op);
}

void sweep_op(struct sweep *w, struct mop op)
{
	struct sim_run *r = &w->r;
	u64 begin = sim_bdev_log_len(r->bdev), cut;
	bool ro = sweep_stopped(w);
	char what[256];
	int ret;

	if (!possible(&r->m, &op))
		return;
	mop_print(&op, what, sizeof(what));
	ret = model_exec(&r->m, &r->core->fs, &op, &cut);
	if (getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "op %u at %llu: %s: %s\n", r->nr_ops, (unsigned long long)begin,
			what, ret ? err_str(ret) : "ok");
	sweep_check(w, ret || !ro || !mop_changes(&op) || op.type == MOP_FORGET,
		    "%s: done, though the filesystem had stopped", what);
	if (ret || cut != UINT64_MAX) {
		if (ret)
			sweep_failed(w, what, ret);
		sweep_pause(w);
		sim_run_op_failed(r, &op, begin, ret);
		sweep_unpause(w);
	} else {
		sweep_pause(w);
		sim_run_op_done(r, &op, begin);
		sweep_unpause(w);
	}
	r->nr_ops++;
	env_sim_progress(r->env);
	if (trand_below(&w->rng, 6) == 0)
		env_sleep_ns(r->env, trand_below(&w->rng, 300) * ENV_NSEC_PER_MSEC);
}

void sweep_random_ops(struct sweep *w, unsigned nr)
{
	struct mop op;

	for (unsigned i = 0; i < nr; i++) {
		while (!model_gen(&w->r.m, &op))
			;
		sweep_op(w, op);
	}
}

void sweep_read_all(struct sweep *w)
{
	int err;
	char *is = fs_text(&w->r.core->fs, &err), *want = model_text(&w->r.m);

	if (err)
		sweep_failed(w, "reading the tree", err);
	else
		sweep_check(w, !strcmp(is, want), "the tree is wrong:\n%s\nexpected:\n%s", is,
			    want);
	free(is);
	free(want);
}

char *sweep_text(struct sweep *w)
{
	int err;

	sweep_pause(w);
	char *text = fs_text(&w->r.core->fs, &err);
	sweep_unpause(w);
	sweep_check(w, !err, "reading the tree: %s", err_str(err));
	return text;
}

void sweep_add_text(struct sweep *w, char *text, u64 begin_pos)
{
	struct sim_run *r = &w->r;

	if (r->nr_states == r->max_states) {
		r->max_states = r->max_states * 2 + 16;
		r->state = realloc(r->state, r->max_states * sizeof(r->state[0]));
	}
	r->state[r->nr_states++] = (struct sim_state){
		.hash = text_hash(text), .text = text, .op = r->nr_ops, .begin_pos = begin_pos};
}

void sweep_add_tree(struct sweep *w, u64 begin_pos)
{
	sweep_add_text(w, sweep_text(w), begin_pos);
}

/* ---- environments ---- */

void sweep_schedule(struct env *env, const struct sim_cfg *cfg)
{
	sim_schedule(env, cfg);
	env_sim_set_time_limit(env, 1200 * ENV_NSEC_PER_SEC);
	env_set_log(env, on_env_log, NULL);
}
