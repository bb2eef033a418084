/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The log of the simulated device and what may be on the media after a crash.
 *
 * A cursor walks the log: it holds the durable image at its position and the
 * requests that are pending there. Moving forward is cheap; going back starts
 * again from `base`. A crash state is a clone of the cursor's image with some of
 * the pending requests applied.
 *
 * A pending write may reach the media after a newer one that is durable already
 * (FUA; or flushed, when the older one failed and left a part in the cache). Where
 * both cover a sector the cache held only the newer one, so the older is dead
 * there: struct sim_pending.dead.
 */
#include "dev/sim_bdev_private.h"

#include <stdlib.h>
#include <xxhash.h>

/* ---- applying ---- */

void sim_req_apply(struct sim_image *img, const struct sim_req *req)
{
	if (req->data)
		sim_image_write(img, req->offset, req->data, req->len);
	else if (req->op == BDEV_DISCARD)
		sim_image_zero(img, req->offset, req->len);
}

static void apply_sector(struct sim_image *img, const struct sim_req *req, u64 i)
{
	u64 off = i << SECTOR_SHIFT, len = min_t(u64, SECTOR_SIZE, req->len - off);

	if (req->data)
		sim_image_write(img, req->offset + off, req->data + off, len);
	else
		sim_image_zero(img, req->offset + off, len);
}

static u64 nr_sectors(const struct sim_req *req)
{
	return DIV_ROUND_UP(req->len, SECTOR_SIZE);
}

static bool is_dead(const struct sim_pending *p, u64 i)
{
	return p->dead && (p->dead[i / 8] >> (i % 8) & 1);
}

/* How much of a request survives. */
struct tear {
	u64 first, end; /* sectors of the request */
	bool random;	/* of these, each with even chance */
	u64 seed;
};

static void apply_pending(struct sim_image *img, const struct sim_pending *p, struct tear *tear)
{
	u64 nr = nr_sectors(p->req);

	if (!tear && !p->dead) {
		sim_req_apply(img, p->req);
		return;
	}
	for (u64 i = 0; i < nr; i++) {
		if (is_dead(p, i) || (tear && (i < tear->first || i >= tear->end)))
			continue;
		if (tear && tear->random && sim_mix(&tear->seed) & 1)
			continue;
		apply_sector(img, p->req, i);
	}
}

/* ---- the cursor ---- */

static void pending_add(struct sim_cursor *c, struct sim_req *req)
{
	if (c->nr == c->max) {
		c->max = max(16U, c->max * 2);
		c->pending = realloc(c->pending, c->max * sizeof(c->pending[0]));
		if (!c->pending)
			abort();
	}
	c->pending[c->nr++] = (struct sim_pending){.req = req, .complete_pos = UINT64_MAX};
}

static void cursor_clear(struct sim_cursor *c)
{
	for (u32 i = 0; i < c->nr; i++)
		free(c->pending[i].dead);
	c->nr = 0;
}

/* In no_log the request dies with its last use. */
static void req_release(struct sim_bdev *d, struct sim_req *req)
{
	if (!d->opts.no_log)
		return;
	free(req->data);
	free(req);
}

static void pending_del(struct sim_cursor *c, u32 i)
{
	free(c->pending[i].dead);
	memmove(&c->pending[i], &c->pending[i + 1], (c->nr - i - 1) * sizeof(c->pending[0]));
	c->nr--;
}

/* req is durable now: what is older and still pending is dead where req covers it. */
static void kill_older(struct sim_cursor *c, const struct sim_req *req)
{
	for (u32 i = 0; i < c->nr; i++) {
		struct sim_pending *p = &c->pending[i];
		const struct sim_req *o = p->req;

		if (p->complete_pos > req->submit_pos || o->offset >= req->offset + req->len ||
		    req->offset >= o->offset + o->len)
			continue;
		if (!p->dead)
			p->dead = sim_xalloc(DIV_ROUND_UP(nr_sectors(o), 8));
		for (u64 s = 0; s < nr_sectors(o); s++) {
			u64 start = o->offset + (s << SECTOR_SHIFT);

			if (start >= req->offset && start + SECTOR_SIZE <= req->offset + req->len)
				p->dead[s / 8] |= (u8)(1U << (s % 8));
		}
	}
}

static int cmp_complete(const void *a, const void *b)
{
	const struct sim_pending *const *l = a, *const *r = b;

	if ((*l)->complete_pos != (*r)->complete_pos)
		return cmp_int((*l)->complete_pos, (*r)->complete_pos);
	return cmp_int((*l)->req->submit_pos, (*r)->req->submit_pos);
}

/* Pending requests as the cache would write them: by completion, then those in flight. */
static struct sim_pending **pending_sorted(struct sim_cursor *c)
{
	struct sim_pending **v = sim_xalloc(c->nr * sizeof(v[0]));

