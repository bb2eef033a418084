// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "../cli/tool.h"
#include "opts.h"

#define NO_TIMEOUT 1e9 /* seconds: some 30 years */

enum kind {
	OPT_IGNORE, /* generic options of mount(8) that mean nothing here */
	OPT_FLAG,   /* `value` is set in the flags of mount(2) */
	OPT_UNFLAG, /* or cleared there */
	OPT_SET,    /* a byte at `offset` becomes `value` */
	OPT_ENUM,   /* name=one of `values`: the byte becomes its position + value */
	OPT_UINT32, /* up to max */
	OPT_SIZE,
	OPT_SECONDS, /* a double; or "off" */
	OPT_TEXT,    /* up to the next comma; a copy */
	OPT_SECRET,  /* the same, and nothing to a remount */
};

struct opt_row {
	const char *name;
	enum kind kind;
	size_t offset;
	uint32_t value; /* also: the least number; of a text, 1: a remount may change it */
	uint32_t max;
	const char *values; /* "a|b|c" */
	const char *doc;    /* NULL: not worth a line of help */
};

#define AT(field) offsetof(struct mount_opts, field)

/* clang-format off */
static const struct opt_row rows[] = {
	{"ro", OPT_SET, AT(open.read_only), 1, .doc = "read-only: nothing is written to the device"},
	{"rw", OPT_SET, AT(open.read_only), 0, .doc = "read and write (default)"},
	{"norecovery", OPT_SET, AT(open.norecovery), 1, .doc = "with ro: do not read the journal"},
	{"allow_other", OPT_SET, AT(allow_other), BCFS_ON, .doc = "other users may use the mount (default for root)"},
	{"no_allow_other", OPT_SET, AT(allow_other), BCFS_OFF, .doc = "only the mounting user may (default for users)"},
	{"errors", OPT_ENUM, AT(open.on_error), BCFS_ON_ERROR_RO, .values = "ro|continue|panic", .doc = "what to do about damaged metadata (default: ro)"},
	{"io", OPT_ENUM, AT(open.io), BCFS_IO_AUTO, .values = "auto|uring|threads", .doc = "how the device is accessed"},
	{"direct", OPT_ENUM, AT(open.direct), BCFS_ON, .values = "on|off", .doc = "O_DIRECT, where the device can (default: on)"},
	{"cache", OPT_SIZE, AT(open.cache_bytes), .doc = "memory for btree nodes (default: a share of the memory)"},
	{"journal_flush_delay", OPT_UINT32, AT(open.journal_flush_delay_ms), 1, 600000, .doc = "milliseconds until changes are on the device (default: 1000)"},
	{"compression", OPT_TEXT, AT(open.compression), 1, .values = "TYPE[:LEVEL]", .doc = "of new data: none, zstd, lz4 (default: as made)"},
	{"key-file", OPT_SECRET, AT(key_file), .values = "PATH", .doc = "of an encrypted filesystem: its key file"},
	{"passphrase-fd", OPT_SECRET, AT(passphrase_fd), .values = "N", .doc = "or a passphrase: the line read from descriptor N"},
	{"background-compression", OPT_TEXT, AT(open.background_compression), 1, .values = "TYPE[:LEVEL]", .doc = "what it becomes later, in the background (default: as made)"},
	{"metadata-checksum", OPT_TEXT, AT(open.metadata_csum), 1, .values = "TYPE", .doc = "of metadata that is written: crc32c, crc64, xxh3, blake2b (default: as made)"},
	{"data-checksum", OPT_TEXT, AT(open.data_csum), 1, .values = "TYPE", .doc = "of new data: the same, or none (default: as made)"},
	{"discard", OPT_SET, AT(open.discard), BCFS_ON, .doc = "tell the device of freed space"},
	{"nodiscard", OPT_SET, AT(open.discard), BCFS_OFF, .doc = "do not"},
	{"wait", OPT_UINT32, AT(open.wait_lock_ms), 0, 3600, .doc = "seconds to wait for a device whose last mount is still closing (default: 30)"},
	{"io_threads", OPT_UINT32, AT(open.nr_threads), 1, 1024, .doc = "threads for I/O and checksums (default: by CPUs)"},
	{"threads", OPT_UINT32, AT(max_threads), 1, 1024, .doc = "most threads that serve requests (default: 16)"},
	{"readers", OPT_UINT32, AT(readers), 1, 64, .doc = "threads that wait for requests at a time (default: 2)"},
	{"writeback", OPT_ENUM, AT(writeback), BCFS_ON, .values = "on|off", .doc = "the kernel gathers writes in its cache (default: on)"},
	{"fuseblk", OPT_SET, AT(fuseblk), 1, .doc = "root: block devices have the type fuseblk (default)"},
	{"nofuseblk", OPT_SET, AT(fuseblk), 0, .doc = "they have fuse.bcfs, as images"},
	{"open", OPT_ENUM, AT(open_op), BCFS_ON, .values = "on|off", .doc = "send open(2) to the daemon (default: off)"},
	{"keep_cache", OPT_ENUM, AT(keep_cache), BCFS_ON, .values = "on|off", .doc = "files, directories and links stay in the kernel's cache (default: on)"},
	{"readdirplus", OPT_ENUM, AT(readdirplus), READDIRPLUS_ON, .values = "on|auto|off", .doc = "read attributes with directories (default: on)"},
	{"attr_timeout", OPT_SECONDS, AT(attr_timeout), .doc = "seconds the kernel keeps attributes (default: off, for ever)"},
	{"entry_timeout", OPT_SECONDS, AT(entry_timeout), .doc = "seconds it keeps names"},
	{"negative_timeout", OPT_SECONDS, AT(negative_timeout), .doc = "seconds it keeps that a name does not exist"},
	{"read_ahead", OPT_SIZE, AT(read_ahead_bytes), .doc = "read-ahead of the mount; root only (default: 4M)"},
	{"max_ratio", OPT_UINT32, AT(max_ratio), 1, 100, .doc = "percent of the kernel's dirty pages that may be the mount's; root only (default: 100)"},
	{"inject", OPT_TEXT, AT(open.inject)}, /* for tests: a fault point, see doc/hacking.md */
	{"write-log", OPT_TEXT, AT(open.write_log)}, /* likewise: a file for all writes */
	{"inode32", OPT_SET, AT(open.inodes_32bit), 1, .doc = "new inodes get numbers below 2^32"},
	{"inode64", OPT_SET, AT(open.inodes_32bit), 0, .doc = "up to 2^40 (default)"},
	{"noatime", OPT_SET, AT(atime), ATIME_NOATIME, .doc = "do not update access times"},
	{"atime", OPT_SET, AT(atime), ATIME_RELATIME},
	{"relatime", OPT_SET, AT(atime), ATIME_RELATIME, .doc = "update them when older than a change or a day (default)"},
	{"strictatime", OPT_SET, AT(atime), ATIME_STRICT, .doc = "update them at every read(2) that is not served by the kernel's cache"},
	{"norelatime", OPT_IGNORE},
	{"nostrictatime", OPT_IGNORE},
	{"nodiratime", OPT_FLAG, 0, MS_NODIRATIME},
	{"diratime", OPT_UNFLAG, 0, MS_NODIRATIME},
	{"lazytime", OPT_FLAG, 0, MS_LAZYTIME, .doc = "times of files may stay in the kernel for a day"},
	{"nolazytime", OPT_UNFLAG, 0, MS_LAZYTIME},
	{"nosuid", OPT_FLAG, 0, MS_NOSUID, .doc = "set-user-ID programs do not change the user"},
	{"suid", OPT_UNFLAG, 0, MS_NOSUID},
	{"nodev", OPT_FLAG, 0, MS_NODEV, .doc = "special files do not open"},
	{"dev", OPT_UNFLAG, 0, MS_NODEV},
	{"noexec", OPT_FLAG, 0, MS_NOEXEC, .doc = "programs do not run"},
	{"exec", OPT_UNFLAG, 0, MS_NOEXEC},
	{"nosymfollow", OPT_FLAG, 0, MS_NOSYMFOLLOW, .doc = "symbolic links are not followed"},
	{"symfollow", OPT_UNFLAG, 0, MS_NOSYMFOLLOW},
	{"sync", OPT_FLAG, 0, MS_SYNCHRONOUS, .doc = "every change is on the device when the call returns"},
	{"async", OPT_UNFLAG, 0, MS_SYNCHRONOUS},
	{"dirsync", OPT_FLAG, 0, MS_DIRSYNC, .doc = "every change of a directory is"},
	{"silent", OPT_FLAG, 0, MS_SILENT},
	{"loud", OPT_UNFLAG, 0, MS_SILENT},
	{"remount", OPT_SET, AT(remount), 1, .doc = "change the options of a mount: mount(8) passes it"},
	{"default_permissions", OPT_IGNORE},
	{"defaults", OPT_IGNORE}, {"auto", OPT_IGNORE}, {"noauto", OPT_IGNORE},
	{"user", OPT_IGNORE}, {"nouser", OPT_IGNORE}, {"users", OPT_IGNORE}, {"nousers", OPT_IGNORE},
	{"owner", OPT_IGNORE}, {"noowner", OPT_IGNORE}, {"group", OPT_IGNORE}, {"nogroup", OPT_IGNORE},
	{"nofail", OPT_SET, AT(nofail), 1}, {"_netdev", OPT_IGNORE},
	{"nomand", OPT_IGNORE}, {"mand", OPT_IGNORE},
	{"iversion", OPT_IGNORE}, {"noiversion", OPT_IGNORE},
};
/* clang-format on */

