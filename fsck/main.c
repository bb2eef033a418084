// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * fsck.bcfs: checks a filesystem; all it ever writes is that no check is due any more. Options and
 * exit status are those that fsck(8) knows.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cli/tool.h"
#include "../cli/unlock.h"
#include "bcfs/bcfs.h"

/* Exit status, of fsck(8). */
#define EXIT_CORRECTED	 1
#define EXIT_UNCORRECTED 4
#define EXIT_FAILED	 8
#define EXIT_USAGE	 16
#define EXIT_CANCELLED	 32

enum {
	OPT_CACHE = 256,
	OPT_WAIT,
};

static const char letters[] = "nypafvC::lrsthV";

/* clang-format off */
static const struct option long_opts[] = {
	{"cache", required_argument, NULL, OPT_CACHE},
	{"wait", required_argument, NULL, OPT_WAIT},
	TOOL_SECRET_LONG_OPTS,
	{"verbose", no_argument, NULL, 'v'},
	{"force", no_argument, NULL, 'f'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0},
};
/* clang-format on */

static const char help[] =
	"usage: fsck.bcfs [OPTION...] DEVICE\n"
	"\n"
	"Checks the bcfs filesystem on DEVICE, which must not be mounted. This version\n"
	"only checks; it repairs nothing. With -p or -y a check that finds nothing takes\n"
	"away the mark that one is due; else nothing is ever written.\n"
	"\n"
	"  -n               write nothing, whatever else is said\n"
	"  -y               answer yes to every repair\n"
	"  -p, -a           as at boot: check only where an error was met since the last check\n"
	"  -f, --force      with -p: check in any case\n"
	"  -v, --verbose    print what was counted, and the passes\n"
	"  -C [FD]          show progress; with FD, as lines for another program\n"
	"  -l, -r, -s, -t   accepted, for fsck(8); they mean nothing here\n"
	"      --cache SIZE memory for btree nodes\n"
	"      --wait N     seconds to wait for a mount that is still closing (default: 30)\n"
	"      --key-file PATH\n"
	"                   of an encrypted filesystem: its key file\n"
	"      --passphrase-fd N\n"
	"                   or a passphrase: the line that is read from descriptor N;\n"
	"                   otherwise that of BCFS_PASSPHRASE, or asked for\n"
	"  -h, --help       this text\n"
	"  -V, --version    the version\n"
	"\n"
	"Exit status: 0 no errors, 1 errors were repaired, 4 errors are left, 8 it could not\n"
	"be checked, 16 wrong usage, 32 cancelled.\n";

struct args {
	const char *path;
	uint64_t cache_bytes;
	uint32_t wait_ms;
	bool preen, force, verbose, progress;
	bool yes, no;	 /* may, must not write */
	int progress_fd; /* 0: on the terminal */
	struct tool_unlock unlock;
};

struct state {
	const struct args *args;
	const char *last_pass;
	bool on_terminal; /* a progress line stands there */
};

static volatile sig_atomic_t cancelled;

static void on_signal(int sig)
{
	(void)sig;
	cancelled = 1;
}

static void clear_progress(struct state *s)
{
	if (s->on_terminal)
		fputs("\r\033[K", stderr);
	s->on_terminal = false;
}

static void on_log(void *arg, enum bcfs_log_level level, const char *line)
{
	struct state *s = arg;

	if (level > BCFS_LOG_NOTICE && !s->args->verbose)
		return;
	clear_progress(s);
	tool_error("%s", line);
}

static void on_report(void *arg, enum bcfs_check_level level, const char *pass, const char *text)
{
	static const char *const words[] = {
		[BCFS_CHECK_INFO] = "",
		[BCFS_CHECK_ERROR] = "error: ",
		[BCFS_CHECK_FIXED] = "repaired: ",
	};
	struct state *s = arg;

	if (level == BCFS_CHECK_INFO && !s->args->verbose)
		return;
	clear_progress(s);
	printf("%s: %s%s\n", pass, words[level], text);
}

