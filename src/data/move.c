// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Moving live data out of a bucket, driven by its backpointers. For a batch of extents: their keys
 * are copied, their live sectors read and verified, written to copygc's write point, and each key
 * is replaced in a transaction that first looks whether the file's range still lies where it was
 * read from. What was overwritten meanwhile is left alone; the new place is then a loss until its
 * bucket's next life.
 *
 * Only what is live is moved: the dead sectors of a trimmed extent stay behind, and with them the
 * checksums that covered them; new ones are made. A compressed extent moves as it is stored while
 * all of it is live; of a trimmed one the live part is expanded and compressed by itself, which may
 * take more than its share was. So a bucket with such is emptied only if all of it takes less than
 * a bucket even plain.
 *
 * What is sealed moves as it is, not decrypted, while all of it is live, its key is the newest, and
 * there is room for it in one piece; otherwise it is sealed anew.
 */
#include "codec/keyring.h"
#include "data/data_private.h"
#include "util/planted.h"

#include <string.h>

#define MOVE_BATCH	 16U
#define MOVE_SECTORS_MAX 4096U
#define MOVE_PIECES	 24U /* an extent may end up in two buckets */
#define MOVE_TRIES	 4U

struct move_extent {
	struct data_fs *d;
	union data_key key;
	struct extent_ptr_decoded p; /* p.crc points into key */
	struct bdev_io io;
	u8 *buf;
	u32 stored_start, stored_sectors; /* what is read */
	u32 skip;			  /* sectors of it in front of the live ones */
	bool whole;			  /* compressed or sealed, and moves as it is stored */
	bool rewrite;			  /* compressed as it wants to be, not as it is */
	/* If not: compressed, expanded; and room for being compressed or sealed again. */
	u8 *plain, *packed;
};

/* A part of an extent, on its way to where it will lie. */
struct move_piece {
	struct move_extent *e;
	struct data_fs *d;
	struct alloc_sectors space;
	struct bdev_io io;
	u64 start;	    /* sectors of the file */
	u32 sectors;	    /* ditto */
	u32 from;	    /* sectors that this part of it takes now */
	u32 stored_sectors; /* and that it takes then */
	union data_key key;
};

struct data_move {
	struct data_fs *d;
	const struct alloc_gc_victim *v;
	struct bpos next, end; /* backpointers */
	/* Only extents that are stored between these sectors of the device. */
	u64 first, last;
	u16 old_gen;	       /* not 0: only what is sealed by a generation below it */
	unsigned commit_flags; /* of what is not rewritten */
	bool stuck;
	u64 found; /* extents */
	u64 moved; /* sectors */
	struct data_rewritten rewritten;
	struct data_scratch *scratch;
	unsigned nr;
	struct move_extent e[MOVE_BATCH];
	unsigned nr_pieces; /* in flight */
	struct move_piece pieces[MOVE_PIECES];
};

/* ---- which ---- */

/* Device sector of the file's sector 0, were all of the file where this part is; wraps. */
static u64 extent_base(const struct extent_ptr_decoded *p, const struct bkey *k)
{
	return (u64)p->ptr.offset + p->live_offset - bkey_start_offset(k);
}

/* The only pointer of @k, if it is one that can be moved. */
static bool movable(const struct data_fs *d, struct bkey_s_c k, struct extent_ptr_decoded *ret)
{
	struct extent_ptr_decoded p;
	unsigned nr = 0;

	if (k.k->type != KEY_TYPE_extent && k.k->type != KEY_TYPE_reflink_v)
		return false;
	for_each_extent_ptr(k, 0, it, p)
	{
		*ret = p;
		nr++;
	}
	return nr == 1 && !ret->ptr.unwritten && !ret->ptr.dev && !extent_readable(d, ret->crc);
}

/* Where a key that can be moved is. */
static enum btree_id move_btree(const struct bkey *k)
{
	return k->type == KEY_TYPE_reflink_v ? BTREE_ID_reflink : BTREE_ID_extents;
}

static bool asked_for(const struct data_move *m, struct bkey_s_c k)
{
	struct extent_ptr_decoded p;
	bool ret = false;

	for_each_extent_ptr(k, 0, it, p)
	{
		ret |= p.ptr.offset >= m->first && p.ptr.offset <= m->last;
	}
	return ret;
}

