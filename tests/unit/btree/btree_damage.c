// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: a node that is not what its pointer says is refused, each difference with a code of its
 * own, and no node that somebody forged, checksum and all, brings the program down. Method: a btree
 * of one node with several bsets, closed; its image with one field of the node changed and the
 * checksum made right again; then many with random bytes changed. Opened, and walked if that is
 * possible.
 */
#include "../test_rand.h"
#include "btree_fixture.h"
#include "btree/btree_private.h"
#include "btree/extent_entries.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TREE   BTREE_ID_lru
#define BSETS  4
#define FORGED 600

struct run {
	struct fx fx; /* as it was closed */
	struct sim_image *img;
	struct journal_root root;
	u64 node_offset;	    /* bytes */
	unsigned nr;		    /* bsets */
	u32 bset[BSETS + 1];	    /* offsets in the node, bytes; behind the last: their end */
	u8 node[16384], bad[16384]; /* as it is, and as it is to be */
	u64 rng;
	unsigned opened, refused;
};

static struct bset *bset_at(u8 *node, u32 offset)
{
	return (struct bset *)(node + offset +
			       (offset ? offsetof(struct btree_node_entry, keys)
				       : offsetof(struct btree_node, keys)));
}

/* Bytes of the bset with all in front of it, without the rest of its last block. */
static u32 bset_bytes(u8 *node, u32 offset)
{
	struct bset *i = bset_at(node, offset);

	return (u32)((u8 *)(i->_keys + i->u64s) - (node + offset));
}

/* ---- what is damaged ---- */

static void make(struct run *r)
{
	struct fx *fx = &r->fx;
	const struct bcfs_btree_ptr *ptr;
	struct bcfs_extent_ptr place;
	u32 at = 0;

	for (unsigned i = 0; i < BSETS; i++) {
		cr_assert_eq(fx_open(fx), 0);
		for (unsigned k = 0; k < 20; k++)
			cr_assert_eq(fx_set(fx, TREE, POS(1, 100 + k * 10 + i), k, NULL), 0);
		cr_assert_eq(fx_close(fx), 0);
	}
	r->root = fx->p.carried.roots[TREE];
	ptr = btree_ptr_val(&r->root.k);
	memcpy(&place, ptr->start, sizeof(place));
	r->node_offset = (u64)place.offset * 512;
	r->img = sim_bdev_image(fx->bdev);
	sim_image_read(r->img, r->node_offset, r->node, sizeof(r->node));
	for (; at < ptr->sectors_written * 512U; r->nr++) {
		cr_assert_lt(r->nr, BSETS);
		r->bset[r->nr] = at;
		at = round_up(at + bset_bytes(r->node, at), fx->g.block_bytes);
	}
	r->bset[r->nr] = at;
	cr_assert_eq(at, ptr->sectors_written * 512U);
	cr_assert_geq(r->nr, 2);
}

/* The checksum of the bset is what a writer would have put there. */
static void sign(struct run *r, u32 offset, u32 bytes)
{
	struct bcfs_csum *csum = (struct bcfs_csum *)(r->bad + offset);
	struct bset *i = bset_at(r->node, offset);

	bytes = min_t(u32, bytes, sizeof(r->bad) - offset);
	cr_assert(btree_node_checksum(NULL, BSET_CSUM_TYPE(i), i->seq, offset >> 9,
				      r->bad + offset + sizeof(*csum), bytes - sizeof(*csum),
				      csum));
}

static int walk(struct fx *fx)
{
	struct btree_trans *trans = btree_trans_get(fx->c);
	unsigned nr = 0;
	int ret = for_each_btree_key (trans, iter, TREE, POS_MIN, 0, k, ({ nr++ > 100000; }));

	btree_trans_put(trans);
	return ret;
}

