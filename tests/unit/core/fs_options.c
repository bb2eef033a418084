// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: options of a filesystem that are changed after mkfs hold for what is written from then on,
 * at once and after the next opening, but where an option of the mount says otherwise; what is
 * refused, and what cannot be written, changes nothing, in memory or on the device. Method: a small
 * filesystem on the simulated device; the keys of a file that is written before and after tell
 * codec and checksum; each refusal with the text of all options before and behind it; the device
 * fails all writes. Then image files through the public calls.
 */
#include "crypt_world.h"

#include "btree/btree.h"
#include "btree/extent_entries.h"
#include "btree/iter.h"
#include "sb/sb.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES (96U << 10)

static const char as_made[] = "data-checksum=crc32c\nmetadata-checksum=crc32c\ncompression=none\n"
			      "background-compression=none\nerrors=ro\nlabel=\n";
static const struct bcfs_cred cred;

/* ---- what there is ---- */

static void out(void *arg, const char *text)
{
	must(strlen(arg) + strlen(text) < 1024, "a long text");
	strcat(arg, text);
}

static void has(struct bcfs *c, const char *want)
{
	char text[1024] = "";

	bcfs_fs_options_to_text(c, out, text);
	must(!strcmp(text, want), "it has:\n%swanted:\n%s", text, want);
}

static struct bcfs_ino write_file(struct bcfs *c, const char *name)
{
	u8 *buf = calloc(1, FILE_BYTES);
	struct bcfs_stat st;

	memset(buf, 'x', FILE_BYTES);
	must(!bcfs_mknod(c, bcfs_root(c), name, S_IFREG | 0600, 0, 0, &cred, &st), "mknod");
	must(bcfs_write(c, st.ino, 0, buf, FILE_BYTES, 0) == FILE_BYTES, "write");
	must(!bcfs_sync(c), "sync");
	free(buf);
	return st.ino;
}

/* All extents of the file are of this form. */
static void is_of_form(struct bcfs *c, struct bcfs_ino ino, unsigned codec, unsigned csum)
{
	struct btree_trans *trans = btree_trans_get(c->btree);
	unsigned nr = 0, other = 0;
	int ret = for_each_btree_key_max(
		trans, iter, BTREE_ID_extents, POS(ino.inum, 0), POS(ino.inum, UINT64_MAX),
		BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS, k, ({
			for_each_extent_entry (bkey_ptrs(k), e)
				if (extent_entry_type(e) == BCFS_EXTENT_ENTRY_crc) {
					nr++;
					other += e->crc.compression != codec ||
						 e->crc.csum_type != csum;
				}
			0;
		}));

	btree_trans_put(trans);
	must(!ret && nr && !other, "%s: of %u extents %u have not codec %u and checksum %u",
	     err_str(ret), nr, other, codec, csum);
}

/* One more file, in the form of now. */
static void writes(struct bcfs *c, unsigned codec, unsigned csum)
{
	static unsigned nr;
	struct bcfs_ino ino;
	char name[32];

	snprintf(name, sizeof(name), "file-%u", nr++);
	ino = write_file(c, name);
	is_of_form(c, ino, codec, csum);
	bcfs_forget(c, ino, 1);
}

static void applies(struct world *w, const char *text)
{
	struct bcfs *fs = &w->c->fs;
	char msg[CORE_MSG_SIZE] = "";

	must(!bcfs_fs_options_apply(&fs, text, msg, sizeof(msg)), "%s: %s", text, msg);
	w->c = to_core(fs);
}

static void refuses(struct world *w, const char *text, int error, const char *says)
{
	char before[1024] = "", msg[CORE_MSG_SIZE] = "";
	struct bcfs *fs = &w->c->fs, *same = fs;
	int ret;

	bcfs_fs_options_to_text(fs, out, before);
	ret = bcfs_fs_options_apply(&fs, text, msg, sizeof(msg));
	must(err_to_errno(ret) == error, "%s: %s: %s", text, err_str(ret), msg);
	must(!strncmp(msg, "sim: ", 5) && strstr(msg, says) && !strchr(msg, '\n'),
	     "%s: no \"%s\" in \"%s\"", text, says, msg);
	must(fs == same, "it was opened anew");
	has(fs, before);
}

