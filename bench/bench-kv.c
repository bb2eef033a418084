/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The key-value core against LMDB and RocksDB, all in one run on the same keys: a random
 * permutation of 0 .. N-1 with 16-byte values.
 *
 *  - random inserts, in transactions of --batch keys, durable only at the end (the final sync
 *    is part of the time); then what the keys take on the device;
 *  - random point lookups by one thread in what was inserted, all of it cached;
 *  - sequential inserts;
 *  - random inserts with a durable commit per transaction, fewer of them.
 *
 * Lookups alternate between the stores in rounds, and the best round of each counts, so that other
 * load on the machine meets all alike; they are timed by the thread's own processor time. Inserts
 * are one long run each; processor time, of all threads, is printed beside the rates.
 */
#include "bench_util.h"
#include "kv.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GOAL_LOOKUP	1.5
#define GOAL_INSERT	1.5
#define GOAL_SEQUENTIAL 3.0
#define GOAL_BYTES	0.6

enum { BCFS, LMDB, ROCKSDB, STORES };

static const struct kv_ops *const stores[STORES] = {&kv_bcfs, &kv_lmdb, &kv_rocksdb};

struct bench {
	struct bench_out out;
	u64 nr_keys;
	unsigned batch, durable_batches, lookups, rounds;
	unsigned which; /* mask of stores */
	const char *only;
	char dir[512];
	u64 *keys; /* in random order */
	u64 random;
	void *kv[STORES];
};

struct result {
	double rate, cpu_ns; /* keys per second; processor time per key */
};

static bool has(const struct bench *b, unsigned s)
{
	return b->which & 1U << s;
}

static bool wanted(const struct bench *b, const char *part)
{
	return !b->only || !strcmp(b->only, part);
}

static void *store_open(struct bench *b, unsigned s, u64 nr_keys, bool durable)
{
	struct kv_params p = {.dir = b->dir, .nr_keys = nr_keys, .durable = durable};

	return stores[s]->open(&p);
}

static struct result insert_all(struct bench *b, unsigned s, void *kv, const u64 *keys, u64 nr)
{
	double start = bench_now_ns(), cpu = bench_cpu_ns();

	for (u64 i = 0; i < nr; i += b->batch)
		stores[s]->insert(kv, keys + i, min_t(u64, b->batch, nr - i));
	stores[s]->sync(kv);
	return (struct result){
		.rate = nr / (bench_now_ns() - start) * 1e9,
		.cpu_ns = (bench_cpu_ns() - cpu) / nr,
	};
}

/* One row per peer; the goal is LMDB's. */
static void compare(struct bench *b, const char *row, const char *unit, const double v[STORES],
		    double goal, bool at_most)
{
	bool alone = true;

	for (unsigned s = 0; s < STORES; s++) {
		if (s == BCFS || !has(b, s) || !v[s])
			continue;
		alone = false;
		bench_print(&b->out, &(struct bench_row){.row = row,
							 .value = v[BCFS],
							 .unit = unit,
							 .peer = stores[s]->name,
							 .peer_value = v[s],
							 .goal = s == LMDB ? goal : 0,
							 .at_most = at_most});
	}
	if (alone)
		bench_print(&b->out,
			    &(struct bench_row){.row = row, .value = v[BCFS], .unit = unit});
}

static void compare_inserts(struct bench *b, const char *row, const char *cpu_row,
			    const struct result r[STORES], double goal)
{
	double rate[STORES], cpu[STORES];

	for (unsigned s = 0; s < STORES; s++) {
		rate[s] = r[s].rate;
		cpu[s] = r[s].cpu_ns;
	}
	compare(b, row, "key/s", rate, goal, false);
	compare(b, cpu_row, "ns/key", cpu, 0, true);
}

