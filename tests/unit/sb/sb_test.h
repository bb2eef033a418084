/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the superblock's tests share: a simulated device with a filesystem's
 * superblock on it, the last line that was logged, and edits that keep the
 * checksum right.
 */
#ifndef BCFS_SB_TEST_H
#define BCFS_SB_TEST_H

#include "../test_rand.h"
#include "codec/codec.h"
#include "dev/sim_bdev.h"
#include "env/env_sim.h"
#include "sb/sb.h"
#include "util/errcode.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)

struct tfs {
	struct env *env;
	struct bdev *bdev;
	struct log log;
	char line[1024]; /* the last one logged */
};

static inline void tfs_line(void *arg, enum log_level level, const char *line)
{
	struct tfs *t = arg;

	snprintf(t->line, sizeof(t->line), "%s", line);
}

static inline void tfs_env(struct tfs *t)
{
	memset(t, 0, sizeof(*t));
	t->log = (struct log){.fn = tfs_line, .arg = t, .max = LOG_LEVEL_DEBUG};
	t->env = env_sim_create(trand_seed(1));
	cr_assert_not_null(t->env);
}

static inline void tfs_device(struct tfs *t, u64 bytes, u32 logical)
{
	struct sim_bdev_opts o = {.size_bytes = bytes, .logical_block = logical};

	tfs_env(t);
	cr_assert_eq(sim_bdev_create(t->env, "dev", &o, &t->bdev), 0);
}

static inline void tfs_exit(struct tfs *t)
{
	bdev_close(t->bdev);
	env_sim_destroy(t->env);
}

/* Takes the image. */
static inline void tfs_image(struct tfs *t, struct sim_image *img, u32 logical)
{
	struct sim_bdev_opts o = {.logical_block = logical};

	if (t->bdev)
		bdev_close(t->bdev);
	t->bdev = NULL;
	cr_assert_eq(sim_bdev_create_from(t->env, "dev", &o, img, &t->bdev), 0);
	sim_image_free(img);
}

/* A superblock with something in every field, in memory. */
static inline struct sb_handle *tfs_init(struct tfs *t, const struct sb_params *params)
{
	struct sb_params p = params ? *params : SB_PARAMS_DEFAULT;
	struct sb_handle *h = NULL;
	int ret = sb_init(t->env, t->bdev, &t->log, &p, &h);

	cr_assert_eq(ret, 0, "%s: %s", err_name(ret), t->line);
	return h;
}

static inline void tfs_fill(struct sb_handle *h)
{
	struct bcfs_member m = sb_member_get(h->sb, 0);
	struct bcfs_journal_run runs[2] = {{m.first_bucket + 4, 3}, {m.first_bucket, 2}};
	u64 entries[6] = {0};
	struct jset_entry *e = (struct jset_entry *)entries;
	struct bcfs_sb_field *f;

	cr_assert_eq(sb_journal_set(h, runs, 2), 0);
	e->u64s = 2;
	e->type = BCFS_JSET_ENTRY_clock;
	e = (struct jset_entry *)(entries + 3);
	e->u64s = 2;
	e->type = BCFS_JSET_ENTRY_btree_root;
	cr_assert_eq(sb_clean_set(h, 77, entries, 6), 0);
	cr_assert_eq(sb_blacklist_add(h, 10, 20), 0);
	cr_assert_eq(sb_blacklist_add(h, 30, 40), 0);
	cr_assert_eq(sb_error_add(h, BCFS_ERR_data_csum, 3), 0);
	cr_assert_eq(sb_field_resize(h, 4711, 3, &f), 0);
	f->data[0] = 0x1122334455667788ULL;
	f->data[1] = ~0ULL;
}

static inline void tfs_write(struct sb_handle *h)
{
	int ret;

	sb_lock(h);
	ret = sb_write(h);
	sb_unlock(h);
	cr_assert_eq(ret, 0, "%s", err_name(ret));
}

/* Puts a changed superblock on the device, copy by copy, with right checksums, unvalidated. */
static inline void tfs_poke(struct tfs *t, struct bcfs_sb *sb, unsigned copies)
{
	for (unsigned i = 0; i < BCFS_SB_COPIES_MAX; i++) {
		if (!(copies >> i & 1) || !sb->layout.offset[i])
			continue;
		sb->offset = sb->layout.offset[i];
		cr_assert_eq(csum_compute(NULL, BCFS_CSUM_crc32c, NULL, NULL, 0,
					  (u8 *)sb + sizeof(sb->csum),
					  sb_bytes(sb) - sizeof(sb->csum), &sb->csum),
			     0);
		sim_bdev_poke(t->bdev, sb->offset * SECTOR_SIZE, sb, sb_bytes(sb));
	}
}

#define ALL_COPIES 0xffU

static inline int tfs_read(struct tfs *t, struct sb_handle **ret)
{
	*ret = NULL;
	t->line[0] = 0;
	return sb_read(t->env, t->bdev, &t->log, ret);
}

/* Expects a code and a part of the line that tells the user. */
#define expect_read(t, code, part)                                                                 \
	do {                                                                                       \
		struct sb_handle *h_ = NULL;                                                       \
		int ret_ = tfs_read(t, &h_);                                                       \
                                                                                                   \
		cr_expect_eq(ret_, -(code), "%s: %s", err_name(ret_), (t)->line);                  \
		cr_expect_null(h_);                                                                \
		cr_expect_not_null(strstr((t)->line, part), "the line is: %s", (t)->line);         \
		cr_expect_eq(strncmp((t)->line, "dev: ", 5), 0, "the line is: %s", (t)->line);     \
		sb_free(h_);                                                                       \
	} while (0)

#endif
