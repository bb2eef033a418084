// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: lookup references count right, whatever numbers the inodes have, how many there are and
 * which allocation fails: no inode is to be reaped while it is referenced, none is forgotten.
 * Method: random calls beside a plain array, over numbers in a row, numbers alone, and the same
 * numbers in two subvolumes; from time to time all that is known is listed, or handed from one
 * opening to the next; at the end every count is taken down one by one.
 */
#include "fs/table.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "env/env_sim.h"
#include "util/cleanup.h"

#include "../test_rand.h"

struct known {
	u64 key; /* bcfs_ino_pack() */
	u64 nr;
	bool unlinked;
};

struct refs_test {
	struct env *env;
	struct bcfs c;
	struct known *all; /* by key */
	unsigned nr, wanted;
	u64 seed, rng, live;
};

static struct bcfs_ino ino_of(const struct known *k)
{
	return bcfs_ino_unpack(k->key);
}

static int key_cmp(const void *a, const void *b)
{
	u64 l = *(const u64 *)a, r = *(const u64 *)b;

	return (l > r) - (l < r);
}

static void open_again(struct refs_test *t)
{
	t->c = (struct bcfs){.env = t->env};
	cr_assert(!fs_init(&t->c));
}

/* Half of @nr have numbers in a row, in two subvolumes; the others are anywhere. */
static void begin(struct refs_test *t, u64 seed, unsigned nr)
{
	t->seed = t->rng = seed;
	t->env = env_sim_create(seed);
	t->live = env_sim_live_allocs(t->env, NULL);
	t->all = calloc(nr, sizeof(*t->all));
	t->nr = 0;
	for (unsigned i = 0; i < nr; i++) {
		struct bcfs_ino ino = {.subvol = 1 + i % 2, .inum = 4097 + i / 2};

		if (i == 0)
			ino = (struct bcfs_ino){BCFS_SUBVOL_MAX, BCFS_INUM_MAX};
		else if (i >= nr / 2)
			ino.inum = 1 + trand_log_u64(&t->rng) % BCFS_INUM_MAX;
		t->all[i].key = bcfs_ino_pack(ino);
	}
	qsort(t->all, nr, sizeof(*t->all), key_cmp);
	for (unsigned i = 0; i < nr; i++)
		if (!i || t->all[i].key != t->all[i - 1].key)
			t->all[t->nr++] = t->all[i];
	open_again(t);
}

/* All of it is let go: nothing was lost, and nothing stays. */
static void end(struct refs_test *t)
{
	for (unsigned i = 0; i < t->nr; i++) {
		struct known *k = &t->all[i];
		bool reap;

		if (k->nr > 1)
			cr_assert(!inode_unref(&t->c, ino_of(k), k->nr - 1),
				  TEST_SEED_FMT " %llx: reaped while referenced",
				  (unsigned long long)t->seed, (unsigned long long)k->key);
		reap = inode_unref(&t->c, ino_of(k), 1);
		cr_assert_eq(reap, k->nr && k->unlinked, TEST_SEED_FMT " %llx",
			     (unsigned long long)t->seed, (unsigned long long)k->key);
		cr_assert(!inode_unref(&t->c, ino_of(k), 1));
	}
	fs_exit(&t->c);
	env_rcu_barrier(t->env);
	cr_assert_eq(env_sim_live_allocs(t->env, NULL), t->live, TEST_SEED_FMT,
		     (unsigned long long)t->seed);
	env_sim_destroy(t->env);
	free(t->all);
}

static void list(struct bcfs *c, darray_u64 *keys)
{
	for (unsigned i = 0; i < FS_REF_SHARDS; i++)
		cr_assert(!inode_refs_list(c, i, keys));
}

static void compare(struct refs_test *t)
{
	CLEANUP(darray_exit_p) darray_u64 keys = {0};
	bool unlinked = false;
	size_t at = 0;

	list(&t->c, &keys);
	if (keys.nr)
		qsort(keys.data, keys.nr, sizeof(u64), key_cmp);
	for (unsigned i = 0; i < t->nr; i++) {
		if (!t->all[i].nr)
			continue;
		cr_assert(at < keys.nr && keys.data[at++] == t->all[i].key,
			  TEST_SEED_FMT " %llx is not listed", (unsigned long long)t->seed,
			  (unsigned long long)t->all[i].key);
		unlinked |= t->all[i].unlinked;
	}
	cr_assert_eq(at, keys.nr, TEST_SEED_FMT " too many", (unsigned long long)t->seed);
	cr_assert_eq(inode_refs_unlinked(&t->c), unlinked, TEST_SEED_FMT,
		     (unsigned long long)t->seed);
}

static void ref(struct refs_test *t, struct known *k, bool fails)
{
	u64 allocs = env_sim_nr_allocs(t->env);
	int ret;

	if (fails)
		env_sim_fail_alloc(t->env, 1 + trand_below(&t->rng, 3), false);
	ret = inode_ref(&t->c, ino_of(k));
	allocs = env_sim_nr_allocs(t->env) - allocs;
	env_sim_fail_alloc(t->env, 0, false);
	if (!ret)
		k->nr++;
	else
		cr_assert(ret == -BCFS_ERR_nomem && fails && allocs);
}

