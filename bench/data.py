#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""File data on a mount: bcfs beside a pass-through over ext4 (FUSE, too) and btrfs (in the kernel).

usage: data.py BUILD [--json] [--quick] [--only PART] [--rounds N]

Parts: seq (1 MiB reads and writes), fsync (4 KiB each, from one thread and from four), random (bytes the
device reads for 4 KiB), small (space for 20,000 files of 1 KiB), appends (10,000 of 100 bytes to 100
files), compress (zstd on source code: bytes a second of processor, and space), crypt (what bench-crypt measures:
encryption in libbcfs beside libsodium's own), encrypt (beside gocryptfs
over ext4: large and small writes and reads, fsync, many files). The peers in the kernel
lie on loop devices that bypass the page cache, as bcfs does. Needs root, /dev/fuse, loop devices.
"""
import argparse
import json
import mmap
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import fuse
from fuse import sh, drop_caches

MIB = 1 << 20


class Kernel:
    """A filesystem of the kernel's on a loop device."""

    def __init__(self, top, name, mkfs, opts="defaults", size="4G"):
        self.name, self.opts = name, opts
        tag = name.replace(" ", "-").replace(":", "-").replace("=", "-")
        self.image, self.dir = os.path.join(top, tag + ".img"), os.path.join(top, tag)
        os.mkdir(self.dir)
        sh("truncate", "-s", size, self.image)
        sh(*mkfs, self.image)
        self.loop = sh("losetup", "--find", "--show", "--direct-io=on", self.image).strip()
        self.mount()

    def mount(self):
        sh("mount", "-o", self.opts, self.loop, self.dir)

    def umount(self):
        sh("umount", self.dir)

    def remove(self):
        for _ in range(100):  # a pass-through may still have it open
            try:
                self.umount()
                break
            except RuntimeError:
                time.sleep(0.1)
        sh("losetup", "-d", self.loop)
        os.unlink(self.image)

    def used(self):
        os.sync()
        st = os.statvfs(self.dir)
        return (st.f_blocks - st.f_bfree) * st.f_frsize


def ext4(top, name="ext4"):
    return Kernel(top, name, ("mkfs.ext4", "-q", "-F"))


def btrfs(top, name="btrfs", mkfs=(), opts="defaults"):
    return Kernel(top, name, ("mkfs.btrfs", "-q", "-f", *mkfs), opts)


class Pass(Kernel):
    def __init__(self, top, build):
        super().__init__(top, "under", ("mkfs.ext4", "-q", "-F"))
        self.name, self.under = "pass-through", self.dir
        self.dir = os.path.join(top, "pass")
        os.mkdir(self.dir)
        sh(os.path.join(build, "tests/posix/passthrough"), self.under, self.dir)

    def remove(self):
        sh("umount", self.dir)
        self.dir = self.under
        super().remove()


class Bcfs(fuse.Bcfs):
    def __init__(self, top, build, mkfs=(), opts=()):
        super().__init__(top, build, opts, mkfs)

    def used(self):
        os.sync()
        st = os.statvfs(self.dir)
        return (st.f_blocks - st.f_bfree) * st.f_frsize

    def counter(self, name):
        for line in sh(self.build + "/cli/bcfs", "counters", self.dir).splitlines():
            if line.split()[0] == name:
                return int(line.split()[1])
        raise RuntimeError("no counter " + name)

    def io(self, what):
        with open("/proc/%d/io" % self.daemon(), encoding="ascii") as f:
            for line in f:
                if line.startswith(what + ":"):
                    return int(line.split()[1])
        raise RuntimeError("no " + what)


def busy_seconds():
    """Of all processors, since boot; not what a hypervisor kept from them."""
    with open("/proc/stat", encoding="ascii") as f:
        t = [int(v) for v in f.readline().split()[1:]]
    return (sum(t[:7]) - t[3] - t[4]) / os.sysconf("SC_CLK_TCK")


def in_turn(all_fs, rounds, fn):
    """{name: the best of fn(fs)}, each first in its turn."""
    best = {}
    for turn in range(rounds):
        at = turn % len(all_fs)
        for fs in all_fs[at:] + all_fs[:at]:
            best[fs.name] = max(best.get(fs.name, 0), fn(fs))
    return best


def in_short_turns(all_fs, turns, fn):
    """{name: all that fn(fs) does by all the time it takes}: for what a busy host makes slow and fast by turns.

    fn does the same each time, and says how much a second.
    """
    times = {fs.name: 0 for fs in all_fs}
    for turn in range(turns):
        at = turn % len(all_fs)
        for fs in all_fs[at:] + all_fs[:at]:
            times[fs.name] += 1 / fn(fs)
    return {name: turns / t for name, t in times.items()}


