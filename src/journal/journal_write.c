/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing entries. The writer thread closes an entry when it is time, puts it
 * together (carried state, validation, checksum), decides flush or noflush, and
 * submits; the done thread waits for the writes in order of seq, writes again
 * elsewhere what failed, and moves seq_ondisk and flushed_seq on. A flush that
 * has gone well when it was submitted is not for the done thread.
 */
#include "journal/journal_private.h"
#include "util/planted.h"

#include <string.h>

void journal_set_error(struct journal *j, int err)
{
	bool first;

	env_mutex_lock(&j->lock);
	first = !j->err && j->run == JOURNAL_RUNNING;
	if (!j->err)
		j->err = err;
	atomic_fetch_and(&j->state, ~(ST_LEFT | ST_OPEN));
	env_cond_broadcast(&j->wait);
	env_cond_broadcast(&j->writer_wait);
	env_cond_broadcast(&j->done_wait);
	env_cond_broadcast(&j->reclaim_wait);
	env_mutex_unlock(&j->lock);
	env_mutex_lock(&j->pin_lock);
	env_cond_broadcast(&j->pin_wait);
	env_mutex_unlock(&j->pin_lock);
	if (!first)
		return;
	log_err(j->log, "journal: stopped at seq %llu: %s", (unsigned long long)j->cur_seq,
		err_str(err));
	if (j->opts.ops->error)
		j->opts.ops->error(j->opts.arg, err);
}

/* ---- the writer ---- */

static u64 flush_deadline(const struct journal *j)
{
	return j->first_unflushed_ns
		       ? j->first_unflushed_ns + j->opts.flush_delay_ms * ENV_NSEC_PER_MSEC
		       : 0;
}

static bool flush_due(const struct journal *j)
{
	u64 deadline = flush_deadline(j);

	return deadline && env_mono_ns(j->env) >= deadline;
}

/* Flush or noflush; the buffer leaves the reach of flush requests. The lock is held. */
static void decide(struct journal *j, struct journal_buf *buf)
{
	u64 next = buf->seq + 1;

	buf->flush = buf->must_flush || j->flush_only || flush_due(j) ||
		     buf->seq - j->flush_issued >= JOURNAL_SEQ_AHEAD / 2;
	buf->state = BUF_WRITING;
	j->seq_prepared = buf->seq;
	if (!buf->flush)
		return;
	j->flush_issued = buf->seq;
	j->first_unflushed_ns =
		next < j->cur_seq + journal_is_open(j) && !planted(flush_deadline_lost)
			? journal_buf_at(j, next)->opened_ns
			: 0;
}

/*
 * All earlier entries are written, and the data that this one's keys point at.
 * When that fails the entry goes out as noflush and whoever waits for it hears why, or asks again.
 * The lock is held, dropped meanwhile. False after an error or halt.
 */
static bool before_flush(struct journal *j, struct journal_buf *buf, u64 flushed_before)
{
	int ret = 0;

	while (j->seq_ondisk + 1 < buf->seq && !j->err && j->run == JOURNAL_RUNNING &&
	       !planted(flush_before_earlier))
		env_cond_wait(&j->writer_wait, &j->lock);
	if (j->err || j->run != JOURNAL_RUNNING)
		return false;
	if (j->opts.ops->pre_flush) {
		env_mutex_unlock(&j->lock);
		ret = j->opts.ops->pre_flush(j->opts.arg, buf->seq);
		env_mutex_lock(&j->lock);
	}
	if (!ret)
		return true;

	buf->flush = false;
	j->flush_issued = flushed_before;
	/* Tried again with the next entry, not at once. */
	if (!j->first_unflushed_ns)
		j->first_unflushed_ns = env_mono_ns(j->env);
	if (ret != -BCFS_ERR_journal_flush_later) {
		log_err_ratelimited(j->log, &j->rl_write, "journal: flush of seq %llu fails: %s",
				    (unsigned long long)buf->seq, err_str(ret));
		j->flush_fail_gen++;
		j->flush_fail_seq = buf->seq;
		j->flush_fail_err = ret;
	}
	j->flush_fails++;
	if (ret != -BCFS_ERR_journal_flush_later)
		j->flush_fails_err = ret;
	else if (!j->flush_fails_err)
		j->flush_fails_err = -BCFS_ERR_dev_write;
	env_cond_broadcast(&j->wait);
	if (buf->seq - j->flushed_seq + JOURNAL_BUFS < JOURNAL_SEQ_AHEAD &&
	    j->flush_fails < JOURNAL_FLUSH_TRIES)
		return true;
	/* Nothing can be opened behind this one until a flush succeeds, or none will. */
	ret = j->flush_fails_err;
	env_mutex_unlock(&j->lock);
	journal_set_error(j, ret);
	env_mutex_lock(&j->lock);
	return false;
}

