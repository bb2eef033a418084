// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Sealed extents.
 * Goal: what is on the device is what doc/format.md says, to the byte; a changed byte of a chunk or
 * of its tag is an error of exactly that chunk, one of the nonce or of what is authenticated of all
 * of them, and nothing that was decrypted by a wrong tag is handed out; chunks can be exchanged
 * neither within an extent nor between two, nor an extent taken for one of another encoding; no
 * nonce comes twice; nothing written is on the device in plain; moving keeps sealed bytes as they
 * are if it can.
 * Method: a vector that another program made; every byte changed in turn; scans of the simulated
 * device and of all keys.
 */
#include "../test_rand.h"
#include "dfs.h"

#include <criterion/criterion.h>
#include <sodium/crypto_generichash_blake2b.h>
#include <string.h>

#define XCHACHA BCFS_CSUM_xchacha20_poly1305
#define SECTORS 22U /* chunks of 8, 8 and 6 */
#define BYTES	(SECTORS * SECTOR_BYTES)
#define CHUNK	(8U * SECTOR_BYTES)

static const struct bcfs_extent_ptr place = {.offset = 8, .gen = 1};

/* A data layer with nothing but keys of generations up to @gens. */
static struct data_fs sealing_fs(struct tfs *f, unsigned gens)
{
	struct data_fs d = {.env = f->env,
			    .opts = {.block_bytes = SECTOR_BYTES,
				     .csum_type = XCHACHA,
				     .chunk_shift = 3,
				     .keys = keyring_new(f->env, NULL),
				     .uuid = dfs_uuid},
			    .block_sectors = 1,
			    .device_block_sectors = 1};

	for (u16 gen = 1; gen <= gens; gen++) {
		struct csum_key k = dfs_master(gen);

		DFS_OK(f, keyring_add((struct keyring *)d.opts.keys, &k));
	}
	return d;
}

static void sealing_end(struct data_fs *d)
{
	keyring_free((struct keyring *)d->opts.keys);
}

static void fill(u8 *buf, u32 salt)
{
	for (u32 i = 0; i < BYTES; i++)
		buf[i] = (u8)(i * 7 + (i >> 8) * 13 + salt);
}

/* Sealed into @out; the plain data stay as they were. */
static const struct bcfs_extent_crc *encode(struct tfs *f, struct data_fs *d, const u8 *plain,
					    u8 *out, union data_key *key)
{
	struct extent_form form = {
		.data = plain, .stored_sectors = SECTORS, .sectors = SECTORS, .room = out};

	DFS_OK(f, extent_encode(d, SPOS(1, SECTORS, UINT32_MAX), &place, &form, key));
	DFS_ASSERT(f, form.data == out, "sealed somewhere else");
	return &((union extent_entry *)key->k.v)->crc;
}

/* Opens all of it in a copy: what is right in front, what then is bad. */
static int try_open(struct data_fs *d, const struct bcfs_extent_crc *crc, const u8 *sealed, u8 *out,
		    u32 *good, u32 *bad)
{
	int ret = extent_readable(d, crc);

	*good = 0;
	*bad = SECTORS;
	memcpy(out, sealed, BYTES);
	return ret ?: extent_open(d, crc, 0, out, SECTORS, good, bad);
}

/* ---- the vector ---- */

static const u8 vector_tags[3][16] = {
	{0x8a, 0xe5, 0x83, 0x25, 0x84, 0x08, 0x44, 0x61, 0xcb, 0xb8, 0x45, 0x95, 0xbe, 0x1a, 0x60,
	 0xf1},
	{0x24, 0xd3, 0x94, 0xac, 0x84, 0xaf, 0xeb, 0x1d, 0xef, 0x36, 0x4d, 0xb8, 0x66, 0x62, 0x39,
	 0xa9},
	{0x8e, 0x12, 0x0d, 0x78, 0x9c, 0x04, 0xb5, 0x9a, 0x83, 0x13, 0x1d, 0x06, 0x1c, 0x14, 0x2a,
	 0x80},
};
/* BLAKE2b-256 of the sealed bytes. */
static const u8 vector_hash[32] = {0xac, 0xe8, 0xde, 0xac, 0xfe, 0x6d, 0x99, 0xbe, 0x0c, 0x8f, 0xac,
				   0xa5, 0x86, 0x70, 0x14, 0xa7, 0xed, 0x7d, 0x36, 0x50, 0xb1, 0x76,
				   0xe2, 0x57, 0x32, 0x31, 0x41, 0xb0, 0x2e, 0x7b, 0x4f, 0xcc};

