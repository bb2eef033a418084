// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Writing nodes: the whole of a new one, or an append of what is unwritten.
 *
 * An append: with intent held the unwritten keys are frozen and copied into a buffer of
 * their own, the node is told they are written, and the lock is dropped; when the device has
 * them, the parent's key (or the root's journal entry) gets the new sectors_written, and only
 * then the pins go.
 */
#include "btree/btree_private.h"
#include "util/planted.h"

#include <string.h>

u32 btree_keys_compact_u64s(const struct btree_keys *k)
{
	u32 u64s = btree_keys_live_u64s(k);

	for (unsigned i = k->nr_written; i < k->nsets; i++)
		u64s += k->set[i].whiteout_u64s;
	return u64s;
}

u32 btree_node_room(const struct btree *b, enum btree_room which)
{
	const struct btree_fs *c = b->c;
	s64 disk = c->opts.node_bytes - c->opts.block_bytes, mem;

	disk -= b->written ? (s64)b->written * SECTOR_SIZE + (s64)sizeof(struct btree_node_entry)
			   : (s64)sizeof(struct btree_node);
	disk = disk / 8 - btree_keys_unwritten_u64s(&b->keys);
	if (which == BTREE_ROOM_normal)
		return max_t(s64, disk, 0);

	/* A node that has no more room on the device is rewritten instead of appended to. */
	mem = (s64)btree_node_mem_bytes(c) / 8 - btree_keys_compact_u64s(&b->keys);
	if (which == BTREE_ROOM_interior)
		mem -= (btree_node_mem_bytes(c) - c->opts.node_bytes) / 16;
	mem = max(mem, disk);
	return max_t(s64, mem, 0);
}

u32 btree_leaf_always_u64s(const struct btree_fs *c, u32 key_u64s)
{
	u32 node = c->opts.node_bytes / 8, block = c->opts.block_bytes / 8;
	/* What its rewriting leaves; a block is never used. */
	u32 used = round_up(key_u64s + (u32)sizeof(struct btree_node) / 8, block) +
		   (u32)sizeof(struct btree_node_entry) / 8 + block;

	return node > used ? node - used : 0;
}

/*
 * Header fields, and checksum or encryption, of the bset at @buf, its keys in place; *ret_bytes
 * rounded to blocks.
 */
static int seal_bset(struct btree_fs *c, struct btree *b, void *buf, size_t hdr, struct bset *i,
		     u32 u64s, u64 journal_seq, u32 offset_sectors, size_t *ret_bytes)
{
	struct printbuf err = PRINTBUF;
	size_t bytes = hdr + sizeof(*i) + u64s * 8UL;
	int ret;

	i->seq = b->seq;
	i->journal_seq = journal_seq;
	i->version = BCFS_VERSION_CURRENT;
	i->u64s = u64s;
	i->offset = offset_sectors;

	ret = bset_validate_keys(&b->keys.f, i->_keys, u64s, &err);
	for (u64 *k = i->_keys; !ret && k < i->_keys + u64s; k += ((struct bkey_packed *)k)->u64s) {
		struct bkey u;
		struct bkey_s_c s = bkey_disassemble(&b->keys.f, (void *)k, &u);

		/* In memory only. */
		if (s.k->type == KEY_TYPE_btree_ptr)
			((struct bcfs_btree_ptr *)s.v)->mem_ptr = 0;
		ret = bkey_validate(c->opts.ops, s, b->id, b->level, &err);
	}
	if (ret)
		btree_error(c, ret, "%s: refusing to write btree %s level %u: %s", c->bdev->name,
			    btree_id_name(b->id), b->level, printbuf_str(&err));
	else
		ret = btree_bset_seal(c, b->seq, offset_sectors, buf, bytes);
	printbuf_exit(&err);
	*ret_bytes = round_up(bytes, (size_t)c->opts.block_bytes);
	return ret;
}

static u64 node_dev_offset(const struct btree *b)
{
	struct bcfs_extent_ptr ptr;

	memcpy(&ptr, btree_ptr_val((struct bkey_i *)&b->key.k)->start, sizeof(ptr));
	return (u64)ptr.offset << SECTOR_SHIFT;
}

