// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: in an encrypted filesystem a node is read if every bset of it is, to the byte, what
 * somebody with the key wrote to that place of that node; nothing else is, whatever it says of
 * itself. Method: a btree of one node with several bsets, of two generations of keys; its image
 * with each byte flipped in turn, with bsets that have a plain checksum or none, another
 * generation, or lie at another place, and of another filesystem; opened, and walked if that is
 * possible.
 */
#include "../test_rand.h"
#include "btree_fixture.h"
#include "btree/btree_private.h"
#include "btree/extent_entries.h"
#include "codec/keyring.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define TREE  BTREE_ID_lru
#define BSETS 4
#define KEYS  10

struct run {
	struct fx fx; /* as it was closed */
	struct keyring *keys;
	struct sim_image *img;
	u64 node_offset;	  /* bytes */
	unsigned nr;		  /* bsets */
	u32 bset[BSETS + 1];	  /* offsets in the node, bytes; behind the last: their end */
	u8 node[4096], bad[4096]; /* as it is, and as it is to be */
	struct btree_fs *c;	  /* to seal and open with: only its options count */
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

static void add_gen(struct run *r, u16 gen)
{
	struct csum_key k = {.gen = gen};

	env_random(r->fx.env, k.b, sizeof(k.b));
	cr_assert_eq(keyring_add(r->keys, &k), 0);
}

static void make(struct run *r)
{
	struct fx *fx = &r->fx;
	const struct bcfs_btree_ptr *ptr;
	struct bcfs_extent_ptr place;
	u32 at = 0;

	r->keys = keyring_new(fx->env, NULL);
	cr_assert(r->keys);
	fx->keys = r->keys;
	add_gen(r, 1);
	for (unsigned i = 0; i < BSETS; i++) {
		if (i == 2)
			add_gen(r, 2);
		cr_assert_eq(fx_open(fx), 0);
		for (unsigned k = 0; k < KEYS; k++)
			cr_assert_eq(fx_set(fx, TREE, POS(1, 100 + k * 10 + i), k, NULL), 0);
		cr_assert_eq(fx_close(fx), 0);
	}
	ptr = btree_ptr_val(&fx->p.carried.roots[TREE].k);
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
	cr_assert_geq(r->nr, 3);

	r->c = calloc(1, sizeof(*r->c));
	r->c->env = fx->env;
	r->c->opts = (struct btree_fs_opts){
		.uuid = {{1, 2, 3}}, .csum_type = BCFS_CSUM_xchacha20_poly1305, .keys = r->keys};
	cr_assert_eq(bset_at(r->node, 0)->key_gen, 1);
	cr_assert_eq(bset_at(r->node, r->bset[r->nr - 1])->key_gen, 2);
}

static void done(struct run *r)
{
	sim_image_free(r->img);
	keyring_free(r->keys);
	free(r->c);
}

/* All keys, and what they should be. */
static int walk(struct fx *fx)
{
	struct btree_trans *trans = btree_trans_get(fx->c);
	unsigned nr = 0;
	int ret = for_each_btree_key (trans, iter, TREE, POS_MIN, 0, k, ({
					      nr++;
					      0;
				      }));

	btree_trans_put(trans);
	cr_assert(ret || nr == BSETS * KEYS);
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

static void wants(struct run *r, int err, const char *what)
{
	int ret = try(r);

	cr_assert_eq(ret, err, "%s: %s", what, err_str(ret));
}

/* The bset in r->bad, in the clear. */
static struct bset *opened(struct run *r, unsigned b)
{
	struct printbuf err = PRINTBUF;
	u32 at = r->bset[b];

	memcpy(r->bad, r->node, sizeof(r->bad));
	cr_assert_eq(btree_bset_open(r->c, bset_at(r->node, 0)->seq, at >> 9, r->bad + at,
				     bset_bytes(r->bad, at), &err),
		     0, "%s", printbuf_str(&err));
	printbuf_exit(&err);
	return bset_at(r->bad, at);
}

static void seal(struct run *r, unsigned b)
{
	u32 at = r->bset[b];

	cr_assert_eq(btree_bset_seal(r->c, bset_at(r->node, 0)->seq, at >> 9, r->bad + at,
				     bset_bytes(r->bad, at)),
		     0);
}

/* ---- cases ---- */

static void bytes_main(void *arg)
{
	struct run *r = arg;

	make(r);
	memcpy(r->bad, r->node, sizeof(r->bad));
	wants(r, 0, "as it is");
	for (unsigned b = 0; b < r->nr; b++) {
		u32 end = r->bset[b] + bset_bytes(r->node, r->bset[b]);

		for (u32 at = r->bset[b]; at < r->bset[b + 1]; at++) {
			int ret;

			memcpy(r->bad, r->node, sizeof(r->bad));
			r->bad[at] ^= 1U << at % 8;
			ret = try(r);
			cr_assert(at < end ? err_is_damage(ret) : !ret, "byte %u of bset %u: %s",
				  at - r->bset[b], b, err_str(ret));
		}
	}
	done(r);
}

static void others_main(void *arg)
{
	static const u8 types[] = {BCFS_CSUM_none, BCFS_CSUM_crc32c, BCFS_CSUM_blake2b};
	struct run *r = arg;

	make(r);
	for (unsigned b = 0; b < r->nr; b++) {
		u32 at = r->bset[b], bytes = bset_bytes(r->node, at);
		u64 seq = bset_at(r->node, 0)->seq;
		struct bset *i;

		opened(r, b);
		seal(r, b);
		wants(r, 0, "sealed anew");
		/* in clear, with a checksum that is right */
		for (unsigned t = 0; t < ARRAY_SIZE(types); t++) {
			struct bcfs_csum *csum = (void *)(r->bad + at);

			i = opened(r, b);
			i->flags = types[t];
			i->key_gen = t ? 0 : i->key_gen;
			cr_assert(btree_node_checksum(NULL, types[t], seq, at >> 9,
						      r->bad + at + sizeof(*csum),
						      bytes - sizeof(*csum), csum));
			wants(r, -BCFS_ERR_btree_node_csum, csum_type_name(types[t]));
		}
		/* of a generation that there is, and of one that there is not */
		memcpy(r->bad, r->node, sizeof(r->bad));
		bset_at(r->bad, at)->key_gen ^= 3;
		wants(r, -BCFS_ERR_btree_node_csum, "the other generation");
		bset_at(r->bad, at)->key_gen = 7;
		wants(r, -BCFS_ERR_btree_node_csum, "an unknown generation");
		/* of another filesystem, by the same key */
		opened(r, b);
		r->c->opts.uuid.b[0]++;
		seal(r, b);
		wants(r, -BCFS_ERR_btree_node_csum, "another uuid");
		r->c->opts.uuid.b[0]--;
		/* of another node, and another place in it, by the same key */
		opened(r, b);
		cr_assert_eq(btree_bset_seal(r->c, seq + 2, at >> 9, r->bad + at, bytes), 0);
		wants(r, -BCFS_ERR_btree_node_csum, "another node");
		if (!b)
			continue;
		opened(r, b);
		cr_assert_eq(btree_bset_seal(r->c, seq, (at >> 9) + 1, r->bad + at, bytes), 0);
		wants(r, -BCFS_ERR_btree_node_csum, "another place");
	}
	done(r);
}

/* What it says that it is must still fit the pointer, though the tag be right. */
static void identity_main(void *arg)
{
	struct run *r = arg;
	struct btree_node *n = (struct btree_node *)r->bad;

	make(r);
	opened(r, 0);
	n->flags ^= 1;
	seal(r, 0);
	wants(r, -BCFS_ERR_btree_node_identity, "btree");
	opened(r, 0);
	n->max_key.inode--;
	seal(r, 0);
	wants(r, -BCFS_ERR_btree_node_range, "max_key");
	/* a format that nobody may look at before the tag is */
	memcpy(r->bad, r->node, sizeof(r->bad));
	memset(&n->format, 0xff, sizeof(n->format));
	wants(r, -BCFS_ERR_btree_node_csum, "format");
	done(r);
}

static void run(void (*fn)(void *arg), u64 seed)
{
	static struct run r;
	struct sim_bdev_opts o = {.size_bytes = fx_tiny.dev_bytes};

	r.fx.g = fx_tiny;
	r.fx.env = env_sim_create(seed);
	r.fx.log.max = LOG_LEVEL_ERR;
	cr_assert_eq(sim_bdev_create(r.fx.env, "sim", &o, &r.fx.bdev), 0);
	sim_bdev_watch_crypt(r.fx.bdev);
	cr_assert_eq(env_sim_run(r.fx.env, fn, &r), 0, TEST_SEED_FMT, (unsigned long long)seed);
	cr_assert_eq(sim_bdev_violations(r.fx.bdev), 0, "%s", sim_bdev_first_violation(r.fx.bdev));
	cr_assert_geq(sim_bdev_nr_nonces(r.fx.bdev), 2 * BSETS);
	bdev_close(r.fx.bdev);
	env_sim_destroy(r.fx.env);
}

Test(btree_seal, each_byte)
{
	run(bytes_main, 0x5ea1b1);
}

Test(btree_seal, not_what_the_key_wrote_there)
{
	run(others_main, 0x5ea1b2);
}

Test(btree_seal, what_the_node_is)
{
	run(identity_main, 0x5ea1b3);
}
