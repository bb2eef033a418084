// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Writing. The range, widened to whole blocks, goes through in batches of bounded length. For each:
 *
 *  1. its bytes, in an aligned buffer: the caller's own where it fits, else a copy, with the
 *     partial blocks at the edges completed from what the file holds;
 *  2. a disk reservation;
 *  3. space, encoding, and the device write of each extent, all of them in flight together;
 *  4. in ascending order: wait for an extent's write, then commit its key with the caller's update.
 *
 * A write that fails is done again with other space; what was allocated for it stays unused until
 * its bucket's next life. What is small is not written here but gathered (gather.c), with that of
 * other files behind it, and nothing is waited for. What is little, and all of a file's last block,
 * becomes a key (inline.c).
 *
 * Promises: a reservation key in the range has counted its sectors already, and its disappearing
 * takes them back in the same commit. So at first the whole batch is reserved; only if that fails,
 * what the keys promise is subtracted, and the disk reservation is then held to the end of the
 * batch. In the usual case it is given back as space is taken, since what is taken is no longer
 * free to be promised.
 */
#include "data/data_private.h"
#include "util/planted.h"

#include <string.h>

#define WRITE_BATCH_SECTORS 2048U /* 1 MiB: bounds memory and what is in flight */
#define WRITE_EXTENTS_MAX   32U
#define WRITE_TRIES	    4U
#define GATHER_MAX_SECTORS  128U	 /* what is longer goes out by itself */
#define GATHER_STREAM	    0		 /* no file's */
#define WRITE_RUN_BYTES	    (128U << 10) /* short extents go out together up to this */

struct write_extent {
	struct alloc_sectors space;
	struct bdev_io io;	  /* of a run that begins with it */
	struct write_extent *run; /* the first of what is written at once; NULL: gathered */
	u64 start;		  /* sectors of the file */
	u32 sectors;		  /* ditto */
	const u8 *data;
	struct gather_buf *gathered; /* NULL: its run's io is to be waited for */
	union data_key key;
};

struct data_writer {
	struct data_fs *d;
	const struct data_file *f;
	data_commit_fn commit;
	void *arg;
	u64 end_bytes; /* of what the caller writes */
	u64 committed; /* sectors: up to here */
	u64 seq;
	struct disk_reservation res;
	bool by_promise; /* the reservation keys of the batch are counted on */
	bool gather;	 /* it is small */
	bool work;	 /* something is to be rewritten in the background */
	/*
	 * Compressing or sealing: each extent behind the one before it, which takes no more than
	 * its data. So those that lie behind each other on the device, too, are one write.
	 */
	struct data_scratch *scratch;
	u8 *room; /* in it, the next */
	bool compress;
	const u8 *batch;
	struct write_extent *run; /* not submitted: what comes may join it. NULL: none */
	unsigned nr, max;
	struct write_extent *extents;
	void *own; /* they, if there is no scratch; else NULL */
};

/* ---- committing ---- */

int data_put_key(struct btree_trans *trans, const struct data_file *f, const struct bkey_i *key,
		 u64 end_bytes, data_commit_fn commit, void *arg)
{
	u64 start = bkey_start_offset(&key->k), end = key->k.p.offset, old = 0;
	struct btree_iter iter;
	struct bkey_i *k;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(f, start), BTREE_ITER_INTENT);
	ret = data_count_sectors(&iter, f, start, end, &old);
	if (ret)
		goto out;
	btree_iter_set_pos(&iter, data_pos(f, start));
	k = btree_trans_copy_key(trans, bkey_i_to_s_c(key), 0);
	ret = btree_trans_update(trans, &iter, k, 0);
	if (!ret && commit)
		ret = commit(trans, arg, min(end << SECTOR_SHIFT, end_bytes),
			     (s64)(end - start) -
				     (s64)(planted(overwrite_counted_twice) ? 0 : old));
out:
	btree_iter_exit(&iter);
	return ret;
}

/* Positive: what gathered it could not be written, and this is not committed. */
#define WRITE_WITHDRAWN 1

static int write_put_key(struct btree_trans *trans, struct data_writer *w,
			 const struct write_extent *e, const struct bkey_i *key, u64 *seq)
{
	unsigned flags = BTREE_COMMIT_RESERVE | (e->gathered ? BTREE_COMMIT_NO_WAIT : 0);
	int ret;

	do {
		if (e->gathered && !gather_commit_begin(w->d, e->gathered))
			return WRITE_WITHDRAWN;
		ret = commit_do(trans, seq, flags,
				data_put_key(trans, w->f, key, w->end_bytes, w->commit, w->arg));
		btree_trans_unlock(trans);
		if (e->gathered)
			gather_commit_end(w->d, e->gathered);
	} while (ret == -BCFS_ERR_commit_would_wait && !(ret = btree_trans_wait(trans, flags)));
	return ret;
}

