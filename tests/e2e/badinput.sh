#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: what cannot work is refused by one line that names the device and says what
# to do, with an exit status, and nothing is written. Method: each bad input given
# to each program that could meet it; the line is looked at, the image's checksum is
# compared with that of before.
. "$(dirname "$0")/lib.sh"

mkdir "$T/mnt" "$T/mnt2" "$T/mnt3"

# refused WHAT IMAGE PATTERN COMMAND...: IMAGE must not change (- : there is none).
refused()
{
	local what=$1 image=$2 pattern=$3 status=0 before= after= lines
	shift 3
	[ "$image" = - ] || before=$(sha256sum <"$image")
	"$@" >"$T/.stdout" 2>"$T/.out" </dev/null || status=$?
	[ "$image" = - ] || after=$(sha256sum <"$image")
	lines=$(wc -l <"$T/.out")
	if [ "$status" != 0 ] && [ "$status" -lt 128 ] && [ "$lines" = 1 ] &&
		grep -q -- "$pattern" "$T/.out" && [ "$before" = "$after" ] &&
		[ -z "$(mounts_below | grep "/${MNT:-mnt}\$")" ]; then
		result 0 "$what"
	else
		result 1 "$what"
		{
			echo "status $status, $lines lines, wanted: $pattern"
			[ "$before" = "$after" ] || echo "the image was written to"
			head -n 20 "$T/.out"
		} | comment
	fi
}

# by_all WHAT IMAGE PATTERN: mount, read-only mount, fsck and dump refuse it.
by_all()
{
	refused "$1: mount" "$2" "$3" "$fuse" "$2" "$T/mnt"
	refused "$1: mount read-only" "$2" "$3" "$fuse" -o ro "$2" "$T/mnt"
	refused "$1: fsck" "$2" "$3" "$fsck" "$2"
	refused "$1: dump" "$2" "$3" "$bcfs" dump superblock "$2"
}

# ---- no filesystem ----
truncate -s 16M "$T/zero"
by_all "zeros" "$T/zero" "$T/zero.*bcfs"
head -c 16M /dev/urandom >"$T/random"
by_all "random bytes" "$T/random" "$T/random.*bcfs"
: >"$T/empty"
by_all "an empty file" "$T/empty" "$T/empty"
truncate -s 16M "$T/ext4"
mkfs.ext4 -q "$T/ext4"
by_all "ext4" "$T/ext4" "$T/ext4"
refused "no such device: mount" - "$T/none" "$fuse" "$T/none" "$T/mnt"
refused "no such device: fsck" - "$T/none" "$fsck" "$T/none"
refused "a directory: mount" - "$T/mnt2" "$fuse" "$T/mnt2" "$T/mnt"

# ---- a filesystem of another kind, or time ----
make_image "$T/img" 32M

# ---- damaged where only a mount looks: the roots of the btrees ----
cp --sparse=always "$T/img" "$T/roots"
size=$("$bcfs" dump buckets "$T/img" | awk '/^free / { print $(NF - 1) }')
for b in $("$bcfs" dump buckets "$T/img" | awk '$1 == "bucket" && $3 == "btree" { print $2 }'); do
	dd if=/dev/zero of="$T/roots" bs=$((size * 512)) seek="$b" count=1 conv=notrunc status=none
done
refused "damaged roots: mount" "$T/roots" \
	"$T/roots: btree .* at sector [0-9].*: run fsck.bcfs $T/roots\$" "$fuse" "$T/roots" "$T/mnt"
refused "damaged roots: mount read-only" "$T/roots" \
	"$T/roots: btree .* at sector [0-9].*: run fsck.bcfs $T/roots\$" "$fuse" -o ro "$T/roots" "$T/mnt"
cp --sparse=always "$T/img" "$T/newer"
python3 "$here/sbedit.py" "$T/newer" version 0x8000 || bail_out "sbedit"
by_all "newer version" "$T/newer" "$T/newer.*version"
cp --sparse=always "$T/img" "$T/older"
python3 "$here/sbedit.py" "$T/older" version 0 || bail_out "sbedit"
by_all "version 0" "$T/older" "$T/older.*version 0.0.*the bcfs that made it"
cp --sparse=always "$T/img" "$T/feature"
python3 "$here/sbedit.py" "$T/feature" incompat 0x4000000000 || bail_out "sbedit"
refused "unknown feature: mount" "$T/feature" "$T/feature.*38" "$fuse" "$T/feature" "$T/mnt"
refused "unknown feature: fsck" "$T/feature" "$T/feature.*38" "$fsck" "$T/feature"

# ---- a hole in the journal ----
cp --sparse=always "$T/img" "$T/hole"
mount_image "$T/hole" "$T/mnt"
# Longer than a journal entry takes to be closed by the sync.
for i in 1 2 3 4 5; do
	mkdir "$T/mnt/d$i" && echo "$i" >"$T/mnt/d$i/f" && sync "$T/mnt/d$i/f"