# ---- 1 MiB ----


def write_seq(fs, mib):
    path, buf = fs.dir + "/seq", random.Random(1).randbytes(MIB)
    if os.path.exists(path):
        os.unlink(path)
        os.sync()
    start = time.monotonic()
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    for _ in range(mib):
        os.write(fd, buf)
    os.fsync(fd)
    os.close(fd)
    return mib / (time.monotonic() - start)


def read_seq(fs, mib):
    drop_caches()
    start = time.monotonic()
    fd, buf = os.open(fs.dir + "/seq", os.O_RDONLY), bytearray(MIB)
    for _ in range(mib):
        if os.readv(fd, [buf]) != MIB:
            raise RuntimeError("short read")
    os.close(fd)
    return mib / (time.monotonic() - start)


def part_seq(out, build, top, args):
    mib = 100 if args.quick else 1000
    all_fs = [Bcfs(top, build), Pass(top, build), btrfs(top)]
    try:
        for what, fn in (("write and fsync", write_seq), ("read, cold", read_seq)):
            best = in_turn(all_fs, args.rounds, lambda fs, fn=fn: fn(fs, mib))
            out.row("1 MiB at a time", what, best["bcfs"], "MiB/s", "pass-through", best["pass-through"],
                    0.8, extra="  %.2fx btrfs (%.4g)" % (best["bcfs"] / best["btrfs"], best["btrfs"]))
    finally:
        for fs in all_fs:
            fs.remove()


# ---- fsync ----


def write_fsync(fs, threads, seconds):
    counts, end = [0] * threads, time.monotonic() + seconds

    def run(i):
        fd = os.open("%s/db%d" % (fs.dir, i), os.O_CREAT | os.O_WRONLY)
        rng, buf = random.Random(i), bytes(4096)
        while time.monotonic() < end:
            os.pwrite(fd, buf, rng.randrange(4096) * 4096)
            os.fsync(fd)
            counts[i] += 1
        os.close(fd)

    all_threads = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
    for t in all_threads:
        t.start()
    for t in all_threads:
        t.join()
    return sum(counts) / seconds


def part_fsync(out, build, top, args):
    all_fs = [Bcfs(top, build), btrfs(top), ext4(top)]
    try:
        for threads in (1, 4):
            best = in_turn(all_fs, args.rounds,
                           lambda fs, n=threads: write_fsync(fs, n, 0.5 if args.quick else 3))
            out.row("4 KiB, each with fsync", "%d thread%s" % (threads, "s" * (threads > 1)),
                    best["bcfs"], "/s", "btrfs", best["btrfs"], 1.0,
                    extra="  %.2fx ext4 (%.4g)" % (best["bcfs"] / best["ext4"], best["ext4"]))
    finally:
        for fs in all_fs:
            fs.remove()


# ---- random reads ----


def part_random(out, build, top, args):
    mib, reads = (64, 1000) if args.quick else (512, 10000)
    fs = Bcfs(top, build)
    try:
        write_seq(fs, mib)
        fs.umount()
        fs.mount()
        fd = os.open(fs.dir + "/seq", os.O_RDONLY | os.O_DIRECT)
        rng, page = random.Random(7), mmap.mmap(-1, 4096)
        for i in range(0, mib, 4):  # the keys, once
            os.preadv(fd, [page], i * MIB)
        before = fs.io("read_bytes")
        for _ in range(reads):
            os.preadv(fd, [page], rng.randrange(mib * 256) * 4096)
        came = fs.io("read_bytes") - before
        os.close(fd)
        out.row("4 KiB at random", "bytes read for each asked for", came / (reads * 4096), "", goal=4.0,
                at_most=True)
    finally:
        fs.remove()


# ---- small files ----


