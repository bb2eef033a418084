/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A node's keys against a sorted array.
 *
 * Goal: every invariant of bset.h under random inserts, overwrites, deletions, freezes
 * and writes, over several kinds of positions and formats that only some keys fit.
 * Method: the model is an array over a small universe of positions. After each step
 * lookups, iteration both ways and searches by all three methods are compared with
 * it; each write is appended to a simulated disk, which, loaded, must give the model's
 * state of then. When the disk is full the node is rewritten with a new format.
 */
#include "keys_test.h"

#include "../test_rand.h"

#define MAX_POS	   400
#define MAX_WRITES 4000

struct model_key {
	bool live, dirty, disk_live;
	struct key_buf k;
};

struct world {
	struct rng r;
	struct node n;
	unsigned nr;
	struct bpos pos[MAX_POS];
	struct model_key m[MAX_POS];
	struct bset_src disk[MAX_WRITES];
	unsigned nr_disk;
	u32 disk_u64s;
	u64 seq, changed_seq;
	u32 capacity;
	unsigned max_val;
	bool rising; /* mostly in order, over and over again */
	unsigned next;
	u64 whiteouts, rewrites, sets3, grown;
};

static int pos_cmp(const void *l, const void *r)
{
	return bpos_cmp(*(const struct bpos *)l, *(const struct bpos *)r);
}

static void world_init(struct world *w, enum universe u)
{
	unsigned nr = 2 + rnd_below(&w->r, MAX_POS - 2), out = 0;
	struct bkey_format_state s;
	struct bkey_format f;

	for (unsigned i = 0; i < nr; i++)
		w->pos[i] = rnd_pos(&w->r, u);
	qsort(w->pos, nr, sizeof(w->pos[0]), pos_cmp);
	for (unsigned i = 0; i < nr; i++)
		if (!out || !bpos_eq(w->pos[i], w->pos[out - 1]))
			w->pos[out++] = w->pos[i];
	w->nr = out;
	w->capacity = 512 << rnd_below(&w->r, 5);
	if (w->rising)
		w->capacity = 8192;
	w->max_val = rnd_percent(&w->r, 20) ? 120 : 6;
	if (w->capacity < 2048)
		w->max_val = 6;

	bkey_format_state_init(&s);
	for (unsigned i = 0; i < w->nr; i++)
		if (rnd_percent(&w->r, 70))
			bkey_format_add_pos(&s, w->pos[i]);
	f = bkey_format_done(&s);
	if (rnd_percent(&w->r, 20))
		f = rnd_format(&w->r);
	node_init(&w->n, w->capacity, &f);
}

static void drop_disk(struct world *w)
{
	while (w->nr_disk)
		free((void *)w->disk[--w->nr_disk].start);
	w->disk_u64s = 0;
}

static void key_matches(struct world *w, struct bkey_s_c k, unsigned i)
{
	check(&w->r, bkey_s_c_equal(k, bkey_i_to_s_c(&w->m[i].k.k)), "position %u", i);
}

static void check_search(struct world *w, struct bpos p)
{
	const struct btree_keys *b = &w->n.b;

	for (unsigned i = 0; i < b->nsets; i++) {
		const struct bset_tree *t = &b->set[i];
		struct bkey_packed *lin = bset_search_with(b, t, p, BSET_SEARCH_LINEAR);
		struct bkey_packed *k = bset_first(b, t);

		while (k != bset_last(b, t) && bpos_lt(bkey_unpack_pos(&b->f, k), p))
			k = bkeyp_next(k);
		check(&w->r, lin == k, "linear, set %u", i);
		check(&w->r, bset_search_with(b, t, p, BSET_SEARCH_BINARY) == k, "binary, set %u",
		      i);
		check(&w->r, bset_search_with(b, t, p, BSET_SEARCH_AUX) == k, "aux, set %u type %u",
		      i, t->aux_type);
	}
}

