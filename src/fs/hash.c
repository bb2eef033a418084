// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fs/hash.h"
#include "util/planted.h"

#include <sodium/crypto_shorthash_siphash24.h>
#include <string.h>

/* Hash whiteouts removed with one deletion. */
#define HASH_CLEAN_MAX 32

_Static_assert(crypto_shorthash_siphash24_KEYBYTES == sizeof(((struct hash_key *)0)->k), "");

struct hash_key hash_key_init(const struct bcfs *c, const struct bcfs_inode_unpacked *inode)
{
	struct hash_key key = {.bits = c->fs_opts.hash_bits};
	u64 seed = inode->hash_seed, not_seed = ~inode->hash_seed;

	memcpy(key.k, &seed, 8);
	memcpy(key.k + 8, &not_seed, 8);
	return key;
}

u64 hash_name(const struct hash_key *key, const void *name, size_t len)
{
	u64 h;

	crypto_shorthash_siphash24((u8 *)&h, name, len, key->k);
	h >>= 1;
	if (key->bits)
		h &= (1ULL << key->bits) - 1;
	if (h > HASH_WANTED_MAX)
		h -= 1ULL << 20;
	return max_t(u64, h, BCFS_DIRENT_HASH_MIN);
}

int hash_find(struct btree_trans *trans, struct btree_iter *iter, const struct hash_search *s,
	      unsigned flags, struct bkey_s_c *ret_k, u64 *ret_free)
{
	u64 pos = s->hash, free_pos = 0;

	btree_iter_init(trans, iter, s->btree, SPOS(s->inum, pos, s->snapshot), flags);
	while (1) {
		struct bkey_s_c k = btree_iter_peek_slot(iter);
		int err = bkey_err(k);

		if (err)
			return err;
		if (k.k->type == s->type) {
			if (s->match(k, s->arg)) {
				*ret_k = k;
				return 0;
			}
		} else if (!free_pos) {
			free_pos = pos;
		}
		if ((k.k->type != s->type || planted(hash_not_probed)) &&
		    k.k->type != KEY_TYPE_hash_whiteout)
			break;
		if (pos >= BCFS_DIRENT_HASH_MAX)
			return -BCFS_ERR_hash_full;
		btree_iter_set_pos(iter, SPOS(s->inum, ++pos, s->snapshot));
	}
	if (ret_free)
		*ret_free = free_pos;
	return HASH_NOT_FOUND;
}

/* Hash whiteouts that end at @pos: nothing behind them needs them. */
static int clean_before(struct btree_trans *trans, const struct hash_search *s, u64 pos)
{
	struct btree_iter iter;
	int ret = 0;

	btree_iter_init(trans, &iter, s->btree, SPOS(s->inum, pos, s->snapshot), 0);
	for (unsigned i = 0; i < HASH_CLEAN_MAX && pos > BCFS_DIRENT_HASH_MIN; i++) {
		btree_iter_set_pos(&iter, SPOS(s->inum, --pos, s->snapshot));

		struct bkey_s_c k = btree_iter_peek_slot(&iter);

		ret = bkey_err(k);
		if (ret || k.k->type != KEY_TYPE_hash_whiteout)
			break;
		ret = btree_trans_delete(trans, s->btree, SPOS(s->inum, pos, s->snapshot), 0);
		if (ret)
			break;
	}
	btree_iter_exit(&iter);
	return ret;
}

int hash_delete(struct btree_trans *trans, struct btree_iter *iter, const struct hash_search *s)
{
	struct bpos pos = SPOS(s->inum, iter->pos.offset, s->snapshot);
	struct btree_iter next;
	struct bkey_s_c k;
	bool chain = false;
	int ret = 0;

	btree_iter_init(trans, &next, s->btree, SPOS(s->inum, pos.offset + 1, s->snapshot), 0);
	k = btree_iter_peek_slot(&next);
	ret = bkey_err(k);
	if (!ret)
		chain = k.k->type == s->type ||
			(k.k->type == KEY_TYPE_hash_whiteout && !planted(chain_ends_at_mark));
	btree_iter_exit(&next);
	if (ret)
		return ret;
	if (chain && !planted(hash_chain_cut))
		return btree_trans_update(
			trans, iter, btree_trans_alloc_key(trans, KEY_TYPE_hash_whiteout, pos, 0),
			0);
	return btree_trans_delete_at(trans, iter, 0) ?: clean_before(trans, s, pos.offset);
}
