/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading the ring after a crash. Every bucket is scanned block by block for
 * headers with our magic; what verifies is kept if it may still be needed. The newest
 * valid flush entry decides: it and what its last_seq asks for must be whole, anything newer is
 * dropped. Nothing found on the device is trusted beyond what has been checked.
 */
#include "journal/journal_private.h"
#include "util/planted.h"

#include <stdlib.h>
#include <string.h>

#define ULL(v)	   ((unsigned long long)(v))

#define READ_AGAIN 16U

/* A header that carried our magic but did not verify: for messages. */
struct bad_entry {
	u64 seq, sector;
	bool used;
};

struct reader {
	struct journal *j;
	const struct journal_blacklist_range *bl;
	unsigned nr_bl;
	char *bucket;
	struct journal_replay_entry *e;
	size_t nr, size;
	u64 flush_seq, last_seq; /* of the newest flush entry so far */
	u64 max_seen;
	struct bad_entry bad[64]; /* a sample */
	unsigned nr_bad;
	/* Blocks that could not be read. */
	u8 *unreadable;	   /* per bucket: 1, some of it */
	unsigned nr_again; /* how often something was read once more */
	unsigned nr_unreadable;
	u64 first_unreadable; /* sector */
	u32 flush_bucket;     /* where the newest flush entry lies */
	u64 newest_seq;	      /* of any entry that is not history; 0: none */
	u32 newest_bucket;
};

static int entry_keep(struct reader *r, u32 bucket, const struct jset *s, u64 sector)
{
	u64 bytes = jset_bytes(s);
	struct jset *copy;

	if (r->nr == r->size) {
		size_t size = max_t(size_t, r->size * 2, 64);
		void *n = env_realloc(r->j->env, r->e, size * sizeof(*r->e));

		if (!n)
			return -BCFS_ERR_nomem;
		r->e = n;
		r->size = size;
	}
	copy = env_malloc(r->j->env, bytes);
	if (!copy)
		return -BCFS_ERR_nomem;
	memcpy(copy, s, bytes);
	r->e[r->nr++] = (struct journal_replay_entry){
		.seq = s->seq,
		.sector = sector,
		.bucket = bucket,
		.noflush = s->flags & JSET_NO_FLUSH,
		.j = copy,
	};
	return 0;
}

/* Entries older than what the newest flush entry needs: memory stays bounded. */
static void drop_old(struct reader *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->nr; i++) {
		if (r->e[i].seq < r->last_seq)
			env_free(r->j->env, r->e[i].j);
		else
			r->e[n++] = r->e[i];
	}
	r->nr = n;
}

static void note_bad(struct reader *r, u64 seq, u64 sector)
{
	if (r->nr_bad < ARRAY_SIZE(r->bad))
		r->bad[r->nr_bad] = (struct bad_entry){.seq = seq, .sector = sector};
	r->nr_bad++;
}

static bool blacklisted(const struct reader *r, u64 seq)
{
	for (unsigned i = 0; i < r->nr_bl; i++)
		if (r->bl[i].start <= seq && seq <= r->bl[i].end)
			return true;
	return false;
}

/* A verified entry. */
static int entry_found(struct reader *r, u32 bucket, const struct jset *s, u64 sector)
{
	r->max_seen = max(r->max_seen, s->seq);
	/* Blacklisted: an entry that an earlier recovery dropped. It never happened. */
	if (s->seq < r->last_seq || blacklisted(r, s->seq))
		return 0;
	if (s->seq > r->newest_seq) {
		r->newest_seq = s->seq;
		r->newest_bucket = bucket;
	}
	if (!(s->flags & JSET_NO_FLUSH) && s->seq > r->flush_seq) {
		r->flush_seq = s->seq;
		r->flush_bucket = bucket;
		/* A last_seq that makes no sense is found by jset_validate() later. */
		r->last_seq = max(r->last_seq, min(s->last_seq, s->seq));
		drop_old(r);
	}
	return entry_keep(r, bucket, s, sector);
}

static bool entry_verifies(struct reader *r, struct jset *s, u32 room)
{
	return s->magic == r->j->opts.magic && s->seq && s->seq < JOURNAL_SEQ_MAX &&
	       jset_bytes(s) <= room && !jset_open(r->j, s);
}

/*
 * An entry that a crash tore stays so; one of which a bit was another on the way from the device is
 * whole the next time. Not for each of many, so that no image takes for ever.
 */
static bool entry_read_again(struct reader *r, struct jset *s, u32 room, u64 sector)
{
	return r->nr_again++ < READ_AGAIN &&
	       !bdev_read(r->j->bdev, sector << SECTOR_SHIFT, s, room) &&
	       entry_verifies(r, s, room);
}

