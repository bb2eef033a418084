// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reading. A request becomes pieces, one for each key it meets (of a bounded length); a ring of
 * them is kept in flight: the keys of as many as have room are looked up in one transaction and
 * copied, the transaction ends, their reads are submitted, and the oldest is waited for, verified
 * and copied out.
 *
 * No lock is held while the device reads, so a key may be gone, and its bucket in its next life,
 * when the data arrive. Verification finds that: a piece that fails is looked up and read again,
 * and only a failure under the same key, twice, is one of the device. Data without a checksum are
 * believed only if the key is still there afterwards.
 */
#include "codec/codec.h"
#include "data/data_private.h"
#include "util/planted.h"

#include <string.h>

#define READ_PIECES_MAX 16U
#define READ_PIECE_MAX	BCFS_EXTENT_MAX_SECTORS /* sectors */
#define READ_TRIES	3U			/* under one and the same key */

enum piece_kind {
	PIECE_ZERO, /* nothing to read */
	PIECE_INLINE,
	PIECE_DEVICE,
	PIECE_ERROR, /* known without reading */
};

struct read_piece {
	struct bdev_io io;
	enum piece_kind kind;
	int err;    /* PIECE_ERROR */
	bool alone; /* shared data that nobody else has: to be made the file's own */
	u64 offset; /* bytes of the file: where it begins */
	u32 len;    /* bytes */
	u8 *dst;
	/* PIECE_DEVICE */
	struct extent_ptr_decoded p; /* p.crc points into key */
	u32 stored_start;	     /* what is read of the stored sectors */
	u32 stored_sectors;
	u32 skip; /* bytes from there to the piece's first */
	u8 *buf;  /* what the device fills: dst itself, or bounce */
	u8 *bounce;
	union data_key key;
};

struct data_read {
	struct data_fs *d;
	const struct data_file *f;
	u64 next, end; /* bytes: to look up from here */
	u8 *buf;       /* for the byte at @base */
	u64 base;
	unsigned nr_slots, head, nr; /* ring */
	struct read_piece *ring;
};

/* ---- pieces from keys ---- */

/* Pointer number @which, round and round; false: there is none. */
static bool pick_ptr(struct bkey_s_c k, unsigned which, struct extent_ptr_decoded *ret)
{
	struct extent_ptr_decoded p;
	unsigned nr = 0;

	for_each_extent_ptr(k, 0, it, p) nr++;
	if (!nr)
		return false;
	which %= nr;
	for_each_extent_ptr(k, 0, it, p)
	{
		if (!which--) {
			*ret = p;
			return true;
		}
	}
	return false;
}

static void piece_set_extent(struct data_fs *d, struct read_piece *r, unsigned try)
{
	struct bkey_s_c k = bkey_i_to_s_c(&r->key.k);
	u64 first = r->offset >> SECTOR_SHIFT;
	u64 last = DIV_ROUND_UP(r->offset + r->len, (u64)SECTOR_BYTES);
	u32 start, end;

	r->kind = PIECE_ERROR;
	r->err = -BCFS_ERR_data_key_type;
	if (!pick_ptr(k, try, &r->p))
		return;
	if (r->p.ptr.unwritten) {
		r->kind = PIECE_ZERO;
		return;
	}
	r->err = r->p.ptr.dev ? -BCFS_ERR_alloc_ptr_device : extent_readable(d, r->p.crc);
	if (r->err)
		return;

	r->kind = PIECE_DEVICE;
	start = r->p.live_offset + (first - bkey_start_offset(k.k));
	end = start + (last - first);
	r->skip = r->offset % SECTOR_BYTES;
	r->stored_start = start;
	extent_read_range(d, &r->p, &r->stored_start, &end);
	r->stored_sectors = end - r->stored_start;
	/* Of a compressed one: of what it expands to. */
	if (extent_compressed(r->p.crc) && planted(compressed_front_read))
		start -= r->p.live_offset;
	r->skip += (start - r->stored_start) * SECTOR_BYTES;
}