static void amplification(struct bench *b)
{
	struct kv_bcfs_stats s;
	double user = b->nr_keys * (sizeof(u64) + KV_VALUE_BYTES);

	kv_bcfs_stats(b->kv[BCFS], &s);
	struct bench_row rows[] = {
		{.row = "node appends to whole node writes",
		 .value = (double)s.appends / max_t(u64, s.nodes, 1),
		 .unit = ": 1"},
		{.row = "node appends", .value = s.appends, .unit = ""},
		{.row = "whole nodes: splits and rewrites", .value = s.nodes, .unit = ""},
		{.row = "of them rewrites", .value = s.rewrites, .unit = ""},
		{.row = "write amplification, nodes", .value = s.node_bytes / user, .unit = "x"},
		{.row = "write amplification, journal",
		 .value = s.journal_bytes / user,
		 .unit = "x"},
		{.row = "the journal's fixed size",
		 .value = s.journal_size_bytes / 1048576.0,
		 .unit = "MiB"},
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		bench_print(&b->out, &rows[i]);
}

static double random_inserts(struct bench *b)
{
	struct result r[STORES] = {0};
	double bytes[STORES] = {0};

	for (unsigned s = 0; s < STORES; s++) {
		if (!has(b, s))
			continue;
		b->kv[s] = store_open(b, s, b->nr_keys, false);
		r[s] = insert_all(b, s, b->kv[s], b->keys, b->nr_keys);
		stores[s]->settle(b->kv[s]);
		bytes[s] = (double)stores[s]->bytes(b->kv[s]) / b->nr_keys;
	}
	compare_inserts(b, "random inserts", "random inserts, processor time", r, GOAL_INSERT);
	if (has(b, BCFS)) {
		compare(b, "on the device, after random inserts", "bytes/key", bytes, GOAL_BYTES,
			true);
		amplification(b);
	}
	return r[BCFS].rate;
}

static void random_lookups(struct bench *b)
{
	u64 *keys = malloc(b->lookups * sizeof(*keys)), sum = 0, want;
	double best[STORES] = {0};

	if (!keys)
		bench_die("bench-kv: out of memory");
	for (unsigned s = 0; s < STORES; s++)
		if (has(b, s))
			stores[s]->warm(b->kv[s]);
	for (unsigned round = 0; round < b->rounds; round++) {
		want = 0;
		for (unsigned i = 0; i < b->lookups; i++) {
			u64 v[2];

			keys[i] = b->keys[bench_random(&b->random) % b->nr_keys];
			kv_value(keys[i], v);
			want += v[0];
		}
		for (unsigned s = 0; s < STORES; s++) {
			if (!has(b, s))
				continue;
			double start = bench_thread_ns();

			sum = stores[s]->lookup(b->kv[s], keys, b->lookups);
			best[s] = max(best[s], b->lookups / (bench_thread_ns() - start) * 1e9);
			if (sum != want)
				bench_die("bench-kv: %s: wrong values", stores[s]->name);
		}
	}
	free(keys);
	compare(b, "random lookups, cached", "key/s", best, GOAL_LOOKUP, false);
}

static void close_all(struct bench *b)
{
	for (unsigned s = 0; s < STORES; s++)
		if (b->kv[s]) {
			stores[s]->close(b->kv[s]);
			b->kv[s] = NULL;
		}
}

static void sequential_inserts(struct bench *b, double random_rate)
{
	u64 *keys = malloc(b->nr_keys * sizeof(*keys));
	struct result r[STORES] = {0};

	if (!keys)
		bench_die("bench-kv: out of memory");
	for (u64 i = 0; i < b->nr_keys; i++)
		keys[i] = i;
	for (unsigned s = 0; s < STORES; s++) {
		if (!has(b, s))
			continue;
		void *kv = store_open(b, s, b->nr_keys, false);

		r[s] = insert_all(b, s, kv, keys, b->nr_keys);
		stores[s]->close(kv);
	}
	free(keys);
	if (random_rate)
		bench_print(&b->out, &(struct bench_row){.row = "sequential inserts",
							 .value = r[BCFS].rate,
							 .unit = "key/s",
							 .peer = "our random",
							 .peer_value = random_rate,
							 .goal = GOAL_SEQUENTIAL});
	compare_inserts(b, "sequential inserts", "sequential inserts, processor time", r, 0);
}

static void durable_inserts(struct bench *b)
{
	u64 nr = min_t(u64, (u64)b->durable_batches * b->batch, b->nr_keys);
	struct result r[STORES] = {0};

	for (unsigned s = 0; s < STORES; s++) {
		if (!has(b, s))
			continue;
		void *kv = store_open(b, s, b->nr_keys, true);

		r[s] = insert_all(b, s, kv, b->keys, nr);
		stores[s]->close(kv);
	}
	compare_inserts(b, "random inserts, durable commits", "durable commits, processor time", r,
			GOAL_INSERT);
}

static void make_keys(struct bench *b)
{
	b->keys = malloc(b->nr_keys * sizeof(*b->keys));
	if (!b->keys)
		bench_die("bench-kv: out of memory");
	for (u64 i = 0; i < b->nr_keys; i++) {
		u64 j = bench_random(&b->random) % (i + 1);

		b->keys[i] = b->keys[j];
		b->keys[j] = i;
	}
}

#define USAGE                                                                                      \
	"usage: bench-kv [--json] [--quick] [--keys N] [--batch N] [--durable-batches N]\n"        \
	"                [--lookups N] [--rounds N] [--stores bcfs,lmdb,rocksdb]\n"                \
	"                [--only inserts|lookups|sequential|durable]\n"                            \
	"Files are made in $BENCH_DIR, or /tmp."

static void usage(void)
{
	bench_die(USAGE);
}

static unsigned parse_stores(const char *arg)
{
	unsigned which = 0;

	which |= strstr(arg, "bcfs") ? 1U << BCFS : 0;
	which |= strstr(arg, "lmdb") ? 1U << LMDB : 0;
	which |= strstr(arg, "rocksdb") ? 1U << ROCKSDB : 0;
	return which;
}

static void parse(struct bench *b, int argc, char *argv[])
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"quick", no_argument, NULL, 'q'},
						{"keys", required_argument, NULL, 'k'},
						{"batch", required_argument, NULL, 'b'},
						{"only", required_argument, NULL, 'o'},
						{"durable-batches", required_argument, NULL, 'd'},
						{"rounds", required_argument, NULL, 'r'},
						{"lookups", required_argument, NULL, 'l'},
						{"stores", required_argument, NULL, 's'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	int c;

	while ((c = getopt_long(argc, argv, "jqk:b:o:d:r:l:s:h", options, NULL)) != -1) {
		u64 n = optarg ? strtoull(optarg, NULL, 0) : 0;

		if (c == 'h') {
			puts(USAGE);
			exit(0);
		} else if (c == 'j') {
			b->out.json = true;
		} else if (c == 'q') {
			b->nr_keys = 200000;
			b->durable_batches = 20;
			b->lookups = 200000;
		} else if (c == 'o') {
			b->only = optarg;
		} else if (c == 's') {
			b->which = parse_stores(optarg);
		} else if (!n) {
			usage();
		} else if (c == 'k') {
			b->nr_keys = n;
		} else if (c == 'b') {
			b->batch = n;
		} else if (c == 'd') {
			b->durable_batches = n;
		} else if (c == 'r') {
			b->rounds = n;
		} else if (c == 'l') {
			b->lookups = n;
		} else {
			usage();
		}
	}
	if (optind < argc || !b->which)
		usage();
}

