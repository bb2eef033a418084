#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Line coverage, by gcovr, of a build that was made with coverage and has run its tests.

usage: coverage.py BUILD [--uncovered] [--least PERCENT]

Prints lines reached per directory and file; --uncovered: also the lines that were not. Exit status 1 when
one of the directories (or recovery, which lies in several) is below PERCENT (default 90).
"""
import argparse
import json
import os
import subprocess
import sys

root = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
PARTS = {
    "src/journal": ["src/journal/"],
    "src/btree": ["src/btree/"],
    "src/alloc": ["src/alloc/"],
    "recovery": ["src/core/recovery.c", "src/core/open.c", "src/journal/journal_read.c", "src/btree/replay.c", "src/fs/reap.c"],
}


def measure(build):
    """{file: {line: times}}"""
    out = subprocess.run(["gcovr", "--root", root, "--json", "-", "--exclude-unreachable-branches",
                          "--filter", os.path.join(root, "src/"), build],
                         stdout=subprocess.PIPE, check=True, cwd=build).stdout
    return {f["file"]: {l["line_number"]: l["count"] for l in f["lines"] if not l.get("gcovr/noncode")}
            for f in json.loads(out)["files"]}


def ranges(numbers):
    text, begin, last = [], None, None
    for n in [*sorted(numbers), None]:
        if begin is not None and (n is None or n != last + 1):
            text.append(str(begin) if begin == last else f"{begin}-{last}")
            begin = None
        begin = n if begin is None else begin
        last = n
    return ",".join(text)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("--uncovered", action="store_true")
    p.add_argument("--least", type=float, default=90)
    args = p.parse_args()
    files = measure(os.path.abspath(args.build))
    low = 0
    for part, paths in PARTS.items():
        total = reached = 0
        for name in sorted(files):
            if not name.startswith(tuple(paths)):
                continue
            lines = files[name]
            hit = sum(n > 0 for n in lines.values())
            total += len(lines)
            reached += hit
            if lines:
                print(f"  {hit:5} of {len(lines):5} {100 * hit / len(lines):6.1f} %  {name}")
            if args.uncovered:
                print(f"        not: {ranges(n for n, times in lines.items() if not times)}")
        percent = 100 * reached / max(total, 1)
        print(f"{reached:7} of {total:5} {percent:6.1f} %  {part}")
        low += percent < args.least
    print(f"{len(PARTS) - low} passed, {low} failed")
    return 1 if low else 0


sys.exit(main())