/* Only the nonce can be chosen when opening: so open, seal again by hand, and compare. */
static void run_vector(struct tfs *f)
{
	struct data_fs d = sealing_fs(f, 1);
	const struct csum_key *key = keyring_get(d.opts.keys, KEY_USE_data, 1);
	u8 plain[BYTES], sealed[BYTES], hash[32];
	struct {
		struct bcfs_extent_crc crc;
		u64 data[3 + 6];
	} e = {.crc = {.type = BCFS_EXTENT_ENTRY_crc,
		       .csum_type = XCHACHA,
		       .chunk_shift = 3,
		       .u64s = extent_crc_u64s(XCHACHA, 3, true),
		       .stored_sectors = SECTORS,
		       .uncompressed_sectors = SECTORS,
		       .key_gen = 1,
		       .nr_csums = 3}};
	struct bcfs_nonce nonce;
	u32 good, bad;

	fill(plain, 0);
	for (unsigned i = 0; i < sizeof(nonce.b); i++)
		nonce.b[i] = (u8)(0xa0 + i);
	memcpy(e.crc.data, &nonce, sizeof(nonce));
	memcpy(e.crc.data + 3, vector_tags, sizeof(vector_tags));
	for (u32 i = 0; i < 3; i++) {
		struct bcfs_nonce n = aead_chunk_nonce(&nonce, i);
		u32 at = i * CHUNK, len = min(BYTES - at, CHUNK);
		struct bcfs_csum tag;
		u8 ad[32] = {[16] = 1,	     [18] = 5, [20] = 3,    [22] = SECTORS,
			     [24] = SECTORS, [26] = 3, [28] = (u8)i};

		memcpy(ad, dfs_uuid.b, 16);
		memcpy(sealed + at, plain + at, len);
		DFS_OK(f, aead_seal(key, XCHACHA, &n, ad, sizeof(ad), sealed + at, len, &tag));
		DFS_ASSERT(f, !memcmp(tag.b, vector_tags[i], 16), "tag %u", i);
	}
	crypto_generichash_blake2b(hash, sizeof(hash), sealed, BYTES, NULL, 0);
	DFS_ASSERT(f, !memcmp(hash, vector_hash, 32), "sealed bytes");
	DFS_OK(f, extent_readable(&d, &e.crc));
	DFS_OK(f, extent_open(&d, &e.crc, 0, sealed, SECTORS, &good, &bad));
	DFS_ASSERT(f, good == SECTORS && !memcmp(sealed, plain, BYTES), "opened");
	sealing_end(&d);
}

Test(seal, vector)
{
	dfs_run(trand_seed(0xda60), &dfs_small, run_vector);
}

/* ---- every byte ---- */

static void check_one(struct tfs *f, struct data_fs *d, const struct bcfs_extent_crc *crc,
		      const u8 *sealed, const u8 *plain, u32 chunk)
{
	u32 good, bad, first = chunk * 8;
	u8 out[BYTES];

	DFS_ASSERT(f, try_open(d, crc, sealed, out, &good, &bad) == -BCFS_ERR_data_tag,
		   "chunk %u opens", chunk);
	DFS_ASSERT(f, good == first && bad == min(SECTORS - first, 8U), "%u good, %u bad", good,
		   bad);
	DFS_ASSERT(f, !memcmp(out, plain, (size_t)good * SECTOR_BYTES), "in front");
	DFS_ASSERT(f,
		   !memcmp(out + good * SECTOR_BYTES, sealed + good * SECTOR_BYTES,
			   (size_t)bad * SECTOR_BYTES),
		   "it was decrypted");
	DFS_ASSERT(f,
		   extent_verify(d, crc, 0, sealed, SECTORS, &good, &bad) == -BCFS_ERR_data_tag &&
			   good == first,
		   "verified");
	/* What is behind it can be read. */
	first += bad;
	if (first == SECTORS)
		return;
	memcpy(out, sealed, BYTES);
	DFS_OK(f, extent_open(d, crc, first, out + first * SECTOR_BYTES, SECTORS - first, &good,
			      &bad));
	DFS_ASSERT(f,
		   !memcmp(out + first * SECTOR_BYTES, plain + first * SECTOR_BYTES,
			   (SECTORS - first) * SECTOR_BYTES),
		   "behind");
}

