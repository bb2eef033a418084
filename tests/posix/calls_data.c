// SPDX-License-Identifier: LGPL-2.1-or-later
/* read(2), write(2) and their kin, fsync(2), copying between files, mmap(2). */
#include <signal.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <time.h>

#include "calls.h"

static char buf[1 << 16];
static volatile int minus_one = -1;

/* ---- read, write ---- */

ROW("read: EBADF: a bad descriptor", read(-1, buf, 1))
ROW("read: EBADF: open to write", read(file("f", O_WRONLY), buf, 1))
ROW("read: EFAULT: a bad address", read(file("f", O_RDONLY), bad_ptr, 1))
ROW("write: EBADF: a bad descriptor", write(-1, buf, 1))
ROW("write: EBADF: open to read", write(file("f", O_RDONLY), buf, 1))
ROW("write: EFAULT: a bad address", write(file("f", O_WRONLY), bad_ptr, 1))
ROW("pread: EINVAL: a negative offset", pread(file("f", O_RDONLY), buf, 1, -1))
ROW("pwrite: EINVAL: a negative offset", pwrite(file("f", O_WRONLY), buf, 1, -1))
ROW("pread: ESPIPE: a fifo", pread(file("p", O_RDWR), buf, 1, 0))
ROW("lseek: ESPIPE: a fifo", lseek(file("p", O_RDWR), 0, SEEK_SET))
ROW("readv: EINVAL: too many parts", readv(file("f", O_RDONLY), (struct iovec *)buf, 1025))
ROW("readv: EINVAL: a negative number of parts",
    readv(file("f", O_RDONLY), (struct iovec *)buf, minus_one))

CASE("read: ok: to the end, at the end, behind the end")
{
	int fd = file("f", O_RDONLY);

	n(read(fd, buf, 100));
	n(read(fd, buf, 100));
	n(pread(fd, buf, 100, 8));
	n(pread(fd, buf, 100, 10));
	n(pread(fd, buf, 100, 5000));
	n(pread(fd, buf, 0, 0));
}

CASE("read: ok: at the greatest offsets")
{
	int fd = file("f", O_RDONLY);

	n(pread(fd, buf, 1, INT64_MAX - 1));
	n(pread(fd, buf, 1, 1LL << 62));
	n(pread(fd, buf, 1, 1LL << 45));
}

CASE("read: ok: changes atime alone")
{
	watch("f");
	n(read(file("f", O_RDONLY), buf, 100));
	changed("f");
}

CASE("read: ok: O_NOATIME changes no time")
{
	watch("f");
	n(read(file("f", O_RDONLY | O_NOATIME), buf, 100));
	changed("f");
}

CASE("write: ok: changes mtime and ctime")
{
	int fd = file("f", O_WRONLY);

	watch("f");
	n(write(fd, "abc", 3));
	changed("f");
	close(fd);
	changed("f");
	content("f");
}

CASE("write: ok: of nothing changes nothing")
{
	int fd = file("f", O_WRONLY);

	watch("f");
	n(write(fd, "abc", 0));
	n(pwrite(fd, "abc", 0, 100));
	changed("f");
	show("f");
}

CASE("write: ok: mtime is not before the write, seen from another descriptor")
{
	struct timespec now;
	struct stat st;
	int fd = file("f", O_WRONLY);

	usleep(12000);
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	n(write(fd, "abc", 3));
	MUST(!stat("f", &st));
	say("%s", st.st_mtim.tv_sec > now.tv_sec || (st.st_mtim.tv_sec == now.tv_sec &&
						     st.st_mtim.tv_nsec >= now.tv_nsec)
			  ? "good"
			  : "before");
}

CASE("write: ok: behind the end leaves zeros")
{
	int fd = file("f", O_RDWR);

	n(pwrite(fd, "abc", 3, 10000));
	content("f");
	show("f");
}

