// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: an opening that fails ends in one line which names the device, the place and what to do;
 * damage is not said of what was only lacking. Method: a filesystem that was not closed, on the
 * simulated device, opened with damage where its roots and its journal lie, and with every
 * allocation failing in turn.
 */
#include "core/core.h"
#include "dev/sim_bdev.h"
#include "env/env_sim.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEV_BYTES (32ULL << 20)
#define FAILURES  400 /* of allocations, at most */

struct made {
	struct sim_image *img;
	struct journal_carried carried; /* with the roots */
	u64 journal_offset, bucket_bytes;
	unsigned nr_journal;
};

struct dev {
	struct env *env;
	struct bdev *bdev;
};

static struct dev dev_of(struct sim_image *img)
{
	struct sim_bdev_opts o = {.size_bytes = DEV_BYTES};
	struct dev d = {.env = env_sim_create(1)};
	int ret = img ? sim_bdev_create_from(d.env, "sim", &o, img, &d.bdev)
		      : sim_bdev_create(d.env, "sim", &o, &d.bdev);

	cr_assert_eq(ret, 0);
	return d;
}

static void dev_free(struct dev *d)
{
	bdev_close(d->bdev);
	env_sim_destroy(d->env);
}

static int open_it(struct dev *d, bool read_only, struct core **c, char msg[CORE_MSG_SIZE])
{
	struct core_opts o = {
		.read_only = read_only, .no_background = read_only, .cache_bytes = 4 << 20};

	*msg = 0;
	return core_open_on(d->env, d->bdev, &o, NULL, NULL, c, msg, CORE_MSG_SIZE);
}

/* Made, opened, changed, and left as after a power cut. */
static struct made make(void)
{
	struct bcfs_mkfs_opts o = {.struct_size = sizeof(o),
				   .node_bytes = 16 << 10,
				   .bucket_bytes = 64 << 10,
				   .journal_bytes = 1 << 20};
	struct bcfs_cred cred = {.umask = 022};
	struct dev d = dev_of(NULL);
	struct made m = {0};
	char msg[CORE_MSG_SIZE], name[16];
	struct bcfs_stat st;
	struct core *c;

	cr_assert_eq(core_mkfs_on(d.env, d.bdev, &o, NULL, msg, sizeof(msg)), 0, "%s", msg);
	cr_assert_eq(open_it(&d, false, &c, msg), 0, "%s", msg);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		cr_assert_eq(bcfs_mkdir(&c->fs, bcfs_root(&c->fs), name, 0755, &cred, &st), 0);
		cr_assert_eq(bcfs_fsync(&c->fs, st.ino, 0), 0);
	}
	m.bucket_bytes = 64 << 10;
	m.journal_offset = c->journal_buckets[0] * m.bucket_bytes;
	m.nr_journal = c->nr_journal_buckets;
	core_abort(c);
	m.img = sim_bdev_image(d.bdev);
	dev_free(&d);

	/* The roots that the next opening will begin with. */
	d = dev_of(m.img);
	cr_assert_eq(open_it(&d, true, &c, msg), 0, "%s", msg);
	m.carried = c->carried;
	core_abort(c);
	dev_free(&d);
	return m;
}

static void expect(const char *msg, const char *place, const char *advice)
{
	cr_assert(!strncmp(msg, "sim: ", 5) && strncmp(msg, "sim: sim", 8),
		  "does not name the device: %s", msg);
	cr_assert(strstr(msg, place), "no word of %s: %s", place, msg);
	cr_assert(strstr(msg, advice), "no advice: %s", msg);
	cr_assert(!strchr(msg, '\n'));
}

static void refused(struct dev *d, const char *place, const char *advice)
{
	char msg[CORE_MSG_SIZE];
	struct core *c;

	cr_assert(open_it(d, false, &c, msg) < 0);
	expect(msg, place, advice);
	dev_free(d);
}

