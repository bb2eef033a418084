// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Committing a transaction:
 *
 *  1. triggers, to a fixpoint: first of btrees of data and names, then of allocation;
 *  2. every iterator locked again, so that all that was read is still true;
 *  3. room in each leaf (else: unlock, split, restart);
 *  4. a journal reservation, without waiting (else: unlock, wait, restart). It is taken while
 *     the leaves are intent-held, so entries order as the leaves' changes do;
 *  5. write locks; read locks may have to be given up to get them, and are then checked again;
 *  6. keys into nodes and journal, pins; unlock.
 */
#include "btree/btree_private.h"
#include "util/planted.h"

#include <string.h>

/* ---- triggers ---- */

int btree_run_trigger(struct btree_trans *trans, unsigned id, unsigned level, struct bkey_s_c old,
		      struct bkey_s_c new)
{
	const struct bkey_ops_table *t = trans->c->opts.ops;
	const struct bkey_ops *o = bkey_ops_of(t, old.k->type), *n = bkey_ops_of(t, new.k->type);
	int ret = 0;

	if (o && o->trigger)
		ret = o->trigger(trans, id, level, old, new, 0);
	if (!ret && n && n->trigger && (!o || n->trigger != o->trigger))
		ret = n->trigger(trans, id, level, old, new, 0);
	return ret;
}

/* The btree's own key at the update's position. Its node is locked, and so stays as it is. */
static void update_find_old(struct btree_update *u)
{
	struct btree *b = u->iter->l[u->level].b;
	u32 seq = six_seq(&b->lock);
	struct bkey_packed *k;

	if (u->place_b != b || u->place_seq != seq) {
		btree_keys_find(&b->keys, u->k->k.p, &u->place);
		u->place_b = b;
		u->place_seq = seq;
	}
	k = btree_keys_at(&b->keys, u->k->k.p, &u->place);
	if (k) {
		u->old = bkey_disassemble(&b->keys.f, k, &u->old_k);
		return;
	}
	bkey_init(&u->old_k);
	u->old_k.p = u->k->k.p;
	u->old = (struct bkey_s_c){&u->old_k, NULL};
}

static int update_trigger(struct btree_trans *trans, struct btree_update *u)
{
	struct bkey_i *trig_old = u->trig_old;

	u->trig_done = true;
	u->trig_old = NULL;
	if (u->no_triggers || !trans->c->has_triggers[!!u->level])
		return 0;
	if (trig_old)
		return btree_run_trigger(trans, u->id, u->level, bkey_i_to_s_c(trig_old),
					 bkey_i_to_s_c(u->k));

	if (!btree_iter_relock_level(u->iter, u->level, SIX_INTENT))
		return btree_trans_restart(trans, -BCFS_ERR_restart_relock);
	update_find_old(u);
	return btree_run_trigger(trans, u->id, u->level, u->old, bkey_i_to_s_c(u->k));
}

static int run_triggers(struct btree_trans *trans)
{
	for (unsigned pass = 0; pass < 2; pass++) {
		bool again;

		do {
			again = false;
			for (size_t i = 0; i < trans->updates.nr; i++) {
				struct btree_update *u = trans->updates.data[i];
				bool alloc =
					!u->level && (btree_id_flags(u->id) & BTREE_IS_ALLOC_INFO);

				if (u->trig_done || alloc != pass)
					continue;
				int ret = update_trigger(trans, u);
				if (ret)
					return ret;
				/* The list may have grown in front of us. */
				again = true;
			}
		} while (again);
	}
	return 0;
}

/* ---- where each update goes ---- */

static struct btree *swap_target(struct interior_swap *s, struct btree *b, struct bpos pos)
{
	for (unsigned i = 0; i < s->nr_old; i++)
		if (s->old[i] == b)
			for (unsigned j = 0; j < s->nr_new; j++)
				if (s->new[j]->level == b->level &&
				    btree_node_covers(s->new[j], pos))
					return s->new[j];
	return b;
}

static bool swap_is_new(const struct interior_swap *s, const struct btree *b)
{
	for (unsigned i = 0; s && i < s->nr_new; i++)
		if (s->new[i] == b)
			return true;
	return false;
}

