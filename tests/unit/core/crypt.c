// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: an encrypted filesystem opens with its secret and with nothing else, and what stands in the
 * way is told: no secret, a wrong one, a superblock that somebody changed, one that is not
 * encrypted though a secret was given. What is in it stays, over closing, crashes and remounts, and
 * nothing readable gets to the device, which watches.
 * Method: one small filesystem on the simulated device, the superblock changed in each of these
 * ways; then image files through the public calls.
 */
#include "crypt_world.h"
#include "../test_rand.h"
#include "btree/btree.h"
#include "codec/codec.h"
#include "sb/sb.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 300

static void refused(struct world *w, const struct crypt_secret *s, int err, const char *says)
{
	char msg[CORE_MSG_SIZE];
	int ret = world_open_with(w, s, msg);

	must(ret == err, "%s: %s: \"%s\"", says, err_str(ret), msg);
	must(!strncmp(msg, "sim: ", 5) && strstr(msg, says) && !strchr(msg, '\n'),
	     "no \"%s\" in \"%s\"", says, msg);
}

static void name_of(unsigned i, char name[64])
{
	snprintf(name, 64, "a-name-that-nobody-may-read-%u", i);
}

static void fill(struct bcfs *c, unsigned from, unsigned to)
{
	const struct bcfs_cred cred = {0};
	const char value[] = "the-value-of-an-attribute-that-nobody-may-read";
	struct bcfs_stat st;
	char name[64];

	for (unsigned i = from; i < to; i++) {
		name_of(i, name);
		must(!bcfs_mknod(c, bcfs_root(c), name, S_IFREG | 0600, 0, 0, &cred, &st), "mknod");
		must(!bcfs_setxattr(c, st.ino, "user.an-attribute-with-a-long-name", value,
				    sizeof(value), 0),
		     "setxattr");
		bcfs_forget(c, st.ino, 1);
	}
}

static void look(struct bcfs *c, unsigned nr)
{
	struct bcfs_stat st;
	char name[64];

	for (unsigned i = 0; i <= nr; i++) {
		name_of(i, name);
		int ret = bcfs_lookup(c, bcfs_root(c), name, &st);

		must((!ret) == (i < nr), "%s: %s", name, err_str(ret));
		if (!ret)
			bcfs_forget(c, st.ino, 1);
	}
}

/* ---- who opens it ---- */

static struct sb_handle *take_sb(struct world *w)
{
	struct sb_handle *sb;

	must(!sb_read(w->env, w->bdev, NULL, &sb), "sb_read");
	return sb;
}

static void secrets_main(void *arg)
{
	struct world *w = arg;
	struct sb_handle *sb;

	world_mkfs(w, &world_key_file);
	refused(w, NULL, -BCFS_ERR_sb_crypt_locked, "passphrase or key file is needed");
	refused(w, &world_wrong, -BCFS_ERR_sb_crypt_wrong_secret, "wrong key file");
	refused(w, &world_passphrase, -BCFS_ERR_sb_crypt_wrong_secret, "wrong passphrase");
	world_opens(w, &world_right);
	must(!w->c->opts.secret.p, "the secret is kept");
	fill(&w->c->fs, 0, FILES);
	must(!core_close(w->c), "close");

	/* What needs no key is still done without. */
	sb = take_sb(w);
	sb->sb->flags[0] |= BCFS_SB_FLAG_ERROR;
	must(!sb_write(sb), "sb_write");
	sb_free(sb);
	world_opens(w, &world_right);
	look(&w->c->fs, FILES);
	core_abort(w->c);

	/* Somebody who has the device, but not the key. */
	sb = take_sb(w);
	sb->was_encrypted = false;
	sb->keys = NULL;
	sb_opt_set(sb->sb, SB_OPT_errors, 1);
	struct bcfs_sb_field_crypt *f = (void *)sb_field_get(sb->sb, BCFS_SB_FIELD_crypt);
	struct keyring *keys = keyring_new(w->env, NULL);
	struct csum_key k = {.gen = 1};

	must(f && keys && !keyring_add(keys, &k), "keys");
	sb->keys = keys; /* signed by another key */
	must(!sb_write(sb), "sb_write");
	sb_free(sb);
	refused(w, &world_right, -BCFS_ERR_sb_crypt_tampered, "tampered with");

	sim_bdev_forget_lives(w->bdev);
	world_mkfs(w, NULL);
	refused(w, &world_right, -BCFS_ERR_sb_crypt_none, "not encrypted");
	world_opens(w, NULL);
	must(!core_close(w->c), "close");
}

