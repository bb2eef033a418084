// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: on a device that does not do what it says nothing is passed off as right that is not. It
 * loses a write, holds it back (readers see it until the power fails), puts it somewhere else, lies
 * about a flush, once or from then on, or flips a bit of what is read. Then:
 *
 * - Nothing crashes or hangs. What cannot be opened is refused with a line that says why, a call
 *   that fails says EIO or EUCLEAN (EROFS once the filesystem has stopped for it).
 * - What is shown, by the running filesystem, after a clean unmount and after a power cut, is one
 *   state that there was, with its times; or a call fails, and all the others show what belongs to
 *   one such state, no name missing from a list that was read without an error.
 * - Which state: in the running filesystem and after a clean unmount the last; after a power cut
 * one that is not before the last sync. Older ones only if what was lost is an entry of the
 * journal, or if flushes lied, or all that was written from then on is lost: a journal that ends
 * earlier is what an earlier power cut leaves. If writes that came later need what was lost, that
 * is told.
 * - A check writes nothing and ends. If it finds nothing, it can be opened, and all can be read
 *   but data, which it does not read.
 * - What was opened and read without an error can be worked with: what is then written is there
 *   after the next power cut, on a device that does as it says; what is not, is told. Not so if
 *   flushes lied and the superblock says that nothing happened since it was closed: the journal may
 *   have entries of later, with numbers that are now given again (doc/testing.md, Open).
 *
 * What tells: of data the checksum (or tag) in the key, which is of these bytes alone; of a node
 * the seq in the pointer to it, of what is appended to it the sectors that the pointer counts, each
 * bset with the node's seq and its own place; of the journal the numbers, without a gap from the
 * oldest that the newest flush entry needs; of a superblock its own place and number, and the
 * others. So old content in the place of new is told as wrong content is, and it does not matter
 * what lay there. A bit that flips while the newest entries of the journal are read looks like an
 * entry that the power cut tore: that is an older state, too.
 *
 * Method: a run without a fault says which of its writes is what (data, node, journal, superblock);
 * then the same run again for each kind of fault and of write, which strikes one of them. It ends
 * with a clean unmount, which may fail; then power cuts at moments after the fault, by all rules,
 * and the end. Each image is checked, opened, read, worked with, cut off and read again.
 *
 * Usage: lies. BCFS_TEST_SEED: that run alone. BCFS_SIM_SCALE: how much of it (default 1).
 * BCFS_SIM_LOG=1: the filesystem's log.
 */
#include "sim.h"

#include "../unit/test_rand.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUNS	     5
#define IMAGES	     2 /* of each run, and its end */
#define HANG_SECONDS 300

/* What a request was for; where a misdirected write lands. */
enum place { SUPERBLOCK, JOURNAL, NODE, DATA, PLACES };

static const char *const place_names[] = {"superblock", "journal", "node", "data"};

enum lie { LOST, STALE, MISDIRECTED, FLUSH, FLIP, FLIP_RECOVERY, LIES };

static const struct {
	const char *name;
	enum sim_fault fault;
	unsigned each;	 /* runs of a seed, for each place */
	unsigned sticky; /* of them for ever */
} lies[LIES] = {
	[LOST] = {"lost", SIM_FAULT_WRITE_LOST, 3, 1},
	[STALE] = {"held back", SIM_FAULT_WRITE_STALE, 2, 1},
	[MISDIRECTED] = {"misdirected", SIM_FAULT_WRITE_MISDIRECTED, 3, 0},
	[FLUSH] = {"flush", SIM_FAULT_FLUSH_LIE, 5, 4},
	[FLIP] = {"flipped", SIM_FAULT_READ_FLIP, 4, 0},
	[FLIP_RECOVERY] = {"flipped then", SIM_FAULT_READ_FLIP, 0, 0},
};

struct count {
	u64 struck, images, told, right, older;
};

struct totals {
	u64 runs, ended, clean_checks, again, hit[PLACES]; /* hit: by what was misdirected */
	struct count c[LIES][PLACES];
};

/* Where things lie; the same in all runs of a seed. */
struct map {
	u64 node_magic;
	u64 sb[BCFS_SB_COPIES_MAX], sb_bytes;
	u64 *journal, bucket_bytes;
	unsigned nr_sb, nr_journal;
};

