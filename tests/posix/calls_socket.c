// SPDX-License-Identifier: LGPL-2.1-or-later
/* Names of sockets, and programs by descriptors. */
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#define CASE_PHASE PHASE_MORE
#include "calls.h"

static int unix_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	MUST(fd >= 0);
	return fd;
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	MUST(strlen(path) < sizeof(a.sun_path));
	strcpy(a.sun_path, path);
	return a;
}

static long bind_to(const char *path)
{
	struct sockaddr_un a = address(path);

	return bind(unix_socket(), (const void *)&a, sizeof(a));
}

static long connect_to(const char *path)
{
	struct sockaddr_un a = address(path);

	return connect(unix_socket(), (const void *)&a, sizeof(a));
}

CASE("bind: ok: a name is made, with the umask")
{
	umask(027);
	watch(".");
	r(bind_to("s"));
	show("s");
	changed(".");
}

CASE("bind: EINVAL: a socket that has a name")
{
	struct sockaddr_un a = address("s"), b = address("t");
	int fd = unix_socket();

	MUST(!bind(fd, (const void *)&a, sizeof(a)));
	r(bind(fd, (const void *)&b, sizeof(b)));
	r(access("t", F_OK));
}

ROW("bind: EADDRINUSE: the name is there", bind_to("f"))
ROW("bind: EADDRINUSE: a dangling link is there", bind_to("dang"))
ROW("bind: ENOENT: a parent is missing", bind_to("none/s"))
ROW("bind: ENOTDIR: a file in the middle", bind_to("f/s"))
ROW("bind: ELOOP: a loop of links in the middle", bind_to("loop/s"))
ROW("bind: EFAULT: a bad address", bind(unix_socket(), bad_ptr, sizeof(struct sockaddr_un)))
ROW("bind: ENOTSOCK: a file", bind(file("f", O_RDWR), bad_ptr, 0))
ROW("bind: EBADF: no descriptor", bind(-1, bad_ptr, 0))
USER_ROW("bind: EACCES: no write permission in the directory", bind_to("d/s"))
ROW_IN(PHASE_RO, "bind: EROFS: a read-only mount", bind_to("s"))

CASE("connect: ok: who listens under that name, renamed since")
{
	struct sockaddr_un a = address("s");
	int fd = unix_socket(), peer;
	char c = 0;

	MUST(!bind(fd, (const void *)&a, sizeof(a)) && !listen(fd, 1));
	MUST(!rename("s", "t"));
	r(connect_to("s"));
	a = address("t");
	peer = unix_socket();
	r(connect(peer, (const void *)&a, sizeof(a)));
	n(write(peer, "x", 1));
	fd = accept(fd, NULL, NULL);
	n(read(fd, &c, 1));
	say("%c", c);
}

CASE("connect: ECONNREFUSED: a file, and a socket where nobody listens")
{
	MUST(!bind_to("s"));
	r(connect_to("f"));
	r(connect_to("s"));
}

CASE("connect: EACCES: no write permission for the socket")
{
	struct sockaddr_un a = address("s");
	int fd = unix_socket();

	MUST(!bind(fd, (const void *)&a, sizeof(a)) && !listen(fd, 1) && !chmod("s", 0644));
	become(1000);
	r(connect_to("s"));
}

/* ---- execveat ---- */

static long exec_at(int fd, const char *path, int flags)
{
	char *argv[] = {"x", NULL};

	return execveat(fd, path, argv, argv + 1, flags);
}

/* What it would run is no program. */
ROW("execveat: EACCES: a file without execution, by its descriptor",
    exec_at(file("f", O_RDONLY), "", AT_EMPTY_PATH))
ROW("execveat: ELOOP: a link, not followed", exec_at(AT_FDCWD, "l", AT_SYMLINK_NOFOLLOW))
ROW("execveat: ENOTDIR: relative to a file", exec_at(file("f", O_RDONLY), "x", 0))
ROW("execveat: ENOENT: no such name", exec_at(dir("d"), "none", 0))
ROW("execveat: EINVAL: an unknown flag", exec_at(AT_FDCWD, "f", 1))
ROW("execveat: EBADF: no descriptor", exec_at(-1, "f", 0))

CASE("execveat: ENOENT: a script by a descriptor that does not last")
{
	put("script", "#!/bin/sh\nexit 0\n", 0755);
	r(exec_at(file("script", O_RDONLY | O_CLOEXEC), "", AT_EMPTY_PATH));
}
