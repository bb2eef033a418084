// SPDX-License-Identifier: LGPL-2.1-or-later
/* What every call that takes a path answers to a bad one: a table of calls by a table of paths. */
#include <sys/inotify.h>
#include <sys/statfs.h>
#include <sys/swap.h>
#include <sys/xattr.h>

#include "calls.h"

static long p_open(const char *p)
{
	return open(p, O_RDONLY);
}
static long p_creat(const char *p)
{
	return creat(p, 0644);
}
static long p_open_path(const char *p)
{
	return open(p, O_PATH);
}
static long p_stat(const char *p)
{
	struct stat st;
	return stat(p, &st);
}
static long p_lstat(const char *p)
{
	struct stat st;
	return lstat(p, &st);
}
static long p_statx(const char *p)
{
	struct statx st;
	return statx(AT_FDCWD, p, 0, STATX_ALL, &st);
}
static long p_statfs(const char *p)
{
	struct statfs st;
	return statfs(p, &st);
}
static long p_access(const char *p)
{
	return access(p, F_OK);
}
static long p_chmod(const char *p)
{
	return chmod(p, 0600);
}
static long p_chown(const char *p)
{
	return chown(p, 0, 0);
}
static long p_lchown(const char *p)
{
	return lchown(p, 0, 0);
}
static long p_truncate(const char *p)
{
	return truncate(p, 3);
}
static long p_utimensat(const char *p)
{
	return utimensat(AT_FDCWD, p, NULL, 0);
}
static long p_mkdir(const char *p)
{
	return mkdir(p, 0755);
}
static long p_rmdir(const char *p)
{
	return rmdir(p);
}
static long p_unlink(const char *p)
{
	return unlink(p);
}
static long p_mknod(const char *p)
{
	return mknod(p, S_IFREG | 0644, 0);
}
static long p_mkfifo(const char *p)
{
	return mknod(p, S_IFIFO | 0644, 0);
}
static long p_link_old(const char *p)
{
	return link(p, "new");
}
static long p_link_new(const char *p)
{
	return link("f", p);
}
static long p_symlink(const char *p)
{
	return symlink("f", p);
}
static long p_readlink(const char *p)
{
	char buf[100];
	return readlink(p, buf, sizeof(buf));
}
static long p_rename_old(const char *p)
{
	return rename(p, "new");
}
static long p_rename_new(const char *p)
{
	return rename("f", p);
}
static long p_chdir(const char *p)
{
	return chdir(p);
}
static long p_chroot(const char *p)
{
	return chroot(p);
}
static long p_execve(const char *p)
{
	char *argv[] = {"x", NULL};
	return execve(p, argv, argv + 1);
}
static long p_getxattr(const char *p)
{
	char buf[100];
	return getxattr(p, "user.a", buf, sizeof(buf));
}
static long p_setxattr(const char *p)
{
	return setxattr(p, "user.a", "v", 1, 0);
}
static long p_listxattr(const char *p)
{
	char buf[100];
	return listxattr(p, buf, sizeof(buf));
}
static long p_removexattr(const char *p)
{
	return removexattr(p, "user.a");
}
static long p_inotify(const char *p)
{
	return inotify_add_watch(inotify_init(), p, IN_ALL_EVENTS);
}
static long p_handle(const char *p)
{
	struct {
		struct file_handle h;
		char room[MAX_HANDLE_SZ];
	} handle = {.h.handle_bytes = MAX_HANDLE_SZ};
	int mount_id;

	return name_to_handle_at(AT_FDCWD, p, &handle.h, &mount_id, AT_SYMLINK_FOLLOW);
}
static long p_swapon(const char *p)
{
	return swapon(p, 0);
}

enum {
	MAKES = 1,    /* a name that need not be there */
	NOFOLLOW = 2, /* a link at the end is not followed */
	DIRECTORY = 4,
	HEAVY = 8, /* not for users */
};

