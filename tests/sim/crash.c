// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: after a crash at any moment the filesystem opens read-write with no repair, is exactly what
 * it was after one prefix of its operations, not before the last fsync or sync that returned, and
 * is consistent; also after a crash during that recovery, and after a device error.
 * Method: runs of random operations on a small filesystem on the simulated device (sim.h), crashes
 * at positions of its log under all rules of what survives (explore.h).
 */
#include "explore.h"

#include "../unit/test_rand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void again(const struct sim_mode *mode, u64 seed, struct sim_work *w);
static void replay(const struct sim_mode *mode, u64 seed, struct sim_work *w);

#define RECOVERS "second recovery.btree.replayed_keys recovery.btree.torn_tails "

static const struct sim_mode modes[] = {
	/* Few operations, all positions. */
	{"short", 400, 12, 0, 130, false, false, 0, false,
	 "second journal.flush recovery.btree.replayed_keys data.gathered data.gather_reads "
	 "data.inline_writes data.rebalanced trims",
	 .about = "few operations, all positions"},
	/* On a tree with some history. */
	{"long", 20, 300, 400, 250, false, false, 0, false,
	 RECOVERS
	 "recovery.btree.bsets_blacklisted btree.splits btree.merges btree.rewrites "
	 "journal.wraps journal.noflush alloc.buckets_reused alloc.buckets_discarded trims",
	 .about = "on a tree with some history"},
	/* More nodes than the cache holds. */
	{"evict", 5, 80, 40, 150, false, false, 400, false,
	 RECOVERS "btree.splits btree.evictions btree.node_reads btree.merges journal.wraps",
	 .about = "more nodes than the cache holds"},
	/* Little space: every bucket is used again and again, and writes meet ENOSPC. */
	{"full", 16, 200, 300, 150, false, false, 0, true,
	 RECOVERS "nospc recovery.alloc.waits alloc.buckets_reused alloc.buckets_discarded "
		  "journal.wraps trims",
	 .about = "little space: every bucket is used again and again, and writes meet ENOSPC"},
	{"gc", 8, 300, 300, 150, false, false, 0, true,
	 RECOVERS "nospc alloc.gc_buckets alloc.buckets_discarded journal.wraps trims",
	 .about = "the same where a bucket holds several extents: copygc has something to move"},
	{"restarts", 16, 60, 120, 200, true, false, 0, false,
	 RECOVERS "restarts.iter restarts.commit restarts.lock restarts.relock restarts.journal "
		  "restarts.reads btree.restarts btree.splits journal.wraps",
	 .about = "transactions restart where they may"},
	/* Every kind of fault strikes. */
	{"faults", 240, 40, 60, 12, false, true, 0, false,
	 RECOVERS "errors alloc.buckets_reused journal.wraps data.gather_moved",
	 .about = "the device fails a request"},
	{"evict-faults", 40, 40, 20, 12, false, true, 400, false,
	 RECOVERS "errors btree.evictions btree.node_reads",
	 .about = "the same, with a small cache"},
	/* Keys come faster than the ring has room for them, and flushes take long. */
	{"pressure", 4, 60, 10, 160, false, false, 400, false,
	 RECOVERS "journal.wraps journal.noflush journal.waits btree.evictions",
	 .about = "the journal is always short of space, and flushes take long", .pressure = true},
	/* One filesystem that is never closed: crash after crash. */
	{"again", 4, 20, 40, 0, false, false, 0, false, "", again,
	 .about = "one filesystem that is never closed: crash after crash"},
	/* Two processes, one seed: the same run. */
	{"replay", 6, 60, 20, 0, false, false, 0, false, "journal.flush alloc.buckets_opened",
	 replay, .about = "two processes, one seed: the same run"},
};

static struct sim_cfg make_cfg(const struct sim_mode *mode, u64 seed)
{
	static const u32 preempts[] = {0, 64, 64, 256}, restarts[] = {5000, 30000, 100000};
	u64 rng = seed * 0x9e3779b97f4a7c15ULL;
	struct sim_cfg c = {.seed = seed, .fault = SIM_FAULT_NR};

