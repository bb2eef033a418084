// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bcfs/ioctl.h"
#include "fuse_bcfs.h"
#include "loop.h"

#define PAGE 4096U
/* The largest request: 1 MiB of data and its headers; the kernel wants room for a page more. */
#define MAX_DATA   (1U << 20)
#define BUF_BYTES  (MAX_DATA + 2 * PAGE)
#define WRITE_HEAD (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
/* A WRITE of at least this much gives its place as a reader away. */
#define LONG_WRITE (64U << 10)
/* A READ of at least this much is answered from one large page: device and kernel both look up
 * every page that they are given. */
#define LONG_READ  (256U << 10)
#define HUGE_BYTES (2U << 20)

struct loops {
	struct daemon *d;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	unsigned int nr_idle; /* atomic: readers that wait for a request */
	/* All protected by lock. */
	unsigned int nr_readers; /* threads that read, or run a request in between */
	unsigned int nr_parked;
	unsigned int nr_wake; /* parked threads told to become readers, not yet awake */
	unsigned int nr_threads;
	unsigned int max_readers, max_threads;
	bool stop;
	pthread_t *threads; /* nr_threads of them */
};

struct worker {
	struct loops *l;
	bool gave_away; /* its place as a reader */
	char *in;   /* BUF_BYTES, page-aligned; requests start so that WRITE's data is aligned */
	char *out;  /* MAX_DATA + PAGE */
	char *huge; /* HUGE_BYTES, aligned to as much; NULL: not needed yet, or no memory */
	struct request req;
};

static __thread struct worker *current;

const struct request *request_current(void)
{
	return &current->req;
}