int btree_node_write_initial(struct btree_fs *c, struct btree *b, void *buf, u64 *scratch)
{
	struct btree_node *n = buf;
	size_t bytes;

	btree_keys_freeze(&b->keys, scratch);
	u64 seq = journal_cur_seq(c->j);

	/* It has more room in memory. */
	if (sizeof(*n) / 8 + btree_keys_live_u64s(&b->keys) > c->opts.node_bytes / 8)
		return -BCFS_ERR_bset_too_big;
	memset(n, 0, sizeof(*n));
	n->magic = c->opts.magic;
	n->flags = BTREE_NODE_FLAGS(b->id, b->level);
	memcpy(&n->ptr_id, btree_ptr_val(&b->key.k)->start, 8);
	n->min_key = b->min_key;
	n->max_key = b->max_key;
	n->format = b->keys.f.f;
	u32 u64s = btree_keys_copy_unwritten(&b->keys, n->keys._keys, NULL);
	int ret = seal_bset(c, b, n, offsetof(struct btree_node, keys), &n->keys, u64s, seq, 0,
			    &bytes);
	size_t used = sizeof(*n) + u64s * 8UL;
	memset((u8 *)n + used, 0, bytes - used);

	if (!ret && atomic_load(&c->halted))
		ret = -BCFS_ERR_btree_halted;
	if (!ret)
		ret = bdev_write(c->bdev, node_dev_offset(b), n, bytes, 0);
	if (ret)
		return ret;

	b->written = bytes >> SECTOR_SHIFT;
	b->first_seq = seq;
	b->key_gen = n->keys.key_gen;
	btree_ptr_val(&b->key.k)->sectors_written = b->written;
	btree_keys_mark_written(&b->keys, scratch);
	btree_node_raise_capacity(b);
	btree_count(c, node_writes_initial);
	btree_count_add(c, bytes_initial, bytes);
	return 0;
}

static void node_write_io_done(struct bdev_io *io)
{
	struct btree_write *w = container_of(io, struct btree_write, io);
	struct btree_fs *c = w->b->c;

	env_mutex_lock(&c->write_lock);
	w->b->io_in_flight = false;
	w->ret = io->ret;
	w->io_done = true; /* whoever waits for this may free it */
	env_cond_broadcast(&c->write_cond);
	env_mutex_unlock(&c->write_lock);
}

