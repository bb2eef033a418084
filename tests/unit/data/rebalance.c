// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Rebalance: data compressed in the background.
 * Goal: what is written becomes as it is to be, once, and takes less; its bytes never change,
 * whatever is overwritten, cut or lost in a crash meanwhile; rebalance_work is what the extents
 * say, at any time; what does not become less is tried once; nothing is done while it is paused or
 * while there is little space; the check finds work that is missing or left over. Method: files of
 * random pieces, some of which compress, against their bytes in memory; what is stored is looked at
 * in the keys and the counters.
 */
#include "../test_rand.h"
#include "codec/codec.h"
#include "dfs.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define FILES	   4U
#define FILE_BYTES (768U << 10)

struct file {
	struct tfs *f;
	struct data_file id;
	u8 *bytes;
	u64 size, r;
	u64 written; /* sectors */
};

static struct file files[FILES];

static const struct tfs_geometry geometry = {
	.block_sectors = 8,
	.node_sectors = 64,
	.bucket_sectors = 256,
	.nr_buckets = 400,
	.nr_journal = 32,
	.inline_bytes = 600,
	.csum_type = BCFS_CSUM_crc32c,
	.chunk_shift = 4,
};
/* No checksums, odd buckets. */
static const struct tfs_geometry geometry_odd = {
	.block_sectors = 2,
	.node_sectors = 64,
	.bucket_sectors = 200,
	.nr_buckets = 500,
	.nr_journal = 32,
	.extent_sectors = 48,
	.csum_type = BCFS_CSUM_none,
	.chunk_shift = 3,
};

static u16 opt(const char *text)
{
	u16 ret;

	cr_assert(!compression_opt_parse(text, &ret, NULL));
	return ret;
}

static void files_init(struct tfs *f, const char *compression, const char *background)
{
	for (unsigned i = 0; i < FILES; i++)
		files[i] = (struct file){.f = f,
					 .id = {.snapshot = UINT32_MAX,
						.inum = 100 + i,
						.compression = opt(compression),
						.background = opt(background)},
					 .bytes = calloc(1, FILE_BYTES),
					 .r = f->seed + i};
}

static void files_exit(void)
{
	for (unsigned i = 0; i < FILES; i++)
		free(files[i].bytes);
}

static void write_piece(struct file *x, u64 at, u64 len, bool compressible)
{
	u64 done = 0;

	len = min(len, FILE_BYTES - at);
	for (u64 i = 0; i < len; i++)
		x->bytes[at + i] =
			!compressible || i % 64 < 4 ? (u8)trand_u64(&x->r) : x->bytes[at + i - 4];
	DFS_OK(x->f, data_write(x->f->data, &x->id, at, x->bytes + at, len, x->size, NULL, NULL,
				&done, NULL));
	x->size = max(x->size, at + len);
	x->written += len / 512 + 32;
}

static void check_file(struct file *x)
{
	u8 *got = malloc(FILE_BYTES);
	u64 done;

	DFS_OK(x->f, data_read(x->f->data, &x->id, 0, got, x->size, &done));
	for (u64 i = 0; i < x->size; i++)
		DFS_ASSERT(x->f, got[i] == x->bytes[i], "inode %llu byte %llu of %llu",
			   (unsigned long long)x->id.inum, (unsigned long long)i,
			   (unsigned long long)x->size);
	free(got);
}

static unsigned nr_reports;

static void count_report(void *arg, const char *text)
{
	if (!arg)
		fprintf(stderr, "%s\n", text);
	nr_reports++;
}

static void check_all(struct tfs *f, const char *when)
{
	for (unsigned i = 0; i < FILES; i++)
		check_file(&files[i]);
	nr_reports = 0;
	DFS_OK(f, data_rebalance_check(f->btree, count_report, NULL));
	DFS_ASSERT(f, !nr_reports, "%s", when);
	tfs_check(f, when);
}

static s64 counter(struct tfs *f, enum bcfs_accounting_type t)
{
	struct alloc_usage u;

	alloc_usage(f->alloc, &u);
	return u.counters[t];
}

