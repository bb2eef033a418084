// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Finding, reading and writing the copies.
 *
 * Reading: the copy at the fixed first place, if it is valid, says where the
 * others are. If it is not, every place where a copy may lie (the second fixed
 * place and the last area, for each possible size of an area) is looked at, and
 * the layout of each valid copy found leads to more. Copies of another
 * filesystem, left over from an earlier mkfs, are told apart by their internal
 * uuid: that of the first copy counts, else the one most copies have.
 */
#include "codec/codec.h"
#include "codec/keyring.h"
#include "sb/sb_private.h"
#include "util/errcode.h"
#include "util/planted.h"

#include <string.h>

#define SB_READ_BYTES 4096

/* Bytes that a copy's first look takes: the fixed part, in whole blocks. */
#define SB_MAX_FOUND 64

struct sb_found {
	u64 sector;
	u64 seq;
	struct bcfs_uuid uuid;
	struct bcfs_sb_layout layout;
};

/* A search for the copies of one device. */
struct sb_scan {
	struct bdev *bdev;
	u64 dev_sectors;
	void *buf; /* SECTOR_SIZE << SB_SIZE_BITS_MAX bytes */
	struct sb_found found[SB_MAX_FOUND];
	unsigned nr_found;
	u64 tried[SB_MAX_FOUND];
	unsigned nr_tried;
	bool magic_seen;
	bool read_error;
	/* Why copies were refused: the most telling reason, and its line. */
	int why;
	struct printbuf msg;
};

u64 sb_now(struct env *env)
{
	return env_real_ns(env) - (u64)BCFS_TIME_EPOCH_SEC * ENV_NSEC_PER_SEC;
}

struct sb_handle *sb_handle_alloc(struct env *env, struct bdev *bdev, const struct log *log,
				  unsigned size_bits)
{
	size_t bytes = (size_t)SECTOR_SIZE << size_bits;
	struct sb_handle *h = env_zalloc(env, sizeof(*h));

	if (!h)
		return NULL;
	h->sb = env_malloc_aligned(env, SB_READ_BYTES, bytes);
	if (!h->sb) {
		env_free(env, h);
		return NULL;
	}
	memset(h->sb, 0, bytes);
	h->env = env;
	h->bdev = bdev;
	h->log = log;
	env_mutex_init(&h->lock, env);
	return h;
}

void sb_free(struct sb_handle *h)
{
	if (!h)
		return;
	env_mutex_destroy(&h->lock);
	keyring_free(h->keys);
	env_free(h->env, h->sb);
	env_free(h->env, h);
}

/* ---- reading ---- */

static int why_rank(int why)
{
	switch (-why) {
	case 0:
	case BCFS_ERR_sb_not_bcfs:
		return 0;
	case BCFS_ERR_sb_version:
	case BCFS_ERR_sb_version_old:
		return 3;
	case BCFS_ERR_sb_truncated:
		return 2;
	default:
		return 1;
	}
}

/* Keeps the reason if it says more than what was kept before. */
static void scan_refused(struct sb_scan *s, u64 sector, int why, const char *msg)
{
	if (why_rank(why) <= why_rank(s->why))
		return;
	s->why = why;
	printbuf_reset(&s->msg);
	prt_printf(&s->msg, "sector %llu: %s", (unsigned long long)sector, msg);
}