static const struct option long_opts[] = {
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0},
};

/* mount(8) calls DEVICE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]. */
static const char helper_letters[] = "sfnvN:o:t:hV";

/* Named by FUSE in mountinfo, from where mount(8) may take them for a remount. */
static const char *const kernel_opts[] = {
	"user_id", "group_id", "rootmode", "fd", "max_read", "blksize", "subtype", "fsname",
};

static void print_help(void)
{
	char left[64];
	size_t i;

	printf("usage: bcfs-fuse [-dfs] [-o OPTION[,OPTION...]] DEVICE MOUNTPOINT\n"
	       "\n"
	       "Mounts the bcfs filesystem on DEVICE, a block device or an image file. The\n"
	       "mount is live when the command returns.\n"
	       "\n"
	       "  -o OPTIONS       mount options, see below\n"
	       "  -f               stay in the foreground, log to stderr\n"
	       "  -d               the same, and print every request\n"
	       "  -s               one thread\n"
	       "  -h, --help       this text\n"
	       "  -V, --version    the version\n"
	       "\n"
	       "mount options:\n");
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct opt_row *r = &rows[i];
		const char *arg = r->values		   ? r->values
				  : r->kind == OPT_UINT32  ? "N"
				  : r->kind == OPT_SIZE	   ? "SIZE"
				  : r->kind == OPT_SECONDS ? "SECONDS"
							   : NULL;

		if (!r->doc)
			continue;
		snprintf(left, sizeof(left), "%s%s%s", r->name, arg ? "=" : "", arg ? arg : "");
		printf("  %-27s %s\n", left, r->doc);
	}
	printf("\n"
	       "An encrypted filesystem without key-file and passphrase-fd is opened by the\n"
	       "passphrase in BCFS_PASSPHRASE, or it is asked for.\n"
	       "The generic options of mount(8) and fstab(5) are accepted (defaults, nofail,\n"
	       "_netdev, x-*, ...). Unmount with umount(8), as a user with fusermount3 -u.\n"
	       "Under the name mount.bcfs or mount.fuse.bcfs it is a helper of mount(8).\n");
}

