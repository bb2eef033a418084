# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a writer does, and what may be there of it after a crash.

Each writer calls one system call after the other on names of its own, in directories of its own and in
shared ones. What it calls follows from a seed and from what it has done (Gen), so that a log of the
moments when calls began and ended is all that is needed to know what it did.

After a crash the filesystem is what it was at one moment T. For each writer that is a *position* in its
sequence of calls; positions() finds, from the tree alone, all positions it may be. A call on names is
atomic: its position is before or after. Data enter the filesystem between the write(2) and the fsync or
close that returned: until then each page of the file is any of those it has been since the last such
call (Node.versions). moment() then asks for one T: a position for each writer, such that

  - what an fsync that returned has covered is there: all calls, of any writer, that had ended
    when it began, and the file's own data;
  - if a call is there, so is every call, of any writer, that had ended when it began;
  - no call is there that began later than the crash.
"""
import ctypes
import errno
import mmap
import os
import random
import stat
import struct

PAGE = 4096
SHARED = ("s0", "s1")
BRAWL = "brawl"
PROFILES = ("mixed", "names", "syncs", "data", "saves")

libc = ctypes.CDLL(None, use_errno=True)


class Node:
    """A file, directory or symbolic link. A file's versions: see above; the last is what readers see."""

    __slots__ = ("kind", "mode", "target", "xattrs", "versions", "loose", "paths", "slots", "subdirs")

    def __init__(self, kind, mode=0, target=None, data=b"", xattrs=None):
        self.kind = kind
        self.mode = mode
        self.target = target
        self.xattrs = xattrs or {}
        self.versions = [data]
        self.loose = False  # written through a mapping: within a page bytes may differ in age
        self.paths = {}  # an ordered set
        self.slots = 0
        self.subdirs = 0

    @property
    def clean(self):
        return len(self.versions) == 1

    def data(self):
        return self.versions[-1]

    def write(self, off, data):
        old = self.versions[-1]
        self.versions.append(old[:off].ljust(off, b"\0") + data + old[off + len(data):])

    def settle(self):
        self.versions = [self.versions[-1]]
        self.loose = False

    def every_version(self, fn):
        new = []
        for v in self.versions:
            v = fn(v)
            if v not in new:
                new.append(v)
        # what readers see stays the last
        last = fn(self.versions[-1])
        new.remove(last)
        self.versions = new + [last]

    def data_differs(self, got):
        """None, or in which way what was found cannot be."""
        if got == self.versions[-1] or got in self.versions:
            return None
        if self.clean:
            want = self.versions[0]
            if len(got) != len(want):
                return f"{len(got)} bytes, not {len(want)}"
            at = next(i for i in range(len(got)) if got[i] != want[i])
            return f"differs from byte {at} of {len(got)} on"
        sizes = [len(v) for v in self.versions]
        if not min(sizes) <= len(got) <= max(sizes) or (len(got) % PAGE and len(got) not in sizes):
            return f"{len(got)} bytes, not one of {sorted(set(sizes))}"
        for at in range(0, len(got), PAGE):
            page = got[at:at + PAGE]
            may = [v[at:at + len(page)].ljust(len(page), b"\0") for v in self.versions]
            if at >= min(sizes):
                may.append(bytes(len(page)))
            if page in may:
                continue
            if self.loose and all(c in {m[i] for m in may} for i, c in enumerate(page)):
                continue
            return f"page at {at} is none of the {len(may)} that it was"
        return None


class Found:
    """One name in a tree that was read."""

    __slots__ = ("kind", "mode", "nlink", "ino", "size", "data", "xattrs")


def read_tree(mnt, wids):
    """{writer: {path: Found}} of a mounted filesystem."""
    trees = {w: {} for w in wids}

    def add(w, path):
        full = os.path.join(mnt, path)
        st = os.lstat(full)
        f = Found()
        f.mode, f.nlink, f.ino, f.size, f.xattrs = stat.S_IMODE(st.st_mode), st.st_nlink, st.st_ino, st.st_size, {}
        trees[w][path] = f
        if stat.S_ISDIR(st.st_mode):
            f.kind, f.data = "d", None
            for name in os.listdir(full):
                add(w, f"{path}/{name}")
        elif stat.S_ISLNK(st.st_mode):
            f.kind, f.data = "l", os.readlink(full)
        else:
            f.kind = "f"
            with open(full, "rb") as file:
                f.data = file.read()
            if len(f.data) != f.size:
                raise OSError(errno.EIO, f"{path}: {f.size} bytes by its attributes, {len(f.data)} when read")
            f.xattrs = {n: os.getxattr(full, n) for n in os.listxattr(full) if n.startswith("user.")}

    for w in wids:
        if os.path.isdir(os.path.join(mnt, f"w{w}")):
            add(w, f"w{w}")
    for shared in SHARED:
        for name in os.listdir(os.path.join(mnt, shared)):
            add(int(name[1:].split(".")[0]), f"{shared}/{name}")
    return trees