static void unref(struct refs_test *t, struct known *k, u64 nr)
{
	bool last = k->nr && k->nr <= nr, reap = inode_unref(&t->c, ino_of(k), nr);

	cr_assert_eq(reap, last && k->unlinked, TEST_SEED_FMT " %llx", (unsigned long long)t->seed,
		     (unsigned long long)k->key);
	k->nr -= min(k->nr, nr);
	if (!k->nr)
		k->unlinked = false;
}

static void hand_over(struct refs_test *t)
{
	struct fs_refs refs;

	inode_refs_take(&t->c, &refs);
	for (unsigned i = 0; i < FS_REF_SHARDS; i++) {
		CLEANUP(darray_exit_p) darray_u64 keys = {0};

		cr_assert(!inode_refs_list(&t->c, i, &keys) && !keys.nr, "some stayed");
	}
	fs_exit(&t->c);
	open_again(t);
	if (trand_below(&t->rng, 2)) { /* who was known before is not any more */
		cr_assert(!inode_ref(&t->c, ino_of(&t->all[0])));
		inode_unref(&t->c, ino_of(&t->all[0]), 1);
	}
	if (trand_below(&t->rng, 4)) {
		inode_refs_put(&t->c, &refs);
		return;
	}
	inode_refs_free(t->env, &refs);
	for (unsigned i = 0; i < t->nr; i++)
		t->all[i] = (struct known){t->all[i].key};
}

static void one_op(struct refs_test *t, struct known *k)
{
	static const u64 many[] = {2, 126, 127, 128, 254, 300, 33000};
	u64 *rng = &t->rng;

	switch (trand_below(rng, 16)) {
	case 0 ... 5:
		ref(t, k, !trand_below(rng, 8));
		break;
	case 6: /* wider counts, of an entry that others are in; the last is rare */
		for (u64 n = many[trand_below(rng, trand_below(rng, 64) ? 6 : 7)]; n; n--)
			ref(t, k, !trand_below(rng, 64));
		break;
	case 7 ... 9:
		unref(t, k, 1);
		break;
	case 10:
		unref(t, k, trand_below(rng, k->nr + 1));
		break;
	case 11:
	case 12:
		unref(t, k, k->nr + trand_below(rng, 2));
		break;
	case 13:
	case 14:
		cr_assert_eq(inode_unlinked(&t->c, ino_of(k)), !k->nr);
		k->unlinked = k->nr;
		break;
	default:
		inode_relinked(&t->c, ino_of(k));
		k->unlinked = false;
	}
}

Test(refs, as_the_model)
{
	for (unsigned run = 0; run < 8; run++) {
		struct refs_test t;
		unsigned rounds = trand_rounds(40000);

		begin(&t, trand_seed(1) + run, 20 << run);
		for (unsigned i = 0; i < rounds; i++) {
			one_op(&t, &t.all[trand_below(&t.rng, t.nr)]);
			if (i % 2000 == 0)
				compare(&t);
			if (i % 5000 == 4999)
				hand_over(&t);
		}
		compare(&t);
		end(&t);
	}
}

Test(refs, grows)
{
	struct refs_test t;
	u64 bytes, before;

	begin(&t, trand_seed(2), 200000);
	env_sim_live_allocs(t.env, &before);
	for (unsigned i = 0; i < t.nr; i++)
		ref(&t, &t.all[i], i % 1000 == 0);
	compare(&t);
	hand_over(&t);
	compare(&t);
	/* Every other one is forgotten: the others stay. */
	for (unsigned i = 0; i < t.nr; i += 2)
		unref(&t, &t.all[i], 1);
	compare(&t);
	for (unsigned i = 1; i < t.nr; i += 2)
		unref(&t, &t.all[i], 1);
	compare(&t);
	env_sim_live_allocs(t.env, &bytes);
	cr_assert_leq(bytes, before, "%llu bytes stay", (unsigned long long)(bytes - before));
	end(&t);
}

/* Which they are, not how they came to be. */
Test(refs, the_order_is_of_the_contents)
{
	CLEANUP(darray_exit_p) darray_u64 a = {0}, b = {0};
	struct refs_test t;

	begin(&t, trand_seed(3), 5000);
	for (unsigned i = 0; i < t.nr; i += 3)
		ref(&t, &t.all[i], false);
	list(&t.c, &a);
	for (unsigned i = 0; i < t.nr; i++)
		ref(&t, &t.all[i], false);
	for (unsigned i = t.nr; i-- > 0;) {
		unref(&t, &t.all[i], 2);
		if (i % 3 == 0)
			for (unsigned j = 0; j < 200; j++)
				ref(&t, &t.all[i], false);
	}
	list(&t.c, &b);
	cr_assert(a.nr == b.nr && !memcmp(a.data, b.data, a.nr * sizeof(u64)));
	end(&t);
}

Test(refs, all_are_dropped)
{
	struct refs_test t;

	begin(&t, trand_seed(4), 1000);
	for (unsigned i = 0; i < t.nr; i++) {
		ref(&t, &t.all[i], false);
		cr_assert(!inode_unlinked(&t.c, ino_of(&t.all[i])));
	}
	cr_assert(inode_refs_unlinked(&t.c));
	inode_unref_all(&t.c);
	for (unsigned i = 0; i < t.nr; i++)
		t.all[i] = (struct known){t.all[i].key};
	compare(&t);
	ref(&t, &t.all[7], false);
	compare(&t);
	end(&t);
}
