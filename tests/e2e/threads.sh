#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: programs that use a mount at the same time find it right, and the daemon's threads do not
# race. Method: copies, removals, a build, writers that sync, readers without cache, and questions
# for numbers, all at once, with nodes so small and a cache so little that nodes are split and
# evicted; then the copies are compared and the image is checked. Built with ThreadSanitizer the
# daemon must have met no race; what the kernel orders between a write and a read of /dev/fuse
# does not count as order (io_sync=0), or it would hide most of them.
. "$(dirname "$0")/lib.sh"

export TSAN_OPTIONS="log_path=$T/race io_sync=0 history_size=7 second_deadlock_stack=1"
M=$T/mnt
src=$here/../../src

make_image "$T/img" 512M --node-size 16K --journal-size 4M
mkdir "$M"
mount_image "$T/img" "$M" -o cache=1M

churn()
{
	local i
	for i in 1 2 3; do
		cp -a "$src" "$M/churn$1" && cp -a "$M/churn$1" "$M/churn$1.$i" && rm -r "$M/churn$1" || return 1
	done
	diff -r "$src" "$M/churn$1.3"
}

writers()
{
	local i
	for i in $(seq 60); do
		dd if=/dev/zero of="$M/w$((i % 7))" bs=64k count=10 conv=fsync status=none &&
			echo "$i" >>"$M/log" && sync "$M/log" || return 1
	done
	[ "$(wc -l <"$M/log")" = 60 ]
}

builder()
{
	local i f
	mkdir "$M/b" && cp -r "$src"/util "$M/b/" && cd "$M/b" || return 1
	for i in 1 2; do
		for f in util/*.c; do
			cc -D_GNU_SOURCE -O1 -I. -I"$src/../include" -I"$src" -c "$f" -o "${f%.c}.o" || return 1
		done
		ar rc u.a util/*.o && rm util/*.o || return 1
	done
	fallocate -l 20M big && truncate -s 1M big && setfattr -n user.k -v v big && ln big big2 && mv big2 big3
}

readers()
{
	local i
	for i in $(seq 6); do
		find "$M" -type f -print0 | head -z -n 300 | xargs -0 cat >/dev/null
		"$bcfs" counters "$M" >/dev/null && df "$M" >/dev/null && sync -f "$M" || return 1
		[ "$(id -u)" != 0 ] || echo 2 >/proc/sys/vm/drop_caches
	done 2>/dev/null
}

seekers()
{
	"$here/seek.py" "$M" 3 4
}

# All at once: the status of each.
together()
{
	local pids=() p status=0
	for p in "churn 1" "churn 2" "churn 3" writers builder readers seekers; do
		($p) >"$T/out.${p/ /}" 2>&1 &
		pids+=($!)
	done
	for p in "${pids[@]}"; do
		wait "$p" || status=1
	done
	[ "$status" = 0 ] || tail -n 5 "$T"/out.*
	return "$status"
}

ok "programs at the same time" together
ok "unmount" "$bcfs" umount "$M"
ok "fsck is clean" "$fsck" "$T/img"
ok "mount again" "$fuse" "$T/img" "$M"
ok "the copies are whole" bash -c 'for i in 1 2 3; do diff -r "$1" "$2/churn$i.$i" || exit 1; done' - "$src" "$M"
ok "unmount" "$bcfs" umount "$M"
no_race()
{
	cat "$T"/race.* 2>/dev/null
	! compgen -G "$T/race.*" >/dev/null
}
ok "no data race in the daemon" no_race
done_testing
