// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The options that mkfs has stored in the superblock, read and changed later. A new value counts
 * for what is written from then on. Of an open filesystem an option of the mount goes before it,
 * and checksums, which everything below holds, are changed as by a remount (reopen.c).
 */
#include "codec/codec.h"
#include "core/core.h"
#include "fs/table.h"

#include <stdio.h>
#include <string.h>

enum fs_option {
	FS_OPTION_data_csum,
	FS_OPTION_meta_csum,
	FS_OPTION_compression,
	FS_OPTION_background,
	FS_OPTION_errors,
	FS_OPTION_label,
	FS_OPTION_NR,
};

static const char *const option_names[FS_OPTION_NR] = {
	[FS_OPTION_data_csum] = "data-checksum", [FS_OPTION_meta_csum] = "metadata-checksum",
	[FS_OPTION_compression] = "compression", [FS_OPTION_background] = "background-compression",
	[FS_OPTION_errors] = "errors",		 [FS_OPTION_label] = "label",
};

/* By number: BCFS_ON_ERROR_RO, ... as stored, from 0. */
static const char *const errors_names[] = {"ro", "continue", "panic"};

/* What is to be; all of it was checked but for what depends on the filesystem. */
struct fs_choices {
	unsigned given; /* bits of enum fs_option */
	unsigned meta_csum, data_csum;
	u16 compression, background;
	unsigned errors;
	char label[sizeof(((struct bcfs_sb *)0)->label) + 1];
};

static bool is_given(const struct fs_choices *ch, enum fs_option o)
{
	return ch->given & 1U << o;
}

/* ---- text ---- */

/* Files and mount options have it with '_', too. */
static bool is_name(const char *name, const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len && name[i]; i++)
		if (name[i] != text[i] && !(name[i] == '-' && text[i] == '_'))
			return false;
	return i == len && !name[i];
}

static int parse_name(const char *text, size_t len, enum fs_option *ret, char *msg, size_t size)
{
	CLEANUP(printbuf_exit) struct printbuf there = PRINTBUF;

	for (unsigned i = 0; i < FS_OPTION_NR; i++) {
		if (is_name(option_names[i], text, len)) {
			*ret = i;
			return 0;
		}
		prt_printf(&there, " %s", option_names[i]);
	}
	core_msg(msg, size, "unknown option \"%.*s\"; there are:%s", (int)len, text,
		 printbuf_str(&there));
	return -BCFS_ERR_invalid_option;
}

static int parse_errors(const char *value, unsigned *ret, char *msg, size_t size)
{
	for (unsigned i = 0; i < ARRAY_SIZE(errors_names); i++) {
		if (strcmp(errors_names[i], value))
			continue;
		*ret = i;
		return 0;
	}
	core_msg(msg, size, "errors: unknown mode \"%s\"; there are: ro continue panic", value);
	return -BCFS_ERR_invalid_option;
}

static int parse_label(const char *value, struct fs_choices *ch, char *msg, size_t size)
{
	CLEANUP(printbuf_exit) struct printbuf err = PRINTBUF;

	if (sb_label_check(value, &err)) {
		core_msg(msg, size, "%s", printbuf_str(&err));
		return -BCFS_ERR_invalid_option;
	}
	memcpy(ch->label, value, strlen(value) + 1);
	return 0;
}

static int parse_value(enum fs_option o, const char *value, struct fs_choices *ch, char *msg,
		       size_t size)
{
	const char *name = option_names[o];

	ch->given |= 1U << o;
	switch (o) {
	case FS_OPTION_data_csum:
		return core_csums(name, NULL, value, NULL, &ch->data_csum, msg, size);
	case FS_OPTION_meta_csum:
		return core_csums(name, value, NULL, &ch->meta_csum, NULL, msg, size);
	case FS_OPTION_compression:
		return core_compression(name, value, &ch->compression, msg, size);
	case FS_OPTION_background:
		return core_compression(name, value, &ch->background, msg, size);
	case FS_OPTION_errors:
		return parse_errors(value, &ch->errors, msg, size);
	case FS_OPTION_label:
		return parse_label(value, ch, msg, size);
	case FS_OPTION_NR:
		break;
	}
	return -BCFS_ERR_invalid_option;
}