CASE("write: ok: over the edge of a page and of a block")
{
	int fd = file("new", O_CREAT | O_RDWR);

	memset(buf, 'a', 20000);
	n(pwrite(fd, buf, 20000, 0));
	memset(buf, 'b', 20000);
	n(pwrite(fd, buf, 5000, 3000));
	fsync(fd);
	memset(buf, 'c', 20000);
	n(pwrite(fd, buf, 3, 4095));
	n(pwrite(fd, buf, 1, 8191));
	n(pwrite(fd, buf, 1, 16384));
	content("new");
}

CASE("write: ok: 3 MiB at once")
{
	size_t size = 3 << 20;
	char *big = malloc(size);
	int fd = file("new", O_CREAT | O_RDWR);

	MUST(big);
	memset(big, 'x', size);
	n(write(fd, big, size));
	memset(big, 0, size);
	n(pread(fd, big, size, 0));
	show("new");
	content("new");
}

CASE("write: EFBIG: RLIMIT_FSIZE")
{
	struct rlimit limit = {.rlim_cur = 8, .rlim_max = 8};
	int fd = file("f", O_RDWR);

	MUST(!setrlimit(RLIMIT_FSIZE, &limit));
	n(pwrite(fd, "abcd", 4, 6));
	n(pwrite(fd, "abcd", 4, 8));
	n(ftruncate(fd, 20));
	n(fallocate(fd, 0, 0, 20));
	show("f");
}

CASE("write: EINVAL: the end is behind the greatest offset")
{
	int fd = file("f", O_RDWR);

	n(pwrite(fd, "abcd", 4, INT64_MAX - 1));
}

CASE("write: EINVAL: the end is the greatest offset, or behind")
{
	int fd = file("f", O_RDWR);

	n(pwrite(fd, "abcd", 4, INT64_MAX - 3));
	n(pwrite(fd, "abcd", 4, INT64_MAX));
}

CASE("write: ok: at 15 TiB")
{
	int fd = file("new", O_CREAT | O_RDWR);

	n(pwrite(fd, "abcd", 4, 15LL << 40));
	r(fsync(fd));
	n(pread(fd, buf, 10, 15LL << 40));
	show("new");
}

CASE("write: EFBIG: at 16 TiB")
{
	int fd = file("new", O_CREAT | O_RDWR);

	n(pwrite(fd, "abcd", 4, 16LL << 40));
	r(fsync(fd));
	show("new");
}

CASE("writev: ok: parts, an empty one")
{
	struct iovec iov[3] = {{"abc", 3}, {NULL, 0}, {"defg", 4}};
	int fd = file("f", O_RDWR);

	n(writev(fd, iov, 3));
	n(pwritev(fd, iov, 3, 8));
	content("f");
}

CASE("readv: ok: parts")
{
	char a[4] = "", b[20] = "";
	struct iovec iov[2] = {{a, 3}, {b, 19}};
	int fd = file("f", O_RDWR);

	n(readv(fd, iov, 2));
	say("%s %s", a, b);
	n(preadv(fd, iov, 2, 5));
}

CASE("writev: EFAULT: a bad address in the second part")
{
	struct iovec iov[2] = {{"abc", 3}, {bad_ptr, 4}};
	int fd = file("f", O_RDWR);

	n(pwritev(fd, iov + 1, 1, 0));
	show("f");
}

CASE("pwritev2: ok: RWF_APPEND")
{
	struct iovec iov = {"abc", 3};
	int fd = file("f", O_RDWR);

	n(pwritev2(fd, &iov, 1, 0, RWF_APPEND));
	content("f");
}

CASE("pwritev2: ok: RWF_DSYNC, RWF_SYNC, RWF_HIPRI")
{
	struct iovec iov = {"abc", 3};
	int fd = file("f", O_RDWR);

	n(pwritev2(fd, &iov, 1, 0, RWF_DSYNC));
	n(pwritev2(fd, &iov, 1, 3, RWF_SYNC));
	n(pwritev2(fd, &iov, 1, 6, RWF_HIPRI));
	content("f");
}

