/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: a crash leaves what a device with a volatile cache may leave, no more
 * and no less. Method: known sequences whose possible states are counted by
 * hand; long random runs where, per sector, the value found must be one that the
 * rules allow at that position of the log.
 */
#include "dev/sim_bdev.h"
#include "test_util.h"

#include <criterion/criterion.h>
#include <string.h>

struct fixture {
	struct env *env;
	struct bdev *b;
};

static struct fixture setup(u64 seed, u64 size)
{
	struct sim_bdev_opts o = {.size_bytes = size};
	struct fixture f = {.env = env_sim_create(seed)};

	cr_assert_eq(sim_bdev_create(f.env, "sim0", &o, &f.b), 0);
	return f;
}

static void teardown(struct fixture *f)
{
	bdev_close(f->b);
	env_sim_destroy(f->env);
}

static void write_mark(struct bdev *b, u64 sector, u32 nr, u8 mark, u32 flags)
{
	u8 buf[16 * 512];

	memset(buf, mark, sizeof(buf));
	cr_assert_eq(bdev_write(b, sector * 512, buf, nr * 512, flags), 0);
}

/* The marks of the first n sectors after a crash; 0xff for a sector of two kinds. */
static void marks_at(struct bdev *b, u64 pos, const struct sim_crash *crash, u8 *marks, u32 n)
{
	struct sim_image *img = sim_bdev_image_at(b, pos, crash);
	u8 buf[512];

	cr_assert_not_null(img);
	for (u32 i = 0; i < n; i++) {
		sim_image_read(img, i * 512, buf, 512);
		marks[i] = memcmp(buf, buf + 1, 511) ? 0xff : buf[0];
		cr_assert_neq(marks[i], 0xff, "torn inside a sector");
	}
	sim_image_free(img);
}

static void expect(struct bdev *b, const struct sim_crash *crash, const char *want)
{
	u8 marks[16], n = (u8)strlen(want);

	marks_at(b, sim_bdev_log_len(b), crash, marks, n);
	for (u32 i = 0; i < n; i++)
		cr_assert_eq(marks[i], (u8)(want[i] - '0'), "%s %llu: sector %u: %u instead of %c",
			     sim_crash_rule_name(crash->rule), (unsigned long long)crash->seed, i,
			     marks[i], want[i]);
}

Test(sim_crash, rules)
{
	struct fixture f = setup(1, 65536);
	u8 bits = 0x5;

	write_mark(f.b, 0, 1, 1, 0);
	cr_assert_eq(bdev_flush(f.b), 0);
	write_mark(f.b, 1, 1, 2, BDEV_FUA);
	write_mark(f.b, 2, 1, 3, 0);
	write_mark(f.b, 3, 1, 4, 0);
	write_mark(f.b, 4, 1, 5, 0);
	cr_assert_eq(sim_bdev_nr_pending(f.b, sim_bdev_log_len(f.b)), 3);
	expect(f.b, &(struct sim_crash){SIM_CRASH_NONE}, "120000");
	expect(f.b, &(struct sim_crash){SIM_CRASH_ALL}, "123450");
	expect(f.b, &(struct sim_crash){SIM_CRASH_PREFIX, 2}, "123400");
	expect(f.b, &(struct sim_crash){SIM_CRASH_PREFIX, 4}, "120000");
	expect(f.b, &(struct sim_crash){SIM_CRASH_DROP_ONE, 1}, "123050");
	expect(f.b, &(struct sim_crash){SIM_CRASH_KEEP_ONE, 1}, "120400");
	expect(f.b, &(struct sim_crash){SIM_CRASH_SUBSET, 0, &bits}, "123050");
	cr_assert_eq(bdev_flush(f.b), 0);
	expect(f.b, &(struct sim_crash){SIM_CRASH_NONE}, "123450");
	teardown(&f);
}

