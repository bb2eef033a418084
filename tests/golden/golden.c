// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Makes the content of the golden images, and prints what an image contains.
 *
 *   golden make IMAGE      files of every kind into a new filesystem; closed cleanly
 *   golden crash IMAGE     the same, then more of them, synced, and no clean close
 *   golden compress IMAGE  files compressed in every way, and not; closed cleanly
 *   golden encrypt IMAGE   a few files, compressed and not, in a crashed filesystem
 *   golden share IMAGE     files that share data in every way; closed cleanly
 *   golden list IMAGE      one line a name; opens read-only
 *   golden touch IMAGE     opens read-write (and recovers), makes and removes a file, closes
 */
#include "bcfs/bcfs.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void die(const char *what, int64_t ret, const char *msg)
{
	fprintf(stderr, "golden: %s: %s %s\n", what, bcfs_strerror((int)ret), msg);
	exit(1);
}

static int64_t ok(const char *what, int64_t ret)
{
	if (ret < 0)
		die(what, ret, "");
	return ret;
}

/* FNV-1a, so that the manifest needs no library. */
static uint64_t hash(const void *p, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	for (size_t i = 0; i < len; i++)
		h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3ULL;
	return h;
}

static void *content(size_t len, unsigned seed)
{
	unsigned char *p = malloc(len + 1);

	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)((i / 64 * 7 + i % 64 * (i % 5) + seed) & 0x7f);
	return p;
}

/* ---- making ---- */

static const struct bcfs_cred cred = {.uid = 1000, .gid = 100, .umask = 022};

/* Times that are the same every time. */
static void stamp(struct bcfs *fs, struct bcfs_ino ino, unsigned nr)
{
	struct bcfs_stat st = {.atime = {1700000000 + nr, 1}, .mtime = {1700000000 + nr, 2}};

	ok("times", bcfs_setattr(fs, ino, &st, BCFS_SET_ATIME | BCFS_SET_MTIME, &st));
}

static struct bcfs_ino make(struct bcfs *fs, struct bcfs_ino dir, const char *name, uint32_t mode,
			    uint32_t major, uint32_t minor)
{
	struct bcfs_stat st;

	if (S_ISDIR(mode))
		ok(name, bcfs_mkdir(fs, dir, name, mode & 07777, &cred, &st));
	else
		ok(name, bcfs_mknod(fs, dir, name, mode, major, minor, &cred, &st));
	return st.ino;
}

static struct bcfs_ino file(struct bcfs *fs, struct bcfs_ino dir, const char *name, size_t len)
{
	struct bcfs_ino ino = make(fs, dir, name, S_IFREG | 0644, 0, 0);
	void *data = content(len, (unsigned)len);

	if (len && ok(name, bcfs_write(fs, ino, 0, data, len, 0)) != (int64_t)len)
		die(name, 0, "short write");
	free(data);
	return ino;
}

static void make_data(struct bcfs *fs, struct bcfs_ino dir)
{
	struct bcfs_ino ino;
	void *data = content(10000, 3);

	file(fs, dir, "empty", 0);
	file(fs, dir, "small", 100);
	file(fs, dir, "page", 4096);
	file(fs, dir, "big", 300000);
	ino = file(fs, dir, "holes", 5000);
	ok("holes", bcfs_write(fs, ino, 100000, data, 10000, 0));
	ok("holes", bcfs_write(fs, ino, 1ULL << 40, data, 3, 0));
	ino = file(fs, dir, "punched", 65536);
	ok("punched",
	   bcfs_fallocate(fs, ino, BCFS_FALLOC_PUNCH_HOLE | BCFS_FALLOC_KEEP_SIZE, 5000, 30000));
	ino = file(fs, dir, "preallocated", 1000);
	ok("preallocated", bcfs_fallocate(fs, ino, 0, 0, 200000));
	ino = file(fs, dir, "overwritten", 200000);
	for (unsigned i = 0; i < 20; i++)
		ok("overwritten", bcfs_write(fs, ino, i * 9999ULL, data, 1 + i * 37, 0));
	free(data);
}

