// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "passphrase.h"
#include "tool.h"

extern char **environ;

#define PASSPHRASE_MAX 4096U
#define KEY_FILE_MAX   (8U << 20)
#define PROMPTS_MAX    3

/* How an option is called. */
static const char *dash(const struct tool_secret_opts *o)
{
	return o->mount ? "-o " : o->new_one ? "--new-" : "--";
}

/* ---- memory ---- */

bool tool_secret_lock(struct tool_secret *s)
{
	return !s->p || !mlock(s->p, s->mapped);
}

bool tool_secret_map(struct tool_secret *s, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p;

	size = (size + page - 1) / page * page;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		tool_error("out of memory");
		return false;
	}
	madvise(p, size, MADV_DONTDUMP);
	s->p = p;
	s->mapped = size;
	/* If it is refused: libbcfs says so of the keys. */
	(void)tool_secret_lock(s);
	return true;
}

void tool_secret_free(struct tool_secret *s)
{
	if (s->p) {
		explicit_bzero(s->p, s->mapped);
		munmap(s->p, s->mapped);
	}
	*s = (struct tool_secret){0};
}

/* ---- key file ---- */

/* Up to size bytes; -1: an error. */
static ssize_t read_all(int fd, unsigned char *buf, size_t size)
{
	size_t at = 0;

	while (at < size) {
		ssize_t n = read(fd, buf + at, size - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (!n)
			break;
		at += (size_t)n;
	}
	return (ssize_t)at;
}

static bool from_open_file(int fd, const char *path, struct tool_secret *s)
{
	size_t room = KEY_FILE_MAX + 1U;
	struct stat st;
	ssize_t n;

	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size <= KEY_FILE_MAX)
		room = (size_t)st.st_size + 1;
	if (!tool_secret_map(s, room))
		return false;
	n = read_all(fd, s->p, room);
	if (n < 0) {
		tool_error("key file %s: %s", path, strerror(errno));
		return false;
	}
	if ((size_t)n > KEY_FILE_MAX) {
		tool_error("key file %s: larger than %u MiB", path, KEY_FILE_MAX >> 20);
		return false;
	}
	if (!n) {
		tool_error("key file %s: is empty", path);
		return false;
	}
	s->type = TOOL_SECRET_KEY_FILE;
	s->len = (size_t)n;
	return true;
}

static bool from_file(const char *path, struct tool_secret *s)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	bool ok;

	if (fd < 0) {
		tool_error("key file %s: %s", path, strerror(errno));
		return false;
	}
	ok = from_open_file(fd, path, s);
	close(fd);
	return ok;
}

/* ---- descriptor, environment ---- */

enum line_end { LINE_OK, LINE_TOO_LONG, LINE_ERROR, LINE_SIGNAL };

static volatile sig_atomic_t caught_signal;

/*
 * Byte by byte: what follows the line is not ours. s has room for PASSPHRASE_MAX. signals (may be
 * NULL): the mask to wait with, so that a signal is seen whenever it comes.
 */
static enum line_end read_line(int fd, struct tool_secret *s, const sigset_t *signals)
{
	struct pollfd p = {fd, POLLIN, 0};