/* From a random place forward, then back to the start. */
static void check_iter(struct world *w, struct bpos from)
{
	const struct btree_keys *b = &w->n.b;
	struct btree_node_iter it;
	struct bkey_s_c k;
	struct bkey u;
	unsigned i = 0, steps = rnd_below(&w->r, w->nr + 1);

	btree_node_iter_init(&it, b, &from, NULL);
	while (i < w->nr && bpos_lt(w->pos[i], from))
		i++;
	for (; steps--; i++) {
		while (i < w->nr && !w->m[i].live)
			i++;
		k = btree_node_iter_peek_unpack(&it, b, &u);
		check(&w->r, !k.k == (i == w->nr));
		if (i == w->nr)
			break;
		key_matches(w, k, i);
		btree_node_iter_advance(&it, b);
		/* there and back */
		if (rnd_percent(&w->r, 20)) {
			struct bkey_packed *p = btree_node_iter_prev(&it, b);

			check(&w->r, p, "prev of %u", i);
			key_matches(w, bkey_disassemble(&b->f, p, &u), i);
			check(&w->r, btree_node_iter_peek(&it, b) == p, "peek after prev");
			btree_node_iter_advance(&it, b);
		}
	}
	while (true) {
		struct bkey_packed *p = btree_node_iter_prev(&it, b);

		while (i && !w->m[i - 1].live)
			i--;
		check(&w->r, !p == !i, "prev, at %u", i);
		if (!p)
			break;
		key_matches(w, bkey_disassemble(&b->f, p, &u), --i);
	}
}

static void check_all(struct world *w)
{
	const struct btree_keys *b = &w->n.b;
	struct printbuf err = PRINTBUF;
	struct btree_node_iter it;
	unsigned nr_unwritten = 0, found = 0, nr_live = 0;
	struct bkey_s_c k;
	struct bkey u;
	u64 *dst, newest = 0;
	u32 u64s, live = 0;

	check(&w->r, !btree_keys_verify(b, &err), "%s", printbuf_str(&err));
	printbuf_exit(&err);
	w->sets3 += b->nsets == MAX_BSETS;

	btree_node_iter_init_start(&it, b);
	for (unsigned i = 0; i < w->nr; i++) {
		struct bkey_packed *p = btree_keys_lookup(b, w->pos[i]);

		check(&w->r, !p == !w->m[i].live, "lookup of %u", i);
		nr_unwritten += w->m[i].live ? w->m[i].dirty : w->m[i].disk_live;
		if (!p)
			continue;
		nr_live++;
		live += p->u64s;
		key_matches(w, bkey_disassemble(&b->f, p, &u), i);
		k = btree_node_iter_peek_unpack(&it, b, &u);
		check(&w->r, k.k, "iteration, at %u", i);
		key_matches(w, k, i);
		btree_node_iter_advance(&it, b);
	}
	check(&w->r, !btree_node_iter_peek(&it, b));
	check(&w->r, btree_keys_live_u64s(b) == live);
	for (unsigned i = 0; i < b->nsets; i++)
		found += b->set[i].nr_live;
	check(&w->r, found == nr_live);

	for (unsigned i = 0; i < 4; i++) {
		struct bpos p = w->pos[rnd_below(&w->r, w->nr)];

		check_search(w, p);
		if (!bpos_eq(p, SPOS_MAX))
			check_search(w, bpos_successor(p));
		if (!bpos_eq(p, POS_MIN))
			check_search(w, bpos_predecessor(p));
		check_iter(w, p);
	}
	check_search(w, POS_MIN);
	check_search(w, SPOS_MAX);
	check_iter(w, POS_MIN);
	check_iter(w, SPOS_MAX);

	/* exactly what has to be written is */
	dst = malloc(w->capacity * 8);
	u64s = btree_keys_copy_unwritten(b, dst, &newest);
	check(&w->r, u64s == btree_keys_unwritten_u64s(b));
	check(&w->r, newest == btree_keys_unwritten_seq(b));
	if (u64s && w->changed_seq)
		check(&w->r, newest == w->changed_seq, "seq %llu, last change %llu",
		      (unsigned long long)newest, (unsigned long long)w->changed_seq);
	found = 0;
	for (u32 idx = 0; idx < u64s; idx += ((struct bkey_packed *)(dst + idx))->u64s)
		found++;
	check(&w->r, found == nr_unwritten, "%u to write, should be %u", found, nr_unwritten);
	free(dst);
}

