// SPDX-License-Identifier: LGPL-2.1-or-later
/* truncate(2), ftruncate(2), fallocate(2), statfs(2), and what they do to blocks. */
#include <linux/falloc.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include "calls.h"

#define KEEP  FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO  FALLOC_FL_ZERO_RANGE

/* ---- truncate ---- */

ROW("truncate: EISDIR: a directory", truncate("d", 0))
ROW("truncate: EINVAL: a fifo", truncate("p", 0))
ROW("truncate: EINVAL: a negative size", truncate("f", -1))
ROW("truncate: EFBIG: the greatest size", truncate("f", INT64_MAX))
ROW("truncate: EFBIG: 16 TiB", truncate("f", 16LL << 40))
ROW("ftruncate: EBADF: a bad descriptor", ftruncate(-1, 0))
ROW("ftruncate: EINVAL: open to read", ftruncate(file("f", O_RDONLY), 0))
ROW("ftruncate: EINVAL: a negative size", ftruncate(file("f", O_RDWR), -1))
ROW("ftruncate: EINVAL: a fifo", ftruncate(file("p", O_RDWR), 0))
USER_ROW("truncate: EACCES: a file of another", truncate("f", 0))

CASE("truncate: ok: down")
{
	watch("f");
	r(truncate("f", 4));
	changed("f");
	content("f");
}

CASE("truncate: ok: up, over pages")
{
	watch("f");
	r(truncate("f", 100000));
	changed("f");
	content("f");
	show("f");
}

CASE("truncate: ok: to the size it has")
{
	watch("f");
	r(truncate("f", 10));
	changed("f");
}

CASE("ftruncate: ok: to the size it has")
{
	int fd = file("f", O_RDWR);

	watch("f");
	r(ftruncate(fd, 10));
	changed("f");
}

CASE("ftruncate: ok: down and up gives zeros")
{
	int fd;

	fill("new", 20000, 'a');
	fd = file("new", O_RDWR);
	r(ftruncate(fd, 5000));
	r(ftruncate(fd, 15000));
	MUST(pwrite(fd, "b", 1, 14000) == 1);
	content("new");
}

CASE("ftruncate: ok: of what is not yet written back")
{
	int fd = file("new", O_CREAT | O_RDWR);

	MUST(pwrite(fd, "abcdef", 6, 4093) == 6);
	r(ftruncate(fd, 4095));
	r(fsync(fd));
	r(ftruncate(fd, 4100));
	content("new");
	show("new");
}

CASE("truncate: ok: up to 15 TiB")
{
	struct stat st;

	r(truncate("f", 15LL << 40));
	MUST(!stat("f", &st));
	say("%lld %s", (long long)st.st_size, st.st_blocks <= 64 ? "sparse" : "full");
	r(truncate("f", 5));
	content("f");
}

CASE("truncate: ok: clears set-user-ID and set-group-ID of another's file")
{
	put("suid", "text", 06777);
	become(1000);
	r(truncate("suid", 2));
	show("suid");
}

CASE("truncate: ok: as root, set-user-ID stays")
{
	put("suid", "text", 06777);
	r(truncate("suid", 2));
	show("suid");
}

CASE("truncate: ok: frees blocks")
{
	struct stat st;

	fill("new", 1 << 20, 'a');
	sync();
	MUST(!stat("new", &st));
	say("%s", st.st_blocks >= 2048 ? "full" : "small");
	r(truncate("new", 0));
	MUST(!stat("new", &st));
	say("%lld", (long long)st.st_blocks);
}

/* ---- fallocate ---- */

ROW("fallocate: EBADF: a bad descriptor", fallocate(-1, 0, 0, 100))
ROW("fallocate: EBADF: open to read", fallocate(file("f", O_RDONLY), 0, 0, 100))
ROW("fallocate: EINVAL: length 0", fallocate(file("f", O_RDWR), 0, 0, 0))
ROW("fallocate: EINVAL: a negative offset", fallocate(file("f", O_RDWR), 0, -1, 10))
ROW("fallocate: EINVAL: a negative length", fallocate(file("f", O_RDWR), 0, 0, -1))
ROW("fallocate: EFBIG: too far", fallocate(file("f", O_RDWR), 0, INT64_MAX - 5, 100))
ROW("fallocate: EFBIG: behind 16 TiB", fallocate(file("f", O_RDWR), 0, 16LL << 40, 100))
ROW("fallocate: ESPIPE: a fifo", fallocate(file("p", O_RDWR), 0, 0, 100))
ROW("fallocate: EOPNOTSUPP: PUNCH_HOLE without KEEP_SIZE",
    fallocate(file("f", O_RDWR), FALLOC_FL_PUNCH_HOLE, 0, 100))