/* How deep an update may dig: interior updates of allocation btrees deepest. */
static enum btree_room trans_room(const struct btree_trans *trans, bool reserve)
{
	const struct interior_swap *s = trans->swap;

	if (s && btree_id_flags(s->old[0]->id) & BTREE_IS_ALLOC_INFO)
		return BTREE_ROOM_alloc_interior;
	return reserve ? BTREE_ROOM_interior : BTREE_ROOM_normal;
}

/* What a split for a commit may dig into. */
static unsigned space_flags(unsigned flags)
{
	return flags & (BTREE_COMMIT_RESERVE | BTREE_COMMIT_RECLAIM) ? BTREE_SPACE_RESERVE
	       : flags & BTREE_COMMIT_KEEPS			     ? BTREE_SPACE_KEEPS
								     : 0;
}

/* Where check_room() found none; nothing is locked. */
static int make_room(struct btree_trans *trans, unsigned flags)
{
	/*
	 * A split takes from what reclaim needs, so a user's is promised first. The same
	 * reserve as there, or it sees room where that saw none, for ever.
	 */
	bool user = !(flags & BTREE_COMMIT_RECLAIM);
	int ret = user ? journal_promise_get(trans->c->j, BTREE_SPLIT_PINS) : 0;

	if (ret)
		return ret;
	ret = btree_node_make_room(trans->c, trans->room.id, trans->room.level, trans->room.pos,
				   trans->room.u64s, trans->room.reserve, space_flags(flags));
	if (user)
		journal_promise_put(trans->c->j, BTREE_SPLIT_PINS);
	return ret;
}

/* Room in every target; else unlocks and makes some. */
static int check_room(struct btree_trans *trans, unsigned flags)
{
	for (size_t i = 0; i < trans->updates.nr;) {
		struct btree_update *first = trans->updates.data[i];
		struct btree *b = first->b;
		bool reserve = true;
		u32 u64s = 0;

		for (; i < trans->updates.nr && trans->updates.data[i]->b == b; i++) {
			u64s += btree_keys_insert_u64s(trans->updates.data[i]->k);
			reserve &= trans->updates.data[i]->reserve;
		}
		reserve |= trans->swap || flags & BTREE_COMMIT_SLACK;
		if (likely(u64s <= btree_node_room(b, trans_room(trans, reserve))))
			continue;
		trans->room.id = first->id;
		trans->room.level = first->level;
		trans->room.pos = first->k->k.p;
		trans->room.u64s = u64s;
		trans->room.in_new = swap_is_new(trans->swap, b);
		trans->room.reserve = reserve;
		if (trans->swap)
			return -BCFS_ERR_btree_need_room;
		btree_trans_unlock(trans);
		if (flags & BTREE_COMMIT_NO_WAIT)
			return -BCFS_ERR_commit_would_wait;
		return make_room(trans, flags)
			       ?: btree_trans_restart(trans, -BCFS_ERR_restart_split);
	}
	return 0;
}

static void resolve_targets(struct btree_trans *trans)
{
	for (size_t i = 0; i < trans->updates.nr; i++) {
		struct btree_update *u = trans->updates.data[i];

		u->b = u->iter->l[u->level].b;
		if (trans->swap)
			u->b = swap_target(trans->swap, u->b, u->k->k.p);
	}
}

int btree_trans_prepare(struct btree_trans *trans, unsigned flags)
{
	int ret = run_triggers(trans) ?: btree_trans_relock(trans);

	if (ret)
		return ret;
	resolve_targets(trans);
	return check_room(trans, flags);
}

/* ---- write locks ---- */

static void unlock_writes(struct btree_trans *trans, size_t nr_updates, unsigned nr_old)
{
	struct btree *prev = NULL;

	for (size_t i = 0; i < nr_updates; i++) {
		struct btree *b = trans->updates.data[i]->b;

		if (b != prev && !swap_is_new(trans->swap, b))
			six_unlock(&b->lock, SIX_WRITE);
		prev = b;
	}
	for (unsigned i = 0; i < nr_old; i++)
		six_unlock(&trans->swap->old[i]->lock, SIX_WRITE);
}

