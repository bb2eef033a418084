// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * How long an extended attribute may be, and the target of a symbolic link.
 *
 * Goal: with given sizes of nodes and blocks one is always taken or always refused, whatever
 * lies beside it; and the man page's figures are right.
 * Method: for every size of nodes and blocks, files with many attributes of all lengths, the
 * longest names and pieces among them, of which some are removed again; then values as long as is
 * allowed are set, made shorter and longer again, and one byte more is refused. Targets among those
 * of any length, and small files.
 */
#include "core/core.h"
#include "dev/sim_bdev.h"
#include "env/env_sim.h"
#include "fs/namei.h"
#include "fs/xattr.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../test_rand.h"

#define NEIGHBOURS 40
#define ROUNDS	   12

struct sizes {
	u32 node, block;
	u32 seed;
	/* Found. */
	u32 max_1, max_255; /* by length of the name with its prefix */
	u32 max_target;
};

static const struct bcfs_cred cred;

static void log_line(void *arg, enum bcfs_log_level level, const char *line)
{
	if (level <= BCFS_LOG_WARNING)
		fprintf(stderr, "log: %s\n", line);
}

/* len: of the name after "user.". */
static const char *name_of(char *buf, unsigned i, unsigned len)
{
	char digits[32];
	int n = snprintf(digits, sizeof(digits), "%u", i);

	memset(buf, 'x', 5 + len);
	memcpy(buf, "user.", 5);
	memcpy(buf + 5, digits, min((unsigned)n, len));
	buf[5 + len] = 0;
	return buf;
}

static void set(struct bcfs *c, struct bcfs_ino ino, const char *name, u32 len, int want,
		const struct sizes *s)
{
	static u8 value[BCFS_XATTR_SIZE_MAX + 1], is[BCFS_XATTR_SIZE_MAX + 1];
	int ret;

	memset(value, (int)(len * 7 + 1), sizeof(value));
	ret = bcfs_setxattr(c, ino, name, value, len, 0);
	cr_assert_eq(ret, want, "nodes %u, blocks %u, %u bytes, name of %zu: %s; " TEST_SEED_FMT,
		     s->node, s->block, len, strlen(name), err_str(ret),
		     (unsigned long long)s->seed);
	if (want)
		return;
	cr_assert_eq(bcfs_getxattr(c, ino, name, is, sizeof(is)), (s64)len);
	cr_assert(!memcmp(is, value, len));
}

static void one_file(struct bcfs *c, struct sizes *s, u64 *rng)
{
	unsigned nr = (unsigned)trand_below(rng, NEIGHBOURS);
	u32 longest = min(BCFS_XATTR_PIECE_MAX, xattr_value_max(c, 250));
	struct bcfs_stat st;
	char name[300];
	bool all_long = trand_below(rng, 2);

	snprintf(name, sizeof(name), "file %llu", (unsigned long long)trand_u64(rng));
	cr_assert_eq(bcfs_mknod(c, bcfs_root(c), name, S_IFREG | 0600, 0, 0, &cred, &st), 0);
	for (unsigned i = 0; i < nr; i++)
		set(c, st.ino, name_of(name, i, all_long ? 250 : 3 + i),
		    all_long ? longest : (u32)trand_below(rng, longest), 0, s);
	for (unsigned i = 0; i < nr; i += 1 + (unsigned)trand_below(rng, 4))
		bcfs_removexattr(c, st.ino, name_of(name, i, all_long ? 250 : 3 + i));
	for (unsigned i = 0; i < 4; i++) {
		unsigned len = i & 1 ? 250 : 1 + (unsigned)trand_below(rng, 250);
		u32 most = xattr_value_max(c, len);

		name_of(name, 100 + (unsigned)trand_below(rng, 900), len);
		set(c, st.ino, name, most, 0, s);
		set(c, st.ino, name, most + 1, -BCFS_ERR_xattr_value_too_big, s);
		set(c, st.ino, name, (u32)trand_below(rng, most), 0, s);
		set(c, st.ino, name, most, 0, s);
	}
	bcfs_forget(c, st.ino, 1);
}

static void link_to(struct bcfs *c, u32 len, int want, u64 *rng, const struct sizes *s)
{
	char target[SYMLINK_MAX_BYTES + 2], is[SYMLINK_MAX_BYTES + 1], name[32];
	struct bcfs_stat st;
	int ret;

	snprintf(name, sizeof(name), "l%llx", (unsigned long long)trand_u64(rng));
	memset(target, 'a' + (int)(len % 26), len);
	target[len] = 0;
	ret = bcfs_symlink(c, bcfs_root(c), name, target, &cred, &st);
	cr_assert_eq(ret, want, "nodes %u, blocks %u, a target of %u: %s; " TEST_SEED_FMT, s->node,
		     s->block, len, err_str(ret), (unsigned long long)s->seed);
	if (want)
		return;
	cr_assert_eq(bcfs_readlink(c, st.ino, is, sizeof(is)), (s64)len);
	cr_assert(!memcmp(is, target, len));
	bcfs_forget(c, st.ino, 1);
}

