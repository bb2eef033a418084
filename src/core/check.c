// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The check, in passes, on an open filesystem (offline: opened read-only over an overlay, so
 * that recovery has run). Each pass reports every difference it finds; one table has them all.
 */
#include "core/core.h"

#include "btree/btree.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct check {
	struct core *c;
	const struct bcfs_check_opts *o;
	struct bcfs_check_result *ret;
	const char *pass;
	unsigned pass_nr;
	bool cancelled;
};

static void report(struct check *k, enum bcfs_check_level level, const char *text)
{
	if (level == BCFS_CHECK_ERROR)
		k->ret->errors++;
	if (k->o->report)
		k->o->report(k->o->arg, level, k->pass, text);
}

static void report_error(void *arg, const char *text)
{
	report(arg, BCFS_CHECK_ERROR, text);
}

/* ---- superblock ---- */

static int pass_superblock(struct check *k)
{
	const struct sb_handle *sb = k->c->fs.sb;
	/*
	 * What the opening has written to an overlay says nothing. An old or torn copy is what a
	 * crash may leave between the writes of two: no error, while there is another.
	 */
	u32 valid = k->c->opts.read_only ? k->c->sb_copies_valid : sb->copies_valid;
	char line[160];

	for (unsigned i = 0; i < sb->sb->layout.nr_copies; i++)
		if (!(valid & (1U << i))) {
			snprintf(
				line, sizeof(line),
				"copy %u of the superblock, at sector %llu, is damaged or old; the "
				"next mount writes it anew",
				i, (unsigned long long)sb->sb->layout.offset[i]);
			report(k, BCFS_CHECK_INFO, line);
		}
	return 0;
}

static int pass_journal(struct check *k)
{
	/* Reading and replaying it was part of the opening. */
	if (k->c->journal_damage[0])
		report(k, BCFS_CHECK_ERROR, k->c->journal_damage);

	int err = k->c->quiet ? k->c->journal_err : journal_error(k->c->fs.journal);

	if (err)
		report(k, BCFS_CHECK_ERROR, err_str(err));
	return 0;
}

/* ---- btree nodes and keys: read and validated; here they must join without gaps ---- */

/*
 * On a filesystem that is at work nodes split and merge while they are walked: what does not join
 * is said only of a btree that did not change its shape during the walk, and not at the first time.
 */
#define SHAPE_TRIES 20

struct node_check {
	struct check *k;
	enum btree_id id;
	unsigned level;
	struct bpos next; /* where the next node of this level must begin */
	u64 shape;	  /* shape_of() when the walk began */
	unsigned tries;
	bool any, again;
};

static u64 shape_of(const struct check *k)
{
	struct btree_counters n;

	btree_counters(k->c->fs.btree, &n);
	return n.splits + n.merges + n.root_grow + n.root_shrink;
}

static void node_report(struct node_check *n, unsigned level, struct bpos pos, const char *what)
{
	struct printbuf out = PRINTBUF;

	prt_printf(&out, "btree %s level %u, node up to ", btree_id_name(n->id), level);
	bpos_to_text(&out, pos);
	prt_printf(&out, ": %s", what);
	report(n->k, BCFS_CHECK_ERROR, printbuf_str(&out));
	printbuf_exit(&out);
}

/* True: the walk is to begin anew. */
static bool does_not_join(struct node_check *n, unsigned level, struct bpos pos, const char *what)
{
	n->again = n->tries < SHAPE_TRIES && (!n->tries || n->shape != shape_of(n->k));
	if (!n->again)
		node_report(n, level, pos, what);
	return n->again;
}

static bool level_end(struct node_check *n)
{
	return n->any && !bpos_eq(n->next, POS_MIN) &&
	       does_not_join(n, n->level, n->next, "the level ends before the last position");
}

#define WALK_AGAIN 1

