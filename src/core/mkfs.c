// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Making a filesystem: a superblock in memory, empty btrees over it, the first keys through the
 * ordinary transactions, and a clean shutdown, which writes the superblock for the first time.
 * Until then the device has no valid superblock: an interrupted mkfs leaves nothing that mounts.
 */
#include "core/core.h"

#include "btree/btree.h"
#include "codec/codec.h"
#include "dev/image_file.h"
#include "dev/overlay_bdev.h"

#include <limits.h>
#include <string.h>

#define JOURNAL_DEFAULT_MAX (256ULL << 20)
/*
 * A ring smaller than this has room for few dirty nodes (doc/adr/0017): a small device, too, gets
 * it if that is no more than a sixteenth of it.
 */
#define JOURNAL_DEFAULT_ROOMY (4ULL << 20)
#define JOURNAL_DEFAULT_LEAST (1ULL << 20)

static int csum_choice(const char *dev, const char *name, unsigned *ret, char *msg, size_t msg_size)
{
	if (!name)
		return 0;
	int type = csum_type_from_name(name);
	CLEANUP(printbuf_exit) struct printbuf err = PRINTBUF;
	/* Of no name, the number of none: for the list. */
	int bad = csum_type_check(type < 0 ? UINT_MAX : (unsigned)type, &err);

	if (!bad)
		*ret = type;
	else if (type < 0)
		core_msg(msg, msg_size, "%s: unknown checksum \"%s\"%s", dev, name,
			 strchr(printbuf_str(&err), ';') ?: "");
	else
		core_msg(msg, msg_size, "%s: %s", dev, printbuf_str(&err));
	return bad ? -BCFS_ERR_invalid_option : 0;
}

int core_csums(const char *name, const char *meta, const char *data, unsigned *ret_meta,
	       unsigned *ret_data, char *msg, size_t msg_size)
{
	if (meta && !strcmp(meta, "none")) {
		core_msg(msg, msg_size, "%s: metadata is never without checksums: choose a type",
			 name);
		return -BCFS_ERR_invalid_option;
	}
	return csum_choice(name, meta, ret_meta, msg, msg_size)
		       ?: csum_choice(name, data, ret_data, msg, msg_size);
}

/* How many buckets the journal gets: as asked, or a sixty-fourth of the device within bounds; of a
 * small device more. */
static int journal_size(struct env *env, const struct bcfs_mkfs_opts *o, const struct bcfs_sb *sb,
			const struct bcfs_member *m, const char *name, u64 *ret, char *msg,
			size_t msg_size)
{
	u64 bucket = (u64)m->bucket_sectors * SECTOR_SIZE;
	u64 least = journal_min_bytes(sb->block_sectors * SECTOR_SIZE, m->bucket_sectors);
	u64 usable = m->nr_buckets - m->first_bucket;
	u64 bytes = o->journal_bytes;

	/* For tests: what earlier versions made, which has to open. */
	if (bytes && env_inject(env, "mkfs_small_journal"))
		least = min(least, bytes);
	if (!bytes) {
		u64 device = m->nr_buckets * bucket, quarter = usable / 4 * bucket;
		u64 floor = max(min(device / 16, JOURNAL_DEFAULT_ROOMY), JOURNAL_DEFAULT_LEAST);

		bytes = min(device / 64, JOURNAL_DEFAULT_MAX);
		floor = min(max(floor, least), quarter);
		bytes = max(bytes, floor);
		bytes = max(bytes, least);
	}
	*ret = DIV_ROUND_UP(bytes, bucket);
	if (bytes < least) {
		core_msg(msg, msg_size, "%s: a journal of %llu bytes is too small: at least %llu",
			 name, (unsigned long long)bytes, (unsigned long long)least);
		return -BCFS_ERR_mkfs_journal_small;
	}
	if (*ret > usable / 2) {
		core_msg(
			msg, msg_size,
			"%s: a journal of %llu bytes leaves too little of the device: at most %llu",
			name, (unsigned long long)bytes, (unsigned long long)(usable / 2 * bucket));
		return -BCFS_ERR_mkfs_journal_big;
	}
	return 0;
}

int core_compression(const char *name, const char *text, u16 *ret, char *msg, size_t msg_size)
{
	CLEANUP(printbuf_exit) struct printbuf err = PRINTBUF;
	int r = compression_opt_parse(text, ret, &err);

	if (r)
		core_msg(msg, msg_size, "%s: %s", name, printbuf_str(&err));
	return r ? -BCFS_ERR_invalid_option : 0;
}