/* Until there is nothing to do. */
static void wait_done(struct tfs *f)
{
	struct data_rebalance_status s = {0};

	for (unsigned i = 0; i < 6000; i++) {
		data_rebalance_status(f->data, &s);
		if (!s.todo && s.state == DATA_REBALANCE_IDLE)
			return;
		env_sleep_ns(f->env, 20 * ENV_NSEC_PER_MSEC);
	}
	DFS_ASSERT(f, 0, "%llu sectors to do, state %d, %s", (unsigned long long)s.todo, s.state,
		   err_str(s.err));
}

static struct data_counters counters(struct tfs *f)
{
	struct data_counters c;

	data_counters(f->data, &c);
	return c;
}

/* Every extent of more than a block is compressed with @type, or was tried. */
static int as_wanted(struct btree_trans *trans, struct tfs *f, struct bkey_s_c k, unsigned type)
{
	const struct bcfs_extent_rebalance *r = extent_rebalance(k);
	struct extent_ptr_decoded p;

	if (k.k->type != KEY_TYPE_extent || k.k->size <= f->g.block_sectors)
		return 0;
	for_each_extent_ptr(k, 0, it, p)
	{
		bool done = p.crc && p.crc->compression == type;

		DFS_ASSERT(f, done ? !r : r && r->tried, "inode %llu at %llu is stored as %u",
			   (unsigned long long)k.k->p.inode, (unsigned long long)k.k->p.offset,
			   p.crc ? p.crc->compression : 0);
	}
	return 0;
}

static void check_as_wanted(struct tfs *f, unsigned type)
{
	struct btree_trans *trans = btree_trans_get(f->btree);

	DFS_OK(f, for_each_btree_key (trans, iter, BTREE_ID_extents, POS_MIN,
				      BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS, k,
				      as_wanted(trans, f, k, type)));
	btree_trans_put(trans);
}

static void random_writes(struct file *x, unsigned nr)
{
	for (unsigned n = 0; n < nr; n++) {
		u64 at = trand_below(&x->r, FILE_BYTES);
		u64 len = 1 + trand_below(&x->r, trand_below(&x->r, 3) ? 60000 : 300000);

		/* Bigger than what was there: what is in front is a hole. */
		if (trand_below(&x->r, 2))
			at = round_down(at, 4096ULL);
		write_piece(x, at, len, trand_below(&x->r, 4));
	}
}

/* ---- space before and after ---- */

static void space_body(struct tfs *f)
{
	u64 written = 0;
	s64 before, after;
	struct data_counters c;

	files_init(f, "none", "zstd:3");
	data_rebalance_pause(f->data, true);
	for (unsigned i = 0; i < FILES; i++)
		for (u64 at = 0; at < FILE_BYTES; at += 96 << 10)
			write_piece(&files[i], at, 96 << 10, true);
	DFS_OK(f, journal_flush(f->journal));
	before = counter(f, BCFS_ACCOUNTING_user);
	DFS_ASSERT(f, counter(f, BCFS_ACCOUNTING_rebalance) == before, "not all is work");
	env_sleep_ns(f->env, 30 * ENV_NSEC_PER_SEC);
	c = counters(f);
	DFS_ASSERT(f, !c.rebalanced && counter(f, BCFS_ACCOUNTING_user) == before, "not paused");
	check_all(f, "paused");
	data_rebalance_pause(f->data, false);
	wait_done(f);
	after = counter(f, BCFS_ACCOUNTING_user);
	c = counters(f);
	for (unsigned i = 0; i < FILES; i++)
		written += files[i].written;
	DFS_ASSERT(f, after * 4 < before, "%lld sectors of %lld", (long long)after,
		   (long long)before);
	DFS_ASSERT(f,
		   c.rebalanced == (u64)before && c.rebalanced_from == (u64)before &&
			   c.rebalanced_to == (u64)after && !c.rebalance_in_vain,
		   "%llu from %llu to %llu, written %llu", (unsigned long long)c.rebalanced,
		   (unsigned long long)c.rebalanced_from, (unsigned long long)c.rebalanced_to,
		   (unsigned long long)written);
	check_all(f, "done");
	check_as_wanted(f, BCFS_COMPRESSION_zstd);
	/* And it stays so. */
	env_sleep_ns(f->env, 30 * ENV_NSEC_PER_SEC);
	DFS_ASSERT(f, counters(f).rebalanced == c.rebalanced, "done again");
	files_exit();
}

Test(rebalance, space)
{
	dfs_run(trand_seed(1), &geometry, space_body);
	dfs_run(trand_seed(2), &geometry_odd, space_body);
}

/* ---- what does not become less ---- */

