// SPDX-License-Identifier: LGPL-2.1-or-later
/* What can be asked of a filesystem: names, numbers, counters, its superblock in short. */
#include "core/core.h"

#include "btree/btree.h"
#include "codec/codec.h"

#include <stdio.h>
#include <string.h>

const char *bcfs_version(void)
{
	return "0.1.0";
}

const char *bcfs_strerror(int code)
{
	return err_str(code);
}

void bcfs_thread_on_wait(void (*fn)(void *arg), void *arg)
{
	env_thread_on_wait(fn, arg);
}

int bcfs_errno(int code)
{
	return err_to_errno(code);
}

void bcfs_escape(const char *text, size_t len, char *ret, size_t size)
{
	struct printbuf buf = PRINTBUF;

	prt_escaped(&buf, text, strnlen(text, len));
	snprintf(ret, size, "%s", printbuf_str(&buf));
	printbuf_exit(&buf);
}

const char *bcfs_btree_name(unsigned int nr)
{
	return nr < BTREE_ID_NR ? btree_id_name(nr) : NULL;
}

void core_info(const struct bcfs_sb *sb, struct bcfs_info *ret)
{
	struct bcfs_member m = sb_member_get(sb, sb->dev_idx);

	*ret = (struct bcfs_info){
		.version = sb->version,
		.version_min = sb->version_min,
		.block_bytes = sb->block_sectors * SECTOR_SIZE,
		.node_bytes = sb->btree_node_sectors * SECTOR_SIZE,
		.bucket_bytes = m.bucket_sectors * SECTOR_SIZE,
		.nr_buckets = m.nr_buckets,
		.size_bytes = m.nr_buckets * m.bucket_sectors * (u64)SECTOR_SIZE,
		.journal_bytes = sb_journal_nr_buckets(sb) * m.bucket_sectors * (u64)SECTOR_SIZE,
		.clean = !!(sb->flags[0] & BCFS_SB_FLAG_CLEAN),
		.has_error = !!(sb->flags[0] & BCFS_SB_FLAG_ERROR),
		.encrypted = sb_has_encryption(sb),
	};
	memcpy(ret->uuid, sb->user_uuid.b, sizeof(ret->uuid));
	memcpy(ret->label, sb->label, sizeof(sb->label));
}

void bcfs_get_info(const struct bcfs *fs, struct bcfs_info *ret)
{
	sb_lock(fs->sb);
	core_info(fs->sb->sb, ret);
	sb_unlock(fs->sb);
}

int bcfs_set_label(struct bcfs *fs, const char *label)
{
	struct printbuf err = PRINTBUF;
	u8 old[sizeof(fs->sb->sb->label)];
	int ret = fs_may_write(fs);

	if (ret)
		return ret;
	sb_lock(fs->sb);
	memcpy(old, fs->sb->sb->label, sizeof(old));
	ret = sb_label_set(fs->sb->sb, label, &err) ?: sb_write(fs->sb);
	if (ret)
		memcpy(fs->sb->sb->label, old, sizeof(old));
	sb_unlock(fs->sb);
	printbuf_exit(&err);
	return ret;
}

/* Takes the one line that says what is wrong. */
static void probe_log(void *arg, enum log_level level, const char *line)
{
	char *msg = arg;

	if (level == LOG_LEVEL_ERR && !msg[0])
		snprintf(msg, CORE_MSG_SIZE, "%s", line);
}

int bcfs_probe(const char *path, struct bcfs_info *ret, char *msg, size_t msg_size)
{
	char line[CORE_MSG_SIZE] = "";
	struct log log = {.fn = probe_log, .arg = line, .max = LOG_LEVEL_ERR};
	struct env *env;
	struct bdev *bdev;
	struct sb_handle *sb = NULL;
	int err = core_open_device(path, true, DEVICE_LOOK, BCFS_IO_THREADS, BCFS_OFF, 0, 1, NULL,
				   NULL, &env, &bdev, msg, msg_size);

	if (err)
		return err;
	err = sb_read_any(env, bdev, &log, &sb);
	if (!err)
		core_info(sb->sb, ret);
	else
		core_msg(msg, msg_size, "%s", line);
	sb_free(sb);
	bdev_close(bdev);
	env_real_destroy(env);
	return err;
}

