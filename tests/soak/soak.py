#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Looks for what breaks, with ever new seeds, until the time is over: ./dev soak.

usage: ./dev soak [--minutes N] [--seed N] [--jobs N] [--keep DIR] [--only PART,...]

Divides the time between the modes of the crash simulation, damaged journals, fault sweeps, the unit tests
that take a seed, SIGKILLs of real mounts (kill.py), and the field's load programs on mounts (load.py), as many at a time as there are processors. The seeds come
from one, which is printed; --seed takes it again. Parts: sim, damage, sweep, unit, kill, load.

Ends with a table and "N passed, N failed". A failure goes on record at once, with the command that replays
it; its log, and of a kill the image, are kept in DIR (default: soak-kept).
"""
import argparse
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

root = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
PART_WEIGHTS = {"sim": 45, "damage": 5, "sweep": 10, "unit": 12, "kill": 20, "load": 12}
HANG_S = 660  # beyond the time that a job was given: bcfs-sim says so by itself after 600


class Part:
    """Something that can be run for a while: subclasses say how."""

    def __init__(self, name, part):
        self.name, self.part = name, part
        self.used = 0.0
        self.running = 0
        self.jobs = self.failed = 0
        self.figures = {}
        self.at_most = sys.maxsize  # at a time

    def least_s(self):
        return 3

    def slice_s(self, total_s):
        return min(120, max(5, total_s / 30))

    def add(self, name, n):
        self.figures[name] = self.figures.get(name, 0) + n


class Sim(Part):
    """A mode of the simulation, from a seed on."""

    def __init__(self, build, mode):
        super().__init__(f"sim {mode}", "sim")
        self.program, self.mode = f"{build}/tests/sim/bcfs-sim", mode

    def command(self, seed, seconds, keep):
        return [self.program, "--seed", str(seed), "--minutes", f"{seconds / 60:.3f}", "--progress", "0",
                "--keep", f"{keep}/{self.mode}-{seed}.case", self.mode], {}

    def read(self, text):
        for runs, images, states in re.findall(r"^\S+: (\d+) runs, .*?(\d+) images, (\d+) states", text, re.M):
            self.add("runs", int(runs))
            self.add("crash states", int(images))
            self.add("distinct", int(states))
        for twice in re.findall(r"of them from crashes in recovery (\d+)", text):
            self.add("crash states", int(twice))


class Loop(Part):
    """A program that makes the run of BCFS_TEST_SEED: one seed after the other while there is time."""

    def __init__(self, name, part, cmd):
        super().__init__(name, part)
        self.cmd = shlex.join(cmd)

    def command(self, seed, seconds, keep):
        return ["bash", "-c",
                f"end=$((SECONDS + {int(seconds)})); for ((s = {seed}; SECONDS < end; s++)); do "
                f"BCFS_TEST_SEED=$s {self.cmd} || {{ echo BCFS_TEST_SEED=$s {self.cmd}; exit 1; }}; done"], {}

    def read(self, text):
        for runs, trials in re.findall(r"^(\d+) runs, (\d+) trials", text, re.M):
            self.add("runs", int(runs))
            self.add("crash states", int(trials))
            self.add("distinct", int(trials))


class Sweep(Part):
    """One scenario after the other, each from a new seed: every k-th request, or allocation, fails."""

    def __init__(self, build, kind):
        super().__init__(f"sweep {kind}", "sweep")
        self.cmd = shlex.join([f"{build}/tests/sim/sim-sweep", kind])
        self.scenarios = output([f"{build}/tests/sim/sim-sweep", "list"]).split()

    def least_s(self):
        return 30

    def command(self, seed, seconds, keep):
        return ["bash", "-c",
                f"end=$((SECONDS + {int(seconds)})); names=({shlex.join(self.scenarios)}); "
                f"for ((s = {seed}; SECONDS < end; s++)); do name=${{names[s % ${{#names[@]}}]}}; "
                f"BCFS_TEST_SEED=$s timeout 600 {self.cmd} $name || "
                f"{{ echo BCFS_TEST_SEED=$s {self.cmd} $name; exit 1; }}; done"], {}

    def read(self, text):
        for struck, recoveries in re.findall(r"(\d+) faults struck, .*?(\d+) recoveries", text):
            self.add("runs", 1)
            self.add("faults", int(struck))
            self.add("crash states", int(recoveries))


class Unit(Part):
    def __init__(self, test, scale):
        super().__init__(f"unit {test['name']}", "unit")
        self.cmd, self.scale = test["cmd"], scale

    def least_s(self):
        return 60

    def command(self, seed, seconds, keep):
        return self.cmd, {"BCFS_TEST_SEED": hex(seed & 0xFFFFFFFF), "BCFS_TEST_SCALE": self.scale}

    def read(self, text):
        self.add("runs", 1)
        self.add("cases", len(re.findall(r"^ok ", text, re.M)))


class Kill(Part):
    def __init__(self, build):
        super().__init__("kills", "kill")
        self.build, self.at_most = build, 1

    def least_s(self):
        return 20

    def slice_s(self, total_s):
        return min(300, max(30, total_s / 8))

    def command(self, seed, seconds, keep):
        self.json = f"{keep}/kill-{seed}.json"
        return [sys.executable, f"{root}/tests/soak/kill.py", "--seconds", f"{seconds:.0f}", "--seed", str(seed),
                "--build", self.build, "--keep", keep, "--json", self.json], {}

    def read(self, text):
        if os.path.exists(self.json):
            with open(self.json, encoding="utf-8") as f:
                for name, value in json.load(f).items():
                    self.add(name, value)
            os.unlink(self.json)
        elif "# SKIP" in text:
            self.add("skipped", 1)


class Load(Part):
    """stress-ng, fio, dbench, bonnie++ on a mount, fsck after each."""

    def __init__(self, build):
        super().__init__("loads", "load")
        self.build, self.at_most = build, 1

    def least_s(self):
        return 30

    def slice_s(self, total_s):
        return min(180, max(30, total_s / 8))

    def command(self, seed, seconds, keep):
        return [sys.executable, f"{root}/tests/soak/load.py", "--seconds", f"{seconds:.0f}", "--seed", str(seed),
                "--build", self.build, "--keep", keep], {}

    def read(self, text):
        self.add("runs", len(re.findall(r"^ok ", text, re.M)))
        self.add("loads", len(re.findall(r"^ok ", text, re.M)))
        if "# SKIP" in text:
            self.add("skipped", 1)


def output(cmd):
    return subprocess.run(cmd, stdout=subprocess.PIPE, text=True, check=True).stdout


def sim_modes(build):
    text = output([f"{build}/tests/sim/bcfs-sim", "--help"])
    return re.findall(r"^  (\S+) ", text[text.index("Modes:"):], re.M)


def seeded_units(build):
    """Unit tests whose programs take BCFS_TEST_SEED; those with threads do not replay by it."""
    tests = json.loads(output(["meson", "introspect", "--tests", build]))
    for test in tests:
        if any(s.split(":")[-1] == "unit" for s in test["suite"]) and test["protocol"] == "tap":
            with open(test["cmd"][0], "rb") as f:
                if b"BCFS_TEST_SEED" in f.read():
                    yield test


class Soak:
    def __init__(self, args):
        self.args = args
        self.rng = random.Random(args.seed)
        self.total_s = args.minutes * 60
        self.begin = time.monotonic()
        self.lock = threading.Lock()
        self.processes = set()
        self.stopped = False
        build = f"{root}/build"
        only = args.only.split(",") if args.only else list(PART_WEIGHTS)
        self.parts = []
        if "sim" in only:
            self.parts += [Sim(build, m) for m in sim_modes(build)]
        if "damage" in only:
            self.parts.append(Loop("damaged journals", "damage", [f"{build}/tests/sim/sim-damage"]))
            self.parts.append(Loop("devices that lie", "damage", [f"{build}/tests/sim/sim-lies"]))
        if "sweep" in only:
            self.parts += [Sweep(build, kind) for kind in ("io", "nomem")]
        if "unit" in only:
            scale = "1" if args.minutes >= 10 else "0.2"
            self.parts += [Unit(t, scale) for t in seeded_units(build)]
        if "kill" in only:
            self.parts.append(Kill(build))
        if "load" in only:
            self.parts.append(Load(build))

    def left(self):
        return self.total_s - (time.monotonic() - self.begin)

    def choose(self):
        """(part, seconds, seed), or None: the time is over."""
        with self.lock:
            left = self.left()
            may = [p for p in self.parts if p.least_s() <= left and p.running < p.at_most]
            if not may or self.stopped:
                return None
            used = {kind: sum(p.used for p in self.parts if p.part == kind) / w for kind, w in PART_WEIGHTS.items()}
            part = min(may, key=lambda p: (used[p.part], p.used, self.rng.random()))
            seconds = min(left, part.slice_s(self.total_s))
            # what is left is too little for anything: to the end
            if left - seconds < 5:
                seconds = left
            part.running += 1
            part.used += seconds  # as long as it runs: corrected below
            return part, seconds, self.rng.randrange(1, 1 << 40)

    def run(self, part, seconds, seed):
        cmd, env = part.command(seed, seconds, self.args.keep)
        at = time.monotonic()
        p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, errors="replace", env={**os.environ, **env}, start_new_session=True)
        with self.lock:
            self.processes.add(p)
        hung = False
        try:
            out, _ = p.communicate(timeout=seconds + HANG_S)
        except subprocess.TimeoutExpired:
            hung = True
            state = subprocess.run(["ps", "-o", "pid,ppid,stat,wchan:24,etime,time,args", "-g", str(p.pid)],
                                   stdout=subprocess.PIPE, text=True, check=False).stdout
            os.killpg(p.pid, signal.SIGTERM)
            out, _ = p.communicate()
            out += f"\nno end {HANG_S} s after its time was over:\n{state}"
        with self.lock:
            self.processes.discard(p)
            part.running -= 1
            part.used += time.monotonic() - at - seconds
            if self.stopped and p.returncode:
                return
            part.jobs += 1
            part.read(out)
            if p.returncode and (p.returncode != 77 or hung):
                self.failure(part, seed, cmd, env, out)

    def failure(self, part, seed, cmd, env, out):
        part.failed += 1
        log = f"{self.args.keep}/{part.name.replace(' ', '-')}-{seed}.log"
        line = " ".join([f"{k}={v}" for k, v in env.items()] + [shlex.quote(c) for c in cmd])
        with open(log, "w", encoding="utf-8") as f:
            f.write(f"{line}\n{out}")
        print(f"FAILED: {part.name}: {line}\n  log: {log}")
        for text in out.splitlines()[-12:]:
            print(f"  | {text}")
        sys.stdout.flush()

    def lane(self):
        while True:
            job = self.choose()
            if not job:
                return
            self.run(*job)

    def sum(self, name):
        return sum(p.figures.get(name, 0) for p in self.parts)

    def progress(self):
        done = min(self.total_s, time.monotonic() - self.begin)
        return (f"{done // 60:3.0f}:{done % 60:02.0f} of {self.args.minutes:g} min: "
                f"{self.sum('crash states')} crash states, {self.sum('distinct')} distinct, "
                f"{self.sum('cases')} unit cases, {self.sum('kills')} kills, "
                f"{self.sum('copies') + self.sum('cuts')} copies, {sum(p.failed for p in self.parts)} violations")

    def all(self):
        lanes = [threading.Thread(target=self.lane) for _ in range(self.args.jobs)]
        for t in lanes:
            t.start()
        told = time.monotonic()
        try:
            while any(t.is_alive() for t in lanes):
                time.sleep(0.2)
                if time.monotonic() - told > 15:
                    print(self.progress(), flush=True)
                    told = time.monotonic()
        except KeyboardInterrupt:
            with self.lock:
                self.stopped = True
                for p in self.processes:
                    os.killpg(p.pid, signal.SIGTERM)
        for t in lanes:
            t.join()

    def table(self):
        print(self.progress())
        print(f"\n{'':28}{'runs':>10}{'crash states':>14}{'distinct':>12}{'violations':>12}{'minutes':>9}")

        def row(name, runs, images, states, failed, used):
            print(f"{name:28}{runs:>10}{images:>14}{states:>12}{failed:>12}{used / 60:>9.1f}")

        for kind, label in (("sim", None), ("damage", None), ("sweep", None), ("unit", "unit tests"), ("kill", None),
                            ("load", None)):
            some = [p for p in self.parts if p.part == kind and p.jobs]
            if label and some:
                row(label, sum(p.figures.get("runs", 0) for p in some), "", "", sum(p.failed for p in some),
                    sum(p.used for p in some))
            for p in [] if label else some:
                row(p.name, p.figures.get("runs", p.figures.get("rounds", 0)), p.figures.get("crash states", ""),
                    p.figures.get("distinct", ""), p.failed, p.used)
        print("kills: " + ", ".join(f"{self.sum(k)} {n}" for k, n in (
            ("kills", "kills survived"), ("kills in recovery", "more of them in recovery"),
            ("kills by itself", "right behind an append"), ("copies", "copies of a stopped daemon's image checked"),
            ("cuts", "states from write logs checked"), ("closes", "clean ends"), ("calls", "calls of the writers"),
            ("syncs", "fsyncs"))))
        if any(p.part == "sweep" for p in self.parts):
            print(f"sweeps: {self.sum('faults')} faults struck")
        failed = sum(p.failed for p in self.parts)
        jobs = sum(p.jobs for p in self.parts)
        if not failed and not os.listdir(self.args.keep):
            os.rmdir(self.args.keep)
        print(f"seed {self.args.seed}" + (f"; kept: {self.args.keep}" if failed else ""))
        print(f"{jobs - failed} passed, {failed} failed")
        return 1 if failed or not jobs else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                usage=argparse.SUPPRESS)
    p.add_argument("--minutes", type=float, default=20)
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--keep", default="soak-kept")
    p.add_argument("--only")
    args = p.parse_args()
    for part in args.only.split(",") if args.only else []:
        if part not in PART_WEIGHTS:
            p.error(f"no part \"{part}\": {', '.join(PART_WEIGHTS)}")
    if not args.minutes > 0 or args.jobs < 1:
        p.error("--minutes and --jobs must be more than nothing")
    args.keep = os.path.abspath(args.keep)
    os.makedirs(args.keep, exist_ok=True)
    print(f"seed {args.seed}, {args.minutes:g} minutes, {args.jobs} at a time", flush=True)
    s = Soak(args)
    s.all()
    return s.table()


sys.exit(main())