static const struct call {
	const char *name;
	long (*call)(const char *path);
	unsigned int flags;
} path_calls[] = {
	{"open", p_open, 0},
	{"open(O_PATH)", p_open_path, 0},
	{"creat", p_creat, MAKES},
	{"stat", p_stat, 0},
	{"lstat", p_lstat, NOFOLLOW},
	{"statx", p_statx, 0},
	{"statfs", p_statfs, 0},
	{"access", p_access, 0},
	{"chmod", p_chmod, 0},
	{"chown", p_chown, 0},
	{"lchown", p_lchown, NOFOLLOW},
	{"truncate", p_truncate, 0},
	{"utimensat", p_utimensat, 0},
	{"mkdir", p_mkdir, MAKES | NOFOLLOW | DIRECTORY},
	{"rmdir", p_rmdir, NOFOLLOW | DIRECTORY},
	{"unlink", p_unlink, NOFOLLOW},
	{"mknod", p_mknod, MAKES | NOFOLLOW},
	{"mknod(fifo)", p_mkfifo, MAKES | NOFOLLOW},
	{"link(old)", p_link_old, NOFOLLOW},
	{"link(new)", p_link_new, MAKES | NOFOLLOW},
	{"symlink", p_symlink, MAKES | NOFOLLOW},
	{"readlink", p_readlink, NOFOLLOW},
	{"rename(old)", p_rename_old, NOFOLLOW},
	{"rename(new)", p_rename_new, MAKES | NOFOLLOW},
	{"chdir", p_chdir, DIRECTORY},
	{"chroot", p_chroot, DIRECTORY | HEAVY},
	{"execve", p_execve, 0},
	{"getxattr", p_getxattr, 0},
	{"setxattr", p_setxattr, 0},
	{"listxattr", p_listxattr, 0},
	{"removexattr", p_removexattr, 0},
	{"inotify_add_watch", p_inotify, 0},
	{"name_to_handle_at", p_handle, 0},
	{"swapon", p_swapon, HEAVY},
};

static const struct bad_path {
	const char *error, *what;
	const char *path;
	unsigned int not_for;  /* calls with these flags */
	unsigned int only_for; /* with all of these */
	bool user;
} bad_paths[] = {
	{"ENOENT", "no such name", "none", MAKES, 0},
	{"ENOENT", "an empty path", "", 0, 0},
	{"ENOENT", "a parent is missing", "none/x", 0, 0},
	{"ENOENT", "a dangling link", "dang", MAKES | NOFOLLOW, 0},
	{"ENOENT", "a dangling link in the middle", "dang/x", 0, 0},
	{"EEXIST", "the name is there", "f", 0, MAKES | NOFOLLOW},
	{"EEXIST", "a dangling link is there", "dang", 0, MAKES | NOFOLLOW},
	{"ENOTDIR", "a file in the middle", "f/x", 0, 0},
	{"ENOTDIR", "a fifo in the middle", "p/x", 0, 0},
	{"ENOTDIR", "a link to a file in the middle", "l/x", 0, 0},
	{"ENOTDIR", "a file with a slash behind", "f/", MAKES, 0},
	{"ENOTDIR", "a file where a directory is wanted", "f", MAKES, DIRECTORY},
	{"ELOOP", "a loop of links", "loop", NOFOLLOW, 0},
	{"ELOOP", "a loop of links in the middle", "loop/x", 0, 0},
	{"ENAMETOOLONG", "a name of 256 bytes", name256, 0, 0},
	{"ENAMETOOLONG", "a name of 256 bytes in the middle", NULL, 0, 0},
	{"ENAMETOOLONG", "a path of 4096 bytes", path4096, 0, 0},
	{"EFAULT", "a bad address", (char *)8, 0, 0},
	{"EACCES", "no search permission in the middle", "locked/x", HEAVY, 0, true},
	{"EACCES", "no search permission, no such name", "locked/none", HEAVY, 0, true},
	{"EACCES", "no write permission in the directory", "d/new", HEAVY, MAKES, true},
};

struct pair {
	const struct call *call;
	const struct bad_path *path;
};

static void run_pair(const void *arg)
{
	const struct pair *pair = arg;
	const char *path = pair->path->path;
	char middle[300];

	if (!path) {
		snprintf(middle, sizeof(middle), "%s/x", name256);
		path = middle;
	}
	if (pair->path->user) {
		MUST(!mkdir("locked", 0755));
		put("locked/x", "x", 0666);
		MUST(!chmod("locked", 0600) && !chown("f", 1000, 1000));
		become(1000);
	}
	r(pair->call->call(path));
	/* What refuses leaves nothing behind. */
	if (!access("new", F_OK))
		say("left-new");
}

