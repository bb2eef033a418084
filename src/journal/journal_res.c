/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reservations: the fast path is one compare-and-swap on j->state (its bits are
 * described in journal_private.h). The slow path, under the lock, closes an
 * entry that is full and opens the next. Nothing here does I/O.
 */
#include "journal/journal_private.h"
#include "util/copy.h"
#include "util/planted.h"

#include <string.h>

static bool res_try(struct journal *j, struct journal_res *res, u32 u64s, unsigned flags)
{
	u64 old = atomic_load_explicit(&j->state, memory_order_relaxed), new;
	unsigned idx;

	do {
		idx = st_idx(old);
		if (st_left(old) < u64s || st_count(old, idx) == ST_COUNT_MAX)
			return false;
		if ((old & ST_LOW) && !(flags & JOURNAL_RES_RECLAIM))
			return false;
		new = old - u64s + ST_COUNT_ONE(idx);
	} while (!atomic_compare_exchange_weak_explicit(&j->state, &old, new, memory_order_acquire,
							memory_order_relaxed));

	*res = (struct journal_res){
		.seq = j->bufs[idx].seq,
		.offset = j->bufs[idx].cap - st_left(old),
		.u64s = u64s,
		.idx = idx,
		.ref = true,
	};
	return true;
}

/* Of a normal reservation, by its flags. */
static u32 res_pins(unsigned flags)
{
	return flags & JOURNAL_RES_RECLAIM ? 0 : max(flags >> 8, 1U);
}

/*
 * The fast path's promise. It is made before it is looked at, so of two that are too many together
 * one sees it. What a promise becomes counts as a pin before it is dropped as a promise.
 */
static bool promise_try(struct journal *j, u32 pins)
{
	if (!pins)
		return true;
	u64 promised = (u64)atomic_fetch_add(&j->promised, pins) + pins;
	if (likely(promised + j->nr_pins <= j->pins_max))
		return true;
	atomic_fetch_sub(&j->promised, pins);
	return false;
}

/* Fewer may be pinned: wake who waits for that. Locks none. */
static void promise_drop(struct journal *j, u32 pins)
{
	if (!pins)
		return;
	atomic_fetch_sub(&j->promised, pins);
	if (j->nr_waiting) {
		env_mutex_lock(&j->lock);
		journal_space_update(j);
		env_mutex_unlock(&j->lock);
	}
}

/* Memory for a larger entry, if it is to be had; else what there is does. */
static void buf_grow(struct journal *j, struct journal_buf *buf)
{
	struct jset *n;

	if (buf->buf_bytes >= j->buf_want)
		return;
	n = env_malloc_aligned(j->env, 4096, j->buf_want);
	if (!n)
		return;
	env_free(j->env, buf->data);
	buf->data = n;
	buf->buf_bytes = j->buf_want;
}

/* What an entry that holds @u64s may need. */
static u32 least_bytes(const struct journal *j, u32 u64s)
{
	return round_up(j->fixed_bytes + u64s * (u32)sizeof(u64), j->opts.block_bytes);
}

/*
 * Open the entry cur_seq with room for a reservation of @u64s at least.
 * -BCFS_ERR_journal_full: no space; -BCFS_ERR_journal_would_block: no buffer, or
 * too far ahead of the last flush; -BCFS_ERR_nomem: try again later. The lock is held, no
 * entry is open.
 */
int journal_entry_open(struct journal *j, u32 u64s, enum journal_dig dig)
{
	u64 seq = j->cur_seq, old, new;
	unsigned idx = seq & (JOURNAL_BUFS - 1);
	struct journal_buf *buf = &j->bufs[idx];
	u32 bytes;
	int ret;

	assert(!journal_is_open(j));
	if (buf->state != BUF_FREE)
		return -BCFS_ERR_journal_would_block;
	if (seq > j->flushed_seq + JOURNAL_SEQ_AHEAD) {
		journal_request_flush(j, seq - 1);
		return -BCFS_ERR_journal_would_block;
	}
	buf_grow(j, buf);
	bytes = journal_room_for(j, least_bytes(j, u64s), min(buf->buf_bytes, j->entry_bytes), dig);
	if (!bytes)
		return -BCFS_ERR_journal_full;
	ret = journal_pin_push(j, seq);
	if (ret)
		return ret;

	buf->seq = seq;
	buf->cap = min_t(u32, (bytes - j->fixed_bytes) / sizeof(u64), ST_LEFT);
	buf->promise_bytes = bytes;
	buf->state = BUF_OPEN;
	buf->must_flush = j->flush_empty || j->flush_only;
	buf->flush = false;
	buf->opened_ns = env_mono_ns(j->env);
	for (unsigned i = 0; i < BCFS_ACCOUNTING_NR; i++)
		__atomic_store_n(&buf->usage[i], 0, __ATOMIC_RELAXED);
	j->flush_empty = false;
	if (!j->first_unflushed_ns) {
		j->first_unflushed_ns = buf->opened_ns;
		env_cond_signal(&j->writer_wait); /* its deadline */
	}

	old = atomic_load_explicit(&j->state, memory_order_relaxed);
	do {
		assert(!st_count(old, idx));
		new = old & ~(ST_LEFT | ST_LOW | (3ULL << ST_IDX_SHIFT));
		new |= buf->cap | ST_OPEN | (u64)idx << ST_IDX_SHIFT;
		new += ST_COUNT_ONE(idx);
		if (dig != JOURNAL_DIG_normal)
			new |= ST_LOW;
	} while (!atomic_compare_exchange_weak_explicit(&j->state, &old, new, memory_order_release,
							memory_order_relaxed));
	journal_space_update(j); /* low only if it has to be */
	return 0;
}

