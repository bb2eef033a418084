// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What encryption costs in libbcfs's write and read paths: processor time for a GiB of file data in
 * pieces of 1 MiB and of 128 KiB, on the simulated device, which is a memory copy. Beside it
 * libsodium's own XChaCha20-Poly1305 over as many bytes, in the same run: the best of some rounds,
 * in turn. The memory of the simulated device is had once, in a round that does not count: pages
 * that the kernel has yet to give would cost thrice what is measured.
 *
 * What the simulated device does itself is told apart: as many bytes written to one and read from
 * it, with no filesystem. All that libbcfs does beside that, checksums of metadata and btrees
 * included, may cost 1.25 of libsodium's.
 *
 * usage: bench-crypt [--json] [--mib N] [--rounds N]
 */
#include "bench_util.h"
#include "core/core.h"
#include "dev/sim_bdev.h"

#include <getopt.h>
#include <malloc.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB  (1ULL << 20)
#define GOAL 1.25

static const u8 key_file[64] = "of a benchmark";

struct run {
	bool device; /* that alone */
	u64 bytes;
	u32 piece;
	struct env *env;
	struct bdev *bdev;
	u8 *buf;
	double write_ns, read_ns; /* of processor time */
};

static void check(int ret, const char *what)
{
	if (ret)
		bench_die("bench-crypt: %s: %s", what, err_str(ret));
}

static void device_main(void *arg)
{
	struct run *r = arg;
	double before = bench_cpu_ns();

	for (u64 at = 0; at < r->bytes; at += r->piece)
		check(bdev_write(r->bdev, at, r->buf, r->piece, 0), "write");
	check(bdev_flush(r->bdev), "flush");
	r->write_ns = bench_cpu_ns() - before;
	before = bench_cpu_ns();
	for (u64 at = 0; at < r->bytes; at += r->piece)
		check(bdev_read(r->bdev, at, r->buf, r->piece), "read");
	r->read_ns = bench_cpu_ns() - before;
}

static void run_main(void *arg)
{
	const struct bcfs_secret secret = {BCFS_SECRET_KEY_FILE, key_file, sizeof(key_file)};
	struct run *r = arg;
	struct bcfs_mkfs_opts o = {.struct_size = sizeof(o), .secret = &secret};
	struct core_opts co = {.no_background = true};
	const struct bcfs_cred cred = {0};
	char msg[CORE_MSG_SIZE] = "";
	struct bcfs_stat st;
	struct core *c;
	double before;

	co.secret = (struct crypt_secret){BCFS_CRYPT_SLOT_key_file, key_file, sizeof(key_file)};
	check(core_mkfs_on(r->env, r->bdev, &o, NULL, msg, sizeof(msg)), msg);
	check(core_open_on(r->env, r->bdev, &co, NULL, NULL, &c, msg, sizeof(msg)), msg);
	check(bcfs_mknod(&c->fs, bcfs_root(&c->fs), "file", 0100644, 0, 0, &cred, &st), "mknod");

	before = bench_cpu_ns();
	for (u64 at = 0; at < r->bytes; at += r->piece)
		if (bcfs_write(&c->fs, st.ino, at, r->buf, r->piece, 0) != (s64)r->piece)
			bench_die("bench-crypt: write failed");
	check(bcfs_sync(&c->fs), "sync");
	r->write_ns = bench_cpu_ns() - before;

	before = bench_cpu_ns();
	for (u64 at = 0; at < r->bytes; at += r->piece)
		if (bcfs_read(&c->fs, st.ino, at, r->buf, r->piece) != (s64)r->piece)
			bench_die("bench-crypt: read failed");
	r->read_ns = bench_cpu_ns() - before;
	core_abort(c);
}

static struct run one_run(bool device, u64 bytes, u32 piece, u8 *buf)
{
	struct run r = {.device = device, .bytes = bytes, .piece = piece, .buf = buf};
	struct sim_bdev_opts o = {.size_bytes = 2 * bytes + 256 * MIB, .no_log = true};

	r.env = env_sim_create(1);
	check(sim_bdev_create(r.env, "sim", &o, &r.bdev), "device");
	check(env_sim_run(r.env, device ? device_main : run_main, &r), "simulation");
	bdev_close(r.bdev);
	env_sim_destroy(r.env);
	return r;
}

