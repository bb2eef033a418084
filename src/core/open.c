// SPDX-License-Identifier: LGPL-2.1-or-later
/* Opening and closing. */
#include "core/core.h"

#include "btree/btree.h"
#include "dev/overlay_bdev.h"
#include "dev/write_log.h"
#include "util/planted.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void core_msg(char *msg, size_t size, const char *fmt, ...)
{
	va_list args;

	if (!msg || !size)
		return;
	va_start(args, fmt);
	vsnprintf(msg, size, fmt, args);
	va_end(args);
}

/* ---- logging: to the caller; while opening the newest error also becomes the message ---- */

static void core_log_line(void *arg, enum log_level level, const char *line)
{
	static const enum bcfs_log_level map[] = {
		[LOG_LEVEL_ERR] = BCFS_LOG_ERR,
		[LOG_LEVEL_WARN] = BCFS_LOG_WARNING,
		[LOG_LEVEL_INFO] = BCFS_LOG_INFO,
		[LOG_LEVEL_DEBUG] = BCFS_LOG_DEBUG,
	};
	struct core *c = arg;

	if (c->opening && level == LOG_LEVEL_ERR) {
		/* The first is the cause, the others follow from it. */
		env_mutex_lock(&c->last_err_lock);
		if (!c->last_err[0])
			snprintf(c->last_err, sizeof(c->last_err), "%s", line);
		env_mutex_unlock(&c->last_err_lock);
		return;
	}
	if (c->user_log)
		c->user_log(c->user_log_arg, map[level], line);
}

bool core_last_err(struct core *c, char msg[static CORE_MSG_SIZE])
{
	env_mutex_lock(&c->last_err_lock);
	memcpy(msg, c->last_err, CORE_MSG_SIZE);
	env_mutex_unlock(&c->last_err_lock);
	return msg[0];
}

static u64 core_log_now(void *arg)
{
	return env_mono_ns(((struct core *)arg)->fs.env);
}

/* ---- what the layers call back ---- */

/* Metadata is damaged or the device failed: the errors= policy. */
static void core_went_wrong(struct core *c, int err)
{
	if (c->opts.for_check || c->on_error == BCFS_ON_ERROR_CONTINUE)
		return;
	if (c->on_error == BCFS_ON_ERROR_PANIC) {
		char line[CORE_MSG_SIZE];

		/* What an opening has kept for its last word would be lost. */
		if (atomic_exchange(&c->opening, false) && core_last_err(c, line))
			log_err(&c->log, "%s", line);
		log_err(&c->log, "%s: errors=panic: %s", c->fs.bdev->name, err_str(err));
		abort();
	}
	if (c->fs.alloc)
		alloc_gc_stop(c->fs.alloc);
	if (!atomic_exchange(&c->fs.error, err) && !c->opening)
		log_err(&c->log, "%s: read-only from now on (%s); unmount and run fsck.bcfs",
			c->fs.bdev->name, err_str(err));
}

/* For the device's counts in the superblock. */
static void core_count_error(struct core *c, int err)
{
	unsigned kind = err == -BCFS_ERR_dev_read ? 0 : err == -BCFS_ERR_dev_write ? 1 : 2;

	atomic_fetch_add_explicit(&c->errors[kind], 1, memory_order_relaxed);
}

static void core_btree_error(void *arg, int err, const char *msg)
{
	core_count_error(arg, err);
	core_went_wrong(arg, err);
}

static void core_journal_error(void *arg, int err)
{
	struct core *c = arg;

	atomic_store(&c->fs.error, err);
	log_err(&c->log, "%s: the journal cannot be written (%s): read-only from now on",
		c->fs.bdev->name, err_str(err));
}

/* data/ has logged it, with its place. */
static void core_data_error(void *arg, int err, u32 snapshot, u64 inum, u64 offset, u64 len)
{
	core_count_error(arg, err);
	core_error_note(arg, err, snapshot, inum, offset, len);
}

static int core_flush_pins(void *arg, struct journal_entry_pin **pins, unsigned nr, u64 seq)
{
	return btree_flush_pins(((struct core *)arg)->fs.btree, pins, nr, seq);
}

static bool core_is_ancestor(void *arg, u32 id, u32 ancestor)
{
	return snapshot_is_ancestor(((struct core *)arg)->fs.snapshots, id, ancestor);
}