static void make_names(struct bcfs *fs, struct bcfs_ino dir)
{
	char name[256], target[4000];
	struct bcfs_ino ino, deep = dir;
	struct bcfs_stat st;

	memset(name, 'n', 255);
	name[255] = 0;
	file(fs, dir, name, 7);
	memset(target, 't', sizeof(target));
	target[sizeof(target) - 1] = 0;
	ok("symlink", bcfs_symlink(fs, dir, "link-short", "../data/small", &cred, &st));
	ok("symlink", bcfs_symlink(fs, dir, "link-long", target, &cred, &st));
	ino = file(fs, dir, "hard", 11);
	ok("link", bcfs_link(fs, ino, dir, "hard-too", &st));
	make(fs, dir, "fifo", S_IFIFO | 0600, 0, 0);
	make(fs, dir, "socket", S_IFSOCK | 0700, 0, 0);
	make(fs, dir, "char", S_IFCHR | 0620, 5, 1);
	make(fs, dir, "block", S_IFBLK | 0660, 259, 70000);
	make(fs, dir, "\303\274ml\303\244ut\nnewline", S_IFREG | 04755, 0, 0);
	for (unsigned i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		deep = make(fs, deep, name, S_IFDIR | 0751, 0, 0);
	}
	ino = make(fs, dir, "many", S_IFDIR | 02775, 0, 0);
	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "file-%u", i);
		make(fs, ino, name, S_IFREG | 0640, 0, 0);
	}
	for (unsigned i = 0; i < 300; i += 3) {
		snprintf(name, sizeof(name), "file-%u", i);
		ok("unlink", bcfs_unlink(fs, ino, name));
	}
}

static void make_xattrs(struct bcfs *fs, struct bcfs_ino dir)
{
	struct bcfs_ino ino = file(fs, dir, "with-xattrs", 5);
	char name[64];
	void *v = content(1000, 9);

	ok("xattr", bcfs_setxattr(fs, ino, "user.empty", "", 0, 0));
	ok("xattr", bcfs_setxattr(fs, ino, "user.one", "1", 1, 0));
	ok("xattr", bcfs_setxattr(fs, ino, "trusted.t", v, 1000, 0));
	ok("xattr", bcfs_setxattr(fs, ino, "security.s", v, 200, 0));
	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "user.number-%u", i);
		ok("xattr", bcfs_setxattr(fs, ino, name, v, i * 13, 0));
	}
	ok("xattr", bcfs_removexattr(fs, ino, "user.number-7"));
	ok("xattr", bcfs_setxattr(fs, dir, "user.of-a-directory", v, 50, 0));
	free(v);
}

static void stamp_all(struct bcfs *fs, struct bcfs_ino dir, unsigned *nr);

struct stamp {
	struct bcfs *fs;
	unsigned *nr;
};

static int stamp_entry(void *arg, const struct bcfs_dir_entry *e)
{
	struct stamp *s = arg;

	if (!strcmp(e->name, ".") || !strcmp(e->name, ".."))
		return 0;
	stamp(s->fs, e->ino, (unsigned)(hash(e->name, strlen(e->name)) % 100000));
	if (e->type == S_IFDIR >> 12)
		stamp_all(s->fs, e->ino, s->nr);
	return 0;
}

static void stamp_all(struct bcfs *fs, struct bcfs_ino dir, unsigned *nr)
{
	struct stamp s = {fs, nr};

	ok("readdir", bcfs_readdir(fs, dir, 0, 0, stamp_entry, &s));
}

/* Buckets that were used: the next session finds them empty and makes them free. */
static void make_history(struct bcfs *fs)
{
	struct bcfs_ino root = bcfs_root(fs);

	file(fs, root, "history", 1000000);
	ok("unlink", bcfs_unlink(fs, root, "history"));
}

static void make_all(struct bcfs *fs)
{
	struct bcfs_ino root = bcfs_root(fs);
	unsigned nr = 0;

	make_data(fs, make(fs, root, "data", S_IFDIR | 0755, 0, 0));
	make_names(fs, make(fs, root, "names", S_IFDIR | 0755, 0, 0));
	make_xattrs(fs, make(fs, root, "xattrs", S_IFDIR | 0755, 0, 0));
	stamp_all(fs, root, &nr);
	stamp(fs, root, 0);
}

/* ---- compressed ---- */

/* Kind 0: lines of text, 1: no two bytes alike for long, 2: one after the other. */
static void *mixed(size_t len, unsigned kind, uint32_t seed)
{
	char *p = content(len, seed), line[64];

	for (size_t i = 0; i < len; i++) {
		if (kind == 0 || (kind == 2 && i / 20000 % 2 == 0)) {
			snprintf(line, sizeof(line), "%7zu: a line of text, and another\n", i / 37);
			p[i] = line[i % 37];
			continue;
		}
		seed ^= seed << 13;
		seed ^= seed >> 17;
		seed ^= seed << 5;
		p[i] = (char)(seed >> 11);
	}
	return p;
}