/* A copy at sector, whole and checked, into s->buf; nothing of it depends on the device. */
static int scan_load(struct sb_scan *s, u64 sector, struct printbuf *err)
{
	static const u8 magic[16] = BCFS_SB_MAGIC;
	struct bcfs_sb *sb = s->buf;
	u64 left = (s->dev_sectors - sector) * SECTOR_SIZE, bytes;
	struct sb_validate_ctx ctx = {.copy_sector = sector, .any_incompat = true};
	int ret = bdev_read(s->bdev, sector * SECTOR_SIZE, sb, SB_READ_BYTES);

	if (ret) {
		s->read_error = true;
		return sb_fail(err, sb_read, "%s", err_str(ret));
	}
	if (memcmp(sb->magic, magic, sizeof(magic)))
		return sb_fail(err, sb_not_bcfs, "no superblock");
	s->magic_seen = true;
	bytes = round_up((u64)sb_bytes(sb), SB_READ_BYTES);
	if (bytes > SB_READ_BYTES && bytes <= SECTOR_SIZE << SB_SIZE_BITS_MAX) {
		if (bytes > left)
			return sb_fail(err, sb_truncated, "the device ends inside the superblock");
		ret = bdev_read(s->bdev, sector * SECTOR_SIZE + SB_READ_BYTES,
				(u8 *)sb + SB_READ_BYTES, bytes - SB_READ_BYTES);
		if (ret) {
			s->read_error = true;
			return sb_fail(err, sb_read, "%s", err_str(ret));
		}
		ctx.area_bytes = bytes;
	} else {
		ctx.area_bytes = SB_READ_BYTES;
	}
	return sb_validate(sb, &ctx, err);
}

/* Looks at one place; false if there is no valid copy. */
static bool scan_try(struct sb_scan *s, u64 sector)
{
	CLEANUP(printbuf_exit) struct printbuf err = PRINTBUF;
	const struct bcfs_sb *sb = s->buf;
	int ret;

	if (sector < BCFS_SB_SECTOR || sector > s->dev_sectors ||
	    s->dev_sectors - sector < SB_READ_BYTES / SECTOR_SIZE)
		return false;
	for (unsigned i = 0; i < s->nr_tried; i++)
		if (s->tried[i] == sector)
			return false;
	if (s->nr_tried == SB_MAX_FOUND)
		return false;
	s->tried[s->nr_tried++] = sector;
	ret = scan_load(s, sector, &err);
	if (ret) {
		scan_refused(s, sector, ret, printbuf_str(&err));
		return false;
	}
	s->found[s->nr_found++] = (struct sb_found){sector, sb->seq, sb->uuid, sb->layout};
	return true;
}

/* Every place that the layouts of the copies found so far, and of those they lead to, name. */
static void scan_layouts(struct sb_scan *s)
{
	for (unsigned i = 0; i < s->nr_found; i++)
		for (unsigned k = 0; k < s->found[i].layout.nr_copies; k++)
			scan_try(s, s->found[i].layout.offset[k]);
}

static void scan_device(struct sb_scan *s)
{
	if (scan_try(s, BCFS_SB_SECTOR)) {
		scan_layouts(s);
		return;
	}
	for (unsigned bits = SB_SIZE_BITS_MIN; bits <= SB_SIZE_BITS_MAX; bits++) {
		scan_try(s, BCFS_SB_SECTOR + (1ULL << bits));
		scan_try(s, sb_last_sector(s->dev_sectors, bits));
	}
	scan_layouts(s);
}

static unsigned scan_count(const struct sb_scan *s, const struct bcfs_uuid *uuid)
{
	unsigned nr = 0;

	for (unsigned i = 0; i < s->nr_found; i++)
		nr += !memcmp(&s->found[i].uuid, uuid, sizeof(*uuid));
	return nr;
}

/* The newest copy of the filesystem that is here; NULL if there is no valid copy. */
static const struct sb_found *scan_best(const struct sb_scan *s)
{
	const struct sb_found *fs = NULL, *best = NULL;

	for (unsigned i = 0; i < s->nr_found; i++) {
		const struct sb_found *f = &s->found[i];
		unsigned nr = scan_count(s, &f->uuid);

		if (f->sector == BCFS_SB_SECTOR) {
			fs = f;
			break;
		}
		if (!fs || nr > scan_count(s, &fs->uuid) ||
		    (nr == scan_count(s, &fs->uuid) && f->sector < fs->sector))
			fs = f;
	}
	for (unsigned i = 0; fs && i < s->nr_found; i++) {
		const struct sb_found *f = &s->found[i];

		if (memcmp(&f->uuid, &fs->uuid, sizeof(f->uuid)))
			continue;
		if (!best || f->seq > best->seq)
			best = f;
	}
	return best;
}