static void run_bytes(struct tfs *f)
{
	struct data_fs d = sealing_fs(f, 2);
	u8 plain[BYTES], sealed[BYTES];
	struct bcfs_extent_crc *crc;
	unsigned refused = 0;
	union data_key key;
	u8 *e;

	fill(plain, 5);
	crc = (struct bcfs_extent_crc *)encode(f, &d, plain, sealed, &key);
	e = (u8 *)crc;
	for (u32 i = 0; i < BYTES; i += 3) {
		sealed[i] ^= (u8)(1 + i % 255);
		check_one(f, &d, crc, sealed, plain, i / CHUNK);
		sealed[i] ^= (u8)(1 + i % 255);
	}
	for (u32 i = 0; i < 3 * 16; i++) {
		u8 *tag = e + sizeof(*crc) + sizeof(struct bcfs_nonce) + i;

		*tag ^= 0x10;
		check_one(f, &d, crc, sealed, plain, i / 16);
		*tag ^= 0x10;
	}
	/* The header but for its type, its length and live_offset, and the nonce. */
	for (u32 i = 1; i < sizeof(*crc) + sizeof(struct bcfs_nonce); i++) {
		for (u8 bit = 0; bit < 8; bit++) {
			u32 good, bad;
			u8 out[BYTES];

			if (i == offsetof(struct bcfs_extent_crc, u64s) || i == 8 || i == 9 ||
			    i == 14 || i == 15)
				continue;
			e[i] ^= (u8)(1 << bit);
			if (!extent_entries_validate(bkey_ptrs(bkey_i_to_s_c(&key.k)), SECTORS,
						     NULL)) {
				DFS_ASSERT(f, try_open(&d, crc, sealed, out, &good, &bad),
					   "byte %u of the encoding", i);
				DFS_ASSERT(f, !good, "byte %u: %u sectors", i, good);
				refused++;
			}
			e[i] ^= (u8)(1 << bit);
		}
	}
	DFS_ASSERT(f, refused >= 24 * 8, "%u", refused);
	sealing_end(&d);
}

Test(seal, every_byte_counts)
{
	dfs_run(trand_seed(0xda61), &dfs_small, run_bytes);
}

/* ---- a part ---- */

/* Whatever is asked for comes out right, and a bad bit is found beside it as well. */
static void run_part(struct tfs *f)
{
	struct data_fs d = sealing_fs(f, 1);
	u8 plain[BYTES], sealed[BYTES], out[BYTES];
	u64 rng = trand_seed(0xda63);
	const struct bcfs_extent_crc *crc;
	union data_key key;
	u32 good, bad;

	fill(plain, 3);
	crc = encode(f, &d, plain, sealed, &key);
	for (unsigned round = 0; round < trand_rounds(3000); round++) {
		u32 from = trand_below(&rng, BYTES),
		    to = from + trand_below(&rng, BYTES - from + 1);
		u32 flip = trand_below(&rng, BYTES), first = flip / CHUNK * 8;

		memcpy(out, sealed, BYTES);
		DFS_OK(f, extent_open_part(&d, crc, 0, out, SECTORS, from, to - from, &good, &bad));
		DFS_ASSERT(f, good == SECTORS && !bad, "%u good, %u bad", good, bad);
		DFS_ASSERT(f, !memcmp(out + from, plain + from, to - from), "%u to %u", from, to);
		/* It is for speed that it is there. */
		for (u32 i = 0; i < BYTES; i += CHUNK) {
			u32 len = min(BYTES - i, CHUNK);

			if (to <= i || from >= i + len)
				DFS_ASSERT(f, !memcmp(out + i, sealed + i, len), "chunk at %u", i);
		}
		memcpy(out, sealed, BYTES);
		out[flip] ^= 0x20;
		DFS_ASSERT(f,
			   extent_open_part(&d, crc, 0, out, SECTORS, from, to - from, &good,
					    &bad) == -BCFS_ERR_data_tag &&
				   good == first,
			   "byte %u, %u to %u", flip, from, to);
	}
	sealing_end(&d);
}

