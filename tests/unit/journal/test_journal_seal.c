// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: in an encrypted filesystem an entry of the journal counts if it is, to the byte, what
 * somebody with the key wrote; what has a plain checksum, or is of a generation that there is not,
 * is damage.
 * Method: entries alone, each byte changed; then rings of small journals that were stopped, read
 * against the model, with an entry forged; and writes that fail, under the eye of the device, which
 * knows all nonces.
 */
#include "codec/keyring.h"
#include "jtest.h"

#include <criterion/criterion.h>

#define GENS 2

static struct keyring *make_keys(struct env *env, unsigned nr)
{
	struct keyring *r = keyring_new(env, NULL);

	cr_assert(r);
	for (unsigned i = 0; i < nr; i++) {
		struct csum_key k = {.gen = i + 1};

		memset(k.b, 'k' + i, sizeof(k.b));
		cr_assert_eq(keyring_add(r, &k), 0);
	}
	return r;
}

static void config(struct jt *t, const struct keyring *keys)
{
	memset(t, 0, sizeof(*t));
	jt_config(t, 512, 8 << 10, 12);
	t->opts.keys = keys;
	t->opts.csum_type = BCFS_CSUM_xchacha20_poly1305;
	t->opts.uuid = (struct bcfs_uuid){{4, 5, 6}};
}

/* ---- an entry alone ---- */

#define WORDS 20

static struct jset *make_entry(void)
{
	struct jset *s = calloc(1, sizeof(*s) + WORDS * 8);
	struct jset_entry *e = (void *)s->start;

	*s = (struct jset){.magic = JT_MAGIC,
			   .seq = 7,
			   .last_seq = 3,
			   .version = BCFS_VERSION_CURRENT,
			   .flags = BCFS_CSUM_xchacha20_poly1305,
			   .u64s = WORDS};
	*e = (struct jset_entry){.u64s = WORDS - 1, .type = BCFS_JSET_ENTRY_log};
	memset(e->data, 'x', (WORDS - 1) * 8);
	return s;
}

static void alone_main(void *arg)
{
	struct jt *t = arg;
	struct jset *s = make_entry(), *bad = make_entry(), *clear = make_entry();
	struct journal *j;
	size_t bytes = jset_bytes(s);

	cr_assert_eq(jt_journal(t, t->bdev, t->env, &j), 0);
	cr_assert_eq(jset_seal(j, s), 0);
	cr_assert_eq(s->key_gen, GENS);
	cr_assert(memcmp(s->start, clear->start, WORDS * 8));
	for (size_t i = 0; i < bytes; i++) {
		/* The reader has seen to that: it fits. */
		if (i >= offsetof(struct jset, u64s) && i < offsetof(struct jset, start))
			continue;
		memcpy(bad, s, bytes);
		((u8 *)bad)[i] ^= 1U << i % 8;
		cr_assert_eq(jset_open(j, bad), -BCFS_ERR_journal_csum, "byte %zu", i);
	}
	memcpy(bad, s, bytes);
	bad->u64s--;
	cr_assert_eq(jset_open(j, bad), -BCFS_ERR_journal_csum);
	memcpy(bad, s, bytes);
	cr_assert_eq(jset_open(j, bad), 0);
	cr_assert_arr_eq(bad->start, clear->start, WORDS * 8);

	/* Once more: another nonce, the same inside. */
	memcpy(bad, s, bytes);
	cr_assert_eq(jset_seal_again(j, bad), 0);
	cr_assert(memcmp(&bad->nonce, &s->nonce, sizeof(s->nonce)));
	cr_assert(memcmp(bad->start, s->start, WORDS * 8));
	cr_assert_eq(jset_open(j, bad), 0);
	cr_assert_arr_eq(bad->start, clear->start, WORDS * 8);

	/* A plain checksum, or none: somebody without the key. */
	for (unsigned type = 0; type < BCFS_CSUM_xchacha20_poly1305; type++) {
		memcpy(bad, clear, bytes);
		bad->flags = type;
		cr_assert_eq(jset_csum(bad, type, &bad->csum), 0);
		cr_assert_eq(jset_verify(bad), 0);
		cr_assert_eq(jset_open(j, bad), -BCFS_ERR_journal_csum, "%s", csum_type_name(type));
	}
	/* Of another filesystem. */
	j->opts.uuid.b[3]++;
	memcpy(bad, s, bytes);
	cr_assert_eq(jset_open(j, bad), -BCFS_ERR_journal_csum);
	journal_free(j);
	free(s);
	free(bad);
	free(clear);
}