/* No valid copy: which error it is, with a line for the user. */
static int scan_failed(const struct sb_scan *s, const struct log *log)
{
	const char *dev = s->bdev->name, *msg = printbuf_str(&s->msg);

	if (!s->magic_seen && s->read_error) {
		log_err(log, "%s: no superblock could be read (%s): check the device", dev, msg);
		return -BCFS_ERR_sb_read;
	}
	if (!s->magic_seen) {
		log_err(log,
			"%s: not a bcfs filesystem: check the name, or make one with mkfs.bcfs",
			dev);
		return -BCFS_ERR_sb_not_bcfs;
	}
	if (s->why == -BCFS_ERR_sb_version) {
		log_err(log, "%s: %s: use a newer bcfs", dev, msg);
		return -BCFS_ERR_sb_version;
	}
	if (s->why == -BCFS_ERR_sb_version_old) {
		log_err(log, "%s: %s: too old; use the bcfs that made it", dev, msg);
		return -BCFS_ERR_sb_version_old;
	}
	if (s->why == -BCFS_ERR_sb_truncated) {
		log_err(log, "%s: truncated image: %s: restore its full length", dev, msg);
		return -BCFS_ERR_sb_truncated;
	}
	log_err(log, "%s: all superblock copies are damaged (%s): restore the device", dev, msg);
	return -BCFS_ERR_sb_all_damaged;
}

static void log_refused(const struct log *log, const struct bdev *bdev, int ret, const char *msg)
{
	switch (-ret) {
	case BCFS_ERR_sb_feature_incompat:
		log_err(log, "%s: %s: use a newer bcfs", bdev->name, msg);
		break;
	case BCFS_ERR_sb_truncated:
		log_err(log, "%s: truncated: %s: restore its full length", bdev->name, msg);
		break;
	case BCFS_ERR_sb_block_size_logical:
		log_err(log, "%s: %s: copy the image to a device with smaller sectors", bdev->name,
			msg);
		break;
	default:
		log_err(log, "%s: %s", bdev->name, msg);
	}
}

/* The chosen copy once more, into a handle, and held against the device. */
static int scan_open(struct sb_scan *s, const struct sb_found *best, bool any_incompat,
		     struct env *env, const struct log *log, struct sb_handle **ret_h)
{
	CLEANUP(printbuf_exit) struct printbuf msg = PRINTBUF;
	CLEANUP(sb_free_p) struct sb_handle *h = NULL;
	struct sb_validate_ctx ctx = {
		.copy_sector = best->sector,
		.dev_sectors = s->dev_sectors,
		.logical_block = s->bdev->logical_block,
		.any_incompat = any_incompat,
	};
	const struct bcfs_sb *sb = s->buf;
	int ret = scan_load(s, best->sector, &msg);

	if (ret) {
		log_err(log, "%s: superblock at sector %llu: %s", s->bdev->name,
			(unsigned long long)best->sector, printbuf_str(&msg));
		return -BCFS_ERR_sb_read;
	}
	ctx.area_bytes = round_up((u64)sb_bytes(sb), SB_READ_BYTES);
	ret = sb_validate(sb, &ctx, &msg);
	if (ret) {
		log_refused(log, s->bdev, ret, printbuf_str(&msg));
		return ret;
	}
	h = sb_handle_alloc(env, s->bdev, log, sb->layout.max_size_bits);
	if (!h)
		return -BCFS_ERR_nomem;
	memcpy(h->sb, sb, sb_bytes(sb));
	for (unsigned i = 0; i < sb->layout.nr_copies; i++)
		for (unsigned k = 0; k < s->nr_found; k++)
			if (s->found[k].sector == sb->layout.offset[i] &&
			    s->found[k].seq == sb->seq &&
			    !memcmp(&s->found[k].uuid, &sb->uuid, sizeof(sb->uuid)))
				h->copies_valid |= 1U << i;
	if (sb_features_unknown(sb, SB_FEATURE_ro_compat, NULL)) {
		prt_str(&msg, "uses features this program cannot write: ");
		sb_features_unknown(sb, SB_FEATURE_ro_compat, &msg);
		log_warn(log, "%s: %s: read-only", s->bdev->name, printbuf_str(&msg));
		h->read_only = true;
	}
	sb_covered_note(h);
	*ret_h = take_ptr(h);
	return 0;
}