/*
 * In one go, if a journal entry holds all that it changes. Not where blocks have been shared and
 * overwritten one by one, if they are small: then in parts.
 */
static int write_commit(struct btree_trans *trans, struct data_writer *w,
			const struct write_extent *e)
{
	const struct bkey_ops_table *ops = btree_ops_table(w->d->btree);
	u32 block = w->d->block_sectors, most = e->sectors;
	u64 pos = e->start, end = e->start + e->sectors;
	union data_key part;
	int ret = 0;

	while (!ret && pos < end) {
		u64 seq = 0;

		memcpy(&part, &e->key, e->key.k.k.u64s * sizeof(u64));
		bkey_cut_front(ops, pos, &part.k);
		bkey_cut_back(ops, pos + most, &part.k);
		ret = write_put_key(trans, w, e, &part.k, &seq);
		if (ret == -BCFS_ERR_journal_res_too_big && most > block) {
			most = max(round_down(most / 2, block), block);
			ret = 0;
		} else if (ret == -BCFS_ERR_journal_res_too_big) {
			ret = reflink_split(w->d, w->f, pos, BTREE_COMMIT_RESERVE);
		} else if (!ret) {
			pos = w->committed = part.k.k.p.offset;
			w->seq = max(w->seq, seq);
		}
	}
	return ret;
}

/* ---- one extent ---- */

static void write_reservation_used(struct data_writer *w, u64 sectors)
{
	struct disk_reservation part;

	if (w->by_promise)
		return;
	part.sectors = min(w->res.sectors, sectors);
	w->res.sectors -= part.sectors;
	if (!planted(reservation_leak))
		disk_reservation_put(w->d->alloc, &part);
}

static u64 write_stream(const struct data_writer *w)
{
	return w->gather ? GATHER_STREAM : w->f->inum;
}

static int write_space(void *arg, u32 sectors, struct alloc_sectors *ret)
{
	struct data_writer *w = arg;

	return alloc_sectors_get(w->d->alloc, write_stream(w), sectors, ret);
}

/*
 * Space for at most @sectors at @start; encode. If this succeeds *form is to be written there,
 * unless that is gathered.
 */
static int write_extent_place(struct data_writer *w, struct write_extent *e, u64 start, u64 sectors,
			      const u8 *data, struct extent_form *form)
{
	struct data_fs *d = w->d;
	u32 max = d->opts.extent_max_sectors, want;
	int ret;

	/* Ends lie on multiples of the longest length, so that later writes meet whole extents. */
	want = min(sectors, (u64)(max - start % max));
	if (w->compress)
		want = extent_fit(d, want, alloc_sectors_left(d->alloc, write_stream(w)));
	e->space.sectors = 0;
	e->run = NULL;
	ret = extent_place(d, write_space, w, w->compress ? w->scratch : NULL, w->f->compression,
			   data, want, w->room, &e->space, form);
	if (ret)
		return ret;
	alloc_sectors_trim(d->alloc, write_stream(w), &e->space, form->stored_sectors);
	e->start = start;
	e->sectors = form->sectors;
	e->data = data;
	w->work |= rebalance_wants(d, w->f, form->sectors, form->compression, w->f->compression,
				   &form->rebalance);
	ret = extent_encode(d, data_pos(w->f, start + form->sectors), &e->space.ptr, form, &e->key);
	if (ret) {
		alloc_sectors_done(d->alloc, &e->space);
		e->space.sectors = 0;
		return ret;
	}
	if (form->data == w->room)
		w->room += (size_t)form->stored_sectors << SECTOR_SHIFT;
	write_reservation_used(w, e->space.sectors);
	e->gathered = w->gather ? gather_add(d, &e->space, form->data, form->stored_sectors) : NULL;
	return 0;
}

static void write_run_submit(struct data_writer *w)
{
	if (w->run)
		bdev_submit(w->d->bdev, &w->run->io);
	w->run = NULL;
}