	for (u32 i = 0; i < c->nr; i++)
		v[i] = &c->pending[i];
	qsort(v, c->nr, sizeof(v[0]), cmp_complete);
	return v;
}

static void cursor_flush(struct sim_bdev *d, struct sim_cursor *c, const struct sim_req *flush)
{
	struct sim_pending **v = pending_sorted(c);
	u32 nr = c->nr, kept = 0;

	for (u32 i = 0; i < nr; i++) {
		if (v[i]->complete_pos >= flush->submit_pos || v[i]->req->ret)
			continue;
		apply_pending(c->durable, v[i], NULL);
		kill_older(c, v[i]->req); /* one that failed stays pending */
	}
	free(v);
	for (u32 i = 0; i < nr; i++) {
		struct sim_pending *p = &c->pending[i];

		if (p->complete_pos < flush->submit_pos && !p->req->ret) {
			free(p->dead);
			req_release(d, p->req);
		} else {
			c->pending[kept++] = *p;
		}
	}
	c->nr = kept;
}

static void cursor_complete(struct sim_bdev *d, struct sim_cursor *c, struct sim_req *req, u64 pos)
{
	u32 i = 0;

	if (req->op == BDEV_FLUSH) {
		if (!req->ret && !req->lies)
			cursor_flush(d, c, req);
		req_release(d, req);
		return;
	}
	while (i < c->nr && c->pending[i].req != req)
		i++;
	if (i == c->nr) { /* lost or stale, or lost with the cache */
		req_release(d, req);
		return;
	}
	if (!(req->flags & BDEV_FUA) || req->lies || req->ret) {
		c->pending[i].complete_pos = pos;
		return;
	}
	apply_pending(c->durable, &c->pending[i], NULL);
	pending_del(c, i);
	kill_older(c, req);
	req_release(d, req);
}

static void cursor_cache_lost(struct sim_bdev *d, struct sim_cursor *c)
{
	for (u32 i = 0; i < c->nr; i++) {
		free(c->pending[i].dead);
		/* One that is in flight is released by its completion. */
		if (c->pending[i].complete_pos != UINT64_MAX)
			req_release(d, c->pending[i].req);
	}
	c->nr = 0;
}

static void cursor_event(struct sim_bdev *d, struct sim_cursor *c, const struct sim_event *ev)
{
	struct sim_req *req = ev->req;

	switch (ev->kind) {
	case SIM_EV_SUBMIT:
		if (req->op != BDEV_FLUSH && !req->lost && !req->stale)
			pending_add(c, req);
		break;
	case SIM_EV_COMPLETE:
		cursor_complete(d, c, req, c->pos);
		break;
	case SIM_EV_CACHE_LOST:
		cursor_cache_lost(d, c);
		break;
	}
	c->pos++;
}

static void cursor_reset(struct sim_bdev *d, struct sim_cursor *c)
{
	cursor_clear(c);
	sim_image_free(c->durable);
	c->durable = sim_image_clone(d->base);
	c->pos = d->log_start;
}

static bool cursor_seek(struct sim_bdev *d, u64 pos)
{
	struct sim_cursor *c = &d->cursor;

	if (pos > d->log_len || pos < d->log_start || (d->opts.no_log && pos != d->log_len))
		return false;
	if (pos < c->pos)
		cursor_reset(d, c);
	while (c->pos < pos)
		cursor_event(d, c, &d->events[c->pos - d->log_start]);
	return true;
}

/* ---- recording ---- */

void sim_log_init(struct sim_bdev *d)
{
	cursor_reset(d, &d->cursor);
}

static void hash_event(struct sim_bdev *d, enum sim_event_kind kind, const struct sim_req *req)
{
	u64 v[8] = {d->log_hash, (u64)kind, env_mono_ns(d->b.env)};

	if (req) {
		v[3] = req->id;
		v[4] = (u64)req->op | (u64)req->flags << 32;
		v[5] = req->offset;
		v[6] = req->len;
		if (kind == SIM_EV_SUBMIT && req->data)
			v[7] = XXH3_64bits(req->data, req->len);
		else if (kind == SIM_EV_COMPLETE)
			v[7] = (u64)(s64)req->ret;
	}
	d->log_hash = XXH3_64bits(v, sizeof(v));
}

void sim_log_event(struct sim_bdev *d, enum sim_event_kind kind, struct sim_req *req)
{
	struct sim_event ev = {kind, req, env_mono_ns(d->b.env)};

	hash_event(d, kind, req);
	if (kind == SIM_EV_SUBMIT) {
		req->submit_pos = d->log_len;
		req->complete_pos = UINT64_MAX;
	} else if (kind == SIM_EV_COMPLETE) {
		req->complete_pos = d->log_len;
	}
	if (d->opts.no_log) {
		d->log_len++;
		cursor_event(d, &d->cursor, &ev);
		return;
	}
	if (d->log_len - d->log_start == d->max_events) {
		d->max_events = max_t(u64, 256, d->max_events * 2);
		d->events = realloc(d->events, d->max_events * sizeof(d->events[0]));
		if (!d->events)
			abort();
	}
	d->events[d->log_len++ - d->log_start] = ev;
}