/* The key behind a backpointer into m->e[m->nr]. 0, a restart, an error; positive: nothing there.
 */
static int move_lookup(struct btree_trans *trans, struct data_move *m, struct bpos bp_pos,
		       const struct bcfs_backpointer *bp)
{
	struct move_extent *e = &m->e[m->nr];
	struct bcfs_backpointer found;
	struct btree_iter iter;
	struct bpos pos;
	int ret;

	if ((bp->btree_id != BTREE_ID_extents && bp->btree_id != BTREE_ID_reflink) || bp->level) {
		m->stuck = true;
		return 1;
	}
	btree_iter_init(trans, &iter, bp->btree_id, bp->pos,
			BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS);
	struct bkey_s_c k = btree_iter_peek_slot(&iter);
	ret = bkey_err(k);
	if (!ret && bkey_val_u64s(k.k))
		bkey_reassemble(&e->key.k, k);
	else
		ret = ret ?: 1;
	btree_iter_exit(&iter);
	if (ret)
		return ret;
	k = bkey_i_to_s_c(&e->key.k);
	if (!asked_for(m, k))
		return 1;
	if (!movable(m->d, k, &e->p)) {
		m->stuck = true;
		return 1;
	}
	if (m->old_gen && !(e->p.crc && e->p.crc->key_gen && e->p.crc->key_gen < m->old_gen))
		return 1;
	alloc_backpointer_of_key(k, move_btree(k.k), &e->p, &pos, &found);
	return bpos_eq(pos, bp_pos) && found.bucket_gen == bp->bucket_gen ? 0 : 1;
}

/* A batch of extents, from m->next on; m->next moves behind them. */
static int move_collect(struct btree_trans *trans, struct data_move *m, struct bpos from)
{
	struct btree_iter iter;
	u32 sectors = 0;
	int ret = 0;

	m->nr = 0;
	m->next = from;
	btree_iter_init(trans, &iter, BTREE_ID_backpointers, from, 0);
	while (m->nr < MOVE_BATCH && sectors < MOVE_SECTORS_MAX) {
		struct bkey_s_c k = btree_iter_peek_max(&iter, bpos_predecessor(m->end));

		ret = bkey_err(k);
		if (ret)
			break;
		if (!k.k) {
			m->next = m->end;
			break;
		}
		if (k.k->type == KEY_TYPE_backpointer) {
			struct bcfs_backpointer bp;

			memcpy(&bp, k.v, sizeof(bp));
			ret = bp.bucket_gen == m->v->gen ? move_lookup(trans, m, k.k->p, &bp) : 1;
			if (ret < 0)
				break;
			if (!ret)
				sectors += m->e[m->nr++].key.k.k.size;
			ret = 0;
		}
		m->next = bpos_successor(iter.pos);
		if (!btree_iter_advance(&iter)) {
			m->next = m->end;
			break;
		}
	}
	btree_iter_exit(&iter);
	return ret;
}

/* ---- reading ---- */

static bool extent_whole(const struct data_fs *d, const struct extent_ptr_decoded *p,
			 const struct bkey *k)
{
	const struct bcfs_extent_crc *crc = p->crc;

	if (d->opts.keys && crc->key_gen != keyring_newest(d->opts.keys, KEY_USE_data)->gen)
		return false;
	return (extent_compressed(crc) || d->opts.keys) &&
	       (k->size == crc->uncompressed_sectors || planted(trimmed_moved_whole));
}

static int move_read_start(struct data_fs *d, struct move_extent *e)
{
	u32 start = e->p.live_offset, end = start + e->key.k.k.size;

	extent_read_range(d, &e->p, &start, &end);
	e->stored_start = start;
	e->stored_sectors = end - start;
	e->skip = e->p.live_offset - start;
	e->d = d;
	e->plain = e->packed = NULL;
	e->whole = !e->rewrite && extent_whole(d, &e->p, &e->key.k.k);
	e->buf =
		env_malloc_aligned(d->env, DATA_IO_ALIGN, (size_t)e->stored_sectors * SECTOR_BYTES);
	if (!e->buf)
		return -BCFS_ERR_nomem;
	data_read_submit(d, &e->io, (u64)e->p.ptr.offset + start, e->stored_sectors, e->buf, 0);
	return 0;
}

