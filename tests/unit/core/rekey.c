// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: when the old master key is thrown away, nothing is encrypted with it, whatever went on
 * meanwhile: appends that cut the extents a pass is at, truncates, collapse, copies that share and
 * originals that go, reading of what was shared and is not any more.
 * Method: threads that do all that beside one rotation after the other. As soon as an old key is
 * gone no key of the extents or reflink btree may need it; then a crash, and everything is read
 * with the key that is left. And on a slow device, where hardly anything is to be rewritten: what
 * is on its way when the key is replaced - a write, nodes of a split, the journal - arrives late.
 */
#include "crypt_world.h"

#include "../test_rand.h"
#include "btree/btree.h"
#include "btree/extent_entries.h"
#include "btree/iter.h"
#include "codec/keyring.h"
#include "journal/journal.h"
#include "sb/sb.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define FILES	   10
#define FILE_BYTES (96U << 10)
#define BLOCK	   4096U

struct churn {
	struct world *w;
	u64 rng;
	struct bcfs_ino ino[FILES];
	bool stop;
};

/* ---- what goes on ---- */

static const struct bcfs_cred cred;

static struct bcfs_ino new_file(struct bcfs *c, const char *prefix, unsigned i)
{
	struct bcfs_stat st;
	char name[32];

	snprintf(name, sizeof(name), "%s-%u", prefix, i);
	must(!bcfs_mknod(c, bcfs_root(c), name, S_IFREG | 0600, 0, 0, &cred, &st), "mknod");
	return st.ino;
}

static void remove_file(struct bcfs *c, const char *prefix, unsigned i, struct bcfs_ino ino)
{
	char name[32];

	snprintf(name, sizeof(name), "%s-%u", prefix, i);
	must(!bcfs_unlink(c, bcfs_root(c), name), "unlink");
	bcfs_forget(c, ino, 1);
}

static void write_some(struct churn *t, struct bcfs_ino ino, u64 offset, u64 len)
{
	struct bcfs *c = &t->w->c->fs;
	u8 *buf = malloc(len);

	for (u64 i = 0; i < len; i++)
		buf[i] = (u8)trand_u64(&t->rng);
	must(bcfs_write(c, ino, offset, buf, len, 0) == (s64)len, "write");
	free(buf);
}

static void truncate_to(struct bcfs *c, struct bcfs_ino ino, u64 size)
{
	struct bcfs_stat st = {.size = size};

	must(!bcfs_setattr(c, ino, &st, BCFS_SET_SIZE, &st), "truncate");
}

static u64 size_of(struct bcfs *c, struct bcfs_ino ino)
{
	struct bcfs_stat st;

	must(!bcfs_getattr(c, ino, &st), "getattr");
	return st.size;
}

static void read_whole(struct bcfs *c, struct bcfs_ino ino)
{
	u64 size = size_of(c, ino);
	u8 *buf = malloc(size + 1);

	for (u64 at = 0; at < size; at += BLOCK) {
		s64 n = bcfs_read(c, ino, at, buf, BLOCK);

		must(n >= 0, "read: %s", err_str((int)n));
	}
	free(buf);
}

static void rest(struct churn *t)
{
	env_sleep_ns(t->w->env, trand_below(&t->rng, 300000));
}

/* Of logs and databases: the end is cut off extents that stay. */
static void writer(void *arg)
{
	struct churn *t = arg;
	struct bcfs *c = &t->w->c->fs;

	while (!t->stop) {
		struct bcfs_ino ino = t->ino[trand_below(&t->rng, FILES)];
		u64 size = size_of(c, ino);

		switch (trand_below(&t->rng, 4)) {
		case 0:
			truncate_to(c, ino, size / 2 + trand_below(&t->rng, size / 2 + 1));
			break;
		case 1:
			write_some(t, ino, trand_below(&t->rng, size + 1) & ~(u64)(BLOCK - 1),
				   BLOCK * (1 + trand_below(&t->rng, 4)));
			break;
		default:
			if (size < FILE_BYTES)
				write_some(t, ino, size, 1 + trand_below(&t->rng, 3 * BLOCK));
			break;
		}
		rest(t);
	}
}

static void shifter(void *arg)
{
	struct churn *t = arg;
	struct bcfs *c = &t->w->c->fs;

	while (!t->stop) {
		struct bcfs_ino ino = t->ino[trand_below(&t->rng, FILES)];
		int ret = bcfs_fallocate(c, ino, BCFS_FALLOC_COLLAPSE_RANGE,
					 trand_below(&t->rng, 4) * BLOCK, BLOCK);

		must(!ret || err_to_errno(ret) == EINVAL, "collapse: %s", err_str(ret));
		rest(t);
	}
}

