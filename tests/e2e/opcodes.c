// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the FUSE front end answers to every request of the protocol.
 *
 * Goal: ENOSYS, which sticks in the kernel, is answered to OPEN, OPENDIR, CREATE,
 * FLUSH and POLL alone; INIT asks for what it should and for nothing else; what takes long
 * does not keep others waiting; secrets of a refused ioctl do not stay in memory. Method: the
 * loops run on a socket in place of /dev/fuse; each opcode is sent once; calls
 * of the library that take long are replaced by ones that wait; the program searches its memory.
 * usage: opcodes IMAGE    (a bcfs; it is opened read-only)
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bcfs/ioctl.h"

#include "../../fuse/fuse_bcfs.h"
#include "../../fuse/loop.h"

#define ROW(name, reply)                                                                           \
	{                                                                                          \
		FUSE_##name, #name, reply                                                          \
	}

struct row {
	uint32_t opcode;
	const char *name;
	bool reply;
};

static const struct row rows[] = {
	ROW(LOOKUP, true),
	ROW(FORGET, false),
	ROW(GETATTR, true),
	ROW(SETATTR, true),
	ROW(READLINK, true),
	ROW(SYMLINK, true),
	ROW(MKNOD, true),
	ROW(MKDIR, true),
	ROW(UNLINK, true),
	ROW(RMDIR, true),
	ROW(RENAME, true),
	ROW(LINK, true),
	ROW(OPEN, true),
	ROW(READ, true),
	ROW(WRITE, true),
	ROW(STATFS, true),
	ROW(RELEASE, true),
	ROW(FSYNC, true),
	ROW(SETXATTR, true),
	ROW(GETXATTR, true),
	ROW(LISTXATTR, true),
	ROW(REMOVEXATTR, true),
	ROW(FLUSH, true),
	ROW(OPENDIR, true),
	ROW(READDIR, true),
	ROW(RELEASEDIR, true),
	ROW(FSYNCDIR, true),
	ROW(GETLK, true),
	ROW(SETLK, true),
	ROW(SETLKW, true),
	ROW(ACCESS, true),
	ROW(CREATE, true),
	ROW(INTERRUPT, false),
	ROW(BMAP, true),
	ROW(IOCTL, true),
	ROW(POLL, true),
	ROW(NOTIFY_REPLY, false),
	ROW(BATCH_FORGET, false),
	ROW(FALLOCATE, true),
	ROW(READDIRPLUS, true),
	ROW(RENAME2, true),
	ROW(LSEEK, true),
	ROW(COPY_FILE_RANGE, true),
	ROW(SETUPMAPPING, true),
	ROW(REMOVEMAPPING, true),
	ROW(SYNCFS, true),
	ROW(TMPFILE, true),
	{52, "STATX", true},
	{53, "COPY_FILE_RANGE_64", true},
	{54, "one of the future", true},
};

static unsigned int nr;
static bool failed;

static void result(bool good, const char *what)
{
	printf("%sok %u - %s\n", good ? "" : "not ", ++nr, what);
	failed |= !good;
}

/* The unique number of the request. */
static uint64_t send_request(int fd, uint32_t opcode, const void *arg, size_t len)
{
	static uint64_t unique;
	char buf[512] = "";
	struct fuse_in_header *in = (void *)buf;

	/* Zeros are numbers, and names without a letter. */
	in->opcode = opcode;
	in->unique = unique += 2;
	in->nodeid = FUSE_ROOT_ID;
	if (arg)
		memcpy(in + 1, arg, len);
	else
		len = 256;
	in->len = (uint32_t)(sizeof(*in) + len);
	if (write(fd, buf, in->len) != (ssize_t)in->len)
		perror("write");
	return in->unique;
}

/* The errno of the reply to that request; -1: none within two seconds. */
static int get_reply(int fd, uint64_t unique, void *data, size_t size)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char buf[8192];
	struct fuse_out_header *out = (void *)buf;

	do {
		if (poll(&p, 1, 2000) != 1 || read(fd, buf, sizeof(buf)) < (ssize_t)sizeof(*out))
			return -1;
	} while (out->unique != unique);
	if (data)
		memcpy(data, out + 1, size);
	return -out->error;
}

