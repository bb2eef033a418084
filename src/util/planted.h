/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Planted bugs: mistakes made on purpose, to show that the tests find them.
 *
 * `planted(name)` is false, and no code, in every build but one: with meson's option planted_bugs
 * it is true for the one bug that the environment variable BCFS_PLANTED names when the program
 * starts. The rows of util/planted.def say what each bug is; a name that has no row does not
 * compile, in any build. `./dev bugs` builds with the option, runs each bug against the suites and
 * writes doc/planted_bugs.md: which suite finds which, and when.
 *
 * A bug is one line at its place in src/ and reads as what it breaks. A row without a place, or
 * two places of one row, are a lint error.
 *
 * What is chosen is global state, which src/ has nowhere else: one process, one bug, chosen before
 * main() and never changed. It exists with the option only.
 */
#ifndef BCFS_UTIL_PLANTED_H
#define BCFS_UTIL_PLANTED_H

#include <stdbool.h>

enum planted_bug {
	PLANTED_none,
#define x(name, layer, invariant, what) PLANTED_##name,
#include "util/planted.def"
#undef x
	PLANTED_NR
};

#ifdef BCFS_PLANTED_BUGS
extern enum planted_bug planted_chosen;

/* Says once that the bug's place was come by, if BCFS_PLANTED_VERBOSE is set. True. */
bool planted_met(void);

#define planted(name) (__builtin_expect(planted_chosen == PLANTED_##name, 0) && planted_met())
#else
#define planted(name) (PLANTED_##name == PLANTED_NR)
#endif

#endif
