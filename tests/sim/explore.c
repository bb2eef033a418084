// SPDX-License-Identifier: LGPL-2.1-or-later
#include "explore.h"

#include "../unit/test_rand.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* ---- images once, over all processes ---- */

struct sim_seen {
	u64 mask;
	_Atomic u64 nr;
	_Atomic u64 slot[];
};

struct sim_seen *sim_seen_create(unsigned bits)
{
	size_t size = sizeof(struct sim_seen) + (8ULL << bits);
	struct sim_seen *s = mmap(NULL, size, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (s == MAP_FAILED)
		return NULL;
	s->mask = (1ULL << bits) - 1;
	return s;
}

bool sim_seen_add(struct sim_seen *s, u64 hash)
{
	hash += !hash;
	for (u64 i = hash & s->mask;; i = (i + 1) & s->mask) {
		u64 is = s->slot[i];

		/* Full: what cannot be told apart is not counted. */
		if (is == hash || s->nr * 8 > s->mask * 7)
			return false;
		if (is)
			continue;
		if (atomic_compare_exchange_strong(&s->slot[i], &is, hash)) {
			s->nr++;
			return true;
		}
		if (is == hash)
			return false;
	}
}

/* ---- and within a run: what came of them ---- */

struct answer {
	u64 image; /* its hash */
	u64 text, times;
};

struct explore {
	struct sim_run *r;
	struct sim_work *w;
	void *answers; /* tsearch(3), of struct answer */
};

static int answer_cmp(const void *l, const void *r)
{
	const struct answer *a = l, *b = r;

	return (a->image > b->image) - (a->image < b->image);
}

/* NULL: not met yet. */
static const struct answer *answer_of(struct explore *x, u64 image)
{
	struct answer **a = tfind(&(struct answer){.image = image}, &x->answers, answer_cmp);

	return a ? *a : NULL;
}

/* Instead of what was there. */
static void answer_add(struct explore *x, const struct answer *a)
{
	struct answer **at = tsearch(a, &x->answers, answer_cmp);

	if (*at == a)
		*at = malloc(sizeof(*a));
	**at = *a;
}

struct explore *explore_begin(struct sim_run *r, struct sim_work *w)
{
	struct explore *x = calloc(1, sizeof(*x));

	x->r = r;
	x->w = w;
	return x;
}

void explore_end(struct explore *x)
{
	tdestroy(x->answers, free);
	free(x);
}

/* ---- one crash ---- */

static const char *where(const struct sim_place *p)
{
	static char buf[128];

	snprintf(buf, sizeof(buf), "crash at %llu, %s (%llu)", (unsigned long long)p->pos,
		 sim_crash_rule_name(p->how.rule), (unsigned long long)p->how.seed);
	return buf;
}

/* Crashes of the recovery: the same tree again. */
static void second_level(struct explore *x, struct sim_recovery *first, const struct sim_place *p,
			 u64 *rng)
{
	struct sim_run *r = x->r;

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

		x->w->t->second++;
		x->w->t->recoveries++;
		x->w->t->states += sim_seen_add(x->w->seen, sim_image_hash(img));
		if (!sim_recover(&rec))
			sim_fail(r, "%s; again while recovering, at %llu, %s: %s", where(p),
				 (unsigned long long)pos, sim_crash_rule_name(how.rule), rec.msg);
		if (strcmp(rec.text, first->text) || rec.times != first->times)
			sim_fail(r,
				 "%s; again while recovering, at %llu, %s: the tree (or its times) "
				 "is not the same:\n%s\nfirst:\n%s",
				 where(p), (unsigned long long)pos, sim_crash_rule_name(how.rule),
				 rec.text, first->text);
		sim_recovery_free(&rec);
		sim_image_free(img);
	}
}

static bool by_clock(const struct sim_run *r, u64 pos, u32 state)
{
	for (unsigned i = 0; i < r->nr_floors && r->floor[i].pos <= pos; i++)
		if (r->floor[i].state == state)
			return r->floor[i].by_clock;
	return false;
}

