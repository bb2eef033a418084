/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pins, and the thread that gets rid of them. Each seq from last_seq on has a
 * list of its pins in a ring; the front moves when the oldest list runs empty.
 *
 * Pins that a thread is flushing hang on a second list of their seq, so that
 * nobody else takes them; what is still pinned when the flush returns goes back.
 */
#include "journal/journal_private.h"

static struct journal_pin_list *list_at(struct journal *j, u64 seq)
{
	assert(seq >= j->last_seq && seq < j->pin_back);
	return &j->pins[seq & j->pin_mask];
}

static void pin_link(struct journal_entry_pin **head, struct journal_entry_pin *pin)
{
	pin->next = *head;
	pin->pprev = head;
	if (pin->next)
		pin->next->pprev = &pin->next;
	*head = pin;
}

static void pin_unlink(struct journal_entry_pin *pin)
{
	*pin->pprev = pin->next;
	if (pin->next)
		pin->next->pprev = pin->pprev;
	pin->next = NULL;
	pin->pprev = NULL;
}

static void move_head(struct journal_entry_pin **to, struct journal_entry_pin *from)
{
	*to = from;
	if (from)
		from->pprev = to;
}

/* Room for seqs [last_seq, last_seq + nr). */
static int pins_resize(struct journal *j, u64 nr)
{
	u64 size = 64;
	struct journal_pin_list *n;

	while (size < nr)
		size *= 2;
	n = env_zalloc(j->env, size * sizeof(*n));
	if (!n)
		return -BCFS_ERR_nomem;
	for (u64 seq = j->last_seq; seq < j->pin_back; seq++) {
		struct journal_pin_list *from = &j->pins[seq & j->pin_mask];
		struct journal_pin_list *to = &n[seq & (size - 1)];

		to->count = from->count;
		to->opened_ns = from->opened_ns;
		move_head(&to->unflushed, from->unflushed);
		move_head(&to->flushing, from->flushing);
	}
	env_free(j->env, j->pins);
	j->pins = n;
	j->pin_mask = size - 1;
	return 0;
}

int journal_pins_init(struct journal *j, u64 last_seq, u64 cur_seq)
{
	u64 now = env_mono_ns(j->env);
	int ret;

	j->last_seq = last_seq;
	j->pin_back = last_seq;
	ret = pins_resize(j, cur_seq - last_seq + 1);
	if (ret)
		return ret;
	j->pin_back = cur_seq;
	j->replay_end = last_seq < cur_seq ? cur_seq : 0;
	for (u64 seq = last_seq; seq < cur_seq; seq++)
		*list_at(j, seq) = (struct journal_pin_list){.count = 1, .opened_ns = now};
	return 0;
}

int journal_pin_push(struct journal *j, u64 seq)
{
	int ret = 0;

	env_mutex_lock(&j->pin_lock);
	assert(seq == j->pin_back);
	/* In good time, so that it may fail once. */
	if ((j->pin_back - j->last_seq) * 2 > j->pin_mask)
		ret = pins_resize(j, (j->pin_mask + 1) * 2);
	if (j->pin_back - j->last_seq <= j->pin_mask)
		ret = 0;
	if (!ret) {
		j->pin_back++;
		*list_at(j, seq) = (struct journal_pin_list){
			.count = 1,
			.opened_ns = env_mono_ns(j->env),
		};
	}
	env_mutex_unlock(&j->pin_lock);
	return ret;
}

/* pin_lock is held. True when last_seq moved. */
static bool list_put(struct journal *j, u64 seq)
{
	u64 last = j->last_seq;

	assert(list_at(j, seq)->count);
	list_at(j, seq)->count--;
	while (last < j->pin_back && !j->pins[last & j->pin_mask].count)
		last++;
	if (last == j->last_seq)
		return false;
	j->last_seq = last;
	return true;
}

void journal_pin_put_own(struct journal *j, u64 seq)
{
	env_mutex_lock(&j->pin_lock);
	list_put(j, seq);
	env_mutex_unlock(&j->pin_lock);
}