/* Bytes of the entry at @off, decrypted, if it is whole; 0 if there is none, or a bad one. */
static u32 entry_check(struct reader *r, u32 off, u64 sector)
{
	struct jset *s = (struct jset *)(r->bucket + off);
	u32 room = r->j->bucket_bytes - off;

	if (room < sizeof(*s) || s->magic != r->j->opts.magic)
		return 0;
	if (entry_verifies(r, s, room) || entry_read_again(r, s, room, sector))
		return round_up((u32)jset_bytes(s), r->j->opts.block_bytes);
	note_bad(r, s->seq, sector);
	return 0;
}

u32 journal_entry_bytes(const struct journal *j, const void *data, u32 room)
{
	const struct jset *s = data;

	if (room < sizeof(*s) || s->magic != j->opts.magic)
		return 0;
	return round_up((u32)min(jset_bytes(s), (u64)room), j->opts.block_bytes);
}

/* The bucket's content; what cannot be read is zero. */
static void bucket_load(struct reader *r, u32 bucket)
{
	struct journal *j = r->j;
	u64 start = journal_bucket_offset(j, bucket);
	u32 block = max(j->opts.block_bytes, j->bdev->logical_block);
	int ret = bdev_read(j->bdev, start, r->bucket, j->bucket_bytes);

	if (!ret)
		return;
	log_warn(j->log, "journal: bucket at sector %llu: %s", ULL(start >> SECTOR_SHIFT),
		 err_str(ret));
	for (u32 off = 0; off < j->bucket_bytes; off += block) {
		u32 len = min(block, j->bucket_bytes - off);

		if (!bdev_read(j->bdev, start + off, r->bucket + off, len))
			continue;
		memset(r->bucket + off, 0, len);
		r->unreadable[bucket] = 1;
		if (!r->nr_unreadable++)
			r->first_unreadable = (start + off) >> SECTOR_SHIFT;
	}
}

static int bucket_scan(struct reader *r, u32 bucket)
{
	struct journal *j = r->j;
	u64 start = journal_bucket_offset(j, bucket);
	u32 off = 0;

	bucket_load(r, bucket);
	while (off < j->bucket_bytes) {
		u64 sector = (start + off) >> SECTOR_SHIFT;
		u32 bytes = entry_check(r, off, sector);
		int ret;

		if (!bytes) {
			off += j->opts.block_bytes;
			continue;
		}
		ret = entry_found(r, bucket, (struct jset *)(r->bucket + off), sector);
		if (ret)
			return ret;
		off += bytes;
	}
	return 0;
}

static int cmp_entry(const void *l, const void *r)
{
	const struct journal_replay_entry *a = l, *b = r;

	return cmp_int(a->seq, b->seq) ?: cmp_int(a->sector, b->sector);
}

/* Free buckets behind this one. */
static u32 free_behind(const struct journal *j, u32 bucket)
{
	u32 n = 0;

	while (n + 1 < j->nr_buckets && !j->buckets[(bucket + n + 1) % j->nr_buckets].seq)
		n++;
	return n;
}

/*
 * The bucket to go on in: the newest entry's, unless there is much more room behind another. In a
 * ring that lies in order there is not; but an entry may have been written again elsewhere, or not
 * where it was to be.
 */
static u32 resume_bucket(const struct journal *j, u32 newest)
{
	u32 best = newest;

	for (u32 i = 0; i < j->nr_buckets; i++)
		if (j->buckets[i].seq && free_behind(j, i) > free_behind(j, best))
			best = i;
	return free_behind(j, newest) * 2 >= free_behind(j, best) ? newest : best;
}

/* Where it goes on: behind all in that bucket that count. */
static void set_resume(const struct reader *r)
{
	struct journal *j = r->j;
	u32 newest = r->nr ? resume_bucket(j, r->e[r->nr - 1].bucket) : 0;
	u64 start = journal_bucket_offset(j, newest);

	j->resume_bucket = newest;
	j->resume_off = r->nr ? 0 : j->bucket_bytes;
	for (size_t i = 0; i < r->nr; i++) {
		const struct journal_replay_entry *e = &r->e[i];
		u32 off = (e->sector << SECTOR_SHIFT) - start;

		if (e->bucket == newest && !(planted(resume_on_newest) && i + 1 == r->nr))
			j->resume_off = max(j->resume_off, off + round_up((u32)jset_bytes(e->j),
									  j->opts.block_bytes));
	}
}

/* Bad ones behind @seq that are not history; of those that the sample has. */
static unsigned bad_since(const struct reader *r, u64 seq)
{
	unsigned n = 0;

	for (unsigned i = 0; i < min_t(unsigned, r->nr_bad, ARRAY_SIZE(r->bad)); i++)
		n += r->bad[i].seq > seq && !blacklisted(r, r->bad[i].seq);
	return n;
}