int bcfs_wait_unlocked(const char *path, uint32_t timeout_ms)
{
	struct env *env;
	struct bdev *bdev;
	struct bdev_opts bo = {.read_only = true,
			       .exclusive = true,
			       .engine = BDEV_ENGINE_THREADS,
			       .direct = BDEV_DIRECT_OFF,
			       .nr_threads = 1,
			       .wait_lock_ms = timeout_ms};
	int err = env_real_create(&env);

	if (err)
		return err;
	err = bdev_open(env, path, &bo, &bdev, NULL, 0);
	if (!err)
		bdev_close(bdev);
	env_real_destroy(env);
	return err;
}

int bcfs_compression_check(const char *text, char *msg, size_t msg_size)
{
	CLEANUP(printbuf_exit) struct printbuf err = PRINTBUF;
	u16 opt;
	int ret = compression_opt_parse(text, &opt, &err);

	if (ret)
		core_msg(msg, msg_size, "%s", printbuf_str(&err));
	return ret;
}

int bcfs_mount_point(const char *path, char *ret, size_t size)
{
	return bdev_mounted_on(path, ret, size) ? 0 : -BCFS_ERR_not_mounted;
}

int bcfs_usage(struct bcfs *fs, struct bcfs_usage *ret)
{
	struct alloc_usage u;

	alloc_usage(fs->alloc, &u);
#define BYTES(sectors) ((u64)(sectors) << SECTOR_SHIFT)
	*ret = (struct bcfs_usage){
		.capacity = BYTES(u.capacity),
		.data = BYTES(u.counters[BCFS_ACCOUNTING_user]),
		.btree = BYTES(u.counters[BCFS_ACCOUNTING_btree]),
		.journal = BYTES(u.counters[BCFS_ACCOUNTING_journal]),
		.sb = BYTES(u.counters[BCFS_ACCOUNTING_sb]),
		.reserved = BYTES(u.reserved),
		.free = BYTES(u.free),
		.nr_inodes = u.counters[BCFS_ACCOUNTING_nr_inodes],
	};
#undef BYTES
	return 0;
}

void bcfs_counters(struct bcfs *fs, void (*fn)(void *arg, const char *name, uint64_t value),
		   void *arg)
{
	struct btree_counters b;
	struct journal_counters j;
	struct alloc_counters a;
	struct data_counters d;
	struct alloc_usage u;

	btree_counters(fs->btree, &b);
	journal_counters(fs->journal, &j);
	alloc_counters(fs->alloc, &a);
	data_counters(fs->data, &d);
	alloc_usage(fs->alloc, &u);
#define x(name, doc) fn(arg, "btree." #name, b.name);
	BTREE_COUNTERS(x)
#undef x
#define x(name, doc) fn(arg, "journal." #name, j.name);
	JOURNAL_COUNTERS(x)
#undef x
#define x(name, doc) fn(arg, "alloc." #name, a.name);
	ALLOC_COUNTERS(x)
#undef x
#define x(name, doc) fn(arg, "data." #name, d.name);
	DATA_COUNTERS(x)
#undef x
	fn(arg, "rekey.nodes", to_core(fs)->rekey_nodes);
	fn(arg, "rekey.sectors", to_core(fs)->rekey_sectors);
	fn(arg, "rekey.left_sectors", to_core(fs)->rekey_left);
	fn(arg, "rekey.generations", bcfs_key_generations(fs));
#define x(name, nr, doc) fn(arg, "usage." #name, u.counters[BCFS_ACCOUNTING_##name]);
	BCFS_ACCOUNTING(x)
#undef x
}

struct text_out {
	bcfs_out_fn out;
	void *arg;
};

static void counter_line(void *arg, const char *name, uint64_t value)
{
	struct text_out *t = arg;
	char line[128];

	snprintf(line, sizeof(line), "%s %llu\n", name, (unsigned long long)value);
	t->out(t->arg, line);
}

void bcfs_counters_to_text(struct bcfs *fs, bcfs_out_fn out, void *arg)
{
	struct text_out t = {out, arg};

	bcfs_counters(fs, counter_line, &t);
}
