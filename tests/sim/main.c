// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bcfs-sim: the whole filesystem on the simulated device, crashed and recovered from by the
 * thousand, in as many processes as wanted.
 *
 * Exit status: 0 all was right, 1 a violation (with its seed, and what is left of it when all that
 * does not matter is left out), 2 it could not be run.
 */
#include "case.h"

#include "../unit/test_rand.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SCALE_WHOLE_TIER 0.3
#define JOBS_MAX	 64
/* Of the table of images that were seen: 2^n. */
#define SEEN_BITS 24
/* A process in which nothing moves for so long does not come back. */
#define HANG_SECONDS 600
/* Nor does one that goes on for so long when the time is over: no more crashes are looked at. */
#define OVERTIME_SECONDS 300

struct opts {
	u64 seed, states, runs;
	double minutes;
	unsigned jobs, progress, shrink;
	bool all, hash;
	const char *case_file, *keep;
};

struct worker {
	struct sim_totals t;
	struct sim_report rep;
	_Atomic u64 unit;
	/* The parent's. */
	pid_t pid; /* 0: none */
	u64 beat;
	double moved; /* when it was last seen to */
};

/* Shared by the processes. */
struct shared {
	_Atomic u64 next, end;
	_Atomic bool stop;
	struct sim_report scratch;
	struct worker w[JOBS_MAX];
};

struct driver {
	struct opts o;
	double stopped; /* when s->stop was set */
	struct shared *s;
	struct sim_seen *seen;
};

static double now(clockid_t clk)
{
	struct timespec ts;

	clock_gettime(clk, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static double scale(void)
{
	const char *s = getenv("BCFS_SIM_SCALE");

	return s && atof(s) > 0 ? atof(s) : 1;
}

static const struct sim_mode *find_mode(const char *name)
{
	const struct sim_mode *(*const tables[])(unsigned *) = {crash_modes, ace_modes,
								clients_modes};

	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		unsigned nr;
		const struct sim_mode *m = tables[i](&nr);

		for (unsigned j = 0; j < nr; j++)
			if (!strcmp(m[j].name, name))
				return &m[j];
	}
	return NULL;
}

static void print_modes(FILE *f)
{
	const struct sim_mode *(*const tables[])(unsigned *) = {crash_modes, ace_modes,
								clients_modes};

	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		unsigned nr;
		const struct sim_mode *m = tables[i](&nr);

		for (unsigned j = 0; j < nr; j++)
			fprintf(f, "  %-14s %s\n", m[j].name, m[j].about);
	}
}

/* ---- sums ---- */

static void totals_add(struct sim_totals *t, const struct sim_totals *x)
{
	t->runs += x->runs;
	t->images += x->images;
	t->states += x->states;
	t->recoveries += x->recoveries;
	t->second += x->second;
	t->errors += x->errors;
	t->nospc += x->nospc;
	t->sequences += x->sequences;
	t->impossible += x->impossible;
	t->cpu_ns += x->cpu_ns;
	for (unsigned i = 0; i < ARRAY_SIZE(t->restarts); i++)
		t->restarts[i] += x->restarts[i];
	for (unsigned i = 0; i < SIM_FAULT_NR; i++) {
		t->armed[i] += x->armed[i];
		t->struck[i] += x->struck[i];
	}
	for (unsigned i = 0; i < x->counters.nr; i++)
		sim_counters_add(&t->counters, x->counters.c[i].name, x->counters.c[i].value);
}

static struct sim_totals *sum(const struct driver *d)
{
	struct sim_totals *t = calloc(1, sizeof(*t));

	for (unsigned i = 0; i < d->o.jobs; i++)
		totals_add(t, &d->s->w[i].t);
	return t;
}

static u64 total_of(const struct sim_totals *t, const char *name)
{
	const struct {
		const char *name;
		u64 value;
	} own[] = {{"second", t->second}, {"errors", t->errors}, {"nospc", t->nospc}};

	for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
		if (!strcmp(own[i].name, name))
			return own[i].value;
	for (unsigned i = 0; i < SIM_RESTART_NR; i++)
		if (!strcmp(sim_restart_names[i], name))
			return t->restarts[i];
	return sim_counter(&t->counters, name);
}