/* In order, once each (a failed write may have landed after all), none behind the flush entry. */
static void settle(struct reader *r, struct journal_replay *ret)
{
	size_t n = 0;

	if (r->nr)
		qsort(r->e, r->nr, sizeof(*r->e), cmp_entry);
	for (size_t i = 0; i < r->nr; i++) {
		bool dropped = r->e[i].seq > r->flush_seq;

		if (dropped || r->e[i].seq < r->last_seq || (n && r->e[n - 1].seq == r->e[i].seq))
			env_free(r->j->env, r->e[i].j);
		else
			r->e[n++] = r->e[i];
		ret->dropped += dropped;
	}
	ret->nr_torn += bad_since(r, r->flush_seq);
	r->nr = n;
	ret->entries = r->e;
	ret->nr = n;
	ret->seq = r->flush_seq;
	ret->last_seq = r->last_seq;
	ret->max_seen = r->max_seen;
	/* Only what is needed holds a bucket. */
	for (u32 i = 0; i < r->j->nr_buckets; i++)
		r->j->buckets[i].seq = 0;
	for (size_t i = 0; i < n; i++) {
		struct journal_bucket *b = &r->j->buckets[r->e[i].bucket];

		b->seq = max(b->seq, r->e[i].seq);
	}
	set_resume(r);
}

/* The first seq in [seq, end) that is not blacklisted, or end. */
static u64 first_not_blacklisted(const struct reader *r, u64 seq, u64 end)
{
	bool moved = true;

	while (moved && seq < end) {
		moved = false;
		for (unsigned i = 0; i < r->nr_bl; i++)
			if (r->bl[i].start <= seq && seq <= r->bl[i].end) {
				if (r->bl[i].end >= end - 1)
					return end;
				seq = r->bl[i].end + 1;
				moved = true;
			}
	}
	return seq;
}

static void say_missing(const struct reader *r, u64 seq, u64 upto, u64 before_sector)
{
	for (unsigned i = 0; i < min_t(unsigned, r->nr_bad, ARRAY_SIZE(r->bad)); i++)
		if (r->bad[i].seq >= seq && r->bad[i].seq < upto) {
			log_err(r->j->log,
				"journal: entry %llu at sector %llu is damaged (needed: %llu to "
				"%llu)",
				ULL(r->bad[i].seq), ULL(r->bad[i].sector), ULL(r->last_seq),
				ULL(r->flush_seq));
			return;
		}
	log_err(r->j->log,
		"journal: entry %llu is missing before the one at sector %llu (needed: %llu to "
		"%llu)",
		ULL(seq), ULL(before_sector), ULL(r->last_seq), ULL(r->flush_seq));
}

/* Everything from last_seq to the flush entry is there, or blacklisted. */
static int check_gaps(const struct reader *r, struct journal_replay *ret_r)
{
	u64 seq = r->last_seq;
	int ret = 0;

	for (size_t i = 0; i < r->nr; i++) {
		u64 missing = first_not_blacklisted(r, seq, r->e[i].seq);

		if (missing < r->e[i].seq) {
			say_missing(r, missing, r->e[i].seq, r->e[i].sector);
			ret_r->nr_lost += r->e[i].seq - missing;
			ret = -BCFS_ERR_journal_damaged;
		}
		seq = r->e[i].seq + 1;
	}
	return ret;
}

/* Only valid ones are kept. */
static int check_entries(struct reader *r, struct journal_replay *ret_r)
{
	size_t n = 0;
	int ret = 0;

	for (size_t i = 0; i < r->nr; i++) {
		CLEANUP(printbuf_exit) struct printbuf err = PRINTBUF;
		const struct journal_replay_entry *e = &r->e[i];

		if (!jset_validate(e->j, r->j->bucket_bytes, &err)) {
			r->e[n++] = *e;
			continue;
		}
		log_err(r->j->log, "journal: entry %llu at sector %llu is invalid: %s", ULL(e->seq),
			ULL(e->sector), printbuf_str(&err));
		env_free(r->j->env, e->j);
		ret_r->nr_lost++;
		ret = -BCFS_ERR_journal_damaged;
	}
	r->nr = ret_r->nr = n;
	return ret;
}

/* The bucket, or the one in which the journal goes on behind it. */
static bool unreadable_from(const struct reader *r, u32 bucket)
{
	return r->unreadable[bucket] || r->unreadable[(bucket + 1) % r->j->nr_buckets];
}

/* Where the last session began, if nothing that is not history was to be replayed then. */
static u32 session_bucket(const struct reader *r)
{
	u64 seq = 0;

	for (unsigned i = 0; i < r->nr_bl; i++)
		seq = max(seq, r->bl[i].end);
	return journal_first_bucket(r->j, seq);
}