/* No thread that writes data runs before there is data/. */
static int core_pre_flush(void *arg, u64 seq)
{
	struct core *c = arg;

	return c->fs.data ? data_gather_flush(c->fs.data, seq) : 0;
}

static const struct journal_ops core_journal_ops = {
	.flush_pins = core_flush_pins,
	.error = core_journal_error,
	.pre_flush = core_pre_flush,
};
static const struct btree_snapshot_ops core_snapshot_ops = {.is_ancestor = core_is_ancestor};

/* ---- the layers' objects ---- */

struct core *core_new(struct env *env, bcfs_log_fn log, void *log_arg, const struct core_opts *o)
{
	struct core *c = env_zalloc(env, sizeof(*c));

	if (!c)
		return NULL;
	c->opts = *o;
	c->fs.env = env;
	c->fs.core = c;
	c->fs.log = &c->log;
	c->user_log = log;
	c->user_log_arg = log_arg;
	c->log = (struct log){.fn = core_log_line,
			      .arg = c,
			      .max = LOG_LEVEL_DEBUG,
			      .now_ns = core_log_now,
			      .now_arg = c};
	env_mutex_init(&c->last_err_lock, env);
	env_mutex_init(&c->rekey_lock, env);
	env_mutex_init(&c->keys_lock, env);
	env_cond_init(&c->rekey_cond, env);
	c->opening = true;
	core_fill_key_ops(&c->key_ops);
	return c;
}

/* A quarter of the memory, within reason, when nobody says. */
static u64 default_cache_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	u64 bytes = pages > 0 && size > 0 ? (u64)pages * size / 8 : 256ULL << 20;

	bytes = max(bytes, 64ULL << 20);
	return min(bytes, 1ULL << 30);
}

static unsigned meta_csum(const struct core *c, const struct bcfs_sb *sb)
{
	return c->opts.meta_csum_given ? c->opts.meta_csum : sb_opt_get(sb, SB_OPT_meta_csum);
}

static int alloc_journal(struct core *c, const struct bcfs_sb *sb, const struct bcfs_member *m)
{
	struct journal_opts jo = {
		.block_bytes = sb->block_sectors * SECTOR_SIZE,
		.bucket_sectors = m->bucket_sectors,
		.magic = BCFS_JSET_MAGIC ^ sb_magic(sb),
		.uuid = sb->uuid,
		.csum_type = meta_csum(c, sb),
		.keys = c->fs.sb->keys,
		.flush_delay_ms = c->opts.journal_flush_delay_ms,
		.ops = &core_journal_ops,
		.arg = c,
	};
	int ret = journal_alloc(c->fs.env, c->fs.bdev, &c->log, &jo, &c->fs.journal);

	if (ret)
		return ret;
	c->nr_journal_buckets = sb_journal_nr_buckets(sb);
	c->journal_buckets =
		env_malloc(c->fs.env, max(c->nr_journal_buckets, 1U) * sizeof(*c->journal_buckets));
	if (!c->journal_buckets)
		return -BCFS_ERR_nomem;
	for (unsigned i = 0; i < c->nr_journal_buckets; i++)
		c->journal_buckets[i] = sb_journal_bucket(sb, i);
	return journal_set_buckets(c->fs.journal, c->journal_buckets, c->nr_journal_buckets);
}

static int alloc_btree(struct core *c, const struct bcfs_sb *sb)
{
	struct btree_fs_opts bo = {
		.block_bytes = sb->block_sectors * SECTOR_SIZE,
		.node_bytes = sb->btree_node_sectors * SECTOR_SIZE,
		.cache_bytes = c->opts.cache_bytes ?: default_cache_bytes(),
		.magic = BCFS_BTREE_MAGIC ^ sb_magic(sb),
		.uuid = sb->uuid,
		.csum_type = meta_csum(c, sb),
		.keys = c->fs.sb->keys,
		.ops = &c->key_ops,
		.space = &alloc_btree_space_ops,
		.snapshots = &core_snapshot_ops,
		.arg = &c->fs,
		.accounted = alloc_btree_accounted,
		.error = core_btree_error,
	};
	return btree_fs_alloc(c->fs.env, c->fs.bdev, &c->log, c->fs.journal, &bo, &c->fs.btree);
}

