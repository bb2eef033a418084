// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dfs.h"

#include "util/printbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct dfs_geometry dfs_small = {
	.block_sectors = 8,
	.node_sectors = 32,
	.bucket_sectors = 128,
	.nr_buckets = 768,
	.nr_journal = 32,
	.csum_type = BCFS_CSUM_crc32c,
	.chunk_shift = 4,
};
const struct dfs_geometry dfs_tiny = {
	.block_sectors = 1,
	.node_sectors = 128,
	.bucket_sectors = 128,
	.nr_buckets = 1024,
	.nr_journal = 64,
	.extent_sectors = 12,
	.csum_type = BCFS_CSUM_crc64,
	.chunk_shift = 3,
};

#define FIRST_BUCKET 2

void dfs_fail(struct dfs *f, const char *file, int line, const char *what, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "%s:%d: %s: ", file, line, what);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, ", BCFS_TEST_SEED=0x%llx\n", (unsigned long long)f->seed);
	abort();
}

static const struct bkey_ops_table table = {
	.ops =
		{
			[KEY_TYPE_extent] = &bkey_ops_extent,
			[KEY_TYPE_reservation] = &bkey_ops_reservation,
			[KEY_TYPE_error] = &bkey_ops_error_key,
			[KEY_TYPE_inline_data] = &bkey_ops_inline_data,
			[KEY_TYPE_btree_ptr] = &bkey_ops_btree_ptr,
			[KEY_TYPE_alloc] = &bkey_ops_alloc,
			[KEY_TYPE_backpointer] = &bkey_ops_backpointer,
			[KEY_TYPE_lru] = &bkey_ops_lru,
			[KEY_TYPE_accounting] = &bkey_ops_accounting,
		},
};

static int op_flush_pins(void *arg, struct journal_entry_pin **pins, unsigned nr, u64 seq)
{
	return btree_flush_pins(((struct dfs *)arg)->btree, pins, nr, seq);
}

static void op_error(void *arg, int err) {}

static const struct journal_ops journal_ops = {.flush_pins = op_flush_pins, .error = op_error};

static void op_data_error(void *arg, int err, u32 snapshot, u64 inum, u64 offset, u64 len)
{
	((struct dfs *)arg)->data_errors++;
}

static void log_line(void *arg, enum log_level level, const char *line)
{
	const struct dfs *f = arg;

	if (!f->quiet)
		fprintf(stderr, "%s\n", line);
}

static void alloc_all(struct dfs *f)
{
	struct journal_opts jo = {
		.block_bytes = f->g.block_sectors * 512,
		.bucket_sectors = f->g.bucket_sectors,
		.magic = 0x1234,
		.csum_type = BCFS_CSUM_crc32c,
		.ops = &journal_ops,
		.arg = f,
	};
	struct alloc_opts ao = {
		.block_sectors = f->g.block_sectors,
		.bucket_sectors = f->g.bucket_sectors,
		.node_sectors = f->g.node_sectors,
		.nr_buckets = f->g.nr_buckets,
		.first_bucket = FIRST_BUCKET,
		.discard = true,
	};
	struct btree_fs_opts bo = {
		.block_bytes = f->g.block_sectors * 512,
		.node_bytes = f->g.node_sectors * 512,
		.cache_bytes = 64ULL << 20,
		.magic = 0x5678,
		.csum_type = BCFS_CSUM_crc32c,
		.ops = &table,
		.space = &alloc_btree_space_ops,
		.arg = &f->arg,
		.accounted = alloc_btree_accounted,
	};
	struct data_opts d = {
		.block_bytes = f->g.block_sectors * 512,
		.extent_max_sectors = f->g.extent_sectors,
		.csum_type = f->g.csum_type,
		.chunk_shift = f->g.chunk_shift,
		.error = op_data_error,
		.arg = f,
	};

	DFS_OK(f, journal_alloc(f->env, f->bdev, &f->log, &jo, &f->journal));
	DFS_OK(f, journal_set_buckets(f->journal, f->journal_buckets, f->g.nr_journal));
	DFS_OK(f, alloc_fs_alloc(f->env, f->bdev, &f->log, &ao, &f->alloc));
	f->arg.alloc = f->alloc;
	DFS_OK(f, btree_fs_alloc(f->env, f->bdev, &f->log, f->journal, &bo, &f->btree));
	alloc_fs_attach(f->alloc, f->btree, f->journal);
	DFS_OK(f, alloc_set_journal_buckets(f->alloc, f->journal_buckets, f->g.nr_journal));
	DFS_OK(f, data_fs_alloc(f->env, f->bdev, &f->log, f->btree, f->alloc, &d, &f->data));
}

static void free_all(struct dfs *f)
{
	data_fs_free(f->data);
	btree_fs_free(f->btree);
	journal_free(f->journal);
	alloc_fs_free(f->alloc);
}

