// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Prints the tables of doc/format.md from the code, so that they cannot go
 * stale. In the text a table stands between two marks:
 *
 *	<!-- table: struct bcfs_sb -->
 *	...
 *	<!-- end -->
 *
 *	gen-format-tables --write FILE    replaces what is between the marks
 *	gen-format-tables --check FILE    fails if that would change anything, if a
 *	                                  structure or enum has no table, or if the
 *	                                  rows of ondisk.def leave a gap
 */
#include "bcfs/format/alloc.h"
#include "bcfs/format/bkey.h"
#include "bcfs/format/btree.h"
#include "bcfs/format/extent.h"
#include "bcfs/format/inode.h"
#include "bcfs/format/journal.h"
#include "bcfs/format/snapshot.h"
#include "bcfs/format/superblock.h"
#include "sb/sb.h"
#include "util/printbuf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- structures ---- */

enum row_kind { ROW_STRUCT, ROW_MEMBER, ROW_BITS, ROW_TAIL };

static const struct struct_row {
	enum row_kind kind;
	const char *type, *member;
	unsigned pos, size; /* bytes; of ROW_BITS: bits */
	const char *doc;
} struct_rows[] = {
#define S(type, size)			{ROW_STRUCT, #type, NULL, 0, size, NULL},
#define M(type, member, pos, size, doc) {ROW_MEMBER, #type, #member, pos, size, doc},
#define B(type, member, bit, bits, doc) {ROW_BITS, #type, #member, bit, bits, doc},
#define T(type, member, pos, doc)	{ROW_TAIL, #type, #member, pos, 0, doc},
#include "util/ondisk.def"
#undef S
#undef M
#undef B
#undef T
};

static int struct_to_text(struct printbuf *out, const char *name)
{
	bool found = false;

	for (size_t i = 0; i < ARRAY_SIZE(struct_rows); i++) {
		const struct struct_row *r = &struct_rows[i];

		if (strcmp(r->type, name))
			continue;
		found = true;
		switch (r->kind) {
		case ROW_STRUCT:
			prt_printf(out, "| offset | size | `struct %s`, %u bytes | |\n", name,
				   r->size);
			prt_str(out, "|---:|---:|---|---|\n");
			break;
		case ROW_MEMBER:
			prt_printf(out, "| %u | %u | %s | %s |\n", r->pos, r->size, r->member,
				   r->doc);
			break;
		case ROW_BITS:
			prt_printf(out, "| %u, bit %u | %u bit%s | %s | %s |\n", r->pos / 8,
				   r->pos % 8, r->size, r->size > 1 ? "s" : "", r->member, r->doc);
			break;
		case ROW_TAIL:
			prt_printf(out, "| %u | … | %s | %s |\n", r->pos, r->member, r->doc);
			break;
		}
	}
	return found ? 0 : -1;
}

/* Members follow each other without a gap, up to the end. */
static int check_gaps(void)
{
	const struct struct_row *s = NULL;
	unsigned at = 0;
	int bad = 0;

	for (size_t i = 0; i <= ARRAY_SIZE(struct_rows); i++) {
		const struct struct_row *r = i < ARRAY_SIZE(struct_rows) ? &struct_rows[i] : NULL;
		unsigned mult = r && r->kind == ROW_BITS ? 1 : 8;

		if (!r || r->kind == ROW_STRUCT) {
			if (s && at != s->size * 8) {
				fprintf(stderr, "struct %s: %u bits of members, %u bytes\n",
					s->type, at, s->size);
				bad = 1;
			}
			s = r;
			at = 0;
			continue;
		}
		if (strcmp(r->type, s->type) || r->pos * mult != at) {
			fprintf(stderr, "struct %s: a gap before %s.%s\n", s->type, r->type,
				r->member);
			bad = 1;
		}
		at = (r->pos + r->size) * mult;
	}
	return bad;
}

