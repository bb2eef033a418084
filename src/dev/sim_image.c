/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Images of the simulated device: a table of nodes of chunks, both counted and
 * copied when written while shared. A missing node or chunk is zeroes. Chunks
 * and nodes remember their hash until they change; since a chunk only ever
 * stands at one place, its hash includes the place, and sums of hashes do.
 */
#include "dev/sim_bdev_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define CHUNK_SHIFT 14
#define CHUNK_SIZE  (1UL << CHUNK_SHIFT)
#define NODE_SHIFT  9
#define NODE_CHUNKS (1UL << NODE_SHIFT)
#define NODE_BYTES  (CHUNK_SIZE << NODE_SHIFT)

struct chunk {
	u32 refs;
	bool hashed;
	u64 hash;
	u8 data[CHUNK_SIZE];
};

struct node {
	u32 refs;
	bool hashed;
	u64 hash;
	struct chunk *chunks[NODE_CHUNKS];
};

struct sim_image {
	u64 size;
	u64 nr_nodes;
	struct node *nodes[];
};

static const u8 zeroes[CHUNK_SIZE];

void *sim_xalloc(size_t size)
{
	void *p = calloc(1, size ? size : 1);

	if (!p)
		abort();
	return p;
}

void *sim_xmalloc(size_t size)
{
	void *p = malloc(size ? size : 1);

	if (!p)
		abort();
	return p;
}

struct sim_image *sim_image_create(u64 size)
{
	u64 nr = DIV_ROUND_UP(size, NODE_BYTES);
	struct sim_image *img = sim_xalloc(sizeof(*img) + nr * sizeof(img->nodes[0]));

	img->size = size;
	img->nr_nodes = nr;
	return img;
}

struct sim_image *sim_image_clone(const struct sim_image *img)
{
	struct sim_image *n = sim_image_create(img->size);

	for (u64 i = 0; i < img->nr_nodes; i++) {
		n->nodes[i] = img->nodes[i];
		if (n->nodes[i])
			n->nodes[i]->refs++;
	}
	return n;
}

static void chunk_put(struct chunk *c)
{
	if (c && !--c->refs)
		free(c);
}

static void node_put(struct node *n)
{
	if (!n || --n->refs)
		return;
	for (u64 i = 0; i < NODE_CHUNKS; i++)
		chunk_put(n->chunks[i]);
	free(n);
}

void sim_image_free(struct sim_image *img)
{
	if (!img)
		return;
	for (u64 i = 0; i < img->nr_nodes; i++)
		node_put(img->nodes[i]);
	free(img);
}

u64 sim_image_size(const struct sim_image *img)
{
	return img->size;
}

static struct node *node_rw(struct sim_image *img, u64 i)
{
	struct node *old = img->nodes[i], *n = old;

	if (!old || old->refs > 1) {
		n = sim_xalloc(sizeof(*n));
		n->refs = 1;
		if (old) {
			memcpy(n->chunks, old->chunks, sizeof(n->chunks));
			for (u64 c = 0; c < NODE_CHUNKS; c++)
				if (n->chunks[c])
					n->chunks[c]->refs++;
			old->refs--;
		}
		img->nodes[i] = n;
	}
	n->hashed = false;
	return n;
}

/* @whole: nobody needs what is in it. */
static struct chunk *chunk_rw(struct sim_image *img, u64 i, bool whole)
{
	struct node *n = node_rw(img, i >> NODE_SHIFT);
	struct chunk **p = &n->chunks[i & (NODE_CHUNKS - 1)], *old = *p;

	if (!old || old->refs > 1) {
		*p = old || whole ? sim_xmalloc(sizeof(**p)) : sim_xalloc(sizeof(**p));
		(*p)->refs = 1;
		if (old && !whole)
			memcpy((*p)->data, old->data, CHUNK_SIZE);
		if (old)
			old->refs--;
	}
	(*p)->hashed = false;
	return *p;
}

static struct chunk *chunk_ro(const struct sim_image *img, u64 i)
{
	struct node *n = img->nodes[i >> NODE_SHIFT];

	return n ? n->chunks[i & (NODE_CHUNKS - 1)] : NULL;
}

static void check_range(const struct sim_image *img, u64 offset, u64 len)
{
	if (offset > img->size || len > img->size - offset)
		abort(); /* a bug of the test */
}

void sim_image_read(const struct sim_image *img, u64 offset, void *buf, u64 len)
{
	u8 *out = buf;

	check_range(img, offset, len);
	while (len) {
		u64 in = offset & (CHUNK_SIZE - 1), now = min(len, CHUNK_SIZE - in);
		struct chunk *c = chunk_ro(img, offset >> CHUNK_SHIFT);

		memcpy(out, c ? c->data + in : zeroes, now);
		out += now;
		offset += now;
		len -= now;
	}
}

