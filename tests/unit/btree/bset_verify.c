/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of a node's keys in memory.
 *
 * Goal: what btree_keys_verify() is for, it notices: the random tests and the online check lean on
 * it. Method: a node of three sets, right by all accounts; one thing in it is made wrong, the
 * complaint is the one for that, and with the thing put back there is none.
 */
#include "keys_test.h"

#include "btree/bset_private.h"
#include "util/errcode.h"

#define CAPACITY 2048

static void insert(struct node *n, u64 offset, u8 type)
{
	struct key_buf k;

	bkey_init(&k.k.k);
	k.k.k.type = type;
	k.k.k.p = SPOS(4096, offset, UINT32_MAX);
	set_bkey_val_u64s(&k.k.k, type == KEY_TYPE_deleted ? 0 : 2);
	k.room[0] = k.room[1] = offset;
	btree_keys_insert(&n->b, &k.k, 1, n->scratch, NULL);
}

/* One set written, one frozen, and one that is being inserted into. */
static void make(struct node *n)
{
	node_init(n, CAPACITY, &bkey_format_current);
	for (u64 i = 0; i < 60; i++)
		insert(n, i * 10, KEY_TYPE_dirent);
	btree_keys_freeze(&n->b, n->scratch);
	btree_keys_mark_written(&n->b, n->scratch);
	for (u64 i = 0; i < 30; i++)
		insert(n, i * 20, i % 5 ? KEY_TYPE_dirent : KEY_TYPE_deleted);
	btree_keys_freeze(&n->b, n->scratch);
	for (u64 i = 0; i < 20; i++)
		insert(n, i * 30 + 5, KEY_TYPE_dirent);
	cr_assert_eq(n->b.nsets, 3);
}

static void complains(const struct node *n, const char *what)
{
	struct printbuf err = PRINTBUF;

	cr_assert_eq(btree_keys_verify(&n->b, &err), -BCFS_ERR_bset_corrupt, "not: %s", what);
	cr_assert(strstr(printbuf_str(&err), what), "\"%s\", not \"%s\"", printbuf_str(&err), what);
	printbuf_exit(&err);
}

static void is_right(const struct node *n)
{
	struct printbuf err = PRINTBUF;

	cr_assert_eq(btree_keys_verify(&n->b, &err), 0, "%s", printbuf_str(&err));
	printbuf_exit(&err);
}

/* Something is wrong until it is put back. */
#define WRONG(n, place, value, what)                                                               \
	do {                                                                                       \
		u64 was_ = (place);                                                                \
		(place) = (value);                                                                 \
		complains(n, what);                                                                \
		(place) = was_;                                                                    \
		is_right(n);                                                                       \
	} while (0)

Test(bset_verify, sets)
{
	struct node n;
	struct bset_tree *t;

	make(&n);
	is_right(&n);
	t = n.b.set;
	WRONG(&n, n.b.nr_written, 4, "sets, ");
	WRONG(&n, t[1].start, t[1].start + 1, "lies at");
	WRONG(&n, t[2].end, CAPACITY + 1, "lies at");
	WRONG(&n, t[0].aux_type, t[2].aux_type, "not the last");
	for (unsigned i = 0; i < 3; i++) {
		WRONG(&n, t[i].live_u64s, t[i].live_u64s + 1, "counts");
		WRONG(&n, t[i].nr_live, t[i].nr_live - 1, "counts");
		WRONG(&n, t[i].whiteout_u64s, 9, "counts");
	}
	node_exit(&n);
}

Test(bset_verify, keys)
{
	struct node n;
	struct bkey_packed *k;
	u64 words[64];

	make(&n);
	for (unsigned i = 0; i < 3; i++) {
		k = bset_first(&n.b, &n.b.set[i]);
		WRONG(&n, k->format, BKEY_FORMAT_CURRENT + 1, "bad key");
		WRONG(&n, k->u64s, 1, "bad key");
		WRONG(&n, k->u64s, 255, "bad key");
		/* The second becomes what the first is. */
		struct bkey_packed *second = bkeyp_next(k);

		while (!bkeyp_is_live(second))
			second = bkeyp_next(second);
		memcpy(words, second, second->u64s * 8UL);
		while (bkeyp_next(k) != second)
			k = bkeyp_next(k);
		cr_assert_eq(bkeyp_key_u64s(&n.b.f, k), bkeyp_key_u64s(&n.b.f, second));
		memcpy((u64 *)second + 1, (u64 *)k + 1,
		       (bkeyp_key_u64s(&n.b.f, k) - 1) * sizeof(u64));
		complains(&n, "out of order");
		memcpy(second, words, second->u64s * 8UL);
		is_right(&n);
	}
	k = bset_first(&n.b, &n.b.set[0]);
	WRONG(&n, k->needs_whiteout, 1, "needs_whiteout in a written set");
	k = bset_first(&n.b, &n.b.set[2]);
	WRONG(&n, k->type, KEY_TYPE_deleted, "garbage");
	node_exit(&n);
}

/* What lies in one set hides what is in those before it; else two would be found. */
Test(bset_verify, positions)
{
	struct node n;
	struct bset_tree *t;
	struct bkey_packed *k;

	make(&n);
	t = n.b.set;
	/* In the first set a key that the second replaced lives again. */
	for (k = bset_first(&n.b, &t[0]); bkey_unpack_pos(&n.b.f, k).offset != 20;)
		k = bkeyp_next(k);
	cr_assert(!bkeyp_is_live(k));
	k->type = KEY_TYPE_dirent;
	t[0].nr_live++;
	t[0].live_u64s += k->u64s;
	complains(&n, "two live keys");
	node_exit(&n);
}

Test(bset_verify, text)
{
	struct printbuf out = PRINTBUF;
	struct node n;

	make(&n);
	btree_keys_to_text(&out, &n.b);
	cr_assert(strstr(printbuf_str(&out), "needs_whiteout"));
	cr_assert(strstr(printbuf_str(&out), "written"));
	printbuf_exit(&out);
	node_exit(&n);
}
