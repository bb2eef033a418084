/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of this folder share. See data.h.
 *
 * Positions in files are sectors here unless a name says bytes; all extents this version writes
 * begin and end on blocks.
 */
#ifndef BCFS_DATA_DATA_PRIVATE_H
#define BCFS_DATA_DATA_PRIVATE_H

#include "alloc/alloc.h"
#include "btree/extent_entries.h"
#include "codec/codec.h"
#include "data/data.h"
#include "dev/bdev.h"
#include "util/log.h"

#include <stdatomic.h>

#define SECTOR_BYTES 512U

struct data_fs {
	struct env *env;
	struct bdev *bdev;
	struct log *log;
	struct btree_fs *btree;
	struct alloc_fs *alloc;
	struct data_opts opts; /* completed and checked */
	u32 block_sectors;
	u32 device_block_sectors; /* reads are aligned to this */
	struct ratelimit log_limit;
	struct data_gc *gc;	    /* NULL: does not run */
	struct data_gather *gather; /* ditto */
	struct env_mutex scratch_lock;
	struct data_scratch *scratch; /* protected by scratch_lock, as is the next */
	u32 nr_scratch;
	u32 share; /* atomic: 1/256 that the last extent to be compressed took; 0: it is plain */
	u64 nr_compressed; /* atomic, as are the next two */
	u64 nr_compressed_in_vain;
	u64 nr_inline_writes;
	struct data_rebalance *rebalance; /* NULL: does not run */
	struct {
		_Atomic u32 epoch;
		_Atomic u32 writers[2]; /* by the epoch they began in, odd or even */
		_Atomic u16 gen;	/* the newest; 0: there has been no pass */
		_Atomic bool missed;
	} rekey;
	u64 shared_end;	  /* atomic: one more than where the reflink btree ends; 0: not known yet */
	u64 nr_requests;  /* atomic: reads and writes, counted while rebalance works */
	bool rebalancing; /* atomic */
};

/* A key with room for any value. */
union data_key {
	struct bkey_i k;
	u64 u64s[BKEY_U64s_MAX];
};

static inline struct bpos data_pos(const struct data_file *f, u64 sector)
{
	return SPOS(f->inum, sector, f->snapshot);
}

/* compress.c */

#define SCRATCH_KEPT	   8U
#define SCRATCH_BYTES_KEPT (6U << 20)

/* Memory of one thread that compresses or expands, kept for the next. */
struct data_scratch {
	struct data_scratch *next;
	void *mem;
	size_t bytes;		/* of all that follows */
	struct codec_mem codec; /* 0 bytes: none */
	void *probe;		/* for compress_hopeless() */
	size_t probe_bytes;
	u8 *buf; /* aligned for the device */
};

/* With at least as much for a codec, and in the buffer. NULL: no memory. */
struct data_scratch *data_scratch_get(struct data_fs *d, size_t mem_bytes, size_t buf_bytes);
void data_scratch_put(struct data_fs *d, struct data_scratch *s); /* NULL is fine */
void scratch_free(struct data_fs *d, struct data_scratch *s);
/* What compressing so needs for any extent that is made now. */
size_t data_compress_mem(const struct data_fs *d, u16 compression);

/* How a part of a file is stored. */
struct extent_form {
	const u8 *data;	    /* as it goes to the device; before extent_encode(): not sealed yet */
	u32 stored_sectors; /* of it */
	u32 sectors;	    /* of the file */
	u8 compression;	    /* enum bcfs_compression_type */
	u8 *room;	    /* of an encrypted filesystem: where it is sealed; data, perhaps */
	/* Not NULL: data is a whole extent as it was stored, with this encoding. */
	const struct bcfs_extent_crc *sealed;
	struct bcfs_extent_rebalance rebalance; /* type 0: none */
};

/* The sectors that @src takes in @dst (as large) when compressed; 0: it is not worth it. */
u32 extent_compress(struct data_fs *d, struct data_scratch *s, u16 compression, const void *src,
		    u32 sectors, u8 *dst);