/* Random rules reach every subset of three writes, and every torn state of one. */
Test(sim_crash, random_rules_reach_all)
{
	struct fixture f = setup(1, 65536);
	u32 subsets = 0, tears = 0, torn_last = 0;
	u8 m[8];

	for (u8 i = 0; i < 3; i++)
		write_mark(f.b, i, 1, 1, 0);
	for (u64 seed = 0; seed < 500; seed++) {
		marks_at(f.b, sim_bdev_log_len(f.b), &(struct sim_crash){SIM_CRASH_RANDOM, seed}, m,
			 3);
		subsets |= 1U << (m[0] | m[1] << 1 | m[2] << 2);
	}
	cr_assert_eq(subsets, 0xff);
	cr_assert_eq(bdev_flush(f.b), 0);
	write_mark(f.b, 0, 3, 2, 0);
	for (u64 seed = 0; seed < 500; seed++) {
		u64 pos = sim_bdev_log_len(f.b);

		marks_at(f.b, pos, &(struct sim_crash){SIM_CRASH_TORN, seed}, m, 3);
		tears |= 1U << ((m[0] == 2) | (m[1] == 2) << 1 | (m[2] == 2) << 2);
		marks_at(f.b, pos, &(struct sim_crash){SIM_CRASH_TORN_LAST, seed}, m, 3);
		torn_last |= 1U << ((m[0] == 2) | (m[1] == 2) << 1 | (m[2] == 2) << 2);
	}
	cr_assert_eq(tears, 0xff);
	cr_assert_eq(torn_last, 0xff);
	teardown(&f);
}

/* Two writes of one sector, neither flushed: any of three states. */
Test(sim_crash, overwrite_in_cache)
{
	struct fixture f = setup(1, 65536);
	u32 seen = 0;
	u8 m[1];

	write_mark(f.b, 0, 1, 1, 0);
	write_mark(f.b, 0, 1, 2, 0);
	expect(f.b, &(struct sim_crash){SIM_CRASH_ALL}, "2");
	for (u64 seed = 0; seed < 100; seed++) {
		marks_at(f.b, sim_bdev_log_len(f.b), &(struct sim_crash){SIM_CRASH_RANDOM, seed}, m,
			 1);
		seen |= 1U << m[0];
	}
	cr_assert_eq(seen, 7);
	teardown(&f);
}

/* What FUA made durable is not undone by an older write that was still cached. */
Test(sim_crash, fua_supersedes_the_cache)
{
	struct fixture f = setup(1, 65536);
	u8 m[3];

	write_mark(f.b, 0, 3, 1, 0);
	write_mark(f.b, 1, 1, 2, BDEV_FUA);
	expect(f.b, &(struct sim_crash){SIM_CRASH_NONE}, "020");
	expect(f.b, &(struct sim_crash){SIM_CRASH_ALL}, "121");
	for (u64 seed = 0; seed < 100; seed++) {
		marks_at(f.b, sim_bdev_log_len(f.b), &(struct sim_crash){SIM_CRASH_TORN, seed}, m,
			 3);
		cr_assert_eq(m[1], 2);
	}
	teardown(&f);
}

/* What is left of a write that failed half way is gone for good once a newer one is durable. */
Test(sim_crash, flushed_supersedes_a_failed_write)
{
	static const enum sim_crash_rule rules[] = {SIM_CRASH_NONE, SIM_CRASH_ALL, SIM_CRASH_RANDOM,
						    SIM_CRASH_TORN};

	for (u64 seed = 0; seed < 50; seed++) {
		struct fixture f = setup(seed, 65536);
		u8 buf[16 * 512], m[16];

		memset(buf, 1, sizeof(buf));
		sim_bdev_arm(f.b, SIM_FAULT_WRITE_TORN, 1, false);
		cr_assert_eq(bdev_write(f.b, 0, buf, sizeof(buf), 0), -BCFS_ERR_dev_write);
		write_mark(f.b, 0, 8, 2, 0);
		cr_assert_eq(bdev_flush(f.b), 0);
		for (u32 r = 0; r < ARRAY_SIZE(rules); r++) {
			marks_at(f.b, sim_bdev_log_len(f.b), &(struct sim_crash){rules[r], seed}, m,
				 16);
			for (u32 i = 0; i < 8; i++)
				cr_assert_eq(m[i], 2, "seed %llu, %s, sector %u",
					     (unsigned long long)seed,
					     sim_crash_rule_name(rules[r]), i);
		}
		teardown(&f);
	}
}

/* A flush covers what was complete when it was submitted, nothing else. */
Test(sim_crash, flush_covers_completed_writes_only)
{
	u32 nr_pending = 0;

	for (u64 seed = 0; seed < 30; seed++) {
		struct fixture f = setup(seed, 65536);
		struct bdev_io w[2], fl;
		u8 buf[2][512];

		memset(buf[0], 1, 512);
		memset(buf[1], 2, 512);
		bdev_io_init(&w[0], BDEV_WRITE, 0, buf[0], 512, 0);
		bdev_io_init(&w[1], BDEV_WRITE, 512, buf[1], 512, 0);
		bdev_io_init(&fl, BDEV_FLUSH, 0, NULL, 0, 0);
		bdev_submit(f.b, &w[0]);
		cr_assert_eq(bdev_wait(f.b, &w[0]), 0);
		bdev_submit(f.b, &w[1]);
		bdev_submit(f.b, &fl);
		cr_assert_eq(bdev_wait(f.b, &w[1]), 0);
		cr_assert_eq(bdev_wait(f.b, &fl), 0);
		expect(f.b, &(struct sim_crash){SIM_CRASH_NONE}, "10");
		nr_pending += sim_bdev_nr_pending(f.b, sim_bdev_log_len(f.b));
		teardown(&f);
	}
	cr_assert_eq(nr_pending, 30);
}

