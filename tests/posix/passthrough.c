// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A pass-through: a directory of another filesystem, shown through FUSE.
 *
 *   passthrough [-f] [-s] [-o OPTION,...] DIR MOUNTPOINT
 *
 * It does nothing of its own, so what fails here but not in DIR is what the
 * kernel's FUSE does to any filesystem: the measure for "a limit of FUSE" in the
 * tests, and the peer in benchmarks. It asks the kernel at INIT for what
 * bcfs-fuse asks for; open(2) it must hear of, since it has descriptors to open.
 *
 * Nodeids are inode numbers of DIR (one filesystem; its root is 1); a table has
 * an O_PATH descriptor for each that the kernel knows. Each request runs with
 * the user, group and umask of its caller, which threads have of their own.
 *
 * Options: writeback=on|off, timeout=SECONDS (of names and attributes, default:
 * for ever), ro; and those of mount(2).
 */
#define FUSE_USE_VERSION 314

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <urcu/urcu-bp.h>
/* after the flavor */
#include <urcu/rculfhash.h>

#define NR_BUCKETS 65536U

struct node {
	struct cds_lfht_node in_table;
	ino_t ino;
	int fd; /* O_PATH */
	uint64_t nr_lookups;
};

struct pass {
	int root_fd;
	ino_t root_ino;
	double timeout;
	bool writeback;
	pthread_mutex_t lock; /* nobody looks at the table without it */
	struct cds_lfht *table;
};

static struct pass *pass_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* ---- nodes ---- */

static int ino_match(struct cds_lfht_node *node, const void *ino)
{
	return caa_container_of(node, struct node, in_table)->ino == *(const ino_t *)ino;
}

/* Lock held. NULL: there is none. */
static struct node *find(struct pass *p, ino_t ino)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *n;

	urcu_bp_read_lock();
	cds_lfht_lookup(p->table, ino, ino_match, &ino, &iter);
	n = cds_lfht_iter_get_node(&iter);
	urcu_bp_read_unlock();
	return n ? caa_container_of(n, struct node, in_table) : NULL;
}

/* -1: the kernel does not know it (a handle of an earlier mount). */
static int fd_of(fuse_req_t req, fuse_ino_t nodeid)
{
	struct pass *p = pass_of(req);
	struct node *n;
	int fd;

	if (nodeid == FUSE_ROOT_ID)
		return p->root_fd;
	pthread_mutex_lock(&p->lock);
	n = find(p, nodeid);
	fd = n ? n->fd : -1;
	pthread_mutex_unlock(&p->lock);
	return fd;
}

static void forget_one(struct pass *p, fuse_ino_t nodeid, uint64_t nr)
{
	struct node *n;

	if (nodeid == FUSE_ROOT_ID)
		return;
	pthread_mutex_lock(&p->lock);
	n = find(p, nodeid);
	if (n && n->nr_lookups <= nr) {
		urcu_bp_read_lock();
		cds_lfht_del(p->table, &n->in_table);
		urcu_bp_read_unlock();
		close(n->fd);
		free(n);
	} else if (n) {
		n->nr_lookups -= nr;
	}
	pthread_mutex_unlock(&p->lock);
}

static const char *proc_path(int fd, char buf[64])
{
	snprintf(buf, 64, "/proc/self/fd/%d", fd);
	return buf;
}

/* One lookup more. 0 or an errno. */
static int entry_of(fuse_req_t req, int dirfd, const char *name, struct fuse_entry_param *e)
{
	struct pass *p = pass_of(req);
	struct node *n;
	int fd, ret = 0;

	memset(e, 0, sizeof(*e));
	e->attr_timeout = e->entry_timeout = p->timeout;
	fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &e->attr)) {
		ret = errno;
		if (fd >= 0)
			close(fd);
		return ret;
	}
	if (e->attr.st_ino == p->root_ino) {
		close(fd);
		e->ino = FUSE_ROOT_ID;
		return 0;
	}
	e->ino = e->attr.st_ino;
	pthread_mutex_lock(&p->lock);
	n = find(p, e->attr.st_ino);
	if (n) {
		n->nr_lookups++;
		close(fd);
	} else {
		n = calloc(1, sizeof(*n));
		if (n) {
			*n = (struct node){.ino = e->attr.st_ino, .fd = fd, .nr_lookups = 1};
			urcu_bp_read_lock();
			cds_lfht_add(p->table, n->ino, &n->in_table);
			urcu_bp_read_unlock();
		} else {
			close(fd);
			ret = ENOMEM;
		}
	}
	pthread_mutex_unlock(&p->lock);
	return ret;
}