Test(seal, a_part)
{
	dfs_run(trand_seed(0xda64), &dfs_small, run_part);
}

/* ---- exchanged ---- */

static void exchange(void *a, void *b, size_t len)
{
	u8 t[CHUNK];

	memcpy(t, a, len);
	memcpy(a, b, len);
	memcpy(b, t, len);
}

static u8 *tag_of(const struct bcfs_extent_crc *crc, u32 i)
{
	return (u8 *)crc->data + sizeof(struct bcfs_nonce) + i * 16UL;
}

static void run_exchange(struct tfs *f)
{
	struct data_fs d = sealing_fs(f, 1), other = sealing_fs(f, 1);
	u8 plain[BYTES], a[BYTES], b[BYTES], out[BYTES];
	const struct bcfs_extent_crc *ca, *cb;
	union data_key ka, kb;
	u32 good, bad;

	fill(plain, 9);
	ca = encode(f, &d, plain, a, &ka);
	cb = encode(f, &d, plain, b, &kb);
	/* Within one, tags and all. */
	exchange(a, a + CHUNK, CHUNK);
	exchange(tag_of(ca, 0), tag_of(ca, 1), 16);
	DFS_ASSERT(f, try_open(&d, ca, a, out, &good, &bad) && !good, "chunks of one exchanged");
	exchange(a, a + CHUNK, CHUNK);
	exchange(tag_of(ca, 0), tag_of(ca, 1), 16);
	/* Between two of the same data. */
	for (u32 i = 0; i < 3; i++) {
		size_t len = min(BYTES - i * CHUNK, CHUNK);

		exchange(a + i * CHUNK, b + i * CHUNK, len);
		exchange(tag_of(ca, i), tag_of(cb, i), 16);
		DFS_ASSERT(f, try_open(&d, ca, a, out, &good, &bad) && good == i * 8, "chunk %u",
			   i);
		DFS_ASSERT(f, try_open(&d, cb, b, out, &good, &bad) && good == i * 8, "chunk %u",
			   i);
		exchange(a + i * CHUNK, b + i * CHUNK, len);
		exchange(tag_of(ca, i), tag_of(cb, i), 16);
	}
	DFS_OK(f, try_open(&d, ca, a, out, &good, &bad));
	DFS_ASSERT(f, !memcmp(out, plain, BYTES), "as before");
	/* Of another filesystem with the same key. */
	other.opts.uuid.b[15] ^= 1;
	DFS_ASSERT(f, try_open(&other, ca, a, out, &good, &bad) && !good, "another filesystem");
	sealing_end(&other);
	sealing_end(&d);
}

Test(seal, chunks_are_where_they_belong)
{
	dfs_run(trand_seed(0xda62), &dfs_small, run_exchange);
}

/* ---- what is demanded ---- */