static void check_disk(struct world *w)
{
	struct node n;
	struct printbuf err = PRINTBUF;
	struct bkey u;
	unsigned nr = 0;

	node_init(&n, w->capacity, &w->n.b.f.f);
	check(&w->r, !btree_keys_load(&n.b, w->disk, w->nr_disk));
	check(&w->r, !btree_keys_verify(&n.b, &err), "%s", printbuf_str(&err));
	check(&w->r, n.b.nsets <= 1 && n.b.nr_written == n.b.nsets);
	for (unsigned i = 0; i < w->nr; i++) {
		struct bkey_packed *p = btree_keys_lookup(&n.b, w->pos[i]);

		check(&w->r, !p == !w->m[i].live, "on disk: %u", i);
		if (p)
			key_matches(w, bkey_disassemble(&n.b.f, p, &u), i);
		nr += !!p;
	}
	check(&w->r, nr == (n.b.nsets ? n.b.set[0].nr_live : 0));
	printbuf_exit(&err);
	node_exit(&n);
}

static void step_write(struct world *w)
{
	u32 want = btree_keys_unwritten_u64s(&w->n.b), u64s;
	bool any = btree_keys_freeze(&w->n.b, w->n.scratch);
	struct printbuf err = PRINTBUF;
	u64 *dst, seq;

	check(&w->r, any == !!want);
	check(&w->r, w->n.b.nsets - w->n.b.nr_written == any);
	if (rnd_percent(&w->r, 20)) {
		check_all(w);
		return; /* frozen and not written: inserts go on */
	}
	if (!any)
		return;
	dst = malloc(want * 8);
	u64s = btree_keys_copy_unwritten(&w->n.b, dst, &seq);
	check(&w->r, u64s == want);
	check(&w->r, !bset_validate_keys(&w->n.b.f, dst, u64s, &err), "%s", printbuf_str(&err));
	w->disk[w->nr_disk++] = (struct bset_src){dst, u64s, seq};
	w->disk_u64s += u64s;
	btree_keys_mark_written(&w->n.b, w->n.scratch);
	check(&w->r, !btree_keys_unwritten_u64s(&w->n.b));
	check(&w->r, w->n.b.nsets < MAX_BSETS);
	for (unsigned i = 0; i < w->nr; i++) {
		w->m[i].dirty = false;
		w->m[i].disk_live = w->m[i].live;
	}
	w->changed_seq = 0;
	check_disk(w);
	printbuf_exit(&err);
}

/* What all keys take in another format. */
static u32 packed_u64s(const struct btree_keys *b, const struct bkey_format *fmt)
{
	struct bkey_format_fast f;
	struct btree_node_iter it;
	struct bkey_packed *k;
	u32 u64s = 0;

	bkey_format_fast_init(&f, fmt);
	btree_node_iter_init_start(&it, b);
	for (; (k = btree_node_iter_peek(&it, b)); btree_node_iter_advance(&it, b)) {
		struct bkey u = bkey_unpack_key(&b->f, k);
		u64 packed[BKEY_U64s];

		u64s += bkey_val_u64s(&u);
		u64s += bkey_pack_key((struct bkey_packed *)packed, &u, &f) ? fmt->key_u64s
									    : BKEY_U64s;
	}
	return u64s;
}

