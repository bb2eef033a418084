/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: a device is opened once, and each refusal has its own code and one line
 * that names the device. Method: a forked second opener; a loop device where
 * the machine allows one.
 */
#include "dev/bdev_private.h"
#include "test_util.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct env *real_env(void)
{
	struct env *env;

	cr_assert_eq(env_real_create(&env), 0);
	return env;
}

static int open_code(const char *path, const struct bdev_opts *opts, char *msg)
{
	struct env *env;
	struct bdev *b;
	int ret = env_real_create(&env);

	if (ret)
		return ret;
	ret = bdev_open(env, path, opts, &b, msg, BDEV_MSG_SIZE);
	if (!ret)
		bdev_close(b);
	env_real_destroy(env);
	return ret;
}

/* A holder in a process of its own; it has the device open once this returns. */
static pid_t hold(const char *path, const struct bdev_opts *opts, unsigned int ms)
{
	int fds[2];
	char ok = 0;
	pid_t pid;

	cr_assert_eq(pipe(fds), 0);
	pid = fork();
	if (!pid) {
		struct env *env;
		struct bdev *b;

		ok = !env_real_create(&env) && !bdev_open(env, path, opts, &b, NULL, 0);
		if (write(fds[1], &ok, 1) != 1)
			_exit(1);
		usleep(ms * 1000);
		_exit(0);
	}
	cr_assert_eq(read(fds[0], &ok, 1), 1);
	cr_assert(ok);
	close(fds[0]);
	close(fds[1]);
	return pid;
}

static void expect(const char *path, const struct bdev_opts *opts, int code, const char *words)
{
	char msg[BDEV_MSG_SIZE] = "";
	int ret = open_code(path, opts, msg);

	cr_assert_eq(ret, -code, "%s: got %s (%s)", path, err_name(ret), msg);
	cr_assert(!strncmp(msg, path, strlen(path)), "does not name the device: %s", msg);
	cr_assert(strstr(msg, words), "'%s' does not say '%s'", msg, words);
	cr_assert(!strchr(msg, '\n'));
}

Test(bdev_claim, messages)
{
	struct bdev_opts writing_unlocked = {.unlocked = true};
	char path[256], sub[300];

	cr_assert(test_file(test_dir(), path, sizeof(path), 0));
	snprintf(sub, sizeof(sub), "%s/x", path);
	expect("/nonexistent/image", NULL, BCFS_ERR_dev_not_found, "no such file");
	expect(sub, NULL, BCFS_ERR_dev_not_found, "no such file");
	expect(test_dir(), NULL, BCFS_ERR_dev_is_dir, "is a directory");
	expect("/dev/null", NULL, BCFS_ERR_dev_not_block, "neither");
	expect(path, NULL, BCFS_ERR_dev_empty, "no size");
	expect(path, &writing_unlocked, BCFS_ERR_dev_bad_opts, "without the lock");
	unlink(path);
	cr_assert_eq(mkfifo(path, 0600), 0);
	expect(path, NULL, BCFS_ERR_dev_not_block, "neither");
	unlink(path);
}