void sim_image_write(struct sim_image *img, u64 offset, const void *buf, u64 len)
{
	const u8 *from = buf;

	check_range(img, offset, len);
	while (len) {
		u64 in = offset & (CHUNK_SIZE - 1), now = min(len, CHUNK_SIZE - in);

		memcpy(chunk_rw(img, offset >> CHUNK_SHIFT, now == CHUNK_SIZE)->data + in, from,
		       now);
		from += now;
		offset += now;
		len -= now;
	}
}

void sim_image_zero(struct sim_image *img, u64 offset, u64 len)
{
	check_range(img, offset, len);
	while (len) {
		u64 in = offset & (CHUNK_SIZE - 1), now = min(len, CHUNK_SIZE - in);
		u64 i = offset >> CHUNK_SHIFT;

		if (chunk_ro(img, i) && now < CHUNK_SIZE) {
			memset(chunk_rw(img, i, false)->data + in, 0, now);
		} else if (chunk_ro(img, i)) {
			struct node *n = node_rw(img, i >> NODE_SHIFT);

			chunk_put(n->chunks[i & (NODE_CHUNKS - 1)]);
			n->chunks[i & (NODE_CHUNKS - 1)] = NULL;
		}
		offset += now;
		len -= now;
	}
}

static u64 chunk_hash(struct chunk *c, u64 i)
{
	if (!c->hashed) {
		c->hash = memcmp(c->data, zeroes, CHUNK_SIZE)
				  ? XXH3_64bits_withSeed(c->data, CHUNK_SIZE, i)
				  : 0;
		c->hashed = true;
	}
	return c->hash;
}

u64 sim_image_hash(struct sim_image *img)
{
	u64 sum[2] = {0, img->size};

	for (u64 i = 0; i < img->nr_nodes; i++) {
		struct node *n = img->nodes[i];

		if (!n)
			continue;
		if (!n->hashed) {
			n->hash = 0;
			for (u64 c = 0; c < NODE_CHUNKS; c++)
				if (n->chunks[c])
					n->hash += chunk_hash(n->chunks[c], (i << NODE_SHIFT) + c);
			n->hashed = true;
		}
		sum[0] += n->hash;
	}
	return XXH3_64bits(sum, sizeof(sum));
}

u64 sim_image_used(const struct sim_image *img)
{
	u64 used = 0;

	for (u64 i = 0; i < img->nr_nodes; i++)
		for (u64 c = 0; img->nodes[i] && c < NODE_CHUNKS; c++)
			used += img->nodes[i]->chunks[c] ? CHUNK_SIZE : 0;
	return used;
}

/* ---- files ---- */

static int write_chunk(int fd, const u8 *data, u64 offset, u64 len)
{
	while (len) {
		ssize_t n = pwrite(fd, data, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -BCFS_ERR_dev_image_io;
		data += n;
		offset += (u64)n;
		len -= (u64)n;
	}
	return 0;
}

int sim_image_save(const struct sim_image *img, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), ret = 0;

	if (fd < 0)
		return -BCFS_ERR_dev_image_io;
	if (ftruncate(fd, (off_t)img->size))
		ret = -BCFS_ERR_dev_image_io;
	for (u64 off = 0; off < img->size && !ret; off += CHUNK_SIZE) {
		struct chunk *c = chunk_ro(img, off >> CHUNK_SHIFT);

		if (c && memcmp(c->data, zeroes, CHUNK_SIZE))
			ret = write_chunk(fd, c->data, off, min(CHUNK_SIZE, img->size - off));
	}
	if (close(fd) && !ret)
		ret = -BCFS_ERR_dev_image_io;
	return ret;
}

static int load_fd(int fd, struct sim_image **ret)
{
	off_t size = lseek(fd, 0, SEEK_END), pos = 0;
	struct sim_image *img;
	u8 buf[CHUNK_SIZE];

	if (size < 0)
		return -BCFS_ERR_dev_image_io;
	img = sim_image_create(round_down((u64)size, (u64)SECTOR_SIZE));
	while ((pos = lseek(fd, pos, SEEK_DATA)) >= 0 && (u64)pos < img->size) {
		u64 off = round_down((u64)pos, CHUNK_SIZE);
		ssize_t n = pread(fd, buf, min(CHUNK_SIZE, img->size - off), (off_t)off);

		if (n <= 0) {
			sim_image_free(img);
			return -BCFS_ERR_dev_image_io;
		}
		if (memcmp(buf, zeroes, (size_t)n))
			sim_image_write(img, off, buf, (u64)n);
		pos = (off_t)(off + (u64)n);
	}
	*ret = img;
	return 0;
}

int sim_image_load(const char *path, struct sim_image **ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		return -BCFS_ERR_dev_image_io;
	err = load_fd(fd, ret);
	close(fd);
	return err;
}