int core_alloc_layers(struct core *c)
{
	const struct bcfs_sb *sb = c->fs.sb->sb;
	struct bcfs_member m = sb_member_get(sb, 0);
	struct alloc_opts ao = {
		.block_sectors = sb->block_sectors,
		.bucket_sectors = m.bucket_sectors,
		.node_sectors = sb->btree_node_sectors,
		.nr_buckets = m.nr_buckets,
		.first_bucket = m.first_bucket,
		.discard = c->opts.discard == BCFS_DEFAULT ? !!(sb->flags[0] & BCFS_SB_FLAG_DISCARD)
							   : c->opts.discard == BCFS_ON,
	};
	struct data_opts dopt = {
		.block_bytes = sb->block_sectors * SECTOR_SIZE,
		.extent_max_sectors = sb_opt_get(sb, SB_OPT_extent_max),
		.inline_max_bytes = min((u32)sb_opt_get(sb, SB_OPT_inline_max),
					data_inline_limit(sb->block_sectors * SECTOR_SIZE,
							  sb->btree_node_sectors * SECTOR_SIZE)),
		.csum_type = c->opts.data_csum_given ? c->opts.data_csum
						     : sb_opt_get(sb, SB_OPT_data_csum),
		.keys = c->fs.sb->keys,
		.uuid = sb->uuid,
		.chunk_shift = sb_opt_get(sb, SB_OPT_chunk_shift),
		.error = core_data_error,
		.path = core_error_path,
		.arg = c,
	};
	int ret = alloc_journal(c, sb, &m) ?:
		  alloc_fs_alloc(c->fs.env, c->fs.bdev, &c->log, &ao, &c->fs.alloc) ?:
		  alloc_btree(c, sb);

	if (ret)
		return ret;
	alloc_fs_attach(c->fs.alloc, c->fs.btree, c->fs.journal);
	c->fs.fs_opts = (struct fs_opts){
		.block_bytes = sb->block_sectors * SECTOR_SIZE,
		.read_only = c->opts.read_only,
		.noatime = c->opts.noatime || c->opts.read_only,
		.strictatime = c->opts.strictatime,
		.nodiratime = c->opts.nodiratime,
		.inodes_32bit = c->opts.inodes_32bit,
		.compression = c->opts.compression_given ? c->opts.compression : sb_compression(sb),
		.background_compression = c->opts.background_compression_given
						  ? c->opts.background_compression
						  : sb_background_compression(sb),
	};
	u8 errors = sb_opt_get(sb, SB_OPT_errors);
	c->on_error = c->opts.on_error;
	if (c->on_error == BCFS_ON_ERROR_DEFAULT)
		c->on_error = BCFS_ON_ERROR_RO + errors;
	return alloc_set_journal_buckets(c->fs.alloc, c->journal_buckets, c->nr_journal_buckets) ?:
	       snapshots_alloc(c->fs.env, &c->fs.snapshots) ?:
	       data_fs_alloc(c->fs.env, c->fs.bdev, &c->log, c->fs.btree, c->fs.alloc, &dopt,
			     &c->fs.data) ?:
	       fs_init(&c->fs);
}

void core_free_layers(struct core *c)
{
	struct env *env = c->fs.env;

	if (c->fs.ino)
		fs_exit(&c->fs);
	data_fs_free(c->fs.data);
	btree_fs_free(c->fs.btree);
	alloc_fs_free(c->fs.alloc);
	snapshots_free(c->fs.snapshots);
	journal_free(c->fs.journal);
	sb_free(c->fs.sb);
	env_free(env, c->bl);
	env_free(env, c->journal_buckets);
	if (c->fs.bdev && c->fs.bdev != c->real_bdev)
		bdev_close(c->fs.bdev);
	env_cond_destroy(&c->rekey_cond);
	env_mutex_destroy(&c->keys_lock);
	env_mutex_destroy(&c->rekey_lock);
	env_mutex_destroy(&c->last_err_lock);
	env_free(env, c);
}

/* After recovery: everything above the btrees. */
int core_start_layers(struct core *c)
{
	/* Who only reads has nothing to discard; a check recounts what the thread leaves. */
	if (!c->opts.no_background) {
		int ret = alloc_fs_start_threads(c->fs.alloc);

		if (ret)
			return ret;
		c->threads_started = true;
		if (!c->opts.read_only)
			ret = data_gc_start(c->fs.data) ?: data_rebalance_start(c->fs.data);
		if (!ret && !c->opts.read_only && !c->opts.no_gather)
			ret = data_gather_start(c->fs.data);
		if (ret)
			return ret;
	}
	return snapshots_read(c->fs.snapshots, c->fs.btree, &c->log);
}

