// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Copygc and full devices.
 * Goal: on a device that is full but for a few percent, overwriting small pieces at random for many
 * times the device's size always finds space, loses and mixes up nothing, moves less than it frees,
 * and keeps every counter true; over clean mounts and crashes; with several writers; all space
 * returns when the files go. Method: files of blocks that say which file, block and version they
 * are; the versions are the model.
 */
#include "../test_rand.h"
#include "codec/codec.h"
#include "dfs.h"
#include "util/cleanup.h"
#include "util/printbuf.h"

#include <criterion/criterion.h>
#include <string.h>

#define FILES 8U

struct file {
	struct tfs *f;
	struct data_file id;
	u32 nr_blocks, block; /* block: bytes */
	u32 *version;	      /* 0: hole */
	u64 r;
	u64 nospc, written; /* blocks */
};

static const struct tfs_geometry gc_small = {
	.block_sectors = 8,
	.node_sectors = 64,
	.bucket_sectors = 128,
	.nr_buckets = 640,
	.nr_journal = 32,
	.csum_type = BCFS_CSUM_crc32c,
	.chunk_shift = 4,
};
/* Extents longer than what a bucket has left, checksums of several blocks, odd sizes. */
static const struct tfs_geometry gc_odd = {
	.block_sectors = 4,
	.node_sectors = 64,
	.bucket_sectors = 200,
	.nr_buckets = 500,
	.nr_journal = 32,
	.extent_sectors = 24,
	.csum_type = BCFS_CSUM_crc64,
	.chunk_shift = 3,
};

static struct file files[FILES];
static bool compressible; /* what is written: to less than half */

static void fill_block(u32 *p, u32 bytes, u64 inum, u32 block, u32 version)
{
	u64 s = inum << 48 ^ (u64)block << 24 ^ version;

	/* Few byte values for zstd, repeated for lz4. */
	for (u32 i = 0; i < bytes / 4; i++)
		p[i] = !compressible ? (u32)trand_u64(&s)
		       : i % 2	     ? p[i - 1]
				     : (u32)trand_u64(&s) & 0x3f3f3f3f;
}

/* 0 or -nospc; what was written is in the model. */
static int write_blocks(struct file *x, u32 first, u32 nr, u32 version)
{
	u32 *buf = aligned_alloc(4096, round_up((size_t)nr * x->block, (size_t)4096));
	u64 done = 0;
	int ret;

	for (u32 i = 0; i < nr; i++)
		fill_block(buf + i * (x->block / 4), x->block, x->id.inum, first + i, version);
	ret = data_write(x->f->data, &x->id, (u64)first * x->block, buf, (u64)nr * x->block,
			 (u64)x->nr_blocks * x->block, NULL, NULL, &done, NULL);
	free(buf);
	DFS_ASSERT(x->f, !ret || ret == -BCFS_ERR_nospc, "%s", err_str(ret));
	DFS_ASSERT(x->f, done % x->block == 0 && (ret || done == (u64)nr * x->block), "%llu",
		   (unsigned long long)done);
	for (u32 i = 0; i < done / x->block; i++)
		x->version[first + i] = version;
	x->written += done / x->block;
	x->nospc += !!ret;
	return ret;
}

static void check_file(struct file *x)
{
	u32 *want = malloc(x->block), *got = malloc(x->block);

	for (u32 i = 0; i < x->nr_blocks; i++) {
		u64 done;

		DFS_OK(x->f,
		       data_read(x->f->data, &x->id, (u64)i * x->block, got, x->block, &done));
		memset(want, 0, x->block);
		if (x->version[i])
			fill_block(want, x->block, x->id.inum, i, x->version[i]);
		DFS_ASSERT(x->f, !memcmp(want, got, x->block),
			   "inode %llu block %u is not version %u", (unsigned long long)x->id.inum,
			   i, x->version[i]);
	}
	free(want);
	free(got);
}

static void check_all(struct tfs *f, const char *when)
{
	for (unsigned i = 0; i < FILES; i++)
		check_file(&files[i]);
	tfs_check(f, when);
}

static void files_init(struct tfs *f, u64 seed)
{
	for (unsigned i = 0; i < FILES; i++) {
		struct file *x = &files[i];

		*x = (struct file){.f = f, .id = {UINT32_MAX, 100 + i}, .r = seed + i};
		x->block = f->g.block_sectors * 512;
		/* More than there is room for. */
		x->nr_blocks = f->g.nr_buckets * f->g.bucket_sectors / f->g.block_sectors / FILES;
		x->version = calloc(x->nr_blocks, sizeof(u32));
	}
}