static int mkfs_inline(const char *name, const struct bcfs_mkfs_opts *o, struct sb_params *p,
		       char *msg, size_t msg_size)
{
	/* A block size that is itself bad is told by sb_init(). */
	u32 limit = p->block_bytes ? data_inline_limit(p->block_bytes, p->node_bytes) : 0;

	p->inline_max_bytes = min(o->inline_max_bytes ?: DATA_INLINE_DEFAULT, limit);
	if (o->inline_max_bytes == BCFS_INLINE_NONE)
		p->inline_max_bytes = 0;
	else if (o->inline_max_bytes > limit) {
		core_msg(msg, msg_size,
			 "%s: inline data of %u bytes: with blocks of %u and btree nodes of %u at "
			 "most %u",
			 name, o->inline_max_bytes, p->block_bytes, p->node_bytes, limit);
		return -BCFS_ERR_invalid_option;
	}
	return 0;
}

static int mkfs_params(const struct bcfs_mkfs_opts *o, const struct bdev *bdev, struct sb_params *p,
		       char *msg, size_t msg_size)
{
	const char *name = bdev->name;
	u64 dev_bytes = bdev->size_bytes;

	*p = SB_PARAMS_DEFAULT;
	if (o->uuid)
		memcpy(p->user_uuid.b, o->uuid, 16);
	p->label = o->label;
	if (o->block_bytes)
		p->block_bytes = o->block_bytes;
	if (o->bucket_bytes > UINT32_MAX) {
		core_msg(msg, msg_size, "%s: a bucket size of %llu bytes is too big", name,
			 (unsigned long long)o->bucket_bytes);
		return -BCFS_ERR_mkfs_bucket_size;
	}
	p->bucket_bytes = o->bucket_bytes;
	if (!p->bucket_bytes && o->journal_bytes) {
		/* A small journal that was asked for wants small buckets: it is a ring of several.
		 */
		u32 bucket = sb_default_bucket_bytes(dev_bytes, o->node_bytes), least = 64U << 10;

		least = max(least, o->node_bytes);
		while (bucket / 2 >= least &&
		       journal_min_bytes(p->block_bytes, bucket / SECTOR_SIZE) > o->journal_bytes)
			bucket /= 2;
		p->bucket_bytes = bucket;
	}
	if (o->node_bytes) {
		p->node_bytes = o->node_bytes;
	} else {
		/* Of a small device they would not hold four large blocks, the least node. */
		if (!p->bucket_bytes)
			p->bucket_bytes =
				sb_default_bucket_bytes(dev_bytes, 4 * min(p->block_bytes, 65536U));
		p->node_bytes = min(p->node_bytes, p->bucket_bytes);
	}
	u64 least = max(4ULL * p->block_bytes, (u64)BTREE_NODE_SIZE_MIN);

	/* Four blocks of 1 KiB do not hold what the allocator changes at once. */
	if (least == BTREE_NODE_SIZE_MIN && p->block_bytes > 512)
		least *= 2;

	/* A block size that is itself bad is told by sb_init(). */
	if (p->block_bytes <= 65536 && p->node_bytes < least) {
		bool by_bucket = !o->node_bytes;

		core_msg(msg, msg_size,
			 "%s: %s of %u bytes are too small: with blocks of %u at least %llu are "
			 "needed",
			 name, by_bucket ? "buckets" : "btree nodes", p->node_bytes, p->block_bytes,
			 (unsigned long long)least);
		return by_bucket ? -BCFS_ERR_mkfs_bucket_size : -BCFS_ERR_mkfs_node_size;
	}
	if (o->csum_chunk_bytes) {
		unsigned shift = 0;

		while (shift < 12 && (SECTOR_SIZE << shift) < o->csum_chunk_bytes)
			shift++;
		p->chunk_shift = shift;
		if ((SECTOR_SIZE << shift) != o->csum_chunk_bytes) {
			core_msg(msg, msg_size,
				 "%s: a checksum chunk of %u bytes: not a power of two", name,
				 o->csum_chunk_bytes);
			return -BCFS_ERR_mkfs_chunk_size;
		}
	}
	if (o->extent_max_bytes)
		p->extent_max_sectors = o->extent_max_bytes / SECTOR_SIZE;
	if (mkfs_inline(name, o, p, msg, msg_size))
		return -BCFS_ERR_invalid_option;
	p->errors = o->on_error ? o->on_error - BCFS_ON_ERROR_RO : 0;
	p->discard = o->discard == BCFS_ON;
	if (o->compression &&
	    core_compression(name, o->compression, &p->compression, msg, msg_size))
		return -BCFS_ERR_invalid_option;
	if (o->background_compression &&
	    core_compression(name, o->background_compression, &p->background_compression, msg,
			     msg_size))
		return -BCFS_ERR_invalid_option;
	return core_csums(name, o->metadata_csum, o->data_csum, &p->meta_csum, &p->data_csum, msg,
			  msg_size);
}

