// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The ioctls that bring passphrases and key files: another master key, and slots. The secrets are
 * copied into locked memory, which the task wipes; what came with the request the loop wipes.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "bcfs/ioctl.h"
#include "fuse_bcfs.h"
#include "task.h"

/* The nr secrets in data[]; false: it makes no sense. */
static bool secrets_in(const uint8_t *data, uint32_t bytes, uint32_t nr, struct bcfs_secret *ret)
{
	uint32_t at = 0, i;

	if (!nr || nr > BCFS_KEY_SECRETS_MAX || bytes > BCFS_IOC_KEY_BYTES)
		return false;
	for (i = 0; i < nr; i++) {
		uint16_t head[2];

		if (bytes - at < sizeof(head))
			return false;
		memcpy(head, data + at, sizeof(head));
		at += sizeof(head);
		if (head[0] > UINT8_MAX || bytes - at < head[1])
			return false;
		ret[i] = (struct bcfs_secret){
			.type = (uint8_t)head[0], .p = data + at, .len = head[1]};
		at += head[1];
	}
	return at == bytes;
}

static void run_rotate(struct task *t)
{
	const struct bcfs_ioc_key_rotate *in = (const void *)t->keys.p;
	struct bcfs_secret secrets[BCFS_KEY_SECRETS_MAX];

	if (!in->pad && in->drop_others <= 1 && secrets_in(in->data, in->bytes, in->nr, secrets))
		task_reply_ioctl(t, bcfs_key_rotate(req_daemon(t->req)->fs, secrets, in->nr,
						    (int)in->drop_others));
	else
		fuse_reply_err(t->req, EINVAL);
	tool_secret_free(&t->keys);
}

static void run_slot(struct task *t)
{
	struct bcfs_ioc_key_slot *in = (void *)t->keys.p;
	struct bcfs_secret secrets[BCFS_KEY_SECRETS_MAX];
	const struct bcfs_key_opts opts = {
		.struct_size = sizeof(opts),
		.secret = &secrets[0],
		.kdf_passes = in->kdf_passes,
		.kdf_bytes = in->kdf_bytes,
	};
	bool removes = in->op == BCFS_KEY_REMOVE;

	if (in->op <= BCFS_KEY_CHANGE && in->nr == (removes ? 1 : 2) &&
	    secrets_in(in->data, in->bytes, in->nr, secrets)) {
		in->error = bcfs_key_apply(req_daemon(t->req)->fs, (enum bcfs_key_op)in->op, &opts,
					   removes ? NULL : &secrets[1], &in->slot);
		fuse_reply_ioctl(t->req, 0, in, offsetof(struct bcfs_ioc_key_slot, data));
	} else {
		fuse_reply_err(t->req, EINVAL);
	}
	tool_secret_free(&t->keys);
}

void keys_ioctl(fuse_req_t req, unsigned int cmd, const void *in)
{
	struct task t = {.req = req, .fn = cmd == BCFS_IOC_KEY_SLOT ? run_slot : run_rotate};
	uid_t uid = fuse_req_ctx(req)->uid;

	if (uid && uid != geteuid()) {
		fuse_reply_err(req, EPERM);
		return;
	}
	if (!tool_secret_map(&t.keys, _IOC_SIZE(cmd))) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	memcpy(t.keys.p, in, _IOC_SIZE(cmd));
	if (!task_start(&t))
		tool_secret_free(&t.keys);
}
