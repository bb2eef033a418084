// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fs/options.h"
#include "codec/codec.h"
#include "fs/table.h"
#include "sb/sb.h"
#include "util/printbuf.h"

#include <string.h>

static const char prefix[] = "bcfs.", compression[] = "bcfs.compression";

bool inode_option_is(const char *name)
{
	return !strncmp(name, prefix, strlen(prefix));
}

struct option_change {
	u32 how; /* BCFS_XATTR_CREATE, _REPLACE */
	u16 compression_plus_1;
	u64 now;
};

static int change_step(struct btree_trans *trans, struct bcfs_inode_unpacked *inode, void *arg)
{
	const struct option_change *a = arg;

	if (inode->flags & (BCFS_INODE_immutable | BCFS_INODE_append))
		return -BCFS_ERR_immutable;
	if (!S_ISREG(inode->mode) && !S_ISDIR(inode->mode))
		return -BCFS_ERR_not_a_file;
	if ((a->how & BCFS_XATTR_CREATE) && inode->opt_compression)
		return -BCFS_ERR_xattr_exists;
	if ((a->how & BCFS_XATTR_REPLACE) && !inode->opt_compression)
		return -BCFS_ERR_xattr_not_found;
	inode->opt_compression = a->compression_plus_1;
	inode->ctime = a->now;
	return 0;
}

static int change(struct bcfs *c, struct bcfs_ino ino, struct option_change *a)
{
	int ret = fs_may_write(c);

	if (ret)
		return ret;
	a->now = fs_now(c);
	inode_lock(c, ino);
	ret = inode_update(c, ino, change_step, a);
	inode_unlock(c, ino);
	return ret;
}

int inode_option_set(struct bcfs *c, struct bcfs_ino ino, const char *name, const void *value,
		     size_t size, u32 flags)
{
	struct option_change a = {.how = flags};
	char text[32] = "";
	u16 opt;
	int ret;

	if (strcmp(name, compression))
		return -BCFS_ERR_xattr_name_invalid;
	if (size >= sizeof(text))
		return -BCFS_ERR_option_value;
	memcpy(text, value, size);
	if (strlen(text) != size || compression_opt_parse(text, &opt, NULL))
		return -BCFS_ERR_option_value;
	/* Before an extent can be: others must know that they cannot read it. */
	ret = fs_may_write(c) ?: sb_use_compression(c->sb, compression_opt_type(opt));
	a.compression_plus_1 = opt + 1;
	return ret ?: change(c, ino, &a);
}

int inode_option_remove(struct bcfs *c, struct bcfs_ino ino, const char *name)
{
	struct option_change a = {.how = BCFS_XATTR_REPLACE};

	return strcmp(name, compression) ? -BCFS_ERR_xattr_name_invalid : change(c, ino, &a);
}

int64_t inode_option_get(struct bcfs *c, struct bcfs_ino ino, const char *name, void *value,
			 size_t size)
{
	CLEANUP(printbuf_exit) struct printbuf text = PRINTBUF;
	struct bcfs_inode_unpacked inode;
	size_t len;
	int ret;

	if (strcmp(name, compression))
		return -BCFS_ERR_xattr_name_invalid;
	ret = inode_get(c, ino, &inode);
	if (ret)
		return ret;
	if (!inode.opt_compression)
		return -BCFS_ERR_xattr_not_found;
	compression_opt_to_text(&text, inode.opt_compression - 1);
	len = strlen(printbuf_str(&text));
	if (size && len > size)
		return -BCFS_ERR_xattr_buffer;
	if (size)
		memcpy(value, printbuf_str(&text), len);
	return (int64_t)len;
}

size_t inode_option_list(const struct bcfs_inode_unpacked *inode, char *list, size_t room)
{
	if (!inode->opt_compression)
		return 0;
	if (room >= sizeof(compression))
		memcpy(list, compression, sizeof(compression));
	return sizeof(compression);
}