void journal_replay_done(struct journal *j)
{
	env_mutex_lock(&j->lock);
	env_mutex_lock(&j->pin_lock);
	/* last_seq moves as we go; nobody else gives these back. */
	for (u64 seq = j->last_seq, end = j->replay_end; seq < end; seq++)
		list_put(j, seq);
	j->replay_end = 0;
	env_mutex_unlock(&j->pin_lock);
	journal_reclaim_kick(j);
	env_mutex_unlock(&j->lock);
}

/* pin_lock is held. True when last_seq moved. */
static bool pin_detach(struct journal *j, struct journal_entry_pin *pin)
{
	u64 seq = pin->seq;

	if (!seq)
		return false;
	pin_unlink(pin);
	pin->seq = 0;
	j->nr_pins--;
	j->pin_drops++;
	env_cond_broadcast(&j->pin_wait);
	return list_put(j, seq);
}

static void pin_set(struct journal *j, u64 seq, struct journal_entry_pin *pin)
{
	bool moved = false;

	env_mutex_lock(&j->pin_lock);
	/* The new one first: it must not slip behind last_seq meanwhile. */
	if (seq)
		list_at(j, seq)->count++;
	moved = pin_detach(j, pin);
	if (seq) {
		pin_link(&list_at(j, seq)->unflushed, pin);
		pin->seq = seq;
		j->nr_pins++;
	}
	env_mutex_unlock(&j->pin_lock);
	if (moved || (!seq && j->nr_waiting)) {
		env_mutex_lock(&j->lock);
		if (!seq)
			journal_space_update(j);
		journal_reclaim_kick(j);
		env_mutex_unlock(&j->lock);
	} else if (seq && j->nr_pins > j->pins_max && (j->state & (ST_OPEN | ST_LOW)) == ST_OPEN) {
		env_mutex_lock(&j->lock);
		journal_space_update(j);
		journal_reclaim_kick(j);
		env_mutex_unlock(&j->lock);
	}
}

void journal_pin_add(struct journal *j, u64 seq, struct journal_entry_pin *pin)
{
	u64 old = atomic_load_explicit(&pin->seq, memory_order_relaxed);

	if (!old || old > seq)
		pin_set(j, seq, pin);
}

void journal_pin_update(struct journal *j, u64 seq, struct journal_entry_pin *pin)
{
	if (atomic_load_explicit(&pin->seq, memory_order_relaxed) < seq)
		pin_set(j, seq, pin);
}

void journal_pin_drop(struct journal *j, struct journal_entry_pin *pin)
{
	if (atomic_load_explicit(&pin->seq, memory_order_relaxed))
		pin_set(j, 0, pin);
}

void journal_pin_copy(struct journal *j, struct journal_entry_pin *dst,
		      const struct journal_entry_pin *src)
{
	u64 seq = src->seq;

	if (seq)
		journal_pin_add(j, seq, dst);
}

/* ---- flushing ---- */

/* Up to a batch of the oldest unflushed pins at or below @seq, moved to `flushing`. */
static unsigned pins_take(struct journal *j, u64 seq, struct journal_entry_pin **ret)
{
	unsigned nr = 0;

	env_mutex_lock(&j->pin_lock);
	for (u64 s = j->last_seq; s <= seq && s < j->pin_back; s++) {
		struct journal_pin_list *l = list_at(j, s);

		while (l->unflushed && nr < JOURNAL_MAX_PINS_BATCH) {
			struct journal_entry_pin *pin = l->unflushed;

			pin_unlink(pin);
			pin_link(&l->flushing, pin);
			ret[nr++] = pin;
		}
		if (nr == JOURNAL_MAX_PINS_BATCH)
			break;
	}
	env_mutex_unlock(&j->pin_lock);
	return nr;
}

/* What is still pinned can be taken again. Returns how many that are at or below @seq. */
static unsigned pins_return(struct journal *j, u64 seq, struct journal_entry_pin **pins,
			    unsigned nr)
{
	unsigned left = 0;

	env_mutex_lock(&j->pin_lock);
	for (unsigned i = 0; i < nr; i++) {
		u64 s = pins[i]->seq;

		if (!s)
			continue;
		pin_unlink(pins[i]);
		pin_link(&list_at(j, s)->unflushed, pins[i]);
		left += s <= seq;
	}
	env_cond_broadcast(&j->pin_wait);
	env_mutex_unlock(&j->pin_lock);
	return left;
}

