// SPDX-License-Identifier: LGPL-2.1-or-later
#include "names_model.h"

static const char *const xattr_names[XATTRS] = {"user.a", "user.bb", "trusted.x", "security.y"};

static u64 rnd(struct model *m, u64 limit)
{
	return trand_below(&m->rng, limit);
}

static struct bcfs_ino ino_of(struct model *m, int n)
{
	return (struct bcfs_ino){BCFS_ROOT_SUBVOL, m->n[n].inum};
}

static bool is_dir(struct model *m, int n)
{
	return S_ISDIR(m->n[n].mode);
}

/* A node of that kind, or any (type 0), linked or still referenced; -1: none was hit. */
static int pick(struct model *m, u32 type)
{
	for (unsigned i = 0; i < 40; i++) {
		int n = rnd(m, 60);

		n = rnd(m, 4) ? n : (int)rnd(m, NODES);
		if (m->n[n].used && (!type || (m->n[n].mode & S_IFMT) == type))
			return n;
	}
	return type == S_IFDIR ? 0 : -1;
}

static int new_node(struct model *m)
{
	for (int i = 1; i < NODES; i++)
		if (!m->n[i].used)
			return i;
	return -1;
}

static void node_init(struct model *m, int n, u32 mode, const struct bcfs_stat *st, int parent)
{
	struct mnode *x = &m->n[n];

	memset(x, 0, sizeof(*x));
	*x = (struct mnode){
		.used = true, .mode = mode, .inum = st->ino.inum, .refs = 1, .nlink = 1};
	x->parent = parent;
	for (unsigned i = 0; i < XATTRS; i++)
		x->xattr_len[i] = -1;
	if (S_ISREG(mode))
		x->data = calloc(1, FILE_MAX_);
	check(m, st->mode == mode, "mode %o, expected %o", st->mode, mode);
}

static void node_drop_if_gone(struct model *m, int n)
{
	if (m->n[n].nlink || m->n[n].refs)
		return;
	free(m->n[n].data);
	m->n[n].data = NULL;
	m->n[n].used = false;
}

static void link_lost(struct model *m, int n)
{
	m->n[n].nlink--;
	node_drop_if_gone(m, n);
}

static bool dir_empty(struct model *m, int n)
{
	for (unsigned i = 0; i < NAMES; i++)
		if (m->n[n].ents[i])
			return false;
	return true;
}

static bool dead(struct model *m, int n)
{
	return !m->n[n].nlink;
}

/* ---- operations ---- */

static void op_create(struct model *m)
{
	const struct bcfs_cred cred = {.uid = 7, .gid = 8, .umask = 022};
	int dir = pick(m, S_IFDIR), n = new_node(m);
	unsigned name = rnd(m, NAMES), kind = rnd(m, 5);
	struct bcfs_stat st;
	u32 mode;
	int ret, want = dead(m, dir) ? ENOENT : m->n[dir].ents[name] ? EEXIST : 0;
	char target[5000];

	if (n < 0)
		return;
	switch (kind) {
	case 0:
	case 1:
		mode = S_IFREG | 0644;
		ret = bcfs_mknod(m->c, ino_of(m, dir), m->names[name], S_IFREG | 0666, 0, 0, &cred,
				 &st);
		break;
	case 2:
		mode = S_IFDIR | 0755;
		ret = bcfs_mkdir(m->c, ino_of(m, dir), m->names[name], 0777, &cred, &st);
		break;
	case 3:
		mode = S_IFLNK | 0777;
		memset(target, 'x', sizeof(target));
		target[1 + rnd(m, 4095)] = 0;
		ret = bcfs_symlink(m->c, ino_of(m, dir), m->names[name], target, &cred, &st);
		break;
	default:
		mode = S_IFCHR | 0600;
		ret = bcfs_mknod(m->c, ino_of(m, dir), m->names[name], mode, 11, 77, &cred, &st);
		break;
	}
	expect(m, ret, want, "create");
	if (ret)
		return;
	node_init(m, n, mode, &st, dir);
	m->n[dir].ents[name] = n + 1;
	if (kind == 3)
		m->n[n].size = strlen(target);
	if (kind == 4)
		check(m, st.rdev_major == 11 && st.rdev_minor == 77, "device number");
}

