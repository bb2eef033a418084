// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goal: bcfs_mkfs() over an existing file, forced, leaves it as it was when it refuses. Method:
 * each parameter that cannot be, with the file's size kept, cut and enlarged, over a file of known
 * content; afterwards every byte is compared.
 */
#include "bcfs/bcfs.h"

#include "util/types.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES (16U << 20)

static char path[256];
static u8 *before;

/* All of it has content, its end too. */
static void make_file(void)
{
	const char *dir = getenv("TMPDIR");
	int fd;

	snprintf(path, sizeof(path), "%s/bcfs-test-XXXXXX", dir ?: "/tmp");
	fd = mkstemp(path);
	before = malloc(FILE_BYTES);
	cr_assert(fd >= 0 && before);
	for (u32 i = 0; i < FILE_BYTES; i++)
		before[i] = (u8)(i * 2654435761U >> 24) | 1;
	cr_assert_eq(write(fd, before, FILE_BYTES), FILE_BYTES);
	close(fd);
}

static void remove_file(void)
{
	unlink(path);
	free(before);
}

static void expect_unchanged(const char *what, u64 size)
{
	u8 *now = malloc(FILE_BYTES);
	int fd = open(path, O_RDONLY);
	struct stat st;

	cr_assert(now && fd >= 0 && !fstat(fd, &st));
	cr_assert_eq(st.st_size, FILE_BYTES, "%s, size %llu: another size", what,
		     (unsigned long long)size);
	cr_assert_eq(pread(fd, now, FILE_BYTES, 0), FILE_BYTES);
	cr_assert(!memcmp(before, now, FILE_BYTES), "%s, size %llu: the file was changed", what,
		  (unsigned long long)size);
	close(fd);
	free(now);
}

Test(mkfs_refused, leaves_the_file_as_it_was, .init = make_file, .fini = remove_file)
{
	static const u64 sizes[] = {0, 8U << 20, 32U << 20};
	static const struct {
		const char *what;
		struct bcfs_mkfs_opts o;
	} rows[] = {
		{"a block size of 3000", {.block_bytes = 3000}},
		{"a block size of 128K", {.block_bytes = 128 << 10}},
		{"nodes of 8K", {.node_bytes = 8 << 10}},
		{"nodes of 4K in blocks of 1K", {.block_bytes = 1024, .node_bytes = 4096}},
		{"nodes of 100000", {.node_bytes = 100000}},
		{"nodes larger than buckets", {.node_bytes = 256 << 10, .bucket_bytes = 64 << 10}},
		{"buckets of 8K", {.bucket_bytes = 8 << 10}},
		{"buckets of 100000", {.bucket_bytes = 100000}},
		{"buckets as large as the device", {.bucket_bytes = 8 << 20}},
		{"buckets of 8G", {.bucket_bytes = 8ULL << 30}},
		{"a journal of 512", {.journal_bytes = 512}},
		{"a journal of 1G", {.journal_bytes = 1 << 30}},
		{"chunks of 5000", {.csum_chunk_bytes = 5000}},
		{"chunks of 1M", {.csum_chunk_bytes = 1 << 20}},
		{"extents of 3000", {.extent_max_bytes = 3000}},
		{"extents of 1G", {.extent_max_bytes = 1 << 30}},
		{"inline data of 1937", {.inline_max_bytes = 1937}},
		{"an unknown checksum", {.data_csum = "md5"}},
		{"metadata without checksums", {.metadata_csum = "none"}},
		{"a long label", {.label = "123456789012345678901234567890123"}},
		{"a label not in UTF-8", {.label = "\xff"}},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
			struct bcfs_mkfs_opts o = rows[i].o;
			char msg[512] = "";

			o.struct_size = sizeof(o);
			o.force = 1;
			o.size_bytes = sizes[s];
			cr_assert_lt(bcfs_mkfs(path, &o, NULL, msg, sizeof(msg)), 0, "%s",
				     rows[i].what);
			cr_assert(!strncmp(msg, path, strlen(path)), "%s: %s", rows[i].what, msg);
			cr_assert_not(strchr(msg, '\n'));
			expect_unchanged(rows[i].what, sizes[s]);
		}
	/* A size that is too small is one of them. */
	for (u64 size = 1; size <= 1 << 20; size <<= 5) {
		struct bcfs_mkfs_opts o = {
			.struct_size = sizeof(o), .force = 1, .size_bytes = size};

		cr_assert_lt(bcfs_mkfs(path, &o, NULL, NULL, 0), 0);
		expect_unchanged("too small", size);
	}
}

/* And what is not refused is made, at its new size. */
Test(mkfs_refused, what_can_be_is_made, .init = make_file, .fini = remove_file)
{
	static const u64 sizes[] = {8U << 20, 32U << 20, 32U << 20, 0};

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct bcfs_mkfs_opts o = {
			.struct_size = sizeof(o), .force = i > 0, .size_bytes = sizes[i]};
		struct bcfs_info info;
		char msg[512] = "";
		struct stat st;

		cr_assert_eq(bcfs_mkfs(path, &o, &info, msg, sizeof(msg)), 0, "%s", msg);
		cr_assert_eq(stat(path, &st), 0);
		cr_assert_eq(st.st_size, sizes[i] ?: sizes[i - 1]);
		cr_assert_eq(bcfs_probe(path, &info, msg, sizeof(msg)), 0, "%s", msg);
		o.force = 0;
		cr_assert_lt(bcfs_mkfs(path, &o, NULL, msg, sizeof(msg)), 0);
	}
}