int btree_node_write_start(struct btree_fs *c, struct btree *b, struct btree_write *w, u64 *scratch)
{
	env_mutex_lock(&c->write_lock);
	bool busy = b->write_in_flight;
	env_mutex_unlock(&c->write_lock);
	if (busy)
		return -BCFS_ERR_btree_write_in_flight;
	if (!btree_node_dirty(b)) {
		/* An append failed, and so did the rewrite after it: the pins are still there. */
		bool again = btree_node_flag(b, BTREE_NODE_need_rewrite) &&
			     (journal_pin_active(&b->pins[0]) || journal_pin_active(&b->pins[1]));

		return again ? -BCFS_ERR_btree_need_rewrite : 1;
	}
	if (btree_node_flag(b, BTREE_NODE_need_rewrite | BTREE_NODE_fake))
		return -BCFS_ERR_btree_need_rewrite;

	size_t hdr = offsetof(struct btree_node_entry, keys);
	u32 max_u64s = btree_keys_unwritten_u64s(&b->keys);
	size_t buf_bytes = round_up(sizeof(struct btree_node_entry) + max_u64s * 8UL,
				    (size_t)c->opts.block_bytes);
	if (b->written * (u64)SECTOR_SIZE + buf_bytes > c->opts.node_bytes)
		return -BCFS_ERR_btree_need_rewrite;
	struct btree_node_entry *e = env_malloc_aligned(c->env, 4096, buf_bytes);
	if (!e)
		return -BCFS_ERR_nomem;

	six_lock(&b->lock, SIX_WRITE);
	btree_keys_freeze(&b->keys, scratch);
	six_unlock(&b->lock, SIX_WRITE);

	u64 seq;
	memset(e, 0, sizeof(*e));
	u32 u64s = btree_keys_copy_unwritten(&b->keys, e->keys._keys, &seq);
	int ret = seal_bset(c, b, e, hdr, &e->keys, u64s, seq, b->written, &w->buf_bytes);
	if (!ret && atomic_load(&c->halted))
		ret = -BCFS_ERR_btree_halted;
	if (ret) {
		env_free(c->env, e);
		return ret;
	}
	size_t used = sizeof(*e) + u64s * 8UL;
	memset((u8 *)e + used, 0, w->buf_bytes - used);

	w->b = b;
	w->buf = e;
	w->offset = b->written;
	w->sectors = w->buf_bytes >> SECTOR_SHIFT;
	w->hash = atomic_load(&b->hash_val);
	w->journal_seq = seq;
	w->w = b->w;
	w->ret = 0;
	w->io_done = false;

	env_mutex_lock(&c->write_lock);
	b->write_in_flight = true;
	b->io_in_flight = true;
	env_mutex_unlock(&c->write_lock);

	six_lock(&b->lock, SIX_WRITE);
	b->written += w->sectors;
	b->w ^= 1;
	btree_keys_mark_written(&b->keys, scratch);
	if (!btree_node_flag(b,
			     BTREE_NODE_root)) /* a root's goes into the journal when it is true */
		btree_ptr_val(&b->key.k)->sectors_written = b->written;
	six_unlock(&b->lock, SIX_WRITE);

	bdev_io_init(&w->io, BDEV_WRITE, node_dev_offset(b) + (u64)w->offset * SECTOR_SIZE, w->buf,
		     w->buf_bytes, 0);
	w->io.done = node_write_io_done;
	if (planted(pin_before_write))
		journal_pin_drop(c->j, &b->pins[w->w]);
	bdev_submit(c->bdev, &w->io);
	return 0;
}

/* The parent's key of @w's node gets the new sectors_written, in the journal and in memory. */
static int write_done_parent(struct btree_trans *trans, struct btree_write *w, enum btree_id id,
			     unsigned level, struct bpos pos)
{
	struct btree_iter iter;
	int ret;

	btree_iter_init_level(trans, &iter, id, level + 1, pos,
			      BTREE_ITER_INTENT | BTREE_ITER_ALL_SNAPSHOTS |
				      BTREE_ITER_NOT_EXTENTS);
	struct bkey_s_c k = btree_iter_peek_slot(&iter);
	ret = bkey_err(k);
	/* If the node was replaced meanwhile, the replacement has it all. */
	if (!ret && k.k->type == KEY_TYPE_btree_ptr &&
	    (btree_ptr_hash(k) == w->hash || planted(append_done_on_replacement)) &&
	    ((const struct bcfs_btree_ptr *)k.v)->sectors_written < w->offset + w->sectors) {
		struct bkey_i *n = btree_trans_copy_key(trans, k, 0);

		btree_ptr_val(n)->sectors_written = w->offset + w->sectors;
		ret = btree_trans_queue(trans, id, level + 1, &iter, n,
					BTREE_UPDATE_NOTRIGGERS | BTREE_UPDATE_RESERVE)
			      ?: btree_trans_commit(trans, BTREE_COMMIT_RECLAIM, NULL);
	}
	btree_iter_exit(&iter);
	return ret;
}