static void op_link(struct model *m)
{
	int dir = pick(m, S_IFDIR), n = pick(m, 0);
	unsigned name = rnd(m, NAMES);
	struct bcfs_stat st;
	int ret, want;

	if (n < 0 || dead(m, n))
		return;
	want = dead(m, dir) ? ENOENT : is_dir(m, n) ? EPERM : m->n[dir].ents[name] ? EEXIST : 0;
	ret = bcfs_link(m->c, ino_of(m, n), ino_of(m, dir), m->names[name], &st);
	expect(m, ret, want, "link");
	if (ret)
		return;
	m->n[dir].ents[name] = n + 1;
	m->n[n].nlink++;
	m->n[n].refs++;
	check(m, st.nlink == m->n[n].nlink, "link: nlink");
}

static void op_unlink(struct model *m, bool rmdir)
{
	int dir = pick(m, S_IFDIR), n;
	unsigned name = rnd(m, NAMES);
	int ret, want = 0;

	n = m->n[dir].ents[name] - 1;
	if (dead(m, dir) || n < 0)
		want = ENOENT;
	else if (rmdir)
		want = !is_dir(m, n) ? ENOTDIR : dir_empty(m, n) ? 0 : ENOTEMPTY;
	else if (is_dir(m, n))
		want = EISDIR;
	ret = rmdir ? bcfs_rmdir(m->c, ino_of(m, dir), m->names[name])
		    : bcfs_unlink(m->c, ino_of(m, dir), m->names[name]);
	expect(m, ret, want, rmdir ? "rmdir" : "unlink");
	if (ret)
		return;
	m->n[dir].ents[name] = 0;
	link_lost(m, n);
}

/* Is @a the directory @d, or above it? */
static bool above(struct model *m, int a, int d)
{
	while (d != a && d)
		d = m->n[d].parent;
	return d == a;
}

static int rename_want(struct model *m, int od, int s, int nd, int d, u32 flags)
{
	if (dead(m, od) || dead(m, nd))
		return ENOENT;
	if (s < 0 || (d < 0 && (flags & BCFS_RENAME_EXCHANGE)))
		return ENOENT;
	if (s == d)
		return flags & BCFS_RENAME_NOREPLACE ? EEXIST : 0;
	if (is_dir(m, s) && od != nd && above(m, s, nd))
		return EINVAL;
	if (d >= 0 && is_dir(m, d) && od != nd && above(m, d, od))
		return flags & BCFS_RENAME_EXCHANGE    ? EINVAL
		       : flags & BCFS_RENAME_NOREPLACE ? EEXIST
						       : ENOTEMPTY;
	if (d < 0 || (flags & BCFS_RENAME_EXCHANGE))
		return 0;
	if (flags & BCFS_RENAME_NOREPLACE)
		return EEXIST;
	if (is_dir(m, s) != is_dir(m, d))
		return is_dir(m, s) ? ENOTDIR : EISDIR;
	return is_dir(m, d) && !dir_empty(m, d) ? ENOTEMPTY : 0;
}

/* What a rename has left in the place of the old name; of the same owner. */
static void whiteout_left(struct model *m, int dir, unsigned name, int owner, int w)
{
	struct bcfs_stat st, again;

	expect(m, bcfs_lookup(m->c, ino_of(m, dir), m->names[name], &st), 0, "lookup of whiteout");
	check(m, st.mode == S_IFCHR && !st.rdev_major && !st.rdev_minor, "whiteout: %o", st.mode);
	expect(m, bcfs_lookup(m->c, st.ino, ".", &again), 0, "lookup of a dot, no directory");
	check(m, again.ino.inum == st.ino.inum, "a dot is another inode");
	bcfs_forget(m->c, again.ino, 1);
	node_init(m, w, S_IFCHR, &st, dir);
	m->n[w].uid = m->n[owner].uid;
	m->n[dir].ents[name] = w + 1;
}