CASE("preadv2: ok: RWF_NOWAIT, in the cache")
{
	struct iovec iov = {buf, 10};
	int fd = file("f", O_RDWR);

	MUST(pread(fd, buf, 10, 0) == 10);
	n(preadv2(fd, &iov, 1, 0, RWF_NOWAIT));
}

CASE("pwritev2: ok: RWF_NOWAIT")
{
	struct iovec iov = {"abc", 3};
	int fd = file("f", O_RDWR);

	MUST(pwrite(fd, "xyz", 3, 0) == 3);
	n(pwritev2(fd, &iov, 1, 0, RWF_NOWAIT));
}

CASE("pwritev2: EOPNOTSUPP: RWF_ATOMIC")
{
	struct iovec iov = {"abcd", 4};
	int fd = file("f", O_RDWR);

	n(pwritev2(fd, &iov, 1, 0, 0x40));
}

CASE("preadv2: EOPNOTSUPP: RWF_DONTCACHE or an unknown flag")
{
	struct iovec iov = {buf, 10};

	n(preadv2(file("f", O_RDWR), &iov, 1, 0, 0x4000));
}

CASE("preadv2: ok: RWF_DONTCACHE")
{
	struct iovec iov = {buf, 10};

	n(preadv2(file("f", O_RDWR), &iov, 1, 0, 0x80));
}

CASE("pwritev2: ok: RWF_DONTCACHE")
{
	struct iovec iov = {"abc", 3};

	n(pwritev2(file("f", O_RDWR), &iov, 1, 0, 0x80));
}

CASE("pwritev2: ok: RWF_NOAPPEND")
{
	struct iovec iov = {"abc", 3};

	n(pwritev2(file("f", O_RDWR | O_APPEND), &iov, 1, 0, 0x20));
	content("f");
}

/* ---- lseek ---- */

ROW("lseek: EBADF: a bad descriptor", lseek(-1, 0, SEEK_SET))
ROW("lseek: EINVAL: an unknown whence", lseek(file("f", O_RDONLY), 0, 77))
ROW("lseek: EINVAL: before the start", lseek(file("f", O_RDONLY), -1, SEEK_SET))
ROW("lseek: EINVAL: before the start, from the end", lseek(file("f", O_RDONLY), -11, SEEK_END))
ROW("lseek: ENXIO: SEEK_DATA at the end", lseek(file("f", O_RDONLY), 10, SEEK_DATA))
ROW("lseek: ENXIO: SEEK_HOLE at the end", lseek(file("f", O_RDONLY), 10, SEEK_HOLE))
ROW("lseek: ENXIO: SEEK_DATA behind the end", lseek(file("f", O_RDONLY), 5000, SEEK_DATA))
ROW("lseek: ENXIO: SEEK_HOLE behind the end", lseek(file("f", O_RDONLY), 5000, SEEK_HOLE))
ROW("lseek: ENXIO: SEEK_DATA at a negative offset", lseek(file("f", O_RDONLY), -1, SEEK_DATA))
ROW("lseek: ENXIO: SEEK_HOLE at a negative offset", lseek(file("f", O_RDONLY), -1, SEEK_HOLE))
ROW("lseek: EINVAL: the greatest offset",
    lseek(file("f", O_RDONLY), INT64_MAX, SEEK_SET) < 0 ? -1 : 0)

CASE("lseek: ok: from start, end and here; behind the end")
{
	int fd = file("f", O_RDWR);

	n(lseek(fd, 3, SEEK_SET));
	n(lseek(fd, 3, SEEK_CUR));
	n(lseek(fd, -1, SEEK_END));
	n(lseek(fd, 100, SEEK_END));
	n(lseek(fd, 15LL << 40, SEEK_SET));
	show("f");
}

CASE("lseek: ok: SEEK_END sees the size that another descriptor made")
{
	int a = file("f", O_RDWR), b = file("f", O_RDWR);

	n(pwrite(a, "abc", 3, 5000));
	n(lseek(b, 0, SEEK_END));
	MUST(!truncate("f", 7));
	n(lseek(b, 0, SEEK_END));
}

