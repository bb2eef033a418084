/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stores of keys and values behind one interface, for bench-kv: the btree and its
 * journal (kv_bcfs.c), LMDB and RocksDB. Keys are u64, values 16 bytes made from the
 * key. A failure of a store ends the program.
 */
#ifndef BCFS_BENCH_KV_H
#define BCFS_BENCH_KV_H

#include "util/types.h"

struct kv_params {
	const char *dir; /* exists; everything is made in it */
	u64 nr_keys;	 /* how many it is going to get */
	bool durable; /* each insert() is durable when it returns; else only sync() makes it so */
};

struct kv_ops {
	const char *name;
	const char *options; /* how it is set up, for the reader of the table */
	void *(*open)(const struct kv_params *p);
	/* One transaction. */
	void (*insert)(void *kv, const u64 *keys, unsigned nr);
	/* All inserted is durable. */
	void (*sync)(void *kv);
	/* All inserted is in its final place on the device; then bytes() is what it takes. */
	void (*settle)(void *kv);
	u64 (*bytes)(void *kv);
	/* Ready for lookups: cached, as after a fresh start where the store knows a difference. */
	void (*warm)(void *kv);
	/* Point lookups, each on its own: the sum of the values' first words. All keys exist. */
	u64 (*lookup)(void *kv, const u64 *keys, unsigned nr);
	void (*close)(void *kv); /* and remove all files */
};

extern const struct kv_ops kv_bcfs, kv_lmdb, kv_rocksdb;

#define KV_VALUE_BYTES 16

static inline void kv_value(u64 key, u64 v[2])
{
	v[0] = key * 0x9e3779b97f4a7c15ULL;
	v[1] = ~key;
}

/* Only of the store in kv_bcfs.c. */
struct kv_bcfs_stats {
	u64 keys_bytes;	   /* keys and values, unpacked, as inserted */
	u64 node_bytes;	   /* written to the device: nodes */
	u64 journal_bytes; /* written to the device: journal */
	u64 appends, rewrites, nodes;
	u64 journal_size_bytes;
};
void kv_bcfs_stats(void *kv, struct kv_bcfs_stats *ret);

#endif
