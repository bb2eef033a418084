// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tfs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct tfs_geometry tfs_small = {8, 32, 128, 512, 24, 0};
const struct tfs_geometry tfs_tiny = {1, 16, 32, 768, 64, 0};

#define FIRST_BUCKET 2

void tfs_fail(struct tfs *f, const char *what, int line, int ret)
{
	fprintf(stderr, "line %d: %s: %s (%s), BCFS_TEST_SEED=%#llx\n", line, what, err_name(ret),
		err_str(ret), (unsigned long long)env_sim_seed(f->env));
	abort();
}

/* ---- a toy extent type ---- */

static int toy_validate(struct bkey_s_c k, enum btree_id btree, unsigned level,
			struct printbuf *err)
{
	return extent_entries_validate(bkey_ptrs(k), k.k->size, err);
}

static void toy_cut_front(struct bkey_i *k, u32 sectors)
{
	bool encoded = false;

	for_each_extent_entry (bkey_ptrs(bkey_i_to_s_c(k)), c) {
		union extent_entry *e = (union extent_entry *)c;

		if (extent_entry_type(e) == BCFS_EXTENT_ENTRY_crc) {
			encoded = true;
			e->crc.live_offset += sectors;
		} else if (extent_entry_type(e) == BCFS_EXTENT_ENTRY_ptr && !encoded) {
			e->ptr.offset += sectors;
		}
	}
}

static const struct bkey_ops toy_extent = {
	.validate = toy_validate,
	.trigger = alloc_trigger_pointers,
	.cut_front = toy_cut_front,
};

static const struct bkey_ops_table table = {
	.ops =
		{
			[KEY_TYPE_extent] = &toy_extent,
			[KEY_TYPE_btree_ptr] = &bkey_ops_btree_ptr,
			[KEY_TYPE_alloc] = &bkey_ops_alloc,
			[KEY_TYPE_backpointer] = &bkey_ops_backpointer,
			[KEY_TYPE_lru] = &bkey_ops_lru,
			[KEY_TYPE_accounting] = &bkey_ops_accounting,
			[KEY_TYPE_bucket_gens] = &bkey_ops_bucket_gens,
			[KEY_TYPE_cookie] = &bkey_ops_cookie,
		},
};

/* ---- opening and closing ---- */

static int op_flush_pins(void *arg, struct journal_entry_pin **pins, unsigned nr, u64 seq)
{
	return btree_flush_pins(((struct tfs *)arg)->btree, pins, nr, seq);
}

static void op_error(void *arg, int err) {}

static const struct journal_ops journal_ops = {.flush_pins = op_flush_pins, .error = op_error};

static void alloc_all(struct tfs *f)
{
	struct journal_opts jo = {
		.block_bytes = f->g.block_sectors * 512,
		.bucket_sectors = f->g.bucket_sectors,
		.magic = 0x1234,
		.csum_type = BCFS_CSUM_crc32c,
		.ops = &journal_ops,
		.arg = f,
	};
	struct alloc_opts ao = {
		.block_sectors = f->g.block_sectors,
		.bucket_sectors = f->g.bucket_sectors,
		.node_sectors = f->g.node_sectors,
		.nr_buckets = f->g.nr_buckets,
		.first_bucket = FIRST_BUCKET,
		.discard = true,
	};
	struct btree_fs_opts bo = {
		.block_bytes = f->g.block_sectors * 512,
		.node_bytes = f->g.node_sectors * 512,
		.cache_bytes = f->g.cache_bytes ?: 64ULL << 20,
		.magic = 0x5678,
		.csum_type = BCFS_CSUM_crc32c,
		.ops = &table,
		.space = &alloc_btree_space_ops,
		.arg = &f->arg,
		.accounted = alloc_btree_accounted,
	};

	TFS_OK(journal_alloc(f->env, f->bdev, &f->log, &jo, &f->journal));
	TFS_OK(journal_set_buckets(f->journal, f->journal_buckets, f->g.nr_journal));
	TFS_OK(alloc_fs_alloc(f->env, f->bdev, &f->log, &ao, &f->alloc));
	f->arg.alloc = f->alloc;
	TFS_OK(btree_fs_alloc(f->env, f->bdev, &f->log, f->journal, &bo, &f->btree));
	alloc_fs_attach(f->alloc, f->btree, f->journal);
}

static void free_all(struct tfs *f)
{
	btree_fs_free(f->btree);
	journal_free(f->journal);
	alloc_fs_free(f->alloc);
}