/* ---- what is in it ---- */

static void content_main(void *arg)
{
	struct world *w = arg;
	struct bcfs_open_opts ro = {.struct_size = sizeof(ro), .read_only = 1}, rw = ro;
	struct bcfs *fs;
	char msg[CORE_MSG_SIZE] = "";

	rw.read_only = 0;
	world_mkfs(w, &world_key_file);
	must(sim_bdev_nr_nonces(w->bdev) > 2, "mkfs: %llu were looked at",
	     (unsigned long long)sim_bdev_nr_nonces(w->bdev));
	world_opens(w, &world_right);
	fill(&w->c->fs, 0, FILES);
	must(!bcfs_sync(&w->c->fs), "sync");
	world_crash(w);
	world_opens(w, &world_right);
	look(&w->c->fs, FILES);
	world_check(w);
	fill(&w->c->fs, FILES, 2 * FILES);
	must(sim_bdev_nr_nonces(w->bdev) > 10, "nothing was looked at");

	/* A remount is not asked for the secret, which is not there any more. */
	fs = &w->c->fs;
	must(!bcfs_reopen(&fs, &ro, msg, sizeof(msg)), "%s", msg);
	look(fs, 2 * FILES);
	must(!bcfs_reopen(&fs, &rw, msg, sizeof(msg)), "%s", msg);
	w->c = to_core(fs);
	fill(fs, 2 * FILES, 2 * FILES + 10);
	look(fs, 2 * FILES + 10);
	must(!core_close(w->c), "close");
	refused(w, NULL, -BCFS_ERR_sb_crypt_locked, "needed");
}

/* Somebody without the key changes the flag clean, in all copies, with right checksums. */
static void set_clean_flag(struct world *w, bool clean)
{
	struct sb_handle *h = take_sb(w);
	struct bcfs_sb *sb = h->sb;

	must(!clean == !!(sb->flags[0] & BCFS_SB_FLAG_CLEAN), "was it closed cleanly?");
	sb->flags[0] ^= BCFS_SB_FLAG_CLEAN;
	for (unsigned i = 0; i < sb->layout.nr_copies; i++) {
		sb->offset = sb->layout.offset[i];
		must(!csum_compute(NULL, sb->csum_type, NULL, NULL, 0, (u8 *)sb + sizeof(sb->csum),
				   sb_bytes(sb) - sizeof(sb->csum), &sb->csum),
		     "csum");
		sim_bdev_poke(w->bdev, sb->offset * SECTOR_SIZE, sb, sb_bytes(sb));
	}
	sb_free(h);
}

/* With what was synced since the last clean unmount, a mount that is called clean begins there. */
static void called_clean_main(void *arg)
{
	struct world *w = arg;

	world_mkfs(w, &world_key_file);
	world_opens(w, &world_right);
	fill(&w->c->fs, 0, FILES);
	must(!bcfs_sync(&w->c->fs), "sync");
	world_crash(w);
	set_clean_flag(w, true);
	refused(w, &world_right, -BCFS_ERR_sb_crypt_tampered, "tampered with");
	set_clean_flag(w, false);
	world_opens(w, &world_right);
	look(&w->c->fs, FILES);
	must(!core_close(w->c), "close");
	set_clean_flag(w, false);
	refused(w, &world_right, -BCFS_ERR_sb_crypt_tampered, "tampered with");
}

/* ---- another master key ---- */

#define DATA_FILES 12
#define DATA_BYTES 150000

static void data_of(unsigned i, char *buf)
{
	for (unsigned k = 0; k < DATA_BYTES; k++)
		buf[k] = 'a' + (char)((k / 7 + k * i + k % 11) % 26);
}

static void data_fill(struct bcfs *c)
{
	const struct bcfs_cred cred = {0};
	char *buf = malloc(DATA_BYTES), name[16];
	struct bcfs_stat st;

	for (unsigned i = 0; i < DATA_FILES; i++) {
		snprintf(name, sizeof(name), "data-%u", i);
		data_of(i, buf);
		must(!bcfs_mknod(c, bcfs_root(c), name, S_IFREG | 0600, 0, 0, &cred, &st), "mknod");
		must(bcfs_write(c, st.ino, i * 1000, buf, DATA_BYTES, 0) == DATA_BYTES, "write");
		bcfs_forget(c, st.ino, 1);
	}
	free(buf);
}

