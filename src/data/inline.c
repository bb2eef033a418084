// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Inline data: if what a file has in its last block is little, a write into that block puts it into
 * the value of one key of type inline_data, which covers the block. So a small file, or a small
 * tail, takes no sectors, no device write, and nothing to order by: its bytes are in the journal
 * with the caller's update. A longer write that ends with a small tail is two: what is in front of
 * it, and it (inline_tail()).
 *
 *  - A key of inline data that is made here covers one block, and all changes of extents are of
 *    whole blocks: it is replaced, moved or deleted, never cut.
 *  - The value ends with the file, as it was when it was written, and zeroes up to the next u64.
 *    Behind the value the block is zero. A file that was truncated since may end before: what is
 *    behind its end is cut off before the file grows again (inline_zero_tail()), and no merge looks
 *    at it.
 *  - When the block is written again and holds too much, or is no longer the last, it becomes an
 *    extent: data_write() reads what is there whatever it is, and replaces it.
 *  - A promise of space (a reservation key) that is replaced is gone, as with an extent. Where
 *    there is no space for the key, the data go the ordinary way, which may have a promise.
 */
#include "codec/codec.h"
#include "data/data_private.h"
#include "util/planted.h"

#include <string.h>

/* Nodes hold at least so many keys of inline data. */
#define INLINE_KEYS_PER_NODE 16U

u32 data_inline_limit(u32 block_bytes, u32 node_bytes)
{
	u32 limit = min(BCFS_INLINE_MAX_BYTES, node_bytes / INLINE_KEYS_PER_NODE);

	/* A full block is never inline. */
	return round_down(min(limit, block_bytes - 1), (u32)sizeof(u64));
}

static void set_val_zeroed(struct bkey_i *k, u32 bytes)
{
	set_bkey_val_bytes(&k->k, bytes);
	memset((u8 *)k->v + bytes, 0, bkey_val_bytes(&k->k) - bytes);
}

/* ---- writing ---- */

/*
 * The key of the block that begins at byte @start, with @src for [offset, offset + len) and in
 * front of it and behind it what the file holds up to @valid_end; @bytes in all.
 */
static int inline_fill(struct data_fs *d, const struct data_file *f, struct bkey_i *k, u64 start,
		       u32 bytes, u64 offset, const void *src, u64 len, u64 valid_end)
{
	u64 done;
	int ret = 0;

	bkey_init(&k->k);
	k->k.type = KEY_TYPE_inline_data;
	k->k.p = data_pos(f, (start >> SECTOR_SHIFT) + d->block_sectors);
	k->k.size = d->block_sectors;
	set_bkey_val_bytes(&k->k, bytes);
	memset(k->v, 0, bkey_val_bytes(&k->k));
	if (start < valid_end && (start < offset || offset + len < valid_end))
		ret = data_read(d, f, start, k->v, min(valid_end - start, (u64)bytes), &done);
	if (!ret)
		memcpy((u8 *)k->v + (offset - start), src, len);
	return ret;
}

u64 inline_tail(const struct data_fs *d, const struct data_file *f, u64 offset, u64 len,
		u64 valid_end)
{
	u64 end = offset + len, start = round_down(end, (u64)d->opts.block_bytes);

	if (start <= offset || end == start)
		return 0;
	/* What is compressed, or is to be, takes fewer blocks with its tail than in front of it. */
	if (compression_opt_type(f->compression) || compression_opt_type(f->background))
		return 0;
	return max(end, valid_end) - start <= d->opts.inline_max_bytes ? end - start : 0;
}

int inline_write(struct data_fs *d, const struct data_file *f, u64 offset, const void *buf, u64 len,
		 u64 valid_end, data_commit_fn commit, void *arg, u64 *ret_seq)
{
	u64 start = round_down(offset, (u64)d->opts.block_bytes), end = offset + len;
	u64 bytes = (planted(inline_drops_rest) ? end : max(end, valid_end)) - start;
	union data_key *k;
	struct btree_trans *trans;
	int ret;

	/* The limit is less than a block: so it is the file's last one. */
	if (bytes > d->opts.inline_max_bytes)
		return 1;
	k = env_malloc(d->env, sizeof(*k));
	if (!k)
		return -BCFS_ERR_nomem;
	ret = inline_fill(d, f, &k->k, start, (u32)bytes, offset, buf, len, valid_end);
	if (!ret) {
		trans = btree_trans_get(d->btree);
		ret = commit_do(trans, ret_seq, 0, data_put_key(trans, f, &k->k, end, commit, arg));
		btree_trans_put(trans);
	}
	env_free(d->env, k);
	if (!ret)
		__atomic_fetch_add(&d->nr_inline_writes, 1, __ATOMIC_RELAXED);
	/* No room for keys: perhaps the file was promised space for data. */
	return ret == -BCFS_ERR_nospc ? 1 : ret;
}

/* ---- the end of a file that grows ---- */

static bool all_zero(const u8 *p, u32 bytes)
{
	while (bytes && !*p)
		p++, bytes--;
	return !bytes;
}

static int zero_tail_step(struct btree_trans *trans, const struct data_file *f, u64 offset,
			  data_commit_fn commit, void *arg, bool *ret_inline)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	struct bkey_i *n;
	u32 keep, have;
	int ret;

	*ret_inline = false;
	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(f, offset >> SECTOR_SHIFT),
			BTREE_ITER_INTENT);
	k = btree_iter_peek_slot(&iter);
	ret = bkey_err(k);
	if (ret || k.k->type != KEY_TYPE_inline_data)
		goto out;
	*ret_inline = true;
	have = bkey_val_bytes(k.k);
	keep = (u32)min(offset - (bkey_start_offset(k.k) << SECTOR_SHIFT), (u64)have);
	if (all_zero((const u8 *)k.v + keep, have - keep) || planted(inline_tail_kept))
		goto out;
	n = btree_trans_copy_key(trans, k, 0);
	n->k.p.snapshot = f->snapshot;
	set_val_zeroed(n, keep);
	ret = data_put_key(trans, f, n, offset, commit, arg);
out:
	btree_iter_exit(&iter);
	return ret;
}

int inline_zero_tail(struct data_fs *d, const struct data_file *f, u64 offset,
		     data_commit_fn commit, void *arg, u64 *ret_seq, bool *ret_inline)
{
	struct btree_trans *trans = btree_trans_get(d->btree);
	u64 seq = 0;
	int ret = commit_do(trans, &seq, BTREE_COMMIT_KEEPS,
			    zero_tail_step(trans, f, offset, commit, arg, ret_inline));

	btree_trans_put(trans);
	if (ret_seq)
		*ret_seq = max(*ret_seq, seq);
	return ret;
}
