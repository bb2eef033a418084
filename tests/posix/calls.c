// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * posix-calls PHASE DIR: runs the cases of a phase in DIR and prints a line
 * "name => what was seen" for each. See calls.h.
 */
#include "calls.h"

#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define LINE_MAX_BYTES 4000
/* Of a case that hangs; 65,001 links may just take long, where much else runs. */
#define TIMEOUT_SECONDS 60
#define LINKS_SECONDS	240

char case_dir[PATH_MAX];
const char *top_dir;
char name255[256], name256[257];
char path4095[4096], path4096[4097];
void *bad_ptr = (void *)8;

static struct posix_case *first_case;
static char line[LINE_MAX_BYTES];
static int report_fd = -1;

void case_register(struct posix_case *c)
{
	struct posix_case **p = &first_case;
	int cmp;

	for (; *p; p = &(*p)->next) {
		cmp = strcmp((*p)->file, c->file);
		if (cmp > 0 || (!cmp && (*p)->line > c->line))
			break;
	}
	c->next = *p;
	*p = c;
}

/* ---- what a case says ---- */

void say(const char *fmt, ...)
{
	size_t used = strlen(line);
	va_list args;

	if (used && used + 1 < sizeof(line)) {
		line[used++] = ' ';
		line[used] = 0;
	}
	va_start(args, fmt);
	vsnprintf(line + used, sizeof(line) - used, fmt, args);
	va_end(args);
}

const char *errno_name(int error)
{
	static char unknown[32];
	const char *name;

	if (!error)
		return "ok";
	name = strerrorname_np(error);
	if (name && !strcmp(name, "ENOTSUP"))
		return "EOPNOTSUPP";
	if (name && !strcmp(name, "EWOULDBLOCK"))
		return "EAGAIN";
	snprintf(unknown, sizeof(unknown), "errno-%d", error);
	return name ? name : unknown;
}

long r(long ret)
{
	int error = errno;

	say("%s", ret < 0 ? errno_name(error) : "ok");
	errno = error;
	return ret;
}

long n(long ret)
{
	if (ret < 0)
		say("%s", errno_name(errno));
	else
		say("%ld", ret);
	return ret;
}

static void show_stat(const struct stat *st)
{
	if (S_ISDIR(st->st_mode))
		say("%04o nlink=%lu uid=%u gid=%u", st->st_mode & 07777,
		    (unsigned long)st->st_nlink, st->st_uid, st->st_gid);
	else
		say("%04o nlink=%lu uid=%u gid=%u size=%lld", st->st_mode & 07777,
		    (unsigned long)st->st_nlink, st->st_uid, st->st_gid, (long long)st->st_size);
}

void show(const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		r(-1);
	else
		show_stat(&st);
}

void show_fd(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		r(-1);
	else
		show_stat(&st);
}

void mode(const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		r(-1);
	else
		say("%04o", st.st_mode & 07777);
}

static void say_run(char *out, size_t size, unsigned char c, size_t len)
{
	size_t used = strlen(out);

	if (used > size - 40)
		return;
	if (!c)
		snprintf(out + used, size - used, "%s0*%zu", used ? "," : "", len);
	else if (len > 3)
		snprintf(out + used, size - used, "%s%c*%zu", used ? "," : "", c, len);
	else
		while (len--)
			out[used++] = (char)c;
}

void content_fd(int fd)
{
	static unsigned char buf[65536];
	char out[1024] = "";
	unsigned char c = 0;
	off_t pos = 0;
	size_t len = 0;
	ssize_t got, i;

	while ((got = pread(fd, buf, sizeof(buf), pos)) > 0) {
		pos += got;
		for (i = 0; i < got; i++) {
			if (len && buf[i] != c) {
				say_run(out, sizeof(out), c, len);
				len = 0;
			}
			c = buf[i];
			len++;
		}
	}
	if (got < 0)
		say("read %s", errno_name(errno));
	if (len)
		say_run(out, sizeof(out), c, len);
	say("\"%s\"", out);
}

void content(const char *path)
{
	int fd = open(path, O_RDONLY | O_NOATIME);

	if (fd < 0) {
		r(-1);
		return;
	}
	content_fd(fd);
	close(fd);
}

static struct stat watched[2];

