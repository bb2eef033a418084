// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * After the master key was replaced (sb_crypt_rotate()): a thread rewrites what older generations
 * have encrypted - data, btree nodes, the journal by going on, the clean section - while the
 * filesystem is in use, and then forgets their keys. It begins anew at each mount until it is done.
 */
#include "core/core.h"

#include "btree/btree.h"
#include "util/planted.h"

/* After a round that met what goes on beside it; after one that failed. */
#define REKEY_AGAIN_NS	   (10 * ENV_NSEC_PER_MSEC)
#define REKEY_AGAIN_MAX_NS (10 * ENV_NSEC_PER_SEC)
#define REKEY_RETRY_NS	   (10 * ENV_NSEC_PER_SEC)
#define REKEY_RETRY_MAX_NS (3600 * ENV_NSEC_PER_SEC)

static bool rekey_stopping(void *arg)
{
	struct core *c = arg;

	return atomic_load(&c->rekey_stop) || atomic_load(&c->fs.error);
}

static int rekey_btrees(struct core *c, u16 gen)
{
	int ret = 0;

	for (unsigned id = 0; !ret && id < BTREE_ID_NR; id++) {
		u64 nr;

		ret = btree_rekey(c->fs.btree, id, gen, rekey_stopping, c, &nr);
		atomic_fetch_add(&c->rekey_nodes, nr);
	}
	return ret;
}

/* The superblock's, which counts until the first flush entry of this mount does, and is read by
 * every recovery. */
static int rekey_clean(struct sb_handle *sb)
{
	const struct bcfs_sb_field_clean *f;
	u64 *entries = NULL, clean;
	u32 u64s = 0;
	int ret;

	sb_lock(sb);
	clean = sb->sb->flags[0] & BCFS_SB_FLAG_CLEAN;
	ret = sb_clean_read(sb, &entries, &u64s);
	f = (const void *)sb_field_get(sb->sb, BCFS_SB_FIELD_clean);
	if (!ret && f && !planted(clean_not_rekeyed)) {
		ret = sb_clean_set(sb, f->journal_seq, entries, u64s);
		sb->sb->flags[0] &= ~BCFS_SB_FLAG_CLEAN;
		sb->sb->flags[0] |= clean;
	}
	sb_unlock(sb);
	env_free(sb->env, entries);
	return ret;
}

/* Passes over the data until nothing is left for another one to find. */
static int rekey_data(struct core *c, u16 gen)
{
	struct data_rekeyed r;
	int ret;

	do {
		ret = data_rekey(c->fs.data, gen, rekey_stopping, c, &r);
		atomic_fetch_add(&c->rekey_sectors, r.moved);
		atomic_store(&c->rekey_left, r.left);
		if (ret || rekey_stopping(c))
			return ret;
		if (r.left)
			return -BCFS_ERR_rekey_left;
	} while (r.found || data_rekey_missed(c->fs.data));
	return 0;
}

/* One round over everything. 0: nothing is left, or it was stopped. */
static int rekey_round(struct core *c, u16 gen)
{
	struct journal *j = c->fs.journal;
	u64 seq;
	/* Entries from here on are encrypted with the newest key. */
	int ret = journal_flush(j);

	seq = journal_cur_seq(j);
	ret = ret ?: rekey_data(c, gen);
	if (ret || rekey_stopping(c))
		return ret;
	ret = rekey_btrees(c, gen) ?: journal_flush_pins(j, seq) ?: journal_flush(j)
		      ?: journal_flush_past(j, seq);
	if (ret || rekey_stopping(c))
		return ret;
	if (data_rekey_missed(c->fs.data) || journal_last_seq_ondisk(j) < seq)
		return -BCFS_ERR_rekey_again;
	ret = rekey_clean(c->fs.sb) ?: sb_crypt_forget(c->fs.sb, gen);
	if (!ret)
		log_info(&c->log,
			 "%s: everything is encrypted with the new key; older ones are gone",
			 c->fs.bdev->name);
	return ret;
}