static void in_world(struct jt *t, u64 seed, const struct sim_image *img, void (*fn)(void *arg))
{
	struct sim_bdev_opts o = {.size_bytes = jt_device_bytes(t)};

	t->env = env_sim_create(seed);
	if (img)
		cr_assert_eq(sim_bdev_create_from(t->env, "sim", &o, img, &t->bdev), 0);
	else
		cr_assert_eq(sim_bdev_create(t->env, "sim", &o, &t->bdev), 0);
	sim_bdev_watch_crypt(t->bdev);
	jt_init(t);
	cr_assert_eq(env_sim_run(t->env, fn, t), 0);
	cr_assert_eq(sim_bdev_violations(t->bdev), 0, "%s", sim_bdev_first_violation(t->bdev));
}

static void end_world(struct jt *t)
{
	bdev_close(t->bdev);
	jt_exit(t);
	env_sim_destroy(t->env);
}

Test(journal_seal, an_entry)
{
	struct env *env = env_sim_create(1);
	struct keyring *keys = make_keys(env, GENS);
	struct jt t;

	config(&t, keys);
	in_world(&t, 1, NULL, alone_main);
	end_world(&t);
	keyring_free(keys);
	env_sim_destroy(env);
}

/* ---- rings ---- */

/* Some turns of the ring, stopped without a clean end. */
static void work_main(void *arg)
{
	struct jt *t = arg;
	struct journal_carried c = {0};

	cr_assert_eq(jt_journal(t, t->bdev, t->env, &t->j), 0);
	cr_assert_eq(journal_start(t->j, 1, NULL, &c), 0);
	for (unsigned i = 0; i < 300; i++) {
		u64 node = trand_below(&t->rnd, JT_NODES);
		u32 words = 1 + trand_below(&t->rnd, 60);

		cr_assert_eq(jt_op(t, node, words, (s64)i, i % 7 == 0), 0);
		if (trand_below(&t->rnd, 4) == 0)
			cr_assert_eq(journal_flush(t->j), 0);
	}
	cr_assert_eq(journal_flush(t->j), 0);
	cr_assert_eq(t->nr_errors, 0);
	journal_halt(t->j);
	journal_free(t->j);
	bdev_drain(t->bdev);
}

struct reading {
	struct jt t;
	int ret;
	struct journal_replay r;
};

static void read_main(void *arg)
{
	struct reading *rd = arg;

	cr_assert_eq(jt_journal(&rd->t, rd->t.bdev, rd->t.env, &rd->t.j), 0);
	rd->ret = journal_read(rd->t.j, NULL, 0, &rd->r);
}

/* Reads an image with these keys; the model is what was written. */
static int read_image(struct jt *model, const struct sim_image *img, const struct keyring *keys,
		      u64 bad_seq)
{
	struct reading *rd = calloc(1, sizeof(*rd));
	int ret;

	config(&rd->t, keys);
	in_world(&rd->t, 9, img, read_main);
	ret = rd->ret;
	if (!ret)
		cr_assert(jt_check_replay(model, &rd->r));
	for (size_t i = 0; i < rd->r.nr; i++)
		cr_assert_neq(rd->r.entries[i].seq, bad_seq);
	journal_replay_free(rd->t.j, &rd->r);
	journal_free(rd->t.j);
	end_world(&rd->t);
	free(rd);
	return ret;
}