CASE("lseek: ok: SEEK_DATA and SEEK_HOLE of a sparse file")
{
	int fd = file("new", O_CREAT | O_RDWR), i;
	off_t pos = 0;

	memset(buf, 'a', sizeof(buf));
	MUST(pwrite(fd, buf, 65536, 1 << 20) == 65536);
	MUST(pwrite(fd, buf, 65536, 4 << 20) == 65536);
	MUST(!ftruncate(fd, 8 << 20));
	for (i = 0; i < 4; i++) {
		pos = n(lseek(fd, pos, SEEK_DATA));
		if (pos >= 0)
			pos = n(lseek(fd, pos, SEEK_HOLE));
		if (pos < 0)
			break;
	}
	n(lseek(fd, 0, SEEK_HOLE));
	n(lseek(fd, (1 << 20) + 100, SEEK_DATA));
}

CASE("lseek: ok: SEEK_DATA and SEEK_HOLE of data not yet written back")
{
	int fd = file("new", O_CREAT | O_RDWR);

	MUST(!ftruncate(fd, 1 << 20));
	MUST(pwrite(fd, "abc", 3, 1 << 19) == 3);
	n(lseek(fd, 0, SEEK_DATA));
	n(lseek(fd, 1 << 19, SEEK_HOLE));
}

CASE("lseek: ok: holes beside data that is partly written back")
{
	int fd = file("new", O_CREAT | O_RDWR);

	for (int i = 0; i < 32; i++) {
		MUST(pwrite(fd, "abc", 3, i << 13) == 3);
		if (i % 3 == 0)
			MUST(!fsync(fd));
	}
	for (int i = 0; i < 4; i++)
		MUST(pwrite(fd, "abc", 3, (40 + i) << 12) == 3);
	n(lseek(fd, 1 << 12, SEEK_DATA));
	n(lseek(fd, 1 << 13, SEEK_HOLE));
	n(lseek(fd, 40 << 12, SEEK_HOLE));
	n(lseek(fd, 62 << 12, SEEK_HOLE));
	n(lseek(fd, (62 << 12) + 3, SEEK_HOLE));
	n(lseek(fd, 63 << 12, SEEK_DATA));
}

CASE("lseek: ok: SEEK_HOLE behind the end that was written back")
{
	int fd = file("f", O_RDWR);

	MUST(!fsync(fd) && pwrite(fd, "abc", 3, 3 << 12) == 3);
	n(lseek(fd, 0, SEEK_HOLE));
	n(lseek(fd, 2 << 12, SEEK_DATA));
	n(lseek(fd, 3 << 12, SEEK_HOLE));
	n(lseek(fd, (3 << 12) + 3, SEEK_HOLE));
}

CASE("lseek: ok: SEEK_HOLE of a file without a hole is its end")
{
	n(lseek(file("f", O_RDONLY), 0, SEEK_HOLE));
	n(lseek(file("f", O_RDONLY), 3, SEEK_DATA));
}

/* ---- fsync ---- */

ROW("fsync: EBADF: a bad descriptor", fsync(-1))
ROW("fsync: EINVAL: a fifo", fsync(file("p", O_RDWR)))
ROW("fsync: ok: open to read", fsync(file("f", O_RDONLY)))
ROW("fdatasync: ok: open to read", fdatasync(file("f", O_RDONLY)))
ROW("syncfs: ok: a file", syncfs(file("f", O_RDONLY)))
ROW("syncfs: EBADF: a bad descriptor", syncfs(-1))
ROW("sync_file_range: ok: a file", sync_file_range(file("f", O_RDWR), 0, 10, 7))
ROW("sync_file_range: EINVAL: an unknown flag", sync_file_range(file("f", O_RDWR), 0, 10, 8))
ROW("sync_file_range: EINVAL: a negative offset", sync_file_range(file("f", O_RDWR), -1, 10, 2))
ROW("sync_file_range: ESPIPE: a fifo", sync_file_range(file("p", O_RDWR), 0, 10, 2))
ROW("posix_fadvise: ok: WILLNEED", posix_fadvise(file("f", O_RDONLY), 0, 0, POSIX_FADV_WILLNEED))
ROW("posix_fadvise: ok: DONTNEED", posix_fadvise(file("f", O_RDONLY), 0, 0, POSIX_FADV_DONTNEED))
ROW("readahead: ok: a file", readahead(file("f", O_RDONLY), 0, 100))
ROW("readahead: EINVAL: a directory", readahead(dir("d"), 0, 100))