/* Not one of the states it may be: which, then? */
static void explain(struct sim_run *r, struct sim_recovery *rec, const struct sim_place *p)
{
	u32 least = sim_run_floor(r, p->pos), last = 0, old = UINT32_MAX;
	u64 hash = text_hash(rec->text);

	if (sim_run_find(r, p->pos, hash))
		sim_fail(r, "%s: the tree is right, but for times or blocks:\n%s", where(p),
			 rec->text);
	for (u32 i = 0; i < r->nr_states; i++) {
		if (r->state[i].begin_pos <= p->pos && r->state[i].text)
			last = i;
		if (r->state[i].hash == hash)
			old = i;
	}
	if (old != UINT32_MAX)
		sim_fail(r, "%s: state %u (operation %u), but durable were %u (operation %u)%s",
			 where(p), old, r->state[old].op, least, r->state[least].op,
			 by_clock(r, p->pos, least) ? ", for it is old enough" : "");
	sim_fail(r, "%s: no prefix from state %u (operation %u) on:\n%s\nthe last it could be:\n%s",
		 where(p), least, r->state[least].op, rec->text, r->state[last].text);
}

static void save_image(const struct sim_image *img)
{
	const char *path = getenv("BCFS_SIM_SAVE");

	if (path)
		sim_image_save(img, path);
}

static void recover(struct explore *x, struct sim_image *img, const struct sim_place *p)
{
	struct sim_run *r = x->r;
	u64 rng = r->cfg.seed ^ p->pos << 20 ^ p->how.seed ^ (u64)p->how.rule << 56;
	struct sim_recovery rec = {.run = r,
				   .img = img,
				   .seed = r->cfg.seed + p->pos,
				   .counters = &x->w->t->counters,
				   .crashed = r->bdev,
				   .crash_pos = p->pos};
	struct answer a = {.image = sim_image_hash(img)};

	rec.keep_log = trand_below(&rng, 12) == 0;
	rec.more = trand_below(&rng, 6) == 0;
	rec.offline = trand_below(&rng, 8) == 0;
	rec.ballast = trand_below(&rng, 4) == 0;
	x->w->t->recoveries++;
	if (!sim_recover(&rec)) {
		save_image(img);
		sim_fail(r, "%s: %s", where(p), rec.msg);
	}
	a.text = text_hash(rec.text);
	a.times = rec.times;
	if (!sim_run_find_times(r, p->pos, a.text, a.times)) {
		save_image(img);
		explain(r, &rec, p);
	}
	answer_add(x, &a);
	if (rec.keep_log)
		second_level(x, &rec, p, &rng);
	sim_recovery_free(&rec);
}