static bool is_mentioned(const struct call *call, const struct bad_path *path)
{
	/* rename() replaces; the page of swapon has a list of its own. */
	if (!strcmp(path->error, "EEXIST") && !strcmp(call->name, "rename(new)"))
		return false;
	return !(call->flags & path->not_for) && (call->flags & path->only_for) == path->only_for;
}

static void __attribute__((constructor)) register_pairs(void)
{
	static struct posix_case cases[sizeof(path_calls) / sizeof(path_calls[0]) *
				       sizeof(bad_paths) / sizeof(bad_paths[0])];
	static struct pair pairs[sizeof(cases) / sizeof(cases[0])];
	size_t i, j, nr = 0;
	char title[200];

	for (i = 0; i < sizeof(path_calls) / sizeof(path_calls[0]); i++) {
		for (j = 0; j < sizeof(bad_paths) / sizeof(bad_paths[0]); j++) {
			if (!is_mentioned(&path_calls[i], &bad_paths[j]))
				continue;
			snprintf(title, sizeof(title), "%s: %s: %s", path_calls[i].name,
				 bad_paths[j].error, bad_paths[j].what);
			pairs[nr] = (struct pair){&path_calls[i], &bad_paths[j]};
			cases[nr] = (struct posix_case){
				.name = strdup(title),
				.file = __FILE__,
				.line = (int)nr,
				.run = run_pair,
				.arg = &pairs[nr],
			};
			case_register(&cases[nr++]);
		}
	}
}

ROW("open: ok: a path of 4095 bytes", open(path4095, O_RDONLY))
ROW("open: ok: a name of 255 bytes", open(name255, O_CREAT | O_EXCL | O_RDWR, 0644))
ROW("open: ENOENT: no such name of 255 bytes", open(name255, O_RDONLY))
ROW("mkdir: ok: a name of 255 bytes", mkdir(name255, 0755))
ROW("mkdir: ok: a name with a slash behind", mkdir("new/", 0755))
ROW("mkdir: EEXIST: a directory with a slash behind", mkdir("d/", 0755))
ROW("creat: EISDIR: a new name with a slash behind", creat("new/", 0644))
ROW("mknod: ENOENT: a new name with a slash behind", mknod("new/", S_IFREG | 0644, 0))
ROW("link(new): ENOENT: a new name with a slash behind", link("f", "new/"))
ROW("symlink: ENOENT: a new name with a slash behind", symlink("f", "new/"))
ROW("rename: ENOTDIR: a file to a new name with a slash behind", rename("f", "new/"))
ROW("rename: ok: a directory to a new name with a slash behind", rename("d", "new/"))
ROW("rename: ENOTDIR: a link to a directory with a slash behind", rename("dl/", "new"))
ROW("unlink: ENOTDIR: a link to a directory with a slash behind", unlink("dl/"))
ROW("rmdir: ENOTDIR: a link to a directory", rmdir("dl"))
ROW("rmdir: ENOTDIR: a link to a directory with a slash behind", rmdir("dl/"))
ROW("lstat: ok: a link to a directory with a slash behind", open("dl/", O_RDONLY | O_NOFOLLOW))
ROW("rmdir: EINVAL: the path ends with a dot", rmdir("e/."))
ROW("rmdir: ENOTEMPTY: the path ends with two dots", rmdir("e/.."))
ROW("rename: EBUSY: the path ends with a dot", rename("e/.", "new"))
ROW("rename: EBUSY: the new path ends with a dot", rename("e", "d/."))
ROW("rename: EBUSY: the path ends with two dots", rename("e/..", "new"))
ROW("unlink: EISDIR: the path ends with a dot", unlink("e/."))
ROW("mkdir: EEXIST: the path ends with a dot", mkdir("e/.", 0755))
ROW("mkdir: EEXIST: the path ends with two dots", mkdir("e/..", 0755))
ROW("rmdir: EBUSY: the root of the mount", rmdir(top_dir))
ROW("rename: EXDEV: the root of the mount", rename(top_dir, "new"))