static void reply_name(fuse_req_t req, int dirfd, const char *name)
{
	struct fuse_entry_param e;
	int ret = entry_of(req, dirfd, name, &e);

	if (ret)
		fuse_reply_err(req, ret);
	else if (fuse_reply_entry(req, &e))
		forget_one(pass_of(req), e.ino, 1);
}

static void reply_result(fuse_req_t req, int ret)
{
	fuse_reply_err(req, ret < 0 ? errno : 0);
}

/* ---- the caller ---- */

static __thread bool has_own_umask;

static void be_caller(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	/* A umask of this thread alone. */
	if (!has_own_umask)
		has_own_umask = !unshare(CLONE_FS);
	umask(ctx->umask);
	setfsgid(ctx->gid);
	setfsuid(ctx->uid);
}

static void be_root(void)
{
	int error = errno;

	setfsuid(0);
	setfsgid(0);
	umask(0);
	errno = error;
}

/* ---- operations ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct pass *p = userdata;
	unsigned int want = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS |
			    FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_DONT_MASK | FUSE_CAP_POSIX_ACL |
			    FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_IOCTL_DIR | FUSE_CAP_READDIRPLUS |
			    FUSE_CAP_EXPLICIT_INVAL_DATA;

	if (p->writeback)
		want |= FUSE_CAP_WRITEBACK_CACHE;
	conn->want = conn->capable & want;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
}

static void op_lookup(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	struct fuse_entry_param none = {.entry_timeout = pass_of(req)->timeout}, e;
	int fd = fd_of(req, dir), ret;

	if (fd < 0) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	ret = entry_of(req, fd, name, &e);
	if (!ret) {
		if (fuse_reply_entry(req, &e))
			forget_one(pass_of(req), e.ino, 1);
	} else if (ret == ENOENT && none.entry_timeout > 0) {
		fuse_reply_entry(req, &none);
	} else {
		fuse_reply_err(req, ret);
	}
}

static void op_forget(fuse_req_t req, fuse_ino_t node, uint64_t nr)
{
	forget_one(pass_of(req), node, nr);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	size_t i;

	for (i = 0; i < count; i++)
		forget_one(pass_of(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct stat st;

	if (fstat(fd_of(req, node), &st))
		fuse_reply_err(req, errno);
	else
		fuse_reply_attr(req, &st, pass_of(req)->timeout);
}

static struct timespec time_to_set(int to_set, int now, int given, struct timespec ts)
{
	struct timespec ret = ts;

	if (to_set & now)
		ret.tv_nsec = UTIME_NOW;
	else if (!(to_set & given))
		ret.tv_nsec = UTIME_OMIT;
	return ret;
}

static int set_attr(int fd, const struct stat *attr, int to_set)
{
	char path[64];

	proc_path(fd, path);
	if (to_set & FUSE_SET_ATTR_MODE && chmod(path, attr->st_mode))
		return -1;
	if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) &&
	    fchownat(fd, "", to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1,
		     to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1,
		     AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
		return -1;
	if (to_set & FUSE_SET_ATTR_SIZE && truncate(path, attr->st_size))
		return -1;
	if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) {
		struct timespec ts[2] = {
			time_to_set(to_set, FUSE_SET_ATTR_ATIME_NOW, FUSE_SET_ATTR_ATIME,
				    attr->st_atim),
			time_to_set(to_set, FUSE_SET_ATTR_MTIME_NOW, FUSE_SET_ATTR_MTIME,
				    attr->st_mtim),
		};

		/* Not by the path: a link is not to be followed. */
		if (utimensat(fd, "", ts, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
			return -1;
	}
	return 0;
}

