// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim.h"

#include "codec/codec.h"

#include "../unit/test_rand.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The last lines of the log, printed with a failure. */
void sim_log_line(void *arg, enum bcfs_log_level level, const char *line)
{
	const struct sim_cfg *cfg = arg;
	bool faults = cfg && cfg->fault != SIM_FAULT_NR;

	if (getenv("BCFS_SIM_LOG") || (level <= BCFS_LOG_WARNING && !faults))
		fprintf(stderr, "log: %s\n", line);
}

static void env_line(void *arg, const char *line)
{
	const struct sim_cfg *cfg = arg;

	/* Not of each fault point that struck. */
	if (getenv("BCFS_SIM_LOG") || !strncmp(line, "simulation:", 11) ||
	    (cfg->fault == SIM_FAULT_NR && !cfg->restart_ppm))
		fprintf(stderr, "env: %s\n", line);
}

static void print_cfg(FILE *f, const struct sim_cfg *c)
{
	fprintf(f,
		TEST_SEED_FMT
		": blocks %u, nodes %u, buckets %u, journal %u, extents %u %s, later %s, cache "
		"%llu, device "
		"%llu, gather %u, inline %u, encrypt %u, copies %u, preempt %u, at locks %u, eager "
		"%u, "
		"restarts %u ppm, "
		"stalls %u "
		"ppm %u ms, "
		"latency %u us, "
		"flush %u us, delay %u ms, discard %u, trim %u, bulk %u, ops %u+%u, fault %d at "
		"%llu\n",
		(unsigned long long)c->seed, c->block, c->node, c->bucket, c->journal,
		c->extent_max, sim_compressions[c->compression], sim_compressions[c->background],
		(unsigned long long)c->cache_bytes, (unsigned long long)c->dev_bytes, c->gather,
		c->inline_max, c->encrypt, c->copies, c->preempt, c->preempt_locks, c->eager,
		c->restart_ppm, c->stall_ppm, c->stall_ms, c->latency_us, c->flush_latency_us,
		c->flush_delay_ms, c->discard, c->trim, c->bulk, c->prefill, c->ops, (int)c->fault,
		(unsigned long long)c->fault_at);
}

/* To stderr, or to the report, if there is one. */
void sim_fail(const struct sim_run *r, const char *fmt, ...)
{
	struct sim_report *rep = r->cfg.report;
	FILE *f = rep ? fmemopen(rep->msg, sizeof(rep->msg) - 1, "w") : stderr;
	va_list args;
	char buf[256];

	for (unsigned i = 0; getenv("BCFS_SIM_LOG") && r->op && i < r->nr_ops; i++) {
		mop_print(&r->op[i], buf, sizeof(buf));
		fprintf(stderr, "op %u: %s\n", i, buf);
	}
	fputs("FAILED: ", f);
	print_cfg(f, &r->cfg);
	va_start(args, fmt);
	vfprintf(f, fmt, args);
	va_end(args);
	fputc('\n', f);
	if (rep) {
		fclose(f);
		rep->run_hash = r->run_hash;
		rep->crashed = r->crashed;
		if (r->crashed)
			rep->place = *r->crashed;
		rep->failed = true;
	}
	_exit(1);
}

void *sim_grow(void *p, unsigned nr, unsigned *max, size_t size)
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
	for (unsigned n = 0; n < t->nr; n++) {
		unsigned i = (t->next + n) % t->nr;

		if (!strcmp(t->c[i].name, name)) {
			t->c[i].value += value;
			t->next = i + 1;
			return;
		}
	}
	if (t->nr == SIM_COUNTERS_MAX)
		return;
	snprintf(t->c[t->nr].name, sizeof(t->c[0].name), "%s", name);
	t->c[t->nr++].value = value;
	t->next = 0;
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

/* ---- windows ---- */

static void add_window_counter(void *arg, const char *name, uint64_t value)
{
	char buf[48];

	snprintf(buf, sizeof(buf), "in.%s", name);
	sim_counters_add(arg, buf, value);
}

static void sub_window_counter(void *arg, const char *name, uint64_t value)
{
	add_window_counter(arg, name, -value);
}