/* ---- random runs, every position ---- */

#define NR_SECTORS 64
#define NR_WRITES  120

/* What may be found in each sector at a position, from the public log alone. */
struct oracle {
	u64 durable_pos[NR_SECTORS]; /* submit position of the newest durable write */
	u8 durable[NR_SECTORS];
	u32 maybe[NR_SECTORS][8]; /* bitmap of marks that may be there instead */
};

struct logged {
	struct sim_log_entry e;
	u64 submit, complete;
	bool durable;
};

static u32 read_log(struct bdev *b, u64 pos, struct logged *ws)
{
	struct sim_log_entry e;
	u32 nr = 0;

	for (u64 p = 0; p < pos; p++) {
		cr_assert(sim_bdev_log_get(b, p, &e));
		if (e.kind == SIM_EV_SUBMIT) {
			ws[nr++] = (struct logged){.e = e, .submit = p, .complete = UINT64_MAX};
			continue;
		}
		for (u32 i = 0; i < nr; i++)
			if (ws[i].e.id == e.id)
				ws[i].complete = p;
	}
	for (u32 i = 0; i < nr; i++) {
		ws[i].durable = ws[i].e.op == BDEV_WRITE && (ws[i].e.flags & BDEV_FUA) &&
				ws[i].complete != UINT64_MAX;
		for (u32 j = 0; j < nr; j++)
			ws[i].durable |= ws[j].e.op == BDEV_FLUSH && ws[j].complete != UINT64_MAX &&
					 ws[i].complete < ws[j].submit;
	}
	return nr;
}

static void build_oracle(struct bdev *b, u64 pos, struct oracle *o)
{
	static struct logged ws[2 * NR_WRITES];
	u32 nr = read_log(b, pos, ws);

	memset(o, 0, sizeof(*o));
	for (u32 i = 0; i < nr; i++) {
		if (ws[i].e.op != BDEV_WRITE)
			continue;
		for (u64 s = ws[i].e.offset / 512; s < (ws[i].e.offset + ws[i].e.len) / 512; s++) {
			u8 mark = *(const u8 *)ws[i].e.data;

			/* Writes of one sector never overlap in time here. */
			if (ws[i].durable) {
				o->durable[s] = mark;
				memset(o->maybe[s], 0, sizeof(o->maybe[s]));
			} else {
				o->maybe[s][mark / 32] |= 1U << (mark % 32);
			}
		}
	}
}

static void check_states(struct bdev *b, u64 pos, u64 seed)
{
	struct oracle o;
	u8 m[NR_SECTORS];

	build_oracle(b, pos, &o);
	for (int rule = 0; rule < SIM_CRASH_SUBSET; rule++) {
		marks_at(b, pos, &(struct sim_crash){(enum sim_crash_rule)rule, seed + pos}, m,
			 NR_SECTORS);
		for (u32 s = 0; s < NR_SECTORS; s++) {
			bool maybe = o.maybe[s][m[s] / 32] >> (m[s] % 32) & 1;

			cr_assert(m[s] == o.durable[s] || (maybe && rule != SIM_CRASH_NONE),
				  "seed %llu position %llu rule %s sector %u: %u",
				  (unsigned long long)seed, (unsigned long long)pos,
				  sim_crash_rule_name((enum sim_crash_rule)rule), s, m[s]);
		}
	}
}