static int node_check_one(void *arg, const struct btree_node_info *i)
{
	struct node_check *n = arg;
	struct printbuf err = PRINTBUF;

	if (!n->any || i->level != n->level) {
		if (level_end(n))
			return WALK_AGAIN;
		n->level = i->level;
		n->next = POS_MIN;
		n->any = true;
	}
	if (!bpos_eq(i->min_key, n->next) &&
	    does_not_join(n, i->level, i->max_key, "does not begin where the one before ends"))
		return WALK_AGAIN;
	n->next = bpos_eq(i->max_key, SPOS_MAX) ? POS_MIN : bpos_successor(i->max_key);
	if (btree_keys_verify(i->keys, &err))
		node_report(n, i->level, i->max_key, printbuf_str(&err));
	printbuf_exit(&err);
	n->k->ret->btree_nodes++;
	return 0;
}

static int node_check_bad(void *arg, struct bkey_s_c ptr, unsigned level, int err)
{
	struct node_check *n = arg;

	if (err == -BCFS_ERR_nomem)
		return err;
	if (!n->any || level != n->level) {
		if (level_end(n))
			return WALK_AGAIN;
		n->level = level;
		n->any = true;
	}
	n->next = bpos_eq(ptr.k->p, SPOS_MAX) ? POS_MIN : bpos_successor(ptr.k->p);
	node_report(n, level, ptr.k->p, err_str(err));
	return 0;
}

static int progress(struct check *k, u64 done, u64 total);

static int pass_btrees(struct check *k)
{
	for (unsigned id = 0; id < BTREE_ID_NR; id++) {
		struct node_check n = {.k = k, .id = id};
		u64 nodes = k->ret->btree_nodes;
		int ret;

		do {
			n.any = n.again = false;
			n.shape = shape_of(k);
			k->ret->btree_nodes = nodes;
			ret = btree_for_each_node(k->c->fs.btree, id, node_check_one,
						  node_check_bad, &n);
			if (!ret)
				level_end(&n);
			n.tries++;
		} while (n.again);
		if (ret)
			return ret;
		ret = progress(k, id + 1, BTREE_ID_NR);
		if (ret)
			return ret;
	}
	return 0;
}

/* ---- the layers' own checks ---- */

static int pass_snapshots(struct check *k)
{
	u64 errors;

	return check_snapshots(k->c->fs.snapshots, k->c->fs.btree, &errors, report_error, k);
}

static int pass_alloc(struct check *k)
{
	u64 errors;

	return alloc_check(k->c->fs.alloc, NULL, &errors, report_error, k);
}

static int pass_reflink(struct check *k)
{
	return data_check_reflink(k->c->fs.data, report_error, k);
}

static int pass_rebalance(struct check *k)
{
	return data_rebalance_check(k->c->fs.btree, report_error, k);
}

static int fs_pass(struct check *k, int (*fn)(struct bcfs *c, struct fs_check *chk))
{
	struct fs_check chk = {.report = report_error, .arg = k};

	return fn(&k->c->fs, &chk);
}