static void op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	int fd = fd_of(req, node);
	struct stat st;

	if (set_attr(fd, attr, to_set) || fstat(fd, &st))
		fuse_reply_err(req, errno);
	else
		fuse_reply_attr(req, &st, pass_of(req)->timeout);
}

static void op_readlink(fuse_req_t req, fuse_ino_t node)
{
	char buf[4097];
	ssize_t len = readlinkat(fd_of(req, node), "", buf, sizeof(buf) - 1);

	if (len < 0) {
		fuse_reply_err(req, errno);
	} else {
		buf[len] = 0;
		fuse_reply_readlink(req, buf);
	}
}

/* What was made is looked up as root. */
static void reply_made(fuse_req_t req, int dirfd, const char *name, int ret)
{
	be_root();
	if (ret < 0)
		fuse_reply_err(req, errno);
	else
		reply_name(req, dirfd, name);
}

static void op_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t rdev)
{
	int fd = fd_of(req, dir);
	/* Whether the caller may make a device, the kernel has decided. */
	bool device = S_ISCHR(mode) || S_ISBLK(mode);

	if (!device)
		be_caller(req);
	reply_made(req, fd, name, mknodat(fd, name, mode, rdev));
}

static void op_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode)
{
	int fd = fd_of(req, dir);

	be_caller(req);
	reply_made(req, fd, name, mkdirat(fd, name, mode));
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t dir, const char *name)
{
	int fd = fd_of(req, dir);

	be_caller(req);
	reply_made(req, fd, name, symlinkat(target, fd, name));
}

static void op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t dir, const char *name)
{
	int fd = fd_of(req, dir);
	char path[64];

	reply_made(
		req, fd, name,
		linkat(AT_FDCWD, proc_path(fd_of(req, node), path), fd, name, AT_SYMLINK_FOLLOW));
}

static void op_unlink(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	reply_result(req, unlinkat(fd_of(req, dir), name, 0));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	reply_result(req, unlinkat(fd_of(req, dir), name, AT_REMOVEDIR));
}

static void op_rename(fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t newdir,
		      const char *newname, unsigned int flags)
{
	reply_result(req, renameat2(fd_of(req, dir), name, fd_of(req, newdir), newname, flags));
}

static int open_again(fuse_req_t req, fuse_ino_t node, int flags)
{
	char path[64];

	flags &= ~(O_NOFOLLOW | O_CREAT | O_EXCL | O_DIRECT);
	if (pass_of(req)->writeback) {
		/* The kernel reads around what is written, and knows the end of the file. */
		flags &= ~O_APPEND;
		if ((flags & O_ACCMODE) == O_WRONLY)
			flags = (flags & ~O_ACCMODE) | O_RDWR;
	}
	return open(proc_path(fd_of(req, node), path), flags | O_CLOEXEC);
}

static void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	int fd = open_again(req, node, fi->flags);

	if (fd < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	fi->fh = (uint64_t)fd;
	fi->keep_cache = 1;
	if (fuse_reply_open(req, fi))
		close(fd);
}

static void op_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	int dirfd = fd_of(req, dir), fd, ret;
	struct fuse_entry_param e;

	be_caller(req);
	fd = openat(dirfd, name, (fi->flags & O_EXCL) | O_CREAT | O_RDWR | O_CLOEXEC, mode);
	be_root();
	if (fd < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	ret = entry_of(req, dirfd, name, &e);
	if (ret) {
		close(fd);
		fuse_reply_err(req, ret);
		return;
	}
	fi->fh = (uint64_t)fd;
	fi->keep_cache = 1;
	if (fuse_reply_create(req, &e, fi)) {
		close(fd);
		forget_one(pass_of(req), e.ino, 1);
	}
}

