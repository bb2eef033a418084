// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: lookup references may be taken, dropped, marked and listed by several threads at once.
 * Method: threads take and drop references of the same inodes, which stay referenced and unlinked
 * by somebody else; only that one's last is the last. A plain program, to be run under
 * ThreadSanitizer too.
 */
#include "../test_must.h"
#include "../test_rand.h"
#include "fs/table.h"
#include "util/cleanup.h"

#define NR_THREADS 4
#define NR_INODES  4000U
#define ROUNDS	   60000U

struct arg {
	struct bcfs *c;
	u64 rng;
};

static struct bcfs_ino ino_of(u64 i)
{
	return (struct bcfs_ino){1 + i % 2, 4096 + i / 2 * (i % 3 ? 1 : 1000)};
}

static void work(void *p)
{
	struct arg *a = p;

	for (unsigned i = 0; i < trand_rounds(ROUNDS); i++) {
		struct bcfs_ino ino = ino_of(trand_below(&a->rng, NR_INODES));
		u64 nr = trand_below(&a->rng, 64) ? 1 : 200;

		for (u64 j = 0; j < nr; j++)
			must(!inode_ref(a->c, ino), "ref");
		must(!inode_unlinked(a->c, ino), "it is referenced");
		must(!inode_unref(a->c, ino, nr), "not the last");
		if (i % 1000 == 0) {
			CLEANUP(darray_exit_p) darray_u64 keys = {0};

			must(!inode_refs_list(a->c, i / 1000 % FS_REF_SHARDS, &keys), "list");
		}
	}
}

int main(void)
{
	struct env_thread *threads[NR_THREADS];
	struct arg args[NR_THREADS];
	struct bcfs c = {0};

	must(!env_real_create(&c.env) && !fs_init(&c), "no environment");
	for (unsigned i = 0; i < NR_INODES; i++) {
		must(!inode_ref(&c, ino_of(i)), "ref");
		must(!inode_unlinked(&c, ino_of(i)), "it is referenced");
	}
	for (unsigned i = 0; i < NR_THREADS; i++) {
		args[i] = (struct arg){&c, trand_seed(1) + i};
		must(!env_thread_start(c.env, &threads[i], "refs", work, &args[i]), "thread");
	}
	for (unsigned i = 0; i < NR_THREADS; i++)
		env_thread_join(threads[i]);
	for (unsigned i = 0; i < NR_INODES; i++)
		must(inode_unref(&c, ino_of(i), 1), "%u: that was the last", i);
	fs_exit(&c);
	env_real_destroy(c.env);
	return 0;
}