static void incompressible_body(struct tfs *f)
{
	struct file *x = &files[0];
	struct data_counters c;
	u64 sectors;

	files_init(f, "none", "zstd");
	write_piece(x, 0, 256 << 10, false);
	wait_done(f);
	c = counters(f);
	DFS_ASSERT(f, c.rebalance_in_vain == 512 && !c.rebalanced, "%llu in vain",
		   (unsigned long long)c.rebalance_in_vain);
	check_as_wanted(f, BCFS_COMPRESSION_zstd);
	check_all(f, "in vain");
	/* The same is not tried again, another is; and cut, it is still known. */
	DFS_OK(f, data_rebalance_scan(f->data, &x->id, &sectors));
	DFS_ASSERT(f, !sectors, "%llu", (unsigned long long)sectors);
	write_piece(x, 40000, 9000, true);
	DFS_OK(f, data_rebalance_scan(f->data, &x->id, &sectors));
	DFS_ASSERT(f, !sectors, "%llu", (unsigned long long)sectors);
	tfs_umount(f);
	tfs_mount(f);
	wait_done(f);
	DFS_OK(f, data_rebalance_scan(f->data, &x->id, &sectors));
	DFS_ASSERT(f, !sectors, "%llu after a mount", (unsigned long long)sectors);
	x->id.background = opt("lz4");
	DFS_OK(f, data_rebalance_scan(f->data, &x->id, &sectors));
	DFS_ASSERT(f, sectors, "nothing");
	wait_done(f);
	check_all(f, "another");
	files_exit();
}

Test(rebalance, incompressible)
{
	dfs_run(trand_seed(3), &geometry, incompressible_body);
	dfs_run(trand_seed(4), &geometry_odd, incompressible_body);
}

/* ---- from one codec to another ---- */

static void codecs_body(struct tfs *f)
{
	static const char *const pairs[][2] = {
		{"lz4", "zstd:12"}, {"zstd:-5", "zstd:15"}, {"none", "lz4:9"}, {"zstd", "zstd"}};
	struct data_counters c;

	files_init(f, "none", "none");
	for (unsigned i = 0; i < FILES; i++) {
		files[i].id.compression = opt(pairs[i][0]);
		files[i].id.background = opt(pairs[i][1]);
		for (u64 at = 0; at < FILE_BYTES / 2; at += 64 << 10)
			write_piece(&files[i], at, 64 << 10, true);
		/* Trimmed in front, behind, in the middle. */
		for (unsigned n = 0; n < 5; n++)
			write_piece(&files[i], trand_below(&files[i].r, FILE_BYTES / 2), 5000,
				    false);
	}
	wait_done(f);
	c = counters(f);
	DFS_ASSERT(f, c.rebalanced && c.rebalanced_to < c.rebalanced_from, "%llu to %llu",
		   (unsigned long long)c.rebalanced_from, (unsigned long long)c.rebalanced_to);
	check_all(f, "done");
	files_exit();
}

Test(rebalance, codecs)
{
	dfs_run(trand_seed(5), &geometry, codecs_body);
}

/* ---- beside writers ---- */

static void writer(void *arg)
{
	struct file *x = arg;

	for (unsigned n = 0; n < 40; n++) {
		u64 r = trand_below(&x->r, 8);

		if (r == 0) {
			x->size = trand_below(&x->r, x->size + 1);
			memset(x->bytes + x->size, 0, FILE_BYTES - x->size);
			DFS_OK(x->f, data_truncate(x->f->data, &x->id, x->size, NULL, NULL, NULL));
			DFS_OK(x->f, data_zero_tail(x->f->data, &x->id, x->size, NULL, NULL, NULL));
		} else if (r == 1) {
			u64 at = trand_below(&x->r, FILE_BYTES),
			    len = 1 + trand_below(&x->r, 90000);

			len = min(len, FILE_BYTES - at);
			memset(x->bytes + at, 0, len);
			DFS_OK(x->f,
			       data_punch(x->f->data, &x->id, at, len, x->size, NULL, NULL, NULL));
		} else {
			random_writes(x, 1);
		}
		if (trand_below(&x->r, 3) == 0)
			env_sleep_ns(x->f->env, trand_below(&x->r, 200) * ENV_NSEC_PER_MSEC);
	}
	check_file(x);
}