/* Lines NAME=VALUE. */
static int parse(const char *text, struct fs_choices *ret, char *msg, size_t size)
{
	*ret = (struct fs_choices){0};
	for (size_t len; *text; text += len + (text[len] == '\n')) {
		size_t name_len;
		enum fs_option o;
		char value[256];
		int err;

		len = strcspn(text, "\n");
		name_len = strcspn(text, "=\n");
		if (text[name_len] != '=') {
			core_msg(msg, size, "\"%.*s\": not NAME=VALUE", (int)len, text);
			return -BCFS_ERR_invalid_option;
		}
		err = parse_name(text, name_len, &o, msg, size);
		if (err)
			return err;
		if (len - name_len > sizeof(value)) {
			core_msg(msg, size, "%s: that is too long", option_names[o]);
			return -BCFS_ERR_invalid_option;
		}
		snprintf(value, sizeof(value), "%.*s", (int)(len - name_len - 1),
			 text + name_len + 1);
		err = parse_value(o, value, ret, msg, size);
		if (err)
			return err;
	}
	return 0;
}

static void value_to_text(struct printbuf *out, const struct bcfs_sb *sb, enum fs_option o)
{
	unsigned errors;

	switch (o) {
	case FS_OPTION_data_csum:
		prt_str(out, csum_type_name(sb_opt_get(sb, SB_OPT_data_csum)));
		break;
	case FS_OPTION_meta_csum:
		prt_str(out, csum_type_name(sb_opt_get(sb, SB_OPT_meta_csum)));
		break;
	case FS_OPTION_compression:
		compression_opt_to_text(out, sb_compression(sb));
		break;
	case FS_OPTION_background:
		compression_opt_to_text(out, sb_background_compression(sb));
		break;
	case FS_OPTION_errors:
		errors = sb_opt_get(sb, SB_OPT_errors);
		prt_str(out, errors < ARRAY_SIZE(errors_names) ? errors_names[errors] : "unknown");
		break;
	case FS_OPTION_label:
		prt_escaped(out, sb->label, strnlen((const char *)sb->label, sizeof(sb->label)));
		break;
	case FS_OPTION_NR:
		break;
	}
}

static void to_text(struct sb_handle *h, bcfs_out_fn out, void *arg)
{
	CLEANUP(printbuf_exit) struct printbuf text = PRINTBUF;

	sb_lock(h);
	for (unsigned i = 0; i < FS_OPTION_NR; i++) {
		prt_printf(&text, "%s=", option_names[i]);
		value_to_text(&text, h->sb, i);
		prt_newline(&text);
	}
	sb_unlock(h);
	out(arg, printbuf_str(&text));
}

/* ---- the superblock ---- */

static int check_fs(const struct bcfs_sb *sb, const struct fs_choices *ch, char *msg, size_t size)
{
	if (!sb_has_encryption(sb) ||
	    (!is_given(ch, FS_OPTION_data_csum) && !is_given(ch, FS_OPTION_meta_csum)))
		return 0;
	core_msg(msg, size,
		 "it is encrypted, and authenticated with that: tags take the place of checksums, "
		 "none can be chosen");
	return -BCFS_ERR_invalid_option;
}

static int choose(struct bcfs_sb *sb, const struct fs_choices *ch)
{
	if (is_given(ch, FS_OPTION_data_csum))
		sb_opt_set(sb, SB_OPT_data_csum, ch->data_csum);
	if (is_given(ch, FS_OPTION_meta_csum))
		sb_opt_set(sb, SB_OPT_meta_csum, ch->meta_csum);
	if (is_given(ch, FS_OPTION_compression))
		sb_compression_set(sb, ch->compression);
	if (is_given(ch, FS_OPTION_background))
		sb_background_compression_set(sb, ch->background);
	if (is_given(ch, FS_OPTION_errors))
		sb_opt_set(sb, SB_OPT_errors, ch->errors);
	return is_given(ch, FS_OPTION_label) ? sb_label_set(sb, ch->label, NULL) : 0;
}

/* All of it, or nothing. */
static int store(struct sb_handle *h, const struct fs_choices *ch)
{
	struct bcfs_sb *sb = h->sb, old;
	int ret;

	sb_lock(h);
	old = *sb;
	ret = choose(sb, ch) ?: sb_write(h);
	if (ret) {
		memcpy(sb->flags, old.flags, sizeof(old.flags));
		memcpy(sb->features_incompat, old.features_incompat, sizeof(old.features_incompat));
		memcpy(sb->label, old.label, sizeof(old.label));
	}
	sb_unlock(h);
	return ret;
}