/* Why all was stopped says more than that it was. */
int core_cause(const struct core *c, int err)
{
	int j = c->fs.journal ? journal_error(c->fs.journal) : 0;

	if (err && c->fs.error)
		return c->fs.error;
	return err == -BCFS_ERR_journal_shutdown && j ? j : err;
}

void core_abort(struct core *c)
{
	if (c->fs.btree)
		btree_fs_halt(c->fs.btree);
	if (c->fs.journal) {
		journal_halt(c->fs.journal);
		/* Ends its threads, which may be writing nodes: before the btree is freed. */
		journal_stop(c->fs.journal, NULL, NULL);
	}
	atomic_store(&c->fs.error, -BCFS_ERR_btree_halted);
	core_rekey_stop(c);
	if (c->fs.data) {
		data_rebalance_stop(c->fs.data);
		data_gc_stop(c->fs.data);
		data_gather_stop(c->fs.data);
	}
	if (c->fs.alloc && c->threads_started)
		alloc_fs_stop(c->fs.alloc);
	core_free_layers(c);
}

/* What to do about it; "" when that depends. */
static void advice(const struct core *c, int err, char *ret, size_t size)
{
	const char *name = c->real_bdev->name;

	/* A long path is not said twice. */
	if (strlen(name) > CORE_MSG_SIZE / 4)
		name = "on it";
	*ret = 0;
	switch (-err) {
	case BCFS_ERR_nomem:
		snprintf(ret, size, ": free some memory, or give less to the cache (-o cache=)");
		break;
	case BCFS_ERR_thread_start:
		snprintf(ret, size, ": raise the limit of processes");
		break;
	case BCFS_ERR_journal_full:
		snprintf(ret, size, ": -o ro,norecovery shows the state of the last clean unmount");
		break;
	case BCFS_ERR_dev_read:
	case BCFS_ERR_dev_write:
	case BCFS_ERR_dev_flush:
		snprintf(ret, size, ": check the device, then run fsck.bcfs %s", name);
		break;
	default:
		if (err_is_damage(err) && !c->opts.for_check)
			snprintf(ret, size, ": run fsck.bcfs %s", name);
	}
}

/* The one line that a failed opening ends with: the device, what is wrong where, what to do. */
static void say_failed(struct core *c, int err, char *msg, size_t msg_size)
{
	const char *name = c->real_bdev->name;
	char line[CORE_MSG_SIZE], what[CORE_MSG_SIZE / 2] = "";

	if (c->doing)
		advice(c, err, what, sizeof(what));
	/* What else was met while something was lacking may come of that. */
	if (err == -BCFS_ERR_nomem || err == -BCFS_ERR_thread_start || !core_last_err(c, line))
		snprintf(line, sizeof(line), "%s: %s", c->doing ?: "cannot be opened",
			 err_str(err));
	if (strncmp(line, name, strlen(name)))
		core_msg(msg, msg_size, "%s: %s%s", name, line, what);
	else
		core_msg(msg, msg_size, "%s%s", line, what);
}

int core_read_sb(struct core *c, struct env *env)
{
	int err = sb_read(env, c->fs.bdev, &c->log, &c->fs.sb);

	if (err)
		return err;
	if (sb_has_encryption(c->fs.sb->sb) &&
	    (c->opts.meta_csum_given || c->opts.data_csum_given)) {
		log_err(&c->log,
			"%s: what is encrypted is authenticated with that: no checksums can be "
			"chosen",
			c->fs.bdev->name);
		return -BCFS_ERR_invalid_option;
	}
	if (c->opts.keys)
		return sb_crypt_open_ring(c->fs.sb, c->opts.keys);
	if (c->opts.secret.p)
		return sb_crypt_open(c->fs.sb, &c->opts.secret, NULL);
	if (!sb_has_encryption(c->fs.sb->sb))
		return 0;
	log_err(&c->log, "%s: is encrypted: a passphrase or key file is needed", c->fs.bdev->name);
	return -BCFS_ERR_sb_crypt_locked;
}