/* All into a new node with its own format, in one or two parts. */
static void step_rewrite(struct world *w)
{
	struct btree_keys_ranges r;
	struct bkey_format f;
	struct node n;
	struct bpos mid = w->pos[rnd_below(&w->r, w->nr)];
	u32 u64s, at_most;

	btree_keys_ranges_init(&r);
	if (bpos_eq(mid, SPOS_MAX) || rnd_percent(&w->r, 50)) {
		btree_keys_measure(&w->n.b, POS_MIN, SPOS_MAX, &r);
	} else {
		btree_keys_measure(&w->n.b, POS_MIN, mid, &r);
		btree_keys_measure(&w->n.b, bpos_successor(mid), SPOS_MAX, &r);
	}
	check(&w->r, r.nr + !!r.edge_u64s == btree_keys_nr_live(&w->n.b));
	f = bkey_format_done(&r.s);
	at_most = btree_keys_ranges_u64s(&r, &f);
	u64s = packed_u64s(&w->n.b, &f);
	check(&w->r, u64s <= at_most && (r.edge_u64s || u64s == at_most));
	if (!rnd_percent(&w->r, 70))
		f = w->n.b.f.f;
	node_init(&n, w->capacity, &f);
	u64s = packed_u64s(&w->n.b, &f);
	if (bpos_eq(mid, SPOS_MAX) || rnd_percent(&w->r, 50)) {
		check(&w->r, !btree_keys_sort_into(&n.b, &w->n.b, POS_MIN, SPOS_MAX));
	} else {
		check(&w->r, !btree_keys_sort_into(&n.b, &w->n.b, POS_MIN, mid));
		check(&w->r, !btree_keys_sort_into(&n.b, &w->n.b, bpos_successor(mid), SPOS_MAX));
		btree_keys_freeze(&n.b, n.scratch);
	}
	check(&w->r, btree_keys_live_u64s(&n.b) == u64s);
	check(&w->r, btree_keys_unwritten_u64s(&n.b) == u64s);
	node_exit(&w->n);
	w->n = n;
	w->rewrites++;
	w->changed_seq = 0;
	drop_disk(w);
	for (unsigned i = 0; i < w->nr; i++) {
		w->m[i].dirty = w->m[i].live;
		w->m[i].disk_live = false;
	}
}

/* Where it is, as a lookup or an iterator found it; false: who inserts is to search. */
static bool some_place(struct world *w, unsigned i, struct btree_keys_place *place)
{
	struct btree_node_iter it;

	switch (rnd_below(&w->r, 3)) {
	case 0:
		return false;
	case 1:
		btree_keys_find(&w->n.b, w->pos[i], place);
		check(&w->r, btree_keys_at(&w->n.b, w->pos[i], place) ==
				     btree_keys_lookup(&w->n.b, w->pos[i]));
		return true;
	default:
		btree_node_iter_init(&it, &w->n.b, &w->pos[i], place);
		return true;
	}
}

static void step_insert(struct world *w)
{
	bool in_order = w->rising && rnd_below(&w->r, 200);
	unsigned i = in_order ? w->next++ % w->nr : rnd_below(&w->r, w->nr);
	struct model_key *m = &w->m[i];
	bool del = rnd_percent(&w->r, in_order ? 2 : 30) ||
		   btree_keys_live_u64s(&w->n.b) > w->capacity / 2;
	struct bkey_packed *p;
	struct btree_keys_place place;
	struct bkey u;
	struct key_buf k;

	bkey_init(&k.k.k);
	k.k.k.p = w->pos[i];
	k.k.k.type = del ? KEY_TYPE_deleted : 1 + rnd_below(&w->r, KEY_TYPE_NR - 1);
	if (!del) {
		if (rnd_percent(&w->r, 30))
			k.k.k.size = rnd_bits(&w->r, 32);
		if (rnd_percent(&w->r, 10))
			k.k.k.version = rnd_bits(&w->r, 32);
		set_bkey_val_u64s(&k.k.k, rnd_below(&w->r, w->max_val + 1));
	}
	for (unsigned v = 0; v < bkey_val_u64s(&k.k.k); v++)
		k.room[v] = rnd(&w->r);

	if (w->disk_u64s + btree_keys_unwritten_u64s(&w->n.b) + btree_keys_insert_u64s(&k.k) >
	    w->capacity) {
		step_rewrite(w);
		if (btree_keys_unwritten_u64s(&w->n.b) + btree_keys_insert_u64s(&k.k) > w->capacity)
			return;
	}
	p = btree_keys_insert(&w->n.b, &k.k, ++w->seq, w->n.scratch,
			      some_place(w, i, &place) ? &place : NULL);
	struct bset_tree *last = &w->n.b.set[w->n.b.nsets - 1];
	w->grown += w->n.b.nsets && last->aux_type == BSET_RW_AUX &&
		    (last->end - last->start) * 8 > BSET_RW_MAX_BYTES;
	if (!del || m->live)
		w->changed_seq = w->seq;
	else if (w->changed_seq)
		w->changed_seq = max(w->changed_seq, btree_keys_unwritten_seq(&w->n.b));

	m->live = !del;
	m->dirty = !del;
	if (!del)
		bkey_copy(&m->k.k, &k.k);
	if (!del) {
		check(&w->r, p);
		check(&w->r, p == btree_keys_lookup(&w->n.b, w->pos[i]));
		key_matches(w, bkey_disassemble(&w->n.b.f, p, &u), i);
	} else {
		check(&w->r, !p || (m->disk_live && p->needs_whiteout));
		w->whiteouts += !!p;
	}
}