static void run_demands(struct tfs *f)
{
	struct data_fs d = sealing_fs(f, 2), old = sealing_fs(f, 1), plain_fs = d;
	u8 plain[BYTES], sealed[BYTES];
	const struct bcfs_extent_crc *crc;
	struct extent_form form = {.data = plain, .stored_sectors = SECTORS, .sectors = SECTORS};
	union data_key key;

	fill(plain, 1);
	crc = encode(f, &d, plain, sealed, &key);
	DFS_ASSERT(f, crc->key_gen == 2, "%u", crc->key_gen);
	DFS_OK(f, extent_readable(&d, crc));
	DFS_ASSERT(f, extent_readable(&old, crc) == -BCFS_ERR_data_key_gen, "a newer key");
	plain_fs.opts.keys = NULL;
	plain_fs.opts.csum_type = BCFS_CSUM_crc32c;
	DFS_ASSERT(f, extent_readable(&plain_fs, crc) == -BCFS_ERR_codec_unsupported, "no keys");
	/* By an older key. */
	crc = encode(f, &old, plain, sealed, &key);
	DFS_OK(f, extent_readable(&d, crc));
	/* Not sealed at all. */
	DFS_OK(f, extent_encode(&plain_fs, SPOS(1, SECTORS, UINT32_MAX), &place, &form, &key));
	crc = &((union extent_entry *)key.k.v)->crc;
	DFS_OK(f, extent_readable(&plain_fs, crc));
	DFS_ASSERT(f, extent_readable(&d, crc) == -BCFS_ERR_data_not_encrypted, "plain");
	DFS_ASSERT(f, extent_readable(&d, NULL) == -BCFS_ERR_data_not_encrypted, "no encoding");
	sealing_end(&old);
	sealing_end(&d);
}

Test(seal, demanded_by_the_filesystem)
{
	dfs_run(trand_seed(0xda63), &dfs_small, run_demands);
}

/* ---- on the device ---- */

#define FILE_BYTES 98304U
#define NR_FILES   4U

static const char marker[] = "the quick brown fox that nobody sees";

struct nonces {
	struct bcfs_nonce n[4096];
	u64 ptr[4096];
	unsigned nr;
};

/* All nonces of chunks now; each in only one extent. */
static void collect(struct tfs *f, struct nonces *all)
{
	struct btree_trans *trans = btree_trans_get(f->btree);

	all->nr = 0;
	DFS_OK(f, for_each_btree_key_max(
			  trans, iter, BTREE_ID_extents, POS_MIN, SPOS_MAX, 0, k, ({
				  struct extent_ptr_decoded p;

				  for_each_extent_ptr(k, 0, it, p)
				  {
					  struct bcfs_nonce n;

					  DFS_ASSERT(f, p.crc && p.crc->key_gen, "not sealed");
					  memcpy(&n, p.crc->data, sizeof(n));
					  for (u32 c = 0; c < p.crc->nr_csums; c++) {
						  DFS_ASSERT(f, all->nr < 4096, "many");
						  all->ptr[all->nr] = p.ptr.offset;
						  all->n[all->nr++] = aead_chunk_nonce(&n, c);
					  }
				  }
				  0;
			  })));
	btree_trans_put(trans);
	for (unsigned i = 0; i < all->nr; i++)
		for (unsigned j = 0; j < i; j++)
			DFS_ASSERT(f,
				   all->ptr[i] == all->ptr[j] ||
					   memcmp(&all->n[i], &all->n[j], sizeof(all->n[i])),
				   "a nonce twice");
}

static void scan_device(struct tfs *f)
{
	u64 bytes = (u64)f->g.nr_buckets * f->g.bucket_sectors * SECTOR_BYTES, step = 1 << 20;
	u8 *buf = malloc(step + sizeof(marker));

	for (u64 at = 0; at < bytes; at += step) {
		u64 n = min(bytes - at, step + sizeof(marker));

		sim_bdev_peek(f->bdev, at, buf, n);
		DFS_ASSERT(f, !memmem(buf, n, marker, sizeof(marker) - 1), "plain at about %llu",
			   (unsigned long long)at);
	}
	free(buf);
}

static void write_file(struct tfs *f, u64 inum, u64 at, u32 len, u8 *bytes, u64 *r)
{
	struct data_file x = {UINT32_MAX, inum,
			      inum % 2 ? compression_opt(BCFS_COMPRESSION_zstd, 1) : 0};
	u64 done, seq;

	for (u64 i = at; i < at + len; i++)
		bytes[i] =
			(u8)(trand_below(r, 50) ? marker[i % (sizeof(marker) - 1)] : trand_u64(r));
	DFS_OK(f,
	       data_write(f->data, &x, at, bytes + at, len, FILE_BYTES, NULL, NULL, &done, &seq));
	DFS_ASSERT(f, done == len, "%llu", (unsigned long long)done);
}