int core_open_on(struct env *env, struct bdev *bdev, const struct core_opts *opts, bcfs_log_fn log,
		 void *log_arg, struct core **ret, char *msg, size_t msg_size)
{
	struct core *c = core_new(env, log, log_arg, opts);
	int err;

	if (!c) {
		core_msg(msg, msg_size, "%s: out of memory", bdev->name);
		return -BCFS_ERR_nomem;
	}
	c->real_bdev = c->fs.bdev = bdev;
	err = opts->read_only && !planted(read_only_writes)
		      ? overlay_bdev_create(env, bdev, &c->fs.bdev)
		      : 0;
	if (!err)
		err = core_read_sb(c, env);
	if (!err) {
		c->sb_seq = c->fs.sb->sb->seq;
		c->sb_copies_valid = c->fs.sb->copies_valid;
	}
	if (!err && c->fs.sb->read_only && !opts->read_only) {
		log_err(&c->log,
			"%s: has features that this program can only read: mount it "
			"read-only (-o ro)",
			bdev->name);
		err = -BCFS_ERR_core_ro_features;
	}
	if (!err)
		c->doing = "cannot be opened";
	err = err ?: core_alloc_layers(c) ?: core_recover(c);
	if (!err)
		c->doing = "reading the snapshots";
	err = err ?: core_start_layers(c);
	if (!err)
		c->doing = "finishing what a crash interrupted";
	/* Unfinished business of a crash. */
	if (!err && !opts->read_only)
		err = core_recovery_settle(c) ?: logged_ops_resume(&c->fs);
	if (!err && !opts->read_only && !planted(orphans_not_reaped))
		err = deleted_inodes_reap_all(&c->fs);
	if (!err && c->fs.error && !opts->for_check && !c->journal_damage[0])
		err = c->fs.error;
	if (!err && !opts->read_only && !c->opts.no_background)
		err = core_rekey_start(c);
	if (err) {
		err = core_cause(c, err);
		say_failed(c, err, msg, msg_size);
		core_abort(c);
		return err;
	}
	c->opening = false;
	c->opts.secret = (struct crypt_secret){0};
	c->opts.keys = NULL;
	if (c->fs.sb->sb->flags[0] & BCFS_SB_FLAG_ERROR)
		log_warn(&c->log, "%s: errors were met at an earlier mount: run fsck.bcfs",
			 bdev->name);
	*ret = c;
	return 0;
}

/* Of what gathered, at the end: each waits a little for what failed to be moved elsewhere. */
#define GATHER_LAST_TRIES 100U

/*
 * Nodes that found no place on a full device: the journal has all that they lack, durably. Only a
 * new filesystem is worth nothing without them.
 */
static bool left_to_replay(struct core *c, int err)
{
	if (err != -BCFS_ERR_nospc || c->fs.error || c->making)
		return false;
	log_warn(&c->log, "%s: full: what found no place is in the journal; the next mount has it",
		 c->fs.bdev->name);
	return true;
}

int core_close(struct core *c)
{
	struct journal_carried *carried = &c->carried;
	u64 seq = 0;
	int ret;

	if (c->opts.read_only) {
		core_abort(c);
		return 0;
	}
	ret = fs_stop(&c->fs);
	core_rekey_stop(c);
	data_rebalance_stop(c->fs.data);
	data_gc_stop(c->fs.data);
	/*
	 * What gathered, while it can still go elsewhere. Without an entry of the journal: on a
	 * full device one more may be one too many.
	 */
	for (unsigned i = 0; i < GATHER_LAST_TRIES && !c->fs.error; i++)
		if (data_gather_flush(c->fs.data, UINT64_MAX) != -BCFS_ERR_journal_flush_later)
			break;
	/* Merges and splits end first: what they write afterwards finds nobody who frees a place.
	 */
	btree_fs_stop(c->fs.btree);
	alloc_fs_stop(c->fs.alloc);
	int err = core_cause(c, journal_stop(c->fs.journal, carried, &seq));
	bool to_replay = left_to_replay(c, err);
	if (to_replay)
		err = 0;
	ret = err ?: ret;
	int rec = core_record_errors(c);
	ret = ret ?: rec;
	if (!err && !c->fs.error && !to_replay) {
		err = core_mark_clean(c, carried, seq);
		ret = err ?: ret;
	} else if (!ret) {
		ret = c->fs.error;
	}
	data_gather_stop(c->fs.data);
	if (err)
		log_err(&c->log, "%s: not everything could be written: %s", c->fs.bdev->name,
			err_str(err));
	core_free_layers(c);
	return ret;
}