/* @e is written with those before it if it lies behind them, else begins a run. */
static void write_run_add(struct data_writer *w, struct write_extent *e,
			  const struct extent_form *form)
{
	u64 offset = (u64)e->space.ptr.offset << SECTOR_SHIFT;
	u32 len = form->stored_sectors << SECTOR_SHIFT;
	struct bdev_io *io = w->run ? &w->run->io : NULL;

	if (io && io->offset + io->len == offset && (u8 *)io->buf + io->len == form->data &&
	    io->len + len <= WRITE_RUN_BYTES) {
		io->len += len;
	} else {
		write_run_submit(w);
		bdev_io_init(&e->io, BDEV_WRITE, offset, (void *)form->data, len, 0);
		w->run = e;
	}
	e->run = w->run;
	if (w->run->io.len >= WRITE_RUN_BYTES)
		write_run_submit(w);
}

/* A piece of an extent, written by itself: *ret_err says how that went. */
static int write_alone(struct data_writer *w, struct write_extent *e, u64 start, u64 sectors,
		       const u8 *data, int *ret_err)
{
	struct extent_form form;
	struct bdev_io io;
	int ret;

	/* Of the batch nothing is in flight that lies in the buffer. */
	w->room = w->scratch ? w->scratch->buf + (data - w->batch) : NULL;
	ret = write_extent_place(w, e, start, sectors, data, &form);
	if (ret)
		return ret;
	bdev_io_init(&io, BDEV_WRITE, (u64)e->space.ptr.offset << SECTOR_SHIFT, (void *)form.data,
		     form.stored_sectors << SECTOR_SHIFT, BDEV_SYNC);
	bdev_submit(w->d->bdev, &io);
	*ret_err = bdev_wait(w->d->bdev, &io);
	return 0;
}

/*
 * The write of @e failed, with @ret: all of it again, elsewhere, a piece at a time. Of one that
 * gathered that has been told.
 */
static int write_again(struct btree_trans *trans, struct data_writer *w, struct write_extent *e,
		       int ret)
{
	u64 start = e->start, end = start + e->sectors;
	const u8 *data = e->data;
	unsigned tries = 1;
	int err;

	w->gather = false;
	for (unsigned i = 0; i < w->nr; i++)
		if (w->extents[i].run)
			bdev_wait(w->d->bdev, &w->extents[i].run->io);
	while (start < end) {
		if (ret) {
			data_error(w->d, w->f, ret, start << SECTOR_SHIFT,
				   (end - start) << SECTOR_SHIFT,
				   tries < WRITE_TRIES ? "write of file data, tried again elsewhere"
						       : "write of file data");
			if (tries++ >= WRITE_TRIES)
				return ret;
			/* The space is lost for now: this takes new. */
			err = disk_reservation_get(w->d->alloc, &w->res, end - start);
			if (err)
				return err;
		}
		alloc_sectors_done(w->d->alloc, &e->space);
		err = write_alone(w, e, start, end - start, data, &ret);
		if (err)
			return err;
		if (ret)
			continue;
		ret = write_commit(trans, w, e);
		if (ret)
			return ret;
		start += e->sectors;
		data += (size_t)e->sectors << SECTOR_SHIFT;
	}
	return 0;
}

/* What gathered @e could not be written, before @e was committed. */
static int write_withdrawn(struct btree_trans *trans, struct data_writer *w, struct write_extent *e)
{
	int ret = disk_reservation_get(w->d->alloc, &w->res, e->sectors);

	gather_done(w->d, e->gathered);
	e->gathered = NULL;
	return ret ?: write_again(trans, w, e, 0);
}

/* Wait for what is in flight and commit it, in order; after the first error only wait. */
static int write_finish(struct data_writer *w, int ret)
{
	struct btree_trans *trans = NULL;

	/* All that there is to write. */
	if (w->run && w->run == w->extents[0].run)
		w->run->io.flags |= BDEV_SYNC;
	write_run_submit(w);
	for (unsigned i = 0; i < w->nr; i++) {
		struct write_extent *e = &w->extents[i];
		if (planted(key_before_data))
			write_commit(trans = trans ?: btree_trans_get(w->d->btree), w, e);
		int err = e->run ? bdev_wait(w->d->bdev, &e->run->io) : 0;

		if (!ret) {
			if (!trans)
				trans = btree_trans_get(w->d->btree);
			ret = err ? write_again(trans, w, e, err) : write_commit(trans, w, e);
			if (ret == WRITE_WITHDRAWN)
				ret = write_withdrawn(trans, w, e);
		}
		if (e->gathered)
			gather_done(w->d, e->gathered);
		if (e->space.sectors)
			alloc_sectors_done(w->d->alloc, &e->space);
	}
	if (trans)
		btree_trans_put(trans);
	w->nr = 0;
	return ret;
}

/* ---- a batch ---- */