/* How a key says that it is to be compressed. */
static u16 wanted(struct bkey_s_c k)
{
	const struct bcfs_extent_rebalance *r = extent_rebalance(k);

	return r ? r->compression : 0;
}

/* Is the range still where it was read from, and, of a rewrite, as it is wanted? Positive: no. */
static int still_there(struct btree_trans *trans, struct btree_iter *iter,
		       const struct move_extent *e, u64 start, u64 end)
{
	const struct bkey *was = &e->key.k.k;
	struct bkey_s_c k = btree_iter_peek_slot(iter);
	struct extent_ptr_decoded p;

	if (bkey_err(k))
		return bkey_err(k);
	if (k.k->p.snapshot != was->p.snapshot || k.k->type != was->type || !movable(e->d, k, &p) ||
	    bkey_start_offset(k.k) > start || k.k->p.offset < end)
		return 1;
	if (e->rewrite && wanted(k) != wanted(bkey_i_to_s_c(&e->key.k)))
		return 1;
	return p.ptr.gen == e->p.ptr.gen && extent_base(&p, k.k) == extent_base(&e->p, was) ? 0 : 1;
}

static int look_again(struct btree_trans *trans, const struct move_extent *e)
{
	const struct bkey *k = &e->key.k.k;
	struct btree_iter iter;
	int ret;

	btree_iter_init(trans, &iter, move_btree(k),
			SPOS(k->p.inode, bkey_start_offset(k), k->p.snapshot), 0);
	ret = still_there(trans, &iter, e, bkey_start_offset(k), k->p.offset);
	btree_iter_exit(&iter);
	return ret;
}

static int move_room_packed(struct data_move *m, struct move_extent *e)
{
	e->packed = env_malloc_aligned(m->d->env, DATA_IO_ALIGN,
				       (size_t)e->key.k.k.size * SECTOR_BYTES);
	return e->packed ? 0 : -BCFS_ERR_nomem;
}

/* What it says was tried, for [@start, @end): positive: it is gone. */
static int tried_step(struct btree_trans *trans, const struct move_extent *e, u64 start, u64 end)
{
	const struct bkey *was = &e->key.k.k;
	struct btree_iter iter;
	struct bkey_s_c k;
	struct bkey_i *n;
	int ret;

	btree_iter_init(trans, &iter, move_btree(was), SPOS(was->p.inode, start, was->p.snapshot),
			BTREE_ITER_INTENT);
	ret = still_there(trans, &iter, e, start, end);
	if (!ret) {
		k = btree_iter_peek_slot(&iter);
		ret = bkey_err(k);
	}
	if (!ret) {
		n = btree_trans_copy_key(trans, k, 0);
		ret = rebalance_set_tried(n) ? btree_trans_update(trans, &iter, n, 0) : 1;
	}
	btree_iter_exit(&iter);
	return ret;
}

/* It does not become less, or cannot be read: once is enough. */
static int move_tried(struct data_move *m, struct btree_trans *trans, const struct move_extent *e,
		      u64 start, u64 end)
{
	int ret = commit_do(trans, NULL, BTREE_COMMIT_KEEPS, tried_step(trans, e, start, end));

	btree_trans_unlock(trans);
	if (!ret)
		m->rewritten.in_vain += end - start;
	else if (ret > 0)
		m->rewritten.gone += end - start;
	return min(ret, 0);
}

/* Memory of its codec, there and back: the extent before may have needed less. */
static int move_scratch(struct data_move *m, const struct bcfs_extent_crc *crc)
{
	/* One that another version made may be longer than those that are made now. */
	size_t compress_mem =
		compress_bytes(crc->compression, 0, (size_t)BCFS_EXTENT_MAX_SECTORS * SECTOR_BYTES);

	data_scratch_put(m->d, m->scratch);
	m->scratch =
		data_scratch_get(m->d, max(compress_mem, decompress_bytes(crc->compression)), 0);
	return m->scratch ? 0 : -BCFS_ERR_nomem;
}

