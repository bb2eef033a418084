/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Room in the ring. An entry lies wholly in one bucket; one that does not fit
 * the rest of the bucket goes to the next. An open entry holds a promise of the
 * most it may take; where it will lie is found by placing all promises that are not placed
 * yet, in order. (Placing smaller entries never needs more buckets than placing larger
 * ones, so the promise holds.)
 *
 * Who may take what (doc/adr/0017): P is the number of pins there are and may yet come from
 * reservations that are held.
 *
 *  - The free buckets, but for one to begin in after a crash, are enough for P + slack
 *    entries of their own. A normal reservation that would end this waits.
 *  - P + slack entries of their own take half of the ring at most. A reservation that would
 *    end this waits, too; so when all pins of one moment are gone and what is older is free,
 *    there is as much room again for the pins that came from that.
 *  - One that promises more than that ever lets it, or comes while reclaim's own pins are as
 *    many as that, is let in alone: half of the ring is free, the pins are no more than slack,
 *    and nobody else may add any meanwhile.
 */
#include "journal/journal_private.h"
#include "util/planted.h"

/* Where in the ring a pin's entry of its own may lie: bytes. */
static u32 pin_entry_bytes(u32 root_u64s, u32 block_bytes)
{
	return round_up(journal_fixed_bytes(root_u64s) + JOURNAL_PIN_BYTES, block_bytes);
}

/* What is neither kept for the pins nor for those that come from them: the bucket being filled, one
 * for what is promised, one to begin in after a crash, and what the last entry of each part leaves
 * of its bucket. */
#define BUCKETS_BESIDE (JOURNAL_KEEP_RESTART + 3)

u64 journal_min_bytes(u32 block_bytes, u32 bucket_sectors)
{
	u64 bucket = max((u64)bucket_sectors * SECTOR_SIZE, (u64)JOURNAL_BUCKET_BYTES_MIN);
	u64 per_bucket = max(bucket / pin_entry_bytes(JOURNAL_ROOT_U64s, block_bytes), 1ULL);
	u64 half = DIV_ROUND_UP(JOURNAL_SLACK_PINS + JOURNAL_USER_PINS, per_bucket);

	return bucket * max_t(u64, 2 * half + BUCKETS_BESIDE, JOURNAL_BUCKETS_MIN);
}

/*
 * In a ring that is too small for it (earlier versions made such) a pin is reckoned as what it
 * takes when it shares its entry with others, and slack as what there is.
 */
void journal_set_reserve(struct journal *j)
{
	const u32 wanted = JOURNAL_SLACK_PINS + JOURNAL_USER_PINS;

	j->half_buckets = (j->nr_buckets - BUCKETS_BESIDE) / 2;
	j->reserve_buckets = min(j->reserve_buckets, j->half_buckets);
	j->pins_num = max(j->bucket_bytes / pin_entry_bytes(j->root_u64s, j->opts.block_bytes), 1U);
	j->pins_den = 1;
	if ((u64)j->half_buckets * j->pins_num < wanted) {
		u64 shared = (u64)j->half_buckets * j->bucket_bytes /
			     max(JOURNAL_PIN_BYTES, j->opts.block_bytes);

		j->pins_num = min_t(u64, max(shared, (u64)j->half_buckets * j->pins_num), wanted);
		j->pins_den = j->half_buckets;
	}
	j->slack_pins =
		min_t(u64, JOURNAL_SLACK_PINS, (u64)j->half_buckets * j->pins_num / j->pins_den);
}

/* So many pins are got rid of in @buckets, each in an entry of its own; without slack. */
static u32 pins_for(const struct journal *j, u32 buckets)
{
	u64 pins = (u64)min(buckets, j->half_buckets) * j->pins_num / j->pins_den;

	if (buckets < j->reserve_buckets || pins < j->slack_pins)
		return 0;
	return min_t(u64, pins - j->slack_pins, UINT32_MAX);
}