/* The journal's buckets: the first of the device. */
static int mkfs_journal(struct core *c, const struct bcfs_mkfs_opts *o, char *msg, size_t msg_size)
{
	struct bcfs_member m = sb_member_get(c->fs.sb->sb, 0);
	u64 nr;
	int ret =
		journal_size(c->fs.env, o, c->fs.sb->sb, &m, c->fs.bdev->name, &nr, msg, msg_size);

	if (ret)
		return ret;
	struct bcfs_journal_run run = {.start = m.first_bucket, .nr = nr};

	sb_lock(c->fs.sb);
	ret = sb_journal_set(c->fs.sb, &run, 1);
	sb_unlock(c->fs.sb);
	return ret;
}

/* Keys, if there is a secret that is to open them. */
static int mkfs_encrypt(struct core *c, const struct bcfs_mkfs_opts *o, char *msg, size_t msg_size)
{
	CLEANUP(printbuf_exit) struct printbuf err = PRINTBUF;
	struct crypt_kdf kdf = CRYPT_KDF_DEFAULT;
	struct crypt_secret s;
	int ret = core_secret_from(c->fs.bdev->name, o->secret, &s, msg, msg_size);

	if (ret || !s.p)
		return ret;
	if (o->metadata_csum || o->data_csum) {
		core_msg(msg, msg_size,
			 "%s: what is encrypted is authenticated with that: no checksums can be "
			 "chosen",
			 c->fs.bdev->name);
		return -BCFS_ERR_invalid_option;
	}
	if (o->kdf_passes)
		kdf.ops = o->kdf_passes;
	if (o->kdf_bytes)
		kdf.mem = o->kdf_bytes;
	/* Of a key file, too, for which it means nothing: programs try with one. */
	ret = crypt_kdf_check(&kdf, &err);
	if (ret)
		core_msg(msg, msg_size, "%s: %s", c->fs.bdev->name, printbuf_str(&err));
	/* A small read opens the whole chunk, which costs more than a checksum does. */
	if (!o->csum_chunk_bytes)
		sb_opt_set(c->fs.sb->sb, SB_OPT_chunk_shift, BCFS_CHUNK_SHIFT_ENCRYPTED);
	return ret ?: sb_crypt_make(c->fs.sb, &s, &kdf);
}

static int mkfs_populate(struct core *c, const struct bcfs_mkfs_opts *o)
{
	int ret = btree_fs_start(c->fs.btree, NULL, 0, NULL, 0)
			  ?: journal_start(c->fs.journal, 1, NULL, &c->carried);

	if (ret)
		return ret;
	c->journal_started = true;
	btree_fs_replay_none(c->fs.btree);
	ret = alloc_fs_start(c->fs.alloc, NULL) ?:
	      alloc_init_device(c->fs.alloc, c->journal_buckets, c->nr_journal_buckets) ?:
	      alloc_fs_start_threads(c->fs.alloc);
	if (ret)
		return ret;
	c->threads_started = true;
	return snapshots_init_fs(c->fs.snapshots, c->fs.btree, fs_now(&c->fs))
		       ?: fs_init_root(&c->fs, 0755, o->root_uid, o->root_gid);
}

static int mkfs_wipe(struct core *c, const struct bcfs_mkfs_opts *o)
{
	struct bdev *bdev = c->fs.bdev;

	if (bdev->can_discard && o->discard != BCFS_OFF) {
		int ret = bdev_discard(bdev, 0, bdev->size_bytes);

		if (ret)
			log_warn(&c->log, "%s: discard failed: %s", bdev->name, err_str(ret));
	}
	return sb_erase(bdev);
}

int core_mkfs_on(struct env *env, struct bdev *bdev, const struct bcfs_mkfs_opts *o,
		 struct bcfs_info *ret, char *msg, size_t msg_size)
{
	struct core_opts co = {.discard = o->discard == BCFS_ON ? BCFS_ON : BCFS_OFF,
			       .cache_bytes = 16 << 20};
	struct core *c = core_new(env, o->log, o->log_arg, &co);
	struct sb_params p;
	char own[CORE_MSG_SIZE] = "";

	if (!c) {
		core_msg(msg, msg_size, "%s: out of memory", bdev->name);
		return -BCFS_ERR_nomem;
	}
	c->making = true;
	c->real_bdev = c->fs.bdev = bdev;
	int err = mkfs_params(o, bdev, &p, own, sizeof(own)) ?:
		  sb_init(env, bdev, &c->log, &p, &c->fs.sb) ?:
		  mkfs_encrypt(c, o, own, sizeof(own)) ?:
		  mkfs_journal(c, o, own, sizeof(own)) ?:
		  mkfs_wipe(c, o) ?:
		  core_alloc_layers(c) ?:
		  mkfs_populate(c, o);
	if (err) {
		err = core_cause(c, err);
		if (own[0] || core_last_err(c, own))
			core_msg(msg, msg_size, "%s", own);
		else
			core_msg(msg, msg_size, "%s: cannot be made: %s", bdev->name, err_str(err));
		core_abort(c);
		return err;
	}
	/* The superblock is written last, by the clean shutdown. */
	struct bcfs_info info;
	core_info(c->fs.sb->sb, &info);
	info.clean = 1;
	err = core_close(c);
	if (err)
		core_msg(msg, msg_size, "%s: cannot be written: %s", bdev->name, err_str(err));
	else if (ret)
		*ret = info;
	return err;
}

