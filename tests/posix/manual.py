#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every errno of the manual pages has a row in doc/posix.md, or a reason in left_out.txt.

Goal: the table is complete. Method: the section ERRORS of each installed page of section 2 that is
about files, against the rows of its calls; a reason that no page needs fails too.
usage: manual.py   (prints TAP; skipped where the pages are not installed)
"""
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
DOC = os.path.join(HERE, "..", "..", "doc", "posix.md")

# A page, and the calls whose rows count for it where its own name is not all.
PAGES = {
    "access": "access faccessat faccessat2", "acct": "acct", "bind": "bind", "chdir": "chdir fchdir",
    "chmod": "chmod fchmod fchmodat", "chown": "chown fchown fchownat lchown", "chroot": "chroot",
    "close": "close fsync", "copy_file_range": "copy_file_range", "dup": "dup", "epoll_ctl": "epoll_ctl",
    "execve": "execve", "execveat": "execveat execve", "fallocate": "fallocate",
    "fanotify_mark": "fanotify_mark", "fcntl": "fcntl",
    "flock": "flock", "fsync": "fsync fdatasync", "getcwd": "getcwd", "getdents": "getdents64",
    "getxattr": "getxattr fgetxattr", "inotify_add_watch": "inotify_add_watch", "ioctl": "ioctl",
    "ioctl_fslabel": "ioctl", "ioctl_getfsmap": "ioctl", "ioctl_fideduperange": "ioctl",
    "ioctl_ficlonerange": "ioctl",
    "link": "link linkat", "listxattr": "listxattr flistxattr", "lseek": "lseek", "madvise": "madvise",
    "mincore": "mincore", "mkdir": "mkdir mkdirat", "mknod": "mknod mknodat", "mmap": "mmap",
    "mount": "mount", "mprotect": "mprotect", "mremap": "mremap", "msync": "msync",
    "open": "open creat lookup", "open_by_handle_at": "open_by_handle_at name_to_handle_at",
    "openat2": "openat2", "posix_fadvise": "posix_fadvise", "quotactl": "quotactl_fd", "read": "read",
    "readahead": "readahead", "readlink": "readlink readlinkat", "readv": "readv writev preadv2 pwritev2",
    "removexattr": "removexattr fremovexattr", "rename": "rename renameat renameat2", "rmdir": "rmdir",
    "sendfile": "sendfile", "setxattr": "setxattr fsetxattr", "splice": "splice",
    "stat": "stat lstat fstat fstatat", "statfs": "statfs fstatfs", "statx": "statx", "swapon": "swapon",
    "symlink": "symlink symlinkat", "sync": "syncfs", "sync_file_range": "sync_file_range",
    "truncate": "truncate ftruncate", "umount": "umount", "unlink": "unlink unlinkat",
    "utime": "utimensat", "utimensat": "utimensat futimens", "vmsplice": "vmsplice", "write": "write",
}


def rows():
    """{call: the errnos that its rows answer}"""
    found, call = {}, None
    with open(DOC, encoding="utf-8") as f:
        for line in f:
            head = re.match(r"### ([a-z_0-9]+)", line.replace("\\", ""))
            if head:
                call = head.group(1)
            elif call and line.startswith("| "):
                found.setdefault(call, set()).update(re.findall(r"\bE[A-Z0-9]{2,}\b", line))
    return found


def left_out():
    """{(errno, page or None)}"""
    found = set()
    with open(os.path.join(HERE, "left_out.txt"), encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                error, *pages = line.split(":")[0].split()
                found |= {(error, page) for page in pages or [None]}
    return found


def page_text(page):
    done = subprocess.run(["man", "-P", "cat", "2", page], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors="replace", check=False,
                          env=dict(os.environ, MANWIDTH="200", LC_ALL="C", MANROFFSEQ=""))
    return re.sub(".\b", "", done.stdout)


def listed(page):
    """The errnos that the page lists."""
    part = re.search(r"^ERRORS\n(.*?)(?=^[A-Z]{4,}|\Z)", page_text(page), re.M | re.S)
    found = set()
    for names in re.findall(r"^ {7} *(E[A-Z0-9]{2,}(?:(?:,| or| and) E[A-Z0-9]{2,})*)",
                            part.group(1) if part else "", re.M):
        found |= set(re.findall(r"E[A-Z0-9]+", names))
    return found


def main():
    if not shutil.which("man") or not re.search(r"Linux man-pages 6\.03", page_text("open")):
        print("1..0 # SKIP the manual pages of system calls are not here, or of another release")
        return 0
    have, reasons, used, failed = rows(), left_out(), set(), 0
    for nr, (page, calls) in enumerate(PAGES.items(), 1):
        missing = listed(page)
        for call in calls.split():
            missing -= have.get(call, set())
        for error in sorted(missing):
            used |= reasons & {(error, page), (error, None)}
        missing = sorted(e for e in missing if not reasons & {(e, page), (e, None)})
        failed |= bool(missing)
        print(f"{'not ok' if missing else 'ok'} {nr} - {page}" + "".join(f"\n# {e}: no row" for e in missing))
    stale = sorted(f"{error} {page or ''}" for error, page in reasons - used)
    failed |= bool(stale)
    print(f"{'not ok' if stale else 'ok'} {len(PAGES) + 1} - reasons that a page needs"
          + "".join(f"\n# {s}: not needed" for s in stale))
    print(f"1..{len(PAGES) + 1}")
    return 1 if failed else 0


sys.exit(main())