static void *map_buffer(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static char *map_huge(void)
{
	char *p = map_buffer(2 * HUGE_BYTES);
	size_t front = -(uintptr_t)p % HUGE_BYTES;

	if (!p)
		return NULL;
	if (front)
		munmap(p, front);
	munmap(p + front + HUGE_BYTES, HUGE_BYTES - front);
	madvise(p + front, HUGE_BYTES, MADV_HUGEPAGE);
	return p + front;
}

void *request_buffer(size_t size)
{
	struct worker *w = current;

	if (size > MAX_DATA + PAGE)
		return NULL;
	if (size >= LONG_READ && !w->huge)
		w->huge = map_huge();
	return size >= LONG_READ && w->huge ? w->huge : w->out;
}

/* ---- readers and their places ---- */

static void *worker_main(void *arg);

/* Lock held. */
static int start_thread(struct loops *l)
{
	int ret = pthread_create(&l->threads[l->nr_threads], NULL, worker_main, l);

	if (!ret)
		l->nr_threads++;
	return ret;
}

/* The calling thread no longer reads: another one does, if any can. */
static void give_place_away(struct worker *w)
{
	struct loops *l = w->l;

	w->gave_away = true;
	pthread_mutex_lock(&l->lock);
	l->nr_readers--;
	if (!l->stop && l->nr_readers < l->max_readers) {
		if (l->nr_parked > l->nr_wake) {
			l->nr_wake++;
			l->nr_readers++;
			pthread_cond_signal(&l->wake);
		} else if (l->nr_threads < l->max_threads && !start_thread(l)) {
			l->nr_readers++;
		}
	}
	pthread_mutex_unlock(&l->lock);
}

/* The library is about to wait in a request: somebody has to read meanwhile. */
static void about_to_wait(void *arg)
{
	struct worker *w = arg;

	if (!__atomic_load_n(&w->l->nr_idle, __ATOMIC_RELAXED))
		give_place_away(w);
}

/* Waits for a place as a reader; false: the loops end. */
static bool take_place(struct loops *l)
{
	bool go_on = true;

	pthread_mutex_lock(&l->lock);
	if (l->stop) {
		go_on = false;
	} else if (l->nr_readers < l->max_readers) {
		l->nr_readers++;
	} else {
		l->nr_parked++;
		while (!l->stop && !l->nr_wake)
			pthread_cond_wait(&l->wake, &l->lock);
		l->nr_parked--;
		if (l->nr_wake)
			l->nr_wake--;
		go_on = !l->stop;
	}
	pthread_mutex_unlock(&l->lock);
	return go_on;
}

void daemon_signal(struct daemon *d)
{
	uint64_t one = 1;

	if (write(d->event_fd, &one, sizeof(one)) < 0)
		log_fmt(BCFS_LOG_ERR, "cannot wake the main thread: %s", strerror(errno));
}

static void stop_all(struct loops *l)
{
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_broadcast(&l->wake);
	pthread_mutex_unlock(&l->lock);
	l->d->ended = true;
	daemon_signal(l->d);
}

/* ---- requests ---- */

/* With the mount options sync and dirsync: is what this request changes to be on the device? */
static bool is_synchronous(const struct daemon *d, const struct request *r)
{
	if (!(d->opts->mount_flags & (MS_SYNCHRONOUS | MS_DIRSYNC)))
		return false;
	switch (r->opcode) {
	case FUSE_CREATE:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
		return true;
	/* The kernel sends an FSYNC behind write(2), and nothing behind these. */
	case FUSE_SETATTR:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
	case OP_COPY_FILE_RANGE_64:
		return d->opts->mount_flags & MS_SYNCHRONOUS;
	case FUSE_IOCTL:
		return r->sets_attr && d->opts->mount_flags & MS_SYNCHRONOUS;
	default:
		return false;
	}
}

/* Does it leave its place as a reader to another before it waits for anything? */
static bool takes_long(const struct daemon *d, const struct request *r,
		       const struct fuse_in_header *in)
{
	if (is_synchronous(d, r))
		return true;
	switch (in->opcode) {
	case FUSE_SYNCFS:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
	case OP_COPY_FILE_RANGE_64:
		return true;
	case FUSE_WRITE:
		return in->len >= LONG_WRITE;
	default:
		return false;
	}
}

/* An ioctl that brings passphrases and key files. */
static bool has_secrets(const struct fuse_in_header *in, size_t len)
{
	const struct fuse_ioctl_in *arg = (const void *)(in + 1);

	return in->opcode == FUSE_IOCTL && len >= sizeof(*in) + sizeof(*arg) &&
	       (arg->cmd == BCFS_IOC_KEY_ROTATE || arg->cmd == BCFS_IOC_KEY_SLOT);
}

static bool reads(uint32_t opcode)
{
	return opcode == FUSE_READ || opcode == FUSE_READDIR || opcode == FUSE_READDIRPLUS;
}

/* The bits that libfuse does not pass on. */
static void note_request(struct worker *w, const struct fuse_in_header *in, size_t len)
{
	const void *arg = in + 1;
	size_t arg_len = len - sizeof(*in);

	w->req = (struct request){.opcode = in->opcode};
	if (in->opcode == FUSE_WRITE && arg_len >= sizeof(struct fuse_write_in)) {
		const struct fuse_write_in *write_in = arg;

		w->req.kill_priv = write_in->write_flags & FUSE_WRITE_KILL_SUIDGID;
		w->req.from_cache = write_in->write_flags & FUSE_WRITE_CACHE;
	} else if (reads(in->opcode) && arg_len >= sizeof(struct fuse_read_in)) {
		const struct fuse_read_in *read_in = arg;

		w->req.noatime = read_in->flags & O_NOATIME;
	} else if (in->opcode == FUSE_SETATTR && arg_len >= sizeof(struct fuse_setattr_in)) {
		const struct fuse_setattr_in *setattr_in = arg;

		w->req.kill_priv = setattr_in->valid & FATTR_KILL_SUIDGID;
	} else if (in->opcode == FUSE_IOCTL && arg_len >= sizeof(struct fuse_ioctl_in)) {
		uint32_t cmd = ((const struct fuse_ioctl_in *)arg)->cmd;

		w->req.sets_attr =
			cmd == FS_IOC_SETFLAGS || cmd == FS_IOC_FSSETXATTR || cmd == BCFS_IOC_SHIFT;
	} else if (in->opcode == FUSE_INIT && arg_len >= 16) {
		const struct fuse_init_in *init_in = arg;
		struct daemon *d = w->l->d;

		d->unique_init = in->unique;
		d->killpriv_v2 = init_in->flags & FUSE_HANDLE_KILLPRIV_V2;
		d->parallel_dirops = init_in->flags & FUSE_PARALLEL_DIROPS;
		d->setxattr_ext = init_in->flags & FUSE_SETXATTR_EXT;
	}
}

static void run_request(struct worker *w, char *buf, size_t len)
{
	const struct fuse_in_header *in = (const void *)buf;
	struct daemon *d = w->l->d;
	struct fuse_buf fbuf = {.size = len, .mem = buf};
	bool secrets;

	w->gave_away = false;
	if (len < sizeof(*in))
		return;
	secrets = has_secrets(in, len);
	note_request(w, in, len);
	request_count(d, in->opcode);
	if (in->opcode == FUSE_DESTROY && d->fuseblk) {
		raw_destroy(d, buf);
		return;
	}
	pthread_rwlock_rdlock(&d->fs_lock);
	if (w->l->max_threads > 1 && takes_long(d, &w->req, in))
		give_place_away(w);
	else if (w->l->max_threads > 1)
		bcfs_thread_on_wait(about_to_wait, w);
	if (!d->fs)
		raw_gone(d, buf);
	else if (d->shut_down && raw_refuse(d, buf))
		;
	else if (!raw_request(d, buf, len))
		fuse_session_process_buf(d->se, &fbuf);
	bcfs_thread_on_wait(NULL, NULL);
	pthread_rwlock_unlock(&d->fs_lock);
	/* Whatever became of it: who is to use them has a copy. */
	if (secrets)
		explicit_bzero(buf, len);
	w->req.opcode = 0;
}

static void read_loop(struct worker *w)
{
	struct loops *l = w->l;
	char *buf = w->in + PAGE - WRITE_HEAD;
	ssize_t len;

	for (;;) {
		__atomic_add_fetch(&l->nr_idle, 1, __ATOMIC_RELAXED);
		len = read(l->d->fd, buf, BUF_BYTES - PAGE + WRITE_HEAD);
		__atomic_sub_fetch(&l->nr_idle, 1, __ATOMIC_RELAXED);
		if (!len)
			return;
		if (len > 0) {
			run_request(w, buf, (size_t)len);
			if (w->gave_away && !take_place(l))
				return;
			continue;
		}
		/* ENOENT: the request was interrupted before it could be read. */
		if (errno == EINTR || errno == EAGAIN || errno == ENOENT)
			continue;
		if (errno != ENODEV && errno != ECONNABORTED)
			log_fmt(BCFS_LOG_ERR, "reading /dev/fuse: %s", strerror(errno));
		return;
	}
}

static void *worker_main(void *arg)
{
	struct worker w = {
		.l = arg,
		.in = map_buffer(BUF_BYTES),
		.out = map_buffer(MAX_DATA + PAGE),
	};

	current = &w;
	if (w.in && w.out)
		read_loop(&w);
	else
		log_fmt(BCFS_LOG_ERR, "no memory for a request buffer");
	current = NULL;

	if (w.in)
		munmap(w.in, BUF_BYTES);
	if (w.out)
		munmap(w.out, MAX_DATA + PAGE);
	if (w.huge)
		munmap(w.huge, HUGE_BYTES);
	stop_all(arg);
	return NULL;
}

/* ---- replies ---- */

/*
 * What libfuse 3.14 cannot ask for: HANDLE_KILLPRIV_V2, without which every
 * write(2) to the cache costs a GETXATTR of security.capability; PARALLEL_DIROPS,
 * which it knows but forgets; SETXATTR_EXT, which says when an ACL takes
 * set-group-ID away.
 */
static ssize_t patch_init(struct daemon *d, int fd, const struct iovec *iov, int count)
{
	struct iovec copy[2];
	struct fuse_init_out out;

	d->unique_init = 0;
	if (count != 2 || iov[1].iov_len > sizeof(out) ||
	    iov[1].iov_len < offsetof(struct fuse_init_out, max_background))
		return writev(fd, iov, count);

	memset(&out, 0, sizeof(out));
	memcpy(&out, iov[1].iov_base, iov[1].iov_len);
	if (d->killpriv_v2) {
		out.flags |= FUSE_HANDLE_KILLPRIV_V2;
		out.flags &= ~(uint32_t)FUSE_HANDLE_KILLPRIV;
	}
	if (d->parallel_dirops)
		out.flags |= FUSE_PARALLEL_DIROPS;
	if (d->setxattr_ext)
		out.flags |= FUSE_SETXATTR_EXT;
	copy[0] = iov[0];
	copy[1] = (struct iovec){.iov_base = &out, .iov_len = iov[1].iov_len};
	return writev(fd, copy, 2);
}

int reply_sync(struct daemon *d)
{
	if (!current || !is_synchronous(d, &current->req))
		return 0;
	return bcfs_errno(bcfs_sync(d->fs));
}

/* What was to be on the device is not: that is the reply. libfuse is told that it was not taken. */
static ssize_t reply_failed(int fd, struct fuse_out_header *head, int error)
{
	head->error = -error;
	head->len = sizeof(*head);
	if (write(fd, head, sizeof(*head)) < 0)
		log_fmt(BCFS_LOG_DEBUG, "a reply was not taken: %s", strerror(errno));
	errno = ENOENT;
	return -1;
}

static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fuse_out_header *head = iov[0].iov_base;
	struct daemon *d = userdata;
	uint64_t unique_init = d->unique_init;
	int error = head->error ? 0 : reply_sync(d);

	if (error)
		return reply_failed(fd, head, error);
	if (unique_init && head->unique == unique_init && !head->error)
		return patch_init(d, fd, iov, count);
	return writev(fd, iov, count);
}