def base_of(tree):
    """The nodes of what was found, as the beginning of the next round."""
    paths, by_ino = {}, {}
    for path in sorted(tree):
        f = tree[path]
        node = by_ino.get(f.ino)
        if not node:
            node = Node(f.kind, f.mode, f.data if f.kind == "l" else None, f.data if f.kind == "f" else b"",
                        dict(f.xattrs))
            by_ino[f.ino] = node
        node.paths[path] = None
        paths[path] = node
    for path, node in paths.items():
        if node.kind == "d":
            parent = paths.get(os.path.dirname(path))
            if parent:
                parent.subdirs += 1
    return paths


class Gen:
    """The calls of one writer in one round: next() says one, apply() that it was done.

    apply() goes in steps: it is a generator that yields the paths whose state has changed after each
    state that a crash can leave (one or two for a call; none for a call that changes nothing).
    """

    def __init__(self, wid, rnd, seed, base):
        self.wid, self.rnd = wid, rnd
        self.rng = random.Random(f"{seed}/{rnd}/{wid}")
        self.profile = PROFILES[wid % len(PROFILES)]
        self.paths = dict(sorted(base.items()))
        self.files = [p for p, n in self.paths.items() if n.kind == "f"]
        self.others = [p for p, n in self.paths.items() if n.kind == "l"]
        self.dirs = [p for p, n in self.paths.items() if n.kind == "d"]
        self.slots = {}  # number: (node, sync)
        self.queue = []
        self.serial = 0
        self.last_slot = 0
        self.max_files = {"names": 1200, "mixed": 100, "syncs": 60, "data": 30, "saves": 60}[self.profile]

    # ---- choosing ----

    def name(self, parent=None):
        self.serial += 1
        if parent is None:
            parent = self.rng.choice(self.dirs + list(SHARED))
        long = "x" * self.rng.choice((0, 0, 0, 3, 30, 180))
        return f"{parent}/w{self.wid}.{self.rnd}.{self.serial}{long}"

    def some_data(self):
        r = self.rng.random()
        if self.profile == "data" and r < 0.2:
            n = self.rng.randrange(300000)
        elif r < 0.5:
            n = self.rng.randrange(1, 300)
        elif r < 0.8:
            n = PAGE * self.rng.randrange(1, 4)
        else:
            n = self.rng.randrange(1, 40000)
        return self.rng.randbytes(n)

    def some_slot(self):
        return self.rng.choice(list(self.slots))

    def opened(self):
        self.last_slot += 1
        return self.last_slot

    def next(self):
        if self.queue:
            return self.queue.pop(0)
        rng = self.rng
        full = len(self.files) + len(self.others) >= self.max_files
        on_slots = bool(self.slots)
        table = {
            "create": 0 if full or len(self.slots) >= 4 else 10,
            "open": 8 if self.files and len(self.slots) < 4 else 0,
            "pwrite": 25 if on_slots else 0,
            "fsync": 6 if on_slots else 0,
            "close": 12 if on_slots else 0,
            "ftruncate": 3 if on_slots else 0,
            "falloc": 1 if on_slots else 0,
            "punch": 2 if on_slots else 0,
            "mmap": 2 if on_slots else 0,
            "save": 0 if full else 5,
            "touch": 0 if full else 5,
            "unlink": 25 if full else 6 if self.files or self.others else 0,
            "rename": 6 if self.files else 0,
            "replace": 4 if len(self.files) > 1 else 0,
            "exchange": 2 if len(self.files) > 1 else 0,
            "link": 4 if self.files and not full else 0,
            "symlink": 0 if full else 2,
            "mkdir": 2 if len(self.dirs) < 20 else 0,
            "rmdir": 2 if len(self.dirs) > 3 else 0,
            "renamedir": 1 if len(self.dirs) > 3 else 0,
            "truncate": 2 if self.files else 0,
            "chmod": 2 if self.files else 0,
            "setxattr": 4 if self.files else 0,
            "dirsync": 1,
            "read": 4 if self.files else 0,
            "brawl": 3,
        }
        if self.profile == "names":
            table.update(touch=60 if not full else 0, rename=20 if self.files else 0, pwrite=min(table["pwrite"], 2))
        elif self.profile == "syncs":
            table.update(fsync=table["fsync"] * 8, dirsync=10)
        elif self.profile == "saves":
            table.update(save=table["save"] * 10)
        kinds = [k for k, w in table.items() if w]
        kind = rng.choices(kinds, [table[k] for k in kinds])[0]
        return getattr(self, "pick_" + kind)()

    def pick_create(self):
        return ("create", self.opened(), self.name(), self.rng.choice((0o600, 0o644, 0o755)), self.rng.random() < 0.1)

    def pick_open(self):
        return ("open", self.opened(), self.rng.choice(self.files), self.rng.random() < 0.2, self.rng.random() < 0.1)

    def pick_pwrite(self):
        slot = self.some_slot()
        node, sync = self.slots[slot]
        size = len(node.data())
        data = self.some_data()
        off = self.rng.choice((0, size, self.rng.randrange(size + 1), size // PAGE * PAGE,
                               size + self.rng.randrange(9000)))
        if off > 500000:
            off = self.rng.randrange(100000)
        op = ("pwrite", slot, off, data)
        if sync and not node.clean:  # O_SYNC is for the range that was written
            self.queue.append(op)
            return ("fsync", slot, False)
        return op

    def pick_fsync(self):
        return ("fsync", self.some_slot(), self.rng.random() < 0.3)

    def pick_close(self):
        return ("close", self.some_slot())

    def size_near(self, node):
        size = len(node.data())
        return self.rng.choice((0, self.rng.randrange(size + 1), self.rng.randrange(size + 1) // PAGE * PAGE,
                                size + self.rng.randrange(20000)))

    def pick_ftruncate(self):
        slot = self.some_slot()
        return ("ftruncate", slot, self.size_near(self.slots[slot][0]))

    def pick_falloc(self):
        slot = self.some_slot()
        return ("falloc", slot, len(self.slots[slot][0].data()) + self.rng.randrange(1, 30000))

    def pick_punch(self):
        slot = self.some_slot()
        size = len(self.slots[slot][0].data())
        off = self.rng.randrange(size + 1)
        return ("punch", slot, off, self.rng.randrange(1, 30000))

    def pick_mmap(self):
        slot = self.some_slot()
        node = self.slots[slot][0]
        if not node.data():
            return ("fsync", slot, False)
        off = self.rng.randrange(len(node.data()))
        op = ("mmap", slot, off, self.some_data()[:len(node.data()) - off] or b"m")
        if not node.clean:  # msync is for the range that was mapped
            self.queue.append(op)
            return ("fsync", slot, False)
        return op

    def pick_save(self):
        """As editors do: a new file beside, then over the old one."""
        slot, new = self.opened(), self.name()
        self.queue += [("pwrite", slot, 0, self.some_data())]
        if self.rng.random() < 0.5:
            self.queue += [("fsync", slot, False)]
        self.queue += [("close", slot)]
        if self.files and self.rng.random() < 0.8:
            self.queue += [("rename", new, self.rng.choice(self.files))]
            if self.rng.random() < 0.2:
                self.queue += [("dirsync", os.path.dirname(new))]
        return ("create", slot, new, 0o644, False)

    def pick_touch(self):
        slot = self.opened()
        self.queue.append(("close", slot))
        return ("create", slot, self.name(), 0o600, False)

    def pick_unlink(self):
        return ("unlink", self.rng.choice(self.files + self.others))

    def pick_rename(self):
        return ("rename", self.rng.choice(self.files), self.name())

    def pick_replace(self):
        a, b = self.rng.sample(self.files, 2)
        if self.paths[a] is self.paths[b]:  # does nothing, says POSIX
            return ("unlink", a)
        return ("rename", a, b)

    def pick_exchange(self):
        a, b = self.rng.sample(self.files, 2)
        return ("exchange", a, b)

    def pick_link(self):
        return ("link", self.rng.choice(self.files), self.name())

    def pick_symlink(self):
        return ("symlink", "t" * self.rng.choice((1, 10, 100, 1000)), self.name())

    def pick_mkdir(self):
        return ("mkdir", self.name())

    def within(self, top):
        return [p for p in self.paths if p.startswith(top + "/")]

    def pick_rmdir(self):
        top = self.rng.choice([d for d in self.dirs if d != f"w{self.wid}"])
        for path in sorted(self.within(top), reverse=True):  # what is below comes first
            self.queue.append(("rmdir" if self.paths[path].kind == "d" else "unlink", path))
        self.queue.append(("rmdir", top))
        return self.queue.pop(0)

    def pick_renamedir(self):
        top = self.rng.choice([d for d in self.dirs if d != f"w{self.wid}"])
        to = [d for d in self.dirs + list(SHARED) if d != top and not d.startswith(top + "/")]
        return ("renamedir", top, self.name(self.rng.choice(to)))

    def pick_truncate(self):
        path = self.rng.choice(self.files)
        return ("truncate", path, self.size_near(self.paths[path]))

    def pick_chmod(self):
        return ("chmod", self.rng.choice(self.files), self.rng.choice((0o600, 0o640, 0o755, 0o777)))

    def pick_setxattr(self):
        return ("setxattr", self.rng.choice(self.files), f"user.{self.rng.randrange(3)}",
                self.rng.randbytes(self.rng.choice((0, 5, 50, 500))))

    def pick_dirsync(self):
        return ("dirsync", self.rng.choice(self.dirs + list(SHARED)))

    def pick_read(self):
        return ("read", self.rng.choice(self.files))

    def pick_brawl(self):
        kind = self.rng.randrange(12)
        if kind >= 7:  # the files of no interest
            return ("brawl", 7, f"{BRAWL}/{self.rng.randrange(2500)}" + "b" * 100, "")
        return ("brawl", kind, f"{BRAWL}/{self.rng.randrange(12)}", f"{BRAWL}/{self.rng.randrange(12)}")

    def finish(self):
        """What closes the writer's files, as far as its queue does not."""
        self.queue = [("close", s) for s in self.slots]

    # ---- what it does to the model ----

    def add(self, path, node):
        self.paths[path] = node
        node.paths[path] = None
        (self.files if node.kind == "f" else self.dirs if node.kind == "d" else self.others).append(path)
        if node.kind == "d":
            self.count(path, 1)

    def drop(self, path):
        node = self.paths.pop(path)
        del node.paths[path]
        (self.files if node.kind == "f" else self.dirs if node.kind == "d" else self.others).remove(path)
        if node.kind == "d":
            self.count(path, -1)
        return node

    def count(self, path, n):
        parent = self.paths.get(os.path.dirname(path))
        if parent:
            parent.subdirs += n

    def apply(self, op):
        return getattr(self, "do_" + op[0])(*op[1:]) or ()

    def do_create(self, slot, path, mode, sync):
        node = Node("f", mode)
        self.add(path, node)
        self.slots[slot] = (node, sync)
        node.slots += 1
        yield [path]

    def do_open(self, slot, path, trunc, sync):
        node = self.paths[path]
        self.slots[slot] = (node, sync)
        node.slots += 1
        if trunc:
            node.every_version(lambda v: b"")
            yield list(node.paths)

    def do_pwrite(self, slot, off, data):
        node, sync = self.slots[slot]
        node.write(off, data)
        yield list(node.paths)
        if sync:
            node.settle()
            yield list(node.paths)

    def do_mmap(self, slot, off, data):
        node = self.slots[slot][0]
        node.write(off, data)
        node.loose = True
        yield list(node.paths)
        node.settle()
        yield list(node.paths)

    def do_fsync(self, slot, _data_only):
        node = self.slots[slot][0]
        node.settle()
        yield list(node.paths)

    def do_close(self, slot):
        node = self.slots.pop(slot)[0]
        node.slots -= 1
        node.settle()
        yield list(node.paths)

    def do_dirsync(self, _path):
        yield []

    def resize(self, node, size):
        node.every_version(lambda v: v[:size].ljust(size, b"\0"))
        return list(node.paths)

    def do_ftruncate(self, slot, size):
        yield self.resize(self.slots[slot][0], size)

    def do_truncate(self, path, size):
        yield self.resize(self.paths[path], size)

    def do_falloc(self, slot, size):
        yield self.resize(self.slots[slot][0], size)

    def do_punch(self, slot, off, length):
        node = self.slots[slot][0]

        def punched(v):
            end = min(off + length, len(v))
            return v[:off] + bytes(end - off) + v[end:] if off < end else v
        node.versions += [punched(v) for v in node.versions]
        yield list(node.paths)
        node.every_version(punched)
        yield list(node.paths)

    def do_unlink(self, path):
        node = self.drop(path)
        yield [path, *node.paths]

    def do_rename(self, old, new):
        touched = {old, new}
        if new in self.paths:
            touched.update(self.drop(new).paths)
        node = self.drop(old)
        self.add(new, node)
        touched.update(node.paths)
        yield list(touched)

    def do_exchange(self, old, new):
        a, b = self.drop(old), self.drop(new)
        self.add(old, b)
        self.add(new, a)
        yield [*a.paths, *b.paths]

    def do_link(self, old, new):
        node = self.paths[old]
        self.add(new, node)
        yield list(node.paths)

    def do_symlink(self, target, path):
        self.add(path, Node("l", 0o777, target))
        yield [path]

    def do_mkdir(self, path):
        self.add(path, Node("d", 0o755))
        yield [path, os.path.dirname(path)]

    def do_rmdir(self, path):
        self.drop(path)
        yield [path, os.path.dirname(path)]

    def do_renamedir(self, old, new):
        moved = [old] + self.within(old)
        nodes = []
        for path in sorted(moved, reverse=True):
            nodes.append((new + path[len(old):], self.drop(path)))
        touched = set(moved) | {os.path.dirname(old), os.path.dirname(new)}
        for path, node in reversed(nodes):
            self.add(path, node)
            touched.update(node.paths)
        yield list(touched)

    def do_chmod(self, path, mode):
        node = self.paths[path]
        node.mode = mode
        yield list(node.paths)

    def do_setxattr(self, path, name, value):
        node = self.paths[path]
        node.xattrs[name] = value
        yield list(node.paths)

    def do_read(self, _path):
        return None

    def do_brawl(self, *_):
        return None