	s->len = 0;
	for (;;) {
		unsigned char c;
		ssize_t n;

		if (signals && ppoll(&p, 1, NULL, signals) < 0 && errno != EINTR)
			return LINE_ERROR;
		if (signals && caught_signal)
			return LINE_SIGNAL;
		if (signals && !p.revents)
			continue;
		n = read(fd, &c, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return LINE_ERROR;
		if (!n || c == '\n')
			return LINE_OK;
		if (s->len == PASSPHRASE_MAX)
			return LINE_TOO_LONG;
		s->p[s->len++] = c;
		p.revents = 0;
	}
}

static bool passphrase_ok(struct tool_secret *s, const char *what, const char *from)
{
	s->type = TOOL_SECRET_PASSPHRASE;
	if (!s->len)
		tool_error("%s: %s is empty", what, from);
	return s->len > 0;
}

static bool from_fd(const struct tool_secret_opts *o, const char *what, struct tool_secret *s)
{
	const char *text = o->passphrase_fd;
	enum line_end end;
	uint64_t fd;

	if (!tool_parse_uint(text, INT32_MAX, &fd)) {
		tool_error("%spassphrase-fd %s: not the number of a file descriptor", dash(o),
			   text);
		return false;
	}
	if (!tool_secret_map(s, PASSPHRASE_MAX))
		return false;
	end = read_line((int)fd, s, NULL);
	if (end == LINE_TOO_LONG) {
		tool_error("%spassphrase-fd %s: longer than %u bytes", dash(o), text,
			   PASSPHRASE_MAX);
		return false;
	}
	if (end != LINE_OK) {
		tool_error("%spassphrase-fd %s: %s", dash(o), text, strerror(errno));
		return false;
	}
	return passphrase_ok(s, what, "the line from the file descriptor");
}

static const char *env_name(const struct tool_secret_opts *o)
{
	return o->env ? o->env : "BCFS_PASSPHRASE";
}

/* Where /proc/PID/environ shows it, too; children do not have it. */
static void env_forget(const char *name)
{
	size_t len = strlen(name);

	for (char **e = environ; e && *e; e++)
		if (!strncmp(*e, name, len) && (*e)[len] == '=')
			explicit_bzero(*e + len + 1, strlen(*e + len + 1));
	unsetenv(name);
}

static bool from_env(const char *name, const char *value, const char *what, struct tool_secret *s)
{
	size_t len = strlen(value);
	bool ok = len <= PASSPHRASE_MAX;

	if (!ok)
		tool_error("%s: longer than %u bytes", name, PASSPHRASE_MAX);
	ok = ok && tool_secret_map(s, PASSPHRASE_MAX);
	if (ok) {
		memcpy(s->p, value, len);
		s->len = len;
	}
	return ok && passphrase_ok(s, what, name);
}

/* ---- the terminal ---- */

static void on_signal(int sig)
{
	caught_signal = sig;
}

static const int prompt_signals[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGTSTP};
#define NR_PROMPT_SIGNALS (sizeof(prompt_signals) / sizeof(prompt_signals[0]))

static bool tell(int tty, const char *text)
{
	size_t len = strlen(text);

	return write(tty, text, len) == (ssize_t)len;
}

/* One line without echo; the terminal is as before whatever ends it. */
static enum line_end ask_once(int tty, const char *text, struct tool_secret *s)
{
	struct sigaction act = {.sa_handler = on_signal}, was[NR_PROMPT_SIGNALS];
	struct termios old, quiet;
	enum line_end end = LINE_ERROR;
	sigset_t block, before;
	int err = 0;

