#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Goal: whenever the daemon dies, nothing is lost that was promised, and no fsck is needed.
Method: rounds on one image. In each, writers (oracle.py says what they do, and what must be there
afterwards) work on a mount until something happens; then the tree must be that of one moment, fsck is clean,
and the next round goes on with what is there. What happens, drawn from the seed:

  kill    SIGKILL at a random moment; often once or twice more while it recovers; sometimes from the daemon
          itself, right behind a node's append that no journal entry on the device has yet
  copy    SIGSTOP, what is in flight is drained, the image is copied, SIGCONT; the copy is looked at while the
          writers go on; then as "kill"
  cut     all writes to the device are logged (-o write-log=); after a kill states are made from the log: all up to
          some entry, or up to the last flush before it and any subset of what is behind that
  close   the writers stop, the mount is unmounted, nothing may be missing

usage: kill.py [--geometry default|small|sealed|all] [--rounds N] [--seconds N] [--seed N] [--writers N]
               [--build DIR] [--keep DIR] [--json FILE]
               stops after so many rounds of a geometry or when the time is over (default: 10 rounds)
       kill.py --replay DIR       look again at what a failure has kept

Speaks TAP, a line a round. A failure keeps the image as it was found, the writers' logs and the daemon's
messages in a directory below --keep (default: the current directory), and says how to replay. (What the
writers did follows from oracle.py: a replay needs it as it was.)
"""
import argparse
import errno
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "tools"))
sys.dont_write_bytecode = True
import oracle  # noqa: E402
import write_log  # noqa: E402

GEOMETRIES = {
    "default": ([], []),
    "small": (["-b", "4096", "--node-size", "16K", "--journal-size", "1M"], ["cache=1M"]),
    # compressed, later once more, encrypted, with nothing inline
    "sealed": (["--compression", "lz4", "--background-compression", "zstd", "--inline-max", "0", "--encrypt",
                "--kdf-passes", "1", "--kdf-memory", "8K"], []),
}
SIZE = "512M"
STUCK_S = 90
BULK = 2500  # files of no interest: more nodes than the small geometry's cache holds
CUTS = 5
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENODEV)


class Failure(Exception):
    pass


class Killed(Failure):
    """A daemon that died of SIGKILL when it was mounting."""


def run(*cmd):
    """The output; Failure if it did not return 0."""
    done = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", check=False)
    if done.returncode:
        raise Failure(f"status {done.returncode} of: {' '.join(map(str, cmd))}\n{done.stdout[-3000:]}")
    return done.stdout


def copy_image(old, new):
    run("cp", "--reflink=auto", "--sparse=always", old, new)


class Programs:
    def __init__(self, build):
        self.fuse, self.mkfs = f"{build}/fuse/bcfs-fuse", f"{build}/mkfs/mkfs.bcfs"
        self.fsck, self.bcfs = f"{build}/fsck/fsck.bcfs", f"{build}/cli/bcfs"


def options_of(geometry):
    """Of mkfs and of mounts; the programs take the passphrase from the environment."""
    made, mounted = GEOMETRIES[geometry]
    os.environ.pop("BCFS_PASSPHRASE", None)
    if "--encrypt" in made:
        os.environ["BCFS_PASSPHRASE"] = "killed"
    return made, mounted


class Mount:
    """A daemon and its mount."""

    def __init__(self, programs, image, mnt, opts, log, wait=True):
        self.programs, self.mnt, self.log = programs, mnt, log
        cmd = [programs.fuse, "-f"] + (["-o", ",".join(opts)] if opts else []) + [image, mnt]
        with open(log, "a", encoding="utf-8") as out:
            out.write(f"---- {' '.join(cmd)}\n")
            out.flush()
            self.daemon = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.pid = self.daemon.pid
        self.counted = {}
        if wait:
            self.wait_live(image)

    def mounted(self):
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            return any(line.split()[4] == self.mnt for line in f)

    def wait_live(self, image):
        until = time.monotonic() + STUCK_S
        while not self.mounted():
            if self.daemon.poll() is not None:
                self.died(f"mounting {image} failed")
            if time.monotonic() > until:
                self.kill()
                raise Failure(f"mounting {image} takes longer than {STUCK_S} s")
            time.sleep(0.005)
        try:
            os.stat(self.mnt)
        except OSError:
            self.daemon.wait()
            self.died("the daemon died at once")

    def died(self, what):
        self.detach()
        kind = Killed if self.daemon.returncode == -signal.SIGKILL else Failure
        raise kind(f"{what}, status {self.daemon.returncode}:\n{tail(self.log)}") from None

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()
        self.detach()

    def detach(self):
        """Of a daemon that is dead."""
        for cmd in (["umount", self.mnt], ["umount", "-l", self.mnt], ["fusermount3", "-uz", self.mnt]):
            if not self.mounted():
                return
            subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                           check=False)

    def unmount(self):
        run(self.programs.bcfs, "umount", self.mnt)
        self.daemon.wait()
        if self.daemon.returncode:
            raise Failure(f"the daemon ended with status {self.daemon.returncode}:\n{tail(self.log)}")

    def counters(self):
        out = run(self.programs.bcfs, "counters", self.mnt)
        return {k: int(v) for k, v in (line.split() for line in out.splitlines() if len(line.split()) == 2)}


def tail(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()[-2000:]


class Soak:
    def __init__(self, args, geometry, top):
        self.args, self.geometry, self.top = args, geometry, top
        self.mkfs_opts, self.mount_opts = options_of(geometry)
        self.programs = Programs(args.build)
        self.rng = random.Random(f"{args.seed}/{geometry}")
        self.image, self.mnt, self.look = f"{top}/img", f"{top}/mnt", f"{top}/look"
        self.daemon_log = f"{top}/daemon.log"
        self.wids = range(args.writers)
        self.figures = dict.fromkeys(("rounds", "kills", "kills in recovery", "kills by itself", "copies", "cuts",
                                      "closes", "calls", "syncs"), 0)
        self.counters = {}
        self.mount = self.bases = None
        self.writers = []
        self.can_debug = True  # fault points and write logs are built in
        self.suspect = None  # the image to keep

    # ---- pieces ----

    def make(self):
        os.mkdir(self.mnt)
        os.mkdir(self.look)
        run(self.programs.mkfs, "-q", "--size", SIZE, self.image, *self.mkfs_opts)
        self.do_mount()
        for name in [f"w{w}" for w in self.wids] + list(oracle.SHARED) + [oracle.BRAWL]:
            os.mkdir(f"{self.mnt}/{name}")
        for i in range(BULK if self.geometry == "small" else 100):
            os.mknod(f"{self.mnt}/{oracle.BRAWL}/{i}" + "b" * 100)
        trees = oracle.read_tree(self.mnt, self.wids)
        self.bases = {w: oracle.base_of(trees[w]) for w in self.wids}
        self.mount.unmount()
        self.mount = None
        try:
            self.do_mount(f"write-log={self.top}/try")
        except Failure as e:
            if "without fault points" not in str(e):
                raise
            self.can_debug = False
        else:
            self.mount.unmount()
        self.mount = None

    def do_mount(self, *opts):
        opts = self.mount_opts + list(opts)
        for often, opt in ((0.3, "discard"), (0.2, "direct=off"), (0.2, "io=threads"), (0.2, "writeback=off"),
                           (0.3, "journal_flush_delay=50")):
            if self.rng.random() < often:
                opts.append(opt)
        self.mount = Mount(self.programs, self.image, self.mnt, opts, self.daemon_log)

    def start_writers(self, rnd, write_log_path=None):
        self.logs = {w: f"{self.top}/log.{w}" for w in self.wids}
        self.writers = []
        for w in self.wids:
            with open(f"{self.top}/base.{w}", "wb") as f:
                pickle.dump(self.bases[w], f)
            with open(self.logs[w], "wb"):
                pass
            cmd = [sys.executable, f"{here}/writer.py", self.mnt, f"{self.top}/base.{w}", self.logs[w], str(w),
                   str(rnd), str(self.args.seed)] + ([write_log_path] if write_log_path else [])
            with open(f"{self.top}/writer.{w}", "w", encoding="utf-8") as out:
                self.writers.append(subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=out, stderr=out))

    def wait_started(self):
        until = time.monotonic() + STUCK_S
        while not all(os.path.getsize(p) for p in self.logs.values()):
            if time.monotonic() > until:
                raise Failure("the writers do not start")
            time.sleep(0.005)

    def wait_writers(self):
        """All have ended, or one call takes too long."""
        until = time.monotonic() + STUCK_S
        for w, p in enumerate(self.writers):
            try:
                p.wait(max(1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise Failure(f"writer {w} hangs:\n{self.stacks()}") from None

    def stacks(self):
        """Where the threads of the daemon wait."""
        text = []
        base = f"/proc/{self.mount.pid}/task"
        for tid in os.listdir(base) if os.path.isdir(base) else []:
            with open(f"{base}/{tid}/wchan", encoding="utf-8") as f:
                text.append(f"{tid}: {f.read()}")
        return "\n".join(text)

    def writers_ended_well(self, killed_ns):
        """killed_ns: when (0: by itself, None: not at all)."""
        for w in self.wids:
            said = tail(f"{self.top}/writer.{w}")
            calls, _, error = oracle.read_log(self.logs[w])
            status = self.writers[w].returncode
            if status == 0:
                continue
            # A page of a mapped file that the dead daemon can no longer give: in the midst of a call.
            if status == -signal.SIGBUS and killed_ns is not None and calls and calls[-1][1] is None:
                continue
            if status != 1 or not error:
                raise Failure(f"writer {w}: status {status}: {said}")
            if killed_ns is None or error[2] not in GONE or error[1] < killed_ns:
                raise Failure(f"writer {w}: {said}")

    def verify(self, what, mnt, rnd, upto=None, clock=0):
        found = oracle.read_tree(mnt, self.wids)
        bad, counts = oracle.check(found, self.bases, self.logs, rnd, self.args.seed, upto, clock)
        if bad:
            raise Failure(f"{what}: {bad}")
        return found, counts

    def keep_counters(self):
        for name, value in self.mount.counters().items():
            if not name.startswith("usage."):
                self.counters[name] = self.counters.get(name, 0) + value - self.mount.counted.get(name, 0)
                self.mount.counted[name] = value

    def fsck(self, image):
        run(self.programs.fsck, image)

    # ---- what happens ----

    def kill(self):
        """Ends the mount; when, or 0 if it has done it itself."""
        status = self.mount.daemon.poll()
        if status is not None and status != -signal.SIGKILL:
            raise Failure(f"the daemon ended with status {status}:\n{tail(self.daemon_log)}")
        now = 0 if status is not None else time.monotonic_ns()
        self.mount.daemon.kill()
        self.mount.daemon.wait()
        self.wait_writers()
        self.mount.detach()
        self.writers_ended_well(now)
        self.figures["kills"] += 1
        return now

    def after_kill(self, rnd, upto_note):
        """The tree is one that may be; the image is mounted."""
        self.suspect = f"{self.top}/crashed"
        copy_image(self.image, self.suspect)
        if self.rng.random() < 0.25:
            self.fsck(self.image)
        while self.rng.random() < 0.35:
            m = Mount(self.programs, self.image, self.mnt, self.mount_opts, self.daemon_log, wait=False)
            time.sleep(self.rng.random() * 0.08)
            if m.daemon.poll() is not None:
                raise Failure(f"mounting failed with status {m.daemon.returncode}:\n{tail(self.daemon_log)}")
            m.kill()
            self.figures["kills in recovery"] += 1
        self.do_mount()
        self.keep_counters()
        found, counts = self.verify(upto_note, self.mnt, rnd)
        for name in ("calls", "syncs"):
            self.figures[name] += counts[name]
        for w in self.wids:
            self.bases[w] = oracle.base_of(found[w])
        self.suspect = None
        return counts

    def some_time(self):
        return min(self.rng.expovariate(1.4), 3)

    def round_kill(self, rnd, opts=()):
        if self.can_debug and self.rng.random() < 0.2:
            if self.mount:
                self.mount.unmount()
                self.mount = None
            opts = [f"inject=append_unflushed:{self.rng.randrange(1, 30 if self.geometry == 'small' else 3)}!"]
            self.figures["kills by itself"] += 1
        if not self.mount:
            try:
                self.do_mount(*opts)
            except Killed:
                if not opts or not opts[0].startswith("inject="):
                    raise
                # It came to that while it was mounting.
                self.figures["kills in recovery"] += 1
                opts = ()
                self.do_mount()
        self.start_writers(rnd)
        self.wait_started()
        if opts:
            # if it does not come to that: from outside
            until = time.monotonic() + 3
            while self.mount.daemon.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
        else:
            time.sleep(self.some_time())
        self.kill()
        return self.after_kill(rnd, "after a kill")

    def round_copy(self, rnd):
        if not self.mount:
            self.do_mount()
        self.start_writers(rnd)
        self.wait_started()
        for _ in range(1 + (self.rng.random() < 0.5)):
            time.sleep(self.some_time())
            self.stop_and_copy(rnd)
        time.sleep(self.some_time() / 2)
        self.kill()
        return self.after_kill(rnd, "after copies and a kill")

    def stop_and_copy(self, rnd):
        copy, pid = f"{self.top}/copy", self.mount.pid
        stopped = time.monotonic_ns()
        os.kill(pid, signal.SIGSTOP)
        try:
            drain(pid, self.image)
            copy_image(self.image, copy)
            copied = time.monotonic_ns()
        finally:
            os.kill(pid, signal.SIGCONT)
        self.suspect = copy
        self.look_at(copy, rnd, f"copy (stopped at {stopped})", copied)
        self.figures["copies"] += 1

    def look_at(self, image, rnd, what, upto, clock=0):
        """A state of its own, mounted to read and write or only to read, and checked; the image is removed."""
        keep = self.suspect = f"{self.top}/suspect"
        opts = self.mount_opts + (["ro"] if self.rng.random() < 0.3 else [])
        copy_image(image, keep)
        if self.rng.random() < 0.5:
            self.fsck(image)
        m = Mount(self.programs, image, self.look, opts, self.daemon_log)
        try:
            self.verify(what, self.look, rnd, upto, clock)
            m.unmount()
        except BaseException:
            m.kill()
            raise
        self.fsck(image)
        os.unlink(image)
        os.unlink(keep)
        self.suspect = None

    def round_cut(self, rnd):
        if not self.can_debug:
            return self.round_kill(rnd)
        if self.mount:
            self.mount.unmount()
            self.mount = None
        log, state = f"{self.top}/writes", f"{self.top}/state"
        copy_image(self.image, state)
        self.do_mount(f"write-log={log}")
        self.start_writers(rnd, log)
        self.wait_started()
        time.sleep(self.some_time() / 2)
        self.kill()
        with open(log, "rb") as f:
            self.cuts(f, state, rnd)
        os.unlink(log)
        os.unlink(state)
        return self.after_kill(rnd, "after a kill, with a write log")

    def cuts(self, log, state, rnd):
        flags = [e[2] for e in write_log.entries(log)]
        done = 0
        for cut in sorted(self.rng.randrange(len(flags) + 1) for _ in range(CUTS)):
            flush = max((i for i in range(cut) if flags[i] & write_log.FLUSH), default=0)
            write_log.replay(log, state, range(done, flush))
            done = flush
            copy_image(state, f"{self.top}/cut")
            part = self.rng.choice((0, self.rng.random()))
            drop = {i for i in range(flush, cut) if not flags[i] & write_log.FUA and self.rng.random() < part}
            write_log.replay(log, f"{self.top}/cut", range(flush, cut), drop)
            what = f"cut at {cut} of {len(flags)} entries, without {sorted(drop)}"
            self.look_at(f"{self.top}/cut", rnd, what, cut, 1)
            self.figures["cuts"] += 1

    def round_close(self, rnd):
        if not self.mount:
            self.do_mount()
        self.start_writers(rnd)
        self.wait_started()
        time.sleep(self.some_time())
        for p in self.writers:
            p.terminate()
        self.wait_writers()
        self.writers_ended_well(None)
        self.keep_counters()
        self.mount.unmount()
        self.mount = None
        self.fsck(self.image)
        self.figures["closes"] += 1
        self.do_mount()
        found, counts = self.verify("after an unmount", self.mnt, rnd)
        for w in self.wids:
            calls, _, _ = oracle.read_log(self.logs[w])
            if len(calls) and calls[-1][1] is None:
                raise Failure(f"writer {w}: its last call did not end")
            seq = oracle.Sequence(oracle.Gen(w, rnd, self.args.seed, oracle.clone(self.bases[w])), calls,
                                  oracle.read_log(self.logs[w])[1], found[w], {})
            if seq.may_be[-1] != len(seq.call_at) - 1:
                raise Failure(f"after an unmount: writer {w}: {seq.describe(seq.may_be[-1])} is the last there is")
            self.bases[w] = oracle.base_of(found[w])
        for name in ("calls", "syncs"):
            self.figures[name] += counts[name]
        return counts

    # ---- a round, and all ----

    def round(self, rnd):
        kind = self.rng.choices(("kill", "copy", "cut", "close"), (5, 3, 3, 1))[0]
        if rnd < 4:
            kind = ("kill", "copy", "cut", "close")[rnd]
        counts = getattr(self, "round_" + kind)(rnd)
        self.figures["rounds"] += 1
        # The mount stays for the next round, or is closed and checked, or killed while it does nothing.
        end = self.rng.random()
        if end < 0.5:
            self.keep_counters()
            self.mount.unmount()
            self.mount = None
            self.fsck(self.image)
        elif end < 0.6:
            self.mount.kill()
            self.mount = None
            self.fsck(self.image)
        return kind, counts

    def keep(self, rnd, message):
        """A directory with what is needed to look again."""
        where = tempfile.mkdtemp(prefix=f"kill-{self.geometry}-{rnd}.", dir=self.args.keep)
        suspect = self.suspect if self.suspect and os.path.exists(self.suspect) else self.image
        if os.path.exists(suspect):
            copy_image(suspect, f"{where}/img")
        for name in sorted(os.listdir(self.top)):
            if name.split(".")[0] in ("log", "base", "writer", "daemon"):
                shutil.copy(f"{self.top}/{name}", where)
        with open(f"{where}/failure", "w", encoding="utf-8") as f:
            json.dump({"message": message, "round": rnd, "seed": self.args.seed, "geometry": self.geometry,
                       "writers": self.args.writers, "mount_opts": self.mount_opts}, f, indent=1)
        return where

    def stop(self):
        for p in self.writers:
            if p.poll() is None:
                p.kill()
        if self.mount:
            self.mount.kill()
        for p in self.writers:
            p.wait()


def drain(pid, image):
    """Until every thread of a stopped process stands still and what it has written is in the file."""
    until = time.monotonic() + STUCK_S
    last = None
    while time.monotonic() < until:
        states = set()
        for tid in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{tid}/stat", encoding="utf-8") as f:
                states.add(f.read().rsplit(") ", 1)[1][0])
        with open(f"/proc/{pid}/io", encoding="utf-8") as f:
            io = f.read()
        if states == {"T"} and io == last:
            break
        last = io
        time.sleep(0.01)
    else:
        raise Failure(f"a stopped daemon does not stand still: threads are {states}")
    fd = os.open(image, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def soak(args, geometry, seconds, first_nr):
    """(figures, counters, failures)"""
    with tempfile.TemporaryDirectory(prefix="bcfs-kill.", ignore_cleanup_errors=True) as top:
        top = os.path.realpath(top)
        s = Soak(args, geometry, top)
        failed, rnd, begin = 0, 0, time.monotonic()
        try:
            s.make()
            while (not args.rounds or rnd < args.rounds) and (not seconds or time.monotonic() - begin < seconds):
                at = time.monotonic()
                kind, counts = s.round(rnd)
                print(f"ok {first_nr + rnd} - {geometry} {rnd}: {kind}: {counts['calls']} calls, "
                      f"{counts['syncs']} syncs, {time.monotonic() - at:.1f} s", flush=True)
                rnd += 1
        except (Failure, OSError) as e:
            failed = 1
            print(f"not ok {first_nr + rnd} - {geometry} {rnd}")
            for line in (str(e) if isinstance(e, Failure) else repr(e)).splitlines():
                print(f"# {line}")
            where = s.keep(rnd, str(e))
            print(f"# seed {args.seed}; look again: {os.path.relpath(__file__)} --replay {where}", flush=True)
        finally:
            s.stop()
            for mnt in (s.mnt, s.look):
                subprocess.run(["umount", "-l", mnt], stderr=subprocess.DEVNULL, check=False)
    return s.figures, s.counters, failed


def replay(args):
    """A kept failure: the same image, the same logs."""
    where = os.path.abspath(args.replay)
    with open(f"{where}/failure", encoding="utf-8") as f:
        failure = json.load(f)
    print(failure["message"])
    options_of(failure["geometry"])
    wids = range(failure["writers"])
    bases, logs = {}, {w: f"{where}/log.{w}" for w in wids}
    for w in wids:
        with open(f"{where}/base.{w}", "rb") as f:
            bases[w] = pickle.load(f)
    with tempfile.TemporaryDirectory(prefix="bcfs-kill.") as top:
        image, mnt = f"{top}/img", f"{top}/mnt"
        os.mkdir(mnt)
        copy_image(f"{where}/img", image)
        programs = Programs(args.build)
        bad = None
        try:
            print(run(programs.fsck, image))
            m = Mount(programs, image, os.path.realpath(mnt), failure["mount_opts"], f"{top}/daemon.log")
            try:
                bad, _ = oracle.check(oracle.read_tree(mnt, wids), bases, logs, failure["round"], failure["seed"])
            finally:
                m.kill()
        except (Failure, OSError) as e:
            bad = e
    print(f"again: {bad}" if bad else "what a kill may leave (a copy or a cut is looked at without its upper bound)")
    return 1 if bad else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--geometry", choices=[*GEOMETRIES, "all"], default="all")
    p.add_argument("--rounds", type=int, default=0)
    p.add_argument("--seconds", type=float, default=0)
    p.add_argument("--seed", default="1")
    p.add_argument("--writers", type=int, default=5)
    p.add_argument("--build", default=os.environ.get("BCFS_BUILD", f"{here}/../../build"))
    p.add_argument("--keep", default=".")
    p.add_argument("--json")
    p.add_argument("--replay")
    args = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # cleans up
    args.build = os.path.abspath(args.build)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        print("1..0 # SKIP no /dev/fuse for this user")
        return 0
    if args.replay:
        return replay(args)
    if not args.rounds and not args.seconds:
        args.rounds = 10
    args.keep = os.path.abspath(args.keep)
    os.makedirs(args.keep, exist_ok=True)
    geometries = list(GEOMETRIES) if args.geometry == "all" else [args.geometry]
    total, failed, nr = {}, 0, 1
    for g in geometries:
        figures, counters, bad = soak(args, g, args.seconds / len(geometries), nr)
        failed += bad
        nr += figures["rounds"] + bad
        for name, value in figures.items():
            total[name] = total.get(name, 0) + value
        moved = {k: counters.get(k, 0) for k in ("btree.splits", "btree.merges", "btree.evictions", "journal.wraps",
                                                 "btree.bsets_blacklisted", "btree.replayed_keys")}
        print(f"# {g}: " + ", ".join(f"{v} {k}" for k, v in {**figures, **moved}.items()))
    print(f"1..{nr - 1}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(total, f)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
