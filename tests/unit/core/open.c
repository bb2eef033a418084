// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: what stands in the way of an opening is said in one line, and what goes wrong later has the
 * effect that errors= promises, and is remembered.
 * Method: one small filesystem on the simulated device; its superblock made wrong, memory, the
 * device or a node taken away; each time the code, the words, and what a later opening finds. Then
 * real image files through the public calls.
 */
#include "core/core.h"
#include "../fs/fixture.h"
#include "btree/btree.h"
#include "sb/sb.h"
#include "sb/sb_crypt.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 700

struct heard {
	char all[8192];
};

static void hear(void *arg, enum bcfs_log_level level, const char *line)
{
	struct heard *h = arg;

	if (h && strlen(h->all) + strlen(line) + 2 < sizeof(h->all)) {
		strcat(h->all, line);
		strcat(h->all, "\n");
	}
}

static int open_with(struct fsx *fx, const struct core_opts *o, struct heard *h, struct core **core,
		     char msg[static CORE_MSG_SIZE])
{
	*msg = 0;
	*core = NULL;
	return core_open_on(fx->env, fx->bdev, o, hear, h, core, msg, CORE_MSG_SIZE);
}

/* Refused with that code and those words, on one line that begins with the device. */
static void refused(struct fsx *fx, const struct core_opts *o, int err, const char *says)
{
	char msg[CORE_MSG_SIZE];
	struct core *core;
	int ret = open_with(fx, o, NULL, &core, msg);

	must(ret == err, "%s: %s: \"%s\"", says, err_str(ret), msg);
	must(!strncmp(msg, "sim: ", 5) && strstr(msg, says) && !strchr(msg, '\n'),
	     "no \"%s\" in \"%s\"", says, msg);
}

static struct bcfs_cred root_cred;

/* Enough names for several leaves in each btree. */
static void fill(struct fsx *fx)
{
	for (unsigned i = 0; i < FILES; i++) {
		struct bcfs_stat st;
		char name[64];

		snprintf(name, sizeof(name), "a name that takes some room %u", i);
		must(!bcfs_mknod(fx->c, bcfs_root(fx->c), name, S_IFREG | 0644, 0, 0, &root_cred,
				 &st),
		     "mknod");
		if (i % 50 == 0)
			must(bcfs_write(fx->c, st.ino, 0, name, sizeof(name), 0) == sizeof(name),
			     "write");
		bcfs_forget(fx->c, st.ino, 1);
	}
}

static int look_all(struct bcfs *c)
{
	for (unsigned i = 0; i < FILES; i++) {
		struct bcfs_stat st;
		char name[64];
		int ret;

		snprintf(name, sizeof(name), "a name that takes some room %u", i);
		ret = bcfs_lookup(c, bcfs_root(c), name, &st);
		if (ret)
			return ret;
		bcfs_forget(c, st.ino, 1);
	}
	return 0;
}

static void make(struct fsx *fx)
{
	must(!fsx_open(fx), "open");
	fill(fx);
	must(!fsx_close(fx), "close");
}

/* ---- the superblock ---- */

static struct sb_handle *take_sb(struct fsx *fx)
{
	struct sb_handle *sb;

	must(!sb_read(fx->env, fx->bdev, NULL, &sb), "sb_read");
	return sb;
}

static void give_sb(struct sb_handle *sb)
{
	sb->read_only = false;
	must(!sb_write(sb), "sb_write");
	sb_free(sb);
}