/* Requests by what they are for, counted from 1. */
struct list {
	struct {
		u64 k, offset, len;
	} * w[PLACES];
	unsigned nr[PLACES], max[PLACES];
	u64 flushes, reads;
};

struct unit {
	u64 seed;
	struct sim_cfg cfg;
	struct totals *t;
	struct map map;
	struct list list;
};

/* One run with one fault. */
struct lied {
	struct sim_run r; /* first */
	struct unit *u;
	enum lie lie;
	enum place place;
	struct sim_strike strike;
	bool struck, in_journal;
	u64 ops_end;
};

/* One image of it. */
struct look {
	struct lied *l;
	struct env *env;
	struct bdev *bdev;
	u64 pos, rng;
	const char *what;
	u32 first;     /* the oldest state that it may be */
	char *must_be; /* or just that; NULL: not so */
	u64 flip;      /* the read that is struck, if not 0 */
	bool told, older, clean;
	char *text; /* whole and right, or NULL */
	bool worked;
};

static char *doing; /* for who died of a signal */
#define DOING_SIZE 512

/* ---- what is where ---- */

struct map_args {
	struct map *m;
	struct env *env;
	struct bdev *bdev;
};

static void map_main(void *arg)
{
	struct map_args *a = arg;
	struct map *m = a->m;
	struct log log = {.max = LOG_LEVEL_ERR};
	struct sb_handle *sb;

	if (sb_read(a->env, a->bdev, &log, &sb))
		abort();
	m->node_magic = BCFS_BTREE_MAGIC ^ sb_magic(sb->sb);
	m->bucket_bytes = (u64)sb_member_get(sb->sb, 0).bucket_sectors << SECTOR_SHIFT;
	m->sb_bytes = sb_area_bytes(sb->sb);
	m->nr_sb = sb->sb->layout.nr_copies;
	for (unsigned i = 0; i < m->nr_sb; i++)
		m->sb[i] = sb->sb->layout.offset[i] << SECTOR_SHIFT;
	m->nr_journal = (unsigned)sb_journal_nr_buckets(sb->sb);
	m->journal = calloc(m->nr_journal, sizeof(u64));
	for (unsigned i = 0; i < m->nr_journal; i++)
		m->journal[i] = sb_journal_bucket(sb->sb, i) * m->bucket_bytes;
	sb_free(sb);
}

static void make_map(struct map *m, const struct sim_image *img)
{
	struct sim_bdev_opts o = {.no_log = true};
	struct map_args a = {.m = m, .env = env_sim_create(1)};

	if (sim_bdev_create_from(a.env, "sim", &o, img, &a.bdev) ||
	    env_sim_run(a.env, map_main, &a))
		abort();
	bdev_close(a.bdev);
	env_sim_destroy(a.env);
}

static bool overlaps(u64 a, u64 a_len, u64 b, u64 b_len)
{
	return a < b + b_len && b < a + a_len;
}

/* @data: what is written there, or NULL; @img: what was there. */
static enum place place_of(const struct unit *u, const struct sim_image *img, u64 offset, u64 len,
			   const void *data)
{
	const struct map *m = &u->map;
	u64 slot = round_down(offset, (u64)u->cfg.node);
	struct btree_node n = {0};

	for (unsigned i = 0; i < m->nr_sb; i++)
		if (overlaps(offset, len, m->sb[i], m->sb_bytes))
			return SUPERBLOCK;
	for (unsigned i = 0; i < m->nr_journal; i++)
		if (overlaps(offset, len, m->journal[i], m->bucket_bytes))
			return JOURNAL;
	if (data && slot == offset)
		memcpy(&n, data, min(len, sizeof(n)));
	else
		sim_image_read(img, slot, &n, sizeof(n));
	return n.magic == m->node_magic ? NODE : DATA;
}