CASE("fsync: ok: after writing, and the file was removed")
{
	int fd = file("f", O_RDWR);

	MUST(pwrite(fd, "abc", 3, 0) == 3 && !unlink("f"));
	r(fsync(fd));
	r(fdatasync(fd));
}

/* ---- copying ---- */

static long copy(int in, off_t in_pos, int out, off_t out_pos, size_t len, unsigned int flags)
{
	return copy_file_range(in, &in_pos, out, &out_pos, len, flags);
}

ROW("copy_file_range: EBADF: a bad descriptor", copy(-1, 0, file("f", O_RDWR), 0, 5, 0))
ROW("copy_file_range: EBADF: to one open to read",
    copy(file("f", O_RDONLY), 0, file("d/x", O_RDONLY), 0, 5, 0))
ROW("copy_file_range: EBADF: from one open to write",
    copy(file("f", O_WRONLY), 0, file("d/x", O_WRONLY), 0, 5, 0))
ROW("copy_file_range: EBADF: to one open to append",
    copy(file("f", O_RDONLY), 0, file("d/x", O_WRONLY | O_APPEND), 0, 5, 0))
ROW("copy_file_range: EINVAL: a flag", copy(file("f", O_RDWR), 0, file("d/x", O_RDWR), 0, 5, 1))
ROW("copy_file_range: EISDIR: from a directory", copy(dir("d"), 0, file("f", O_RDWR), 0, 5, 0))
ROW("copy_file_range: EINVAL: from a fifo", copy(file("p", O_RDWR), 0, file("f", O_RDWR), 0, 5, 0))
ROW("copy_file_range: ok: the end of the source is behind the greatest offset",
    copy(file("f", O_RDWR), INT64_MAX - 2, file("d/x", O_RDWR), 0, 5, 0))
ROW("copy_file_range: EXDEV: to another kind of filesystem",
    copy(file("f", O_RDWR), 0, open("/dev/shm", O_TMPFILE | O_RDWR, 0600), 0, 5, 0))

CASE("copy_file_range: EINVAL: ranges of one file that overlap")
{
	int fd = file("f", O_RDWR);

	n(copy(fd, 0, fd, 3, 5, 0));
	n(copy(fd, 0, fd, 5, 5, 0));
	content("f");
}

CASE("copy_file_range: ok: size, times, content")
{
	int in, out;

	fill("src", 300000, 's');
	in = file("src", O_RDONLY);
	out = file("d/x", O_RDWR);
	watch("src");
	watch2("d/x");
	n(copy(in, 1000, out, 500, 200000, 0));
	changed2("d/x");
	content("d/x");
	n(copy(in, 299000, out, 0, 5000, 0));
	n(copy(in, 300000, out, 0, 5000, 0));
	n(copy(in, 400000, out, 0, 5000, 0));
	n(copy(in, 0, out, 0, 0, 0));
	show("d/x");
}

CASE("copy_file_range: ok: with file offsets")
{
	int in = file("f", O_RDONLY), out = file("new", O_CREAT | O_RDWR);

	MUST(lseek(in, 4, SEEK_SET) == 4);
	n(copy_file_range(in, NULL, out, NULL, 3, 0));
	n(lseek(in, 0, SEEK_CUR));
	n(lseek(out, 0, SEEK_CUR));
	n(copy_file_range(in, NULL, out, NULL, 100, 0));
	content("new");
}