static bool bad_value(const struct opt_row *r, const char *value)
{
	switch (r->kind) {
	case OPT_ENUM:
		tool_error("mount option %s=%s: not one of %s", r->name, value, r->values);
		break;
	case OPT_UINT32:
		tool_error("mount option %s=%s: not a number from %u to %u", r->name, value,
			   r->value, r->max);
		break;
	case OPT_SIZE:
		tool_error("mount option %s=%s: not a size (such as 64M)", r->name, value);
		break;
	default:
		tool_error("mount option %s=%s: not a number of seconds, nor \"off\"", r->name,
			   value);
	}
	return false;
}

/* The position of value in "a|b|c", or -1. */
static int enum_pos(const char *values, const char *value)
{
	size_t len = strlen(value), n;
	int pos = 0;

	for (;; pos++) {
		n = strcspn(values, "|");
		if (n == len && !memcmp(values, value, n))
			return pos;
		if (!values[n])
			return -1;
		values += n + 1;
	}
}

static bool change_text(struct mount_opts *o, const struct opt_row *r, const char *value)
{
	char *was = *(char **)((char *)o->was + r->offset);
	char **field = (char **)((char *)o + r->offset);

	/* What fstab says, again. */
	if (*field && !strcmp(*field, value))
		return true;
	if (!r->value)
		return false;
	if (*field != was)
		free(*field);
	*field = strdup(value);
	return *field;
}

