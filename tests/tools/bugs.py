#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs every planted bug against the suites, and says which suite finds which, and when.

usage: bugs.py BUILD_DIR [--jobs N] [--write FILE [--missing]] [--all] [--suite TEST]... [NAME...]

BUILD_DIR is configured with meson's option planted_bugs; the bugs are the rows of
src/util/planted.def. Each is run against the tests of SUITES, in their order, up to the first that
finds it: that fails, or takes far longer than without the bug. Before that all of them are run
with no bug planted; what fails then has a fault of its own: it is named, and finds nothing.

--jobs: bugs tried at once. --write: the table, into FILE; --missing: only bugs of which it does
not yet say by what they are found are tried, the other rows stay as they are. --all: every test is tried, and all that
find a bug are named. --suite: these tests alone. --no-control: not without a bug.

The output of each run is kept in BUILD_DIR/bugs/. Exit status: 1 if a bug is not found, or a test
fails without one.
"""
import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

# Tests by meson's name in the order in which they are tried, what finds much in little time first,
# with the seconds of processor time that each takes without a bug. Many times that is allowed, so
# that a machine with other work to do does not count as a bug.
SUITES = {
    "crash-short": 9,
    "fs-names": 1, "core-names": 1, "journal": 1, "journal-crash": 1, "jset": 1, "sb_copies": 1,
    "btree-model": 2, "btree-snapshots": 1, "snapshot-filter": 1, "alloc-fs": 1, "alloc-free": 2,
    "alloc-entries": 1, "data-model": 2, "data-inline": 1, "data-encode": 1, "data-seal": 1, "fs-inode": 1, "fs-crash": 1,
    "core-crash": 1, "btree-seal": 1, "btree-formats": 1, "journal-seal": 1, "core-crypt": 1,
    "core-rekey": 25, "core-shift": 10, "data-rebalance": 5,
    "btree-bset_fuzz": 1, "btree-walk": 2, "btree-faults": 3, "sb_fuzz": 2,
    "core-threads": 2, "journal-threads": 2, "core-full_of_names": 40,
    "crash-clients": 5, "crash-restarts": 3, "crash-again": 5, "crash-evict-faults": 6, "crash-evict": 8,
    "crash-pressure": 8, "crash-gc": 10, "core-gather-faults": 1, "data-gather": 3, "core-open": 10,
    "data-copygc": 13,
    "crash-flips": 5, "crash-damage": 6, "crash-lies": 12, "crash-full": 10, "crash-faults": 10, "crash-long": 20,
    "btree-threads": 4, "journal-reserve": 5, "btree-bkey_pack": 7, "btree-bset_model": 9,
    "crash-ace1": 60, "sweep-io": 40, "sweep-nomem": 40, "crash-ace2": 60,
}
# Written by somebody who had not seen the suites, when those were done.
STRANGERS = frozenset((
    "clean_seq_short", "resume_on_newest", "noflush_acknowledged", "flush_deadline_lost",
    "replay_pin_late", "merge_loses_border", "whiteout_mark_lost", "append_done_on_replacement",
    "dirty_node_evicted", "cursor_stays", "node_place_from_middle", "trim_front_again",
    "punch_two_halves", "chain_ends_at_mark", "exchange_keeps_parent", "generation_not_raised",
))
TIMES = 8   # so many times as long is too long
WALL = 600  # seconds: for what waits for ever without using the processor


class Bug:
    def __init__(self, name, layer, invariant, what):
        self.name, self.layer, self.invariant, self.what = name, layer, int(invariant), what


def planted_rows(root):
    """The rows of the table; a line that looks like one and is none is an error."""
    text = open(os.path.join(root, "src/util/planted.def"), encoding="utf-8").read()
    bugs = [Bug(*m) for m in
            re.findall(r'^x\((\w+), (\w+), (\d+), "([^"]*)"\)$', text, re.M)]
    if len(bugs) != len(re.findall(r"^x\(", text, re.M)):
        sys.exit("src/util/planted.def: a row is not x(name, layer, invariant, \"text\")")
    gone = STRANGERS - {b.name for b in bugs}
    if gone:
        sys.exit("bugs.py: no longer planted: " + ", ".join(sorted(gone)))
    return bugs


class Result:
    def __init__(self, found, how="", met=False):
        self.found, self.how, self.met = found, how, met


class Runner:
    def __init__(self, build):
        self.build = os.path.abspath(build)
        self.logs = os.path.join(self.build, "bugs")
        os.makedirs(self.logs, exist_ok=True)
        out = subprocess.check_output(["meson", "introspect", "--tests", self.build])
        self.tests = {t["name"]: t for t in json.loads(out)}

    def targets(self, names):
        """What ninja has to build for these tests."""
        cmds = {self.tests[n]["cmd"][0] for n in names}
        return sorted(os.path.relpath(c, self.build) for c in cmds)

    def run(self, name, bug, cpu):
        """One test with one bug, or None, planted."""
        test = self.tests[name]
        env = {**os.environ, **test["env"], "BCFS_PLANTED": bug or "", "BCFS_PLANTED_VERBOSE": "1"}
        env.pop("BCFS_TEST_SEED", None)
        cmd = test["cmd"] + (["-j1"] if test["protocol"] == "tap" else [])
        limit = cpu * TIMES + 10

        def prepare():
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        path = os.path.join(self.logs, f"{bug or 'none'}.{name}.log")
        with open(path, "w+b") as log:
            p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                                 cwd=self.build, preexec_fn=prepare, start_new_session=True)
            late = False
            try:
                p.wait(WALL)
            except subprocess.TimeoutExpired:
                late = True
            try:
                os.killpg(p.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            p.wait()
            log.seek(0)
            text = log.read().decode("utf-8", "replace")
        if "BCFS_PLANTED: no bug" in text:
            sys.exit(f"{name}: built without {bug}")
        met = bug is not None and f"planted bug {bug}: met" in text
        return self.judge(test, p.returncode, late, text, met)

    @staticmethod
    def judge(test, status, late, text, met):
        seed = re.findall(r"(?:BCFS_TEST_SEED=|replay: bcfs-sim --seed )(0x[0-9a-f]+|\d+)", text)
        case = re.search(r"^not ok - (\S+)", text, re.M)
        slow = late or status == -signal.SIGXCPU or "died of signal 24" in text
        if case and test["protocol"] == "tap":
            return Result(True, case.group(1).split("::")[-1] + (", no end" if slow else ""), met)
        if status in (0, 77) and not late:
            return Result(False, met=met)
        how = f"run {int(seed[-1], 0)}" if seed and test["name"].startswith("crash-") else ""
        if slow:
            how = ", ".join(filter(None, [how, "no end"]))
        elif status < 0 and not how:
            how = "a crash"
        return Result(True, how, met)


class Outcome:
    def __init__(self, bug):
        self.bug, self.met, self.by = bug, False, []  # by: "test (how)"


def try_bug(runner, bug, suites, try_all, say):
    o = Outcome(bug)
    for name, cpu in suites.items():
        r = runner.run(name, bug.name, cpu)
        o.met |= r.met
        if r.found:
            o.by.append(f"{name} ({r.how})" if r.how else name)
            if not try_all:
                break
    if o.by:
        say(f"{bug.name}: " + ", ".join(o.by))
    else:
        say(f"{bug.name}: NOT FOUND" + ("" if o.met else ", and nothing came by it"))
    return o


HEAD = """# Planted bugs