static void put_entry(struct jset *s, enum bcfs_jset_entry_type type, u8 btree_id, u8 level,
		      const void *payload, u32 u64s)
{
	struct jset_entry *e = (struct jset_entry *)(s->start + s->u64s);

	*e = (struct jset_entry){.u64s = u64s, .type = type, .btree_id = btree_id, .level = level};
	memcpy(e->data, payload, u64s * sizeof(u64));
	s->u64s += jset_entry_u64s(u64s);
}

/* Fold the entry's changes into the carried state, and append what it lacks of it. */
static void add_carried(struct journal *j, struct journal_buf *buf)
{
	struct bcfs_jset_usage usage[BCFS_ACCOUNTING_NR];
	u32 seen = jset_fold_carried(buf->data, &j->carried, false);
	unsigned nr = 0;

	for (unsigned i = 0; i < BTREE_ID_NR; i++) {
		const struct journal_root *r = &j->carried.roots[i];

		if (r->alive && !(seen & (1U << i)))
			put_entry(buf->data, BCFS_JSET_ENTRY_btree_root, i, r->level, &r->k,
				  r->k.k.u64s);
	}
	for (unsigned i = 0; i < BCFS_ACCOUNTING_NR; i++) {
		j->carried.usage[i] += __atomic_load_n(&buf->usage[i], __ATOMIC_RELAXED);
		if (j->carried.usage[i])
			usage[nr++] = (struct bcfs_jset_usage){.type = i, .v = j->carried.usage[i]};
	}
	if (nr)
		put_entry(buf->data, BCFS_JSET_ENTRY_usage, 0, 0, usage,
			  nr * sizeof(usage[0]) / sizeof(u64));
}

/* Header, padding, validation, checksum or encryption. */
static int finish(struct journal *j, struct journal_buf *buf)
{
	CLEANUP(printbuf_exit) struct printbuf err = PRINTBUF;
	struct jset *s = buf->data;
	u64 bytes = jset_bytes(s);
	int ret;

	buf->write_bytes = round_up(bytes, j->opts.block_bytes);
	assert(buf->write_bytes <= buf->promise_bytes);
	memset((char *)s + bytes, 0, buf->write_bytes - bytes);
	ret = jset_validate(s, buf->write_bytes, &err);
	if (ret) {
		log_err(j->log, "journal: entry about to be written is invalid: %s",
			printbuf_str(&err));
		return ret;
	}
	return jset_seal(j, s);
}

static int put_together(struct journal *j, struct journal_buf *buf)
{
	struct jset *s = buf->data;

	memset(s, 0, sizeof(*s));
	s->magic = j->opts.magic;
	s->seq = buf->seq;
	s->last_seq = buf->flush ? buf->last_seq : 0;
	if (planted(last_seq_too_new))
		s->last_seq += s->last_seq && s->last_seq < s->seq;
	if (planted(last_seq_read_late) && buf->flush)
		s->last_seq = j->last_seq;
	s->version = BCFS_VERSION_CURRENT;
	s->flags = j->opts.csum_type | (buf->flush ? 0 : JSET_NO_FLUSH);
	s->u64s = buf->u64s;
	add_carried(j, buf);
	return finish(j, buf);
}