static bool set_value(struct mount_opts *o, const struct opt_row *r, const char *value)
{
	void *field = (char *)o + r->offset;
	uint64_t nr;
	double sec;
	char *end;
	int pos;

	switch (r->kind) {
	case OPT_ENUM:
		pos = enum_pos(r->values, value);
		if (pos < 0)
			return bad_value(r, value);
		*(uint8_t *)field = (uint8_t)(r->value + (uint32_t)pos);
		return true;
	case OPT_UINT32:
		if (!tool_parse_uint(value, r->max, &nr) || nr < r->value)
			return bad_value(r, value);
		*(uint32_t *)field = (uint32_t)nr;
		return true;
	case OPT_SIZE:
		if (!tool_parse_size(value, &nr))
			return bad_value(r, value);
		*(uint64_t *)field = nr;
		return true;
	case OPT_SECRET:
		/* It is open. */
		if (o->was)
			return true;
		/* fallthrough */
	case OPT_TEXT:
		if (o->was)
			return change_text(o, r, value);
		free(*(char **)field);
		*(char **)field = strdup(value);
		return *(char **)field;
	default:
		sec = NO_TIMEOUT;
		if (strcmp(value, "off")) {
			sec = strtod(value, &end);
			if (end == value || *end || !(sec >= 0))
				return bad_value(r, value);
		}
		*(double *)field = sec < NO_TIMEOUT ? sec : NO_TIMEOUT;
		return true;
	}
}

static const struct opt_row *find_row(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strlen(rows[i].name) == len && !memcmp(rows[i].name, name, len))
			return &rows[i];
	return NULL;
}

/* False: not such an option. */
static bool keep_kernel_opt(struct mount_opts *o, const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < sizeof(kernel_opts) / sizeof(kernel_opts[0]); i++) {
		if (strlen(kernel_opts[i]) != len || memcmp(kernel_opts[i], name, len))
			continue;
		if (!o->kernel_opt)
			o->kernel_opt = strndup(name, len);
		return true;
	}
	return false;
}

static bool unknown_option(const char *name, size_t len)
{
	tool_error("unknown mount option \"%.*s\": see bcfs-fuse --help", (int)len, name);
	return false;
}

static bool parse_one(struct mount_opts *o, const char *opt)
{
	size_t len = strcspn(opt, "=");
	const char *value = opt[len] ? opt + len + 1 : NULL;
	const struct opt_row *r;
	bool wants_value;

	if (!*opt || !strncmp(opt, "x-", 2) || !strncmp(opt, "X-", 2) ||
	    !strncmp(opt, "comment=", 8) || !strncmp(opt, "uhelper=", 8) ||
	    !strncmp(opt, "user=", 5))
		return true;
	r = find_row(opt, len);
	if (!r)
		return keep_kernel_opt(o, opt, len) || o->sloppy || unknown_option(opt, len);
	wants_value = r->kind >= OPT_ENUM;
	if (wants_value && !value) {
		tool_error("mount option %s needs a value: see bcfs-fuse --help", r->name);
		return false;
	}
	if (!wants_value && value) {
		tool_error("mount option %s takes no value", r->name);
		return false;
	}
	if (r->kind == OPT_FLAG)
		o->mount_flags |= r->value;
	else if (r->kind == OPT_UNFLAG)
		o->mount_flags &= ~(unsigned long)r->value;
	else if (r->kind == OPT_SET)
		*((uint8_t *)o + r->offset) = (uint8_t)r->value;
	else if (wants_value)
		return set_value(o, r, value);
	return true;
}