def part_small(out, build, top, args):
    nr = 2000 if args.quick else 20000
    all_fs = [Bcfs(top, build), btrfs(top, "btrfs -m single", ("-m", "single")), btrfs(top)]
    used = {}
    try:
        for fs in all_fs:
            before = fs.used()
            rng = random.Random(3)
            for i in range(nr):
                if not i % 1000:
                    os.mkdir("%s/d%d" % (fs.dir, i // 1000))
                with open("%s/d%d/f%d" % (fs.dir, i // 1000, i), "wb") as f:
                    f.write(rng.randbytes(1024))
            fs.umount()
            fs.mount()
            used[fs.name] = (fs.used() - before) / MIB
        for peer, goal in (("btrfs -m single", 1.0), ("btrfs", 0.6)):
            out.row("%d files of 1 KiB" % nr, "space", used["bcfs"], "MiB", peer, used[peer], goal,
                    at_most=True)
    finally:
        for fs in all_fs:
            fs.remove()


def part_appends(out, build, top, args):
    fs = Bcfs(top, build)
    try:
        fds = [os.open("%s/a%d" % (fs.dir, i), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
               for i in range(100)]
        os.sync()
        before = {c: fs.counter(c) for c in ("data.gather_writes", "data.gather_sectors")}
        for i in range(10000):
            os.write(fds[i % 100], b"x" * 100)
        os.sync()
        time.sleep(2)  # sync(2) waits for the pages, which are then flushed by the clock
        writes, sectors = (fs.counter(c) - before[c] for c in before)
        for fd in fds:
            os.close(fd)
        out.row("10,000 appends of 100 bytes", "bytes written for each", sectors * 512 / 1e6, "", goal=1.5,
                at_most=True)
        out.row("10,000 appends of 100 bytes", "data writes", writes, "", goal=99, at_most=True)
    finally:
        fs.remove()


# ---- compression ----


def source_code(mib):
    """What headers and sources there are, in one piece."""
    ret = bytearray()
    for top in (os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "/usr/include"):
        for where, dirs, files in os.walk(top):
            dirs[:] = sorted(d for d in dirs if not d.startswith((".", "build")))
            for name in sorted(files):
                if name.endswith((".c", ".h", ".py", ".sh", ".hpp")):
                    with open(os.path.join(where, name), "rb") as f:
                        ret += f.read()
            if len(ret) >= mib * MIB:
                return bytes(ret[:mib * MIB])
    return bytes(ret)


def part_compress(out, build, top, args):
    data = source_code(8 if args.quick else 48)
    copies = 1 if args.quick else 2
    all_fs = [Bcfs(top, build, ("--compression", "zstd:3")),
              btrfs(top, "btrfs zstd:3", opts="compress=zstd:3")]
    space, turns = {}, 10 * args.rounds
    try:
        def write(fs):
            # A new one each time: space comes back in the background, and costs time there.
            path = "%s/src%d" % (fs.dir, len(os.listdir(fs.dir)))
            os.sync()
            before, cpu = fs.used(), busy_seconds()
            fd = os.open(path, os.O_CREAT | os.O_WRONLY)
            for _ in range(copies):
                for at in range(0, len(data), MIB):
                    os.write(fd, data[at:at + MIB])
            os.fsync(fd)
            cpu = busy_seconds() - cpu
            # The next turn has its pages: new ones a host may have to find first, and that is counted, too.
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
            space[fs.name] = space.get(fs.name, 0) + (fs.used() - before) / MIB / turns
            return len(data) * copies / MIB / cpu

        rate = in_short_turns(all_fs, turns, write)
        out.row("zstd:3 on source code", "write, a second of processor", rate["bcfs"], "MiB",
                "btrfs zstd:3", rate["btrfs zstd:3"], 1.0)
        out.row("zstd:3 on source code", "space", space["bcfs"], "MiB", "btrfs zstd:3",
                space["btrfs zstd:3"], 1.03, at_most=True,
                extra="  of %.4g MiB" % (len(data) * copies / MIB))
    finally:
        for fs in all_fs:
            fs.remove()


# ---- encryption ----


def part_crypt(out, build, _top, args):
    more = ("--mib", "64", "--rounds", "2") if args.quick else ()
    done = subprocess.run((os.path.join(build, "bench/bench-crypt"), "--json", *more), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True)
    if done.returncode > 1:  # 1: a goal is missed, as is seen below
        raise RuntimeError("bench-crypt: status %d" % done.returncode)
    for line in done.stdout.splitlines():
        row = json.loads(line)
        out.row("encryption in libbcfs", row["row"], row["value"], row["unit"], row["peer"], row["peer_value"],
                row["goal"] or 0, at_most=True)


class Gocryptfs:
    """Over ext4, as the pass-through; as it is made by default."""
    name = "gocryptfs"

    def __init__(self, top):
        self.under = ext4(top, "under")
        self.cipher, self.dir = self.under.dir + "/cipher", os.path.join(top, "gocryptfs")
        self.pass_file = os.path.join(top, "pass")
        with open(self.pass_file, "w", encoding="ascii") as f:
            f.write("a passphrase of nobody\n")
        os.mkdir(self.cipher)
        os.mkdir(self.dir)
        sh("gocryptfs", "-q", "-init", "-passfile", self.pass_file, self.cipher)
        sh("gocryptfs", "-q", "-passfile", self.pass_file, self.cipher, self.dir)

    def remove(self):
        sh("umount", self.dir)
        self.under.remove()


def write_small_files(fs, nr):
    where = fs.dir + "/many"
    if os.path.exists(where):
        shutil.rmtree(where)
        os.sync()
    rng = random.Random(3)
    start = time.monotonic()
    os.mkdir(where)
    for i in range(nr):
        with open("%s/f%d" % (where, i), "wb") as f:
            f.write(rng.randbytes(4000))
    os.sync()
    return nr / (time.monotonic() - start)


def read_small_files(fs, nr):
    drop_caches()
    start = time.monotonic()
    for i in range(nr):
        with open("%s/many/f%d" % (fs.dir, i), "rb") as f:
            f.read()
    return nr / (time.monotonic() - start)


def read_random(fs, mib, reads):
    drop_caches()
    rng, fd = random.Random(5), os.open(fs.dir + "/seq", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    start = time.monotonic()
    for _ in range(reads):
        os.pread(fd, 4096, rng.randrange(mib * 256) * 4096)
    os.close(fd)
    return reads / (time.monotonic() - start)


def part_encrypt(out, build, top, args):
    if not shutil.which("gocryptfs"):
        print("no gocryptfs to compare with", file=sys.stderr)
        return
    mib, files, reads = (64, 500, 1000) if args.quick else (512, 5000, 10000)
    key = os.path.join(top, "key")
    with open(key, "wb") as f:
        f.write(os.urandom(32))
    all_fs = [Bcfs(top, build, ("--encrypt", "--key-file", key), ("-o", "key-file=" + key)), Gocryptfs(top)]
    try:
        for row, fn in (("write and fsync", write_seq), ("read, cold", read_seq)):
            rate = in_short_turns(all_fs, 4 * args.rounds, lambda fs, fn=fn: fn(fs, mib))
            out.row("encrypted", "1 MiB at a time, " + row, rate["bcfs"], "MiB/s", "gocryptfs", rate["gocryptfs"], 1.0)
        for row, unit, fn in (
                ("4 KiB, each with fsync", "/s", lambda fs: write_fsync(fs, 1, 0.5 if args.quick else 3)),
                ("files of 4000 bytes, write and sync", "/s", lambda fs: write_small_files(fs, files)),
                ("files of 4000 bytes, read, cold", "/s", lambda fs: read_small_files(fs, files))):
            best = in_turn(all_fs, args.rounds, fn)
            out.row("encrypted", row, best["bcfs"], unit, "gocryptfs", best["gocryptfs"], 1.0)
        # Of the first row's file.
        rate = in_short_turns(all_fs, 10 * args.rounds, lambda fs: read_random(fs, mib, reads // 8))
        out.row("encrypted", "4 KiB at random, read, cold", rate["bcfs"], "/s", "gocryptfs", rate["gocryptfs"], 1.0)
    finally:
        for fs in all_fs:
            fs.remove()


PARTS = {"seq": part_seq, "fsync": part_fsync, "random": part_random, "small": part_small,
         "appends": part_appends, "compress": part_compress, "crypt": part_crypt,
         "encrypt": part_encrypt}


def main():
    parse = argparse.ArgumentParser(description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("build")
    parse.add_argument("--json", action="store_true")
    parse.add_argument("--quick", action="store_true", help="a tenth of it")
    parse.add_argument("--only", choices=sorted(PARTS), help="a part")
    parse.add_argument("--rounds", type=int, default=3)
    args = parse.parse_args()
    build, out = os.path.abspath(args.build), fuse.Out(args.json, "data")
    top = tempfile.mkdtemp(prefix="bench-data.", dir=os.environ.get("BENCH_DIR", "/tmp"))
    try:
        for name, part in PARTS.items():
            if args.only in (None, name):
                where = os.path.join(top, name)
                os.mkdir(where)
                part(out, build, where, args)
    except RuntimeError as error:
        print("bench data: %s" % error, file=sys.stderr)
        sys.exit(2)
    finally:
        fuse.clean(top)
    sys.exit(1 if out.missed else 0)


if __name__ == "__main__":
    main()
