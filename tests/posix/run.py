#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs posix-calls on ext4, on bcfs, and on a pass-through over ext4, and compares.

usage: run.py POSIX-CALLS PASSTHROUGH [--write] [--only TEXT] [--made OPTIONS] [--mounted OPTIONS]

One TAP line a case. It passes if bcfs answers as ext4 does, or if the difference
is in differences.txt, as it is there, with a reason that holds:

  kernel FUSE...   the pass-through answered as bcfs did, in this run
  kernel: FUNCTION the kernel function that refuses, for what no FUSE daemon is
                   asked about
  more: ...        bcfs can do what ext4 cannot

bcfs runs a second time, with options that are as far from the defaults as they
can be (OTHER_MADE, OTHER_MOUNTED; by hand: --made, --mounted). Those answers are
to be ext4's or bcfs's with default options, or "other:" of differences.txt.

What is in differences.txt and no longer seen fails as well. The result is
doc/posix.md, which --write writes; without, it is compared (on the kernel that
the document names: others may answer otherwise).
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("BCFS_BUILD", os.path.join(ROOT, "build"))
DOC = os.path.join(ROOT, "doc", "posix.md")
KERNEL = ".".join(os.uname().release.split(".")[:2])

SIZE = 1 << 30
SMALL = 32 << 20

# The second run of bcfs: nothing is kept as it was written, and nothing in the kernel.
OTHER_MADE = "--compression zstd --encrypt --kdf-passes 1 --kdf-memory 8K --inline-max 0"
OTHER_MOUNTED = ("writeback=off,open=on,keep_cache=off,readdirplus=off,attr_timeout=0,entry_timeout=0,"
                 "negative_timeout=0")
PHASES = ("main", "more", "links", "before", "after", "ro", "full")


def skip(why):
    print("1..0 # SKIP " + why)
    sys.exit(0)


def sh(*args, check=True, env=None):
    done = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, env=env)
    if check and done.returncode:
        raise RuntimeError("%s: status %d: %s" % (" ".join(args), done.returncode, done.stdout))
    return done.returncode


class Ext4:
    name = "ext4"
    phases = PHASES

    def __init__(self, top, size, tag):
        self.image = os.path.join(top, "ext4-%s.img" % tag)
        self.mnt = os.path.join(top, "ext4-" + tag)
        os.mkdir(self.mnt)
        os.truncate(os.open(self.image, os.O_CREAT | os.O_RDWR), size)
        sh("mkfs.ext4", "-q", "-b", "4096", "-I", "256", "-m", "0", self.image)

    def mount(self, ro=False):
        sh("mount", "-t", "ext4", "-o", "loop" + (",ro" if ro else ""), self.image, self.mnt)
        return self.mnt

    def umount(self):
        unmount(self.mnt)

    def check(self):
        pass


class Bcfs:
    name = "bcfs"
    phases = PHASES
    made, mounted = [], ""

    def __init__(self, top, size, tag):
        self.image = os.path.join(top, "%s-%s.img" % (self.name, tag))
        self.mnt = os.path.join(top, "%s-%s" % (self.name, tag))
        os.mkdir(self.mnt)
        self.run("mkfs/mkfs.bcfs", "-q", "--size", str(size), *self.made, self.image)

    def run(self, program, *args):
        env = dict(os.environ)
        env.pop("BCFS_PASSPHRASE", None)
        if "--encrypt" in self.made:
            env["BCFS_PASSPHRASE"] = "posix"
        sh(os.path.join(BUILD, program), *args, env=env)

    def mount(self, ro=False):
        opts = ",".join(o for o in (self.mounted, "ro" if ro else "") if o)
        self.run("fuse/bcfs-fuse", *(("-o", opts) if opts else ()), self.image, self.mnt)
        return self.mnt

    def umount(self):
        unmount(self.mnt)

    def check(self):
        self.run("fsck/fsck.bcfs", "-n", self.image)


class Other(Bcfs):
    name = "other"
    phases = tuple(p for p in PHASES if p != "links")  # which takes long, and no option matters
    made, mounted = OTHER_MADE.split(), OTHER_MOUNTED


