/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: transactions of several threads on the real environment and a real file neither lose nor
 * mix anything, while nodes split, merge, are evicted and read again and the journal wraps.
 * Method: each thread owns every fourth key of three btrees and checks them against its array;
 * all move amounts between shared accounts in two btrees and see their sum unchanged. Some
 * transactions need so many leaves that two of them do not fit the cache at once. A plain program,
 * to be run under ThreadSanitizer too.
 */
#include "btree_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NR_THREADS  4
#define KEYS	    1500 /* of each thread */
#define BATCH	    40	 /* keys of a large transaction */
#define ACCOUNTS    12
#define ACCOUNT_SUM (ACCOUNTS * 1000ULL)

#define CHECK(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s: ", __func__, __LINE__, #cond);                 \
			fprintf(stderr, __VA_ARGS__);                                              \
			fprintf(stderr, "\n");                                                     \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static const enum btree_id ids[] = {BTREE_ID_lru, BTREE_ID_quotas, BTREE_ID_logged_ops};

struct worker {
	struct fx *fx;
	unsigned idx, ops;
	u64 rng;
	u64 v[KEYS];
	struct env_thread *thread;
};

static u64 rnd(struct worker *w)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return w->rng * 0x2545f4914f6cdd1dULL >> 16;
}

static struct bpos key_pos(const struct worker *w, u32 i)
{
	return POS(1 + i % 5, ((u64)i * NR_THREADS + w->idx) * 3);
}
static enum btree_id key_id(u32 i)
{
	return ids[i / 7 % ARRAY_SIZE(ids)];
}

static int set_keys(struct btree_trans *trans, struct worker *w, const u32 *idx, const u64 *v,
		    unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		struct bkey_i *k =
			btree_trans_alloc_key(trans, v[i] ? KEY_TYPE_cookie : KEY_TYPE_deleted,
					      key_pos(w, idx[i]), v[i] ? 8 + v[i] % 200 : 0);
		if (v[i])
			memcpy(k->v, &v[i], 8);
		int ret = btree_trans_insert(trans, key_id(idx[i]), k, 0);
		if (ret)
			return ret;
	}
	return 0;
}

static void op_write(struct worker *w)
{
	unsigned nr = 1 + rnd(w) % (rnd(w) % 16 ? 3 : BATCH);
	u32 idx[BATCH];
	u64 v[BATCH];

	for (unsigned i = 0; i < nr; i++) {
		idx[i] = rnd(w) % KEYS;
		v[i] = rnd(w) % 100 < (w->ops / 1000 % 2 ? 70 : 20) ? 0 : rnd(w) | 1;
	}
	struct btree_trans *trans = btree_trans_get(w->fx->c);
	int ret = commit_do(trans, NULL, 0, set_keys(trans, w, idx, v, nr));

	btree_trans_put(trans);
	CHECK(!ret, "%s", err_str(ret));
	for (unsigned i = 0; i < nr; i++)
		w->v[idx[i]] = v[i];
}

static void op_check(struct worker *w, u32 i)
{
	u64 buf[64], v = 0;
	struct btree_trans *trans = btree_trans_get(w->fx->c);
	int ret = lockrestart_do(trans, btree_lookup(trans, key_id(i), key_pos(w, i), 0,
						     (struct bkey_i *)buf, ARRAY_SIZE(buf)));
	btree_trans_put(trans);
	if (!ret)
		v = ((struct bkey_i *)buf)->v[0];
	CHECK(ret == (w->v[i] ? 0 : -BCFS_ERR_btree_key_not_found) && v == w->v[i],
	      "thread %u key %u: %s, %llx", w->idx, i, err_str(ret), (unsigned long long)v);
}