/* A compressed extent that is not moved as it is. */
static int move_expand(struct data_move *m, struct move_extent *e)
{
	const struct bcfs_extent_crc *crc = e->p.crc;

	e->plain = env_malloc_aligned(m->d->env, DATA_IO_ALIGN,
				      (size_t)crc->uncompressed_sectors * SECTOR_BYTES);
	if (!e->plain)
		return -BCFS_ERR_nomem;
	return move_scratch(m, crc) ?: extent_expand(crc, m->scratch, e->buf, e->plain);
}

/* Verify; what is not moved as it is: decrypt, expand. */
static int move_open(struct data_move *m, struct move_extent *e)
{
	struct data_fs *d = m->d;
	const struct bcfs_extent_crc *crc = e->p.crc;
	u32 good, bad;
	int ret;

	if (e->whole)
		return extent_verify(d, crc, e->stored_start, e->buf, e->stored_sectors, &good,
				     &bad);
	if ((extent_compressed(crc) || d->opts.keys || e->rewrite) && move_room_packed(m, e))
		return -BCFS_ERR_nomem;
	ret = extent_open(d, crc, e->stored_start, e->buf, e->stored_sectors, &good, &bad);
	return !ret && extent_compressed(crc) ? move_expand(m, e) : ret;
}

/* It stays where it is. */
static int move_bad(struct data_move *m, const struct move_extent *e, int err)
{
	const struct bkey *k = &e->key.k.k;
	struct data_file f = {.snapshot = k->p.snapshot, .inum = k->p.inode};

	data_error(m->d, &f, err, bkey_start_offset(k) << SECTOR_SHIFT,
		   (u64)k->size << SECTOR_SHIFT, "read of file data to be moved");
	m->stuck = true;
	return 1;
}

/* 0: the live sectors are right; positive: they are gone, or bad for good. */
static int move_read_finish(struct data_move *m, struct btree_trans *trans, struct move_extent *e)
{
	const struct bkey *k = &e->key.k.k;
	int ret = e->io.ret ?: move_open(m, e);

	if (!ret || ret == -BCFS_ERR_nomem)
		return ret;
	int gone = lockrestart_do(trans, look_again(trans, e));
	btree_trans_unlock(trans);
	if (gone)
		return gone;
	ret = move_bad(m, e, ret);
	if (e->rewrite)
		ret = move_tried(m, trans, e, bkey_start_offset(k), k->p.offset);
	return ret < 0 && e->rewrite ? ret : 1;
}

/* ---- writing ---- */

/*
 * What is put in the place of a key: with what it says of rebalance now, which a scan may have
 * changed, and the count that shared data have now.
 */
static int move_keep(struct btree_trans *trans, struct btree_iter *iter,
		     const struct move_extent *e, const union data_key *new, struct bkey_i **ret)
{
	struct bkey_i *k = btree_trans_copy_key(trans, bkey_i_to_s_c(&new->k), sizeof(u64));
	struct bkey_s_c old = btree_iter_peek_slot(iter);
	const struct bcfs_extent_rebalance *r;

	if (bkey_err(old))
		return bkey_err(old);
	r = extent_rebalance(old);
	if (r && (!e->rewrite || planted(rebalance_entry_kept)) &&
	    bkey_val_u64s(&k->k) < BKEY_VAL_U64s_MAX)
		rebalance_set_entry(k, r);
	if (old.k->type == KEY_TYPE_reflink_v)
		k = reflink_v_of(trans, bkey_i_to_s_c(k),
				 planted(share_moved_alone)
					 ? 1
					 : ((const struct bcfs_reflink_v *)old.v)->refcount);
	*ret = k;
	return 0;
}

