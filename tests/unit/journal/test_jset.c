/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * jset_validate() against millions of crafted entries: whatever it lets pass can be
 * walked, folded and printed without leaving the buffer (which is exactly as long as the
 * entry says, so that ASan sees every step too far).
 */
#include "jtest.h"

#include <criterion/criterion.h>

static struct jset *make_valid(u64 *rnd, u32 *ret_bytes)
{
	struct jset *s = calloc(1, 8192);
	u64 buf[300];

	s->magic = JT_MAGIC;
	s->seq = 1 + trand_below(rnd, 100);
	s->last_seq = 1 + trand_below(rnd, s->seq);
	s->version = BCFS_VERSION_CURRENT;
	s->flags = BCFS_CSUM_crc32c;
	while (s->u64s < 600) {
		struct jset_entry *e = jset_last(s);
		struct jt_rec rec = {.val_u64s = trand_below(rnd, 50), .op = trand_u64(rnd)};

		*e = (struct jset_entry){.btree_id = trand_below(rnd, BTREE_ID_NR)};
		e->type = trand_below(rnd, BCFS_JSET_ENTRY_NR + 1);
		switch (e->type) {
		case BCFS_JSET_ENTRY_btree_root:
			e->u64s = jt_root(buf, trand_below(rnd, 1000));
			memcpy(e->data, buf, e->u64s * 8);
			break;
		case BCFS_JSET_ENTRY_btree_keys:
		case BCFS_JSET_ENTRY_overwrite:
			for (unsigned n = trand_below(rnd, 4); n; n--) {
				u32 len = jt_key(buf, &rec);

				memcpy(e->data + e->u64s, buf, len * 8);
				e->u64s += len;
			}
			break;
		case BCFS_JSET_ENTRY_clock:
			e->u64s = 2;
			break;
		case BCFS_JSET_ENTRY_datetime:
			e->u64s = 1;
			break;
		default:
			e->u64s = 2 * trand_below(rnd, 5);
			for (u32 i = 0; i < e->u64s; i++)
				e->data[i] = trand_below(rnd, 20);
		}
		s->u64s += 1 + e->u64s;
	}
	*ret_bytes = jset_bytes(s);
	return s;
}

static u64 walk(const struct jset *s)
{
	struct journal_carried c = {0};
	struct printbuf out = PRINTBUF;
	u64 sum = 0;

	for_each_jset_entry(e, s) if (e->type == BCFS_JSET_ENTRY_btree_keys)
		for_each_jset_key(k, e) for (unsigned i = 0; i < k->k.u64s; i++) sum +=
		((u64 *)k)[i];
	jset_fold_carried(s, &c, true);
	jset_to_text(&out, s, true);
	printbuf_exit(&out);
	return sum;
}

Test(jset, fuzz)
{
	u64 seed = trand_seed(20), rnd = seed;
	unsigned nr_valid = 0;

	fprintf(stderr, "# " TEST_SEED_FMT "\n", (unsigned long long)seed);
	for (unsigned i = 0; i < 20000; i++) {
		struct printbuf err = PRINTBUF;
		u32 bytes, room;
		struct jset *s = make_valid(&rnd, &bytes), *copy;

		cr_assert_eq(jset_validate(s, bytes, &err), 0, "%s", printbuf_str(&err));
		for (unsigned n = trand_below(&rnd, 4); n; n--) {
			u32 word = trand_below(&rnd, bytes / 2);

			switch (trand_below(&rnd, 3)) {
			case 0:
				((u8 *)s)[word * 2] ^= 1 << trand_below(&rnd, 8);
				break;
			case 1:
				((u16 *)s)[word] = trand_u64(&rnd);
				break;
			default:
				s->u64s += trand_below(&rnd, 9) - 4;
			}
		}
		room = trand_below(&rnd, 10) ? bytes : trand_below(&rnd, bytes);
		copy = malloc(max_t(u32, room, 1));
		memcpy(copy, s, room);
		printbuf_reset(&err);
		if (!jset_validate(copy, room, &err)) {
			nr_valid++;
			walk(copy);
		} else {
			cr_assert_neq(printbuf_str(&err)[0], 0);
		}
		free(copy);
		free(s);
		printbuf_exit(&err);
	}
	cr_assert_gt(nr_valid, 1000);
}

/* A device full of crafted entries with good checksums: read, never believed too far. */
Test(jset, crafted_ring)
{
	u64 seed = trand_seed(21), rnd = seed;

	for (unsigned round = 0; round < 300; round++) {
		struct sim_bdev_opts opts = {.no_log = true};
		struct journal_replay r;
		struct journal_blacklist_range bl = {1, 1 + trand_below(&rnd, 40)};
		struct jt t;

		memset(&t, 0, sizeof(t));
		t.env = env_sim_create(seed);
		jt_config(&t, 512, 8 << 10, 8);
		opts.size_bytes = jt_device_bytes(&t);
		cr_assert_eq(sim_bdev_create(t.env, "sim", &opts, &t.bdev), 0);
		cr_assert_eq(jt_journal(&t, t.bdev, t.env, &t.j), 0);
		for (unsigned i = 0; i < 8; i++) {
			u32 bytes, room = 8192;
			u8 bucket[8192];
			struct jset *s = make_valid(&rnd, &bytes);

			for (unsigned n = trand_below(&rnd, 3); n; n--)
				((u16 *)s)[trand_below(&rnd, bytes / 2)] = trand_log_u64(&rnd);
			s->magic = JT_MAGIC;
			s->flags = BCFS_CSUM_crc32c | (trand_below(&rnd, 4) ? JSET_NO_FLUSH : 0);
			if (!trand_below(&rnd, 5))
				s->seq = trand_log_u64(&rnd);
			if (jset_bytes(s) <= 8192)
				jset_csum(s, BCFS_CSUM_crc32c, &s->csum);
			memset(bucket, 0, sizeof(bucket));
			memcpy(bucket, s, min(bytes, room));
			sim_bdev_poke(t.bdev, jt_bucket_offset(&t, i), bucket, room);
			free(s);
		}
		if (!journal_read(t.j, &bl, 1, &r)) {
			struct journal_carried c = r.carried;
			u64 end = journal_blacklist_end(&r, &bl, 1);

			for (size_t i = 0; i < r.nr; i++)
				walk(r.entries[i].j);
			cr_assert_gt(end, r.seq);
			if (!journal_start(t.j, end + 1, &r, &c))
				journal_halt(t.j);
		}
		journal_replay_free(t.j, &r);
		journal_free(t.j);
		bdev_close(t.bdev);
		env_sim_destroy(t.env);
	}
}
