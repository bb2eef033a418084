// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Of a run that fails, what matters: ddmin over its operations, then its conditions. What fails in
 * another way does not count: it might be another bug, or come of what was left out.
 */
#include "case.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KIND_MAX 256

struct shrinker {
	struct sim_case best;
	struct sim_report *scratch;
	struct sim_seen *seen;
	struct timespec until;
	unsigned trials;
	char kind[KIND_MAX];
};

static bool time_is_up(const struct shrinker *s)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > s->until.tv_sec;
}

/*
 * The way in which it failed: the message without where that was, numbers, and what of many things
 * a check found first.
 */
static void kind_of(const char *msg, char ret[KIND_MAX])
{
	const char *line = strncmp(msg, "FAILED: BCFS_TEST_SEED", 22) ? msg : strchr(msg, '\n');
	bool check;
	size_t n = 0;

	line = line ? line + (*line == '\n') : msg;
	if (!strncmp(line, "crash at ", 9) && strstr(line, ": ")) {
		const char *what = strstr(line, ": ") + 2, *again = strstr(line, "; again");

		n = again && again < what ? (size_t)sprintf(ret, "again: ") : 0;
		line = what;
	}
	check = !strncmp(line, "check: ", 7);
	for (unsigned colons = 0; *line && *line != '\n' && n < KIND_MAX - 1; line++) {
		if (check && !strncmp(line, ": ", 2) && ++colons == 2)
			break;
		if (*line < '0' || *line > '9')
			ret[n++] = *line;
		else if (!n || ret[n - 1] != '#')
			ret[n++] = '#';
	}
	ret[n] = 0;
}

/* A trial that takes longer than this has not failed in the way that is looked for. */
#define TRIAL_SECONDS 60

/* In a process of its own: whether it fails, and in the way that is looked for. */
static bool fails(struct shrinker *s, const struct sim_case *c)
{
	char kind[KIND_MAX];
	int status = 0;
	pid_t pid;

	s->trials++;
	s->scratch->failed = s->scratch->crashed = false;
	s->scratch->nr_ops = 0;
	s->scratch->msg[0] = 0;
	fflush(NULL);
	pid = fork();
	if (!pid) {
		struct sim_totals *t = calloc(1, sizeof(*t));
		struct sim_work w = {.t = t, .seen = s->seen, .report = s->scratch};

		if (!freopen("/dev/null", "w", stderr))
			_exit(0);
		alarm(TRIAL_SECONDS);
		sim_case_run(c, &w);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGALRM)
		snprintf(s->scratch->msg, sizeof(s->scratch->msg), "FAILED: it died of signal %d\n",
			 WTERMSIG(status));
	if (WIFSIGNALED(status) ? WTERMSIG(status) == SIGALRM : !WEXITSTATUS(status))
		return false;
	kind_of(s->scratch->msg, kind);
	return !strcmp(kind, s->kind);
}

/* What fails is the best so far; of its operations those that were done. */
static bool try_case(struct shrinker *s, const struct sim_case *c)
{
	unsigned nr;

	if (time_is_up(s) || !fails(s, c))
		return false;
	nr = min(s->scratch->nr_ops, c->nr);
	s->best.cfg = c->cfg;
	if (nr)
		memcpy(s->best.op, s->scratch->op, nr * sizeof(c->op[0]));
	s->best.nr = nr;
	s->best.crashed = s->scratch->crashed;
	s->best.place = s->scratch->place;
	return true;
}

/* Without the operations [from, to). */
static bool try_without(struct shrinker *s, unsigned from, unsigned to)
{
	struct sim_case c = s->best;
	bool ret;

	c.op = malloc(max(c.nr, 1U) * sizeof(c.op[0]));
	memcpy(c.op, s->best.op, from * sizeof(c.op[0]));
	memcpy(c.op + from, s->best.op + to, (c.nr - to) * sizeof(c.op[0]));
	c.nr -= to - from;
	c.crashed = false;
	ret = try_case(s, &c);
	free(c.op);
	return ret;
}

