// SPDX-License-Identifier: LGPL-2.1-or-later
/* Extended attributes and POSIX ACLs. */
#include <sys/xattr.h>

#include "calls.h"

static char big[1 << 17];

static void value(const char *path, const char *name)
{
	char buf[1000];
	ssize_t len = getxattr(path, name, buf, sizeof(buf) - 1);

	if (len < 0) {
		r(-1);
		return;
	}
	buf[len] = 0;
	say("\"%s\"", buf);
}

/* The names of user.* and trusted.*, sorted as they come, how many bytes. */
static void list(const char *path)
{
	char buf[10000];
	ssize_t len = llistxattr(path, buf, sizeof(buf)), i;

	if (len < 0) {
		r(-1);
		return;
	}
	say("%zd", len);
	for (i = 0; i < len; i += (ssize_t)strlen(buf + i) + 1)
		say("%.40s", buf + i);
}

static char *long_name(const char *prefix, size_t len)
{
	static char name[400];

	memset(name, 'n', len);
	name[len] = 0;
	memcpy(name, prefix, strlen(prefix));
	return name;
}

CASE("setxattr: ok: each namespace")
{
	r(setxattr("f", "user.a", "1", 1, 0));
	r(setxattr("f", "trusted.a", "2", 1, 0));
	r(setxattr("f", "security.a", "3", 1, 0));
	value("f", "user.a");
	value("f", "trusted.a");
	value("f", "security.a");
}

ROW("setxattr: EOPNOTSUPP: an unknown namespace", setxattr("f", "other.a", "1", 1, 0))
ROW("setxattr: EOPNOTSUPP: no namespace", setxattr("f", "a", "1", 1, 0))
ROW("setxattr: EINVAL: a namespace alone", setxattr("f", "user.", "1", 1, 0))
ROW("getxattr: EINVAL: a namespace alone", getxattr("f", "user.", big, 10))
ROW("setxattr: EOPNOTSUPP: system namespace", setxattr("f", "system.a", "1", 1, 0))
ROW("setxattr: ERANGE: an empty name", setxattr("f", "", "1", 1, 0))
ROW("setxattr: ERANGE: a name of 256 bytes", setxattr("f", long_name("user.", 256), "1", 1, 0))
ROW("setxattr: ok: a name of 255 bytes", setxattr("f", long_name("user.", 255), "1", 1, 0))
ROW("setxattr: E2BIG: a value over 64 KiB", setxattr("f", "user.a", big, 65537, 0))
ROW("setxattr: EEXIST: XATTR_CREATE",
    setxattr("f", "user.a", "1", 1, 0) ?: setxattr("f", "user.a", "2", 1, XATTR_CREATE))
ROW("setxattr: ok: XATTR_CREATE", setxattr("f", "user.a", "1", 1, XATTR_CREATE))
ROW("setxattr: ENODATA: XATTR_REPLACE", setxattr("f", "user.a", "1", 1, XATTR_REPLACE))
ROW("setxattr: EINVAL: an unknown flag", setxattr("f", "user.a", "1", 1, 8))
ROW("setxattr: EFAULT: a value at a bad address", setxattr("f", "user.a", bad_ptr, 1, 0))
ROW("setxattr: EFAULT: a name at a bad address", setxattr("f", bad_ptr, "1", 1, 0))
ROW("setxattr: EPERM: user namespace, a fifo", setxattr("p", "user.a", "1", 1, 0))
ROW("lsetxattr: EPERM: user namespace, a link", lsetxattr("l", "user.a", "1", 1, 0))
ROW("lsetxattr: ok: trusted namespace, a link", lsetxattr("l", "trusted.a", "1", 1, 0))
ROW("setxattr: ok: trusted namespace, a fifo", setxattr("p", "trusted.a", "1", 1, 0))
ROW("setxattr: ok: a directory", setxattr("d", "user.a", "1", 1, 0))
ROW("fsetxattr: EBADF: a bad descriptor", fsetxattr(-1, "user.a", "1", 1, 0))
ROW("fsetxattr: EBADF: O_PATH", fsetxattr(file("f", O_PATH), "user.a", "1", 1, 0))
ROW("fsetxattr: ok: open to read", fsetxattr(file("f", O_RDONLY), "user.a", "1", 1, 0))
USER_ROW("setxattr: EACCES: user namespace, a file that may not be written",
	 setxattr("f", "user.a", "1", 1, 0))