/* No further reservations in the open entry. The lock is held. */
void journal_entry_close(struct journal *j, bool full)
{
	u64 old = atomic_load_explicit(&j->state, memory_order_relaxed), new;
	unsigned idx = st_idx(old);
	struct journal_buf *buf = &j->bufs[idx];

	assert(old & ST_OPEN);
	do {
		new = (old & ~(ST_LEFT | ST_LOW | ST_OPEN)) - ST_COUNT_ONE(idx);
	} while (!atomic_compare_exchange_weak_explicit(&j->state, &old, new, memory_order_acq_rel,
							memory_order_relaxed));

	buf->u64s = buf->cap - st_left(old);
	/*
	 * As of now, not later: a pin is dropped after the keys that tell of its node's write
	 * were journaled, so what is dropped by now has them in this entry or an older one.
	 */
	buf->last_seq = j->last_seq;
	buf->state = BUF_CLOSED;
	buf->promise_bytes = journal_closed_bytes(j, buf, buf->u64s);
	j->cur_seq++;
	if (full && j->buf_want < j->entry_bytes)
		j->buf_want = min(j->buf_want * 2, j->entry_bytes);
	env_cond_signal(&j->writer_wait);
}

/*
 * One step of the slow path: 0 when the reservation was had; would_block (a
 * buffer), full (space) or nomem when only waiting helps. @pins are promised.
 */
static int res_step(struct journal *j, struct journal_res *res, u32 u64s, unsigned flags, u32 pins)
{
	int ret;

	for (;;) {
		enum journal_dig dig = JOURNAL_DIG_reclaim;
		unsigned try = flags;
		u64 st;

		if (j->err || j->run != JOURNAL_RUNNING)
			return -BCFS_ERR_journal_shutdown;
		if (pins && !journal_admits(j, pins, &dig))
			return -BCFS_ERR_journal_full;
		if (dig == JOURNAL_DIG_alone)
			try |= JOURNAL_RES_RECLAIM;
		if (res_try(j, res, u64s, try))
			return 0;
		st = j->state;
		if (st & ST_OPEN) {
			bool room = st_left(st) >= u64s && st_count(st, st_idx(st)) < ST_COUNT_MAX;

			if (room && (st & ST_LOW) && dig == JOURNAL_DIG_normal) {
				journal_space_update(j);
				if (j->state & ST_LOW)
					return -BCFS_ERR_journal_full;
				continue;
			}
			/* Not in vain: what is closed before it is full is room lost. */
			if (!room &&
			    !journal_room_behind_open(j, least_bytes(j, u64s), j->entry_bytes, dig))
				return -BCFS_ERR_journal_full;
			if (!room)
				journal_entry_close(j, true);
			continue;
		}
		ret = journal_entry_open(j, u64s, pins ? dig : JOURNAL_DIG_normal);
		if (ret == -BCFS_ERR_journal_full && dig == JOURNAL_DIG_reclaim)
			ret = journal_entry_open(j, u64s, dig);
		if (ret)
			return ret;
	}
}

static bool worth_waiting(int ret)
{
	return ret == -BCFS_ERR_journal_full || ret == -BCFS_ERR_journal_would_block ||
	       ret == -BCFS_ERR_nomem;
}

static void res_sleep(struct journal *j, int why)
{
	if (why == -BCFS_ERR_nomem) /* nobody will wake us */
		env_cond_timedwait(&j->wait, &j->lock, JOURNAL_NOMEM_RETRY_NS);
	else
		env_cond_wait(&j->wait, &j->lock);
}