static void opens_with(struct world *w, const struct core_opts *o)
{
	char msg[CORE_MSG_SIZE] = "";

	must(!core_open_on(w->env, w->bdev, o, NULL, NULL, &w->c, msg, sizeof(msg)), "%s", msg);
}

/* ---- set ---- */

#define SET                                                                                        \
	"data-checksum=xxh3\nmetadata-checksum=blake2b\ncompression=zstd:7\n"                      \
	"background-compression=lz4\nerrors=continue\nlabel="
static const char set[] = SET "a \"label\"\n", has_set[] = SET "a \\\"label\\\"\n";

static void set_main(void *arg)
{
	struct world *w = arg;
	struct bcfs_ino before;
	struct bcfs_stat st;

	world_mkfs(w, NULL);
	world_opens(w, NULL);
	has(&w->c->fs, as_made);
	before = write_file(&w->c->fs, "before");
	is_of_form(&w->c->fs, before, BCFS_COMPRESSION_none, BCFS_CSUM_crc32c);
	must(!sb_has_zstd(w->c->fs.sb->sb) && !sb_has_lz4(w->c->fs.sb->sb), "features");

	/* The last of two; '_' for '-'. */
	applies(w, "compression=lz4\ncompression=zstd:7\ndata_checksum=xxh3\n"
		   "metadata-checksum=blake2b\nbackground_compression=lz4\nerrors=continue\n"
		   "label=a \"label\"");
	has(&w->c->fs, has_set);
	must(w->c->on_error == BCFS_ON_ERROR_CONTINUE, "errors=");
	must(sb_tells_compression(w->c->fs.sb, BCFS_COMPRESSION_zstd) &&
		     sb_tells_compression(w->c->fs.sb, BCFS_COMPRESSION_lz4),
	     "features");
	writes(&w->c->fs, BCFS_COMPRESSION_zstd, BCFS_CSUM_xxh3);
	is_of_form(&w->c->fs, before, BCFS_COMPRESSION_none, BCFS_CSUM_crc32c);
	must(!bcfs_getattr(&w->c->fs, before, &st) && st.size == FILE_BYTES, "getattr");

	/* One alone leaves the others; for good, though what came after was lost. */
	applies(w, "compression=lz4");
	world_crash(w);
	world_opens(w, NULL);
	must(w->c->on_error == BCFS_ON_ERROR_CONTINUE, "errors=");
	writes(&w->c->fs, BCFS_COMPRESSION_lz4, BCFS_CSUM_xxh3);
	applies(w, "compression=zstd:7");
	must(!core_close(w->c), "close");
	world_opens(w, NULL);
	has(&w->c->fs, has_set);
	writes(&w->c->fs, BCFS_COMPRESSION_zstd, BCFS_CSUM_xxh3);
	applies(w, "data-checksum=none\ncompression=none\nlabel=\n");
	world_check(w);
	must(!core_close(w->c), "close");
}

Test(fs_options, set)
{
	world_run(set_main, 0xf50, false);
}

/* ---- what a mount was given ---- */

