/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Room in the ring. An entry lies wholly in one bucket; one that does not fit
 * the rest of the bucket goes to the next. An open entry holds a promise of the
 * most it may take; where it will lie is found by placing all promises that are not placed
 * yet, in order. (Placing smaller entries never needs more buckets than placing larger
 * ones, so the promise holds.)
 */
#include "journal/journal_private.h"
#include "util/planted.h"

static u32 pin_bytes(const struct journal *j)
{
	return journal_pin_bytes(j->opts.block_bytes);
}

static u32 bucket_payload(const struct journal *j)
{
	return journal_bucket_payload(j->bucket_bytes, j->opts.block_bytes);
}

/*
 * Kept for reclaim: as much as it takes to get rid of every pin there is, though nothing becomes
 * free meanwhile. Normal reservations stop here, so this also holds after a crash: what is
 * replayed pins no more than was pinned when the newest flush entry was opened.
 */
static u32 reclaim_buckets(const struct journal *j)
{
	u64 bytes = ((u64)j->nr_pins + j->slack_pins) * pin_bytes(j);

	return max_t(u64, DIV_ROUND_UP(bytes, bucket_payload(j)), j->reserve_buckets);
}

/* The most pins with which @buckets are enough for reclaim. */
static u32 pins_for(const struct journal *j, u32 buckets)
{
	u64 pins = (u64)buckets * bucket_payload(j) / pin_bytes(j);

	if (buckets < j->reserve_buckets || pins < j->slack_pins)
		return 0;
	return min_t(u64, pins - j->slack_pins, UINT32_MAX);
}

/* In a ring that is too small for all of it, as much as leaves others something. */
void journal_set_slack(struct journal *j)
{
	u64 all =
		(u64)(j->nr_buckets - JOURNAL_KEEP_RESTART - 1) * bucket_payload(j) / pin_bytes(j);

	j->slack_pins = min_t(u64, JOURNAL_SLACK_PINS, all * 2 / 3);
}

u32 journal_keep_buckets(const struct journal *j, enum journal_dig dig)
{
	switch (dig) {
	case JOURNAL_DIG_normal:
		return JOURNAL_KEEP_RESTART + reclaim_buckets(j);
	case JOURNAL_DIG_reclaim:
		return JOURNAL_KEEP_RESTART;
	case JOURNAL_DIG_internal:
		break;
	}
	return 0;
}

struct place {
	u32 ahead; /* buckets beyond the current one */
	u32 off;
};

static void place_one(const struct journal *j, struct place *p, u32 bytes)
{
	if (bytes > j->bucket_bytes - p->off) {
		p->ahead++;
		p->off = 0;
	}
	p->off += bytes;
}

/* Where the next entry will begin at the latest, all promises kept. */
static struct place place_promised(struct journal *j)
{
	struct place p = {.off = j->cur_off};

	for (u64 seq = j->seq_ondisk + 1; seq < j->cur_seq + journal_is_open(j); seq++)
		if (journal_buf_at(j, seq)->promise_bytes)
			place_one(j, &p, journal_buf_at(j, seq)->promise_bytes);
	return p;
}

/* Bytes for a new entry, between @least_bytes and @want_bytes; 0: no room. */
u32 journal_room_for(struct journal *j, u32 least_bytes, u32 want_bytes, enum journal_dig dig)
{
	u32 keep = journal_keep_buckets(j, dig);
	struct place p = place_promised(j);
	u32 rest = j->bucket_bytes - p.off;

	want_bytes = min(want_bytes, j->bucket_bytes);
	if (least_bytes > want_bytes)
		return 0;
	/* The rest of a bucket is good enough, unless it is a small part of what is wanted. */
	if (p.ahead + keep <= j->free_ahead && rest >= least_bytes && rest >= want_bytes / 4)
		return min(rest, want_bytes);
	if (p.ahead + 1 + keep <= j->free_ahead)
		return want_bytes;
	if (p.ahead + keep <= j->free_ahead && rest >= least_bytes)
		return rest;
	return 0;
}

static bool next_bucket(struct journal *j)
{
	if (!j->free_ahead)
		return false;
	j->free_ahead--;
	j->ended_ahead -= !!j->ended_ahead;
	j->cur_bucket++;
	if (j->cur_bucket == j->nr_buckets) {
		j->cur_bucket = 0;
		j->counters.wraps++;
	}
	j->cur_off = 0;
	j->buckets[j->cur_bucket].seq = 0;
	bdev_new_life(j->bdev, journal_bucket_offset(j, j->cur_bucket), j->bucket_bytes);
	return true;
}

