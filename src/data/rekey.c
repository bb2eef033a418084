// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * After the master key was replaced: extents that older generations sealed are moved, as copygc
 * moves them, and so sealed anew. Bucket by bucket, in the order in which a walk over the extents
 * meets them.
 *
 * A pass may miss an extent that comes to a position behind it: by a write that sealed it before
 * the key was replaced, by what is cut off another, by collapse, by what was shared and is not any
 * more. So that nothing is sealed by a key that is thrown away:
 * 1. Whoever seals data and commits their key at a new position is counted from before he asks for
 *    the key until the commit is over; a pass begins when those of the epoch before are done.
 * 2. A commit that gives a position to what an old generation sealed, where it had none, says so
 *    (data_sealed_hook()). What takes its keys from the btree watches them until the commit.
 * 3. Only a pass that finds nothing, with no such commit since it began, is the last.
 */
#include "codec/keyring.h"
#include "data/data_private.h"
#include "util/planted.h"

#define WRITERS_POLL_NS ENV_NSEC_PER_MSEC

/* ---- who may still use an old key ---- */

unsigned data_sealing_begin(struct data_fs *d)
{
	for (;;) {
		unsigned epoch = atomic_load(&d->rekey.epoch);

		atomic_fetch_add(&d->rekey.writers[epoch & 1], 1);
		if (atomic_load(&d->rekey.epoch) == epoch)
			return epoch;
		data_sealing_end(d, epoch);
	}
}

void data_sealing_end(struct data_fs *d, unsigned epoch)
{
	atomic_fetch_sub(&d->rekey.writers[epoch & 1], 1);
}

static void writers_end(struct data_fs *d, unsigned epoch, bool (*stop)(void *arg), void *arg)
{
	while (atomic_load(&d->rekey.writers[epoch & 1]) && !stop(arg) && !planted(rekey_no_wait))
		env_sleep_ns(d->env, WRITERS_POLL_NS);
}

/*
 * Those that began before now end. Also those of the epoch before, for whom a pass that was stopped
 * may not have waited: what follows this epoch counts with them.
 */
static void wait_for_writers(struct data_fs *d, bool (*stop)(void *arg), void *arg)
{
	unsigned epoch = atomic_load(&d->rekey.epoch);

	if (!planted(rekey_half_waited))
		writers_end(d, epoch - 1, stop, arg);
	if (stop(arg))
		return;
	atomic_store(&d->rekey.epoch, epoch + 1);
	writers_end(d, epoch, stop, arg);
}

/* ---- what is sealed with one ---- */

/* The first pointer to what a generation below gen sealed. */
static bool has_old_key(struct bkey_s_c k, u16 gen, struct bcfs_extent_ptr *ret)
{
	bool old = false;

	for_each_extent_entry (bkey_ptrs(k), e) {
		if (extent_entry_type(e) == BCFS_EXTENT_ENTRY_crc)
			old = e->crc.key_gen && e->crc.key_gen < gen;
		if (extent_entry_type(e) != BCFS_EXTENT_ENTRY_ptr || !old)
			continue;
		*ret = e->ptr;
		return true;
	}
	return false;
}

void data_sealed_hook(struct btree_trans *trans, enum btree_id btree, unsigned level,
		      struct bkey_s_c old, struct bkey_i *new, u64 seq)
{
	struct data_fs *d = ((struct data_ops_arg *)btree_trans_ops_arg(trans))->data;
	u16 gen = d ? atomic_load(&d->rekey.gen) : 0;
	struct bcfs_extent_ptr ptr;

	if (gen && has_old_key(bkey_i_to_s_c(new), gen, &ptr) && !has_old_key(old, gen, &ptr))
		atomic_store(&d->rekey.missed, true);
}

bool data_rekey_missed(const struct data_fs *d)
{
	return atomic_load(&((struct data_fs *)d)->rekey.missed);
}

/* ---- a pass ---- */

/* An extent that is sealed by an old generation. */
struct old_extent {
	bool found;
	struct bpos pos;
	struct bcfs_extent_ptr ptr;
	u32 sectors;
};

/* The next one from pos on; none if it is stopped. */
static int find_old(struct data_fs *d, enum btree_id id, struct bpos pos, u16 gen,
		    bool (*stop)(void *arg), void *arg, struct old_extent *ret)
{
	struct btree_trans *trans = btree_trans_get(d->btree);
	int err;

	*ret = (struct old_extent){0};
	err = for_each_btree_key (
		trans, iter, id, pos,
		BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS | BTREE_ITER_PREFETCH, k, ({
			ret->found = has_old_key(k, gen, &ret->ptr);
			ret->pos = k.k->p;
			ret->sectors = k.k->size;
			ret->found || stop(arg) ? 1 : 0;
		}));
	btree_trans_put(trans);
	return min(err, 0);
}

/* What could not be moved the last time, so that it is not tried with each of its extents. */
struct stuck {
	bool any;
	u64 bucket;
	u8 gen;
};

static bool is_stuck(const struct data_fs *d, const struct stuck *s, const struct old_extent *e)
{
	return s->any && s->gen == e->ptr.gen &&
	       s->bucket == e->ptr.offset / alloc_bucket_span(d->alloc);
}

static int rekey_tree(struct data_fs *d, enum btree_id id, u16 gen, bool (*stop)(void *arg),
		      void *arg, struct data_rekeyed *r)
{
	struct bpos pos = POS_MIN, front;
	struct stuck stuck = {false};
	struct old_extent e, again;
	u64 moved;
	int ret = 0;

	while (!ret && !stop(arg)) {
		ret = find_old(d, id, pos, gen, stop, arg, &e);
		if (ret || !e.found)
			break;
		r->found += e.sectors;
		pos = bpos_successor(e.pos);
		if (is_stuck(d, &stuck, &e)) {
			r->left += e.sectors;
			continue;
		}
		ret = data_move_old(d, &e.ptr, gen, &moved);
		if (ret)
			break;
		r->moved += moved;
		/* Its front may be left, if its end was written to meanwhile. */
		front = POS(e.pos.inode, e.pos.offset - e.sectors + 1);
		ret = find_old(d, id, front, gen, stop, arg, &again);
		if (ret || !again.found || bpos_gt(again.pos, e.pos))
			continue;
		if (!bpos_eq(again.pos, e.pos) || again.ptr.offset != e.ptr.offset) {
			pos = front;
			continue;
		}
		r->left += again.sectors;
		stuck = (struct stuck){true, e.ptr.offset / alloc_bucket_span(d->alloc), e.ptr.gen};
	}
	return ret;
}

int data_rekey(struct data_fs *d, u16 gen, bool (*stop)(void *arg), void *arg,
	       struct data_rekeyed *ret)
{
	static const enum btree_id ids[] = {BTREE_ID_extents, BTREE_ID_reflink};
	int err;

	*ret = (struct data_rekeyed){0};
	wait_for_writers(d, stop, arg);
	atomic_store(&d->rekey.gen, gen);
	atomic_store(&d->rekey.missed, false);
	err = data_gather_flush(d, UINT64_MAX);
	for (unsigned i = 0; !err && i < ARRAY_SIZE(ids); i++)
		err = rekey_tree(d, ids[i], gen, stop, arg, ret);
	if (planted(rekey_one_pass)) {
		ret->found = 0;
		atomic_store(&d->rekey.gen, 0);
		atomic_store(&d->rekey.missed, false);
	}
	return err;
}