static void superblock_main(struct fsx *fx, void *arg)
{
	static const struct core_opts rw = {.noatime = true}, ro = {.read_only = true};
	/* a root whose key is longer than it says */
	u64 garbage[1 + BKEY_U64s] = {0};
	char msg[CORE_MSG_SIZE];
	struct heard h = {""};
	struct sb_handle *sb;
	struct core *core;

	make(fx);
	sb = take_sb(fx);
	sb->sb->features_ro_compat[0] |= 1ULL << 62;
	give_sb(sb);
	refused(fx, &rw, -BCFS_ERR_core_ro_features, "can only read: mount it read-only");
	must(!open_with(fx, &ro, NULL, &core, msg), "read-only: %s", msg);
	must(!look_all(&core->fs), "lookup");
	must(!core_close(core), "close");
	sb = take_sb(fx);
	sb->sb->features_ro_compat[0] &= ~(1ULL << 62);
	/* an error of an earlier mount */
	sb->sb->flags[0] |= BCFS_SB_FLAG_ERROR;
	give_sb(sb);
	must(!open_with(fx, &rw, &h, &core, msg), "open: %s", msg);
	must(strstr(h.all, "errors were met at an earlier mount"), "\"%s\"", h.all);
	must(!core_close(core), "close");

	/* a clean section that makes no sense, and none */
	*(struct jset_entry *)garbage = (struct jset_entry){
		.u64s = BKEY_U64s, .btree_id = 0, .type = BCFS_JSET_ENTRY_btree_root};
	sb = take_sb(fx);
	must(!sb_clean_set(sb, 1000, garbage, ARRAY_SIZE(garbage)), "sb_clean_set");
	give_sb(sb);
	refused(fx, &rw, -BCFS_ERR_core_clean_invalid, "clean section is damaged");
	sb = take_sb(fx);
	sb->sb->flags[0] &= ~BCFS_SB_FLAG_CLEAN;
	must(!sb_field_resize(sb, BCFS_SB_FIELD_clean, 0, NULL), "sb_field_resize");
	give_sb(sb);
	refused(fx, &rw, -BCFS_ERR_core_no_clean, "mkfs was interrupted");

	/* an encrypted filesystem */
	sb = take_sb(fx);
	must(!sb_crypt_make(sb, &(struct crypt_secret){BCFS_CRYPT_SLOT_passphrase, "secret", 6},
			    &(struct crypt_kdf){1, BCFS_CRYPT_KDF_MEM_MIN}),
	     "sb_crypt_make");
	give_sb(sb);
	refused(fx, &rw, -BCFS_ERR_sb_crypt_locked, "is encrypted");
	refused(fx, &ro, -BCFS_ERR_sb_crypt_locked, "is encrypted");
}

Test(open, superblock)
{
	struct fsx fx = {.node_bytes = 16384};

	fsx_run(&fx, 0x09e1, superblock_main, NULL);
}

/*
 * A device that has lost the superblocks of a session that a crash ended: the older one says that
 * all was closed cleanly. Again and again, so that the ring has its end anywhere.
 */
static void lost_superblocks_main(struct fsx *fx, void *arg)
{
	const struct core_opts o = {.noatime = true, .read_only = true};
	char msg[CORE_MSG_SIZE];
	struct core *core;

	make(fx);
	for (unsigned i = 0; i < FILES; i += 50) {
		struct sb_handle *sb = take_sb(fx);
		struct heard h = {""};
		char name[64];

		must(!fsx_open(fx), "open");
		for (unsigned n = i; n < i + 50; n++) {
			snprintf(name, sizeof(name), "a name that takes some room %u", n);
			must(!bcfs_unlink(fx->c, bcfs_root(fx->c), name), "unlink");
			must(n % 10 || !bcfs_sync(fx->c), "sync");
		}
		fsx_abandon(fx);
		must(sb->sb->flags[0] & BCFS_SB_FLAG_CLEAN, "not clean");
		give_sb(sb);
		must(!open_with(fx, &o, &h, &core, msg), "open: %s", msg);
		must(strstr(h.all, "not closed cleanly: replaying"), "\"%s\"", h.all);
		must(strstr(h.all, "the device has lost a write"), "\"%s\"", h.all);
		must(!core_close(core), "close");
		must(!fsx_open(fx), "open");
		for (unsigned n = i; n < i + 50; n++) {
			struct bcfs_stat st;

			snprintf(name, sizeof(name), "a name that takes some room %u", n);
			int ret = bcfs_lookup(fx->c, bcfs_root(fx->c), name, &st);

			must(ret == -BCFS_ERR_no_such_name || n > i + 40, "%s: %s", name,
			     err_str(ret));
			if (!ret)
				bcfs_forget(fx->c, st.ino, 1);
		}
		must(!fsx_close(fx), "close");
	}
}

Test(open, lost_superblocks)
{
	struct fsx fx = {.node_bytes = 16384};

	fsx_run(&fx, 0x09e7, lost_superblocks_main, NULL);
}

/* ---- tries, each on a device of its own that is as it was ---- */