static void some_links(struct bcfs *c, struct sizes *s, u64 *rng)
{
	u32 most = s->max_target = symlink_max(c);

	for (unsigned i = 0; i < NEIGHBOURS; i++) {
		u32 len = (u32)trand_below(rng, 1500);
		struct bcfs_stat st;
		char name[32];
		u8 data[1500];

		link_to(c, 1 + (u32)trand_below(rng, most), 0, rng, s);
		snprintf(name, sizeof(name), "f%llx", (unsigned long long)trand_u64(rng));
		cr_assert_eq(bcfs_mknod(c, bcfs_root(c), name, S_IFREG | 0600, 0, 0, &cred, &st),
			     0);
		memset(data, 'f', sizeof(data));
		cr_assert_eq(bcfs_write(c, st.ino, 0, data, len, 0), (s64)len);
		bcfs_forget(c, st.ino, 1);
		link_to(c, most, 0, rng, s);
		link_to(c, most + 1, -BCFS_ERR_symlink_too_long, rng, s);
	}
}

struct made {
	struct sizes *s;
	struct env *env;
	struct bdev *bdev;
};

static void make_and_try(void *arg)
{
	struct made *m = arg;
	struct sizes *s = m->s;
	u32 bucket = max(s->node, 65536U);
	struct bcfs_mkfs_opts o = {.struct_size = sizeof(o),
				   .block_bytes = s->block,
				   .node_bytes = s->node,
				   .bucket_bytes = bucket,
				   .log = log_line};
	struct core_opts co = {.cache_bytes = 8 << 20};
	u64 rng = s->seed;
	struct core *core;
	char msg[256] = "";

	cr_assert_eq(core_mkfs_on(m->env, m->bdev, &o, NULL, msg, sizeof(msg)), 0, "%s", msg);
	cr_assert_eq(core_open_on(m->env, m->bdev, &co, log_line, NULL, &core, msg, sizeof(msg)), 0,
		     "%s", msg);
	s->max_1 = xattr_value_max(&core->fs, 1);
	s->max_255 = xattr_value_max(&core->fs, 250);
	for (unsigned i = 0; i < trand_rounds(ROUNDS); i++)
		one_file(&core->fs, s, &rng);
	some_links(&core->fs, s, &rng);

	struct bcfs_check_opts ko = {.struct_size = sizeof(ko)};
	struct bcfs_check_result r = {0};

	cr_assert_eq(core_check(core, &ko, &r), 0);
	cr_assert_eq(r.errors, 0);
	cr_assert_eq(core_close(core), 0);
}

static void try_sizes(struct sizes *s)
{
	struct sim_bdev_opts o = {.size_bytes = 256ULL << 20, .no_log = true};
	struct made m = {.s = s, .env = env_sim_create(s->seed)};

	cr_assert_eq(sim_bdev_create(m.env, "sim", &o, &m.bdev), 0);
	cr_assert_eq(env_sim_run(m.env, make_and_try, &m), 0);
	bdev_close(m.bdev);
	env_sim_destroy(m.env);
}

Test(xattr_size, every_geometry)
{
	for (u32 node = 4096; node <= 512U << 10; node *= 2)
		for (u32 block = 512; block <= min(node / 4, 65536U); block *= 2) {
			struct sizes s = {node, block, (u32)trand_seed(node ^ block)};

			/* Too small: mkfs refuses it. */
			if (node == 4096 && block > 512)
				continue;

			try_sizes(&s);
			printf("# nodes of %u, blocks of %u: %u bytes, with the longest name %u; "
			       "targets of %u\n",
			       node, block, s.max_1, s.max_255, s.max_target);
			cr_assert_geq(s.max_255, 512);
			cr_assert_geq(s.max_target, node == 4096 ? 1400 : 3900);
			cr_assert(node < 16384 || s.max_target == SYMLINK_MAX_BYTES);
		}
}

/* As bcfs(5) has them, with blocks of 4 KiB (or as large as they may be). */
Test(xattr_size, as_documented)
{
	static const u32 table[][3] = {{4096, 512, 1024},	 {16384, 4096, 6 << 10},
				       {32768, 4096, 19 << 10},	 {65536, 4096, 46 << 10},
				       {131072, 4096, 64 << 10}, {262144, 4096, 64 << 10}};

	for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
		struct sizes s = {table[i][0], table[i][1], 1};

		try_sizes(&s);
		cr_assert_geq(s.max_255, table[i][2], "nodes of %u: %u", s.node, s.max_255);
	}
}
