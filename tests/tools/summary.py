#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sums up a run of `meson test`.

usage: summary.py BUILD/meson-logs/testlog.json

Prints the output of each failing test, then one line, "N passed, N failed"
(and ", N skipped" when there are any). A test that speaks TAP counts once per
subtest, any other once. Exit status 1 when something failed or nothing ran.
"""
import json
import re
import sys

TAP_LINE = re.compile(r"^(not )?ok\b[ \t]*\d*[^#\n]*(?:#[ \t]*(\w+))?", re.M)
TAP_PLAN = re.compile(r"^1\.\.(\d+)", re.M)
LOG_LINES = 120
GOOD = ("OK", "EXPECTEDFAIL", "SKIP", "IGNORED")


def count_tap(text):
    """(passed, failed, skipped) of a TAP stream."""
    passed = failed = skipped = 0
    for bad, directive in TAP_LINE.findall(text):
        if directive.lower().startswith("skip"):
            skipped += 1
        elif bad and directive.lower() != "todo":
            failed += 1
        else:
            passed += 1
    return passed, failed, skipped


def count_test(test):
    out = test.get("stdout") or ""
    result = test["result"]
    if TAP_PLAN.search(out):
        passed, failed, skipped = count_tap(out)
        if result not in GOOD and not failed:
            failed = 1  # timed out, crashed, or stopped short of its plan
        if result == "SKIP" and not passed + failed + skipped:
            skipped = 1
        return passed, failed, skipped
    if result == "SKIP":
        return 0, 0, 1
    return (1, 0, 0) if result in GOOD else (0, 1, 0)


def failures(lines):
    """The lines of subtests that failed, each with the comments behind it."""
    ret, keep = [], False
    for line in lines:
        keep = line.startswith("not ok") or (keep and line.startswith("#"))
        if keep:
            ret.append(line)
    return ret


def show_log(test):
    lines = []
    for stream in ("stdout", "stderr"):
        lines += (test.get(stream) or "").splitlines()
    print(f"---- {test['name']}: {test['result']}, exit status {test.get('returncode')}, "
          f"{test.get('duration', 0):.1f} s")
    if len(lines) > LOG_LINES:
        # what failed first and why, then how it ended
        bad = failures(lines[:-LOG_LINES])
        print("\n".join(bad[:60] + [f"... ({len(lines) - LOG_LINES} lines cut)"]))
    print("\n".join(lines[-LOG_LINES:]))


def main():
    try:
        with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
            tests = [json.loads(line) for line in log if line.strip()]
    except OSError:
        tests = []

    totals = [0, 0, 0]
    for test in tests:
        counts = count_test(test)
        totals = [a + b for a, b in zip(totals, counts)]
        if counts[1]:
            show_log(test)

    passed, failed, skipped = totals
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not (passed or skipped) else 0


sys.exit(main())
