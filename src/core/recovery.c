// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * From superblock and journal to whole btrees.
 *
 * The base is the clean section (always there: mkfs closes what it makes). Entries up to its seq
 * are history and are kept from journal_read() as if blacklisted. If there is a flush entry behind
 * it, that one's roots and counters count, and its keys are replayed; if not, nothing happened
 * since.
 */
#include "codec/codec.h"
#include "core/core.h"

#include "btree/btree.h"
#include "util/planted.h"

#include <stdio.h>
#include <string.h>

#define CLEAN_MAX_U64s 4096

/* Roots and counters out of a list of jset entries. */
static int carried_from_entries(struct core *c, const u64 *start, u32 u64s,
				struct journal_carried *ret)
{
	const u64 *end = start + u64s;

	memset(ret, 0, sizeof(*ret));
	for (const u64 *p = start; p < end;) {
		const struct jset_entry *e = (const void *)p;

		if (end - p < 1 || e->u64s > end - p - 1)
			return -BCFS_ERR_core_clean_invalid;
		if (e->type == BCFS_JSET_ENTRY_btree_root && e->btree_id < BTREE_ID_NR &&
		    e->u64s >= BKEY_U64s && e->u64s <= ARRAY_SIZE(ret->roots[0].buf)) {
			struct journal_root *r = &ret->roots[e->btree_id];

			memcpy(r->buf, e->data, e->u64s * 8UL);
			if (r->k.k.u64s != e->u64s)
				return -BCFS_ERR_core_clean_invalid;
			r->alive = true;
			r->level = e->level;
		} else if (e->type == BCFS_JSET_ENTRY_usage) {
			const struct bcfs_jset_usage *u = (const void *)e->data;

			for (unsigned i = 0; i + 1 < e->u64s; i += 2, u++)
				if (u->type < BCFS_ACCOUNTING_NR)
					ret->usage[u->type] = u->v;
		}
		p += 1 + e->u64s;
	}
	return 0;
}

static u32 carried_to_entries(const struct journal_carried *carried, u64 *out)
{
	u64 *p = out;

	for (unsigned i = 0; i < BTREE_ID_NR; i++) {
		const struct journal_root *r = &carried->roots[i];
		struct jset_entry *e = (void *)p;

		if (!r->alive)
			continue;
		*e = (struct jset_entry){.u64s = r->k.k.u64s,
					 .btree_id = i,
					 .level = r->level,
					 .type = BCFS_JSET_ENTRY_btree_root};
		memcpy(e->data, r->buf, r->k.k.u64s * 8UL);
		p += 1 + e->u64s;
	}
	struct jset_entry *e = (void *)p;
	struct bcfs_jset_usage *u = (void *)e->data;

	*e = (struct jset_entry){.type = BCFS_JSET_ENTRY_usage};
	for (unsigned i = 0; i < BCFS_ACCOUNTING_NR; i++)
		if (carried->usage[i])
			*u++ = (struct bcfs_jset_usage){.type = i, .v = carried->usage[i]};
	e->u64s = (u64 *)u - e->data;
	p += 1 + e->u64s;
	return p - out;
}

int core_record_errors(struct core *c)
{
	struct sb_handle *sb = c->fs.sb;
	int err = c->fs.error, ret = 0;
	u64 sum = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(c->errors); i++)
		sum += c->errors[i];
	if (!err && !sum)
		return 0;

	sb_lock(sb);
	struct bcfs_member m = sb_member_get(sb->sb, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(c->errors); i++)
		m.errors[i] += c->errors[i];
	if (err) {
		sb->sb->flags[0] |= BCFS_SB_FLAG_ERROR;
		ret = sb_error_add(sb, -err, 1);
	}
	ret = sb_member_set(sb, 0, &m) ?: ret;
	/* A device that takes no writes any more keeps its old superblock: the next mount replays.
	 */
	ret = sb_write(sb) ?: ret;
	sb_unlock(sb);
	return ret;
}

int core_mark_clean(struct core *c, const struct journal_carried *carried, u64 seq)
{
	struct sb_handle *sb = c->fs.sb;
	u64 *buf = env_zalloc(c->fs.env, CLEAN_MAX_U64s * 8);

	if (!buf)
		return -BCFS_ERR_nomem;
	u32 u64s = carried_to_entries(carried, buf);
	int ret = bdev_flush(c->fs.bdev);

	if (!ret) {
		sb_lock(sb);
		/* What is before the last crash's range can never be met again. */
		if (c->nr_bl > 1)
			sb_blacklist_drop_below(sb, c->bl[c->nr_bl - 1].start);
		ret = sb_clean_set(sb, seq, buf, u64s) ?: sb_write(sb);
		sb_unlock(sb);
	}
	env_free(c->fs.env, buf);
	return ret;
}

/* The superblock's ranges, and room for two more. */
static int load_blacklist(struct core *c)
{
	const struct bcfs_sb *sb = c->fs.sb->sb;

	c->nr_bl = sb_blacklist_nr(sb);
	c->bl = env_zalloc(c->fs.env, (c->nr_bl + 2) * sizeof(*c->bl));
	if (!c->bl)
		return -BCFS_ERR_nomem;
	for (unsigned i = 0; i < c->nr_bl; i++) {
		struct bcfs_blacklist_range r = sb_blacklist_range(sb, i);

		c->bl[i] = (struct journal_blacklist_range){r.start, r.end};
	}
	return 0;
}

