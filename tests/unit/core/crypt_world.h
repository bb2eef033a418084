/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One small encrypted filesystem on the simulated device, for the tests of encryption. */
#ifndef BCFS_TESTS_CORE_CRYPT_WORLD_H
#define BCFS_TESTS_CORE_CRYPT_WORLD_H

#include "../test_must.h"
#include "core/core.h"
#include "dev/sim_bdev.h"

#include <stdio.h>
#include <stdlib.h>

#define WORLD_DEV_BYTES (64ULL << 20)

/* What opens it, twice, and what does not. */
extern const struct bcfs_secret world_key_file;
extern const struct crypt_secret world_right, world_wrong, world_passphrase;

struct world {
	struct env *env;
	struct bdev *bdev;
	struct sim_bdev_opts dev;
	struct core *c;
};

void world_mkfs(struct world *w, const struct bcfs_secret *s);
/* s: NULL: none is given. */
int world_open_with(struct world *w, const struct crypt_secret *s, char msg[static CORE_MSG_SIZE]);
void world_opens(struct world *w, const struct crypt_secret *s);
/* What is on the device now goes on; nobody holds w->c any more. */
void world_crash(struct world *w);
/* The same with the image of an earlier moment, which is freed. */
void world_crash_to(struct world *w, struct sim_image *img);
void world_check(struct world *w);
/* Until one key is in use. */
void world_wait_rekeyed(struct world *w);
/* fn(world) in a fiber, on a new device; watched: nothing readable may get to it. */
void world_run(void (*fn)(void *arg), u64 seed, bool watched);
/* Requests take up to latency_max_ns. */
void world_run_slow(void (*fn)(void *arg), u64 seed, bool watched, u64 latency_max_ns);

#endif
