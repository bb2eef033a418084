// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fixture.h"

#include "env/env_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEV_BYTES	(1ULL << 30)
#define JOURNAL_BUCKET	(256U << 10)
#define JOURNAL_BUCKETS 16
#define NODES_START	(64ULL << 20)
#define BLOCK		512U

/* ---- tables ---- */

static int cookie_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			   struct printbuf *err)
{
	return 0;
}
static const struct bkey_ops ops_cookie = {.validate = cookie_validate};

static const struct bkey_ops_table fsx_ops = {
	.ops = {
		[KEY_TYPE_whiteout] = &bkey_ops_whiteout,
		[KEY_TYPE_hash_whiteout] = &bkey_ops_hash_whiteout,
		[KEY_TYPE_cookie] = &ops_cookie,
		[KEY_TYPE_extent] = &mock_ops_extent,
		[KEY_TYPE_reservation] = &mock_ops_reservation,
		[KEY_TYPE_inline_data] = &mock_ops_inline_data,
		[KEY_TYPE_inode] = &bkey_ops_inode,
		[KEY_TYPE_inode_generation] = &bkey_ops_inode_generation,
		[KEY_TYPE_dirent] = &bkey_ops_dirent,
		[KEY_TYPE_xattr] = &bkey_ops_xattr,
		[KEY_TYPE_set] = &bkey_ops_set,
		[KEY_TYPE_snapshot] = &bkey_ops_snapshot,
		[KEY_TYPE_snapshot_tree] = &bkey_ops_snapshot_tree,
		[KEY_TYPE_subvolume] = &bkey_ops_subvolume,
		[KEY_TYPE_logged_op_truncate] = &bkey_ops_logged_op_truncate,
		[KEY_TYPE_logged_op_finsert] = &bkey_ops_logged_op_finsert,
	}};

static bool fsx_is_ancestor(void *arg, u32 id, u32 ancestor)
{
	struct bcfs *c = arg;

	return snapshot_is_ancestor(c->snapshots, id, ancestor);
}
static const struct btree_snapshot_ops fsx_snapshots = {fsx_is_ancestor};

static int space_alloc(void *arg, unsigned flags, unsigned nr, struct bcfs_extent_ptr *ret)
{
	struct fsx *fx = container_of((struct bcfs *)arg, struct fsx, own);

	if (fx->next_node + nr * fx->node_bytes > DEV_BYTES)
		return -BCFS_ERR_nospc;
	for (unsigned i = 0; i < nr; i++) {
		u64 at = fx->next_node;

		fx->next_node += fx->node_bytes;
		ret[i] = (struct bcfs_extent_ptr){.type = BCFS_EXTENT_ENTRY_ptr, .offset = at >> 9};
		bdev_new_life(fx->bdev, at, fx->node_bytes);
	}
	return 0;
}

static void space_used(void *arg, const struct bcfs_extent_ptr *ptr) {}

static void space_unused(void *arg, const struct bcfs_extent_ptr *ptr, bool written) {}
static const struct btree_space_ops fsx_space = {space_alloc, space_used, space_unused};

static int flush_pins(void *arg, struct journal_entry_pin **pins, unsigned nr, u64 seq)
{
	return btree_flush_pins(((struct fsx *)arg)->own.btree, pins, nr, seq);
}

static void journal_failed(void *arg, int err)
{
	((struct fsx *)arg)->error = err;
}
static const struct journal_ops fsx_jops = {.flush_pins = flush_pins, .error = journal_failed};

static void btree_failed(void *arg, int err, const char *msg)
{
	struct fsx *fx = container_of((struct bcfs *)arg, struct fsx, own);

	fprintf(stderr, "btree: %s\n", msg);
	fx->error = err;
}

static void accounted(void *arg, const s64 *deltas)
{
	struct fsx *fx = container_of((struct bcfs *)arg, struct fsx, own);

	for (unsigned i = 0; i < BCFS_ACCOUNTING_NR; i++)
		fx->usage[i] += deltas[i];
}

/* ---- open and close ---- */

static int alloc_layers(struct fsx *fx)
{
	struct journal_opts jo = {.block_bytes = BLOCK,
				  .bucket_sectors = JOURNAL_BUCKET >> 9,
				  .magic = BCFS_JSET_MAGIC ^ 0x77,
				  .csum_type = BCFS_CSUM_crc32c,
				  .ops = &fsx_jops,
				  .arg = fx};
	struct btree_fs_opts bo = {.block_bytes = BLOCK,
				   .node_bytes = fx->node_bytes,
				   .cache_bytes = 4 << 20,
				   .magic = BCFS_BTREE_MAGIC ^ 0x77,
				   .csum_type = BCFS_CSUM_crc32c,
				   .ops = &fsx_ops,
				   .space = &fsx_space,
				   .snapshots = &fsx_snapshots,
				   .arg = &fx->own,
				   .accounted = accounted,
				   .error = btree_failed};
	struct bcfs *c = fx->c = &fx->own;
	u64 buckets[JOURNAL_BUCKETS];

	for (unsigned i = 0; i < JOURNAL_BUCKETS; i++)
		buckets[i] = 4 + i;
	fx->log = (struct log){.max = LOG_LEVEL_WARN};
	*c = (struct bcfs){
		.env = fx->env,
		.log = &fx->log,
		.bdev = fx->bdev,
		.data = (struct data_fs *)c, /* for mock_data.c */
		.alloc = (struct alloc_fs *)fx,
		.fs_opts = {.block_bytes = BLOCK, .noatime = true, .hash_bits = fx->hash_bits}};
	return snapshots_alloc(fx->env, &c->snapshots)
		       ?: journal_alloc(fx->env, fx->bdev, &fx->log, &jo, &c->journal)
		       ?: journal_set_buckets(c->journal, buckets, JOURNAL_BUCKETS)
		       ?: btree_fs_alloc(fx->env, fx->bdev, &fx->log, c->journal, &bo, &c->btree)
		       ?: fs_init(c);
}