/*
 * The clock that file times are taken from stands still between ticks, and longer on a busy
 * machine; and where another filesystem has asked for the exact time, no time of a file is before
 * that (ktime_get_coarse_real_ts64_mg()). So it has to come past the exact time of now.
 */
void wait_for_tick(void)
{
	const struct timespec wait = {.tv_nsec = 2000000};
	struct timespec from, now;

	MUST(!clock_gettime(CLOCK_REALTIME, &from));
	do {
		nanosleep(&wait, NULL);
		MUST(!clock_gettime(CLOCK_REALTIME_COARSE, &now));
	} while (now.tv_sec < from.tv_sec ||
		 (now.tv_sec == from.tv_sec && now.tv_nsec <= from.tv_nsec));
}

static void watch_nr(int nr, const char *path)
{
	const struct timespec past[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000001}};

	MUST(!utimensat(AT_FDCWD, path, past, AT_SYMLINK_NOFOLLOW));
	MUST(!lstat(path, &watched[nr]));
	wait_for_tick();
}

static bool differs(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec || a.tv_nsec != b.tv_nsec;
}

static void changed_nr(int nr, const char *path)
{
	const struct stat *was = &watched[nr];
	struct stat st;

	if (lstat(path, &st)) {
		r(-1);
		return;
	}
	say("times:%s%s%s%s", differs(st.st_atim, was->st_atim) ? "a" : "",
	    differs(st.st_mtim, was->st_mtim) ? "m" : "",
	    differs(st.st_ctim, was->st_ctim) ? "c" : "",
	    !differs(st.st_atim, was->st_atim) && !differs(st.st_mtim, was->st_mtim) &&
			    !differs(st.st_ctim, was->st_ctim)
		    ? "-"
		    : "");
}

void watch(const char *path)
{
	watch_nr(0, path);
}

void changed(const char *path)
{
	changed_nr(0, path);
}

void watch2(const char *path)
{
	watch_nr(1, path);
}

void changed2(const char *path)
{
	changed_nr(1, path);
}

/* ---- tools ---- */

static void report_and_exit(void)
{
	size_t len = strlen(line), done = 0;
	ssize_t got;

	for (; done < len; done += (size_t)got) {
		got = write(report_fd, line + done, len - done);
		if (got <= 0)
			break;
	}
	_exit(0);
}

void must(bool ok, const char *what)
{
	if (ok)
		return;
	say("setup: %s: %s", what, errno_name(errno));
	report_and_exit();
}

void become_with(unsigned int id, unsigned int group)
{
	gid_t groups[1] = {group};

	MUST(!setgroups(group ? 1 : 0, groups) && !setresgid(id, id, id) && !setresuid(id, id, id));
}

void become(unsigned int id)
{
	become_with(id, 0);
}

void as_user(unsigned int id, void (*fn)(void))
{
	char text[LINE_MAX_BYTES];
	int fds[2], status;
	ssize_t got;
	pid_t pid;

	MUST(!pipe(fds));
	pid = fork();
	MUST(pid >= 0);
	if (!pid) {
		close(fds[0]);
		report_fd = fds[1];
		line[0] = 0;
		if (id)
			become(id);
		fn();
		report_and_exit();
	}
	close(fds[1]);
	got = read(fds[0], text, sizeof(text) - 1);
	text[got > 0 ? got : 0] = 0;
	close(fds[0]);
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		say("signal=%d", WTERMSIG(status));
	if (*text)
		say("%s", text);
}

void put(const char *path, const char *text, mode_t file_mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	MUST(fd >= 0);
	MUST(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	MUST(!fchmod(fd, file_mode));
	close(fd);
}

void fill(const char *path, size_t size, char c)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	char *buf = malloc(size);

	MUST(fd >= 0 && buf);
	memset(buf, c, size);
	MUST(write(fd, buf, size) == (ssize_t)size);
	free(buf);
	close(fd);
}

void noise(void *buf, size_t size)
{
	static uint64_t x = 1;
	unsigned char *p = buf;
	size_t i;

	for (i = 0; i < size; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (unsigned char)x;
	}
}

int file(const char *path, int flags)
{
	int fd = open(path, flags, 0644);

	must(fd >= 0, path);
	return fd;
}

int dir(const char *path)
{
	return file(path, O_RDONLY | O_DIRECTORY);
}