static int check_one_bit_field(const char *name, const u8 *p, size_t len, unsigned bit,
			       unsigned bits)
{
	for (unsigned i = 0; i < len * 8; i++)
		if ((p[i / 8] >> i % 8 & 1) != (i >= bit && i < bit + bits)) {
			fprintf(stderr, "%s is not %u bits from bit %u\n", name, bits, bit);
			return 1;
		}
	return 0;
}

/* Sets each bit field to ones and looks where they are. */
static int check_bit_fields(void)
{
	volatile u64 ones = ~0ULL;
	int bad = 0;

#define S(type, size)
#define M(type, member, pos, size, doc)
#define T(type, member, pos, doc)
#define B(type, field, bit, bits, doc)                                                             \
	{                                                                                          \
		struct type v;                                                                     \
		memset(&v, 0, sizeof(v));                                                          \
		v.field = ones;                                                                    \
		bad |= check_one_bit_field(#type "." #field, (const u8 *)&v, sizeof(v), bit,       \
					   bits);                                                  \
	}
#include "util/ondisk.def"
#undef S
#undef M
#undef B
#undef T
	return bad;
}

/* ---- enums: cells of each row, by column ---- */

struct enum_row {
	u64 nr;
	const char *name;
	const char *cells[2];
};

static const struct enum_row csum_types[] = {
#define x(name, nr, bytes) {nr, #name, {#bytes}},
	BCFS_CSUM_TYPES(x)
#undef x
};

static const struct enum_row compression_types[] = {
#define x(name, nr) {nr, #name, {NULL}},
	BCFS_COMPRESSION_TYPES(x)
#undef x
};

static const struct enum_row data_types[] = {
#define x(name, nr) {nr, #name, {NULL}},
	BCFS_DATA_TYPES(x)
#undef x
};

static const struct enum_row features[] = {
#define x(name, set, bit) {bit, #name, {#set}},
	BCFS_SB_FEATURES(x)
#undef x
};

static const struct enum_row sb_fields[] = {
#define x(name, nr, doc) {nr, #name, {doc}},
	BCFS_SB_FIELDS(x)
#undef x
};

static const struct enum_row sb_options[] = {
#define x(name, shift, bits) {shift, #name, {#bits}},
	SB_OPTS(x)
#undef x
};

static const struct enum_row key_types[] = {
#define x(name, nr, minval, doc) {nr, #name, {#minval, doc}},
	BCFS_BKEY_TYPES(x)
#undef x
};

#define FLAGS_TEXT(f)                                                                              \
	((f) == (BTREE_IS_EXTENTS | BTREE_HAS_SNAPSHOTS) ? "extents, snapshots"                    \
	 : (f) == BTREE_IS_EXTENTS			 ? "extents"                               \
	 : (f) == BTREE_HAS_SNAPSHOTS			 ? "snapshots"                             \
	 : (f) == BTREE_IS_ALLOC_INFO			 ? "space"                                 \
	 : (f) == BTREE_HAS_IDS				 ? "ids"                                   \
							 : "")

static const struct enum_row btrees[] = {
#define x(name, nr, flags, doc) {nr, #name, {FLAGS_TEXT(flags), doc}},
	BCFS_BTREE_IDS(x)
#undef x
};

static const struct enum_row jset_entries[] = {
#define x(name, nr, doc) {nr, #name, {doc}},
	BCFS_JSET_ENTRY_TYPES(x)
#undef x
};

static const struct enum_row extent_entries[] = {
#define x(name, nr) {nr, #name, {NULL}},
	BCFS_EXTENT_ENTRY_TYPES(x)
#undef x
};

enum {
#define x(name, bits, doc) INODE_FIELD_##name,
	BCFS_INODE_FIELDS(x)
#undef x
};

static const struct enum_row inode_fields[] = {
#define x(name, bits, doc) {INODE_FIELD_##name, #name, {#bits, doc}},
	BCFS_INODE_FIELDS(x)
#undef x
};