/* The writes of a run without a fault. */
static void make_list(struct unit *u, struct sim_run *r)
{
	struct list *l = &u->list;
	struct sim_crash how = {.rule = SIM_CRASH_ALL};
	u64 end = sim_bdev_log_len(r->bdev), k = 0;
	struct sim_image *img = sim_bdev_image_at(r->bdev, end, &how);
	struct sim_log_entry e;

	make_map(&u->map, img);
	sim_image_free(img);
	img = sim_bdev_image_at(r->bdev, r->first_pos, &how);
	for (u64 pos = r->first_pos; pos < end; pos++) {
		if (!sim_bdev_log_get(r->bdev, pos, &e) || e.kind != SIM_EV_SUBMIT)
			continue;
		l->flushes += e.op == BDEV_FLUSH;
		if (e.op != BDEV_WRITE)
			continue;
		enum place p = place_of(u, img, e.offset, e.len, e.data);

		l->w[p] = sim_grow(l->w[p], l->nr[p], &l->max[p], sizeof(*l->w[p]));
		l->w[p][l->nr[p]].k = ++k;
		l->w[p][l->nr[p]].offset = e.offset;
		l->w[p][l->nr[p]++].len = e.len;
		sim_image_write(img, e.offset, e.data, e.len);
	}
	sim_image_free(img);
}

/* ---- what is shown ---- */

static void no_log(void *arg, enum bcfs_log_level level, const char *line)
{
	if (getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "log: %s\n", line);
}

/* Is it a state of the run from @first on that there was at @pos, or a part of one? */
static const struct sim_state *find_state(const struct sim_run *r, const char *text, u64 times,
					  int err, u32 first, u64 pos)
{
	u64 hash = text_hash(text);

	for (u32 i = r->nr_states; i-- > first;) {
		const struct sim_state *s = &r->state[i];

		if (s->begin_pos > pos)
			continue;
		if (err ? s->text && text_is_part(text, s->text)
			: s->hash == hash && (!times || !s->times || s->times == times))
			return s;
	}
	return NULL;
}

static char *describe(struct lied *l, const char *what, u64 pos)
{
	static char buf[256];
	const struct sim_strike *s = &l->strike;

	snprintf(buf, sizeof(buf),
		 "%s, %s %llu of the run%s (at %llu of the log, byte %llu, %llu long, landed at "
		 "%llu), %s at %llu",
		 lies[l->lie].name, l->lie < FLUSH ? place_names[l->place] : "request",
		 (unsigned long long)l->r.cfg.fault_at,
		 l->r.cfg.fault_sticky ? " and all after it" : "", (unsigned long long)s->pos,
		 (unsigned long long)s->offset, (unsigned long long)s->len,
		 (unsigned long long)s->to, what, (unsigned long long)pos);
	return buf;
}

struct shown {
	bool data_only; /* what could not be read are data */
	bool older;	/* than the last sync */
};

/* The tree as @fs shows it, which must be right; NULL: not all of it could be read. */
static char *show(struct lied *l, struct bcfs *fs, u32 first, u64 pos, const char *must_be,
		  const char *what, struct shown *ret)
{
	u32 sync = sim_run_floor(&l->r, pos);
	u64 times;
	int err;
	char *text = fs_text_times(fs, &err, &times), *at = text;
	bool ok;

	if (err && !err_is_damage(err))
		sim_fail(&l->r, "%s: reading: %s", describe(l, what, pos), err_str(err));
	if (must_be)
		ok = err ? text_is_part(text, must_be) : !strcmp(text, must_be);
	else
		ok = find_state(&l->r, text, times, err, first, pos);
	if (!ok)
		sim_fail(&l->r, "%s: what is shown was never there (reading: %s):\n%s\nlast:\n%s",
			 describe(l, what, pos), err ? err_str(err) : "no error", text,
			 must_be ?: l->r.state[l->r.nr_states - 1].text);
	ret->data_only = true;
	while ((at = strstr(at, " !")))
		ret->data_only &= !strncmp(at++, " !data", 6);
	ret->older = !must_be && !err && !find_state(&l->r, text, times, err, sync, pos);
	if (!err)
		return text;
	free(text);
	return NULL;
}

/* ---- the run ---- */

