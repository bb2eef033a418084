// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Inline data, case by case.
 * Goal: what is little, and all of a file's last block, lies in one key, without space; it goes to
 * an extent when it grows, and comes back; nothing behind the end of a file is ever seen; promises
 * and sectors are right.
 * Method: one file on the simulated device; after each step the key of its last block is looked at,
 * and the bytes are compared with an array.
 */
#include "dfs.h"

#include <criterion/criterion.h>
#include <string.h>

#define BLOCK	  4096U
#define LIMIT	  1024U /* dfs_small */
#define FILE_SIZE (8 * BLOCK)

struct file {
	struct tfs *f;
	struct data_file id;
	s64 sectors; /* as the callback was told */
	u64 size;
	u8 bytes[FILE_SIZE];
	u8 buf[FILE_SIZE];
};

struct count {
	s64 delta; /* of the commit to @end */
	u64 end;
	s64 before; /* of those before it */
};

/* It may run more than once for a commit: what counts is the last. */
static int counted(struct btree_trans *trans, void *arg, u64 new_end, s64 delta)
{
	struct count *c = arg;

	if (new_end != c->end)
		c->before += c->delta;
	c->end = new_end;
	c->delta = delta;
	return 0;
}

static void took(struct file *x, struct count *c)
{
	x->sectors += c->before + c->delta;
	*c = (struct count){};
}

static void write_at(struct file *x, u64 offset, u64 len, u8 byte)
{
	u64 done, seq;
	struct count count = {};

	if (offset > x->size) {
		DFS_OK(x->f, data_zero_tail(x->f->data, &x->id, x->size, counted, &count, &seq));
		took(x, &count);
	}
	for (u64 i = 0; i < len; i++)
		x->bytes[offset + i] = x->buf[i] = (u8)(byte + i);
	DFS_OK(x->f, data_write(x->f->data, &x->id, offset, x->buf, len, x->size, counted, &count,
				&done, &seq));
	DFS_ASSERT(x->f, done == len && seq, "%llu", (unsigned long long)done);
	took(x, &count);
	x->size = max(x->size, offset + len);
}

static void resize(struct file *x, u64 size)
{
	struct count count = {};
	u64 seq;

	if (size > x->size)
		DFS_OK(x->f, data_zero_tail(x->f->data, &x->id, x->size, counted, &count, &seq));
	else
		DFS_OK(x->f, data_truncate(x->f->data, &x->id, size, counted, &count, &seq));
	took(x, &count);
	if (size < x->size)
		memset(x->bytes + size, 0, FILE_SIZE - size);
	x->size = size;
}

static int key_step(struct btree_trans *trans, struct file *x, u64 offset, struct bkey *ret)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(&x->id, offset / 512), 0);
	k = btree_iter_peek_slot(&iter);
	err = bkey_err(k);
	if (!err)
		*ret = *k.k;
	btree_iter_exit(&iter);
	return err;
}

static struct bkey key_at(struct file *x, u64 offset)
{
	struct btree_trans *trans = btree_trans_get(x->f->btree);
	struct bkey k;

	DFS_OK(x->f, lockrestart_do(trans, key_step(trans, x, offset, &k)));
	btree_trans_put(trans);
	return k;
}

static s64 usage(struct tfs *f, enum bcfs_accounting_type t)
{
	struct alloc_usage u;

	alloc_usage(f->alloc, &u);
	return u.counters[t];
}

/* All bytes, and those behind the end are zeroes where the file's blocks are read whole. */
static void expect(struct file *x, s64 sectors, s64 user)
{
	u64 done;

	DFS_OK(x->f, data_read(x->f->data, &x->id, 0, x->buf, x->size, &done));
	for (u64 i = 0; i < x->size; i++)
		DFS_ASSERT(x->f, x->buf[i] == x->bytes[i], "byte %llu of %llu: %u, not %u",
			   (unsigned long long)i, (unsigned long long)x->size, x->buf[i],
			   x->bytes[i]);
	DFS_ASSERT(x->f, x->sectors == sectors, "%lld sectors", (long long)x->sectors);
	DFS_ASSERT(x->f, usage(x->f, BCFS_ACCOUNTING_user) == user, "%lld in use",
		   (long long)usage(x->f, BCFS_ACCOUNTING_user));
	tfs_check(x->f, "a step");
}