static void writers_body(struct tfs *f)
{
	struct env_thread *t[FILES];

	files_init(f, f->seed % 3 ? "none" : "lz4", "zstd:1");
	for (unsigned i = 0; i < FILES; i++)
		DFS_ASSERT(f, !env_thread_start(f->env, &t[i], "writer", writer, &files[i]),
			   "thread");
	for (unsigned i = 0; i < FILES; i++)
		env_thread_join(t[i]);
	check_all(f, "written");
	wait_done(f);
	DFS_ASSERT(f, counters(f).rebalanced, "nothing rewritten");
	check_all(f, "done");
	check_as_wanted(f, BCFS_COMPRESSION_zstd);
	files_exit();
}

Test(rebalance, writers)
{
	for (u64 i = 0; i < trand_rounds(4); i++)
		dfs_run(trand_seed(20) + i, i & 1 ? &geometry_odd : &geometry, writers_body);
}

/* What is being rewritten is overwritten, all the time. */
static void overwritten_body(struct tfs *f)
{
	struct file *x = &files[0];

	files_init(f, "none", "zstd:1");
	data_rebalance_pause(f->data, true);
	for (u64 at = 0; at < FILE_BYTES; at += 96 << 10)
		write_piece(x, at, 96 << 10, true);
	env_sleep_ns(f->env, ENV_NSEC_PER_SEC);
	data_rebalance_pause(f->data, false);
	for (unsigned n = 0; n < 400; n++) {
		write_piece(x, trand_below(&x->r, FILE_BYTES), 1 + trand_below(&x->r, 20000),
			    trand_below(&x->r, 2));
		env_sleep_ns(f->env, trand_below(&x->r, 500) * ENV_NSEC_PER_USEC);
	}
	check_all(f, "overwritten");
	wait_done(f);
	check_all(f, "done");
	check_as_wanted(f, BCFS_COMPRESSION_zstd);
	files_exit();
}

Test(rebalance, overwritten)
{
	dfs_run(trand_seed(10), &geometry, overwritten_body);
	dfs_run(trand_seed(11), &geometry_odd, overwritten_body);
}

/* ---- crashes ---- */

static void crash_body(struct tfs *f)
{
	u64 r = f->seed, done = 0;

	files_init(f, "none", "zstd:1");
	for (unsigned i = 0; i < FILES; i++)
		random_writes(&files[i], 6);
	data_rebalance_pause(f->data, true);
	DFS_OK(f, journal_flush(f->journal));
	for (unsigned n = 0; n < 6; n++) {
		struct sim_crash crash = {.rule = SIM_CRASH_RANDOM, .seed = trand_u64(&r)};

		data_rebalance_pause(f->data, false);
		env_sleep_ns(f->env,
			     100 * ENV_NSEC_PER_MSEC + trand_below(&r, 30) * ENV_NSEC_PER_MSEC);
		if (trand_below(&r, 2))
			DFS_OK(f, journal_flush(f->journal));
		env_sleep_ns(f->env, trand_below(&r, 10) * ENV_NSEC_PER_MSEC);
		done += counters(f).rebalanced;
		tfs_crash(f, &crash);
		tfs_mount(f);
		data_rebalance_pause(f->data, true);
		check_all(f, "after a crash");
	}
	DFS_ASSERT(f, done, "nothing was done before");
	data_rebalance_pause(f->data, false);
	wait_done(f);
	check_all(f, "done");
	check_as_wanted(f, BCFS_COMPRESSION_zstd);
	files_exit();
}

Test(rebalance, crash)
{
	for (u64 i = 0; i < trand_rounds(4); i++)
		dfs_run(trand_seed(30) + i, i & 1 ? &geometry_odd : &geometry, crash_body);
}

/* ---- a scan ---- */

