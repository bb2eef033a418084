// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/core.h"

#include <stdio.h>
#include <string.h>

static void sb_device_log(void *arg, enum log_level level, const char *line)
{
	struct sb_device *d = arg;

	if (level == LOG_LEVEL_ERR && !d->line[0])
		snprintf(d->line, sizeof(d->line), "%s", line);
	else if (d->user_log)
		d->user_log(d->user_log_arg, (enum bcfs_log_level)level, line);
}

int sb_device_end(struct sb_device *d, const char *path, int ret, char *msg, size_t msg_size)
{
	if (ret && d->line[0])
		core_msg(msg, msg_size, "%s", d->line);
	else if (ret)
		core_msg(msg, msg_size, "%s: %s", path, err_str(ret));
	sb_free(d->sb);
	bdev_close(d->bdev);
	env_real_destroy(d->env);
	return ret;
}

int sb_device_open(struct sb_device *d, const char *path, const struct bcfs_key_opts *o, char *msg,
		   size_t msg_size)
{
	struct crypt_secret s;
	int ret;

	*d = (struct sb_device){.user_log = o->log, .user_log_arg = o->log_arg};
	d->log = (struct log){.fn = sb_device_log, .arg = d, .max = LOG_LEVEL_INFO};
	ret = core_secret_from(path, o->secret, &s, msg, msg_size)
		      ?: core_open_device(path, false, DEVICE_MOUNT, BCFS_IO_THREADS, BCFS_DEFAULT,
					  o->wait_lock_ms, 1, o->log, o->log_arg, &d->env, &d->bdev,
					  msg, msg_size);
	if (ret)
		return ret;
	ret = sb_read(d->env, d->bdev, &d->log, &d->sb);
	if (!ret && s.p)
		ret = sb_crypt_open(d->sb, &s, &d->slot);
	else if (!ret && sb_has_encryption(d->sb->sb))
		ret = -BCFS_ERR_sb_crypt_locked;
	return ret ? sb_device_end(d, path, ret, msg, msg_size) : 0;
}

int sb_device_look(struct sb_device *d, const char *path, char *msg, size_t msg_size)
{
	int ret;

	*d = (struct sb_device){0};
	d->log = (struct log){.fn = sb_device_log, .arg = d, .max = LOG_LEVEL_ERR};
	ret = core_open_device(path, true, DEVICE_LOOK, BCFS_IO_THREADS, BCFS_OFF, 0, 1, NULL, NULL,
			       &d->env, &d->bdev, msg, msg_size);
	if (ret)
		return ret;
	ret = sb_read_any(d->env, d->bdev, &d->log, &d->sb);
	return ret ? sb_device_end(d, path, ret, msg, msg_size) : 0;
}
