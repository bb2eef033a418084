/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * File data: reading, writing, punching and preallocating ranges of one inode's extents.
 *
 * A write encodes its bytes into extents of at most extent_max sectors (checksummed in
 * chunks), allocates space, writes it, waits for the write, and commits the extent keys together
 * with the caller's update of the inode: one transaction per extent, in ascending offset. So no
 * committed key points at data that is not on the device (a flush makes it durable before the
 * journal entry that holds the key). A small write is committed first and gathers with others;
 * the journal waits for them before it flushes (gather.c).
 *
 * In an encrypted filesystem each chunk is sealed before it is handed to the device, and before
 * it comes into a buffer of gather.c: plain data are only in memory that reads and writes are done
 * from. What is sealed moves as it is while all of it is live (doc/adr/0028).
 *
 * A device write that fails is retried in another place; never in the same one.
 * A read verifies the chunks it touches before a byte is used; a chunk that does not verify answers
 * -BCFS_ERR_data_csum, or of what is encrypted _data_tag, for exactly the blocks asked of it, is
 * logged and counted.
 *
 * This layer knows inode numbers and snapshot ids, not inodes: sizes, times and counts are
 * changed by the caller's callback inside the same transaction.
 *
 * Locking: the caller serialises writes, truncates and punches of one inode whose blocks may
 * overlap (fs/ holds its inode lock); reads need no lock: an extent that changes while it is read
 * is read again.
 */
#ifndef BCFS_DATA_DATA_H
#define BCFS_DATA_DATA_H

#include "btree/iter.h"

#define DATA_IO_ALIGN 4096U /* of buffers, so that the device takes them as they are */

struct alloc_fs;
struct bdev;
struct data_fs;
struct env;
struct keyring;
struct log;

struct data_opts {
	u32 block_bytes;
	u32 extent_max_sectors; /* of uncompressed data per extent; 0: the default; cut down to
				   what a key's checksums have room for */
	u32 inline_max_bytes; /* of a file's last block that are kept in its key; 0: none; cut down
				 to data_inline_limit(), whatever the nodes' size */
	u8 csum_type;	      /* of keys: one that encrypts, and of no others */
	u8 chunk_shift;	      /* log2 sectors per checksum; 0: the default; at least a block's */
	/*
	 * NULL: not encrypted. Otherwise new data are sealed with the newest generation, and what
	 * is not sealed is damage. It may grow meanwhile.
	 */
	const struct keyring *keys;
	struct bcfs_uuid uuid; /* the filesystem's own, sealed with all data */
	/* A data error was met: count and log it. May be NULL. */
	void (*error)(void *arg, int err, u32 snapshot, u64 inum, u64 offset_bytes, u64 len_bytes);
	/* What messages call an inode; no locks are held. May be NULL. */
	void (*path)(void *arg, u32 snapshot, u64 inum, char *buf, size_t size);
	void *arg;
};

#define DATA_INLINE_DEFAULT 1536U /* bytes, or the limit if that is less */
/* The most that data_opts.inline_max_bytes may be with such blocks and btree nodes. */
u32 data_inline_limit(u32 block_bytes, u32 node_bytes);

int data_fs_alloc(struct env *env, struct bdev *bdev, struct log *log, struct btree_fs *btree,
		  struct alloc_fs *alloc, const struct data_opts *opts, struct data_fs **ret);
void data_fs_free(struct data_fs *d);

/* Copygc in the background, after replay; stopped before the allocator is. */
int data_gc_start(struct data_fs *d);
void data_gc_stop(struct data_fs *d);

/*
 * One pass over all that generations below @gen, the newest, have sealed: it is moved, and so
 * sealed anew. @stop: true to give up, which is no error; called with locks held. Errors: nospc,
 * and what ends everything. Nothing held; one pass at a time.
 */
struct data_rekeyed {
	/* Sectors: that were met; moved, with what lay beside them; met and not to be moved. */
	u64 found, moved, left;
};
int data_rekey(struct data_fs *d, u16 gen, bool (*stop)(void *arg), void *arg,
	       struct data_rekeyed *ret);
/*
 * Since the last pass began, was something that an old generation sealed given a position where
 * there was none before? The pass may then have missed it. A pass that found nothing, and false
 * behind it: there is nothing, and nothing can come.
 */
bool data_rekey_missed(const struct data_fs *d);

/*
 * The argument given to the btree for all ops points to a struct that begins so; data: NULL until
 * it is there.
 */
struct data_ops_arg {
	struct alloc_fs *alloc;
	struct data_fs *data;
};