static void files_exit(void)
{
	for (unsigned i = 0; i < FILES; i++)
		free(files[i].version);
}

/* Until nothing goes in any more. */
static void fill_up(struct tfs *f)
{
	u32 at[FILES] = {0};
	unsigned full = 0;

	for (u32 n = 0; full < FILES; n++) {
		struct file *x = &files[n % FILES];
		u32 *a = &at[n % FILES], nr = 1 + trand_below(&x->r, 3);

		nr = min(nr, x->nr_blocks - *a);
		full = nr && !write_blocks(x, *a, nr, 1) ? 0 : full + 1;
		*a += nr;
	}
}

/* Some holes: so many percent of the blocks. */
static void make_holes(struct tfs *f, unsigned percent)
{
	for (unsigned i = 0; i < FILES; i++) {
		struct file *x = &files[i];

		for (u32 b = 0; b < x->nr_blocks; b++) {
			if (!x->version[b] || trand_below(&x->r, 100) >= percent)
				continue;
			DFS_OK(f, data_punch(f->data, &x->id, (u64)b * x->block, x->block,
					     (u64)x->nr_blocks * x->block, NULL, NULL, NULL));
			x->version[b] = 0;
		}
	}
}

static u64 live_blocks(void)
{
	u64 n = 0;

	for (unsigned i = 0; i < FILES; i++)
		for (u32 b = 0; b < files[i].nr_blocks; b++)
			n += !!files[i].version[b];
	return n;
}

static void must_write(struct file *x, u32 first, u32 nr, u32 version)
{
	int ret = write_blocks(x, first, nr, version);

	if (ret) {
		CLEANUP(printbuf_exit) struct printbuf out = PRINTBUF;

		alloc_fs_to_text(&out, x->f->alloc);
		DFS_ASSERT(x->f, !ret, "inode %llu block %u, %llu blocks written: %s\n%s",
			   (unsigned long long)x->id.inum, first, (unsigned long long)x->written,
			   err_str(ret), printbuf_str(&out));
	}
}

/* Overwrite existing blocks at random, @nr in all. */
static void overwrite(struct file *x, u64 nr, u32 version)
{
	for (u64 n = 0; n < nr;) {
		u32 b = trand_below(&x->r, x->nr_blocks), len = 1 + trand_below(&x->r, 3);

		len = min(len, x->nr_blocks - b);
		for (u32 i = 0; i < len; i++)
			if (!x->version[b + i])
				len = i;
		if (!len)
			continue;
		must_write(x, b, len, version);
		n += len;
	}
}

static void check_gain(struct tfs *f)
{
	struct alloc_counters c;

	alloc_counters(f->alloc, &c);
	DFS_ASSERT(f, c.gc_buckets && c.gc_sectors_moved, "copygc did nothing");
	DFS_ASSERT(f, c.gc_sectors_moved < c.gc_buckets * f->g.bucket_sectors,
		   "%llu sectors moved for %llu buckets", (unsigned long long)c.gc_sectors_moved,
		   (unsigned long long)c.gc_buckets);
}

static void full_body(struct tfs *f)
{
	struct alloc_usage u;

	files_init(f, f->seed);
	fill_up(f);
	alloc_usage(f->alloc, &u);
	/* The rest is room in nodes' buckets. */
	DFS_ASSERT(f, u.used * 100 >= u.capacity * 90, "full with %llu of %llu sectors",
		   (unsigned long long)u.used, (unsigned long long)u.capacity);
	check_all(f, "full");

	make_holes(f, 6);
	u64 live = live_blocks();
	for (u32 v = 2; v < 5; v++) {
		for (unsigned i = 0; i < FILES; i++)
			overwrite(&files[i], live / FILES / 2, v);
		check_all(f, "overwritten");
		if (v == 3) {
			check_gain(f);
			tfs_umount(f);
			tfs_mount(f);
		}
	}
	check_gain(f);

	for (unsigned i = 0; i < FILES; i++) {
		DFS_OK(f, data_truncate(f->data, &files[i].id, 0, NULL, NULL, NULL));
		memset(files[i].version, 0, files[i].nr_blocks * sizeof(u32));
	}
	DFS_OK(f, alloc_do_discards(f->alloc));
	alloc_usage(f->alloc, &u);
	DFS_ASSERT(f,
		   !u.counters[BCFS_ACCOUNTING_user] && !u.counters[BCFS_ACCOUNTING_buckets_user],
		   "not all came back");
	check_all(f, "emptied");
	files_exit();
}