/* The same for a root: its entry in the journal. */
static int write_done_root(struct btree_fs *c, struct btree_write *w)
{
	struct btree *b = w->b;
	struct journal_res res = {0};
	union btree_ptr_key key;
	int ret;

	six_lock(&b->lock, SIX_INTENT);
	while (1) {
		if (atomic_load(&b->hash_val) != w->hash || !btree_node_flag(b, BTREE_NODE_root)) {
			six_unlock(&b->lock, SIX_INTENT);
			return 1;
		}
		u32 u64s = jset_entry_u64s(b->key.k.k.u64s);
		ret = journal_res_get(c->j, &res, u64s, JOURNAL_RES_NONBLOCK | JOURNAL_RES_RECLAIM);
		if (ret != -BCFS_ERR_journal_would_block)
			break;
		six_unlock(&b->lock, SIX_INTENT);
		ret = journal_res_wait(c->j, u64s, JOURNAL_RES_RECLAIM);
		if (ret)
			return ret;
		six_lock(&b->lock, SIX_INTENT);
	}
	if (!ret) {
		btree_ptr_val(&b->key.k)->sectors_written = w->offset + w->sectors;
		bkey_copy(&key.k, &b->key.k);
		journal_add_entry(c->j, &res, BCFS_JSET_ENTRY_btree_root, b->id, b->level, &key,
				  key.k.k.u64s);
		journal_res_put(c->j, &res);
	}
	six_unlock(&b->lock, SIX_INTENT);
	return ret;
}

/* Does the pointer say what was written? Until it does the pins stay. */
static int write_done(struct btree_fs *c, struct btree_write *w)
{
	struct btree *b = w->b;
	int ret;

	do {
		/* The identity cannot change while the write is in flight: it is not evicted. */
		enum btree_id id = b->id;
		unsigned level = b->level;
		struct bpos pos = b->max_key;

		if (atomic_load(&b->hash_val) != w->hash)
			return 0;
		if (btree_node_flag(b, BTREE_NODE_root)) {
			ret = write_done_root(c, w);
		} else {
			struct btree_trans *trans = btree_trans_get(c);

			ret = lockrestart_do(trans, write_done_parent(trans, w, id, level, pos));
			btree_trans_put(trans);
		}
		if (ret == -BCFS_ERR_btree_no_such_level)
			ret = 1; /* it became the root this moment */
	} while (ret == 1);
	return ret;
}

/*
 * For tests that end here: the append is on the device, the journal entry of its newest keys is
 * still being filled, and those of its oldest are durable, so that recovery needs this very node.
 */
static void point_append_unflushed(struct btree_fs *c, const struct btree_write *w)
{
	if (w->journal_seq == journal_cur_seq(c->j) &&
	    w->b->pins[w->w].seq <= journal_flushed_seq(c->j) &&
	    atomic_load(&w->b->hash_val) == w->hash)
		env_inject(c->env, "append_unflushed");
}

int btree_node_write_finish(struct btree_fs *c, struct btree_write *w)
{
	struct btree *b = w->b;
	env_mutex_lock(&c->write_lock);
	while (!w->io_done)
		env_cond_wait(&c->write_cond, &c->write_lock);
	env_mutex_unlock(&c->write_lock);

	int ret = w->ret;
	bool failed = ret;

	btree_count(c, node_writes_append);
	btree_count_add(c, bytes_append, w->buf_bytes);
	env_free(c->env, w->buf);
	if (ret) {
		log_err(c->log, "%s: btree %s level %u: append failed: %s; writing it elsewhere",
			c->bdev->name, btree_id_name(b->id), b->level, err_str(ret));
		btree_node_set(b, BTREE_NODE_need_rewrite);
	} else {
		point_append_unflushed(c, w);
		if (planted(pin_before_parent))
			journal_pin_drop(c->j, &b->pins[w->w]);
		ret = write_done(c, w);
		if (ret) /* the parent does not know of it: only another place helps */
			btree_node_set(b, BTREE_NODE_need_rewrite);
	}
	if (!ret)
		journal_pin_drop(c->j, &b->pins[w->w]);

	struct bpos pos = b->max_key;
	enum btree_id id = b->id;
	unsigned level = b->level;

	env_mutex_lock(&c->write_lock);
	b->write_in_flight = false;
	bool free_it = b->free_pending;
	b->free_pending = false;
	env_cond_broadcast(&c->write_cond);
	env_mutex_unlock(&c->write_lock);
	if (free_it) {
		six_lock(&b->lock, SIX_INTENT);
		six_lock(&b->lock, SIX_WRITE);
		btree_node_mem_free(c, b);
		return min(ret, 0);
	}

	if (failed) /* the pins go when the rewrite has it all */
		ret = btree_node_rewrite(c, id, level, pos, w->hash);
	return ret;
}

