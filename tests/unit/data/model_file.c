// SPDX-License-Identifier: LGPL-2.1-or-later
#include "model_file.h"

#include "../test_rand.h"

#include <criterion/criterion.h>
#include <string.h>

u64 file_max(const struct file *x)
{
	return (u64)FILE_BLOCKS * x->block;
}

void file_init(struct file *x, struct tfs *f, u64 inum, u64 r)
{
	static const struct {
		unsigned type;
		int level;
	} ways[] = {{BCFS_COMPRESSION_none, 0}, {BCFS_COMPRESSION_zstd, 1},
		    {BCFS_COMPRESSION_lz4, 0},	{BCFS_COMPRESSION_zstd, -10},
		    {BCFS_COMPRESSION_lz4, 3},	{BCFS_COMPRESSION_zstd, 0}};
	unsigned way = (unsigned)((r >> 20) % ARRAY_SIZE(ways));

	*x = (struct file){
		.f = f,
		.id = {UINT32_MAX, inum, compression_opt(ways[way].type, ways[way].level)},
		.r = r,
		.block = f->g.block_sectors * 512};
	x->bytes = calloc(1, file_max(x));
	/* At varying alignment, so that both ways of passing a buffer on are met. */
	x->buf = aligned_alloc(4096, file_max(x) + 8192);
}

void file_free(struct file *x)
{
	free(x->bytes);
	free(x->buf);
}

/* ---- the sector count ---- */

static int count_get(struct btree_trans *trans, const struct file *x, u64 *ret)
{
	union data_key k;
	int err = btree_lookup(trans, BTREE_ID_inodes, SPOS(0, x->id.inum, UINT32_MAX), 0, &k.k,
			       ARRAY_SIZE(k.u64s));

	*ret = err ? 0 : k.k.v[0];
	return err == -BCFS_ERR_btree_key_not_found ? 0 : err;
}

int count_commit(struct btree_trans *trans, void *arg, u64 new_end, s64 delta)
{
	struct file *x = arg;
	struct bkey_i *k;
	u64 count;
	int ret = count_get(trans, x, &count);

	if (ret)
		return ret;
	k = btree_trans_alloc_key(trans, KEY_TYPE_cookie, SPOS(0, x->id.inum, UINT32_MAX), 8);
	k->v[0] = count + delta;
	return btree_trans_insert(trans, BTREE_ID_inodes, k, 0);
}

u64 count_now(struct file *x)
{
	struct btree_trans *trans = btree_trans_get(x->f->btree);
	u64 count = 0;

	DFS_OK(x->f, lockrestart_do(trans, count_get(trans, x, &count)));
	btree_trans_put(trans);
	return count;
}

static u64 model_count(const struct file *x)
{
	u64 n = 0;

	for (unsigned i = 0; i < FILE_BLOCKS; i++)
		n += x->state[i] != HOLE;
	return n * (x->block / 512);
}

/* ---- comparing ---- */

void check_read(struct file *x, u64 from, u64 to)
{
	u8 *buf = x->buf + trand_below(&x->r, 2) * trand_below(&x->r, 4096);
	u64 done = 0;

	memset(buf, 0xaa, to - from);
	DFS_OK(x->f, data_read(x->f->data, &x->id, from, buf, to - from, &done));
	DFS_ASSERT(x->f, done == to - from, "%llu", (unsigned long long)done);
	for (u64 i = 0; i < to - from; i++)
		DFS_ASSERT(x->f, buf[i] == x->bytes[from + i],
			   "inode %llu byte %llu of [%llu, %llu) is %u, not %u",
			   (unsigned long long)x->id.inum, (unsigned long long)(from + i),
			   (unsigned long long)from, (unsigned long long)to, buf[i],
			   x->bytes[from + i]);
}

void check_file(struct file *x)
{
	if (x->size)
		check_read(x, 0, x->size);
	DFS_ASSERT(x->f, count_now(x) == model_count(x), "count %llu, model %llu",
		   (unsigned long long)count_now(x), (unsigned long long)model_count(x));
}

