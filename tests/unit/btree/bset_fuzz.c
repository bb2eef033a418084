/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keys from a hostile disk.
 *
 * Goal: bset_validate_keys() never reads out of bounds, and what it lets pass can be
 * loaded, walked and searched. Method: random bytes, and valid sets with bytes changed
 * or cut off, in buffers of exactly their size (so that ASan sees every overrun).
 */
#include "keys_test.h"

#include "util/errcode.h"

#define CAPACITY 512

/* A valid set of a few random keys; returns its u64s. */
static u32 make_set(struct rng *r, const struct bkey_format *f, u64 *out)
{
	struct node n;
	enum universe u = rnd_below(r, UNIVERSE_NR);
	u32 u64s;

	node_init(&n, CAPACITY, f);
	for (unsigned i = rnd_below(r, 30); i; i--) {
		struct key_buf k;

		bkey_init(&k.k.k);
		k.k.k.type = 1 + rnd_below(r, KEY_TYPE_NR - 1);
		k.k.k.p = rnd_pos(r, u);
		set_bkey_val_u64s(&k.k.k, rnd_below(r, 6));
		for (unsigned v = 0; v < bkey_val_u64s(&k.k.k); v++)
			k.room[v] = rnd(r);
		if (btree_keys_unwritten_u64s(&n.b) + k.k.k.u64s > CAPACITY)
			break;
		btree_keys_insert(&n.b, &k.k, 1, n.scratch, NULL);
	}
	u64s = btree_keys_copy_unwritten(&n.b, out, NULL);
	node_exit(&n);
	return u64s;
}

static void use_loaded(struct rng *r, struct node *n)
{
	struct printbuf err = PRINTBUF;
	struct btree_node_iter it;
	struct bkey u;

	check(r, !btree_keys_verify(&n->b, &err), "%s", printbuf_str(&err));
	btree_keys_to_text(&err, &n->b);
	printbuf_exit(&err);
	btree_node_iter_init_start(&it, &n->b);
	while (btree_node_iter_peek_unpack(&it, &n->b, &u).k) {
		check(r, btree_keys_lookup(&n->b, u.p));
		btree_node_iter_advance(&it, &n->b);
	}
	for (unsigned i = 0; i < 10; i++) {
		struct bpos from = rnd_pos(r, rnd_below(r, UNIVERSE_NR));

		btree_node_iter_init(&it, &n->b, &from, NULL);
		btree_node_iter_peek(&it, &n->b);
		btree_node_iter_prev(&it, &n->b);
	}
}

static bool try_load(struct rng *r, const struct bkey_format *f, const u64 *const *set,
		     const u32 *u64s, unsigned nr)
{
	struct bkey_format_fast fast;
	struct bset_src src[8];
	struct printbuf err = PRINTBUF;
	struct node n;
	unsigned nr_src = 0;
	int ret;

	bkey_format_fast_init(&fast, f);
	for (unsigned i = 0; i < nr; i++) {
		/* a buffer that ends where the set does */
		u64 *copy = malloc(u64s[i] * 8);

		memcpy(copy, set[i], u64s[i] * 8);
		ret = bset_validate_keys(&fast, copy, u64s[i], &err);
		if (ret) {
			check(r, err.pos);
			check(r, ret <= -BCFS_ERR_bset_key_size && ret >= -BCFS_ERR_bset_unsorted);
			free(copy);
		} else {
			src[nr_src++] = (struct bset_src){copy, u64s[i], i};
		}
		printbuf_reset(&err);
	}
	node_init(&n, CAPACITY, f);
	ret = btree_keys_load(&n.b, src, nr_src);
	check(r, !ret || ret == -BCFS_ERR_bset_too_big);
	if (!ret)
		use_loaded(r, &n);
	node_exit(&n);
	for (unsigned i = 0; i < nr_src; i++)
		free((void *)src[i].start);
	printbuf_exit(&err);
	return nr_src;
}

Test(bset_fuzz, random_bytes)
{
	struct rng r = rng_new(1);
	unsigned passed = 0;

	for (unsigned i = 0; i < 50000; i++) {
		struct bkey_format f = rnd_format(&r);
		u64 set[32];
		const u64 *p = set;
		u32 u64s = rnd_below(&r, ARRAY_SIZE(set) + 1);

		/* mostly plausible headers, else nothing gets past the first key */
		for (unsigned n = 0; n < u64s; n++) {
			set[n] = rnd(&r);
			if (rnd_percent(&r, 70))
				set[n] = (set[n] & ~0xffffULL) | (1 + rnd_below(&r, 8)) |
					 rnd_below(&r, 2) << 8;
		}
		passed += try_load(&r, &f, &p, &u64s, 1);
	}
	check(&r, passed > 100, "%u passed", passed);
}

Test(bset_fuzz, mutated_sets)
{
	struct rng r = rng_new(2);
	unsigned passed = 0;

	for (unsigned i = 0; i < 20000; i++) {
		struct bkey_format f = rnd_percent(&r, 30) ? bkey_format_current : rnd_format(&r);
		static u64 buf[8][CAPACITY];
		const u64 *set[8];
		u32 u64s[8];
		unsigned nr = 1 + rnd_below(&r, 8);

		for (unsigned n = 0; n < nr; n++) {
			set[n] = buf[n];
			u64s[n] = make_set(&r, &f, buf[n]);
			if (!u64s[n])
				continue;
			for (unsigned m = rnd_below(&r, 4); m; m--)
				((u8 *)buf[n])[rnd_below(&r, u64s[n] * 8)] ^= 1 << rnd_below(&r, 8);
			if (rnd_percent(&r, 20))
				u64s[n] = rnd_below(&r, u64s[n] + 1);
		}
		passed += try_load(&r, &f, set, u64s, nr);
	}
	check(&r, passed > 1000, "%u passed", passed);
}

/* What fits no node is refused, not written beyond its end. */
Test(bset_fuzz, too_big)
{
	struct rng r = rng_new(3);
	static u64 buf[300][BKEY_U64s];
	struct bset_src src[300];
	struct node n;

	node_init(&n, CAPACITY, &bkey_format_current);
	for (unsigned i = 0; i < ARRAY_SIZE(src); i++) {
		struct bkey k;

		bkey_init(&k);
		k.type = KEY_TYPE_set;
		k.p = POS(1, rnd(&r));
		memcpy(buf[i], &k, sizeof(k));
		src[i] = (struct bset_src){buf[i], BKEY_U64s, 1};
	}
	cr_assert_eq(btree_keys_load(&n.b, src, CAPACITY / BKEY_U64s), 0);
	cr_assert_eq(n.b.set[0].nr_live, CAPACITY / BKEY_U64s);
	cr_assert_eq(btree_keys_load(&n.b, src, CAPACITY / BKEY_U64s + 1), -BCFS_ERR_bset_too_big);
	node_exit(&n);
}