done
for p in $(daemons_of "$T/hole"); do kill -KILL "$p"; done
unmount_lazily "$T/mnt"
ok "not closed cleanly: mount read-only" "$fuse" -o ro "$T/hole" "$T/mnt"
ok "and all is there" test -s "$T/mnt/d5/f"
ok "bcfs umount finds no fault in that" "$bcfs" umount "$T/mnt"
sector=$("$bcfs" dump journal "$T/hole" | awk '/^entry 4 / { print $NF }')
dd if=/dev/zero of="$T/hole" bs=512 count=1 seek="$sector" conv=notrunc status=none
refused "a hole in the journal: mount" "$T/hole" "$T/hole.*entry 4 .*-o ro.*run fsck.bcfs $T/hole\$" "$fuse" "$T/hole" "$T/mnt"
before=$(sha256sum <"$T/hole")
ok "a hole in the journal: mount read-only says what is lost" \
	bash -c '"$@" 2>&1 | grep -q "entry 4 .*lost"' - "$fuse" -o ro "$T/hole" "$T/mnt"
ok "what is left can be read" test "$(cat "$T/mnt/d1/f" "$T/mnt/d5/f" | tr -d '\n')" = 15
no "and not be changed" touch "$T/mnt/x"
ok "bcfs umount" "$bcfs" umount "$T/mnt"
ok "a hole in the journal: fsck names it" \
	bash -c 'out=$("$@" 2>&1); [ $? = 4 ] && grep -q "error: .*entry 4 " <<<"$out"' - "$fsck" -y "$T/hole"
ok "nothing was written" test "$before" = "$(sha256sum <"$T/hole")"

# ---- the mark that a check is due ----
cp --sparse=always "$T/img" "$T/mark"
python3 "$here/sbedit.py" "$T/mark" error 1 || bail_out "sbedit"
before=$(sha256sum <"$T/mark")
ok "marked: fsck says so" bash -c '"$@" | grep -q "fsck.bcfs -y"' - "$fsck" "$T/mark"
ok "fsck -n -y takes nothing away" "$fsck" -n -y "$T/mark"
ok "nothing was written" test "$before" = "$(sha256sum <"$T/mark")"
ok "fsck -p takes the mark away" bash -c '"$@" | grep -q "mark is gone"' - "$fsck" -p "$T/mark"
ok "it is gone" bash -c '"$0" probe "$1" | grep -q ERROR=0' "$bcfs" "$T/mark"
ok "and nothing else" "$fsck" "$T/mark"

# ---- labels that others wrote ----
# shown WHAT TEXT COMMAND...: the output has TEXT, and no byte that a terminal acts on.
shown()
{
	local what=$1 text=$2 status=0
	shift 2
	"$@" >"$T/.out" 2>&1 </dev/null
	grep -qF -- "$text" "$T/.out" &&
		python3 -c '
import sys, unicodedata
text = sys.stdin.buffer.read().decode()
sys.exit(any(unicodedata.category(c) == "Cc" and c != "\n" for c in text))' <"$T/.out" || status=1
	result "$status" "$what"
	[ "$status" = 0 ] || cat -v "$T/.out" | comment
}
evil=$'\e]0;x\a\xc2\x9b7m\xff\xc3\xa9\n"'
cp --sparse=always "$T/img" "$T/label"
python3 "$here/sbedit.py" "$T/label" label "$evil" || bail_out "sbedit"
read_as=$'\\033]0;x\\007\\302\\2337m\\377\xc3\xa9\\012\\"'
shown "a label with control characters: probe" "LABEL=$read_as" "$bcfs" probe "$T/label"
shown "a label with control characters: dump" "$read_as" "$bcfs" dump superblock "$T/label"
shown "a label with control characters: mkfs, too long" "--label $read_as" \
	"$mkfs" -L "$evil$(printf %032d 1)" --size 64M "$T/new"
shown "a label with quotes: mkfs" 'a\"b' "$mkfs" -n -L 'a"b' --size 64M "$T/new"
truncate -s 16M "$T/ext4label"
mkfs.ext4 -q -L $'\e[7m\xc3\xa9\x9b' "$T/ext4label" || bail_out "mkfs.ext4"
shown "another filesystem's label with control characters: mkfs" \
	$'labelled "\\033[7m\xc3\xa9\\233"' "$mkfs" "$T/ext4label"

# ---- truncated ----
cp --sparse=always "$T/img" "$T/half"
truncate -s 16M "$T/half"
refused "truncated image: mount" "$T/half" "$T/half" "$fuse" "$T/half" "$T/mnt"
refused "truncated image: fsck" "$T/half" "$T/half" "$fsck" "$T/half"

