/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where a device or image is mounted. A daemon's mount names its source; that may be any name of
 * the file, so the files are compared too, and for that the source is looked up. A lookup through
 * a filesystem whose server is gone or stopped never returns: sources that lie below a mount of
 * such a kind, and those on whose way there is a linked directory by now, are compared by name
 * only. A source that is a symbolic link itself is followed by hand, so that each of its targets
 * is looked at before.
 */
#include "dev/bdev_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A line of mountinfo. */
struct mount_line {
	unsigned int major, minor;
	char *point, *fstype, *source;
};

/* Undoes the octal escapes of mountinfo, in place. */
static void unescape(char *s)
{
	char *out = s;

	while (*s) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*out++ = (char)(((s[1] & 7) << 6) | ((s[2] & 7) << 3) | (s[3] & 7));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = 0;
}

static bool parse_mount_line(char *line, struct mount_line *ret)
{
	char *save, *tok, *sep = strstr(line, " - ");
	int field = 0;

	if (!sep)
		return false;
	*sep = 0;
	for (tok = strtok_r(line, " ", &save); tok; tok = strtok_r(NULL, " ", &save)) {
		if (field == 2 && sscanf(tok, "%u:%u", &ret->major, &ret->minor) != 2)
			return false;
		if (field == 4)
			ret->point = tok;
		field++;
	}
	ret->fstype = strtok_r(sep + 3, " ", &save);
	ret->source = strtok_r(NULL, " ", &save);
	if (field < 5 || !ret->fstype || !ret->source)
		return false;
	unescape(ret->point);
	unescape(ret->source);
	return true;
}

/* Is there somebody who must answer for a lookup in it to end? */
static bool is_served(const char *fstype)
{
	static const char *const kinds[] = {"fuse", "nfs", "cifs",   "smb",	"9p",
					    "ceph", "afs", "autofs", "virtiofs"};

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strncmp(fstype, kinds[i], strlen(kinds[i])))
			return true;
	return false;
}

static bool lies_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	while (len && dir[len - 1] == '/')
		len--;
	return !strncmp(path, dir, len) && (path[len] == '/' || !path[len]);
}

/* The next line of *text, parsed, in memory to be freed; NULL at the end. */
static char *next_mount(const char **text, struct mount_line *ret)
{
	while (**text) {
		size_t len = strcspn(*text, "\n");
		char *line = strndup(*text, len);

		*text += len + ((*text)[len] == '\n');
		if (line && parse_mount_line(line, ret))
			return line;
		free(line);
	}
	return NULL;
}

static bool way_is_served(const char *mountinfo, const char *path)
{
	struct mount_line m;
	bool served = false;
	char *line;

	while (!served && (line = next_mount(&mountinfo, &m))) {
		served = is_served(m.fstype) && lies_below(path, m.point);
		free(line);
	}
	return served;
}

/* Is `path` the file of *st? Symbolic links are not followed, nothing is opened or mounted. */
static bool is_file_of(const char *path, const struct stat *st)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC,
			       .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
	struct stat other;
	int fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

	/* Older kernels, and sandboxes that do not know the call. */
	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool same =
		!fstat(fd, &other) &&
		((S_ISBLK(st->st_mode) && S_ISBLK(other.st_mode) && other.st_rdev == st->st_rdev) ||
		 (other.st_dev == st->st_dev && other.st_ino == st->st_ino));
	close(fd);
	return same;
}

#define MAX_LINKS 8

/* The target of the symbolic link `path`, absolute, in its place; false: it is none. */
static bool follow_link(char *path, size_t size)
{
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
			       .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
	char target[PATH_MAX], *rest = target, *joined, *base = strrchr(path, '/');
	ssize_t len = -1;

	if (!base)
		return false;
	*base = 0;
	int fd = syscall(SYS_openat2, AT_FDCWD, *path ? path : "/", &how, sizeof(how));

	if (fd >= 0) {
		len = readlinkat(fd, base + 1, target, sizeof(target) - 1);
		close(fd);
	}
	if (len <= 0)
		return false;
	target[len] = 0;
	/* No link is on the way, so ".." is what the text says. */
	for (; !strncmp(rest, "../", 3); rest += 3)
		*(strrchr(path, '/') ?: path) = 0;
	if (strstr(rest, "./") || strstr(rest, "//") ||
	    asprintf(&joined, "%s%s%s", *rest == '/' ? "" : path, *rest == '/' ? "" : "/", rest) <
		    0)
		return false;
	bool fits = strlen(joined) < size;

	if (fits)
		strcpy(path, joined);
	free(joined);
	return fits;
}

static bool leads_to(const char *mountinfo, const char *source, const struct stat *st)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", source);
	for (unsigned i = 0; i < MAX_LINKS; i++) {
		if (*path != '/' || way_is_served(mountinfo, path))
			return false;
		if (is_file_of(path, st))
			return true;
		if (!follow_link(path, sizeof(path)))
			return false;
	}
	return false;
}

static bool is_mount_of(const char *mountinfo, const struct mount_line *m, const char *path,
			const char *real, const struct stat *st)
{
	if (S_ISBLK(st->st_mode) && makedev(m->major, m->minor) == st->st_rdev)
		return true;
	if (strncmp(m->fstype, "fuse", 4))
		return false;
	if (!strcmp(m->source, path) || (real && !strcmp(m->source, real)))
		return true;
	if (strcmp(m->fstype, "fuse.bcfs") && strcmp(m->fstype, "fuseblk"))
		return false;
	return leads_to(mountinfo, m->source, st);
}

bool bdev_mount_in(const char *mountinfo, const char *path, const struct stat *st, char *point,
		   size_t size)
{
	char *real = realpath(path, NULL), *line;
	const char *next = mountinfo;
	struct mount_line m;
	bool found = false;

	while (!found && (line = next_mount(&next, &m))) {
		found = is_mount_of(mountinfo, &m, path, real, st);
		if (found)
			snprintf(point, size, "%s", m.point);
		free(line);
	}
	free(real);
	return found;
}

bool bdev_find_mount(const char *path, const struct stat *st, char *point, size_t size)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *text = NULL;
	size_t text_size = 0;
	/* It has no NUL: this is all of it. */
	bool found = file && getdelim(&text, &text_size, 0, file) > 0 &&
		     bdev_mount_in(text, path, st, point, size);

	free(text);
	if (file)
		fclose(file);
	return found;
}

bool bdev_mounted_on(const char *path, char *point, size_t size)
{
	struct stat st;

	return !stat(path, &st) && bdev_find_mount(path, &st, point, size);
}