/* The last that was: the running filesystem shows that, and after a clean end it stays. */
static void run_end(struct sim_run *r, struct core *core)
{
	struct lied *l = container_of(r, struct lied, r);
	u32 sure = r->ended ? r->sure : r->nr_states - 1;
	struct shown s;

	l->ops_end = sim_bdev_log_len(r->bdev);
	if (!core)
		return;
	free(show(l, &core->fs, sure, l->ops_end, NULL, "running", &s));
	bcfs_forget_all(&core->fs);

	int ret = core_close(core);

	if (ret && !err_is_damage(ret) && err_to_errno(ret) != EROFS && err_to_errno(ret) != ENOSPC)
		sim_fail(r, "%s: %s", describe(l, "closing", l->ops_end), err_str(ret));
	if (!ret)
		sim_run_add_floor(r, sure);
	l->u->t->ended += ret || r->ended;
}

/* ---- an image ---- */

static int look_open(struct look *k, bool for_check, struct core **c)
{
	struct core_opts o = sim_core_opts(&k->l->r.cfg);
	char msg[CORE_MSG_SIZE] = "";

	if (for_check) {
		o.read_only = o.no_background = true;
		o.for_check = true;
	}
	int ret = core_open_on(k->env, k->bdev, &o, no_log, NULL, c, msg, sizeof(msg));

	if (ret && (!err_is_damage(ret) || !msg[0]))
		sim_fail(&k->l->r, "%s: opening%s: %s: \"%s\"", describe(k->l, k->what, k->pos),
			 for_check ? " for a check" : "", err_str(ret), msg);
	if (ret && getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "refused: %s\n", msg);
	return ret;
}

static void on_report(void *arg, enum bcfs_check_level level, const char *pass, const char *text)
{
	if (getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "check: %s: %s\n", pass, text);
}

/* Errors found; refused counts as one. */
static u64 look_check(struct look *k)
{
	struct bcfs_check_opts o = {.struct_size = sizeof(o), .report = on_report};
	struct bcfs_check_result res = {0};
	u64 pos = sim_bdev_log_len(k->bdev);
	struct core *c;

	if (look_open(k, true, &c))
		return 1;
	core_quiesce(c);
	int ret = core_check(c, &o, &res);

	core_abort(c);
	if (ret)
		sim_fail(&k->l->r, "%s: check: %s", describe(k->l, k->what, k->pos), err_str(ret));
	if (sim_bdev_log_len(k->bdev) != pos)
		sim_fail(&k->l->r, "%s: a check has written", describe(k->l, k->what, k->pos));
	return res.errors;
}

/* Files more, behind all others; what all is then. NULL: damage was met. */
static char *look_work(struct look *k, struct core *c)
{
	const struct bcfs_cred cred = {0};
	struct bcfs_stat st;
	char name[] = "z0", *text;
	u8 buf[9000];
	int ret = 0, err;

	for (; !ret && name[1] < '6'; name[1]++) {
		memset(buf, name[1], sizeof(buf));
		ret = bcfs_mknod(&c->fs, bcfs_root(&c->fs), name, S_IFREG | 0600, 0, 0, &cred, &st);
		s64 n = ret ? 0 : bcfs_write(&c->fs, st.ino, 0, buf, sizeof(buf), 0);

		ret = ret ?: (int)min_t(s64, n, 0);
	}
	ret = ret ?: bcfs_sync(&c->fs);
	text = fs_text(&c->fs, &err);
	if ((ret || err) && !err_is_damage(ret ?: err) && err_to_errno(ret) != EROFS &&
	    err_to_errno(ret) != ENOSPC)
		sim_fail(&k->l->r, "%s: working: %s", describe(k->l, k->what, k->pos),
			 err_str(ret ?: err));
	if (!ret && !err && strncmp(text, k->text, strlen(k->text)))
		sim_fail(&k->l->r, "%s: new files have changed others:\n%s\nwas:\n%s",
			 describe(k->l, k->what, k->pos), text, k->text);
	if (!ret && !err)
		return text;
	free(text);
	return NULL;
}