/* What @k says of the bytes from @offset on, at most @len of them. */
static void piece_set(struct data_fs *d, struct read_piece *r, struct bkey_s_c k, u64 offset,
		      u64 len, u8 *dst, unsigned try)
{
	u64 key_end = k.k->p.offset > UINT64_MAX >> SECTOR_SHIFT ? UINT64_MAX
								 : k.k->p.offset << SECTOR_SHIFT;

	r->offset = offset;
	r->dst = dst;
	r->buf = r->bounce = NULL;
	r->err = 0;
	r->alone = false;
	len = min(len, key_end - offset);
	/* Zeroes cost nothing; what is read is bounded. */
	if (!bkey_whiteout(k.k) && k.k->type != KEY_TYPE_reservation)
		len = min(len, (u64)READ_PIECE_MAX * SECTOR_BYTES - offset % SECTOR_BYTES);
	r->len = min(len, 1ULL << 30);
	/* A hole has no value at all. */
	if (bkey_val_u64s(k.k) && k.v != (const void *)r->key.k.v)
		bkey_reassemble(&r->key.k, k);
	else if (!bkey_val_u64s(k.k))
		r->key.k.k = *k.k;

	switch (k.k->type) {
	case KEY_TYPE_deleted:
	case KEY_TYPE_whiteout:
	case KEY_TYPE_reservation:
		r->kind = PIECE_ZERO;
		break;
	case KEY_TYPE_inline_data:
		r->kind = PIECE_INLINE;
		break;
	case KEY_TYPE_extent:
		piece_set_extent(d, r, try);
		break;
	default:
		r->kind = PIECE_ERROR;
		r->err =
			k.k->type == KEY_TYPE_error ? -BCFS_ERR_data_lost : -BCFS_ERR_data_key_type;
	}
}

/* What lies at @iter's position, which is @offset's. */
static int piece_peek(struct btree_iter *iter, struct data_fs *d, const struct data_file *f,
		      struct read_piece *r, u64 offset, u64 len, u8 *dst, unsigned try)
{
	struct bkey_s_c k = btree_iter_peek_slot(iter);
	bool alone = false;
	int ret = bkey_err(k);

	if (!ret && k.k->type == KEY_TYPE_reflink_p) {
		bool own = k.k->p.snapshot == f->snapshot;
		struct btree_iter v_iter;

		btree_iter_init(iter->trans, &v_iter, BTREE_ID_reflink, POS(0, 0), 0);
		ret = reflink_resolve(&v_iter, k, offset >> SECTOR_SHIFT, &r->key, &alone);
		btree_iter_exit(&v_iter);
		if (ret == -BCFS_ERR_reflink_missing) {
			ret = 0; /* the key itself, of which nothing can be read */
		} else {
			k = bkey_i_to_s_c(&r->key.k);
			alone &= own;
		}
	}
	if (!ret)
		piece_set(d, r, k, offset, len, dst, try);
	r->alone = alone;
	return ret;
}

/* ---- the device ---- */

/* @flags: BDEV_SYNC or none. */
static void piece_submit(struct data_fs *d, struct read_piece *r, u32 flags)
{
	u64 bytes;

	if (r->kind != PIECE_DEVICE)
		return;
	bytes = (u64)r->stored_sectors * SECTOR_BYTES;
	if (!r->skip && bytes == r->len && !((uintptr_t)r->dst % DATA_IO_ALIGN) &&
	    !extent_compressed(r->p.crc)) {
		r->buf = r->dst;
	} else {
		r->buf = r->bounce = env_malloc_aligned(d->env, DATA_IO_ALIGN, bytes);
		if (!r->buf) {
			r->kind = PIECE_ERROR;
			r->err = -BCFS_ERR_nomem;
			return;
		}
	}
	data_read_submit(d, &r->io, (u64)r->p.ptr.offset + r->stored_start, r->stored_sectors,
			 r->buf, flags);
}

static void piece_copy_inline(struct read_piece *r)
{
	u64 from = r->offset - (bkey_start_offset(&r->key.k.k) << SECTOR_SHIFT);
	u64 have = bkey_val_bytes(&r->key.k.k), n = 0;

	if (from < have) {
		n = min((u64)r->len, have - from);
		memcpy(r->dst, (const u8 *)r->key.k.v + from, n);
	}
	memset(r->dst + n, 0, r->len - n);
}

/* The bytes of the piece among the first @sectors of what was read. */
static u32 piece_bytes_in(const struct read_piece *r, u32 sectors)
{
	u64 bytes = (u64)sectors * SECTOR_BYTES;

	return bytes <= r->skip ? 0 : min(bytes - r->skip, (u64)r->len);
}

/* All or nothing. */
static int piece_expand(struct data_fs *d, struct read_piece *r, u32 *ret_good, u32 *ret_bad)
{
	struct data_scratch *s =
		data_scratch_get(d, decompress_bytes(r->p.crc->compression),
				 (size_t)r->p.crc->uncompressed_sectors * SECTOR_BYTES);
	u32 good, bad;
	int ret = s ? extent_open(d, r->p.crc, 0, r->buf, r->stored_sectors, &good, &bad)
		    : -BCFS_ERR_nomem;

	*ret_good = 0;
	*ret_bad = r->len;
	if (!ret && !(planted(expanded_before) && r->skip))
		ret = extent_expand(r->p.crc, s, r->buf, s->buf);
	if (!ret) {
		memcpy(r->dst, s->buf + r->skip, r->len);
		*ret_good = r->len;
		*ret_bad = 0;
	}
	data_scratch_put(d, s);
	return ret;
}

