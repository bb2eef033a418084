// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * mkfs.bcfs: makes a filesystem. What it would overwrite is looked at first,
 * by libblkid for others' data and by libbcfs for its own; nothing is written
 * before every check has passed.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cli/tool.h"
#include "../cli/unlock.h"
#include "bcfs/bcfs.h"
#include "signatures.h"

enum {
	OPT_SIZE = 256,
	OPT_BUCKET_SIZE,
	OPT_NODE_SIZE,
	OPT_JOURNAL_SIZE,
	OPT_METADATA_CHECKSUM,
	OPT_DATA_CHECKSUM,
	OPT_COMPRESSION,
	OPT_BACKGROUND_COMPRESSION,
	OPT_CHECKSUM_CHUNK,
	OPT_EXTENT_MAX,
	OPT_INLINE_MAX,
	OPT_ERRORS,
	OPT_ENCRYPT,
	OPT_KDF_PASSES,
	OPT_KDF_MEMORY,
	OPT_DISCARD,
	OPT_NODISCARD,
};

static const char letters[] = "L:U:b:fnqhV";

/* clang-format off */
static const struct option long_opts[] = {
	{"label", required_argument, NULL, 'L'},
	{"uuid", required_argument, NULL, 'U'},
	{"block-size", required_argument, NULL, 'b'},
	{"force", no_argument, NULL, 'f'},
	{"dry-run", no_argument, NULL, 'n'},
	{"quiet", no_argument, NULL, 'q'},
	{"size", required_argument, NULL, OPT_SIZE},
	{"bucket-size", required_argument, NULL, OPT_BUCKET_SIZE},
	{"node-size", required_argument, NULL, OPT_NODE_SIZE},
	{"journal-size", required_argument, NULL, OPT_JOURNAL_SIZE},
	{"metadata-checksum", required_argument, NULL, OPT_METADATA_CHECKSUM},
	{"data-checksum", required_argument, NULL, OPT_DATA_CHECKSUM},
	{"compression", required_argument, NULL, OPT_COMPRESSION},
	{"background-compression", required_argument, NULL, OPT_BACKGROUND_COMPRESSION},
	{"checksum-chunk", required_argument, NULL, OPT_CHECKSUM_CHUNK},
	{"extent-max", required_argument, NULL, OPT_EXTENT_MAX},
	{"inline-max", required_argument, NULL, OPT_INLINE_MAX},
	{"errors", required_argument, NULL, OPT_ERRORS},
	{"encrypt", no_argument, NULL, OPT_ENCRYPT},
	TOOL_SECRET_LONG_OPTS,
	{"kdf-passes", required_argument, NULL, OPT_KDF_PASSES},
	{"kdf-memory", required_argument, NULL, OPT_KDF_MEMORY},
	{"discard", no_argument, NULL, OPT_DISCARD},
	{"nodiscard", no_argument, NULL, OPT_NODISCARD},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0},
};
/* clang-format on */