static void op_rename(struct model *m)
{
	int od = pick(m, S_IFDIR), nd = rnd(m, 2) ? od : pick(m, S_IFDIR);
	unsigned on = rnd(m, NAMES), nn = rnd(m, NAMES);
	int s = m->n[od].ents[on] - 1, d = m->n[nd].ents[nn] - 1;
	static const u32 flag_set[] = {0,
				       0,
				       BCFS_RENAME_NOREPLACE,
				       BCFS_RENAME_EXCHANGE,
				       BCFS_RENAME_WHITEOUT,
				       BCFS_RENAME_WHITEOUT | BCFS_RENAME_NOREPLACE};
	u32 flags = flag_set[rnd(m, ARRAY_SIZE(flag_set))];
	int want = rename_want(m, od, s, nd, d, flags), w = new_node(m);
	int ret;

	if (w < 0)
		return;
	ret = bcfs_rename(m->c, ino_of(m, od), m->names[on], ino_of(m, nd), m->names[nn], flags);

	expect(m, ret, want, "rename");
	if (ret || s == d)
		return;
	m->n[nd].ents[nn] = s + 1;
	m->n[od].ents[on] = flags & BCFS_RENAME_EXCHANGE ? d + 1 : 0;
	m->n[s].parent = nd;
	if (d >= 0 && (flags & BCFS_RENAME_EXCHANGE))
		m->n[d].parent = od;
	else if (d >= 0)
		link_lost(m, d);
	if (flags & BCFS_RENAME_WHITEOUT)
		whiteout_left(m, od, on, s, w);
}

static void op_write(struct model *m)
{
	int n = pick(m, S_IFREG);
	u8 buf[3000];
	u64 off = rnd(m, FILE_MAX_ - sizeof(buf)), len = 1 + rnd(m, sizeof(buf));
	s64 ret;

	if (m->one_commit)
		len = min(len, 512 - off % 512);

	if (n < 0)
		return;
	memset(buf, 1 + rnd(m, 255), len);
	ret = bcfs_write(m->c, ino_of(m, n), off, buf, len, 0);
	check(m, ret == (s64)len, "write: %lld", (long long)ret);
	memcpy(m->n[n].data + off, buf, len);
	m->n[n].size = max(m->n[n].size, off + len);
}

static void op_truncate(struct model *m)
{
	int n = pick(m, S_IFREG);
	struct bcfs_stat st = {.size = rnd(m, FILE_MAX_)};
	struct mnode *x = n < 0 ? NULL : &m->n[n];

	if (n < 0)
		return;
	expect(m, bcfs_setattr(m->c, ino_of(m, n), &st, BCFS_SET_SIZE, &st), 0, "truncate");
	if (st.size < x->size)
		memset(x->data + st.size, 0, x->size - st.size);
	x->size = st.size;
}

static void op_fallocate(struct model *m)
{
	static const u32 modes[] = {
		0, BCFS_FALLOC_KEEP_SIZE, BCFS_FALLOC_PUNCH_HOLE | BCFS_FALLOC_KEEP_SIZE,
		BCFS_FALLOC_ZERO_RANGE, BCFS_FALLOC_ZERO_RANGE | BCFS_FALLOC_KEEP_SIZE};
	int n = pick(m, S_IFREG);
	u32 mode = modes[rnd(m, ARRAY_SIZE(modes))];
	u64 off = rnd(m, FILE_MAX_ / 2), len = 1 + rnd(m, FILE_MAX_ / 2);
	struct mnode *x = n < 0 ? NULL : &m->n[n];

	if (m->one_commit)
		return;

	if (n < 0)
		return;
	expect(m, bcfs_fallocate(m->c, ino_of(m, n), mode, off, len), 0, "fallocate");
	if (mode & (BCFS_FALLOC_PUNCH_HOLE | BCFS_FALLOC_ZERO_RANGE))
		memset(x->data + off, 0, len);
	if (!(mode & BCFS_FALLOC_KEEP_SIZE))
		x->size = max(x->size, off + len);
}

static void op_xattr(struct model *m)
{
	int n = pick(m, 0);
	unsigned i = rnd(m, XATTRS), kind = rnd(m, 4);
	struct mnode *x = n < 0 ? NULL : &m->n[n];
	u8 *buf;
	int len, want, ret;
	u32 flags = kind == 1 ? BCFS_XATTR_CREATE : kind == 2 ? BCFS_XATTR_REPLACE : 0;

	if (n < 0)
		return;
	if (kind == 3) {
		ret = bcfs_removexattr(m->c, ino_of(m, n), xattr_names[i]);
		expect(m, ret, x->xattr_len[i] < 0 ? ENODATA : 0, "removexattr");
		x->xattr_len[i] = -1;
		return;
	}
	len = rnd(m, 3) ? rnd(m, 200) : rnd(m, m->xattr_max + 1);
	buf = malloc(len + 1);
	memset(buf, i * 16 + kind, len);
	want = kind == 1 && x->xattr_len[i] >= 0  ? EEXIST
	       : kind == 2 && x->xattr_len[i] < 0 ? ENODATA
						  : 0;
	ret = bcfs_setxattr(m->c, ino_of(m, n), xattr_names[i], buf, len, flags);
	expect(m, ret, want, "setxattr");
	if (!ret) {
		x->xattr_len[i] = len;
		x->xattr_fill[i] = i * 16 + kind;
	}
	free(buf);
}

