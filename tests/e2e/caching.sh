#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: what the kernel keeps by default costs no request when it is asked for again, and each
# thing it keeps has a mount option with which it is asked for again; what is read is the same.
# Method: the same calls twice, and the daemon's counters of requests around the second time, on
# one mount by default and on one with each option.
. "$(dirname "$0")/lib.sh"

mkdir "$T/mnt"
make_image "$T/img" 64M
mount_image "$T/img" "$T/mnt"
mkdir "$T/mnt/dir"
head -c 100000 /dev/urandom >"$T/file"
cp "$T/file" "$T/mnt/dir/file"
ln -s file "$T/mnt/dir/link"
"$bcfs" umount "$T/mnt" || bail_out "umount"

# Says which requests came: of a second time, with all descriptors of the first one closed.
cat >"$T/twice.py" <<'END'
import os, sys
mnt, source = sys.argv[1:]
want = open(source, "rb").read()
os.chdir(mnt + "/dir")

def counters():
    ret = {}
    for line in os.getxattr(mnt, "bcfs.counters").decode().splitlines():
        if line.startswith("fuse."):
            name, nr = line[5:].split()
            ret[name] = int(nr)
    return ret

def look():
    """In this order: after a close(2) the kernel asks for the attributes anew, with its cache of writes."""
    os.stat("file")
    assert not os.path.exists("missing")
    assert sorted(os.listdir(".")) == ["file", "link"]
    assert os.readlink("link") == "file"
    fd = os.open("file", os.O_RDWR)
    assert os.pread(fd, len(want), 0) == want
    for _ in range(2):
        assert os.pwrite(fd, want[:4096], 0) == 4096
    ret = counters()
    os.close(fd)
    return ret

look()
look()  # the first one has read, which changes access times
os.stat("file")
before = counters()
after = look()
print(*sorted(n for n in after if after[n] > before.get(n, 0)))
END
# usage: came WANTED OPTIONS: WANTED, and no others of all
all="getattr lookup open opendir read readdir readdirplus readlink write"
came()
{
	local got name
	mount_image ${2:+-o "$2"} "$T/img" "$T/mnt"
	got=$(python3 "$T/twice.py" "$T/mnt" "$T/file")
	"$bcfs" umount "$T/mnt" || return 1
	echo "came: $got"
	got=$(for name in $got; do [[ " $all " != *" $name "* ]] || echo "$name"; done | tr '\n' ' ')
	[ "$got" = "${1:+$1 }" ]
}
ok "by default: nothing" came "" ""
ok "attr_timeout=0: attributes" came "getattr" attr_timeout=0
ok "entry_timeout=0: names" came "lookup" entry_timeout=0
ok "negative_timeout=0: missing names" came "lookup" negative_timeout=0
ok "open=on: open(2)" came "open opendir" open=on
# (What is read has new access times.)
ok "keep_cache=off: files, directories, links" came "getattr open opendir read readdirplus readlink" keep_cache=off
ok "readdirplus=off: nothing, and then readdir" came "" readdirplus=off
ok "both" came "getattr open opendir read readdir readlink" keep_cache=off,readdirplus=off
ok "writeback=off: write(2)" came "write" writeback=off

# What root sets of the mount in the kernel. usage: bdi FILE WANTED [OPTIONS]
bdi()
{
	local got dev
	mount_image ${3:+-o "$3"} "$T/img" "$T/mnt"
	dev=$(awk -v m="$T/mnt" '$5 == m { print $3 }' /proc/self/mountinfo)
	got=$(cat "/sys/class/bdi/$dev/$1")
	"$bcfs" umount "$T/mnt" || return 1
	[ "$got" = "$2" ] || { echo "$got"; return 1; }
}
if [ "$(id -u)" = 0 ] && [ -w /sys/class/bdi ]; then
	ok "read-ahead by default: 4 MiB" bdi read_ahead_kb 4096
	ok "read_ahead=0: none" bdi read_ahead_kb 0 read_ahead=0
	ok "dirty pages by default: as for any filesystem" bdi max_ratio 100
	ok "max_ratio=1: as FUSE has it" bdi max_ratio 1 max_ratio=1
else
	result 0 "read-ahead and dirty pages # SKIP only root sets them"
fi
done_testing
