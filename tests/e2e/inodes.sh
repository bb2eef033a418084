#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: with the mount option inode32 whatever is made gets a number below 2^32 that nothing else
# has, in every call that tells it, also after a remount, while what is there keeps its number, and
# handles of both lead to them; a directory tells how many links it has, however many.
# Method: a filesystem that has come beyond 2^32 already, without the option first; python asks.
# usage: inodes.sh INODES-AHEAD
. "$(dirname "$0")/lib.sh"

ahead=$(realpath "$1")
img=$T/img
mnt=$T/mnt
mkdir "$mnt"
make_image "$img" 256M
ok "a filesystem beyond 2^32, and a directory of 64,990" "$ahead" "$img" 64990

remount()
{
	"$bcfs" umount "$mnt" && "$fuse" ${1:+-o "$1"} "$img" "$mnt"
}

# Each number, as stat, statx and readdir tell it, and a handle: kept in $T/numbers, and compared.
cat >"$T/numbers.py" <<'END'
import ctypes, json, os, struct, sys
mnt, what, kept = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)

def statx_ino(path):
    room = ctypes.create_string_buffer(256)
    # AT_STATX_FORCE_SYNC: what the daemon says
    assert not libc.statx(-100, path.encode(), 0x2000, 0x7ff, room), path
    return struct.unpack_from("Q", room.raw, 32)[0]

def handle_of(path):
    room = bytearray(struct.pack("Ii", 128, 0)) + bytearray(128)
    c = (ctypes.c_char * len(room)).from_buffer(room)
    mount_id = ctypes.c_int()
    assert not libc.name_to_handle_at(-100, path.encode(), c, ctypes.byref(mount_id), 0), path
    return bytes(room).hex()

def open_handle(handle):
    """The inode's number, -1: there is none."""
    at = os.open(mnt, os.O_RDONLY)
    fd = libc.open_by_handle_at(at, ctypes.c_char_p(bytes.fromhex(handle)), os.O_RDONLY)
    os.close(at)
    if fd < 0:
        return -1
    ino = os.fstat(fd).st_ino
    os.close(fd)
    return ino

def make(where, nr):
    os.mkdir(where)
    for i in range(nr):
        open("%s/f%d" % (where, i), "w").close()
    os.symlink("x", where + "/link")
    os.mkfifo(where + "/fifo")
    os.mkdir(where + "/sub")
    open(where + "/sub/f", "w").close()
    fd = os.open(where, os.O_TMPFILE | os.O_RDWR)
    assert not libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, (where + "/tmpfile").encode(), 0x400)
    os.close(fd)

def look():
    ret, seen = {}, {}
    for where, dirs, files in os.walk("."):
        if "many" in dirs:
            dirs.remove("many")
        for e in os.scandir(where):
            path, ino = e.path, e.inode()
            assert ino == os.lstat(path).st_ino, (path, ino)
            assert e.is_symlink() or ino == statx_ino(path), (path, ino)
            assert ino not in seen, (path, seen[ino], ino)
            seen[ino] = path
            ret[path] = (ino, None if e.is_symlink() else handle_of(path))
    return ret

os.chdir(mnt)
low = lambda name: [i for p, (i, _) in now.items() if p.startswith("./" + name) and i < 1 << 32]
high = lambda name: [i for p, (i, _) in now.items() if p.startswith("./" + name) and i >= 1 << 32]
if what == "without":
    make("before", 20)
    now = look()
    assert high("high") and len(high("before")) == 26 and not low("before"), now
elif what == "with":
    make("after", 200)
    now = look()
    assert len(low("after")) == 206 and not high("after"), now
else:
    now = look()
was = json.load(open(kept)) if os.path.exists(kept) else {}
for path, (ino, handle) in was.items():
    assert tuple(now[path]) == (ino, handle), (path, ino, now[path])
    assert os.geteuid() or not handle or path.endswith("/fifo") or open_handle(handle) == ino, path
json.dump(now, open(kept, "w"))
END
numbers()
{
	python3 "$T/numbers.py" "$mnt" "$1" "$T/numbers"
}

mount_image "$img" "$mnt"
ok "without inode32 new ones are beyond it" numbers without
ok "mount -o inode32" remount inode32
ok "all that are new are below it, none twice; the others stay" numbers with
ok "mounted again" remount inode32
ok "all are the same, and handles lead to them" numbers again
ok "without it" remount
ok "all are the same, and handles lead to them" numbers again
ok_python "beyond 65,000 and 65,536 directories in one: as many links, and two" "$mnt" <<-'END'
	import os, sys
	os.chdir(sys.argv[1] + "/many")
	for i in range(64990, 65600):
	    assert os.stat(".").st_nlink == i + 2, (i, os.stat(".").st_nlink)
	    os.mkdir(str(i))
	os.rmdir("7")
	os.rename("8", "../8")
	assert os.stat(".").st_nlink == 65600, os.stat(".").st_nlink
END
ok "mounted again" remount
ok "they are still so many" test "$(stat -c %h "$mnt/many")" = 65600
ok "umount" "$bcfs" umount "$mnt"
ok "fsck" "$fsck" -n "$img"
done_testing
