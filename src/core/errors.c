// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Errors of file data since the mount: the last ones by place, for `bcfs errors`. What is met again
 * counts in its row, and what touches it there, too: a bad chunk that is read page by page is one
 * place. Names may have any byte: paths are escaped before anybody sees them.
 */
#include "core/core.h"

#include "fs/path.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define PATH_BYTES 1024U
/* An xattr has 64 KiB at most, a row less than 8. */
#define TEXT_BYTES (56U << 10)

void core_error_note(struct core *c, int err, u32 snapshot, u64 inum, u64 offset, u64 len)
{
	u64 now = env_real_ns(c->fs.env);
	struct core_error *e = NULL;

	env_mutex_lock(&c->last_err_lock);
	for (unsigned i = 0; i < min(c->nr_error_rows, CORE_ERROR_ROWS) && !e; i++) {
		struct core_error *r = &c->error_rows[i];

		if (r->err == err && r->snapshot == snapshot && r->inum == inum &&
		    r->offset <= offset + len && offset <= r->offset + r->len)
			e = r;
	}
	if (!e) {
		e = &c->error_rows[c->nr_error_rows++ % CORE_ERROR_ROWS];
		*e = (struct core_error){err, snapshot, inum, offset, len, 0, now, now};
	}
	u64 end = max(e->offset + e->len, offset + len);

	e->offset = min(e->offset, offset);
	e->len = end - e->offset;
	e->count++;
	e->last_ns = now;
	env_mutex_unlock(&c->last_err_lock);
}

void core_error_path(void *arg, u32 snapshot, u64 inum, char *buf, size_t size)
{
	struct core *c = arg;
	char path[PATH_BYTES];
	int ret = c->opening ? -BCFS_ERR_no_such_name
			     : fs_path(&c->fs, inum, snapshot, path, sizeof(path));

	if (ret)
		snprintf(buf, size, "%s",
			 ret == -BCFS_ERR_name_too_long ? "(a long path)" : "(no path)");
	else
		bcfs_escape(path, sizeof(path), buf, size);
}

static void print_row(struct core *c, struct printbuf *out, const struct core_error *e)
{
	time_t sec = (time_t)(e->last_ns / ENV_NSEC_PER_SEC);
	char path[4 * PATH_BYTES], when[32];
	struct tm tm;

	gmtime_r(&sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	prt_printf(out, "%s %llux %s: ", when, (unsigned long long)e->count, err_str(e->err));
	if (e->inum) {
		core_error_path(c, e->snapshot, e->inum, path, sizeof(path));
		prt_printf(out, "%s: bytes %llu to %llu of inode %llu", path,
			   (unsigned long long)e->offset, (unsigned long long)(e->offset + e->len),
			   (unsigned long long)e->inum);
	} else {
		prt_str(out, "data of several files, kept elsewhere");
	}
	prt_str(out, "\n");
}

void bcfs_errors_to_text(struct bcfs *fs, bcfs_out_fn out, void *arg)
{
	static const char *const kinds[] = {"read", "write", "checksum"};
	struct core *c = to_core(fs);
	struct printbuf text = PRINTBUF;
	struct bcfs_member m;
	unsigned nr, shown = 0;

	sb_lock(fs->sb);
	m = sb_member_get(fs->sb->sb, 0);
	sb_unlock(fs->sb);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		prt_printf(&text, "%s: %s errors: %llu before this mount, %llu since\n",
			   c->real_bdev->name, kinds[i], (unsigned long long)m.errors[i],
			   (unsigned long long)c->errors[i]);
	env_mutex_lock(&c->last_err_lock);
	nr = c->nr_error_rows;
	env_mutex_unlock(&c->last_err_lock);
	/* The newest first. */
	for (unsigned n = 0; n < min(nr, CORE_ERROR_ROWS) && text.pos < TEXT_BYTES; n++) {
		struct core_error e;

		env_mutex_lock(&c->last_err_lock);
		e = c->error_rows[(nr - 1 - n) % CORE_ERROR_ROWS];
		env_mutex_unlock(&c->last_err_lock);
		print_row(c, &text, &e);
		shown++;
	}
	if (shown < nr)
		prt_printf(&text, "and %u places before these\n", nr - shown);
	out(arg, printbuf_str(&text));
	printbuf_exit(&text);
}