/*
 * Small writes gather (gather.c) from start to stop; the stop comes behind the journal's. Until the
 * start each write goes out by itself.
 */
int data_gather_start(struct data_fs *d);
void data_gather_stop(struct data_fs *d);
/*
 * What gathered goes out: for journal_ops.pre_flush. -BCFS_ERR_journal_flush_later: some could not
 * be written, and are on their way to another place; or why they cannot.
 */
int data_gather_flush(struct data_fs *d, u64 seq);
/* x(name, doc) */
/* clang-format off */
#define DATA_COUNTERS(x)                                                                           \
	x(gathered, "small writes that were taken into a buffer")                                  \
	x(gather_writes, "writes they went out in")                                                \
	x(gather_sectors, "sectors of these")                                                      \
	x(gather_reads, "reads answered from a buffer")                                            \
	x(gather_moved, "buffers whose write failed and that went elsewhere")                      \
	x(compressed, "sectors of files that were given to a codec")                               \
	x(compressed_in_vain, "of these, what saved nothing, or was too long for a bucket's end")  \
	x(inline_writes, "writes that were put into a key")                                        \
	x(rebalanced, "sectors of files that were rewritten in the background")                    \
	x(rebalanced_from, "sectors these took")                                                   \
	x(rebalanced_to, "and take now")                                                           \
	x(rebalance_in_vain, "sectors of files that do not become less")                           \
	x(rebalance_gone, "sectors of files rewritten in vain: they changed meanwhile")            \
	x(rebalance_waits, "times that it waited for space")
/* clang-format on */
struct data_counters {
#define x(name, doc) u64 name;
	DATA_COUNTERS(x)
#undef x
};
void data_counters(struct data_fs *d, struct data_counters *ret);

/* Which file: the snapshot looked from, the number, and what its writes are grouped by. */
struct data_file {
	u32 snapshot;
	u64 inum;
	u16 compression; /* of what is written: compression_opt(); 0: none */
	u16 background;	 /* what that is to become in the background, ditto */
};

/*
 * Rebalance (rebalance.c): extents are rewritten in the background, as they were to be. From start
 * to stop, which comes before copygc's.
 */
int data_rebalance_start(struct data_fs *d);
void data_rebalance_stop(struct data_fs *d);
/* Until it is resumed, or the next start. */
void data_rebalance_pause(struct data_fs *d, bool pause);
enum data_rebalance_state {
	DATA_REBALANCE_IDLE,
	DATA_REBALANCE_WORKING,
	DATA_REBALANCE_PAUSED,
	DATA_REBALANCE_SPACE, /* waits until there is more of it */
	DATA_REBALANCE_ERROR, /* tries again in a while */
	DATA_REBALANCE_OFF,   /* read-only, or after an error of the filesystem */
};
struct data_rebalance_status {
	enum data_rebalance_state state;
	int err;	 /* of the last round */
	u64 todo;	 /* sectors of files */
	struct bpos pos; /* of the key that is next; inode 0: shared data */
};
void data_rebalance_status(struct data_fs *d, struct data_rebalance_status *ret);
/*
 * What a file has already becomes work, as @f->background says; or is none any more. In bounded
 * commits: begun anew after an error, it goes on. *ret_sectors: of the file, that became work.
 */
int data_rebalance_scan(struct data_fs *d, const struct data_file *f, u64 *ret_sectors);
/* What extents say against rebalance_work. Each difference is told; it may be at work meanwhile. */
int data_rebalance_check(struct btree_fs *btree, void (*report)(void *arg, const char *text),
			 void *arg);

/*
 * Called inside the transaction of each step with the intent to be committed with it: @new_end is
 * the end of the range now present (bytes), @sectors_delta the change of the inode's sector count
 * (512 B, reservations included). 0, a restart, or an error that ends the operation. A step that
 * changes no extent is left out, and its call with it.
 */
typedef int (*data_commit_fn)(struct btree_trans *trans, void *arg, u64 new_end, s64 sectors_delta);

/*
 * Write @len bytes at @offset (any alignment: partial blocks are read, merged and written anew).
 * @valid_end: the file's size now; bytes at or beyond it read as zeroes when merging.
 * *ret_done: bytes committed, also when an error ends it early. Needs no locks of the btree.
 * *ret_seq: journal seq of the last commit. -BCFS_ERR_nospc without having changed what did not
 * fit. @buf may be handed to the device: it stays unchanged until the return.
 */
int data_write(struct data_fs *d, const struct data_file *f, u64 offset, const void *buf, u64 len,
	       u64 valid_end, data_commit_fn commit, void *arg, u64 *ret_done, u64 *ret_seq);

