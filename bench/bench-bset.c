/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lookups within btree nodes: auxiliary search trees against a plain binary search over
 * the offsets of all keys, and against a linear scan.
 *
 * The nodes together are far larger than the CPU's caches; each lookup takes a random
 * node and a random key of it, so what is measured is mostly cache misses. All three
 * pack the position searched for, and read the value of the key found.
 */
#include "bench_util.h"

#include "btree/bset.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOAL_RATIO    3.0
#define GOAL_FALLBACK 1.0 /* per cent */
#define ROUNDS	      7

struct shape {
	const char *name;
	struct bpos (*next)(struct bpos prev, u64 random);
};

struct bench_node {
	struct btree_keys b;
	u16 *offsets; /* of every key, in u64s */
	u32 nr;
};

struct bench {
	unsigned nr_nodes, lookups;
	u32 node_bytes;
	struct bench_out out;
	struct bench_node *nodes;
	u64 random;
	u64 sum; /* of the values found: keeps the compiler honest, and all methods must agree */
	double build_ns;
};

/* Files of 1 to some 60 extents of up to 128 KiB. */
static struct bpos next_extent(struct bpos p, u64 r)
{
	if (r % 32 == 0)
		return SPOS(p.inode + 1 + (r >> 8) % 4, 8, UINT32_MAX);
	return SPOS(p.inode, p.offset + 8 * (1 + (r >> 8) % 32), UINT32_MAX);
}

/* Directories of some 200 entries at 63-bit hashes. */
static struct bpos next_dirent(struct bpos p, u64 r)
{
	u64 step = (r >> 8) % ((1ULL << 63) / 100);

	if (p.offset + step >= 1ULL << 63)
		return SPOS(p.inode + 1, (r >> 16) % (1ULL << 56), UINT32_MAX);
	return SPOS(p.inode, p.offset + step + 1, UINT32_MAX);
}

/* Inodes of one subvolume, most numbers in use. */
static struct bpos next_inode(struct bpos p, u64 r)
{
	return SPOS(0, p.offset + 1 + (r % 4 == 0 ? (r >> 8) % 8 : 0), UINT32_MAX);
}

/* One node full of keys of this shape, as read from disk. */
static void fill_node(struct bench *bench, struct bench_node *n, const struct shape *shape,
		      u64 *buf, u32 capacity)
{
	struct bpos start_pos = SPOS(4096 + bench_random(&bench->random) % 1000000, 8, UINT32_MAX);
	struct bpos p = shape->next(start_pos, bench_random(&bench->random));
	struct bpos first = p;
	u64 seed = bench->random;
	struct bkey_format_state s;
	struct bkey_format_fast f;
	struct bkey_format fmt;
	struct bset_src src = {.start = buf};
	double start;
	u64 *aux;

	bkey_format_state_init(&s);
	for (u32 i = 0; i < capacity / 3; i++) {
		bkey_format_add_pos(&s, p);
		p = shape->next(p, bench_random(&seed));
	}
	fmt = bkey_format_done(&s);
	bkey_format_fast_init(&f, &fmt);

	p = first;
	seed = bench->random;
	while (src.u64s + fmt.key_u64s + 2 <= capacity) {
		struct bkey k;

		bkey_init(&k);
		k.type = KEY_TYPE_extent;
		k.p = p;
		set_bkey_val_u64s(&k, 2);
		if (!bkey_pack_key((struct bkey_packed *)(buf + src.u64s), &k, &f))
			break;
		src.u64s += fmt.key_u64s;
		buf[src.u64s++] = p.inode ^ p.offset * 0x9e3779b97f4a7c15ULL;
		buf[src.u64s++] = 0;
		p = shape->next(p, bench_random(&seed));
	}
	bench->random = seed;

	aux = aligned_alloc(64, round_up(btree_keys_aux_bytes(bench->node_bytes), (size_t)64));
	btree_keys_init(&n->b, aligned_alloc(64, bench->node_bytes + 64), (u8 *)aux, capacity,
			&fmt);
	start = bench_thread_ns();
	if (btree_keys_load(&n->b, &src, 1))
		abort();
	bench->build_ns += bench_thread_ns() - start;

	n->nr = n->b.set[0].nr_live;
	n->offsets = malloc(n->nr * sizeof(*n->offsets));
	for (u32 i = 0, idx = 0; i < n->nr; i++) {
		n->offsets[i] = idx;
		idx += ((struct bkey_packed *)(n->b.data + idx))->u64s;
	}
}

static void free_nodes(struct bench *bench)
{
	for (unsigned i = 0; i < bench->nr_nodes; i++) {
		free(bench->nodes[i].b.data);
		free(bench->nodes[i].b.aux);
		free(bench->nodes[i].offsets);
	}
	free(bench->nodes);
}

static struct bkey_packed *binary_search(const struct bench_node *n, struct bpos pos)
{
	u64 packed[BKEY_U64s];
	const struct bkey_packed *search = (const struct bkey_packed *)packed;
	u32 l = 0, r = n->nr;

	if (bkey_pack_pos_lossy((struct bkey_packed *)packed, pos, &n->b.f) != BKEY_PACK_POS_EXACT)
		abort();
	while (l < r) {
		u32 m = (l + r) / 2;
		struct bkey_packed *k = (struct bkey_packed *)(n->b.data + n->offsets[m]);

		if (bkey_cmp_packed_bits(&n->b.f, k, search) < 0)
			l = m + 1;
		else
			r = m;
	}
	return (struct bkey_packed *)(n->b.data + n->offsets[l]);
}

enum method { AUX, BINARY, LINEAR, METHOD_NR };

/* A lookup's target, chosen beforehand so that choosing it costs no cache misses. */
struct target {
	u32 node;
	struct bpos pos;
};