static int on_progress(void *arg, const char *pass, uint32_t nr, uint32_t nr_passes, uint64_t done,
		       uint64_t total)
{
	struct state *s = arg;

	if (s->args->verbose && pass != s->last_pass) {
		clear_progress(s);
		printf("pass %u of %u: %s\n", nr, nr_passes, pass);
		s->last_pass = pass;
	}
	if (s->args->progress && s->args->progress_fd)
		dprintf(s->args->progress_fd, "%u %llu %llu %s\n", nr, (unsigned long long)done,
			(unsigned long long)total, s->args->path);
	else if (s->args->progress && isatty(STDERR_FILENO)) {
		fprintf(stderr, "\r\033[K%s: pass %u of %u, %s: %3u %%", s->args->path, nr,
			nr_passes, pass,
			total ? (unsigned int)((double)done * 100 / (double)total) : 0);
		s->on_terminal = true;
	}
	return cancelled;
}

/*
 * -C takes a descriptor that may be missing, may be joined ("-C0") or may be the
 * next word, which is then a number.
 */
static bool progress_arg(struct args *a, int argc, char **argv)
{
	const char *text = optarg;
	uint64_t fd;

	a->progress = true;
	if (!text && optind < argc && tool_parse_uint(argv[optind], 1U << 20, &fd) &&
	    access(argv[optind], F_OK))
		text = argv[optind++];
	if (!text)
		return true;
	if (*text == '-') /* "-C-3": a descriptor whose bar is hidden, in e2fsck */
		text++;
	if (!tool_parse_uint(text, 1U << 20, &fd)) {
		tool_error("-C %s: not a descriptor", text);
		return false;
	}
	a->progress_fd = (int)fd;
	return true;
}

/* Exit status, or -1: go on. */
static int parse(struct args *a, int argc, char **argv)
{
	uint64_t nr;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, letters, long_opts, NULL)) != -1) {
		if (tool_secret_opt(&a->unlock.opts, c, optarg))
			continue;
		switch (c) {
		case 'n':
			a->no = true;
			break;
		case 'y':
			a->yes = true;
			break;
		case 'l':
		case 'r':
		case 's':
		case 't':
			break;
		case 'p':
		case 'a':
			a->preen = true;
			break;
		case 'f':
			a->force = true;
			break;
		case 'v':
			a->verbose = true;
			break;
		case 'C':
			if (!progress_arg(a, argc, argv))
				return EXIT_USAGE;
			break;
		case OPT_CACHE:
			if (tool_parse_size(optarg, &a->cache_bytes))
				break;
			tool_error("--cache %s: not a size (such as 64M)", optarg);
			return EXIT_USAGE;
		case OPT_WAIT:
			if (tool_parse_uint(optarg, 3600, &nr)) {
				a->wait_ms = (uint32_t)nr * 1000;
				break;
			}
			tool_error("--wait %s: not a number of seconds up to 3600", optarg);
			return EXIT_USAGE;
		case 'h':
			fputs(help, stdout);
			return tool_flush() ? 0 : EXIT_FAILED;
		case 'V':
			printf("fsck.bcfs %s\n", bcfs_version());
			return tool_flush() ? 0 : EXIT_FAILED;
		default:
			tool_bad_option(argv, letters, "fsck.bcfs");
			return EXIT_USAGE;
		}
	}
	if (argc - optind != 1) {
		tool_error("wanted: one device or image file; try \"fsck.bcfs --help\"");
		return EXIT_USAGE;
	}
	a->path = a->unlock.path = argv[optind];
	return -1;
}

/* At boot: 0 when there is no need to check, an exit status on failure, -1: check. */
static int preen(const struct args *a)
{
	char msg[TOOL_MSG_SIZE] = "";
	struct bcfs_info info;
	int ret = bcfs_probe(a->path, &info, msg, sizeof(msg));

	if (ret) {
		tool_error("%s", *msg ? msg : bcfs_strerror(ret));
		return EXIT_FAILED;
	}
	if (info.has_error)
		return -1;
	printf("%s: %s\n", a->path,
	       info.clean ? "clean" : "not closed cleanly, the next mount recovers it");
	return 0;
}