static const struct enum_row inode_flags[] = {
#define x(name, bit) {bit, #name, {NULL}},
	BCFS_INODE_FLAGS(x)
#undef x
};

static const struct enum_row xattr_types[] = {
#define x(name, nr, prefix) {nr, #name, {prefix}},
	BCFS_XATTR_TYPES(x)
#undef x
};

static const struct enum_row accounting[] = {
#define x(name, nr, doc) {nr, #name, {doc}},
	BCFS_ACCOUNTING(x)
#undef x
};

#define C(name)                                                                                    \
	{                                                                                          \
		name, #name,                                                                       \
		{                                                                                  \
			NULL                                                                       \
		}                                                                                  \
	}
static const struct enum_row constants[] = {
	C(BCFS_VERSION_CURRENT),
	C(BCFS_SB_SECTOR),
	C(BCFS_SB_COPIES),
	C(BCFS_SB_COPIES_MAX),
	C(BKEY_U64s),
	C(BKEY_U64s_MAX),
	C(BKEY_VAL_U64s_MAX),
	C(BTREE_MAX_DEPTH),
	C(BTREE_NODE_SIZE_MIN),
	C(BTREE_NODE_SIZE_MAX),
	C(BTREE_NODE_SIZE_DEFAULT),
	C(BCFS_EXTENT_MAX_SECTORS),
	C(BCFS_EXTENT_DEFAULT_SECTORS),
	C(BCFS_CHUNK_SHIFT_MIN),
	C(BCFS_CHUNK_SHIFT_MAX),
	C(BCFS_CHUNK_SHIFT_DEFAULT),
	C(BCFS_INUM_BITS),
	C(BCFS_SUBVOL_MAX),
	C(BCFS_ROOT_SUBVOL),
	C(BCFS_ROOT_INO),
	C(BCFS_FIRST_INO),
	C(BCFS_NAME_MAX),
	C(BCFS_DIRENT_HASH_MIN),
	C(BCFS_DIRENT_HASH_MAX),
	C(BCFS_XATTR_PIECE_MAX),
	C(BCFS_XATTR_SIZE_MAX),
	C(BCFS_SNAPSHOT_ROOT),
	C(BCFS_BP_SHIFT),
	C(BCFS_LRU_FRAGMENTATION),
	C(BCFS_LRU_CACHED),
	C(BCFS_LRU_TIME_BITS),
};
#undef C

static const struct enum_table {
	const char *name;
	const char *head[4];
	const struct enum_row *rows;
	size_t nr;
} enum_tables[] = {
#define E(name, ...)                                                                               \
	{                                                                                          \
#name, {__VA_ARGS__ }, name, ARRAY_SIZE(name)                                      \
	}
	E(csum_types, "number", "checksum", "bytes"),
	E(compression_types, "number", "compression"),
	E(data_types, "number", "what a bucket holds"),
	E(features, "bit", "feature", "set"),
	E(sb_fields, "number", "field", "holds"),
	E(sb_options, "shift", "option", "bits"),
	E(key_types, "number", "key type", "least value, bytes", "is"),
	E(btrees, "id", "btree", "kind", "holds"),
	E(jset_entries, "number", "entry", "holds"),
	E(extent_entries, "number", "entry"),
	E(inode_fields, "place", "field", "bits", "holds"),
	E(inode_flags, "bit", "flag"),
	E(xattr_types, "number", "type", "prefix of the name"),
	E(accounting, "number", "counter", "counts"),
	E(constants, "value", "constant"),
#undef E
};