ROW("fallocate: EOPNOTSUPP: PUNCH_HOLE with ZERO_RANGE",
    fallocate(file("f", O_RDWR), PUNCH | FALLOC_FL_ZERO_RANGE, 0, 100))
ROW("fallocate: EOPNOTSUPP: an unknown mode", fallocate(file("f", O_RDWR), 0x8000, 0, 100))
ROW("fallocate: EOPNOTSUPP: UNSHARE_RANGE", fallocate(file("f", O_RDWR), 0x40, 0, 100))
ROW("fallocate: ok: PUNCH_HOLE, open to append",
    fallocate(file("f", O_WRONLY | O_APPEND), PUNCH, 0, 4))
ROW("fallocate: EINVAL: COLLAPSE_RANGE, not a multiple of blocks",
    fallocate(file("f", O_RDWR), FALLOC_FL_COLLAPSE_RANGE, 0, 100))
ROW("fallocate: EINVAL: INSERT_RANGE, not a multiple of blocks",
    fallocate(file("f", O_RDWR), FALLOC_FL_INSERT_RANGE, 0, 100))
ROW("fallocate: EOPNOTSUPP: COLLAPSE_RANGE with KEEP_SIZE",
    fallocate(file("f", O_RDWR), FALLOC_FL_COLLAPSE_RANGE | KEEP, 0, 4096))

static void blocks_of(const char *path)
{
	struct stat st;

	sync();
	MUST(!stat(path, &st));
	say("size=%lld kib=%lld", (long long)st.st_size, (long long)st.st_blocks / 2);
}

CASE("fallocate: ok: behind the end")
{
	int fd = file("new", O_CREAT | O_RDWR);

	watch("new");
	r(fallocate(fd, 0, 0, 1 << 20));
	changed("new");
	blocks_of("new");
	content("new");
}

CASE("fallocate: ok: KEEP_SIZE")
{
	int fd = file("new", O_CREAT | O_RDWR);

	watch("new");
	r(fallocate(fd, KEEP, 0, 1 << 20));
	changed("new");
	blocks_of("new");
	content("new");
	n(pwrite(fd, "abc", 3, 100000));
	content("new");
}

CASE("fallocate: ok: over data, which stays")
{
	int fd;

	fill("new", 10000, 'a');
	fd = file("new", O_RDWR);
	r(fallocate(fd, 0, 5000, 10000));
	content("new");
	show("new");
}

CASE("fallocate: ok: PUNCH_HOLE")
{
	int fd;

	fill("new", 40960, 'a');
	fd = file("new", O_RDWR);
	watch("new");
	r(fallocate(fd, PUNCH, 5000, 20000));
	changed("new");
	content("new");
	show("new");
	n(lseek(fd, 0, SEEK_HOLE));
	n(lseek(fd, 16384, SEEK_DATA));
}

CASE("fallocate: ok: PUNCH_HOLE frees blocks")
{
	int fd;

	fill("new", 1 << 20, 'a');
	fd = file("new", O_RDWR);
	fsync(fd);
	blocks_of("new");
	r(fallocate(fd, PUNCH, 0, 1 << 20));
	blocks_of("new");
}

CASE("fallocate: ok: PUNCH_HOLE behind the end")
{
	int fd = file("f", O_RDWR);

	r(fallocate(fd, PUNCH, 5, 100000));
	r(fallocate(fd, PUNCH, 100000, 100000));
	content("f");
	show("f");
}

CASE("fallocate: ok: PUNCH_HOLE within a block")
{
	int fd;

	fill("new", 4096, 'a');
	fd = file("new", O_RDWR);
	r(fallocate(fd, PUNCH, 10, 5));
	content("new");
}

