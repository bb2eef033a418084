#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""SEEK_DATA and SEEK_HOLE are right at any moment, whatever the kernel has not written yet.

usage: seek.py DIR SECONDS THREADS

Each thread writes pages of a file of its own, by write(2) and by a mapping, sometimes makes them
durable, and asks where data and holes are, beside what it wrote.
"""
import mmap
import os
import random
import sys
import threading
import time

PAGES, PAGE = 256, 4096


def seek(fd, offset, whence):
    try:
        return os.lseek(fd, offset, whence)
    except OSError:
        return None


def check(fd, has, first):
    for whence, want in ((os.SEEK_DATA, True), (os.SEEK_HOLE, False)):
        at = next((i for i in range(first, PAGES) if has[i] == want), None)
        right = at * PAGE if at is not None else None if want else PAGES * PAGE
        got = seek(fd, first * PAGE, whence)
        if got != right:
            return "%s from page %d: %s for %s" % ("data" if want else "hole", first, got, right)
    return None


def work(directory, nr, until, wrong):
    rnd = random.Random(nr)
    fd = os.open("%s/seek%d" % (directory, nr), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.ftruncate(fd, PAGES * PAGE)
    mapping, has = mmap.mmap(fd, PAGES * PAGE), [False] * PAGES
    while time.monotonic() < until and not wrong:
        first = rnd.randrange(PAGES)
        what = rnd.randrange(8)
        if what < 2:
            end = min(PAGES, first + rnd.randrange(1, 8))
            os.pwrite(fd, b"x" * ((end - first) * PAGE), first * PAGE)
            has[first:end] = [True] * (end - first)
        elif what == 2:
            mapping[first * PAGE] = 65
            has[first] = True
        elif what == 3 and rnd.random() < 0.2:
            os.fdatasync(fd)
        elif what == 4 and rnd.random() < 0.05:
            os.ftruncate(fd, 0)
            os.ftruncate(fd, PAGES * PAGE)
            has = [False] * PAGES
        else:
            found = check(fd, has, first)
            if found:
                wrong.append("thread %d: %s" % (nr, found))
    mapping.close()
    os.close(fd)


def main():
    directory, seconds, nr = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    wrong = []
    threads = [threading.Thread(target=work, args=(directory, i, time.monotonic() + seconds, wrong))
               for i in range(nr)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print("\n".join(wrong))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