/* Roots and counters of the last clean shutdown, and behind which entry it lies. */
static int read_clean(struct core *c, u64 *ret_seq)
{
	const struct bcfs_sb_field_clean *f =
		(const void *)sb_field_get(c->fs.sb->sb, BCFS_SB_FIELD_clean);
	u64 *entries = NULL;
	u32 u64s;
	int ret;

	if (!f) {
		c->doing = NULL;
		log_err(&c->log,
			"%s: the superblock has no record of the btrees: mkfs was interrupted; "
			"make the filesystem again",
			c->fs.bdev->name);
		return -BCFS_ERR_core_no_clean;
	}
	sb_lock(c->fs.sb);
	ret = sb_clean_read(c->fs.sb, &entries, &u64s);
	sb_unlock(c->fs.sb);
	if (ret)
		return ret;
	*ret_seq = f->journal_seq;
	ret = carried_from_entries(c, entries, u64s, &c->carried);
	if (ret)
		log_err(&c->log, "%s: the superblock's clean section is damaged", c->fs.bdev->name);
	env_free(c->fs.env, entries);
	return ret;
}

/*
 * The mount goes on behind everything a lost entry may have numbered. Of older ranges those below
 * @needed, the oldest entry that will ever be read again, can be forgotten: a filesystem that is
 * never closed cleanly would gather them until the superblock is full.
 */
static int blacklist_lost(struct core *c, u64 start, u64 end, u64 needed)
{
	struct sb_handle *sb = c->fs.sb;
	int ret;

	c->bl[c->nr_bl++] = (struct journal_blacklist_range){start, end};
	sb_lock(sb);
	sb_blacklist_drop_below(sb, planted(blacklist_forgotten) ? start : needed);
	ret = sb_blacklist_add(sb, start, end);
	sb_unlock(sb);
	return ret;
}

/* The flag goes, the section stays; with it, what was blacklisted. Before the journal writes. */
static int mark_dirty(struct core *c)
{
	struct sb_handle *sb = c->fs.sb;
	int ret;

	sb_lock(sb);
	sb->sb->flags[0] &= ~BCFS_SB_FLAG_CLEAN;
	struct bcfs_member m = sb_member_get(sb->sb, 0);
	m.last_mount = fs_now(&c->fs);
	ret = sb_member_set(sb, 0, &m);
	/* With features that only allow reading it is on an overlay, where nobody looks for it. */
	if (!ret && !sb->read_only)
		ret = sb_write(sb);
	sb_unlock(sb);
	if (!ret && !sb->read_only)
		ret = sb_use_compression(sb, compression_opt_type(c->fs.fs_opts.compression))
			      ?: sb_use_compression(sb,
						    compression_opt_type(
							    c->fs.fs_opts.background_compression));
	return ret;
}

/* What recovery goes on with. */
struct recovery {
	struct journal_replay r;
	bool replay;
	u64 cur_seq;
	u64 suspect;
};

/*
 * Not all of the journal that is needed is there. What the lost entries changed may be old, gone or
 * contradict the rest; nothing may be built on that, but it may be looked at. 0: go on.
 */
static int journal_damaged(struct core *c, const struct journal_replay *r, u64 clean_seq)
{
	const char *name = c->fs.bdev->name, *again = strlen(name) < 100 ? name : "on it";
	char why[CORE_MSG_SIZE];

	memcpy(why, c->last_err, sizeof(why));
	/* Without the newest entry it is not known where the btrees begin. */
	if (!r->nr || r->entries[r->nr - 1].seq != r->seq || r->seq <= clean_seq) {
		core_msg(c->last_err, sizeof(c->last_err),
			 "%s: %.255s: nothing can be recovered from it; -o ro,norecovery tries the "
			 "state of the last clean unmount; to see more run fsck.bcfs %s",
			 name, why, again);
		c->doing = NULL; /* the line is complete */
		return -BCFS_ERR_journal_damaged;
	}
	if (!c->opts.read_only) {
		core_msg(c->last_err, sizeof(c->last_err),
			 "%s: %.255s: not mounted; -o ro shows what is left; to see what is wrong "
			 "run fsck.bcfs %s",
			 name, why, again);
		c->doing = NULL; /* the line is complete */
		return -BCFS_ERR_journal_damaged;
	}
	memcpy(c->journal_damage, why, sizeof(why));
	c->last_err[0] = 0;
	log_warn(&c->log,
		 "%s: %s: what the lost entries changed (%llu or fewer) may be old, missing or "
		 "unreadable: copy elsewhere what is needed; fsck.bcfs lists what does not fit",
		 name, why, (unsigned long long)r->nr_lost);
	return 0;
}

