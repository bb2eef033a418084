#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Goal: the kill soak's oracle accepts every state that may be, and finds those that may not.
Method: two writers in turn on an ordinary directory, with a clock of the test's own; trees as they were at many
moments are states that a crash may leave. Then the same with something lost, changed, or from two moments.
"""
import copy
import os
import sys
import tempfile

sys.dont_write_bytecode = True
import oracle  # noqa: E402

CALLS = 800
WIDS = (0, 2)
SEED = "selftest"
nr = 0
failed = False


def result(good, what):
    global nr, failed
    nr += 1
    failed |= not good
    print(f"{'ok' if good else 'not ok'} {nr} - {what}")


def work(top, logs):
    """Makes the calls, a log, and trees: [(time, {writer: tree})]."""
    for name in [f"w{w}" for w in WIDS] + list(oracle.SHARED) + [oracle.BRAWL]:
        os.mkdir(f"{top}/{name}")
        os.chmod(f"{top}/{name}", 0o755)
    trees = oracle.read_tree(top, WIDS)
    bases = {w: oracle.base_of(trees[w]) for w in WIDS}
    gens = {w: oracle.Gen(w, 0, SEED, oracle.clone(bases[w])) for w in WIDS}
    doers = {w: oracle.Doer(top, gens[w]) for w in WIDS}
    files = {w: open(logs[w], "wb") for w in WIDS}
    seen, last_sync = [], 0
    for i in range(CALLS + 20):
        for w in WIDS:
            if i == CALLS:  # all is closed at the end
                files[w].write(oracle.RECORD.pack(oracle.FINISH, i, now, 0, 0))
                gens[w].finish()
            if i >= CALLS and not gens[w].queue:
                continue
            op = gens[w].next()
            now = (i * len(WIDS) + WIDS.index(w)) * 10
            files[w].write(oracle.RECORD.pack(oracle.BEGIN, i, now, 0, 0))
            doers[w].do(op)
            files[w].write(oracle.RECORD.pack(oracle.END, i, now + 5, 0, 0))
            if oracle.is_sync(gens[w], op):
                last_sync = now
            for _ in gens[w].apply(op):
                pass
        if i % 50 == 49 or i == CALLS + 19:
            seen.append((now + 5, oracle.read_tree(top, WIDS)))
    for f in files.values():
        f.close()
    return bases, seen, last_sync


def test(top):
    os.mkdir(f"{top}/fs")
    logs = {w: f"{top}/log.{w}" for w in WIDS}
    bases, seen, last_sync = work(f"{top}/fs", logs)

    def wrong(found, upto=None):
        return oracle.check(found, bases, logs, 0, SEED, upto)[0]

    bad = [b for b in (wrong(tree, at) for at, tree in seen) if b]
    result(not bad, f"{len(seen)} moments: each is what it may be" + (f": {bad[0]}" if bad else ""))
    bad = [at for at, tree in seen if at < last_sync and not wrong(tree)]
    result(len(bad) == 0, "each but the last is too old after a later fsync")
    bad = [at for at, tree in seen[5:] if not wrong(tree, seen[2][0])]
    result(not bad, "none may be from the future")
    mixes = [(a, b) for a in (0, 5, 12) for b in (3, 8, 15)]
    bad = [m for m in mixes if not wrong({WIDS[0]: seen[m[0]][1][WIDS[0]], WIDS[1]: seen[m[1]][1][WIDS[1]]},
                                         seen[max(m)][0])]
    result(not bad, f"two writers at two moments are found{f', but {bad}' if bad else ''}")

    at, last = seen[-1]

    def change(what, fn, kinds="f", of=None):
        """Every fifth name changed, one at a time."""
        missed = tried = 0
        for w in WIDS:
            names = [p for p in sorted(last[w])
                     if last[w][p].kind in kinds and "/" in p and not (of and not of(last[w][p]))]
            for path in names[::5]:
                tree = {v: dict(last[v]) for v in WIDS}
                tree[w][path] = f = copy.copy(tree[w][path])
                if fn(tree[w], path, f) is False:
                    continue
                tried += 1
                missed += not wrong(tree)
        result(tried and not missed, f"{what}: {tried} tried, {missed} missed")

    change("a name is lost", lambda t, p, f: t.pop(p) and None, "fl")
    change("a name is there twice", lambda t, p, f: t.update({p + "x": f}), "fld")
    change("a mode is another", lambda t, p, f: setattr(f, "mode", f.mode ^ 0o40))
    change("a link count is wrong", lambda t, p, f: setattr(f, "nlink", f.nlink + 1))
    change("an xattr is lost", lambda t, p, f: setattr(f, "xattrs", {}), of=lambda f: f.xattrs)
    change("an xattr is changed", lambda t, p, f: setattr(f, "xattrs", {n: v + b"!" for n, v in f.xattrs.items()}),
           of=lambda f: f.xattrs)
    change("a byte is another", lambda t, p, f: setattr(f, "data", f.data[:-1] + bytes([f.data[-1] ^ 1])),
           of=lambda f: f.data)
    change("a file has a byte too many", lambda t, p, f: setattr(f, "data", f.data + b"\0"))
    change("a file is empty", lambda t, p, f: setattr(f, "data", b""), of=lambda f: len(f.data) > 4096)
    change("a target is another", lambda t, p, f: setattr(f, "data", f.data + "t"), "l")

    node = oracle.Node("f", data=b"a" * 5000)
    node.write(4096, b"b" * 5000)
    node.write(0, b"c" * 10)
    a, b, c = b"a" * 4096, b"b" * 5000, b"c" * 10 + b"a" * 4086
    may = [a + b"a" * 904, a + b, c + b, c + b"a" * 904, a + b[:4096], c + b"a" * 904 + bytes(3192),
           a + b"a" * 904 + bytes(3192) + b[:904]]
    may_not = [a, a + b"a" * 905, b"a" * 4096 + b"c" * 904, c[:5] + a[5:] + b, a + b + b"b", b""]
    result(not any(node.data_differs(d) for d in may), "dirty pages: each may be old or new")
    result(all(node.data_differs(d) for d in may_not), "dirty pages: nothing else")
    node.settle()
    result(not node.data_differs(c + b) and node.data_differs(a + b), "and no choice after an fsync")


with tempfile.TemporaryDirectory() as where:
    test(where)
    os.chdir("/")
print(f"1..{nr}")
sys.exit(failed)