static struct bdev *begin_try(struct fsx *fx, struct sim_image **img)
{
	struct sim_crash how = {.rule = SIM_CRASH_ALL};
	struct sim_bdev_opts o = {.no_log = true};
	struct bdev *bdev = fx->bdev;

	if (!*img)
		*img = sim_bdev_crash(bdev, &how);
	must(!sim_bdev_create_from(fx->env, "sim", &o, *img, &fx->bdev), "no device");
	return bdev;
}

static void end_try(struct fsx *fx, struct bdev *bdev)
{
	bdev_close(fx->bdev);
	fx->bdev = bdev;
}

/* The last try is what goes on. */
static void end_tries(struct fsx *fx, struct sim_image *img)
{
	struct bdev *old = begin_try(fx, &img);

	bdev_close(old);
	sim_image_free(img);
}

/* ---- memory ---- */

/* The kth allocation fails, for every k: a line that says so, or it is done without. */
static void no_memory(struct fsx *fx, bool read_only)
{
	const struct core_opts o = {.noatime = true, .read_only = read_only};
	struct sim_image *img = NULL;
	unsigned failed = 0;
	bool over = false;

	for (u64 k = 1; !over && k < 400; k++) {
		struct bdev *bdev = begin_try(fx, &img);
		u64 before = env_sim_nr_allocs(fx->env);
		char msg[CORE_MSG_SIZE];
		struct core *core;

		env_sim_fail_alloc(fx->env, k, false);
		int ret = open_with(fx, &o, NULL, &core, msg);

		over = env_sim_nr_allocs(fx->env) - before < k;
		env_sim_fail_alloc(fx->env, 0, false);
		if (ret) {
			must(strstr(msg, "sim: ") == msg &&
				     (ret == -BCFS_ERR_nomem ? strstr(msg, "memory")
							     : strstr(msg, "thread")),
			     "allocation %llu: %s: \"%s\"", (unsigned long long)k, err_str(ret),
			     msg);
			failed++;
		} else {
			core_abort(core);
		}
		end_try(fx, bdev);
	}
	end_tries(fx, img);
	must(failed > 20, "only %u allocations count", failed);
}

static void memory_main(struct fsx *fx, void *arg)
{
	make(fx);
	no_memory(fx, true);
	no_memory(fx, false);
	/* the same after a crash */
	must(!fsx_open(fx), "open");
	for (unsigned i = 0; i < FILES; i += 3) {
		char name[64];

		snprintf(name, sizeof(name), "a name that takes some room %u", i);
		must(!bcfs_unlink(fx->c, bcfs_root(fx->c), name), "unlink");
	}
	must(!bcfs_sync(fx->c), "sync");
	fsx_abandon(fx);
	no_memory(fx, true);
	no_memory(fx, false);
	must(!fsx_open(fx), "open");
	must(!fsx_check(fx), "check");
	must(!fsx_close(fx), "close");
}

Test(open, memory)
{
	struct fsx fx = {.node_bytes = 16384};

	fsx_run(&fx, 0x09e2, memory_main, NULL);
}

/* ---- a device that fails while mounted ---- */

static struct core *reopen(struct fsx *fx, u8 on_error, struct heard *h)
{
	const struct core_opts o = {
		.noatime = true, .cache_bytes = 1, .on_error = on_error, .no_background = true};
	char msg[CORE_MSG_SIZE];
	struct core *core;

	must(!open_with(fx, &o, h, &core, msg), "open: %s", msg);
	return core;
}