static void data_look(struct bcfs *c)
{
	char *buf = malloc(DATA_BYTES), *want = malloc(DATA_BYTES), name[16];
	struct bcfs_stat st;

	for (unsigned i = 0; i < DATA_FILES; i++) {
		snprintf(name, sizeof(name), "data-%u", i);
		data_of(i, want);
		must(!bcfs_lookup(c, bcfs_root(c), name, &st), "lookup");
		s64 n = bcfs_read(c, st.ino, i * 1000, buf, DATA_BYTES);

		must(n == DATA_BYTES && !memcmp(buf, want, DATA_BYTES), "%s: %lld", name,
		     (long long)n);
		bcfs_forget(c, st.ino, 1);
	}
	free(buf);
	free(want);
}

static void all_look(struct world *w)
{
	look(&w->c->fs, FILES);
	data_look(&w->c->fs);
	world_check(w);
}

static void rotate_main(void *arg)
{
	static const char other_key[] = "another key file, with other bytes than the first one has";
	const struct crypt_secret other = {BCFS_CRYPT_SLOT_key_file, other_key, sizeof(other_key)};
	const struct bcfs_secret both[] = {world_key_file,
					   {BCFS_SECRET_KEY_FILE, other_key, sizeof(other_key)}};
	const struct crypt_kdf kdf = CRYPT_KDF_DEFAULT;
	struct world *w = arg;
	unsigned slot;

	world_mkfs(w, &world_key_file);
	world_opens(w, &world_right);
	fill(&w->c->fs, 0, FILES);
	data_fill(&w->c->fs);
	must(!sb_crypt_slot_add(w->c->fs.sb, &other, &kdf, &slot), "a slot more");
	must(bcfs_key_generations(&w->c->fs) == 1, "one key");
	must(bcfs_key_rotate(&w->c->fs, &world_key_file, 1, 0) == -BCFS_ERR_sb_crypt_slot_left,
	     "a slot would be lost");
	must(!bcfs_key_rotate(&w->c->fs, both, 2, 0), "rotate");
	world_wait_rekeyed(w);
	must(w->c->rekey_nodes > 5 && w->c->rekey_sectors >= DATA_FILES * DATA_BYTES / 512,
	     "%llu nodes, %llu sectors", (unsigned long long)w->c->rekey_nodes,
	     (unsigned long long)w->c->rekey_sectors);
	all_look(w);

	/* Nothing that is needed after a crash is encrypted with the key that is gone. */
	world_crash(w);
	world_opens(w, &other);
	must(keyring_nr(w->c->fs.sb->keys) == 1 &&
		     keyring_newest(w->c->fs.sb->keys, KEY_USE_data)->gen == 2,
	     "the keys there are");
	all_look(w);
	must(!core_close(w->c), "close");

	/* Crashes in its midst, and another key before it is done: it goes on at each mount. */
	for (unsigned i = 0; i < 12; i++) {
		world_opens(w, i < 4 ? &other : &world_right);
		if (i % 4 == 0)
			must(!bcfs_key_rotate(&w->c->fs, both, i < 4 ? 2 : 1, i >= 4), "rotate");
		env_sleep_ns(w->env, (1 + i * 3) * ENV_NSEC_PER_MSEC);
		data_look(&w->c->fs);
		world_crash(w);
	}
	refused(w, &other, -BCFS_ERR_sb_crypt_wrong_secret, "wrong key file");
	world_opens(w, &world_right);
	world_wait_rekeyed(w);
	all_look(w);
	must(!core_close(w->c), "close");
	world_opens(w, &world_right);
	must(keyring_nr(w->c->fs.sb->keys) == 1, "the keys there are");
	all_look(w);
	must(!core_close(w->c), "close");
}

Test(crypt, secrets)
{
	world_run(secrets_main, 1, false);
}

Test(crypt, content)
{
	world_run(content_main, 2, true);
}

Test(crypt, called_clean)
{
	world_run(called_clean_main, 7, true);
}

Test(crypt, another_master_key)
{
	for (u64 seed = 3; seed < 3 + trand_rounds(4); seed++)
		world_run(rotate_main, seed, true);
}

/* ---- slots of what is open ---- */

