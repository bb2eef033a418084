// SPDX-License-Identifier: LGPL-2.1-or-later
/* What is left after a crash: opened, read, checked, used, closed, opened again. */
#include "sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void add_recovery_counter(void *arg, const char *name, uint64_t value)
{
	char buf[48];

	snprintf(buf, sizeof(buf), "recovery.%s", name);
	sim_counters_add(arg, buf, value);
}

/* ---- recovery ---- */

static bool rec_err(struct sim_recovery *rec, const char *what, int ret, const char *more)
{
	if (!ret)
		return true;
	rec->err = ret;
	snprintf(rec->msg, sizeof(rec->msg), "%s: %s%s%s", what, err_str(ret), *more ? ": " : "",
		 more);
	return false;
}

static void report(void *arg, enum bcfs_check_level level, const char *pass, const char *text)
{
	struct sim_recovery *rec = arg;

	if (level != BCFS_CHECK_ERROR || rec->err)
		return;
	rec->err = -BCFS_ERR_check_cancelled;
	snprintf(rec->msg, sizeof(rec->msg), "check: %s: %s", pass, text);
}

static bool rec_open(struct sim_recovery *rec, struct core **core)
{
	struct core_opts co = sim_core_opts(&rec->run->cfg);
	char msg[CORE_MSG_SIZE] = "";
	int ret = core_open_on(rec->env, rec->bdev, &co, sim_log_line, (void *)&rec->run->cfg, core,
			       msg, sizeof(msg));

	if (!rec_err(rec, "open", ret, msg))
		return false;
	return rec_err(rec, "open", (*core)->fs.error, "opened read-only");
}

/* What a crash left unfinished is done when the filesystem is open: nobody has a file open. */
static int count_keys(struct core *core, enum btree_id id, u64 *nr)
{
	struct btree_trans *trans = btree_trans_get(core->fs.btree);
	int ret = for_each_btree_key (trans, iter, id, POS_MIN, BTREE_ITER_ALL_SNAPSHOTS, k, ({
					      ++*nr;
					      0;
				      }));

	btree_trans_put(trans);
	return ret;
}

static bool rec_nothing_left(struct sim_recovery *rec, struct core *core)
{
	static const enum btree_id ids[] = {BTREE_ID_logged_ops, BTREE_ID_deleted_inodes};
	u64 nr = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
		if (!rec_err(rec, "counting keys", count_keys(core, ids[i], &nr), ""))
			return false;
		if (nr)
			return rec_err(rec, "unfinished after the opening",
				       -BCFS_ERR_check_cancelled, btree_id_name(ids[i]));
	}
	return true;
}

static bool rec_check(struct sim_recovery *rec, struct core *core)
{
	struct bcfs_check_opts o = {.struct_size = sizeof(o), .report = report, .arg = rec};
	struct bcfs_check_result res = {0};

	btree_interior_flush(core->fs.btree);
	if (!rec_err(rec, "check", core_check(core, &o, &res), ""))
		return false;
	return !rec->err;
}

/* What a file shows when it grows is zeroes. */
static bool rec_grow_file(struct sim_recovery *rec, struct bcfs *c, struct bcfs_ino ino)
{
	u64 size = 3 * M_FILE_MAX;
	u8 *was = model_buf(size, ino.inum), *is = model_buf(size, ino.inum + 1);
	struct bcfs_stat a = {0}, st;
	s64 n = bcfs_read(c, ino, 0, was, size);
	bool ok = n >= 0 || rec_err(rec, "read", (int)n, "");

	a.size = (u64)max_t(s64, n, 0) + M_FILE_MAX + 77;
	int ret = ok ? bcfs_setattr(c, ino, &a, BCFS_SET_SIZE, &st) : 0;
	bool full = err_to_errno(ret) == ENOSPC; /* zeroing the rest of a block takes space */

	ok = ok && (full || rec_err(rec, "growing a file", ret, ""));
	if (full)
		goto out;
	n = ok ? bcfs_read(c, ino, 0, is, size) : 0;
	ok = ok && (n >= 0 || rec_err(rec, "read", (int)n, ""));
	if (ok && ((u64)n != a.size || memcmp(was, is, size)))
		ok = rec_err(rec, "a file that has grown", -BCFS_ERR_check_cancelled,
			     "is not what it was with zeroes behind");
out:
	model_buf_free(was);
	model_buf_free(is);
	return ok;
}

struct grow_list {
	struct bcfs_ino ino[256];
	unsigned nr, done;
};