bool journal_place(struct journal *j, struct journal_buf *buf, bool new_bucket)
{
	struct journal_bucket *b;

	if (new_bucket || buf->write_bytes > j->bucket_bytes - j->cur_off)
		if (!next_bucket(j))
			return false;
	b = &j->buckets[j->cur_bucket];
	buf->place = journal_bucket_offset(j, j->cur_bucket) + j->cur_off;
	buf->promise_bytes = 0;
	b->seq = max(b->seq, buf->seq);
	j->cur_off += buf->write_bytes;
	return true;
}

static struct journal_bucket *bucket_ahead(const struct journal *j, u32 n)
{
	return &j->buckets[(j->cur_bucket + n) % j->nr_buckets];
}

void journal_space_end(struct journal *j, u64 last_seq)
{
	while (j->ended_ahead + 1 < j->nr_buckets &&
	       bucket_ahead(j, j->ended_ahead + 1)->seq < last_seq) {
		j->ended_ahead++;
		bdev_end_life(
			j->bdev,
			journal_bucket_offset(j, (j->cur_bucket + j->ended_ahead) % j->nr_buckets),
			j->bucket_bytes, false);
	}
}

void journal_space_update(struct journal *j)
{
	struct place p = place_promised(j);
	u32 ahead, pins_max;

	while (j->free_ahead + 1 < j->nr_buckets &&
	       bucket_ahead(j, j->free_ahead + 1)->seq <
		       (planted(journal_freed_early) ? j->last_seq : j->last_seq_ondisk))
		j->free_ahead++;
	ahead = j->free_ahead - min(j->free_ahead, p.ahead + JOURNAL_KEEP_RESTART);
	pins_max = pins_for(j, ahead);
	j->pins_max = pins_max;
	if (ahead < j->reserve_buckets || j->nr_pins > pins_max) {
		if (journal_is_open(j))
			atomic_fetch_or(&j->state, ST_LOW);
	} else if (j->state & ST_LOW) {
		atomic_fetch_and(&j->state, ~ST_LOW);
	}
	if (j->nr_waiting && !(j->state & ST_LOW))
		env_cond_broadcast(&j->wait);
}

bool journal_is_very_low(struct journal *j)
{
	u64 bytes;
	u32 used;
	bool ret;

	env_mutex_lock(&j->lock);
	used = place_promised(j).ahead + JOURNAL_KEEP_RESTART;
	bytes = ((u64)j->nr_pins + j->slack_pins / 2) * pin_bytes(j);
	ret = j->free_ahead < used + DIV_ROUND_UP(bytes, bucket_payload(j));
	env_mutex_unlock(&j->lock);
	return ret;
}

u32 journal_freeable(const struct journal *j)
{
	u64 last_seq = j->last_seq;
	u32 n = 0;

	while (j->free_ahead + 1 + n < j->nr_buckets &&
	       bucket_ahead(j, j->free_ahead + 1 + n)->seq < last_seq)
		n++;
	return n;
}

u64 journal_space_target(const struct journal *j)
{
	u32 keep = journal_keep_buckets(j, JOURNAL_DIG_normal);
	u32 want = max(j->nr_buckets / 2, keep + 1);
	u64 seq = 0;

	/* The pins want more than there is: the newest, too, have to go. */
	if (keep >= j->free_ahead && j->nr_pins)
		return j->cur_seq;

	for (u32 n = j->free_ahead; n < want && n + 1 < j->nr_buckets; n++)
		seq = max(seq, bucket_ahead(j, n + 1)->seq);
	return seq;
}

/*
 * Choose where to begin: after a crash behind the newest entry that counts, in its own bucket. What
 * lies there from entries that were lost is nobody's any more (their seqs are blacklisted before
 * this session writes), so the rest of the bucket begins a new life; if each session began a bucket
 * of its own, crashes in recovery would use up the ring. After a clean close all is free: in
 * another bucket each time.
 */
void journal_space_init(struct journal *j, u64 newest_seq)
{
	u32 newest = 0;

	if (!j->reading_done) {
		newest = newest_seq % j->nr_buckets;
		for (u32 i = 0; i < j->nr_buckets; i++)
			j->buckets[i].seq = 0;
	} else {
		for (u32 i = 1; i < j->nr_buckets; i++)
			if (j->buckets[i].seq > j->buckets[newest].seq)
				newest = i;
	}
	j->cur_bucket = newest;
	j->cur_off = j->reading_done ? j->resume_off : j->bucket_bytes;
	/* What is left from former sessions is as the keys and the journal say. */
	bdev_end_life(j->bdev, 0, j->bdev->size_bytes, true);
	if (j->cur_off < j->bucket_bytes)
		bdev_new_life(j->bdev, journal_bucket_offset(j, newest) + j->cur_off,
			      j->bucket_bytes - j->cur_off);
	j->free_ahead = j->ended_ahead = 0;
	journal_space_update(j);
	j->ended_ahead = j->free_ahead;
}