CASE("copy_file_range: ok: what is not yet written back")
{
	int in = file("src", O_CREAT | O_RDWR), out = file("new", O_CREAT | O_RDWR);

	MUST(pwrite(in, "abcdef", 6, 4094) == 6);
	MUST(pwrite(out, "uvwxyz", 6, 0) == 6);
	n(copy(in, 4090, out, 4, 20, 0));
	content("new");
}

CASE("copy_file_range: ok: holes stay zeros")
{
	int in, out;

	fill("new", 100000, 'n');
	in = file("src", O_CREAT | O_RDWR);
	out = file("new", O_RDWR);
	MUST(pwrite(in, "abc", 3, 50000) == 3 && !ftruncate(in, 80000));
	n(copy(in, 0, out, 0, 80000, 0));
	content("new");
}

CASE("copy_file_range: ok: clears set-user-ID")
{
	int in = file("f", O_RDONLY), out;

	put("suid", "", 06777);
	become(1000);
	out = file("suid", O_RDWR);
	n(copy(in, 0, out, 0, 10, 0));
	show("suid");
}

CASE("copy_file_range: EFBIG: RLIMIT_FSIZE")
{
	struct rlimit limit = {.rlim_cur = 8, .rlim_max = 8};
	int in = file("f", O_RDONLY), out = file("new", O_CREAT | O_RDWR);

	MUST(!setrlimit(RLIMIT_FSIZE, &limit));
	n(copy(in, 0, out, 8, 4, 0));
	n(copy(in, 0, out, 6, 4, 0));
}

CASE("sendfile: ok: to a file")
{
	off_t pos = 2;
	int in = file("f", O_RDONLY), out = file("new", O_CREAT | O_RDWR);

	n(sendfile(out, in, &pos, 5));
	n(sendfile(out, in, NULL, 100));
	content("new");
}

ROW("sendfile: EINVAL: from a directory", sendfile(file("f", O_RDWR), dir("d"), NULL, 5))
ROW("sendfile: EBADF: to one open to read",
    sendfile(file("f", O_RDONLY), file("f", O_RDONLY), NULL, 5))
ROW("sendfile: EINVAL: to one open to append",
    sendfile(file("d/x", O_WRONLY | O_APPEND), file("f", O_RDONLY), NULL, 5))

CASE("splice: ok: a file to a pipe to a file")
{
	int fds[2];
	loff_t pos = 3;
	int in = file("f", O_RDONLY), out = file("new", O_CREAT | O_RDWR);

	MUST(!pipe(fds));
	n(splice(in, &pos, fds[1], NULL, 100, 0));
	n(splice(fds[0], NULL, out, NULL, 100, SPLICE_F_MOVE));
	content("new");
}

CASE("splice: EINVAL: two files")
{
	n(splice(file("f", O_RDONLY), NULL, file("d/x", O_RDWR), NULL, 5, 0));
}

CASE("splice: EINVAL: to a file open to append")
{
	int fds[2];

	MUST(!pipe(fds) && write(fds[1], "abc", 3) == 3);
	n(splice(fds[0], NULL, file("f", O_WRONLY | O_APPEND), NULL, 3, 0));
}

CASE("vmsplice: ok: memory to a pipe to a file")
{
	struct iovec iov = {"abcdef", 6};
	int fds[2], out = file("f", O_RDWR);

	MUST(!pipe(fds));
	n(vmsplice(fds[1], &iov, 1, 0));
	n(splice(fds[0], NULL, out, NULL, 6, 0));
	content("f");
}

/* ---- mmap ---- */

static char *map(int fd, size_t size, int prot, int flags)
{
	char *p = mmap(NULL, size, prot, flags, fd, 0);

	MUST(p != MAP_FAILED);
	return p;
}

static long try_map(int fd, int prot, int flags, off_t pos)
{
	return mmap(NULL, 4096, prot, flags, fd, pos) == MAP_FAILED ? -1 : 0;
}

ROW("mmap: EACCES: shared and writable, open to read",
    try_map(file("f", O_RDONLY), PROT_READ | PROT_WRITE, MAP_SHARED, 0))