/* Walk over everybody's keys; ours must all be there. */
static void op_walk(struct worker *w, enum btree_id id)
{
	struct btree_trans *trans = btree_trans_get(w->fx->c);
	u64 seen = 0, want = 0;

	for (u32 i = 0; i < KEYS; i++)
		want += w->v[i] && key_id(i) == id;
	int ret = for_each_btree_key (trans, iter, id, POS(1, 0), BTREE_ITER_PREFETCH, k, ({
					      u64 n = k.k->p.offset / 3;

					      seen += n % NR_THREADS == w->idx;
					      0;
				      }));
	btree_trans_put(trans);
	CHECK(!ret && seen == want, "%s: %llu of %llu keys", err_str(ret), (unsigned long long)seen,
	      (unsigned long long)want);
}

static enum btree_id account_id(u32 i)
{
	return i % 2 ? BTREE_ID_quotas : BTREE_ID_stripes;
}
static struct bpos account_pos(u32 i)
{
	return POS(0, i * 100);
}

static int account_add(struct btree_trans *trans, u32 i, s64 delta)
{
	struct btree_iter iter;

	btree_iter_init(trans, &iter, account_id(i), account_pos(i), BTREE_ITER_INTENT);
	struct bkey_s_c k = btree_iter_peek_slot(&iter);
	int ret = bkey_err(k);
	if (!ret) {
		struct bkey_i *n = btree_trans_alloc_key(trans, KEY_TYPE_cookie, account_pos(i), 8);

		n->v[0] = (k.k->type == KEY_TYPE_cookie ? *(const u64 *)k.v : 0) + delta;
		ret = btree_trans_update(trans, &iter, n, 0);
	}
	btree_iter_exit(&iter);
	return ret;
}

/* With a pause, the first time, in which nothing is held and the others go on. */
static int accounts_sum(struct btree_trans *trans, struct env *env, u64 *sum, u64 *pause_ns)
{
	struct btree_iter iter[ACCOUNTS];
	int ret = 0;
	u32 n = 0;

	*sum = 0;
	for (; n < ACCOUNTS && !ret; n++) {
		btree_iter_init(trans, &iter[n], account_id(n), account_pos(n), 0);
		struct bkey_s_c k = btree_iter_peek_slot(&iter[n]);

		ret = bkey_err(k);
		if (!ret && k.k->type == KEY_TYPE_cookie)
			*sum += *(const u64 *)k.v;
	}
	if (*pause_ns && !ret) {
		btree_trans_unlock(trans);
		env_sleep_ns(env, *pause_ns);
		*pause_ns = 0;
	}
	/* Still true, all of it at once? */
	ret = ret ?: btree_trans_relock(trans);
	while (n--)
		btree_iter_exit(&iter[n]);
	return ret;
}

static void op_accounts(struct worker *w)
{
	struct btree_trans *trans = btree_trans_get(w->fx->c);
	u32 from = rnd(w) % ACCOUNTS, to = rnd(w) % ACCOUNTS;
	s64 amount = rnd(w) % 10;
	u64 sum = 0, pause_ns = rnd(w) % 4 ? 0 : rnd(w) % 500000;
	int ret;

	if (rnd(w) % 4)
		ret = commit_do(trans, NULL, 0,
				account_add(trans, from, -amount)
					?: account_add(trans, to, amount));
	else
		ret = lockrestart_do(trans, accounts_sum(trans, w->fx->env, &sum, &pause_ns));
	btree_trans_put(trans);
	CHECK(!ret, "%s", err_str(ret));
	CHECK(!sum || sum == ACCOUNT_SUM, "sum %llu", (unsigned long long)sum);
}

static void worker_main(void *arg)
{
	struct worker *w = arg;

	for (; w->ops && !__atomic_load_n(&w->fx->error, __ATOMIC_RELAXED); w->ops--) {
		u64 what = rnd(w) % 1000;

		if (what < 600)
			op_write(w);
		else if (what < 800)
			op_check(w, rnd(w) % KEYS);
		else if (what < 995)
			op_accounts(w);
		else
			op_walk(w, ids[rnd(w) % ARRAY_SIZE(ids)]);
	}
}

