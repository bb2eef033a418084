// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * File data against a model.
 * Goal: after any mix of writes, punches, truncates, preallocation and seeks - with restarts
 * injected, in several fibers, over clean mounts and crashes, on a full device, with failing writes
 * and flipped bits - every byte, every hole and the sector count are what an array of bytes says, a
 * wrong bit is an error for exactly its chunk, and mark and sweep agrees with every counter.
 * Small files and tails are inline data, off and on. Files are compressed in different ways, or
 * not; what is written compresses well, badly, or not at all. Method: small files on the simulated
 * device; the sector count is a key of its own, changed by the callback in the transaction of the
 * extents.
 */
#include "../test_rand.h"
#include "codec/codec.h"
#include "dfs.h"

#include <criterion/criterion.h>
#include <string.h>

#define FILE_BLOCKS 96U
#define NR_FILES    4U

enum block_state { HOLE, RESERVED, DATA };

struct file {
	struct tfs *f;
	struct data_file id;
	u64 r;
	u32 block; /* bytes */
	u64 size;
	u8 *bytes; /* zero from size on */
	u8 *buf;
	enum block_state state[FILE_BLOCKS];
	struct file *sources; /* shares with any of these; NULL: with none */
	unsigned nr_sources;
};

static u64 file_max(const struct file *x)
{
	return (u64)FILE_BLOCKS * x->block;
}

static void file_init(struct file *x, struct tfs *f, u64 inum, u64 r)
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

static void file_free(struct file *x)
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

static int count_commit(struct btree_trans *trans, void *arg, u64 new_end, s64 delta)
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

static u64 count_now(struct file *x)
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

static void check_read(struct file *x, u64 from, u64 to)
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

static void check_file(struct file *x)
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

static int op_write(struct file *x, u64 offset, u64 len)
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

static int op_truncate(struct file *x, u64 size)
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

static int op_punch(struct file *x, u64 offset, u64 len)
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

static int op_fallocate(struct file *x, u64 offset, u64 len, bool keep_size)
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

static u64 random_offset(struct file *x, u64 max)
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

static int random_share(struct file *x, u64 offset, u64 len)
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

static void random_ops(struct file *x, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		DFS_OK(x->f, random_op(x));
		DFS_ASSERT(x->f, count_now(x) == model_count(x), "count %llu, model %llu",
			   (unsigned long long)count_now(x), (unsigned long long)model_count(x));
	}
}

/* ---- one file after the other ---- */

static void files_init(struct file *x, struct tfs *f)
{
	u64 r = f->seed;

	for (unsigned i = 0; i < NR_FILES; i++)
		file_init(&x[i], f, 1 + i, trand_u64(&r));
}

/* All is empty behind it, to the sector. */
static void files_end(struct file *x, struct tfs *f)
{
	struct alloc_usage u;

	for (unsigned i = 0; i < NR_FILES; i++) {
		DFS_OK(f, op_truncate(&x[i], 0));
		check_file(&x[i]);
		file_free(&x[i]);
	}
	DFS_OK(f, alloc_do_discards(f->alloc));
	alloc_usage(f->alloc, &u);
	DFS_ASSERT(f, !u.counters[BCFS_ACCOUNTING_user], "%lld",
		   (long long)u.counters[BCFS_ACCOUNTING_user]);
	DFS_ASSERT(f, !u.reserved, "%llu", (unsigned long long)u.reserved);
}

static u64 nr_inline(struct tfs *f)
{
	struct data_counters c;

	data_counters(f->data, &c);
	return c.inline_writes;
}

static void rounds(struct tfs *f, unsigned nr, u32 restart_ppm)
{
	struct file x[NR_FILES];
	u64 inlined = 0;

	files_init(x, f);
	for (unsigned round = 0; round < nr; round++) {
		if (restart_ppm) {
			env_inject_arm_random(f->env, "trans_restart", restart_ppm);
			env_inject_arm_random(f->env, "trans_restart_commit", restart_ppm);
		}
		for (unsigned i = 0; i < NR_FILES; i++)
			random_ops(&x[i], 25);
		env_inject_disarm_all(f->env);
		for (unsigned i = 0; i < NR_FILES; i++)
			check_file(&x[i]);
		tfs_check(f, "random operations");
		if (round % 4 == 3) {
			inlined += nr_inline(f);
			tfs_umount(f);
			tfs_mount(f);
			for (unsigned i = 0; i < NR_FILES; i++)
				check_file(&x[i]);
		}
	}
	inlined += nr_inline(f);
	DFS_ASSERT(f, f->g.inline_bytes ? inlined > 5 * nr : !inlined, "%llu inline writes",
		   (unsigned long long)inlined);
	files_end(x, f);
}