static bool keep_text(struct mount_opts *o, const char *arg)
{
	char *all;

	if (asprintf(&all, "%s%s%s", o->text ? o->text : "", o->text ? "," : "", arg) < 0)
		return false;
	free(o->text);
	o->text = all;
	return true;
}

static bool parse_mount_opts(struct mount_opts *o, const char *arg)
{
	char *copy = strdup(arg), *opt, *save = NULL;
	bool ok = copy != NULL;

	for (opt = copy ? strtok_r(copy, ",", &save) : NULL; ok && opt;
	     opt = strtok_r(NULL, ",", &save))
		ok = parse_one(o, opt);
	free(copy);
	return ok;
}

static void set_defaults(struct mount_opts *o)
{
	*o = (struct mount_opts){
		.open = {.struct_size = sizeof(o->open), .wait_lock_ms = 30},
		.writeback = BCFS_ON,
		.open_op = BCFS_OFF,
		.keep_cache = BCFS_ON,
		.readdirplus = READDIRPLUS_ON,
		.attr_timeout = NO_TIMEOUT,
		.entry_timeout = NO_TIMEOUT,
		.negative_timeout = NO_TIMEOUT,
		.max_threads = 16,
		.readers = 2,
		.read_ahead_bytes = 4 << 20,
		.max_ratio = 100,
		.fuseblk = true,
		.helper = !strncmp(program_invocation_short_name, "mount.", 6),
	};
}

void opts_set_atime(struct mount_opts *o)
{
	o->open.noatime = o->atime == ATIME_NOATIME;
	o->open.strictatime = o->atime == ATIME_STRICT;
	o->open.nodiratime = !!(o->mount_flags & MS_NODIRATIME);
}

/* Options that depend on others, once all are known. */
static bool finish(struct mount_opts *o)
{
	if (o->kernel_opt && !o->remount && !o->sloppy)
		return unknown_option(o->kernel_opt, strlen(o->kernel_opt));
	if (o->open.norecovery && !o->open.read_only) {
		tool_error("mount option norecovery is for read-only mounts: add ro");
		return false;
	}
	opts_set_atime(o);
	o->open.wait_lock_ms *= 1000; /* given in seconds */
	if (o->allow_other == BCFS_DEFAULT)
		o->allow_other = geteuid() ? BCFS_OFF : BCFS_ON;
	/* What is not told of an open(2) keeps. */
	if (o->keep_cache == BCFS_OFF)
		o->open_op = BCFS_ON;
	if (o->single)
		o->max_threads = o->readers = 1;
	if (o->debug)
		o->open.verbose = 1;
	return true;
}

static bool only_changeable_differ(const struct mount_opts *a, const struct mount_opts *b)
{
	return a->open.io == b->open.io && a->open.direct == b->open.direct &&
	       a->open.norecovery == b->open.norecovery &&
	       a->open.nr_threads == b->open.nr_threads && a->allow_other == b->allow_other &&
	       a->writeback == b->writeback && a->open_op == b->open_op &&
	       a->readdirplus == b->readdirplus && a->attr_timeout == b->attr_timeout &&
	       a->entry_timeout == b->entry_timeout && a->negative_timeout == b->negative_timeout &&
	       a->max_threads == b->max_threads && a->readers == b->readers &&
	       a->read_ahead_bytes == b->read_ahead_bytes && a->max_ratio == b->max_ratio &&
	       a->keep_cache == b->keep_cache;
}

bool opts_change(const struct mount_opts *now, const char *text, struct mount_opts *ret, char *msg,
		 size_t size)
{
	bool ok;

	*ret = *now;
	ret->was = now;
	ret->sloppy = true; /* what is unknown was refused before */
	ret->kernel_opt = NULL;
	/* No option of mount(8) takes it away. */
	ret->mount_flags = now->mount_flags & MS_DIRSYNC;
	ret->atime = ATIME_RELATIME;
	ok = parse_mount_opts(ret, text) && only_changeable_differ(now, ret);
	free(ret->kernel_opt);
	ret->kernel_opt = NULL;
	ret->was = NULL;
	ret->remount = ret->sloppy = false;
	ret->open.wait_lock_ms = now->open.wait_lock_ms;
	opts_set_atime(ret);
	if (!ok)
		snprintf(msg, size,
			 "only ro, rw, errors, discard, cache, journal_flush_delay, inode32, "
			 "compression, checksums, access times "
			 "and generic options can be changed: unmount it for others");
	return ok;
}