/* ---- by path ---- */

struct wait_log {
	bcfs_log_fn fn;
	void *arg;
};

static void on_wait(void *ctx, const char *line)
{
	struct wait_log *w = ctx;

	if (w->fn)
		w->fn(w->arg, BCFS_LOG_NOTICE, line);
}

int core_open_device(const char *path, bool read_only, enum device_use use, u8 io, u8 direct,
		     u32 wait_lock_ms, u32 nr_threads, bcfs_log_fn log, void *log_arg,
		     struct env **ret_env, struct bdev **ret, char *msg, size_t msg_size)
{
	struct wait_log w = {log, log_arg};
	struct bdev_opts bo = {
		.read_only = read_only,
		.unlocked = use == DEVICE_LOOK,
		.unmounted = use == DEVICE_MOUNT,
		.engine = io == BCFS_IO_URING	  ? BDEV_ENGINE_URING
			  : io == BCFS_IO_THREADS ? BDEV_ENGINE_THREADS
						  : BDEV_ENGINE_AUTO,
		.direct = direct == BCFS_OFF ? BDEV_DIRECT_OFF : BDEV_DIRECT_AUTO,
		.nr_threads = nr_threads,
		.wait_lock_ms = wait_lock_ms,
		.on_wait = on_wait,
		.on_wait_ctx = &w,
	};
	int err = env_real_create(ret_env);

	if (err) {
		core_msg(msg, msg_size, "%s: %s", path, err_str(err));
		return err;
	}
	err = bdev_open(*ret_env, path, &bo, ret, msg, msg_size);
	if (err)
		env_real_destroy(*ret_env);
	return err;
}

static int arm_fault_points(struct env *env, const char *spec, char *msg, size_t msg_size)
{
	int err = 0;

	if (!spec)
		return 0;
#ifdef BCFS_FAULT_POINTS
	err = env_inject_parse(env, spec);
	if (err)
		core_msg(msg, msg_size, "inject=%s: not \"name:nth\" or the like", spec);
#else
	core_msg(msg, msg_size, "inject=%s: built without fault points", spec);
	err = -BCFS_ERR_invalid_option;
#endif
	return err;
}

/* All writes to the device into a file. On failure the device is closed. */
static int log_writes(struct bdev **bdev, const struct bcfs_open_opts *o, char *msg,
		      size_t msg_size)
{
	int err;

	if (!o->write_log)
		return 0;
#ifdef BCFS_FAULT_POINTS
	err = write_log_bdev_create(*bdev, o->write_log, bdev);
	if (err)
		core_msg(msg, msg_size, "write-log=%s: %s", o->write_log, err_str(err));
#else
	core_msg(msg, msg_size, "write-log=%s: built without fault points", o->write_log);
	bdev_close(*bdev);
	err = -BCFS_ERR_invalid_option;
#endif
	return err;
}

struct core_opts core_opts_from(const struct bcfs_open_opts *o)
{
	return (struct core_opts){
		.read_only = o->read_only,
		.norecovery = o->norecovery && o->read_only,
		.on_error = o->on_error,
		.discard = o->discard,
		.noatime = o->noatime,
		.inodes_32bit = o->inodes_32bit,
		.no_background = o->read_only,
		.cache_bytes = o->cache_bytes,
		.journal_flush_delay_ms = o->journal_flush_delay_ms,
		.strictatime = o->strictatime,
		.nodiratime = o->nodiratime,
	};
}

int core_secret_from(const char *name, const struct bcfs_secret *s, struct crypt_secret *ret,
		     char *msg, size_t msg_size)
{
	*ret = (struct crypt_secret){0};
	if (!s)
		return 0;
	if (!s->p || (s->type != BCFS_SECRET_PASSPHRASE && s->type != BCFS_SECRET_KEY_FILE)) {
		core_msg(msg, msg_size, "%s: a secret is a passphrase or a key file", name);
		return -BCFS_ERR_invalid_option;
	}
	*ret = (struct crypt_secret){
		.type = s->type == BCFS_SECRET_PASSPHRASE ? BCFS_CRYPT_SLOT_passphrase
							  : BCFS_CRYPT_SLOT_key_file,
		.p = s->p,
		.len = s->len,
	};
	return 0;
}