static void check_seek(struct file *x, u64 offset, bool hole)
{
	u64 got = 0, want = offset;
	int ret = data_seek(x->f->data, &x->id, offset, x->size, hole, &got), want_ret = 0;

	while (want < x->size && (x->state[want / x->block] == DATA) == hole)
		want = round_down(want, (u64)x->block) + x->block;
	if (offset >= x->size || (want >= x->size && !hole))
		want_ret = -BCFS_ERR_data_no_data;
	want = min(want, x->size);
	DFS_ASSERT(x->f, ret == want_ret && (ret || got == want),
		   "seek %s from %llu: %llu (%s), should be %llu (%s)", hole ? "hole" : "data",
		   (unsigned long long)offset, (unsigned long long)got, err_name(ret),
		   (unsigned long long)want, err_name(want_ret));
}

/* ---- operations, as the layer below uses them ---- */

static int op_zero_tail(struct file *x)
{
	u64 seq;

	return data_zero_tail(x->f->data, &x->id, x->size, count_commit, x, &seq);
}

/* Random bytes; of no more than sixteen values; each many times; or one for all. */
static void random_data(struct file *x, u8 *buf, u64 len)
{
	unsigned kind = (unsigned)trand_below(&x->r, 5);
	u8 byte = (u8)trand_u64(&x->r);

	for (u64 i = 0; i < len; i++) {
		if (kind < 2 || (kind == 3 && !trand_below(&x->r, 100)))
			byte = (u8)trand_u64(&x->r);
		else if (kind == 2)
			byte = (u8)(trand_u64(&x->r) & 15);
		buf[i] = byte;
	}
}

int op_write(struct file *x, u64 offset, u64 len)
{
	u8 *buf = x->buf + trand_below(&x->r, 2) * trand_below(&x->r, 4096);
	u64 done = 0, seq = 0;
	int ret = offset > x->size ? op_zero_tail(x) : 0;

	if (ret)
		return ret;
	random_data(x, buf, len);
	ret = data_write(x->f->data, &x->id, offset, buf, len, x->size, count_commit, x, &done,
			 &seq);
	DFS_ASSERT(x->f, ret ? done < len : done == len, "%s: %llu of %llu done", err_name(ret),
		   (unsigned long long)done, (unsigned long long)len);
	DFS_ASSERT(x->f, !done || seq, "no seq");
	if (done) {
		memcpy(x->bytes + offset, buf, done);
		x->size = max(x->size, offset + done);
		for (u64 b = offset / x->block; b <= (offset + done - 1) / x->block; b++)
			x->state[b] = DATA;
	}
	return ret;
}

int op_truncate(struct file *x, u64 size)
{
	u64 seq;

	if (size > x->size) {
		int ret = op_zero_tail(x);

		if (!ret)
			x->size = size;
		return ret;
	}
	memset(x->bytes + size, 0, file_max(x) - size);
	x->size = size;
	for (u64 b = DIV_ROUND_UP(size, x->block); b < FILE_BLOCKS; b++)
		x->state[b] = HOLE;
	return data_truncate(x->f->data, &x->id, size, count_commit, x, &seq);
}

int op_punch(struct file *x, u64 offset, u64 len)
{
	u64 end = offset + len, seq;
	int ret = data_punch(x->f->data, &x->id, offset, len, x->size, count_commit, x, &seq);

	if (ret)
		return ret;
	memset(x->bytes + offset, 0, len);
	for (u64 b = DIV_ROUND_UP(offset, x->block); (b + 1) * x->block <= end; b++)
		x->state[b] = HOLE;
	return 0;
}

int op_fallocate(struct file *x, u64 offset, u64 len, bool keep_size)
{
	u64 end = offset + len, seq, left;
	int ret = keep_size || end <= x->size ? 0 : op_zero_tail(x);

	if (ret)
		return ret;
	ret = data_fallocate(x->f->data, &x->id, offset, len, count_commit, x, &seq);
	/* What was done of it, holes were filled from the front. */
	left = (count_now(x) - model_count(x)) / (x->block / 512);
	for (u64 b = offset / x->block; b * x->block < end; b++) {
		if (x->state[b] == HOLE && left) {
			x->state[b] = RESERVED;
			left--;
		}
		DFS_ASSERT(x->f, ret || x->state[b] != HOLE, "hole at %llu", (unsigned long long)b);
	}
	DFS_ASSERT(x->f, !left, "too much");
	if (!ret && !keep_size)
		x->size = max(x->size, end);
	return ret;
}