static void op_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	close((int)fi->fh);
	fuse_reply_err(req, 0);
}

static void op_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

static void op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);

	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = (int)fi->fh;
	buf.buf[0].pos = off;
	fuse_reply_data(req, &buf, 0);
}

static void op_write_buf(fuse_req_t req, fuse_ino_t node, struct fuse_bufvec *in, off_t off,
			 struct fuse_file_info *fi)
{
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	ssize_t len;

	out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	out.buf[0].fd = (int)fi->fh;
	out.buf[0].pos = off;
	len = fuse_buf_copy(&out, in, 0);
	if (len < 0)
		fuse_reply_err(req, (int)-len);
	else
		fuse_reply_write(req, (size_t)len);
}

static void op_fsync(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	reply_result(req, datasync ? fdatasync((int)fi->fh) : fsync((int)fi->fh));
}

static void op_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	reply_result(req, fallocate((int)fi->fh, mode, off, len));
}

static void op_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	off_t pos = lseek((int)fi->fh, off, whence);

	if (pos < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_lseek(req, pos);
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t src, off_t src_off,
			       struct fuse_file_info *fi, fuse_ino_t dst, off_t dst_off,
			       struct fuse_file_info *dst_fi, size_t len, int flags)
{
	ssize_t ret = copy_file_range((int)fi->fh, &src_off, (int)dst_fi->fh, &dst_off,
				      len < (1U << 30) ? len : 1U << 30, (unsigned int)flags);

	if (ret < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_write(req, (size_t)ret);
}

static void op_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	int fd = openat(fd_of(req, node), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		fuse_reply_err(req, errno);
		return;
	}
	fi->fh = (uintptr_t)d;
	if (fuse_reply_open(req, fi))
		closedir(d);
}

static size_t add_entry(fuse_req_t req, fuse_ino_t node, char *buf, size_t room,
			const struct dirent *de, bool plus)
{
	struct fuse_entry_param e = {
		.attr = {.st_ino = de->d_ino, .st_mode = (mode_t)de->d_type << 12}};
	size_t len;

	if (!plus)
		return fuse_add_direntry(req, buf, room, de->d_name, &e.attr, de->d_off);
	if (strcmp(de->d_name, ".") && strcmp(de->d_name, "..") &&
	    entry_of(req, fd_of(req, node), de->d_name, &e))
		return 0; /* gone since */
	len = fuse_add_direntry_plus(req, buf, room, de->d_name, &e, de->d_off);
	if (len > room && e.ino)
		forget_one(pass_of(req), e.ino, 1);
	return len;
}

static void read_dir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
		     struct fuse_file_info *fi, bool plus)
{
	DIR *d = (DIR *)(uintptr_t)fi->fh;
	char *buf = malloc(size);
	struct dirent *de;
	size_t used = 0, len;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	if (off)
		seekdir(d, off);
	else
		rewinddir(d);
	errno = 0;
	while ((de = readdir(d))) {
		len = add_entry(req, node, buf + used, size - used, de, plus);
		if (len > size - used)
			break;
		used += len;
	}
	if (!de && errno && !used)
		fuse_reply_err(req, errno);
	else
		fuse_reply_buf(req, buf, used);
	free(buf);
}

static void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	read_dir(req, node, size, off, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
			   struct fuse_file_info *fi)
{
	read_dir(req, node, size, off, fi, true);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	closedir((DIR *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	int fd = dirfd((DIR *)(uintptr_t)fi->fh);

	reply_result(req, datasync ? fdatasync(fd) : fsync(fd));
}

static void op_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct statvfs st;

	if (fstatvfs(fd_of(req, node), &st))
		fuse_reply_err(req, errno);
	else
		fuse_reply_statfs(req, &st);
}

/* Attributes of a link cannot be reached by its descriptor; nobody may have any but root. */
static void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	char path[64], *value = malloc(size + 1);
	ssize_t len = getxattr(proc_path(fd_of(req, node), path), name, value, size);