static void given_main(void *arg)
{
	const struct core_opts o = {
		.noatime = true,
		.cache_bytes = 1,
		.on_error = BCFS_ON_ERROR_RO,
		.compression_given = true,
		.compression = BCFS_COMPRESSION_lz4,
		.background_compression_given = true,
		.data_csum_given = true,
		.data_csum = BCFS_CSUM_crc64,
		.meta_csum_given = true,
		.meta_csum = BCFS_CSUM_crc64,
	};
	struct world *w = arg;

	world_mkfs(w, NULL);
	opens_with(w, &o);
	applies(w, set);
	must(w->c->on_error == BCFS_ON_ERROR_RO, "errors=");
	must(!w->c->fs.fs_opts.background_compression, "background_compression=");
	writes(&w->c->fs, BCFS_COMPRESSION_lz4, BCFS_CSUM_crc64);
	/* What reopens goes on with the others, too. */
	w->c->opts.data_csum_given = false;
	applies(w, "data-checksum=blake2b");
	writes(&w->c->fs, BCFS_COMPRESSION_lz4, BCFS_CSUM_blake2b);
	must(!core_close(w->c), "close");

	world_opens(w, NULL);
	must(w->c->on_error == BCFS_ON_ERROR_CONTINUE, "errors=");
	writes(&w->c->fs, BCFS_COMPRESSION_zstd, BCFS_CSUM_blake2b);
	must(!core_close(w->c), "close");
}

Test(fs_options, options_of_the_mount)
{
	world_run(given_main, 0xf51, false);
}

/* ---- refused ---- */

static const struct {
	const char *text, *says;
} bad[] = {
	{"frobnicate=1", "unknown option \"frobnicate\"; there are: data-checksum metadata-"},
	{"label", "\"label\": not NAME=VALUE"},
	{"=x", "unknown option \"\""},
	{"data-checksum=md5", "data-checksum: unknown checksum \"md5\"; there are: none crc32c"},
	{"data-checksum=xchacha20_poly1305", "what encryption uses; there are: "},
	{"metadata-checksum=none", "never without"},
	{"metadata-checksum=", "metadata-checksum: unknown checksum \"\""},
	{"compression=gzip", "unknown compression \"gzip\"; there are: "},
	{"compression=zstd:99", "compression level 99 of zstd: not one of -50 to 19"},
	{"background-compression=", "background-compression: unknown compression \"\""},
	{"errors=explode", "errors: unknown mode \"explode\"; there are: ro continue panic"},
	{"errors=", "unknown mode"},
	{"label=123456789012345678901234567890123", "longer than 32 bytes"},
	{"label=a\tb", "control characters"},
};

static void refused_main(void *arg)
{
	struct bcfs_open_opts ro = {.struct_size = sizeof(ro), .read_only = 1};
	char text[512], msg[CORE_MSG_SIZE];
	struct world *w = arg;
	struct bcfs_ino ino;
	struct bcfs *fs;

	world_mkfs(w, NULL);
	world_opens(w, NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		/* All that is right about the others. */
		snprintf(text, sizeof(text), "compression=zstd\ndata-checksum=xxh3\n%s\nlabel=b\n",
			 bad[i].text);
		refuses(w, text, EINVAL, bad[i].says);
		*msg = 0;
		must(bcfs_fs_options_check(text, msg, sizeof(msg)) && strstr(msg, bad[i].says),
		     "%s: \"%s\"", bad[i].text, msg);
	}
	memset(text, 'x', sizeof(text));
	memcpy(text, "label=", 6);
	text[sizeof(text) - 1] = 0;
	refuses(w, text, EINVAL, "too long");

	/* A removed file that is in use: only what opens anew is in its way. */
	ino = write_file(&w->c->fs, "removed");
	must(!bcfs_unlink(&w->c->fs, bcfs_root(&w->c->fs), "removed"), "unlink");
	refuses(w, "label=b\ndata-checksum=xxh3", EBUSY, "removed files are still in use");
	writes(&w->c->fs, BCFS_COMPRESSION_none, BCFS_CSUM_crc32c);
	applies(w, "data-checksum=crc32c\ncompression=zstd");
	writes(&w->c->fs, BCFS_COMPRESSION_zstd, BCFS_CSUM_crc32c);
	bcfs_forget(&w->c->fs, ino, 1);
	applies(w, "data-checksum=xxh3");

	fs = &w->c->fs;
	must(!bcfs_reopen(&fs, &ro, msg, sizeof(msg)), "%s", msg);
	w->c = to_core(fs);
	refuses(w, "label=b", EROFS, "read-only");
	must(!core_close(w->c), "close");
}