/* From large pieces to single operations, from the end: nothing is built on what is last. */
static void drop_ops(struct shrinker *s)
{
	for (unsigned size = max(s->best.nr / 2, 1U); size && !time_is_up(s);) {
		unsigned was = s->best.nr;

		for (unsigned end = s->best.nr; end;) {
			unsigned from = end > size ? end - size : 0;

			if (end <= s->best.nr)
				try_without(s, from, end);
			end = min(from, s->best.nr);
		}
		if (size == 1 && s->best.nr == was)
			break;
		size = size == 1 ? 1 : size / 2;
	}
}

static void drop_sleeps(struct shrinker *s)
{
	for (unsigned i = 0; i < s->best.nr; i++) {
		u64 was = s->best.op[i].sleep_ns;

		if (!was)
			continue;
		s->best.op[i].sleep_ns = 0;

		struct sim_case c = s->best;

		c.op = malloc(c.nr * sizeof(c.op[0]));
		memcpy(c.op, s->best.op, c.nr * sizeof(c.op[0]));
		c.crashed = false;
		if (!try_case(s, &c) && i < s->best.nr)
			s->best.op[i].sleep_ns = was;
		free(c.op);
	}
}

#define TRY_CFG(s, field, value)                                                                   \
	do {                                                                                       \
		struct sim_case c_ = (s)->best;                                                    \
		if (c_.cfg.field != (value)) {                                                     \
			c_.cfg.field = (value);                                                    \
			c_.crashed = false;                                                        \
			try_case(s, &c_);                                                          \
		}                                                                                  \
	} while (0)

static void simplify_cfg(struct shrinker *s)
{
	TRY_CFG(s, bulk, 0);
	TRY_CFG(s, bulk, s->best.cfg.bulk / 2);
	TRY_CFG(s, ballast, false);
	TRY_CFG(s, restart_ppm, 0);
	TRY_CFG(s, restart_everywhere, 0);
	TRY_CFG(s, stall_ppm, 0);
	TRY_CFG(s, latency_us, 0);
	TRY_CFG(s, flush_latency_us, 0);
	TRY_CFG(s, eager, 0);
	TRY_CFG(s, preempt, 0);
	TRY_CFG(s, trim, false);
	TRY_CFG(s, discard, false);
}

/* The simplest rule that fails at the place, or near it. */
static void simplify_crash(struct shrinker *s)
{
	static const enum sim_crash_rule rules[] = {SIM_CRASH_NONE, SIM_CRASH_ALL};
	struct sim_place at = s->best.place;

	if (!s->best.crashed)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(rules); i++) {
		struct sim_case c = s->best;

		if (at.how.rule == rules[i])
			return;
		c.place = (struct sim_place){.pos = at.pos, .how.rule = rules[i]};
		if (try_case(s, &c) && s->best.place.how.rule == rules[i])
			return;
	}
}

bool sim_shrink(const struct sim_report *rep, struct sim_case *ret, unsigned seconds,
		struct sim_report *scratch, struct sim_seen *seen)
{
	struct shrinker s = {.scratch = scratch, .seen = seen};
	struct sim_case first = {
		.cfg = rep->cfg, .nr = rep->nr_ops, .crashed = rep->crashed, .place = rep->place};

	/* What went on between operations that are left out goes on behind them. */
	first.cfg.tail_ms = 1500;
	kind_of(rep->msg, s.kind);
	clock_gettime(CLOCK_MONOTONIC, &s.until);
	s.until.tv_sec += seconds;
	first.op = malloc(max(first.nr, 1U) * sizeof(first.op[0]));
	memcpy(first.op, rep->op, first.nr * sizeof(first.op[0]));
	s.best = first;
	s.best.op = malloc(max(first.nr, 1U) * sizeof(first.op[0]));
	memcpy(s.best.op, first.op, first.nr * sizeof(first.op[0]));

	bool ok = try_case(&s, &first);

	free(first.op);
	if (!ok) {
		free(s.best.op);
		return false;
	}
	for (unsigned was = s.best.nr + 1; s.best.nr < was && !time_is_up(&s);) {
		was = s.best.nr;
		drop_ops(&s);
		simplify_cfg(&s);
	}
	drop_sleeps(&s);
	simplify_crash(&s);
	*ret = s.best;
	/* The message is that of the best. */
	s.until.tv_sec += TRIAL_SECONDS;
	fails(&s, ret);
	return true;
}