/* Whatever comes next. */
static int get_any_reply(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char buf[8192];
	struct fuse_out_header *out = (void *)buf;

	if (poll(&p, 1, 2000) != 1 || read(fd, buf, sizeof(buf)) < (ssize_t)sizeof(*out))
		return -1;
	return -out->error;
}

static void test_init(int fd)
{
	struct fuse_init_in in = {
		.major = 7,
		.minor = 38,
		.max_readahead = 128 << 10,
		.flags = ~(uint32_t)FUSE_INIT_EXT,
	};
	struct fuse_init_out out = {0};
	uint64_t unique;

	unique = send_request(fd, FUSE_INIT, &in, sizeof(in));
	result(!get_reply(fd, unique, &out, sizeof(out)), "INIT");
	result(out.flags & FUSE_HANDLE_KILLPRIV_V2 && !(out.flags & FUSE_HANDLE_KILLPRIV),
	       "INIT: clearing set-user-ID, second version");
	result(out.flags & FUSE_SETXATTR_EXT, "INIT: SETXATTR with flags");
	result(!(out.flags & FUSE_ATOMIC_O_TRUNC), "INIT: no O_TRUNC that only OPEN would bring");
	result(!(out.flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS)), "INIT: locks stay local");
	result(!(out.flags & FUSE_AUTO_INVAL_DATA), "INIT: the page cache is kept");
	result(out.flags & FUSE_WRITEBACK_CACHE, "INIT: writeback cache");
	result(out.flags & FUSE_POSIX_ACL && out.flags & FUSE_DONT_MASK, "INIT: ACLs");
	result(out.flags & FUSE_DO_READDIRPLUS && out.flags & FUSE_PARALLEL_DIROPS,
	       "INIT: directories");
	result(out.max_write == 1 << 20, "INIT: writes of 1 MiB");
}

static void test_row(const struct row *r, int fd)
{
	bool may_be_missing = r->opcode == FUSE_OPEN || r->opcode == FUSE_OPENDIR ||
			      r->opcode == FUSE_CREATE || r->opcode == FUSE_FLUSH ||
			      r->opcode == FUSE_POLL;
	uint64_t unique = send_request(fd, r->opcode, NULL, 0);
	int error = r->reply ? get_reply(fd, unique, NULL, 0) : 0;
	char text[128];

	snprintf(text, sizeof(text), "%s: %s", r->name,
		 !r->reply   ? "no reply wanted"
		 : error < 0 ? "no reply"
			     : strerror(error));
	result(error >= 0 && (error != ENOSYS || may_be_missing), text);
}

/* ---- what takes long ---- */

static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t held_wake = PTHREAD_COND_INITIALIZER;
static bool held;
static unsigned int nr_waiting;

static void wait_while_held(void)
{
	pthread_mutex_lock(&held_lock);
	nr_waiting++;
	pthread_cond_broadcast(&held_wake);
	while (held)
		pthread_cond_wait(&held_wake, &held_lock);
	nr_waiting--;
	pthread_mutex_unlock(&held_lock);
}

/* In place of the library's (--wrap). */
#define WRAP __attribute__((used)) /* only the linker knows, with -flto, too */

WRAP int64_t __wrap_bcfs_copy_range(struct bcfs *fs, struct bcfs_ino src, uint64_t src_off,
				    struct bcfs_ino dst, uint64_t dst_off, uint64_t len,
				    uint32_t flags);
WRAP int __wrap_bcfs_rebalance_scan(struct bcfs *fs, struct bcfs_ino ino, uint64_t *ret);
WRAP void __wrap_bcfs_thread_on_wait(void (*fn)(void *arg), void *arg);
WRAP int64_t __wrap_bcfs_listxattr(struct bcfs *fs, struct bcfs_ino ino, char *list, size_t size);
int64_t __real_bcfs_copy_range(struct bcfs *fs, struct bcfs_ino src, uint64_t src_off,
			       struct bcfs_ino dst, uint64_t dst_off, uint64_t len, uint32_t flags);

int64_t __wrap_bcfs_copy_range(struct bcfs *fs, struct bcfs_ino src, uint64_t src_off,
			       struct bcfs_ino dst, uint64_t dst_off, uint64_t len, uint32_t flags)
{
	wait_while_held();
	return __real_bcfs_copy_range(fs, src, src_off, dst, dst_off, len, flags);
}

