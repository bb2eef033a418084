// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: the file operations do what POSIX says, in every order, with colliding hashes and
 * transaction restarts, and leave a filesystem that the checkers find clean.
 * Method: random operations on few names against a model in memory: each returns the same
 * errno; now and then the whole tree is compared, and the filesystem closed or crashed and
 * opened again.
 */
#include "names_model.h"

#include <criterion/criterion.h>

static void names_main(struct fsx *fx, void *arg)
{
	struct model *m = arg;

	expect(m, fsx_open(fx), 0, "open");
	model_init(m, fx);
	if (m->inject_ppm) {
		env_inject_arm_random(fx->env, "trans_restart", m->inject_ppm);
		env_inject_arm_random(fx->env, "trans_restart_commit", m->inject_ppm);
	}
	for (unsigned i = 0; i < m->ops; i++) {
		model_one_op(m);
		if (i % 500 == 499)
			model_compare(m);
		if (i % 1000 == 999)
			model_reopen(m, trand_below(&m->rng, 2));
	}
	model_compare(m);
	expect(m, fsx_close(fx), 0, "close");
	model_free(m);
}

static void run(u64 seed, u32 node_bytes, u8 hash_bits, unsigned ops, unsigned inject_ppm)
{
	struct fsx *fx = calloc(1, sizeof(*fx));
	struct model *m = calloc(1, sizeof(*m));

	m->seed = m->rng = trand_seed(seed);
	m->ops = ops;
	m->inject_ppm = inject_ppm;
	fx->hash_bits = hash_bits;
	fx->node_bytes = node_bytes;
	/* All pieces of one may have to fit into one node. */
	m->xattr_max = min_t(u32, node_bytes / 4, BCFS_XATTR_SIZE_MAX);
	fsx_run(fx, m->seed, names_main, m);
	free(m);
	free(fx);
}

Test(names, model, .timeout = 250)
{
	run(1, 256 << 10, 0, 5000, 0);
}

Test(names, model_collisions, .timeout = 250)
{
	run(2, 16 << 10, 3, 5000, 0);
}

Test(names, model_restarts, .timeout = 250)
{
	run(3, 16 << 10, 3, 2500, 20000);
}