int core_choices_from(const char *name, const struct bcfs_open_opts *o, struct core_opts *ret,
		      char *msg, size_t msg_size)
{
	int err = core_csums(name, o->metadata_csum, o->data_csum, &ret->meta_csum, &ret->data_csum,
			     msg, msg_size);

	ret->meta_csum_given = o->metadata_csum;
	ret->data_csum_given = o->data_csum;
	if (!err && o->compression) {
		ret->compression_given = true;
		err = core_compression(name, o->compression, &ret->compression, msg, msg_size);
	}
	if (!err && o->background_compression) {
		ret->background_compression_given = true;
		err = core_compression(name, o->background_compression,
				       &ret->background_compression, msg, msg_size);
	}
	return err;
}

int bcfs_open(const char *path, const struct bcfs_open_opts *opts, struct bcfs **ret, char *msg,
	      size_t msg_size)
{
	struct bcfs_open_opts o = {0};
	struct env *env;
	struct bdev *bdev;
	struct core *c;

	if (opts)
		memcpy(&o, opts, min(opts->struct_size, sizeof(o)));
	struct core_opts co = core_opts_from(&o);
	int err = core_choices_from(path, &o, &co, msg, msg_size)
			  ?: core_secret_from(path, o.secret, &co.secret, msg, msg_size);

	if (err)
		return err;
	err = core_open_device(path, o.read_only, DEVICE_MOUNT, o.io, o.direct, o.wait_lock_ms,
			       o.nr_threads, o.log, o.log_arg, &env, &bdev, msg, msg_size);
	if (err)
		return err;
	err = log_writes(&bdev, &o, msg, msg_size);
	if (err) {
		env_real_destroy(env);
		return err;
	}
	err = arm_fault_points(env, o.inject, msg, msg_size);
	if (!err)
		err = core_open_on(env, bdev, &co, o.log, o.log_arg, &c, msg, msg_size);
	if (err) {
		bdev_close(bdev);
		env_real_destroy(env);
		return err;
	}
	c->owns_env = true;
	*ret = &c->fs;
	return 0;
}

static void close_device(struct env *env, struct bdev *bdev)
{
	bdev_close(bdev);
	env_real_destroy(env);
}

int bcfs_close(struct bcfs *fs)
{
	struct core *c = to_core(fs);
	struct env *env = fs->env;
	struct bdev *bdev = c->real_bdev;
	bool owns = c->owns_env;
	int ret = core_close(c);

	if (owns)
		close_device(env, bdev);
	return ret;
}

void bcfs_abort(struct bcfs *fs)
{
	struct core *c = to_core(fs);
	struct env *env = fs->env;
	struct bdev *bdev = c->real_bdev;
	bool owns = c->owns_env;

	core_abort(c);
	if (owns)
		close_device(env, bdev);
}

int bcfs_shutdown(struct bcfs *fs, enum bcfs_shutdown_mode mode)
{
	int none = 0, ret = 0;

	if (mode > BCFS_SHUTDOWN_NOW)
		return -BCFS_ERR_setattr_invalid;
	if (atomic_load(&fs->error) == -BCFS_ERR_shutdown)
		return 0;
	if (mode != BCFS_SHUTDOWN_NOW && !fs->fs_opts.read_only)
		ret = bcfs_sync(fs);
	if (fs->alloc)
		alloc_gc_stop(fs->alloc);
	/* An error that was there before has left its mark. */
	if (!atomic_compare_exchange_strong(&fs->error, &none, -BCFS_ERR_shutdown))
		atomic_store(&fs->error, -BCFS_ERR_shutdown);
	btree_fs_halt(fs->btree);
	journal_halt(fs->journal);
	log_warn(fs->log, "%s: shut down%s", fs->bdev->name,
		 mode == BCFS_SHUTDOWN_NOW ? ", what was not yet durable is lost" : "");
	return ret;
}

int bcfs_claim(struct bcfs *fs, int on)
{
	struct bdev *bdev = to_core(fs)->real_bdev;

	if (on)
		return bdev_claim_excl(bdev);
	bdev_release_excl(bdev);
	return 0;
}

int bcfs_is_read_only(const struct bcfs *fs)
{
	return fs_may_write(fs) != 0;
}