/* The read is complete: verify, copy out. *ret_good: bytes right from the front; *ret_bad: then
 * wrong. */
static int piece_finish_device(struct data_fs *d, struct read_piece *r, u32 *ret_good, u32 *ret_bad)
{
	u32 good = 0, bad = r->stored_sectors;
	int ret = r->io.ret;

	if (!ret && extent_compressed(r->p.crc))
		return piece_expand(d, r, ret_good, ret_bad);
	if (!ret)
		ret = extent_open_part(d, r->p.crc, r->stored_start, r->buf, r->stored_sectors,
				       r->skip, r->len, &good, &bad);
	*ret_good = piece_bytes_in(r, good);
	*ret_bad = piece_bytes_in(r, good + bad) - *ret_good;
	if (ret && !*ret_bad) /* only what nobody asked for is wrong: cannot be, whole chunks */
		*ret_bad = r->len - *ret_good;
	if (r->buf != r->dst)
		memcpy(r->dst, r->buf + r->skip, *ret_good);
	return ret;
}

static int piece_finish(struct data_fs *d, struct read_piece *r, u32 *ret_good, u32 *ret_bad)
{
	*ret_good = r->len;
	*ret_bad = 0;
	switch (r->kind) {
	case PIECE_ZERO:
		memset(r->dst, 0, r->len);
		return 0;
	case PIECE_INLINE:
		piece_copy_inline(r);
		return 0;
	case PIECE_DEVICE:
		bdev_wait(d->bdev, &r->io);
		return piece_finish_device(d, r, ret_good, ret_bad);
	default:
		*ret_good = 0;
		*ret_bad = r->len;
		return r->err;
	}
}

static void piece_free(struct data_fs *d, struct read_piece *r)
{
	env_free(d->env, r->bounce);
	r->bounce = NULL;
}

/* ---- one piece at a time, again ---- */

/* What lies at @offset; the piece is cut to its key. */
static int piece_lookup(struct btree_trans *trans, struct data_fs *d, const struct data_file *f,
			struct read_piece *r, u64 offset, u64 len, u8 *dst, unsigned try)
{
	struct btree_iter iter;
	int ret;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(f, offset >> SECTOR_SHIFT), 0);
	ret = piece_peek(&iter, d, f, r, offset, len, dst, try);
	btree_iter_exit(&iter);
	return ret;
}

static int piece_lookup_now(struct data_fs *d, const struct data_file *f, struct read_piece *r,
			    u64 offset, u64 len, u8 *dst, unsigned try)
{
	struct btree_trans *trans = btree_trans_get(d->btree);
	int ret = lockrestart_do(trans, piece_lookup(trans, d, f, r, offset, len, dst, try));

	btree_trans_put(trans);
	return ret;
}

/* Is the key that @r was read by still there? */
static int piece_still_there(struct data_fs *d, const struct data_file *f,
			     const struct read_piece *r, struct read_piece *tmp, bool *ret_same)
{
	int ret = piece_lookup_now(d, f, tmp, r->offset, r->len, r->dst, 0);

	*ret_same = !ret && bkey_s_c_equal(bkey_i_to_s_c(&r->key.k), bkey_i_to_s_c(&tmp->key.k));
	return ret;
}

static bool piece_unverified(const struct read_piece *r)
{
	return r->kind == PIECE_DEVICE && (!r->p.crc || !r->p.crc->csum_type);
}

/*
 * Read the range by itself until it is right or wrong for good. *ret_done: bytes right from
 * its front.
 */
static int read_again(struct data_fs *d, const struct data_file *f, u64 offset, u64 len, u8 *dst,
		      u64 *ret_done)
{
	struct read_piece *r = env_malloc(d->env, 2 * sizeof(*r));
	u32 good = 0, bad = 0;
	unsigned tries = 0;
	int ret = 0;

	*ret_done = 0;
	if (!r)
		return -BCFS_ERR_nomem;
	while (*ret_done < len) {
		bool same = true;

		ret = piece_lookup_now(d, f, r, offset + *ret_done, len - *ret_done,
				       dst + *ret_done, tries);
		if (ret)
			break;
		piece_submit(d, r, BDEV_SYNC);
		ret = piece_finish(d, r, &good, &bad);
		piece_free(d, r);
		if (ret || piece_unverified(r)) {
			int err = piece_still_there(d, f, r, &r[1], &same);

			if (err) {
				ret = err;
				break;
			}
		}
		if (!same) {
			tries = 0;
			continue;
		}
		*ret_done += good;
		if (good)
			tries = 0;
		if (ret && (r->kind != PIECE_DEVICE || ++tries >= READ_TRIES)) {
			data_error(d, f, ret, offset + *ret_done, bad, "read of file data");
			break;
		}
	}
	env_free(d->env, r);
	return ret;
}