static int grow_entry(void *arg, const struct bcfs_dir_entry *e)
{
	struct grow_list *l = arg;

	if (strcmp(e->name, ".") && strcmp(e->name, "..") && strcmp(e->name, M_BULK_DIR) &&
	    l->nr < ARRAY_SIZE(l->ino))
		l->ino[l->nr++] = e->ino;
	return 0;
}

static bool rec_grow_all(struct sim_recovery *rec, struct bcfs *c)
{
	struct grow_list *l = calloc(1, sizeof(*l));
	struct bcfs_stat st;
	bool ok = true;

	l->ino[l->nr++] = bcfs_root(c);
	for (; ok && l->done < l->nr; l->done++) {
		ok = rec_err(rec, "getattr", bcfs_getattr(c, l->ino[l->done], &st), "");
		if (ok && S_ISDIR(st.mode))
			ok = rec_err(rec, "readdir", bcfs_readdir(c, st.ino, 0, 0, grow_entry, l),
				     "");
		else if (ok && S_ISREG(st.mode) && st.size <= M_FILE_MAX) /* once by any name */
			ok = rec_grow_file(rec, c, st.ino);
	}
	free(l);
	return ok;
}

/* ---- handles ---- */

/* What a handle from before leads to: its file, or nothing. */
static bool handle_alive(struct bcfs *c, const struct sim_handle *h)
{
	struct bcfs_stat st;

	return !bcfs_getattr(c, (struct bcfs_ino){BCFS_ROOT_SUBVOL, h->inum}, &st) &&
	       st.generation == h->generation && st.nlink;
}

static bool *handles_alive(struct bcfs *c, const struct sim_handles *t)
{
	bool *ret = calloc(max(t->nr, 1U), sizeof(*ret));

	for (unsigned i = 0; i < t->nr; i++)
		ret[i] = handle_alive(c, &t->h[i]);
	return ret;
}

/* What was gone or lost stays so, what was there is there, whatever was made since. */
static bool rec_handles(struct sim_recovery *rec, struct bcfs *c, const struct sim_handles *t,
			const bool *alive)
{
	char msg[128];

	for (unsigned i = 0; i < t->nr; i++) {
		/* What was told behind the crash, nobody knows. */
		if (t->h[i].pos > rec->crash_pos || handle_alive(c, &t->h[i]) == alive[i])
			continue;
		snprintf(msg, sizeof(msg), "number %llu, generation %u, %s",
			 (unsigned long long)t->h[i].inum, t->h[i].generation,
			 alive[i] ? "is gone" : "names another file now");
		return rec_err(rec, "a handle from before the crash", -BCFS_ERR_check_cancelled,
			       msg);
	}
	return true;
}

/* A file that comes, and goes again: its number is the highest, so the next mount gives it out. */
static bool rec_passing(struct sim_recovery *rec, struct bcfs *c, struct sim_handle *ret)
{
	const struct bcfs_cred cred = {0};
	struct bcfs_stat st;

	int err = bcfs_mknod(c, bcfs_root(c), "zy", S_IFREG | 0644, 0, 0, &cred, &st);

	*ret = (struct sim_handle){0};
	if (rec->run->cfg.ballast && err_to_errno(err) == ENOSPC)
		return true; /* so full that it takes no name any more */
	if (!rec_err(rec, "create", err, ""))
		return false;
	*ret = (struct sim_handle){.inum = st.ino.inum, .generation = st.generation};
	if (!rec_err(rec, "unlink", bcfs_unlink(c, bcfs_root(c), "zy"), ""))
		return false;
	bcfs_forget(c, st.ino, 1);
	return true;
}

/* A few operations more than survived the crash. */
static bool rec_more_ops(struct sim_recovery *rec, struct bcfs *c)
{
	const struct bcfs_cred cred = {0};
	struct bcfs_stat dir, st;
	u8 buf[20000];

	memset(buf, 'z', sizeof(buf));
	int ret = bcfs_mkdir(c, bcfs_root(c), "zz", 0755, &cred, &dir)
			  ?: bcfs_mknod(c, dir.ino, "file", S_IFREG | 0644, 0, 0, &cred, &st);
	if (rec->run->cfg.ballast && err_to_errno(ret) == ENOSPC)
		return true; /* so full that it takes no name any more */
	if (!rec_err(rec, "mkdir, create", ret, ""))
		return false;
	s64 n = bcfs_write(c, st.ino, 100, buf, sizeof(buf), 0);

	if (n < 0 && err_to_errno((int)n) != ENOSPC && !rec_err(rec, "write", (int)n, ""))
		return false;
	return rec_err(rec, "rename", bcfs_rename(c, dir.ino, "file", bcfs_root(c), "zf", 0), "") &&
	       rec_grow_all(rec, c);
}