/* One batch. *ret_nr: pins taken; *ret_gone: how many of them no longer pin @seq or older. */
static int flush_batch(struct journal *j, u64 seq, unsigned *ret_nr, unsigned *ret_gone)
{
	struct journal_entry_pin *pins[JOURNAL_MAX_PINS_BATCH];
	unsigned nr;
	u64 limit;
	int ret = 0;

	env_mutex_lock(&j->lock);
	limit = journal_flush_limit(j);
	env_mutex_unlock(&j->lock);
	nr = pins_take(j, min(seq, limit), pins);
	*ret_nr = nr;
	*ret_gone = 0;
	if (!nr)
		return 0;
	ret = j->opts.ops->flush_pins(j->opts.arg, pins, nr, seq);
	*ret_gone = nr - pins_return(j, seq, pins, nr);
	env_mutex_lock(&j->lock);
	j->counters.reclaimed += *ret_gone;
	journal_space_update(j);
	env_mutex_unlock(&j->lock);
	return ret;
}

/* Any pin (not the entries' own references) at or below seq? pin_lock is held. */
static bool pins_below(struct journal *j, u64 seq)
{
	for (u64 s = j->last_seq; s <= seq && s < j->pin_back; s++)
		if (list_at(j, s)->unflushed || list_at(j, s)->flushing)
			return true;
	return false;
}

bool journal_pins_upto(struct journal *j, u64 seq)
{
	bool ret;

	env_mutex_lock(&j->pin_lock);
	ret = pins_below(j, seq);
	env_mutex_unlock(&j->pin_lock);
	return ret;
}

bool journal_has_pins(struct journal *j)
{
	return journal_pins_upto(j, UINT64_MAX);
}

int journal_flush_pins(struct journal *j, u64 seq)
{
	unsigned idle = 0;

	env_mutex_lock(&j->pin_lock);
	seq = min(seq, j->pin_back - 1);
	env_mutex_unlock(&j->pin_lock);
	for (;;) {
		unsigned nr, gone;
		u64 drops;
		int ret;

		if (j->err || j->run != JOURNAL_RUNNING)
			return journal_why_stopped(j);
		env_mutex_lock(&j->pin_lock);
		drops = j->pin_drops;
		env_mutex_unlock(&j->pin_lock);
		ret = flush_batch(j, seq, &nr, &gone);
		idle = gone ? 0 : idle + 1;
		if (nr && ret && !gone)
			return ret;
		if (gone)
			continue;
		env_mutex_lock(&j->pin_lock);
		if (!pins_below(j, seq)) {
			env_mutex_unlock(&j->pin_lock);
			return 0;
		}
		/* Others are at it, or writes are under way. */
		if (j->pin_drops == drops)
			env_cond_timedwait(&j->pin_wait, &j->pin_lock,
					   min(idle, 10U) * 10 * ENV_NSEC_PER_MSEC);
		env_mutex_unlock(&j->pin_lock);
	}
}

/* ---- the thread ---- */

/*
 * A flush entry with a newer last_seq, if that would free what is wanted. When the
 * ring is short, any bucket is; else an eighth of it.
 */
static void ask_flush(struct journal *j, bool space_low)
{
	u32 freeable = journal_freeable(j);
	bool open_low = journal_is_open(j) && (j->state & ST_LOW);
	u32 normal = journal_keep_buckets(j, JOURNAL_DIG_normal) + 1;

	if (!freeable)
		return;
	if (j->nr_waiting || open_low || j->free_ahead <= normal ||
	    (space_low && freeable >= max(j->nr_buckets / 8, 1U)))
		journal_request_flush(j, j->seq_prepared + 1);
}

/*
 * Something moved, or somebody needs space. The flush entry that frees it is asked for
 * here and not left to the thread, which may itself be waiting in flush_pins().
 */
