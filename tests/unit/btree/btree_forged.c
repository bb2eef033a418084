// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: keys of a journal entry that somebody forged, checksum and all, are looked at before they
 * are put into nodes: opening fails and says which, or what it lets in is harmless. Method: a crash
 * with keys in the journal alone; in each of them one field is changed in turn, then random bits
 * of the entries; opened, and walked if that is possible.
 */
#include "../test_rand.h"
#include "btree_fixture.h"
#include "journal/journal_private.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TREE   BTREE_ID_lru
#define KEYS   12
#define RANDOM 300

struct run {
	struct fx fx; /* as it was when it crashed */
	struct sim_image *img;
	u64 offset; /* bytes, of the entry with the keys */
	union {
		struct jset j;
		u8 bytes[65536];
	} is, bad;
	u64 rng;
	unsigned opened, refused;
};

/* The entry that has the most keys of the tree. */
static unsigned nr_keys(const struct jset *j)
{
	unsigned nr = 0;

	for_each_jset_entry(e, j) if (e->type == BCFS_JSET_ENTRY_btree_keys && e->btree_id == TREE)
		for_each_jset_key(k, e) nr++;
	return nr;
}

static void find_entry(struct run *r)
{
	u64 begin = 1 << 20, block = r->fx.g.block_bytes;
	u64 end = begin + (u64)r->fx.g.journal_buckets * r->fx.g.journal_bucket_bytes;
	unsigned most = 0;

	for (u64 at = begin; at < end; at += block) {
		sim_image_read(r->img, at, r->bad.bytes, sizeof(r->bad.bytes));
		if (r->bad.j.magic != (BCFS_JSET_MAGIC ^ 0x1234) || r->bad.j.u64s > 4096 ||
		    jset_verify(&r->bad.j) || nr_keys(&r->bad.j) <= most)
			continue;
		most = nr_keys(&r->bad.j);
		r->is = r->bad;
		r->offset = at;
	}
	cr_assert_eq(most, KEYS);
}

static void make(struct run *r)
{
	struct fx *fx = &r->fx;

	cr_assert_eq(fx_open(fx), 0);
	cr_assert_eq(fx_set(fx, TREE, POS(1, 1), 1, NULL), 0);
	cr_assert_eq(fx_close(fx), 0);
	cr_assert_eq(fx_open(fx), 0);
	for (unsigned i = 0; i < KEYS; i++)
		cr_assert_eq(fx_set(fx, TREE, POS(1, 100 + i), i, NULL), 0);
	cr_assert_eq(journal_flush(fx->j), 0);
	r->img = sim_bdev_image(fx->bdev);
	fx_abandon(fx);
	fx->p.clean = false;
	find_entry(r);
}

static int walk(struct fx *fx)
{
	struct btree_trans *trans = btree_trans_get(fx->c);
	unsigned nr = 0;
	int ret = for_each_btree_key (trans, iter, TREE, POS_MIN, 0, k, ({ nr++ > 100000; }));

	btree_trans_put(trans);
	return ret;
}

/* What opening says of the entry as it is in r->bad, with a checksum that fits. */
static int try(struct run *r)
{
	struct sim_image *img = sim_image_clone(r->img);
	struct sim_bdev_opts o = {.no_log = true};
	struct fx *fx = malloc(sizeof(*fx));
	int ret;

	*fx = r->fx;
	fx->quiet = true;
	jset_csum(&r->bad.j, JSET_CSUM_TYPE(&r->bad.j), &r->bad.j.csum);
	sim_image_write(img, r->offset, r->bad.bytes, sizeof(r->bad.bytes));
	cr_assert_eq(sim_bdev_create_from(fx->env, "sim", &o, img, &fx->bdev), 0);
	ret = fx_open(fx);
	if (!ret)
		ret = walk(fx);
	fx_abandon(fx);
	bdev_close(fx->bdev);
	sim_image_free(img);
	free(fx);
	return ret;
}

/* The nth key of the tree in a fresh entry. */
static struct bkey_i *fresh(struct run *r, unsigned n)
{
	r->bad = r->is;
	for_each_jset_entry(e, &r->bad.j) if (e->type == BCFS_JSET_ENTRY_btree_keys &&
					      e->btree_id == TREE)
		for_each_jset_key(k, e) if (!n--) return k;
	cr_assert_fail();
	return NULL;
}

static void wants(struct run *r, int err, const char *what)
{
	int ret = try(r);

	cr_assert_eq(ret, err, "%s: %s, not %s", what, err_str(ret), err_str(err));
}

static void keys_main(void *arg)
{
	struct run *r = arg;

	make(r);
	for (unsigned i = 0; i < KEYS; i++) {
		struct bkey_i *k = fresh(r, i);

		wants(r, 0, "as it was");
		k->k.type = KEY_TYPE_btree_ptr;
		wants(r, -BCFS_ERR_bkey_bad_type, "type");
		k->k.type = KEY_TYPE_dirent;
		wants(r, -BCFS_ERR_bkey_val_size, "value");
		fresh(r, i)->k.size = 8;
		wants(r, -BCFS_ERR_bkey_bad_size, "size");
		fresh(r, i)->k.p.snapshot = 5;
		wants(r, -BCFS_ERR_bkey_bad_snapshot, "snapshot");
	}
	sim_image_free(r->img);
}

static void random_main(void *arg)
{
	struct run *r = arg;

	make(r);
	for (unsigned i = 0; i < trand_rounds(RANDOM); i++) {
		unsigned nr = 1 + (unsigned)trand_below(&r->rng, 3);
		u32 bytes = r->is.j.u64s * 8;

		r->bad = r->is;
		while (nr--)
			r->bad.bytes[sizeof(struct jset) + trand_below(&r->rng, bytes)] ^=
				1U << trand_below(&r->rng, 8);
		*(try(r) ? &r->refused : &r->opened) += 1;
	}
	sim_image_free(r->img);
}

static void run(void (*fn)(void *arg), u64 seed, struct run *r)
{
	struct sim_bdev_opts o = {.size_bytes = fx_small.dev_bytes};

	r->rng = seed;
	r->fx.g = fx_small;
	r->fx.env = env_sim_create(seed);
	r->fx.log.max = LOG_LEVEL_ERR;
	cr_assert_eq(sim_bdev_create(r->fx.env, "sim", &o, &r->fx.bdev), 0);
	cr_assert_eq(env_sim_run(r->fx.env, fn, r), 0, TEST_SEED_FMT, (unsigned long long)seed);
	bdev_close(r->fx.bdev);
	env_sim_destroy(r->fx.env);
}

Test(btree_forged, each_field)
{
	static struct run r;

	run(keys_main, 0xf0e6ed1, &r);
}

Test(btree_forged, random_bits)
{
	static struct run r;
	u64 seed = trand_seed(0xf0e6ed2);

	run(random_main, seed, &r);
	cr_assert(r.refused && r.opened, "%u refused, %u opened; " TEST_SEED_FMT, r.refused,
		  r.opened, (unsigned long long)seed);
}
