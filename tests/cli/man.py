#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The man pages say what the programs' help says, and are well-formed.

Goal: a page cannot drift from its program. Method: every option in the help
text must be an item of the page and the other way round, mount options of
bcfs-fuse and commands of bcfs included; mandoc's lint and `man -l` must be silent.
usage: man.py MANDIR PROGRAM...   (prints TAP)
"""
import os
import re
import shutil
import subprocess
import sys

nr = 0
failed = False


def ok(good, what, details=()):
    global nr, failed
    nr += 1
    failed |= not good
    print(f"{'ok' if good else 'not ok'} {nr} - {what}")
    for line in details:
        print(f"# {line}")


def run(*args):
    done = subprocess.run(args, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout


def items(page):
    """Options, mount options and commands that the page's lists have."""
    found = set()
    for line in page.split("\n"):
        if not line.startswith(".It "):
            continue
        words = line.split()[1:]
        if words[0] == "Fl":
            flags = re.split(r" Ar | Op ", " ".join(words) + " ")[0]
            found |= {"-" + f for f in re.findall(r"[^\s,]+", flags) if f != "Fl"}
            found |= {"-" + f for f in re.findall(r"Fl (\S+)", " ".join(words))}
        elif words[0] == "Cm":
            found.add(words[1])
        elif words[0] == "Ic":
            found.add(" ".join(re.match(r"Ic ((?:[a-z-]+ ?)+)", " ".join(words)).group(1).split()))
    return found


def options(text):
    """Options at the start of the lines of a help text."""
    found = set()
    for line in text.split("\n"):
        m = re.match(r"\s{2,6}(-{1,2}[A-Za-z][\w-]*(?:, -{1,2}[A-Za-z][\w-]*)*)", line)
        if m:
            found |= set(m.group(1).split(", "))
    return found


def of_fuse(text):
    """Mount options too."""
    text, _, mount = text.partition("mount options:\n")
    return options(text) | set(re.findall(r"^  ([a-z_0-9][a-z_0-9-]*)", mount, re.M))


def of_bcfs(program, text):
    """Commands, and their options."""
    commands = re.findall(r"^  ([a-z-]+(?: [a-z]+)?)", text, re.M)
    found = set(commands)
    for command in commands:
        if command not in ("help", "version"):
            found |= options(run(program, *command.split(), "-h")[1])
    return found


def compare(man_dir, program):
    name = os.path.basename(program)
    with open(os.path.join(man_dir, name + ".8"), encoding="utf-8") as f:
        in_page = items(f.read())
    code, text = run(program, "--help")
    if name == "bcfs-fuse":
        in_help = of_fuse(text)
    elif name == "bcfs":
        in_help = of_bcfs(program, text)
    else:
        in_help = options(text)
    ok(code == 0 and len(in_help) > 5, f"{name} --help")
    ok(in_help <= in_page, f"{name}: what --help has is in the page", sorted(in_help - in_page))
    ok(in_page <= in_help, f"{name}: what the page has is in --help", sorted(in_page - in_help))


def main():
    man_dir, programs = sys.argv[1], sys.argv[2:]
    for program in programs:
        compare(man_dir, program)
    for page in sorted(os.listdir(man_dir)):
        if not page.endswith((".5", ".8")):
            continue
        if not shutil.which("mandoc"):
            print(f"# SKIP {page}: mandoc is not installed")
            continue
        _, text = run("mandoc", "-Tlint", os.path.join(man_dir, page))
        # Whether other pages are installed is no property of this one.
        bad = [l for l in text.split("\n") if l and "referenced manual not found" not in l]
        ok(not bad, f"{page}: lint", bad)
        if shutil.which("man") and shutil.which("groff"):
            done = subprocess.run(
                ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
                cwd=man_dir, env=dict(os.environ, LC_ALL="C.UTF-8", MANROFFSEQ="", MANWIDTH="80"),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True)
            ok(not done.stderr, f"{page}: man -l", done.stderr.splitlines())
    print(f"1..{nr}")
    return 1 if failed else 0


sys.exit(main())
