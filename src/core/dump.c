// SPDX-License-Identifier: LGPL-2.1-or-later
/* What `bcfs dump` shows: superblock, journal, keys, nodes, buckets. Read-only. */
#include "core/core.h"

#include "btree/btree.h"
#include "util/darray.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dump {
	struct bcfs_dump_opts o;
	bcfs_out_fn out;
	void *arg;
	struct env *env;
	struct bdev *bdev;
	struct core *c;
	struct printbuf buf;
	u64 nr; /* of lines or nodes, against the limit */
	struct crypt_secret secret;
};

static void dump_flush(struct dump *d)
{
	if (d->buf.pos)
		d->out(d->arg, printbuf_str(&d->buf));
	printbuf_reset(&d->buf);
}

static int dump_begin(struct dump *d, const char *path, const struct bcfs_dump_opts *opts,
		      bcfs_out_fn out, void *arg, char *msg, size_t msg_size)
{
	*d = (struct dump){.out = out, .arg = arg, .buf = PRINTBUF};
	if (opts)
		memcpy(&d->o, opts, min(opts->struct_size, sizeof(d->o)));
	int ret = core_secret_from(path, d->o.secret, &d->secret, msg, msg_size);

	if (ret)
		return ret;
	return core_open_device(path, true, d->o.no_lock ? DEVICE_LOOK : DEVICE_LOCKED,
				BCFS_IO_THREADS, d->o.no_lock ? BCFS_OFF : BCFS_DEFAULT,
				d->o.wait_lock_ms, 2, d->o.log, d->o.log_arg, &d->env, &d->bdev,
				msg, msg_size);
}

static void dump_end(struct dump *d)
{
	dump_flush(d);
	printbuf_exit(&d->buf);
	if (d->c)
		core_close(d->c);
	bdev_close(d->bdev);
	env_real_destroy(d->env);
}

static int dump_open_fs(struct dump *d, char *msg, size_t msg_size)
{
	struct core_opts co = {
		.read_only = true, .for_check = true, .no_background = true, .secret = d->secret};

	return core_open_on(d->env, d->bdev, &co, d->o.log, d->o.log_arg, &d->c, msg, msg_size);
}

static bool dump_limit(struct dump *d)
{
	return d->o.limit && d->nr >= d->o.limit;
}

/* ---- superblock ---- */

struct dump_log {
	char line[CORE_MSG_SIZE];
};

static void dump_log_line(void *arg, enum log_level level, const char *line)
{
	struct dump_log *l = arg;

	if (level == LOG_LEVEL_ERR && !l->line[0])
		snprintf(l->line, sizeof(l->line), "%s", line);
}

static void dump_sb_copies(struct dump *d, const struct sb_handle *sb)
{
	const struct bcfs_sb_layout *l = &sb->sb->layout;
	size_t area = sb_area_bytes(sb->sb);
	struct bcfs_sb *copy = env_malloc_aligned(d->env, 4096, area);

	for (unsigned i = 0; copy && i < l->nr_copies; i++) {
		struct printbuf err = PRINTBUF;
		struct sb_validate_ctx ctx = {.area_bytes = area,
					      .copy_sector = l->offset[i],
					      .dev_sectors = d->bdev->size_bytes >> SECTOR_SHIFT,
					      .any_incompat = true};
		int ret = bdev_read(d->bdev, l->offset[i] << SECTOR_SHIFT, copy, area)
				  ?: sb_validate(copy, &ctx, &err);

		prt_printf(&d->buf, "\ncopy %u at sector %llu: ", i,
			   (unsigned long long)l->offset[i]);
		if (ret)
			prt_printf(&d->buf, "%s (%s)\n", err_str(ret), printbuf_str(&err));
		else
			prt_printf(&d->buf, "valid, sequence %llu\n",
				   (unsigned long long)copy->seq);
		printbuf_exit(&err);
	}
	env_free(d->env, copy);
}

int bcfs_dump_superblock(const char *path, const struct bcfs_dump_opts *opts, bcfs_out_fn out,
			 void *arg, char *msg, size_t msg_size)
{
	struct dump_log line = {0};
	struct log log = {.fn = dump_log_line, .arg = &line, .max = LOG_LEVEL_ERR};
	struct sb_handle *sb;
	struct dump d;
	int ret = dump_begin(&d, path, opts, out, arg, msg, msg_size);

	if (ret)
		return ret;
	ret = sb_read_any(d.env, d.bdev, &log, &sb);
	if (ret) {
		core_msg(msg, msg_size, "%s", line.line);
	} else {
		sb_to_text(&d.buf, sb->sb);
		if (d.o.all)
			dump_sb_copies(&d, sb);
		sb_free(sb);
	}
	dump_end(&d);
	return ret;
}