static int read_sb(struct env *env, struct bdev *bdev, const struct log *log, bool any_incompat,
		   struct sb_handle **ret_h)
{
	const struct sb_found *best;
	struct sb_scan *s = env_zalloc(env, sizeof(*s));
	int ret = -BCFS_ERR_nomem;

	if (!s)
		return ret;
	s->bdev = bdev;
	s->dev_sectors = bdev->size_bytes / SECTOR_SIZE;
	s->buf = env_malloc_aligned(env, SB_READ_BYTES, SECTOR_SIZE << SB_SIZE_BITS_MAX);
	if (s->buf) {
		scan_device(s);
		best = scan_best(s);
		ret = best ? scan_open(s, best, any_incompat, env, log, ret_h)
			   : scan_failed(s, log);
	}
	if (ret == -BCFS_ERR_nomem)
		log_err(log, "%s: %s", bdev->name, err_str(ret));
	env_free(env, s->buf);
	printbuf_exit(&s->msg);
	env_free(env, s);
	return ret;
}

int sb_read(struct env *env, struct bdev *bdev, const struct log *log, struct sb_handle **ret)
{
	return read_sb(env, bdev, log, false, ret);
}

int sb_read_any(struct env *env, struct bdev *bdev, const struct log *log, struct sb_handle **ret)
{
	return read_sb(env, bdev, log, true, ret);
}

/* ---- writing ---- */

static int write_copy(struct sb_handle *h, unsigned i, u32 flags)
{
	struct bcfs_sb *sb = h->sb;
	int ret;

	sb->offset = sb->layout.offset[i];
	ret = csum_compute(NULL, sb->csum_type, NULL, NULL, 0, (u8 *)sb + sizeof(sb->csum),
			   sb_bytes(sb) - sizeof(sb->csum), &sb->csum);
	if (!ret)
		ret = bdev_write(h->bdev, sb->offset * SECTOR_SIZE, sb,
				 round_up((u64)sb_bytes(sb), SB_READ_BYTES), flags);
	if (ret)
		log_err(h->log, "%s: superblock copy at sector %llu: %s", h->bdev->name,
			(unsigned long long)sb->offset, err_str(ret));
	return ret;
}

struct copies {
	unsigned good, failed;
	bool nomem, stop;
};

/* Those of @which, until one means stop: the flush failed, or the last good one is next. */
static void write_some(struct sb_handle *h, u32 which, struct copies *w)
{
	for (unsigned i = 0; i < h->sb->layout.nr_copies; i++) {
		u32 bit = 1U << i;
		int ret;

		if (!(which & bit))
			continue;
		w->stop = w->failed && !w->good && h->copies_valid == bit;
		if (w->stop)
			return;
		h->copies_valid &= ~bit;
		ret = write_copy(h, i, w->good ? 0 : BDEV_PREFLUSH);
		if (ret) {
			w->nomem |= ret == -BCFS_ERR_nomem;
			w->failed++;
			continue;
		}
		if (!w->good && !planted(sb_copies_at_once) && bdev_flush(h->bdev)) {
			log_err(h->log, "%s: superblock: flush failed", h->bdev->name);
			w->stop = true;
			return;
		}
		w->good++;
		h->copies_valid |= bit;
	}
}

