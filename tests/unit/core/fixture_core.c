// SPDX-License-Identifier: LGPL-2.1-or-later
/* The same fixture on the whole core: superblock, allocator, checksummed data. */
#include "core/core.h"
#include "../fs/fixture.h"

#include <stdio.h>
#include <stdlib.h>

#define DEV_BYTES (256ULL << 20)

static void log_line(void *arg, enum bcfs_log_level level, const char *line)
{
	if (level <= BCFS_LOG_WARNING)
		fprintf(stderr, "log: %s\n", line);
}

static int make(struct fsx *fx)
{
	struct bcfs_mkfs_opts o = {.struct_size = sizeof(o),
				   .block_bytes = fx->block_bytes ?: 4096,
				   .node_bytes = fx->node_bytes,
				   .bucket_bytes = fx->bucket_bytes ? fx->bucket_bytes
						   : fx->dev_bytes  ? 64 << 10
								    : 256 << 10,
				   .journal_bytes = fx->journal_bytes
							    ?: fx->dev_bytes ? 1 << 20
									     : 8 << 20,
				   .log = log_line};
	char msg[256] = "";
	int ret = core_mkfs_on(fx->env, fx->bdev, &o, NULL, msg, sizeof(msg));

	if (ret)
		fprintf(stderr, "mkfs: %s\n", msg);
	fx->made = true;
	return ret;
}

int fsx_open(struct fsx *fx)
{
	struct core_opts o = {.noatime = true, .cache_bytes = fx->cache_bytes ?: 8 << 20};
	char msg[256] = "";
	struct core *core;
	int ret = fx->made ? 0 : make(fx);

	if (!ret)
		ret = core_open_on(fx->env, fx->bdev, &o, log_line, NULL, &core, msg, sizeof(msg));
	if (ret) {
		fprintf(stderr, "open: %s\n", msg);
		return ret;
	}
	fx->core = core;
	fx->c = &core->fs;
	fx->c->fs_opts.hash_bits = fx->hash_bits;
	return 0;
}

int fsx_close(struct fsx *fx)
{
	fx->c = NULL;
	return core_close(fx->core);
}

void fsx_abandon(struct fsx *fx)
{
	fx->c = NULL;
	core_abort(fx->core);
}

static void report(void *arg, enum bcfs_check_level level, const char *pass, const char *text)
{
	fprintf(stderr, "check: %s: %s\n", pass, text);
}

u64 fsx_check(struct fsx *fx)
{
	struct bcfs_check_opts o = {.struct_size = sizeof(o), .report = report};
	struct bcfs_check_result r = {0};
	int ret = core_check(fx->core, &o, &r);

	if (ret)
		fprintf(stderr, "check: %s\n", err_str(ret));
	return r.errors + !!ret;
}

void fsx_free_bdev(struct fsx *fx)
{
	bdev_close(fx->bdev);
	env_sim_destroy(fx->env);
}

static void run_main(void *arg)
{
	struct fsx *fx = arg;

	fx->fn(fx, fx->arg);
}

void fsx_run(struct fsx *fx, u64 seed, void (*fn)(struct fsx *fx, void *arg), void *arg)
{
	struct sim_bdev_opts o = {.size_bytes = fx->dev_bytes ?: DEV_BYTES,
				  .no_log = !fx->keep_bdev};
	int ret;

	fx->fn = fn;
	fx->arg = arg;
	fx->node_bytes = fx->node_bytes ?: 16384;
	fx->env = env_sim_create(seed);
	ret = fx->image ? sim_bdev_create_from(fx->env, "sim", &o, fx->image, &fx->bdev)
			: sim_bdev_create(fx->env, "sim", &o, &fx->bdev);
	must(!ret, "no device");

	ret = env_sim_run(fx->env, run_main, fx);
	must(!ret, "the simulation ended with %s", err_str(ret));
	must(!sim_bdev_violations(fx->bdev), "%s", sim_bdev_first_violation(fx->bdev));
	if (!fx->keep_bdev)
		fsx_free_bdev(fx);
}
