// SPDX-License-Identifier: LGPL-2.1-or-later
#include "alloc_fixture.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BUCKET 2

void tfs_fail(struct tfs *f, const char *what, int line, int ret)
{
	fprintf(stderr, "line %d: %s: %s (%s), BCFS_TEST_SEED=%#llx\n", line, what, err_name(ret),
		err_str(ret), (unsigned long long)f->seed);
	abort();
}

static int op_flush_pins(void *arg, struct journal_entry_pin **pins, unsigned nr, u64 seq)
{
	return btree_flush_pins(((struct tfs *)arg)->btree, pins, nr, seq);
}

static void op_error(void *arg, int err) {}

static int op_pre_flush(void *arg, u64 seq)
{
	struct tfs *f = arg;

	return f->layer->pre_flush ? f->layer->pre_flush(f, seq) : 0;
}

static const struct journal_ops journal_ops = {
	.flush_pins = op_flush_pins, .error = op_error, .pre_flush = op_pre_flush};

static void alloc_all(struct tfs *f)
{
	struct journal_opts jo = {
		.block_bytes = f->g.block_sectors * 512,
		.bucket_sectors = f->g.bucket_sectors,
		.magic = 0x1234,
		.csum_type = BCFS_CSUM_crc32c,
		.entry_bytes_max = f->g.entry_bytes,
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
		.cache_bytes = f->g.cache_bytes ?: 64ULL << 20,
		.magic = 0x5678,
		.csum_type = BCFS_CSUM_crc32c,
		.ops = f->layer->table,
		.space = &alloc_btree_space_ops,
		.arg = &f->arg,
		.accounted = alloc_btree_accounted,
	};

	TFS_OK(journal_alloc(f->env, f->bdev, &f->log, &jo, &f->journal));
	TFS_OK(journal_set_buckets(f->journal, f->journal_buckets, f->g.nr_journal));
	TFS_OK(alloc_fs_alloc(f->env, f->bdev, &f->log, &ao, &f->alloc));
	f->arg.alloc = f->alloc;
	TFS_OK(btree_fs_alloc(f->env, f->bdev, &f->log, f->journal, &bo, &f->btree));
	alloc_fs_attach(f->alloc, f->btree, f->journal);
	TFS_OK(alloc_set_journal_buckets(f->alloc, f->journal_buckets, f->g.nr_journal));
	if (f->layer->make)
		f->layer->make(f);
}

static void free_all(struct tfs *f)
{
	if (f->layer->free)
		f->layer->free(f);
	btree_fs_free(f->btree);
	journal_free(f->journal);
	alloc_fs_free(f->alloc);
}

static void start_threads(struct tfs *f)
{
	TFS_OK(alloc_fs_start_threads(f->alloc));
	if (f->layer->start)
		f->layer->start(f);
}

static void stop_threads(struct tfs *f)
{
	if (f->layer->stop)
		f->layer->stop(f);
	alloc_fs_stop(f->alloc);
	btree_fs_stop(f->btree);
}

static void log_line(void *arg, enum log_level level, const char *line)
{
	const struct tfs *f = arg;

	if (!f->quiet)
		fprintf(stderr, "%s\n", line);
}

void tfs_init(struct tfs *f, u64 seed, const struct tfs_geometry *g, const struct tfs_layer *layer)
{
	memset(f, 0, sizeof(*f));
	f->g = *g;
	f->layer = layer;
	f->seed = seed;
	f->env = env_sim_create(seed);
	f->log = (struct log){.fn = log_line, .arg = f, .max = LOG_LEVEL_WARN};
}

void tfs_mkfs(struct tfs *f)
{
	const struct tfs_geometry *g = &f->g;
	struct sim_bdev_opts so = {.size_bytes = g->nr_buckets * g->bucket_sectors * 512ULL};

	TFS_OK(sim_bdev_create(f->env, "sim", &so, &f->bdev));
	for (unsigned i = 0; i < g->nr_journal; i++)
		f->journal_buckets[i] = FIRST_BUCKET + 1 + i * f->layer->journal_step;
	alloc_all(f);
	TFS_OK(btree_fs_start(f->btree, NULL, 0, NULL, 0));
	TFS_OK(journal_start(f->journal, 1, NULL, &f->carried));
	journal_replay_done(f->journal);
	btree_fs_replay_none(f->btree);
	TFS_OK(alloc_fs_start(f->alloc, NULL));
	TFS_OK(alloc_init_device(f->alloc, f->journal_buckets, g->nr_journal));
	start_threads(f);
}