int main(int argc, char *argv[])
{
	struct bench b = {
		.out = {.bench = "kv"},
		.nr_keys = 10000000,
		.batch = 1000,
		.durable_batches = 200,
		.lookups = 1000000,
		.rounds = 7,
		.which = 1U << BCFS | 1U << LMDB | 1U << ROCKSDB,
		.random = 1,
	};
	const char *dir = getenv("BENCH_DIR") ?: "/tmp";
	double rate = 0;

	parse(&b, argc, argv);
	snprintf(b.dir, sizeof(b.dir), "%s/bench-kv-XXXXXX", dir);
	if (!mkdtemp(b.dir))
		bench_die("bench-kv: no directory in %s: %s", dir, strerror(errno));
	bench_note(&b.out, "%llu keys in random order, %u-byte values, %u keys a transaction",
		   (unsigned long long)b.nr_keys, KV_VALUE_BYTES, b.batch);
	for (unsigned s = 0; s < STORES; s++)
		if (has(&b, s))
			bench_note(&b.out, "%s: %s", stores[s]->name, stores[s]->options);
	make_keys(&b);

	if (wanted(&b, "inserts") || wanted(&b, "lookups"))
		rate = random_inserts(&b);
	if (wanted(&b, "lookups"))
		random_lookups(&b);
	close_all(&b);
	if (wanted(&b, "sequential"))
		sequential_inserts(&b, rate);
	if (wanted(&b, "durable"))
		durable_inserts(&b);
	free(b.keys);
	rmdir(b.dir);
	return bench_exit_status(&b.out);
}