CASE("fallocate: ok: ZERO_RANGE")
{
	int fd;

	fill("new", 40960, 'a');
	fd = file("new", O_RDWR);
	watch("new");
	r(fallocate(fd, ZERO, 5000, 20000));
	changed("new");
	content("new");
	r(fallocate(fd, ZERO, 40000, 10000));
	show("new");
	r(fallocate(fd, ZERO | KEEP, 45000, 20000));
	show("new");
	content("new");
}

CASE("fallocate: ok: COLLAPSE_RANGE")
{
	int fd;

	fill("new", 16384, 'a');
	fd = file("new", O_RDWR);
	MUST(pwrite(fd, "b", 1, 8192) == 1);
	r(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 4096, 4096));
	content("new");
}

CASE("fallocate: ok: INSERT_RANGE")
{
	int fd;

	fill("new", 16384, 'a');
	fd = file("new", O_RDWR);
	r(fallocate(fd, FALLOC_FL_INSERT_RANGE, 4096, 4096));
	content("new");
}

CASE("fallocate: ok: clears set-user-ID of another's file")
{
	int fd;

	put("suid", "text", 06777);
	become(1000);
	fd = file("suid", O_RDWR);
	r(fallocate(fd, 0, 0, 100));
	show("suid");
}

CASE("posix_fallocate: ok: twice")
{
	int fd = file("new", O_CREAT | O_RDWR);

	n(posix_fallocate(fd, 100, 8000));
	n(posix_fallocate(fd, 0, 100));
	show("new");
}

CASE("fallocate: ok: written, then read back")
{
	int fd = file("new", O_CREAT | O_RDWR);

	r(fallocate(fd, 0, 0, 100000));
	n(pwrite(fd, "abc", 3, 50000));
	r(fsync(fd));
	content("new");
	n(lseek(fd, 0, SEEK_END));
}

/* ---- statfs ---- */

ROW("fstatfs: EBADF: a bad descriptor", fstatfs(-1, (struct statfs *)name255))
ROW("fstatfs: EFAULT: a bad address", fstatfs(file("f", O_RDONLY), bad_ptr))

CASE("statfs: ok: sizes that are so")
{
	struct statfs st;

	MUST(!statfs(".", &st));
	say("bsize=%ld frsize=%ld namelen=%ld", (long)st.f_bsize, (long)st.f_frsize,
	    (long)st.f_namelen);
	say("%s", st.f_bavail <= st.f_bfree && st.f_bfree < st.f_blocks ? "blocks" : "bad-blocks");
	say("%s", st.f_ffree && st.f_ffree < st.f_files ? "files" : "bad-files");
	say("%s", st.f_fsid.__val[0] || st.f_fsid.__val[1] ? "fsid" : "no-fsid");
}

/* Once what was removed before is free, which may be a little later. */
static struct statfs settled(void)
{
	struct statfs a, b;
	int i, same = 0;

	sync();
	MUST(!statfs(".", &a));
	for (i = 0; i < 500 && same < 5; i++) {
		usleep(10000);
		MUST(!statfs(".", &b));
		same = a.f_bfree == b.f_bfree ? same + 1 : 0;
		a = b;
	}
	return a;
}

CASE("statfs: ok: writing takes blocks, removing gives them back")
{
	const size_t size = 16 << 20;
	struct statfs a, b, c;
	char *data = malloc(size);
	int fd = file("new", O_CREAT | O_RDWR);

	MUST(data);
	noise(data, size);
	/* Of 4096 blocks: what the filesystem keeps for itself may change too. */
	a = settled();
	MUST(pwrite(fd, data, size, 0) == (ssize_t)size && !close(fd));
	b = settled();
	unlink("new");
	c = settled();
	say("%s %s", a.f_bfree >= b.f_bfree + 3500 ? "taken" : "not-taken",
	    c.f_bfree >= b.f_bfree + 3500 ? "given-back" : "kept");
}

CASE("statvfs: ok: flags of the mount")
{
	struct statvfs st;

	MUST(!statvfs(".", &st));
	say("%lx", st.f_flag);
}

CASE("pathconf: ok: limits")
{
	n(pathconf(".", _PC_NAME_MAX));
	n(pathconf(".", _PC_PATH_MAX));
	n(pathconf(".", _PC_PIPE_BUF));
	n(pathconf(".", _PC_FILESIZEBITS));
	n(pathconf(".", _PC_2_SYMLINKS));
}
