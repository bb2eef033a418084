/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* LMDB: native integer keys, the environment opened MDB_NOSYNC unless commits are durable. */
#include "kv.h"
#include "bench_util.h"

#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct lm {
	MDB_env *env;
	MDB_dbi dbi;
	char path[512];
};

static void check(int ret, const char *what)
{
	if (ret)
		bench_die("bench-kv: lmdb: %s: %s", what, mdb_strerror(ret));
}

static void *lm_open(const struct kv_params *p)
{
	struct lm *l = calloc(1, sizeof(*l));
	MDB_txn *txn;

	snprintf(l->path, sizeof(l->path), "%s/lmdb", p->dir);
	check(mdb_env_create(&l->env), "create");
	check(mdb_env_set_mapsize(l->env, (64 << 20) + p->nr_keys * 400), "mapsize");
	check(mdb_env_open(l->env, l->path,
			   MDB_NOSUBDIR | MDB_NORDAHEAD | (p->durable ? 0 : MDB_NOSYNC), 0600),
	      "open");
	check(mdb_txn_begin(l->env, NULL, 0, &txn), "begin");
	check(mdb_dbi_open(txn, NULL, MDB_CREATE | MDB_INTEGERKEY, &l->dbi), "dbi_open");
	check(mdb_txn_commit(txn), "commit");
	return l;
}

static void lm_insert(void *kv, const u64 *keys, unsigned nr)
{
	struct lm *l = kv;
	MDB_txn *txn;
	u64 v[2];

	check(mdb_txn_begin(l->env, NULL, 0, &txn), "begin");
	for (unsigned i = 0; i < nr; i++) {
		MDB_val key = {sizeof(u64), (void *)&keys[i]}, val = {sizeof(v), v};

		kv_value(keys[i], v);
		check(mdb_put(txn, l->dbi, &key, &val, 0), "put");
	}
	check(mdb_txn_commit(txn), "commit");
}

static void lm_sync(void *kv)
{
	check(mdb_env_sync(((struct lm *)kv)->env, 1), "sync");
}

static u64 lm_bytes(void *kv)
{
	struct stat st;

	if (stat(((struct lm *)kv)->path, &st))
		bench_die("bench-kv: lmdb: stat failed");
	return (u64)st.st_blocks * 512;
}

static void lm_warm(void *kv)
{
	struct lm *l = kv;
	MDB_txn *txn;
	MDB_cursor *cur;
	MDB_val k, v;

	check(mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn), "begin");
	check(mdb_cursor_open(txn, l->dbi, &cur), "cursor");
	while (!mdb_cursor_get(cur, &k, &v, MDB_NEXT))
		;
	mdb_cursor_close(cur);
	mdb_txn_abort(txn);
}

static u64 lm_lookup(void *kv, const u64 *keys, unsigned nr)
{
	struct lm *l = kv;
	MDB_txn *txn;
	u64 sum = 0, v;

	check(mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn), "begin");
	for (unsigned i = 0; i < nr; i++) {
		MDB_val key = {sizeof(u64), (void *)&keys[i]}, val;

		check(mdb_get(txn, l->dbi, &key, &val), "get");
		memcpy(&v, val.mv_data, sizeof(v));
		sum += v;
	}
	mdb_txn_abort(txn);
	return sum;
}

static void lm_close(void *kv)
{
	struct lm *l = kv;
	char lock[sizeof(l->path) + 8];

	mdb_env_close(l->env);
	snprintf(lock, sizeof(lock), "%s-lock", l->path);
	unlink(lock);
	unlink(l->path);
	free(l);
}

const struct kv_ops kv_lmdb = {
	.name = "LMDB",
	.options =
		"8-byte MDB_INTEGERKEY, MDB_NORDAHEAD, no MDB_WRITEMAP; one read transaction for "
		"all lookups; MDB_NOSYNC and one mdb_env_sync at the end, or (durable) neither",
	.open = lm_open,
	.insert = lm_insert,
	.sync = lm_sync,
	.settle = lm_sync,
	.bytes = lm_bytes,
	.warm = lm_warm,
	.lookup = lm_lookup,
	.close = lm_close,
};