Test(copygc, full_device)
{
	for (u64 i = 0; i < trand_rounds(2); i++)
		dfs_run(trand_seed(10) + i, i & 1 ? &gc_odd : &gc_small, full_body);
}

/*
 * Compressed extents, of which parts are overwritten: what copygc cannot gain by them is ENOSPC,
 * never more moved than freed, and nothing is lost.
 */
static void compressed_body(struct tfs *f)
{
	static const u8 types[] = {BCFS_COMPRESSION_none, BCFS_COMPRESSION_lz4,
				   BCFS_COMPRESSION_zstd, BCFS_COMPRESSION_zstd};
	u32 at[FILES] = {0}, full = 0;
	struct alloc_counters c;
	struct alloc_usage u;
	u64 stored;

	compressible = true;
	files_init(f, f->seed);
	for (unsigned i = 0; i < FILES; i++) {
		files[i].id.compression = compression_opt(types[i % ARRAY_SIZE(types)], 1);
		files[i].nr_blocks *= 2;
		files[i].version = realloc(files[i].version, files[i].nr_blocks * sizeof(u32));
		memset(files[i].version, 0, files[i].nr_blocks * sizeof(u32));
	}
	for (u32 n = 0; full < FILES; n++) {
		struct file *x = &files[n % FILES];
		u32 *a = &at[n % FILES], nr = 1 + (u32)trand_below(&x->r, 40);

		nr = min(nr, x->nr_blocks - *a);
		full = nr && !write_blocks(x, *a, nr, 1) ? 0 : full + 1;
		*a += nr;
	}
	alloc_usage(f->alloc, &u);
	stored = u.counters[BCFS_ACCOUNTING_compressed];
	DFS_ASSERT(f, stored && stored * 10 < u.counters[BCFS_ACCOUNTING_uncompressed] * 9,
		   "%llu sectors of %llu", (unsigned long long)stored,
		   (unsigned long long)u.counters[BCFS_ACCOUNTING_uncompressed]);
	check_all(f, "full");
	make_holes(f, 12);
	for (u32 v = 2; v < 5; v++) {
		for (unsigned i = 0; i < FILES; i++) {
			struct file *x = &files[i];

			for (u32 n = 0; n < x->nr_blocks / 12; n++) {
				u32 b = (u32)trand_below(&x->r, x->nr_blocks);

				if (x->version[b])
					write_blocks(x, b, 1, v);
			}
		}
		check_all(f, "overwritten");
		if (v == 3) {
			tfs_umount(f);
			tfs_mount(f);
		}
	}
	alloc_counters(f->alloc, &c);
	DFS_ASSERT(f, c.gc_sectors_moved <= c.gc_buckets * f->g.bucket_sectors,
		   "%llu sectors moved for %llu buckets", (unsigned long long)c.gc_sectors_moved,
		   (unsigned long long)c.gc_buckets);
	for (unsigned i = 0; i < FILES; i++)
		DFS_OK(f, data_truncate(f->data, &files[i].id, 0, NULL, NULL, NULL));
	DFS_OK(f, alloc_do_discards(f->alloc));
	alloc_usage(f->alloc, &u);
	DFS_ASSERT(f,
		   !u.counters[BCFS_ACCOUNTING_user] && !u.counters[BCFS_ACCOUNTING_compressed] &&
			   !u.counters[BCFS_ACCOUNTING_buckets_user],
		   "not all came back");
	tfs_check(f, "emptied");
	files_exit();
	compressible = false;
}

Test(copygc, compressed)
{
	for (u64 i = 0; i < trand_rounds(2); i++)
		dfs_run(trand_seed(40) + i, i & 1 ? &gc_odd : &gc_small, compressed_body);
}

/* Rounds of copygc, until one moves nothing. */
static void until_idle(struct tfs *f)
{
	u64 before = UINT64_MAX;
	struct alloc_counters c;

	for (unsigned i = 0; i < 300; i++) {
		alloc_gc_kick(f->alloc);
		env_sleep_ns(f->env, 2 * ENV_NSEC_PER_SEC);
		alloc_counters(f->alloc, &c);
		if (c.gc_sectors_moved == before)
			return;
		before = c.gc_sectors_moved;
	}
	DFS_ASSERT(f, false, "%llu sectors moved for %llu buckets, and no end",
		   (unsigned long long)c.gc_sectors_moved, (unsigned long long)c.gc_buckets);
}