static bool is_write_target(struct btree_trans *trans, const struct btree *b)
{
	return six_write_held(&b->lock) && six_intent_held(&b->lock) && ({
		       bool found = false;

		       for (size_t i = 0; i < trans->updates.nr && !found; i++)
			       found = trans->updates.data[i]->b == b;
		       for (unsigned i = 0; trans->swap && i < trans->swap->nr_old && !found; i++)
			       found = trans->swap->old[i] == b;
		       found;
	       });
}

/* What was read without a lock since: unchanged? */
static int check_reads(struct btree_trans *trans)
{
	if (btree_trans_inject(trans, "trans_restart_reads"))
		return btree_trans_restart(trans, -BCFS_ERR_restart_injected);
	for (struct btree_iter *i = trans->iters; i; i = i->next) {
		struct btree_path_level *l = &i->l[i->level];

		if (!i->path_valid || !i->read || l->locked || is_write_target(trans, l->b))
			continue;
		if (!btree_iter_relock_level(i, i->level, SIX_READ))
			return btree_trans_restart(trans, -BCFS_ERR_restart_relock);
	}
	return 0;
}

static int lock_writes(struct btree_trans *trans)
{
	struct interior_swap *s = trans->swap;
	struct btree *prev = NULL;

	for (size_t i = 0; i < trans->updates.nr; i++) {
		struct btree *b = trans->updates.data[i]->b;

		if (b != prev && !swap_is_new(s, b))
			btree_trans_lock_write(trans, b);
		prev = b;
	}
	for (unsigned i = 0; s && i < s->nr_old; i++)
		btree_trans_lock_write(trans, s->old[i]);

	int ret = check_reads(trans);
	if (ret)
		unlock_writes(trans, trans->updates.nr, s ? s->nr_old : 0);
	return ret;
}

/* ---- making it so ---- */

/* How many nodes the updates change, at most. */
static u32 nr_targets(const struct btree_trans *trans)
{
	u32 nr = 0;

	for (size_t i = 0; i < trans->updates.nr; i++)
		nr += !i || trans->updates.data[i]->b != trans->updates.data[i - 1]->b;
	return nr;
}

u32 btree_commit_u64s_max(const struct btree_fs *c)
{
	return journal_res_max_u64s(c->j);
}

bool btree_journal_is_low(const struct btree_fs *c)
{
	return journal_is_low(c->j);
}

static u32 journal_u64s(struct btree_trans *trans)
{
	u32 u64s = 0;

	for (size_t i = 0; i < trans->updates.nr; i++)
		u64s += jset_entry_u64s(trans->updates.data[i]->k->k.u64s);
	if (trans->log)
		u64s += jset_entry_u64s(trans->log_u64s);
	if (trans->swap && trans->swap->new_root) {
		u64s += jset_entry_u64s(trans->swap->new_root->key.k.k.u64s);
		for (unsigned i = 0; trans->swap->root_grows && i < trans->swap->nr_new; i++)
			u64s += jset_entry_u64s(trans->swap->new[i]->key.k.k.u64s);
	}
	return u64s;
}

static void run_commit_hook(struct btree_trans *trans, struct btree_update *u, u64 seq)
{
	const struct bkey_ops *o = bkey_ops_of(trans->c->opts.ops, u->k->k.type);

	if (u->no_triggers || !o || !o->commit_hook)
		return;
	if (o->hook_sees_old)
		update_find_old(u);
	o->commit_hook(trans, u->id, u->level, o->hook_sees_old ? u->old : bkey_s_c_null, u->k,
		       seq);
}

/*
 * Is what was found before the write lock was taken still where it was? Taking it has moved the
 * sequence number by one; an earlier update of the same node has moved its keys.
 */
static void keep_place(struct btree_update *u, bool first_of_node)
{
	if ((!first_of_node && !planted(place_of_changed)) || u->place_b != u->b ||
	    u->place_seq + 1 != six_seq(&u->b->lock))
		u->place_b = NULL;
	else
		u->place_seq++;
}

static void apply_update(struct btree_trans *trans, struct btree_update *u, bool first_of_node,
			 struct journal_res *res)
{
	struct btree_fs *c = trans->c;