Test(open_errors, damaged_root)
{
	struct made m = make();
	struct journal_root *r = &m.carried.roots[BTREE_ID_inodes];
	const struct bcfs_btree_ptr *p = (const void *)r->k.v;
	const struct bcfs_extent_ptr *e = (const void *)p->start;
	char place[64], zeros[4096] = {0};
	struct dev d;

	cr_assert(r->alive);
	snprintf(place, sizeof(place), "btree inodes level %u node at sector %llu", r->level,
		 (unsigned long long)e->offset);
	d = dev_of(m.img);
	sim_bdev_poke(d.bdev, (u64)e->offset << 9, zeros, sizeof(zeros));
	refused(&d, place, ": run fsck.bcfs sim");
	d = dev_of(m.img);
	sim_bdev_set_bad(d.bdev, (u64)e->offset << 9, 4096, true);
	refused(&d, place, ": check the device, then run fsck.bcfs sim");
	sim_image_free(m.img);
}

static void log_to_fd(void *arg, enum bcfs_log_level level, const char *line)
{
	dprintf(*(int *)arg, "%s\n", line);
}

/* errors=panic ends the process, but not without a word. */
Test(open_errors, panic)
{
	struct made m = make();
	const struct bcfs_btree_ptr *p = (const void *)m.carried.roots[BTREE_ID_inodes].k.v;
	const struct bcfs_extent_ptr *e = (const void *)p->start;
	struct core_opts o = {.on_error = BCFS_ON_ERROR_PANIC, .cache_bytes = 4 << 20};
	char msg[CORE_MSG_SIZE], said[2048] = "", zeros[4096] = {0};
	int fds[2], status;
	struct core *c;
	size_t len = 0;
	ssize_t got;
	pid_t pid;

	cr_assert(!pipe(fds));
	pid = fork();
	if (!pid) {
		struct dev d = dev_of(m.img);

		sim_bdev_poke(d.bdev, (u64)e->offset << 9, zeros, sizeof(zeros));
		core_open_on(d.env, d.bdev, &o, log_to_fd, &fds[1], &c, msg, sizeof(msg));
		_exit(0);
	}
	close(fds[1]);
	while ((got = read(fds[0], said + len, sizeof(said) - 1 - len)) > 0)
		len += got;
	close(fds[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	cr_assert(strstr(said, "sim: btree inodes level"), "%s", said);
	cr_assert(strstr(said, "errors=panic"), "%s", said);
	sim_image_free(m.img);
}

Test(open_errors, damaged_journal)
{
	struct made m = make();
	struct dev d = dev_of(m.img);
	char place[128];

	sim_bdev_set_bad(d.bdev, m.journal_offset, m.nr_journal * m.bucket_bytes, true);
	snprintf(place, sizeof(place),
		 "journal: %llu blocks cannot be read, the first at sector %llu",
		 m.nr_journal * m.bucket_bytes / 4096ULL,
		 (unsigned long long)m.journal_offset >> 9);
	refused(&d, place, "-o ro,norecovery");
	d = dev_of(m.img);
	sim_bdev_set_bad(d.bdev, m.journal_offset, m.nr_journal * m.bucket_bytes, true);
	refused(&d, place, "run fsck.bcfs sim");
	sim_image_free(m.img);
}

/* Memory and threads that are not to be had are no damage, and have a remedy of their own. */
Test(open_errors, what_is_lacking)
{
	struct made m = make();
	u64 nr, step, failed = 0;

	struct dev d = dev_of(m.img);
	char msg[CORE_MSG_SIZE];
	struct core *c;
	u64 before = env_sim_nr_allocs(d.env);

	cr_assert_eq(open_it(&d, false, &c, msg), 0, "%s", msg);
	nr = env_sim_nr_allocs(d.env) - before;
	core_abort(c);
	dev_free(&d);
	step = max(nr / FAILURES, 1ULL);
	for (u64 k = 1; k <= nr; k += step) {
		d = dev_of(m.img);
		env_sim_fail_alloc(d.env, k, false);
		int ret = open_it(&d, false, &c, msg);

		env_sim_fail_alloc(d.env, 0, false);
		if (!ret) {
			core_abort(c);
		} else {
			cr_assert(ret == -BCFS_ERR_nomem || ret == -BCFS_ERR_thread_start,
				  "allocation %llu: %s", (unsigned long long)k, err_name(ret));
			expect(msg, ret == -BCFS_ERR_nomem ? "out of memory" : "thread", "");
			cr_assert_not(strstr(msg, "fsck") || strstr(msg, "damage"), "%s", msg);
			failed++;
		}
		dev_free(&d);
	}
	cr_assert_gt(failed, 20);
	cr_log_info("%llu allocations, %llu failures", (unsigned long long)nr,
		    (unsigned long long)failed);
	sim_image_free(m.img);
}