#define FS_PASS(name)                                                                              \
	static int pass_##name(struct check *k)                                                    \
	{                                                                                          \
		return fs_pass(k, check_##name);                                                   \
	}
FS_PASS(inodes)
FS_PASS(dirents)
FS_PASS(xattrs)
FS_PASS(extents_vs_inodes)
FS_PASS(nlinks)
FS_PASS(directory_structure)
FS_PASS(fs_accounting)

/* ---- what there is ---- */

static void count_inode(struct bcfs_check_result *r, struct bkey_s_c k)
{
	const struct bcfs_inode *i = (const void *)k.v;

	if (k.k->type != KEY_TYPE_inode)
		return;
	r->inodes++;
	if (S_ISREG(i->mode))
		r->files++;
	else if (S_ISDIR(i->mode))
		r->directories++;
	else if (S_ISLNK(i->mode))
		r->symlinks++;
	else
		r->special++;
}

static int pass_count(struct check *k)
{
	struct btree_trans *trans = btree_trans_get(k->c->fs.btree);
	struct bcfs_check_result *r = k->ret;
	struct alloc_usage u;
	unsigned flags = BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_PREFETCH;
	int ret = for_each_btree_key (trans, iter, BTREE_ID_inodes, POS_MIN, flags, key, ({
					      count_inode(r, key);
					      0;
				      }));

	ret = ret ?: for_each_btree_key (trans, iter, BTREE_ID_dirents, POS_MIN, flags, key, ({
						 r->dirents += key.k->type == KEY_TYPE_dirent;
						 0;
					 }));
	ret = ret ?: for_each_btree_key (trans, iter, BTREE_ID_xattrs, POS_MIN, flags, key, ({
						 r->xattrs += key.k->type == KEY_TYPE_xattr;
						 0;
					 }));
	ret = ret
		      ?: for_each_btree_key (trans, iter, BTREE_ID_extents, POS_MIN,
					     flags | BTREE_ITER_NOT_EXTENTS, key, ({
						     r->extents += key.k->type == KEY_TYPE_extent;
						     0;
					     }));
	btree_trans_put(trans);
	alloc_usage(k->c->fs.alloc, &u);
	r->data_bytes = (u64)u.counters[BCFS_ACCOUNTING_user] << SECTOR_SHIFT;
	r->metadata_bytes = (u64)u.counters[BCFS_ACCOUNTING_btree] << SECTOR_SHIFT;
	return ret;
}

/* x(name, function) */
static const struct check_pass {
	const char *name;
	int (*fn)(struct check *k);
} passes[] = {
	{"superblock", pass_superblock},
	{"journal", pass_journal},
	{"btree nodes", pass_btrees},
	{"snapshots", pass_snapshots},
	{"allocation", pass_alloc},
	{"shared data", pass_reflink},
	{"inodes", pass_inodes},
	{"dirents", pass_dirents},
	{"xattrs", pass_xattrs},
	{"extents", pass_extents_vs_inodes},
	{"rebalance", pass_rebalance},
	{"link counts", pass_nlinks},
	{"directory structure", pass_directory_structure},
	{"accounting", pass_fs_accounting},
	{"counts", pass_count},
};

static int progress(struct check *k, u64 done, u64 total)
{
	if (k->o->progress &&
	    k->o->progress(k->o->arg, k->pass, k->pass_nr + 1, ARRAY_SIZE(passes), done, total)) {
		k->cancelled = true;
		return -BCFS_ERR_check_cancelled;
	}
	return 0;
}

int core_check(struct core *c, const struct bcfs_check_opts *opts, struct bcfs_check_result *ret)
{
	struct check k = {.c = c, .o = opts, .ret = ret};

	for (k.pass_nr = 0; k.pass_nr < ARRAY_SIZE(passes); k.pass_nr++) {
		k.pass = passes[k.pass_nr].name;
		int err = progress(&k, 0, 1) ?: passes[k.pass_nr].fn(&k) ?: progress(&k, 1, 1);

		if (k.cancelled) {
			ret->cancelled = 1;
			return 0;
		}
		if (err == -BCFS_ERR_nomem)
			return err; /* says nothing about what is on the device */
		if (err) {
			/* What kept the pass from its end is an error of its own. */
			struct printbuf out = PRINTBUF;

			prt_printf(&out, "the pass could not be finished: %s", err_str(err));
			report(&k, BCFS_CHECK_ERROR, printbuf_str(&out));
			printbuf_exit(&out);
		}
	}
	return 0;
}

void core_quiesce(struct core *c)
{
	btree_interior_flush(c->fs.btree);
	alloc_fs_stop(c->fs.alloc);
	c->threads_started = false;
	c->journal_err = c->journal_damage[0] ? 0 : journal_error(c->fs.journal);
	c->quiet = true;
	btree_fs_halt(c->fs.btree);
	journal_halt(c->fs.journal);
	journal_stop(c->fs.journal, NULL, NULL);
	btree_interior_flush(c->fs.btree);
}

/*
 * The check was right only for the superblock that it saw. Where the mark cannot be taken away it
 * stays: that is no error of the filesystem.
 */
static int write_cleared(struct core *c, struct env *env, struct bdev *bdev, u64 seq)
{
	struct sb_handle *sb;
	int err = sb_read(env, bdev, &c->log, &sb);

	if (err)
		return err;
	sb_lock(sb);
	if (sb->sb->seq == seq) {
		sb->sb->flags[0] &= ~BCFS_SB_FLAG_ERROR;
		err = sb_write(sb);
	} else {
		err = -BCFS_ERR_check_changed;
	}
	sb_unlock(sb);
	sb_free(sb);
	return err;
}

static bool clear_mark(const char *path, const struct bcfs_check_opts *o, u64 seq)
{
	struct core_opts co = {0};
	char msg[CORE_MSG_SIZE] = "", line[CORE_MSG_SIZE + 64];
	struct env *env;
	struct bdev *bdev;
	struct core *c;
	int err =
		core_open_device(path, false, DEVICE_LOCKED, o->io, BCFS_DEFAULT, o->wait_lock_ms,
				 o->nr_threads, o->log, o->log_arg, &env, &bdev, msg, sizeof(msg));

	if (!err) {
		c = core_new(env, NULL, NULL, &co); /* for its log, which keeps to itself */
		err = c ? write_cleared(c, env, bdev, seq) : -BCFS_ERR_nomem;
		env_free(env, c);
		bdev_close(bdev);
		env_real_destroy(env);
	}
	if (err && o->log) {
		snprintf(line, sizeof(line), "%s: the mark that a check is due stays: %s", path,
			 *msg ? msg : err_str(err));
		o->log(o->log_arg, BCFS_LOG_NOTICE, line);
	}
	return !err;
}

int bcfs_check(const char *path, const struct bcfs_check_opts *opts, struct bcfs_check_result *ret,
	       char *msg, size_t msg_size)
{
	struct bcfs_check_opts o = {0};
	struct bcfs_check_result r = {0};
	char own[CORE_MSG_SIZE] = "";
	struct env *env;
	struct bdev *bdev;
	struct core *c;
	u64 seq = 0;

	if (opts)
		memcpy(&o, opts, min(opts->struct_size, sizeof(o)));
	struct core_opts co = {.read_only = true, .for_check = true, .cache_bytes = o.cache_bytes};
	int err = core_secret_from(path, o.secret, &co.secret, msg, msg_size)
			  ?: core_open_device(path, true, DEVICE_LOCKED, o.io, BCFS_DEFAULT,
					      o.wait_lock_ms, o.nr_threads, o.log, o.log_arg, &env,
					      &bdev, msg, msg_size);
	if (err)
		return err;
	err = core_open_on(env, bdev, &co, o.log, o.log_arg, &c, own, sizeof(own));
	if (!err) {
		r.was_clean = c->was_clean;
		r.marked = !!(c->fs.sb->sb->flags[0] & BCFS_SB_FLAG_ERROR);
		seq = c->sb_seq;
		core_quiesce(c);
		err = core_check(c, &o, &r);
		if (err)
			core_msg(msg, msg_size, "%s: the check could not be finished: %s", path,
				 err_str(err));
		core_close(c);
	} else if (err_is_damage(err)) {
		/* A finding, not a failure to check. */
		r.errors++;
		if (o.report)
			o.report(o.arg, BCFS_CHECK_ERROR, "opening", own);
		err = 0;
	} else {
		core_msg(msg, msg_size, "%s", own);
	}
	bdev_close(bdev);
	env_real_destroy(env);
	if (err)
		return err;
	if (o.clear_mark && r.marked && !r.errors && !r.cancelled && clear_mark(path, &o, seq)) {
		r.marked = 0;
		r.mark_cleared = 1;
	}
	*ret = r;
	return 0;
}
