// SPDX-License-Identifier: LGPL-2.1-or-later
#include "case.h"

#include <stdlib.h>
#include <string.h>

/* More positions than this are not all looked at. */
#define ALL_EVENTS  2500
#define SOME_STATES 1200

/* ---- running ---- */

struct script {
	const struct sim_case *c;
	unsigned at;
};

static bool script_next(void *arg, struct sim_run *r, struct mop *op)
{
	struct script *s = arg;

	while (s->at < s->c->nr) {
		*op = s->c->op[s->at++];
		if (model_valid(&r->m, op))
			return true;
	}
	return false;
}

/* Its crash, and as many more as there are, or some. */
static void case_crashes(struct explore *x, struct sim_run *r, const void *arg)
{
	const struct sim_case *c = arg;
	u64 events = 0;

	if (c->crashed && c->place.pos >= r->first_pos && c->place.pos <= sim_bdev_log_len(r->bdev))
		explore_one(x, &c->place);
	for (unsigned i = 0; i < r->nr_windows; i++)
		events += r->window[i].end - r->window[i].begin;
	for (unsigned i = 0; i < r->nr_windows; i++) {
		u64 begin = max(r->window[i].begin, r->first_pos), end = r->window[i].end;

		if (events <= ALL_EVENTS)
			explore_all(x, begin, end);
		else
			explore_some(x, begin, end, SOME_STATES * (end - begin) / events + 1);
	}
}

void sim_case_run(const struct sim_case *c, struct sim_work *w)
{
	struct script s = {.c = c};
	struct sim_cfg cfg = c->cfg;

	cfg.next = script_next;
	cfg.next_arg = &s;
	explore_run(w, &cfg, case_crashes, c);
}

void sim_case_free(struct sim_case *c)
{
	free(c->op);
}

/* ---- as text ---- */

/* What of a cfg is in a case: one table for both ways. */
#define CFG_FIELDS(x)                                                                              \
	x(seed) x(dev_bytes) x(cache_bytes) x(block) x(node) x(bucket) x(journal) x(extent_max)    \
		x(compression) x(background) x(gather) x(encrypt) x(inline_max) x(copies)          \
			x(preempt) x(eager) x(restart_ppm) x(stall_ppm) x(stall_ms) x(latency_us)  \
				x(flush_latency_us) x(flush_delay_ms) x(tail_ms) x(discard)        \
					x(trim) x(prefill) x(bulk) x(touches) x(ballast) x(stir)   \
						x(fault) x(fault_at) x(restart_everywhere)

void sim_case_print(const struct sim_case *c, FILE *f)
{
	char buf[256];

	fputs("bcfs-sim case 1\n", f);
#define PRINT(field) fprintf(f, #field " %llu\n", (unsigned long long)c->cfg.field);
	CFG_FIELDS(PRINT)
#undef PRINT
	for (unsigned i = 0; i < c->nr; i++) {
		const struct mop *op = &c->op[i];

		mop_print(op, buf, sizeof(buf));
		fprintf(f, "# %u: %s%s\n", i, buf, op->mark & SIM_MARK_PREFILL ? " (before)" : "");
		fprintf(f, "op %s %d %d %d %u %u %u %llu %llu %llu %llu %u\n",
			mop_type_name(op->type), op->ino, op->dir, op->dir2, op->name, op->name2,
			op->flags, (unsigned long long)op->offset, (unsigned long long)op->len,
			(unsigned long long)op->fill, (unsigned long long)op->sleep_ns, op->mark);
	}
	if (c->crashed)
		fprintf(f, "crash %llu %s %llu\n", (unsigned long long)c->place.pos,
			sim_crash_rule_name(c->place.how.rule),
			(unsigned long long)c->place.how.seed);
}

static bool load_op(struct sim_case *c, const char *line)
{
	unsigned long long offset, len, fill, sleep;
	unsigned mark;
	char name[32];
	struct mop op = {0};
	u64 end;

	if (sscanf(line, "op %31s %d %d %d %u %u %u %llu %llu %llu %llu %u", name, &op.ino, &op.dir,
		   &op.dir2, &op.name, &op.name2, &op.flags, &offset, &len, &fill, &sleep,
		   &mark) != 12)
		return false;
	end = len;
	while (op.type < MOP_NR && strcmp(mop_type_name(op.type), name))
		op.type++;
	if (op.type == MOP_WRITE || op.type == MOP_FALLOCATE || op.type == MOP_COPY)
		end += offset;
	if (op.type == MOP_NR || op.ino < -1 || op.ino >= M_INOS || op.dir < 0 ||
	    op.dir >= M_INOS || op.dir2 < 0 || op.dir2 >= M_INOS || op.name >= M_NAMES ||
	    op.name2 >= M_NAMES || end > M_FILE_MAX)
		return false;
	op.offset = offset;
	op.len = len;
	op.fill = fill;
	op.sleep_ns = sleep;
	op.mark = (u8)mark;
	c->op = realloc(c->op, (c->nr + 1) * sizeof(op));
	c->op[c->nr++] = op;
	return true;
}

static bool load_crash(struct sim_case *c, const char *line)
{
	unsigned long long pos, seed;
	char rule[32];

	if (sscanf(line, "crash %llu %31s %llu", &pos, rule, &seed) != 3)
		return false;
	c->crashed = true;
	c->place = (struct sim_place){.pos = pos, .how.seed = seed};
	while (c->place.how.rule < SIM_CRASH_SUBSET &&
	       strcmp(sim_crash_rule_name(c->place.how.rule), rule))
		c->place.how.rule++;
	return c->place.how.rule < SIM_CRASH_SUBSET;
}

static bool load_line(struct sim_case *c, const char *line)
{
	unsigned long long v;
	char name[32];

	if (*line == '#' || *line == '\n' || !strcmp(line, "bcfs-sim case 1\n"))
		return true;
	if (!strncmp(line, "op ", 3))
		return load_op(c, line);
	if (!strncmp(line, "crash ", 6))
		return load_crash(c, line);
	if (sscanf(line, "%31s %llu", name, &v) != 2)
		return false;
#define LOAD(field)                                                                                \
	if (!strcmp(name, #field)) {                                                               \
		c->cfg.field = v;                                                                  \
		return true;                                                                       \
	}
	CFG_FIELDS(LOAD)
#undef LOAD
	return false;
}

bool sim_case_load(struct sim_case *c, const char *path)
{
	FILE *f = fopen(path, "r");
	unsigned nr = 0;
	char line[512];
	bool ok = true;

	memset(c, 0, sizeof(*c));
	c->cfg.fault = SIM_FAULT_NR;
	if (!f) {
		fprintf(stderr, "bcfs-sim: %s: %m\n", path);
		return false;
	}
	while (ok && fgets(line, sizeof(line), f)) {
		nr++;
		ok = load_line(c, line);
	}
	if (!ok || !c->cfg.block || !c->cfg.dev_bytes)
		fprintf(stderr, "bcfs-sim: %s: line %u: not of a case\n", path, nr);
	fclose(f);
	return ok && c->cfg.block && c->cfg.dev_bytes;
}