static double run(struct bench *bench, enum method m, const struct target *t, unsigned nr)
{
	double start = bench_thread_ns();
	u64 sum = 0;

	for (unsigned i = 0; i < nr; i++) {
		const struct bench_node *n = &bench->nodes[t[i].node];
		struct bkey_packed *k;

		if (m == AUX)
			k = bset_search_with(&n->b, &n->b.set[0], t[i].pos, BSET_SEARCH_AUX);
		else if (m == BINARY)
			k = binary_search(n, t[i].pos);
		else
			k = bset_search_with(&n->b, &n->b.set[0], t[i].pos, BSET_SEARCH_LINEAR);
		sum += *(u64 *)bkeyp_val(&n->b.f, k);
	}
	bench->sum = sum;
	return nr / (bench_thread_ns() - start) * 1e9;
}

static void print_row(struct bench *bench, const char *shape, const char *what, double value,
		      const char *unit, const char *peer, double peer_value, double goal)
{
	bench_print(&bench->out, &(struct bench_row){.group = shape,
						     .row = what,
						     .value = value,
						     .unit = unit,
						     .peer = peer,
						     .peer_value = peer_value,
						     .goal = goal,
						     .at_most = !peer});
}

static void run_shape(struct bench *bench, const struct shape *shape)
{
	u32 capacity = bench->node_bytes / 8;
	u64 *buf = malloc(bench->node_bytes), sums[METHOD_NR];
	struct target *targets = malloc(bench->lookups * sizeof(*targets));
	double rate[METHOD_NR] = {0};
	struct bset_stats stats = {0};
	unsigned few = max(bench->lookups / 200, 1U);
	u64 nr_keys = 0;

	bench->build_ns = 0;
	bench->nodes = calloc(bench->nr_nodes, sizeof(*bench->nodes));
	for (unsigned i = 0; i < bench->nr_nodes; i++) {
		fill_node(bench, &bench->nodes[i], shape, buf, capacity);
		btree_keys_stats(&bench->nodes[i].b, &stats);
		nr_keys += bench->nodes[i].nr;
	}
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < bench->lookups; i++) {
			struct target *t = &targets[i];
			const struct bench_node *n;

			t->node = bench_random(&bench->random) % bench->nr_nodes;
			n = &bench->nodes[t->node];
			t->pos = bkey_unpack_pos(
				&n->b.f,
				(struct bkey_packed
					 *)(n->b.data +
					    n->offsets[bench_random(&bench->random) % n->nr]));
		}
		for (unsigned m = 0; m < METHOD_NR; m++) {
			/* the scan is too slow for as many */
			double r = run(bench, m, targets, m == LINEAR ? few : bench->lookups);

			rate[m] = max(rate[m], r);
			sums[m] = bench->sum;
		}
		run(bench, AUX, targets, few);
		if (sums[AUX] != sums[BINARY] || bench->sum != sums[LINEAR]) {
			fprintf(stderr, "bench-bset: the methods disagree\n");
			exit(2);
		}
	}

	print_row(bench, shape->name, "lookup, aux tree", rate[AUX], "op/s",
		  "binary search over key offsets", rate[BINARY], GOAL_RATIO);
	print_row(bench, shape->name, "lookup, aux tree", rate[AUX], "op/s", "linear scan",
		  rate[LINEAR], 0);
	print_row(bench, shape->name, "lookup, binary search", rate[BINARY], "op/s", NULL, 0, 0);
	print_row(bench, shape->name, "lookup, linear scan", rate[LINEAR], "op/s", NULL, 0, 0);
	print_row(bench, shape->name, "aux entries that fall back",
		  100.0 * stats.failed / (stats.failed + stats.floats), "%", NULL, 0,
		  GOAL_FALLBACK);
	print_row(bench, shape->name, "packed key", (double)stats.key_bytes / nr_keys, "bytes",
		  NULL, 0, 0);
	print_row(bench, shape->name, "load and build", bench->build_ns / nr_keys, "ns/key", NULL,
		  0, 0);
	free_nodes(bench);
	free(targets);
	free(buf);
}

int main(int argc, char *argv[])
{
	static const struct shape shapes[] = {
		{"extents", next_extent}, {"dirents", next_dirent}, {"inodes", next_inode}};
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"nodes", required_argument, NULL, 'n'},
						{"lookups", required_argument, NULL, 'l'},
						{"node-size", required_argument, NULL, 's'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	struct bench bench = {.nr_nodes = 2000,
			      .lookups = 200000,
			      .node_bytes = 256 << 10,
			      .random = 1,
			      .out = {.bench = "bset"}};
	int c;

	while ((c = getopt_long(argc, argv, "jn:l:s:h", options, NULL)) != -1) {
		if (c == 'j') {
			bench.out.json = true;
		} else if (c == 'n') {
			bench.nr_nodes = max(atoi(optarg), 1);
		} else if (c == 'l') {
			bench.lookups = max(atoi(optarg), 1000);
		} else if (c == 's') {
			bench.node_bytes = min(max(atoi(optarg) & ~511, 4096), 256 << 10);
		} else {
			fprintf(c == 'h' ? stdout : stderr,
				"usage: bench-bset [--json] [--nodes N] [--lookups N] "
				"[--node-size BYTES]\n");
			return c == 'h' ? 0 : 2;
		}
	}
	bench_note(&bench.out, "%u nodes of %u KiB, 16-byte values, %u lookups, best of %u rounds",
		   bench.nr_nodes, bench.node_bytes >> 10, bench.lookups, ROUNDS);
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++)
		run_shape(&bench, &shapes[i]);
	return bench_exit_status(&bench.out);
}