/* @flags: BDEV_SYNC or none. */
static void submit(struct journal *j, struct journal_buf *buf, u32 flags)
{
	bdev_io_init(&buf->io, BDEV_WRITE, buf->place, buf->data, buf->write_bytes,
		     flags | (buf->flush && !planted(flush_no_fua) ? BDEV_FUA : 0) |
			     (buf->flush && !planted(flush_no_preflush) ? BDEV_PREFLUSH : 0));
	bdev_submit(j->bdev, &buf->io);
}

/* It is on the device, and all before it are. The lock is held, dropped meanwhile. */
static void completed(struct journal *j, struct journal_buf *buf)
{
	u64 seq = buf->seq;
	bool flushed = buf->flush;

	j->counters.entries++;
	j->counters.bytes += buf->write_bytes;
	if (buf->flush)
		j->counters.flush++;
	else
		j->counters.noflush++;
	j->seq_ondisk = buf->seq;
	buf->state = BUF_FREE;
	journal_pin_put_own(j, buf->seq);
	if (planted(noflush_acknowledged))
		j->flushed_seq = buf->seq;
	if (buf->flush) {
		j->flush_fails = 0;
		j->flush_fails_err = 0;
		j->flushed_seq = buf->seq;
		j->last_seq_ondisk = max(j->last_seq_ondisk, buf->last_seq);
	}
	journal_space_update(j);
	journal_reclaim_kick(j);
	env_cond_signal(&j->writer_wait);
	env_cond_broadcast(&j->wait);
	if (flushed && j->opts.ops->flushed) {
		env_mutex_unlock(&j->lock);
		j->opts.ops->flushed(j->opts.arg, seq);
		env_mutex_lock(&j->lock);
	}
}

/* The oldest closed entry without holders. The lock is held, dropped meanwhile. */
static void write_one(struct journal *j, struct journal_buf *buf)
{
	u64 flushed_before = j->flush_issued;
	bool good;
	int ret;

	decide(j, buf);
	if (buf->flush && !before_flush(j, buf, flushed_before))
		return;
	env_mutex_unlock(&j->lock);

	ret = put_together(j, buf);

	env_mutex_lock(&j->lock);
	if (!ret && !journal_place(j, buf, false))
		ret = -BCFS_ERR_journal_full;
	if (j->err || j->run != JOURNAL_RUNNING)
		return;
	if (ret) {
		env_mutex_unlock(&j->lock);
		journal_set_error(j, ret);
		env_mutex_lock(&j->lock);
		return;
	}
	if (buf->flush)
		journal_space_end(j, buf->last_seq);
	env_mutex_unlock(&j->lock);
	/* No entry behind a flush can be over before it, and all before it are. */
	submit(j, buf, buf->flush ? BDEV_SYNC : 0);
	good = buf->flush && bdev_io_is_complete(&buf->io) &&
	       (!buf->io.ret || planted(flush_error_unseen));
	env_mutex_lock(&j->lock);
	if (good && !j->err && j->run == JOURNAL_RUNNING && j->seq_ondisk + 1 == buf->seq) {
		completed(j, buf);
		return;
	}
	buf->state = BUF_SUBMITTED;
	env_cond_signal(&j->done_wait);
}

/*
 * Is it time to close the open entry? Flush requests gather until the earlier
 * entries are written: it could not be submitted before that anyway.
 */
static bool should_close(struct journal *j)
{
	struct journal_buf *buf = journal_buf_at(j, j->cur_seq);

	if (flush_due(j))
		buf->must_flush = true;
	return (buf->must_flush || j->flush_only) && j->seq_ondisk + 1 == buf->seq;
}