static void reads_main(struct fsx *fx, void *arg)
{
	struct heard h = {""};
	struct bcfs_stat st;
	struct core *core;
	int ret;

	make(fx);
	/* errors=continue: what cannot be read fails, the rest goes on, the error is counted */
	core = reopen(fx, BCFS_ON_ERROR_CONTINUE, NULL);
	sim_bdev_arm(fx->bdev, SIM_FAULT_READ_ERROR, 1, true);
	ret = look_all(&core->fs);
	must(ret == -BCFS_ERR_dev_read, "%s", err_str(ret));
	must(!bcfs_is_read_only(&core->fs), "read-only in spite of errors=continue");
	sim_bdev_arm(fx->bdev, SIM_FAULT_READ_ERROR, 0, false);
	must(!look_all(&core->fs), "lookup");
	must(!core_close(core), "close");
	struct sb_handle *sb = take_sb(fx);
	must(sb_member_get(sb->sb, 0).errors[0], "no read error is counted");
	must(!(sb->sb->flags[0] & BCFS_SB_FLAG_ERROR), "flag");
	sb_free(sb);

	/* errors=ro: read-only from then on, and the superblock says so */
	core = reopen(fx, BCFS_ON_ERROR_RO, &h);
	sim_bdev_arm(fx->bdev, SIM_FAULT_READ_ERROR, 1, true);
	ret = look_all(&core->fs);
	must(ret == -BCFS_ERR_dev_read, "%s", err_str(ret));
	sim_bdev_arm(fx->bdev, SIM_FAULT_READ_ERROR, 0, false);
	must(strstr(h.all, "read-only from now on"), "\"%s\"", h.all);
	must(bcfs_is_read_only(&core->fs), "not read-only");
	ret = bcfs_mknod(&core->fs, bcfs_root(&core->fs), "no", S_IFREG, 0, 0, &root_cred, &st);
	must(ret && err_to_errno(ret) == EROFS, "%s", err_str(ret));
	ret = core_close(core);
	must(ret == -BCFS_ERR_dev_read, "close: %s", err_str(ret));
	sb = take_sb(fx);
	must(sb->sb->flags[0] & BCFS_SB_FLAG_ERROR, "no flag");
	sb_free(sb);
	/* nothing is lost by that */
	core = reopen(fx, BCFS_ON_ERROR_RO, NULL);
	must(!look_all(&core->fs), "lookup");
	must(!core_close(core), "close");
}

Test(open, reads_fail)
{
	struct fsx fx = {.node_bytes = 16384};

	fsx_run(&fx, 0x09e3, reads_main, NULL);
}

static void panic_main(struct fsx *fx, void *arg)
{
	struct core *core;

	make(fx);
	core = reopen(fx, BCFS_ON_ERROR_PANIC, NULL);
	sim_bdev_arm(fx->bdev, SIM_FAULT_READ_ERROR, 1, true);
	look_all(&core->fs);
	exit(0); /* it should not have come here */
}

Test(open, panic, .signal = SIGABRT)
{
	struct fsx fx = {.node_bytes = 16384};

	fsx_run(&fx, 0x09e4, panic_main, NULL);
}

/* The journal cannot be written any more: all that was synced is there at the next opening. */
static void writes_main(struct fsx *fx, void *arg)
{
	struct heard h = {""};
	struct bcfs_stat st;
	struct core *core;
	int ret;

	make(fx);
	core = reopen(fx, BCFS_ON_ERROR_RO, &h);
	ret = bcfs_mknod(&core->fs, bcfs_root(&core->fs), "lost", S_IFREG, 0, 0, &root_cred, &st);
	must(!ret, "%s", err_str(ret));
	sim_bdev_arm(fx->bdev, SIM_FAULT_FLUSH_ERROR, 1, true);
	must(bcfs_sync(&core->fs), "sync");
	must(strstr(h.all, "the journal cannot be written"), "\"%s\"", h.all);
	must(bcfs_is_read_only(&core->fs), "not read-only");
	bcfs_forget(&core->fs, st.ino, 1);
	must(core_close(core), "close");
	sim_bdev_arm(fx->bdev, SIM_FAULT_FLUSH_ERROR, 0, false);
	core = reopen(fx, BCFS_ON_ERROR_RO, NULL);
	must(!look_all(&core->fs), "lookup");
	must(bcfs_lookup(&core->fs, bcfs_root(&core->fs), "lost", &st), "it was not synced");
	must(!core_close(core), "close");
}

Test(open, writes_fail)
{
	struct fsx fx = {.node_bytes = 16384};

	fsx_run(&fx, 0x09e5, writes_main, NULL);
}