static void scan_body(struct tfs *f)
{
	struct file *x = &files[0];
	u64 sectors, again;

	files_init(f, "none", "none");
	for (u64 at = 0; at < FILE_BYTES; at += 32 << 10)
		write_piece(x, at, 32 << 10, true);
	data_rebalance_pause(f->data, true);
	DFS_OK(f, data_rebalance_scan(f->data, &x->id, &sectors));
	DFS_ASSERT(f, !sectors, "nothing was to be");
	x->id.background = opt("zstd:1");
	DFS_OK(f, data_rebalance_scan(f->data, &x->id, &sectors));
	DFS_ASSERT(f,
		   sectors == FILE_BYTES / 512 &&
			   counter(f, BCFS_ACCOUNTING_rebalance) == (s64)sectors,
		   "%llu", (unsigned long long)sectors);
	DFS_OK(f, data_rebalance_scan(f->data, &x->id, &again));
	DFS_ASSERT(f, !again, "again %llu", (unsigned long long)again);
	check_all(f, "found");
	/* Taken back, but for what was begun. */
	x->id.background = 0;
	DFS_OK(f, data_rebalance_scan(f->data, &x->id, &sectors));
	DFS_ASSERT(f, !sectors && !counter(f, BCFS_ACCOUNTING_rebalance), "not taken back");
	check_all(f, "taken back");
	x->id.background = opt("zstd:1");
	DFS_OK(f, data_rebalance_scan(f->data, &x->id, &sectors));
	data_rebalance_pause(f->data, false);
	wait_done(f);
	DFS_ASSERT(f, counters(f).rebalanced == FILE_BYTES / 512, "%llu",
		   (unsigned long long)counters(f).rebalanced);
	check_all(f, "done");
	DFS_OK(f, data_rebalance_scan(f->data, &x->id, &again));
	DFS_ASSERT(f, !again, "done, and again %llu", (unsigned long long)again);
	files_exit();
}

Test(rebalance, scan)
{
	dfs_run(trand_seed(6), &geometry, scan_body);
	dfs_run(trand_seed(7), &geometry_odd, scan_body);
}

/* ---- a scan beside what moves and rewrites ---- */

struct beside {
	struct tfs *f;
	union data_key key;
	struct extent_ptr_decoded p;
	struct data_rewritten done;
};

static int first_key(struct btree_trans *trans, const struct data_file *id, union data_key *ret)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	int err;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(id, 0), 0);
	k = btree_iter_peek_slot(&iter);
	err = bkey_err(k);
	if (!err)
		bkey_reassemble(&ret->k, k);
	btree_iter_exit(&iter);
	return err;
}

static void beside_key(struct beside *b, const struct data_file *id)
{
	struct btree_trans *trans = btree_trans_get(b->f->btree);
	struct extent_ptr_decoded p;

	DFS_OK(b->f, lockrestart_do(trans, first_key(trans, id, &b->key)));
	btree_trans_put(trans);
	for_each_extent_ptr(bkey_i_to_s_c(&b->key.k), 0, it, p) b->p = p;
}

/* One extent at the beginning, not what ends with a bucket. */
static void write_extent(struct beside *b, struct file *x, bool compressible)
{
	do {
		write_piece(x, 0, 24 << 10, compressible);
		beside_key(b, &x->id);
	} while (b->key.k.k.size != 48);
}

static void move_it(void *arg)
{
	struct beside *b = arg;

	DFS_OK(b->f, data_move_failed(b->f->data, &b->p.ptr, b->p.stored_sectors));
}

static void rewrite_it(void *arg)
{
	struct beside *b = arg;

	DFS_OK(b->f, data_rewrite(b->f->data, &b->key, 1, &b->done));
}

/* While @fn is at the first extent of a file, something else is wanted of it. */
static void beside(struct tfs *f, struct beside *b, struct file *x, void (*fn)(void *arg),
		   const char *background, u64 *ret_sectors)
{
	struct env_thread *t;

	DFS_OK(f, env_thread_start(f->env, &t, "beside", fn, b));
	env_sleep_ns(f->env, trand_below(&x->r, 1500) * ENV_NSEC_PER_USEC);
	x->id.background = opt(background);
	DFS_OK(f, data_rebalance_scan(f->data, &x->id, ret_sectors));
	env_thread_join(t);
}