static void look_main(void *arg)
{
	struct look *k = arg;
	u64 errors = k->flip ? 1 : look_check(k);
	struct shown s = {0};
	struct core *c;

	if (!k->flip && trand_below(&k->rng, 4) == 0 && !!look_check(k) != !!errors)
		sim_fail(&k->l->r, "%s: a second check does not agree",
			 describe(k->l, k->what, k->pos));
	k->clean = !errors;
	sim_bdev_arm(k->bdev, SIM_FAULT_READ_FLIP, k->flip, false);
	int ret = look_open(k, false, &c);

	k->told = ret;
	if (!ret) {
		k->text = show(k->l, &c->fs, k->first, k->pos, k->must_be, k->what, &s);
		k->told = !k->text;
		k->older = s.older;
	}
	if (k->clean && (ret || (k->told && !s.data_only)))
		sim_fail(&k->l->r, "%s: a check has found nothing, but %s",
			 describe(k->l, k->what, k->pos),
			 ret ? "it is refused" : "it cannot be read");
	if (ret)
		return;
	if (k->text && !k->must_be && !k->flip && !(k->l->lie == FLUSH && c->was_clean)) {
		char *text = look_work(k, c);

		k->worked = text;
		if (text) {
			free(k->text);
			k->text = text;
		}
	}
	core_abort(c);
}

static void look_do(struct look *k, const struct sim_image *img)
{
	struct sim_bdev_opts o = sim_dev_opts(&k->l->r.cfg);
	const struct sim_run *r = &k->l->r;

	snprintf(doing, DOING_SIZE, "%s", describe(k->l, k->what, k->pos));
	k->env = env_sim_create(r->cfg.seed + k->pos);
	env_sim_use_stacks(k->env, r->stacks);
	int ret = sim_bdev_create_from(k->env, "sim", &o, img, &k->bdev);

	sim_schedule(k->env, &r->cfg);
	ret = ret ?: env_sim_run(k->env, look_main, k);
	if (ret)
		sim_fail(r, "%s: the simulation ended with %s", doing, err_str(ret));
}

static void look_done(struct look *k)
{
	bdev_close(k->bdev);
	env_sim_destroy(k->env);
	free(k->text);
}

/* What was written after it had been opened, on a device that does as it says. */
static void look_again(struct look *before)
{
	struct sim_crash how = {.rule = trand_below(&before->rng, 2) ? SIM_CRASH_NONE
								     : SIM_CRASH_ALL};
	struct sim_image *img =
		sim_bdev_image_at(before->bdev, sim_bdev_log_len(before->bdev), &how);
	struct look k = {.l = before->l,
			 .pos = before->pos,
			 .rng = before->rng,
			 .what = "worked with, then cut off; before",
			 .must_be = before->text};

	look_do(&k, img);
	before->l->u->t->again += !k.told;
	look_done(&k);
	sim_image_free(img);
}

static struct count *count_of(const struct lied *l, enum lie lie, enum place place)
{
	return &l->u->t->c[lie][place];
}

static void look_count(struct look *k, struct count *n)
{
	n->images++;
	n->told += k->told;
	n->right += !k->told && !k->older;
	n->older += !k->told && k->older;
}

/* Of a recovery, one read flips a bit. */
static void look_flipped(struct look *like, const struct sim_image *img, u64 *rng)
{
	struct look k = {.l = like->l,
			 .pos = like->pos,
			 .rng = trand_u64(rng),
			 .what = "a read flips after a power cut",
			 .flip = 1 + trand_below(rng, 60)};
	struct sim_strike s;

	look_do(&k, img);
	if (sim_bdev_fault_struck(k.bdev, SIM_FAULT_READ_FLIP, &s)) {
		enum place p = place_of(k.l->u, img, s.offset, s.len, NULL);
		struct count *n = count_of(k.l, FLIP_RECOVERY, p);

		if (k.older && p != JOURNAL)
			sim_fail(&k.l->r, "%s: older than the last sync", doing);
		n->struck++;
		look_count(&k, n);
	}
	look_done(&k);
}

/*
 * What was struck is not needed: the other copies of a superblock do, a journal is not read after a
 * clean end, and what flips when it is read is right on the device.
 */
static bool is_needless(const struct lied *l, bool ended)
{
	if (l->lie == FLIP)
		return true;
	return (l->lie == LOST || l->lie == STALE) && !l->r.cfg.fault_sticky &&
	       (l->place == SUPERBLOCK || (l->place == JOURNAL && ended));
}