static void make_compressed(struct bcfs *fs, struct bcfs_ino dir)
{
	static const char *const names[] = {"text", "noise", "both"};
	static const size_t lens[] = {400000, 16000, 60000};
	struct bcfs_stat st = {.size = 234567};
	char *patch = mixed(9000, 0, 1);

	for (unsigned kind = 0; kind < 3; kind++) {
		struct bcfs_ino ino = make(fs, dir, names[kind], S_IFREG | 0644, 0, 0);
		char *data = mixed(lens[kind], kind, kind + 1);

		if (ok(names[kind], bcfs_write(fs, ino, 0, data, lens[kind], 0)) !=
		    (int64_t)lens[kind])
			die(names[kind], 0, "short write");
		free(data);
		/* Extents of which parts are gone, in front, behind and in the middle. */
		for (unsigned i = 0; i < 6; i++)
			ok("patch",
			   bcfs_write(fs, ino, 3000 + i * 9001ULL, patch, 100 + i * 1700ULL, 0));
		ok("punch", bcfs_fallocate(fs, ino, BCFS_FALLOC_PUNCH_HOLE | BCFS_FALLOC_KEEP_SIZE,
					   8192, 12288));
		if (kind == 0)
			ok("truncate", bcfs_setattr(fs, ino, &st, BCFS_SET_SIZE, &st));
	}
	file(fs, dir, "small", 100);
	file(fs, dir, "two-blocks", 8192);
	free(patch);
}

static void make_all_compressed(struct bcfs *fs)
{
	static const char *const ways[] = {"lz4", "lz4:9", "zstd:-5", "zstd:19", "none"};
	struct bcfs_ino root = bcfs_root(fs), dir;
	unsigned nr = 0;

	make_compressed(fs, make(fs, root, "default", S_IFDIR | 0755, 0, 0));
	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		dir = make(fs, root, ways[i], S_IFDIR | 0755, 0, 0);
		ok(ways[i],
		   bcfs_setxattr(fs, dir, "bcfs.compression", ways[i], strlen(ways[i]), 0));
		make_compressed(fs, dir);
	}
	stamp_all(fs, root, &nr);
	stamp(fs, root, 0);
}

/* ---- shared ---- */

static void copy(struct bcfs *fs, struct bcfs_ino src, uint64_t from, struct bcfs_ino dst,
		 uint64_t to, uint64_t len)
{
	if (ok("copy", bcfs_copy_range(fs, src, from, dst, to, len, 0)) != (int64_t)len)
		die("copy", 0, "short");
}

static struct bcfs_ino copy_of(struct bcfs *fs, struct bcfs_ino dir, const char *name,
			       struct bcfs_ino src, uint64_t len)
{
	struct bcfs_ino ino = make(fs, dir, name, S_IFREG | 0644, 0, 0);

	copy(fs, src, 0, ino, 0, len);
	return ino;
}

/* Of one owner, of two and of three; cut by writes, holes and truncation; beside inline data. */
static void make_shared(struct bcfs *fs, struct bcfs_ino dir)
{
	const size_t len = 300000;
	struct bcfs_ino src = make(fs, dir, "first", S_IFREG | 0644, 0, 0), ino, gone;
	struct bcfs_stat st = {.size = 123456};
	char *data = mixed(len, 2, 9), *patch = mixed(9000, 0, 1);

	if (ok("write", bcfs_write(fs, src, 0, data, len, 0)) != (int64_t)len)
		die("write", 0, "short");
	ino = copy_of(fs, dir, "second", src, len);
	gone = copy_of(fs, dir, "third", src, len);
	copy(fs, src, 8192, make(fs, dir, "parts", S_IFREG | 0644, 0, 0), 131072, 100000);
	copy(fs, ino, 0, ino, 393216, 65536);
	for (unsigned i = 0; i < 6; i++) {
		ok("patch", bcfs_write(fs, src, 3000 + i * 9001ULL, patch, 100 + i * 1700ULL, 0));
		ok("patch", bcfs_write(fs, ino, 40960 + i * 24576ULL, patch, 4096, 0));
	}
	ok("punch",
	   bcfs_fallocate(fs, ino, BCFS_FALLOC_PUNCH_HOLE | BCFS_FALLOC_KEEP_SIZE, 8192, 12288));
	ok("truncate", bcfs_setattr(fs, gone, &st, BCFS_SET_SIZE, &st));
	ok("unlink", bcfs_unlink(fs, dir, "third"));
	bcfs_forget(fs, gone, 1);
	ino = file(fs, dir, "small", 100);
	copy_of(fs, dir, "small-copy", ino, 100);
	free(patch);
	free(data);
}