Test(bdev_claim, permission)
{
	char path[256];
	int status;
	pid_t pid;

	cr_assert(test_file(test_dir(), path, sizeof(path), 65536));
	cr_assert_eq(chmod(path, 0444), 0);
	pid = fork();
	if (!pid) {
		struct bdev_opts ro = {.read_only = true};
		char msg[BDEV_MSG_SIZE];

		if (getuid() == 0 && (setgid(65534) || setuid(65534)))
			_exit(2);
		if (open_code(path, NULL, msg) != -BCFS_ERR_dev_permission)
			_exit(3);
		_exit(open_code(path, &ro, msg) ? 4 : 0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0, "child: %d", WEXITSTATUS(status));
	unlink(path);
}

Test(bdev_claim, image_is_opened_once)
{
	static const struct bdev_opts rw = {0}, ro = {.read_only = true},
				      ro_excl = {.read_only = true, .exclusive = true},
				      look = {.read_only = true, .unlocked = true};
	char path[256], msg[BDEV_MSG_SIZE];
	pid_t pid;

	cr_assert(test_file(test_dir(), path, sizeof(path), 65536));
	pid = hold(path, &rw, 60000);
	expect(path, &rw, BCFS_ERR_dev_in_use, "in use");
	expect(path, &ro, BCFS_ERR_dev_in_use, "in use"); /* fsck of a mounted image */
	cr_assert_eq(open_code(path, &look, msg), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	cr_assert_eq(open_code(path, &rw, msg), 0); /* the lock ends with its holder */

	pid = hold(path, &ro, 60000);
	cr_assert_eq(open_code(path, &ro, msg), 0);
	expect(path, &ro_excl, BCFS_ERR_dev_in_use, "in use");
	expect(path, &rw, BCFS_ERR_dev_in_use, "in use");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unlink(path);
}

/* Closing another descriptor of the file must not drop the lock (as fcntl locks would). */
Test(bdev_claim, lock_survives_other_descriptors)
{
	struct env *env = real_env();
	char path[256];
	struct bdev *b;
	int fd;

	cr_assert(test_file(test_dir(), path, sizeof(path), 65536));
	cr_assert_eq(bdev_open(env, path, NULL, &b, NULL, 0), 0);
	fd = open(path, O_RDONLY);
	close(fd);
	expect(path, NULL, BCFS_ERR_dev_in_use, "in use");
	bdev_close(b);
	unlink(path);
	env_real_destroy(env);
}

struct told {
	u32 nr;
	char msg[BDEV_MSG_SIZE];
};

static void on_wait(void *ctx, const char *msg)
{
	struct told *t = ctx;

	t->nr++;
	snprintf(t->msg, sizeof(t->msg), "%s", msg);
}

Test(bdev_claim, waits_for_the_lock)
{
	struct told told = {0};
	struct bdev_opts wait = {.wait_lock_ms = 20000, .on_wait = on_wait, .on_wait_ctx = &told};
	struct bdev_opts brief = {.wait_lock_ms = 100, .on_wait = on_wait, .on_wait_ctx = &told};
	char path[256], msg[BDEV_MSG_SIZE];
	pid_t pid;

	cr_assert(test_file(test_dir(), path, sizeof(path), 65536));
	pid = hold(path, NULL, 500);
	expect(path, &brief, BCFS_ERR_dev_in_use, "in use");
	cr_assert_eq(told.nr, 1);
	told.nr = 0;
	cr_assert_eq(open_code(path, &wait, msg), 0);
	cr_assert_eq(told.nr, 1);
	cr_assert(strstr(told.msg, path) && strstr(told.msg, "waiting"), "%s", told.msg);
	waitpid(pid, NULL, 0);
	unlink(path);
}

/* ---- where it is mounted ---- */

/* A mountinfo of one daemon's mount of `source`, on top of what `other` says. */
static bool mounted(const char *path, const char *type, const char *source, const char *other)
{
	char text[2048], point[64] = "";
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	snprintf(text, sizeof(text),
		 "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n%s"
		 "29 22 0:44 / /mnt/a\\040b rw,nosuid shared:9 - %s %s rw,user_id=0\n",
		 other, type, source);
	if (!bdev_mount_in(text, path, &st, point, sizeof(point)))
		return false;
	cr_assert_str_eq(point, "/mnt/a b");
	return true;
}

/* Any name of the file will do; what might never answer is not asked. */
Test(bdev_claim, mounts_under_other_names)
{
	char path[256], hard[300], soft[300], other[600];
	char dir[300], below[400], hop[700], *tmp = realpath(test_dir(), NULL);

	cr_assert(tmp && test_file(tmp, path, sizeof(path), 65536));
	snprintf(hard, sizeof(hard), "%s.hard", path);
	snprintf(soft, sizeof(soft), "%s.soft", path);
	snprintf(dir, sizeof(dir), "%s.d", path);
	snprintf(below, sizeof(below), "%s/image", dir);
	cr_assert(!link(path, hard) && !symlink(path, soft) && !mkdir(dir, 0755) &&
		  !link(path, below));

	cr_assert(mounted(path, "fuse.bcfs", path, ""));
	cr_assert(mounted(hard, "fuse.bcfs", path, ""));
	cr_assert(mounted(path, "fuse.bcfs", hard, ""));
	cr_assert(mounted(path, "fuseblk", hard, ""));
	cr_assert(mounted(soft, "fuse.bcfs", path, ""));
	cr_assert(mounted(path, "fuse.bcfs", below, ""));
	cr_assert_not(mounted(path, "fuse.bcfs", "/nonexistent", ""));
	cr_assert_not(mounted(path, "fuse.bcfs", "bcfs", ""));
	cr_assert_not(mounted(path, "fuse.other", hard, ""));
	cr_assert_not(mounted(path, "ext4", path, ""));

	/* The directory is, or lies below, another daemon's. */
	snprintf(other, sizeof(other), "28 22 0:43 / %s rw - fuse.x x rw\n", dir);
	cr_assert_not(mounted(path, "fuse.bcfs", below, other));
	cr_assert(mounted(below, "fuse.bcfs", below, other)); /* by its name */
	cr_assert(mounted(path, "fuse.bcfs", hard, other));
	snprintf(other, sizeof(other), "28 22 0:43 / %s rw - nfs4 h:/x rw\n", tmp);
	cr_assert_not(mounted(path, "fuse.bcfs", hard, other));
	snprintf(other, sizeof(other), "28 22 0:43 / %s/im rw - fuse.x x rw\n", dir);
	cr_assert(mounted(path, "fuse.bcfs", below, other)); /* a name that only begins alike */
	/* A symbolic link is followed, but not to where somebody would have to answer. */
	cr_assert(mounted(path, "fuse.bcfs", soft, ""));
	cr_assert(mounted(path, "fuse.bcfs", soft, other));
	unlink(soft);
	cr_assert(!symlink(strrchr(hard, '/') + 1, soft)); /* relative */
	cr_assert(mounted(path, "fuse.bcfs", soft, ""));
	unlink(soft);
	snprintf(other, sizeof(other), "28 22 0:43 / %s rw - fuse.x x rw\n", dir);
	for (int rel = 0; rel < 2; rel++) {
		snprintf(hop, sizeof(hop), "..%s/%s/image", strrchr(tmp, '/'),
			 strrchr(dir, '/') + 1);
		cr_assert(!symlink(rel ? hop : below, soft));
		cr_assert(mounted(path, "fuse.bcfs", soft, ""));
		cr_assert_not(mounted(path, "fuse.bcfs", soft, other));
		unlink(soft);
	}
	cr_assert(!symlink("/dev/null", soft));
	cr_assert_not(mounted(path, "fuse.bcfs", soft, ""));
	unlink(soft);
	cr_assert(!symlink(soft, soft));
	cr_assert_not(mounted(path, "fuse.bcfs", soft, ""));

	free(tmp);
	unlink(below);
	rmdir(dir);
	unlink(soft);
	unlink(hard);
	unlink(path);
}

/* ---- block devices ---- */

/* A loop device on `path`; false where there is none to be had. */
static bool loop_setup(const char *path, char *loop, size_t size)
{
	int ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd, lo, nr, zero = 0;
	bool ok = false;

	for (int i = 0; ctl >= 0 && i < 10 && !ok; i++) {
		nr = ioctl(ctl, LOOP_CTL_GET_FREE);
		if (nr < 0)
			break;
		snprintf(loop, size, "/dev/loop%d", nr);
		fd = open(path, O_RDWR | O_CLOEXEC);
		lo = open(loop, O_RDWR | O_CLOEXEC);
		ok = fd >= 0 && lo >= 0 && !ioctl(lo, LOOP_SET_FD, fd);
		if (ok) /* what its last user set stays with the device */
			ioctl(lo, BLKROSET, &zero);
		close(lo);
		close(fd);
	}
	if (ctl >= 0)
		close(ctl);
	return ok;
}

static void loop_clear(const char *loop)
{
	int fd = open(loop, O_RDWR | O_CLOEXEC);

	ioctl(fd, LOOP_CLR_FD, 0);
	close(fd);
}

Test(bdev_claim, block_device)
{
	struct env *env = real_env();
	char path[256], loop[64], msg[BDEV_MSG_SIZE] = "";
	u8 buf[4096], out[4096];
	struct bdev *b;
	pid_t pid;
	int fd;

	cr_assert(test_file(test_dir(), path, sizeof(path), 1 << 20));
	if (!loop_setup(path, loop, sizeof(loop))) {
		unlink(path);
		cr_skip_test("no loop devices here");
	}
	/* Somebody has it in use, as a mount has. */
	fd = open(loop, O_RDWR | O_EXCL | O_CLOEXEC);
	cr_assert(fd >= 0);
	expect(loop, NULL, BCFS_ERR_dev_in_use, "in use");
	close(fd);

	cr_assert_eq(bdev_open(env, loop, NULL, &b, msg, sizeof(msg)), 0, "%s", msg);
	cr_assert_not(b->is_file);
	cr_assert_eq(b->size_bytes, 1 << 20);
	test_fill(buf, sizeof(buf), 1);
	cr_assert_eq(bdev_write(b, 8192, buf, sizeof(buf), BDEV_FUA | BDEV_PREFLUSH), 0);
	cr_assert_eq(bdev_read(b, 8192, out, sizeof(out)), 0);
	cr_assert(!memcmp(buf, out, sizeof(buf)));
	cr_assert_eq(bdev_flush(b), 0);
	if (b->can_discard)
		cr_assert_eq(bdev_discard(b, 8192, 4096), 0);
	else
		cr_assert_eq(bdev_discard(b, 8192, 4096), -BCFS_ERR_dev_no_discard);
	cr_assert_lt(open(loop, O_RDWR | O_EXCL | O_CLOEXEC), 0); /* nobody may mount it */
	bdev_release_excl(b);
	fd = open(loop, O_RDWR | O_EXCL | O_CLOEXEC); /* now a mount(2) could claim it */
	cr_assert_geq(fd, 0);
	close(fd);
	expect(loop, NULL, BCFS_ERR_dev_in_use, "in use"); /* but we still have it locked */
	bdev_close(b);

	pid = hold(loop, NULL, 60000);
	expect(loop, NULL, BCFS_ERR_dev_in_use, "in use");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	loop_clear(loop);
	unlink(path);
	env_real_destroy(env);
}