void sim_log_settle(struct sim_bdev *d)
{
	cursor_seek(d, d->log_len);
}

static void free_events(struct sim_bdev *d)
{
	for (u64 i = 0; !d->opts.no_log && i < d->log_len - d->log_start; i++) {
		if (d->events[i].kind != SIM_EV_SUBMIT)
			continue;
		free(d->events[i].req->data);
		free(d->events[i].req);
	}
}

void sim_log_exit(struct sim_bdev *d)
{
	if (d->opts.no_log)
		for (u32 i = 0; i < d->cursor.nr; i++)
			if (d->cursor.pending[i].complete_pos != UINT64_MAX)
				req_release(d, d->cursor.pending[i].req);
	free_events(d);
	cursor_clear(&d->cursor);
	free(d->cursor.pending);
	sim_image_free(d->cursor.durable);
	sim_image_free(d->base);
	free(d->events);
}

void sim_bdev_log_reset(struct bdev *bdev)
{
	struct sim_bdev *d = to_sim(bdev);

	bdev_drain(bdev); /* a request in flight is in two minds */
	if (d->opts.no_log)
		cursor_cache_lost(d, &d->cursor);
	free_events(d);
	sim_image_free(d->base);
	d->base = sim_image_clone(d->current);
	d->log_start = d->log_len;
	cursor_reset(d, &d->cursor);
	sim_watch_reset(d);
}

u64 sim_bdev_log_len(struct bdev *bdev)
{
	return to_sim(bdev)->log_len;
}
u64 sim_bdev_log_hash(struct bdev *bdev)
{
	return to_sim(bdev)->log_hash;
}

u64 sim_bdev_log_start(struct bdev *bdev)
{
	return to_sim(bdev)->log_start;
}

bool sim_bdev_log_get(struct bdev *bdev, u64 pos, struct sim_log_entry *ret)
{
	struct sim_bdev *d = to_sim(bdev);
	const struct sim_event *ev;

	if (pos < d->log_start || pos >= d->log_len || d->opts.no_log)
		return false;
	ev = &d->events[pos - d->log_start];
	*ret = (struct sim_log_entry){.kind = ev->kind, .when_ns = ev->when_ns};
	if (ev->req) {
		ret->op = ev->req->op;
		ret->flags = ev->req->flags;
		ret->id = ev->req->id;
		ret->offset = ev->req->offset;
		ret->len = ev->req->len;
		ret->data = ev->req->data;
		ret->ret = ev->kind == SIM_EV_COMPLETE ? ev->req->ret : 0;
	}
	return true;
}

u32 sim_bdev_nr_pending(struct bdev *bdev, u64 pos)
{
	struct sim_bdev *d = to_sim(bdev);

	return cursor_seek(d, pos) ? d->cursor.nr : 0;
}

/* ---- crash states ---- */

const char *sim_crash_rule_name(enum sim_crash_rule rule)
{
	static const char *const names[SIM_CRASH_RULE_NR] = {
		[SIM_CRASH_NONE] = "none",	     [SIM_CRASH_ALL] = "all",
		[SIM_CRASH_PREFIX] = "prefix",	     [SIM_CRASH_DROP_ONE] = "drop-one",
		[SIM_CRASH_KEEP_ONE] = "keep-one",   [SIM_CRASH_RANDOM] = "random",
		[SIM_CRASH_TORN_LAST] = "torn-last", [SIM_CRASH_TORN] = "torn",
		[SIM_CRASH_SUBSET] = "subset",
	};

	return rule < SIM_CRASH_RULE_NR ? names[rule] : "?";
}

/* A part of a request: a prefix, a suffix or random sectors. */
static struct tear make_tear(const struct sim_req *req, u64 *rng)
{
	u64 nr = nr_sectors(req);
	struct tear t = {.first = 0, .end = nr};

	switch (sim_mix(rng) % 3) {
	case 0:
		t.end = sim_mix(rng) % (nr + 1);
		break;
	case 1:
		t.first = sim_mix(rng) % (nr + 1);
		break;
	default:
		t.random = true;
		t.seed = sim_mix(rng);
	}
	return t;
}

static void shuffle(struct sim_pending **v, u32 nr, u64 *rng)
{
	for (u32 i = nr; i > 1; i--) {
		u32 j = (u32)(sim_mix(rng) % i);

		swap(v[i - 1], v[j]);
	}
}

