#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks of the source itself, one meson test each.

usage: lint.py CHECK ROOT [ARG...]

Prints one "file:line: what" for each problem; exit status 0 clean, 1 problems,
77 when a tool the check needs is missing. selftest.py feeds every check
something bad and expects it to be found.
"""
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

# The layers, lowest first: one may include those before it, and itself.
LAYERS = ["util", "env", "codec", "dev", "sb", "journal", "btree", "alloc", "data",
          "snapshot", "fs", "core"]
PROGRAMS = ["fuse", "mkfs", "fsck", "cli"]
PUBLIC = "bcfs/bcfs.h"
IOCTLS = "bcfs/ioctl.h"  # what programs say to the daemon; no layer knows of it

MAX_FUNCTION_LINES = 100
MAX_FILE_LINES = 1000
CLANG_FORMAT_MAJOR = 14  # the one of Debian 12: versions differ in what they write


class Skip(Exception):
    pass


def files(root, suffixes, folders):
    """Paths relative to root of all files with one of the suffixes, sorted."""
    found = []
    for folder in folders:
        for where, dirs, names in os.walk(os.path.join(root, folder)):
            dirs[:] = [d for d in dirs if not d.startswith((".", "__pycache__"))]
            found += [os.path.relpath(os.path.join(where, n), root)
                      for n in names if n.endswith(tuple(suffixes))]
    return sorted(found)


def c_files(root, folders=None, suffixes=(".c", ".h")):
    return files(root, suffixes, folders or ["include", "src", *PROGRAMS, "tests", "bench"])


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def blank(match):
    """Keeps the line breaks of what it removes, so that line numbers stay right."""
    text = match.group(0)
    return '""' if text[0] == '"' else re.sub(r"[^\n]", " ", text)


def code_only(text):
    """C without comments and the contents of strings."""
    return re.sub(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|//[^\n]*|/\*.*?\*/', blank, text,
                  flags=re.S)


def numbered(text):
    return enumerate(text.split("\n"), 1)


# ---- format ----

def check_format(root):
    tool = shutil.which(f"clang-format-{CLANG_FORMAT_MAJOR}") or shutil.which("clang-format")
    if not tool:
        raise Skip("clang-format is not installed")
    version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout
    if f"version {CLANG_FORMAT_MAJOR}." not in version:
        raise Skip(f"clang-format {CLANG_FORMAT_MAJOR} wanted, here is: {version.strip()}")
    paths = c_files(root)
    if not paths:
        return []
    run = subprocess.run([tool, "--dry-run", "-Werror", "--style=file", *paths], cwd=root,
                         capture_output=True, text=True)
    first = {}  # the first place in each file is enough
    for m in re.finditer(r"^([^:\s]+):(\d+):\d+: error:", run.stderr, re.M):
        first.setdefault(m.group(1), m.group(2))
    bad = [f"{path}:{nr}: not formatted" for path, nr in first.items()]
    if run.returncode and not bad:
        bad = [run.stderr.strip() or "clang-format failed"]
    if bad:
        bad.append("(`./dev fmt` formats everything)")
    return bad


# ---- layers ----

def include_rank(path):
    """What a file may include: ("layer", rank), ("program",), ("format",), ("public",), ("any",)."""
    parts = path.split("/")
    if path.startswith("include/bcfs/format/"):
        return ("format",)
    if path.startswith("include/"):
        return ("public",)
    if parts[0] == "src":
        if len(parts) < 3 or parts[1] not in LAYERS:
            return ("unknown",)
        return ("layer", LAYERS.index(parts[1]))
    if parts[0] in PROGRAMS:
        return ("program", parts[0])
    if path.startswith("tests/unit/") and parts[2] in LAYERS:
        return ("unit", LAYERS.index(parts[2]))
    return ("any",)


def include_problem(root, path, kind, target):
    """Why `path` may not include "target"; None when it may."""
    first = target.split("/")[0]

    if target.startswith("bcfs/format/"):
        if kind[0] == "program":
            return f"a program includes {PUBLIC} alone"
        return None if kind[0] != "public" else "the public header stands alone"
    if target == PUBLIC:
        if kind[0] == "layer" and kind[1] < LAYERS.index("fs"):
            return "the public API lies above every layer but fs and core, which implement it"
        return "the format depends on nothing" if kind[0] == "format" else None
    if target == IOCTLS:
        return None if kind[0] in ("program", "any") else "for programs alone"
    if kind[0] == "format":
        return "the format depends on nothing"
    if kind[0] == "public":
        return "the public header stands alone"
    if first in LAYERS and "/" in target:
        if kind[0] == "program":
            return f"a program includes {PUBLIC} alone"
        if kind[0] in ("layer", "unit") and LAYERS.index(first) > kind[1]:
            return f"{LAYERS[kind[1]]}/ lies under {first}/"
        if not os.path.exists(os.path.join(root, "src", target)):
            return "no such header"
        return None
    if kind[0] == "layer":
        return 'write "layer/file.h"'
    beside = os.path.normpath(os.path.join(root, os.path.dirname(path), target))
    return None if os.path.exists(beside) else "no such header"


def check_layers(root):
    bad = []
    for path in c_files(root):
        kind = include_rank(path)
        if kind[0] == "unknown":
            bad.append(f"{path}:1: not in the folder of a layer")
            continue
        for nr, line in numbered(read(root, path)):
            m = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
            if not m:
                continue
            quote, target = m.groups()
            if "fuse" in target and quote == "<" and kind[0] in ("layer", "format", "public"):
                bad.append(f"{path}:{nr}: <{target}>: libbcfs knows nothing of FUSE")
            own = quote == '"' or target.startswith("bcfs/")
            why = include_problem(root, path, kind, target) if own else None
            if why:
                bad.append(f"{path}:{nr}: #include {target}: {why}")
    return bad


# ---- headers ----

def check_headers(root, *cc):
    """Every header compiles alone, and twice; the public one without extensions too."""
    cc = list(cc) or ["cc"]
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-Wall", "-Wextra",
             "-Werror", "-Wno-unused-parameter", "-Wno-sign-compare", "-Wno-unused-function",
             "-Wno-missing-field-initializers", "-Iinclude", "-Isrc"]
    pkg = subprocess.run(["pkg-config", "--cflags", "fuse3"], capture_output=True, text=True)
    flags += shlex.split(pkg.stdout)

    def compile_one(job):
        path, opts = job
        text = f'#include "{path}"\n#include "{path}"\n'
        run = subprocess.run([*cc, *opts, "-fsyntax-only", "-I.", "-x", "c", "-"], cwd=root,
                             input=text, capture_output=True, text=True)
        return (run.stderr.strip() or f"{path}:1: does not compile") if run.returncode else None

    jobs = [(path, flags) for path in c_files(root, suffixes=(".h",))]
    if os.path.exists(os.path.join(root, "include", PUBLIC)):
        jobs.append((f"include/{PUBLIC}",
                     ["-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Iinclude"]))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [text for text in pool.map(compile_one, jobs) if text]


# ---- the outside world only through env and dev ----

# Which of these a layer may call: env everything, dev what DEV_MAY lists, util memory. (The
# simulated device's own memory is not the filesystem's, and may not fail when that is to fail.)
DEV_MAY = ("threads and locks are env's", "I/O is dev's", "memory is env's")
UTIL_MAY = ("memory is env's",)
FORBIDDEN_CALLS = {
    "the clock is env's": "clock_gettime gettimeofday time clock times timespec_get ftime",
    "sleeping is env's": "sleep usleep nanosleep clock_nanosleep",
    "randomness is env's": "rand rand_r srand random srandom drand48 lrand48 mrand48 getrandom "
                           "getentropy arc4random arc4random_buf arc4random_uniform "
                           "uuid_generate uuid_generate_random uuid_generate_time randombytes "
                           r"randombytes_\w+",
    "memory is env's": "malloc calloc realloc reallocarray aligned_alloc posix_memalign strdup "
                       "strndup asprintf vasprintf",
    "threads and locks are env's": r"pthread_\w+ thrd_\w+ mtx_\w+ cnd_\w+ sem_\w+ fork vfork "
                                   r"clone syscall",
    "I/O is dev's": r"open openat open64 creat read write pread pwrite pread64 pwrite64 readv "
                    r"writev preadv pwritev preadv2 pwritev2 fsync fdatasync sync_file_range "
                    r"fallocate ftruncate ioctl mmap fopen fdopen lseek io_uring_\w+",
}
FORBIDDEN_INCLUDES = r"pthread\.h|threads\.h|semaphore\.h|liburing\.h|sys/random\.h|sys/mman\.h"


def check_env(root):
    """No layer reaches round env/ and dev/ to libc."""
    bad = []
    calls = [(why, re.compile(rf"(?<![\w.>])({'|'.join(names.split())})\s*\("))
             for why, names in FORBIDDEN_CALLS.items()]
    kinds = re.compile(r"\b(pthread_\w*_t|struct io_uring)\b")
    for path in c_files(root, [f"src/{l}" for l in LAYERS if l != "env"]):
        layer = path.split("/")[1]
        may = {"dev": DEV_MAY, "util": UTIL_MAY}.get(layer, ())
        text = read(root, path)
        for nr, line in numbered(text):
            m = re.match(rf"\s*#\s*include\s*<({FORBIDDEN_INCLUDES})>", line)
            if m and layer != "dev":
                bad.append(f"{path}:{nr}: <{m.group(1)}> belongs to env/ and dev/")
        for nr, line in numbered(code_only(text)):
            for why, pattern in calls:
                if why not in may:
                    bad += [f"{path}:{nr}: {m.group(1)}(): {why}" for m in pattern.finditer(line)]
            if layer != "dev":
                bad += [f"{path}:{nr}: {m.group(1)}: belongs to env/ and dev/"
                        for m in kinds.finditer(line)]
    return bad


# ---- SPDX lines ----

def check_spdx(root):
    want = "SPDX-License-Identifier: LGPL-2.1-or-later"
    paths = c_files(root) + files(root, (".py", ".sh", "meson.build"),
                                  ["src", *PROGRAMS, "man", "tests", "bench"])
    paths += [p for p in ("meson.build", "dev", ".ci/run") if os.path.exists(os.path.join(root, p))]
    return [f"{p}:1: no line \"{want}\" among the first three"
            for p in paths if want not in "\n".join(read(root, p).split("\n")[:3])]


# ---- what libbcfs.so and libbcfs.a export, and what is not in them ----

def check_exports(root, *libraries):
    return [line for library in libraries for line in check_library(root, library)]


def planted_code(library):
    """Of the planted bugs nothing is in a library that is installed."""
    run = subprocess.run(["nm", library], capture_output=True, text=True)
    names = {line.split()[-1] for line in run.stdout.splitlines() if line.split()}
    return [f"{library}: has {n}" for n in sorted(names) if n.startswith("planted_")]


def check_library(root, library):
    table = "-g" if library.endswith(".a") else "-D"
    run = subprocess.run(["nm", table, "--defined-only", library], capture_output=True, text=True)
    if run.returncode:
        return [run.stderr.strip()]
    symbols = [words for words in map(str.split, run.stdout.splitlines()) if len(words) > 1]
    names = {s[-1].split("@")[0] for s in symbols if s[-2] != "A"}
    bad = [f"{library}: exports {n}" for n in sorted(names) if not n.startswith("bcfs_")]
    bad += planted_code(library)
    core = c_files(root, ["src/core"], (".c",))
    if not names and any(f'#include "{PUBLIC}"' in read(root, path) for path in core):
        bad.append(f"{library}: exports nothing: are the functions marked as visible?")
    return bad


# ---- planted bugs ----

def check_planted(root):
    """Every row of the table has one place in src/, every place a row."""
    table, bad, places = "src/util/planted.def", [], {}
    rows = {}
    for nr, line in numbered(read(root, table)):
        m = re.match(r"x\((\w*), *(\w*), *(\d*)", line)
        if not m:
            continue
        name, layer, invariant = m.groups()
        if name in rows:
            bad.append(f"{table}:{nr}: {name} is there twice")
        if layer not in LAYERS or not invariant or int(invariant) > 11:
            bad.append(f"{table}:{nr}: {name}: no such layer or invariant")
        rows[name] = nr
    for path in c_files(root, ["src"]):
        if path.startswith("src/util/planted."):
            continue
        for nr, line in numbered(code_only(read(root, path))):
            for m in re.finditer(r"\bplanted\((\w+)\)", line):
                if m.group(1) not in rows:
                    bad.append(f"{path}:{nr}: planted({m.group(1)}) has no row in {table}")
                places.setdefault(m.group(1), []).append(f"{path}:{nr}")
    for name, nr in rows.items():
        if name not in places:
            bad.append(f"{table}:{nr}: {name} is planted nowhere")
        elif len(places[name]) > 1:
            bad.append(f"{places[name][1]}: {name} is planted a second time")
    return bad


# ---- words ----

def check_words(root):
    pattern = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    bad = []
    for path in c_files(root, ["include", "src", *PROGRAMS]):
        for nr, line in numbered(read(root, path)):
            m = pattern.search(line)
            if m:
                bad.append(f"{path}:{nr}: {m.group(1)}: finish it, or leave it out")
    return bad


# ---- sizes ----

def check_sizes(root):
    """Functions and files that have outgrown a reader's screen."""
    bad = []
    for path in c_files(root):
        lines = read(root, path).split("\n")
        if len(lines) - 1 > MAX_FILE_LINES:
            bad.append(f"{path}:1: {len(lines) - 1} lines, at most {MAX_FILE_LINES}")
        start = None
        for nr, line in enumerate(lines, 1):
            if line == "{":  # the format puts a function's braces, and no other, here
                start = nr
            elif line == "}" and start:
                if nr - start - 1 > MAX_FUNCTION_LINES:
                    bad.append(f"{path}:{start}: a function of {nr - start - 1} lines, "
                               f"at most {MAX_FUNCTION_LINES}")
                start = None
    return bad


CHECKS = {
    "format": check_format,
    "layers": check_layers,
    "headers": check_headers,
    "env": check_env,
    "spdx": check_spdx,
    "exports": check_exports,
    "planted": check_planted,
    "words": check_words,
    "sizes": check_sizes,
}


def main():
    check = CHECKS.get(sys.argv[1]) if len(sys.argv) > 2 else None
    if not check:
        print(f"usage: lint.py {'|'.join(CHECKS)} ROOT [ARG...]", file=sys.stderr)
        return 2
    try:
        bad = check(*sys.argv[2:])
    except Skip as why:
        print(f"skipped: {why}")
        return 77
    for line in bad:
        print(line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
