// SPDX-License-Identifier: LGPL-2.1-or-later
#include "crypt_world.h"

#include "btree/btree.h"

#include <criterion/criterion.h>

static const char key[] = "the bytes of a key file, of which there are more than 32";
const struct bcfs_secret world_key_file = {BCFS_SECRET_KEY_FILE, key, sizeof(key)};
const struct crypt_secret world_right = {BCFS_CRYPT_SLOT_key_file, key, sizeof(key)},
			  world_wrong = {BCFS_CRYPT_SLOT_key_file, key, sizeof(key) - 1},
			  world_passphrase = {BCFS_CRYPT_SLOT_passphrase, key, 9};

void world_mkfs(struct world *w, const struct bcfs_secret *s)
{
	struct bcfs_mkfs_opts o = {.struct_size = sizeof(o),
				   .node_bytes = 16 << 10,
				   .bucket_bytes = 64 << 10,
				   .journal_bytes = 1 << 20,
				   .force = 1,
				   .secret = s};
	struct bcfs_info info;
	char msg[CORE_MSG_SIZE] = "";

	must(!core_mkfs_on(w->env, w->bdev, &o, &info, msg, sizeof(msg)), "%s", msg);
	must(info.encrypted == !!s, "info");
}

int world_open_with(struct world *w, const struct crypt_secret *s, char msg[static CORE_MSG_SIZE])
{
	struct core_opts o = {.noatime = true, .cache_bytes = 1};

	if (s)
		o.secret = *s;
	*msg = 0;
	return core_open_on(w->env, w->bdev, &o, NULL, NULL, &w->c, msg, CORE_MSG_SIZE);
}

void world_opens(struct world *w, const struct crypt_secret *s)
{
	char msg[CORE_MSG_SIZE];

	must(!world_open_with(w, s, msg), "%s", msg);
}

static void go_on_with(struct world *w, struct sim_image *img)
{
	struct sim_bdev_opts o = w->dev;

	must(!sim_bdev_violations(w->bdev), "%s", sim_bdev_first_violation(w->bdev));
	bdev_close(w->bdev);
	must(!sim_bdev_create_from(w->env, "sim", &o, img, &w->bdev), "device");
	sim_bdev_watch_crypt(w->bdev);
	sim_image_free(img);
}

void world_crash(struct world *w)
{
	core_abort(w->c);
	bdev_drain(w->bdev);
	go_on_with(w, sim_bdev_image(w->bdev));
}

void world_crash_to(struct world *w, struct sim_image *img)
{
	core_abort(w->c);
	bdev_drain(w->bdev);
	go_on_with(w, img);
}

void world_check(struct world *w)
{
	struct bcfs_check_opts o = {.struct_size = sizeof(o)};
	struct bcfs_check_result res = {0};

	btree_interior_flush(w->c->fs.btree);
	must(!core_check(w->c, &o, &res) && !res.errors, "%llu errors",
	     (unsigned long long)res.errors);
}

void world_wait_rekeyed(struct world *w)
{
	for (unsigned i = 0; bcfs_key_generations(&w->c->fs) > 1; i++) {
		must(i < 100000, "the old key is in use for ever");
		env_sleep_ns(w->env, 2 * ENV_NSEC_PER_MSEC);
	}
}

void world_run(void (*fn)(void *arg), u64 seed, bool watched)
{
	world_run_slow(fn, seed, watched, 0);
}

void world_run_slow(void (*fn)(void *arg), u64 seed, bool watched, u64 latency_max_ns)
{
	struct world w = {.env = env_sim_create(seed),
			  .dev = {.size_bytes = WORLD_DEV_BYTES,
				  .no_log = true,
				  .latency_min_ns = latency_max_ns / 1000,
				  .latency_max_ns = latency_max_ns}};

	cr_assert_eq(sim_bdev_create(w.env, "sim", &w.dev, &w.bdev), 0);
	if (watched)
		sim_bdev_watch_crypt(w.bdev);
	cr_assert_eq(env_sim_run(w.env, fn, &w), 0);
	cr_assert_eq(sim_bdev_violations(w.bdev), 0, "%s", sim_bdev_first_violation(w.bdev));
	bdev_close(w.bdev);
	env_sim_destroy(w.env);
}