# ---- mount points ----
refused "mount point missing" "$T/img" "$T/img.*$T/nowhere.*create" "$fuse" "$T/img" "$T/nowhere"
refused "mount point a file" "$T/img" "$T/img.*not a directory" "$fuse" "$T/img" "$T/zero"
make_image "$T/other" 32M
mount_image "$T/other" "$T/mnt2"
refused "mount point busy" "$T/img" "$T/img.*$T/mnt2.*busy" "$fuse" "$T/img" "$T/mnt2"

# ---- options ----
refused "unknown option" "$T/img" 'frobnicate' "$fuse" -o frobnicate "$T/img" "$T/mnt"
refused "option without its value" "$T/img" 'cache' "$fuse" -o cache "$T/img" "$T/mnt"
refused "norecovery without ro" "$T/img" 'ro' "$fuse" -o norecovery "$T/img" "$T/mnt"
refused "bad value" "$T/img" 'writeback=maybe' "$fuse" -o writeback=maybe "$T/img" "$T/mnt"

for p in "$mkfs" "$fuse" "$fsck" "$bcfs"; do
	n=$(basename "$p")
	refused "unknown switch: $n" "$T/img" "^$n: unknown option --frobnicate: see $n --help" \
		"$p" --frobnicate "$T/img"
	[ "$p" = "$bcfs" ] || refused "unknown letter: $n" "$T/img" \
		"^$n: unknown option -Z: see $n --help" "$p" -Z "$T/img"
done
refused "unknown switch: bcfs probe" "$T/img" "^bcfs: unknown option -Z: see bcfs probe --help" \
	"$bcfs" probe -Z "$T/img"
refused "a switch without its value" "$T/img" "^mkfs.bcfs: option --size needs a value: see" \
	"$mkfs" "$T/img" --size

# ---- in use ----
sync -f "$T/mnt2"
MNT=mnt refused "opened twice: mount" - "$T/other" "$fuse" -o wait=0 "$T/other" "$T/mnt"
# by another name it is found at once as well
(cd "$T" && exec "$fuse" img mnt) || bail_out "mount by a relative path"
MNT=mnt3 refused "opened twice: mount, by another name" - "img.*is mounted on" \
	"$fuse" "$T/img" "$T/mnt3"
ln "$T/img" "$T/hardlink"
MNT=mnt3 refused "opened twice: mount, by a hard link" - "hardlink: is mounted on $T/mnt;" \
	"$fuse" "$T/hardlink" "$T/mnt3"
MNT=mnt3 refused "opened twice: fsck, by a hard link" - "hardlink: is mounted on $T/mnt;" "$fsck" "$T/hardlink"
mkdir "$T/bind"
if [ "$(id -u)" = 0 ] && touch "$T/bind/img" && mount --bind "$T/img" "$T/bind/img" 2>/dev/null; then
	MNT=mnt3 refused "opened twice: fsck, by a bind mount" - "bind/img: is mounted on $T/mnt;" \
		"$fsck" "$T/bind/img"
	umount "$T/bind/img"
fi
"$bcfs" umount "$T/mnt" || bail_out "umount"
MNT=mnt refused "opened twice: fsck" - "$T/other" "$fsck" --wait 0 "$T/other"
MNT=mnt refused "mounted: mkfs -n --size" - "$T/other.*mounted" "$mkfs" -n -f --size 16M "$T/other"
MNT=mnt refused "mounted: mkfs" - "$T/other" "$mkfs" -f "$T/other"
ok "the mount lives on" touch "$T/mnt2/x"
"$bcfs" umount "$T/mnt2" || bail_out "umount"
ok "and is clean" "$fsck" "$T/other"

# ---- mkfs ----
refused "mkfs over a bcfs" "$T/img" "$T/img.*-f" "$mkfs" "$T/img"
refused "mkfs over ext4" "$T/ext4" "$T/ext4.*ext4.*-f" "$mkfs" "$T/ext4"
truncate -s 1M "$T/small"
refused "mkfs on what is too small" "$T/small" "$T/small.*[0-9]" "$mkfs" "$T/small"
refused "mkfs, a size too small" - "$T/new.*[0-9]" "$mkfs" --size 1M "$T/new"
ok "and no file was left" test ! -e "$T/new"
refused "mkfs, no size for a new file" - "$T/new" "$mkfs" "$T/new"
ok "and no file was left" test ! -e "$T/new"
refused "mkfs, no size to speak of" - "$T/new.*too small" "$mkfs" --size 511 "$T/new"
refused "mkfs, a size beyond all memory" - "$T/new" "$mkfs" --size 7E "$T/new"
ok "and no file was left" test ! -e "$T/new"
refused "mkfs -n, another size over a bcfs" "$T/img" "$T/img.*-f" "$mkfs" -n --size 16M "$T/img"
refused "mkfs, a block size of 128K" - "$T/new.*block size" "$mkfs" -b 128K --size 64M "$T/new"
refused "mkfs, metadata without checksums" - "$T/new.*checksums" \
	"$mkfs" --metadata-checksum none --size 64M "$T/new"
