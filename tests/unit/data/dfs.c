// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dfs.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* The btree's ops arg is both. */
_Static_assert(offsetof(struct tfs, arg) == offsetof(struct data_ops_arg, alloc) &&
		       offsetof(struct tfs, data) == offsetof(struct data_ops_arg, data),
	       "struct tfs begins as struct data_ops_arg does");

const struct tfs_geometry dfs_small = {
	.block_sectors = 8,
	.node_sectors = 32,
	.bucket_sectors = 128,
	.nr_buckets = 768,
	.nr_journal = 32,
	.inline_bytes = 1024,
	.csum_type = BCFS_CSUM_crc32c,
	.chunk_shift = 4,
};
const struct tfs_geometry dfs_tiny = {
	.block_sectors = 1,
	.node_sectors = 128,
	.bucket_sectors = 128,
	.nr_buckets = 1024,
	.nr_journal = 64,
	.extent_sectors = 12,
	.inline_bytes = 400,
	.csum_type = BCFS_CSUM_crc64,
	.chunk_shift = 3,
};

void dfs_fail(struct tfs *f, const char *file, int line, const char *what, const char *fmt, ...)
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
			[KEY_TYPE_reflink_p] = &bkey_ops_reflink_p,
			[KEY_TYPE_reflink_v] = &bkey_ops_reflink_v,
			[KEY_TYPE_btree_ptr] = &bkey_ops_btree_ptr,
			[KEY_TYPE_alloc] = &bkey_ops_alloc,
			[KEY_TYPE_backpointer] = &bkey_ops_backpointer,
			[KEY_TYPE_lru] = &bkey_ops_lru,
			[KEY_TYPE_accounting] = &bkey_ops_accounting,
		},
};

static void op_data_error(void *arg, int err, u32 snapshot, u64 inum, u64 offset, u64 len)
{
	((struct tfs *)arg)->data_errors++;
}

const struct bcfs_uuid dfs_uuid = {{0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19,
				    0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f}};

struct tfs_geometry dfs_sealed(const struct tfs_geometry *g)
{
	struct tfs_geometry s = *g;

	s.csum_type = BCFS_CSUM_xchacha20_poly1305;
	s.sealed = true;
	return s;
}

struct csum_key dfs_master(u16 gen)
{
	struct csum_key k = {.gen = gen};

	for (unsigned i = 0; i < sizeof(k.b); i++)
		k.b[i] = (u8)(i + gen - 1);
	return k;
}

/* One generation more than the last time, for some times. */
static void make_keys(struct tfs *f)
{
	f->keys = keyring_new(f->env, NULL);
	f->nr_keyed = min(f->nr_keyed + 1, 5U);
	for (u16 gen = 1; gen <= f->nr_keyed; gen++) {
		struct csum_key k = dfs_master(gen);

		DFS_OK(f, keyring_add(f->keys, &k));
	}
}

static void make(struct tfs *f)
{
	if (f->g.sealed)
		make_keys(f);
	struct data_opts d = {
		.block_bytes = f->g.block_sectors * 512,
		.extent_max_sectors = f->g.extent_sectors,
		.inline_max_bytes = f->g.inline_bytes,
		.csum_type = f->g.csum_type,
		.chunk_shift = f->g.chunk_shift,
		.keys = f->keys,
		.uuid = dfs_uuid,
		.error = op_data_error,
		.arg = f,
	};

	DFS_OK(f, data_fs_alloc(f->env, f->bdev, &f->log, f->btree, f->alloc, &d, &f->data));
}

static void start(struct tfs *f)
{
	DFS_OK(f, data_gc_start(f->data));
	DFS_OK(f, data_rebalance_start(f->data));
	if (f->seed % 2)
		DFS_OK(f, data_gather_start(f->data));
}

static void stop(struct tfs *f)
{
	data_rebalance_stop(f->data);
	data_gc_stop(f->data);
	journal_flush(f->journal);
}

static int pre_flush(struct tfs *f, u64 seq)
{
	return f->data ? data_gather_flush(f->data, seq) : 0;
}

static void free_data(struct tfs *f)
{
	data_gather_stop(f->data);
	data_fs_free(f->data);
	f->data = NULL;
	keyring_free(f->keys);
	f->keys = NULL;
}

static void count_text(void *arg, const char *text)
{
	fprintf(stderr, "%s\n", text);
	++*(u64 *)arg;
}

static u64 check(struct tfs *f)
{
	u64 errors = 0;

	DFS_OK(f, data_check_reflink(f->data, count_text, &errors));
	DFS_OK(f, data_rebalance_check(f->btree, count_text, &errors));
	return errors;
}

static const struct tfs_layer data_layer = {.table = &table,
					    .journal_step = 1,
					    .make = make,
					    .start = start,
					    .stop = stop,
					    .free = free_data,
					    .pre_flush = pre_flush,
					    .check = check};

static void run_fiber(void *arg)
{
	struct tfs *f = arg;

	tfs_mkfs(f);
	f->fn(f);
	env_inject_disarm_all(f->env);
	tfs_check(f, "at the end");
	tfs_umount(f);
	bdev_close(f->bdev);
}

void dfs_run(u64 seed, const struct tfs_geometry *g, void (*fn)(struct tfs *f))
{
	struct tfs *f = malloc(sizeof(*f));

	tfs_init(f, seed, g, &data_layer);
	f->fn = fn;
	DFS_OK(f, env_sim_run(f->env, run_fiber, f));
	env_sim_destroy(f->env);
	free(f);
}