static int apply(struct world *w, enum bcfs_key_op op, const struct bcfs_secret *opens, u32 *slot,
		 const struct bcfs_secret *secret)
{
	const struct bcfs_key_opts o = {
		.struct_size = sizeof(o), .secret = opens, .kdf_passes = 1, .kdf_bytes = 8192};

	return bcfs_key_apply(&w->c->fs, op, &o, secret, slot);
}

struct twice {
	struct world *w;
	const struct bcfs_secret *opens;
	struct bcfs_secret new_one;
	int ret;
	u32 slot;
};

static void change_it(void *arg)
{
	struct twice *t = arg;

	t->slot = BCFS_KEY_SLOT_OPENED;
	t->ret = apply(t->w, BCFS_KEY_CHANGE, t->opens, &t->slot, &t->new_one);
}

/* What is changed by a secret is gone for who comes second with the same. */
static void both_at_once(struct world *w, const struct bcfs_secret *opens)
{
	struct twice t[2];
	struct env_thread *thread[2];

	for (unsigned i = 0; i < 2; i++) {
		t[i] = (struct twice){w,
				      opens,
				      {BCFS_SECRET_PASSPHRASE, i ? "second" : "first", i ? 6 : 5},
				      0,
				      0};
		must(!env_thread_start(w->env, &thread[i], "change", change_it, &t[i]), "thread");
	}
	for (unsigned i = 0; i < 2; i++)
		env_thread_join(thread[i]);
	unsigned won = t[0].ret ? 1 : 0;

	must(!t[won].ret && t[!won].ret == -BCFS_ERR_sb_crypt_wrong_secret, "%s, %s",
	     err_str(t[0].ret), err_str(t[1].ret));
	must(!apply(w, BCFS_KEY_REMOVE, &world_key_file, &t[won].slot, NULL), "remove");
}

static void open_slots_main(void *arg)
{
	static const char more[] = "one more passphrase";
	const struct bcfs_secret pass = {BCFS_SECRET_PASSPHRASE, more, sizeof(more)};
	const struct crypt_secret opens_too = {BCFS_CRYPT_SLOT_passphrase, more, sizeof(more)};
	struct world *w = arg;
	struct twice t = {.w = w, .opens = &world_key_file, .new_one = pass};
	u32 slot = 7;

	world_mkfs(w, &world_key_file);
	world_opens(w, &world_right);
	must(apply(w, BCFS_KEY_ADD, &pass, &slot, &pass) == -BCFS_ERR_sb_crypt_wrong_secret,
	     "a wrong one");
	must(apply(w, BCFS_KEY_ADD, NULL, &slot, &pass) == -BCFS_ERR_invalid_option, "none");
	must(apply(w, BCFS_KEY_ADD, &world_key_file, &slot, NULL) == -BCFS_ERR_invalid_option,
	     "no new one");
	must(!apply(w, BCFS_KEY_ADD, &world_key_file, &slot, &pass) && slot == 1, "add");
	fill(&w->c->fs, 0, FILES);
	both_at_once(w, &pass);
	must(!apply(w, BCFS_KEY_ADD, &world_key_file, &slot, &pass) && slot == 1, "add again");
	slot = 0;
	must(!apply(w, BCFS_KEY_REMOVE, &pass, &slot, NULL), "remove the first");
	must(apply(w, BCFS_KEY_REMOVE, &world_key_file, &slot, NULL) ==
		     -BCFS_ERR_sb_crypt_wrong_secret,
	     "it opens nothing any more");
	slot = BCFS_KEY_SLOT_OPENED;
	must(apply(w, BCFS_KEY_REMOVE, &pass, &slot, NULL) == -BCFS_ERR_sb_crypt_last_slot &&
		     slot == 1,
	     "the last one");

	/* A slot that was changed is so after a crash; a new master key knows of it. */
	world_crash(w);
	refused(w, &world_right, -BCFS_ERR_sb_crypt_wrong_secret, "wrong key file");
	world_opens(w, &opens_too);
	must(!bcfs_key_rotate(&w->c->fs, &pass, 1, 0), "rotate");
	must(!apply(w, BCFS_KEY_ADD, &pass, &slot, &world_key_file) && slot == 0, "add");
	world_wait_rekeyed(w);
	must(!core_close(w->c), "close");
	world_opens(w, &world_right);
	w->c->fs.fs_opts.read_only = true;
	change_it(&t);
	must(t.ret == -BCFS_ERR_erofs, "read-only");
	w->c->fs.fs_opts.read_only = false;
	must(!core_close(w->c), "close");
}