/* Close or open what is due: 0 if there was something, else how long to wait at most, in ns. */
static u64 writer_step(struct journal *j)
{
	u64 now, deadline;
	int ret = 0;

	if (journal_is_open(j) && should_close(j)) {
		journal_entry_close(j, false);
		return 0;
	}
	if (!journal_is_open(j)) {
		if (j->flush_issued < j->cur_seq - 1 && flush_due(j))
			j->flush_empty = true;
		if (j->flush_empty)
			ret = journal_entry_open(j, 0,
						 journal_freeable(j) ? JOURNAL_DIG_internal
								     : JOURNAL_DIG_reclaim);
		if (j->flush_empty && ret == -BCFS_ERR_nomem)
			return JOURNAL_NOMEM_RETRY_NS;
		/* Those that failed have filled the ring: only a flush would make room. */
		if (j->flush_empty && ret && j->flush_fails && j->seq_ondisk + 1 == j->cur_seq) {
			ret = j->flush_fails_err;
			env_mutex_unlock(&j->lock);
			journal_set_error(j, ret);
			env_mutex_lock(&j->lock);
			return 0;
		}
		if (journal_is_open(j))
			return 0;
	}
	/* A deadline that has passed waits for a write under way, which will wake us. */
	now = env_mono_ns(j->env);
	deadline = flush_deadline(j);
	return deadline > now ? deadline - now : UINT64_MAX;
}

void journal_writer_thread(void *arg)
{
	struct journal *j = arg;

	env_mutex_lock(&j->lock);
	while (!j->stopping) {
		u64 seq = j->seq_prepared + 1, wait_ns = UINT64_MAX;
		struct journal_buf *buf = journal_buf_at(j, seq);

		if (!j->err && j->run == JOURNAL_RUNNING) {
			if (buf->state == BUF_CLOSED &&
			    (!st_count(j->state, seq & (JOURNAL_BUFS - 1)) ||
			     planted(entry_not_whole))) {
				write_one(j, buf);
				continue;
			}
			wait_ns = writer_step(j);
		}
		if (wait_ns == UINT64_MAX)
			env_cond_wait(&j->writer_wait, &j->lock);
		else if (wait_ns)
			env_cond_timedwait(&j->writer_wait, &j->lock, wait_ns);
	}
	env_mutex_unlock(&j->lock);
}

/* ---- completion ---- */

/* Another place, up to a few times, and once another bucket: each takes from what is kept for
 * reclaim. A flush that failed is never repeated: what was cached is lost.
 */
static int write_again(struct journal *j, struct journal_buf *buf, int ret)
{
	for (unsigned i = 0; i < JOURNAL_WRITE_TRIES && ret; i++) {
		bool placed;
		int err;

		log_err_ratelimited(
			j->log, &j->rl_write, "journal: write of seq %llu at byte %llu fails: %s",
			(unsigned long long)buf->seq, (unsigned long long)buf->place, err_str(ret));
		env_mutex_lock(&j->lock);
		j->counters.write_errors++;
		placed = ret == -BCFS_ERR_dev_write && !j->err && j->run == JOURNAL_RUNNING &&
			 (planted(journal_retry_in_place) || journal_place_again(j, buf, i == 1));
		env_mutex_unlock(&j->lock);
		if (!placed)
			return ret;
		err = jset_seal_again(j, buf->data);
		if (err)
			return err;
		submit(j, buf, BDEV_SYNC);
		ret = bdev_wait(j->bdev, &buf->io);
	}
	return ret;
}

void journal_done_thread(void *arg)
{
	struct journal *j = arg;

	env_mutex_lock(&j->lock);
	for (;;) {
		u64 seq = j->seq_ondisk + 1;
		struct journal_buf *buf = journal_buf_at(j, seq);
		int ret;

		if (buf->state != BUF_SUBMITTED) {
			if (j->done_stopping)
				break;
			env_cond_wait(&j->done_wait, &j->lock);
			continue;
		}
		env_mutex_unlock(&j->lock);
		ret = bdev_wait(j->bdev, &buf->io);
		if (ret)
			ret = write_again(j, buf, ret);
		if (ret)
			journal_set_error(j, ret);
		env_mutex_lock(&j->lock);
		if (ret || j->err || j->run != JOURNAL_RUNNING) {
			/* Take the rest off the device's hands, count nothing. */
			buf->state = BUF_FREE;
			j->seq_ondisk = seq;
			continue;
		}
		completed(j, buf);
	}
	env_mutex_unlock(&j->lock);
}