static void check_all(struct worker *w)
{
	for (u32 i = 0; i < KEYS; i++)
		op_check(w, i);
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++)
		op_walk(w, ids[i]);
}

int main(void)
{
	char path[] = "/tmp/bcfs-btree-threads-XXXXXX", msg[BDEV_MSG_SIZE] = "";
	struct fx *fx = calloc(1, sizeof(*fx));
	struct worker *w = calloc(NR_THREADS, sizeof(*w));
	const char *s = getenv("BCFS_TEST_OPS");
	unsigned ops = s ? strtoul(s, NULL, 0) : 3000;
	u64 seed = fx_seed(1);
	struct btree_counters bc;
	struct btree_cache_stats cs;
	struct journal_counters jc;
	int fd = mkstemp(path), ret;

	if (fd < 0 || ftruncate(fd, 1LL << 30))
		return 77;
	CHECK(!env_real_create(&fx->env), "env");
	fx->g = fx_tiny;
	fx->p.clean = true;
	ret = bdev_open(fx->env, path, NULL, &fx->bdev, msg, sizeof(msg));
	unlink(path);
	CHECK(!ret, "%s", msg);
	ret = fx_open(fx);
	CHECK(!ret, "open: %s", err_str(ret));
	for (u32 i = 0; i < ACCOUNTS; i++) {
		ret = fx_set(fx, account_id(i), account_pos(i), 1000, NULL);
		CHECK(!ret, "%s", err_str(ret));
	}
	for (unsigned i = 0; i < NR_THREADS; i++) {
		w[i].fx = fx;
		w[i].idx = i;
		w[i].ops = ops;
		w[i].rng = seed * 77 + i + 88172645463325252ULL;
		CHECK(!env_thread_start(fx->env, &w[i].thread, "worker", worker_main, &w[i]),
		      "thread");
	}
	for (unsigned i = 0; i < NR_THREADS; i++)
		env_thread_join(w[i].thread);
	CHECK(!fx->error, "seed %llu: %s", (unsigned long long)seed, err_str(fx->error));
	for (unsigned i = 0; i < NR_THREADS; i++)
		check_all(&w[i]);
	btree_counters(fx->c, &bc);
	btree_cache_stats(fx->c, &cs);
	journal_counters(fx->j, &jc);
	fprintf(stderr,
		"splits %llu merges %llu appends %llu evictions %llu cannibalized %llu restarts "
		"%llu failed relocks %llu waits %llu reads %llu prefetches %llu wraps %llu cache "
		"%llu, at most %llu, "
		"of "
		"%llu\n",
		(unsigned long long)bc.splits, (unsigned long long)bc.merges,
		(unsigned long long)bc.node_writes_append, (unsigned long long)bc.evictions,
		(unsigned long long)bc.cannibalized, (unsigned long long)bc.restarts,
		(unsigned long long)bc.relock_fails, (unsigned long long)bc.lock_waits,
		(unsigned long long)bc.node_reads, (unsigned long long)bc.prefetches,
		(unsigned long long)jc.wraps, (unsigned long long)cs.bytes,
		(unsigned long long)cs.peak_bytes, (unsigned long long)cs.limit_bytes);
	CHECK(cs.bytes <= cs.limit_bytes, "the cache did not shrink");
	CHECK(ops < 1000 ||
		      (bc.splits && bc.merges && bc.evictions && bc.restarts && bc.relock_fails),
	      "not much happened");
	ret = fx_close(fx) ?: fx_open(fx);
	CHECK(!ret, "reopen: %s", err_str(ret));
	for (unsigned i = 0; i < NR_THREADS; i++)
		check_all(&w[i]);
	ret = fx_close(fx);
	CHECK(!ret, "close: %s", err_str(ret));
	bdev_close(fx->bdev);
	env_real_destroy(fx->env);
	close(fd);
	free(w);
	free(fx);
	return 0;
}