/* Make a file, or take it away again. */
static int toggle_file(struct sim_recovery *rec, struct bcfs *c, const char *name, bool dir)
{
	const struct bcfs_cred cred = {0};
	struct bcfs_stat st;
	u8 buf[9000];
	int ret = bcfs_lookup(c, bcfs_root(c), name, &st);

	if (!ret) {
		bcfs_forget(c, st.ino, 1);
		return dir ? bcfs_rmdir(c, bcfs_root(c), name) : bcfs_unlink(c, bcfs_root(c), name);
	}
	ret = dir ? bcfs_mkdir(c, bcfs_root(c), name, 0700, &cred, &st)
		  : bcfs_mknod(c, bcfs_root(c), name, S_IFREG | 0600, 0, 0, &cred, &st);
	if (ret)
		return ret;
	memset(buf, name[0], sizeof(buf));
	s64 n = dir ? 0 : bcfs_write(c, st.ino, 0, buf, sizeof(buf), 0);

	bcfs_forget(c, st.ino, 1);
	struct sim_handle h = {st.ino.inum, st.generation, sim_bdev_log_len(rec->bdev)};

	if (!sim_handles_add(rec->handles, &h))
		return -BCFS_ERR_inum_taken;
	return (int)min_t(s64, n, 0);
}

static bool rec_again(struct sim_recovery *rec, struct bcfs *c)
{
	char name[32];
	int err;

	snprintf(name, sizeof(name), "turn-%u", rec->turn % 7);
	if (!rec_err(rec, "a change", toggle_file(rec, c, name, false), "") ||
	    !rec_err(rec, "sync", bcfs_sync(c), ""))
		return false;
	rec->synced_pos = sim_bdev_log_len(rec->bdev);
	rec->then[0] = fs_text(c, &err);
	if (!rec_err(rec, "reading the tree", err, ""))
		return false;
	if (!rec_err(rec, "a second change", toggle_file(rec, c, "dir", true), ""))
		return false;
	env_sleep_ns(rec->env, rec->turn % 3 * ENV_NSEC_PER_SEC);
	rec->then[1] = fs_text(c, &err);
	return rec_err(rec, "reading the tree", err, "");
}

/* fsck.bcfs: recovery in memory, everything checked, nothing written. */
static bool rec_check_offline(struct sim_recovery *rec, struct bcfs_check_result *res)
{
	struct core_opts co = {.read_only = true,
			       .for_check = true,
			       .no_background = true,
			       .secret = sim_secret(&rec->run->cfg),
			       .cache_bytes = rec->run->cfg.cache_bytes};
	struct bcfs_check_opts o = {.struct_size = sizeof(o), .report = report, .arg = rec};
	char msg[CORE_MSG_SIZE] = "";
	struct core *core;
	int ret = core_open_on(rec->env, rec->bdev, &co, sim_log_line, (void *)&rec->run->cfg,
			       &core, msg, sizeof(msg));

	if (!rec_err(rec, "opening for a check", ret, msg))
		return false;
	core_quiesce(core);
	ret = core_check(core, &o, res);
	core_abort(core);
	return rec_err(rec, "check", ret, "") && !rec->err;
}

/* What is in memory only, after the replay, may lie in one node or in two. */
static bool counts_alike(struct bcfs_check_result a, struct bcfs_check_result b)
{
	a.btree_nodes = b.btree_nodes = 0;
	a.metadata_bytes = b.metadata_bytes = 0;
	return !memcmp(&a, &b, sizeof(a));
}

/* A second check finds what the first found: nothing, and as much of everything. */
static bool rec_offline(struct sim_recovery *rec)
{
	struct bcfs_check_result first = {0}, second = {0};
	u64 pos = sim_bdev_log_len(rec->bdev);

	if (!rec_check_offline(rec, &first) || !rec_check_offline(rec, &second))
		return false;
	if (!counts_alike(first, second))
		return rec_err(rec, "a second check", -BCFS_ERR_check_cancelled,
			       "counts otherwise than the first");
	if (sim_bdev_log_len(rec->bdev) != pos)
		return rec_err(rec, "a check", -BCFS_ERR_check_cancelled, "wrote to the device");
	return true;
}

/* Nobody says when the ballast was written, or moved: it is the same all the time. */
static bool rec_ballast(struct sim_recovery *rec, struct bcfs *c)
{
	const struct sim_run *r = rec->run;
	u64 len = r->ballast_blocks * r->cfg.block;
	u8 *is, *want;
	bool ok;

	if (!r->cfg.stir)
		return true;
	is = model_buf(len, 0);
	want = calloc(1, len);
	sim_ballast_fill(&r->cfg, 0, want, len);
	s64 n = bcfs_read(c, r->ballast, 0, is, len);

	ok = rec_err(rec, "reading the ballast", (int)min_t(s64, n, 0), "");
	if (ok && ((u64)n != len || memcmp(is, want, len)))
		ok = rec_err(rec, "the ballast", -BCFS_ERR_check_cancelled, "is not what it was");
	model_buf_free(is);
	free(want);
	return ok;
}