static int recover(struct fsx *fx)
{
	struct bcfs *c = fx->c;
	struct journal_replay r = {0};
	u64 base, next;
	int ret = journal_read(c->journal, fx->bl, fx->nr_bl, &r);

	if (ret)
		return ret;
	base = max(r.seq, r.max_seen);
	must(fx->nr_bl < FSX_MAX_BL, "too many reopenings");
	fx->bl[fx->nr_bl++] = (struct journal_blacklist_range){r.seq + 1, base + JOURNAL_SEQ_AHEAD};
	next = base + JOURNAL_SEQ_AHEAD + 1;
	fx->carried = r.carried;
	memcpy(fx->usage, fx->carried.usage, sizeof(fx->usage));
	ret = btree_fs_start(c->btree, fx->carried.roots, next - 1, fx->bl, fx->nr_bl)
		      ?: journal_start(c->journal, next, &r, &fx->carried)
		      ?: btree_replay(c->btree, &r);
	if (!ret)
		journal_replay_done(c->journal);
	journal_replay_free(c->journal, &r);
	return ret;
}

static int start_clean(struct fsx *fx)
{
	struct bcfs *c = fx->c;
	u64 suspect = fx->nr_bl ? fx->bl[fx->nr_bl - 1].end : 0;
	int ret = btree_fs_start(c->btree, fx->carried.roots, suspect, fx->bl, fx->nr_bl)
			  ?: journal_start(c->journal, fx->clean_seq + 1, NULL, &fx->carried);

	fx->clean = false;
	if (!ret)
		btree_fs_replay_none(c->btree);
	return ret;
}

static int make(struct fsx *fx)
{
	struct bcfs *c = fx->c;

	fx->made = true;
	return snapshots_init_fs(c->snapshots, c->btree, fs_now(c))
		       ?: fs_init_root(c, 0755, 0, 0)
		       ?: journal_flush(c->journal);
}

int fsx_open(struct fsx *fx)
{
	struct bcfs *c = &fx->own;
	int ret;

	memcpy(fx->usage, fx->carried.usage, sizeof(fx->usage));
	ret = alloc_layers(fx);
	if (ret)
		return ret;
	if (!fx->made)
		return start_clean(fx) ?: make(fx);
	return (fx->clean ? start_clean(fx) : recover(fx))
		       ?: snapshots_read(c->snapshots, c->btree, c->log)
		       ?: logged_ops_resume(c)
		       ?: deleted_inodes_reap_all(c);
}

static void free_layers(struct fsx *fx)
{
	struct bcfs *c = fx->c;

	fs_exit(c);
	btree_fs_free(c->btree);
	journal_free(c->journal);
	snapshots_free(c->snapshots);
	memset(c, 0, sizeof(*c));
	fx->c = NULL;
}

int fsx_close(struct fsx *fx)
{
	struct bcfs *c = fx->c;
	int ret = fs_stop(c), err;

	btree_fs_stop(c->btree);
	err = journal_stop(c->journal, &fx->carried, &fx->clean_seq) ?: bdev_flush(fx->bdev);
	fx->clean = !err;
	free_layers(fx);
	return ret ?: err;
}

void fsx_abandon(struct fsx *fx)
{
	btree_fs_halt(fx->own.btree);
	journal_halt(fx->own.journal);
	/* Its threads may still be in the btree. */
	journal_stop(fx->own.journal, NULL, NULL);
	free_layers(fx);
}

static void report(void *arg, const char *text)
{
	fprintf(stderr, "check: %s\n", text);
}

u64 fsx_check(struct fsx *fx)
{
	struct fs_check chk = {.report = report};
	struct bcfs *c = fx->c;
	u64 snaps = 0;
	int ret = check_snapshots(c->snapshots, c->btree, &snaps, report, NULL)
			  ?: check_inodes(c, &chk)
			  ?: check_dirents(c, &chk)
			  ?: check_xattrs(c, &chk)
			  ?: check_nlinks(c, &chk)
			  ?: check_extents_vs_inodes(c, &chk)
			  ?: check_directory_structure(c, &chk)
			  ?: check_fs_accounting(c, &chk);

	if (ret)
		fprintf(stderr, "check: %s\n", err_str(ret));
	return chk.errors + snaps + !!ret;
}

/* ---- the run ---- */

static void run_main(void *arg)
{
	struct fsx *fx = arg;

	fx->fn(fx, fx->arg);
}

void fsx_free_bdev(struct fsx *fx)
{
	bdev_close(fx->bdev);
	env_sim_destroy(fx->env);
}

void fsx_run(struct fsx *fx, u64 seed, void (*fn)(struct fsx *fx, void *arg), void *arg)
{
	struct sim_bdev_opts o = {.size_bytes = DEV_BYTES, .no_log = !fx->keep_bdev};
	int ret;

	fx->fn = fn;
	fx->arg = arg;
	fx->node_bytes = fx->node_bytes ?: 16384;
	fx->next_node = fx->next_node ?: NODES_START;
	fx->env = env_sim_create(seed);
	ret = fx->image ? sim_bdev_create_from(fx->env, "sim", &o, fx->image, &fx->bdev)
			: sim_bdev_create(fx->env, "sim", &o, &fx->bdev);
	must(!ret, "no device");

	ret = env_sim_run(fx->env, run_main, fx);
	must(!ret, "the simulation ended with %s", err_str(ret));
	must(!sim_bdev_violations(fx->bdev), "%s", sim_bdev_first_violation(fx->bdev));
	if (!fx->keep_bdev)
		fsx_free_bdev(fx);
}