static void one_image(struct lied *l, u64 pos, const struct sim_crash *how, u64 *rng)
{
	struct sim_image *img = sim_bdev_image_at(l->r.bdev, pos, how);
	bool ended = pos == sim_bdev_log_len(l->r.bdev) && how->rule == SIM_CRASH_ALL;
	/* What was acknowledged may be gone, and nobody can know. */
	bool low = (l->in_journal && !ended) || (l->lie == FLUSH && how->rule != SIM_CRASH_ALL) ||
		   (l->lie != FLUSH && l->r.cfg.fault_sticky);
	struct look k = {.l = l,
			 .pos = pos,
			 .rng = trand_u64(rng),
			 .what = sim_crash_rule_name(how->rule),
			 .first = low ? 0 : sim_run_floor(&l->r, pos)};

	look_do(&k, img);
	if (k.told && is_needless(l, ended))
		sim_fail(&l->r, "%s: all that is needed is there, and yet not shown", doing);
	look_count(&k, count_of(l, l->lie, l->place));
	l->u->t->clean_checks += k.clean;
	if (k.worked)
		look_again(&k);
	look_done(&k);
	if (l->lie == FLIP)
		look_flipped(&k, img, rng);
	sim_image_free(img);
}

/* The next write before @at; false: there is none. */
static bool write_before(struct sim_run *r, u64 *at, struct sim_log_entry *e)
{
	while (*at > r->first_pos)
		if (sim_bdev_log_get(r->bdev, --*at, e) && e->kind == SIM_EV_SUBMIT &&
		    e->op == BDEV_WRITE)
			return true;
	return false;
}

/*
 * Flushes lied, and of what came later one kind is gone, from one of its writes on. Only without
 * discards, of which the log does not say which count.
 */
static void one_kind_lost(struct lied *l, u64 *rng)
{
	struct sim_run *r = &l->r;
	u64 end = sim_bdev_log_len(r->bdev), from = l->strike.pos, first = end, nr = 0;
	u64 pos = from + trand_below(rng, end - from + 1);
	struct sim_crash how = {.rule = SIM_CRASH_ALL};
	enum place p = trand_below(rng, PLACES);
	u32 i = sim_bdev_nr_pending(r->bdev, pos);
	u8 *subset = calloc(1, i / 8 + 1);
	struct sim_log_entry e;
	struct sim_image *img;

	if (l->lie != FLUSH || !r->cfg.fault_sticky || r->cfg.discard)
		goto out;
	img = sim_bdev_image_at(r->bdev, pos, &how);
	for (u64 at = pos; write_before(r, &at, &e) && at >= from;)
		if (place_of(l->u, img, e.offset, e.len, e.data) == p &&
		    trand_below(rng, ++nr) == 0)
			first = at;
	for (u64 at = pos; i && write_before(r, &at, &e);) {
		i--;
		if (at < first || place_of(l->u, img, e.offset, e.len, e.data) != p)
			subset[i / 8] |= (u8)(1U << i % 8);
	}
	sim_image_free(img);
	how = (struct sim_crash){.rule = SIM_CRASH_SUBSET, .subset = subset};
	one_image(l, pos, &how, rng);
out:
	free(subset);
}

/* ---- all ---- */

static void images(struct lied *l, u64 *rng)
{
	u64 end = sim_bdev_log_len(l->r.bdev), from = l->strike.pos;

	for (unsigned i = 0; i < IMAGES; i++) {
		u64 upto = i % 3 == 0	? min(from + 40, end)
			   : i % 3 == 1 ? max(l->ops_end, from)
					: end;
		struct sim_crash how = {.rule = trand_below(rng, SIM_CRASH_SUBSET),
					.seed = trand_u64(rng)};

		one_image(l, from + trand_below(rng, upto - from + 1), &how, rng);
	}
	one_image(l, end, &(struct sim_crash){.rule = SIM_CRASH_ALL}, rng);
	one_kind_lost(l, rng);
	one_kind_lost(l, rng);
}