/* While opening: what to do is in the line. */
static void opening_main(struct fsx *fx, void *arg)
{
	static const struct core_opts rw = {.noatime = true};
	struct sim_image *img = NULL;
	unsigned refusals = 0;

	make(fx);
	must(!fsx_open(fx), "open");
	for (unsigned i = 0; i < 20; i++) {
		char name[64];

		snprintf(name, sizeof(name), "a name that takes some room %u", i);
		must(!bcfs_unlink(fx->c, bcfs_root(fx->c), name), "unlink");
	}
	must(!bcfs_sync(fx->c), "sync");
	fsx_abandon(fx);
	for (u64 k = 1; k < 12; k++) {
		static const enum sim_fault faults[] = {SIM_FAULT_READ_ERROR, SIM_FAULT_WRITE_ERROR,
							SIM_FAULT_FLUSH_ERROR};
		struct bdev *bdev = begin_try(fx, &img);
		char msg[CORE_MSG_SIZE];
		struct core *core;

		sim_bdev_arm(fx->bdev, faults[k % 3], k, true);
		int ret = open_with(fx, &rw, NULL, &core, msg);

		if (ret) {
			must(!strncmp(msg, "sim: ", 5), "\"%s\"", msg);
			refusals += strstr(msg, "check the device") != NULL;
		} else {
			core_abort(core);
		}
		end_try(fx, bdev);
	}
	end_tries(fx, img);
	must(refusals, "none says to check the device");
	must(!fsx_open(fx), "open");
	must(!fsx_check(fx), "check");
	must(!fsx_close(fx), "close");
}

Test(open, device_fails_while_opening)
{
	struct fsx fx = {.node_bytes = 16384};

	fsx_run(&fx, 0x09e6, opening_main, NULL);
}

/* ---- by path ---- */

static char path[64];

static void make_file(void)
{
	struct bcfs_mkfs_opts o = {.struct_size = sizeof(o), .size_bytes = 64 << 20};
	char msg[512] = "";
	int fd;

	strcpy(path, "/tmp/bcfs-open.XXXXXX");
	fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	close(fd);
	cr_assert_eq(bcfs_mkfs(path, &o, NULL, msg, sizeof(msg)), 0, "%s", msg);
}

static void remove_file(void)
{
	unlink(path);
}

Test(open_file, options, .init = make_file, .fini = remove_file)
{
	struct heard h = {""};
	struct bcfs_open_opts o = {.struct_size = sizeof(o), .log = hear, .log_arg = &h};
	struct bcfs *fs, *second;
	char msg[512] = "", log[80];
	struct bcfs_stat st;

	for (unsigned io = BCFS_IO_AUTO; io <= BCFS_IO_THREADS; io++) {
		o.io = io;
		o.direct = io == BCFS_IO_THREADS ? BCFS_OFF : BCFS_DEFAULT;
		cr_assert_eq(bcfs_open(path, &o, &fs, msg, sizeof(msg)), 0, "%s", msg);
		cr_assert_eq(bcfs_mkdir(fs, bcfs_root(fs), io ? io == 1 ? "b" : "c" : "a", 0755,
					&root_cred, &st),
			     0);
		bcfs_forget(fs, st.ino, 1);
		cr_assert_eq(bcfs_close(fs), 0);
	}

	/* Locked: said at once, and who waits says that he does. */
	cr_assert_eq(bcfs_open(path, &o, &fs, msg, sizeof(msg)), 0, "%s", msg);
	cr_assert_neq(bcfs_open(path, &o, &second, msg, sizeof(msg)), 0);
	cr_assert(strstr(msg, path), "%s", msg);
	h.all[0] = 0;
	o.wait_lock_ms = 300;
	cr_assert_neq(bcfs_open(path, &o, &second, msg, sizeof(msg)), 0);
	cr_assert(strstr(h.all, path), "no notice: \"%s\"", h.all);
	bcfs_abort(fs);
	o.wait_lock_ms = 0;

	cr_assert_neq(bcfs_open("/nonexistent/image", &o, &fs, msg, sizeof(msg)), 0);
	cr_assert(strstr(msg, "/nonexistent/image"), "%s", msg);
	cr_assert_eq(bcfs_open(path, NULL, &fs, msg, sizeof(msg)), 0, "%s", msg);
	cr_assert_eq(bcfs_close(fs), 0);

	snprintf(log, sizeof(log), "%s.log", path);
	o.write_log = log;
	int ret = bcfs_open(path, &o, &fs, msg, sizeof(msg));

	if (ret) {
		cr_assert(strstr(msg, "without fault points"), "%s", msg);
		return;
	}
	cr_assert_eq(bcfs_close(fs), 0);
	cr_assert_eq(access(log, F_OK), 0);
	unlink(log);
	o.write_log = "/nonexistent/log";
	cr_assert_neq(bcfs_open(path, &o, &fs, msg, sizeof(msg)), 0);
	cr_assert(strstr(msg, "write-log=/nonexistent/log: "), "%s", msg);
	o.write_log = NULL;
	o.inject = "no such thing";
	cr_assert_neq(bcfs_open(path, &o, &fs, msg, sizeof(msg)), 0);
	cr_assert(strstr(msg, "inject=no such thing: "), "%s", msg);
	o.inject = "trans_restart:100";
	cr_assert_eq(bcfs_open(path, &o, &fs, msg, sizeof(msg)), 0, "%s", msg);
	cr_assert_eq(bcfs_close(fs), 0);
}

