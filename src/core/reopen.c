// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The same filesystem with other options, under who goes on using it: a remount. All but the device
 * and the lookup references is taken down and made anew, so that read-only is after this what it
 * is after an opening: on an overlay, from a device that was closed cleanly.
 */
#include "core/core.h"
#include "dev/bdev.h"
#include "fs/table.h"

#include <string.h>

/* Only what is looked at while running differs: it is set. */
static bool change_in_place(struct core *c, const struct core_opts *co)
{
	struct core_opts want = *co;

	want.noatime = c->opts.noatime;
	want.strictatime = c->opts.strictatime;
	want.nodiratime = c->opts.nodiratime;
	want.for_check = c->opts.for_check;
	if (c->fs.error || want.read_only != c->opts.read_only ||
	    want.norecovery != c->opts.norecovery || want.on_error != c->opts.on_error ||
	    want.discard != c->opts.discard || want.cache_bytes != c->opts.cache_bytes ||
	    want.inodes_32bit != c->opts.inodes_32bit ||
	    want.compression_given != c->opts.compression_given ||
	    want.compression != c->opts.compression ||
	    want.background_compression_given != c->opts.background_compression_given ||
	    want.background_compression != c->opts.background_compression ||
	    want.meta_csum_given != c->opts.meta_csum_given ||
	    want.meta_csum != c->opts.meta_csum ||
	    want.data_csum_given != c->opts.data_csum_given ||
	    want.data_csum != c->opts.data_csum ||
	    want.journal_flush_delay_ms != c->opts.journal_flush_delay_ms)
		return false;
	c->opts.noatime = co->noatime;
	c->opts.strictatime = co->strictatime;
	c->opts.nodiratime = co->nodiratime;
	c->fs.fs_opts.noatime = co->noatime || co->read_only;
	c->fs.fs_opts.strictatime = co->strictatime;
	c->fs.fs_opts.nodiratime = co->nodiratime;
	return true;
}

int core_reopen(struct bcfs **fs, const struct core_opts *opts, char *msg, size_t msg_size)
{
	struct core *c = to_core(*fs);
	struct core_opts old = c->opts, co = *opts;
	struct env *env = c->fs.env;
	struct bdev *bdev = c->real_bdev;
	bcfs_log_fn log = c->user_log;
	void *log_arg = c->user_log_arg;
	bool owns_env = c->owns_env, had_error;
	CLEANUP(keyring_free_p) struct keyring *keys = NULL;
	struct fs_refs refs;
	int ret, err, closed;

	/* Closing would make an end of them. */
	if (inode_refs_unlinked(&c->fs)) {
		core_msg(msg, msg_size, "busy, removed files are still in use: close them first");
		return -BCFS_ERR_removed_in_use;
	}
	/* Nobody is asked for a secret again. */
	if (c->fs.sb->keys) {
		keys = keyring_copy(env, c->fs.sb->keys);
		if (!keys)
			return -BCFS_ERR_nomem;
	}
	old.keys = co.keys = keys;
	inode_refs_take(&c->fs, &refs);
	/* An error that was met before has been told of, and is in the superblock. */
	had_error = c->fs.error;
	closed = core_close(c);
	if (had_error)
		closed = 0;
	*fs = NULL;
	ret = co.read_only ? 0 : bdev_make_writable(bdev, msg, msg_size);
	ret = ret ?: core_open_on(env, bdev, &co, log, log_arg, &c, msg, msg_size);
	err = ret ? core_open_on(env, bdev, &old, log, log_arg, &c, NULL, 0) : 0;
	if (err) {
		inode_refs_free(env, &refs);
		if (owns_env) {
			bdev_close(bdev);
			env_real_destroy(env);
		}
		return ret;
	}
	inode_refs_put(&c->fs, &refs);
	c->owns_env = owns_env;
	*fs = &c->fs;
	if (!ret && closed)
		core_msg(msg, msg_size, "not everything could be written: %s", err_str(closed));
	return ret ?: closed;
}

int bcfs_reopen(struct bcfs **fs, const struct bcfs_open_opts *opts, char *msg, size_t msg_size)
{
	struct bcfs_open_opts o = {0};
	struct core *c = to_core(*fs);
	struct core_opts co;
	int ret;

	memcpy(&o, opts, min(opts->struct_size, sizeof(o)));
	co = core_opts_from(&o);
	ret = core_choices_from(c->real_bdev->name, &o, &co, msg, msg_size);
	if (ret || change_in_place(c, &co))
		return ret;
	return core_reopen(fs, &co, msg, msg_size);
}
