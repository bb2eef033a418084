// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim.h"

#include "../unit/test_rand.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The last lines of the log, printed with a failure. */
static void log_line(void *arg, enum bcfs_log_level level, const char *line)
{
	const struct sim_cfg *cfg = arg;
	bool faults = cfg && cfg->fault != SIM_FAULT_NR;

	if (getenv("BCFS_SIM_LOG") || (level <= BCFS_LOG_WARNING && !faults))
		fprintf(stderr, "log: %s\n", line);
}

static void env_line(void *arg, const char *line)
{
	const struct sim_cfg *cfg = arg;

	if (cfg->fault == SIM_FAULT_NR && !cfg->restart_ppm)
		fprintf(stderr, "env: %s\n", line);
}

void sim_fail(const struct sim_run *r, const char *fmt, ...)
{
	const struct sim_cfg *c = &r->cfg;
	va_list args;
	char buf[256];

	for (unsigned i = 0; getenv("BCFS_SIM_LOG") && i < r->nr_ops; i++) {
		mop_print(&r->op[i], buf, sizeof(buf));
		fprintf(stderr, "op %u: %s\n", i, buf);
	}
	fprintf(stderr,
		"FAILED: " TEST_SEED_FMT
		": blocks %u, nodes %u, buckets %u, journal %u, extents %u, cache %llu, device "
		"%llu, preempt %u, eager %u, restarts %u ppm, stalls %u ppm %u ms, latency %u us, "
		"flush %u us, discard %u, ops %u+%u, fault %d at %llu\n",
		(unsigned long long)c->seed, c->block, c->node, c->bucket, c->journal,
		c->extent_max, (unsigned long long)c->cache_bytes, (unsigned long long)c->dev_bytes,
		c->preempt, c->eager, c->restart_ppm, c->stall_ppm, c->stall_ms, c->latency_us,
		c->flush_latency_us, c->discard, c->prefill, c->ops, (int)c->fault,
		(unsigned long long)c->fault_at);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

#define check(r, cond, fmt, ...)                                                                   \
	do {                                                                                       \
		if (!(cond))                                                                       \
			sim_fail(r, fmt, ##__VA_ARGS__);                                           \
	} while (0)

static void *grow(void *p, unsigned nr, unsigned *max, size_t size)
{
	if (nr < *max)
		return p;
	*max = *max ? *max * 2 : 64;
	p = realloc(p, *max * size);
	if (!p)
		abort();
	return p;
}

/* ---- counters ---- */

void sim_counters_add(struct sim_counters *t, const char *name, u64 value)
{
	for (unsigned i = 0; i < t->nr; i++) {
		if (!strcmp(t->c[i].name, name)) {
			t->c[i].value += value;
			return;
		}
	}
	if (t->nr == SIM_COUNTERS_MAX)
		return;
	snprintf(t->c[t->nr].name, sizeof(t->c[0].name), "%s", name);
	t->c[t->nr++].value = value;
}

u64 sim_counter(const struct sim_counters *t, const char *name)
{
	for (unsigned i = 0; i < t->nr; i++)
		if (!strcmp(t->c[i].name, name))
			return t->c[i].value;
	return 0;
}

static void add_counter(void *arg, const char *name, uint64_t value)
{
	sim_counters_add(arg, name, value);
}

/* ---- states ---- */

static void state_add(struct sim_run *r, u64 hash, char *text, u64 begin_pos)
{
	if (!text && r->nr_states && r->state[r->nr_states - 1].hash == hash)
		return;
	r->state = grow(r->state, r->nr_states, &r->max_states, sizeof(r->state[0]));
	r->state[r->nr_states++] = (struct sim_state){
		.hash = hash, .text = text, .op = r->nr_ops, .begin_pos = begin_pos};
}

void sim_run_add_state(struct sim_run *r, u64 begin_pos)
{
	char *text = model_text(&r->m);

	state_add(r, text_hash(text), text, begin_pos);
}

void sim_run_add_floor(struct sim_run *r, u32 state)
{
	r->floor = grow(r->floor, r->nr_floors, &r->max_floors, sizeof(r->floor[0]));
	r->floor[r->nr_floors++] = (struct sim_floor){sim_bdev_log_len(r->bdev), state};
}

u32 sim_run_floor(const struct sim_run *r, u64 pos)
{
	u32 least = 0;

	for (unsigned i = 0; i < r->nr_floors && r->floor[i].pos <= pos; i++)
		least = max(least, r->floor[i].state);
	return least;
}

const struct sim_state *sim_run_find(struct sim_run *r, u64 pos, u64 hash)
{
	for (u32 i = sim_run_floor(r, pos); i < r->nr_states; i++)
		if (r->state[i].begin_pos <= pos && r->state[i].hash == hash)
			return &r->state[i];
	return NULL;
}

static void add_recovery_counter(void *arg, const char *name, uint64_t value)
{
	char buf[48];

	snprintf(buf, sizeof(buf), "recovery.%s", name);
	sim_counters_add(arg, buf, value);
}

/* ---- the operations ---- */

/* The states in the middle of an operation. */
static void add_steps(struct sim_run *r, const struct mop *op, u64 begin)
{
	u32 block = r->cfg.block;
	u64 end = op->offset + op->len;

	for (u64 at = round_up(op->offset + 1, block); at < end; at += block)
		state_add(r, model_hash_cut(&r->m, op, at - op->offset), NULL, begin);
	if (op->type == MOP_FALLOCATE)
		state_add(r, model_hash_cut(&r->m, op, op->len), NULL, begin);
}

/*
 * An operation that failed happened not at all, or whole, or (with steps) in part: what the
 * filesystem shows is what the model takes over.
 */
void sim_run_op_failed(struct sim_run *r, const struct mop *op, u64 begin, int ret)
{
	int err;
	char *now = fs_text(&r->core->fs, &err), *before = model_text(&r->m);
	u64 h = text_hash(now), cut = UINT64_MAX;
	bool none = h == text_hash(before);

	r->errors++;
	r->nospc += err_to_errno(ret) == ENOSPC;
	check(r, !err, "after an operation failed (%s), reading fails: %s", err_str(ret),
	      err_str(err));
	free(before);
	free(now);
	if (none || !mop_changes(op))
		return;
	if (mop_has_steps(op)) {
		add_steps(r, op, begin);
		for (cut = 1; cut <= op->len; cut++) {
			if ((op->offset + cut) % r->cfg.block && cut != op->len)
				continue;
			if (model_hash_cut(&r->m, op, cut) == h)
				break;
		}
		if (cut > op->len)
			cut = UINT64_MAX;
	}
	model_apply(&r->m, op, cut, r->nr_states);
	sim_run_add_state(r, begin);
	check(r, r->state[r->nr_states - 1].hash == h,
	      "an operation failed (%s), and the tree is neither as before nor as after:\n%s",
	      err_str(ret), r->state[r->nr_states - 1].text);
}

void sim_run_op_done(struct sim_run *r, const struct mop *op, u64 begin)
{
	if (mop_has_steps(op))
		add_steps(r, op, begin);
	model_apply(&r->m, op, UINT64_MAX, r->nr_states);
	if (mop_changes(op))
		sim_run_add_state(r, begin);
	if (op->type == MOP_SYNC)
		sim_run_add_floor(r, r->nr_states - 1);
	if (op->type == MOP_FSYNC)
		sim_run_add_floor(r, r->m.n[op->ino].last_state);
}

/* ---- what is not in the model ---- */

static void bulk_xattr(struct sim_run *r, unsigned i)
{
	struct bcfs_ino ino = {BCFS_ROOT_SUBVOL, r->bulk[i]};
	u8 buf[1024];
	int ret;

	memset(buf, (int)i, sizeof(buf));
	ret = bcfs_setxattr(&r->core->fs, ino, "user.bulk", buf, 200 + trand_below(&r->rng, 500),
			    0);
	check(r, !ret || r->cfg.fault != SIM_FAULT_NR, "setxattr: %s", err_str(ret));
}

void sim_run_make_bulk(struct sim_run *r)
{
	const struct bcfs_cred cred = {0};
	struct bcfs *c = &r->core->fs;
	struct bcfs_stat dir, st;
	char name[32];
	int ret = bcfs_mkdir(c, bcfs_root(c), M_BULK_DIR, 0755, &cred, &dir);

	check(r, !ret, "mkdir: %s", err_str(ret));
	r->bulk = calloc(r->cfg.bulk, sizeof(r->bulk[0]));
	for (unsigned i = 0; i < r->cfg.bulk; i++) {
		snprintf(name, sizeof(name), "bulk-%u", i);
		ret = bcfs_mknod(c, dir.ino, name, S_IFREG | 0600, 0, 0, &cred, &st);
		check(r, !ret, "mknod: %s", err_str(ret));
		r->bulk[i] = st.ino.inum;
		bulk_xattr(r, i);
	}
}

static void bulk_touch(struct sim_run *r)
{
	unsigned i = (unsigned)trand_below(&r->rng, r->cfg.bulk);
	struct bcfs_ino ino = {BCFS_ROOT_SUBVOL, r->bulk[i]};
	u8 buf[1024];

	if (trand_below(&r->rng, 3) == 0)
		bulk_xattr(r, i);
	else
		bcfs_getxattr(&r->core->fs, ino, "user.bulk", buf, sizeof(buf));
}

/*
 * A file takes all space, then gives some buckets back: the operations go on in that. The names of
 * a test take few sectors; without this they would never meet the end of a device that a filesystem
 * can be made on.
 */
void sim_run_make_ballast(struct sim_run *r)
{
	const struct bcfs_cred cred = {0};
	struct bcfs *c = &r->core->fs;
	u32 len = r->cfg.bucket;
	struct bcfs_stat dir, st;
	u8 *buf = calloc(1, len);
	u64 size = 0;
	s64 n;
	int ret = bcfs_mkdir(c, bcfs_root(c), M_BULK_DIR, 0755, &cred, &dir);

	check(r, !ret, "mkdir: %s", err_str(ret));
	ret = bcfs_mknod(c, dir.ino, "ballast", S_IFREG | 0600, 0, 0, &cred, &st);
	check(r, !ret, "mknod: %s", err_str(ret));
	while (len >= r->cfg.block) {
		n = bcfs_write(c, st.ino, size, buf, len, 0);
		if (n > 0) {
			size += n;
			continue;
		}
		check(r, err_to_errno((int)n) == ENOSPC, "ballast: %s", err_str((int)n));
		len /= 2;
	}
	free(buf);
	st.size = size - r->cfg.bucket * (4 + trand_below(&r->rng, 12));
	ret = bcfs_setattr(c, st.ino, &st, BCFS_SET_SIZE, &st);
	check(r, !ret, "truncate of the ballast: %s", err_str(ret));
	ret = bcfs_sync(c);
	check(r, !ret, "sync: %s", err_str(ret));
	bcfs_forget(c, st.ino, 1);
	bcfs_forget(c, dir.ino, 1);
}

static void one_op(struct sim_run *r)
{
	u64 begin, cut;
	struct mop op;
	char what[256];
	int ret;

	for (unsigned i = 0; r->cfg.bulk && i < 3; i++)
		bulk_touch(r);
	begin = sim_bdev_log_len(r->bdev);
	while (!model_gen(&r->m, &op))
		;
	r->op = grow(r->op, r->nr_ops, &r->max_ops, sizeof(r->op[0]));
	r->op[r->nr_ops] = op;
	ret = model_exec(&r->m, &r->core->fs, &op, &cut);
	mop_print(&op, what, sizeof(what));
	if (getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "op %u at %llu: %s: %s\n", r->nr_ops, (unsigned long long)begin,
			what, ret ? err_str(ret) : "ok");
	if (ret || cut != UINT64_MAX) {
		check(r, r->cfg.fault != SIM_FAULT_NR || !ret || err_to_errno(ret) == ENOSPC,
		      "operation %u, %s: %s", r->nr_ops, what, err_str(ret));
		sim_run_op_failed(r, &op, begin, ret);
	} else {
		sim_run_op_done(r, &op, begin);
	}
	r->nr_ops++;
	if (trand_below(&r->rng, 5) == 0)
		env_sleep_ns(r->env, trand_below(&r->rng, 400) * ENV_NSEC_PER_MSEC);
}

static struct core_opts core_opts(const struct sim_cfg *cfg)
{
	return (struct core_opts){.noatime = true,
				  .cache_bytes = cfg->cache_bytes,
				  .discard = cfg->discard ? BCFS_ON : BCFS_OFF,
				  .journal_flush_delay_ms = cfg->flush_delay_ms};
}

static void run_main(void *arg)
{
	struct sim_run *r = arg;
	const struct sim_cfg *cfg = &r->cfg;
	struct bcfs_mkfs_opts o = {.struct_size = sizeof(o),
				   .block_bytes = cfg->block,
				   .node_bytes = cfg->node,
				   .bucket_bytes = cfg->bucket,
				   .journal_bytes = cfg->journal,
				   .extent_max_bytes = cfg->extent_max,
				   .log = log_line,
				   .log_arg = (void *)cfg};
	struct core_opts co = core_opts(cfg);
	char msg[CORE_MSG_SIZE] = "";
	int ret = core_mkfs_on(r->env, r->bdev, &o, NULL, msg, sizeof(msg));

	check(r, !ret, "mkfs: %s (%s)", err_str(ret), msg);
	sim_bdev_log_reset(r->bdev);
	r->first_pos = sim_bdev_log_len(r->bdev);
	ret = core_open_on(r->env, r->bdev, &co, log_line, (void *)cfg, &r->core, msg, sizeof(msg));
	check(r, !ret, "open: %s (%s)", err_str(ret), msg);
	sim_run_add_state(r, 0);
	if (cfg->bulk)
		sim_run_make_bulk(r);
	if (cfg->ballast)
		sim_run_make_ballast(r);
	for (unsigned i = 0; i < cfg->prefill; i++)
		one_op(r);
	if (cfg->prefill) {
		ret = bcfs_sync(&r->core->fs);
		check(r, !ret, "sync: %s", err_str(ret));
		sim_run_add_floor(r, r->nr_states - 1);
		sim_bdev_log_reset(r->bdev);
		r->first_pos = sim_bdev_log_len(r->bdev);
	}
	if (cfg->fault != SIM_FAULT_NR)
		sim_bdev_arm(r->bdev, cfg->fault, cfg->fault_at, false);
	for (unsigned i = 0; i < cfg->ops; i++)
		one_op(r);
	bcfs_counters(&r->core->fs, add_counter, r->counters);
	if (cfg->restart_ppm) {
		env_inject_hits(r->env, "trans_restart", &r->restarts[0]);
		env_inject_hits(r->env, "trans_restart_commit", &r->restarts[1]);
	}

	int err;
	char *text = fs_text(&r->core->fs, &err);
	char *want = model_text(&r->m);

	check(r, !err || cfg->fault != SIM_FAULT_NR, "reading the tree: %s", err_str(err));
	check(r, err || !strcmp(text, want), "the live tree is wrong:\n%s\nexpected:\n%s", text,
	      want);
	free(text);
	free(want);
	core_abort(r->core);
}

static void schedule(struct env *env, const struct sim_cfg *cfg)
{
	env_sim_set_preempt(env, cfg->preempt);
	env_sim_set_eager_events(env, cfg->eager);
	env_sim_set_stalls(env, cfg->stall_ppm, cfg->stall_ms * ENV_NSEC_PER_MSEC);
	env_sim_set_time_limit(env, 24 * 3600 * ENV_NSEC_PER_SEC);
	env_set_log(env, env_line, (void *)cfg);
	if (cfg->restart_ppm) {
		env_inject_arm_random(env, "trans_restart", cfg->restart_ppm);
		env_inject_arm_random(env, "trans_restart_commit", cfg->restart_ppm);
	}
}

static struct sim_bdev_opts dev_opts(const struct sim_cfg *cfg)
{
	struct sim_bdev_opts o = {.no_discard = !cfg->discard};

	if (cfg->latency_us)
		o.latency_max_ns = cfg->latency_us * ENV_NSEC_PER_USEC;
	if (cfg->flush_latency_us)
		o.flush_max_ns = cfg->flush_latency_us * ENV_NSEC_PER_USEC;
	return o;
}

void sim_run_do(struct sim_run *r, const struct sim_cfg *cfg, struct sim_counters *counters)
{
	struct sim_bdev_opts o = dev_opts(cfg);
	int ret;

	o.size_bytes = cfg->dev_bytes;
	memset(r, 0, sizeof(*r));
	r->cfg = *cfg;
	r->counters = counters;
	r->rng = cfg->seed ^ 0x5bd1e995;
	model_init(&r->m, cfg->seed, cfg->block, cfg->node);
	r->env = env_sim_create(cfg->seed);
	ret = sim_bdev_create(r->env, "sim", &o, &r->bdev);
	check(r, !ret, "no device: %s", err_str(ret));
	schedule(r->env, &r->cfg);
	ret = env_sim_run(r->env, run_main, r);
	check(r, !ret, "the simulation ended with %s", err_str(ret));
	check(r, !sim_bdev_violations(r->bdev), "%s", sim_bdev_first_violation(r->bdev));
	r->run_hash = env_sim_schedule_hash(r->env) ^ sim_bdev_log_hash(r->bdev);
}

void sim_run_free(struct sim_run *r)
{
	bdev_close(r->bdev);
	env_sim_destroy(r->env);
	model_free(&r->m);
	for (unsigned i = 0; i < r->nr_states; i++)
		free(r->state[i].text);
	free(r->state);
	free(r->floor);
	free(r->bulk);
	free(r->op);
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
	struct core_opts co = core_opts(&rec->run->cfg);
	char msg[CORE_MSG_SIZE] = "";
	int ret = core_open_on(rec->env, rec->bdev, &co, log_line, (void *)&rec->run->cfg, core,
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
	u8 *was = calloc(1, size), *is = calloc(1, size);
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
	free(was);
	free(is);
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

/* A few operations more than survived the crash. */
static bool rec_more_ops(struct sim_recovery *rec, struct bcfs *c)
{
	const struct bcfs_cred cred = {0};
	struct bcfs_stat dir, st;
	u8 buf[20000];

	memset(buf, 'z', sizeof(buf));
	if (!rec_err(rec, "mkdir", bcfs_mkdir(c, bcfs_root(c), "zz", 0755, &cred, &dir), "") ||
	    !rec_err(rec, "create",
		     bcfs_mknod(c, dir.ino, "file", S_IFREG | 0644, 0, 0, &cred, &st), ""))
		return false;
	s64 n = bcfs_write(c, st.ino, 100, buf, sizeof(buf), 0);

	if (n < 0 && err_to_errno((int)n) != ENOSPC && !rec_err(rec, "write", (int)n, ""))
		return false;
	return rec_err(rec, "rename", bcfs_rename(c, dir.ino, "file", bcfs_root(c), "zf", 0), "") &&
	       rec_grow_all(rec, c);
}

/* Make a file, or take it away again. */
static int toggle_file(struct bcfs *c, const char *name, bool dir)
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
	return (int)min_t(s64, n, 0);
}

static bool rec_again(struct sim_recovery *rec, struct bcfs *c)
{
	char name[32];
	int err;

	snprintf(name, sizeof(name), "turn-%u", rec->turn % 7);
	if (!rec_err(rec, "a change", toggle_file(c, name, false), "") ||
	    !rec_err(rec, "sync", bcfs_sync(c), ""))
		return false;
	rec->synced_pos = sim_bdev_log_len(rec->bdev);
	rec->then[0] = fs_text(c, &err);
	if (!rec_err(rec, "reading the tree", err, ""))
		return false;
	if (!rec_err(rec, "a second change", toggle_file(c, "dir", true), ""))
		return false;
	env_sleep_ns(rec->env, rec->turn % 3 * ENV_NSEC_PER_SEC);
	rec->then[1] = fs_text(c, &err);
	return rec_err(rec, "reading the tree", err, "");
}

static bool rec_steps(struct sim_recovery *rec)
{
	struct core *core = NULL;
	char *text = NULL, *again = NULL;
	bool ok = false;
	int err;

	if (!rec_open(rec, &core))
		return false;
	rec->opened_pos = sim_bdev_log_len(rec->bdev);
	rec->text = fs_text(&core->fs, &err);
	if (!rec_err(rec, "reading the tree", err, rec->text) || !rec_nothing_left(rec, core) ||
	    !rec_check(rec, core))
		goto out;
	if (rec->counters)
		bcfs_counters(&core->fs, add_recovery_counter, rec->counters);
	if (!rec->more) {
		ok = !rec->again || rec_again(rec, &core->fs);
		goto out;
	}
	if (!rec_more_ops(rec, &core->fs))
		goto out;
	text = fs_text(&core->fs, &err);
	if (!rec_err(rec, "reading the tree after more operations", err, text))
		goto out;
	err = core_close(core);
	core = NULL;
	if (!rec_err(rec, "close", err, "") || !rec_open(rec, &core))
		goto out;
	again = fs_text(&core->fs, &err);
	if (!rec_err(rec, "reading the tree after a clean close", err, again))
		goto out;
	if (strcmp(text, again)) {
		rec_err(rec, "a clean close and opening", -BCFS_ERR_check_cancelled,
			"the tree changed");
		goto out;
	}
	ok = rec_check(rec, core);
out:
	free(text);
	free(again);
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
	struct sim_bdev_opts o = dev_opts(cfg);
	int ret;

	o.no_log = !rec->keep_log;
	rec->env = env_sim_create(rec->seed);
	ret = sim_bdev_create_from(rec->env, "sim", &o, rec->img, &rec->bdev);
	if (ret)
		return rec_err(rec, "no device", ret, "");
	if (rec->crashed)
		sim_bdev_inherit_lives(rec->bdev, rec->crashed, rec->crash_pos);
	schedule(rec->env, cfg);
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