/*
 * Read @len bytes; holes and reservations are zeroes. The caller cuts at the file's size. On an
 * error everything before the bad range is right and *ret_done says how far.
 */
int data_read(struct data_fs *d, const struct data_file *f, u64 offset, void *buf, u64 len,
	      u64 *ret_done);

/*
 * Make [offset, offset + len) a hole: whole blocks lose their extents; partial blocks at the edges
 * are zeroed (by a write; @valid_end as above). In bounded commits, ascending.
 */
int data_punch(struct data_fs *d, const struct data_file *f, u64 offset, u64 len, u64 valid_end,
	       data_commit_fn commit, void *arg, u64 *ret_seq);
/* Drop all extents at and behind @offset rounded up to a block: needs no data space. */
int data_truncate(struct data_fs *d, const struct data_file *f, u64 offset, data_commit_fn commit,
		  void *arg, u64 *ret_seq);
/*
 * Inside the transaction that removes the inode: all extents of a file, if they are few. *ret_all:
 * they were.
 */
int data_delete_step(struct btree_trans *trans, const struct data_file *f, bool *ret_all);
/*
 * Zero the rest of the block that holds @offset, from @offset on: when the file grows over an
 * unaligned end. No-op if aligned or a hole.
 */
int data_zero_tail(struct data_fs *d, const struct data_file *f, u64 offset, data_commit_fn commit,
		   void *arg, u64 *ret_seq);
/* Promise space for all holes of the range (KEY_TYPE_reservation). */
int data_fallocate(struct data_fs *d, const struct data_file *f, u64 offset, u64 len,
		   data_commit_fn commit, void *arg, u64 *ret_seq);
/*
 * The extent that @offset lies in the midst of becomes two; if @shared, only where a punch that
 * ends there gives little or nothing back: of shared or compressed data. Readers see no change; but
 * to take away or to move what begins or ends there adds no key any more, to the reflink btree
 * neither. (Reservations stay one: they would merge.) -BCFS_ERR_nospc if there is no room for the
 * key. @offset: a multiple of the block size.
 */
int data_cut(struct data_fs *d, const struct data_file *f, u64 offset, bool shared);
/*
 * Inside the transaction that moves one extent: what is left to move ends (begins, when moving
 * down) at @pos, bytes.
 */
typedef int (*data_shift_fn)(struct btree_trans *trans, void *arg, u64 pos);
/*
 * Move the extents of [start, end), reservations too, by @delta bytes, up or down, in as many
 * commits as there are extents; an extent that begins before @start is split. Their new place is a
 * hole, apart from what they leave themselves. All are multiples of the block size.
 */
int data_shift(struct data_fs *d, const struct data_file *f, u64 start, u64 end, s64 delta,
	       data_shift_fn moved, void *arg);
/*
 * Share [offset, offset + len) of @src with @dst at @dst_offset (reflink.c): extents through the
 * reflink btree, holes and reservations as holes. Both offsets are multiples of the block size; of
 * a block that @len ends in all is shared. The ranges do not overlap. In bounded commits,
 * ascending; @commit is the destination's, *ret_done bytes are shared, also when an error ends it
 * early. Both inodes are locked. Takes space for metadata only.
 */
int data_share(struct data_fs *d, const struct data_file *src, u64 offset,
	       const struct data_file *dst, u64 dst_offset, u64 len, data_commit_fn commit,
	       void *arg, u64 *ret_done);
/* All counts of the reflink btree against the keys that refer to it; nothing changes meanwhile. */
int data_check_reflink(struct data_fs *d, void (*report)(void *arg, const char *text), void *arg);
/* Where the last extent ends (bytes), which may be behind the end of the file; 0: there is none. */
int data_end(struct data_fs *d, const struct data_file *f, u64 *ret_end);
/* SEEK_DATA / SEEK_HOLE within [offset, size): the position, or size / -BCFS_ERR_data_no_data. */
int data_seek(struct data_fs *d, const struct data_file *f, u64 offset, u64 size, bool hole,
	      u64 *ret_offset);

/*
 * What a key of the extents btree adds to its inode's sector count: its size, or 0 for what stands
 * for a hole.
 */
static inline u32 data_key_sectors(const struct bkey *k)
{
	return bkey_whiteout(k) ? 0 : k->size;
}

/* Key behaviour for the table core/ builds. */
extern const struct bkey_ops bkey_ops_extent, bkey_ops_reservation, bkey_ops_error_key,
	bkey_ops_inline_data, bkey_ops_reflink_p, bkey_ops_reflink_v;

#endif
