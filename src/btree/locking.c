// SPDX-License-Identifier: LGPL-2.1-or-later
/* Node locks as a transaction sees them: recursion, relock, waiting with nothing held. */
#include "btree/btree_private.h"

#define LOCKED(type) ((u8)((type) + 1))

/* Does this transaction hold intent on @b already? */
static bool trans_holds_intent(struct btree_trans *trans, const struct btree *b)
{
	for (struct btree_iter *i = trans->iters; i; i = i->next)
		for (unsigned l = 0; l < BTREE_MAX_DEPTH; l++)
			if (i->l[l].b == b && i->l[l].locked == LOCKED(SIX_INTENT))
				return true;
	return false;
}

bool btree_trans_trylock(struct btree_trans *trans, struct btree *b, enum six_type type)
{
	if (btree_trans_inject(trans, "trans_restart_lock"))
		return false;
	if (six_trylock(&b->lock, type))
		return true;
	if (type == SIX_INTENT && six_intent_held(&b->lock) && trans_holds_intent(trans, b)) {
		six_increment(&b->lock, SIX_INTENT);
		return true;
	}
	return false;
}

/*
 * Not for ever: @b may have been freed meanwhile, and be memory for a new node. Who has that keeps
 * it locked for as long as an interior update takes, and may be waiting for what our thread has:
 * the allocator's worker looks for space for it.
 */
#define LOCK_WAIT_NS (100 * ENV_NSEC_PER_MSEC)

int btree_trans_lock_wait(struct btree_trans *trans, struct btree *b, enum six_type type)
{
	btree_count(trans->c, lock_waits);
	btree_trans_unlock(trans);
	if (six_lock_timed(&b->lock, type, LOCK_WAIT_NS))
		six_unlock(&b->lock, type);
	return btree_trans_restart(trans, -BCFS_ERR_restart_lock);
}

void btree_iter_unlock_level(struct btree_iter *iter, unsigned level)
{
	struct btree_path_level *l = &iter->l[level];

	if (!l->locked)
		return;
	l->lock_seq = six_seq(&l->b->lock);
	six_unlock(&l->b->lock, l->locked - 1);
	l->locked = 0;
}

void btree_iter_unlock(struct btree_iter *iter)
{
	for (unsigned l = iter->level; l <= iter->root_level && l < BTREE_MAX_DEPTH; l++)
		btree_iter_unlock_level(iter, l);
}

bool btree_iter_relock_level(struct btree_iter *iter, unsigned level, enum six_type type)
{
	struct btree_path_level *l = &iter->l[level];

	if (!l->b)
		return false;
	if (l->locked > type)
		return true; /* held, at least as strong */
	if (l->locked) {
		/* read held, intent wanted */
		if (six_tryupgrade(&l->b->lock)) {
			l->locked = LOCKED(SIX_INTENT);
			return true;
		}
		if (trans_holds_intent(iter->trans, l->b)) {
			six_increment(&l->b->lock, SIX_INTENT);
			six_unlock(&l->b->lock, SIX_READ);
			l->locked = LOCKED(SIX_INTENT);
			return true;
		}
		goto failed;
	}
	if (six_relock(&l->b->lock, type, l->lock_seq)) {
		l->locked = LOCKED(type);
		return true;
	}
	if (type == SIX_INTENT && six_seq(&l->b->lock) == l->lock_seq &&
	    trans_holds_intent(iter->trans, l->b)) {
		six_increment(&l->b->lock, SIX_INTENT);
		l->locked = LOCKED(type);
		return true;
	}
failed:
	btree_count(iter->trans->c, relock_fails);
	return false;
}

void btree_trans_unlock(struct btree_trans *trans)
{
	for (struct btree_iter *i = trans->iters; i; i = i->next)
		btree_iter_unlock(i);
}

/* Read locks of this transaction: all, or those on one node. Seqs are kept for the relock. */
void btree_trans_unlock_reads(struct btree_trans *trans, struct btree *only)
{
	for (struct btree_iter *i = trans->iters; i; i = i->next)
		for (unsigned l = i->level; l <= i->root_level && l < BTREE_MAX_DEPTH; l++)
			if (i->l[l].locked == LOCKED(SIX_READ) && (!only || i->l[l].b == only))
				btree_iter_unlock_level(i, l);
}

int btree_trans_relock(struct btree_trans *trans)
{
	if (btree_trans_inject(trans, "trans_restart_relock"))
		return btree_trans_restart(trans, -BCFS_ERR_restart_injected);
	for (struct btree_iter *i = trans->iters; i; i = i->next) {
		if (!i->path_valid || !i->read)
			continue;
		enum six_type type = i->flags & BTREE_ITER_INTENT ? SIX_INTENT : SIX_READ;

		if (!btree_iter_relock_level(i, i->level, type))
			return btree_trans_restart(trans, -BCFS_ERR_restart_relock);
	}
	return 0;
}

void btree_trans_lock_write(struct btree_trans *trans, struct btree *b)
{
	if (six_trylock(&b->lock, SIX_WRITE))
		return;
	/* Our own readers would be waited for for ever. */
	btree_trans_unlock_reads(trans, b);
	if (six_trylock(&b->lock, SIX_WRITE))
		return;
	/*
	 * Somebody reads. Readers never wait while they hold a lock, and we must not hold
	 * read locks while we wait, or two writers could wait for each other's.
	 */
	btree_trans_unlock_reads(trans, NULL);
	six_lock(&b->lock, SIX_WRITE);
}