static void window_begin(struct sim_run *r)
{
	r->window = sim_grow(r->window, r->nr_windows, &r->max_windows, sizeof(r->window[0]));
	r->window[r->nr_windows++] = (struct sim_window){
		.begin = sim_bdev_log_len(r->bdev), .end = UINT64_MAX, .first_op = r->nr_ops};
	bcfs_counters(&r->core->fs, sub_window_counter, r->counters);
	/* Dead sectors there are: that they are wanted back falls into some windows. */
	if (r->cfg.stir && r->nr_windows % 16 == 6)
		alloc_gc_kick(r->core->fs.alloc);
}

static void window_end(struct sim_run *r)
{
	struct sim_window *w = r->nr_windows ? &r->window[r->nr_windows - 1] : NULL;

	if (!w || w->end != UINT64_MAX)
		return;
	w->end = sim_bdev_log_len(r->bdev);
	w->nr_ops = r->nr_ops - w->first_op;
	bcfs_counters(&r->core->fs, add_window_counter, r->counters);
}

static void mark_window(struct sim_run *r, u8 mark)
{
	bool open = r->nr_windows && r->window[r->nr_windows - 1].end == UINT64_MAX;

	if (!(mark & SIM_MARK_WINDOW))
		window_end(r);
	else if (!open)
		window_begin(r);
}

/* ---- one by one ---- */

/* Not where the opening may fail: with a fault, or at the end of space (doc/design.md, known gaps).
 */
static bool may_remount(const struct sim_cfg *cfg)
{
	bool may_fail = cfg->fault != SIM_FAULT_NR;

	/* What lies may, but where nothing is there any more when it is read again. */
	if (cfg->lies)
		may_fail = cfg->fault == SIM_FAULT_WRITE_LOST && cfg->fault_sticky;
	return !may_fail && !cfg->ballast && !cfg->plain;
}

static bool next_drawn(struct sim_run *r, struct mop *op)
{
	if (r->nr_ops == r->cfg.prefill + r->cfg.ops)
		return false;
	if (may_remount(&r->cfg) && trand_below(&r->idle_rng, 30) == 0)
		*op = (struct mop){.type = MOP_REMOUNT, .ino = -1};
	else
		while (!model_gen(&r->m, op))
			;
	if (trand_below(&r->rng, 5) == 0)
		op->sleep_ns = trand_below(&r->rng, 400) * ENV_NSEC_PER_MSEC;
	/* Now and then nothing is asked for so long that the clock alone makes all durable. */
	if (!r->cfg.plain && trand_below(&r->idle_rng, 16) == 0)
		op->sleep_ns = sim_clock_bound_ns(&r->cfg) +
			       trand_below(&r->idle_rng, 1000) * ENV_NSEC_PER_MSEC;
	op->mark = r->nr_ops < r->cfg.prefill ? SIM_MARK_PREFILL : 0;
	return true;
}

static bool next_op(struct sim_run *r, struct mop *op)
{
	if (r->ended)
		return false;
	return r->cfg.next ? r->cfg.next(r->cfg.next_arg, r, op) : next_drawn(r, op);
}

static void note_op(struct sim_run *r, const struct mop *op)
{
	struct sim_report *rep = r->cfg.report;

	r->op = sim_grow(r->op, r->nr_ops, &r->max_ops, sizeof(r->op[0]));
	r->op[r->nr_ops] = *op;
	if (rep && r->nr_ops < SIM_REPORT_OPS) {
		rep->op[r->nr_ops] = *op;
		rep->nr_ops = r->nr_ops + 1;
	}
	if (rep)
		rep->beat++;
}

/* The counters of what is closed are gone with it. */
static int remount(struct sim_run *r)
{
	struct core_opts co = sim_core_opts(&r->cfg);
	char msg[CORE_MSG_SIZE] = "";
	int ret;

	bcfs_counters(&r->core->fs, add_counter, r->counters);
	ret = core_close(r->core);
	r->core = NULL;
	sim_check(r, !ret || r->cfg.lies, "operation %u, close: %s", r->nr_ops, err_str(ret));
	if (ret)
		return ret;
	ret = core_open_on(r->env, r->bdev, &co, sim_log_line, &r->cfg, &r->core, msg, sizeof(msg));
	sim_check(r, !ret || (r->cfg.lies && msg[0]), "operation %u, open: %s (%s)", r->nr_ops,
		  err_str(ret), msg);
	return ret;
}

/* Another process, which calls sync(2) all the time: what takes several commits is durable in
 * parts. */