/* ---- the calls ---- */

int bcfs_fs_options_check(const char *text, char *msg, size_t msg_size)
{
	struct fs_choices ch;

	return parse(text, &ch, msg, msg_size);
}

int bcfs_fs_options_set(const char *path, const struct bcfs_key_opts *opts, const char *text,
			char *msg, size_t msg_size)
{
	struct bcfs_key_opts o = {0};
	struct fs_choices ch;
	struct sb_device d;
	int ret = parse(text, &ch, msg, msg_size);

	if (ret)
		return ret;
	if (opts)
		memcpy(&o, opts, min(opts->struct_size, sizeof(o)));
	ret = sb_device_open(&d, path, &o, msg, msg_size);
	if (ret)
		return ret;
	char why[CORE_MSG_SIZE / 2];

	ret = check_fs(d.sb->sb, &ch, why, sizeof(why));
	if (ret)
		snprintf(d.line, sizeof(d.line), "%.200s: %s", path, why);
	ret = ret ?: store(d.sb, &ch);
	return sb_device_end(&d, path, ret, msg, msg_size);
}

/* Of what is open now: not only what is stored, but what is done changes. */
static bool needs_reopening(const struct core *c, const struct fs_choices *ch)
{
	const struct bcfs_sb *sb = c->fs.sb->sb;

	return (is_given(ch, FS_OPTION_data_csum) && !c->opts.data_csum_given &&
		ch->data_csum != sb_opt_get(sb, SB_OPT_data_csum)) ||
	       (is_given(ch, FS_OPTION_meta_csum) && !c->opts.meta_csum_given &&
		ch->meta_csum != sb_opt_get(sb, SB_OPT_meta_csum));
}

static void change_in_place(struct core *c, const struct fs_choices *ch)
{
	if (is_given(ch, FS_OPTION_compression) && !c->opts.compression_given)
		c->fs.fs_opts.compression = ch->compression;
	if (is_given(ch, FS_OPTION_background) && !c->opts.background_compression_given)
		c->fs.fs_opts.background_compression = ch->background;
	if (is_given(ch, FS_OPTION_errors) && c->opts.on_error == BCFS_ON_ERROR_DEFAULT)
		c->on_error = (u8)(BCFS_ON_ERROR_RO + ch->errors);
}

int bcfs_fs_options_apply(struct bcfs **fs, const char *text, char *msg, size_t msg_size)
{
	struct core *c = to_core(*fs);
	const char *name = c->real_bdev->name;
	char why[CORE_MSG_SIZE / 2] = "";
	struct fs_choices ch;
	bool reopens = false;
	int ret = parse(text, &ch, why, sizeof(why)) ?:
		  fs_may_write(*fs) ?:
		  check_fs(c->fs.sb->sb, &ch, why, sizeof(why));

	if (!ret) {
		sb_lock(c->fs.sb);
		reopens = needs_reopening(c, &ch);
		sb_unlock(c->fs.sb);
	}
	/* It would make an end of them. */
	if (reopens && inode_refs_unlinked(&c->fs)) {
		snprintf(why, sizeof(why),
			 "busy, removed files are still in use: close them first");
		ret = -BCFS_ERR_removed_in_use;
	}
	ret = ret ?: store(c->fs.sb, &ch);
	if (ret) {
		core_msg(msg, msg_size, "%s: %s", name, *why ? why : err_str(ret));
		return ret;
	}
	change_in_place(c, &ch);
	return reopens ? core_reopen(fs, &c->opts, msg, msg_size) : 0;
}

int bcfs_fs_options_read(const char *path, bcfs_out_fn out, void *arg, char *msg, size_t msg_size)
{
	struct sb_device d;
	int ret = sb_device_look(&d, path, msg, msg_size);

	if (ret)
		return ret;
	to_text(d.sb, out, arg);
	return sb_device_end(&d, path, 0, msg, msg_size);
}

void bcfs_fs_options_to_text(struct bcfs *fs, bcfs_out_fn out, void *arg)
{
	to_text(fs->sb, out, arg);
}