static void rekey_failed(struct core *c, struct ratelimit *limit, int ret)
{
	if (ret == -BCFS_ERR_rekey_left)
		log_err_ratelimited(&c->log, limit,
				    "%s: %llu sectors of data cannot be encrypted with the new key "
				    "now; the old keys stay",
				    c->fs.bdev->name, (unsigned long long)c->rekey_left);
	else if (ret != -BCFS_ERR_rekey_again && !rekey_stopping(c))
		log_err_ratelimited(&c->log, limit, "%s: encrypting with the new key: %s",
				    c->fs.bdev->name, err_str(ret));
}

static void rekey_thread(void *arg)
{
	struct core *c = arg;
	struct ratelimit limit = RATELIMIT_DEFAULT;
	u64 retry = REKEY_RETRY_NS, again = REKEY_AGAIN_NS, wait;
	u16 oldest, gen;

	for (;;) {
		sb_lock(c->fs.sb);
		gen = sb_crypt_gen(c->fs.sb->sb);
		oldest = sb_crypt_gen_oldest(c->fs.sb->sb);
		sb_unlock(c->fs.sb);
		if (oldest == gen || rekey_stopping(c))
			break;

		int ret = rekey_round(c, gen);

		if (!ret)
			continue;
		rekey_failed(c, &limit, ret);
		/* A pass reads everything, and what is broken stays so for long. */
		if (ret == -BCFS_ERR_rekey_again) {
			wait = again;
			again = min(again * 2, REKEY_AGAIN_MAX_NS);
		} else {
			wait = retry;
			retry = min(retry * 2, REKEY_RETRY_MAX_NS);
		}
		env_mutex_lock(&c->rekey_lock);
		if (!rekey_stopping(c))
			env_cond_timedwait(&c->rekey_cond, &c->rekey_lock, wait);
		env_mutex_unlock(&c->rekey_lock);
	}
}

int core_rekey_start(struct core *c)
{
	struct sb_handle *sb = c->fs.sb;
	bool needed;

	if (c->rekey || !sb->keys)
		return 0;
	sb_lock(sb);
	needed = sb_crypt_gen_oldest(sb->sb) != sb_crypt_gen(sb->sb);
	sb_unlock(sb);
	return needed ? env_thread_start(c->fs.env, &c->rekey, "bcfs-rekey", rekey_thread, c) : 0;
}

void core_rekey_stop(struct core *c)
{
	if (!c->rekey)
		return;
	env_mutex_lock(&c->rekey_lock);
	atomic_store(&c->rekey_stop, true);
	env_cond_broadcast(&c->rekey_cond);
	env_mutex_unlock(&c->rekey_lock);
	env_thread_join(c->rekey);
	c->rekey = NULL;
}

/* ---- on demand ---- */

static int rotate(struct core *c, const struct crypt_secret *s, unsigned nr, bool drop_others)
{
	int ret = fs_may_write(&c->fs);

	if (ret)
		return ret;
	env_mutex_lock(&c->keys_lock);
	core_rekey_stop(c);
	atomic_store(&c->rekey_stop, false);
	ret = sb_crypt_rotate(c->fs.sb, s, nr, drop_others);
	if (!c->opts.no_background) {
		int err = core_rekey_start(c);

		/* The key is another one already; the next mount does the rest. */
		if (err)
			log_err(&c->log, "%s: encrypting with the new key: %s", c->fs.bdev->name,
				err_str(err));
	}
	env_mutex_unlock(&c->keys_lock);
	return ret;
}

int bcfs_key_rotate(struct bcfs *fs, const struct bcfs_secret *secrets, uint32_t nr,
		    int drop_others)
{
	struct crypt_secret s[BCFS_KEY_SECRETS_MAX];
	int ret = nr && nr <= ARRAY_SIZE(s) ? 0 : -BCFS_ERR_invalid_option;

	for (u32 i = 0; !ret && i < nr; i++)
		ret = core_secret_from("", &secrets[i], &s[i], NULL, 0);
	return ret ?: rotate(to_core(fs), s, nr, drop_others);
}

uint32_t bcfs_key_generations(const struct bcfs *fs)
{
	const struct bcfs_sb_field_crypt *f;
	u32 ret;

	sb_lock(fs->sb);
	f = (const void *)sb_field_get(fs->sb->sb, BCFS_SB_FIELD_crypt);
	ret = f ? f->nr_old + 1U : 0;
	sb_unlock(fs->sb);
	return ret;
}
