// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: programs have secrets from where they are told to, whole, and leave no traces: no echo,
 * nothing in the environment; whatever ends a prompt leaves the terminal as it was. Method: pipes,
 * files and a pseudo-terminal of its own for a child that asks, with its errors in a file. Prints
 * TAP.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "../../cli/passphrase.h"

static unsigned int nr, failed;
static char dir[] = "/tmp/bcfs-passphrase-XXXXXX";
static int errors; /* what is written to stderr */

static void ok(bool good, const char *fmt, ...)
{
	va_list args;

	printf("%sok %u - ", good ? "" : "not ", ++nr);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	failed += !good;
}

static bool is(const struct tool_secret *s, enum tool_secret_type type, const char *bytes,
	       size_t len)
{
	return s->type == type && s->len == len && !memcmp(s->p, bytes, len);
}

/* Whether the errors since the last call say so; they are gone then. */
static bool said(const char *part)
{
	char buf[4096] = "";
	ssize_t n = pread(errors, buf, sizeof(buf) - 1, 0);

	if (n < 0 || ftruncate(errors, 0) || lseek(errors, 0, SEEK_SET))
		abort();
	if (strstr(buf, part))
		return true;
	printf("# said: %s", buf);
	return false;
}

static bool get(const struct tool_secret_opts *o, struct tool_secret *ret)
{
	*ret = (struct tool_secret){0};
	return tool_secret_get(o, "passphrase for IMAGE", false, ret);
}

static void refused(const struct tool_secret_opts *o, const char *part, const char *name)
{
	struct tool_secret s;

	ok(!get(o, &s) && !s.p && said(part), "%s", name);
}

/* ---- descriptors ---- */

/* The text of an option for a pipe that holds the bytes. */
static const char *pipe_of(const char *bytes, size_t len, char buf[16])
{
	int fd[2];

	if (pipe(fd) || write(fd[1], bytes, len) != (ssize_t)len)
		abort();
	close(fd[1]);
	snprintf(buf, 16, "%d", fd[0]);
	return buf;
}

static void test_fd(void)
{
	static char longest[4098];
	struct tool_secret_opts o = {0};
	struct tool_secret s;
	char text[16];

	o.passphrase_fd = pipe_of("the first\na\0b \r\nlast", 20, text);
	ok(get(&o, &s) && is(&s, TOOL_SECRET_PASSPHRASE, "the first", 9) && !s.prompted,
	   "one line from a descriptor");
	tool_secret_free(&s);
	ok(!s.p && !s.len && !s.type, "nothing is left");
	ok(get(&o, &s) && is(&s, TOOL_SECRET_PASSPHRASE, "a\0b \r", 5), "the next line, any bytes");
	tool_secret_free(&s);
	ok(get(&o, &s) && is(&s, TOOL_SECRET_PASSPHRASE, "last", 4), "the last one, no newline");
	tool_secret_free(&s);
	refused(&o, "is empty", "nothing more");

	memset(longest, 'x', sizeof(longest));
	longest[4096] = '\n';
	o.passphrase_fd = pipe_of(longest, 4097, text);
	ok(get(&o, &s) && s.len == 4096, "4096 bytes");
	tool_secret_free(&s);
	o.passphrase_fd = pipe_of(longest + 1, 4000, text);
	ok(get(&o, &s) && s.len == 4000, "no newline in 4000 bytes");
	tool_secret_free(&s);
	longest[4096] = 'x';
	o.passphrase_fd = pipe_of(longest, 4098, text);
	refused(&o, "longer than 4096", "more is refused");
	o.passphrase_fd = "999";
	refused(&o, "Bad file descriptor", "a descriptor that is not open");
	o.passphrase_fd = "-1";
	refused(&o, "not the number", "no number");
	o.key_file = "/dev/null";
	refused(&o, "exclude each other", "two at once");
}

/* ---- environment ---- */

static void test_env(void)
{
	struct tool_secret_opts o = {.no_prompt = true};
	struct tool_secret s;
	char *value;

	ok(!tool_secret_given(&o), "nothing is given");
	refused(&o, "BCFS_PASSPHRASE", "nothing given, nobody to ask");
	setenv("BCFS_PASSPHRASE", "from the environment", 1);
	value = getenv("BCFS_PASSPHRASE");
	ok(tool_secret_given(&o), "the variable is");
	ok(get(&o, &s) && is(&s, TOOL_SECRET_PASSPHRASE, "from the environment", 20), "its value");
	ok(!getenv("BCFS_PASSPHRASE"), "is gone from the environment");
	ok(!value[0] && !memcmp(value, value + 1, 19), "and from where it was");
	tool_secret_free(&s);
	o.env = "BCFS_NEW_PASSPHRASE";
	setenv("BCFS_NEW_PASSPHRASE", "", 1);
	refused(&o, "BCFS_NEW_PASSPHRASE is empty", "an empty one");
	ok(!getenv("BCFS_NEW_PASSPHRASE"), "is gone, too");
}