	/* They come while it waits, and at no other moment. */
	sigemptyset(&block);
	for (size_t i = 0; i < NR_PROMPT_SIGNALS; i++)
		sigaddset(&block, prompt_signals[i]);
	sigprocmask(SIG_BLOCK, &block, &before);
	sigemptyset(&act.sa_mask);
	caught_signal = 0;
	for (size_t i = 0; i < NR_PROMPT_SIGNALS; i++)
		sigaction(prompt_signals[i], &act, &was[i]);
	if (!tcgetattr(tty, &old)) {
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
		if (!tcsetattr(tty, TCSAFLUSH, &quiet) && tell(tty, text) && tell(tty, ": "))
			end = read_line(tty, s, &before);
		err = errno;
		tell(tty, "\n");
		tcsetattr(tty, TCSAFLUSH, &old);
	} else {
		err = errno;
	}
	for (size_t i = 0; i < NR_PROMPT_SIGNALS; i++)
		sigaction(prompt_signals[i], &was[i], NULL);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (caught_signal) {
		s->len = 0;
		kill(getpid(), caught_signal);
		return LINE_SIGNAL; /* it was stopped and goes on, or minds no signal */
	}
	errno = err;
	return end;
}

static bool ask(int tty, const char *text, struct tool_secret *s)
{
	enum line_end end;
	bool stopped;

	do {
		end = ask_once(tty, text, s);
		stopped = end == LINE_SIGNAL && caught_signal == SIGTSTP;
	} while (stopped);
	switch (end) {
	case LINE_OK:
		return true;
	case LINE_TOO_LONG:
		tool_error("longer than %u bytes", PASSPHRASE_MAX);
		return false;
	case LINE_SIGNAL:
		tool_error("interrupted");
		return false;
	case LINE_ERROR:
		break;
	}
	tool_error("the terminal cannot be read: %s", strerror(errno));
	return false;
}

/* 1: both are alike; 0: not, or empty; -1: no use to ask again. */
static int ask_new(int tty, const char *text, bool twice, struct tool_secret *s)
{
	struct tool_secret again = {0};
	int ret;

	if (!ask(tty, text, s))
		return -1;
	if (!s->len) {
		tell(tty, "It is empty.\n");
		return 0;
	}
	if (!twice)
		return 1;
	if (!tool_secret_map(&again, PASSPHRASE_MAX))
		return -1;
	ret = ask(tty, "The same again", &again) ? 0 : -1;
	if (!ret)
		ret = s->len == again.len && !memcmp(s->p, again.p, s->len);
	tool_secret_free(&again);
	if (!ret)
		tell(tty, "They are not the same.\n");
	return ret;
}

static void none_given(const struct tool_secret_opts *o, const char *what, const char *why)
{
	tool_error("%s: %s: use %skey-file, %spassphrase-fd or %s", what, why, dash(o), dash(o),
		   env_name(o));
}

static bool from_tty(const struct tool_secret_opts *o, const char *what, bool twice,
		     struct tool_secret *s)
{
	char text[TOOL_MSG_SIZE];
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY), good = 0;

	if (tty < 0) {
		none_given(o, what, "there is no terminal to ask for it");
		return false;
	}
	strncpy(text, what, sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	if (text[0] >= 'a' && text[0] <= 'z')
		text[0] = (char)(text[0] - 'a' + 'A');
	if (tool_secret_map(s, PASSPHRASE_MAX)) {
		for (int i = 0; i < PROMPTS_MAX && !good; i++)
			good = ask_new(tty, text, twice, s);
		if (!good)
			tool_error("%s: none was given", what);
	}
	close(tty);
	s->type = TOOL_SECRET_PASSPHRASE;
	s->prompted = true;
	return good > 0;
}

/* ---- any ---- */

bool tool_secret_opt(struct tool_secret_opts *o, int c, const char *arg)
{
	if (c == TOOL_OPT_KEY_FILE)
		o->key_file = arg;
	else if (c == TOOL_OPT_PASSPHRASE_FD)
		o->passphrase_fd = arg;
	else
		return false;
	return true;
}

bool tool_secret_given(const struct tool_secret_opts *o)
{
	return o->key_file || o->passphrase_fd || getenv(env_name(o));
}

static bool from_any(const struct tool_secret_opts *o, const char *what, bool twice,
		     struct tool_secret *s)
{
	const char *env = getenv(env_name(o));

	if (o->key_file && o->passphrase_fd) {
		tool_error("%skey-file and %spassphrase-fd exclude each other", dash(o), dash(o));
		return false;
	}
	if (o->key_file)
		return from_file(o->key_file, s);
	if (o->passphrase_fd)
		return from_fd(o, what, s);
	if (env)
		return from_env(env_name(o), env, what, s);
	if (!o->no_prompt)
		return from_tty(o, what, twice, s);
	none_given(o, what, "none was given");
	return false;
}

void tool_secret_forget_env(void)
{
	env_forget("BCFS_PASSPHRASE");
	env_forget("BCFS_NEW_PASSPHRASE");
}

bool tool_secret_get(const struct tool_secret_opts *o, const char *what, bool twice,
		     struct tool_secret *ret)
{
	struct tool_secret s = {0};
	bool ok = from_any(o, what, twice, &s);

	/* Also if it was not wanted. */
	env_forget(env_name(o));
	if (ok)
		*ret = s;
	else
		tool_secret_free(&s);
	return ok;
}
