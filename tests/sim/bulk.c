// SPDX-License-Identifier: LGPL-2.1-or-later
/* What is on the device beside the model's names: files that fill nodes, one that fills space. */
#include "sim.h"

#include "../unit/test_rand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void bulk_xattr(struct sim_run *r, unsigned i)
{
	struct bcfs_ino ino = {BCFS_ROOT_SUBVOL, r->bulk[i]};
	u8 buf[1024];
	int ret;

	memset(buf, (int)i, sizeof(buf));
	ret = bcfs_setxattr(&r->core->fs, ino, "user.bulk", buf,
			    200 + trand_below(&r->bulk_rng, 500), 0);
	sim_check(r, !ret || r->cfg.fault != SIM_FAULT_NR, "setxattr: %s", err_str(ret));
}

void sim_run_make_bulk(struct sim_run *r)
{
	const struct bcfs_cred cred = {0};
	struct bcfs *c = &r->core->fs;
	struct bcfs_stat dir, st;
	char name[32];
	int ret = bcfs_mkdir(c, bcfs_root(c), M_BULK_DIR, 0755, &cred, &dir);

	sim_check(r, !ret, "mkdir: %s", err_str(ret));
	r->bulk = calloc(r->cfg.bulk, sizeof(r->bulk[0]));
	for (unsigned i = 0; i < r->cfg.bulk; i++) {
		snprintf(name, sizeof(name), "bulk-%u", i);
		ret = bcfs_mknod(c, dir.ino, name, S_IFREG | 0600, 0, 0, &cred, &st);
		sim_check(r, !ret, "mknod: %s", err_str(ret));
		r->bulk[i] = st.ino.inum;
		bulk_xattr(r, i);
		env_sim_progress(r->env);
		r->nr_bulk++;
	}
}

void sim_run_touch_bulk(struct sim_run *r)
{
	unsigned i = (unsigned)trand_below(&r->bulk_rng, r->nr_bulk);
	struct bcfs_ino ino = {BCFS_ROOT_SUBVOL, r->bulk[i]};
	u8 buf[1024];

	if (trand_below(&r->bulk_rng, 3) == 0)
		bulk_xattr(r, i);
	else
		bcfs_getxattr(&r->core->fs, ino, "user.bulk", buf, sizeof(buf));
}

/* What is at @offset of the ballast, whole blocks: however often it is written anew. */
void sim_ballast_fill(const struct sim_cfg *cfg, u64 offset, u8 *buf, u64 len)
{
	/* Four bits of each byte are random: to be compressed by half. */
	for (u64 i = 0; i < len; i += sizeof(u64)) {
		u64 at = offset + i, v = trand_u64(&at);

		v = (v & 0x0f0f0f0f0f0f0f0f) | 0x6060606060606060;
		memcpy(buf + i, &v, sizeof(v));
	}
}

void sim_run_stir_ballast(struct sim_run *r)
{
	u64 at = trand_below(&r->bulk_rng, r->ballast_blocks) * r->cfg.block;
	u64 len = r->cfg.block * (1 + trand_below(&r->bulk_rng, 2));
	u8 *buf = model_buf(len, at / r->cfg.block);
	s64 n;

	len = min(len, r->ballast_blocks * r->cfg.block - at);
	sim_ballast_fill(&r->cfg, at, buf, len);
	n = bcfs_write(&r->core->fs, r->ballast, at, buf, len, 0);
	sim_check(r, n >= 0 || r->cfg.fault != SIM_FAULT_NR || err_to_errno((int)n) == ENOSPC,
		  "ballast: %s", err_str((int)n));
	model_buf_free(buf);
}

/*
 * A file takes all space, then gives some buckets back: the operations go on in that. The names of
 * a test take few sectors; without this they would never meet the end of a device that a filesystem
 * can be made on.
 */
void sim_run_make_ballast(struct sim_run *r)
{
	const struct bcfs_cred cred = {0};
	struct bcfs *c = &r->core->fs;
	u32 len = r->cfg.bucket;
	struct bcfs_stat dir, st;
	u8 *buf = model_buf(len, 0);
	u64 size = 0;
	s64 n;
	int ret = bcfs_lookup(c, bcfs_root(c), M_BULK_DIR, &dir);

	if (ret == -BCFS_ERR_no_such_name)
		ret = bcfs_mkdir(c, bcfs_root(c), M_BULK_DIR, 0755, &cred, &dir);
	sim_check(r, !ret, "mkdir: %s", err_str(ret));
	ret = bcfs_mknod(c, dir.ino, "ballast", S_IFREG | 0600, 0, 0, &cred, &st);
	sim_check(r, !ret, "mknod: %s", err_str(ret));
	while (len >= r->cfg.block) {
		sim_ballast_fill(&r->cfg, size, buf, len);
		n = bcfs_write(c, st.ino, size, buf, len, 0);
		if (n > 0) {
			size += n;
			continue;
		}
		sim_check(r, err_to_errno((int)n) == ENOSPC, "ballast: %s", err_str((int)n));
		len /= 2;
	}
	model_buf_free(buf);
	st.size = size - r->cfg.bucket * (4 + trand_below(&r->rng, 12));
	ret = bcfs_setattr(c, st.ino, &st, BCFS_SET_SIZE, &st);
	sim_check(r, !ret, "truncate of the ballast: %s", err_str(ret));
	ret = bcfs_sync(c);
	sim_check(r, !ret, "sync: %s", err_str(ret));
	r->ballast = st.ino;
	r->ballast_blocks = st.size / r->cfg.block;
	bcfs_forget(c, st.ino, 1);
	bcfs_forget(c, dir.ino, 1);
}