/* libsodium's own, in pieces of that size, in place as it is fastest. */
static void sodium_run(u64 bytes, u32 piece, u8 *buf, double *seal_ns, double *open_ns)
{
	u8 nonce[24] = {1}, key[32] = {2}, ad[32] = {3};
	unsigned char(*tag)[16] = calloc(bytes / piece, 16);
	double before = bench_cpu_ns();

	/* As many bytes: the same piece, again and again, would lie in a cache. */
	for (u64 at = 0, i = 0; at < bytes; at += piece, i++)
		crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
			buf + at, tag[i], NULL, buf + at, piece, ad, sizeof(ad), NULL, nonce, key);
	*seal_ns = bench_cpu_ns() - before;
	before = bench_cpu_ns();
	for (u64 at = 0, i = 0; at < bytes; at += piece, i++)
		if (crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
			    buf + at, NULL, buf + at, piece, tag[i], ad, sizeof(ad), nonce, key))
			bench_die("bench-crypt: libsodium");
	*open_ns = bench_cpu_ns() - before;
	free(tag);
}

struct best {
	double sealed[2], device[2], sodium[2]; /* writing, reading */
};

static void take(double *best, double v)
{
	if (!*best || v < *best)
		*best = v;
}

static struct best measure(u64 bytes, u32 piece, unsigned rounds, u8 *all)
{
	struct best b = {0};

	one_run(false, bytes, piece, all);
	for (unsigned i = 0; i < rounds; i++) {
		struct run sealed = one_run(false, bytes, piece, all);
		struct run device = one_run(true, bytes, piece, all);
		double seal, open;

		sodium_run(bytes, piece, all, &seal, &open);
		take(&b.sealed[0], sealed.write_ns);
		take(&b.sealed[1], sealed.read_ns);
		take(&b.device[0], device.write_ns);
		take(&b.device[1], device.read_ns);
		take(&b.sodium[0], seal);
		take(&b.sodium[1], open);
	}
	return b;
}

static void print(struct bench_out *out, const char *group, const struct best *b, u64 bytes,
		  u32 piece)
{
	static const char *const names[] = {"write", "read"};
	double per_gib = (double)(1ULL << 30) / (double)bytes / 1e9;
	char text[64];

	for (unsigned i = 0; i < 2; i++) {
		snprintf(text, sizeof(text), "%s %u KiB, encrypted", names[i], piece >> 10);
		bench_print(out, &(struct bench_row){.group = group,
						     .row = text,
						     .value = b->sealed[i] * per_gib,
						     .unit = "s/GiB",
						     .peer = "libsodium",
						     .peer_value = b->sodium[i] * per_gib});
		snprintf(text, sizeof(text), "%s %u KiB, less what the device takes", names[i],
			 piece >> 10);
		bench_print(out,
			    &(struct bench_row){.group = group,
						.row = text,
						.value = (b->sealed[i] - b->device[i]) * per_gib,
						.unit = "s/GiB",
						.peer = "libsodium",
						.peer_value = b->sodium[i] * per_gib,
						.goal = GOAL,
						.at_most = true});
	}
}

int main(int argc, char **argv)
{
	static const struct option opts[] = {{"json", no_argument, NULL, 'j'},
					     {"mib", required_argument, NULL, 'm'},
					     {"rounds", required_argument, NULL, 'r'},
					     {0}};
	static const u32 pieces[] = {1U << 20, 128U << 10};
	struct bench_out out = {.bench = "crypt"};
	unsigned rounds = 15;
	u64 bytes = 128 * MIB;
	u8 *all;
	int c;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		if (c == 'j')
			out.json = true;
		else if (c == 'm')
			bytes = max(strtoull(optarg, NULL, 10), 1ULL) * MIB;
		else if (c == 'r')
			rounds = (unsigned)max(atoi(optarg), 1);
		else
			bench_die("usage: bench-crypt [--json] [--mib N] [--rounds N]");
	}
	if (sodium_init() < 0)
		bench_die("bench-crypt: libsodium");
	/* What is freed stays the program's. */
	if (!mallopt(M_MMAP_THRESHOLD, 32 << 20) || !mallopt(M_TRIM_THRESHOLD, -1))
		bench_die("bench-crypt: mallopt");
	all = aligned_alloc(4096, bytes);
	if (!all)
		bench_die("bench-crypt: no memory");
	for (u64 i = 0, x = 1; i < bytes; i += 8) {
		u64 v = bench_random(&x);

		memcpy(all + i, &v, 8);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
		struct best b = measure(bytes, pieces[i], rounds, all);

		print(&out, i ? "128 KiB" : "1 MiB", &b, bytes, pieces[i]);
	}
	free(all);
	return bench_exit_status(&out);
}