static const char help[] =
	"usage: mkfs.bcfs [OPTION...] DEVICE\n"
	"\n"
	"Makes a bcfs filesystem on DEVICE, a block device or an image file.\n"
	"\n"
	"  -L, --label TEXT         a label of up to 32 bytes\n"
	"  -U, --uuid UUID          its UUID (default: random)\n"
	"  -b, --block-size SIZE    512 to 64K, a power of two (default: 4K)\n"
	"  -f, --force              over an existing bcfs or others' data, which is wiped\n"
	"  -n, --dry-run            check everything, write nothing\n"
	"  -q, --quiet              print errors only\n"
	"      --size SIZE          create or resize the image file\n"
	"      --bucket-size SIZE   unit of allocation (default: by the device's size)\n"
	"      --node-size SIZE     of btree nodes (default: 256K)\n"
	"      --journal-size SIZE  of the journal (default: by the device's size)\n"
	"      --metadata-checksum TYPE\n"
	"                           crc32c, crc64, xxh3, blake2b (default: crc32c)\n"
	"      --data-checksum TYPE the same, or none (default: crc32c)\n"
	"      --compression TYPE[:LEVEL]\n"
	"                           of file data: none, zstd (-50 to 19), lz4 (1 to 12)\n"
	"                           (default: none)\n"
	"      --background-compression TYPE[:LEVEL]\n"
	"                           what it becomes later, in the background (default: none:\n"
	"                           it stays as it was written)\n"
	"      --checksum-chunk SIZE\n"
	"                           data under one checksum, 4K to 64K (default: 16K,\n"
	"                           8K if encrypted)\n"
	"      --extent-max SIZE    longest extent (default: 128K)\n"
	"      --inline-max SIZE    of a file's last block: what is kept in its key; 0: nothing\n"
	"                           (default: 1536 bytes, or what fits)\n"
	"      --errors MODE        what mounts do about damage: ro, continue, panic\n"
	"      --encrypt            everything but the superblock, by a passphrase that is asked\n"
	"                           for, or that of BCFS_PASSPHRASE\n"
	"      --key-file PATH      by a key file instead: 32 random bytes or more\n"
	"      --passphrase-fd N    by the line that is read from descriptor N\n"
	"      --kdf-passes N       what a guess at the passphrase costs: passes of Argon2id\n"
	"                           (default: 3)\n"
	"      --kdf-memory SIZE    over so much memory (default: 256M)\n"
	"      --discard            discard the device first, and freed space when mounted\n"
	"      --nodiscard          do not\n"
	"  -h, --help               this text\n"
	"  -V, --version            the version\n"
	"\n"
	"Sizes are bytes, or have a suffix: K, M, G, T (powers of 1024), s (512 bytes).\n";

struct args {
	struct bcfs_mkfs_opts mkfs;
	uint8_t uuid[16];
	const char *path;
	bool quiet;
	bool encrypt;
	struct tool_secret_opts secret;
};

static bool size_arg(const char *name, const char *text, uint64_t max, uint64_t *ret)
{
	if (tool_parse_size(text, ret) && *ret && *ret <= max)
		return true;
	tool_error("--%s %s: not a usable size (such as 64K or 1G)", name, text);
	return false;
}

static bool size32_arg(const char *name, const char *text, uint32_t *ret)
{
	uint64_t size;

	if (!size_arg(name, text, UINT32_MAX, &size))
		return false;
	*ret = (uint32_t)size;
	return true;
}

static bool inline_arg(const char *text, uint32_t *ret)
{
	uint64_t size;

	if (tool_parse_size(text, &size) && !size) {
		*ret = BCFS_INLINE_NONE;
		return true;
	}
	return size32_arg("inline-max", text, ret);
}

static bool errors_arg(const char *text, uint8_t *ret)
{
	static const char *const names[] = {"ro", "continue", "panic"};
	unsigned int i;

	for (i = 0; i < 3; i++) {
		if (strcmp(text, names[i]))
			continue;
		*ret = (uint8_t)(BCFS_ON_ERROR_RO + i);
		return true;
	}
	tool_error("--errors %s: not one of ro, continue, panic", text);
	return false;
}

static bool secret_opt(struct args *a, int c, char **argv)
{
	uint64_t nr;

	if (tool_secret_opt(&a->secret, c, optarg))
		return true;
	switch (c) {
	case OPT_ENCRYPT:
		a->encrypt = true;
		return true;
	case OPT_KDF_PASSES:
		if (tool_parse_uint(optarg, UINT32_MAX, &nr) && nr) {
			a->mkfs.kdf_passes = (uint32_t)nr;
			return true;
		}
		tool_error("--kdf-passes %s: not a number of passes", optarg);
		return false;
	case OPT_KDF_MEMORY:
		return size_arg("kdf-memory", optarg, INT64_MAX, &a->mkfs.kdf_bytes);
	default:
		tool_bad_option(argv, letters, "mkfs.bcfs");
		return false;
	}
}

