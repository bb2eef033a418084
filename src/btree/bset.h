/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The keys of one btree node in memory: bsets, auxiliary search trees, and the
 * merged iterator over them. Knows nothing of disks, locks or other nodes.
 *
 * A struct btree_keys holds at most three bsets, back to back in one buffer, each
 * sorted by position, none with two keys at one position:
 *
 *	set[0 .. nr_written)		on disk
 *	set[nr_written .. nsets)	not yet on disk
 *
 * The last set, if it is not written, takes inserts and has an offset table (one
 * entry per cache line); every other set is constant but for keys being marked
 * deleted in place, and has an auxiliary search tree in eytzinger order, 4 bytes
 * an entry.
 *
 * Invariants:
 *  1. At most one key per position is live (type other than deleted) over all sets.
 *  2. A deleted key with needs_whiteout, in an unwritten set, is a whiteout: it cancels a key at
 *     its position in an on-disk bset and must be written. Every other deleted key is
 *     garbage, kept until its set is merged; the set being inserted into has none.
 *  3. needs_whiteout on a live key of an unwritten set: the newest on-disk bset that has its
 *     position has a live key there, so removing this key must leave a whiteout.
 *  4. A position has at most one live key or whiteout among the unwritten sets.
 *  5. The live keys and the whiteouts fit the buffer.
 *
 * Locking: none here. Readers may run beside each other; any change (insert,
 * freeze, compact, written) needs the node's lock exclusive.
 *
 * Algorithms: "Auxiliary search trees" and "Btree internals" in the bcache
 * programmer's guide.
 */
#ifndef BCFS_BTREE_BSET_H
#define BCFS_BTREE_BSET_H

#include "btree/bkey.h"

#define MAX_BSETS      3
#define BSET_CACHELINE 64
#define BSET_RW_MAX_BYTES                                                                          \
	(8U << 10) /* the set being inserted into is frozen beyond this, unless in order */

enum bset_aux_type { BSET_NO_AUX, BSET_RO_AUX, BSET_RW_AUX };

struct bset_tree {
	u32 start; /* u64s from the buffer's start */
	u32 end;
	u32 aux_start; /* bytes from the aux buffer's start */
	u32 aux_nr;
	u32 aux_extra;
	u8 aux_type;
	bool appended; /* being inserted into: the newest key is the last, at last_key */
	u8 pad[2];
	u64 journal_seq; /* newest journal entry with a key of this set */
	u32 live_u64s;	 /* of keys that are not deleted */
	u32 nr_live;
	u32 whiteout_u64s; /* of whiteouts as they will be written; 0 in a written set */
	u32 last_key;	   /* u64s from the set's start; if appended */
};

struct btree_keys {
	struct bkey_format_fast f;
	u64 *data; /* 8-byte aligned, capacity_u64s + one cache line */
	u8 *aux;   /* btree_keys_aux_bytes(capacity) */
	u32 capacity_u64s;
	u32 nr_misfits; /* keys inserted that the format does not take, since it was last set to 0
			 */
	u8 nsets;
	u8 nr_written;
	struct bset_tree set[MAX_BSETS];
};

/* Bytes of the aux buffer for a node of so many bytes of keys. */
size_t btree_keys_aux_bytes(size_t data_bytes);
/* Empty, with a format. The buffers are the caller's. */
void btree_keys_init(struct btree_keys *b, u64 *data, u8 *aux, u32 capacity_u64s,
		     const struct bkey_format *f);

static inline struct bkey_packed *bset_first(const struct btree_keys *b, const struct bset_tree *t)
{
	return (struct bkey_packed *)(b->data + t->start);
}
static inline struct bkey_packed *bset_last(const struct btree_keys *b, const struct bset_tree *t)
{
	return (struct bkey_packed *)(b->data + t->end);
}