int __wrap_bcfs_rebalance_scan(struct bcfs *fs, struct bcfs_ino ino, uint64_t *ret)
{
	wait_while_held();
	return 0;
}

static __thread struct {
	void (*fn)(void *arg);
	void *arg;
} on_wait;

void __wrap_bcfs_thread_on_wait(void (*fn)(void *arg), void *arg)
{
	on_wait.fn = fn;
	on_wait.arg = arg;
}

/* As if the library had to wait, for the device or for another request. */
int64_t __wrap_bcfs_listxattr(struct bcfs *fs, struct bcfs_ino ino, char *list, size_t size)
{
	if (on_wait.fn)
		on_wait.fn(on_wait.arg);
	on_wait.fn = NULL;
	wait_while_held();
	return 0;
}

/* So many of the request at once, and one that is short, which is answered. */
static void test_long(int fd, const char *what, uint32_t opcode, const void *arg, size_t len,
		      unsigned int nr_at_once)
{
	struct timespec until;
	uint64_t other;
	bool others, good;

	held = true;
	for (unsigned int i = 0; i < nr_at_once; i++)
		send_request(fd, opcode, arg, len);
	pthread_mutex_lock(&held_lock);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	while (nr_waiting < nr_at_once && !pthread_cond_timedwait(&held_wake, &held_lock, &until))
		;
	good = nr_waiting == nr_at_once;
	pthread_mutex_unlock(&held_lock);
	other = send_request(fd, FUSE_GETATTR, NULL, 0);
	others = !get_reply(fd, other, NULL, 0);

	pthread_mutex_lock(&held_lock);
	held = false;
	pthread_cond_broadcast(&held_wake);
	pthread_mutex_unlock(&held_lock);
	for (unsigned int i = 0; i < nr_at_once; i++)
		good &= get_any_reply(fd) >= 0;
	if (!others)
		printf("# GETATTR had to wait\n");
	result(good && others, what);
}

static void test_long_ones(int fd)
{
	const struct fuse_copy_file_range_in copy = {.nodeid_out = FUSE_ROOT_ID, .len = 4096};
	const struct fuse_getxattr_in list = {.size = 4096};
	struct {
		struct fuse_setxattr_in in;
		char name[15], value[4];
	} __attribute__((packed))
	set = {.in = {.size = 4}, .name = "bcfs.rebalance", .value = "scan"};

	test_long(fd, "COPY_FILE_RANGE keeps nobody waiting", FUSE_COPY_FILE_RANGE, &copy,
		  sizeof(copy), 3);
	test_long(fd, "nor does COPY_FILE_RANGE_64", 53, &copy, sizeof(copy), 3);
	for (unsigned int i = 1; i <= 10; i += 3)
		test_long(fd, "nor does what has to wait in the library", FUSE_LISTXATTR, &list,
			  sizeof(list), i);
	test_long(fd, "nor do scans, however many", FUSE_SETXATTR, &set, sizeof(set), 100);
}

/* ---- secrets ---- */

#define SECRET_LEN 24

/* Its bytes are nowhere but where this puts them. */
static void secret_put(volatile char *p)
{
	for (unsigned int i = 0; i < SECRET_LEN; i++)
		p[i] = (char)(0x80 | (i * 37 + 11));
}

static bool secret_at(const char *p)
{
	unsigned int i = 0;

	while (i < SECRET_LEN && p[i] == (char)(0x80 | (i * 37 + 11)))
		i++;
	return i == SECRET_LEN;
}

static bool secret_in(int mem, uint64_t from, uint64_t to)
{
	static char buf[1 << 20];
	bool found = false;

	for (; from < to && !found; from += sizeof(buf)) {
		size_t want = to - from < sizeof(buf) ? to - from : sizeof(buf);
		ssize_t n = pread(mem, buf, want, (off_t)from);

		for (ssize_t i = 0; i + SECRET_LEN <= n && !found; i++)
			found = secret_at(buf + i);
	}
	explicit_bzero(buf, sizeof(buf));
	return found;
}

static bool secret_in_memory(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	unsigned long long from, to;
	char line[512], perms[8];
	bool found = !maps || mem < 0;

	while (!found && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%llx-%llx %7s", &from, &to, perms) == 3 &&
		    !strncmp(perms, "rw", 2) && to - from < 1ULL << 30)
			found = secret_in(mem, from, to);
	if (maps)
		fclose(maps);
	if (mem >= 0)
		close(mem);
	return found;
}