/* ---- journal ---- */

static int dump_journal_entries(struct dump *d, struct core *c)
{
	struct journal_replay r = {0};
	unsigned nr = sb_blacklist_nr(c->fs.sb->sb);
	struct journal_blacklist_range *bl = env_zalloc(d->env, (nr + 1) * sizeof(*bl));

	if (!bl)
		return -BCFS_ERR_nomem;
	for (unsigned i = 0; i < nr; i++) {
		struct bcfs_blacklist_range b = sb_blacklist_range(c->fs.sb->sb, i);

		bl[i] = (struct journal_blacklist_range){b.start, b.end};
		prt_printf(&d->buf, "blacklisted %llu - %llu\n", (unsigned long long)b.start,
			   (unsigned long long)b.end);
	}
	int ret = journal_read(c->fs.journal, bl, nr, &r);

	if (ret == -BCFS_ERR_journal_empty) {
		prt_str(&d->buf, "no entries\n");
		ret = 0;
	}
	for (size_t i = 0; !ret && i < r.nr && !dump_limit(d); i++, d->nr++) {
		prt_printf(&d->buf, "entry %llu at sector %llu%s\n",
			   (unsigned long long)r.entries[i].seq,
			   (unsigned long long)r.entries[i].sector,
			   r.entries[i].noflush ? ", noflush" : "");
		jset_to_text(&d->buf, r.entries[i].j, d->o.all);
		dump_flush(d);
	}
	if (!ret && r.seq)
		prt_printf(&d->buf, "newest flush entry %llu, needs %llu on; %llu later entries\n",
			   (unsigned long long)r.seq, (unsigned long long)r.last_seq,
			   (unsigned long long)r.dropped);
	journal_replay_free(c->fs.journal, &r);
	env_free(d->env, bl);
	return ret;
}

int bcfs_dump_journal(const char *path, const struct bcfs_dump_opts *opts, bcfs_out_fn out,
		      void *arg, char *msg, size_t msg_size)
{
	struct core_opts co = {.read_only = true, .for_check = true};
	struct dump d;
	int ret = dump_begin(&d, path, opts, out, arg, msg, msg_size);

	if (ret)
		return ret;
	co.secret = d.secret;
	/* The journal as it lies there: nothing is replayed. */
	char line[CORE_MSG_SIZE];
	struct core *c = core_new(d.env, d.o.log, d.o.log_arg, &co);
	if (!c) {
		ret = -BCFS_ERR_nomem;
	} else {
		c->real_bdev = c->fs.bdev = d.bdev;
		ret = core_read_sb(c, d.env) ?: core_alloc_layers(c) ?: dump_journal_entries(&d, c);
		if (ret)
			core_msg(msg, msg_size, "%s", core_last_err(c, line) ? line : err_str(ret));
		core_abort(c);
	}
	dump_end(&d);
	return ret;
}

/* ---- btrees ---- */

/* "inode[:offset[:snapshot]]" */
static int parse_pos(const char *s, struct bpos *pos)
{
	u64 v[3] = {pos->inode, pos->offset, pos->snapshot};

	for (unsigned i = 0; s && *s; i++) {
		char *end;

		if (i == 3)
			return -BCFS_ERR_dump_bad_pos;
		v[i] = strtoull(s, &end, 0);
		if (end == s || (*end && *end != ':'))
			return -BCFS_ERR_dump_bad_pos;
		s = *end ? end + 1 : end;
	}
	*pos = SPOS(v[0], v[1], v[2]);
	return 0;
}

static int dump_keys(struct dump *d, enum btree_id id, struct bpos start, struct bpos end)
{
	struct btree_trans *trans = btree_trans_get(d->c->fs.btree);
	int ret = for_each_btree_key_max(
		trans, iter, id, start, end,
		BTREE_ITER_ALL_SNAPSHOTS | BTREE_ITER_NOT_EXTENTS | BTREE_ITER_PREFETCH, k, ({
			prt_printf(&d->buf, "%s ", btree_id_name(id));
			bkey_val_to_text(&d->c->key_ops, &d->buf, k);
			prt_newline(&d->buf);
			d->nr++;
			if (d->buf.pos > 32768)
				dump_flush(d);
			dump_limit(d) ? 1 : 0;
		}));

	btree_trans_put(trans);
	return min(ret, 0);
}