/* [start, end) with its bytes at @data. */
static int write_range(struct data_writer *w, u64 start, u64 end, const u8 *data)
{
	int ret = 0;

	while (!ret && start < end) {
		unsigned epoch = data_sealing_begin(w->d);

		while (!ret && w->nr < w->max && start < end) {
			struct write_extent *e = &w->extents[w->nr];
			struct extent_form form;

			ret = write_extent_place(w, e, start, end - start, data, &form);
			if (ret)
				break;
			if (!e->gathered)
				write_run_add(w, e, &form);
			w->nr++;
			start += e->sectors;
			data += (size_t)e->sectors << SECTOR_SHIFT;
		}
		/* What was submitted is good even if more could not be. */
		int err = write_finish(w, 0);
		data_sealing_end(w->d, epoch);
		ret = err ?: ret;
	}
	return ret;
}

static int promised_step(struct btree_trans *trans, struct data_writer *w, u64 start, u64 end,
			 u64 *ret_sectors)
{
	struct btree_iter iter;
	u64 sectors = 0;
	int ret = 0;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(w->f, start), 0);
	while (start < end) {
		struct bkey_s_c k = btree_iter_peek_max(&iter, data_pos(w->f, end));

		ret = bkey_err(k);
		if (ret || !k.k)
			break;
		/* One of an ancestor's snapshot stays there: its promise is not ours to take. */
		if (k.k->type == KEY_TYPE_reservation && k.k->p.snapshot == w->f->snapshot)
			sectors += min(k.k->p.offset, end) - max(bkey_start_offset(k.k), start);
		start = k.k->p.offset;
		btree_iter_set_pos(&iter, data_pos(w->f, start));
	}
	btree_iter_exit(&iter);
	*ret_sectors = sectors;
	return ret;
}

static int write_reserve(struct data_writer *w, u64 start, u64 end)
{
	struct alloc_fs *a = w->d->alloc;
	struct btree_trans *trans;
	u64 promised = 0;
	int ret = disk_reservation_get(a, &w->res, end - start);

	w->by_promise = false;
	if (ret != -BCFS_ERR_nospc)
		return ret;
	trans = btree_trans_get(w->d->btree);
	ret = lockrestart_do(trans, promised_step(trans, w, start, end, &promised));
	btree_trans_put(trans);
	if (ret)
		return ret;
	if (!promised)
		return -BCFS_ERR_nospc;
	w->by_promise = true;
	promised = min(promised, end - start);
	return promised == end - start ? 0
				       : disk_reservation_get(a, &w->res, end - start - promised);
}

/* What the file holds of the bytes [from, to), zeroes from @valid_end on. */
static int write_read_old(struct data_writer *w, u64 from, u64 to, u64 valid_end, u8 *buf)
{
	u64 valid = from < valid_end ? min(to, valid_end) - from : 0, done;
	int ret;

	if (planted(inline_forgotten) && valid <= w->d->opts.inline_max_bytes)
		valid = 0;
	ret = valid ? data_read(w->d, w->f, from, buf, valid, &done) : 0;
	if (!ret)
		memset(buf + valid, 0, to - from - valid);
	return ret;
}

/*
 * The bytes of [start, end) sectors: the caller's @src for [from, to), and around it what the file
 * holds.
 */
static int write_fill(struct data_writer *w, u8 *buf, u64 start, u64 end, const u8 *src, u64 from,
		      u64 to, u64 valid_end)
{
	u64 first = start << SECTOR_SHIFT, last = end << SECTOR_SHIFT;
	int ret = 0;

	if (first < from)
		ret = write_read_old(w, first, from, valid_end, buf);
	if (!ret && to < last)
		ret = write_read_old(w, to, last, valid_end, buf + (to - first));
	if (!ret)
		memcpy(buf + (from - first), src, to - from);
	return ret;
}

static int write_batch(struct data_writer *w, u64 start, u64 end, const u8 *src, u64 from, u64 to,
		       u64 valid_end)
{
	struct data_fs *d = w->d;
	bool direct = from == start << SECTOR_SHIFT && to == end << SECTOR_SHIFT &&
		      !((uintptr_t)src % DATA_IO_ALIGN);
	u8 *buf = NULL;
	int ret = 0;

	if (!direct) {
		buf = env_malloc_aligned(d->env, DATA_IO_ALIGN, (end - start) << SECTOR_SHIFT);
		if (!buf)
			return -BCFS_ERR_nomem;
		ret = write_fill(w, buf, start, end, src, from, to, valid_end);
	}
	w->batch = direct ? src : buf;
	w->room = w->scratch ? w->scratch->buf : NULL;
	if (!ret)
		ret = write_range(w, start, end, w->batch);
	env_free(d->env, buf);
	return ret;
}