static void print_counts(const struct bcfs_check_result *r)
{
	char data[32], metadata[32];

	printf("  files        %llu\n"
	       "  directories  %llu\n"
	       "  symlinks     %llu\n"
	       "  special      %llu\n"
	       "  names        %llu\n"
	       "  xattrs       %llu\n"
	       "  extents      %llu\n"
	       "  btree nodes  %llu\n"
	       "  data         %s\n"
	       "  metadata     %s\n",
	       (unsigned long long)r->files, (unsigned long long)r->directories,
	       (unsigned long long)r->symlinks, (unsigned long long)r->special,
	       (unsigned long long)r->dirents, (unsigned long long)r->xattrs,
	       (unsigned long long)r->extents, (unsigned long long)r->btree_nodes,
	       tool_size_text(r->data_bytes, data, sizeof(data)),
	       tool_size_text(r->metadata_bytes, metadata, sizeof(metadata)));
}

static int print_verdict(const struct args *a, const struct bcfs_check_result *r)
{
	if (r->cancelled) {
		printf("%s: cancelled\n", a->path);
		return EXIT_CANCELLED;
	}
	if (a->verbose)
		print_counts(r);
	if (r->errors) {
		printf("%s: %llu error%s, not repaired: this version only checks\n", a->path,
		       (unsigned long long)r->errors, r->errors == 1 ? "" : "s");
		return EXIT_UNCORRECTED;
	}
	printf("%s: clean%s, %llu inodes, %llu names\n", a->path,
	       r->was_clean ? "" : " (not closed cleanly: the next mount replays the journal)",
	       (unsigned long long)r->inodes, (unsigned long long)r->dirents);
	if (r->mark_cleared)
		printf("%s: errors were met at an earlier mount; none is left, the mark is gone\n",
		       a->path);
	else if (r->marked)
		printf("%s: errors were met at an earlier mount; fsck.bcfs -y takes that mark "
		       "away\n",
		       a->path);
	return r->fixed ? EXIT_CORRECTED : 0;
}

int main(int argc, char **argv)
{
	struct args a = {.wait_ms = 30000};
	struct state s = {.args = &a};
	struct bcfs_check_opts opts = {
		.struct_size = sizeof(opts),
		.log = on_log,
		.log_arg = &s,
		.report = on_report,
		.progress = on_progress,
		.arg = &s,
	};
	struct bcfs_check_result result = {0};
	char msg[TOOL_MSG_SIZE] = "";
	int ret = parse(&a, argc, argv);

	if (ret < 0 && a.preen && !a.force)
		ret = preen(&a);
	if (ret >= 0)
		return ret;

	if (!tool_unlock(&a.unlock))
		return EXIT_FAILED;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	opts.cache_bytes = a.cache_bytes;
	opts.wait_lock_ms = a.wait_ms;
	opts.verbose = a.verbose;
	opts.clear_mark = (a.yes || a.preen) && !a.no;
	do {
		opts.secret = a.unlock.arg;
		*msg = 0;
		ret = bcfs_check(a.path, &opts, &result, msg, sizeof(msg));
		clear_progress(&s);
	} while (ret && tool_unlock_again(&a.unlock, ret));
	tool_unlock_end(&a.unlock);
	if (ret) {
		tool_error("%s", *msg ? msg : bcfs_strerror(ret));
		/* Damage too bad to go on is an answer, not a failure to look. */
		ret = bcfs_errno(ret) == EUCLEAN ? EXIT_UNCORRECTED : EXIT_FAILED;
		return cancelled ? EXIT_CANCELLED : ret;
	}
	ret = print_verdict(&a, &result);
	return tool_flush() ? ret : EXIT_FAILED;
}