static void run_plain(struct tfs *f)
{
	rounds(f, 12, 0);
}

static void run_restarts(struct tfs *f)
{
	rounds(f, 6, 100000);
}

Test(data_model, small)
{
	dfs_run(trand_seed(0xda01), &dfs_small, run_plain);
}

Test(data_model, tiny)
{
	dfs_run(trand_seed(0xda02), &dfs_tiny, run_plain);
}

Test(data_model, no_checksums_nothing_inline)
{
	struct tfs_geometry g = dfs_small;

	g.csum_type = BCFS_CSUM_none;
	g.inline_bytes = 0;
	dfs_run(trand_seed(0xda03), &g, run_plain);
}

Test(data_model, restarts)
{
	dfs_run(trand_seed(0xda04), &dfs_small, run_restarts);
}

Test(data_model, restarts_tiny)
{
	dfs_run(trand_seed(0xda05), &dfs_tiny, run_restarts);
}

/* ---- several at once ---- */

static void worker_fn(void *arg)
{
	random_ops(arg, 60);
}

static void run_concurrent(struct tfs *f)
{
	struct env_thread *t[NR_FILES];
	struct file x[NR_FILES];

	files_init(x, f);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < NR_FILES; i++)
			DFS_OK(f, env_thread_start(f->env, &t[i], "worker", worker_fn, &x[i]));
		for (unsigned i = 0; i < NR_FILES; i++)
			env_thread_join(t[i]);
		for (unsigned i = 0; i < NR_FILES; i++)
			check_file(&x[i]);
		tfs_check(f, "concurrent operations");
	}
	files_end(x, f);
}

Test(data_model, concurrent)
{
	dfs_run(trand_seed(0xda06), &dfs_small, run_concurrent);
}

/* A reader beside the writer: whole old or whole new blocks, never anything else. */
struct reader {
	struct tfs *f;
	bool stop;
	u64 nr;
};

static void reader_fn(void *arg)
{
	struct data_file id = {UINT32_MAX, 1, 0};
	struct reader *rd = arg;
	u32 block = rd->f->g.block_sectors * 512;
	u8 *buf = malloc(16 * block);

	while (!__atomic_load_n(&rd->stop, __ATOMIC_RELAXED)) {
		u64 done;

		DFS_OK(rd->f, data_read(rd->f->data, &id, 0, buf, 16 * block, &done));
		for (u32 i = 0; i < 16 * block; i++)
			DFS_ASSERT(rd->f, buf[i] == buf[i / block * block], "torn at %u", i);
		rd->nr++;
		env_sleep_ns(rd->f->env, 100 * ENV_NSEC_PER_USEC);
	}
	free(buf);
}

static void run_reader(struct tfs *f)
{
	struct data_file id = {UINT32_MAX, 1, 0};
	u32 block = f->g.block_sectors * 512;
	struct reader rd = {.f = f};
	u8 *buf = malloc(16 * block);
	struct env_thread *t;
	u64 r = f->seed, done, seq;

	DFS_OK(f, env_thread_start(f->env, &t, "reader", reader_fn, &rd));
	for (unsigned i = 0; i < 600; i++) {
		u64 b = trand_below(&r, 16), n = 1 + trand_below(&r, 16 - b);

		if (trand_below(&r, 4)) {
			memset(buf, i, n * block);
			DFS_OK(f, data_write(f->data, &id, b * block, buf, n * block, 16 * block,
					     NULL, NULL, &done, &seq));
		} else {
			DFS_OK(f, data_punch(f->data, &id, b * block, n * block, 16 * block, NULL,
					     NULL, &seq));
		}
		/* Make buckets turn over under the reader. */
		if (i % 16 == 15)
			DFS_OK(f, alloc_do_discards(f->alloc));
	}
	__atomic_store_n(&rd.stop, true, __ATOMIC_RELAXED);
	env_thread_join(t);
	DFS_ASSERT(f, rd.nr > 10, "%llu reads", (unsigned long long)rd.nr);
	DFS_ASSERT(f, !f->data_errors, "%llu errors", (unsigned long long)f->data_errors);
	free(buf);
}