static bool survives(const struct sim_crash *crash, u32 i, u32 nr, u64 share, u64 *rng)
{
	switch (crash->rule) {
	case SIM_CRASH_NONE:
		return false;
	case SIM_CRASH_PREFIX:
		return i < crash->seed % (nr + 1);
	case SIM_CRASH_DROP_ONE:
		return i != crash->seed % nr;
	case SIM_CRASH_KEEP_ONE:
		return i == crash->seed % nr;
	case SIM_CRASH_RANDOM:
	case SIM_CRASH_TORN:
		return sim_mix(rng) % 4 < share;
	case SIM_CRASH_SUBSET:
		return crash->subset[i / 8] >> (i % 8) & 1;
	case SIM_CRASH_ALL:
	case SIM_CRASH_TORN_LAST:
	case SIM_CRASH_RULE_NR:
		break;
	}
	return true;
}

static void apply_crash(struct sim_image *img, struct sim_cursor *c, const struct sim_crash *crash)
{
	struct sim_pending **v = pending_sorted(c);
	bool random = crash->rule == SIM_CRASH_RANDOM || crash->rule == SIM_CRASH_TORN;
	u64 rng = crash->seed, share = 1 + sim_mix(&rng) % 3;

	if (random)
		shuffle(v, c->nr, &rng);
	for (u32 i = 0; i < c->nr; i++) {
		bool torn = crash->rule == SIM_CRASH_TORN ||
			    (crash->rule == SIM_CRASH_TORN_LAST && i + 1 == c->nr);
		struct tear tear;

		if (!survives(crash, i, c->nr, share, &rng))
			continue;
		if (torn)
			tear = make_tear(v[i]->req, &rng);
		apply_pending(img, v[i], torn ? &tear : NULL);
	}
	free(v);
}

struct sim_image *sim_bdev_image_at(struct bdev *bdev, u64 pos, const struct sim_crash *crash)
{
	struct sim_bdev *d = to_sim(bdev);
	struct sim_image *img;

	if (!cursor_seek(d, pos))
		return NULL;
	img = sim_image_clone(d->cursor.durable);
	apply_crash(img, &d->cursor, crash);
	return img;
}

struct sim_image *sim_bdev_crash(struct bdev *bdev, const struct sim_crash *crash)
{
	return sim_bdev_image_at(bdev, sim_bdev_log_len(bdev), crash);
}

/* ---- lives that a crash does not end ---- */

/* Writes to [offset, offset + len) of which the image has nothing never happened. */
static void unwrite_lost(struct sim_bdev *to, const struct sim_req *req)
{
	u8 buf[SECTOR_SIZE];

	for (u64 i = 0; i < nr_sectors(req); i++) {
		u64 off = i << SECTOR_SHIFT, s = (req->offset + off) >> SECTOR_SHIFT;

		sim_bdev_peek(&to->b, req->offset + off, buf, SECTOR_SIZE);
		/* Zeroes: who can tell. */
		if (memcmp(buf, req->data + off, SECTOR_SIZE) ||
		    (!buf[0] && !memcmp(buf, buf + 1, SECTOR_SIZE - 1)))
			to->written[s / 32] &= ~(1U << (s % 32));
	}
}

bool sim_bdev_inherit_lives(struct bdev *to_bdev, struct bdev *from_bdev, u64 pos)
{
	struct sim_bdev *to = to_sim(to_bdev), *from = to_sim(from_bdev);
	u32 life = 0;

	if (from->opts.no_log || !cursor_seek(from, pos))
		return false;
	free(to->watched);
	free(to->written);
	free(to->ended);
	to->watched = to->written = to->ended = NULL;
	sim_watch_begin(to, 0, 0);
	if (from->base_watched) {
		u64 bytes = ((from_bdev->size_bytes >> SECTOR_SHIFT) / 32 + 1) * sizeof(u32);

		memcpy(to->watched, from->base_watched, bytes);
		memcpy(to->written, from->base_written, bytes);
	}
	for (u64 p = from->log_start; p < pos; p++) {
		const struct sim_event *ev = &from->events[p - from->log_start];

		for (; life < from->nr_lives && from->lives[life].pos <= p; life++)
			sim_watch_begin(to, from->lives[life].offset, from->lives[life].len);
		if (ev->kind == SIM_EV_SUBMIT && ev->req->data && !ev->req->lost)
			sim_watch_mark(to, ev->req->offset, ev->req->len);
	}
	for (u32 i = 0; i < from->cursor.nr; i++)
		if (from->cursor.pending[i].req->data)
			unwrite_lost(to, from->cursor.pending[i].req);
	/* What of it was in use the image's own session finds out. */
	to->nr_ends = 0;
	sim_bdev_end_life(to_bdev, 0, to_bdev->size_bytes, true);
	to->nr_lives = 0;
	sim_watch_reset(to);
	return true;
}