static int move_commit_step(struct btree_trans *trans, const struct move_extent *e,
			    const union data_key *new)
{
	const struct bkey *n = &new->k.k;
	struct btree_iter iter;
	struct bkey_i *k;
	int ret;

	btree_iter_init(trans, &iter, move_btree(&e->key.k.k),
			SPOS(n->p.inode, bkey_start_offset(n), n->p.snapshot), BTREE_ITER_INTENT);
	ret = still_there(trans, &iter, e, bkey_start_offset(n), n->p.offset);
	if (ret > 0 && e->rewrite && planted(rebalance_unconditional))
		ret = 0;
	ret = ret ?: move_keep(trans, &iter, e, new, &k);
	if (!ret)
		ret = btree_trans_update(trans, &iter, k, 0);
	btree_iter_exit(&iter);
	return ret;
}

static int gc_space(void *arg, u32 sectors, struct alloc_sectors *ret)
{
	struct data_move *m = arg;

	return alloc_gc_sectors_get(m->d->alloc, sectors, ret);
}

/*
 * All of an extent as it is stored, compressed or sealed. The end of a bucket that is too short for
 * it takes a part, which is an extent by itself; and so is the rest.
 */
static int piece_place_whole(struct data_move *m, struct move_piece *p, u32 sectors,
			     struct extent_form *form)
{
	struct move_extent *e = p->e;
	const struct bcfs_extent_crc *crc = e->p.crc;
	bool compressed = extent_compressed(crc);
	int ret = gc_space(m, crc->stored_sectors, &p->space);

	if (ret)
		return ret;
	if (p->space.sectors == crc->stored_sectors) {
		*form = (struct extent_form){.data = e->buf,
					     .stored_sectors = crc->stored_sectors,
					     .sectors = sectors,
					     .compression = crc->compression,
					     .sealed = crc->key_gen ? crc : NULL};
		return 0;
	}
	e->whole = false;
	ret = move_open(m, e);
	if (ret) {
		alloc_sectors_done(m->d->alloc, &p->space);
		return ret == -BCFS_ERR_nomem ? ret : move_bad(m, e, ret);
	}
	extent_place_in(m->d, m->scratch, compression_opt(crc->compression, 0),
			compressed ? e->plain : e->buf, sectors,
			compressed ? crc->stored_sectors : 0, e->packed, &p->space, form);
	return 0;
}

/* Less than it takes now, or not at all: positive. */
static int rewrite_space(void *arg, u32 sectors, struct alloc_sectors *ret)
{
	const struct move_piece *p = arg;

	return sectors < p->from ? alloc_sectors_get(p->d->alloc, REBALANCE_STREAM, sectors, ret)
				 : 1;
}

/* [@start, @end), or the first part of it, as is wanted. Positive: it does not become less. */
static int rewrite_place(struct data_move *m, struct move_piece *p, u64 start, u64 end,
			 struct extent_form *form)
{
	const struct move_extent *e = p->e;
	u16 want = extent_rebalance(bkey_i_to_s_c(&e->key.k))->compression;
	u32 size = e->key.k.k.size, n = (u32)(end - start);
	size_t at = (size_t)(start - bkey_start_offset(&e->key.k.k)) * SECTOR_BYTES;
	const u8 *src = e->plain ? e->plain + (size_t)e->p.live_offset * SECTOR_BYTES
				 : e->buf + (size_t)e->skip * SECTOR_BYTES;
	int ret = 0;

	p->d = m->d;
	p->from = (u32)DIV_ROUND_UP((u64)e->p.held_sectors * n, size);
	/* What another piece was compressed with may be less. */
	data_scratch_put(m->d, m->scratch);
	m->scratch = data_scratch_get(m->d, rebalance_compress_mem(want), 0);
	if (!m->scratch)
		return -BCFS_ERR_nomem;
	for (unsigned tries = 0; !ret && tries < MOVE_TRIES; tries++) {
		ret = extent_place(m->d, rewrite_space, p, m->scratch, want, src + at, n,
				   e->packed + at, &p->space, form);
		if (ret || form->compression)
			return ret;
		/* The end of a bucket, where it does not fit: no use for it. */
		alloc_sectors_done(m->d->alloc, &p->space);
	}
	return -BCFS_ERR_nospc;
}

static int piece_place(struct data_move *m, struct move_piece *p, u64 start, u64 end,
		       struct extent_form *form)
{
	struct move_extent *e = p->e;
	u32 at = (u32)(start - bkey_start_offset(&e->key.k.k));
	u32 live = planted(compressed_front_moved) ? 0 : e->p.live_offset;
	const struct bcfs_extent_crc *crc = e->p.crc;