Test(data_model, reader_beside_writer)
{
	dfs_run(trand_seed(0xda07), &dfs_small, run_reader);
}

Test(data_model, reader_beside_writer_no_checksums)
{
	struct tfs_geometry g = dfs_small;

	g.csum_type = BCFS_CSUM_none;
	dfs_run(trand_seed(0xda08), &g, run_reader);
}

/* ---- crashes ---- */

static void run_crashes(struct tfs *f)
{
	struct file x[NR_FILES];
	u64 r = f->seed;

	files_init(x, f);
	for (unsigned round = 0; round < 10; round++) {
		struct sim_crash crash = {
			.rule = (enum sim_crash_rule)trand_below(&r, SIM_CRASH_SUBSET),
			.seed = trand_u64(&r),
		};

		for (unsigned i = 0; i < NR_FILES; i++)
			random_ops(&x[i], 10);
		/* What is flushed is there, with its data. */
		DFS_OK(f, journal_flush(f->journal));
		tfs_crash(f, &crash);
		tfs_mount(f);
		for (unsigned i = 0; i < NR_FILES; i++)
			check_file(&x[i]);
		tfs_check(f, "recovered");
	}
	files_end(x, f);
}

Test(data_model, crashes)
{
	dfs_run(trand_seed(0xda09), &dfs_small, run_crashes);
}

/* ---- a full device ---- */

static void fill(struct file *x, u64 *pos)
{
	u8 *buf = calloc(1, 1 << 20);
	u64 done = 1, seq;
	int ret = 0;

	while (!ret) {
		ret = data_write(x->f->data, &x->id, *pos, buf, 1 << 20, *pos, count_commit, x,
				 &done, &seq);
		*pos += done;
	}
	DFS_ASSERT(x->f, ret == -BCFS_ERR_nospc, "%s", err_name(ret));
	free(buf);
}

static void run_full(struct tfs *f)
{
	struct file x[NR_FILES], *p = &x[0], *filler = &x[1];
	struct alloc_usage u0, u1;

	files_init(x, f);
	alloc_usage(f->alloc, &u0);
	for (unsigned i = 0; i < 3; i++) {
		u64 total = 0, seq;

		/* A promise, then others take all there is. */
		DFS_OK(f, op_fallocate(p, 0, file_max(p), false));
		fill(filler, &total);
		DFS_ASSERT(f, total > u0.free * 512 / 2, "%llu", (unsigned long long)total);
		tfs_check(f, "full");
		DFS_OK(f, op_write(p, 0, file_max(p) / 2));
		DFS_OK(f, op_write(p, file_max(p) / 2, file_max(p) / 4));
		check_file(p);
		alloc_usage(f->alloc, &u1);
		DFS_ASSERT(f, u1.reserved * 512 == file_max(p) / 4, "%llu",
			   (unsigned long long)u1.reserved);
		/* What fits into a key needs no space. */
		DFS_OK(f, op_write(&x[2], 0, 1 + trand_below(&p->r, f->g.inline_bytes)));
		check_file(&x[2]);
		/* Taking away works. */
		DFS_OK(f, op_punch(p, 3 * x->block, 5 * x->block));
		DFS_OK(f, op_truncate(p, 10 * x->block + 1));
		check_file(p);
		DFS_OK(f, data_truncate(f->data, &filler->id, 0, count_commit, filler, &seq));
		DFS_ASSERT(f, !count_now(filler), "%llu", (unsigned long long)count_now(filler));
		DFS_OK(f, op_truncate(p, 0));
		DFS_OK(f, op_truncate(&x[2], 0));
		DFS_OK(f, alloc_do_discards(f->alloc));
		tfs_check(f, "emptied");
	}
	files_end(x, f);
}

Test(data_model, full_device)
{
	dfs_run(trand_seed(0xda0a), &dfs_small, run_full);
}

/* ---- shared data ---- */

static void files_share(struct file *x)
{
	for (unsigned i = 0; i < NR_FILES; i++) {
		x[i].sources = x;
		x[i].nr_sources = NR_FILES;
	}
}