Test(crypt, slots_of_what_is_open)
{
	for (u64 seed = 20; seed < 20 + trand_rounds(8); seed++)
		world_run(open_slots_main, seed, true);
}

/* ---- by path ---- */

static void out(void *arg, const char *text)
{
	strncat(arg, text, 65535 - strlen(arg));
}

Test(crypt, public_calls)
{
	char path[] = "/tmp/bcfs-crypt-XXXXXX", msg[512] = "", *text = calloc(1, 65536);
	struct bcfs_secret pass = {BCFS_SECRET_PASSPHRASE, "open sesame", 11}, bad = pass;
	struct bcfs_mkfs_opts m = {.struct_size = sizeof(m),
				   .size_bytes = 32 << 20,
				   .force = 1,
				   .secret = &pass,
				   .kdf_passes = 1,
				   .kdf_bytes = 8192};
	struct bcfs_open_opts o = {.struct_size = sizeof(o)};
	struct bcfs_check_opts co = {.struct_size = sizeof(co)};
	struct bcfs_dump_opts d = {.struct_size = sizeof(d), .all = 1};
	struct bcfs_check_result res;
	struct bcfs_info info;
	struct bcfs *fs;
	int fd = mkstemp(path), err;

	cr_assert_geq(fd, 0);
	close(fd);
	m.metadata_csum = "crc32c";
	cr_expect_eq(bcfs_errno(bcfs_mkfs(path, &m, NULL, msg, sizeof(msg))), EINVAL);
	cr_expect(strstr(msg, "authenticated"), "%s", msg);
	m.metadata_csum = NULL;
	pass.type = 7;
	cr_expect_eq(bcfs_errno(bcfs_mkfs(path, &m, NULL, msg, sizeof(msg))), EINVAL);
	pass.type = BCFS_SECRET_PASSPHRASE;
	m.kdf_bytes = 1;
	cr_expect_eq(bcfs_errno(bcfs_mkfs(path, &m, NULL, msg, sizeof(msg))), EINVAL);
	cr_expect(strstr(msg, "Argon2id"), "%s", msg);
	m.kdf_bytes = 8192;
	cr_assert_eq(bcfs_mkfs(path, &m, &info, msg, sizeof(msg)), 0, "%s", msg);
	cr_expect(info.encrypted);
	cr_assert_eq(bcfs_probe(path, &info, msg, sizeof(msg)), 0, "%s", msg);
	cr_expect(info.encrypted);

	err = bcfs_open(path, &o, &fs, msg, sizeof(msg));
	cr_expect_eq(bcfs_errno(err), ENOKEY, "%s", msg);
	bad.len--;
	o.secret = &bad;
	err = bcfs_open(path, &o, &fs, msg, sizeof(msg));
	cr_expect_eq(bcfs_errno(err), EKEYREJECTED, "%s", msg);
	o.secret = &pass;
	cr_assert_eq(bcfs_open(path, &o, &fs, msg, sizeof(msg)), 0, "%s", msg);
	fill(fs, 0, 20);
	cr_assert_eq(bcfs_close(fs), 0);

	/* A check, and dumps, ask as a mount does; the superblock can be looked at. */
	err = bcfs_check(path, &co, &res, msg, sizeof(msg));
	cr_expect_eq(bcfs_errno(err), ENOKEY, "%s", msg);
	co.secret = &pass;
	cr_assert_eq(bcfs_check(path, &co, &res, msg, sizeof(msg)), 0, "%s", msg);
	cr_expect_eq(res.errors, 0);
	cr_assert_eq(bcfs_dump_superblock(path, &d, out, text, msg, sizeof(msg)), 0);
	*text = 0;
	cr_expect_eq(bcfs_errno(bcfs_dump_journal(path, &d, out, text, msg, sizeof(msg))), ENOKEY);
	cr_expect_eq(bcfs_errno(bcfs_dump_btree(path, &d, out, text, msg, sizeof(msg))), ENOKEY);
	cr_expect_eq(*text, 0);
	d.secret = &pass;
	d.btree = "dirents";
	cr_assert_eq(bcfs_dump_journal(path, &d, out, text, msg, sizeof(msg)), 0, "%s", msg);
	*text = 0;
	cr_assert_eq(bcfs_dump_btree(path, &d, out, text, msg, sizeof(msg)), 0, "%s", msg);
	cr_expect(strstr(text, "a-name-that-nobody-may-read-7"));
	free(text);
	unlink(path);
}
