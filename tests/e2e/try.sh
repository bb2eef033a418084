#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What `./dev try` shows: the main job, on a real tree and a small image.
# usage: try.sh [TREE]     (default: /usr/include)
tree=$(realpath "${1:-/usr/include}")
NO_FUSE_NEEDED=1
. "$(dirname "$0")/lib.sh"
set -e

[ -c /dev/fuse ] || { echo "try: there is no /dev/fuse here: load it with \"modprobe fuse\"" >&2; exit 1; }
[ -d "$tree" ] || { echo "try: $tree is not a directory" >&2; exit 1; }

show()
{
	printf '\n$ %s\n' "${*//$T\//}"
	"$@"
}

# Runs it, and prints how long it took.
timed()
{
	local from to
	printf '\n$ %s\n' "${*//$T\//}"
	from=$(date +%s%N)
	"$@"
	to=$(date +%s%N)
	awk -v ns=$((to - from)) 'BEGIN { printf "(%.2f s)\n", ns / 1e9 }'
}

compare()
{
	local diff
	diff=$({ rsync -aHAXn --checksum --itemize-changes --delete "$tree/" "$T/mnt/tree/" &&
		rsync -aHAXn --checksum --itemize-changes --delete "$T/mnt/tree/" "$tree/"; })
	if [ -n "$diff" ]; then
		echo "$diff" | head -n 20
		echo "the copy differs from $tree" >&2
		return 1
	fi
	echo "no difference, both ways"
}

cd "$T"
mkdir mnt
mb=$(du -sm "$tree" | cut -f1)
size=$((mb * 2 + 256))
echo "The tree: $tree, $(find "$tree" | wc -l) files, $mb MB. The image: $T/disk.img, sparse."

timed "$mkfs" --size "${size}M" -L try "$T/disk.img"
timed "$fuse" "$T/disk.img" "$T/mnt"
timed cp -a "$tree" "$T/mnt/tree"
show df -h "$T/mnt"
show ls -l "$T/mnt/tree" | head -n 12
printf '\n$ find mnt/tree | wc -l\n'
find "$T/mnt/tree" | wc -l
timed "$bcfs" umount "$T/mnt"
timed "$fuse" "$T/disk.img" "$T/mnt"
printf '\n$ rsync -aHAXn --checksum --itemize-changes %s mnt/tree   # and back\n' "$tree"
compare
timed "$bcfs" umount "$T/mnt"
timed "$fsck" -v "$T/disk.img"
printf '\nThe image takes %s of the disk; it is removed now. All is well.\n' "$(du -sh "$T/disk.img" | cut -f1)"
