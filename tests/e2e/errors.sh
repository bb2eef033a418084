#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: damaged metadata ends in EIO or EUCLEAN for what needs it and, with errors=ro,
# in a mount that the kernel too knows to be read-only, also when a file is open for
# writing at that moment; with errors=continue it goes on. What does not fit into a
# small btree node is refused by its own error, which is no damage. A bad chunk of a file answers
# EIO for its own bytes, is logged and listed with the file's path, and counted.
# Method: a leaf of the xattrs, and a sector of a file, are wiped in the image, and read through a
# mount.
. "$(dirname "$0")/lib.sh"

mkdir "$T/mnt"

# ---- what small nodes do not hold ----
make_image "$T/small" 64M -b 512 --node-size 4K
mount_image "$T/small" "$T/mnt"
touch "$T/mnt/f"
ok_python "targets and values that are too long" "$T/mnt" <<-'END'
	import errno, os, sys
	os.chdir(sys.argv[1])
	for code, call, args in (
	    (errno.ENAMETOOLONG, os.symlink, ("x" * 4095, "link")),
	    (errno.ENAMETOOLONG, os.symlink, ("x" * 1409, "link")),
	    (errno.E2BIG, os.setxattr, ("f", "user.a", b"x" * 60000)),
	):
	    try:
	        call(*args)
	        sys.exit("no error")
	    except OSError as e:
	        if e.errno != code:
	            sys.exit(str(e))
	os.symlink("x" * 1408, "link")
	os.setxattr("f", "user.a", b"x" * 1000)
END
ok "bcfs umount" "$bcfs" umount "$T/mnt"
ok "fsck" "$fsck" "$T/small"

# ---- a damaged node ----
make_image "$T/img" 64M --node-size 16K
mount_image "$T/img" "$T/mnt"
for i in $(seq 300); do
	echo >"$T/mnt/f$i"
	setfattr -n user.a -v "$(printf %0200d "$i")" "$T/mnt/f$i" || bail_out "setfattr"
done
"$bcfs" umount "$T/mnt" || bail_out "umount"
sector=$("$bcfs" dump nodes -m -b xattrs "$T/img" |
	sed -n 's/.*written [0-9]* min_key .*ptr 0:\([0-9]*\) .*/\1/p' | sed -n 2p)
[ -n "$sector" ] || bail_out "no second leaf"
dd if=/dev/zero of="$T/img" bs=512 count=8 seek="$sector" conv=notrunc status=none

ok "errors=continue: mount" "$fuse" -o errors=continue "$T/img" "$T/mnt"
no "what is damaged is not read" getfattr -n user.a "$T/mnt"/f*
ok "the rest can be changed" touch "$T/mnt/new"
"$bcfs" umount "$T/mnt" >"$T/.umount" 2>&1

kernel_says()
{
	local i
	for i in $(seq "$2"); do
		grep -q "$T/mnt fuse.bcfs $1," /proc/mounts && return
		sleep 0.1
	done
	return 1
}

ok "errors=ro: mount" "$fuse" -o errors=ro "$T/img" "$T/mnt"
exec 5>"$T/mnt/held"
no "what is damaged is not read" getfattr -n user.a "$T/mnt"/f*
ok "others are" getfattr -n user.a "$T/mnt/$(ls "$T/mnt" | while read -r f; do
	getfattr -n user.a "$T/mnt/$f" >/dev/null 2>&1 && echo "$f" && break
done)"
no "nothing can be made" touch "$T/mnt/x"
if [ "$(id -u)" = 0 ]; then
	ok "a file open for writing holds the remount up" kernel_says rw 1
	sleep 1
	ok "still" kernel_says rw 1
	exec 5>&-
	ok "then the mount is read-only in the kernel" kernel_says ro 50
else
	exec 5>&-
fi
no "bcfs umount says that errors were met" "$bcfs" umount "$T/mnt"
ok "they are in the superblock" bash -c '"$0" probe "$1" | grep -q ERROR=1' "$bcfs" "$T/img"
ok "fsck -y finds the node, and the mark stays" bash -c '"$0" -y "$1"
	[ $? = 4 ] && "$2" probe "$1" | grep -q ERROR=1' "$fsck" "$T/img" "$bcfs"
ok "the next mount says so" bash -c '"$@" 2>&1 | grep -q "run fsck.bcfs"' - "$fuse" "$T/img" "$T/mnt"
ok "unmount" bash -c '"$@" || true' - "$bcfs" umount "$T/mnt"

# ---- a bad chunk of a file ----
make_image "$T/data" 64M
mount_image "$T/data" "$T/mnt"
mkdir -p "$T/mnt/a dir/b"
head -c 300000 /dev/urandom >"$T/orig"
cp "$T/orig" "$T/mnt/a dir/b/file"
ok "nothing is wrong" bash -c '! "$0" errors "$1" | grep -vE "0 before this mount, 0 since$"' \
	"$bcfs" "$T/mnt"