struct syncer {
	struct sim_run *r;
	struct env_thread *t;
	bool stop;
};

static void sync_beside(void *arg)
{
	struct syncer *s = arg;

	/* With nothing to do it does not wait by itself. */
	while (!s->stop && !bcfs_sync(&s->r->core->fs))
		env_sleep_ns(s->r->env, ENV_NSEC_PER_USEC);
}

static bool wants_syncer(const struct sim_run *r, const struct mop *op)
{
	u64 rng = r->cfg.seed + r->nr_ops;

	return (op->type == MOP_FALLOCATE || op->type == MOP_TRUNCATE ||
		(op->type == MOP_WRITE && r->cfg.fault != SIM_FAULT_NR)) &&
	       !r->cfg.plain && trand_below(&rng, 2);
}

/* Another process, which calls fstrim(8). */
static void trim_beside(void *arg)
{
	struct sim_run *r = arg;
	u64 done;
	int ret = bcfs_trim(&r->core->fs, 0, UINT64_MAX, 0, &done);

	sim_check(r, !ret || r->cfg.fault != SIM_FAULT_NR || err_to_errno(ret) == ENOSPC,
		  "trim: %s", err_str(ret));
	sim_counters_add(r->counters, "trims", done != 0);
}

static bool wants_trim(const struct sim_run *r)
{
	u64 rng = r->cfg.seed + r->nr_ops + 1;

	return r->cfg.trim && !trand_below(&rng, 8);
}

static int exec_op(struct sim_run *r, const struct mop *op, u64 *cut)
{
	struct syncer s = {.r = r};
	struct env_thread *trim = NULL;
	bool beside = wants_syncer(r, op);
	int ret;

	if (op->type == MOP_REMOUNT)
		return remount(r);
	if (beside)
		sim_check(r, !env_thread_start(r->env, &s.t, "syncer", sync_beside, &s), "thread");
	if (wants_trim(r))
		sim_check(r, !env_thread_start(r->env, &trim, "trim", trim_beside, r), "thread");
	ret = model_exec(&r->m, &r->core->fs, op, cut);
	s.stop = true;
	if (beside)
		env_thread_join(s.t);
	if (trim)
		env_thread_join(trim);
	return ret;
}

/*
 * To test what is done about a violation: BCFS_SIM_MISTAKE="truncate chmod" makes one of the
 * second operation on a file that has seen the first.
 */
static void mistake(struct sim_run *r, const struct mop *op)
{
	const char *s = getenv("BCFS_SIM_MISTAKE"), *name = mop_type_name(op->type);
	const char *second = s ? strchr(s, ' ') : NULL;

	if (!second)
		return;
	sim_check(r, strcmp(second + 1, name) || r->mistaken != op->ino + 1,
		  "a mistake that was asked for");
	if (!strncmp(s, name, strlen(name)) && s + strlen(name) == second)
		r->mistaken = op->ino + 1;
}

/* The clock may jump to the end of a sleep though there is work to do: not so far at once. */
#define SLEEP_SLICE_NS (20ULL * ENV_NSEC_PER_MSEC)

static void one_op(struct sim_run *r, const struct mop *op)
{
	u64 begin, cut;
	char what[256];
	int ret;

	for (unsigned i = 0; r->nr_bulk && i < (r->cfg.touches ?: 3); i++)
		sim_run_touch_bulk(r), env_sim_progress(r->env);
	/* Not in windows: there are states enough to look at. */
	for (unsigned i = 0; r->cfg.stir && r->ballast_blocks && i < 2; i++)
		if (!(op->mark & SIM_MARK_WINDOW))
			sim_run_stir_ballast(r);
	begin = sim_bdev_log_len(r->bdev);
	note_op(r, op);
	r->op_since = r->cfg.fault == SIM_FAULT_NR ? env_real_ns(r->env) : 0;
	cut = UINT64_MAX;
	ret = exec_op(r, op, &cut);
	mop_print(op, what, sizeof(what));
	if (getenv("BCFS_SIM_LOG"))
		fprintf(stderr, "op %u at %llu: %s: %s\n", r->nr_ops, (unsigned long long)begin,
			what, ret ? err_str(ret) : "ok");
	if (ret || cut != UINT64_MAX) {
		sim_check(r, r->cfg.fault != SIM_FAULT_NR || !ret || err_to_errno(ret) == ENOSPC,
			  "operation %u, %s: %s", r->nr_ops, what, err_str(ret));
		if (r->cfg.lies)
			sim_run_op_doubtful(r, op, begin, ret);
		else
			sim_run_op_failed(r, op, begin, ret);
	} else {
		sim_run_op_done(r, op, begin);
	}
	r->op_since = 0;
	r->nr_ops++;
	mistake(r, op);
	env_sim_progress(r->env);
	for (u64 left = op->sleep_ns, slice; left; left -= slice) {
		slice = min(left, SLEEP_SLICE_NS);
		env_sleep_ns(r->env, slice);
		r->slept_ns += slice;
	}
	sim_run_clock_floor(r);
}