USER_ROW("setxattr: EPERM: trusted namespace, as a user", setxattr("f", "trusted.a", "1", 1, 0))
USER_ROW("setxattr: EPERM: security namespace, as a user", setxattr("f", "security.a", "1", 1, 0))

CASE("setxattr: EPERM: user namespace, a sticky directory of another")
{
	MUST(!chmod("d", 01777));
	become(1000);
	r(setxattr("d", "user.a", "1", 1, 0));
}

CASE("getxattr: ENODATA: trusted namespace, as a user")
{
	MUST(!setxattr("f", "trusted.a", "1", 1, 0));
	become(1000);
	value("f", "trusted.a");
	list("f");
}

CASE("getxattr: EACCES: user namespace, a file that may not be read")
{
	MUST(!setxattr("f", "user.a", "1", 1, 0) && !chmod("f", 0600));
	become(1000);
	value("f", "user.a");
	list("f");
}

CASE("getxattr: ok: sizes")
{
	char buf[10];

	MUST(!setxattr("f", "user.a", "12345", 5, 0));
	n(getxattr("f", "user.a", NULL, 0));
	n(getxattr("f", "user.a", buf, 10));
	n(getxattr("f", "user.a", buf, 5));
}

CASE("getxattr: ERANGE: a buffer too small")
{
	char buf[10];

	MUST(!setxattr("f", "user.a", "12345", 5, 0));
	r(getxattr("f", "user.a", buf, 4));
	r(listxattr("f", buf, 4));
	r(getxattr("f", "user.a", bad_ptr, 10));
}

ROW("getxattr: ENODATA: no such attribute", getxattr("f", "user.none", big, 10))
ROW("getxattr: ENODATA: trusted, no such attribute", getxattr("f", "trusted.none", big, 10))
ROW("getxattr: ENODATA: security.capability", getxattr("f", "security.capability", big, 10))
ROW("getxattr: ENODATA: no access ACL", getxattr("f", "system.posix_acl_access", big, 100))
ROW("getxattr: ENODATA: user namespace, a fifo", getxattr("p", "user.a", big, 10))
ROW("getxattr: EOPNOTSUPP: an unknown namespace", getxattr("f", "other.a", big, 10))
ROW("getxattr: ERANGE: a name of 256 bytes", getxattr("f", long_name("user.", 256), big, 10))
ROW("getxattr: EFAULT: a name at a bad address", getxattr("f", bad_ptr, big, 10))
ROW("fgetxattr: EBADF: a bad descriptor", fgetxattr(-1, "user.a", big, 10))
ROW("listxattr: EFAULT: a list at a bad address",
    setxattr("f", "user.a", "1", 1, 0) ?: listxattr("f", bad_ptr, 100))
ROW("flistxattr: EBADF: a bad descriptor", flistxattr(-1, big, 10))
ROW("removexattr: ENODATA: no such attribute", removexattr("f", "user.none"))
ROW("removexattr: EOPNOTSUPP: an unknown namespace", removexattr("f", "other.a"))
ROW("removexattr: EINVAL: a namespace alone", removexattr("f", "user."))
ROW("removexattr: EPERM: user namespace, a fifo", removexattr("p", "user.a"))
ROW("fremovexattr: EBADF: a bad descriptor", fremovexattr(-1, "user.a"))
USER_ROW("removexattr: EACCES: a file that may not be written", removexattr("f", "user.a"))
USER_ROW("removexattr: EPERM: trusted namespace, as a user", removexattr("f", "trusted.a"))

CASE("setxattr: ok: the times")
{
	watch("f");
	r(setxattr("f", "user.a", "1", 1, 0));
	changed("f");
	watch("f");
	r(removexattr("f", "user.a"));
	changed("f");
	watch("f");
	value("f", "user.a");
	list("f");
	changed("f");
}

CASE("listxattr: ok: all, and none")
{
	list("f");
	r(setxattr("f", "user.one", "1", 1, 0));
	list("f");
	r(setxattr("f", "trusted.two", "1", 1, 0));
	n(listxattr("f", NULL, 0));
	r(removexattr("f", "user.one"));
	list("f");
}