static void mkfs(struct dfs *f)
{
	for (unsigned i = 0; i < f->g.nr_journal; i++)
		f->journal_buckets[i] = FIRST_BUCKET + 1 + i;
	alloc_all(f);
	DFS_OK(f, btree_fs_start(f->btree, NULL, 0, NULL, 0));
	DFS_OK(f, journal_start(f->journal, 1, NULL, &f->carried));
	journal_replay_done(f->journal);
	btree_fs_replay_none(f->btree);
	DFS_OK(f, alloc_fs_start(f->alloc, NULL));
	DFS_OK(f, alloc_init_device(f->alloc, f->journal_buckets, f->g.nr_journal));
	DFS_OK(f, alloc_fs_start_threads(f->alloc));
	DFS_OK(f, data_gc_start(f->data));
}

static void mount_clean(struct dfs *f, u64 suspect)
{
	DFS_OK(f, btree_fs_start(f->btree, f->carried.roots, suspect, f->bl, f->nr_bl));
	DFS_OK(f, journal_start(f->journal, f->clean_seq + 1, NULL, &f->carried));
	journal_replay_done(f->journal);
	btree_fs_replay_none(f->btree);
	DFS_OK(f, alloc_fs_start(f->alloc, f->carried.usage));
}

static void mount_replay(struct dfs *f)
{
	struct journal_replay r = {0};
	u64 end;

	DFS_OK(f, journal_read(f->journal, f->bl, f->nr_bl, &r));
	end = r.seq + JOURNAL_SEQ_AHEAD;
	f->bl[f->nr_bl++] = (struct journal_blacklist_range){r.seq + 1, end};
	DFS_OK(f, btree_fs_start(f->btree, r.carried.roots, end, f->bl, f->nr_bl));
	DFS_OK(f, journal_start(f->journal, end + 1, &r, &r.carried));
	DFS_OK(f, alloc_fs_start(f->alloc, r.carried.usage));
	DFS_OK(f, btree_replay(f->btree, &r));
	journal_replay_done(f->journal);
	journal_replay_free(f->journal, &r);
}

void dfs_mount(struct dfs *f)
{
	alloc_all(f);
	if (f->clean_seq)
		mount_clean(f, f->nr_bl ? f->bl[f->nr_bl - 1].end : 0);
	else
		mount_replay(f);
	f->clean_seq = 0;
	DFS_OK(f, alloc_fs_start_threads(f->alloc));
	DFS_OK(f, data_gc_start(f->data));
}

void dfs_umount(struct dfs *f)
{
	data_gc_stop(f->data);
	alloc_fs_stop(f->alloc);
	btree_fs_stop(f->btree);
	DFS_OK(f, journal_stop(f->journal, &f->carried, &f->clean_seq));
	free_all(f);
}

void dfs_crash(struct dfs *f, const struct sim_crash *crash)
{
	struct sim_bdev_opts so = {0};
	struct sim_image *img;

	journal_halt(f->journal);
	btree_fs_halt(f->btree);
	img = sim_bdev_crash(f->bdev, crash);
	data_gc_stop(f->data);
	alloc_fs_stop(f->alloc);
	btree_fs_stop(f->btree);
	free_all(f);
	bdev_close(f->bdev);
	DFS_OK(f, sim_bdev_create_from(f->env, "sim", &so, img, &f->bdev));
	sim_image_free(img);
	f->clean_seq = 0;
}

static void print_difference(void *arg, const char *text)
{
	fprintf(stderr, "%s\n", text);
}

void dfs_check(struct dfs *f, const char *when)
{
	u64 errors = 0;

	/* Quiet: nothing left for the background to write. */
	DFS_OK(f, journal_flush_pins(f->journal, UINT64_MAX));
	btree_interior_flush(f->btree);
	DFS_OK(f, journal_flush_pins(f->journal, UINT64_MAX));
	DFS_OK(f, alloc_check(f->alloc, NULL, &errors, print_difference, NULL));
	DFS_ASSERT(f, !errors, "%s: %llu differences", when, (unsigned long long)errors);
	DFS_ASSERT(f, !sim_bdev_violations(f->bdev), "%s: %s", when,
		   sim_bdev_first_violation(f->bdev));
}

static void run_fiber(void *arg)
{
	struct sim_bdev_opts so = {0};
	struct dfs *f = arg;

	so.size_bytes = f->g.nr_buckets * f->g.bucket_sectors * 512ULL;
	DFS_OK(f, sim_bdev_create(f->env, "sim", &so, &f->bdev));
	mkfs(f);
	f->fn(f);
	env_inject_disarm_all(f->env);
	dfs_check(f, "at the end");
	dfs_umount(f);
	bdev_close(f->bdev);
}

void dfs_run(u64 seed, const struct dfs_geometry *g, void (*fn)(struct dfs *f))
{
	struct dfs *f = calloc(1, sizeof(*f));

	f->g = *g;
	f->seed = seed;
	f->fn = fn;
	f->env = env_sim_create(seed);
	f->log = (struct log){.fn = log_line, .arg = f, .max = LOG_LEVEL_WARN};
	DFS_OK(f, env_sim_run(f->env, run_fiber, f));
	env_sim_destroy(f->env);
	free(f);
}