/* What a crash cut off is no damage: nobody was told that it is durable. */
static void say_what_is_replayed(struct core *c, const struct recovery *rec)
{
	unsigned long long lost = rec->r.dropped + rec->r.nr_torn;
	char what[64] = "nothing to replay", more[96] = "";

	if (rec->replay)
		snprintf(what, sizeof(what), "replaying journal entries %llu to %llu",
			 (unsigned long long)rec->r.last_seq, (unsigned long long)rec->r.seq);
	if (lost)
		snprintf(more, sizeof(more),
			 "; %llu newer, which no flush had finished, %s dropped", lost,
			 lost == 1 ? "is" : "are");
	log_info(&c->log, "%s: not closed cleanly: %s%s", c->fs.bdev->name, what, more);
}

static int read_unclean(struct core *c, struct recovery *rec, u64 clean_seq)
{
	struct journal *j = c->fs.journal;
	unsigned nr = c->nr_bl;
	int ret;

	/* Entries up to the clean section's are history. */
	c->bl[nr] = (struct journal_blacklist_range){0, clean_seq};
	ret = journal_read(j, c->bl, nr + 1, &rec->r);
	if (ret == -BCFS_ERR_journal_damaged)
		ret = journal_damaged(c, &rec->r, clean_seq);
	if (ret && ret != -BCFS_ERR_journal_empty)
		return ret;
	rec->replay = !ret && rec->r.seq > clean_seq;

	struct journal_replay last = {.seq = rec->replay ? rec->r.seq : clean_seq};
	u64 end = journal_blacklist_end(&last, c->bl, nr);

	rec->cur_seq = max(end, rec->r.max_seen) + 1;
	rec->suspect = planted(suspect_too_old) ? last.seq : rec->cur_seq - 1;
	if (rec->replay)
		c->carried = rec->r.carried;
	say_what_is_replayed(c, rec);
	return blacklist_lost(c, last.seq + 1 + planted(blacklist_starts_late), rec->cur_seq - 1,
			      rec->replay ? rec->r.last_seq : last.seq + 1);
}

int core_recovery_settle(struct core *c)
{
	struct journal *j = c->fs.journal;

	if (!c->replayed_seq)
		return 0;
	return journal_flush_pins(j, c->replayed_seq) ?: journal_flush(j);
}

/*
 * The superblock tells of a session before the journal has its first entry. If it is there, and the
 * superblock says that nothing happened since the clean close, the device has lost a write of it.
 */
static int judge_clean(struct core *c, bool flag, u64 clean_seq)
{
	bool newer = false;
	int ret = 0;

	if (flag && !c->opts.norecovery && !planted(clean_believed))
		ret = journal_went_on(c->fs.journal, clean_seq, &newer);
	c->was_clean = flag && !newer;
	if (newer)
		log_warn(&c->log,
			 "%s: the superblock says that it was closed cleanly, but the journal goes "
			 "on "
			 "behind entry %llu: the device has lost a write",
			 c->fs.bdev->name, (unsigned long long)clean_seq);
	return ret;
}

int core_recover(struct core *c)
{
	struct recovery rec = {0};
	const struct bcfs_sb *sb = c->fs.sb->sb;
	u64 clean_seq = 0;
	int ret = load_blacklist(c) ?: read_clean(c, &clean_seq);

	if (ret)
		return ret;
	rec.cur_seq = clean_seq + 1;
	rec.suspect = c->nr_bl ? c->bl[c->nr_bl - 1].end : 0;
	c->doing = "reading the journal";
	ret = judge_clean(c, sb->flags[0] & BCFS_SB_FLAG_CLEAN, clean_seq);
	if (!ret && !c->was_clean && !c->opts.norecovery)
		ret = read_unclean(c, &rec, clean_seq);
	if (ret)
		goto out;
	c->doing = "reading the roots of the btrees";
	ret = btree_fs_start(c->fs.btree, c->carried.roots, rec.suspect, c->bl, c->nr_bl);
	if (ret)
		goto out;
	c->doing = "starting the journal";
	ret = journal_start(c->fs.journal, rec.cur_seq, rec.replay ? &rec.r : NULL, &c->carried);
	if (ret)
		goto out;
	c->journal_started = true;
	ret = alloc_fs_start(c->fs.alloc, c->carried.usage);
	if (ret)
		goto out;
	/*
	 * Up to here the device was only read, so a filesystem that cannot be opened is left as it
	 * was. What was blacklisted must be durable before the journal writes.
	 */
	c->doing = "replaying the journal";
	if (rec.replay)
		ret = btree_replay(c->fs.btree, &rec.r);
	if (c->journal_damage[0]) {
		/* What says which space is in use may be wrong: not even the overlay is written. */
		btree_fs_halt(c->fs.btree);
		journal_halt(c->fs.journal);
		c->opts.no_background = true;
		goto out;
	}
	if (!ret)
		c->doing = "writing the superblock";
	ret = ret ?: mark_dirty(c);
	if (ret)
		goto out;
	if (rec.replay) {
		journal_replay_done(c->fs.journal);
		c->replayed_seq = rec.cur_seq - 1;
	} else {
		btree_fs_replay_none(c->fs.btree);
	}
out:
	journal_replay_free(c->fs.journal, &rec.r);
	return ret;
}