CASE("setxattr: ok: an empty value")
{
	r(setxattr("f", "user.a", "", 0, 0));
	value("f", "user.a");
	r(setxattr("f", "user.b", NULL, 0, 0));
	n(getxattr("f", "user.b", big, 100));
}

CASE("setxattr: ok: smaller and larger over the old one")
{
	static const int sizes[] = {1, 100, 1000, 3000, 10, 2000, 0, 3900};
	size_t i;
	char buf[5000];

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		memset(big, 'a' + (int)i, (size_t)sizes[i]);
		if (setxattr("f", "user.a", big, (size_t)sizes[i], 0))
			r(-1);
		else if (getxattr("f", "user.a", buf, sizeof(buf)) != sizes[i] ||
			 memcmp(buf, big, (size_t)sizes[i]))
			say("bad");
		else
			say("%d", sizes[i]);
	}
}

CASE("setxattr: ENOSPC: a value of 16 KiB")
{
	r(setxattr("f", "user.a", big, 16384, 0));
	n(getxattr("f", "user.a", NULL, 0));
}

CASE("setxattr: ENOSPC: a value of 64 KiB")
{
	r(setxattr("f", "user.a", big, 65536, 0));
	n(getxattr("f", "user.a", NULL, 0));
	value("f", "user.b");
}

CASE("setxattr: ENOSPC: 200 attributes of 100 bytes")
{
	char name[30];
	int i, made = 0;

	for (i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "user.number-%d", i);
		if (setxattr("f", name, big, 100, 0))
			break;
		made++;
	}
	if (made < 200)
		r(-1);
	n(made == 200);
}

CASE("setxattr: ok: a name and a value of any bytes")
{
	char name[240] = "user.", got[300];
	int i;

	for (i = 0; i < 200; i++)
		name[5 + i] = (char)(i + 20);
	name[205] = 0;
	for (i = 0; i < 256; i++)
		big[i] = (char)i;
	r(setxattr("f", name, big, 256, 0));
	n(getxattr("f", name, got, sizeof(got)));
	say("%d", memcmp(got, big, 256));
	n(listxattr("f", got, sizeof(got)));
	say("%d", strcmp(got, name));
}

CASE("setxattr: ok: names that differ in case are two")
{
	r(setxattr("f", "user.a", "1", 1, 0));
	r(setxattr("f", "user.A", "2", 1, 0));
	r(setxattr("f", "user.a.b", "3", 1, 0));
	value("f", "user.a");
	value("f", "user.A");
	value("f", "user.a.b");
	n(listxattr("f", NULL, 0));
}

CASE("setxattr: ok: through links, and by a descriptor of a removed file")
{
	int fd = file("f", O_RDWR);

	r(setxattr("l", "user.a", "1", 1, 0));
	value("f", "user.a");
	MUST(!unlink("f"));
	r(fsetxattr(fd, "user.b", "2", 1, 0));
	n(fgetxattr(fd, "user.a", big, 10));
	n(fgetxattr(fd, "user.b", big, 10));
}

CASE("setxattr: ok: security.capability goes when the file is written")
{
	/* Version 2, cap_net_raw permitted and effective. */
	static const unsigned char cap[20] = {1, 0, 0, 2, 0, 0x20};
	int fd;

	MUST(!chmod("f", 0777));
	r(setxattr("f", "security.capability", cap, 20, 0));
	n(getxattr("f", "security.capability", big, 100));
	fd = file("f", O_WRONLY);
	n(write(fd, "a", 1));
	n(getxattr("f", "security.capability", big, 100));
}

CASE("chown: ok: security.capability goes")
{
	static const unsigned char cap[20] = {1, 0, 0, 2, 0, 0x20};

	r(setxattr("f", "security.capability", cap, 20, 0));
	r(chown("f", 1000, 1000));
	n(getxattr("f", "security.capability", big, 100));
}

CASE("truncate: ok: security.capability goes")
{
	static const unsigned char cap[20] = {1, 0, 0, 2, 0, 0x20};

	r(setxattr("f", "security.capability", cap, 20, 0));
	r(truncate("f", 3));
	n(getxattr("f", "security.capability", big, 100));
}

CASE("setxattr: EINVAL: security.capability that is none")
{
	r(setxattr("f", "security.capability", "abc", 3, 0));
}

