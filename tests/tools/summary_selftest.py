#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Goal: the closing line never calls a bad run good. Method: summary.py on made-up meson logs."""
import json
import os
import subprocess
import sys
import tempfile

SUMMARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "summary.py")


def test(result, stdout="", code=0):
    return {"name": "t", "result": result, "stdout": stdout, "stderr": "", "returncode": code,
            "duration": 0.1}


# (what, tests, closing line, exit status)
CASES = [
    ("plain tests", [test("OK"), test("FAIL", code=1), test("SKIP", code=77)],
     "1 passed, 1 failed, 1 skipped", 1),
    ("all passed", [test("OK"), test("OK")], "2 passed, 0 failed", 0),
    ("subtests", [test("OK", "TAP version 13\n1..3\nok 1 - a\nok 2 - b\nok 3 - c # SKIP no\n")],
     "2 passed, 0 failed, 1 skipped", 0),
    ("failed subtest", [test("FAIL", "1..2\nok 1 a\nnot ok 2 b\n")], "1 passed, 1 failed", 1),
    ("expected failure", [test("OK", "1..2\nok 1\nnot ok 2 b # TODO known\n")],
     "2 passed, 0 failed", 0),
    ("crash between subtests", [test("ERROR", "1..5\nok 1\nok 2\n", -11)],
     "2 passed, 1 failed", 1),
    ("crash before the first", [test("ERROR", "", -6)], "0 passed, 1 failed", 1),
    ("timeout", [test("TIMEOUT", "1..2\nok 1\n", -9)], "1 passed, 1 failed", 1),
    ("interrupted", [test("INTERRUPT")], "0 passed, 1 failed", 1),
    ("unexpected pass", [test("UNEXPECTEDPASS")], "0 passed, 1 failed", 1),
    ("ok in ordinary output", [test("OK", "ok then\nnot ok at all\n")], "1 passed, 0 failed", 0),
    ("skipped whole", [test("SKIP", "1..0 # SKIP nothing here\n")],
     "0 passed, 0 failed, 1 skipped", 0),
    ("nothing ran", [], "0 passed, 0 failed", 1),
    ("no log", None, "0 passed, 0 failed", 1),
]


def run(tests):
    with tempfile.TemporaryDirectory() as where:
        path = os.path.join(where, "testlog.json")
        if tests is not None:
            with open(path, "w", encoding="utf-8") as log:
                log.writelines(json.dumps(t) + "\n" for t in tests)
        done = subprocess.run([sys.executable, SUMMARY, path], capture_output=True, text=True)
        return (done.stdout.splitlines() or [""])[-1], done.returncode


failed = 0
print(f"1..{len(CASES)}")
for nr, (what, tests, line, status) in enumerate(CASES, 1):
    got = run(tests)
    ok = got == (line, status)
    failed += not ok
    print(f"{'ok' if ok else 'not ok'} {nr} {what}" + ("" if ok else f"\n# {got}"))
sys.exit(1 if failed else 0)