	if (e->rewrite)
		return rewrite_place(m, p, start, end, form);
	if (e->whole)
		return piece_place_whole(m, p, (u32)(end - start), form);
	/* Longer ones than are made now may not fit into a key with today's checksums. */
	end = min(end, start + m->d->opts.extent_max_sectors);
	if (e->plain)
		return move_scratch(m, crc)
			       ?: extent_place(m->d, gc_space, m, m->scratch,
					       compression_opt(crc->compression, 0),
					       e->plain + (size_t)(live + at) * SECTOR_BYTES,
					       (u32)(end - start),
					       e->packed + (size_t)at * SECTOR_BYTES, &p->space,
					       form);
	return extent_place(m->d, gc_space, m, NULL, 0,
			    e->buf + (size_t)(e->skip + at) * SECTOR_BYTES, (u32)(end - start),
			    e->packed ? e->packed + (size_t)at * SECTOR_BYTES : NULL, &p->space,
			    form);
}

/* Space for [@start, @end) of the file, or the first part of it, and its write begins. */
static int piece_submit(struct data_move *m, struct move_piece *p, struct move_extent *e, u64 start,
			u64 end)
{
	struct data_fs *d = m->d;
	const struct bkey *k = &e->key.k.k;
	struct extent_form form;
	int ret;

	p->e = e;
	ret = piece_place(m, p, start, end, &form);
	if (ret)
		return ret;
	if (e->rewrite)
		alloc_sectors_trim(d->alloc, REBALANCE_STREAM, &p->space, form.stored_sectors);
	else
		alloc_gc_sectors_trim(d->alloc, &p->space, form.stored_sectors);
	p->start = start;
	p->sectors = form.sectors;
	ret = extent_encode(d, SPOS(k->p.inode, start + form.sectors, k->p.snapshot), &p->space.ptr,
			    &form, &p->key);
	if (ret) {
		alloc_sectors_done(d->alloc, &p->space);
		return ret;
	}
	p->stored_sectors = form.stored_sectors;
	bdev_io_init(&p->io, BDEV_WRITE, (u64)p->space.ptr.offset << SECTOR_SHIFT,
		     (void *)form.data, (u64)form.stored_sectors << SECTOR_SHIFT, 0);
	bdev_submit(d->bdev, &p->io);
	return 0;
}

/* 0: it lies there now; positive: what it is a copy of is gone; or an error. */
static int piece_commit(struct data_move *m, struct btree_trans *trans, const struct move_piece *p)
{
	int ret = commit_do(trans, NULL, p->e->rewrite ? BTREE_COMMIT_KEEPS : m->commit_flags,
			    move_commit_step(trans, p->e, &p->key));

	btree_trans_unlock(trans);
	if (!ret)
		m->moved += p->space.sectors;
	if (!p->e->rewrite)
		return ret;
	if (!ret) {
		m->rewritten.sectors += p->sectors;
		m->rewritten.from +=
			DIV_ROUND_UP((u64)p->e->p.held_sectors * p->sectors, p->e->key.k.k.size);
		m->rewritten.to += p->stored_sectors;
	} else if (ret > 0) {
		m->rewritten.gone += p->sectors;
	}
	return ret;
}

/* The write of @p failed: all of it again, elsewhere, a part at a time. */
static int piece_again(struct data_move *m, struct btree_trans *trans, struct move_piece *p)
{
	u64 start = p->start, end = start + p->sectors;
	struct move_extent *e = p->e;
	unsigned tries = 1;

	while (start < end) {
		alloc_sectors_done(m->d->alloc, &p->space);
		int ret = piece_submit(m, p, e, start, end);

		if (ret) {
			p->space.sectors = 0;
			return min(ret, 0);
		}
		ret = bdev_wait(m->d->bdev, &p->io);
		if (ret == -BCFS_ERR_dev_write && ++tries < MOVE_TRIES)
			continue;
		ret = ret ?: piece_commit(m, trans, p);
		if (ret)
			return ret;
		start += p->sectors;
	}
	return 0;
}