/* ---- ACLs ---- */

#define ACCESS	"system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

struct acl {
	uint32_t version;
	struct entry {
		uint16_t tag, perm;
		uint32_t id;
	} e[8];
};

/* rw for the owner, `user` for the user 1000, `group` for the group, mask, nothing for others. */
static struct acl acl_of(int user, int group, int mask)
{
	return (struct acl){.version = 2,
			    .e = {{USER_OBJ, 6, ~0U},
				  {USER, (uint16_t)user, 1000},
				  {GROUP_OBJ, (uint16_t)group, ~0U},
				  {MASK, (uint16_t)mask, ~0U},
				  {OTHER, 0, ~0U}}};
}

#define ACL_SIZE(nr) (4 + 8 * (nr))

static void show_acl(const char *path, const char *name)
{
	struct acl acl;
	ssize_t len = getxattr(path, name, &acl, sizeof(acl)), i;

	if (len < 0) {
		r(-1);
		return;
	}
	for (i = 0; i < (len - 4) / 8; i++) {
		if (acl.e[i].tag == USER || acl.e[i].tag == GROUP)
			say("%u:%u:%u", acl.e[i].tag, acl.e[i].id, acl.e[i].perm);
		else
			say("%u::%u", acl.e[i].tag, acl.e[i].perm);
	}
}

CASE("acl: ok: set, read, its mask is the group's bits")
{
	struct acl acl = acl_of(6, 4, 6);

	watch("f");
	r(setxattr("f", ACCESS, &acl, ACL_SIZE(5), 0));
	changed("f");
	show_acl("f", ACCESS);
	mode("f");
	list("f");
	r(chmod("f", 0640));
	show_acl("f", ACCESS);
	r(removexattr("f", ACCESS));
	mode("f");
	show_acl("f", ACCESS);
}

CASE("acl: ok: one that says no more than the mode is not kept")
{
	struct acl acl = {.version = 2,
			  .e = {{USER_OBJ, 7, ~0U}, {GROUP_OBJ, 5, ~0U}, {OTHER, 1, ~0U}}};

	r(setxattr("f", ACCESS, &acl, ACL_SIZE(3), 0));
	mode("f");
	show_acl("f", ACCESS);
	list("f");
}

CASE("acl: EACCES: the mask limits the user")
{
	struct acl acl = acl_of(6, 4, 4);

	r(setxattr("f", ACCESS, &acl, ACL_SIZE(5), 0));
	become(1000);
	r(open("f", O_RDONLY));
	r(open("f", O_RDWR));
	r(access("f", W_OK));
}

CASE("acl: ok: rights of a user in the list")
{
	struct acl acl = acl_of(6, 4, 6);

	r(setxattr("f", ACCESS, &acl, ACL_SIZE(5), 0));
	become(1000);
	r(open("f", O_RDWR));
}

CASE("acl: EACCES: a user in the list without rights, though others have some")
{
	struct acl acl = acl_of(0, 4, 6);

	acl.e[4].perm = 6;
	r(setxattr("f", ACCESS, &acl, ACL_SIZE(5), 0));
	become(1000);
	r(open("f", O_RDONLY));
}

static void open_f(void)
{
	r(open("f", O_RDONLY));
}

CASE("acl: EACCES: others are not in the list")
{
	struct acl acl = acl_of(6, 4, 6);

	r(setxattr("f", ACCESS, &acl, ACL_SIZE(5), 0));
	as_user(1001, open_f);
	as_user(1000, open_f);
}

CASE("acl: ok: a group in the list")
{
	struct acl acl = acl_of(0, 0, 7);

	acl.e[1] = acl.e[2];
	acl.e[2] = (struct entry){GROUP, 4, 1001};
	r(setxattr("f", ACCESS, &acl, ACL_SIZE(5), 0));
	become_with(1000, 1001);
	r(open("f", O_RDONLY));
	r(open("f", O_RDWR));
}

CASE("acl: ok: default ACL, inherited by a file, without umask")
{
	struct acl acl = acl_of(7, 5, 7);

	r(setxattr("d", DEFAULT, &acl, ACL_SIZE(5), 0));
	mode("d");
	umask(077);
	r(open("d/new", O_CREAT | O_RDWR, 0666));
	mode("d/new");
	show_acl("d/new", ACCESS);
	show_acl("d/new", DEFAULT);
}