Test(fs_options, refused)
{
	world_run(refused_main, 0xf52, false);
}

/* ---- the superblock cannot be written ---- */

static void failing_main(void *arg)
{
	struct world *w = arg;
	struct bcfs *c;

	world_mkfs(w, NULL);
	world_opens(w, NULL);
	writes(&w->c->fs, BCFS_COMPRESSION_none, BCFS_CSUM_crc32c);
	sim_bdev_arm(w->bdev, SIM_FAULT_WRITE_ERROR, 1, true);
	refuses(w, set, EIO, "superblock");
	sim_bdev_arm(w->bdev, SIM_FAULT_WRITE_ERROR, 0, false);
	c = &w->c->fs;
	has(c, as_made);
	must(w->c->on_error == BCFS_ON_ERROR_RO, "errors=");
	must(!c->fs_opts.background_compression, "background-compression");
	must(!sb_tells_compression(c->sb, BCFS_COMPRESSION_zstd), "features");
	writes(c, BCFS_COMPRESSION_none, BCFS_CSUM_crc32c);
	world_crash(w);
	world_opens(w, NULL);
	has(&w->c->fs, as_made);
	applies(w, set);
	writes(&w->c->fs, BCFS_COMPRESSION_zstd, BCFS_CSUM_xxh3);
	must(!core_close(w->c), "close");
}

Test(fs_options, superblock_not_written)
{
	world_run(failing_main, 0xf53, false);
}

/* ---- encrypted ---- */

static void encrypted_main(void *arg)
{
	static const char made[] = "data-checksum=xchacha20_poly1305\n"
				   "metadata-checksum=xchacha20_poly1305\ncompression=%s\n"
				   "background-compression=none\nerrors=ro\nlabel=%s\n";
	struct world *w = arg;
	char want[512];

	world_mkfs(w, &world_key_file);
	world_opens(w, &world_right);
	refuses(w, "label=b\ndata-checksum=crc32c", EINVAL, "tags take the place of checksums");
	refuses(w, "metadata-checksum=crc32c", EINVAL, "tags take the place of checksums");
	snprintf(want, sizeof(want), made, "none", "");
	has(&w->c->fs, want);
	applies(w, "compression=zstd\nlabel=b");
	writes(&w->c->fs, BCFS_COMPRESSION_zstd, BCFS_CSUM_xchacha20_poly1305);
	world_crash(w);
	/* The MAC is that of the new superblock. */
	world_opens(w, &world_right);
	snprintf(want, sizeof(want), made, "zstd", "b");
	has(&w->c->fs, want);
	writes(&w->c->fs, BCFS_COMPRESSION_zstd, BCFS_CSUM_xchacha20_poly1305);
	must(!core_close(w->c), "close");
}

Test(fs_options, encrypted)
{
	world_run(encrypted_main, 0xf54, true);
}

/* ---- by path ---- */

static char path[64];

static void make(const struct bcfs_secret *s)
{
	struct bcfs_mkfs_opts o = {.struct_size = sizeof(o),
				   .size_bytes = 64 << 20,
				   .secret = s,
				   .kdf_passes = 1,
				   .kdf_bytes = 8192};
	char msg[512] = "";
	int fd;

	strcpy(path, "/tmp/bcfs-fs-options.XXXXXX");
	fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	close(fd);
	cr_assert_eq(bcfs_mkfs(path, &o, NULL, msg, sizeof(msg)), 0, "%s", msg);
}

static void remove_file(void)
{
	unlink(path);
}