def is_sync(gen, op):
    """The call makes durable what had ended before."""
    return op[0] in ("fsync", "dirsync", "mmap") or (op[0] == "pwrite" and gen.slots[op[1]][1])


# ---- the calls ----


class WrongContent(Exception):
    pass


class Doer:
    """Makes the calls below a directory."""

    def __init__(self, top, gen):
        self.gen = gen
        self.fds = {}
        os.chdir(top)
        os.umask(0)

    def do(self, op):
        getattr(self, op[0])(*op[1:])

    def create(self, slot, path, mode, sync):
        self.fds[slot] = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | (os.O_SYNC if sync else 0), mode)

    def open(self, slot, path, trunc, sync):
        self.fds[slot] = os.open(path, os.O_RDWR | (os.O_TRUNC if trunc else 0) | (os.O_SYNC if sync else 0))

    def pwrite(self, slot, off, data):
        if os.pwrite(self.fds[slot], data, off) != len(data):
            raise OSError(errno.EIO, "short write")

    def mmap(self, slot, off, data):
        start = off // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        with mmap.mmap(self.fds[slot], off - start + len(data), offset=start) as m:
            m[off - start:] = data
            m.flush()

    def fsync(self, slot, data_only):
        (os.fdatasync if data_only else os.fsync)(self.fds[slot])

    def close(self, slot):
        os.close(self.fds.pop(slot))

    def dirsync(self, path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def ftruncate(self, slot, size):
        os.ftruncate(self.fds[slot], size)

    def truncate(self, path, size):
        os.truncate(path, size)

    def falloc(self, slot, size):
        self.fallocate(slot, 0, 0, size)

    def punch(self, slot, off, length):
        self.fallocate(slot, 3, off, length)

    def fallocate(self, slot, mode, off, length):
        if libc.fallocate(self.fds[slot], mode, ctypes.c_long(off), ctypes.c_long(length)):
            raise OSError(ctypes.get_errno(), "fallocate")

    def unlink(self, path):
        os.unlink(path)

    def rename(self, old, new):
        os.rename(old, new)

    renamedir = rename

    def exchange(self, old, new):
        if libc.renameat2(-100, old.encode(), -100, new.encode(), 2):
            raise OSError(ctypes.get_errno(), "renameat2")

    def link(self, old, new):
        os.link(old, new)

    def symlink(self, target, path):
        os.symlink(target, path)

    def mkdir(self, path):
        os.mkdir(path, 0o755)

    def rmdir(self, path):
        os.rmdir(path)

    def chmod(self, path, mode):
        os.chmod(path, mode)

    def setxattr(self, path, name, value):
        os.setxattr(path, name, value)

    def read(self, path):
        with open(path, "rb") as f:
            got = f.read()
        if got != self.gen.paths[path].data():
            raise WrongContent(f"{path}: not what was written")

    def brawl(self, kind, a, b):
        """Names that all writers fight for: no oracle but fsck."""
        calls = (lambda: os.close(os.open(a, os.O_CREAT | os.O_RDWR)), lambda: os.rename(a, b), lambda: os.link(a, b),
                 lambda: os.unlink(a), lambda: os.mkdir(a), lambda: os.rmdir(a), lambda: os.rename(b, f"{a}/x"),
                 lambda: os.chmod(a, 0o600 + os.getpid() % 8))
        try:
            calls[kind]()
        except OSError as e:
            if e.errno not in (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EPERM,
                               errno.ENOTEMPTY):
                raise


# ---- the log of a writer ----

# kind, number of the call, CLOCK_MONOTONIC in ns, entries of the write log, errno
RECORD = struct.Struct("<cxxxIqqi4x")
BEGIN, END, FAILED, FINISH, WRONG = b"B", b"E", b"X", b"F", b"W"


def read_log(path):
    """[begin, end or None] for each call, a moment being (ns, entries); where finish() was called; the error."""
    calls, finish, error = [], None, None
    with open(path, "rb") as f:
        raw = f.read()
    for at in range(0, len(raw) - RECORD.size + 1, RECORD.size):
        kind, nr, ns, entries, code = RECORD.unpack_from(raw, at)
        if kind == BEGIN:
            calls.append([(ns, entries), None])
        elif kind == END:
            calls[nr][1] = (ns, entries)
        elif kind == FINISH:
            finish = nr
        else:
            error = (nr, ns, code)
    return calls, finish, error


# ---- what may be there ----


def differs(node, path, found):
    """None, or in which way a name is not as the model has it."""
    f = found.get(path)
    if node is None:
        return "should not be there" if f else None
    if not f:
        return "is missing"
    if f.kind != node.kind:
        return f"is a {f.kind}, not a {node.kind}"
    if f.kind == "l":
        return None if f.data == node.target else "another target"
    if f.mode != node.mode:
        return f"mode {f.mode:o}, not {node.mode:o}"
    if f.kind == "d":
        return None if f.nlink == 2 + node.subdirs else f"{f.nlink} links, not {2 + node.subdirs}"
    if f.nlink != len(node.paths):
        return f"{f.nlink} links, not {len(node.paths)}"
    if len({found[p].ino for p in node.paths if p in found}) > 1:
        return "links of one file are different files"
    if f.xattrs != node.xattrs:
        return "other xattrs"
    return node.data_differs(f.data)


class Sequence:
    """A writer's calls, with the positions that what was found can be."""

    def __init__(self, gen, calls, finish, found, counts):
        self.begin = [c[0] for c in calls]
        self.end = [c[1] for c in calls]
        self.first, self.last, self.syncs = [], [], []  # by call: positions; which calls are syncs
        self.call_at = [-1]  # by position: the call that led there
        self.may_be = []
        self.nearest = None
        self.ops = []
        self.counts = counts
        bad = {}
        for path in set(gen.paths) | set(found):
            why = differs(gen.paths.get(path), path, found)
            if why:
                bad[path] = why
        self.look(0, bad)
        for nr in range(len(calls)):
            if nr == finish:
                gen.finish()
            op = gen.next()
            self.ops.append(op)
            counts[op[0]] = counts.get(op[0], 0) + 1
            self.syncs.append(is_sync(gen, op))
            self.first.append(len(self.call_at))
            for touched in gen.apply(op):
                for path in touched:
                    why = differs(gen.paths.get(path), path, found)
                    if why:
                        bad[path] = why
                    else:
                        bad.pop(path, None)
                self.call_at.append(nr)
                self.look(len(self.call_at) - 1, bad)
            self.last.append(len(self.call_at) - 1)

    def look(self, position, bad):
        if not bad:
            self.may_be.append(position)
        if self.nearest is None or len(bad) <= len(self.nearest[1]):
            self.nearest = (position, dict(bad))

    def describe(self, position):
        call = self.call_at[position]
        if call < 0:
            return "the beginning"
        return f"call {call} {short(self.ops[call])}"


def short(op):
    return "(" + ", ".join(f"{len(a)} bytes" if isinstance(a, bytes) else str(a)[:60] for a in op) + ")"


def moment(seqs, upto=None, clock=0):
    """None, or what is wrong: no moment T is possible. seqs: {writer: Sequence}.

    upto: what was looked at was taken then, by clock (0: ns, 1: entries of the write log).
    """
    floor = {w: (0, "it was there before") for w in seqs}
    for s in seqs.values():
        if not s.may_be:
            position, bad = s.nearest
            what = "; ".join(f"{p}: {why}" for p, why in sorted(bad.items())[:8])
            wid = next(w for w in seqs if seqs[w] is s)
            return f"writer {wid}: at no position of {len(s.call_at)}; nearest: {s.describe(position)}: {what}"
    for a, s in seqs.items():
        for nr, sync in enumerate(s.syncs):
            if not sync or not s.end[nr] or (upto is not None and s.end[nr][clock] > upto):
                continue
            why = f"writer {a}'s call {nr} {short(s.ops[nr])} made it durable"
            if s.last[nr] > floor[a][0]:
                floor[a] = (s.last[nr], why)
            for b, t in seqs.items():
                done = ended_before(t, s.begin[nr][0])
                if b != a and done >= 0 and t.last[done] > floor[b][0]:
                    floor[b] = (t.last[done], why)
    at = {}
    for w, (least, why) in floor.items():
        bad = raise_to(seqs, at, w, least, why)
        if bad:
            return bad
    changed = True
    while changed:
        changed = False
        for b, t in seqs.items():
            call = t.call_at[at[b]]
            if call < 0:
                continue
            for a, s in seqs.items():
                done = ended_before(s, t.begin[call][0])
                if a != b and done >= 0 and s.last[done] > at[a]:
                    why = f"writer {b}'s {t.describe(at[b])}, which began later, is there"
                    bad = raise_to(seqs, at, a, s.last[done], why)
                    if bad:
                        return bad
                    changed = True
    if upto is not None:
        for w, s in seqs.items():
            call = s.call_at[at[w]]
            if call >= 0 and s.begin[call][clock] > upto:
                return f"writer {w}: {s.describe(at[w])} is there, but began later"
    return None


def ended_before(s, ns):
    """The last call of s that had ended at that time, or -1."""
    lo, hi = 0, len(s.end)
    while lo < hi:
        mid = (lo + hi) // 2
        if s.end[mid] and s.end[mid][0] < ns:
            lo = mid + 1
        else:
            hi = mid
    return lo - 1


def raise_to(seqs, at, w, least, why):
    s = seqs[w]
    for position in s.may_be:
        if position >= least:
            at[w] = position
            return None
    return (f"writer {w}: what is there is at {s.describe(s.may_be[-1])}, "
            f"but {s.describe(least)} had ended, and {why}")


def check(found, bases, logs, rnd, seed, upto=None, clock=0):
    """None, or what is wrong with {writer: tree}; and counts of the calls."""
    counts, seqs = {}, {}
    for w, path in logs.items():
        calls, finish, _ = read_log(path)
        seqs[w] = Sequence(Gen(w, rnd, seed, clone(bases[w])), calls, finish, found[w], counts)
    counts["calls"] = sum(len(s.ops) for s in seqs.values())
    counts["syncs"] = sum(sync and bool(end) for s in seqs.values() for sync, end in zip(s.syncs, s.end))
    return moment(seqs, upto, clock), counts


def clone(base):
    """Nodes of its own, with the same links."""
    twin = {}
    paths = {}
    for path, node in base.items():
        if id(node) not in twin:
            n = Node(node.kind, node.mode, node.target, node.data(), dict(node.xattrs))
            n.subdirs = node.subdirs
            twin[id(node)] = n
        n = twin[id(node)]
        n.paths[path] = None
        paths[path] = n
    return paths
