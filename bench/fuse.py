#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""System calls on a mount: bcfs, a pass-through over ext4 (FUSE, too), and ext4 itself.

usage: fuse.py BUILD [--json] [--quick] [--only TEXT] [--rounds N]

Parts: requests (how many a system call costs on bcfs, counted by the daemon), rates (calls a second,
all of N rounds, the three filesystems in turn), big (a directory of a million files: rates at its
end against its start, and the daemon's memory after a walk). Needs root, /dev/fuse, loop devices.
"""
import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

CACHE = 64 << 20  # of btree nodes, for the bound on memory


def sh(*args):
    done = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError("%s: status %d: %s" % (" ".join(args), done.returncode, done.stdout))
    return done.stdout


class Ext4:
    name = "ext4"

    def __init__(self, top, build, tag="ext4"):
        self.image, self.dir = os.path.join(top, tag + ".img"), os.path.join(top, tag)
        os.mkdir(self.dir)
        with open(self.image, "wb") as f:
            f.truncate(4 << 30)
        sh("mkfs.ext4", "-q", "-N", "1500000", self.image)
        self.mount()

    def mount(self):
        sh("mount", "-o", "loop", self.image, self.dir)

    def umount(self):
        sh("umount", self.dir)

    def remove(self):
        self.umount()
        os.unlink(self.image)


class Pass:
    name = "pass-through"

    def __init__(self, top, build):
        self.under = Ext4(top, build, "under")
        self.program = os.path.join(build, "tests/posix/passthrough")
        self.dir = os.path.join(top, "pass")
        os.mkdir(self.dir)
        self.mount()

    def mount(self):
        sh(self.program, self.under.dir, self.dir)

    def umount(self):
        sh("umount", self.dir)

    def remove(self):
        self.umount()
        for _ in range(100):  # the daemon may still have it open
            if not subprocess.run(["umount", self.under.dir], stderr=subprocess.DEVNULL).returncode:
                break
            time.sleep(0.1)
        os.unlink(self.under.image)


class Bcfs:
    name = "bcfs"

    def __init__(self, top, build, opts=(), mkfs=()):
        self.build, self.opts = build, opts
        self.image, self.dir = os.path.join(top, "bcfs.img"), os.path.join(top, "bcfs")
        os.makedirs(self.dir, exist_ok=True)
        sh(build + "/mkfs/mkfs.bcfs", "-q", "-f", "--size", "4G", *mkfs, self.image)
        self.mount()

    def mount(self):
        sh(self.build + "/fuse/bcfs-fuse", *self.opts, self.image, self.dir)

    def umount(self):
        sh(self.build + "/cli/bcfs", "umount", self.dir)

    def remove(self):
        self.umount()
        os.unlink(self.image)

    def requests(self):
        """{name: number}: what was sent, but for what tells the daemon to forget."""
        ret = {}
        for line in sh(self.build + "/cli/bcfs", "counters", self.dir).splitlines():
            if line.startswith("fuse."):
                name, nr = line[5:].split()
                ret[name] = int(nr)
        for name in ("forget", "batch_forget", "interrupt"):
            ret.pop(name, None)
        return ret

    def daemon(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as f:
                    args = f.read().split(b"\0")
            except OSError:
                continue
            if args[0].endswith(b"bcfs-fuse") and self.image.encode() in args:
                return int(pid)
        raise RuntimeError("no daemon")

    def rss(self):
        with open("/proc/%d/status" % self.daemon(), encoding="ascii") as f:
            for line in f:
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) << 10
        raise RuntimeError("no VmHWM")


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3\n")


def clean(top):
    """Away with TOP and all that is mounted under it, whatever an error has left there."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as f:
        dirs = [line.split()[1] for line in f]
    for where in reversed([d for d in dirs if d.startswith(top + "/")]):
        for _ in range(100):  # a pass-through may still have what is under it open
            if not subprocess.run(["umount", where], stderr=subprocess.DEVNULL).returncode:
                break
            time.sleep(0.1)
    for line in sh("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE").splitlines():
        loop, image = line.split(None, 1)
        if image.startswith(top + "/"):
            sh("losetup", "-d", loop)
    shutil.rmtree(top, ignore_errors=True)


class Out:
    def __init__(self, as_json, bench="fuse"):
        self.as_json, self.bench, self.missed, self.group = as_json, bench, False, None

    def row(self, group, row, value, unit, peer=None, peer_value=0, goal=0, at_most=False, extra="", error=0):
        ratio = value / peer_value if peer and peer_value else None
        held = ratio if peer else value
        good = not goal or (held <= goal if at_most else held >= goal)
        self.missed |= not good
        if self.as_json:
            print(json.dumps({"bench": self.bench, "row": "%s: %s" % (group, row), "value": value,
                              "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio,
                              "error": error, "goal": goal, "ok": good}), flush=True)
            return
        if group != self.group:
            print("\n" + group)
        self.group = group
        text = "  %-26s %12.4g %s" % (row, value, unit)
        if ratio is not None:
            text += "  %7.3fx" % ratio + (" +- %.3f" % error if error else "") + " %s (%.4g)" % (peer, peer_value)
        if goal:
            text += "  %s %g: %s" % ("at most" if at_most else "at least", goal,
                                     "ok" if good else "MISSED")
        print(text + extra, flush=True)


def run(build, fs, op, nr, first=0):
    return float(sh(os.path.join(build, "bench/fuse-ops"), op, fs.dir, str(nr), str(first)))


# ---- requests ----

REQUESTS = (  # what, op, calls, goal
    ("stat", "stat", 1000, 0), ("stat of d/d/f", "lookup", 1000, 0),
    ("stat of a missing name", "negative", 1000, 0), ("open + close", "open", 1000, 0),
    ("read of a cached 4 KiB", "read", 1000, 0), ("rewrite of a cached 4 KiB", "write", 1000, 0),
    ("create + write 4 KiB + close", "create", 1000, 6), ("rename", "rename", 1000, None),
    ("unlink", "unlink", 1000, None), ("mkdir", "mkdir", 1000, None), ("rmdir", "rmdir", 1000, None),
)


def what_came(fs, before):
    """Since then, without what asking needs itself."""
    after = fs.requests()
    own = fs.requests()
    came = {}
    for name, nr in after.items():
        nr -= before.get(name, 0) + own[name] - nr
        if nr > 0:
            came[name] = nr
    return came


def part_requests(out, build, top, dirs):
    fs = Bcfs(top, build)
    try:
        run(build, fs, "files", 1)
        for what, op, calls, goal in REQUESTS:
            if goal == 0:
                run(build, fs, op, 2)
            before = fs.requests()
            run(build, fs, op, calls)
            if op == "create":  # dirty pages written in time belong to it
                os.sync()
            came = what_came(fs, before)
            each = sum(came.values()) / calls
            # once a run, not once a call: the first lookup of a program's own
            out.row("requests a call", what, each, "", goal=goal if goal else 0.02 if goal == 0 else 0,
                    at_most=True,
                    extra="  " + " ".join("%s %.4g" % (k, v / calls) for k, v in came.items()))
        run(build, fs, "tree", dirs)
        fs.umount()
        fs.mount()
        before = fs.requests()
        sh("find", fs.dir + "/t", "-printf", "%s\n")
        came = what_came(fs, before)
        out.row("requests a call", "find -printf %s, cold, a file", sum(came.values()) / (dirs * 1000),
                "", goal=1 / 30, at_most=True,
                extra="  " + " ".join("%s %d" % (k, v) for k, v in came.items()))
    finally:
        fs.remove()


# ---- rates ----

# What the kernel answers alone is the same code in each mount, but takes some hundredths more or less by where its
# inodes and names lie in memory, and by what else the machine does: many short turns, each in a new mount. Of all that
# was done in all the time of them is each rate: the best turn is a matter of luck. Behind the ratio stands what
# the turns say its error is. A goal is a goal whatever that is: noise excuses nothing.
ALONE = {"stat", "lookup", "negative", "read"}
ALONE_TURNS = 10
# What changes names waits for the device now and then, and for another processor to awake all the time: these swing,
# too. They go as a whole, each leaves what the next one needs.
CHANGES = ("create", "rename", "unlink", "mkdir", "rmdir")
CHANGES_TURNS = 4

RATES = (  # op, calls, the least ratio to the pass-through, with cold caches
    ("stat", 300000, 1.0, False), ("lookup", 300000, None, False), ("negative", 300000, 1.0, False),
    ("open", 30000, 5.0, False), ("read", 100000, None, False), ("write", 100000, None, False),
    ("create", 5000, 1.0, False), ("rename", 5000, 1.0, False), ("unlink", 5000, 1.0, False),
    ("mkdir", 5000, 1.0, False), ("rmdir", 5000, 1.0, False),
    ("walk", 0, 1.0, False), ("list", 0, None, False), ("stat_tree", 0, None, False),
    ("walk", 0, 1.0, True), ("list", 0, None, True), ("stat_tree", 0, 1.0, True),
)


def turns_of_a_round():
    for rate in RATES:
        if rate[0] == CHANGES[0]:
            yield from [r for _ in range(CHANGES_TURNS) for r in RATES if r[0] in CHANGES]
        elif rate[0] not in CHANGES:
            yield from [rate] * (ALONE_TURNS if rate[0] in ALONE else 2 if rate[0] == "stat_tree" else 1)


def part_rates(out, build, top, dirs, rounds, only, quick):
    all_fs = []
    try:
        for kind in (Bcfs, Pass, Ext4):
            all_fs.append(kind(top, build))
        done, took, each = {}, {}, {}
        for fs in all_fs:
            run(build, fs, "files", 1)
            run(build, fs, "tree", dirs)
            os.sync()
        turns = [(turn, rate) for turn in range(rounds) for rate in turns_of_a_round()]
        for i, (turn, (op, calls, _, cold)) in enumerate(turns):
            if only and not any(only in o for o in (CHANGES if op in CHANGES else (op,))):
                continue
            nr = calls // (10 if quick else 1) or dirs
            turn += i if op in ALONE else i // len(CHANGES) if op in CHANGES else 0
            if op in ALONE:
                for fs in all_fs:
                    fs.umount()
                    fs.mount()
            for fs in all_fs[turn % 3:] + all_fs[:turn % 3]:
                if cold:
                    drop_caches()
                elif op == "create":
                    os.sync()
                elif op == "walk":
                    run(build, fs, op, nr)  # it was mounted anew since the last
                seconds = run(build, fs, op, nr)
                key = (op, cold, fs.name)
                done[key] = done.get(key, 0) + (nr if calls else nr * 1000)
                took[key] = took.get(key, 0) + seconds
                if op in ALONE or op in CHANGES:
                    each.setdefault(key, []).append(seconds)
        for op, _, goal, cold in RATES:
            if (op, cold, "bcfs") not in done:
                continue
            ours, through, ext4 = (done[op, cold, fs] / took[op, cold, fs] for fs in ("bcfs", "pass-through", "ext4"))
            pairs = zip(*(each.get((op, cold, fs), []) for fs in ("bcfs", "pass-through")))
            ratios = [theirs / mine for mine, theirs in pairs]
            error = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0
            out.row("calls a second", op + (", cold" if cold else ""), ours, "/s", "pass-through", through, goal or 0,
                    error=error, extra="  %.2fx ext4 (%.4g)" % (ours / ext4, ext4))
    finally:
        for fs in all_fs:
            fs.remove()


# ---- a large directory ----


def part_big(out, build, top, nr):
    fs = Bcfs(top, build)
    step = nr // 20
    try:
        os.mkdir(fs.dir + "/b")
        rates = []
        for i in range(20):
            rates.append(step / run(build, fs, "big", step, i * step))
        # the median of five at each end: a step may meet a write of the whole cache
        start, end = sorted(rates[:5])[2], sorted(rates[-5:])[2]
        out.row("a directory of %d files" % nr, "create, at the end", end, "/s", "at the start", start,
                0.7)
        looks = []
        for small in (True, False):
            drop_caches()
            if small:
                os.mkdir(fs.dir + "/small")
                os.rename(fs.dir + "/b", fs.dir + "/large")
                os.rename(fs.dir + "/small", fs.dir + "/b")
                run(build, fs, "big", 20000, 0)
                drop_caches()
                looks.append(20000 / run(build, fs, "lookup_big", 20000, 0))
                os.rename(fs.dir + "/b", fs.dir + "/small")
                os.rename(fs.dir + "/large", fs.dir + "/b")
            else:
                looks.append(20000 / run(build, fs, "lookup_big", 20000, nr - 20000))
        out.row("a directory of %d files" % nr, "lookup, cold", looks[1], "/s", "in one of 20,000",
                looks[0], 0.7)
    finally:
        fs.remove()
    # what the daemon needs when the cache is much smaller than the metadata
    fs = Bcfs(top, build)
    try:
        run(build, fs, "tree", nr // 1000)
        fs.umount()
        fs.opts = ("-o", "cache=%d" % CACHE)
        fs.mount()
        seconds = run(build, fs, "walk", nr // 1000)
        out.row("%d directories of 1000 files" % (nr // 1000), "walk with stat, cold, 64 MiB of cache",
                nr / seconds, "files/s")
        out.row("%d directories of 1000 files" % (nr // 1000), "memory beyond the cache",
                (fs.rss() - CACHE) / (1 << 20), "MiB", goal=64, at_most=True)
    finally:
        fs.remove()


def main():
    parse = argparse.ArgumentParser(description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("build")
    parse.add_argument("--json", action="store_true")
    parse.add_argument("--quick", action="store_true", help="a tenth of it")
    parse.add_argument("--only", help="a part, or the rates of ops with this in their name")
    parse.add_argument("--rounds", type=int, default=3)
    args = parse.parse_args()
    build, out = os.path.abspath(args.build), Out(args.json)
    top = tempfile.mkdtemp(prefix="bench-fuse.", dir=os.environ.get("BENCH_DIR", "/tmp"))
    dirs = 10 if args.quick else 100
    try:
        if args.only in (None, "requests"):
            part_requests(out, build, top, dirs)
        if args.only not in ("requests", "big"):
            # the pass-through holds a descriptor of each file
            most = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 1000 - 12)
            part_rates(out, build, top, min(dirs, most), args.rounds,
                       None if args.only == "rates" else args.only, args.quick)
        if args.only in (None, "big"):
            part_big(out, build, top, 100000 if args.quick else 1000000)
    except RuntimeError as error:
        print("bench fuse: %s" % error, file=sys.stderr)
        sys.exit(2)
    finally:
        clean(top)
    sys.exit(1 if out.missed else 0)


if __name__ == "__main__":
    main()