class Passthrough:
    name = "pass"
    phases = Other.phases  # it keeps all files open

    def __init__(self, top, size, tag):
        self.under = Ext4(top, size, "under-" + tag)
        self.under.mount()
        self.mnt = os.path.join(top, "pass-" + tag)
        os.mkdir(self.mnt)

    def mount(self, ro=False):
        sh(PASSTHROUGH, *(("-o", "ro") if ro else ()), self.under.mnt, self.mnt)
        return self.mnt

    def umount(self):
        unmount(self.mnt)

    def check(self):
        for _ in range(50):  # the daemon may still hold descriptors in it
            if not sh("umount", self.under.mnt, check=False):
                return
            time.sleep(0.1)


def unmount(mnt):
    for _ in range(50):
        if not sh("umount", mnt, check=False):
            return
        time.sleep(0.1)
    sh("umount", mnt)


def run_phase(phase, mnt, only, into):
    done = subprocess.run([CALLS, phase, mnt] + ([only] if only else []), cwd="/",
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="backslashreplace")
    for line in done.stdout.splitlines():
        name, sep, saw = line.partition(" => ")
        if not sep:
            raise RuntimeError("posix-calls %s: %s" % (phase, line))
        if name in into:
            raise RuntimeError("two cases have the name " + name)
        into[name] = saw
    if done.returncode:
        raise RuntimeError("posix-calls %s: status %d" % (phase, done.returncode))


def run_all(kind, top, only, into, errors):
    try:
        fs = kind(top, SIZE, "main")
        mnt = fs.mount()
        run_phase("main", mnt, only, into)
        fs.umount()
        mnt = fs.mount()
        run_phase("more", mnt, only, into)
        if "links" in kind.phases:
            run_phase("links", mnt, only, into)
        run_phase("before", mnt, only, into)
        fs.umount()
        run_phase("after", fs.mount(), only, into)
        fs.umount()
        run_phase("ro", fs.mount(ro=True), only, into)
        fs.umount()
        fs.check()
        fs = kind(top, SMALL, "full")
        run_phase("full", fs.mount(), only, into)
        fs.umount()
        fs.check()
    except Exception as error:  # pylint: disable=broad-except
        errors.append("%s: %s" % (kind.name, error))


def read_differences():
    """[(section, {case, ext4, bcfs, why} and perhaps other)], in order."""
    ret, section, block = [], "", {}
    with open(os.path.join(HERE, "differences.txt"), encoding="utf-8") as f:
        lines = f.read().splitlines() + [""]
    for line in lines:
        if line.startswith("== "):
            section = line[3:].strip()
        elif line.startswith("#"):
            continue
        elif not line.strip():
            if block:
                ret.append((section, block))
            block = {}
        elif line.startswith(" "):
            block["why"] += " " + line.strip()
        else:
            key, _, value = line.partition(":")
            block[key] = value.strip()
    return ret


def read_left_out():
    """[(errno, its calls or nothing, why)]"""
    with open(os.path.join(HERE, "left_out.txt"), encoding="utf-8") as f:
        lines = [line.strip() for line in f if line.strip() and not line.startswith("#")]
    return [(head.partition(" ")[0], head.partition(" ")[2], why.strip())
            for head, _, why in (line.partition(":") for line in lines)]


def reason_holds(why, bcfs, passed):
    if why.startswith("kernel FUSE"):
        return None if passed == bcfs else "the pass-through answers %r" % passed
    if re.match(r"kernel: [a-z_0-9]+\(\)", why) or why.startswith("more: "):
        return None
    return "no reason: %r" % why


def errno_seen(name, saw):
    want = name.split(": ")[1]
    return want == "ok" or want in re.findall(r"\w+", saw)