/* One to replace the master key, or a slot, full of a secret, that nobody takes. */
static void test_secret(int fd, uint32_t cmd, const char *what, uint32_t uid, uint32_t in_size,
			int error)
{
	static struct {
		struct fuse_in_header head;
		struct fuse_ioctl_in ioctl;
		char data[sizeof(struct bcfs_ioc_key_slot)];
	} r;
	size_t at = 0, len = sizeof(r) - sizeof(r.data) + _IOC_SIZE(cmd);
	int ret;

	r.head = (struct fuse_in_header){.len = (uint32_t)len,
					 .opcode = FUSE_IOCTL,
					 .unique = 1000001,
					 .nodeid = FUSE_ROOT_ID,
					 .uid = uid};
	r.ioctl = (struct fuse_ioctl_in){
		.cmd = cmd,
		.in_size = in_size,
		.out_size = _IOC_DIR(cmd) & _IOC_READ ? _IOC_SIZE(cmd) : 0,
	};
	for (; at + SECRET_LEN <= _IOC_SIZE(cmd); at += SECRET_LEN)
		secret_put(r.data + at);
	result(secret_in_memory(), "the search finds a secret");
	if (write(fd, &r, len) != (ssize_t)len)
		perror("write");
	explicit_bzero(&r, sizeof(r));
	ret = get_reply(fd, 1000001, NULL, 0);
	/* What is wiped is so after the reply. */
	for (unsigned i = 0; i < 100 && secret_in_memory(); i++)
		usleep(100000);
	if (ret != error)
		printf("# %s\n", strerror(ret));
	result(ret == error && !secret_in_memory(), what);
}

static void test_secrets(struct daemon *d, int fd, uint32_t cmd)
{
	const uint32_t size = _IOC_SIZE(cmd);
	struct bcfs *fs = d->fs;

	test_secret(fd, cmd, "of a user: refused, and the secret wiped", 1000, size, EPERM);
	test_secret(fd, cmd, "cut short: ditto", 0, 8, ENOTTY);
	test_secret(fd, cmd, "without sense: ditto", 0, size, EINVAL);
	pthread_rwlock_wrlock(&d->fs_lock);
	d->fs = NULL;
	pthread_rwlock_unlock(&d->fs_lock);
	test_secret(fd, cmd, "the filesystem gone: ditto", 0, size, EIO);
	pthread_rwlock_wrlock(&d->fs_lock);
	d->fs = fs;
	pthread_rwlock_unlock(&d->fs_lock);
}

int main(int argc, char **argv)
{
	struct mount_opts o;
	struct daemon d = {.opts = &o, .event_fd = eventfd(0, EFD_CLOEXEC)};
	char *opts_argv[] = {"bcfs-fuse", "-o", "ro", argc > 1 ? argv[1] : "", "/", NULL};
	char *fuse_argv[] = {"bcfs-fuse", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, fuse_argv);
	char msg[512] = "no image given";
	int fds[2];
	size_t i;

	setlinebuf(stdout);
	if (argc < 2 || opts_parse(&o, 5, opts_argv) >= 0 ||
	    bcfs_open(argv[1], &o.open, &d.fs, msg, sizeof(msg)) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds)) {
		printf("Bail out! %s\n", msg);
		return 1;
	}
	d.root = bcfs_root(d.fs);
	d.fd = fds[0];
	d.se = fuse_session_new(&args, &daemon_ops, sizeof(daemon_ops), &d);
	if (!d.se || fuse_session_custom_io(d.se, loops_io(), d.fd) || loops_start(&d)) {
		printf("Bail out! no session\n");
		return 1;
	}

	test_init(fds[1]);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		test_row(&rows[i], fds[1]);
	test_long_ones(fds[1]);
	test_secrets(&d, fds[1], BCFS_IOC_KEY_ROTATE);
	test_secrets(&d, fds[1], BCFS_IOC_KEY_SLOT);
	printf("1..%u\n", nr);

	shutdown(fds[1], SHUT_RDWR);
	close(fds[1]);
	loops_join(&d);
	bcfs_close(d.fs);
	fuse_session_destroy(d.se);
	fuse_opt_free_args(&args);
	opts_free(&o);
	return failed;
}