static void make_all_shared(struct bcfs *fs)
{
	static const char *const ways[] = {"none", "lz4", "zstd:3"};
	struct bcfs_ino root = bcfs_root(fs), dir;
	unsigned nr = 0;

	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		dir = make(fs, root, ways[i], S_IFDIR | 0755, 0, 0);
		ok(ways[i],
		   bcfs_setxattr(fs, dir, "bcfs.compression", ways[i], strlen(ways[i]), 0));
		make_shared(fs, dir);
	}
	stamp_all(fs, root, &nr);
	stamp(fs, root, 0);
}

/* What a journal has to replay: changes in every btree, a truncate, an exchange. */
static void make_more(struct bcfs *fs)
{
	struct bcfs_ino root = bcfs_root(fs), dir = make(fs, root, "late", S_IFDIR | 0700, 0, 0);
	struct bcfs_ino ino = file(fs, dir, "late-file", 50000);
	struct bcfs_stat st = {.size = 12345};
	unsigned nr = 0;

	ok("truncate", bcfs_setattr(fs, ino, &st, BCFS_SET_SIZE, &st));
	ok("xattr", bcfs_setxattr(fs, ino, "user.late", "x", 1, 0));
	file(fs, dir, "gone", 30000);
	ok("unlink", bcfs_unlink(fs, dir, "gone"));
	ok("rename", bcfs_rename(fs, root, "data", dir, "data-moved", 0));
	ok("rename", bcfs_rename(fs, root, "names", root, "xattrs", BCFS_RENAME_EXCHANGE));
	stamp_all(fs, root, &nr);
	stamp(fs, root, 1);
}

/* Little, synced in parts: what is encrypted takes its room in an archive. */
static void make_encrypted(struct bcfs *fs)
{
	struct bcfs_ino root = bcfs_root(fs), dir = make(fs, root, "late", S_IFDIR | 0700, 0, 0);
	struct bcfs_ino ino = file(fs, dir, "late-file", 50000);
	struct bcfs_stat st = {.size = 12345};
	unsigned nr = 0;

	make_compressed(fs, make(fs, root, "first", S_IFDIR | 0755, 0, 0));
	ok("sync", bcfs_sync(fs));
	ok("truncate", bcfs_setattr(fs, ino, &st, BCFS_SET_SIZE, &st));
	ok("xattr", bcfs_setxattr(fs, ino, "user.late", "x", 1, 0));
	file(fs, dir, "small", 100);
	file(fs, dir, "gone", 30000);
	ok("unlink", bcfs_unlink(fs, dir, "gone"));
	ok("rename", bcfs_rename(fs, root, "first", dir, "moved", 0));
	stamp_all(fs, root, &nr);
	stamp(fs, root, 1);
}

/* ---- printing ---- */

static void print_escaped(const char *s)
{
	for (; *s; s++) {
		if (*s > ' ' && *s < 127 && *s != '\\')
			putchar(*s);
		else
			printf("\\%03o", (unsigned char)*s);
	}
}

static void print_xattrs(struct bcfs *fs, struct bcfs_ino ino)
{
	char list[4096], value[4096];
	int64_t len = ok("listxattr", bcfs_listxattr(fs, ino, list, sizeof(list)));
	uint64_t sum = 0;
	unsigned nr = 0;

	for (int64_t at = 0; at < len; at += (int64_t)strlen(list + at) + 1, nr++) {
		int64_t n = ok("getxattr", bcfs_getxattr(fs, ino, list + at, value, sizeof(value)));

		/* A sum: the order means nothing. */
		sum += hash(list + at, strlen(list + at)) * 31 + hash(value, (size_t)n);
	}
	if (nr)
		printf(" xattrs %u:%016" PRIx64, nr, sum);
}

static void print_data(struct bcfs *fs, struct bcfs_ino ino, uint64_t size)
{
	uint64_t at = 0;
	int64_t data, hole;

	while (at < size && (data = bcfs_seek_data(fs, ino, at)) >= 0) {
		size_t len;
		char *buf;

		hole = ok("seek", bcfs_seek_hole(fs, ino, (uint64_t)data));
		len = (size_t)(hole - data);
		buf = malloc(len + 1);
		if (ok("read", bcfs_read(fs, ino, (uint64_t)data, buf, len)) != hole - data)
			die("read", 0, "short");
		printf(" %" PRId64 "+%zu:%016" PRIx64, data, len, hash(buf, len));
		free(buf);
		at = (uint64_t)hole;
	}
}