static void beside_body(struct tfs *f)
{
	struct beside b = {.f = f};
	struct file *x = &files[0];
	unsigned gone = 0, tried = 0;
	u64 sectors, again;

	files_init(f, "none", "none");
	data_rebalance_pause(f->data, true);
	for (unsigned round = 0; round < 30; round++) {
		/* What was asked for stays so when it is moved, */
		x->id.background = 0;
		write_extent(&b, x, true);
		beside(f, &b, x, move_it, "zstd:1", &sectors);
		DFS_OK(f, data_rebalance_scan(f->data, &x->id, &again));
		DFS_ASSERT(f, sectors == 48 && !again, "moved: %llu, then %llu",
			   (unsigned long long)sectors, (unsigned long long)again);
		/* and when the same is rewritten as was asked for before. */
		x->id.background = opt("lz4");
		write_extent(&b, x, true);
		beside(f, &b, x, rewrite_it, "zstd:5", &sectors);
		gone += b.done.gone != 0;
		DFS_OK(f, data_rebalance_scan(f->data, &x->id, &again));
		DFS_ASSERT(f, !again && counter(f, BCFS_ACCOUNTING_rebalance) == 48,
			   "rewritten: %llu, then %llu", (unsigned long long)sectors,
			   (unsigned long long)again);
		/* What was tried stays so. */
		write_extent(&b, x, false);
		struct beside mover = b;
		struct env_thread *t;

		DFS_OK(f, env_thread_start(f->env, &t, "mover", move_it, &mover));
		env_sleep_ns(f->env, trand_below(&x->r, 300) * ENV_NSEC_PER_USEC);
		rewrite_it(&b);
		env_thread_join(t);
		tried += b.done.in_vain != 0;
		DFS_ASSERT(f, counter(f, BCFS_ACCOUNTING_rebalance) == (b.done.in_vain ? 0 : 48),
			   "%llu in vain, %lld are work", (unsigned long long)b.done.in_vain,
			   (long long)counter(f, BCFS_ACCOUNTING_rebalance));
		check_all(f, "beside");
	}
	DFS_ASSERT(f, gone && tried, "%u gone, %u tried", gone, tried);
	data_rebalance_pause(f->data, false);
	wait_done(f);
	check_as_wanted(f, BCFS_COMPRESSION_zstd);
	check_all(f, "done");
	files_exit();
}

Test(rebalance, scan_beside)
{
	dfs_run(trand_seed(12), &geometry, beside_body);
	dfs_run(trand_seed(13), &geometry_odd, beside_body);
}

/* ---- shared data ---- */

static void share(struct file *from, struct file *to, u64 at, u64 len)
{
	u64 block = from->f->g.block_sectors * 512, done = 0;

	at = round_down(at, block);
	len = round_down(min(len, from->size - at), block);
	DFS_OK(from->f,
	       data_share(from->f->data, &from->id, at, &to->id, at, len, NULL, NULL, &done));
	DFS_ASSERT(from->f, done == len, "%llu", (unsigned long long)done);
	memcpy(to->bytes + at, from->bytes + at, len);
	to->size = max(to->size, at + len);
}

static void shared_body(struct tfs *f)
{
	u64 sectors, again;

	files_init(f, "none", "none");
	for (u64 at = 0; at < FILE_BYTES; at += 64 << 10)
		write_piece(&files[0], at, 64 << 10, at & 64 << 10 || f->seed & 1);
	/* All of it, and a part that is cut, by a file that becomes work, another that does not. */
	share(&files[0], &files[1], 0, FILE_BYTES);
	share(&files[0], &files[2], 100000, 300000);
	write_piece(&files[1], 50000, 20000, true);
	data_rebalance_pause(f->data, true);
	files[2].id.background = opt("zstd:1");
	DFS_OK(f, data_rebalance_scan(f->data, &files[2].id, &sectors));
	DFS_OK(f, data_rebalance_scan(f->data, &files[2].id, &again));
	DFS_ASSERT(f, sectors && !again, "%llu, again %llu", (unsigned long long)sectors,
		   (unsigned long long)again);
	check_all(f, "found");
	/* What is work is shared, unshared and cut. */
	share(&files[2], &files[3], 150000, 200000);
	write_piece(&files[3], 170000, 30000, true);
	write_piece(&files[2], 200000, 10000, false);
	DFS_OK(f, data_truncate(f->data, &files[0].id, 0, NULL, NULL, NULL));
	files[0].size = 0;
	memset(files[0].bytes, 0, FILE_BYTES);
	check_all(f, "cut");
	data_rebalance_pause(f->data, false);
	if (f->seed & 2)
		env_sleep_ns(f->env, 103 * ENV_NSEC_PER_MSEC);
	else
		wait_done(f);
	share(&files[1], &files[0], 0, 200000);
	check_all(f, "begun");
	wait_done(f);
	DFS_ASSERT(f, counters(f).rebalanced, "nothing was rewritten");
	check_all(f, "done");
	files_exit();
}

