// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fs/options.h"
#include "codec/codec.h"
#include "dev/bdev.h"
#include "fs/table.h"
#include "sb/sb.h"
#include "util/cleanup.h"
#include "util/printbuf.h"

#include <string.h>

/* Values are no longer, and what is refused is logged up to here. */
#define VALUE_BYTES 31U

static const char prefix[] = "bcfs.";

/* Each has a compression_opt() + 1 in the inode; 0: not set. */
enum option {
	OPTION_compression,
	OPTION_background_compression,
	OPTION_NR,
};

static const char *const option_names[OPTION_NR] = {
	[OPTION_compression] = "bcfs.compression",
	[OPTION_background_compression] = "bcfs.background_compression",
};

static u16 *option_of(struct bcfs_inode_unpacked *inode, enum option o)
{
	return o == OPTION_compression ? &inode->opt_compression
				       : &inode->opt_background_compression;
}

/* OPTION_NR: no such. */
static enum option option_by_name(const char *name)
{
	enum option o = 0;

	while (o < OPTION_NR && strcmp(name, option_names[o]))
		o++;
	return o;
}

bool inode_option_is(const char *name)
{
	return !strncmp(name, prefix, strlen(prefix));
}

struct option_change {
	enum option option;
	u32 how; /* BCFS_XATTR_CREATE, _REPLACE */
	u16 plus_1;
	u64 now;
};

static int change_step(struct btree_trans *trans, struct bcfs_inode_unpacked *inode, void *arg)
{
	const struct option_change *a = arg;
	u16 *v = option_of(inode, a->option);

	if (inode->flags & (BCFS_INODE_immutable | BCFS_INODE_append))
		return -BCFS_ERR_immutable;
	if (!S_ISREG(inode->mode) && !S_ISDIR(inode->mode))
		return -BCFS_ERR_not_a_file;
	if ((a->how & BCFS_XATTR_CREATE) && *v)
		return -BCFS_ERR_xattr_exists;
	if ((a->how & BCFS_XATTR_REPLACE) && !*v)
		return -BCFS_ERR_xattr_not_found;
	*v = a->plus_1;
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

/* Who sets an xattr gets an errno: what there is goes to the log, where it is for others to read.
 */
static int value_refused(struct bcfs *c, const char *name, const void *value, size_t size)
{
	CLEANUP(printbuf_exit) struct printbuf text = PRINTBUF;
	CLEANUP(printbuf_exit) struct printbuf why = PRINTBUF;
	u16 opt;

	prt_escaped(&text, value, min(size, (size_t)VALUE_BYTES));
	if (size > VALUE_BYTES)
		prt_str(&text, "...");
	compression_opt_parse(printbuf_str(&text), &opt, &why);
	log_warn_ratelimited(c->log, &c->option_limit, "%s: %s: %s", c->bdev->name, name,
			     printbuf_str(&why));
	return -BCFS_ERR_option_value;
}

int inode_option_set(struct bcfs *c, struct bcfs_ino ino, const char *name, const void *value,
		     size_t size, u32 flags)
{
	struct option_change a = {.option = option_by_name(name), .how = flags};
	char text[VALUE_BYTES + 1] = "";
	u16 opt;
	int ret;

	if (a.option == OPTION_NR)
		return -BCFS_ERR_xattr_name_invalid;
	if (size > VALUE_BYTES)
		return value_refused(c, name, value, size);
	memcpy(text, value, size);
	if (strlen(text) != size || compression_opt_parse(text, &opt, NULL))
		return value_refused(c, name, value, size);
	/* Before an extent can be: others must know that they cannot read it. */
	ret = fs_may_write(c) ?: sb_use_compression(c->sb, compression_opt_type(opt));
	a.plus_1 = opt + 1;
	return ret ?: change(c, ino, &a);
}

int inode_option_remove(struct bcfs *c, struct bcfs_ino ino, const char *name)
{
	struct option_change a = {.option = option_by_name(name), .how = BCFS_XATTR_REPLACE};

	return a.option == OPTION_NR ? -BCFS_ERR_xattr_name_invalid : change(c, ino, &a);
}

int64_t inode_option_get(struct bcfs *c, struct bcfs_ino ino, const char *name, void *value,
			 size_t size)
{
	CLEANUP(printbuf_exit) struct printbuf text = PRINTBUF;
	enum option o = option_by_name(name);
	struct bcfs_inode_unpacked inode;
	size_t len;
	u16 plus_1;
	int ret;

	if (o == OPTION_NR)
		return -BCFS_ERR_xattr_name_invalid;
	ret = inode_get(c, ino, &inode);
	if (ret)
		return ret;
	plus_1 = *option_of(&inode, o);
	if (!plus_1)
		return -BCFS_ERR_xattr_not_found;
	compression_opt_to_text(&text, plus_1 - 1);
	len = strlen(printbuf_str(&text));
	if (size && len > size)
		return -BCFS_ERR_xattr_buffer;
	if (size)
		memcpy(value, printbuf_str(&text), len);
	return (int64_t)len;
}

size_t inode_option_list(const struct bcfs_inode_unpacked *inode, char *list, size_t room)
{
	size_t ret = 0;

	for (enum option o = 0; o < OPTION_NR; o++) {
		size_t len = strlen(option_names[o]) + 1;

		if (!*option_of((struct bcfs_inode_unpacked *)inode, o))
			continue;
		if (room >= ret + len)
			memcpy(list + ret, option_names[o], len);
		ret += len;
	}
	return ret;
}
