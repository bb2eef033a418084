// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the FUSE front end answers to every request of the protocol.
 *
 * Goal: ENOSYS, which sticks in the kernel, is answered to OPEN, OPENDIR, FLUSH
 * and POLL alone; INIT asks for what it should and for nothing else. Method: the
 * loops run on a socket in place of /dev/fuse; each opcode is sent once.
 * usage: opcodes IMAGE    (a bcfs; it is opened read-only)
 */
#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

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
			      r->opcode == FUSE_FLUSH || r->opcode == FUSE_POLL;
	uint64_t unique = send_request(fd, r->opcode, NULL, 0);
	int error = r->reply ? get_reply(fd, unique, NULL, 0) : 0;
	char text[128];

	snprintf(text, sizeof(text), "%s: %s", r->name,
		 !r->reply   ? "no reply wanted"
		 : error < 0 ? "no reply"
			     : strerror(error));
	result(error >= 0 && (error != ENOSYS || may_be_missing), text);
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