/* A random one of the reflink btree's pointers; false: there are none. */
static int shared_ptr(struct btree_trans *trans, u64 *r, struct extent_ptr_decoded *ret, u64 *nr)
{
	*nr = 0;
	return for_each_btree_key (
		trans, iter, BTREE_ID_reflink, POS_MIN, BTREE_ITER_NOT_EXTENTS, k, ({
			struct extent_ptr_decoded p;

			for_each_extent_ptr(k, 0, it, p) if (!trand_below(r, ++*nr)) *ret = p;
			0;
		}));
}

/* What a bucket has of some shared data goes elsewhere. */
static bool move_shared(struct tfs *f, u64 *r)
{
	struct btree_trans *trans = btree_trans_get(f->btree);
	struct extent_ptr_decoded p;
	u64 nr = 0;

	DFS_OK(f, shared_ptr(trans, r, &p, &nr));
	btree_trans_put(trans);
	if (nr)
		DFS_OK(f, data_move_failed(f->data, &p.ptr, p.stored_sectors));
	return nr;
}

static void shared_rounds(struct tfs *f, u32 restart_ppm)
{
	struct file x[NR_FILES];
	u64 r = f->seed, moved = 0;

	files_init(x, f);
	files_share(x);
	for (unsigned round = 0; round < 16; round++) {
		struct sim_crash crash = {
			.rule = (enum sim_crash_rule)trand_below(&r, SIM_CRASH_SUBSET),
			.seed = trand_u64(&r),
		};

		if (restart_ppm) {
			env_inject_arm_random(f->env, "trans_restart", restart_ppm);
			env_inject_arm_random(f->env, "trans_restart_commit", restart_ppm);
		}
		for (unsigned i = 0; i < 4 * NR_FILES; i++)
			random_ops(&x[i % NR_FILES], 6);
		for (unsigned i = 0; i < 4; i++)
			moved += move_shared(f, &r);
		env_inject_disarm_all(f->env);
		tfs_check(f, "shared");
		if (round % 2) {
			DFS_OK(f, journal_flush(f->journal));
			tfs_crash(f, &crash);
			tfs_mount(f);
			tfs_check(f, "recovered");
		}
		for (unsigned i = 0; i < NR_FILES; i++)
			check_file(&x[i]);
		tfs_check(f, "read");
	}
	DFS_ASSERT(f, moved > 10, "%llu", (unsigned long long)moved);
	files_end(x, f);
	/* Nothing is left that nobody has. */
	DFS_ASSERT(f, !move_shared(f, &r), "shared data without owners");
}

static void run_shared(struct tfs *f)
{
	shared_rounds(f, 0);
}

static void run_shared_restarts(struct tfs *f)
{
	shared_rounds(f, 50000);
}

Test(data_model, shared)
{
	dfs_run(trand_seed(0xda10), &dfs_small, run_shared);
}

Test(data_model, shared_gathered)
{
	dfs_run(trand_seed(0xda11), &dfs_small, run_shared);
}

Test(data_model, shared_tiny)
{
	dfs_run(trand_seed(0xda13), &dfs_tiny, run_shared);
}

Test(data_model, shared_restarts)
{
	dfs_run(trand_seed(0xda14), &dfs_small, run_shared_restarts);
}

/* Owners of the same data, each in a fiber of its own. */
static void run_shared_concurrent(struct tfs *f)
{
	struct env_thread *t[NR_FILES];
	struct file x[NR_FILES];

	files_init(x, f);
	for (unsigned round = 0; round < 6; round++) {
		files_share(x);
		for (unsigned i = 0; i < NR_FILES; i++) {
			DFS_OK(f, op_write(&x[i], 0, file_max(&x[i]) / 2));
			for (unsigned j = 0; j < 4; j++)
				DFS_OK(f, random_share(&x[i], random_offset(&x[i], file_max(&x[i])),
						       file_max(&x[i]) / 2));
		}
		for (unsigned i = 0; i < NR_FILES; i++) {
			x[i].sources = &x[i];
			x[i].nr_sources = 1;
			DFS_OK(f, env_thread_start(f->env, &t[i], "worker", worker_fn, &x[i]));
		}
		for (unsigned i = 0; i < NR_FILES; i++)
			env_thread_join(t[i]);
		for (unsigned i = 0; i < NR_FILES; i++)
			check_file(&x[i]);
		tfs_check(f, "concurrent owners");
	}
	files_end(x, f);
}