/* ---- key files ---- */

static char *path_of(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static int make_file(const char *name, const char *bytes, size_t len)
{
	int fd = open(path_of(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, bytes, len) != (ssize_t)len)
		abort();
	return fd;
}

static void test_key_file(void)
{
	struct tool_secret_opts o = {.key_file = path_of("key")};
	struct tool_secret s;
	char text[16], path[64], *value;
	int fd;

	refused(&o, "No such file", "a file that is not there");
	fd = make_file("key", "a\n\0b\n", 5);
	ok(get(&o, &s) && is(&s, TOOL_SECRET_KEY_FILE, "a\n\0b\n", 5), "all bytes of a file");
	tool_secret_free(&s);
	if (ftruncate(fd, 0))
		abort();
	refused(&o, "is empty", "an empty file");
	if (ftruncate(fd, 8 << 20))
		abort();
	ok(get(&o, &s) && s.len == 8 << 20, "a file of 8 MiB");
	tool_secret_free(&s);
	if (ftruncate(fd, (8 << 20) + 1))
		abort();
	refused(&o, "larger than 8 MiB", "a larger one");
	close(fd);
	snprintf(path, sizeof(path), "/dev/fd/%s", pipe_of("piped\n", 6, text));
	o.key_file = path;
	ok(get(&o, &s) && is(&s, TOOL_SECRET_KEY_FILE, "piped\n", 6), "a pipe");
	tool_secret_free(&s);
	o.key_file = dir;
	refused(&o, "Is a directory", "a directory");

	/* The variable has no say then, and does not stay either. */
	fd = make_file("key", "key", 3);
	close(fd);
	o.key_file = path_of("key");
	setenv("BCFS_PASSPHRASE", "not wanted", 1);
	value = getenv("BCFS_PASSPHRASE");
	ok(get(&o, &s) && is(&s, TOOL_SECRET_KEY_FILE, "key", 3),
	   "a file goes before the variable");
	ok(!getenv("BCFS_PASSPHRASE") && !value[0] && !memcmp(value, value + 1, 9),
	   "which is gone all the same");
	tool_secret_free(&s);
	setenv("BCFS_PASSPHRASE", "not wanted", 1);
	o.key_file = dir;
	refused(&o, "Is a directory", "a directory again");
	ok(!getenv("BCFS_PASSPHRASE"), "and the variable is gone");
	setenv("BCFS_PASSPHRASE", "x", 1);
	setenv("BCFS_NEW_PASSPHRASE", "y", 1);
	tool_secret_forget_env();
	ok(!getenv("BCFS_PASSPHRASE") && !getenv("BCFS_NEW_PASSPHRASE"), "both can be forgotten");
}

/* ---- the terminal ---- */

struct term {
	int master, slave;
	pid_t child;
	char seen[4096]; /* on the screen */
	size_t len;
};

/* The child's end: 0 with what it got in a file, 1. */
static void child_asks(bool twice, bool have_tty, const char *slave)
{
	struct tool_secret_opts o = {0};
	struct tool_secret s = {0};
	int fd;

	alarm(30);
	setsid();
	if (have_tty) {
		fd = open(slave, O_RDWR);
		if (fd < 0 || ioctl(fd, TIOCSCTTY, 0))
			_exit(9);
	}
	if (!tool_secret_get(&o, "passphrase for IMAGE", twice, &s))
		_exit(1);
	fd = open(path_of("got"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, s.p, s.len) != (ssize_t)s.len || !s.prompted)
		_exit(8);
	_exit(0);
}

static void term_start(struct term *t, bool twice, bool have_tty)
{
	memset(t, 0, sizeof(*t));
	t->master = posix_openpt(O_RDWR | O_NOCTTY);
	if (t->master < 0 || grantpt(t->master) || unlockpt(t->master))
		abort();
	t->slave = open(ptsname(t->master), O_RDWR | O_NOCTTY);
	fflush(stdout);
	t->child = fork();
	if (!t->child)
		child_asks(twice, have_tty, ptsname(t->master));
}

/* Reads the screen until it has shown `part` that often; false after ten seconds. */
static bool term_shows(struct term *t, const char *part, unsigned int times)
{
	for (;;) {
		struct pollfd p = {t->master, POLLIN, 0};
		unsigned int n = 0;
		ssize_t got;

		for (const char *at = t->seen; (at = strstr(at, part)); at++)
			n++;
		if (n >= times)
			return true;
		if (t->len + 1 >= sizeof(t->seen) || poll(&p, 1, 10000) <= 0)
			return false;
		got = read(t->master, t->seen + t->len, sizeof(t->seen) - 1 - t->len);
		if (got <= 0)
			return false;
		t->len += (size_t)got;
	}
}

static void term_type(struct term *t, const char *text)
{
	if (write(t->master, text, strlen(text)) < 0)
		abort();
}

static bool term_echoes(const struct term *t)
{
	struct termios a;

	return !tcgetattr(t->slave, &a) && (a.c_lflag & ECHO);
}

/* The child's status, as of waitpid(). */
static int term_end(struct term *t)
{
	int status = -1;

	while (waitpid(t->child, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static void term_close(struct term *t)
{
	close(t->slave);
	close(t->master);
}

static bool child_got(const char *text)
{
	char buf[256] = "";
	int fd = open(path_of("got"), O_RDONLY | O_CLOEXEC);
	bool same = fd >= 0 && read(fd, buf, sizeof(buf) - 1) == (ssize_t)strlen(text) &&
		    !strcmp(buf, text);

	if (fd >= 0)
		close(fd);
	unlink(path_of("got"));
	return same;
}

static void test_prompt(void)
{
	struct term t;

	term_start(&t, false, true);
	ok(term_shows(&t, "Passphrase for IMAGE: ", 1), "the prompt");
	ok(!term_echoes(&t), "the echo is off");
	term_type(&t, "pass phrase \xc3\xa9\n");
	ok(term_end(&t) == 0 && child_got("pass phrase \xc3\xa9"), "what was typed");
	ok(term_echoes(&t), "the echo is on again");
	term_shows(&t, "\r\n", 1);
	ok(!strstr(t.seen, "phrase \xc3") && !strstr(t.seen, "pass "), "nothing of it is shown");
	term_close(&t);

	term_start(&t, true, true);
	term_shows(&t, "Passphrase for IMAGE: ", 1);
	term_type(&t, "one\n");
	ok(term_shows(&t, "The same again: ", 1), "a new one is asked for twice");
	term_type(&t, "two\n");
	ok(term_shows(&t, "not the same", 1), "they differ");
	term_shows(&t, "Passphrase for IMAGE: ", 2);
	term_type(&t, "\n");
	ok(term_shows(&t, "It is empty", 1), "an empty one");
	term_shows(&t, "Passphrase for IMAGE: ", 3);
	term_type(&t, "three\n");
	term_shows(&t, "The same again: ", 2);
	term_type(&t, "three\n");
	ok(term_end(&t) == 0 && child_got("three"), "the third time it is good");
	term_close(&t);

	term_start(&t, false, true);
	for (unsigned int i = 1; i <= 3; i++) {
		term_shows(&t, "Passphrase for IMAGE: ", i);
		term_type(&t, "\n");
	}
	ok(term_end(&t) == 1 << 8 && said("none was given"), "after three empty ones it ends");
	term_close(&t);
}

static void test_prompt_ends(void)
{
	struct term t;
	int status;

	term_start(&t, false, true);
	term_shows(&t, "Passphrase for IMAGE: ", 1);
	term_type(&t, "abc\003");
	status = term_end(&t);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT, "an interrupt ends it");
	ok(term_echoes(&t), "and the echo is on again");
	term_close(&t);

	term_start(&t, false, true);
	term_shows(&t, "Passphrase for IMAGE: ", 1);
	kill(t.child, SIGTERM);
	status = term_end(&t);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM && term_echoes(&t),
	   "so does SIGTERM");
	term_close(&t);

	term_start(&t, false, true);
	term_shows(&t, "Passphrase for IMAGE: ", 1);
	kill(t.child, SIGSTOP);
	kill(t.child, SIGCONT);
	term_type(&t, "later\n");
	ok(term_end(&t) == 0 && child_got("later"), "stopped and continued it goes on");
	term_close(&t);

	term_start(&t, false, true);
	term_shows(&t, "Passphrase for IMAGE: ", 1);
	term_type(&t, "abc\032"); /* nobody could continue it, so that it does not stop */
	ok(term_shows(&t, "Passphrase for IMAGE: ", 2), "a stop by the terminal: asked anew");
	term_type(&t, "def\n");
	ok(term_end(&t) == 0 && child_got("def"), "of what was typed before nothing is left");
	term_close(&t);

	term_start(&t, false, false);
	ok(term_end(&t) == 1 << 8 && said("there is no terminal to ask for it"), "no terminal");
	term_close(&t);
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	unsetenv("BCFS_PASSPHRASE");
	errors = make_file("errors", "", 0);
	if (fcntl(errors, F_SETFL, O_APPEND) || dup2(errors, 2) != 2)
		return 1;
	test_fd();
	test_env();
	test_key_file();
	test_prompt();
	test_prompt_ends();
	printf("1..%u\n", nr);
	unlink(path_of("errors"));
	unlink(path_of("key"));
	rmdir(dir);
	return failed ? 1 : 0;
}