static int enum_to_text(struct printbuf *out, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(enum_tables); i++) {
		const struct enum_table *t = &enum_tables[i];
		unsigned cols = 2;

		if (strcmp(t->name, name))
			continue;
		prt_printf(out, "| %s | %s |", t->head[0], t->head[1]);
		for (; cols < 4 && t->head[cols]; cols++)
			prt_printf(out, " %s |", t->head[cols]);
		prt_str(out, "\n|---:|---|");
		for (unsigned c = 2; c < cols; c++)
			prt_str(out, "---|");
		prt_str(out, "\n");
		for (size_t k = 0; k < t->nr; k++) {
			prt_printf(out, "| %" PRIu64 " | %s |", t->rows[k].nr, t->rows[k].name);
			for (unsigned c = 2; c < cols; c++)
				prt_printf(out, " %s |", t->rows[k].cells[c - 2]);
			prt_str(out, "\n");
		}
		return 0;
	}
	return -1;
}

/* ---- the text ---- */

#define MARK_BEGIN "<!-- table: "
#define MARK_END   "<!-- end -->"

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	size_t len = 0, size = 1 << 20;
	char *text = malloc(size);

	if (!f || !text) {
		perror(path);
		exit(1);
	}
	len = fread(text, 1, size - 1, f);
	text[len] = 0;
	fclose(f);
	return text;
}

static int table_to_text(struct printbuf *out, const char *what)
{
	if (!strncmp(what, "struct ", 7))
		return struct_to_text(out, what + 7);
	return enum_to_text(out, what);
}

/* Copies the text with each table printed anew. */
static int rewrite(struct printbuf *out, const char *text)
{
	const char *p = text;

	while (*p) {
		const char *eol = strchrnul(p, '\n');
		size_t len = eol - p + (*eol == '\n');

		prt_bytes(out, p, len);
		if (!strncmp(p, MARK_BEGIN, strlen(MARK_BEGIN))) {
			char what[64];
			const char *end = strstr(p, MARK_END);

			if (sscanf(p, MARK_BEGIN "%63[^>]", what) != 1 || !end)
				return fprintf(stderr, "a table without its end: %.40s\n", p);
			what[strcspn(what, "-")] = 0;
			while (strlen(what) && what[strlen(what) - 1] == ' ')
				what[strlen(what) - 1] = 0;
			if (table_to_text(out, what))
				return fprintf(stderr, "there is no table '%s'\n", what);
			p = end;
		} else {
			p += len;
		}
	}
	return 0;
}

static int check_all_there(const char *text)
{
	char mark[128];
	int bad = 0;

	for (size_t i = 0; i < ARRAY_SIZE(struct_rows); i++) {
		snprintf(mark, sizeof(mark), MARK_BEGIN "struct %s -->", struct_rows[i].type);
		if (struct_rows[i].kind == ROW_STRUCT && !strstr(text, mark))
			bad = fprintf(stderr, "no table of struct %s\n", struct_rows[i].type);
	}
	for (size_t i = 0; i < ARRAY_SIZE(enum_tables); i++) {
		snprintf(mark, sizeof(mark), MARK_BEGIN "%s -->", enum_tables[i].name);
		if (!strstr(text, mark))
			bad = fprintf(stderr, "no table of %s\n", enum_tables[i].name);
	}
	return bad;
}

int main(int argc, char **argv)
{
	struct printbuf out = PRINTBUF;
	char *text;
	int bad;

	if (argc != 3 || (strcmp(argv[1], "--check") && strcmp(argv[1], "--write"))) {
		fprintf(stderr, "usage: gen-format-tables --check|--write FILE\n");
		return 2;
	}
	text = read_file(argv[2]);
	bad = check_gaps() | check_bit_fields() | check_all_there(text);
	bad = rewrite(&out, text) || bad;
	if (!strcmp(argv[1], "--check")) {
		if (!bad && strcmp(text, printbuf_str(&out)))
			bad = fprintf(stderr,
				      "%s: tables are stale: run gen-format-tables --write\n",
				      argv[2]);
	} else if (!bad) {
		FILE *f = fopen(argv[2], "w");

		bad = !f || fputs(printbuf_str(&out), f) < 0;
		if (f && fclose(f))
			bad = 1;
	}
	printbuf_exit(&out);
	free(text);
	return bad ? 1 : 0;
}
