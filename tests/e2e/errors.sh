#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: damaged metadata ends in EIO or EUCLEAN for what needs it and, with errors=ro,
# in a mount that the kernel too knows to be read-only, also when a file is open for
# writing at that moment; with errors=continue it goes on. What does not fit into a
# small btree node is refused by its own error, which is no damage.
# Method: a leaf of the xattrs is wiped in the image, and read through a mount.
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
	    (errno.E2BIG, os.setxattr, ("f", "user.a", b"x" * 60000)),
	):
	    try:
	        call(*args)
	        sys.exit("no error")
	    except OSError as e:
	        if e.errno != code:
	            sys.exit(str(e))
	os.symlink("x" * 2000, "link")
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
done_testing
