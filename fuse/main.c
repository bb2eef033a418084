// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bcfs-fuse DEVICE MOUNTPOINT, or mount.bcfs when mount(8) calls. The process that was started
 * waits for one line from its child and exits; the child opens the device, mounts and serves.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cli/tool.h"
#include "fuse_bcfs.h"
#include "loop.h"
#include "remount.h"
#include "task.h"

/* Told to the parent by the pipe: this byte, or the text of an error. */
#define READY "+"
/* In front of a text: a passphrase that was typed is wrong. */
#define WRONG "?"

/* No status of mount(8): it is worth asking again. */
#define MOUNT_ASK_AGAIN (-1)

static void block_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigprocmask(SIG_BLOCK, set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* True: the mount has ended. */
static bool handle_event(struct daemon *d)
{
	uint64_t count;

	if (read(d->event_fd, &count, sizeof(count)) < 0)
		return errno != EINTR;
	remount_do(d);
	return d->ended;
}

/*
 * Milliseconds until the next try to make the mount read-only, -1: none. A call
 * that is still writing in the kernel makes it busy.
 */
static int remount_wait(struct daemon *d, unsigned int *tries)
{
	const unsigned int max_tries = 20;

	if (!d->went_ro || *tries >= max_tries)
		return -1;
	if (session_remount_ro(d, ++*tries == max_tries))
		*tries = max_tries;
	return *tries < max_tries ? 250 : -1;
}

/* Serves until the kernel has let go of the mount. */
static void wait_for_end(struct daemon *d, int signal_fd)
{
	struct pollfd fds[3] = {
		{.fd = d->event_fd, .events = POLLIN},
		{.fd = signal_fd, .events = POLLIN},
		{.fd = d->mounts_fd, .events = POLLPRI},
	};
	struct signalfd_siginfo info;
	unsigned int tries = 0;
	bool leaving = false;

	for (;;) {
		if (poll(fds, 3, leaving ? -1 : remount_wait(d, &tries)) < 0) {
			if (errno != EINTR)
				return;
			continue;
		}
		if (fds[0].revents && handle_event(d))
			return;
		/* Whoever has remounted it may not have told us. */
		if (fds[2].revents && !leaving)
			remount_follow(d);
		if (!(fds[1].revents & POLLIN) ||
		    read(signal_fd, &info, sizeof(info)) != sizeof(info))
			continue;
		if (!leaving)
			shutdown_start(d);
		else if (info.ssi_signo != SIGHUP)
			log_fmt(BCFS_LOG_NOTICE,
				"%s: still in use, leaving when its last file is closed",
				d->opts->device);
		leaving = true;
	}
}

/* The child is ready: the parent may go, and so do stdin, stdout, stderr. */
static bool become_daemon(int pipe_fd)
{
	bool ok = write(pipe_fd, READY, 1) == 1;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	close(pipe_fd);
	log_to_syslog();
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
	}
	return ok;
}

/* Up to the live mount; false: msg says why. */
static bool start(struct daemon *d, char *msg, size_t size)
{
	int ret;

	if (!device_open(d, msg, size) || !session_mount(d, msg, size))
		return false;
	ret = loops_start(d);
	if (ret) {
		snprintf(msg, size, "%s: cannot start threads: %s", d->opts->device, strerror(ret));
		return false;
	}
	if (!session_wait_live(d, msg, size))
		return false;
	session_tune_bdi(d);
	return true;
}

/* Undoes what start() did before it failed. */
static void undo_start(struct daemon *d)
{
	session_unmount(d);
	loops_join(d);
}