/*
 * Compressed extents of more than half a bucket, all of them live: where two do not fit, a part of
 * the second one fills the rest. So copygc gains nearly all that is dead, and comes to an end.
 */
static void rests_body(struct tfs *f)
{
	const u32 chunk = 24;
	struct alloc_usage u;
	s64 buckets, dead;
	u32 at = 0;

	compressible = true;
	files_init(f, f->seed);
	for (unsigned i = 0; i < FILES; i++) {
		files[i].id.compression = compression_opt(BCFS_COMPRESSION_zstd, 1);
		files[i].nr_blocks = files[i].nr_blocks / chunk * chunk;
	}
	for (; at < files[0].nr_blocks; at += chunk)
		for (unsigned i = 0; i < FILES; i++)
			if (write_blocks(&files[i], at, chunk, 1))
				break;
	for (u32 n = 0; n < FILES * files[0].nr_blocks / chunk; n++) {
		struct file *x = &files[n % FILES];
		u32 b = n / FILES * chunk;

		if (trand_below(&x->r, 5) > 1)
			continue;
		DFS_OK(f, data_punch(f->data, &x->id, (u64)b * x->block, (u64)chunk * x->block,
				     (u64)x->nr_blocks * x->block, NULL, NULL, NULL));
		memset(&x->version[b], 0, chunk * sizeof(u32));
	}
	until_idle(f);
	alloc_usage(f->alloc, &u);
	buckets = u.counters[BCFS_ACCOUNTING_buckets_user];
	dead = buckets * f->g.bucket_sectors - u.counters[BCFS_ACCOUNTING_user];
	DFS_ASSERT(f, dead * 8 < buckets * f->g.bucket_sectors, "%lld buckets, %lld sectors dead",
		   (long long)buckets, (long long)dead);
	check_gain(f);
	check_all(f, "packed");
	files_exit();
	compressible = false;
}

Test(copygc, rests)
{
	struct tfs_geometry sealed = dfs_sealed(&gc_small);

	for (u64 i = 0; i < trand_rounds(2); i++)
		dfs_run(trand_seed(60) + i, &gc_small, rests_body);
	dfs_run(trand_seed(62), &sealed, rests_body);
}

/* The end of what was handed out last goes back; of what others got more behind, nothing. */
static void trim_body(struct tfs *f)
{
	const u32 block = f->g.block_sectors;
	struct alloc_sectors first, last, next;

	DFS_OK(f, alloc_sectors_get(f->alloc, 5, 3 * block, &first));
	DFS_OK(f, alloc_sectors_get(f->alloc, 5, 3 * block, &last));
	alloc_sectors_trim(f->alloc, 5, &first, block);
	DFS_ASSERT(f, first.sectors == 3 * block, "%u: another has what is behind", first.sectors);
	alloc_sectors_done(f->alloc, &first);
	/* In the midst of a bucket, then what uses it up. */
	for (bool end = false; !end;) {
		u32 want = last.sectors;

		alloc_sectors_trim(f->alloc, 5, &last, block);
		DFS_ASSERT(f, last.sectors == block, "%u of %u", last.sectors, want);
		DFS_OK(f, alloc_sectors_get(f->alloc, 5, f->g.bucket_sectors, &next));
		DFS_ASSERT(f, next.ptr.offset == last.ptr.offset + block, "not the next one");
		alloc_sectors_done(f->alloc, &last);
		last = next;
		end = last.sectors < 2 * block;
	}
	alloc_sectors_done(f->alloc, &last);
	tfs_check(f, "trimmed");
}

Test(copygc, trim)
{
	dfs_run(trand_seed(70), &gc_small, trim_body);
	dfs_run(trand_seed(71), &gc_odd, trim_body);
}

static int victim_step(struct btree_trans *trans, const struct file *x, u32 block,
		       struct alloc_gc_victim *ret)
{
	struct extent_ptr_decoded p;
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	btree_iter_init(trans, &iter, BTREE_ID_extents,
			data_pos(&x->id, (u64)block * x->block / 512), 0);
	k = btree_iter_peek_slot(&iter);
	err = bkey_err(k);
	if (!err)
		for_each_extent_ptr(k, 0, it, p) *ret = (struct alloc_gc_victim){
			.bucket = p.ptr.offset / x->f->g.bucket_sectors, .gen = p.ptr.gen};
	btree_iter_exit(&iter);
	return err;
}

