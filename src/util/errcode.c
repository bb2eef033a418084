// SPDX-License-Identifier: LGPL-2.1-or-later
#include "util/errcode.h"
#include "util/types.h"

#include <stdlib.h>
#include <string.h>

static const struct err_row {
	int nr;
	int err;
	const char *name;
	const char *text;
} err_rows[] = {
#define x(name, nr, err, text) {BCFS_ERR_BASE + (nr), err, #name, text},
	BCFS_ERRCODES(x)
#undef x
};

static const struct err_row *err_row(int err)
{
	err = abs(err);
	if (err < BCFS_ERR_BASE)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(err_rows); i++)
		if (err_rows[i].nr == err)
			return &err_rows[i];
	return NULL;
}

const char *err_str(int err)
{
	const struct err_row *r = err_row(err);

	return r ? r->text : strerrordesc_np(abs(err)) ?: "unknown error";
}

const char *err_name(int err)
{
	const struct err_row *r = err_row(err);

	return r ? r->name : strerrorname_np(abs(err)) ?: "unknown";
}

int err_to_errno(int err)
{
	const struct err_row *r = err_row(err);

	return r ? r->err : abs(err) < BCFS_ERR_BASE ? abs(err) : EIO;
}

bool err_is_damage(int err)
{
	int e = err_to_errno(err);

	return e == EUCLEAN || e == EIO;
}