def other_problem(saw, name, d, other_kernel):
    """Of the second run of bcfs; None: as it should be."""
    if name not in saw["other"]:
        return "not run with other options" if name in saw["pass"] else None
    other = saw["other"][name]
    by_hand = (Other.made, Other.mounted) != (OTHER_MADE.split(), OTHER_MOUNTED)
    if d and "other" in d:
        if other == d["other"] or other_kernel:
            return None
        if not by_hand:
            return "explained otherwise: with other options %r" % other
    if other in (saw["ext4"][name], saw["bcfs"].get(name)) or \
       (other_kernel and other == saw["pass"].get(name)):
        return None
    return "unexplained: with other options %r" % other


def compare(saw, differences, other_kernel):
    """[(name, problem or None)]"""
    known = {d["case"]: d for _, d in differences}
    ret = []
    for name, ext4 in saw["ext4"].items():
        bcfs, passed = saw["bcfs"].get(name, "(not run)"), saw["pass"].get(name, "(not run)")
        d = known.get(name)
        problem = None
        if not errno_seen(name, ext4):
            problem = "the name is wrong: ext4 answers %r" % ext4
        elif ext4 == bcfs:
            if d and not ("other" in d and d["ext4"] == d["bcfs"] == bcfs) and not other_kernel:
                problem = "explained as different, and is not: %r" % bcfs
        elif other_kernel and passed == bcfs:
            pass
        elif not d:
            problem = "unexplained: ext4 %r, bcfs %r, pass-through %r" % (ext4, bcfs, passed)
        elif (d["ext4"], d["bcfs"]) != (ext4, bcfs):
            problem = "explained otherwise: ext4 %r, bcfs %r" % (ext4, bcfs)
        else:
            problem = reason_holds(d["why"], bcfs, passed)
        ret.append((name, problem or other_problem(saw, name, d, other_kernel)))
    for name in known:
        if name not in saw["ext4"]:
            ret.append((name, "explained, but there is no such case"))
    return ret


def cell(text):
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def document(saw, differences):
    calls = {}
    for name, ext4 in saw["ext4"].items():
        call, error, what = name.split(": ", 2)
        bcfs = saw["bcfs"][name]
        calls.setdefault(call, []).append((error, what, ext4, "=" if bcfs == ext4 else bcfs))
    out = [
        "# System calls: bcfs beside ext4", "",
        "Written by tests/posix/run.py, which runs each case on both in one run, on Linux %s,"
        % KERNEL,
        "and fails when this file is not what it saw. bcfs is mounted by root with default",
        "options, ext4 is made with 4 KiB blocks. %d cases of %d calls; %d differ, and why is said"
        % (len(saw["ext4"]), len(calls), sum(d["ext4"] != d["bcfs"] for _, d in differences)),
        "first. \"kernel FUSE\" means that a pass-through over ext4 (tests/posix/passthrough.c)",
        "answers the same in the same run; the others name the kernel function that refuses, or",
        "are things that bcfs can do and ext4 cannot.", "",
        "## Differences", ""]
    section = None
    for title, d in differences:
        if d["ext4"] == d["bcfs"]:
            continue
        if title != section:
            out += ["### " + title, "", "| case | ext4 | bcfs | why |", "| --- | --- | --- | --- |"]
            section = title
        out.append("| %s |" % " | ".join(cell(d[k]) for k in ("case", "ext4", "bcfs", "why")))
    out += ["", "## With other options", "",
            "A second bcfs in the same run, made with `%s`" % OTHER_MADE,
            "and mounted with `%s`," % OTHER_MOUNTED,
            "answers as one of the two, but for:", "",
            "| case | ext4 | bcfs | with other options | why |", "| --- | --- | --- | --- | --- |"]
    out += ["| %s |" % " | ".join(cell(d[k]) for k in ("case", "ext4", "bcfs", "other", "why"))
            for _, d in differences if "other" in d]
    out += ["", "## Left out", "",
            "What else the manual pages list (tests/posix/manual.py holds them against the rows), and why",
            "no case has it:", "", "| errno | of | why |", "| --- | --- | --- |"]
    out += ["| %s | %s | %s |" % (error, cell(pages) or "any", cell(why))
            for error, pages, why in read_left_out()]
    out += ["", "## All cases", "",
            "The result of each call is `ok`, a number or an errno; behind it, what was looked at",
            "then: mode, links, owner and size of a file, its content (`a*100`: a hundred times a;",
            "0: zero bytes), which of its times changed (a, m, c). `=`: the same as ext4.", ""]
    for call in sorted(calls):
        out += ["### " + call, "", "| errno | condition | ext4 | bcfs |", "| --- | --- | --- | --- |"]
        out += ["| %s |" % " | ".join(cell(c) for c in row) for row in calls[call]]
        out.append("")
    return re.sub(r"\n+(###? )", r"\n\n\1", "\n".join(out))