static bool size_opt(struct args *a, int c, char **argv)
{
	struct bcfs_mkfs_opts *m = &a->mkfs;

	switch (c) {
	case 'b':
		return size32_arg("block-size", optarg, &m->block_bytes);
	case OPT_SIZE:
		return size_arg("size", optarg, INT64_MAX, &m->size_bytes);
	case OPT_BUCKET_SIZE:
		return size_arg("bucket-size", optarg, UINT32_MAX, &m->bucket_bytes);
	case OPT_NODE_SIZE:
		return size32_arg("node-size", optarg, &m->node_bytes);
	case OPT_JOURNAL_SIZE:
		return size_arg("journal-size", optarg, INT64_MAX, &m->journal_bytes);
	case OPT_CHECKSUM_CHUNK:
		return size32_arg("checksum-chunk", optarg, &m->csum_chunk_bytes);
	case OPT_EXTENT_MAX:
		return size32_arg("extent-max", optarg, &m->extent_max_bytes);
	case OPT_INLINE_MAX:
		return inline_arg(optarg, &m->inline_max_bytes);
	default:
		return secret_opt(a, c, argv);
	}
}

static bool one_opt(struct args *a, int c, char **argv)
{
	static const uint8_t nil_uuid[16]; /* would mean: a random one */
	char label[256];

	switch (c) {
	case 'L':
		a->mkfs.label = optarg;
		if (strlen(optarg) <= 32)
			return true;
		bcfs_escape(optarg, 60, label, sizeof(label));
		tool_error("--label %s%s: longer than 32 bytes", label,
			   strlen(optarg) > 60 ? "..." : "");
		return false;
	case 'U':
		a->mkfs.uuid = a->uuid;
		if (tool_parse_uuid(optarg, a->uuid) && memcmp(a->uuid, nil_uuid, sizeof(a->uuid)))
			return true;
		tool_error("--uuid %s: not a usable UUID", optarg);
		return false;
	case 'f':
		a->mkfs.force = 1;
		return true;
	case 'n':
		a->mkfs.dry_run = 1;
		return true;
	case 'q':
		a->quiet = true;
		return true;
	case OPT_METADATA_CHECKSUM:
		a->mkfs.metadata_csum = optarg;
		return true;
	case OPT_DATA_CHECKSUM:
		a->mkfs.data_csum = optarg;
		return true;
	case OPT_COMPRESSION:
		a->mkfs.compression = optarg;
		return true;
	case OPT_BACKGROUND_COMPRESSION:
		a->mkfs.background_compression = optarg;
		return true;
	case OPT_ERRORS:
		return errors_arg(optarg, &a->mkfs.on_error);
	case OPT_DISCARD:
		a->mkfs.discard = BCFS_ON;
		return true;
	case OPT_NODISCARD:
		a->mkfs.discard = BCFS_OFF;
		return true;
	default:
		return size_opt(a, c, argv);
	}
}

/* Exit status, or -1: go on. */
static int parse(struct args *a, int argc, char **argv)
{
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, letters, long_opts, NULL)) != -1) {
		if (c == 'h') {
			fputs(help, stdout);
			return tool_flush() ? 0 : 1;
		}
		if (c == 'V') {
			printf("mkfs.bcfs %s\n", bcfs_version());
			return tool_flush() ? 0 : 1;
		}
		if (!one_opt(a, c, argv))
			return 1;
	}
	if (argc - optind != 1) {
		tool_error("wanted: one device or image file; try \"mkfs.bcfs --help\"");
		return 1;
	}
	a->path = argv[optind];
	if (!a->encrypt && (a->secret.key_file || a->secret.passphrase_fd || a->mkfs.kdf_passes ||
			    a->mkfs.kdf_bytes)) {
		tool_error("--key-file, --passphrase-fd, --kdf-passes and --kdf-memory are for "
			   "--encrypt");
		return 1;
	}
	return -1;
}