static void expect_inline(struct file *x, u64 offset, u32 bytes)
{
	struct bkey k = key_at(x, offset);

	DFS_ASSERT(x->f,
		   k.type == KEY_TYPE_inline_data && bkey_val_bytes(&k) == bytes &&
			   k.size == BLOCK / 512 &&
			   bkey_start_offset(&k) * 512 == round_down(offset, (u64)BLOCK),
		   "at %llu: %s of %u bytes", (unsigned long long)offset, bkey_type_name(k.type),
		   bkey_val_bytes(&k));
}

static struct file *file_new(struct tfs *f)
{
	struct file *x = calloc(1, sizeof(*x));

	x->f = f;
	x->id = (struct data_file){UINT32_MAX, 1, 0};
	return x;
}

/* ---- */

static void run_comes_and_goes(struct tfs *f)
{
	struct file *x = file_new(f);

	write_at(x, 0, 100, 1);
	expect_inline(x, 0, 104);
	expect(x, 8, 0);
	DFS_ASSERT(f, usage(f, BCFS_ACCOUNTING_inline_data) == 104, "counter");
	write_at(x, 100, LIMIT - 100, 2);
	expect_inline(x, 0, LIMIT);
	write_at(x, 50, 3, 99);
	expect_inline(x, 0, LIMIT);
	expect(x, 8, 0);
	write_at(x, LIMIT, 1, 3);
	DFS_ASSERT(f, key_at(x, 0).type == KEY_TYPE_extent, "grown");
	expect(x, 8, 8);
	DFS_ASSERT(f, !usage(f, BCFS_ACCOUNTING_inline_data), "counter");
	/* A tail; the block in front of it stays. */
	write_at(x, BLOCK, 10, 4);
	expect_inline(x, BLOCK, 16);
	expect(x, 16, 8);
	/* No longer the last. */
	write_at(x, 2 * BLOCK, 20, 5);
	expect_inline(x, 2 * BLOCK, 24);
	write_at(x, BLOCK + 5, 5, 6);
	DFS_ASSERT(f, key_at(x, BLOCK).type == KEY_TYPE_extent, "in the middle");
	expect(x, 24, 16);
	/* Over both. */
	write_at(x, BLOCK + 7, BLOCK + 7, 7);
	expect_inline(x, 2 * BLOCK, 24);
	expect(x, 24, 16);
	DFS_ASSERT(f, usage(f, BCFS_ACCOUNTING_inline_data) == 24, "counter");
	/* A tail that is too long, the very longest, and none. */
	write_at(x, 0, 2 * BLOCK + LIMIT + 1, 8);
	DFS_ASSERT(f, key_at(x, 2 * BLOCK).type == KEY_TYPE_extent, "too long");
	expect(x, 24, 24);
	resize(x, 0);
	write_at(x, 5, 2 * BLOCK + LIMIT - 5, 9);
	expect_inline(x, 2 * BLOCK, LIMIT);
	expect(x, 24, 16);
	/* In front of it, up to its block. */
	write_at(x, BLOCK + 5, BLOCK - 5, 10);
	expect_inline(x, 2 * BLOCK, LIMIT);
	expect(x, 24, 16);
	/* Of what is compressed, or is to be, none. */
	x->id.compression = compression_opt(BCFS_COMPRESSION_zstd, 0);
	write_at(x, 0, 2 * BLOCK + LIMIT, 11);
	DFS_ASSERT(f, key_at(x, 2 * BLOCK).type == KEY_TYPE_extent, "compressed");
	x->id.compression = 0;
	x->id.background = compression_opt(BCFS_COMPRESSION_lz4, 0);
	write_at(x, 0, 2 * BLOCK + LIMIT, 12);
	DFS_ASSERT(f, key_at(x, 2 * BLOCK).type == KEY_TYPE_extent, "to be compressed");
	x->id.background = 0;
	write_at(x, 0, 2 * BLOCK + LIMIT, 13);
	/* Back. */
	resize(x, 30);
	expect(x, 8, 8);
	write_at(x, 29, 1, 14);
	expect_inline(x, 0, 32);
	expect(x, 8, 0);
	resize(x, 0);
	expect(x, 0, 0);
	free(x);
}