static void print_inode(struct bcfs *fs, const char *path, struct bcfs_ino ino)
{
	struct bcfs_stat st;
	char target[4096];

	ok("getattr", bcfs_getattr(fs, ino, &st));
	print_escaped(path);
	printf(" %06o %u:%u nlink %u mtime %" PRId64 ".%u", st.mode, st.uid, st.gid, st.nlink,
	       st.mtime.sec, st.mtime.nsec);
	if (!S_ISDIR(st.mode))
		printf(" size %" PRIu64, st.size);
	if (S_ISCHR(st.mode) || S_ISBLK(st.mode))
		printf(" dev %u:%u", st.rdev_major, st.rdev_minor);
	print_xattrs(fs, ino);
	if (S_ISREG(st.mode))
		print_data(fs, ino, st.size);
	if (S_ISLNK(st.mode)) {
		int64_t n = ok("readlink", bcfs_readlink(fs, ino, target, sizeof(target)));

		printf(" target %" PRId64 ":%016" PRIx64, n, hash(target, (size_t)n));
	}
	putchar('\n');
}

struct list {
	struct bcfs *fs;
	const char *path;
};

static int list_entry(void *arg, const struct bcfs_dir_entry *e)
{
	const struct list *l = arg;
	struct list sub = {l->fs, NULL};
	char *path;

	if (!strcmp(e->name, ".") || !strcmp(e->name, ".."))
		return 0;
	if (asprintf(&path, "%s/%s", l->path, e->name) < 0)
		abort();
	print_inode(l->fs, path, e->ino);
	sub.path = path;
	if (e->type == S_IFDIR >> 12)
		ok("readdir", bcfs_readdir(l->fs, e->ino, 0, 0, list_entry, &sub));
	free(path);
	return 0;
}

static void list(struct bcfs *fs)
{
	struct list l = {fs, ""};

	print_inode(fs, "/", bcfs_root(fs));
	ok("readdir", bcfs_readdir(fs, bcfs_root(fs), 0, 0, list_entry, &l));
}

static void touch(struct bcfs *fs)
{
	struct bcfs_ino root = bcfs_root(fs);

	file(fs, root, "touched", 20000);
	ok("unlink", bcfs_unlink(fs, root, "touched"));
	stamp(fs, root, 1);
}

static void log_line(void *arg, enum bcfs_log_level level, const char *line)
{
	if (level <= BCFS_LOG_WARNING)
		fprintf(stderr, "golden: %s\n", line);
}

/* Of those that are encrypted; of no worth to anybody. */
static const struct bcfs_secret passphrase = {BCFS_SECRET_PASSPHRASE, "golden", 6};

int main(int argc, char **argv)
{
	struct bcfs_info info = {0};
	const char *what = argc == 3 ? argv[1] : "";
	struct bcfs_open_opts o = {.struct_size = sizeof(o),
				   .read_only = !strcmp(what, "list"),
				   .noatime = 1,
				   .log = log_line};
	char msg[512] = "";
	struct bcfs *fs;
	bool is_new;
	int ret;

	if (strcmp(what, "make") && strcmp(what, "crash") && strcmp(what, "list") &&
	    strcmp(what, "touch") && strcmp(what, "compress") && strcmp(what, "encrypt") &&
	    strcmp(what, "share")) {
		fprintf(stderr,
			"usage: golden make|crash|compress|encrypt|share|list|touch IMAGE\n");
		return 2;
	}
	is_new = !strcmp(what, "make") || !strcmp(what, "crash");
	if (!bcfs_probe(argv[2], &info, NULL, 0) && info.encrypted)
		o.secret = &passphrase;
	if (is_new && !bcfs_open(argv[2], &o, &fs, msg, sizeof(msg))) {
		make_history(fs);
		ok("close", bcfs_close(fs));
	}
	ret = bcfs_open(argv[2], &o, &fs, msg, sizeof(msg));
	if (ret)
		die(argv[2], ret, msg);
	if (o.read_only)
		list(fs);
	else if (is_new)
		make_all(fs);
	else if (!strcmp(what, "encrypt"))
		make_encrypted(fs);
	else if (!strcmp(what, "compress"))
		make_all_compressed(fs);
	else if (!strcmp(what, "share"))
		make_all_shared(fs);
	else
		touch(fs);
	if (!strcmp(what, "crash")) {
		ok("sync", bcfs_sync(fs));
		make_more(fs);
		ok("sync", bcfs_sync(fs));
		bcfs_abort(fs);
		return 0;
	}
	if (!strcmp(what, "encrypt")) {
		ok("sync", bcfs_sync(fs));
		bcfs_abort(fs);
		return 0;
	}
	ok("close", bcfs_close(fs));
	return 0;
}
