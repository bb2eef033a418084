// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: a hole in the journal, which is damage and not a crash, is never passed over in silence. A
 * mount is refused with a line that says what to do; a read-only mount and a check show what is
 * left, whatever it is; nothing is written by any of them.
 * Method: runs as in crash.c; after the power cut each entry of the journal in turn is made
 * unreadable as an entry, or a stretch of them is wiped, and the image is opened in all three ways
 * and walked.
 *
 * Usage: damage. BCFS_TEST_SEED: that run alone. BCFS_SIM_SCALE: how much of it (default 1).
 */
#include "sim.h"

#include "../unit/test_rand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define RUNS	    24
#define MAX_ENTRIES 4096
#define MAX_DEPTH   12
/* So many of the entries must be needed ones, on average, or the test tests little. */
#define DAMAGED_PER_RUN 10

struct totals {
	u64 runs, trials, damaged, read, checked, errors;
};

struct entries {
	struct sim_run *run;
	u64 newest; /* flush entry */
	unsigned nr;
	struct {
		u64 offset, seq;
	} e[MAX_ENTRIES];
};

struct trial {
	struct sim_run *run;
	struct bdev *bdev;
	struct env *env;
	struct totals *t;
	const char *what;
	u64 seq;
	bool tail; /* the newest flush entry is hit: the device has lost what it said was durable */
};