CASE("lookup: ok: 40 links one behind the other")
{
	char old[20] = "f", new[20];
	int i;

	for (i = 0; i < 40; i++) {
		snprintf(new, sizeof(new), "l%d", i);
		MUST(!symlink(old, new));
		strcpy(old, new);
	}
	r(open(old, O_RDONLY));
}

CASE("lookup: ELOOP: 41 links one behind the other")
{
	char old[20] = "f", new[20];
	int i;

	for (i = 0; i < 41; i++) {
		snprintf(new, sizeof(new), "l%d", i);
		MUST(!symlink(old, new));
		strcpy(old, new);
	}
	r(open(old, O_RDONLY));
}

CASE("lookup: ok: names of one byte, of every value")
{
	char name[2] = "";
	int c, made = 0, found = 0;

	MUST(!chdir("e"));
	for (c = 1; c < 256; c++) {
		name[0] = (char)c;
		if (c == '/' || c == '.')
			continue;
		made += mknod(name, S_IFREG | 0644, 0) == 0;
	}
	for (c = 1; c < 256; c++) {
		name[0] = (char)c;
		if (c != '/' && c != '.')
			found += access(name, F_OK) == 0;
	}
	say("made=%d found=%d", made, found);
}

CASE("lookup: ok: names of 255 bytes, of every value")
{
	char name[256] = "";
	int c, made = 0, found = 0;

	MUST(!chdir("e"));
	for (c = 1; c < 256; c++) {
		memset(name, c, 255);
		if (c != '/')
			made += mknod(name, S_IFREG | 0644, 0) == 0;
	}
	for (c = 1; c < 256; c++) {
		memset(name, c, 255);
		found += access(name, F_OK) == 0;
	}
	say("made=%d found=%d", made, found);
}

CASE("lookup: ok: names that differ in case or in the form of a letter are two")
{
	MUST(!chdir("e"));
	put("name", "1", 0644);
	put("NAME", "2", 0644);
	put("\xc3\xa9", "3", 0644);
	put("e\xcc\x81", "4", 0644);
	put("\xff\xfe", "5", 0644);
	put(" ", "6", 0644);
	put("...", "7", 0644);
	content("name");
	content("NAME");
	content("\xc3\xa9");
	content("e\xcc\x81");
	content("\xff\xfe");
	content(" ");
	content("...");
}

CASE("lookup: ok: a negative answer does not stay")
{
	r(access("new", F_OK));
	put("new", "", 0644);
	r(access("new", F_OK));
	unlink("new");
	r(access("new", F_OK));
	mkdir("new", 0755);
	r(access("new/", F_OK));
}

CASE("lookup: ok: from inside of a removed directory")
{
	MUST(!chdir("e"));
	MUST(!rmdir("../e"));
	r(access(".", F_OK));
	r(access("..", F_OK));
	r(access("x", F_OK));
	r(open("new", O_CREAT | O_RDWR, 0644));
	r(mkdir("new", 0755));
	r(symlink("a", "new"));
	r(link("../f", "new"));
	r(rename("../f", "new"));
	r(mknod("new", S_IFIFO, 0));
	show(".");
}

CASE("open(O_TMPFILE): EPERM: the directory was removed")
{
	MUST(!chdir("e"));
	MUST(!rmdir("../e"));
	r(open(".", O_TMPFILE | O_RDWR, 0644));
}

CASE("getcwd: ENOENT: the directory was removed")
{
	char buf[PATH_MAX];

	MUST(!chdir("e"));
	MUST(!rmdir("../e"));
	r(getcwd(buf, sizeof(buf)) ? 0 : -1);
}

CASE("lookup: ok: a tree of 1,000 levels")
{
	int i, ok = 0, gone = 0;

	for (i = 0; i < 1000; i++)
		ok += !mkdir("deep", 0755) && !chdir("deep");
	for (i = 0; i < 1000; i++)
		gone += !chdir("..") && !rmdir("deep");
	say("%d %d", ok, gone);
}