/* What opening says of the node as it is in r->bad. */
static int try(struct run *r)
{
	struct sim_image *img = sim_image_clone(r->img);
	struct sim_bdev_opts o = {.no_log = true};
	struct fx *fx = malloc(sizeof(*fx));
	int ret;

	*fx = r->fx;
	fx->quiet = true;
	sim_image_write(img, r->node_offset, r->bad, sizeof(r->bad));
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

static struct bset *fresh(struct run *r, unsigned nr)
{
	memcpy(r->bad, r->node, sizeof(r->bad));
	return bset_at(r->bad, r->bset[nr]);
}

static void wants(struct run *r, unsigned nr, int err, const char *what)
{
	sign(r, r->bset[nr], bset_bytes(r->node, r->bset[nr]));
	int ret = try(r);

	cr_assert_eq(ret, err, "%s, bset %u: %s", what, nr, err_str(ret));
}

static void fields_main(void *arg)
{
	struct run *r = arg;
	struct btree_node *n = (struct btree_node *)r->bad;
	struct bset *i;

	make(r);
	fresh(r, 0);
	wants(r, 0, 0, "nothing");

	fresh(r, 0);
	n->magic++;
	wants(r, 0, -BCFS_ERR_btree_node_magic, "magic");
	fresh(r, 0);
	n->flags ^= 1;
	wants(r, 0, -BCFS_ERR_btree_node_identity, "btree");
	fresh(r, 0);
	n->flags ^= 1U << 16;
	wants(r, 0, -BCFS_ERR_btree_node_identity, "level");
	fresh(r, 0);
	n->min_key.offset++;
	wants(r, 0, -BCFS_ERR_btree_node_range, "min_key");
	fresh(r, 0);
	n->max_key.inode--;
	wants(r, 0, -BCFS_ERR_btree_node_range, "max_key");

	for (unsigned b = 0; b < r->nr; b++) {
		fresh(r, b)->seq++;
		wants(r, b, -BCFS_ERR_btree_node_wrong_seq, "seq");
		fresh(r, b)->u64s = 1U << 20;
		wants(r, b, -BCFS_ERR_btree_node_bset_bounds, "u64s");
		fresh(r, b)->offset++;
		wants(r, b, -BCFS_ERR_btree_node_bset_bounds, "offset");
		i = fresh(r, b);
		i->version = UINT16_MAX;
		wants(r, b, -BCFS_ERR_btree_node_version, "version");
		i = fresh(r, b);
		((u8 *)i->_keys)[3] ^= 0x10;
		int ret = try(r); /* not signed */
		cr_assert_eq(ret, -BCFS_ERR_btree_node_csum, "%s", err_str(ret));
		/* blank: an append that was lost, though the pointer tells of it */
		fresh(r, b);
		memset(r->bad + r->bset[b], 0, r->bset[b + 1] - r->bset[b]);
		ret = try(r);
		cr_assert_eq(ret, -BCFS_ERR_btree_node_wrong_seq, "%s", err_str(ret));
	}
	sim_image_free(r->img);
}

static void pointer_main(void *arg)
{
	struct run *r = arg;
	struct journal_root *root = &r->fx.p.carried.roots[TREE];
	struct bcfs_btree_ptr *ptr = (struct bcfs_btree_ptr *)&root->k.v;
	struct bcfs_extent_ptr place;

	make(r);
	fresh(r, 0);
	memcpy(&place, ptr->start, sizeof(place));
	place.offset = (r->fx.g.dev_bytes >> 9) - 1;
	memcpy(ptr->start, &place, sizeof(place));
	cr_assert_eq(try(r), -BCFS_ERR_btree_node_bad_ptr);
	*root = r->root;
	ptr->sectors_written = 0;
	cr_assert_eq(try(r), -BCFS_ERR_btree_node_bad_ptr);
	*root = r->root;
	ptr->sectors_written = r->fx.g.node_bytes / 512 + 8;
	cr_assert_eq(try(r), -BCFS_ERR_btree_node_bad_ptr);
	*root = r->root;
	/* beyond the last append */
	ptr->sectors_written = r->fx.g.node_bytes / 512;
	cr_assert_eq(try(r),
		     r->bset[r->nr] < r->fx.g.node_bytes ? -BCFS_ERR_btree_node_wrong_seq : 0);
	*root = r->root;
	ptr->seq++;
	cr_assert_eq(try(r), -BCFS_ERR_btree_node_wrong_seq);
	*root = r->root;
	sim_image_free(r->img);
}

/* Random bytes, and a checksum that fits them. */
static void forged_main(void *arg)
{
	struct run *r = arg;

	make(r);
	for (unsigned i = 0; i < trand_rounds(FORGED); i++) {
		unsigned b = trand_below(&r->rng, r->nr), nr = 1 + trand_below(&r->rng, 3);
		u32 bytes = bset_bytes(r->node, r->bset[b]);

		fresh(r, b);
		while (nr--)
			r->bad[r->bset[b] + sizeof(struct bcfs_csum) +
			       trand_below(&r->rng, bytes - sizeof(struct bcfs_csum))] ^=
				1U << trand_below(&r->rng, 8);
		/* of as many bytes as the forged one says it has */
		sign(r, r->bset[b],
		     bset_at(r->bad, r->bset[b])->u64s > 2048 ? bytes
							      : bset_bytes(r->bad, r->bset[b]));
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

Test(btree_damage, each_field)
{
	static struct run r;

	run(fields_main, 0xda3a6e1, &r);
}

Test(btree_damage, the_pointer)
{
	static struct run r;

	run(pointer_main, 0xda3a6e2, &r);
}

Test(btree_damage, forged)
{
	static struct run r;
	u64 seed = trand_seed(0xda3a6e3);

	run(forged_main, seed, &r);
	cr_assert(r.refused > r.opened / 4, "%u refused, %u opened; " TEST_SEED_FMT, r.refused,
		  r.opened, (unsigned long long)seed);
}