void btree_wait_write_in_flight(struct btree_fs *c, struct btree *b)
{
	env_mutex_lock(&c->write_lock);
	while (b->write_in_flight)
		env_cond_wait(&c->write_cond, &c->write_lock);
	env_mutex_unlock(&c->write_lock);
}

void btree_wait_io_in_flight(struct btree_fs *c, struct btree *b)
{
	env_mutex_lock(&c->write_lock);
	while (b->io_in_flight)
		env_cond_wait(&c->write_cond, &c->write_lock);
	env_mutex_unlock(&c->write_lock);
}

/*
 * Start writing @b if it is still that node and dirty. 0: under way; 1: nothing to do;
 * 2: another write is under way; 3: it must be rewritten (done here if @rewrite).
 */
static int flush_start(struct btree_fs *c, struct btree *b, u64 hash, struct btree_write *w,
		       u64 *scratch, bool rewrite)
{
	six_lock(&b->lock, SIX_INTENT);
	/* 0: it is no node any more, or not yet: its memory may be a new one's in the making. */
	bool same = hash && atomic_load(&b->hash_val) == hash;
	struct bpos pos = b->max_key;
	enum btree_id id = b->id;
	unsigned level = b->level;
	int ret = same ? btree_node_write_start(c, b, w, scratch) : 1;
	six_unlock(&b->lock, SIX_INTENT);

	if (ret == -BCFS_ERR_btree_need_rewrite)
		ret = rewrite ? btree_node_rewrite(c, id, level, pos, hash) ?: 1 : 3;
	else if (ret == -BCFS_ERR_btree_write_in_flight)
		ret = 2;
	return ret;
}

int btree_node_flush(struct btree_fs *c, struct btree *b, u64 hash, bool wait)
{
	struct btree_write w;
	struct btree_trans *trans = btree_trans_get(c); /* for its scratch room */
	int ret;

	do {
		ret = flush_start(c, b, hash, &w, trans->scratch, true);
		if (!ret)
			ret = btree_node_write_finish(c, &w);
		else if (ret == 2 && wait)
			btree_wait_write_in_flight(c, b);
	} while (ret == 2 && wait);
	if (ret == 2)
		ret = 0;
	btree_trans_put(trans);
	return min(ret, 0);
}

int btree_flush_pins(void *arg, struct journal_entry_pin **pins, unsigned nr, u64 seq)
{
	struct btree_fs *c = arg;
	struct btree_write w[JOURNAL_MAX_PINS_BATCH];
	struct btree *later[JOURNAL_MAX_PINS_BATCH];
	unsigned nr_w = 0, nr_later = 0;
	int ret = 0;

	/* Before replay is done nobody can say what space is free. */
	if (!atomic_load(&c->started))
		return 0;
	struct btree_trans *trans = btree_trans_get(c);

	for (unsigned i = 0; i < nr; i++) {
		struct btree *b = container_of(pins[i] - pins[i]->kind, struct btree, pins[0]);
		u64 pin_seq = pins[i]->seq;

		if (!pin_seq || pin_seq > seq)
			continue;
		int r = flush_start(c, b, atomic_load(&b->hash_val), &w[nr_w], trans->scratch,
				    false);
		if (!r)
			nr_w++;
		else if (r > 1)
			later[nr_later++] = b;
		else if (r < 0)
			ret = r;
	}
	btree_trans_put(trans);
	for (unsigned i = 0; i < nr_w; i++)
		ret = btree_node_write_finish(c, &w[i]) ?: ret;
	/* Nothing of ours is in flight now: others may be waited for. */
	for (unsigned i = 0; i < nr_later; i++) {
		u64 hash = atomic_load(&later[i]->hash_val);

		if (hash)
			ret = btree_node_flush(c, later[i], hash, true) ?: ret;
	}
	btree_cache_shrink(c);
	return ret;
}