/*
 * How much of @sectors to compress, where a bucket has @left (0: not known): all, or as much as
 * probably fits.
 */
u32 extent_fit(const struct data_fs *d, u32 sectors, u32 left);
/* As alloc_sectors_get(). */
typedef int (*extent_space_fn)(void *arg, u32 sectors, struct alloc_sectors *ret);
/*
 * Space for the first of @sectors at @src, compressed into @dst (as large, aligned) if @s is given
 * and that saves something: *ret says how many, and what to write. @dst is the room for sealing,
 * too: NULL only without either.
 */
int extent_place(struct data_fs *d, extent_space_fn get, void *arg, struct data_scratch *s,
		 u16 compression, const u8 *src, u32 sectors, u8 *dst, struct alloc_sectors *space,
		 struct extent_form *ret);
/*
 * The same in @space, which was got already. @stored: the sectors that all of @src takes
 * compressed, and it lies in @dst so unless that is more than @space has; 0: it is to be plain.
 */
void extent_place_in(struct data_fs *d, struct data_scratch *s, u16 compression, const u8 *src,
		     u32 sectors, u32 stored, u8 *dst, const struct alloc_sectors *space,
		     struct extent_form *ret);
/* All of a compressed extent from @stored, into @dst: crc->uncompressed_sectors. decompress. */
int extent_expand(const struct bcfs_extent_crc *crc, struct data_scratch *s, const void *stored,
		  void *dst);

/* rekey.c */

/* Around sealing data and committing their key at a new position: data_sealing_end() with the
 * result. */
unsigned data_sealing_begin(struct data_fs *d);
void data_sealing_end(struct data_fs *d, unsigned epoch);
/* Of extents, and of shared ones. */
void data_sealed_hook(struct btree_trans *trans, enum btree_id btree, unsigned level,
		      struct bkey_s_c old, struct bkey_i *new, u64 seq);

/* write.c */

/*
 * In a transaction: @key (copied) in place of what its range holds, with the caller's update;
 * @end_bytes: the most that is told to the callback.
 */
int data_put_key(struct btree_trans *trans, const struct data_file *f, const struct bkey_i *key,
		 u64 end_bytes, data_commit_fn commit, void *arg);

/* inline.c */

/* How many bytes of the end of a write belong into a key by themselves; 0: none, or all of it. */
u64 inline_tail(const struct data_fs *d, const struct data_file *f, u64 offset, u64 len,
		u64 valid_end);
/* As data_write(), if what the block then holds can be inline; 1: it cannot, nothing was done. */
int inline_write(struct data_fs *d, const struct data_file *f, u64 offset, const void *buf, u64 len,
		 u64 valid_end, data_commit_fn commit, void *arg, u64 *ret_seq);
/* As data_zero_tail(), if the block is inline; *ret_seq (may be NULL) is raised. */
int inline_zero_tail(struct data_fs *d, const struct data_file *f, u64 offset,
		     data_commit_fn commit, void *arg, u64 *ret_seq, bool *ret_inline);

/* extent_encode.c */

/*
 * The key of an extent that ends at @end and is stored as @form says, to be written at @ptr: one
 * encoding entry (none for plain data without checksums), one pointer. In an encrypted filesystem
 * the data are sealed, with a nonce of their own; form->data is then what goes to the device.
 */
int extent_encode(const struct data_fs *d, struct bpos end, const struct bcfs_extent_ptr *ptr,
		  struct extent_form *form, union data_key *ret);
/*
 * What of an encoded extent has to be read for stored sectors [*start, *end): whole chunks, and
 * whole blocks of the device; of a compressed one all.
 */
void extent_read_range(const struct data_fs *d, const struct extent_ptr_decoded *p, u32 *start,
		       u32 *end);