/* What the runs of a universe have met. */
struct met {
	u64 whiteouts, rewrites, sets3, writes, failed, floats, grown;
};

static void run_model(u64 seed, enum universe u, unsigned steps, bool rising, struct met *met)
{
	struct bset_stats stats = {0};
	struct world *w = calloc(1, sizeof(*w));
	unsigned writes;

	w->r = rng_new(seed);
	w->rising = rising;
	world_init(w, u);
	writes = 1 + rnd_below(&w->r, 5);
	for (unsigned i = 0; i < steps; i++) {
		if (rnd_below(&w->r, rising ? 1000 : 100) < writes && w->nr_disk < MAX_WRITES)
			step_write(w);
		else
			step_insert(w);
		if (i % 8 == 0 || steps <= 200)
			check_all(w);
	}
	check_all(w);
	btree_keys_stats(&w->n.b, &stats);
	met->failed += stats.failed;
	met->floats += stats.floats;
	met->whiteouts += w->whiteouts;
	met->rewrites += w->rewrites;
	met->sets3 += w->sets3;
	met->grown += w->grown;
	met->writes += w->nr_disk;
	step_write(w);
	drop_disk(w);
	node_exit(&w->n);
	free(w);
}

static void run_universe(enum universe u)
{
	struct met met = {0};

	for (unsigned i = 0; i < trand_rounds(60); i++)
		run_model(1000 * (u + 1) + i, u, 200, false, &met);
	for (unsigned i = 0; i < trand_rounds(30); i++)
		run_model(500000 + 1000 * (u + 1) + i, u, 3000, false, &met);
	for (unsigned i = 0; i < 15; i++)
		run_model(700000 + 1000 * (u + 1) + i, u, 2000, true, &met);
	fprintf(stderr,
		"whiteouts %llu rewrites %llu three sets %llu writes %llu aux %llu failed %llu "
		"grown %llu\n",
		(unsigned long long)met.whiteouts, (unsigned long long)met.rewrites,
		(unsigned long long)met.sets3, (unsigned long long)met.writes,
		(unsigned long long)met.floats, (unsigned long long)met.failed,
		(unsigned long long)met.grown);
	/* With a seed that is given all runs begin with it, and need not meet everything. */
	if (getenv("BCFS_TEST_SEED"))
		return;
	cr_assert(met.whiteouts && met.rewrites && met.sets3 && met.writes && met.floats &&
		  met.grown);
}

Test(bset_model, extents)
{
	run_universe(UNIVERSE_EXTENTS);
}

Test(bset_model, hash)
{
	run_universe(UNIVERSE_HASH);
}

Test(bset_model, dense)
{
	run_universe(UNIVERSE_DENSE);
}

Test(bset_model, wild)
{
	run_universe(UNIVERSE_WILD);
}
