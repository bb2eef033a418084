#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: a device full of data is no dead end. Writes fail with ENOSPC and in bounded time; removing,
# truncating, renaming, syncing and remounting work, also by SIGKILL; what is there can be
# overwritten at 98 %; all space comes back; nothing of it leaves anything for fsck.
# Method: a small image filled by data and overwritten at random; each step has a limit of time;
# statfs before and after.
# usage: full.sh      BCFS_FULL_MB: size of the image
. "$(dirname "$0")/lib.sh"
. "$here/counters.sh"

size=${BCFS_FULL_MB:-64}
img=$T/img
mnt=$T/mnt
limit=120

# A btree that has been large keeps a node or two: 2 % of so small an image.
mkdir "$mnt"
make_image "$img" "${size}M" -b 4096 --node-size 64K --journal-size 2M
mount_image "$img" "$mnt"

free_kb()
{
	df -k --output=avail "$mnt" | tail -n 1 | tr -d ' '
}

# Both lie on the device when space is compared.
settled()
{
	local i now last=
	for i in $(seq 40); do
		sync -f "$mnt"
		now=$(free_kb)
		[ "$now" != "$last" ] || return 0
		last=$now
		sleep 0.3
	done
}

# A program, or one of the functions here.
bounded()
{
	if [ "$(type -t "$1")" = function ]; then
		timeout -k 5 "$limit" bash -c "$(declare -f "$1"); \"\$@\"" - "$@"
	else
		timeout -k 5 "$limit" "$@"
	fi
}

remount()
{
	bounded "$bcfs" umount "$mnt" && mount_image "$img" "$mnt"
}

is_clean()
{
	bounded "$bcfs" umount "$mnt" && "$fsck" -n "$img" && mount_image "$img" "$mnt"
}

# The command fails, and says that there is no space.
no_space()
{
	local out status=0
	out=$(LC_ALL=C bounded "$@" 2>&1) || status=$?
	echo "$out" | tail -n 3
	[ "$status" != 0 ] && [ "$status" -lt 124 ] && grep -q "No space left" <<<"$out"
}

# Files of 1 MB until nothing more goes in, then of 4 KB. What did not go in may be in the page cache.
fill_data()
{
	local dir=$1 i=0
	mkdir -p "$dir"
	while dd if=/dev/urandom of="$dir/m$i" bs=64K count=16 conv=fsync status=none; do
		i=$((i + 1))
	done
	rm -f "$dir/m$i"
	for i in $(seq 1000); do
		dd if=/dev/urandom of="$dir/k$i" bs=4K count=1 conv=fsync status=none || break
	done
	rm -f "$dir/k$i"
	dd if=/dev/urandom of="$dir/last" bs=64K count=64 conv=fsync status=none
	rm -f "$dir/last"
	echo "No space left: $(df -k --output=avail "$dir" | tail -n 1) KB"
	return 1
}

overwrite()
{
	python3 - "$1" "$2" <<'P'
import errno, os, random, sys
directory, count = sys.argv[1], int(sys.argv[2])
random.seed(7)
names = sorted(n for n in os.listdir(directory) if n.startswith("m"))
refused = 0
for i in range(count):
    path = os.path.join(directory, random.choice(names))
    size = os.path.getsize(path) // 4096
    if not size:
        continue
    fd = os.open(path, os.O_RDWR)
    try:
        os.pwrite(fd, os.urandom(4096), random.randrange(size) * 4096)
        if i % 16 == 0:
            os.fsync(fd)
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        refused += 1
    finally:
        try:
            os.close(fd)
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise
            refused += 1
print("overwritten", count, "refused", refused)
sys.exit(refused * 100 > count)
P
}

# Every second block of each file, so that all of it lies in small pieces.
pieces()
{
	python3 - "$1" <<'P'
import os, sys
for name in sorted(os.listdir(sys.argv[1])):
    fd = os.open(os.path.join(sys.argv[1], name), os.O_RDWR)
    for at in range(0, os.fstat(fd).st_size - 4095, 8192):
        os.pwrite(fd, os.urandom(4096), at)
    os.fsync(fd)
    os.close(fd)
P
}

digest()
{
	find "$1" -type f -print0 | sort -z | xargs -0 cat | sha256sum
}

settled
start=$(free_kb)

# ---- data ----

ok "filling by data ends" no_space fill_data "$mnt/data"
ok "it is full" [ "$(free_kb)" -lt $((start / 50)) ]
before=$(digest "$mnt/data")
sync -f "$mnt" 2>/dev/null # tells once of what did not go in
ok "sync" bounded sync -f "$mnt"
ok "remount" remount
ok "what went in is there" [ "$(digest "$mnt/data")" = "$before" ]
ok "rename" bounded mv "$mnt/data/m0" "$mnt/data/moved"
ok "truncate" bounded truncate -s 500000 "$mnt/data/m1"
ok "fsync" bounded sync "$mnt/data/m1"
ok "unlink" bounded rm "$mnt/data/moved"
ok "chmod" bounded chmod 600 "$mnt/data/m2"
ok "then there is room" bounded dd if=/dev/zero of="$mnt/data/again" bs=64K count=8 conv=fsync status=none

# ---- overwriting at 99 % ----

# Small pieces take more metadata: first make them, with some room, then fill up again.
rm -f "$mnt"/data/m1[0-9]
ok "overwriting every second block with 10 MB free" bounded pieces "$mnt/data"
ok "filling up again ends" no_space fill_data "$mnt/more"
sync -f "$mnt" 2>/dev/null
rm -f "$mnt"/data/m3
settled
used=$((start - $(free_kb)))
ok "overwriting at random with $((used * 100 / start)) % used" bounded overwrite "$mnt/data" 2500
ok "sync" bounded sync -f "$mnt"
counters_add "$mnt"
ok "clean" is_clean

# ---- SIGKILL while full ----

no_space fill_data "$mnt/again" >/dev/null
bounded overwrite "$mnt/data" 500 >/dev/null
for p in $(daemons_of "$img"); do
	kill -KILL "$p"
done
unmount_lazily "$mnt"
sleep 0.5
ok "mount after SIGKILL" mount_image "$img" "$mnt"
ok "clean after it" is_clean
ok "all removed" bounded rm -rf "$mnt/data" "$mnt/more" "$mnt/again"
settled
ok "all space is back: $(free_kb) of $start" [ "$(free_kb)" -ge $((start - start / 50)) ]

counters_add "$mnt"
ok "clean" is_clean
bounded "$bcfs" umount "$mnt"

counters_print "of the whole run"
ok "copygc ran" counter_moved alloc.gc_buckets
done_testing