	c.block = trand_below(&rng, 2) ? 512 : 4096;
	c.node = c.block == 512 ? 4096U << trand_below(&rng, 3) : 16384;
	c.bucket = max(c.node, 16384U << trand_below(&rng, 3));
	c.journal = sim_small_journal_bytes(c.block, c.bucket);
	c.extent_max = 8192U << trand_below(&rng, 3);
	c.compression = sim_compression(seed);
	c.background = sim_background(seed);
	c.gather = sim_gather(seed);
	c.encrypt = sim_encrypt(seed);
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
		c.journal = sim_small_journal_bytes(c.block, c.bucket);
		c.dev_bytes = (1472ULL << 10) + c.journal;
	}
	if (!strcmp(mode->name, "gc")) {
		c.block = 512;
		c.node = 8192;
		c.bucket = c.node << trand_below(&rng, 3);
		/* What is compressed and cut is only moved if it cannot take more than it was. */
		c.bucket <<= 2 * !!c.compression;
		c.journal = journal_min_bytes(c.block, c.bucket / 512);
		c.dev_bytes = (5ULL << 20) + c.journal;
		c.stir = true;
	}
	if (c.bulk) {
		c.block = 512;
		c.node = 4096;
		c.bucket = max(c.bucket, c.node);
		c.journal = sim_small_journal_bytes(c.block, c.bucket);
		c.dev_bytes = 12ULL << 20;
	}
	if (mode->restarts) {
		c.restart_ppm = restarts[trand_below(&rng, ARRAY_SIZE(restarts))];
		c.restart_everywhere = seed % 4;
	}
	/* Drawn last, so that older seeds keep their geometry. */
	if (mode->states) {
		static const u32 stalls[] = {0, 0, 300, 3000}, us[] = {0, 0, 2000, 60000};
		static const u32 flush_us[] = {0, 0, 30000, 400000};

		c.stall_ppm = stalls[trand_below(&rng, ARRAY_SIZE(stalls))];
		c.stall_ms = 1 + (u32)trand_below(&rng, 400);
		c.latency_us = us[trand_below(&rng, ARRAY_SIZE(us))];
		c.flush_latency_us = flush_us[trand_below(&rng, ARRAY_SIZE(flush_us))];
	}
	if (mode->pressure) {
		c.bucket = max(c.node << trand_below(&rng, 2), 8192U);
		c.journal = trand_below(&rng, 2) ? sim_small_journal_bytes(c.block, c.bucket)
						 : journal_min_bytes(c.block, c.bucket / 512);
		c.journal <<= trand_below(&rng, 2) ? 0 : trand_below(&rng, 3);
		c.touches = 5 + (unsigned)trand_below(&rng, 25);
		c.latency_us = trand_below(&rng, 2) ? 0 : 60000;
		c.flush_latency_us = trand_below(&rng, 3) ? 100000 : 1000000;
		c.flush_delay_ms = trand_below(&rng, 2) ? 1000 : 30000;
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
	c.inline_max = sim_inline(&c, seed);
	c.copies = sim_copies(seed);
	/* Not where a fault is to strike at one of a few requests. */
	c.trim = c.discard && !mode->faults && seed % 2;
	return c;
}

void crash_run(const struct sim_mode *mode, u64 unit, struct sim_work *w)
{
	struct sim_cfg cfg = make_cfg(mode, unit);

	explore_run(w, &cfg, explore_spread, &mode->states);
}

/* ---- crash after crash ---- */

/* More ranges of lost sequence numbers than the least superblock has room for. */
#define AGAIN_CRASHES 1200