static void reads(const char *want)
{
	char text[1024] = "", msg[512] = "";

	cr_assert_eq(bcfs_fs_options_read(path, out, text, msg, sizeof(msg)), 0, "%s", msg);
	cr_assert_str_eq(text, want);
}

static void sets(const struct bcfs_secret *s, const char *text, int error, const char *says)
{
	const struct bcfs_key_opts o = {.struct_size = sizeof(o), .secret = s};
	char msg[512] = "";
	int ret = bcfs_fs_options_set(path, &o, text, msg, sizeof(msg));

	cr_assert_eq(bcfs_errno(ret), error, "%s: %s", text, msg);
	cr_assert(strstr(msg, says) && (!ret || !*says || !strchr(msg, '\n')), "%s", msg);
}

Test(fs_options, of_a_device, .fini = remove_file)
{
	const struct bcfs_secret secret = {BCFS_SECRET_PASSPHRASE, "open sesame", 11};
	const struct bcfs_open_opts o = {.struct_size = sizeof(o)};
	struct bcfs_stat st;
	char msg[512] = "";
	struct bcfs *fs;

	make(NULL);
	reads(as_made);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		sets(NULL, bad[i].text, EINVAL, bad[i].says);
	sets(&secret, "label=b", EINVAL, "not encrypted");
	reads(as_made);
	cr_assert_eq(bcfs_open(path, &o, &fs, msg, sizeof(msg)), 0, "%s", msg);
	sets(NULL, "label=b", EBUSY, path);
	/* A crash: what is in the journal stays. */
	cr_assert_eq(bcfs_mkdir(fs, bcfs_root(fs), "d", 0755, &cred, &st), 0);
	cr_assert_eq(bcfs_sync(fs), 0);
	bcfs_abort(fs);
	reads(as_made);
	sets(NULL, set, 0, "");
	reads(has_set);
	cr_assert_eq(bcfs_open(path, &o, &fs, msg, sizeof(msg)), 0, "%s", msg);
	cr_assert_eq(bcfs_lookup(fs, bcfs_root(fs), "d", &st), 0);
	writes(fs, BCFS_COMPRESSION_zstd, BCFS_CSUM_xxh3);
	cr_assert_eq(bcfs_close(fs), 0);
	sets(NULL, "errors=ro\nlabel=", 0, "");
	cr_assert_eq(bcfs_open(path, &o, &fs, msg, sizeof(msg)), 0, "%s", msg);
	writes(fs, BCFS_COMPRESSION_zstd, BCFS_CSUM_xxh3);
	cr_assert_eq(to_core(fs)->on_error, BCFS_ON_ERROR_RO);
	cr_assert_eq(bcfs_close(fs), 0);
}

Test(fs_options, of_an_encrypted_device, .fini = remove_file)
{
	const struct bcfs_secret secret = {BCFS_SECRET_PASSPHRASE, "open sesame", 11};
	const struct bcfs_secret wrong = {BCFS_SECRET_PASSPHRASE, "open sesam", 10};
	struct bcfs_open_opts o = {.struct_size = sizeof(o), .secret = &secret};
	char before[1024] = "", msg[512] = "";
	struct bcfs *fs;

	make(&secret);
	cr_assert_eq(bcfs_fs_options_read(path, out, before, NULL, 0), 0);
	sets(NULL, "compression=zstd", ENOKEY, path);
	sets(&wrong, "compression=zstd", EKEYREJECTED, "");
	sets(&secret, "compression=zstd\ndata-checksum=none", EINVAL, "tags take the place");
	sets(&secret, "metadata-checksum=crc32c", EINVAL, path);
	reads(before);
	sets(&secret, "compression=zstd", 0, "");
	cr_assert_eq(bcfs_open(path, &o, &fs, msg, sizeof(msg)), 0, "%s", msg);
	writes(fs, BCFS_COMPRESSION_zstd, BCFS_CSUM_xchacha20_poly1305);
	cr_assert_eq(bcfs_close(fs), 0);
}
