// SPDX-License-Identifier: LGPL-2.1-or-later
/* The filesystem behind the mount: opened, closed, kept still. */
#include "fuse_bcfs.h"
#include "task.h"

bool device_open(struct daemon *d, char *msg, size_t size)
{
	struct bcfs_open_opts open_opts = d->opts->open;
	int ret;

	open_opts.log = log_line;
	open_opts.secret = d->opts->unlock.arg;
	ret = bcfs_open(d->opts->source, &open_opts, &d->fs, msg, size);
	/* From here on the keys do: nobody is asked again, a remount is not either. */
	if (ret)
		d->opts->open_error = ret;
	else
		tool_unlock_end(&d->opts->unlock);
	if (ret)
		return false;
	d->root = bcfs_root(d->fs);
	return true;
}

void device_close(struct daemon *d)
{
	int ret;

	if (!d->fs)
		return;
	if (d->shut_down) {
		bcfs_abort(d->fs);
		d->fs = NULL;
		return;
	}
	/* What the kernel did not forget, it cannot use any more. */
	bcfs_forget_all(d->fs);
	ret = bcfs_close(d->fs);
	d->fs = NULL;
	if (!ret)
		return;
	d->close_failed = true;
	log_fmt(BCFS_LOG_ERR, "%s: closing: %s: run fsck.bcfs", d->opts->device,
		bcfs_strerror(ret));
}

void device_lock_alone(struct daemon *d)
{
	bool idle;

	for (;;) {
		/* Tasks may need requests to be served. */
		tasks_wait(d);
		pthread_rwlock_wrlock(&d->fs_lock);
		pthread_mutex_lock(&d->tasks_lock);
		idle = !d->nr_tasks;
		pthread_mutex_unlock(&d->tasks_lock);
		if (idle)
			return;
		pthread_rwlock_unlock(&d->fs_lock);
	}
}
