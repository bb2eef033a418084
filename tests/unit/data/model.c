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
#include "model_file.h"

#include <criterion/criterion.h>
#include <string.h>

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
	int ret, wrong = x->f->data->opts.keys ? -BCFS_ERR_data_tag : -BCFS_ERR_data_csum;
	u64 done, first = x->size;

	for (u64 b = 0; b < x->size; b += x->block) {
		if (!bad[b / 512]) {
			check_read(x, b, min(b + x->block, x->size));
			continue;
		}
		first = min(first, b);
		ret = data_read(x->f->data, &x->id, b, x->buf, min((u64)x->block, x->size - b),
				&done);
		DFS_ASSERT(x->f, ret == wrong && !done, "%s", err_name(ret));
	}
	ret = data_read(x->f->data, &x->id, 0, x->buf, x->size, &done);
	DFS_ASSERT(x->f, ret == wrong && done == first, "%s after %llu, should be %llu",
		   err_name(ret), (unsigned long long)done, (unsigned long long)first);
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

/* ---- the longest keys in the smallest nodes ---- */

static void run_long_keys(struct tfs *f)
{
	const struct data_file id = {UINT32_MAX, 7};
	const u64 size = 1 << 20, step = 4096;
	u8 *bytes = malloc(size), *got = malloc(size);
	u64 r = f->seed, done;

	for (u64 i = 0; i < size; i++)
		bytes[i] = (u8)trand_u64(&r);
	for (u64 at = 0; at < size; at += size / 4)
		DFS_OK(f, data_write(f->data, &id, at, bytes + at, size / 4, at, NULL, NULL, &done,
				     NULL));
	/* In the midst of each, and of what is left of it. */
	for (unsigned i = 0; i < 400; i++) {
		u64 at = trand_below(&r, size / step) * step;

		memset(bytes + at, (int)i, step);
		DFS_OK(f, data_write(f->data, &id, at, bytes + at, step, size, NULL, NULL, &done,
				     NULL));
	}
	DFS_OK(f, data_read(f->data, &id, 0, got, size, &done));
	DFS_ASSERT(f, done == size && !memcmp(bytes, got, size), "not what was written");
	tfs_check(f, "overwritten");
	free(bytes);
	free(got);
}

Test(data_model, long_keys_in_small_nodes)
{
	struct tfs_geometry g = {
		.block_sectors = 1,
		.node_sectors = 8,
		.bucket_sectors = 256,
		.nr_buckets = 512,
		.nr_journal = 32,
		.csum_type = BCFS_CSUM_blake2b,
		.chunk_shift = 3,
		.extent_sectors = 256,
	};

	for (u64 i = 0; i < 4; i++)
		dfs_run(trand_seed(0xda20 + i), &g, run_long_keys);
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