/* What the mode is for; whole: and what all of it must reach. */
static void counters_of(const struct sim_mode *mode, bool whole, char *buf, size_t size)
{
	snprintf(buf, size, "%s %s", mode->must_move, whole && mode->whole ? mode->whole : "");
}

/* False, with a message for each, if something that the mode is for did not happen. */
static bool all_moved(const struct sim_mode *mode, const struct sim_totals *t)
{
	char list[1024], *save = NULL;
	bool ok = true;

	counters_of(mode, mode->nr_units && t->runs >= mode->nr_units(mode), list, sizeof(list));
	for (char *name = strtok_r(list, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
		if (total_of(t, name))
			continue;
		fprintf(stderr, "FAILED: %s stayed zero: the runs do not reach what they should\n",
			name);
		ok = false;
	}
	for (unsigned i = 0; i < SIM_FAULT_NR; i++) {
		if (!t->armed[i] || t->struck[i])
			continue;
		fprintf(stderr,
			"FAILED: a fault of kind %u was armed in %llu runs, but never struck\n", i,
			(unsigned long long)t->armed[i]);
		ok = false;
	}
	return ok;
}

static void print_line(const struct sim_mode *mode, const struct sim_totals *t, double wall)
{
	double cpu = (double)t->cpu_ns * 1e-9;

	printf("%s: %llu runs, ", mode->name, (unsigned long long)t->runs);
	if (t->sequences)
		printf("%llu sequences (%llu impossible), ", (unsigned long long)t->sequences,
		       (unsigned long long)t->impossible);
	printf("%llu images, %llu states, %.0f s, %.0f s of CPU, %.0f states per minute of CPU\n",
	       (unsigned long long)t->images, (unsigned long long)t->states, wall, cpu,
	       cpu > 0 ? (double)t->states * 60 / cpu : 0);
	fflush(stdout);
}

static void print_totals(const struct sim_mode *mode, const struct sim_totals *t)
{
	char list[1024], *save = NULL;
	u64 armed = 0, struck = 0;

	for (unsigned i = 0; i < SIM_FAULT_NR; i++) {
		armed += t->armed[i];
		struck += t->struck[i];
	}
	if (armed || t->errors)
		printf("  operations failed %llu, faults struck in %llu of %llu runs\n",
		       (unsigned long long)t->errors, (unsigned long long)struck,
		       (unsigned long long)armed);
	printf("  recoveries %llu, of them from crashes in recovery %llu\n",
	       (unsigned long long)t->recoveries, (unsigned long long)t->second);
	counters_of(mode, true, list, sizeof(list));
	for (char *name = strtok_r(list, " ", &save); name; name = strtok_r(NULL, " ", &save))
		if (strcmp(name, "second"))
			printf("  %s %llu\n", name, (unsigned long long)total_of(t, name));
	for (unsigned i = 0; getenv("BCFS_SIM_COUNTERS") && i < t->counters.nr; i++)
		printf("  %s %llu\n", t->counters.c[i].name,
		       (unsigned long long)t->counters.c[i].value);
}

/* ---- processes ---- */

static void run_unit(const struct driver *d, const struct sim_mode *mode, struct worker *w,
		     u64 unit)
{
	struct sim_work work = {
		.t = &w->t, .seen = d->seen, .report = &w->rep, .stop = &d->s->stop};

	w->unit = unit;
	w->rep.failed = w->rep.crashed = false;
	w->rep.nr_ops = 0;
	(mode->run ?: crash_run)(mode, unit, &work);
	w->t.cpu_ns = (u64)(now(CLOCK_PROCESS_CPUTIME_ID) * 1e9);
}

static void work_on(const struct driver *d, const struct sim_mode *mode, struct worker *w)
{
	for (;;) {
		u64 unit = d->s->next++;

		if (d->s->stop || unit >= d->s->end)
			return;
		run_unit(d, mode, w, unit);
	}
}

static bool start(const struct driver *d, const struct sim_mode *mode, struct worker *w)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		work_on(d, mode, w);
		fflush(NULL);
		_exit(0);
	}
	w->pid = pid;
	w->moved = now(CLOCK_MONOTONIC);
	return pid > 0;
}

static void end_all(struct driver *d)
{
	for (unsigned i = 0; i < d->o.jobs; i++) {
		struct worker *w = &d->s->w[i];

		if (w->pid <= 0)
			continue;
		kill(w->pid, SIGKILL);
		waitpid(w->pid, NULL, 0);
		w->pid = 0;
	}
}