static void op_chmod(struct model *m)
{
	int n = pick(m, 0);
	struct bcfs_stat st = {.mode = rnd(m, 01000), .uid = rnd(m, 1000)};

	if (n < 0)
		return;
	m->n[n].mode = (m->n[n].mode & S_IFMT) | st.mode;
	m->n[n].uid = st.uid;
	expect(m, bcfs_setattr(m->c, ino_of(m, n), &st, BCFS_SET_MODE | BCFS_SET_UID, &st), 0,
	       "setattr");
	check(m, st.mode == m->n[n].mode, "setattr: mode %o", st.mode);
}

static void op_forget(struct model *m)
{
	int n = pick(m, 0);

	if (n <= 0)
		return;
	bcfs_forget(m->c, ino_of(m, n), m->n[n].refs);
	m->n[n].refs = 0;
	node_drop_if_gone(m, n);
}

static void op_lookup(struct model *m)
{
	int dir = pick(m, S_IFDIR);
	unsigned name = rnd(m, NAMES);
	int n = m->n[dir].ents[name] - 1;
	struct bcfs_stat st;
	int ret = bcfs_lookup(m->c, ino_of(m, dir), m->names[name], &st);

	expect(m, ret, n < 0 ? ENOENT : 0, "lookup");
	if (ret)
		return;
	check(m, st.ino.inum == m->n[n].inum, "lookup: inum");
	m->n[n].refs++;
}

void model_one_op(struct model *m)
{
	static void (*const ops[])(struct model *) = {
		op_create,    op_create, op_create, op_link,   op_rename,
		op_rename,    op_rename, op_write,  op_write,  op_truncate,
		op_fallocate, op_xattr,	 op_chmod,  op_lookup, op_forget};
	unsigned i = rnd(m, ARRAY_SIZE(ops) + 4);

	if (i < ARRAY_SIZE(ops))
		ops[i](m);
	else
		op_unlink(m, i & 1);
}

/* ---- comparing ---- */

struct walk {
	struct model *m;
	int dir;
	unsigned nr;
	u64 last_cookie;
	bool dot, dotdot;
};

static int walk_entry(void *arg, const struct bcfs_dir_entry *e)
{
	struct walk *w = arg;
	struct model *m = w->m;

	check(m, e->cookie > w->last_cookie, "readdir: cookies do not ascend");
	w->last_cookie = e->cookie;
	if (!strcmp(e->name, ".")) {
		w->dot = true;
		return 0;
	}
	if (!strcmp(e->name, "..")) {
		w->dotdot = true;
		check(m,
		      !w->dir || dead(m, w->dir) || e->ino.inum == m->n[m->n[w->dir].parent].inum,
		      "..: wrong parent");
		return 0;
	}
	for (unsigned i = 0; i < NAMES; i++) {
		int n = m->n[w->dir].ents[i] - 1;

		if (strcmp(m->names[i], e->name))
			continue;
		check(m, n >= 0, "readdir: %s should not be there", e->name);
		check(m, e->ino.inum == m->n[n].inum && e->type == m->n[n].mode >> 12 && e->stat,
		      "readdir: %s: wrong inode or type", e->name);
		check(m, e->stat->mode == m->n[n].mode, "readdir: %s: mode", e->name);
		m->n[n].refs++;
		w->nr++;
		return 0;
	}
	check(m, false, "readdir: unknown name %s", e->name);
	return 0;
}