void tfs_mkfs(struct tfs *f, u64 seed, const struct tfs_geometry *g)
{
	struct sim_bdev_opts so = {.size_bytes = g->nr_buckets * g->bucket_sectors * 512ULL};

	memset(f, 0, sizeof(*f));
	f->g = *g;
	f->env = env_sim_create(seed);
	f->log.max = LOG_LEVEL_INFO;
	TFS_OK(sim_bdev_create(f->env, "sim", &so, &f->bdev));
	f->data = malloc(g->bucket_sectors * 512);
	for (unsigned i = 0; i < g->nr_journal; i++)
		f->journal_buckets[i] = FIRST_BUCKET + 1 + i * 2; /* not adjacent */
	alloc_all(f);
	TFS_OK(btree_fs_start(f->btree, NULL, 0, NULL, 0));
	TFS_OK(journal_start(f->journal, 1, NULL, &f->carried));
	journal_replay_done(f->journal);
	btree_fs_replay_none(f->btree);
	TFS_OK(alloc_fs_start(f->alloc, NULL));
	TFS_OK(alloc_init_device(f->alloc, f->journal_buckets, g->nr_journal));
	TFS_OK(alloc_fs_start_threads(f->alloc));
}

static void mount_clean(struct tfs *f)
{
	TFS_OK(btree_fs_start(f->btree, f->carried.roots, f->bl_end, f->bl, f->nr_bl));
	TFS_OK(journal_start(f->journal, f->clean_seq + 1, NULL, &f->carried));
	journal_replay_done(f->journal);
	btree_fs_replay_none(f->btree);
	TFS_OK(alloc_fs_start(f->alloc, f->carried.usage));
}

static void mount_replay(struct tfs *f)
{
	struct journal_replay r = {0};
	u64 next;

	TFS_OK(journal_read(f->journal, f->bl, f->nr_bl, &r));
	f->bl[f->nr_bl++] = (struct journal_blacklist_range){r.seq + 1, r.seq + JOURNAL_SEQ_AHEAD};
	f->bl_end = r.seq + JOURNAL_SEQ_AHEAD;
	next = f->bl_end + 1;
	TFS_OK(btree_fs_start(f->btree, r.carried.roots, f->bl_end, f->bl, f->nr_bl));
	TFS_OK(journal_start(f->journal, next, &r, &r.carried));
	/* Counters first: splits during replay allocate. */
	TFS_OK(alloc_fs_start(f->alloc, r.carried.usage));
	TFS_OK(btree_replay(f->btree, &r));
	journal_replay_done(f->journal);
	journal_replay_free(f->journal, &r);
}

void tfs_mount(struct tfs *f)
{
	alloc_all(f);
	TFS_OK(alloc_set_journal_buckets(f->alloc, f->journal_buckets, f->g.nr_journal));
	if (f->clean_seq)
		mount_clean(f);
	else
		mount_replay(f);
	f->clean_seq = 0;
	TFS_OK(alloc_fs_start_threads(f->alloc));
}

void tfs_umount(struct tfs *f)
{
	alloc_fs_stop(f->alloc);
	btree_fs_stop(f->btree);
	TFS_OK(journal_stop(f->journal, &f->carried, &f->clean_seq));
	free_all(f);
}

void tfs_crash(struct tfs *f, const struct sim_crash *crash)
{
	struct sim_bdev_opts so = {0};
	struct sim_image *img;
	struct bdev *bdev;

	journal_halt(f->journal);
	btree_fs_halt(f->btree);
	img = sim_bdev_crash(f->bdev, crash);
	alloc_fs_stop(f->alloc);
	btree_fs_stop(f->btree);
	free_all(f);
	TFS_OK(sim_bdev_create_from(f->env, "sim", &so, img, &bdev));
	sim_image_free(img);
	bdev_close(f->bdev);
	f->bdev = bdev;
	f->clean_seq = 0;
}

void tfs_destroy(struct tfs *f)
{
	if (sim_bdev_violations(f->bdev)) {
		fprintf(stderr, "%s\n", sim_bdev_first_violation(f->bdev));
		tfs_fail(f, "written once", __LINE__, 0);
	}
	tfs_umount(f);
	bdev_close(f->bdev);
	free(f->data);
	env_sim_destroy(f->env);
}

static void print_difference(void *arg, const char *text)
{
	fprintf(stderr, "%s\n", text);
}