/* False: it hangs, and says so. */
static bool goes_on(const struct driver *d, struct worker *w)
{
	double t = now(CLOCK_MONOTONIC);

	if (w->beat != w->rep.beat) {
		w->beat = w->rep.beat;
		w->moved = t;
	}
	if (t - w->moved > HANG_SECONDS)
		snprintf(w->rep.msg, sizeof(w->rep.msg),
			 "FAILED: nothing has moved for %d seconds\n", HANG_SECONDS);
	else if (d->s->stop && t - d->stopped > OVERTIME_SECONDS)
		snprintf(w->rep.msg, sizeof(w->rep.msg),
			 "FAILED: a run goes on, %d seconds after the time was over; its "
			 "operations: "
			 "%u\n",
			 OVERTIME_SECONDS, w->rep.nr_ops);
	else
		return true;
	return false;
}

/* One that has come to nothing, or hangs; NULL: none. *running: how many go on. */
static struct worker *look_at_workers(struct driver *d, unsigned *running, int *status)
{
	*running = 0;
	for (unsigned i = 0; i < d->o.jobs; i++) {
		struct worker *w = &d->s->w[i];

		if (w->pid <= 0)
			continue;
		if (waitpid(w->pid, status, WNOHANG) == w->pid) {
			w->pid = 0;
			if (*status)
				return w;
			continue;
		}
		++*running;
		if (!goes_on(d, w)) {
			*status = -1;
			return w;
		}
	}
	return NULL;
}

/* ---- a violation ---- */

static void note_signal(struct sim_report *rep, int status)
{
	if (!rep->failed && WIFSIGNALED(status))
		snprintf(rep->msg, sizeof(rep->msg), "FAILED: it died of signal %d\n",
			 WTERMSIG(status));
}