Test(data_inline, comes_and_goes)
{
	dfs_run(1, &dfs_small, run_comes_and_goes);
}

static void run_old_end(struct tfs *f)
{
	struct file *x = file_new(f);

	/* What a file loses it does not get back. */
	write_at(x, 0, 1000, 1);
	resize(x, 500);
	resize(x, 3 * BLOCK);
	expect_inline(x, 0, 504);
	expect(x, 8, 0);
	resize(x, 500);
	resize(x, 301);
	write_at(x, 700, 10, 2);
	expect_inline(x, 0, 712);
	expect(x, 8, 0);
	/* The file grows by another block, or far behind in the same one. */
	resize(x, 42);
	write_at(x, BLOCK + 10, 10, 3);
	expect_inline(x, 0, 48);
	expect_inline(x, BLOCK, 24);
	expect(x, 16, 0);
	resize(x, BLOCK + 15);
	write_at(x, BLOCK + LIMIT, 100, 4);
	DFS_ASSERT(f, key_at(x, BLOCK).type == KEY_TYPE_extent, "grown");
	expect(x, 16, 8);
	/* A crash in between. */
	resize(x, 33);
	DFS_OK(f, journal_flush(f->journal));
	tfs_crash(f, &(struct sim_crash){.rule = SIM_CRASH_PREFIX});
	tfs_mount(f);
	resize(x, FILE_SIZE);
	expect(x, 8, 0);
	free(x);
}

Test(data_inline, nothing_behind_the_end_is_seen)
{
	dfs_run(2, &dfs_small, run_old_end);
}

static int shifted(struct btree_trans *trans, void *arg, u64 pos)
{
	return 0;
}

static void run_ranges(struct tfs *f)
{
	struct file *x = file_new(f);
	struct count count = {};
	u64 seq, pos;

	/* A promise that inline data take the place of. */
	DFS_OK(f, data_fallocate(f->data, &x->id, 0, BLOCK, counted, &count, &seq));
	took(x, &count);
	DFS_ASSERT(f, usage(f, BCFS_ACCOUNTING_reserved) == 8, "promised");
	write_at(x, 0, 200, 1);
	expect_inline(x, 0, 200);
	DFS_ASSERT(f, !usage(f, BCFS_ACCOUNTING_reserved), "promised");
	expect(x, 8, 0);
	/* It is data, so there is nothing to promise. */
	DFS_OK(f, data_fallocate(f->data, &x->id, 0, 2 * BLOCK, counted, &count, &seq));
	took(x, &count);
	DFS_ASSERT(f, usage(f, BCFS_ACCOUNTING_reserved) == 8, "promised");
	expect_inline(x, 0, 200);
	expect(x, 16, 0);
	resize(x, 100);
	/* Zeroes inside, and up to the end. */
	DFS_OK(f, data_punch(f->data, &x->id, 10, 20, x->size, counted, &count, &seq));
	took(x, &count);
	memset(x->bytes + 10, 0, 20);
	expect_inline(x, 0, 104);
	expect(x, 8, 0);
	DFS_OK(f, data_punch(f->data, &x->id, 60, BLOCK, x->size, counted, &count, &seq));
	took(x, &count);
	memset(x->bytes + 60, 0, 40);
	expect_inline(x, 0, 104);
	expect(x, 8, 0);
	DFS_OK(f, data_seek(f->data, &x->id, 5, x->size, true, &pos));
	DFS_ASSERT(f, pos == x->size, "hole at %llu", (unsigned long long)pos);
	DFS_OK(f, data_seek(f->data, &x->id, 5, x->size, false, &pos));
	DFS_ASSERT(f, pos == 5, "data at %llu", (unsigned long long)pos);
	/* To another block and back. */
	DFS_OK(f, data_shift(f->data, &x->id, 0, BLOCK, 3 * BLOCK, shifted, NULL));
	memmove(x->bytes + 3 * BLOCK, x->bytes, 100);
	memset(x->bytes, 0, 100);
	x->size += 3 * BLOCK;
	expect_inline(x, 3 * BLOCK, 104);
	expect(x, 8, 0);
	DFS_OK(f,
	       data_shift(f->data, &x->id, 3 * BLOCK, 4 * BLOCK, -2 * (s64)BLOCK, shifted, NULL));
	memmove(x->bytes + BLOCK, x->bytes + 3 * BLOCK, 100);
	memset(x->bytes + 3 * BLOCK, 0, 100);
	x->size -= 2 * BLOCK;
	expect_inline(x, BLOCK, 104);
	expect(x, 8, 0);
	/* All of it. */
	DFS_OK(f, data_punch(f->data, &x->id, BLOCK, BLOCK, x->size, counted, &count, &seq));
	took(x, &count);
	memset(x->bytes, 0, FILE_SIZE);
	expect(x, 0, 0);
	free(x);
}