	keep_place(u, first_of_node);
	run_commit_hook(trans, u, res->seq);
	btree_keys_insert(&u->b->keys, u->k, res->seq, trans->scratch,
			  u->place_b == u->b ? &u->place : NULL);
	journal_pin_add(c->j, res->seq, &u->b->pins[u->b->w ^ planted(pin_on_other_side)]);
	journal_add_entry(c->j, res, BCFS_JSET_ENTRY_btree_keys, u->id, u->level, u->k,
			  u->k->k.u64s);
}

/* The journal's side of a new root. */
static void journal_new_root(struct btree_trans *trans, struct journal_res *res)
{
	struct interior_swap *s = trans->swap;
	struct btree *r = s->new_root;

	/*
	 * Keys of a level that did not exist a moment ago are in no journal entry; older
	 * ones of an earlier life of this level may be, and must not be the newest.
	 */
	for (unsigned i = 0; s->root_grows && i < s->nr_new; i++)
		if (s->new[i] != r)
			journal_add_entry(trans->c->j, res, BCFS_JSET_ENTRY_btree_keys, r->id,
					  r->level, &s->new[i]->key, s->new[i]->key.k.k.u64s);
	journal_add_entry(trans->c->j, res, BCFS_JSET_ENTRY_btree_root, r->id, r->level, &r->key,
			  r->key.k.k.u64s);
}

static void publish_swap(struct btree_trans *trans)
{
	struct btree_fs *c = trans->c;
	struct interior_swap *s = trans->swap;

	for (unsigned i = 0; i < s->nr_new; i++) {
		int ret = btree_node_hash_insert(c, s->new[i],
						 btree_ptr_hash(bkey_i_to_s_c(&s->new[i]->key.k)));

		assert(!ret);
		(void)ret;
		btree_node_clear(s->new[i], BTREE_NODE_new);
		btree_node_set(s->new[i], BTREE_NODE_accessed);
	}
	if (s->new_root) {
		struct btree_root *r = &c->roots[s->new_root->id];

		btree_node_set(s->new_root, BTREE_NODE_root);
		atomic_store(&r->level, s->new_root->level);
		atomic_store(&r->b, s->new_root);
	}
	for (unsigned i = 0; i < s->nr_old; i++) {
		btree_node_set(s->old[i], BTREE_NODE_dead);
		btree_node_clear(s->old[i], BTREE_NODE_root);
		btree_node_hash_remove(c, s->old[i]);
		/* Everything of theirs is in the new nodes, on the device. */
		journal_pin_drop(c->j, &s->old[i]->pins[0]);
		journal_pin_drop(c->j, &s->old[i]->pins[1]);
	}
}

/* Many updates, each in another node, are many cache misses: begin those of the next ones. */
static void prefetch_updates(struct btree_trans *trans, size_t i)
{
	struct btree_update **u = trans->updates.data + i;

	if (i + 4 < trans->updates.nr && u[4]->b != u[3]->b)
		btree_node_prefetch(u[4]->b);
	if (i + 2 < trans->updates.nr && u[2]->b != u[1]->b)
		btree_keys_prefetch(&u[2]->b->keys);
}

static void commit_locked(struct btree_trans *trans, struct journal_res *res)
{
	struct btree_fs *c = trans->c;
	u64 key_u64s = 0;

	for (size_t i = 0; i < trans->updates.nr; i++) {
		prefetch_updates(trans, i);
		struct btree_update *u = trans->updates.data[i];

		apply_update(trans, u, !i || trans->updates.data[i - 1]->b != u->b, res);
		key_u64s += u->k->k.u64s;
	}
	btree_count_add(c, key_bytes_inserted, key_u64s * 8);
	if (trans->log)
		journal_add_entry(c->j, res, BCFS_JSET_ENTRY_log, 0, 0, trans->log,
				  trans->log_u64s);
	if (trans->swap && trans->swap->new_root)
		journal_new_root(trans, res);
	if (trans->usage_dirty && !(planted(accounting_lost) && trans->swap)) {
		for (unsigned t = 0; t < BCFS_ACCOUNTING_NR; t++)
			if (trans->usage[t])
				journal_add_usage(c->j, res, t, trans->usage[t]);
		if (c->opts.accounted)
			c->opts.accounted(c->opts.arg, trans->usage);
	}
	if (trans->swap)
		publish_swap(trans);
	/* Before anybody sees it: a check that counts alike before and after saw one state. */
	btree_count(c, commits);
}