/* Used, closed, opened, and used again: what is in it and what its files are known by stay. */
static bool rec_more(struct sim_recovery *rec, struct core **core)
{
	const struct sim_handles *old = &rec->run->handles;
	bool *alive = handles_alive(&(*core)->fs, old), ok = false;
	char *text = NULL, *again = NULL;
	struct sim_handle a, b;
	int err;

	if (!rec_more_ops(rec, &(*core)->fs) || !rec_passing(rec, &(*core)->fs, &a) ||
	    !rec_handles(rec, &(*core)->fs, old, alive))
		goto out;
	text = fs_text(&(*core)->fs, &err);
	if (!rec_err(rec, "reading the tree after more operations", err, text))
		goto out;
	err = core_close(*core);
	*core = NULL;
	if (!rec_err(rec, "close", err, "") || !rec_open(rec, core))
		goto out;
	again = fs_text(&(*core)->fs, &err);
	if (!rec_err(rec, "reading the tree after a clean close", err, again))
		goto out;
	ok = !strcmp(text, again) || rec_err(rec, "a clean close and opening",
					     -BCFS_ERR_check_cancelled, "the tree changed");
	ok = ok && rec_passing(rec, &(*core)->fs, &b) && rec_handles(rec, &(*core)->fs, old, alive);
	if (ok && a.inum && a.inum == b.inum && a.generation == b.generation)
		ok = rec_err(rec, "a new file", -BCFS_ERR_check_cancelled,
			     "has the number and generation of one in the last mount");
	ok = ok && rec_check(rec, *core);
	if (ok && rec->offline) {
		err = core_close(*core);
		*core = NULL;
		ok = rec_err(rec, "close", err, "") && rec_offline(rec);
	}
out:
	free(text);
	free(again);
	free(alive);
	return ok;
}

static bool rec_steps(struct sim_recovery *rec)
{
	struct core *core = NULL;
	bool ok = false;
	int err;

	if ((rec->offline && !rec_offline(rec)) || !rec_open(rec, &core))
		return false;
	rec->opened_pos = sim_bdev_log_len(rec->bdev);
	rec->text = fs_text_times(&core->fs, &err, &rec->times);
	if (!rec_err(rec, "reading the tree", err, rec->text) || !rec_nothing_left(rec, core) ||
	    !rec_check(rec, core) || (rec->ballast && !rec_ballast(rec, &core->fs)))
		goto out;
	if (rec->counters)
		bcfs_counters(&core->fs, add_recovery_counter, rec->counters);
	ok = rec->more ? rec_more(rec, &core) : !rec->again || rec_again(rec, &core->fs);
out:
	if (core)
		core_abort(core);
	return ok;
}

static void rec_main(void *arg)
{
	rec_steps(arg);
}

bool sim_recover(struct sim_recovery *rec)
{
	const struct sim_cfg *cfg = &rec->run->cfg;
	struct sim_bdev_opts o = sim_dev_opts(cfg);
	int ret;

	o.no_log = !rec->keep_log;
	rec->env = env_sim_create(rec->seed);
	if (rec->run->stacks)
		env_sim_use_stacks(rec->env, rec->run->stacks);
	ret = sim_bdev_create_from(rec->env, "sim", &o, rec->img, &rec->bdev);
	if (ret)
		return rec_err(rec, "no device", ret, "");
	if (cfg->encrypt)
		sim_bdev_watch_crypt(rec->bdev);
	if (rec->crashed)
		sim_bdev_inherit_lives(rec->bdev, rec->crashed, rec->crash_pos);
	sim_schedule(rec->env, cfg);
	ret = env_sim_run(rec->env, rec_main, rec);
	if (!rec->err)
		rec_err(rec, "the simulation ended", ret, "");
	if (!rec->err && sim_bdev_violations(rec->bdev))
		rec_err(rec, "written once", -BCFS_ERR_check_cancelled,
			sim_bdev_first_violation(rec->bdev));
	return !rec->err;
}

void sim_recovery_free(struct sim_recovery *rec)
{
	free(rec->text);
	free(rec->then[0]);
	free(rec->then[1]);
	bdev_close(rec->bdev);
	env_sim_destroy(rec->env);
}