Test(data_model, shared_concurrent)
{
	dfs_run(trand_seed(0xda15), &dfs_small, run_shared_concurrent);
}

/* ---- faults ---- */

static void run_write_errors(struct tfs *f)
{
	struct file x[NR_FILES];
	unsigned struck_data = 0;

	files_init(x, f);
	f->quiet = true;
	for (unsigned i = 0; i < 200; i++) {
		struct file *p = &x[i % NR_FILES];
		u64 errors = f->data_errors;

		/* Nothing but file data is written just now. */
		DFS_OK(f, journal_flush_pins(f->journal, UINT64_MAX));
		btree_interior_flush(f->btree);
		sim_bdev_arm(f->bdev,
			     trand_below(&p->r, 2) ? SIM_FAULT_WRITE_ERROR : SIM_FAULT_WRITE_TORN,
			     1 + trand_below(&p->r, 2), false);
		DFS_OK(f, op_write(p, random_offset(p, file_max(p) / 2),
				   1 + trand_below(&p->r, file_max(p) / 2)));
		/* What is small goes out now. */
		DFS_OK(f, journal_flush(f->journal));
		sim_bdev_arm(f->bdev, SIM_FAULT_WRITE_ERROR, 0, false);
		sim_bdev_arm(f->bdev, SIM_FAULT_WRITE_TORN, 0, false);
		struck_data += f->data_errors > errors;
		check_file(p);
	}
	DFS_ASSERT(f, struck_data > 50, "%u", struck_data);
	f->quiet = false;
	files_end(x, f);
}

Test(data_model, failed_writes_go_elsewhere)
{
	dfs_run(trand_seed(0xda0b), &dfs_small, run_write_errors);
}

/* A chunk of an extent on the device, which several keys may share. */
struct chunk {
	u64 ptr; /* of its extent, sectors */
	u32 start, end;
	u64 place; /* of the byte looked for */
};

static int chunk_at(struct btree_trans *trans, struct file *x, u64 offset, struct chunk *ret)
{
	struct extent_ptr_decoded p;
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(&x->id, offset / 512), 0);
	k = btree_iter_peek_slot(&iter);
	err = bkey_err(k);
	if (!err && k.k->type == KEY_TYPE_extent) {
		struct extent_ptr_iter it = extent_ptr_iter_init(k);
		u32 at;

		extent_ptr_next(k, 0, &it, &p);
		at = p.live_offset + (offset / 512 - bkey_start_offset(k.k));
		ret->ptr = p.ptr.offset;
		ret->place = (p.ptr.offset + at) * 512 + offset % 512;
		ret->start = round_down(at, 1U << p.crc->chunk_shift);
		ret->end = ret->start + (1U << p.crc->chunk_shift);
		if (extent_compressed(p.crc)) {
			ret->place =
				p.ptr.offset * 512 + trand_below(&x->r, p.stored_sectors * 512ULL);
			ret->start = 0;
			ret->end = p.crc->uncompressed_sectors;
		}
	} else if (!err) {
		err = -BCFS_ERR_data_no_data;
	}
	btree_iter_exit(&iter);
	return err;
}

/* Which sectors of the file are read from that chunk? */
static int mark_chunk(struct btree_trans *trans, struct file *x, const struct chunk *c, bool *bad)
{
	return for_each_btree_key_max(
		trans, iter, BTREE_ID_extents, data_pos(&x->id, 0),
		data_pos(&x->id, file_max(x) / 512), 0, k, ({
			struct extent_ptr_decoded p;

			for_each_extent_ptr(k, 0, it, p) for (u64 i = 0; p.ptr.offset == c->ptr &&
									 i < k.k->size;
							      i++) bad[bkey_start_offset(k.k) + i] =
				p.live_offset + i >= c->start && p.live_offset + i < c->end;
			0;
		}));
}