static void check_files(struct tfs *f, u8 (*bytes)[FILE_BYTES])
{
	u8 *buf = malloc(FILE_BYTES);
	u64 done;

	for (u64 i = 0; i < NR_FILES; i++) {
		struct data_file x = {UINT32_MAX, 10 + i, 0};

		DFS_OK(f, data_read(f->data, &x, 0, buf, FILE_BYTES, &done));
		DFS_ASSERT(f, !memcmp(buf, bytes[i], FILE_BYTES), "file %llu",
			   (unsigned long long)i);
	}
	free(buf);
}

static void run_scan(struct tfs *f)
{
	u8(*bytes)[FILE_BYTES] = calloc(NR_FILES, FILE_BYTES);
	struct nonces *all = malloc(sizeof(*all));
	u64 r = f->seed;

	for (unsigned round = 0; round < 6; round++) {
		for (u64 i = 0; i < NR_FILES; i++) {
			u64 at = round ? trand_below(&r, FILE_BYTES - 20000) : 0;

			write_file(f, 10 + i, at, round ? 1 + trand_below(&r, 20000) : FILE_BYTES,
				   bytes[i], &r);
		}
		check_files(f, bytes);
		DFS_OK(f, journal_flush(f->journal));
		check_files(f, bytes);
		collect(f, all);
		scan_device(f);
		if (round % 2) {
			tfs_umount(f);
			tfs_mount(f);
			check_files(f, bytes);
		}
	}
	free(all);
	free(bytes);
}

Test(seal, nothing_plain_and_no_nonce_twice)
{
	struct tfs_geometry g = dfs_sealed(&dfs_small);

	g.inline_bytes = 0; /* keys are not sealed here */
	dfs_run(trand_seed(0xda64), &g, run_scan);
	dfs_run(trand_seed(0xda64) + 1, &g, run_scan);
}

/* ---- moving ---- */

/* The buckets that these lie in, however full, with copygc's code. */
static void move_all(struct tfs *f, const struct nonces *all)
{
	DFS_OK(f, journal_flush(f->journal));
	for (u64 b = 1; b < f->g.nr_buckets; b++) {
		struct bcfs_extent_ptr ptr = {.offset = b * f->g.bucket_sectors};
		bool any = false;

		for (unsigned i = 0; i < all->nr; i++)
			any |= all->ptr[i] / f->g.bucket_sectors == b;
		for (unsigned gen = 0; any && gen < 4; gen++) {
			ptr.gen = gen;
			DFS_OK(f, data_move_failed(f->data, &ptr, f->g.bucket_sectors));
		}
	}
}

static void run_move(struct tfs *f)
{
	u8(*bytes)[FILE_BYTES] = calloc(NR_FILES, FILE_BYTES);
	struct nonces *was = malloc(sizeof(*was)), *now = malloc(sizeof(*now));
	unsigned same = 0, elsewhere = 0;
	u64 r = f->seed;

	data_gc_stop(f->data);
	for (u64 i = 0; i < NR_FILES; i++)
		write_file(f, 10 + i, 0, FILE_BYTES, bytes[i], &r);
	collect(f, was);
	move_all(f, was);
	collect(f, now);
	for (unsigned i = 0; i < was->nr; i++)
		for (unsigned j = 0; j < now->nr; j++)
			if (!memcmp(&was->n[i], &now->n[j], sizeof(was->n[i]))) {
				same++;
				elsewhere += was->ptr[i] != now->ptr[j];
			}
	/* But for what came to lie at the end of a bucket. */
	DFS_ASSERT(f, same * 4 >= was->nr * 3 && elsewhere == same, "%u of %u kept, %u moved", same,
		   was->nr, elsewhere);
	check_files(f, bytes);
	scan_device(f);

	/* Parts, and by a newer key: with nonces of their own. */
	for (u64 i = 0; i < NR_FILES; i++)
		for (u64 at = 4096; at + 8192 < FILE_BYTES; at += 16384)
			write_file(f, 10 + i, at, 4096, bytes[i], &r);
	DFS_OK(f, journal_flush(f->journal));
	tfs_umount(f);
	tfs_mount(f);
	data_gc_stop(f->data);
	collect(f, was);
	move_all(f, was);
	collect(f, now);
	for (unsigned i = 0; i < was->nr; i++)
		for (unsigned j = 0; j < now->nr; j++)
			DFS_ASSERT(f, memcmp(&was->n[i], &now->n[j], sizeof(was->n[i])),
				   "a nonce of the older key");
	check_files(f, bytes);
	scan_device(f);
	free(now);
	free(was);
	free(bytes);
}