def document_kernel():
    try:
        with open(DOC, encoding="utf-8") as f:
            found = re.search(r"on Linux ([0-9.]+),", f.read())
    except FileNotFoundError:
        return None
    return found and found.group(1)


def check_document(text):
    try:
        with open(DOC, encoding="utf-8") as f:
            was = f.read()
    except FileNotFoundError:
        was = ""
    if was == text:
        return None
    for a, b in zip(was.splitlines() + [""], text.splitlines() + [""]):
        if a != b:
            return "doc/posix.md says %r, this run %r: run.py --write" % (a, b)
    return "doc/posix.md is not what this run says: run.py --write"


def clean(top):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        mounts = [line.split()[4] for line in f]
    for mnt in reversed(mounts):
        if mnt.startswith(top + "/"):
            sh("umount", "-l", mnt, check=False)
    shutil.rmtree(top, ignore_errors=True)


def parse_args():
    args, write, only = [], False, None
    rest = iter(sys.argv[1:])
    for a in rest:
        if a == "--write":
            write = True
        elif a == "--only":
            only = next(rest)
        elif a == "--made":
            Other.made = next(rest).split()
        elif a == "--mounted":
            Other.mounted = next(rest)
        else:
            args.append(a)
    if len(args) != 2:
        sys.exit(__doc__)
    return os.path.realpath(args[0]), os.path.realpath(args[1]), write, only


def check_needs():
    if os.geteuid():
        skip("needs root")
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(path):
            skip("no " + path)
    if not shutil.which("mkfs.ext4"):
        skip("no mkfs.ext4")
    # A loop device that can be made and an ext4 in the kernel, shown by doing it.
    with tempfile.TemporaryDirectory() as d:
        fs = Ext4(d, 8 << 20, "probe")
        if sh("mount", "-t", "ext4", "-o", "loop", fs.image, fs.mnt, check=False):
            skip("ext4 cannot be mounted from an image here")
        fs.umount()


def report(results, saw, differences, other_kernel, write, only):
    failed = 0
    if not only:
        text = document(saw, differences)
        if write:
            with open(DOC, "w", encoding="utf-8") as f:
                f.write(text)
        if not other_kernel:
            results.append(("doc/posix.md says what was seen", check_document(text)))
    for nr, (name, problem) in enumerate(results, 1):
        print("%s %d - %s" % ("not ok" if problem else "ok", nr, name.replace("#", "\\#")))
        if problem:
            print("# " + problem)
            failed += 1
    print("1..%d" % len(results))
    return 1 if failed else 0


def main():
    global CALLS, PASSTHROUGH
    CALLS, PASSTHROUGH, write, only = parse_args()
    check_needs()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    was_on = document_kernel()
    other_kernel = bool(was_on) and was_on != KERNEL and not write
    top = os.path.realpath(tempfile.mkdtemp(prefix="bcfs-posix."))
    os.chmod(top, 0o755)
    errors, saw, threads = [], {}, []
    try:
        for kind in (Ext4, Bcfs, Passthrough, Other):
            saw[kind.name] = {}
            threads.append(threading.Thread(target=run_all, daemon=True,
                                            args=(kind, top, only, saw[kind.name], errors)))
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        clean(top)
    if errors:
        for e in errors:
            print("# " + e.replace("\n", "\n# "))
        print("Bail out! a filesystem could not be run")
        return 1
    differences = read_differences()
    results = compare(saw, [d for d in differences if not only or only in d[1]["case"]],
                      other_kernel)
    return report(results, saw, differences, other_kernel, write, only)


if __name__ == "__main__":
    sys.exit(main())
