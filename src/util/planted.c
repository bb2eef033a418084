/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/planted.h"

#ifdef BCFS_PLANTED_BUGS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct planted_row {
	const char *name, *layer, *what;
	unsigned invariant;
} rows[PLANTED_NR] = {
#define x(name, layer, invariant, what) [PLANTED_##name] = {#name, #layer, what, invariant},
#include "util/planted.def"
#undef x
};

enum planted_bug planted_chosen;
static bool verbose;

bool planted_met(void)
{
	if (__atomic_exchange_n(&verbose, false, __ATOMIC_RELAXED))
		fprintf(stderr, "planted bug %s: met\n", rows[planted_chosen].name);
	return true;
}

static __attribute__((constructor)) void planted_choose(void)
{
	const char *name = getenv("BCFS_PLANTED");

	if (!name || !*name)
		return;
	for (unsigned i = 1; i < PLANTED_NR; i++)
		if (!strcmp(rows[i].name, name))
			planted_chosen = i;
	verbose = getenv("BCFS_PLANTED_VERBOSE");
	if (planted_chosen)
		return;
	if (strcmp(name, "?"))
		fprintf(stderr, "BCFS_PLANTED: no bug \"%s\"; there are:\n", name);
	for (unsigned i = 1; i < PLANTED_NR; i++)
		fprintf(stderr, "%-28s %-8s %2u  %s\n", rows[i].name, rows[i].layer,
			rows[i].invariant, rows[i].what);
	_Exit(2);
}
#endif