/* What came before is durable, and the log begins here. */
static void end_prefill(struct sim_run *r)
{
	int ret = bcfs_sync(&r->core->fs);

	sim_check(r, !ret, "sync: %s", err_str(ret));
	sim_run_add_floor(r, r->nr_states - 1);
	sim_bdev_log_reset(r->bdev);
	r->first_pos = sim_bdev_log_len(r->bdev);
}

static void all_ops(struct sim_run *r)
{
	bool filling = r->cfg.prefill, armed = false;
	struct mop op;
	bool more;

	do {
		more = next_op(r, &op);
		if (filling && (!more || !(op.mark & SIM_MARK_PREFILL))) {
			end_prefill(r);
			filling = false;
		}
		if (!filling && !armed && r->cfg.fault_to)
			sim_bdev_aim(r->bdev, r->cfg.fault_to);
		if (!filling && !armed && r->cfg.fault != SIM_FAULT_NR)
			sim_bdev_arm(r->bdev, r->cfg.fault, r->cfg.fault_at, r->cfg.fault_sticky);
		armed = !filling;
		if (!more && r->cfg.tail_ms)
			env_sleep_ns(r->env, r->cfg.tail_ms * ENV_NSEC_PER_MSEC);
		mark_window(r, more ? op.mark : 0);
		if (more)
			one_op(r, &op);
	} while (more);
	if (!r->nr_windows) {
		r->window = sim_grow(r->window, 0, &r->max_windows, sizeof(r->window[0]));
		r->window[r->nr_windows++] = (struct sim_window){.begin = r->first_pos,
								 .end = sim_bdev_log_len(r->bdev),
								 .nr_ops = r->nr_ops};
	}
}

/* The tree as the filesystem shows it is the model's. */
static void check_live(struct sim_run *r)
{
	u64 times, want_times;
	int err;
	char *text = fs_text_times(&r->core->fs, &err, &times);
	char *want = model_text_times(&r->m, &want_times);

	sim_check(r, !err || r->cfg.fault != SIM_FAULT_NR, "reading the tree: %s", err_str(err));
	sim_check(r, err || !strcmp(text, want), "the live tree is wrong:\n%s\nexpected:\n%s", text,
		  want);
	sim_check(r, err || !want_times || times == want_times,
		  "the live tree is right, but for times or blocks of what was not touched:\n%s",
		  text);
	free(text);
	free(want);
}

static void stat_root(struct sim_run *r)
{
	const struct mop op = {.type = MOP_SYNC};
	const int root = 0;
	char msg[8];

	model_stat(&r->m, &r->core->fs, &op, &root, 1, 0, 0, msg, sizeof(msg));
	sim_run_add_state(r, 0);
}

u32 sim_small_journal_bytes(u32 block_bytes, u32 bucket_bytes)
{
	u32 room = bucket_bytes - 3536, pins = 24 * max(2048U, block_bytes);
	u32 payload = max(room - min(room, block_bytes), room / 4);

	return bucket_bytes * max(DIV_ROUND_UP(pins, payload) + 2, 8U);
}

int sim_mkfs(struct env *env, struct bdev *bdev, const struct bcfs_mkfs_opts *o, char *msg,
	     size_t msg_size)
{
	int ret = env_inject_arm(env, "mkfs_small_journal", 1, true)
			  ?: core_mkfs_on(env, bdev, o, NULL, msg, msg_size);

	env_inject_disarm_all(env);
	return ret;
}

const char *const sim_restart_names[SIM_RESTART_NR] = {"restarts.iter",	   "restarts.commit",
						       "restarts.lock",	   "restarts.relock",
						       "restarts.journal", "restarts.reads"};