"$bcfs" umount "$T/mnt" || bail_out "umount"
sector=$("$bcfs" dump keys -b extents "$T/data" | sed -n 's/.* len 256 .*ptr 0:\([0-9]*\) .*/\1/p' | head -n 1)
[ -n "$sector" ] || bail_out "no extent"
# of the second chunk of 16 KiB
dd if=/dev/zero of="$T/data" bs=512 count=1 seek=$((sector + 40)) conv=notrunc status=none
ok "mount" bash -c '"$0" -f "$1" "$2" 2>"$3" & for i in $(seq 100); do
	mountpoint -q "$2" && exit; sleep 0.1; done; exit 1' "$fuse" "$T/data" "$T/mnt" "$T/log"
ok_python "EIO for exactly the bad bytes" "$T/mnt/a dir/b/file" "$T/orig" <<-'END'
	import errno, os, sys
	with open(sys.argv[2], "rb") as f:
	    want = f.read()
	fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
	import mmap
	page = mmap.mmap(-1, 4096)
	for at in range(0, len(want), 4096):
	    bad = 16384 <= at < 32768
	    try:
	        n = os.preadv(fd, [page], at)
	        assert not bad, at
	        assert page[:n] == want[at:at + 4096], at
	    except OSError as e:
	        assert e.errno == errno.EIO and bad, at
END
ok "it is logged with its path" grep -q "data checksum error: /a dir/b/file: inode [0-9]* .*offset 16384" "$T/log"
ok "and listed" bash -c '"$0" errors "$1" | grep -q \
	"x data checksum error: /a dir/b/file: bytes 16384 to 32768 of inode"' "$bcfs" "$T/mnt"
ok "as one place" bash -c '[ "$("$0" errors "$1" | grep -c "of inode")" = 1 ]' "$bcfs" "$T/mnt"
ok_python "the same by way of the page cache" "$T/mnt/a dir/b/file" "$T/orig" <<-'END'
	import errno, os, sys
	with open(sys.argv[2], "rb") as f:
	    want = f.read()
	for step in 4096, 65536:
	    fd = os.open(sys.argv[1], os.O_RDONLY)
	    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
	    at = 0
	    while at < len(want):
	        bad = 16384 <= at < 32768
	        try:
	            got = os.pread(fd, step, at)
	            assert not bad, at
	            assert got == want[at:at + len(got)], at
	            assert len(got) == min(step, len(want) - at) or at + len(got) == 16384, (at, len(got))
	            at += len(got)
	        except OSError as e:
	            assert e.errno == errno.EIO and bad, at
	            at += 4096
	    os.close(fd)
END
ok "and counted" bash -c '"$0" errors "$1" | grep -q "checksum errors: 0 before this mount, [1-9]"' \
	"$bcfs" "$T/mnt"
if [ "$(id -u)" = 0 ]; then
	ok_python "but not to other users, who might not see the path" "$T/mnt" <<-'END'
		import errno, os, sys
		fd = os.open(sys.argv[1], os.O_RDONLY)
		for name in "bcfs.errors", "bcfs.rebalance":
		    os.getxattr(fd, name)
		os.setuid(65534)
		os.getxattr(fd, "bcfs.counters")
		for name in "bcfs.errors", "bcfs.rebalance":
		    try:
		        sys.exit(f"{name}: {os.getxattr(fd, name)}")
		    except OSError as e:
		        if e.errno != errno.EPERM:
		            sys.exit(str(e))
	END
fi
mv "$T/mnt/a dir" "$T/mnt/elsewhere"
ok "by the path that it has now" bash -c '"$0" errors "$1" | grep -q ": /elsewhere/b/file: bytes"' \
	"$bcfs" "$T/mnt"
mv "$T/mnt/elsewhere" "$T/mnt/"$'two\nlines'
ok "a name cannot forge a line" bash -c '"$0" errors "$1" | grep -qF ": /two\012lines/b/file: bytes"' \
	"$bcfs" "$T/mnt"
mkdir "$T/mnt/second"
ln "$T/mnt/"$'two\nlines/b/file' "$T/mnt/second/name"
ok "by the newest name" bash -c '"$0" errors "$1" | grep -q ": /second/name: bytes"' "$bcfs" "$T/mnt"
rm "$T/mnt/second/name"
ok "by the one that is left" bash -c '"$0" errors "$1" | grep -qF ": /two\012lines/b/file: bytes"' \
	"$bcfs" "$T/mnt"
rm "$T/mnt/"$'two\nlines/b/file'
ok "by none" bash -c '"$0" errors "$1" | grep -q "(no path): bytes"' "$bcfs" "$T/mnt"
ok "unmount" "$bcfs" umount "$T/mnt"
mount_image "$T/data" "$T/mnt"
ok "the next mount knows the number" bash -c '"$0" errors "$1" |
	grep -q "checksum errors: [1-9][0-9]* before this mount, 0 since"' "$bcfs" "$T/mnt"
ok "unmount" "$bcfs" umount "$T/mnt"
done_testing