/* All that was submitted; after an error they are only waited for. */
static int pieces_finish(struct data_move *m, struct btree_trans *trans, int ret)
{
	for (unsigned i = 0; i < m->nr_pieces; i++) {
		struct move_piece *p = &m->pieces[i];
		int err = bdev_wait(m->d->bdev, &p->io);

		if (err == -BCFS_ERR_dev_write && !ret)
			err = piece_again(m, trans, p);
		else if (!err && !ret)
			err = piece_commit(m, trans, p);
		ret = ret ?: min(err, 0);
		if (p->space.sectors)
			alloc_sectors_done(m->d->alloc, &p->space);
	}
	m->nr_pieces = 0;
	return ret;
}

static int move_write(struct data_move *m, struct btree_trans *trans, struct move_extent *e)
{
	const struct bkey *k = &e->key.k.k;
	u64 start = bkey_start_offset(k);
	int ret = 0;

	while (!ret && start < k->p.offset) {
		if (m->nr_pieces == MOVE_PIECES)
			ret = pieces_finish(m, trans, 0);
		if (!ret)
			ret = piece_submit(m, &m->pieces[m->nr_pieces], e, start, k->p.offset);
		if (!ret)
			start += m->pieces[m->nr_pieces++].sectors;
	}
	return ret > 0 && e->rewrite ? move_tried(m, trans, e, start, k->p.offset) : min(ret, 0);
}

/* ---- a bucket ---- */

static int move_batch(struct data_move *m, struct btree_trans *trans)
{
	struct data_fs *d = m->d;
	unsigned submitted = 0;
	int ret = 0;

	while (!ret && submitted < m->nr) {
		ret = move_read_start(d, &m->e[submitted]);
		submitted += !ret;
	}
	for (unsigned i = 0; i < submitted; i++) {
		bdev_wait(d->bdev, &m->e[i].io);
		if (!ret)
			ret = move_read_finish(m, trans, &m->e[i])
				      ?: move_write(m, trans, &m->e[i]);
		ret = min(ret, 0);
	}
	/* What was written is good, even if others could not be. */
	int err = pieces_finish(m, trans, 0);
	for (unsigned i = 0; i < submitted; i++) {
		env_free(d->env, m->e[i].packed);
		env_free(d->env, m->e[i].plain);
		env_free(d->env, m->e[i].buf);
	}
	return ret ?: err;
}

/*
 * Sectors that moving all of the bucket may take. Where a bucket ends, one extent is cut, and what
 * was compressed in one piece takes a little more in two: that is not worth it for less.
 */
static int move_cost(struct data_move *m, struct btree_trans *trans, struct bpos from, u64 *ret)
{
	u32 block = m->d->block_sectors, longest = 0;
	int err = 0;

	*ret = 0;
	while (!err && bpos_lt(from, m->end)) {
		err = lockrestart_do(trans, move_collect(trans, m, from));
		btree_trans_unlock(trans);
		for (unsigned i = 0; !err && i < m->nr; i++) {
			const struct bkey *k = &m->e[i].key.k.k;
			const struct bcfs_extent_crc *crc = m->e[i].p.crc;
			bool whole = extent_whole(m->d, &m->e[i].p, k);

			*ret += whole ? crc->stored_sectors : k->size;
			if (whole && extent_compressed(crc))
				longest = max(longest, crc->stored_sectors);
		}
		from = m->next;
	}
	if (longest > block)
		*ret += round_up(longest / 8, block);
	return err;
}

/* @at_any_cost: though it may take more than a bucket. */
static int move_bucket(struct data_move *m, bool at_any_cost)
{
	struct data_fs *d = m->d;
	struct btree_trans *trans;
	struct bpos from;
	int ret = 0;

	alloc_bucket_backpointers(d->alloc, m->v->bucket, &from, &m->end);
	trans = btree_trans_get(d->btree);
	if (!at_any_cost && alloc_has_compressed(d->alloc)) {
		u64 cost;

		ret = move_cost(m, trans, from, &cost);
		if (!ret && cost >= alloc_bucket_sectors(d->alloc)) {
			m->stuck = true;
			from = m->end;
		}
	}
	while (!ret && bpos_lt(from, m->end)) {
		ret = lockrestart_do(trans, move_collect(trans, m, from));
		btree_trans_unlock(trans);
		m->found += ret ? 0 : m->nr;
		if (!ret)
			ret = move_batch(m, trans);
		from = m->next;
	}
	btree_trans_put(trans);
	data_scratch_put(d, m->scratch);
	m->scratch = NULL;
	return ret;
}