refused "mkfs, the nil UUID" - 'uuid' \
	"$mkfs" -U 00000000-0000-0000-0000-000000000000 --size 64M "$T/new"
refused "mkfs, a block size of 3000" - '3000\|block' "$mkfs" -b 3000 --size 64M "$T/new"
refused "mkfs, buckets too small for the blocks" - "$T/new.*buckets.*at least 262144" \
	"$mkfs" --block-size 64K --bucket-size 128K --size 64M "$T/new"
ok "which it does not choose itself" "$mkfs" -q --block-size 64K --size 64M "$T/new"
rm "$T/new"
refused "mkfs, buckets too small" - "$T/new.*buckets.*at least 16384" "$mkfs" --bucket-size 8K --size 64M "$T/new"
refused "mkfs, nodes too small" - "$T/new.*nodes.*at least 16384" "$mkfs" --node-size 8K --size 64M "$T/new"
refused "mkfs, a long label" - 'label' "$mkfs" -L "$(printf %033d 1)" --size 64M "$T/new"
refused "mkfs, a label of two lines" - 'label.*control' "$mkfs" -L $'a\nb' --size 64M "$T/new"
refused "mkfs, a label not in UTF-8" - 'label.*UTF-8' "$mkfs" -L $'a\xff' --size 64M "$T/new"
cp "$T/zero" "$T/dry"
before=$(sha256sum <"$T/dry")
ok "mkfs -n says what it would do" bash -c '"$0" -n "$1" | grep -q nothing' "$mkfs" "$T/dry"
ok "and does not" test "$before" = "$(sha256sum <"$T/dry")"
ok "mkfs -n makes no file" bash -c '"$0" -n --size 64M "$1" && [ ! -e "$1" ]' "$mkfs" "$T/new"
ok "mkfs -f over ext4" "$mkfs" -q -f "$T/ext4"
ok "whose signatures are gone" bash -c '! blkid -p "$0"' "$T/ext4"
ok "and it is clean" "$fsck" "$T/ext4"

# ---- read-only media ----
if [ "$(id -u)" = 0 ]; then
	mkdir "$T/ro"
	cp --sparse=always "$T/img" "$T/ro/img"
	if mount --bind "$T/ro" "$T/ro" 2>/dev/null && mount -o remount,bind,ro "$T/ro"; then
		refused "read-only media: mount" "$T/ro/img" "$T/ro/img.*read-only" \
			"$fuse" "$T/ro/img" "$T/mnt"
		ok "read-only media: mount -o ro" "$fuse" -o ro "$T/ro/img" "$T/mnt"
		ok "unmount" "$bcfs" umount "$T/mnt"
		ok "read-only media: fsck" "$fsck" "$T/ro/img"
		refused "read-only media: mkfs" "$T/ro/img" "$T/ro/img.*read-only" \
			"$mkfs" -f "$T/ro/img"
		umount "$T/ro"
	else
		result 0 "read-only media # SKIP no bind mounts here"
	fi

	# A device whose sectors are larger than the blocks asked for.
	truncate -s 64M "$T/sectors"
	if loop=$(losetup -f --show -b 4096 "$T/sectors" 2>/dev/null); then
		refused "block size under the logical sector" "$T/sectors" "$loop.*4096" \
			"$mkfs" -b 512 "$loop"
		losetup -d "$loop"
	else
		result 0 "block size under the logical sector # SKIP no loop devices here"
	fi

	# A loop device and its file are one device.
	truncate -s 64M "$T/back"
	if loop=$(losetup -f --show "$T/back" 2>/dev/null); then
		"$mkfs" -q "$loop" || bail_out "mkfs on a loop device"
		mount_image "$loop" "$T/mnt"
		MNT=mnt3 refused "the file of a mounted loop device: mount" - "$T/back.*in use" \
			"$fuse" -o wait=0 "$T/back" "$T/mnt3"
		MNT=mnt3 refused "the file of a mounted loop device: mkfs" - "$T/back.*in use" \
			"$mkfs" -f "$T/back"
		"$bcfs" umount "$T/mnt" || bail_out "umount"
		mount_image "$T/back" "$T/mnt"
		MNT=mnt3 refused "the loop device of a mounted file: mount" - "$loop.*in use" \
			"$fuse" -o wait=0 "$loop" "$T/mnt3"
		"$bcfs" umount "$T/mnt" || bail_out "umount"
		ok "and it is clean" "$fsck" "$loop"
		losetup -d "$loop"
	else
		result 0 "a loop device and its file # SKIP no loop devices here"
	fi
fi
done_testing