/* ---- */

/* For @sectors at a time. The extents are noted behind what is kept for the next write, too. */
static int write_memory(struct data_writer *w, u64 sectors)
{
	struct data_fs *d = w->d;
	size_t bytes = sectors << SECTOR_SHIFT, list = w->max * sizeof(*w->extents);

	/* Without memory for it: not compressed, but never unsealed. */
	if (w->f->compression && sectors > d->block_sectors)
		w->scratch =
			data_scratch_get(d, data_compress_mem(d, w->f->compression), bytes + list);
	w->compress = w->scratch;
	if (!w->scratch && d->opts.keys)
		w->scratch = data_scratch_get(d, 0, bytes + list);
	if (!w->scratch && !d->opts.keys)
		w->own = env_malloc(d->env, list);
	w->extents = w->scratch ? (void *)(w->scratch->buf + bytes) : w->own;
	return w->extents ? 0 : -BCFS_ERR_nomem;
}

static int write_part(struct data_fs *d, const struct data_file *f, u64 offset, const void *buf,
		      u64 len, u64 valid_end, data_commit_fn commit, void *arg, u64 *ret_done,
		      u64 *ret_seq)
{
	u64 block = d->block_sectors, end_bytes = offset + len;
	u64 pos = round_down(offset >> SECTOR_SHIFT, block);
	u64 end = round_up(DIV_ROUND_UP(end_bytes, (u64)SECTOR_BYTES), block);
	u64 batch = WRITE_BATCH_SECTORS;
	struct data_writer w = {.d = d,
				.f = f,
				.commit = commit,
				.arg = arg,
				.end_bytes = end_bytes,
				.committed = pos};
	int ret = 0;

	*ret_done = 0;
	ret = inline_write(d, f, offset, buf, len, valid_end, commit, arg, &w.seq);
	if (ret <= 0) {
		*ret_done = ret ? 0 : len;
		*ret_seq = w.seq;
		return ret;
	}
	ret = 0;
	w.gather = d->gather && end - pos <= GATHER_MAX_SECTORS;
	w.max = min(end - pos, batch) / d->opts.extent_max_sectors + 4;
	w.max = min(w.max, WRITE_EXTENTS_MAX);
	ret = write_memory(&w, min(end - pos, batch));
	while (!ret && pos < end) {
		u64 to = min(end, pos + batch);
		u64 from_bytes = max(offset, pos << SECTOR_SHIFT);
		u64 to_bytes = min(end_bytes, to << SECTOR_SHIFT);

		ret = write_reserve(&w, pos, to);
		if (ret == -BCFS_ERR_nospc && to - pos > block) {
			/* As much as there is room for. */
			disk_reservation_put(d->alloc, &w.res);
			batch = max(round_down((to - pos) / 2, block), block);
			ret = 0;
			continue;
		}
		if (!ret)
			ret = write_batch(&w, pos, to, (const u8 *)buf + (from_bytes - offset),
					  from_bytes, to_bytes, valid_end);
		disk_reservation_put(d->alloc, &w.res);
		pos = to;
	}
	data_scratch_put(d, w.scratch);
	env_free(d->env, w.own);
	if (w.work)
		rebalance_kick(d);
	*ret_done = min(w.committed << SECTOR_SHIFT, end_bytes);
	*ret_done = *ret_done > offset ? *ret_done - offset : 0;
	*ret_seq = w.seq;
	return ret;
}

int data_write(struct data_fs *d, const struct data_file *f, u64 offset, const void *buf, u64 len,
	       u64 valid_end, data_commit_fn commit, void *arg, u64 *ret_done, u64 *ret_seq)
{
	u64 tail = inline_tail(d, f, offset, len, valid_end), seq = 0, tail_seq = 0;
	int ret;

	*ret_done = 0;
	if (!len)
		return 0;
	rebalance_yield(d);
	ret = write_part(d, f, offset, buf, len - tail, valid_end, commit, arg, ret_done, &seq);
	if (!ret && tail && *ret_done == len - tail) {
		u64 at = *ret_done, done;

		ret = write_part(d, f, offset + at, (const u8 *)buf + at, tail,
				 max(valid_end, offset + at), commit, arg, &done, &tail_seq);
		*ret_done += done;
	}
	if (ret_seq)
		*ret_seq = max(seq, tail_seq);
	return ret;
}