ROW("mmap: EACCES: open to write", try_map(file("f", O_WRONLY), PROT_READ, MAP_SHARED, 0))
ROW("mmap: ok: private and writable, open to read",
    try_map(file("f", O_RDONLY), PROT_READ | PROT_WRITE, MAP_PRIVATE, 0))
ROW("mmap: EINVAL: an offset that is no multiple of a page",
    try_map(file("f", O_RDWR), PROT_READ, MAP_SHARED, 10))
ROW("mmap: EINVAL: neither shared nor private", try_map(file("f", O_RDWR), PROT_READ, 0, 0))
ROW("mmap: EBADF: a bad descriptor", try_map(-1, PROT_READ, MAP_SHARED, 0))
ROW("mmap: EBADF: O_PATH", try_map(file("f", O_PATH), PROT_READ, MAP_SHARED, 0))
ROW("mmap: ENODEV: a fifo", try_map(file("p", O_RDWR), PROT_READ, MAP_SHARED, 0))
ROW("mmap: EOPNOTSUPP: MAP_SYNC",
    try_map(file("f", O_RDWR), PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, 0))
ROW("mmap: ok: to execute", try_map(file("f", O_RDWR), PROT_READ | PROT_EXEC, MAP_PRIVATE, 0))
ROW("mmap: EOVERFLOW: behind the greatest offset",
    try_map(file("f", O_RDWR), PROT_READ, MAP_SHARED, INT64_MAX - 4095))

CASE("mmap: ok: shared, seen by read, and by the map what write has written")
{
	int fd = file("f", O_RDWR);
	char *p = map(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);

	p[2] = 'X';
	content_fd(fd);
	MUST(pwrite(fd, "Y", 1, 4) == 1);
	say("%.10s", p);
	r(msync(p, 4096, MS_SYNC));
	r(munmap(p, 4096));
	content("f");
}

CASE("mmap: ok: shared, the times change at msync")
{
	int fd = file("f", O_RDWR);
	char *p = map(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);

	watch("f");
	p[2] = 'X';
	r(msync(p, 4096, MS_SYNC));
	changed("f");
}

CASE("mmap: ok: shared, written after the descriptor was closed and the name removed")
{
	int fd = file("f", O_RDWR), other = file("f", O_RDWR);
	char *p = map(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);

	close(fd);
	unlink("f");
	p[2] = 'X';
	munmap(p, 4096);
	content_fd(other);
}

