/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* RocksDB through its C interface: big-endian keys, write-ahead log on. */
#include "kv.h"
#include "bench_util.h"

#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rocks {
	rocksdb_t *db;
	rocksdb_options_t *opts;
	rocksdb_block_based_table_options_t *table;
	rocksdb_cache_t *cache;
	rocksdb_writeoptions_t *wo;
	rocksdb_readoptions_t *ro;
	char path[512];
};

static void check(char *err, const char *what)
{
	if (err)
		bench_die("bench-kv: rocksdb: %s: %s", what, err);
}

static void *rocks_open(const struct kv_params *p)
{
	struct rocks *r = calloc(1, sizeof(*r));
	char *err = NULL;

	snprintf(r->path, sizeof(r->path), "%s/rocksdb", p->dir);
	r->opts = rocksdb_options_create();
	rocksdb_options_set_create_if_missing(r->opts, 1);
	rocksdb_options_increase_parallelism(r->opts, 2);
	rocksdb_options_set_compression(r->opts, rocksdb_no_compression);
	rocksdb_options_set_write_buffer_size(r->opts, 128 << 20);
	r->cache = rocksdb_cache_create_lru((64 << 20) + p->nr_keys * 128);
	r->table = rocksdb_block_based_options_create();
	rocksdb_block_based_options_set_block_cache(r->table, r->cache);
	rocksdb_block_based_options_set_filter_policy(r->table,
						      rocksdb_filterpolicy_create_bloom(10));
	rocksdb_options_set_block_based_table_factory(r->opts, r->table);
	r->wo = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_sync(r->wo, p->durable);
	r->ro = rocksdb_readoptions_create();
	r->db = rocksdb_open(r->opts, r->path, &err);
	check(err, "open");
	return r;
}

static void rocks_insert(void *kv, const u64 *keys, unsigned nr)
{
	struct rocks *r = kv;
	rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
	char *err = NULL;
	u64 v[2];

	for (unsigned i = 0; i < nr; i++) {
		u64 be = __builtin_bswap64(keys[i]);

		kv_value(keys[i], v);
		rocksdb_writebatch_put(batch, (char *)&be, sizeof(be), (char *)v, sizeof(v));
	}
	rocksdb_write(r->db, r->wo, batch, &err);
	check(err, "write");
	rocksdb_writebatch_destroy(batch);
}

static void rocks_sync(void *kv)
{
	char *err = NULL;

	rocksdb_flush_wal(((struct rocks *)kv)->db, 1, &err);
	check(err, "flush_wal");
}

static void rocks_settle(void *kv)
{
	struct rocks *r = kv;
	rocksdb_flushoptions_t *fo = rocksdb_flushoptions_create();
	char *err = NULL;

	rocksdb_flushoptions_set_wait(fo, 1);
	rocksdb_flush(r->db, fo, &err);
	check(err, "flush");
	rocksdb_flushoptions_destroy(fo);
	rocksdb_compact_range(r->db, NULL, 0, NULL, 0);
}

static u64 rocks_bytes(void *kv)
{
	char *v = rocksdb_property_value(((struct rocks *)kv)->db, "rocksdb.total-sst-files-size");
	u64 n = v ? strtoull(v, NULL, 10) : 0;

	rocksdb_free(v);
	return n;
}

static void rocks_warm(void *kv)
{
	struct rocks *r = kv;
	rocksdb_iterator_t *it = rocksdb_create_iterator(r->db, r->ro);

	for (rocksdb_iter_seek_to_first(it); rocksdb_iter_valid(it); rocksdb_iter_next(it))
		;
	rocksdb_iter_destroy(it);
}

static u64 rocks_lookup(void *kv, const u64 *keys, unsigned nr)
{
	struct rocks *r = kv;
	u64 sum = 0, v;

	for (unsigned i = 0; i < nr; i++) {
		u64 be = __builtin_bswap64(keys[i]);
		char *err = NULL;
		rocksdb_pinnableslice_t *s =
			rocksdb_get_pinned(r->db, r->ro, (char *)&be, sizeof(be), &err);
		size_t len;

		check(err, "get");
		if (!s)
			bench_die("bench-kv: rocksdb: a key is missing");
		memcpy(&v, rocksdb_pinnableslice_value(s, &len), sizeof(v));
		sum += v;
		rocksdb_pinnableslice_destroy(s);
	}
	return sum;
}

static void rocks_close(void *kv)
{
	struct rocks *r = kv;
	char *err = NULL;

	rocksdb_close(r->db);
	rocksdb_destroy_db(r->opts, r->path, &err);
	free(err);
	rocksdb_writeoptions_destroy(r->wo);
	rocksdb_readoptions_destroy(r->ro);
	rocksdb_block_based_options_destroy(r->table);
	rocksdb_cache_destroy(r->cache);
	rocksdb_options_destroy(r->opts);
	free(r);
}

const struct kv_ops kv_rocksdb = {
	.name = "RocksDB",
	.options =
		"write-ahead log on, no compression, 128 MiB memtable, 2 background threads, bloom "
		"filters, block cache larger than the data; compacted before lookups; log synced "
		"at "
		"the end, or (durable) by each write",
	.open = rocks_open,
	.insert = rocks_insert,
	.sync = rocks_sync,
	.settle = rocks_settle,
	.bytes = rocks_bytes,
	.warm = rocks_warm,
	.lookup = rocks_lookup,
	.close = rocks_close,
};