static int reopen_as(struct bcfs **fs, bool read_only, char *msg, size_t size)
{
	struct bcfs_open_opts o = {.struct_size = sizeof(o), .read_only = read_only};

	*msg = 0;
	return bcfs_reopen(fs, &o, msg, size);
}

/* Read-only and back under who uses it: references stay, and so does the device. */
Test(open_file, reopened, .init = make_file, .fini = remove_file)
{
	struct bcfs_open_opts ro = {.struct_size = sizeof(ro), .read_only = 1};
	struct bcfs *fs, *second;
	struct bcfs_stat st, held;
	char msg[512] = "";

	cr_assert_eq(bcfs_open(path, &ro, &fs, msg, sizeof(msg)), 0, "%s", msg);
	/* Others read it too: who would write has to wait, and goes on reading. */
	cr_assert_eq(bcfs_open(path, &ro, &second, msg, sizeof(msg)), 0, "%s", msg);
	cr_assert_eq(bcfs_errno(reopen_as(&fs, false, msg, sizeof(msg))), EBUSY, "%s", msg);
	cr_assert(fs && strstr(msg, path), "%s", msg);
	cr_assert_eq(bcfs_errno(bcfs_mkdir(fs, bcfs_root(fs), "a", 0755, &root_cred, &st)), EROFS);
	cr_assert_eq(bcfs_close(second), 0);
	cr_assert_eq(reopen_as(&fs, false, msg, sizeof(msg)), 0, "%s", msg);
	cr_assert_neq(bcfs_open(path, &ro, &second, msg, sizeof(msg)), 0);

	cr_assert_eq(bcfs_mknod(fs, bcfs_root(fs), "f", S_IFREG | 0644, 0, 0, &root_cred, &held),
		     0);
	cr_assert_eq(bcfs_write(fs, held.ino, 0, "text", 4, 0), 4);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(reopen_as(&fs, true, msg, sizeof(msg)), 0, "%s", msg);
		cr_assert(bcfs_is_read_only(fs));
		cr_assert_eq(bcfs_errno(bcfs_unlink(fs, bcfs_root(fs), "f")), EROFS);
		cr_assert_eq(bcfs_getattr(fs, held.ino, &st), 0);
		cr_assert_eq(reopen_as(&fs, false, msg, sizeof(msg)), 0, "%s", msg);
	}
	/* The reference of before keeps it, and its end is the inode's. */
	cr_assert_eq(bcfs_unlink(fs, bcfs_root(fs), "f"), 0);
	cr_assert_eq(bcfs_getattr(fs, held.ino, &st), 0);
	cr_assert_eq(bcfs_read(fs, held.ino, 0, msg, 9), 4);
	/* Closing would reap it: not while it is in use. */
	cr_assert_eq(bcfs_errno(reopen_as(&fs, true, msg, sizeof(msg))), EBUSY, "%s", msg);
	cr_assert(!bcfs_is_read_only(fs));
	cr_assert_eq(bcfs_read(fs, held.ino, 0, msg, 9), 4);
	bcfs_forget(fs, held.ino, 1);
	cr_assert_eq(bcfs_sync(fs), 0);
	for (unsigned i = 0; i < 500 && !bcfs_getattr(fs, held.ino, &st); i++)
		usleep(10000);
	cr_assert_neq(bcfs_getattr(fs, held.ino, &st), 0);
	cr_assert_eq(bcfs_close(fs), 0);
}
