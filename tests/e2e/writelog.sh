#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: the write log of a mount (-o write-log=) is what a replay tool needs: all of it gives the image,
# every prefix that ends at a flush is a filesystem that recovers by itself and checks clean, and has what
# was fsynced before.
# Method: work on a mount of a small image with the log on; replay with a reader of its own onto a copy made
# before; mount and check states in between.
. "$(dirname "$0")/lib.sh"
reader=$here/../tools/write_log.py
mkdir "$T/mnt" "$T/look"

make_image "$T/img" 96M -b 4096 --node-size 16K --bucket-size 64K --journal-size 1M
cp --sparse=always "$T/img" "$T/before"
if ! "$fuse" -o "write-log=$T/log,journal_flush_delay=100" "$T/img" "$T/mnt" 2>"$T/err"; then
	grep -q "without fault points" "$T/err" && skip_all "built without fault points"
	bail_out "mounting failed: $(cat "$T/err")"
fi

entries()
{
	python3 -c 'import struct, sys; print(struct.unpack("<QQQ", open(sys.argv[1], "rb").read(24))[2])' "$T/log"
}

# Files with a known content, each fsynced; and how long the log was then.
: >"$T/points"
for i in $(seq 12); do
	cp -r /usr/include/linux "$T/mnt/tree$i" 2>/dev/null
	python3 - "$T/mnt/safe$i" "$i" <<-'P'
		import os, sys
		fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o644)
		os.write(fd, (sys.argv[2] + "\n").encode() * 5000)
		os.fsync(fd)
	P
	echo "$i $(entries)" >>"$T/points"
	rm -rf "$T/mnt/tree$((i - 3))"
	mv "$T/mnt/tree$i" "$T/mnt/moved$i" && mv "$T/mnt/moved$i" "$T/mnt/tree$i"
done
"$bcfs" umount "$T/mnt" || bail_out "unmount failed"

whole()
{
	cp --sparse=always "$T/before" "$T/state" && "$reader" "$T/log" replay "$T/state" &&
		cmp "$T/img" "$T/state"
}
ok "all of the log gives the image" whole
"$reader" "$T/log" list >"$T/list" || bail_out "the log cannot be read"
ok "it begins and ends with its marks" sh -c "head -n 1 '$T/list' | grep -q 'mark open' && tail -n 1 '$T/list' | grep -q 'mark close'"
echo "# $(wc -l <"$T/list") entries, $(grep -c flush "$T/list") of them flushes"

state()
{
	cp --sparse=always "$T/before" "$T/state" && "$reader" "$T/log" replay "$T/state" "$1"
}

has_files()
{
	local n
	state "$2" || return 1
	"$fuse" "$T/state" "$T/look" || return 1
	for n in $(seq "$1"); do
		[ "$(sort -u "$T/look/safe$n")" = "$n" ] && [ "$(wc -l <"$T/look/safe$n")" = 5000 ] || return 1
	done
	"$bcfs" umount "$T/look" && "$fsck" "$T/state"
}
while read -r i at; do
	[ $((i % 3)) = 0 ] || continue
	ok "after $at entries: mounts, has the files fsynced before, checks clean" has_files "$i" "$at"
done <"$T/points"

clean_at()
{
	state "$1" && "$fsck" "$T/state"
}
mapfile -t flushes < <("$reader" "$T/log" flushes)
for n in $(seq 0 $((${#flushes[@]} / 12 + 1)) $((${#flushes[@]} - 1))); do
	ok "up to flush $n: checks clean" clean_at "${flushes[$n]}"
done
done_testing