/* ---- the ring ---- */

static inline struct read_piece *ring_at(struct data_read *rd, unsigned i)
{
	return &rd->ring[(rd->head + i) % rd->nr_slots];
}

/* Look up keys for all free slots. */
static int fill_lookup(struct btree_trans *trans, struct data_read *rd, unsigned *ret_nr,
		       u64 *ret_next)
{
	unsigned flags = rd->end - rd->next > 256U << 10 ? BTREE_ITER_PREFETCH : 0;
	struct btree_iter iter;
	unsigned nr = rd->nr;
	u64 next = rd->next;
	int ret = 0;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(rd->f, next >> SECTOR_SHIFT),
			flags);
	while (nr < rd->nr_slots && next < rd->end) {
		struct read_piece *r = ring_at(rd, nr);

		btree_iter_set_pos(&iter, data_pos(rd->f, next >> SECTOR_SHIFT));
		ret = piece_peek(&iter, rd->d, rd->f, r, next, rd->end - next,
				 rd->buf + (next - rd->base), 0);
		if (ret)
			break;
		next += r->len;
		nr++;
	}
	btree_iter_exit(&iter);
	*ret_nr = nr;
	*ret_next = next;
	return ret;
}

static int fill(struct data_read *rd)
{
	struct btree_trans *trans;
	unsigned nr = 0;
	u64 next = 0;
	int ret;

	trans = btree_trans_get(rd->d->btree);
	ret = lockrestart_do(trans, fill_lookup(trans, rd, &nr, &next));
	btree_trans_put(trans);
	if (ret)
		return ret;
	/* A single one is not read beside anything. */
	for (; rd->nr < nr; rd->nr++)
		piece_submit(rd->d, ring_at(rd, rd->nr),
			     nr == 1 && next == rd->end ? BDEV_SYNC : 0);
	rd->next = next;
	return 0;
}

/* The oldest piece, which begins at base + *done. */
static int finish_oldest(struct data_read *rd, u64 *done)
{
	struct read_piece *r = ring_at(rd, 0);
	u32 good, bad;
	u64 again = 0;
	bool same = true;
	int ret = piece_finish(rd->d, r, &good, &bad);

	if (!ret && piece_unverified(r)) {
		struct read_piece *tmp = env_malloc(rd->d->env, sizeof(*tmp));

		ret = tmp ? piece_still_there(rd->d, rd->f, r, tmp, &same) : -BCFS_ERR_nomem;
		env_free(rd->d->env, tmp);
		if (ret || !same)
			good = 0;
	}
	piece_free(rd->d, r);
	if (good < r->len && ret != -BCFS_ERR_nomem)
		ret = read_again(rd->d, rd->f, r->offset + good, r->len - good, r->dst + good,
				 &again);
	*done += good + again;
	if (!ret && r->alone && rd->d->gc)
		reflink_own(rd->d, rd->f, r->offset >> SECTOR_SHIFT);
	rd->head = (rd->head + 1) % rd->nr_slots;
	rd->nr--;
	return ret;
}

/* Wait for what is in flight and forget it. */
static void ring_drain(struct data_read *rd)
{
	for (; rd->nr; rd->nr--, rd->head = (rd->head + 1) % rd->nr_slots) {
		struct read_piece *r = ring_at(rd, 0);

		if (r->kind == PIECE_DEVICE)
			bdev_wait(rd->d->bdev, &r->io);
		piece_free(rd->d, r);
	}
}

int data_read(struct data_fs *d, const struct data_file *f, u64 offset, void *buf, u64 len,
	      u64 *ret_done)
{
	struct data_read rd = {
		.d = d, .f = f, .next = offset, .end = offset + len, .buf = buf, .base = offset};
	int ret = 0;

	*ret_done = 0;
	if (!len)
		return 0;
	rebalance_yield(d);
	rd.nr_slots = min(READ_PIECES_MAX, 1 + DIV_ROUND_UP(len, d->opts.block_bytes));
	rd.ring = env_malloc(d->env, rd.nr_slots * sizeof(*rd.ring));
	if (!rd.ring)
		return -BCFS_ERR_nomem;
	while (!ret && *ret_done < len) {
		/* Refill when half of the ring is idle. */
		if (rd.next < rd.end && rd.nr <= rd.nr_slots / 2)
			ret = fill(&rd);
		if (!ret)
			ret = finish_oldest(&rd, ret_done);
	}
	ring_drain(&rd);
	env_free(d->env, rd.ring);
	return ret;
}