/* Refuses what is not ours to overwrite. */
static bool check_foreign(const struct args *a)
{
	char text[256];
	struct stat st;
	int ret;

	if (stat(a->path, &st) || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
		return true; /* not there yet, or for libbcfs to refuse */
	if (!a->mkfs.dry_run && access(a->path, W_OK) && errno == EROFS) {
		tool_error("%s: is read-only: make it writable, or choose another", a->path);
		return false;
	}
	ret = signatures_find(a->path, text, sizeof(text));
	if (ret < 0) {
		tool_error("%s: cannot look for existing data: %s", a->path, strerror(-ret));
		return false;
	}
	if (ret && !a->mkfs.force) {
		tool_error("%s: holds %s: use -f to overwrite it", a->path, text);
		return false;
	}
	return true;
}

static int make(const struct args *a, struct bcfs_info *ret_info)
{
	/* For the checks anything will do that costs nothing. */
	static const uint8_t no_key[32];
	const struct bcfs_secret no_secret = {BCFS_SECRET_KEY_FILE, no_key, sizeof(no_key)};
	struct bcfs_mkfs_opts opts = a->mkfs;
	struct tool_secret secret = {0};
	struct bcfs_secret for_lib;
	char msg[TOOL_MSG_SIZE] = "", what[TOOL_MSG_SIZE];
	int ret;

	/* All checks first: what is refused is not wiped either. */
	opts.dry_run = 1;
	opts.secret = a->encrypt ? &no_secret : NULL;
	ret = bcfs_mkfs(a->path, &opts, ret_info, msg, sizeof(msg));
	snprintf(what, sizeof(what), "passphrase for %s", a->path);
	if (!ret && !a->mkfs.dry_run && a->encrypt &&
	    !tool_secret_get(&a->secret, what, true, &secret))
		return -1;
	if (!ret && !a->mkfs.dry_run && opts.force && !access(a->path, F_OK)) {
		ret = signatures_wipe(a->path);
		if (ret) {
			tool_secret_free(&secret);
			tool_error("%s: cannot wipe what is on it: %s", a->path, strerror(-ret));
			return ret;
		}
	}
	if (!ret && !a->mkfs.dry_run) {
		opts.dry_run = 0;
		opts.secret = tool_secret_arg(&secret, &for_lib);
		ret = bcfs_mkfs(a->path, &opts, ret_info, msg, sizeof(msg));
		if (!ret)
			tool_key_file_notice(&secret);
	}
	tool_secret_free(&secret);
	if (ret)
		tool_error("%s", *msg ? msg : bcfs_strerror(ret));
	return ret;
}

static void print_result(const struct args *a, const struct bcfs_info *info)
{
	char text[64], label[4 * sizeof(info->label)];

	printf("%s: %s\n", a->path,
	       a->mkfs.dry_run ? "this would be the filesystem (nothing was written)"
			       : "bcfs filesystem");
	printf("  UUID         %s\n", tool_uuid_text(info->uuid, text));
	bcfs_escape(info->label, sizeof(info->label), label, sizeof(label));
	if (*label)
		printf("  label        %s\n", label);
	printf("  size         %s\n", tool_size_text(info->size_bytes, text, sizeof(text)));
	printf("  block        %s\n", tool_size_text(info->block_bytes, text, sizeof(text)));
	printf("  bucket       %s (%llu of them)\n",
	       tool_size_text(info->bucket_bytes, text, sizeof(text)),
	       (unsigned long long)info->nr_buckets);
	printf("  btree node   %s\n", tool_size_text(info->node_bytes, text, sizeof(text)));
	printf("  journal      %s\n", tool_size_text(info->journal_bytes, text, sizeof(text)));
	if (info->encrypted)
		printf("  encrypted    XChaCha20-Poly1305\n");
	printf("  format       version %u.%u\n", info->version >> 10, info->version & 1023);
}

int main(int argc, char **argv)
{
	/* Who makes an image of their own owns what is in it. */
	struct args a = {
		.mkfs =
			{
				.struct_size = sizeof(a.mkfs),
				.root_uid = geteuid(),
				.root_gid = getegid(),
			},
	};
	struct bcfs_info info = {0};
	int ret = parse(&a, argc, argv);

	if (ret >= 0)
		return ret;
	if (!check_foreign(&a) || make(&a, &info))
		return 1;
	if (!a.quiet)
		print_result(&a, &info);
	return tool_flush() ? 0 : 1;
}
