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

static unsigned failures;

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
	struct core_opts co = sweep_core_opts(l->w, false, false);
	char msg[CORE_MSG_SIZE];
	struct core *c;
	int ret;

	if (l->kind == SWEEP_ALLOC)
		env_sim_fail_alloc(l->env, l->k, l->sticky);
	else
		sim_bdev_arm(l->bdev, sweep_kind_faults[l->kind], l->k, l->sticky);
	if (l->kind == SWEEP_ALLOC && l->sticky) {
		l->w->heal = (struct env_sim_event){.fn = level_heal};
		env_sim_event_add(l->env, &l->w->heal, 3 * ENV_NSEC_PER_SEC);
	}
	ret = core_open_on(l->env, l->bdev, &co, sweep_log, l->w, &c, msg, sizeof(msg));
	if (!ret)
		core_abort(c);
	else
		/* What the crash tore and what cannot be read now: together it is damage. */
		sweep_check(l->w,
			    l->kind == SWEEP_ALLOC  ? sweep_want_of_memory(ret)
			    : l->kind == SWEEP_READ ? err_is_damage(ret)
						    : err_to_errno(ret) == EIO,
			    "an opening that meets a failing %s (%llu, %s): %s: %s",
			    sweep_kind_names[l->kind], (unsigned long long)l->k,
			    l->sticky ? "sticky" : "once", err_str(ret), msg);
}

static void level_do(struct sweep *w, struct level *l, struct sim_image *img, struct bdev *crashed,
		     u64 crash_pos)
{
	struct sim_bdev_opts o = {.no_discard = !w->r.cfg.discard};
	struct env *env = w->r.env;

	*l = (struct level){.w = w, .env = env_sim_create(w->seed + crash_pos)};
	l->kind = trand_below(&w->rng, SWEEP_GONE);
	l->k = 1 + trand_below(&w->rng, l->kind == SWEEP_FLUSH ? 4 : 50);
	l->sticky = trand_below(&w->rng, 2);
	if (w->sc->on_error == BCFS_ON_ERROR_PANIC)
		l->kind = SWEEP_ALLOC;
	if (sim_bdev_create_from(l->env, "sim", &o, img, &l->bdev))
		abort();
	sim_bdev_inherit_lives(l->bdev, crashed, crash_pos);
	sweep_schedule(l->env, &w->r.cfg);
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
		sweep_check(w, !sweep_stopped(w) || sweep_may_stop(w) || w->sticky,
			    "the filesystem has stopped: %s", err_str(w->r.core->fs.error));
	if (w->kind == SWEEP_ALLOC)
		sweep_check(w, !sweep_stopped(w),
			    "the filesystem has stopped for want of memory: %s",
			    err_str(w->r.core->fs.error));
	w->sh->stopped += sweep_stopped(w);
	sweep_disarm(w);
	if (w->r.cfg.ballast || !m->n[0].used)
		return;
	while (op.ino < M_INOS && m->n[op.ino].used)
		op.ino++;
	if (m->n[0].ents[op.name])
		op = (struct mop){.type = MOP_CHMOD, .ino = 0, .flags = 0700};
	bool ro = sweep_stopped(w);
	sweep_op(w, op);
	sweep_op(w, (struct mop){.type = MOP_SYNC, .ino = -1});
	/* A flush that failed may have been on its way back. */
	ro |= sweep_may_stop(w) && sweep_stopped(w);
	/* And flushes for which data could not be written may have filled the journal. */
	ro |= w->sticky && sweep_stopped(w);
	sweep_check(w, ro || w->errors == before, "the fault is over, and still: errors");
	sweep_check(w, !ro || w->errors > before, "the filesystem has stopped, but works");
	sweep_read_all(w);
}

static void count(struct sweep *w)
{
	for (unsigned i = 0; i < SWEEP_KINDS && !w->k; i++) {
		w->kind = i;
		w->sh->total[i] = sweep_hits(w) - w->sh->total[i];
	}
}

enum end { CLOSED_WITH_IT, CLOSED_WITHOUT, CUT_OFF, ENDS };

/* How a run with a fault ends. */
static enum end ends(const struct sweep *w)
{
	return w->k % ENDS;
}

static void do_run(struct sweep *w)
{
	struct core *c;

	w->rng = w->seed * 0x9e3779b97f4a7c15ULL + w->k * 77 + w->kind * 5 + w->sticky;
	for (unsigned i = 0; i < SWEEP_KINDS && !w->k; i++) {
		w->kind = i;
		w->sh->total[i] = sweep_hits(w);
	}
	sim_bdev_log_reset(w->r.bdev);
	w->r.first_pos = sim_bdev_log_len(w->r.bdev);
	w->r.cfg.fault = SIM_FAULT_READ_ERROR; /* nothing but: be quiet */
	sweep_arm(w);
	w->sc->body(w);
	if (w->armed && !w->sticky && !sweep_may_stop(w) && !w->r.cfg.ballast && !sweep_stopped(w))
		sweep_check(w, w->errors <= 1, "%u errors of one fault", w->errors);
	if (ends(w) != CLOSED_WITH_IT)
		aftermath(w);
	if (ends(w) != CUT_OFF)
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
			(unsigned long long)w->seed, w->sc->name, sweep_kind_names[kind],
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
	unsigned missed = 0;
	/* Not the same of every scenario. */
	u64 k = 1 + (w->seed + kind) % step;

	/* A run ends in one of three ways (ends()): one of them may go further than the others. */
	for (; k <= 4 * total + 16 && missed < ENDS; k += step) {
		if (fork_run(w, kind, sticky, k))
			return true;
		missed = w->sh->this_struck ? 0 : missed + 1;
		last = w->sh->this_struck ? k : last;
	}
	printf("  %s %s: %llu to %llu by %llu", sweep_kind_names[kind], sticky ? "sticky" : "once",
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
	while (w->kind < SWEEP_KINDS - 1 && strcmp(kind, sweep_kind_names[w->kind]))
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
	c.journal = sim_small_journal_bytes(c.block, c.bucket);
	c.extent_max = 8192U << trand_below(&rng, 2);
	c.compression = sim_compression(rng);
	c.background = sim_background(rng);
	c.gather = sim_gather(rng);
	c.encrypt = sim_encrypt(rng);
	c.cache_bytes = 1;
	c.dev_bytes = 6ULL << 20;
	c.preempt = trand_below(&rng, 2) ? 64 : 256;
	c.eager = trand_below(&rng, 2) ? 0 : 40;
	c.flush_delay_ms = trand_below(&rng, 2) ? 100 : 1000;
	c.discard = trand_below(&rng, 2);
	if (sc->geometry)
		sc->geometry(&c);
	c.inline_max = sim_inline(&c, rng);
	c.copies = sim_copies(rng);
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
	if (w->r.cfg.encrypt)
		sim_bdev_watch_crypt(w->r.bdev);
	sweep_schedule(w->r.env, &w->r.cfg);
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
	sweep_add_text(w, strdup(w->base_text), 0);
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
	w->r.m.inline_max = w->r.cfg.inline_max;
	w->r.m.copies = w->r.cfg.copies;
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