static void run_do(struct lied *l, const struct sim_cfg *cfg)
{
	struct sim_counters *counters = calloc(1, sizeof(*counters));

	l->r.cfg = *cfg;
	snprintf(doing, DOING_SIZE, "%s", describe(l, "the run", 0));
	sim_run_do(&l->r, cfg, counters);
	free(counters);
}

/* Somewhere in what another request has written, or is going to; 0: anywhere. */
static u64 draw_target(const struct unit *u, u64 *rng)
{
	const struct list *l = &u->list;
	enum place p = trand_below(rng, PLACES);
	unsigned i = l->nr[p] ? (unsigned)trand_below(rng, l->nr[p]) : 0;

	if (!l->nr[p] || trand_below(rng, 4) == 0)
		return 0;
	return l->w[p][i].offset +
	       (trand_below(rng, 2) ? 0 : round_down(trand_below(rng, l->w[p][i].len), 512ULL));
}

static void one_lie(struct unit *u, enum lie lie, enum place place, u64 k, bool sticky, u64 *rng)
{
	struct lied *l = calloc(1, sizeof(*l));
	struct sim_cfg cfg = u->cfg;

	*l = (struct lied){.u = u, .lie = lie, .place = place};
	cfg.fault = lies[lie].fault;
	cfg.fault_at = k;
	cfg.fault_sticky = sticky;
	cfg.fault_to = lie == MISDIRECTED ? draw_target(u, rng) : 0;
	run_do(l, &cfg);
	if (!sim_bdev_fault_struck(l->r.bdev, cfg.fault, &l->strike)) {
		sim_check(&l->r, lie == FLIP || sticky, "%s: nothing was struck", doing);
		goto out;
	}
	if (lie == MISDIRECTED || lie == FLIP) {
		struct sim_crash how = {.rule = SIM_CRASH_ALL};
		struct sim_image *img = sim_bdev_image_at(l->r.bdev, l->strike.pos, &how);
		enum place hit = place_of(u, img, l->strike.to, l->strike.len, NULL);

		u->t->hit[hit] += lie == MISDIRECTED;
		l->in_journal = lie == MISDIRECTED && hit == JOURNAL;
		l->place = lie == FLIP ? hit : place;
		sim_image_free(img);
	}
	l->in_journal |= lie != FLIP && place == JOURNAL;
	count_of(l, lie, l->place)->struck++;
	images(l, rng);
out:
	sim_run_free(&l->r);
	free(l);
	u->t->runs++;
}

static struct sim_cfg make_cfg(u64 seed)
{
	u64 rng = seed * 0x9e3779b97f4a7c15ULL;
	struct sim_cfg c = {.seed = seed,
			    .lies = true,
			    .end = run_end,
			    .fault = SIM_FAULT_READ_FLIP,
			    .fault_at = UINT64_MAX / 2, /* of the run without a fault */
			    .block = trand_below(&rng, 3) ? 512 : 4096,
			    .extent_max = 8192U << trand_below(&rng, 3),
			    .compression = sim_compression(seed),
			    .background = sim_background(seed),
			    .gather = sim_gather(seed),
			    .encrypt = seed % 2,
			    .copies = sim_copies(seed),
			    .cache_bytes = 1,
			    .dev_bytes = 5ULL << 20,
			    .discard = trand_below(&rng, 2),
			    .flush_delay_ms = 100,
			    .prefill = 100,
			    .ops = 40};

	c.node = c.block == 512 ? 4096 : 16384;
	c.bucket = max(c.node, 16384U);
	c.journal = sim_small_journal_bytes(c.block, c.bucket);
	c.inline_max = sim_inline(&c, seed);
	return c;
}

/* The request that is struck; 0: there is none of that kind. */
static u64 draw(const struct unit *u, enum lie lie, enum place p, u64 *rng)
{
	const struct list *l = &u->list;

	if (lie < FLUSH)
		return l->nr[p] ? l->w[p][trand_below(rng, l->nr[p])].k : 0;
	if (p)
		return 0;
	return 1 + trand_below(rng, lie == FLUSH ? l->flushes : l->reads / 2);
}

