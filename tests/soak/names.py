#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Goal: a device that is full of names alone goes on: what is refused is refused at once and with ENOSPC, it recovers, and
all of it can be removed.
Method: an image is filled with empty files, 10,000 to a directory, until no call can make one more; then fsync, unlink,
SIGKILL, recovery, a clean remount, each looked at; at last everything is removed, and fsck looks.

usage: names.py [--size SIZE] [--least N] [--build DIR]

--least: fail if fewer files went in. Speaks TAP; the slowest call of each kind is told.
"""
import argparse
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

IN_A_DIR = 10000
SLOW_S = 10  # a call of this length is a failure


class Mount:
    def __init__(self, build, top):
        self.build, self.image, self.dir, self.pid = build, top + "/img", top + "/mnt", 0
        os.mkdir(self.dir)

    def tool(self, name, *args):
        done = subprocess.run([f"{self.build}/{name}", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            sys.exit(f"Bail out! {name} {' '.join(args)}: status {done.returncode}: {done.stdout}")

    def mount(self):
        self.tool("fuse/bcfs-fuse", self.image, self.dir)
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    args = f.read().split(b"\0")
            except OSError:
                continue
            if args[0].endswith(b"bcfs-fuse") and self.image.encode() in args:
                self.pid = int(pid)

    def umount(self):
        self.tool("cli/bcfs", "umount", self.dir)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        while os.path.exists(f"/proc/{self.pid}"):
            time.sleep(0.01)
        subprocess.run(["umount", "-l", self.dir], check=True)


class Calls:
    """Calls that are timed by kind."""

    def __init__(self):
        self.slowest = {}

    def do(self, kind, fn, *args):
        start = time.monotonic()
        try:
            return fn(*args)
        finally:
            self.slowest[kind] = max(self.slowest.get(kind, 0), time.monotonic() - start)


def sync_file(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def create(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def fill(top, calls):
    nr = 0
    try:
        while True:
            if nr % IN_A_DIR == 0:
                calls.do("mkdir", os.mkdir, f"{top}/d{nr // IN_A_DIR}")
            calls.do("create", create, f"{top}/d{nr // IN_A_DIR}/f{nr}")
            nr += 1
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
    return nr


def count(top):
    return sum(len(os.listdir(f"{top}/{d}")) for d in os.listdir(top))


def some_more(top, calls):
    """In other directories, where a leaf may have room, until ten in a row are refused. How many went in."""
    nr, refused, i = 0, 0, 0
    dirs = os.listdir(top)
    while refused < 10:
        i += 1
        try:
            calls.do("create", create, f"{top}/{dirs[i % len(dirs)]}/more{i}")
            nr, refused = nr + 1, 0
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise
            refused += 1
    return nr


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parse.add_argument("--size", default="64M")
    parse.add_argument("--least", type=int, default=100000)
    parse.add_argument("--build", default=root + "/build")
    args = parse.parse_args()
    top, calls, results = tempfile.mkdtemp(prefix="bcfs-names."), Calls(), []

    def ok(good, what):
        results.append(bool(good))
        print(f"{'ok' if good else 'not ok'} {len(results)} - {what}", flush=True)

    m = Mount(args.build, top)
    try:
        m.tool("mkfs/mkfs.bcfs", "-q", "--size", args.size, m.image)
        m.mount()
        empty = os.statvfs(m.dir)
        begin = time.monotonic()
        nr = fill(m.dir, calls)
        ok(nr >= args.least, f"{nr} empty files in {args.size}, {time.monotonic() - begin:.0f} s")
        more = some_more(m.dir, calls)
        nr += more
        ok(True, f"{more} more in other directories, then all are refused, with ENOSPC")
        calls.do("fsync", sync_file, m.dir + "/d0")
        ok(True, "fsync")
        for i in range(100):
            calls.do("unlink", os.unlink, f"{m.dir}/d0/f{i}")
        calls.do("fsync", sync_file, m.dir + "/d0")
        nr -= 100
        m.kill()
        m.mount()
        ok(count(m.dir) == nr, "recovery of the full device, all names are there")
        m.umount()
        m.mount()
        ok(count(m.dir) == nr, "a remount")
        begin = time.monotonic()
        for d in os.listdir(m.dir):
            for name in os.listdir(f"{m.dir}/{d}"):
                calls.do("unlink", os.unlink, f"{m.dir}/{d}/{name}")
            calls.do("rmdir", os.rmdir, f"{m.dir}/{d}")
        ok(True, f"all removed, {time.monotonic() - begin:.0f} s")
        for _ in range(100):  # emptied buckets become free in the background
            now = os.statvfs(m.dir)
            if now.f_bfree >= empty.f_bfree * 0.95:
                break
            time.sleep(0.1)
        ok(now.f_bfree >= empty.f_bfree * 0.95, f"{now.f_bfree} of {empty.f_bfree} blocks are free again")
        m.umount()
        m.tool("fsck/fsck.bcfs", m.image)
        ok(True, "fsck")
        slow = {k: v for k, v in calls.slowest.items() if v > SLOW_S}
        ok(not slow, "slowest calls: " + ", ".join(f"{k} {v:.2f} s" for k, v in sorted(calls.slowest.items())))
    finally:
        if re.search(rf" {re.escape(m.dir)} ", open("/proc/mounts", encoding="utf-8").read()):
            subprocess.run(["umount", "-l", m.dir], check=False)
        shutil.rmtree(top, ignore_errors=True)
    print(f"1..{len(results)}")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