static void random_run(struct fixture *f, u64 seed)
{
	static u8 bufs[NR_WRITES][8 * 512];
	struct bdev_io ios[4];
	u64 rng = seed;
	u32 nr_flushes = 0;

	for (u32 i = 0; i < NR_WRITES; i += 4) {
		/* Four at once, each in its own quarter; overwrites come with later rounds. */
		for (u32 j = 0; j < 4; j++) {
			u32 len = (u32)(1 + test_random(&rng) % 8);
			u64 at = j * 16 + test_random(&rng) % (16 - len);

			memset(bufs[i + j], (int)(i + j + 1), len * 512);
			bdev_io_init(&ios[j], BDEV_WRITE, at * 512, bufs[i + j], len * 512,
				     test_random(&rng) % 6 ? 0 : (u32)test_random(&rng) % 4);
			bdev_submit(f->b, &ios[j]);
		}
		if (test_random(&rng) % 3 == 0 && nr_flushes++ < NR_WRITES / 2)
			cr_assert_eq(bdev_flush(f->b), 0);
		for (u32 j = 0; j < 4; j++)
			cr_assert_eq(bdev_wait(f->b, &ios[j]), 0);
	}
}

Test(sim_crash, every_position_of_random_runs)
{
	for (u64 seed = test_seed(); seed < test_seed() + 6; seed++) {
		struct fixture f = setup(seed, NR_SECTORS * 512);
		struct sim_image *a, *b;

		random_run(&f, seed);
		for (u64 pos = 0; pos <= sim_bdev_log_len(f.b); pos++)
			check_states(f.b, pos, seed);
		/* Going back gives the same. */
		for (u64 pos = sim_bdev_log_len(f.b); pos > 7; pos -= 7) {
			a = sim_bdev_image_at(f.b, pos, &(struct sim_crash){SIM_CRASH_TORN, pos});
			b = sim_bdev_image_at(f.b, 1, &(struct sim_crash){SIM_CRASH_NONE});
			sim_image_free(b);
			b = sim_bdev_image_at(f.b, pos, &(struct sim_crash){SIM_CRASH_TORN, pos});
			cr_assert_eq(sim_image_hash(a), sim_image_hash(b));
			sim_image_free(a);
			sim_image_free(b);
		}
		teardown(&f);
	}
}

/* A device made from a crash image goes on from there; the log can be reset. */
Test(sim_crash, second_life)
{
	struct fixture f = setup(1, 65536);
	struct sim_image *img;
	struct bdev *again;
	u8 buf[512];

	write_mark(f.b, 0, 1, 1, 0);
	sim_bdev_log_reset(f.b);
	write_mark(f.b, 1, 1, 2, 0);
	expect(f.b, &(struct sim_crash){SIM_CRASH_NONE}, "10");
	cr_assert_null(sim_bdev_image_at(f.b, 0, &(struct sim_crash){SIM_CRASH_NONE}));
	img = sim_bdev_crash(f.b, &(struct sim_crash){SIM_CRASH_ALL});
	cr_assert_eq(sim_bdev_create_from(f.env, "sim1", NULL, img, &again), 0);
	sim_image_free(img);
	cr_assert_eq(bdev_read(again, 512, buf, 512), 0);
	cr_assert_eq(buf[0], 2);
	write_mark(again, 2, 1, 3, BDEV_FUA);
	expect(again, &(struct sim_crash){SIM_CRASH_NONE}, "123");
	bdev_close(again);
	teardown(&f);
}

/* What a crash left of a life counts as written afterwards; what it took was never written. */
Test(sim_crash, lives_go_on)
{
	struct fixture f = setup(7, 65536), n = {.env = env_sim_create(8)};
	const struct sim_crash none = {.rule = SIM_CRASH_NONE};
	u64 pos;

	sim_bdev_watch_life(f.b, 0, 8192);
	write_mark(f.b, 0, 2, 1, 0); /* an earlier life */
	sim_bdev_watch_life(f.b, 0, 4096);
	write_mark(f.b, 8, 1, 2, 0);
	cr_assert_eq(bdev_flush(f.b), 0);
	write_mark(f.b, 9, 1, 3, 0); /* lost */
	pos = sim_bdev_log_len(f.b);
	write_mark(f.b, 10, 1, 4, BDEV_FUA); /* after the crash */

	struct sim_image *img = sim_bdev_image_at(f.b, pos, &none);

	cr_assert_eq(sim_bdev_create_from(n.env, "sim1", NULL, img, &n.b), 0);
	cr_assert(sim_bdev_inherit_lives(n.b, f.b, pos));
	write_mark(n.b, 0, 2, 5, 0);
	write_mark(n.b, 9, 2, 5, 0);
	cr_assert_eq(sim_bdev_violations(n.b), 0, "%s", sim_bdev_first_violation(n.b));
	write_mark(n.b, 8, 1, 5, 0);
	cr_assert_eq(sim_bdev_violations(n.b), 1);
	sim_image_free(img);
	teardown(&n);
	teardown(&f);
}