static ssize_t io_read(int fd, void *buf, size_t len, void *userdata)
{
	return read(fd, buf, len);
}

const struct fuse_custom_io *loops_io(void)
{
	static const struct fuse_custom_io io = {
		.writev = io_writev,
		.read = io_read,
	};

	return &io;
}

/* ---- start and end ---- */

/* Requests come without end: who waits for the lock alone goes before them. */
static void init_fs_lock(struct daemon *d)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&d->fs_lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

int loops_start(struct daemon *d)
{
	struct loops *l = calloc(1, sizeof(*l));
	unsigned int i;
	int ret = 0;

	if (!l)
		return ENOMEM;
	l->d = d;
	l->max_threads = d->opts->max_threads;
	l->max_readers = d->opts->readers < l->max_threads ? d->opts->readers : l->max_threads;
	l->threads = calloc(l->max_threads, sizeof(*l->threads));
	if (!l->threads) {
		free(l);
		return ENOMEM;
	}
	init_fs_lock(d);
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->wake, NULL);
	d->loops = l;

	pthread_mutex_lock(&l->lock);
	for (i = 0; i < l->max_readers && !ret; i++) {
		ret = start_thread(l);
		if (!ret)
			l->nr_readers++;
	}
	ret = l->nr_threads ? 0 : ret;
	pthread_mutex_unlock(&l->lock);
	return ret;
}

void loops_join(struct daemon *d)
{
	struct loops *l = d->loops;
	unsigned int i, nr;

	if (!l)
		return;
	/* Threads start threads until stop is seen; then the number stands. */
	for (i = 0;; i++) {
		pthread_mutex_lock(&l->lock);
		nr = l->nr_threads;
		pthread_mutex_unlock(&l->lock);
		if (i >= nr)
			break;
		pthread_join(l->threads[i], NULL);
	}
	pthread_cond_destroy(&l->wake);
	pthread_mutex_destroy(&l->lock);
	pthread_rwlock_destroy(&d->fs_lock);
	free(l->threads);
	free(l);
	d->loops = NULL;
}
