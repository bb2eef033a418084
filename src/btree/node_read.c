// SPDX-License-Identifier: LGPL-2.1-or-later
/* Reading a node: every check between the device and a struct btree_keys. */
#include "btree/btree_private.h"
#include "util/planted.h"

#include <string.h>

/* Where we are in a node that is being read. */
struct node_parse {
	struct btree_fs *c;
	struct btree *b;
	u8 *buf;
	struct printbuf *err;
	struct bkey_format_fast f;
	struct bset_src src[BTREE_NODE_SIZE_MAX / SECTOR_SIZE];
	unsigned nr;
	u64 newest_seq;
};

/*
 * Shape, and checksum or tag, of the bset at @offset (bytes), which is decrypted; *ret_end: where
 * the next begins.
 */
static int parse_bset_header(struct node_parse *p, u32 offset, u32 end, const struct bset **ret,
			     u32 *ret_end)
{
	size_t hdr = offset ? offsetof(struct btree_node_entry, keys)
			    : offsetof(struct btree_node, keys);

	if (offset + hdr + sizeof(struct bset) > end) {
		prt_printf(p->err, "bset header at sector %u crosses the end", offset >> 9);
		return -BCFS_ERR_btree_node_bset_bounds;
	}
	const struct bset *i = (const void *)(p->buf + offset + hdr);
	if (i->seq != p->b->seq) {
		prt_printf(p->err, "bset at sector %u has seq %#llx, wanted %#llx", offset >> 9,
			   (unsigned long long)i->seq, (unsigned long long)p->b->seq);
		return -BCFS_ERR_btree_node_wrong_seq;
	}
	if (i->u64s > (end - offset - hdr - sizeof(*i)) / 8 || i->offset != offset >> 9) {
		prt_printf(p->err, "bset at sector %u: %u u64s, own offset %u", offset >> 9,
			   i->u64s, i->offset);
		return -BCFS_ERR_btree_node_bset_bounds;
	}
	size_t bytes = hdr + sizeof(*i) + i->u64s * 8UL;
	int bad = btree_bset_open(p->c, p->b->seq, offset >> 9, p->buf + offset, bytes, p->err);
	if (bad)
		return bad;
	if (BCFS_VERSION_MAJOR(i->version) > BCFS_VERSION_MAJOR(BCFS_VERSION_CURRENT)) {
		prt_printf(p->err, "version %u is newer than this program", i->version);
		return -BCFS_ERR_btree_node_version;
	}
	*ret = i;
	*ret_end = round_up(offset + (u32)bytes, p->c->opts.block_bytes);
	return 0;
}

static int parse_node_header(struct node_parse *p)
{
	const struct btree_node *n = (const void *)p->buf;
	struct btree *b = p->b;

	if (n->magic != p->c->opts.magic) {
		prt_str(p->err, "bad magic");
		return -BCFS_ERR_btree_node_magic;
	}
	if (BTREE_NODE_ID(n) != b->id || BTREE_NODE_LEVEL(n) != b->level) {
		prt_printf(p->err, "is of btree %u level %u", BTREE_NODE_ID(n),
			   BTREE_NODE_LEVEL(n));
		return -BCFS_ERR_btree_node_identity;
	}
	if (!bpos_eq(n->min_key, b->min_key) || !bpos_eq(n->max_key, b->max_key)) {
		prt_str(p->err, "covers ");
		bpos_to_text(p->err, n->min_key);
		prt_str(p->err, " - ");
		bpos_to_text(p->err, n->max_key);
		return -BCFS_ERR_btree_node_range;
	}
	int ret = bkey_format_validate(&n->format, p->err);
	if (!ret)
		bkey_format_fast_init(&p->f, &n->format);
	return ret;
}

/* Every key: inside the node, sound by its own type's rules. */
static int parse_keys(struct node_parse *p, const struct bset *i)
{
	const u64 *start = i->_keys, *end = start + i->u64s;
	int ret = bset_validate_keys(&p->f, start, i->u64s, p->err);

	for (const u64 *k = start; !ret && k < end; k += ((const struct bkey_packed *)k)->u64s) {
		struct bkey u;
		struct bkey_s_c s = bkey_disassemble(&p->f, (const void *)k, &u);

		if (!btree_node_covers(p->b, u.p)) {
			prt_str(p->err, "key outside the node: ");
			bkey_to_text(p->err, &u);
			return -BCFS_ERR_btree_node_key_range;
		}
		ret = bkey_validate(p->c->opts.ops, s, p->b->id, p->b->level, p->err);
	}
	return ret;
}

static bool seq_blacklisted(const struct btree_fs *c, u64 seq)
{
	for (unsigned i = 0; i < c->nr_bl; i++)
		if (seq >= c->bl[i].start && seq <= c->bl[i].end)
			return true;
	return false;
}

/*
 * What lies behind the last valid bset. Nodes last written before the latest crash may
 * have the rest of a lost append there; they are not appended to again.
 */