static void one_run(u64 seed, struct totals *t)
{
	struct unit *u = calloc(1, sizeof(*u));
	struct lied *dry = calloc(1, sizeof(*dry));
	u64 rng = seed ^ 0x11e5;

	*u = (struct unit){.seed = seed, .cfg = make_cfg(seed), .t = t};
	*dry = (struct lied){.u = u, .lie = FLIP};
	run_do(dry, &u->cfg);
	make_list(u, &dry->r);
	u->list.reads = sim_bdev_fault_hits(dry->r.bdev, SIM_FAULT_READ_FLIP, NULL);
	sim_run_free(&dry->r);
	free(dry);
	for (unsigned lie = 0; lie < LIES; lie++)
		for (unsigned p = 0; p < PLACES; p++)
			for (unsigned i = 0; i < lies[lie].each; i++) {
				u64 k = draw(u, lie, p, &rng);

				if (k)
					one_lie(u, lie, p, k, i < lies[lie].sticky, &rng);
			}
	for (unsigned p = 0; p < PLACES; p++)
		free(u->list.w[p]);
	free(u->map.journal);
	free(u);
}

/* In a process of its own, which may die, or hang. */
static bool run_forked(u64 seed, struct totals *t)
{
	int status = 0;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		alarm(HANG_SECONDS);
		one_run(seed, t);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (!status)
		return true;
	if (WIFSIGNALED(status))
		fprintf(stderr, "FAILED: signal %d: %s\n", WTERMSIG(status), doing);
	fprintf(stderr, "replay: BCFS_TEST_SEED=%llu sim-lies\n", (unsigned long long)seed);
	return false;
}

#define ULL(v) ((unsigned long long)(v))

static void print_totals(const struct totals *t)
{
	u64 trials = 0;

	for (unsigned i = 0; i < LIES; i++)
		for (unsigned p = 0; p < PLACES; p++)
			trials += t->c[i][p].images;
	printf("%llu runs, %llu trials; %llu runs ended by what they met; a check found nothing in "
	       "%llu images; worked with %llu; misdirected to superblock %llu, journal %llu, node "
	       "%llu, elsewhere %llu\n",
	       ULL(t->runs), ULL(trials), ULL(t->ended), ULL(t->clean_checks), ULL(t->again),
	       ULL(t->hit[SUPERBLOCK]), ULL(t->hit[JOURNAL]), ULL(t->hit[NODE]), ULL(t->hit[DATA]));
	for (unsigned i = 0; i < LIES; i++) {
		for (unsigned p = 0; p < PLACES; p++) {
			const struct count *n = &t->c[i][p];

			if (n->struck)
				printf("  %-12s %-10s %llu: %llu images, %llu told, %llu right, "
				       "%llu older\n",
				       lies[i].name, i == FLUSH ? "" : place_names[p],
				       ULL(n->struck), ULL(n->images), ULL(n->told), ULL(n->right),
				       ULL(n->older));
		}
	}
}

/* Each kind of write was struck, and what must be told was. */
static bool enough(const struct totals *t)
{
	bool ok = t->c[FLUSH][0].told && t->c[FLUSH][0].older && t->again;

	for (unsigned i = 0; i < FLUSH; i++) {
		for (unsigned p = 0; p < PLACES; p++)
			ok &= t->c[i][p].struck && (t->c[i][p].told || p == SUPERBLOCK);
		ok &= t->c[i][JOURNAL].right && t->c[i][SUPERBLOCK].right;
	}
	if (!ok)
		fprintf(stderr, "FAILED: the runs do not reach what they should\n");
	return ok;
}

int main(void)
{
	const char *s = getenv("BCFS_SIM_SCALE");
	unsigned runs = s && atof(s) > 0 ? max((unsigned)(RUNS * atof(s) + 0.5), 1U) : RUNS;
	bool one = getenv("BCFS_TEST_SEED");
	u64 first = one ? trand_seed(0) : 1;
	struct totals *t = mmap(NULL, sizeof(*t) + DOING_SIZE, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (t == MAP_FAILED)
		return 2;
	doing = (char *)(t + 1);
	for (unsigned i = 0; i < (one ? 1 : runs); i++)
		if (!run_forked(first + i, t))
			return 1;
	print_totals(t);
	return runs >= RUNS && !one && !enough(t);
}