static bool replays_alike(struct driver *d, const struct sim_mode *mode, struct worker *w)
{
	struct worker *again = &d->s->w[w == &d->s->w[0] ? 1 : 0];
	int status = 0;
	pid_t pid;

	memset(&again->t, 0, sizeof(again->t));
	again->rep.msg[0] = 0;
	fflush(NULL);
	pid = fork();
	if (!pid) {
		if (!freopen("/dev/null", "w", stderr))
			_exit(0);
		run_unit(d, mode, again, w->unit);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	note_signal(&again->rep, status);
	return status && !strcmp(again->rep.msg, w->rep.msg);
}

static void keep_case(const struct driver *d, const struct sim_case *c)
{
	FILE *f = d->o.keep ? fopen(d->o.keep, "w") : NULL;

	sim_case_print(c, stderr);
	if (!f)
		return;
	sim_case_print(c, f);
	fclose(f);
	fprintf(stderr, "kept in %s: bcfs-sim --case %s\n", d->o.keep, d->o.keep);
}

/* The least of what the report tells that fails. */
static void shrink(struct driver *d, const struct sim_report *rep)
{
	struct sim_case c;

	fprintf(stderr, "looking for the least that fails, for %u s\n", d->o.shrink);
	if (!sim_shrink(rep, &c, d->o.shrink, &d->s->scratch, d->seen)) {
		fprintf(stderr, "its operations one by one do not fail, or in another way\n");
		return;
	}
	fprintf(stderr, "%u of %u operations are left:\n%s", c.nr, rep->nr_ops, d->s->scratch.msg);
	keep_case(d, &c);
	sim_case_free(&c);
}

static void violation(struct driver *d, const struct sim_mode *mode, struct worker *w, int status)
{
	end_all(d);
	d->s->stop = false;
	note_signal(&w->rep, status);
	fprintf(stderr, "%sreplay: bcfs-sim --seed %llu %s\n", w->rep.msg,
		(unsigned long long)w->unit, mode->name);
	if (status == -1)
		return;
	fprintf(stderr, "%s\n",
		replays_alike(d, mode, w) ? "it replays alike" : "it does NOT replay alike");
	if (d->o.shrink && (!mode->run || mode->depth))
		shrink(d, &w->rep);
}

/* ---- a mode ---- */

/* As many as the time allows; a tier that fits in whole is not cut but where all is slow. */
static u64 scaled_runs(const struct sim_mode *mode)
{
	double s = scale();

	if (s >= SCALE_WHOLE_TIER && s < 1 && mode->nr_units && mode->runs >= mode->nr_units(mode))
		s = 1;
	return max_t(u64, 1, (u64)(mode->runs * s + 0.5));
}

/* Behind the last unit of a tier they come again, from other seeds. */
static void set_bounds(const struct driver *d, const struct sim_mode *mode)
{
	const struct opts *o = &d->o;
	u64 nr = UINT64_MAX / 2, first = o->seed ?: 1;

	if (o->all && mode->nr_units)
		nr = mode->nr_units(mode);
	if (o->runs)
		nr = min(nr, o->runs);
	else if (o->seed && !o->minutes && !o->states && !o->all)
		nr = 1;
	else if (!o->minutes && !o->states && !o->all)
		nr = scaled_runs(mode);
	d->s->next = first;
	d->s->end = first + nr;
	d->s->stop = false;
}

static int run_mode(struct driver *d, const struct sim_mode *mode, double minutes)
{
	double begin = now(CLOCK_MONOTONIC), told = begin;
	unsigned running = 0;
	int status, ret = 0;

	set_bounds(d, mode);
	memset(d->s->w, 0, sizeof(d->s->w));
	for (unsigned i = 0; i < d->o.jobs; i++)
		if (!start(d, mode, &d->s->w[i]))
			return 2;
	for (;;) {
		struct worker *bad = look_at_workers(d, &running, &status);
		struct sim_totals *t;

		if (bad) {
			violation(d, mode, bad, status);
			return 1;
		}
		double wall = now(CLOCK_MONOTONIC) - begin;

		t = sum(d);
		if ((minutes > 0 && wall > minutes * 60) ||
		    (d->o.states && t->states >= d->o.states)) {
			d->stopped = d->s->stop ? d->stopped : begin + wall;
			d->s->stop = true;
		}
		if (!running) {
			print_line(mode, t, wall);
			print_totals(mode, t);
			if (!d->o.seed && t->runs >= mode->runs && !all_moved(mode, t))
				ret = 1;
			free(t);
			return ret;
		}
		if (d->o.progress && begin + wall - told > d->o.progress) {
			print_line(mode, t, wall);
			told = begin + wall;
		}
		free(t);
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	}
}

static int run_case(struct driver *d)
{
	struct worker *w = &d->s->w[0];
	struct sim_work work = {.t = &w->t, .seen = d->seen, .report = &w->rep};
	struct sim_case c;
	int status = 0;
	pid_t pid;

	if (!sim_case_load(&c, d->o.case_file))
		return 2;
	fflush(NULL);
	pid = fork();
	if (!pid) {
		sim_case_run(&c, &work);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (!status)
		printf("%s: %u operations, %llu states\n", d->o.case_file, c.nr,
		       (unsigned long long)w->t.states);
	sim_case_free(&c);
	if (!status)
		return 0;
	note_signal(&w->rep, status);
	fprintf(stderr, "%s", w->rep.msg);
	if (d->o.shrink)
		shrink(d, &w->rep);
	return 1;
}

/* ---- options ---- */

static void usage(FILE *f)
{
	fputs("usage: bcfs-sim [OPTION]... MODE...\n"
	      "       bcfs-sim --case FILE\n"
	      "\n"
	      "Runs bcfs on a simulated device, crashes it in every way, and holds what is "
	      "recovered\n"
	      "against what it must be. Without a bound, as much as in CI ($BCFS_SIM_SCALE "
	      "times).\n"
	      "\n"
	      "  -s, --seed N         begin with run N; without another bound: that run alone\n"
	      "  -n, --runs N         as many runs\n"
	      "  -m, --minutes N      as long; shared by the modes\n"
	      "  -S, --states N       until so many states were recovered from, each counted once\n"
	      "  -a, --all            all there is (of a tier)\n"
	      "  -j, --jobs N         in so many processes (1)\n"
	      "  -p, --progress N     a line every N seconds (30; 0: none)\n"
	      "  -k, --shrink N       after a violation, look N seconds for the least that fails "
	      "(120)\n"
	      "  -K, --keep FILE      and keep it\n"
	      "  -c, --case FILE      run what was kept\n"
	      "      --hash           print the hash of a run, with no crash\n"
	      "  -h, --help           show this and exit\n"
	      "\n"
	      "Modes:\n",
	      f);
	print_modes(f);
}

static bool number(const char *text, double *ret)
{
	char *end;

	*ret = strtod(text, &end);
	return end != text && !*end && *ret >= 0;
}

static bool take_option(struct opts *o, int c)
{
	double v = 0;
	char *end;

	if (strchr("snmSjpk", c) && !number(optarg, &v) && c != 's')
		return false;
	switch (c) {
	case 's':
		errno = 0;
		o->seed = strtoull(optarg, &end, 0);
		return o->seed && !*end && !errno && *optarg != '-';
	case 'n':
		o->runs = (u64)v;
		return o->runs;
	case 'm':
		o->minutes = v;
		return v > 0;
	case 'S':
		o->states = (u64)v;
		return o->states;
	case 'j':
		o->jobs = (unsigned)v;
		return o->jobs && o->jobs <= JOBS_MAX;
	case 'p':
		o->progress = (unsigned)v;
		return true;
	case 'k':
		o->shrink = (unsigned)v;
		return true;
	case 'a':
		return o->all = true;
	case 'H':
		return o->hash = true;
	case 'K':
		o->keep = optarg;
		return true;
	case 'c':
		o->case_file = optarg;
		return true;
	default:
		return false;
	}
}

/* False: what was wrong has been said. */
static bool take_options(struct opts *o, int argc, char **argv)
{
	static const struct option longs[] = {{"seed", required_argument, NULL, 's'},
					      {"runs", required_argument, NULL, 'n'},
					      {"minutes", required_argument, NULL, 'm'},
					      {"states", required_argument, NULL, 'S'},
					      {"all", no_argument, NULL, 'a'},
					      {"jobs", required_argument, NULL, 'j'},
					      {"progress", required_argument, NULL, 'p'},
					      {"shrink", required_argument, NULL, 'k'},
					      {"keep", required_argument, NULL, 'K'},
					      {"case", required_argument, NULL, 'c'},
					      {"hash", no_argument, NULL, 'H'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	int c;

	*o = (struct opts){.jobs = 1, .progress = 30, .shrink = 120};
	if (getenv("BCFS_TEST_SEED"))
		o->seed = trand_seed(0);
	while ((c = getopt_long(argc, argv, "s:n:m:S:aj:p:k:K:c:h", longs, NULL)) != -1) {
		if (c == 'h') {
			usage(stdout);
			exit(0);
		}
		if (c == '?')
			return false;
		if (!take_option(o, c)) {
			fprintf(stderr, "bcfs-sim: -%c: not a number that can be\n", c);
			return false;
		}
	}
	for (int i = optind; i < argc; i++) {
		if (!find_mode(argv[i])) {
			fprintf(stderr, "bcfs-sim: no mode \"%s\"\n", argv[i]);
			return false;
		}
	}
	if (optind == argc && !o->case_file) {
		fprintf(stderr, "bcfs-sim: no mode is given\n");
		return false;
	}
	return true;
}

static int print_hash(struct driver *d, const struct sim_mode *mode)
{
	struct sim_work w = {.t = &d->s->w[0].t, .seen = d->seen};

	if (mode->depth) {
		fprintf(stderr, "bcfs-sim: --hash is for a random mode\n");
		return 2;
	}
	printf("%llx\n", (unsigned long long)crash_run_hash(mode, d->o.seed ?: 1, &w));
	return 0;
}

int main(int argc, char **argv)
{
	struct driver d = {0};
	int ret = 0;

	if (!take_options(&d.o, argc, argv)) {
		fprintf(stderr, "Try \"bcfs-sim --help\".\n");
		return 2;
	}
	/* The same sizes come and go by the thousand: what is free stays ours. */
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	mallopt(M_MMAP_THRESHOLD, 64 << 20);
	d.seen = sim_seen_create(SEEN_BITS);
	d.s = mmap(NULL, sizeof(*d.s), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!d.seen || d.s == MAP_FAILED) {
		fprintf(stderr, "bcfs-sim: no memory\n");
		return 2;
	}
	if (d.o.case_file)
		ret = run_case(&d);
	for (int i = optind; !ret && i < argc; i++)
		ret = d.o.hash ? print_hash(&d, find_mode(argv[i]))
			       : run_mode(&d, find_mode(argv[i]), d.o.minutes / (argc - optind));
	return ret;
}