void tfs_check(struct tfs *f, const char *when)
{
	u64 errors = 0;

	/* Quiet: nothing left for the background to write. */
	TFS_OK(journal_flush_pins(f->journal, UINT64_MAX));
	btree_interior_flush(f->btree);
	TFS_OK(journal_flush_pins(f->journal, UINT64_MAX));
	TFS_OK(alloc_check(f->alloc, NULL, &errors, print_difference, NULL));
	if (errors) {
		CLEANUP(printbuf_exit) struct printbuf out = PRINTBUF;

		alloc_fs_to_text(&out, f->alloc);
		fprintf(stderr, "%s: %llu differences\n%s\n", when, (unsigned long long)errors,
			printbuf_str(&out));
		tfs_fail(f, "alloc_check", __LINE__, 0);
	}
}

/* ---- files ---- */

/* encoding 0: plain, 1: checksums, 2: pretended compression to half */
static u32 stored_sectors(const struct tfs *f, u32 sectors, unsigned encoding)
{
	return encoding == 2 ? round_up(sectors / 2, f->g.block_sectors) : sectors;
}

static int insert_extent(struct btree_trans *trans, u64 inum, u64 start, u32 sectors,
			 unsigned encoding, const struct alloc_sectors *s)
{
	union {
		struct bkey_i k;
		u64 buf[64];
	} *x = btree_trans_kmalloc(trans, sizeof(*x));
	u64 *v = x->k.v;
	unsigned nr = 0;

	bkey_init(&x->k.k);
	x->k.k.type = KEY_TYPE_extent;
	x->k.k.p = SPOS(inum, start + sectors, UINT32_MAX);
	x->k.k.size = sectors;
	if (encoding) {
		struct bcfs_extent_crc *c = (void *)v;

		*c = (struct bcfs_extent_crc){
			.type = BCFS_EXTENT_ENTRY_crc,
			.csum_type = BCFS_CSUM_crc32c,
			.compression = encoding == 2 ? BCFS_COMPRESSION_zstd : 0,
			.chunk_shift = 3,
			.stored_sectors = s->sectors,
			.uncompressed_sectors = sectors,
			.nr_csums = encoding == 2 ? 1 : DIV_ROUND_UP(sectors, 8),
		};
		nr = c->u64s = extent_crc_u64s(c->csum_type, c->nr_csums, false);
	}
	memcpy(&v[nr++], &s->ptr, sizeof(u64));
	set_bkey_val_u64s(&x->k.k, nr);
	return btree_trans_insert(trans, BTREE_ID_extents, &x->k, 0);
}

int tfs_write(struct tfs *f, u64 inum, u64 start, u32 sectors, unsigned encoding)
{
	struct disk_reservation res = {0};
	int ret = disk_reservation_get(f->alloc, &res, sectors);

	if (ret)
		return ret;
	while (sectors) {
		u32 n = sectors, stored;
		struct alloc_sectors s;

		/* Compression needs two blocks to gain one; encoded extents have a limit. */
		if (encoding == 2 && n < 2 * f->g.block_sectors)
			encoding = 1;
		n = encoding ? min(n, 256U) : n;
		stored = stored_sectors(f, n, encoding);
		/* Space that was promised is there. */
		TFS_OK(alloc_sectors_get(f->alloc, inum, stored, &s));
		if (s.sectors < stored) {
			if (encoding == 2)
				encoding = 1;
			n = s.sectors;
		}
		u8 *data = malloc(s.sectors * 512);

		memset(data, (int)++f->next_version, s.sectors * 512);
		TFS_OK(bdev_write(f->bdev, s.ptr.offset * 512ULL, data, s.sectors * 512, 0));
		free(data);

		struct btree_trans *trans = btree_trans_get(f->btree);

		ret = commit_do(trans, NULL, 0, insert_extent(trans, inum, start, n, encoding, &s));
		TFS_OK(ret);
		btree_trans_put(trans);
		alloc_sectors_done(f->alloc, &s);
		start += n;
		sectors -= n;
	}
	disk_reservation_put(f->alloc, &res);
	return 0;
}

int tfs_delete(struct tfs *f, u64 inum, u64 start, u64 end)
{
	return btree_delete_range(f->btree, BTREE_ID_extents, SPOS(inum, start, UINT32_MAX),
				  SPOS(inum, end, UINT32_MAX), 0, NULL);
}
