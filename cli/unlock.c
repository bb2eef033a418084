// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <stdio.h>

#include "bcfs/ioctl.h"
#include "tool.h"
#include "unlock.h"

#define TRIES_MAX 3

const struct bcfs_secret *tool_secret_arg(const struct tool_secret *s, struct bcfs_secret *buf)
{
	*buf = (struct bcfs_secret){
		.type = s->type == TOOL_SECRET_KEY_FILE ? BCFS_SECRET_KEY_FILE
							: BCFS_SECRET_PASSPHRASE,
		.p = s->p,
		.len = s->len,
	};
	return s->p ? buf : NULL;
}

void tool_key_file_notice(const struct tool_secret *s)
{
	if (s->type == TOOL_SECRET_KEY_FILE && s->len > BCFS_IOC_KEY_FILE_MAX)
		tool_error(
			"note: the key file has more than %u bytes: its slot cannot be kept when "
			"the master key is replaced (bcfs key rotate)",
			BCFS_IOC_KEY_FILE_MAX);
}

static bool get(struct tool_unlock *u)
{
	char what[TOOL_MSG_SIZE];

	snprintf(what, sizeof(what), "passphrase for %s", u->path);
	if (!tool_secret_get(&u->opts, what, false, &u->secret))
		return false;
	u->tries++;
	u->arg = tool_secret_arg(&u->secret, &u->for_lib);
	return true;
}

bool tool_unlock(struct tool_unlock *u)
{
	struct bcfs_info info = {0};

	if (u->encrypted || tool_secret_given(&u->opts))
		return get(u);
	/* What cannot be read is told when it is opened. */
	if (bcfs_probe(u->path, &info, NULL, 0) || !info.encrypted)
		return true;
	return get(u);
}

bool tool_unlock_wrong(const struct tool_unlock *u, int ret)
{
	return u->secret.prompted && bcfs_errno(ret) == EKEYREJECTED && u->tries < TRIES_MAX;
}

bool tool_unlock_retry(struct tool_unlock *u)
{
	tool_unlock_end(u);
	tool_error("%s: wrong passphrase", u->path);
	return get(u);
}

bool tool_unlock_again(struct tool_unlock *u, int ret)
{
	return tool_unlock_wrong(u, ret) && tool_unlock_retry(u);
}

void tool_unlock_end(struct tool_unlock *u)
{
	tool_secret_free(&u->secret);
	u->arg = NULL;
}