/* Too little room: @pins more are wanted. The lock is held. */
static void wait_for_room(struct journal *j, u32 pins)
{
	j->waiting_pins = max(j->waiting_pins, pins);
	journal_reclaim_kick(j);
}

static void waited(struct journal *j)
{
	j->nr_waiting--;
	if (!j->nr_waiting)
		j->waiting_pins = 0;
}

/* Nothing is promised while waiting; between promising and taking it back the lock is held. */
static int res_get_slow(struct journal *j, struct journal_res *res, u32 u64s, unsigned flags)
{
	u32 pins = res_pins(flags);
	bool counted = false, nonblock = flags & JOURNAL_RES_NONBLOCK;
	int ret;

	env_mutex_lock(&j->lock);
	/* Who was refused because of what we promised on the fast path. */
	if (pins && j->nr_waiting)
		env_cond_broadcast(&j->wait);
	do {
		/* Before looking: whoever drops a promise after that sees that we wait. */
		j->nr_waiting++;
		j->promised += pins;
		ret = res_step(j, res, u64s, flags, pins);
		if (ret)
			j->promised -= pins;
		bool full = ret == -BCFS_ERR_journal_full;

		if (full)
			wait_for_room(j, pins);
		else
			waited(j);
		if (worth_waiting(ret)) {
			j->counters.waits += !counted;
			counted = true;
			if (!nonblock)
				res_sleep(j, ret);
		}
		if (full)
			waited(j);
	} while (worth_waiting(ret) && !nonblock);
	env_mutex_unlock(&j->lock);
	if (!ret)
		res->pins = pins;
	return worth_waiting(ret) ? -BCFS_ERR_journal_would_block : ret;
}

int journal_promise_get(struct journal *j, u32 pins)
{
	enum journal_dig dig;
	int ret = 0;

	env_mutex_lock(&j->lock);
	j->nr_waiting++;
	for (;;) {
		if (j->err || j->run != JOURNAL_RUNNING) {
			ret = -BCFS_ERR_journal_shutdown;
			break;
		}
		j->promised += pins;
		if (journal_admits(j, pins, &dig))
			break;
		j->promised -= pins;
		wait_for_room(j, pins);
		env_cond_wait(&j->wait, &j->lock);
	}
	waited(j);
	env_mutex_unlock(&j->lock);
	return ret;
}

void journal_promise_put(struct journal *j, u32 pins)
{
	promise_drop(j, pins);
}

u32 journal_res_max_u64s(const struct journal *j)
{
	return j->res_max_u64s;
}

int journal_res_get(struct journal *j, struct journal_res *res, u32 u64s, unsigned flags)
{
	u32 pins = res_pins(flags);

	assert(u64s);
	if (likely(promise_try(j, pins))) {
		if (likely(res_try(j, res, u64s, flags))) {
			res->pins = pins;
			return 0;
		}
		atomic_fetch_sub(&j->promised, pins);
	}
	if (u64s > j->res_max_u64s)
		return -BCFS_ERR_journal_res_too_big;
	return res_get_slow(j, res, u64s, flags);
}

int journal_res_wait(struct journal *j, u32 u64s, unsigned flags)
{
	struct journal_res res;
	int ret = journal_res_get(j, &res, u64s, flags & ~JOURNAL_RES_NONBLOCK);

	if (!ret)
		journal_res_put(j, &res);
	return ret;
}

/* Empty log entries over room that was not used. */
static void res_pad(struct journal *j, const struct journal_res *res)
{
	u64 *p = j->bufs[res->idx].data->start + res->offset;
	u32 left = res->u64s;

	while (left) {
		struct jset_entry *e = (struct jset_entry *)p;
		u32 n = min_t(u32, left - 1, UINT16_MAX);

		*e = (struct jset_entry){.u64s = n, .type = BCFS_JSET_ENTRY_log};
		memset(e->data, 0, n * sizeof(u64));
		p += 1 + n;
		left -= 1 + n;
	}
}

void journal_res_put(struct journal *j, struct journal_res *res)
{
	u64 old = atomic_load_explicit(&j->state, memory_order_relaxed), new;
	const unsigned idx = res->idx;
	const u32 behind = j->bufs[idx].cap - (res->offset + res->u64s);
	bool padded = !res->u64s;

	assert(res->ref);
	do {
		new = old - ST_COUNT_ONE(idx);
		/* Nobody reserved behind us: the rest goes back. */
		if (res->u64s && (old & ST_OPEN) && st_idx(old) == idx && st_left(old) == behind) {
			new += res->u64s;
		} else if (!padded) {
			res_pad(j, res);
			padded = true;
		}
	} while (!atomic_compare_exchange_weak_explicit(&j->state, &old, new, memory_order_acq_rel,
							memory_order_relaxed));
	res->ref = false;
	res->u64s = 0;
	if (!st_count(new, idx) && !planted(writer_not_woken)) {
		env_mutex_lock(&j->lock);
		env_cond_signal(&j->writer_wait);
		env_mutex_unlock(&j->lock);
	}
	promise_drop(j, res->pins);
	res->pins = 0;
}

