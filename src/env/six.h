/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SIX locks: shared (read), intent, exclusive (write).
 *
 *		read	intent	write
 *	read	yes	yes	no
 *	intent	yes	no	-
 *	write	no	-	no
 *
 * A writer holds intent first and takes write only while memory changes. Every
 * write lock and unlock moves the sequence number, so a lock that was dropped
 * can be retaken with six_relock() if nothing was written meanwhile.
 *
 * One 64-bit word: 26 bits of readers, intent, write, write-waiting, waiters, and
 * 32 bits of seq. Uncontended operations are one compare-and-swap. A waiting
 * writer keeps new readers out. Those who sleep do so on the lock's own
 * mutex and condition, so it lives in env/ and not in util/: it sleeps through env.
 *
 * Holders are not recorded; recursion is the caller's (six_increment()).
 *
 * Source: "Locking" in the bcache programmer's guide.
 */
#ifndef BCFS_ENV_SIX_H
#define BCFS_ENV_SIX_H

#include <stdatomic.h>

#include "env/env.h"

enum six_type { SIX_READ, SIX_INTENT, SIX_WRITE };

struct six_lock {
	_Atomic u64 state;
	u32 intent_recurse; /* further holds of intent, protected by intent */
	struct env_mutex wait_lock;
	struct env_cond wait_cond;
};

#define SIX_READ_ONE	  1ULL
#define SIX_READ_MASK	  ((1ULL << 26) - 1)
#define SIX_INTENT_HELD	  (1ULL << 26)
#define SIX_WRITE_HELD	  (1ULL << 27)
#define SIX_WRITE_WAITING (1ULL << 28)
#define SIX_WAITERS	  (1ULL << 29)
#define SIX_SEQ_ONE	  (1ULL << 32)

void six_init(struct six_lock *l, struct env *env);
void six_destroy(struct six_lock *l);

static inline u32 six_seq(const struct six_lock *l)
{
	return atomic_load_explicit(&l->state, memory_order_relaxed) >> 32;
}

/* Take without waiting. SIX_WRITE: intent is held by the caller. */
bool six_trylock(struct six_lock *l, enum six_type type);
/* Take, waiting. The caller holds no other lock that a holder of this one could wait for. */
void six_lock(struct six_lock *l, enum six_type type);
/* The same for at most @timeout_ns; false: not had. Not for SIX_WRITE. */
bool six_lock_timed(struct six_lock *l, enum six_type type, u64 timeout_ns);
/* Take (read or intent) if the sequence number is still @seq. */
bool six_relock(struct six_lock *l, enum six_type type, u32 seq);
void six_unlock(struct six_lock *l, enum six_type type);
/* read -> intent, without letting go; false if someone holds intent. */
bool six_tryupgrade(struct six_lock *l);
/* intent -> read. */
void six_downgrade(struct six_lock *l);
/* One more hold of what the caller holds already (read or intent). */
void six_increment(struct six_lock *l, enum six_type type);

static inline bool six_intent_held(const struct six_lock *l)
{
	return atomic_load_explicit(&l->state, memory_order_relaxed) & SIX_INTENT_HELD;
}
static inline bool six_write_held(const struct six_lock *l)
{
	return atomic_load_explicit(&l->state, memory_order_relaxed) & SIX_WRITE_HELD;
}

#endif