/* u64s of live keys / of everything not yet written (whiteouts included) / of all sets. */
u32 btree_keys_live_u64s(const struct btree_keys *b);
u32 btree_keys_unwritten_u64s(const struct btree_keys *b);
u64 btree_keys_unwritten_seq(const struct btree_keys *b); /* newest journal seq of those, or 0 */
static inline u32 btree_keys_used_u64s(const struct btree_keys *b)
{
	return b->nsets ? b->set[b->nsets - 1].end : 0;
}

static inline u32 btree_keys_nr_live(const struct btree_keys *b)
{
	u32 nr = 0;

	for (unsigned i = 0; i < b->nsets; i++)
		nr += b->set[i].nr_live;
	return nr;
}

/* Iteration over the live keys of all sets, in order */

struct btree_node_iter {
	struct btree_node_iter_set {
		u32 k, end; /* u64s from the buffer's start */
	} data[MAX_BSETS];  /* sorted by the key each points at; empty ones last (k == end) */
};

/*
 * Where a position lies: the first key of each set, deleted ones too, at or behind it, in u64s
 * from the buffer's start. True until the keys next change.
 */
struct btree_keys_place {
	u32 k[MAX_BSETS];
};

/*
 * To the first key >= @search (all of them: also deleted ones are stepped over). @place: where
 * that is, for who wants to insert there; or NULL.
 */
void btree_node_iter_init(struct btree_node_iter *it, const struct btree_keys *b,
			  const struct bpos *search, struct btree_keys_place *place);
void btree_node_iter_init_start(struct btree_node_iter *it, const struct btree_keys *b);
/* The key at the iterator, skipping deleted ones; NULL at the end. */
struct bkey_packed *btree_node_iter_peek(struct btree_node_iter *it, const struct btree_keys *b);
void btree_node_iter_advance(struct btree_node_iter *it, const struct btree_keys *b);
/* Step back to the last live key before the iterator's place; NULL (unmoved) if there is none. */
struct bkey_packed *btree_node_iter_prev(struct btree_node_iter *it, const struct btree_keys *b);

static inline struct bkey_s_c
btree_node_iter_peek_unpack(struct btree_node_iter *it, const struct btree_keys *b, struct bkey *u)
{
	struct bkey_packed *k = btree_node_iter_peek(it, b);

	return k ? bkey_disassemble(&b->f, k, u) : bkey_s_c_null;
}

/* The live key at exactly @pos, or NULL. */
struct bkey_packed *btree_keys_lookup(const struct btree_keys *b, struct bpos pos);
void btree_keys_find(const struct btree_keys *b, struct bpos pos, struct btree_keys_place *place);
/* The live key at exactly @pos, which is at @place. */
struct bkey_packed *btree_keys_at(const struct btree_keys *b, struct bpos pos,
				  const struct btree_keys_place *place);

/* Begin to fetch what searching the sets reads first. */
void btree_keys_prefetch(const struct btree_keys *b);

/* Changes */

/*
 * u64s that inserting @k may take in the buffer and, at most, in the next write.
 * A key counts unpacked: it may not fit the format.
 */
static inline u32 btree_keys_insert_u64s(const struct bkey_i *k)
{
	return k->k.u64s;
}

/*
 * Insert, replacing the live key at the same position; KEY_TYPE_deleted deletes.
 * Keeps the invariants (whiteouts are left where a written key was). Begins a new
 * set if there is none to insert into; freezes and compacts sets as it needs.
 * The caller has checked that the unwritten keys with this one fit the node's
 * remaining room on disk, hence the buffer; @scratch is capacity_u64s of room for
 * compaction. @place: where the key's position lies, or NULL. Returns where the key is now, or
 * NULL if nothing had to be stored. Invalidates every btree_node_iter and place on the node.
 */
struct bkey_packed *btree_keys_insert(struct btree_keys *b, const struct bkey_i *k, u64 journal_seq,
				      u64 *scratch, const struct btree_keys_place *place);

/*
 * Freeze the set being inserted into (build its aux tree, merge unwritten sets into
 * one) so that it can be written. True if there is anything unwritten.
 */