/* ---- running ---- */

static const char *const phase_names[] = {
	[PHASE_MAIN] = "main",	   [PHASE_MORE] = "more",   [PHASE_LINKS] = "links",
	[PHASE_BEFORE] = "before", [PHASE_AFTER] = "after", [PHASE_RO] = "ro",
	[PHASE_FULL] = "full",
};

static void furnish(void)
{
	umask(022);
	put("f", "0123456789", 0644);
	MUST(!mkdir("d", 0755));
	put("d/x", "x", 0644);
	MUST(!mkdir("e", 0755));
	MUST(!mkfifo("p", 0644));
	MUST(!symlink("f", "l"));
	MUST(!symlink("d", "dl"));
	MUST(!symlink("none", "dang"));
	MUST(!symlink("loop", "loop"));
}

static void run_in_child(const struct posix_case *c, unsigned int nr)
{
	bool keeps = c->phase == PHASE_RO || c->phase == PHASE_AFTER || c->phase == PHASE_BEFORE;

	setpgid(0, 0);
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	alarm(c->phase == PHASE_LINKS ? LINKS_SECONDS : TIMEOUT_SECONDS);
	if (keeps) {
		umask(022);
		snprintf(case_dir, sizeof(case_dir), "%s/kept", top_dir);
		MUST(!chdir(case_dir));
	} else {
		snprintf(case_dir, sizeof(case_dir), "%s/%u", top_dir, nr);
		MUST(!mkdir(case_dir, 0755) && !chmod(case_dir, 0777) && !chdir(case_dir));
		if (c->phase != PHASE_FULL)
			furnish();
	}
	c->run(c->arg);
	report_and_exit();
}

static void run_case(const struct posix_case *c, unsigned int nr)
{
	char text[LINE_MAX_BYTES];
	int fds[2], status;
	ssize_t got;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) || (pid = fork()) < 0) {
		perror("posix-calls");
		exit(1);
	}
	if (!pid) {
		close(fds[0]);
		report_fd = fds[1];
		run_in_child(c, nr);
	}
	close(fds[1]);
	/* A line fits into the pipe; what the case has started ends with it. */
	waitpid(pid, &status, 0);
	kill(-pid, SIGKILL);
	got = read(fds[0], text, sizeof(text) - 1);
	text[got > 0 ? got : 0] = 0;
	close(fds[0]);
	printf("%s => ", c->name);
	if (WIFSIGNALED(status))
		printf("signal=%s%s", sigabbrev_np(WTERMSIG(status)), *text ? " " : "");
	printf("%s\n", text);
	fflush(stdout);
}

static void make_names(void)
{
	int i;

	memset(name255, 'n', 255);
	memset(name256, 'n', 256);
	for (i = 0; i < 2047; i++) {
		strcat(path4095, "./");
		strcat(path4096, "./");
	}
	strcat(path4095, "f");
	strcat(path4096, "/f");
}

/* For phases that come back to what an earlier one made: one directory, made once. */
static void make_kept(enum phase phase)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/kept", top_dir);
	if (phase != PHASE_BEFORE)
		return;
	top_dir = strdup(top_dir);
	if (mkdir(path, 0755) || chdir(path)) {
		perror(path);
		exit(1);
	}
	furnish();
}

int main(int argc, char **argv)
{
	const char *only = argc > 3 ? argv[3] : NULL;
	const struct posix_case *c;
	unsigned int nr = 0, phase;

	for (phase = 0; argc > 2 && phase < sizeof(phase_names) / sizeof(phase_names[0]); phase++)
		if (!strcmp(phase_names[phase], argv[1]))
			break;
	if (argc < 3 || phase == sizeof(phase_names) / sizeof(phase_names[0])) {
		fprintf(stderr, "usage: posix-calls PHASE DIR [NAME]\n");
		return 2;
	}
	top_dir = realpath(argv[2], NULL);
	if (!top_dir || chdir(top_dir)) {
		perror(argv[2]);
		return 1;
	}
	make_names();
	make_kept((enum phase)phase);
	for (c = first_case; c; c = c->next) {
		nr++;
		if (c->phase == phase && (!only || strstr(c->name, only)))
			run_case(c, nr);
	}
	return 0;
}