/* Copies outlive their originals: read, their data are their own again. */
static void sharer(void *arg)
{
	struct churn *t = arg;
	struct bcfs *c = &t->w->c->fs;

	for (unsigned i = 0; !t->stop; i++) {
		struct bcfs_ino a = new_file(c, "original", i), b = new_file(c, "copy", i);

		write_some(t, a, 0, 12 * BLOCK);
		must(!bcfs_fsync(c, a, 0), "fsync");
		must(bcfs_copy_range(c, a, 0, b, 0, 12 * BLOCK, 0) == 12 * BLOCK, "copy");
		remove_file(c, "original", i, a);
		rest(t);
		for (unsigned k = trand_below(&t->rng, 20); k; k--)
			rest(t);
		read_whole(c, b);
		rest(t);
		rest(t);
		remove_file(c, "copy", i, b);
	}
}

/* ---- what must not be ---- */

/* Extents that a generation below gen has sealed. */
static u64 nr_old(struct bcfs *c, u16 gen)
{
	static const enum btree_id ids[] = {BTREE_ID_extents, BTREE_ID_reflink};
	struct btree_trans *trans = btree_trans_get(c->btree);
	u64 nr = 0;
	int ret = 0;

	for (unsigned i = 0; !ret && i < ARRAY_SIZE(ids); i++)
		ret = for_each_btree_key (trans, iter, ids[i], POS_MIN,
					  BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS, k, ({
						  for_each_extent_entry (bkey_ptrs(k), e)
							  nr += extent_entry_type(e) ==
									BCFS_EXTENT_ENTRY_crc &&
								e->crc.key_gen &&
								e->crc.key_gen < gen;
						  0;
					  }));
	btree_trans_put(trans);
	must(!ret, "%s", err_str(ret));
	return nr;
}

static bool go_on(void *arg)
{
	return false;
}

/* Nothing of the filesystem that w->c knows needs any key but the newest. */
static void check_forms(struct world *w)
{
	struct bcfs *c = &w->c->fs;
	u16 gen = keyring_newest(c->sb->keys, KEY_USE_data)->gen;
	u64 old = nr_old(c, gen), nr;

	must(!old, TEST_SEED_FMT ": %llu extents need a key older than %u, and it is gone",
	     (unsigned long long)env_sim_seed(w->env), (unsigned long long)old, gen);
	for (unsigned id = 0; id < BTREE_ID_NR; id++) {
		must(!btree_rekey(c->btree, id, gen, go_on, NULL, &nr), "btree_rekey");
		must(!nr, TEST_SEED_FMT ": %llu nodes of btree %s need a key that is gone",
		     (unsigned long long)env_sim_seed(w->env), (unsigned long long)nr,
		     btree_id_name(id));
	}
}

static void rotations(struct churn *t, unsigned nr)
{
	struct world *w = t->w;

	for (unsigned i = 0; i < nr; i++) {
		must(!bcfs_key_rotate(&w->c->fs, &world_key_file, 1, 0), "rotate");
		world_wait_rekeyed(w);
		check_forms(w);
	}
}

static void beside_main(void *arg)
{
	static void (*const fns[])(void *arg) = {writer, writer, shifter, sharer};
	struct env_thread *threads[ARRAY_SIZE(fns)];
	struct churn each[ARRAY_SIZE(fns)];
	struct world *w = arg;
	struct churn t = {.w = w, .rng = env_sim_seed(w->env)};
	struct bcfs *c;

	world_mkfs(w, &world_key_file);
	world_opens(w, &world_right);
	c = &w->c->fs;
	for (unsigned i = 0; i < FILES; i++) {
		t.ino[i] = new_file(c, "file", i);
		write_some(&t, t.ino[i], 0, FILE_BYTES);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(fns); i++) {
		each[i] = t;
		each[i].rng += i + 1;
		must(!env_thread_start(w->env, &threads[i], "churn", fns[i], &each[i]), "thread");
	}
	rotations(&t, 8);
	for (unsigned i = 0; i < ARRAY_SIZE(fns); i++) {
		each[i].stop = true;
		env_thread_join(threads[i]);
	}
	must(!bcfs_sync(c), "sync");
	must(!bcfs_key_rotate(c, &world_key_file, 1, 0), "rotate");
	world_wait_rekeyed(w);
	world_crash(w);

	/* What is left opens all that counts. */
	world_opens(w, &world_right);
	c = &w->c->fs;
	must(keyring_nr(c->sb->keys) == 1, "the keys there are");
	for (unsigned i = 0; i < FILES; i++)
		read_whole(c, t.ino[i]);
	world_check(w);
	must(!core_close(w->c), "close");
}

/* ---- what is under way ---- */

/* Large enough not to gather: the key comes behind the data. */
static void late_writer(void *arg)
{
	struct churn *t = arg;

	for (unsigned i = 0; i < FILES; i++)
		write_some(t, t->ino[i], 0, BLOCK * (17 + trand_below(&t->rng, 60)));
}

