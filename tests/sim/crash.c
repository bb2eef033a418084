// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: after a crash at any moment the filesystem opens read-write with no repair, is exactly what
 * it was after one prefix of its operations, not before the last fsync or sync that returned, and
 * is consistent; also after a crash during that recovery, and after a device error.
 * Method: runs of random operations on a small filesystem on the simulated device (sim.h), crashes
 * at the positions of its log under all rules of what survives; each image counts once, by hash.
 *
 * Usage: crash MODE. BCFS_TEST_SEED: that run alone. BCFS_SIM_SCALE: how much of it (default 1).
 * BCFS_SIM_LOG=1: all operations and the log.
 */
#include "sim.h"

#include "../unit/test_rand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct mode {
	const char *name;
	unsigned runs, ops, prefill;
	unsigned states; /* per run, at most about so many */
	bool restarts, faults;
	unsigned bulk;
	bool full;
	const char *must_move; /* counters and totals, separated by spaces: none may stay zero */
	bool again;
};

#define RECOVERS "second recovery.btree.replayed_keys recovery.btree.torn_tails "

static const struct mode modes[] = {
	/* Few operations, all positions. */
	{"short", 400, 12, 0, 130, false, false, 0, false,
	 "second journal.flush recovery.btree.replayed_keys"},
	/* On a tree with some history. */
	{"long", 20, 300, 400, 250, false, false, 0, false,
	 RECOVERS "recovery.btree.bsets_blacklisted btree.splits btree.merges btree.rewrites "
		  "journal.wraps journal.noflush alloc.buckets_reused alloc.buckets_discarded"},
	/* More nodes than the cache holds. */
	{"evict", 5, 80, 40, 150, false, false, 400, false,
	 RECOVERS "btree.splits btree.evictions btree.node_reads btree.merges journal.wraps"},
	/* Little space: every bucket is used again and again, and writes meet ENOSPC. */
	{"full", 16, 200, 300, 150, false, false, 0, true,
	 RECOVERS
	 "nospc recovery.alloc.waits alloc.buckets_reused alloc.buckets_discarded journal.wraps"},
	{"restarts", 16, 60, 120, 200, true, false, 0, false,
	 RECOVERS "restarts.iter restarts.commit btree.restarts btree.splits journal.wraps"},
	/* Every kind of fault strikes. */
	{"faults", 240, 40, 60, 12, false, true, 0, false,
	 RECOVERS "errors alloc.buckets_reused journal.wraps"},
	{"evict-faults", 40, 40, 20, 12, false, true, 400, false,
	 RECOVERS "errors btree.evictions btree.node_reads"},
	/* One filesystem that is never closed: crash after crash. */
	{"again", 4, 20, 40, 0, false, false, 0, false, "", true},
	/* Two processes, one seed: the same run. */
	{"replay", 6, 60, 20, 0, false, false, 0, false, "journal.flush alloc.buckets_opened"},
};

struct totals {
	u64 runs, images, states, second, errors, nospc, restarts[2];
	u64 armed[SIM_FAULT_NR], struck[SIM_FAULT_NR]; /* runs, by the kind of fault */
	struct sim_counters counters;
};