/* Each block by itself, and all at once. */
static void check_bad(struct file *x, const bool *bad)
{
	u64 done, first = x->size;
	int ret;

	for (u64 b = 0; b < x->size; b += x->block) {
		if (!bad[b / 512]) {
			check_read(x, b, min(b + x->block, x->size));
			continue;
		}
		first = min(first, b);
		ret = data_read(x->f->data, &x->id, b, x->buf, min((u64)x->block, x->size - b),
				&done);
		DFS_ASSERT(x->f, ret == -BCFS_ERR_data_csum && !done, "%s", err_name(ret));
	}
	ret = data_read(x->f->data, &x->id, 0, x->buf, x->size, &done);
	DFS_ASSERT(x->f, ret == -BCFS_ERR_data_csum && done == first,
		   "%s after %llu, should be %llu", err_name(ret), (unsigned long long)done,
		   (unsigned long long)first);
	DFS_ASSERT(x->f, !memcmp(x->buf, x->bytes, done), "before the error");
}

static void flip_one(struct file *x, u64 offset)
{
	struct btree_trans *trans = btree_trans_get(x->f->btree);
	bool *bad = calloc(file_max(x) / 512, 1);
	u64 errors = x->f->data_errors;
	unsigned bit = trand_below(&x->r, 8);
	struct tfs *f = x->f;
	struct chunk c = {0};
	int ret;

	/* All of it is on the device. */
	DFS_OK(f, journal_flush(f->journal));
	ret = lockrestart_do(trans, chunk_at(trans, x, offset, &c));
	if (!ret)
		DFS_OK(f, mark_chunk(trans, x, &c, bad));
	btree_trans_put(trans);
	if (!ret) {
		sim_bdev_flip_bit(f->bdev, c.place, bit);
		check_bad(x, bad);
		DFS_ASSERT(f, f->data_errors > errors, "not counted");
		sim_bdev_flip_bit(f->bdev, c.place, bit);
		check_read(x, 0, x->size);
		/* What goes wrong on the way is read again. */
		errors = f->data_errors;
		sim_bdev_arm(f->bdev, SIM_FAULT_READ_FLIP, 1, false);
		check_read(x, 0, x->size);
		sim_bdev_arm(f->bdev, SIM_FAULT_READ_ERROR, 1, false);
		check_read(x, 0, x->size);
		DFS_ASSERT(f, f->data_errors == errors, "counted");
	}
	free(bad);
}

static void run_flips(struct tfs *f)
{
	struct file x[NR_FILES];

	files_init(x, f);
	f->quiet = true;
	for (unsigned i = 0; i < 60; i++) {
		struct file *p = &x[i % NR_FILES];

		random_ops(p, 8);
		if (p->size)
			flip_one(p, trand_below(&p->r, p->size));
	}
	f->quiet = false;
	files_end(x, f);
}

Test(data_model, flipped_bits_are_errors_of_their_chunk)
{
	dfs_run(trand_seed(0xda0c), &dfs_small, run_flips);
}

Test(data_model, flipped_bits_tiny)
{
	dfs_run(trand_seed(0xda0d), &dfs_tiny, run_flips);
}

/* ---- encrypted ---- */

Test(data_model, sealed)
{
	struct tfs_geometry g = dfs_sealed(&dfs_small), t = dfs_sealed(&dfs_tiny);

	dfs_run(trand_seed(0xda11), &g, run_plain);
	dfs_run(trand_seed(0xda12), &t, run_restarts);
	dfs_run(trand_seed(0xda13), &g, run_reader);
}

Test(data_model, sealed_crashes)
{
	struct tfs_geometry g = dfs_sealed(&dfs_small);

	dfs_run(trand_seed(0xda14), &g, run_crashes);
}

Test(data_model, sealed_full_device)
{
	struct tfs_geometry g = dfs_sealed(&dfs_small);

	dfs_run(trand_seed(0xda15), &g, run_full);
}

Test(data_model, sealed_failed_writes)
{
	struct tfs_geometry g = dfs_sealed(&dfs_small);

	dfs_run(trand_seed(0xda16), &g, run_write_errors);
	dfs_run(trand_seed(0xda16) + 1, &g, run_write_errors);
}

Test(data_model, sealed_flipped_bits)
{
	struct tfs_geometry g = dfs_sealed(&dfs_small), t = dfs_sealed(&dfs_tiny);

	dfs_run(trand_seed(0xda17), &g, run_flips);
	dfs_run(trand_seed(0xda18), &t, run_flips);
}