/*
 * All copies, the first that succeeds flushed before the next is begun; how many made it. Copies
 * that a crash left old or torn come first: one that is good may be the only one, and a crash may
 * tear what is being written. A write that fails may leave neither old nor new: if none has made
 * it, the last good one is left alone.
 */
static unsigned write_copies(struct sb_handle *h, bool *ret_nomem)
{
	u32 newest = h->copies_valid;
	struct copies w = {0};

	write_some(h, ~newest, &w);
	if (!w.stop)
		write_some(h, newest, &w);
	*ret_nomem = w.nomem;
	if (w.good > 1 && bdev_flush(h->bdev)) {
		log_err(h->log, "%s: superblock: flush failed", h->bdev->name);
		w.good = 1;
	}
	return w.good;
}

int sb_write(struct sb_handle *h)
{
	CLEANUP(printbuf_exit) struct printbuf msg = PRINTBUF;
	struct bcfs_sb *sb = h->sb;
	struct sb_validate_ctx ctx = {
		.area_bytes = sb_area_bytes(sb),
		.dev_sectors = h->bdev->size_bytes / SECTOR_SIZE,
		.logical_block = h->bdev->logical_block,
		.skip_csum = true,
	};
	struct bcfs_member m;
	bool nomem = false;
	int ret;

	if (h->read_only || h->bdev->read_only)
		return -BCFS_ERR_sb_write_ro;
	sb->seq++;
	sb->write_time = sb_now(h->env);
	sb->offset = BCFS_SB_SECTOR;
	ret = sb_validate(sb, &ctx, &msg) ?: sb_sign(h, &msg);
	if (ret) {
		sb->seq--;
		log_err(h->log, "%s: superblock not written: %s", h->bdev->name,
			printbuf_str(&msg));
		return ret;
	}
	m = sb_member_get(sb, sb->dev_idx);
	m.seq = sb->seq;
	(void)sb_member_set(h, sb->dev_idx, &m); /* in place: it is there */
	if (write_copies(h, &nomem) * 2 < sb->layout.nr_copies)
		return nomem ? -BCFS_ERR_nomem : -BCFS_ERR_sb_write;
	return 0;
}

/* ---- erasing ---- */

#define ERASE_CHUNK (256U << 10)

/* Zeroes sectors [start, end), as far as the device goes. */
static int erase_range(struct bdev *bdev, void *zeroes, u64 start, u64 end)
{
	u64 block = max(bdev->logical_block, SECTOR_SIZE), off, stop;

	off = round_up(start * SECTOR_SIZE, block);
	stop = round_down(min(end * SECTOR_SIZE, bdev->size_bytes), block);
	while (off < stop) {
		u64 n = min_t(u64, stop - off, ERASE_CHUNK);
		int ret = bdev_write(bdev, off, zeroes, n, 0);

		if (ret)
			return ret;
		off += n;
	}
	return 0;
}

int sb_erase(struct bdev *bdev)
{
	u64 sectors = bdev->size_bytes / SECTOR_SIZE, area = 1ULL << SB_SIZE_BITS_MAX;
	u64 front_end = BCFS_SB_SECTOR + 2 * area, back = sectors > area ? sectors - area : 0;
	void *zeroes = env_malloc_aligned(bdev->env, SB_READ_BYTES, ERASE_CHUNK);
	int ret;

	if (!zeroes)
		return -BCFS_ERR_nomem;
	memset(zeroes, 0, ERASE_CHUNK);
	ret = erase_range(bdev, zeroes, BCFS_SB_SECTOR, front_end);
	if (!ret)
		ret = erase_range(bdev, zeroes, max(back, front_end) - BCFS_SB_SECTOR, sectors);
	if (!ret)
		ret = bdev_flush(bdev);
	env_free(bdev->env, zeroes);
	return ret;
}