/*
 * Can it be read here? 0, -BCFS_ERR_codec_*; in an encrypted filesystem
 * -BCFS_ERR_data_not_encrypted and -BCFS_ERR_data_key_gen, too.
 */
int extent_readable(const struct data_fs *d, const struct bcfs_extent_crc *crc);
/*
 * Verify stored sectors [start, start + sectors), which begin on a chunk and end on one or with the
 * extent, and decrypt them in place if they are sealed. -BCFS_ERR_data_csum, or _data_tag:
 * *ret_good sectors in front are right and the *ret_bad behind them are not. For what is readable.
 */
int extent_open(const struct data_fs *d, const struct bcfs_extent_crc *crc, u32 start, void *buf,
		u32 sectors, u32 *ret_good, u32 *ret_bad);
/*
 * The same, but of what is sealed only @len bytes from byte @from of the buffer on need be
 * decrypted; the rest may stay as it is.
 */
int extent_open_part(const struct data_fs *d, const struct bcfs_extent_crc *crc, u32 start,
		     void *buf, u32 sectors, u32 from, u32 len, u32 *ret_good, u32 *ret_bad);
/* Here all of it stays so. */
int extent_verify(const struct data_fs *d, const struct bcfs_extent_crc *crc, u32 start,
		  const void *buf, u32 sectors, u32 *ret_good, u32 *ret_bad);

/* move.c */

/*
 * Move what is live in a bucket to copygc's write point. *ret_stuck: something in it cannot be
 * moved. No locks.
 */
int data_move_bucket(struct data_fs *d, const struct alloc_gc_victim *v, u64 *ret_moved,
		     bool *ret_stuck);

/* What is live in the bucket of a pointer and was sealed by a generation below gen. No locks. */
int data_move_old(struct data_fs *d, const struct bcfs_extent_ptr *ptr, u16 gen, u64 *ret_moved);
/* What is live of sectors whose write failed, until nothing is: no more is written there. */
int data_move_failed(struct data_fs *d, const struct bcfs_extent_ptr *ptr, u32 sectors);

/*
 * Extents that have work, rewritten as it says, if they are still there; what is in vain is marked
 * as tried. At most DATA_REWRITE_MAX, their keys as they were read. -BCFS_ERR_nospc: not now.
 */
#define DATA_REWRITE_MAX 16U
struct data_rewritten {
	u64 sectors, from, to; /* of files; what they took and take, as accounted */
	u64 in_vain, gone;     /* sectors of files */
};
/* Can it, or is there no way? The key has work. */
bool data_rewritable(const struct data_fs *d, struct bkey_s_c k);
int data_rewrite(struct data_fs *d, const union data_key *keys, unsigned nr,
		 struct data_rewritten *ret);

/* rebalance.c */

/* Writes of rebalance go to one stream of space; no file's. */
#define REBALANCE_STREAM 1
/*
 * Does an extent of @sectors of @f want rewriting, and how? The one place that decides it.
 * @stored: enum bcfs_compression_type; @by: the option that chose it, -1: not known.
 */
bool rebalance_wants(const struct data_fs *d, const struct data_file *f, u32 sectors, u8 stored,
		     int by, struct bcfs_extent_rebalance *ret);
/* A key says that it was tried: false, if it said nothing; says @r, type 0: nothing, with room for
 * one u64 more. */
bool rebalance_set_tried(struct bkey_i *k);
void rebalance_set_entry(struct bkey_i *k, const struct bcfs_extent_rebalance *r);
/* Memory for compressing so any extent there may be. */
size_t rebalance_compress_mem(u16 compression);
/* Of a key with pointers: keeps rebalance_work. */
int rebalance_trigger(struct btree_trans *trans, struct bkey_s_c old, struct bkey_s_c new);
/* A key of rebalance_work, or none. */
int rebalance_work_mod(struct btree_trans *trans, struct bpos pos, bool set);
/* Something became work. No locks. */
void rebalance_kick(struct data_fs *d);
void rebalance_counters(struct data_fs *d, struct data_counters *ret);
/* Somebody reads or writes. */
static inline void rebalance_yield(struct data_fs *d)
{
	if (unlikely(__atomic_load_n(&d->rebalancing, __ATOMIC_RELAXED)))
		__atomic_fetch_add(&d->nr_requests, 1, __ATOMIC_RELAXED);
}