CASE("acl: ok: default ACL, inherited by a directory")
{
	struct acl acl = acl_of(7, 5, 7);

	r(setxattr("d", DEFAULT, &acl, ACL_SIZE(5), 0));
	r(mkdir("d/new", 0750));
	mode("d/new");
	show_acl("d/new", ACCESS);
	show_acl("d/new", DEFAULT);
	r(mknod("d/new/fifo", S_IFIFO | 0666, 0));
	mode("d/new/fifo");
	r(symlink("x", "d/new/link"));
	mode("d/new/link");
}

CASE("acl: ok: default ACL and O_TMPFILE")
{
	struct acl acl = acl_of(7, 5, 7);
	int fd;

	r(setxattr("d", DEFAULT, &acl, ACL_SIZE(5), 0));
	umask(077);
	fd = open("d", O_TMPFILE | O_RDWR, 0666);
	show_fd(fd);
	n(fgetxattr(fd, ACCESS, big, 100));
}

CASE("acl: ok: a default ACL that says no more than a mode")
{
	struct acl acl = {.version = 2,
			  .e = {{USER_OBJ, 7, ~0U}, {GROUP_OBJ, 5, ~0U}, {OTHER, 0, ~0U}}};

	r(setxattr("d", DEFAULT, &acl, ACL_SIZE(3), 0));
	umask(0);
	r(open("d/new", O_CREAT | O_RDWR, 0666));
	mode("d/new");
	show_acl("d/new", ACCESS);
	show_acl("d", DEFAULT);
	r(removexattr("d", DEFAULT));
	show_acl("d", DEFAULT);
}

CASE("acl: EACCES: a default ACL on a file")
{
	struct acl acl = acl_of(7, 5, 7);

	r(setxattr("f", DEFAULT, &acl, ACL_SIZE(5), 0));
	show_acl("f", DEFAULT);
}

CASE("acl: EINVAL: lists that are none")
{
	struct acl acl = acl_of(7, 5, 7);

	r(setxattr("f", ACCESS, &acl, ACL_SIZE(4), 0)); /* no entry for others */
	r(setxattr("f", ACCESS, &acl, ACL_SIZE(5) - 1, 0));
	acl.e[1].perm = 8;
	r(setxattr("f", ACCESS, &acl, ACL_SIZE(5), 0));
	acl.e[1].perm = 7;
	acl.e[1].tag = 3;
	r(setxattr("f", ACCESS, &acl, ACL_SIZE(5), 0));
	r(setxattr("f", ACCESS, "", 0, 0));
}

CASE("acl: EOPNOTSUPP: another version")
{
	struct acl acl = acl_of(7, 5, 7);

	acl.version = 1;
	r(setxattr("f", ACCESS, &acl, ACL_SIZE(5), 0));
}

CASE("acl: EPERM: a file of another")
{
	struct acl acl = acl_of(7, 5, 7);

	become(1000);
	r(setxattr("f", ACCESS, &acl, ACL_SIZE(5), 0));
	r(removexattr("f", ACCESS));
}

CASE("acl: ok: setting one clears set-group-ID where the owner is not in the group")
{
	struct acl acl = acl_of(7, 5, 7);

	put("sgid", "", 02775);
	MUST(!chown("sgid", 1000, 1001) && !chmod("sgid", 02775));
	become(1000);
	r(setxattr("sgid", ACCESS, &acl, ACL_SIZE(5), 0));
	mode("sgid");
}

CASE("acl: ok: 20 entries")
{
	struct {
		struct acl head;
		struct entry more[30];
	} acl = {.head = {.version = 2}};
	struct entry *e = acl.head.e;
	int i;

	*e++ = (struct entry){USER_OBJ, 6, ~0U};
	for (i = 0; i < 20; i++)
		*e++ = (struct entry){USER, 4, (uint32_t)(2000 + i)};
	*e++ = (struct entry){GROUP_OBJ, 4, ~0U};
	*e++ = (struct entry){MASK, 6, ~0U};
	*e++ = (struct entry){OTHER, 0, ~0U};
	r(setxattr("f", ACCESS, &acl, ACL_SIZE(24), 0));
	n(getxattr("f", ACCESS, big, sizeof(big)));
	mode("f");
}
