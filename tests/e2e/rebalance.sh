#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: what is written plain takes less space some time later, reads the same all the time, and a kill
# in the midst of that loses nothing; it is paused, resumed, and asked for what was there before.
# Method: sources and random data; counters say what is stored; trees are compared after kills, mounts and
# fsck.
. "$(dirname "$0")/lib.sh"

img=$T/img
mnt=$T/mnt
mkdir "$mnt"
# Of files of a block alone nothing is saved: the documents are longer.
src=$T/source
mkdir "$src"
cp -r "$here/../../src/." "$here/../../doc" "$src"

counter()
{
	"$bcfs" counters "$mnt" | awk -v n="$1" '$1 == n { print $2 }'
}

fails_with()
{
	local text=$1 out
	shift
	out=$("$@" 2>&1) && { echo "it did not fail: $out"; return 1; }
	grep -qF -- "$text" <<<"$out" || { echo "$out"; return 1; }
}

# usage: until_it COMMAND...: within a minute
until_it()
{
	local i
	for i in $(seq 600); do
		"$@" >/dev/null && return 0
		sleep 0.1
	done
	"$bcfs" rebalance status "$mnt"
	return 1
}

there='none zstd[:-50 to 19] lz4[:1 to 12]'
truncate -s 1G "$img"
ok "mkfs refuses an unknown type" fails_with "unknown compression \"gzip\"; there are: $there" \
	"$mkfs" --background-compression gzip "$img"
ok "mkfs" "$mkfs" -q --background-compression zstd:9 "$img"
ok "mount refuses an unknown type" fails_with "there are: $there" \
	"$fuse" -o background-compression=rar "$img" "$mnt"
mount_image "$img" "$mnt"

status_says()
{
	"$bcfs" rebalance status "$mnt" >"$T/status" && grep -q "$1" "$T/status"
}
nothing_to_do()
{
	[ "$(counter usage.rebalance)" = 0 ]
}
something_to_do()
{
	[ "$(counter usage.rebalance)" -gt 0 ]
}

# ---- paused, then done ----
ok "pause" "$bcfs" rebalance pause "$mnt"
ok "it says so" status_says '^state: paused'
for i in 1 2 3; do
	cp -r "$src" "$mnt/tree$i"
done
head -c 4M /dev/urandom >"$T/random"
cp "$T/random" "$mnt/random"
sync -f "$mnt"
before=$(counter usage.user)
same()
{
	local i
	for i in 1 2 3; do
		diff -r "$src" "$mnt/tree$i" || return 1
	done
	cmp "$T/random" "$mnt/random"
}
is_before()
{
	[ "$(counter usage.user)" = "$before" ] && [ "$(counter usage.compressed)" = 0 ]
}
sleep 1
ok "nothing is done yet" is_before
ok "there is something to do" something_to_do
ok "resume" "$bcfs" rebalance resume "$mnt"
ok "all is done" until_it nothing_to_do
ok "it is idle" until_it status_says '^state: idle'
smaller()
{
	local after
	after=$(counter usage.user)
	echo "# $before sectors were, $after are"
	cat "$T/status"
	# The random data stay.
	[ $(((after - 8192) * 2)) -lt $((before - 8192)) ] && [ "$(counter data.rebalance_in_vain)" -ge 8192 ]
}
ok "it takes less than half" smaller
ok "all is there" same
ok "unmount" "$bcfs" umount "$mnt"
ok "fsck is clean" "$fsck" "$img"
mount_image "$img" "$mnt"
ok "all is there after a mount" same
sleep 0.5
not_again()
{
	[ "$(counter data.rebalanced)" = 0 ] && [ "$(counter data.rebalance_in_vain)" = 0 ]
}
ok "nothing is done twice" not_again

# ---- what was there before ----
mkdir "$mnt/old"
ok "a directory's choice" "$bcfs" set-option background_compression=none "$mnt/old"
cp -r "$src" "$mnt/old/tree"
sync -f "$mnt"
ok "nothing to do there" nothing_to_do
no "no such value" "$bcfs" set-option background-compression=zstd:99 "$mnt/old"
find "$mnt/old" -print0 | xargs -0 "$bcfs" set-option background-compression=lz4:9
says()
{
	[ "$("$bcfs" get-option "$1")" = "$1: background_compression=$2" ]
}
ok "it is said" says "$mnt/old/tree/fs/inode.c" lz4:9
sleep 0.3
ok "what is there stays" nothing_to_do
"$bcfs" rebalance pause "$mnt"
ok "until it is asked for" "$bcfs" rebalance scan "$mnt/old"
ok "then there is something to do" something_to_do
"$bcfs" rebalance resume "$mnt"
ok "which is done" until_it nothing_to_do
same_old()
{
	diff -r "$src" "$mnt/old/tree" && same
}
ok "all is still there" same_old
ok "elsewhere it is refused" fails_with "not on a bcfs filesystem" "$bcfs" rebalance scan "$T/random"
ok "so is its status" fails_with "not the mount point" "$bcfs" rebalance status "$T"

# ---- killed in its midst ----
ok "unmount again" "$bcfs" umount "$mnt"
mount_image -o background-compression=zstd:19 "$img" "$mnt"
for i in 1 2 3 4; do
	"$bcfs" rebalance pause "$mnt"
	rm -rf "$mnt/again"
	cp -r "$src" "$mnt/again"
	sync -f "$mnt"
	sync "$mnt/again"
	"$bcfs" rebalance resume "$mnt"
	sleep 0.$((i * 2 - 1))
	for p in $(daemons_of "$img"); do
		kill -KILL "$p"
	done
	umount "$mnt" 2>/dev/null || umount -l "$mnt"
	ok "fsck after kill $i" "$fsck" -n "$img"
	mount_image -o background-compression=zstd:19 "$img" "$mnt"
	ok "all is there after kill $i" diff -r "$src" "$mnt/again"
done
ok "the rest is done" until_it nothing_to_do
ok "all is there at the end" same_old
ok "unmount at last" "$bcfs" umount "$mnt"
ok "fsck is clean at last" "$fsck" "$img"
done_testing