Test(rebalance, shared)
{
	for (u64 i = 0; i < trand_rounds(4); i++)
		dfs_run(trand_seed(40) + i, i & 1 ? &geometry_odd : &geometry, shared_body);
}

/* ---- little space ---- */

static void full_body(struct tfs *f)
{
	struct data_file big = {.snapshot = UINT32_MAX, .inum = 99};
	u8 *buf = aligned_alloc(4096, 64 << 10);
	u64 at = 0, done, r = f->seed;
	struct data_counters c;

	for (u32 i = 0; i < 64 << 10; i++)
		buf[i] = (u8)trand_u64(&r);
	files_init(f, "none", "zstd:1");
	data_rebalance_pause(f->data, true);
	for (unsigned i = 0; i < 2; i++)
		for (u64 n = 0; n < FILE_BYTES; n += 96 << 10)
			write_piece(&files[i], n, 96 << 10, true);
	while (!data_write(f->data, &big, at, buf, 64 << 10, at, NULL, NULL, &done, NULL))
		at += 64 << 10;
	data_rebalance_pause(f->data, false);
	env_sleep_ns(f->env, 30 * ENV_NSEC_PER_SEC);
	c = counters(f);
	DFS_ASSERT(f, !c.rebalanced && c.rebalance_waits, "%llu sectors on a full device",
		   (unsigned long long)c.rebalanced);
	check_all(f, "full");
	DFS_OK(f, data_truncate(f->data, &big, 0, NULL, NULL, NULL));
	wait_done(f);
	DFS_ASSERT(f, counters(f).rebalanced == 2 * FILE_BYTES / 512, "%llu",
		   (unsigned long long)counters(f).rebalanced);
	check_all(f, "done");
	free(buf);
	files_exit();
}

Test(rebalance, full)
{
	dfs_run(trand_seed(8), &geometry, full_body);
}

/* ---- the check ---- */

static int work_mod(struct tfs *f, struct bpos pos, bool set)
{
	struct btree_trans *trans = btree_trans_get(f->btree);
	int ret = commit_do(trans, NULL, 0,
			    btree_trans_bit_mod(trans, BTREE_ID_rebalance_work, pos, set));

	btree_trans_put(trans);
	return ret;
}

static int first_work(struct btree_trans *trans, struct bpos *ret)
{
	return for_each_btree_key (trans, iter, BTREE_ID_rebalance_work, POS_MIN, 0, k, ({
					   *ret = k.k->p;
					   1;
				   }));
}

static unsigned check_reports(struct tfs *f)
{
	nr_reports = 0;
	DFS_OK(f, data_rebalance_check(f->btree, count_report, f));
	return nr_reports;
}

static void check_body(struct tfs *f)
{
	struct btree_trans *trans;
	struct bpos pos = POS_MIN, wrong;
	unsigned nr;
	u64 sectors;

	files_init(f, "none", "zstd:1");
	data_rebalance_pause(f->data, true);
	write_piece(&files[0], 0, 300000, true);
	trans = btree_trans_get(f->btree);
	DFS_ASSERT(f, first_work(trans, &pos) == 1, "no work");
	btree_trans_put(trans);
	DFS_ASSERT(f, !check_reports(f), "reports");
	DFS_OK(f, work_mod(f, pos, false));
	nr = check_reports(f);
	DFS_ASSERT(f, nr == 1, "missing: %u reports", nr);
	wrong = pos;
	wrong.offset += 1;
	DFS_OK(f, work_mod(f, wrong, true));
	nr = check_reports(f);
	DFS_ASSERT(f, nr == 2, "and surplus: %u reports", nr);
	wrong.inode = 0;
	wrong.snapshot = 0;
	DFS_OK(f, work_mod(f, wrong, true));
	nr = check_reports(f);
	DFS_ASSERT(f, nr == 3, "and of no shared data: %u reports", nr);
	/* What is missing is put back by a scan. */
	DFS_OK(f, data_rebalance_scan(f->data, &files[0].id, &sectors));
	nr = check_reports(f);
	DFS_ASSERT(f, !sectors && nr == 2, "after a scan: %u reports", nr);
	/* What is left over is taken away by the work. */
	data_rebalance_pause(f->data, false);
	wait_done(f);
	check_all(f, "done");
	files_exit();
}

Test(rebalance, check)
{
	dfs_run(trand_seed(9), &geometry, check_body);
}