void journal_reclaim_kick(struct journal *j)
{
	if (j->run != JOURNAL_RUNNING || j->err)
		return;
	ask_flush(j, false);
	j->reclaim_kicked = true;
	env_cond_signal(&j->reclaim_wait);
}

/* The newest seq whose pins are older than the dirty age; *ret_wait_ns: when to look again. */
static u64 aged_seq(struct journal *j, u64 *ret_wait_ns)
{
	u64 now = env_mono_ns(j->env), seq = 0;

	*ret_wait_ns = 0;
	env_mutex_lock(&j->pin_lock);
	for (u64 s = j->last_seq; s < j->pin_back; s++) {
		struct journal_pin_list *l = list_at(j, s);

		if (!l->unflushed)
			continue;
		if (l->opened_ns + JOURNAL_DIRTY_AGE_NS > now) {
			*ret_wait_ns = l->opened_ns + JOURNAL_DIRTY_AGE_NS - now;
			break;
		}
		seq = s;
	}
	env_mutex_unlock(&j->pin_lock);
	return seq;
}

/* Wait for a kick, or wait_ns if not 0. The lock is held. */
static void reclaim_wait(struct journal *j, u64 wait_ns)
{
	if (wait_ns)
		env_cond_timedwait(&j->reclaim_wait, &j->lock, wait_ns);
	else
		env_cond_wait(&j->reclaim_wait, &j->lock);
}

static bool reclaim_ends(const struct journal *j)
{
	return j->stopping || j->err || j->run != JOURNAL_RUNNING;
}

/* Nothing could be flushed: no further try for a while; but last_seq may move by itself. */
static void reclaim_back_off(struct journal *j, u64 ms)
{
	u64 now = env_mono_ns(j->env), until = now + ms * ENV_NSEC_PER_MSEC;

	for (; now < until && !reclaim_ends(j); now = env_mono_ns(j->env)) {
		ask_flush(j, journal_space_target(j, 0));
		reclaim_wait(j, until - now);
	}
}

/*
 * A device that takes no writes: each round uses up places of nodes, until there are none, and
 * those who wait for room in the ring would wait for ever.
 */
static bool device_is_dead(unsigned *rounds, int ret)
{
	if (ret == -BCFS_ERR_dev_write || (*rounds && ret == -BCFS_ERR_nospc))
		++*rounds;
	return *rounds >= JOURNAL_RECLAIM_TRIES;
}

void journal_reclaim_thread(void *arg)
{
	struct journal *j = arg;
	u32 backoff_ms = 0;
	unsigned dead = 0;

	env_mutex_lock(&j->lock);
	while (!reclaim_ends(j)) {
		unsigned nr = 0, gone = 0;
		u64 target, aged, wait_ns;
		int ret = 0;

		j->reclaim_kicked = false;
		env_mutex_unlock(&j->lock);
		aged = aged_seq(j, &wait_ns);
		env_mutex_lock(&j->lock);
		target = journal_space_target(j, aged);
		ask_flush(j, journal_space_target(j, 0));
		env_mutex_unlock(&j->lock);

		/* While keys are replayed nodes are not whole, and there is nothing to gain. */
		if (target && !j->replay_end)
			ret = flush_batch(j, target, &nr, &gone);
		/* Once all has stopped there is none to be expected. */
		if (nr && !gone && ret && ret != -BCFS_ERR_btree_halted && !j->err &&
		    j->run == JOURNAL_RUNNING)
			log_warn_ratelimited(
				j->log, &j->rl_reclaim,
				"journal: reclaim up to seq %llu makes no progress: %s",
				(unsigned long long)target, err_str(ret));
		if (nr && !gone && device_is_dead(&dead, ret))
			journal_set_error(j, -BCFS_ERR_dev_write);

		env_mutex_lock(&j->lock);
		if (gone) {
			backoff_ms = 0;
			dead = 0;
		} else if (nr) {
			backoff_ms = min(backoff_ms + j->opts.reclaim_delay_ms, 1000U);
			reclaim_back_off(j, backoff_ms);
		} else if (!j->reclaim_kicked && !reclaim_ends(j)) {
			reclaim_wait(j, wait_ns);
		}
	}
	env_mutex_unlock(&j->lock);
}
