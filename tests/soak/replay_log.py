#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Goal: the field's own tool for logs of writes, replay-log (xfstests, src/log-writes), works on what -o write-log= writes.
Method: a load on a mount with a write log; then replay-log and write_log.py make the same image of it, that of the device;
replay-log counts and finds what is there; it replays entry by entry with fsck.bcfs at each flush and each FUA write; and at
some of the flushes what had been synced until then is mounted and compared.

usage: replay_log.py --tool REPLAY-LOG [--build DIR] [--seed N] [--points N]

The tool is not part of bcfs, nor in Debian. MALLOC_PERTURB_ is taken from its environment: it reads a flag that it does not
set. Speaks TAP.
"""
import argparse
import filecmp
import hashlib
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
import write_log  # noqa: E402

SIZE = 256 << 20
ROUNDS = 40


class Fixture:
    def __init__(self, args, top):
        self.args, self.top = args, top
        self.image, self.fresh, self.log, self.dir = (os.path.join(top, n) for n in ("img", "fresh", "log", "mnt"))
        os.mkdir(self.dir)
        self.env = {k: v for k, v in os.environ.items() if k != "MALLOC_PERTURB_"}

    def run(self, *args):
        return subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=self.env, check=False)

    def must(self, *args):
        done = self.run(*args)
        if done.returncode:
            sys.exit(f"Bail out! {' '.join(args)}: status {done.returncode}: {done.stdout}")
        return done.stdout

    def tool(self, *args, log=None):
        return self.run(self.args.tool, "--log", log or self.log, *args)

    def built(self, name):
        return os.path.join(self.args.build, name)

    def mount(self, image, *opts):
        self.must(self.built("fuse/bcfs-fuse"), *opts, image, self.dir)

    def umount(self):
        self.must(self.built("cli/bcfs"), "umount", self.dir)

    def entries(self):
        with open(self.log, "rb") as f:
            return write_log.entries(f)

    def copy(self):
        path = os.path.join(self.top, "copy")
        shutil.copyfile(self.fresh, path)
        return path


def churn(rnd, top, i):
    """What comes and goes; nobody asks for any of it later."""
    for k in range(12):
        path = f"{top}/churn/{i}.{k}"
        with open(path, "wb") as f:
            f.write(rnd.randbytes(rnd.choice([0, 100, 4096, 30000, 200000])))
        if k % 2:
            continue
        with open(path, "r+b") as f:
            f.seek(rnd.randrange(50000))
            f.write(rnd.randbytes(rnd.randrange(1, 40000)))
            if k % 4 == 0:
                os.ftruncate(f.fileno(), rnd.randrange(60000))
            if k % 6 == 0:
                os.fsync(f.fileno())
        os.rename(path, f"{top}/churn/{i}.{k + 1}")
    for name in os.listdir(f"{top}/churn"):
        if name.startswith(f"{i - 3}."):
            os.unlink(f"{top}/churn/{name}")


def load(fx):
    """[(entries of the log when it was synced, name, hash)]"""
    rnd, synced = random.Random(fx.args.seed), []
    for name in ("safe", "churn"):
        os.mkdir(f"{fx.dir}/{name}")
    for i in range(ROUNDS):
        churn(rnd, fx.dir, i)
        data = rnd.randbytes(rnd.choice([1, 700, 4096, 5000, 70000, 150000]))
        with open(f"{fx.dir}/safe/{i}", "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        with open(fx.log, "rb") as f:
            nr = struct.unpack("<QQQ", f.read(24))[2]
        synced.append((nr, f"safe/{i}", hashlib.sha256(data).hexdigest()))
    fx.must("fstrim", fx.dir)
    return synced


def check_files(fx, image, synced):
    """What is wrong with the files that had been synced by then; mounts the image."""
    bad = []
    fx.mount(image)
    for _, name, want in synced:
        try:
            with open(f"{fx.dir}/{name}", "rb") as f:
                if hashlib.sha256(f.read()).hexdigest() != want:
                    bad.append(f"{name} differs")
        except OSError as e:
            bad.append(f"{name}: {e.strerror}")
    fx.umount()
    return bad


def same_images(fx, synced):
    by_tool, by_us = fx.copy(), os.path.join(fx.top, "ours")
    done = fx.tool("--replay", by_tool)
    shutil.copyfile(fx.fresh, by_us)
    with open(fx.log, "rb") as f:
        write_log.replay(f, by_us, range(len(fx.entries())))
    yield "replay-log replays all of it", done.returncode == 0, done.stdout
    yield "to the image that write_log.py makes", filecmp.cmp(by_tool, by_us, False), ""
    yield "which is the device's", filecmp.cmp(by_tool, fx.image, False), ""
    bad = check_files(fx, by_tool, synced)
    yield "and all files are there", not bad, ", ".join(bad)
    os.unlink(by_us)


def numbers(fx):
    nr = len(fx.entries())
    told = fx.tool("--num-entries").stdout.split()
    yield f"{nr} entries, by replay-log, too", str(nr) in told, " ".join(told)
    end = fx.tool("--find", "--end-mark", "close")
    yield "it finds the mark at the end", end.returncode == 0 and end.stdout.startswith(f"{nr - 1}@"), end.stdout
    wrong = fx.tool("--find", "--end-mark", "no such mark")
    yield "and none that is not there", wrong.returncode != 0, wrong.stdout


def every_step(fx):
    image = os.path.join(fx.top, "copy")
    fsck = ("--fsck", f"{fx.built('fsck/fsck.bcfs')} -n {image} >{fx.top}/fsck.out 2>&1", "--check")
    for what in ("flush", "fua"):
        done = fx.tool("--replay", fx.copy(), *fsck, what)
        yield f"fsck finds nothing at any {what}", done.returncode == 0, done.stdout[-2000:]
    # and so that this says something:
    lost = os.path.join(fx.top, "lost")
    shutil.copyfile(fx.log, lost)
    fua = [e for e in fx.entries() if e[2] & write_log.FUA and e[1]]
    with open(lost, "r+b") as f:
        f.seek(fua[len(fua) // 2][3])
        f.write(b"\0" * fua[len(fua) // 2][1])
    done = fx.tool("--replay", fx.copy(), *fsck, "fua", log=lost)
    yield "but a FUA write that is not there is found", "errored out" in done.stdout, done.stdout[-2000:]


def some_points(fx, synced):
    flushes = [i for i, e in enumerate(fx.entries()) if e[2] & write_log.FLUSH and i]
    points = sorted(random.Random(fx.args.seed).sample(flushes, min(fx.args.points, len(flushes))))
    bad = []
    for point in points:
        image = fx.copy()
        fx.tool("--replay", image, "--limit", str(point))
        bad += [f"at {point}: {b}" for b in check_files(fx, image, [s for s in synced if s[0] <= point])]
    yield f"what was synced is there at each of {len(points)} flushes", not bad, ", ".join(bad[:5])


def main():
    p = argparse.ArgumentParser(prog="replay_log.py")
    p.add_argument("--tool", required=True)
    p.add_argument("--build", default="build")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--points", type=int, default=30)
    args = p.parse_args()
    args.build = os.path.abspath(args.build)
    nr = failed = 0
    with tempfile.TemporaryDirectory(prefix="bcfs-replay-log.") as top:
        fx = Fixture(args, top)
        with open(fx.image, "wb") as f:
            f.truncate(SIZE)
        # small buckets: replay-log leaves out discards of more than 128 MiB where it writes to a file
        fx.must(fx.built("mkfs/mkfs.bcfs"), "-q", "--bucket-size", "64K", "--node-size", "16K", "--journal-size", "1M", fx.image)
        shutil.copyfile(fx.image, fx.fresh)
        fx.mount(fx.image, "-o", f"write-log={fx.log},discard")
        synced = load(fx)
        fx.umount()
        for part in (same_images(fx, synced), numbers(fx), every_step(fx), some_points(fx, synced)):
            for what, ok, more in part:
                nr += 1
                failed += not ok
                print(f"{'ok' if ok else 'not ok'} {nr} - {what}", flush=True)
                if not ok:
                    print("# " + str(more).replace("\n", "\n# "))
    print(f"1..{nr}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