Test(data_inline, ranges_and_promises)
{
	dfs_run(3, &dfs_small, run_ranges);
}

/* A child of the snapshot that @x is in, which nobody writes to any more. */
static struct file *child_of(const struct file *x, u32 snapshot)
{
	struct file *c = malloc(sizeof(*c));

	*c = *x;
	c->id.snapshot = snapshot;
	return c;
}

static void run_snapshots(struct tfs *f)
{
	struct file *x = file_new(f), *a, *b, *c;

	write_at(x, 0, 600, 1);
	resize(x, 500);
	a = child_of(x, 100);
	b = child_of(x, 200);
	c = child_of(x, 300);
	write_at(a, 100, 50, 2);
	expect_inline(a, 0, 504);
	resize(b, 1000);
	expect_inline(b, 0, 504);
	write_at(c, 400, 2000, 3);
	DFS_ASSERT(f, key_at(c, 0).p.snapshot == 300, "%u", key_at(c, 0).p.snapshot);
	expect_inline(x, 0, 600);
	expect(x, 8, 8);
	expect(a, 8, 8);
	expect(b, 8, 8);
	expect(c, 8, 8);
	resize(c, 200);
	write_at(c, 200, 10, 4);
	expect_inline(c, 0, 216);
	resize(a, 0);
	expect(a, 0, 0);
	expect(b, 8, 0);
	expect(c, 8, 0);
	expect(x, 8, 0);
	free(a);
	free(b);
	free(c);
	free(x);
}

Test(data_inline, snapshots)
{
	dfs_run(5, &dfs_small, run_snapshots);
}

static void run_off(struct tfs *f)
{
	struct file *x = file_new(f);
	struct data_counters c;

	write_at(x, 0, 1, 1);
	DFS_ASSERT(f, key_at(x, 0).type == KEY_TYPE_extent, "an extent");
	expect(x, 8, 8);
	data_counters(f->data, &c);
	DFS_ASSERT(f, !c.inline_writes, "%llu", (unsigned long long)c.inline_writes);
	free(x);
}

Test(data_inline, off)
{
	struct tfs_geometry g = dfs_small;

	g.inline_bytes = 0;
	dfs_run(4, &g, run_off);
}

Test(data_inline, limits)
{
	cr_assert_eq(data_inline_limit(4096, 256 << 10), BCFS_INLINE_MAX_BYTES);
	cr_assert_geq(data_inline_limit(4096, 32 << 10), DATA_INLINE_DEFAULT);
	cr_assert_eq(data_inline_limit(4096, 16 << 10), 1024);
	cr_assert_eq(data_inline_limit(512, 256 << 10), 504);
	cr_assert_eq(data_inline_limit(512, 4096), 256);
	cr_assert_leq(BCFS_INLINE_MAX_BYTES + 8 * sizeof(u64), BKEY_VAL_U64s_MAX * sizeof(u64));
}