static void mount_clean(struct tfs *f)
{
	TFS_OK(btree_fs_start(f->btree, f->carried.roots, f->bl_end, f->bl, f->nr_bl));
	TFS_OK(journal_start(f->journal, f->clean_seq + 1, NULL, &f->carried));
	journal_replay_done(f->journal);
	btree_fs_replay_none(f->btree);
	TFS_OK(alloc_fs_start(f->alloc, f->carried.usage));
}

static void mount_replay(struct tfs *f)
{
	struct journal_replay r = {0};
	u64 next;

	TFS_OK(journal_read(f->journal, f->bl, f->nr_bl, &r));
	f->bl[f->nr_bl++] = (struct journal_blacklist_range){r.seq + 1, r.seq + JOURNAL_SEQ_AHEAD};
	f->bl_end = r.seq + JOURNAL_SEQ_AHEAD;
	next = f->bl_end + 1;
	TFS_OK(btree_fs_start(f->btree, r.carried.roots, f->bl_end, f->bl, f->nr_bl));
	TFS_OK(journal_start(f->journal, next, &r, &r.carried));
	/* Counters first: splits during replay allocate. */
	TFS_OK(alloc_fs_start(f->alloc, r.carried.usage));
	TFS_OK(btree_replay(f->btree, &r));
	journal_replay_done(f->journal);
	journal_replay_free(f->journal, &r);
}

void tfs_mount(struct tfs *f)
{
	alloc_all(f);
	if (f->clean_seq)
		mount_clean(f);
	else
		mount_replay(f);
	f->clean_seq = 0;
	start_threads(f);
}

void tfs_umount(struct tfs *f)
{
	stop_threads(f);
	TFS_OK(journal_stop(f->journal, &f->carried, &f->clean_seq));
	free_all(f);
}

void tfs_crash(struct tfs *f, const struct sim_crash *crash)
{
	struct sim_bdev_opts so = {0};
	struct sim_image *img;

	journal_halt(f->journal);
	btree_fs_halt(f->btree);
	img = sim_bdev_crash(f->bdev, crash);
	stop_threads(f);
	free_all(f);
	bdev_close(f->bdev);
	TFS_OK(sim_bdev_create_from(f->env, "sim", &so, img, &f->bdev));
	sim_image_free(img);
	f->clean_seq = 0;
}

static void check_written_once(struct tfs *f)
{
	if (sim_bdev_violations(f->bdev)) {
		fprintf(stderr, "%s\n", sim_bdev_first_violation(f->bdev));
		tfs_fail(f, "written once", __LINE__, 0);
	}
}

void tfs_destroy(struct tfs *f)
{
	check_written_once(f);
	tfs_umount(f);
	bdev_close(f->bdev);
	env_sim_destroy(f->env);
}

static void print_difference(void *arg, const char *text)
{
	fprintf(stderr, "%s\n", text);
}

void tfs_check(struct tfs *f, const char *when)
{
	u64 errors = 0;

	/* Quiet: nothing left for the background to write. */
	TFS_OK(journal_flush_pins(f->journal, UINT64_MAX));
	btree_interior_flush(f->btree);
	TFS_OK(journal_flush_pins(f->journal, UINT64_MAX));
	TFS_OK(alloc_check(f->alloc, NULL, &errors, print_difference, NULL));
	if (errors) {
		CLEANUP(printbuf_exit) struct printbuf out = PRINTBUF;

		alloc_fs_to_text(&out, f->alloc);
		fprintf(stderr, "%s: %llu differences\n%s\n", when, (unsigned long long)errors,
			printbuf_str(&out));
		tfs_fail(f, "alloc_check", __LINE__, 0);
	}
	if (f->layer->check && f->layer->check(f))
		tfs_fail(f, when, __LINE__, 0);
	check_written_once(f);
}