CASE("mmap: ok: private writes are not seen")
{
	int fd = file("f", O_RDWR);
	char *p = map(fd, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	p[2] = 'X';
	r(msync(p, 4096, MS_SYNC));
	content("f");
}

CASE("mmap: ok: behind the end in the last page are zeros, and are not written")
{
	int fd = file("f", O_RDWR);
	char *p = map(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);

	say("%d", p[10]);
	p[10] = 'X';
	r(msync(p, 4096, MS_SYNC));
	show("f");
	r(ftruncate(fd, 20));
	content("f");
}

static char *beyond;

static void touch_beyond(void)
{
	say("%c", *(volatile char *)beyond);
}

CASE("mmap: ok: SIGBUS behind the last page")
{
	int fd = file("f", O_RDWR);

	beyond = map(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED) + 4096;
	as_user(0, touch_beyond);
	MUST(!ftruncate(fd, 8192));
	say("%d", *beyond);
	MUST(!ftruncate(fd, 10));
	as_user(0, touch_beyond);
}

CASE("mmap: ok: two processes share")
{
	int fd = file("f", O_RDWR), status;
	char *p = map(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
	pid_t pid = fork();

	if (!pid) {
		int mine = file("f", O_RDWR);
		char *q = map(mine, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);

		q[1] = 'C';
		_exit(0);
	}
	waitpid(pid, &status, 0);
	say("%.4s", p);
}

CASE("mmap: ok: a hole is allocated by writing")
{
	int fd = file("new", O_CREAT | O_RDWR);
	char *p;

	MUST(!ftruncate(fd, 1 << 20));
	p = map(fd, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED);
	p[500000] = 'X';
	r(msync(p, 1 << 20, MS_SYNC));
	content("new");
	n(lseek(fd, 0, SEEK_DATA));
}

CASE("mmap: ok: truncate down and up gives zeros to the map")
{
	int fd = file("f", O_RDWR);
	char *p = map(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);

	MUST(p[5] == '5' && !ftruncate(fd, 4) && !ftruncate(fd, 10));
	say("%d %d", p[3], p[5]);
}

CASE("mmap: ok: fallocate punches a hole into the map")
{
	char *p;
	int fd;

	fill("new", 16384, 'a');
	fd = file("new", O_RDWR);
	p = map(fd, 16384, PROT_READ | PROT_WRITE, MAP_SHARED);
	p[0] = 'b';
	p[5000] = 'c';
	r(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
	say("%c %d %c", p[0], p[5000], p[8192]);
	content("new");
}

CASE("mmap: ok: copy_file_range reads and writes through the map")
{
	char *p;
	int fd = file("new", O_CREAT | O_RDWR);

	MUST(!ftruncate(fd, 16384));
	p = map(fd, 16384, PROT_READ | PROT_WRITE, MAP_SHARED);
	p[100] = 'a';
	p[8192 + 100] = 'z';
	n(copy(fd, 0, fd, 8192, 4096, 0));
	say("%c", p[8192 + 100]);
}

CASE("mmap: ok: O_DIRECT reads what the map has written, and is seen by it")
{
	char *p, *direct = aligned_alloc(4096, 4096);
	int fd;

	fill("new", 8192, 'a');
	fd = file("new", O_RDWR | O_DIRECT);
	p = map(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED);
	p[10] = 'b';
	n(pread(fd, direct, 4096, 0));
	say("%c", direct[10]);
	memset(direct, 'c', 4096);
	n(pwrite(fd, direct, 4096, 4096));
	say("%c", p[5000]);
}

CASE("mmap: ok: read into a map of the same page")
{
	int fd;
	char *p;

	fill("new", 8192, 'a');
	fd = file("new", O_RDWR);
	p = map(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED);
	n(pread(fd, p, 100, 0));
	n(pwrite(fd, p, 4096, 4096));
	n(pwrite(fd, p + 1, 100, 0));
}

CASE("mprotect: EACCES: to write a shared map of a file open to read")
{
	char *p = map(file("f", O_RDONLY), 4096, PROT_READ, MAP_SHARED);

	r(mprotect(p, 4096, PROT_READ | PROT_WRITE));
}

CASE("msync: EINVAL: bad flags and addresses")
{
	char *p = map(file("f", O_RDONLY), 4096, PROT_READ, MAP_SHARED);

	r(msync(p, 4096, MS_SYNC | MS_ASYNC));
	r(msync(p + 1, 100, MS_SYNC));
	r(msync(p, 4096, MS_ASYNC));
	r(msync(p, 4096, MS_INVALIDATE));
}

CASE("msync: ENOMEM: memory that is not mapped")
{
	char *p = map(file("f", O_RDONLY), 4096, PROT_READ, MAP_SHARED);

	munmap(p, 4096);
	r(msync(p, 4096, MS_SYNC));
}

CASE("mincore: ok: a file that was read")
{
	char *p = map(file("f", O_RDONLY), 4096, PROT_READ, MAP_SHARED);
	unsigned char vec[1];
	volatile char c = p[0];

	(void)c;
	r(mincore(p, 4096, vec));
	say("%d", vec[0] & 1);
}

CASE("madvise: EACCES: MADV_REMOVE of a private map")
{
	char *p = map(file("f", O_RDWR), 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	r(madvise(p, 4096, MADV_REMOVE));
}

CASE("madvise: ok: MADV_REMOVE of a shared map punches a hole")
{
	char *p;

	fill("new", 8192, 'a');
	p = map(file("new", O_RDWR), 8192, PROT_READ | PROT_WRITE, MAP_SHARED);
	r(madvise(p, 4096, MADV_REMOVE));
	content("new");
}
