// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: whichever request to the device or allocation of memory fails, once or from then on:
 * nothing crashes, hangs or leaks; who asked is told, with an error of the right kind; and after
 * the next opening the tree is a prefix not before the last sync that returned.
 * Method: each scenario (sweep_scenarios.c) is brought to where the fault is armed, and from there
 * a process is forked for every k. After the run: crashes at some moments of it, openings of those
 * in which something fails again and which are cut off too, and at last one without a fault.
 *
 * Usage: sweep io|nomem [SCENARIO]. BCFS_SIM_SCALE: how much of it (default 1; 20 is every k).
 * BCFS_SWEEP="SCENARIO KIND once|sticky K": that run alone, in this process. BCFS_SWEEP_ALL=1: go
 * on after a failure. BCFS_SIM_LOG=1: the filesystem's log. BCFS_TEST_SEED.
 */
#include "sweep.h"

#include "../unit/test_rand.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Of one scenario, kind and way, at scale 1; about. */
#define RUNS_IO	     24
#define RUNS_NOMEM   40
#define HANG_SECONDS 120

static const char *const kind_names[] = {"read", "write", "torn", "flush", "discard", "alloc"};
static const enum sim_fault kind_faults[] = {SIM_FAULT_READ_ERROR, SIM_FAULT_WRITE_ERROR,
					     SIM_FAULT_WRITE_TORN, SIM_FAULT_FLUSH_ERROR,
					     SIM_FAULT_DISCARD_ERROR};

static unsigned failures;