static const char *const restart_points[SIM_RESTART_NR] = {
	"trans_restart",	"trans_restart_commit",	 "trans_restart_lock",
	"trans_restart_relock", "trans_restart_journal", "trans_restart_reads"};

static void arm_restarts(struct env *env, const struct sim_cfg *cfg)
{
	unsigned nr = cfg->restart_everywhere ? SIM_RESTART_NR : SIM_RESTART_COMMIT + 1;

	if (cfg->preempt_trans)
		env_inject_arm(env, restart_points[SIM_RESTART_ITER], 0, false);
	for (unsigned i = 0; cfg->restart_ppm && i < nr; i++)
		env_inject_arm_random(env, restart_points[i], cfg->restart_ppm);
}

const char *const sim_compressions[SIM_COMPRESSIONS] = {"none", "none",	  "none",
							"lz4",	"zstd:1", "zstd:-3"};

u32 sim_compression(u64 seed)
{
	u64 rng = seed ^ 0xc0dec;

	return (u32)trand_below(&rng, SIM_COMPRESSIONS);
}

u32 sim_background(u64 seed)
{
	u64 rng = seed ^ 0xbac49;

	return (u32)trand_below(&rng, SIM_COMPRESSIONS);
}

/* By the option of the mount, or the superblock's. */
static bool compression_of_mount(const struct sim_cfg *cfg)
{
	u64 rng = cfg->seed ^ 0x0917;

	return (cfg->compression || cfg->background) && trand_below(&rng, 2);
}

bool sim_gather(u64 seed)
{
	u64 rng = seed ^ 0x9a78e6;

	return trand_below(&rng, 4);
}

u32 sim_inline(const struct sim_cfg *c, u64 seed)
{
	static const u32 most[] = {0, UINT32_MAX, UINT32_MAX, 100};
	u64 rng = seed ^ 0x171e6;

	return min(data_inline_limit(c->block, c->node), most[trand_below(&rng, ARRAY_SIZE(most))]);
}

bool sim_encrypt(u64 seed)
{
	u64 rng = seed ^ 0x5ec2e7;

	return !trand_below(&rng, 4);
}

static const char key_file[] = "not a secret of anybody, but long enough";
static const struct bcfs_secret mkfs_secret = {BCFS_SECRET_KEY_FILE, key_file, sizeof(key_file)};

struct crypt_secret sim_secret(const struct sim_cfg *cfg)
{
	struct crypt_secret s = {BCFS_CRYPT_SLOT_key_file, key_file, sizeof(key_file)};

	return cfg->encrypt ? s : (struct crypt_secret){0};
}

u32 sim_copies(u64 seed)
{
	u64 rng = seed ^ 0x5a4ed;

	return trand_below(&rng, 5) ? 8 : MODEL_COPIES_MANY;
}

struct core_opts sim_core_opts(const struct sim_cfg *cfg)
{
	struct core_opts ret = {.noatime = true,
				.secret = sim_secret(cfg),
				.no_gather = !cfg->gather,
				.compression_given = compression_of_mount(cfg),
				.cache_bytes = cfg->cache_bytes,
				.discard = cfg->discard ? BCFS_ON : BCFS_OFF,
				.journal_flush_delay_ms = cfg->flush_delay_ms};

	ret.background_compression_given = ret.compression_given;
	if (ret.compression_given) {
		compression_opt_parse(sim_compressions[cfg->compression], &ret.compression, NULL);
		compression_opt_parse(sim_compressions[cfg->background],
				      &ret.background_compression, NULL);
	}
	return ret;
}

struct bcfs_mkfs_opts sim_mkfs_opts(const struct sim_cfg *cfg)
{
	return (struct bcfs_mkfs_opts){
		.struct_size = sizeof(struct bcfs_mkfs_opts),
		.block_bytes = cfg->block,
		.node_bytes = cfg->node,
		.bucket_bytes = cfg->bucket,
		.journal_bytes = cfg->journal,
		.extent_max_bytes = cfg->extent_max,
		.inline_max_bytes = cfg->inline_max ?: BCFS_INLINE_NONE,
		.compression =
			compression_of_mount(cfg) ? NULL : sim_compressions[cfg->compression],
		.background_compression =
			compression_of_mount(cfg) ? NULL : sim_compressions[cfg->background],
		.secret = cfg->encrypt ? &mkfs_secret : NULL,
		.log = sim_log_line,
		.log_arg = (void *)cfg};
}