void opts_change_end(struct mount_opts *gone, const struct mount_opts *kept)
{
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char **text = (char **)((char *)gone + rows[i].offset);

		if (rows[i].kind != OPT_TEXT || *text == *(char **)((char *)kept + rows[i].offset))
			continue;
		free(*text);
		*text = NULL;
	}
}

unsigned long opts_mount_flags(const struct mount_opts *o)
{
	static const unsigned long atime[] = {
		[ATIME_RELATIME] = MS_RELATIME,
		[ATIME_NOATIME] = MS_NOATIME,
		[ATIME_STRICT] = MS_STRICTATIME,
	};

	return o->mount_flags | atime[o->atime] | (o->open.read_only ? MS_RDONLY : 0);
}

/* What letters mean depends on who calls. -1: go on. */
static int take_letter(struct mount_opts *o, int c, const char *letters, char **argv)
{
	const char *as = o->helper ? "bcfs-fuse" : program_invocation_short_name;

	switch (c) {
	case 'o':
		return parse_mount_opts(o, optarg) && keep_text(o, optarg) ? -1 : MOUNT_USAGE;
	case 'd':
		o->debug = o->foreground = true;
		return -1;
	case 'f':
		*(o->helper ? &o->fake : &o->foreground) = true;
		return -1;
	case 's':
		*(o->helper ? &o->sloppy : &o->single) = true;
		return -1;
	case 'N':
		free(o->mount_ns);
		o->mount_ns = strdup(optarg);
		return -1;
	case 'n': /* no mtab is written */
	case 'v':
	case 't': /* the name says it */
		return -1;
	case 'h':
		print_help();
		return tool_flush() ? MOUNT_OK : MOUNT_SYSTEM;
	case 'V':
		printf("%s %s\n", as, bcfs_version());
		return tool_flush() ? MOUNT_OK : MOUNT_SYSTEM;
	default:
		tool_bad_option(argv, letters, "bcfs-fuse");
		return MOUNT_USAGE;
	}
}

/* -s, which says what to do about options, may come behind them. */
static bool is_sloppy(int argc, char **argv)
{
	bool sloppy = false;
	int c;

	while ((c = getopt_long(argc, argv, helper_letters, long_opts, NULL)) != -1)
		sloppy |= c == 's';
	optind = 0;
	return sloppy;
}

int opts_parse(struct mount_opts *ret, int argc, char **argv)
{
	const char *letters = "o:dfshV";
	int c, status;

	opterr = 0;
	set_defaults(ret);
	if (ret->helper) {
		letters = helper_letters;
		unsetenv("POSIXLY_CORRECT"); /* options come behind the mount point */
		ret->sloppy = is_sloppy(argc, argv);
	}
	while ((c = getopt_long(argc, argv, letters, long_opts, NULL)) != -1) {
		status = take_letter(ret, c, letters, argv);
		if (status >= 0)
			return status;
	}
	if (argc - optind != 2) {
		tool_error("wanted: a device and a mount point; try \"bcfs-fuse --help\"");
		return MOUNT_USAGE;
	}
	if (!finish(ret))
		return MOUNT_USAGE;
	ret->device = strdup(argv[optind]);
	ret->mountpoint = strdup(argv[optind + 1]);
	return -1;
}

void opts_free(struct mount_opts *o)
{
	free(o->device);
	free(o->device_abs);
	free(o->mountpoint);
	free(o->source);
	free(o->mount_ns);
	free(o->text);
	free(o->kernel_opt);
	free(o->key_file);
	free(o->passphrase_fd);
	free((char *)o->open.inject);
	free((char *)o->open.write_log);
	free((char *)o->open.compression);
	free((char *)o->open.background_compression);
	free((char *)o->open.metadata_csum);
	free((char *)o->open.data_csum);
}
