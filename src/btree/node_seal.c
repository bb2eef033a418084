// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What a bset on the device is protected by: a checksum or, in an encrypted filesystem, encryption
 * with a tag. Which of them is told by the filesystem, never by the bset. doc/format.md has the
 * bytes.
 */
#include "btree/btree_private.h"
#include "codec/keyring.h"
#include "util/planted.h"

#include <string.h>

/* In front of a bset: csum, nonce, and 8 bytes that are magic or padding. */
#define BSET_AD_OFFSET 56U

_Static_assert(offsetof(struct btree_node, magic) == BSET_AD_OFFSET &&
		       offsetof(struct btree_node_entry, pad) == BSET_AD_OFFSET &&
		       offsetof(struct btree_node_entry, keys) == BSET_AD_OFFSET + 8,
	       "the same in front of both");

bool btree_node_checksum(const struct btree_fs *c, unsigned type, u64 seq, u64 offset_sectors,
			 const void *start, size_t bytes, struct bcfs_csum *csum)
{
	u64 prefix[2] = {seq, offset_sectors};
	struct csum_iov iov[] = {{prefix, sizeof(prefix)}, {start, bytes}};

	(void)c;
	return !csum_compute_iov(NULL, type, NULL, iov, ARRAY_SIZE(iov), csum);
}

/* In pieces: what is authenticated, and what is encrypted too. */
struct bset_pieces {
	struct {
		struct bcfs_uuid uuid;
		u64 seq, offset;
	} place;
	struct csum_iov ad[4];
	struct aead_iov data[2];
};

static void bset_pieces_init(struct bset_pieces *p, const struct btree_fs *c, u64 seq, u32 offset,
			     void *start, size_t bytes)
{
	u8 *s = start;
	size_t hdr = offset ? offsetof(struct btree_node_entry, keys)
			    : offsetof(struct btree_node, keys);
	size_t keys = hdr + sizeof(struct bset);

	p->place.uuid = c->opts.uuid;
	p->place.seq = seq;
	p->place.offset = offset;
	p->ad[0] = (struct csum_iov){&p->place, sizeof(p->place)};
	p->ad[1] = (struct csum_iov){s + BSET_AD_OFFSET, 8};
	p->ad[2] = (struct csum_iov){s + hdr, sizeof(struct bset)};
	/* Of the first one, what the node is. */
	p->data[0] = (struct aead_iov){s + BSET_AD_OFFSET + 8, hdr - BSET_AD_OFFSET - 8};
	p->data[1] = (struct aead_iov){s + keys, bytes - keys};
	p->ad[3] = (struct csum_iov){NULL, 0};
	if (planted(node_keys_in_clear)) {
		p->ad[3] = (struct csum_iov){p->data[1].p, p->data[1].len};
		p->data[1].len = 0;
	}
}

static struct bset *bset_of(void *start, u32 offset)
{
	return start + (offset ? offsetof(struct btree_node_entry, keys)
			       : offsetof(struct btree_node, keys));
}

int btree_bset_seal(struct btree_fs *c, u64 seq, u32 offset_sectors, void *start, size_t bytes)
{
	struct bcfs_csum *csum = start;
	struct bset *i = bset_of(start, offset_sectors);
	struct bcfs_nonce *nonce = start + sizeof(*csum);
	struct bset_pieces p;

	i->flags = c->opts.csum_type;
	if (!c->opts.keys)
		return btree_node_checksum(c, c->opts.csum_type, seq, offset_sectors, csum + 1,
					   bytes - sizeof(*csum), csum)
			       ? 0
			       : -BCFS_ERR_btree_node_csum;

	const struct csum_key *key = keyring_newest(c->opts.keys, KEY_USE_btree);

	i->key_gen = key->gen;
	env_random(c->env, nonce, sizeof(*nonce));
	if (planted(node_nonce_kept)) {
		memset(nonce, 0, sizeof(*nonce));
		memcpy(nonce, &seq, sizeof(seq));
	}
	bset_pieces_init(&p, c, seq, offset_sectors, start, bytes);
	return aead_seal_iov(key, c->opts.csum_type, nonce, p.ad, ARRAY_SIZE(p.ad), p.data,
			     ARRAY_SIZE(p.data), csum);
}

/* Of an encrypted filesystem. */
static int bset_decrypt(struct btree_fs *c, u64 seq, u32 offset_sectors, void *start, size_t bytes,
			struct printbuf *err)
{
	const struct bcfs_csum *csum = start;
	const struct bset *i = bset_of(start, offset_sectors);
	const struct bcfs_nonce *nonce = start + sizeof(*csum);
	const struct csum_key *key = keyring_get(c->opts.keys, KEY_USE_btree, i->key_gen);
	struct bset_pieces p;

	if (planted(key_gen_ignored))
		key = keyring_newest(c->opts.keys, KEY_USE_btree);
	if (BSET_CSUM_TYPE(i) != c->opts.csum_type || !key) {
		prt_printf(err,
			   "the bset at sector %u was damaged or tampered with: %s, key "
			   "generation %u",
			   offset_sectors, csum_type_name(BSET_CSUM_TYPE(i)), i->key_gen);
		return -BCFS_ERR_btree_node_csum;
	}
	bset_pieces_init(&p, c, seq, offset_sectors, start, bytes);
	if (!aead_open_iov(key, c->opts.csum_type, nonce, p.ad, ARRAY_SIZE(p.ad), p.data,
			   ARRAY_SIZE(p.data), csum))
		return 0;
	if (planted(node_tag_ignored)) { /* sealing deciphers, too */
		struct bcfs_csum tag;

		return aead_seal_iov(key, c->opts.csum_type, nonce, p.ad, ARRAY_SIZE(p.ad), p.data,
				     ARRAY_SIZE(p.data), &tag);
	}
	prt_printf(err, "the bset at sector %u was damaged or tampered with: its tag is wrong",
		   offset_sectors);
	return -BCFS_ERR_btree_node_csum;
}

int btree_bset_open(struct btree_fs *c, u64 seq, u32 offset_sectors, void *start, size_t bytes,
		    struct printbuf *err)
{
	const struct bcfs_csum *csum = start;
	const struct bset *i = bset_of(start, offset_sectors);
	struct bcfs_csum got;

	if (c->opts.keys)
		return bset_decrypt(c, seq, offset_sectors, start, bytes, err);
	if (btree_node_checksum(c, BSET_CSUM_TYPE(i), seq, offset_sectors, csum + 1,
				bytes - sizeof(*csum), &got) &&
	    (!memcmp(&got, csum, sizeof(got)) || planted(node_csum_ignored)))
		return 0;
	prt_printf(err, "checksum of the bset at sector %u", offset_sectors);
	return -BCFS_ERR_btree_node_csum;
}