bool btree_keys_freeze(struct btree_keys *b, u64 *scratch);
/*
 * Copy the unwritten keys, merged and sorted, whiteouts included, into @dst as they are
 * to be on disk (needs_whiteout cleared). Returns u64s. @newest_seq may be NULL.
 */
u32 btree_keys_copy_unwritten(const struct btree_keys *b, u64 *dst, u64 *newest_seq);
/*
 * The frozen unwritten set (the only one: see btree_keys_freeze) is now on disk, or under
 * way: it becomes written, its whiteouts garbage. Written sets are compacted as
 * their sizes ask.
 */
void btree_keys_mark_written(struct btree_keys *b, u64 *scratch);

/* One bset read from disk, in the node's format; keys validated by bset_validate_keys(). */
struct bset_src {
	const u64 *start;
	u32 u64s;
	u64 journal_seq;
};
/*
 * Structure check of raw keys from disk before anything walks them: sizes within
 * bounds, formats known, sorted, unique. 0 or -BCFS_ERR_bset_*; explains in @err.
 */
int bset_validate_keys(const struct bkey_format_fast *f, const u64 *start, u32 u64s,
		       struct printbuf *err);
/*
 * Merge any number of bsets (oldest first) into @b as one written set: the newest key of
 * a position wins, deleted keys go. 0, or -BCFS_ERR_bset_too_big.
 */
int btree_keys_load(struct btree_keys *b, const struct bset_src *src, unsigned nr);

/*
 * All live keys of @src in [min, max] into the empty @dst (its own format) as one
 * unwritten, frozen set. For rewrite, split, merge (call again to append: keys of the
 * second call must lie behind the first's; then freeze). -BCFS_ERR_bset_too_big if they do not fit.
 */
int btree_keys_sort_into(struct btree_keys *dst, const struct btree_keys *src, struct bpos min,
			 struct bpos max);
/*
 * What a format for a number of keys has to hold, and what they take. A key at SPOS_MAX is counted
 * apart: at the right edge of a btree it lies far behind all others, and stays unpacked.
 */
struct btree_keys_ranges {
	struct bkey_format_state s;
	u32 nr;
	u32 val_u64s;  /* of those */
	u32 was_u64s;  /* of those, with keys as they are stored where they were measured */
	u32 edge_u64s; /* of the key at SPOS_MAX */
};
void btree_keys_ranges_init(struct btree_keys_ranges *r);
/* Add all live keys in [min, max]. */
void btree_keys_measure(const struct btree_keys *src, struct bpos min, struct bpos max,
			struct btree_keys_ranges *r);
/* Their size in a format that holds @r->s, such as bkey_format_done()'s. */
static inline u32 btree_keys_ranges_u64s(const struct btree_keys_ranges *r,
					 const struct bkey_format *fmt)
{
	return r->nr * fmt->key_u64s + r->val_u64s + r->edge_u64s;
}

/* Checks every invariant of the header; for debug builds and tests. 0 or -BCFS_ERR_bset_*. */
int btree_keys_verify(const struct btree_keys *b, struct printbuf *err);

/* What the dump tool and benches print. */
struct bset_stats {
	u64 sets[3]; /* by bset_aux_type */
	u64 bytes[3];
	u64 floats; /* aux entries that work by their mantissa */
	u64 failed; /* aux entries that fall back to a full compare */
	u64 packed_keys, unpacked_keys;
	u64 key_bytes, val_bytes; /* as stored, live keys */
	u64 key_bytes_unpacked;
};
void btree_keys_stats(const struct btree_keys *b, struct bset_stats *stats);
void btree_keys_to_text(struct printbuf *out, const struct btree_keys *b);

/* For benches: search one set by the named method; the same answer from each. */
enum bset_search_method { BSET_SEARCH_AUX, BSET_SEARCH_BINARY, BSET_SEARCH_LINEAR };
struct bkey_packed *bset_search_with(const struct btree_keys *b, const struct bset_tree *t,
				     struct bpos search, enum bset_search_method m);

#endif
