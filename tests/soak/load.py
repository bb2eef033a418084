#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Goal: the field's own load programs find nothing on a mount, and fsck finds nothing behind them.
Method: one image; on it, in turn until the time is over: stress-ng's filesystem stressors (each verifies),
fio with verification (several engines, with and without the page cache), dbench, bonnie++. After each the
filesystem is unmounted and checked.

usage: load.py [--seconds N] [--seed N] [--build DIR] [--keep DIR] [--only NAME]

Speaks TAP, a line a load. A failure keeps the image and the program's output in a directory below --keep.
"""
import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SIZE = "1G"
STUCK_S = 120  # beyond what a load was given

# Of stress-ng's class "filesystem", and what others do with files; not what is about other filesystems.
STRESSORS = """access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup fallocate fanotify
fcntl fiemap file-ioctl filename flock fpunch fsize fstat getdent handle hdd inode-flags inotify io iomix ioprio lease
link locka lockf lockofd mknod open rename symlink sync-file touch utime verity xattr aiol mmap readahead revio
seek sendfile splice""".split()

FIO = {  # engine, and whether it can do without the cache
    "psync": True, "pvsync2": True, "libaio": True, "io_uring": True, "mmap": False,
}


class Failure(Exception):
    pass


def run(cmd, seconds, cwd=None):
    try:
        done = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", check=False, timeout=seconds + STUCK_S, cwd=cwd)
    except subprocess.TimeoutExpired as e:
        out = e.output.decode(errors="replace") if isinstance(e.output, bytes) else e.output or ""
        raise Failure(f"no end after {seconds + STUCK_S} s: {' '.join(cmd)}\n{out[-3000:]}") from None
    return done.returncode, done.stdout


def must(cmd, seconds=60, cwd=None):
    status, out = run(cmd, seconds, cwd)
    if status:
        raise Failure(f"status {status} of: {' '.join(cmd)}\n{out[-3000:]}")
    return out


# ---- loads: each gets a directory, a time, a source of chance ----

def stress_ng(where, seconds, rnd):
    some = rnd.sample(STRESSORS, max(1, seconds // 3))
    for name in some:
        status, out = run(["stress-ng", f"--{name}", "2", "--timeout", "2", "--temp-path", where, "--verify",
                           "--seed", str(rnd.randrange(1 << 31))], 2, where)
        if status not in (0, 3, 4):  # 3, 4: not here: no such call, or not allowed
            raise Failure(f"stress-ng --{name}: status {status}\n{out[-3000:]}")
    return "stressors: " + " ".join(some)


def fio(where, seconds, rnd):
    until, nr, cmd = time.monotonic() + seconds, 0, []
    while nr == 0 or time.monotonic() < until - 2:
        nr += 1
        engine = rnd.choice(sorted(FIO))
        direct = int(FIO[engine] and rnd.random() < 0.5)
        block = rnd.choice(["4k", "64k", "4k-128k"] + (["512", "3k"] if not direct and engine != "mmap" else []))
        # each in a directory of its own: what it reads, it wants to have written
        os.mkdir(f"{where}/{nr}")
        cmd = ["fio", "--name=verify", f"--directory={where}/{nr}", f"--ioengine={engine}", f"--direct={direct}",
               "--rw=" + rnd.choice(["randwrite", "randrw", "write", "rw"]),
               ("--bsrange=" if "-" in block else "--bs=") + block, "--size=32m", "--numjobs=3", "--iodepth=8",
               f"--randseed={rnd.randrange(1 << 31)}", "--verify=" + rnd.choice(["crc32c", "md5", "xxhash"]),
               "--verify_fatal=1", "--do_verify=1", f"--fsync={rnd.choice([0, 0, 100])}",
               f"--fallocate={rnd.choice(['none', 'posix', 'keep'])}", "--group_reporting",
               "--verify_state_save=0"]
        must(cmd, seconds)
        shutil.rmtree(f"{where}/{nr}")
    return f"{nr}, the last: {' '.join(cmd[3:7])}"


def dbench(where, seconds, rnd):
    clients = rnd.choice([1, 4, 10])
    must(["dbench", "-D", where, "-t", str(seconds), str(clients)], seconds)
    return f"{clients} clients"


def bonnie(where, seconds, rnd):
    must(["bonnie++", "-q", "-f", "-d", where, "-s", "64M", "-r", "32M", "-n", "4:8192:0:4", "-u", "root",
          "-z", str(rnd.randrange(1 << 31))], seconds)
    return ""


LOADS = {"stress-ng": stress_ng, "fio": fio, "dbench": dbench, "bonnie++": bonnie}


class Loads:
    def __init__(self, args):
        self.args, self.rnd = args, random.Random(args.seed)
        self.top = tempfile.mkdtemp(prefix="bcfs-load.")
        self.image, self.mnt, self.nr = f"{self.top}/img", f"{self.top}/mnt", 0
        os.mkdir(self.mnt)
        must([f"{args.build}/mkfs/mkfs.bcfs", "-q", "--size", SIZE, self.image])

    def mount(self):
        opts = self.rnd.choice([[], ["-o", "cache=4M"], ["-o", "writeback=off"], ["-o", "threads=2"]])
        must([f"{self.args.build}/fuse/bcfs-fuse", *opts, self.image, self.mnt])
        return " ".join(opts)

    def umount(self):
        must([f"{self.args.build}/cli/bcfs", "umount", self.mnt], 120)

    def once(self, name, seconds):
        """True: nothing was found."""
        self.nr += 1
        opts = what = ""
        try:
            opts = self.mount()
            where = f"{self.mnt}/{name}.{self.nr}"
            os.mkdir(where)
            what = LOADS[name](where, seconds, self.rnd)
            if self.rnd.random() < 0.7:
                shutil.rmtree(where)
            self.umount()
            must([f"{self.args.build}/fsck/fsck.bcfs", "-n", self.image])
        except (Failure, OSError) as e:
            print(f"not ok {self.nr} - {name} {opts}")
            for line in str(e).splitlines():
                print(f"# {line}")
            self.keep(name)
            return False
        print(f"ok {self.nr} - {name} {opts} {what}", flush=True)
        return True

    def keep(self, name):
        subprocess.run(["umount", "-l", self.mnt], check=False, stderr=subprocess.DEVNULL)
        to = f"{self.args.keep}/load-{self.args.seed}.img"
        os.makedirs(self.args.keep, exist_ok=True)
        subprocess.run(["cp", "--sparse=always", self.image, to], check=False)
        print(f"# {name}: image kept: {to}; --seed {self.args.seed}")

    def all(self):
        until, names, good = time.monotonic() + self.args.seconds, [], True
        while good and (self.nr == 0 or until - time.monotonic() > 8):
            if not names:
                names = [self.args.only] if self.args.only else self.rnd.sample(sorted(LOADS), len(LOADS))
                # what is full is begun anew
                if os.stat(self.image).st_blocks * 512 > 800 << 20:
                    must([f"{self.args.build}/mkfs/mkfs.bcfs", "-q", "-f", "--size", SIZE, self.image])
            good = self.once(names.pop(), int(max(4, min(20, until - time.monotonic() - 4))))
        print(f"1..{self.nr}")
        return 0 if good else 1

    def remove(self):
        subprocess.run(["umount", "-l", self.mnt], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.top, ignore_errors=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                usage=argparse.SUPPRESS)
    p.add_argument("--seconds", type=int, default=60)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--build", default=os.environ.get("BCFS_BUILD", "build"))
    p.add_argument("--keep", default=".")
    p.add_argument("--only", choices=sorted(LOADS))
    args = p.parse_args()
    args.build = os.path.abspath(args.build)
    needed = [n for n in ([args.only] if args.only else LOADS) if not shutil.which(n)]
    if os.geteuid() or not os.path.exists("/dev/fuse") or needed:
        print("1..0 # SKIP needs root, /dev/fuse" + "".join(f", {n}" for n in needed))
        return 77
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    loads = Loads(args)
    try:
        return loads.all()
    finally:
        loads.remove()


if __name__ == "__main__":
    sys.exit(main())