static double now(clockid_t clk)
{
	struct timespec ts;

	clock_gettime(clk, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static double scale(void)
{
	const char *s = getenv("BCFS_SIM_SCALE");

	return s && atof(s) > 0 ? atof(s) : 1;
}

static struct sim_cfg make_cfg(const struct mode *mode, u64 seed)
{
	static const u32 preempts[] = {0, 64, 64, 256}, restarts[] = {5000, 30000, 100000};
	u64 rng = seed * 0x9e3779b97f4a7c15ULL;
	struct sim_cfg c = {.seed = seed, .fault = SIM_FAULT_NR};

	c.block = trand_below(&rng, 2) ? 512 : 4096;
	c.node = c.block == 512 ? 4096U << trand_below(&rng, 3) : 16384;
	c.bucket = max(c.node, 16384U << trand_below(&rng, 3));
	c.journal = journal_min_bytes(c.block, c.bucket / 512);
	c.extent_max = 8192U << trand_below(&rng, 3);
	c.cache_bytes = 1;
	c.dev_bytes = (trand_below(&rng, 2) ? 6ULL : 12ULL) << 20;
	c.preempt = preempts[trand_below(&rng, ARRAY_SIZE(preempts))];
	c.eager = trand_below(&rng, 2) ? 0 : 40;
	c.flush_delay_ms = trand_below(&rng, 2) ? 100 : 1000;
	c.discard = trand_below(&rng, 3);
	c.ops = mode->ops / 2 + (unsigned)trand_below(&rng, mode->ops);
	c.prefill = mode->prefill;
	c.bulk = mode->bulk;
	c.ballast = mode->full;
	if (mode->full) {
		c.bucket = max(c.node, 8192U);
		c.journal = journal_min_bytes(c.block, c.bucket / 512);
		c.dev_bytes = (1472ULL << 10) + c.journal;
	}
	if (c.bulk) {
		c.block = 512;
		c.node = 4096;
		c.bucket = max(c.bucket, c.node);
		c.journal = journal_min_bytes(c.block, c.bucket / 512);
		c.dev_bytes = 12ULL << 20;
	}
	if (mode->restarts)
		c.restart_ppm = restarts[trand_below(&rng, ARRAY_SIZE(restarts))];
	/* Drawn last, so that older seeds keep their geometry. */
	if (mode->states) {
		static const u32 stalls[] = {0, 0, 300, 3000}, us[] = {0, 0, 2000, 60000};
		static const u32 flush_us[] = {0, 0, 30000, 400000};

		c.stall_ppm = stalls[trand_below(&rng, ARRAY_SIZE(stalls))];
		c.stall_ms = 1 + (u32)trand_below(&rng, 400);
		c.latency_us = us[trand_below(&rng, ARRAY_SIZE(us))];
		c.flush_latency_us = flush_us[trand_below(&rng, ARRAY_SIZE(flush_us))];
	}
	if (mode->faults) {
		static const enum sim_fault faults[] = {
			SIM_FAULT_READ_ERROR, SIM_FAULT_WRITE_ERROR, SIM_FAULT_WRITE_ERROR,
			SIM_FAULT_WRITE_TORN, SIM_FAULT_FLUSH_ERROR, SIM_FAULT_DISCARD_ERROR};

		c.fault = faults[seed % ARRAY_SIZE(faults)];
		c.fault_at = 1 + trand_below(&rng, c.fault == SIM_FAULT_FLUSH_ERROR ? 8 : 60);
		if (c.fault == SIM_FAULT_DISCARD_ERROR) {
			/* There are few. */
			c.fault_at = 1;
			c.discard = true;
		}
	}
	return c;
}

/* ---- images once ---- */

struct seen {
	u64 *slot;
	u64 size, nr;
};

static bool seen_before(struct seen *s, u64 hash)
{
	hash += !hash;
	if (s->nr * 2 >= s->size) {
		struct seen n = {.size = s->size ? s->size * 2 : 1024};

		n.slot = calloc(n.size, sizeof(u64));
		for (u64 i = 0; i < s->size; i++)
			if (s->slot[i])
				seen_before(&n, s->slot[i]);
		free(s->slot);
		*s = n;
	}
	for (u64 i = hash % s->size;; i = (i + 1) % s->size) {
		if (s->slot[i] == hash)
			return true;
		if (!s->slot[i]) {
			s->slot[i] = hash;
			s->nr++;
			return false;
		}
	}
}

/* ---- one crash ---- */

struct place {
	u64 pos;
	struct sim_crash how;
};

static const char *where(const struct place *p)
{
	static char buf[128];

	snprintf(buf, sizeof(buf), "crash at %llu, %s (%llu)", (unsigned long long)p->pos,
		 sim_crash_rule_name(p->how.rule), (unsigned long long)p->how.seed);
	return buf;
}

/* Crashes of the recovery: the same tree again. */
static void second_level(struct sim_run *r, struct sim_recovery *first, const struct place *p,
			 u64 *rng, struct totals *t)
{
	for (unsigned i = 0; i < 4; i++) {
		u64 pos = trand_below(rng, first->opened_pos + 1);
		struct sim_crash how = {.rule = trand_below(rng, SIM_CRASH_SUBSET),
					.seed = trand_u64(rng)};
		struct sim_image *img = sim_bdev_image_at(first->bdev, pos, &how);
		struct sim_recovery rec = {.run = r,
					   .img = img,
					   .crashed = first->bdev,
					   .crash_pos = pos,
					   .seed = first->seed + 1};

		if (!sim_recover(&rec))
			sim_fail(r, "%s; again while recovering, at %llu, %s: %s", where(p),
				 (unsigned long long)pos, sim_crash_rule_name(how.rule), rec.msg);
		if (strcmp(rec.text, first->text))
			sim_fail(r,
				 "%s; again while recovering, at %llu, %s: the tree is not the "
				 "same:\n%s\nfirst:\n%s",
				 where(p), (unsigned long long)pos, sim_crash_rule_name(how.rule),
				 rec.text, first->text);
		sim_recovery_free(&rec);
		sim_image_free(img);
		t->second++;
	}
}

static void explain(struct sim_run *r, struct sim_recovery *rec, const struct place *p)
{
	u32 least = sim_run_floor(r, p->pos), last = 0, old = UINT32_MAX;

	for (u32 i = 0; i < r->nr_states; i++) {
		if (r->state[i].begin_pos <= p->pos && r->state[i].text)
			last = i;
		if (r->state[i].hash == text_hash(rec->text))
			old = i;
	}
	if (old != UINT32_MAX)
		sim_fail(r, "%s: state %u (operation %u), but durable were %u (operation %u)",
			 where(p), old, r->state[old].op, least, r->state[least].op);
	sim_fail(r, "%s: no prefix from state %u (operation %u) on:\n%s\nthe last it could be:\n%s",
		 where(p), least, r->state[least].op, rec->text, r->state[last].text);
}

static void one_crash(struct sim_run *r, const struct place *p, struct seen *seen, u64 *rng,
		      struct totals *t)
{
	struct sim_image *img = sim_bdev_image_at(r->bdev, p->pos, &p->how);
	struct sim_recovery rec = {.run = r,
				   .img = img,
				   .seed = r->cfg.seed + p->pos,
				   .counters = &t->counters,
				   .crashed = r->bdev,
				   .crash_pos = p->pos};
	const char *save = getenv("BCFS_SIM_SAVE");

	t->images++;
	if (seen_before(seen, sim_image_hash(img))) {
		sim_image_free(img);
		return;
	}
	t->states++;
	rec.keep_log = trand_below(rng, 12) == 0;
	rec.more = trand_below(rng, 6) == 0;
	if (!sim_recover(&rec)) {
		if (save)
			sim_image_save(img, save);
		sim_fail(r, "%s: %s", where(p), rec.msg);
	}
	if (!sim_run_find(r, p->pos, text_hash(rec.text))) {
		if (save)
			sim_image_save(img, save);
		explain(r, &rec, p);
	}
	if (rec.keep_log)
		second_level(r, &rec, p, rng, t);
	sim_recovery_free(&rec);
	sim_image_free(img);
}

static void one_run(const struct mode *mode, u64 seed, struct totals *t)
{
	struct sim_cfg cfg = make_cfg(mode, seed);
	struct sim_run *r = calloc(1, sizeof(*r));
	struct seen seen = {0};
	u64 rng = seed ^ 0xc4a5, end, step, struck = 0;

	sim_run_do(r, &cfg, &t->counters);
	t->runs++;
	t->errors += r->errors;
	t->nospc += r->nospc;
	for (unsigned i = 0; i < ARRAY_SIZE(t->restarts); i++)
		t->restarts[i] += r->restarts[i];
	if (cfg.fault != SIM_FAULT_NR) {
		sim_bdev_fault_hits(r->bdev, cfg.fault, &struck);
		t->armed[cfg.fault]++;
		t->struck[cfg.fault] += !!struck;
	}
	end = sim_bdev_log_len(r->bdev);
	/* Three rules at each position that is visited. */
	step = max_t(u64, 1, (end - r->first_pos) * 3 / mode->states);
	for (u64 pos = r->first_pos + trand_below(&rng, step); pos <= end; pos += step) {
		for (unsigned i = 0; i < 3; i++) {
			static const enum sim_crash_rule often[] = {
				SIM_CRASH_NONE, SIM_CRASH_ALL, SIM_CRASH_RANDOM, SIM_CRASH_TORN};
			struct place p = {.pos = pos};

			p.how.rule = i ? trand_below(&rng, SIM_CRASH_SUBSET)
				       : often[trand_below(&rng, ARRAY_SIZE(often))];
			p.how.seed = trand_u64(&rng);
			one_crash(r, &p, &seen, &rng, t);
		}
	}
	free(seen.slot);
	sim_run_free(r);
	free(r);
}

/* ---- crash after crash ---- */

/* More ranges of lost sequence numbers than the least superblock has room for. */
#define AGAIN_CRASHES 1200

static void again(const struct mode *mode, u64 seed, struct totals *t)
{
	struct sim_cfg cfg = make_cfg(mode, seed);
	struct sim_run *r = calloc(1, sizeof(*r));
	struct sim_recovery *last = NULL;
	u64 rng = seed ^ 0xa6a1;

	cfg.stall_ppm = 0;
	sim_run_do(r, &cfg, &t->counters);
	t->runs++;
	for (unsigned turn = 0; turn < AGAIN_CRASHES; turn++) {
		struct sim_recovery *rec = calloc(1, sizeof(*rec));
		struct bdev *bdev = last ? last->bdev : r->bdev;
		u64 from = last ? last->synced_pos : r->first_pos, end = sim_bdev_log_len(bdev);
		struct place p = {.pos = from + trand_below(&rng, end - from + 1)};

		p.how.rule = trand_below(&rng, SIM_CRASH_SUBSET);
		p.how.seed = trand_u64(&rng);
		*rec = (struct sim_recovery){.run = r,
					     .img = sim_bdev_image_at(bdev, p.pos, &p.how),
					     .crashed = bdev,
					     .crash_pos = p.pos,
					     .seed = seed + turn,
					     .keep_log = true,
					     .again = true,
					     .turn = turn};
		t->images++;
		t->states++;
		if (!sim_recover(rec))
			sim_fail(r, "turn %u, %s: %s", turn, where(&p), rec->msg);
		if (last ? strcmp(rec->text, last->then[0]) && strcmp(rec->text, last->then[1])
			 : !sim_run_find(r, p.pos, text_hash(rec->text)))
			sim_fail(r, "turn %u, %s: not what was there:\n%s\nwas:\n%s\nor:\n%s", turn,
				 where(&p), rec->text, last ? last->then[0] : "",
				 last ? last->then[1] : "");
		sim_image_free((struct sim_image *)rec->img);
		if (last)
			sim_recovery_free(last);
		free(last);
		last = rec;
	}
	sim_recovery_free(last);
	free(last);
	sim_run_free(r);
	free(r);
}

/* ---- the same run twice ---- */

static u64 run_hash(const struct mode *mode, u64 seed, struct totals *t)
{
	struct sim_cfg cfg = make_cfg(mode, seed);
	struct sim_run *r = calloc(1, sizeof(*r));
	u64 hash;

	sim_run_do(r, &cfg, &t->counters);
	hash = r->run_hash;
	sim_run_free(r);
	free(r);
	t->runs++;
	return hash;
}

/* The hash of the run in a new process, which has its memory at other addresses. */
static u64 run_hash_elsewhere(u64 seed)
{
	unsigned long long hash = 0;
	char cmd[128];
	FILE *f;

	snprintf(cmd, sizeof(cmd), "BCFS_TEST_SEED=%llu /proc/%d/exe replay",
		 (unsigned long long)seed, (int)getpid());
	f = popen(cmd, "r");
	if (!f || fscanf(f, "%llx", &hash) != 1) {
		fprintf(stderr, "FAILED: %s\n", cmd);
		exit(1);
	}
	pclose(f);
	return hash;
}

static void replay(const struct mode *mode, u64 seed, struct totals *t)
{
	u64 hash = run_hash(mode, seed, t);

	if (getenv("BCFS_TEST_SEED")) {
		printf("%llx\n", (unsigned long long)hash);
		exit(0);
	}
	if (run_hash(mode, seed, t) == hash && run_hash_elsewhere(seed) == hash)
		return;
	fprintf(stderr, "FAILED: seed %llu does not replay alike\n", (unsigned long long)seed);
	exit(1);
}

/* ---- all ---- */

static void run(const struct mode *mode, u64 seed, struct totals *t)
{
	if (mode->states)
		one_run(mode, seed, t);
	else if (mode->again)
		again(mode, seed, t);
	else
		replay(mode, seed, t);
}

static u64 total_of(const struct totals *t, const char *name)
{
	const struct {
		const char *name;
		u64 value;
	} own[] = {{"second", t->second},
		   {"errors", t->errors},
		   {"nospc", t->nospc},
		   {"restarts.iter", t->restarts[0]},
		   {"restarts.commit", t->restarts[1]}};

	for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
		if (!strcmp(own[i].name, name))
			return own[i].value;
	return sim_counter(&t->counters, name);
}

/* False, with a message for each, if something that the mode is for did not happen. */
static bool all_moved(const struct mode *mode, const struct totals *t)
{
	char list[512], *save = NULL;
	bool ok = true;

	snprintf(list, sizeof(list), "%s", mode->must_move);
	for (char *name = strtok_r(list, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
		if (total_of(t, name))
			continue;
		fprintf(stderr, "FAILED: %s stayed zero: the runs do not reach what they should\n",
			name);
		ok = false;
	}
	for (unsigned i = 0; i < SIM_FAULT_NR; i++) {
		if (!t->armed[i] || t->struck[i])
			continue;
		fprintf(stderr,
			"FAILED: a fault of kind %u was armed in %llu runs, but never struck\n", i,
			(unsigned long long)t->armed[i]);
		ok = false;
	}
	return ok;
}

static void print_totals(const struct mode *mode, const struct totals *t, double cpu)
{
	char list[512], *save = NULL;
	u64 armed = 0, struck = 0;

	for (unsigned i = 0; i < SIM_FAULT_NR; i++) {
		armed += t->armed[i];
		struck += t->struck[i];
	}
	printf("%s: %llu runs, %llu images, %llu states, %llu second crashes, %.1f s, %.0f "
	       "states/s, operations failed %llu, faults struck in %llu of %llu runs\n",
	       mode->name, (unsigned long long)t->runs, (unsigned long long)t->images,
	       (unsigned long long)t->states, (unsigned long long)t->second, cpu,
	       (double)(t->states + t->second) / cpu, (unsigned long long)t->errors,
	       (unsigned long long)struck, (unsigned long long)armed);
	snprintf(list, sizeof(list), "%s", mode->must_move);
	for (char *name = strtok_r(list, " ", &save); name; name = strtok_r(NULL, " ", &save))
		printf("  %s %llu\n", name, (unsigned long long)total_of(t, name));
}

int main(int argc, char **argv)
{
	const struct mode *mode = NULL;
	struct totals *t = calloc(1, sizeof(*t));
	double start = now(CLOCK_PROCESS_CPUTIME_ID);
	unsigned runs;

	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++)
		if (argc > 1 && !strcmp(argv[1], modes[i].name))
			mode = &modes[i];
	if (!mode) {
		fprintf(stderr, "usage: crash MODE\n");
		return 2;
	}
	if (getenv("BCFS_TEST_SEED")) {
		run(mode, trand_seed(0), t);
		print_totals(mode, t, now(CLOCK_PROCESS_CPUTIME_ID) - start);
		return 0;
	}
	runs = (unsigned)(mode->runs * scale() + 0.5);
	for (unsigned i = 0; i < max(runs, 1U); i++)
		run(mode, 1 + i, t);
	print_totals(mode, t, now(CLOCK_PROCESS_CPUTIME_ID) - start);
	if (scale() >= 1 && !all_moved(mode, t))
		return 1;
	free(t);
	return 0;
}