struct dump_nodes {
	struct dump *d;
	struct bpos start, end;
	struct bset_stats sum;
};

static void stats_line(struct printbuf *out, const struct bset_stats *s)
{
	u64 aux = s->floats + s->failed, keys = s->packed_keys + s->unpacked_keys;

	prt_printf(out,
		   "keys %llu, packed %llu; key bytes %llu (unpacked %llu), value bytes %llu; "
		   "aux entries %llu, fallback %llu",
		   (unsigned long long)keys, (unsigned long long)s->packed_keys,
		   (unsigned long long)s->key_bytes, (unsigned long long)s->key_bytes_unpacked,
		   (unsigned long long)s->val_bytes, (unsigned long long)aux,
		   (unsigned long long)s->failed);
	if (keys)
		prt_printf(out, "; %.1f key bytes a key", (double)s->key_bytes / keys);
	if (aux)
		prt_printf(out, ", %.3f %% fallback", 100.0 * s->failed / aux);
	prt_newline(out);
}

static int dump_node(void *arg, const struct btree_node_info *n)
{
	struct dump_nodes *dn = arg;
	struct dump *d = dn->d;
	struct bset_stats s = {0};

	if (dump_limit(d))
		return 1;
	if (bpos_lt(n->max_key, dn->start) || bpos_gt(n->min_key, dn->end))
		return 0;
	d->nr++;
	prt_printf(&d->buf, "%s level %u ", btree_id_name(n->id), n->level);
	bpos_to_text(&d->buf, n->min_key);
	prt_str(&d->buf, " - ");
	bpos_to_text(&d->buf, n->max_key);
	prt_printf(&d->buf, ", %u sectors written, %u u64s live\n", n->sectors_written,
		   btree_keys_live_u64s(n->keys));
	if (n->ptr.k) {
		prt_str(&d->buf, "  ");
		bkey_val_to_text(&d->c->key_ops, &d->buf, n->ptr);
		prt_newline(&d->buf);
	}
	btree_keys_stats(n->keys, &s);
	if (d->o.mode == BCFS_DUMP_BSETS) {
		prt_indent_add(&d->buf, 2);
		btree_keys_to_text(&d->buf, n->keys);
		stats_line(&d->buf, &s);
		prt_indent_sub(&d->buf, 2);
	}
	if (!n->level) {
		dn->sum.floats += s.floats;
		dn->sum.failed += s.failed;
		dn->sum.packed_keys += s.packed_keys;
		dn->sum.unpacked_keys += s.unpacked_keys;
		dn->sum.key_bytes += s.key_bytes;
		dn->sum.val_bytes += s.val_bytes;
		dn->sum.key_bytes_unpacked += s.key_bytes_unpacked;
	}
	dump_flush(d);
	return 0;
}

static int dump_one_btree(struct dump *d, enum btree_id id, struct bpos start, struct bpos end)
{
	struct dump_nodes dn = {.d = d, .start = start, .end = end};

	if (d->o.mode == BCFS_DUMP_KEYS)
		return dump_keys(d, id, start, end);
	if (!btree_depth(d->c->fs.btree, id))
		return 0;
	int ret = btree_for_each_node(d->c->fs.btree, id, dump_node, NULL, &dn);

	if (ret >= 0 && d->o.mode == BCFS_DUMP_BSETS) {
		prt_printf(&d->buf, "%s, leaves: ", btree_id_name(id));
		stats_line(&d->buf, &dn.sum);
		dump_flush(d);
	}
	return min(ret, 0);
}

int bcfs_dump_btree(const char *path, const struct bcfs_dump_opts *opts, bcfs_out_fn out, void *arg,
		    char *msg, size_t msg_size)
{
	struct bpos start = POS_MIN, end = SPOS_MAX;
	struct dump d;
	int only = -1;
	int ret = dump_begin(&d, path, opts, out, arg, msg, msg_size);

	if (ret)
		return ret;
	for (unsigned i = 0; d.o.btree && i < BTREE_ID_NR; i++)
		if (!strcmp(d.o.btree, btree_id_name(i)))
			only = i;
	ret = parse_pos(d.o.start, &start) ?: parse_pos(d.o.end, &end);
	if (!ret && d.o.btree && only < 0)
		ret = -BCFS_ERR_dump_bad_btree;
	if (ret)
		core_msg(msg, msg_size, "%s: %s", d.o.btree ?: path, err_str(ret));
	else
		ret = dump_open_fs(&d, msg, msg_size);
	for (unsigned i = 0; !ret && i < BTREE_ID_NR; i++)
		if (only < 0 || only == (int)i) {
			ret = dump_one_btree(&d, i, start, end);
			if (ret)
				core_msg(msg, msg_size, "%s: btree %s: %s", path, btree_id_name(i),
					 err_str(ret));
		}
	dump_end(&d);
	return ret;
}