#define must(tr, cond, fmt, ...)                                                                   \
	do {                                                                                       \
		if (!(cond))                                                                       \
			sim_fail((tr)->run, "entry %llu %s: " fmt, (unsigned long long)(tr)->seq,  \
				 (tr)->what, ##__VA_ARGS__);                                       \
	} while (0)

/* ---- where the entries are ---- */

static void scan_bucket(struct entries *f, struct bdev *bdev, u64 start, u32 bytes, u64 magic)
{
	char *buf = malloc(bytes);
	struct jset *s;

	if (bdev_read(bdev, start, buf, bytes))
		abort();
	for (u32 at = 0; at + sizeof(*s) < bytes && f->nr < MAX_ENTRIES; at += f->run->cfg.block) {
		s = (void *)(buf + at);
		if (s->magic != magic)
			continue;
		if (!(s->flags & JSET_NO_FLUSH))
			f->newest = max(f->newest, s->seq);
		f->e[f->nr].offset = start + at;
		f->e[f->nr++].seq = s->seq;
	}
	free(buf);
}

struct scan {
	struct entries *f;
	struct env *env;
	struct bdev *bdev;
};

static void scan_main(void *arg)
{
	struct scan *s = arg;
	struct log log = {.max = LOG_LEVEL_ERR};
	struct sb_handle *sb;

	if (sb_read(s->env, s->bdev, &log, &sb))
		abort();
	struct bcfs_member m = sb_member_get(sb->sb, 0);
	u64 bucket_bytes = (u64)m.bucket_sectors << SECTOR_SHIFT;

	for (unsigned i = 0; i < sb_journal_nr_buckets(sb->sb); i++)
		scan_bucket(s->f, s->bdev, sb_journal_bucket(sb->sb, i) * bucket_bytes,
			    (u32)bucket_bytes, BCFS_JSET_MAGIC ^ sb_magic(sb->sb));
	sb_free(sb);
}

static void find_entries(struct entries *f, const struct sim_image *img)
{
	struct sim_bdev_opts o = {.no_log = true};
	struct scan s = {.f = f, .env = env_sim_create(1)};

	if (sim_bdev_create_from(s.env, "sim", &o, img, &s.bdev) ||
	    env_sim_run(s.env, scan_main, &s))
		abort();
	bdev_close(s.bdev);
	env_sim_destroy(s.env);
}

/* ---- looking at everything ---- */

struct names {
	unsigned nr;
	struct bcfs_ino ino[256];
};

static int add_name(void *arg, const struct bcfs_dir_entry *e)
{
	struct names *l = arg;

	if (!strcmp(e->name, ".") || !strcmp(e->name, ".."))
		return 0;
	if (l->nr == ARRAY_SIZE(l->ino))
		return 1;
	l->ino[l->nr++] = e->ino;
	return 0;
}

/* What comes back is of no interest: that it comes back is. */
static void walk(struct bcfs *c, struct bcfs_ino ino, unsigned depth)
{
	char *buf = malloc(65536), list[512];
	struct names *l = calloc(1, sizeof(*l));
	struct bcfs_stat st;
	s64 len;

	if (depth == MAX_DEPTH || bcfs_getattr(c, ino, &st))
		goto out;
	if (S_ISREG(st.mode))
		bcfs_read(c, ino, 0, buf, 65536);
	if (S_ISLNK(st.mode))
		bcfs_readlink(c, ino, buf, 65536);
	len = bcfs_listxattr(c, ino, list, sizeof(list));
	for (s64 at = 0; at < len; at += (s64)strlen(list + at) + 1)
		bcfs_getxattr(c, ino, list + at, buf, 65536);
	if (S_ISDIR(st.mode))
		bcfs_readdir(c, ino, 0, 0, add_name, l);
	for (unsigned i = 0; i < l->nr; i++)
		walk(c, l->ino[i], depth + 1);
out:
	free(l);
	free(buf);
}

/* ---- one hole ---- */

static void on_report(void *arg, enum bcfs_check_level level, const char *pass, const char *text)
{
	if (getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "check: %s: %s\n", pass, text);
}

static void on_log(void *arg, enum bcfs_log_level level, const char *line)
{
	if (getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "log: %s\n", line);
}

static int open_as(struct trial *tr, bool read_only, bool for_check, struct core **c, char *msg)
{
	struct core_opts o = {.read_only = read_only,
			      .for_check = for_check,
			      .no_background = read_only,
			      .secret = sim_secret(&tr->run->cfg),
			      .cache_bytes = tr->run->cfg.cache_bytes};

	*msg = 0;
	return core_open_on(tr->env, tr->bdev, &o, on_log, NULL, c, msg, CORE_MSG_SIZE);
}

/* Whether there is damage. */
static bool try_check(struct trial *tr)
{
	struct bcfs_check_opts o = {.struct_size = sizeof(o), .report = on_report};
	struct bcfs_check_result res = {0};
	char msg[CORE_MSG_SIZE];
	struct core *c;
	int ret = open_as(tr, true, true, &c, msg);

	if (ret) {
		must(tr, err_is_damage(ret), "check: %s", msg);
		return true;
	}
	core_quiesce(c);
	ret = core_check(c, &o, &res);
	must(tr, !ret, "check: %s", err_str(ret));
	tr->t->checked++;
	tr->t->errors += res.errors;
	core_abort(c);
	return res.errors;
}

static bool try_read(struct trial *tr)
{
	char msg[CORE_MSG_SIZE];
	struct core *c;
	bool damaged;
	int ret = open_as(tr, true, false, &c, msg);

	if (ret) {
		must(tr, err_is_damage(ret), "opening read-only: %s", msg);
		return true;
	}
	damaged = c->journal_damage[0];
	tr->t->read += damaged;
	walk(&c->fs, bcfs_root(&c->fs), 0);
	core_abort(c);
	return damaged;
}

static void trial_main(void *arg)
{
	struct trial *tr = arg;
	char msg[CORE_MSG_SIZE];
	struct core *c;
	bool damaged = try_read(tr);

	bool found = try_check(tr);

	must(tr, found == damaged || (found && tr->tail), "the check does not agree: damaged is %d",
	     damaged);
	must(tr, !sim_bdev_log_len(tr->bdev), "reading and checking have written");
	int ret = open_as(tr, false, false, &c, msg);

	if (ret == -BCFS_ERR_journal_damaged) {
		must(tr, damaged, "%s", msg);
		must(tr, strstr(msg, "-o ro") && strstr(msg, "fsck.bcfs"), "no advice: %s", msg);
		must(tr, !sim_bdev_log_len(tr->bdev), "what was refused was written to");
		tr->t->damaged++;
	} else if (ret) {
		must(tr, tr->tail && err_is_damage(ret), "%s", msg);
	} else {
		must(tr, !damaged, "opened, though damaged");
		core_abort(c);
	}
}

static void one_trial(struct sim_run *r, const struct sim_image *img, u64 seq, const char *what,
		      bool tail, struct totals *t)
{
	struct sim_bdev_opts o = {0};
	struct trial tr = {.run = r,
			   .t = t,
			   .env = env_sim_create(seq),
			   .what = what,
			   .seq = seq,
			   .tail = tail};
	int ret = sim_bdev_create_from(tr.env, "sim", &o, img, &tr.bdev);

	must(&tr, !ret, "no device");
	ret = env_sim_run(tr.env, trial_main, &tr);
	must(&tr, !ret, "the simulation ended with %s", err_str(ret));
	bdev_close(tr.bdev);
	env_sim_destroy(tr.env);
	t->trials++;
}

/* ---- all ---- */

static struct sim_cfg make_cfg(u64 seed)
{
	u64 rng = seed * 0x9e3779b97f4a7c15ULL;
	struct sim_cfg c = {.seed = seed,
			    .plain = true, /* much of the journal is needed */
			    .fault = SIM_FAULT_NR,
			    .block = 512,
			    .node = 4096,
			    .bucket = 16384,
			    .extent_max = 8192,
			    .compression = sim_compression(seed),
			    .background = sim_background(seed),
			    .gather = sim_gather(seed),
			    .encrypt = sim_encrypt(seed),
			    .copies = sim_copies(seed),
			    .cache_bytes = 1,
			    .dev_bytes = 12ULL << 20,
			    .flush_delay_ms = 100,
			    .ops = 60};

	/*
	 * In a small ring reclaim follows so closely that hardly an entry is needed any more; in
	 * one that is not half full it leaves all to the age of what is dirty.
	 */
	c.journal = c.node * (seed % 2 ? 32U : 128U);
	c.prefill = (unsigned)trand_below(&rng, 400);
	c.bulk = trand_below(&rng, 2) ? 300 : 0;
	return c;
}

static void one_run(u64 seed, struct totals *t)
{
	struct sim_cfg cfg = make_cfg(seed);
	struct sim_run *r = calloc(1, sizeof(*r));
	struct entries *f = calloc(1, sizeof(*f));
	struct sim_counters counters = {0};
	u64 rng = seed ^ 0xda3a6e;
	const u8 bad[8] = {0xff, 0xff, 0xff};

	sim_run_do(r, &cfg, &counters);
	struct sim_crash how = {.rule = SIM_CRASH_ALL};
	struct sim_image *whole = sim_bdev_image_at(r->bdev, sim_bdev_log_len(r->bdev), &how);

	f->run = r;
	find_entries(f, whole);
	for (unsigned i = 0; i < f->nr; i++) {
		struct sim_image *img = sim_image_clone(whole);
		const char *what = "bad";
		unsigned kind = trand_below(&rng, 3);
		bool tail = f->e[i].seq >= f->newest;

		if (kind == 0) {
			sim_image_write(img, f->e[i].offset + sizeof(struct jset) + 16, bad, 8);
		} else {
			what = kind == 1 ? "wiped" : "wiped and those behind it";
			for (unsigned j = i; j < f->nr && j < i + (kind == 1 ? 1 : 8); j++) {
				sim_image_zero(img, f->e[j].offset, cfg.block);
				tail |= f->e[j].seq >= f->newest;
			}
		}
		one_trial(r, img, f->e[i].seq, what, tail, t);
		sim_image_free(img);
	}
	sim_image_free(whole);
	sim_run_free(r);
	free(f);
	free(r);
	t->runs++;
}

int main(void)
{
	const char *s = getenv("BCFS_SIM_SCALE");
	struct totals t = {0};
	unsigned runs = s && atof(s) > 0 ? (unsigned)(RUNS * atof(s) + 0.5) : RUNS;

	if (getenv("BCFS_TEST_SEED")) {
		one_run(trand_seed(0), &t);
		runs = 0;
	}
	for (unsigned i = 0; i < runs; i++)
		one_run(i + 1, &t);
	printf("%llu runs, %llu trials, %llu damaged, %llu of them opened read-only; %llu checks "
	       "with %llu errors\n",
	       (unsigned long long)t.runs, (unsigned long long)t.trials,
	       (unsigned long long)t.damaged, (unsigned long long)t.read,
	       (unsigned long long)t.checked, (unsigned long long)t.errors);
	if (getenv("BCFS_TEST_SEED"))
		return 0;
	if (t.damaged < t.runs * DAMAGED_PER_RUN) {
		fprintf(stderr, "FAILED: too few entries were needed: %llu runs must meet %llu\n",
			(unsigned long long)t.runs, (unsigned long long)t.runs * DAMAGED_PER_RUN);
		return 1;
	}
	if (t.read * 2 < t.damaged) {
		fprintf(stderr, "FAILED: too little of it could be read\n");
		return 1;
	}
	return 0;
}