void sweep_fail(struct sweep *w, const char *fmt, ...)
{
	const struct sim_cfg *c = &w->r.cfg;
	va_list args;

	fprintf(stderr,
		"FAILED: " TEST_SEED_FMT " BCFS_SWEEP=\"%s %s %s %llu\": blocks %u, nodes %u, "
		"buckets %u, preempt %u, discard %d: ",
		(unsigned long long)w->seed, w->sc->name, w->k ? kind_names[w->kind] : "none",
		w->sticky ? "sticky" : "once", (unsigned long long)w->k, c->block, c->node,
		c->bucket, c->preempt, c->discard);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void on_log(void *arg, enum bcfs_log_level level, const char *line)
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

static u64 hits(struct sweep *w)
{
	if (w->kind == SWEEP_ALLOC)
		return env_sim_nr_allocs(w->r.env);
	return sim_bdev_fault_hits(w->r.bdev, kind_faults[w->kind], NULL);
}

static bool has_struck(struct sweep *w)
{
	return w->armed && hits(w) >= w->at;
}

static void set(struct sweep *w, u64 kth)
{
	if (w->kind == SWEEP_ALLOC)
		env_sim_fail_alloc(w->r.env, kth, w->sticky);
	else
		sim_bdev_arm(w->r.bdev, kind_faults[w->kind], kth, w->sticky);
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

static void arm(struct sweep *w)
{

	if (!w->k)
		return;
	w->armed = true;
	w->at = hits(w) + w->k;
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
	w->at -= min(w->at, hits(w));
	set(w, 0);
}

void sweep_unpause(struct sweep *w)
{
	if (--w->paused || !w->armed || w->gone)
		return;
	set(w, max(w->at, 1));
	w->at = hits(w) + max(w->at, 1);
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

static bool want_of_memory(int ret)
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
	if (e == ENOSPC &&
	    (w->r.cfg.ballast || (w->sticky && (w->kind == SWEEP_WRITE || w->kind == SWEEP_TORN))))
		return;
	if (w->kind == SWEEP_ALLOC)
		ok = want_of_memory(ret);
	else
		ok = e == EIO || (e == EROFS && w->r.core &&
				  (w->r.core->fs.error || journal_error(w->r.core->fs.journal)));
	/* A journal that cannot be read. */
	ok |= w->kind == SWEEP_READ && ret == -BCFS_ERR_journal_damaged && !w->r.core;
	sweep_check(w, w->armed && (sweep_felt(w) || w->sc->may_fail) && ok, "%s: %s", what,
		    err_str(ret));
}

/* ---- steps ---- */

static struct core_opts core_opts(const struct sweep *w, bool read_only, bool for_check)
{
	return (struct core_opts){.noatime = true,
				  .read_only = read_only,
				  .for_check = for_check,
				  .no_background = read_only,
				  .on_error = w->sc->on_error,
				  .cache_bytes = w->r.cfg.cache_bytes,
				  .discard = w->r.cfg.discard ? BCFS_ON : BCFS_OFF,
				  .journal_flush_delay_ms = w->r.cfg.flush_delay_ms};
}

void sweep_mkfs(struct sweep *w)
{
	const struct sim_cfg *cfg = &w->r.cfg;
	struct bcfs_mkfs_opts o = {.struct_size = sizeof(o),
				   .block_bytes = cfg->block,
				   .node_bytes = cfg->node,
				   .bucket_bytes = cfg->bucket,
				   .journal_bytes = cfg->journal,
				   .extent_max_bytes = cfg->extent_max,
				   .force = 1,
				   .log = on_log,
				   .log_arg = w};
	char msg[CORE_MSG_SIZE] = "";

	w->ret = core_mkfs_on(w->r.env, w->r.bdev, &o, NULL, msg, sizeof(msg));
	if (w->ret)
		sweep_failed(w, "mkfs", w->ret);
	sweep_check(w, !w->ret || msg[0], "mkfs failed (%s) without a message", err_str(w->ret));
}

int sweep_open(struct sweep *w, bool read_only, bool for_check)
{
	struct core_opts co = core_opts(w, read_only, for_check);
	char msg[CORE_MSG_SIZE] = "";

	w->r.core = NULL;
	w->ret = core_open_on(w->r.env, w->r.bdev, &co, on_log, w, &w->r.core, msg, sizeof(msg));
	if (getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "open: %s %s\n", err_str(w->ret), msg);
	if (w->ret) {
		sweep_failed(w, "open", w->ret);
		sweep_check(w, msg[0], "open failed (%s) without a message", err_str(w->ret));
	}
	return w->ret;
}

static bool stopped(struct sweep *w)
{
	return w->r.core && w->r.core->fs.error;
}

void sweep_close(struct sweep *w)
{
	struct core *c = w->r.core;

	if (!c)
		return;
	/* A flush that failed may still be on its way back. */
	bool ro = stopped(w), quiet = !w->armed || (w->gone && w->kind != SWEEP_FLUSH);

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
	bool ro = stopped(w);
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

static void add_text(struct sweep *w, char *text, u64 begin_pos)
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
	add_text(w, sweep_text(w), begin_pos);
}

/* ---- environments ---- */

static void schedule(struct env *env, const struct sim_cfg *cfg)
{
	sim_schedule(env, cfg);
	env_sim_set_time_limit(env, 1200 * ENV_NSEC_PER_SEC);
	env_set_log(env, on_env_log, NULL);
}

/* ---- after it ---- */

/* An opening in which something fails, cut off somewhere. */
struct level {
	struct sweep *w;
	struct env *env;
	struct bdev *bdev;
	u64 pos;
	enum sweep_kind kind;
	u64 k;
	bool sticky;
};

static void level_heal(struct env_sim_event *ev)
{
	/* w->heal is of another environment and over. */
	struct sweep *w = container_of(ev, struct sweep, heal);

	env_sim_fail_alloc(w->r.env, 0, false);
}

static void level_main(void *arg)
{
	struct level *l = arg;
	struct core_opts co = core_opts(l->w, false, false);
	char msg[CORE_MSG_SIZE];
	struct core *c;
	int ret;

	if (l->kind == SWEEP_ALLOC)
		env_sim_fail_alloc(l->env, l->k, l->sticky);
	else
		sim_bdev_arm(l->bdev, kind_faults[l->kind], l->k, l->sticky);
	if (l->kind == SWEEP_ALLOC && l->sticky) {
		l->w->heal = (struct env_sim_event){.fn = level_heal};
		env_sim_event_add(l->env, &l->w->heal, 3 * ENV_NSEC_PER_SEC);
	}
	ret = core_open_on(l->env, l->bdev, &co, on_log, l->w, &c, msg, sizeof(msg));
	if (!ret)
		core_abort(c);
	else
		/* What the crash tore and what cannot be read now: together it is damage. */
		sweep_check(l->w,
			    l->kind == SWEEP_ALLOC  ? want_of_memory(ret)
			    : l->kind == SWEEP_READ ? err_is_damage(ret)
						    : err_to_errno(ret) == EIO,
			    "an opening that meets a failing %s (%llu, %s): %s: %s",
			    kind_names[l->kind], (unsigned long long)l->k,
			    l->sticky ? "sticky" : "once", err_str(ret), msg);
}

static void level_do(struct sweep *w, struct level *l, struct sim_image *img, struct bdev *crashed,
		     u64 crash_pos)
{
	struct sim_bdev_opts o = {.no_discard = !w->r.cfg.discard};
	struct env *env = w->r.env;

	*l = (struct level){.w = w, .env = env_sim_create(w->seed + crash_pos)};
	l->kind = trand_below(&w->rng, SWEEP_KINDS);
	l->k = 1 + trand_below(&w->rng, l->kind == SWEEP_FLUSH ? 4 : 50);
	l->sticky = trand_below(&w->rng, 2);
	if (w->sc->on_error == BCFS_ON_ERROR_PANIC)
		l->kind = SWEEP_ALLOC;
	if (sim_bdev_create_from(l->env, "sim", &o, img, &l->bdev))
		abort();
	sim_bdev_inherit_lives(l->bdev, crashed, crash_pos);
	schedule(l->env, &w->r.cfg);
	w->r.env = l->env;
	int ret = env_sim_run(l->env, level_main, l);
	w->r.env = env;
	sweep_check(w, !ret, "an opening with a fault: the simulation ended with %s", err_str(ret));
	sweep_check(w, !sim_bdev_violations(l->bdev), "an opening with a fault: %s",
		    sim_bdev_first_violation(l->bdev));
	l->pos = trand_below(&w->rng, sim_bdev_log_len(l->bdev) + 1);
	w->sh->faulty_recoveries++;
}

static void draw(struct sweep *w, struct sim_crash *how)
{
	how->rule = trand_below(&w->rng, SIM_CRASH_SUBSET);
	how->seed = trand_u64(&w->rng);
}

static void one_crash(struct sweep *w, u64 pos, const struct sim_crash *rule, unsigned levels)
{
	struct sim_crash how = *rule;
	struct sim_image *img = sim_bdev_image_at(w->r.bdev, pos, &how);
	struct bdev *crashed = w->r.bdev;
	u64 crash_pos = pos;
	struct level l[3];
	const char *save = getenv("BCFS_SIM_SAVE");

	for (unsigned i = 0; i < levels; i++) {
		level_do(w, &l[i], img, crashed, crash_pos);
		sim_image_free(img);
		crashed = l[i].bdev;
		crash_pos = l[i].pos;
		draw(w, &how);
		img = sim_bdev_image_at(crashed, crash_pos, &how);
	}

	struct sim_recovery rec = {.run = &w->r,
				   .img = img,
				   .crashed = crashed,
				   .crash_pos = crash_pos,
				   .seed = w->seed + pos,
				   .more = trand_below(&w->rng, 4) == 0};

	if (save)
		sim_image_save(img, save);
	sweep_check(w, sim_recover(&rec), "crash at %llu, %s, and %u more: %s",
		    (unsigned long long)pos, sim_crash_rule_name(rule->rule), levels, rec.msg);
	if (!sim_run_find(&w->r, pos, text_hash(rec.text))) {
		u32 least = sim_run_floor(&w->r, pos);
		u32 last = w->r.nr_states - 1;

		sweep_fail(w,
			   "crash at %llu, %s, and %u more: no prefix from state %u of %u on:\n%s\n"
			   "durable was:\n%s\nthe last was:\n%s",
			   (unsigned long long)pos, sim_crash_rule_name(rule->rule), levels, least,
			   last, rec.text, w->r.state[least].text, w->r.state[last].text);
	}
	sim_recovery_free(&rec);
	sim_image_free(img);
	for (unsigned i = 0; i < levels; i++) {
		bdev_close(l[i].bdev);
		env_sim_destroy(l[i].env);
	}
	w->sh->recoveries++;
}

void sweep_crashes(struct sweep *w)
{
	u64 end = sim_bdev_log_len(w->r.bdev), from = w->r.first_pos;
	struct sim_crash how = {.rule = SIM_CRASH_NONE};

	one_crash(w, end, &how, 0);
	draw(w, &how);
	one_crash(w, end, &how, trand_below(&w->rng, 3));
	for (unsigned i = 0; i < 2; i++) {
		draw(w, &how);
		one_crash(w, from + trand_below(&w->rng, end - from + 1), &how,
			  trand_below(&w->rng, 3));
	}
}

/* ---- one run ---- */

/* When faults are over everything works, unless the filesystem has stopped: and says so. */
static void aftermath(struct sweep *w)
{
	unsigned before = w->errors;
	struct model *m = &w->r.m;
	struct mop op = {.type = MOP_CREATE, .ino = 1, .name = M_NAMES - 1, .flags = 0600};

	if (!w->r.core)
		return;
	if (w->kind == SWEEP_ALLOC || !sweep_felt(w) || w->sc->on_error == BCFS_ON_ERROR_CONTINUE)
		sweep_check(w, !stopped(w) || w->kind == SWEEP_FLUSH || w->sticky,
			    "the filesystem has stopped: %s", err_str(w->r.core->fs.error));
	if (w->kind == SWEEP_ALLOC)
		sweep_check(w, !stopped(w), "the filesystem has stopped for want of memory: %s",
			    err_str(w->r.core->fs.error));
	w->sh->stopped += stopped(w);
	sweep_disarm(w);
	if (w->r.cfg.ballast || !m->n[0].used)
		return;
	while (op.ino < M_INOS && m->n[op.ino].used)
		op.ino++;
	if (m->n[0].ents[op.name])
		op = (struct mop){.type = MOP_CHMOD, .ino = 0, .flags = 0700};
	bool ro = stopped(w);
	sweep_op(w, op);
	sweep_op(w, (struct mop){.type = MOP_SYNC, .ino = -1});
	/* A flush that failed may have been on its way back. */
	ro |= w->kind == SWEEP_FLUSH && stopped(w);
	sweep_check(w, ro || w->errors == before, "the fault is over, and still: errors");
	sweep_check(w, !ro || w->errors > before, "the filesystem has stopped, but works");
	sweep_read_all(w);
}

static void count(struct sweep *w)
{
	for (unsigned i = 0; i < SWEEP_KINDS && !w->k; i++) {
		w->kind = i;
		w->sh->total[i] = hits(w) - w->sh->total[i];
	}
}

static void do_run(struct sweep *w)
{
	struct core *c;

	w->rng = w->seed * 0x9e3779b97f4a7c15ULL + w->k * 77 + w->kind * 5 + w->sticky;
	for (unsigned i = 0; i < SWEEP_KINDS && !w->k; i++) {
		w->kind = i;
		w->sh->total[i] = hits(w);
	}
	sim_bdev_log_reset(w->r.bdev);
	w->r.first_pos = sim_bdev_log_len(w->r.bdev);
	w->r.cfg.fault = SIM_FAULT_READ_ERROR; /* nothing but: be quiet */
	arm(w);
	w->sc->body(w);
	if (w->armed && !w->sticky && w->kind != SWEEP_FLUSH && !w->r.cfg.ballast && !stopped(w))
		sweep_check(w, w->errors <= 1, "%u errors of one fault", w->errors);
	/* The end: closed with the fault, closed without, or cut off. */
	if (w->k % 3)
		aftermath(w);
	if (w->k % 3 != 2)
		sweep_close(w);
	count(w);
	sweep_disarm(w);
	w->sh->errors += w->errors;
	c = w->r.core;
	w->r.core = NULL;
	if (c)
		core_abort(c);
	env_sim_event_cancel(w->r.env, &w->heal);
}

static void verify(struct sweep *w)
{
	u64 bytes, nr;

	sweep_check(w, !sim_bdev_violations(w->r.bdev), "%s", sim_bdev_first_violation(w->r.bdev));
	if (w->sc->verify)
		w->sc->verify(w);
	else
		sweep_crashes(w);
	bdev_close(w->r.bdev);
	nr = env_sim_live_allocs(w->r.env, &bytes);
	sweep_check(w, !nr, "%llu allocations of %llu bytes leaked", (unsigned long long)nr,
		    (unsigned long long)bytes);
	env_sim_destroy(w->r.env);
}

/* ---- all runs of a scenario ---- */

static double scale(void)
{
	const char *s = getenv("BCFS_SIM_SCALE");

	return s && atof(s) > 0 ? atof(s) : 1;
}

static bool nomem;

/* In a process of its own: true there. */
static bool fork_run(struct sweep *w, enum sweep_kind kind, bool sticky, u64 k)
{
	int status;
	pid_t pid;

	w->sh->this_struck = w->sh->panicked = false;
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(1);
	}
	if (!pid) {
		alarm(HANG_SECONDS);
		w->forked = true;
		w->kind = kind;
		w->sticky = sticky;
		w->k = k;
		return true;
	}
	if (waitpid(pid, &status, 0) != pid) {
		perror("waitpid");
		exit(1);
	}
	w->sh->struck += w->sh->this_struck;
	if (!status)
		return false;
	if (w->sh->panicked && w->sc->on_error == BCFS_ON_ERROR_PANIC && WIFSIGNALED(status) &&
	    WTERMSIG(status) == SIGABRT) {
		w->sh->this_struck = true;
		w->sh->struck++;
		return false;
	}
	if (WIFSIGNALED(status))
		fprintf(stderr, "FAILED: " TEST_SEED_FMT " BCFS_SWEEP=\"%s %s %s %llu\": %s\n",
			(unsigned long long)w->seed, w->sc->name, kind_names[kind],
			sticky ? "sticky" : "once", (unsigned long long)k,
			WTERMSIG(status) == SIGALRM ? "it hangs" : strsignal(WTERMSIG(status)));
	failures++;
	if (!getenv("BCFS_SWEEP_ALL"))
		exit(1);
	w->sh->this_struck = true; /* go on */
	return false;
}

static bool sweep_kind(struct sweep *w, enum sweep_kind kind, bool sticky)
{
	u64 total = w->sh->total[kind], before = w->sh->struck;
	double want = (nomem ? RUNS_NOMEM : RUNS_IO) * scale();
	u64 step = max_t(u64, 1, (u64)((double)total / want)), last = 0;
	/* Not the same of every scenario. */
	u64 k = 1 + (w->seed + kind) % step;

	for (; k <= 4 * total + 16; k += step) {
		if (fork_run(w, kind, sticky, k))
			return true;
		if (!w->sh->this_struck)
			break;
		last = k;
	}
	printf("  %s %s: %llu to %llu by %llu", kind_names[kind], sticky ? "sticky" : "once",
	       (unsigned long long)(w->sh->struck - before), (unsigned long long)last,
	       (unsigned long long)step);
	return false;
}

static bool parse_single(struct sweep *w, const char *s)
{
	char name[32], kind[16], how[16];
	unsigned long long k;

	if (sscanf(s, "%31s %15s %15s %llu", name, kind, how, &k) != 4) {
		fprintf(stderr, "BCFS_SWEEP=\"SCENARIO KIND once|sticky K\"\n");
		exit(2);
	}
	if (strcmp(name, w->sc->name))
		return false;
	while (w->kind < SWEEP_KINDS - 1 && strcmp(kind, kind_names[w->kind]))
		w->kind++;
	w->sticky = !strcmp(how, "sticky");
	w->k = k;
	return true;
}

/* True in the process that is to make the run. */
static bool choose(struct sweep *w)
{
	const char *single = getenv("BCFS_SWEEP");

	if (single)
		return parse_single(w, single);
	if (fork_run(w, SWEEP_READ, false, 0))
		return true;
	printf("%s:", w->sc->name);
	for (unsigned kind = 0; kind < SWEEP_KINDS; kind++) {
		if ((kind == SWEEP_ALLOC) != nomem || !w->sh->total[kind] ||
		    (w->sc->kinds & (1U << kind)))
			continue;
		for (unsigned sticky = 0; sticky < 2; sticky++)
			if (sweep_kind(w, kind, sticky))
				return true;
	}
	putchar('\n');
	return false;
}

/* Nobody has a file open any more. */
static void model_closed(struct model *m)
{
	for (unsigned i = 1; i < M_INOS; i++) {
		struct mino *x = &m->n[i];

		x->refs = 0;
		if (!x->used || x->nlink)
			continue;
		free(x->data);
		memset(x, 0, sizeof(*x));
	}
}

static void prepare(struct sweep *w)
{
	w->rng = w->seed;
	if (w->sc->from == FROM_NOTHING || w->base_text)
		return;
	sweep_mkfs(w);
	sweep_open(w, false, false);
	sim_run_add_state(&w->r, 0);
	if (w->r.cfg.bulk)
		sim_run_make_bulk(&w->r);
	if (w->r.cfg.ballast)
		sim_run_make_ballast(&w->r);
	sweep_random_ops(w, w->sc->random);
	if (w->sc->from == FROM_CLOSED) {
		sweep_close(w);
		model_closed(&w->r.m);
		sim_run_add_state(&w->r, 0);
		sim_run_add_floor(&w->r, w->r.nr_states - 1);
	} else {
		sweep_op(w, (struct mop){.type = MOP_SYNC, .ino = -1});
	}
}

static void sweep_main(void *arg)
{
	struct sweep *w = arg;

	prepare(w);
	if (choose(w)) {
		w->forked = true;
		do_run(w);
	} else if (w->r.core) {
		core_abort(w->r.core);
	}
}

/* Operations, and no more power. */
static void base_main(void *arg)
{
	struct sweep *w = arg;

	prepare(w);
	sim_bdev_log_reset(w->r.bdev);
	w->r.first_pos = sim_bdev_log_len(w->r.bdev);
	sweep_random_ops(w, 12);
	core_abort(w->r.core);
}

static struct sim_cfg make_cfg(const struct scenario *sc, u64 seed)
{
	u64 rng = seed * 0x9e3779b97f4a7c15ULL + (u64)(sc - sweep_scenarios);
	struct sim_cfg c = {.seed = seed, .fault = SIM_FAULT_NR};

	c.block = trand_below(&rng, 3) ? 512 : 4096;
	c.node = c.block == 512 ? 4096U << trand_below(&rng, 2) : 16384;
	c.bucket = max(c.node, 16384U << trand_below(&rng, 2));
	c.journal = journal_min_bytes(c.block, c.bucket / 512);
	c.extent_max = 8192U << trand_below(&rng, 2);
	c.cache_bytes = 1;
	c.dev_bytes = 6ULL << 20;
	c.preempt = trand_below(&rng, 2) ? 64 : 256;
	c.eager = trand_below(&rng, 2) ? 0 : 40;
	c.flush_delay_ms = trand_below(&rng, 2) ? 100 : 1000;
	c.discard = trand_below(&rng, 2);
	if (sc->geometry)
		sc->geometry(&c);
	return c;
}

static void run_in(struct sweep *w, void (*fn)(void *), const struct sim_image *img)
{
	struct sim_bdev_opts o = {.size_bytes = w->r.cfg.dev_bytes,
				  .no_discard = !w->r.cfg.discard};

	w->r.env = env_sim_create(w->seed);
	int ret = img ? sim_bdev_create_from(w->r.env, "sim", &o, img, &w->r.bdev)
		      : sim_bdev_create(w->r.env, "sim", &o, &w->r.bdev);

	sweep_check(w, !ret, "no device");
	schedule(w->r.env, &w->r.cfg);
	ret = env_sim_run(w->r.env, fn, w);
	sweep_check(w, !ret, "the simulation ended with %s", err_str(ret));
}

/* The image that a crash left, and what is found on it. */
static struct sim_image *make_base(struct sweep *w)
{
	struct sim_crash how = {.rule = SIM_CRASH_RANDOM, .seed = w->seed};
	struct sim_recovery rec = {.run = &w->r, .seed = w->seed};

	run_in(w, base_main, NULL);
	w->r.core = NULL;
	rec.img = sim_bdev_image_at(w->r.bdev, sim_bdev_log_len(w->r.bdev), &how);
	sweep_check(w, sim_recover(&rec), "the recovery alone: %s", rec.msg);
	w->base_text = rec.text;
	rec.text = NULL;
	sim_recovery_free(&rec);
	sim_run_free(&w->r);
	w->r = (struct sim_run){.cfg = w->r.cfg, .rng = w->seed, .bulk_rng = w->seed};
	add_text(w, strdup(w->base_text), 0);
	return (struct sim_image *)rec.img;
}

static void sweep_run(const struct scenario *sc, u64 seed, struct sweep_shared *sh)
{
	struct sweep *w = calloc(1, sizeof(*w));
	struct sim_image *base = NULL;

	w->sc = sc;
	w->sh = sh;
	w->seed = seed;
	w->r.cfg = make_cfg(sc, seed);
	w->r.rng = w->r.bulk_rng = seed;
	model_init(&w->r.m, seed, w->r.cfg.block, w->r.cfg.node);
	if (sc->from == FROM_CRASH)
		base = make_base(w);
	run_in(w, sweep_main, base);
	sim_image_free(base);
	if (w->forked) {
		verify(w);
		if (!getenv("BCFS_SWEEP"))
			_exit(0);
		printf("passed, struck: %d, %u errors\n", sh->this_struck, w->errors);
		exit(0);
	}
	sim_run_free(&w->r);
	free(w->base_text);
	free(w);
}

int main(int argc, char **argv)
{
	struct sweep_shared *sh =
		mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned nr = 0;
	u64 struck = 0;

	nomem = argc > 1 && !strcmp(argv[1], "nomem");
	for (const struct scenario *sc = sweep_scenarios; argc == 2 && sc->name; sc++)
		if (!strcmp(argv[1], "list"))
			puts(sc->name);
	if (argc == 2 && !strcmp(argv[1], "list"))
		return 0;
	if (sh == MAP_FAILED || argc < 2 || (!nomem && strcmp(argv[1], "io"))) {
		fprintf(stderr, "usage: sim-sweep io|nomem [SCENARIO]\n       sim-sweep list\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (const struct scenario *sc = sweep_scenarios; sc->name; sc++) {
		const char *only = getenv("BCFS_SWEEP") ?: argv[2];
		size_t len = only ? strcspn(only, " ") : 0;

		if (only && (strlen(sc->name) != len || strncmp(only, sc->name, len)))
			continue;
		memset(sh->total, 0, sizeof(sh->total));
		sweep_run(sc, trand_seed(1), sh);
		nr++;
	}
	struck = sh->struck;
	printf("%u scenarios, %llu faults struck, %llu requests failed, stopped %llu times; %llu "
	       "recoveries, %llu openings with a fault; %u failures; %.1f s\n",
	       nr, (unsigned long long)struck, (unsigned long long)sh->errors,
	       (unsigned long long)sh->stopped, (unsigned long long)sh->recoveries,
	       (unsigned long long)sh->faulty_recoveries, failures,
	       (double)clock() / CLOCKS_PER_SEC);
	return failures ? 1 : 0;
}