static void late_names(void *arg)
{
	struct churn *t = arg;
	struct bcfs *c = &t->w->c->fs;
	char value[1000] = "";

	for (unsigned i = 0; i < 150; i++) {
		struct bcfs_ino ino = new_file(c, t->stop ? "later" : "late", i);

		must(!bcfs_setxattr(c, ino, "user.long", value, sizeof(value), 0), "setxattr");
		bcfs_forget(c, ino, 1);
	}
}

/* Closes the journal's entries as soon as there is something in them. */
static void syncer(void *arg)
{
	struct churn *t = arg;

	while (!t->stop) {
		must(!bcfs_sync(&t->w->c->fs), "sync");
		env_sleep_ns(t->w->env, trand_below(&t->rng, ENV_NSEC_PER_MSEC));
	}
}

static bool twice; /* two rotations each time, while writes are under way */

static void rotate_under_way(struct churn *t, unsigned turn)
{
	struct world *w = t->w;
	struct bcfs *c = &w->c->fs;
	struct churn names = *t, writes = *t, syncs = *t;
	struct env_thread *threads[2], *sync;
	struct sim_image *img;
	static const char *const late[] = {"writes", "writes", "names", NULL};
	const char *only = late[trand_below(&t->rng, twice ? 1 : ARRAY_SIZE(late))];
	bool idle = !twice && trand_below(&t->rng, 3) == 0;

	/* The pass goes on while one of those that began before it does not. */
	env_sim_set_stalls(w->env, (u32)trand_below(&t->rng, only ? 60000 : 30000),
			   3 * ENV_NSEC_PER_SEC);
	env_sim_set_stalls_of(w->env, only);
	names.stop = turn;
	must(!env_thread_start(w->env, &threads[0], "names", late_names, &names) &&
		     !env_thread_start(w->env, &threads[1], "writes", late_writer, &writes) &&
		     !env_thread_start(w->env, &sync, "syncs", syncer, &syncs),
	     "threads");
	for (unsigned k = 0; idle && k < 2; k++)
		env_thread_join(threads[k]);
	env_sleep_ns(w->env, trand_below(&t->rng, 200 * ENV_NSEC_PER_MSEC));
	must(!bcfs_key_rotate(c, &world_key_file, 1, 0), "rotate");
	/* The second one stops the pass of the first. */
	if (twice || trand_below(&t->rng, 2)) {
		env_sleep_ns(w->env, trand_below(&t->rng, 20 * ENV_NSEC_PER_MSEC));
		must(!bcfs_key_rotate(c, &world_key_file, 1, 0), "rotate again");
	}
	world_wait_rekeyed(w);
	syncs.stop = true;
	img = sim_bdev_image(w->bdev);
	for (unsigned k = 0; !idle && k < 2; k++)
		env_thread_join(threads[k]);
	env_thread_join(sync);
	check_forms(w);
	/* At that moment, or when what was under way has arrived. */
	if (trand_below(&t->rng, 2)) {
		world_crash_to(w, img);
	} else {
		sim_image_free(img);
		world_crash(w);
	}
}

static void under_way_main(void *arg)
{
	struct world *w = arg;
	struct churn t = {.w = w, .rng = env_sim_seed(w->env)};

	world_mkfs(w, &world_key_file);
	world_opens(w, &world_right);
	for (unsigned i = 0; i < FILES; i++)
		t.ino[i] = new_file(&w->c->fs, "file", i);
	must(!bcfs_sync(&w->c->fs), "sync");
	for (unsigned i = 0; i < 2; i++) {
		rotate_under_way(&t, i);
		world_opens(w, &world_right);
		for (unsigned k = 0; k < FILES; k++)
			read_whole(&w->c->fs, t.ino[k]);
		world_check(w);
	}
	must(!core_close(w->c), "close");
}

Test(rekey, under_way, .timeout = 900)
{
	u64 seed = trand_seed(155);

	for (unsigned i = 0; i < trand_rounds(20); i++)
		world_run_slow(under_way_main, seed + i, false, 20 * ENV_NSEC_PER_MSEC);
}

/* Two rotations at once, and a write that began before the first: not waited for by the second. */
Test(rekey, twice, .timeout = 900)
{
	u64 seed = trand_seed(155);

	twice = true;
	for (unsigned i = 0; i < trand_rounds(20); i++)
		world_run_slow(under_way_main, seed + i, false, 20 * ENV_NSEC_PER_MSEC);
}

Test(rekey, beside_everything, .timeout = 900)
{
	u64 seed = trand_seed(1);

	for (unsigned i = 0; i < trand_rounds(2); i++)
		world_run(beside_main, seed + i, false);
}
