// SPDX-License-Identifier: LGPL-2.1-or-later
/* Log lines: to stderr in the foreground and while starting, to syslog as a daemon. */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <syslog.h>

#include "fuse_bcfs.h"

static atomic_bool to_syslog;
static atomic_bool debug;

void log_to_syslog(void)
{
	openlog("bcfs-fuse", LOG_PID, LOG_DAEMON);
	to_syslog = true;
}

void log_set_debug(bool on)
{
	debug = on;
}

void log_line(void *arg, enum bcfs_log_level level, const char *line)
{
	static const int priorities[] = {
		[BCFS_LOG_ERR] = LOG_ERR,	[BCFS_LOG_WARNING] = LOG_WARNING,
		[BCFS_LOG_NOTICE] = LOG_NOTICE, [BCFS_LOG_INFO] = LOG_INFO,
		[BCFS_LOG_DEBUG] = LOG_DEBUG,
	};

	if (level >= BCFS_LOG_INFO && !debug)
		return;
	if (to_syslog)
		syslog(priorities[level], "%s", line);
	else
		fprintf(stderr, "bcfs-fuse: %s\n", line);
}

void log_fmt(enum bcfs_log_level level, const char *fmt, ...)
{
	char line[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	log_line(NULL, level, line);
}
