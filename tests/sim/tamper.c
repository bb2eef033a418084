// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: whatever byte of an encrypted device somebody changes, nobody is shown anything that was
 * not written: each call answers what it did before, or an error. Method: a small tree on a small
 * encrypted device that was closed cleanly; one byte of it, of a sector that is not blank, is
 * changed to any other; the device is opened read-only and everything is read. If no call failed,
 * all is as before; otherwise each thing that was shown is.
 *
 * Usage: tamper. BCFS_TEST_SCALE: how many bytes (default 1: some thousand; 100: each).
 * BCFS_TEST_SEED: another tree, and other bytes.
 */
#include "sim.h"

#include "../unit/test_rand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BYTES_WANTED 3000.0
#define BUCKET	     16384U

static const u8 key_file[40] = "of nobody";

struct tamper {
	u64 seed;
	struct env *env;
	struct bdev *bdev;
	struct sim_image *img;
	u64 size; /* of the device */
	char *right;
	/* One trial. */
	u64 offset;
	u8 with;
	u64 trials, refused, read_errors, same;
};

static void fail(const struct tamper *t, const char *what, const char *text)
{
	fprintf(stderr, "FAILED: byte %llu ^ 0x%x: %s\n%s\nBCFS_TEST_SEED=0x%llx\n",
		(unsigned long long)t->offset, t->with, what, text, (unsigned long long)t->seed);
	exit(1);
}

static void no_log(void *arg, enum bcfs_log_level level, const char *line)
{
	if (getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "log: %s\n", line);
}

/* ---- the tree ---- */

static struct bcfs_ino add_file(struct tamper *t, struct bcfs *fs, struct bcfs_ino dir,
				const char *name, u64 len, u64 *r, bool random)
{
	const struct bcfs_cred cred = {0};
	struct bcfs_stat st;
	u8 *data = malloc(len + 1);
	int ret = bcfs_mknod(fs, dir, name, S_IFREG | 0640, 0, 0, &cred, &st);

	if (ret)
		fail(t, name, err_str(ret));
	for (u64 i = 0; i < len; i++)
		data[i] = (u8)(random ? trand_u64(r) : i / 50);
	if (bcfs_write(fs, st.ino, 0, data, len, 0) != (s64)len)
		fail(t, name, "written in part");
	free(data);
	return st.ino;
}

static void make_tree(struct tamper *t, struct bcfs *fs)
{
	struct bcfs_ino root = bcfs_root(fs), x;
	const struct bcfs_cred cred = {0};
	struct bcfs_stat dir, st;
	char name[64];
	u64 r = t->seed;

	add_file(t, fs, root, "in-its-key", 150, &r, true);
	add_file(t, fs, root, "small", 3000, &r, true);
	add_file(t, fs, root, "large", 30000, &r, true);
	x = add_file(t, fs, root, "compressed", 30000, &r, false);
	if (bcfs_setxattr(fs, x, "user.a", "an attribute's value", 20, 0) ||
	    bcfs_symlink(fs, root, "a-link", "where-it-leads", &cred, &st) ||
	    bcfs_mkdir(fs, root, "directory", 0750, &cred, &dir))
		fail(t, "making", "the tree");
	for (unsigned i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "file-%u", i);
		add_file(t, fs, dir.ino, name, i * 40, &r, i % 2);
	}
}

static void make_main(void *arg)
{
	struct tamper *t = arg;
	const struct bcfs_secret secret = {BCFS_SECRET_KEY_FILE, key_file, sizeof(key_file)};
	struct bcfs_mkfs_opts o = {.struct_size = sizeof(o),
				   .block_bytes = 512,
				   .node_bytes = 4096,
				   .bucket_bytes = BUCKET,
				   .journal_bytes = sim_small_journal_bytes(512, BUCKET),
				   .extent_max_bytes = 8192,
				   .compression = "zstd:1",
				   .secret = &secret,
				   .log = no_log};
	struct core_opts co = {.secret = {BCFS_CRYPT_SLOT_key_file, key_file, sizeof(key_file)},
			       .no_background = true};
	char msg[CORE_MSG_SIZE] = "";
	struct core *c;
	int ret = sim_mkfs(t->env, t->bdev, &o, msg, sizeof(msg));

	ret = ret ?: core_open_on(t->env, t->bdev, &co, no_log, NULL, &c, msg, sizeof(msg));
	if (ret)
		fail(t, err_str(ret), msg);
	make_tree(t, &c->fs);
	bcfs_forget_all(&c->fs);
	ret = core_close(c);
	if (ret)
		fail(t, "close", err_str(ret));
}