/* An existing bcfs is only overwritten with force. */
static int refuse_existing(struct env *env, struct bdev *bdev, const struct bcfs_mkfs_opts *o,
			   char *msg, size_t msg_size)
{
	struct sb_handle *sb = NULL;

	if (o->force)
		return 0;
	struct core_opts co = {0};
	struct core *c = core_new(env, NULL, NULL, &co); /* its log swallows what sb_read says */
	if (!c)
		return -BCFS_ERR_nomem;
	int err = sb_read_any(env, bdev, &c->log, &sb);

	sb_free(sb);
	core_free_layers(c);
	if (err == -BCFS_ERR_sb_not_bcfs)
		return 0;
	core_msg(msg, msg_size, "%s: already holds a bcfs filesystem; use -f to overwrite it",
		 bdev->name);
	return -BCFS_ERR_mkfs_exists;
}

static int mkfs_open_device(const char *path, const struct bcfs_mkfs_opts *o, struct env **env,
			    struct bdev **bdev, char *msg, size_t msg_size)
{
	return core_open_device(path, o->dry_run, DEVICE_LOCKED, BCFS_IO_AUTO, BCFS_DEFAULT, 0, 0,
				o->log, o->log_arg, env, bdev, msg, msg_size);
}

/* What there is, before a piece of memory of another size stands in for it. */
static int look_at_image(const struct bcfs_mkfs_opts *o, const struct image_file *im, char *msg,
			 size_t msg_size)
{
	struct env *env;
	struct bdev *bdev;

	if (!o->dry_run || !im->old_size_bytes)
		return 0;
	int err = mkfs_open_device(im->path, o, &env, &bdev, msg, msg_size);

	if (err)
		return err;
	err = refuse_existing(env, bdev, o, msg, msg_size);
	bdev_close(bdev);
	env_real_destroy(env);
	return err;
}

static int mkfs_by_path(const char *path, const struct bcfs_mkfs_opts *o, struct bcfs_info *ret,
			char *msg, size_t msg_size);

/* What a new size cuts off does not come back: all is tried before, in memory. */
static int resize_image(const struct bcfs_mkfs_opts *o, struct image_file *im, char *msg,
			size_t msg_size)
{
	struct bcfs_mkfs_opts dry = *o;

	if (!image_file_will_resize(im))
		return 0;
	dry.dry_run = 1;
	dry.log = NULL;
	return mkfs_by_path(im->path, &dry, NULL, msg, msg_size)
		       ?: image_file_resize(im, msg, msg_size);
}

static int mkfs_by_path(const char *path, const struct bcfs_mkfs_opts *o, struct bcfs_info *ret,
			char *msg, size_t msg_size)
{
	struct image_file im;
	struct env *env;
	struct bdev *bdev, *over = NULL;

	int err = image_file_prepare(&im, path, o->size_bytes, o->dry_run, msg, msg_size) ?:
		  look_at_image(o, &im, msg, msg_size) ?:
		  resize_image(o, &im, msg, msg_size) ?:
		  mkfs_open_device(image_file_path(&im), o, &env, &bdev, msg, msg_size);
	if (err) {
		image_file_done(&im, true);
		return err;
	}
	/* What stands in for the file has its name. */
	err = bdev_set_name(bdev, path) ?: refuse_existing(env, bdev, o, msg, msg_size);
	if (!err && o->dry_run) {
		err = overlay_bdev_create(env, bdev, &over);
		if (err)
			core_msg(msg, msg_size, "%s: %llu bytes: %s", path,
				 (unsigned long long)bdev->size_bytes, err_str(err));
	}
	if (!err)
		err = core_mkfs_on(env, over ?: bdev, o, ret, msg, msg_size);
	bdev_close(over);
	bdev_close(bdev);
	env_real_destroy(env);
	image_file_done(&im, err);
	return err;
}

int bcfs_mkfs(const char *path, const struct bcfs_mkfs_opts *opts, struct bcfs_info *ret, char *msg,
	      size_t msg_size)
{
	struct bcfs_mkfs_opts o = {0};

	if (opts)
		memcpy(&o, opts, min(opts->struct_size, sizeof(o)));
	return mkfs_by_path(path, &o, ret, msg, msg_size);
}