static void run_main(void *arg)
{
	struct sim_run *r = arg;
	const struct sim_cfg *cfg = &r->cfg;
	struct bcfs_mkfs_opts o = sim_mkfs_opts(cfg);
	struct core_opts co = sim_core_opts(cfg);
	char msg[CORE_MSG_SIZE] = "";
	int ret = sim_mkfs(r->env, r->bdev, &o, msg, sizeof(msg));

	sim_check(r, !ret, "mkfs: %s (%s)", err_str(ret), msg);
	arm_restarts(r->env, cfg);
	sim_bdev_log_reset(r->bdev);
	r->first_pos = sim_bdev_log_len(r->bdev);
	ret = core_open_on(r->env, r->bdev, &co, sim_log_line, (void *)cfg, &r->core, msg,
			   sizeof(msg));
	sim_check(r, !ret, "open: %s (%s)", err_str(ret), msg);
	stat_root(r);
	if (cfg->bulk)
		sim_run_make_bulk(r);
	if (cfg->ballast)
		sim_run_make_ballast(r);
	if (cfg->bulk || cfg->ballast)
		stat_root(r);
	all_ops(r);
	if (r->core)
		bcfs_counters(&r->core->fs, add_counter, r->counters);
	for (unsigned i = 0; i < SIM_RESTART_NR; i++)
		env_inject_hits(r->env, restart_points[i], &r->restarts[i]);
	if (cfg->end) {
		cfg->end(r, r->core);
		return;
	}
	check_live(r);
	core_abort(r->core);
}

void sim_schedule(struct env *env, const struct sim_cfg *cfg)
{
	env_sim_set_preempt(env, cfg->preempt);
	env_sim_set_eager_events(env, cfg->eager);
	env_sim_set_stalls(env, cfg->stall_ppm, cfg->stall_ms * ENV_NSEC_PER_MSEC);
	env_sim_set_time_limit(env, 24 * 3600 * ENV_NSEC_PER_SEC);
	env_sim_set_progress_limit(env, 4000000, 3600 * ENV_NSEC_PER_SEC);
	env_set_log(env, env_line, (void *)cfg);
	env_sim_set_preempt_points(env, cfg->preempt_trans);
	env_sim_set_preempt_locks(env, cfg->preempt_locks);
	arm_restarts(env, cfg);
}

struct sim_bdev_opts sim_dev_opts(const struct sim_cfg *cfg)
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
	struct sim_bdev_opts o = sim_dev_opts(cfg);
	int ret;

	o.size_bytes = cfg->dev_bytes;
	memset(r, 0, sizeof(*r));
	r->cfg = *cfg;
	r->counters = counters;
	r->rng = cfg->seed ^ 0x5bd1e995;
	r->bulk_rng = r->rng + 1;
	r->idle_rng = r->rng + 2;
	if (cfg->report) {
		cfg->report->cfg = *cfg;
		cfg->report->nr_ops = 0;
	}
	model_init(&r->m, cfg->seed, cfg->block, cfg->node);
	r->m.inline_max = cfg->inline_max;
	r->m.copies = cfg->copies;
	r->env = env_sim_create(cfg->seed);
	r->stacks = env_sim_stacks_create();
	ret = sim_bdev_create(r->env, "sim", &o, &r->bdev);
	sim_check(r, !ret, "no device: %s", err_str(ret));
	if (cfg->encrypt)
		sim_bdev_watch_crypt(r->bdev);
	sim_schedule(r->env, &r->cfg);
	ret = env_sim_run(r->env, run_main, r);
	sim_check(r, !ret, "the simulation ended with %s", err_str(ret));
	sim_check(r, !sim_bdev_violations(r->bdev), "%s", sim_bdev_first_violation(r->bdev));
	r->run_hash = env_sim_schedule_hash(r->env) ^ sim_bdev_log_hash(r->bdev);
}

void sim_run_free(struct sim_run *r)
{
	bdev_close(r->bdev);
	env_sim_destroy(r->env);
	env_sim_stacks_destroy(r->stacks);
	model_free(&r->m);
	for (unsigned i = 0; i < r->nr_states; i++)
		free(r->state[i].text);
	free(r->state);
	free(r->floor);
	free(r->handles.h);
	free(r->window);
	free(r->bulk);
	free(r->op);
}