/* The life of the daemon. pipe_fd: to the parent, -1 in the foreground. */
static int serve(struct mount_opts *o, int pipe_fd)
{
	struct daemon d = {.opts = o, .fd = -1};
	char msg[TOOL_MSG_SIZE] = "";
	int signal_fd, ret = MOUNT_SYSTEM;
	sigset_t signals;

	block_signals(&signals);
	signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	d.event_fd = eventfd(0, EFD_CLOEXEC);
	d.mounts_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	pthread_mutex_init(&d.tasks_lock, NULL);
	pthread_cond_init(&d.tasks_done, NULL);
	d.selinux = !access("/sys/fs/selinux/enforce", F_OK);
	umask(0);
	/* As root: never wait for our own dirty pages. Inherited by every thread. */
	if (!geteuid())
		prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);

	if (signal_fd < 0 || d.event_fd < 0) {
		snprintf(msg, sizeof(msg), "%s: %s", o->device, strerror(errno));
	} else {
		ret = start(&d, msg, sizeof(msg)) ? MOUNT_OK : MOUNT_FAILED;
	}
	if (ret) {
		undo_start(&d);
		device_close(&d);
		session_destroy(&d);
		close(signal_fd);
		close(d.event_fd);
		if (d.mounts_fd >= 0)
			close(d.mounts_fd);
		if (tool_unlock_wrong(&o->unlock, o->open_error)) {
			sigprocmask(SIG_UNBLOCK, &signals, NULL);
			if (pipe_fd < 0)
				return MOUNT_ASK_AGAIN;
			memmove(msg + 1, msg, sizeof(msg) - 1);
			msg[0] = WRONG[0];
			msg[sizeof(msg) - 1] = 0;
		}
		tool_unlock_end(&o->unlock);
		if (pipe_fd < 0)
			tool_error("%s", msg);
		else if (write(pipe_fd, msg, strlen(msg)) < 0)
			log_line(NULL, BCFS_LOG_ERR, msg);
		return ret;
	}

	if (pipe_fd >= 0 && !become_daemon(pipe_fd))
		shutdown_start(&d); /* nobody is waiting for this mount any more */
	wait_for_end(&d, signal_fd);
	loops_join(&d);
	tasks_wait(&d);
	device_close(&d);
	ret = d.close_failed ? MOUNT_FAILED : MOUNT_OK;
	session_destroy(&d);
	close(signal_fd);
	close(d.event_fd);
	if (d.mounts_fd >= 0)
		close(d.mounts_fd);
	return ret;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signo)
{
	interrupted = 1;
}

/* In the parent: the exit status. */
static int wait_for_child(const struct mount_opts *o, int fd, pid_t pid)
{
	const struct sigaction action = {.sa_handler = on_interrupt};
	char msg[TOOL_MSG_SIZE + 1];
	bool told = false;
	size_t used = 0;
	ssize_t n;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	for (;;) {
		/* It leaves as soon as it is live: what it has begun it must end. */
		if (interrupted && !told) {
			told = true;
			kill(pid, SIGTERM);
		}
		n = read(fd, msg + used, TOOL_MSG_SIZE - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
		if (msg[0] == READY[0])
			return told ? MOUNT_INTERRUPTED : MOUNT_OK;
	}
	msg[used] = 0;
	if (used && msg[0] == WRONG[0] && !told)
		return MOUNT_ASK_AGAIN;
	if (used)
		tool_error("%s", msg);
	else
		tool_error("%s: the daemon died while starting: see the system log", o->device);
	return told ? MOUNT_INTERRUPTED : MOUNT_FAILED;
}

static int run_in_background(struct mount_opts *o)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC)) {
		tool_error("%s: %s", o->device, strerror(errno));
		return MOUNT_SYSTEM;
	}
	pid = fork();
	if (pid < 0) {
		tool_error("%s: cannot start the daemon: %s", o->device, strerror(errno));
		return MOUNT_SYSTEM;
	}
	if (pid) {
		int ret;

		close(fds[1]);
		ret = wait_for_child(o, fds[0], pid);
		close(fds[0]);
		return ret;
	}

	close(fds[0]);
	/* What was locked in the parent is not in the child. */
	(void)tool_secret_lock(&o->unlock.secret);
	setsid();
	if (chdir("/"))
		return MOUNT_SYSTEM;
	return serve(o, fds[1]);
}