	if (len < 0)
		fuse_reply_err(req, errno);
	else if (size)
		fuse_reply_buf(req, value, (size_t)len);
	else
		fuse_reply_xattr(req, (size_t)len);
	free(value);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	char path[64], *list = malloc(size + 1);
	ssize_t len = listxattr(proc_path(fd_of(req, node), path), list, size);

	if (len < 0)
		fuse_reply_err(req, errno);
	else if (size)
		fuse_reply_buf(req, list, (size_t)len);
	else
		fuse_reply_xattr(req, (size_t)len);
	free(list);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value,
			size_t size, int flags)
{
	char path[64];

	reply_result(req, setxattr(proc_path(fd_of(req, node), path), name, value, size, flags));
}

static void op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
	char path[64];

	reply_result(req, removexattr(proc_path(fd_of(req, node), path), name));
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.create = op_create,
	.release = op_release,
	.flush = op_flush,
	.read = op_read,
	.write_buf = op_write_buf,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.setxattr = op_setxattr,
	.removexattr = op_removexattr,
};

/* ---- start ---- */

/* Takes the options of this program out; the rest is for mount(2). */
static void parse_options(struct pass *p, char *options, char *rest, size_t size)
{
	char *opt, *save = NULL;

	for (opt = strtok_r(options, ",", &save); opt; opt = strtok_r(NULL, ",", &save)) {
		if (!strncmp(opt, "writeback=", 10))
			p->writeback = !strcmp(opt + 10, "on");
		else if (!strncmp(opt, "timeout=", 8))
			p->timeout = atof(opt + 8);
		else
			snprintf(rest + strlen(rest), size - strlen(rest), ",%s", opt);
	}
}

static int serve(struct pass *p, const char *mount_opts, const char *mountpoint, bool foreground,
		 bool single)
{
	char *argv[] = {"passthrough", "-o", (char *)mount_opts, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fuse_session *se = fuse_session_new(&args, &ops, sizeof(ops), p);
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int ret = 1;

	if (se && config && !fuse_set_signal_handlers(se)) {
		if (!fuse_session_mount(se, mountpoint)) {
			fuse_daemonize(foreground);
			ret = single ? fuse_session_loop(se) : fuse_session_loop_mt(se, config);
			fuse_session_unmount(se);
		}
		fuse_remove_signal_handlers(se);
	}
	if (se)
		fuse_session_destroy(se);
	fuse_loop_cfg_destroy(config);
	fuse_opt_free_args(&args);
	return ret ? 1 : 0;
}

int main(int argc, char **argv)
{
	char mount_opts[1024] = "fsname=passthrough,subtype=passthrough,default_permissions,"
				"allow_other,suid,dev";
	struct pass *p = calloc(1, sizeof(*p));
	bool foreground = false, single = false;
	struct rlimit files;
	struct stat st;
	int c;

	if (!p)
		return 1;
	p->table =
		cds_lfht_new_flavor(NR_BUCKETS, NR_BUCKETS, NR_BUCKETS, 0, &urcu_bp_flavor, NULL);
	if (!p->table)
		return 1;
	p->timeout = 1e9;
	p->writeback = true;
	while ((c = getopt(argc, argv, "fso:")) != -1) {
		if (c == 'f')
			foreground = true;
		else if (c == 's')
			single = true;
		else if (c == 'o')
			parse_options(p, optarg, mount_opts, sizeof(mount_opts));
		else
			return 2;
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: passthrough [-fs] [-o OPTIONS] DIR MOUNTPOINT\n");
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	p->root_fd = open(argv[optind], O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->root_fd < 0 || fstat(p->root_fd, &st)) {
		perror(argv[optind]);
		return 1;
	}
	p->root_ino = st.st_ino;
	pthread_mutex_init(&p->lock, NULL);
	umask(0);
	c = serve(p, mount_opts, argv[optind + 1], foreground, single);
	pthread_mutex_destroy(&p->lock);
	free(p);
	return c;
}