/* The oldest entry that is needed, or the newest there is. */
static u64 find_entry(const struct jt *t, const struct sim_image *img, bool newest, u8 *ret_buf)
{
	u64 start = jt_bucket_offset(t, 0), found = 0, last_seq = 0, seq = 0;
	struct jset *s = (void *)ret_buf;
	u8 *buf = malloc(t->bucket_bytes);

	/* first what the newest needs, then the place */
	for (unsigned pass = 0; pass < 2; pass++)
		for (u64 at = start; at < start + (u64)t->nr_buckets * t->bucket_bytes;
		     at += t->block_bytes) {
			u64 room = t->bucket_bytes - at % t->bucket_bytes;
			const struct jset *e = (void *)buf;

			sim_image_read(img, at, buf, room);
			if (e->magic != JT_MAGIC || jset_bytes(e) > room)
				continue;
			if (!pass && e->seq > seq) {
				seq = e->seq;
				last_seq = e->last_seq;
			} else if (pass && e->seq == (newest ? seq : last_seq)) {
				found = at;
				memcpy(s, e, jset_bytes(e));
			}
		}
	free(buf);
	cr_assert(found);
	return found;
}

Test(journal_seal, rings)
{
	for (u64 seed = 1; seed <= trand_rounds(12); seed++) {
		struct env *env = env_sim_create(1);
		struct keyring *keys = make_keys(env, 1), *more = make_keys(env, GENS);
		struct keyring *others = keyring_new(env, NULL);
		struct csum_key k = {.gen = 1};
		struct sim_image *img;
		struct jt t;
		u8 entry[8192];
		struct jset *s = (void *)entry;
		u64 at;

		cr_assert_eq(keyring_add(others, &k), 0);
		config(&t, keys);
		t.rnd = seed;
		in_world(&t, seed, NULL, work_main);
		cr_assert_geq(sim_bdev_nr_nonces(t.bdev), 50);
		img = sim_bdev_image(t.bdev);
		cr_assert_eq(read_image(&t, img, keys, 0), 0);
		/* Other generations do not matter; another key does. */
		cr_assert_eq(read_image(&t, img, more, 0), 0);
		cr_assert_eq(read_image(&t, img, others, 0), -BCFS_ERR_journal_empty);

		for (unsigned i = 0; i < 6; i++) {
			struct sim_image *bad = sim_image_clone(img);
			bool newest = i & 1;
			u64 seq;
			int ret;

			at = find_entry(&t, img, newest, entry);
			seq = s->seq;
			if (i < 2) {
				s->key_gen = 2;
			} else if (i < 4) {
				s->key_gen = 9;
			} else {
				s->flags = (s->flags & JSET_NO_FLUSH) | BCFS_CSUM_crc32c;
				s->u64s = 0; /* a valid one, that says nothing */
				s->key_gen = 0;
				jset_csum(s, BCFS_CSUM_crc32c, &s->csum);
			}
			sim_image_write(bad, at, entry, round_up(jset_bytes(s), 512));
			ret = read_image(&t, bad, more, seq);
			/* Of the newest nobody can say that it was whole. */
			cr_assert_eq(ret, newest ? 0 : -BCFS_ERR_journal_damaged, "%u: %s", i,
				     err_str(ret));
			sim_image_free(bad);
		}
		sim_image_free(img);
		end_world(&t);
		keyring_free(keys);
		keyring_free(more);
		keyring_free(others);
		env_sim_destroy(env);
	}
}

/* A write that fails goes to another place, with a nonce of its own. */
static void faults_main(void *arg)
{
	struct jt *t = arg;

	sim_bdev_arm(t->bdev, SIM_FAULT_WRITE_TORN, 5 + trand_below(&t->rnd, 40), false);
	work_main(t);
}

Test(journal_seal, write_faults)
{
	u64 struck = 0, all = 0;

	for (u64 seed = 1; seed <= trand_rounds(12); seed++) {
		struct env *env = env_sim_create(1);
		struct keyring *keys = make_keys(env, GENS);
		struct sim_image *img;
		struct jt t;

		config(&t, keys);
		t.rnd = seed;
		in_world(&t, seed, NULL, faults_main);
		sim_bdev_fault_hits(t.bdev, SIM_FAULT_WRITE_TORN, &struck);
		all += struck;
		img = sim_bdev_image(t.bdev);
		cr_assert_eq(read_image(&t, img, keys, 0), 0);
		sim_image_free(img);
		end_world(&t);
		keyring_free(keys);
		env_sim_destroy(env);
	}
	cr_assert_geq(all * 3, trand_rounds(12));
}