static void note_time(struct sim_totals *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	t->cpu_ns = (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

void explore_one(struct explore *x, const struct sim_place *p)
{
	struct sim_run *r = x->r;
	struct sim_image *img = sim_bdev_image_at(r->bdev, p->pos, &p->how);
	u64 hash = sim_image_hash(img);
	const struct answer *a = answer_of(x, hash);

	r->crashed = p;
	x->w->t->images++;
	note_time(x->w->t);
	if (r->cfg.report)
		r->cfg.report->beat++;
	/* When it is wrong at this place, the recovery says how. */
	if (!a || !sim_run_find_times(r, p->pos, a->text, a->times)) {
		if (!a)
			x->w->t->states += sim_seen_add(x->w->seen, hash);
		recover(x, img, p);
	}
	sim_image_free(img);
	r->crashed = NULL;
}

/* ---- many ---- */

static void one_rule(struct explore *x, u64 pos, enum sim_crash_rule rule, u64 seed)
{
	explore_one(x, &(struct sim_place){.pos = pos, .how = {.rule = rule, .seed = seed}});
}

/* At most this many times are single writes left out, or kept, at one position. */
#define SINGLES 2

static void singles(struct explore *x, u64 pos, enum sim_crash_rule rule, u32 nr, u64 *rng)
{
	u32 skip = nr > SINGLES ? (u32)trand_below(rng, nr) : 0;

	for (u32 i = 0; i < min(nr, (u32)SINGLES); i++)
		one_rule(x, pos, rule, (skip + i) % nr);
}

static void every_rule(struct explore *x, u64 pos, u64 *rng)
{
	u32 nr = sim_bdev_nr_pending(x->r->bdev, pos);

	one_rule(x, pos, SIM_CRASH_NONE, 0);
	one_rule(x, pos, SIM_CRASH_ALL, 0);
	if (!nr)
		return;
	one_rule(x, pos, SIM_CRASH_PREFIX, trand_u64(rng));
	singles(x, pos, SIM_CRASH_DROP_ONE, nr, rng);
	singles(x, pos, SIM_CRASH_KEEP_ONE, nr, rng);
	one_rule(x, pos, SIM_CRASH_RANDOM, trand_u64(rng));
	one_rule(x, pos, SIM_CRASH_TORN_LAST, trand_u64(rng));
	one_rule(x, pos, SIM_CRASH_TORN, trand_u64(rng));
}

/*
 * A write has been submitted. Alone, or without the others, it is of more interest than any of
 * those that were there before.
 */
static void with_newest(struct explore *x, u64 pos, enum bdev_op op, u64 *rng)
{
	u32 nr = sim_bdev_nr_pending(x->r->bdev, pos);

	if (!nr)
		return;
	one_rule(x, pos, SIM_CRASH_ALL, 0);
	one_rule(x, pos, SIM_CRASH_KEEP_ONE, nr - 1);
	if (op == BDEV_DISCARD)
		return; /* nobody looks at what was there */
	one_rule(x, pos, SIM_CRASH_NONE, 0);
	one_rule(x, pos, SIM_CRASH_PREFIX, trand_u64(rng));
	one_rule(x, pos, SIM_CRASH_DROP_ONE, pos % max(nr - 1, 1U));
	one_rule(x, pos, SIM_CRASH_RANDOM, trand_u64(rng));
	one_rule(x, pos, SIM_CRASH_TORN_LAST, trand_u64(rng));
	one_rule(x, pos, SIM_CRASH_TORN, trand_u64(rng));
}

/* Where something has just become durable, nothing more than that survives. At most so many. */
static void at_floors(struct explore *x, u64 from, u64 to, unsigned max_nr, u64 *rng)
{
	const struct sim_run *r = x->r;
	unsigned nr = 0;

	for (unsigned i = 0; i < r->nr_floors; i++)
		nr += r->floor[i].pos >= from && r->floor[i].pos <= to;
	for (unsigned i = 0; i < r->nr_floors && !sim_time_is_over(x->w); i++)
		if (r->floor[i].pos >= from && r->floor[i].pos <= to &&
		    trand_below(rng, max(nr, 1U)) < max_nr)
			one_rule(x, r->floor[i].pos, SIM_CRASH_NONE, 0);
}

void explore_all(struct explore *x, u64 from, u64 to)
{
	struct bdev *bdev = x->r->bdev;
	u64 rng = x->r->cfg.seed ^ from;
	struct sim_log_entry e;

	every_rule(x, from, &rng);
	for (u64 pos = from + 1; pos <= to && !sim_time_is_over(x->w); pos++) {
		if (!sim_bdev_log_get(bdev, pos - 1, &e))
			continue;
		if (e.kind == SIM_EV_SUBMIT && e.op != BDEV_FLUSH)
			with_newest(x, pos, e.op, &rng);
		else if (e.kind == SIM_EV_COMPLETE && (e.op == BDEV_FLUSH || e.flags & BDEV_FUA))
			every_rule(x, pos, &rng);
	}
	at_floors(x, from, to, UINT32_MAX, &rng);
}

#define FLOORS_SOME 8

/* Where the next operation begins. */
static u64 next_begin(const struct sim_run *r, u32 *state, u64 pos)
{
	while (*state < r->nr_states && r->state[*state].begin_pos <= pos)
		++*state;
	return *state < r->nr_states ? r->state[*state].begin_pos : UINT64_MAX;
}

/* Entries of the journal that become durable before another does within the same operation. */
static u64 next_inside(const struct explore *x, u64 from, u64 to, u32 *state)
{
	struct sim_log_entry e;
	u64 last = 0, end = 0;

	for (u64 pos = from + 1; pos <= to; pos++) {
		if (!sim_bdev_log_get(x->r->bdev, pos - 1, &e) || e.kind != SIM_EV_COMPLETE ||
		    !(e.flags & BDEV_FUA))
			continue;
		if (pos < end)
			return last;
		last = pos;
		end = next_begin(x->r, state, pos);
	}
	return 0;
}

/*
 * In the middle of operations, nothing survives but what some entry of the journal has made
 * durable, whoever asked for it. At most about so many.
 */
static void inside_operations(struct explore *x, u64 from, u64 to, unsigned max_nr, u64 *rng)
{
	unsigned nr = 0;
	u32 state = 0;

	for (u64 pos = from; (pos = next_inside(x, pos, to, &state));)
		nr++;
	state = 0;
	for (u64 pos = from; (pos = next_inside(x, pos, to, &state)) && !sim_time_is_over(x->w);)
		if (trand_below(rng, max(nr, 1U)) < max_nr)
			one_rule(x, pos, SIM_CRASH_NONE, 0);
}

void explore_some(struct explore *x, u64 from, u64 to, unsigned states)
{
	u64 rng = x->r->cfg.seed ^ 0xc4a5;
	/* Three rules at each position that is visited. */
	u64 step = max_t(u64, 1, (to - from) * 3 / states);

	for (u64 pos = from + trand_below(&rng, step); pos <= to; pos += step) {
		for (unsigned i = 0; i < 3 && !sim_time_is_over(x->w); i++) {
			static const enum sim_crash_rule often[] = {
				SIM_CRASH_NONE, SIM_CRASH_ALL, SIM_CRASH_RANDOM, SIM_CRASH_TORN};
			enum sim_crash_rule rule = i ? trand_below(&rng, SIM_CRASH_SUBSET)
						     : often[trand_below(&rng, ARRAY_SIZE(often))];

			one_rule(x, pos, rule, trand_u64(&rng));
		}
	}
	at_floors(x, from, to, FLOORS_SOME, &rng);
	inside_operations(x, from, to, 4 + states / 8, &rng);
}

void explore_count_run(struct sim_run *r, struct sim_totals *t)
{
	u64 struck = 0;

	t->runs++;
	t->errors += r->errors;
	t->nospc += r->nospc;
	for (unsigned i = 0; i < ARRAY_SIZE(t->restarts); i++)
		t->restarts[i] += r->restarts[i];
	if (r->cfg.fault == SIM_FAULT_NR)
		return;
	sim_bdev_fault_hits(r->bdev, r->cfg.fault, &struck);
	t->armed[r->cfg.fault]++;
	t->struck[r->cfg.fault] += !!struck;
}

void explore_run(struct sim_work *w, const struct sim_cfg *cfg, explore_fn crashes, const void *arg)
{
	struct sim_run *r = calloc(1, sizeof(*r));
	struct sim_cfg c = *cfg;
	struct explore *x;

	c.report = w->report;
	sim_run_do(r, &c, &w->t->counters);
	explore_count_run(r, w->t);
	x = explore_begin(r, w);
	crashes(x, r, arg);
	explore_end(x);
	sim_run_free(r);
	free(r);
}

void explore_spread(struct explore *x, struct sim_run *r, const void *arg)
{
	const unsigned *states = arg;

	explore_some(x, r->first_pos, sim_bdev_log_len(r->bdev), *states);
}