/* Iterators of this transaction on changed nodes: still valid, but not their node iterators. */
static void refresh_iters(struct btree_trans *trans)
{
	for (struct btree_iter *iter = trans->iters; iter; iter = iter->next) {
		/* Those that updates own are never read through. */
		for (size_t i = 0; iter->node_iter_valid && i < trans->updates.nr; i++)
			if (trans->updates.data[i]->b == iter->l[iter->level].b)
				iter->node_iter_valid = false;
	}
}

static void after_commit(struct btree_trans *trans)
{
	struct btree_fs *c = trans->c;
	struct btree *prev = NULL;

	btree_count_add(c, keys_inserted, trans->updates.nr);
	for (size_t i = 0; i < trans->updates.nr; i++) {
		struct btree *b = trans->updates.data[i]->b;

		if (b != prev)
			btree_node_after_insert(c, b);
		prev = b;
	}
}

static int get_journal_res(struct btree_trans *trans, struct journal_res *res, unsigned flags)
{
	struct btree_fs *c = trans->c;
	unsigned jflags = flags & BTREE_COMMIT_RECLAIM ? JOURNAL_RES_RECLAIM
						       : JOURNAL_RES_PINS(nr_targets(trans));
	u32 u64s = journal_u64s(trans);
	int ret = btree_trans_inject(trans, "trans_restart_journal")
			  ? -BCFS_ERR_journal_would_block
			  : journal_res_get(c->j, res, u64s, jflags | JOURNAL_RES_NONBLOCK);

	if (ret == -BCFS_ERR_journal_would_block) {
		trans->room.u64s = 0;
		trans->res_u64s = u64s;
		trans->res_flags = jflags;
		if (trans->swap)
			return ret; /* the interior update waits with nothing held */
		btree_trans_unlock(trans);
		if (flags & BTREE_COMMIT_NO_WAIT)
			return -BCFS_ERR_commit_would_wait;
		ret = journal_res_wait(c->j, u64s, jflags);
		return ret ?: btree_trans_restart(trans, -BCFS_ERR_restart_journal);
	}
	return ret;
}

int btree_trans_wait(struct btree_trans *trans, unsigned flags)
{
	return trans->room.u64s ? make_room(trans, flags)
				: journal_res_wait(trans->c->j, trans->res_u64s, trans->res_flags);
}

int btree_trans_commit(struct btree_trans *trans, unsigned flags, u64 *ret_seq)
{
	const bool unlocked = planted(node_unlocked_early);
	struct journal_res res = {0};
	int ret;

	if (ret_seq)
		*ret_seq = 0;
	if (!trans->updates.nr && !trans->swap && !trans->usage_dirty && !trans->log)
		return 0;

	ret = run_triggers(trans);
	if (ret)
		return ret;
	if (btree_trans_inject(trans, "trans_restart_commit")) {
		btree_trans_unlock(trans);
		return btree_trans_restart(trans, -BCFS_ERR_restart_injected);
	}
	ret = btree_trans_relock(trans);
	if (ret)
		return ret;
	resolve_targets(trans);
	ret = check_room(trans, flags) ?: get_journal_res(trans, &res, flags);
	if (ret)
		return ret;
	ret = lock_writes(trans);
	if (ret) {
		journal_res_put(trans->c->j, &res);
		return ret;
	}
	if (unlocked)
		unlock_writes(trans, trans->updates.nr, trans->swap ? trans->swap->nr_old : 0);
	commit_locked(trans, &res);
	if (ret_seq)
		*ret_seq = res.seq;
	if (!unlocked)
		unlock_writes(trans, trans->updates.nr, trans->swap ? trans->swap->nr_old : 0);
	journal_res_put(trans->c->j, &res);

	refresh_iters(trans);
	after_commit(trans);
	btree_trans_reset_updates(trans);
	return 0;
}

u64 btree_journal_seq(const struct btree_fs *c)
{
	return journal_cur_seq(c->j);
}