u64 random_offset(struct file *x, u64 max)
{
	u64 o = trand_below(&x->r, max);

	return trand_below(&x->r, 3) ? round_down(o, (u64)x->block) : o;
}

/* Little at the end: what becomes inline data, and what that becomes when it grows. */
static int random_tail_op(struct file *x)
{
	u64 start = round_down(x->size, (u64)x->block), at, room;
	u32 some = x->f->g.inline_bytes ?: 1000;

	if (!trand_below(&x->r, 6) || start == file_max(x))
		return op_truncate(x, trand_below(&x->r, x->block));
	if (x->size - start > some && trand_below(&x->r, 3)) {
		int ret = op_truncate(x, start + trand_below(&x->r, some));

		if (ret)
			return ret;
	}
	at = start + trand_below(&x->r, trand_below(&x->r, 2) ? some : x->size - start + 1);
	room = trand_below(&x->r, 5) ? some : x->block;
	if (trand_below(&x->r, 6) || at == x->size)
		return op_write(x, at, min(1 + trand_below(&x->r, room), start + x->block - at));
	if (at < x->size && trand_below(&x->r, 2))
		return op_punch(x, at, 1 + trand_below(&x->r, x->size - at));
	return op_truncate(x, at);
}

/* Whole blocks; the end of the source only where it is the end of @x, too. */
static int op_share(struct file *x, struct file *src, u64 from, u64 to, u64 len)
{
	u64 block = x->block, done = 0;
	int ret;

	from = round_down(from, block);
	to = round_down(to, block);
	if (from >= src->size)
		return 0;
	len = min(round_up(len, block), file_max(x) - max(to, from));
	if (src == x)
		len = min(len, from > to ? from - to : to - from);
	if (from + len > src->size)
		len = to + (src->size - from) >= x->size ? src->size - from
							 : round_down(src->size - from, block);
	if (!len)
		return 0;
	ret = to > x->size ? op_zero_tail(x) : 0;
	if (ret)
		return ret;
	ret = data_share(x->f->data, &src->id, from, &x->id, to, len, count_commit, x, &done);
	DFS_ASSERT(x->f, ret || done == len, "%llu of %llu", (unsigned long long)done,
		   (unsigned long long)len);
	memcpy(x->bytes + to, src->bytes + from, done);
	if (done)
		x->size = max(x->size, to + done);
	for (u64 i = 0; i < DIV_ROUND_UP(done, block); i++)
		x->state[to / block + i] = src->state[from / block + i] == DATA ? DATA : HOLE;
	return ret;
}

int random_share(struct file *x, u64 offset, u64 len)
{
	struct file *src = &x->sources[trand_below(&x->r, x->nr_sources)];

	return op_share(x, src, trand_below(&x->r, file_max(x)), offset, len);
}

static int random_op(struct file *x)
{
	u64 max = file_max(x), offset = random_offset(x, max), end, len;

	len = trand_below(&x->r, trand_below(&x->r, 4) ? 8ULL * x->block : max);
	end = min(offset + 1 + len, max);
	if (trand_below(&x->r, 2))
		end = min(round_up(end, (u64)x->block), max);
	if (x->sources && !trand_below(&x->r, 4))
		return random_share(x, offset, end - offset);
	switch (trand_below(&x->r, 16)) {
	case 0:
		return op_truncate(x, trand_below(&x->r, 3) ? offset : 0);
	case 1:
	case 2:
		return op_punch(x, offset, end - offset);
	case 3:
		return op_fallocate(x, offset, end - offset, trand_below(&x->r, 2));
	case 4:
		check_seek(x, offset, trand_below(&x->r, 2));
		return 0;
	case 5:
	case 6:
		if (offset < x->size)
			check_read(x, offset, min(end, x->size));
		return 0;
	case 12:
	case 13:
	case 14:
	case 15:
		return random_tail_op(x);
	default:
		return op_write(x, offset, end - offset);
	}
}

void random_ops(struct file *x, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		DFS_OK(x->f, random_op(x));
		DFS_ASSERT(x->f, count_now(x) == model_count(x), "count %llu, model %llu",
			   (unsigned long long)count_now(x), (unsigned long long)model_count(x));
	}
}
