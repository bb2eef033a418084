/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A case: a run given by its conditions and its operations one by one, and a crash. It is what a
 * violation comes down to when whatever does not matter has been left out, and it stays the same
 * when the generators of operations change.
 *
 * As text: a line for each part; lines that begin with # are for people.
 */
#ifndef BCFS_TEST_SIM_CASE_H
#define BCFS_TEST_SIM_CASE_H

#include "explore.h"

#include <stdio.h>

struct sim_case {
	struct sim_cfg cfg; /* next and report are not used */
	struct mop *op;
	unsigned nr;
	bool crashed;
	struct sim_place place;
};

/* Runs it; every crash of its windows, the one that is named first. */
void sim_case_run(const struct sim_case *c, struct sim_work *w);
void sim_case_free(struct sim_case *c);

void sim_case_print(const struct sim_case *c, FILE *f);
/* False, with a message on stderr: no such file, or not a case. */
bool sim_case_load(struct sim_case *c, const char *path);

/*
 * Out of the report of a violation, the shortest that still fails within so many seconds:
 * operations are left out, then conditions, then the simplest crash is looked for. Each trial is a
 * process of its own. scratch: a report in shared memory; it has the last failure when this
 * returns. False: not even all of the report's operations fail again.
 */
bool sim_shrink(const struct sim_report *rep, struct sim_case *ret, unsigned seconds,
		struct sim_report *scratch, struct sim_seen *seen);

#endif