/* Buckets in which a codec comes after one that needs less memory, with none kept from before. */
static void two_codecs_body(struct tfs *f)
{
	struct file *x = &files[0];
	u64 moved, total = 0;

	compressible = true;
	files_init(f, f->seed);
	for (u32 b = 0; b < 320; b += 10) {
		x->id.compression =
			compression_opt(b % 20 ? BCFS_COMPRESSION_zstd : BCFS_COMPRESSION_lz4, 0);
		must_write(x, b, 10, 1);
		DFS_OK(f, data_punch(f->data, &x->id, (u64)(b + 2) * x->block, 8ULL * x->block,
				     (u64)x->nr_blocks * x->block, NULL, NULL, NULL));
		memset(&x->version[b + 2], 0, 8 * sizeof(u32));
	}
	tfs_umount(f);
	tfs_mount(f);
	for (u32 b = 0; b < 320; b += 10) {
		struct btree_trans *trans = btree_trans_get(f->btree);
		struct alloc_gc_victim v;
		bool stuck;

		DFS_OK(f, lockrestart_do(trans, victim_step(trans, x, b, &v)));
		btree_trans_put(trans);
		DFS_OK(f, data_move_bucket(f->data, &v, &moved, &stuck));
		total += moved;
	}
	DFS_ASSERT(f, total, "nothing moved");
	check_all(f, "moved");
	files_exit();
	compressible = false;
}

Test(copygc, two_codecs)
{
	dfs_run(trand_seed(42), &gc_small, two_codecs_body);
}

static void overwriter(void *arg)
{
	struct file *x = arg;

	for (u32 v = 2; v < 4; v++) {
		overwrite(x, x->nr_blocks / 2, v);
		check_file(x);
	}
}

static void writers_body(struct tfs *f)
{
	struct env_thread *t[FILES];

	files_init(f, f->seed);
	fill_up(f);
	make_holes(f, 6);
	for (unsigned i = 0; i < FILES; i++)
		DFS_ASSERT(f, !env_thread_start(f->env, &t[i], "writer", overwriter, &files[i]),
			   "thread");
	for (unsigned i = 0; i < FILES; i++)
		env_thread_join(t[i]);
	check_gain(f);
	check_all(f, "overwritten by many");
	files_exit();
}

Test(copygc, writers)
{
	dfs_run(trand_seed(20), &gc_odd, writers_body);
}

/* What is moved under a crash is where it was, or where it went. */
static void crash_body(struct tfs *f)
{
	u64 r = f->seed;

	files_init(f, f->seed);
	fill_up(f);
	make_holes(f, 6);
	DFS_OK(f, journal_flush(f->journal));
	for (u32 round = 0; round < 3; round++) {
		struct sim_crash crash = {.rule = trand_below(&r, SIM_CRASH_SUBSET),
					  .seed = trand_u64(&r)};

		/* Holes and overwrites of half of the files; the others are only moved. */
		for (unsigned i = 0; i < FILES / 2; i++)
			overwrite(&files[i], files[i].nr_blocks / 8, 10 + round);
		DFS_OK(f, journal_flush(f->journal));
		for (unsigned i = 0; i < FILES / 2; i++)
			overwrite(&files[i], files[i].nr_blocks / 8, 100 + round);
		tfs_crash(f, &crash);
		tfs_mount(f);
		for (unsigned i = FILES / 2; i < FILES; i++)
			check_file(&files[i]);
		tfs_check(f, "after a crash");
		/* The first half is of this round or the one before: written anew. */
		for (unsigned i = 0; i < FILES / 2; i++)
			for (u32 b = 0; b < files[i].nr_blocks; b++)
				if (files[i].version[b])
					must_write(&files[i], b, 1, 1000 + round);
		check_all(f, "after a crash, written");
	}
	files_exit();
}

Test(copygc, crashes)
{
	for (u64 i = 0; i < trand_rounds(2); i++)
		dfs_run(trand_seed(30) + i, i & 1 ? &gc_odd : &gc_small, crash_body);
}

/* ---- encrypted: by a newer key after each mount ---- */

Test(copygc, sealed)
{
	struct tfs_geometry g = dfs_sealed(&gc_small), o = dfs_sealed(&gc_odd);

	dfs_run(trand_seed(51), &o, full_body);
	dfs_run(trand_seed(53), &g, crash_body);
}
