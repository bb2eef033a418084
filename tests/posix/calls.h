/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * posix-calls: the system calls of a filesystem, one small case for each thing
 * a manual page promises. A case does not know what is right: it says what it
 * saw, in one line, and run.py compares the lines of bcfs with those of ext4.
 * So a case prints nothing that two good filesystems may differ in (inode
 * numbers, sizes of directories, times of day).
 *
 * - The name of a case is "call: errno: condition", "ok" where the call is to
 *   succeed. run.py checks that ext4 answers that errno.
 * - Each case runs in a process of its own (so it may change its user, its
 *   limits, or die), as root, in a new directory with umask 022 and
 *     f   file, 0644, "0123456789"     l     symbolic link to f
 *     d   directory, 0755, with d/x    dl    symbolic link to d
 *     e   empty directory              dang  symbolic link to "none"
 *     p   fifo                         loop  symbolic link to itself
 * - Phases are the filesystem's state: PHASE_MAIN an empty one, written to;
 *   others say below.
 */
#ifndef POSIX_CALLS_H
#define POSIX_CALLS_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum phase {
	PHASE_MAIN,
	PHASE_MORE,   /* the same, in a mount of its own: the pass-through keeps all files open */
	PHASE_LINKS,  /* takes long: 65,001 links */
	PHASE_BEFORE, /* leaves things behind, then the filesystem is mounted anew for: */
	PHASE_AFTER,
	PHASE_RO,   /* mounted read-only, with what PHASE_BEFORE left */
	PHASE_FULL, /* a small one, to be filled */
};

struct posix_case {
	const char *name;
	enum phase phase;
	const char *file;
	int line;
	void (*run)(const void *arg);
	const void *arg;
	struct posix_case *next;
};

void case_register(struct posix_case *c);

/* Of the cases of a file that say nothing else. */
#ifndef CASE_PHASE
#define CASE_PHASE PHASE_MAIN
#endif

#define CASE_3(title, in, n)                                                                       \
	static void case_##n(const void *arg);                                                     \
	static void __attribute__((constructor)) register_##n(void)                                \
	{                                                                                          \
		static struct posix_case c = {                                                     \
			.name = title, .phase = in, .file = __FILE__, .line = n, .run = case_##n}; \
		case_register(&c);                                                                 \
	}                                                                                          \
	static void case_##n(const void *arg)
#define CASE_2(title, in, n) CASE_3(title, in, n)
/* A case, with its body behind. */
#define CASE(title)	   CASE_2(title, CASE_PHASE, __LINE__)
#define CASE_IN(in, title) CASE_2(title, in, __LINE__)
/* A case of one call: says "ok" or the errno. */
#define ROW(title, ...)                                                                            \
	CASE(title)                                                                                \
	{                                                                                          \
		r(__VA_ARGS__);                                                                    \
	}
/* The same, as the user 1000. */
#define USER_ROW(title, ...)                                                                       \
	CASE(title)                                                                                \
	{                                                                                          \
		become(1000);                                                                      \
		r(__VA_ARGS__);                                                                    \
	}
#define ROW_IN(in, title, ...)                                                                     \
	CASE_IN(in, title)                                                                         \
	{                                                                                          \
		r(__VA_ARGS__);                                                                    \
	}

/* ---- what a case says; the parts of a line are set apart by spaces ---- */

void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "ok", or the errno if ret < 0. ret. */
long r(long ret);
/* The number, or the errno. */
long n(long ret);
/* The errno by name. */
const char *errno_name(int error);
/* "0644 nlink=1 uid=0 gid=0 size=10" of a path, not followed; a directory without its size. */
void show(const char *path);
void show_fd(int fd);
/* The mode alone, with four digits. */
void mode(const char *path);
/* The content as text, runs of one byte as "a*100", holes and zeros as "0*100". */
void content(const char *path);
void content_fd(int fd);

/*
 * What a call does to the times: watch() sets atime and mtime into the past
 * and waits for the clock; changed() says which of "a m c" are others now.
 */
void watch(const char *path);
void changed(const char *path);
/* Until what happens now has a later time than what happened before. */
void wait_for_tick(void);
/* The same for a second path. */
void watch2(const char *path);
void changed2(const char *path);

/* ---- tools; what fails in them ends the case with "setup: ..." ---- */

void must(bool ok, const char *what);
#define MUST(expr) must((expr), #expr)

/* Leaves root for good: this user and group, and no other group. */
void become(unsigned int id);
/* And with one supplementary group. */
void become_with(unsigned int id, unsigned int group);
/* Runs fn in a child as that user; waits. What fn says is said here. */
void as_user(unsigned int id, void (*fn)(void));
/* A new file with that content and mode; an open one. */
void put(const char *path, const char *text, mode_t file_mode);
int file(const char *path, int flags);
int dir(const char *path);
void fill(const char *path, size_t size, char c);
/* Bytes that do not compress. */
void noise(void *buf, size_t size);

/* The directory of this case, absolute. */
extern char case_dir[PATH_MAX];
/* Above all cases of the phase: for what one phase leaves to another. */
extern const char *top_dir;

extern char name255[256], name256[257];
/* "./././f" and the like, of 4095 and of 4096 bytes. */
extern char path4095[4096], path4096[4097];
/* An address where nothing is; a variable, so that the compiler does not know. */
extern void *bad_ptr;

#endif
