// SPDX-License-Identifier: LGPL-2.1-or-later
#include "env/six.h"
#include "util/planted.h"

void six_init(struct six_lock *l, struct env *env)
{
	atomic_init(&l->state, 0);
	l->intent_recurse = 0;
	env_mutex_init(&l->wait_lock, env);
	env_cond_init(&l->wait_cond, env);
}

void six_destroy(struct six_lock *l)
{
	env_cond_destroy(&l->wait_cond);
	env_mutex_destroy(&l->wait_lock);
}

/* Nothing outside a simulation. */
static inline void six_point(const struct six_lock *l)
{
	if (unlikely(l->wait_lock.sim))
		env_sim_lock_point(l->wait_lock.sim);
}

/* The state after taking @type from @old, or 0 if it cannot be had now. */
static inline bool six_next(u64 old, enum six_type type, u64 *new)
{
	switch (type) {
	case SIX_READ:
		if (old & (SIX_WRITE_HELD | SIX_WRITE_WAITING))
			return false;
		*new = old + SIX_READ_ONE;
		return true;
	case SIX_INTENT:
		if (old & SIX_INTENT_HELD)
			return false;
		*new = old | SIX_INTENT_HELD;
		return true;
	case SIX_WRITE:
		if (old & SIX_READ_MASK)
			return false;
		*new = ((old & ~SIX_WRITE_WAITING) | SIX_WRITE_HELD) + SIX_SEQ_ONE;
		return true;
	}
	return false;
}

bool six_trylock(struct six_lock *l, enum six_type type)
{
	six_point(l);

	u64 old = atomic_load_explicit(&l->state, memory_order_relaxed), new;

	assert(type != SIX_WRITE || (old & SIX_INTENT_HELD));
	do {
		if (!six_next(old, type, &new))
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&l->state, &old, new, memory_order_acquire,
							memory_order_relaxed));
	return true;
}

bool six_relock(struct six_lock *l, enum six_type type, u32 seq)
{
	six_point(l);

	u64 old = atomic_load_explicit(&l->state, memory_order_relaxed), new;

	do {
		if (((u32)(old >> 32) != seq && !planted(relock_unchecked)) ||
		    !six_next(old, type, &new))
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&l->state, &old, new, memory_order_acquire,
							memory_order_relaxed));
	return true;
}

void six_lock(struct six_lock *l, enum six_type type)
{
	if (six_trylock(l, type))
		return;

	env_mutex_lock(&l->wait_lock);
	while (1) {
		/* Announce first, then look: whoever unlocks after this sees the announcement. */
		atomic_fetch_or(&l->state,
				SIX_WAITERS | (type == SIX_WRITE ? SIX_WRITE_WAITING : 0));
		if (six_trylock(l, type))
			break;
		env_cond_wait(&l->wait_cond, &l->wait_lock);
	}
	env_mutex_unlock(&l->wait_lock);
}

bool six_lock_timed(struct six_lock *l, enum six_type type, u64 timeout_ns)
{
	bool had = six_trylock(l, type), in_time = true;

	assert(type != SIX_WRITE);
	if (had)
		return true;
	env_mutex_lock(&l->wait_lock);
	while (!had && in_time) {
		atomic_fetch_or(&l->state, SIX_WAITERS);
		had = six_trylock(l, type);
		if (!had)
			in_time = env_cond_timedwait(&l->wait_cond, &l->wait_lock, timeout_ns);
	}
	env_mutex_unlock(&l->wait_lock);
	return had;
}

static void six_wake(struct six_lock *l)
{
	env_mutex_lock(&l->wait_lock);
	atomic_fetch_and(&l->state, ~SIX_WAITERS);
	env_cond_broadcast(&l->wait_cond);
	env_mutex_unlock(&l->wait_lock);
}

void six_unlock(struct six_lock *l, enum six_type type)
{
	u64 old, sub;

	switch (type) {
	case SIX_READ:
		old = atomic_fetch_sub_explicit(&l->state, SIX_READ_ONE, memory_order_seq_cst);
		assert(old & SIX_READ_MASK);
		/* Only a writer can have waited for this. */
		if ((old & SIX_WAITERS) && (old & SIX_READ_MASK) == 1)
			six_wake(l);
		six_point(l);
		return;
	case SIX_INTENT:
		assert(six_intent_held(l) && !six_write_held(l));
		if (l->intent_recurse) {
			l->intent_recurse--;
			return;
		}
		old = atomic_fetch_sub_explicit(&l->state, SIX_INTENT_HELD, memory_order_seq_cst);
		break;
	default:
		assert(six_write_held(l));
		sub = SIX_WRITE_HELD - SIX_SEQ_ONE; /* clears the bit and moves seq */
		old = atomic_fetch_sub_explicit(&l->state, sub, memory_order_seq_cst);
		break;
	}
	if (old & SIX_WAITERS)
		six_wake(l);
	six_point(l);
}

bool six_tryupgrade(struct six_lock *l)
{
	six_point(l);

	u64 old = atomic_load_explicit(&l->state, memory_order_relaxed);

	do {
		if (old & SIX_INTENT_HELD)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&l->state, &old, (old - SIX_READ_ONE) | SIX_INTENT_HELD, memory_order_seq_cst,
		memory_order_relaxed));
	if ((old & SIX_WAITERS) && (old & SIX_READ_MASK) == 1)
		six_wake(l);
	return true;
}

void six_downgrade(struct six_lock *l)
{
	assert(!l->intent_recurse);
	u64 old = atomic_fetch_add_explicit(&l->state, SIX_READ_ONE - SIX_INTENT_HELD,
					    memory_order_seq_cst);
	assert(old & SIX_INTENT_HELD);
	if (old & SIX_WAITERS)
		six_wake(l);
	six_point(l);
}

void six_increment(struct six_lock *l, enum six_type type)
{
	if (type == SIX_READ) {
		u64 old = atomic_fetch_add_explicit(&l->state, SIX_READ_ONE, memory_order_relaxed);

		assert(old & SIX_READ_MASK);
		(void)old;
	} else {
		assert(type == SIX_INTENT && six_intent_held(l));
		l->intent_recurse++;
	}
}