static struct data_move *move_new(struct data_fs *d, const struct alloc_gc_victim *v)
{
	struct data_move *m = env_zalloc(d->env, sizeof(*m));

	if (m) {
		m->d = d;
		m->v = v;
		m->last = UINT64_MAX;
		m->commit_flags = BTREE_COMMIT_RESERVE;
	}
	return m;
}

int data_move_bucket(struct data_fs *d, const struct alloc_gc_victim *v, u64 *ret_moved,
		     bool *ret_stuck)
{
	struct data_move *m = move_new(d, v);
	int ret;

	*ret_moved = 0;
	*ret_stuck = false;
	if (!m)
		return -BCFS_ERR_nomem;
	ret = move_bucket(m, false);
	*ret_moved = m->moved;
	*ret_stuck = m->stuck;
	env_free(d->env, m);
	return ret;
}

int data_move_failed(struct data_fs *d, const struct bcfs_extent_ptr *ptr, u32 sectors)
{
	struct alloc_gc_victim v = {.bucket = ptr->offset / alloc_bucket_span(d->alloc),
				    .gen = ptr->gen};
	struct data_move *m = move_new(d, &v);
	int ret = 0;

	if (!m)
		return -BCFS_ERR_nomem;
	m->first = ptr->offset;
	m->last = ptr->offset + sectors - 1;
	/* The flush that would give the journal room waits for this. */
	m->commit_flags |= BTREE_COMMIT_RECLAIM;
	/* One that is cut while it is moved is left alone, and found again. */
	do {
		m->found = 0;
		ret = move_bucket(m, true);
	} while (!ret && m->found && !m->stuck);
	if (m->stuck && !ret)
		ret = -BCFS_ERR_dev_write;
	env_free(d->env, m);
	return ret;
}

int data_move_old(struct data_fs *d, const struct bcfs_extent_ptr *ptr, u16 gen, u64 *ret_moved)
{
	struct alloc_gc_victim v = {.bucket = ptr->offset / alloc_bucket_span(d->alloc),
				    .gen = ptr->gen};
	struct data_move *m = move_new(d, &v);
	int ret;

	*ret_moved = 0;
	if (!m)
		return -BCFS_ERR_nomem;
	m->old_gen = gen;
	ret = move_bucket(m, true);
	*ret_moved = m->moved;
	env_free(d->env, m);
	return ret;
}

/* ---- rewriting ---- */

bool data_rewritable(const struct data_fs *d, struct bkey_s_c k)
{
	struct extent_ptr_decoded p;
	u16 want = extent_rebalance(k)->compression;

	return movable(d, k, &p) && compression_opt_type(want) && k.k->size > d->block_sectors &&
	       !compression_level_check(compression_opt_type(want), compression_opt_level(want),
					NULL);
}

int data_rewrite(struct data_fs *d, const union data_key *keys, unsigned nr,
		 struct data_rewritten *ret)
{
	struct btree_trans *trans = btree_trans_get(d->btree);
	struct data_move *m = move_new(d, NULL);
	int err = -BCFS_ERR_nomem;

	*ret = (struct data_rewritten){0};
	if (m) {
		for (; m->nr < min(nr, MOVE_BATCH); m->nr++) {
			struct move_extent *e = &m->e[m->nr];

			memcpy(&e->key, &keys[m->nr], keys[m->nr].k.k.u64s * sizeof(u64));
			e->rewrite = true;
			movable(d, bkey_i_to_s_c(&e->key.k), &e->p);
		}
		err = move_batch(m, trans);
		data_scratch_put(d, m->scratch);
		*ret = m->rewritten;
	}
	btree_trans_put(trans);
	env_free(d->env, m);
	return err;
}
