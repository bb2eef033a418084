// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the device watches of an encrypted filesystem, in every write that it is asked for: nothing
 * readable in it, and no nonce of a btree node or journal entry that was there before. (Those of
 * extents are in keys, which are encrypted.)
 *
 * Nodes and entries are known by their headers alone, which random bytes do not have: whatever the
 * filesystem's magic is, and before there is a superblock.
 */
#include "bcfs/format/btree.h"
#include "bcfs/format/journal.h"
#include "bcfs/format/superblock.h"
#include "dev/sim_bdev_private.h"

#include <search.h>
#include <stdlib.h>

/*
 * So many of these in a row are text: one in 10^16 places of random bytes has them. What the tests
 * put into names, attributes and files is made of them.
 */
#define TEXT_RUN  20U
#define KEY_GENS  16U
#define SEALED_BY BCFS_CSUM_xchacha20_poly1305

static bool is_text(u8 c)
{
	return (c >= '`' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
}

/* Where a run begins, or len. */
static u64 find_text(const u8 *p, u64 len)
{
	u64 at = TEXT_RUN - 1, start;

	while (at < len) {
		start = at;
		while (start && is_text(p[start]) && at - start + 1 < TEXT_RUN)
			start--;
		if (is_text(p[start]) && at - start + 1 == TEXT_RUN)
			return start;
		at = start + TEXT_RUN;
	}
	return len;
}

/* ---- nonces seen ---- */

struct sim_nonces {
	void *tree; /* tsearch(3), of struct bcfs_nonce */
};

static int nonce_cmp(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct bcfs_nonce));
}

static bool nonce_zero(const struct bcfs_nonce *n)
{
	static const struct bcfs_nonce zero;

	return !nonce_cmp(n, &zero);
}

/* False: it is there. */
static bool nonce_add(struct sim_nonces *t, const struct bcfs_nonce *n)
{
	struct bcfs_nonce **at = tsearch(n, &t->tree, nonce_cmp);

	if (!at)
		abort();
	if (*at != n)
		return false;
	*at = sim_xalloc(sizeof(*n));
	**at = *n;
	return true;
}

/* ---- what has one ---- */

static bool is_jset(const u8 *p, u64 len)
{
	const struct jset *s = (const void *)p;

	return len >= sizeof(*s) && (s->flags & ~JSET_NO_FLUSH) == SEALED_BY &&
	       s->version == BCFS_VERSION_CURRENT && s->key_gen && s->key_gen <= KEY_GENS &&
	       !s->pad && s->seq && sizeof(*s) + s->u64s * 8ULL <= len;
}

static bool is_bset(const struct bset *i, bool first, u64 room)
{
	return i->flags == SEALED_BY && i->version == BCFS_VERSION_CURRENT && i->key_gen &&
	       i->key_gen <= KEY_GENS && !i->offset == first &&
	       i->offset < BTREE_NODE_SIZE_MAX >> SECTOR_SHIFT && i->u64s * 8ULL <= room;
}

static bool has_nonce(const u8 *p, u64 len)
{
	const struct btree_node *n = (const void *)p;
	const struct btree_node_entry *e = (const void *)p;

	return is_jset(p, len) ||
	       (len >= sizeof(*n) && is_bset(&n->keys, true, len - sizeof(*n))) ||
	       (len >= sizeof(*e) && is_bset(&e->keys, false, len - sizeof(*e)));
}

void sim_crypt_write(struct sim_bdev *d, u64 offset, const void *buf, u64 len)
{
	const struct bcfs_nonce *nonce = buf + offsetof(struct jset, nonce);
	u64 at;

	if (!d->nonces)
		return;
	at = find_text(buf, len);
	if (at < len)
		sim_violation(d, "text is written to byte %llu: %.20s",
			      (unsigned long long)(offset + at), (const char *)buf + at);
	if (!has_nonce(buf, len))
		return;
	d->nr_nonces++;
	if (nonce_zero(nonce) || !nonce_add(d->nonces, nonce))
		sim_violation(d, "what is written to byte %llu has a nonce that was used before",
			      (unsigned long long)offset);
}

void sim_crypt_exit(struct sim_bdev *d)
{
	if (d->nonces)
		tdestroy(d->nonces->tree, free);
	free(d->nonces);
}

void sim_bdev_watch_crypt(struct bdev *bdev)
{
	struct sim_bdev *d = to_sim(bdev);

	if (!d->nonces)
		d->nonces = sim_xalloc(sizeof(*d->nonces));
}

u64 sim_bdev_nr_nonces(struct bdev *bdev)
{
	return to_sim(bdev)->nr_nonces;
}