/*
 * Blocks that cannot be read where the newest entries would lie: something durable may
 * be there, so we cannot say what the newest flush entry is. They lie behind the newest of any kind
 * that was found; if none was, where the session began.
 */
static int check_unreadable(const struct reader *r)
{
	u32 newest = r->newest_seq ? r->newest_bucket : session_bucket(r);
	bool lost = unreadable_from(r, newest);

	if (!r->nr_unreadable)
		return 0;
	/* With no flush entry, but others, whole or not: it may lie where they wrapped around. */
	lost |= r->flush_seq ? unreadable_from(r, r->flush_bucket)
			     : r->newest_seq || bad_since(r, 0);
	if (!lost) {
		log_warn(r->j->log, "journal: %u blocks cannot be read, the first at sector %llu",
			 r->nr_unreadable, ULL(r->first_unreadable));
		return 0;
	}
	log_err(r->j->log,
		"journal: %u blocks cannot be read, the first at sector %llu: entries newer than "
		"%llu may be lost",
		r->nr_unreadable, ULL(r->first_unreadable), ULL(r->flush_seq));
	return -BCFS_ERR_journal_damaged;
}

static int read_all(struct reader *r)
{
	for (u32 i = 0; i < r->j->nr_buckets; i++) {
		int ret = bucket_scan(r, i);

		if (ret)
			return ret;
	}
	return 0;
}

static int judge(struct reader *r, struct journal_replay *ret_r)
{
	int ret, ret2;

	settle(r, ret_r);
	ret = check_unreadable(r);
	if (!r->flush_seq)
		return ret ? ret : -BCFS_ERR_journal_empty;
	ret2 = check_gaps(r, ret_r);
	ret = ret ? ret : ret2;
	ret2 = check_entries(r, ret_r);
	ret = ret ? ret : ret2;
	if (r->nr && r->e[r->nr - 1].seq == r->flush_seq)
		jset_fold_carried(r->e[r->nr - 1].j, &ret_r->carried, true);
	ret_r->damaged = ret;
	r->j->reading_done = true;
	return ret;
}

int journal_read(struct journal *j, const struct journal_blacklist_range *bl, unsigned nr_bl,
		 struct journal_replay *ret_r)
{
	struct reader r = {.j = j, .bl = bl, .nr_bl = nr_bl};
	int ret = -BCFS_ERR_nomem;

	memset(ret_r, 0, sizeof(*ret_r));
	assert(j->nr_buckets && j->run == JOURNAL_STOPPED);
	r.bucket = env_malloc_aligned(j->env, 4096, j->bucket_bytes);
	r.unreadable = env_zalloc(j->env, j->nr_buckets);
	if (r.bucket && r.unreadable)
		ret = read_all(&r);
	if (!ret) {
		ret = judge(&r, ret_r);
	} else {
		ret_r->entries = r.e;
		ret_r->nr = r.nr;
		journal_replay_free(j, ret_r);
	}
	env_free(j->env, r.unreadable);
	env_free(j->env, r.bucket);
	return ret;
}

int journal_went_on(struct journal *j, u64 clean_seq, bool *ret_newer)
{
	u32 first = journal_first_bucket(j, clean_seq);
	struct reader r = {.j = j};
	int ret = -BCFS_ERR_nomem;

	*ret_newer = false;
	assert(j->nr_buckets && j->run == JOURNAL_STOPPED);
	r.bucket = env_malloc_aligned(j->env, 4096, j->bucket_bytes);
	r.unreadable = env_zalloc(j->env, j->nr_buckets);
	if (r.bucket && r.unreadable) {
		bucket_load(&r, first);
		*ret_newer = entry_check(&r, 0, journal_bucket_offset(j, first) >> SECTOR_SHIFT) &&
			     ((struct jset *)r.bucket)->seq > clean_seq;
		ret = 0;
	}
	env_free(j->env, r.unreadable);
	env_free(j->env, r.bucket);
	return ret;
}

void journal_replay_free(struct journal *j, struct journal_replay *r)
{
	for (size_t i = 0; i < r->nr; i++)
		env_free(j->env, r->entries[i].j);
	env_free(j->env, r->entries);
	memset(r, 0, sizeof(*r));
}

u64 journal_blacklist_end(const struct journal_replay *r, const struct journal_blacklist_range *bl,
			  unsigned nr_bl)
{
	u64 end = r->seq;
	bool moved = true;

	/* A session that crashed before its first flush went on behind a blacklisted range. */
	while (moved) {
		moved = false;
		for (unsigned i = 0; i < nr_bl; i++)
			if (bl[i].start <= end + 1 && bl[i].end > end &&
			    bl[i].end < JOURNAL_SEQ_MAX) {
				end = bl[i].end;
				moved = true;
			}
	}
	return max(end + JOURNAL_SEQ_AHEAD, r->max_seen);
}