/* ---- buckets ---- */

static const char *data_type_name(unsigned type)
{
	static const char *const names[] = {
#define x(name, nr) [nr] = #name,
		BCFS_DATA_TYPES(x)
#undef x
	};
	return type < ARRAY_SIZE(names) && names[type] ? names[type] : "unknown";
}

static void dump_bucket(struct dump *d, u64 bucket, const struct bcfs_alloc *a)
{
	if (dump_limit(d))
		return;
	prt_printf(&d->buf, "bucket %llu %s gen %u dirty %u cached %u sectors\n",
		   (unsigned long long)bucket, data_type_name(a->data_type), a->gen,
		   a->dirty_sectors, a->cached_sectors);
	d->nr++;
	if (d->buf.pos > 32768)
		dump_flush(d);
}

/* Buckets with alloc keys, ascending. */
struct dump_buckets {
	DARRAY(u64) used;
	u64 nr_type[BCFS_DATA_NR];
	size_t i; /* the first of used at or behind where the walk of generations is */
};

/* Free buckets that were in use before: those of the group that have no alloc key. */
static void dump_free_group(struct dump *d, struct dump_buckets *b, struct bkey_s_c k)
{
	u8 gens[BCFS_ALLOC_GENS_GROUP];
	bool known = alloc_gens_unpack(k, gens);

	for (unsigned i = 0; known && i < ARRAY_SIZE(gens); i++) {
		u64 bucket = k.k->p.offset * BCFS_ALLOC_GENS_GROUP + i;
		struct bcfs_alloc a = {.gen = gens[i]};

		while (b->i < b->used.nr && b->used.data[b->i] < bucket)
			b->i++;
		if (gens[i] && (b->i == b->used.nr || b->used.data[b->i] != bucket))
			dump_bucket(d, bucket, &a);
	}
}

static int dump_all_buckets(struct dump *d, struct dump_buckets *b)
{
	struct btree_trans *trans = btree_trans_get(d->c->fs.btree);
	struct bpos gens = POS(BCFS_ALLOC_GENS, 0);
	int ret;

	ret = for_each_btree_key_max(
		trans, iter, BTREE_ID_alloc, POS_MIN, bpos_predecessor(gens), 0, k, ({
			const struct bcfs_alloc *a = (const void *)k.v;
			int err = 0;

			if (k.k->type == KEY_TYPE_alloc && a->data_type < BCFS_DATA_NR) {
				b->nr_type[a->data_type]++;
				dump_bucket(d, k.k->p.offset, a);
				if (darray_push(&b->used, k.k->p.offset))
					err = -BCFS_ERR_nomem;
			}
			err;
		}));
	if (!ret && d->o.all)
		ret = for_each_btree_key (trans, iter, BTREE_ID_alloc, gens, 0, k, ({
						  dump_free_group(d, b, k);
						  0;
					  }));
	btree_trans_put(trans);
	return ret;
}

int bcfs_dump_buckets(const char *path, const struct bcfs_dump_opts *opts, bcfs_out_fn out,
		      void *arg, char *msg, size_t msg_size)
{
	struct dump d;
	int ret = dump_begin(&d, path, opts, out, arg, msg, msg_size);

	if (ret)
		return ret;
	ret = dump_open_fs(&d, msg, msg_size);
	if (!ret) {
		struct bcfs_member m = sb_member_get(d.c->fs.sb->sb, 0);
		struct dump_buckets b = {0};

		ret = dump_all_buckets(&d, &b);
		for (unsigned i = 1; i < BCFS_DATA_NR; i++)
			if (b.nr_type[i])
				prt_printf(&d.buf, "%s %llu buckets\n", data_type_name(i),
					   (unsigned long long)b.nr_type[i]);
		prt_printf(&d.buf, "free %llu of %llu buckets of %u sectors\n",
			   (unsigned long long)(m.nr_buckets - b.used.nr),
			   (unsigned long long)m.nr_buckets, m.bucket_sectors);
		if (ret)
			core_msg(msg, msg_size, "%s: %s", path, err_str(ret));
		darray_exit(&b.used);
	}
	dump_end(&d);
	return ret;
}