static void compare_dir(struct model *m, int n, const struct bcfs_stat *st)
{
	struct walk w = {.m = m, .dir = n};
	unsigned nr = 0, dirs = 0;

	for (unsigned i = 0; i < NAMES; i++) {
		int e = m->n[n].ents[i] - 1;

		nr += e >= 0;
		dirs += e >= 0 && is_dir(m, e);
	}
	expect(m, bcfs_readdir(m->c, ino_of(m, n), 0, BCFS_READDIR_PLUS, walk_entry, &w), 0,
	       "readdir");
	check(m, w.dot && w.dotdot && w.nr == nr, "readdir: %u names, expected %u", w.nr, nr);
	check(m, dead(m, n) || st->nlink == dirs + 2, "nlink %u, expected %u", st->nlink, dirs + 2);
}

static void compare_node(struct model *m, int n)
{
	struct mnode *x = &m->n[n];
	struct bcfs_stat st;
	u8 *buf = malloc(BCFS_XATTR_SIZE_MAX + FILE_MAX_);
	size_t list = 0;
	s64 ret;

	expect(m, bcfs_getattr(m->c, ino_of(m, n), &st), 0, "getattr");
	check(m, st.mode == x->mode && st.uid == (x->uid ?: st.uid), "mode %o, expected %o",
	      st.mode, x->mode);
	if (is_dir(m, n))
		compare_dir(m, n, &st);
	else
		check(m, st.nlink == x->nlink && st.size == x->size, "nlink %u/%u, size %llu/%llu",
		      st.nlink, x->nlink, (unsigned long long)st.size, (unsigned long long)x->size);
	if (S_ISREG(x->mode)) {
		ret = bcfs_read(m->c, ino_of(m, n), 0, buf, FILE_MAX_);
		check(m, ret == (s64)x->size && !memcmp(buf, x->data, x->size),
		      "contents differ, read %lld", (long long)ret);
	}
	if (S_ISLNK(x->mode)) {
		ret = bcfs_readlink(m->c, ino_of(m, n), (char *)buf, 5000);
		check(m, ret == (s64)x->size && buf[0] == 'x' && buf[ret - 1] == 'x',
		      "readlink: %lld", (long long)ret);
	}
	for (unsigned i = 0; i < XATTRS; i++) {
		ret = bcfs_getxattr(m->c, ino_of(m, n), xattr_names[i], buf, BCFS_XATTR_SIZE_MAX);
		if (x->xattr_len[i] < 0) {
			expect(m, ret, ENODATA, "getxattr");
			continue;
		}
		list += strlen(xattr_names[i]) + 1;
		check(m, ret == x->xattr_len[i], "getxattr: %lld, expected %d", (long long)ret,
		      x->xattr_len[i]);
		for (s64 j = 0; j < ret; j++)
			check(m, buf[j] == x->xattr_fill[i], "getxattr: byte %lld", (long long)j);
	}
	ret = bcfs_listxattr(m->c, ino_of(m, n), NULL, 0);
	check(m, ret == (s64)list, "listxattr: %lld, expected %zu", (long long)ret, list);
	free(buf);
}

void model_compare(struct model *m)
{
	for (int i = 0; i < NODES; i++)
		if (m->n[i].used)
			compare_node(m, i);
	check(m, !fsx_check(m->fx), "fsck");
}

void model_reopen(struct model *m, bool crash)
{
	if (crash) {
		expect(m, bcfs_sync(m->c), 0, "sync");
		fsx_abandon(m->fx);
	} else {
		expect(m, fsx_close(m->fx), 0, "close");
	}
	expect(m, fsx_open(m->fx), 0, "open");
	m->c = m->fx->c;
	for (int i = 0; i < NODES; i++) {
		m->n[i].refs = 0;
		if (m->n[i].used)
			node_drop_if_gone(m, i);
	}
}

void model_init(struct model *m, struct fsx *fx)
{
	struct bcfs_stat st = {.ino = {1, BCFS_ROOT_INO}, .mode = S_IFDIR | 0755};

	m->fx = fx;
	m->c = fx->c;
	node_init(m, 0, S_IFDIR | 0755, &st, 0);
	for (unsigned i = 0; i < NAMES; i++) {
		memset(m->names[i], 'a' + i, 255);
		m->names[i][i < 3 ? 255 - i : 1 + i] = 0;
	}
}

void model_free(struct model *m)
{
	for (unsigned i = 0; i < NODES; i++)
		free(m->n[i].data);
}
