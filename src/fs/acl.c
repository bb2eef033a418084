// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fs/acl.h"
#include "util/errcode.h"

#include <string.h>

#define ACL_VERSION 2U

enum {
	ACL_USER_OBJ = 1,
	ACL_USER = 2,
	ACL_GROUP_OBJ = 4,
	ACL_GROUP = 8,
	ACL_MASK = 16,
	ACL_OTHER = 32,
};

struct acl_entry {
	u16 tag, perm;
	u32 id;
};

static unsigned nr_entries(size_t bytes)
{
	return (bytes - 4) / sizeof(struct acl_entry);
}

static struct acl_entry get_entry(const void *acl, unsigned i)
{
	struct acl_entry e;

	memcpy(&e, (const u8 *)acl + 4 + i * sizeof(e), sizeof(e));
	return e;
}

static void put_entry(void *acl, unsigned i, const struct acl_entry *e)
{
	memcpy((u8 *)acl + 4 + i * sizeof(*e), e, sizeof(*e));
}

int acl_check(const void *acl, size_t bytes)
{
	unsigned seen[33] = {0};
	u32 version;

	if (bytes < 4 || bytes > ACL_MAX_BYTES || (bytes - 4) % sizeof(struct acl_entry))
		return -BCFS_ERR_acl_invalid;
	memcpy(&version, acl, 4);
	if (version != ACL_VERSION)
		return -BCFS_ERR_acl_invalid;

	for (unsigned i = 0; i < nr_entries(bytes); i++) {
		struct acl_entry e = get_entry(acl, i);

		if (!is_power_of_2(e.tag) || e.tag > ACL_OTHER || e.perm > 7)
			return -BCFS_ERR_acl_invalid;
		seen[e.tag]++;
	}
	if (seen[ACL_USER_OBJ] != 1 || seen[ACL_GROUP_OBJ] != 1 || seen[ACL_OTHER] != 1 ||
	    seen[ACL_MASK] > 1 || ((seen[ACL_USER] || seen[ACL_GROUP]) && !seen[ACL_MASK]))
		return -BCFS_ERR_acl_invalid;
	return 0;
}

/* The entry behind the mode's group bits: the mask if there is one. */
static u16 group_tag(const void *acl, size_t bytes)
{
	for (unsigned i = 0; i < nr_entries(bytes); i++)
		if (get_entry(acl, i).tag == ACL_MASK)
			return ACL_MASK;
	return ACL_GROUP_OBJ;
}

/* Which mode bits an entry stands for: the shift; -1: none. */
static int mode_shift(u16 tag, u16 group)
{
	if (tag == ACL_USER_OBJ)
		return 6;
	if (tag == group)
		return 3;
	return tag == ACL_OTHER ? 0 : -1;
}

static bool only_mode(const void *acl, size_t bytes)
{
	return nr_entries(bytes) == 3;
}

bool acl_to_mode(const void *acl, size_t bytes, u16 *mode)
{
	u16 group = group_tag(acl, bytes);

	for (unsigned i = 0; i < nr_entries(bytes); i++) {
		struct acl_entry e = get_entry(acl, i);
		int shift = mode_shift(e.tag, group);

		if (shift >= 0)
			*mode = (*mode & ~(7 << shift)) | e.perm << shift;
	}
	return only_mode(acl, bytes);
}

void acl_chmod(void *acl, size_t bytes, u16 mode)
{
	u16 group = group_tag(acl, bytes);

	for (unsigned i = 0; i < nr_entries(bytes); i++) {
		struct acl_entry e = get_entry(acl, i);
		int shift = mode_shift(e.tag, group);

		if (shift >= 0) {
			e.perm = mode >> shift & 7;
			put_entry(acl, i, &e);
		}
	}
}

bool acl_inherit(void *acl, size_t bytes, u16 *mode)
{
	u16 group = group_tag(acl, bytes);

	for (unsigned i = 0; i < nr_entries(bytes); i++) {
		struct acl_entry e = get_entry(acl, i);
		int shift = mode_shift(e.tag, group);

		if (shift < 0)
			continue;
		e.perm &= *mode >> shift & 7;
		put_entry(acl, i, &e);
		*mode = (*mode & ~(7 << shift)) | e.perm << shift;
	}
	return only_mode(acl, bytes);
}