u32 journal_keep_buckets(const struct journal *j, enum journal_dig dig)
{
	u64 pins = (u64)j->nr_pins + j->promised + j->slack_pins;

	switch (dig) {
	case JOURNAL_DIG_normal:
		return JOURNAL_KEEP_RESTART + max_t(u64,
						    DIV_ROUND_UP(pins * j->pins_den, j->pins_num),
						    j->reserve_buckets);
	case JOURNAL_DIG_alone:
		return JOURNAL_KEEP_RESTART + j->half_buckets;
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
	/* The rest of a bucket is good enough, unless it is a small part of what is wanted. What is
	 * kept for reclaim is reckoned by entries that leave no such rest. */
	if (p.ahead + keep <= j->free_ahead && rest >= least_bytes &&
	    (rest >= want_bytes / 4 || dig != JOURNAL_DIG_normal))
		return min(rest, want_bytes);
	if (p.ahead + 1 + keep <= j->free_ahead)
		return want_bytes;
	if (p.ahead + keep <= j->free_ahead && rest >= least_bytes)
		return rest;
	return 0;
}

u32 journal_closed_bytes(const struct journal *j, const struct journal_buf *buf, u32 u64s)
{
	u32 bytes = j->fixed_bytes + u64s * sizeof(u64);

	return min(buf->promise_bytes, round_up(bytes, j->opts.block_bytes));
}

u32 journal_room_behind_open(struct journal *j, u32 least_bytes, u32 want_bytes,
			     enum journal_dig dig)
{
	struct journal_buf *buf = &j->bufs[st_idx(j->state)];
	u32 promised = buf->promise_bytes, ret;

	buf->promise_bytes = journal_closed_bytes(j, buf, buf->cap - st_left(j->state));
	ret = journal_room_for(j, least_bytes, want_bytes, dig);
	buf->promise_bytes = promised;
	return ret;
}

bool journal_admits(struct journal *j, u32 pins, enum journal_dig *ret_dig)
{
	*ret_dig = JOURNAL_DIG_normal;
	if ((u64)j->nr_pins + j->promised <= j->pins_max)
		return true;
	*ret_dig = JOURNAL_DIG_alone;
	return j->promised == pins && j->nr_pins <= j->slack_pins &&
	       place_promised(j).ahead + journal_keep_buckets(j, JOURNAL_DIG_alone) <=
		       j->free_ahead;
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

/* When it is durable there is another one to begin in. */
static bool frees_a_bucket(const struct journal *j, const struct journal_buf *buf)
{
	return buf->flush && j->free_ahead + 1 < j->nr_buckets &&
	       bucket_ahead(j, j->free_ahead + 1)->seq < buf->last_seq;
}

bool journal_place_again(struct journal *j, struct journal_buf *buf, bool new_bucket)
{
	u32 keep = frees_a_bucket(j, buf) ? 0 : JOURNAL_KEEP_RESTART;
	bool spare = place_promised(j).ahead + keep < j->free_ahead;

	if (!spare && buf->write_bytes > j->bucket_bytes - j->cur_off)
		return false;
	return journal_place(j, buf, new_bucket && spare);
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
	if (j->nr_waiting &&
	    (!(j->state & ST_LOW) || (!j->promised && j->nr_pins <= j->slack_pins)))
		env_cond_broadcast(&j->wait);
}

bool journal_is_very_low(struct journal *j)
{
	u32 used;
	u64 pins;
	bool ret;

	env_mutex_lock(&j->lock);
	used = place_promised(j).ahead + JOURNAL_KEEP_RESTART;
	pins = (u64)j->nr_pins + j->promised + j->slack_pins / 2;
	ret = j->free_ahead < used + DIV_ROUND_UP(pins * j->pins_den, j->pins_num);
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

/*
 * When there is little room those pins have to go that there were at one moment, and what is older
 * than they has to be free, before newer ones are looked at. For each node that is written leaves
 * others to be written, and there is room kept for the former alone; to go after the latter at
 * once would use up what the flushes free, for ever, or what the oldest pin needs.
 */
static u64 journal_round(struct journal *j)
{
	if (!journal_pins_upto(j, j->round) && !journal_freeable(j))
		j->round = j->cur_seq - !journal_is_open(j);
	return j->round;
}

u64 journal_space_target(struct journal *j, u64 aged)
{
	u32 want = j->nr_buckets / 2 + 1, most = pins_for(j, j->half_buckets);
	bool many = j->nr_pins > j->slack_pins &&
		    (j->nr_pins > most / 4 * 3 || (u64)j->nr_pins + j->waiting_pins > most);
	u64 seq = aged;

	if (j->free_ahead >= want && !many)
		return aged;
	for (u32 n = j->free_ahead; n < want && n + 1 < j->nr_buckets; n++)
		seq = max(seq, bucket_ahead(j, n + 1)->seq);
	return min(many ? UINT64_MAX : seq, journal_round(j));
}

/*
 * While there is not enough for all pins those of the oldest bucket go alone: so each bucket that
 * was filled by getting rid of older pins is behind them, also after a crash.
 */
u64 journal_flush_limit(const struct journal *j)
{
	u64 last_seq = j->last_seq;

	if (j->free_ahead >= journal_keep_buckets(j, JOURNAL_DIG_normal))
		return UINT64_MAX;
	for (u32 n = j->free_ahead + 1; n < j->nr_buckets; n++)
		if (bucket_ahead(j, n)->seq >= last_seq)
			return bucket_ahead(j, n)->seq;
	return UINT64_MAX;
}

/*
 * Choose where to begin: after a crash behind the newest entry that counts, in its own bucket (or
 * see resume_bucket()). What
 * lies there from entries that were lost is nobody's any more (their seqs are blacklisted before
 * this session writes), so the rest of the bucket begins a new life; if each session began a bucket
 * of its own, crashes in recovery would use up the ring. After a clean close all is free.
 */
void journal_space_init(struct journal *j, u64 newest_seq)
{
	u32 newest = 0;

	if (!j->reading_done) {
		newest = (journal_first_bucket(j, newest_seq) + j->nr_buckets - 1) % j->nr_buckets;
		for (u32 i = 0; i < j->nr_buckets; i++)
			j->buckets[i].seq = 0;
	} else {
		newest = j->resume_bucket;
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