static void again(const struct sim_mode *mode, u64 seed, struct sim_work *w)
{
	struct sim_cfg cfg = make_cfg(mode, seed);
	struct sim_run *r = calloc(1, sizeof(*r));
	struct sim_recovery *last = NULL;
	u64 rng = seed ^ 0xa6a1;
	unsigned told = 0; /* handles before the last turn */

	cfg.stall_ppm = 0;
	cfg.report = w->report;
	sim_run_do(r, &cfg, &w->t->counters);
	explore_count_run(r, w->t);
	for (unsigned turn = 0; turn < AGAIN_CRASHES && !(turn && sim_time_is_over(w)); turn++) {
		struct sim_recovery *rec = calloc(1, sizeof(*rec));
		struct bdev *bdev = last ? last->bdev : r->bdev;
		/* Or in the recovery itself: then all is as it was found. */
		bool opening = last && !trand_below(&rng, 3);
		u64 from = opening ? 0 : last ? last->synced_pos : r->first_pos;
		u64 end = opening ? last->opened_pos : sim_bdev_log_len(bdev);
		struct sim_place p = {.pos = from + trand_below(&rng, end - from + 1)};

		p.how.rule = trand_below(&rng, SIM_CRASH_SUBSET);
		p.how.seed = trand_u64(&rng);
		*rec = (struct sim_recovery){.run = r,
					     .img = sim_bdev_image_at(bdev, p.pos, &p.how),
					     .crashed = bdev,
					     .crash_pos = p.pos,
					     .seed = seed + turn,
					     .keep_log = true,
					     .again = true,
					     .handles = &r->handles,
					     .turn = turn};
		sim_handles_crash(&r->handles, told, p.pos);
		told = r->handles.nr;
		r->crashed = &p;
		if (cfg.report)
			cfg.report->beat++;
		w->t->images++;
		w->t->recoveries++;
		w->t->states += sim_seen_add(w->seen, sim_image_hash((struct sim_image *)rec->img));
		if (!sim_recover(rec))
			sim_fail(r, "turn %u, at %llu, %s (%llu): %s", turn,
				 (unsigned long long)p.pos, sim_crash_rule_name(p.how.rule),
				 (unsigned long long)p.how.seed, rec->msg);
		if (opening ? strcmp(rec->text, last->text)
		    : last  ? strcmp(rec->text, last->then[0]) && strcmp(rec->text, last->then[1])
			    : !sim_run_find(r, p.pos, text_hash(rec->text)))
			sim_fail(r,
				 "turn %u, at %llu, %s (%llu): not what was "
				 "there:\n%s\nwas:\n%s\nor:\n%s",
				 turn, (unsigned long long)p.pos, sim_crash_rule_name(p.how.rule),
				 (unsigned long long)p.how.seed, rec->text,
				 opening ? last->text
				 : last	 ? last->then[0]
					 : "",
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

u64 crash_run_hash(const struct sim_mode *mode, u64 unit, struct sim_work *w)
{
	struct sim_cfg cfg = make_cfg(mode, unit);
	struct sim_run *r = calloc(1, sizeof(*r));
	u64 hash;

	cfg.report = w->report;
	sim_run_do(r, &cfg, &w->t->counters);
	hash = r->run_hash;
	sim_run_free(r);
	free(r);
	w->t->runs++;
	return hash;
}

/* In a new process, which has its memory at other addresses. */
static u64 run_hash_elsewhere(const struct sim_mode *mode, u64 seed)
{
	unsigned long long hash = 0;
	char cmd[128];
	FILE *f;

	snprintf(cmd, sizeof(cmd),
		 "GLIBC_TUNABLES=glibc.malloc.tcache_count=0 /proc/%d/exe --hash --seed %llu %s",
		 (int)getpid(), (unsigned long long)seed, mode->name);
	f = popen(cmd, "r");
	if (!f || fscanf(f, "%llx", &hash) != 1) {
		fprintf(stderr, "FAILED: %s\n", cmd);
		exit(1);
	}
	pclose(f);
	return hash;
}

static void replay(const struct sim_mode *mode, u64 seed, struct sim_work *w)
{
	u64 hash = crash_run_hash(mode, seed, w);

	if (crash_run_hash(mode, seed, w) == hash && run_hash_elsewhere(mode, seed) == hash)
		return;
	fprintf(stderr, "FAILED: seed %llu does not replay alike\n", (unsigned long long)seed);
	exit(1);
}

const struct sim_mode *crash_modes(unsigned *nr)
{
	*nr = ARRAY_SIZE(modes);
	return modes;
}