void journal_add_entry(struct journal *j, struct journal_res *res, enum bcfs_jset_entry_type type,
		       u8 btree_id, u8 level, const void *payload, u32 u64s)
{
	struct jset_entry *e;

	assert(res->ref && u64s <= UINT16_MAX && jset_entry_u64s(u64s) <= res->u64s);
	assert(type != BCFS_JSET_ENTRY_btree_root ||
	       (btree_id < BTREE_ID_NR && jset_entry_u64s(u64s) <= j->root_u64s));
	e = (struct jset_entry *)(j->bufs[res->idx].data->start + res->offset);
	*e = (struct jset_entry){
		.u64s = u64s,
		.btree_id = btree_id,
		.level = level,
		.type = type,
	};
	copy_u64s(e->data, payload, u64s);
	res->offset += jset_entry_u64s(u64s);
	res->u64s -= jset_entry_u64s(u64s);
}

void journal_add_usage(struct journal *j, struct journal_res *res, enum bcfs_accounting_type type,
		       s64 delta)
{
	assert(res->ref && type < BCFS_ACCOUNTING_NR);
	__atomic_fetch_add(&j->bufs[res->idx].usage[type], delta, __ATOMIC_RELAXED);
}

/* The lock is held. */
void journal_request_flush(struct journal *j, u64 seq)
{
	u64 end = j->cur_seq + journal_is_open(j);

	if (j->flush_issued >= seq)
		return;
	seq = max(seq, j->seq_prepared + 1);
	if (seq < end)
		journal_buf_at(j, seq)->must_flush = true;
	else
		j->flush_empty = true;
	env_cond_signal(&j->writer_wait);
}

static int flush_wait(struct journal *j, u64 seq)
{
	u64 gen = j->flush_fail_gen;

	while (j->flushed_seq < seq) {
		if (j->err || j->run != JOURNAL_RUNNING)
			return journal_why_stopped(j);
		if (j->flush_fail_gen != gen && j->flush_fail_seq >= seq)
			return j->flush_fail_err;
		journal_request_flush(j, seq);
		env_cond_wait(&j->wait, &j->lock);
	}
	return 0;
}

int journal_flush_next(struct journal *j)
{
	return flush_wait(j, j->cur_seq);
}

/* The newest seq in which anything was reserved: nothing is gained by closing an entry for less. */
static u64 newest_reserved(const struct journal *j)
{
	u64 st = j->state;
	bool any = (st & ST_OPEN) && st_left(st) < j->bufs[st_idx(st)].cap;

	return j->cur_seq - !any;
}

int journal_flush_open(struct journal *j)
{
	return flush_wait(j, j->cur_seq - !journal_is_open(j));
}

int journal_flush_seq(struct journal *j, u64 seq)
{
	int ret;

	if (journal_flushed_seq(j) >= seq)
		return 0;
	env_mutex_lock(&j->lock);
	ret = flush_wait(j, min(seq, newest_reserved(j)));
	env_mutex_unlock(&j->lock);
	return ret;
}

int journal_flush(struct journal *j)
{
	int ret;

	env_mutex_lock(&j->lock);
	ret = flush_wait(j, max(newest_reserved(j), j->start_seq));
	env_mutex_unlock(&j->lock);
	return ret;
}

int journal_flush_past(struct journal *j, u64 seq)
{
	int ret = 0;

	env_mutex_lock(&j->lock);
	while (!ret && j->last_seq_ondisk < seq && atomic_load(&j->last_seq) >= seq)
		ret = journal_flush_next(j);
	env_mutex_unlock(&j->lock);
	return ret;
}

void journal_flush_async(struct journal *j, u64 seq)
{
	env_mutex_lock(&j->lock);
	seq = min(seq, newest_reserved(j));
	if (j->run == JOURNAL_RUNNING && !j->err && seq > j->flushed_seq)
		journal_request_flush(j, seq);
	env_mutex_unlock(&j->lock);
}

void journal_set_flush_only(struct journal *j, bool on)
{
	env_mutex_lock(&j->lock);
	j->flush_only = on;
	env_mutex_unlock(&j->lock);
}