/* gather.c */

/*
 * Take @sectors, which are to be written at the begin of @s, into a buffer; before its key is
 * committed, after which (or instead of which) gather_done() is called, before
 * alloc_sectors_done(). NULL: it is to be written by itself.
 */
struct gather_buf *gather_add(struct data_fs *d, const struct alloc_sectors *s, const void *data,
			      u32 sectors);
void gather_done(struct data_fs *d, struct gather_buf *b);
/*
 * Around each attempt to commit a key of it, in which nothing waits for the journal
 * (BTREE_COMMIT_NO_WAIT). False: the buffer could not be written, the piece has to be written
 * elsewhere.
 */
bool gather_commit_begin(struct data_fs *d, struct gather_buf *b);
void gather_commit_end(struct data_fs *d, struct gather_buf *b);
/* What is not on the device yet, of sectors that one extent has. */
bool gather_read(struct data_fs *d, u64 sector, u32 sectors, void *dst);
/* Read sectors of an extent; to be waited for. @flags: BDEV_SYNC or none. */
static inline void data_read_submit(struct data_fs *d, struct bdev_io *io, u64 sector, u32 sectors,
				    void *dst, u32 flags)
{
	bdev_io_init(io, BDEV_READ, sector << SECTOR_SHIFT, dst, sectors << SECTOR_SHIFT, flags);
	if (gather_read(d, sector, sectors, dst))
		bdev_io_answer(io, 0);
	else
		bdev_submit(d->bdev, io);
}

/* reflink.c */

/* What a commit that takes several keys away may change in the reflink btree. */
u32 reflink_u64s_per_commit(const struct data_fs *d);

/*
 * What @k, a reflink_p, has at @sector, which lies in it, as a key of type extent in its place:
 * up to its end, or to that of the reflink_v. *ret_alone: nobody else has it. True as long as
 * @iter, on the reflink btree, stays where it is put.
 */
int reflink_resolve(struct btree_iter *iter, struct bkey_s_c k, u64 sector, union data_key *ret,
		    bool *ret_alone);
/*
 * How much of [@from, *@to) of @k, a reflink_p, a commit may change that changes *@budget u64s of
 * reflink_v, from which they are taken; one at least. @k is not to be used after this.
 */
int reflink_limit(struct btree_trans *trans, struct bkey_s_c k, u64 from, u64 *to, u32 *budget);
/*
 * After -BCFS_ERR_journal_res_too_big: the first key at or behind @sector becomes two, if it is a
 * reflink_p, which changes nothing but what one commit has to; or the same error. No locks.
 */
int reflink_split(struct data_fs *d, const struct data_file *f, u64 sector, unsigned flags);
/* The reflink_v of what an extent's key @k says, at the same place; in transaction memory. */
struct bkey_i *reflink_v_of(struct btree_trans *trans, struct bkey_s_c k, u64 count);
/* Shared data at @sector that nobody else has become the file's own, if there is room for that. */
void reflink_own(struct data_fs *d, const struct data_file *f, u64 sector);

/* extent_key.c */

void extent_key_cut_front(struct bkey_i *k, u32 sectors);

/* punch.c */

/* Sectors that the inode has in [start, end), walked with @iter (which is moved). */
int data_count_sectors(struct btree_iter *iter, const struct data_file *f, u64 start, u64 end,
		       u64 *ret);

/* data.c */

/* Count and log an error. */
void data_error(struct data_fs *d, const struct data_file *f, int err, u64 offset_bytes,
		u64 len_bytes, const char *what);

#endif