Test(seal, moving)
{
	struct tfs_geometry g = dfs_sealed(&dfs_small);

	g.inline_bytes = 0;
	g.extent_sectors = 64;
	g.bucket_sectors = 512;
	g.nr_buckets = 256;
	dfs_run(trand_seed(0xda65), &g, run_move);
	dfs_run(trand_seed(0xda65) + 1, &g, run_move);
}

/* The first key of a file from @sector on; @lose: it was sealed with a key that is not there. */
static int extent_at(struct btree_trans *trans, const struct data_file *x, u64 sector, bool lose,
		     struct extent_ptr_decoded *ret)
{
	struct btree_iter iter;
	struct bkey_s_c k;
	struct bkey_i *n;
	int err;

	btree_iter_init(trans, &iter, BTREE_ID_extents, data_pos(x, sector), BTREE_ITER_INTENT);
	k = btree_iter_peek_slot(&iter);
	err = bkey_err(k);
	if (!err) {
		struct extent_ptr_decoded p;

		n = btree_trans_copy_key(trans, k, 0);
		for_each_extent_ptr(k, 0, it, p) *ret = p;
		((union extent_entry *)n->v)->crc.key_gen = 99;
		if (lose)
			err = btree_trans_insert(trans, BTREE_ID_extents, n,
						 BTREE_UPDATE_NOTRIGGERS | BTREE_UPDATE_NO_EXTENT);
	}
	btree_iter_exit(&iter);
	return err;
}

/* What cannot be moved, elsewhere in the bucket, does not matter. */
static void run_neighbour(struct tfs *f)
{
	const struct data_file x = {.snapshot = UINT32_MAX, .inum = 1};
	u64 len = 2ULL * f->g.block_sectors * SECTOR_BYTES, at = 1 << 20, done;
	struct btree_trans *trans = btree_trans_get(f->btree);
	struct extent_ptr_decoded a, b, now;
	u8 *buf = calloc(1, len);

	DFS_OK(f, data_write(f->data, &x, 0, buf, len, 0, NULL, NULL, &done, NULL));
	DFS_OK(f, data_write(f->data, &x, at, buf, len, at, NULL, NULL, &done, NULL));
	DFS_OK(f, commit_do(trans, NULL, 0, extent_at(trans, &x, 0, true, &a)));
	DFS_OK(f, commit_do(trans, NULL, 0, extent_at(trans, &x, at >> SECTOR_SHIFT, false, &b)));
	btree_trans_unlock(trans);
	DFS_ASSERT(f, a.ptr.offset / f->g.bucket_sectors == b.ptr.offset / f->g.bucket_sectors,
		   "not neighbours");
	DFS_OK(f, data_move_failed(f->data, &b.ptr, b.stored_sectors));
	DFS_OK(f, commit_do(trans, NULL, 0, extent_at(trans, &x, at >> SECTOR_SHIFT, false, &now)));
	DFS_ASSERT(f, now.ptr.offset != b.ptr.offset, "not moved");
	btree_trans_put(trans);
	free(buf);
}

Test(seal, moved_beside_what_cannot_be)
{
	struct tfs_geometry g = dfs_sealed(&dfs_small);

	dfs_run(trand_seed(0xda66), &g, run_neighbour);
}