/* Paths that stay right wherever the daemon's directory is. */
static bool resolve_paths(struct mount_opts *o)
{
	char *mnt = realpath(o->mountpoint, NULL);

	/* What does not resolve is kept: the checks say what is wrong with it. */
	if (mnt) {
		free(o->mountpoint);
		o->mountpoint = mnt;
	}
	o->device_abs = realpath(o->device, NULL);
	if (!o->device_abs)
		o->device_abs = strdup(o->device);
	o->source = o->device_abs ? strdup(*o->device == '/' ? o->device : o->device_abs) : NULL;
	return o->source && o->mountpoint;
}

/* mount -N. */
static bool enter_mount_ns(const struct mount_opts *o)
{
	int fd = open(o->mount_ns, O_RDONLY | O_CLOEXEC);
	bool ok = fd >= 0 && !setns(fd, CLONE_NEWNS);

	if (!ok)
		tool_error("%s: cannot enter the mount namespace %s: %s", o->device, o->mount_ns,
			   strerror(errno));
	if (fd >= 0)
		close(fd);
	return ok;
}

/*
 * A daemon keeps nothing open for those who started it, but for the descriptor that a passphrase
 * is read from: until that is done.
 */
static void close_others(int keep)
{
	if (keep <= STDERR_FILENO) {
		close_range(STDERR_FILENO + 1, ~0U, 0);
		return;
	}
	if (keep > STDERR_FILENO + 1)
		close_range(STDERR_FILENO + 1, (unsigned int)keep - 1, 0);
	close_range((unsigned int)keep + 1, ~0U, 0);
}

/* Asks for a passphrase if one is needed, before there is a daemon, which has no terminal. */
static int mount_it(struct mount_opts *o)
{
	int ret = MOUNT_FAILED;
	bool ok;

	o->unlock.path = o->source;
	o->unlock.opts = (struct tool_secret_opts){
		.key_file = o->key_file, .passphrase_fd = o->passphrase_fd, .mount = true};
	ok = tool_unlock(&o->unlock);
	tool_secret_forget_env();

	close_others(-1);
	while (ok) {
		ret = o->foreground ? serve(o, -1) : run_in_background(o);
		if (ret != MOUNT_ASK_AGAIN)
			break;
		ret = MOUNT_FAILED;
		ok = tool_unlock_retry(&o->unlock);
	}
	tool_unlock_end(&o->unlock);
	return ret;
}

/* enum mount_status. */
static int run(struct mount_opts *o)
{
	char msg[TOOL_MSG_SIZE];

	log_set_debug(o->debug);
	if (o->mount_ns && !enter_mount_ns(o))
		return errno == EPERM ? MOUNT_USAGE : MOUNT_SYSTEM;
	if (!resolve_paths(o)) {
		tool_error("%s: out of memory", o->device);
		return MOUNT_SYSTEM;
	}
	if (o->remount)
		return remount_run(o);
	if (o->helper && o->nofail && access(o->source, F_OK) &&
	    (errno == ENOENT || errno == ENOTDIR))
		return MOUNT_OK;
	if (!mountpoint_check(o, msg, sizeof(msg))) {
		tool_error("%s", msg);
		return MOUNT_FAILED;
	}
	if (o->fake)
		return MOUNT_OK;
	return mount_it(o);
}

int main(int argc, char **argv)
{
	struct mount_opts o;
	uint64_t fd;
	int ret;

	ret = opts_parse(&o, argc, argv);
	close_others(o.passphrase_fd && tool_parse_uint(o.passphrase_fd, INT_MAX, &fd) ? (int)fd
										       : -1);
	if (ret < 0)
		ret = run(&o);
	ret = o.helper || !ret ? ret : 1;
	opts_free(&o);
	return ret;
}