/* ---- what is shown ---- */

static void trial_main(void *arg)
{
	struct tamper *t = arg;
	struct core_opts o = {.secret = {BCFS_CRYPT_SLOT_key_file, key_file, sizeof(key_file)},
			      .read_only = true,
			      .no_background = true,
			      .cache_bytes = 1};
	char msg[CORE_MSG_SIZE] = "", *text;
	struct core *c;
	int ret, err;
	u8 b;

	if (t->with) {
		sim_bdev_peek(t->bdev, t->offset, &b, 1);
		b ^= t->with;
		sim_bdev_poke(t->bdev, t->offset, &b, 1);
	}
	ret = core_open_on(t->env, t->bdev, &o, no_log, NULL, &c, msg, sizeof(msg));
	if (ret) {
		if (!t->with || !(err_is_damage(ret) || bcfs_errno(ret) == EKEYREJECTED))
			fail(t, err_str(ret), msg);
		t->refused++;
		return;
	}
	text = fs_text(&c->fs, &err);
	if (!t->with)
		t->right = strdup(text);
	else if (!err && strcmp(text, t->right))
		fail(t, "it shows something else, and no call has failed", text);
	else if (err && !text_is_part(text, t->right))
		fail(t, "what it shows beside errors is not what was written", text);
	t->read_errors += !!err;
	t->same += !err;
	free(text);
	core_abort(c);
}

static void on_device(struct tamper *t, void (*fn)(void *))
{
	struct sim_bdev_opts o = {.no_log = true, .size_bytes = t->size};
	int ret;

	t->env = env_sim_create(t->seed + t->offset);
	ret = t->img ? sim_bdev_create_from(t->env, "sim", &o, t->img, &t->bdev)
		     : sim_bdev_create(t->env, "sim", &o, &t->bdev);
	ret = ret ?: env_sim_run(t->env, fn, t);
	if (ret)
		fail(t, "the simulation", err_str(ret));
	if (!t->img)
		t->img = sim_bdev_image(t->bdev);
	bdev_close(t->bdev);
	env_sim_destroy(t->env);
}

/* The places of all bytes of sectors that are not blank. */
static u64 *places(struct tamper *t, u64 *ret_nr)
{
	struct sim_bdev_opts o = {.no_log = true};
	u64 *all = malloc(t->size * sizeof(u64)), nr = 0;
	u8 buf[512];

	t->env = env_sim_create(t->seed);
	if (sim_bdev_create_from(t->env, "sim", &o, t->img, &t->bdev))
		fail(t, "no device", "");
	for (u64 at = 0; at < t->size; at += sizeof(buf)) {
		sim_bdev_peek(t->bdev, at, buf, sizeof(buf));
		if (!buf[0] && !memcmp(buf, buf + 1, sizeof(buf) - 1))
			continue;
		for (u64 i = 0; i < sizeof(buf); i++)
			all[nr++] = at + i;
	}
	bdev_close(t->bdev);
	env_sim_destroy(t->env);
	*ret_nr = nr;
	return all;
}

int main(void)
{
	const char *s = getenv("BCFS_TEST_SCALE");
	double wanted = BYTES_WANTED * (s && atof(s) > 0 ? atof(s) : 1);
	struct tamper t = {.seed = trand_seed(0x7a3be5)};
	u64 rng = t.seed, nr, *all;

	t.size = (1536ULL << 10) + sim_small_journal_bytes(512, BUCKET);
	on_device(&t, make_main);
	on_device(&t, trial_main);
	all = places(&t, &nr);
	for (double at = 0; at < (double)nr; at += wanted < (double)nr ? (double)nr / wanted : 1) {
		t.offset = all[(u64)at];
		t.with = (u8)(1 + trand_below(&rng, 255));
		t.trials++;
		on_device(&t, trial_main);
	}
	printf("%llu of %llu bytes changed: %llu met when mounting, %llu when reading, %llu where "
	       "nothing is needed\n",
	       (unsigned long long)t.trials, (unsigned long long)nr, (unsigned long long)t.refused,
	       (unsigned long long)t.read_errors, (unsigned long long)t.same);
	sim_image_free(t.img);
	free(t.right);
	free(all);
	if (t.trials >= 500 && (!t.refused || !t.read_errors)) {
		fprintf(stderr, "FAILED: too few of them were met\n");
		return 1;
	}
	return 0;
}