static void parse_tail(struct node_parse *p, u32 offset)
{
	u32 end = p->c->opts.node_bytes;
	size_t hdr = offsetof(struct btree_node_entry, keys);

	if (p->newest_seq >= p->c->suspect_seq || offset >= end || planted(append_behind_torn))
		return;
	const u8 *tail = p->buf + offset;
	u32 len = end - offset;
	if (!tail[0] && !memcmp(tail, tail + 1, len - 1))
		return;

	if (offset + hdr + sizeof(struct bset) <= end) {
		const struct bset *i = (const void *)(tail + hdr);

		if (i->seq == p->b->seq && seq_blacklisted(p->c, i->journal_seq))
			btree_count(p->c, bsets_blacklisted);
	}
	btree_node_set(p->b, BTREE_NODE_need_rewrite);
	btree_count(p->c, torn_tails);
}

static int node_parse(struct node_parse *p)
{
	struct btree *b = p->b;
	const struct bcfs_btree_ptr *ptr = btree_ptr_val(&b->key.k);
	u32 end = ptr->sectors_written * SECTOR_SIZE, offset = 0;
	int ret = 0;

	if (!end || end > p->c->opts.node_bytes || end % p->c->opts.block_bytes) {
		prt_printf(p->err, "pointer says %u sectors were written", ptr->sectors_written);
		return -BCFS_ERR_btree_node_bad_ptr;
	}
	b->seq = ptr->seq;

	while (offset < end) {
		const struct bset *i;
		u32 next;

		ret = parse_bset_header(p, offset, end, &i, &next);
		if (!ret && !offset) {
			ret = parse_node_header(p);
			b->first_seq = i->journal_seq;
			b->key_gen = i->key_gen;
		}
		if (!ret)
			ret = parse_keys(p, i);
		if (!ret && next > end) {
			prt_printf(p->err, "bset at sector %u ends behind sector %u", offset >> 9,
				   end >> 9);
			ret = -BCFS_ERR_btree_node_bset_bounds;
		}
		if (ret)
			return ret;
		p->src[p->nr++] = (struct bset_src){i->_keys, i->u64s, i->journal_seq};
		p->newest_seq = max(p->newest_seq, i->journal_seq);
		offset = next;
	}
	b->written = end >> SECTOR_SHIFT;

	btree_keys_init(&b->keys, b->keys.data, b->keys.aux, p->c->opts.node_bytes / 8, &p->f.f);
	ret = btree_keys_load(&b->keys, p->src, p->nr);
	if (ret) {
		prt_str(p->err, "keys do not fit a node");
		return ret;
	}
	btree_node_raise_capacity(b);
	parse_tail(p, offset);
	return 0;
}

/* The first pointer to the (only) device this process has open. */
static int node_ptr_offset(struct btree_fs *c, const struct btree *b, u64 *offset)
{
	struct bcfs_extent_ptr ptr;

	memcpy(&ptr, btree_ptr_val((struct bkey_i *)&b->key.k)->start, sizeof(ptr));
	*offset = (u64)ptr.offset << SECTOR_SHIFT;
	if (ptr.type != BCFS_EXTENT_ENTRY_ptr || ptr.dev ||
	    *offset + c->opts.node_bytes > c->bdev->size_bytes)
		return -BCFS_ERR_btree_node_bad_ptr;
	return 0;
}

int btree_node_read(struct btree_fs *c, struct btree *b)
{
	struct printbuf err = PRINTBUF;
	struct node_parse *p = NULL;
	u64 offset;
	int ret = node_ptr_offset(c, b, &offset);

	if (ret) {
		prt_str(&err, "pointer out of the device");
		goto out;
	}
	ret = -BCFS_ERR_nomem;
	p = env_zalloc(c->env, sizeof(*p));
	if (!p)
		goto out;
	p->c = c;
	p->b = b;
	p->err = &err;
	p->buf = env_malloc_aligned(c->env, 4096, c->opts.node_bytes);
	if (!p->buf)
		goto out;

	btree_count(c, node_reads);
	ret = bdev_read(c->bdev, offset, p->buf, c->opts.node_bytes);
	if (ret)
		prt_printf(&err, "%s", err_str(ret));
	else
		ret = node_parse(p);
out:
	if (ret && ret != -BCFS_ERR_nomem) {
		struct printbuf pos = PRINTBUF;

		btree_count(c, node_read_errors);
		bpos_to_text(&pos, b->max_key);
		btree_error(c, ret, "%s: btree %s level %u node at sector %llu, up to %s: %s",
			    c->bdev->name, btree_id_name(b->id), b->level,
			    (unsigned long long)(offset >> 9), printbuf_str(&pos),
			    printbuf_str(&err));
		printbuf_exit(&pos);
	}
	if (p)
		env_free(c->env, p->buf);
	env_free(c->env, p);
	printbuf_exit(&err);
	return ret;
}