Written by `./dev bugs` (`tests/tools/bugs.py`): not to be edited. Each row is a mistake that a build with
meson's option `planted_bugs` makes on purpose (`src/util/planted.h`), the invariant of
[design.md](design.md#invariants) that it breaks first (0: what POSIX says of an operation), and the first
test that finds it, in the order in which `bugs.py` tries them. "run 7" is the seventh run of that mode of
the crash suite, seed 7; in each run a few dozen to a few hundred crash states are looked at. In a unit test
it is the name of the case. "no end": far more time than without the bug. †: written by somebody who had
not seen the suites, when those were done.

| bug | layer | inv. | what it does | found by |
|---|---|---|---|---|
"""


def rows_of(path):
    """{bug: by what it is found}, of a table."""
    text = open(path, encoding="utf-8").read()
    return {name: by for name, by in re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", text, re.M)
            if "not found" not in by}


def table(bugs, found, nr_suites, bad):
    control = f"nothing: {nr_suites - len(bad)} tests pass"
    if bad:
        control += f"; {', '.join(bad.values())} of itself, and was left out below"
    rows = [f"| (none) | | | | {control} |"]
    rows += [f"| `{b.name}` | {b.layer}{' †' if b.name in STRANGERS else ''} | {b.invariant} | {b.what} | "
             f"{found.get(b.name) or '**not found**'} |" for b in bugs]
    nr = sum(bool(found.get(b.name)) for b in bugs)
    return HEAD + "\n".join(rows) + f"\n\n{nr} of {len(bugs)} are found.\n"


def main():
    p = argparse.ArgumentParser(prog="./dev bugs")
    p.add_argument("build")
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--write", metavar="FILE", help="the table; only with all bugs and suites")
    p.add_argument("--missing", action="store_true", help="what the table does not yet have")
    p.add_argument("--all", action="store_true", help="do not stop at the first test that finds it")
    p.add_argument("--suite", action="append", metavar="TEST", help="only this test")
    p.add_argument("--targets", action="store_true", help="print what is to be built, and end")
    p.add_argument("--no-control", action="store_true", help="do not run the tests without a bug")
    p.add_argument("name", nargs="*", help="a planted bug; none: all")
    args = p.parse_intermixed_args()

    runner = Runner(args.build)
    suites = {n: SUITES.get(n, 60) for n in args.suite or SUITES}
    unknown = [n for n in suites if n not in runner.tests]
    if unknown:
        sys.exit("no such test: " + ", ".join(unknown))
    if args.targets:
        print("\n".join(runner.targets(suites)))
        return 0

    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
    bugs = planted_rows(root)
    unknown = set(args.name) - {b.name for b in bugs}
    if unknown:
        sys.exit("no such bug: " + ", ".join(sorted(unknown)))
    every, found = bugs, rows_of(args.write) if args.write and args.missing else {}
    bugs = [b for b in bugs if b.name not in found and (not args.name or b.name in args.name)]

    lock = threading.Lock()
    done = [0]

    def say(text):
        with lock:
            done[0] += 1
            print(f"[{done[0]}/{len(bugs)}] {text}", flush=True)

    nr_suites, bad = len(suites), {}
    with ThreadPoolExecutor(max(args.jobs, 1)) as pool:
        if not args.no_control:
            ran = pool.map(lambda n: runner.run(n, None, suites[n]), suites)
            bad = {n: f"{n} fails ({r.how})" if r.how else f"{n} fails"
                   for n, r in zip(suites, ran) if r.found}
            suites = {n: cpu for n, cpu in suites.items() if n not in bad}
            print(f"no bug planted: {len(suites)} tests pass" +
                  "".join(f"; {text}" for text in bad.values()), flush=True)
        outcomes = list(pool.map(lambda b: try_bug(runner, b, suites, args.all, say), bugs))

    missed = [o.bug.name for o in outcomes if not o.by]
    if args.write and not args.name and not args.suite and not args.no_control:
        with open(args.write, "w", encoding="utf-8") as f:
            f.write(table(every, found | {o.bug.name: ", ".join(o.by) for o in outcomes},
                          nr_suites, bad))
    print(f"{len(outcomes) - len(missed)} of {len(outcomes)} bugs found" +
          (f"; not found: {', '.join(missed)}" if missed else ""))
    return 1 if missed or bad else 0


if __name__ == "__main__":
    sys.exit(main())
