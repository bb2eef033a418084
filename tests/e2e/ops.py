#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that no ordinary program makes, each checked by what it leaves.

usage: ops.py DIRECTORY     (exit status 0: all right; else it says what is wrong)
"""
import ctypes
import errno
import mmap
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100


def call(name, *args):
    """The result of a libc function; OSError where it fails."""
    if getattr(libc, name)(*args) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)


def fails(code, fn, *args):
    try:
        fn(*args)
    except OSError as e:
        assert e.errno == code, f"{e}: wanted {errno.errorcode[code]}"
        return
    raise AssertionError(f"wanted {errno.errorcode[code]}, but it succeeded")


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)


def get(path):
    with open(path, "rb") as f:
        return f.read()


def rename2(old, new, flags):
    call("renameat2", AT_FDCWD, old.encode(), AT_FDCWD, new.encode(), flags)


def test_rename_flags():
    put("x1", b"1")
    put("x2", b"2")
    fails(errno.EEXIST, rename2, "x1", "x2", 1)
    rename2("x1", "x2", 2)
    assert get("x1") == b"2" and get("x2") == b"1"
    rename2("x1", "x3", 1)
    assert get("x3") == b"2" and not os.path.exists("x1")
    fails(errno.ENOENT, rename2, "x1", "x3", 2)


def test_unlinked_but_open():
    fd = os.open("gone", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"still here")
    os.unlink("gone")
    os.lseek(fd, 0, 0)
    assert os.read(fd, 100) == b"still here"
    os.write(fd, b", and growing")
    assert os.fstat(fd).st_nlink == 0 and os.fstat(fd).st_size == 23
    os.close(fd)


def test_tmpfile():
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as e:
        assert e.errno == errno.EOPNOTSUPP  # kernels before 6.2
        return
    os.write(fd, b"tmp")
    call("linkat", AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, b"linked", 0x400)
    os.close(fd)
    assert get("linked") == b"tmp" and os.stat("linked").st_nlink == 1


def test_append_at_end():
    a = os.open("app", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    b = os.open("app", os.O_WRONLY | os.O_APPEND)
    for i in range(100):
        os.write(a if i % 2 else b, bytes([i]))
    os.close(a)
    os.close(b)
    assert get("app") == bytes(range(100))


def test_mmap():
    put("mapped", bytes(10000))
    fd = os.open("mapped", os.O_RDWR)
    with mmap.mmap(fd, 10000) as m:
        m[5000:5004] = b"mmap"
        os.pwrite(fd, b"write", 6000)
        assert m[6000:6005] == b"write"
        assert os.pread(fd, 4, 5000) == b"mmap"
        m.flush()
    os.fsync(fd)
    os.close(fd)
    assert get("mapped")[4999:5005] == b"\0mmap\0"


def test_fallocate():
    fd = os.open("alloc", os.O_CREAT | os.O_RDWR)
    os.posix_fallocate(fd, 0, 1 << 20)
    assert os.fstat(fd).st_size == 1 << 20 and os.fstat(fd).st_blocks >= 2048
    assert os.pread(fd, 4096, 500000) == bytes(4096)
    os.pwrite(fd, b"x" * (1 << 20), 0)
    os.fsync(fd)
    fallocate = lambda mode, off, length: call(
        "fallocate", fd, mode, ctypes.c_long(off), ctypes.c_long(length))
    fallocate(3, 4096, 65536)  # PUNCH_HOLE | KEEP_SIZE
    data = os.pread(fd, 1 << 20, 0)
    assert data == b"x" * 4096 + bytes(65536) + b"x" * ((1 << 20) - 4096 - 65536)
    fallocate(1, 1 << 20, 1 << 20)  # KEEP_SIZE
    assert os.fstat(fd).st_size == 1 << 20
    os.close(fd)


def test_holes():
    fd = os.open("holes", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"d" * 65536, 1 << 20)
    os.ftruncate(fd, 4 << 20)
    os.fsync(fd)
    start = os.lseek(fd, 0, os.SEEK_DATA)
    assert (1 << 20) - 131072 <= start <= 1 << 20, start
    end = os.lseek(fd, 1 << 20, os.SEEK_HOLE)
    assert (1 << 20) + 65536 <= end <= (1 << 20) + 65536 + 131072, end
    fails(errno.ENXIO, os.lseek, fd, 4 << 20, os.SEEK_DATA)
    os.close(fd)


def test_copy_range():
    put("src", os.urandom(300000))
    src = os.open("src", os.O_RDONLY)
    dst = os.open("dst", os.O_CREAT | os.O_WRONLY)
    done = 0
    while done < 300000:
        n = os.copy_file_range(src, dst, 300000 - done)
        assert n > 0
        done += n
    os.close(src)
    os.close(dst)
    assert get("src") == get("dst")


def test_readdir_under_change():
    os.mkdir("changing")
    for i in range(500):
        put(f"changing/stay{i}", b"")
    seen = []
    with os.scandir("changing") as it:
        for i, entry in enumerate(it):
            seen.append(entry.name)
            if i % 3 == 0:
                put(f"changing/new{i}", b"")
    stay = [n for n in seen if n.startswith("stay")]
    assert len(stay) == 500 and len(set(stay)) == 500


def test_direct_and_sync():
    fd = os.open("direct", os.O_CREAT | os.O_RDWR | os.O_DIRECT | os.O_SYNC)
    with mmap.mmap(-1, 65536) as m:
        m[:] = b"D" * 65536
        assert os.pwrite(fd, m, 0) == 65536
    os.close(fd)
    assert get("direct") == b"D" * 65536
    fd = os.open("osync", os.O_CREAT | os.O_WRONLY | os.O_SYNC)
    os.write(fd, b"s")
    os.close(fd)
    os.sync()


def test_times_within_a_tick():
    """
    The kernel's clock for times is coarse. A change in the tick of the one before does not move
    them, so nothing tells the daemon of it, whose clock is finer: it must not move them either.
    The manifests before and after a mount show it; here, once for each way of a write.
    """
    os.mkdir("tick")
    os.chmod("tick", 0o777)
    put("tick/src", b"y" * 4096)
    src = os.open("tick/src", os.O_RDONLY)
    for i in range(50):
        fd = os.open(f"tick/copy{i}", os.O_CREAT | os.O_RDWR)
        os.write(fd, b"x")
        os.copy_file_range(src, fd, 4096, 0, 0)
        os.close(fd)
        with mmap.mmap(-1, 4096) as m:
            fd = os.open(f"tick/direct{i}", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
            os.pwrite(fd, m, 0)
            os.pwrite(fd, m, 4096)
            os.close(fd)
        if os.geteuid() == 0:
            fd = os.open(f"tick/suid{i}", os.O_CREAT | os.O_RDWR)
            os.write(fd, b"x")
            os.fchmod(fd, 0o6777)
            os.seteuid(65534)
            os.write(fd, b"y")
            os.seteuid(0)
            assert os.fstat(fd).st_mode & 0o7777 == 0o777
            os.close(fd)
    os.close(src)


def test_errors():
    put("file", b"")
    fails(errno.ENOTDIR, os.stat, "file/x")
    fails(errno.EEXIST, os.mkdir, "file")
    fails(errno.ENOENT, os.unlink, "nothing")
    os.mkdir("dir")
    fails(errno.EISDIR, os.unlink, "dir")
    fails(errno.ENOTDIR, os.rmdir, "file")
    fails(errno.EINVAL, os.rename, "dir", "dir/below")
    fails(errno.EPERM, os.link, "dir", "dirlink")
    fails(errno.ENODATA, os.getxattr, "file", "user.none")
    fails(errno.EEXIST, os.setxattr, *set_twice())


def set_twice():
    os.setxattr("file", "user.once", b"1", os.XATTR_CREATE)
    return "file", "user.once", b"2", os.XATTR_CREATE


def main():
    os.chdir(sys.argv[1])
    os.mkdir("ops")
    os.chdir("ops")
    bad = 0
    for name, test in sorted(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            test()
        except (AssertionError, OSError) as e:
            bad += 1
            line = e.__traceback__.tb_lineno if e.__traceback__ else 0
            tb = e.__traceback__
            while tb.tb_next:
                tb = tb.tb_next
                if tb.tb_frame.f_code.co_name == name:
                    line = tb.tb_lineno
            print(f"{name}: line {line}: {type(e).__name__} {e}")
    return 1 if bad else 0


sys.exit(main())
